"""Counts and sums by cell: what the figures of a pipeline stand on, and what parts of it merge to.

A figure that sums is three steps: the cell of every deal (its groups, and a layer
that its standing and close date settle), the counts and sums of every cell, and
the table that is worked out from those. The first two need the deals; they are
all that is done where deals come in pieces, and cells of several pieces add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.blocks import blocks, take_apart
from opp_pandas.figures.core.deals import STANDINGS, Deals
from opp_pandas.figures.core.groups import Axis, Group, Grouping, combine

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes, Flags, Floats, Integers

EXACT = 2**53
"""Below it, floats hold every whole number."""
_MOST = 2.0**63 * (1 - 2.0**-30)
"""What sums of absolute values, reckoned in floats, must stay below for whole numbers of 64 bits to hold all sums."""


@dataclass(frozen=True, eq=False)
class Members:
    """Rows or cells by group, named once all pieces are known."""

    axes: tuple[Axis, ...]
    """By what deals are grouped."""
    places: Sequence[Codes]
    """The place of every row or cell on every axis."""

    def __len__(self) -> int:
        return len(self.places[0])

    @classmethod
    def of(cls, groupings: Sequence[Grouping], rows: Codes) -> Members:
        """Return the groups of some deals."""
        places = [codes[rows].astype(np.intp) - axis.low for axis, codes in groupings]
        return Members(tuple(axis for axis, _ in groupings), places)

    @classmethod
    def merged(cls, parts: Sequence[Any]) -> Members:
        """Put the rows of several pieces below each other."""
        axes, places, _ = _merge_axes(parts)
        return Members(axes, places)

    def rows(self, context: FigureContext) -> tuple[list[Group], Codes, int]:
        """Name and sort the groups; also gives the combined code of all, and how many of these there can be."""
        groups = [axis.group(codes, context) for axis, codes in zip(self.axes, self.places, strict=True)]
        return groups, *combine(groups, len(self))


@dataclass(frozen=True, eq=False)
class Tally(Members):
    """Counts and sums of the cells that occur."""

    layers: tuple[Any, ...]
    """What the layers mean: anything that can be looked up in a dict. Some may have no cell."""
    layer: Codes
    """The layer of every cell."""
    sums: Mapping[str, npt.NDArray[Any]]
    """``count``, ``amount``, ``product`` (amount x percent), ``missing_amount`` and ``missing_percent``. Sums of
    whole numbers are whole, and so exact."""
    unit: int = 1
    """How many of ``amount`` and ``product`` make one of the currency."""

    def __len__(self) -> int:
        return len(self.layer)

    @classmethod
    def merged(cls, parts: Sequence[Tally]) -> Tally:
        """Add up the cells of several pieces."""
        layers = tuple(dict.fromkeys(layer for part in parts for layer in part.layers))
        number = {layer: code for code, layer in enumerate(layers)}
        layer = np.concatenate(
            [np.array([number[each] for each in part.layers], np.intp)[part.layer] for part in parts]
        )
        axes, places, cells = _merge_axes(parts)
        _, rows, inverse = np.unique(cells * len(layers) + layer, return_index=True, return_inverse=True)
        unit = max(part.unit for part in parts)
        sums = {}
        for name in parts[0].sums:
            scales = [unit // part.unit if name in ("amount", "product") else 1 for part in parts]
            values = [part.sums[name] * scale for part, scale in zip(parts, scales, strict=True)]
            whole = all(each.dtype.kind == "i" for each in values)
            if not whole or sum(float(np.abs(each.astype(np.float64)).sum()) for each in values) >= _MOST:
                values = [each.astype(np.float64) for each in values]
            sums[name] = add_into(inverse, np.concatenate(values), len(rows))
        return cls(axes, [codes[rows] for codes in places], layers, layer[rows], sums, unit)

    def add(self, name: str, into: Codes, size: int, chosen: Flags | slice = slice(None)) -> npt.NDArray[Any]:
        """Add one of the sums of some cells into `size` places; ``weighted`` is the sum of amount x probability.

        Amounts are floats, or whole numbers where floats would not hold them.
        """
        values = self.sums["product" if name == "weighted" else name][chosen]
        found = add_into(into[chosen], values, size)
        unit = self.unit if name == "amount" else 100 * self.unit if name == "weighted" else 0
        if unit > 1:
            return found / unit
        return found.astype(np.float64) if unit and np.abs(found.astype(np.float64)).sum() < EXACT else found

    def by_layer(self, name: str) -> npt.NDArray[Any]:
        """Add one of the sums up by layer."""
        return add_into(self.layer, self.sums[name], len(self.layers))

    def of_layers(self, wanted: Callable[[Any], bool]) -> Flags:
        """Return which cells are of the layers that `wanted` chooses."""
        return np.array([wanted(layer) for layer in self.layers], dtype=bool)[self.layer]


def _merge_axes(parts: Sequence[Any]) -> tuple[tuple[Axis, ...], list[Codes], Codes]:
    """Return common axes, the place of every cell of every piece on each, and one code of all places."""
    merged = [Axis.merged([part.axes[k] for part in parts]) for k in range(len(parts[0].axes))]
    places = [
        np.concatenate([table[part.places[k]] for table, part in zip(tables, parts, strict=True)])
        for k, (_, tables) in enumerate(merged)
    ]
    cells = np.zeros(sum(len(part) for part in parts), dtype=np.intp)
    for (axis, _), codes in zip(merged, places, strict=True):
        # Numbered anew at every axis: products of large axes need not fit 64 bits.
        cells = np.unique(cells * axis.size + codes, return_inverse=True)[1].astype(np.intp)
    return tuple(axis for axis, _ in merged), places, cells


@dataclass(frozen=True, eq=False)
class Histogram(Members):
    """How often each value occurs in each group: what medians of pieces come from."""

    values: Floats
    counts: Integers
    """Values, and how many deals have each."""
    exact: bool = True
    """Whether the values are as they were; see `merged`."""

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def counted(cls, groupings: Sequence[Grouping], rows: Codes, values: Floats) -> Histogram:
        """Count the values of some deals by group."""
        members = Members.of(groupings, rows)
        cells = np.zeros(len(rows), dtype=np.intp)
        for axis, codes in zip(members.axes, members.places, strict=True):
            cells = cells * axis.size + codes
        return cls._counted(members.axes, members.places, cells, values, np.ones(len(rows), dtype=np.int64), exact=True)

    @classmethod
    def _counted(
        cls,
        axes: tuple[Axis, ...],
        places: Sequence[Codes],
        cells: Codes,
        values: Floats,
        counts: Integers,
        exact: bool,
    ) -> Histogram:
        order = np.lexsort((values, cells))
        new = np.ones(len(order), dtype=bool)
        new[1:] = (np.diff(cells[order]) != 0) | (np.diff(values[order]) != 0)
        totals = add_into(np.cumsum(new) - 1, counts[order], int(new.sum()))
        rows = order[new]
        return cls(axes, [codes[rows] for codes in places], values[rows], totals, exact)

    @classmethod
    def merged(cls, parts: Sequence[Histogram]) -> Histogram:
        """Add up the counts of several pieces.

        More than `MOST_VALUES` of them are rounded to twelve binary digits: whole numbers
        below 4,096 stay as they are, others move by less than one part in 4,096.
        """
        axes, places, cells = _merge_axes(parts)
        values, counts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "counts"))
        exact = all(part.exact for part in parts)
        found = cls._counted(axes, places, cells, values, counts, exact)
        if len(found) <= MOST_VALUES:
            return found
        fraction, exponent = np.frexp(values)
        rounded = np.ldexp(np.rint(fraction * 4_096) / 4_096, exponent)
        return cls._counted(axes, places, cells, rounded, counts, exact and bool((rounded == values).all()))

    def quantile(self, q: float) -> float:
        """Return a quantile of all values, between two of them by their distance."""
        order = np.argsort(self.values, kind="stable")
        ends = np.cumsum(self.counts[order])
        place, rest = divmod(q * (int(ends[-1]) - 1), 1)
        low, high = self.values[order][np.searchsorted(ends, [place, min(place + 1, ends[-1] - 1)], side="right")]
        return float(low + (high - low) * rest)

    def medians(self, context: FigureContext) -> Floats:
        """Return the median of every group; NaN for those without a value."""
        _, row, size = self.rows(context)
        return grouped_median(row, self.values, size, self.counts)


MOST_VALUES = 250_000


def grouped_median(codes: Codes, values: Floats, size: int, counts: Integers | None = None) -> Floats:
    """Return the median of each group, each value standing `counts` times; NaN for groups without a value."""
    order = np.lexsort((values, codes))
    ordered = values[order]
    last = np.cumsum(np.ones(len(values), dtype=np.int64) if counts is None else counts[order])
    starts = np.append(0, last)[np.searchsorted(codes[order], np.arange(size + 1))]
    totals = np.diff(starts)
    result = np.full(size, np.nan)
    some = totals > 0
    low, high = (starts[:-1][some] + (totals[some] + step) // 2 for step in (-1, 0))
    middle = [ordered[np.searchsorted(last, place, side="right")] for place in (low, high)]
    result[some] = (middle[0] + middle[1]) / 2
    return result


Quantity: TypeAlias = Literal["count", "amount", "weighted", "missing_amount", "missing_percent"]


@dataclass(frozen=True)
class Term:
    """One sum inside a column: a quantity over deals of some kinds."""

    quantity: Quantity
    kinds: tuple[int, ...]

    def rows(self, deals: Deals, kind: npt.NDArray[Any]) -> tuple[Flags, Floats]:
        """Return which deals are behind the sum, and what each adds, where `kind` is that of every deal."""
        rows: Flags = np.isin(kind, self.kinds)
        ones = np.ones(len(deals))
        if self.quantity == "count":
            return rows, ones
        if self.quantity == "missing_percent":
            return rows & np.isnan(deals.percent), ones
        if self.quantity == "missing_amount":
            return rows & np.isnan(deals.amount), ones
        values = deals.amount if self.quantity == "amount" else deals.amount * deals.percent / 100.0
        return rows & ~np.isnan(values), values


class Totals:
    """Counts and sums of kinds by row of a table.

    Parameters
    ----------
    cells : Tally
        Counts and sums by cell.
    kinds : sequence of int
        The kind of every layer, from 0 on; -1: in no sum.
    rows : ndarray of intp, shape (c,)
        The row of every cell.
    size : int
        Number of rows.
    """

    def __init__(self, cells: Tally, kinds: Sequence[int], rows: Codes, size: int) -> None:
        kind = np.array(kinds, dtype=np.intp)[cells.layer]
        # Most often all cells count, and need not be chosen one by one.
        self._chosen = kind >= 0 if min(kinds, default=0) < 0 else slice(None)
        self._cells, self._n_kinds = cells, max(kinds, default=0) + 1
        self._into, self._size = kind * size + rows, size
        self._tables: dict[str, npt.NDArray[Any]] = {}

    def of(self, quantity: str, *kinds: int) -> npt.NDArray[Any]:
        """Add one quantity over some kinds, by row."""
        if quantity not in self._tables:
            found = self._cells.add(quantity, self._into, self._n_kinds * self._size, self._chosen)
            self._tables[quantity] = found.reshape(self._n_kinds, self._size)
        found = np.zeros(self._size, dtype=self._tables[quantity].dtype)
        for kind in kinds:
            if kind < self._n_kinds:
                found += self._tables[quantity][kind]
        return found

    def column(self, terms: Sequence[Term]) -> npt.NDArray[Any]:
        """Add the terms of a column, by row."""
        first, *rest = (self.of(term.quantity, *term.kinds) for term in terms)
        return np.asarray(sum(rest, first))


def add_into(places: Codes, values: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Add values at their places; whole numbers stay whole."""
    sums = np.zeros(size, dtype=values.dtype)
    np.add.at(sums, places, values)
    return sums


