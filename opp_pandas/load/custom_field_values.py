"""The texts of custom fields: read by kind, written back in the spelling of the organisation.

The service keeps every custom field as text; what the text means stands in
``/types``. How true and false, or several options, are spelled is nowhere
documented, so a value is written as the column itself spells it most often.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from opp_pandas.kinds import FALSE_WORDS, TRUE_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)
SEPARATORS = ("; ", ";", ", ", ",", "|", "\n")
_BOOLEAN_SPELLING = ("true", "false")


def read_number(text: str) -> Decimal | None:
    """Read plain digits with a decimal point; None for anything else.

    Examples
    --------
    >>> read_number("12.50"), read_number("1,250")
    (Decimal('12.50'), None)
    """
    return Decimal(text) if _NUMBER.fullmatch(text.strip()) else None


def read_boolean(text: str) -> bool | None:
    """Read true or false in any of the usual words; None for anything else."""
    word = text.strip().lower()
    return True if word in TRUE_WORDS else False if word in FALSE_WORDS else None


def read_options(text: str, options: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
    """Read several options of a list, in the order of the text, and what stood between them.

    ``"["`` is for a JSON list, ``""`` for one option alone. None where not every part is an option.

    Examples
    --------
    >>> read_options("Price; Speed", ["Price", "Speed", "Support"])
    (('Price', 'Speed'), '; ')
    """
    known = set(options)
    if text in known:
        return (text,), ""
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except ValueError:
            return None
        fits = isinstance(listed, list) and all(isinstance(item, str) and item in known for item in listed)
        return (tuple(listed), "[") if fits else None
    for separator in SEPARATORS:
        parts = tuple(text.split(separator))
        if len(parts) > 1 and known.issuperset(parts):
            return parts, separator
    return None


def boolean_spelling(texts: Iterable[str]) -> tuple[str, str]:
    """Return the words for true and for false that a column uses most.

    Examples
    --------
    >>> boolean_spelling(["Yes", "Yes", "No", "true"])
    ('Yes', 'No')
    """
    counts = Counter(text for text in texts if read_boolean(text) is not None)
    pairs = {
        "true": "false",
        "yes": "no",
        "1": "0",
        "t": "f",
        "y": "n",
        "on": "off",
    }
    for text, _ in counts.most_common(1):
        word = text.strip().lower()
        opposite = pairs.get(word) or next(yes for yes, no in pairs.items() if no == word)
        like = str.upper if text.isupper() and len(text) > 1 else str.title if text[:1].isupper() else str
        both = (text, like(opposite))
        return both if read_boolean(text) else (both[1], both[0])
    return _BOOLEAN_SPELLING


def separator_spelling(texts: Iterable[str], options: Sequence[str]) -> str:
    """Return the separator that a column of several options uses most; ``";"`` where none has several."""
    found = (read_options(text, options) for text in texts)
    counts = Counter(entry[1] for entry in found if entry is not None and entry[1])
    return counts.most_common(1)[0][0] if counts else ";"


def write_number(value: Any) -> str:
    """Write a number as plain digits: 12, not 12.0, and never an exponent.

    Examples
    --------
    >>> write_number(12.0), write_number(0.1), write_number(-3)
    ('12', '0.1', '-3')
    """
    number = value if isinstance(value, Decimal) else Decimal(repr(value) if isinstance(value, float) else int(value))
    if not number.is_finite():
        raise ValueError("is not a finite number")
    if number == number.to_integral_value():
        return str(int(number))
    return format(number.normalize(), "f")


def write_options(chosen: Iterable[str], separator: str) -> str:
    """Write several options the way the column does."""
    parts = list(chosen)
    return json.dumps(parts, ensure_ascii=False) if separator == "[" else separator.join(parts)
