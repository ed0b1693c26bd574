"""States of the pipeline at several moments, which deals of them are meant, and how deals are matched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, HistoryNeededError, NotLoadedError, named
from opp_pandas.figures.core.columns import read_mask
from opp_pandas.figures.core.context import FigureContext, settle_context
from opp_pandas.figures.core.days import parse_day, to_date
from opp_pandas.frame_state import meaning_of
from opp_pandas.instants import parse_end

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Flags
    from opp_pandas.figures.core.periods import Periods

HOW_TO_START = (
    "One load knows the present only. Record snapshots: opp.History(DIR).record(df), or every night "
    "opp-pandas snapshot --history DIR; older ones come from opp_pandas.history.importers"
)
STATE_COLUMNS = (
    "id", "custom_id", "name", "amount", "amount_precise", "currency_type", "probability", "close_date", "created_at",
    "external_created_at", "stage_id", "stage_name", "owner_id", "owner_name", "trashed_at", "forecast_category",
)  # fmt: skip
"""What figures that compare moments read of a history."""


@runtime_checkable
class Snapshots(Protocol):
    """What figures ask of a history; `opp_pandas.History` is one."""

    def states(self, times: Iterable[Any], *, columns: Iterable[str] | None = None) -> Iterator[pd.DataFrame]:
        """Return the deals as they were known at several moments."""

    def diff(self, t0: Any, t1: Any = None, *, fields: Iterable[str] | None = None, net: bool = False) -> pd.DataFrame:
        """Log what changed between two moments."""

    def stage_entries(self, until: Any = None) -> pd.DataFrame:
        """List the stages that each deal entered."""

    def snapshots(self) -> pd.DataFrame:
        """List the snapshots, with ``observed_at``, oldest first."""

    def columns(self) -> list[str]:
        """Name the columns that any of them had."""

    def caveats(self) -> tuple[str, ...]:
        """Describe in sentences what is lost of the past."""


class UntilNow:
    """Snapshots whose last moment is a frame at hand, unsaved edits included."""

    def __init__(self, history: Snapshots, frame: pd.DataFrame) -> None:
        self._history, self.frame = history, frame
        self.diff, self.stage_entries = history.diff, history.stage_entries
        self.snapshots, self.caveats = history.snapshots, history.caveats

    def states(self, times: Iterable[Any], *, columns: Iterable[str] | None = None) -> Iterator[pd.DataFrame]:
        """Return the deals as they were known at all moments but the last, and then the frame."""
        yield from self._history.states(list(times)[:-1], columns=columns)
        yield self.frame

    def columns(self) -> list[str]:
        """Name the columns that both have."""
        return [name for name in self._history.columns() if name in self.frame.columns]


@dataclass(frozen=True, eq=False)
class Scope:
    """Which deals of any moment's frame are meant.

    The load's own conditions can be evaluated on any past state. Rows chosen in pandas afterwards
    hold by id: of a deal that was deleted before the load nobody knows whether it would have been
    among them, so it stays outside and is counted.
    """

    words: str
    """Which they are, for a basis."""
    conditions: Callable[[pd.DataFrame], Any] | None = None
    """The load's conditions: from a frame to a mask."""
    keys: frozenset[Any] | None = None
    """The deals that were chosen in pandas; None: all that the load brought."""
    judged: frozenset[Any] | None = None
    """The deals that the load brought; of others nobody knows."""
    chosen: Callable[[pd.DataFrame], Any] | None = None
    """A function of the user's, from a frame to a mask."""

    @property
    def reads_keys_only(self) -> bool:
        """Whether it looks at no column but those that tell deals apart."""
        return self.conditions is None and self.chosen is None

    def mask(self, frame: pd.DataFrame) -> Flags:
        """Return which deals of a moment are in scope."""
        inside = np.ones(len(frame), dtype=bool)
        if self.conditions is not None:
            inside &= read_mask(self.conditions(frame), frame, "the conditions of the load")
        if self.keys is not None and len(frame):
            inside &= keys_of(frame).isin(self.keys).to_numpy()
        if self.chosen is not None:
            # A comparison with a missing cell is missing: that deal is outside.
            inside &= read_mask(self.chosen(frame), frame, "scope=")
        return inside

    def n_not_judged(self, frame: pd.DataFrame) -> int:
        """Count the deals of a moment that fit the load, of which nobody knows whether they are meant."""
        if self.keys is None or self.judged is None or not len(frame):
            return 0
        unknown = ~keys_of(frame).isin(self.judged).to_numpy()
        return int((unknown & replace(self, keys=None).mask(frame)).sum())


