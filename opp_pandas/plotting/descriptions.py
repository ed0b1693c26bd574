"""Plots in words, for people who hear the page.

Each plotting function names the one here that says what its picture shows;
the returned Axes carry the sentence as ``.alt_text``. Only the finished table is
read, so the words and the picture cannot differ.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import pandas as pd

from opp_pandas.docstrings import ARGUMENTS, document, entries_of
from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.figures.core.basis import counted, day_of_basis, known_basis
from opp_pandas.figures.core.figure import FIGURES, PLOTS
from opp_pandas.figures.hygiene import flags_of
from opp_pandas.plotting import canvas
from opp_pandas.plotting.canvas import currency_of, label_of, period_sums, row_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from opp_pandas.figures.core.figure import Figure, Plot

P = ParamSpec("P")
Teller = Callable[..., str]
_LISTED = 5


def draws(
    figure: Figure[Any], tell: Teller, *, name: str | None = None, **preset: Any
) -> Callable[[Callable[P, Axes]], Callable[P, Axes]]:
    """Register a way to draw a figure.

    The plotting function leaves on its Axes, as ``alt_text``, what `tell` says of its table and options.
    """

    def decorate(plot: Callable[P, Axes]) -> Callable[P, Axes]:
        @functools.wraps(plot)
        def plot_and_tell(*args: P.args, **kwargs: P.kwargs) -> Axes:
            axes = plot(*args, **kwargs)
            result: Any = args[0] if args else kwargs["result" if "result" in kwargs else "table"]
            return leave_alt_text(axes, tell, result, kwargs)

        parameters = inspect.signature(plot).parameters
        room = ".".join(figure.function.__module__.split(".")[:2])
        made = f"{next(iter(parameters))} : {figure.returned}\n    From `{room}.{figure.name}`."
        known = {**ARGUMENTS, **entries_of(made)}
        plot_and_tell.__doc__ = document(plot.__doc__, parameters.values(), known, returns="Axes")
        figure.plot(tell, name=name, **preset)(plot_and_tell)
        return plot_and_tell

    return decorate


def leave_alt_text(axes: Axes, tell: Teller, result: Any, options: Mapping[str, Any]) -> Axes:
    """Leave on the Axes what they show, in words."""
    told = {name: value for name, value in options.items() if name not in ("ax", "table", "result")}
    title = axes.get_title(loc="left").replace("\n", " ")
    drawn: Any = axes
    drawn.alt_text = f"{title}. {tell(result, **told)}"
    return axes


def draw(plot: Plot, result: Any, **options: Any) -> Axes:
    """Draw a figure in one of its ways, those included that a figure's own file registers.

    Examples
    --------
    >>> from opp_pandas.figures.core.figure import PLOTS
    >>> from opp_pandas.plotting import draw
    >>> ax = draw(PLOTS["funnel"], df.opp.funnel())
    """
    axes: Axes
    if "kit" not in inspect.signature(plot.draw).parameters:
        axes = plot.draw(result, **options)
        return axes
    with canvas.canvas(options.pop("ax", None)) as axes:
        canvas.set_title(axes, result, plot.figure.heading)
        plot.draw(result, ax=axes, kit=canvas, **options)
    return leave_alt_text(axes, plot.alt, result, options)


def alt_text(shown: Any) -> str:
    """Describe in words what a plot shows, or what the plot of a table would show.

    Parameters
    ----------
    shown : Axes, DataFrame or Bookings
        What a plotting function returned, or a finished figure.

    Returns
    -------
    str
        A few sentences with the largest and the total numbers. Names from the
        data stand in it as plain text: escape it where it goes into a page.

    Raises
    ------
    ConfigurationError
        If these Axes were not drawn by this package.

    Examples
    --------
    >>> from opp_pandas.plotting import descriptions
    >>> alt_text(df.opp.stage_distribution())[:60]
    'Stage distribution, as of 2026-11-02. 277 deals in 6 stages,'
    """
    told = getattr(shown, "alt_text", None)
    if isinstance(told, str):
        return told
    basis = known_basis(shown)
    if hasattr(shown, "get_title"):
        raise ConfigurationError("these Axes were not drawn by a plot of opp_pandas, so nobody knows what they show")
    figure = str(basis.get("figure", "table"))
    day = day_of_basis(basis)
    known = FIGURES.get(figure)
    head = (figure.replace("_", " ").capitalize() if known is None else known.heading) + (
        f", as of {day}" if day else ""
    )
    tell: Teller = _SAID.get(figure) or (PLOTS[figure].alt if figure in PLOTS else _table_in_words)
    return f"{head}. {tell(shown)}"


def _money(value: float, table: Any) -> str:
    currency = currency_of(table)
    return f"{value:,.0f}" + ("" if currency == "amount" else f" {printable(currency, 20)}")


def _listed(parts: Iterable[str], n: int) -> str:
    shown = list(parts)[:_LISTED]
    return "; ".join(shown) + (f"; and {n - len(shown):,} more" if n > len(shown) else "")


def _sum(values: Any) -> float:
    return float(np.nansum(np.asarray(values, dtype=float)))


def _largest(names: Iterable[Any], values: Any, table: Any) -> str:
    """List the largest amounts with their names."""
    listed = [label_of(name) for name in names]
    numbers = np.nan_to_num(np.asarray(values, dtype=float))
    order = np.argsort(-np.abs(numbers), kind="stable")
    return _listed((f"{listed[place]} {_money(numbers[place], table)}" for place in order), len(order))


def forecast_in_words(
    table: pd.DataFrame, *, measure: str | None = None, interval: pd.DataFrame | None = None, note: str = "", **_: Any
) -> str:
    """Describe what `plot_forecast` shows."""
    if not len(table):
        return "There is nothing to show: no open or won deals."
    periods = table.index.get_level_values(0)
    distinct = list(dict.fromkeys(label_of(period) for period in periods))
    span = distinct[0] if len(distinct) == 1 else f"{len(distinct)} periods, {distinct[0]} to {distinct[-1]}"
    if table.index.nlevels > 1 or measure is not None:
        column = measure or "forecast_amount"
        text = f"{span}. {column.replace('_', ' ').capitalize()} {_money(_sum(table[column]), table)} in all"
        if table.index.nlevels > 1:
            names = [" · ".join(str(part) for part in key[1:]) for key in table.index]
            sums = table[column].groupby(np.array(names, dtype=object), sort=False).sum()
            text += f", by {counted(len(sums), 'group')}: {_largest(sums.index, sums, table)}"
        return text + "." + _quota_in_words(table)
    parts = {
        "won": _sum(table["won_amount"]),
        "open, weighted": _sum(table["weighted_amount"]),
        "open": _sum(table["open_amount"]),
    }
    said = ", ".join(f"{_money(value, table)} {name}" for name, value in parts.items())
    best = int(np.argmax(np.nan_to_num(table["forecast_amount"].to_numpy(dtype=float), nan=-np.inf)))
    return (
        f"{span}: {said}. Forecast {_money(_sum(table['forecast_amount']), table)} in all; "
        f"most in {label_of(periods[best])}, {_money(table['forecast_amount'].iloc[best], table)}."
        + _quota_in_words(table)
        + _interval_in_words(table, interval, note)
    )


def _interval_in_words(table: pd.DataFrame, interval: pd.DataFrame | None, note: str) -> str:
    if interval is None or not len(interval):
        return ""
    each = (
        f"{label_of(period)} {_money(float(low), table)} to {_money(float(high), table)}"
        for period, low, high in zip(interval.index, interval["low"], interval["high"], strict=True)
    )
    return f" Interval: {_listed(each, len(interval))}" + (f" ({printable(note, 160)})." if note else ".")


def _quota_in_words(table: pd.DataFrame) -> str:
    if "quota" not in table.columns or not table["quota"].notna().any():
        return ""
    quota, ahead = period_sums(table, "quota"), period_sums(table, "forecast_amount")
    known = ~np.isnan(quota)
    reached = int((ahead[known] >= quota[known]).sum())
    covered = f"covered by the forecast in {reached} of {int(known.sum())} periods"
    return f" Quota {_money(_sum(quota), table)} in all, {covered}."


def categories_in_words(table: pd.DataFrame, *, quota: float | None = None, **_: Any) -> str:
    """Describe what `plot_category_forecast` shows."""
    if not len(table):
        return "There is nothing to show: no open or won deals."
    sums = table["amount"].groupby(level="category", sort=False).sum()
    shown = [f"{str(name).replace('_', ' ')} {_money(float(value), table)}" for name, value in sums.items()]
    periods = counted(table.index.get_level_values(0).nunique(dropna=False), "period")
    return f"{periods}: {'; '.join(shown)}." + ("" if quota is None else f" Quota {_money(float(quota), table)} each.")


def stages_in_words(table: pd.DataFrame, *, measure: str = "amount", **_: Any) -> str:
    """Describe what `plot_stage_distribution` shows."""
    if not len(table):
        return "There is nothing to show: no stages."
    order = np.argsort(-table[measure].to_numpy(dtype=float), kind="stable")
    names, counts, amounts = (
        row_names(table, "all deals"),
        table["count"].to_numpy(),
        table["amount"].to_numpy(dtype=float),
    )
    each = (f"{names[n]} {counted(counts[n], 'deal')}, {_money(amounts[n], table)}" for n in order)
    deals, stages = counted(counts.sum(), "deal"), counted(len(table), "stage")
    return f"{deals} in {stages}, largest first: {_listed(each, len(table))}."


def conversion_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_conversion` shows."""
    shown = table[table["reached"].notna()]
    if not len(shown) or not shown["reached"].any():
        return "There is nothing to show: no deal reached a stage."
    each: list[str] = []
    for name, reached, step in zip(
        shown.index, shown["reached"], shown["step_conversion"].astype("float64"), strict=True
    ):
        rate = "" if np.isnan(step) or not each else f" ({step:.0%} of the stage before)"
        each.append(f"{label_of(name)} {int(reached):,}{rate}")
    return f"Deals that reached each stage: {'; '.join(each[:12])}."


