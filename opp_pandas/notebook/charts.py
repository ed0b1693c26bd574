"""What is drawn of the figures, as it crosses to the page: cards and charts, and what they were before edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.figures.core.basis import basis_of, counted
from opp_pandas.figures.core.figure import PLOTS
from opp_pandas.notebook.deal_numbers import AGES, LEVEL, UNKNOWN_AGE
from opp_pandas.notebook.selection import NO_DATE
from opp_pandas.notebook.workspace_messages import Bar, Card, Chart, Kind, Pick, Series
from opp_pandas.plotting.canvas import label_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opp_pandas.notebook.deal_numbers import Numbers

_PARTS = (
    Series("won_amount", "won", "won"),
    Series("weighted_amount", "open, weighted", "open"),
    Series("open_amount", "open, in all", "rest"),
)
_DEALS = ("won_count", "open_count")


def number(value: Any) -> float | None:
    """Return a number as it crosses to the page; None where it is missing or endless."""
    return None if pd.isna(value) or not np.isfinite(value) else float(value)


def cards_of(now: Numbers, before: Numbers | None) -> list[Card]:
    """Return the numbers above the charts, each with what it was where edits moved it."""
    cards = _cards(now)
    earlier = {} if before is None else {card.title: card.value for card in _cards(before)}
    for card in cards:
        was = earlier.get(card.title)
        if was is not None and card.value is not None and not np.isclose(was, card.value, rtol=1e-12, atol=1e-9):
            card.before = was
    return cards


def _cards(now: Numbers) -> list[Card]:
    row, rates, period = now.focus, now.key_figures.iloc[0], now.period
    cards: list[Card] = []

    def add(title: str, value: Any, kind: Kind, note: str = "", pick: Pick | None = None) -> None:
        cards.append(Card(title, number(value), kind, note, pick=pick))

    def sums(title: str, column: str, note: str = "") -> None:
        add(title, 0.0 if row is None else row[column], "money", note, Pick("forecast", column, period, title))

    stated = basis_of(now.forecast)["arguments"].get("probability")
    whose = {"own": "Sellers' forecast", "stage": "Stages' forecast"}.get(stated, "Weighted forecast")
    count = {name: 0 if row is None else int(row[name]) for name in ("won_count", "open_count")}
    sums("Won", "won_amount", counted(count["won_count"], "deal"))
    sums(whose, "forecast_amount", "won and weighted open deals, without overdue ones")
    sums("Open, due in the period", "open_amount", counted(count["open_count"], "deal"))
    if row is not None and "quota" in row.index and not pd.isna(row["quota"]):
        attained = number(row["attainment"])
        add("Gap to quota", row["gap"], "money", "" if attained is None else f"{attained:,.0%} of the quota is won")
        add("Coverage", row["coverage"], "ratio", "open amount for each unit of the gap")
    add("Overdue", rates["overdue_amount"], "money", counted(int(rates["overdue_count"]), "deal"),
        Pick("kpis", "overdue_amount", "", "Overdue"))  # fmt: skip
    add("Open pipeline", rates["open_amount"], "money", f"{counted(int(rates['open_count']), 'deal')}, all periods",
        Pick("kpis", "open_amount", "", "Open pipeline"))  # fmt: skip
    low, high = number(rates["win_rate_low"]), number(rates["win_rate_high"])
    note = "no deal was closed" if low is None else f"between {low:.0%} and {high:.0%}"
    add("Win rate", rates["win_rate"], "percent", note, Pick("kpis", "win_rate", "", "Closed deals"))
    return cards


def forecast_chart(now: Numbers, before: Numbers | None) -> Chart:
    """Draw sums by period; those to come with the interval that the deals' percentages give."""
    table = now.forecast
    bars = _bars(table, _PARTS, None if before is None else before.forecast, _DEALS)
    for bar in bars:
        bar.focus = bar.label == now.period
        if (found := now.ahead.get(bar.label)) is not None:
            bar.low, bar.high = found.interval(LEVEL)
    first = next(iter(now.ahead.values()), None)
    note = "" if first is None else f"Whiskers: {LEVEL:.0%} interval, {first.assumption}; {first.tested}."
    return Chart("forecast", "Forecast by period", "columns", "money", [*_PARTS], bars, _words("forecast", table), note)


def owners_chart(now: Numbers, before: Numbers | None) -> Chart | None:
    """Draw the period in focus by owner."""
    table = now.owners
    if not len(table):
        return None
    bars = _bars(table, _PARTS, None if before is None else before.owners, _DEALS)
    for bar in bars:
        bar.focus = bar.label in now.choice.owners
    title = f"{now.period} by owner"
    return Chart("owners", title, "bars", "money", [*_PARTS], bars, _words("forecast", table))


