"""What a period will bring, what other methods say of it, and how such forecasts did before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas import forecasting
from opp_pandas.figures.core.basis import counted, known_basis
from opp_pandas.plotting import canvas as kit
from opp_pandas.plotting.deals import bookings_in_words
from opp_pandas.plotting.descriptions import Nothing, chance, draws, listed, money

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_PARTS = {"won": ("won to date", kit.WON), "open": ("open deals", kit.OPEN), "new": ("new deals", kit.SKY)}
_FAN = ((0.9, 0.2), (0.8, 0.4), (0.5, 0.8))
"""Interval and how dark it is drawn, the widest first."""


def _prediction_in_words(result: Any, *, quota: float | None = None, **_: Any) -> str:
    if not max(result.interval(0.9)[1], result.mean, quota or 0.0) > 0:
        return Nothing("nothing is expected to be won")
    names = {"won": "won to date", "open": "from open deals", "new": "from new deals"}
    shown = ((part, mean) for part, mean in result.parts["mean"].items() if part == "open" or mean > 0)
    each = [f"{money(mean, result)} {names[part]}" for part, mean in shown]
    return f"{bookings_in_words(result, quota=quota)} Parts: {', '.join(each)}. Method {kit.label_of(result.method)}."


@draws(forecasting.predict, _prediction_in_words)
def plot_predict(result: Any, ax: Axes | None = None, *, quota: float | None = None) -> Axes:
    """Draw what a period will bring: its parts one after the other, and the fan of the whole against a quota.

    Parameters
    ----------
    quota : float, optional
        A line, and the chance of reaching it [currency].

    Returns
    -------
    Axes
        Won to date, open deals and new deals lie end to end and add up to the
        mean; below them the intervals of 50, 80 and 90 % within each other. The
        sentence below the axis says how often such an interval held before.

    Examples
    --------
    >>> ax = df.opp.plot.predict(horizon_days=90, quota=400_000)
    """
    with kit.canvas(ax, result, str(known_basis(result).get("title", "Prediction")), height=3.6) as axes:
        look = kit.look_of(axes)
        intervals = {level: result.interval(level) for level, _ in _FAN}
        top = max(intervals[0.9][1], result.mean, quota or 0.0)
        shown = [name for name in result.parts.index if name == "open" or result.parts.loc[name, "mean"] > 0]
        left, names = 0.0, []
        for place, name in enumerate(shown):
            title, colour = _PARTS[name]
            deals, mean = (float(result.parts.loc[name, column]) for column in ("deals", "mean"))
            axes.barh(place, mean, 0.6, left=left, color=colour)
            left += mean
            axes.vlines(left, place + 0.3, place + 0.7, colors=look.notes, linewidth=0.8)
            number = f"{deals:,.0f}" if name == "won" else f"{deals:,.1f}"
            names.append(f"{title}\n{kit.write_short(mean)}, {number} deals")
        row = len(shown)
        legend: list[tuple[str, Any]] = []
        for level, dark in _FAN:
            low, high = intervals[level]
            fan = axes.barh(row, high - low, 0.6, left=low, color=kit.BLUE, alpha=dark, linewidth=0)
            legend.append((f"{level:.0%} interval".replace("%", " %"), fan))
        legend.append(("mean", axes.vlines(result.mean, row - 0.4, row + 0.4, colors=look.ink, linewidth=1.5)))
        if quota is not None:
            words = f"quota: {chance(result.p_at_least(quota))} chance"
            legend.append((words, axes.axvline(quota, color=kit.QUOTA, linewidth=2)))
        axes.set_yticks(range(row + 1), [*names, f"all together\n{kit.write_short(result.mean)}"], parse_math=False)
        axes.set_ylim(row + 0.6, -0.6)
        axes.set_xlim(0, 1.05 * top)
        kit.format_money(axes.xaxis, top, result, what="won")
        kit.write_below(axes, result.tested)
        kit.add_legend(axes, legend[::-1])
    return axes


def _comparison_in_words(table: pd.DataFrame, **_: Any) -> str:
    known = table[table["mean"].notna()]
    if not len(known):
        return Nothing("no method has anything to go by")
    each = []
    for name, row in known.iterrows():
        mean, low, high = (money(row[column], table) for column in ("mean", "low_80", "high_80"))
        each.append(f"{kit.label_of(str(name).replace('_', ' '))} {mean} ({low} to {high})")
    verdict = known_basis(table).get("verdict", "")
    return f"80 % intervals of {counted(len(known), 'method')}: {'; '.join(each)}. {verdict.capitalize()}."


@draws(forecasting.compare, _comparison_in_words, "mean low_80 high_80 wape crps_share coverage_80")
def plot_compare(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what each method says of the coming period with its 80 % interval, and how it did before.

    Returns
    -------
    Axes
        The mix is dark, naive methods are grey, others blue. On the right stand
        the error (WAPE), the score (CRPS as a share of what came: lower is
        better) and how often the 80 % interval held in past windows. A method
        that has nothing to go by is named there.

    Examples
    --------
    >>> ax = df.opp.plot.compare(horizon_days=90, methods=["last_window"])
    """
    basis = known_basis(table)
    with kit.canvas(
        ax, table, str(basis.get("title", "Methods")), height=min(max(2.4, 1.5 + 0.34 * len(table)), 10.0)
    ) as axes:
        look = kit.look_of(axes)
        mean, low, high = (table[name].to_numpy(dtype=float) for name in ("mean", "low_80", "high_80"))
        known = np.isfinite(mean)
        y = np.arange(len(table))
        for place in np.flatnonzero(known).tolist():
            name = str(table.index[place])
            colour = look.ink if name == "mix" else kit.GREY if name in forecasting.NAIVE else kit.BLUE
            reach = np.array([[mean[place] - low[place]], [high[place] - mean[place]]])
            axes.errorbar(mean[place], y[place], xerr=reach.clip(min=0), fmt="o", color=colour, capsize=3, linewidth=2)
        quota = basis.get("arguments", {}).get("quota")
        top = max(float(np.nanmax(high)), quota or 0.0)
        if quota is not None:
            axes.axvline(quota, color=kit.QUOTA, linewidth=2)
        kit.name_rows(axes, [kit.label_of(str(name).replace("_", " ")) for name in table.index])
        axes.set_xlim(left=min(0.0, float(np.nanmin(low))))
        axes.grid(visible=True, axis="x", linewidth=0.5)
        line = "" if quota is None else f"; the line: quota {kit.write_short(quota)}"
        kit.format_money(axes.xaxis, top, table, what=f"won, with 80 % interval{line}")
        facts = ["wape", "crps_share", *([] if basis.get("few_windows") else ["coverage_80"])]
        headings = ["WAPE", "CRPS", "80 % held"][: len(facts)]
        if quota is not None:
            facts, headings = [*facts, "p_quota"], [*headings, "quota reached"]
        right = axes.secondary_yaxis("right")
        right.set_yticks(y, [_facts_of(row, facts) for row in table.to_dict("records")])
        right.tick_params(length=0, labelsize=8, labelcolor=look.notes)
        right.set_ylabel(" · ".join(headings), color=look.notes, size=8)
        kit.write_below(axes, str(basis.get("verdict", "")))
    return axes


