import { icon, make, setAttribute } from "../core/dom";
import type { Column, State } from "../messages";
import { type Cell, marksOf, type ShownRow, shownText, spokenText, textOf } from "./rows";

/** What there is to know of a column. */
export const headFacts = (field: Column, zone: string): string[] =>
  [field.meaning, field.locked, field.kind === "instant" ? `times in ${zone}` : ""].filter(Boolean);

/** Fill the header with its columns, using the cells that are there. */
export function fillHead(head: HTMLElement, columns: Column[], { sort, descending, zone }: State): void {
  while (head.children.length > columns.length + 1) head.lastElementChild?.remove();
  if (!head.firstChild) head.append(make("div", { class: "opp-corner", role: "columnheader", "aria-colindex": "1" }, "Row"));
  columns.forEach((field, place) => {
    let cell = head.children[place + 1] as HTMLElement | undefined;
    if (!cell) {
      cell = make("div", { class: "opp-headcell", role: "columnheader", tabindex: "-1", "aria-colindex": place + 2 });
      cell.append(make("span", { class: "opp-title" }), make("span", { class: "opp-arrow", "aria-hidden": "true" }));
      cell.append(make("span", { class: "opp-edge", "aria-hidden": "true" }));
      head.append(cell);
    }
    Object.assign(cell.dataset, { place: String(place), column: field.column, kind: field.kind });
    const sorted = sort === field.column ? (descending ? "descending" : "ascending") : null;
    setAttribute(cell, "aria-sort", sorted);
    setAttribute(cell, "title", headFacts(field, zone).join("\n"));
    const [title, arrow] = cell.querySelectorAll("span");
    title.textContent = field.title;
    arrow.textContent = sorted ? (descending ? "▼" : "▲") : "";
    cell.classList.toggle("opp-locked", Boolean(field.locked));
    const locked = cell.querySelector(".opp-icon");
    if (field.locked && !locked) cell.insertBefore(icon("lock"), cell.firstChild);
    else if (!field.locked) locked?.remove();
  });
}

/** Make the elements of a row that is not filled yet. */
export function makeRow(index: number, columns: Column[]): HTMLElement {
  const cells = columns.map((field, place) => {
    const attributes = { class: "opp-cell", role: "gridcell", tabindex: "-1", "aria-colindex": place + 2 };
    const cell = make("div", attributes, make("span", { class: "opp-text" }));
    Object.assign(cell.dataset, { place: String(place), column: field.column, kind: field.kind });
    return cell;
  });
  const head = make("div", { class: "opp-rowhead", role: "rowheader", "aria-colindex": "1" });
  return make("div", { class: "opp-row", role: "row", "aria-rowindex": index + 2, "data-index": index }, head, ...cells);
}

export function fillRow(element: HTMLElement, index: number, row: ShownRow, columns: Column[]): void {
  const [head, ...cells] = element.children as Iterable<Element> as Iterable<HTMLElement>;
  fillRowHead(head, index, row);
  cells.forEach((cell, place) => fillCell(cell, row, row.cells[place], columns[place]));
  element.classList.toggle("opp-deleted", row.state === "deleted");
}

function fillRowHead(head: HTMLElement, index: number, row: ShownRow): void {
  const said: [string, string | undefined | false][] = [
    ["!", row.problem],
    ["+", row.state === "new" && "new deal"],
    ["✕", row.state === "deleted" && "will be deleted"],
    ["◆", row.cells.some((cell) => "was" in marksOf(cell)) && "changed"],
  ];
  const marks = said.filter(([, word]) => word).map(([mark]) => mark);
  const words = said.map(([, word]) => word).filter((word) => typeof word === "string");
  if (row.lock && row.state !== "deleted") words.push(row.lock);
  head.replaceChildren(make("span", { class: "opp-number" }, String(index + 1)));
  if (row.lock && row.state !== "deleted") head.prepend(icon("lock"));
  if (marks.length) head.prepend(make("span", { class: "opp-marks", "aria-hidden": "true" }, marks.join("")));
  setAttribute(head, "aria-label", [`row ${index + 1}`, ...words].join(", "));
  setAttribute(head, "title", words.join("\n"));
  head.classList.toggle("opp-problem", Boolean(row.problem));
}

function fillCell(cell: HTMLElement, row: ShownRow, value: Cell, field: Column): void {
  const text = textOf(value), marks = marksOf(value);
  if (cell.firstElementChild) cell.firstElementChild.textContent = shownText(text, field);
  const lock = field.locked || row.lock || marks.lock;
  cell.classList.toggle("opp-missing", text === null || text === "");
  cell.classList.toggle("opp-changed", "was" in marks);
  cell.classList.toggle("opp-problem", Boolean(marks.problem));
  cell.classList.toggle("opp-locked", Boolean(lock));
  cell.classList.toggle("opp-sending", Boolean(marks.sending));
  setAttribute(cell, "aria-readonly", lock ? "true" : null);
  setAttribute(cell, "aria-invalid", marks.problem ? "true" : null);
  setAttribute(cell, "aria-label", text === null || text === "" ? spokenText(text) : null);
  const facts = ["was" in marks && `changed, was ${spokenText(marks.was)}`, marks.problem, marks.lock].filter(Boolean);
  setAttribute(cell, "aria-description", facts.join("; "));
  setAttribute(cell, "title", [text !== null && text.length > 20 ? text : "", ...facts].filter(Boolean).join("\n"));
}

/** Say what a tooltip says of a cell, for people without a mouse. */
export function detailOf(field: Column, row: ShownRow | undefined, cell: Cell | undefined): (string | HTMLElement)[] {
  const parts: (string | HTMLElement)[] = [make("b", {}, `${field.title}: `)];
  if (cell === undefined) return parts;
  const marks = marksOf(cell);
  parts.push(spokenText(textOf(cell)).slice(0, 400));
  if ("was" in marks) parts.push(make("span", { class: "opp-was" }, `  was ${spokenText(marks.was).slice(0, 200)}`));
  const words = marks.problem || row?.problem;
  if (words) parts.push(make("span", { class: "opp-why" }, `  ${words}`));
  const lock = marks.lock || row?.lock || field.locked;
  if (lock) parts.push(make("span", { class: "opp-lockword" }, `  ${lock}`));
  return parts;
}
