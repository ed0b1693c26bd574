"""Cells as text and back: the only form in which values cross to the browser.

A codec takes exactly what it wrote, bit for bit. What people type and paste is
read by `read_texts`, a column at a time, where it has one meaning.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pandas as pd

from opp_pandas.errors import named, printable
from opp_pandas.instants import parse_clock, parse_day
from opp_pandas.kinds import INSTANTS, INTEGER, is_missing
from opp_pandas.load.custom_field_values import (
    read_number,
    read_options,
    write_number,
    write_options,
)
from opp_pandas.parsing.dates import NOT_A_DATE, parse_dates
from opp_pandas.parsing.numbers import NOT_A_NUMBER, parse_numbers

if TYPE_CHECKING:
    from opp_pandas.changes.name_lookup import NameBook
    from opp_pandas.kinds import Kind
    from opp_pandas.parsing.reading import Conventions, Reading


class Codec(Protocol):
    """Writes the values of one column as text and reads them back."""

    def show(self, value: Any) -> str:
        """Write a value that is not missing."""

    def read(self, text: str) -> Any:
        """Read a text; a ValueError says in words why it cannot be read."""


def show_cell(codec: Codec, value: Any) -> str | None:
    """Write any cell: None where it is missing."""
    return None if is_missing(value) else codec.show(value)


@dataclass(frozen=True)
class Plain:
    """The kinds of values that the service sends; days are those of `zone`, without one of UTC."""

    kind: Kind
    zone: str | None = None

    def show(self, value: Any) -> str:
        """Write a value as its kind does."""
        return self.kind.show(value, self.zone)

    def read(self, text: str) -> Any:
        """Read a text as its kind does."""
        return self.kind.read(text, self.zone)


@dataclass(frozen=True)
class Numbers:
    """Numbers with a decimal point: custom fields whose texts were converted.

    ``whole`` says that the column holds whole numbers only.
    """

    whole: bool

    def show(self, value: Any) -> str:
        """Write digits with a decimal point."""
        if isinstance(value, float) and _bits(float(Decimal(text := write_number(value)))) != _bits(value):
            return repr(value)
        return text if isinstance(value, float) else write_number(value)

    def read(self, text: str) -> int | float:
        """Read digits with a decimal point."""
        number = read_number(text)
        if number is None:
            raise ValueError("is not a number; write it like 1250.5, without a thousands separator")
        if self.whole:
            if number != int(number):
                raise ValueError("has decimals, and the column holds whole numbers: .astype('Float64') lets it")
            return INTEGER.read(str(int(number)), None)
        return float(number)


def _bits(number: float) -> bytes:
    return struct.pack("<d", number)


@dataclass(frozen=True)
class Options:
    """Several options of a list, as tuples, with what the organisation puts between them."""

    options: Sequence[str]
    separator: str

    def show(self, value: Any) -> str:
        """Write them as the organisation does; a text that could not be read stays itself."""
        if isinstance(value, str):
            return value
        text = write_options(value, self.separator)
        return (
            text
            if value and read_options(text, self.options) == (tuple(value), self.separator)
            else (write_options(value, "[") if len(value) != 1 else str(value[0]))
        )

    def read(self, text: str) -> tuple[str, ...]:
        """Read them in any usual form."""
        found = read_options(text, self.options)
        if found is None:
            raise ValueError(f"is not of the list; there are {named(self.options, 10)}")
        return found[0]


@dataclass(frozen=True)
class Clocks:
    """Days or moments without a zone: custom fields whose texts were converted."""

    days: bool

    def show(self, value: Any) -> str:
        """Write ``2026-12-31`` or ``2026-12-31T08:00:00``."""
        clock = pd.Timestamp(value).to_pydatetime(warn=False)
        if self.days and clock.time() == dt.time.min:
            return clock.date().isoformat()
        return clock.isoformat(timespec="microseconds" if clock.microsecond else "seconds")

    def read(self, text: str) -> pd.Timestamp:
        """Read the same."""
        clock = parse_day(text) or (None if self.days else parse_clock(text.strip().replace(" ", "T")))
        if clock is None:
            raise ValueError("is not a day; write it like 2026-12-31" + ("" if self.days else "T08:00:00"))
        return pd.Timestamp(clock).as_unit("us")


@dataclass(frozen=True)
class Categories:
    """One of the values that a category column knows."""

    values: Sequence[str]

    def show(self, value: Any) -> str:
        """Return the value."""
        return str(value)

    def read(self, text: str) -> str:
        """Take a known value only."""
        if text not in self.values:
            raise ValueError(f"is not of the list; there are {named(self.values, 10)}")
        return text


@dataclass(frozen=True)
class Relations:
    """Ids of stages, owners and accounts, read and written by the names that `book` knows.

    A name that several ids bear is written with its id behind it, an id without
    a name as ``#7``.
    """

    book: NameBook
    id_column: str

    def show(self, value: Any) -> str:
        """Write the shortest form that reads back as this id."""
        row_id = int(value)
        name = self.book.name(self.id_column, row_id)
        forms = [] if name is None else [name, f"{name} ({row_id})"]
        return next((form for form in forms if self._find(form) == row_id), f"#{row_id}")

    def read(self, text: str) -> int:
        """Find the one id that a text stands for."""
        found = self._find(text) or self._find(text.strip())
        if found is not None:
            return found
        fits = self.book.ids(self.id_column, text)
        if fits:
            raise ValueError(f"fits {len(fits)} ids; write one of {named(f'{text} ({row_id})' for row_id in fits)}")
        raise ValueError(f"is not known here; there are {self.book.candidates(self.id_column, text)}")

    def _find(self, text: str) -> int | None:
        if re.fullmatch(r"#\d{1,18}", text, re.ASCII):
            return int(text[1:])
        fits = self.book.ids(self.id_column, text)
        if len(fits) == 1:
            return fits[0]
        named_id = re.fullmatch(r"(.*) \((\d{1,18})\)", text, re.ASCII | re.DOTALL)
        if not fits and named_id and self.book.name(self.id_column, int(named_id[2])) == named_id[1]:
            return int(named_id[2])
        return None


class Anything:
    """What is only shown: whatever the service sent."""

    def show(self, value: Any) -> str:
        """Write text as it is and everything else short."""
        if isinstance(value, str):
            return value
        if isinstance(value, dict | list | tuple):
            return printable(json.dumps(value, ensure_ascii=False, default=str), 200)
        return printable(value, 200)

    def read(self, text: str) -> Any:  # noqa: ARG002 - the other readers' signature
        """Nothing can be read."""
        raise ValueError("cannot be edited here")


# --- what people type and paste -------------------------------------------------------


def read_texts(
    codec: Codec, texts: Sequence[str], conventions: Conventions, *, percent: bool = False
) -> list[Any | ValueError]:
    """Read texts of one column as people and spreadsheets write them; a ValueError in place of a value says why.

    What the codec wrote itself is read as that. Texts are read together: what one of them proves of separators or of
    the order of day and month holds for all. Where the column holds whole numbers, two that are whole by one decimal
    mark only prove it. ``55%`` is 55 where `percent` says so.

    Examples
    --------
    >>> from opp_pandas.parsing.reading import ANY
    >>> read_texts(Plain(INTEGER), ["$1,250,000", "1,250", "(2,000)"], ANY)
    [1250000, 1250, -2000]
    >>> read_texts(Plain(INTEGER), ["1,250"], ANY)
    [ValueError("may be 1250 (decimal='.') or 1.25 (decimal=',')")]
    """
    if codec == Plain(INTEGER) or isinstance(codec, Numbers):
        column = pd.Series(texts, dtype="str")
        found: Reading = parse_numbers(column, conventions, percent_sign=percent)
        if codec == Plain(INTEGER) and (mark := _mark_of_whole(found)):
            found = parse_numbers(column, replace(conventions, decimal=mark), percent_sign=percent)
        spelled = [None if value is None else _digits(value) for value in found.values]
    elif isinstance(codec, Clocks) or (isinstance(codec, Plain) and codec.kind is INSTANTS):
        zone = (codec.zone if isinstance(codec, Plain) else None) or "UTC"
        series = pd.Series(texts, dtype="str")
        found, local = parse_dates(series, zone, conventions), parse_dates(series, "UTC", conventions).values
        spelled = [
            # A time of the clocks is left to the codec, which knows the hours that they skip and repeat.
            None if pd.isna(value) else (value if value == clock else clock.tz_localize(None)).isoformat()
            for value, clock in zip(found.values, local, strict=True)
        ]
        spelled = [text and text.removesuffix("T00:00:00").removesuffix("T00:00:00+00:00") for text in spelled]
    else:
        return [_tried(codec, text) for text in texts]
    return [
        _chosen(codec, text, spelled[place], found, place, conventions.decimal_mark) for place, text in enumerate(texts)
    ]


def _mark_of_whole(found: Reading) -> Literal[".", ","] | None:
    """Find the decimal mark by which all cells of a column are whole, where two or more are so by one mark only.

    ``12,500`` beside ``6,640`` is no 12.5 where only whole numbers can stand; alone
    it is asked for.
    """
    whole = [
        {said["decimal"] for number, said in doubt.readings if Decimal(number) == int(Decimal(number))}
        for doubt in found.unsettled.values()
    ]
    marks = set.intersection(*whole) if whole else set()
    return marks.pop() if len(marks) == 1 and sum(len(each) == 1 for each in whole) > 1 and not found.refused else None


def _chosen(
    codec: Codec, text: str, spelled: str | None, found: Reading, place: int, mark: str | None
) -> Any | ValueError:
    """Decide between what the codec itself wrote and what people write."""
    own = _tried(codec, text)
    if place in found.unsettled:
        doubt = mark == "," or isinstance(own, ValueError)
        return ValueError(found.unsettled[place].reason) if doubt else own
    if spelled is None:
        reason = found.refused.get(place, NOT_A_NUMBER)
        told = isinstance(own, ValueError) and reason not in (NOT_A_NUMBER, NOT_A_DATE)
        return ValueError(reason) if told else own
    value = _tried(codec, spelled)
    if isinstance(own, ValueError) or value == own:
        return value if isinstance(own, ValueError) else own
    if isinstance(codec, Numbers) and mark == ",":
        return ValueError(f"may be {spelled}, or {text.strip()} as the grid writes it; write {spelled}")
    return value if isinstance(codec, Numbers) else own


def _digits(value: Decimal) -> str:
    return str(int(value)) if value == value.to_integral_value() else f"{value:f}"


def _tried(codec: Codec, text: str) -> Any | ValueError:
    try:
        return codec.read(text)
    except ValueError as problem:
        return problem
