"""What the examples in docstrings start from: a made-up organisation, a history of its deals, and a load.

Tests run the examples, and the documentation draws the pictures of plots by them. The wheel leaves this file out.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp

if TYPE_CHECKING:
    from collections.abc import Iterator

START = """
import pandas as pd
import opp_pandas as opp

start = pd.Timestamp("2026-05-06T15:00:00Z")
box = opp.sandbox(opportunities=200, now=lambda: start)       # made-up deals; its clock stands still
client = box.client(timezone="America/New_York")
stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
history = opp.History("pipeline-history")
for days in [0, 60, 60, 60]:                                  # half a year, seen every 60 days
    box.advance(days)
    df = opp.read_opportunities(client, stages=stages, on_invalid="ignore")
    history.record(df)
"""
"""The lines before every example, as the documentation shows them."""
NAMES = re.compile(r"\b(box|client|stages|history|df)\b")


@contextmanager
def example_names(folder: str) -> Iterator[dict[str, Any]]:
    """Run `START` in a folder, and give the names that it makes."""
    names: dict[str, Any] = {}
    with ExitStack() as stack:
        exec(START.replace('"pipeline-history"', repr(str(Path(folder) / "pipeline-history"))), names)  # noqa: S102
        stack.enter_context(names["box"])
        yield {name: value for name, value in names.items() if not name.startswith("_")}


@pytest.fixture(scope="session")
def _started() -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder, example_names(folder) as names:
        yield names


@pytest.fixture(autouse=True)
def _example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Provide each example with a fresh frame, a folder, a journal, and pictures that nobody sees."""
    test: Any = getattr(request.node, "dtest", None)
    if test is None:
        yield
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPP_PANDAS_JOURNAL", str(tmp_path / "journal"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    test.globs.update(pd=pd, opp=opp)
    if NAMES.search("".join(example.source for example in test.examples)):
        started = request.getfixturevalue("_started")
        test.globs.update(started, df=started["df"].copy())
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Leave the examples of plots to the documentation, whose gallery draws every one of them in the same run."""
    items[:] = [item for item in items if ".plotting." not in item.name or ".plot_" not in item.name]
