"""Periods: months, quarters, years and weeks, plain, fiscal or 4-4-5."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, named
from opp_pandas.figures.core.days import NO_DAY, NO_INSTANT, Codes, Days, Flags, Floats, Integers, parse_day, to_date

_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


@dataclass(frozen=True)
class WeekCalendar:
    """A fiscal year of whole weeks, cut into periods of 4, 4 and 5 weeks or the like.

    Parameters
    ----------
    pattern : tuple of int, default (4, 4, 5)
        Weeks of the three periods of each quarter; 13 in all. The 53rd week of
        a long year belongs to its last period.
    week_start : {"MON", ..., "SUN"}, default "SUN"
        First day of a week.
    rule : {"last", "nearest"}, default "last"
        The year begins on the last such weekday on or before the first of the
        month in which the fiscal year starts (so it ends on the last Saturday
        of the month before), or on the one nearest to it.
    starts : mapping of int to str, optional
        First day of single years, by the calendar year in which they start,
        where a company's own table departs from the rule.

    Examples
    --------
    >>> from opp_pandas.figures import WeekCalendar
    >>> weeks = df.opp.forecast(calendar=WeekCalendar((4, 4, 5), week_start="MON"), fiscal_start=2, freq="M")
    >>> weeks[weeks["open_count"] > 0].index[:2].tolist()
    ['FY2027-P08', 'FY2027-P10']
    """

    pattern: tuple[int, int, int] = (4, 4, 5)
    week_start: str = "SUN"
    rule: Literal["last", "nearest"] = "last"
    starts: Mapping[int, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if len(self.pattern) != 3 or sum(self.pattern) != 13 or min(self.pattern) < 1:
            raise ConfigurationError(f"pattern must be three numbers of weeks that make 13, not {self.pattern!r}")
        if self.week_start not in _WEEKDAYS:
            raise ConfigurationError(f"week_start must be one of {named(_WEEKDAYS, 7)}, not {self.week_start!r}")
        if self.rule not in ("last", "nearest"):
            raise ConfigurationError(f"rule must be 'last' or 'nearest', not {self.rule!r}")

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> WeekCalendar:
        """Make the calendar again of its fields, as JSON keeps them."""
        starts = {int(year): day for year, day in facts["starts"].items()}
        return cls(**{**facts, "pattern": tuple(facts["pattern"]), "starts": starts})

    def year_start(self, year: int, fiscal_start: int) -> int:
        """Find the first day of the fiscal year that starts around `fiscal_start` of `year`."""
        if year in self.starts:
            return parse_day(self.starts[year])
        first = int(np.datetime64(f"{year:04d}-{fiscal_start:02d}-01", "D").astype(np.int64))
        # 1970-01-01 was a Thursday, weekday 3.
        back = (first + 3 - _WEEKDAYS.index(self.week_start)) % 7
        return first - back if self.rule == "last" or back <= 3 else first - back + 7


_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_PER_YEAR = {"Y": 1, "Q": 4, "M": 12}
_LENGTHS = "DWMQY"
"""Units of periods, the shortest first."""
_TEXT = {
    unit: re.compile(r"(?:FY)?(\d{4})" + ("" if unit == "Y" else rf"[- ]?{letter}(\d{{1,2}})"))
    for unit, letter in {"Y": "", "Q": "Q", "M": "P", "W": "W"}.items()
}
"""How periods are written whose labels are text."""


@dataclass(frozen=True)
class Periods:
    """How days are cut into periods: settled on construction; `resolve_periods` says what each argument means."""

    freq: str = "Q"
    fiscal_start: int = 1
    fiscal_label: Literal["end", "start"] = "end"
    calendar: WeekCalendar | None = None

    def __post_init__(self) -> None:
        start: Any = self.fiscal_start
        if isinstance(start, bool) or not isinstance(start, int | np.integer) or not 1 <= start <= 12:
            raise ConfigurationError(f"fiscal_start is the number of a month, 1 to 12, not {start!r}")
        if self.fiscal_label not in ("end", "start"):
            raise ConfigurationError(f"fiscal_label must be 'end' or 'start', not {self.fiscal_label!r}")
        if self.calendar is not None and not isinstance(self.calendar, WeekCalendar):
            raise ConfigurationError(
                f"calendar must be a WeekCalendar, such as WeekCalendar((4, 4, 5)), not {self.calendar!r}"
            )
        head, _, tail = str(self.freq).upper().partition("-")
        unit = {"ME": "M", "MS": "M", "QE": "Q", "QS": "Q", "YE": "Y", "YS": "Y", "A": "Y"}.get(head, head)
        if unit not in ("M", "Q", "Y", "W") or (tail and tail not in (*_MONTH_NAMES, *_WEEKDAYS)):
            raise ConfigurationError(f"freq must be 'M', 'Q', 'Y' or 'W' (or like 'Q-JAN'), not {self.freq!r}")
        if tail in _MONTH_NAMES and unit in ("Q", "Y"):
            stated = (_MONTH_NAMES.index(tail) + 1) % 12 + 1
            if start not in (1, stated):
                raise ConfigurationError(
                    f"freq={self.freq!r} starts the year in month {stated}, fiscal_start says {start}"
                )
            start = stated
        elif tail and not (tail in _WEEKDAYS and unit == "W"):
            raise ConfigurationError(f"freq={self.freq!r}: {tail} does not fit {unit}")
        object.__setattr__(self, "freq", f"W-{tail or 'SUN'}" if unit == "W" else unit)
        object.__setattr__(self, "fiscal_start", int(start))

    def but(self, **options: Any) -> Periods:
        """Return the same with what is stated otherwise; None leaves it as it is, False is as if nobody stated it.

        Examples
        --------
        >>> Periods(fiscal_start=2).but(freq="M", calendar=None)
        Periods(freq='M', fiscal_start=2, fiscal_label='end', calendar=None)
        """
        stated = read_stated(self, options)
        freq = stated.get("freq")
        if isinstance(freq, str) and freq.upper()[-3:] in _MONTH_NAMES:
            # An alias that says where the year ends overrules what was stated before.
            stated.setdefault("fiscal_start", 1)
        return replace(self, **stated) if stated else self

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Periods:
        """Make the periods again that `to_dict` wrote down, among other facts."""
        calendar = facts["calendar"]
        own = {each.name: facts[each.name] for each in fields(cls)}
        return cls(**own | {"calendar": None if calendar is None else WeekCalendar.from_dict(calendar)})

    def to_dict(self) -> dict[str, Any]:
        """Write the cut down for a basis; JSON keeps it."""
        return asdict(self)

    @property
    def unit(self) -> str:
        """Length of one period: M, Q, Y or W."""
        return self.freq[0]

    @cached_property
    def alias(self) -> str:
        """The pandas alias of the period, such as ``Q-JAN``."""
        last_month = _MONTH_NAMES[(self.fiscal_start - 2) % 12]
        return f"{self.freq}-{last_month}" if self.unit in ("Q", "Y") else self.freq

    @property
    def words(self) -> str:
        """The cut as words for a basis."""
        if self.calendar is not None:
            weeks = "-".join(str(weeks) for weeks in self.calendar.pattern)
            return f"{self.unit} of a {weeks} calendar, year from {_MONTH_NAMES[self.fiscal_start - 1].title()}"
        return self.alias if self.fiscal_label == "end" else f"{self.alias}, years named after their start"

    @property
    def _as_text(self) -> bool:
        """Whether labels are text: pandas names fiscal years after their end, and knows no 4-4-5."""
        renamed = self.fiscal_label == "start" and self.fiscal_start > 1 and self.unit in ("Q", "Y")
        return self.calendar is not None or renamed

    def ordinals(self, days: npt.NDArray[Any]) -> Integers:
        """Return the number of every day's period; consecutive periods have consecutive numbers."""
        if self.calendar is not None:
            return self._week_ordinals(np.asarray(days, dtype=np.int64))
        moments = pd.DatetimeIndex(np.asarray(days).astype("datetime64[D]").astype("datetime64[s]"))
        return np.asarray(moments.to_period(self.alias).asi8)

    def starts(self, ordinals: npt.NDArray[Any]) -> Integers:
        """Find the first day of every period."""
        if self.calendar is not None:
            return np.array([self._week_span(int(ordinal))[0] for ordinal in ordinals], dtype=np.int64)
        return np.asarray(_period_index(ordinals, self.alias).asfreq("D", "S").asi8)

    def ends(self, ordinals: npt.NDArray[Any]) -> Integers:
        """Find the last day of every period."""
        return self.starts(np.asarray(ordinals) + 1) - 1

    def of_day(self, day: int) -> int:
        """Return the number of a day's period."""
        return int(self.ordinals(np.array([day]))[0])

    def span(self, ordinal: int) -> tuple[int, int]:
        """Return the first and the last day of a period."""
        first, after = self.starts(np.array([ordinal, ordinal + 1]))
        return int(first), int(after) - 1

    def span_of(self, label: object) -> tuple[int, int]:
        """Return the first and the last day of a period as people write it."""
        return self.span(self.parse(label))

    def label(self, ordinal: int) -> Any:
        """Name one period."""
        return self.labels(np.array([ordinal]))[0]

    def labels(self, ordinals: npt.NDArray[Any], missing: bool = False) -> pd.Index:
        """Name the periods: a PeriodIndex, or text where pandas has no such period; `missing` adds a last one."""
        if self._as_text:
            texts: list[Any] = [self._text(int(ordinal)) for ordinal in ordinals]
            return pd.Index([*texts, np.nan] if missing else texts, dtype="str", name="period")
        numbers = np.append(np.asarray(ordinals, dtype=np.int64), NO_INSTANT) if missing else np.asarray(ordinals)
        return _period_index(numbers, self.alias)

    def parse(self, label: object) -> int:
        """Read one period as people write it (``2026Q4``, a Period, a day in it) and give its number.

        A longer span, such as a year where quarters are asked for, names no period.
        """
        try:
            if self.unit == "Y" and isinstance(label, int | np.integer) and not isinstance(label, bool):
                label = f"{label:04d}"
            if isinstance(label, str) and not _DAY.fullmatch(label.strip()):
                if self._as_text:
                    return self._parse_text(label)
                own, period = pd.Period(label), pd.Period(label, freq=self.alias)
                # pandas would take a year for its first quarter.
                if _LENGTHS.find(own.freqstr[0]) > _LENGTHS.find(self.unit):
                    raise ValueError(label)
                return period.ordinal
            if isinstance(label, pd.Period):
                # Years of whole weeks are not those of pandas.
                if self.calendar is not None or label.freqstr != self.alias:
                    raise ValueError(label)
                return label.ordinal
            return self.of_day(parse_day(label))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # AttributeError: to pandas "" and "nan" are periods that are missing.
            example = self.label(self.of_day(20_454))
            raise ConfigurationError(
                f"{named([str(label)])} is not a period of {self.words}; write it like {str(example)!r}"
            ) from error

    def _parse_text(self, label: str) -> int:
        written = _TEXT[self.unit].fullmatch(label.strip().upper())
        if written is None:
            raise ValueError(label)
        year = int(written[1])
        part = int(written[2]) if self.unit != "Y" else 1
        start_year = year - (1 if self.fiscal_label == "end" and self.fiscal_start > 1 else 0)
        if self.calendar is None:
            month = (self.fiscal_start - 1) + (part - 1) * (12 // _PER_YEAR[self.unit])
            day = np.datetime64(f"{start_year + month // 12:04d}-{month % 12 + 1:02d}-01", "D")
            ordinal = self.of_day(int(day.astype(np.int64)))
        elif self.unit == "W":
            first = self.calendar.year_start(start_year, self.fiscal_start)
            ordinal = (first - self._week_epoch) // 7 + part - 1
        else:
            ordinal = start_year * _PER_YEAR[self.unit] + part - 1
        if self._text(ordinal) != self._text_of(year, part):
            raise ValueError(label)
        return ordinal

    def _text_of(self, year: int, part: int) -> str:
        if self.calendar is None:
            return f"{year:04d}" if self.unit == "Y" else f"{year:04d}Q{part}"
        return f"FY{year:04d}" + {"Y": "", "Q": f"-Q{part}", "M": f"-P{part:02d}", "W": f"-W{part:02d}"}[self.unit]

    def _text(self, ordinal: int) -> str:
        shift = 1 if self.fiscal_label == "end" and self.fiscal_start > 1 else 0
        if self.calendar is None:
            # pandas counts fiscal years by their end; a year that starts in February 2026 ends in 2027.
            period = pd.Period(ordinal=ordinal, freq=self.alias)
            return self._text_of(period.qyear - 1 if self.unit == "Q" else period.year - 1, period.quarter)
        if self.unit == "W":
            day = self._week_epoch + 7 * ordinal
            year = self._start_year(day)
            week = (day - self.calendar.year_start(year, self.fiscal_start)) // 7
            return self._text_of(year + shift, week + 1)
        year, part = divmod(ordinal, _PER_YEAR[self.unit])
        return self._text_of(year + shift, part + 1)

    @property
    def _week_epoch(self) -> int:
        assert self.calendar is not None  # noqa: S101
        # 1970-01-05 was a Monday.
        return 4 + _WEEKDAYS.index(self.calendar.week_start)

    def _start_year(self, day: int) -> int:
        """Find the calendar year in which the whole-week year of `day` starts."""
        assert self.calendar is not None  # noqa: S101
        year = int(np.datetime64(int(day), "D").astype("datetime64[Y]").astype(np.int64)) + 1970
        while self.calendar.year_start(year, self.fiscal_start) > day:
            year -= 1
        while self.calendar.year_start(year + 1, self.fiscal_start) <= day:
            year += 1
        return year

    def _boundaries(self, year: int) -> list[int]:
        """Return the first days of the twelve periods of a whole-week year, and of the year after."""
        assert self.calendar is not None  # noqa: S101
        first, after = (self.calendar.year_start(own, self.fiscal_start) for own in (year, year + 1))
        # A table that departs from the rule by a week makes years of 51 to 54 weeks.
        if not 51 * 7 <= after - first <= 54 * 7:
            raise ConfigurationError(
                f"the fiscal year from {to_date(first):%Y-%m-%d} would have {(after - first) / 7:.3g} weeks: "
                f"starts= of the calendar and fiscal_start={self.fiscal_start} do not fit together"
            )
        weeks = np.cumsum([0, *(self.calendar.pattern * 4)[:-1]])
        return [*(first + 7 * weeks).tolist(), after]

    def _week_span(self, ordinal: int) -> tuple[int, int]:
        if self.unit == "W":
            first = self._week_epoch + 7 * ordinal
            return first, first + 7
        periods = 12 // _PER_YEAR[self.unit]
        year, part = divmod(ordinal * periods, 12)
        bounds = self._boundaries(year)
        return bounds[part], bounds[part + periods]

    def _week_ordinals(self, days: Integers) -> Integers:
        if self.unit == "W":
            return (days - self._week_epoch) // 7
        distinct, inverse = np.unique(days, return_inverse=True)
        per_year, found = _PER_YEAR[self.unit], []
        for day in distinct.tolist():
            year = self._start_year(day)
            month = int(np.searchsorted(self._boundaries(year), day, side="right")) - 1
            found.append(year * per_year + month * per_year // 12)
        return np.array(found, dtype=np.int64)[inverse]

    def cut(self, days: Days) -> tuple[Codes, Integers]:
        """Code the period of every day; gives the codes and the ordinals of the periods that they are places in.

        These run from the first to the last day's, in time order; if that is more than a
        century, only those that occur. A missing day has the place one past their end.
        """
        if not len(days) or int(days.max()) == NO_DAY:
            return np.zeros(len(days), dtype=np.intp), np.empty(0, dtype=np.int64)
        low, high = int(days.min()), int(days.max())
        whole = low != NO_DAY
        if not whole:
            low = int(days[days != NO_DAY].min())
        span = high - low + 1
        # Look-ups take 64-bit places; numpy would convert narrower ones again at each.
        offsets = days.astype(np.intp)
        offsets -= low
        if not whole:
            offsets[days == NO_DAY] = span
        if span <= 40_000:
            present = np.arange(span)
        else:
            # A date of year 9999 must not bring eight thousand empty years along.
            occurs = np.zeros(span + 1, dtype=bool)
            occurs[offsets] = True
            present = np.flatnonzero(occurs[:span])
        ordinals, inverse = np.unique(self.ordinals(present + low), return_inverse=True)
        table = np.full(span + 1, len(ordinals), dtype=np.intp)
        table[present] = inverse
        return table.take(offsets), ordinals

    def near_an_end(self, days: Days, hours: Floats) -> Flags:
        """Return which times (a day in UTC and its hour) lie so near a period's end that a zone could move them.

        Zones lie between 12 hours behind UTC and 14 ahead: 14 hours before the
        end and after the start of a period.
        """
        near = np.zeros(len(days), dtype=bool)
        known = np.flatnonzero((days != NO_DAY) & ~np.isnan(hours))
        distinct, place = np.unique(days[known], return_inverse=True)
        own = self.ordinals(distinct)
        last, first = (self.ordinals(distinct + step) != own for step in (1, -1))
        near[known] = (last[place] & (hours[known] >= 10)) | (first[place] & (hours[known] < 14))
        return near


def _period_index(ordinals: npt.NDArray[Any], alias: str) -> pd.PeriodIndex:
    numbers = np.asarray(ordinals, dtype=np.int64)
    index: pd.PeriodIndex = pd.PeriodIndex.from_ordinals(numbers, freq=alias, name="period")  # type: ignore[attr-defined]
    return index


def resolve_periods(
    freq: str = "Q",
    *,
    fiscal_start: int = 1,
    fiscal_label: Literal["end", "start"] = "end",
    calendar: WeekCalendar | None = None,
) -> Periods:
    """Settle how days are cut into periods.

    Parameters
    ----------
    freq : str, default "Q"
        ``M``, ``Q``, ``Y`` or ``W``, or a pandas alias that says where the
        fiscal year or the week ends: ``Q-JAN``, ``Y-JUN``, ``W-SAT``.
    fiscal_start : int, default 1
        Month in which the fiscal year starts (1-12).
    fiscal_label : {"end", "start"}, default "end"
        Whether a fiscal year bears the calendar year in which it ends or starts.
    calendar : WeekCalendar, optional
        Years of whole weeks (4-4-5).

    Returns
    -------
    Periods

    Raises
    ------
    ConfigurationError
        If an argument is none of these, or `freq` and `fiscal_start` contradict.

    Examples
    --------
    >>> resolve_periods("Q", fiscal_start=2).alias
    'Q-JAN'
    >>> resolve_periods("Q", fiscal_start=2, fiscal_label="start").labels(np.array([228]))[0]
    '2026Q1'
    """
    return Periods(freq, fiscal_start, fiscal_label, calendar)


def read_stated(spec: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stated of the fields of a spec: nothing for None, the field's default for False."""
    defaults = {field.name: field.default for field in fields(spec)}
    return {name: defaults[name] if value is False else value for name, value in options.items() if value is not None}
