import { icon, keepInside, make, setAttribute } from "../core/dom";
import { Line, type Model } from "../core/line";
import type { Answer, AnswerTo, Column, Objection, Range, Request, RowsAnswer, State } from "../messages";
import { CellEditor, type Move } from "./cell-editor";
import { type Cell, marksOf, RowCache, type ShownRow, shownText, spokenText, textOf } from "./rows";
import { Tools } from "./tools";

interface Place {
  row: number;
  column: number;
}
type RowElement = HTMLElement & { drawn?: ShownRow };

const ROW_HEIGHT = 30;
const HEAD_HEIGHT = 32;
const ROW_HEAD_WIDTH = 64;
const OVERSCAN = 6;
const WIDTHS: Record<string, number> = { integer: 110, number: 110, instant: 140, day: 140, boolean: 90, relation: 150, tags: 150, text: 170, note: 300, other: 170 };
const NARROWEST = 56;

const isRows = (answer: Partial<RowsAnswer>): answer is RowsAnswer => answer.rows !== undefined;

/** The grid: rows that can be seen, a cell that has the focus, a range that is marked. */
export class Grid {
  fields = new Map<string, Column>();
  state: State;
  private readonly model: Model;
  private readonly line: Line<Request, AnswerTo>;
  private readonly rows = new RowCache();
  private readonly rowElements = new Map<number, RowElement>();
  private readonly widths = new Map<string, number>();
  // Row -1 is the header.
  private active: Place = { row: 0, column: 0 };
  private anchor: Place = { row: 0, column: 0 };
  private editor: CellEditor | null = null;
  private fetching: string | null = null;
  private awaited: { typed: string | undefined } | null = null;
  private dragging = false;
  private readonly head = make("div", { class: "opp-head", role: "row", "aria-rowindex": "1" });
  private readonly body = make("div", { class: "opp-body", role: "rowgroup" });
  private readonly layer = make("div", { class: "opp-layer" });
  private readonly nothing = make("div", { class: "opp-nothing" }, "No row fits.");
  private readonly detail = make("div", { class: "opp-detail" });
  private readonly status = make("div", { class: "opp-status", role: "status" });
  private readonly alarm = make("div", { class: "opp-alarm", role: "alert" });
  private readonly table: HTMLElement;
  private readonly canvas: HTMLElement;
  private readonly scroll: HTMLElement;
  private readonly tools: Tools;
  private readonly refused = make("div", { class: "opp-refused" });
  private readonly root: HTMLElement;
  private readonly resized: ResizeObserver;
  private readonly onFields = () => this.takeFields();
  private readonly onState = () => this.takeState();

  constructor(model: Model, root: HTMLElement) {
    this.model = model;
    this.state = model.get("state") as State;
    this.line = new Line(model, (answer) => this.takeLate(answer));
    this.table = make(
      "div",
      { class: "opp-table", role: "grid", "aria-label": model.get("label") as string, "aria-multiselectable": "true" },
      make("div", { class: "opp-headgroup", role: "rowgroup" }, this.head),
      this.body,
    );
    this.canvas = make("div", { class: "opp-canvas" }, this.table, this.layer);
    this.scroll = make("div", { class: "opp-scroll" }, this.nothing, this.canvas);
    this.scroll.style.height = `${model.get("height") as number}px`;
    this.tools = new Tools(this);
    this.root = make(
      "div",
      { class: "opp-grid", "data-jp-suppress-context-menu": "true" },
      this.tools.element,
      this.scroll,
      this.detail,
      make("div", { class: "opp-said" }, this.status, this.alarm),
      this.refused,
    );
    this.tools.element.after(this.tools.chooser);
    root.append(this.root);
    this.listen();
    model.on("change:fields", this.onFields);
    model.on("change:state", this.onState);
    this.resized = new ResizeObserver(() => {
      this.drawHead();
      this.draw();
    });
    this.resized.observe(this.scroll);
    this.takeFields();
  }

  close(): void {
    this.line.close();
    this.tools.close();
    this.model.off("change:fields", this.onFields);
    this.model.off("change:state", this.onState);
    this.resized.disconnect();
  }

  // --- building -----------------------------------------------------------------------------------------------------

