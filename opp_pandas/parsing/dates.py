"""Dates and times as people and spreadsheets write them, read into instants.

A date without a time is midnight, and a time without a zone is local, in the
zone of the load. Text is taken apart by pattern and checked against the
calendar, over the whole of the years 1 to 9999. Which number is the day is
never guessed: a column has to prove it, or somebody has to say it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.errors import named
from opp_pandas.parsing.reading import ANY, EXCEL, MISSING_WORDS, Ambiguity, Conventions, Reading, objects

if TYPE_CHECKING:
    import numpy.typing as npt

    Instants = npt.NDArray[np.datetime64]
    Mask = npt.NDArray[np.bool_]
    Integers = npt.NDArray[np.int64]

NOT_A_DATE = "must be a date such as 2026-12-31"
UNKNOWN_MONTH = "has a month that is not known here: write it like 2026-12-31"
NO_SUCH_DATE = "is no date of the calendar"
BARE_NUMBER = "must be a date, not a bare number; date_format='excel' reads serial days"
NO_SERIAL = "is no serial day that Excel counts after February 1900"
OUT_OF_RANGE = "is outside the years 1 to 9999 in UTC"

_FIRST = np.datetime64("0001-01-01", "us")
_LAST = np.datetime64("9999-12-31T23:59:59.999999", "us")
_MONTHS = {
    name: month
    for month, names in enumerate((
        "jan january januar januari janvier janv enero ene gennaio gen janeiro",
        "feb february februar februari fevrier fevr fev febrero febbraio fevereiro",
        "mar march marz mrz maart mrt mars marts marzo marco",
        "apr april avril avr abril abr aprile",
        "may mai mei maj mayo maggio mag maio",
        "jun june juni juin junio giugno giu junho",
        "jul july juli juillet juil julio luglio lug julho",
        "aug august augustus augusti aout agosto ago",
        "sep sept september septembre septiembre settembre set setembro",
        "oct october oktober okt octobre octubre ottobre ott outubro out",
        "nov november novembre noviembre novembro",
        "dec december dezember dez desember des decembre diciembre dic dicembre dezembro",
    ), 1)
    for name in names.split()
}  # fmt: skip
"""Months in ten languages, as `_folded` leaves their names."""
_MONTH_NAMES, _MONTH_NUMBERS = pa.array(_MONTHS, pa.large_string()), np.array([*_MONTHS.values()])
_WEEKDAY_NAMES = (
    "mon tue tues wed thu thur thurs fri sat sun monday tuesday wednesday thursday friday saturday sunday "
    "mo di mi do fr sa so montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag "
    "lun mar mer jeu ven sam dim lundi mardi mercredi jeudi vendredi samedi dimanche "
    "mie jue vie sab dom lunes martes miercoles jueves viernes sabado domingo "
    "gio lunedi martedi mercoledi giovedi venerdi sabato domenica "
    "seg ter qua qui sex segunda terca quarta quinta sexta "
    "ma wo vr za zo maandag dinsdag woensdag donderdag vrijdag zaterdag zondag man tis ons tor tors fre lor son "
    "mandag tisdag onsdag torsdag fredag lordag sondag tir tirsdag lør lørdag søn søndag"
)
_WEEKDAYS = pa.array(["", *_WEEKDAY_NAMES.split()], pa.large_string())
_TIME = (
    r"(?:t|,?\s+)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
    r"\s*(?P<half>[ap]\.?m\.?)?\s*(?P<zone>z|utc|gmt|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?"
)
_NAME = r"(?P<name>\pL{3,})"
_PATTERNS = tuple(
    rf"^(?i)(?:(?P<weekday>\pL+)(?:-feira)?[.,]*\s+(?:den\s+)?)?{date}(?:{_TIME})?$"
    for date in (
        r"(?P<year>\d{4})\s?[-/.年]\s?(?P<month>\d{1,2})\s?[-/.月]\s?(?P<day>\d{1,2})[.日]?",
        r"(?P<left>\d{1,2})\s?(?P<mark>[-/.])\s?(?P<right>\d{1,2})\s?[-/.]\s?(?P<year>\d{4}|\d{2})",
        rf"(?P<day>\d\d?)(?:st|nd|rd|th|er|º)?[-/\s.]+(?:de\s+)?{_NAME}[-/\s.,]+(?:de\s+)?(?P<year>\d{{4}}|\d\d)",
        rf"{_NAME}[\s.]+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[\s,]+(?P<year>\d{{4}}|\d{{2}})",
    )
)
_NAMED = re.compile(r"\d{1,2}\W+(?:de\s+)?([^\W\d_]{3,})\W+(?:de\s+)?(?:\d{4}|\d{2})(?:\W.{0,4})?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_EXCEL_START = np.datetime64("1899-12-30", "us")
_EXCEL_DAYS = (61, 2_958_466)  # Before March 1900, Excel counts a day that there was not.
_MICROSECONDS_A_DAY = 86_400_000_000

Order = Literal["dmy", "mdy", "ymd"]
_ORDERS: dict[Order, tuple[str, str]] = {
    "dmy": ("day first", "%d-%m-%y"), "mdy": ("month first", "%m-%d-%y"), "ymd": ("year first", "%y-%m-%d"),
}  # fmt: skip


def parse_dates(values: pd.Series, zone: str, conventions: Conventions = ANY) -> Reading:
    """Parse a column of dates and times into instants; midnight and times without a zone are in `zone`.

    Read are datetimes, dates and text, rounded to microseconds: files that went through binary fractions
    of a day hold 06:59:59.999999786 for seven o'clock. Years of two digits are those of 1969 to 2068, as
    `strptime` has it. What was refused and what has several readings is noted by position.

    Examples
    --------
    >>> dates = parse_dates(pd.Series(["12/31/2026", "03/04/2026", "Jan 5, 2027"]), "UTC")
    >>> dates.values.strftime("%Y-%m-%d").tolist()
    ['2026-12-31', '2026-03-04', '2027-01-05']
    >>> print(parse_dates(pd.Series(["03/04/2026"]), "UTC").unsettled[0])
    '03/04/2026' may be 2026-04-03 (dayfirst=True) or 2026-03-04 (dayfirst=False)
    >>> list(parse_dates(pd.Series([46387]), "UTC", Conventions(date_format="excel")).values)
    [Timestamp('2026-12-31 00:00:00+0000', tz='UTC')]
    """
    instants: Instants = np.full(len(values), np.datetime64("NaT", "us"))
    reading = Reading(instants)
    kind = values.dtype
    told = cast("str | None", conventions.date_format)
    if isinstance(kind, pd.DatetimeTZDtype):
        instants = _microseconds(values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy())
    elif isinstance(kind, np.dtype) and kind.kind == "M":
        instants, reading.notes = _to_utc(_microseconds(values.to_numpy()), zone)
    elif told is not None:
        _read_told(values, told, zone, conventions, instants, reading)
    elif pd.api.types.is_numeric_dtype(kind):
        reading.refused = {int(place): BARE_NUMBER for place in np.flatnonzero(values.notna())}
    else:
        _read_cells(values, zone, conventions, instants, reading)
    outside = ~np.isnat(instants) & ((instants < _FIRST) | (instants > _LAST))
    reading.refused.update({int(place): OUT_OF_RANGE for place in np.flatnonzero(outside)})
    instants = np.where(outside, np.datetime64("NaT", "us"), instants)
    reading.values = pd.DatetimeIndex(instants).tz_localize("UTC").array
    return reading


def parse_date(text: str, zone: str, conventions: Conventions = ANY) -> pd.Timestamp:
    """Parse one date or time; a ValueError says that it is none, or has several readings.

    Examples
    --------
    >>> parse_date("31.12.26", "Europe/Berlin")
    Timestamp('2026-12-30 23:00:00+0000', tz='UTC')
    """
    found = parse_dates(pd.Series([text], dtype="str"), zone, conventions)
    if pd.isna(found.values[0]):
        raise ValueError(found.unsettled[0].reason if found.unsettled else found.refused.get(0, NOT_A_DATE))
    return cast("pd.Timestamp", found.values[0])


def _read_told(
    values: pd.Series, told: str, zone: str, conventions: Conventions, instants: Instants, reading: Reading
) -> None:
    """Fill `instants` from cells of the format that was said; dates and datetimes need none."""
    formatted: dict[int, str] = {}
    rest: dict[int, Any] = {}
    for place, cell in enumerate(objects(values)):
        number = isinstance(cell, int | float | np.number) and not isinstance(cell, bool)
        text = f"{cell:.15g}" if number else cell.strip() if isinstance(cell, str) else None
        if text is not None and text.lower() not in MISSING_WORDS and (told != EXCEL or _NUMBER.fullmatch(text)):
            formatted[place] = text
        elif cell is not None:
            rest[place] = cell
    others = pd.Series([None] * len(values), dtype=object)
    for place, cell in rest.items():
        others.iat[place] = cell
    _read_cells(others, zone, conventions, instants, reading)
    if not formatted:
        return
    places = np.fromiter(formatted, dtype=np.int64)
    texts = pd.Series(list(formatted.values()), dtype="str")
    if told == EXCEL:
        serial = texts.astype("float64").to_numpy()
        fits = (serial >= _EXCEL_DAYS[0]) & (serial < _EXCEL_DAYS[1])
        # A serial day holds no more than milliseconds.
        milliseconds = np.round(np.where(fits, serial, 0) * (_MICROSECONDS_A_DAY / 1000)).astype("m8[ms]")
        local, reason = np.where(fits, _EXCEL_START + milliseconds, np.datetime64("NaT", "us")), NO_SERIAL
    else:
        codes, distinct = pd.factorize(texts)
        parsed = pd.to_datetime(pd.Series(distinct), format=told, errors="coerce", utc="%z" in told)
        once = parsed.dt.tz_localize(None) if "%z" in told else parsed
        local, reason = once.to_numpy().astype("M8[us]")[codes], f"is not written as {told}"
        if np.isnat(local).all():
            reading.contradiction = (
                f"date_format={told!r} was passed, and no cell is written so, as {texts[0]!r} is not"
            )
    reading.refused.update({int(place): reason for place in places[np.isnat(local)]})
    instants[places], notes = (local, []) if "%z" in told else _to_utc(local, zone)
    reading.notes += notes


def _microseconds(times: Any) -> Instants:
    """Round times to microseconds; only nanoseconds need it."""
    if np.datetime_data(times.dtype)[0] != "ns":
        return cast("Instants", times.astype("M8[us]"))
    whole = times.astype("M8[us]")
    return cast("Instants", whole + ((times - whole) >= np.timedelta64(500, "ns")).astype("m8[us]"))


def _read_cells(values: pd.Series, zone: str, conventions: Conventions, instants: Instants, reading: Reading) -> None:
    """Fill `instants` from text, or from Python objects of several kinds."""
    local: dict[int, Any] = {}
    if values.dtype == "str":
        texts = values.dropna()
        places = np.flatnonzero(values.notna())
    else:
        found: dict[int, str] = {}
        for place, cell in enumerate(objects(values)):
            if isinstance(cell, str):
                found[place] = cell
                continue
            if isinstance(cell, pd.Timestamp):
                cell = cell.round("us")
            if isinstance(cell, dt.datetime) and cell.tzinfo is not None:
                naive = np.datetime64(cell.replace(tzinfo=None), "us")
                instants[place] = naive - np.timedelta64(cast("dt.timedelta", cell.utcoffset()))
            elif isinstance(cell, dt.date | np.datetime64):
                local[place] = cell
            elif cell is not None:
                number = isinstance(cell, int | float | np.number)
                reading.refused[place] = BARE_NUMBER if number else NOT_A_DATE
        places = np.fromiter(found, dtype=np.int64, count=len(found))
        texts = pd.Series(list(found.values()), dtype="str")
    if local:
        converted, shifted = _to_utc(np.array(list(local.values()), dtype="M8[us]"), zone)
        instants[list(local)] = converted
        reading.notes += shifted
    if len(texts):
        _read_texts(texts, places, zone, conventions, instants, reading)


def _read_texts(
    texts: pd.Series, places: Integers, zone: str, conventions: Conventions, instants: Instants, reading: Reading
) -> None:
    # Days repeat: each distinct text is read once.
    codes, distinct = pd.factorize(texts.str.strip())
    parts = _Parts(pa.array(distinct, type=pa.large_string()))
    parts.resolve_order(conventions.dayfirst)
    naive, offsets, reasons = parts.assemble()
    converted = naive - np.nan_to_num(offsets).astype("m8[m]")
    floating = np.isnan(offsets) & ~np.isnat(naive)
    converted[floating], shifted = _to_utc(naive[floating], zone)
    reading.notes += [*parts.notes, *shifted]
    reading.contradiction = parts.contradiction
    instants[places] = converted[codes]
    for place, code in zip(places.tolist(), codes.tolist(), strict=True) if any(reasons) or parts.unsettled else ():
        if code in parts.unsettled:
            reading.unsettled[place] = parts.unsettled[code]
        elif reasons[code]:
            reading.refused[place] = reasons[code]


def _calendar(year: Integers, month: Integers, day: Integers) -> tuple[npt.NDArray[np.datetime64], Mask]:
    """Return days, and which of them the calendar has."""
    fits = (month >= 1) & (month <= 12) & (year >= 1) & (day >= 1)
    months = np.where(fits, (year - 1970) * 12 + month - 1, 0).astype("M8[M]")
    days = months.astype("M8[D]") + (day - 1).astype("m8[D]")
    return days, fits & (days.astype("M8[M]") == months)


def _full_year(year: Integers, short: Mask) -> Integers:
    return np.where(short, year + np.where(year < 69, 2000, 1900), year)


class _Parts:
    """Distinct texts taken apart: year, month, day, time and zone as integers."""

    def __init__(self, texts: pa.Array) -> None:
        # Spaces that do not break, as clocks and locales put them.
        self.texts = pc.replace_substring_regex(texts, r"[\x{A0}\x{2009}\x{202F}]", " ")
        count = len(texts)
        self.fields = {
            name: np.zeros(count, dtype=np.int64)
            for name in ("year", "month", "day", "left", "right", "hour", "minute", "second", "microsecond")
        }
        self.short = np.zeros(count, dtype=bool)
        self.dashed = np.zeros(count, dtype=bool)
        self.notes: list[str] = []
        self.unsettled: dict[int, Ambiguity] = {}
        self.contradiction = ""
        self.offset = np.full(count, np.nan)
        self.matched = np.zeros(count, dtype=bool)
        self.numeric = np.zeros(count, dtype=bool)
        self.half: npt.NDArray[np.object_] = np.full(count, "", dtype=object)
        for pattern in _PATTERNS:
            self._match(pattern)

    def _match(self, pattern: str) -> None:
        groups = pc.extract_regex(self.texts, pattern)
        known = pc.is_in(_folded(pc.struct_field(groups, "weekday")), _WEEKDAYS)
        if "?P<name>" in pattern:
            known = pc.and_(known, pc.is_in(_folded(pc.struct_field(groups, "name")), _MONTH_NAMES))
        hits = np.flatnonzero(known.to_numpy(zero_copy_only=False) & ~self.matched)
        if not len(hits):
            return
        self.matched[hits] = True
        taken = groups.take(pa.array(hits))
        text = {child.name: taken.field(place) for place, child in enumerate(groups.type)}
        for name in ("year", "month", "day", "left", "right", "hour", "minute", "second"):
            if name in text:
                self.fields[name][hits] = _whole(text[name])
        if "name" in text:
            places = pc.index_in(_folded(text["name"]), _MONTH_NAMES)
            self.fields["month"][hits] = _MONTH_NUMBERS[places.to_numpy()]
        if "left" in text:
            self.numeric[hits] = True
            self.dashed[hits] = pc.equal(text["mark"], "-").to_numpy(zero_copy_only=False)
        self.short[hits] = pc.equal(pc.utf8_length(text["year"]), 2).to_numpy(zero_copy_only=False)
        digits = _whole(pc.utf8_rpad(pc.utf8_slice_codeunits(text["fraction"], 0, 7), 7, "0"))
        self.fields["microsecond"][hits] = (digits + 5) // 10
        self.half[hits] = pc.utf8_lower(pc.utf8_slice_codeunits(text["half"], 0, 1)).to_numpy(zero_copy_only=False)
        self.offset[hits] = _minutes_east(text["zone"])

    def resolve_order(self, dayfirst: bool | None) -> None:
        """Decide which of the numbers is the day, by what was said or by what the column proves."""
        left, right, third = (self.fields[name] for name in ("left", "right", "year"))
        year = _full_year(third, self.short)
        parts: dict[Order, tuple[Integers, Integers, Integers]] = {
            "dmy": (year, right, left),
            "mdy": (year, left, right),
            # As 26-12-31; with points and strokes nobody begins with a short year.
            "ymd": (_full_year(left, self.short), right, third),
        }
        days: dict[Order, npt.NDArray[np.datetime64]] = {}
        fits: dict[Order, Mask] = {}
        for order, each in parts.items():
            days[order], valid = _calendar(*each)
            fits[order] = valid & self.numeric & ((order != "ymd") | (self.short & self.dashed))
        allowed: list[Order] = [order for order in parts if dayfirst is None or (order == "dmy") == dayfirst]
        ways = np.sum([fits[order] for order in allowed], axis=0)
        if dayfirst is not None:
            self._check_told(dayfirst, fits, ways > 0)
        proofs = {order: fits[order] & (ways == 1) for order in allowed}
        proven = [order for order in allowed if proofs[order].any()]
        settled: Order | None = proven[0] if len(proven) == 1 else None
        chosen = np.full(len(left), "", dtype=object)
        for order in (*allowed, *([settled] if settled else [])):
            chosen[fits[order] & ((chosen == "") | (order == settled))] = order
        doubtful = np.zeros(len(left), dtype=bool)
        for order in allowed:
            for other in allowed:
                doubtful |= fits[order] & fits[other] & (days[order] != days[other])
        if settled is not None:
            if (doubtful & fits[settled]).any():
                proof = named(self.texts.take(pa.array(np.flatnonzero(proofs[settled])[:1])).to_pylist())
                self.notes.append(f"dates were read {_ORDERS[settled][0]}, as {proof} proves")
            doubtful &= ~fits[settled]
        for code in np.flatnonzero(doubtful).tolist():
            self._doubt(code, {order: days[order][code] for order in allowed if fits[order][code]})
        for order, each in parts.items():
            rows = (chosen == order) & ~doubtful
            for name, numbers in zip(("year", "month", "day"), each, strict=True):
                self.fields[name] = np.where(rows, numbers, self.fields[name])
            self.short &= ~rows

    def _check_told(self, dayfirst: bool, fits: Mapping[Order, Mask], possible: Mask) -> None:
        """Find out whether the dates prove the contrary of what was said, and none of them proves it."""
        elsewhere = np.any([mask for order, mask in fits.items() if (order == "dmy") != dayfirst], axis=0)
        contrary = elsewhere & ~possible
        if contrary.any() and not (possible & ~elsewhere).any():
            first = self.texts[int(np.flatnonzero(contrary)[0])].as_py()
            self.contradiction = f"dayfirst={dayfirst} was passed, and the column proves the contrary with {first!r}"

    def _doubt(self, code: int, days: Mapping[Order, np.datetime64]) -> None:
        by_format = self.short[code] and self.dashed[code]
        readings = {
            str(day): {"date_format": _ORDERS[order][1]} if by_format else {"dayfirst": order == "dmy"}
            for order, day in reversed(list(days.items()))
        }
        self.unsettled[code] = Ambiguity(self.texts[code].as_py(), tuple(reversed(list(readings.items()))))

    def assemble(self) -> tuple[Instants, npt.NDArray[np.float64], list[str]]:
        """Return local times, offsets [minutes east, NaN where none] and the reason of each refusal ("" if none)."""
        part = self.fields
        hour = np.where(
            self.half == "", part["hour"], part["hour"] % 12 + np.where(self.half == "p", 12, 0)
        )  # 12 a.m. is midnight
        clock_fits = (hour < 24) & (part["minute"] < 60) & (part["second"] < 60)
        clock_fits &= (self.half == "") | ((part["hour"] >= 1) & (part["hour"] <= 12))
        days, in_calendar = _calendar(_full_year(part["year"], self.short), part["month"], part["day"])
        fits = self.matched & in_calendar & clock_fits
        seconds = (hour * 60 + part["minute"]) * 60 + part["second"]
        naive = days.astype("M8[us]") + (seconds * 1_000_000 + part["microsecond"]).astype("m8[us]")
        naive[~fits] = np.datetime64("NaT", "us")
        words = self.texts.to_pylist()
        reasons = [
            "" if good or word.lower() in MISSING_WORDS else NO_SUCH_DATE if matched else _why_not(word)
            for good, matched, word in zip(fits, self.matched, words, strict=True)
        ]
        return naive, self.offset, reasons


def _why_not(word: str) -> str:
    if _NUMBER.fullmatch(word):
        return BARE_NUMBER
    return UNKNOWN_MONTH if _NAMED.fullmatch(word) else NOT_A_DATE


def _folded(names: pa.Array) -> pa.Array:
    """Lower case without accents, as the months and weekdays stand above."""
    return pc.replace_substring_regex(pc.utf8_normalize(pc.utf8_lower(names), "NFD"), r"\p{Mn}", "")


def _whole(texts: pa.Array) -> Integers:
    """Digits as integers, nothing as 0."""
    filled = pc.if_else(pc.equal(texts, ""), "0", texts)
    return np.asarray(filled.cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)


def _minutes_east(zones: pa.Array) -> npt.NDArray[np.float64]:
    distinct, codes = np.unique(zones.to_numpy(zero_copy_only=False).astype(str), return_inverse=True)

    def minutes(zone: str) -> float:
        if not zone:
            return float("nan")
        if zone[0] not in "+-":
            return 0.0
        size = int(zone[1:3]) * 60 + int(zone[3:].replace(":", "") or 0)
        return float(-size if zone[0] == "-" else size)

    return np.array([minutes(zone) for zone in distinct], dtype=np.float64)[codes]


def _to_utc(local: Instants, zone: str) -> tuple[Instants, list[str]]:
    """Return the instants of local times.

    A time that clocks skip becomes the first one after the gap, so that a day
    without a midnight starts when it starts; of an hour that clocks repeat, the
    first is taken, and the notes count such times.
    """
    if zone == "UTC" or not len(local):
        return local, []
    # pandas reckons no zones at the very ends of the calendar; Python's own offsets serve there.
    margin = np.timedelta64(2, "D")
    edge = ~np.isnat(local) & ((local < _FIRST + margin) | (local > _LAST - margin))
    instants = local.copy()
    inner = pd.DatetimeIndex(local[~edge])
    first = inner.tz_localize(zone, ambiguous=np.ones(len(inner), dtype=bool), nonexistent="shift_forward")
    second = inner.tz_localize(zone, ambiguous=np.zeros(len(inner), dtype=bool), nonexistent="shift_forward")
    instants[~edge] = first.tz_convert("UTC").tz_localize(None).to_numpy(dtype="M8[us]")
    for place in np.flatnonzero(edge):
        moment: dt.datetime = local[place].astype(object)
        if isinstance(moment, dt.datetime):
            offset = moment.replace(tzinfo=ZoneInfo(zone)).utcoffset()
            instants[place] = local[place] - np.timedelta64(cast("dt.timedelta", offset))
    repeated = int(np.count_nonzero(first.asi8 != second.asi8))
    if not repeated:
        return instants, []
    return instants, [f"{repeated:,} times stand in an hour that clocks repeat in {zone}; the first was taken"]
