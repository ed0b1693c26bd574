"""Dates as people write them, as instants: zones, conventions, the ends of the calendar."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError
from opp_pandas.kinds import INSTANT
from opp_pandas.parsing.dates import (
    BARE_NUMBER,
    NO_SERIAL,
    NO_SUCH_DATE,
    NOT_A_DATE,
    OUT_OF_RANGE,
    UNKNOWN_MONTH,
    parse_dates,
)
from opp_pandas.parsing.reading import Conventions


def read(*cells: object, zone: str = "UTC", **conventions: Any) -> list[str | None]:
    """Read cells and give the instants as ISO text in UTC."""
    values = pd.Series(cells, dtype="str" if all(isinstance(cell, str) for cell in cells) else object)
    reading = parse_dates(values, zone, Conventions(**conventions))
    reading.require_settled("close_date")
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
        ("31.12.26", "2026-12-31T00:00:00"),
        ("12/31/26", "2026-12-31T00:00:00"),
        ("31-Dec-26", "2026-12-31T00:00:00"),
        ("31-12-99", "1999-12-31T00:00:00"),
        ("Thursday, December 31st, 2026", "2026-12-31T00:00:00"),
        ("31. 12. 2026", "2026-12-31T00:00:00"),
        ("2026. 12. 31.", "2026-12-31T00:00:00"),
        ("0001-01-01", "0001-01-01T00:00:00"),
        ("9999-12-31 23:59:59", "9999-12-31T23:59:59"),
        ("2024-02-29", "2024-02-29T00:00:00"),
        ("12/31/2026, 5:30:00\u202fPM", "2026-12-31T17:30:00"),
        ("31\u00a0d\u00e9c. 2026", "2026-12-31T00:00:00"),
        ("1er janvier 2027", "2027-01-01T00:00:00"),
        ("31/dez/26", "2026-12-31T00:00:00"),
        ("2026\u5e7412\u670831\u65e5", "2026-12-31T00:00:00"),
    ],
)
def test_parse_dates__text(text: str, instant: str) -> None:
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
        ("12/31", NOT_A_DATE),
        ("Dec-26", NOT_A_DATE),
        ("20261231", BARE_NUMBER),
        ("Marble 3, 2026", NOT_A_DATE),
        ("31 grudnia 2026", UNKNOWN_MONTH),
        ("31 \u0434\u0435\u043a\u0430\u0431\u0440\u044f 2026 \u0433.", UNKNOWN_MONTH),
        ("before 31.12.2026", NOT_A_DATE),
        ("2026-12", NOT_A_DATE),
        ("9999-12-31 23:59:59-05:00", OUT_OF_RANGE),
    ],
)
def test_parse_dates__what_is_no_date(text: str, reason: str) -> None:
    """Impossible and unreadable dates are refused one by one; their neighbours are read."""
    reading = parse_dates(pd.Series([text, "2026-01-01", text]), "UTC")
    assert reading.refused == {0: reason, 2: reason}
    assert pd.isna(reading.values[0])
    assert reading.values[1] == pd.Timestamp("2026-01-01", tz="UTC")


LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "nb")
DAYS = [dt.date(2026, month, day) for month in range(1, 13) for day in (7, 13, 28)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_parse_dates__months_and_weekdays_of_ten_languages(language: str) -> None:
    """Every way in which CLDR writes a date in words is read as that day."""
    from babel.dates import format_date

    forms = ("medium", "long", "full", "d MMM yyyy", "d-MMM-yy", "EEEE, d. MMMM yyyy")
    texts = [format_date(day, form, language) for day in DAYS for form in forms]
    wanted = [f"{day}T00:00:00" for day in DAYS for _ in forms]
    assert dict(zip(texts, read(*texts, dayfirst=language != "en"), strict=True)) == dict(
        zip(texts, wanted, strict=True)
    )


def test_parse_dates__no_language_of_the_world_is_read_as_another_day() -> None:
    """What CLDR writes in any language, in its words, is that day or refused: no month is taken for another."""
    from babel.dates import format_date
    from babel.localedata import locale_identifiers

    # Mauritian Creole calls August as Portuguese calls October; no spreadsheet writes it.
    languages = [name for name in locale_identifiers() if "_" not in name and name != "mfe"]
    texts = {format_date(day, form, name): day for name in languages for day in DAYS for form in ("long", "full")}
    reading = parse_dates(pd.Series([*texts], dtype="str"), "UTC")
    found = {text: value.date() for text, value in zip(texts, reading.values, strict=True) if not pd.isna(value)}
    assert found == {text: texts[text] for text in found}
    assert len(found) > 1000


def test_parse_dates__midnight_in_the_zone() -> None:
    """A date is midnight where the deal is; a full instant is kept."""
    assert read("2026-12-31", "2026-07-01T00:00:00Z", zone="America/New_York") == [
        "2026-12-31T05:00:00",
        "2026-07-01T00:00:00",
    ]
    assert read("2026-12-31 10:00", zone="Asia/Tokyo") == ["2026-12-31T01:00:00"]


def test_parse_dates__clock_changes() -> None:
    """A day whose midnight is skipped starts after the gap; of a repeated hour the first is taken, and said."""
    assert read("2018-11-04", zone="America/Sao_Paulo") == ["2018-11-04T03:00:00"]
    reading = parse_dates(pd.Series(["2026-11-01 01:30", "2026-11-02", None]), "America/New_York")
    assert reading.values[0] == pd.Timestamp("2026-11-01 05:30", tz="UTC")
    assert reading.notes == ["1 times stand in an hour that clocks repeat in America/New_York; the first was taken"]


def test_parse_dates__ends_of_the_calendar_in_a_zone() -> None:
    """The years 1 and 9999 are kept in any zone that leaves them inside the calendar, and refused where not."""
    assert read("9999-12-31", "0001-01-01", "2026-01-01", zone="America/New_York")[0] == "9999-12-31T05:00:00"
    reading = parse_dates(pd.Series(["9999-12-31 23:00", "0001-01-01"]), "America/New_York")
    assert reading.refused == {0: OUT_OF_RANGE}
    assert parse_dates(pd.Series(["0001-01-01"]), "Asia/Tokyo").refused == {0: OUT_OF_RANGE}


def test_parse_dates__day_or_month_first() -> None:
    """What reads both ways is asked for, with both readings, unless the column or the caller settles it."""
    both = (
        r"'03/04/2026' may be 2026-04-03 \(dayfirst=True\) or 2026-03-04 \(dayfirst=False\), and 1 more cell likewise"
    )
    for cells in (("03/04/2026", "05/06/2026", "2026-01-01"), ("03/04/2026", "05/06/2026", "25/12/2026", "12/25/2026")):
        with pytest.raises(ConfigurationError, match=both):
            read(*cells)
    assert read("03/04/2026", dayfirst=True) == ["2026-04-03T00:00:00"]
    assert read("03/04/2026", dayfirst=False) == ["2026-03-04T00:00:00"]
    assert read("25/12/2026", "12/25/2026") == ["2026-12-25T00:00:00"] * 2
    assert read("03/04/2026", "25/12/2026") == ["2026-04-03T00:00:00", "2026-12-25T00:00:00"]
    reading = parse_dates(pd.Series(["03/04/2026", "12/25/2026"]), "UTC")
    assert reading.values[0] == pd.Timestamp("2026-03-04", tz="UTC")
    assert reading.notes == ["dates were read month first, as '12/25/2026' proves"]


@pytest.mark.parametrize(("dayfirst", "contrary"), [(True, "12/25/2026"), (False, "25.12.26")])
def test_parse_dates__what_was_said_is_held_against_the_column(dayfirst: bool, contrary: str) -> None:
    """An order that every telling date contradicts is an error; beside dates that prove it, one cell is refused."""
    with pytest.raises(ConfigurationError, match=f"dayfirst={dayfirst} was passed, and the column proves the contrary"):
        read("03/04/2026", contrary, dayfirst=dayfirst)
    proving = "25/12/2026" if dayfirst else "12/25/2026"
    assert read("03/04/2026", contrary, proving, dayfirst=dayfirst)[1] is None


def test_parse_dates__years_of_two_digits_between_dashes() -> None:
    """20-10-16 is asked for with the formats that settle it, and read by the one that is said, for one column too."""
    with pytest.raises(ConfigurationError, match=r"2016-10-20 \(date_format='%d-%m-%y'\) or 2020-10-16 \(date_format"):
        read("20-10-16")
    assert read("20-10-16", date_format="%y-%m-%d") == ["2020-10-16T00:00:00"]
    assert read("20-10-16", dayfirst=True) == ["2016-10-20T00:00:00"]
    assert read("20-10-16", "99-12-31") == ["2020-10-16T00:00:00", "1999-12-31T00:00:00"]
    assert Conventions(date_format={"Due": "%y-%m-%d"}).of_column("created_at", "Made").date_format is None


def test_parse_dates__by_a_format() -> None:
    """What does not fit the format is refused, and a format that nothing fits is an error."""
    assert read(20261231, "20260101", None, date_format="%Y%m%d")[:2] == ["2026-12-31T00:00:00", "2026-01-01T00:00:00"]
    assert read("2026-12-31 10:00+0200", zone="Asia/Tokyo", date_format="%Y-%m-%d %H:%M%z") == ["2026-12-31T08:00:00"]
    assert parse_dates(pd.Series(["31.12.26", "x"]), "UTC", Conventions(date_format="%d.%m.%y")).refused == {
        1: "is not written as %d.%m.%y"
    }
    with pytest.raises(ConfigurationError, match="no cell is written so, as '12/31/2026' is not"):
        read("12/31/2026", date_format="%d.%m.%Y")
    with pytest.raises(ConfigurationError, match="date_format= is a format such as"):
        Conventions(date_format="dd.mm.yyyy")


def test_parse_dates__serial_days() -> None:
    """Excel's days are read when told, with their time; days before March 1900, which Excel miscounts, are not."""
    cells = [46387, 46387.7500000001, "46387", 60, "2026-01-01", 61, None]
    assert read(*cells, date_format="excel") == [
        "2026-12-31T00:00:00", "2026-12-31T18:00:00", "2026-12-31T00:00:00", None, "2026-01-01T00:00:00",
        "1900-03-01T00:00:00", None,
    ]  # fmt: skip
    assert parse_dates(pd.Series([60]), "UTC", Conventions(date_format="excel")).refused == {0: NO_SERIAL}


