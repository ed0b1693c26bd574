"""Cells of somebody else's file, read into the dtypes of our columns.

Amounts and percentages are read as decimals, never through binary fractions;
dates with the convention that the column itself proves. What can be read in two
ways is not guessed: the cell is refused with the reason, or the caller is asked.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, named
from opp_pandas.schema import is_list_of_text

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 2**63 - 1
MISSING_WORDS = frozenset({"", "n/a", "na", "nan", "none", "null"})

NOT_A_NUMBER = "must be a number such as 1234.50"
TWO_READINGS = "may mean thousands or decimals; write it as 1234.50"
TOO_LARGE = "is beyond the integers of 64 bits"
NOT_TEXT = "must be text"
ROUNDED = "rounded to a whole percent"


@dataclass
class Reading:
    """A column that was read.

    Parameters
    ----------
    values : array
        The column in its dtype; refused cells are missing.
    refused : dict of int to str
        Position of each cell that could not be read, with the rule it breaks.
    remarked : dict of int to str
        Position of each cell that was read with a change.
    notes : list of str
        What a reader of the whole column should know.
    """

    values: Any
    refused: dict[int, str] = field(default_factory=dict)
    remarked: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def objects(values: pd.Series) -> list[Any]:
    """Give the cells as Python objects, missing ones as None; lists stay whole."""
    cells = values.astype(object).tolist()
    return [None if missing else cell for cell, missing in zip(cells, values.isna().tolist(), strict=True)]


# --- numbers ----------------------------------------------------------------------------------------------------------

_SIGNS = {
    "€": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "₺": "TRY", "₽": "RUB", "₪": "ILS", "zł": "PLN", "Kč": "CZK",
    "US$": "USD", "A$": "AUD", "AU$": "AUD", "C$": "CAD", "CA$": "CAD", "NZ$": "NZD", "HK$": "HKD", "S$": "SGD",
    "R$": "BRL", "$": None, "¥": None, "kr": None,
}  # fmt: skip
_CODE_LIST = (
    "AED ARS AUD BGN BHD BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES KRW KWD MAD MXN "
    "MYR NGN NOK NZD OMR PEN PHP PKR PLN QAR RON RSD RUB SAR SEK SGD THB TND TRY TWD UAH USD UYU VND ZAR"
)
_CODES = frozenset(_CODE_LIST.split())
# Typographic minus, apostrophe and narrow spaces to their plain forms.
_TYPOGRAPHY = {0x2212: "-", 0x2019: "'", 0xA0: " ", 0x2009: " ", 0x202F: " "}
_SEPARATORS = dict.fromkeys(map(ord, ", '"))
_CURRENCY = "|".join(re.escape(sign) for sign in sorted((*_SIGNS, *_CODES), key=len, reverse=True))
_MONEY = re.compile(
    rf"(?P<open>\()?\s*(?P<minus>[-+])?\s*(?P<before>{_CURRENCY})?\s*(?P<inner>[-+])?\s*"
    rf"(?P<body>[\d.,' ]*\d[\d.,]*)\s*(?P<after>{_CURRENCY})?\s*(?P<last>-)?\s*(?P<close>\))?"
)
_PLAIN = re.compile(r"[-+]?\d+(?:\.\d{1,2})?")
_GROUPED_BY_SPACE = re.compile(r"\d{1,3}(?:[ ']\d{3})+(?:[.,]\d+)?")
_GROUPED_BY_COMMA = re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}\.\d+|\d{1,3}(?:,\d{2,3})+,\d{3}")
_GROUPED_BY_POINT = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}")
_ONE_SEPARATOR = re.compile(r"(?P<left>\d*)(?P<mark>[.,])(?P<right>\d+)")

Convention = Literal["point", "comma"]


@dataclass
class Numbers:
    """A column of decimals: None where the cell is missing or refused."""

    values: list[Decimal | None]
    refused: dict[int, str]
    percent: set[int]
    currencies: dict[int, str]
    notes: list[str]


def read_numbers(values: pd.Series, *, percent_sign: bool = False) -> Numbers:
    """Read a column of numbers exactly.

    Parameters
    ----------
    values : Series, shape (n,)
        Integers, floats, decimals or text with currency signs and separators.
        Floats within their last digits of whole cents are those cents.
    percent_sign : bool, default False
        Whether text may end in ``%``.

    Returns
    -------
    Numbers
        With the positions that were refused, that bore a percent sign, and that
        named a currency.
    """
    found = Numbers([None] * len(values), {}, set(), {}, [])
    texts: dict[int, str] = {}
    proofs: dict[Convention, str] = {}
    for place, cell in enumerate(objects(values)):
        if cell is None:
            continue
        if isinstance(cell, str):
            text = cell.translate(_TYPOGRAPHY).strip()
            if percent_sign and text.endswith("%"):
                found.percent.add(place)
                text = text[:-1].rstrip()
            if _PLAIN.fullmatch(text):
                found.values[place] = Decimal(text)
                if "." in text:
                    proofs.setdefault("point", text)
            elif text.lower() not in MISSING_WORDS:
                texts[place] = text
            continue
        number = _number_of(cell)
        if number is None:
            found.refused[place] = NOT_A_NUMBER
        else:
            found.values[place] = number
    _read_separated(texts, found, proofs)
    return found


def _number_of(cell: object) -> Decimal | None:
    if isinstance(cell, bool | np.bool_):
        return None
    if isinstance(cell, int | np.integer):
        return Decimal(int(cell))
    if isinstance(cell, Decimal):
        return cell if cell.is_finite() else None
    if isinstance(cell, float | np.floating):
        return _decimal_of_float(cell)
    return None


def _decimal_of_float(cell: float | np.floating[Any]) -> Decimal | None:
    """The shortest decimal that a float stands for; sums like 0.1 + 0.2 lose their noise."""
    if not np.isfinite(cell):
        return None
    if isinstance(cell, np.floating) and cell.dtype.itemsize < 8:
        return Decimal(str(cell))
    number = float(cell)
    if number.is_integer():
        return Decimal(int(number))
    slack = 2 * float(np.spacing(abs(number)))
    for places in (2, 6):
        if abs(number - round(number, places)) <= slack:
            return Decimal(repr(round(number, places)))
    return Decimal(repr(number))


def _read_separated(texts: dict[int, str], found: Numbers, proofs: dict[Convention, str]) -> None:
    """Read text with separators: each cell that proves a convention first, then those that need it."""
    bodies: dict[int, tuple[str, Convention | None, bool]] = {}
    for place, text in texts.items():
        match = _MONEY.fullmatch(text)
        if match is None or not _well_formed(match):
            found.refused[place] = NOT_A_NUMBER
            continue
        sign = match["before"] or match["after"]
        currency = sign if sign in _CODES else _SIGNS.get(sign or "")
        if currency:
            found.currencies[place] = currency
        negative = match["open"] is not None or any(match[mark] == "-" for mark in ("minus", "inner", "last"))
        body = match["body"]
        convention = _proved(body)
        bodies[place] = (body, convention, negative)
        if convention is not None:
            proofs.setdefault(convention, text)
    for place, (body, convention, negative) in bodies.items():
        plain = _plain_digits(body, convention, set(proofs))
        if plain is None:
            found.refused[place] = TWO_READINGS if _ONE_SEPARATOR.fullmatch(body) else NOT_A_NUMBER
            found.currencies.pop(place, None)
        else:
            found.values[place] = -Decimal(plain) if negative else Decimal(plain)
    if "comma" in proofs:
        found.notes.append(f"decimal commas were read, as in {named([proofs['comma']])}")


def _well_formed(match: re.Match[str]) -> bool:
    """At most one sign and one currency, and both brackets or none."""
    signs = [match[mark] for mark in ("open", "minus", "inner", "last") if match[mark]]
    return len(signs) <= 1 and bool(match["open"]) == bool(match["close"]) and not (match["before"] and match["after"])


def _proved(body: str) -> Convention | None:
    """The decimal mark that this number cannot do without."""
    if _GROUPED_BY_COMMA.fullmatch(body):
        return "point"
    if _GROUPED_BY_POINT.fullmatch(body):
        return "comma"
    if _GROUPED_BY_SPACE.fullmatch(body):
        return "comma" if "," in body else "point" if "." in body else None
    one = _ONE_SEPARATOR.fullmatch(body)
    if one is None or _either(one):
        return None
    return "point" if one["mark"] == "." else "comma"


def _either(one: re.Match[str]) -> bool:
    """Whether 1,234 or 1.234 could be thousands as well as decimals."""
    return len(one["right"]) == 3 and 1 <= len(one["left"]) <= 3 and not one["left"].startswith("0")


def _plain_digits(body: str, convention: Convention | None, proved: set[Convention]) -> str | None:
    """Digits with at most one point; None where the number has two readings or none."""
    if body.isdigit():
        return body
    one = _ONE_SEPARATOR.fullmatch(body) if convention is None else None
    if one is not None:
        # Thousands with a comma stand unless the column writes decimals with it; 1.234 needs proof for either reading.
        if len(proved) == 1:
            convention = next(iter(proved))
        elif not proved and one["mark"] == ",":
            convention = "point"
        else:
            return None
    elif convention is None and not _GROUPED_BY_SPACE.fullmatch(body):
        return None
    if convention == "comma":
        body = body.replace(".", "").replace(",", ".")
    return body.translate(_SEPARATORS)


def read_amounts(values: pd.Series) -> tuple[Reading, Reading | None, dict[int, str]]:
    """Read amounts: whole units, and the exact text where there are cents.

    Parameters
    ----------
    values : Series, shape (n,)
        As for `read_numbers`.

    Returns
    -------
    whole : Reading
        Int64, halves rounded away from zero [units of the currency].
    precise : Reading or None
        The amounts that have cents, as decimal text; None if none has.
    currencies : dict of int to str
        ISO code by position, where the cell itself names its currency.
    """
    if pd.api.types.is_integer_dtype(values.dtype) and not _unsigned_64(values):
        return Reading(pd.array(values.array, dtype="Int64")), None, {}
    if pd.api.types.is_float_dtype(values.dtype):
        floats = values.to_numpy(dtype=np.float64, na_value=np.nan)
        if (np.isnan(floats) | ((np.floor(floats) == floats) & (np.abs(floats) < 2**53))).all():
            return Reading(pd.Series(floats).astype("Int64").array), None, {}
    numbers = read_numbers(values)
    whole: list[int | None] = [None] * len(values)
    precise: list[str | None] = [None] * len(values)
    for place, number in enumerate(numbers.values):
        if number is None:
            continue
        rounded = int(number.to_integral_value(ROUND_HALF_UP))
        if abs(rounded) > LARGEST:
            numbers.refused[place] = TOO_LARGE
            continue
        whole[place] = rounded
        if number != rounded:
            precise[place] = _money_text(number)
    reading = Reading(pd.array(whole, dtype="Int64"), numbers.refused, {}, numbers.notes)
    with_cents = sum(text is not None for text in precise)
    if not with_cents:
        return reading, None, numbers.currencies
    reading.notes.append(f"{with_cents:,} amounts have cents: amount is rounded, amount_precise holds them exactly")
    return reading, Reading(pd.array(precise, dtype="str")), numbers.currencies


def _unsigned_64(values: pd.Series) -> bool:
    return bool(pd.api.types.is_unsigned_integer_dtype(values.dtype) and values.dtype.itemsize == 8)  # type: ignore[union-attr]


def _money_text(number: Decimal) -> str:
    text = f"{number.normalize():f}"
    digits = len(text.partition(".")[2])
    return text + "0" * (2 - digits) if digits < 2 else text


def read_probabilities(
    values: pd.Series, unit: Literal["percent", "fraction"] | None
) -> tuple[Reading, dict[int, Decimal]]:
    """Read probabilities as whole percent.

    Parameters
    ----------
    values : Series, shape (n,)
        Percent or fractions; text with ``%`` is percent in any case.
    unit : {"percent", "fraction"} or None
        What bare numbers are. None: percent, unless all lie between 0 and 1.

    Returns
    -------
    reading : Reading
        Int64 [percent]. What is not whole is rounded half up and remarked.
    exact : dict of int to Decimal
        The unrounded percentage of the cells that were rounded.

    Raises
    ------
    ConfigurationError
        If bare numbers all lie between 0 and 1 and `unit` is None, or all lie
        above 1 and `unit` is ``"fraction"``.
    """
    if values.dtype == object:
        return _read_percents(values, unit)
    # Percentages repeat: each distinct one is read once.
    codes, distinct = pd.factorize(values, use_na_sentinel=True)
    once, exact = _read_percents(pd.Series(distinct, dtype=values.dtype), unit)
    percents = pd.Series(once.values).reindex(codes).array

    def spread(marks: Mapping[int, Any]) -> dict[int, Any]:
        return {int(place): marks[codes[place]] for place in np.flatnonzero(np.isin(codes, list(marks)))}

    return Reading(percents, spread(once.refused), spread(once.remarked), once.notes), spread(exact)


def _read_percents(
    values: pd.Series, unit: Literal["percent", "fraction"] | None
) -> tuple[Reading, dict[int, Decimal]]:
    numbers = read_numbers(values, percent_sign=True)
    signed = numbers.percent
    bare = [number for place, number in enumerate(numbers.values) if number is not None and place not in signed]
    examples = named(dict.fromkeys(str(number) for number in bare))
    if bare and unit is None and all(0 <= number <= 1 for number in bare):
        raise ConfigurationError(
            "every probability lies between 0 and 1, so they may be fractions or percent: "
            f"pass probability='fraction' or probability='percent' (values: {examples})"
        )
    if bare and unit == "fraction" and min(bare) > 1:
        raise ConfigurationError(
            f"probability='fraction' was passed, and every probability is above 1 (values: {examples}): "
            "pass probability='percent'"
        )
    percents: list[int | None] = [None] * len(values)
    exact: dict[int, Decimal] = {}
    remarked: dict[int, str] = {}
    for place, number in enumerate(numbers.values):
        if number is None:
            continue
        percent = number * 100 if unit == "fraction" and place not in signed else number
        rounded = int(percent.to_integral_value(ROUND_HALF_UP))
        if abs(rounded) > LARGEST:
            numbers.refused[place] = TOO_LARGE
            continue
        percents[place] = rounded
        if percent != rounded:
            exact[place] = percent
            remarked[place] = ROUNDED
    return Reading(pd.array(percents, dtype="Int64"), numbers.refused, remarked, numbers.notes), exact


def read_integers(values: pd.Series) -> Reading:
    """Read ids: whole numbers of 64 bits; anything else is refused."""
    numbers = read_numbers(values)
    whole: list[int | None] = [None] * len(values)
    for place, number in enumerate(numbers.values):
        if number is None:
            continue
        if number != number.to_integral_value() or abs(number) > LARGEST:
            numbers.refused[place] = "must be an integer"
        else:
            whole[place] = int(number)
    return Reading(pd.array(whole, dtype="Int64"), numbers.refused)


# --- text and tags ----------------------------------------------------------------------------------------------------


def read_texts(values: pd.Series) -> Reading:
    """Read text; numbers become text, 302.0 becomes 302, and the notes say so."""
    if values.dtype == "str":
        return Reading(values.array)
    refused: dict[int, str] = {}
    trimmed: list[float] = []

    def text_of(place: int, cell: object) -> str | None:
        if cell is None or isinstance(cell, str):
            return cell
        if isinstance(cell, bool | np.bool_):
            return str(bool(cell))
        if isinstance(cell, float | np.floating) and np.isfinite(cell) and float(cell).is_integer():
            trimmed.append(float(cell))
            return str(int(cell))
        if isinstance(cell, int | float | np.number | Decimal):
            return str(cell)
        if isinstance(cell, dt.date):
            return cell.isoformat()
        refused[place] = NOT_TEXT
        return None

    texts = [text_of(place, cell) for place, cell in enumerate(objects(values))]
    notes = [f"numbers like {trimmed[0]!r} were read as the text {int(trimmed[0])}"] if trimmed else []
    return Reading(pd.array(texts, dtype="str"), refused, {}, notes)


def read_tags(values: pd.Series) -> Reading:
    """Read tags: lists of text as they are and as a CSV writes them, other text split at semicolons, else at commas."""
    refused: dict[int, str] = {}
    tags = np.empty(len(values), dtype=object)
    for place, cell in enumerate(objects(values)):
        if isinstance(cell, str) and (items := _written_list(cell)) is not None:
            tags[place] = items
        elif isinstance(cell, str):
            parts = cell.split(";" if ";" in cell else ",")
            tags[place] = [part.strip() for part in parts if part.strip()]
        elif is_list_of_text(cell):
            tags[place] = [*cell]
        elif cell is not None:
            refused[place] = "must be a list of text"
    return Reading(tags, refused)


def _written_list(text: str) -> list[str] | None:
    """Read ``["a", "b"]`` and ``['a', 'b']``, as JSON and Python write lists; None for any other text."""
    if text[:1] != "[" or text[-1:] != "]":
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        # To Python ['a' 'b'], as arrays are written, would be the one text ab.
        if is_list_of_text(found) and (read is json.loads or str(found) == text):
            return list(found)
    return None
