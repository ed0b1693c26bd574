// Keys whose meaning depends on what the list shows.
const LIST_KEYS = new Set(["Enter", "Tab", "ArrowDown", "ArrowUp"]);

/** The editor of one cell: a line of text, several lines, a date, or a list to choose from. */
class CellEditor {
  /**
   * @param {object} options - field, text (null: missing), typed (what the first key put there), label,
   *   choices (asks Python), onCommit(text, move), onCancel(), onLate(event) (a key pressed while the editor waited).
   */
  constructor(options) {
    Object.assign(this, options);
    this.opened = this.text;
    this.strict = Boolean(this.field.strict);
    // Whether the last part is being typed: then a choice completes it, otherwise it stands beside it.
    this.typing = this.typed !== undefined;
    this.done = false;
    // The question to Python that has no answer yet, and the keys that wait for it.
    this.asking = null;
    this.held = [];
    const value = this.typed ?? this.text ?? "";
    const many = this.field.kind === "text" && !this.field.choosing;
    this.input = make(many ? "textarea" : "input", {
      class: "opp-input",
      "aria-label": this.label,
      "data-lm-suppress-shortcuts": "true",
      autocomplete: "off",
      spellcheck: "false",
      inputmode: this.field.kind === "integer" ? "numeric" : null,
      rows: many ? Math.min(Math.max((value.match(/\n/g) ?? []).length + 1, 1), 8) : null,
    });
    this.input.value = value;
    this.element = make("div", { class: "opp-editing", "data-kind": this.field.kind }, this.input);
    if (this.field.choosing) this.buildList();
    if (this.field.kind === "instant" || this.field.kind === "day") this.buildCalendar();
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    this.element.addEventListener("focusout", (event) => {
      if (!this.element.contains(event.relatedTarget)) this.commit(null);
    });
  }

  focus() {
    this.input.focus({ preventScroll: true });
    if (this.typed === undefined) this.input.select();
    else this.input.setSelectionRange(this.input.value.length, this.input.value.length);
    if (this.field.choosing) this.ask(this.typed === undefined ? "" : this.part());
  }

  /** Show why what was typed was refused. */
  refuse(reason) {
    setAttribute(this.input, "aria-invalid", "true");
    this.reason?.remove();
    const id = `opp-reason-${Math.random().toString(36).slice(2)}`;
    this.reason = make("div", { class: "opp-reason", id }, reason);
    setAttribute(this.input, "aria-describedby", id);
    this.element.append(this.reason);
  }

  commit(move) {
    if (this.done) return;
    this.end();
    const value = this.input.value;
    const before = this.opened === null ? null : this.opened.replace(/\r\n?/g, "\n");
    // Emptied is missing; an empty text that was left alone stays one.
    const text = value === "" ? (before === "" ? "" : null) : value;
    this.onCommit(text, move, text === before);
  }

  cancel() {
    if (this.done) return;
    this.end();
    this.onCancel();
  }

  end() {
    this.done = true;
    this.held = [];
  }

  onKey(event) {
    event.stopPropagation();
    // The button of the calendar has its own meaning for keys.
    if (event.isComposing || (event.target.tagName === "BUTTON" && event.key !== "Escape")) return;
    const plain = !event.ctrlKey && !event.metaKey;
    if (this.asking && plain && (LIST_KEYS.has(event.key) || (this.held.length > 0 && event.key.length === 1))) {
      // What a key means depends on the list for what was typed before it: it waits, and so do those after it.
      event.preventDefault();
      this.hold(event);
    } else this.press(event);
  }

  hold(event) {
    this.held.push(event);
    setAttribute(this.input, "aria-busy", "true");
  }

  /** Take a key that another editor or this one held back. */
  late(event) {
    if (this.asking) this.hold(event);
    else if (event.key.length === 1) this.type(event.key);
    else this.press(event);
  }

  /** Take the keys that waited for the list; those after the end of this editor are the grid's. */
  release() {
    setAttribute(this.input, "aria-busy", null);
    for (const event of this.held.splice(0)) {
      if (this.done) this.onLate(event);
      else this.late(event);
    }
  }

  type(text) {
    this.input.setRangeText(text, this.input.selectionStart, this.input.selectionEnd, "end");
    this.input.dispatchEvent(new Event("input"));
  }

  press(event) {
    const { key } = event;
    const marked = this.list && !this.list.hidden && this.at >= 0;
    if (key === "Escape") {
      event.preventDefault();
      if (marked && this.field.separator) this.mark(-1);
      else this.cancel();
    } else if (key === "Enter" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      if (marked) this.choose(this.shown[this.at], "down");
      else this.commit("down");
    } else if (key === "Enter" && this.input.tagName === "TEXTAREA" && event.altKey) {
      event.preventDefault();
      this.type("\n");
    } else if (key === "Tab") {
      event.preventDefault();
      const move = event.shiftKey ? "left" : "right";
      if (marked && !this.field.separator) this.choose(this.shown[this.at], move);
      else this.commit(move);
    } else if ((key === "ArrowDown" || key === "ArrowUp") && this.picker && event.altKey) {
      event.preventDefault();
      this.showCalendar();
    } else if ((key === "ArrowDown" || key === "ArrowUp") && this.list) {
      event.preventDefault();
      if (this.list.hidden) this.ask("");
      else this.mark(this.at + (key === "ArrowDown" ? 1 : -1));
    }
  }

