"""One row of a plan on its way: written down, sent, and looked for where the answer was lost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.status import Outcome, Status, may_still_arrive, perhaps_applied, planned
from opp_pandas.errors import CallBudgetError, NotFoundError, ServiceError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opp_pandas.api.client import Answer, Client
    from opp_pandas.apply.apply_options import ApplyOptions
    from opp_pandas.apply.journal import OpenPlan
    from opp_pandas.changes.changeset import Cell, RowCreation, RowDeletion, RowUpdate

GONE = "the service no longer has it, or this user may not see it"
MOST_SENDS = 2


@dataclass
class Task:
    """One row of a plan on its way.

    ``number`` is its place in the plan and in the journal, ``attempted`` says
    whether an earlier attempt may have been applied, ``sends`` how often it was
    sent already, in earlier sessions too, and ``noted`` is what else is written
    down with what is sent.
    """

    number: int
    entry: RowUpdate | RowCreation | RowDeletion
    attempted: bool = False
    sends: int = 0
    noted: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = field(init=False)

    def __post_init__(self) -> None:
        self.outcome = planned(self.entry)


class LostAnswerError(Exception):
    """A write may or may not have been applied; the cause says why nobody knows."""

    def __init__(self, cause: ServiceError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True)
class Wire:
    """Where rows are sent and how, and where every step is written down."""

    options: ApplyOptions
    plan: OpenPlan

    @property
    def client(self) -> Client:
        """Where to."""
        return self.options.client

    def write(self, task: Task, cells: Iterable[Cell], send: Callable[[], Answer]) -> Answer:
        """Write down what is about to be sent, then send it.

        A LostAnswerError says that it may have been applied, a ServiceError that it surely was not.
        """
        task.outcome.sent = tuple(cells)
        self.plan.sent(task.number, task.sends + 1, task.outcome.sent, task.noted)
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


class Operation(ABC):
    """What is particular about a create, an update or a delete; `settle` is what they have in common.

    Attributes
    ----------
    most_sends : int
        How often the row may be sent, earlier sessions included.
    unseen : str
        What a look shows of a row that was not applied.
    look_is_sure : bool
        Whether what is not seen is not there; an index may lag.
    """

    unseen = "it was not applied"
    look_is_sure = True

    def __init__(self, wire: Wire, task: Task, cells: tuple[Cell, ...] = ()) -> None:
        self.wire, self.task, self.cells, self.outcome = wire, task, cells, task.outcome
        self.most_sends = task.sends + MOST_SENDS

    @abstractmethod
    def send(self) -> Answer:
        """Make the request."""

    def take(self, answer: Answer) -> None:
        """Note what was answered."""
        self.outcome.settle(Status.WRITTEN, http_status=answer.status)

    def missing(self, why: str) -> None:
        """Note that the service no longer has the row; `why` says of a lost answer before, if there was one."""
        self.outcome.settle(Status.GONE, f"{why}, and the service no longer has it" if why else GONE, 404)

    @abstractmethod
    def look(self, why: str) -> bool:
        """Ask the service what became of a lost answer; False if the row may be sent again."""

    def give_up(self, why: str, *, unsure: bool) -> None:
        """Note that the row was sent as often as it may be and is not seen."""
        words = f"{why}; sent {self.task.sends} times, and {self.unseen}"
        if unsure:
            self.outcome.settle(Status.UNKNOWN, f"{words}; opp.resume() looks again")
        else:
            self.outcome.settle(Status.FAILED, words)


def settle(operation: Operation, why: str = "") -> None:
    """Send a row; where the answer is lost look, and send once more what was not applied.

    A ServiceError says that the row was surely not applied.
    """
    task, unsure = operation.task, True
    while task.sends < operation.most_sends:
        try:
            answer = operation.wire.write(task, operation.cells, operation.send)
        except NotFoundError:
            operation.missing(why)
            return
        except LostAnswerError as lost:
            why, unsure = f"the answer was lost ({printable(lost.cause.message, 120)})", may_still_arrive(lost.cause)
            if looked(operation, why):
                return
        except ServiceError as error:
            # Refused, and that may be because the first attempt, whose answer was lost, was applied.
            if not task.attempted or isinstance(error, CallBudgetError):
                raise
            why = f"{why}; refused the second time ({printable(error.message, 120)})"
            if looked(operation, why):
                return
            if operation.look_is_sure:
                raise
            break
        else:
            operation.take(answer)
            return
    operation.give_up(why, unsure=unsure or not operation.look_is_sure)


def looked(operation: Operation, why: str) -> bool:
    """Look what became of a row; where that fails too nobody knows."""
    try:
        return operation.look(why)
    except NotFoundError:
        operation.missing(why)
    except ServiceError as error:
        words = f"{why}, and looking again failed ({printable(error.message, 120)}); opp.resume() settles it"
        operation.outcome.settle(Status.UNKNOWN, words)
    return True


def exists(client: Client, row_id: int) -> bool:
    """Whether the service has a deal under its own address, where no index lags."""
    try:
        client.get(row_id)
    except NotFoundError:
        return False
    return True
