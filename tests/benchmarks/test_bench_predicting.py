"""Predictions of many deals: CPU time of `predict`, `compare` and of exact distributions."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from measuring import say

from opp_pandas.forecasting import Bookings
from worlds import World, frame_of, generate

if TYPE_CHECKING:
    from collections.abc import Callable


def cpu(call: Callable[[], object]) -> float:
    """Return the CPU time of a call, the better of two [s]."""
    taken = []
    for _ in range(2):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


@pytest.mark.nightly
@pytest.mark.parametrize(("per_day", "least", "asked"), [(5.8, 5_000, 5.0), (114.0, 100_000, 60.0)])
def test_predict__takes_seconds(per_day: float, least: int, asked: float) -> None:
    """Forty past windows of 5,000 deals within 5 s of CPU, of 100,000 within 60; `compare` within thrice that."""
    frame = frame_of(generate(World(days=800, per_day=per_day), 1))
    assert len(frame) >= least
    found = frame.opp.predict(horizon_days=30)
    assert found.record["windows"].iloc[0] == 40

    def forecast() -> object:
        coming = frame.opp.predict(horizon_days=30)
        return coming.interval(0.8)

    one = cpu(forecast)
    all_methods = cpu(lambda: frame.opp.compare(horizon_days=30))
    words = f"{one:.2f} s of CPU (asked {asked:g}), compare {all_methods:.2f} s"
    say(f"predict {len(frame):,} deals, 40 past windows: {words}")
    assert one <= asked
    assert all_methods <= 3 * max(one, 0.2)


@pytest.mark.nightly
@pytest.mark.parametrize("rho", [0.0, 0.05, 0.1, 0.3, 0.6, 0.9])
def test_distribution__of_thousands_of_deals_takes_half_a_second(rho: float) -> None:
    """The distribution of 5,000 deals, independent or correlated."""
    rng = np.random.default_rng(0)
    deals = Bookings(np.round(np.exp(rng.normal(9, 1, 5_000)), 2), rng.uniform(0.02, 0.9, 5_000), rho=rho)
    taken = cpu(lambda: replace(deals).quantile(0.1))
    say(f"distribution of 5,000 deals, correlation {rho:g}: {taken:.2f} s of CPU (asked 0.5)")
    assert taken <= 0.5
