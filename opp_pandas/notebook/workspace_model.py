"""The model of a workspace: numbers and charts that follow the edits of a desk, and the desk's list that follows them.

Beside each number stands the same figure of the deals as they were loaded, so that edits are seen
to move it before anything is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.forecasting.distribution import RHO
from opp_pandas.frame_state import attach_loaded
from opp_pandas.notebook.picture_model import PictureModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.notebook.cells import Places
    from opp_pandas.notebook.grid_controller import Desk


class WorkspaceModel(PictureModel):
    """A desk with the numbers above it: arguments as of `PictureModel`, the deals as `desk` has them."""

    def __init__(
        self, desk: Desk, context: FigureContext, history: Any = None, quota: Any = None, rho: float = RHO
    ) -> None:
        super().__init__(desk.sheet.held, context, history, quota, rho)
        self.desk = desk
        desk.actions |= self.actions
        # What cannot be shown at all is refused when the workspace is opened; the grid has the column from the start.
        self._explain_rows({})
        self.arrange()

    def _keyed(self) -> tuple[Any, Callable[[], pd.DataFrame]]:
        return self.desk.sheet.edition, self._frame_now

    def _keyed_before(self) -> tuple[Any, Callable[[], pd.DataFrame]] | None:
        sheet = self.desk.sheet
        # Of adopted deals the service knows none yet: there is nothing to compare with.
        if not any(sheet.pending().values()) or (sheet.rows.places < 0).all():
            return None
        return sheet.loaded.key, self._frame_before

    def _frame_now(self) -> pd.DataFrame:
        sheet = self.desk.sheet
        frame = sheet.held.set_axis(pd.Index(sheet.uids))
        return frame[~frame.index.isin(sheet.deleted)] if sheet.deleted else frame

    def _frame_before(self) -> pd.DataFrame:
        """Return the rows of the sheet as they were loaded, without those that are new."""
        sheet = self.desk.sheet
        known = sheet.rows.places >= 0
        frame = sheet.loaded.baseline.frame.iloc[sheet.rows.places[known]].set_axis(pd.Index(sheet.uids[known]))
        return attach_loaded(frame, sheet.loaded)

    def _list(self, rank: Places, within: Places | None) -> None:
        ordering = self.desk.ordering
        ordering.rank, ordering.within = rank, within
        ordering.show(self.desk.columns)
        self.desk.moved()

    def _rows_of_ids(self, ids: pd.Series) -> Places:
        row_of = {row_id: uid for uid, row_id in self.desk.sheet.ids()}
        return np.array([row_of[key] for key in ids if key in row_of], dtype=np.int64)

    def _count(self) -> int:
        return len(self.desk.ordering)

    def _explain_rows(self, reasons: Mapping[int, str]) -> None:
        self.desk.reasons = dict(reasons)

    def listed_frame(self) -> pd.DataFrame:
        """The deals that are listed as they are edited, in their order."""
        sheet = self.desk.sheet
        return sheet.held.iloc[sheet.places(self.desk.ordering.rows.tolist())]

    def _shown_list(self) -> None:
        """The desk's grid is the list."""
