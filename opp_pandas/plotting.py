"""Plots of finished figures: each takes a table and ``ax=None`` and returns the Axes.

Nothing is computed here. Colours are those of Okabe and Ito, which people who
see colours differently can tell apart; style holds inside these functions only;
no text that comes from data is read as mathematics. `alt_text` says in words
what a table's plot shows.

References
----------
.. [1] Okabe and Ito, Color Universal Design (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.analytics.basis import BASIS_KEY
from opp_pandas.errors import ConfigurationError, MissingColumnError, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
    "#000000",
)
GREY = "#9A9A9A"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)
_HATCHES = ("", "///", "...", "xxx")

_STYLE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "font.size": 10.0,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
}
_MAX_LABEL = 28
_UNITS = ((1e12, "trillions"), (1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))


@contextmanager
def _canvas(ax: Axes | None, width: float = 8.0, height: float = 4.5) -> Iterator[Axes]:
    """Give the caller's Axes, or new ones of a sensible size."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(width, height))
        yield ax


def _label(value: Any) -> str:
    """Make a label of a value from the data: printable, and short enough to stand beside others."""
    missing = value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and np.isnan(value))
    text = "no date" if missing else printable(value, 1_000)
    if isinstance(value, pd.Period) and "/" in text:
        text = text.partition("/")[0]  # a week is known by its first day
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"


def _plain(*texts: Any) -> None:
    """Keep matplotlib from reading dollar signs in names as mathematics."""
    for text in texts:
        text.set_parse_math(False)


def _title(ax: Axes, table: Any, words: str) -> None:
    basis = getattr(table, "attrs", {}).get(BASIS_KEY, {})
    day = str(basis.get("as_of", ""))[:10]
    title = ax.set_title(f"{words}, as of {day}" if day else words, loc="left")
    _plain(title)


def _currency(table: Any) -> str:
    return str(getattr(table, "attrs", {}).get(BASIS_KEY, {}).get("currency") or "amount")


def _scale(top: float) -> tuple[float, str]:
    """Choose the unit of a money axis."""
    return next(((size, word) for size, word in _UNITS if abs(top) >= 2 * size), (1.0, ""))


