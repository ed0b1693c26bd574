"""The journal of one service: what is about to be sent, before it is sent, and what came of it.

There is one file for each service and user (`opp_pandas.apply.journal_store`).
Every plan in it has a number; numbers grow, whatever the clock says. New deals
have a key each, which a plan claims before it sends anything: of two programs
that want to create one deal the later one is refused with the number of the
plan that does, and a plan whose program has died loses its claims to the next
one that asks.

A journal holds old and new values of customers' deals and never a token: only
its owner may read it. A finished plan is kept for `KEEP_DAYS` days, so that it
can be undone, and removed by the next write-back after that. An unfinished one
stays until it is finished, undone or purged by hand.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import itertools
import os
import re
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import platformdirs
from filelock import FileLock, Timeout

from opp_pandas.apply.journal_store import SUFFIX, UNBORN, PlanRow, Store, make_store
from opp_pandas.apply.journal_takeover import old_files, read_service, take_over
from opp_pandas.apply.status import Outcome, Status
from opp_pandas.changes.changeset import Entry, RowCreation
from opp_pandas.changes.plan_file import entry_from_json, entry_to_json
from opp_pandas.errors import ConfigurationError, JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opp_pandas.changes.plan import ChangeSet

STATES = ("planned", "sent", "done", "failed", "unknown", "conflict", "undone")
OPEN_STATES = frozenset({"planned", "sent", "unknown"})
"""States of steps that `resume` has to settle."""
KEEP_DAYS = 30
FOLDER_VARIABLE = "OPP_PANDAS_JOURNAL"
_COUNTED = ("unknown", "conflict", "failed", "done", "undone")


@dataclass(frozen=True)
class Step:
    """One row of a plan in a journal: what was planned, and its state, one of `STATES`.

    ``facts`` are what became of it: ``status, sends, sent`` (cells as sent, with
    what the service had before), ``stored`` (wire values after it), ``row_id`` ...
    """

    number: int
    state: str
    entry: Entry
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """What is known of a new deal: which step of which plan creates it, or did.

    ``values`` are those that it was sent with, ``row_id`` is the deal, once that
    is sure. None of the deals in ``before`` is it: they looked like it before it
    was sent for the first time; None: nobody asked.
    """

    plan: int
    step: int
    sends: int = 0
    row_id: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    before: Sequence[int] | None = None


@dataclass
class SamePlanError(Exception):
    """Another program is carrying out the very same plan; `number` is that plan's."""

    number: int


