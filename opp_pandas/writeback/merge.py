"""Three-way merge of one row: what was loaded, what the user made of it, what the service has now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from opp_pandas.resource import OPPORTUNITY
from opp_pandas.writeback.plan import Cell

if TYPE_CHECKING:
    from collections.abc import Mapping

Policy = Literal["skip", "ask", "mine", "theirs"]
POLICIES: tuple[Policy, ...] = ("skip", "ask", "mine", "theirs")


@dataclass(frozen=True)
class Merged:
    """What is left to do for one row.

    Parameters
    ----------
    send : tuple of Cell
        Mine alone changed, or the policy chose mine; ``before`` is what the
        service has now.
    done : tuple of Cell
        Both sides made the same change: nothing to do.
    kept : tuple of Cell
        Both changed, and the policy chose theirs.
    conflicts : tuple of (Cell, object)
        Both changed, differently, with the service's present value.
    """

    send: tuple[Cell, ...] = ()
    done: tuple[Cell, ...] = ()
    kept: tuple[Cell, ...] = ()
    conflicts: tuple[tuple[Cell, Any], ...] = ()


def merge_row(cells: tuple[Cell, ...], theirs: Mapping[str, Any], policy: Policy = "skip") -> Merged:
    """Merge the edited cells of one row with what the service has now.

    Parameters
    ----------
    cells : tuple of Cell
        The edits, with the loaded value as ``before`` (wire values).
    theirs : mapping of str to object
        The service's present wire values by column; a column that is not there
        was not sent, and counts as unchanged.
    policy : {"skip", "ask", "mine", "theirs"}
        What to do where both sides changed one cell. "skip" and "ask" leave it
        as a conflict.

    Returns
    -------
    Merged
    """
    send, done, kept, conflicts = [], [], [], []
    for cell in cells:
        now = theirs.get(cell.column, cell.before)
        if same_value(cell.column, now, cell.after):
            done.append(cell)
        elif same_value(cell.column, now, cell.before) or policy == "mine":
            send.append(Cell(cell.column, now, cell.after, cell.follows))
        elif policy == "theirs":
            kept.append(Cell(cell.column, now, cell.after, cell.follows))
        else:
            conflicts.append((cell, now))
    return Merged(tuple(send), tuple(done), tuple(kept), tuple(conflicts))


def same_value(column: str, one: Any, other: Any) -> bool:
    """Whether two wire values of a column mean the same cell.

    Values are compared as they are read: ``10.0`` is ``10``, an instant is the
    same in every zone it is written in; ``""`` is not missing, and tags keep
    their order.
    """
    return bool(_canonical(column, one) == _canonical(column, other))


def _canonical(column: str, value: Any) -> Any:
    from opp_pandas.service.decoding import DECODERS, UnfitError

    attribute = OPPORTUNITY.by_column.get(column)
    if attribute is None:
        return (type(value) is bool, value)
    try:
        return "read", DECODERS[attribute.kind](value)[0]
    except UnfitError:
        # Nothing but the very same original equals a value that cannot be read.
        return "raw", repr(value)
