"""Months, quarters, years, weeks, fiscal years, 4-4-5."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import opp_pandas as opp
from opp_pandas import StageMap
from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import WeekCalendar, resolve_periods
from opp_pandas.figures.core.days import NO_DAY, code_days, parse_day, to_date
from portfolios import context

CUTS: list[dict[str, Any]] = [
    {},
    {"fiscal_start": 2},
    {"fiscal_start": 2, "fiscal_label": "start"},
    {"fiscal_start": 2, "calendar": WeekCalendar()},
    {"fiscal_start": 10, "calendar": WeekCalendar((5, 4, 4), "MON", "nearest"), "fiscal_label": "start"},
]


def name_of(day: str, freq: str = "Q", **options: Any) -> str:
    periods = resolve_periods(freq, **options)
    return str(periods.labels(periods.ordinals(np.array([parse_day(day)])))[0])


@pytest.mark.parametrize(
    ("day", "freq", "start", "expected"),
    [
        ("2026-01-31", "Q", 2, "2026Q4"),
        ("2026-02-01", "Q", 2, "2027Q1"),
        ("2026-12-31", "Y", 1, "2026"),
        ("2026-07-01", "Y", 7, "2027"),
        ("2026-06-30", "M", 7, "2026-06"),
    ],
)
def test_periods__fiscal_years_bear_their_ending_year(day: str, freq: str, start: int, expected: str) -> None:
    """FY = year(d) + (m > 1 and month(d) >= m), as pandas' own Q-JAN says."""
    assert name_of(day, freq, fiscal_start=start) == expected


@given(st.integers(0, 40_000), st.integers(1, 12))
def test_periods__fiscal_quarters_follow_the_formula(day: int, start: int) -> None:
    """Fiscal year and quarter are those of definitions.md, §1."""
    date = to_date(day)
    year = date.year + (1 if start > 1 and date.month >= start else 0)
    quarter = (date.month - start) % 12 // 3 + 1
    periods = resolve_periods("Q", fiscal_start=start)
    assert str(periods.labels(periods.ordinals(np.array([day])))[0]) == f"{year}Q{quarter}"


@pytest.mark.parametrize(
    ("options", "label", "expected"),
    [
        ({"freq": "Y"}, 2026, "2026"),
        ({"freq": "Y", "fiscal_start": 2, "fiscal_label": "start"}, np.int64(2026), "2026"),
        ({}, "2026-11", "2026Q4"),
        ({"freq": "W"}, "2025-12-29/2026-01-04", "2025-12-29/2026-01-04"),
        ({"fiscal_start": 2, "calendar": WeekCalendar()}, "2026-11-15", "FY2027-Q4"),
        ({"freq": "M", "fiscal_start": 2, "calendar": WeekCalendar()}, "FY2027-P10", "FY2027-P10"),
        ({"fiscal_start": 2, "fiscal_label": "start"}, "2026-11-15", "2026Q4"),
    ],
)
def test_periods__are_read_as_people_write_them(options: dict[str, Any], label: Any, expected: str) -> None:
    """A year as a number, a shorter span within the period, and days whatever the labels are."""
    periods = resolve_periods(**options)
    assert str(periods.labels(np.array([periods.parse(label)]))[0]) == expected


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({}, 2026),
        ({}, 20261231.0),
        ({}, ""),
        ({}, "2026"),
        ({"freq": "M"}, "2026Q4"),
        ({"freq": "W"}, "2026-11"),
        ({"freq": "Y", "fiscal_start": 2, "fiscal_label": "start"}, "FY26"),
        ({"freq": "M", "fiscal_start": 2, "calendar": WeekCalendar()}, "2026-11"),
        ({"freq": "M", "fiscal_start": 2, "calendar": WeekCalendar()}, pd.Period("2026-11", "M")),
        ({"freq": "Y", "fiscal_start": 2, "calendar": WeekCalendar()}, pd.Period("2026", "Y-JAN")),
    ],
)
def test_periods__of_another_length_or_calendar_are_refused(options: dict[str, Any], label: Any) -> None:
    """A year is no quarter, a number no day of 1970, and a month of pandas none of a 4-4-5 calendar."""
    with pytest.raises(ConfigurationError, match="is not a period of"):
        resolve_periods(**options).parse(label)


