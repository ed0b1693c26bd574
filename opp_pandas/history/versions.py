"""Named, immutable versions of a frame, kept beside a history: who saved what, when, and why."""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, named, printable
from opp_pandas.history.commit_chain import FOLDER, Damage
from opp_pandas.history.sealed_table import Opened, SealedTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LISTED = ["number", "name", "saved_at", "author", "comment"]


@dataclass(frozen=True, eq=False)
class SavedVersion:
    """One version.

    Parameters
    ----------
    number : int
        Counted from 1, in order of saving.
    name : str
        By which it is found; never given twice.
    saved_at : Timestamp
    author, comment : str
    facts : mapping
        What belongs to it beside the frame, in values of JSON.
    frame : DataFrame
        As it was saved; its attrs are empty.
    """

    number: int
    name: str
    saved_at: pd.Timestamp
    author: str
    comment: str
    facts: Mapping[str, Any]
    frame: pd.DataFrame


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("number", pa.int64(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("saved_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("author", pa.string()),
            pa.field("comment", pa.string()),
            pa.field("facts", pa.string()),
            pa.field("frame", pa.binary()),
        ]
    )


class Versions:
    """Versions of one kind, in a table of their own beside a history's.

    Nothing in it is ever changed or deleted, and every byte is checked when it
    is read: see `opp_pandas.history.sealed_table`.

    Parameters
    ----------
    path : str or Path
        Where the history is: a folder, or an address such as ``s3://bucket/history``.
    kind : str
        What they are versions of, in one word: ``forecasts``.
    storage_options : mapping of str to str, optional
        Passed on to deltalake for object stores.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     versions = Versions(folder, "forecasts")
    ...     saved = versions.append("commit of May", pd.DataFrame({"p": [0.5]}), author="Ana", comment="after the call")
    ...     versions.read("commit of May").frame["p"].tolist(), versions.table()["author"].tolist()
    ([0.5], ['Ana'])
    """

    def __init__(
        self, path: str | os.PathLike[str], kind: str, *, storage_options: Mapping[str, str] | None = None
    ) -> None:
        self._kind = kind
        place = f"{os.fspath(path).rstrip('/')}/{FOLDER}/{kind}"
        self._table = SealedTable(place, storage_options, schema=_schema, title=f"folder of {kind}", moments="saved_at")

    def append(
        self,
        name: str,
        frame: pd.DataFrame,
        *,
        author: str | None = None,
        comment: str = "",
        saved_at: pd.Timestamp | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> SavedVersion:
        """Save a version under a name that no other one has.

        Parameters
        ----------
        name : str
        frame : DataFrame
            Columns and index that Arrow can hold.
        author : str, optional
            The user of this computer if left out.
        comment : str, default ""
        saved_at : Timestamp, optional
            Now if left out.
        facts : mapping, optional
            What belongs to it beside the frame, in values of JSON.

        Raises
        ------
        ConfigurationError
            If the name is taken, or empty.
        FrameError
            If the frame or the facts cannot be kept.
        """
        self.require_free(name)
        row = _row(name, frame, author, comment, saved_at, facts)

        def build(opened: Opened) -> tuple[Any, SavedVersion]:
            rows, _ = self._numbered(opened, [row])
            if not rows:
                raise self._taken(name)
            return _table(rows), _version(rows[0])

        return self._table.commit("save", build)

    def extend(self, versions: Iterable[Mapping[str, Any]]) -> int:
        """Save many versions at once, but for those whose names are there already.

        Parameters
        ----------
        versions : iterable of mapping
            The arguments of `append`, all of them.

        Returns
        -------
        int
            How many were new.
        """
        given = [_row(**version) for version in versions]

        def build(opened: Opened) -> tuple[Any, int]:
            rows, known = self._numbered(opened, given)
            return (_table(rows) if rows else None), len(given) - known

        return self._table.commit("import", build)

    def _numbered(self, opened: Opened, given: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
        """Number the rows whose names are new, and count the others."""
        listed = self._rows(opened, ["number", "name"])
        names = set(listed.column("name").to_pylist())
        first = max(listed.column("number").to_pylist(), default=0) + 1
        new = [row for row in given if row["name"] not in names]
        return [{**row, "number": number} for number, row in enumerate(new, first)], len(given) - len(new)

    def require_free(self, name: str) -> None:
        """Raise if no version can have this name: before work is done that could not be kept."""
        if not name.strip():
            raise ConfigurationError(f"a version of the {self._kind} needs a name")
        if name in self._rows(self._table.open(), ["name"]).column("name").to_pylist():
            raise self._taken(name)

    def _taken(self, name: str) -> ConfigurationError:
        return ConfigurationError(
            f"there is a version {printable(name)!r} of the {self._kind} already, and versions are never changed: "
            "choose another name"
        )

    def table(self) -> pd.DataFrame:
        """List the versions, oldest first: ``number, name, saved_at, author, comment``."""
        rows: pd.DataFrame = self._rows(self._table.open(), _LISTED).to_pandas()
        dtypes = {
            "number": "int64",
            "name": "str",
            "saved_at": "datetime64[us, UTC]",
            "author": "str",
            "comment": "str",
        }
        return rows.astype(dtypes).sort_values("number", ignore_index=True)

    def facts(self) -> dict[str, dict[str, Any]]:
        """Return the facts of every version by its name, oldest first."""
        rows = self._rows(self._table.open(), ["number", "name", "facts"]).sort_by("number").to_pylist()
        return {row["name"]: json.loads(row["facts"]) for row in rows}

    def read(self, name: str) -> SavedVersion:
        """Read one version.

        Raises
        ------
        ConfigurationError
            If there is none of that name.
        DamagedHistoryError
            If it is not as it was saved.
        """
        rows = self._rows(self._table.open(), None)
        names = rows.column("name").to_pylist()
        if name not in names:
            raise ConfigurationError(
                f"there is no version {printable(name)!r} of the {self._kind}; there are {named(names) or 'none yet'}"
            )
        return _version(rows.slice(names.index(name), 1).to_pylist()[0])

    def salvage(self) -> tuple[list[Damage], Any]:
        """Find the damaged files, and read the rows of the others."""
        return self._table.salvage()

    def restore(self, rows: Any) -> None:
        """Put rows of `salvage` where there are no versions yet."""
        if len(rows):
            self._table.commit("repair", lambda opened: (None if opened.names else rows, None))

    def _rows(self, opened: Opened | None, columns: list[str] | None) -> Any:
        if opened is None or not opened.names:
            schema = _schema()
            return schema.empty_table() if columns is None else schema.empty_table().select(columns)
        return self._table.read(opened, columns)


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=_schema())


def _row(
    name: str,
    frame: pd.DataFrame,
    author: str | None,
    comment: str,
    saved_at: pd.Timestamp | None,
    facts: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write a version as a row without its number."""
    import pyarrow as pa

    try:
        told = json.dumps(dict(facts or {}), allow_nan=False)
        bare = frame.copy(deep=False)
        bare.attrs = {}
        content = pa.Table.from_pandas(bare)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise FrameError(f"{printable(name)} cannot be kept: {printable(str(error), 300)}") from error
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, content.schema) as writer:
        writer.write_table(content)
    moment = (pd.Timestamp.now("UTC") if saved_at is None else saved_at).tz_convert("UTC").as_unit("us")
    return {
        "name": name,
        "saved_at": moment,
        "author": _user() if author is None else author,
        "comment": comment,
        "facts": told,
        "frame": sink.getvalue().to_pybytes(),
    }


def _version(row: Mapping[str, Any]) -> SavedVersion:
    import pyarrow as pa

    with pa.ipc.open_stream(row["frame"]) as stream:
        frame = stream.read_all().to_pandas()
    return SavedVersion(
        row["number"],
        row["name"],
        pd.Timestamp(row["saved_at"]).as_unit("us"),
        row["author"],
        row["comment"],
        json.loads(row["facts"]),
        frame,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except OSError:
        return ""
