"""A year of nightly snapshots: how large the table gets, and how fast any night comes back."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from conftest import NOW, STAGES
from histories import load_of
from opp_pandas.frame_state import loaded_of
from opp_pandas.history import History

if TYPE_CHECKING:
    from pathlib import Path

DEALS = int(os.environ.get("OPP_PANDAS_BENCH_DEALS", "100_000"))
NIGHTS = int(os.environ.get("OPP_PANDAS_BENCH_NIGHTS", "365"))
PATTERN = 2_000


def organisation() -> tuple[pd.DataFrame, dict[str, object]]:
    """Deals as the sandbox has them, many times over, and what travels with them."""
    with opp.sandbox(opportunities=PATTERN, now=NOW) as box:
        df = opp.read_opportunities(box.client(), stages=STAGES)
    loaded = loaded_of(df)
    assert loaded is not None
    random = np.random.default_rng(0)
    many = pd.concat([df] * -(-DEALS // PATTERN), ignore_index=True).iloc[:DEALS]
    many = many.assign(
        id=pd.array(np.arange(1, DEALS + 1), dtype="Int64"),
        name=many["name"] + pd.Series(np.arange(DEALS).astype(str)),
        amount=pd.array(random.integers(1_000, 200_000, DEALS), dtype="Int64"),
        updated_at=many["updated_at"] - pd.to_timedelta(random.integers(0, 86_400, DEALS), unit="s"),
    )
    return many.drop(columns="amount_precise"), {"stages": loaded.stages, "lookups": loaded.lookups}


def one_night(frame: pd.DataFrame, at: pd.Timestamp, random: np.random.Generator) -> pd.DataFrame:
    """One deal in a hundred changes: amount, probability, close date, next step, sometimes stage."""
    rows = random.choice(len(frame), len(frame) // 100, replace=False)
    edited = frame.copy()
    places = frame.columns.get_indexer(["amount", "probability", "close_date", "next_step", "updated_at", "touched_at"])
    edited.iloc[rows, places[0]] = pd.array(random.integers(1_000, 200_000, len(rows)), dtype="Int64")
    edited.iloc[rows, places[1]] = pd.array(random.integers(0, 100, len(rows)), dtype="Int64")
    edited.iloc[rows, places[2]] = at + pd.to_timedelta(random.integers(1, 200, len(rows)), unit="D")
    edited.iloc[rows, places[3]] = f"call on {at:%d %B}"
    edited.iloc[rows, places[4]] = at
    edited.iloc[rows, places[5]] = at
    return edited


def size_of(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())


@pytest.mark.nightly
def test_year__is_as_large_as_its_changes(tmp_path: Path) -> None:
    """365 nights of 100,000 deals with 1 % changing take little more than one copy; any night comes back fast."""
    random = np.random.default_rng(1)
    frame, more = organisation()
    folder = tmp_path / "history"
    history = History(folder)
    start = pd.Timestamp("2026-01-01T02:00", tz="UTC")
    copies: dict[int, pd.DataFrame] = {}
    sizes, record_s, record_cpu = [], [], []
    for night in range(NIGHTS):
        at = start + pd.Timedelta(days=night)
        frame = one_night(frame, at, random) if night else frame
        load = load_of(frame, at, **more)  # type: ignore[arg-type]
        began, used = time.perf_counter(), time.process_time()
        history.record(load, observed_at=at)
        record_s.append(time.perf_counter() - began)
        record_cpu.append(time.process_time() - used)
        sizes.append(size_of(folder))
        if night in (0, NIGHTS // 2, NIGHTS - 1):
            copies[night] = frame
    timings: dict[tuple[str, object], float] = {}
    cpu: dict[tuple[str, int], float] = {}
    for words in ("as recorded", "compacted"):
        for night, copy in copies.items():
            began, used = time.perf_counter(), time.process_time()
            back = history.as_of(start + pd.Timedelta(days=night))
            timings[words, night] = time.perf_counter() - began
            cpu[words, night] = time.process_time() - used
            pd.testing.assert_frame_equal(back, copy.reset_index(drop=True), check_flags=False)
        began = time.perf_counter()
        history.as_of(start + pd.Timedelta(days=NIGHTS - 1), columns=["amount", "close_date", "stage_id"])
        timings[words, "three columns"] = time.perf_counter() - began
        began = time.perf_counter()
        history.compact()
        timings[words, "compact"] = time.perf_counter() - began
    history.vacuum(older_than_days=0)
    print(
        f"\n{DEALS:,} deals, {NIGHTS} nights: first snapshot {sizes[0] / 1e6:.1f} MB, all {sizes[-1] / 1e6:.1f} MB, "
        f"compacted {size_of(folder) / 1e6:.1f} MB; record first {record_s[0]:.1f} s, last {record_s[-1]:.1f} s"
    )
    for (words, night), seconds in timings.items():
        print(f"  {words}, {night}: {seconds:.2f} s")
    print("  processor seconds of as_of:", {f"{words} {night}": round(used, 2) for (words, night), used in cpu.items()})
    assert sizes[-1] < 6 * sizes[0]
    # Processor time of all threads: the wall clock of a shared machine says little.
    assert min(cpu["compacted", night] for night in copies) < 4.0 * max(DEALS / 100_000, 0.25)
    # Once a cell of tags cost a list as long as the load: 9 s instead of 1.5 s.
    assert np.median(record_cpu[1:10]) < 4.0 * max(DEALS / 100_000, 0.25)


@pytest.mark.nightly
def test_second_load__goes_on_from_the_history(tmp_path: Path) -> None:
    """After a hundred edits and three deletions, a load from the history is a whole load at a fraction of the price."""
    history = History(tmp_path / "history")
    with opp.sandbox(opportunities=DEALS, now=NOW) as box, box.client(page_size=1000) as client:
        figures: dict[str, tuple[float, int]] = {}

        def load(words: str, **asked: object) -> pd.DataFrame:
            began = time.perf_counter()
            df = opp.read_opportunities(client, stages=STAGES, on_invalid="ignore", progress=False, **asked)  # type: ignore[arg-type]
            figures[words] = time.perf_counter() - began, df.opp.load_report.requests
            return df

        first = load("first load")
        began = time.perf_counter()
        history.record(first)
        figures["record"] = time.perf_counter() - began, 0
        editable = load("permissions", fields=["name"], authorization_meta=True, limit=2_000)
        ids = editable.loc[editable["can_write"] & editable["can_delete"], "id"].tolist()
        for key in ids[:100]:
            client.update(key, {"amount": 4_321})
        edited = load("second load", history=history)
        for key in ids[100:103]:
            client.delete(key)
        shorter = load("second load, deals deleted", history=history)
        whole = load("whole load")
        pd.testing.assert_frame_equal(shorter, whole, check_flags=False)
        assert len(edited) == len(whole) + 3
    for words, (seconds, requests) in figures.items():
        print(f"\n{DEALS:,} deals, {words}: {seconds:.2f} s, {requests} requests", end="")
    assert figures["second load"][1] <= 6
    assert figures["second load"][0] < figures["whole load"][0] or DEALS < 50_000
