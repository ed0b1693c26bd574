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

from opp_pandas.apply.journal_store import DAMAGED, SUFFIX, PlanRow, dump, refuse_foreign, translated
from opp_pandas.errors import JournalError

if TYPE_CHECKING:
    from opp_pandas.apply.journal import Journal

OLD_NAME = re.compile(r"\d{8}T\d{6}\.\d+-[0-9a-f]{8}\.journal")
_JOINED = "an earlier write had created it"


def take_over(journal: Journal, folder: Path, service: str) -> None:
    """Bring the plans of older files for a service into its journal, once, and remove the files.

    A JournalError says if one of them is damaged, or being written by an older version.
    """
    # Their names begin with the moment at which they were made.
    old = [path for path in old_files(folder) if _is_for(path, service)]
    if not old:
        return
    with contextlib.ExitStack() as locks:
        try:
            for path in old:
                locks.enter_context(FileLock(f"{path}.lock", timeout=0, mode=0o600))
        except Timeout:
            words = "an older opp_pandas is writing by this journal at the moment; wait until it ends"
            raise JournalError(words, path) from None
        with journal.writing():
            known = {row.facts.get("file"): number for number, row in journal.plans().items()}
            for path in old:
                if path.name not in known:
                    known[path.name] = _import(journal, path, known)
        for path in old:
            for extra in ("", "-wal", "-shm"):
                Path(f"{path}{extra}").unlink(missing_ok=True)
    for path in old:
        Path(f"{path}.lock").unlink(missing_ok=True)


def old_files(folder: Path) -> list[Path]:
    """List the files of version 1 in a folder, oldest first."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if OLD_NAME.fullmatch(path.name)]


def read_service(path: Path) -> str:
    """Read for which service an older file is; a JournalError says if it is damaged, or something else."""
    refuse_foreign(path)
    with translated(path, DAMAGED), contextlib.closing(_connect(path)) as connection:
        return _meta(connection)["service"]


def _is_for(path: Path, service: str) -> bool:
    """Return whether an older file is for a service; where nobody can tell it stands in nobody's way."""
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


def _import(journal: Journal, path: Path, known: dict[Any, int]) -> int:
    """Write the plan of an older file into the journal; give its number."""
    with translated(path, DAMAGED), contextlib.closing(_connect(path)) as connection:
        meta = _meta(connection)
        rows = connection.execute(
            "SELECT number, action, key, state, entry, facts, checksum FROM step ORDER BY number"
        ).fetchall()
        if len(rows) != int(meta["steps"]) or any(_checksum(*row[:-1]) != row[-1] for row in rows):
            raise ValueError("steps are missing, or a checksum does not fit")
    number, counts = journal.next_number(), dict(Counter(row[3] for row in rows))
    facts: dict[str, Any] = {name: meta[name] for name in ("created_at", "fingerprint", "on_conflict")}
    facts |= {"file": path.name, "rows": len(rows), "counts": counts, "writer": ""}
    facts["loaded_rows"] = int(meta.get("loaded_rows") or 0)
    if meta.get("undoes"):
        undoes = json.loads(meta["undoes"])
        facts["undoes"] = {"plan": known.get(undoes["journal"]), "steps": undoes["numbers"]}
    planned = [(row[0], "planned", {"action": row[1], "entry": json.loads(row[4])}) for row in rows]
    later = [(row[0], row[3], json.loads(row[5])) for row in rows if row[3] != "planned"]
    for _, _, content in later:
        content["joined"] = str(content.get("detail", "")).startswith(_JOINED)
    journal.append(PlanRow(number, 0, "", {}), [*planned, *later], facts)
    claims = journal.keys()
    for step, action, key, state, entry, text, _ in rows:
        claim = claims.get(key, {"sends": 0, "row_id": None, "values": {}})
        if action != "create" or not key or state not in ("planned", "sent", "unknown", "done"):
            continue
        if claim["row_id"] is None:
            last = json.loads(text)
            sends = max(int(last.get("sends", 0)), claim["sends"])
            # What was only planned says nothing of the deal that is there: nothing of it was sent.
            values = json.loads(entry)["values"] if last.get("sends") or state == "done" else claim["values"]
            # Version 1 sent no deal whose custom id stood at the service, unless it was told to.
            before: list[int] | None = [] if sends and meta["on_conflict"] != "mine" else None
            made = {"row_id": last.get("row_id"), "values": values, "before": before}
            claims[key] = {"plan": number, "step": step, "sends": sends, **made}
            journal.put_key(key, claims[key])
    return number


def _checksum(*parts: object) -> str:
    return hashlib.sha256(dump([str(part) for part in parts]).encode()).hexdigest()
