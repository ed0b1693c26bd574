"""The dashboard of a notebook: filters, headline figures and pictures that follow them."""

from __future__ import annotations

import asyncio
import base64
import html
import io
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import ConfigurationError, MissingExtraError, named, printable
from opp_pandas.figures.core.figure import takes_definitions
from opp_pandas.forecasting.distribution import RHO
from opp_pandas.notebook.dashboard_model import Board, Drawn, Headline, View
from opp_pandas.notebook.grid import load_anywidget
from opp_pandas.notebook.selection import Choice
from opp_pandas.plotting.canvas import ONE_DRAWING
from opp_pandas.plotting.descriptions import alt_text
from opp_pandas.reporting.images import to_svg

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from matplotlib.axes import Axes

    from opp_pandas.figures.core.context import FigureContext

SHOWN_ROWS = 4
PNG_DPI = 150
_COLOURS = {"ink": "#000000", "paper": "#ffffff", "line": "#dddddd", "grey": "#9a9a9a", "blue": "#0072b2"}
_VARIABLE = re.compile(r"var\(--(\w+)\)")
_NUMBERS = itertools.count(1)
# Colours are the host's own variables, so that the pictures follow its theme, also while they are shown.
_CSS = """
.opp-board { --ink: var(--jp-ui-font-color0, var(--vscode-editor-foreground, #000));
  --paper: var(--jp-layout-color0, var(--vscode-editor-background, #fff)); --line: var(--jp-border-color2, #ddd);
  --grey: #767676; --blue: #0072b2; --link: #005a9c; color: var(--ink); }
[data-jp-theme-light="false"] .opp-board { --grey: #a6a6a6; --blue: #1a7fc4; --link: #7cc4ff; }
.opp-board svg { width: 100%; height: auto; fill: var(--ink); }
.opp-board svg text { font-family: var(--jp-ui-font-family, sans-serif); }
.opp-board .opp-heads { display: flex; flex-wrap: wrap; gap: 6px 32px; margin: 6px 0 10px; line-height: 1.35; }
.opp-board .opp-heads dt { float: none; width: auto; font-size: 12px; font-weight: 400; }
.opp-board .opp-heads dd { margin: 0; font-size: 19px; font-weight: 600; white-space: nowrap; }
.opp-board .opp-heads small { display: block; font-size: 12px; font-weight: 400; }
.opp-board .opp-said { margin: 2px 0; font-size: 13px; color: var(--ink); }
.opp-board a { color: var(--link); text-decoration: underline; margin-right: 10px; }
.opp-board summary { cursor: pointer; }
.opp-board :is(select, button, a, summary):focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
.opp-board .widget-label, .opp-board select { color: var(--ink); }
[data-jp-theme-light="false"] .opp-board .widget-dropdown select { appearance: auto; background-image: none;
  color-scheme: dark; }
"""


