"""``where=``: conditions on opportunities, as far as the service cannot test them.

The same words as in ``filter=``: a value, a list (any of them), a pair ``(from,
to)`` with both ends in it, None for missing, `NOT_NULL`. What the service can
test is sent to it, so that fewer rows travel; every condition on a column that
was loaded is then tested here, so that the result does not depend on how the
service compares texts.
"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.api.query import LISTS, NOT_NULL, Query, filter_key
from opp_pandas.errors import ConfigurationError, MissingColumnError, named, printable
from opp_pandas.instants import parse_clock, parse_day, parse_moment
from opp_pandas.kinds import is_missing
from opp_pandas.load.custom_field_values import read_boolean, read_number
from opp_pandas.resource import COLUMN_DTYPES, LOOKUP_COLUMNS, OPPORTUNITY, snake_case

Mask = np.ndarray[Any, np.dtype[np.bool_]]
_NUMBERS = int | float | Decimal | np.number


@dataclass(frozen=True)
class Where:
    """A condition: what the service tests, by the name the user gave, and what is tested here, by column."""

    service: Mapping[str, Any] = field(default_factory=dict)
    local: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.service or self.local)

    def note(self, kept: int, of: int) -> str:
        """Describe which part ran where."""
        here = [column for column in self.local if column not in map(column_of, self.service)]
        parts = [f"{named(self.service)} at the service"] if self.service else []
        parts += [f"{named(here)} here"] if here else []
        return f"where: {'; '.join(parts)}; {kept:,} of {of:,} rows that arrived fit"


def column_of(name: str) -> str | None:
    """Return the column of a name in any of its forms (``owner``, ``closeDate``, ``account.name``); None if unknown."""
    column = snake_case(name.replace("__", ".").replace(".", "_"))
    return next((known for known in (column, f"{column}_id") if known in COLUMN_DTYPES), None)


def without_labels(conditions: Mapping[str, Any] | None, labels: Callable[[], Mapping[str, str]]) -> dict[str, Any]:
    """Put API names where conditions name a custom field by its label; twice, by both, is an error.

    The labels' columns are asked for only when a name is nothing else.
    """
    found: dict[str, Any] = {}
    given: dict[str, str] = {}
    for name, value in (conditions or {}).items():
        known = column_of(name) is not None or _is_filter(name)
        column = name if known else labels().get(name, name)
        if column in found:
            raise ConfigurationError(f"{named([given[column]])} and {named([name])} are the same field; keep one")
        found[column], given[column] = value, name
    return found


def _is_filter(name: str) -> bool:
    try:
        filter_key(name)
    except ConfigurationError:
        return False
    return True


def split_where(
    where: Mapping[str, Any] | None,
    asked: Mapping[str, Any] | None = None,
    zone: str | None = None,
) -> Where:
    """Split a condition between the service and here; a name in the filter `asked` is not sent twice.

    What an opportunity does not have, or cannot be read, is a ConfigurationError.
    """
    sent = {filter_key(str(name))[0] for name in (asked or {})}
    service: dict[str, Any] = {}
    local: dict[str, Any] = {}
    for name, value in (where or {}).items():
        if isinstance(value, Mapping):
            raise ConfigurationError(
                f"where {name!r}: a value, a list or a range (from, to) is expected, not a mapping"
            )
        if isinstance(value, LISTS):
            value = list(value)
        if _service_tests(name, value, zone, sent):
            service[name] = value
            sent.add(filter_key(name)[0])
        column = column_of(name)
        if column is not None:
            _check_condition(column, value, zone)
            local[column] = value
        elif name not in service:
            # The live service knows attributes that no page documents (healthScore): the rows will tell.
            local[name] = value
    return Where(service, local)


def _service_tests(name: str, value: Any, zone: str | None, sent: set[str]) -> bool:
    try:
        key, attribute = filter_key(name)
        Query({name: value}).texts(timezone=zone)
    except ConfigurationError:
        return False
    # How the service orders texts, and whether "" is missing to it, is not documented.
    by_order = attribute.kind == "text" and (isinstance(value, tuple) or value is NOT_NULL or is_missing(value))
    return key not in sent and not by_order


def _check_condition(column: str, value: Any, zone: str | None) -> None:
    """Refuse a condition that could never be tested, before anything is loaded."""
    series = pd.Series([], dtype=COLUMN_DTYPES[column])
    meets(series, value, zone, column)


def columns_needed(where: Where) -> list[str]:
    """Return the attributes that must be loaded so that `where` can be tested."""
    return [column for column in where.local if column in OPPORTUNITY.by_column]


def rows_that_fit(frame: pd.DataFrame, where: Where, zone: str | None = None) -> Mask:
    """Test the local conditions on a frame with API names; a missing cell fits None only.

    A MissingColumnError if a condition names a column that the frame does not have.
    """
    fits = np.ones(len(frame), dtype=bool)
    for column, value in where.local.items():
        if column in frame.columns:
            fits &= meets(frame[column], value, zone, column)
        elif not any(column_of(name) == column for name in where.service):
            near = difflib.get_close_matches(column, [str(name) for name in frame.columns], 1)
            hint = "Names of stages, people and accounts are there when include= asks for them."
            hint = hint if column in LOOKUP_COLUMNS or not near else ""
            raise MissingColumnError([column], frame.columns, hint)
    return fits


def meets(series: pd.Series, value: Any, zone: str | None, name: str) -> Mask:
    """Test one column against one condition; a missing cell meets None only."""
    if value is NOT_NULL:
        return ~_missing(series)
    if is_missing(value):
        return _missing(series)
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ConfigurationError(
                f"where {name!r}: a tuple is a range (from, to), so it has two members, not {len(value)}; "
                "a list means any of its values"
            )
        return _within(series, value[0], value[1], zone, name)
    if isinstance(value, LISTS):
        if not len(value):
            raise ConfigurationError(f"where {name!r}: an empty list fits no row; leave the condition out")
        if not _holds_lists(series) and series.dtype != "boolean" and all(map(_is_plain, value)):
            # One look-up instead of a comparison per value.
            return np.asarray(series.isin(list(value)).to_numpy(dtype=bool))
        return np.asarray(np.logical_or.reduce([meets(series, item, zone, name) for item in value]))
    return _equal(series, value, zone, name)


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _missing(series: pd.Series) -> Mask:
    missing = series.isna().to_numpy(dtype=bool)
    if _holds_lists(series):
        missing = missing | np.fromiter((_is_list(cell) and not len(cell) for cell in series.array), bool, len(series))
    return np.asarray(missing)


def _equal(series: pd.Series, value: Any, zone: str | None, name: str) -> Mask:
    dtype = series.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        moment = parse_moment(value, zone, f"where {name!r}")
        return _between(series, moment.first, moment.last)
    if _holds_lists(series):
        if not isinstance(value, str):
            raise ConfigurationError(f"where {name!r}: text is expected, not {printable(repr(value), 60)}")
        texts = {value}
        return np.fromiter((_is_list(cell) and not texts.isdisjoint(cell) for cell in series.array), bool, len(series))
    if dtype == "str":
        read = _reader_for(value, name)
        if read is None:
            return _true(series == value)
        wanted = _bound(value)
        return np.fromiter((_cell(cell, read) == wanted for cell in series.array), bool, len(series))
    _check_number(value, name, boolean=dtype == "boolean")
    return _true(series == value)


def _within(series: pd.Series, low: Any, high: Any, zone: str | None, name: str) -> Mask:
    dtype = series.dtype
    if is_missing(low) and is_missing(high):
        raise ConfigurationError(
            f"where {name!r}: one end of a range must be given; to test for a value use opp.NOT_NULL"
        )
    if _holds_lists(series) or dtype == "boolean":
        raise ConfigurationError(f"where {name!r}: a range makes no sense here; give a value or a list")
    if isinstance(dtype, pd.DatetimeTZDtype):
        first = None if is_missing(low) else parse_moment(low, zone, f"where {name!r}").first
        last = None if is_missing(high) else parse_moment(high, zone, f"where {name!r}").last
        _check_order(first, last, name)
        return _between(series, first, last)
    if dtype == "str":
        return _within_texts(series, low, high, name)
    for end in (low, high):
        if not is_missing(end):
            _check_number(end, name)
    _check_order(low, high, name)
    return _between(series, low, high)


def _within_texts(series: pd.Series, low: Any, high: Any, name: str) -> Mask:
    """Compare texts as what the ends of the range are: numbers, days, or texts."""
    ends = [end for end in (low, high) if not is_missing(end)]
    readers = {_reader_for(end, name) for end in ends}
    if len(readers) > 1:
        raise ConfigurationError(f"where {name!r}: the two ends of the range are of different kinds")
    read = readers.pop()
    if read is None:
        _check_order(low, high, name)
        return _between(series, low, high)
    first = None if is_missing(low) else _bound(low)
    last = None if is_missing(high) else _bound(high, last=True)
    _check_order(first, last, name)
    cells = (_cell(cell, read) for cell in series.array)
    inside = (
        cell is not None and (first is None or cell >= first) and (last is None or cell <= last) for cell in cells
    )
    return np.fromiter(inside, bool, len(series))


def _between(series: pd.Series, low: Any, high: Any) -> Mask:
    fits = ~series.isna().to_numpy(dtype=bool)
    if not is_missing(low):
        fits &= _true(series >= low)
    if not is_missing(high):
        fits &= _true(series <= high)
    return fits


def _reader_for(value: Any, name: str) -> Callable[[str], Any] | None:
    """Choose how the texts of a column are read, by what they are compared with; None: as they are."""
    if isinstance(value, str):
        return None
    if isinstance(value, bool | np.bool_):
        return read_boolean
    if isinstance(value, _NUMBERS):
        return read_number
    if isinstance(value, dt.date | pd.Period | np.datetime64):
        return _read_time
    raise ConfigurationError(f"where {name!r}: text, a number or a day is expected, not {printable(repr(value), 60)}")


def _read_time(text: str) -> dt.datetime | None:
    return parse_day(text) or parse_clock(text)


def _cell(value: Any, read: Callable[[str], Any]) -> Any:
    return read(value) if isinstance(value, str) else None


def _bound(value: Any, *, last: bool = False) -> Any:
    if isinstance(value, pd.Period):
        return (value.end_time if last else value.start_time).to_pydatetime(warn=False)
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time.max if last else dt.time.min)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return Decimal(str(value))


def _check_number(value: Any, name: str, *, boolean: bool = False) -> None:
    if boolean != isinstance(value, bool | np.bool_) or not isinstance(
        value, bool | int | float | Decimal | np.number | np.bool_
    ):
        words = "True or False" if boolean else "a number"
        raise ConfigurationError(f"where {name!r}: {words} is expected, not {printable(repr(value), 60)}")


def _check_order(low: Any, high: Any, name: str) -> None:
    if not is_missing(low) and not is_missing(high) and low > high:
        raise ConfigurationError(f"where {name!r}: the range begins after it ends, so nothing could fit; swap the two")


def _true(found: pd.Series) -> Mask:
    return np.asarray(found.fillna(False).to_numpy(dtype=bool))


def _holds_lists(series: pd.Series) -> bool:
    return str(series.dtype) == "object"


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)
