"""Long columns, a block of rows at a time.

Of a million numbers, every array made on the way is eight megabytes, and asking
the system for them takes longer than the arithmetic. A block of rows stays in the
processor's cache, and the next block uses the same memory again: only what a
figure keeps (small codes, one sum per cell) is ever as long as the frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

ROWS = 65_536
"""Rows of a block: half a megabyte a column, so that the few that are at work stay in the cache."""


def blocks(n: int) -> Iterator[slice]:
    """Cut `n` rows into blocks.

    Examples
    --------
    >>> list(blocks(100_000))
    [slice(0, 65536, None), slice(65536, 100000, None)]
    """
    return (slice(start, min(start + ROWS, n)) for start in range(0, n, ROWS))


def smallest_integer(highest: int) -> np.dtype[np.signedinteger[Any]]:
    """Return the narrowest signed integers that hold -`highest` to `highest`: codes are kept as such.

    Examples
    --------
    >>> smallest_integer(100), smallest_integer(200)
    (dtype('int8'), dtype('int16'))
    """
    return np.min_scalar_type(-highest - 1)


def look_up(table: npt.NDArray[Any], places: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``table[places]``; places below 0 count from the end.

    numpy turns narrow places into 64-bit ones before it looks anything up, a
    copy as long as the column if it is not done by blocks.
    """
    found = np.empty(len(places), dtype=table.dtype)
    for rows in blocks(len(places)):
        found[rows] = table.take(places[rows])
    return found


def pick(values: npt.NDArray[Any], rows: npt.NDArray[np.intp], missing: Any) -> npt.NDArray[Any]:
    """Return ``values[rows]``; `missing` where there is no such row, which is -1.

    Examples
    --------
    >>> pick(np.array([5, 7]), np.array([1, -1]), 0).tolist()
    [7, 0]
    """
    if not len(values):
        return np.full(len(rows), missing)
    return np.where(rows >= 0, values[np.maximum(rows, 0)], missing)


def limits_of(values: npt.NDArray[np.int64], missing: int) -> tuple[int, int, bool]:
    """Find the lowest and the highest number, and whether any is `missing`, the lowest there can be.

    Where all are missing, the lowest and the highest are, too.

    Examples
    --------
    >>> limits_of(np.array([7, -1, 9]), -1), limits_of(np.array([7, 8, 9]), -1)
    ((7, 9, True), (7, 9, False))
    """
    low, high = int(values.min()), int(values.max())
    if low != missing or high == missing:
        return low, high, low == missing
    # Reckoned from one above it without a sign, what is missing is the highest number.
    above = (int((values[rows] - (missing + 1)).view(np.uint64).min()) for rows in blocks(len(values)))
    return min(above) + missing + 1, high, True


def number_codes(codes: npt.NDArray[np.intp], size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Find which of `size` codes occur, in order, and the place of every code among these.

    Examples
    --------
    >>> ids, places = number_codes(np.array([7, 2, 7]), 10)
    >>> ids.tolist(), places.tolist()
    ([2, 7], [1, 0, 1])
    """
    if size > max(1_000_000, 8 * len(codes)):
        ids, places = np.unique(codes, return_inverse=True)
        return ids.astype(np.intp), places.astype(np.intp)
    # A table over all of them takes a tenth of the time of sorting or hashing.
    occurs = np.zeros(size, dtype=bool)
    occurs[codes] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[codes]


def take_apart(codes: npt.NDArray[np.intp], sizes: Sequence[int]) -> list[npt.NDArray[np.intp]]:
    """Return the parts of combined codes, of which all but the first have these sizes.

    Examples
    --------
    >>> [part.tolist() for part in take_apart(np.array([0, 7, 23]), [4, 3])]
    [[0, 0, 1], [0, 2, 3], [0, 1, 2]]
    """
    parts = []
    for size in (max(each, 1) for each in reversed(sizes)):
        # numpy divides by one number many times as fast as it finds remainders.
        rest = codes // size
        parts.append(np.subtract(codes, part := rest * size, out=part))
        codes = rest
    return [codes, *parts[::-1]]


def count_codes(
    codes: npt.NDArray[Any], low: int, size: int, among: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    """Count how often each of `size` codes occurs, of which `low` is the lowest; `among` chooses rows.

    Examples
    --------
    >>> count_codes(np.array([-1, 0, 0], dtype=np.int8), -1, 3).tolist()
    [1, 2, 0]
    """
    if codes.dtype == np.int8 and size <= 16:
        # Comparing bytes is faster than widening them.
        found = (codes == code for code in range(low, low + size))
        return np.array([np.count_nonzero(each if among is None else each & among) for each in found], dtype=np.int64)
    return np.bincount((codes if among is None else codes[among]).astype(np.intp) - low, minlength=size)
