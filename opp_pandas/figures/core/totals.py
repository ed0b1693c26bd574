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
from functools import cached_property
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

    def add(self, name: str, into: Codes, size: int, chosen: Flags | Codes | slice = slice(None)) -> npt.NDArray[Any]:
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


@dataclass(frozen=True, eq=False)
class Totals:
    """Counts and sums of kinds by row of a table."""

    cells: Tally
    kinds: Sequence[int]
    """The kind of every layer; -1: in no sum."""
    rows: Codes
    """The row of every cell."""
    size: int
    """Number of rows."""

    @cached_property
    def _chosen(self) -> dict[tuple[int, ...], Codes | slice]:
        return {}

    def of(self, quantity: str, *kinds: int) -> npt.NDArray[Any]:
        """Add one quantity over some kinds, by row."""
        if kinds not in self._chosen:
            chosen = np.isin(self.kinds, kinds)[self.cells.layer]
            self._chosen[kinds] = slice(None) if chosen.all() else np.flatnonzero(chosen)
        return self.cells.add(quantity, self.rows, self.size, self._chosen[kinds])

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
    """Count the deals of every cell and sum their amounts; what is missing is counted, never taken as 0.

    `table`, of shape (STANDINGS,) or (STANDINGS, s), has the layer of the deals of every standing,
    and of every slot of time of the close date where it depends on that; -1: they are in no cell.
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
    addends = Addends.of(deals)
    if size <= max(65_536, len(deals)):
        sums = addends.into(cells_of, size)
        ids = np.flatnonzero(sums["count"][: len(layers) * width] > 0)
        sums = {name: values[ids] for name, values in sums.items()}
    else:
        # More possible cells than deals: bring those of a cell together.
        ids, sums = addends.sorted(cells_of, size)
        some = np.searchsorted(ids, len(layers) * width)
        ids, sums = ids[:some], {name: values[:some] for name, values in sums.items()}
    layer, *places = take_apart(ids, [axis.size for axis, _ in groupings])
    return Tally(tuple(axis for axis, _ in groupings), places, tuple(layers), layer, sums, addends.unit)


@dataclass(frozen=True, eq=False)
class Addends:
    """What every deal adds to the sums of its cell."""

    amount: npt.NDArray[Any]
    unit: int
    percent: npt.NDArray[Any]
    gaps: Mapping[str, Flags | None]
    """Which amounts and percentages are missing, by the name of their count; None: none is."""

    @classmethod
    def of(cls, deals: Deals) -> Addends:
        """Read them; what whole numbers of 64 bits cannot hold is summed as floats."""
        amounts, percents = deals.amounts, deals.percents
        highest = max(map(abs, amounts.limits)) * amounts.unit * len(deals)
        if highest * 100 >= _MOST:
            highest = float(np.abs(amounts.values.astype(np.float64)).sum())
        whole = highest < _MOST
        amount, unit = (amounts.values, amounts.unit) if whole else (amounts.values / amounts.unit, 1)
        percent = percents.values
        if amount.dtype.kind == "i" and (percent.dtype.kind != "i" or highest * max(percents.limits) >= _MOST):
            percent = percent.astype(np.float64)
        return cls(amount, unit, percent, {"missing_amount": amounts.missing, "missing_percent": percents.missing})

    def into(self, cells_of: Callable[[slice], Codes], size: int) -> dict[str, npt.NDArray[Any]]:
        """Add them up in `size` cells, a block of deals at a time."""
        wide = np.dtype(np.int64 if self.amount.dtype.kind == "i" else np.float64)
        dtypes = {"amount": wide, "product": np.result_type(wide, self.percent)}
        sums = {name: np.zeros(size, dtype=dtypes.get(name, np.int64)) for name in ("count", *dtypes, *self.gaps)}
        for rows in blocks(len(self.amount)):
            cells, addends = cells_of(rows), self.amount[rows].astype(wide, copy=False)
            np.add.at(sums["count"], cells, 1)
            np.add.at(sums["amount"], cells, addends)
            np.add.at(sums["product"], cells, addends * self.percent[rows])
            for name, missing in self.gaps.items():
                if missing is not None:
                    np.add.at(sums[name], cells[np.flatnonzero(missing[rows])], 1)
        return sums

    def sorted(self, cells_of: Callable[[slice], Codes], size: int) -> tuple[Codes, dict[str, npt.NDArray[Any]]]:
        """Return the cells that occur, in order, and their sums: deals of a cell are brought together first."""
        n = len(self.amount)
        bits, keys = n.bit_length(), np.empty(n, dtype=np.intp)
        if size << bits < 2**63:
            # Numbers are sorted several times as fast as places by their numbers.
            for rows in blocks(n):
                keys[rows] = (cells_of(rows) << bits) | np.arange(rows.start, rows.stop)
            keys.sort()
            order, cells = keys & ((1 << bits) - 1), keys >> bits
        else:
            order = np.argsort(cells_of(slice(None)), kind="stable")
            cells = cells_of(slice(None))[order]
        is_new = np.append(True, cells[1:] != cells[:-1])[:n]
        ids, places = cells[np.flatnonzero(is_new)], np.cumsum(is_new) - 1
        gaps = {name: None if missing is None else missing.take(order) for name, missing in self.gaps.items()}
        together = Addends(self.amount.take(order), self.unit, self.percent.take(order), gaps)
        return ids, together.into(places.__getitem__, len(ids))


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
