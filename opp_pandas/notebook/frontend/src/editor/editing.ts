import type { Column } from "../messages";
import { CellEditor, type Move } from "./cell-editor";
import type { Grid } from "./grid";
import type { Place } from "./layout";
import { marksOf, type ShownRow, textOf } from "./rows";

/** A cell by what it is of, wherever its row and column stand. */
interface Of {
  row: ShownRow;
  field: Column;
}
interface Refused extends Of {
  text: string | null;
  reason: string;
}
/** What waits for rows: the first key of the active cell and those after it, or what was refused. */
interface Awaited {
  typed?: string;
  keys: KeyboardEvent[];
  refused?: Refused;
}

const MOVES: Record<Move, [rows: number, columns: number]> = { down: [1, 0], right: [0, 1], left: [0, -1], stay: [0, 0] };

/** The one cell that is edited: from its first key until Python has taken it or said why not. */
export class Editing {
  editor: CellEditor | null = null;
  private of: Of | null = null;
  private awaited: Awaited | null = null;
  private readonly grid: Grid;

  constructor(grid: Grid) {
    this.grid = grid;
  }

  begin(typed?: string): void {
    const { grid } = this, { active } = grid;
    if (active.row < 0) return;
    grid.unsay();
    if (grid.state.busy) {
      grid.say(grid.state.busy, true);
      return;
    }
    const row = grid.rows.get(active.row), field = grid.layout.columns[active.column];
    if (!row) {
      // The row is on its way: what is typed meanwhile must not be lost.
      this.awaited = { typed, keys: [] };
      return;
    }
    this.awaited = null;
    const cell = row.cells[active.column];
    const lock = row.lock || marksOf(cell).lock || field.locked;
    if (lock) {
      grid.say(lock, true);
      grid.refusals.bubble(active, lock);
    } else this.open({ row, field }, active, textOf(cell), typed);
  }

  /** Whether a key waits for the row of the cell that was begun before it. */
  holds(event: KeyboardEvent): boolean {
    if (!this.awaited || this.awaited.refused) return false;
    if (event.key === "Escape") this.awaited = null;
    else this.awaited.keys.push(event);
    return true;
  }

  /** Somebody goes elsewhere: what waited for its row is given up, what was refused stays listed. */
  forget(): void {
    const refused = this.awaited?.refused;
    this.awaited = null;
    if (refused) this.list(refused);
  }

  /** Rows or columns are others than before: the editor goes where its cell went, and what waited for its row begins. */
  follow(): void {
    if (this.editor && this.of) {
      const place = this.placeOf(this.of);
      if (place) this.grid.layout.lay(this.editor.element, place);
    } else if (this.awaited?.refused) this.reopen(this.awaited.refused);
    else if (this.awaited && this.grid.rows.get(this.grid.active.row)) {
      const { typed, keys } = this.awaited;
      this.begin(typed);
      for (const event of keys) this.late(event);
    }
  }

  /** Take a key that had to wait. */
  private late(event: KeyboardEvent): void {
    if (this.editor) this.editor.late(event);
    else this.grid.press(event);
  }

  private placeOf({ row, field }: Of): Place | null {
    const place = { row: this.grid.rows.indexOf(row.row), column: this.grid.state.columns.indexOf(field.column) };
    return place.row < 0 || place.column < 0 ? null : place;
  }

  private open(of: Of, place: Place, text: string | null, typed?: string): CellEditor {
    const { grid } = this, { row, field } = of;
    this.editor?.commit(null);
    grid.refusals.hush();
    const named = grid.layout.columns.findIndex((column) => column.name === "name");
    const name = named < 0 ? null : textOf(row.cells[named]);
    this.editor = new CellEditor({
      field,
      text,
      typed,
      label: `${field.title}${name ? ` of ${name}` : `, row ${place.row + 1}`}`,
      choices: (query) => grid.ask({ do: "choices", column: field.column, text: query }),
      onCancel: () => {
        this.close(true);
        grid.say("left as it was");
      },
      onCommit: (value, move, same) => void this.commit(of, text, value, move, same),
      onLate: (event) => this.late(event),
    });
    this.of = of;
    grid.layout.lay(this.editor.element, place);
    grid.refusals.layer.append(this.editor.element);
    this.editor.focus();
    return this.editor;
  }

  private close(focus: boolean): void {
    this.editor?.element.remove();
    this.editor = this.of = null;
    if (focus) this.grid.focus();
  }

  private async commit(of: Of, before: string | null, text: string | null, move: Move | null, same: boolean): Promise<void> {
    const { grid } = this, { row, field } = of;
    this.close(move !== null);
    const place = this.placeOf(of);
    if (move !== null && place) grid.go(place.row + MOVES[move][0], place.column + MOVES[move][1]);
    if (same) return;
    this.mark(of, { text, sending: true });
    const answer = await grid.send({ do: "edit", cells: [{ row: row.row, column: field.column, text }] });
    // Whatever the answer: the cell is not being sent any more, also where the rows themselves come late.
    const done = !answer.objections && !answer.error;
    this.mark(of, { text: done ? text : before, sending: false, ...(answer.error && { problem: answer.error }) });
    if (!answer.objections) return;
    const refused = { ...of, text, reason: answer.objections[0].reason };
    const here = this.placeOf(of);
    if (here && (move === null || this.editor)) grid.refusals.bubble(here, refused.reason);
    else if (here) this.reopen(refused);
    // The rows were ordered anew meanwhile: those that can be seen are on their way.
    else if (move !== null && !this.editor && grid.waits) this.awaited = { refused, keys: [] };
    else this.list(refused);
  }

  /** Show at once what becomes of a cell, until its row comes anew. */
  private mark({ row, field }: Of, marks: object): void {
    const at = this.grid.rows.indexOf(row.row), shown = this.grid.rows.get(at);
    const place = this.grid.state.columns.indexOf(field.column);
    if (!shown || place < 0) return;
    shown.cells[place] = { ...marksOf(shown.cells[place]), text: null, ...marks };
    shown.touched = true;
    this.grid.draw();
  }

  /** Let people go on with what was refused, in its cell. */
  private reopen(refused: Refused): void {
    const place = this.placeOf(refused), row = place && this.grid.rows.get(place.row);
    this.awaited = null;
    if (!row) {
      this.list(refused);
      return;
    }
    this.grid.go(place.row, place.column);
    const editor = this.open({ row, field: refused.field }, place, textOf(row.cells[place.column]), refused.text ?? "");
    editor.refuse(refused.reason, this.grid.scroll);
  }

  private list({ row, field, text, reason }: Refused): void {
    this.grid.refusals.list([{ row: row.row, column: field.column, text, reason, index: this.grid.rows.indexOf(row.row) }]);
  }
}
