"""Edited rows: merged with what the service has, sent, and looked at again where the answer was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.merge import Policy, merge_row, same_value
from opp_pandas.apply.operation import GONE, LostAnswerError
from opp_pandas.apply.status import Status, may_still_arrive, wire_cells
from opp_pandas.changes.changeset import RowUpdate
from opp_pandas.errors import NotFoundError, ServiceError, printable

if TYPE_CHECKING:
    from opp_pandas.api.client import Answer
    from opp_pandas.apply.operation import Task, Wire
    from opp_pandas.apply.status import Outcome
    from opp_pandas.changes.changeset import Cell

Ask = Callable[[int, str, Any, Any, Any], str]
"""Called with id, column, loaded, mine and theirs; gives "mine", "theirs" or "skip"."""


class Updates:
    """Sends edited rows."""

    def __init__(self, wire: Wire, on_conflict: Policy, ask: Ask | None) -> None:
        self._wire, self._on_conflict, self._ask = wire, on_conflict, ask

    def send(self, task: Task, update: RowUpdate, theirs: Mapping[str, Any] | None) -> None:
        """Send what is left to do for a row; None: the service no longer has it."""
        outcome = task.outcome
        if theirs is None:
            outcome.settle(Status.GONE, GONE)
            return
        outcome.resource = theirs
        outcome.updated_at = (theirs.get("attributes") or {}).get("updatedAt")
        columns = [cell.column for cell in update.cells]
        policy: Policy | Mapping[str, Policy] = self._on_conflict
        merged = merge_row(update.cells, wire_cells(theirs, columns), policy)
        if merged.conflicts and self._on_conflict == "ask" and self._ask is not None:
            asked = self._asked(update, merged.conflicts)
            # Answering takes its time: what was asked about must still stand there.
            try:
                outcome.resource = self._wire.client.get(update.id).data
            except NotFoundError:
                outcome.settle(Status.GONE, "deleted at the service while its conflict was asked about", 404)
                return
            now = wire_cells(outcome.resource, columns)
            same = {
                cell.column for cell, seen in merged.conflicts if same_value(cell.column, now.get(cell.column), seen)
            }
            merged = merge_row(
                update.cells, now, {column: chosen for column, chosen in asked.items() if column in same}
            )
        if merged.conflicts:
            outcome.take_conflict(merged.conflicts)
        elif merged.send:
            self.patch(task, update.id, merged.send)
            if (kept := _kept_words(merged.kept)) and outcome.status in (Status.WRITTEN, Status.ADJUSTED):
                outcome.detail = "; ".join(filter(None, (outcome.detail, kept)))
        elif merged.kept:
            outcome.settle(Status.UNCHANGED, _kept_words(merged.kept) or "theirs was kept")
        elif task.attempted:
            outcome.take_resource(outcome.resource, update.cells, "an earlier attempt had written it")
        else:
            outcome.settle(Status.UNCHANGED, "the service has the same values already")

    def _asked(self, update: RowUpdate, conflicts: Iterable[tuple[Cell, Any]]) -> dict[str, Policy]:
        chosen: dict[str, Policy] = {}
        for cell, now in conflicts:
            if cell.follows in chosen:
                chosen[cell.column] = chosen[str(cell.follows)]
                continue
            answer = self._ask(update.id, cell.column, cell.before, cell.after, now) if self._ask else "skip"
            chosen[cell.column] = "mine" if answer == "mine" else "theirs" if answer == "theirs" else "skip"
        return chosen

    def patch(self, task: Task, row_id: int, cells: tuple[Cell, ...]) -> None:
        """Send the cells; where the answer is lost, read the row and see: at most twice."""
        outcome = task.outcome
        request = RowUpdate(row_id, -1, -1, cells)
        last = False
        while True:
            try:
                answer = self._wire.write(
                    task, cells, lambda: self._wire.client.update(row_id, request.attributes(), request.relationships())
                )
            except NotFoundError:
                outcome.settle(Status.GONE, "deleted at the service since it was read", 404)
                return
            except LostAnswerError as lost:
                if self._resolve_patch(outcome, row_id, cells, lost, last):
                    return
                last = True
                continue
            if answer.data is None:
                self._take_silent_success(outcome, row_id, cells, answer)
            else:
                outcome.take_answer(answer, cells)
            return

    def _take_silent_success(self, outcome: Outcome, row_id: int, cells: tuple[Cell, ...], answer: Answer) -> None:
        """A success without a document (204): read what the service made of it."""
        outcome.settle(Status.WRITTEN, http_status=answer.status)
        try:
            outcome.take_resource(self._wire.client.get(row_id).data, cells)
        except ServiceError as error:
            outcome.detail = (
                f"written; reading it again failed ({printable(error.message, 120)}), so refresh() shows it"
            )

    def _resolve_patch(
        self, outcome: Outcome, row_id: int, cells: tuple[Cell, ...], lost: LostAnswerError, last: bool
    ) -> bool:
        """Read the row after a lost answer; False if it is as before and may be sent again."""
        try:
            answer = self._wire.client.get(row_id)
        except NotFoundError:
            outcome.settle(
                Status.GONE, f"the answer was lost ({lost.words}), and the service no longer has the deal", 404
            )
            return True
        except ServiceError as second:
            words = f"the answer was lost ({lost.words}) and reading again failed ({printable(second.message, 120)})"
            outcome.settle(Status.UNKNOWN, f"{words}; opp.resume() settles it")
            return True
        now = wire_cells(answer.data, (cell.column for cell in cells))
        seen = [(cell, now.get(cell.column, cell.before)) for cell in cells]
        if all(same_value(cell.column, value, cell.after) for cell, value in seen):
            outcome.take_answer(answer, cells, "the answer was lost; reading again shows it written")
        elif not all(same_value(cell.column, value, cell.before) for cell, value in seen):
            outcome.resource = answer.data
            outcome.take_conflict(seen, f"the answer was lost ({lost.words}), and the service has other values now: ")
        elif last:
            outcome.resource = answer.data
            unsure = may_still_arrive(lost.cause)
            words = f"sent twice, and reading again shows it not applied ({lost.words})"
            words += "; opp.resume() looks again" if unsure else ""
            outcome.settle(Status.UNKNOWN if unsure else Status.FAILED, words)
        else:
            return False
        return True


def _kept_words(cells: Iterable[Cell]) -> str:
    """Name the cells of which the service's value stays; one that follows another goes without saying."""
    names = [cell.column for cell in cells if cell.follows is None]
    return f"theirs was kept: {', '.join(names)}" if names else ""
