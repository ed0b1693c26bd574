"""Deletions: only of deals that are as they were loaded, and asked about where the answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.apply.merge import same_value
from opp_pandas.apply.operation import GONE, Operation, settle
from opp_pandas.apply.status import Status, wire_cells
from opp_pandas.changes.changeset import Cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.api.client import Answer
    from opp_pandas.apply.operation import Task, Wire
    from opp_pandas.changes.changeset import RowDeletion


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
