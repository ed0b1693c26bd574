"""Carrying out a plan: read again, merge, write down, send, compare the answer.

Nothing is repeated blindly. A PATCH whose answer was lost is settled by reading
the row again, a POST by looking its custom id up, a DELETE by asking for the
record; what cannot be settled is reported as ``unknown`` with what to do.

Between reading a row again and its PATCH up to `REREAD_MAX_AGE_S` seconds pass;
an edit made by somebody else in that window is overwritten, because the service
offers no way to make a write depend on what it has.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.errors import (
    CallBudgetError,
    NotFoundError,
    RateLimitError,
    ServiceError,
    UnavailableError,
    named,
    printable,
)
from opp_pandas.writeback.merge import Policy, merge_row, same_value
from opp_pandas.writeback.outcomes import (
    Outcome,
    is_service_failure,
    may_still_arrive,
    perhaps_applied,
    planned,
    wire_cells,
)
from opp_pandas.writeback.plan import Cell, RowCreation, RowDeletion, RowUpdate
from opp_pandas.writeback.workers import run_units

if TYPE_CHECKING:
    from opp_pandas.service.client import Answer, Client
    from opp_pandas.writeback.journal import Journal
    from opp_pandas.writeback.journals import Attempt

REREAD_MAX_AGE_S = 5.0
# A row is written at most this many requests after it was read again: four
# workers stay below the age above while a request takes less than 0.45 s.
REREAD_BATCH = 10
LOOK_UP_BATCH = 50
STOP_AFTER_FAILURES = 5
# Together at least 5 s: how far the service's index may lag behind a write.
LOOK_UP_WAITS_S = (0.0, 1.0, 4.0)
_MOST_POSTS = 2
_GONE = "the service no longer has it, or this user may not see it"

Ask = Callable[[int, str, Any, Any, Any], str]
"""Called with id, column, loaded, mine and theirs; gives "mine", "theirs" or "skip"."""


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


class _LostAnswerError(Exception):
    """A write may or may not have been applied; the cause says why nobody knows."""

    def __init__(self, cause: ServiceError) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.words = printable(cause.message, 120)


class Writer:
    """Carries out one plan against one client.

    Parameters
    ----------
    client : Client
        Where to.
    journal : Journal
        Where every step is written down before and after it is made.
    on_conflict : {"skip", "ask", "mine", "theirs"}
        What to do where the service's value changed too.
    ask : callable, optional
        Who is asked with "ask"; without it such cells stay conflicts.
    workers : int
        How many rows are written at once.
    attempts : mapping of str to Attempt
        What other journals know of the new deals, by key.
    own_ids : iterable of int
        Deals that an earlier session of this plan created.
    clock, sleep : callable
        Seconds now, and waiting; passed in so that tests need not wait.
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        *,
        on_conflict: Policy = "skip",
        ask: Ask | None = None,
        workers: int = 1,
        attempts: Mapping[str, Attempt] | None = None,
        own_ids: Iterable[int] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client, self.journal, self.on_conflict, self.ask = client, journal, on_conflict, ask
        self.workers = 1 if on_conflict == "ask" else workers
        self.attempts = dict(attempts or {})
        self.clock, self.sleep = clock, sleep
        self._created_ids = set(own_ids)
        self._found: dict[str, list[Mapping[str, Any]]] = {}
        self._look_up_error: ServiceError | None = None
        self._doubled: frozenset[str] = frozenset()
        self._failures = 0
        self._stopped_because = ""
        self._lock = threading.RLock()
        self.stop = threading.Event()

    def carry_out(self, tasks: Sequence[Task], progress: Callable[[], Any] = lambda: None) -> None:
        """Send the tasks; each one's outcome says how it went.

        Parameters
        ----------
        tasks : sequence of Task
            Names of new deals already resolved.
        progress : callable
            Called once per task.

        Raises
        ------
        JournalError
            If a step cannot be written down; nothing more is sent then.
        KeyboardInterrupt
            After the outcomes known so far were set.
        """
        try:
            self._look_up_custom_ids(tasks)
            for action in (RowUpdate, RowCreation, RowDeletion):
                chosen = [task for task in tasks if isinstance(task.entry, action)]
                units = list(_chunks(chosen, REREAD_BATCH))
                run_units(units, lambda unit: self._handle(unit, progress), self.workers, self.stop)
        finally:
            for task in tasks:
                if task.outcome.status == "planned" and not task.outcome.detail:
                    task.outcome.detail = self._stopped_because

    def _handle(self, unit: Sequence[Task], progress: Callable[[], Any]) -> None:
        readings = _Readings(self, unit)
        for place, task in enumerate(unit):
            if self.stop.is_set():
                return
            self._guarded(task, readings, place)
            with self._lock:
                progress()

    def _guarded(self, task: Task, readings: _Readings, place: int) -> None:
        """Send one row; after several failures of the service in a row leave the rest planned."""
        outcome, sends = task.outcome, task.sends
        outcome.requested_at = pd.Timestamp.now(tz="UTC")
        try:
            self._send(task, readings, place)
        except CallBudgetError as error:
            # Raised before the request: this row and all after it stay planned, or as they were.
            self.leave_the_rest(f"not sent: {error}")
            outcome.settle("unknown" if task.attempted else "planned", f"not sent: {error}")
            if task.sends > sends and not task.attempted:
                self.journal.mark(task.number, "planned")
        except ServiceError as error:
            outcome.take_error(error)
            if task.attempted and task.sends == sends:
                # Nothing was learned about the earlier attempt.
                outcome.status = "unknown"
            if isinstance(error, RateLimitError | UnavailableError):
                self.leave_the_rest(f"not sent: {printable(error, 300)}")
        except BaseException:
            if task.sends > sends:
                outcome.settle("unknown", "interrupted while its answer was awaited; opp.resume() settles it")
            raise
        if outcome.status != "planned":
            self.journal.settled(task.number, outcome)
        self._count_failures(outcome)

    def _send(self, task: Task, readings: _Readings, place: int) -> None:
        if isinstance(task.entry, RowUpdate):
            self._update(task, task.entry, readings.fresh(task.entry.id, place))
        elif isinstance(task.entry, RowCreation):
            self._create(task, task.entry)
        else:
            self._delete(task, task.entry, readings.fresh(task.entry.id, place))

    def _count_failures(self, outcome: Outcome) -> None:
        with self._lock:
            self._failures = self._failures + 1 if is_service_failure(outcome) else 0
            failures = self._failures
        if failures >= STOP_AFTER_FAILURES:
            self.leave_the_rest(
                f"not sent: {failures} rows in a row failed before it; opp.resume() when the service is well"
            )

    def leave_the_rest(self, reason: str) -> None:
        """Begin no further row; those not begun stay planned, for this reason."""
        with self._lock:
            self._stopped_because = self._stopped_because or reason
        self.stop.set()

    def _write(self, task: Task, cells: Iterable[Cell], send: Callable[[], Answer]) -> Answer:
        """Write down what is about to be sent, then send it.

        Raises
        ------
        _LostAnswerError
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
                raise _LostAnswerError(error) from error
            raise
        task.outcome.attempts += answer.attempts
        return answer

    # --- updates --------------------------------------------------------------

    def _update(self, task: Task, update: RowUpdate, theirs: Mapping[str, Any] | None) -> None:
        outcome = task.outcome
        if theirs is None:
            outcome.settle("gone", _GONE)
            return
        outcome.resource = theirs
        outcome.updated_at = (theirs.get("attributes") or {}).get("updatedAt")
        columns = [cell.column for cell in update.cells]
        policy: Policy | Mapping[str, Policy] = self.on_conflict
        merged = merge_row(update.cells, wire_cells(theirs, columns), policy)
        if merged.conflicts and self.on_conflict == "ask" and self.ask is not None:
            asked = self._asked(update, merged.conflicts)
            # Answering takes its time: what was asked about must still stand there.
            outcome.resource = self.client.get(update.id).data
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
            self._patch(task, update.id, merged.send)
        elif merged.kept:
            outcome.settle("unchanged", "theirs was kept")
        elif task.attempted:
            outcome.take_resource(outcome.resource, update.cells, "an earlier attempt had written it")
        else:
            outcome.settle("unchanged", "the service has the same values already")

    def _asked(self, update: RowUpdate, conflicts: Iterable[tuple[Cell, Any]]) -> dict[str, Policy]:
        chosen: dict[str, Policy] = {}
        for cell, now in conflicts:
            if cell.follows in chosen:
                chosen[cell.column] = chosen[str(cell.follows)]
                continue
            answer = self.ask(update.id, cell.column, cell.before, cell.after, now) if self.ask else "skip"
            chosen[cell.column] = "mine" if answer == "mine" else "theirs" if answer == "theirs" else "skip"
        return chosen

    def _patch(self, task: Task, row_id: int, cells: tuple[Cell, ...]) -> None:
        """Send the cells; where the answer is lost, read the row and see: at most twice."""
        outcome = task.outcome
        request = RowUpdate(row_id, -1, -1, cells)
        last = False
        while True:
            try:
                answer = self._write(
                    task, cells, lambda: self.client.update(row_id, request.attributes(), request.relationships())
                )
            except NotFoundError:
                outcome.settle("gone", "deleted at the service since it was read", 404)
                return
            except _LostAnswerError as lost:
                if self._settle_patch(outcome, row_id, cells, lost, last):
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
        outcome.settle("written", http_status=answer.status)
        try:
            outcome.take_resource(self.client.get(row_id).data, cells)
        except ServiceError as error:
            outcome.detail = (
                f"written; reading it again failed ({printable(error.message, 120)}), so refresh() shows it"
            )

    def _settle_patch(
        self, outcome: Outcome, row_id: int, cells: tuple[Cell, ...], lost: _LostAnswerError, last: bool
    ) -> bool:
        """Read the row after a lost answer; False if it is as before and may be sent again."""
        try:
            answer = self.client.get(row_id)
        except NotFoundError:
            outcome.settle("gone", f"the answer was lost ({lost.words}), and the service no longer has the deal", 404)
            return True
        except ServiceError as second:
            words = f"the answer was lost ({lost.words}) and reading again failed ({printable(second.message, 120)})"
            outcome.settle("unknown", f"{words}; opp.resume() settles it")
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
            outcome.settle("unknown" if unsure else "failed", words + ("; opp.resume() looks again" if unsure else ""))
        else:
            return False
        return True

    # --- creations --------------------------------------------------------------

    def _look_up_custom_ids(self, tasks: Sequence[Task]) -> None:
        """Ask once which custom ids of new deals the service has already: a file adopted twice makes no second deal."""
        counts = Counter(task.entry.custom_id for task in tasks if isinstance(task.entry, RowCreation))
        self._doubled = frozenset(custom for custom, count in counts.items() if custom is not None and count > 1)
        wanted = custom_ids_to_look_up(task.entry for task in tasks)
        try:
            for batch in _chunks(wanted, LOOK_UP_BATCH):
                for resource in self._with_custom_id(batch):
                    self._found.setdefault(_custom_id(resource), []).append(resource)
        except ServiceError as error:
            self._look_up_error = error

    def _with_custom_id(self, custom_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        pages = self.client.iter_pages(filter={"custom_id": list(custom_ids)})
        # Compared again: how exactly the service compares is not documented.
        return [item for page in pages for item in page.document["data"] if _custom_id(item) in custom_ids]

    def _create(self, task: Task, creation: RowCreation) -> None:
        outcome = task.outcome
        known = self.attempts.get(creation.key)
        if known is not None and known.state == "done" and known.id is not None:
            self._take_earlier(task, creation, known.id)
            return
        if known is not None:
            task.sends = max(task.sends, known.sends)
        task.attempted = task.attempted or creation.attempted or known is not None
        if self._look_up_error is not None and not task.attempted and custom_ids_to_look_up([creation]):
            raise self._look_up_error
        others = self._others(creation.custom_id) if not task.attempted else []
        if others and self.on_conflict != "mine":
            ids = named(int(resource["id"]) for resource in others)
            words = (
                f"the service has a deal with the custom id {printable(creation.custom_id, 60)!r} already (id {ids})"
            )
            outcome.settle(
                "conflict", f"{words}: edit that one, or clear custom_id; on_conflict='mine' creates another"
            )
            return
        if task.attempted and self._settle_post(task, creation, "an earlier attempt was not seen to end"):
            return
        self._post(task, creation)

    def _take_earlier(self, task: Task, creation: RowCreation, row_id: int) -> None:
        try:
            resource = self.client.get(row_id).data
        except NotFoundError:
            task.outcome.id = row_id
            task.outcome.settle("gone", "an earlier write created it, and the service no longer has it", 404)
            return
        task.outcome.take_resource(resource, _new_cells(creation), "an earlier write had created it")
        self._remember(row_id)

    def _post(self, task: Task, creation: RowCreation) -> None:
        """Send a new deal; where the answer is lost, look for it: at most twice in all."""
        while True:
            try:
                answer = self._write(
                    task,
                    _new_cells(creation),
                    lambda: self.client.create(creation.attributes(), creation.relationships()),
                )
            except _LostAnswerError as lost:
                if self._settle_post(task, creation, f"the answer was lost ({lost.words})"):
                    return
                continue
            except CallBudgetError:
                raise
            except ServiceError as error:
                # Refused, and that may be because the first attempt, whose answer was lost, exists.
                if task.sends < _MOST_POSTS:
                    raise
                self._settle_post(task, creation, f"refused the second time ({printable(error.message, 120)})")
                return
            task.outcome.take_answer(answer, _new_cells(creation))
            self._remember(int(answer.data["id"]))
            return

    def _settle_post(self, task: Task, creation: RowCreation, why: str) -> bool:
        """Look for a new deal that may exist; False if it does not and may be sent (again)."""
        outcome, custom = task.outcome, creation.custom_id
        if custom is None or custom in self._doubled:
            remedy = "look for it by its name before creating it again"
            which = "it has no custom id of its own" if custom is None else "several new deals bear its custom id"
            outcome.settle("unknown", f"{why}, and {which}: it may or may not exist; {remedy}")
            return True
        try:
            found = self._look_for(custom)
        except ServiceError as error:
            words = f"{why}, and looking for it failed ({printable(error.message, 120)})"
            outcome.settle("unknown", f"{words}; opp.resume() settles it")
            return True
        if len(found) == 1:
            outcome.take_resource(found[0], _new_cells(creation), f"{why}; it was found by its custom id")
            self._remember(int(found[0]["id"]))
        elif found:
            ids = named(int(resource["id"]) for resource in found)
            outcome.settle(
                "unknown", f"{len(found)} deals bear the custom id {custom} (id {ids}): delete the doubled one"
            )
        elif task.sends >= _MOST_POSTS:
            words = f"{why}, it was sent {task.sends} times and cannot be found"
            outcome.settle("unknown", f"{words}; look for the custom id {custom} later")
        else:
            return False
        return True

    def _look_for(self, custom: str) -> list[Mapping[str, Any]]:
        """Look a custom id up, for some seconds: the service's index may lag behind its writes."""
        for wait_s in LOOK_UP_WAITS_S:
            if wait_s:
                self.sleep(wait_s)
            before = {resource["id"] for resource in self._found.get(custom, ())}
            found = [resource for resource in self._with_custom_id([custom]) if resource["id"] not in before]
            if found:
                return found
        return []

    def _others(self, custom: str | None) -> list[Mapping[str, Any]]:
        """Deals with a custom id that this plan did not create."""
        with self._lock:
            return [item for item in self._found.get(str(custom), ()) if int(item["id"]) not in self._created_ids]

    def _remember(self, row_id: int) -> None:
        with self._lock:
            self._created_ids.add(row_id)

    # --- deletions --------------------------------------------------------------

    def _delete(self, task: Task, deletion: RowDeletion, theirs: Mapping[str, Any] | None) -> None:
        outcome = task.outcome
        if theirs is None:
            if task.attempted:
                outcome.settle("written", "an earlier attempt had deleted it")
            else:
                outcome.settle("gone", _GONE)
            return
        now = wire_cells(theirs, deletion.before)
        changed = [
            (Cell(column, deletion.before[column], None), value)
            for column, value in now.items()
            if not same_value(column, value, deletion.before[column])
        ]
        if changed and self.on_conflict == "theirs":
            outcome.settle("unchanged", "it changed since it was loaded, and theirs was kept")
        elif changed and self.on_conflict != "mine":
            outcome.take_conflict(changed, "it changed since it was loaded: ")
        else:
            self._delete_now(task, deletion.id)

    def _delete_now(self, task: Task, row_id: int) -> None:
        outcome = task.outcome
        last = False
        while True:
            try:
                answer = self._write(task, (), lambda: self.client.delete(row_id))
            except NotFoundError:
                if last:
                    outcome.settle("written", "the answer was lost; it is deleted", 404)
                else:
                    outcome.settle("gone", _GONE, 404)
                return
            except _LostAnswerError as lost:
                if self._settle_delete(outcome, row_id, lost, last):
                    return
                last = True
                continue
            outcome.settle("written", http_status=answer.status)
            return

    def _settle_delete(self, outcome: Outcome, row_id: int, lost: _LostAnswerError, last: bool) -> bool:
        """Ask for the record after a lost answer; False if it is still there and may be deleted again."""
        try:
            self.client.get(row_id)
        except NotFoundError:
            outcome.settle("written", f"the answer was lost ({lost.words}); it is deleted")
            return True
        except ServiceError as second:
            words = f"the answer was lost ({lost.words}) and reading again failed ({printable(second.message, 120)})"
            outcome.settle("unknown", f"{words}; opp.resume() settles it")
            return True
        if last:
            unsure = may_still_arrive(lost.cause)
            outcome.settle("unknown" if unsure else "failed", f"sent twice, and it is still there ({lost.words})")
        return last


