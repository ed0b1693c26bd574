import { make, setAttribute } from "../core/dom";
import { Line, type Model } from "../core/line";
import type { Answer, AnswerTo, Column, Range, Request, RowsAnswer, State } from "../messages";
import { detailOf, fillHead, fillRow, headFacts, makeRow } from "./drawing";
import { Editing } from "./editing";
import { Layout, type Place, ROW_HEAD_WIDTH, ROW_HEIGHT } from "./layout";
import { Pointer } from "./pointer";
import { Refusals } from "./refusals";
import { RowCache, type ShownRow } from "./rows";
import { Tools } from "./tools";

type RowElement = HTMLElement & { drawn?: ShownRow };

const isRows = (answer: Partial<RowsAnswer>): answer is RowsAnswer => answer.rows !== undefined;

/** The grid: rows that can be seen, a cell that has the focus, a range that is marked. */
export class Grid {
  fields = new Map<string, Column>();
  state: State;
  active: Place = { row: 0, column: 0 };
  readonly rows = new RowCache();
  readonly editing = new Editing(this);
  readonly refusals = new Refusals(this);
  readonly layout: Layout;
  readonly scroll: HTMLElement;
  private readonly model: Model;
  private readonly line: Line<Request, AnswerTo>;
  private readonly rowElements = new Map<number, RowElement>();
  private anchor: Place = { row: 0, column: 0 };
  private fetching: string | null = null;
  private readonly head = make("div", { class: "opp-head", role: "row", "aria-rowindex": "1" });
  private readonly body = make("div", { class: "opp-body", role: "rowgroup" });
  private readonly nothing = make("div", { class: "opp-nothing" }, "No row fits.");
  private readonly detail = make("div", { class: "opp-detail" });
  private readonly status = make("div", { class: "opp-status", role: "status" });
  private readonly alarm = make("div", { class: "opp-alarm", role: "alert" });
  private readonly table: HTMLElement;
  private readonly canvas: HTMLElement;
  private readonly tools: Tools;
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
    this.canvas = make("div", { class: "opp-canvas" }, this.table, this.refusals.layer);
    this.scroll = make("div", { class: "opp-scroll" }, this.nothing, this.canvas);
    this.layout = new Layout(this.scroll, model.get("height") as number);
    this.tools = new Tools(this);
    this.root = make(
      "div",
      { class: "opp-grid", "data-jp-suppress-context-menu": "true" },
      this.tools.element,
      this.scroll,
      this.detail,
      make("div", { class: "opp-said" }, this.status, this.alarm),
      this.refusals.element,
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
    new Pointer(this, this.table);
    for (const kind of ["copy", "cut", "paste"] as const)
      this.table.addEventListener(kind, (event) => void this.onClipboard(event));
  }

  private takeFields(): void {
    this.fields = new Map((this.model.get("fields") as Column[]).map((field) => [field.column, field]));
    this.takeState(true);
  }

  private takeState(anew = false): void {
    const before = this.state;
    const focused = this.body.contains((this.root.getRootNode() as Document).activeElement);
    this.state = this.model.get("state") as State;
    this.layout.columns = this.state.columns.map((column) => this.column(column));
    // What was said before the changes were sent is no longer so afterwards.
    if (before.busy !== this.state.busy) this.say(this.state.busy);
    const moved = before.columns.join("\n") !== this.state.columns.join("\n");
    if (anew || moved || before.view !== this.state.view) this.dropRows();
    // A column that others joined keeps what stands in it.
    for (const place of moved ? [this.active, this.anchor] : []) {
      const found = this.state.columns.indexOf(before.columns[place.column]);
      place.column = found < 0 ? Math.min(place.column, this.state.columns.length - 1) : found;
    }
    const last = this.state.count - 1;
    for (const place of [this.active, this.anchor]) place.row = Math.min(place.row, Math.max(last, -1));
    this.drawHead();
    this.tools.draw(this.state);
    setAttribute(this.root, "aria-busy", this.state.busy ? "true" : null);
    this.nothing.hidden = this.state.count > 0;
    this.draw();
    // Keys that are pressed now are meant for the grid: without a focus they would be the notebook's.
    if (focused) this.focus();
  }