  // --- lists ------------------------------------------------------------------------------------------------------

  buildList() {
    const id = `opp-list-${Math.random().toString(36).slice(2)}`;
    this.list = make("div", { class: "opp-list", role: "listbox", id, "aria-label": this.field.title });
    this.list.hidden = true;
    this.shown = [];
    this.at = -1;
    for (const [name, value] of Object.entries({
      role: "combobox",
      "aria-expanded": "false",
      "aria-controls": id,
      "aria-autocomplete": "list",
      "aria-haspopup": "listbox",
    }))
      setAttribute(this.input, name, value);
    this.element.append(this.list);
    this.input.addEventListener("input", () => {
      this.typing = true;
      this.ask(this.part());
    });
    // The pointer must not take the focus away before the click is there.
    this.list.addEventListener("pointerdown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.choose(this.shown[Number(option.dataset.at)], "stay");
    });
  }

  /** What is being typed: the last part where several are chosen. */
  part() {
    const { separator } = this.field;
    return separator ? this.input.value.split(separator.trim() || separator).pop().trim() : this.input.value;
  }

  chosen() {
    const { separator } = this.field;
    if (!separator) return [this.opened ?? ""];
    const text = this.input.value.trim();
    if (text.startsWith("[")) {
      try {
        return JSON.parse(text).map(String);
      } catch {
        // Not a list yet, or no longer: it is read as what it looks like.
      }
    }
    const parts = text.split(separator.trim() || separator).map((part) => part.trim());
    return parts.filter((part) => part !== "");
  }

  /** Several values as one text: a JSON list where the separator stands inside one of them. */
  joined(values) {
    const { separator, kind } = this.field;
    if (values.length === 0) return kind === "tags" ? "[]" : "";
    return values.some((value) => value.includes(separator.trim() || separator)) ? JSON.stringify(values) : values.join(separator);
  }

  async ask(text) {
    const question = (this.asking = {});
    const answer = await this.choices(text);
    // Only the list for what was typed last counts: an earlier one would take back what people marked in it.
    if (question !== this.asking) return;
    this.asking = null;
    if (!this.done) this.fill(answer.choices ?? [], answer.more ?? 0, text);
    this.release();
  }

  fill(choices, more, text) {
    const chosen = this.chosen();
    this.shown = choices;
    this.list.replaceChildren(
      ...choices.map((choice, at) =>
        make(
          "div",
          {
            role: "option",
            id: `${this.list.id}-${at}`,
            "data-at": at,
            "aria-selected": String(chosen.includes(choice)),
          },
          choice,
        ),
      ),
    );
    if (more) this.list.append(make("div", { class: "opp-more", role: "presentation" }, `and ${more} more: type to find them`));
    this.list.hidden = choices.length === 0;
    setAttribute(this.input, "aria-expanded", String(choices.length > 0));
    const untouched = !this.field.separator && this.input.value === this.opened;
    this.mark(untouched ? choices.indexOf(this.opened) : this.strict && text !== "" && !this.field.separator ? 0 : -1);
  }

  mark(at) {
    const count = this.shown.length;
    this.at = count === 0 ? -1 : Math.min(Math.max(at, -1), count - 1);
    [...this.list.children].forEach((option, place) => option.classList.toggle("opp-at", place === this.at));
    const option = this.at < 0 ? null : this.list.children[this.at];
    setAttribute(this.input, "aria-activedescendant", option?.id);
    option?.scrollIntoView({ block: "nearest" });
  }

  choose(choice, move) {
    const { separator } = this.field;
    if (!separator) {
      this.input.value = choice;
      this.commit(move === "stay" ? "stay" : move);
      return;
    }
    const parts = this.chosen();
    // A choice completes what is being typed, also where that is its whole name already.
    if (this.typing && parts.at(-1) === this.part()) parts.pop();
    this.typing = false;
    const kept = parts.includes(choice) ? parts.filter((part) => part !== choice) : [...parts, choice];
    this.input.value = this.joined(kept);
    this.input.focus({ preventScroll: true });
    this.ask("");
  }

  // --- dates ------------------------------------------------------------------------------------------------------

  buildCalendar() {
    this.picker = make("input", { type: "date", class: "opp-picker", tabindex: "-1", "aria-label": `${this.label}, calendar` });
    const button = make("button", { type: "button", class: "opp-calendar", title: "Calendar (Alt+Down)", "aria-label": "Calendar" });
    button.append(icon("calendar"));
    button.addEventListener("click", () => this.showCalendar());
    this.picker.addEventListener("change", () => {
      // Empty after the calendar's own "Clear".
      this.input.value = this.picker.value;
      this.input.focus({ preventScroll: true });
    });
    this.element.append(button, this.picker);
  }

  showCalendar() {
    this.picker.value = /^\d{4}-\d\d-\d\d/.exec(this.input.value)?.[0] ?? "";
    this.picker.showPicker?.();
  }
}
