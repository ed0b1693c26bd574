"""Plots of what a history tells: waterfall, conversion, time in stage, flows, the pipeline over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas import figures
from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.basis import counted, known_basis
from opp_pandas.figures.waterfall_bars import LABELS
from opp_pandas.plotting import canvas as kit
from opp_pandas.plotting.descriptions import Nothing, draws, listed, money
from opp_pandas.plotting.pipeline import plot_stage_distribution, stages_in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

_MAX_STAGES, _MAX_ENDS = 25, 12
_RATES = "% of the stage before, % of all"
_NO_HISTORY = "Where the deals stand now; how many of them went on is known from a history only"


def _waterfall_in_words(table: pd.DataFrame, **_: Any) -> str:
    if not table["count"].any():
        return Nothing("no open deals in the period, and none moved")
    moved = table[table["count"] > 0]
    each = [
        f"{str(name).replace('_', ' ')} {money(amount, table)} ({counted(count, 'deal')})"
        for name, amount, count in zip(moved.index, moved["amount"], moved["count"], strict=True)
    ]
    return f"{'; '.join(each)}."


@draws(figures.waterfall, _waterfall_in_words, "count amount")
def plot_waterfall(table: pd.DataFrame, ax: Axes | None = None, *, show_empty: bool = False) -> Axes:
    """Draw a waterfall: the start, what came and went as hanging bars, the end.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.figures.waterfall`, without groups.
    show_empty : bool, default False
        Draw bars of 0, too.

    Raises
    ------
    ConfigurationError
        If the table is grouped.

    Examples
    --------
    >>> ax = df.opp.plot.waterfall(history, period="2026Q4", since="2026-09-04")
    """
    kit.require_one(table, "waterfall")
    ends = {words[bucket] for words in LABELS.values() for bucket in ("start", "end")}
    is_end = np.array([name in ends for name in table.index])
    kept = is_end | (table["count"].to_numpy() > 0) | show_empty
    shown, is_end = table[kept], is_end[kept]
    basis = known_basis(table)
    title = f"Open pipeline of {basis['period']}" if basis.get("period") else "Waterfall"
    since = f" since {str(basis['since'])[:10]}" if basis.get("since") else ""
    with kit.canvas(ax, table, title + since, width=9.0) as axes:
        amount = shown["amount"].to_numpy(dtype=float)
        height = np.concatenate([[0.0], np.cumsum(np.where(is_end, 0.0, amount))[:-1]]) + amount[0]
        bottom = np.where(is_end | (np.arange(len(amount)) == 0), 0.0, height)
        # What was won and what was lost leave the pipeline, as other deals do that will be back.
        ends_of = {
            words[bucket]: colour
            for words in LABELS.values()
            for bucket, colour in (("won", kit.WON), ("lost", kit.LOST))
        }
        colours = [
            kit.OPEN if end else ends_of.get(name, kit.SKY if value >= 0 else kit.ORANGE)
            for name, end, value in zip(shown.index, is_end, amount, strict=True)
        ]
        x = np.arange(len(shown))
        bars = axes.bar(x, amount, 0.66, bottom=bottom, color=colours)
        level = bottom + amount
        for place in range(len(shown) - 1):
            axes.plot([place + 0.33, place + 0.67], [level[place]] * 2, color=kit.GREY, linewidth=0.8)
        size, _ = kit.unit_of(float(np.abs(np.concatenate([bottom, level])).max(initial=0)))
        notes = [
            f"{kit.write_rounded(value / size)}\n({count:,})"
            for value, count in zip(amount, shown["count"], strict=True)
        ]
        top = float(np.maximum(bottom, level).max(initial=0))
        for bar, note, base, end in zip(bars, notes, bottom, level, strict=True):
            text = axes.annotate(
                note, (bar.get_x() + bar.get_width() / 2, max(base, end)), (0, 3), textcoords="offset points",
                ha="center", va="bottom", fontsize=8, color=kit.look_of(axes).notes,
            )  # fmt: skip
            kit.keep_plain(text)
        axes.axhline(0, color=kit.look_of(axes).ink, linewidth=0.8)
        low = float(np.minimum(bottom, level).min(initial=0))
        axes.set_ylim(low * 1.05, top + 0.14 * max(top - low, 1e-9))
        kit.write_names_below(axes, [str(name).replace("_", " ") for name in shown.index])
        kit.format_money(axes.yaxis, top, table, note="(bars: amount, deals)")
    return axes


def _conversion_in_words(table: pd.DataFrame, **_: Any) -> str:
    shown = table[table["reached"].notna()]
    if not len(shown) or not shown["reached"].any():
        return Nothing("no deal reached a stage")
    each: list[str] = []
    for name, reached, step in zip(
        shown.index, shown["reached"], shown["step_conversion"].astype("float64"), strict=True
    ):
        rate = "" if np.isnan(step) or not each else f" ({step:.0%} of the stage before)"
        each.append(f"{kit.label_of(name)} {int(reached):,}{rate}")
    return f"Deals that reached each stage: {'; '.join(each[:12])}."


@draws(
    figures.funnel,
    _conversion_in_words,
    "reached reached_amount step_conversion overall_conversion lost_count still_count",
    name="conversion",
    step_conversion=True,
)
def plot_conversion(table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "reached") -> Axes:
    """Draw a funnel with history: who reached each stage, and what became of those who went no further.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.figures.funnel` with a history, without groups.
    measure : {"reached", "reached_amount"}, default "reached"
        Length of the bars; only deals are split into what became of them.

    Raises
    ------
    MissingColumnError
        If the funnel was made without a history.

    Examples
    --------
    >>> ax = df.opp.plot.conversion(history)
    """
    if measure not in ("reached", "reached_amount"):
        raise ConfigurationError(f"measure must be 'reached' or 'reached_amount', not {measure!r}")
    kit.require_one(table, "funnel")
    shown = table[table["reached"].notna()]
    # A funnel falls from stage to stage, so its end, what was won, would be the first to go.
    shown, left_out = _busiest(shown, "reached", ends=True)
    suffix = "" if measure == "reached" else "_amount"
    cohort = known_basis(table).get("arguments", {}).get("cohort")
    title = (f"Funnel of deals begun {cohort[0]} to {cohort[1]}" if cohort else "Funnel") + left_out
    with kit.canvas(ax, table, title, height=min(max(2.4, 1.2 + 0.5 * len(shown)), 11.0)) as axes:
        values = shown[measure].to_numpy(dtype=float, na_value=0.0)
        y = np.arange(len(shown))
        legend: list[tuple[str, Any]] = []
        if measure == "reached":
            parts = {
                name: shown[f"{name}_count"].to_numpy(dtype=float, na_value=0.0) for name in ("still", "lost", "left")
            }
            onward = values - sum(parts.values())
            won = np.array(kit.stage_kinds(shown.index, known_basis(table).get("stages", {}))) == "won"
            looks = (
                ("went on", np.where(won, 0, onward), kit.OPEN),
                ("won", np.where(won, onward, 0), kit.WON),
                ("still there", parts["still"], kit.SKY),
                ("lost from here", parts["lost"], kit.LOST),
                ("left otherwise", parts["left"], kit.GREY),
            )
            start = np.zeros(len(shown))
            for label, lengths, colour in looks:
                if lengths.any():
                    legend.append((label, axes.barh(y, lengths, 0.66, left=start, color=colour)))
                    start = start + lengths
        else:
            axes.barh(y, values, 0.66, color=kit.BLUE)
        step = shown[f"step_conversion{suffix}"].to_numpy(dtype=float)
        overall = shown[f"overall_conversion{suffix}"].to_numpy(dtype=float)
        for place in range(len(shown)):
            number = f"{values[place]:,.0f}" if measure == "reached" else ""
            rates = ""
            if place and not np.isnan(step[place]):
                rates = f"{step[place]:.0%}, {overall[place]:.0%} of all"
            text = " · ".join(part for part in (number, rates) if part)
            _note(axes, text, values[place], place)
        kit.name_rows(axes, [kit.label_of(name) for name in shown.index])
        axes.set_xlim(0, values.max() * 1.8)
        axes.axvline(0, color=kit.look_of(axes).ink, linewidth=0.8)
        if measure == "reached":
            axes.set_xlabel(f"deals (at the bars: {_RATES})")
        else:
            kit.format_money(axes.xaxis, float(values.max()), table, note=f"(at the bars: {_RATES})")
        kit.add_legend(axes, legend)
    return axes


def _funnel_in_words(table: pd.DataFrame, **_: Any) -> str:
    if "step_conversion" in table.columns:
        return _conversion_in_words(table)
    words = stages_in_words(table)
    return words if isinstance(words, Nothing) else f"{words} {_NO_HISTORY}."


@draws(figures.funnel, _funnel_in_words)
def plot_funnel(table: pd.DataFrame, ax: Axes | None = None, *, measure: str | None = None) -> Axes:
    """Draw a funnel: from a history who reached each stage, else the stage distribution, and it says so.

    Parameters
    ----------
    measure : str, optional
        Length of the bars. From a history "reached" (if left out) or
        "reached_amount", see `plot_conversion`; else "amount" (if left out),
        "weighted_amount" or "count".

    Examples
    --------
    >>> ax = df.opp.plot.funnel(history)
    """
    if "step_conversion" in getattr(table, "columns", ()) and measure in (None, "reached", "reached_amount"):
        return plot_conversion(table, ax, measure=measure or "reached")
    axes = plot_stage_distribution(table, ax, measure=measure or "amount")
    if "step_conversion" not in table.columns:
        kit.write_below(axes, _NO_HISTORY)
    return axes


def _time_in_words(table: pd.DataFrame, **_: Any) -> str:
    medians = [column for column in table.columns if str(column).endswith("_days")]
    if not medians or not table[medians].notna().any(axis=None):
        return Nothing("too few deals were seen to leave a stage")
    known = table[medians[0]].dropna().astype("float64")
    word = "median" if str(medians[0]).startswith(("median", "p50")) else str(medians[0])
    each = (f"{kit.label_of(name)} {value:,.0f} days" for name, value in known.items())
    return f"{word.capitalize()} time in each stage: {listed(each, len(known))}."


@draws(figures.time_in_stage, _time_in_words, "entries still")
def plot_time_in_stage(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how long deals stay in each stage: the median as a dot, later quantiles as a line.

    Returns
    -------
    Axes
        Quantiles that too few deals were seen to reach are not drawn; a line
        that ends in an arrow goes on beyond what was seen.

    Examples
    --------
    >>> ax = df.opp.plot.time_in_stage(history)
    """
    names = [column for column in table.columns if str(column).endswith("_days")]
    shown, left_out = _busiest(table, "entries")
    with kit.canvas(ax, table, f"Time in stage{left_out}", height=min(max(2.2, 1.1 + 0.5 * len(shown)), 11.0)) as axes:
        times = shown[names].to_numpy(dtype=float) if names else np.empty((len(shown), 0))
        top = float(np.nanmax(times))
        y = np.arange(len(shown))
        markers = ("o", "|", "D", "s", "^")
        line: dict[str, Any] = {"color": kit.SKY, "linewidth": 5, "solid_capstyle": "butt", "zorder": 1}
        for place, row in enumerate(times):
            known = row[np.isfinite(row)]
            if len(known):
                axes.plot([known.min(), known.max()], [place, place], **line)
                if len(known) < len(row):
                    arrow = {"arrowstyle": "->", "color": kit.SKY}
                    axes.annotate("", (top * 1.12, place), (known.max(), place), arrowprops=arrow)
        dot: dict[str, Any] = {"color": kit.BLUE, "markersize": 8, "markeredgewidth": 2}
        legend = [
            (
                str(name).removesuffix("_days").replace("p", "", 1) + (" %" if str(name).startswith("p") else ""),
                axes.plot(times[:, number], y, markers[number % len(markers)], **dot),
            )
            for number, name in enumerate(names)
        ]
        for place, (entries, still) in enumerate(zip(shown["entries"], shown["still"], strict=True)):
            _note(axes, f"{entries:,} stays, {still:,} still there", top * 1.13, place)
        kit.name_rows(axes, [kit.label_of(name) for name in shown.index])
        axes.set_xlim(0, top * 1.5)
        axes.set_xlabel("days in the stage")
        kit.add_legend(axes, legend)
    return axes


