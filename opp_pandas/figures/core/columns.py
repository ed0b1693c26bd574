"""Columns of a frame as arrays: numbers, truth values, and codes of what is not a number."""

from __future__ import annotations

import numbers
import weakref
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, named
from opp_pandas.figures.core.blocks import blocks, look_up, smallest_integer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    import pyarrow as pa

    from opp_pandas.figures.core.days import Codes, Flags, Floats, SmallCodes

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Numbers:
    """A number of every deal."""

    values: npt.NDArray[np.integer[Any]] | Floats
    """0 where missing. Whole numbers stay such, so that their sums are exact."""
    missing: Flags | None
    """What is missing; None if nothing is."""
    unit: int = 1
    """How many of `values` make one: 100 where they are cents."""
    ends: tuple[float, float] | None = None
    """The lowest and the highest of `values`, 0 included, where that is known."""

    @classmethod
    def of(cls, floats: Floats) -> Numbers:
        """Wrap floats, NaN where missing."""
        missing = np.isnan(floats)
        return cls(np.where(missing, 0.0, floats), missing) if missing.any() else cls(floats, None)

    @cached_property
    def floats(self) -> Floats:
        """The numbers as floats, NaN where missing."""
        floats: Floats = self.values.astype(np.float64)
        if self.unit > 1:
            floats /= self.unit
        if self.missing is not None:
            floats[self.missing] = np.nan
        return floats

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest, 0 included."""
        low, high = self.ends or (self.values.min(initial=0), self.values.max(initial=0))
        return float(low) / self.unit, float(high) / self.unit

    def in_cents(self) -> Numbers:
        """Return the same as whole cents, where they are such."""
        if self.values.dtype.kind == "i" or max(map(abs, self.limits)) >= 2**46:
            return self
        cents = np.rint(self.values * 100.0)
        if (cents / 100.0 != self.values).any():
            return self
        return Numbers(cents.astype(np.int64), self.missing, 100)


def read_numbers(column: pd.Series) -> Numbers:
    """Read a numeric column."""
    dtype = column.dtype
    if pd.api.types.is_integer_dtype(dtype) and dtype.kind == "i":
        numbers, low, high = _read_integers(column, 0)
        missing = column.isna().to_numpy()
        return Numbers(numbers, missing if missing.any() else None, ends=(min(low, 0), max(high, 0)))
    if pd.api.types.is_numeric_dtype(dtype) and dtype.kind in "ufO":
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        _refuse_infinite(column, values)
        return Numbers.of(values)
    if not column.notna().any():
        return Numbers.of(np.full(len(column), np.nan))
    if pd.api.types.is_object_dtype(dtype):
        numeric = [_is_number_or_missing(value) for value in column]
        if all(numeric):
            values = np.array([np.nan if pd.isna(value) else float(value) for value in column])
            _refuse_infinite(column, values)
            return Numbers.of(values)
        rows = column.index[~np.array(numeric)]
    else:
        rows = column.index[column.notna()]
    raise FrameError(
        f"column {named([column.name])} must hold numbers, not {dtype}; rows {named(rows)} hold something else. "
        "df.opp.validate() lists every such cell"
    )


def _read_integers(column: pd.Series, missing: int) -> tuple[npt.NDArray[np.integer[Any]], int, int]:
    """Read whole numbers, `missing` in place of what is; gives them, the lowest and the highest.

    Blocks are in the processor's cache when their ends are looked for. Numbers take as few bytes as they need: what is
    as long as the frame costs most where the system has to give it.
    """
    values: npt.NDArray[np.integer[Any]] = np.empty(len(column), dtype=np.int8)
    cells, low, high = column.array, missing, missing
    for rows in blocks(len(column)):
        block = cells[rows].to_numpy(dtype=np.int64, na_value=missing)
        low, high = min(low, int(block.min())), max(high, int(block.max()))
        needed = smallest_integer(max(high, -low - 1))
        if values.itemsize < needed.itemsize:
            wider = np.empty(len(values), dtype=needed)
            wider[: rows.start] = values[: rows.start]
            values = wider
        values[rows] = block
    return values, low, high


def _refuse_infinite(column: pd.Series, values: npt.NDArray[Any]) -> None:
    """Raise where a number has no end: every sum that it enters would have none, or be no number at all."""
    infinite = np.isinf(values)
    if infinite.any():
        raise FrameError(
            f"column {named([column.name])} must hold numbers; rows {named(column.index[infinite])} are infinite. "
            "Set them to what is known, or to missing"
        )


def read_numbers_of_text(texts: pd.Series) -> Floats:
    """Read numbers from text; what is none is missing."""
    try:
        # Arrow reads text without making objects of it, and stops at the first that is no number.
        found: Floats = texts.astype("double[pyarrow]").to_numpy(np.float64, na_value=np.nan)  # type: ignore[assignment]
        return found
    except (ValueError, TypeError, NotImplementedError):
        return np.asarray(pd.to_numeric(texts, errors="coerce").to_numpy(np.float64, na_value=np.nan))


def _is_number_or_missing(value: Any) -> bool:
    if isinstance(value, numbers.Real | Decimal):
        return not isinstance(value, bool)
    # Of a list pandas tells entry by entry what is missing.
    return not pd.api.types.is_list_like(value) and bool(pd.isna(value))


def some_of(column: pd.Series, rows: Codes | slice) -> pd.Series:
    """Return some rows of a column, numbered anew."""
    return pd.Series(column.array[rows], name=column.name)


def read_mask(found: Any, frame: pd.DataFrame, name: str) -> Flags:
    """Read which rows somebody chose; a missing truth value chooses none."""
    told = pd.Series(found)
    if isinstance(found, pd.Series) and found.index.is_unique and frame.index.isin(found.index).all():
        # As in df.loc[mask], the mask of a frame in another order speaks of labels, not of places.
        told = found.reindex(frame.index)
    if told.shape != (len(frame),):
        raise ConfigurationError(f"{name} must give one truth value for each of {len(frame)} rows, not {told.shape}")
    known = told.dropna().infer_objects()
    if len(known) and not pd.api.types.is_bool_dtype(known.dtype):
        raise ConfigurationError(f"{name} must give truth values, not {told.dtype}; write a comparison: amount > 1000")
    return np.asarray(told.eq(True).fillna(False), dtype=bool)


def factorize(column: pd.Series) -> tuple[SmallCodes, pd.Index]:
    """Code a column: positions in its distinct values, -1 where missing. Codes are not to be written into.

    Columns that are categorical already lend their codes; whole numbers in a
    narrow range (ids of people and stages) are coded by a table, not by hashing;
    text of Arrow is coded once for as long as it is there.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories
    if (cells := _arrow_text(column)) is not None:
        return _KNOWN_TEXTS.get(cells, "codes", lambda: _factorize_few(column, cells) or _factorize_by_hashing(column))
    if pd.api.types.is_integer_dtype(column.dtype) and (found := _factorize_narrow(column)) is not None:
        return found
    return _factorize_by_hashing(column)


