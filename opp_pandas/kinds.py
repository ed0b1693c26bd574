"""The kinds of values that the service sends, each as one object.

A `Kind` knows its values in every form that they take: on the wire, in a
column, drifted to another dtype, as a text of the grid, in a spreadsheet. A new
kind is one class here, listed in `KINDS`; what it has to say is in `Kind`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.clocks import build_clock, clock_instant, local_time, microseconds, parse_clock, read_clock
from opp_pandas.column_diff import ColumnDiff, Mask, as_arrow, masked_differs, same_memory
from opp_pandas.instants import build_instant, from_iso, parse_instant

INSTANT = "datetime64[us, UTC]"
INT64_MAX = 2**63 - 1
FLOAT_EXACT = 2**53
TRUE_WORDS = frozenset({"true", "yes", "1", "t", "y", "on"})
FALSE_WORDS = frozenset({"false", "no", "0", "f", "n", "off"})


class UnfitError(ValueError):
    """A JSON value that its column cannot hold."""


def is_missing(value: Any) -> bool:
    """Whether a cell is missing, in any of the ways in which pandas says so."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def plain_value(value: Any) -> Any:
    """Return a cell as a Python value for a report: None where it is missing, lists for tuples."""
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple) else value


class Kind(ABC):
    """What one kind of value is in each of its forms.

    A *cell* is an element of a column of `dtype`; a *decoded* value is what the
    column is made of (instants as microseconds since 1970, everything else as
    the cell). Missing values are settled by the callers, except in `decode` and
    in whole columns.

    Attributes
    ----------
    name, dtype : str
        How the resource table names it, and the dtype of its columns.
    typed : object
        That dtype as pandera has it.
    wire : type
        Of what Python type its JSON values are.
    form : mapping
        What the service says of these, in JSON schema.
    arrow : DataType
        The Arrow type of its columns.
    rule : str
        What a value of it must be, in words.
    sheet : {"text", "number", "moment", "flag"}
        As what a workbook holds it.
    width : int
        How wide such a column is at least [characters].
    """

    name: ClassVar[str]
    dtype: ClassVar[str]
    typed: ClassVar[Any]
    wire: ClassVar[type]
    form: ClassVar[Mapping[str, Any]]
    arrow: ClassVar[pa.DataType]
    rule: ClassVar[str]
    sheet: ClassVar[Literal["text", "number", "moment", "flag"]]
    width: ClassVar[int] = 11

    # --- the wire

    @abstractmethod
    def decode(self, value: Any) -> tuple[Any, bool]:
        """Read a JSON value, None too; the second value says whether it was sent in canonical form.

        An UnfitError where the column cannot hold it.
        """

    @abstractmethod
    def encode(self, value: Any) -> Any:
        """Build the JSON value of a cell."""

    def encode_all(self, values: Any) -> list[Any]:
        """Build the JSON values of an array; None where it is missing."""
        return [None if is_missing(value) else self.encode(value) for value in values.tolist()]

    def array(self, values: Any) -> Any:
        """Build a column from decoded values, None where one is missing."""
        return pd.array(list(values), dtype=cast("Any", self.dtype))

    def array_of(self, values: Iterable[Any]) -> Any:
        """Build a column from JSON values that it can hold."""
        return self.array([self.decode(value)[0] for value in values])

    # --- columns whose dtype pandas has changed

    def own_array(self, series: pd.Series) -> Any:
        """Return the array of a column whose dtype is the kind's own, or loses nothing on the way back; else None."""
        return series.array if str(series.dtype) == self.dtype else None

    def read_column(self, series: pd.Series) -> tuple[Any, dict[int, str]]:
        """Read a column of whatever dtype: its values, missing where a cell cannot be read, and why, by position."""
        values = self.own_array(series)
        if values is not None:
            return values, {}
        decoded: list[Any] = [None] * len(series)
        reasons: dict[int, str] = {}
        for place, value in enumerate(series.array):
            if not is_missing(value):
                try:
                    decoded[place] = self.read_cell(value)
                except (ValueError, OverflowError) as problem:
                    reasons[place] = str(problem)
        return self.array(decoded), reasons

    @abstractmethod
    def read_cell(self, value: Any) -> Any:
        """Read a cell of another dtype as a decoded value; a ValueError says in words why it cannot be read."""

    def fits(self, value: Any) -> bool:
        """Whether a cell of another dtype is a value of the kind."""
        try:
            self.read_cell(value)
        except (ValueError, OverflowError):
            return False
        return True

    def unfit(self, series: pd.Series) -> Mask:
        """Find the cells of a column of the kind's dtype that are no values of it: most dtypes prove it alone."""
        return np.zeros(len(series), dtype=bool)

    @abstractmethod
    def echoes(self, value: Any, base: Any) -> bool:
        """Whether a value of another dtype, not missing, is the loaded cell seen through it."""

    def compare(self, series: pd.Series, base: Any) -> ColumnDiff:
        """Compare a column of whatever dtype with the values that were loaded for the same rows.

        A cell that only drifted is no edit; one that cannot be read is an edit that
        has to be refused.
        """
        values = self.own_array(series)
        if values is not None:
            return ColumnDiff(self.differs(values, base), values)
        values, reasons = self.read_column(series)
        changed = self.differs(values, base)
        changed[list(reasons)] = True
        raw = series.array
        for place in np.flatnonzero(changed):
            value, before = raw[place], base[place]
            if not is_missing(value) and not is_missing(before) and self.echoes(value, before):
                changed[place] = False
                reasons.pop(int(place), None)
        return ColumnDiff(changed, values, reasons)

    def differs(self, values: Any, base: Any) -> Mask:
        """Compare two columns of the kind's dtype cell by cell."""
        left, right = as_arrow(values, self.arrow), as_arrow(base, self.arrow)
        if same_memory(left, right):
            return np.zeros(len(values), dtype=bool)
        different = pc.fill_null(pc.not_equal(left, right), False)
        if left.null_count or right.null_count:
            different = pc.or_(different, pc.xor(left.is_null(), right.is_null()))
        return np.array(different.to_numpy(zero_copy_only=False), dtype=bool)

    # --- the grid of the editor

    @abstractmethod
    def show(self, value: Any, zone: str | None) -> str:
        """Write a cell as the text of a grid, by the clocks of a zone."""

    @abstractmethod
    def read(self, text: str, zone: str | None) -> Any:
        """Read what `show` wrote, bit by bit, or what has one meaning only; a ValueError says why it cannot be read."""

    # --- spreadsheets

    def write_sheet(self, value: Any, zone: str) -> str:
        """Write a cell as text in a file."""
        return self.show(value, zone)

    @abstractmethod
    def read_sheet(self, cell: Any, zone: str | None) -> Any:
        """Read a cell of a file, text or typed, as a cell of the column; a ValueError says why it cannot be read."""