def rates_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_win_rates` shows."""
    known = table[table["win_rate"].notna()]
    if not len(known):
        return "There is nothing to show: no deals were closed."
    names, rate = row_names(known, "all deals"), known["win_rate"].to_numpy(dtype=float)
    low, high = known["win_rate_low"].to_numpy(dtype=float), known["win_rate_high"].to_numpy(dtype=float)
    closed = (known["won_count"] + known["lost_count"]).to_numpy()
    order = np.argsort(-closed, kind="stable")
    each = (f"{names[n]} {rate[n]:.0%} (interval {low[n]:.0%} to {high[n]:.0%}, n={closed[n]:,})" for n in order)
    return f"Win rate, most closed deals first: {_listed(each, len(known))}."


def coverage_in_words(table: pd.DataFrame, *, target: float | None = 3.0, **_: Any) -> str:
    """Describe what `plot_coverage` shows."""
    known = table["coverage"].dropna().astype("float64") if "coverage" in table.columns else pd.Series(dtype="float64")
    if not len(known):
        return "There is nothing to show: no quota."
    finite = known[np.isfinite(known)]
    text = f"{int(np.isinf(known).sum())} of {counted(len(known), 'quota')} reached."
    if len(finite):
        text += f" Coverage of the others from {finite.min():.1f} to {finite.max():.1f}"
        text += "." if target is None else f", {int((finite >= target).sum())} at the target of {target:g} or above."
    return text


def rollup_in_words(table: pd.DataFrame, *, measure: str = "forecast_amount", **_: Any) -> str:
    """Describe what `plot_rollup` shows."""
    if not len(table):
        return "There is nothing to show: no deals."
    text = f"{measure.replace('_', ' ').capitalize()} of {counted(len(table), 'row')}, largest first: "
    text += f"{_largest(row_names(table, 'all deals'), table[measure], table)}."
    if "delta" in table.columns and (table["delta"] != 0).any():
        text += f" {counted((table['delta'] != 0).sum(), 'row')} adjusted by a manager."
    return text


def concentration_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_concentration` shows."""
    if not len(table) or table["share"].isna().all():
        return "There is nothing to show: no open pipeline."
    names = row_names(table, "all deals")
    text = f"{counted(len(table), 'group')}; {names[0]} holds {table['share'].iloc[0]:.0%}"
    few = min(_LISTED, len(table))
    return text + (f", the largest {few} hold {table['cumulative_share'].iloc[few - 1]:.0%}." if few > 1 else ".")


def bookings_in_words(result: Any, *, quota: float | None = None, **_: Any) -> str:
    """Describe what `plot_bookings` shows."""
    low, high = result.interval(0.8)
    text = f"Mean {_money(result.mean, result)}; 80 % interval {_money(low, result)} to {_money(high, result)}"
    text += f": {result.tested}."
    if quota is not None:
        text += f" Quota {_money(quota, result)}: {chance(result.p_at_least(quota))} chance."
    return text


def prediction_in_words(result: Any, *, quota: float | None = None, **_: Any) -> str:
    """Describe what `plot_predict` shows."""
    names = {"won": "won to date", "open": "from open deals", "new": "from new deals"}
    means = result.parts["mean"]
    each = [
        f"{_money(float(mean), result)} {names[part]}" for part, mean in means.items() if part == "open" or mean > 0
    ]
    return f"{bookings_in_words(result, quota=quota)} Parts: {', '.join(each)}. Method {label_of(result.method)}."


def record_in_words(result: Any, **_: Any) -> str:
    """Describe what `plot_track_record` shows."""
    table = result.windows
    if not len(table):
        return f"There is nothing to show: no past window; {result.tested}."
    inside = int(((table["low_80"] <= table["actual"]) & (table["actual"] <= table["high_80"])).sum())
    first, last = table["as_of"].iloc[0], table["as_of"].iloc[-1]
    text = f"{counted(len(table), 'window')} from {first:%Y-%m-%d} to {last:%Y-%m-%d}: "
    text += f"{_money(_sum(table['forecast']) / len(table), result)} forecast on average, "
    text += f"{_money(_sum(table['actual']) / len(table), result)} came; {inside} inside the 80 % interval"
    return f"{text}: {result.tested}."


def weights_in_words(result: Any, **_: Any) -> str:
    """Describe what `plot_mix_weights` shows."""
    if not result.weights.size:
        return "There is nothing to show: the mix has no rows."
    last, first = result.weights.iloc[-1], result.weights.iloc[0]
    order = last.sort_values(ascending=False, kind="stable").index
    each = (f"{label_of(str(name).replace('_', ' '))} {last[name]:.0%} (at first {first[name]:.0%})" for name in order)
    return f"Weights on {result.weights.index[-1]:%Y-%m-%d}: {_listed(each, len(order))}."


def comparison_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_compare` shows."""
    known = table[table["mean"].notna()]
    if not len(known):
        return "There is nothing to show: no method has anything to go by."
    each = (
        f"{label_of(str(name).replace('_', ' '))} {_money(mean, table)} ({_money(low, table)} to {_money(high, table)})"
        for name, mean, low, high in zip(known.index, known["mean"], known["low_80"], known["high_80"], strict=True)
    )
    verdict = known_basis(table).get("verdict", "")
    return f"80 % intervals of {counted(len(known), 'method')}: {'; '.join(each)}. {verdict.capitalize()}."