def _factorize_by_hashing(column: pd.Series) -> tuple[SmallCodes, pd.Index]:
    try:
        codes, values = pd.factorize(column, use_na_sentinel=True)
    except (TypeError, NotImplementedError) as error:
        # pyarrow's lists are not implemented.
        raise ConfigurationError(
            f"column {named([column.name])} holds lists and cannot be grouped; "
            f"frame.explode({str(column.name)!r}) makes a row of each entry"
        ) from error
    return codes.astype(smallest_integer(len(values))), pd.Index(values)


class _KnownTexts:
    """What was found out of columns of text, kept as long as the text.

    Arrow never changes a text: whoever edits a column of pandas puts another in
    its place. So what is kept holds for every frame with the same text, and for no other.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[weakref.ref[pa.ChunkedArray], dict[Any, Any]]] = {}

    def get(self, cells: pa.ChunkedArray, what: Hashable, find: Callable[[], T]) -> T:
        """Return what `find` gives, asked once for a text."""
        key = id(cells)
        text, known = self._kept.get(key, (None, {}))
        if text is None or text() is not cells:
            known = {}
            self._kept[key] = (weakref.ref(cells, lambda _: self._kept.pop(key, None)), known)
        if what not in known:
            known[what] = find()
        found: T = known[what]
        return found

    def __len__(self) -> int:
        return len(self._kept)

    def get_again(self, cells: pa.ChunkedArray) -> bool:
        """Return whether this was asked of the text before."""
        asked: list[bool] = self.get(cells, "asked", list)
        asked.append(True)
        return len(asked) > 1


_KNOWN_TEXTS = _KnownTexts()


def _arrow_text(column: pd.Series) -> pa.ChunkedArray | None:
    """Return the text of a column as Arrow holds it; None if it is no such text."""
    dtype = column.dtype
    return column.array.__arrow_array__() if isinstance(dtype, pd.StringDtype) and dtype.storage == "pyarrow" else None


def _factorize_few(column: pd.Series, cells: pa.ChunkedArray) -> tuple[SmallCodes, pd.Index] | None:
    """Code a column of text by the values of its first rows; None if it holds others.

    Looking for a few words is faster than collecting all of them.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    words = column.array[:1_000].dropna().unique()
    if len(words) == 1 and (known := _where_all_are(str(words[0]), cells)) is not None:
        return known.view(np.int8) - np.int8(1), pd.Index(words)
    if not 1 < len(words) <= _FEW_WORDS:
        return None
    codes = pc.index_in(cells, value_set=pa.array(words, type=cells.type))
    if codes.null_count > cells.null_count:
        return None
    return codes.fill_null(-1).to_numpy().astype(np.int8), pd.Index(words)


_FEW_WORDS = 64


def _where_all_are(word: str, cells: pa.ChunkedArray) -> Flags | None:
    """Return which cells are not missing if all of those are one word; None if some are another."""
    known, own = [np.empty(0, dtype=bool)], word.encode()
    for chunk in cells.chunks:
        starts, text = _bytes_of(chunk)
        known.append(_known_cells(chunk))
        lengths = ((rows, starts[rows.start + 1 : rows.stop + 1] - starts[rows]) for rows in blocks(len(chunk)))
        alike = (np.array_equal(length == len(own), known[-1][rows]) for rows, length in lengths)
        if text[starts[0] :].tobytes() != own * np.count_nonzero(known[-1]) or not all(alike):
            return None
    return np.concatenate(known)


