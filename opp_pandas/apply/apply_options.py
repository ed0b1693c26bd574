"""How a plan is sent: where to, by which journal, and what a person is asked; one object for every door."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.journal import Journal, OpenPlan, SamePlanError, journal_folder
from opp_pandas.apply.journal_store import SUFFIX
from opp_pandas.apply.merge import POLICIES
from opp_pandas.apply.workers import MOST_WORKERS
from opp_pandas.errors import ConfigurationError, ConfirmationNeededError, JournalError, ReadOnlyError, named, printable

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.changes.plan import ChangeSet
    from opp_pandas.choices import Policy

Ask = Callable[[int, str, Any, Any, Any], str]
"""Called with id, column, loaded, mine and theirs; gives "mine", "theirs" or "skip"."""

Progress = bool | Callable[[int, int], Any]
"""Whether to show a bar, or who is told how many rows are done, and of how many; False from there stops the rest."""


logger = logging.getLogger("opp_pandas.apply")

# As long as a client waits for the service by default.
TWIN_WAIT_S, TWIN_POLL_S = 60.0, 0.25


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
