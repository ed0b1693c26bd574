"""How a plan is applied: journal, workers, progress; the same way for a frame, a file and a resumed plan."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.executor import REREAD_BATCH, Executor
from opp_pandas.apply.journal import Journal
from opp_pandas.apply.journal_folder import journal_folder, purge
from opp_pandas.apply.journal_store import SUFFIX
from opp_pandas.apply.merge import POLICIES
from opp_pandas.apply.operation import Task
from opp_pandas.apply.send_creates import count_look_ups
from opp_pandas.apply.workers import MOST_WORKERS
from opp_pandas.errors import ConfigurationError, ConfirmationNeededError, JournalError, ReadOnlyError, named, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opp_pandas.api.client import Client
    from opp_pandas.apply.journal import OpenPlan
    from opp_pandas.apply.send_updates import Ask
    from opp_pandas.changes.plan import ChangeSet
    from opp_pandas.choices import Policy

Progress = bool | Callable[[int, int], Any]
"""Whether to show a bar, or who is told how many rows are done, and of how many; False from there stops the rest."""


@dataclass(frozen=True)
class ApplyOptions:
    """How a plan is sent.

    Parameters
    ----------
    client : Client
        Where to.
    on_conflict : {"skip", "ask", "mine", "theirs"}
        Where both sides changed a cell.
    ask : callable, optional
        Who is asked with "ask"; default a question on the terminal or in the notebook.
    workers : int
        Rows written at once, 1 to 4.
    journal : str, Path or None
        The folder of journals, or the journal.
    progress : bool, callable or None
        Whether to show a progress bar; None: where somebody watches. Or who is
        told, with ``progress(done, total)``, and stops the rest by False.
    shared : bool
        Whether somebody else may have sent the plan, as one in a file.
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

    @property
    def folder(self) -> Path:
        """The folder of journals."""
        return journal_folder(self.journal)

    def refuse_read_only(self) -> None:
        """Refuse before the network what the client would refuse row by row."""
        if self.client.read_only:
            raise ReadOnlyError("the client was opened with read_only=True; nothing was sent")

    def open_journal(self) -> Journal:
        """Open the journal of the service.

        Raises
        ------
        ConfigurationError
            If ``journal`` names another file.
        """
        file = Path(self.journal) if self.journal is not None and Path(self.journal).suffix == SUFFIX else None
        if file is not None and not file.exists():
            raise JournalError("there is no such journal", file)
        opened = Journal.open(self.folder, self.client.url)
        # A file of the older format is gone by now, its plans taken over.
        if file is not None and file != opened.path and file.exists():
            opened.close()
            raise ConfigurationError(f"{file.name} is not the journal of {self.client.url}: {opened.path.name} is")
        return opened

    def begin(self, journal: Journal, plan: ChangeSet, **facts: Any) -> OpenPlan:
        """Write a plan down in the journal, and remove what was finished long ago; nothing is sent yet."""
        purge(journal)
        # The share of the load that an undoing changes is asked about too.
        return journal.begin(plan, loaded_rows=plan.loaded_rows, on_conflict=self.on_conflict, **facts)

    def carry_out(self, tasks: Sequence[Task], plan: OpenPlan) -> None:
        """Send tasks by an open plan, with a progress bar."""
        from tqdm.auto import tqdm

        executor = Executor(
            self.client,
            plan,
            on_conflict=self.on_conflict,
            ask=self.ask or ask_here,
            workers=self.workers,
            shared=self.shared,
        )
        told = self.progress if callable(self.progress) else None
        hidden = None if self.progress is None else told is not None or not self.progress
        done = itertools.count(1)

        def step() -> None:
            bar.update(1)
            if told is not None and told(next(done), len(tasks)) is False:
                executor.leave_the_rest("not sent: stopped before it")

        with tqdm(desc="write back", unit="row", total=len(tasks), disable=hidden, delay=1.0, leave=False) as bar:
            executor.carry_out(tasks, step)


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


def tasks_of(plan: ChangeSet) -> list[Task]:
    """Start every row of a plan."""
    return [Task(number, entry) for number, entry in enumerate(entries_of(plan))]


def entries_of(plan: ChangeSet) -> list[Any]:
    """Every row of a plan in the order of its report: updates, creations, deletions."""
    return [*plan.updates, *plan.creations, *plan.deletions]


def count_reads(plan: ChangeSet, shared: bool = False) -> int:
    """Count the reading requests of a plan: rows in batches before they are written, new deals before and after."""
    batches = -(-len(plan.updates) // REREAD_BATCH) - (-len(plan.deletions) // REREAD_BATCH)
    return batches + count_look_ups(plan.creations, shared)


def check_confirmation(plan: ChangeSet, confirm: int | str | None, other: ChangeSet | None = None) -> None:
    """Hold a plan to what was confirmed.

    Parameters
    ----------
    plan : ChangeSet
        What would be sent.
    confirm : int, str or None
        The number of its rows, or its fingerprint.
    other : ChangeSet, optional
        The same plan with its names resolved, whose fingerprint counts too.

    Raises
    ------
    ConfirmationNeededError
        If the plan is large and nothing was confirmed, or something else was.
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
