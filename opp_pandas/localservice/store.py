"""The sandbox's records in SQLite: one table per resource, made from `opp_pandas.resource`.

A record's attributes stand as one JSON text, so that a page is joined from
ready pieces instead of being built anew. What can be filtered or sorted stands
in columns beside it; `Store.insert_many` and `Store.update` are the only
places that write either, always both.
"""

# ruff: noqa: S608 - SQL is made of the names in resource.py only; every value is a parameter.
from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.resource import CUSTOM_FIELDS, RESOURCES, Attribute, Resource

# "oppd" in ASCII: a file with another mark is somebody else's database.
_APPLICATION_ID = 0x6F707064
_SCHEMA_VERSION = 1
_CUSTOM_NAMES = tuple(f"custom{number}" for number in range(1, CUSTOM_FIELDS + 1))

dump_json: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class Table:
    """Where one resource lives.

    Parameters
    ----------
    resource : Resource
        The resource; its path is the table's name.
    """

    resource: Resource

    @property
    def name(self) -> str:
        """The table's name, safe to stand in SQL: it comes from `opp_pandas.resource` only."""
        return self.resource.path

    @cached_property
    def indexed(self) -> tuple[Attribute, ...]:
        """The attributes with a column of their own: those that can be filtered or sorted."""
        return tuple(entry for entry in self.resource.attributes if entry.filterable or entry.sortable)

    @cached_property
    def link_columns(self) -> dict[str, str]:
        """The column of each to-one relationship; twins of one relationship share theirs."""
        single = [entry for entry in self.resource.relationships if not entry.to_many]
        by_type = {entry.type: entry.column for entry in single if entry.column is not None}
        return {entry.name: entry.column or by_type[entry.type] or "" for entry in single}

    @cached_property
    def links(self) -> tuple[str, ...]:
        """The distinct columns of `link_columns`, in order."""
        return tuple(dict.fromkeys(self.link_columns.values()))

    @cached_property
    def has_custom_fields(self) -> bool:
        """Whether the resource ends in custom fields, whose unused rest is not stored."""
        return _CUSTOM_NAMES[0] in self.resource.by_name

    @cached_property
    def core_names(self) -> tuple[str, ...]:
        """The attributes that every stored text holds."""
        return tuple(entry.name for entry in self.resource.attributes if entry.name not in _CUSTOM_NAMES)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Every column, in the order of `Store.insert_many`."""
        own = (entry.column for entry in self.indexed)
        return ("id", "attributes", "custom_used", *own, *self.links, "can_write", "can_delete", "data_connections")

    @cached_property
    def record_columns(self) -> str:
        """The columns that a `Record` is read from, for SELECT."""
        names = ("id", "attributes", "custom_used", *self.links, "can_write", "can_delete", "data_connections")
        return ", ".join(f'{self.name}."{name}"' for name in names)

    def create_statements(self) -> Iterator[str]:
        """Give the SQL that makes the table and its indexes."""
        types = {"integer": "INTEGER", "boolean": "INTEGER"}
        own = [f'"{entry.column}" {types.get(entry.kind, "TEXT")}' for entry in self.indexed]
        links = [f'"{column}" INTEGER' for column in self.links]
        # AUTOINCREMENT: the id of a deleted record never names another one.
        lines = [
            "id INTEGER PRIMARY KEY AUTOINCREMENT",
            "attributes TEXT NOT NULL",
            "custom_used INTEGER NOT NULL",
            *own,
            *links,
            "can_write INTEGER NOT NULL",
            "can_delete INTEGER NOT NULL",
            "data_connections TEXT NOT NULL",
        ]
        yield f"CREATE TABLE {self.name} ({', '.join(lines)})"
        for column in ("updated_at", *self.links):
            yield f'CREATE INDEX {self.name}_{column} ON {self.name} ("{column}", id)'

    def column_value(self, entry: Attribute, value: Any) -> Any:
        """Give the value that an attribute has in its own column."""
        # Text of digits would sort "9.00" behind "10.00".
        return float(value) if entry.name == "amountPrecise" and value is not None else value


TABLES = {kind: Table(resource) for kind, resource in RESOURCES.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """One stored record: ``text`` is its attributes as JSON members, without the braces."""

    id: int
    text: str
    links: tuple[int | None, ...]
    can_write: bool
    can_delete: bool
    data_connections: str

    def attributes(self) -> dict[str, Any]:
        """Read the attributes."""
        read: dict[str, Any] = json.loads(f"{{{self.text}}}")
        return read


@dataclass(frozen=True, slots=True)
class NewRecord:
    """One record to be stored; what is not named is null, and without an id it gets the next one."""

    attributes: Mapping[str, Any]
    links: Mapping[str, int | None] = field(default_factory=dict)
    can_write: bool = True
    can_delete: bool = True
    data_connections: Sequence[Mapping[str, Any]] = ()
    id: int | None = None


@lru_cache(maxsize=CUSTOM_FIELDS + 1)
def _unused_text(used: int) -> str:
    """Give the members of the custom fields behind number `used`, all null."""
    return "".join(f',"{name}":null' for name in _CUSTOM_NAMES[used:])


class Store:
    """The records of one sandbox.

    Parameters
    ----------
    path : str, Path or None
        A file, made when it is not there; None keeps everything in memory.

    Raises
    ------
    ConfigurationError
        If the file cannot be opened or is not a sandbox's.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._lock = threading.RLock()
        try:
            # One connection for all threads, one at a time under the lock: each answer sees one state.
            self._connection = sqlite3.connect(
                ":memory:" if path is None else Path(path), check_same_thread=False, isolation_level=None
            )
        except sqlite3.Error as error:
            raise ConfigurationError(f"the database {printable(path)} cannot be opened: {error}") from error
        try:
            self.is_new = self._prepare(path)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: str | Path | None) -> bool:
        where = printable(path)
        try:
            mark = self._connection.execute("PRAGMA application_id").fetchone()[0]
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            is_empty: bool = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if not is_empty and (mark, version) != (_APPLICATION_ID, _SCHEMA_VERSION):
                raise ConfigurationError(
                    f"{where} is not a database of this sandbox (or of another version); name a new file"
                )
            # A sandbox may lose its last second in a power cut; its tests may not wait for the disk.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            if is_empty:
                with self.transaction():
                    for table in TABLES.values():
                        for statement in table.create_statements():
                            self._connection.execute(statement)
                    self._connection.execute("CREATE TABLE truth (id INTEGER PRIMARY KEY, fact TEXT NOT NULL)")
                    self._connection.execute("CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
                    self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"{where} cannot be used as the sandbox's database: {error}") from error
        return is_empty

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of a block or nothing of it, with no other thread in between."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def insert_many(self, table: Table, records: Iterable[NewRecord]) -> None:
        """Store records in one statement; the caller opens the transaction."""
        marks = ", ".join("?" * len(table.columns))
        names = ", ".join(f'"{name}"' for name in table.columns)
        with self._lock:
            self._connection.executemany(
                f"INSERT INTO {table.name} ({names}) VALUES ({marks})",
                (self._row(table, record.id, record) for record in records),
            )

    def insert(self, table: Table, record: NewRecord) -> int:
        """Store one record and give its id."""
        with self._lock:
            self.insert_many(table, [record])
            return int(self._connection.execute("SELECT last_insert_rowid()").fetchone()[0])

    def update(
        self, table: Table, record: Record, attributes: Mapping[str, Any], links: Mapping[str, int | None]
    ) -> None:
        """Change some attributes and links of one record."""
        changed = NewRecord(
            record.attributes() | dict(attributes),
            dict(zip(table.links, record.links, strict=True)) | dict(links),
            record.can_write,
            record.can_delete,
            json.loads(record.data_connections),
        )
        sets = ", ".join(f'"{name}" = ?' for name in table.columns[1:])
        with self._lock:
            self._connection.execute(
                f"UPDATE {table.name} SET {sets} WHERE id = ?",
                (*self._row(table, record.id, changed)[1:], record.id),
            )

    @staticmethod
    def _row(table: Table, key: int | None, record: NewRecord) -> tuple[Any, ...]:
        given = record.attributes
        used = 0
        if table.has_custom_fields:
            used = max(
                (int(name[6:]) for name in given if name in _CUSTOM_NUMBERS and given[name] is not None), default=0
            )
        whole = dict.fromkeys((*table.core_names, *_CUSTOM_NAMES[:used]))
        whole.update((name, value) for name, value in given.items() if name in whole or name not in _CUSTOM_NUMBERS)
        own = (table.column_value(entry, given.get(entry.name)) for entry in table.indexed)
        links = (record.links.get(column) for column in table.links)
        connections = dump_json(list(record.data_connections)) if record.data_connections else "[]"
        return (key, dump_json(whole)[1:-1], used, *own, *links, record.can_write, record.can_delete, connections)

    def delete(self, table: Table, key: int) -> None:
        """Remove a record, and the prospects' roles in it when it is an opportunity; in the caller's transaction."""
        with self._lock:
            self._connection.execute(f"DELETE FROM {table.name} WHERE id = ?", (key,))
            if table.name == "opportunities":
                self._connection.execute("DELETE FROM opportunityProspectRoles WHERE opportunity_id = ?", (key,))

    def get(self, table: Table, key: int) -> Record | None:
        """Read one record."""
        found = self.select(table, f"{table.name}.id = ?", (key,), f"{table.name}.id", 1)
        return found[0] if found else None

    def select(
        self,
        table: Table,
        where: str,
        values: Sequence[Any],
        order: str,
        limit: int,
        offset: int = 0,
    ) -> list[Record]:
        """Read records; `where` and `order` are made of allow-listed names, values come apart from them."""
        statement = f"SELECT {table.record_columns} FROM {table.name} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        with self._lock:
            rows = self._connection.execute(statement, (*values, limit, offset)).fetchall()
        return [self._record(table, row) for row in rows]

    def select_ids(self, table: Table, keys: Sequence[int]) -> list[Record]:
        """Read the records with these ids, in order of id."""
        found: list[Record] = []
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ", ".join("?" * len(some))
            found += self.select(table, f"{table.name}.id IN ({marks})", some, f"{table.name}.id", len(some))
        return sorted(found, key=lambda record: record.id)

    @staticmethod
    def _record(table: Table, row: tuple[Any, ...]) -> Record:
        text = row[1] + _unused_text(row[2]) if table.has_custom_fields else row[1]
        return Record(row[0], text, row[3:-3], bool(row[-3]), bool(row[-2]), row[-1])

    def count(self, table: Table, where: str, values: Sequence[Any]) -> int:
        """Count records."""
        with self._lock:
            statement = f"SELECT count(*) FROM {table.name} WHERE {where}"
            return int(self._connection.execute(statement, tuple(values)).fetchone()[0])

    def exists(self, kind: str, key: int) -> bool:
        """Whether a record of this type has this id."""
        with self._lock:
            statement = f"SELECT 1 FROM {TABLES[kind].name} WHERE id = ?"
            return self._connection.execute(statement, (key,)).fetchone() is not None

    def write_truth(self, facts: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Keep what the generator knows of each opportunity."""
        with self._lock:
            self._connection.executemany(
                "INSERT INTO truth VALUES (?, ?)", ((key, dump_json(fact)) for key, fact in facts)
            )

    def read_truth(self) -> list[tuple[int, dict[str, Any]]]:
        """Read what the generator knows of each opportunity."""
        with self._lock:
            rows = self._connection.execute("SELECT id, fact FROM truth ORDER BY id").fetchall()
        return [(key, json.loads(fact)) for key, fact in rows]

    def write_note(self, name: str, value: Any) -> None:
        """Keep a value beside the records."""
        with self._lock:
            self._connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, dump_json(value)))

    def read_note(self, name: str, default: Any = None) -> Any:
        """Read a value that was kept beside the records."""
        with self._lock:
            found = self._connection.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return default if found is None else json.loads(found[0])


_CUSTOM_NUMBERS = frozenset(_CUSTOM_NAMES)
