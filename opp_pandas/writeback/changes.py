"""From an edited frame to a plan: what differs from what was loaded.

Rows are found by id, new deals by the index label (or custom id) they were
given by ``add()`` or ``adopt()``. A row that is absent is never a deletion, a
column that is absent is never an edit.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.carrier import Loaded, require_loaded
from opp_pandas.errors import ConfigurationError, DuplicateRowsError, FrameError, MissingColumnError, named, printable
from opp_pandas.resource import COLUMN_DTYPES, EDITABLE_NAMES, LOOKUP_COLUMNS, OPPORTUNITY
from opp_pandas.service.collecting import LOOKUP_OF
from opp_pandas.writeback.columns import ColumnDiff, diff_column
from opp_pandas.writeback.plan import Cell, ChangeSet, Refusal, RowCreation, RowDeletion, RowUpdate, wire_value

_KIND_OF_DTYPE = {"Int64": "integer", "str": "text", "boolean": "boolean"}
_READ_ONLY = "is kept by the service and cannot be written"


def find_changes(frame: pd.DataFrame, *, delete: Iterable[int] = (), allow_delete: bool = False) -> ChangeSet:
    """Compare a frame with what was loaded.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        A frame that came from `read_opportunities` or `adopt`, edited by any
        pandas code. Never modified.
    delete : iterable of int
        Ids of deals to delete; they must have been loaded.
    allow_delete : bool
        The switch that has to be set besides.

    Returns
    -------
    ChangeSet
        Empty when nothing was edited.

    Raises
    ------
    NotLoadedError
        If nothing of a load travels with the frame.
    DuplicateRowsError
        If an id or a column name stands more than once.
    MissingColumnError
        If the column ``id`` is gone.
    ConfigurationError
        If ``delete`` names ids without ``allow_delete=True``.
    """
    loaded = require_loaded(frame, "changes()")
    return _Comparison(_usable(frame, loaded), loaded).plan(_checked_delete(delete, allow_delete))


def _checked_delete(delete: Iterable[int], allow_delete: bool) -> list[int]:
    ids = [delete] if isinstance(delete, int) else [int(value) for value in delete]
    if ids and not allow_delete:
        raise ConfigurationError(
            f"deleting {len(ids)} deals needs the switch too: write_back(delete=..., allow_delete=True)"
        )
    return list(dict.fromkeys(ids))


def _usable(frame: pd.DataFrame, loaded: Loaded) -> pd.DataFrame:
    """Bring a frame into the shape that is compared: plain unique columns, ids in a column, API names."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise FrameError(
            "the columns are a MultiIndex; give changes() a frame with one row per deal, not a pivot of it"
        )
    known = set(COLUMN_DTYPES) | set(loaded.baseline.frame.columns)
    levels = [name for name in frame.index.names if name in known and name not in frame.columns]
    if levels:
        frame = frame.reset_index(level=levels)
    back = {label: column for column, label in loaded.labels.items() if label in frame.columns}
    if back:
        frame = frame.rename(columns=back)
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        words = named(dict.fromkeys(map(str, doubled)))
        raise DuplicateRowsError(f"column {words} stands twice; drop or rename one", list(doubled))
    if "id" not in frame.columns:
        hint = "Without it no row can be found again: bring the column back, or start from the loaded frame."
        raise MissingColumnError(["id"], frame.columns, hint)
    return frame


