"""The plots of a report as charts of Excel, over the cells of the table beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.figures.core.basis import basis_of
from opp_pandas.plotting.canvas import GREY, LOST, OPEN, ORANGE, QUOTA, SKY, WON, stage_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.reporting.blocks import Drawing, Table

_SIZE = {"width": 760, "height": 380}


@dataclass(frozen=True)
class _Chart:
    """How a plot is drawn in a workbook: bars lie, columns stand, one for each column of the table and in its colour.

    `line` and `points` are columns drawn over them, `whiskers` those with the ends of an interval around the series.
    """

    type: str
    series: Mapping[str, str]
    stacked: bool = False
    line: str = ""
    points: str = ""
    whiskers: tuple[str, str] | tuple[()] = ()


_CHARTS: Mapping[str, _Chart] = {
    "forecast": _Chart("column", {"won_amount": WON, "weighted_amount": OPEN}, stacked=True, line="quota"),
    "predict": _Chart("column", {"mean": OPEN}, whiskers=("low_80", "high_80")),
    "track_record": _Chart("column", {"forecast": OPEN}, points="actual", whiskers=("low_80", "high_80")),
    "coverage": _Chart("bar", {"coverage": OPEN}),
    "win_rates": _Chart("bar", {"win_rate": OPEN}, whiskers=("win_rate_low", "win_rate_high")),
    "stage_distribution": _Chart("bar", {"amount": OPEN}),
    "conversion": _Chart("bar", {"reached": OPEN}),
    "waterfall": _Chart("column", {"amount": OPEN}, stacked=True),
}


def add_chart(book: Any, sheet: Any, table: Table, drawing: Drawing) -> bool:
    """Add the chart of a plot below its table, whose first column names the bars; give whether there is one."""
    plot = drawing.plot.removeprefix("plot_")
    chosen = _CHARTS.get(plot)
    columns = {column.name: place for place, column in enumerate(table.columns())}
    if chosen is None or not len(table) or not {*chosen.series, *chosen.whiskers} <= {*columns}:
        return False
    last = len(table)
    names = [sheet.name, 1, 0, last, 0]

    def cells(name: str) -> list[Any]:
        return [sheet.name, 1, columns[name], last, columns[name]]

    chart = book.add_chart({"type": chosen.type, **({"subtype": "stacked"} if chosen.stacked else {})})
    series = {"categories": names, "gap": 40}
    hidden = _Hidden(sheet, len(columns) + 1, last)
    chart.show_hidden_data()
    for name, colour in chosen.series.items():
        series |= {"name": table.heading(name), "values": cells(name), "fill": {"color": colour}}
        if plot == "waterfall":
            # Each bar hangs where the ones before it end: it stands on one that nobody sees.
            start, height = _heights(table.frame[name].to_numpy(dtype=float))
            chart.add_series({"categories": names, "values": hidden.add("bar from", start), "fill": {"none": True}})
            series["values"] = hidden.add("bar height", height)
        if len(chosen.series) == 1:
            series["points"] = _points(plot, table, colour)
        if chosen.whiskers:
            middle, low, high = (
                table.frame[each].to_numpy(dtype=float, na_value=np.nan) for each in (name, *chosen.whiskers)
            )
            ends = {
                "plus_values": hidden.range("above", high - middle),
                "minus_values": hidden.range("below", middle - low),
            }
            series["x_error_bars" if chosen.type == "bar" else "y_error_bars"] = {"type": "custom", **ends}
        chart.add_series(series)
    over = chosen.line or chosen.points
    if over in columns:
        line = book.add_chart({"type": "line"})
        mark = {"type": "diamond", "size": 8, "fill": {"color": WON}, "border": {"color": WON}}
        look: dict[str, Any] = (
            {"line": {"color": QUOTA, "width": 2.25}} if chosen.line else {"line": {"none": True}, "marker": mark}
        )
        line.add_series({"name": table.heading(over), "categories": names, "values": cells(over), **look})
        chart.combine(line)
    _dress(chart, chosen, table)
    sheet.insert_chart(last + 2, 0, chart, {"description": table.words, "object_position": 2})
    return True


def _dress(chart: Any, chosen: _Chart, table: Table) -> None:
    chart.set_title({"name": table.caption, "name_font": {"size": 11}})
    one = len(chosen.series) == 1 and not (chosen.line or chosen.points)
    chart.set_legend({"none": True} if one else {"position": "bottom"})
    name = next(iter(chosen.series))
    kind = next(column.kind for column in table.columns() if column.name == name)
    unit = table.currency if kind == "money" else ""
    numbers: dict[str, Any] = {"num_format": {"share": "0%", "ratio": "0.0"}.get(kind, "#,##0"), "name": unit}
    names: dict[str, Any] = {"label_position": "low", **({"reverse": True} if chosen.type == "bar" else {})}
    if chosen.whiskers:
        # The axis would end where the bars do, not their whiskers, and begin below what cannot be negative.
        drawn = [each for each in (name, chosen.points, *chosen.whiskers) if each in table.frame.columns]
        low, high = (float(getattr(np, end)(table.frame[drawn].to_numpy(float))) for end in ("nanmin", "nanmax"))
        step = 10 ** np.floor(np.log10(max(high, 1e-6))) / (1 if kind == "share" else 5)
        numbers |= {"max": float(np.ceil(high / step) * step), **({"min": 0} if low >= 0 else {})}
    if chosen.points:
        # As days, not words, they would press the bars into lines.
        names |= {"text_axis": True, "num_format": "yyyy-mm-dd", "num_font": {"rotation": -45}}
    numbers["major_gridlines"] = {"visible": True, "line": {"color": "#DDDDDD"}}
    axes = (numbers, names) if chosen.type == "bar" else (names, numbers)
    chart.set_x_axis(axes[0])
    chart.set_y_axis(axes[1])
    chart.set_size({**_SIZE, "height": max(_SIZE["height"], 90 + 26 * len(table) if chosen.type == "bar" else 0)})


def _points(plot: str, table: Table, colour: str) -> list[dict[str, Any]]:
    """Colour the bars of one series: what is open, won or lost looks like that in every form."""
    names = [str(name) for name in table.frame.index]
    known: dict[str, str] = {}
    if plot == "predict":
        known = {"won to date": WON, "new deals": SKY, "total": GREY}
    elif plot == "waterfall":
        amounts = table.frame["amount"].to_numpy(dtype=float)
        known = {name: SKY if amount >= 0 else ORANGE for name, amount in zip(names, amounts, strict=True)}
        known |= {"start": OPEN, "end": OPEN, "won": WON, "lost": LOST}
    elif plot in ("stage_distribution", "conversion"):
        looks = {"won": WON, "lost": LOST}
        kinds = stage_kinds(names, basis_of(table.frame).get("stages", {}))
        known = {name: looks[kind] for name, kind in zip(names, kinds, strict=True) if kind in looks}
    return [{"fill": {"color": known.get(name, colour)}} for name in names]


def _heights(amounts: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Work out the bars of a waterfall: where each begins, and how high it is."""
    level = np.cumsum(amounts[:-1])
    start = np.concatenate([[0.0], level[:-1], [0.0]])
    end = np.concatenate([level, amounts[-1:]])
    return np.minimum(start, end), np.abs(end - start)


class _Hidden:
    """Columns beside a table that only its chart reads."""

    def __init__(self, sheet: Any, place: int, last: int) -> None:
        self.sheet, self.place, self.last = sheet, place, last

    def add(self, word: str, values: np.ndarray[Any, Any]) -> list[Any]:
        """Write a column; give where its values stand."""
        place, self.place = self.place, self.place + 1
        self.sheet.write_string(0, place, word)
        self.sheet.write_column(1, place, np.nan_to_num(values).tolist())
        self.sheet.set_column(place, place, None, None, {"hidden": True})
        return [self.sheet.name, 1, place, self.last, place]

    def range(self, word: str, values: np.ndarray[Any, Any]) -> str:
        """Write a column; give where its values stand as Excel writes it."""
        from xlsxwriter.utility import xl_range_formula

        return str(xl_range_formula(*self.add(word, values)))
