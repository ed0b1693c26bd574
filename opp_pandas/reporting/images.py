"""Plots as pictures for a page: drawn twice, for a screen and for a telephone, in colours that follow the reader's.

A picture is SVG whose words stay words: they are sharp at every size, can be
searched, and take the reader's fonts for letters that ours lack. Black and white
become variables of the page, so that one picture serves light and dark.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, NARROW = 8.0, 4.4
"""Widths of a picture [inches]: on a page, and on a telephone."""
_NARROW_TITLE = 44
_MANY_POINTS = 2_000
_THEME = {"#000000": "ink", "#ffffff": "paper", "#dddddd": "line", "#444444": "ink", "#9a9a9a": "grey"}
# Blue on black is hard to see: the page lightens it there.
_THEME |= {"#0072b2": "blue"}
_NAMED_COLOURS = re.compile("|".join(_THEME), re.IGNORECASE)
_SVG = re.compile(r"<svg\b[^>]*>", re.DOTALL)
_VIEW_BOX = re.compile(r'viewBox="([^"]+)"')
_OWN_STYLE = re.compile(r"<style\b.*?</style>", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_IDS = re.compile(r'\bid="|url\(#|href="#')
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TAG = re.compile(r"<[^<>]+>")


@contextmanager
def _style() -> Iterator[None]:
    """The package's own look, whatever the caller's is."""
    import matplotlib.style

    from opp_pandas.plotting.canvas import ONE_DRAWING, STYLE

    # Names in scripts that the drawing font lacks are shown by the reader's fonts.
    with ONE_DRAWING, matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def draw(plot: str, table: Any, options: Mapping[str, Any], *, narrow: bool) -> Axes:
    """Draw a finished figure for a page, or for a telephone; arguments as of `Drawing`."""
    from matplotlib.figure import Figure

    from opp_pandas import plotting
    from opp_pandas.figures.core.figure import PLOTS

    width = NARROW if narrow else WIDE
    with _style():
        axes = Figure(figsize=(width, _height(plot, table, options, width)), layout="constrained").subplots()
        drawn: Axes = plotting.draw(PLOTS[plot.removeprefix("plot_")], table, ax=axes, **options)
        if narrow:
            _fit_narrow(drawn)
    return drawn


def _height(plot: str, table: Any, options: Mapping[str, Any], width: float) -> float:
    """Make room for each of the bars that lie on their side."""
    if plot in ("plot_stage_distribution", "plot_conversion", "plot_coverage", "plot_win_rates"):
        rows = min(len(table), int(options.get("max_groups", options.get("max_rows", 25))))
        return min(max(2.2, 1.1 + (0.4 if width == WIDE else 0.46) * rows), 10.0)
    return 4.0 if width == WIDE else 4.4


def _fit_narrow(axes: Axes) -> None:
    """Let the title begin at the edge and put the legend below: beside long names a telephone has no room."""
    figure = axes.get_figure(root=True)
    title = " ".join(axes.get_title(loc="left").split())
    if figure is not None and title:
        axes.set_title("", loc="left")
        lines = "\n".join(textwrap.wrap(title, _NARROW_TITLE))
        figure.suptitle(lines, x=0.01, ha="left", fontsize=10.5, fontweight="bold").set_parse_math(False)
    legend = axes.get_legend()
    if legend is not None:
        handles = legend.legend_handles
        words = [text.get_text() for text in legend.get_texts()]
        legend.remove()
        shown = [handle for handle in handles if handle is not None]
        below = axes.get_figure().legend(  # type: ignore[union-attr]
            shown, [f"entry {place}" for place in range(len(shown))], loc="outside lower left", ncols=2, fontsize=9
        )
        for text, word in zip(below.get_texts(), words, strict=True):
            text.set_parse_math(False)
            text.set_text(word)


def describe(axes: Axes) -> str:
    """Describe in words what a plot shows: what our plots say of themselves; of others the title and labels."""
    own = getattr(axes, "alt_text", None)
    if isinstance(own, str) and own:
        return own
    title = axes.get_title(loc="left") or axes.get_title()
    labels = " and ".join(label for label in (axes.get_xlabel(), axes.get_ylabel()) if label)
    return ". ".join(part for part in (title or "Plot", labels) if part)


def to_svg(axes: Axes, prefix: str, *, themed: bool) -> str:
    """Return the whole figure of a plot as an SVG element to stand inside a page, hidden from screen readers.

    Every id in it begins with `prefix`, since several pictures share a page; `themed`, black and white become the
    page's own colours.
    """
    figure = axes.get_figure(root=True)
    if figure is None:
        return ""
    _thin_out(figure)
    buffer = io.StringIO()
    with _style():
        import matplotlib as mpl

        # The same deals give the same page, byte by byte.
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "opp_pandas"}):
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    for part in (_COMMENT, _METADATA, _OWN_STYLE):
        text = part.sub("", text)
    text = text[text.index("<svg") :].strip()
    box = _VIEW_BOX.search(text)
    root = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box[1]}"'  # type: ignore[index]
    text = _SVG.sub(f'{root} aria-hidden="true" focusable="false" stroke-linejoin="round">', text, count=1)

    def own(tag: re.Match[str]) -> str:
        named = _IDS.sub(lambda match: f"{match[0]}{prefix}-", tag[0])
        return _NAMED_COLOURS.sub(lambda match: f"var(--{_THEME[match[0].lower()]})", named) if themed else named

    # Only inside tags: a deal may be called #000000.
    return _TAG.sub(own, text)


def _thin_out(figure: Any) -> None:
    """Draw clouds of very many points as pixels: as shapes they would make the page heavy."""
    for axes in figure.axes:
        for artist in (*axes.collections, *axes.lines):
            points = artist.get_offsets() if hasattr(artist, "get_offsets") else artist.get_xdata()
            if len(points) > _MANY_POINTS:
                artist.set_rasterized(True)
