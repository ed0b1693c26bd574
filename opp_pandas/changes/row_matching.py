"""Finding for every row of an edited frame the row that was loaded, or that it is new; and reading the new ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.api.documents import identifier
from opp_pandas.changes import rules
from opp_pandas.changes.changeset import RowCreation
from opp_pandas.errors import DuplicateRowsError, FrameError, MissingColumnError, named, printable
from opp_pandas.frame_state import OWN_CUSTOM_ID, Loaded, Pending
from opp_pandas.kinds import INTEGER, UnfitError
from opp_pandas.load.custom_fields import custom_objection, missing_required, plain_frame
from opp_pandas.resource import COLUMN_DTYPES, EDITABLE_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from opp_pandas.changes.name_lookup import NameBook
    from opp_pandas.choices import CustomIds

_MADE_UP = "is not an id that was loaded; an id cannot be changed or made up"
_NOT_NEW = "has no id and came neither by add() nor by adopt(); bring new deals in with df.opp.add(rows)"


def cell_objection(
    loaded: Loaded, book: NameBook, column: str, value: Any, raw: Any, unreadable: str | None
) -> str | None:
    """Explain why a cell cannot be written, of which `value` was read from `raw` unless that is `unreadable`."""
    if unreadable is not None:
        return rules.unreadable_reason(column, raw, unreadable)
    objection = rules.value_objection(column, value) or book.objection(column, value)
    return objection or custom_objection(loaded.custom_fields, column, value)


@dataclass(frozen=True, eq=False)
class Rows:
    """Where each row of a frame belongs.

    ``ids`` are read back from whatever dtype they have drifted to; ``places`` are
    positions in the baseline, -1 for rows that are not in it under an id.
    ``created`` holds the rows that wait to be created, by position, with their
    label, ``refused`` every other one and why it cannot be written.
    """

    ids: Any
    places: np.ndarray[Any, np.dtype[np.int64]]
    created: dict[int, tuple[Any, Pending]]
    refused: dict[int, str]


def usable_frame(frame: pd.DataFrame, loaded: Loaded) -> pd.DataFrame:
    """Bring a frame into the shape that is compared, or refuse it: plain unique columns, ids in a column, API names."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise FrameError(
            "the columns are a MultiIndex; give changes() a frame with one row per deal, not a pivot of it"
        )
    known = set(COLUMN_DTYPES) | set(loaded.baseline.frame.columns)
    levels = [name for name in frame.index.names if name in known and name not in frame.columns]
    if levels:
        frame = frame.reset_index(level=levels)
    frame = plain_frame(frame, loaded)
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        words = named(dict.fromkeys(map(str, doubled)))
        raise DuplicateRowsError(f"column {words} stands twice; drop or rename one", list(doubled))
    if "id" not in frame.columns:
        hint = "Without it no row can be found again: bring the column back, or start from the loaded frame."
        raise MissingColumnError(["id"], frame.columns, hint)
    return frame


def match_rows(frame: pd.DataFrame, loaded: Loaded) -> Rows:
    """Match the rows of a usable frame with what was loaded; one deal in several rows, as after a merge, is refused."""
    own = frame["id"]
    own = own.map(_read_id, na_action="ignore") if own.dtype in ("object", "str") else own
    values, reasons = INTEGER.read_column(own)
    present = ~np.asarray(values.isna())
    known = loaded.baseline.frame["id"].array
    if present.all() and len(values) == len(known) and not INTEGER.differs(values, known).any():
        # Every row stands where it was loaded: no look-up of a million ids has to say so.
        return Rows(values, np.arange(len(frame)), {}, {})
    ids = pd.Series(values[present])
    doubled = ids[ids.duplicated()].unique()
    if len(doubled):
        raise DuplicateRowsError(
            f"id {named(doubled)} stands in more than one row, as after a merge that doubled rows; keep one row per id",
            [int(value) for value in doubled],
        )
    places = np.full(len(frame), -1)
    places[present] = loaded.baseline.ids.get_indexer(pd.Index(ids.to_numpy(dtype=np.int64)))
    # Rows that wait for their id bear negative numbers there, which no id of the frame may reach.
    places[present & np.asarray(values.to_numpy(dtype=np.int64, na_value=0) <= 0)] = -1
    refused = {place: f"id {reason}" for place, reason in reasons.items()}
    refused |= {int(place): f"id {values[place]} {_MADE_UP}" for place in np.flatnonzero(present & (places < 0))}
    waiting = [int(place) for place in np.flatnonzero(~present) if int(place) not in refused]
    created = _match_new(frame, loaded, waiting)
    refused |= {place: f"the row {_NOT_NEW}" for place in waiting if place not in created}
    return Rows(values, places, created, refused)


def _read_id(value: Any) -> Any:
    """Read an id that came as text, as from a CSV that was read without types."""
    try:
        return identifier(value) if isinstance(value, str) else value
    except UnfitError:
        return value


