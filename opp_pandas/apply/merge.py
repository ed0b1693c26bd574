"""Three-way merge of one row: what was loaded, what the user made of it, what the service has now."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from opp_pandas.kinds import KINDS, UnfitError
from opp_pandas.resource import OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.changes.changeset import Cell
    from opp_pandas.choices import Policy

POLICIES: tuple[Policy, ...] = ("skip", "ask", "mine", "theirs")
# One sum in two columns: the service makes one of the other, so they are won and lost together.
_ONE_SUM = frozenset({"amount", "amount_precise"})


@dataclass(frozen=True)
class Merged:
    """What is left to do for one row.

    ``send``: mine alone changed, or the policy chose mine; ``done``: both sides
    made the same change; ``kept``: both changed, and the policy chose theirs;
    ``conflicts``: both changed, differently, with the service's present value.
    The ``before`` of a cell is what the service has now.
    """

    send: tuple[Cell, ...] = ()
    done: tuple[Cell, ...] = ()
    kept: tuple[Cell, ...] = ()
    conflicts: tuple[tuple[Cell, Any], ...] = ()


def merge_row(
    cells: tuple[Cell, ...], theirs: Mapping[str, Any], policy: Policy | Mapping[str, Policy] = "skip"
) -> Merged:
    """Merge the edited cells of one row with the wire values that the service has now.

    A column that is not among `theirs` was not sent, and counts as unchanged.
    The policy says what to do where both sides changed one cell: "skip" and
    "ask" leave it as a conflict.
    """
    clash = {cell.column for cell in cells if _clashes(cell, theirs)}
    if clash & _ONE_SUM:
        clash |= _ONE_SUM
    send, done, kept, conflicts = [], [], [], []
    for cell in cells:
        now = theirs.get(cell.column, cell.before)
        chosen = policy if isinstance(policy, str) else policy.get(cell.column, "skip")
        if same_value(cell.column, now, cell.after):
            done.append(cell)
        elif same_value(cell.column, cell.before, cell.after):
            # No edit of mine: theirs stands under every policy.
            kept.append(cell._replace(before=now))
        elif cell.column not in clash or chosen == "mine":
            send.append(cell._replace(before=now))
        elif chosen == "theirs":
            kept.append(cell._replace(before=now))
        else:
            conflicts.append((cell, now))
    return Merged(tuple(send), tuple(done), tuple(kept), tuple(conflicts))


def _clashes(cell: Cell, theirs: Mapping[str, Any]) -> bool:
    now = theirs.get(cell.column, cell.before)
    three = (cell.before, cell.after), (cell.before, now), (cell.after, now)
    return not any(same_value(cell.column, one, other) for one, other in three)


def same_value(column: str, one: Any, other: Any) -> bool:
    """Whether two wire values of a column mean the same cell.

    Values are compared as they are read: ``10.0`` is ``10``, an instant is the
    same in every zone it is written in, ``"6000"`` as a precise amount the same
    as ``"6000.00"``; ``""`` is not missing, and tags keep their order.

    Examples
    --------
    >>> same_value("amount", 10.0, 10), same_value("name", "", None)
    (True, False)
    """
    return bool(_canonical(column, one) == _canonical(column, other))


def _canonical(column: str, value: Any) -> Any:
    attribute = OPPORTUNITY.by_column.get(column)
    if attribute is None:
        return type(value) is bool, value
    try:
        read = KINDS[attribute.kind].decode(value)[0]
    except UnfitError:
        # Nothing but the very same original equals a value that cannot be read.
        return "raw", repr(value)
    return "read", _sum_of(str(read)) if column == "amount_precise" and read is not None else read


def _sum_of(text: str) -> Decimal | str:
    """Return the number of a precise amount; the text itself where it is none (or NaN, which equals nothing)."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else text