def test_periods__stated_starts_must_fit_the_month() -> None:
    """A year that starts in January where fiscal years start in December would overlap the one before."""
    periods = resolve_periods(fiscal_start=12, calendar=WeekCalendar(starts={2026: "2026-01-25"}))
    with pytest.raises(ConfigurationError, match="do not fit together"):
        periods.ordinals(np.array([parse_day("2026-01-10")]))


def test_periods__may_bear_their_starting_year() -> None:
    """fiscal_label='start' names the same quarter after the year before."""
    assert name_of("2026-02-01", fiscal_start=2, fiscal_label="start") == "2026Q1"
    assert name_of("2026-02-01", "Y", fiscal_start=2, fiscal_label="start") == "2026"


@pytest.mark.parametrize("freq", ["M", "Q", "Y", "W"])
@pytest.mark.parametrize("options", CUTS)
def test_periods__cover_every_day_once(freq: str, options: dict[str, Any]) -> None:
    """Each day lies between its period's first and last day, periods follow without gap, names read back."""
    periods = resolve_periods(freq, **options)
    days = np.arange(parse_day("2020-01-01"), parse_day("2032-12-31"))
    ordinals = periods.ordinals(days)
    distinct = np.unique(ordinals)
    assert (np.diff(distinct) == 1).all()
    starts, ends = periods.starts(distinct), periods.ends(distinct)
    assert (starts[1:] == ends[:-1] + 1).all()
    place = ordinals - distinct[0]
    assert ((starts[place] <= days) & (days <= ends[place])).all()
    labels = periods.labels(distinct)
    assert labels.is_unique
    assert [periods.parse(label) for label in labels] == distinct.tolist()


def test_week_calendar__has_quarters_of_13_weeks_and_a_long_last_one() -> None:
    """4-4-5: periods of 28, 28 and 35 days; the 53rd week goes to the last period of the year."""
    periods = resolve_periods("M", fiscal_start=2, calendar=WeekCalendar(rule="nearest"))
    years = {}
    ordinals = periods.ordinals(np.arange(parse_day("2015-06-01"), parse_day("2031-06-01")))
    for ordinal in np.unique(ordinals):
        label = periods.labels(np.array([ordinal]))[0]
        days = int(periods.ends(np.array([ordinal]))[0] - periods.starts(np.array([ordinal]))[0] + 1)
        years.setdefault(label[:6], []).append(days)
    whole = [lengths for lengths in years.values() if len(lengths) == 12]
    assert {tuple(lengths[:11]) for lengths in whole} == {(28, 28, 35) * 3 + (28, 28)}
    assert {lengths[11] for lengths in whole} == {35, 42}


def test_week_calendar__takes_a_companys_own_table() -> None:
    """A stated first day overrides the rule for its year."""
    stated = WeekCalendar(starts={2026: "2026-02-08"})
    periods = resolve_periods("Y", fiscal_start=2, calendar=stated)
    assert str(periods.labels(periods.ordinals(np.array([parse_day("2026-02-07")])))[0]) == "FY2026"
    assert str(periods.labels(periods.ordinals(np.array([parse_day("2026-02-08")])))[0]) == "FY2027"


@given(st.lists(st.none() | st.integers(-20_000, 2_900_000), max_size=20), st.sampled_from(["M", "Q", "Y", "W"]))
def test_cut__codes_give_the_period_of_each_day(days: list[int | None], freq: str) -> None:
    """Codes point at the right period; missing days at one past the last; year 9999 is no trouble."""
    periods = resolve_periods(freq)
    array = np.array([NO_DAY if day is None else day for day in days], dtype=np.int32)
    codes, ordinals = periods.cut(array)
    for day, code in zip(days, codes, strict=True):
        if day is None:
            assert code == len(ordinals)
        else:
            assert ordinals[code] == periods.ordinals(np.array([day]))[0]


