"""Issue 5: 1,000 changed rows among 100,000 against a sandbox that answers in 100 ms."""

from __future__ import annotations

import time

import pytest

import opp_pandas as opp

LATENCY_S, WORKERS = 0.1, 4


@pytest.mark.nightly
def test_write_back__takes_the_announced_requests_and_little_more_than_their_time() -> None:
    """Requests as announced; time at most 1.5 times requests x latency / workers, client and service on two cores."""
    stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
    with opp.sandbox(opportunities=100_000) as box:
        df = opp.read_opportunities(box.client(), stages=stages, authorization_meta=True, on_invalid="ignore")
        mine = df.index[df["can_write"].fillna(False)][:1_000]
        df.loc[mine, "next_step"] = [f"Call {number}" for number in range(1_000)]
        announced = df.opp.write_back(dry_run=True).announced
        before = len(box.requests)
        box.switches.latency_s = LATENCY_S
        started = time.perf_counter()
        report = df.opp.write_back(confirm=1_000, workers=WORKERS)
        elapsed_s = time.perf_counter() - started
        assert report.counts() == {"written": 1_000}
        assert report.calls == len(box.requests) - before == announced
        assert announced == 1_100
        assert elapsed_s < 1.5 * announced * LATENCY_S / WORKERS
