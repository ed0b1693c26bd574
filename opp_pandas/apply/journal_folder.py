"""The folder of journals: where it is, which plans are unfinished, and how long they are kept.

A finished journal is kept for `KEEP_DAYS` days, so that its plan can be undone,
and removed by the next write-back after that. An unfinished one stays until it
is finished, undone or purged by hand.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import platformdirs
from filelock import FileLock, Timeout

from opp_pandas.apply.journal import SUFFIX, UNBORN, read_journal
from opp_pandas.changes.changeset import RowCreation
from opp_pandas.errors import ConfigurationError, JournalError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from opp_pandas.apply.journal import Step

KEEP_DAYS = 30
FOLDER_VARIABLE = "OPP_PANDAS_JOURNAL"
_OPEN = frozenset({"planned", "sent", "unknown"})
_COLUMNS = ["journal", "created_at", "service", "rows", "open", "unknown", "conflict", "failed", "done", "undone"]


@dataclass(frozen=True)
class Attempt:
    """What a journal knows of a new deal: its state, the id it got, how often it was sent, and with which values."""

    state: str
    id: int | None
    sends: int
    values: Mapping[str, Any]


def journal_folder(given: str | Path | None = None) -> Path:
    """Give the folder of the journals.

    Parameters
    ----------
    given : str or Path, optional
        Default: the environment variable ``OPP_PANDAS_JOURNAL``, else the
        user's own folder for state on this system.
    """
    if given is not None:
        return Path(given)
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    return Path(named) if named else platformdirs.user_state_path("opp_pandas") / "journals"


def list_journals(folder: str | Path | None = None, *, service: str | None = None) -> pd.DataFrame:
    """List the journals of a folder, oldest first.

    Parameters
    ----------
    folder : str or Path, optional
        Default: as `journal_folder` says.
    service : str, optional
        Only plans for this base URL.

    Returns
    -------
    DataFrame, shape (n, 10)
        ``journal`` (path), ``created_at`` (UTC), ``service``, and numbers of
        rows: ``rows`` in all; ``open`` still to be settled, ``unknown`` of them
        perhaps applied; ``conflict, failed, done, undone``. A journal that
        cannot be read has missing numbers.
    """
    readable: list[tuple[str, dict[str, Any], list[Step]]] = []
    records: list[list[Any]] = []
    for path in sorted(journal_folder(folder).glob(f"*{SUFFIX}")):
        try:
            readable.append((str(path), *read_journal(path)))
        except JournalError:
            # Another notebook may have purged it meanwhile.
            if path.exists():
                records.append([str(path), None, None, *[None] * 7])
    later: dict[str, set[str]] = defaultdict(set)
    for name, meta, steps in sorted(readable, key=lambda entry: (entry[1]["created_at"], entry[0]), reverse=True):
        taken_over = later[meta["service"]]
        if service is None or meta["service"] == service:
            records.append([name, pd.Timestamp(meta["created_at"]), meta["service"], *_counts(steps, taken_over)])
        taken_over.update(step.entry.key for step in steps if isinstance(step.entry, RowCreation))
    frame = pd.DataFrame(records, columns=_COLUMNS)
    dtypes = dict.fromkeys(_COLUMNS[3:], "Int64")
    frame = frame.sort_values(["created_at", "journal"], ignore_index=True)
    return frame.astype({"journal": "str", "service": "str", "created_at": "datetime64[us, UTC]", **dtypes})


def _counts(steps: list[Step], taken_over: Collection[str]) -> list[int]:
    """Count steps by state; a new deal that a later plan took over is that plan's to settle."""
    states = [step.state for step in steps]
    unsettled = [
        step.state
        for step in steps
        if step.state in _OPEN and not (isinstance(step.entry, RowCreation) and step.entry.key in taken_over)
    ]
    return [
        len(states),
        len(unsettled),
        unsettled.count("unknown"),
        *(states.count(state) for state in ("conflict", "failed", "done", "undone")),
    ]


def purge_journals(
    folder: str | Path | None = None, *, days: float = KEEP_DAYS, unfinished: bool = False
) -> list[Path]:
    """Remove journals, which hold values of customers' deals.

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
    list of Path
        What was removed. Journals that are being written stay.
    """
    if days < 0:
        raise ConfigurationError(f"days is 0 or more, not {days}")
    removed = []
    before = pd.Timestamp.now(tz="UTC") - pd.Timedelta(days=days)
    listed = list_journals(folder)
    for name, created, still_open in zip(listed["journal"], listed["created_at"], listed["open"], strict=True):
        path = Path(name)
        # What cannot be read cannot be judged: it goes only when asked for by hand.
        finished = still_open is not pd.NA and still_open == 0
        made = _changed_at(path) if created is pd.NaT else created
        if made <= before and (finished or unfinished) and _remove(path):
            removed.append(path)
    for path in journal_folder(folder).glob(f"*{UNBORN}*"):
        # Left by a crash while a plan was being written down; nothing of it was sent.
        if _changed_at(path) <= before - pd.Timedelta(minutes=1):
            path.unlink(missing_ok=True)
    return removed


def _changed_at(path: Path) -> pd.Timestamp:
    """When a file was changed; just now where it vanished, since somebody else is at work on it."""
    try:
        return pd.Timestamp(path.stat().st_mtime, unit="s", tz="UTC")
    except FileNotFoundError:
        return pd.Timestamp.now(tz="UTC")


def _remove(path: Path) -> bool:
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        return False
    for extra in ("", "-wal", "-shm"):
        Path(f"{path}{extra}").unlink(missing_ok=True)
    lock.release()
    Path(f"{path}.lock").unlink(missing_ok=True)
    return True


def find_attempts(
    folder: Path, keys: Collection[str], *, service: str, besides: Path | None = None
) -> dict[str, Attempt]:
    """Find what the journals know of new deals that may have been created already.

    Parameters
    ----------
    folder : Path
        The folder of journals.
    keys : collection of str
        Keys of new deals.
    service : str
        Base URL that they are to be created at: an id of another service says
        nothing here, as after a rehearsal on a sandbox.
    besides : Path, optional
        A journal to leave out.

    Returns
    -------
    dict of str to Attempt
        Deals that were created, or perhaps created; a sure answer leads.

    Raises
    ------
    JournalError
        If a journal cannot be read: nobody could say what it did.
    """
    found: dict[str, Attempt] = {}
    wanted = frozenset(key for key in keys if key)
    if not wanted:
        return found
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if besides is not None and path.name == besides.name:
            continue
        try:
            meta, steps = read_journal(path)
        except JournalError:
            if path.exists():
                raise
            # Finished, and purged by another notebook at this moment.
            continue
        if meta["service"] != service:
            continue
        for step in steps:
            entry, facts = step.entry, step.facts
            if not isinstance(entry, RowCreation) or entry.key not in wanted:
                continue
            if step.state in ("sent", "unknown", "done") and _leads(found.get(entry.key), step.state):
                found[entry.key] = Attempt(step.state, facts.get("row_id"), int(facts.get("sends", 0)), entry.values)
    return found


def _leads(known: Attempt | None, state: str) -> bool:
    return known is None or state == "done"
