"""How long deals stay in a stage and where they go from it, from a history of entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, HistoryNeededError, MissingColumnError
from opp_pandas.figures.core.basis import tell
from opp_pandas.figures.core.days import NO_INSTANT, instants_of
from opp_pandas.figures.core.deals import Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.snapshots import HOW_TO_START, keys_in_scope, keys_of
from opp_pandas.figures.survival import aalen_johansen, kaplan_meier, time_at

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes, Integers

_DAY_US = 86_400_000_000
WAYS = ("advanced", "back", "lost")
_DEFINITIONS = {
    "entries": "times that a deal entered the stage, each re-entry too",
    "left": "of these, how many have left it",
    "still": "of these, how many are still in it: censored at as_of",
    "median_days": "Kaplan-Meier median of the days in the stage, whatever came next",
    "advanced": "Aalen-Johansen share that goes on to a later stage or is won",
    "back": "Aalen-Johansen share that goes back to an earlier stage",
    "lost": "Aalen-Johansen share that is lost from here",
}


def read_entries(history: Any, context: FigureContext, what: str) -> pd.DataFrame:
    """Return the entries of a history, or of a frame of them, as far as they were known at ``as_of``."""
    if hasattr(history, "stage_entries"):
        entries: pd.DataFrame = history.stage_entries(context.as_of)
        inside = keys_in_scope(history, context)
        return entries if inside is None else entries[keys_of(entries, unique=False).isin(inside).to_numpy()]
    if not isinstance(history, pd.DataFrame):
        raise HistoryNeededError(f"{what} needs to know which stages each deal passed and when. {HOW_TO_START}")
    missing = [] if {"id", "custom_id"} & set(history.columns) else ["id"]
    missing += [] if {"stage_id", "stage_name"} & set(history.columns) else ["stage_id"]
    missing += [] if "entered_at" in history.columns else ["entered_at"]
    if missing:
        raise MissingColumnError(missing, list(history.columns), "A history has id, stage_id and entered_at.")
    values, per_second = instants_of(history["entered_at"])
    until = int(context.as_of.timestamp() * 1_000_000)
    known: pd.DataFrame = history[(values != NO_INSTANT) & (values // per_second * 1_000_000 <= until)]
    return known


_SPELLS = {
    "days": "left_at, or as_of, - entered_at",
    "way": "advanced, back or lost, by the stage entered next; missing: still there",
    "unseen_days": "first time the deal was seen - its creation, for a first stay that nobody saw begin",
}


_ARGUMENTS = """
history : History or DataFrame
    Snapshots, imported events, or a frame with ``id``, ``stage_id`` or
    ``stage_name`` and ``entered_at``, a row per entry.
context : FigureContext
    Stages, and the moment until which stays are followed.
