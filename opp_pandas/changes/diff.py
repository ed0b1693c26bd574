"""From an edited frame to a plan: what differs from what was loaded.

Rows are found by id, new deals by the custom id or index label they were given
by ``add()`` or ``adopt()``. A row that is absent is never a deletion, a column
that is absent is never an edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.changes import rules
from opp_pandas.changes.changeset import Cell, Refusal, RowDeletion, RowUpdate, related_id
from opp_pandas.changes.guards import aggregate_reason
from opp_pandas.changes.impact import Figures
from opp_pandas.changes.name_lookup import NameBook
from opp_pandas.changes.plan import ChangeSet
from opp_pandas.changes.row_matching import NewRows, cell_objection, match_rows, usable_frame
from opp_pandas.column_diff import ColumnDiff
from opp_pandas.errors import ConfigurationError, named, printable
from opp_pandas.figures.core.basis import counted
from opp_pandas.figures.core.figure import takes_definitions
from opp_pandas.frame_state import Loaded, freeze_value, require_loaded
from opp_pandas.instants import build_instant
from opp_pandas.kinds import INT64_MAX, TEXT, is_missing, plain_value
from opp_pandas.resource import EDITABLE_NAMES, OPPORTUNITY

if TYPE_CHECKING:
    from opp_pandas.choices import CustomIds, UnknownNames


@takes_definitions
def find_changes(
    frame: pd.DataFrame,
    *,
    delete: Iterable[int] = (),
    allow_delete: bool = False,
    custom_ids: CustomIds = "auto",
    unknown_names: UnknownNames = "refuse",
    quota: Any = None,
    **definitions: Any,
) -> ChangeSet:
    """Compare a frame with what was loaded.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        A frame that came from `read_opportunities` or `adopt`, edited by any
        pandas code. Never modified.
    quota : number, mapping or DataFrame, optional
        For the coverage by period in the effect on the forecast: a number for
        every period, or period -> number. How time is cut and what amounts
        mean, in the arguments below, is for that effect, too.

    Returns
    -------
    ChangeSet
        Empty when nothing was edited. ``effect`` says what it does to the forecast.

    Raises
    ------
    NotLoadedError
        If nothing of a load travels with the frame.
    DuplicateRowsError
        If an id or a column name stands more than once.
    MissingColumnError
        If the column ``id`` is gone.
    ConfigurationError
        If ``delete`` names ids without ``allow_delete=True``, or is no list of
        ids, or an argument of the forecast cannot be used.

    Examples
    --------
    >>> df.loc[df["id"] == 25, ["amount", "next_step"]] = [30_000, "Send order form"]
    >>> df.opp.changes().cells
       id           field            before            after
    0  25          amount             24826            30000
    1  25       next_step  Call procurement  Send order form
    2  25  amount_precise          24826.22            30000
    """
    loaded = require_loaded(frame, "changes()")
    if custom_ids not in ("auto", "always", "never"):
        raise ConfigurationError(f"custom_ids is 'auto', 'always' or 'never', not {custom_ids!r}")
    if unknown_names not in ("refuse", "leave_out"):
        raise ConfigurationError(f"unknown_names is 'refuse' or 'leave_out', not {unknown_names!r}")
    ids = _checked_delete(delete, allow_delete)
    figures = Figures(loaded, quota, definitions)
    usable = usable_frame(frame, loaded)
    levels = [name for name in usable.columns if name in frame.index.names and name not in frame.columns]
    plan = _Comparison(usable, loaded, levels).plan(ids, custom_ids)
    return replace(plan, figures=figures, unknown_names=unknown_names)


def _checked_delete(delete: Any, allow_delete: bool) -> list[int]:
    values = list(delete) if np.iterable(delete) else [delete]
    # "88" would delete the deals 8 and 8, and 88.7 the deal 88.
    wrong = [value for value in values if isinstance(value, bool) or not isinstance(value, int | np.integer)]
    wrong += [value for value in values if not wrong and not 0 < value <= INT64_MAX]
    if wrong or isinstance(delete, str | bytes | Mapping | pd.DataFrame):
        raise ConfigurationError(f"delete is a list of ids such as [88, 91], not {printable(repr(delete), 60)}")
    ids = list(dict.fromkeys(int(value) for value in values))
    if ids and not allow_delete:
        raise ConfigurationError(
            f"deleting {len(ids)} deals needs the switch too: write_back(delete=..., allow_delete=True)"
        )
    return ids


@dataclass(frozen=True, slots=True)
class _Edit:
    """One cell that differs: where, the wire values, the cell itself, and why it cannot be read."""

    place: int
    before: Any
    after: Any
    raw: Any
    unreadable: str | None


class _Comparison:
    def __init__(self, frame: pd.DataFrame, loaded: Loaded, levels: Sequence[str]) -> None:
        self.frame, self.loaded, self.base, self.levels = frame, loaded, loaded.baseline, levels
        self.book = NameBook.of(loaded)
        self.rows = match_rows(frame, loaded)
        self.refusals: list[Refusal] = []
        for place, reason in sorted(self.rows.refused.items()):
            self._refuse(place, "update", "id", None, frame["id"].iloc[place], reason)

    def plan(self, delete: list[int], custom_ids: CustomIds) -> ChangeSet:
        """Put the plan together; a row with a refused cell is held back whole."""
        cells = self._edited_cells()
        self._refuse_unwritable(cells)
        deletions = self._deletions(delete)
        creations = NewRows(self.frame, self.loaded, self.rows, self.book, self._refuse).read(custom_ids)
        held = {entry.position for entry in self.refusals}
        deleted = {entry.id for entry in deletions}
        kept = sorted(set(cells) - held)
        ids = self.rows.ids.take(np.array(kept, dtype=np.int64)).tolist()
        updates = [
            RowUpdate(row_id, place, int(self.rows.places[place]), tuple(cells[place]))
            for row_id, place in zip(ids, kept, strict=True)
            if row_id not in deleted
        ]
        creations = [entry for entry in creations if entry.position not in held]
        refusals = sorted(self.refusals, key=lambda entry: entry.position)
        return ChangeSet.of(
            [*updates, *creations, *deletions, *refusals],
            timezone=self.loaded.timezone,
            loaded_rows=len(self.base),
            names=self.book.names,
            notes=tuple(_midnights(updates, self.loaded.timezone)),
            service=self.loaded.service,
            titles=self._titles(updates),
            suspicion=self._suspicion(updates) or "",
        )

    def _suspicion(self, updates: list[RowUpdate]) -> str | None:
        read_only: dict[str, dict[int, Any]] = {}
        for entry in self.refusals:
            if entry.action == "update" and entry.position >= 0 and self.rows.places[entry.position] >= 0:
                read_only.setdefault(entry.column, {})[int(self.rows.places[entry.position])] = entry.after
        return aggregate_reason(updates, read_only, self.frame, self.rows.places, self.base.frame, self.levels)

    def _titles(self, updates: list[RowUpdate]) -> dict[int, str]:
        if "name" not in self.base.frame.columns:
            return {}
        places = np.array([update.base_position for update in updates], dtype=np.int64)
        names = self.base.frame["name"].array.take(places)
        return {update.id: name for update, name in zip(updates, names, strict=True) if isinstance(name, str)}

    def _refuse(self, place: int, action: str, column: str, before: Any, after: Any, reason: str) -> None:
        row_id = self.rows.ids[place]
        known = None if row_id is pd.NA else int(row_id)
        label = self.frame.index[place]
        self.refusals.append(Refusal(known, place, label, action, column, before, plain_value(after), reason))

    # --- edited cells -----------------------------------------------------------

    def _edited_cells(self) -> dict[int, list[Cell]]:
        """Compare column by column; give the edited cells by row."""
        rows = np.flatnonzero(self.rows.places >= 0)
        places = self.rows.places[rows]
        # Rows as they were loaded need no copy of either side.
        whole = len(rows) == len(self.frame) and np.array_equal(places, np.arange(len(self.base)))
        found: dict[str, ColumnDiff] = {}
        for column in self.frame.columns:
            if column == "id" or column not in self.base.frame.columns:
                continue
            series, base = self.frame[column], self.base.frame[column].array
            if not whole:
                series, base = series.iloc[rows], base.take(places)
            diff = _diff(column, series, base)
            if diff.changed.any():
                found[column] = diff
        self._refuse_unloaded_columns(rows)
        cells: dict[int, list[Cell]] = {}
        # Names come last: what they say is measured against the ids.
        for column in sorted(found, key=EDITABLE_NAMES.__contains__):
            take = self._take_names if column in EDITABLE_NAMES else self._take_cells
            take(column, self._edits(rows, column, found[column]), cells)
        self._follow_amounts(cells)
        return cells

    def _edits(self, rows: np.ndarray[Any, Any], column: str, diff: ColumnDiff) -> list[_Edit]:
        """Gather what differs in a column; one look at the column, not one for every cell."""
        indices = np.flatnonzero(diff.changed)
        places = rows[indices]
        kind = TEXT if column in EDITABLE_NAMES else rules.WRITABLE.get(column)
        after = [None] * len(indices) if kind is None else kind.encode_all(diff.values.take(indices))
        raw = list(self.frame[column].array.take(places))
        reasons = [diff.reasons.get(index) for index in indices.tolist()]
        columns = (places.tolist(), self._before(places, column), after, raw, reasons)
        return [_Edit(*entry) for entry in zip(*columns, strict=True)]

    def _before(self, places: np.ndarray[Any, Any], column: str) -> list[Any]:
        return loaded_values(self.loaded, self.rows.places[places], column)

    def _take_cells(self, column: str, edits: list[_Edit], cells: dict[int, list[Cell]]) -> None:
        for edit in edits:
            if column not in rules.WRITABLE:
                reason: str | None = rules.read_only_reason(column)
            elif (int(self.rows.places[edit.place]), column) in self.base.marks.locked:
                reason = f"{column} is locked: the service's value could not be read, so it must not be overwritten"
            else:
                reason = cell_objection(self.loaded, self.book, column, edit.after, edit.raw, edit.unreadable)
            if reason is not None:
                self._refuse(edit.place, "update", column, edit.before, edit.raw, reason)
            else:
                cells.setdefault(edit.place, []).append(Cell(column, edit.before, edit.after))

    def _take_names(self, column: str, edits: list[_Edit], cells: dict[int, list[Cell]]) -> None:
        """Turn edits of a name into edits of its id, or refuse them."""
        id_column = EDITABLE_NAMES[column]
        base_ids = self._before(np.array([edit.place for edit in edits]), id_column)
        for edit, base_id in zip(edits, base_ids, strict=True):
            row = cells.get(edit.place, [])
            edited = next((cell for cell in row if cell.column == id_column), None)
            found = self._meant(column, edit, base_id, edited)
            if isinstance(found, str):
                self._refuse(edit.place, "update", column, edit.before, edit.raw, found)
            elif found is not None:
                cells.setdefault(edit.place, []).append(Cell(id_column, base_id, found))

    def _meant(self, column: str, edit: _Edit, base_id: int | None, edited: Cell | None) -> int | str | None:
        """Return the id that a name means, why it means none, or None where the ids say the same."""
        id_column, name = EDITABLE_NAMES[column], edit.after
        if name is None:
            if edit.unreadable is None and edited is not None and edited.after is None:
                return None
            words = edit.unreadable or "was cleared"
            return f"{column} {words}; to clear the relationship set {id_column} to missing"
        if edited is not None:
            if edited.after in self.book.ids(id_column, name):
                return None
            return f"{column} says {printable(name, 60)!r} and {id_column} says {edited.after}: make them agree"
        # It may be the name that the id bears by now: look-ups are newer than the joined column.
        return None if base_id in self.book.ids(id_column, name) else self.book.resolve(column, name)

    def _refuse_unloaded_columns(self, rows: np.ndarray[Any, Any]) -> None:
        """A known column that the load did not ask for: nobody knows what stands there."""
        for column in self.frame.columns:
            if column in rules.WRITABLE and column not in self.base.frame.columns:
                series = self.frame[column].iloc[rows]
                for index in np.flatnonzero(series.notna().to_numpy()).tolist():
                    reason = f"{column} was not loaded, so its value at the service is unknown: load it to edit it"
                    self._refuse(int(rows[index]), "update", column, None, series.iloc[index], reason)

    def _refuse_unwritable(self, cells: Mapping[int, list[Cell]]) -> None:
        can_write = self.base.frame.get("can_write")
        if can_write is None:
            return
        allowed = can_write.fillna(True).to_numpy(dtype=bool)
        for place in cells:
            if not allowed[self.rows.places[place]]:
                reason = "this user may not edit the deal (can_write is false)"
                self._refuse(place, "update", "can_write", None, None, reason)

    def _follow_amounts(self, cells: dict[int, list[Cell]]) -> None:
        """Let amount and amount_precise move together: one without the other would contradict it."""
        both = {"amount", "amount_precise"}
        if not both <= set(self.base.frame.columns):
            return
        places = [place for place, row in cells.items() if any(cell.column in both for cell in row)]
        amounts, precises = (self._before(np.array(places, dtype=np.int64), column) for column in sorted(both))
        for place, amount_before, precise_before in zip(places, amounts, precises, strict=True):
            row = cells[place]
            edited = {cell.column: cell for cell in row}
            amount, precise = edited.get("amount"), edited.get("amount_precise")
            if precise is None or (amount is not None and amount.after is not None and precise.after is None):
                if precise is not None:
                    # Cleared to make room for the new amount: it follows as if it had been left alone.
                    row.remove(precise)
                follow_amount(edited["amount"], precise_before, row)
            elif amount is not None and not rules.amounts_agree(amount.after, precise.after):
                sums = f"amount {amount.after} and amount_precise {precise.after} are two sums"
                reason = f"{sums}: edit one of them, the other follows"
                self._refuse(place, "update", "amount", amount.before, amount.after, reason)
            elif amount is None and precise.after is None and amount_before is not None:
                words = "clear both, or edit amount and the other follows"
                reason = f"amount_precise was cleared and amount was not: {words}"
                self._refuse(place, "update", "amount_precise", precise.before, None, reason)
            elif amount is None and not rules.amounts_agree(amount_before, precise.after):
                whole = rules.whole_amount(precise.after)
                row.append(Cell("amount", amount_before, whole, follows="amount_precise"))

    # --- deletions ----------------------------------------------------------------

    def _deletions(self, delete: list[int]) -> list[RowDeletion]:
        if not delete:
            return []  # a look-up of a million ids takes longer than all comparisons
        place_of = {int(value): place for place, value in enumerate(self.rows.ids) if value is not pd.NA}
        base_places = self.base.ids.get_indexer(pd.Index(delete, dtype=np.int64))
        can_delete = self.base.frame.get("can_delete")
        columns = [column for column in rules.WRITABLE if column in self.base.frame.columns]
        deletions = []
        for row_id, base_place in zip(delete, base_places.tolist(), strict=True):
            place = place_of.get(row_id, -1)
            if base_place < 0:
                self._refuse_deletion(row_id, place, "was not loaded, so it must not be deleted from here")
            elif can_delete is not None and not can_delete.fillna(True).iloc[base_place]:
                self._refuse_deletion(row_id, place, "this user may not delete the deal (can_delete is false)")
            else:
                before = {column: loaded_value(self.loaded, base_place, column) for column in columns}
                deletions.append(RowDeletion(row_id, place, before.get("name"), before))
        return deletions

    def _refuse_deletion(self, row_id: int, place: int, reason: str) -> None:
        label = self.frame.index[place] if place >= 0 else None
        # A place below 0 of its own, so that edits of the row are not held back.
        self.refusals.append(Refusal(row_id, -1 - abs(row_id), label, "delete", "id", row_id, None, reason))


def follow_amount(amount: Cell, before: Any, row: list[Cell]) -> None:
    """Add to a row what the precise amount has to become beside an edited amount, where they would contradict."""
    after = rules.precise_amount(amount.after)
    # Where the exact form has no room the service makes its own of the amount.
    has_room = after is not None or amount.after is None
    if before is not None and has_room and not rules.amounts_agree(amount.after, before):
        row.append(Cell("amount_precise", before, after, follows="amount"))


def loaded_values(loaded: Loaded, places: np.ndarray[Any, Any], column: str) -> list[Any]:
    """Return the wire values of loaded cells, as they were sent where that is not their canonical form."""
    base = loaded.baseline
    values = base.frame[column].array.take(places)
    kind = rules.column_kind(column, values.dtype)
    found = [plain_value(value) for value in values] if kind is None else kind.encode_all(values)
    original = base.marks.original
    if original:
        related = column in OPPORTUNITY.relationship_by_column
        for index, place in enumerate(places.tolist()):
            if (place, column) in original:
                value = original[place, column]
                found[index] = related_id(value) if related else value
    return found


def loaded_value(loaded: Loaded, place: int, column: str) -> Any:
    """Return the wire value of one loaded cell."""
    return loaded_values(loaded, np.array([place]), column)[0]


def _diff(column: str, series: pd.Series, base: Any) -> ColumnDiff:
    kind = rules.column_kind(column, base.dtype)
    if kind is not None:
        return kind.compare(series, base)
    # Columns that are never written: whatever the service sent.
    pairs = zip(series.array, base, strict=True)
    changed = np.fromiter((not _same(value, before) for value, before in pairs), dtype=bool, count=len(series))
    return ColumnDiff(changed, series.array)


def _same(value: Any, before: Any) -> bool:
    if is_missing(value) or is_missing(before):
        return is_missing(value) and is_missing(before)
    if isinstance(value, str) and not isinstance(before, str):
        # A CSV writes lists and mappings as text.
        return value == str(_thawed(before))
    plain = freeze_value(value.tolist() if isinstance(value, np.ndarray) else value)
    return bool(plain == before) or repr(plain) == repr(before)


def _thawed(value: Any) -> Any:
    """Return a value as it stood in the frame: lists for tuples, at every depth."""
    if isinstance(value, tuple):
        return [_thawed(item) for item in value]
    return {key: _thawed(item) for key, item in value.items()} if isinstance(value, dict) else value


def _midnights(updates: Iterable[RowUpdate], zone: str | None) -> list[str]:
    """Warn of close dates at exactly 00:00 UTC: most are days that pandas read as UTC."""
    ids = [
        update.id
        for update in updates
        for cell in update.cells
        if cell.column == "close_date" and str(cell.after).endswith(build_instant(0)[10:])
    ]
    if not ids or zone in (None, "UTC"):
        return []
    what = f"{counted(len(ids), 'close date')} set to exactly 00:00 UTC, another day in {zone} (id {named(ids)})"
    return [f"{what}; set_close_date(mask, day) writes a day of that zone"]
