"""What was known at a moment: the only way by which a forecast sees the past.

`Past` holds what a frame says of its deals on one day: those that existed, with
later closings blank. `Past.known(day)` is the same seen from an earlier day, so
that a forecast that would have been made then can be made again and scored.
Exposure to winning and losing is counted once per calendar day and kept: many
views of one past cost little more than one.

Closings may be recorded only from some day on: deals that closed before are in
no file, and those that were open then were survivors (delayed entry, or left
truncation). The first day under observation is given or inferred, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, named
from opp_pandas.figures.core.basis import counted
from opp_pandas.figures.core.columns import factorize
from opp_pandas.figures.core.days import NO_DAY, Codes, Days, Flags, Floats, to_date
from opp_pandas.figures.core.deals import LOST, OPEN, WON, Deals
from opp_pandas.frame_state import loaded_of
from opp_pandas.resource import COLUMN_DTYPES

if TYPE_CHECKING:
    from opp_pandas.forecasting.past_touches import PastTouches

FAR = int(np.iinfo(np.int32).max // 2)
"""The closing day of a deal that is still open: later than every day asked for."""

AGE_EDGES = np.array(
    [0, 4, 8, 15, 22, 31, 46, 61, 76, 91, 121, 151, 181, 241, 301, 366, 541, 731, 1_096], dtype=np.int64
)
"""Ages at which bands begin [days]; the last has no end."""

MOST_LEVELS = 64
"""Levels of one column that are told apart, in the order in which they first occur; the rest are taken together."""

MONTH_PLACES = 4
CALENDAR_PLACES = 3 * MONTH_PLACES

SIZE = "size of amount"
"""The name of the column that is made of the amounts: powers of two."""

NEVER_KNOWN_EARLY = frozenset({
    "stage_name", "stage_id", "stage_order", "stage_is_closed", "probability", "forecast_category", "id", "name",
    "next_step", "custom_id", "trashed_at", "lost_reason", "currency_type", "health_category", "stage",
})  # fmt: skip


Stated = Callable[["Past", Sequence[int]], dict[int, "Snapshot"]]


def calendar_places(days: npt.NDArray[np.int64]) -> Codes:
    """Return the position of days in their month and quarter, as one code.

    Positions in the month are its first five days, the middle, the week before
    the last three days, and those; positions in the quarter are its months.
    """
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    from_start = (dates - months.astype("datetime64[D]")).astype(np.int64)
    to_end = ((months + np.timedelta64(1, "M")).astype("datetime64[D]") - dates).astype(np.int64) - 1
    place = np.where(to_end < 3, 3, np.where(to_end < 10, 2, np.where(from_start < 5, 0, 1)))
    return np.asarray(months.astype(np.int64) % 3 * MONTH_PLACES + place, dtype=np.intp)


@dataclass(frozen=True, eq=False)
class Column:
    """A column that is known when a deal is created: the level of every deal, and what the levels are called."""

    codes: Codes
    labels: tuple[str, ...]

    def __eq__(self, other: object) -> bool:
        """Whether all deals have the same levels."""
        if not isinstance(other, Column):
            return NotImplemented
        return self.labels == other.labels and np.array_equal(self.codes, other.codes)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Exposure:
    """Deals at risk and closings by calendar day, level of a column and age band.

    Parameters
    ----------
    first : int
        The day of the first row.
    at_risk, wins, losses : ndarray of float32, shape (days, levels, bands)
        How many deals were open at the beginning of the day, won and lost on it.
    """

    first: int
    at_risk: npt.NDArray[np.float32]
    wins: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float32]

    @cached_property
    def places(self) -> Codes:
        """The place of every day in its month and quarter."""
        return calendar_places(self.first + np.arange(len(self.at_risk)))

    @classmethod
    def count(cls, past: Past, codes: Codes, levels: int) -> Exposure:
        """Count them."""
        first, last, bands = past.first_day, past.day, len(AGE_EDGES)
        days, width = last - first + 1, levels * bands
        start = np.maximum(past.created, first).astype(np.int64)
        stop = np.minimum(past.closed, last).astype(np.int64)
        seen = stop >= start
        created, start, stop, level = past.created[seen].astype(np.int64), start[seen], stop[seen], codes[seen]
        begin = np.maximum(start[:, None], created[:, None] + AGE_EDGES)
        finish = np.minimum(stop[:, None] + 1, created[:, None] + np.append(AGE_EDGES[1:], 1 << 40))
        inside = finish > begin
        cell = (level[:, None] * bands + np.arange(bands))[inside]
        size = (days + 1) * width
        change = np.bincount((begin[inside] - first) * width + cell, minlength=size)
        change = change - np.bincount((finish[inside] - first) * width + cell, minlength=size)
        shape = (days, levels, bands)
        at_risk = np.cumsum(change.reshape(days + 1, width), axis=0)[:days].reshape(shape)
        ended, won = past.closed[seen] <= last, past.won[seen]
        place = (stop - first) * width + level * bands + np.searchsorted(AGE_EDGES, stop - created, side="right") - 1
        tables = (np.bincount(place[ended & one], minlength=days * width).reshape(shape) for one in (won, ~won))
        return cls(first, at_risk.astype(np.float32), *(table.astype(np.float32) for table in tables))


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What was stated of the deals that were open on an evening, in the order of `Known.open`.

    Parameters
    ----------
    p : ndarray of float, shape (n,)
        Probability (0 to 1); NaN where none was stated.
    close : ndarray of int, shape (n,)
        Close date as a day number; `NO_DAY` where none.
    amount : ndarray of float, shape (n,)
        Amount [currency]; NaN where missing.
    stage : ndarray of int, shape (n,)
        Place of the stage; -1 where unknown.
    stage_days : ndarray of float, shape (n,)
        Days in it; NaN where unknown.
    """

    p: Floats
    close: npt.NDArray[np.int64]
    amount: Floats
    stage: Codes
    stage_days: Floats