def _known_cells(chunk: pa.Array) -> Flags:
    """Return which cells are not missing; unpacking bits is faster than asking Arrow for truth values."""
    bits = chunk.buffers()[0]
    if bits is None:
        return np.ones(len(chunk), dtype=bool)
    end = chunk.offset + len(chunk)
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=end, bitorder="little")[chunk.offset :].view(bool)


def _bytes_of(chunk: pa.Array) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.uint8]]:
    """Return where every cell of some text starts, and one place more, and all of its bytes."""
    import pyarrow as pa

    _, places, text = chunk.buffers()
    width: type[np.integer[Any]] = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
    starts = np.frombuffer(places, dtype=width)[chunk.offset : chunk.offset + len(chunk) + 1]
    data = np.frombuffer(text, dtype=np.uint8) if text is not None else np.empty(0, dtype=np.uint8)
    return starts, data[: starts[-1]]


def rows_that_may_start_with(letters: Iterable[str], column: pd.Series) -> Codes | slice:
    """Find the rows of a column of text whose first letter or digit may be one of `letters`, whatever its case.

    All rows that begin otherwise than with an English letter or a digit are
    among them, and all of a column that is no text of Arrow. Looking at first
    letters is several times as fast as reading words.
    """
    cells = _arrow_text(column)
    if cells is None:
        return slice(None)
    wanted = np.array([not chr(code).isalnum() or code > 127 for code in range(256)])
    initials = "".join(letters)
    wanted[[ord(each) for each in (initials + initials.swapcase()) if ord(each) < 128]] = True

    def find() -> Codes:
        found, before = [np.empty(0, dtype=np.intp)], 0
        for chunk in cells.chunks:
            starts, text = _bytes_of(chunk)
            if len(text):
                # numpy would widen every letter to 64 bits to look it up.
                marked = text.take(starts[:-1], mode="clip").tobytes().translate(wanted.tobytes())
                found.append(before + np.flatnonzero(np.frombuffer(marked, dtype=bool)))
            before += len(chunk)
        return np.concatenate(found)

    return _KNOWN_TEXTS.get(cells, wanted.tobytes(), find)


def map_distinct(
    column: pd.Series,
    meaning: Callable[[pd.Index], npt.NDArray[Any]],
    missing: int,
    rows: Codes | slice = slice(None),
) -> npt.NDArray[Any]:
    """Return for every row, or some, what `meaning` gives its value, asked once each; `missing` where there is none."""
    cells = _arrow_text(column)
    if cells is None or (not isinstance(rows, slice) and not _KNOWN_TEXTS.get_again(cells)):
        codes, distinct = factorize(some_of(column, rows))
    else:
        # A text that is asked for again is coded as a whole, once for all that will ask.
        codes, distinct = factorize(column)
        codes = codes[rows]
    found = meaning(distinct.rename(column.name))
    return look_up(np.append(found, np.array([missing], dtype=found.dtype)), codes)


def map_integers(column: pd.Series, low: int, table: npt.NDArray[Any], *, otherwise: int) -> npt.NDArray[Any]:
    """Look up for every row the entry of its whole number in a table that begins with that of `low`; -1 if missing."""
    found, cells, gaps = np.empty(len(column), dtype=table.dtype), column.array, column.isna().to_numpy()
    padded = np.concatenate([[otherwise], table, [otherwise]]).astype(table.dtype)
    for rows in blocks(len(found)):
        # Read by blocks, numbers are in the processor's cache when they are looked up.
        values = cells[rows].to_numpy(dtype=np.int64, na_value=low)
        found[rows] = padded.take(values - (low - 1), mode="clip") | _minus_one_where(gaps[rows])
    return found


def _minus_one_where(gaps: Flags) -> npt.NDArray[np.int8]:
    """Return what makes a code -1 by a bitwise or: several times as fast as writing -1 where something is missing."""
    return -gaps.view(np.int8)


def _factorize_narrow(column: pd.Series) -> tuple[SmallCodes, pd.Index] | None:
    """Code whole numbers by a table over their range; None where that would be larger than the column."""
    missing = column.isna().to_numpy()
    if missing.all():
        return None
    # What is missing has the value of another row, and so widens no range.
    values, low, high = _read_integers(column, int(column.iloc[int(missing.argmin())]))
    if high - low >= max(len(values), 100_000):
        return None
    occurs = np.zeros(high - low + 1, dtype=bool)
    for rows in blocks(len(values)):
        occurs[values[rows].astype(np.intp) - low] = True
    present = np.flatnonzero(occurs)
    narrow = smallest_integer(len(present))
    table, codes = np.full(len(occurs), -1, dtype=narrow), np.empty(len(values), dtype=narrow)
    table[present] = np.arange(len(present))
    for rows in blocks(len(values)):
        codes[rows] = table.take(values[rows].astype(np.intp) - low) | _minus_one_where(missing[rows])
    return codes, pd.Index(present + low)