@dataclass(frozen=True, eq=False)
class State:
    """The deals at one moment, and what figures need beside them."""

    frame: pd.DataFrame
    context: FigureContext
    is_load: bool = False
    """Whether it is a load rather than a state of a history: a deal outside its conditions is then simply not there."""

    @cached_property
    def in_scope(self) -> Flags:
        """Which of the deals the figure speaks of."""
        scope = self.context.scope
        return np.ones(len(self.frame), dtype=bool) if scope is None else scope.mask(self.frame)

    @cached_property
    def scoped(self) -> State:
        """The same moment with the deals in scope only."""
        return self if self.context.scope is None else State(self.frame[self.in_scope], self.context, self.is_load)

    @property
    def n_not_judged(self) -> int:
        """Deals of which nobody knows whether they are in scope."""
        return 0 if self.context.scope is None else self.context.scope.n_not_judged(self.frame)


def caveats_of(*sources: Any) -> list[str]:
    """Return what is lost of the past that the sources of a figure know: frames, pairs of frames, histories."""
    found: list[str] = []
    for source in sources:
        if isinstance(source, pd.DataFrame):
            meaning = meaning_of(source)
            found += () if meaning is None else meaning.caveats
        elif isinstance(source, Snapshots):
            found += source.caveats()
        elif isinstance(source, tuple | list):
            found += caveats_of(*source)
    return list(dict.fromkeys(found))


def later_of(context: FigureContext | tuple[FigureContext, FigureContext]) -> FigureContext:
    """Return the context of the later of two moments."""
    return context[1] if isinstance(context, tuple) else context


def context_from_load(frame: pd.DataFrame) -> FigureContext:
    """Gather what figures need from what travels with a frame."""
    load = meaning_of(frame)
    if load is None:
        raise NotLoadedError(
            "this frame does not say of which moment it speaks: give context=(before, after), "
            "or use frames from read_opportunities, adopt or History.as_of"
        )
    return settle_context(load, ())


def contexts_of(source: Any, what: str) -> FigureContext | tuple[FigureContext, FigureContext]:
    """Gather what figures over time need from the loads that they compare, or from the newest snapshot."""
    if isinstance(source, Snapshots):
        have = source.columns()
        return context_from_load(next(iter(source.states([None], columns=have[:1] or None))))
    before, after = pair_of(source, what)
    return context_from_load(before), context_from_load(after)


