"""Kinds of values: every form of every kind leads back to the same cell."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import opp_pandas
from opp_pandas.kinds import INSTANT, INSTANTS, KINDS, TAGS, Kind
from opp_pandas.resource import RESOURCES
from opp_pandas.sandbox_server.json_forms import describe_member, read_member

# Per kind: values as they come on the wire in canonical form, and one that no column of the kind can hold.
WIRE: dict[str, tuple[list[Any], Any]] = {
    "integer": ([0, -5, 2**63 - 1, -(2**63), 2**53 + 1], "5"),
    "text": (["", " x ", "007", "true", "a\nb", "😀"], {}),
    "instant": (["2026-12-31T23:00:00.000Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999999Z"], "soon"),
    "tags": ([[], ["a"], ["a, b", ""], ["[x]"]], "a"),
    "boolean": ([True, False], 1),
}
ZONES = (None, "America/New_York", "Asia/Kolkata")


def cells(kind: Kind, values: list[Any]) -> list[Any]:
    """Decode wire values into a column, and give its cells."""
    column = kind.array([kind.decode(value)[0] for value in values])
    assert str(column.dtype) == kind.dtype
    return list(column)


def test_kinds__have_examples_here() -> None:
    """A kind that is forgotten in this file is named; every attribute is of a known kind."""
    assert set(WIRE) == set(KINDS)
    attributes = [entry for resource in RESOURCES.values() for entry in resource.attributes]
    assert {entry.kind for entry in attributes} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_wire__comes_back(name: str) -> None:
    """What was decoded is built again as it was, one by one and as a column."""
    kind, (values, unfit) = KINDS[name], WIRE[name]
    assert [kind.encode(cell) for cell in cells(kind, values)] == values
    assert kind.encode_all(kind.array([*(kind.decode(value)[0] for value in values), None])) == [*values, None]
    assert kind.decode(None) == (None, True)
    with pytest.raises(ValueError, match="must be"):
        kind.decode(unfit)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("name", KINDS)
def test_grid_and_spreadsheet__come_back(name: str, zone: str | None) -> None:
    """A cell shown in a grid or written to a file is read as the same cell."""
    kind = KINDS[name]
    for cell in cells(kind, WIRE[name][0]):
        assert kind.encode(kind.read(kind.show(cell, zone), zone)) == kind.encode(cell)
        sheet = kind.read_sheet(kind.write_sheet(cell, zone or "UTC"), zone)
        assert kind.encode(sheet.as_unit("us") if kind is INSTANTS else sheet) == kind.encode(cell)


@pytest.mark.parametrize("name", KINDS)
def test_columns__drift_and_differ(name: str) -> None:
    """A cell read out of an object column is the same cell; missing cells and others differ."""
    kind = KINDS[name]
    decoded = [kind.decode(value)[0] for value in WIRE[name][0]]
    column = kind.array([*decoded, None])
    read = kind.array([kind.read_cell(cell) for cell in list(column)[:-1]])
    assert not kind.differs(read, column[:-1]).any()
    assert not kind.differs(column, column.copy()).any()
    turned = kind.array([None, *decoded])
    assert kind.differs(column, turned).all()
    own = kind.own_array(pd.Series(column))
    assert own is None if kind is TAGS else own.equals(column)


def tables_by_kind() -> list[tuple[str, set[str]]]:
    """Find the dict displays of the package whose keys name three kinds or their dtypes: where, and which kinds."""
    kind_of = {name: name for name in KINDS} | {kind.dtype: name for name, kind in KINDS.items()}
    package = Path(opp_pandas.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                named = (
                    INSTANT if getattr(key, "id", "") == "INSTANT" else getattr(key, "value", "") for key in node.keys
                )
                kinds = {kind_of[key] for key in named if isinstance(key, str) and key in kind_of}
                if len(kinds) > 2:
                    found.append((path.relative_to(package).as_posix(), kinds))
    return found


def test_kinds__are_told_apart_in_their_own_module_alone() -> None:
    """A table by kind anywhere else would be one more place that a new kind has to be entered in."""
    # The types of JSON, which some kinds are named after, are all there.
    assert {where for where, _ in tables_by_kind()} <= {"sandbox_server/json_forms.py"}


@pytest.mark.parametrize("name", KINDS)
def test_form__is_what_goes_over_the_wire(name: str) -> None:
    """The service reads what is built, says what it takes, and refuses what no column of the kind can hold."""
    kind, (values, unfit) = KINDS[name], WIRE[name]
    form = describe_member(kind.form)
    for value in values:
        assert type(value) is kind.wire
        if not form.get("minimum", value) <= value:
            continue
        taken, decoded = kind.decode(read_member(kind.form, value))[0], kind.decode(value)[0]
        # Of instants the service keeps milliseconds.
        assert taken == decoded or (kind is INSTANTS and taken == decoded // 1000 * 1000)
    with pytest.raises(ValueError, match="must be"):
        read_member(kind.form, unfit)


@pytest.mark.parametrize("name", KINDS)
def test_fits__tells_values_of_the_kind(name: str) -> None:
    """The cells of its columns fit, those of no other kind do, and a column says where it does not."""
    kind = KINDS[name]
    own = cells(kind, WIRE[name][0])
    assert all(map(kind.fits, own))
    assert not kind.unfit(pd.Series(kind.array([*map(kind.read_cell, own), None]))).any()
    # A whole number may be one of another kind of numbers.
    strangers = [other for other in KINDS.values() if other is not kind and {kind.wire, other.wire} != {int, float}]
    others = [cell for other in strangers for cell in cells(other, WIRE[other.name][0])]
    assert not any(map(kind.fits, others))
    assert kind.dtype != "object" or kind.unfit(pd.Series([*others, None], dtype=object)).sum() == len(others)
