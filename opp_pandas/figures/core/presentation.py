"""Results for readers: grouped numbers, percentages, days as days, and in words what stands behind them."""

from __future__ import annotations

import datetime as dt
import html
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas._html import as_written
from opp_pandas.errors import named, printable
from opp_pandas.figures.core.basis import BASIS_KEY, basis_of, day_of_basis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_ROWS = 60
Kind = Literal[
    "text", "money", "count", "deals", "days", "share", "ratio", "percent", "number", "day", "moment", "flag"
]
_SHARE = re.compile(
    r"(^|_)(p|rate|share|conversion|attainment|attained|slippage|wape|mape|bias|skill|inside|advanced|back|won|lost)"
    r"(_low|_high|_mean|_value|_without|_moved|_with_overdue|_\d+)?$|^not_closed_on_time$|^to "
)
_MONEY = re.compile(
    r"amount|^(quota|gap|gap_to_forecast|adjusted|delta|change|pipeline_needed|velocity_per_day|landing|crps"
    r"|mean|sd|won_to_date|p\d+)$"
)
_LABEL = "text-align:left;vertical-align:top;white-space:nowrap"
_CAPTION = "text-align:left;font-weight:bold;color:inherit;white-space:nowrap"
_UPRIGHT = 6
"""A table of one row with more columns than these is read from top to bottom."""


def stages_in_words(basis: Mapping[str, Any]) -> str:
    """Describe how many deals there were, and which stages count as open, won and lost."""
    stages = basis["stages"]
    words = [f"{status}: {named(stages[status], 12)}" for status in ("open", "won", "lost") if stages.get(status)]
    return f"{basis['n']:,} deals; stages " + ("; ".join(words) or "none") + (" (guessed)" if stages["guessed"] else "")


def caption_of(basis: Mapping[str, Any]) -> str:
    """Describe in a line what a result is: its title, day and currency."""
    title = printable(basis.get("title") or basis["figure"], 80)
    day = day_of_basis(basis)
    currency = f", amounts in {printable(basis['currency'], 20)}" if basis.get("currency") else ""
    return title + (f", as of {day}" if day else "") + currency


def notes_of(basis: Mapping[str, Any]) -> list[str]:
    """Describe in sentences what a result stands on."""
    first = [stages_in_words(basis)] if "stages" in basis else []
    return [*first, *(printable(note) for note in basis.get("notes", ()))]


def write_column(column: pd.Series, zone: str | None = None) -> list[str]:
    """Write the values of a column for readers, all in one format; missing ones are empty.

    Its name tells money, shares and days apart; instants are read as days in a zone, UTC if left out.

    Examples
    --------
    >>> write_column(pd.Series([1241862.0, 7.5], name="open_amount"))
    ['1,241,862', '8']
    >>> write_column(pd.Series([0.25, float("nan")], name="win_rate"))
    ['25.0 %', '']
    >>> write_column(pd.Series(pd.to_datetime(["2026-07-01T03:00Z"]), name="close_date"), "America/New_York")
    ['2026-06-30']
    """
    write = _writer(column, zone)
    return ["" if _is_missing(value) else write(value) for value in column]


def _is_missing(value: Any) -> bool:
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def kind_of(name: str, column: pd.Series) -> Kind:
    """Determine from name and dtype what kind of values a column holds."""
    dtype = column.dtype
    if dtype.kind == "M":
        return "moment" if isinstance(dtype, pd.DatetimeTZDtype) else "day"
    if pd.api.types.is_bool_dtype(dtype):
        return "flag"
    if not pd.api.types.is_numeric_dtype(dtype):
        return "text"
    if name == "probability":
        return "percent"
    if name == "id" or name.endswith("_id"):
        return "number"
    if name.endswith("_days"):
        return "days"
    if _MONEY.search(name) and not name.endswith("_count"):
        return "money"
    if pd.api.types.is_integer_dtype(dtype):
        return "count"
    return "share" if _SHARE.search(name) else "ratio" if name == "coverage" else "number"


