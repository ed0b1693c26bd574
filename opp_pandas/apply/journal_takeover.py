"""Taking over the journals that version 1 wrote: a file for each plan, an SQLite database with a write-ahead log."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sqlite3
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from opp_pandas.apply.journal_store import DAMAGED, SUFFIX, PlanRow, dump, file_version, translated
from opp_pandas.errors import JournalError

if TYPE_CHECKING:
    from opp_pandas.apply.journal import Journal
    from opp_pandas.apply.journal_store import Store

OLD_NAME = re.compile(r"\d{8}T\d{6}\.\d+-[0-9a-f]{8}\.journal")
_JOINED = "an earlier write had created it"


def take_over(journal: Journal, folder: Path, service: str) -> None:
    """Bring the plans of older files for a service into its journal, once, and remove the files.

    Raises
    ------
    JournalError
        If one of them is damaged, or an older version is writing it at the moment.
    """
    # Their names begin with the moment at which they were made.
    old = [path for path in old_files(folder) if _is_for(path, service)]
    if not old:
        return
    with contextlib.ExitStack() as locks:
        for path in old:
            lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
            try:
                locks.enter_context(lock)
            except Timeout:
                words = "an older opp_pandas is writing by this journal at the moment; wait until it ends"
                raise JournalError(words, path) from None
        with journal.store.writing():
            known = {row.facts.get("file"): number for number, row in journal.store.plans().items()}
            for path in old:
                if path.name not in known:
                    known[path.name] = _import(journal.store, path, known)
        for path in old:
            for extra in ("", "-wal", "-shm"):
                Path(f"{path}{extra}").unlink(missing_ok=True)
    for path in old:
        Path(f"{path}.lock").unlink(missing_ok=True)


def old_files(folder: Path) -> list[Path]:
    """List the files of version 1 in a folder, oldest first."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if OLD_NAME.fullmatch(path.name)]


def read_service(path: Path) -> str:
    """Read for which service an older file is.

    Raises
    ------
    JournalError
        If it is damaged, or something else.
    """
    file_version(path)
    with translated(path, DAMAGED), contextlib.closing(_connect(path)) as connection:
        return _meta(connection)["service"]


def _is_for(path: Path, service: str) -> bool:
    """Tell whether an older file is for a service; where nobody can tell it stands in nobody's way."""
    try:
        return read_service(path) == service
    except JournalError:
        return False


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=10)


def _meta(connection: sqlite3.Connection) -> dict[str, str]:
    meta = {}
    for name, value, checksum in connection.execute("SELECT name, value, checksum FROM meta"):
        if _checksum(name, value) != checksum:
            raise ValueError("a checksum does not fit")
        meta[name] = value
    return meta


def _import(store: Store, path: Path, known: dict[Any, int]) -> int:
    """Write the plan of an older file into the journal; give its number."""
    with translated(path, DAMAGED), contextlib.closing(_connect(path)) as connection:
        meta = _meta(connection)
        rows = connection.execute(
            "SELECT number, action, key, state, entry, facts, checksum FROM step ORDER BY number"
        ).fetchall()
        if len(rows) != int(meta["steps"]) or any(_checksum(*row[:-1]) != row[-1] for row in rows):
            raise ValueError("steps are missing, or a checksum does not fit")
    number = store.next_number()
    facts = {
        "file": path.name,
        "rows": len(rows),
        "counts": dict(Counter(row[3] for row in rows)),
        "writer": "",
        "created_at": meta["created_at"],
        "fingerprint": meta["fingerprint"],
        "on_conflict": meta["on_conflict"],
        "loaded_rows": int(meta.get("loaded_rows") or 0),
    }
    if meta.get("undoes"):
        undoes = json.loads(meta["undoes"])
        facts["undoes"] = {"plan": known.get(undoes["journal"]), "steps": undoes["numbers"]}
    planned = [(row[0], "planned", {"action": row[1], "entry": json.loads(row[4])}) for row in rows]
    later = [(row[0], row[3], json.loads(row[5])) for row in rows if row[3] != "planned"]
    for _, _, content in later:
        content["joined"] = str(content.get("detail", "")).startswith(_JOINED)
    store.append(PlanRow(number, 0, "", {}), [*planned, *later], facts)
    for step, action, key, state, entry, text, _ in rows:
        if action == "create" and key and state in ("planned", "sent", "unknown", "done"):
            values = json.loads(entry)["values"]
            _claim(store, key, number, step, values, json.loads(text), meta["on_conflict"])
    return number


def _claim(store: Store, key: str, plan: int, step: int, values: Any, facts: dict[str, Any], on_conflict: str) -> None:
    known = store.keys().get(key)
    if known is not None and known["row_id"] is not None:
        return
    sends = max(int(facts.get("sends", 0)), 0 if known is None else known["sends"])
    # Version 1 sent no deal whose custom id stood at the service, unless it was told to.
    before: list[int] | None = [] if sends and on_conflict != "mine" else None
    claim = {"plan": plan, "step": step, "sends": sends, "row_id": facts.get("row_id"), "values": values}
    store.put_key(key, claim | {"before": before})


def _checksum(*parts: object) -> str:
    return hashlib.sha256(dump([str(part) for part in parts]).encode()).hexdigest()
