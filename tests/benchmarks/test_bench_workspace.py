"""The workspace over many deals, its Python side: opening, filters, edits and what they move."""

from __future__ import annotations

import os
import platform
import statistics
import time
from typing import TYPE_CHECKING

import pytest
from measuring import say

import opp_pandas as opp

if TYPE_CHECKING:
    from collections.abc import Callable

ASKED = {"open": 1.5, "filter": 0.5, "edit": 0.15, "redraw": 0.5}
"""Seconds that people do not wait for longer, at 10,000 deals; reported beside what was measured."""


@pytest.mark.nightly
@pytest.mark.parametrize("rows", [10_000, 100_000])
def test_workspace__follows_what_people_do(rows: int) -> None:
    """Medians of seven; an edit is acknowledged in a small part of the time that a forecast of the deals takes."""
    with opp.sandbox(opportunities=rows, now="2026-10-20T15:00:00Z") as box, box.client(page_size=1_000) as client:
        stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
        df = opp.read_opportunities(client, stages=stages, on_invalid="ignore", progress=False)
        # Of two owners with one name each is listed with an id.
        people = df.groupby("owner_name")["owner_id"].nunique()
        owners = people.index[people == 1].tolist()
        space = opp.of(df).workspace(quota=10_000 * rows)
        amounts = iter(range(1_000, 2_000))

        def handle(**message: object) -> None:
            answer = space._desk.handle(message)
            assert not {"error", "objections"} & answer.keys(), answer

        calls: dict[str, Callable[[int], object]] = {
            "open": lambda _: opp.of(df).workspace(quota=10_000 * rows),
            "filter": lambda turn: handle(
                do="look", owners=[owners[turn % len(owners)]], stages=[], period="", since=""
            ),
            "edit": lambda turn: handle(
                do="edit", cells=[{"row": turn, "column": "amount", "text": str(next(amounts))}]
            ),
            "redraw": lambda _: handle(do="figures"),
            "forecast": lambda _: opp.of(df).forecast(freq="Q"),
        }
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(7):
            for name, call in calls.items():
                start = time.perf_counter()
                call(turn)
                taken[name].append(time.perf_counter() - start)
    found = {name: statistics.median(times) for name, times in taken.items()}
    words = ", ".join(
        f"{name} {s:.3f} s" + (f" (asked {ASKED[name]})" if name in ASKED else "") for name, s in found.items()
    )
    say(f"workspace, {rows:,} deals, {os.cpu_count()} cores, {platform.machine()}: {words}")
    assert found["edit"] <= 2 * found["forecast"]
