import { make } from "../core/dom";
import type { Model } from "../core/line";
import { followTheme } from "../core/theme";
import "../editor/grid.css";
import { Grid } from "../editor/grid";
import { PanelView } from "../editor/panel";

export default {
  render({ model, el }: { model: Model; el: HTMLElement }): () => void {
    const root = make("div", { class: "opp-root opp-editor" });
    el.append(root);
    const grid = new Grid(model, root);
    const panel = new PanelView(model, root, grid);
    const unfollow = followTheme(root);
    return () => {
      unfollow();
      panel.close();
      grid.close();
    };
  },
};
