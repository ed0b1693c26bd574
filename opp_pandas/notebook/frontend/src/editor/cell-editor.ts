import { icon, keepInside, make, setAttribute } from "../core/dom";
import type { ChoicesAnswer, Column } from "../messages";

export type Move = "down" | "right" | "left" | "stay";

interface Options {
  field: Column;
  /** Null: missing. */
  text: string | null;
  /** What the first key put there. */
  typed: string | undefined;
  label: string;
  /** Asks Python what may be chosen. */
  choices: (text: string) => Promise<Partial<ChoicesAnswer>>;
  onCommit: (text: string | null, move: Move | null, same: boolean) => void;
  onCancel: () => void;
  /** Takes a key that was pressed while the editor waited. */
  onLate: (event: KeyboardEvent) => void;
}

// Keys whose meaning depends on what the list shows.
const LIST_KEYS = new Set(["Enter", "Tab", "ArrowDown", "ArrowUp"]);

/** The editor of one cell: a line of text, several lines, a date, or a list to choose from. */
export class CellEditor {
  readonly element: HTMLElement;
  private readonly options: Options;
  private readonly field: Column;
  private readonly opened: string | null;
  /** Whether the last part is being typed: then a choice completes it, otherwise it stands beside it. */
  private typing: boolean;
  private done = false;
  /** The question to Python that has no answer yet, and the keys that wait for it. */
  private asking: object | null = null;
  private held: KeyboardEvent[] = [];
  private readonly input: HTMLInputElement | HTMLTextAreaElement;
  private readonly list: HTMLElement | null;
  private readonly picker: HTMLInputElement | null;
  private shown: string[] = [];
  private at = -1;
  private reason: HTMLElement | null = null;

  constructor(options: Options) {
    this.options = options;
    this.field = options.field;
    this.opened = options.text;
    this.typing = options.typed !== undefined;
    const value = options.typed ?? options.text ?? "";
    const many = this.field.kind === "text" && !this.field.choosing;
    this.input = make(many ? "textarea" : "input", {
      class: "opp-input",
      "aria-label": options.label,
      "data-lm-suppress-shortcuts": "true",
      autocomplete: "off",
      spellcheck: "false",
      inputmode: this.field.kind === "integer" ? "numeric" : null,
      rows: many ? Math.min(Math.max((value.match(/\n/g) ?? []).length + 1, 1), 8) : null,
    });
    this.input.value = value;
    this.element = make("div", { class: "opp-editing", "data-kind": this.field.kind }, this.input);
    this.list = this.field.choosing ? this.buildList() : null;
    this.picker = this.field.kind === "instant" || this.field.kind === "day" ? this.buildCalendar() : null;
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    this.element.addEventListener("focusout", (event) => {
      if (!this.element.contains(event.relatedTarget as Node | null)) this.commit(null);
    });
  }

  focus(): void {
    this.input.focus({ preventScroll: true });
    const typed = this.options.typed !== undefined;
    if (!typed) this.input.select();
    else this.input.setSelectionRange(this.input.value.length, this.input.value.length);
    if (this.list) void this.ask(typed ? this.part() : "");
  }

  /** Show why what was typed was refused. */
  refuse(reason: string, bounds: HTMLElement): void {
    setAttribute(this.input, "aria-invalid", "true");
    this.reason?.remove();
    const id = `opp-reason-${Math.random().toString(36).slice(2)}`;
    this.reason = make("div", { class: "opp-reason", id }, reason);
    setAttribute(this.input, "aria-describedby", id);
    this.element.append(this.reason);
    keepInside(this.reason, bounds);
  }

  commit(move: Move | null): void {
    if (this.done) return;
    this.end();
    const value = this.input.value;
    const before = this.opened === null ? null : this.opened.replace(/\r\n?/g, "\n");
    // Emptied is missing; an empty text that was left alone stays one.
    const text = value === "" ? (before === "" ? "" : null) : value;
    this.options.onCommit(text, move, text === before);
  }

  private cancel(): void {
    if (this.done) return;
    this.end();
    this.options.onCancel();
  }

  private end(): void {
    this.done = true;
    this.held = [];
  }

  private onKey(event: KeyboardEvent): void {
    event.stopPropagation();
    // The button of the calendar has its own meaning for keys.
    if (event.isComposing || ((event.target as Element).tagName === "BUTTON" && event.key !== "Escape")) return;
    const plain = !event.ctrlKey && !event.metaKey;
    if (this.asking && plain && (LIST_KEYS.has(event.key) || (this.held.length > 0 && event.key.length === 1))) {
      // What a key means depends on the list for what was typed before it: it waits, and so do those after it.
      event.preventDefault();
      this.hold(event);
    } else this.press(event);
  }

  private hold(event: KeyboardEvent): void {
    this.held.push(event);
    setAttribute(this.input, "aria-busy", "true");
  }

  /** Take a key that another editor or this one held back. */
  late(event: KeyboardEvent): void {
    if (this.asking) this.hold(event);
    else if (event.key.length === 1) this.type(event.key);
    else this.press(event);
  }

  /** Take the keys that waited for the list; those after the end of this editor are the grid's. */
  private release(): void {
    setAttribute(this.input, "aria-busy", null);
    for (const event of this.held.splice(0)) {
      if (this.done) this.options.onLate(event);
      else this.late(event);
    }
  }

  private type(text: string): void {
    const { selectionStart, selectionEnd, value } = this.input;
    this.input.setRangeText(text, selectionStart ?? value.length, selectionEnd ?? value.length, "end");
    this.input.dispatchEvent(new Event("input"));
  }