def _flows_in_words(table: pd.DataFrame, *, measure: str = "amount", **_: Any) -> str:
    if measure not in ("amount", "count"):
        raise ConfigurationError(f"measure must be 'amount' or 'count', not {measure!r}")
    width = table[measure].to_numpy(dtype=float)
    if not (width > 0).any():
        return Nothing("no deals")
    order = np.argsort(-width, kind="stable")
    each = (
        f"{kit.label_of(row['stage_from'])} to {kit.label_of(row['stage_to'])}: {counted(row['count'], 'deal')}, "
        + money(row["amount"], table)
        for row in table.iloc[order].to_dict("records")
    )
    return f"Largest of {counted(len(table), 'flow')}: {listed(each, len(table))}."


@draws(figures.flows, _flows_in_words, "stage_from stage_to count amount")
def plot_flows(table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "amount") -> Axes:
    """Draw a Sankey diagram: from which stage at the start to which at the end.

    Parameters
    ----------
    measure : {"amount", "count"}, default "amount"
        Width of the bands; negative amounts are not drawn.

    Examples
    --------
    >>> ax = df.opp.plot.flows(history, since="2026-07-06")
    """
    basis, currency = known_basis(table), kit.currency_of(table)
    since = f" since {str(basis['since'])[:10]}" if basis.get("since") else ""
    unit = "deals" if measure == "count" else "amounts" if currency == "amount" else f"amounts in {currency}"
    with kit.canvas(ax, table, f"Where the deals went{since} ({unit})", width=9.0, height=5.5) as axes:
        stages = basis.get("stages", {})
        rank = _pipeline_rank(stages)
        table = _largest_stages(table, measure, rank)
        width = np.maximum(table[measure].to_numpy(dtype=float), 0.0)
        names = list(dict.fromkeys([*table["stage_from"], *table["stage_to"]]))
        own = iter([kit.BLUE, kit.SKY, kit.ORANGE, kit.PALETTE[3], kit.PALETTE[6]] * 20)
        looks = {"won": kit.WON, "lost": kit.LOST}
        colours = {
            name: kit.GREY if kind == "other" and str(name).startswith("(") else looks.get(kind) or next(own)
            for name, kind in zip(names, kit.stage_kinds(names, stages), strict=True)
        }
        left, right = _stack(table["stage_from"], width, rank), _stack(table["stage_to"], width, rank)
        offset_left, offset_right = dict.fromkeys(left, 0.0), dict.fromkeys(right, 0.0)
        across = np.linspace(0.0, 1.0, 40)
        bend = 3 * across**2 - 2 * across**3
        for source, target, size in zip(table["stage_from"], table["stage_to"], width, strict=True):
            start, end = left[source][0] + offset_left[source], right[target][0] + offset_right[target]
            offset_left[source] += size
            offset_right[target] += size
            middle = start + (end - start) * bend
            axes.fill_between(across, middle, middle + size, color=colours[source], alpha=0.45, linewidth=0)
        longest = 0
        for side, stack, align in ((0.0, left, "right"), (1.0, right, "left")):
            for name, (start, size) in stack.items():
                place = side - 0.02 if side == 0 else side
                axes.bar(place, size, 0.02, bottom=start, color=colours[name], align="edge")
                number = f"{size:,.0f}" if measure == "count" else kit.write_short(size)
                where = side - 0.035 if side == 0 else side + 0.035
                text = f"{kit.label_of(name)}  {number}"
                longest = max(longest, len(text))
                kit.keep_plain(axes.text(where, start + size / 2, text, ha=align, va="center", fontsize=8.5))
        beside = kit.room_beside(axes, longest)
        axes.set_xlim(-beside, 1 + beside)
        axes.invert_yaxis()
        axes.set_axis_off()
        axes.title.set_visible(True)
    return axes