  private listen(): void {
    this.scroll.addEventListener("scroll", () => this.draw());
    this.table.addEventListener("keydown", (event) => this.onKey(event));
    this.table.addEventListener("pointerdown", (event) => this.onPointerDown(event));
    this.table.addEventListener("pointermove", (event) => this.onPointerMove(event));
    this.table.addEventListener("dblclick", (event) => {
      if (this.cellAt(event) && this.active.row >= 0) this.edit();
    });
    this.table.addEventListener("focusin", (event) => this.onFocus(event));
    for (const kind of ["copy", "cut", "paste"] as const)
      this.table.addEventListener(kind, (event) => void this.onClipboard(event));
  }

  private takeFields(): void {
    this.fields = new Map((this.model.get("fields") as Column[]).map((field) => [field.column, field]));
    this.dropRows();
    this.takeState();
  }

  private takeState(): void {
    const before = this.state;
    this.state = this.model.get("state") as State;
    const columns = this.state.columns.join("\n");
    // What was said before the changes were sent is no longer so afterwards.
    if (before.busy !== this.state.busy) this.say(this.state.busy);
    if (before.view !== this.state.view) this.dropRows();
    if (before.columns.join("\n") !== columns) {
      this.dropRows();
      this.active.column = Math.min(this.active.column, this.state.columns.length - 1);
      this.anchor.column = Math.min(this.anchor.column, this.state.columns.length - 1);
    }
    const last = this.state.count - 1;
    for (const place of [this.active, this.anchor]) place.row = Math.min(place.row, Math.max(last, -1));
    this.drawHead();
    this.tools.draw(this.state);
    setAttribute(this.root, "aria-busy", this.state.busy ? "true" : null);
    this.nothing.hidden = this.state.count > 0;
    this.draw();
  }

  private dropRows(): void {
    // What was said beside a cell would hang over another one.
    this.hush();
    this.rows.clear();
    for (const element of this.rowElements.values()) element.remove();
    this.rowElements.clear();
  }

  /** What is known of a column that is shown; Python names none without describing it. */
  column(name: string): Column {
    const field = this.fields.get(name);
    if (!field) throw new Error(`nothing is known of the column ${name}`);
    return field;
  }

  private field(place: number): Column {
    return this.column(this.state.columns[place]);
  }

  private width(column: number): number {
    const field = this.field(column);
    const usual = field.name === "name" ? 220 : WIDTHS[field.kind] ?? 150;
    // The first column stays in sight: on a phone it must leave room for another one.
    const room = this.scroll.clientWidth - ROW_HEAD_WIDTH;
    const most = column === 0 && room > 0 ? Math.max(Math.round(0.45 * room), NARROWEST) : 260;
    return this.widths.get(field.column) ?? Math.min(Math.max(usual, 8 * field.title.length + 34), 260, most);
  }

  // --- drawing ------------------------------------------------------------------------------------------------------

  private drawHead(): void {
    const { columns, sort, descending, count } = this.state;
    const widths = columns.map((_, column) => this.width(column));
    const total = widths.reduce((sum, width) => sum + width, ROW_HEAD_WIDTH);
    this.table.style.setProperty("--opp-columns", [ROW_HEAD_WIDTH, ...widths].map((width) => `${width}px`).join(" "));
    this.canvas.style.width = `${total}px`;
    this.body.style.height = `${count * ROW_HEIGHT}px`;
    setAttribute(this.table, "aria-rowcount", count + 1);
    setAttribute(this.table, "aria-colcount", columns.length + 1);
    while (this.head.children.length > columns.length + 1) this.head.lastElementChild?.remove();
    if (!this.head.firstChild)
      this.head.append(make("div", { class: "opp-corner", role: "columnheader", "aria-colindex": "1" }, "Row"));
    columns.forEach((column, place) => {
      const field = this.column(column);
      let cell = this.head.children[place + 1] as HTMLElement | undefined;
      if (!cell) {
        cell = make("div", { class: "opp-headcell", role: "columnheader", tabindex: "-1", "aria-colindex": place + 2 });
        cell.append(make("span", { class: "opp-title" }), make("span", { class: "opp-arrow", "aria-hidden": "true" }));
        cell.append(make("span", { class: "opp-edge", "aria-hidden": "true" }));
        this.head.append(cell);
      }
      Object.assign(cell.dataset, { place: String(place), column, kind: field.kind });
      const sorted = sort === column ? (descending ? "descending" : "ascending") : null;
      setAttribute(cell, "aria-sort", sorted);
      setAttribute(cell, "title", this.headFacts(field).join("\n"));
      const [title, arrow] = cell.querySelectorAll("span");
      title.textContent = field.title;
      arrow.textContent = sorted ? (descending ? "▼" : "▲") : "";
      cell.classList.toggle("opp-locked", Boolean(field.locked));
      const locked = cell.querySelector(".opp-icon");
      if (field.locked && !locked) cell.insertBefore(icon("lock"), cell.firstChild);
      else if (!field.locked) locked?.remove();
    });
  }