class _Integer(Kind):
    """Whole numbers of 64 bits."""

    name, dtype, typed, arrow = "integer", "Int64", pd.Int64Dtype, pa.int64()
    wire, form, rule, sheet = int, {"type": "integer"}, "must be an integer", "number"
    _DIGITS = re.compile(r"[+-]?\d+", re.ASCII)
    _WHOLE = re.compile(r"[+-]?\d+(?:\.0*)?", re.ASCII)

    def decode(self, value: Any) -> tuple[int | None, bool]:
        if value is None:
            return None, True
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnfitError("must be a whole number")
        if isinstance(value, float):
            if not value.is_integer() or abs(value) > FLOAT_EXACT:
                raise UnfitError("must be a whole number")
            return int(value), False
        if not -INT64_MAX - 1 <= value <= INT64_MAX:
            raise UnfitError("must fit into 64 bits")
        return value, True

    def encode(self, value: Any) -> int:
        return int(value)

    def own_array(self, series: pd.Series) -> Any:
        if not pd.api.types.is_signed_integer_dtype(series.dtype):
            return None
        return series.array if series.dtype == self.dtype else series.astype("Int64").array

    def read_cell(self, value: Any) -> int:
        if isinstance(value, bool | np.bool_):
            raise ValueError("is true or false; it must be a whole number")
        if isinstance(value, str):
            raise ValueError("is text; it must be a whole number")
        if isinstance(value, float | np.floating):
            if not float(value).is_integer():
                raise ValueError("is not a whole number; round it first, as in .round().astype('Int64')")
            if abs(float(value)) > FLOAT_EXACT:
                raise ValueError("is a float too large to be exact; write it as an integer")
            return int(value)
        if isinstance(value, int | np.integer):
            return _fitting(int(value))
        raise ValueError(f"is a {type(value).__name__}; it must be a whole number")

    def differs(self, values: Any, base: Any) -> Mask:
        return masked_differs(values, base)

    def echoes(self, value: Any, base: Any) -> bool:
        if isinstance(value, str):
            return _number(value) == int(base)
        if not isinstance(value, float | np.floating):
            return False
        # 2**53 + 1 comes back from a float column as 2**53, and from a CSV a few units in the last place off.
        seen = type(value)(int(base))
        near = abs(base) > FLOAT_EXACT and abs(float(value) - float(seen)) <= 4 * np.spacing(abs(float(seen)))
        return bool(value == seen or near)

    def show(self, value: Any, zone: str | None) -> str:
        return str(int(value))

    def read(self, text: str, zone: str | None) -> int:
        stripped = text.strip()
        if not self._DIGITS.fullmatch(stripped):
            raise ValueError("is not a whole number; write digits only, such as 1250")
        if len(stripped) > 20:
            raise ValueError("does not fit into 64 bits")
        return _fitting(int(stripped))

    def read_sheet(self, cell: Any, zone: str | None) -> int:
        if isinstance(cell, str) and self._WHOLE.fullmatch(cell.strip()):
            return int(cell.strip().partition(".")[0])
        if isinstance(cell, bool | str) or not isinstance(cell, int | float) or not float(cell).is_integer():
            raise ValueError("is not a whole number; write it with digits only")
        return int(cell)


