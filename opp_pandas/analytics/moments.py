"""States of the pipeline at several moments, and where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from opp_pandas.analytics.context import FigureContext
from opp_pandas.carrier import loaded_of
from opp_pandas.errors import ConfigurationError, HistoryNeededError, NotLoadedError

HOW_TO_START = (
    "one load knows the present only. Record snapshots: opp.History(DIR).record(df), or every night "
    "opp-pandas snapshot --history DIR; older ones come from opp_pandas.history.importers"
)


@runtime_checkable
class Snapshots(Protocol):
    """What figures ask of a history; `opp_pandas.History` is one."""

    def states(self, times: Iterable[Any], *, columns: Iterable[str] | None = None) -> Iterator[pd.DataFrame]:
        """Give the deals as they were known at several moments."""

    def diff(self, t0: Any, t1: Any = None, *, fields: Iterable[str] | None = None, net: bool = False) -> pd.DataFrame:
        """Log what changed between two moments."""

    def stage_entries(self, until: Any = None) -> pd.DataFrame:
        """List the stages that each deal entered."""


@dataclass(frozen=True, eq=False)
class State:
    """The deals at one moment, and what figures need beside them."""

    frame: pd.DataFrame
    context: FigureContext


def context_from_load(frame: pd.DataFrame) -> FigureContext:
    """Gather what figures need from what travels with a frame.

    Raises
    ------
    NotLoadedError
        If nothing does.
    """
    loaded = loaded_of(frame)
    if loaded is None:
        raise NotLoadedError(
            "this frame does not say of which moment it speaks: give context=(before, after), "
            "or use frames from read_opportunities, adopt or History.as_of"
        )
    return FigureContext(loaded.stages, loaded.as_of, loaded.timezone, loaded.lookups, loaded.currency)


def read_states(
    source: Any,
    times: Sequence[Any],
    *,
    context: FigureContext | tuple[FigureContext, FigureContext] | None,
    columns: Sequence[str],
    what: str,
) -> Iterator[State]:
    """Give the states that a figure compares.

    Parameters
    ----------
    source : History or pair of DataFrame
        Snapshots, or the deals before and after.
    times : sequence
        For snapshots: the moments.
    context : FigureContext or pair, optional
        What the stages mean and in which zone days begin; that of the loads if
        left out. For a pair of frames without a load: one each.
    columns : sequence of str
        What the figure reads, for snapshots that have it.
    what : str
        The figure's name.

    Raises
    ------
    HistoryNeededError
        If there is neither.
    """
    if isinstance(source, Snapshots):
        meaning = context[1] if isinstance(context, tuple) else context
        yield from (State(frame, _context(frame, meaning)) for frame in _chosen(source, times, columns))
        return
    if isinstance(source, pd.DataFrame) or source is None:
        raise HistoryNeededError(f"{what} compares two moments: pass a History, or (before, after). {HOW_TO_START}")
    frames = tuple(source)
    if len(frames) != 2 or not all(isinstance(frame, pd.DataFrame) for frame in frames):
        raise ConfigurationError(f"{what} takes a History or two frames: (before, after)")
    if isinstance(context, tuple):
        yield from (State(frame, own) for frame, own in zip(frames, context, strict=True))
    else:
        yield from (State(frame, _context(frame, context)) for frame in frames)


def _context(frame: pd.DataFrame, meaning: FigureContext | None) -> FigureContext:
    own = context_from_load(frame)
    if meaning is None:
        return own
    return FigureContext(
        meaning.stages, own.as_of, meaning.timezone, {**own.lookups, **meaning.lookups}, meaning.currency
    )


def _chosen(source: Snapshots, times: Sequence[Any], columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Read only the columns that are needed, as far as the history has them at its newest moment."""
    probe = next(iter(source.states([times[-1]])), None)
    have = [] if probe is None else [name for name in dict.fromkeys(columns) if name in probe.columns]
    return iter(source.states(times, columns=have))
