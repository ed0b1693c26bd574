"""Rows that are there: edits are merged with what the service has, deals deleted that are as they were loaded.

Where the answer was lost the row is looked at again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.apply.apply_options import ask_here
from opp_pandas.apply.merge import merge_row, same_value
from opp_pandas.apply.operation import GONE, Operation, settle
from opp_pandas.apply.status import Status, sentences, wire_cells
from opp_pandas.changes.changeset import Cell, RowUpdate, members_of
from opp_pandas.errors import NotFoundError, ServiceError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opp_pandas.api.client import Answer
    from opp_pandas.apply.apply_options import Ask
    from opp_pandas.apply.operation import Task, Wire
    from opp_pandas.changes.changeset import RowDeletion
    from opp_pandas.choices import Policy


def send_update(wire: Wire, task: Task, update: RowUpdate, theirs: Mapping[str, Any] | None) -> None:
    """Send what is left to do for a row; None: the service no longer has it."""
    outcome = task.outcome
    if theirs is None:
        outcome.settle(Status.GONE, GONE)
        return
    outcome.resource = theirs
    outcome.updated_at = (theirs.get("attributes") or {}).get("updatedAt")
    columns = [cell.column for cell in update.cells]
    merged = merge_row(update.cells, wire_cells(theirs, columns), wire.options.on_conflict)
    if merged.conflicts and wire.options.on_conflict == "ask":
        asked = _asked(wire.options.ask or ask_here, update, merged.conflicts)
        # Answering takes its time: what was asked about must still stand there.
        try:
            outcome.resource = wire.client.get(update.id).data
        except NotFoundError:
            outcome.settle(Status.GONE, "deleted at the service while its conflict was asked about", 404)
            return
        now = wire_cells(outcome.resource, columns)
        same = {cell.column for cell, seen in merged.conflicts if same_value(cell.column, now.get(cell.column), seen)}
        merged = merge_row(update.cells, now, {column: chosen for column, chosen in asked.items() if column in same})
    kept = _kept_words(merged.kept)
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


def _asked(ask: Ask, update: RowUpdate, conflicts: Iterable[tuple[Cell, Any]]) -> dict[str, Policy]:
    chosen: dict[str, Policy] = {}
    for cell, now in conflicts:
        if cell.follows in chosen:
            chosen[cell.column] = chosen[str(cell.follows)]
            continue
        answer = ask(update.id, cell.column, cell.before, cell.after, now)
        chosen[cell.column] = "mine" if answer == "mine" else "theirs" if answer == "theirs" else "skip"
    return chosen


def _kept_words(cells: Iterable[Cell]) -> str:
    """Name the cells of which the service's value stays; one that follows another goes without saying."""
    names = [cell.column for cell in cells if cell.follows is None]
    return f"theirs was kept: {', '.join(names)}" if names else ""


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
        if answer.data is not None:
            self.outcome.take_answer(answer, self.cells)
            return
        # A success without a document (204): read what the service made of it.
        super().take(answer)
        try:
            self.outcome.take_resource(self.wire.client.get(self._request.id).data, self.cells)
        except ServiceError as error:
            reason = printable(error.message, 120)
            self.outcome.detail = f"written; reading it again failed ({reason}), so refresh() shows it"

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