def _fitting(number: int) -> int:
    if not -INT64_MAX - 1 <= number <= INT64_MAX:
        raise ValueError("does not fit into 64 bits")
    return number


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


class _Text(Kind):
    """Text, as it is."""

    name, dtype, typed, arrow = "text", "str", Annotated[pd.StringDtype, "pyarrow", np.nan], pa.large_string()
    wire, form, rule, sheet, width = str, {"type": "string"}, "must be text", "text", 16

    def decode(self, value: Any) -> tuple[str | None, bool]:
        if value is None:
            return None, True
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UnfitError("must be text")
        if not isinstance(value, str):
            # A number is taken as its digits.
            return json.dumps(value), False
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise UnfitError("must be valid Unicode")
        return value, True

    def encode(self, value: Any) -> str:
        return str(value)

    def array(self, values: Any) -> Any:
        return pd.array(pa.array(values, type=self.arrow), dtype="str")

    def read_cell(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"is a {type(value).__name__}; it must be text: write str(value)")
        return self.read(str(value), None)

    def echoes(self, value: Any, base: Any) -> bool:
        # A CSV makes "007" the number 7, "1e5" 100000.0, and "true", "True" and "TRUE" true.
        if isinstance(value, str) or not isinstance(base, str):
            return False
        if isinstance(value, bool | np.bool_):
            return base in {str(value), str(value).lower(), str(value).upper()}
        if str(value) == base:
            return True
        number = isinstance(value, int | float | np.integer | np.floating)
        return number and _number(base) == Decimal(str(value))

    def show(self, value: Any, zone: str | None) -> str:
        return str(value)

    def read(self, text: str, zone: str | None) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("is not valid Unicode") from None
        return text

    def read_sheet(self, cell: Any, zone: str | None) -> str:
        if isinstance(cell, bool):
            return "TRUE" if cell else "FALSE"
        if isinstance(cell, dt.datetime):
            return cell.date().isoformat() if cell.time() == dt.time() else cell.isoformat(sep=" ")
        return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


TEXT = _Text()