def tally(deals: Deals, groupings: Sequence[Grouping], layers: Sequence[Any], table: npt.NDArray[Any]) -> Tally:
    """Count the deals of every cell and sum their amounts.

    Parameters
    ----------
    deals : Deals
        The deals.
    groupings : sequence of (Axis, ndarray)
        By what deals are grouped, and the code of each, from `read_axes`.
    layers : sequence
        What the layers mean.
    table : ndarray of integers, shape (STANDINGS,) or (STANDINGS, s)
        The layer of the deals of every standing, and of every slot of time of
        the close date where it depends on that; -1: they are in no cell.

    Returns
    -------
    Tally
        Missing amounts and percentages are counted, never taken as 0.
    """
    width = math.prod(axis.size for axis, _ in groupings)
    strides = [math.prod(axis.size for axis, _ in groupings[k + 1 :]) for k in range(len(groupings))]
    n_slots = table.size // STANDINGS
    starts = np.where(table < 0, len(layers), table).ravel().astype(np.intp) * width
    starts -= sum(axis.low * stride for (axis, _), stride in zip(groupings, strides, strict=True))

    def cells_of(rows: slice) -> Codes:
        place = deals.standing[rows].astype(np.intp)
        if n_slots > 1:
            place *= n_slots
            place += deals.close.places[rows]
        cells = starts.take(place)
        for (_, codes), stride in zip(groupings, strides, strict=True):
            wide = codes[rows].astype(np.intp)
            if stride > 1:
                wide *= stride
            cells += wide
        return cells

    size = (len(layers) + 1) * width
    if size <= max(1_000_000, 4 * len(deals)):
        sums, unit = _add_up(deals, cells_of, size)
        occurring = ids = np.flatnonzero(sums["count"][: len(layers) * width] > 0)
    else:
        # More possible cells than deals: number those that occur.
        numbered, ids = pd.factorize(cells_of(slice(None)))
        sums, unit = _add_up(deals, numbered.__getitem__, len(ids))
        occurring = np.flatnonzero(ids < len(layers) * width)
        ids = ids[occurring]
    layer, *places = take_apart(ids, [axis.size for axis, _ in groupings])
    taken = {name: values[occurring] for name, values in sums.items()}
    return Tally(tuple(axis for axis, _ in groupings), places, tuple(layers), layer, taken, unit)


