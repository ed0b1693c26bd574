"""New deals: reading the rows that wait to be created."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.changes import rules
from opp_pandas.changes.changeset import Refusal, RowCreation
from opp_pandas.errors import printable
from opp_pandas.frame_state import OWN_CUSTOM_ID
from opp_pandas.kinds import plain_value
from opp_pandas.load.custom_fields import custom_objection, missing_required
from opp_pandas.resource import EDITABLE_NAMES

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.changes.name_lookup import NameBook
    from opp_pandas.changes.row_matching import Rows
    from opp_pandas.choices import CustomIds
    from opp_pandas.frame_state import Loaded


class NewRows:
    """The rows of a usable frame that wait to be created, read column by column.

    A row with a refused cell is held back whole.
    """

    def __init__(self, frame: pd.DataFrame, loaded: Loaded, rows: Rows, book: NameBook) -> None:
        self.frame, self.loaded, self.created, self.book = frame, loaded, rows.created, book
        self.places = list(self.created)
        self.values: dict[int, dict[str, Any]] = {place: {} for place in self.created}
        self.unresolved: dict[int, dict[str, str]] = {place: {} for place in self.created}
        self.refusals: list[Refusal] = []

    def read(self, custom_ids: CustomIds) -> list[RowCreation]:
        """Return the creations; `refusals` are known then, too."""
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
                self._refuse(place, "name", None, "a new deal needs a name")
            for column, reason in missing_required(self.loaded.custom_fields, row):
                self._refuse(place, column, None, reason)
            self._resolve_amounts(place, row)
            if gives_ids and row.get("custom_id") is None:
                row["custom_id"] = self.created[place][1].key
        held = {entry.position for entry in self.refusals}
        return [
            RowCreation(place, label, self.values[place], self.unresolved[place], pending.key, pending.attempted)
            for place, (label, pending) in self.created.items()
            if place not in held
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

    def _refuse(self, place: int, column: str, after: Any, reason: str) -> None:
        label = self.frame.index[place]
        self.refusals.append(Refusal(None, place, label, "create", column, None, after, reason))

    def _read_column(self, column: str) -> None:
        series = self.frame[column].iloc[self.places]
        kind = rules.WRITABLE[column]
        values, reasons = kind.read_column(series)
        for index, (place, after) in enumerate(zip(self.places, kind.encode_all(values), strict=True)):
            if index in reasons:
                reason: str | None = rules.unreadable_reason(column, series.iloc[index], reasons[index])
            elif after is None:
                reason = self._unread(self.created[place][1].position, column)
            else:
                reason = rules.value_objection(column, after) or self.book.objection(column, after)
                reason = reason or custom_objection(self.loaded.custom_fields, column, after)
            if reason is not None:
                self._refuse(place, column, plain_value(series.iloc[index]), reason)
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
                self._refuse(place, column, name, reason)

    def _resolve_amounts(self, place: int, row: dict[str, Any]) -> None:
        """Let the amount that was edited lead the other; without a clue refuse two different sums."""
        amount, precise = row.get("amount"), row.get("amount_precise")
        if precise is None or rules.amounts_agree(amount, precise):
            return
        position = self.created[place][1].position
        if position is None:
            if amount is not None:
                reason = f"amount {amount} and amount_precise {precise} are two sums: give one of them"
                self._refuse(place, "amount", amount, reason)
            return
        loaded_precise = self.loaded.baseline.frame["amount_precise"].iloc[position]
        if precise != loaded_precise:
            row["amount"] = rules.whole_amount(precise)
        elif (exact := rules.precise_amount(amount)) is None:
            del row["amount_precise"]
        else:
            row["amount_precise"] = exact
