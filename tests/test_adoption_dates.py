"""Dates of foreign files as instants: zones, conventions, the ends of the calendar."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.adoption.dates import BARE_NUMBER, NO_SUCH_DATE, NOT_A_DATE, OUT_OF_RANGE, read_instants
from opp_pandas.errors import ConfigurationError
from opp_pandas.kinds import INSTANT


def read(*cells: object, zone: str = "UTC", dayfirst: bool | None = None) -> list[str | None]:
    """Read cells and give the instants as ISO text in UTC."""
    values = pd.Series(cells, dtype="str" if all(isinstance(cell, str) for cell in cells) else object)
    reading = read_instants(values, zone, dayfirst)
    assert reading.values.dtype == INSTANT
    instants = reading.values.tz_localize(None).to_numpy(dtype="M8[us]")
    return [None if np.isnat(instant) else str(instant).removesuffix(".000000") for instant in instants]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-12-31", "2026-12-31T00:00:00"),
        ("2026/2/3", "2026-02-03T00:00:00"),
        (" 2026-12-31 ", "2026-12-31T00:00:00"),
        ("2026-12-31T22:00:00.000Z", "2026-12-31T22:00:00"),
        ("2021-12-09T22:00:00+02:00", "2021-12-09T20:00:00"),
        ("2021-12-09 22:00:00-0530", "2021-12-10T03:30:00"),
        ("2021-12-09 22:00+02", "2021-12-09T20:00:00"),
        ("2021-12-09 22:00:00 UTC", "2021-12-09T22:00:00"),
        ("2021-01-07 6:49:18", "2021-01-07T06:49:18"),
        ("2015-11-20 10:59:00.000000018", "2015-11-20T10:59:00"),
        ("2015-08-25 06:59:59.999999786", "2015-08-25T07:00:00"),
        ("2015-11-20 10:59:00.123456789", "2015-11-20T10:59:00.123457"),
        ("2015-11-20 10:59:00.5", "2015-11-20T10:59:00.500000"),
        ("31/12/2026", "2026-12-31T00:00:00"),
        ("12/31/2026 5:30 PM", "2026-12-31T17:30:00"),
        ("12/31/2026, 12:05 am", "2026-12-31T00:05:00"),
        ("31.12.2026", "2026-12-31T00:00:00"),
        ("4/4/2026", "2026-04-04T00:00:00"),
        ("31 Dec 2026", "2026-12-31T00:00:00"),
        ("31-DEC-2026", "2026-12-31T00:00:00"),
        ("3 September 2026", "2026-09-03T00:00:00"),
        ("Dec 31, 2026", "2026-12-31T00:00:00"),
        ("May 3 2026 14:05", "2026-05-03T14:05:00"),
        ("0001-01-01", "0001-01-01T00:00:00"),
        ("9999-12-31 23:59:59", "9999-12-31T23:59:59"),
        ("2024-02-29", "2024-02-29T00:00:00"),
    ],
)
def test_read_instants__text(text: str, instant: str) -> None:
    """Dates as people and machines write them, over the whole calendar."""
    assert read(text) == [instant]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-02-30", NO_SUCH_DATE),
        ("2025-02-29", NO_SUCH_DATE),
        ("2026-13-01", NO_SUCH_DATE),
        ("2026-00-01", NO_SUCH_DATE),
        ("0000-01-01", NO_SUCH_DATE),
        ("2026-01-01 24:00:00", NO_SUCH_DATE),
        ("2026-01-01T10:00:00+99:00", NOT_A_DATE),
        ("2026-01-01T10:00:00+05:75", NOT_A_DATE),
        ("2026-01-01 13:00 pm", NO_SUCH_DATE),
        ("45/45/2026", NO_SUCH_DATE),
        ("soon", NOT_A_DATE),
        ("12/31/26", NOT_A_DATE),
        ("20261231", NOT_A_DATE),
        ("Marble 3, 2026", NOT_A_DATE),
        ("2026-12", NOT_A_DATE),
        ("9999-12-31 23:59:59-05:00", OUT_OF_RANGE),
    ],
)
def test_read_instants__what_is_no_date(text: str, reason: str) -> None:
    """Impossible and unreadable dates are refused one by one; their neighbours are read."""
    reading = read_instants(pd.Series([text, "2026-01-01", text]), "UTC", None)
    assert reading.refused == {0: reason, 2: reason}
    assert pd.isna(reading.values[0])
    assert reading.values[1] == pd.Timestamp("2026-01-01", tz="UTC")


def test_read_instants__midnight_in_the_zone() -> None:
    """A date is midnight where the deal is; a full instant is kept."""
    assert read("2026-12-31", "2026-07-01T00:00:00Z", zone="America/New_York") == [
        "2026-12-31T05:00:00",
        "2026-07-01T00:00:00",
    ]
    assert read("2026-12-31 10:00", zone="Asia/Tokyo") == ["2026-12-31T01:00:00"]


def test_read_instants__clock_changes() -> None:
    """A day whose midnight is skipped starts after the gap; of a repeated hour the first is taken, and said."""
    assert read("2018-11-04", zone="America/Sao_Paulo") == ["2018-11-04T03:00:00"]
    reading = read_instants(pd.Series(["2026-11-01 01:30", "2026-11-02", None]), "America/New_York", None)
    assert reading.values[0] == pd.Timestamp("2026-11-01 05:30", tz="UTC")
    assert reading.notes == ["1 times stand in an hour that clocks repeat in America/New_York; the first was taken"]


def test_read_instants__ends_of_the_calendar_in_a_zone() -> None:
    """The years 1 and 9999 are kept in any zone that leaves them inside the calendar, and refused where not."""
    assert read("9999-12-31", "0001-01-01", "2026-01-01", zone="America/New_York")[0] == "9999-12-31T05:00:00"
    reading = read_instants(pd.Series(["9999-12-31 23:00", "0001-01-01"]), "America/New_York", None)
    assert reading.refused == {0: OUT_OF_RANGE}
    assert read_instants(pd.Series(["0001-01-01"]), "Asia/Tokyo", None).refused == {0: OUT_OF_RANGE}


def test_read_instants__day_or_month_first() -> None:
    """What reads both ways is asked for, with examples, unless the column or the caller settles it."""
    with pytest.raises(ConfigurationError, match=r"'03/04/2026', '05/06/2026' may be day/month .* pass dayfirst=True"):
        read("03/04/2026", "05/06/2026", "2026-01-01")
    with pytest.raises(ConfigurationError, match="the column writes dates both ways"):
        read("03/04/2026", "25/12/2026", "12/25/2026")
    assert read("03/04/2026", dayfirst=True) == ["2026-04-03T00:00:00"]
    assert read("03/04/2026", dayfirst=False) == ["2026-03-04T00:00:00"]
    assert read("25/12/2026", "12/25/2026") == ["2026-12-25T00:00:00"] * 2
    assert read("03/04/2026", "25/12/2026") == ["2026-04-03T00:00:00", "2026-12-25T00:00:00"]
    reading = read_instants(pd.Series(["03/04/2026", "12/25/2026"]), "UTC", None)
    assert reading.values[0] == pd.Timestamp("2026-03-04", tz="UTC")
    assert reading.notes == ["dates were read month first, as '12/25/2026' proves"]
    assert read_instants(pd.Series(["12/25/2026"]), "UTC", True).refused == {0: NO_SUCH_DATE}


def test_read_instants__objects_and_dtypes() -> None:
    """Datetimes, dates and Timestamps of every kind are read; bare numbers are not guessed to be dates."""
    berlin = ZoneInfo("Europe/Berlin")
    cells = [
        dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, 5), dt.datetime(2026, 1, 1, 5, tzinfo=berlin),
        pd.Timestamp("2026-01-01", tz="UTC"), np.datetime64("2026-01-01"), "2026-01-01", None, pd.NaT, 45000, [1],
    ]  # fmt: skip
    values = pd.Series([None] * len(cells), dtype=object)
    for place, cell in enumerate(cells):
        values.iat[place] = cell
    reading = read_instants(values, "America/New_York", None)
    hours = [None if pd.isna(instant) else instant.hour for instant in reading.values]
    assert hours == [5, 10, 4, 0, 5, 5, None, None, None, None]
    assert reading.refused == {8: BARE_NUMBER, 9: NOT_A_DATE}
    assert read_instants(pd.Series([45000, 45001]), "UTC", None).refused == {0: BARE_NUMBER, 1: BARE_NUMBER}
    assert not read_instants(pd.Series([np.nan, np.nan]), "UTC", None).refused
    for unit in ("s", "ms", "us", "ns"):
        naive = pd.Series(np.array(["2026-07-01", "NaT"], dtype=f"M8[{unit}]"))
        for column in (naive, naive.dt.tz_localize("America/New_York"), naive.astype("category")):
            read_back = read_instants(column, "America/New_York", None).values
            assert read_back.dtype == INSTANT
            assert read_back[0] == pd.Timestamp("2026-07-01T04:00Z")
            assert pd.isna(read_back[1])
    noisy = pd.Series(pd.to_datetime(["2015-08-25 06:59:59.999999786", "1960-01-01 00:00:00.000000018"]))
    for column in (noisy, noisy.dt.tz_localize("UTC"), noisy.astype(object)):
        assert list(read_instants(column, "UTC", None).values) == [
            pd.Timestamp("2015-08-25T07:00Z"), pd.Timestamp("1960-01-01T00:00Z"),
        ]  # fmt: skip
    assert read_instants(pd.Series(["", "n/a", None], dtype=object), "UTC", None).refused == {}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)), min_size=1, max_size=6),
    st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Africa/Cairo", "Australia/Lord_Howe"]),
)
def test_read_instants__as_python_reckons(times: list[dt.datetime], zone: str) -> None:
    """Local times become the instants that Python's own zones give, through text and through datetimes."""
    expected = []
    for time in times:
        aware = time.replace(tzinfo=ZoneInfo(zone))
        exists = aware.astimezone(dt.UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == time
        expected.append(aware.astimezone(dt.UTC).replace(tzinfo=None) if exists else None)
    for values in (
        pd.Series([time.isoformat(sep=" ") for time in times], dtype="str"),
        pd.Series(times, dtype=object),
        pd.Series(np.array(times, dtype="M8[us]")),
    ):
        got = read_instants(values, zone, None).values.tz_localize(None).to_numpy(dtype="M8[us]")
        for instant, wanted in zip(got, expected, strict=True):
            assert wanted is None or instant == np.datetime64(wanted)