def _add_up(deals: Deals, cells_of: Callable[[slice], Codes], size: int) -> tuple[dict[str, npt.NDArray[Any]], int]:
    amounts, percents = deals.amounts, deals.percents
    highest = max(map(abs, amounts.limits)) * amounts.unit * len(deals)
    if highest * 100 >= _MOST:
        highest = float(np.abs(amounts.values.astype(np.float64)).sum())
    # What whole numbers of 64 bits cannot hold is summed as floats.
    amount, unit = (amounts.values, amounts.unit) if highest < _MOST else (amounts.values / amounts.unit, 1)
    if amount.dtype.kind == "i":
        amount = amount.astype(np.int64, copy=False)
    percent = percents.values
    if amount.dtype.kind == "i" and (percent.dtype.kind != "i" or highest * max(percents.limits) >= _MOST):
        percent = percent.astype(np.float64)
    product_dtype = np.result_type(amount.dtype, percent.dtype)
    sums: dict[str, npt.NDArray[Any]] = {
        "count": np.zeros(size, dtype=np.int64),
        "amount": np.zeros(size, dtype=amount.dtype),
        "product": np.zeros(size, dtype=product_dtype),
        "missing_amount": np.zeros(size, dtype=np.int64),
        "missing_percent": np.zeros(size, dtype=np.int64),
    }
    gaps = {name: own.missing for name, own in (("missing_amount", amounts), ("missing_percent", percents))}
    for rows in blocks(len(deals)):
        cells, addends = cells_of(rows), amount[rows]
        np.add.at(sums["count"], cells, 1)
        np.add.at(sums["amount"], cells, addends)
        np.add.at(sums["product"], cells, addends * percent[rows])
        for name, missing in gaps.items():
            if missing is not None:
                np.add.at(sums[name], cells[np.flatnonzero(missing[rows])], 1)
    return sums, unit


Part: TypeAlias = Mapping[str, Any]
"""What a figure gathered of a piece of the deals, by name; the class of every value puts several together: `merged`."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that a figure needs one by one; the only part that grows with the deals."""

    frame: pd.DataFrame

    @classmethod
    def merged(cls, parts: Sequence[Rows]) -> Rows:
        """Put the rows of several pieces below each other."""
        return cls(pd.concat([part.frame for part in parts]))


_TOGETHER = 4
"""Parts put together at once: one by one would take long, and many at once much memory, where groups are many."""


def combine_parts(parts: Iterable[Part]) -> Part:
    """Put parts of several pieces together into one, as they come; it may be combined further."""
    pieces: list[Part] = []
    for part in parts:
        pieces.append(part)
        if len(pieces) == _TOGETHER:
            pieces = [_combined(pieces)]
    if not pieces:
        raise ConfigurationError("there is no part to merge; a frame without rows has one, too")
    return _combined(pieces)


def _combined(pieces: Sequence[Part]) -> Part:
    if len(pieces) == 1:
        return pieces[0]
    return {name: type(first).merged([piece[name] for piece in pieces]) for name, first in pieces[0].items()}
