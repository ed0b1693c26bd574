"""What all plots share: colours, axes, labels, legends."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError, printable
from opp_pandas.figures.core.basis import day_of_basis, known_basis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
)
GREY = "#9A9A9A"
OPEN, WON, LOST, QUOTA = BLUE, GREEN, VERMILION, ORANGE
"""What the same thing looks like in every plot, page and workbook."""
ONE_DRAWING = threading.RLock()
"""Held while something is drawn: matplotlib's settings belong to the process, and widgets are answered beside cells."""


@dataclass(frozen=True)
class Look:
    """The colours of lines and words on a light or a dark ground; those of data are the same on both."""

    ink: str
    notes: str
    faint: str
    paper: str

    def settings(self) -> dict[str, Any]:
        """The same as settings of matplotlib, with colours for what is drawn beside our plots."""
        from matplotlib.rcsetup import cycler

        written = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
        lines = ("axes.edgecolor", "xtick.color", "ytick.color")
        return dict.fromkeys((*written, *lines), self.ink) | {
            "grid.color": self.faint,
            "axes.prop_cycle": cycler(color=PALETTE),
            "image.cmap": "cividis",
        }


LIGHT = Look(ink="#000000", notes="#444444", faint="#DDDDDD", paper="#FFFFFF")
DARK = Look(ink="#FFFFFF", notes="#CCCCCC", faint="#444444", paper="#111111")
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)
HATCHES = ("", "///", "...", "xxx")
STYLE: dict[str, Any] = {
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
WIDE_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
)
"""Fonts of the common systems with letters that matplotlib's own font lacks."""
MAX_LABEL = 28
_LETTER, _LINE = 6.0, 10.0  # width of a letter and height of a line [points]
UNITS = ((1e12, "trillions"), (1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))


def look_of(ax: Axes | None) -> Look:
    """Choose the colours that can be read on the ground of a plot; None stands for a new one."""
    import matplotlib as mpl
    from matplotlib.colors import to_rgba

    def is_light(colour: Any) -> bool:
        red, green, blue, _ = to_rgba(colour)
        return 0.299 * red + 0.587 * green + 0.114 * blue > 0.5

    figure = None if ax is None else ax.get_figure(root=True)
    ground = mpl.rcParams["figure.facecolor"] if figure is None else figure.get_facecolor()
    if to_rgba(ground)[3] < 0.5:
        # Nobody knows what a see-through plot will stand on; who writes in light colours means a dark ground.
        return DARK if is_light(mpl.rcParams["text.color"]) else LIGHT
    return LIGHT if is_light(ground) else DARK


@cache
def further_fonts() -> list[str]:
    """Find which of `WIDE_FONTS` are there: matplotlib complains of every other one at every text."""
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    return [name for name in WIDE_FONTS if name in there]


def _settings(look: Look) -> dict[str, Any]:
    import matplotlib as mpl

    families = dict.fromkeys([*mpl.rcParams["font.family"], *further_fonts()])
    return STYLE | look.settings() | {"font.family": list(families)}


def _load_backend() -> None:
    """Load the backend of a notebook before settings are put in place that end with a context.

    It turns interactive drawing on when it is loaded, which happens at first use. Loaded inside a context
    that would end with it, and later plots would not show.
    """
    import matplotlib.pyplot as plt

    plt.draw_if_interactive()  # type: ignore[no-untyped-call]


@contextmanager
def style(theme: Literal["light", "dark"] = "light") -> Iterator[None]:
    """Draw everything inside a ``with`` block on a light or a dark ground.

    Parameters
    ----------
    theme : {"light", "dark"}, default "light"
        The ground. Plots drawn without this follow the ground that they find.

    Raises
    ------
    ConfigurationError
        If there is no such theme.

    Examples
    --------
    >>> import matplotlib as mpl
    >>> with style("dark"):
    ...     print(mpl.rcParams["figure.facecolor"])
    #111111
    """
    import matplotlib as mpl

    if theme not in ("light", "dark"):
        raise ConfigurationError(f"theme must be 'light' or 'dark', not {theme!r}")
    look = LIGHT if theme == "light" else DARK
    ground = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), look.paper)
    _load_backend()
    with ONE_DRAWING, mpl.rc_context(_settings(look) | ground):  # type: ignore[arg-type]
        yield


