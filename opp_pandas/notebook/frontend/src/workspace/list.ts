import { make } from "../core/dom";
import type { Listed } from "../messages";
import { counted } from "./numbers";

const TITLES: Record<string, string> = {
  name: "Deal", id: "Deal", reasons: "Why it is here", owner_name: "Owner", stage_name: "Stage", amount: "Amount", close_date: "Close date",
};

/** Deals to be read, not edited. */
export function listOf({ columns, rows, more }: Listed): HTMLElement {
  if (!rows.length) return make("p", { class: "opp-soft" }, "No deal.");
  const look = (column: string) => (column === "amount" ? "opp-amount" : column === "reasons" ? "opp-listed-why" : "");
  const cell = (text: string, place: number) => make("td", { class: look(columns[place]) }, text);
  const head = make("tr", {}, ...columns.map((column) => make("th", { scope: "col", class: look(column) }, TITLES[column] ?? column)));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))));
  const place = make("div", { class: "opp-tabled opp-listed", tabindex: "0", role: "region", "aria-label": "Deals, table" }, table);
  return make("div", {}, place, ...(more ? [make("p", { class: "opp-soft" }, `And ${counted(more, "deal")} more: .listed has them all.`)] : []));
}