def test_parse_dates__objects_and_dtypes() -> None:
    """Datetimes, dates and Timestamps of every kind are read; bare numbers are not guessed to be dates."""
    berlin = ZoneInfo("Europe/Berlin")
    cells = [
        dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, 5), dt.datetime(2026, 1, 1, 5, tzinfo=berlin),
        pd.Timestamp("2026-01-01", tz="UTC"), np.datetime64("2026-01-01"), "2026-01-01", None, pd.NaT, 45000, [1],
    ]  # fmt: skip
    values = pd.Series([None] * len(cells), dtype=object)
    for place, cell in enumerate(cells):
        values.iat[place] = cell
    reading = parse_dates(values, "America/New_York")
    hours = [None if pd.isna(instant) else instant.hour for instant in reading.values]
    assert hours == [5, 10, 4, 0, 5, 5, None, None, None, None]
    assert reading.refused == {8: BARE_NUMBER, 9: NOT_A_DATE}
    assert parse_dates(pd.Series([45000, 45001]), "UTC").refused == {0: BARE_NUMBER, 1: BARE_NUMBER}
    assert not parse_dates(pd.Series([np.nan, np.nan]), "UTC").refused
    for unit in ("s", "ms", "us", "ns"):
        naive = pd.Series(np.array(["2026-07-01", "NaT"], dtype=f"M8[{unit}]"))
        for column in (naive, naive.dt.tz_localize("America/New_York"), naive.astype("category")):
            read_back = parse_dates(column, "America/New_York").values
            assert read_back.dtype == INSTANT
            assert read_back[0] == pd.Timestamp("2026-07-01T04:00Z")
            assert pd.isna(read_back[1])
    noisy = pd.Series(pd.to_datetime(["2015-08-25 06:59:59.999999786", "1960-01-01 00:00:00.000000018"]))
    for column in (noisy, noisy.dt.tz_localize("UTC"), noisy.astype(object)):
        assert list(parse_dates(column, "UTC").values) == [
            pd.Timestamp("2015-08-25T07:00Z"), pd.Timestamp("1960-01-01T00:00Z"),
        ]  # fmt: skip
    assert parse_dates(pd.Series(["", "n/a", None], dtype=object), "UTC").refused == {}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)), min_size=1, max_size=6),
    st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Africa/Cairo", "Australia/Lord_Howe"]),
)
def test_parse_dates__as_python_reckons(times: list[dt.datetime], zone: str) -> None:
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
        got = parse_dates(values, zone).values.tz_localize(None).to_numpy(dtype="M8[us]")
        for instant, wanted in zip(got, expected, strict=True):
            assert wanted is None or instant == np.datetime64(wanted)