def stages_chart(now: Numbers, before: Numbers | None, reached: pd.DataFrame | None) -> Chart:
    """Draw the open pipeline by stage; with a funnel also how many deals ever came so far."""
    stages = now.context.stages.frame
    is_open = now.stages.index.isin(stages.loc[stages["status"] == "open", "stage_name"])
    series, table = [_PARTS[1], Series("amount", "open, in all", "rest")], now.stages[is_open]
    bars = _bars(table, series, None if before is None else before.stages, ["count"])
    note = ""
    if reached is not None:
        ever = reached["reached"].dropna()
        by_label = dict(zip(_labels(reached), reached[["reached", "step_conversion"]].to_numpy(object), strict=True))
        for bar in bars:
            n, share = by_label.get(bar.label, (None, None))
            came = "" if pd.isna(n) else f"{counted(int(n), 'deal')} came so far"
            bar.note = came if not came or pd.isna(share) else f"{came}, {share:.0%} of those in the stage before"
        if len(ever) and ever.iloc[0]:
            note = (
                f"Of {counted(int(ever.iloc[0]), 'deal')} seen to enter, {ever.iloc[-1] / ever.iloc[0]:.0%} were won."
            )
    return Chart(
        "stage_distribution", "Open pipeline by stage", "bars", "money", series, bars,
        _words("stage_distribution", table), note,
    )  # fmt: skip


def ages_chart(now: Numbers, before: Numbers | None) -> Chart:
    """Draw the open pipeline by the age of its deals."""
    sums = now.ages.groupby("span")["amount"].agg(["sum", "size"])
    earlier = {} if before is None else before.ages.groupby("span")["amount"].sum().to_dict()
    spans = [*AGES, *([UNKNOWN_AGE] if UNKNOWN_AGE in sums.index else [])]
    bars = [
        Bar(span, [amount], [] if before is None else [float(earlier.get(span, 0.0))], int(n))
        for span, amount, n in sums.reindex(spans, fill_value=0).itertuples()
    ]
    return Chart(
        "ageing", "Open pipeline by age", "bars", "money", [Series("amount", "open", "rest")], bars,
        _words("ageing", now.ages),
    )  # fmt: skip


def attention_chart(now: Numbers, before: Numbers | None) -> Chart:
    """Draw how many deals need a look, by reason."""
    counts, earlier = ({} if each is None else basis_of(each.hygiene)["counts"] for each in (now, before))
    meanings = basis_of(now.hygiene)["definitions"]
    bars = [
        Bar(name, [float(n)], [float(earlier[name])] if name in earlier else [], note=meanings[name])
        for name, n in sorted(counts.items(), key=lambda pair: -pair[1])
        if n or earlier.get(name)
    ]
    series = [Series("", "deals", "alert")]
    return Chart("hygiene", "What needs attention", "bars", "count", series, bars, _words("hygiene", now.hygiene))


def bridge_chart(table: pd.DataFrame, period: str, words: str) -> Chart:
    """Draw what made the open pipeline of a period what it is."""
    bars = [
        Bar(str(name), [number(row["amount"])], count=int(row["count"]))
        for name, row in table.iterrows()
        if row["count"] or row["amount"] or name in ("start", "end")
    ]
    return Chart(
        "waterfall", f"Open pipeline of {period}: changes {words}", "bridge", "money",
        [Series("amount", "amount", "base")], bars, _words("waterfall", table),
    )  # fmt: skip


def _bars(
    table: pd.DataFrame, series: Sequence[Series], before: pd.DataFrame | None, counts: Sequence[str]
) -> list[Bar]:
    """Return the rows of a table as bars; beside them what another table has in the same row, and how many deals."""
    columns = [each.column for each in series]
    earlier = {} if before is None else dict(zip(_labels(before), _values(before, columns), strict=True))
    nothing: list[float | None] = [0.0] * len(columns) if before is not None else []
    bars = [
        Bar(label, values, earlier.get(label, nothing), n)
        for label, values, n in zip(
            _labels(table), _values(table, columns), table[[*counts]].sum(axis=1).astype(int).tolist(), strict=True
        )
    ]
    for name, column in (("mark", "forecast_amount"), ("quota", "quota")):
        for bar, (value,) in zip(bars, _values(table, [column]) if column in table.columns else (), strict=False):
            setattr(bar, name, value)
    if before is not None and "forecast_amount" in before.columns:
        marks = dict(zip(_labels(before), _values(before, ["forecast_amount"]), strict=True))
        for bar in bars:
            bar.mark_before = marks.get(bar.label, [0.0])[0]
    return bars


def _labels(table: pd.DataFrame) -> list[str]:
    """Return the rows' own labels: of a grouped table the groups'."""
    names = table.index.get_level_values(-1)
    return [NO_DATE if missing else label_of(name) for name, missing in zip(names, names.isna(), strict=True)]


def _values(table: pd.DataFrame, columns: Sequence[str]) -> list[list[float | None]]:
    numbers = table[[*columns]].to_numpy(dtype=float)
    return [[number(value) for value in row] for row in numbers.tolist()]


def _words(figure: str, table: pd.DataFrame) -> str:
    """Describe what a chart shows, for those who do not see it."""
    return PLOTS[figure].alt(table)