def _money_axis(axis: Any, top: float, currency: str, *, what: str = "amount", note: str = "") -> None:
    """Print thousands with separators, and large numbers in a unit that the label names."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    size, word = _scale(top)
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / size:,.10g}"))
    unit = f"{'' if currency == 'amount' else printable(currency, 40)} {word}".strip()
    _plain(axis.set_label_text(" ".join(part for part in (what, f"[{unit}]" if unit else "", note) if part)))


def _names_below(ax: Axes, labels: Sequence[str]) -> None:
    """Write names under the columns: turned when they are long, thinned out when there are many."""
    n = len(labels)
    step = max(1, -(-n // 26))
    places = list(range(0, n, step))
    longest = max((len(label) for label in labels), default=0)
    turned = n > 1 and longest * min(n, 26) > 48
    kwargs: dict[str, Any] = {"parse_math": False}
    if turned:
        kwargs |= {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(places, [labels[place] for place in places], **kwargs)
    ax.set_xlim(-0.6, max(n, 1) - 0.4)


def _legend(ax: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put the legend beside the plot, where it covers nothing."""
    if not handles:
        return
    # Labels are set afterwards: a name that begins with an underscore would be dropped.
    legend = ax.legend(
        handles, [f"entry {place}" for place in range(len(labels))], loc="upper left", bbox_to_anchor=(1.01, 1.0)
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        _plain(text)
        text.set_text(_label(label))


def _need(table: Any, *columns: str) -> None:
    if not isinstance(table, pd.DataFrame):
        raise ConfigurationError(f"a plot takes the finished table of a figure, not {type(table).__name__}")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise MissingColumnError(missing, list(table.columns), "The plot takes the table that the figure returned.")


def _nothing(ax: Axes, words: str) -> Axes:
    """Say on the plot that there is nothing to draw, instead of drawing bare axes."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, words, ha="center", va="center", transform=ax.transAxes, color=GREY)
    return ax


def _top_groups(totals: pd.Series, limit: int) -> tuple[list[Any], list[Any]]:
    """Give the largest groups, largest first, and the others."""
    order = list(totals.abs().sort_values(ascending=False, kind="stable").index)
    return (order, []) if len(order) <= limit else (order[: limit - 1], order[limit - 1 :])


def plot_forecast(
    table: pd.DataFrame, ax: Axes | None = None, *, measure: str | None = None, max_groups: int = 8
) -> Axes:
    """Draw a forecast: won and weighted open amounts by period, against the quota where there is one.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.analytics.forecast`.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    measure : str, optional
        Draw this column by group. Left out: without groups the parts of the
        forecast, with groups ``forecast_amount``.
    max_groups : int, default 8
        Groups drawn on their own, the largest first; the others are added up.

    Returns
    -------
    Axes
        The table's periods in order, deals without a close date last.

    Raises
    ------
    MissingColumnError
        If the table is no forecast.
    """
    _need(table, "open_amount", "weighted_amount", "won_amount", "forecast_amount", "overdue_amount")
    if measure is not None:
        _need(table, measure)
    with _canvas(ax) as axes:
        _title(axes, table, "Forecast by period of the close date")
        if not len(table):
            return _nothing(axes, "no open or won deals")
        grouped = table.index.nlevels > 1
        if grouped or measure is not None:
            _stack_groups(axes, table, measure or "forecast_amount", max_groups)
        else:
            _stack_parts(axes, table)
    return axes


def _stack_parts(ax: Axes, table: pd.DataFrame) -> None:
    x = np.arange(len(table))
    won = table["won_amount"].to_numpy()
    ahead = np.maximum(table["weighted_amount"].to_numpy(), 0)
    rest = np.maximum(table["open_amount"].to_numpy() - table["weighted_amount"].to_numpy(), 0)
    parts: list[tuple[str, Any, dict[str, Any]]] = [
        ("won", won, {"color": GREEN}),
        ("open, weighted", ahead, {"color": BLUE}),
        ("open, the rest", rest, {"facecolor": "white", "edgecolor": GREY, "hatch": "///", "linewidth": 0.8}),
    ]
    handles: list[Any] = []
    labels: list[str] = []
    bottom = np.zeros(len(table))
    for label, values, look in parts:
        if np.any(values != 0):
            handles.append(ax.bar(x, values, 0.72, bottom=bottom, **look))
            labels.append(label)
            bottom = bottom + values
    forecast = table["forecast_amount"].to_numpy()
    handles += ax.plot(x, forecast, "D", color=BLACK, markersize=5, linestyle="none")
    labels.append("forecast")
    top = max(float(bottom.max(initial=0)), float(np.nanmax(forecast, initial=0)))
    if "quota" in table.columns and table["quota"].notna().any():
        top = max(top, _draw_quota(ax, x, table["quota"].to_numpy(), handles, labels))
    ax.axhline(0, color=BLACK, linewidth=0.8)
    _names_below(ax, [_label(period) for period in table.index])
    _money_axis(ax.yaxis, top, _currency(table))
    _legend(ax, handles[::-1], labels[::-1])


def _draw_quota(ax: Axes, x: Any, quota: Any, handles: list[Any], labels: list[str]) -> float:
    known = ~np.isnan(quota)
    line = ax.hlines(quota[known], x[known] - 0.45, x[known] + 0.45, colors=VERMILION, linewidth=2)
    handles.append(line)
    labels.append("quota")
    return float(np.nanmax(quota))


def _stack_groups(ax: Axes, table: pd.DataFrame, measure: str, max_groups: int) -> None:
    if max_groups < 2:
        raise ConfigurationError(f"max_groups must be 2 or more, not {max_groups!r}")
    if table.index.nlevels == 1:
        wide = pd.DataFrame({measure: table[measure].to_numpy()}, index=table.index)
    else:
        wide = _wide(table, measure)
    shown, others = _top_groups(wide.abs().sum(), max_groups)
    columns = {_label(name): wide[name].to_numpy() for name in shown}
    if others:
        columns[f"{len(others)} others"] = wide[others].sum(axis=1).to_numpy()
    x = np.arange(len(wide))
    above, below = np.zeros(len(wide)), np.zeros(len(wide))
    handles: list[Any] = []
    for place, values in enumerate(columns.values()):
        is_rest = bool(others) and place == len(columns) - 1
        look: dict[str, Any] = {
            "color": GREY if is_rest else PALETTE[place % len(PALETTE)],
            "hatch": "" if is_rest else _HATCHES[place // len(PALETTE) % len(_HATCHES)],
            "edgecolor": "white",
            "linewidth": 0.5,
        }
        # Negative sums hang below the line instead of eating into the stack.
        handles.append(ax.bar(x, values, 0.72, bottom=np.where(values >= 0, above, below), **look))
        above, below = above + np.maximum(values, 0), below + np.minimum(values, 0)
    labels = list(columns)
    top = max(float(above.max(initial=0)), float(-below.min(initial=0)))
    if measure in ("forecast_amount", "won_amount") and "quota" in table.columns and table["quota"].notna().any():
        quota = _period_sums(table, "quota")
        top = max(top, _draw_quota(ax, x, quota, handles, labels))
    ax.axhline(0, color=BLACK, linewidth=0.8)
    _names_below(ax, [_label(period) for period in wide.index])
    _money_axis(ax.yaxis, top, _currency(table), what=measure.replace("_", " "))
    _legend(ax, handles[::-1], labels[::-1])


def _period_codes(table: pd.DataFrame) -> tuple[np.ndarray[Any, Any], pd.Index]:
    codes, periods = pd.factorize(table.index.get_level_values(0), use_na_sentinel=False)
    return codes, pd.Index(periods)


def _wide(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Put groups side by side: a row per period, a column per combination of groups."""
    rows, periods = _period_codes(table)
    names = [" · ".join(printable(part) for part in key[1:]) for key in table.index]
    columns, labels = pd.factorize(np.array(names, dtype=object))
    values = np.zeros((len(periods), len(labels)))
    np.add.at(values, (rows, columns), np.nan_to_num(table[measure].to_numpy(dtype=float)))
    return pd.DataFrame(values, index=periods, columns=pd.Index(labels))


def _period_sums(table: pd.DataFrame, column: str) -> Any:
    rows, periods = _period_codes(table)
    values = table[column].to_numpy(dtype=float)
    sums = np.bincount(rows, np.nan_to_num(values), minlength=len(periods))
    some = np.bincount(rows, ~np.isnan(values), minlength=len(periods)) > 0
    return np.where(some, sums, np.nan)


def plot_stage_distribution(
    table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "amount", max_stages: int = 30
) -> Axes:
    """Draw where the deals stand: a bar per stage, open ones first, the count beside each.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.analytics.stage_distribution` or `funnel`, without groups.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    measure : {"amount", "weighted_amount", "count"}, default "amount"
        Length of the bars.
    max_stages : int, default 30
        Stages drawn; beyond them the smallest are left out, and the title says so.

    Returns
    -------
    Axes

    Raises
    ------
    ConfigurationError
        If the table is grouped.
    """
    _need(table, "count", "amount", "weighted_amount", measure)
    if table.index.nlevels > 1:
        raise ConfigurationError("this plot takes one distribution: choose a group first, such as table.loc['Sam Lee']")
    basis = table.attrs.get(BASIS_KEY, {})
    words = str(basis.get("title", "Stage distribution"))
    shown = table
    if len(table) > max_stages:
        kept = np.sort(np.argsort(-table[measure].to_numpy(), kind="stable")[:max_stages])
        shown = table.iloc[kept]
        words += f", {max_stages} largest of {len(table)}"
    with _canvas(ax, height=min(max(2.0, 1.0 + 0.42 * len(shown)), 11.0)) as axes:
        _title(axes, table, words)
        if not len(shown):
            return _nothing(axes, "no stages")
        _bars_by_stage(axes, shown, measure, basis.get("stages", {}), _currency(table))
    return axes


def _bars_by_stage(ax: Axes, shown: pd.DataFrame, measure: str, stages: Any, currency: str) -> None:
    values = shown[measure].to_numpy(dtype=float)
    names = [_label(name) for name in shown.index]
    known = {
        "won": set(stages.get("won", [])),
        "lost": set(stages.get("lost", [])),
        "open": set(stages.get("open", [])),
    }
    kinds = [next((kind for kind, group in known.items() if _bare(name) in group), "other") for name in shown.index]
    colours = {"open": BLUE, "won": GREEN, "lost": VERMILION, "other": GREY}
    y = np.arange(len(shown))
    bars = ax.barh(y, values, 0.72, color=[colours[kind] for kind in kinds])
    ax.set_yticks(y, names, parse_math=False)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.axvline(0, color=BLACK, linewidth=0.8)
    notes = [f"{count:,}" for count in shown["count"]]
    _plain(*ax.bar_label(bars, labels=notes, padding=4, color="#444444"))
    ax.margins(x=0.1)
    top = float(np.abs(values).max(initial=0))
    if measure == "count":
        ax.set_xlabel("deals")
    else:
        _money_axis(ax.xaxis, top, currency, what=measure.replace("_", " "), note="(at the bars: deals)")
    present = [kind for kind in ("open", "won", "lost", "other") if kind in kinds]
    if len(present) > 1:
        from matplotlib.patches import Patch

        _legend(ax, [Patch(color=colours[kind]) for kind in present], present)


def _bare(name: Any) -> str:
    """Take off the id that tells two stages of one name apart."""
    text = str(name)
    return text[: text.rindex(" (id ")] if " (id " in text else text


def plot_funnel(table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "amount") -> Axes:
    """Draw a funnel: without history the stage distribution, and its title says so.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.analytics.funnel`.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    measure : {"amount", "weighted_amount", "count"}, default "amount"
        Length of the bars.

    Returns
    -------
    Axes
    """
    return plot_stage_distribution(table, ax, measure=measure)


def plot_win_rates(table: pd.DataFrame, ax: Axes | None = None, *, max_groups: int = 25) -> Axes:
    """Draw win rates with their intervals, one row per group, most closed deals first.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.analytics.kpis` or `win_rates`.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    max_groups : int, default 25
        Groups drawn; the title says how many were left out.

    Returns
    -------
    Axes
        Rows stand by the number of closed deals, not by rate: intervals that
        overlap give no order.
    """
    _need(table, "win_rate", "win_rate_low", "win_rate_high", "won_count", "lost_count")
    closed = table["won_count"].to_numpy() + table["lost_count"].to_numpy()
    order = np.argsort(-closed, kind="stable")
    order = order[closed[order] > 0]
    shown = table.iloc[order[:max_groups]]
    words = "Win rate with its interval"
    if len(order) > max_groups:
        words = f"Win rate of {max_groups} of {len(order)} groups, those with most closed deals"
    with _canvas(ax, height=min(max(1.8, 1.1 + 0.34 * len(shown)), 10.0)) as axes:
        _title(axes, table, words)
        if not len(shown):
            return _nothing(axes, "no closed deals")
        rate = shown["win_rate"].to_numpy() * 100
        low, high = shown["win_rate_low"].to_numpy() * 100, shown["win_rate_high"].to_numpy() * 100
        y = np.arange(len(shown))
        axes.errorbar(rate, y, xerr=[rate - low, high - rate], fmt="o", color=BLUE, capsize=3)
        counts = closed[order[:max_groups]]
        names = _row_names(shown, "all deals")
        axes.set_yticks(y, [f"{name}  (n={n:,})" for name, n in zip(names, counts, strict=True)], parse_math=False)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.set_xlabel("win rate [%]")
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    return axes


def _row_names(table: pd.DataFrame, alone: str) -> list[str]:
    if table.index.nlevels > 1:
        return [_label(" · ".join(str(part) for part in key)) for key in table.index]
    if isinstance(table.index, pd.RangeIndex) and table.index.name is None:
        return [alone] * len(table)
    return [_label(name) for name in table.index]


def plot_coverage(
    table: pd.DataFrame, ax: Axes | None = None, *, target: float | None = 3.0, max_rows: int = 25
) -> Axes:
    """Draw coverage: open pipeline over what is still to be won, one bar per row.

    Parameters
    ----------
    table : DataFrame
        A forecast or key figures with a quota.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    target : float or None, default 3.0
        A line to compare with [ratio].
    max_rows : int, default 25
        Bars drawn; the title says how many were left out.

    Returns
    -------
    Axes
    """
    _need(table, "quota", "coverage")
    known = table[table["coverage"].notna()]
    shown = known.iloc[:max_rows]
    words = "Coverage: open / (quota - won)"
    if len(known) > max_rows:
        words += f", the first {max_rows} of {len(known)}"
    with _canvas(ax, height=min(max(1.8, 1.1 + 0.34 * len(shown)), 10.0)) as axes:
        _title(axes, table, words)
        if not len(shown):
            return _nothing(axes, "no quota")
        values = shown["coverage"].to_numpy(dtype=float)
        reached = np.isinf(values)
        finite = values[~reached]
        top = max(float(finite.max(initial=0)), target or 0, 1.0) * 1.15
        y = np.arange(len(shown))
        axes.barh(y, np.where(reached, 0, values), 0.66, color=BLUE)
        for place in y:
            text = "reached" if reached[place] else f"{values[place]:,.1f}"
            axes.annotate(
                text, (0 if reached[place] else values[place], place), (4, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(y, _row_names(shown, "all deals"), parse_math=False)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, top)
        axes.set_xlabel("coverage [ratio]")
        if target is not None:
            line = axes.axvline(target, color=VERMILION, linewidth=1.5)
            _legend(axes, [line], [f"target {target:g}"])
    return axes


def alt_text(table: pd.DataFrame) -> str:
    """Say in words what the plot of a table shows, for people who hear the page.

    Parameters
    ----------
    table : DataFrame
        A finished figure.

    Returns
    -------
    str
        Two or three sentences with the largest and the total numbers.
    """
    basis = table.attrs.get(BASIS_KEY, {})
    figure = str(basis.get("figure", "table")).replace("_", " ")
    day = str(basis.get("as_of", ""))[:10]
    head = f"{figure.capitalize()}{f', as of {day}' if day else ''}, {len(table)} rows."
    if not len(table):
        return f"{head} There is nothing to show."
    says: dict[str, Callable[[], str]] = {
        "forecast_amount": lambda: _money_sentence(table, "forecast_amount"),
        "amount": lambda: _money_sentence(table, "amount"),
        "win_rate": lambda: _rate_sentence(table),
        "coverage": lambda: _coverage_sentence(table),
    }
    return " ".join([head, *(say() for column, say in says.items() if column in table.columns)])


def _money_sentence(table: pd.DataFrame, column: str) -> str:
    values = table[column]
    place = int(np.argmax(np.nan_to_num(values.to_numpy(dtype=float), nan=-np.inf)))
    words = column.replace("_", " ")
    currency = _currency(table)
    unit = "" if currency == "amount" else f" {printable(currency, 20)}"
    where = _row_names(table.iloc[[place]], "all deals")[0]
    return f"Total {words} {values.sum():,.0f}{unit}; largest {values.iloc[place]:,.0f}{unit} in {where}."


def _rate_sentence(table: pd.DataFrame) -> str:
    rate = table["win_rate"].dropna()
    if not len(rate):
        return "No deals were closed."
    if len(rate) == 1:
        low, high = table["win_rate_low"].dropna().iloc[0], table["win_rate_high"].dropna().iloc[0]
        return f"Win rate {rate.iloc[0]:.0%}, interval {low:.0%} to {high:.0%}."
    return f"Win rates from {rate.min():.0%} to {rate.max():.0%}."


def _coverage_sentence(table: pd.DataFrame) -> str:
    known = table["coverage"].dropna()
    reached = int(np.isinf(known).sum())
    finite = known[np.isfinite(known)]
    words = f"{reached} of {len(known)} quotas reached." if len(known) else "No quota."
    return words if not len(finite) else f"{words} Coverage from {finite.min():.1f} to {finite.max():.1f}."


_CATEGORY_LOOK: dict[str, dict[str, Any]] = {
    "closed": {"color": GREEN},
    "commit": {"color": BLUE},
    "best_case": {"color": SKY},
    "pipeline": {"facecolor": "white", "edgecolor": GREY, "hatch": "///", "linewidth": 0.8},
}


def plot_category_forecast(table: pd.DataFrame, ax: Axes | None = None, *, quota: float | None = None) -> Axes:
    """Draw closed, commit, best case and pipeline on top of each other, by period.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.analytics.category_forecast`; groups are added up.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    quota : float, optional
        A line to compare with [currency].

    Returns
    -------
    Axes
        Omitted deals are not drawn.
    """
    _need(table, "amount", "cumulative_amount")
    with _canvas(ax) as axes:
        _title(axes, table, "Forecast categories")
        if not len(table):
            return _nothing(axes, "no open or won deals")
        rows, periods = _period_codes(table)
        categories = table.index.get_level_values("category")
        amount = table["amount"].to_numpy(dtype=float)
        x, bottom = np.arange(len(periods)), np.zeros(len(periods))
        handles: list[Any] = []
        labels: list[str] = []
        for category, look in _CATEGORY_LOOK.items():
            chosen = np.asarray(categories == category)
            values = np.bincount(rows[chosen], np.maximum(amount[chosen], 0), minlength=len(periods))
            if values.any():
                handles.append(axes.bar(x, values, 0.72, bottom=bottom, **look))
                labels.append(category.replace("_", " "))
                bottom = bottom + values
        top = float(bottom.max(initial=0))
        if quota is not None:
            top = max(top, _draw_quota(axes, x, np.full(len(x), float(quota)), handles, labels))
        axes.axhline(0, color=BLACK, linewidth=0.8)
        _names_below(axes, [_label(period) for period in periods])
        _money_axis(axes.yaxis, top, _currency(table))
        _legend(axes, handles[::-1], labels[::-1])
    return axes


def plot_rollup(
    table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "forecast_amount", max_rows: int = 30
) -> Axes:
    """Draw a roll-up: a bar per group or node, the people of a manager indented below.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.analytics.rollup`.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    measure : str, default "forecast_amount"
        Length of the bars; where a manager adjusted it, a mark shows the call.
    max_rows : int, default 30
        Rows drawn; the title says how many were left out.

    Returns
    -------
    Axes
    """
    _need(table, measure)
    shown = table.iloc[:max_rows]
    words = "Roll-up" + (f", the first {max_rows} of {len(table)} rows" if len(table) > max_rows else "")
    with _canvas(ax, height=min(max(1.8, 1.1 + 0.34 * len(shown)), 11.0)) as axes:
        _title(axes, table, words)
        if not len(shown):
            return _nothing(axes, "no deals")
        values = shown[measure].to_numpy(dtype=float)
        y = np.arange(len(shown))
        level = shown["level"].to_numpy() if "level" in shown.columns else np.zeros(len(shown), dtype=int)
        names = ["   " * int(depth) + name for depth, name in zip(level, _row_names(shown, "all deals"), strict=True)]
        axes.barh(y, values, 0.66, color=[BLUE if depth == 0 else SKY for depth in level])
        handles: list[Any] = []
        if "adjusted" in shown.columns and measure == shown.attrs.get(BASIS_KEY, {}).get("arguments", {}).get(
            "measure"
        ):
            called = shown["delta"].to_numpy() != 0
            marks = axes.plot(shown["adjusted"].to_numpy()[called], y[called], "D", color=VERMILION, markersize=6)
            handles += marks if called.any() else []
        axes.set_yticks(y, names, parse_math=False)
        if "level" in shown.columns:
            # Indentation shows who reports to whom only if names start at one edge.
            for text in axes.get_yticklabels():
                text.set_horizontalalignment("left")
            axes.tick_params(axis="y", pad=6 + 5.6 * max(len(name) for name in names))
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.axvline(0, color=BLACK, linewidth=0.8)
        _money_axis(axes.xaxis, float(np.abs(values).max(initial=0)), _currency(table), what=measure.replace("_", " "))
        _legend(axes, handles, ["adjusted"] * len(handles))
    return axes


def plot_bookings(result: Any, ax: Axes | None = None, *, quota: float | None = None) -> Axes:
    """Draw the distribution of bookings, with its mean, its 80 % interval and a quota.

    Parameters
    ----------
    result : Bookings
        From `opp_pandas.analytics.bookings`.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    quota : float, optional
        A line, and the chance of reaching it [currency].

    Returns
    -------
    Axes
        Few possible amounts: a line for each. Many: a histogram of 60 bins.
    """
    from opp_pandas.analytics.distribution import Bookings

    if not isinstance(result, Bookings):
        raise ConfigurationError(f"this plot takes Bookings, not {type(result).__name__}")
    with _canvas(ax) as axes:
        basis = result.attrs.get(BASIS_KEY, {})
        words = "Bookings" + (f" in {basis['period']}" if basis.get("period") else "")
        _title(axes, result, words + (" (independent deals: too narrow)" if result.rho == 0 else ""))
        amounts, chances = result.pmf.index.to_numpy(), result.pmf.to_numpy()
        some = chances > 1e-6
        low, high = amounts[some].min(), amounts[some].max()
        if some.sum() <= 60:
            axes.vlines(amounts[some], 0, chances[some] * 100, color=BLUE, linewidth=4)
            axes.set_ylabel("probability [%]")
        else:
            edges = np.linspace(low, high, 61)
            heights, _ = np.histogram(amounts[some], bins=edges, weights=chances[some])
            axes.bar(
                edges[:-1], heights * 100, np.diff(edges), align="edge", color=BLUE, edgecolor="white", linewidth=0.3
            )
            axes.set_ylabel("probability of the bin [%]")
        start, end = result.interval(0.8)
        handles = [axes.axvspan(start, end, color=GREY, alpha=0.2, zorder=0), axes.axvline(result.mean, color=BLACK)]
        labels = ["80 % interval", "mean"]
        top = max(abs(low), abs(high))
        if quota is not None:
            handles.append(axes.axvline(quota, color=VERMILION, linewidth=2))
            labels.append(f"quota: {_chance(result.p_at_least(quota))}")
            top = max(top, abs(quota))
        axes.set_ylim(bottom=0)
        _money_axis(axes.xaxis, float(top), _currency(result), what="bookings")
        _legend(axes, handles, labels)
    return axes


def _chance(p: float) -> str:
    """Write a chance without claiming certainty that is not there."""
    if 0.995 <= p < 1:
        return "over 99 % chance"
    return "under 1 % chance" if 0 < p < 0.005 else f"{p * 100:.0f} % chance"


def plot_ageing(table: pd.DataFrame, ax: Axes | None = None, *, max_stages: int = 8) -> Axes:
    """Draw age against amount of the open deals; overdue ones are crosses.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.analytics.ageing`.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    max_stages : int, default 8
        Stages with a colour of their own, those with most deals; the others are grey.

    Returns
    -------
    Axes
        Deals without an age or an amount above 0 are not drawn; the title says how many.
    """
    _need(table, "stage_name", "amount", "age_days", "overdue_days")
    age = table["age_days"].to_numpy(dtype=float, na_value=np.nan)
    amount = table["amount"].to_numpy(dtype=float)
    drawn = ~np.isnan(age) & (amount > 0)
    words = "Age of open deals"
    if not drawn.all():
        words += f", {int((~drawn).sum())} without age or amount not drawn"
    with _canvas(ax) as axes:
        _title(axes, table, words)
        if not drawn.any():
            return _nothing(axes, "no open deals with age and amount")
        stage = table["stage_name"].astype("str")
        order = list(stage[drawn].value_counts(sort=True).index)
        limit = min(max_stages, len(PALETTE))
        shown = order if len(order) <= limit else order[: limit - 1]
        late = (table["overdue_days"].fillna(0) > 0).to_numpy()
        handles: list[Any] = []
        labels: list[str] = []
        for place, name in enumerate([*shown, None] if len(shown) < len(order) else shown):
            chosen = drawn & ((stage == name).to_numpy() if name is not None else ~stage.isin(shown).to_numpy())
            colour = GREY if name is None else PALETTE[place]
            for rows, marker in ((chosen & ~late, "o"), (chosen & late, "x")):
                axes.scatter(age[rows], amount[rows], s=22, marker=marker, color=colour, alpha=0.7)
            handles += axes.plot([], [], "o", color=colour)
            labels.append(f"{len(order) - len(shown)} other stages" if name is None else name)
        if late.any():
            handles += axes.plot([], [], "x", color=BLACK)
            labels.append("overdue")
        axes.set_yscale("log")
        _log_money(axes, _currency(table))
        axes.set_xlabel("age [days since creation]")
        _legend(axes, handles, labels)
    return axes


def _log_money(ax: Axes, currency: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.yaxis.set_major_locator(LogLocator(base=10, numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    unit = "" if currency == "amount" else f" [{printable(currency, 40)}]"
    _plain(ax.yaxis.set_label_text(f"amount{unit}, logarithmic"))


def plot_linearity(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw what was won week by week, and the line of even bookings beside what was reached.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.analytics.linearity`.
    ax : Axes, optional
        Where to draw; a new figure if left out.

    Returns
    -------
    Axes
    """
    _need(table, "won_amount", "share", "cumulative_share", "week_start")
    with _canvas(ax) as axes:
        period = table.attrs.get(BASIS_KEY, {}).get("period")
        _title(axes, table, "Won by week" + (f" of {period}" if period else ""))
        if not len(table) or table["share"].isna().all():
            return _nothing(axes, "nothing was won")
        x = np.arange(len(table))
        bars = axes.bar(x, table["share"].to_numpy() * 100, 0.72, color=GREEN)
        reached = axes.plot(x, table["cumulative_share"].to_numpy() * 100, "o-", color=BLUE, markersize=4)
        days = (table["week_end"] - table["week_start"].iloc[0]).dt.days.to_numpy() + 1
        even = axes.plot(x, days / days[-1] * 100, "--", color=GREY)
        _names_below(axes, [f"{day:%m-%d}" for day in table["week_start"]])
        axes.set_ylim(0, 105)
        axes.set_ylabel("share of the period's bookings [%]")
        axes.set_xlabel("week beginning")
        _legend(axes, [*reached, *even, bars], ["won, added up", "even bookings", "won in the week"])
    return axes


def plot_concentration(table: pd.DataFrame, ax: Axes | None = None, *, max_groups: int = 20) -> Axes:
    """Draw how much of the pipeline hangs on the largest groups.

    Parameters
    ----------
    table : DataFrame
        From `opp_pandas.analytics.concentration`.
    ax : Axes, optional
        Where to draw; a new figure if left out.
    max_groups : int, default 20
        Groups drawn, largest first; the title says how many there are.

    Returns
    -------
    Axes
    """
    _need(table, "amount", "share", "cumulative_share")
    shown = table.iloc[:max_groups]
    words = "Concentration" + (f", the largest {max_groups} of {len(table)}" if len(table) > max_groups else "")
    with _canvas(ax, height=min(max(1.8, 1.1 + 0.34 * len(shown)), 10.0)) as axes:
        _title(axes, table, words)
        if not len(shown) or shown["share"].isna().all():
            return _nothing(axes, "no open pipeline")
        y = np.arange(len(shown))
        axes.barh(y, shown["share"].to_numpy() * 100, 0.66, color=BLUE)
        line = axes.plot(shown["cumulative_share"].to_numpy() * 100, y, "o-", color=ORANGE, markersize=4)
        axes.set_yticks(y, _row_names(shown, "all deals"), parse_math=False)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, 103)
        axes.set_xlabel("share [%]")
        _legend(axes, line, ["added up"])
    return axes
