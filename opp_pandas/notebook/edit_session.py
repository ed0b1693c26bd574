"""What the editor edits: a frame of its own, the edits made to it, and every way back.

No widget and no kernel is needed here. Cells come and go as text (None where
they are missing); a batch of edits is made as a whole or refused as a whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from opp_pandas.changes import rules
from opp_pandas.changes.diff import find_changes
from opp_pandas.changes.row_matching import usable_frame
from opp_pandas.editing import add_rows
from opp_pandas.errors import printable
from opp_pandas.frame_state import attach_loaded, require_loaded
from opp_pandas.kinds import TEXT, is_missing
from opp_pandas.load.custom_fields import custom_objection
from opp_pandas.notebook.cells import Cells, Places
from opp_pandas.notebook.codecs import Plain, Relations, read_texts
from opp_pandas.notebook.edit_steps import CellStep, ColumnEdit, RowStep, Step
from opp_pandas.notebook.fields import NAME_OF, Field
from opp_pandas.notebook.messages import Entry, Objection
from opp_pandas.parsing.names import fold_name
from opp_pandas.parsing.reading import ANY, Conventions

if TYPE_CHECKING:
    from opp_pandas.api.custom_field_types import CustomField
    from opp_pandas.changes.plan import ChangeSet

_EDITIONS = itertools.count()
"""No two states of sheets bear one number, so that what was worked out of one is known to be stale."""


class Sheet(Cells):
    """A frame that is being edited, which is a copy of what was given; errors as of `find_changes`.

    Rows are named by a number of their own that never changes, whatever is
    sorted, added or written back meanwhile. `conventions`: how numbers and dates are
    written by those who type and paste.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        conventions: Conventions = ANY,
    ) -> None:
        self.conventions = conventions
        loaded = require_loaded(frame, "edit()")
        usable_frame(frame.iloc[:0], loaded)
        self.begin(frame.copy(deep=False))

    def begin(self, frame: pd.DataFrame) -> None:
        """Begin anew with a frame: what was done before is forgotten."""
        conventions = self.conventions
        self.__dict__.clear()
        super().__init__(frame)
        self.conventions = conventions
        self.read_as: dict[str, str] = {}
        """Names of the last edits that were matched though they are written otherwise, and what they were read as."""
        self.edition = next(_EDITIONS)
        self._next_uid = len(frame)
        self.done: list[Step] = []
        self.undone: list[Step] = []
        self.log: list[Step] = []
        self.original = self._frame.copy(deep=False)
        self.original_ids = self.rows.ids

    def learn(self, custom_fields: Mapping[str, CustomField]) -> None:
        """Take in what the organisation made of its custom fields, where the load does not know it."""
        attach_loaded(self._frame, replace(self.loaded, custom_fields=dict(custom_fields)))
        for derived in ("fields", "_by_name"):
            self.__dict__.pop(derived, None)

    def changes(self, **options: Any) -> ChangeSet:
        """Return the plan, with the options of `find_changes`: what would be sent, and what would be refused."""
        ids = self.deleted_ids()
        return find_changes(self.frame, delete=ids, allow_delete=bool(ids), **options)

    # --- edits ------------------------------------------------------------------------

    def put(self, entries: Sequence[Entry], *, partly: bool = False) -> list[Objection]:
        """Set cells from texts, all or none, or `partly` those that can be; return why others were not set."""
        objections: list[Objection] = []
        values: dict[str, dict[int, Any]] = {}
        standing, read = self._standing(entries), self._read_written(entries)
        for entry in entries:
            try:
                for column, value in self._read(entry, standing, read).items():
                    values.setdefault(column, {})[entry.row] = value
            except ValueError as problem:
                objections.append(Objection(entry.row, entry.column, entry.text, str(problem)))
        if partly or not objections:
            self._apply(self._step(values))
            refused = {(entry.row, entry.column) for entry in objections}
            for entry in entries:
                if (entry.row, entry.column) not in refused:
                    self._forget_problem(entry.row, entry.column)
        return objections

    def _standing(self, entries: Iterable[Entry]) -> dict[tuple[int, str], tuple[int, str | None]]:
        """Return place and present text of the cells that are to be set, read column by column."""
        rows: dict[str, list[int]] = {}
        for entry in entries:
            if entry.column in self.fields:
                rows.setdefault(entry.column, []).append(entry.row)
        found: dict[tuple[int, str], tuple[int, str | None]] = {}
        for column, uids in rows.items():
            places = self.places(uids)
            texts = self.texts(places, column)
            found |= {(uid, column): pair for uid, *pair in zip(uids, places.tolist(), texts, strict=True)}  # type: ignore[misc]
        return found

    def _read_written(self, entries: Iterable[Entry]) -> dict[tuple[str, str], Any]:
        """Read the texts that are to be set, column by column."""
        texts: dict[str, dict[str, None]] = {}
        for entry in entries:
            if entry.text is not None and entry.column in self.fields:
                texts.setdefault(entry.column, {})[entry.text] = None
        found: dict[tuple[str, str], Any] = {}
        self.read_as = {}
        for column, written in texts.items():
            field = self.fields[column]
            said = self.conventions.of_column(column, field.name)
            values = read_texts(field.codec, list(written), said, percent=field.name == "probability")
            found |= {(column, text): value for text, value in zip(written, values, strict=True)}
            if isinstance(field.codec, Relations):
                names = {
                    text: field.codec.show(value)
                    for text, value in zip(written, values, strict=True)
                    if not isinstance(value, ValueError)
                }
                self.read_as |= {t: name for t, name in names.items() if t != name and fold_name(t) == fold_name(name)}
        return found

    def _read(
        self,
        entry: Entry,
        standing: Mapping[tuple[int, str], tuple[int, str | None]],
        read: Mapping[tuple[str, str], Any],
    ) -> dict[str, Any]:
        """Return what an entry means, by column; a ValueError says why it cannot be."""
        if entry.column not in self.fields:
            raise ValueError(f"there is no column {printable(entry.column, 60)}")
        field = self.fields[entry.column]
        place, before = standing[entry.row, entry.column]
        if lock := self.cell_lock(place, entry.column):
            raise ValueError(lock)
        text = entry.text
        if text is None or (text == "" and field.codec != Plain(TEXT)):
            value = None
        else:
            text = _with_line_breaks(text, before)
            if text == before or _is_name_of(text, before, field):
                # The very text that stands there: nothing is read, so nothing can be lost.
                return {}
            value = read[entry.column, entry.text] if text == entry.text else field.codec.read(text)
            if isinstance(value, ValueError):
                raise ValueError(f"{field.title}: {printable(repr(text), 60)} {value}")
        if field.id_column is not None:
            return self._relation(field, value)
        self._check(field, value)
        return {entry.column: value}

    def _relation(self, field: Field, value: int | None) -> dict[str, Any]:
        """Set id and name together, so that they agree."""
        id_column = str(field.id_column)
        name = self._book.name(id_column, value)
        if value is not None:
            problem = rules.value_objection(id_column, value) or self._book.objection(id_column, value)
            if problem is not None:
                raise ValueError(problem)
        found: dict[str, Any] = {}
        if id_column in self._by_name:
            found[self._by_name[id_column]] = value
        if NAME_OF[id_column] in self._by_name and (name is not None or value is None):
            found[self._by_name[NAME_OF[id_column]]] = name
        return found

    def _check(self, field: Field, value: Any) -> None:
        """Hold a value to the rules of the service and of the organisation."""
        if field.named_only:
            # The service is asked for the id when the deal is created.
            return
        if field.name in self.loaded.converted:
            # Their codecs know kind and options; what is required is left.
            problem = custom_objection(self.loaded.custom_fields, field.name, None) if value is None else None
        else:
            wire = None if is_missing(value) else rules.WRITABLE[field.name].encode(value)
            problem = rules.value_objection(field.name, wire)
            problem = problem or custom_objection(self.loaded.custom_fields, field.name, wire)
        if problem is not None:
            raise ValueError(problem)

    def clear(self, cells: Iterable[tuple[int, str]]) -> list[Objection]:
        """Set cells to missing, all or none."""
        return self.put([Entry(row, column, None) for row, column in cells])

    def revert(self, cells: Iterable[tuple[int, str]]) -> int:
        """Put back what was loaded into cells that differ from it; give how many."""
        marked: dict[str, list[int]] = {}
        for row, column in cells:
            marked.setdefault(column, []).append(row)
        count, values = 0, dict[str, dict[int, Any]]()
        for column, rows in marked.items():
            field = self.fields[column]
            columns = [column]
            if field.id_column is not None:
                names = (field.id_column, NAME_OF[field.id_column])
                columns = [self._by_name[name] for name in names if name in self._by_name]
            places = self.places(rows)
            places = places[self.changed_mask(places, column)]
            places = places[[not self.row_lock(place) for place in places.tolist()]]
            count += len(places)
            for each in columns:
                loaded = self._loaded_values(places, self.fields[each])
                values.setdefault(each, {}).update(zip(self.uids[places].tolist(), loaded, strict=True))
        self._apply(self._step(values))
        return count

    def _loaded_values(self, places: Places, field: Field) -> list[Any]:
        """Return the loaded values of cells as they stand in the frame: lists for tuples, converted texts as values."""
        loaded = self._base(places, field.name)
        if field.name in self.loaded.converted:
            from opp_pandas.load.custom_fields import convert_texts

            shown, _ = convert_texts(pd.Series(loaded, dtype="str"), self.loaded.custom_fields[field.name])
            loaded = shown.array
        values = [None if is_missing(value) else value for value in loaded]
        return [list(value) if isinstance(value, tuple) and field.kind == "tags" else value for value in values]

    def _step(self, values: Mapping[str, Mapping[int, Any]]) -> CellStep:
        """Make a step of the cells that really change."""
        edits: list[ColumnEdit] = []
        for column, rows in values.items():
            uids = np.fromiter(rows, dtype=np.int64)
            before = self._values(self.places(uids), column)
            after = list(rows.values())
            moved = [index for index, pair in enumerate(zip(before, after, strict=True)) if not _is_same(*pair)]
            if moved:
                edits.append(
                    ColumnEdit(
                        column,
                        tuple(int(uids[index]) for index in moved),
                        tuple(before[index] for index in moved),
                        tuple(after[index] for index in moved),
                    )
                )
        return CellStep(tuple(edits))

    def _values(self, places: Places, column: str) -> list[Any]:
        return [None if is_missing(value) else value for value in self._frame[column].take(places).array]

    def add(self, values: Mapping[str, Any] | None = None) -> int:
        """Add a new deal below the others; give its row's number."""
        known = {self.fields[c].name: value for c, value in (values or {}).items()}
        before = (self._frame, self.uids)
        self._frame = add_rows(self._frame, known)
        uid, self._next_uid = self._next_uid, self._next_uid + 1
        self.uids = np.append(self.uids, np.int64(uid))
        self._forget_rows()
        self._record(RowStep(*before, self.deleted, self._frame, self.uids, self.deleted, added=(uid,)))
        return uid

    def delete(self, rows: Iterable[int]) -> list[Objection]:
        """Mark deals for deletion, all or none; new ones are dropped."""
        wanted = [int(row) for row in rows]
        reasons = {uid: self._delete_lock(place) for uid, place in zip(wanted, self.places(wanted), strict=True)}
        objections = [Objection(uid, "", None, reason) for uid, reason in reasons.items() if reason]
        if not objections and set(wanted) - self.deleted:
            self._redelete(self.deleted | set(wanted))
        return objections

    def restore(self, rows: Iterable[int]) -> None:
        """Take the mark for deletion back."""
        kept = self.deleted - set(rows)
        if kept != self.deleted:
            self._redelete(kept)

    def _redelete(self, deleted: Iterable[int]) -> None:
        fresh = frozenset(deleted)
        step = RowStep(self._frame, self.uids, self.deleted, self._frame, self.uids, fresh)
        self.deleted = fresh
        self._record(step)

    def _delete_lock(self, place: np.int64) -> str:
        if place in self.rows.refused:
            return self.rows.refused[int(place)]
        forbidden = self._forbids(int(self.rows.places[place]), "can_delete")
        return "this user may not delete the deal (can_delete is false)" if forbidden else ""

    # --- undo and redo ------------------------------------------------------------------

    def undo(self) -> Step | None:
        """Take the last step back; None where there is none."""
        if not self.done:
            return None
        step = self.done.pop()
        self.log.pop()
        self.undone.append(step)
        self._walk(step, back=True)
        return step

    def redo(self) -> Step | None:
        """Make the last step again that was taken back; None where there is none."""
        if not self.undone:
            return None
        step = self.undone.pop()
        self.done.append(step)
        self.log.append(step)
        self._walk(step, back=False)
        return step

    def _apply(self, step: CellStep) -> None:
        if step.edits:
            self._walk(step, back=False)
            self._record(step)

    def _record(self, step: Step) -> None:
        self.edition = next(_EDITIONS)
        self.done.append(step)
        self.log.append(step)
        self.undone.clear()

    def _walk(self, step: Step, *, back: bool) -> None:
        self.edition = next(_EDITIONS)
        if isinstance(step, RowStep):
            self._frame, self.uids, self.deleted = step.before if back else step.after
            self._forget_rows()
            return
        for edit in step.edits:
            self._set(edit.column, self.places(edit.rows), edit.before if back else edit.after)
        for edit in step.edits:
            column = self.counted(edit.column)
            marks = self.changed_mask(self.places(edit.rows), column).tolist()
            for uid, mark in zip(edit.rows, marks, strict=True):
                (self.changed.add if mark else self.changed.discard)((uid, column))
                self._forget_problem(uid, column)

    def _forget_problem(self, row: int, column: str) -> None:
        field = self.fields.get(column)
        self.problems.pop((row, column if field is None else self.counted(column)), None)
        if not any(uid == row and name for uid, name in self.problems):
            # What is said of the row spoke of cells that have been edited since.
            self.problems.pop((row, ""), None)

    def _forget_rows(self) -> None:
        """Look the rows up again after some were added or taken away."""
        for name in ("rows", "is_new", "_book", "_everything", "_stand_as_loaded"):
            self.__dict__.pop(name, None)

    def _set(self, column: str, places: Places, values: Sequence[Any]) -> None:
        """Set cells of one column of the sheet's own frame."""
        index = self._frame.columns.get_loc(column)
        series = self._frame.iloc[:, cast("int", index)]
        if series.dtype == object:
            cells = series.to_numpy(dtype=object, copy=True)
            for place, value in zip(places, values, strict=True):
                cells[place] = list(value) if isinstance(value, list) else value
            self._frame.isetitem(cast("int", index), cells)
            return
        array = series.array.copy()
        array[places] = pd.array(cast("Any", list(values)), dtype=cast("Any", series.dtype))
        self._frame.isetitem(cast("int", index), array)

    # --- taking in what was written -------------------------------------------

    def take(self, frame: pd.DataFrame) -> None:
        """Go on with a frame that `write_back` took the answers in: deleted rows are gone, new ones have their ids."""
        kept = self.uids[self.kept()]
        self.edition = next(_EDITIONS)
        if require_loaded(frame, "edit()").key == self.loaded.key:
            return
        ids = set(frame["id"].dropna().tolist()) if "id" in frame.columns else set(frame.index.get_level_values("id"))
        doomed = dict(zip(self.places(sorted(self.deleted)).tolist(), sorted(self.deleted), strict=True))
        gone = {uid for place, uid in doomed.items() if self.rows.ids[place] not in ids}
        self.uids = np.array([uid for uid in kept.tolist() if uid not in gone], dtype=np.int64)
        self.deleted = frozenset(self.deleted & set(self.uids.tolist()))
        self._frame = frame.copy(deep=False)
        self.done.clear()
        self.undone.clear()
        self._forget_rows()
        self.__dict__.pop("fields", None)
        self.changed = {(int(self.uids[place]), column) for place, column in self._all_changed()}

    def note(self, problems: Mapping[tuple[int, str], str]) -> None:
        """Keep why cells (or, under the column ``""``, rows) were not written, until they are edited again."""
        self.problems = dict(problems)


def _is_name_of(text: str, before: str | None, field: Field) -> bool:
    """Whether a cell bears the name already, with the id behind it that tells namesakes apart."""
    name, _, rest = (before or "").rpartition(" (")
    return isinstance(field.codec, Relations) and name == text and rest[:-1].isdecimal()


def _with_line_breaks(text: str, before: str | None) -> str:
    """Browsers make every line break a bare one; a text that had the long ones keeps them."""
    if before is not None and "\r\n" in before and "\n" not in before.replace("\r\n", "") and "\r" not in text:
        return text.replace("\n", "\r\n")
    return text


def _is_same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is None and other is None
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(one) == list(other)
    return bool(one == other)