@dataclass(frozen=True, eq=False)
class Past:
    """Deals as arrays of calendar days, as they were known on the evening of one day.

    Parameters
    ----------
    day : int
        That day.
    created, closed : ndarray of int32, shape (n,)
        Days; `closed` is `FAR` where a deal was open.
    won : ndarray of bool, shape (n,)
        Whether its closing was a win; False where it was open.
    amount : ndarray of float, shape (n,)
        Amount [currency]; NaN where missing or not known while a deal is open.
    rows : ndarray of int, shape (n,)
        Position of each deal in the frame.
    columns : mapping of str to Column
        What may tell deals apart.
    observed_from : int
        First day from which closings were recorded.
    stated_amounts : bool
        Whether open deals have amounts of their own.
    notes : tuple of str
        What a reader should know of it.
    left_out : mapping of str to str
        Columns that cannot be used, and why.
    stated : function, optional
        Gives the snapshots of several evenings, where a history kept them.
    touched : PastTouches, optional
        What was done on the deals, where activity is known.
    """

    day: int
    created: Days
    closed: Days
    won: Flags
    amount: Floats
    rows: Codes
    columns: Mapping[str, Column] = field(default_factory=dict)
    observed_from: int = NO_DAY
    stated_amounts: bool = True
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    stated: Stated | None = None
    touched: PastTouches | None = None
    _tables: dict[str, Exposure] = field(default_factory=dict, repr=False)

    @cached_property
    def first_day(self) -> int:
        """The first day on which a deal was under observation."""
        return max(int(self.created.min()), self.observed_from)

    def known(self, day: int) -> Known:
        """Return what was known by the evening of `day`.

        Raises
        ------
        ConfigurationError
            If that is later than what this past knows.
        """
        if day > self.day:
            raise ConfigurationError(f"what is known ends on {to_date(self.day):%Y-%m-%d}")
        return Known(self, day)

    def exposure(self, name: str) -> Exposure:
        """Return exposure and closings by level of a column; "" takes all deals together."""
        if name not in self._tables:
            codes = self.columns[name].codes if name else np.zeros(len(self.created), dtype=np.intp)
            self._tables[name] = Exposure.count(self, codes, len(self.columns[name].labels) if name else 1)
        return self._tables[name]


