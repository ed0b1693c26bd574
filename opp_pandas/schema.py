"""The rules of the Opportunity resource, applied to whole frames.

The same rules stand here twice, made from the one table in `resource`:
`find_failures` proves them column by column from Arrow offsets and extremes,
and `OpportunitySchema` is the pandera model to read, extend and call
``.validate(frame, lazy=True)`` on. Both give the same failures. pandera is
imported when the model is first asked for.

Rules concern values that are there: a missing cell breaks none, a column may be
absent (only ``id`` is required, and it may be empty), unknown columns pass.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from opp_pandas.errors import DuplicateRowsError, FrameError, InvalidFrameError, MissingColumnError, named
from opp_pandas.kinds import INSTANT, INSTANTS, KINDS, Kind, kind_of_dtype
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    Positions = npt.NDArray[np.int64]

FAILURE_COLUMNS = ("id", "row", "column", "value", "rule")
PLAUSIBLE_YEARS = (1900, 2199)

NOT_NEGATIVE = "must not be negative"
PLAUSIBLE_DATE = f"a year from {PLAUSIBLE_YEARS[0]} to {PLAUSIBLE_YEARS[1]}"
ADVISORY_RULES = frozenset({NOT_NEGATIVE, PLAUSIBLE_DATE})
"""Rules that `validate` reports like any other, and no reason to refuse a write: the service takes such values."""


@dataclass(frozen=True)
class Rule:
    """One rule about the values of a column, worded for people.

    `holds` takes the non-missing values, of whatever dtype, and gives a boolean Series: slow and
    obvious. `breaks` takes a column that has its dtype and gives the positions that break the rule;
    None where the dtype alone proves it.
    """

    text: str
    holds: Callable[[pd.Series], pd.Series]
    breaks: Callable[[pd.Series], Positions] | None = None


def dtype_rule(column: str) -> str:
    """Word the rule about a column's dtype, with the remedy."""
    dtype = COLUMN_DTYPES[column]
    remedy = f"pd.to_datetime(df[{column!r}], utc=True).dt.as_unit('us')" if dtype == INSTANT else f".astype({dtype!r})"
    return f"the column must be {dtype}; convert it with {remedy}"


@cache
def rules_of(column: str) -> tuple[Rule, ...]:
    """Return the rules about the values of a known column, the dtype apart."""
    dtype = COLUMN_DTYPES[column]
    attribute = OPPORTUNITY.by_column.get(column)
    kind = kind_of_dtype(dtype) if attribute is None else KINDS[attribute.kind]
    rules = [] if kind is None else [_kind_rule(kind)]
    if attribute is not None and attribute.max_length is not None:
        rules.append(_at_most(attribute.max_length))
    if attribute is not None and attribute.minimum is not None and attribute.maximum is not None:
        rules.append(_between(attribute.minimum, attribute.maximum))
    if column == "amount":
        rules.append(Rule(NOT_NEGATIVE, lambda values: _numbers(values, lambda number: number >= 0), _negative))
    if dtype == INSTANT:
        rules.append(Rule(PLAUSIBLE_DATE, _plausible, _implausible))
    if column == "id":
        rules.append(Rule("must be unique", lambda values: ~values.duplicated(keep=False), _doubled))
    return tuple(rules)


def check_shape(frame: object, *, id_required: bool = True) -> pd.DataFrame:
    """Return `frame` if it is a table in which a column name means one column, with an ``id`` where that is required.

    Else FrameError (no DataFrame, columns on several levels), DuplicateRowsError (a name stands
    twice) or MissingColumnError.
    """
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"opportunities are a pandas DataFrame, and this is a {type(frame).__name__}")
    if frame.columns.nlevels > 1:
        raise FrameError(
            f"the columns stand on {frame.columns.nlevels} levels; flatten them first, for example with "
            "df.columns = ['_'.join(map(str, names)) for names in df.columns]"
        )
    if not frame.columns.is_unique:
        doubled = list(frame.columns[frame.columns.duplicated()].unique())
        raise DuplicateRowsError(
            f"column {named(doubled)} stands more than once; keep one of each, "
            "for example with df.loc[:, ~df.columns.duplicated()]",
            doubled,
        )
    if id_required and "id" not in frame.columns and "id" not in frame.index.names:
        hint = "Keep the id column when selecting columns, or put it in the index with set_index('id')."
        raise MissingColumnError(["id"], frame.columns, hint)
    return frame


