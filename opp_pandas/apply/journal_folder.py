"""The folder of journals: where it is, which plans are unfinished, and how long they are kept.

A finished plan is kept for `KEEP_DAYS` days, so that it can be undone, and
removed by the next write-back after that. An unfinished one stays until it is
finished, undone or purged by hand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import platformdirs

from opp_pandas.apply.journal import KEEP_DAYS, OPEN_STATES, Journal
from opp_pandas.apply.journal_store import SUFFIX, UNBORN
from opp_pandas.apply.journal_takeover import old_files, read_service
from opp_pandas.errors import ConfigurationError, JournalError

FOLDER_VARIABLE = "OPP_PANDAS_JOURNAL"
_STATES = ["unknown", "conflict", "failed", "done", "undone"]
_NUMBERS = ["plan", "rows", "open", *_STATES]
_COLUMNS = ["journal", "plan", "created_at", "service", *_NUMBERS[1:], "problem"]


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
    records: list[list[Any]] = []

    def add_problem(path: Path, problem: JournalError) -> None:
        records.append([str(path), *[None] * (len(_COLUMNS) - 2), str(problem.message)])

    for path in old_files(place):
        try:
            # One that is gone was taken over with the one before it, which is of the same service.
            if path.exists():
                Journal.open(place, read_service(path)).close()
        except JournalError as problem:
            add_problem(path, problem)
    for path in sorted(set(place.glob(f"*{SUFFIX}")) - set(old_files(place))):
        try:
            with Journal(path) as journal:
                plans = journal.plans()
        except JournalError as problem:
            add_problem(path, problem)
            continue
        for number, row in plans.items() if service in (None, journal.service) else ():
            facts, counts = row.facts, row.facts["counts"]
            still_open = sum(count for state, count in counts.items() if state in OPEN_STATES)
            numbers = [facts["rows"], still_open, *(counts.get(state, 0) for state in _STATES)]
            records.append([str(path), number, pd.Timestamp(facts["created_at"]), journal.service, *numbers, None])
    frame = pd.DataFrame(records, columns=_COLUMNS)
    dtypes = dict.fromkeys(_NUMBERS, "Int64") | dict.fromkeys(("journal", "service", "problem"), "str")
    return frame.astype({"created_at": "datetime64[us, UTC]", **dtypes})


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
