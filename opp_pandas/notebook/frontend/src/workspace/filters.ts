import { make } from "../core/dom";
import type { Chosen, Options } from "../messages";

export interface Looked {
  owners: string[];
  stages: string[];
  period: string;
  since: string;
}

/** A button that opens a list of boxes to tick, with a search where it is long. */
class Several {
  readonly element: HTMLElement;
  private options = "";
  private readonly name: string;
  private readonly onChange: () => void;
  private readonly button = make("button", { type: "button", class: "opp-button", "aria-expanded": "false", "aria-haspopup": "dialog" });
  private readonly search: HTMLInputElement;
  private readonly list: HTMLElement;
  private readonly panel: HTMLElement;

  constructor(name: string, onChange: () => void) {
    this.name = name;
    this.onChange = onChange;
    this.search = make("input", { type: "search", class: "opp-filter", placeholder: "Search", "aria-label": `Search ${name}` });
    this.list = make("div", { class: "opp-boxes", role: "group", "aria-label": name });
    const none = make("button", { type: "button", class: "opp-link" }, "All");
    this.panel = make("div", { class: "opp-popover" }, make("div", { class: "opp-chart-head" }, this.search, none), this.list);
    this.panel.hidden = true;
    this.element = make("div", { class: "opp-several" }, this.button, this.panel);
    this.button.addEventListener("click", () => this.open(this.panel.hidden === true));
    none.addEventListener("click", () => {
      for (const box of this.boxes()) box.checked = false;
      onChange();
    });
    this.search.addEventListener("input", () => this.sift());
    this.element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.panel.hidden) return;
      event.stopPropagation();
      this.open(false);
      this.button.focus();
    });
    this.element.addEventListener("focusout", (event) => {
      const next = event.relatedTarget as Node | null;
      if (next && !this.element.contains(next)) this.open(false);
    });
  }

  get chosen(): string[] {
    return this.boxes().filter((box) => box.checked).map((box) => box.value);
  }

  show(options: string[], chosen: string[]): void {
    if (this.options !== options.join("\n")) {
      this.options = options.join("\n");
      this.list.replaceChildren(...options.map((option) => {
        const box = make("input", { type: "checkbox" });
        box.value = option;
        box.addEventListener("change", () => this.onChange());
        return make("label", {}, box, option);
      }));
      this.search.hidden = options.length < 10;
      this.sift();
    }
    for (const box of this.boxes()) box.checked = chosen.includes(box.value);
    const words = chosen.length === 1 ? chosen[0] : chosen.length ? `${chosen.length} of ${options.length}` : "all";
    this.button.replaceChildren(make("span", { class: "opp-soft" }, this.name), ` ${words} `, make("span", { "aria-hidden": "true" }, "▾"));
    this.button.classList.toggle("opp-on", chosen.length > 0);
  }

  close(target: Node): void {
    if (!this.element.contains(target)) this.open(false);
  }

  private boxes(): HTMLInputElement[] {
    return [...this.list.querySelectorAll("input")];
  }

  private open(open: boolean): void {
    this.panel.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (open) (this.search.hidden ? this.boxes()[0] : this.search)?.focus();
  }

  private sift(): void {
    const typed = this.search.value.toLocaleLowerCase();
    for (const label of this.list.children)
      (label as HTMLElement).hidden = !(label.textContent ?? "").toLocaleLowerCase().includes(typed);
  }
}

/** Teams, owners, stages, period, and the snapshot that changes are told from. */
export class Filters {
  readonly element: HTMLElement;
  private inTeam: Record<string, string[]> = {};
  private readonly teams: Several;
  private readonly owners: Several;
  private readonly stages: Several;
  private readonly period = make("select", { class: "opp-button", "aria-label": "Period" });
  private readonly since = make("select", { class: "opp-button", "aria-label": "Changes since" });
  private readonly sinceBox: HTMLElement;
  private readonly all = make("button", { type: "button", class: "opp-link" }, "Show all");
  private readonly onPress: (event: Event) => void;

  constructor(onLook: (looked: Looked) => void) {
    const changed = () =>
      onLook({ owners: this.owners.chosen, stages: this.stages.chosen, period: this.period.value, since: this.since.value });
    this.owners = new Several("Owners", changed);
    // A team is its owners: they are ticked, and can be changed one by one.
    this.teams = new Several("Teams", () => {
      const inside = new Set(this.teams.chosen.flatMap((team) => this.inTeam[team]));
      onLook({ owners: [...inside], stages: this.stages.chosen, period: this.period.value, since: this.since.value });
    });
    this.stages = new Several("Stages", changed);
    this.sinceBox = make("label", { class: "opp-choose" }, make("span", { class: "opp-soft" }, "Changes since"), this.since);
    this.element = make("div", { class: "opp-filters", role: "group", "aria-label": "Which deals" },
      make("label", { class: "opp-choose" }, make("span", { class: "opp-soft" }, "Period"), this.period),
      this.teams.element, this.owners.element, this.stages.element, this.sinceBox, this.all);
    for (const select of [this.period, this.since]) select.addEventListener("change", changed);
    this.all.addEventListener("click", () => onLook({ owners: [], stages: [], period: "", since: "" }));
    // In a shadow, as in marimo, the page's own target would be its host.
    this.onPress = (event) => {
      for (const several of [this.teams, this.owners, this.stages]) several.close(event.composedPath()[0] as Node);
    };
    document.addEventListener("pointerdown", this.onPress);
  }

  close(): void {
    document.removeEventListener("pointerdown", this.onPress);
  }

  show(options: Options, chosen: Chosen, now: string): void {
    this.inTeam = options.teams;
    const teams = Object.keys(options.teams);
    this.teams.show(teams, teams.filter((team) => options.teams[team].every((owner) => chosen.owners.includes(owner))));
    this.teams.element.hidden = !teams.length;
    this.owners.show(options.owners, chosen.owners);
    this.stages.show(options.stages, chosen.stages);
    this.owners.element.hidden = !options.owners.length;
    fill(this.period, [["", `${now} (now)`], ...options.periods.filter((name) => name !== now).map((name): [string, string] => [name, name])], chosen.period === now ? "" : chosen.period);
    fill(this.since, options.since.map((name, place): [string, string] => [place ? name : "", place ? name : `${name} (last)`]), chosen.since);
    this.sinceBox.hidden = !options.since.length;
    this.all.hidden = !(chosen.owners.length || chosen.stages.length || chosen.period || chosen.since);
  }
}

function fill(select: HTMLSelectElement, options: [value: string, text: string][], chosen: string): void {
  const wanted = options.map(([value, text]) => `${value}\t${text}`).join("\n");
  if (select.dataset.options !== wanted) {
    select.dataset.options = wanted;
    select.replaceChildren(...options.map(([value, text]) => {
      const option = make("option", {}, text);
      option.value = value;
      return option;
    }));
  }
  select.value = chosen;
}
