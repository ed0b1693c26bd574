"""Texts that a spreadsheet would obey or rewrite, and how they pass through it unchanged."""

from __future__ import annotations

import json
import re

# What Excel, LibreOffice and Google Sheets take for a formula, full-width forms too; a tab or line break hides one.
_FORMULA = r"[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]"
# What they turn into a number, a date or a truth value: 007, 1e5, 3-4, 2 May, TRUE.
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_VALUE = (
    r"'*\s*(?:[\d.,][\d\s.,:/%eE\-]*(?:[ap]m?)?"
    rf"|true|false|\d{{1,2}}[\s\-/.]*{_MONTH}[\s\-/.,]*\d*|{_MONTH}[\s\-/.,]*\d{{1,4}}(?:[\s\-/.,]+\d{{1,4}})?)\s*\Z"
)
_TAKEN = re.compile(rf"{_FORMULA}|{_VALUE}|'*\Z", re.IGNORECASE | re.ASCII)
_SPACES = re.compile(r"[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def _is_taken(text: str) -> bool:
    return _TAKEN.match(text) is not None or _SPACES.match(text) is not None


def guard(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would not leave alone; the empty text becomes one.

    Examples
    --------
    >>> guard("=1+1"), guard("007"), guard("Acme"), guard("'tis"), guard("")
    ("'=1+1", "'007", 'Acme', "'tis", "'")
    """
    return f"'{text}" if _is_taken(text) else text


def unguard(text: str) -> str:
    """Take the apostrophe of `guard` off; any other stays.

    Examples
    --------
    >>> unguard("'=1+1"), unguard("'tis"), unguard("=1+1"), unguard("'")
    ('=1+1', "'tis", '=1+1', '')
    """
    return text[1:] if text[:1] == "'" and _is_taken(text[1:]) else text


ESCAPED = "escaped:"
# Characters that XML has not, and the ways to write them that readers do not agree on.
_LOST_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_x[0-9A-Fa-f]{4}_|x005F_")
_RETURN = "_x000D_"


def to_cell(text: str) -> str:
    r"""Write a text for a cell of a workbook: as it is, or escaped where XML would lose part of it.

    Examples
    --------
    >>> to_cell("=1+1"), to_cell(""), to_cell("bell\x07")
    ('=1+1', 'escaped:""', 'escaped:"bell\\u0007"')
    """
    if text and not text.startswith(ESCAPED) and _LOST_IN_XML.search(text) is None:
        return text
    plain = json.dumps(text)
    # An underscore may be half of what readers take for an escape of their own.
    return ESCAPED + plain.replace("_", "\\u005f").replace("x005F", "x005\\u0046")


def from_cell(text: str) -> str:
    """Read what `to_cell` wrote, or what somebody typed."""
    if text.startswith(f'{ESCAPED}"'):
        try:
            found = json.loads(text[len(ESCAPED) :])
        except ValueError:
            return text
        if isinstance(found, str):
            return found
    return text.replace(_RETURN, "\r")