def find_failures(frame: pd.DataFrame) -> pd.DataFrame:
    """List every cell that breaks a rule.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities; ``id`` as a column or in the index. Never modified.

    Returns
    -------
    DataFrame, shape (f, 5)
        Columns ``id`` (Int64, missing where the row has none), ``row`` (the
        index label), ``column``, ``value`` and ``rule``, in the order of the
        columns. A column with another dtype than its own has one line more,
        without a row and with the dtype as value. No failures: f = 0.

    Raises
    ------
    FrameError, DuplicateRowsError, MissingColumnError
        As `check_shape` does.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": [1, 2], "probability": [50, 101]}, dtype="Int64")
    >>> find_failures(frame)
       id row       column value      rule
    0   2   1  probability   101  0 to 100
    """
    check_shape(frame)
    columns = {str(name): values for name, values in frame.items() if name in COLUMN_DTYPES}
    if "id" not in columns:
        columns = {"id": frame.index.get_level_values("id").to_series(), **columns}
    found = [broken for name, values in columns.items() for broken in _column_failures(name, values)]
    return failure_table(columns, frame.index, found)


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """Apply every rule of the schema and raise once, with all failures.

    Rules that only say "look at this" (a negative amount, the year 9999) count
    like the others here. Loading and adopting keep such cells and report them,
    and writing does not refuse them: see `ADVISORY_RULES`.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities; ``id`` as a column or in the index. Never modified.

    Returns
    -------
    DataFrame, shape (n, k)
        The same object.

    Raises
    ------
    InvalidFrameError
        If any cell breaks a rule; ``.failure_cases`` lists every one.
    FrameError, DuplicateRowsError, MissingColumnError
        As `check_shape` does.
    """
    failures = find_failures(frame)
    if len(failures):
        raise InvalidFrameError(failures)
    return frame


# --- how failures are found -------------------------------------------------------------------------------------------


def _column_failures(column: str, values: pd.Series) -> Iterator[tuple[str, str, Positions | None]]:
    """Return (column, rule, positions) for each broken rule; positions None for the column as a whole."""
    if _has_dtype(values, column):
        for rule in rules_of(column):
            if rule.breaks is not None and len(positions := rule.breaks(values)):
                yield column, rule.text, positions
        return
    known = values.reset_index(drop=True).dropna()
    for rule in rules_of(column):
        broken = known.index.to_numpy()[~rule.holds(known).to_numpy(dtype=bool)]
        if len(broken):
            yield column, rule.text, broken
    yield column, dtype_rule(column), None


def failure_table(
    columns: Mapping[str, pd.Series], labels: pd.Index, found: Sequence[tuple[str, str, Positions | None]]
) -> pd.DataFrame:
    """Make a table of failures, as from `find_failures`, of what was broken where.

    `columns` hold the values to show, the ``id`` among them; positions are None for a column as a whole.
    """
    parts = []
    for column, rule, positions in found:
        if positions is None:
            facts = {"id": pd.array([None], dtype="Int64"), "row": [None], "value": [str(columns[column].dtype)]}
        else:
            facts = {
                "id": _whole_numbers(columns["id"].iloc[positions]),
                "row": _objects(labels[positions]),
                "value": _objects(columns[column].iloc[positions].array),
            }
        parts.append(pd.DataFrame({**facts, "column": column, "rule": rule}).astype({"row": object, "value": object}))
    dtypes: dict[str, Any] = {"id": "Int64", "row": object, "column": "str", "value": object, "rule": "str"}
    if not parts:
        return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in dtypes.items()})
    return pd.concat(parts, ignore_index=True)[list(FAILURE_COLUMNS)].astype(dtypes)


def _has_dtype(values: pd.Series, column: str) -> bool:
    return bool(values.dtype == COLUMN_DTYPES[column])


def _objects(values: Any) -> npt.NDArray[np.object_]:
    """One object per value: lists and tuples stay whole."""
    items = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        items[place] = value
    return items


