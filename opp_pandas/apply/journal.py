"""The journal of one plan: what is about to be sent, before it is sent, and what came of it.

A journal is an SQLite file of its own, so that two notebooks do not block each
other. Every change is on the disk before the next step (WAL with
``synchronous=FULL``), each row bears a checksum, a lock file keeps a second
writer away. It holds old and new values of customers' deals and never a token:
only its owner may read it, and `opp_pandas.apply.journal_folder` purges it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
from filelock import FileLock, Timeout

from opp_pandas.changes import plan_file
from opp_pandas.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from opp_pandas.apply.status import Outcome
    from opp_pandas.changes.changeset import ChangeSet, RowCreation, RowDeletion, RowUpdate

SUFFIX, UNBORN = ".journal", ".new"
# "oppj" in ASCII: a file with another mark is somebody else's database.
APPLICATION_ID = 0x6F70706A
VERSION = 1
STATES = ("planned", "sent", "done", "failed", "unknown", "conflict", "undone")
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "update": plan_file.update_from_json,
    "create": plan_file.creation_from_json,
    "delete": plan_file.deletion_from_json,
}
_SCHEMA = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE step (
        number INTEGER PRIMARY KEY, action TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
        entry TEXT NOT NULL, facts TEXT NOT NULL, checksum TEXT NOT NULL
    );
    CREATE INDEX step_key ON step (key);
"""


