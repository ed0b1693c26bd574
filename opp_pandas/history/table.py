"""The table on disk or in an object store: a Delta Lake table of cells.

A commit is one small file with the next number; whoever writes it first has
it. A recorder that finds its number taken reads again and tries anew, so no
recording is lost and none is computed from an older state. A recorder that is
killed leaves files that no commit names, and so the last whole version.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opp_pandas.errors import ConfigurationError, MissingExtraError, printable
from opp_pandas.history.cells import COLUMNS, DEAL, arrow_schema

_DICTIONARIES = ("resource", "field", "kind")
_LOCATION = "opp_pandas history"
# A load writes field by field: readers of a few fields skip the other groups of rows.
_ROWS_AT_ONCE = 250_000
# Readers skip files by the time of observation; statistics of the other columns would only make commits longer.
_KEPT_DAYS = 7
_CONFIGURATION: Mapping[str, str | None] = {
    "delta.dataSkippingStatsColumns": "observed_at,sequence",
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


def _words(error: Exception) -> str:
    """Give what deltalake says on one line, without the colours that it has for terminals."""
    return printable(" ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split()), 300)


def _writing() -> Any:
    return load_deltalake().WriterProperties(compression="ZSTD", compression_level=6, max_row_group_size=_ROWS_AT_ONCE)


class Storage:
    """A table of cells at a path or address.

    Parameters
    ----------
    path : str or Path
        A folder, or an address such as ``s3://bucket/history``.
    storage_options : mapping of str to str, optional
        Passed on to deltalake: region, keys, endpoints.
    """

    def __init__(self, path: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None) -> None:
        text = os.fspath(path)
        if not text:
            raise ConfigurationError("a history needs a folder or an address such as s3://bucket/history")
        self.is_remote = "://" in text
        self.location = text if self.is_remote else str(Path(text).expanduser().absolute())
        self._options = dict(storage_options) if storage_options else None

    def open(self, *, create: bool = False) -> Any:
        """Open the newest version of the table; None where there is none.

        Raises
        ------
        ConfigurationError
            If the place holds another table, or cannot be read.
        """
        deltalake = load_deltalake()
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if not self.is_remote and Path(self.location).is_file():
            raise ConfigurationError(f"{printable(self.location)} is a file; a history needs a folder")
        try:
            table = deltalake.DeltaTable(self.location, storage_options=self._options)
        except TableNotFoundError:
            if not create:
                return None
            return self._create(deltalake)
        except (DeltaError, OSError) as error:
            raise ConfigurationError(
                f"the history {printable(self.location)} cannot be read: {_words(error)}"
            ) from error
        names = [field.name for field in table.schema().fields]
        if names != list(COLUMNS):
            raise ConfigurationError(
                f"{printable(self.location)} holds another table (columns {printable(', '.join(names), 200)}); "
                "a history needs a folder of its own"
            )
        return table

    def _create(self, deltalake: Any) -> Any:
        from deltalake.exceptions import DeltaError

        if not self.is_remote:
            folder = Path(self.location)
            if folder.exists() and any(entry.name != "_delta_log" for entry in folder.iterdir()):
                raise ConfigurationError(
                    f"{printable(self.location)} is not empty; a history needs a folder of its own"
                )
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(f"{printable(self.location)} cannot be made: {_words(error)}") from error
        try:
            return deltalake.DeltaTable.create(
                self.location,
                schema=arrow_schema(),
                mode="error",
                name=_LOCATION,
                configuration=dict(_CONFIGURATION),
                storage_options=self._options,
            )
        except (DeltaError, OSError) as error:
            # Another recorder may have made it at this very moment.
            table = self.open()
            if table is None:
                raise ConfigurationError(
                    f"the history {printable(self.location)} cannot be made: {_words(error)}"
                ) from error
            return table

    def append(self, table: Any, rows: Any) -> bool:
        """Append rows to the version that was read; False if somebody committed since.

        Raises
        ------
        ConfigurationError
            If the place cannot be written.
        """
        return self._write(table, rows, mode="append")

    def replace(self, table: Any, rows: Any, predicate: str) -> bool:
        """Put `rows` in place of those that `predicate` selects, in one commit; False if somebody committed since."""
        return self._write(table, rows, mode="overwrite", predicate=predicate)

    def join_files(self, table: Any) -> None:
        """Join small files into large ones, in one commit that changes no row.

        Raises
        ------
        ConfigurationError
            If the place cannot be written, or somebody rewrote the files meanwhile.
        """
        with self._told("its files cannot be joined"):
            table.optimize.compact(writer_properties=_writing())

    def delete_unneeded(self, table: Any, older_than_days: int) -> int:
        """Delete files that no version younger than some days needs; gives how many.

        Raises
        ------
        ConfigurationError
            If the place cannot be written.
        """
        with self._told("its files cannot be deleted"):
            kept_long = older_than_days >= _KEPT_DAYS
            return len(table.vacuum(older_than_days * 24, dry_run=False, enforce_retention_duration=kept_long))

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say in plain words what deltalake could not do."""
        load_deltalake()
        from deltalake.exceptions import DeltaError
        from pyarrow import ArrowException

        try:
            yield
        except (DeltaError, ArrowException, OSError) as error:
            raise ConfigurationError(f"the history {printable(self.location)}: {what}: {_words(error)}") from error

    def _write(self, table: Any, rows: Any, **how: Any) -> bool:
        deltalake = load_deltalake()
        from deltalake.exceptions import DeltaError

        read_version = table.version()
        try:
            deltalake.write_deltalake(
                table,
                rows,
                # No second try inside: a commit counts only on top of the version that its rows were computed from.
                commit_properties=deltalake.CommitProperties(max_commit_retries=0),
                writer_properties=_writing(),
                **how,
            )
        except (DeltaError, OSError) as error:
            newest = self.open()
            if newest is not None and newest.version() > read_version:
                return False
            raise ConfigurationError(
                f"the history {printable(self.location)} cannot be written: {_words(error)}"
            ) from error
        return True

    def commits(self, table: Any) -> list[Mapping[str, Any]]:
        """Give what the log of the table says of every version, oldest first.

        Raises
        ------
        ConfigurationError
            If the log cannot be read.
        """
        with self._told("its log cannot be read"):
            return sorted(table.history(), key=lambda entry: int(entry["version"]))

    def read(
        self,
        table: Any,
        fields: Iterable[str] | None = None,
        resources: Iterable[str] | None = None,
        *,
        columns: Iterable[str] = COLUMNS,
    ) -> Any:
        """Read rows of an open table.

        Parameters
        ----------
        table : DeltaTable
            From `open`.
        fields : iterable of str, optional
            Fields of deals; all if left out.
        resources : iterable of str, optional
            Only rows of these.
        columns : iterable of str
            Only these columns of the table: `STATE_COLUMNS` say how things stood.

        Raises
        ------
        ConfigurationError
            If one of its files is gone or damaged.
        """
        import pyarrow.dataset as ds
        from pyarrow.dataset import ParquetReadOptions

        condition = None
        if fields is not None:
            condition = (ds.field("resource") != DEAL) | ds.field("field").isin(list(fields))
        if resources is not None:
            among = ds.field("resource").isin(list(resources))
            condition = among if condition is None else condition & among
        with self._told("its rows cannot be read (put the file back from a copy)"):
            dataset = table.to_pyarrow_dataset(
                parquet_read_options=ParquetReadOptions(dictionary_columns=set(_DICTIONARIES))
            )
            return dataset.to_table(columns=list(columns), filter=condition)