  /** What there is to know of a column. */
  private headFacts(field: Column): string[] {
    return [field.meaning, field.locked, field.kind === "instant" ? `times in ${this.state.zone}` : ""].filter(Boolean);
  }

  /** Draw the rows that can be seen, and the one with the focus; ask for those that are not here. */
  private draw(): void {
    const from = Math.max(Math.floor(this.scroll.scrollTop / ROW_HEIGHT) - OVERSCAN, 0);
    const seen = Math.ceil(this.scroll.clientHeight / ROW_HEIGHT) + 2 * OVERSCAN;
    const to = Math.min(from + seen, this.state.count);
    for (const [index, element] of this.rowElements) {
      if ((index < from || index >= to) && index !== this.active.row) {
        element.remove();
        this.rowElements.delete(index);
      }
    }
    for (let index = from; index < to; index++) this.drawRow(index);
    if (this.active.row >= 0 && this.active.row < this.state.count) this.drawRow(this.active.row);
    this.drawRange();
    if (to > from && !this.rows.covers(from, to, this.state)) void this.load(from, to);
  }

  private async load(from: number, to: number): Promise<void> {
    const wanted = `${from} ${to} ${this.state.version} ${this.state.view} ${this.state.columns.length}`;
    if (this.fetching === wanted) return;
    this.fetching = wanted;
    const start = Math.max(from - 40, 0);
    const answer = await this.line.ask({ do: "rows", start, stop: Math.min(to + 40, start + 500), columns: this.state.columns });
    if (this.fetching === wanted) this.fetching = null;
    if (answer.error) this.say(answer.error.replace("not saved: ", ""), true);
    if (isRows(answer) && answer.view === this.state.view) {
      this.rows.take(answer);
      this.draw();
      this.editAwaited();
    }
  }

  private drawRow(index: number): void {
    let element = this.rowElements.get(index);
    if (!element) {
      const made: RowElement = make("div", { class: "opp-row", role: "row", "aria-rowindex": index + 2, "data-index": index });
      element = made;
      made.style.top = `${index * ROW_HEIGHT}px`;
      made.append(make("div", { class: "opp-rowhead", role: "rowheader", "aria-colindex": "1" }));
      this.state.columns.forEach((column, place) => {
        const cell = make("div", { class: "opp-cell", role: "gridcell", tabindex: "-1", "aria-colindex": place + 2 });
        cell.append(make("span", { class: "opp-text" }));
        Object.assign(cell.dataset, { place: String(place), column, kind: this.column(column).kind });
        made.append(cell);
      });
      this.rowElements.set(index, element);
      // In their order, so that readers walk them as they stand.
      const next = [...this.body.children].find((other) => Number((other as HTMLElement).dataset.index) > index);
      this.body.insertBefore(element, next ?? null);
    }
    const row = this.rows.get(index);
    element.classList.toggle("opp-waiting", !row);
    if (!row || (element.drawn === row && !row.touched)) return;
    element.drawn = row;
    row.touched = false;
    const [head, ...cells] = element.children as Iterable<Element> as Iterable<HTMLElement>;
    this.drawRowHead(head, index, row);
    cells.forEach((cell, place) => this.drawCell(cell, row, place));
    element.classList.toggle("opp-deleted", row.state === "deleted");
  }

