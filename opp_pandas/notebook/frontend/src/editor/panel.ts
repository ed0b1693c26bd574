import { make, setAttribute } from "../core/dom";
import type { Model } from "../core/line";
import type { Conflict, Panel, Paragraph, State, Table } from "../messages";
import type { Grid } from "./grid";

const DECISIONS: [Conflict["choice"], string][] = [
  ["", "decide later"],
  ["mine", "mine"],
  ["theirs", "theirs"],
];
// A review looks at every deal and may ask the service: it takes longer than an edit.
const PATIENCE = 10;

/** What stands below the grid: what waits, what sending it would do, how sending goes, what came of it. */
export class PanelView {
  private readonly model: Model;
  private readonly grid: Grid;
  private readonly waits = make("span", { class: "opp-waits" });
  private readonly review: HTMLButtonElement;
  private readonly code: HTMLButtonElement;
  private readonly status = make("p", { role: "status" });
  private readonly alert = make("p", { class: "opp-alert", role: "alert" });
  private readonly body = make("div", { class: "opp-panel-body", tabindex: "-1" });
  private readonly root: HTMLElement;
  private readonly onState = () => this.drawBar();
  private readonly onPanel = () => this.draw();

  constructor(model: Model, root: HTMLElement, grid: Grid) {
    this.model = model;
    this.grid = grid;
    this.review = this.button("Review changes", () => this.ask("review"), true);
    this.code = this.button("Show the code", () => void this.showCode());
    const bar = make("div", { class: "opp-bar" }, make("b", {}, "Pending changes:"), this.waits, this.review, this.code);
    this.root = make("section", { class: "opp-panel", "aria-label": "Pending changes" }, bar, this.alert, this.status, this.body);
    this.root.addEventListener("keydown", (event) => event.stopPropagation());
    root.append(this.root);
    model.on("change:state", this.onState);
    model.on("change:panel", this.onPanel);
    this.drawBar();
    this.draw();
  }

  close(): void {
    this.model.off("change:state", this.onState);
    this.model.off("change:panel", this.onPanel);
  }

  private get shown(): Panel {
    return this.model.get("panel") as Panel;
  }

  private ask(name: "review" | "stop" | "dismiss"): void {
    if (name === "review") this.review.disabled = true;
    void this.grid.send({ do: name }, name === "review" ? PATIENCE : 1).then(() => this.drawBar());
  }

  private drawBar(): void {
    const { pending, busy } = this.model.get("state") as State;
    this.waits.textContent = pending.words;
    this.review.disabled = Boolean(busy) || !(pending.cells || pending.new || pending.deleted);
  }

  private draw(): void {
    const { shown } = this;
    this.alert.textContent = shown.alert ?? "";
    this.status.textContent = shown.status ?? "";
    const parts = (shown.parts ?? []).map(part);
    this.show([...parts, ...this.sending(shown), ...this.offer(shown), ...this.conflicts(shown)]);
  }

  /** Put elements below the bar; whoever stood in those before keeps a place to go on from. */
  private show(elements: HTMLElement[]): void {
    const { activeElement } = this.root.getRootNode() as Document | ShadowRoot;
    const inside = activeElement !== null && this.body.contains(activeElement);
    const key = inside ? (activeElement as HTMLElement).dataset.key : undefined;
    const { shown } = this;
    const closing = elements.length > 0 && !shown.sending ? [this.button("Close", () => this.dismiss())] : [];
    this.body.replaceChildren(...elements, ...closing);
    if (!inside) return;
    const again = key === undefined ? null : this.body.querySelector<HTMLElement>(`[data-key="${key}"]`);
    // Never a button that happens to stand first: a second press of Enter would send.
    (again ?? this.body).focus({ preventScroll: true });
  }

  private dismiss(): void {
    this.show([]);
    this.ask("dismiss");
  }

  private async showCode(): Promise<void> {
    const { text } = await this.grid.send({ do: "code" });
    if (text !== undefined) this.show([make("pre", { tabindex: "0", role: "region", "aria-label": "The code that makes the same edits" }, text)]);
  }

  private sending({ sending, done = 0, rows = 0 }: Panel): HTMLElement[] {
    if (!sending) return [];
    const stop = this.button("Stop", () => {
      stop.disabled = true;
      this.ask("stop");
    });
    stop.dataset.key = "stop";
    const words = `${done.toLocaleString("en")} of ${rows.toLocaleString("en")} ${rows === 1 ? "row" : "rows"}`;
    return [make("div", { class: "opp-bar" }, make("progress", { max: rows, value: done, "aria-label": "Rows sent" }), words, stop)];
  }