def chance(p: float) -> str:
    """Write a probability without claiming certainty that is not there.

    Examples
    --------
    >>> chance(0.998), chance(0.42), chance(1.0)
    ('over 99 %', '42 %', '100 %')
    """
    if 0.995 <= p < 1:
        return "over 99 %"
    return "under 1 %" if 0 < p < 0.005 else f"{p * 100:.0f} %"


def ageing_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_ageing` shows."""
    if not len(table):
        return "There is nothing to show: no open deals."
    age = table["age_days"].dropna().astype("float64")
    late = int((table["overdue_days"].fillna(0) > 0).sum())
    text = counted(len(table), "open deal")
    if len(age):
        text += f", {age.min():,.0f} to {age.max():,.0f} days old, median {age.median():,.0f}"
    return f"{text}; {late:,} overdue. Worth {_money(_sum(table['amount'].astype('float64')), table)} in all."


def linearity_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_linearity` shows."""
    if not len(table) or table["share"].isna().all():
        return "There is nothing to show: nothing was won."
    best = int(np.nanargmax(table["share"].to_numpy(dtype=float)))
    text = f"{_money(_sum(table['won_amount']), table)} won in {counted(len(table), 'week')}, most in the week from "
    text += f"{table['week_start'].iloc[best]:%Y-%m-%d}, {table['share'].iloc[best]:.0%}."
    last = known_basis(table).get("last_month_share")
    return text + ("" if last is None else f" {last:.0%} in its last month.")


def waterfall_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_waterfall` shows."""
    if not table["count"].any():
        return "There is nothing to show: no open deals in the period, and none moved."
    moved = table[table["count"] > 0]
    each = [
        f"{str(name).replace('_', ' ')} {_money(float(amount), table)} ({counted(count, 'deal')})"
        for name, amount, count in zip(moved.index, moved["amount"], moved["count"], strict=True)
    ]
    return f"{'; '.join(each)}."


