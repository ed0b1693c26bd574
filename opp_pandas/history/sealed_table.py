"""A Delta Lake table whose every byte is checked when it is read.

A data file bears the SHA-256 digest of its content as its name. The metadata of
every commit hold the digest of the files that are live after it, the seal of the
commit before, the digests of the log files since then, and a seal over all of
these. The seal of the newest commit stands in a small file beside the table, the
head, which is written whole after each commit. So a changed, cut or missing data
file, a changed log, and a lost last commit contradict what is written elsewhere.

A commit is one small file with the next number; whoever writes it first has
it. A recorder that finds its number taken reads again and tries anew, so no
recording is lost and none is computed from an older state. A recorder that is
killed leaves files that no commit names, and so the last whole version; killed
between a commit and its head, it leaves a head that lags by one, which the next
commit puts right.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

import opp_pandas
from opp_pandas._files import write_whole
from opp_pandas.errors import (
    ConfigurationError,
    DamagedHistoryError,
    MissingExtraError,
    OppPandasError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

FORMAT = 2
"""The newest format that this program reads; the one that it writes."""
FOLDER = "_opp_pandas"
"""What stands beside the table; readers of Delta tables leave such names alone."""
_HEAD = f"{FOLDER}/head.json"
_KEY = "opp_pandas"
_FORMAT_KEY = "opp_pandas.format"
# Rows stand field by field: readers of a few fields skip the other groups of rows.
_ROWS_AT_ONCE = 250_000
_KEPT_DAYS = 7
_PIECE = 1 << 20
_TRIES = 100
_T = TypeVar("_T")
_CONFIGURATION = {
    # A history is kept, not cleaned up behind its owner's back: the log stays ten years.
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": f"interval {_KEPT_DAYS} days",
}


def load_deltalake() -> Any:
    """Import deltalake, which comes with the extra ``history``."""
    try:
        import deltalake
    except ImportError as error:
        raise MissingExtraError("deltalake", "history") from error
    return deltalake


def digest_of(content: Any) -> str:
    """Return the SHA-256 digest of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _seal(facts: Mapping[str, Any]) -> str:
    told = {name: value for name, value in facts.items() if name != "seal"}
    return digest_of(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())


def _live_digest(names: Iterable[str]) -> str:
    return digest_of("\n".join(sorted(names)).encode())


def _sealed(text: Any) -> dict[str, Any] | None:
    """Parse facts that bear a seal; None where there are none, or the seal does not fit."""
    try:
        facts = json.loads(text)
        fits = isinstance(facts, dict) and facts.get("seal") == _seal(facts)
    except (TypeError, ValueError, RecursionError):
        return None
    return facts if fits else None


def _log_name(version: int) -> str:
    return f"_delta_log/{version:020d}.json"


def _facts_in(log: bytes) -> dict[str, Any] | None:
    """Parse what this package wrote into a file of the log; None for a commit of another program."""
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        info = entry.get("commitInfo") if isinstance(entry, dict) else None
        if isinstance(info, dict) and _KEY in info:
            return _sealed(info[_KEY])
    return None


