"""The cells of a frame that is edited, as they are shown: texts, marks, locks.

Cells are given as text (None where they are missing). Rows are named by a
number of their own that never changes, whatever is sorted, added or written
back meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.changes import rules
from opp_pandas.changes.name_lookup import NameBook
from opp_pandas.changes.row_matching import Rows, match_rows, usable_frame
from opp_pandas.errors import printable
from opp_pandas.frame_state import Loaded, attach_loaded, require_loaded
from opp_pandas.kinds import TEXT, is_missing
from opp_pandas.load.custom_fields import plain_frame
from opp_pandas.notebook.codecs import Plain, Relations, show_cell
from opp_pandas.notebook.fields import NAME_OF, Field, describe_fields
from opp_pandas.resource import EDITABLE_NAMES

Places = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class CellView:
    """One cell as it is shown: its text, what was loaded where that differs, and what is to be known about it."""

    text: str | None
    changed: bool = False
    was: str | None = None
    problem: str = ""


class Cells:
    """A frame of one's own that carries a load, and what its cells show.

    Columns whose dtype pandas has changed are given their own again in it.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.uids: Places = np.arange(len(frame), dtype=np.int64)
        self.deleted: frozenset[int] = frozenset()
        self.problems: dict[tuple[int, str], str] = {}
        self._unreadable = self._restore_dtypes()
        self.changed = self._all_changed()

    # --- what is there ------------------------------------------------------------

    @property
    def loaded(self) -> Loaded:
        """What the frame carries."""
        return require_loaded(self._frame, "edit()")

    @property
    def frame(self) -> pd.DataFrame:
        """A copy of the frame as it is now; rows to be deleted are still in it, new ones that were dropped are not."""
        kept = self.kept()
        whole = self._frame.copy() if kept.all() else self._frame.iloc[np.flatnonzero(kept)]
        return attach_loaded(whole, self.loaded)

    @property
    def held(self) -> pd.DataFrame:
        """The frame itself, for looking at, rows that were dropped included; never to be changed."""
        return self._frame

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The columns, by the frame's own name of each."""
        return describe_fields(self._frame, self.loaded, self._unreadable)

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {field.name: column for column, field in self.fields.items()}

    @cached_property
    def rows(self) -> Rows:
        """Where each row of the frame belongs."""
        frame = usable_frame(self._frame[[c for c in self._frame.columns if c in self._key_columns]], self.loaded)
        return match_rows(frame, self.loaded)

    @property
    def _key_columns(self) -> set[str]:
        back = self.loaded.labels
        return {back.get(name, name) for name in ("id", "custom_id")}

    @cached_property
    def is_new(self) -> Mask:
        """Which rows wait to be created."""
        new = np.zeros(len(self._frame), dtype=bool)
        new[list(self.rows.created)] = True
        return new

    @cached_property
    def _book(self) -> NameBook:
        return NameBook.of(self.loaded)

    def kept(self) -> Mask:
        """Which rows are still in the frame that people get: all but new ones that were dropped."""
        if not self.deleted:
            return np.ones(len(self._frame), dtype=bool)
        return ~(self.is_new & np.isin(self.uids, list(self.deleted)))

    def places(self, uids: Iterable[int]) -> Places:
        """Return the positions of rows by their numbers."""
        wanted = np.fromiter(uids, dtype=np.int64)
        found = np.searchsorted(self.uids, wanted)
        if (found >= len(self.uids)).any() or (self.uids[found] != wanted).any():
            raise KeyError("a row that is not there")
        return found

    def counted(self, column: str) -> str:
        """The column under which a cell is counted: for a relation its name where the frame has it, else its id."""
        id_column = self.fields[column].id_column if column in self.fields else None
        if id_column is None:
            return column
        return self._by_name.get(NAME_OF[id_column], self._by_name.get(id_column, column))

    def deleted_ids(self) -> list[int]:
        """Return the ids of the deals that are to be deleted."""
        ids = [self.rows.ids[place] for place in self.places(sorted(self.deleted))]
        return [int(value) for value in ids if value is not pd.NA]

    def ids(self) -> list[tuple[int, int | None]]:
        """Return every row's number and id; None where it has none."""
        ids = self.rows.ids.to_numpy(dtype=object, na_value=None).tolist()
        return list(zip(self.uids.tolist(), ids, strict=True))

    def new_rows(self) -> list[tuple[int, Any]]:
        """Return number and index label of the rows that wait to be created."""
        return [(int(self.uids[place]), label) for place, (label, _) in self.rows.created.items()]

    def pending(self) -> dict[str, int]:
        """Count what waits: ``cells`` and ``rows`` edited, ``new`` and ``deleted`` deals."""
        new = {int(uid) for uid in self.uids[self.is_new]} - self.deleted
        edited = [key for key in self.changed if key[0] not in self.deleted and key[0] not in new]
        return {
            "cells": len(edited),
            "rows": len({uid for uid, _ in edited}),
            "new": len(new),
            "deleted": len(self.deleted_ids()),
        }

    # --- cells as they are shown ----------------------------------------------------

    def texts(self, places: Places, column: str) -> list[str | None]:
        """Return cells of one column as text."""
        field = self.fields[column]
        values = self._frame[column].take(places)
        if field.name in EDITABLE_NAMES and isinstance(field.codec, Relations):
            return self._relation_texts(places, field, field.codec)
        return [show_cell(field.codec, value) for value in values.array]

    @property
    def stage_ids(self) -> list[int]:
        """The ids of the stages in the order of the pipeline."""
        ids = self.loaded.stages.frame["stage_id"].dropna().tolist()
        return [int(value) for value in ids] or list(self._book.names.get("stage_id", {}))

    def _relation_texts(self, places: Places, field: Field, codec: Relations) -> list[str | None]:
        """Ids are the truth; a name that was edited by hand beside them is shown as it is."""
        ids = self.relation_ids(places, field)
        names = self._frame[field.column].take(places).array
        by_hand = self._named_by_hand(places, field)
        return [
            str(name) if hand and isinstance(name, str) else show_cell(codec, row_id)
            for name, row_id, hand in zip(names, ids, by_hand, strict=True)
        ]

    def relation_ids(self, places: Places, field: Field) -> list[Any]:
        """Return the ids of a relation, whichever of its columns is asked about."""
        column = self._by_name.get(str(field.id_column))
        return [None] * len(places) if column is None else self._frame[column].take(places).tolist()

    def _named_by_hand(self, places: Places, field: Field) -> Mask:
        """Find names that were edited beside their ids: those that differ from the loaded one and are not the id's."""
        by_hand = np.zeros(len(places), dtype=bool)
        names = self._window(places, field.column)
        base = self._base(places, field.name)
        differs = names.notna().to_numpy() if base is None else TEXT.compare(names, base).changed
        edited = np.flatnonzero(differs)
        ids = self.relation_ids(places[edited], field)
        for index, name, row_id in zip(edited.tolist(), names.array.take(edited), ids, strict=True):
            known = [] if is_missing(row_id) else [self._book.name(str(field.id_column), int(row_id))]
            by_hand[index] = isinstance(name, str) and name not in known
        return by_hand

    def _window(self, places: Places, column: str) -> pd.Series:
        """Return some rows of a column; all of them without a copy, so that what nobody touched is seen at once."""
        series = self._frame[column]
        return series if places is self._everything else series.take(places)

    @cached_property
    def _everything(self) -> Places:
        """The positions of all rows; this very array stands for the whole frame."""
        return np.arange(len(self._frame))

    @cached_property
    def _stand_as_loaded(self) -> bool:
        """Whether the rows are those that were loaded, in their order."""
        return len(self._frame) == len(self.loaded.baseline) and np.array_equal(self.rows.places, self._everything)

    def _base(self, places: Places, name: str) -> Any:
        """Return the loaded values of a column for some rows; None where it was not loaded."""
        base = self.loaded.baseline.frame
        if name not in base.columns:
            return None
        if places is self._everything and self._stand_as_loaded:
            return base[name].array
        return base[name].array.take(self.rows.places[places], allow_fill=True)

    def changed_mask(self, places: Places, column: str) -> Mask:
        """Find which cells of some rows differ from what was loaded; new rows do not."""
        field = self.fields[column]
        if places is self._everything and self._stand_as_loaded:
            return self._edited(places, field)
        result = np.zeros(len(places), dtype=bool)
        known = self.rows.places[places] >= 0
        if known.any():
            result[known] = self._edited(places[known], field)
        return result

    def _edited(self, rows: Places, field: Field) -> Mask:
        """The same for rows that were loaded; a relation is edited by its id, or by its name alone."""
        own = self._by_name.get(str(field.id_column))
        if own is None:
            return self._differs(rows, field)
        differs = self._differs(rows, self.fields[own])
        return differs | self._named_by_hand(rows, field) if field.name in EDITABLE_NAMES else differs

    def _differs(self, rows: Places, field: Field) -> Mask:
        base = self._base(rows, field.name)
        if base is None:
            return np.zeros(len(rows), dtype=bool)
        if field.name in self.loaded.converted:
            keys = [c for c in self._frame.columns if c in self._key_columns]
            window = self._frame[[*keys, field.column]].take(rows)
            series = plain_frame(window, self.loaded)[field.name]
        else:
            series = self._window(rows, field.column)
        kind = rules.column_kind(field.name, base.dtype)
        return np.zeros(len(rows), dtype=bool) if kind is None else kind.compare(series, base).changed

    def cells(self, places: Places, column: str) -> list[CellView]:
        """Return cells of one column with their marks."""
        field = self.fields[column]
        texts = self.texts(places, column)
        changed = self.changed_mask(places, column)
        before: list[str | None] = [None] * len(places)
        if changed.any():
            before = self._texts_before(places, field)
        uids = self.uids[places].tolist()
        return [
            CellView(text, bool(mark), was if mark else None, self.problems.get((uid, column), ""))
            for text, mark, was, uid in zip(texts, changed, before, uids, strict=True)
        ]

    def _texts_before(self, places: Places, field: Field) -> list[str | None]:
        if isinstance(field.codec, Relations):
            ids = self._base(places, str(field.id_column))
            return [None] * len(places) if ids is None else [show_cell(field.codec, value) for value in ids]
        base = self._base(places, field.name)
        codec = Plain(TEXT) if field.name in self.loaded.converted else field.codec
        return [None] * len(places) if base is None else [show_cell(codec, value) for value in base]

    def row_lock(self, place: int) -> str:
        """Explain why nothing of a row can be edited; empty where it can."""
        if int(self.uids[place]) in self.deleted:
            return "the deal is to be deleted; take that back to edit it"
        reason = self.rows.refused.get(place)
        base_place = int(self.rows.places[place])
        if reason is None and self._forbids(base_place, "can_write"):
            reason = "this user may not edit the deal (can_write is false)"
        return reason or ""

    def _forbids(self, base_place: int, column: str) -> bool:
        """Whether the service said that this user may not."""
        said = self.loaded.baseline.frame.get(column)
        if base_place < 0 or said is None:
            return False
        allowed = said.array[base_place]
        return not is_missing(allowed) and not allowed

    def cell_lock(self, place: int, column: str) -> str:
        """Explain why a cell cannot be edited; empty where it can."""
        field = self.fields[column]
        reason = self.row_lock(place) or field.locked
        if not reason and (int(self.rows.places[place]), field.name) in self.loaded.baseline.marks.locked:
            reason = f"{field.name} is locked: its value at the service could not be read, and is kept"
        return reason

    # --- opening ----------------------------------------------------------------------

    def _restore_dtypes(self) -> dict[str, str]:
        """Restore the dtype of columns where pandas has changed it; name those that cannot have it."""
        unreadable: dict[str, str] = {}
        back = {label: column for column, label in self.loaded.labels.items()}
        base = self.loaded.baseline.frame
        for place, column in enumerate(self._frame.columns):
            name = back.get(column, column)
            kind = rules.WRITABLE.get(str(name))
            series = self._frame.iloc[:, place]
            if kind is None or name in self.loaded.converted or str(series.dtype) == kind.dtype or name not in base:
                continue
            places = self.rows.places
            before = base[name].array.take(places, allow_fill=True)
            diff = kind.compare(series, before)
            if diff.reasons:
                first, reason = next(iter(diff.reasons.items()))
                label = printable(self._frame.index[first], 40)
                unreadable[name] = f"{name} cannot be edited here: row {label} {reason}"
                continue
            values = diff.values.copy()
            values[~diff.changed] = before[~diff.changed]
            self._frame.isetitem(place, values)
        return unreadable

    def _all_changed(self) -> set[tuple[int, str]]:
        """Find every cell that was edited before the sheet was opened."""
        found: set[tuple[int, str]] = set()
        for column, field in self.fields.items():
            if field.locked or self.counted(column) != column:
                continue
            for place in np.flatnonzero(self.changed_mask(self._everything, column)).tolist():
                found.add((place, column))
        return found