  private press(event: KeyboardEvent): void {
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
      if (this.list.hidden) void this.ask("");
      else this.mark(this.at + (key === "ArrowDown" ? 1 : -1));
    }
  }

  // --- lists ------------------------------------------------------------------------------------------------------

  private buildList(): HTMLElement {
    const id = `opp-list-${Math.random().toString(36).slice(2)}`;
    const list = make("div", { class: "opp-list", role: "listbox", id, "aria-label": this.field.title });
    list.hidden = true;
    for (const [name, value] of Object.entries({
      role: "combobox",
      "aria-expanded": "false",
      "aria-controls": id,
      "aria-autocomplete": "list",
      "aria-haspopup": "listbox",
    }))
      setAttribute(this.input, name, value);
    this.element.append(list);
    this.input.addEventListener("input", () => {
      this.typing = true;
      void this.ask(this.part());
    });
    // The pointer must not take the focus away before the click is there.
    list.addEventListener("pointerdown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const option = (event.target as Element).closest<HTMLElement>("[role=option]");
      if (option) this.choose(this.shown[Number(option.dataset.at)], "stay");
    });
    return list;
  }

  /** What is being typed: the last part where several are chosen. */
  private part(): string {
    const { separator } = this.field;
    return separator ? (this.input.value.split(separator.trim() || separator).at(-1) ?? "").trim() : this.input.value;
  }

  private chosen(): string[] {
    const { separator } = this.field;
    if (!separator) return [this.opened ?? ""];
    const text = this.input.value.trim();
    if (text.startsWith("[")) {
      try {
        return (JSON.parse(text) as unknown[]).map(String);
      } catch {
        // Not a list yet, or no longer: it is read as what it looks like.
      }
    }
    const parts = text.split(separator.trim() || separator).map((part) => part.trim());
    return parts.filter((part) => part !== "");
  }

  /** Several values as one text: a JSON list where the separator stands inside one of them. */
  private joined(values: string[]): string {
    const { separator, kind } = this.field;
    if (values.length === 0) return kind === "tags" ? "[]" : "";
    return values.some((value) => value.includes(separator.trim() || separator)) ? JSON.stringify(values) : values.join(separator);
  }

  private async ask(text: string): Promise<void> {
    const question = (this.asking = {});
    const answer = await this.options.choices(text);
    // Only the list for what was typed last counts: an earlier one would take back what people marked in it.
    if (question !== this.asking) return;
    this.asking = null;
    if (!this.done) this.fill(answer.choices ?? [], answer.more ?? 0, text);
    this.release();
  }

  private fill(choices: string[], more: number, text: string): void {
    const { list } = this;
    if (!list) return;
    const chosen = this.chosen();
    this.shown = choices;
    list.replaceChildren(
      ...choices.map((choice, at) =>
        make(
          "div",
          {
            role: "option",
            id: `${list.id}-${at}`,
            "data-at": at,
            "aria-selected": String(chosen.includes(choice)),
          },
          choice,
        ),
      ),
    );
    if (more) list.append(make("div", { class: "opp-more", role: "presentation" }, `and ${more} more: type to find them`));
    list.hidden = choices.length === 0;
    setAttribute(this.input, "aria-expanded", String(choices.length > 0));
    const untouched = !this.field.separator && this.input.value === this.opened;
    this.mark(untouched ? choices.indexOf(this.opened ?? "") : this.field.strict && text !== "" && !this.field.separator ? 0 : -1);
  }

  private mark(at: number): void {
    const count = this.shown.length;
    this.at = count === 0 ? -1 : Math.min(Math.max(at, -1), count - 1);
    const options = [...(this.list?.children ?? [])];
    options.forEach((option, place) => option.classList.toggle("opp-at", place === this.at));
    const option = this.at < 0 ? null : options[this.at];
    setAttribute(this.input, "aria-activedescendant", option?.id);
    option?.scrollIntoView({ block: "nearest" });
  }

  private choose(choice: string, move: Move): void {
    const { separator } = this.field;
    if (!separator) {
      this.input.value = choice;
      this.commit(move);
      return;
    }
    const parts = this.chosen();
    // A choice completes what is being typed, also where that is its whole name already.
    if (this.typing && parts.at(-1) === this.part()) parts.pop();
    this.typing = false;
    const kept = parts.includes(choice) ? parts.filter((part) => part !== choice) : [...parts, choice];
    this.input.value = this.joined(kept);
    this.input.focus({ preventScroll: true });
    void this.ask("");
  }

  // --- dates ------------------------------------------------------------------------------------------------------

  private buildCalendar(): HTMLInputElement {
    const picker = make("input", { type: "date", class: "opp-picker", tabindex: "-1", "aria-label": `${this.options.label}, calendar` });
    const button = make("button", { type: "button", class: "opp-calendar", title: "Calendar (Alt+Down)", "aria-label": "Calendar" });
    button.append(icon("calendar"));
    button.addEventListener("click", () => this.showCalendar());
    picker.addEventListener("change", () => {
      // Empty after the calendar's own "Clear".
      this.input.value = picker.value;
      this.input.focus({ preventScroll: true });
    });
    this.element.append(button, picker);
    return picker;
  }

  private showCalendar(): void {
    if (!this.picker) return;
    this.picker.value = /^\d{4}-\d\d-\d\d/.exec(this.input.value)?.[0] ?? "";
    this.picker.showPicker();
  }
}
