"""Generated organisations whose truth is known, each with what breaks naive forecasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import opp_pandas as opp

START = np.datetime64("2023-01-01")


@dataclass(frozen=True)
class World:
    """How deals come, grow old and end.

    Parameters
    ----------
    days : int
        Length of the record; the evening of the last day is the present.
    per_day : float
        Deals created a day, growing by `growth` a year.
    zombies : float
        Share of losers that nobody ever closes.
    quarter_end : float
        Share of deals that wait for the last ten days of their quarter.
    drift : float
        Change of the win rate per year.
    big_win_less : bool
        Whether the odds of winning fall with the amount.
    recorded_from : int
        Day of the record from which closings are kept.
    new_segment_from : int
        Day on which a segment first appears.
    """

    days: int = 800
    per_day: float = 2.0
    growth: float = 0.0
    zombies: float = 0.0
    quarter_end: float = 0.0
    drift: float = 0.0
    big_win_less: bool = False
    recorded_from: int = 0
    new_segment_from: int = 0


WORLDS = {
    "steady": World(),
    "zombies": World(zombies=0.6),
    "quarter_ends": World(quarter_end=0.35),
    "drift": World(drift=-0.25),
    "big_win_less": World(big_win_less=True),
    "recorded_late": World(recorded_from=300),
    "growth": World(growth=0.6),
    "new_segment": World(new_segment_from=500),
    "two_months": World(days=60, per_day=6.0),
}


def generate(world: World, seed: int, ahead: int = 90) -> dict[str, Any]:
    """Return the deals of a world as days since its start, and the present day."""
    rng = np.random.default_rng(seed)
    # A pipeline that had been running before the record began; nobody sees what closed before.
    span = np.arange(-400, world.days + ahead)
    rate = world.per_day * (1 + world.growth) ** (span / 365)
    created = np.repeat(span, rng.poisson(rate))
    n = len(created)
    segment = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    segment = np.where((segment == 2) & (created < world.new_segment_from), 0, segment)
    amount = np.round(np.exp(rng.normal(np.array([9.0, 10.0, 11.0])[segment], 0.6)), -2)
    p = np.array([0.35, 0.30, 0.25])[segment]
    if world.big_win_less:
        p = p * np.clip((np.array([8_000, 22_000, 60_000])[segment] / amount) ** 0.4, 0.3, 1.8)
    p = np.clip(p * (1 + world.drift * (created - world.days / 2) / 365), 0.02, 0.95)
    won = rng.random(n) < p
    cycle = np.maximum(3, rng.gamma(4.0, np.array([40, 70, 110])[segment] / 4.0)).astype(int)
    closed = created + cycle
    if world.quarter_end:
        dates = START + closed
        months = dates.astype("datetime64[M]").astype(int)
        ends = ((months // 3 + 1) * 3).astype("datetime64[M]").astype("datetime64[D]") - 1
        waits = rng.random(n) < world.quarter_end
        closed = np.where(waits, (ends - START).astype(int) - rng.integers(0, 10, n), closed)
        closed = np.maximum(closed, created + 1)
    never = ~won & (rng.random(n) < world.zombies)
    closed = np.where(never, 1 << 20, closed)
    seen = (closed >= world.recorded_from) & (created < world.days + ahead)
    if world.days <= 60:
        seen &= (created >= 0) | (closed >= 0)
    kept = {"created": created, "closed": closed, "won": won, "amount": amount, "segment": segment}
    return {name: values[seen] for name, values in kept.items()} | {"today": world.days}


def frame_of(deals: dict[str, Any], **changes: Any) -> pd.DataFrame:
    """Return a world's deals as they are known on its present day, adopted."""
    today = deals["today"]
    rows = deals["created"] <= today
    created, closed, won = (deals[name][rows] for name in ("created", "closed", "won"))
    over = closed <= today
    frame = pd.DataFrame(
        {
            "key": [f"D{place}" for place in np.flatnonzero(rows)],
            "created_at": (START + created).astype(str),
            "close_date": np.where(over, (START + np.minimum(closed, today)).astype(str), None),
            "stage_name": np.where(over, np.where(won, "Won", "Lost"), "Open"),
            "amount": deals["amount"][rows],
            "segment": np.array(["small", "middle", "large"])[deals["segment"][rows]],
            **changes,
        }
    )
    return opp.adopt(
        frame,
        {"key": "custom_id", "created_at": "external_created_at"},
        stages=opp.StageMap(order=["Open"], won=["Won"], lost=["Lost"]),
        as_of=str(START + today),
        currency="USD",
        timezone="UTC",
        on_invalid="ignore",
    )


def came(deals: dict[str, Any], horizon: int, *, new_deals: bool) -> float:
    """Return what was won in the days after the present."""
    today = deals["today"]
    inside = deals["won"] & (deals["closed"] > today) & (deals["closed"] <= today + horizon)
    if not new_deals:
        inside &= deals["created"] <= today
    return float(deals["amount"][inside].sum())
