"""One column against its baseline, for every kind and drift."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from opp_pandas.kinds import KINDS, is_missing, plain_value

MOMENT = pd.Timestamp("2026-12-10T22:00Z").as_unit("us")


def base_of(kind: str, value: Any) -> Any:
    if kind == "tags":
        made = np.empty(1, dtype=object)
        made[0] = value
        return made
    return pd.array([value], dtype=KINDS[kind].dtype)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("kind", "base", "now"),
    [
        ("integer", 2**53 + 1, float(2**53)),
        ("integer", 2**62 + 1, np.nextafter(2.0**62, np.inf)),
        ("integer", 16_777_217, np.float32(16_777_216)),
        ("integer", 5, "5"),
        ("integer", 5, "5.0"),
        ("integer", None, float("nan")),
        ("integer", None, None),
        ("text", "True", True),
        ("text", "true", True),
        ("text", "FALSE", False),
        ("text", "inf", float("inf")),
        ("text", "12.50", 12.5),
        ("text", "007", np.int64(7)),
        ("text", None, np.nan),
        ("instant", MOMENT, "2026-12-10 22:00:00+00:00"),
        ("instant", MOMENT, "2026-12-10T22:00:00"),
        ("instant", MOMENT, np.datetime64("2026-12-10T22:00:00")),
        ("instant", None, pd.NaT),
        ("tags", ("a", "b"), "['a', 'b']"),
        ("tags", ("a", "\u00e9"), '["a", "\\u00e9"]'),
        ("tags", ("a",), np.array(["a"], dtype=object)),
        ("tags", None, np.nan),
        ("boolean", True, "True"),
        ("boolean", True, 1.0),
        ("boolean", False, 0),
        ("boolean", None, None),
    ],
)
def test_drift__is_no_edit(kind: str, base: Any, now: Any) -> None:
    """The loaded value seen through another dtype."""
    diff = KINDS[kind].compare(pd.Series([now], dtype=object), base_of(kind, base))
    assert (diff.changed.tolist(), diff.reasons) == ([False], {})


@pytest.mark.parametrize(
    ("kind", "base", "now", "reason"),
    [
        ("integer", 5, "6", "is text"),
        ("integer", 5, "five", "is text"),
        ("integer", 5, "NaN", "is text"),
        ("integer", None, "5", "is text"),
        ("integer", 2**60, float(2**60 + 2**12), "too large"),
        ("integer", 5, 6.0, None),
        ("integer", 5, np.nan, None),
        ("text", "1", True, "is a bool"),
        ("text", "nan", 5.0, "is a float"),
        ("text", "x", 5, "is a int"),
        ("text", None, 5, "is a int"),
        ("text", "", None, None),
        ("instant", MOMENT, "2026-12-10T23:00:00", "has no zone"),
        ("instant", None, "2026-12-10T22:00:00", "has no zone"),
        ("instant", MOMENT, "x", "is not a date"),
        ("instant", MOMENT, MOMENT + pd.Timedelta(1, "us"), None),
        ("tags", ("a",), "['b']", "is a str"),
        ("tags", None, "['b']", "is a str"),
        ("tags", None, [], None),
        ("tags", ("a", "b"), ["b", "a"], None),
        ("boolean", True, "yes", "is a str"),
        ("boolean", None, "True", "is a str"),
        ("boolean", True, False, None),
        ("boolean", True, None, None),
    ],
)
def test_edit__is_one_whatever_the_dtype(kind: str, base: Any, now: Any, reason: str | None) -> None:
    """A real edit is seen, and where it cannot be read it says why."""
    diff = KINDS[kind].compare(pd.Series([now], dtype=object), base_of(kind, base))
    assert diff.changed.tolist() == [True]
    assert (reason is None) == (diff.reasons == {})
    assert reason is None or reason in diff.reasons[0]


def test_instants_beyond_the_range__are_refused() -> None:
    """A column of seconds can hold what microseconds cannot."""
    series = pd.Series(np.array([2**50], dtype="datetime64[s]")).dt.tz_localize("UTC")
    diff = KINDS["instant"].compare(series, base_of("instant", None))
    assert diff.changed.tolist() == [True]
    assert set(diff.reasons) == {0}


@pytest.mark.parametrize(
    ("value", "missing"),
    [(None, True), (pd.NA, True), (pd.NaT, True), (np.float32("nan"), True), ("", False), ([], False), (0, False)],
)
def test_is_missing__in_every_way_of_pandas(value: Any, missing: bool) -> None:
    """One word for NaN, NaT, None and NA; a list is a value."""
    assert is_missing(value) is missing
    assert plain_value(value) == (None if missing else value)
