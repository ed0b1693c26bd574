"""What may be written: which columns, which values, and which cells have to move together."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from opp_pandas.changes.changeset import Entry, RowDeletion, RowUpdate
from opp_pandas.errors import printable
from opp_pandas.kinds import INTEGER, KINDS, Kind, UnfitError, kind_of_dtype
from opp_pandas.resource import COLUMN_DTYPES, EDITABLE_NAMES, LOOKUP_COLUMNS, OPPORTUNITY, TOUCH_COLUMNS

_DECIMAL = re.compile(r"-?\d{1,15}(\.\d+)?", re.ASCII)
_PRECISE_LENGTH = OPPORTUNITY.by_column["amount_precise"].max_length or 15
WRITABLE: dict[str, Kind] = {
    **{entry.column: KINDS[entry.kind] for entry in OPPORTUNITY.attributes if not entry.read_only},
    **{column: INTEGER for column, entry in OPPORTUNITY.relationship_by_column.items() if not entry.read_only},
}
"""The columns that can be written, and the kind of their values."""


def column_kind(column: str, dtype: Any) -> Kind | None:
    """Return the kind of a column's values; None where the service may have sent anything."""
    attribute = OPPORTUNITY.by_column.get(column)
    return kind_of_dtype(dtype) if attribute is None else KINDS[attribute.kind]


def read_only_reason(column: str) -> str:
    """Explain why a column cannot be written."""
    if column == "prospect_ids":
        return f"{column} is for reading; client.link_prospect(opportunity_id, prospect_id) puts somebody on a deal"
    if column in TOUCH_COLUMNS:
        return f"{column} is for reading: it is counted from what read_activity finds"
    if column in LOOKUP_COLUMNS:
        return f"{column} is joined for reading; edit {LOOKUP_COLUMNS[column].id_column}"
    if column in COLUMN_DTYPES:
        return f"{column} is kept by the service and cannot be written"
    return f"{column} is an attribute that this version does not know, and is never sent"


def unreadable_reason(column: str, value: Any, problem: str) -> str:
    """Explain why a cell cannot be read; a fraction of a probability is not told to be rounded.

    Examples
    --------
    >>> unreadable_reason("probability", 0.75, "is not a whole number; round it first")
    'probability 0.75 is a fraction; it is in percent, 0 to 100'
    """
    if column == "probability" and isinstance(value, float) and 0 < value < 1:
        return f"{column} {value:g} is a fraction; it is in percent, 0 to 100"
    return f"{column} {problem}"


def value_objection(column: str, value: Any) -> str | None:
    """Describe which rule of the service a wire value breaks, or None.

    Values that are odd but possible (a negative amount, the year 9999) pass.

    Examples
    --------
    >>> value_objection("probability", 101)
    'probability 101 is not within 0 to 100'
    >>> value_objection("owner_id", 0)
    'owner_id 0 is not an id; to clear it set it to missing'
    """
    if value is None:
        return None
    if column in OPPORTUNITY.relationship_by_column:
        return None if value > 0 else f"{column} {value} is not an id; to clear it set it to missing"
    attribute = OPPORTUNITY.by_column[column]
    longest, low, high = attribute.max_length, attribute.minimum, attribute.maximum
    if longest is not None and isinstance(value, str) and len(value) > longest:
        return f"{column} has {len(value):,} characters; the service takes {longest:,}"
    if low is not None and high is not None and not low <= value <= high:
        return f"{column} {value} is not within {low} to {high}"
    if column == "amount_precise" and not _DECIMAL.fullmatch(value):
        return f"{column} {printable(value, 40)!r} is not a decimal number such as '5000.50'"
    return None


def entry_objection(entry: Entry) -> tuple[str, str] | None:
    """Return the column of a row that today's rules do not let through, and why; None where all may be sent."""
    if isinstance(entry, RowDeletion):
        return None
    for column in () if isinstance(entry, RowUpdate) else set(entry.unresolved) - set(EDITABLE_NAMES):
        return column, "a name of no known column"
    for column, value in entry.values.items():
        if column not in WRITABLE:
            return column, f"{printable(column, 40)} cannot be written"
        try:
            WRITABLE[column].decode(value)
        except UnfitError as problem:
            return column, f"{column} {problem}"
        objection = value_objection(column, value)
        if objection is not None:
            return column, objection
    return None


def amounts_agree(amount: int | None, precise: str | None) -> bool:
    """Whether a whole amount and a precise one can be the same sum of money.

    Examples
    --------
    >>> amounts_agree(5000, "5000.50"), amounts_agree(6000, "5000.50")
    (True, False)
    """
    if amount is None or precise is None:
        return amount is None and precise is None
    try:
        return abs(Decimal(precise) - amount) < 1
    except InvalidOperation:
        return False


def whole_amount(precise: str | None) -> int | None:
    """Round a precise amount to whole units, halves away from zero.

    Examples
    --------
    >>> whole_amount("5000.50"), whole_amount(None)
    (5001, None)
    """
    return None if precise is None else int(Decimal(precise).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def precise_amount(amount: int | None) -> str | None:
    """Write a whole amount as a precise one; missing where it has no room for it.

    Examples
    --------
    >>> precise_amount(6000)
    '6000'
    """
    text = None if amount is None else str(amount)
    return text if text is None or len(text) <= _PRECISE_LENGTH else None
