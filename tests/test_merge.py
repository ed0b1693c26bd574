"""The laws of the three-way merge (hypothesis)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opp_pandas.apply.merge import POLICIES, Merged, merge_row, same_value
from opp_pandas.changes.changeset import Cell
from strategies import ANYTHING, ATTRIBUTES, value_of

COLUMNS = [attribute for attribute in ATTRIBUTES if not attribute.read_only]
IDS = st.one_of(st.none(), st.integers(1, 5))


@st.composite
def rows(draw: st.DrawFn) -> tuple[tuple[Cell, ...], dict[str, Any]]:
    """Edited cells of one row, and what the service has now."""
    chosen = draw(st.lists(st.sampled_from(COLUMNS), unique_by=lambda entry: entry.name, min_size=1, max_size=5))
    cells, theirs = [], {}
    for attribute in chosen:
        before, after, now = (draw(st.one_of(value_of(attribute), ANYTHING)) for _ in range(3))
        now = draw(st.sampled_from([before, before, after, now]))
        cells.append(Cell(attribute.column, before, after))
        if draw(st.integers(0, 9)):
            theirs[attribute.column] = now
    if draw(st.booleans()):
        before, after, now = draw(IDS), draw(IDS), draw(IDS)
        cells.append(Cell("owner_id", before, after))
        theirs["owner_id"] = now
    return tuple(cells), theirs


def applied(theirs: dict[str, Any], merged: Merged) -> dict[str, Any]:
    return theirs | {cell.column: cell.after for cell in merged.send}


def columns(merged: Merged) -> list[str]:
    found = [cell.column for cell in (*merged.send, *merged.done, *merged.kept)]
    return sorted(found + [cell.column for cell, _ in merged.conflicts])


def clashes(merged: Merged) -> set[str]:
    """Columns in conflict, the two forms of the amount as one."""
    return {cell.column.removesuffix("_precise") for cell, _ in merged.conflicts}


def check_laws(row: tuple[tuple[Cell, ...], dict[str, Any]]) -> None:
    cells, theirs = row
    skip, mine, kept = (merge_row(cells, theirs, policy) for policy in ("skip", "mine", "theirs"))
    # Every cell ends in exactly one place, under every policy.
    for merged in (skip, mine, kept, merge_row(cells, theirs, "ask")):
        assert columns(merged) == sorted(cell.column for cell in cells)
    # Nothing of theirs is overwritten unless mine is to win.
    for cell in skip.send:
        assert same_value(cell.column, theirs.get(cell.column, cell.before), cell.before)
    assert not mine.conflicts
    edits = {cell.column for cell in cells if not same_value(cell.column, cell.before, cell.after)}
    assert not edits & {cell.column for cell in mine.kept}
    assert not kept.conflicts
    # What is sent says what it replaces.
    assert all(same_value(c.column, c.before, theirs.get(c.column, c.before)) for c in (*mine.send, *kept.kept))
    # No edit: theirs.
    untouched = tuple(Cell(cell.column, cell.before, cell.before) for cell in cells)
    for policy in POLICIES:
        unedited = merge_row(untouched, theirs, policy)
        assert (unedited.send, unedited.conflicts) == ((), ())
    # The same edit on both sides: no conflict, nothing to send.
    agreed = merge_row(cells, {cell.column: cell.after for cell in cells})
    assert (agreed.send, agreed.conflicts) == ((), ())
    # Nobody else did anything: all of mine is sent, or was no edit.
    alone = merge_row(cells, {cell.column: cell.before for cell in cells})
    assert not alone.conflicts
    # Applying twice is applying once.
    once = applied(theirs, mine)
    assert merge_row(cells, once, "mine").send == ()
    # Conflicts are symmetric: swap mine and theirs, and the same cells clash.
    both = {cell.column: theirs.get(cell.column, cell.before) for cell in cells}
    swapped = tuple(Cell(cell.column, cell.before, both[cell.column]) for cell in cells)
    other = merge_row(swapped, {cell.column: cell.after for cell in cells})
    assert clashes(other) == clashes(skip)


@given(rows())
def test_merge__keeps_its_laws(row: tuple[tuple[Cell, ...], dict[str, Any]]) -> None:
    """No edit = theirs, same edit = no conflict, symmetric conflicts, twice = once."""
    check_laws(row)


@pytest.mark.nightly
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(rows())
def test_merge__keeps_its_laws_ten_thousand_times(row: tuple[tuple[Cell, ...], dict[str, Any]]) -> None:
    """The same with ten thousand rows."""
    check_laws(row)


@pytest.mark.parametrize(
    ("column", "one", "other", "same"),
    [
        ("amount", 10, 10.0, True),
        ("amount", 2**53 + 1, 2**53, False),
        ("amount", 1, True, False),
        ("amount", "5", "5", True),
        ("amount", "5", 5, False),
        ("amount_precise", "6000", "6000.00", True),
        ("amount_precise", "6000", "6000.01", False),
        ("amount_precise", "NaN", "NaN", True),
        ("amount_precise", "x", "x", True),
        ("amount_precise", None, "0", False),
        ("close_date", "2026-12-10T22:00:00Z", "2026-12-10T22:00:00.000Z", True),
        ("close_date", "2026-12-11T00:00:00+02:00", "2026-12-10T22:00:00Z", True),
        ("close_date", "2026-12-10", "2026-12-10T00:00:00Z", True),
        ("name", "\u00e9", "e\u0301", False),
        ("name", "", None, False),
        ("tags", ["a", "b"], ["b", "a"], False),
        ("tags", [], None, False),
        ("owner_id", 1, True, False),
        ("owner_id", 7, 7, True),
    ],
)
def test_same_value__is_the_cell_and_not_its_spelling(column: str, one: Any, other: Any, same: bool) -> None:
    """Spellings that read the same are the same; what differs as a cell differs."""
    assert same_value(column, one, other) is same
    assert same_value(column, other, one) is same


def test_policy__may_differ_by_column() -> None:
    """A decision per column, as a person gives it; columns without one stay conflicts."""
    cells = tuple(Cell(column, 1, 2) for column in ("amount", "probability", "owner_id"))
    theirs = dict.fromkeys(("amount", "probability", "owner_id"), 3)
    merged = merge_row(cells, theirs, {"amount": "mine", "probability": "theirs"})
    assert [cell.column for cell in merged.send] == ["amount"]
    assert [cell.column for cell in merged.kept] == ["probability"]
    assert [cell.column for cell, _ in merged.conflicts] == ["owner_id"]
