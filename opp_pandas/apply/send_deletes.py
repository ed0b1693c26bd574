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
    from opp_pandas.choices import Policy


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
        changed = [
            (Cell(column, deletion.before[column], None), value)
            for column, value in wire_cells(theirs, deletion.before).items()
            if not same_value(column, value, deletion.before[column])
        ]
        if changed and self._on_conflict == "theirs":
            outcome.settle(Status.UNCHANGED, "it changed since it was loaded, and theirs was kept")
        elif changed and self._on_conflict != "mine":
            outcome.take_conflict(changed, "it changed since it was loaded: ")
        else:
            settle(self._wire, _Delete(self._wire, task, deletion.id))


class _Delete(Operation):
    unseen = "it is still there"

    def __init__(self, wire: Wire, task: Task, row_id: int) -> None:
        super().__init__(task)
        self._client, self._id = wire.client, row_id

    def send(self) -> Answer:
        return self._client.delete(self._id)

    def missing(self, why: str) -> None:
        if why:
            self.outcome.settle(Status.WRITTEN, f"{why}; it is deleted", 404)
        else:
            super().missing(why)

    def look(self, why: str) -> bool:  # noqa: ARG002
        # A record that is gone raises NotFoundError.
        self._client.get(self._id)
        return False