@dataclass(frozen=True, eq=False)
class Known:
    """What was known by the evening of a day."""

    past: Past
    day: int

    @cached_property
    def open(self) -> Codes:
        """Positions of the deals that were open."""
        return np.flatnonzero((self.past.created <= self.day) & (self.past.closed > self.day))

    @cached_property
    def ages(self) -> npt.NDArray[np.int64]:
        """Their ages [days]."""
        return self.day - self.past.created[self.open].astype(np.int64)

    def levels(self, name: str) -> Codes:
        """Their levels of a column."""
        return self.past.columns[name].codes[self.open] if name else np.zeros(len(self.open), dtype=np.intp)

    def won_between(self, first: int, last: int, *, created_by: int = FAR) -> float:
        """Return the amount won on days `first` to `last` by deals created by a day.

        Raises
        ------
        ConfigurationError
            If the view does not reach so far.
        """
        if last > self.day:
            raise ConfigurationError("what is won after a view's day is not known in it")
        past = self.past
        rows = past.won & (past.closed >= first) & (past.closed <= last) & (past.created <= created_by)
        return float(np.nansum(past.amount[rows]))

    def mean_won(self, name: str, k: float = 5.0) -> Floats:
        """Return the mean amount of a won deal by level of a column, each pulled to that of all [currency]."""
        past = self.past
        codes = past.columns[name].codes if name else np.zeros(len(past.created), dtype=np.intp)
        levels = len(past.columns[name].labels) if name else 1
        rows = past.won & (past.closed <= self.day) & ~np.isnan(past.amount)
        amount = past.amount[rows]
        overall = float(amount.mean()) if len(amount) else 0.0
        n = np.bincount(codes[rows], minlength=levels)
        return np.asarray((np.bincount(codes[rows], amount, minlength=levels) + k * overall) / (n + k))

    def amounts(self, name: str, snapshot: Snapshot | None = None) -> Floats:
        """Return what each open deal would bring: its own amount, else the mean of won deals of its level.

        Parameters
        ----------
        name : str
            The column.
        snapshot : Snapshot, optional
            Amounts as they stood that evening; else those that the deals have by now.
        """
        guessed = self.mean_won(name)[self.levels(name)]
        if snapshot is None and not self.past.stated_amounts:
            return guessed
        own = self.past.amount[self.open] if snapshot is None else snapshot.amount
        return np.where(np.isnan(own), guessed, own)


def read_past(
    deals: Deals,
    *,
    day: int | None = None,
    observed_from: int | None = None,
    segments: Sequence[str] | None = None,
    stated: Stated | None = None,
) -> Past:
    """Return what was known of a frame's deals on a day: the as-of view from created and closed dates alone.

    Parameters
    ----------
    deals : Deals
        The frame, read.
    day : int, optional
        Day number; that of the context's `as_of` if left out.
    observed_from : int, optional
        First day from which closings were recorded; inferred if left out.
    segments : sequence of str, optional
        Columns that tell deals apart; all that may, if left out.
    stated : function, optional
        As in `Past`.

    Raises
    ------
    FrameError
        If no deal has a creation date.
    """
    day = deals.context.today if day is None else day
    status, created = deals.status, deals.created_day
    deals.need("close_date", hint="A forecast learns from created and closed dates.")
    close = np.where(deals.close_day == NO_DAY, FAR, deals.close_day)
    ended = np.isin(status, (WON, LOST)) & (close <= deals.context.today)
    dated = created != NO_DAY
    known = np.isin(status, (OPEN, WON, LOST)) & dated & (ended | (status == OPEN) | (close < FAR))
    if not known.any():
        raise FrameError(
            "a forecast learns from created and closed dates, and no deal has a creation date. "
            + _how_to_have_dates(deals.frame)
        )
    # What the file is like is no news of the future: that a column is filled at the end is true of every day.
    over = np.isin(status, (WON, LOST))
    own_amounts = _amounts_are_stated(deals, over, known)
    columns, left_out = _read_columns(deals, over, known, segments)
    undated = int((np.isin(status, (OPEN, WON, LOST)) & ~dated).sum())
    notes = [f"{counted(undated, 'deal')} without a creation date left out"] if undated else []
    notes += [f"column {name!r} is not used: {why}" for name, why in left_out.items()]
    rows = np.flatnonzero(known)
    return build_past(
        day,
        created[rows],
        np.where(ended, close, FAR)[rows],
        status[rows] == WON,
        deals.amount[rows],
        {name: column[rows] for name, column in columns.items()},
        rows=rows,
        observed_from=observed_from,
        stated_amounts=own_amounts,
        by_size=segments is None,
        notes=notes,
        left_out=left_out,
        stated=stated,
    )


