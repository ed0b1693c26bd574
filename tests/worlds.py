"""Generated organisations whose truth is known, each with what breaks naive forecasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import opp_pandas as opp
from opp_pandas.forecasting.as_of_view import Known, Past, Snapshot, build_past

START = np.datetime64("2023-01-01")
FIRST = int(START.astype(int))
NEVER = 1 << 20
SEGMENTS = np.array(["small", "middle", "large"])
EUR_IN_USD = 1.1


def day_of(place: int) -> str:
    """Return the day so long after the beginning."""
    return str(START + np.timedelta64(place, "D"))


@dataclass(frozen=True)
class World:
    """How deals come, grow old and end, and what their sellers say of them.

    Parameters
    ----------
    days : int
        Length of the record; the evening of its last day is the present, up to a quarter later by the seed.
    per_day, growth : float
        Deals created a day, and their growth per year.
    never_closed : float
        Share of losers that nobody ever closes.
    careless_owners : float
        Share of owners who never close a loser.
    quarter_end : float
        Share of deals that wait for the last ten days of their quarter.
    drift : float
        Change of the win rate per year.
    big_win_less : bool
        Whether the odds of winning fall with the amount.
    recorded_from, new_segment_from : int
        Day from which closings are kept; on which a segment first appears.
    euros : float
        Share of deals in euros.
    optimism, noise : float
        What sellers add to the log-odds of every deal, and its spread.
    date_error : float
        Standard deviation of the close date first stated [days].
    slips : float
        By how much of its length a deal is first stated too early.
    brought_along : bool
        Whether the pipeline that ran before the record began is in it.
    has_history : bool
        Whether what sellers said was kept.
    holds : bool
        Whether what the models assume is true of it.
    """

    days: int = 800
    per_day: float = 1.2
    growth: float = 0.0
    never_closed: float = 0.0
    careless_owners: float = 0.0
    quarter_end: float = 0.0
    drift: float = 0.0
    big_win_less: bool = False
    recorded_from: int = 0
    new_segment_from: int = 0
    euros: float = 0.0
    optimism: float = 0.3
    noise: float = 0.5
    date_error: float = 25.0
    slips: float = 0.0
    brought_along: bool = True
    has_history: bool = True
    holds: bool = True


WORLDS = {
    "honest": World(optimism=0.0, noise=0.0, date_error=0.0),
    "optimists": World(optimism=1.2, noise=0.3, date_error=5.0),
    "slipping": World(noise=0.2, slips=0.6, date_error=10.0),
    "careless_owners": World(careless_owners=0.2),
    "zombies": World(never_closed=0.05),
    "quarter_ends": World(quarter_end=0.5),
    "drift": World(drift=-0.25, holds=False),
    "no_history": World(has_history=False),
    "big_win_less": World(big_win_less=True),
    "recorded_late": World(recorded_from=300),
    "growth": World(growth=0.6),
    "new_segment": World(new_segment_from=600, holds=False),
    "two_currencies": World(euros=0.5),
    "two_months": World(days=60, per_day=5.0, holds=False),
    "from_nothing": World(days=360, per_day=1.5, brought_along=False, has_history=False),
}


def _odds(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def generate(world: World, seed: int, ahead: int = 90) -> dict[str, Any]:
    """Return the deals of a world as days since its start, what is said of them, and the present day."""
    rng = np.random.default_rng(seed)
    today = world.days + (seed * 37) % 91
    # A pipeline that had been running before the record began; nobody sees what closed before.
    span = np.arange(-400, today + ahead)
    created = np.repeat(span, rng.poisson(world.per_day * (1 + world.growth) ** ((span - world.days) / 365)))
    n = len(created)
    segment, owner = rng.choice(3, n, p=[0.5, 0.3, 0.2]), rng.integers(0, 10, n)
    segment = np.where((segment == 2) & (created < world.new_segment_from), 0, segment)
    amount = np.round(np.exp(rng.normal(np.array([9.0, 9.6, 10.2])[segment], 0.6)), -2)
    p = np.array([0.35, 0.30, 0.25])[segment]
    if world.big_win_less:
        p = p * np.clip((np.array([8_000, 15_000, 27_000])[segment] / amount) ** 0.4, 0.3, 1.8)
    p = np.clip(p * (1 + world.drift * (created - world.days / 2) / 365), 0.02, 0.95)
    p = 1 / (1 + np.exp(-(_odds(p) + rng.normal(0, 0.8, n))))
    won = rng.random(n) < p
    cycle = np.maximum(3, rng.gamma(4.0, np.array([40, 70, 110])[segment] / 4.0)).astype(int)
    closed = created + cycle
    if world.quarter_end:
        months = (START + closed).astype("datetime64[M]").astype(int)
        ends = ((months // 3 + 1) * 3).astype("datetime64[M]").astype("datetime64[D]") - 1
        waits = rng.random(n) < world.quarter_end
        closed = np.where(waits, (ends - START).astype(int) - rng.integers(0, 10, n), closed)
        closed = np.maximum(closed, created + 1)
    first = closed - (world.slips * rng.uniform(0.4, 1.0, n) * cycle).astype(int)
    first = np.maximum(first + np.round(rng.normal(0, 1, n) * world.date_error).astype(int), created + 1)
    percent = 100 / (1 + np.exp(-(_odds(p) + world.optimism + rng.normal(0, 1, n) * world.noise)))
    due = closed
    kept_open = (rng.random(n) < world.never_closed) | (owner < 10 * world.careless_owners)
    closed = np.where(~won & kept_open, NEVER, closed)
    seen = (closed >= world.recorded_from) & (created < today + ahead)
    if not world.brought_along:
        seen &= created >= 0
    if world.days <= 60:
        # Of what was there before, the open deals were brought along.
        seen &= (created >= 0) | (closed >= 0)
        seen &= (created >= -200) | (closed < NEVER)
    kept = {
        "created": created, "closed": closed, "won": won, "amount": amount, "segment": segment, "owner": owner,
        "first": first, "percent": np.round(percent), "euros": rng.random(n) < world.euros,
        "p": p, "due": due,
    }  # fmt: skip
    kept = {name: values[seen] for name, values in kept.items()}
    return kept | {"today": today, "stated_from": world.recorded_from if world.has_history else NEVER}


def stated_close(first: np.ndarray, day: int) -> np.ndarray:
    """Return the close dates that stand on a day: once one is past, it is put off by a month."""
    return first + 30 * np.maximum(-((first - day) // 30), 0)


def in_dollars(deals: dict[str, Any]) -> np.ndarray:
    """Return the amounts in the organisation's currency."""
    return np.where(deals["euros"], deals["amount"] * EUR_IN_USD, deals["amount"])


