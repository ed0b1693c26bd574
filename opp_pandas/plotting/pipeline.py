"""Forecasts, categories and stages."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from opp_pandas import figures
from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.figures.core.basis import counted, known_basis
from opp_pandas.plotting import canvas as kit
from opp_pandas.plotting.descriptions import Nothing, draws, largest, listed, money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes


MAX_STAGES = 30
Layer: TypeAlias = tuple[str, Any, dict[str, Any]]
"""What a part of a column is called, its height in every column, and how it looks."""


def _forecast_in_words(
    table: pd.DataFrame, *, measure: str | None = None, interval: pd.DataFrame | None = None, note: str = "", **_: Any
) -> str:
    kit.require_columns(table, *([] if measure is None else [measure]))
    if not len(table):
        return Nothing("no open or won deals")
    periods = table.index.get_level_values(0)
    distinct = list(dict.fromkeys(kit.label_of(period) for period in periods))
    span = distinct[0] if len(distinct) == 1 else f"{len(distinct)} periods, {distinct[0]} to {distinct[-1]}"
    if table.index.nlevels > 1 or measure is not None:
        column = measure or "forecast_amount"
        text = f"{span}. {column.replace('_', ' ').capitalize()} {money(table[column], table)} in all"
        if table.index.nlevels > 1:
            names = [" · ".join(str(part) for part in key[1:]) for key in table.index]
            sums = table[column].groupby(np.array(names, dtype=object), sort=False).sum()
            text += f", by {counted(len(sums), 'group')}: {largest(sums.index, sums, table)}"
        return text + "." + _quota_in_words(table)
    parts = {"won_amount": "won", "open_amount": "open", "weighted_amount": "of it weighted"}
    said = ", ".join(f"{money(table[column], table)} {name}" for column, name in parts.items())
    best = int(np.argmax(np.nan_to_num(table["forecast_amount"].to_numpy(dtype=float), nan=-np.inf)))
    return (
        f"{span}: {said}. Forecast {money(table['forecast_amount'], table)} in all; "
        f"most in {kit.label_of(periods[best])}, {money(table['forecast_amount'].iloc[best], table)}."
        + _quota_in_words(table)
        + _interval_in_words(table, interval, note)
    )


def _interval_in_words(table: pd.DataFrame, interval: pd.DataFrame | None, note: str) -> str:
    if interval is None or not len(interval):
        return ""
    kit.require_columns(interval, "low", "high")
    each = (
        f"{kit.label_of(period)} {money(low, table)} to {money(high, table)}"
        for period, low, high in zip(interval.index, interval["low"], interval["high"], strict=True)
    )
    return f" Interval: {listed(each, len(interval))}" + (f" ({printable(note, 160)})." if note else ".")


def _quota_in_words(table: pd.DataFrame) -> str:
    if "quota" not in table.columns or not table["quota"].notna().any():
        return ""
    quota, ahead = kit.period_sums(table, "quota"), kit.period_sums(table, "forecast_amount")
    known = ~np.isnan(quota)
    reached = int((ahead[known] >= quota[known]).sum())
    covered = f"covered by the forecast in {reached} of {int(known.sum())} periods"
    return f" Quota {money(quota, table)} in all, {covered}."


@draws(figures.forecast, _forecast_in_words, "open_amount weighted_amount won_amount forecast_amount overdue_amount")
def plot_forecast(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    measure: str | None = None,
    max_groups: int = 8,
    interval: pd.DataFrame | None = None,
    note: str = "",
) -> Axes:
    """Draw a forecast: won and weighted open amounts by period, against the quota where there is one.

    Parameters
    ----------
    measure : str, optional
        Draw this column by group. Left out: without groups the parts of the
        forecast, with groups ``forecast_amount``.
    interval : DataFrame, optional
        ``low`` and ``high`` [currency] by period, such as ``Bookings.interval()``
        or a prediction gives: whiskers from end to end, where there are no groups.
    note : str, optional
        A line below the plot.

    Returns
    -------
    Axes
        The table's periods in order, deals without a close date last.

    Raises
    ------
    MissingColumnError
        If the table is no forecast.

    Examples
    --------
    >>> ax = df.opp.plot.forecast(quota=450_000)
    """
    with kit.canvas(ax, table, "Forecast by period of the close date") as axes:
        if table.index.nlevels > 1 or measure is not None:
            _stack_groups(axes, table, measure or "forecast_amount", max_groups)
        else:
            _stack_parts(axes, table, interval)
        if note:
            kit.keep_plain(axes.set_xlabel(textwrap.fill(note, 70), color=kit.look_of(axes).notes))
    return axes


def _stack_parts(ax: Axes, table: pd.DataFrame, interval: pd.DataFrame | None) -> None:
    look = kit.look_of(ax)
    x = np.arange(len(table))
    won = table["won_amount"].to_numpy()
    ahead, open_amount = table["weighted_amount"].to_numpy(), table["open_amount"].to_numpy()
    # Probabilities above 100 % leave no rest; negative amounts leave a negative one.
    rest = np.where(open_amount < 0, np.minimum(open_amount - ahead, 0), np.maximum(open_amount - ahead, 0))
    layers: list[Layer] = [
        ("won", won, {"color": kit.WON}),
        ("open, weighted", ahead, {"color": kit.OPEN}),
        ("open, the rest", rest, {"facecolor": look.paper, "edgecolor": kit.GREY, "hatch": "///", "linewidth": 0.8}),
    ]
    legend, top, low_end = _stack(ax, x, [layer for layer in layers if np.any(layer[1] != 0)])
    forecast = table["forecast_amount"].to_numpy()
    legend.append(("forecast", ax.plot(x, forecast, "D", color=look.ink, markersize=5, linestyle="none")))
    top = max(top, float(np.nanmax(forecast, initial=0)))
    if interval is not None and len(interval):
        place = pd.Index(table.index).get_indexer(interval.index)
        low, high = interval["low"].to_numpy(dtype=float), interval["high"].to_numpy(dtype=float)
        # Around their own middle: a prediction's interval need not hold the sellers' forecast.
        whiskers: dict[str, Any] = {"fmt": "none", "ecolor": look.ink, "elinewidth": 1.6, "capsize": 5}
        legend.append(("interval", ax.errorbar(x[place], (low + high) / 2, yerr=(high - low) / 2, **whiskers)))
        top = max(top, float(high.max()))
    if "quota" in table.columns and table["quota"].notna().any():
        top = max(top, kit.draw_quota(ax, x, table["quota"].to_numpy(), legend))
    _finish(ax, table, table.index, top, low_end, legend)


def _finish(
    ax: Axes, table: pd.DataFrame, periods: pd.Index, top: float, low: float, legend: Sequence[tuple[str, Any]],
    *, what: str = "amount", beside: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write periods, amounts and legend around columns that reach up to `top`."""
    if top > 0:
        # Clear of the edge, where a bar of height 0 would hold the limit; down to 0, also where only a quota is drawn.
        ax.set_ylim(min(ax.get_ylim()[0], 0.0), 1.05 * top)
    ax.axhline(0, color=kit.look_of(ax).ink, linewidth=0.8)
    kit.write_names_below(ax, [kit.label_of(period) for period in periods], beside=beside)
    kit.format_money(ax.yaxis, max(top, -low), table, what=what)
    kit.add_legend(ax, legend[::-1])


