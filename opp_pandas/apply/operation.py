"""One row of a plan on its way: written down before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.status import Outcome, perhaps_applied, planned
from opp_pandas.errors import ServiceError, printable

if TYPE_CHECKING:
    from opp_pandas.api.client import Answer, Client
    from opp_pandas.apply.journal import Journal
    from opp_pandas.changes.changeset import Cell, RowCreation, RowDeletion, RowUpdate

GONE = "the service no longer has it, or this user may not see it"


@dataclass
class Task:
    """One row of a plan on its way.

    Parameters
    ----------
    number : int
        Its place in the plan and in the journal.
    entry : RowUpdate, RowCreation or RowDeletion
        What is intended.
    attempted : bool
        Whether an earlier attempt may have been applied.
    sends : int
        How often it was sent already, in earlier sessions too.
    """

    number: int
    entry: RowUpdate | RowCreation | RowDeletion
    attempted: bool = False
    sends: int = 0
    outcome: Outcome = field(init=False)

    def __post_init__(self) -> None:
        self.outcome = planned(self.entry)


class LostAnswerError(Exception):
    """A write may or may not have been applied; the cause says why nobody knows."""

    def __init__(self, cause: ServiceError) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.words = printable(cause.message, 120)


@dataclass(frozen=True)
class Wire:
    """Where rows are sent, and where every step is written down."""

    client: Client
    journal: Journal

    def write(self, task: Task, cells: Iterable[Cell], send: Callable[[], Answer]) -> Answer:
        """Write down what is about to be sent, then send it.

        Raises
        ------
        LostAnswerError
            If it may have been applied.
        ServiceError
            If it was surely not applied.
        """
        task.outcome.sent = tuple(cells)
        sent = [[cell.column, cell.before, cell.after, cell.follows] for cell in task.outcome.sent]
        self.journal.sent(task.number, task.sends + 1, sent)
        task.sends += 1
        try:
            answer = send()
        except ServiceError as error:
            task.outcome.attempts += 1
            if perhaps_applied(error):
                task.attempted = True
                raise LostAnswerError(error) from error
            raise
        task.outcome.attempts += answer.attempts
        return answer


def batches(items: Sequence[Any], size: int) -> Iterator[Any]:
    """Cut a list into pieces of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
