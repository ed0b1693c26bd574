"""Long columns, a block of rows at a time.

Of a million numbers, every array made on the way is eight megabytes, and asking
the system for them takes longer than the arithmetic. A block of rows stays in the
processor's cache, and the next block uses the same memory again: only what a
figure keeps (small codes, one sum per cell) is ever as long as the frame.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    """Give the narrowest signed integers that hold -`highest` to `highest`: codes are kept as such.

    Examples
    --------
    >>> smallest_integer(100), smallest_integer(200)
    (dtype('int8'), dtype('int16'))
    """
    return np.min_scalar_type(-highest - 1)


def look_up(table: npt.NDArray[Any], places: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give ``table[places]``; places below 0 count from the end.

    numpy turns narrow places into 64-bit ones before it looks anything up, a
    copy as long as the column if it is not done by blocks.
    """
    found = np.empty(len(places), dtype=table.dtype)
    for rows in blocks(len(places)):
        found[rows] = table.take(places[rows])
    return found


def limits_of(values: npt.NDArray[np.int64], missing: int) -> tuple[int, int, bool]:
    """Find the lowest and the highest number, and whether any is `missing`, the lowest there can be.

    Where all are missing, the lowest and the highest are, too.

    Examples
    --------
    >>> limits_of(np.array([7, -1, 9]), -1), limits_of(np.array([7, 8, 9]), -1)
    ((7, 9, True), (7, 9, False))
    """
    low, high = int(values.min()), int(values.max())
    if low != missing:
        return low, high, False
    parts = (values[rows] for rows in blocks(len(values)))
    return min(int(part.min(initial=high, where=part != missing)) for part in parts), high, True
