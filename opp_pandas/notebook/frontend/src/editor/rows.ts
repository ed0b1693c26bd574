import type { Column, Marked, Row, RowsAnswer, State } from "../messages";

/** A cell as the page keeps it: `sending` until Python has answered. */
export interface ShownCell extends Marked {
  sending?: boolean;
}
export type Cell = string | ShownCell | null;
/** A row as the page keeps it: `touched` until it has been drawn anew. */
export interface ShownRow extends Omit<Row, "cells"> {
  cells: Cell[];
  touched?: boolean;
}

/** A cell's text, whether it came bare or with marks. */
export const textOf = (cell: Cell): string | null => (cell !== null && typeof cell === "object" ? cell.text : cell);
export const marksOf = (cell: Cell): Partial<ShownCell> => (cell !== null && typeof cell === "object" ? cell : {});

/** How a text is shown: digits in groups of three, line breaks as a sign. */
export function shownText(text: string | null, field: Column): string {
  if (text === null) return "—";
  if (text === "") return "“”";
  if (field.kind === "integer" && !/(^|_)id$/.test(field.name)) return text.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return text.replace(/\r\n|\r|\n/g, " ↵ ");
}

/** How a text is named for people who listen. */
export const spokenText = (text: string | null | undefined): string =>
  (text === null || text === undefined ? "missing" : text === "" ? "empty text" : text);

/** The rows that were fetched, by where they stand. */
export class RowCache {
  private known = new Map<number, ShownRow>();
  private view = -1;
  private version = -1;
  private columns = "";

  clear(): void {
    this.known = new Map();
    this.view = -1;
    this.version = -1;
    this.columns = "";
  }

  [Symbol.iterator](): MapIterator<[number, ShownRow]> {
    return this.known.entries();
  }

  get(index: number): ShownRow | undefined {
    return this.known.get(index);
  }

  /** Where a row stands by its own number; -1 where it is not here. */
  indexOf(number: number): number {
    for (const [index, { row }] of this.known) if (row === number) return index;
    return -1;
  }

  /** Whether these rows are here as they are now. */
  covers(from: number, to: number, state: State): boolean {
    if (this.version !== state.version || this.columns !== state.columns.join("\n")) return false;
    for (let index = from; index < to; index++) if (!this.known.has(index)) return false;
    return true;
  }

  take(answer: RowsAnswer): void {
    const columns = answer.columns.join("\n");
    if (this.view !== answer.view || this.version !== answer.version || this.columns !== columns) this.known = new Map();
    [this.view, this.version, this.columns] = [answer.view, answer.version, columns];
    answer.rows.forEach((row, place) => this.known.set(answer.start + place, row));
  }
}

