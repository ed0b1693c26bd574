"""How often and when each deal was touched, and what comes next, as known at a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from opp_pandas.activity.sources import COLUMNS, TOUCHES
from opp_pandas.errors import FrameError, MissingColumnError
from opp_pandas.frame_state import attach_loaded, loaded_of
from opp_pandas.instants import parse_end
from opp_pandas.resource import TOUCH_COLUMNS

if TYPE_CHECKING:
    from opp_pandas.accessor import OpportunityFrame

_NEEDED = ("opportunity_id", "kind", "done_at", "planned_at", "created_at")


def check_activity(activity: Any) -> pd.DataFrame:
    """Return a frame of activity with the dtypes that the rest relies on.

    Raises
    ------
    FrameError
        If it is none, or a column cannot take its dtype.
    MissingColumnError
        If it lacks a column.
    """
    if not isinstance(activity, pd.DataFrame):
        raise FrameError("activity= is a frame, such as opp.read_activity(client, df) gives")
    missing = [name for name in _NEEDED if name not in activity.columns]
    if missing:
        raise MissingColumnError(missing, list(activity.columns), "Activity has a row per touch and deal.")
    try:
        return activity.astype({name: COLUMNS[name] for name in _NEEDED})
    except (TypeError, ValueError) as error:
        raise FrameError(f"a column of the activity does not hold what it should: {error}") from error


def known_touches(activity: pd.DataFrame) -> pd.DataFrame:
    """Return the touches that were done, with the moment from which each was known.

    What was put down later than it was done was not known before; of what says
    not when it was put down, nothing speaks against the moment when it was done.

    Parameters
    ----------
    activity : DataFrame
        As `read_activity` gives it.

    Returns
    -------
    DataFrame
        ``opportunity_id, kind, done_at, known_at``.
    """
    done = activity[activity["kind"].isin(TOUCHES) & activity["done_at"].notna() & activity["opportunity_id"].notna()]
    known = done[["done_at", "created_at"]].max(axis=1)
    return done[["opportunity_id", "kind", "done_at"]].assign(known_at=known)


def summarize_touches(activity: pd.DataFrame, deals: pd.Index, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return what was known of each deal's touches at a moment.

    Parameters
    ----------
    activity : DataFrame
        As `read_activity` gives it.
    deals : Index of int
        The deals' ids.
    as_of : Timestamp
        Nothing that was put down or done later is seen.

    Returns
    -------
    DataFrame, indexed like `deals`
        ``touch_count`` (meetings, calls, delivered mailings and completed tasks),
        ``last_touch_at``, ``next_touch_at`` (the next one that is planned), and by
        kind ``meeting_count, call_count, mailing_count, task_count``,
        ``last_meeting_at`` and ``next_meeting_at``.
    """
    activity = check_activity(activity)
    touches = known_touches(activity)
    touches = touches[touches["known_at"] <= as_of]
    is_done = activity["done_at"] <= as_of
    is_planned = (activity["planned_at"] > as_of) & ~is_done & ~(activity["created_at"] > as_of)
    planned = activity[is_planned & activity["kind"].isin(TOUCHES)]
    counts = touches.groupby(["opportunity_id", "kind"]).size().unstack(fill_value=0)

    def of(frame: pd.DataFrame, moment: str, pick: str) -> pd.Series:
        return frame.groupby("opportunity_id")[moment].agg(pick).reindex(deals)

    def count(kinds: tuple[str, ...]) -> pd.Series:
        return counts.reindex(columns=list(kinds), fill_value=0).sum(axis=1).reindex(deals, fill_value=0)

    meetings, next_meetings = (frame[frame["kind"] == "meeting"] for frame in (touches, planned))
    return pd.DataFrame(
        {
            "touch_count": count(TOUCHES),
            "last_touch_at": of(touches, "done_at", "max"),
            "next_touch_at": of(planned, "planned_at", "min"),
            **{f"{kind}_count": count((kind,)) for kind in TOUCHES},
            "last_meeting_at": of(meetings, "done_at", "max"),
            "next_meeting_at": of(next_meetings, "planned_at", "min"),
        },
        index=deals,
    ).astype(TOUCH_COLUMNS)


def add_touches(frame: pd.DataFrame, activity: pd.DataFrame, *, as_of: Any = None) -> OpportunityFrame:
    """Join to deals how often and when they were touched; the activity travels along with the load.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Deals with ``id``. Never modified.
    activity : DataFrame
        As `read_activity` gives it: ``opportunity_id, kind, done_at, planned_at, created_at``.
    as_of : str, datetime or date, optional
        What was put down or done later is not seen; default the moment of the
        load, else the last moment of the activity.

    Returns
    -------
    DataFrame, shape (n, k + 9)
        With ``touch_count`` (meetings, calls, delivered mailings and completed
        tasks), ``last_touch_at``, ``next_touch_at`` (the next one that is planned),
        ``meeting_count, call_count, mailing_count, task_count``,
        ``last_meeting_at`` and ``next_meeting_at``. Deals without activity have
        counts of 0; deals without an id, missing ones. `hygiene` and `ageing` use
        the columns, `fit_win_model` and `predict` the activity itself.

    Raises
    ------
    MissingColumnError, FrameError
        If the frame has no ids, or the activity is none.

    Examples
    --------
    >>> import opp_pandas as opp
    >>> with opp.sandbox(opportunities=40, now="2026-09-01T08:00:00Z") as box:
    ...     df = opp.read_opportunities(box.client())
    ...     df = opp.add_touches(df, opp.read_activity(box.client(), df))
    >>> bool(
    ...     (df["touch_count"] == df[["meeting_count", "call_count", "mailing_count", "task_count"]].sum(axis=1)).all()
    ... )
    True
    """
    if "id" not in frame.columns:
        raise MissingColumnError(["id"], list(frame.columns), "Touches are joined by the deals' ids.")
    loaded, activity = loaded_of(frame), check_activity(activity)
    if as_of is not None:
        moment = parse_end(as_of, None if loaded is None else loaded.timezone)
    elif loaded is not None:
        moment = loaded.as_of
    else:
        moment = activity[["created_at", "done_at"]].max().max()
    known = frame["id"].dropna().astype("Int64").drop_duplicates()
    table = summarize_touches(activity, pd.Index(known), moment)
    joined = table.reindex(pd.Index(frame["id"].astype("Int64"))).set_axis(frame.index)
    joined = frame.assign(**{name: joined[name] for name in joined.columns})
    if loaded is None:
        return cast("OpportunityFrame", joined)
    return cast("OpportunityFrame", attach_loaded(joined, loaded.renewed(activity=activity)))
