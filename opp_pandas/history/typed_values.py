"""Columns of a frame as typed cells, and back.

A cell is kept in the narrowest of four columns: text, whole number, number or
instant. What none of them holds (lists, mixed values) is JSON text, and a list
beside it says which of its members are more than JSON can tell: nothing inside
the text is markup, so no value of a user's can be mistaken for it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import FrameError, named
from opp_pandas.frame_state import freeze_value
from opp_pandas.kinds import INSTANT

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
Types = list[Any]
"""Members of a JSON text that JSON has no type for: ``[path, type]``, inner ones first."""

_DAY_US = 86_400_000_000
_EPOCH = dt.date(1970, 1, 1).toordinal()

MISSING, TEXT, INTEGER, BOOLEAN, REAL, TIME, JSON, LOCKED, DECIMAL, DAY = range(10)
_TABLE: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("missing", "", lambda _: None),
    ("text", "text", str),
    ("integer", "integer", int),
    ("boolean", "integer", bool),
    ("real", "real", float),
    ("instant", "instant", lambda value: pd.Timestamp(value, unit="us", tz="UTC").as_unit("us")),
    ("json", "text", json.loads),
    # Missing, too: its original could not take the dtype.
    ("locked", "", lambda _: None),
    ("decimal", "text", Decimal),
    ("day", "instant", lambda value: dt.date.fromordinal(value // _DAY_US + _EPOCH)),
)
"""By code, the word for the kind of a cell, the column that keeps its value, and how that is read."""
KINDS = tuple(name for name, *_ in _TABLE)
STORED_IN = {kind: store for kind, (_, store, _) in enumerate(_TABLE) if store}


@dataclass(frozen=True, eq=False)
class Packed:
    """One column as typed values.

    Each value has a kind, and stands in the store of that kind: an Arrow array for text, else numbers, with whatever
    where a value is kept elsewhere. `types` tells by place what the JSON text does not.
    """

    kinds: npt.NDArray[np.int8]
    stores: Mapping[str, Any]
    types: Mapping[int, Types] = field(default_factory=dict)

    @property
    def present(self) -> Flags:
        """Where there is a value."""
        found: Flags = self.kinds != MISSING
        return found

    def kept_in(self, store: str) -> Flags:
        """Whose value is kept in one of the columns."""
        return np.isin(self.kinds, [kind for kind, name in STORED_IN.items() if name == store])

    def take(self, places: Places) -> Packed:
        """Keep some."""
        import pyarrow as pa

        stores = {
            name: values.take(pa.array(places)) if name == "text" else values[places]
            for name, values in self.stores.items()
        }
        moved = {int(place): new for new, place in enumerate(places)} if self.types else {}
        types = {moved[place]: types for place, types in self.types.items() if place in moved}
        return Packed(self.kinds[places], stores, types)


def uniform(kind: int, values: Any, present: Flags | None = None) -> Packed:
    """Return a column whose values are of one kind."""
    kinds = np.full(len(values), kind, dtype=np.int8)
    return Packed(kinds if present is None else np.where(present, kinds, np.int8(MISSING)), {STORED_IN[kind]: values})


def pack(column: pd.Series) -> Packed:
    """Turn a column into typed values; a FrameError says if an object column holds what cannot be kept."""
    import pyarrow as pa

    dtype = column.dtype
    present = column.notna().to_numpy(dtype=bool)
    if isinstance(dtype, pd.StringDtype):
        texts = pa.array(column.array, type=pa.large_string(), from_pandas=True)
        # Joined frames hold their text in several pieces.
        return uniform(TEXT, texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts, present)
    if pd.api.types.is_bool_dtype(dtype):
        return uniform(BOOLEAN, column.to_numpy(dtype=np.int64, na_value=0), present)
    # Some whole numbers are more than 63 bits hold, and some instants lie between two microseconds: objects keep those.
    kind = getattr(dtype, "kind", "")
    is_too_large = kind == "u" and bool((column > np.iinfo(np.int64).max).any())
    is_too_fine = kind == "M" and column.array.unit == "ns" and bool((column.dt.nanosecond > 0).any())
    if pd.api.types.is_integer_dtype(dtype) and not is_too_large:
        return uniform(INTEGER, column.to_numpy(dtype=np.int64, na_value=0), present)
    if pd.api.types.is_float_dtype(dtype):
        return uniform(REAL, column.to_numpy(dtype=np.float64, na_value=np.nan), present)
    if kind == "M" and not is_too_fine:
        unit: Any = INSTANT if isinstance(dtype, pd.DatetimeTZDtype) else "datetime64[us]"
        return uniform(TIME, column.astype(unit).to_numpy(dtype="datetime64[us]").view(np.int64), present)
    return _pack_objects(column.astype(object).to_numpy(), str(column.name))


def _pack_objects(values: Any, name: str) -> Packed:
    """Store every value as its own kind; tags repeat, so each distinct list of texts is written once."""
    import pyarrow as pa

    kinds = np.zeros(len(values), dtype=np.int8)
    stores: dict[str, list[Any]] = {}
    types: dict[int, Types] = {}
    written: dict[tuple[str, ...], str] = {}
    for place, value in enumerate(values):
        if type(value) in (list, tuple) and all(type(item) is str for item in value):
            kind, key = JSON, tuple(value)
            stored: Any = written.get(key)
            if stored is None:
                stored = written[key] = encode(value, name)[0]
        else:
            kind, stored = _typed(value)
            if kind == JSON:
                stored, found = encode(value, name)
                if found:
                    types[place] = found
        if kind != MISSING:
            kinds[place] = kind
            store = STORED_IN[kind]
            if store not in stores:
                stores[store] = [None] * len(values)
            stores[store][place] = stored
    packed: dict[str, Any] = {}
    for store, found in stores.items():
        if store == "text":
            packed[store] = pa.array(found, type=pa.large_string())
        else:
            dtype = np.float64 if store == "real" else np.int64
            packed[store] = np.array([0 if value is None else value for value in found], dtype=dtype)
    return Packed(kinds, packed, types)


def _typed(value: Any) -> tuple[int, Any]:
    """Return the kind of one value, and how it is stored."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return MISSING, None
    kind = type(value)
    if kind is str and (value.isascii() or _is_unicode(value)):
        return TEXT, value
    if kind is bool:
        return BOOLEAN, int(value)
    if kind is int and -(2**63) <= value < 2**63:
        return INTEGER, value
    if kind is float:
        return REAL, value
    if kind is Decimal:
        return DECIMAL, str(value)
    if kind is dt.date:
        return DAY, (value.toordinal() - _EPOCH) * _DAY_US
    if kind is pd.Timestamp and value.unit == "us" and str(value.tzinfo) == "UTC":
        return TIME, value._value
    return JSON, None


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 holds a text: halves of surrogate pairs, which JSON can name, are no characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unpack(kind: int, dtype: str, values: Any, present: Flags) -> Any:
    """Make the pandas array of one column from values of one kind, as stored; None where they cannot take the dtype."""
    if kind == TEXT and dtype == "str":
        return pd.array(values, dtype="str")
    if kind in (INTEGER, BOOLEAN) and dtype in ("Int64", "boolean"):
        masked = pd.arrays.IntegerArray(np.asarray(values, dtype=np.int64), ~present)
        return masked if dtype == "Int64" else masked.astype("boolean")
    if kind == REAL and dtype in ("Float64", "float64"):
        if dtype == "Float64":
            return pd.arrays.FloatingArray(np.where(present, values, 0.0), ~present)
        return np.where(present, values, np.nan)
    if kind == TIME and dtype.startswith("datetime64"):
        stamps = np.where(present, values, np.iinfo(np.int64).min).view("datetime64[us]")
        moments = pd.DatetimeIndex(stamps)
        # With a zone in the dtype they are instants, kept in UTC whatever the zone was.
        moments = moments.tz_localize("UTC") if "," in dtype else moments
        return (moments if str(moments.dtype) == dtype else moments.astype(dtype)).array
    return None


