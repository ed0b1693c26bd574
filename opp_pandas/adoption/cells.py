"""Cells of somebody else's file, read into the dtypes of our columns.

Amounts and percentages are exact decimals until they are rounded, and where
they are rounded the exact ones are kept beside them.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, named
from opp_pandas.kinds import TAGS
from opp_pandas.parsing.numbers import Numbers, parse_numbers
from opp_pandas.parsing.reading import ANY, Conventions, Reading, objects

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 2**63 - 1
TOO_LARGE = "is beyond the integers of 64 bits"
NOT_TEXT = "must be text"
ROUNDED = "rounded to a whole percent"


def _column(values: Any, numbers: Numbers, remarked: dict[int, str] | None = None) -> Reading:
    """Return a column with what there was to say of its numbers."""
    return Reading(values, numbers.refused, remarked or {}, numbers.notes, numbers.unsettled, numbers.contradiction)


def read_amounts(values: pd.Series, conventions: Conventions = ANY) -> tuple[Reading, Reading | None, dict[int, str]]:
    """Read amounts as Int64, halves rounded away from zero, and the exact texts where there are cents (else None).

    The third are ISO codes by position, where the cell itself names its currency.
    """
    if pd.api.types.is_integer_dtype(values.dtype) and not _unsigned_64(values):
        return Reading(pd.array(values.array, dtype="Int64")), None, {}
    if pd.api.types.is_float_dtype(values.dtype):
        floats = values.to_numpy(dtype=np.float64, na_value=np.nan)
        if (np.isnan(floats) | ((np.floor(floats) == floats) & (np.abs(floats) < 2**53))).all():
            return Reading(pd.Series(floats).astype("Int64").array), None, {}
    numbers = parse_numbers(values, conventions)
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
    reading = _column(pd.array(whole, dtype="Int64"), numbers)
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
    values: pd.Series, unit: Literal["percent", "fraction"] | None, conventions: Conventions = ANY
) -> tuple[Reading, dict[int, Decimal]]:
    """Read probabilities as whole percent, halves rounded up and remarked, and the exact ones where they were rounded.

    Text with ``%`` is percent in any case; bare numbers are what `unit` says, and percent without it unless all
    lie between 0 and 1.

    Raises
    ------
    ConfigurationError
        If bare numbers all lie between 0 and 1 and `unit` is None, or all lie
        above 1 and `unit` is ``"fraction"``.
    """
    if values.dtype == object:
        return _read_percents(values, unit, conventions)
    # Percentages repeat: each distinct one is read once.
    codes, distinct = pd.factorize(values, use_na_sentinel=True)
    once, exact = _read_percents(pd.Series(distinct, dtype=values.dtype), unit, conventions)
    percents = pd.Series(once.values).reindex(codes).array

    def spread(marks: Mapping[int, Any]) -> dict[int, Any]:
        return {int(place): marks[codes[place]] for place in np.flatnonzero(np.isin(codes, list(marks)))}

    refused, remarked, unsettled = (spread(marks) for marks in (once.refused, once.remarked, once.unsettled))
    return Reading(percents, refused, remarked, once.notes, unsettled, once.contradiction), spread(exact)


def _read_percents(
    values: pd.Series, unit: Literal["percent", "fraction"] | None, conventions: Conventions
) -> tuple[Reading, dict[int, Decimal]]:
    numbers = parse_numbers(values, conventions, percent_sign=True)
    signed = numbers.percent
    bare = [number for place, number in enumerate(numbers.values) if number is not None and place not in signed]
    examples = named(dict.fromkeys(str(number) for number in bare))
    if bare and unit is None and all(0 <= number <= 1 for number in bare):
        raise ConfigurationError(
            "every probability lies between 0 and 1, so they may be fractions or percent: "
            f"pass probability_unit='fraction' or probability_unit='percent' (values: {examples})"
        )
    if bare and unit == "fraction" and min(bare) > 1:
        raise ConfigurationError(
            f"probability_unit='fraction' was passed, and every probability is above 1 (values: {examples}): "
            "pass probability_unit='percent'"
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
    return _column(pd.array(percents, dtype="Int64"), numbers, remarked), exact


def read_integers(values: pd.Series, conventions: Conventions = ANY) -> Reading:
    """Read ids: whole numbers of 64 bits; anything else is refused."""
    numbers = parse_numbers(values, conventions)
    whole: list[int | None] = [None] * len(values)
    for place, number in enumerate(numbers.values):
        if number is None:
            continue
        if number != number.to_integral_value() or abs(number) > LARGEST:
            numbers.refused[place] = "must be an integer"
        else:
            whole[place] = int(number)
    return _column(pd.array(whole, dtype="Int64"), numbers)


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
        elif TAGS.fits(cell):
            tags[place] = [*cell]
        elif cell is not None:
            refused[place] = TAGS.rule
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
        if TAGS.fits(found) and (read is json.loads or str(found) == text):
            return list(found)
    return None