class _Comparison:
    """One frame against its baseline."""

    def __init__(self, frame: pd.DataFrame, loaded: Loaded) -> None:
        self.frame, self.loaded = frame, loaded
        self.base = loaded.baseline
        self.refusals: list[Refusal] = []
        self.notes: list[str] = []
        self._match_rows()
        self.names = {
            f"{relation}_id": dict(zip(lookup["id"], lookup["name"], strict=True))
            for relation, kind in LOOKUP_OF.items()
            if (lookup := loaded.lookups.get(kind)) is not None
        }

    # --- rows ---------------------------------------------------------------

    def _match_rows(self) -> None:
        """Find for every row its place in the baseline, or that it is new, or refuse it."""
        none = np.full(len(self.frame), -1)
        ids = diff_column(self.frame["id"], pd.array([None] * len(self.frame), dtype="Int64"), "integer")
        present = ~np.asarray(pd.isna(ids.values))
        self.ids = ids.values
        seen = pd.Series(ids.values[present])
        doubled = seen[seen.duplicated()].unique()
        if len(doubled):
            text = f"id {named(doubled)} stands in more than one row, as after a merge that doubled rows; keep one row per id"
            raise DuplicateRowsError(text, [int(value) for value in doubled])
        self.base_positions = none.copy()
        self.created: dict[int, Any] = {}
        if present.any():
            known = self.base.ids.get_indexer(pd.Index(ids.values[present]))
            self.base_positions[present] = known
        bad = {**ids.reasons}
        for place in np.flatnonzero(present & (self.base_positions < 0)):
            bad[int(place)] = "is not an id that was loaded; an id cannot be changed or made up"
        for place in np.flatnonzero(~present):
            if place in bad:
                continue
            label = self._created_label(int(place))
            if label is None:
                bad[int(place)] = (
                    "has no id and came neither by add() nor by adopt(); bring new deals in with df.opp.add(rows)"
                )
            else:
                self.created[int(place)] = label
        for place, reason in sorted(bad.items()):
            self._refuse(place, "update", "id", None, self.frame["id"].iloc[place], reason)

    def _created_label(self, place: int) -> tuple[Any, int | None] | None:
        """Give label and baseline position of a row that add() or adopt() brought, or None."""
        created = self.loaded.created
        label = self.frame.index[place]
        hashable = not isinstance(label, list | dict)
        if hashable and label in created and not _is_missing(label):
            value = created[label]
            return label, value if isinstance(value, int) else None
        if "custom_id" in self.frame.columns:
            custom = self.frame["custom_id"].iloc[place]
            if isinstance(custom, str) and custom in self._created_by_custom_id:
                return self._created_by_custom_id[custom]
        return None

    @property
    def _created_by_custom_id(self) -> Mapping[str, tuple[Any, int | None]]:
        cached: dict[str, tuple[Any, int | None]] | None = self.__dict__.get("_by_custom_id")
        if cached is None:
            cached, doubled = {}, set()
            column = self.base.frame.get("custom_id")
            for label, value in self.loaded.created.items():
                custom = column.iloc[value] if isinstance(value, int) and column is not None else value
                if not isinstance(custom, str):
                    continue
                if custom in cached:
                    doubled.add(custom)
                cached[custom] = (label, value if isinstance(value, int) else None)
            for custom in doubled:
                del cached[custom]
            self.__dict__["_by_custom_id"] = cached
        return cached

    def _refuse(self, place: int, action: str, column: str, before: Any, after: Any, reason: str) -> None:
        row_id = self.ids[place] if 0 <= place < len(self.ids) else None
        self.refusals.append(
            Refusal(
                None if row_id is None or row_id is pd.NA else int(row_id),
                place,
                self.frame.index[place] if 0 <= place < len(self.frame) else None,
                action,
                column,
                before,
                after if not _is_missing(after) else None,
                reason,
            )
        )

    # --- the plan -----------------------------------------------------------

    def plan(self, delete: list[int]) -> ChangeSet:
        cells = self._edited_cells()
        deletions = self._deletions(delete)
        deleted = {entry.id for entry in deletions}
        self._refuse_unwritable(cells)
        held = {entry.position for entry in self.refusals}
        updates = [
            RowUpdate(int(self.ids[place]), place, int(self.base_positions[place]), tuple(row))
            for place, row in sorted(cells.items())
            if place not in held and int(self.ids[place]) not in deleted
        ]
        creations = self._creations()
        held = {entry.position for entry in self.refusals}
        self._note_midnights(updates)
        return ChangeSet(
            updates=tuple(updates),
            creations=tuple(entry for entry in creations if entry.position not in held),
            deletions=tuple(deletions),
            refusals=tuple(sorted(self.refusals, key=lambda entry: entry.position)),
            timezone=self.loaded.timezone,
            loaded_rows=len(self.base),
            names=self.names,
            notes=tuple(self.notes),
        )

    def _edited_cells(self) -> dict[int, list[Cell]]:
        """Compare column by column; give the edited cells by row."""
        rows = np.flatnonzero(self.base_positions >= 0)
        places = self.base_positions[rows]
        whole = len(rows) == len(self.frame) and np.array_equal(places, np.arange(len(self.base)))
        found: dict[str, tuple[np.ndarray[Any, Any], ColumnDiff]] = {}
        for column in self.frame.columns:
            if column == "id" or column not in self.base.frame.columns:
                continue
            series, base = self.frame[column], self.base.frame[column].array
            if not whole:
                series, base = series.iloc[rows], base.take(places)
            diff = self._diff(column, series, base)
            if diff.changed.any():
                found[column] = (np.flatnonzero(diff.changed), diff)
        self._refuse_unloaded_columns(rows)
        cells: dict[int, list[Cell]] = {}
        for column, (changed, diff) in found.items():
            if column in LOOKUP_COLUMNS:
                continue
            for index in changed:
                self._take_cell(int(rows[index]), column, diff, int(index), cells)
        self._take_names(rows, found, cells)
        self._follow_amounts(cells)
        return cells

    def _diff(self, column: str, series: pd.Series, base: Any) -> ColumnDiff:
        attribute = OPPORTUNITY.by_column.get(column)
        if attribute is not None:
            return diff_column(series, base, attribute.kind)
        if str(base.dtype) in _KIND_OF_DTYPE:
            return diff_column(series, base, _KIND_OF_DTYPE[str(base.dtype)])
        return _diff_anything(series, base)

    def _take_cell(self, place: int, column: str, diff: ColumnDiff, index: int, cells: dict[int, list[Cell]]) -> None:
        before = self._wire_before(place, column)
        shown = self.frame[column].iloc[place]
        kind = writable_kind(column)
        if kind is None:
            reason = _READ_ONLY if column in COLUMN_DTYPES else "is an attribute that this version does not know"
            self._refuse(place, "update", column, before, _plain(shown), f"{column} {reason}")
            return
        if index in diff.reasons:
            self._refuse(place, "update", column, before, _plain(shown), f"{column} {diff.reasons[index]}")
            return
        after = wire_value(kind, diff.values[index])
        reason = self._objection(place, column, after)
        if reason is not None:
            self._refuse(place, "update", column, before, _plain(shown), reason)
            return
        cells.setdefault(place, []).append(Cell(column, before, after))

    def _objection(self, place: int, column: str, after: Any) -> str | None:
        """Say why a value that can be read must not be sent, or None."""
        if (int(self.base_positions[place]), column) in self.base.locked:
            return f"{column} is locked: its value at the service could not be read, so it must not be overwritten"
        if column in OPPORTUNITY.relationship_by_column:
            known = self.names.get(column)
            complete = column == "stage_id" and known
            if after is not None and complete and after not in known:
                return f"{column} {after} is not a stage of the service; there are {self._candidates(column)}"
            return None
        return value_objection(column, after)

    def _wire_before(self, place: int, column: str) -> Any:
        position = int(self.base_positions[place])
        if (position, column) in self.base.wire:
            return self.base.wire[position, column]
        attribute = OPPORTUNITY.by_column.get(column)
        value = self.base.frame[column].iloc[position]
        if attribute is not None:
            return wire_value(attribute.kind, value)
        return wire_value(_KIND_OF_DTYPE.get(str(self.base.frame[column].dtype), "text"), value)

    def _refuse_unloaded_columns(self, rows: np.ndarray[Any, Any]) -> None:
        """A known column that the load did not ask for: nobody knows what stands there."""
        writable = {entry.column for entry in OPPORTUNITY.attributes if not entry.read_only}
        for column in self.frame.columns:
            if column in writable and column not in self.base.frame.columns:
                filled = np.flatnonzero(self.frame[column].iloc[rows].notna().to_numpy())
                for index in filled:
                    place = int(rows[index])
                    reason = f"{column} was not loaded, so its value at the service is unknown: load it to edit it"
                    self._refuse(place, "update", column, None, _plain(self.frame[column].iloc[place]), reason)

    # --- names --------------------------------------------------------------

    def _take_names(
        self,
        rows: np.ndarray[Any, Any],
        found: Mapping[str, tuple[np.ndarray[Any, Any], ColumnDiff]],
        cells: dict[int, list[Cell]],
    ) -> None:
        """Turn edits of names into edits of ids, or refuse them."""
        for column in LOOKUP_COLUMNS:
            if column not in found:
                continue
            changed, diff = found[column]
            id_column = EDITABLE_NAMES.get(column)
            for index in changed:
                place = int(rows[index])
                before = self._wire_before(place, column)
                if id_column is None:
                    self._refuse(
                        place,
                        "update",
                        column,
                        before,
                        _plain(self.frame[column].iloc[place]),
                        f"{column} is joined for reading; edit {LOOKUP_COLUMNS[column][0]}",
                    )
                    continue
                self._take_name(place, column, id_column, diff.values[index], before, cells)

    def _take_name(
        self, place: int, column: str, id_column: str, name: Any, before: Any, cells: dict[int, list[Cell]]
    ) -> None:
        if not isinstance(name, str):
            reason = f"{column} was cleared; to clear the relationship set {id_column} to missing"
            self._refuse(place, "update", column, before, None, reason)
            return
        matches = [key for key, known in self.names.get(id_column, {}).items() if known == name]
        edited = next((cell for cell in cells.get(place, []) if cell.column == id_column), None)
        if edited is not None:
            if edited.after not in matches:
                reason = f"{column} says {printable(name, 60)!r} and {id_column} says {edited.after}: make them agree"
                self._refuse(place, "update", column, before, name, reason)
            return
        if len(matches) != 1:
            problem = "is not known here" if not matches else f"fits {len(matches)} ids ({named(matches)})"
            reason = f"{column} {printable(name, 60)!r} {problem}; set {id_column} instead, or use {self._candidates(id_column, name)}"
            self._refuse(place, "update", column, before, name, reason)
            return
        base_id = self._wire_before(place, id_column)
        if matches[0] != base_id:
            cells.setdefault(place, []).append(Cell(id_column, base_id, int(matches[0])))

    def _candidates(self, id_column: str, name: str | None = None) -> str:
        names = [str(value) for value in self.names.get(id_column, {}).values() if isinstance(value, str)]
        near = difflib.get_close_matches(name, names, 3, 0.5) if name else []
        return named(near or names) if names else "an id"

    # --- consequences of an edit ----------------------------------------------

    def _follow_amounts(self, cells: dict[int, list[Cell]]) -> None:
        """Let amount and amount_precise move together: one without the other would contradict it."""
        if "amount_precise" not in self.base.frame.columns or "amount" not in self.base.frame.columns:
            return
        for place, row in cells.items():
            edited = {cell.column: cell.after for cell in row}
            if ("amount" in edited) == ("amount_precise" in edited):
                continue
            if "amount" in edited:
                before = self._wire_before(place, "amount_precise")
                if before is not None and not amounts_agree(edited["amount"], before):
                    after = None if edited["amount"] is None else str(edited["amount"])
                    row.append(Cell("amount_precise", before, after, follows="amount"))
            else:
                before = self._wire_before(place, "amount")
                after = _rounded(edited["amount_precise"])
                if not amounts_agree(before, edited["amount_precise"]):
                    row.append(Cell("amount", before, after, follows="amount_precise"))

    def _note_midnights(self, updates: Iterable[RowUpdate]) -> None:
        midnights = [
            update.id
            for update in updates
            for cell in update.cells
            if cell.column == "close_date" and isinstance(cell.after, str) and cell.after.endswith("T00:00:00.000Z")
        ]
        zone = self.loaded.timezone
        if midnights and zone not in (None, "UTC"):
            self.notes.append(
                f"{len(midnights)} close dates were set to exactly 00:00 UTC, another day in {zone} "
                f"(id {named(midnights)}); set_close_date(mask, day) writes a day of that zone"
            )

    def _refuse_unwritable(self, cells: Mapping[int, Collection[Cell]]) -> None:
        if "can_write" not in self.base.frame.columns:
            return
        can_write = self.base.frame["can_write"].array
        for place in cells:
            allowed = can_write[int(self.base_positions[place])]
            if allowed is not pd.NA and not allowed:
                self._refuse(
                    place, "update", "can_write", None, None, "this user may not edit the deal (can_write is false)"
                )

    # --- new and deleted rows -------------------------------------------------

    def _creations(self) -> list[RowCreation]:
        """Read the new rows column by column; a row with a refused cell is held back whole."""
        places = np.fromiter(self.created, dtype=np.int64, count=len(self.created))
        values: dict[int, dict[str, Any]] = {place: {} for place in self.created}
        unresolved: dict[int, dict[str, str]] = {place: {} for place in self.created}
        if not len(places):
            return []
        for column in self.frame.columns:
            kind = writable_kind(column)
            if kind is not None:
                self._read_created_column(column, kind, places, values)
        for name_column, id_column in EDITABLE_NAMES.items():
            if name_column in self.frame.columns:
                for place, name in zip(self.created, self.frame[name_column].iloc[places], strict=True):
                    if isinstance(name, str) and id_column not in values[place]:
                        unresolved[place][name_column] = name
        for place, row in values.items():
            if not str(row.get("name") or "").strip():
                self._refuse(place, "create", "name", None, None, "a new deal needs a name")
        return [
            RowCreation(place, label, values[place], unresolved[place]) for place, (label, _) in self.created.items()
        ]

    def _read_created_column(
        self, column: str, kind: str, places: np.ndarray[Any, Any], values: dict[int, dict[str, Any]]
    ) -> None:
        series = self.frame[column].iloc[places]
        diff = diff_column(series, _missing_like(series, column), kind)
        for index, place in enumerate(self.created):
            base_position = self.created[place][1]
            after = wire_value(kind, diff.values[index]) if diff.changed[index] else None
            reason = f"{column} {diff.reasons[index]}" if index in diff.reasons else value_objection(column, after)
            if reason is None and after is None and base_position is not None:
                reason = self._unread(base_position, column)
            if reason is not None:
                self._refuse(place, "create", column, None, _plain(series.iloc[index]), reason)
            elif after is not None:
                values[place][column] = after

    def _unread(self, base_position: int, column: str) -> str | None:
        if (base_position, column) not in self.base.locked:
            return None
        raw = printable(repr(self.base.wire.get((base_position, column))), 60)
        return f"{column} could not be read from {raw}: set it, or drop the column"

    def _deletions(self, delete: list[int]) -> list[RowDeletion]:
        deletions = []
        place_of = {int(value): place for place, value in enumerate(self.ids) if value is not pd.NA} if delete else {}
        base_place = self.base.ids.get_indexer(pd.Index(delete, dtype="Int64")) if delete else []
        can_delete = self.base.frame.get("can_delete")
        for row_id, position in zip(delete, base_place, strict=True):
            place = place_of.get(row_id, -1)
            if position < 0:
                self._refuse_deletion(row_id, place, "was not loaded, so it must not be deleted from here")
            elif can_delete is not None and can_delete.iloc[position] is not pd.NA and not can_delete.iloc[position]:
                self._refuse_deletion(row_id, place, "this user may not delete the deal (can_delete is false)")
            else:
                name = self.base.frame["name"].iloc[position] if "name" in self.base.frame.columns else None
                deletions.append(RowDeletion(row_id, place, name if isinstance(name, str) else None))
        return deletions

    def _refuse_deletion(self, row_id: int, place: int, reason: str) -> None:
        label = self.frame.index[place] if place >= 0 else None
        self.refusals.append(Refusal(row_id, -1 - row_id, label, "delete", "id", row_id, None, reason))


