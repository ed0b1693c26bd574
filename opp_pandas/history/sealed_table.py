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

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

import opp_pandas
from opp_pandas.errors import (
    ConfigurationError,
    DamagedHistoryError,
    OppPandasError,
    printable,
)
from opp_pandas.history.commit_chain import (
    FOLDER,
    HEAD,
    KEY,
    Chain,
    Damage,
    Files,
    digest_of,
    facts_in,
    live_digest,
    log_name,
    parse_sealed,
    seal_of,
    told_of,
)
from opp_pandas.history.delta_library import in_plain_words, load_deltalake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

FORMAT = 2
"""The newest format that this program reads; the one that it writes."""
_FORMAT_KEY = "opp_pandas.format"
# Rows stand field by field: readers of a few fields skip the other groups of rows.
_ROWS_AT_ONCE = 250_000
_KEPT_DAYS = 7
_TRIES = 100
_T = TypeVar("_T")
_CONFIGURATION = {
    # A history is kept, not cleaned up behind its owner's back: the log stays ten years.
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": f"interval {_KEPT_DAYS} days",
}


@dataclass(frozen=True, eq=False)
class Opened:
    """One version of a table, checked: its format, the names of its data files, and where its chain ends."""

    table: Any
    format: int
    names: tuple[str, ...]
    chain: Chain

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
        self._files = Files(self.location, self._options, is_remote=self.is_remote)
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
        with in_plain_words(self, "cannot be read"):
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
            raise self._damaged(log_name(head.version), "is gone, as all of the log")
        return self._create(deltalake) if create else None

    def _checked(self, table: Any, head: Chain | None) -> Opened:
        import pyarrow as pa

        version = table.version()
        found = self._format_of(table)
        names = tuple(sorted(pa.table(table.get_add_actions()).column("path").to_pylist()))
        if found == 1:
            return Opened(table, 1, names, Chain())
        if head is None and version > 0:
            raise self._damaged(HEAD, "is gone")
        chain = head or Chain()
        if chain.version > version:
            lost = chain.version - version
            raise self._damaged(
                log_name(version + 1), "is gone: the last commit is lost" if lost == 1 else f"is gone: {lost} are lost"
            )
        if head is not None and digest_of(self._log(head.version)) != head.logs[-1]["digest"]:
            raise self._damaged(log_name(head.version), "was changed or cut short")
        chain = self._followed(chain, version)
        if chain.live != live_digest(names):
            raise self._damaged("_delta_log", "names other data files than were recorded")
        return Opened(table, found, names, chain)

    def _log(self, version: int) -> Any:
        log = self._files.read(log_name(version))
        if log is None:
            raise self._damaged(log_name(version), "is gone")
        return log

    def _followed(self, chain: Chain, upto: int) -> Chain:
        """Return the chain after the commits up to a version."""
        for version in range(chain.version + 1, upto + 1):
            followed = chain.follow(version, self._log(version))
            if followed is None:
                raise self._damaged(log_name(version), "was changed, or does not follow the commit before it")
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
        with in_plain_words(self, "cannot be made"):
            if not self.is_remote:
                Path(self.location).mkdir(parents=True, exist_ok=True)
            facts = self._facts(Chain(), 0, "create", live=())
            try:
                deltalake.DeltaTable.create(
                    self.location,
                    schema=self.schema,
                    mode="error",
                    name=f"opp_pandas {self._title}",
                    configuration=_CONFIGURATION,
                    storage_options=self._options,
                    commit_properties=deltalake.CommitProperties(
                        custom_metadata={KEY: json.dumps(facts)}, max_commit_retries=0
                    ),
                )
            except (DeltaError, OSError):
                # Another recorder may have made it at this very moment.
                opened = self.open()
                if opened is None:
                    raise
                return opened
            self._move_head(Chain(), 0)
        opened = self.open()
        assert opened is not None  # noqa: S101 -- it was made
        return opened

    # --- the head -----------------------------------------------------------

    def _head(self) -> Chain | None:
        content = self._files.read(HEAD)
        if content is None:
            return None
        facts = parse_sealed(content)
        if facts is None:
            raise self._damaged(HEAD, "was changed or cut short")
        return Chain(facts["chain"], facts["live"], tuple(facts["logs"]))

    def _write_head(self, chain: Chain) -> None:
        facts = {"format": FORMAT, "chain": chain.seal, "live": chain.live, "logs": list(chain.logs)}
        self._files.write(HEAD, json.dumps({**facts, "seal": seal_of(facts)}).encode())

    def _move_head(self, chain: Chain, upto: int) -> None:
        """Let the head follow the commits up to a version; one that is further on stays.

        The log lasts before the head that names it: a head of a commit that the disk lost would say damage.
        """
        self._files.sync(log_name(upto))
        with suppress(DamagedHistoryError):  # whoever opens the table says what is wrong
            chain = self._followed(chain, upto)
            head = self._head()
            if head is None or head.version < chain.version:
                self._write_head(chain)

    # --- writing ------------------------------------------------------------

    def _facts(self, chain: Chain, version: int, operation: str, live: Iterable[str], **more: Any) -> dict[str, Any]:
        facts = {
            "format": FORMAT,
            "program": opp_pandas.__version__,
            "version": version,
            "operation": operation,
            "at": pd.Timestamp.now("UTC").isoformat(),
            "live": live_digest(live),
            "previous": chain.seal,
            "logs": list(chain.logs),
            **more,
        }
        return {**facts, "seal": seal_of(facts)}

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
            log = self._files.read(log_name(opened.version)) or b""
            opened = Opened(opened.table, opened.format, opened.names, Chain(logs=(told_of(opened.version, log, {}),)))
            with in_plain_words(self, "cannot be written"):
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
        with in_plain_words(self, "cannot be written"):
            self._files.write(name, content)
            try:
                opened.table.create_write_transaction(
                    [AddAction(name, len(content), {}, int(time.time() * 1000), True, stats)],
                    mode,
                    self.schema,
                    # No second try inside: a commit counts only on top of the version that its rows were computed from.
                    commit_properties=deltalake.CommitProperties(
                        custom_metadata={KEY: json.dumps(facts)}, max_commit_retries=0
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
        with in_plain_words(self, "its files cannot be deleted"):
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
        """Read rows as a pyarrow table, every file held against its digest; format 1, which has none, as it is."""
        # Rows are chosen faster among plain texts.
        dataset = self.dataset(opened, dictionaries if condition is None else ())
        wanted = None if columns is None else list(columns)
        with in_plain_words(self, "its rows cannot be read (put the file back from a copy)"):
            return dataset.to_table(
                columns=wanted or (None if opened.format == 1 else self.schema.names), filter=condition
            )

    def dataset(self, opened: Opened, dictionaries: Iterable[str] = ()) -> Any:
        """Open the rows as a pyarrow dataset, to be read in parts; the bytes of the files stay in memory.

        A DamagedHistoryError says if one of the files is gone or damaged.
        """
        import pyarrow.dataset as ds

        names = set(dictionaries)
        with in_plain_words(self, "its rows cannot be read (put the file back from a copy)"):
            if opened.format == 1:
                coded = ds.ParquetReadOptions(dictionary_columns=names)
                return opened.table.to_pyarrow_dataset(parquet_read_options=coded)
            with ThreadPoolExecutor(8) as pool:
                return self._dataset(pool.map(self._content, opened.names), names)

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

    def commits(self) -> list[tuple[int, pd.Timestamp, str, int]]:
        """Return number, moment, operation and rows of every version, oldest first."""
        opened = self.open()
        if opened is None:
            return []
        with in_plain_words(self, "its log cannot be read"):
            found = []
            for entry in opened.table.history():
                own = parse_sealed(entry.get(KEY)) or {}
                at = own.get("at") or pd.Timestamp(entry["timestamp"], unit="ms", tz="UTC")
                rows = own.get("rows", (entry.get("operationMetrics") or {}).get("num_added_rows", 0))
                operation = own.get("operation", str(entry.get("operation", "")).lower())
                found.append((int(entry["version"]), pd.Timestamp(at), operation, int(rows or 0)))
            return sorted(found)

    # --- damage -------------------------------------------------------------

    def damages(self) -> list[Damage]:
        """Hold every file against its digest: none where all is well, and where there is no table."""
        return self._inspect()[0]

    def salvage(self) -> tuple[list[Damage], Any]:
        """Find every damaged file, and read the rows of all the others."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        damages, contents, format_ = self._inspect()
        if format_ == FORMAT:
            return damages, self._dataset(contents).to_table(columns=self.schema.names)
        left = [pq.read_table(content) for content in contents]
        return damages, self.from_old(pa.concat_tables(left)) if left else self.schema.empty_table()

    def from_old(self, rows: Any) -> Any:
        """Turn rows of format 1 into those of format 2."""
        raise NotImplementedError

    def _inspect(self) -> tuple[list[Damage], list[Any], int]:
        """Find every damaged file, and the contents of the data files that are whole, in a format.

        Format 1 has no digests: what can be read of it may still have been changed.
        """
        found: dict[str, Damage] = {}
        contents: list[Any] = []
        try:
            opened = self.open()
            if opened is not None and opened.format == 1:
                return [*self._walk_old(opened, contents)], contents, 1
        except DamagedHistoryError as error:
            found[error.file] = Damage(error.file, error.problem)
        except ConfigurationError as error:
            found["_delta_log"] = Damage("_delta_log", str(error))
        for damage in self._walk(contents):
            # What opening came across first is told once, with its nights.
            found[damage.file] = damage
        if len(found) > 1:
            found.pop("_delta_log", None)
        return sorted(found.values(), key=lambda damage: (damage.first is None, damage.first or 0)), contents, FORMAT

    def _walk_old(self, opened: Opened, contents: list[Any]) -> Iterator[Damage]:
        """Read each data file of format 1; the log tells the moments of those that cannot be."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for told in pa.table(opened.table.get_add_actions(flatten=True)).to_pylist():
            content = self._files.read(told["path"])
            try:
                pq.read_table(pa.BufferReader(content or b""))
                contents.append(pa.BufferReader(content))
            except (pa.ArrowException, OSError):
                ends = (told.get(f"{end}.{self._moments}") for end in ("min", "max"))
                first, last = (None if at is None else pd.Timestamp(at).value // 1_000 for at in ends)
                yield Damage(told["path"], "is gone" if content is None else "cannot be read", first, last)

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
            log, told = self._files.read(log_name(version)), known.get(version, {})
            facts = None if log is None else facts_in(log)
            is_loss = facts is None and "file" not in told
            if log is None or (told and digest_of(log) != told["digest"]):
                words = "is gone" if log is None else "was changed or cut short"
                yield Damage(log_name(version), words, told.get("first"), told.get("last"), is_loss)
            elif is_loss and not is_all and version <= (head.version if head else newest if live else -1):
                yield Damage(log_name(version), "was changed, and so was the one that tells its digest")
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
            yield Damage(HEAD, problem, max(commit["last"] or 0 for commit in live.values()))

    def _damaged(self, file: str, problem: str) -> DamagedHistoryError:
        return DamagedHistoryError(self.location, file, problem)
