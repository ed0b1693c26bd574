"""One step of editing, and what takes it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Rows = np.ndarray[Any, np.dtype[np.int64]]
State = tuple[pd.DataFrame, Rows, frozenset[int]]


@dataclass(frozen=True)
class ColumnEdit:
    """Cells of one column: the rows' numbers, their values before and after; None where missing."""

    column: str
    rows: tuple[int, ...]
    before: tuple[Any, ...]
    after: tuple[Any, ...]


@dataclass(frozen=True)
class CellStep:
    """Cells that were set together."""

    edits: tuple[ColumnEdit, ...]


@dataclass(frozen=True, eq=False)
class RowStep:
    """Rows that were added, or marked for deletion: the sheet before and after."""

    frame_before: pd.DataFrame
    uids_before: Rows
    deleted_before: frozenset[int]
    frame_after: pd.DataFrame
    uids_after: Rows
    deleted_after: frozenset[int]
    added: tuple[int, ...] = ()

    @property
    def before(self) -> State:
        """The sheet before."""
        return self.frame_before, self.uids_before, self.deleted_before

    @property
    def after(self) -> State:
        """The sheet after."""
        return self.frame_after, self.uids_after, self.deleted_after


Step = CellStep | RowStep