def time_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_time_in_stage` shows."""
    medians = [column for column in table.columns if str(column).endswith("_days")][:1]
    if not medians or not table[medians[0]].notna().any():
        return "There is nothing to show: too few deals were seen to leave a stage."
    known = table[medians[0]].dropna().astype("float64")
    word = "median" if str(medians[0]).startswith(("median", "p50")) else str(medians[0])
    each = (f"{label_of(name)} {value:,.0f} days" for name, value in known.items())
    return f"{word.capitalize()} time in each stage: {_listed(each, len(known))}."


def flows_in_words(table: pd.DataFrame, *, measure: str = "amount", **_: Any) -> str:
    """Describe what `plot_flows` shows."""
    width = table[measure].to_numpy(dtype=float)
    if not (width > 0).any():
        return "There is nothing to show: no deals."
    order = np.argsort(-width, kind="stable")
    each = []
    for n in order[:_LISTED]:
        row = table.iloc[n]
        size = _money(float(row["amount"]), table)
        each.append(
            f"{label_of(row['stage_from'])} to {label_of(row['stage_to'])}: {counted(row['count'], 'deal')}, {size}"
        )
    return f"Largest of {counted(len(table), 'flow')}: {_listed(each, len(table))}."


def over_time_in_words(table: pd.DataFrame, *, measure: str = "open_amount", **_: Any) -> str:
    """Describe what `plot_pipeline_over_time` shows."""
    if not len(table) or not table[measure].any():
        return "There is nothing to show: no open deals at any of the moments."
    sums = table[measure].groupby(level=0, sort=True).sum()
    layers = table.index.get_level_values(1).nunique(dropna=False) if table.index.nlevels > 1 else 1

    def written(value: float) -> str:
        return f"{value:,.0f} deals" if measure == "open_count" else _money(value, table)

    first, last = str(sums.index[0])[:10], str(sums.index[-1])[:10]
    text = f"{measure.replace('_', ' ').capitalize()} {written(float(sums.iloc[0]))} on {first}, "
    text += f"{written(float(sums.iloc[-1]))} on {last}; highest {written(float(sums.max()))}."
    return f"{text} {counted(layers, 'layer')}."


def pacing_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_pacing` shows."""
    basis = known_basis(table)
    now = label_of(table.index[-1])
    text = f"{now}: {_money(float(table['won_to_date'].iloc[-1]), table)} won so far."
    earlier = table.iloc[:-1]
    each = [
        f"{label_of(period)} {_money(float(won), table)}" + ("" if np.isnan(share) else f" ({share:.0%} of the whole)")
        for period, won, share in zip(
            earlier.index, earlier["won_to_date"], earlier["share"].astype("float64"), strict=True
        )
    ]
    text += f" By the same day: {_listed(each[::-1], len(each))}."
    if basis.get("landing") is not None:
        text += (
            f" At the usual share of {basis['usual_share']:.0%} the period lands at {_money(basis['landing'], table)}."
        )
    quota = basis.get("arguments", {}).get("quota")
    return text + ("" if not quota else f" Quota {_money(float(quota), table)}.")


def scenario_in_words(table: pd.DataFrame, *, measure: str = "forecast_amount", **_: Any) -> str:
    """Describe what `plot_scenario` shows."""
    if not len(table):
        return "There is nothing to show: no open or won deals."
    totals = table[measure].groupby(level="scenario", sort=False).sum()
    base = float(totals.iloc[0])
    each = [f"{label_of(totals.index[0])} {_money(base, table)}"]
    each += [
        f"{label_of(name)} {_money(float(value), table)} ({float(value) - base:+,.0f})"
        for name, value in totals.iloc[1:].items()
    ]
    return f"{measure.replace('_', ' ').capitalize()}, all periods: {_listed(each, len(each))}."


def hygiene_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_hygiene` shows."""
    if not len(table):
        return "There is nothing to show: every check passed."
    counts = flags_of(table).value_counts(sort=True)
    each = (f"{str(name).replace('_', ' ')} {counted(count, 'deal')}" for name, count in counts.items())
    return f"{counted(len(table), 'deal')} to look at, {counted(counts.sum(), 'reason')}: {_listed(each, len(counts))}."


