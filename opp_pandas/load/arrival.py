"""What arrived, held against what was asked for.

Filter, sort and fields are pushed down to the service (predicate pushdown), and
no answer is taken on trust: a service may ignore what it does not know, or
compare in its own way. Rows that do not fit are left out, and the load says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.api.decode import unknown_column
from opp_pandas.api.query import sort_names
from opp_pandas.errors import named
from opp_pandas.load.where import column_of, meets
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY, snake_case

if TYPE_CHECKING:
    from opp_pandas.frame_state import Rows

Codes = np.ndarray[Any, np.dtype[np.int64]]


def columns_of(names: Iterable[str]) -> list[str]:
    """Return the attributes among names in a filter or a sort: without them what arrived cannot be tested."""
    columns = (column_of(name.removeprefix("-")) for name in names)
    return [column for column in columns if column in OPPORTUNITY.by_column]


def leave_out_unfit(
    rows: Rows,
    filter: Mapping[str, Any],  # noqa: A002  # the service's own word
    zone: str | None,
    notes: list[str],
) -> tuple[Rows, pd.DataFrame]:
    """Keep the rows that fit a filter as it was sent, by the rules of ``where=``; return them and what was left out.

    A cell whose value could not be read says nothing against its row. Of a deal that does not fit
    ``id``, ``column`` and ``value`` of the first cell that tells are returned; conditions that
    could not be tested are noted.
    """
    fits = np.ones(len(rows), dtype=bool)
    parts = []
    untested = []
    for name, value in filter.items() if len(rows) else ():
        column = column_of(name)
        if column not in rows.frame.columns or column == "prospect_ids":
            untested.append(name)
            continue
        unreadable = np.zeros(len(rows), dtype=bool)
        unreadable[[row for row, locked in rows.marks.locked if locked == column]] = True
        met = meets(rows.frame[column], value, zone, name) | unreadable
        unfit = np.flatnonzero(fits & ~met)
        fits &= met
        if len(unfit):
            cells = pd.Series(list(rows.frame[column].array.take(unfit)), dtype=object)
            parts.append(pd.DataFrame({"id": rows.frame["id"].array.take(unfit), "column": column, "value": cells}))
    if untested:
        notes.append(f"what arrived could not be tested for filter={named(untested)}, which is in no loaded column")
    if not parts:
        return rows, no_rows_left_out()
    left_out = pd.concat(parts, ignore_index=True)
    kept = rows.take(np.flatnonzero(fits))
    # Attributes that this package does not know, and that only those deals have, go with them.
    theirs = [name for name in kept.frame.columns if name not in COLUMN_DTYPES and kept.frame[name].isna().all()]
    return replace(kept, frame=kept.frame.drop(columns=theirs)), left_out


def ignored_note(left_out: pd.DataFrame) -> str:
    """Report that a service sent what it was not asked for."""
    return (
        f"the service ignored filter={named(dict.fromkeys(left_out['column']))}, or compares in another way: "
        f"{len(left_out):,} deals that do not fit were left out"
    )


def no_rows_left_out() -> pd.DataFrame:
    """Return the empty table of `leave_out_unfit`."""
    return pd.DataFrame({"id": pd.array([], "Int64"), "column": pd.array([], "str"), "value": []})


def leave_out_unasked(frame: pd.DataFrame, fields: Iterable[str] | None) -> pd.DataFrame:
    """Return a frame without the unknown attributes that ``fields=`` did not name."""
    if fields is None:
        return frame
    asked = {column for name in fields for column in (name, unknown_column(name))}
    return frame[[name for name in frame.columns if name in COLUMN_DTYPES or name in asked]]


def ignores_fields(document: Mapping[str, Any], sent: Iterable[str]) -> bool:
    """Determine from the first record of a page whether more attributes came than were asked for."""
    first = next(iter(document["data"]), None)
    attributes = first.get("attributes") if isinstance(first, Mapping) else None
    return isinstance(attributes, Mapping) and not set(attributes) <= set(sent)


# --- order -------------------------------------------------------------------


def is_sorted(frame: pd.DataFrame, sort: str | Sequence[str] | None) -> bool:
    """Return whether rows are in the order of ``sort=``.

    Where missing values stand, and whether capitals and accents count, is the
    service's own affair: any usual way is taken.
    """
    if len(frame) < 2:
        return True
    if sort is None:
        ids = frame["id"].to_numpy(dtype=np.int64)
        return bool((ids[1:] > ids[:-1]).all())
    ways = product((False, True), (None, True, False))
    return any(_in_order(_sort_keys(frame, sort, folded=folded, missing_last=last)) for folded, last in ways)


def sort_rows(rows: Rows, sort: str | Sequence[str] | None) -> Rows:
    """Return rows in the order of ``sort=``, missing values last; equal ones stay as they came."""
    keys = _sort_keys(rows.frame, sort, folded=False, missing_last=True)
    return rows.take(np.lexsort(keys[::-1])) if keys else rows


def _sort_keys(
    frame: pd.DataFrame, sort: str | Sequence[str] | None, *, folded: bool, missing_last: bool | None
) -> list[Codes]:
    """Return a rising key per term; missing values first, last, or (None) as the largest of all."""
    keys = []
    for name in sort_names(sort):
        column = snake_case(name.removeprefix("-"))
        if column not in frame.columns:
            break
        values = frame[column]
        if folded and str(values.dtype) == "str":
            values = values.map(_folded, na_action="ignore")
        codes = np.asarray(pd.factorize(values, sort=True)[0], dtype=np.int64)
        missing = codes < 0
        if name.startswith("-"):
            codes = -codes
        above = missing_last if missing_last is not None else not name.startswith("-")
        codes[missing] = len(frame) if above else -len(frame) - 1
        keys.append(codes)
    return keys


def _folded(text: str) -> str:
    """Write a text as collations compare it first: without capitals, accents and punctuation."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text.casefold()) if letter.isalnum())


def _in_order(keys: Sequence[Codes]) -> bool:
    tied = np.ones(max(len(keys[0]) - 1, 0) if keys else 0, dtype=bool)
    for codes in keys:
        if (tied & (codes[:-1] > codes[1:])).any():
            return False
        tied &= codes[:-1] == codes[1:]
    return True
