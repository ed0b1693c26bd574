"""The editor of a notebook: a grid over a frame of its own, and what waits to be sent below it."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, cast

from opp_pandas.changes.impact import Figures
from opp_pandas.errors import ConfigurationError, MissingColumnError
from opp_pandas.figures.core.basis import counted
from opp_pandas.figures.core.figure import takes_definitions
from opp_pandas.frame_state import require_loaded
from opp_pandas.load.custom_fields import fields_by_column
from opp_pandas.notebook.edit_session import Sheet
from opp_pandas.notebook.grid import Displayed, build_widget, load_anywidget
from opp_pandas.notebook.grid_controller import Desk, pending_words
from opp_pandas.notebook.panel import Panel
from opp_pandas.notebook.to_code import recipe
from opp_pandas.parsing.reading import Conventions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from opp_pandas.accessor import OpportunityFrame
    from opp_pandas.api.client import Client
    from opp_pandas.apply.report import WriteReport
    from opp_pandas.changes.plan import ChangeSet
    from opp_pandas.choices import UnknownNames

SHORTEST, TALLEST = 120, 2000


class Editor(Displayed):
    """What ``df.opp.edit()`` gives: shown in a notebook, asked from Python afterwards.

    Made by `open_editor`. The frame that it was opened on is never touched.
    """

    def __init__(self, desk: Desk, panel: Panel, widget: Any, asking: Thread | None = None) -> None:
        self._desk, self._panel, self._widget, self._asking = desk, panel, widget, asking

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be had, in sentences."""
        return tuple(self._desk.notes)

    @property
    def frame(self) -> OpportunityFrame:
        """A copy of the frame with the edits; after sending also with what the service made of them."""
        with self._desk.lock:
            return cast("OpportunityFrame", self._desk.sheet.frame)

    @property
    def changes(self) -> ChangeSet:
        """What waits to be sent, and what would be refused."""
        with self._desk.lock:
            return self._desk.sheet.changes(unknown_names=self._desk.unknown_names, **self._panel.figures)

    @property
    def report(self) -> WriteReport | None:
        """What became of the changes that were sent last; None before."""
        return self._panel.report

    @property
    def code(self) -> str:
        """The pandas lines that make the same edits to the frame that the editor was opened on."""
        with self._desk.lock:
            return recipe(self._desk.sheet, self._desk.unknown_names)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is being sent, and the custom fields have their names.

        Parameters
        ----------
        timeout_s : float, optional
            How long at most [s].

        Returns
        -------
        bool
            False if something still is.
        """
        if self._asking is not None:
            self._asking.join(timeout_s)
            if self._asking.is_alive():
                return False
        return self._panel.saving is None or self._panel.saving.wait(timeout_s)

    def __repr__(self) -> str:
        with self._desk.lock:
            sheet = self._desk.sheet
            count, words = int(sheet.kept().sum()), pending_words(sheet.pending())
        sent = f"; last sent: {self.report.summary()}" if self.report is not None else ""
        shown = f"<{type(self).__name__} of {counted(count, 'deal')}; pending: {words}{sent}>"
        return f"{shown} .frame, .changes and .report hold what was done; a notebook shows the grid"


@takes_definitions
def open_editor(
    frame: pd.DataFrame,
    client: Client | None = None,
    *,
    columns: Sequence[str] | None = None,
    height: int = 420,
    unknown_names: UnknownNames = "refuse",
    quota: Any = None,
    journal: str | Path | None = None,
    decimal: Literal[".", ","] | None = None,
    thousands: str | None = None,
    dayfirst: bool | None = None,
    date_format: str | Mapping[str, str] | None = None,
    **definitions: Any,
) -> Editor:
    """Edit a frame in a notebook, cell by cell, and send what was edited.

    The grid shows rows as they are asked for, so that its size does not matter.
    Cells are edited by keyboard or mouse; every value is read once, in Python,
    by its column's dtype: also ``$12,500.00``, ``55%``, ``Dec 31, 2026`` and what
    else spreadsheets copy. What has two readings, cannot be read or may not be
    written is refused with the reason. Below the grid stands what waits: reviewing it is a
    dry run with its effect on the forecast, sending it runs beside the kernel,
    and rows that were refused or that both sides changed stay pending.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        A loaded or adopted frame, edited or not. Never modified.
    client : Client, optional
        Where changes go; default the client of the load.
    columns : sequence of str, optional
        Columns to show at first; the others can be chosen in the grid. Default:
        the usual ones, and custom fields that hold something.
    quota : number, mapping or DataFrame, optional
        For the effect on the forecast that a review shows;
        coverage by period needs a quota.

    Returns
    -------
    Editor
        With ``.frame``, ``.changes``, ``.report`` and ``.code``. Where no
        notebook shows it, its text says what waits.

    Raises
    ------
    NotLoadedError, FrameError, DuplicateRowsError
        If the frame cannot be compared with what was loaded.
    MissingColumnError
        If one of ``columns`` is not in the frame.
    ConfigurationError
        If ``height``, or an argument of the forecast, cannot be used.
    MissingExtraError
        If anywidget is not installed.

    Examples
    --------
    >>> editor = df.opp.edit(columns=["name", "amount", "next_step"])
    >>> editor.changes, editor.report
    (ChangeSet: nothing to write, None)
    >>> editor.frame.shape == df.shape
    True
    """
    load_anywidget()
    check_height(height)
    loaded = require_loaded(frame, "edit()")
    if isinstance(columns, str):
        columns = [columns]
    missing = [str(column) for column in columns or () if column not in frame.columns]
    if missing or (columns is not None and not columns):
        raise MissingColumnError(missing, frame.columns, "The editor shows columns of the frame, at least one.")
    sheet = Sheet(frame, Conventions(decimal, thousands, dayfirst, date_format))
    desk = Desk(sheet, columns, unknown_names=unknown_names)
    # Arguments that cannot be used are refused now, not when the changes are reviewed.
    Figures(loaded, quota, definitions)
    asking = ask_custom_fields(desk, client)
    panel = Panel(desk, client, {"quota": quota, **definitions}, journal)
    widget = build_widget(desk, panel, asking, label=f"Editor of {len(frame):,} deals", height=height)
    return Editor(desk, panel, widget, asking)


def check_height(height: object) -> None:
    """Raise if a height is no sensible number of pixels."""
    if isinstance(height, bool) or not isinstance(height, int) or not SHORTEST <= height <= TALLEST:
        raise ConfigurationError(f"height={height!r} is not a number of pixels from {SHORTEST} to {TALLEST}")


def ask_custom_fields(desk: Desk, client: Client | None) -> Thread | None:
    """Ask what the custom fields are called, where the load does not know, beside everything else.

    Columns keep the API's names until an answer is there.
    """
    loaded = desk.sheet.loaded
    asked = client if client is not None else loaded.client
    if loaded.custom_fields or asked is None:
        return None

    def ask() -> None:
        try:
            desk.learn(fields_by_column(asked))
        except Exception as problem:  # noqa: BLE001 - told to whoever asks for the notes
            desk.notes.append(f"custom fields bear the API's names and no options: {problem}")

    asking = Thread(target=ask, name="opp_pandas custom fields", daemon=True)
    asking.start()
    return asking