def calibration_in_words(table: pd.DataFrame, *, brier: float | None = None, **_: Any) -> str:
    """Describe what `plot_calibration` shows."""
    if not len(table):
        return "There is nothing to show: no probability whose outcome is known."
    each = (
        f"{p:.0%} given, {share:.0%} won ({low:.0%} to {high:.0%}, {counted(n, 'deal')})"
        for p, share, low, high, n in zip(
            table["p_mean"], table["won_share"], table["won_share_low"], table["won_share_high"], table["deals"],
            strict=True,
        )
    )  # fmt: skip
    if brier is None:
        brier = known_basis(table).get("brier")
    text = f"{counted(len(table), 'bin')}: {'; '.join(list(each)[:12])}."
    return text + ("" if brier is None else f" Brier score {brier:.3f}.")


def win_model_in_words(result: Any, **_: Any) -> str:
    """Describe what `plot_win_model` shows."""
    return calibration_in_words(result.reliability, brier=float(result.evaluation["brier"].iloc[0]))


def _table_in_words(table: Any) -> str:
    return f"{counted(len(table), 'row')}." if len(table) else "There is nothing to show."


def _kpis_in_words(table: pd.DataFrame) -> str:
    parts = [f"Open {_money(_sum(table['open_amount']), table)} in all."] if "open_amount" in table.columns else []
    parts.append(rates_in_words(table))
    return " ".join([*parts, *([coverage_in_words(table)] if "coverage" in table.columns else [])])


def funnel_in_words(table: pd.DataFrame, **_: Any) -> str:
    """Describe what `plot_funnel` shows."""
    return conversion_in_words(table) if "step_conversion" in table.columns else stages_in_words(table)


_SAID: dict[str, Teller] = {"kpis": _kpis_in_words}
"""Figures whose table is told otherwise than any one of their plots."""