class _Readings:
    """Rows of one unit as the service has them now, read in batches, at most `REREAD_MAX_AGE_S` old."""

    def __init__(self, writer: Writer, unit: Sequence[Task]) -> None:
        self._writer, self._unit = writer, unit
        self._read_at = -float("inf")
        self._rows: dict[int, Mapping[str, Any]] = {}

    def fresh(self, row_id: int, place: int) -> Mapping[str, Any] | None:
        """Give a row; None if it is gone."""
        writer = self._writer
        if writer.clock() - self._read_at > REREAD_MAX_AGE_S:
            ids = [task.entry.id for task in self._unit[place:] if not isinstance(task.entry, RowCreation)]
            self._rows, self._read_at = {}, writer.clock()
            for page in writer.client.iter_pages(filter={"id": ids}, page_size=max(len(ids), 2)):
                self._rows |= {int(item["id"]): item for item in page.document["data"] if str(item.get("id")).isdigit()}
        if row_id in self._rows:
            return self._rows[row_id]
        # Lists may leave rows out (trashed ones, an index that lags) that the record's own address gives.
        try:
            resource: Mapping[str, Any] = writer.client.get(row_id).data
        except NotFoundError:
            return None
        return resource


def _new_cells(creation: RowCreation) -> tuple[Cell, ...]:
    return tuple(Cell(column, None, value) for column, value in creation.values.items())


def custom_ids_to_look_up(entries: Iterable[Any]) -> list[str]:
    """Custom ids of the outside CRM in a plan: only these may stand at the service before the plan is sent."""
    found = (entry.custom_id for entry in entries if isinstance(entry, RowCreation) and entry.custom_id != entry.key)
    return list(dict.fromkeys(custom for custom in found if custom is not None))


def _custom_id(resource: Mapping[str, Any]) -> str:
    return str((resource.get("attributes") or {}).get("customId"))


def _chunks(items: Sequence[Any], size: int) -> Iterator[Any]:
    return (items[start : start + size] for start in range(0, len(items), size))