def _busiest(table: pd.DataFrame, column: str, ends: bool = False) -> tuple[pd.DataFrame, str]:
    """Keep the stages with most deals, in order, where there are too many to read, and say so; with `ends` the last."""
    if len(table) <= _MAX_STAGES:
        return table, ""
    deals = table[column].to_numpy(dtype=float, na_value=0.0)
    if ends:
        deals[-1] = np.inf
    kept = np.argsort(-deals, kind="stable")[:_MAX_STAGES]
    busiest = f"{_MAX_STAGES - 1} busiest and the last" if ends else f"{_MAX_STAGES} busiest"
    return table.iloc[np.sort(kept)], f", {busiest} of {len(table)} stages"


def _largest_stages(table: pd.DataFrame, measure: str, rank: Callable[[Any], int]) -> pd.DataFrame:
    """Put the stages of small flows together, on each side; rows in pipeline order, so that few bands cross."""
    width = table[measure].clip(lower=0)
    named = {}
    for side in ("stage_from", "stage_to"):
        sums = width.groupby(table[side], sort=False).sum().sort_values(ascending=False, kind="stable")
        rest = set(sums.index[_MAX_ENDS - 1 :]) if len(sums) > _MAX_ENDS else set()
        named[side] = [f"({len(rest)} other stages)" if name in rest else name for name in table[side]]
    grouped = table.assign(**named).groupby(["stage_from", "stage_to"], sort=False)[["count", "amount"]].sum()
    return grouped.sort_index(key=lambda names: names.map(rank), kind="stable").reset_index()


