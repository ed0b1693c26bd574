import type { Model } from "../core/line";
import "../editor/grid.css";
import "../workspace/workspace.css";
import { Workspace } from "../workspace/workspace";

export default {
  render({ model, el }: { model: Model; el: HTMLElement }): () => void {
    const workspace = new Workspace(model, el);
    return () => workspace.close();
  },
};
