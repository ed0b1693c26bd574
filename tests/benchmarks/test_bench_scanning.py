"""More rows than memory: `pytest -m nightly -n0 -s tests/benchmarks/test_bench_scanning.py` shows what it takes.

Forecasts of 1 to 50 million deals in files on the cores of one machine, beside
DuckDB's own SQL; the same in row groups of five million rows; and loads into
files, of plain records and of the sandbox's, in short pages and in long ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measuring import say

MILLION = 1_000_000
SIZES = (1, 5, 20, 50)
"""Millions of rows."""
_MOST_CPU_S, _MOST_MB, _MOST_LOAD_MB = 40, 800, 400

OURS = """
import json, resource, sys, time
import pandas as pd
import opp_pandas as opp
from opp_pandas.stages import resolve_stages
names = ["Lead", "Meet", "Propose", "Negotiate", "Commit", "Closed Won", "Closed Lost", "Parked"]
lookup = pd.DataFrame({"id": range(1, 9), "name": names, "order": range(1, 9), "is_closed": [False] * 5 + [True] * 3})
stages = resolve_stages(opp.StageMap(won=["Closed Won"], lost=["Closed Lost", "Parked"]), lookup)
given = {"as_of": "2026-10-01", "timezone": "UTC", "stages": stages, "progress": False}
scan = opp.scan(sys.argv[1:], **given)
start = time.process_time()
found = scan.forecast(freq="M", by=["owner_id", "category"])
print(json.dumps({
    "cpu_s": time.process_time() - start,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "groups": len(found),
    "open_count": int(found["open_count"].sum()),
    "won_amount": int(found["won_amount"].sum()),
    "weighted_amount": float(found["weighted_amount"].sum()),
}))
"""
THEIRS = """
import json, resource, sys, time
import duckdb
con = duckdb.connect()
con.execute("SET enable_progress_bar = false")
start = time.process_time()
found = con.execute('''
    SELECT date_trunc('month', close_date AT TIME ZONE 'UTC') AS month, owner_id, forecast_category,
        count(*) FILTER (stage_id NOT IN (6, 7, 8) OR stage_id IS NULL) AS open_count,
        sum(amount) FILTER (
            (stage_id NOT IN (6, 7, 8) OR stage_id IS NULL) AND forecast_category IS DISTINCT FROM 'omitted'
        ) AS open_amount,
        sum(amount * probability / 100) FILTER (
            (stage_id NOT IN (6, 7, 8) OR stage_id IS NULL) AND forecast_category IS DISTINCT FROM 'omitted'
        ) AS weighted_amount,
        count(*) FILTER (stage_id = 6) AS won_count, sum(amount) FILTER (stage_id = 6) AS won_amount
    FROM read_parquet($files) WHERE trashed_at IS NULL GROUP BY ALL''', {"files": sys.argv[1:]}).fetchall()
