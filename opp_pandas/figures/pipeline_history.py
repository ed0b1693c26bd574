"""The pipeline at many moments: what was open, by stage or group, as it was known then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, HistoryNeededError
from opp_pandas.figures.core.deals import OPEN, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import Group, common_labels, identities, read_groups, require_one_column
from opp_pandas.figures.core.snapshots import HOW_TO_START, STATE_COLUMNS, Snapshots, parse_window, read_states

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext

_MOST_MOMENTS = 60
_DEFINITIONS = {
    "open_count": "open deals at that moment",
    "open_amount": "their amounts, omitted ones left out",
    "weighted_amount": "their amounts x the probability they had then, omitted ones left out",
}


@figure(heading="Open pipeline over time", definitions=_DEFINITIONS)
def pipeline_over_time(
    history: Any,
    *,
    times: Sequence[Any] | None = None,
    by: str = "stage_name",
    period: Any = None,
    context: FigureContext,
) -> pd.DataFrame:
    """Compute what was open at each of several moments.

    Parameters
    ----------
    history : History
        Snapshots.
    times : sequence of str, date or Timestamp, optional
        The moments, such as ``pd.date_range("2026-01-31", periods=12, freq="ME")``.
        Left out: the snapshots, of more than 60 every second, third and so on,
        and the newest.
    by : str, default "stage_name"
        A column to group by.
    period : str, Period or pair of day, optional
        Only deals with their close date in it; see `waterfall`.

    Returns
    -------
    DataFrame
        Indexed by ``moment`` and `by`; every group at every moment.

    Examples
    --------
    >>> df.opp.pipeline_over_time(history, by="owner_name").groupby("moment").sum().round(0).tail(3)
                               open_count  open_amount  weighted_amount
    moment
    2026-07-05 15:00:00+00:00          51    1347075.0         729298.0
    2026-09-03 15:00:00+00:00          71    1288004.0         630648.0
    2026-11-02 15:00:00+00:00          65    1205299.0         644765.0
    """
    if not isinstance(history, Snapshots):
        raise HistoryNeededError(f"the pipeline over time needs snapshots: pass a History. {HOW_TO_START}")
    require_one_column(by)
    moments = _snapshots(history) if times is None else list(times)
    if not moments:
        raise ConfigurationError("times= names no moment; pass days, such as pd.date_range(...)")
    window = None if period is None else parse_window(period, context.periods)
    found: list[tuple[pd.Timestamp, Group, pd.DataFrame]] = []
    n_not_judged = 0
    last = None
    for state in read_states(
        history, moments, context=context, columns=(*STATE_COLUMNS, by), what="the pipeline over time"
    ):
        n_not_judged = max(n_not_judged, state.n_not_judged)
        last = deals = Deals(state.scoped.frame, state.context)
        chosen = deals.status == OPEN
        if window is not None:
            chosen &= (deals.close_day >= window[0]) & (deals.close_day <= window[1])
        group = read_groups(deals, by)[0]
        n = len(group)
        summed = chosen if deals.omitted is None else chosen & ~deals.omitted
        amount = np.where(summed, np.nan_to_num(deals.amount), 0.0)
        part = pd.DataFrame(
            {
                "open_count": np.bincount(group.codes[chosen], minlength=n),
                "open_amount": np.bincount(group.codes, amount, minlength=n),
                "weighted_amount": np.bincount(group.codes, amount * np.nan_to_num(deals.percent) / 100, minlength=n),
            }
        )
        found.append((state.context.as_of, group, part))
    assert last is not None  # noqa: S101 -- there is at least one moment
    names = common_labels(group for _, group, _ in reversed(found))
    parts = [(at, part.set_axis([names[own] for own in identities(group)])) for at, group, part in found]
    labels = list(dict.fromkeys(label for _, part in reversed(parts) for label in part.index))
    occurs = {label for _, part in parts for label in part.index[part["open_count"] > 0]}
    kept = [label for label in labels if label in occurs]
    table = pd.concat({at: part.reindex(kept).fillna(0.0) for at, part in parts}, names=["moment", by]).astype(
        {"open_count": "int64"}
    )
    return pipeline_over_time.result(
        table,
        last.context,
        n=len(last),
        n_not_judged=n_not_judged,
        currency=last.currency,
        arguments={"by": by, "period": None if window is None else window[2], "moments": len(parts)},
    )


def _snapshots(history: Snapshots) -> list[Any]:
    """Return the moments of the snapshots, thinned out from the newest backwards."""
    moments = list(history.snapshots()["observed_at"])
    if not moments:
        raise HistoryNeededError(f"the pipeline over time needs snapshots, and there are none yet. {HOW_TO_START}")
    step = -(-len(moments) // _MOST_MOMENTS)
    return moments[::-1][::step][::-1]