@contextmanager
def canvas(ax: Axes | None, result: Any, title: str, width: float = 8.0, height: float = 4.5) -> Iterator[Axes]:
    """Return the caller's Axes, or new ones of a sensible size, headed with what they show and the day it speaks of."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    _load_backend()
    with ONE_DRAWING, mpl.rc_context(_settings(look_of(ax))):  # type: ignore[arg-type]
        if ax is None:
            _, ax = plt.subplots(figsize=(width, height))
        day = day_of_basis(known_basis(result))
        whole = f"{title}, as of {day}" if day else title
        # Long names beside the axes take room that nobody knows before the layout: what is too long still wraps then.
        keep_plain(ax.set_title("\n".join(textwrap.wrap(whole, letters_across(ax))), loc="left", wrap=True))
        yield ax


def label_of(value: Any) -> str:
    """Make a label of a value from the data: printable, and short enough to stand beside others."""
    missing = value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and np.isnan(value))
    text = "no date" if missing else printable(value, 1_000)
    if isinstance(value, pd.Period) and "/" in text:
        text = text.partition("/")[0]  # a week is known by its first day
    if len(text) <= MAX_LABEL:
        return text
    # Cut in the middle: names that begin alike often differ at the end, where the id stands too.
    return f"{text[: MAX_LABEL - 11]}…{text[-10:]}"


def bare_name(name: Any) -> str:
    """Take off the id that tells two of one name apart."""
    text = str(name)
    return text[: text.rindex(" (id ")] if " (id " in text else text


def stage_kinds(names: Iterable[Any], stages: Mapping[str, Any]) -> list[str]:
    """Tell which of several names are open, won or lost, by the stages of a basis; what is none is "other"."""
    kinds = {stage: kind for kind in ("open", "lost", "won") for stage in stages.get(kind, [])}
    return [kinds.get(bare_name(name), "other") for name in names]


def keep_plain(*texts: Any) -> None:
    """Keep matplotlib from reading dollar signs in names as mathematics."""
    for text in texts:
        text.set_parse_math(False)


def letters_across(ax: Axes) -> int:
    """Determine how many letters of a line there is room for."""
    return max(24, int((_points_across(ax) - 60) / (1.1 * _LETTER)))


def currency_of(table: Any) -> str:
    """Return the currency of a table's amounts; "amount" where nobody named one."""
    return str(known_basis(table).get("currency") or "amount")


def unit_of(top: float) -> tuple[float, str]:
    """Choose the unit of a money axis."""
    return next(((size, word) for size, word in UNITS if abs(top) >= 2 * size), (1.0, ""))


def write_short(value: float, *, signed: bool = False) -> str:
    """Write an amount in its unit, with three digits: ``1.93 million``."""
    size, word = unit_of(2 * value)
    return f"{'+' if signed and value > 0 else ''}{write_rounded(value / size)} {word.removesuffix('s')}".strip()


def write_rounded(value: float) -> str:
    """Write three digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def format_money(axis: Any, top: float, table: Any, *, what: str = "amount", note: str = "") -> None:
    """Print thousands with separators, and large numbers in a unit that the label names, in the table's currency."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    size, word = unit_of(top)
    # Where nothing but 0 is drawn, an axis of fractions of a cent says less than its one number.
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]) if top else FixedLocator([0.0]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / size:,.10g}"))
    unit = f"{printable(known_basis(table).get('currency') or '', 40)} {word}".strip()
    keep_plain(axis.set_label_text(" ".join(part for part in (what, f"[{unit}]" if unit else "", note) if part)))


