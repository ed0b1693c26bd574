"""What the service's calls, mailings, tasks and events become: one frame of activity, a row per deal.

A touch is something that was done with a customer: a meeting, a call, a mailing
that was delivered, a task that was completed. The service has no resource of
meetings: they are tasks to be done in person, and events whose name has the word
in it. Any other event, such as the opening of a mailing, tells of something that
stands there by itself, or of nobody's doing; it is kept, and counts as no touch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from opp_pandas.resource import CALL, EVENT, MAILING, TASK, Resource

if TYPE_CHECKING:
    from typing import Any

TOUCHES = ("meeting", "call", "mailing", "task")
"""The kinds of activity that are touches."""

COLUMNS = {
    "opportunity_id": "Int64",
    "kind": "str",
    "id": "Int64",
    "done_at": "datetime64[us, UTC]",
    "planned_at": "datetime64[us, UTC]",
    "created_at": "datetime64[us, UTC]",
    "updated_at": "datetime64[us, UTC]",
    "user_id": "Int64",
    "state": "str",
    "detail": "str",
    "type": "str",
}
"""The columns of activity and their dtypes."""


@dataclass(frozen=True)
class Source:
    """A resource of activity, and how its records are read.

    Parameters
    ----------
    resource : Resource
    fields : tuple of str
        The columns that are asked for: notes and bodies stay where they are.
    changed : str
        The column by which the service can be asked for what is new.
    read : callable
        Gives ``kind, done_at, planned_at, user_id, state, detail`` of a frame of records.
    """

    resource: Resource
    fields: tuple[str, ...]
    changed: str
    read: Callable[[pd.DataFrame], Mapping[str, Any]]


def _read_calls(rows: pd.DataFrame) -> Mapping[str, Any]:
    done = rows["answered_at"].fillna(rows["dialed_at"]).fillna(rows["completed_at"])
    return {"kind": "call", "done_at": done, "state": rows["state"], "detail": rows["outcome"]}


def _read_mailings(rows: pd.DataFrame) -> Mapping[str, Any]:
    came = rows["bounced_at"].isna()
    waits = came & rows["delivered_at"].isna()
    return {
        "kind": "mailing",
        "done_at": rows["delivered_at"].where(came),
        "planned_at": rows["scheduled_at"].where(waits),
        "state": rows["state"],
        "detail": rows["subject"],
    }


def _read_tasks(rows: pd.DataFrame) -> Mapping[str, Any]:
    # What is done without saying when is neither a touch on some day nor still to come.
    undated = (rows["completed"].fillna(False) | (rows["state"] == "complete")) & rows["completed_at"].isna()
    return {
        "kind": rows["action"].eq("in_person").map({True: "meeting", False: "task"}),
        "done_at": rows["completed_at"],
        "planned_at": rows["due_at"].fillna(rows["scheduled_at"]).mask(undated),
        "user_id": rows["owner_id"],
        "state": rows["state"],
        "detail": rows["action"],
    }


def _read_events(rows: pd.DataFrame) -> Mapping[str, Any]:
    own = rows[["call_id", "mailing_id", "task_id"]].isna().all(axis=1)
    meeting = own & rows["name"].str.contains("meeting", case=False, na=False)
    return {
        "kind": meeting.map({True: "meeting", False: "event"}),
        "done_at": rows["event_at"],
        "planned_at": rows["event_at"].where(meeting),
        "detail": rows["name"],
    }


SOURCES = (
    Source(
        CALL,
        ("answered_at", "dialed_at", "completed_at", "outcome", "state", "created_at", "updated_at", "user"),
        "updated_at",
        _read_calls,
    ),
    Source(
        MAILING,
        ("delivered_at", "bounced_at", "scheduled_at", "subject", "state", "created_at", "updated_at", "user"),
        "updated_at",
        _read_mailings,
    ),
    Source(
        TASK,
        (
            "action", "completed", "completed_at", "due_at", "scheduled_at", "state", "created_at", "updated_at",
            "owner",
        ),
        "updated_at",
        _read_tasks,
    ),
    Source(EVENT, ("name", "event_at", "created_at", "user", "call", "mailing", "task"), "created_at", _read_events),
)  # fmt: skip


def activity_frame(columns: Mapping[str, Any] | None = None, index: pd.Index | None = None) -> pd.DataFrame:
    """Return a frame of activity with every column and its dtype; what is not given is missing.

    Parameters
    ----------
    columns : mapping of str to Series or scalar, optional
    index : Index, optional
        Of the rows.
    """
    frame = pd.DataFrame(dict(columns or {}), index=index if columns else pd.RangeIndex(0))
    missing = {name: pd.Series(pd.NA, index=frame.index, dtype="object") for name in COLUMNS if name not in frame}
    return frame.assign(**missing)[list(COLUMNS)].astype(COLUMNS)