  private drawRowHead(head: HTMLElement, index: number, row: ShownRow): void {
    const said: [string, string | undefined | false][] = [
      ["!", row.problem],
      ["+", row.state === "new" && "new deal"],
      ["✕", row.state === "deleted" && "will be deleted"],
      ["◆", row.cells.some((cell) => "was" in marksOf(cell)) && "changed"],
    ];
    const marks = said.filter(([, word]) => word).map(([mark]) => mark);
    const words = said.map(([, word]) => word).filter((word) => typeof word === "string");
    if (row.lock && row.state !== "deleted") words.push(row.lock);
    head.replaceChildren(make("span", { class: "opp-number" }, String(index + 1)));
    if (row.lock && row.state !== "deleted") head.prepend(icon("lock"));
    if (marks.length) head.prepend(make("span", { class: "opp-marks", "aria-hidden": "true" }, marks.join("")));
    setAttribute(head, "aria-label", [`row ${index + 1}`, ...words].join(", "));
    setAttribute(head, "title", words.join("\n"));
    head.classList.toggle("opp-problem", Boolean(row.problem));
  }

  private drawCell(cell: HTMLElement, row: ShownRow, place: number): void {
    const field = this.field(place);
    const value = row.cells[place];
    const text = textOf(value);
    const marks = marksOf(value);
    if (cell.firstElementChild) cell.firstElementChild.textContent = shownText(text, field);
    const lock = field.locked || row.lock || marks.lock;
    cell.classList.toggle("opp-missing", text === null || text === "");
    cell.classList.toggle("opp-changed", "was" in marks);
    cell.classList.toggle("opp-problem", Boolean(marks.problem));
    cell.classList.toggle("opp-locked", Boolean(lock));
    cell.classList.toggle("opp-sending", Boolean(marks.sending));
    setAttribute(cell, "aria-readonly", lock ? "true" : null);
    setAttribute(cell, "aria-invalid", marks.problem ? "true" : null);
    setAttribute(cell, "aria-label", text === null || text === "" ? spokenText(text) : null);
    const facts: string[] = [];
    if ("was" in marks) facts.push(`changed, was ${spokenText(marks.was)}`);
    if (marks.problem) facts.push(marks.problem);
    if (marks.lock) facts.push(marks.lock);
    setAttribute(cell, "aria-description", facts.join("; "));
    setAttribute(cell, "title", [text !== null && text.length > 20 ? text : "", ...facts].filter(Boolean).join("\n"));
  }

  /** Mark the range, and let exactly one cell take the focus. */
  private drawRange(): void {
    const { rows, columns } = this.range();
    const lines: [number, HTMLElement][] = [[-1, this.head], ...this.rowElements];
    for (const [index, element] of lines) {
      const inside = index >= rows[0] && index <= rows[1];
      for (let place = 0; place < this.state.columns.length; place++) {
        const cell = element.children[place + 1] as HTMLElement | undefined;
        if (!cell) continue;
        const here = index === this.active.row && place === this.active.column;
        const marked = index >= 0 && inside && place >= columns[0] && place <= columns[1];
        cell.tabIndex = here ? 0 : -1;
        // On the focused cell itself: the host looks at the element that a key is pressed on.
        setAttribute(cell, "data-lm-suppress-shortcuts", here ? "true" : null);
        cell.classList.toggle("opp-active", here);
        cell.classList.toggle("opp-marked", marked && (rows[0] !== rows[1] || columns[0] !== columns[1]));
        if (index >= 0) setAttribute(cell, "aria-selected", String(marked));
      }
      if (index >= 0) element.firstElementChild?.classList.toggle("opp-marked", inside);
    }
    this.drawDetail();
  }

  /** Say below the grid what a tooltip says of the active cell, for people without a mouse. */
  private drawDetail(): void {
    const cell = this.valueAt(this.active);
    const parts: (string | HTMLElement)[] = [];
    const field = this.field(this.active.column);
    if (this.active.row < 0) parts.push(make("b", {}, this.headFacts(field).join("; ")));
    else parts.push(make("b", {}, `${field.title}: `));
    if (cell !== undefined) {
      const marks = marksOf(cell);
      const row = this.rows.get(this.active.row);
      parts.push(spokenText(textOf(cell)).slice(0, 400));
      if ("was" in marks) parts.push(make("span", { class: "opp-was" }, `  was ${spokenText(marks.was).slice(0, 200)}`));
      const words = marks.problem || row?.problem;
      if (words) parts.push(make("span", { class: "opp-why" }, `  ${words}`));
      const lock = marks.lock || row?.lock || field.locked;
      if (lock) parts.push(make("span", { class: "opp-lockword" }, `  ${lock}`));
    }
    this.detail.replaceChildren(...parts);
  }

