"""Quota beside the figures: attainment, gap, coverage and what is still needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from opp_pandas.analytics.groups import Group, combine
from opp_pandas.errors import ConfigurationError, MissingColumnError, named

if TYPE_CHECKING:
    from opp_pandas.analytics.days import Codes, Floats, Integers
    from opp_pandas.analytics.periods import Periods

Quota: TypeAlias = float | Mapping[Any, float] | pd.DataFrame
"""A number per row of the figure, group (or period) -> number, or a frame ``period, group, quota``."""

DEFINITIONS = {
    "quota": "what was to be won",
    "attainment": "won_amount / quota",
    "gap": "quota - won_amount, at least 0",
    "gap_to_forecast": "quota - forecast_amount",
    "coverage": "open_amount / (quota - won by as_of), to-go; inf once the quota is reached",
}


@dataclass(frozen=True, eq=False)
class QuotaTable:
    """Quotas settled to periods and groups.

    Parameters
    ----------
    everywhere : float or None
        One number for every row.
    ordinals, groups : ndarray
        Period number (None: every period) and group code of each entry.
    values : ndarray
        The quota of each entry.
    """

    everywhere: float | None
    ordinals: Integers | None
    groups: Codes
    values: Floats


def read_quota(quota: Quota, periods: Periods, groups: Sequence[Group]) -> QuotaTable:
    """Settle a quota as a user gives it.

    Parameters
    ----------
    quota : number, mapping or DataFrame
        A number counts for every row. A mapping goes from group (a label, an
        id, a tuple where there are several groupings) to number, for every
        period; without groups, from period to number. A frame has ``period``,
        ``quota`` and a column for each grouping (or one called ``group``).
    periods : Periods
        How days are cut.
    groups : sequence of Group
        The groupings of the figure.

    Returns
    -------
    QuotaTable

    Raises
    ------
    ConfigurationError
        If a key fits no group, a period is none, or a quota is no positive number.
    MissingColumnError
        If a frame lacks one of its columns.
    """
    nothing = np.empty(0, dtype=np.intp)
    if isinstance(quota, pd.DataFrame):
        return _from_frame(quota, periods, groups)
    if isinstance(quota, Mapping):
        values = np.array([_number(value, key) for key, value in quota.items()])
        if not groups:
            ordinals = np.array([periods.parse(key) for key in quota], dtype=np.int64)
            return QuotaTable(None, ordinals, np.zeros(len(values), dtype=np.intp), values)
        return QuotaTable(None, None, _codes(list(quota), groups), values)
    return QuotaTable(_number(quota, "quota"), None, nothing, np.empty(0))


def _from_frame(quota: pd.DataFrame, periods: Periods, groups: Sequence[Group]) -> QuotaTable:
    columns = ["group"] if len(groups) == 1 and "group" in quota.columns else [group.name for group in groups]
    missing = [name for name in ("period", *columns, "quota") if name not in quota.columns]
    if missing:
        raise MissingColumnError(missing, list(quota.columns), "A quota frame has period, quota and each grouping.")
    rows = quota[["period", *columns, "quota"]]
    keys = (
        [tuple(key) if len(columns) > 1 else key[0] for key in rows[columns].itertuples(index=False)] if columns else []
    )
    ordinals = np.array([periods.parse(label) for label in rows["period"]], dtype=np.int64)
    values = np.array([_number(value, place) for place, value in rows["quota"].items()])
    codes = _codes(keys, groups) if columns else np.zeros(len(values), dtype=np.intp)
    doubled = pd.MultiIndex.from_arrays([ordinals, codes]).duplicated()
    if doubled.any():
        raise ConfigurationError(
            f"the quota frame states one period and group twice, in rows {named(rows.index[doubled])}"
        )
    return QuotaTable(None, ordinals, codes, values)


def _number(value: Any, key: Any) -> float:
    if isinstance(value, bool | str) or not np.isscalar(value) or not np.isfinite(float(value)) or float(value) < 0:  # type: ignore[arg-type]
        raise ConfigurationError(f"the quota of {key!r} must be a number of 0 or more, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def _codes(keys: Sequence[Any], groups: Sequence[Group]) -> Codes:
    found = []
    for key in keys:
        parts = key if isinstance(key, tuple) and len(groups) > 1 else (key,)
        if len(parts) != len(groups):
            names = ", ".join(group.name for group in groups)
            raise ConfigurationError(f"quota key {key!r} must name a group of each of ({names})")
        found.append([group.find(part) for group, part in zip(groups, parts, strict=True)])
    places = np.array(found, dtype=np.intp).reshape(len(keys), len(groups))
    picked = [Group(group.name, places[:, i], group.labels, group.keys) for i, group in enumerate(groups)]
    return combine(picked, len(keys))[0]


def quota_columns(
    quota: Floats, open_amount: Floats, won_amount: Floats, won_by_now: Floats, forecast_amount: Floats | None = None
) -> dict[str, Floats]:
    """Compare sums with quotas; NaN where there is no quota, or a quota of 0 to divide by."""
    left = quota - won_by_now
    # To a reached quota (Q <= B) nothing is left to cover.
    coverage = np.where(left > 0, np.divide(open_amount, left, out=np.full(len(left), np.inf), where=left > 0), np.inf)
    columns = {
        "quota": quota,
        "attainment": np.divide(won_amount, quota, out=np.full(len(quota), np.nan), where=quota > 0),
        "gap": np.where(np.isnan(quota), np.nan, np.maximum(quota - won_amount, 0.0)),
        "gap_to_forecast": np.full(len(quota), np.nan) if forecast_amount is None else quota - forecast_amount,
        "coverage": np.where(np.isnan(quota), np.nan, coverage),
    }
    if forecast_amount is None:
        del columns["gap_to_forecast"]
    return columns
