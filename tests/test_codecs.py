"""Cells as text and back: bit for bit for every dtype, and no guessing."""

from __future__ import annotations

import datetime as dt
import struct
import zoneinfo
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opp_pandas.changes.name_lookup import NameBook
from opp_pandas.kinds import KINDS
from opp_pandas.notebook.clipboard import build_tsv, parse_tsv
from opp_pandas.notebook.codecs import (
    Categories,
    Clocks,
    Numbers,
    Options,
    Plain,
    Relations,
)
from strategies import TEXT

ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo", None)
MICROSECOND = dt.timedelta(microseconds=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MOMENTS = st.datetimes(timezones=st.just(dt.UTC))


@given(st.integers(-(2**63), 2**63 - 1))
@example(2**53 + 1)
def test_integers__round_trip(value: int) -> None:
    """Every whole number of 64 bits comes back."""
    assert Plain(KINDS["integer"]).read(Plain(KINDS["integer"]).show(value)) == value


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**60), 2**60)))
@example(-0.0)
@example(1e300)
@example(5e-324)
def test_numbers__round_trip_to_the_last_bit(value: float) -> None:
    """Floats come back with every bit, whole numbers as whole numbers."""
    codec = Numbers(whole=isinstance(value, int))
    back = codec.read(codec.show(value))
    assert back == value
    if isinstance(value, float):
        assert struct.pack("<d", back) == struct.pack("<d", value)


@given(MOMENTS, st.sampled_from(ZONES))
@example(dt.datetime(2026, 11, 1, 6, 30, tzinfo=dt.UTC), "America/New_York")
@example(dt.datetime(2026, 11, 1, 5, 30, tzinfo=dt.UTC), "America/New_York")
@example(dt.datetime(2018, 11, 4, 3, 0, tzinfo=dt.UTC), "America/Sao_Paulo")
@example(dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC), "Asia/Kolkata")
@example(dt.datetime(1, 1, 1, tzinfo=dt.UTC), "America/New_York")
def test_instants__round_trip_in_every_zone(moment: dt.datetime, zone: str | None) -> None:
    """Every instant comes back to the microsecond, in hours that stand twice on the clock, too."""
    codec = Plain(KINDS["instant"], zone)
    stamp = pd.Timestamp(moment).as_unit("us")
    back = codec.read(codec.show(stamp))
    assert (back, back.unit, str(back.tz)) == (stamp, "us", "UTC")


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone])
def test_days__do_not_shift(zone: str) -> None:
    """A day is that day's start in the zone, and is shown as that day, all year round."""
    codec = Plain(KINDS["instant"], zone)
    for number in range(366):
        day = (dt.date(2018, 1, 1) + dt.timedelta(days=number)).isoformat()
        local = codec.read(day).tz_convert(zoneinfo.ZoneInfo(zone))
        assert local.date().isoformat() == day
        assert codec.show(codec.read(day))[:10] == day


@given(TEXT)
def test_texts__round_trip(value: str) -> None:
    """Text comes back as it is."""
    assert Plain(KINDS["text"]).read(Plain(KINDS["text"]).show(value)) == value


@given(st.lists(TEXT, max_size=4))
@example(["a, b"])
@example([""])
@example([])
@example(["[x]"])
@example([" a"])
def test_tags__round_trip(value: list[str]) -> None:
    """Lists of any texts come back, in their order."""
    assert Plain(KINDS["tags"]).read(Plain(KINDS["tags"]).show(value)) == value


@given(
    st.lists(st.sampled_from(("Price", "Speed", "A; B", "A", "B", "[", "")), max_size=4),
    st.sampled_from((";", ", ", "|", "[")),
)
def test_options__round_trip(chosen: list[str], separator: str) -> None:
    """Several options of a list come back, with options that hold the separator, too."""
    codec = Options(("Price", "Speed", "A; B", "A", "B", "[", ""), separator)
    assert codec.read(codec.show(tuple(chosen))) == tuple(chosen)


@given(st.datetimes(), st.booleans())
def test_clocks__round_trip(moment: dt.datetime, days: bool) -> None:
    """Days and moments without a zone come back."""
    value = moment.replace(hour=0, minute=0, second=0, microsecond=0) if days else moment
    codec = Clocks(days)
    assert codec.read(codec.show(pd.Timestamp(value).as_unit("us"))) == pd.Timestamp(value).as_unit("us")