def missing_column(n: int, dtype: Any) -> Any:
    """Make the pandas array of a column without any value."""
    if dtype == "object":
        return np.empty(n, dtype=object)
    return pd.Series([None], dtype=object).astype(dtype).array.take(np.zeros(n, dtype=np.intp))


def as_python(kind: int, values: Any) -> list[Any]:
    """Return stored values of one kind, none of them missing, as Python values."""
    listed = values.tolist() if isinstance(values, np.ndarray) else values.to_pylist()
    return [_TABLE[kind][2](value) for value in listed]


# --- values that JSON does not hold -----------------------------------------------------------------------------------

Special = Callable[[Any], tuple[str, Any] | None]
"""Returns the type and the contents of a value that JSON has no type for; None for any other."""

READ: Mapping[str, Callable[[Any], Any]] = {
    "real": float,
    "decimal": Decimal,
    "instant": pd.Timestamp,
    "moment": dt.datetime.fromisoformat,
    "day": dt.date.fromisoformat,
    "mapping": lambda pairs: {freeze_value(key): item for key, item in pairs},
}


def special(value: Any) -> tuple[str, Any] | None:
    """Return the type and contents of a value that a cell may hold and JSON has no type for."""
    if isinstance(value, float) and not np.isfinite(value):
        return "real", str(value)
    if isinstance(value, Decimal):
        return "decimal", str(value)
    if isinstance(value, dt.date):
        name = "instant" if isinstance(value, pd.Timestamp) else "moment" if isinstance(value, dt.datetime) else "day"
        return name, value.isoformat()
    if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
        return "mapping", [[key, item] for key, item in value.items()]
    return None