def writable_kind(column: str) -> str | None:
    """Give what the wire carries for a column that can be written, or None."""
    attribute = OPPORTUNITY.by_column.get(column)
    if attribute is not None:
        return None if attribute.read_only else attribute.kind
    relationship = OPPORTUNITY.relationship_by_column.get(column)
    return "integer" if relationship is not None and not relationship.read_only else None


def value_objection(column: str, value: Any) -> str | None:
    """Say which rule of the service a wire value breaks, or None.

    Values that are odd but possible (a negative amount, the year 9999) pass.
    """
    attribute = OPPORTUNITY.by_column.get(column)
    if attribute is None or value is None:
        return None
    if attribute.max_length is not None and isinstance(value, str) and len(value) > attribute.max_length:
        return f"{column} has {len(value):,} characters; the service takes {attribute.max_length:,}"
    low, high = attribute.minimum, attribute.maximum
    if low is not None and high is not None and isinstance(value, int) and not low <= value <= high:
        return f"{column} {value} is not within {low} to {high}"
    if column == "amount_precise" and isinstance(value, str):
        try:
            if not Decimal(value).is_finite():
                raise InvalidOperation
        except InvalidOperation:
            return f"{column} {printable(value, 40)!r} is not a decimal number such as '5000.50'"
    return None


