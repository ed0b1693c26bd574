"""What is still to come and what stands in the way: pacing, scenarios, hygiene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas import figures
from opp_pandas.errors import printable
from opp_pandas.figures.core.basis import counted, known_basis
from opp_pandas.figures.hygiene import flags_of
from opp_pandas.plotting import canvas as kit
from opp_pandas.plotting.descriptions import Nothing, draws, listed, money

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MANY_SCENARIOS, _MANY_PERIODS = 7, 16


def _pacing_in_words(table: pd.DataFrame, **_: Any) -> str:
    basis = known_basis(table)
    quota = basis.get("arguments", {}).get("quota")
    if not (table[["won_to_date", "won_amount"]].any(axis=None) or quota):
        return Nothing("nothing was won in these periods")
    now = kit.label_of(table.index[-1])
    text = f"{now}: {money(table['won_to_date'].iloc[-1], table)} won so far."
    earlier = table.iloc[:-1]
    each = [
        f"{kit.label_of(period)} {money(won, table)}" + ("" if np.isnan(share) else f" ({share:.0%} of the whole)")
        for period, won, share in zip(
            earlier.index, earlier["won_to_date"], earlier["share"].astype("float64"), strict=True
        )
    ]
    text += f" By the same day: {listed(each[::-1], len(each))}."
    if basis.get("landing") is not None:
        text += (
            f" At the usual share of {basis['usual_share']:.0%} the period lands at {money(basis['landing'], table)}."
        )
    return text + ("" if not quota else f" Quota {money(quota, table)}.")


@draws(figures.pacing, _pacing_in_words, "day days won_to_date won_amount share")
def plot_pacing(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what was won by the same day of each period, what came after it, and where the present one lands.

    Returns
    -------
    Axes
        Above each earlier period stands the share that was won by that day.
        The present one has a diamond where it lands if that share is the usual
        one, and a line at its quota if there is one.

    Examples
    --------
    >>> ax = df.opp.plot.pacing(quota=500_000)
    """
    basis = known_basis(table)
    day, days = table["day"].iloc[-1], table["days"].iloc[-1]
    with kit.canvas(ax, table, f"Won by day {day} of {days} of each period") as axes:
        x = np.arange(len(table))
        to_date = table["won_to_date"].to_numpy(dtype=float)
        later = table["won_amount"].to_numpy(dtype=float) - to_date
        landing, quota = basis.get("landing"), basis.get("arguments", {}).get("quota")
        look = kit.look_of(axes)
        legend: list[tuple[str, Any]] = [("won by that day", axes.bar(x, to_date, 0.72, color=kit.WON))]
        if later.any():
            rest: dict[str, Any] = {"facecolor": look.paper, "edgecolor": kit.GREY, "hatch": "///", "linewidth": 0.8}
            legend.append(("won later, or dated later", axes.bar(x, later, 0.72, bottom=to_date, **rest)))
        top = float((to_date + later).max(initial=0))
        if landing is not None:
            diamond = axes.plot(x[-1:], [landing], "D", color=look.ink, markersize=7, linestyle="none")
            legend.append(("landing at the usual share", diamond))
            top = max(top, landing)
        if quota:
            lines = np.full(len(table), np.nan)
            lines[-1] = quota
            top = max(top, kit.draw_quota(axes, x, lines, legend))
        for place, share in enumerate(table["share"].to_numpy(dtype=float)):
            if not np.isnan(share) and len(table) <= _MANY_PERIODS:
                height = to_date[place] + later[place]
                note = axes.annotate(
                    f"{share:.0%}", (place, height), (0, 3), textcoords="offset points", ha="center", color=look.notes
                )
                kit.keep_plain(note)
        axes.axhline(0, color=look.ink, linewidth=0.8)
        axes.set_ylim(top=top * 1.1)
        kit.write_names_below(axes, [kit.label_of(period) for period in table.index])
        kit.format_money(axes.yaxis, top, table)
        if axes.texts:
            # Beside the amounts it would be longer than a low picture is high.
            axes.set_xlabel("above: share won by that day", color=look.notes)
        kit.add_legend(axes, legend[::-1])
    return axes


def _scenario_in_words(table: pd.DataFrame, *, measure: str = "forecast_amount", **_: Any) -> str:
    kit.require_columns(table, measure)
    words = measure.replace("_", " ")
    if not table[measure].any():
        return Nothing(f"every {words} is 0" if len(table) else "no open or won deals")
    totals = table[measure].groupby(level="scenario", sort=False).sum()
    changes = ["", *(f" ({value - totals.iloc[0]:+,.0f})" for value in totals.iloc[1:])]
    named = zip(totals.index, totals, changes, strict=True)
    each = [f"{kit.label_of(name)} {money(value, table)}{change}" for name, value, change in named]
    return f"{words.capitalize()}, all periods: {listed(each, len(each))}."