@given(
    st.dictionaries(st.integers(1, 99), st.sampled_from(("Sam", "Sam (2)", "#2", "Ann", "Sam (3) (3)", "")), max_size=6)
)
def test_relations__round_trip(names: dict[int, str]) -> None:
    """Every id comes back, whatever the names look like; namesakes are told apart."""
    codec = Relations(NameBook({"owner_id": names}), "owner_id")
    for row_id in (*names, 7):
        assert codec.read(codec.show(row_id)) == row_id


def test_booleans_and_categories__round_trip() -> None:
    """True, false and known categories come back."""
    codec = Plain(KINDS["boolean"])
    assert [codec.read(codec.show(value)) for value in (True, False)] == [True, False]
    assert Categories(("a", "b")).read(Categories(("a", "b")).show("b")) == "b"


REFUSED: list[tuple[Any, str, str]] = [
    (Plain(KINDS["integer"]), "12.5", "whole number"),
    (Plain(KINDS["integer"]), "12.0", "whole number"),
    (Plain(KINDS["integer"]), "1,250", "whole number"),
    (Plain(KINDS["integer"]), "1.000", "whole number"),
    (Plain(KINDS["integer"]), "abc", "whole number"),
    (Plain(KINDS["integer"]), "٣", "whole number"),
    (Plain(KINDS["integer"]), str(2**63), "64 bits"),
    (Plain(KINDS["integer"]), "9" * 5000, "64 bits"),
    (Numbers(whole=False), "1,5", "not a number"),
    (Numbers(whole=False), "nan", "not a number"),
    (Numbers(whole=True), "1.5", "decimals"),
    (Plain(KINDS["instant"], "UTC"), "31.12.2026", "write it like"),
    (Plain(KINDS["instant"], "UTC"), "12/31/2026", "write it like"),
    (Plain(KINDS["instant"], "UTC"), "2026-02-30", "calendar"),
    (Plain(KINDS["instant"], "UTC"), "0000-01-01", "calendar"),
    (Plain(KINDS["instant"], "America/New_York"), "2026-03-08 02:30", "skipped"),
    (Plain(KINDS["instant"], "America/New_York"), "2026-11-01 01:30", "twice"),
    (Plain(KINDS["instant"], "America/New_York"), "9999-12-31 23:00", "calendar"),
    (Clocks(days=True), "tomorrow", "not a day"),
    (Plain(KINDS["tags"]), "[1, 2]", "list of tags"),
    (Plain(KINDS["tags"]), "[", "list of tags"),
    (Plain(KINDS["boolean"]), "maybe", "neither"),
    (Plain(KINDS["text"]), "\ud800", "Unicode"),
    (Options(("a", "b"), ";"), "a;c", "of the list"),
    (Categories(("a",)), "z", "of the list"),
    (Relations(NameBook({"owner_id": {1: "Sam", 2: "Sam"}}), "owner_id"), "Sam", r"Sam \(1\)"),
    (Relations(NameBook({"owner_id": {1: "Sam"}}), "owner_id"), "Tom", "not known"),
]


@pytest.mark.parametrize(("codec", "text", "words"), REFUSED)
def test_text_with_several_meanings__is_refused(codec: Any, text: str, words: str) -> None:
    """What has no meaning, or more than one, is refused in words."""
    with pytest.raises(ValueError, match=words):
        codec.read(text)


@given(st.lists(st.lists(st.one_of(st.none(), TEXT), min_size=2, max_size=4), min_size=1, max_size=4))
def test_tsv__round_trips(rows: list[list[str | None]]) -> None:
    """Ranges come back; missing stays missing, and empty text empty."""
    assert parse_tsv(build_tsv(rows)) == rows


def test_tsv__reads_what_spreadsheets_copy() -> None:
    """Line breaks of every system, quotes around cells with breaks, and a bare quote inside a word."""
    assert parse_tsv('a\tb\r\n"two\nlines"\t5" screen\n') == [["a", "b"], ["two\nlines", '5" screen']]
    assert parse_tsv('"unfinished\tb') == [['"unfinished', "b"]]
    assert parse_tsv("a\r\n\r\n") == [["a"], [None]]
