"""The report as a workbook: a sheet for each table, cells of their own types, charts of Excel, never a formula."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import printable
from opp_pandas.exporting.sheets import FIRST_MOMENT, LAST_MOMENT, LONGEST_CELL, open_workbook
from opp_pandas.kinds import is_missing
from opp_pandas.reporting.blocks import Drawing, Headlines, Table, written
from opp_pandas.reporting.charts import add_chart

if TYPE_CHECKING:
    from opp_pandas.reporting.blocks import Column
    from opp_pandas.reporting.build import Report

FORMATS = {
    "money": "#,##0", "count": "#,##0", "deals": "#,##0.0", "days": "#,##0",
    "share": "0.0%", "percent": '0"%"', "ratio": "#,##0.0", "number": "General",
    "day": "yyyy-mm-dd", "moment": "yyyy-mm-dd hh:mm", "text": "General", "flag": "General",
}  # fmt: skip
_LONGEST_NAME, _WIDEST = 31, 50
_BAD_IN_NAME = re.compile(r"[\[\]:*?/\\'\x00-\x1f]")


def to_workbook(report: Report) -> bytes:
    """Return the report as an ``.xlsx``: headlines, a sheet for each table with the charts of its plots, the basis."""
    buffer = io.BytesIO()
    book = _Book(open_workbook(buffer))
    book.book.set_properties({"title": report.title, "comments": report.subtitle})
    for section in report.sections:
        tables = [block for block in section.blocks if isinstance(block, Table)]
        for block in section.blocks:
            if isinstance(block, Headlines):
                book.add_headlines(section.title, report, block)
        drawings = [block for block in section.blocks if isinstance(block, Drawing)]
        for place, table in enumerate(tables):
            name = section.title if place == 0 else f"{section.title[:27].strip()} {place + 1}"
            sheet = book.add_table(name, table)
            shown = [drawing for drawing in drawings if add_chart(book.book, sheet, table, drawing)]
            drawings = [drawing for drawing in drawings if drawing not in shown]
    book.add_basis(report)
    book.book.close()
    return buffer.getvalue()


class _Book:
    """A workbook, its formats and the names of its sheets."""

    def __init__(self, book: Any) -> None:
        self.book = book
        self._taken: set[str] = set()
        self._formats: dict[str, Any] = {}
        self.bold = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        self.title = book.add_format({"bold": True, "font_size": 14})
        self.wrapped = book.add_format({"text_wrap": True, "valign": "top"})
        # A text beside a number on its left would touch it; one that looks like a formula stays text when it is edited.
        self.beside = book.add_format({"text_wrap": True, "valign": "top", "align": "left", "indent": 1})
        self.linked = book.add_format({"font_color": "blue", "underline": 1, "valign": "top"})
        self.quoted = book.add_format({"quote_prefix": True})

    def format(self, kind: str) -> Any:
        """Return the number format of a kind of value."""
        if kind not in self._formats:
            self._formats[kind] = self.book.add_format({"num_format": FORMATS[kind], "valign": "top"})
        return self._formats[kind]

    def sheet(self, title: str) -> Any:
        """Add a sheet under a name that Excel takes and no other sheet has."""
        base = " ".join(_BAD_IN_NAME.sub(" ", printable(title, 60)).split()) or "Table"
        if len(base) > _LONGEST_NAME:
            # A word that is cut reads as another one; a name without a space is cut all the same.
            base = (base[: _LONGEST_NAME + 1].rpartition(" ")[0] or base)[:_LONGEST_NAME]
        name = f"{base} sheet" if base.casefold() == "history" else base
        number = 2
        while name.casefold() in self._taken:
            name = f"{base[:27]} {number}"
            number += 1
        self._taken.add(name.casefold())
        return self.book.add_worksheet(name)

    def add_headlines(self, title: str, report: Report, block: Headlines) -> None:
        """Write the headline numbers, one a row."""
        sheet = self.sheet(title)
        sheet.write_string(0, 0, report.title, self.title)
        sheet.write_string(1, 0, report.subtitle)
        sheet.merge_range(2, 0, 2, 2, "")
        sheet.write_string(2, 0, report.summary, self.wrapped)
        sheet.set_row(2, _height(report.summary, 104))
        for place, tile in enumerate(block.tiles, 4):
            sheet.set_row(place, _height(tile.detail, 54))
            sheet.write_string(place, 0, tile.label, self.wrapped)
            self.write(sheet, place, 1, tile.number if tile.number is not None else tile.value, tile.kind)
            sheet.write_string(place, 2, tile.detail, self.beside)
        sheet.set_column(0, 0, 26)
        sheet.set_column(1, 1, 18)
        sheet.set_column(2, 2, 60)
        _print_wide(sheet)

    def add_table(self, title: str, table: Table) -> Any:
        """Write a table: headings that stay in sight, a filter, cells of their own types; give its sheet."""
        sheet = self.sheet(title)
        columns = table.columns()
        for place, column in enumerate(columns):
            unit = f" ({table.currency})" if table.currency and column.kind == "money" else ""
            heading = f"{column.heading}{unit}"
            sheet.write_string(0, place, heading, self.bold)
            for row, value in enumerate(column.values, 1):
                self.write(sheet, row, place, value, column.kind)
            sheet.set_column(place, place, _width(column, heading))
        texts = [list(map(str, column.values)) for column in columns if column.kind == "text"]
        for row, cells in enumerate(zip(*texts, strict=True), 1):
            sheet.set_row(row, _height(max(cells, key=len), _WIDEST - 4))
        sheet.set_row(0, 30)
        sheet.freeze_panes(1, 1)
        if columns:
            sheet.autofilter(0, 0, max(len(table), 1), len(columns) - 1)
        _print_wide(sheet)
        sheet.repeat_rows(0)
        for row, link in enumerate(table.links, 1):
            if link is not None:
                sheet.write_url(
                    row, 0, link, self.linked, printable(written(columns[0].values[row - 1], columns[0].kind), 250)
                )
        return sheet

    def add_basis(self, report: Report) -> None:
        """Write what the figures stand on, and their definitions."""
        sheet = self.sheet("Basis")
        rows: list[tuple[str, str]] = [("Report", report.title), ("", report.subtitle), *report.basis]
        rows += [("Note", note) for note in report.notes]
        rows += [("Note", note) for section in report.sections for note in section.notes]
        for figure, terms in report.definitions:
            rows += [("", ""), (figure, "definition"), *terms]
        headings = {figure for figure, _ in report.definitions}
        for place, (word, says) in enumerate(rows):
            is_heading = word in headings and says == "definition"
            sheet.write_string(place, 0, word, self.bold if is_heading else self.wrapped)
            sheet.write_string(place, 1, says[:LONGEST_CELL], self.wrapped)
            sheet.set_row(place, _height(says, 100))
        sheet.set_column(0, 0, 26)
        sheet.set_column(1, 1, 100)
        _print_wide(sheet)

    def write(self, sheet: Any, row: int, place: int, value: Any, kind: str) -> None:
        """Write one cell as what it is; nothing where it is missing."""
        if is_missing(value):
            return
        if isinstance(value, bool | np.bool_):
            sheet.write_boolean(row, place, bool(value))
        elif isinstance(value, pd.Timestamp):
            self._write_moment(sheet, row, place, value, kind)
        elif isinstance(value, int | float | np.integer | np.floating) and _fits(value):
            kind = "count" if kind == "deals" and float(value).is_integer() else kind
            sheet.write_number(row, place, float(value) if isinstance(value, float | np.floating) else int(value),
                               self.format(kind))  # fmt: skip
        else:
            text = written(value, kind) if not isinstance(value, str) else printable(value, LONGEST_CELL)  # type: ignore[arg-type]
            look = self.quoted if text[:1] in tuple("=+-@'") else self.beside if place else self.wrapped
            sheet.write_string(row, place, text, look)

    def _write_moment(self, sheet: Any, row: int, place: int, value: pd.Timestamp, kind: str) -> None:
        # Excel's cells know no zone: the clock time of the column's zone is written.
        local = value.tz_localize(None) if value.tzinfo is not None else value
        if FIRST_MOMENT <= local <= LAST_MOMENT:
            sheet.write_datetime(row, place, local.to_pydatetime(warn=False), self.format(kind))
        else:
            sheet.write_string(row, place, local.isoformat(sep=" ")[: 10 if kind == "day" else 16])


def _print_wide(sheet: Any) -> None:
    sheet.set_landscape()
    sheet.fit_to_pages(1, 0)


def _height(text: str, width: int) -> float:
    """Work out how high a row of wrapped text is: not every program does it when it opens a file."""
    return 15.0 * min(max(-(-len(text) // width), 1), 20)


def _fits(value: Any) -> bool:
    """Whether Excel's numbers, which are floats, hold the value exactly."""
    if isinstance(value, int | np.integer):
        return abs(int(value)) <= 2**53
    return bool(np.isfinite(value))


def _width(column: Column, heading: str) -> float:
    """Work out a width for the values, and for the heading in two lines."""
    longest = max((len(written(value, column.kind)) for value in column.values[:200]), default=0)
    word = max(map(len, heading.split()), default=0)
    return float(min(max(longest + 3, word + 3, len(heading) // 2 + 5, 8), _WIDEST))