class _Instant(Kind):
    """Instants; in a grid one at the midnight of the zone is written as a day."""

    name, dtype, typed = "instant", INSTANT, Annotated[pd.DatetimeTZDtype, "us", "UTC"]
    arrow = pa.timestamp("us", tz="UTC")
    wire, form, sheet, width = str, {"type": "string", "format": "date-time"}, "moment", 17
    rule = "must be an instant with a time zone"

    def decode(self, value: Any) -> tuple[int | None, bool]:
        if value is None:
            return None, True
        if not isinstance(value, str):
            raise UnfitError("must be a date and time")
        try:
            return parse_instant(value)
        except ValueError as problem:
            raise UnfitError(str(problem)) from None

    def encode(self, value: Any) -> str:
        return build_instant(microseconds(pd.Timestamp(value)))

    def encode_all(self, values: Any) -> list[str | None]:
        # The numbers inside: a Timestamp for every cell would cost ten times as much.
        return [None if number == pd.NaT.value else build_instant(number) for number in values.asi8.tolist()]

    def array(self, values: Any) -> Any:
        return pd.array(pa.array(values, type=pa.int64()).cast(self.arrow).to_pandas(), dtype=INSTANT)

    def own_array(self, series: pd.Series) -> Any:
        if not isinstance(series.dtype, pd.DatetimeTZDtype):
            return None
        try:
            return series.array if str(series.dtype) == INSTANT else series.astype(cast("Any", INSTANT)).array
        except (ValueError, OverflowError):
            return None

    def read_cell(self, value: Any) -> int:
        moment = self._moment(value)
        if moment.tzinfo is None:
            raise ValueError("has no zone; use df.opp.set_close_date(mask, day), or tz_localize it")
        return microseconds(moment)

    @staticmethod
    def _moment(value: Any) -> pd.Timestamp:
        if isinstance(value, str):
            try:
                value = from_iso(value)
            except ValueError:
                raise ValueError("is not a date and time that can be read") from None
        if not isinstance(value, dt.datetime | np.datetime64):
            raise ValueError(f"is a {type(value).__name__}; it must be an instant, with its zone")
        return pd.Timestamp(value)

    def fits(self, value: Any) -> bool:
        return getattr(value, "tzinfo", None) is not None

    def echoes(self, value: Any, base: Any) -> bool:
        # A value without a zone that reads the same in UTC lost its zone in pandas, no more.
        try:
            moment = self._moment(value)
        except (ValueError, OverflowError):
            return False
        return bool(moment.tzinfo is None and moment == pd.Timestamp(base).tz_localize(None))

    def differs(self, values: Any, base: Any) -> Mask:
        return np.asarray(values.asi8 != base.asi8)

    def show(self, value: Any, zone: str | None) -> str:
        return build_clock(pd.Timestamp(value), zone)

    def read(self, text: str, zone: str | None) -> pd.Timestamp:
        return parse_clock(text, zone)

    def write_sheet(self, value: Any, zone: str) -> str:
        return local_time(value, zone).isoformat()

    def read_sheet(self, cell: Any, zone: str | None) -> pd.Timestamp:
        return clock_instant(read_clock(cell), zone)


