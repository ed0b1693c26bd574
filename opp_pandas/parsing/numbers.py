"""Numbers as people and spreadsheets write them, read as exact decimals.

A number is never guessed: 1,250 is a thousand to some and a little more than
one to others, so it is read only as the conventions say or as other cells of
its column prove.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.errors import named
from opp_pandas.parsing.reading import ANY, MISSING_WORDS, Ambiguity, Conventions, Reading, objects

NOT_A_NUMBER = "must be a number such as 1234.50"
A_PERCENTAGE = "must be a number, not a percentage"
ROUNDED_BY_SHEET = "shows only the leading digits; copy it with another number format"
TOO_NARROW = "was not shown, as its column was too narrow"
ERROR_OF_SHEET = "is an error of the spreadsheet"
A_DASH = "may be zero or nothing: write 0, or leave the cell empty"

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
_SCALES = {"k": 3, "tsd": 3, "m": 6, "mm": 6, "mn": 6, "mio": 6, "b": 9, "bn": 9, "mrd": 9}
# Typographic minus, apostrophe and narrow spaces to their plain forms.
_TYPOGRAPHY = {0x2212: "-", 0x2019: "'", 0xA0: " ", 0x2009: " ", 0x202F: " "}
_SEPARATORS = dict.fromkeys(map(ord, ", '"))
_CURRENCY = "|".join(re.escape(sign) for sign in sorted((*_SIGNS, *_CODES), key=len, reverse=True))
_MONEY = re.compile(
    rf"(?P<open>\()?\s*(?P<minus>[-+])?\s*(?P<before>{_CURRENCY})?\s*(?P<inner>[-+])?\s*"
    rf"(?P<body>[0-9.,' ]*[0-9][0-9.,]*)\s*(?P<scale>(?i:{'|'.join(_SCALES)}))?\.?\s*(?P<after>{_CURRENCY})?"
    r"\s*(?P<last>-)?\s*(?P<percent>%)?\s*(?P<close>\))?"
)
_ZERO_OF_ACCOUNTS = re.compile(rf"(?:{_CURRENCY})\s*-|-\s*(?:{_CURRENCY})")
_PLAIN = re.compile(r"[-+]?[0-9]+(?:\.[0-9]{1,2})?")
# As Java writes large amounts, with every digit; Excel's 1.25E+06 has lost those that are not shown.
_EXPONENT = re.compile(r"-?[0-9]\.[0-9]+E-?[0-9]{1,3}")
_SHOWN_EXPONENT = re.compile(r"-?[0-9](?:[.,][0-9]+)?[Ee]\+[0-9]+")
_GROUPED_BY_SPACE = re.compile(r"\d{1,3}(?:[ ']\d{3})+(?:[.,]\d+)?")
_GROUPED_BY_COMMA = re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}\.\d+|\d{1,3}(?:,\d{2,3})+,\d{3}")
_GROUPED_BY_POINT = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}")
_ONE_SEPARATOR = re.compile(r"(?P<left>\d*)(?P<mark>[.,])(?P<right>\d+)")

Mark = Literal[".", ","]


@dataclass
class Numbers(Reading):
    """A column of decimals, None where the cell is missing or was not read.

    `percent` are positions of cells with a percent sign, `currencies` ISO codes of those that name their currency.
    """

    percent: set[int] = field(default_factory=set)
    currencies: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Written:
    """A text that is a number, by the conventions that its separators will turn out to follow."""

    text: str
    body: str
    factor: int
    currency: str | None
    proof: Mark | None

    def value(self, mark: Mark | None) -> Decimal | None:
        """Read it with a decimal mark; None where it cannot be written so."""
        plain = _plain_digits(self.body, mark)
        return None if plain is None else Decimal(plain) * self.factor


def parse_numbers(values: pd.Series, conventions: Conventions = ANY, *, percent_sign: bool = False) -> Numbers:
    """Parse a column of numbers exactly, text with ``%`` only where that is allowed.

    Read are integers, floats, decimals and text with currency signs, separators, brackets for what is
    negative and ``k``, ``M``, ``bn`` for thousands, millions and thousand millions. Floats within their
    last digits of whole cents are those cents. What was refused and what has two readings is noted by position.

    Examples
    --------
    >>> parse_numbers(pd.Series(["$12,500.00", "(2,000)", "1.2k"])).values
    [Decimal('12500.00'), Decimal('-2000'), Decimal('1200.0')]
    >>> print(parse_numbers(pd.Series(["1,250"])).unsettled[0])
    '1,250' may be 1250 (decimal='.') or 1.25 (decimal=',')
    >>> parse_numbers(pd.Series(["1,250"]), Conventions(decimal=",")).values
    [Decimal('1.250')]
    """
    found = Numbers([None] * len(values))
    separated: dict[int, _Written] = {}
    proofs: dict[Mark, str] = {}
    told = conventions.decimal_mark
    # As thousands= " " tells it: neither point nor comma stands between groups.
    only_decimals = conventions.thousands in (" ", "'") and told is None
    for place, cell in enumerate(objects(values)):
        if cell is None:
            continue
        if not isinstance(cell, str):
            number = _number_of(cell)
            if number is None:
                found.refused[place] = NOT_A_NUMBER
            found.values[place] = number
            continue
        text = cell.translate(_TYPOGRAPHY).strip()
        if told != "," and _PLAIN.fullmatch(text):
            found.values[place] = Decimal(text)
            if "." in text:
                proofs.setdefault(".", text)
        elif text.lower() not in MISSING_WORDS:
            written = _take_apart(text, place, found, percent_sign=percent_sign)
            if written is not None:
                separated[place] = written
                if written.proof is not None:
                    proofs.setdefault(written.proof, text)
    if told is not None and proofs and told not in proofs:
        said = f"decimal={told!r}" if conventions.decimal else f"thousands={conventions.thousands!r}"
        found.contradiction = f"{said} was passed, and the column proves the contrary with {proofs.popitem()[1]!r}"
    for place, written in separated.items():
        _settle(place, written, found, told, set(proofs), only_decimals=only_decimals)
    if "," in proofs and told is None:
        found.notes.append(f"decimal commas were read, as in {named([proofs[',']])}")
    return found


def parse_number(text: str, conventions: Conventions = ANY) -> Decimal:
    """Parse one number; a ValueError says that it is none, or has two readings.

    Examples
    --------
    >>> parse_number("400k"), parse_number("$1,250,000")
    (Decimal('400000'), Decimal('1250000'))
    """
    found = parse_numbers(pd.Series([text], dtype="str"), conventions)
    if found.values[0] is None:
        raise ValueError(found.unsettled[0].reason if found.unsettled else found.refused.get(0, NOT_A_NUMBER))
    number: Decimal = found.values[0]
    return number


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
    """Return the shortest decimal that a float stands for; sums like 0.1 + 0.2 lose their noise."""
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


def _take_apart(text: str, place: int, found: Numbers, *, percent_sign: bool) -> _Written | None:
    """Find sign, currency, scale and digits; what has one reading without them is read at once."""
    if _EXPONENT.fullmatch(text):
        found.values[place] = Decimal(text)
        return None
    if _ZERO_OF_ACCOUNTS.fullmatch(text):
        found.values[place] = Decimal(0)
        return None
    match = _MONEY.fullmatch(text)
    if match is None or not _well_formed(match):
        found.refused[place] = _why_not(text)
        return None
    if match["percent"]:
        if not percent_sign:
            found.refused[place] = A_PERCENTAGE
            return None
        found.percent.add(place)
    sign = match["before"] or match["after"]
    negative = match["open"] is not None or any(match[mark] == "-" for mark in ("minus", "inner", "last"))
    factor = 10 ** _SCALES[match["scale"].lower()] if match["scale"] else 1
    body = match["body"].strip()
    currency = sign if sign in _CODES else _SIGNS.get(sign or "")
    return _Written(text, body, -factor if negative else factor, currency, _proved(body))


def _why_not(text: str) -> str:
    if text.startswith("#"):
        return TOO_NARROW if set(text) == {"#"} else ERROR_OF_SHEET
    if text in ("-", "–", "—"):  # noqa: RUF001  # dashes as sheets show them
        return A_DASH
    return ROUNDED_BY_SHEET if _SHOWN_EXPONENT.fullmatch(text) else NOT_A_NUMBER


def _well_formed(match: re.Match[str]) -> bool:
    """At most one sign and one currency, and both brackets or none."""
    signs = [match[mark] for mark in ("open", "minus", "inner", "last") if match[mark]]
    return len(signs) <= 1 and bool(match["open"]) == bool(match["close"]) and not (match["before"] and match["after"])


def _settle(
    place: int, written: _Written, found: Numbers, told: Mark | None, proved: set[Mark], *, only_decimals: bool
) -> None:
    mark = told or written.proof
    one = _ONE_SEPARATOR.fullmatch(written.body)
    if mark is None and one is not None and _either(one):
        if only_decimals:
            mark = "." if one["mark"] == "." else ","
        elif len(proved) == 1:
            mark = next(iter(proved))
        else:
            readings = ((each, written.value(each)) for each in (".", ","))
            shown = tuple(
                (f"{value.normalize():f}", {"decimal": each}) for each, value in readings if value is not None
            )
            found.unsettled[place] = Ambiguity(written.text, shown)
            return
    value = written.value(mark)
    if value is None or (told is not None and written.proof not in (None, told)):
        found.refused[place] = NOT_A_NUMBER if told is None else f"is not written with a decimal {_NAMES[told]}"
        return
    found.values[place] = value
    if written.currency:
        found.currencies[place] = written.currency


_NAMES: dict[Mark, str] = {".": "point", ",": "comma"}


def _proved(body: str) -> Mark | None:
    """Return the decimal mark that this number cannot do without."""
    if _GROUPED_BY_COMMA.fullmatch(body):
        return "."
    if _GROUPED_BY_POINT.fullmatch(body):
        return ","
    if _GROUPED_BY_SPACE.fullmatch(body):
        return "," if "," in body else "." if "." in body else None
    one = _ONE_SEPARATOR.fullmatch(body)
    if one is None or _either(one):
        return None
    return "." if one["mark"] == "." else ","


def _either(one: re.Match[str]) -> bool:
    """Whether 1,234 or 1.234 could be thousands as well as decimals."""
    return len(one["right"]) == 3 and 1 <= len(one["left"]) <= 3 and not one["left"].startswith("0")


def _plain_digits(body: str, mark: Mark | None) -> str | None:
    """Return digits with at most one point; None where the number cannot be written so."""
    if body.isdigit():
        return body
    if mark is None and not _GROUPED_BY_SPACE.fullmatch(body):
        return None
    if mark == ",":
        body = body.replace(".", "").replace(",", ".")
    return body.translate(_SEPARATORS)