def _facts_of(row: Mapping[Any, Any], names: list[str]) -> str:
    if not np.isfinite(row["mean"]):
        return "nothing to go by"
    return " · ".join("-" if np.isnan(row[name]) else f"{row[name]:.0%}" for name in names)


def _record_in_words(result: Any, **_: Any) -> str:
    table = result.windows
    if not len(table):
        return Nothing(f"no past window; {result.tested}")
    inside = int(((table["low_80"] <= table["actual"]) & (table["actual"] <= table["high_80"])).sum())
    first, last = table["as_of"].iloc[0], table["as_of"].iloc[-1]
    text = f"{counted(len(table), 'window')} from {first:%Y-%m-%d} to {last:%Y-%m-%d}: "
    forecast, came = (money(table[name].mean(), result) for name in ("forecast", "actual"))
    text += f"{forecast} forecast on average, {came} came; {inside} inside the 80 % interval"
    return f"{text}: {result.tested}."


@draws(forecasting.predict, _record_in_words, name="track_record")
def plot_track_record(result: Any, ax: Axes | None = None) -> Axes:
    """Draw past windows: the interval that was forecast from what was known before each, and what came.

    Returns
    -------
    Axes
        A line per window over the 80 % interval with a dash at the mean; what
        came is a point inside of it, a cross outside.

    Examples
    --------
    >>> ax = df.opp.plot.track_record(horizon_days=90)
    """
    table, days = result.windows, known_basis(result).get("arguments", {}).get("horizon_days")
    with kit.canvas(ax, result, f"Past windows of {days} days, method {kit.label_of(result.method)}") as axes:
        x = table["as_of"].to_numpy()
        low, high, mean, came = (
            table[name].to_numpy(dtype=float) for name in ("low_80", "high_80", "forecast", "actual")
        )
        inside = (low <= came) & (came <= high)
        legend: list[tuple[str, Any]] = [
            ("80 % interval", axes.vlines(x, low, high, colors=kit.SKY, linewidth=5)),
            ("forecast", axes.plot(x, mean, "_", color=kit.BLUE, markersize=8, markeredgewidth=2)),
        ]
        for rows, mark, colour, word in (
            (inside, "o", kit.look_of(axes).ink, "inside"),
            (~inside, "X", kit.VERMILION, "outside"),
        ):
            if rows.any():
                points = axes.plot(x[rows], came[rows], mark, color=colour, markersize=6, linestyle="none")
                legend.append((f"actual, {word}: {int(rows.sum())}", points))
        top = max(float(high.max()), float(came.max()))
        axes.set_ylim(min(0.0, float(low.min())), 1.05 * top)
        kit.write_days_below(axes, minticks=3, maxticks=7)
        kit.format_money(axes.yaxis, top, result, what="won")
        axes.set_xlabel("last day known before the window")
        kit.write_below(axes, result.tested)
        kit.add_legend(axes, legend)
    return axes


