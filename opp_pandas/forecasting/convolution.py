"""Distributions of sums: deals' two-point distributions multiplied out on a grid of amounts, smallest factors first."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Floats

_TAIL = 1e-15
_LONG = 1 << 10
"""Bins from which on a factor's tails are cut."""


def added(parts: list[tuple[int, Floats]]) -> tuple[int, Floats]:
    """Add distributions up: the first bin of the sum, and its probabilities."""
    first = min(start for start, _ in parts)
    total = np.zeros(max(start + len(part) for start, part in parts) - first)
    for start, part in parts:
        total[start - first : start - first + len(part)] += part
    return first, total / total.sum()


def furthest_apart(one: tuple[int, Floats], two: tuple[int, Floats]) -> float:
    """Return the largest distance of two distribution functions."""
    first = min(one[0], two[0])
    size = max(start + len(part) for start, part in (one, two)) - first
    ends = [np.cumsum(np.pad(part, (start - first, size - (start - first) - len(part)))) for start, part in (one, two)]
    return float(np.abs(ends[0] - ends[1]).max())


def multiply(amounts: Floats, chances: Floats, step: float, cv: float) -> tuple[int, Floats]:
    """Multiply the deals' distributions out; gives the first bin and the probabilities from there on."""
    live = (amounts != 0) & (chances > 0)
    if not live.any():
        return 0, np.ones(1)
    offset, rows = _factors(amounts[live], chances[live], step, cv)
    # Short factors of one length are multiplied in pairs, all pairs at once: thousands of deals take few steps.
    for size in (1 << power for power in range(1, _LONG.bit_length() - 1)):
        if size in rows:
            pairs = _multiply_pairs(rows.pop(size))
            rows[2 * size] = np.concatenate([rows[2 * size], pairs]) if 2 * size in rows else pairs
    # Long ones lose their empty tails before they meet others, the shortest first.
    heap = [(len(row), serial, row) for serial, row in enumerate(itertools.chain.from_iterable(rows.values()))]
    heapq.heapify(heap)
    serial = len(heap)
    while len(heap) > 1:
        _, _, one = heapq.heappop(heap)
        _, _, two = heapq.heappop(heap)
        product, cut = trim_pmf(_convolve(one, two))
        offset += cut
        heapq.heappush(heap, (len(product), serial, product))
        serial += 1
    return offset, np.trim_zeros(heap[0][2], "b")


def _factors(amounts: Floats, chances: Floats, step: float, cv: float) -> tuple[int, dict[int, Floats]]:
    """Put each deal's distribution on the grid, every value split between two bins so that the mean stays.

    Gives the sum of the first bins, and the factors by their length, a power of two: one row each.
    """
    won = [(amounts, chances)] if cv == 0 else [(amounts * (1 + side), chances / 2) for side in (-cv, cv)]
    ends = [(np.zeros_like(amounts), 1 - chances), *won]
    places, weights = [], []
    for value, weight in ends:
        place = np.floor(value / step + 1e-9)
        part = np.clip(value / step - place, 0.0, 1.0)
        part[part < 1e-9] = 0.0
        places += [place, place + 1]
        weights += [weight * (1 - part), weight * part]
    place, weight = np.array(places).astype(np.int64), np.array(weights)
    low = np.where(weight > 0, place, np.iinfo(np.int64).max).min(axis=0)
    span = np.where(weight > 0, place - low, 0)
    lengths = 1 << np.maximum(np.ceil(np.log2(span.max(axis=0) + 1)), 1).astype(np.int64)
    rows = {}
    for size in np.unique(lengths).tolist():
        chosen = np.flatnonzero(lengths == size)
        rows[size] = np.zeros((len(chosen), size))
        for bins, share in zip(span, weight, strict=True):
            rows[size][np.arange(len(chosen)), bins[chosen]] += share[chosen]
    return int(low.sum()), rows


def _multiply_pairs(rows: Floats) -> Floats:
    """Multiply each two neighbouring rows; one that is left over stays as it is."""
    size, half = rows.shape[1], len(rows) // 2
    one, two = rows[: 2 * half : 2], rows[1 : 2 * half : 2]
    found = np.zeros((len(rows) - half, 2 * size))
    found[half:, :size] = rows[2 * half :]
    if size <= 32:
        for shift in range(size):
            found[:half, shift : shift + size] += one[:, shift, np.newaxis] * two
    else:
        product = np.fft.irfft(np.fft.rfft(one, 2 * size) * np.fft.rfft(two, 2 * size), 2 * size)
        found[:half] = np.maximum(product, 0.0)
    return found


def _convolve(one: Floats, two: Floats) -> Floats:
    size = len(one) + len(two) - 1
    if min(len(one), len(two)) <= 64:
        return np.convolve(one, two)
    padded = 1 << (size - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(one, padded) * np.fft.rfft(two, padded), padded)[:size]
    return np.maximum(product, 0.0)


def trim_pmf(pmf: Floats) -> tuple[Floats, int]:
    """Cut tails that hold next to nothing; a rare large deal holds more than that and stays."""
    if len(pmf) < _LONG:
        return pmf, 0
    inside = np.flatnonzero(np.cumsum(pmf) > _TAIL)
    inside_back = np.flatnonzero(np.cumsum(pmf[::-1]) > _TAIL)
    low, high = int(inside[0]), len(pmf) - int(inside_back[0])
    return pmf[low:high], low