class Journal(Store):
    """The open journal of one service; made by `open`, closed by `close` or a ``with`` block."""

    @classmethod
    def open(cls, folder: Path, service: str) -> Self:
        """Open the journal of a service, or begin it; files that an older version wrote are taken over.

        A JournalError says if it is damaged, of a newer version or not the user's own, or cannot be made.
        """
        path = journal_path(folder, service)
        if not path.exists():
            make_store(path, service)
        self = cls(path)
        try:
            if self.service != service:
                raise JournalError(f"the journal is of {self.service}, not of {service}", path)
            take_over(self, folder, service)
        except BaseException:
            self.close()
            raise
        return self

    def steps(self, number: int) -> list[Step]:
        """Read every step of a plan, in its order."""
        with self.reading():
            row = self.plan(number)
            entries = self.entries(row)
        planned, later = entries[: row.facts["rows"]], entries[row.facts["rows"] :]
        states = {step: state for step, state, _ in planned}
        facts: dict[int, dict[str, Any]] = {step: {} for step in states}
        for step, state, content in later:
            states[step] = state
            facts[step] |= content
        return [
            Step(step, states[step], entry_from_json(data["action"], data["entry"]), facts[step])
            for step, _, data in planned
        ]

    def begin(self, plan: ChangeSet, *, may_wait: bool = False, **facts: Any) -> OpenPlan:
        """Write down a whole plan before anything of it is sent, and claim its new deals; forget what is old.

        Where another program is creating these deals by the very same plan, and `may_wait`,
        a SamePlanError is raised and nothing written down.
        """
        self._purge_when_due()
        steps = list(enumerate(plan.entries))
        planned = [(step, "planned", {"action": e.action, "entry": entry_to_json(e)}) for step, e in steps]
        # The share of the load that an undoing changes is asked about too.
        known = {"created_at": _now(), "fingerprint": plan.fingerprint, "loaded_rows": plan.loaded_rows}
        known |= {"rows": len(steps), "counts": {"planned": len(steps)}} | facts
        with contextlib.ExitStack() as stack:
            with self.writing():
                opened = stack.enter_context(OpenPlan(self, self.next_number()))
                opened.facts = known | {"writer": opened.writer}
                self.append(PlanRow(opened.number, 0, "", {}), planned, opened.facts)
                opened.claim(steps)
                if may_wait:
                    opened.refuse_twin(plan.fingerprint)
            stack.pop_all()
        opened.states = {step: "planned" for step, _ in steps}
        return opened

    def reopen(self, number: int) -> OpenPlan:
        """Take a plan up again, if it is there and nobody else is writing by it."""
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(OpenPlan(self, number))
            steps = self.steps(number)
            with self.writing():
                row = self.plan(number)
                opened.facts = {**row.facts, "writer": opened.writer}
                self.put_plan(row._replace(facts=opened.facts))
                opened.claim((step.number, step.entry) for step in steps)
            stack.pop_all()
        opened.states = {step.number: step.state for step in steps}
        return opened

    def is_live(self, number: int) -> bool:
        """Return whether a program is writing by a plan at this moment."""
        try:
            OpenPlan(self, number).close()
        except JournalError:
            return True
        return False

    def purge(self, *, days: float = KEEP_DAYS, unfinished: bool = False) -> list[int]:
        """Remove plans with the values of their new deals: see `purge_journals`; give their numbers.

        Which deal came of which key stays known.
        """
        before = _days_ago(days)
        gone = [
            number
            for number, row in self.plans().items()
            if row.facts["created_at"][:19] <= before
            and (unfinished or is_finished(row.facts))
            and not self.is_live(number)
        ]
        if gone:
            with self.writing():
                for number in gone:
                    self.drop_plan(number)
                for key, facts in self.keys().items():
                    if facts["plan"] in gone:
                        self.put_key(key, facts | {"values": {}} if facts["row_id"] is not None else None)
        return gone

    def _purge_when_due(self) -> None:
        """Forget what is old; all plans are read, and so checked, only where one of the oldest is to go."""
        before = _days_ago(KEEP_DAYS)
        with self.reading():
            oldest = itertools.takewhile(lambda row: row.facts["created_at"][:19] <= before, self.in_order())
            due = any(is_finished(row.facts) for row in oldest)
        if due:
            self.purge()


