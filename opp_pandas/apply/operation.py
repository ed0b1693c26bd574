"""One row of a plan on its way: written down, sent, and looked for where the answer was lost.

What all rows have in common, then rows that are there: edits are merged with what
the service has, deals deleted that are as they were loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from opp_pandas.api.paging import records_by_id
from opp_pandas.apply.merge import merge_row, same_value
from opp_pandas.apply.status import Outcome, Status, may_still_arrive, perhaps_applied, planned, sentences, wire_cells
from opp_pandas.changes.changeset import Cell, Entry, RowDeletion, RowUpdate, members_of
from opp_pandas.errors import CallBudgetError, NotFoundError, ServiceError, printable
from opp_pandas.resource import OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opp_pandas.api.client import Answer, Client
    from opp_pandas.apply.executor import ApplyOptions, Ask
    from opp_pandas.apply.journal import OpenPlan
    from opp_pandas.choices import Policy

GONE = "the service no longer has it, or this user may not see it"
MOST_SENDS = 2
T = TypeVar("T")


@dataclass
class Task:
    """One row of a plan on its way.

    ``number`` is its place in the plan and in the journal, ``attempted`` says
    whether an earlier attempt may have been applied, ``sends`` how often it was
    sent already, in earlier sessions too, and ``noted`` is what else is written
    down with what is sent.
    """

    number: int
    entry: Entry
    attempted: bool = False
    sends: int = 0
    noted: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = field(init=False)

    def __post_init__(self) -> None:
        self.outcome = planned(self.entry)


class Wire(NamedTuple):
    """Where rows are sent and how, and where every step is written down."""

    options: ApplyOptions
    plan: OpenPlan

    @property
    def client(self) -> Client:
        """Where to."""
        return self.options.client


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

    def take_shown(self, answer: Answer, row_id: int) -> None:
        """Note what was stored; read it where the answer does not show it (a 204, a record without what was sent)."""
        columns, resource, words = {cell.column for cell in self.cells}, answer.data, ""
        if resource is None or not columns <= wire_cells(resource, columns).keys():
            try:
                resource = self.wire.client.get(row_id).data
            except ServiceError as error:
                words = f"written; reading it again failed ({printable(error.message, 120)}), so refresh() shows it"
        self.outcome.settle(Status.WRITTEN, words, answer.status)
        if resource is not None:
            self.outcome.take_resource(resource, self.cells, words)

    def missing(self, why: str) -> None:
        """Note that the service no longer has the row; `why` says of a lost answer before, if there was one."""
        self.outcome.settle(Status.GONE, f"{why}, and the service no longer has it" if why else GONE, 404)

    @abstractmethod
    def look(self, why: str) -> bool:
        """Ask the service what became of a lost answer; False if the row may be sent again."""

    def looked(self, why: str) -> bool:
        """Look what became of the row; where that fails too nobody knows. False if it may be sent again."""
        try:
            return self.look(why)
        except NotFoundError:
            self.missing(why)
        except ServiceError as error:
            words = f"{why}, and looking again failed ({printable(error.message, 120)}); opp.resume() settles it"
            self.outcome.settle(Status.UNKNOWN, words)
        return True

    def give_up(self, why: str, *, unsure: bool) -> None:
        """Note that the row was sent as often as it may be and is not seen."""
        often = "once" if self.task.sends == 1 else f"{self.task.sends} times"
        words = f"{why}; sent {often}, and {self.unseen}"
        if unsure:
            self.outcome.settle(Status.UNKNOWN, f"{words}; opp.resume() looks again")
        else:
            self.outcome.settle(Status.FAILED, words)


def settle(operation: Operation, why: str = "") -> None:
    """Send a row; where the answer is lost look, and send once more what was not applied.

    A ServiceError says that the row was surely not applied.
    """
    task, outcome, unsure = operation.task, operation.outcome, True
    while task.sends < operation.most_sends:
        outcome.sent = operation.cells
        operation.wire.plan.sent(task.number, task.sends + 1, outcome.sent, task.noted)
        task.sends += 1
        try:
            answer = operation.send()
        except ServiceError as error:
            outcome.attempts += 1
            is_lost, words = perhaps_applied(error), printable(error.message, 120)
            if isinstance(error, NotFoundError):
                operation.missing(why)
                return
            if is_lost:
                why, unsure, task.attempted = f"the answer was lost ({words})", may_still_arrive(error), True
            elif not task.attempted or isinstance(error, CallBudgetError):
                raise
            else:
                # Refused, and that may be because the first attempt, whose answer was lost, was applied.
                why = f"{why}; refused the second time ({words})"
            if operation.looked(why):
                return
            if not is_lost and operation.look_is_sure:
                raise
            if not is_lost:
                break
        else:
            outcome.attempts += answer.attempts
            operation.take(answer)
            return
    operation.give_up(why, unsure=unsure or not operation.look_is_sure)


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a list into pieces of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def read_records(client: Client, **asked: Any) -> dict[int, Mapping[str, Any]]:
    """Read records by id; what is none is passed over."""
    pages = client.iter_pages(**asked)
    return {key: record for page in pages for key, record in records_by_id(page.document, OPPORTUNITY).items()}


def read_record(client: Client, row_id: int) -> Mapping[str, Any] | None:
    """Read a deal under its own address, where no index lags; None if it is gone."""
    try:
        resource: Mapping[str, Any] = client.get(row_id).data
    except NotFoundError:
        return None
    return resource


def _shown(
    client: Client, row_id: int, listed: Mapping[str, Any] | None, columns: Iterable[str]
) -> Mapping[str, Any] | None:
    """Return a deal read again; where a list shows less than these columns of it, as its own address gives it."""
    wanted = set(columns)
    return listed if listed is None or wire_cells(listed, wanted).keys() >= wanted else read_record(client, row_id)


def send_update(wire: Wire, task: Task, update: RowUpdate, theirs: Mapping[str, Any] | None) -> None:
    """Send what is left to do for a row; None: the service no longer has it."""
    outcome = task.outcome
    columns = [cell.column for cell in update.cells]
    theirs = _shown(wire.client, update.id, theirs, columns)
    if theirs is None:
        outcome.settle(Status.GONE, GONE)
        return
    outcome.resource = theirs
    outcome.updated_at = (theirs.get("attributes") or {}).get("updatedAt")
    # An attribute that is left out is missing; of a relationship a service may send links alone.
    now = {column: None for column in columns if column in OPPORTUNITY.by_column} | wire_cells(theirs, columns)
    merged = merge_row(update.cells, now, wire.options.on_conflict)
    if merged.conflicts and wire.options.on_conflict == "ask":
        asked = _asked(wire.options.ask or ask_here, update, merged.conflicts)
        # Answering takes its time: what was asked about must still stand there.
        outcome.resource = read_record(wire.client, update.id)
        if outcome.resource is None:
            outcome.settle(Status.GONE, "deleted at the service while its conflict was asked about", 404)
            return
        now = wire_cells(outcome.resource, columns)
        same = {cell.column for cell, seen in merged.conflicts if same_value(cell.column, now.get(cell.column), seen)}
        merged = merge_row(update.cells, now, {column: chosen for column, chosen in asked.items() if column in same})
    # A cell that follows another goes without saying.
    names = [cell.column for cell in merged.kept if cell.follows is None]
    kept = f"theirs was kept: {', '.join(names)}" if names else ""
    if merged.conflicts:
        outcome.take_conflict(merged.conflicts)
    elif merged.send:
        patch(wire, task, update.id, merged.send, outcome.resource)
        if outcome.status in (Status.WRITTEN, Status.ADJUSTED):
            outcome.detail = sentences(outcome.detail, kept)
    elif merged.kept:
        outcome.settle(Status.UNCHANGED, kept or "theirs was kept")
    elif task.attempted:
        outcome.take_resource(outcome.resource, update.cells, "an earlier attempt had written it")
    else:
        outcome.settle(Status.UNCHANGED, "the service has the same values already")


def ask_here(row_id: int, column: str, loaded: Any, mine: Any, theirs: Any) -> str:
    """Ask on the terminal or in the notebook; where nobody can answer the cell stays a conflict."""
    shown = ", ".join(
        f"{word} {printable(repr(value), 60)}"
        for word, value in (("loaded", loaded), ("mine", mine), ("theirs", theirs))
    )
    try:
        answer = input(f"id {row_id}, {column}: {shown}. Write [m]ine, keep [t]heirs, or [s]kip the row? ")
    except (EOFError, OSError, NotImplementedError, RuntimeError):
        return "skip"
    return {"m": "mine", "t": "theirs"}.get(answer.strip().lower()[:1], "skip")


def _asked(ask: Ask, update: RowUpdate, conflicts: Iterable[tuple[Cell, Any]]) -> dict[str, Policy]:
    chosen: dict[str, Policy] = {}
    for cell, now in conflicts:
        # A cell that follows another goes with it.
        answer = chosen.get(str(cell.follows)) or ask(update.id, cell.column, cell.before, cell.after, now)
        chosen[cell.column] = "mine" if answer == "mine" else "theirs" if answer == "theirs" else "skip"
    return chosen


def patch(wire: Wire, task: Task, row_id: int, cells: tuple[Cell, ...], resource: Mapping[str, Any]) -> None:
    """Send cells to a record that is now as `resource` says."""
    columns = {cell.column for cell in cells}
    # The service makes one sum of the other: whoever undoes the amount has to know the cents that were there.
    unsent = ["amount_precise"] if "amount" in columns and "amount_precise" not in columns else []
    task.noted["also"] = wire_cells(resource, unsent)
    settle(_Patch(wire, task, RowUpdate(row_id, -1, -1, cells)))


class _Patch(Operation):
    unseen = "reading again shows it not applied"

    def __init__(self, wire: Wire, task: Task, request: RowUpdate) -> None:
        super().__init__(wire, task, request.cells)
        self._request = request

    def send(self) -> Answer:
        return self.wire.client.update(self._request.id, *members_of(self._request))

    def take(self, answer: Answer) -> None:
        self.take_shown(answer, self._request.id)

    def look(self, why: str) -> bool:
        answer = self.wire.client.get(self._request.id)
        now = wire_cells(answer.data, (cell.column for cell in self.cells))
        seen = [(cell, now.get(cell.column, cell.before)) for cell in self.cells]
        if all(same_value(cell.column, value, cell.after) for cell, value in seen):
            self.outcome.take_answer(answer, self.cells, f"{why}; reading again shows it written")
            return True
        self.outcome.resource = answer.data
        if all(same_value(cell.column, value, cell.before) for cell, value in seen):
            return False
        self.outcome.take_conflict(seen, f"{why}, and the service has other values now: ")
        return True


def send_deletion(wire: Wire, task: Task, deletion: RowDeletion, theirs: Mapping[str, Any] | None) -> None:
    """Delete a deal; None: the service no longer has it."""
    outcome, policy = task.outcome, wire.options.on_conflict
    theirs = _shown(wire.client, deletion.id, theirs, deletion.before)
    if theirs is None:
        if task.attempted:
            outcome.settle(Status.WRITTEN, "an earlier attempt had deleted it")
        else:
            outcome.settle(Status.GONE, GONE)
        return
    changed = [
        (Cell(column, deletion.before[column], None), value)
        for column, value in wire_cells(theirs, deletion.before).items()
        if not same_value(column, value, deletion.before[column])
    ]
    if changed and policy == "theirs":
        outcome.settle(Status.UNCHANGED, "it changed since it was loaded, and theirs was kept")
    elif changed and policy != "mine":
        outcome.take_conflict(changed, "it changed since it was loaded: ")
    else:
        settle(_Delete(wire, task, deletion.id))


class _Delete(Operation):
    unseen = "it is still there"

    def __init__(self, wire: Wire, task: Task, row_id: int) -> None:
        super().__init__(wire, task)
        self._id = row_id

    def send(self) -> Answer:
        return self.wire.client.delete(self._id)

    def missing(self, why: str) -> None:
        if why:
            self.outcome.settle(Status.WRITTEN, f"{why}; it is deleted", 404)
        else:
            super().missing(why)

    def look(self, why: str) -> bool:  # noqa: ARG002
        # A record that is gone raises NotFoundError.
        self.wire.client.get(self._id)
        return False