class _Files:
    """Whole files below one place, on disk or in an object store."""

    def __init__(self, location: str, options: dict[str, str] | None, *, is_remote: bool) -> None:
        self._location, self._options, self._is_remote = location, options, is_remote

    @cached_property
    def _store(self) -> Any:
        from pyarrow import fs

        if not self._is_remote:
            return fs.SubTreeFileSystem(self._location, fs.LocalFileSystem())
        from deltalake.fs import DeltaStorageHandler

        return fs.PyFileSystem(DeltaStorageHandler(self._location, self._options))

    def read(self, name: str) -> Any:
        """Read a file; None where there is none."""
        try:
            with self._store.open_input_file(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def logs(self) -> list[int]:
        """List the versions of which there is a log."""
        from pyarrow.fs import FileSelector

        entries = self._store.get_file_info(FileSelector("_delta_log", allow_not_found=True))
        found = [re.fullmatch(r"(\d{20})\.json", entry.base_name) for entry in entries]
        return [int(match[1]) for match in found if match]

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        if self._is_remote:
            # The stream takes bytes alone, and those come only by way of a buffer: pieces larger than it pass it by.
            with self._store.open_output_stream(name, buffer_size=2 * _PIECE) as file:
                for start in range(0, len(content), _PIECE):
                    file.write(content[start : start + _PIECE])
            return
        path = Path(self._location, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)


@dataclass(frozen=True)
class _Chain:
    """Where the chain of commits ends.

    Parameters
    ----------
    seal : str
        That of the newest commit of this package.
    live : str
        Digest of the names of the data files.
    logs : tuple of mapping
        ``version, digest, file, mode, first, last`` of the files of the log from that commit on: commits of other
        programs, which change no row, may follow it. `first` and `last` say which moments its rows speak of
        [us since 1970]. So each commit tells what the one before it did, should its log be lost.
    """

    seal: str = ""
    live: str = ""
    logs: tuple[Mapping[str, Any], ...] = ()

    @property
    def version(self) -> int:
        return int(self.logs[-1]["version"]) if self.logs else -1

    def follow(self, version: int, log: bytes) -> _Chain | None:
        """Return the chain after the commit in a file of the log; None where it does not fit."""
        facts = _facts_in(log)
        if facts is None:
            return _Chain(self.seal, self.live, (*self.logs, _told(version, log, {})))
        if facts["previous"] != self.seal or facts["version"] != version or not self._is_told_by(facts["logs"]):
            return None
        return _Chain(facts["seal"], facts["live"], (_told(version, log, facts),))

    def _is_told_by(self, logs: list[Mapping[str, Any]]) -> bool:
        return [told["digest"] for told in logs] == [told["digest"] for told in self.logs]


def _told(version: int, log: bytes, facts: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: facts.get(name) for name in ("file", "mode", "first", "last")}
    return {"version": version, "digest": digest_of(log), **told}


@dataclass(frozen=True)
class Damage:
    """A file of a table that is not as it was written.

    Parameters
    ----------
    file, problem : str
    first, last : int or None
        The moments that its rows speak of [us since 1970]; None where nothing is left that says so.
    is_loss : bool
        Whether rows are lost with it: those of a log whose neighbour tells the same are not.
    """

    file: str
    problem: str
    first: int | None = None
    last: int | None = None
    is_loss: bool = True


@dataclass(frozen=True, eq=False)
class Opened:
    """One version of a table, checked: its format, the names of its data files, and where its chain ends."""

    table: Any
    format: int
    names: tuple[str, ...]
    chain: _Chain

    @property
    def version(self) -> int:
        """The number of the version."""
        return int(self.table.version())


class SealedTable:
    """A table at a path or address.

    Parameters
    ----------
    path, storage_options
        As in `opp_pandas.History`.
    schema : callable
        Gives its columns; a table with more columns is read, too.
    title : str
        What it is, in words of errors.
    old_columns : frozenset of str, optional
        The columns by which a table of format 1 is known, which said no format.
    moments : str, optional
        The column with the moments that rows speak of.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        storage_options: Mapping[str, str] | None,
        *,
        schema: Any,
        title: str,
        old_columns: frozenset[str] = frozenset(),
        moments: str,
    ) -> None:
        text = os.fspath(path)
        if not text:
            raise ConfigurationError(f"a {title} needs a folder or an address such as s3://bucket/{title}")
        self.is_remote = "://" in text
        self.location = text if self.is_remote else str(Path(text).expanduser().absolute())
        self._options = dict(storage_options) if storage_options else None
        self._files = _Files(self.location, self._options, is_remote=self.is_remote)
        self._title, self._moments, self._old_columns = title, moments, old_columns
        self._plain_schema = schema

    def __repr__(self) -> str:
        return f"the {self._title} {printable(self.location)}"

    @cached_property
    def schema(self) -> Any:
        """Its columns; the first one says the format."""
        schema = self._plain_schema()
        return schema.set(0, schema.field(0).with_metadata({_FORMAT_KEY: str(FORMAT)}))

    # --- opening ------------------------------------------------------------

    def open(self, *, create: bool = False) -> Opened | None:
        """Open the newest version; None where there is none.

        Raises
        ------
        ConfigurationError
            If the place holds another table, or one of a newer format, or cannot be read.
        DamagedHistoryError
            If the log is damaged, or commits are gone.
        """
        deltalake = load_deltalake()
        from deltalake.exceptions import TableNotFoundError

        if not self.is_remote and Path(self.location).is_file():
            raise ConfigurationError(f"{printable(self.location)} is a file; a {self._title} needs a folder")
        with self._words("cannot be read"):
            # Before the table: whoever commits in between moves the head only afterwards.
            head = self._head()
            try:
                table = deltalake.DeltaTable(self.location, storage_options=self._options)
                if head is None and table.version() > 0:
                    # Made since the look at the head?
                    head = self._head()
                    table = deltalake.DeltaTable(self.location, storage_options=self._options)
            except TableNotFoundError:
                table = None
            if table is not None:
                opened = self._checked(table, head)
                if create and head is None and opened.format > 1:
                    # Whoever made the table was killed before the head was there.
                    self._write_head(opened.chain)
                return opened
        if head is not None:
            raise self._damaged(_log_name(head.version), "is gone, as all of the log")
        return self._create(deltalake) if create else None

    def _checked(self, table: Any, head: _Chain | None) -> Opened:
        import pyarrow as pa

        version = table.version()
        found = self._format_of(table)
        names = tuple(sorted(pa.table(table.get_add_actions()).column("path").to_pylist()))
        if found == 1:
            return Opened(table, 1, names, _Chain())
        if head is None and version > 0:
            raise self._damaged(_HEAD, "is gone")
        chain = head or _Chain()
        if chain.version > version:
            lost = chain.version - version
            raise self._damaged(
                _log_name(version + 1), "is gone: the last commit is lost" if lost == 1 else f"is gone: {lost} are lost"
            )
        if head is not None and digest_of(self._log(head.version)) != head.logs[-1]["digest"]:
            raise self._damaged(_log_name(head.version), "was changed or cut short")
        chain = self._followed(chain, version)
        if chain.live != _live_digest(names):
            raise self._damaged("_delta_log", "names other data files than were recorded")
        return Opened(table, found, names, chain)

    def _log(self, version: int) -> Any:
        log = self._files.read(_log_name(version))
        if log is None:
            raise self._damaged(_log_name(version), "is gone")
        return log

    def _followed(self, chain: _Chain, upto: int) -> _Chain:
        """Return the chain after the commits up to a version."""
        for version in range(chain.version + 1, upto + 1):
            followed = chain.follow(version, self._log(version))
            if followed is None:
                raise self._damaged(_log_name(version), "was changed, or does not follow the commit before it")
            chain = followed
        return chain

    def _format_of(self, table: Any) -> int:
        fields = table.schema().fields
        columns = {field.name for field in fields}
        said = next((field.metadata[_FORMAT_KEY] for field in fields if _FORMAT_KEY in field.metadata), None)
        if said is not None and not (said.isascii() and said.isdigit()):
            raise self._damaged("_delta_log", f"says a format that is no number: {printable(said)}")
        if said is not None and int(said) > FORMAT:
            raise ConfigurationError(
                f"{self!r} is written in format {int(said)}, and this version of opp_pandas ({opp_pandas.__version__}) "
                f"reads format {FORMAT} and older: install a newer one (pip install -U opp_pandas)"
            )
        if said is not None and columns >= set(self.schema.names):
            return int(said)
        if said is None and self._old_columns and columns >= self._old_columns:
            return 1
        raise ConfigurationError(
            f"{printable(self.location)} holds another table (columns {printable(', '.join(sorted(columns)), 200)}); "
            f"a {self._title} needs a folder of its own"
        )

    def _create(self, deltalake: Any) -> Opened:
        from deltalake.exceptions import DeltaError

        if not self.is_remote:
            folder = Path(self.location)
            if folder.exists() and any(entry.name not in ("_delta_log", FOLDER) for entry in folder.iterdir()):
                raise ConfigurationError(
                    f"{printable(self.location)} is not empty; a {self._title} needs a folder of its own"
                )
        with self._words("cannot be made"):
            if not self.is_remote:
                Path(self.location).mkdir(parents=True, exist_ok=True)
            facts = self._facts(_Chain(), 0, "create", live=())
            try:
                deltalake.DeltaTable.create(
                    self.location,
                    schema=self.schema,
                    mode="error",
                    name=f"opp_pandas {self._title}",
                    configuration=_CONFIGURATION,
                    storage_options=self._options,
                    commit_properties=deltalake.CommitProperties(
                        custom_metadata={_KEY: json.dumps(facts)}, max_commit_retries=0
                    ),
                )
            except (DeltaError, OSError):
                # Another recorder may have made it at this very moment.
                opened = self.open()
                if opened is None:
                    raise
                return opened
            self._move_head(_Chain(), 0)
        opened = self.open()
        assert opened is not None  # noqa: S101 -- it was made
        return opened

    # --- the head -----------------------------------------------------------

    def _head(self) -> _Chain | None:
        content = self._files.read(_HEAD)
        if content is None:
            return None
        facts = _sealed(content)
        if facts is None:
            raise self._damaged(_HEAD, "was changed or cut short")
        return _Chain(facts["chain"], facts["live"], tuple(facts["logs"]))

    def _write_head(self, chain: _Chain) -> None:
        facts = {"format": FORMAT, "chain": chain.seal, "live": chain.live, "logs": list(chain.logs)}
        self._files.write(_HEAD, json.dumps({**facts, "seal": _seal(facts)}).encode())

    def _move_head(self, chain: _Chain, upto: int) -> None:
        """Let the head follow the commits up to a version; one that is further on stays."""
        with suppress(DamagedHistoryError):  # whoever opens the table says what is wrong
            chain = self._followed(chain, upto)
            head = self._head()
            if head is None or head.version < chain.version:
                self._write_head(chain)

    # --- writing ------------------------------------------------------------

    def _facts(self, chain: _Chain, version: int, operation: str, live: Iterable[str], **more: Any) -> dict[str, Any]:
        facts = {
            "format": FORMAT,
            "program": opp_pandas.__version__,
            "version": version,
            "operation": operation,
            "at": pd.Timestamp.now("UTC").isoformat(),
            "live": _live_digest(live),
            "previous": chain.seal,
            "logs": list(chain.logs),
            **more,
        }
        return {**facts, "seal": _seal(facts)}

    def commit(self, operation: str, build: Callable[[Any], tuple[Any, _T]], *, overwrite: bool = False) -> _T:
        """Commit what `build` makes of the newest version, anew whenever somebody else was faster.

        Parameters
        ----------
        operation : str
            What the commit does, in a word.
        build : callable
            Takes an `Opened` and gives rows, or None where there is nothing to commit, and what to return.
        overwrite : bool
            Put the rows in place of all there are, in this format; `build` is then given None where there is no table.
            Otherwise they are added, to a table that is made if there is none, and rewritten if its format is older.

        Raises
        ------
        ConfigurationError
            If the place cannot be written.
        OppPandasError
            If others were faster all the time.
        """
        for _ in range(_TRIES):
            opened = self.open(create=not overwrite)
            if opened is not None and opened.format < FORMAT and not overwrite:
                self._write(opened, self.all_rows(opened), "upgrade", "overwrite")
                continue
            rows, result = build(opened)
            if opened is None or rows is None or not len(rows):
                return result
            if self._write(opened, rows, operation, "overwrite" if overwrite else "append"):
                return result
        raise OppPandasError(f"{_TRIES} times another program was faster at {self!r}: nothing was changed, try again")

    def all_rows(self, opened: Opened) -> Any:
        """Read everything, in this format."""
        return self.read(opened)

    def _write(self, opened: Opened, rows: Any, operation: str, mode: str) -> bool:
        """Write one commit on top of the version that was read; False if somebody committed since."""
        deltalake = load_deltalake()
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
        from deltalake.exceptions import DeltaError
        from deltalake.transaction import AddAction

        if opened.format < FORMAT:
            # Before the commit: a table of format 2 has a head.
            log = self._files.read(_log_name(opened.version)) or b""
            opened = Opened(opened.table, opened.format, opened.names, _Chain(logs=(_told(opened.version, log, {}),)))
            with self._words("cannot be written"):
                self._write_head(opened.chain)
        buffer = BytesIO()
        pq.write_table(
            rows.cast(self.schema), buffer, compression="zstd", compression_level=6, row_group_size=_ROWS_AT_ONCE
        )
        content = buffer.getvalue()
        name = f"part-{digest_of(content)}.parquet"
        version = opened.version + 1
        ends = pc.min_max(rows.column(self._moments).cast("int64")).as_py()
        facts = self._facts(
            opened.chain,
            version,
            operation,
            live=(*opened.names, name) if mode == "append" else (name,),
            mode=mode,
            file=name,
            rows=len(rows),
            first=ends["min"],
            last=ends["max"],
        )
        stats = json.dumps({"numRecords": len(rows)})
        with self._words("cannot be written"):
            self._files.write(name, content)
            try:
                opened.table.create_write_transaction(
                    [AddAction(name, len(content), {}, int(time.time() * 1000), True, stats)],
                    mode,
                    self.schema,
                    # No second try inside: a commit counts only on top of the version that its rows were computed from.
                    commit_properties=deltalake.CommitProperties(
                        custom_metadata={_KEY: json.dumps(facts)}, max_commit_retries=0
                    ),
                )
            except (DeltaError, OSError):
                newest = self.open()
                if newest is None or newest.version <= opened.version:
                    raise
                return False
            self._move_head(opened.chain, version)
        return True

    def vacuum(self, older_than_days: int) -> int:
        """Delete data files that no version younger than some days needs; returns how many."""
        opened = self.open()
        if opened is None:
            return 0
        with self._words("its files cannot be deleted"):
            kept_long = older_than_days >= _KEPT_DAYS
            gone = opened.table.vacuum(older_than_days * 24, dry_run=False, enforce_retention_duration=kept_long)
            newest = self.open()
            if newest is not None:
                self._move_head(newest.chain, newest.version)
            return len(gone)

    # --- reading ------------------------------------------------------------

    def read(
        self,
        opened: Opened,
        columns: Iterable[str] | None = None,
        condition: Any = None,
        dictionaries: Iterable[str] = (),
    ) -> Any:
        """Read rows as a pyarrow table, every file held against its digest; format 1, which has none, as it is.

        Raises
        ------
        DamagedHistoryError
            If one of the files is gone or damaged.
        """
        import pyarrow.dataset as ds

        # Rows are chosen faster among plain texts.
        names = set(dictionaries if condition is None else ())
        coded = ds.ParquetReadOptions(dictionary_columns=names)
        wanted = None if columns is None else list(columns)
        with self._words("its rows cannot be read (put the file back from a copy)"):
            if opened.format == 1:
                old = opened.table.to_pyarrow_dataset(parquet_read_options=coded)
                return old.to_table(columns=wanted, filter=condition)
            with ThreadPoolExecutor(8) as pool:
                dataset = self._dataset(pool.map(self._content, opened.names), names)
            return dataset.to_table(columns=wanted or self.schema.names, filter=condition)

    def _dataset(self, contents: Iterable[Any], dictionaries: Iterable[str] = ()) -> Any:
        import pyarrow as pa
        import pyarrow.dataset as ds

        schema = self.schema
        for name in dictionaries:
            place = schema.get_field_index(name)
            schema = schema.set(place, schema.field(place).with_type(pa.dictionary(pa.int32(), pa.string())))
        format_ = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(dictionary_columns=set(dictionaries)))
        return ds.FileSystemDataset([format_.make_fragment(content) for content in contents], schema, format_)

    def _content(self, name: str) -> Any:
        import pyarrow as pa

        content = self._files.read(name)
        if content is None or name != f"part-{digest_of(content)}.parquet":
            raise self._damaged(name, "is gone" if content is None else "was changed or cut short")
        return pa.BufferReader(content)

    def commits(self) -> list[dict[str, Any]]:
        """Return what is known of every version, oldest first: ``version, at, operation, rows``."""
        opened = self.open()
        if opened is None:
            return []
        with self._words("its log cannot be read"):
            found = []
            for entry in opened.table.history():
                own = _sealed(entry.get(_KEY)) or {}
                at = own.get("at") or pd.Timestamp(entry["timestamp"], unit="ms", tz="UTC")
                rows = own.get("rows", (entry.get("operationMetrics") or {}).get("num_added_rows", 0))
                found.append(
                    {
                        "version": int(entry["version"]),
                        "at": pd.Timestamp(at),
                        "operation": own.get("operation", str(entry.get("operation", "")).lower()),
                        "rows": int(rows or 0),
                    }
                )
            return sorted(found, key=lambda commit: commit["version"])

    # --- damage -------------------------------------------------------------

    def verify(self) -> pd.DataFrame:
        """Hold every file against its digest.

        Returns
        -------
        DataFrame, columns ``file, problem, first_night, last_night``
            A row per damaged file; empty where all is well, and where there is no table. The nights are the moments
            that its rows speak of: missing where nothing is left that says so.
        """
        damages, _ = self._inspect()
        made: dict[str, Any] = {
            name: pd.array([getattr(damage, name) for damage in damages], dtype="str") for name in ("file", "problem")
        }
        for name in ("first", "last"):
            moments = [getattr(damage, name) for damage in damages]
            made[f"{name}_night"] = pd.array(moments, dtype="Int64").astype("datetime64[us, UTC]")
        return pd.DataFrame(made)

    def salvage(self) -> tuple[list[Damage], Any]:
        """Find every damaged file, and read the rows of all the others."""
        damages, contents = self._inspect()
        return damages, self._dataset(contents).to_table(columns=self.schema.names)

    def _inspect(self) -> tuple[list[Damage], list[Any]]:
        """Find every damaged file, and the contents of the data files that are whole.

        Format 1 has no digests: what can be read of it may still have been changed.
        """
        found: dict[str, Damage] = {}
        contents: list[Any] = []
        try:
            opened = self.open()
            if opened is not None and opened.format == 1:
                self.read(opened)
                return [], []
        except DamagedHistoryError as error:
            found[error.file] = Damage(error.file, error.problem)
        except ConfigurationError as error:
            found["_delta_log"] = Damage("_delta_log", str(error))
        for damage in self._walk(contents):
            # What opening came across first is told once, with its nights.
            found[damage.file] = damage
        if len(found) > 1:
            found.pop("_delta_log", None)
        return sorted(found.values(), key=lambda damage: (damage.first is None, damage.first or 0)), contents

    def _walk(self, contents: list[Any]) -> Iterator[Damage]:
        """Follow the chain from its end back, without deltalake, and gather the contents of the data files."""
        try:
            head, problem = self._head(), "is gone"
        except DamagedHistoryError as error:
            head, problem = None, error.problem
        known = {told["version"]: told for told in (head.logs if head else ())}
        newest = max([*self._files.logs(), *known], default=-1)
        live: dict[str, Mapping[str, Any]] = {}
        is_all = False
        for version in range(newest, -1, -1):
            log, told = self._files.read(_log_name(version)), known.get(version, {})
            facts = None if log is None else _facts_in(log)
            is_loss = facts is None and "file" not in told
            if log is None or (told and digest_of(log) != told["digest"]):
                words = "is gone" if log is None else "was changed or cut short"
                yield Damage(_log_name(version), words, told.get("first"), told.get("last"), is_loss)
            elif is_loss and not is_all and version <= (head.version if head else newest if live else -1):
                yield Damage(_log_name(version), "was changed, and so was the one that tells its digest")
            known |= {earlier["version"]: earlier for earlier in (facts["logs"] if facts else ())}
            commit = facts or told
            if commit.get("file") and not is_all:
                live[commit["file"]] = commit
                is_all = commit["mode"] == "overwrite"
        for name, commit in live.items():
            try:
                contents.append(self._content(name))
            except DamagedHistoryError as error:
                yield Damage(name, error.problem, commit["first"], commit["last"])
        if head is None and newest > 0 and live:
            # Of commits after the last one that is there, nothing tells.
            yield Damage(_HEAD, problem, max(commit["last"] or 0 for commit in live.values()))

    def _damaged(self, file: str, problem: str) -> DamagedHistoryError:
        return DamagedHistoryError(self.location, file, problem)

    @contextmanager
    def _words(self, what: str) -> Iterator[None]:
        """Say in plain words what deltalake or pyarrow could not do."""
        try:
            yield
        except (ConfigurationError, DamagedHistoryError):
            raise
        except Exception as error:
            raise ConfigurationError(f"{self!r} {what}: {_one_line(error)}") from error
        except BaseException as error:
            # Compiled code that meets a log which it cannot make sense of panics, past every `except Exception`.
            if type(error).__name__ != "PanicException":
                raise
            raise ConfigurationError(f"{self!r} {what}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    """Return what a library says on one line, without the colours that it has for terminals."""
    return printable(" ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split()), 300)