def encode(value: Any, column: str = "", special: Special = special) -> tuple[str, Types]:
    """Write a value as JSON text, and apart from it what JSON does not tell; a FrameError refuses what cannot be kept.

    Examples
    --------
    >>> encode(["a", Decimal("1.50"), {"$decimal": "n/a"}])
    ('["a","1.50",{"$decimal":"n/a"}]', [[[1], 'decimal']])
    """
    types: Types = []
    try:
        return json.dumps(_plain(value, [], types, special), separators=(",", ":"), allow_nan=False), types
    except (TypeError, RecursionError) as error:
        raise FrameError(f"column {named([column])} holds a value that a history cannot keep: {error}") from error


def _plain(value: Any, path: list[Any], types: Types, special: Special) -> Any:
    if value is None or value is pd.NA or value is pd.NaT or isinstance(value, str | bool | int):
        return None if value is pd.NA or value is pd.NaT else value
    if isinstance(value, np.generic):
        return _plain(value.item(), path, types, special)
    found = special(value)
    if found is not None:
        name, contents = found
        plain = _plain(contents, path, types, special)
        types.append([path, name])
        return plain
    if isinstance(value, Mapping):
        return {key: _plain(item, [*path, key], types, special) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range | np.ndarray):
        return [_plain(item, [*path, place], types, special) for place, item in enumerate(value)]
    if isinstance(value, float):
        return value
    raise TypeError(f"{type(value).__name__} is no JSON")


def decode(text: str, types: Types, read: Mapping[str, Callable[[Any], Any]] = READ) -> Any:
    """Read what `encode` wrote.

    Examples
    --------
    >>> decode('["a","1.50"]', [[[1], "decimal"]])
    ['a', Decimal('1.50')]
    """
    found = [json.loads(text)]
    for path, name in types:
        holder: Any = found
        steps = [0, *path]
        for step in steps[:-1]:
            holder = holder[step]
        last = steps[-1]
        holder[last] = read[name](holder[last])
    return found[0]