def _match_new(frame: pd.DataFrame, loaded: Loaded, waiting: list[int]) -> dict[int, tuple[Any, Pending]]:
    """Find rows without an id by their custom id, or else by their index label."""
    pending = loaded.pending
    own = {label: entry.custom_id for label, entry in pending.items() if entry.custom_id is not None}
    counts = Counter(own.values())
    by_custom_id = {custom: label for label, custom in own.items() if counts[custom] == 1}
    custom_ids = frame["custom_id"].array if "custom_id" in frame.columns else [None] * len(frame)
    created: dict[int, tuple[Any, Pending]] = {}
    for place in waiting:
        custom = custom_ids[place]
        # The custom id leads: labels move to other rows in reset_index(drop=True).
        label = by_custom_id[custom] if custom in by_custom_id else frame.index[place]
        if label in pending:
            created[place] = label, pending[label]
    doubled = [label for label, count in Counter(label for label, _ in created.values()).items() if count > 1]
    if doubled:
        raise DuplicateRowsError(
            f"the new deal of row {named(doubled)} stands in more than one row; keep one row per deal", doubled
        )
    return created


class NewRows:
    """The rows of a usable frame that wait to be created, read column by column; `refuse` is told of cells unfit."""

    def __init__(
        self, frame: pd.DataFrame, loaded: Loaded, rows: Rows, book: NameBook, refuse: Callable[..., None]
    ) -> None:
        self.frame, self.loaded, self.created, self.book = frame, loaded, rows.created, book
        self.places = list(self.created)
        self.values: dict[int, dict[str, Any]] = {place: {} for place in self.created}
        self.unresolved: dict[int, dict[str, str]] = {place: {} for place in self.created}
        self._refuse = refuse

    def read(self, custom_ids: CustomIds) -> list[RowCreation]:
        """Return the creations, those with a refused cell among them."""
        if not self.created:
            return []
        for column in self.frame.columns:
            if column in rules.WRITABLE:
                self._read_column(column)
        for column in EDITABLE_NAMES:
            if column in self.frame.columns:
                self._read_names(column)
        gives_ids = self._gives_ids(custom_ids)
        for place, row in self.values.items():
            if not str(row.get("name") or "").strip():
                self._refuse(place, "create", "name", None, None, "a new deal needs a name")
            for column, reason in missing_required(self.loaded.custom_fields, row):
                self._refuse(place, "create", column, None, None, reason)
            self._resolve_amounts(place, row)
            if gives_ids and row.get("custom_id") is None:
                row["custom_id"] = self.created[place][1].key
        return [
            RowCreation(place, label, self.values[place], self.unresolved[place], pending.key, pending.attempted)
            for place, (label, pending) in self.created.items()
        ]

    def _gives_ids(self, custom_ids: CustomIds) -> bool:
        """Whether new deals get a custom id of ours: where no deal has one that the outside CRM may have given."""
        if custom_ids != "auto":
            return custom_ids == "always"
        column = self.loaded.baseline.frame.get("custom_id")
        if column is None:
            # A load without the column does not tell; an adopted file without it has none.
            return self.loaded.kind == "adopt"
        return bool(column.dropna().str.startswith(OWN_CUSTOM_ID).all())

    def _read_column(self, column: str) -> None:
        series = self.frame[column].iloc[self.places]
        kind = rules.WRITABLE[column]
        values, reasons = kind.read_column(series)
        for index, (place, after) in enumerate(zip(self.places, kind.encode_all(values), strict=True)):
            raw = series.iloc[index]
            if after is None and index not in reasons:
                reason = self._unread(self.created[place][1].position, column)
            else:
                reason = cell_objection(self.loaded, self.book, column, after, raw, reasons.get(index))
            if reason is not None:
                self._refuse(place, "create", column, None, raw, reason)
            elif after is not None:
                self.values[place][column] = after

    def _unread(self, position: int | None, column: str) -> str | None:
        """A cell that adopt() could not read must not silently be created as missing."""
        if position is None or (position, column) not in self.loaded.baseline.marks.locked:
            return None
        raw = printable(repr(self.loaded.baseline.marks.original.get((position, column))), 60)
        return f"{column} could not be read from {raw}: set it, or drop the column"

    def _read_names(self, column: str) -> None:
        id_column = EDITABLE_NAMES[column]
        for place, name in zip(self.places, self.frame[column].iloc[self.places], strict=True):
            if not isinstance(name, str):
                continue
            row_id = self.values[place].get(id_column)
            if row_id is None:
                self.unresolved[place][column] = name
            elif self.book.name(id_column, row_id) not in (None, name):
                reason = f"{column} says {printable(name, 60)!r} and {id_column} says {row_id}: make them agree"
                self._refuse(place, "create", column, None, name, reason)

    def _resolve_amounts(self, place: int, row: dict[str, Any]) -> None:
        """Let the amount that was edited lead the other; without a clue refuse two different sums."""
        amount, precise = row.get("amount"), row.get("amount_precise")
        if precise is None or rules.amounts_agree(amount, precise):
            return
        position = self.created[place][1].position
        if position is None:
            if amount is not None:
                reason = f"amount {amount} and amount_precise {precise} are two sums: give one of them"
                self._refuse(place, "create", "amount", None, amount, reason)
            return
        loaded_precise = self.loaded.baseline.frame["amount_precise"].iloc[position]
        if precise != loaded_precise:
            row["amount"] = rules.whole_amount(precise)
        elif (exact := rules.precise_amount(amount)) is None:
            del row["amount_precise"]
        else:
            row["amount_precise"] = exact
