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


# Tables by kind that leave some out on purpose: read in another way beside the table, or never asked for.
APART = {
    "exporting/sheets.py": {"boolean", "integer"},
    "load/parquet_folder.py": {"tags"},
    "sandbox_server/filters.py": {"tags"},
    "sandbox_server/hyperschema.py": {"tags"},
    "sandbox_server/openapi.py": {"instant", "tags"},
}


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


def test_tables__have_every_kind() -> None:
    """A table that was forgotten when a kind was added is named, with the kinds that it lacks."""
    tables = tables_by_kind()
    lacking = {where: missing for where, has in tables if (missing := set(KINDS) - has - APART.get(where, set()))}
    assert lacking == {}
    assert {where for where, _ in tables} >= set(APART)
