"""The sandbox's records in SQLite: one table per resource, made from `opp_pandas.resource`.

A record's attributes stand as one JSON text, so that a page is joined from
ready pieces instead of being built anew. Most attributes of most records are
null; those stand once for all records that lack the same ones, as a shape.
What can be filtered or sorted stands in columns beside the text;
`Store.insert_many` and `Store.update` write both.
"""

# ruff: noqa: S608 - SQL is made of the names in resource.py only; every value is a parameter.
from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.resource import ACTIVITY, RESOURCES, Attribute, Relationship, Resource
from opp_pandas.sandbox_server.json_forms import affinity_of

# "oppd" in ASCII: a file with another mark is somebody else's database.
_APPLICATION_ID = 0x6F707064
_SCHEMA_VERSION = 3
# Relationships to many that the records on the other side hold, as one fact has one place.
_HELD_BY = {("team", "users"): "teams"}

dump_json: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class Table:
    """Where one resource lives: its path is the table's name."""

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
    def list_columns(self) -> dict[str, str]:
        """The column of each relationship to many whose ids come with the record: a JSON text of ids."""
        return {
            entry.name: f"{entry.name}_ids"
            for entry in self.resource.relationships
            if entry.to_many and entry.way_back is None and self._is_held(entry)
        }

    def _is_held(self, entry: Relationship) -> bool:
        return entry.type in RESOURCES and (self.resource.type, entry.name) not in _HELD_BY

    @cached_property
    def list_texts(self) -> dict[str, str]:
        """The SQL of every list of ids of this table: its own columns, and what other tables hold."""
        own = {name: f'{self.name}."{column}"' for name, column in self.list_columns.items()}
        for (kind, name), held in _HELD_BY.items():
            if kind == self.resource.type:
                entry = self.resource.relationship_by_name[name]
                own[name] = (
                    f"(SELECT json_group_array(holder.id) FROM {RESOURCES[entry.type].path} AS holder, "
                    f'json_each(holder."{held}_ids") AS one WHERE one.value = {self.name}.id)'
                )
        return own

    @cached_property
    def own_names(self) -> tuple[str, ...]:
        """The API names of `indexed`."""
        return tuple(entry.name for entry in self.indexed)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Every column, in the order of `Store.insert_many`."""
        own = (entry.column for entry in self.indexed)
        facts = ("can_write", "can_delete", "data_connections")
        return ("id", "attributes", "shape", *own, *self.links, *self.list_columns.values(), *facts)

    @cached_property
    def record_columns(self) -> str:
        """The columns that a `Record` is read from, for SELECT."""
        # Text leaves as it came, as UTF-8: nothing of a page is decoded and encoded again.
        text = f"CAST({self.name}.attributes AS BLOB)"
        before, after = (
            [f'{self.name}."{name}"' for name in names]
            for names in (("shape", *self.links), ("can_write", "can_delete", "data_connections"))
        )
        return ", ".join([f"{self.name}.id", text, *before, *self.list_texts.values(), *after])

    def create_statement(self) -> str:
        """Return the SQL that makes the table."""
        # Exact amounts are text of digits, which would sort 9.00 behind 10.00: SQLite turns them into numbers here.
        exact = {"amountPrecise": "REAL"}
        own = [f'"{item.column}" {exact.get(item.name, affinity_of(item.form))}' for item in self.indexed]
        links = [f'"{column}" INTEGER' for column in self.links]
        lists = [f'"{column}" TEXT' for column in self.list_columns.values()]
        # AUTOINCREMENT: the id of a deleted record never names another one.
        lines = [
            "id INTEGER PRIMARY KEY AUTOINCREMENT",
            "attributes TEXT NOT NULL",
            "shape INTEGER NOT NULL",
            *own,
            *links,
            *lists,
            "can_write INTEGER NOT NULL",
            "can_delete INTEGER NOT NULL",
            "data_connections TEXT NOT NULL",
        ]
        return f"CREATE TABLE {self.name} ({', '.join(lines)})"

    def index_statements(self) -> Iterator[str]:
        """Return the SQL that makes the table's indexes."""
        stamp = "updated_at" if "updated_at" in self.columns else "created_at"
        for column in (stamp, *self.links):
            yield f'CREATE INDEX IF NOT EXISTS {self.name}_{column} ON {self.name} ("{column}", id)'