def past_of(deals: dict[str, Any]) -> Past:
    """Return what is known of a world's deals on its present day, without a frame around it."""
    seen = deals["created"] <= deals["today"]
    part = {name: values[seen] for name, values in deals.items() if isinstance(values, np.ndarray)}
    owners = np.array([f"owner {k}" for k in range(10)], dtype=object)

    def stated(past: Past, days: Any) -> dict[int, Snapshot]:
        kept = [day for day in days if day >= FIRST + deals["stated_from"]]
        return {day: snapshot_of(part, past.known(day)) for day in kept}

    return build_past(
        FIRST + deals["today"],
        FIRST + part["created"],
        FIRST + part["closed"],
        part["won"],
        in_dollars(part),
        {"owner_name": owners[part["owner"]], "segment": SEGMENTS.astype(object)[part["segment"]]},
        stated=stated if deals["stated_from"] < NEVER else None,
    )


def snapshot_of(deals: dict[str, Any], known: Known) -> Snapshot:
    """Return what was said of the deals that were open on an evening."""
    rows = known.past.rows[known.open]
    close = FIRST + stated_close(deals["first"][rows], known.day - FIRST)
    return Snapshot(
        deals["percent"][rows] / 100,
        close,
        in_dollars(deals)[rows],
        np.zeros(len(rows), dtype=np.intp),
        known.ages * 1.0,
    )


def frame_of(deals: dict[str, Any], **changes: Any) -> pd.DataFrame:
    """Return a world's deals as they are known on its present day, adopted."""
    today = deals["today"]
    rows = deals["created"] <= today
    created, closed, won = (deals[name][rows] for name in ("created", "closed", "won"))
    over = closed <= today
    close = np.where(over, np.minimum(closed, today), stated_close(deals["first"][rows], today))
    frame = pd.DataFrame(
        {
            "key": [f"D{place}" for place in np.flatnonzero(rows)],
            "created_at": (START + created).astype(str),
            "close_date": (START + close).astype(str),
            "stage_name": np.where(over, np.where(won, "Won", "Lost"), "Open"),
            "probability": np.where(over, np.where(won, 100, 0), deals["percent"][rows]),
            "amount": deals["amount"][rows],
            "currency_type": np.where(deals["euros"][rows], "EUR", "USD"),
            "owner_name": [f"owner {k}" for k in deals["owner"][rows]],
            "segment": SEGMENTS[deals["segment"][rows]],
            **changes,
        }
    )
    return opp.adopt(
        frame,
        {"key": "custom_id", "created_at": "external_created_at"},
        stages=opp.StageMap(order=["Open"], won=["Won"], lost=["Lost"]),
        as_of=day_of(today),
        currency="USD",
        rates={"EUR": EUR_IN_USD},
        timezone="UTC",
        on_invalid="ignore",
    )


def came(deals: dict[str, Any], horizon: int, *, new_deals: bool) -> float:
    """Return what was won in the days after the present."""
    today = deals["today"]
    inside = deals["won"] & (deals["closed"] > today) & (deals["closed"] <= today + horizon)
    if not new_deals:
        inside &= deals["created"] <= today
    return float(in_dollars(deals)[inside].sum())


def _due(deals: dict[str, Any], horizon: int, *, new_deals: bool) -> np.ndarray:
    today = deals["today"]
    inside = (deals["due"] > today) & (deals["due"] <= today + horizon)
    return inside if new_deals else inside & (deals["created"] <= today)


def expected(deals: dict[str, Any], horizon: int, *, new_deals: bool) -> float:
    """Return what somebody who knows every deal's chance and day would expect of the same days."""
    return float((in_dollars(deals) * deals["p"])[_due(deals, horizon, new_deals=new_deals)].sum())


def came_again(deals: dict[str, Any], horizon: int, *, new_deals: bool, times: int) -> np.ndarray:
    """Return what would have come, were every deal's coin thrown again: the same deals on the same days, other luck."""
    rows = _due(deals, horizon, new_deals=new_deals)
    won = np.random.default_rng(deals["today"]).random((times, rows.sum())) < deals["p"][rows]
    return np.asarray(won @ in_dollars(deals)[rows])


def weighted(deals: dict[str, Any], horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Return amounts and stated chances of the open deals that are dated within the days to come."""
    today = deals["today"]
    close = stated_close(deals["first"], today)
    rows = (deals["created"] <= today) & (deals["closed"] > today) & (close > today) & (close <= today + horizon)
    return in_dollars(deals)[rows], deals["percent"][rows] / 100
