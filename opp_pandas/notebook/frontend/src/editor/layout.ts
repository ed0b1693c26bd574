import type { Column } from "../messages";

/** Where a cell stands: row -1 is the header. */
export interface Place {
  row: number;
  column: number;
}

export const ROW_HEIGHT = 30;
export const HEAD_HEIGHT = 32;
export const ROW_HEAD_WIDTH = 64;
const OVERSCAN = 6;
const WIDTHS: Record<string, number> = { integer: 110, number: 110, instant: 140, day: 140, boolean: 90, relation: 150, tags: 150, text: 170, note: 300, other: 170 };
const WIDEST = 260;
const NARROWEST = 56;

/** How wide the columns are, which rows can be seen, and where a cell lies in what is scrolled. */
export class Layout {
  columns: Column[] = [];
  private readonly chosen = new Map<string, number>();
  private readonly scroll: HTMLElement;
  private readonly height: number;

  constructor(scroll: HTMLElement, height: number) {
    this.scroll = scroll;
    this.height = height;
    scroll.style.height = `${height}px`;
  }

  width(place: number): number {
    const field = this.columns[place];
    const usual = field.name === "name" ? 220 : WIDTHS[field.kind] ?? 150;
    // The first column stays in sight: on a phone it must leave room for another one.
    const room = place === 0 ? this.scroll.clientWidth - ROW_HEAD_WIDTH : 0;
    const most = room > 0 ? Math.max(Math.round(0.45 * room), NARROWEST) : WIDEST;
    return this.chosen.get(field.column) ?? Math.min(Math.max(usual, 8 * field.title.length + 34), WIDEST, most);
  }

  widen(place: number, width: number): void {
    this.chosen.set(this.columns[place].column, Math.max(width, NARROWEST));
  }

  left(place: number): number {
    let left = ROW_HEAD_WIDTH;
    for (let other = 0; other < place; other++) left += this.width(other);
    return left;
  }

  /** The rows that can be seen and some beside them; before anything is laid out, those that will be. */
  seen(count: number): [from: number, to: number] {
    const from = Math.max(Math.floor(this.scroll.scrollTop / ROW_HEIGHT) - OVERSCAN, 0);
    const height = this.scroll.clientHeight || this.height;
    return [from, Math.min(from + Math.ceil(height / ROW_HEIGHT) + 2 * OVERSCAN, count)];
  }

  get page(): number {
    return Math.max(Math.floor((this.scroll.clientHeight - HEAD_HEIGHT) / ROW_HEIGHT) - 1, 1);
  }

  /** Lay an element over a cell; where there is no room below it, what hangs on it goes upward. */
  lay(element: HTMLElement, { row, column }: Place): void {
    const { scrollLeft, scrollTop, clientHeight } = this.scroll;
    element.style.left = `${this.left(column) + (column === 0 ? scrollLeft : 0)}px`;
    element.style.top = `${HEAD_HEIGHT + row * ROW_HEIGHT}px`;
    element.style.width = `${this.width(column)}px`;
    const below = scrollTop + clientHeight - (HEAD_HEIGHT + (row + 1) * ROW_HEIGHT);
    element.classList.toggle("opp-upward", below < 150 && row * ROW_HEIGHT - scrollTop > 150);
  }

  /** Scroll so that a cell can be seen beside the head and the fixed columns. */
  reveal({ row, column }: Place): void {
    const { scroll } = this;
    if (row >= 0) {
      const top = row * ROW_HEIGHT, room = scroll.clientHeight - HEAD_HEIGHT;
      if (top < scroll.scrollTop) scroll.scrollTop = top;
      else if (top + ROW_HEIGHT > scroll.scrollTop + room) scroll.scrollTop = top + ROW_HEIGHT - room;
    }
    if (column === 0) {
      scroll.scrollLeft = 0;
      return;
    }
    const fixed = this.left(1), left = this.left(column) - fixed, room = scroll.clientWidth - fixed;
    if (left < scroll.scrollLeft) scroll.scrollLeft = left;
    else if (left + this.width(column) > scroll.scrollLeft + room) scroll.scrollLeft = Math.min(left, left + this.width(column) - room);
  }
}
