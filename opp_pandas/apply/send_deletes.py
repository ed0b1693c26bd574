"""Deletions: only of deals that are as they were loaded, and asked about where the answer was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.merge import Policy, same_value
from opp_pandas.apply.operation import GONE, LostAnswerError
from opp_pandas.apply.status import Status, may_still_arrive, wire_cells
from opp_pandas.changes.changeset import Cell
from opp_pandas.errors import NotFoundError, ServiceError, printable

if TYPE_CHECKING:
    from opp_pandas.apply.operation import Task, Wire
    from opp_pandas.apply.status import Outcome
    from opp_pandas.changes.changeset import RowDeletion


class Deletions:
    """Deletes deals."""

    def __init__(self, wire: Wire, on_conflict: Policy) -> None:
        self._wire, self._on_conflict = wire, on_conflict

    def send(self, task: Task, deletion: RowDeletion, theirs: Mapping[str, Any] | None) -> None:
        """Delete a deal; None: the service no longer has it."""
        outcome = task.outcome
        if theirs is None:
            if task.attempted:
                outcome.settle(Status.WRITTEN, "an earlier attempt had deleted it")
            else:
                outcome.settle(Status.GONE, GONE)
            return
        now = wire_cells(theirs, deletion.before)
        changed = [
            (Cell(column, deletion.before[column], None), value)
            for column, value in now.items()
            if not same_value(column, value, deletion.before[column])
        ]
        if changed and self._on_conflict == "theirs":
            outcome.settle(Status.UNCHANGED, "it changed since it was loaded, and theirs was kept")
        elif changed and self._on_conflict != "mine":
            outcome.take_conflict(changed, "it changed since it was loaded: ")
        else:
            self._delete_now(task, deletion.id)

    def _delete_now(self, task: Task, row_id: int) -> None:
        outcome = task.outcome
        last = False
        while True:
            try:
                answer = self._wire.write(task, (), lambda: self._wire.client.delete(row_id))
            except NotFoundError:
                if last:
                    outcome.settle(Status.WRITTEN, "the answer was lost; it is deleted", 404)
                else:
                    outcome.settle(Status.GONE, GONE, 404)
                return
            except LostAnswerError as lost:
                if self._resolve_delete(outcome, row_id, lost, last):
                    return
                last = True
                continue
            outcome.settle(Status.WRITTEN, http_status=answer.status)
            return

    def _resolve_delete(self, outcome: Outcome, row_id: int, lost: LostAnswerError, last: bool) -> bool:
        """Ask for the record after a lost answer; False if it is still there and may be deleted again."""
        try:
            self._wire.client.get(row_id)
        except NotFoundError:
            outcome.settle(Status.WRITTEN, f"the answer was lost ({lost.words}); it is deleted")
            return True
        except ServiceError as second:
            words = f"the answer was lost ({lost.words}) and reading again failed ({printable(second.message, 120)})"
            outcome.settle(Status.UNKNOWN, f"{words}; opp.resume() settles it")
            return True
        if last:
            unsure = may_still_arrive(lost.cause)
            words = f"sent twice, and it is still there ({lost.words})"
            outcome.settle(Status.UNKNOWN if unsure else Status.FAILED, words)
        return last
