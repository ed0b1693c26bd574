"""Cells of a load that break a rule, and what is said of them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pandas as pd

from opp_pandas.errors import IncompleteLoadWarning, InvalidFrameError, InvalidValuesWarning

if TYPE_CHECKING:
    from opp_pandas.frame_state import Rows
    from opp_pandas.load_report import LoadReport

# The line that called `read_opportunities`.
_CALLER = 3


def row_failures(rows: Rows) -> pd.DataFrame:
    """Rule breaks of the schema, and cells that could not take their dtype."""
    from opp_pandas.schema import find_failures

    failures = find_failures(rows.frame)
    locked = [(row, column, reason) for (row, column), reason in rows.marks.locked.items()]
    if not locked:
        return failures
    ids = rows.frame["id"].array
    unread = pd.DataFrame(
        {
            "id": pd.array([ids[row] for row, _, _ in locked], dtype="Int64"),
            "row": [row for row, _, _ in locked],
            "column": [column for _, column, _ in locked],
            "value": pd.Series([rows.marks.original.get((row, column)) for row, column, _ in locked], dtype=object),
            "rule": [reason for _, _, reason in locked],
        }
    )
    return pd.concat([failures, unread], ignore_index=True) if len(failures) else unread


def warn_of_load(report: LoadReport, on_invalid: str) -> None:
    """Warn of what is missing and of rule breaks, or raise for them, as ``on_invalid=`` says."""
    if len(report.failures) and on_invalid == "raise":
        raise InvalidFrameError(report.failures)
    if report.complete is False:
        aside = [f"{len(report.quarantined)} records were set aside"] if len(report.quarantined) else []
        words = "; ".join([*aside, *report.notes])
        warnings.warn(f"not every row is in the frame: {words}; see df.opp.load_report", IncompleteLoadWarning, _CALLER)
    if len(report.failures) and on_invalid == "warn":
        counts = report.failures["column"].value_counts()
        words = ", ".join(f"{column} {count}" for column, count in counts.head(5).items())
        text = (
            f"{len(report.failures)} values break the schema and were kept ({words}); see df.opp.load_report.failures"
        )
        warnings.warn(text, InvalidValuesWarning, _CALLER)
