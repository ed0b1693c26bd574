import { icon, make, setAttribute } from "../core/dom";
import type { Column, State } from "../messages";
import type { Grid } from "./grid";

const KEYS = [
  ["Arrows, Home, End, Page Up, Page Down", "move; with Shift mark, with Ctrl to the edge"],
  ["Enter, F2, or typing", "edit; Alt+Enter is a line break"],
  ["Alt+Down", "open the list or the calendar"],
  ["Escape", "leave the cell as it was"],
  ["Tab while editing", "take it and go to the next cell; otherwise leave the grid"],
  ["Delete", "missing; Shift+Delete: empty text"],
  ["Ctrl+Backspace", "put back what was loaded"],
  ["Ctrl+C, X, V", "copy, cut, paste, also from and to a spreadsheet"],
  ["Ctrl+D", "fill the marked cells from the first"],
  ["Ctrl+Z, Ctrl+Y", "undo, redo"],
  ["Up from the first row, Enter", "sort by the column; Alt+Left, Alt+Right: its width"],
];

/** What stands above the grid: filter, columns, undo, rows, keys. */
export class Tools {
  readonly element: HTMLElement;
  readonly chooser: HTMLElement;
  private readonly grid: Grid;
  private readonly filter: HTMLInputElement;
  private readonly changed: HTMLButtonElement;
  private readonly columns: HTMLButtonElement;
  private readonly undo: HTMLButtonElement;
  private readonly redo: HTMLButtonElement;
  private readonly revert: HTMLButtonElement;
  private readonly add: HTMLButtonElement;
  private readonly remove: HTMLButtonElement;
  private readonly code: HTMLButtonElement;
  private readonly keys: HTMLButtonElement;
  private readonly count: HTMLElement;
  private readonly keyTable: HTMLElement;
  private readonly search: HTMLInputElement;
  private readonly choices: HTMLElement;
  private readonly outside: (event: PointerEvent) => void;
  private typing: ReturnType<typeof setTimeout> | undefined;
  private adding = false;
  private drawn = "";