def _whole_numbers(values: pd.Series) -> Any:
    """Ids as Int64; what is no whole number becomes missing."""
    if pd.api.types.is_integer_dtype(values.dtype):
        return values.array.astype("Int64")
    numbers = pd.to_numeric(values.astype(object), errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    whole = np.isfinite(numbers) & (np.floor(numbers) == numbers) & (np.abs(numbers) < 2**53)
    return pd.array([int(number) if fine else None for number, fine in zip(numbers, whole, strict=True)], dtype="Int64")


# --- fast: columns that have their dtype ------------------------------------------------------------------------------

_NONE: Positions = np.empty(0, dtype=np.int64)


def _longer_than(limit: int, values: pd.Series) -> Positions:
    """Find texts of more than `limit` characters from the offsets of the Arrow array.

    A text has at least as many bytes as characters, and a run of texts at least
    as many as each of them: a few offsets prove most columns, and characters are
    counted only where the bytes exceed the limit.
    """
    array: Any = values.array
    arrow = array.__arrow_array__()
    found, start = [], 0
    for chunk in arrow.chunks if hasattr(arrow, "chunks") else [arrow]:
        if chunk.null_count < len(chunk):
            found.append(_long_in_chunk(chunk, limit) + start)
        start += len(chunk)
    return np.concatenate(found) if found else _NONE


def _long_in_chunk(chunk: Any, limit: int) -> Positions:
    import pyarrow as pa
    import pyarrow.compute as pc

    if chunk.type not in (pa.large_string(), pa.string()):
        chunk = chunk.cast(pa.large_string())
    width = np.int64 if chunk.type == pa.large_string() else np.int32
    count = len(chunk)
    offsets = np.frombuffer(chunk.buffers()[1], dtype=width)[chunk.offset : chunk.offset + count + 1]
    total = int(offsets[-1]) - int(offsets[0])
    if total <= limit:
        return _NONE
    # Runs of texts that together hold about half the limit: if none exceeds it, no text does.
    stride = max(1, limit * count // (2 * total))
    runs = np.append(offsets[:-1:stride], offsets[-1])
    if stride > 1 and int(np.diff(runs).max()) <= limit:
        return _NONE
    candidates = np.flatnonzero(np.diff(offsets) > limit)
    if not len(candidates):
        return _NONE
    # Slots of missing texts may hold bytes, too: their length comes back as null.
    lengths = pc.utf8_length(chunk.take(pa.array(candidates))).to_numpy(zero_copy_only=False)
    too_long = np.nan_to_num(lengths.astype(np.float64), nan=0) > limit
    return np.asarray(candidates[too_long], dtype=np.int64)


def _outside(low: Any, high: Any, values: pd.Series) -> Positions:
    """Find values below `low` or above `high`; the extremes alone prove most columns."""
    smallest, largest = values.min(), values.max()
    if (pd.isna(smallest) or low is None or smallest >= low) and (pd.isna(largest) or high is None or largest <= high):
        return _NONE
    bad = np.zeros(len(values), dtype=bool)
    if low is not None:
        bad |= (values < low).to_numpy(dtype=bool, na_value=False)
    if high is not None:
        bad |= (values > high).to_numpy(dtype=bool, na_value=False)
    return np.flatnonzero(bad)


def _negative(values: pd.Series) -> Positions:
    return _outside(0, None, values)


def _year_bounds() -> tuple[pd.Timestamp, pd.Timestamp]:
    first, last = PLAUSIBLE_YEARS
    return pd.Timestamp(f"{first}-01-01", tz="UTC"), pd.Timestamp(f"{last}-12-31T23:59:59.999999", tz="UTC")


def _implausible(values: pd.Series) -> Positions:
    return _outside(*_year_bounds(), values)


def _doubled(values: pd.Series) -> Positions:
    # Ids that come in rising order, as most do, need no table of all of them.
    if not values.hasnans and values.is_monotonic_increasing and not (values.array[1:] == values.array[:-1]).any():
        return _NONE
    if values.dropna().is_unique:
        return _NONE
    return np.flatnonzero((values.duplicated(keep=False) & values.notna()).to_numpy(dtype=bool))


# --- slow and obvious: values of any dtype ----------------------------------------------------------------------------


def _each(values: pd.Series, holds: Callable[[Any], bool]) -> pd.Series:
    return pd.Series([holds(value) for value in values.array], index=values.index, dtype=bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)


def _numbers(values: pd.Series, holds: Callable[[Any], bool]) -> pd.Series:
    """Judge numbers only: what is none breaks another rule."""
    if pd.api.types.is_integer_dtype(values.dtype):
        return cast("pd.Series", holds(values))
    return _each(values, lambda value: not _is_number(value) or bool(holds(value)))


def _plausible(values: pd.Series) -> pd.Series:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        first, last = _year_bounds()
        return (values >= first) & (values <= last)
    low, high = PLAUSIBLE_YEARS
    return _each(values, lambda value: getattr(value, "tzinfo", None) is None or low <= value.year <= high)


def _of_kind(kind: Kind, values: pd.Series) -> pd.Series:
    # Instants without a zone are named as a column, not one by one.
    if kind.own_array(values) is not None or (kind is INSTANTS and values.dtype.kind == "M"):
        return pd.Series(True, index=values.index)
    return _each(values, kind.fits)


@cache
def _kind_rule(kind: Kind) -> Rule:
    # Most dtypes prove the rule alone; only object columns may hold anything.
    breaks = (lambda values: np.flatnonzero(kind.unfit(values))) if kind.dtype == "object" else None
    return Rule(kind.rule, partial(_of_kind, kind), breaks)


@cache
def _at_most(limit: int) -> Rule:
    def holds(values: pd.Series) -> pd.Series:
        if values.dtype == "str":
            return values.str.len() <= limit
        return _each(values, lambda value: not isinstance(value, str) or len(value) <= limit)

    return Rule(f"at most {limit:,} characters", holds, lambda values: _longer_than(limit, values))


@cache
def _between(low: int, high: int) -> Rule:
    def holds(values: pd.Series) -> pd.Series:
        return _numbers(values, lambda number: (number >= low) & (number <= high))

    return Rule(f"{low} to {high}", holds, lambda values: _outside(low, high, values))


# --- the pandera model ------------------------------------------------------------------------------------------------


@cache
def get_schema() -> Any:
    """Return `OpportunitySchema`, the pandera model made from the resource table.

    Returns
    -------
    type
        A `pandera.pandas.DataFrameModel`. Extend it by subclassing, and call
        ``.validate(frame, lazy=True)`` to collect every failure. All columns but
        ``id`` may be absent; all may hold missing cells; unknown columns pass.
        `validate` gives the same failures, and names rows by id as well.

    Examples
    --------
    >>> opp.OpportunitySchema.validate(df.head(3))["id"].tolist()
    [1, 2, 3]
    >>> try:
    ...     df.assign(probability=101).opp.validate()
    ... except opp.errors.InvalidFrameError as error:
    ...     error.failure_cases["rule"].iloc[0]
    '0 to 100'
    """
    import pandera.pandas as pa
    from pandera.typing import Series

    series: Any = Series
    model: Any = pa.DataFrameModel
    typed_of = {kind.dtype: kind.typed for kind in KINDS.values()}

    class Config:
        name = "OpportunitySchema"
        strict = False
        coerce = False
        unique_column_names = True

    annotations: dict[str, Any] = {}
    namespace: dict[str, Any] = {
        "__annotations__": annotations,
        "__module__": __name__,
        "__qualname__": "OpportunitySchema",
        "__doc__": "Opportunities in columns: dtypes, text limits, ranges, instants with a zone, unique ids.\n\n"
        + inspect.cleandoc(get_schema.__doc__ or "").partition("\n\n")[2],
        "Config": Config,
    }
    columns_of: dict[str, list[str]] = {}
    rule_of: dict[str, Rule] = {}
    for column, dtype in COLUMN_DTYPES.items():
        typed = series[typed_of[dtype]]
        annotations[column] = typed if column == "id" else typed | None
        attribute = OPPORTUNITY.by_column.get(column)
        namespace[column] = pa.Field(nullable=True, description=attribute.meaning if attribute else None)
        rules = list(rules_of(column))
        if dtype in ("str", "Int64"):
            # pandera takes any text dtype for any other, object among them, and int64 for Int64.
            rules.append(Rule(dtype_rule(column), partial(_of_dtype, dtype)))
        for rule in rules:
            rule_of[rule.text] = rule
            columns_of.setdefault(rule.text, []).append(column)

    for number, (text, columns) in enumerate(columns_of.items()):
        namespace[f"_rule_{number}"] = pa.check(*columns, name=text, error=text)(_as_method(rule_of[text]))
    return type(model)("OpportunitySchema", (model,), namespace)


def _of_dtype(dtype: str, values: pd.Series) -> pd.Series:
    return cast("pd.Series", values.dtype == dtype)


def _as_method(rule: Rule) -> Callable[[Any, pd.Series], pd.Series]:
    def check(_model: Any, values: pd.Series) -> pd.Series:
        return rule.holds(values)

    return check


def __getattr__(name: str) -> Any:
    if name == "OpportunitySchema":
        return get_schema()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
