"""Validation of wide frames against plain pandera: `pytest -m nightly tests/benchmarks -s`."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from opp_pandas.kinds import INSTANT
from opp_pandas.resource import COLUMN_DTYPES
from opp_pandas.schema import find_failures, get_schema

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 100_000
FILLED_CUSTOM_FIELDS = 50


def wide_frame(rows: int) -> pd.DataFrame:
    """Return a valid frame of all known columns, 50 of the 150 custom fields partly filled."""
    rng = np.random.default_rng(4)
    words = np.array([f"text number {number}" for number in range(1000)], dtype=object)
    tags = [["renewal", "q4"], ["new"], [], None]
    absent = pd.array([None] * rows, dtype="str")

    def column(name: str, dtype: str) -> object:
        if name == "id":
            return pd.array(np.arange(rows), dtype="Int64")
        if dtype == "Int64":
            return pd.array(rng.integers(0, 101, rows), dtype="Int64")
        if dtype == "boolean":
            return pd.array(rng.integers(0, 2, rows).astype(bool), dtype="boolean")
        if dtype == INSTANT:
            return pd.DatetimeIndex(rng.integers(1_500_000_000, 1_800_000_000, rows).astype("M8[s]"), tz="UTC").as_unit(
                "us"
            )
        if dtype == "object":
            return pd.Series(
                [tags[place] for place in rng.integers(0, 4, rows)] if name == "tags" else [None] * rows, dtype=object
            )
        if name.startswith("custom") and name != "custom_id" and int(name[6:]) > FILLED_CUSTOM_FIELDS:
            return absent
        values = words[rng.integers(0, 1000, rows)]
        values[rng.random(rows) < 0.3] = None
        return pd.array(values, dtype="str")

    return pd.DataFrame({name: column(name, dtype) for name, dtype in COLUMN_DTYPES.items()})


def seconds(call: Callable[[], object], times: int) -> float:
    """Return the median CPU time of a call [seconds]."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def report(what: str, fast: float, plain: float) -> float:
    """Print both times and give their ratio."""
    print(f"\nvalidation, {what}: {fast:.3f} s, pandera {plain:.3f} s, {plain / fast:.1f}x")
    return plain / fast


@pytest.mark.nightly
def test_validation__ten_times_faster_than_plain_pandera() -> None:
    """All columns, 100,000 valid rows: at least ten times faster than the model's own validate."""
    frame, model = wide_frame(ROWS), get_schema()
    assert find_failures(frame).empty
    model.validate(frame.head(10))  # builds the model
    fast = seconds(lambda: find_failures(frame), 9)
    plain = seconds(lambda: model.validate(frame), 3)
    assert report(f"{frame.shape[1]} columns x {ROWS:,} rows against plain pandera", fast, plain) >= 10


@pytest.mark.nightly
def test_validation__against_pandera_with_its_own_checks() -> None:
    """The same against a model of pandera's built-in checks, so that the peer is not slowed by checks of ours."""
    import pandera.pandas as pa

    frame = wide_frame(ROWS)
    kinds = {
        "str": pd.StringDtype("pyarrow", na_value=np.nan),
        INSTANT: pd.DatetimeTZDtype("us", "UTC"),
        "object": object,
    }
    limits = {
        name: 255 if not name.startswith("custom") else 32_000
        for name, dtype in COLUMN_DTYPES.items()
        if dtype == "str"
    }
    peer = pa.DataFrameSchema(
        {
            name: pa.Column(
                kinds.get(dtype, dtype),
                [pa.Check.str_length(max_value=limits[name])] if name in limits else [],
                nullable=True,
            )
            for name, dtype in COLUMN_DTYPES.items()
        }
    )
    fast = seconds(lambda: find_failures(frame), 9)
    plain = seconds(lambda: peer.validate(frame), 3)
    assert report("against pandera's built-in checks", fast, plain) >= 10