def amounts_agree(amount: Any, precise: Any) -> bool:
    """Whether a whole amount and a precise one can be the same sum of money.

    Examples
    --------
    >>> amounts_agree(5000, "5000.50"), amounts_agree(6000, "5000.50")
    (True, False)
    """
    if amount is None or precise is None:
        return amount is None and precise is None
    try:
        return abs(Decimal(precise) - Decimal(amount)) < 1
    except InvalidOperation:
        return False


def _rounded(precise: str | None) -> int | None:
    if precise is None:
        return None
    return int(Decimal(precise).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _diff_anything(series: pd.Series, base: Any) -> ColumnDiff:
    """Compare cell by cell, for columns that are never written."""
    changed = np.zeros(len(series), dtype=bool)
    for place, (value, before) in enumerate(zip(series.array, base, strict=True)):
        if value is before or (_is_missing(value) and _is_missing(before)):
            continue
        value = tuple(value) if isinstance(value, list) else value
        changed[place] = _is_missing(value) != _is_missing(before) or not _equal(value, before)
    return ColumnDiff(changed, series.array)


def _equal(value: Any, other: Any) -> bool:
    try:
        return bool(value == other)
    except (TypeError, ValueError):
        return repr(value) == repr(other)


def _missing_like(series: pd.Series, column: str) -> Any:
    dtype = COLUMN_DTYPES[column]
    if dtype == "object":
        return np.array([None] * len(series), dtype=object)
    return pd.array([None] * len(series), dtype=dtype)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _plain(value: Any) -> Any:
    """Give a cell as a Python value for a report."""
    if _is_missing(value):
        return None
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple) else value


