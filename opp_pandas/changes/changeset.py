"""What a write-back would send, row by row, and what was refused: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from opp_pandas.errors import printable
from opp_pandas.resource import OPPORTUNITY


class Cell(NamedTuple):
    """One edited cell; values as on the wire (ids for relationships).

    ``follows`` names the edited column that this one has to follow, such as
    ``amount_precise`` behind ``amount``.
    """

    column: str
    before: Any
    after: Any
    follows: str | None = None


@dataclass(frozen=True)
class RowUpdate:
    """The edited cells of one row: one PATCH."""

    action: ClassVar[str] = "update"
    id: int
    position: int
    base_position: int
    cells: tuple[Cell, ...]

    @property
    def values(self) -> dict[str, Any]:
        """What is sent, by column."""
        return {cell.column: cell.after for cell in self.cells}


@dataclass(frozen=True)
class RowCreation:
    """A new deal: one POST.

    ``unresolved`` are names that the service has to be asked about, ``key``
    tells the deal apart in every journal, ``attempted`` says that an earlier
    write may have created it, ``left_out`` are names without an id that it is
    created without.
    """

    action: ClassVar[str] = "create"
    position: int
    label: Any
    values: Mapping[str, Any]
    unresolved: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    attempted: bool = False
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def custom_id(self) -> str | None:
        """The custom id that it is sent with."""
        return self.values.get("custom_id")

    @property
    def found_by(self) -> str:
        """How the deal is found again where an answer is lost."""
        if self.custom_id is None:
            return "its name and values, where no other deal has the same"
        custom = printable(self.custom_id, 80)
        return f"the custom id {custom} made here" if self.custom_id == self.key else f"its own custom id {custom}"


@dataclass(frozen=True)
class RowDeletion:
    """A deal to delete: one DELETE.

    ``position`` is -1 where it is no longer in the frame, ``before`` what was
    loaded of it: if that has changed since, it is a conflict.
    """

    action: ClassVar[str] = "delete"
    id: int
    position: int
    name: str | None
    before: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A cell, or a whole row, that will not be sent, and why."""

    id: int | None
    position: int
    row: Any
    action: str
    column: str
    before: Any
    after: Any
    reason: str


def related_id(value: Any) -> Any:
    """The id that a relationship's wire value names, or the odd thing itself."""
    row_id = value["data"].get("id") if isinstance(value, Mapping) and value.get("data") else value
    return int(row_id) if isinstance(row_id, str) and row_id.isdigit() else row_id


Entry = RowUpdate | RowCreation | RowDeletion
"""One row of a plan: one request that changes something."""


def members_of(entry: RowUpdate | RowCreation) -> tuple[dict[str, Any], dict[str, int | None]]:
    """Attributes and relationships that a row sends, by API name."""
    attributes, relationships = OPPORTUNITY.by_column, OPPORTUNITY.relationship_by_column
    return (
        {attributes[column].name: value for column, value in entry.values.items() if column in attributes},
        {relationships[column].name: value for column, value in entry.values.items() if column in relationships},
    )
