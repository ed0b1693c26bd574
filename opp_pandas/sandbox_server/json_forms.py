"""The service's end of the wire: values of each form of JSON that a kind has, read and described.

Which form an attribute has the resource table says; how the service reads it is
written down here, apart from how the client does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opp_pandas.sandbox_server.instants import instant_text, parse_instant

Form = Mapping[str, Any]
INTEGER: Form = {"type": "integer"}
TEXT: Form = {"type": "string"}
NULL_WORDS = "__null__|__notnull__"
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
# The types of JSON schema: what Python makes of them, what a value must be in words, and what SQLite keeps it as.
_TYPES: dict[str, tuple[Any, str, str]] = {
    "string": (str, "text", "TEXT"),
    "integer": (int, "an integer", "INTEGER"),
    "number": (int | float, "a number", "REAL"),
    "boolean": (bool, "true or false", "INTEGER"),
    "array": (list, "a list of texts", "TEXT"),
}


def is_instant(form: Form) -> bool:
    """Tell instants from other texts."""
    return form.get("format") == "date-time"


def words_of(form: Form) -> str:
    """Describe what a value must be."""
    return "an ISO 8601 instant" if is_instant(form) else _TYPES[form["type"]][1]


def affinity_of(form: Form) -> str:
    """Return the type of the column in which SQLite keeps the values."""
    return _TYPES[form["type"]][2]


def read_member(form: Form, value: Any) -> Any:
    """Read a value that was sent in a document; a ValueError says what it must be."""
    typed = _TYPES[form["type"]][0]
    misfit = ValueError(f"must be {words_of(form)}{', such as 2026-12-11T12:00:00Z' * is_instant(form)}")
    if not isinstance(value, typed) or isinstance(value, bool) != (typed is bool):
        raise misfit
    if is_instant(form):
        try:
            return instant_text(parse_instant(value))
        except ValueError:
            raise misfit from None
    if typed is int and abs(value) >= 2**63:
        raise ValueError("must have at most 63 bits")
    if typed is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("must be Unicode text without lone surrogates") from None
    return [read_member(form["items"], item) for item in value] if typed is list else value


def read_filter(form: Form, text: str) -> Any:
    """Read a value that stands in an address; a ValueError or KeyError says that it is none."""
    if form["type"] == "boolean":
        return {"true": True, "false": False}[text]
    if form["type"] == "integer":
        if not _INTEGER.fullmatch(text):
            raise ValueError(text)
        return int(text)
    if form["type"] == "number":
        return float(text)
    # A lone surrogate has no UTF-8 form, so no record can hold it.
    text.encode()
    return instant_text(parse_instant(text)) if is_instant(form) else text


def describe_member(form: Form) -> dict[str, Any]:
    """Describe what a document may hold: a value, or none."""
    described = {**form, "type": [form["type"], "null"]}
    if is_instant(form):
        # Other offsets are read as well; near the years 1 and 9999 they lead out of what a date can be.
        described["pattern"] = "Z$"
    return described | ({"minimum": 1 - 2**63, "maximum": 2**63 - 1} if form["type"] == "integer" else {})


def describe_filter(form: Form) -> dict[str, Any]:
    """Describe one value of a filter, which both filter syntaxes take; lists and ranges are written differently."""
    if form["type"] == "integer":
        return {"type": "string", "pattern": rf"^(-?[0-9]{{1,18}}|{NULL_WORDS})$"}
    if form["type"] == "boolean":
        return {"type": "string", "enum": ["true", "false", *NULL_WORDS.split("|")]}
    return {**form, "pattern": "Z$"} if is_instant(form) else {**form}


def describe_in_hyper_schema(form: Form) -> dict[str, Any]:
    """Describe a value as the service's hyper-schema does, to which integers are a form of numbers."""
    return {"type": "number", "format": "integer"} if form["type"] == "integer" else {**form}
