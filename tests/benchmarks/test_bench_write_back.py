"""Writing back: 1,000 changed rows of 100,000 at 100 ms an answer, and one cell behind 600 plans."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest
from measuring import say, seconds

import opp_pandas as opp

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.nightly
def test_one_cell__costs_the_same_behind_600_plans(tmp_path: Path) -> None:
    """CPU time of client and service together within 20 % of that with an empty journal; the two take turns."""
    with opp.sandbox(opportunities=30, rate_limit=1_000_000) as box:
        df = opp.read_opportunities(box.client(), on_invalid="ignore", authorization_meta=True)
        row = df.index[df["can_write"].fillna(False)][0]
        values = itertools.cycle(range(100))

        def write(folder: str) -> None:
            df.loc[row, "probability"] = next(values)
            assert df.opp.write_back(journal=tmp_path / folder).counts() == {"written": 1}

        for _ in range(600):
            write("full")
        taken = seconds({"empty": lambda: write("empty"), "full": lambda: write("full")}, times=41)
    say(f"one cell: {taken['empty'] * 1e3:.1f} ms with a new journal, {taken['full'] * 1e3:.1f} ms behind 600 plans")
    assert taken["full"] < 1.2 * taken["empty"]
