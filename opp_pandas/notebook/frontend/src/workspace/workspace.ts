import { make } from "../core/dom";
import { Line, type Model } from "../core/line";
import { followTheme } from "../core/theme";
import { Grid } from "../editor/grid";
import { PanelView } from "../editor/panel";
import type { Answer, AnswerTo, Card, Pick, Picture, Request, State } from "../messages";
import { ChartView, type Host } from "./chart";
import { Filters, type Looked } from "./filters";
import { listOf } from "./list";
import { counted, exact, short, words } from "./numbers";
import { delta, drawOutlook } from "./outlook";
import { Tip } from "./tip";

const SETTLE_MS = 60;
const POLL_MS = 300;

/**
 * Numbers, charts and deals on one page: what is clicked above is listed below, what is edited below moves what is above.
 * Without an editor, as a dashboard, the list is for reading.
 */
export class Workspace implements Host {
  readonly tip = new Tip();
  currency = "";
  private picture: Picture;
  private readonly model: Model;
  private readonly line: Line<Request, AnswerTo>;
  private readonly root: HTMLElement;
  private readonly filters: Filters;
  private readonly outlook = make("div", { class: "opp-hero-place" });
  private readonly cards = make("div", { class: "opp-cards" });
  private readonly charts = make("div", { class: "opp-charts" });
  private readonly views = new Map<string, ChartView>();
  private readonly notes = make("div", { class: "opp-notes" });
  private readonly said = make("span", { class: "opp-soft", role: "status" });
  private readonly alarm = make("div", { class: "opp-alert-line", role: "alert" });
  private readonly chip = make("button", { type: "button", class: "opp-chip" });
  private readonly title = make("h3", {}, "Deals");
  private readonly deals = make("div", {});
  private readonly closing: (() => void)[] = [];
  private version: number;
  private edits = "";
  private timer = 0;
  private poll = 0;
  private readonly onState = () => this.takeState();
  // Chosen from Python.
  private readonly onPicture = () => this.take(this.model.get("picture") as Picture);

  constructor(model: Model, root: HTMLElement) {
    this.model = model;
    this.picture = model.get("picture") as Picture;
    const edited = (model.get("fields") as unknown[]).length > 0;
    this.version = (model.get("state") as State).version;
    this.line = new Line(model, () => undefined);
    this.filters = new Filters((looked) => void this.look(looked));
    const top = make("div", { class: "opp-top" }, this.filters.element, this.said);
    this.root = make("div", { class: "opp-root opp-workspace", "data-lm-suppress-shortcuts": "true" }, top, this.alarm,
      make("div", { class: "opp-front" }, this.outlook, this.cards), this.notes, this.charts);
    // Notebook 7 asks the focused element itself whether its keys are shortcuts, JupyterLab whatever holds it.
    this.root.addEventListener("focusin", (event) => (event.target as Element).setAttribute("data-lm-suppress-shortcuts", "true"));
    this.root.append(this.tip.element);
    root.append(this.root);
    this.chip.addEventListener("click", () => void this.choose(null));
    model.on("change:picture", this.onPicture);
    this.show(this.picture);
    const head = make("div", { class: "opp-deals-head" }, this.title, this.chip);
    this.root.append(make("section", { class: "opp-tile opp-deals", "aria-label": "Deals" }, head, this.deals));
    if (edited) {
      model.on("change:state", this.onState);
      this.deals.className = "opp-editor";
      const grid = new Grid(model, this.deals), panel = new PanelView(model, this.deals, grid);
      this.closing.push(() => grid.close(), () => panel.close());
    }
    this.closing.push(followTheme(this.root));
    this.askOutlook();
  }

  close(): void {
    clearTimeout(this.timer);
    clearTimeout(this.poll);
    this.line.close();
    this.filters.close();
    for (const close of this.closing) close();
    for (const view of this.views.values()) view.close();
    this.model.off("change:state", this.onState);
    this.model.off("change:picture", this.onPicture);
  }

  /** List the deals behind a number. */
  pick(pick: Pick): void {
    void this.choose(pick);
  }

  // --- asking --------------------------------------------------------------------------------------------------------

