"""Calendar days in a time zone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError, FrameError
from opp_pandas.figures.core.days import NO_DAY, day_of, local_days, parse_day, to_date

ZONES = ("America/New_York", "America/St_Johns", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Pago_Pago")


def instants(*texts: str | None) -> pd.Series:
    return pd.Series(pd.to_datetime(list(texts), utc=True, format="ISO8601"), name="close_date").astype(
        "datetime64[us, UTC]"
    )


def test_local_days__differ_by_zone() -> None:
    """Half past ten in the evening UTC on New Year's Eve is next year in Berlin and this year in New York."""
    late = instants("2026-12-31T23:30Z")
    assert to_date(int(local_days(late, "Europe/Berlin")[0])) == pd.Timestamp("2027-01-01")
    assert to_date(int(local_days(late, "America/New_York")[0])) == pd.Timestamp("2026-12-31")
    assert to_date(int(local_days(late, None)[0])) == pd.Timestamp("2026-12-31")


def test_local_days__missing_has_no_day() -> None:
    """A missing instant gets NO_DAY, which is no date."""
    assert local_days(instants(None, "2026-01-01T00:00Z"), "Asia/Kolkata").tolist()[0] == NO_DAY
    assert to_date(NO_DAY) is pd.NaT


@given(
    st.lists(st.integers(-5_000_000_000, 253_402_200_000), min_size=1, max_size=30),
    st.sampled_from(ZONES),
    st.sampled_from(["s", "ms", "us"]),
)
def test_local_days__are_those_of_pandas(seconds: list[int], zone: str, unit: str) -> None:
    """The table of quarters of an hour gives the same days as converting each instant, to year 9999."""
    moments = pd.Series(np.array(seconds).astype("datetime64[s]")).dt.as_unit(unit).dt.tz_localize("UTC")
    local = moments.dt.tz_convert(zone).dt.tz_localize(None).dt.as_unit("s")
    expected = local.to_numpy().astype("datetime64[D]").astype(np.int64)
    assert local_days(moments, zone).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("moment", "zone", "day"),
    [
        ("9999-12-31T23:59:59Z", "Europe/Berlin", "9999-12-31"),
        ("9999-12-31T23:59:59Z", "America/New_York", "9999-12-31"),
        ("9999-12-31T04:00:00Z", "America/New_York", "9999-12-30"),
        ("9999-12-30T23:30:00Z", "Asia/Kolkata", "9999-12-31"),
        ("0001-01-01T00:00:00Z", "America/New_York", "0001-01-01"),
        ("0001-01-01T23:00:00Z", "Asia/Kolkata", "0001-01-02"),
    ],
)
def test_local_days__at_the_ends_of_the_calendar(moment: str, zone: str, day: str) -> None:
    """What tools write for "never" has a day everywhere, the first or the last one where the year has no name."""
    found = local_days(instants(moment, "2026-06-01T12:00:00Z"), zone)
    assert str(to_date(int(found[0])).date()) == day
    assert str(to_date(int(found[1])).date()) == "2026-06-01"


def test_local_days__clock_that_changes_just_after_midnight() -> None:
    """In Newfoundland clocks once went from 00:01 back to 23:01 of the day before."""
    moments = instants("2005-10-30T02:30:30Z", "2005-10-30T02:31:30Z", "2005-10-30T02:20:00Z")
    local = moments.dt.tz_convert("America/St_Johns").dt.strftime("%Y-%m-%d").tolist()
    assert [str(to_date(int(day)).date()) for day in local_days(moments, "America/St_Johns")] == local


def test_local_days__without_a_zone_is_refused() -> None:
    """Naive times and texts are ambiguous; the error says how to state the zone."""
    with pytest.raises(FrameError, match="time zone"):
        local_days(pd.Series(pd.to_datetime(["2026-01-01"]), name="close_date"), None)
    with pytest.raises(FrameError, match="to_datetime"):
        local_days(pd.Series(["2026-01-01"], dtype="str", name="close_date"), None)


def test_day_of__needs_a_zone() -> None:
    """as_of without a zone is refused."""
    with pytest.raises(ConfigurationError, match="as_of"):
        day_of(pd.Timestamp("2026-01-01"), None)


def test_parse_day__refuses_what_is_no_day() -> None:
    """Text that is no day, instants, and bare numbers, which are nanoseconds to pandas, are refused."""
    assert parse_day("1970-01-02") == 1
    for wrong in ("tomorrow-ish", pd.Timestamp("2026-01-01", tz="UTC"), None, 20260101, np.int64(2026), 2026.0, True):
        with pytest.raises(ConfigurationError, match="calendar day"):
            parse_day(wrong)