  // --- places -------------------------------------------------------------------------------------------------------

  private valueAt({ row, column }: Place): Cell | undefined {
    return this.rows.get(row)?.cells[column];
  }

  private element({ row, column }: Place): HTMLElement | undefined {
    return (row < 0 ? this.head : this.rowElements.get(row))?.children[column + 1] as HTMLElement | undefined;
  }

  private range(): { rows: [number, number]; columns: [number, number] } {
    const pair = (one: number, other: number): [number, number] => [Math.min(one, other), Math.max(one, other)];
    return {
      rows: pair(this.anchor.row, this.active.row),
      columns: pair(this.anchor.column, this.active.column),
    };
  }

  rangeMessage(): Range {
    const { rows, columns } = this.range();
    return {
      start: Math.max(rows[0], 0),
      stop: rows[1],
      columns: this.state.columns.slice(columns[0], columns[1] + 1),
      view: this.state.view,
    };
  }

  /** Go to a cell; with `extend` the range reaches from where it began. */
  go(row: number, column: number, { extend = false, focus = true } = {}): void {
    const lowest = extend ? 0 : -1;
    this.awaited = null;
    this.active = {
      row: Math.min(Math.max(row, lowest), this.state.count - 1),
      column: Math.min(Math.max(column, 0), this.state.columns.length - 1),
    };
    if (!extend) this.anchor = { ...this.active };
    this.reveal();
    this.draw();
    if (focus) this.element(this.active)?.focus({ preventScroll: true });
  }

  /** Scroll so that the active cell can be seen beside the head and the fixed columns. */
  private reveal(): void {
    const { row, column } = this.active;
    if (row >= 0) {
      const top = row * ROW_HEIGHT;
      const room = this.scroll.clientHeight - HEAD_HEIGHT;
      if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
      else if (top + ROW_HEIGHT > this.scroll.scrollTop + room) this.scroll.scrollTop = top + ROW_HEIGHT - room;
    }
    if (column === 0) {
      this.scroll.scrollLeft = 0;
      return;
    }
    let left = 0;
    for (let place = 1; place < column; place++) left += this.width(place);
    const room = this.scroll.clientWidth - ROW_HEAD_WIDTH - this.width(0);
    if (left < this.scroll.scrollLeft) this.scroll.scrollLeft = left;
    else if (left + this.width(column) > this.scroll.scrollLeft + room)
      this.scroll.scrollLeft = Math.min(left, left + this.width(column) - room);
  }

  private cellAt(event: Event): Place | null {
    const cell = (event.target as Element).closest<HTMLElement>("[data-place]");
    if (!cell || !this.table.contains(cell)) return null;
    const row = cell.closest<HTMLElement>(".opp-row");
    return { row: row ? Number(row.dataset.index) : -1, column: Number(cell.dataset.place) };
  }

  // --- what people do -----------------------------------------------------------------------------------------------

  private onFocus(event: FocusEvent): void {
    const place = this.cellAt(event);
    if (place && (place.row !== this.active.row || place.column !== this.active.column))
      this.go(place.row, place.column, { focus: false });
  }

  private onPointerDown(event: PointerEvent): void {
    const target = event.target as Element;
    if (event.button !== 0) return;
    const place = this.cellAt(event);
    if (!place) {
      const row = target.closest(".opp-rowhead") && target.closest<HTMLElement>(".opp-row");
      if (row) {
        event.preventDefault();
        this.markRows(Number(row.dataset.index), event.shiftKey);
      }
      return;
    }
    if (target.classList.contains("opp-edge")) {
      this.resize(event, place.column);
      return;
    }
    event.preventDefault();
    const again = place.row === this.active.row && place.column === this.active.column && place.row >= 0;
    this.editor?.commit(null);
    this.go(place.row, place.column, { extend: event.shiftKey && place.row >= 0 });
    if (place.row < 0) {
      this.sort(place.column);
      return;
    }
    this.dragging = true;
    addEventListener("pointerup", () => (this.dragging = false), { once: true });
    const right = this.element(place)?.getBoundingClientRect().right ?? Infinity;
    if (this.field(place.column).choosing && event.clientX > right - 22 && (again || event.detail === 1)) {
      event.preventDefault();
      addEventListener("pointerup", () => this.edit(), { once: true });
    }
  }