  constructor(grid: Grid) {
    this.grid = grid;
    this.filter = make("input", { type: "search", class: "opp-filter", placeholder: "Filter rows", "aria-label": "Filter rows", "data-lm-suppress-shortcuts": "true" });
    this.filter.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => void grid.send({ do: "filter", text: this.filter.value }), 150);
    });
    this.changed = this.button("Changed only", () => void grid.send({ do: "filter", only_changed: !grid.state.only_changed }));
    this.columns = this.button("Columns", () => this.openChooser(Boolean(this.chooser.hidden)));
    this.undo = this.button("Undo", () => void grid.step("undo"), "Ctrl+Z");
    this.redo = this.button("Redo", () => void grid.step("redo"), "Ctrl+Y");
    this.revert = this.button("Put back", () => void grid.send({ do: "revert", range: grid.rangeMessage() }), "What was loaded, into the marked cells (Ctrl+Backspace)");
    this.add = this.button("Add deal", () => void this.addRow());
    this.remove = this.button("Delete deals", () => void this.deleteRows(), "Mark the deals of the marked cells for deletion, or keep them again");
    this.code = this.button("Copy code", () => void grid.copy({ do: "code" }), "The pandas lines that make the same edits");
    this.keys = this.button("Keys", () => this.openKeys(Boolean(this.keyTable.hidden)));
    this.count = make("span", { class: "opp-count" });
    this.element = make(
      "div",
      { class: "opp-tools", role: "group", "aria-label": "Tools of the editor" },
      this.filter, this.changed, this.columns, this.undo, this.redo, this.revert, this.add, this.remove, this.code, this.keys, this.count,
    );
    this.search = make("input", { type: "search", class: "opp-filter", placeholder: "Find a column", "aria-label": "Find a column", "data-lm-suppress-shortcuts": "true" });
    this.choices = make("div", { class: "opp-choices" });
    this.chooser = make("div", { class: "opp-chooser", role: "dialog", "aria-label": "Columns" }, this.search, this.choices);
    this.outside = (event) => {
      const path = event.composedPath();
      if (!path.includes(this.chooser) && !path.includes(this.columns)) this.openChooser(false);
    };
    this.prepareChooser();
    this.keyTable = make("table", { class: "opp-keys" }, make("tbody", {}, ...KEYS.map(([key, words]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, words)))));
    this.keyTable.hidden = true;
    this.element.append(this.keyTable);
    this.element.addEventListener("keydown", (event) => event.stopPropagation());
  }

  private button(words: string, act: () => void, title?: string): HTMLButtonElement {
    const button = make("button", { type: "button", class: "opp-button", title, "data-lm-suppress-shortcuts": "true" }, words);
    button.addEventListener("click", act);
    return button;
  }

  draw(state: State): void {
    this.undo.disabled = !state.undo || Boolean(state.busy);
    this.redo.disabled = !state.redo || Boolean(state.busy);
    for (const button of [this.revert, this.add, this.remove]) button.disabled = Boolean(state.busy);
    setAttribute(this.changed, "aria-pressed", String(state.only_changed));
    setAttribute(this.columns, "aria-expanded", String(!this.chooser.hidden));
    setAttribute(this.keys, "aria-expanded", String(!this.keyTable.hidden));
    const all = state.total.toLocaleString("en");
    this.count.textContent = state.count === state.total ? `${all} deals` : `${state.count.toLocaleString("en")} of ${all} deals`;
    const { activeElement } = this.element.getRootNode() as Document | ShadowRoot;
    if (activeElement !== this.filter && this.filter.value !== state.filter) this.filter.value = state.filter;
    if (!this.chooser.hidden) this.drawChooser();
  }

  private async addRow(): Promise<void> {
    // A key that is pressed before the new row has the focus must not add another one.
    if (this.adding) return;
    this.adding = true;
    const answer = await this.grid.send({ do: "add" });
    this.adding = false;
    if (answer.index === undefined) return;
    const name = this.grid.state.columns.findIndex((column) => this.grid.column(column).name === "name");
    this.grid.go(answer.index, Math.max(name, 0));
  }

  private async deleteRows(): Promise<void> {
    const answer = await this.grid.send({ do: "delete", range: this.grid.rangeMessage() });
    this.grid.showRefusal(answer);
  }

  close(): void {
    document.removeEventListener("pointerdown", this.outside, true);
  }

  private openKeys(open: boolean): void {
    this.keyTable.hidden = !open;
    setAttribute(this.keys, "aria-expanded", String(open));
  }

  // --- choosing columns -----------------------------------------------------------------------------------------------

  private prepareChooser(): void {
    this.chooser.hidden = true;
    this.search.addEventListener("input", () => this.drawChooser());
    this.chooser.addEventListener("change", (event) => {
      const { type, value, checked } = event.target as HTMLInputElement;
      if (type === "checkbox") void this.toggle(value, checked);
    });
    this.chooser.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") this.openChooser(false);
    });
  }

  private openChooser(open: boolean): void {
    this.chooser.hidden = !open;
    setAttribute(this.columns, "aria-expanded", String(open));
    document.removeEventListener("pointerdown", this.outside, true);
    if (open) {
      document.addEventListener("pointerdown", this.outside, true);
      this.drawChooser();
      this.search.focus();
    } else this.columns.focus();
  }

  private drawChooser(): void {
    const words = this.search.value.trim().toLowerCase();
    const shown = new Set(this.grid.state.columns);
    const fits = [...this.grid.fields.values()].filter((field) => `${field.title} ${field.name}`.toLowerCase().includes(words));
    const key = `${words}\n${fits.map((field) => field.column).join("\n")}`;
    if (this.drawn !== key) {
      this.drawn = key;
      this.choices.replaceChildren(...fits.map((field) => this.choice(field)));
    }
    for (const box of this.choices.querySelectorAll("input")) box.checked = shown.has(box.value);
  }

  private choice(field: Column): HTMLElement {
    const box = make("input", { type: "checkbox", value: field.column, "data-lm-suppress-shortcuts": "true" });
    const label = make("label", { class: "opp-choice", title: field.meaning }, box, make("span", {}, field.title));
    if (field.title.toLowerCase().replaceAll(" ", "_") !== field.name) label.append(make("code", {}, field.name));
    if (field.locked) label.append(icon("lock"));
    return label;
  }

  private async toggle(column: string, on: boolean): Promise<void> {
    const { columns } = this.grid.state;
    const kept = on ? [...columns, column] : columns.filter((other) => other !== column);
    await this.grid.send({ do: "columns", columns: kept });
    this.drawChooser();
  }
}
