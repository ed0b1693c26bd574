import type { Grid } from "./grid";
import type { Place } from "./layout";

/** What people do with a mouse, a pen or a finger. */
export class Pointer {
  private dragging = false;
  private readonly grid: Grid;
  private readonly table: HTMLElement;

  constructor(grid: Grid, table: HTMLElement) {
    this.grid = grid;
    this.table = table;
    table.addEventListener("pointerdown", (event) => this.down(event));
    table.addEventListener("pointermove", (event) => this.move(event));
    table.addEventListener("dblclick", (event) => {
      if (this.cellAt(event) && grid.active.row >= 0) grid.editing.begin();
    });
    table.addEventListener("focusin", (event) => {
      const place = this.cellAt(event);
      if (place && !this.isActive(place)) grid.go(place.row, place.column, { focus: false });
    });
  }

  private cellAt(event: Event): Place | null {
    const cell = (event.target as Element).closest<HTMLElement>("[data-place]");
    if (!cell || !this.table.contains(cell)) return null;
    const row = cell.closest<HTMLElement>(".opp-row");
    return { row: row ? Number(row.dataset.index) : -1, column: Number(cell.dataset.place) };
  }

  private isActive({ row, column }: Place): boolean {
    return row === this.grid.active.row && column === this.grid.active.column;
  }

  private down(event: PointerEvent): void {
    const { grid } = this;
    const target = event.target as Element;
    if (event.button !== 0) return;
    const place = this.cellAt(event);
    if (!place) {
      const row = target.closest(".opp-rowhead") && target.closest<HTMLElement>(".opp-row");
      if (row) {
        event.preventDefault();
        grid.markRows(Number(row.dataset.index), event.shiftKey);
      }
      return;
    }
    if (target.classList.contains("opp-edge")) {
      this.resize(event, place.column);
      return;
    }
    event.preventDefault();
    const again = this.isActive(place) && place.row >= 0;
    grid.editing.editor?.commit(null);
    grid.go(place.row, place.column, { extend: event.shiftKey && place.row >= 0 });
    if (place.row < 0) {
      grid.sort(place.column);
      return;
    }
    this.dragging = true;
    addEventListener("pointerup", () => (this.dragging = false), { once: true });
    const right = grid.element(place)?.getBoundingClientRect().right ?? Infinity;
    if (grid.layout.columns[place.column].choosing && event.clientX > right - 22 && (again || event.detail === 1))
      addEventListener("pointerup", () => grid.editing.begin(), { once: true });
  }

  private move(event: PointerEvent): void {
    if (!this.dragging || !(event.buttons & 1)) return;
    const place = this.cellAt(event);
    if (place && place.row >= 0 && !this.isActive(place)) this.grid.go(place.row, place.column, { extend: true });
  }

  private resize(event: PointerEvent, column: number): void {
    event.preventDefault();
    const { grid } = this;
    const [start, width] = [event.clientX, grid.layout.width(column)];
    const move = (moved: PointerEvent) => {
      grid.layout.widen(column, width + moved.clientX - start);
      grid.drawHead();
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", () => removeEventListener("pointermove", move), { once: true });
  }
}