@dataclass(frozen=True)
class Step:
    """One row of a plan in a journal.

    Parameters
    ----------
    number : int
        Its place in the plan.
    action : {"update", "create", "delete"}
        What is intended.
    state : str
        One of `STATES`.
    entry : RowUpdate, RowCreation or RowDeletion
        What was planned.
    facts : mapping
        What became of it: ``status, sends, sent`` (cells as sent, with what the
        service had before), ``stored`` (wire values after it), ``row_id`` ...
    """

    number: int
    action: str
    state: str
    entry: RowUpdate | RowCreation | RowDeletion
    facts: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """An open journal; made by `create` or `open`, closed by `close` or a ``with`` block.

    Attributes
    ----------
    path : Path
        The file.
    meta : dict of str to str
        ``service`` (base URL), ``created_at``, ``fingerprint``, ``on_conflict``,
        ``undoes`` (name of the journal whose plan is being undone).
    """

    def __init__(self, path: Path, lock: FileLock, connection: sqlite3.Connection) -> None:
        self.path = path
        self.meta: dict[str, str] = {}
        self._lock, self._connection = lock, connection
        # Workers share the connection; SQLite alone would let them interleave.
        self._guard = threading.Lock()

    @classmethod
    def create(cls, folder: Path, plan: ChangeSet, **meta: str) -> Self:
        """Write down a whole plan before anything of it is sent.

        Raises
        ------
        JournalError
            If the folder cannot be written to.
        """
        now = pd.Timestamp.now(tz="UTC")
        path = folder / f"{now:%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        with _translated(path, "no journal can be kept; name another folder with journal="):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Under its final name only when it is whole: a crash before that leaves nothing that could be resumed.
            unborn = path.with_suffix(UNBORN)
            # Made by its owner, for its owner, before anything stands in it; SQLite gives -wal and -shm the same mode.
            os.close(os.open(unborn, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with contextlib.closing(_connect(unborn)) as connection:
                connection.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION};")
                connection.executescript(_SCHEMA)
                known = {"created_at": now.isoformat(), "fingerprint": plan.fingerprint, **meta}
                _fill(connection, plan, known)
            unborn.replace(path)
            _sync_folder(folder)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a journal and check that nothing in it was damaged.

        Raises
        ------
        JournalError
            If it is not a journal, is damaged, or is being written by somebody else.
        """
        if not path.is_file():
            raise JournalError("there is no such journal", path)
        with _translated(
            path, "the journal is damaged or no journal at all; keep it, and compare with the service by hand"
        ):
            self = cls(path, *_opened(path))
            try:
                self.meta, _ = _read_whole(self._connection)
            except BaseException:
                self.close()
                raise
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others have it; a second call does nothing."""
        self._connection.close()
        self._lock.release()

    # --- steps ------------------------------------------------------------------

    def steps(self) -> list[Step]:
        """Every step in the order of the plan."""
        with self._guard:
            return _read_steps(self._connection)

    def sent(self, number: int, sends: int, cells: Sequence[Any]) -> None:
        """Note that a row is about to be sent, for the how-manieth time, and what of it."""
        facts = {"sends": sends, "sent": list(cells), "sent_at": _now()}
        self._write(number, "sent", facts)

    def settled(self, number: int, outcome: Outcome) -> None:
        """Note what came of a row."""
        facts = {
            "status": outcome.status,
            "detail": outcome.detail,
            "http_status": outcome.http_status,
            "pointer": outcome.pointer,
            "row_id": outcome.id,
            "updated_at": outcome.updated_at,
            "stored": outcome.stored(),
            "settled_at": _now(),
        }
        self._write(number, outcome.status.journal_state, facts)

    def mark(self, number: int, state: str) -> None:
        """Set the state alone."""
        self._write(number, state, {})

    def _write(self, number: int, state: str, facts: Mapping[str, Any]) -> None:
        broken = "the journal cannot be written, so nothing more is sent"
        with self._guard, _translated(self.path, broken), _transaction(self._connection):
            action, key, entry, known = self._connection.execute(
                "SELECT action, key, entry, facts FROM step WHERE number = ?", (number,)
            ).fetchone()
            text = _dump(json.loads(known) | dict(facts))
            self._connection.execute(
                "UPDATE step SET state = ?, facts = ?, checksum = ? WHERE number = ?",
                (state, text, _checksum(number, action, key, state, entry, text), number),
            )


def _fill(connection: sqlite3.Connection, plan: ChangeSet, meta: Mapping[str, str]) -> None:
    """Write the plan into a new journal, whole or not at all."""
    entries: list[tuple[str, Any]] = [("update", entry) for entry in plan.updates]
    entries += [("create", entry) for entry in plan.creations]
    entries += [("delete", entry) for entry in plan.deletions]
    rows = []
    for number, (action, entry) in enumerate(entries):
        key, text = getattr(entry, "key", ""), _dump(plan_file.entry_to_json(entry))
        checksum = _checksum(number, action, key, "planned", text, "{}")
        rows.append((number, action, key, "planned", text, "{}", checksum))
    facts = {**meta, "steps": str(len(rows))}
    with _transaction(connection):
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?, ?)",
            [(name, value, _checksum(name, value)) for name, value in facts.items()],
        )
        connection.executemany("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def read_journal(path: Path) -> tuple[dict[str, str], list[Step]]:
    """Read a journal without locking it: what stands in it at this moment.

    Raises
    ------
    JournalError
        If it is damaged.
    """
    with _translated(path, "the journal is damaged or no journal at all; move it away to go on"):
        connection = _connect(path)
        try:
            return _read_whole(connection)
        finally:
            connection.close()


def _read_whole(connection: sqlite3.Connection) -> tuple[dict[str, str], list[Step]]:
    meta, steps = _read_meta(connection), _read_steps(connection)
    if len(steps) != int(meta["steps"]):
        raise ValueError("steps are missing")
    return meta, steps


def _read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if mark != APPLICATION_ID or version != VERSION:
        raise ValueError(f"mark {mark:#x}, version {version}")
    meta = {}
    for name, value, checksum in connection.execute("SELECT name, value, checksum FROM meta"):
        if _checksum(name, value) != checksum:
            raise ValueError("a checksum does not fit")
        meta[name] = value
    return meta


def _read_steps(connection: sqlite3.Connection) -> list[Step]:
    rows = connection.execute("SELECT number, action, key, state, entry, facts, checksum FROM step ORDER BY number")
    return [_read_step(*row) for row in rows.fetchall()]


def _read_step(number: int, action: str, key: str, state: str, entry: str, facts: str, checksum: str) -> Step:
    if _checksum(number, action, key, state, entry, facts) != checksum or state not in STATES:
        raise ValueError("a checksum does not fit")
    return Step(number, action, state, _READERS[action](json.loads(entry)), json.loads(facts))


def _connect(path: Path) -> sqlite3.Connection:
    # Never made here: an empty file in the place of a journal that was purged meanwhile would pass for a damaged one.
    place = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # fsync alone leaves the data in the drive's cache on macOS.
        connection.execute("PRAGMA fullfsync=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _opened(path: Path) -> tuple[FileLock, sqlite3.Connection]:
    lock = _locked(path)
    try:
        return lock, _connect(path)
    except BaseException:
        lock.release()
        raise


def _locked(path: Path) -> FileLock:
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise JournalError(
            "another process is writing by this journal at the moment; wait until it ends", path
        ) from None
    return lock


@contextlib.contextmanager
def _translated(path: Path, message: str) -> Iterator[None]:
    """Turn what SQLite, the system or a damaged file throw into the package's error."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"{message} ({type(error).__name__}: {error})", path) from error


def _sync_folder(folder: Path) -> None:
    """Put the new file's name on the disk too, where the system knows how."""
    # Windows opens no folders, and writes their entries by itself.
    with contextlib.suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _checksum(*parts: object) -> str:
    return hashlib.sha256(_dump([str(part) for part in parts]).encode()).hexdigest()


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _now() -> str:
    return pd.Timestamp.now(tz="UTC").isoformat()
