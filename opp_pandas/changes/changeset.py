"""What a write-back would send, row by row, and what was refused: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from opp_pandas.errors import printable
from opp_pandas.resource import OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Mapping


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

    def attributes(self) -> dict[str, Any]:
        """Changed attributes by API name."""
        return {
            OPPORTUNITY.by_column[cell.column].name: cell.after
            for cell in self.cells
            if cell.column in OPPORTUNITY.by_column
        }

    def relationships(self) -> dict[str, int | None]:
        """Changed relationships by API name."""
        return {
            OPPORTUNITY.relationship_by_column[cell.column].name: cell.after
            for cell in self.cells
            if cell.column in OPPORTUNITY.relationship_by_column
        }


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

    def attributes(self) -> dict[str, Any]:
        """Attributes by API name."""
        return {OPPORTUNITY.by_column[c].name: v for c, v in self.values.items() if c in OPPORTUNITY.by_column}

    def relationships(self) -> dict[str, int | None]:
        """Relationships by API name."""
        known = OPPORTUNITY.relationship_by_column
        return {known[c].name: v for c, v in self.values.items() if c in known}


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


Entry = RowUpdate | RowCreation | RowDeletion
"""One row of a plan: one request that changes something."""