def _weights_in_words(result: Any, **_: Any) -> str:
    if not (result.weights > 0.005).any(axis=None):
        return Nothing("the mix has no rows")
    last, first = result.weights.iloc[-1], result.weights.iloc[0]
    order = last.sort_values(ascending=False, kind="stable").index
    each = (
        f"{kit.label_of(str(name).replace('_', ' '))} {last[name]:.0%} (at first {first[name]:.0%})" for name in order
    )
    return f"Weights on {result.weights.index[-1]:%Y-%m-%d}: {listed(each, len(order))}."


@draws(forecasting.predict, _weights_in_words, name="mix_weights")
def plot_mix_weights(result: Any, ax: Axes | None = None) -> Axes:
    """Draw what the mix was made of on each evening: how far each row was trusted, by its scores up to then.

    Returns
    -------
    Axes
        Layers that add up to 100 %; the last evening is that of the forecast. With
        one evening only, bars.

    Examples
    --------
    >>> ax = df.opp.plot.mix_weights(horizon_days=90)
    """
    weights = result.weights.loc[:, (result.weights > 0.005).any()]
    with kit.canvas(ax, result, "What the mix is made of") as axes:
        shares = weights.to_numpy(dtype=float).T * 100
        names = [kit.label_of(str(name).replace("_", " ")) for name in weights]
        colours = [kit.PALETTE[list(result.weights).index(name) % len(kit.PALETTE)] for name in weights]
        now = [f"{name}, now {share[-1]:.0f} %" for name, share in zip(names, shares, strict=True)]
        if len(weights) == 1:
            axes.barh(names, shares[:, 0], 0.6, color=colours)
            axes.invert_yaxis()
            axes.set_xlim(0, 100)
            axes.set_xlabel("weight [%]")
            return axes
        layers = axes.stackplot(weights.index.to_numpy(), shares, colors=colours)
        axes.set_ylim(0, 100)
        axes.margins(x=0)
        axes.set_ylabel("weight [%]")
        kit.write_days_below(axes, minticks=3, maxticks=7)
        axes.set_xlabel("evening of the forecast")
        kit.add_legend(axes, [*zip(now, layers, strict=True)][::-1])
    return axes