def write_names_below(ax: Axes, labels: Sequence[str], beside: Sequence[str] = ()) -> None:
    """Write names under the columns: turned when they are long, thinned out when there are many.

    Long names in the legend `beside` the plot leave the columns less room.
    """
    # What the axes will have of the figure is known only when it is laid out; a legend leaves them this much.
    n, whole = len(labels), _points_across(ax)
    legend = 8 * _LETTER + _LETTER * max((min(len(label), MAX_LABEL) for label in beside), default=0)
    points = min(0.68 * whole, whole - 10 * _LETTER - legend)
    longest = max((len(label) for label in labels), default=0)
    turned = n > 1 and (longest + 2) * _LETTER * n > points
    step = max(1, -(-n // max(2, int(points // (1.7 * _LINE))))) if turned else 1
    places = list(range(0, n, step))
    kwargs: dict[str, Any] = {"parse_math": False}
    if turned:
        kwargs |= {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(places, [labels[place] for place in places], **kwargs)
    ax.set_xlim(-0.6, max(n, 1) - 0.4)


def _points_across(ax: Axes) -> float:
    """Return how wide the part of the figure is that a plot has."""
    figure, spec = ax.get_figure(root=True), ax.get_subplotspec()
    share = 1.0 if spec is None else len(spec.colspan) / spec.get_gridspec().ncols
    return 72 * (8.0 if figure is None else float(figure.get_figwidth())) * share


def room_beside(ax: Axes, letters: int) -> float:
    """Determine how much room small labels need on both sides of a drawing that is 1 wide, in its own measure."""
    points = _points_across(ax)
    # However long the labels are, half of the plot stays for what is drawn.
    needed = min((letters + 4) * 0.85 * _LETTER, points / 4)
    return needed / (points - 2 * needed)


def add_legend(ax: Axes, entries: Sequence[tuple[str, Any]]) -> None:
    """Put the legend beside the plot, where it covers nothing: labels, and what was drawn of each."""
    if not entries:
        return
    # What draws lines gives a list of them.
    handles = [drawn[0] if isinstance(drawn, list) else drawn for _, drawn in entries]
    # Labels are set afterwards: a name that begins with an underscore would be dropped.
    names = [f"entry {place}" for place in range(len(entries))]
    legend = ax.legend(handles, names, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    for text, (label, _) in zip(legend.get_texts(), entries, strict=True):
        keep_plain(text)
        text.set_text(label_of(label))


def require_columns(table: Any, *columns: str) -> None:
    """Raise unless a table has these columns."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        hint = "They come with quota=." if "quota" in missing else "The plot takes the table that the figure returned."
        raise MissingColumnError(missing, list(table.columns), hint)


def require_one(table: pd.DataFrame, what: str) -> None:
    """Raise if a table is grouped, where the plot takes one group."""
    if table.index.nlevels > 1:
        raise ConfigurationError(f"this plot takes one {what}: choose a group first, such as table.loc['Sam Lee']")


def draw_nothing(ax: Axes, words: str) -> Axes:
    """Write on the plot that there is nothing to draw, instead of drawing bare axes."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, words, ha="center", va="center", transform=ax.transAxes, color=look_of(ax).notes)
    return ax


def name_rows(ax: Axes, names: Sequence[str], *, room_for: int = 1) -> None:
    """Write the names of bars that lie, the first one on top; few bars leave the rest of the room empty."""
    ax.set_yticks(np.arange(len(names)), names, parse_math=False)
    ax.set_ylim(max(len(names), room_for) - 0.4, -0.6)


def write_below(ax: Axes, note: str) -> None:
    """Write a sentence below the axis, wrapped."""
    label = ax.xaxis.get_label_text()
    # The axis begins to the right of long names, and its label is centred below it.
    below = "\n".join(textwrap.wrap(note, 3 * letters_across(ax) // 4))
    keep_plain(ax.set_xlabel(f"{label}\n{below}" if label else below))


def write_days_below(ax: Axes, **limits: Any) -> None:
    """Write days or moments below the axis, as many as there is room for."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(**limits)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def row_names(table: pd.DataFrame, alone: str) -> list[str]:
    """Name the rows; `alone` where a table without groups has a single one."""
    if table.index.nlevels > 1:
        return [label_of(" · ".join(str(part) for part in key)) for key in table.index]
    if isinstance(table.index, pd.RangeIndex) and table.index.name is None:
        return [alone] * len(table)
    return [label_of(name) for name in table.index]


def draw_quota(ax: Axes, x: Any, quota: Any, legend: list[tuple[str, Any]]) -> float:
    """Draw a line per column at its quota, and give the highest."""
    known = ~np.isnan(quota)
    legend.append(("quota", ax.hlines(quota[known], x[known] - 0.45, x[known] + 0.45, colors=QUOTA, linewidth=2)))
    return float(np.nanmax(quota))


def period_codes(table: pd.DataFrame) -> tuple[np.ndarray[Any, Any], pd.Index]:
    """Code the first index level, a missing period included."""
    codes, periods = pd.factorize(table.index.get_level_values(0), use_na_sentinel=False)
    return codes, pd.Index(periods)


def period_sums(table: pd.DataFrame, column: str) -> Any:
    """Add a column up by period; missing where no row has a value."""
    rows, periods = period_codes(table)
    values = table[column].to_numpy(dtype=float)
    sums = np.bincount(rows, np.nan_to_num(values), minlength=len(periods))
    some = np.bincount(rows, ~np.isnan(values), minlength=len(periods)) > 0
    return np.where(some, sums, np.nan)
