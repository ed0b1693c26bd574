import { scaleBand, scaleLinear } from "d3-scale";
import { make, makeShape } from "../core/dom";
import type { Bar, Chart, Pick, Series } from "../messages";
import { exact, short, words } from "./numbers";
import { rove, type Telling, type Tip } from "./tip";

export interface Host {
  tip: Tip;
  currency: string;
  pick(pick: Pick): void;
}

const HEIGHT = 250;
const MARGIN = { top: 12, right: 8, bottom: 26, left: 54 };
const LETTER = 7.2;

/** One chart with its legend, and the same as a table. */
export class ChartView {
  readonly element: HTMLElement;
  private chart: Chart | null = null;
  private asTable = false;
  private width = 0;
  private scrolled = 0;
  private readonly host: Host;
  private readonly body = make("div", { class: "opp-chart-body" });
  private readonly title = make("h4", { class: "opp-chart-title" });
  private readonly legend = make("div", { class: "opp-legend" });
  private readonly toggle = make("button", { type: "button", class: "opp-link", "aria-pressed": "false" }, "Table");
  private readonly summary = make("p", { class: "opp-hearable" });
  private readonly resized: ResizeObserver;

  constructor(host: Host) {
    this.host = host;
    const head = make("div", { class: "opp-chart-head" }, this.title, this.toggle);
    this.element = make("section", { class: "opp-tile opp-chart" }, head, this.summary, this.legend, this.body);
    this.toggle.addEventListener("click", () => {
      this.asTable = !this.asTable;
      this.toggle.setAttribute("aria-pressed", String(this.asTable));
      this.draw();
    });
    // The observer tells the width: asking the element itself would lay out the whole page for every chart.
    this.resized = new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === this.width) return;
      this.width = contentRect.width;
      this.draw();
    });
    this.resized.observe(this.body);
    // Heard, as a scroll does not bubble, rather than asked when all is drawn anew.
    this.body.addEventListener("scroll", (event) => (this.scrolled = (event.target as Element).scrollTop), true);
  }

  close(): void {
    this.resized.disconnect();
  }

  show(chart: Chart): void {
    this.chart = chart;
    this.element.dataset.figure = chart.figure;
    this.title.textContent = chart.title;
    this.toggle.setAttribute("aria-label", `Table: ${chart.title}`);
    this.summary.textContent = chart.summary;
    this.draw();
  }

  private draw(): void {
    const chart = this.chart;
    if (!chart) return;
    const active = (this.body.getRootNode() as Document).activeElement;
    const focused = this.body.contains(active) ? (active as HTMLElement).dataset.label : null;
    this.legend.replaceChildren(...(chart.series.length > 1 && !this.asTable ? this.legendOf(chart) : []));
    const drawn = this.asTable ? this.table(chart) : !chart.bars.length ? make("p", { class: "opp-soft" }, "Nothing to show.")
      : chart.form === "columns" ? this.columns(chart) : chart.form === "bridge" ? this.bridge(chart) : this.bars(chart);
    this.body.replaceChildren(drawn, ...(chart.note ? [make("p", { class: "opp-soft" }, chart.note)] : []));
    if (this.scrolled) drawn.scrollTop = this.scrolled;
    if (focused != null) this.body.querySelector<HTMLElement>(`[data-label="${CSS.escape(focused)}"]`)?.focus();
  }

  private legendOf(chart: Chart): HTMLElement[] {
    const keys = chart.series.map((series) => key(series.tone, series.title));
    if (chart.bars.some((bar) => bar.mark !== undefined)) keys.push(key("mark", "forecast"));
    if (chart.bars.some((bar) => bar.low != null)) keys.push(key("spread", "80% interval"));
    if (chart.bars.some((bar) => bar.quota !== undefined)) keys.push(key("quota", "quota"));
    if (chart.bars.some((bar) => moved(bar))) keys.push(key("was", "before the edits"));
    return keys;
  }

  // --- what a bar says and does ---------------------------------------------------------------------------------------

  private tell(chart: Chart, bar: Bar): Telling {
    const write = (value: number | null | undefined) => exact(value, chart.kind, this.host.currency);
    const lines: [string, string][] = [];
    if (bar.mark !== undefined) lines.push(["forecast", write(bar.mark)]);
    chart.series.forEach((series, place) => {
      const was = bar.before?.[place];
      lines.push([series.title, write(bar.values[place])]);
      if (was !== undefined && was !== bar.values[place]) lines.push(["", `was ${write(was)}`]);
    });
    if (bar.low != null) lines.push(["80% between", `${short(bar.low)} and ${short(bar.high)}`]);
    if (bar.count !== undefined && bar.count !== null) lines.push(["deals", String(bar.count)]);
    if (bar.quota !== undefined) lines.push(["quota", write(bar.quota)]);
    if (bar.note) lines.push(["", bar.note]);
    return { title: words(bar.label), lines };
  }

  private live<E extends HTMLElement | SVGElement>(element: E, chart: Chart, bar: Bar): E {
    const telling = this.tell(chart, bar);
    element.setAttribute("aria-label", `${telling.title}: ${telling.lines.map((line) => line.filter(Boolean).join(" ")).join(", ")}`);
    element.dataset.label = bar.label;
    this.host.tip.over(element, () => telling);
    const choose = (series: Series) => this.host.pick(pickOf(chart, series, bar));
    element.addEventListener("click", (event) => {
      const column = (event.target as HTMLElement).dataset.series;
      choose(chart.series.find((series) => series.column === column) ?? mainOf(chart, bar));
    });
    if (element instanceof SVGElement)
      element.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose(mainOf(chart, bar));
      });
    return element;
  }

  // --- pictures ---------------------------------------------------------------------------------------------------------

  private columns(chart: Chart): Element {
    const width = Math.max(this.width, 200), { bars } = chart;
    const [low, high] = extent(chart);
    const y = scaleLinear([low, high], [HEIGHT - MARGIN.bottom, MARGIN.top]).nice(4);
    const x = scaleBand(bars.map((bar) => bar.label), [MARGIN.left, width - MARGIN.right]).paddingInner(0.28).paddingOuter(0.1);
    const svg = makeShape("svg", { width, height: HEIGHT, role: "group", "aria-label": chart.title });
    for (const tick of y.ticks(4)) {
      svg.append(makeShape("line", { class: "opp-rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }));
      svg.append(makeShape("text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, short(tick, chart.kind)));
    }
    const longest = Math.max(...bars.map((bar) => bar.label.length)) * LETTER + 8;
    const every = Math.max(1, Math.ceil(longest / x.step()));
    const focus = Math.max(bars.findIndex((bar) => bar.focus), 0);
    const items = bars.map((bar, place) => {
      const left = x(bar.label) as number, wide = x.bandwidth();
      const group = makeShape("g", { class: `opp-column${bar.focus ? " opp-now" : ""}`, role: "button" });
      group.append(makeShape("rect", { class: "opp-hit", x: left - 2, y: MARGIN.top - 8, width: wide + 4, height: HEIGHT - MARGIN.top - 12 }));
      for (const part of parts(chart, bar.values)) {
        const [top, bottom] = [y(Math.max(part.from, part.to)), y(Math.min(part.from, part.to))];
        if (bottom - top < 0.01) continue;
        const shape = { x: left, y: top, width: wide, height: Math.max(bottom - top, 1), rx: 2, "data-series": part.series.column };
        group.append(makeShape("rect", { class: `opp-${part.series.tone}`, ...shape }));
      }
      const line = (name: string, value: number) =>
        group.append(makeShape("line", { class: `opp-${name}`, x1: left - 3, x2: left + wide + 3, y1: y(value), y2: y(value) }));
      if (bar.quota != null) line("quota", bar.quota);
      if (moved(bar) && bar.mark_before != null) line("was", bar.mark_before);
      if (bar.low != null && bar.high != null) {
        const middle = left + wide / 2, ends = [y(bar.low), y(bar.high)];
        group.append(makeShape("path", { class: "opp-spread", d: `M${middle} ${ends[0]}V${ends[1]}${ends.map((end) => `M${middle - 4} ${end}h8`).join("")}` }));
      }
      if (bar.mark != null) {
        const [middle, level, size] = [left + wide / 2, y(bar.mark), 5];
        group.append(makeShape("path", { class: "opp-mark", d: `M${middle - size} ${level}L${middle} ${level - size}L${middle + size} ${level}L${middle} ${level + size}z` }));
      }
      if ((place - focus) % every === 0)
        group.append(makeShape("text", { x: left + wide / 2, y: HEIGHT - 8, "text-anchor": "middle" }, bar.label));
      return this.live(group, chart, bar);
    });
    svg.append(makeShape("line", { class: "opp-axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(0), y2: y(0) }), ...items);
    rove(items, ["ArrowLeft", "ArrowRight"]);
    return svg;
  }

  private bars(chart: Chart): HTMLElement {
    const [low, high] = extent(chart);
    const x = scaleLinear([low, high], [0, 100]);
    return this.rows(chart, (bar) => {
      const track = make("span", { class: "opp-track" });
      for (const part of parts(chart, bar.values)) track.append(span(`opp-${part.series.tone}`, x(part.from), x(part.to), part.series.column));
      if (bar.quota != null) track.append(at("opp-quota", x(bar.quota)));
      if (moved(bar)) track.append(at("opp-was", x(bar.mark_before ?? bar.before?.[bar.before.length - 1] ?? 0)));
      return [track, short(bar.mark ?? mainValue(chart, bar), chart.kind)];
    });
  }

  private bridge(chart: Chart): HTMLElement {
    let level = 0;
    const steps = chart.bars.map((bar, place) => {
      const value = bar.values[0] ?? 0, whole = place === 0 || place === chart.bars.length - 1;
      const from = whole ? 0 : level;
      level = from + value;
      return { from, to: level, whole };
    });
    const ends = [0, ...steps.flatMap((step) => [step.from, step.to])];
    // The moves are what matters: where they are small beside the pipeline, the picture begins near it.
    const inner = steps.filter((step) => !step.whole).flatMap((step) => [step.from, step.to]);
    const [lowest, highest] = [Math.min(...inner), Math.max(...ends)];
    const base = inner.length && lowest > 0 && highest - lowest < 0.5 * highest ? Math.max(0, lowest - 0.25 * (highest - lowest)) : Math.min(...ends);
    const x = scaleLinear([base, highest], [0, 100]).clamp(true);
    const tones: Record<string, string> = { won: "won", lost: "lost" };
    const element = this.rows(chart, (bar, place) => {
      const { from, to, whole } = steps[place];
      const tone = whole ? "base" : (tones[bar.label] ?? (to < from ? "loss" : "gain"));
      const track = make("span", { class: "opp-track" }, span(`opp-${tone}`, x(Math.min(from, to)), x(Math.max(from, to)), "amount"));
      const value = bar.values[0] ?? 0;
      return [track, whole || value <= 0 ? short(value, chart.kind) : `+${short(value, chart.kind)}`];
    });
    if (base > 0) element.append(make("p", { class: "opp-soft" }, `Bars begin at ${short(base, chart.kind)}.`));
    return element;
  }

  private rows(chart: Chart, draw: (bar: Bar, place: number) => [Element, string]): HTMLElement {
    const items = chart.bars.map((bar, place) => {
      const [track, value] = draw(bar, place);
      const label = make("span", { class: "opp-row-label" }, words(bar.label));
      const row = make("button", { type: "button", class: `opp-barrow${bar.focus ? " opp-now" : ""}` }, label, track, make("span", { class: "opp-row-value" }, value));
      return this.live(row, chart, bar);
    });
    rove(items, ["ArrowUp", "ArrowDown"]);
    return make("div", { class: "opp-barrows" }, ...items);
  }

  private table(chart: Chart): HTMLElement {
    const write = (value: number | null | undefined) => exact(value, chart.kind, "");
    const named = chart.kind === "money" && this.host.currency ? ` [${this.host.currency}]` : "";
    const marks = chart.bars.some((bar) => bar.mark !== undefined), quotas = chart.bars.some((bar) => bar.quota !== undefined);
    const counts = chart.bars.some((bar) => bar.count != null), notes = chart.bars.some((bar) => bar.note);
    const heads = [...chart.series.map((series) => series.title), ...(marks ? ["forecast"] : []), ...(quotas ? ["quota"] : []), ...(counts ? ["deals"] : []), ...(notes ? ["note"] : [])];
    const head = make("tr", {}, make("td"), ...heads.map((title) => make("th", { scope: "col" }, title)));
    const rows = chart.bars.map((bar) => {
      const cells = chart.series.map((series, place) => {
        const button = make("button", { type: "button", class: "opp-link", "aria-label": `${words(bar.label)}, ${series.title}: ${write(bar.values[place])}, list the deals` }, write(bar.values[place]));
        button.addEventListener("click", () => this.host.pick(pickOf(chart, series, bar)));
        const was = bar.before?.[place];
        return make("td", {}, button, ...(was !== undefined && was !== bar.values[place] ? [make("small", {}, ` was ${write(was)}`)] : []));
      });
      if (marks) cells.push(make("td", {}, write(bar.mark)));
      if (quotas) cells.push(make("td", {}, bar.quota == null ? "" : write(bar.quota)));
      if (counts) cells.push(make("td", {}, String(bar.count ?? "")));
      if (notes) cells.push(make("td", { class: "opp-note" }, bar.note ?? ""));
      return make("tr", {}, make("th", { scope: "row" }, words(bar.label)), ...cells);
    });
    const table = make("table", {}, make("caption", {}, `${chart.title}${named}`), make("thead", {}, head), make("tbody", {}, ...rows));
    return make("div", { class: "opp-tabled", tabindex: "0", role: "region", "aria-label": `${chart.title}, table` }, table);
  }
}

interface Part {
  series: Series;
  from: number;
  to: number;
}

/** Where the parts of a bar lie: won first, open from there on, the weighted part of it inside. */
function parts(chart: Chart, values: (number | null)[]): Part[] {
  const won = chart.series.findIndex((series) => series.tone === "won");
  const base = won < 0 ? 0 : (values[won] ?? 0);
  const found = chart.series.map((series, place) => {
    const from = place === won ? 0 : base;
    return { series, from, to: from + (values[place] ?? 0) };
  });
  // What is inside is drawn last.
  return found.sort((one, other) => Math.abs(other.to - other.from) - Math.abs(one.to - one.from));
}

function extent(chart: Chart): [number, number] {
  const ends = chart.bars.flatMap((bar) => [
    ...parts(chart, bar.values).map((part) => part.to), bar.mark ?? 0, bar.mark_before ?? 0, bar.high ?? 0,
  ]);
  const high = Math.max(0, ...ends);
  // A quota far above everything would press all bars flat.
  const quotas = chart.bars.flatMap((bar) => (bar.quota != null && bar.quota <= 3 * high ? [bar.quota] : []));
  return [Math.min(0, ...ends), Math.max(high, ...quotas) || 1];
}

const pickOf = (chart: Chart, series: Series, bar: Bar): Pick =>
  ({ figure: chart.figure, column: series.column, label: bar.label, title: series.title });
const moved = (bar: Bar): boolean =>
  (bar.before ?? []).some((was, place) => was !== bar.values[place]) && (bar.before ?? []).length > 0;
const mainOf = (chart: Chart, bar: Bar): Series =>
  [...chart.series].reverse().find((series) => bar.values[chart.series.indexOf(series)]) ?? chart.series[0];
const mainValue = (chart: Chart, bar: Bar): number | null => bar.values[chart.series.indexOf(mainOf(chart, bar))];

const key = (tone: string, title: string): HTMLElement =>
  make("span", { class: "opp-key" }, make("i", { class: `opp-swatch opp-${tone}` }), title);

function span(name: string, from: number, to: number, series: string): HTMLElement {
  const element = make("span", { class: `opp-part ${name}`, "data-series": series });
  element.style.left = `${Math.min(from, to)}%`;
  element.style.width = `${Math.abs(to - from)}%`;
  return element;
}

function at(name: string, place: number): HTMLElement {
  const element = make("span", { class: `opp-tick ${name}` });
  element.style.left = `${Math.min(Math.max(place, 0), 100)}%`;
  if (place > 100) element.classList.add("opp-beyond");
  return element;
}
