"""The dashboard of a notebook: the numbers and charts of a workspace over any opportunities, without the editor."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import ConfigurationError, MissingColumnError
from opp_pandas.figures.core.basis import counted
from opp_pandas.figures.core.figure import takes_definitions
from opp_pandas.forecasting.distribution import RHO
from opp_pandas.notebook.grid import Displayed, build_picture_widget, load_anywidget
from opp_pandas.notebook.messages import answered, sent
from opp_pandas.notebook.picture_model import PictureModel

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from opp_pandas.figures.core.context import FigureContext


class Dashboard(Displayed):
    """What ``df.opp.dashboard()`` gives: shown in a notebook, steered and asked from Python as well.

    Made by `open_dashboard`. The frame that it was opened on is never touched.
    """

    def __init__(self, model: PictureModel, lock: Any, widget: Any) -> None:
        self._model, self._lock, self._widget = model, lock, widget

    @property
    def headlines(self) -> Mapping[str, float | None]:
        """The numbers above the charts, by name."""
        with self._lock:
            return {card.title: card.value for card in self._model.picture().cards}

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be had or shown, in sentences."""
        with self._lock:
            return tuple(self._model.picture().notes)

    @property
    def listed(self) -> pd.DataFrame:
        """The deals that are listed, in their order."""
        with self._lock:
            return self._model.listed_frame()

    def choose(
        self,
        *,
        owners: str | Sequence[str] = (),
        stages: str | Sequence[str] = (),
        period: Any = None,
        teams: str | Sequence[str] = (),
    ) -> None:
        """Look at these owners, stages and period; what is left out means all, of periods the present one.

        Parameters
        ----------
        owners, stages : str or sequence of str
            Names as the page lists them.
        period : str or Period, optional
            A period as the page lists it.
        teams : str or sequence of str
            In place of owners: everybody who is in one of them, where the load
            has the organisation.

        Raises
        ------
        ConfigurationError
            If a name is not listed.
        """
        with self._lock:
            chosen = _several(owners) or self._model.owners_of(_several(teams))
            self._model.look(chosen, _several(stages), "" if period is None else str(period))
            self._widget.picture = sent(self._model.picture())

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the charts of what is looked at, as PNG and SVG.

        Parameters
        ----------
        folder : path
            Made if it is not there.

        Returns
        -------
        list of Path
            The files, two for each chart; ``df.opp.plot`` draws more, and as you like.
        """
        with self._lock:
            return self._model.save(folder)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._words()}>"

    def _words(self) -> str:
        with self._lock:
            picture = self._model.picture()
        numbers = ", ".join(f"{card.title} {card.value:,.10g}" for card in picture.cards[:3] if card.value is not None)
        of = "" if picture.shown == picture.total else f"{picture.shown:,} of "
        return f"{of}{counted(picture.total, 'deal')}, as of {picture.as_of}; {picture.period}: {numbers}"


@takes_definitions
def open_dashboard(
    frame: pd.DataFrame,
    history: Any = None,
    quota: Any = None,
    *,
    context: FigureContext,
    rho: float = RHO,
) -> Dashboard:
    """Look at the period's number, its charts and the deals behind them in a notebook, by owner, stage and period.

    What `open_workspace` shows of a load, of any opportunities and without the editor: what the
    period will bring against the quota, what is won, open and overdue, charts by period, owner,
    stage and age, what needs attention and what changed. A click on a number or a bar lists
    the deals behind it.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount``, ``close_date`` and ``stage_id`` or
        ``stage_name``. Never modified.
    history : History, optional
        Adds what changed since a snapshot or since the period began, and how many
        deals came as far as each stage.
    quota : number, mapping or DataFrame, optional
        For every period [currency], period -> number, owner ->
        number, or a frame with ``period``, ``owner_name`` and ``quota``. A quota
        of all owners is not shown beside a choice of them.

    Returns
    -------
    Dashboard
        With ``.headlines``, ``.listed``, ``.choose()`` and ``.save()``; displays itself in a notebook.

    Raises
    ------
    ConfigurationError
        If the quota fits neither periods nor owners, or `history` is none.
    MissingColumnError
        If a needed column is not there.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.
    MissingExtraError
        If anywidget is not installed.

    Examples
    --------
    >>> dashboard = df.opp.dashboard(quota=450_000)
    >>> dashboard.choose(stages="Propose")
    >>> len(dashboard.listed)
    13
    """
    load_anywidget()
    check_history(history)
    if history is not None and "id" not in frame.columns:
        raise MissingColumnError(["id"], frame.columns, "A history knows deals by their ids.")
    model, lock = PictureModel(frame, context, history, quota, rho), threading.RLock()
    model.arrange()

    def act(request: Any) -> Any:
        with lock:
            return model.actions[type(request)](request)

    label = f"Dashboard of {counted(len(frame), 'deal')}"
    widget = build_picture_widget(label, model.picture(), lambda said: answered(said, tuple(model.actions), act))
    return Dashboard(model, lock, widget)


def check_history(history: Any) -> None:
    """Raise if something that was given as a history is none."""
    if history is not None and not (hasattr(history, "as_of") and hasattr(history, "snapshots")):
        raise ConfigurationError(f"history must be an opp_pandas.History, not {type(history).__name__}")


def _several(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(str(name) for name in names)