TABLES = {kind: Table(resource) for kind, resource in RESOURCES.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """One stored record: ``text`` is its attributes as JSON members in UTF-8, without the braces."""

    id: int
    text: bytes
    links: tuple[int | None, ...]
    lists: tuple[str | None, ...]
    can_write: bool
    can_delete: bool
    data_connections: str

    def attributes(self) -> dict[str, Any]:
        """Read the attributes."""
        read: dict[str, Any] = json.loads(b"{%b}" % self.text)
        return read

    def ids(self, place: int) -> list[int]:
        """Read the ids of one list."""
        found: list[int] = json.loads(self.lists[place] or "[]")
        return found


@dataclass(frozen=True, slots=True)
class NewRecord:
    """One record to be stored; what is not named is null, and without an id it gets the next one."""

    attributes: Mapping[str, Any]
    links: Mapping[str, int | None] = field(default_factory=dict)
    lists: Mapping[str, Sequence[int] | None] = field(default_factory=dict)
    can_write: bool = True
    can_delete: bool = True
    data_connections: Sequence[Mapping[str, Any]] = ()
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One record that was created, updated or destroyed, as it stood before and stands after."""

    table: Table
    action: str
    before: Record | None
    after: Record | None


class Store:
    """The records of one sandbox, in a file that is made when it is not there, or in memory.

    ``listener`` is called after a transaction with what single records changed in it, in order. ConfigurationError
    if the file cannot be opened or is not a sandbox's.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._lock = threading.RLock()
        self.listener: Callable[[list[Change]], None] | None = None
        self._changes: list[Change] = []
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
                    for statement in (*(table.create_statement() for table in TABLES.values()), *_MORE_TABLES):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            self._read_shapes()
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"{where} cannot be used as the sandbox's database: {error}") from error
        return is_empty

    def _read_shapes(self) -> None:
        self._nulls: dict[int, bytes] = {
            key: nulls.encode() for key, nulls in self._connection.execute("SELECT id, nulls FROM shape")
        }
        # Records of a kind that have the same attributes, and the number of their shape.
        self._shape_keys: dict[tuple[str, frozenset[str]], int] = {}

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of a block or nothing of it, with no other thread in between."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            self._changes = []
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                self._read_shapes()
                raise
            self._connection.execute("COMMIT")
            if self.listener is not None and self._changes:
                self.listener(self._changes)

    def _note(self, table: Table, action: str, before: Record | None, key: int) -> None:
        if self.listener is not None:
            self._changes.append(Change(table, action, before, self.get(table, key)))

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Let several reads of a block see one state."""
        with self._lock:
            yield

    def insert_many(self, table: Table, records: Iterable[NewRecord], *, replace: bool = False) -> None:
        """Store records in one statement in the caller's transaction; `replace`: in place of those with their ids."""
        marks = ", ".join("?" * len(table.columns))
        names = ", ".join(f'"{name}"' for name in table.columns)
        with self._lock:
            self._connection.executemany(
                f"INSERT{' OR REPLACE' if replace else ''} INTO {table.name} ({names}) VALUES ({marks})",
                (self._row(table, record) for record in records),
            )

    def build_indexes(self) -> None:
        """Make the indexes; after the first records are in, for then it is quicker."""
        for table in TABLES.values():
            for statement in table.index_statements():
                self._run(statement)

    def insert(self, table: Table, record: NewRecord) -> int:
        """Store one record and give its id."""
        with self._lock:
            self.insert_many(table, [record])
            key = int(self._run("SELECT last_insert_rowid()")[0][0])
            self._note(table, "created", None, key)
            return key

    def update(
        self,
        table: Table,
        record: Record,
        attributes: Mapping[str, Any],
        links: Mapping[str, int | None],
        lists: Mapping[str, Sequence[int] | None] | None = None,
    ) -> None:
        """Change some attributes, links and lists of one record."""
        own = {
            name: None if text is None else json.loads(text)
            for name, text in zip(table.list_texts, record.lists, strict=True)
        }
        changed = NewRecord(
            record.attributes() | dict(attributes),
            dict(zip(table.links, record.links, strict=True)) | dict(links),
            own | dict(lists or {}),
            record.can_write,
            record.can_delete,
            json.loads(record.data_connections),
            record.id,
        )
        sets = ", ".join(f'"{name}" = ?' for name in table.columns[1:])
        with self._lock:
            values = (*self._row(table, changed)[1:], record.id)
            self._run(f"UPDATE {table.name} SET {sets} WHERE id = ?", values)
            self._note(table, "updated", record, record.id)

    def _row(self, table: Table, record: NewRecord) -> tuple[Any, ...]:
        given = {name: value for name, value in record.attributes.items() if value is not None}
        connections = dump_json(list(record.data_connections)) if record.data_connections else "[]"
        return (
            record.id,
            dump_json(given)[1:-1],
            self._shape_of(table, frozenset(given)),
            *map(given.get, table.own_names),
            *map(record.links.get, table.links),
            *(None if ids is None else dump_json(list(ids)) for ids in map(record.lists.get, table.list_columns)),
            record.can_write,
            record.can_delete,
            connections,
        )

    def _shape_of(self, table: Table, given: frozenset[str]) -> int:
        """Return the number of the text with the null members of a record that has `given`."""
        kind = table.resource.type
        key = self._shape_keys.get((kind, given))
        if key is None:
            missing = [name for name in table.resource.by_name if name not in given]
            nulls = ",".join(f'"{name}":null' for name in missing)
            key = len(self._nulls) + 1
            self._connection.execute("INSERT INTO shape VALUES (?, ?)", (key, nulls))
            self._shape_keys[kind, given] = key
            self._nulls[key] = nulls.encode()
        return key

    def delete(self, table: Table, key: int) -> None:
        """Remove a record; an opportunity takes prospects' roles along, and leaves its activity without a deal.

        In the caller's transaction.
        """
        with self._lock:
            before = self.get(table, key) if self.listener is not None else None
            self._run(f"DELETE FROM {table.name} WHERE id = ?", (key,))
            self._note(table, "destroyed", before, key)
            if table.name == "opportunities":
                self._run("DELETE FROM opportunityProspectRoles WHERE opportunity_id = ?", (key,))
                for resource in ACTIVITY:
                    self._run(f"UPDATE {resource.path} SET opportunity_id = NULL WHERE opportunity_id = ?", (key,))

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
        return [self._record(table, row) for row in self._run(statement, (*values, limit, offset))]

    def select_ids(self, table: Table, keys: Sequence[int]) -> list[Record]:
        """Read the records with these ids, in order of id."""
        found: list[Record] = []
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ", ".join("?" * len(some))
            found += self.select(table, f"{table.name}.id IN ({marks})", some, f"{table.name}.id", len(some))
        return sorted(found, key=lambda record: record.id)

    def _record(self, table: Table, row: tuple[Any, ...]) -> Record:
        text, nulls = row[1], self._nulls[row[2]]
        text = b"%b,%b" % (text, nulls) if text and nulls else text or nulls
        split = len(row) - 3 - len(table.list_texts)
        return Record(row[0], text, row[3:split], row[split:-3], bool(row[-3]), bool(row[-2]), row[-1])

    def count(self, table: Table, where: str, values: Sequence[Any]) -> int:
        """Count records."""
        return int(self._run(f"SELECT count(*) FROM {table.name} WHERE {where}", tuple(values))[0][0])

    def exists(self, kind: str, key: int) -> bool:
        """Whether a record of this type has this id."""
        return bool(self._run(f"SELECT 1 FROM {TABLES[kind].name} WHERE id = ?", (key,)))

    def set_primary_prospects(self) -> None:
        """Let each opportunity point to the person whose role in it is the primary one."""
        self._run(
            "UPDATE opportunities SET primary_prospect_id = (SELECT role.prospect_id FROM opportunityProspectRoles "
            "AS role WHERE role.opportunity_id = opportunities.id "
            "AND json_extract('{' || role.attributes || '}', '$.primary') LIMIT 1)"
        )

    def read_activity_until(self) -> float:
        """Read up to when there is activity [s since 1970]; before everything where there is none yet."""
        found = self._run("SELECT max(until) FROM activity")[0][0]
        return float("-inf") if found is None else float(found)

    def write_activity_until(self, moment: float) -> None:
        """Keep up to when there is activity; in the caller's transaction."""
        self._run("INSERT INTO activity VALUES (?)", (moment,))

    def write_truth(self, facts: Iterable[tuple[int, str, str, float, float]]) -> None:
        """Keep what the generator knows of each opportunity."""
        with self._lock:
            self._connection.executemany("INSERT INTO truth VALUES (?, ?, ?, ?, ?)", facts)

    def write_truth_of(self, key: int, p: float) -> None:
        """Set the chance of winning of one opportunity, which is in another stage now; in the caller's transaction."""
        self._run("UPDATE truth SET p = ? WHERE id = ?", (p, key))

    def read_truth(self) -> list[tuple[int, str, str, float, float]]:
        """Read what the generator knows of each opportunity: id, outcome, closing day, chances now and at first."""
        return self._run("SELECT id, outcome, closing_day, p, p_start FROM truth ORDER BY id")

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


_MORE_TABLES = (
    "CREATE TABLE shape (id INTEGER PRIMARY KEY, nulls TEXT NOT NULL)",
    "CREATE TABLE activity (until REAL)",
    "CREATE TABLE truth (id INTEGER PRIMARY KEY, outcome TEXT, closing_day TEXT, p REAL, p_start REAL)",
)