print(json.dumps({
    "cpu_s": time.process_time() - start,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "open_count": sum(row[3] for row in found),
    "won_amount": int(sum(row[7] or 0 for row in found)),
    "weighted_amount": float(sum(row[5] or 0 for row in found)),
}))
"""


def million(path: Path) -> Path:
    """Write a million deals of the usual columns: nine years of months, 200 owners, four categories."""
    draw = np.random.default_rng(1)

    def integers(low: int, high: int, missing: float) -> pd.api.extensions.ExtensionArray:
        return pd.arrays.IntegerArray(draw.integers(low, high, MILLION), draw.random(MILLION) < missing)

    def instants(first: str, last: str, missing: float) -> pd.Series:
        ends = [pd.Timestamp(day, tz="UTC").value // 1000 for day in (first, last)]
        stamps = pd.Series(pd.to_datetime(draw.integers(*ends, MILLION), unit="us", utc=True)).dt.as_unit("us")
        return stamps.mask(draw.random(MILLION) < missing)

    words = np.array(["pipeline", "best_case", "commit", "omitted", None], dtype=object)
    frame = pd.DataFrame(
        {
            "id": pd.array(np.arange(MILLION), dtype="Int64"),
            "name": pd.array([f"Deal {number}" for number in range(MILLION)], dtype="str"),
            "amount": integers(0, 10**6, 0.02),
            "currency_type": pd.array(np.full(MILLION, "USD", dtype=object), dtype="str"),
            "probability": integers(0, 101, 0.02),
            "close_date": instants("2021-01-01", "2029-12-31", 0.01),
            "stage_id": integers(1, 9, 0.001),
            "owner_id": integers(1, 201, 0.01),
            "forecast_category": pd.array(draw.choice(words, MILLION, p=[0.4, 0.3, 0.2, 0.05, 0.05]), dtype="str"),
            "created_at": instants("2019-01-01", "2021-01-01", 0.0),
            "trashed_at": instants("2019-01-01", "2021-01-01", 0.99),
        }
    )
    frame.to_parquet(path)
    return path


def run(program: str, files: list[str]) -> dict[str, float]:
    """Run a program in a process of its own and read what it measured."""
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


LOAD = """
import json, resource, sys, time
import opp_pandas as opp
url, size, folder = sys.argv[1:]
start = time.process_time()
scan = opp.read_opportunities(opp.connect(url, token="x", page_size=int(size)), to=folder, on_invalid="ignore")
assert scan.load_report.complete, scan.load_report
print(json.dumps({
    "rows": scan.rows,
    "cpu_s": time.process_time() - start,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def load(rows: int, records: str, page_size: int, folder: Path) -> dict[str, float]:
    """Load many deals from another process."""
    service = [sys.executable, str(Path(__file__).parents[1] / "manydeals.py"), str(rows), records, str(page_size)]
    with subprocess.Popen(service, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            return run(LOAD, [running.stdout.readline().strip(), str(page_size), str(folder)])
        finally:
            running.terminate()


@pytest.mark.nightly
@pytest.mark.parametrize(("records", "page_size"), [("plain", 250), ("plain", 1_000), ("sandbox", 1_000)])
def test_load_of_a_million_deals__takes_little_memory(tmp_path: Path, records: str, page_size: int) -> None:
    """Of each deal some dozen bytes stay in memory; a thousand of them are changed meanwhile, in every file."""
    peaks = {}
    for rows in (30_000, 100_000, MILLION):
        found = load(rows, records, page_size, tmp_path / str(rows))
        peaks[rows] = found["peak_mb"]
        say(
            f"load of {rows:,} {records} deals into files, pages of {page_size:,}: {found['cpu_s']:.1f} s CPU, "
            f"peak {found['peak_mb']:.0f} MB"
        )
        assert found["rows"] == rows
    assert peaks[MILLION] <= _MOST_LOAD_MB
    assert peaks[MILLION] <= 1.5 * peaks[30_000]


@pytest.mark.nightly
def test_row_groups_of_millions__are_read_in_pieces(tmp_path: Path) -> None:
    """Memory is bounded by the piece, not by who wrote the file: three files of one row group of five million rows."""
    tables = [pq.read_table(million(tmp_path / "0.parquet"))] * 5
    pq.write_table(pa.concat_tables(tables), tmp_path / "large-0.parquet", row_group_size=5 * MILLION)
    for number in (1, 2):
        os.link(tmp_path / "large-0.parquet", tmp_path / f"large-{number}.parquet")
    found = run(OURS, [str(path) for path in sorted(tmp_path.glob("large-*"))])
    say(f"scan 15 M rows in three row groups: {found['cpu_s']:.1f} s CPU, peak {found['peak_mb']:.0f} MB")
    assert found["peak_mb"] <= _MOST_MB


@pytest.mark.nightly
def test_fifty_million_rows__take_seconds_and_little_memory(tmp_path: Path) -> None:
    """By month, owner and category: near linear in time, flat in memory, and DuckDB's sums."""
    first = million(tmp_path / "0.parquet")
    files = [str(first)]
    for number in range(1, max(SIZES)):
        os.link(first, tmp_path / f"{number}.parquet")
        files.append(str(tmp_path / f"{number}.parquet"))
    ours = {}
    for size in SIZES:
        ours[size], theirs = run(OURS, files[:size]), run(THEIRS, files[:size])
        say(
            f"scan {size} M rows: {ours[size]['cpu_s']:.1f} s CPU, peak {ours[size]['peak_mb']:.0f} MB, "
            f"{ours[size]['groups']:,.0f} groups; DuckDB {theirs['cpu_s']:.1f} s, {theirs['peak_mb']:.0f} MB"
        )
        for exact in ("open_count", "won_amount"):
            assert ours[size][exact] == theirs[exact]
        assert ours[size]["weighted_amount"] == pytest.approx(theirs["weighted_amount"], rel=1e-12)
    assert ours[50]["cpu_s"] <= _MOST_CPU_S
    assert max(each["peak_mb"] for each in ours.values()) <= _MOST_MB
    assert ours[50]["peak_mb"] <= 1.25 * ours[5]["peak_mb"]
    assert ours[50]["cpu_s"] <= 1.25 * 50 / 20 * ours[20]["cpu_s"]
