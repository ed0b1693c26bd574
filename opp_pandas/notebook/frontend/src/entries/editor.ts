import type { Model } from "../core/line";
import "../editor/grid.css";
import { Grid } from "../editor/grid";

export default {
  render({ model, el }: { model: Model; el: HTMLElement }): () => void {
    const grid = new Grid(model, el);
    return () => grid.close();
  },
};