@draws(figures.scenario, _scenario_in_words, "change")
def plot_scenario(
    table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "forecast_amount", max_scenarios: int = 25
) -> Axes:
    """Draw scenarios side by side: by period where they are few, else their totals.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.figures.scenario`; groups are added up.
    measure : str, default "forecast_amount"
        Height of the bars.
    max_scenarios : int, default 25
        Scenarios drawn; the title says how many were left out.

    Returns
    -------
    Axes
        Up to 7 scenarios and 16 periods: a bar per scenario and period. More:
        a bar per scenario, and beside it the change against "as it is".

    Examples
    --------
    >>> from opp_pandas.figures import scale, set_values
    >>> changes = {"smaller": scale(amount=0.8), "cautious": set_values("probability < 50", probability=0)}
    >>> ax = df.opp.plot.scenario(changes)
    """
    names = list(dict.fromkeys(table.index.get_level_values("scenario")))
    n_periods = table.index.get_level_values("period").nunique(dropna=False)
    several = len(names) <= _MANY_SCENARIOS and 1 < n_periods <= _MANY_PERIODS
    shown = names[:max_scenarios]
    title = "Scenarios" + (f", the first {len(shown)} of {len(names)}" if len(shown) < len(names) else "")
    with kit.canvas(ax, table, title, height=4.5 if several else min(max(2.0, 1.1 + 0.36 * len(shown)), 10.0)) as axes:
        if several:
            _scenarios_by_period(axes, table, shown, measure)
        else:
            _scenario_totals(axes, table, shown, measure)
    return axes


def _scenarios_by_period(ax: Axes, table: pd.DataFrame, names: list[str], measure: str) -> None:
    wide = (
        table[measure].groupby(level=["scenario", "period"], sort=False, dropna=False).sum().unstack(level="scenario")
    )
    width = 0.8 / len(names)
    x = np.arange(len(wide))
    legend = []
    for place, name in enumerate(names):
        colour = kit.GREY if place == 0 else kit.PALETTE[(place - 1) % len(kit.PALETTE)]
        offset = (place - (len(names) - 1) / 2) * width
        bars = ax.bar(x + offset, wide[name].fillna(0).to_numpy(dtype=float), width * 0.92, color=colour)
        legend.append((name, bars))
    ax.axhline(0, color=kit.look_of(ax).ink, linewidth=0.8)
    kit.write_names_below(ax, [kit.label_of(period) for period in wide.index], beside=names)
    kit.format_money(ax.yaxis, float(np.nanmax(np.abs(wide.to_numpy()))), table, what=measure.replace("_", " "))
    kit.add_legend(ax, legend)


def _scenario_totals(ax: Axes, table: pd.DataFrame, names: list[str], measure: str) -> None:
    totals = table[measure].groupby(level="scenario", sort=False).sum()[names]
    values = totals.to_numpy(dtype=float)
    y = np.arange(len(names))
    colours = [kit.GREY if place == 0 else kit.BLUE for place in range(len(names))]
    bars = ax.barh(y, values, 0.66, color=colours)
    changes = [
        "" if place == 0 else kit.write_short(value - values[0], signed=True) for place, value in enumerate(values)
    ]
    kit.keep_plain(*ax.bar_label(bars, labels=changes, padding=4, color=kit.look_of(ax).notes))
    kit.name_rows(ax, [kit.label_of(name) for name in names])
    ax.axvline(0, color=kit.look_of(ax).ink, linewidth=0.8)
    ax.margins(x=0.2)
    words_of = f"{measure.replace('_', ' ')}, all periods"
    kit.format_money(ax.xaxis, float(np.abs(values).max()), table, what=words_of, note="(at the bars: change)")


def _hygiene_in_words(table: pd.DataFrame, **_: Any) -> str:
    if not len(table):
        return Nothing("every check passed")
    counts = flags_of(table).value_counts(sort=True)
    each = (f"{str(name).replace('_', ' ')} {counted(count, 'deal')}" for name, count in counts.items())
    return f"{counted(len(table), 'deal')} to look at, {counted(counts.sum(), 'reason')}: {listed(each, len(counts))}."


@draws(figures.hygiene, _hygiene_in_words, "checks reasons")
def plot_hygiene(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how many deals each check found, and what they are worth.

    Returns
    -------
    Axes
        Most deals first. Checks that found nothing are not drawn.

    Examples
    --------
    >>> ax = df.opp.plot.hygiene()
    """
    from matplotlib.ticker import MaxNLocator

    flags = flags_of(table)
    counts = flags.value_counts(sort=True)
    with kit.canvas(
        ax,
        table,
        f"Deals to look at: {len(table):,}" if len(table) else "Deals to look at",
        height=min(max(1.8, 1.1 + 0.34 * len(counts)), 8.0),
    ) as axes:
        y = np.arange(len(counts))
        bars = axes.barh(y, counts.to_numpy(), 0.66, color=kit.BLUE)
        # Nobody adds dollars to euros.
        several = known_basis(table).get("n_currencies", 1) > 1
        with_amounts = "amount" in table.columns and not several
        if with_amounts:
            n_flags = table["checks"].str.count(",").to_numpy() + 1
            amounts = table["amount"].to_numpy(np.float64, na_value=np.nan).repeat(n_flags)
            worth = pd.Series(amounts).groupby(flags.to_numpy()).sum()
            notes = [f"worth {kit.write_short(float(worth[name]))}" if worth[name] else "" for name in counts.index]
            kit.keep_plain(*axes.bar_label(bars, labels=notes, padding=4, color=kit.look_of(axes).notes))
        kit.name_rows(axes, [str(name).replace("_", " ") for name in counts.index])
        axes.margins(x=0.24)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        unit = kit.currency_of(table)
        bar_words = "their amounts" if unit == "amount" else f"their amounts, {printable(unit, 40)}"
        kit.keep_plain(axes.set_xlabel(f"deals (at the bars: {bar_words})" if with_amounts else "deals"))
    return axes
