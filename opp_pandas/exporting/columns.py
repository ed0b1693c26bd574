"""Columns of every dtype as texts, and texts as columns again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.clocks import read_clock
from opp_pandas.errors import DuplicateRowsError, FrameError, named, printable
from opp_pandas.kinds import KINDS, kind_of_dtype
from opp_pandas.resource import COLUMN_DTYPES

ROW = "(row)"
"""Heading of the index, where it is no plain count."""

_KNOWN = (
    r"str|string|object|bool|boolean|U?Int(?:8|16|32|64)|u?int(?:8|16|32|64)|[Ff]loat(?:32|64)"
    r"|datetime64\[(?:s|ms|us|ns)(?:, [\w/+\-:]+)?\]"
)
_HEADING = re.compile(rf"(?P<name>.*) \[(?P<dtype>{_KNOWN})\]\Z", re.DOTALL)
_SUPPORTED = re.compile(rf"(?:{_KNOWN})\Z")


@dataclass(frozen=True)
class Heading:
    """A column's name and dtype, and how they stand in the first row."""

    name: str
    dtype: str

    @property
    def text(self) -> str:
        """The name; with the dtype where it is not what the name says."""
        expected = COLUMN_DTYPES.get(self.name, "str")
        plain = self.dtype == expected and not _HEADING.match(self.name)
        return self.name if plain else f"{self.name} [{self.dtype}]"

    @classmethod
    def read(cls, text: str) -> Heading:
        """Read what `text` gave."""
        found = _HEADING.match(text)
        if found is None:
            return cls(text, COLUMN_DTYPES.get(text, "str"))
        return cls(found["name"], found["dtype"])

    @property
    def family(self) -> str:
        """What kind of values it holds: the name of a kind, ``float``, or ``moment`` without a zone."""
        return family_of(self.dtype)


def family_of(dtype: str) -> str:
    """Return the kind of values a dtype holds: whatever stands in object columns is written as tags are, as JSON."""
    kind = kind_of_dtype(dtype)
    if kind is not None:
        return kind.name
    if dtype == "string":
        return "text"
    if dtype == "object":
        return "tags"
    if dtype.startswith("datetime64"):
        return "instant" if "," in dtype else "moment"
    lower = dtype.lower()
    return "boolean" if lower.startswith("bool") else "float" if lower.startswith("float") else "integer"


def exported(frame: pd.DataFrame) -> list[tuple[Heading, pd.Series]]:
    """Return the columns that a file holds, index levels first where they say something."""
    bare = frame.copy(deep=False)
    bare.attrs = {}
    if bare.index.nlevels > 1 or bare.index.name is not None:
        bare = bare.reset_index()
    elif not bare.index.equals(pd.RangeIndex(len(bare))) or _waits(bare):
        # Deals without an id are known by their label.
        bare.insert(0, ROW, bare.index)
    odd = [name for name in bare.columns if not isinstance(name, str)]
    if odd:
        raise FrameError(f"column names must be text to stand in a file, not {named(odd)}; rename them first")
    doubled = bare.columns[bare.columns.duplicated()].unique()
    if len(doubled):
        raise DuplicateRowsError(f"column {named(doubled)} stands twice; drop or rename one", list(doubled))
    found = []
    for name in bare.columns:
        column = bare[name].reset_index(drop=True)
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(column.cat.categories.dtype)
        if _SUPPORTED.match(str(column.dtype)) is None:
            raise FrameError(
                f"column {named([name])} is {column.dtype}, which a file cannot give back as it was; "
                "convert it (astype) or leave it out"
            )
        found.append((Heading(name, str(column.dtype)), column))
    return found


def _waits(frame: pd.DataFrame) -> bool:
    return "id" in frame.columns and bool(frame["id"].isna().any())