def _writer(column: pd.Series, zone: str | None) -> Callable[[Any], str]:
    kind = kind_of(str(column.name), column)
    if kind == "moment":
        return _write_instants(column, zone)
    if kind == "day":
        # strftime knows no year above 9999, in which a quarter ends that has 9999-12-31 in it.
        return lambda value: str(value.isoformat()).partition("T")[0]
    if kind in ("text", "flag"):
        return lambda value: printable(value, 300)
    if kind == "number" and pd.api.types.is_integer_dtype(column.dtype):
        return str
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = values[np.isfinite(values)]
    whole = bool((values == np.round(values)).all())
    if kind == "days":
        return lambda value: f"{value:,.{0 if whole else 1}f} day{'' if value == 1 else 's'}"
    if kind == "share":
        return lambda value: f"{100 * value:,.1f} %"
    if kind == "ratio":
        return lambda value: "reached" if value == np.inf else f"{value:,.2f} x"
    large = whole or (kind == "money" and bool((np.abs(values) >= 1_000).any()))
    return lambda value: f"{value:,.{0 if large else 2}f}"


def _write_instants(column: pd.Series, zone: str | None) -> Callable[[Any], str]:
    local = column.dt.tz_convert(zone or "UTC").dropna()
    midnight = str(column.name).endswith("_date") or bool((local.dt.time == dt.time(0)).all())
    # Through Python's moments: pandas' own cannot say the year 10,000.
    convert = dict(zip(column.dropna(), local, strict=True))
    return lambda value: convert[value].isoformat(sep=" ")[: 10 if midnight else 16]


class Written:
    """A table as text: what readers see of a result, and which of its columns are text."""

    def __init__(self, table: pd.DataFrame, basis: Mapping[str, Any], most_rows: int = MOST_ROWS) -> None:
        self.basis = basis
        self.left_out = max(len(table) - most_rows, 0)
        part = table.iloc[:most_rows]
        zone = basis.get("timezone")
        self.names = [str(name) for name in table.columns]
        self.columns = [write_column(part.iloc[:, place].rename(name), zone) for place, name in enumerate(self.names)]
        is_number = [pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes]
        self.numeric = [number and not name.endswith("id") for number, name in zip(is_number, self.names, strict=True)]
        keys = [key if isinstance(key, tuple) else (key,) for key in part.index]
        self.labels = [["(no date)" if _is_missing(label) else printable(label, 80) for label in key] for key in keys]
        self.levels = [printable(name, 40) if name is not None else "" for name in table.index.names]
        if len(part) == 1 and len(self.names) > _UPRIGHT:
            self._stand_up()

    def _stand_up(self) -> None:
        """Turn a long row upright: a line for each of its columns."""
        row = self.labels[0]
        alone = row == ["0"] and self.levels == [""]
        self.labels, self.levels = [[name] for name in self.names], [""]
        self.names, self.numeric = ["" if alone else ", ".join(row)], [True]
        self.columns = [[column[0] for column in self.columns]]

    @property
    def more(self) -> list[str]:
        """A sentence on the rows that are not shown, if there are any."""
        return [f"{self.left_out:,} more rows"] if self.left_out else []

    def as_text(self, width: int | None = None) -> str:
        """Write caption and table."""
        labels: pd.Index = pd.Index([label[0] for label in self.labels], name=self.levels[0] or None, dtype=object)
        if len(self.levels) > 1 and self.labels:
            labels = pd.MultiIndex.from_tuples([tuple(label) for label in self.labels], names=self.levels)
        # Names may be doubled in a frame of the user's; a frame of positions holds them all.
        shown = pd.DataFrame(dict(enumerate(self.columns)), index=labels).set_axis(self.names, axis=1)
        lines = shown.to_string(line_width=width) if len(shown) else f"(no rows: {', '.join(self.names)})"
        return "\n".join([caption_of(self.basis), lines, *(f"... {line}" for line in self.more)])

    def as_html(self, *, folded: bool = True) -> str:
        """Write caption, table and, folded below it, what the result stands on."""
        head = "".join(f'<th scope="col" style="text-align:left">{html.escape(name)}</th>' for name in self.levels)
        head += "".join(
            f'<th scope="col" style="text-align:{side}">{html.escape(printable(name, 60))}</th>'
            for name, side in zip(self.names, self._sides, strict=True)
        )
        spans = [_spans(self.labels, level) for level in range(len(self.levels))]
        body = []
        for row, label in enumerate(self.labels):
            cells = [
                f'<th scope="row" rowspan="{span[row]}" style="{_LABEL}">{html.escape(text)}</th>'
                for span, text in zip(spans, label, strict=True)
                if span[row]
            ]
            cells += [
                f'<td style="text-align:{side}">{html.escape(column[row])}</td>'
                for column, side in zip(self.columns, self._sides, strict=True)
            ]
            body.append(f"<tr>{''.join(cells)}</tr>")
        caption = ", ".join([caption_of(self.basis), *self.more])
        table = (
            f'<table class="dataframe"><caption style="{_CAPTION}">{html.escape(caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        )
        return as_written(f'<div style="overflow-x:auto" tabindex="0">{table}</div>{self._foot(folded=folded)}')

    @property
    def _sides(self) -> list[str]:
        return ["right" if number else "left" for number in self.numeric]

    def _foot(self, *, folded: bool) -> str:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in notes_of(self.basis))
        notes = f"<ul>{items}</ul>" if items else ""
        terms = "".join(
            f"<dt><code>{html.escape(printable(name, 60))}</code></dt><dd>{html.escape(printable(words, 300))}</dd>"
            for name, words in self.basis.get("definitions", {}).items()
        )
        inside = notes + (f"<dl>{terms}</dl>" if terms else "")
        return f"<details{'' if folded else ' open'}><summary>What this stands on</summary>{inside}</details>"


