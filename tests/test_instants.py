"""One parser for the wire, one for what people write."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError
from opp_pandas.instants import FIRST, LAST, build_instant, parse_day_start, parse_end, parse_instant, parse_moment

DAY = dt.timedelta(days=1)
TICK = dt.timedelta(microseconds=1)


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", dt.date.min, dt.date.max])
def test_moment__of_a_day_at_the_calendars_end_is_cut_off_there(day: object, zone: str | None) -> None:
    """The first day in Tokyo begins in year 0 of UTC, the last one in New York ends in year 10000."""
    moment = parse_moment(day, zone, "filter")
    assert FIRST <= moment.first < moment.last <= LAST
    assert moment.is_day


@given(st.dates(dt.date(2, 1, 1), dt.date(9998, 12, 30)), st.sampled_from(["Asia/Tokyo", "America/New_York", "UTC"]))
def test_moment__of_days_follow_each_other_without_a_gap(day: dt.date, zone: str) -> None:
    """A day ends one microsecond before the next begins, also where clocks change."""
    assert parse_moment(day, zone, "day").last + TICK == parse_moment(day + DAY, zone, "day").first


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "soon",
        "2026",
        "2026-06",
        "2026-W05",
        "20260131",
        "2026-01-31 24:00",
        "now",
        20260131,
        1.5,
        None,
        pd.NaT,
        True,
    ],
)
def test_moment__is_a_day_or_an_instant(wrong: object) -> None:
    """A month, a week, a number or the clock of this machine is none."""
    with pytest.raises(ConfigurationError, match="is not a day or an instant"):
        parse_moment(wrong, None, "as_of")


@pytest.mark.parametrize(
    "day", ["2026-03-29", dt.date(2026, 3, 29), pd.Timestamp("2026-03-29"), np.datetime64("2026-03-29")]
)
def test_end__of_a_day_in_every_form(day: object) -> None:
    """Midnight without a zone is how pandas writes a day; the day that clocks go forward has 23 hours."""
    assert parse_end(day, "Europe/Berlin") == pd.Timestamp("2026-03-29T21:59:59.999999Z")
    assert parse_day_start(day, "Europe/Berlin", "day") == pd.Timestamp("2026-03-28T23:00:00Z")


def test_end__of_a_period_is_its_last_microsecond() -> None:
    """A month ends where the next one begins."""
    assert parse_end(pd.Period("2026-09"), None) == pd.Timestamp("2026-09-30T23:59:59.999999Z")


@pytest.mark.parametrize("text", ["2026-12-10T24:00:00.000Z", "20261210T240000Z", "2026-12-10 24:00", "2026-W50-4T24Z"])
def test_instant__has_no_hour_24(text: str) -> None:
    """Python takes it for the next midnight from 3.14 on; no cell is read by one Python and locked by another."""
    with pytest.raises(ValueError, match="must be a date and time"):
        parse_instant(text)


@pytest.mark.parametrize(
    "text", ["2026-10-24", "2026-10-24T00:00:00Z", "2026-10-23T00:00+00:24", "2026-10-23T00:00:00.24Z"]
)
def test_instant__may_hold_24_elsewhere(text: str) -> None:
    """As a day, a minute of an offset, or a part of a second."""
    expected = pd.Timestamp(text)
    expected = expected.tz_localize("UTC") if expected.tz is None else expected
    assert parse_instant(text)[0] == expected.value // 1_000


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_instant__is_read_as_it_was_built(microseconds: int) -> None:
    """parse(build(x)) == x, in canonical form."""
    assert parse_instant(build_instant(microseconds)) == (microseconds, True)