class _Tags(Kind):
    """Lists of texts: in a grid with commas between simple ones, else as a JSON list."""

    name, dtype, typed, arrow = "tags", "object", np.object_, pa.list_(pa.large_string())
    wire, form, sheet, width = list, {"type": "array", "items": TEXT.form}, "text", 20
    rule = "must be a list of text"

    def decode(self, value: Any) -> tuple[list[str] | None, bool]:
        if value is None:
            return None, True
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UnfitError("must be a list of texts")
        for item in value:
            TEXT.decode(item)
        return list(value), True

    def encode(self, value: Any) -> list[str]:
        return list(value)

    def array(self, values: Any) -> Any:
        made = np.empty(len(values), dtype=object)
        made[:] = values
        return made

    def own_array(self, series: pd.Series) -> Any:
        return None

    def read_cell(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise ValueError(f"is a {type(value).__name__}; tags are a list of texts")
        if not all(isinstance(item, str) for item in value):
            raise ValueError("holds something that is not text; tags are a list of texts")
        return tuple(TEXT.read_cell(item) for item in value)

    def unfit(self, series: pd.Series) -> Mask:
        items = series.to_numpy(dtype=object)
        # Sets of types are a matter of milliseconds; only a suspicious column is looked at cell by cell.
        if set(map(type, items)) <= {list, tuple, type(None)}:
            inner = itertools.chain.from_iterable(filter(None, items))
            if set(map(type, inner)) <= {str}:
                return super().unfit(series)
        return np.array([not (is_missing(item) or self.fits(item)) for item in items], dtype=bool)

    def compare(self, series: pd.Series, base: Any) -> ColumnDiff:
        # Lists that nobody touched are the bulk of a column, and quick to see.
        pairs = zip(series.tolist(), base, strict=True)
        same = (type(value) is list and tuple(value) == before for value, before in pairs)
        rest = np.flatnonzero(~np.fromiter(same, bool, len(series)))
        diff = super().compare(series.iloc[rest], base[rest])
        values, changed = np.array(base, dtype=object), np.zeros(len(series), dtype=bool)
        values[rest], changed[rest] = diff.values, diff.changed
        return ColumnDiff(changed, values, {int(rest[place]): reason for place, reason in diff.reasons.items()})

    def echoes(self, value: Any, base: Any) -> bool:
        forms = (str(list(base)), str(tuple(base)), json.dumps(base), json.dumps(base, ensure_ascii=False))
        return isinstance(value, str) and value in forms

    def differs(self, values: Any, base: Any) -> Mask:
        different = np.zeros(len(values), dtype=bool)
        for place, (value, before) in enumerate(zip(values, base, strict=True)):
            if value is not before and value != (tuple(before) if isinstance(before, list) else before):
                different[place] = True
        return different

    def show(self, value: Any, zone: str | None) -> str:
        """Write ``q4, renewal``, or ``["a, b"]``."""
        items = list(value)
        plain = ", ".join(items)
        return plain if items and self._split(plain) == items else json.dumps(items, ensure_ascii=False)

    def read(self, text: str, zone: str | None) -> list[str]:
        """Read either form."""
        if not text.lstrip().startswith("["):
            return self._split(text)
        try:
            items = json.loads(text)
        except ValueError:
            items = None
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ValueError('is not a list of tags; write q4, renewal or ["q4", "renewal"]')
        return [TEXT.read(item, zone) for item in items]

    @staticmethod
    def _split(text: str) -> list[str]:
        return [item for part in text.split(",") if (item := part.strip()) and not text.lstrip().startswith("[")]

    def write_sheet(self, value: Any, zone: str) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def read_sheet(self, cell: Any, zone: str | None) -> Any:
        if not isinstance(cell, str):
            return cell
        try:
            return json.loads(cell)
        except ValueError:
            # Somebody typed tags as people do.
            return [part.strip() for part in cell.split(";") if part.strip()]


class _Boolean(Kind):
    """True and false."""

    name, dtype, typed, arrow = "boolean", "boolean", pd.BooleanDtype, pa.bool_()
    wire, form, rule, sheet = bool, {"type": "boolean"}, "must be true or false", "flag"

    def decode(self, value: Any) -> tuple[bool | None, bool]:
        if isinstance(value, bool | None):
            return value, True
        raise UnfitError("must be true or false")

    def encode(self, value: Any) -> bool:
        return bool(value)

    def read_cell(self, value: Any) -> bool:
        if isinstance(value, bool | np.bool_):
            return bool(value)
        raise ValueError(f"is a {type(value).__name__}; it must be true or false")

    def differs(self, values: Any, base: Any) -> Mask:
        return masked_differs(values, base)

    def echoes(self, value: Any, base: Any) -> bool:
        return value == str(bool(base)) if isinstance(value, str) else bool(value == base)

    def show(self, value: Any, zone: str | None) -> str:
        return "true" if value else "false"

    def read(self, text: str, zone: str | None) -> bool:
        """Read any of the usual words."""
        word = text.strip().lower()
        if word not in TRUE_WORDS | FALSE_WORDS:
            raise ValueError("is neither true nor false")
        return word in TRUE_WORDS

    def write_sheet(self, value: Any, zone: str) -> str:
        return "TRUE" if value else "FALSE"

    def read_sheet(self, cell: Any, zone: str | None) -> bool:
        word = str(cell).strip().lower()
        if word not in ("true", "false", "1", "0"):
            raise ValueError("is neither TRUE nor FALSE")
        return word in ("true", "1")


INTEGER, INSTANTS, TAGS, BOOLEAN = _Integer(), _Instant(), _Tags(), _Boolean()
KINDS: dict[str, Kind] = {kind.name: kind for kind in (INTEGER, TEXT, INSTANTS, TAGS, BOOLEAN)}
"""Every kind by its name, as the resource table names it."""


def kind_of_dtype(dtype: Any) -> Kind | None:
    """Return the kind whose columns have a dtype; None for object columns, which may hold anything."""
    return _OF_DTYPE.get(str(dtype))


# Where several kinds share a dtype the plainest, which comes first, says what its columns hold.
_OF_DTYPE = {kind.dtype: kind for kind in reversed(KINDS.values()) if kind.dtype != "object"}
