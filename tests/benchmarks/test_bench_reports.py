"""A report and an export of 100,000 deals: how long, and how large.

Run with ``pytest -m nightly -n0 -s tests/benchmarks/test_bench_reports.py``: CPU
seconds of this process and its size; the limits are those that were promised.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from measuring import say

from opp_pandas import exporting, reporting
from portfolios import context, random_portfolio

pytestmark = pytest.mark.nightly
N = 100_000
SECONDS, BYTES = 15.0, 5_000_000


@pytest.fixture(scope="module")
def deals() -> pd.DataFrame:
    """A hundred thousand deals of fifty owners, with names and next steps."""
    frame = random_portfolio(0, N)
    rng = np.random.default_rng(1)
    return frame.assign(
        name=pd.Series([f"Deal {key} of a customer with a long name" for key in frame["id"]], dtype="str"),
        owner_id=pd.array(rng.integers(1, 51, N), dtype="Int64"),
        touched_at=frame["created_at"] + pd.to_timedelta(rng.integers(0, 200, N), unit="D"),
    )


@pytest.mark.parametrize("suffix", [".html", ".xlsx", ".pdf", ".png"])
def test_report__of_a_hundred_thousand_deals(deals: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    """Every form takes under 15 seconds on two cores and under 5 MB."""
    warm = reporting.write_report(deals.head(200), tmp_path / f"warm{suffix}", context=context(), by="owner_name")
    assert warm.exists()
    start = time.process_time()
    path = reporting.write_report(
        deals, tmp_path / f"report{suffix}", context=context(), quota=1e9, by="owner_name", sections=_EVERYTHING
    )
    taken, size = time.process_time() - start, path.stat().st_size
    say(f"report of {N:,} deals as {suffix}: {taken:.1f} s, {size / 1e6:.2f} MB")
    assert taken < SECONDS
    assert size < BYTES


_EVERYTHING = [name for name in reporting.SECTIONS if name != "waterfall"]


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_export__of_a_hundred_thousand_deals(deals: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    """Writing and reading back are in proportion: measured, with a wide limit."""
    write = exporting.to_csv if suffix == ".csv" else exporting.to_excel
    start = time.process_time()
    path = write(deals, tmp_path / f"deals{suffix}")
    written = time.process_time()
    again = exporting.read_export(path)
    read = time.process_time()
    say(f"{N:,} deals as {suffix}: written in {written - start:.1f} s, read in {read - written:.1f} s")
    pd.testing.assert_frame_equal(again, deals, check_index_type=False)
    assert read - start < 180
