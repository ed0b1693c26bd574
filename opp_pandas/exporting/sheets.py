"""Excel: a sheet of deals that people edit, with what each column means beside it."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas._files import check_path, load_workbook, read_cells, write_whole
from opp_pandas.changes.rules import WRITABLE
from opp_pandas.clocks import local_time
from opp_pandas.errors import FrameError, MissingExtraError
from opp_pandas.exporting.columns import SHEETS, Heading, exported, texts_of
from opp_pandas.exporting.delimited import zone_of
from opp_pandas.exporting.texts import from_cell, to_cell
from opp_pandas.frame_state import Loaded, loaded_of
from opp_pandas.kinds import INSTANTS, INTEGER, KINDS
from opp_pandas.resource import EDITABLE_NAMES, LOOKUP_COLUMNS, OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Sequence

DEALS, ABOUT, LISTS = "Opportunities", "About", "Lists"
ZONE = "Time zone of days and times"
LONGEST_CELL, _MOST_ROWS = 32_767, 1_048_575
# Excel's numbers are floats, of which it shows 15 digits.
_EXACT = 10**15
# Excel knows no day before; its first two months are off by one.
FIRST_MOMENT, LAST_MOMENT = pd.Timestamp("1900-03-01"), pd.Timestamp("9999-12-31 23:59:59")


def open_workbook(buffer: io.BytesIO) -> Any:
    """Begin a workbook in which no text becomes a formula, a link or a number."""
    try:
        import xlsxwriter
    except ImportError as error:
        raise MissingExtraError("XlsxWriter", "report") from error
    plain = dict.fromkeys(("strings_to_formulas", "strings_to_urls", "strings_to_numbers"), False)
    return xlsxwriter.Workbook(buffer, {**plain, "in_memory": True})


class _Exact(float):
    """A float that is written with all its digits; XlsxWriter writes 16, and 17 tell every float from the next."""

    def __format__(self, spec: str) -> str:
        return repr(float(self))


def to_excel(frame: pd.DataFrame, path: str | os.PathLike[str], *, timezone: str | None = None) -> Path:
    """Write deals as an Excel workbook that people edit and `read_export` reads back.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities, or any other frame with text as column names. Never modified.
    path : str or Path
        Ending in ``.xlsx``.
    timezone : str, optional
        By whose clocks days and times are shown; the load's zone if left out.

    Returns
    -------
    Path
        The file. The sheet ``Opportunities`` has typed cells under headings
        that stay in sight; headings of columns that can be written back are
        blue, empty columns are folded away, stages and owners are chosen from a
        list. The sheet ``About`` says what each column means. No cell is a
        formula or a link. A day typed over a close date is a day of the zone.

    Raises
    ------
    FrameError
        If a column cannot be written so that it comes back as it was, a text
        has more than 32,767 characters, or there are more rows than Excel has.
    MissingExtraError
        If XlsxWriter is not installed.
    ConfigurationError
        If the path cannot be written.

    See Also
    --------
    to_csv, read_export

    Examples
    --------
    >>> df.opp.to_excel("deals.xlsx")
    PosixPath('deals.xlsx')
    >>> len(opp.read_export("deals.xlsx", original=df).opp.changes())
    0
    """
    target, _ = check_path(path, (".xlsx",))
    zone = zone_of(frame, timezone)
    columns = exported(frame)
    if len(frame) > _MOST_ROWS:
        raise FrameError(f"{len(frame):,} rows are more than a sheet has ({_MOST_ROWS:,}); use to_csv, or filter first")
    buffer = io.BytesIO()
    book = open_workbook(buffer)
    writer = _Writer(book, zone)
    writer.add_deals(columns, loaded_of(frame))
    writer.add_about(columns, loaded_of(frame), len(frame))
    book.close()
    return write_whole(target, buffer.getvalue())


class _Writer:
    """A workbook with the formats of its cells."""

    def __init__(self, book: Any, zone: str) -> None:
        self.book, self.zone = book, zone
        self.text = book.add_format({"num_format": "@"})
        # Long texts in cells of the format "text" were shown as ##### by older versions.
        self.quoted = book.add_format({"quote_prefix": True})
        self.whole = book.add_format({"num_format": "#,##0"})
        self.plain = book.add_format({"num_format": "0"})
        self.moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        # What is copied is what is shown: seconds that were hidden would be lost on the way back.
        self.exact = [book.add_format({"num_format": f"yyyy-mm-dd hh:mm:ss{part}"}) for part in ("", ".000")]
        self.editable = book.add_format({"bold": True, "bg_color": "#CFE2F3", "bottom": 1})
        self.fixed = book.add_format({"bold": True, "bg_color": "#E3E3E3", "bottom": 1})
        self.bold = book.add_format({"bold": True, "bottom": 1})
        self.wrapped = book.add_format({"text_wrap": True, "valign": "top"})

    def add_deals(self, columns: Sequence[tuple[Heading, pd.Series]], loaded: Loaded | None) -> None:
        """Write the deals."""
        sheet = self.book.add_worksheet(DEALS)
        n = max((len(column) for _, column in columns), default=0)
        for place, (heading, column) in enumerate(columns):
            sheet.write_string(0, place, to_cell(heading.text), self.editable if _can_edit(heading) else self.fixed)
            self._write_column(sheet, place, heading, column)
            hidden = {"hidden": True} if n and column.isna().all() else {}
            sheet.set_column(place, place, _width(heading), self._format_of(heading), hidden)
        names = [heading.name for heading, _ in columns]
        sheet.freeze_panes(1, names.index("name") + 1 if "name" in names[:3] else 1)
        if columns:
            sheet.autofilter(0, 0, max(n, 1), len(columns) - 1)
        if "probability" in names and n:
            place = names.index("probability")
            whole = {"validate": "integer", "criteria": "between", "minimum": 0, "maximum": 100}
            sheet.data_validation(1, place, n, place, {**whole, "error_message": "a whole number of percent, 0 to 100"})
        if loaded is not None and n:
            self._add_lists(sheet, names, n, loaded)

    def _add_lists(self, sheet: Any, names: list[str], n: int, loaded: Loaded) -> None:
        """Let stages and owners be chosen by name, as far as a name says who is meant."""
        lists = None
        for place, column in enumerate(("stage_name", "owner_name")):
            lookup = loaded.lookups.get(LOOKUP_COLUMNS[column].type)
            if column not in names or lookup is None:
                continue
            known = lookup["name"].dropna()
            single = [name for name in known[~known.duplicated(keep=False)] if 0 < len(name) <= 255]
            if not single:
                continue
            if lists is None:
                lists = self.book.add_worksheet(LISTS)
                lists.hide()
            for row, name in enumerate(single):
                lists.write_string(row, place, name)
            letter = "AB"[place]
            source = f"={LISTS}!${letter}$1:${letter}${len(single)}"
            where = names.index(column)
            words = {"error_title": column, "error_message": "choose a name from the list"}
            sheet.data_validation(1, where, n, where, {"validate": "list", "source": source, **words})

    def _format_of(self, heading: Heading) -> Any:
        return {"text": self.text, "moment": self.moment}.get(SHEETS[heading.family])

    def _write_column(self, sheet: Any, place: int, heading: Heading, column: pd.Series) -> None:
        form = SHEETS[heading.family]
        if form == "moment":
            self._write_moments(sheet, place, column)
            return
        is_id = heading.name == "id" or heading.name.endswith("_id")
        number = self.plain if is_id else self.whole
        texts = texts_of(heading, column, self.zone)
        for row, (value, text) in enumerate(zip(column.array, texts, strict=True), 1):
            if text is None:
                continue
            is_float = isinstance(value, float | np.floating)
            if form == "number" and (np.isfinite(value) if is_float else abs(int(value)) < _EXACT):
                sheet.write_number(row, place, *([_Exact(value)] if is_float else [int(value), number]))
            elif form == "flag":
                sheet.write_boolean(row, place, bool(value))
            else:
                self._write_text(sheet, row, place, heading, text)

    def _write_text(self, sheet: Any, row: int, place: int, heading: Heading, text: str) -> None:
        cell = to_cell(text)
        if len(cell) > LONGEST_CELL:
            raise FrameError(
                f"row {row - 1}, column {heading.name}: {len(cell):,} characters, and a cell of Excel holds "
                f"{LONGEST_CELL:,}; use to_csv, or leave the column out: "
                f"df.drop(columns={heading.name!r}).opp.to_excel(...)"
            )
        sheet.write_string(row, place, cell, self.quoted if len(cell) > 255 or cell[0] in "=+-@'" else self.text)

    def _write_moments(self, sheet: Any, place: int, column: pd.Series) -> None:
        for row, value in enumerate(column.array, 1):
            if value is pd.NaT:
                continue
            local = value if value.tzinfo is None else local_time(value, self.zone)
            clock = local.tz_localize(None)
            if self._is_plain(value, clock):
                look = self.exact[bool(clock.microsecond)] if clock.second or clock.microsecond else self.moment
                sheet.write_datetime(row, place, clock.to_pydatetime(warn=False), look)
            else:
                sheet.write_string(row, place, local.isoformat(), self.text)

    def _is_plain(self, value: pd.Timestamp, clock: pd.Timestamp) -> bool:
        """Whether a cell of Excel, which knows neither zone nor microseconds, gives the very moment back."""
        if not FIRST_MOMENT <= clock <= LAST_MOMENT or clock.microsecond % 1000 or clock.nanosecond:
            return False
        if value.tzinfo is None:
            return True
        if clock.year == LAST_MOMENT.year and self.zone != "UTC":
            # Such a moment stands in UTC, and the zone's own clocks cannot be asked at the end of the calendar.
            return False
        there = clock.tz_localize(self.zone, nonexistent="shift_forward", ambiguous=True)
        return bool(there == value)

    def add_about(self, columns: Sequence[tuple[Heading, pd.Series]], loaded: Loaded | None, n: int) -> None:
        """Write what the sheet is, and what each column means."""
        import opp_pandas

        sheet = self.book.add_worksheet(ABOUT)
        facts = [
            ("What this is", f"{n:,} opportunities; edit the sheet {DEALS} and send the file back"),
            ("What can be edited", "columns with a blue heading; a day typed over a date is a day of the zone below"),
            ("What is not an edit", "another order of rows or columns, a row or column that is taken out"),
            (ZONE, self.zone),
            ("Written by", f"opp_pandas {opp_pandas.__version__}"),
        ]
        if loaded is not None:
            moment = loaded.as_of.tz_convert(self.zone)
            facts.insert(1, ("As of", f"{moment:%Y-%m-%d %H:%M}"))
        for row, (word, says) in enumerate(facts):
            sheet.write_string(row, 0, word)
            sheet.write_string(row, 1, says)
        start = len(facts) + 1
        for place, word in enumerate(("column", "meaning", "edited here", "type")):
            sheet.write_string(start, place, word, self.bold)
        for row, (heading, _) in enumerate(columns, start + 1):
            edited = "yes" if _can_edit(heading) else "no"
            for place, word in enumerate((to_cell(heading.name), _meaning(heading.name), edited, heading.dtype)):
                sheet.write_string(row, place, word, self.wrapped)
        sheet.set_column(0, 0, 28)
        sheet.set_column(1, 1, 70)
        sheet.set_column(2, 3, 20)


def _can_edit(heading: Heading) -> bool:
    return heading.name in WRITABLE or heading.name in EDITABLE_NAMES


def _meaning(name: str) -> str:
    if name == "id":
        return "the service's number of the deal; it finds the row again"
    if name in OPPORTUNITY.by_column:
        return OPPORTUNITY.by_column[name].meaning
    if name in OPPORTUNITY.relationship_by_column:
        return f"{OPPORTUNITY.relationship_by_column[name].meaning} [id]"
    if name in LOOKUP_COLUMNS:
        entry = LOOKUP_COLUMNS[name]
        return f"{entry.field.replace('_', ' ')} of {entry.id_column}"
    return ""


def _width(heading: Heading) -> float:
    wide = {"name": 34, "next_step": 40, "description": 40, "account_name": 26, "owner_name": 20, "tags": 24}
    kind = INSTANTS if heading.family == "moment" else KINDS.get(heading.family, INTEGER)
    return float(max(wide.get(heading.name, kind.width), min(len(heading.text) + 3, 30)))


def read_sheet(
    content: bytes, path: Path
) -> tuple[list[Heading], list[list[Any]], list[int], str | None, list[tuple[int, str, Any, str]]]:
    """Read a workbook: headings, columns of cells, row numbers, the zone, and cells that hold no value."""
    found = read_cells(content, path, DEALS)
    headings = [Heading.read(from_cell(name)) for name in found.names]
    columns = [[from_cell(cell) if isinstance(cell, str) else cell for cell in column] for column in found.columns]
    odd = [(found.numbers[row], headings[place].name, *says) for (row, place), says in found.odd.items()]
    with contextlib.closing(load_workbook(content, path)) as book:
        zone = _zone_of(book[ABOUT]) if ABOUT in book.sheetnames else None
    return headings, columns, found.numbers, zone, odd


def _zone_of(sheet: Any) -> str | None:
    for word, says, *_ in sheet.iter_rows(values_only=True, max_col=2):
        if word == ZONE and isinstance(says, str):
            return says
    return None
