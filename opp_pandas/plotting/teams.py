"""Groups of people and accounts: win rates, coverage, roll-ups, concentration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas import figures
from opp_pandas.figures.core.basis import counted, known_basis
from opp_pandas.plotting import canvas as kit
from opp_pandas.plotting.descriptions import SAID, Nothing, draws, in_full, largest, listed, money

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAR_PAST_TARGET = 4.0


def _rates_in_words(table: pd.DataFrame, **_: Any) -> str:
    known = table[table["win_rate"].notna()]
    if not len(known):
        return Nothing("no deals were closed")
    names, rate = kit.row_names(known, "all deals"), known["win_rate"].to_numpy(dtype=float)
    low, high = known["win_rate_low"].to_numpy(dtype=float), known["win_rate_high"].to_numpy(dtype=float)
    closed = (known["won_count"] + known["lost_count"]).to_numpy()
    order = np.argsort(-closed, kind="stable")
    each = (f"{names[n]} {rate[n]:.0%} (interval {low[n]:.0%} to {high[n]:.0%}, n={closed[n]:,})" for n in order)
    return f"Win rate, most closed deals first: {listed(each, len(known))}."


@draws(figures.win_rates, _rates_in_words, "win_rate win_rate_low win_rate_high won_count lost_count")
def plot_win_rates(table: pd.DataFrame, ax: Axes | None = None, *, max_groups: int = 25) -> Axes:
    """Draw win rates with their intervals, one row per group, most closed deals first.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.figures.kpis` or `win_rates`.

    Returns
    -------
    Axes
        Rows stand by the number of closed deals, not by rate: intervals that
        overlap give no order.

    Examples
    --------
    >>> ax = df.opp.plot.win_rates(by="owner_name")
    """
    closed = table["won_count"].to_numpy() + table["lost_count"].to_numpy()
    order = np.argsort(-closed, kind="stable")
    order = order[closed[order] > 0]
    shown = table.iloc[order[:max_groups]]
    title = "Win rate with its interval"
    if len(order) > max_groups:
        title = f"Win rate of {max_groups} of {len(order)} groups, those with most closed deals"
    with kit.canvas(ax, table, title, height=min(max(1.8, 1.1 + 0.34 * len(shown)), 10.0)) as axes:
        rate = shown["win_rate"].to_numpy() * 100
        low, high = shown["win_rate_low"].to_numpy() * 100, shown["win_rate_high"].to_numpy() * 100
        y = np.arange(len(shown))
        # A rate of 0 or 100 % is a whole dot, too.
        axes.errorbar(rate, y, xerr=[rate - low, high - rate], fmt="o", color=kit.BLUE, capsize=3, clip_on=False)
        counts = closed[order[:max_groups]]
        names = kit.row_names(shown, "all deals")
        kit.name_rows(axes, [f"{name}  (n={n:,})" for name, n in zip(names, counts, strict=True)])
        axes.set_xlim(0, 100)
        axes.set_xlabel("win rate [%]")
        axes.grid(axis="x", color=kit.look_of(axes).faint, linewidth=0.8)
    return axes


def _coverage_in_words(table: pd.DataFrame, *, target: float | None = 3.0, **_: Any) -> str:
    known = table["coverage"].dropna().astype("float64") if "coverage" in table.columns else pd.Series(dtype="float64")
    if not len(known):
        return Nothing("no quota")
    finite = known[np.isfinite(known)]
    text = f"{int(np.isinf(known).sum())} of {counted(len(known), 'quota')} reached."
    if len(finite):
        text += f" Coverage of the others from {finite.min():,.2f} to {finite.max():,.2f}"
        text += "." if target is None else f", {int((finite >= target).sum())} at the target of {target:g} or above."
    return text


@draws(figures.kpis, _coverage_in_words, "quota coverage", name="coverage")
def plot_coverage(
    table: pd.DataFrame, ax: Axes | None = None, *, target: float | None = 3.0, max_rows: int = 25
) -> Axes:
    """Draw coverage: open pipeline over what is still to be won, one bar per row.

    Parameters
    ----------
    table : DataFrame
        A forecast or key figures with a quota.
    target : float or None, default 3.0
        A line to compare with [ratio].

    Returns
    -------
    Axes
        Bars of more than four targets are cut, and marked.

    Examples
    --------
    >>> ax = df.opp.plot.coverage(by="owner_name", quota=150_000)
    """
    known = table[table["coverage"].notna()]
    shown = known.iloc[:max_rows]
    title = "Coverage: open / (quota - won)"
    if len(known) > max_rows:
        title += f", the first {max_rows} of {len(known)}"
    with kit.canvas(ax, table, title, height=min(max(1.8, 1.1 + 0.34 * len(shown)), 10.0)) as axes:
        values = shown["coverage"].to_numpy(dtype=float)
        reached = np.isinf(values)
        finite = values[~reached]
        top = max(float(finite.max(initial=0)), target or 0, 1.0)
        # Next to a reached quota coverage grows without bounds: one such bar would flatten all others.
        limit = top if target is None else min(top, _FAR_PAST_TARGET * target)
        # A negative pipeline covers nothing: it has its number, and no bar.
        lengths = np.where(reached, 0, np.clip(values, 0, limit))
        y = np.arange(len(shown))
        axes.barh(y, lengths, 0.66, color=kit.BLUE)
        top = limit * 1.15
        for place in y:
            text = "reached" if reached[place] else f"{values[place]:,.2f}"
            if values[place] > limit and not reached[place]:
                text = f"▸ {text}"
            # On paper of its own, so that the line of the target does not strike the number out.
            paper = {"facecolor": kit.look_of(axes).paper, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
            axes.annotate(
                text, (lengths[place], place), (4, 0), textcoords="offset points", va="center", bbox=paper, zorder=4
            )
        kit.name_rows(axes, kit.row_names(shown, "all deals"))
        axes.set_xlim(0, top)
        axes.set_xlabel("coverage [ratio]" + (f" (▸ bars cut at {limit:g})" if (finite > limit).any() else ""))
        if target is not None:
            kit.add_legend(axes, [(f"target {target:g}", axes.axvline(target, color=kit.QUOTA, linewidth=1.5))])
    return axes


def _kpis_in_words(table: pd.DataFrame) -> str:
    parts = [f"Open {money(table['open_amount'], table)} in all."] if "open_amount" in table.columns else []
    parts.append(in_full(_rates_in_words(table)))
    return " ".join([*parts, *([_coverage_in_words(table)] if "coverage" in table.columns else [])])


SAID["kpis"] = _kpis_in_words


def _rollup_in_words(table: pd.DataFrame, *, measure: str = "forecast_amount", **_: Any) -> str:
    kit.require_columns(table, measure)
    if not len(table):
        return Nothing("no deals")
    text = f"{measure.replace('_', ' ').capitalize()} of {counted(len(table), 'row')}, largest first: "
    text += f"{largest(kit.row_names(table, 'all deals'), table[measure], table)}."
    if "delta" in table.columns and (table["delta"] != 0).any():
        text += f" {counted((table['delta'] != 0).sum(), 'row')} adjusted by a manager."
    return text


@draws(figures.rollup, _rollup_in_words)
def plot_rollup(
    table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "forecast_amount", max_rows: int = 30
) -> Axes:
    """Draw a roll-up: a bar per group or node, the people of a manager indented below.

    Parameters
    ----------
    measure : str, default "forecast_amount"
        Length of the bars; where a manager adjusted it, a mark shows the call.

    Examples
    --------
    >>> ax = df.opp.plot.rollup("owner_name", period="2026Q4")
    """
    shown = table.iloc[:max_rows]
    title = "Roll-up" + (f", the first {max_rows} of {len(table)} rows" if len(table) > max_rows else "")
    with kit.canvas(ax, table, title, height=min(max(1.8, 1.1 + 0.34 * len(shown)), 11.0)) as axes:
        values = shown[measure].to_numpy(dtype=float)
        y = np.arange(len(shown))
        level = shown["level"].to_numpy() if "level" in shown.columns else np.zeros(len(shown), dtype=int)
        names = [
            "   " * int(depth) + name for depth, name in zip(level, kit.row_names(shown, "all deals"), strict=True)
        ]
        axes.barh(y, values, 0.66, color=[kit.BLUE if depth == 0 else kit.SKY for depth in level])
        if "adjusted" in shown.columns and measure == known_basis(shown).get("arguments", {}).get("measure"):
            called = shown["delta"].to_numpy() != 0
            marks = axes.plot(shown["adjusted"].to_numpy()[called], y[called], "D", color=kit.VERMILION, markersize=6)
            kit.add_legend(axes, [("adjusted", marks)] if called.any() else [])
        kit.name_rows(axes, names)
        if "level" in shown.columns:
            # Indentation shows who reports to whom only if names start at one edge.
            for text in axes.get_yticklabels():
                text.set_horizontalalignment("left")
            # Measured, not counted: capitals are wider than most letters, and would end behind the bars.
            widest = max(text.get_window_extent().width for text in axes.get_yticklabels())
            figure = axes.get_figure(root=True)
            axes.tick_params(axis="y", pad=6 + widest * 72 / (100.0 if figure is None else figure.dpi))
        axes.axvline(0, color=kit.look_of(axes).ink, linewidth=0.8)
        kit.format_money(axes.xaxis, float(np.abs(values).max(initial=0)), table, what=measure.replace("_", " "))
    return axes


def _concentration_in_words(table: pd.DataFrame, **_: Any) -> str:
    if not len(table) or table["share"].isna().all():
        return Nothing("no open pipeline")
    names = kit.row_names(table, "all deals")
    text = f"{counted(len(table), 'group')}; {names[0]} holds {table['share'].iloc[0]:.0%}"
    few = min(5, len(table))
    return text + (f", the largest {few} hold {table['cumulative_share'].iloc[few - 1]:.0%}." if few > 1 else ".")


@draws(figures.concentration, _concentration_in_words, "amount share cumulative_share")
def plot_concentration(table: pd.DataFrame, ax: Axes | None = None, *, max_groups: int = 20) -> Axes:
    """Draw how much of the pipeline hangs on the largest groups.

    Examples
    --------
    >>> ax = df.opp.plot.concentration(by="owner_name")
    """
    shown = table.iloc[:max_groups]
    title = "Concentration" + (f", the largest {max_groups} of {len(table)}" if len(table) > max_groups else "")
    with kit.canvas(ax, table, title, height=min(max(1.8, 1.1 + 0.34 * len(shown)), 10.0)) as axes:
        y = np.arange(len(shown))
        axes.barh(y, shown["share"].to_numpy() * 100, 0.66, color=kit.BLUE)
        line = axes.plot(shown["cumulative_share"].to_numpy() * 100, y, "o-", color=kit.ORANGE, markersize=4)
        kit.name_rows(axes, kit.row_names(shown, "all deals"))
        axes.set_xlim(0, 103)
        axes.set_xlabel("share [%]")
        kit.add_legend(axes, [("cumulative", line)])
    return axes