def pair_of(source: Any, what: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the frames before and after."""
    if isinstance(source, pd.DataFrame) or source is None:
        raise HistoryNeededError(
            f"{what.replace('_', ' ')} compares moments: pass a History, or (before, after). {HOW_TO_START}"
        )
    frames = tuple(source)
    if len(frames) != 2 or not all(isinstance(frame, pd.DataFrame) for frame in frames):
        raise ConfigurationError(f"{what} takes a History or two frames: (before, after)")
    return frames


def read_states(
    source: Any,
    times: Sequence[Any],
    *,
    context: FigureContext | tuple[FigureContext, FigureContext],
    columns: Sequence[str],
    what: str,
) -> Iterator[State]:
    """Return the states that a figure compares: snapshots at `times`, or the deals before and after.

    The context says what the stages mean, in which zone days begin, and which deals
    are in scope; for a pair of frames there may be one each. `columns` are those that
    the figure reads, where a history has them; `what` is its name.
    """
    if not isinstance(source, Snapshots):
        frames = pair_of(source, what)
        if isinstance(context, tuple):
            yield from (State(frame, own, is_load=True) for frame, own in zip(frames, context, strict=True))
        else:
            yield from (State(frame, _context(frame, context), is_load=True) for frame in frames)
        return
    meaning = later_of(context)
    # A history reads a day in the zone of its loads; here days begin in that of the context.
    times = [None if t is None else parse_end(t, meaning.timezone, "time") for t in times]
    # What a scope looks at, nobody knows beforehand.
    wanted = columns if meaning.scope is None or meaning.scope.reads_keys_only else ()
    at_hand = source.frame if isinstance(source, UntilNow) else None
    yield from (State(frame, _context(frame, meaning), frame is at_hand) for frame in _chosen(source, times, wanted))


def _context(frame: pd.DataFrame, meaning: FigureContext) -> FigureContext:
    own = context_from_load(frame)
    lookups = {**own.lookups, **meaning.lookups}
    return replace(meaning, as_of=own.as_of, lookups=lookups, organisation_then=own.organisation)


def _chosen(source: Snapshots, times: Sequence[Any], columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Read only the columns that are needed, as far as the history has them; all where none are named."""
    have = set(source.columns())
    return iter(source.states(times, columns=[name for name in dict.fromkeys(columns) if name in have] or None))


def read_span(
    history: Any, w0: int, w1: int, since: Any, until: Any, context: FigureContext
) -> tuple[Any, Any, list[str]]:
    """Settle from when to when a period is looked at, and what a reader should know of it.

    Left out, it is from the end of the day before the period, or from the first
    snapshot where that came later, until the period's last day, or the newest
    snapshot where that came earlier.
    """
    start, end = to_date(w0 - 1) if since is None else since, to_date(w1) if until is None else until
    notes: list[str] = []
    if isinstance(history, Snapshots) and len(history.snapshots()):
        observed = history.snapshots()["observed_at"]
        zone = context.timezone
        if until is None and observed.max() < parse_end(end, zone):
            end = observed.max()
        if since is None and parse_end(start, zone) < observed.min():
            start = observed.min()
            notes.append(f"the history begins within the period, at {start:%Y-%m-%d %H:%M} UTC: since then")
    return start, end, notes


def vanished_deals(history: Snapshots, context: FigureContext, columns: Sequence[str] = ()) -> pd.DataFrame | None:
    """Return the deals that were gone for good by as_of, as they were last seen; None if there are none."""
    observed = history.snapshots()["observed_at"]
    if not len(observed) or context.as_of <= observed.min():
        return None
    log = history.diff(observed.min(), context.as_of, fields=["id"])
    log = log[log["action"].isin(["appeared", "gone", "returned"])].reset_index(drop=True)
    keys = keys_of(log, unique=False)
    gone = (log["action"] == "gone") & ~keys.duplicated(keep="last")
    if not gone.any():
        return None
    moments = sorted(log.loc[gone, "observed_at"].unique())
    frames = _chosen(history, [pd.Timestamp(at) - pd.Timedelta(microseconds=1) for at in moments], columns)
    parts = []
    for at, frame in zip(moments, frames, strict=True):
        wanted = set(keys[gone & (log["observed_at"] == at)])
        part = frame[keys_of(frame).isin(wanted).to_numpy()].copy(deep=False)
        part.attrs = {}
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def keys_in_scope(history: Any, context: FigureContext) -> frozenset[Any] | None:
    """Return what tells the deals in scope apart, those included that are gone; None: all are in scope.

    A deal belongs where it is in scope as it stands, or as it was last seen.
    """
    scope = context.scope
    if scope is None or scope.reads_keys_only:
        return None if scope is None else scope.keys
    if not isinstance(history, Snapshots):
        return scope.keys if scope.keys is not None else scope.judged
    found = set() if scope.chosen is not None or scope.judged is None else set(scope.judged)
    for frame in (next(iter(history.states([context.as_of]))), vanished_deals(history, context)):
        if frame is not None:
            found |= set(keys_of(frame)[scope.mask(frame)])
    return frozenset(found)


def parse_window(period: Any, periods: Periods) -> tuple[int, int, str]:
    """Read a period as its first and last day number, and its name."""
    if isinstance(period, tuple | list):
        if len(period) != 2:
            raise ConfigurationError("period= is a name such as '2026Q3', or a pair: first and last day")
        first, last = parse_day(period[0]), parse_day(period[1])
        if last < first:
            raise ConfigurationError(f"the period ends before it begins: {period[0]} to {period[1]}")
        return first, last, f"{to_date(first):%Y-%m-%d} to {to_date(last):%Y-%m-%d}"
    if isinstance(period, pd.Period):
        periods = periods.but(freq=period.freqstr)
    ordinal = periods.parse(period)
    return *periods.span(ordinal), str(periods.label(ordinal))


def keys_of(frame: pd.DataFrame, *, unique: bool = True) -> pd.Series:
    """Return what tells deals apart: the id, else the custom id; raise where a row has neither, or two have one."""
    n = len(frame)
    keys = pd.Series([None] * n, dtype=object)
    if "custom_id" in frame.columns:
        keys = frame["custom_id"].astype(object).reset_index(drop=True)
        keys = keys.map(lambda text: ("custom", text), na_action="ignore")
    if "id" in frame.columns:
        ids = frame["id"].astype(object).reset_index(drop=True)
        if not pd.api.types.is_numeric_dtype(frame["id"].dtype):
            # A file may have kept them as text: the same deals all the same.
            ids = ids.map(lambda key: int(key) if isinstance(key, str) and key.isdecimal() else key)
        keys = ids.where(ids.notna(), keys)
    if keys.isna().any():
        raise FrameError(
            f"{int(keys.isna().sum())} deals have neither id nor custom_id, so they cannot be followed: "
            f"rows {named(frame.index[keys.isna().to_numpy()])}"
        )
    if unique and keys.duplicated().any():
        raise FrameError(f"a deal stands twice: {named(keys[keys.duplicated()].unique())}; keep one row of each")
    return keys


def resolve_scope(scope: Any, base: Scope | None, frame: pd.DataFrame | None) -> Scope:
    """Settle ``scope=``: a function replaces what the frame says, a mask chooses rows of the frame."""
    if isinstance(scope, Scope):
        return scope
    if callable(scope):
        name = getattr(scope, "__name__", "function")
        return Scope(f"scope= (a function, {name}), evaluated at every moment", chosen=scope)
    if frame is None:
        raise ConfigurationError(
            f"scope= is a function from frame to mask, or a mask of the frame, not {type(scope).__name__}"
        )
    rows = read_mask(scope, frame, "scope=")
    judged = None if base is None else base.judged
    words = f"scope= (a mask of {int(rows.sum()):,} rows of the frame), by id"
    return Scope(words, keys=frozenset(keys_of(frame[rows])), judged=judged or frozenset(keys_of(frame)))
