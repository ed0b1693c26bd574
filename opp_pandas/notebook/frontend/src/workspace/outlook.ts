import { scaleLinear } from "d3-scale";
import { make } from "../core/dom";
import type { Outlook } from "../messages";
import type { Host } from "./chart";
import { change, exact, short } from "./numbers";

const PARTS: ["won" | "open" | "new", string, string][] = [
  ["won", "won to date", "opp-won"],
  ["open", "open deals", "opp-open"],
  ["new", "new deals", "opp-fresh"],
];

/** The period's number: what it will bring, between what and what, of which parts, and how far the quota is. */
export function drawOutlook(outlook: Outlook, host: Host): HTMLElement {
  const write = (value: number | null | undefined) => exact(value, "money", host.currency);
  const head = make("h3", { class: "opp-hero-title" }, `${outlook.title} `, make("span", { class: "opp-period" }, outlook.period));
  const hero = make("section", { class: "opp-tile opp-hero", "aria-label": `${outlook.title} ${outlook.period}` }, head);
  if (outlook.state === "none" || outlook.mean == null) {
    const words = outlook.state === "none" ? outlook.reason : "Learning from the deals that were closed before …";
    hero.append(make("p", { class: "opp-soft" }, words ?? ""));
    return hero;
  }
  const { mean } = outlook;
  const number = make("div", { class: "opp-hero-number" }, make("span", { class: "opp-big", tabindex: "0", role: "img", "aria-label": write(mean) }, short(mean)), make("span", { class: "opp-unit" }, host.currency));
  host.tip.over(number.firstElementChild as HTMLElement, () => ({
    title: `${outlook.title} ${outlook.period}`,
    lines: [
      ["expected", write(mean)],
      ...(outlook.low != null ? [["80% between", write(outlook.low)], ["and", write(outlook.high)]] as [string, string][] : []),
      ...PARTS.flatMap(([name, words]): [string, string][] => (outlook[name] == null ? [] : [[words, write(outlook[name])]])),
      ...(outlook.before != null ? [["before the edits", write(outlook.before)]] as [string, string][] : []),
    ],
  }));
  if (outlook.before != null && Math.abs(outlook.before - mean) >= 0.5) number.append(delta(mean, outlook.before));
  if (outlook.state === "computing") number.append(make("span", { class: "opp-soft opp-busy" }, "updating …"));
  hero.append(number);
  if (outlook.low != null)
    hero.append(make("p", { class: "opp-between" }, `80% between ${short(outlook.low)} and ${short(outlook.high)}`));
  hero.append(track(outlook));
  const parts = PARTS.filter(([name]) => outlook[name] != null);
  if (parts.length)
    hero.append(make("div", { class: "opp-legend" }, ...parts.map(([name, words, tone]) => make("span", { class: "opp-key" }, make("i", { class: `opp-swatch ${tone}` }), `${words} ${short(outlook[name])}`))));
  if (outlook.quota != null) {
    const chance = (outlook.won ?? 0) >= outlook.quota ? " · reached already" : outlook.p_quota == null ? "" : ` · reached with ${chanceWords(outlook.p_quota)}`;
    hero.append(make("p", { class: "opp-quota-words" }, make("i", { class: "opp-swatch opp-quota" }), `Quota ${short(outlook.quota)}${chance}`));
  }
  if (outlook.tested) hero.append(make("p", { class: "opp-soft" }, `${outlook.tested[0].toUpperCase()}${outlook.tested.slice(1)}.`));
  return hero;
}

/** How much a number was moved by the edits that wait. */
export function delta(after: number, before: number, kind: "money" | "count" | "percent" | "ratio" = "money"): HTMLElement {
  const up = after >= before;
  return make("span", { class: `opp-delta ${up ? "opp-up" : "opp-down"}` }, make("span", { "aria-hidden": "true" }, up ? "▲ " : "▼ "), `${change(after, before, kind)} by edits`);
}

function chanceWords(chance: number): string {
  if (chance > 0 && chance < 0.01) return "less than 1% chance";
  if (chance < 1 && chance > 0.99) return "more than 99% chance";
  return `${Math.round(100 * chance)}% chance`;
}

function track(outlook: Outlook): HTMLElement {
  const { won, open, mean, low, high, quota } = outlook;
  const reach = Math.max(mean ?? 0, high ?? 0, 1);
  const x = scaleLinear([0, quota != null && quota < 3 * reach ? Math.max(reach, quota) * 1.04 : reach * 1.04], [0, 100]).clamp(true);
  const element = make("div", { class: "opp-track opp-hero-track", "aria-hidden": "true" });
  let level = 0;
  for (const [name, , tone] of PARTS) {
    const value = outlook[name] ?? (name === "open" && won == null && open == null ? mean : 0) ?? 0;
    element.append(piece(`opp-part ${tone}`, x(level), x(level + value)));
    level += value;
  }
  if (low != null && high != null) element.append(piece("opp-whisker", x(low), x(high)));
  if (quota != null) {
    const tick = make("span", { class: `opp-tick opp-quota${quota > x.domain()[1] ? " opp-beyond" : ""}` });
    tick.style.left = `${x(quota)}%`;
    element.append(tick);
  }
  return element;
}

function piece(name: string, from: number, to: number): HTMLElement {
  const element = make("span", { class: name });
  element.style.left = `${from}%`;
  element.style.width = `${Math.max(to - from, 0)}%`;
  return element;
}
