"""Imports run downward only."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import opp_pandas

PACKAGE = Path(opp_pandas.__file__).parent
# Each layer may import those before it, and itself.
LAYERS = (
    ("errors",),
    ("timezones", "instants", "column_diff", "docstrings", "_files", "_html"),
    ("parsing", "clocks"),
    ("kinds",),
    ("choices",),
    ("resource", "stages", "organisation", "load_report"),
    ("frame_state",),
    ("schema",),
    ("api", "figures", "sandbox_server"),
    ("activity",),
    ("forecasting",),
    ("history",),
    ("load", "adoption"),
    ("scanning",),
    ("dask",),
    ("changes",),
    ("apply",),
    ("editing",),
    ("reconciling",),
    ("refreshing",),
    ("plotting", "sandbox_handle", "exporting"),
    ("reporting",),
    ("notebook",),
    ("accessor",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
BELOW_SANDBOX_SERVER = {"errors", "resource", "stages", "timezones"}


def imported(path: Path) -> set[str]:
    """The top-level parts of the package that a module imports while it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("opp_pandas."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("opp_pandas.")}
    return found


def needed(path: Path) -> set[str]:
    """Every module of the package that a module imports while it runs, late imports counted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    typing_only = {id(node) for guard in guards for node in ast.walk(guard)}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in typing_only]
    return {f"{node.module}{end}" for node in imports for end in ("", *(f".{alias.name}" for alias in node.names))}


def modules() -> list[tuple[str, Path]]:
    """Every module but the one that only pytest reads."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "conftest.py"]
    return [(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path) for path in paths]


@pytest.mark.parametrize(("part", "path"), [entry for entry in modules() if entry[0] != "__init__"])
def test_imports__run_downward(part: str, path: Path) -> None:
    """A module imports only its own part and parts below it."""
    own = RANK.get(part)
    assert own is not None, f"{part} stands in no layer"
    for other in imported(path):
        assert other == part or RANK[other] < own or (RANK[other] == own and other == part), f"{path.name}: {other}"


@pytest.mark.parametrize("room", sorted({path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*/*.py")}))
def test_room__imports_in_no_circle(room: str) -> None:
    """The modules of a room and its folders can be read one after the other, late imports counted."""
    paths = {
        ".".join(("opp_pandas", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in (PACKAGE / room).rglob("*.py")
        if path.stem != "__init__"
    }
    graph = {name: needed(path) & set(paths) for name, path in paths.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(paths)


def test_sandbox_server__shares_only_the_resource_table() -> None:
    """The two ends of the wire are written twice."""
    for part, path in modules():
        if part == "sandbox_server":
            assert imported(path) <= BELOW_SANDBOX_SERVER | {"sandbox_server"}, path


def test_figures__touches_neither_network_nor_clock() -> None:
    """Figures take the moment as an argument."""
    for part, path in modules():
        if part in ("figures", "forecasting"):
            text = path.read_text(encoding="utf-8")
            assert not any(word in text for word in ("requests", ".now(", ".today(", "import time")), path


def test_import__stays_light() -> None:
    """Importing the package loads none of the heavy libraries and opens no door."""
    heavy = ("pandera", "matplotlib", "ipywidgets", "deltalake", "numba", "dask", "werkzeug", "duckdb", "IPython")
    program = f"import sys, opp_pandas; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