  /** Offer to send the plan that is shown; where that is dangerous, only once its number of rows was typed. */
  private offer({ plan, rows = 0, must_confirm }: Panel): HTMLElement[] {
    if (!plan) return [];
    const confirm = make("input", { class: "opp-confirm", inputmode: "numeric", autocomplete: "off", "data-lm-suppress-shortcuts": "true" });
    const send = this.button(
      `Send ${rows.toLocaleString("en")} ${rows === 1 ? "row" : "rows"}`,
      () => {
        send.disabled = true;
        void this.grid.send({ do: "send", plan, confirm: confirm.value }).then((answer) => {
          if (answer.error) send.disabled = untyped();
        });
      },
      true,
    );
    const untyped = () => Boolean(must_confirm) && confirm.value.trim() !== String(rows);
    send.disabled = untyped();
    confirm.addEventListener("input", () => (send.disabled = untyped()));
    const label = make("label", {}, `Type ${rows} to confirm:`, confirm);
    return [make("div", { class: "opp-bar" }, ...(must_confirm ? [label] : []), send)];
  }

  private conflicts({ conflicts = [] }: Panel): HTMLElement[] {
    if (conflicts.length === 0) return [];
    const titles = ["deal", "field", "loaded", "mine", "theirs", "changed", "whose"].map((title) => make("th", { scope: "col" }, title));
    const rows = conflicts.map((conflict) => {
      const field = conflict.follows ? `${conflict.column} (follows ${conflict.follows})` : conflict.column;
      const cells = [conflict.deal, field, conflict.loaded, conflict.mine, conflict.theirs, conflict.changed].map((text) => make("td", {}, text));
      return make("tr", {}, ...cells, make("td", {}, ...(conflict.follows ? [] : [this.picker(conflict)])));
    });
    const everyone = (["mine", "theirs"] as const).map((choice) => {
      const button = this.button(`All ${choice}`, () => this.decide(conflicts, choice));
      button.dataset.key = choice;
      return button;
    });
    const review = this.button("Review with these choices", () => this.ask("review"), true);
    // A choice is answered by a new page: whoever has tabbed on by then stays where they are.
    review.dataset.key = "review";
    return [
      make("p", {}, make("b", {}, "Conflicts:"), " both sides changed these cells; they wait until you choose."),
      wide(make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows)), "Conflicts"),
      make("div", { class: "opp-bar" }, ...everyone, review),
    ];
  }

  private picker(conflict: Conflict): HTMLElement {
    const { id, column, choice } = conflict;
    const picker = make("select", { "aria-label": `${id}, ${column}: whose value`, "data-key": `${id} ${column}` });
    picker.append(...DECISIONS.map(([value, words]) => make("option", { value: value || "later" }, words)));
    picker.value = choice || "later";
    picker.addEventListener("change", () => this.decide([conflict], DECISIONS[picker.selectedIndex][0]));
    return picker;
  }

  private decide(conflicts: Conflict[], choice: Conflict["choice"]): void {
    const asked = conflicts.filter(({ follows }) => !follows);
    void this.grid.send({ do: "decide", decisions: asked.map(({ id, column }) => ({ id, column, choice })) });
  }

  private button(words: string, act: () => void, primary = false): HTMLButtonElement {
    const name = primary ? "opp-button opp-primary" : "opp-button";
    const button = make("button", { type: "button", class: name, "data-lm-suppress-shortcuts": "true" }, words);
    button.addEventListener("click", act);
    return button;
  }
}

function part(given: Paragraph | Table): HTMLElement {
  if (given.type === "paragraph") return make("p", {}, given.strong ? make("b", {}, given.text) : given.text);
  const titles = given.titles.map((title) => make("th", { scope: "col" }, title));
  const rows = given.rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows));
  table.classList.toggle("opp-figures", given.align === "right");
  return wide(table, given.titles.join(", "));
}

/** Let a table that is wider than the page be moved, by keyboard too. */
function wide(table: HTMLElement, label: string): HTMLElement {
  const element = make("div", { class: "opp-wide", tabindex: "0", role: "region" }, table);
  setAttribute(element, "aria-label", label);
  return element;
}