def _spans(labels: Sequence[Sequence[str]], level: int) -> list[int]:
    """Count for every row over how many rows its label of a level reaches; 0 where one above reaches here.

    Examples
    --------
    >>> _spans([["a", "x"], ["a", "y"], ["b", "y"]], 0), _spans([["a", "x"], ["a", "x"]], 1)
    ([2, 0, 1], [1, 1])
    """
    n = len(labels)
    if not n or level == len(labels[0]) - 1:
        return [1] * n
    keys = [tuple(label[: level + 1]) for label in labels]
    starts = [0, *(row + 1 for row, (one, two) in enumerate(pairwise(keys)) if one != two), n]
    spans = [0] * n
    for start, end in pairwise(starts):
        spans[start] = end - start
    return spans


class ResultFrame(pd.DataFrame):
    """A figure's table: a DataFrame that presents itself, and whose every operation gives a plain DataFrame."""

    # The constructor of what operations give is pandas' own: such a table is no figure any more.

    def __repr__(self) -> str:
        if BASIS_KEY not in self.attrs:
            return super().__repr__()
        return Written(self, self.attrs[BASIS_KEY]).as_text(pd.get_option("display.width"))

    def _repr_html_(self) -> str | None:
        if BASIS_KEY not in self.attrs:
            return pd.DataFrame(self)._repr_html_()  # type: ignore[operator, no-any-return]
        return Written(self, self.attrs[BASIS_KEY]).as_html()


def as_result(result: Any, heading: str) -> Any:
    """Let a figure's table present itself under its heading, where its basis has no title of its own."""
    basis = getattr(result, "attrs", {}).get(BASIS_KEY)
    if basis is None:
        return result
    basis.setdefault("title", heading)
    if not isinstance(result, pd.DataFrame):
        return result
    table = ResultFrame(result)
    table.attrs = {BASIS_KEY: basis}
    return table


@dataclass(frozen=True, eq=False)
class Shown:
    """A result with its basis, as text and as HTML; every text from the data is escaped."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def show(result: Any, *, max_rows: int = MOST_ROWS) -> Shown:
    """Make a result presentable: the table with rounded numbers, and what it stands on.

    Parameters
    ----------
    result : DataFrame or other figure
        What a figure function returned.
    max_rows : int, default 60
        Rows shown.

    Returns
    -------
    Shown
        Prints as text, and as HTML in a notebook.

    Raises
    ------
    ConfigurationError
        If the result carries no basis.

    Examples
    --------
    >>> opp.show(df.opp.undated())
    Open deals without a close date, as of 2026-11-02, amounts in USD
               count  amount weighted_amount
    owner_name
    Sam Novak      1  45,110          33,832
    - 279 deals; stages open: 'Qualify', 'Discover', 'Propose', 'Negotiate'; won: 'Closed Won'; lost: 'Closed Lost'
    - 2 deals in the trash, left out
    - 3 open or won deals without an amount: counted, never taken as 0
    """
    basis = basis_of(result)
    written = Written(result if isinstance(result, pd.DataFrame) else result.to_frame(), basis, max_rows)
    text = "\n".join([written.as_text(), *(f"- {line}" for line in notes_of(basis))])
    return Shown(text, written.as_html(folded=False))
