"""What a section is made of: texts, headline numbers, tables and pictures, and how their values are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.figures.core.presentation import Kind, kind_of
from opp_pandas.kinds import is_missing
from opp_pandas.reporting.images import describe, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUMERIC = frozenset({"money", "count", "deals", "days", "share", "ratio", "percent", "number"})
# Shorter than the columns' names: the caption says that they are amounts.
HEADINGS = {
    "open_count": "open deals", "open_amount": "open", "weighted_amount": "weighted", "won_count": "won deals",
    "lost_count": "lost deals", "won_amount": "won", "forecast_amount": "forecast", "overdue_amount": "overdue",
    "overdue_count": "overdue deals",
    "gap_to_forecast": "quota - forecast", "owner_name": "owner", "account_name": "account", "stage_name": "stage",
    "win_rate_low": "win rate from", "win_rate_high": "win rate to", "average_won_amount": "average won",
    "median_cycle_days": "cycle days", "period_won_amount": "won", "period_open_amount": "open",
    "step_conversion": "from the stage before", "overall_conversion": "from the first",
}  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """One headline number: what it is, how it is written, and below it its interval or what it stands beside.

    `number` is the number itself, of the kind `kind`, for a workbook.
    """

    label: str
    value: str
    detail: str = ""
    number: Any = None
    kind: Kind = "text"


@dataclass(frozen=True, eq=False)
class Headlines:
    """Headline numbers, side by side."""

    tiles: Sequence[Tile]


@dataclass(frozen=True, eq=False)
class Table:
    """A table that readers can sort.

    Parameters
    ----------
    frame : DataFrame
        What it shows; named index levels become its first columns.
    caption : str
        What it is, in words.
    kinds : mapping of str to str, optional
        What kind of values a column holds, where its name does not say it.
    labels : mapping of str to str, optional
        Headings, where the column's name with spaces is not clear enough.
    of : int, optional
        How many rows there are, if `frame` holds only the first of them.
    currency : str
        Of its amounts, where one is known.
    links : sequence of str or None
        Where the first cell of each row leads to.
    beside_chart : bool
        Whether only a workbook has it, whose charts stand on cells.
    """

    frame: pd.DataFrame
    caption: str = ""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    of: int | None = None
    currency: str = ""
    links: Sequence[str | None] = ()
    beside_chart: bool = False

    @property
    def words(self) -> str:
        """The caption, and what its amounts are in."""
        return f"{self.caption}, amounts in {self.currency}" if self.caption and self.currency else self.caption

    def columns(self) -> list[Column]:
        """Return the columns as they are shown, index levels first."""
        frame = self.frame
        if frame.index.nlevels > 1 or frame.index.name is not None:
            frame = frame.reset_index(names=[str(name or f"level {n}") for n, name in enumerate(frame.index.names)])
        found = []
        for place in range(frame.shape[1]):
            name = str(frame.columns[place])
            kind = self.kinds.get(name) or kind_of(name, frame.iloc[:, place])
            found.append(Column(name, self.heading(name), kind, list(frame.iloc[:, place].array)))
        return found

    def heading(self, name: str) -> str:
        """Return the heading of a column."""
        return self.labels.get(name) or heading_of(name)

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table: its name, heading, kind and values."""

    name: str
    heading: str
    kind: Kind
    values: list[Any]

    @property
    def is_numeric(self) -> bool:
        """Whether it stands on the right."""
        return self.kind in NUMERIC


@dataclass(frozen=True, eq=False)
class Picture:
    """A plot with its words: the axes, as wide as a page and perhaps `narrow` for a telephone, and what they show."""

    axes: Axes
    alt: str
    narrow: Axes | None = None


@dataclass(frozen=True, eq=False)
class Drawing:
    """A plot of a finished figure, drawn when a page needs it: a `Picture` that a workbook does not pay for.

    Parameters
    ----------
    plot : str
        Name of a function of `opp_pandas.plotting`.
    table : DataFrame or other figure
        What it draws.
    options : mapping, optional
        Passed on to it.
    """

    plot: str
    table: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def axes(self) -> Axes:
        """The plot, as wide as a page."""
        return draw(self.plot, self.table, self.options, narrow=False)

    @cached_property
    def narrow(self) -> Axes:
        """The same for a telephone."""
        return draw(self.plot, self.table, self.options, narrow=True)

    @property
    def alt(self) -> str:
        """What the plot shows, in words."""
        return describe(self.axes)


Block = str | Headlines | Table | Picture | Drawing