  private dropRows(): void {
    // What was said beside a cell would hang over another one.
    this.refusals.hush();
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

  // --- drawing ------------------------------------------------------------------------------------------------------

  drawHead(): void {
    const { columns } = this.layout;
    const widths = [ROW_HEAD_WIDTH, ...columns.map((_, place) => this.layout.width(place))];
    this.table.style.setProperty("--opp-columns", widths.map((width) => `${width}px`).join(" "));
    this.canvas.style.width = `${this.layout.left(columns.length)}px`;
    this.body.style.height = `${this.state.count * ROW_HEIGHT}px`;
    setAttribute(this.table, "aria-rowcount", this.state.count + 1);
    setAttribute(this.table, "aria-colcount", columns.length + 1);
    fillHead(this.head, columns, this.state);
  }

  /** Draw the rows that can be seen, and the one with the focus; ask for those that are not here. */
  draw(): void {
    const [from, to] = this.layout.seen(this.state.count);
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

  /** Whether rows are on their way. */
  get waits(): boolean {
    return this.fetching !== null;
  }

  private async load(from: number, to: number): Promise<void> {
    const wanted = `${from} ${to} ${this.state.version} ${this.state.view} ${this.state.columns.join()}`;
    if (this.fetching === wanted) return;
    this.fetching = wanted;
    const start = Math.max(from - 40, 0);
    const answer = await this.line.ask({ do: "rows", start, stop: Math.min(to + 40, start + 500), columns: this.state.columns });
    if (this.fetching === wanted) this.fetching = null;
    if (answer.error) this.say(answer.error.replace("not saved: ", ""), true);
    if (isRows(answer) && answer.view === this.state.view && answer.columns.join() === this.state.columns.join()) {
      this.rows.take(answer);
      this.draw();
      this.editing.follow();
    }
  }

  private drawRow(index: number): void {
    const { columns } = this.layout;
    let element = this.rowElements.get(index);
    if (!element) {
      element = makeRow(index, columns);
      element.style.top = `${index * ROW_HEIGHT}px`;
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
    fillRow(element, index, row, columns);
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
    const field = this.layout.columns[this.active.column], row = this.rows.get(this.active.row);
    const heard = this.active.row < 0 ? [make("b", {}, headFacts(field, this.state.zone).join("; "))] : detailOf(field, row, row?.cells[this.active.column]);
    this.detail.replaceChildren(...heard);
  }

  // --- places -------------------------------------------------------------------------------------------------------

  element({ row, column }: Place): HTMLElement | undefined {
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
    this.editing.forget();
    this.active = {
      row: Math.min(Math.max(row, lowest), this.state.count - 1),
      column: Math.min(Math.max(column, 0), this.state.columns.length - 1),
    };
    if (!extend) this.anchor = { ...this.active };
    this.layout.reveal(this.active);
    this.draw();
    if (focus) this.focus();
  }

  /** Give the active cell the focus. */
  focus(): void {
    this.element(this.active)?.focus({ preventScroll: true });
  }

  // --- what people do -----------------------------------------------------------------------------------------------

  markRows(row: number, extend: boolean): void {
    if (!extend) this.anchor = { row, column: 0 };
    this.active = { row, column: this.state.columns.length - 1 };
    this.anchor.column = 0;
    this.draw();
    this.focus();
  }

  sort(column: number): void {
    const key = this.state.columns[column];
    const { sort, descending } = this.state;
    const next = sort !== key ? { column: key } : descending ? { column: null } : { column: key, descending: true };
    void this.send({ do: "sort", ...next });
  }

  private onKey(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.isComposing) return;
    if (this.editing.holds(event)) {
      event.preventDefault();
      event.stopPropagation();
    } else this.press(event);
  }

  press(event: KeyboardEvent): void {
    const control = event.ctrlKey || event.metaKey;
    const { row, column } = this.active;
    const [lastRow, lastColumn] = [this.state.count - 1, this.state.columns.length - 1];
    const { page } = this.layout;
    const extend = event.shiftKey;
    const to = (r: number, c: number) => this.go(r, c, { extend });
    const act = (name: "clear" | "empty" | "revert" | "fill") => void this.send({ do: name, range: this.rangeMessage() });
    const keys: Partial<Record<string, () => void>> = {
      ArrowUp: () => to(control ? 0 : row - 1, column),
      ArrowDown: () => (event.altKey ? this.editing.begin() : to(control ? lastRow : row + 1, column)),
      ArrowLeft: () => (event.altKey ? this.widen(-16) : to(row, control ? 0 : column - 1)),
      ArrowRight: () => (event.altKey ? this.widen(16) : to(row, control ? lastColumn : column + 1)),
      Home: () => to(control ? 0 : row, 0),
      End: () => to(control ? lastRow : row, lastColumn),
      PageUp: () => to(Math.max(row - page, 0), column),
      PageDown: () => to(row + page, column),
      Enter: () => (row < 0 ? this.sort(column) : this.editing.begin()),
      F2: () => this.editing.begin(),
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
      this.editing.begin(event.key);
    }
  }

  private widen(step: number): void {
    const { column } = this.active;
    this.layout.widen(column, this.layout.width(column) + step);
    this.drawHead();
    this.layout.reveal(this.active);
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
    this.refusals.hush();
    this.unsay();
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

  /** Show the first refusal beside its cell, and list several. */
  showRefusal(answer: Answer): void {
    const [first] = answer.objections ?? [];
    const column = this.state.columns.indexOf(first?.column ?? "");
    if (answer.said && column >= 0 && (first?.index ?? -1) >= 0) this.refusals.bubble({ row: first.index, column }, first.reason);
    if (answer.objections && answer.objections.length > 1) this.refusals.list(answer.objections);
  }

  ask<K extends Request["do"]>(message: Extract<Request, { do: K }>): Promise<Partial<AnswerTo[K]> & Answer> {
    return this.line.ask(message);
  }

  /** Ask Python to do something, and say what came of it. */
  async send<K extends Request["do"]>(message: Extract<Request, { do: K }>, patience = 1): Promise<Partial<AnswerTo[K]> & Answer> {
    this.refusals.clear();
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

  /** Take an alarm away. */
  unsay(): void {
    this.alarm.textContent = "";
  }

  say(words: string, alarm = false): void {
    this.status.textContent = alarm ? "" : words;
    this.alarm.textContent = alarm ? words : "";
  }
}