def _pipeline_rank(stages: Any) -> Callable[[Any], int]:
    """Return at which place of the pipeline a name stands; what is no stage ("(new)") comes last."""
    order = [name for kind in ("open", "won", "lost") for name in stages.get(kind, [])]
    place = {name: number for number, name in enumerate(order)}
    return lambda name: place.get(kit.bare_name(name), len(place) + str(name).startswith("("))


def _note(ax: Axes, text: str, x: float, y: float) -> None:
    """Write beside a bar or line."""
    look: dict[str, Any] = {"va": "center", "fontsize": 8.5, "color": kit.look_of(ax).notes, "annotation_clip": False}
    kit.keep_plain(ax.annotate(text, (x, y), (4, 0), textcoords="offset points", **look))


def _stack(names: pd.Series, width: Any, rank: Callable[[Any], int]) -> dict[Any, tuple[float, float]]:
    """Return start and height of every name's block, in the order of the pipeline, with room for a label at each."""
    sums = pd.Series(width).groupby(names.to_numpy(), sort=False).sum()
    least, gap = 0.03 * float(sums.sum()), 0.025 * float(sums.sum())
    found, start = {}, 0.0
    for name in sorted(sums.index, key=rank):
        room = max(float(sums[name]), least)
        found[name] = (start + (room - float(sums[name])) / 2, float(sums[name]))
        start += room + gap
    return found