@given(st.lists(st.integers(1_750_000_000, 1_790_000_000), min_size=1, max_size=40), st.sampled_from(["M", "Q", "W"]))
def test_near_an_end__finds_deals_that_a_zone_could_move(seconds: list[int], freq: str) -> None:
    """A deal is counted exactly if 14 hours earlier or later is another period."""
    periods = resolve_periods(freq)
    moments = pd.Series(np.array(seconds).astype("datetime64[s]")).dt.tz_localize("UTC").astype("datetime64[us, UTC]")
    coded = code_days(moments, None)
    found = periods.near_an_end(coded.days, coded.hours)[coded.places]
    for moment, near in zip(moments, found, strict=True):
        here, before, after = (
            periods.parse(stamp.tz_localize(None))
            for stamp in (moment, moment - pd.Timedelta(hours=14), moment + pd.Timedelta(hours=14))
        )
        assert near == (before != here or after != here)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"freq": "D"}, "freq must be"),
        ({"freq": "Q-XYZ"}, "freq must be"),
        ({"freq": "Q-JAN", "fiscal_start": 4}, "starts the year in month 2"),
        ({"fiscal_start": 13}, "1 to 12"),
        ({"fiscal_label": "middle"}, "fiscal_label"),
    ],
)
def test_resolve_periods__bad_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    """Each error names the argument and what fits."""
    with pytest.raises(ConfigurationError, match=words):
        resolve_periods(**arguments)


def test_parse__names_an_example() -> None:
    """A period that is none gets an error with one that is."""
    with pytest.raises(ConfigurationError, match="2026Q1"):
        resolve_periods("Q").parse("next quarter")
    with pytest.raises(ConfigurationError, match="not a period"):
        resolve_periods("Q").parse(pd.Period("2026-01", freq="M"))
    for wrong in ({"pattern": (4, 4, 4)}, {"week_start": "DAY"}, {"rule": "first"}):
        with pytest.raises(ConfigurationError):
            WeekCalendar(**wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("freq", "M"),
        ("fiscal_start", 2),
        ("fiscal_label", "start"),
        ("calendar", WeekCalendar()),
        ("probability", "stage"),
        ("category", "our_category"),
        ("category_names", {"Sure": "commit"}),
        ("rates", {"USD": 1.0, "EUR": 1.1}),
        ("currency", "EUR"),
        ("overdue", "include"),
    ],
)
def test_definitions__false_takes_away_what_was_stated_before(name: str, value: Any) -> None:
    """Any of them: a call says False where None would leave what the load carries."""
    plain = context(currency=None)
    stated = plain.with_definitions(**{name: value})
    assert stated.arguments != plain.arguments or name in ("rates", "currency")
    assert stated.with_definitions(**{name: None}) is stated
    without = stated.with_definitions(**{name: False})
    assert without.arguments == plain.arguments
    assert (without.money.currency, without.money.rates) == (None, None)


def test_forecast__false_takes_away_the_calendar_of_a_load() -> None:
    """Calendar months instead of the 4-4-5 periods that the file was adopted with."""
    rows = {"id": [1], "amount": [5], "probability": [50], "stage_name": ["Lead"], "close_date": ["2026-05-01T12:00Z"]}
    stages = StageMap(order=["Lead"], won=["Won"], lost=["Lost"])
    frame = opp.adopt(
        pd.DataFrame(rows), stages=stages, probability_unit="percent", as_of="2026-04-01", calendar=WeekCalendar()
    )
    assert frame.opp.forecast(freq="M").index.tolist() == ["FY2026-P05"]
    assert frame.opp.forecast(freq="M", calendar=False).index.tolist() == [pd.Period("2026-05", "M")]
