"""Carrying out a plan: read again, merge, write down, send, compare the answer.

Nothing is repeated blindly. A PATCH whose answer was lost is settled by reading
the row again, a POST by looking its custom id up, a DELETE by asking for the
record; what cannot be settled is reported as ``unknown`` with what to do.

Between reading a row again and its PATCH up to `REREAD_MAX_AGE_S` seconds pass;
an edit made by somebody else in that window is overwritten, because the service
offers no way to make a write depend on what it has.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.api.transport.retry import called_off_by
from opp_pandas.apply.journal import Journal, OpenPlan, SamePlanError, journal_folder
from opp_pandas.apply.journal_store import SUFFIX
from opp_pandas.apply.merge import POLICIES
from opp_pandas.apply.operation import T, Task, Wire, batches, read_record, read_records, send_deletion, send_update
from opp_pandas.apply.report import WriteReport
from opp_pandas.apply.send_creates import Creations, count_look_ups
from opp_pandas.apply.status import Status, is_service_failure
from opp_pandas.changes.changeset import RowCreation, RowDeletion, RowUpdate
from opp_pandas.changes.rules import entry_objection
from opp_pandas.errors import (
    CallBudgetError,
    ConfigurationError,
    ConfirmationNeededError,
    ForeignRowsError,
    JournalError,
    RateLimitError,
    ReadOnlyError,
    ResponseError,
    ServiceError,
    UnavailableError,
    named,
    printable,
)

if TYPE_CHECKING:
    from opp_pandas.accessor import OpportunityFrame
    from opp_pandas.api.client import Client
    from opp_pandas.changes.plan import ChangeSet
    from opp_pandas.choices import Policy

logger = logging.getLogger("opp_pandas.apply")
# As long as a client waits for the service by default.
TWIN_WAIT_S, TWIN_POLL_S = 60.0, 0.25
REREAD_MAX_AGE_S = 5.0
# A row is written at most this many requests after it was read again: four
# workers stay below the age above while a request takes less than 0.45 s.
REREAD_BATCH = 10
STOP_AFTER_FAILURES = 5
MOST_WORKERS = 4
# How long requests under way may still take after Ctrl-C before their answers are given up [s].
GRACE_S, _TICK_S = 10.0, 0.05

Ask = Callable[[int, str, Any, Any, Any], str]
"""Called with id, column, loaded, mine and theirs; gives "mine", "theirs" or "skip"."""

Progress = bool | Callable[[int, int], Any]
"""Whether to show a bar, or who is told how many rows are done, and of how many; False from there stops the rest."""


@dataclass(frozen=True)
class ApplyOptions:
    """How a plan is sent: the arguments that all doors have, as `write_back` explains them.

    ``ask`` is by default a question on the terminal or in the notebook;
    ``journal`` is the folder of journals, or the journal itself; ``shared`` says
    whether somebody else may have sent the plan, as one in a file.
    """

    client: Client
    on_conflict: Policy = "skip"
    ask: Ask | None = None
    workers: int = MOST_WORKERS
    journal: str | Path | None = None
    progress: Progress | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        if self.on_conflict not in POLICIES:
            raise ConfigurationError(f"on_conflict is one of {named(POLICIES)}, not {self.on_conflict!r}")
        if isinstance(self.workers, bool) or self.workers not in range(1, MOST_WORKERS + 1):
            raise ConfigurationError(f"workers is 1 to {MOST_WORKERS}, not {self.workers!r}")

    def refuse_read_only(self) -> None:
        """Refuse before the network what the client would refuse row by row."""
        if self.client.read_only:
            raise ReadOnlyError("the client was opened with read_only=True; nothing was sent")

    def open_journal(self) -> Journal:
        """Open the journal of the service, if ``journal`` names no other file."""
        file = Path(self.journal) if self.journal is not None and Path(self.journal).suffix == SUFFIX else None
        if file is not None and not file.exists():
            raise JournalError("there is no such journal", file)
        opened = Journal.open(journal_folder(self.journal), self.client.url)
        # A file of the older format is gone by now, its plans taken over.
        if file is not None and file != opened.path and file.exists():
            opened.close()
            raise ConfigurationError(f"{file.name} is not the journal of {self.client.url}: {opened.path.name} is")
        return opened

    def begin(self, journal: Journal, plan: ChangeSet) -> OpenPlan:
        """Write a plan down; where another program is creating its deals by the same plan, wait for that one first.

        What the other one has done is found done then. One that does not end in
        `TWIN_WAIT_S` keeps its deals: they are refused here.
        """
        waited_s = 0.0
        while True:
            try:
                return journal.begin(plan, may_wait=waited_s < TWIN_WAIT_S, on_conflict=self.on_conflict)
            except SamePlanError as twin:
                if not waited_s:
                    words = "plan %d is sending the same changes: waiting for it, at most %.0f s (Ctrl-C stops)"
                    logger.warning(words, twin.number, TWIN_WAIT_S)
                self.client.wait(TWIN_POLL_S)
                waited_s += TWIN_POLL_S


def check_confirmation(plan: ChangeSet, confirm: int | str | None, other: ChangeSet | None = None) -> None:
    """Hold a plan to what was confirmed: the number of its rows, or its fingerprint.

    That of `other`, the same plan with its names resolved, counts too. Where the plan
    is large and nothing was confirmed, or something else was, confirmation is needed.
    """
    reason = plan.confirmation_reason()
    if confirm is None:
        if reason is None:
            return
    elif isinstance(confirm, str):
        if confirm in {plan.fingerprint, (other or plan).fingerprint}:
            return
        reason = "the plan is not the one whose fingerprint was confirmed"
    elif not isinstance(confirm, bool) and confirm == len(plan):
        return
    else:
        reason = f"the plan has {len(plan)} rows and confirm says {confirm}"
    raise ConfirmationNeededError(len(plan), reason, plan)


class Executor:
    """Carries out one plan against one client; ``clock`` gives seconds, so that tests need not wait."""

    def __init__(self, options: ApplyOptions, plan: OpenPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self.client, self.plan, self.clock = options.client, plan, clock
        self.workers = 1 if options.on_conflict == "ask" else options.workers
        self.wire = Wire(options, plan)
        self._creations = Creations(self.wire)
        self._failures = 0
        self._stopped_because = ""
        self._lock = threading.RLock()
        self.stop = threading.Event()

    def carry_out(self, tasks: Sequence[Task], progress: Callable[[], Any] = lambda: None) -> None:
        """Send tasks, their names already resolved; each one's outcome says how it went.

        Where a step cannot be written down, a JournalError says so and nothing more
        is sent. Ctrl-C is raised after the outcomes known so far were set.
        """
        try:
            self._creations.look_up(tasks)
            for action in (RowUpdate, RowCreation, RowDeletion):
                chosen = [task for task in tasks if isinstance(task.entry, action)]
                run_units(
                    batches(chosen, REREAD_BATCH), lambda unit: self._handle(unit, progress), self.workers, self.stop
                )
                if action is RowCreation:
                    self._creations.give_way(chosen)
        finally:
            for task in tasks:
                if task.outcome.status is Status.PLANNED and not task.outcome.detail:
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
            outcome.settle(Status.UNKNOWN if task.attempted else Status.PLANNED, f"not sent: {error}")
            if task.sends > sends and not task.attempted:
                self.plan.mark(task.number, "planned")
        except ServiceError as error:
            outcome.take_error(error)
            if task.attempted and task.sends == sends:
                # Nothing was learned about the earlier attempt.
                outcome.status = Status.UNKNOWN
            if isinstance(error, RateLimitError | UnavailableError):
                self.leave_the_rest(f"not sent: {printable(error, 300)}")
        except BaseException:
            if task.sends > sends:
                outcome.settle(Status.UNKNOWN, "interrupted while its answer was awaited; opp.resume() settles it")
            raise
        if outcome.status is not Status.PLANNED:
            self.plan.settled(task.number, outcome)
        with self._lock:
            self._failures = failures = self._failures + 1 if is_service_failure(outcome) else 0
        if failures >= STOP_AFTER_FAILURES:
            words = f"{failures} rows in a row failed before it; opp.resume() when the service is well"
            self.leave_the_rest(f"not sent: {words}")

    def _send(self, task: Task, readings: _Readings, place: int) -> None:
        objection = entry_objection(task.entry)
        if objection is not None:
            # What was allowed when the plan was made need not be so today.
            task.outcome.settle(Status.REFUSED, f"{objection[0]}: {objection[1]}")
        elif isinstance(task.entry, RowUpdate):
            send_update(self.wire, task, task.entry, readings.fresh(task.entry.id, place))
        elif isinstance(task.entry, RowCreation):
            self._creations.send(task, task.entry)
        else:
            send_deletion(self.wire, task, task.entry, readings.fresh(task.entry.id, place))

    def leave_the_rest(self, reason: str) -> None:
        """Begin no further row; those not begun stay planned, for this reason."""
        with self._lock:
            self._stopped_because = self._stopped_because or reason
        self.stop.set()


_NO_LISTS = frozenset({400, 404, 422})


class _Readings:
    """Rows of one unit as the service has them now, read in batches, at most `REREAD_MAX_AGE_S` old."""

    def __init__(self, executor: Executor, unit: Sequence[Task]) -> None:
        self._executor, self._unit = executor, unit
        self._read_at = -float("inf")
        self._rows: dict[int, Mapping[str, Any]] = {}

    def fresh(self, row_id: int, place: int) -> Mapping[str, Any] | None:
        """Return a row; None if it is gone."""
        executor = self._executor
        if executor.clock() - self._read_at > REREAD_MAX_AGE_S:
            ids = [task.entry.id for task in self._unit[place:] if not isinstance(task.entry, RowCreation)]
            self._rows, self._read_at = {}, executor.clock()
            try:
                self._rows = read_records(executor.client, filter={"id": ids}, page_size=max(len(ids), 2))
            except (ForeignRowsError, ResponseError) as error:
                # A service may ignore a list of ids, or not know such lists: each row is asked for by itself, below.
                if isinstance(error, ResponseError) and error.status not in _NO_LISTS:
                    raise
        # Lists may leave rows out (trashed ones, an index that lags) that the record's own address gives.
        return self._rows[row_id] if row_id in self._rows else read_record(executor.client, row_id)


def run_units(
    units: Iterable[T], handle: Callable[[T], None], workers: int, stop: threading.Event, grace_s: float = GRACE_S
) -> None:
    """Hand every unit, pieces of work that do not touch each other, to one of the workers.

    One worker is the caller's own thread. With more, Ctrl-C sets `stop`, ends
    waits before a repetition, lets requests under way come home for `grace_s`
    seconds, and is raised then; so is the first exception of a worker. `handle`
    looks at `stop` in between.
    """
    waiting = deque(units)
    if min(workers, len(waiting)) <= 1:
        while waiting and not stop.is_set():
            handle(waiting.popleft())
        return
    problems: deque[BaseException] = deque()
    begun: deque[None] = deque()
    ended: deque[None] = deque()
    bell = threading.Semaphore(0)
    called_off = threading.Event()

    def work() -> None:
        begun.append(None)
        try:
            while not stop.is_set():
                try:
                    unit = waiting.popleft()
                except IndexError:
                    return
                with called_off_by(called_off):
                    handle(unit)
        except BaseException as problem:  # noqa: BLE001 - raised again where the caller waits
            problems.append(problem)
            stop.set()
        finally:
            ended.append(None)
            bell.release()

    # Counted here, for a join that Ctrl-C interrupts takes a thread for ended that still runs (Python 3.11, 3.12).
    # Waited for in ticks: a wait without a limit would not see Ctrl-C on Windows.
    # Daemons: a second Ctrl-C must be able to end the program.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(waiting)))]
    try:
        for thread in threads:
            thread.start()
        while len(ended) < len(threads):
            bell.acquire(timeout=_TICK_S)
    except BaseException:
        # Ctrl-C may come as early as between two starts; who begins after this has nothing to do.
        stop.set()
        called_off.set()
        until = time.monotonic() + grace_s
        while len(ended) < len(begun) and time.monotonic() < until:
            bell.acquire(timeout=_TICK_S)
        raise
    if problems:
        raise problems[0]


def announce(
    plan: ChangeSet,
    *,
    tasks: Sequence[Task] | None = None,
    frame: OpportunityFrame | None = None,
    dry_run: bool = False,
    reads: int = 0,
    shared: bool = False,
) -> tuple[Sequence[Task], WriteReport]:
    """Start every row of a plan, and the report that shares their outcomes.

    ``reads`` are the reading requests that were made for the plan already; to
    them come those for its rows in batches before they are written, and for new
    deals before and after.
    """
    if tasks is None:
        tasks = [Task(number, entry) for number, entry in enumerate(plan.entries)]
    for entries in (plan.updates, plan.deletions):
        reads -= -len(entries) // REREAD_BATCH
    reads += count_look_ups(plan.creations, shared)
    return tasks, WriteReport(plan, [task.outcome for task in tasks], frame, dry_run, reads)


def carry_out(options: ApplyOptions, plan: OpenPlan, tasks: Sequence[Task], report: WriteReport) -> WriteReport:
    """Send tasks by an open plan, with a progress bar; give the report with what it took."""
    from tqdm.auto import tqdm

    executor = Executor(options, plan)
    told = options.progress if callable(options.progress) else None
    hidden = None if options.progress is None else told is not None or not options.progress
    done = itertools.count(1)
    before = options.client.calls

    def step() -> None:
        bar.update(1)
        if told is not None and told(next(done), len(tasks)) is False:
            executor.leave_the_rest("not sent: stopped before it")

    try:
        with tqdm(desc="write back", unit="row", total=len(tasks), disable=hidden, delay=1.0, leave=False) as bar:
            executor.carry_out(tasks, step)
    except BaseException as problem:
        settled = sum(task.outcome.status not in (Status.PLANNED, Status.UNKNOWN) for task in tasks)
        ways = f"opp.resume(plan={plan.number}) finishes the rest, opp.undo(plan={plan.number}) takes them back"
        problem.add_note(f"{settled} of {len(tasks)} rows were settled; {ways} [{plan.journal.path}]")
        raise
    return replace(report, journal=plan.journal.path, plan_number=plan.number, calls=options.client.calls - before)