def _over_time_in_words(table: pd.DataFrame, *, measure: str = "open_amount", **_: Any) -> str:
    kit.require_columns(table, measure)
    if not len(table) or not table[measure].any():
        return Nothing("no open deals at any of the moments")
    sums = table[measure].groupby(level=0, sort=True).sum()
    layers = table.index.get_level_values(1).nunique(dropna=False) if table.index.nlevels > 1 else 1

    def written(value: float) -> str:
        return f"{value:,.0f} deals" if measure == "open_count" else money(value, table)

    first, last = str(sums.index[0])[:10], str(sums.index[-1])[:10]
    text = f"{measure.replace('_', ' ').capitalize()} {written(sums.iloc[0])} on {first}, "
    text += f"{written(sums.iloc[-1])} on {last}; highest {written(sums.max())}."
    return f"{text} {counted(layers, 'layer')}."


@draws(figures.pipeline_over_time, _over_time_in_words, "open_count open_amount weighted_amount")
def plot_pipeline_over_time(
    table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "open_amount", max_groups: int = 8
) -> Axes:
    """Draw the open pipeline at many moments, a layer per stage or group.

    Parameters
    ----------
    measure : {"open_amount", "weighted_amount", "open_count"}, default "open_amount"
        Height of the layers.

    Examples
    --------
    >>> ax = df.opp.plot.pipeline_over_time(history)
    """
    period = known_basis(table).get("arguments", {}).get("period")
    title = f"Open pipeline{f' of {period}' if period else ''} over time"
    with kit.canvas(ax, table, title, width=9.0) as axes:
        wide = table[measure].unstack(level=1, sort=False).fillna(0.0)
        if len(wide.columns) > max_groups:
            order = wide.sum().sort_values(ascending=False, kind="stable").index
            kept = [name for name in wide.columns if name in set(order[: max_groups - 1])]
            others = wide.drop(columns=kept)
            wide = wide[kept].assign(**{f"{len(others.columns)} others": others.sum(axis=1)})
            colours = [*kit.PALETTE[: len(kept)], *[kit.GREY] * (len(wide.columns) - len(kit.PALETTE[: len(kept)]))]
        else:
            colours = [kit.PALETTE[place % len(kit.PALETTE)] for place in range(len(wide.columns))]
        if len(wide) == 1 and isinstance(wide.index, pd.DatetimeIndex):
            # An area needs two moments: a history that has just begun is drawn as wide as a day.
            day = wide.index.repeat(2) + pd.to_timedelta([-12, 12], unit="h")
            wide = pd.concat([wide, wide]).set_axis(day, axis=0)
        moments = wide.index.tz_localize(None) if isinstance(wide.index, pd.DatetimeIndex) else wide.index
        legend: list[tuple[str, Any]] = []
        base = np.zeros(len(wide))
        for place, name in enumerate(wide.columns):
            top = base + np.maximum(wide[name].to_numpy(dtype=float), 0.0)
            hatch = "" if colours[place] == kit.GREY else kit.HATCHES[place // len(kit.PALETTE) % len(kit.HATCHES)]
            rims: dict[str, Any] = {"linewidth": 0.4, "edgecolor": kit.look_of(axes).paper, "hatch": hatch}
            layer = axes.fill_between(moments, base, top, color=colours[place], alpha=0.9, **rims)
            legend.append((kit.label_of(name), layer))
            base = top
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        if measure == "open_count":
            axes.set_ylabel("open deals")
        else:
            kit.format_money(axes.yaxis, float(base.max(initial=0)), table, what=measure.replace("_", " "))
        kit.write_days_below(axes)
        kit.add_legend(axes, legend[::-1])
    return axes