def build_past(
    day: int,
    created: Days,
    closed: Days,
    won: Flags,
    amount: Floats,
    columns: Mapping[str, npt.NDArray[np.object_]],
    *,
    rows: Codes | None = None,
    observed_from: int | None = None,
    stated_amounts: bool = True,
    by_size: bool = True,
    notes: Sequence[str] = (),
    left_out: Mapping[str, str] | None = None,
    stated: Stated | None = None,
) -> Past:
    """Return what was known of deals on a day, from arrays of calendar days.

    Parameters
    ----------
    day : int
        The evening; what was created or closed later is blanked.
    created, closed, won, amount
        As in `Past`, of all deals.
    columns : mapping of str to ndarray of object, shape (n,)
        What may tell them apart.
    rows : ndarray of int, optional
        Their positions in the frame.
    observed_from, stated_amounts, notes, left_out, stated
        As in `Past`; the first inferred if left out.
    by_size : bool, default True
        Whether the amount itself may tell them apart.

    Raises
    ------
    FrameError
        If no deal existed by then.
    """
    order = np.flatnonzero(created <= day)
    order = order[np.argsort(created[order], kind="stable")]
    if not len(order):
        raise FrameError(f"no deal was created by {to_date(day):%Y-%m-%d}: nothing can be learned")
    created, end, amount = created[order], closed[order], amount[order].copy()
    closed = np.where(end <= day, np.maximum(end, created), FAR).astype(np.int32)
    won = won[order] & (closed < FAR)
    coded = {name: _code(column, order) for name, column in columns.items()}
    if stated_amounts and by_size and (amount > 0).any():
        powers = np.where(amount > 0, np.floor(np.log2(np.where(amount > 0, amount, 1.0))), -1.0)
        coded[SIZE] = _code(powers.astype(np.int64).astype(str), np.arange(len(order)))
    if not stated_amounts:
        amount[closed == FAR] = np.nan
    said = []
    start = _infer_start(created, closed, day) if observed_from is None else observed_from
    if start != NO_DAY:
        words = "closings are taken as recorded since" if observed_from is None else "closings are recorded since"
        said.append(f"{words} {to_date(start):%Y-%m-%d}; deals that were open then count from that day on")
    if not stated_amounts:
        said.append("open deals have no amounts of their own: each takes the mean of the deals won before")
    positions = order if rows is None else rows[order]
    notes = (*said, *notes)
    return Past(
        day, created, closed, won, amount, positions, coded, start, stated_amounts, notes, left_out or {}, stated
    )