  private onPointerMove(event: PointerEvent): void {
    if (!this.dragging || !(event.buttons & 1)) return;
    const place = this.cellAt(event);
    if (place && place.row >= 0 && (place.row !== this.active.row || place.column !== this.active.column))
      this.go(place.row, place.column, { extend: true });
  }

  private markRows(row: number, extend: boolean): void {
    if (!extend) this.anchor = { row, column: 0 };
    this.active = { row, column: this.state.columns.length - 1 };
    this.anchor.column = 0;
    this.draw();
    this.element(this.active)?.focus({ preventScroll: true });
  }

  private resize(event: PointerEvent, column: number): void {
    event.preventDefault();
    const key = this.state.columns[column];
    const [start, width] = [event.clientX, this.width(column)];
    const move = (moved: PointerEvent) => {
      this.widths.set(key, Math.max(width + moved.clientX - start, NARROWEST));
      this.drawHead();
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", () => removeEventListener("pointermove", move), { once: true });
  }

  private sort(column: number): void {
    const key = this.state.columns[column];
    const { sort, descending } = this.state;
    const next = sort !== key ? { column: key } : descending ? { column: null } : { column: key, descending: true };
    void this.send({ do: "sort", ...next });
  }

  private onKey(event: KeyboardEvent): void {
    if (!event.defaultPrevented && !event.isComposing) this.press(event);
  }

  private press(event: KeyboardEvent): void {
    const control = event.ctrlKey || event.metaKey;
    const { row, column } = this.active;
    const [lastRow, lastColumn] = [this.state.count - 1, this.state.columns.length - 1];
    const page = Math.max(Math.floor((this.scroll.clientHeight - HEAD_HEIGHT) / ROW_HEIGHT) - 1, 1);
    const extend = event.shiftKey;
    const to = (r: number, c: number) => this.go(r, c, { extend });
    const act = (name: "clear" | "empty" | "revert" | "fill") => void this.send({ do: name, range: this.rangeMessage() });
    const keys: Partial<Record<string, () => void>> = {
      ArrowUp: () => to(control ? 0 : row - 1, column),
      ArrowDown: () => (event.altKey ? this.edit() : to(control ? lastRow : row + 1, column)),
      ArrowLeft: () => (event.altKey ? this.widen(-16) : to(row, control ? 0 : column - 1)),
      ArrowRight: () => (event.altKey ? this.widen(16) : to(row, control ? lastColumn : column + 1)),
      Home: () => to(control ? 0 : row, 0),
      End: () => to(control ? lastRow : row, lastColumn),
      PageUp: () => to(Math.max(row - page, 0), column),
      PageDown: () => to(row + page, column),
      Enter: () => (row < 0 ? this.sort(column) : this.edit()),
      F2: () => this.edit(),
      Delete: () => act(event.shiftKey ? "empty" : "clear"),
      Backspace: () => act(control ? "revert" : "clear"),
      Escape: () => this.dismiss(),
    };
    const letters: typeof keys = {
      a: () => this.markAll(),
      z: () => void this.step(event.shiftKey ? "redo" : "undo"),
      y: () => void this.step("redo"),
      d: () => act("fill"),
    };
    event.stopPropagation();
    const found = (control && !event.altKey && letters[event.key.toLowerCase()]) || keys[event.key];
    if (found) {
      event.preventDefault();
      found();
    } else if (!control && !event.altKey && event.key === " " && event.shiftKey) {
      event.preventDefault();
      this.markRows(row, false);
    } else if (!control && !event.altKey && event.key.length === 1 && row >= 0) {
      event.preventDefault();
      this.edit(event.key);
    }
  }

  private widen(step: number): void {
    this.widths.set(this.state.columns[this.active.column], Math.max(this.width(this.active.column) + step, NARROWEST));
    this.drawHead();
    this.reveal();
  }

  private markAll(): void {
    this.anchor = { row: 0, column: 0 };
    this.go(this.state.count - 1, this.state.columns.length - 1, { extend: true });
  }

  async step(name: "undo" | "redo"): Promise<void> {
    const answer = await this.send({ do: name });
    const column = this.state.columns.indexOf(answer.column ?? "");
    if (answer.index !== undefined && answer.index >= 0 && column >= 0) this.go(answer.index, column);
  }

  private dismiss(): void {
    this.hush();
    this.alarm.textContent = "";
    this.anchor = { ...this.active };
    this.draw();
  }

  private async onClipboard(event: ClipboardEvent): Promise<void> {
    if ((event.target as Element).closest(".opp-editing")) return;
    event.preventDefault();
    if (this.active.row < 0) {
      this.say("the head is no cell: mark the cells first", true);
      return;
    }
    if (event.type === "paste") {
      const text = event.clipboardData?.getData("text/plain") ?? "";
      this.showRefusal(await this.send({ do: "paste", text, range: this.rangeMessage() }));
      return;
    }
    const range = this.rangeMessage();
    const copied = await this.copy({ do: "copy", range });
    if (copied && event.type === "cut") void this.send({ do: "clear", range });
  }

  /** Put a text that Python writes onto the clipboard. */
  async copy(message: Extract<Request, { do: "copy" | "code" }>): Promise<boolean> {
    const answer = await this.line.ask(message);
    try {
      if (answer.error) throw new Error(answer.error);
      await navigator.clipboard.writeText(answer.text ?? "");
    } catch (problem) {
      this.say(`nothing was copied: ${problem instanceof Error ? problem.message : String(problem)}`, true);
      return false;
    }
    this.say(answer.said ?? "");
    return true;
  }

  // --- editing ------------------------------------------------------------------------------------------------------

  private edit(typed?: string): void {
    const place = { ...this.active };
    if (place.row < 0) return;
    this.alarm.textContent = "";
    const row = this.rows.get(place.row);
    const field = this.field(place.column);
    if (this.state.busy) {
      this.say(this.state.busy, true);
      return;
    }
    if (!row) {
      // The row is on its way: what is typed meanwhile must not be lost.
      const before = this.awaited?.typed;
      this.awaited = { typed: typed === undefined ? before : (before ?? "") + typed };
      return;
    }
    this.awaited = null;
    const cell = row.cells[place.column];
    const lock = row.lock || marksOf(cell).lock || field.locked;
    if (lock) {
      this.say(lock, true);
      this.bubble(place, lock);
      return;
    }
    this.open(place, row, field, textOf(cell), typed);
  }

  /** Edit the active cell if people began to before it was here. */
  private editAwaited(): void {
    if (this.awaited && this.rows.get(this.active.row)) this.edit(this.awaited.typed);
  }

  private open(place: Place, row: ShownRow, field: Column, text: string | null, typed?: string): CellEditor {
    this.editor?.commit(null);
    this.hush();
    const named = this.state.columns.findIndex((column) => this.column(column).name === "name");
    const name = named < 0 ? null : textOf(row.cells[named]);
    this.editor = new CellEditor({
      field,
      text,
      typed,
      label: `${field.title}${name ? ` of ${name}` : `, row ${place.row + 1}`}`,
      choices: (query) => this.line.ask({ do: "choices", column: field.column, text: query }),
      onCancel: () => {
        this.closeEditor(true);
        this.say("left as it was");
      },
      onCommit: (value, move, same) => void this.commit(place, row, field, value, move, same),
      onLate: (event) => (this.editor ? this.editor.late(event) : this.press(event)),
    });
    this.place(this.editor.element, place);
    this.layer.append(this.editor.element);
    this.editor.focus();
    return this.editor;
  }

  private place(element: HTMLElement, { row, column }: Place): void {
    let left = ROW_HEAD_WIDTH;
    for (let other = 0; other < column; other++) left += this.width(other);
    if (column === 0) left += this.scroll.scrollLeft;
    element.style.left = `${left}px`;
    element.style.top = `${HEAD_HEIGHT + row * ROW_HEIGHT}px`;
    element.style.width = `${this.width(column)}px`;
    const below = this.scroll.scrollTop + this.scroll.clientHeight - (HEAD_HEIGHT + (row + 1) * ROW_HEIGHT);
    element.classList.toggle("opp-upward", below < 150 && row * ROW_HEIGHT - this.scroll.scrollTop > 150);
  }

  private closeEditor(focus: boolean): void {
    this.editor?.element.remove();
    this.editor = null;
    if (focus) this.element(this.active)?.focus({ preventScroll: true });
  }

  private async commit(place: Place, row: ShownRow, field: Column, text: string | null, move: Move | null, same: boolean): Promise<void> {
    const moves: Record<Move, [number, number]> = { down: [1, 0], right: [0, 1], left: [0, -1], stay: [0, 0] };
    this.closeEditor(move !== null);
    if (move !== null && moves[move]) this.go(place.row + moves[move][0], place.column + moves[move][1]);
    if (same) return;
    const before = row.cells[place.column];
    row.cells[place.column] = { ...marksOf(before), text, sending: true };
    row.touched = true;
    this.draw();
    const answer = await this.send({ do: "edit", cells: [{ row: row.row, column: field.column, text }] });
    // Whatever the answer: the cell is not being sent any more, also where the rows themselves come late.
    const done = !answer.objections && !answer.error;
    const marks = { ...marksOf(done ? row.cells[place.column] : before), sending: false };
    const problem = answer.error ?? marks.problem;
    row.cells[place.column] = { ...marks, text: done ? text : textOf(before), ...(problem && { problem }) };
    row.touched = true;
    this.draw();
    if (done) return;
    const still = this.rows.get(place.row)?.row === row.row;
    if (!answer.objections || !still) return;
    if (move === null || this.editor) {
      this.bubble(place, answer.objections[0].reason);
      return;
    }
    this.go(place.row, place.column);
    const editor = this.open(place, row, field, textOf(before), text ?? "");
    editor.refuse(answer.objections[0].reason, this.scroll);
  }

  /** Show the first refusal beside its cell, and list several. */
  showRefusal(answer: Answer): void {
    const [first] = answer.objections ?? [];
    const column = this.state.columns.indexOf(first?.column ?? "");
    if (answer.said && column >= 0 && (first?.index ?? -1) >= 0) this.bubble({ row: first.index, column }, first.reason);
    if (answer.objections && answer.objections.length > 1) this.listRefused(answer.objections);
  }

  private listRefused(objections: Objection[]): void {
    const items = objections.map(({ index, column, text, reason }) => {
      const place = this.state.columns.indexOf(column);
      const words = `Row ${index + 1}, ${this.column(column).title}`;
      const button = make("button", { type: "button", class: "opp-button", "data-lm-suppress-shortcuts": "true" }, words);
      button.disabled = index < 0 || place < 0;
      button.addEventListener("click", () => this.go(index, place));
      return make("li", {}, button, ` ${spokenText(text)}: ${reason}`);
    });
    this.refused.replaceChildren(make("ul", { "aria-label": "Refused cells" }, ...items));
  }

  private hush(): void {
    this.layer.querySelector(".opp-bubble")?.remove();
  }

  private bubble(place: Place, words: string): void {
    this.hush();
    const reason = make("div", { class: "opp-reason" }, words);
    const element = make("div", { class: "opp-editing opp-bubble" }, reason);
    this.place(element, place);
    this.layer.append(element);
    keepInside(reason, this.scroll);
  }

  /** Ask Python to do something, and say what came of it. */
  async send<K extends Request["do"]>(message: Extract<Request, { do: K }>, patience = 1): Promise<Partial<AnswerTo[K]> & Answer> {
    this.hush();
    this.refused.replaceChildren();
    const answer = await this.line.ask(message, patience);
    if (answer.error) this.say(answer.error, true);
    else if (answer.said) this.say(answer.said, Boolean(answer.objections));
    return answer;
  }

  /** What was given up came about after all, or was refused: the rows themselves come with the state. */
  private takeLate(answer: Answer): void {
    if (isRows(answer)) {
      this.fetching = null;
      this.draw();
      return;
    }
    const words = answer.error || answer.said;
    if (words) this.say(`an answer came late: ${words}`, Boolean(answer.error || answer.objections));
  }

  private say(words: string, alarm = false): void {
    this.status.textContent = alarm ? "" : words;
    this.alarm.textContent = alarm ? words : "";
  }
}
