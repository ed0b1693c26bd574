"""Dates and times of somebody else's file, read into instants.

A date without a time is midnight, and a time without a zone is local, in the
zone of the load. Text is taken apart by pattern and checked against the
calendar, over the whole of the years 1 to 9999; what is no date is refused.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.adoption.cells import MISSING_WORDS, Reading, objects
from opp_pandas.errors import ConfigurationError, named

if TYPE_CHECKING:
    import numpy.typing as npt

    Instants = npt.NDArray[np.datetime64]
    Mask = npt.NDArray[np.bool_]
    Integers = npt.NDArray[np.int64]

NOT_A_DATE = "must be a date such as 2026-12-31"
NO_SUCH_DATE = "is no date of the calendar"
BARE_NUMBER = "must be a date, not a bare number"
OUT_OF_RANGE = "is outside the years 1 to 9999 in UTC"

_FIRST = np.datetime64("0001-01-01", "us")
_LAST = np.datetime64("9999-12-31T23:59:59.999999", "us")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_NAMES = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_TIME = (
    r"(?:[Tt]|,?\s+)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?P<zone>[Zz]|UTC|GMT|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?"
)
_PATTERNS = (
    rf"^(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}})(?:{_TIME})?$",
    rf"^(?P<left>\d{{1,2}})[-/.](?P<right>\d{{1,2}})[-/.](?P<year>\d{{4}})(?:{_TIME})?$",
    rf"^(?i)(?P<day>\d{{1,2}})[-\s.]+(?P<name>{_MONTH_NAMES})[-\s.,]+(?P<year>\d{{4}})(?:{_TIME})?$",
    rf"^(?i)(?P<name>{_MONTH_NAMES})[\s.]+(?P<day>\d{{1,2}})[\s,]+(?P<year>\d{{4}})(?:{_TIME})?$",
)


def read_instants(values: pd.Series, zone: str, dayfirst: bool | None) -> Reading:
    """Read dates and times as instants.

    Parameters
    ----------
    values : Series, shape (n,)
        Datetimes with or without a zone, dates, or text, rounded to
        microseconds: files that went through binary fractions of a day hold
        06:59:59.999999786 for seven o'clock.
    zone : str
        The zone of midnight and of times without one.
    dayfirst : bool or None
        Whether 03/04/2026 is the third of April. None: what the column proves.

    Returns
    -------
    Reading
        ``datetime64[us, UTC]``.

    Raises
    ------
    ConfigurationError
        If `dayfirst` is None and the column holds dates that read both ways.
    """
    instants: Instants = np.full(len(values), np.datetime64("NaT", "us"))
    refused: dict[int, str] = {}
    notes: list[str] = []
    known = np.flatnonzero(values.notna())
    kind = values.dtype
    if isinstance(kind, pd.DatetimeTZDtype):
        instants = _microseconds(values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy())
    elif isinstance(kind, np.dtype) and kind.kind == "M":
        instants, shifted = _to_utc(_microseconds(values.to_numpy()), zone)
        notes += shifted
    elif pd.api.types.is_numeric_dtype(kind):
        refused = {int(place): BARE_NUMBER for place in known}
    else:
        _read_cells(values, zone, dayfirst, instants, refused, notes)
    outside = ~np.isnat(instants) & ((instants < _FIRST) | (instants > _LAST))
    refused.update({int(place): OUT_OF_RANGE for place in np.flatnonzero(outside)})
    instants = np.where(outside, np.datetime64("NaT", "us"), instants)
    return Reading(pd.DatetimeIndex(instants).tz_localize("UTC").array, refused, {}, notes)


def _microseconds(times: Any) -> Instants:
    """Round times to microseconds; only nanoseconds need it."""
    if np.datetime_data(times.dtype)[0] != "ns":
        return cast("Instants", times.astype("M8[us]"))
    whole = times.astype("M8[us]")
    return cast("Instants", whole + ((times - whole) >= np.timedelta64(500, "ns")).astype("m8[us]"))


def _read_cells(
    values: pd.Series, zone: str, dayfirst: bool | None, instants: Instants, refused: dict[int, str], notes: list[str]
) -> None:
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
                refused[place] = BARE_NUMBER if number else NOT_A_DATE
        places = np.fromiter(found, dtype=np.int64, count=len(found))
        texts = pd.Series(list(found.values()), dtype="str")
    if local:
        converted, shifted = _to_utc(np.array(list(local.values()), dtype="M8[us]"), zone)
        instants[list(local)] = converted
        notes += shifted
    if len(texts):
        _read_texts(texts, places, zone, dayfirst, instants, refused, notes)


def _read_texts(
    texts: pd.Series,
    places: Integers,
    zone: str,
    dayfirst: bool | None,
    instants: Instants,
    refused: dict[int, str],
    notes: list[str],
) -> None:
    # Days repeat: each distinct text is read once.
    codes, distinct = pd.factorize(texts.str.strip())
    parts = _Parts(pa.array(distinct, type=pa.large_string()))
    notes += parts.resolve_day_and_month(dayfirst)
    naive, offsets, reasons = parts.assemble()
    converted = naive - np.nan_to_num(offsets).astype("m8[m]")
    floating = np.isnan(offsets) & ~np.isnat(naive)
    converted[floating], shifted = _to_utc(naive[floating], zone)
    notes += shifted
    instants[places] = converted[codes]
    refused.update(
        {int(place): reasons[code] for place, code in zip(places, codes, strict=True) if reasons[code]}
        if any(reasons)
        else {}
    )


class _Parts:
    """Distinct texts taken apart: year, month, day, time and zone as integers."""

    def __init__(self, texts: pa.Array) -> None:
        self.texts = texts
        count = len(texts)
        self.fields = {
            name: np.zeros(count, dtype=np.int64)
            for name in ("year", "month", "day", "left", "right", "hour", "minute", "second", "microsecond")
        }
        self.offset = np.full(count, np.nan)
        self.matched = np.zeros(count, dtype=bool)
        self.numeric = np.zeros(count, dtype=bool)
        self.half: npt.NDArray[np.object_] = np.full(count, "", dtype=object)
        for pattern in _PATTERNS:
            self._match(pattern)

    def _match(self, pattern: str) -> None:
        groups = pc.extract_regex(self.texts, pattern)
        hits = np.flatnonzero(groups.is_valid().to_numpy(zero_copy_only=False) & ~self.matched)
        if not len(hits):
            return
        self.matched[hits] = True
        taken = groups.take(pa.array(hits))
        text = {child.name: taken.field(place) for place, child in enumerate(groups.type)}
        for name in ("year", "month", "day", "left", "right", "hour", "minute", "second"):
            if name in text:
                self.fields[name][hits] = _whole(text[name])
        if "name" in text:
            short = pc.utf8_lower(pc.utf8_slice_codeunits(text["name"], 0, 3))
            self.fields["month"][hits] = pc.index_in(short, pa.array(_MONTHS, type=short.type)).to_numpy() + 1
        if "left" in text:
            self.numeric[hits] = True
        digits = _whole(pc.utf8_rpad(pc.utf8_slice_codeunits(text["fraction"], 0, 7), 7, "0"))
        self.fields["microsecond"][hits] = (digits + 5) // 10
        self.half[hits] = pc.utf8_lower(pc.utf8_slice_codeunits(text["half"], 0, 1)).to_numpy(zero_copy_only=False)
        self.offset[hits] = _minutes_east(text["zone"])

    def resolve_day_and_month(self, dayfirst: bool | None) -> list[str]:
        """Decide which of two numbers is the day, by the caller's word or by what the column proves."""
        left, right = self.fields["left"], self.fields["right"]
        rows = self.numeric
        if not rows.any():
            return []
        proves_day_first = rows & (left > 12) & (right <= 12)
        proves_month_first = rows & (right > 12) & (left <= 12)
        open_rows = rows & (left <= 12) & (right <= 12) & (left != right)
        notes: list[str] = []
        if dayfirst is None:
            if open_rows.any() and proves_day_first.any() == proves_month_first.any():
                mixed = " and the column writes dates both ways" if proves_day_first.any() else ""
                raise ConfigurationError(
                    f"{self._examples(open_rows)} may be day/month or month/day{mixed}: "
                    "pass dayfirst=True or dayfirst=False"
                )
            if open_rows.any():
                proof = self._examples(proves_day_first | proves_month_first, 1)
                order = "day first" if proves_day_first.any() else "month first"
                notes.append(f"dates were read {order}, as {proof} proves")
            day_is_left = np.where(open_rows, proves_day_first.any(), ~proves_month_first)
        else:
            day_is_left = np.full(len(left), dayfirst)
        self.fields["day"] = np.where(rows, np.where(day_is_left, left, right), self.fields["day"])
        self.fields["month"] = np.where(rows, np.where(day_is_left, right, left), self.fields["month"])
        return notes

    def _examples(self, rows: Mask, limit: int = 3) -> str:
        return named(self.texts.take(pa.array(np.flatnonzero(rows)[:limit])).to_pylist())

    def assemble(self) -> tuple[Instants, npt.NDArray[np.float64], list[str]]:
        """Give local times, offsets [minutes east, NaN where none] and the reason of each refusal ("" if none)."""
        part = self.fields
        hour = np.where(
            self.half == "", part["hour"], part["hour"] % 12 + np.where(self.half == "p", 12, 0)
        )  # 12 a.m. is midnight
        clock_fits = (hour < 24) & (part["minute"] < 60) & (part["second"] < 60)
        clock_fits &= (self.half == "") | ((part["hour"] >= 1) & (part["hour"] <= 12))
        month_fits = (part["month"] >= 1) & (part["month"] <= 12) & (part["year"] >= 1)
        months = np.where(month_fits, (part["year"] - 1970) * 12 + part["month"] - 1, 0).astype("M8[M]")
        days = months.astype("M8[D]") + (part["day"] - 1).astype("m8[D]")
        fits = self.matched & month_fits & clock_fits & (part["day"] >= 1) & (days.astype("M8[M]") == months)
        seconds = (hour * 60 + part["minute"]) * 60 + part["second"]
        naive = days.astype("M8[us]") + (seconds * 1_000_000 + part["microsecond"]).astype("m8[us]")
        naive[~fits] = np.datetime64("NaT", "us")
        words = self.texts.to_pylist()
        reasons = [
            "" if good or word.lower() in MISSING_WORDS else NO_SUCH_DATE if matched else NOT_A_DATE
            for good, matched, word in zip(fits, self.matched, words, strict=True)
        ]
        return naive, self.offset, reasons


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
    """Give the instants of local times.

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