def _stack(ax: Axes, x: Any, layers: Sequence[Layer]) -> tuple[list[tuple[str, Any]], float, float]:
    """Put bars on those that stand, and negative ones below those that hang, instead of eating into the stack.

    Gives the legend, and how far the columns reach up and down.
    """
    above, below = np.zeros(len(x)), np.zeros(len(x))
    legend: list[tuple[str, Any]] = []
    for label, values, look in layers:
        legend.append((label, ax.bar(x, values, 0.72, bottom=np.where(values >= 0, above, below), **look)))
        above += np.maximum(values, 0)
        below += np.minimum(values, 0)
    return legend, float(above.max(initial=0)), float(below.min(initial=0))


def _stack_groups(ax: Axes, table: pd.DataFrame, measure: str, max_groups: int) -> None:
    if max_groups < 2:
        raise ConfigurationError(f"max_groups must be 2 or more, not {max_groups!r}")
    if table.index.nlevels == 1:
        wide = pd.DataFrame({measure: table[measure].to_numpy()}, index=table.index)
    else:
        wide = _wide(table, measure)
    order = list(wide.abs().sum().sort_values(ascending=False, kind="stable").index)
    n_shown = len(order) if len(order) <= max_groups else max_groups - 1
    shown, others = order[:n_shown], order[n_shown:]
    # Two long names may be cut to one label, so labels are no keys.
    columns = [(kit.label_of(name), wide[name].to_numpy()) for name in shown]
    if others:
        columns.append((f"{len(others)} others", wide[others].sum(axis=1).to_numpy()))
    layers: list[Layer] = []
    for place, (label, values) in enumerate(columns):
        is_rest = bool(others) and place == len(columns) - 1
        colour = kit.GREY if is_rest else kit.PALETTE[place % len(kit.PALETTE)]
        hatch = "" if is_rest else kit.HATCHES[place // len(kit.PALETTE) % len(kit.HATCHES)]
        look = {"color": colour, "hatch": hatch, "edgecolor": kit.look_of(ax).paper, "linewidth": 0.5}
        layers.append((label, values, look))
    x, labels = np.arange(len(wide)), [label for label, _ in columns]
    legend, top, low = _stack(ax, x, layers)
    if measure in ("forecast_amount", "won_amount") and "quota" in table.columns and table["quota"].notna().any():
        top = max(top, kit.draw_quota(ax, x, kit.period_sums(table, "quota"), legend))
    _finish(ax, table, wide.index, top, low, legend, what=measure.replace("_", " "), beside=labels)


def _wide(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Put groups side by side: a row per period, a column per combination of groups."""
    rows, periods = kit.period_codes(table)
    names = [" · ".join(printable(part) for part in key[1:]) for key in table.index]
    columns, labels = pd.factorize(np.array(names, dtype=object))
    values = np.zeros((len(periods), len(labels)))
    np.add.at(values, (rows, columns), np.nan_to_num(table[measure].to_numpy(dtype=float)))
    return pd.DataFrame(values, index=periods, columns=pd.Index(labels))


_CATEGORY_LOOK: dict[str, dict[str, Any]] = {
    "closed": {"color": kit.WON},
    "commit": {"color": kit.BLUE},
    "best_case": {"color": kit.SKY},
    "pipeline": {"facecolor": "none", "edgecolor": kit.GREY, "hatch": "///", "linewidth": 0.8},
}


def _categories_in_words(table: pd.DataFrame, *, quota: float | None = None, **_: Any) -> str:
    if not len(table):
        return Nothing("no open or won deals")
    sums = table["amount"].groupby(level="category", sort=False).sum()
    if not (sums.any() or quota):
        return Nothing("every amount is 0")
    shown = [f"{str(name).replace('_', ' ')} {money(value, table)}" for name, value in sums.items()]
    periods = counted(table.index.get_level_values(0).nunique(dropna=False), "period")
    return f"{periods}: {'; '.join(shown)}." + ("" if quota is None else f" Quota {money(quota, table)} each.")


@draws(figures.category_forecast, _categories_in_words, "amount cumulative_amount")
def plot_category_forecast(table: pd.DataFrame, ax: Axes | None = None, *, quota: float | None = None) -> Axes:
    """Draw closed, commit, best case and pipeline on top of each other, by period.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.figures.category_forecast`; groups are added up.
    quota : float, optional
        A line to compare with [currency].

    Returns
    -------
    Axes
        Omitted deals are not drawn.

    Examples
    --------
    >>> ax = df.opp.plot.category_forecast()
    """
    with kit.canvas(ax, table, "Forecast categories") as axes:
        rows, periods = kit.period_codes(table)
        categories = table.index.get_level_values("category")
        amount = table["amount"].to_numpy(dtype=float)
        x, layers = np.arange(len(periods)), list[Layer]()
        for category, look in _CATEGORY_LOOK.items():
            chosen = np.asarray(categories == category)
            values = np.bincount(rows[chosen], amount[chosen], minlength=len(periods))
            if values.any():
                layers.append((category.replace("_", " "), values, look))
        legend, top, low = _stack(axes, x, layers)
        if quota is not None:
            top = max(top, kit.draw_quota(axes, x, np.full(len(x), float(quota)), legend))
        _finish(axes, table, periods, top, low, legend)
    return axes


def stages_in_words(table: pd.DataFrame, *, measure: str = "amount", **_: Any) -> str:
    """Describe where the deals stand, the largest stages first."""
    kit.require_columns(table, measure)
    if not len(table):
        return Nothing("no stages")
    order = np.argsort(-table[measure].to_numpy(dtype=float), kind="stable")
    names, counts, amounts = kit.row_names(table, "all deals"), table["count"].to_numpy(), table["amount"].to_numpy()
    each = (f"{names[n]} {counted(counts[n], 'deal')}, {money(amounts[n], table)}" for n in order)
    deals, stages = counted(counts.sum(), "deal"), counted(len(table), "stage")
    return f"{deals} in {stages}, largest first: {listed(each, len(table))}."


@draws(figures.stage_distribution, stages_in_words, "count amount weighted_amount")
def plot_stage_distribution(
    table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "amount", max_stages: int = MAX_STAGES
) -> Axes:
    """Draw where the deals stand: a bar per stage, open ones first, the count beside each.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.figures.stage_distribution` or `funnel`, without groups.
    measure : {"amount", "weighted_amount", "count"}, default "amount"
        Length of the bars.
    max_stages : int, default 30
        Stages drawn; beyond them the smallest are left out, and the title says so.

    Raises
    ------
    ConfigurationError
        If the table is grouped.

    Examples
    --------
    >>> ax = df.opp.plot.stage_distribution()
    """
    kit.require_one(table, "distribution")
    title = str(known_basis(table).get("title", "Stage distribution"))
    shown = table
    if len(table) > max_stages:
        kept = np.sort(np.argsort(-table[measure].to_numpy(), kind="stable")[:max_stages])
        shown = table.iloc[kept]
        title += f", {max_stages} largest of {len(table)}"
    with kit.canvas(ax, table, title, height=min(max(2.0, 1.0 + 0.42 * len(shown)), 11.0)) as axes:
        _bars_by_stage(axes, shown, measure, kit.stage_kinds(shown.index, known_basis(table).get("stages", {})))
    return axes


def _bars_by_stage(ax: Axes, shown: pd.DataFrame, measure: str, kinds: Sequence[str]) -> None:
    values = shown[measure].to_numpy(dtype=float)
    names = [kit.label_of(name) for name in shown.index]
    colours = {"open": kit.OPEN, "won": kit.WON, "lost": kit.LOST, "other": kit.GREY}
    y = np.arange(len(shown))
    bars = ax.barh(y, values, 0.72, color=[colours[kind] for kind in kinds])
    kit.name_rows(ax, names)
    ax.axvline(0, color=kit.look_of(ax).ink, linewidth=0.8)
    notes = [f"{count:,}" for count in shown["count"]]
    kit.keep_plain(*ax.bar_label(bars, labels=notes, padding=4, color=kit.look_of(ax).notes))
    ax.margins(x=0.1)
    top = float(np.abs(values).max(initial=0))
    if measure == "count":
        ax.set_xlabel("deals")
    else:
        kit.format_money(ax.xaxis, top, shown, what=measure.replace("_", " "), note="(at the bars: deals)")
    if not top:
        # Nothing has no scale: one made up around 0 would show negative amounts, or parts of a deal.
        ax.set_xlim(0, 1)
        ax.set_xticks([0])
    present = [kind for kind in ("open", "won", "lost", "other") if kind in kinds]
    if len(present) > 1:
        from matplotlib.patches import Patch

        kit.add_legend(ax, [(kind, Patch(color=colours[kind])) for kind in present])