def texts_of(heading: Heading, column: pd.Series, zone: str) -> list[str | None]:
    """Write a column as texts that `values_of` reads back, None where missing; instants by the clocks of `zone`."""
    write = _WRITERS[heading.family]
    missing = column.isna().to_numpy()
    texts: list[str | None] = []
    for place, value in enumerate(column.array):
        if missing[place]:
            texts.append(None)
            continue
        try:
            texts.append(write(value, zone))
        except (TypeError, ValueError) as error:
            raise FrameError(
                f"row {place}, column {heading.name}: {printable(repr(value), 60)} cannot be written ({error}); "
                "change it or leave the column out"
            ) from error
    return texts


def _read_float(cell: Any, _: str | None) -> float:
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        raise ValueError("is not a number")
    try:
        return float(cell)
    except ValueError:
        raise ValueError("is not a number; write it like 1250.5") from None


# Dtypes that no attribute has, but that a frame may bring along.
SHEETS = {name: kind.sheet for name, kind in KINDS.items()} | {"float": "number", "moment": "moment"}
"""As what a workbook holds each family of values."""
_WRITERS: dict[str, Callable[[Any, str], str]] = {
    **{name: kind.write_sheet for name, kind in KINDS.items()},
    "float": lambda value, _: repr(float(value)),
    "moment": lambda value, _: str(value.isoformat()),
}
_READERS: dict[str, Callable[[Any, str | None], Any]] = {
    **{name: kind.read_sheet for name, kind in KINDS.items()},
    "float": _read_float,
    "moment": lambda cell, _: read_clock(cell),
}


# --- reading -------------------------------------------------------------------


@dataclass
class Failures:
    """Cells that cannot be read: which, and why."""

    cases: list[dict[str, Any]]

    def add(self, row: int, column: str, value: Any, rule: str) -> None:
        """Note one."""
        self.cases.append({"id": None, "row": row, "column": column, "value": value, "rule": rule})


def values_of(
    heading: Heading, cells: Sequence[Any], rows: Sequence[int], zone: str | None, failures: Failures
) -> pd.Series:
    """Read a column back from texts, or from the values of a workbook's cells.

    Days and clock times without an offset are meant in `zone`. Cells that cannot be read are missing, and go to
    `failures` with their row of the file.
    """
    read = _READERS[heading.family]
    values: list[Any] = []
    for row, cell in zip(rows, cells, strict=True):
        if cell is None:
            values.append(None)
            continue
        try:
            values.append(read(cell, zone))
        except (ValueError, OverflowError, TypeError) as error:
            failures.add(row, heading.name, cell, str(error) or type(error).__name__)
            values.append(None)
    return _column(heading, values, rows, failures)


def _column(heading: Heading, values: list[Any], rows: Sequence[int], failures: Failures) -> pd.Series:
    family, dtype = heading.family, heading.dtype
    if family == "tags":
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return pd.Series(column, dtype=object)
    if None in values:
        # Nothing can be missing in a plain bool or int: the cell was emptied in the file.
        dtype = _NULLABLE.get(dtype, dtype)
    if family in ("instant", "moment"):
        unit = dtype[dtype.index("[") + 1 :].split(",")[0].rstrip("]")
        first = f"datetime64[{unit}, UTC]" if family == "instant" else dtype
        stamps = [pd.NaT if value is None else value.as_unit(unit) for value in values]
        return pd.Series(stamps, dtype=first).astype(dtype)  # type: ignore[call-overload,no-any-return]
    try:
        return pd.Series(pd.array(values, dtype=dtype))  # type: ignore[call-overload]
    except (OverflowError, ValueError, TypeError) as error:
        for row, value in zip(rows, values, strict=True):
            if value is not None and not _fits(value, dtype):
                failures.add(row, heading.name, value, f"does not fit into {dtype}")
        if not failures.cases:
            raise FrameError(f"column {heading.name} cannot be {dtype}: {error}") from error
        return pd.Series([None] * len(values), dtype=object)


_NULLABLE = {"bool": "boolean"} | {
    f"{sign}int{bits}": f"{sign.upper()}Int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def _fits(value: Any, dtype: str) -> bool:
    try:
        pd.array([value], dtype=dtype)  # type: ignore[call-overload]
    except (OverflowError, ValueError, TypeError):
        return False
    return True