"""


@figure(heading="Stays in stages", definitions=_SPELLS, arguments=_ARGUMENTS)
def stage_spells(history: Any, *, context: FigureContext) -> pd.DataFrame:
    """List every stay of a deal in a stage.

    Returns
    -------
    DataFrame
        In order of deal and time: ``id`` and ``custom_id`` where known,
        ``stage_name``, ``entered_at``, ``left_at`` (missing: still there), and
        ``seen_before`` (the deal was already there when it was first seen,
        nobody knows since when, so the days are too few). A deal that was first
        seen in the first stage has been there since its creation.

    Examples
    --------
    >>> df.opp.stage_spells(history)[["id", "stage_name", "way", "seen_before"]].head(3)
       id stage_name       way  seen_before
    0   1   Discover  advanced         True
    1   1    Propose  advanced        False
    2   2    Qualify  advanced        False
    """
    entries = read_entries(history, context, "a time in stage")
    table = context.stages.frame
    deals = Deals(entries, context)
    order, key, at = _in_order(entries)
    stage = deals.stage[order]
    status = np.append(context.stages.status, ["unknown", "unknown"])[stage]
    last = np.ones(len(key), dtype=bool)
    last[:-1] = key[1:] != key[:-1]
    until = int(context.as_of.timestamp() * 1_000_000)
    left = np.where(last, until, np.append(at[1:], until))
    next_stage, next_status = np.append(stage[1:], -1), np.append(status[1:], "unknown")
    onward = (next_status == "won") | ((next_status == "open") & (next_stage > stage))
    way = np.where(onward, "advanced", np.where(next_status == "lost", "lost", "back")).astype(object)
    way[last] = None
    seen_before = np.zeros(len(key), dtype=bool)
    if "seen_before" in entries.columns:
        seen_before = entries["seen_before"].to_numpy(dtype=bool)[order]
    begun = at.copy()
    if "created_at" in entries.columns:
        created = _micros(entries["created_at"])[order]
        is_first_stage = stage == int(np.argmax(context.stages.status == "open"))
        since_creation = seen_before & is_first_stage & (created != NO_INSTANT) & (created <= at)
        begun[since_creation] = created[since_creation]
        seen_before = seen_before & ~since_creation
    names = np.append(table["stage_name"].to_numpy(dtype=object), [None, None])[stage]
    columns: dict[str, Any] = {
        name: entries[name].array.take(order) for name in ("id", "custom_id") if name in entries.columns
    }
    columns |= {
        "stage_name": pd.array(names, dtype="str"),
        "entered_at": pd.DatetimeIndex(begun.view("datetime64[us]")).tz_localize("UTC"),
        "left_at": pd.DatetimeIndex(np.where(last, NO_INSTANT, left).view("datetime64[us]")).tz_localize("UTC"),
        "days": (left - begun) / _DAY_US,
        "way": pd.array(way, dtype="str"),
        "seen_before": seen_before,
        "unseen_days": (at - begun) / _DAY_US,
    }
    # A stay in a closed stage has no end to wait for.
    spells: pd.DataFrame = pd.DataFrame(columns)[status == "open"].reset_index(drop=True)
    return spells


def _micros(instants: pd.Series) -> Integers:
    return instants.astype("datetime64[us, UTC]").to_numpy(dtype="datetime64[us]").view(np.int64)


def _in_order(entries: pd.DataFrame) -> tuple[Codes, Codes, Integers]:
    """Return the order of deals and time, and in that order the deal of every entry and its moment [microseconds]."""
    key, at = pd.factorize(keys_of(entries, unique=False))[0], _micros(entries["entered_at"])
    order = np.lexsort((at, key))
    return order, key[order], at[order]


def _followed(spells: pd.DataFrame) -> pd.DataFrame:
    """Keep the stays whose beginning is known and that were followed for some time."""
    kept: pd.DataFrame = spells[~spells["seen_before"] & (spells["days"] > spells["unseen_days"])]
    return kept


@figure(definitions=_DEFINITIONS, arguments=_ARGUMENTS)
def time_in_stage(
    history: Any, *, context: FigureContext, quantiles: Sequence[float] = (0.5, 0.75, 0.9)
) -> pd.DataFrame:
    """Compute how long deals stay in each open stage, and where they go from it.

    Parameters
    ----------
    quantiles : sequence of float, default (0.5, 0.75, 0.9)
        Shares of stays.

    Returns
    -------
    DataFrame, shape (s, 6 + q)
        Indexed by ``stage_name``, every open stage in order. By Kaplan-Meier,
        deals that are still there are censored, and those that were there
        before they were first seen at risk from then on (left truncation).
        Stays whose beginning nobody knows are left out and counted. NaN where
        too few were seen to end.

    Examples
    --------
    >>> df.opp.time_in_stage(history, quantiles=[0.5])[["entries", "still", "median_days", "advanced", "lost"]]
                entries  still  median_days  advanced      lost
    stage_name
    Qualify          74     28    77.964324  0.600387  0.296750
    Discover         27     14    82.601586  0.336694  0.663306
    Propose          27     13    82.856255  0.722611  0.195804
    Negotiate        19     10    80.301943  0.870977  0.000000
    """
    if not all(0 < share < 1 for share in quantiles):
        raise ConfigurationError(f"quantiles lie between 0 and 1, not {list(quantiles)}")
    spells = stage_spells(history, context=context)
    whole = _followed(spells)
    rows = []
    stages = context.stages.frame
    names = list(stages.loc[stages["status"] == "open", "stage_name"])
    for name in names:
        own = whole[whole["stage_name"] == name]
        ended = int(own["way"].notna().sum())
        km = kaplan_meier(own["days"], own["way"].notna(), own["unseen_days"])
        aj = aalen_johansen(own["days"], own["way"], own["unseen_days"], causes=WAYS)
        names_of = {share: "median_days" if share == 0.5 else f"p{share * 100:g}_days" for share in quantiles}
        times = {name: time_at(km, share) for share, name in names_of.items()}
        shares = {name: float(aj[name].iloc[-1]) if len(aj) else float("nan") for name in WAYS}
        rows.append({"entries": len(own), "left": ended, "still": len(own) - ended, **times, **shares})
    table = pd.DataFrame(rows, index=pd.Index(names, name="stage_name", dtype="str"))
    n_before, n_late = int(spells["seen_before"].sum()), int((whole["unseen_days"] > 0).sum())
    truncated = "in the first stage taken from the deal's creation, counted from when it was first seen"
    return time_in_stage.result(
        table,
        context,
        n=keys_of(whole, unique=False).nunique(),
        n_stays=len(whole),
        n_seen_before=n_before,
        n_left_truncated=n_late,
        history="events" if isinstance(history, pd.DataFrame) else "snapshots",
        arguments={"quantiles": list(quantiles)},
        notes=tell(
            (n_before, "stay", "had begun before the deal was first seen: left out"),
            (n_late, "stay", f"{truncated} (left truncation)"),
        ),
    )


_CURVES = {
    "at_risk": "stays of at least so many days, first seen before",
    "still": "Kaplan-Meier: product of (1 - ended / at risk)",
    "advanced": "Aalen-Johansen: sum of still before x advanced / at risk",
    "back": "Aalen-Johansen: sum of still before x gone back / at risk",
    "lost": "Aalen-Johansen: sum of still before x lost / at risk",
}


@figure(heading="Curves of each stage", definitions=_CURVES, arguments=_ARGUMENTS)
def step_curves(history: Any, *, context: FigureContext) -> pd.DataFrame:
    """Compute, for every open stage, the share that has gone on, back or was lost by each day.

    Returns
    -------
    DataFrame
        Indexed by ``stage_name`` and ``days``: a row for every day on which a
        stay ended.

    Examples
    --------
    >>> df.opp.step_curves(history).round(2).tail(3)
                           at_risk  still  advanced  back  lost
    stage_name days
    Negotiate  80.301943         4   0.39      0.61   0.0   0.0
               96.537208         3   0.26      0.74   0.0   0.0
               109.489952        2   0.13      0.87   0.0   0.0
    """
    spells = _followed(stage_spells(history, context=context))
    parts = {}
    for name in context.stages.frame.loc[context.stages.frame["status"] == "open", "stage_name"]:
        own = spells[spells["stage_name"] == name]
        if len(own):
            curve = aalen_johansen(own["days"], own["way"], own["unseen_days"], causes=WAYS)
            parts[name] = curve.rename(columns={"survival": "still"})
    if not parts:
        empty = pd.MultiIndex.from_arrays([[], []], names=["stage_name", "days"])
        return pd.DataFrame(columns=["at_risk", "still", *WAYS], index=empty, dtype="float64")
    curves: pd.DataFrame = pd.concat(parts, names=["stage_name", "days"])
    return curves


_CHAIN = {
    "won": "chance of being won in the end: (I - Q)^-1 R, column won",
    "lost": "chance of being lost in the end: (I - Q)^-1 R, column lost",
    "expected_days": "days until then: row sum of (I - Q)^-1 x step_days",
}


@figure(heading="Markov chain of stages", definitions=_CHAIN, arguments=_ARGUMENTS)
def stage_chain(
    history: Any, *, context: FigureContext, step_days: float = 7.0, smoothing: float = 0.0
) -> pd.DataFrame:
    """Treat the pipeline as a Markov chain: where a deal in each stage ends, and after how long.

    Parameters
    ----------
    step_days : float, default 7
        Length of one step [days].
    smoothing : float, default 0
        Transitions that were not seen, added to every row, spread evenly.

    Returns
    -------
    DataFrame
        Indexed by ``stage_name``, open stages in order, with ``deal_steps``
        that were seen in the stage, and ``to <stage>``, the chances of one
        step. NaN where a stage was never seen, or no end can be reached from it.

    Notes
    -----
    A chain has no memory: how long a deal has been in its stage does not
    matter to it. `time_in_stage` shows whether that is so.

    Examples
    --------
    >>> df.opp.stage_chain(history)[["won", "lost", "expected_days"]]
                     won      lost  expected_days
    stage_name
    Qualify     0.520930  0.479070     194.540310
    Discover    0.484211  0.515789     116.212281
    Propose     0.789474  0.210526     121.302632
    Negotiate   1.000000  0.000000      64.750000
    """
    if step_days <= 0 or smoothing < 0:
        raise ConfigurationError("step_days must be above 0, and smoothing 0 or more")
    entries = read_entries(history, context, "a chain of stages")
    names, counts = _step_counts(entries, context, step_days)
    n = len(names)
    counts += smoothing / (n + 2)
    seen = counts.sum(axis=1)
    chances = np.divide(counts, seen[:, None], out=np.full_like(counts, np.nan), where=seen[:, None] > 0)
    # From which stages won or lost can be reached.
    usable = counts[:, n:].sum(axis=1) > 0
    for _ in range(n):
        usable |= ((counts[:, :n] > 0) & usable).any(axis=1)
    stays, ends = chances[np.ix_(usable, np.flatnonzero(usable))], chances[usable][:, n:]
    fundamental = np.linalg.inv(np.eye(int(usable.sum())) - stays) if usable.any() else np.empty((0, 0))
    result = np.full((n, 3), np.nan)
    if usable.any():
        result[usable, :2] = fundamental @ ends
        result[usable, 2] = fundamental.sum(axis=1) * step_days
    columns = {"won": result[:, 0], "lost": result[:, 1], "expected_days": result[:, 2], "deal_steps": seen}
    for place, name in enumerate([*names, "won", "lost"]):
        columns[f"to {name}"] = chances[:, place]
    table = pd.DataFrame(columns, index=pd.Index(names, name="stage_name", dtype="str"))
    return stage_chain.result(
        table,
        context,
        n=keys_of(entries, unique=False).nunique(),
        n_entries=len(entries),
        history="events" if isinstance(history, pd.DataFrame) else "snapshots",
        arguments={"step_days": step_days, "smoothing": smoothing},
        notes=["a chain without memory; compare its expected_days with time_in_stage"],
    )


def _step_counts(entries: pd.DataFrame, context: FigureContext, step_days: float) -> tuple[list[str], Any]:
    """Count, over the deals and their steps, from which open stage to which stage, won or lost."""
    stages = context.stages.frame
    is_open = (stages["status"] == "open").to_numpy()
    names = [str(name) for name in stages["stage_name"][is_open]]
    n = len(names)
    state = np.full(len(stages) + 2, -1, dtype=np.intp)
    state[: len(stages)][is_open] = np.arange(n)
    state[: len(stages)][(stages["status"] == "won").to_numpy()] = n
    state[: len(stages)][(stages["status"] == "lost").to_numpy()] = n + 1
    order, key, at = _in_order(entries)
    path = state[Deals(entries, context).stage[order]]
    until = context.as_of.timestamp() * 1_000_000
    counts = np.zeros((n, n + 2))
    step = step_days * _DAY_US
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1])) if len(key) else np.empty(0, dtype=np.intp)
    for start, stop in zip(starts, np.append(starts[1:], len(key)), strict=True):
        moments = at[start] + step * np.arange(int((until - at[start]) // step) + 1)
        seen = path[start:stop][np.searchsorted(at[start:stop], moments, side="right") - 1]
        closed = np.flatnonzero(seen >= n)
        # Won and lost absorb: what comes after the first of them is another story.
        seen = seen[: closed[0] + 1] if len(closed) else seen
        known = (seen[:-1] >= 0) & (seen[1:] >= 0)
        np.add.at(counts, (seen[:-1][known], seen[1:][known]), 1)
    return names, counts