def resolve_names(plan: ChangeSet, names: Mapping[str, Mapping[int, str]]) -> ChangeSet:
    """Settle the names of new deals with what the service has.

    Parameters
    ----------
    plan : ChangeSet
        With creations whose stage, owner or account is known by name only.
    names : mapping of str to mapping
        Id column to the service's names by id.

    Returns
    -------
    ChangeSet
        The same plan with ids; a new deal whose name fits no id, or several,
        moves to the refused.
    """
    creations, refusals = [], list(plan.refusals)
    for entry in plan.creations:
        values = dict(entry.values)
        problem = False
        for name_column, name in entry.unresolved.items():
            id_column = EDITABLE_NAMES[name_column]
            known = names.get(id_column, {})
            matches = [key for key, value in known.items() if value == name]
            if len(matches) == 1:
                values[id_column] = int(matches[0])
                continue
            words = "the service has none of that name" if not matches else f"{len(matches)} bear that name"
            near = difflib.get_close_matches(name, [str(value) for value in known.values()], 3, 0.5)
            hint = f"; near: {named(near)}" if near else ""
            reason = f"{name_column} {printable(name, 60)!r}: {words}{hint}; set {id_column}, or drop the column {name_column}"
            refusals.append(Refusal(None, entry.position, entry.label, "create", name_column, None, name, reason))
            problem = True
        if not problem:
            creations.append(RowCreation(entry.position, entry.label, values))
    return replace(plan, creations=tuple(creations), refusals=tuple(refusals))
