"""Plots in words, for people who hear the page.

Each plotting function names the one that says what its picture shows; the
returned Axes carry the sentence as ``.alt_text``. Only the finished table is
read, so the words and the picture cannot differ; and where there is nothing to
show, the words decide it for both.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from opp_pandas.docstrings import ARGUMENTS, document, entries_of
from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.figures.core.basis import counted, day_of_basis, known_basis
from opp_pandas.figures.core.figure import FIGURES, PLOTS
from opp_pandas.plotting import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from opp_pandas.figures.core.figure import Figure, Plot

P = ParamSpec("P")
Teller = Callable[..., str]
SAID: dict[str, Teller] = {}
"""Figures whose table is told otherwise than any one of their plots."""


class Nothing(str):
    """Why there is nothing to draw."""

    __slots__ = ()


def draws(
    figure: Figure[Any], tell: Teller, columns: str = "", *, name: str | None = None, **preset: Any
) -> Callable[[Callable[P, Axes]], Callable[P, Axes]]:
    """Register a way to draw a figure, whose table must have these columns.

    The Axes have as ``alt_text`` what `tell` says of the result and the options of
    the drawing. Where that is `Nothing`, it is written on them, and nothing is drawn.
    """

    def decorate(plot: Callable[P, Axes]) -> Callable[P, Axes]:
        parameters = inspect.signature(plot).parameters
        subject = next(iter(parameters))

        @functools.wraps(plot)
        def plot_and_tell(*args: P.args, **kwargs: P.kwargs) -> Axes:
            options: dict[str, Any] = {**dict(zip(parameters, args, strict=False)), **kwargs}
            result, ax = options.pop(subject), options.pop("ax", None)
            if figure.returned not in {each.__name__ for each in type(result).__mro__}:
                raise ConfigurationError(f"this plot takes what {figure.name}() gives, not {type(result).__name__}")
            canvas.require_columns(result, *columns.split())
            words = tell(result, **options)
            if not isinstance(words, Nothing):
                return _leave_alt_text(plot(*args, **kwargs), words)
            with canvas.canvas(ax, result, figure.heading) as axes:
                return _leave_alt_text(canvas.draw_nothing(axes, words), words)

        room = ".".join(figure.function.__module__.split(".")[:2])
        known = {**ARGUMENTS, **entries_of(f"{subject} : {figure.returned}\n    From `{room}.{figure.name}`.")}
        plot_and_tell.__doc__ = document(plot.__doc__, parameters.values(), known, returns="Axes")
        figure.plot(lambda result, **options: in_full(tell(result, **options)), name=name, **preset)(plot_and_tell)
        return plot_and_tell

    return decorate


def _leave_alt_text(axes: Axes, words: str) -> Axes:
    drawn: Any = axes
    drawn.alt_text = axes.get_title(loc="left").replace("\n", " ") + f". {in_full(words)}"
    return axes


def in_full(words: str) -> str:
    """Make a sentence of the words of a plot."""
    return f"There is nothing to show: {words}." if isinstance(words, Nothing) else words


def draw(plot: Plot, result: Any, **options: Any) -> Axes:
    """Draw a figure in one of its ways, those included that a figure's own file registers.

    Examples
    --------
    >>> from opp_pandas.figures.core.figure import PLOTS
    >>> from opp_pandas.plotting import draw
    >>> ax = draw(PLOTS["funnel"], df.opp.funnel())
    """
    axes: Axes
    if "kit" not in inspect.signature(plot.draw).parameters:
        axes = plot.draw(result, **options)
        return axes
    with canvas.canvas(options.pop("ax", None), result, plot.figure.heading) as axes:
        plot.draw(result, ax=axes, kit=canvas, **options)
    return _leave_alt_text(axes, plot.alt(result, **options))


def alt_text(shown: Any) -> str:
    """Describe in words what a plot shows, or what the plot of a table would show.

    Parameters
    ----------
    shown : Axes, DataFrame or Bookings
        What a plotting function returned, or a finished figure.

    Returns
    -------
    str
        A few sentences with the largest and the total numbers. Names from the
        data stand in it as plain text: escape it where it goes into a page.

    Raises
    ------
    ConfigurationError
        If these Axes were not drawn by this package.

    Examples
    --------
    >>> alt_text(df.opp.stage_distribution())[:60]
    'Stage distribution, as of 2026-11-02. 277 deals in 6 stages,'
    """
    told = getattr(shown, "alt_text", None)
    if isinstance(told, str):
        return told
    basis = known_basis(shown)
    if hasattr(shown, "get_title"):
        raise ConfigurationError("these Axes were not drawn by a plot of opp_pandas, so nobody knows what they show")
    figure, day = str(basis.get("figure", "table")), day_of_basis(basis)
    head = FIGURES[figure].heading if figure in FIGURES else figure.replace("_", " ").capitalize()
    tell = SAID.get(figure) or (
        PLOTS[figure].alt if figure in PLOTS else lambda table: counted(len(table), "row") + "."
    )
    return f"{head}{f', as of {day}' if day else ''}. {tell(shown)}"


def money(value: Any, table: Any) -> str:
    """Write an amount, or the sum of several, in the table's currency."""
    currency = canvas.currency_of(table)
    return f"{np.nansum(np.asarray(value, dtype=float)):,.0f}" + (
        "" if currency == "amount" else f" {printable(currency, 20)}"
    )


def listed(parts: Iterable[str], n: int) -> str:
    """List the first few of `n` parts, and say how many more there are."""
    shown = list(islice(parts, 5))
    return "; ".join(shown) + (f"; and {n - len(shown):,} more" if n > len(shown) else "")


def largest(names: Iterable[Any], values: Any, table: Any) -> str:
    """List the largest amounts with their names."""
    labels = [canvas.label_of(name) for name in names]
    numbers = np.nan_to_num(np.asarray(values, dtype=float))
    order = np.argsort(-np.abs(numbers), kind="stable")
    return listed((f"{labels[place]} {money(numbers[place], table)}" for place in order), len(order))


def chance(p: float) -> str:
    """Write a probability without claiming certainty that is not there.

    Examples
    --------
    >>> chance(0.998), chance(0.42), chance(1.0)
    ('over 99 %', '42 %', '100 %')
    """
    if 0.995 <= p < 1:
        return "over 99 %"
    return "under 1 %" if 0 < p < 0.005 else f"{p * 100:.0f} %"
