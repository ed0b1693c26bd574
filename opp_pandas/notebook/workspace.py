"""The workspace of a notebook: the period's number, charts, the deals behind them, and the editor, as one widget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from opp_pandas.figures.core.basis import counted
from opp_pandas.figures.core.context import DEFINITIONS
from opp_pandas.figures.core.figure import takes_definitions
from opp_pandas.forecasting.distribution import RHO
from opp_pandas.frame_state import require_loaded
from opp_pandas.notebook.dashboards import Dashboard, check_history
from opp_pandas.notebook.edit_session import Sheet
from opp_pandas.notebook.editor import Editor, ask_custom_fields, check_height
from opp_pandas.notebook.fields import first_columns
from opp_pandas.notebook.grid import build_widget, load_anywidget
from opp_pandas.notebook.grid_controller import REASONS, Desk
from opp_pandas.notebook.messages import sent
from opp_pandas.notebook.panel import Panel
from opp_pandas.notebook.selection import Choice
from opp_pandas.notebook.workspace_model import WorkspaceModel
from opp_pandas.parsing.reading import Conventions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from threading import Thread

    import pandas as pd

    from opp_pandas.api.client import Client
    from opp_pandas.choices import UnknownNames
    from opp_pandas.figures.core.context import FigureContext


class Workspace(Dashboard, Editor):
    """What ``df.opp.workspace()`` gives: a dashboard whose deals are edited in place.

    Made by `open_workspace`. The frame that it was opened on is never touched.
    """

    def __init__(self, model: WorkspaceModel, panel: Panel, widget: Any, asking: Thread | None = None) -> None:
        Editor.__init__(self, model.desk, panel, widget, asking)
        self._model, self._lock = model, model.desk.lock

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be had or shown, in sentences."""
        return (*self._desk.notes, *super().notes)

    def __repr__(self) -> str:
        return f"{Editor.__repr__(self)}\n  {self._words()}"


@takes_definitions
def open_workspace(
    frame: pd.DataFrame,
    history: Any = None,
    quota: Any = None,
    *,
    context: FigureContext,
    rho: float = RHO,
    client: Client | None = None,
    columns: Sequence[str] | None = None,
    height: int = 420,
    unknown_names: UnknownNames = "refuse",
    journal: str | Path | None = None,
    decimal: Literal[".", ","] | None = None,
    thousands: str | None = None,
    dayfirst: bool | None = None,
    date_format: str | Mapping[str, str] | None = None,
) -> Workspace:
    """Open the period's number, its charts, the deals behind them and their editor as one widget.

    On top stands what the period is predicted to bring, against the quota and with its
    interval, then what is won, open, overdue and missing to the quota, charts by period,
    owner, stage and age, what needs attention, and what changed since the last snapshot. A
    click on a number or a bar lists the deals behind it. The list begins with what needs
    attention, and is edited in place by the rules of `open_editor`: every number moves with an
    edit before anything is sent, and says what it was.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        A loaded or adopted frame with ``amount``, ``close_date`` and ``stage_id`` or
        ``stage_name``, edited or not. Never modified.
    history : History, optional
        Adds what changed since a snapshot or since the period began, and how many
        deals came as far as each stage; without one, what the edits change.
    client : Client, optional
        Where changes go; default the client of the load.
    columns : sequence of str, optional
        Columns to list at first. Default: the usual ones, and why a deal needs attention.

    Returns
    -------
    Workspace
        With ``.frame``, ``.changes``, ``.report`` and ``.code`` as an editor has them,
        ``.headlines``, ``.listed`` and ``.choose()``.

    Raises
    ------
    NotLoadedError, FrameError, DuplicateRowsError
        If the frame cannot be compared with what was loaded.
    MissingColumnError
        If a needed column is not there.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.
    ConfigurationError
        If the quota fits neither periods nor owners, or an argument cannot be used.
    MissingExtraError
        If anywidget is not installed.

    Examples
    --------
    >>> import opp_pandas as opp
    >>> with opp.sandbox(opportunities=60, now="2026-10-20T15:00:00Z") as box:
    ...     df = opp.read_opportunities(box.client(), on_invalid="ignore")
    ...     space = df.opp.workspace(quota=3_000_000)
    >>> space.choose(period="2026Q4")
    >>> space.listed["id"].nunique()
    7
    """
    load_anywidget()
    check_height(height)
    check_history(history)
    require_loaded(frame, "workspace()")
    sheet = Sheet(frame, Conventions(decimal, thousands, dayfirst, date_format))
    desk = Desk(sheet, columns, unknown_names=unknown_names)
    if columns is None:
        name, *others = first_columns(sheet.fields, sheet.held)
        desk.columns = [name, REASONS, *others]
    asking = ask_custom_fields(desk, client)
    # The effect of a plan is worked out from the load: it is told all that was settled here, None as "not stated".
    stated = {**vars(context.periods), **vars(context.money)}
    definitions = {name: False if stated[name] is None else stated[name] for name in DEFINITIONS}
    with desk.lock:
        model = WorkspaceModel(desk, context, history, quota, rho)
        by_period = model.now.selection.quota_for(Choice(), [])
        panel = Panel(desk, client, {"quota": by_period, **definitions}, journal)
        picture = sent(model.picture())
    label = f"{counted(len(frame), 'deal')}, what needs attention first"
    widget = build_widget(desk, panel, asking, label=label, height=height, entry="workspace", picture=picture)
    return Workspace(model, panel, widget, asking)
