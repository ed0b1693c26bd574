"""The file of a journal: an SQLite database that is whole after every commit and notices its own damage.

Three tables are read by key: ``plan`` (a row per plan), ``entry`` (what was
planned for each step and what became of it, only ever added to) and ``created``
(a row per new deal, by its key). The entries of a plan form a hash chain whose
length and last link stand in the row of the plan. ``head`` keeps the number of
plans and of keys and a sum of hashes over them, and a hash of itself: a flipped
byte, a row that is missing and a lost tail do not fit any more.

The file is a rollback-journal database with ``synchronous=FULL``: after a commit
everything stands in the one file, so a copy of it needs no second one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from filelock import FileLock

from opp_pandas._files import owner_objection, sync_folder
from opp_pandas.errors import JournalError, printable

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX, UNBORN = ".journal", ".new"
# "oppj" in ASCII: a file with another mark is somebody else's database.
APPLICATION_ID = 0x6F70706A
VERSION = 2
"""1 was a file for each plan: `opp_pandas.apply.journal_takeover` reads it."""
_MAGIC = b"SQLite format 3\0"
_WAIT_S = 30.0
_MODULUS = 1 << 256
_SCHEMA = """
    CREATE TABLE head (one INTEGER PRIMARY KEY, facts TEXT NOT NULL, digest TEXT NOT NULL);
    CREATE TABLE plan (
        number INTEGER PRIMARY KEY, length INTEGER NOT NULL, chain TEXT NOT NULL, facts TEXT NOT NULL
    );
    CREATE TABLE entry (
        plan INTEGER NOT NULL, place INTEGER NOT NULL, step INTEGER NOT NULL, state TEXT NOT NULL,
        content TEXT NOT NULL, PRIMARY KEY (plan, place)
    ) WITHOUT ROWID;
    CREATE TABLE created (key TEXT PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;
"""


# How the rows of a table are read, found, removed and written, by the name of its sum in the head.
_STATEMENTS = {
    "plans": (
        "SELECT number, length, chain, facts FROM plan ORDER BY number",
        "SELECT number, length, chain, facts FROM plan WHERE number = ?",
        "DELETE FROM plan WHERE number = ?",
        "INSERT INTO plan VALUES (?, ?, ?, ?)",
    ),
    "keys": (
        "SELECT key, facts FROM created ORDER BY key",
        "SELECT key, facts FROM created WHERE key = ?",
        "DELETE FROM created WHERE key = ?",
        "INSERT INTO created VALUES (?, ?)",
    ),
}
Table = Literal["plans", "keys"]


class PlanRow(NamedTuple):
    """The row of a plan: how many entries it has, the last link of their chain, and facts about it."""

    number: int
    length: int
    chain: str
    facts: Mapping[str, Any]


class Store:
    """An open journal file.

    Parameters
    ----------
    path : Path
        A file that is there; it is checked before it is opened.
    """

    def __init__(self, path: Path) -> None:
        refuse_foreign(path)
        self.path = path
        # Workers share the connection; SQLite alone would let them interleave.
        self._guard = threading.RLock()
        self._head: dict[str, Any] = {}
        with translated(path, DAMAGED):
            self._connection = connect(path)
        try:
            with self.reading():
                size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
                if path.stat().st_size != self._connection.execute(size).fetchone()[0]:
                    raise ValueError("its end is missing")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self, begin: str, message: str) -> Iterator[None]:
        with self._guard, translated(self.path, message):
            self._connection.execute(begin)
            try:
                self._read_head()
                yield
            finally:
                # Nothing is left to undo after a commit.
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read several things as they stand at one moment; within `writing` it changes nothing."""
        with self._guard:
            inside = self._connection.in_transaction
            with translated(self.path, DAMAGED) if inside else self._transaction("BEGIN", DAMAGED):
                yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Change several things at once, or none of them; on the disk when the block has ended."""
        with self._transaction("BEGIN IMMEDIATE", "the journal cannot be written, so nothing more is sent"):
            yield
            text = dump(self._head)
            self._connection.execute("UPDATE head SET facts = ?, digest = ? WHERE one = 1", (text, _digest(text)))
            self._connection.execute("COMMIT")

    def _read_head(self) -> None:
        text, digest = self._connection.execute("SELECT facts, digest FROM head WHERE one = 1").fetchone()
        if _digest(text) != digest:
            raise ValueError("a checksum does not fit")
        self._head = json.loads(text)

    @property
    def service(self) -> str:
        """Base URL of the service that the journal is for."""
        return str(self._head["service"])

    def next_number(self) -> int:
        """Return the number of a new plan: greater than all before it, whatever the clock says."""
        self._head["last"] += 1
        return int(self._head["last"])

    # --- rows that are found by a key, summed in the head --------------------------------

    def _all(self, table: Table) -> list[tuple[Any, ...]]:
        rows = self._connection.execute(_STATEMENTS[table][0]).fetchall()
        if self._head[table] != [len(rows), f"{sum(map(_number_of, rows)) % _MODULUS:064x}"]:
            raise ValueError(f"rows of {table} are missing or do not fit")
        return rows

    def _row(self, table: Table, key: int | str) -> Any:
        return self._connection.execute(_STATEMENTS[table][1], (key,)).fetchone()

    def _put(self, table: Table, key: int | str, row: tuple[Any, ...] | None) -> None:
        """Write a row in the place of the one before, or remove it; bring the number and the sum of rows up to date."""
        known, (number, total) = self._row(table, key), self._head[table]
        total = int(total, 16)
        if known is not None:
            self._connection.execute(_STATEMENTS[table][2], (key,))
            number, total = number - 1, total - _number_of(known)
        if row is not None:
            self._connection.execute(_STATEMENTS[table][3], row)
            number, total = number + 1, total + _number_of(row)
        self._head[table] = [number, f"{total % _MODULUS:064x}"]

    def plans(self) -> dict[int, PlanRow]:
        """Read the rows of all plans, by number: facts are ``created_at, counts, undoes`` ..."""
        with self.reading():
            return {row[0]: _plan_of(row) for row in self._all("plans")}

    def in_order(self) -> Iterator[PlanRow]:
        """Read the rows of plans one after the other, by number; only `plans` can tell whether they are sound."""
        return map(_plan_of, self._connection.execute(_STATEMENTS["plans"][0]))

    def plan(self, number: int) -> PlanRow:
        """Read the row of one plan."""
        with self.reading():
            row = self._row("plans", number)
            if row is None:
                raise JournalError(f"there is no plan {number} in the journal", self.path)
            return _plan_of(row)

    def put_plan(self, row: PlanRow) -> None:
        """Write the row of a plan."""
        self._put("plans", row.number, (*row[:3], dump(row.facts)))

    def drop_plan(self, number: int) -> None:
        """Remove a plan with all its entries."""
        self._put("plans", number, None)
        self._connection.execute("DELETE FROM entry WHERE plan = ?", (number,))

    def keys(self) -> dict[str, dict[str, Any]]:
        """Read what is known of every new deal, by key: all of it, since only so it is sure that a key is not there."""
        with self.reading():
            return {key: json.loads(facts) for key, facts in self._all("keys")}

    def put_key(self, key: str, facts: Mapping[str, Any] | None) -> None:
        """Write what is known of a new deal; None: nothing."""
        self._put("keys", key, None if facts is None else (key, dump(facts)))

    # --- the chain of a plan's entries -----------------------------------------------------

    def entries(self, row: PlanRow) -> list[tuple[int, str, Any]]:
        """Read what stands in a plan, in order: step, state, content."""
        statement = "SELECT place, step, state, content FROM entry WHERE plan = ? ORDER BY place"
        with self.reading():
            rows = self._connection.execute(statement, (row.number,)).fetchall()
            chain = _digest(f"plan {row.number}")
            for entry in rows:
                chain = _digest(chain + dump(entry))
            if len(rows) != row.length or chain != row.chain:
                raise ValueError(f"entries of plan {row.number} are missing or do not fit")
            return [(step, state, json.loads(content)) for _, step, state, content in rows]

    def append(self, row: PlanRow, entries: Iterable[tuple[int, str, Any]], facts: Mapping[str, Any]) -> PlanRow:
        """Add entries to a plan, and set its facts."""
        length, chain = row.length, row.chain or _digest(f"plan {row.number}")
        for step, state, content in entries:
            entry = (length, step, state, dump(content))
            self._connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (row.number, *entry))
            length, chain = length + 1, _digest(chain + dump(entry))
        fresh = PlanRow(row.number, length, chain, facts)
        self.put_plan(fresh)
        return fresh


def make_store(path: Path, service: str) -> None:
    """Make an empty journal where there is none; it gets its name when it is whole."""
    with translated(path, "no journal can be kept; name another folder with journal="):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_other_owner(path.parent)
        with FileLock(f"{path}.lock", timeout=_WAIT_S, mode=0o600):
            if path.exists():
                return
            unborn = path.with_name(f"{path.stem}.{secrets.token_hex(4)}{UNBORN}")
            # Made by its owner, for its owner, before anything stands in it.
            os.close(os.open(unborn, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with contextlib.closing(connect(unborn)) as connection:
                connection.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION};")
                connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                empty = [0, f"{0:064x}"]
                facts = {"service": service, "written_by": metadata.version("opp_pandas"), "last": 0}
                text = dump(facts | {"plans": empty, "keys": empty})
                connection.execute("INSERT INTO head VALUES (1, ?, ?)", (text, _digest(text)))
            unborn.replace(path)
            unborn.with_name(f"{unborn.name}-journal").unlink(missing_ok=True)
            sync_folder(path.parent)


def refuse_foreign(path: Path) -> None:
    """Refuse what is not there, empty, no journal, of a newer version, or not the user's own.

    It is looked at before it is opened as a database, and left as it is.
    """
    try:
        refuse_other_owner(path.parent)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(handle, "rb") as file:
            objection = owner_objection(os.fstat(file.fileno()), path)
            head = file.read(100)
    except OSError as error:
        reason = "there is no such journal" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise JournalError(f"the journal cannot be read: {reason}", path) from None
    if objection is not None:
        raise JournalError(objection, path)
    if len(head) < 100 or not head.startswith(_MAGIC) or int.from_bytes(head[68:72]) != APPLICATION_ID:
        what = "is empty" if not head else "is damaged or no journal"
        raise JournalError(f"the file {what} and was left as it is; move it away to go on", path)
    version = int.from_bytes(head[60:64])
    if version > VERSION:
        raise JournalError(
            f"the journal has format {version} and was written by a newer opp_pandas; this one, "
            f"{metadata.version('opp_pandas')}, reads up to {VERSION}: update opp_pandas, or name another folder",
            path,
        )


def refuse_other_owner(folder: Path) -> None:
    """Refuse a folder that others may write into: they could put a journal of their own there."""
    objection = owner_objection(folder.stat(), folder, may_read=True)
    if objection is not None:
        raise JournalError(objection, folder)


def connect(path: Path) -> sqlite3.Connection:
    """Open a database that is there already."""
    # Never made here: an empty file in the place of a journal would pass for a damaged one.
    place = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False, timeout=_WAIT_S)
    try:
        # Values of customers' deals are overwritten when they are removed, and on macOS fsync alone
        # leaves data in the drive's cache.
        for pragma in ("journal_mode=TRUNCATE", "synchronous=FULL", "fullfsync=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


DAMAGED = "the journal is damaged; keep it, compare with the service by hand, and move it away to go on"


@contextlib.contextmanager
def translated(path: Path, message: str) -> Iterator[None]:
    """Turn what SQLite, the system or a damaged file throw into the package's error."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"{message} ({type(error).__name__}: {printable(error, 200)})", path) from error


def _plan_of(row: tuple[Any, ...]) -> PlanRow:
    return PlanRow(*row)._replace(facts=json.loads(row[3]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _number_of(row: tuple[Any, ...]) -> int:
    return int(_digest(dump(row)), 16)


def dump(value: Any) -> str:
    """Write JSON the shortest way, in ASCII."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
