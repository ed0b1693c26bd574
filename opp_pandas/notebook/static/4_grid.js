const ROW_HEIGHT = 30;
const HEAD_HEIGHT = 32;
const ROW_HEAD_WIDTH = 64;
const OVERSCAN = 6;
const WIDTHS = { integer: 110, number: 110, instant: 140, day: 140, boolean: 90, relation: 150, tags: 150, text: 170, other: 170 };
const NARROWEST = 56;

/** The grid: rows that can be seen, a cell that has the focus, a range that is marked. */
class Grid {
  constructor(model, root) {
    this.model = model;
    this.line = new Line(model, (answer) => this.takeLate(answer));
    this.rows = new Rows();
    this.rowElements = new Map();
    this.widths = new Map();
    // Row -1 is the header.
    this.active = { row: 0, column: 0 };
    this.anchor = { row: 0, column: 0 };
    this.build(root);
    this.onFields = () => this.takeFields();
    this.onState = () => this.takeState();
    model.on("change:fields", this.onFields);
    model.on("change:state", this.onState);
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.scroll);
    this.themed = new MutationObserver(() => this.takeTheme());
    for (const node of [document.documentElement, document.body]) this.themed.observe(node, { attributes: true });
    this.takeFields();
    requestAnimationFrame(() => this.takeTheme());
  }

  close() {
    this.line.close();
    this.tools.close();
    this.model.off("change:fields", this.onFields);
    this.model.off("change:state", this.onState);
    this.resized.disconnect();
    this.themed.disconnect();
  }

  // --- building -----------------------------------------------------------------------------------------------------

  build(root) {
    this.head = make("div", { class: "opp-head", role: "row", "aria-rowindex": "1" });
    this.body = make("div", { class: "opp-body", role: "rowgroup" });
    this.table = make(
      "div",
      { class: "opp-table", role: "grid", "aria-label": this.model.get("label"), "aria-multiselectable": "true" },
      make("div", { class: "opp-headgroup", role: "rowgroup" }, this.head),
      this.body,
    );
    this.layer = make("div", { class: "opp-layer" });
    this.nothing = make("div", { class: "opp-nothing" }, "No row fits.");
    this.canvas = make("div", { class: "opp-canvas" }, this.table, this.layer);
    this.scroll = make("div", { class: "opp-scroll" }, this.nothing, this.canvas);
    this.scroll.style.height = `${this.model.get("height")}px`;
    this.detail = make("div", { class: "opp-detail" });
    this.status = make("div", { class: "opp-status", role: "status" });
    this.alarm = make("div", { class: "opp-alarm", role: "alert" });
    this.tools = new Tools(this);
    this.root = make(
      "div",
      { class: "opp-grid", "data-jp-suppress-context-menu": "true" },
      this.tools.element,
      this.scroll,
      this.detail,
      make("div", { class: "opp-said" }, this.status, this.alarm),
    );
    this.tools.element.after(this.tools.chooser);
    root.append(this.root);
    this.scroll.addEventListener("scroll", () => this.draw());
    this.table.addEventListener("keydown", (event) => this.onKey(event));
    this.table.addEventListener("pointerdown", (event) => this.onPointerDown(event));
    this.table.addEventListener("pointermove", (event) => this.onPointerMove(event));
    this.table.addEventListener("dblclick", (event) => {
      if (this.cellAt(event) && this.active.row >= 0) this.edit();
    });
    this.table.addEventListener("focusin", (event) => this.onFocus(event));
    for (const kind of ["copy", "cut", "paste"]) this.table.addEventListener(kind, (event) => this.onClipboard(event));
  }

  takeTheme() {
    this.root.classList.toggle("opp-dark", isDark(this.root.parentElement ?? this.root));
  }

  takeFields() {
    this.fields = new Map(this.model.get("fields").map((field) => [field.column, field]));
    this.takeState();
  }

  takeState() {
    const before = this.state;
    this.state = this.model.get("state");
    const columns = this.state.columns.join("\n");
    // What was said before the changes were sent is no longer so afterwards.
    if (before && before.busy !== this.state.busy) this.say(this.state.busy);
    if (before?.view !== this.state.view) this.dropRows();
    if (before?.columns.join("\n") !== columns) {
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

  dropRows() {
    // What was said beside a cell would hang over another one.
    this.hush();
    this.rows.clear();
    for (const element of this.rowElements.values()) element.remove();
    this.rowElements.clear();
  }

  field(column) {
    return this.fields.get(this.state.columns[column]);
  }

  width(column) {
    const field = this.field(column);
    const usual = field.name === "name" ? 220 : WIDTHS[field.kind] ?? 150;
    return this.widths.get(field.column) ?? Math.min(Math.max(usual, 8 * field.title.length + 34), 260);
  }

  // --- drawing ------------------------------------------------------------------------------------------------------

  drawHead() {
    const { columns, sort, descending, count } = this.state;
    const widths = columns.map((_, column) => this.width(column));
    const total = widths.reduce((sum, width) => sum + width, ROW_HEAD_WIDTH);
    this.table.style.setProperty("--opp-columns", [ROW_HEAD_WIDTH, ...widths].map((width) => `${width}px`).join(" "));
    this.canvas.style.width = `${total}px`;
    this.body.style.height = `${count * ROW_HEIGHT}px`;
    setAttribute(this.table, "aria-rowcount", count + 1);
    setAttribute(this.table, "aria-colcount", columns.length + 1);
    while (this.head.children.length > columns.length + 1) this.head.lastChild.remove();
    if (!this.head.firstChild)
      this.head.append(make("div", { class: "opp-corner", role: "columnheader", "aria-colindex": "1" }, "Row"));
    columns.forEach((column, place) => {
      const field = this.fields.get(column);
      let cell = this.head.children[place + 1];
      if (!cell) {
        cell = make("div", { class: "opp-headcell", role: "columnheader", tabindex: "-1", "aria-colindex": place + 2 });
        cell.append(make("span", { class: "opp-title" }), make("span", { class: "opp-arrow", "aria-hidden": "true" }));
        cell.append(make("span", { class: "opp-edge", "aria-hidden": "true" }));
        this.head.append(cell);
      }
      cell.dataset.place = place;
      cell.dataset.column = column;
      cell.dataset.kind = field.kind;
      const sorted = sort === column ? (descending ? "descending" : "ascending") : null;
      setAttribute(cell, "aria-sort", sorted);
      setAttribute(cell, "title", this.headFacts(field).join("\n"));
      cell.querySelector(".opp-title").textContent = field.title;
      cell.querySelector(".opp-arrow").textContent = sorted ? (descending ? "▼" : "▲") : "";
      cell.classList.toggle("opp-locked", Boolean(field.locked));
      const locked = cell.querySelector(".opp-icon");
      if (field.locked && !locked) cell.insertBefore(icon("lock"), cell.firstChild);
      else if (!field.locked) locked?.remove();
    });
  }

  /** What there is to know of a column. */
  headFacts(field) {
    return [field.meaning, field.locked, field.kind === "instant" ? `times in ${this.state.zone}` : ""].filter(Boolean);
  }

  /** Draw the rows that can be seen, and the one with the focus; ask for those that are not here. */
  draw() {
    if (!this.state) return;
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
    if (to > from && !this.rows.covers(from, to, this.state)) this.load(from, to);
  }

  async load(from, to) {
    const wanted = `${from} ${to} ${this.state.version} ${this.state.view} ${this.state.columns.length}`;
    if (this.fetching === wanted) return;
    this.fetching = wanted;
    const start = Math.max(from - 40, 0);
    const answer = await this.line.ask({ do: "rows", from: start, to: Math.min(to + 40, start + 500), columns: this.state.columns });
    if (this.fetching === wanted) this.fetching = null;
    if (answer.error) this.say(answer.error.replace("not saved: ", ""), true);
    if (answer.rows && answer.view === this.state.view) {
      this.rows.take(answer);
      this.draw();
      this.editAwaited();
    }
  }

  drawRow(index) {
    let element = this.rowElements.get(index);
    if (!element) {
      element = make("div", { class: "opp-row", role: "row", "aria-rowindex": index + 2, "data-index": index });
      element.style.top = `${index * ROW_HEIGHT}px`;
      element.append(make("div", { class: "opp-rowhead", role: "rowheader", "aria-colindex": "1" }));
      this.state.columns.forEach((column, place) => {
        const cell = make("div", { class: "opp-cell", role: "gridcell", tabindex: "-1", "aria-colindex": place + 2 });
        cell.append(make("span", { class: "opp-text" }));
        cell.dataset.place = place;
        cell.dataset.column = column;
        cell.dataset.kind = this.fields.get(column).kind;
        element.append(cell);
      });
      this.rowElements.set(index, element);
      // In their order, so that readers walk them as they stand.
      const next = [...this.body.children].find((other) => Number(other.dataset.index) > index);
      this.body.insertBefore(element, next ?? null);
    }
    const row = this.rows.get(index);
    element.classList.toggle("opp-waiting", !row);
    if (!row || (element.drawn === row && !row.touched)) return;
    element.drawn = row;
    row.touched = false;
    this.drawRowHead(element.firstChild, index, row);
    this.state.columns.forEach((_, place) => this.drawCell(element.children[place + 1], row, place));
    element.classList.toggle("opp-deleted", row.state === "deleted");
  }

  drawRowHead(head, index, row) {
    const marks = [];
    const words = [];
    if (row.problem) (marks.push("!"), words.push(row.problem));
    if (row.state === "new") (marks.push("+"), words.push("new deal"));
    if (row.state === "deleted") (marks.push("✕"), words.push("will be deleted"));
    if (row.cells.some((cell) => "was" in marksOf(cell))) (marks.push("◆"), words.push("changed"));
    if (row.lock && row.state !== "deleted") words.push(row.lock);
    head.replaceChildren(make("span", { class: "opp-number" }, String(index + 1)));
    if (row.lock && row.state !== "deleted") head.prepend(icon("lock"));
    if (marks.length) head.prepend(make("span", { class: "opp-marks", "aria-hidden": "true" }, marks.join("")));
    setAttribute(head, "aria-label", [`row ${index + 1}`, ...words].join(", "));
    setAttribute(head, "title", words.join("\n"));
    head.classList.toggle("opp-problem", Boolean(row.problem));
  }

  drawCell(cell, row, place) {
    const field = this.field(place);
    const value = row.cells[place];
    const text = textOf(value);
    const marks = marksOf(value);
    cell.firstChild.textContent = shownText(text, field);
    const lock = field.locked || row.lock || marks.lock;
    cell.classList.toggle("opp-missing", text === null || text === "");
    cell.classList.toggle("opp-changed", "was" in marks);
    cell.classList.toggle("opp-problem", Boolean(marks.problem));
    cell.classList.toggle("opp-locked", Boolean(lock));
    cell.classList.toggle("opp-sending", Boolean(marks.sending));
    setAttribute(cell, "aria-readonly", lock ? "true" : null);
    setAttribute(cell, "aria-invalid", marks.problem ? "true" : null);
    setAttribute(cell, "aria-label", text === null || text === "" ? spokenText(text) : null);
    const facts = [];
    if ("was" in marks) facts.push(`changed, was ${spokenText(marks.was)}`);
    if (marks.problem) facts.push(marks.problem);
    if (marks.lock) facts.push(marks.lock);
    setAttribute(cell, "aria-description", facts.join("; "));
    setAttribute(cell, "title", [text !== null && text.length > 20 ? text : "", ...facts].filter(Boolean).join("\n"));
  }

  /** Mark the range, and let exactly one cell take the focus. */
  drawRange() {
    const { rows, columns } = this.range();
    for (const [index, element] of [[-1, this.head], ...this.rowElements]) {
      const inside = index >= rows[0] && index <= rows[1];
      for (let place = 0; place < this.state.columns.length; place++) {
        const cell = element.children[place + 1];
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
      if (index >= 0) element.firstChild.classList.toggle("opp-marked", inside);
    }
    this.drawDetail();
  }

  /** Say below the grid what a tooltip says of the active cell, for people without a mouse. */
  drawDetail() {
    const cell = this.valueAt(this.active);
    const parts = [];
    const field = this.field(this.active.column);
    if (field && this.active.row < 0) parts.push(make("b", {}, this.headFacts(field).join("; ")));
    else if (field) parts.push(make("b", {}, `${field.title}: `));
    if (cell !== undefined && field) {
      const marks = marksOf(cell);
      const row = this.rows.get(this.active.row);
      parts.push(spokenText(textOf(cell)).slice(0, 400));
      if ("was" in marks) parts.push(make("span", { class: "opp-was" }, `  was ${spokenText(marks.was).slice(0, 200)}`));
      const words = marks.problem || row.problem;
      if (words) parts.push(make("span", { class: "opp-why" }, `  ${words}`));
      const lock = marks.lock || row.lock || field.locked;
      if (lock) parts.push(make("span", { class: "opp-lockword" }, `  ${lock}`));
    }
    this.detail.replaceChildren(...parts);
  }

  // --- places -------------------------------------------------------------------------------------------------------

  valueAt({ row, column }) {
    return this.rows.get(row)?.cells[column];
  }

  element({ row, column }) {
    return (row < 0 ? this.head : this.rowElements.get(row))?.children[column + 1];
  }

  range() {
    const pair = (one, other) => [Math.min(one, other), Math.max(one, other)];
    return {
      rows: pair(this.anchor.row, this.active.row),
      columns: pair(this.anchor.column, this.active.column),
    };
  }

  rangeMessage() {
    const { rows, columns } = this.range();
    return {
      from: Math.max(rows[0], 0),
      to: rows[1],
      columns: this.state.columns.slice(columns[0], columns[1] + 1),
      view: this.state.view,
    };
  }

  /** Go to a cell; with `extend` the range reaches from where it began. */
  go(row, column, { extend = false, focus = true } = {}) {
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
  reveal() {
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

  cellAt(event) {
    const cell = event.target.closest?.("[data-place]");
    if (!cell || !this.table.contains(cell)) return null;
    const row = cell.closest(".opp-row");
    return { row: row ? Number(row.dataset.index) : -1, column: Number(cell.dataset.place) };
  }

  // --- what people do -----------------------------------------------------------------------------------------------

  onFocus(event) {
    const place = this.cellAt(event);
    if (place && (place.row !== this.active.row || place.column !== this.active.column))
      this.go(place.row, place.column, { focus: false });
  }

  onPointerDown(event) {
    if (event.button !== 0) return;
    const place = this.cellAt(event);
    if (!place) {
      const head = event.target.closest(".opp-rowhead");
      if (head) this.markRows(Number(head.parentElement.dataset.index), event);
      return;
    }
    if (event.target.classList.contains("opp-edge")) {
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
    const box = this.element(place).getBoundingClientRect();
    if (this.field(place.column).choosing && (event.clientX > box.right - 22) && (again || event.detail === 1)) {
      event.preventDefault();
      addEventListener("pointerup", () => this.edit(), { once: true });
    }
  }

  onPointerMove(event) {
    if (!this.dragging || !(event.buttons & 1)) return;
    const place = this.cellAt(event);
    if (place && place.row >= 0 && (place.row !== this.active.row || place.column !== this.active.column))
      this.go(place.row, place.column, { extend: true });
  }

  markRows(row, event) {
    event.preventDefault();
    if (!event.shiftKey) this.anchor = { row, column: 0 };
    this.active = { row, column: this.state.columns.length - 1 };
    this.anchor.column = 0;
    this.draw();
    this.element(this.active)?.focus({ preventScroll: true });
  }

  resize(event, column) {
    event.preventDefault();
    const key = this.state.columns[column];
    const [start, width] = [event.clientX, this.width(column)];
    const move = (moved) => {
      this.widths.set(key, Math.max(width + moved.clientX - start, NARROWEST));
      this.drawHead();
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", () => removeEventListener("pointermove", move), { once: true });
  }

  sort(column) {
    const key = this.state.columns[column];
    const { sort, descending } = this.state;
    if (sort !== key) this.send({ do: "sort", column: key, descending: false });
    else if (!descending) this.send({ do: "sort", column: key, descending: true });
    else this.send({ do: "sort", column: null });
  }

  onKey(event) {
    if (!event.defaultPrevented && !event.isComposing) this.press(event);
  }

  press(event) {
    const control = event.ctrlKey || event.metaKey;
    const { row, column } = this.active;
    const [lastRow, lastColumn] = [this.state.count - 1, this.state.columns.length - 1];
    const page = Math.max(Math.floor((this.scroll.clientHeight - HEAD_HEIGHT) / ROW_HEIGHT) - 1, 1);
    const extend = event.shiftKey;
    const to = (r, c) => this.go(r, c, { extend });
    const keys = {
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
      Delete: () => this.send({ do: event.shiftKey ? "empty" : "clear", range: this.rangeMessage() }),
      Backspace: () => this.send({ do: control ? "revert" : "clear", range: this.rangeMessage() }),
      Escape: () => this.dismiss(),
    };
    const letters = {
      a: () => this.markAll(),
      z: () => this.step(event.shiftKey ? "redo" : "undo"),
      y: () => this.step("redo"),
      d: () => this.send({ do: "fill", range: this.rangeMessage() }),
    };
    event.stopPropagation();
    const act = control && !event.altKey ? letters[event.key.toLowerCase()] ?? keys[event.key] : keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    } else if (!control && !event.altKey && event.key === " " && event.shiftKey) {
      event.preventDefault();
      this.markRows(row, { preventDefault() {}, shiftKey: false });
    } else if (!control && !event.altKey && event.key.length === 1 && row >= 0) {
      event.preventDefault();
      this.edit(event.key);
    }
  }

  widen(step) {
    this.widths.set(this.state.columns[this.active.column], Math.max(this.width(this.active.column) + step, NARROWEST));
    this.drawHead();
    this.reveal();
  }

  markAll() {
    this.anchor = { row: 0, column: 0 };
    this.go(this.state.count - 1, this.state.columns.length - 1, { extend: true });
  }

  async step(name) {
    const answer = await this.send({ do: name });
    const column = this.state.columns.indexOf(answer.column);
    if (answer.index >= 0 && column >= 0) this.go(answer.index, column);
  }

  dismiss() {
    this.hush();
    this.alarm.textContent = "";
    this.anchor = { ...this.active };
    this.draw();
  }

  async onClipboard(event) {
    if (event.target.closest(".opp-editing")) return;
    event.preventDefault();
    if (this.active.row < 0) {
      this.say("the head is no cell: mark the cells first", true);
      return;
    }
    if (event.type === "paste") {
      const text = event.clipboardData.getData("text/plain");
      const answer = await this.send({ do: "paste", text, range: this.rangeMessage() });
      if (answer.objections) this.showRefusal(answer.objections[0], answer.said);
      return;
    }
    const range = this.rangeMessage();
    const copied = await this.copy({ do: "copy", range });
    if (copied && event.type === "cut") await this.send({ do: "clear", range });
  }

  /** Put a text that Python writes onto the clipboard. */
  async copy(message) {
    const answer = await this.line.ask(message);
    try {
      if (answer.error) throw new Error(answer.error);
      await navigator.clipboard.writeText(answer.text);
    } catch (problem) {
      this.say(`nothing was copied: ${problem.message}`, true);
      return false;
    }
    this.say(answer.said);
    return true;
  }

  // --- editing ------------------------------------------------------------------------------------------------------

  edit(typed) {
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
  editAwaited() {
    if (this.awaited && this.rows.get(this.active.row)) this.edit(this.awaited.typed);
  }

  open(place, row, field, text, typed) {
    this.editor?.commit(null);
    this.hush();
    const name = row.cells[this.state.columns.findIndex((column) => this.fields.get(column).name === "name")];
    this.editor = new CellEditor({
      field,
      text,
      typed,
      label: `${field.title}${name ? ` of ${textOf(name)}` : `, row ${place.row + 1}`}`,
      choices: (query) => this.line.ask({ do: "choices", column: field.column, text: query }),
      onCancel: () => {
        this.closeEditor(true);
        this.say("left as it was");
      },
      onCommit: (value, move, same) => this.commit(place, row, field, value, move, same),
      onLate: (event) => (this.editor ? this.editor.late(event) : this.press(event)),
    });
    this.place(this.editor.element, place);
    this.layer.append(this.editor.element);
    this.editor.focus();
    return this.editor;
  }

  place(element, { row, column }) {
    let left = ROW_HEAD_WIDTH;
    for (let other = 0; other < column; other++) left += this.width(other);
    if (column === 0) left += this.scroll.scrollLeft;
    element.style.left = `${left}px`;
    element.style.top = `${HEAD_HEIGHT + row * ROW_HEIGHT}px`;
    element.style.width = `${this.width(column)}px`;
    const below = this.scroll.scrollTop + this.scroll.clientHeight - (HEAD_HEIGHT + (row + 1) * ROW_HEIGHT);
    element.classList.toggle("opp-upward", below < 150 && row * ROW_HEIGHT - this.scroll.scrollTop > 150);
  }

  closeEditor(focus) {
    this.editor?.element.remove();
    this.editor = null;
    if (focus) this.element(this.active)?.focus({ preventScroll: true });
  }

  async commit(place, row, field, text, move, same) {
    const moves = { down: [1, 0], right: [0, 1], left: [0, -1], stay: [0, 0] };
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
    row.cells[place.column] = { ...marks, text: done ? text : textOf(before) };
    if (answer.error) row.cells[place.column].problem = answer.error;
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
    editor.refuse(answer.objections[0].reason);
  }

  showRefusal(objection, said) {
    for (const [index, row] of this.rows.known) {
      const column = this.state.columns.indexOf(objection.column);
      if (row.row === objection.row && column >= 0) this.bubble({ row: index, column }, said);
    }
  }

  hush() {
    this.layer.querySelector(".opp-bubble")?.remove();
  }

  bubble(place, words) {
    this.hush();
    const element = make("div", { class: "opp-editing opp-bubble" }, make("div", { class: "opp-reason" }, words));
    this.place(element, place);
    this.layer.append(element);
  }

  /** Ask Python to do something, and say what came of it. */
  async send(message) {
    this.hush();
    const answer = await this.line.ask(message);
    if (answer.error) this.say(answer.error, true);
    else if (answer.said) this.say(answer.said, Boolean(answer.objections));
    return answer;
  }

  /** What was given up came about after all, or was refused: the rows themselves come with the state. */
  takeLate(answer) {
    if (answer.rows) {
      this.fetching = null;
      this.draw();
      return;
    }
    const words = answer.error || answer.said;
    if (words) this.say(`an answer came late: ${words}`, Boolean(answer.error || answer.objections));
  }

  say(words, alarm = false) {
    this.status.textContent = alarm ? "" : words;
    this.alarm.textContent = alarm ? words : "";
  }
}

export default {
  render({ model, el }) {
    const grid = new Grid(model, el);
    return () => grid.close();
  },
};
