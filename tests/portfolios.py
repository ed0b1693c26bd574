"""Small portfolios of opportunities for the tests of figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from opp_pandas.figures import FigureContext
from opp_pandas.figures.core.money import MoneySpec
from opp_pandas.resource import COLUMN_DTYPES
from opp_pandas.stages import StageMap, StageTable, resolve_stages

if TYPE_CHECKING:
    from collections.abc import Mapping

AS_OF = pd.Timestamp("2026-06-15T12:00:00Z")
LOOKUP = pd.DataFrame(
    {
        "id": [1, 2, 3, 4, 5],
        "name": ["Lead", "Offer", "Won", "Lost", "Parked"],
        "order": [1, 2, 3, 4, 5],
        "is_closed": [False, False, True, True, True],
    }
)
STAGE_MAP = StageMap(won=["Won"], lost=["Lost", "Parked"], probability={"Lead": 20, "Offer": 60})
STAGES: StageTable = resolve_stages(STAGE_MAP, LOOKUP)
LEAD, OFFER, WON, LOST = 1, 2, 3, 4
USERS = pd.DataFrame({"id": [7, 8, 9], "name": ["Sam Lee", "Ada Byron", "Sam Lee"]})


def context(
    *,
    as_of: Any = AS_OF,
    timezone: str | None = "UTC",
    stages: StageTable = STAGES,
    users: pd.DataFrame | None = USERS,
    currency: str | None = "USD",
) -> FigureContext:
    """What the figures of a test stand on."""
    lookups = {} if users is None else {"user": users}
    return FigureContext(stages, pd.Timestamp(as_of), timezone, lookups, money=MoneySpec(currency=currency))


def portfolio(rows: list[Mapping[str, Any]]) -> pd.DataFrame:
    """A frame of these deals; what a row leaves out is missing, and every named column has its dtype."""
    names = dict.fromkeys(["id", "amount", "probability", "close_date", "stage_id"])
    for row in rows:
        names |= dict.fromkeys(row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name == "id" and not any(value is not None for value in values):
            values = list(range(1, len(rows) + 1))
        dtype = COLUMN_DTYPES.get(name, "object")
        if dtype.startswith("datetime"):
            columns[name] = pd.Series(pd.to_datetime(values, utc=True, format="ISO8601")).astype(dtype)
        elif name == "amount" and any(isinstance(value, float) for value in values):
            columns[name] = pd.Series(values, dtype="Float64")
        else:
            columns[name] = pd.Series(values, dtype=dtype)
    return pd.DataFrame(columns)


def random_portfolio(seed: int, n: int = 400, *, odd: bool = True) -> pd.DataFrame:
    """Deals of every kind around AS_OF: with `odd`, also what is missing, trashed, omitted or out of range."""
    rng = np.random.default_rng(seed)

    def instants(start: str, days: int) -> pd.Series:
        hours = rng.integers(0, days * 24, n)
        return pd.Series(pd.Timestamp(start, tz="UTC") + pd.to_timedelta(hours, unit="h")).astype("datetime64[us, UTC]")

    frame = pd.DataFrame(
        {
            "id": pd.array(np.arange(1, n + 1), dtype="Int64"),
            "amount": pd.array(rng.integers(1, 200_000, n), dtype="Int64"),
            "probability": pd.array(rng.integers(0, 101, n), dtype="Int64"),
            "close_date": instants("2025-10-01", 500),
            "created_at": instants("2025-01-01", 300),
            "stage_id": pd.array(rng.choice([LEAD, OFFER, WON, LOST], n), dtype="Int64"),
            "owner_id": pd.array(rng.choice([7, 8, 9, 10], n), dtype="Int64"),
            "owner_name": pd.Series(["stale"] * n, dtype="str"),
            "account_id": pd.array(rng.integers(100, 130, n), dtype="Int64"),
            "account_name": pd.Series([f"Account {key}" for key in rng.integers(0, 30, n)], dtype="str"),
            "next_step": pd.Series(["call", None] * (n // 2) + ["call"] * (n % 2), dtype="str"),
            "forecast_category": pd.Series(rng.choice(["Commit", "Best Case", "Pipeline"], n), dtype="str"),
            "trashed_at": pd.Series([pd.NaT] * n, dtype="datetime64[us, UTC]"),
        }
    )
    if odd:
        pick = rng.permutation(n)
        frame.loc[pick[:9], "amount"] = pd.NA
        frame.loc[pick[5:15], "probability"] = pd.NA
        frame.loc[pick[15:18], "probability"] = 101
        frame.loc[pick[20:28], "close_date"] = pd.NaT
        frame.loc[pick[28:34], "owner_id"] = pd.NA
        frame.loc[pick[28:34], "owner_name"] = None
        frame.loc[pick[34:38], "stage_id"] = pd.NA
        frame.loc[pick[38:50], "trashed_at"] = AS_OF
        frame.loc[pick[50:70], "forecast_category"] = "Omitted"
    return frame


days = st.integers(0, 900).map(
    lambda day: str((pd.Timestamp("2025-01-01") + pd.Timedelta(days=day)).date()) + "T12:00Z"
)
deals = st.fixed_dictionaries(
    {
        "amount": st.none() | st.integers(0, 1_000_000),
        "probability": st.none() | st.integers(0, 100),
        "close_date": st.none() | days,
        "stage_id": st.none() | st.sampled_from([LEAD, OFFER, WON, LOST]),
        "owner_id": st.none() | st.sampled_from([7, 8, 9, 10]),
        "forecast_category": st.sampled_from([None, "Commit", "Omitted", "our own word"]),
        "trashed_at": st.sampled_from([None, None, None, "2026-01-01T00:00Z"]),
    }
)
portfolios = st.lists(deals, min_size=0, max_size=25).map(
    lambda rows: portfolio(rows or [{"owner_id": None, "forecast_category": None, "trashed_at": None}]).iloc[
        : len(rows)
    ]
)