def _how_to_have_dates(frame: pd.DataFrame) -> str:
    """Return what to do about creation dates, with the first column of the file's own that holds dates."""
    loaded = loaded_of(frame)
    if loaded is not None and loaded.kind == "read":
        return "Load them as well: opp.read_opportunities(client, fields=[..., 'created_at'])"
    likely = "Opened"
    for name in frame.columns.difference(list(COLUMN_DTYPES), sort=False)[::-1]:
        cells = frame[name].dropna().head(100).astype(str)
        if len(cells) and cells.str.match(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b").all():
            likely = name
    return f"Name the column that holds them: opp.adopt(frame, columns={{{likely!r}: 'external_created_at'}})"


def _amounts_are_stated(deals: Deals, ended: Flags, known: Flags) -> bool:
    """Whether amounts stand there before the end: open and lost deals have them about as often as won ones."""
    positive = deals.amount > 0
    won = ended & (deals.status == WON)
    others = [known & ~ended, ended & (deals.status == LOST)]
    usual = positive[won].mean() if won.any() else 1.0
    return all(positive[rows].mean() >= 0.5 * usual for rows in others if rows.sum() >= 10)


def _read_columns(
    deals: Deals, ended: Flags, known: Flags, segments: Sequence[str] | None
) -> tuple[dict[str, npt.NDArray[np.object_]], dict[str, str]]:
    """Find the columns that may tell deals apart, and say why others that look like it may not."""
    frame, found, left_out = deals.frame, {}, {}
    if segments is not None:
        deals.need(*segments, hint="segments= names columns of the frame.")
    still_open = np.flatnonzero(known & ~ended)
    for name in frame.columns if segments is None else segments:
        if segments is None and (name in NEVER_KNOWN_EARLY or not _is_label(frame[name])):
            continue
        codes, labels = factorize(frame[name])
        if len(labels) < 2 or len(labels) > max(MOST_LEVELS, 0.02 * len(frame)):
            continue
        why = why_not_known_early(np.asarray(codes), deals.status == WON, ended, known)
        why = why or why_filled_late(deals, frame[name], still_open)
        if why and segments is None:
            left_out[str(name)] = why
            continue
        words = np.array([*(str(label) for label in labels), "(missing)"], dtype=object)
        found[str(name)] = words[codes]
    return found, left_out


def _is_label(column: pd.Series) -> bool:
    dtype = column.dtype
    return bool(
        pd.api.types.is_bool_dtype(dtype)
        or isinstance(dtype, pd.CategoricalDtype | pd.StringDtype)
        or (pd.api.types.is_object_dtype(dtype) and pd.api.types.infer_dtype(column, skipna=True) == "string")
    )


def why_not_known_early(codes: npt.NDArray[np.integer], won: Flags, ended: Flags, known: Flags) -> str:
    """Return why a column cannot have been known while its deals were open; "" if nothing speaks against it.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Its values, -1 where missing.
    won, ended, known : ndarray of bool, shape (n,)
        Which deals were won, have ended, and are known at all.
    """
    is_open, missing = known & ~ended, codes < 0
    if min(is_open.sum(), ended.sum()) >= 10:
        shares = missing[is_open].mean(), missing[ended].mean()
        if abs(shares[0] - shares[1]) > 0.3:
            return f"it is missing on {shares[0]:.0%} of open deals and on {shares[1]:.0%} of closed ones"
        size = int(codes.max()) + 2
        apart = np.bincount(codes[is_open] + 1, minlength=size) / is_open.sum()
        apart = np.abs(apart - np.bincount(codes[ended] + 1, minlength=size) / ended.sum()).sum() / 2
        if apart > 0.6:
            return f"its values differ between open and closed deals for {apart:.0%} of them"
    wins, losses = ended & won, ended & ~won
    if min(wins.sum(), losses.sum()) >= 10:
        if abs(missing[wins].mean() - missing[losses].mean()) > 0.3:
            return f"it is missing on {missing[wins].mean():.0%} of won deals and {missing[losses].mean():.0%} of lost"
        size = int(codes.max()) + 2
        by_level = np.minimum(
            np.bincount(codes[wins] + 1, minlength=size), np.bincount(codes[losses] + 1, minlength=size)
        )
        if size <= 0.2 * ended.sum() and by_level.sum() <= 0.02 * ended.sum():
            return "it tells won from lost deals without error"
    return ""


def why_filled_late(deals: Deals, column: pd.Series, still_open: Codes) -> str:
    """Return why a column is filled as its deals go on, so that closed ones show what open ones cannot; "" if not so.

    Parameters
    ----------
    deals : Deals
    column : Series, shape (n,)
        One of its columns.
    still_open : ndarray of int
        Positions of the open deals: those in later stages and the older ones are compared with the others.
    """
    cells = column.iloc[still_open]
    filled = (cells.notna() & ~cells.astype(object).isin([""])).to_numpy(dtype=bool)
    if filled.all():
        return ""
    for come in (deals.stage[still_open], deals.context.today - deals.created_day[still_open].astype(np.int64)):
        middle = np.median(come) if len(come) else 0
        # Where most stand in one place, the others are compared with them.
        further = come > middle if (come > middle).sum() >= 20 else come >= middle
        early, late = filled[~further], filled[further]
        if min(len(early), len(late)) < 20:
            continue
        chance = np.sqrt(filled.mean() * (1 - filled.mean()) * (1 / len(early) + 1 / len(late)))
        if late.mean() - early.mean() > max(0.1, 4 * chance):
            shares = f"{early.mean():.0%} of open deals that began, and on {late.mean():.0%} of those further on"
            return f"it is filled on {shares}"
    return ""


def _code(values: npt.NDArray[np.object_], rows: Codes) -> Column:
    codes, labels = pd.factorize(values[rows])
    kept = [str(label) for label in labels[:MOST_LEVELS]]
    if len(labels) > MOST_LEVELS:
        kept[-1] = "(others)"
    return Column(np.minimum(codes, MOST_LEVELS - 1).astype(np.intp), tuple(kept))


def _infer_start(created: Days, closed: Days, day: int) -> int:
    """Find the first day from which closings were recorded, where many that must have happened before are missing."""
    ended = closed < FAR
    if ended.sum() < 20:
        return NO_DAY
    first = int(created.min())
    length = day - first + 1
    bands = len(AGE_EDGES)
    table = Exposure.count(
        Past(day, created, closed, ended, np.zeros(len(created)), np.arange(len(created))),
        np.zeros(len(created), dtype=np.intp),
        1,
    )
    risk, events = table.at_risk.reshape(length, bands), table.wins.reshape(length, bands)
    for start in range(first, int(np.quantile(closed[ended], 0.05)) + 1)[::-1]:
        cut = start - first
        if cut < 7:
            break
        rate = events[cut:].sum(0) / np.maximum(risk[cut:].sum(0), 1.0)
        missed, recorded = float(risk[:cut].sum(0) @ rate), float(events[:cut].sum())
        if missed > 10 and recorded < 0.1 * missed:
            # The first days with closings belong to what is recorded.
            days = np.flatnonzero(events[:cut].sum(axis=1) >= 0.5 * np.maximum(risk[:cut] @ rate, 1e-9))
            days = days[days >= cut - 14]
            return first + int(days[0]) if len(days) else start
    return NO_DAY


def describe_columns(past: Past) -> str:
    """Return the columns that tell deals apart, in words."""
    return named(list(past.columns)) if past.columns else "none"