@dataclass(frozen=True, eq=False, init=False)
class Section:
    """A part of a report: a title and what stands below it.

    Parameters
    ----------
    title : str
        Its heading.
    *blocks : str, DataFrame, Axes, Table, Picture, Headlines
        Paragraphs, tables and plots, in order.
    notes : sequence of str
        What a reader should know of the figures, in small print.
    figures : sequence of DataFrame or other figure
        What the section stands on, for the footer.
    terms : sequence of str
        Columns of the figures that are shown outside of tables. The footer
        defines these, and those in the tables.

    Examples
    --------
    >>> Section("Deals to call", "Nobody has called these for a month.", pd.DataFrame({"name": ["Acme"]})).blocks[0]
    'Nobody has called these for a month.'
    """

    title: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    figures: tuple[Any, ...]
    terms: tuple[str, ...]

    def __init__(
        self,
        title: str,
        *blocks: Any,
        notes: Sequence[str] = (),
        figures: Sequence[Any] = (),
        terms: Sequence[str] = (),
    ) -> None:
        object.__setattr__(self, "title", str(title))
        object.__setattr__(self, "blocks", tuple(_block(block) for block in blocks))
        object.__setattr__(self, "notes", tuple(dict.fromkeys(notes)))
        object.__setattr__(self, "figures", tuple(figures))
        object.__setattr__(self, "terms", tuple(terms))

    @property
    def shown(self) -> dict[str, str]:
        """What a reader sees: names of columns, and the words that stand for them."""
        tables = [block for block in self.blocks if isinstance(block, Table)]
        found = {name: heading_of(name) for name in self.terms}
        return found | {str(name): table.heading(str(name)) for table in tables for name in table.frame.columns}


def _block(value: Any) -> Block:
    if isinstance(value, str | Headlines | Table | Picture | Drawing):
        return value
    if isinstance(value, pd.DataFrame):
        return Table(value)
    if isinstance(value, pd.Series):
        return Table(value.to_frame())
    if hasattr(value, "get_figure") and hasattr(value, "get_title"):
        return Picture(value, describe(value))
    raise ConfigurationError(
        f"a section holds text, DataFrames, matplotlib Axes and opp_pandas.reporting blocks, not {type(value).__name__}"
    )


def heading_of(name: str) -> str:
    """Return the heading of a column that nobody named otherwise."""
    return HEADINGS.get(name, printable(name, 80).replace("_", " "))


def in_words(text: str, headings: Mapping[str, str]) -> str:
    """Describe a definition in a reader's words: names of columns become what stands above them on the page.

    Examples
    --------
    >>> in_words("won_count / (won_count + lost_count) by as_of", {"lost_count": "lost from here"})
    '“won deals” / (“won deals” + “lost from here”) by the day of the report'
    """
    return _NAME.sub(lambda match: _in_words(match[0], headings), text)


def _in_words(name: str, headings: Mapping[str, str]) -> str:
    if name == "as_of":
        return "the day of the report"
    heading = headings.get(name) or HEADINGS.get(name)
    return name.replace("_", " ") if heading is None else f"“{heading}”"


_NAME = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")


def written(value: Any, kind: Kind) -> str:
    """Write one value for a reader; nothing where it is missing.

    Examples
    --------
    >>> written(1234567.8, "money"), written(0.256, "share"), written(float("inf"), "ratio"), written(None, "count")
    ('1,234,568', '25.6 %', 'reached', '')
    """
    if is_missing(value):
        return ""
    if kind == "flag":
        return "yes" if value else "no"
    if kind in ("day", "moment") and isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}" if kind == "day" else f"{value:%Y-%m-%d %H:%M}"
    if kind == "text" or not isinstance(value, int | float | np.integer | np.floating):
        return printable(value, 300)
    if np.isinf(value):
        return "reached" if kind == "ratio" else str(value)
    if kind == "number" and isinstance(value, int | np.integer):
        return str(value)
    return str(_NUMBERS[kind](value))


_NUMBERS: Mapping[str, Any] = {
    "money": lambda value: f"{value:,.0f}",
    "count": lambda value: f"{value:,.0f}",
    # Deals that are there are whole; of those that are expected there are parts.
    "deals": lambda value: f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}",
    "days": lambda value: f"{value:,.0f}",
    "share": lambda value: f"{value * 100:.1f} %",
    "percent": lambda value: f"{value:g} %",
    "ratio": lambda value: f"{value:,.1f}",
    "number": lambda value: f"{value:,.2f}" if abs(value) < 1_000 else f"{value:,.0f}",
}


def sort_key(value: Any, kind: Kind) -> str | None:
    """Return what a column is sorted by where the written text would not do; None where it does."""
    if is_missing(value) or kind not in NUMERIC or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return repr(value.item() if isinstance(value, np.generic) else value)
