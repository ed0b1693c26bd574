import { keepInside, make } from "../core/dom";
import type { Objection } from "../messages";
import type { Grid } from "./grid";
import type { Place } from "./layout";
import { spokenText } from "./rows";

/** What was refused: a word beside its cell, and a list where there are several. */
export class Refusals {
  readonly element = make("div", { class: "opp-refused" });
  readonly layer = make("div", { class: "opp-layer" });
  private readonly grid: Grid;

  constructor(grid: Grid) {
    this.grid = grid;
  }

  clear(): void {
    this.hush();
    this.element.replaceChildren();
  }

  hush(): void {
    this.layer.querySelector(".opp-bubble")?.remove();
  }

  bubble(place: Place, words: string): void {
    this.hush();
    const reason = make("div", { class: "opp-reason" }, words);
    const element = make("div", { class: "opp-editing opp-bubble" }, reason);
    this.grid.layout.lay(element, place);
    this.layer.append(element);
    keepInside(reason, this.grid.scroll);
  }

  list(objections: Objection[]): void {
    const items = objections.map(({ index, column, text, reason }) => {
      const place = this.grid.state.columns.indexOf(column);
      const words = `${index < 0 ? "A row that is not shown" : `Row ${index + 1}`}, ${this.grid.column(column).title}`;
      const button = make("button", { type: "button", class: "opp-button", "data-lm-suppress-shortcuts": "true" }, words);
      button.disabled = index < 0 || place < 0;
      button.addEventListener("click", () => this.grid.go(index, place));
      return make("li", {}, button, ` ${spokenText(text)}: ${reason}`);
    });
    this.element.replaceChildren(make("ul", { "aria-label": "Refused cells" }, ...items));
  }
}
