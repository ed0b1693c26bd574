import type { Card } from "../messages";

export type Kind = Card["kind"];

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const UNITS: [number, string][] = [[1e9, "bn"], [1e6, "M"], [1e3, "k"]];

/** Write a number as people say it: 1.24 M, 30%, 1.9×. */
export function short(value: number | null | undefined, kind: Kind = "money"): string {
  if (value === null || value === undefined) return "—";
  if (kind === "percent") return `${Math.round(100 * value)}%`;
  if (kind === "ratio") return `${digits(value)}×`;
  if (kind === "count") return signed(value, GROUPED.format(Math.abs(Math.round(value))));
  const size = Math.abs(value);
  // What rounds up to a thousand of a unit is one of the next.
  const [unit, word] = UNITS.find(([least]) => size >= least * 0.9995) ?? [1, ""];
  return signed(value, `${digits(size / unit)}${word && "\u202f"}${word}`);
}

/** Write a number as it is. */
export function exact(value: number | null | undefined, kind: Kind, currency: string): string {
  if (value === null || value === undefined) return "missing";
  if (kind === "percent") return `${GROUPED.format(100 * value)}%`;
  const text = signed(value, GROUPED.format(Math.abs(value)));
  return kind === "money" && currency ? `${text} ${currency}` : kind === "ratio" ? `${text}×` : text;
}

/** Write how much more or less one number is than another, with its sign. */
export function change(after: number, before: number, kind: Kind): string {
  const text = kind === "percent" ? `${short(Math.abs(after - before), kind)} points` : short(Math.abs(after - before), kind);
  return `${after >= before ? "+" : "−"}${text.replace("% points", " points")}`;
}

/** One deal, two deals. */
export const counted = (count: number, thing: string): string =>
  `${GROUPED.format(count)} ${thing}${count === 1 ? "" : "s"}`;

/** A figure's own name for a row, as people say it: pushed_out is "pushed out"; an id stays in one line. */
export const words = (name: string): string => name.replace(/_/g, " ").replace(/\(id (\S+)\)$/, "(id\u00a0$1)");

const signed = (value: number, text: string): string => (value < 0 && /[1-9]/.test(text) ? `−${text}` : text);
const digits = (value: number): string =>
  value >= 100 ? GROUPED.format(Math.round(value)) : String(Number(value.toPrecision(3)));