class Dashboard:
    """What ``df.opp.dashboard()`` gives: shown in a notebook, steered and asked from Python as well.

    Made by `open_dashboard`. The frame that it was opened on is never touched.
    """

    def __init__(self, board: Board) -> None:
        import ipywidgets as widgets

        self._board = board
        self._number = next(_NUMBERS)
        self._turn = 0
        self._held = False
        wide: dict[str, Any] = {"layout": {"width": "310px"}, "style": {"description_width": "60px"}}
        many = {**wide, "rows": SHOWN_ROWS}
        self._owners = widgets.SelectMultiple(options=_listed(board.owners), description="Owners", **many)
        self._teams = widgets.SelectMultiple(options=_listed(list(board.teams)), description="Teams", **many)
        self._stages = widgets.SelectMultiple(options=_listed(board.stages), description="Stages", **many)
        periods = [("All periods", ""), *((printable(name, 40), name) for name in board.periods)]
        self._period = widgets.Dropdown(options=periods, value="", description="Period", **wide)
        reset = widgets.Button(description="Show all", tooltip="Choose all owners, stages and periods again")
        reset.on_click(lambda _: self.choose())
        self._heads, self._said = widgets.HTML(), widgets.HTML()
        self._cards: dict[str, Any] = {}
        self._grid = widgets.GridBox(
            layout={"grid_template_columns": "repeat(auto-fit, minmax(min(100%, 520px), 1fr))", "grid_gap": "8px 16px"}
        )
        filters = widgets.HBox(
            [*([self._teams] if board.teams else []), self._owners, self._stages, widgets.VBox([self._period, reset])],
            layout={"flex_flow": "row wrap"},
        )
        style = widgets.HTML(f"<style>{_CSS}</style>", layout={"display": "none"})
        self._box = widgets.VBox([style, *_key_guard(), filters, self._said, self._heads, self._grid])
        self._box.add_class("opp-board")
        for control in (self._owners, self._stages, self._period):
            control.observe(self._on_choice, "value")
        self._teams.observe(self._on_teams, "value")
        self._view: View
        self._redraw()

    @property
    def choice(self) -> Choice:
        """What is looked at now."""
        return Choice(tuple(self._owners.value), tuple(self._stages.value), self._period.value or None)

    @property
    def frame(self) -> pd.DataFrame:
        """The deals that are looked at now, as they stand in the frame."""
        return self._view.frame

    @property
    def headlines(self) -> Mapping[str, str]:
        """The headline figures, name -> value with its note."""
        return {line.name: f"{line.value} ({line.note})" if line.note else line.value for line in self._view.headlines}

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be shown for this choice, in sentences."""
        return (*self._view.notes, *(drawn.reason for drawn in self._view.pictures if drawn.reason))

    @property
    def pictures(self) -> Mapping[str, Axes]:
        """The pictures as matplotlib Axes, by name."""
        return {drawn.name: drawn.axes for drawn in self._view.pictures if drawn.axes is not None}

    def _on_teams(self, change: Any) -> None:
        """Choose the owners of the teams; the owners' list then shows whose deals they are."""
        self._owners.value = self._owners_of(change["new"])

    def _owners_of(self, teams: Iterable[str]) -> tuple[str, ...]:
        inside = {name for team in teams for name in self._board.teams[team]}
        return tuple(name for name in self._board.owners if name in inside)

    def choose(self, *, owners: Any = (), stages: Any = (), period: Any = None, teams: Any = ()) -> None:
        """Look at these owners, stages and period; what is left out means all.

        Parameters
        ----------
        owners, stages : str or sequence of str
            Names as the dashboard lists them.
        period : str or Period, optional
            A period as the dashboard lists it.
        teams : str or sequence of str
            In place of owners: everybody who is in one of them, where the load
            has the organisation.

        Raises
        ------
        ConfigurationError
            If a name is not listed.
        """
        if unknown := [team for team in _texts(teams) if team not in self._board.teams]:
            raise ConfigurationError(
                f"no deal is of the team {named(unknown)}; there are {named(self._board.teams, 12)}"
            )
        owners = owners or self._owners_of(_texts(teams))
        wanted = Choice(_texts(owners), _texts(stages), None if period is None else str(period))
        self._board.rows(wanted)
        with ONE_DRAWING:
            self._held = True
            try:
                self._owners.value, self._stages.value, self._period.value = (
                    wanted.owners,
                    wanted.stages,
                    wanted.period or "",
                )
            finally:
                self._held = False
            self._redraw()

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every picture as PNG and SVG.

        Parameters
        ----------
        folder : path
            Made if it is not there.

        Returns
        -------
        list of Path
            The files, two for each picture.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        written = []
        for name in self.pictures:
            for ending, content in (("png", self.png(name)), ("svg", self.svg(name).encode())):
                path = target / self._file(name, ending)
                path.write_bytes(content)
                written.append(path)
        return written

    def png(self, name: str) -> bytes:
        """Give one picture as PNG, on white.

        Parameters
        ----------
        name : str
            One of `pictures`.

        Raises
        ------
        ConfigurationError
            If there is no such picture.
        """
        buffer = io.BytesIO()
        self._figure(name).savefig(buffer, format="png", dpi=PNG_DPI, facecolor="white")
        return buffer.getvalue()

    def svg(self, name: str) -> str:
        """Give one picture as SVG, in black on nothing.

        Parameters
        ----------
        name : str
            One of `pictures`.

        Raises
        ------
        ConfigurationError
            If there is no such picture.
        """
        self._figure(name)
        return _standing_alone(to_svg(self.pictures[name], f"opp{self._number}", themed=True))

    def _figure(self, name: str) -> Any:
        if name not in self.pictures:
            raise ConfigurationError(f"there is no picture {named([name])}; there are {named(self.pictures)}")
        return self.pictures[name].get_figure(root=True)

    def _file(self, name: str, ending: str) -> str:
        return f"{name}-{self._board.context.local_as_of:%Y-%m-%d}.{ending}"

    def _on_choice(self, _: Any) -> None:
        # Some kernels answer widgets in another thread than that of the cells, which may choose as well.
        with ONE_DRAWING:
            if not self._held:
                self._redraw()

    def _redraw(self) -> None:
        self._view = self._board.view(self.choice)
        self._turn += 1
        self._heads.value = _heads_html(self._view.headlines)
        self._said.value = self._said_html()
        for drawn in self._view.pictures:
            self._fill(drawn)
        shown = tuple(self._cards[drawn.name] for drawn in self._view.pictures)
        if shown != self._grid.children:
            self._grid.children = shown
        self._render_soon(list(self.pictures), self._turn)

    def _fill(self, drawn: Drawn) -> None:
        import ipywidgets as widgets

        if drawn.name not in self._cards:
            self._cards[drawn.name] = widgets.VBox([widgets.HTML(), widgets.HTML()], layout={"min_width": "0"})
        picture, links = self._cards[drawn.name].children
        if drawn.axes is None:
            picture.value, links.value = f"<p class='opp-said'>{html.escape(drawn.reason)}</p>", ""
            return
        drawing = to_svg(drawn.axes, f"opp{self._number}-{drawn.name}", themed=True)
        told = html.escape(alt_text(drawn.axes), quote=True)
        picture.value = f'<div role="img" aria-label="{told}">{drawing}</div>'
        links.value = self._links_html(drawn.name, told, _standing_alone(drawing), None)

    def _links_html(self, name: str, told: str, drawing: str, png: bytes | None) -> str:
        """Links that hold their files: they need no server, and work wherever the page does."""
        links = [_link(self._file(name, "svg"), "image/svg+xml", drawing.encode(), f"{name} as SVG")]
        if png is not None:
            links.append(_link(self._file(name, "png"), "image/png", png, f"{name} as PNG"))
        words = f"<details><summary>In words</summary>{told}</details>"
        return f"<div class='opp-said'>Save {''.join(links)}{words}</div>"

    def _render_soon(self, names: list[str], turn: int) -> None:
        """Make the PNG files after the page was shown, one at a time, unless something else was chosen meanwhile."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # nobody is looking: `png` makes them when they are asked for

        def render() -> None:
            with ONE_DRAWING:
                if turn != self._turn or not names:
                    return
                name = names.pop(0)
                _, links = self._cards[name].children
                links.value = self._links_html(
                    name, html.escape(alt_text(self.pictures[name]), quote=True), self.svg(name), self.png(name)
                )
            loop.call_later(0.05, render)

        loop.call_later(0.05, render)

    def _said_html(self) -> str:
        n, of = len(self._view.frame), len(self._board.frame)
        words = [f"{n:,} of {of:,} deals" if n != of else f"{of:,} deals", *self._view.notes]
        day = f"{self._board.context.local_as_of:%Y-%m-%d}"
        return f"<p class='opp-said' role='status'>{html.escape(f'As of {day}: ' + '; '.join(words))}</p>"

    def __repr__(self) -> str:
        n, of = len(self._view.frame), len(self._board.frame)
        lines = [f"<Dashboard of {n:,} of {of:,} deals, as of {self._board.context.local_as_of:%Y-%m-%d}>"]
        lines += [f"  {name}: {words}" for name, words in self.headlines.items()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, f"  .pictures has {named(self.pictures)}; a notebook shows them"])

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = self._box._repr_mimebundle_(**options)
        data = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
        return {**data, "text/plain": repr(self)}


@takes_definitions
def open_dashboard(
    frame: pd.DataFrame,
    history: Any = None,
    quota: Any = None,
    *,
    context: FigureContext,
    rho: float = RHO,
) -> Dashboard:
    """Look at forecast, stages, movement and age of the deals in a notebook, by owner, stage and period.

    The filters drive all pictures and headline figures; every picture can be
    saved as SVG and PNG and is told in words. Without a front end the result
    prints its headline figures, and ``.choose()``, ``.pictures`` and ``.save()``
    do the rest.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount``, ``close_date`` and ``stage_id`` or
        ``stage_name``. Never modified.
    history : History, optional
        Adds how many deals reached each stage, and the waterfall of the chosen
        period (of the present one where none is chosen).
    quota : number, mapping or DataFrame, optional
        For every period [currency], period -> number, owner ->
        number, or a frame with ``period``, ``owner_name`` and ``quota``. A quota
        of all owners is not shown beside a choice of them.
    context : FigureContext
        Stages, moment, time zone, names.
    rho : float, default 0
        Correlation of the deals: with 0 the intervals are too
        narrow, and labelled so.

    Returns
    -------
    Dashboard
        Displays itself in a notebook.

    Raises
    ------
    ConfigurationError
        If the quota fits neither periods nor owners, or `history` is none.
    MissingColumnError
        If a needed column is not there.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.

    Examples
    --------
    >>> dashboard = df.opp.dashboard(quota=450_000)
    >>> sorted(dashboard.pictures)
    ['ageing', 'forecast', 'prediction', 'stages']
    """
    if history is not None and not (hasattr(history, "as_of") and hasattr(history, "stage_entries")):
        raise ConfigurationError(f"history must be an opp_pandas.History, not {type(history).__name__}")
    board = Board(frame, context=context, history=history, quota=quota, rho=rho)
    return Dashboard(board)


# JupyterLab and Notebook take arrow keys and letters for shortcuts of their own, unless what has the focus says not to.
_GUARD = """
function render({ el }) {
  el.style.display = "none";
  const guard = () => {
    const root = el.closest(".opp-board");
    if (!root) return void requestAnimationFrame(guard);
    root.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
  };
  guard();
}
export default { render };
"""


def _key_guard() -> list[Any]:
    """Keep the host's shortcuts away from the filters; without the extra ``notebook`` they work by mouse only."""
    try:
        anywidget = load_anywidget()
    except MissingExtraError:
        return []
    return [anywidget.AnyWidget(_esm=_GUARD)]


def _texts(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(str(name) for name in names)


def _listed(names: list[str]) -> list[tuple[str, str]]:
    return [(printable(name, 80), name) for name in names]


def _heads_html(lines: list[Headline]) -> str:
    parts = [
        f"<div><dt>{html.escape(line.name)}</dt>"
        f"<dd>{html.escape(line.value)}<small>{html.escape(line.note)}</small></dd></div>"
        for line in lines
    ]
    return f"<dl class='opp-heads'>{''.join(parts)}</dl>"


def _standing_alone(drawing: str) -> str:
    """Give the picture of a page fixed colours, so that it can leave the page."""
    return '<?xml version="1.0" encoding="utf-8"?>\n' + _VARIABLE.sub(lambda found: _COLOURS[found[1]], drawing)


def _link(file: str, media_type: str, content: bytes, words: str) -> str:
    packed = base64.b64encode(content).decode("ascii")
    return f'<a download="{file}" href="data:{media_type};base64,{packed}">{html.escape(words)}</a>'
