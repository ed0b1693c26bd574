"""CSV: one line a deal, for every spreadsheet and every program."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opp_pandas._files import check_path, decode_table, write_whole
from opp_pandas.errors import FrameError, printable
from opp_pandas.exporting.columns import SHEETS, Heading, exported, texts_of
from opp_pandas.exporting.texts import guard, unguard
from opp_pandas.frame_state import meaning_of
from opp_pandas.timezones import check_zone

if TYPE_CHECKING:
    import pandas as pd

# Spreadsheets keep 15 digits of a number.
_DIGITS = 15
_LONGEST_CELL = 10_000_000


def to_csv(frame: pd.DataFrame, path: str | os.PathLike[str], *, timezone: str | None = None) -> Path:
    """Write deals as a CSV file that `read_export` reads back as they are.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities, or any other frame with text as column names. Never modified.
    path : str or Path
        Ending in ``.csv``.
    timezone : str, optional
        By whose clocks instants are written, with their offset; the load's zone if left out.

    Returns
    -------
    Path
        The file: UTF-8 with a mark by which Excel knows it, comma, one line a
        deal. Missing is an empty cell; texts that a spreadsheet would take for
        a formula, a number or a date have an apostrophe before them, and so
        does the empty text, which is nothing but that. Lists (tags) are JSON.
        Headings are the columns' names, with the dtype in brackets where it is
        not what the name says. The index stands in the first column unless it
        is a plain count.

    Raises
    ------
    FrameError
        If a column cannot be written so that it comes back as it was.
    ConfigurationError
        If the path cannot be written.

    See Also
    --------
    to_excel, read_export

    Examples
    --------
    >>> df.opp.to_csv("deals.csv")
    PosixPath('deals.csv')
    >>> len(opp.read_export("deals.csv", original=df).opp.changes())
    0
    """
    target, _ = check_path(path, (".csv",))
    zone = zone_of(frame, timezone)
    columns = exported(frame)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([guard(heading.text) for heading, _ in columns])
    cells = [[_cell(text, heading) for text in texts_of(heading, column, zone)] for heading, column in columns]
    writer.writerows(zip(*cells, strict=True))
    return write_whole(target, buffer.getvalue().encode("utf-8-sig"))


def zone_of(frame: pd.DataFrame, timezone: str | None) -> str:
    """Return the zone by whose clocks instants are written."""
    if timezone is not None:
        return check_zone(timezone)
    load = meaning_of(frame)
    return (load.timezone if load else None) or "UTC"


def _cell(text: str | None, heading: Heading) -> str:
    if text is None:
        return ""
    family = heading.family
    if family == "integer":
        return f"'{text}" if len(text.lstrip("-")) > _DIGITS else text
    return guard(text) if SHEETS[family] == "text" else text


def read_lines(content: bytes, path: Path) -> tuple[list[Heading], list[list[str | None]], list[int]]:
    """Read a CSV file: headings, columns of cells, and the number of each line; a FrameError says why it is none."""
    text, separator = decode_table(content, path)
    if csv.field_size_limit() < _LONGEST_CELL:
        csv.field_size_limit(_LONGEST_CELL)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = [unguard(name) for name in next(rows, [])]
    if not any(names):
        raise FrameError(f"{printable(path)} has no headings in its first line; it is no file of to_csv()")
    headings = [Heading.read(name) for name in names]
    kept: list[Sequence[str]] = []
    lines: list[int] = []
    try:
        for number, row in enumerate(rows, 2):
            if not any(row):
                continue
            if len(row) > len(names):
                raise FrameError(f"{printable(path)}, row {number}: {len(row)} cells under {len(names)} headings")
            kept.append(row)
            lines.append(number)
    except csv.Error as error:
        raise FrameError(f"{printable(path)}, line {rows.line_num:,}, cannot be read as CSV: {error}") from error
    # Some programs leave the empty cells at the end of a line away.
    columns = [
        [_read(row[place], heading) if place < len(row) else None for row in kept]
        for place, heading in enumerate(headings)
    ]
    return headings, columns, lines


def _read(text: str, heading: Heading) -> str | None:
    if text == "":
        return None
    if SHEETS[heading.family] == "text":
        return unguard(text)
    return text.removeprefix("'")