  private takeState(): void {
    const { version, pending } = this.model.get("state") as State;
    if (version === this.version) return;
    this.version = version;
    const edits = JSON.stringify(pending);
    // Sorting and filtering the list moves no number; edits do.
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.ask({ do: "figures" }), edits === this.edits ? SETTLE_MS : 0);
    this.edits = edits;
  }

  private look({ owners, stages, period, since }: Looked): Promise<void> {
    return this.ask({ do: "look", owners, stages, period, since });
  }

  private async choose(pick: Pick | null): Promise<void> {
    this.tip.hide();
    await this.ask({ do: "list", pick });
    if (pick) this.title.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  private async ask(message: Extract<Request, { do: "look" | "list" | "figures" }>): Promise<void> {
    this.root.setAttribute("aria-busy", "true");
    const answer = await this.line.ask(message);
    this.root.removeAttribute("aria-busy");
    this.complain(answer);
    if (answer.picture) this.take(answer.picture);
  }

  private take(picture: Picture): void {
    this.show(picture);
    this.askOutlook();
  }

  private askOutlook(): void {
    clearTimeout(this.poll);
    if (this.picture.outlook.state !== "computing") return;
    this.poll = window.setTimeout(() => void this.takeOutlook(), POLL_MS);
  }

  private async takeOutlook(): Promise<void> {
    const picture = this.picture;
    const { outlook } = await this.line.ask({ do: "predict" });
    if (picture !== this.picture) return;
    if (outlook) {
      picture.outlook = outlook;
      this.outlook.replaceChildren(drawOutlook(outlook, this));
    }
    this.askOutlook();
  }

  private complain(answer: Answer): void {
    this.alarm.textContent = answer.error ? `That did not work: ${answer.error}` : "";
  }

  // --- drawing --------------------------------------------------------------------------------------------------------

  private show(picture: Picture): void {
    this.picture = picture;
    this.currency = picture.currency;
    const { chosen, shown, total } = picture;
    this.filters.show(picture.options, chosen, picture.outlook.period_now);
    const of = shown === total ? counted(total, "deal") : `${shown.toLocaleString("en")} of ${counted(total, "deal")}`;
    this.said.textContent = `${of}, as of ${picture.as_of}`;
    this.outlook.replaceChildren(drawOutlook(picture.outlook, this));
    const active = (this.root.getRootNode() as Document).activeElement;
    const focused = active ? [...this.cards.children].indexOf(active) : -1;
    this.cards.replaceChildren(...picture.cards.map((card) => this.card(card)));
    if (focused >= 0) (this.cards.children[focused] as HTMLElement | undefined)?.focus();
    this.notes.replaceChildren(...picture.notes.map((note) => make("p", { class: "opp-soft" }, `${note[0].toUpperCase()}${note.slice(1)}.`)));
    const wanted = picture.charts.map((chart) => {
      const view = this.views.get(chart.figure) ?? new ChartView(this);
      this.views.set(chart.figure, view);
      if (!view.element.isConnected) this.charts.append(view.element);
      view.show(chart);
      return chart.figure;
    });
    for (const [figure, view] of this.views) view.element.hidden = !wanted.includes(figure);
    if (picture.listed) this.deals.replaceChildren(listOf(picture.listed));
    const { pick } = chosen;
    this.chip.hidden = !pick;
    if (pick) {
      const name = [words(pick.label || pick.title), pick.label ? pick.title : ""].filter(Boolean).join(": ");
      this.chip.replaceChildren(`${name} · ${counted(chosen.picked, "deal")} `, make("span", { "aria-hidden": "true" }, "✕"));
      this.chip.setAttribute("aria-label", `${name}, ${counted(chosen.picked, "deal")}: list all again`);
    }
  }

  private card(card: Card): HTMLElement {
    const value = make("span", { class: "opp-card-value" }, short(card.value, card.kind));
    const title = make("span", { class: "opp-card-title" }, card.title);
    const parts: Node[] = [title, value];
    const moved = card.before != null && card.value != null;
    if (moved) parts.push(delta(card.value as number, card.before as number, card.kind));
    if (card.note) parts.push(make("span", { class: "opp-soft" }, card.note));
    const told = exact(card.value, card.kind, this.currency);
    const { pick } = card;
    const label = `${card.title}: ${told}${moved ? `, before the edits ${exact(card.before, card.kind, this.currency)}` : ""}${card.note ? `, ${card.note}` : ""}`;
    const element = pick
      ? make("button", { type: "button", class: "opp-tile opp-card", "aria-label": `${label}: list the deals` }, ...parts)
      : make("div", { class: "opp-tile opp-card", role: "group", tabindex: "0", "aria-label": label }, ...parts);
    this.tip.over(element, () => ({ title: card.title, lines: [["now", told], ...(moved ? [["before the edits", exact(card.before, card.kind, this.currency)]] as [string, string][] : [])] }));
    if (pick) element.addEventListener("click", () => this.pick(pick));
    return element;
  }
}
