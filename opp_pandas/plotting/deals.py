"""Deals one by one or week by week: bookings, ages, linearity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas import figures, forecasting
from opp_pandas.errors import printable
from opp_pandas.figures.core.basis import counted, known_basis
from opp_pandas.plotting import canvas as kit
from opp_pandas.plotting.descriptions import Nothing, chance, draws, money

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_CROWD = 1_000


def bookings_in_words(result: Any, *, quota: float | None = None, **_: Any) -> str:
    """Describe a distribution: its mean, its interval, and the chance of a quota."""
    if not (result.mean or result.sd or quota):
        return Nothing("nothing is expected to be won")
    low, high = result.interval(0.8)
    text = f"Mean {money(result.mean, result)}; 80 % interval {money(low, result)} to {money(high, result)}"
    text += f": {result.tested}."
    if quota is not None:
        text += f" Quota {money(quota, result)}: {chance(result.p_at_least(quota))} chance."
    return text


@draws(forecasting.bookings, bookings_in_words)
def plot_bookings(result: Any, ax: Axes | None = None, *, quota: float | None = None) -> Axes:
    """Draw the distribution of bookings, with its mean, its 80 % interval and a quota.

    Parameters
    ----------
    quota : float, optional
        A line, and the chance of reaching it [currency].

    Returns
    -------
    Axes
        Few possible amounts: a line for each. Many: a histogram of 60 bins.

    Examples
    --------
    >>> ax = df.opp.plot.bookings("2026Q4", quota=250_000)
    """
    period = known_basis(result).get("period")
    with kit.canvas(ax, result, f"Bookings{f' in {period}' if period else ''} ({result.assumption})") as axes:
        look = kit.look_of(axes)
        amounts, chances = result.pmf.index.to_numpy(), result.pmf.to_numpy()
        some = chances > 1e-6
        low, high = amounts[some].min(), amounts[some].max()
        if some.sum() <= 60:
            axes.vlines(amounts[some], 0, chances[some] * 100, color=kit.BLUE, linewidth=4)
            axes.set_ylabel("probability [%]")
        else:
            edges = np.linspace(low, high, 61)
            heights, _ = np.histogram(amounts[some], bins=edges, weights=chances[some])
            rims: dict[str, Any] = {"edgecolor": look.paper, "linewidth": 0.3}
            axes.bar(edges[:-1], heights * 100, np.diff(edges), align="edge", color=kit.BLUE, **rims)
            axes.set_ylabel("probability of the bin [%]")
        start, end = result.interval(0.8)
        interval = "80 % interval" + ("" if result.is_tested else ", not tested")
        legend: list[tuple[str, Any]] = [
            (interval, axes.axvspan(start, end, color=kit.GREY, alpha=0.2, zorder=0)),
            ("mean", axes.axvline(result.mean, color=look.ink)),
        ]
        top = max(abs(low), abs(high))
        if quota is not None:
            words = f"quota: {chance(result.p_at_least(quota))} chance"
            legend.append((words, axes.axvline(quota, color=kit.QUOTA, linewidth=2)))
            top = max(top, abs(quota))
        axes.set_ylim(bottom=0)
        kit.format_money(axes.xaxis, float(top), result, what="bookings")
        kit.add_legend(axes, legend)
    return axes


def _ageing_in_words(table: pd.DataFrame, **_: Any) -> str:
    age, amount = table["age_days"].dropna().astype("float64"), table["amount"].astype("float64")
    if not (amount[age.index] > 0).any():
        return Nothing("no open deals with age and positive amount")
    late = int((table["overdue_days"].fillna(0) > 0).sum())
    text = (
        f"{counted(len(table), 'open deal')}, {age.min():,.0f} to {age.max():,.0f} days old, median {age.median():,.0f}"
    )
    return f"{text}; {late:,} overdue. Worth {money(amount, table)} in all."


@draws(figures.ageing, _ageing_in_words, "stage_name amount age_days overdue_days")
def plot_ageing(table: pd.DataFrame, ax: Axes | None = None, *, max_stages: int = 8) -> Axes:
    """Draw age against amount of the open deals; overdue ones are crosses.

    Parameters
    ----------
    max_stages : int, default 8
        Stages with a colour of their own, in the pipeline's order; of more stages
        those with most deals have one, and the others are grey.

    Returns
    -------
    Axes
        Deals without an age or an amount above 0 are not drawn; the title says how many.

    Examples
    --------
    >>> ax = df.opp.plot.ageing()
    """
    age = table["age_days"].to_numpy(dtype=float, na_value=np.nan)
    amount = table["amount"].to_numpy(dtype=float)
    drawn = ~np.isnan(age) & (amount > 0)
    title = "Age of open deals"
    if not drawn.all():
        title += f", {int((~drawn).sum())} without age or positive amount not drawn"
    with kit.canvas(ax, table, title) as axes:
        stage = table["stage_name"].astype("str")
        order = list(stage[drawn].value_counts(sort=True).index)
        limit = min(max_stages, len(kit.PALETTE))
        pipeline = known_basis(table).get("stages", {}).get("open", [])
        known = list(dict.fromkeys([*pipeline, *order]))
        # Where all stages have a colour, each keeps its own whichever deals are drawn.
        kept = known if len(known) <= limit else order if len(order) <= limit else order[: limit - 1]
        shown = [name for name in known if name in kept]
        late = (table["overdue_days"].fillna(0) > 0).to_numpy()
        legend: list[tuple[str, Any]] = []
        size = 22 if drawn.sum() <= _CROWD else 9
        colours = np.array([*kit.PALETTE[: len(shown)], kit.GREY])
        places = pd.Index(shown).get_indexer(pd.Index(stage))
        # One cloud for each mark, drawn in the order of the stages: many clouds are slow.
        for rows, marker in ((drawn & ~late, "o"), (drawn & late, "x")):
            chosen = np.flatnonzero(rows)
            chosen = chosen[np.argsort(places[chosen] % len(colours), kind="stable")]
            axes.scatter(age[chosen], amount[chosen], s=size, marker=marker, color=colours[places[chosen]], alpha=0.7)
        for place, name in enumerate(shown):
            if name in order:
                legend.append((name, axes.plot([], [], "o", color=colours[place])))
        if others := len(set(order) - set(shown)):
            legend.append((f"{others} other stages", axes.plot([], [], "o", color=kit.GREY)))
        if late.any():
            legend.append(("overdue", axes.plot([], [], "x", color=kit.look_of(axes).ink)))
        axes.set_yscale("log")
        _log_money(axes, kit.currency_of(table))
        axes.set_xlabel("age [days since creation]")
        kit.add_legend(axes, legend)
    return axes


def _log_money(ax: Axes, currency: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_ylim()
    # Powers of ten alone may be one tick, or none.
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1_000 * low else (1,), numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.15g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    unit = "" if currency == "amount" else f" [{printable(currency, 40)}]"
    kit.keep_plain(ax.yaxis.set_label_text(f"amount{unit}, logarithmic"))


def _linearity_in_words(table: pd.DataFrame, **_: Any) -> str:
    if not len(table) or table["share"].isna().all():
        return Nothing("nothing was won")
    best = int(np.nanargmax(table["share"].to_numpy(dtype=float)))
    text = f"{money(table['won_amount'], table)} won in {counted(len(table), 'week')}, most in the week from "
    text += f"{table['week_start'].iloc[best]:%Y-%m-%d}, {table['share'].iloc[best]:.0%}."
    last = known_basis(table).get("last_month_share")
    return text + ("" if last is None else f" {last:.0%} in its last month.")


@draws(figures.linearity, _linearity_in_words, "won_amount share cumulative_share week_start")
def plot_linearity(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what was won week by week, and the line of even bookings beside what was reached.

    Examples
    --------
    >>> ax = df.opp.plot.linearity("2026Q3")
    """
    period = known_basis(table).get("period")
    with kit.canvas(ax, table, "Won by week" + (f" of {period}" if period else "")) as axes:
        x = np.arange(len(table))
        bars = axes.bar(x, table["share"].to_numpy() * 100, 0.72, color=kit.WON)
        reached = axes.plot(x, table["cumulative_share"].to_numpy() * 100, "o-", color=kit.BLUE, markersize=4)
        days = (table["week_end"] - table["week_start"].iloc[0]).dt.days.to_numpy() + 1
        even = axes.plot(x, days / days[-1] * 100, "--", color=kit.GREY)
        kit.write_names_below(axes, [f"{day:%m-%d}" for day in table["week_start"]])
        # Weeks that took back what was won lead below 0 %, or above 100 % on the way.
        drawn = np.concatenate([table["share"], table["cumulative_share"]]) * 100
        axes.set_ylim(1.05 * min(np.nanmin(drawn), 0.0), 1.05 * max(np.nanmax(drawn), 100.0))
        axes.axhline(0, color=kit.look_of(axes).ink, linewidth=0.8)
        axes.set_ylabel("share of the period's bookings [%]")
        axes.set_xlabel("week beginning")
        kit.add_legend(axes, [("won, cumulative", reached), ("even bookings", even), ("won in the week", bars)])
    return axes