class OpenPlan:
    """A plan that this program writes by, and nobody else: that one gets a JournalError.

    ``facts`` are ``created_at, fingerprint, on_conflict, loaded_rows``, and for an
    undoing ``undoes``: the number of the plan and those of its steps. ``claims``
    are the new deals that are this plan's to create or were created before, by
    key; ``held`` says of the others which plan is creating them at this moment.
    """

    def __init__(self, journal: Journal, number: int) -> None:
        self.journal, self.number = journal, number
        self.facts: Mapping[str, Any] = {}
        self.states: dict[int, str] = {}
        self.claims: dict[str, Claim] = {}
        self.held: dict[str, int] = {}
        # Where locks do not work, as on some network drives, the second writer is still noticed by its mark.
        self.writer = uuid.uuid4().hex
        self._creations: dict[int, RowCreation] = {}
        self._lock = FileLock(f"{journal.path}.{number}.lock", timeout=0, mode=0o600)
        try:
            self._lock.acquire()
        except Timeout:
            words = f"another program is writing by plan {number} at the moment; wait until it ends"
            raise JournalError(words, journal.path) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others have the plan; a second call does nothing."""
        if self._lock.is_locked:
            # Windows removes no file that is open, and leaves an empty one.
            with contextlib.suppress(PermissionError):
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    # --- new deals ------------------------------------------------------------------

    def claim(self, entries: Iterable[tuple[int, Entry]]) -> None:
        """Claim the new deals, within a transaction: those that no living plan is creating."""
        wanted = {step: entry for step, entry in entries if isinstance(entry, RowCreation) and entry.key}
        known = self.journal.keys() if wanted else {}
        for step, entry in wanted.items():
            key = entry.key
            claim = Claim(**known[key]) if key in known else Claim(self.number, step)
            if claim.row_id is None and claim.plan != self.number:
                if self.journal.is_live(claim.plan):
                    self.held[key] = claim.plan
                    continue
                self._take_from(claim)
                claim = replace(claim, plan=self.number, step=step)
            self._creations[step], self.claims[key] = entry, claim
            self.journal.put_key(key, asdict(claim))

    def refuse_twin(self, fingerprint: str) -> None:
        """Refuse to go on, within a transaction, where the same plan is being carried out by another program."""
        for number in set(self.held.values()):
            if self.journal.plan(number).facts["fingerprint"] == fingerprint:
                raise SamePlanError(number)

    def _take_from(self, claim: Claim) -> None:
        """Settle a step of a plan whose program has died: it is this plan's now."""
        journal = self.journal
        row = journal.plan(claim.plan)
        states = {step: state for step, state, _ in journal.entries(row)}
        words = {"status": str(Status.REFUSED), "detail": f"plan {self.number} took it over"}
        facts = {**row.facts, "counts": _moved(row.facts["counts"], states[claim.step], "failed")}
        journal.append(row, [(claim.step, "failed", words)], facts)

    # --- steps ----------------------------------------------------------------------

    def sent(self, step: int, sends: int, cells: Sequence[Any], noted: Mapping[str, Any]) -> None:
        """Note that a row is about to be sent, for the how-manieth time, what of it, and what else `undo` needs."""
        facts = {"sends": sends, "sent": list(cells), "sent_at": _now(), **noted}
        changes = {name: noted[name] for name in ("values", "before") if name in noted}
        self._note(step, "sent", facts, changes | {"sends": sends})

    def settled(self, step: int, outcome: Outcome) -> None:
        """Note what came of a row."""
        state = outcome.status.journal_state
        changes: dict[str, Any] = {} if outcome.id is None else {"row_id": outcome.id}
        if state == "done" and step in self._creations:
            changes["values"] = dict(self._creations[step].values)
        self._note(step, state, outcome.facts() | {"settled_at": _now()}, changes)

    def mark(self, step: int, state: str) -> None:
        """Set the state alone; a new deal that was undone may be created again."""
        self._note(step, state, {}, {})

    def _note(self, step: int, state: str, facts: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        """Add to the chain of the plan, and to what is known of a new deal."""
        journal, creation = self.journal, self._creations.get(step)
        with journal.writing():
            row = journal.plan(self.number)
            if row.facts["writer"] != self.writer:
                raise JournalError(f"another program has taken plan {self.number} over", journal.path)
            counts = _moved(row.facts["counts"], self.states[step], state)
            journal.append(row, [(step, state, facts)], {**row.facts, "counts": counts})
            if creation is not None:
                claim = replace(self.claims[creation.key], **changes)
                # What was surely not applied is anybody's again.
                not_applied = "status" in facts and claim.row_id is None and state not in OPEN_STATES
                journal.put_key(creation.key, None if not_applied or state == "undone" else asdict(claim))
        self.states[step] = state
        if creation is not None:
            self.claims[creation.key] = claim


def journal_path(folder: Path, service: str) -> Path:
    """Return the file of the journal of a service and this user."""
    name = re.sub(r"[^a-z0-9]+", "-", service.partition("://")[2].lower()).strip("-")[:40]
    mark = hashlib.sha256(f"{service} {_user()}".encode()).hexdigest()[:12]
    return folder / f"{name}-{mark}{SUFFIX}"


def is_finished(facts: Mapping[str, Any]) -> bool:
    """Return whether nothing of a plan is left for `resume`."""
    return not OPEN_STATES & set(facts["counts"])


def _user() -> str:
    """Name the user of this system, whatever the environment says."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        # Windows keeps no such table, and a container's may lack the user.
        return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


def _moved(counts: Mapping[str, int], old: str, new: str) -> dict[str, int]:
    return dict(Counter(counts) - Counter([old]) + Counter([new]))


def _now() -> str:
    return pd.Timestamp.now(tz="UTC").isoformat()


def _days_ago(days: float) -> str:
    """Return a moment in the form of ``created_at``, to the second: texts compare faster than hundreds of moments."""
    return (pd.Timestamp.now(tz="UTC") - pd.Timedelta(days=days)).isoformat()[:19]


def journal_folder(given: str | Path | None = None) -> Path:
    """Return the folder of the journals.

    Parameters
    ----------
    given : str or Path, optional
        The folder, or a journal in it. Default: the environment variable
        ``OPP_PANDAS_JOURNAL``, else the user's own folder for state on this
        system.
    """
    if given is not None:
        return Path(given).parent if Path(given).suffix == SUFFIX else Path(given)
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    return Path(named) if named else platformdirs.user_state_path("opp_pandas") / "journals"


def list_journals(folder: str | Path | None = None, *, service: str | None = None) -> pd.DataFrame:
    """List the plans in the journals of a folder, oldest first.

    Parameters
    ----------
    folder : str or Path, optional
        Default: as `journal_folder` says.
    service : str, optional
        Only plans for this base URL.

    Returns
    -------
    DataFrame, shape (n, 12)
        ``journal`` (path), ``plan`` (its number there), ``created_at`` (UTC),
        ``service``, and numbers of rows: ``rows`` in all; ``open`` still to be
        settled, ``unknown`` of them perhaps applied; ``conflict, failed, done,
        undone``. A journal that cannot be read has a ``problem`` in place of
        them.

    Examples
    --------
    >>> df.loc[df["id"] == 157, "next_step"] = "Call back"
    >>> report = df.opp.write_back()
    >>> opp.list_journals()[["plan", "rows", "open", "done"]]
       plan  rows  open  done
    0     1     1     0     1
    """
    place = journal_folder(folder)
    records: list[dict[str, Any]] = []
    for path in old_files(place):
        try:
            # One that is gone was taken over with the one before it, which is of the same service.
            if path.exists():
                Journal.open(place, read_service(path)).close()
        except JournalError as problem:
            records.append({"journal": str(path), "problem": problem.message})
    for path in sorted(set(place.glob(f"*{SUFFIX}")) - set(old_files(place))):
        try:
            with Journal(path) as journal:
                plans = journal.plans()
        except JournalError as problem:
            records.append({"journal": str(path), "problem": problem.message})
            continue
        for number, row in plans.items() if service in (None, journal.service) else ():
            known = {"journal": str(path), "service": journal.service, "plan": number, "rows": row.facts["rows"]}
            counts = row.facts["counts"]
            known["open"] = sum(count for state, count in counts.items() if state in OPEN_STATES)
            known |= {state: counts.get(state, 0) for state in _COUNTED}
            records.append(known | {"created_at": pd.Timestamp(row.facts["created_at"])})
    numbers = dict.fromkeys(("rows", "open", *_COUNTED), "Int64")
    dtypes = {"journal": "str", "plan": "Int64", "created_at": "datetime64[us, UTC]", "service": "str", **numbers}
    dtypes["problem"] = "str"
    return pd.DataFrame(records, columns=list(dtypes)).astype(dtypes)


def purge_journals(
    folder: str | Path | None = None, *, days: float = KEEP_DAYS, unfinished: bool = False
) -> pd.DataFrame:
    """Remove plans from the journals, which hold values of customers' deals.

    Parameters
    ----------
    folder : str or Path, optional
        Default: as `journal_folder` says.
    days : float, default 30
        Only those older than this [days]; 0 removes all.
    unfinished : bool
        Whether plans go too that are not finished: they can then be neither
        resumed nor undone.

    Returns
    -------
    DataFrame
        What was removed, as `list_journals` shows it. Plans that are being
        written stay, and journals that cannot be read.

    Examples
    --------
    >>> df.loc[df["id"] == 25, "next_step"] = "Call back"
    >>> report = df.opp.write_back()
    >>> len(opp.purge_journals(days=90)), len(opp.purge_journals(days=0))
    (0, 1)
    """
    if days < 0:
        raise ConfigurationError(f"days is 0 or more, not {days}")
    listed = list_journals(folder)
    removed = []
    for path in listed.loc[listed["problem"].isna(), "journal"].unique():
        with Journal(Path(path)) as journal:
            numbers = journal.purge(days=days, unfinished=unfinished)
        removed.append(listed[(listed["journal"] == path) & listed["plan"].isin(numbers)])
    for path in journal_folder(folder).glob(f"*{UNBORN}*"):
        # Left by a crash while a journal was being made.
        if path.stat().st_mtime < pd.Timestamp.now().timestamp() - 60:
            path.unlink(missing_ok=True)
    return pd.concat(removed, ignore_index=True) if removed else listed.iloc[:0]
