"""What every test starts from."""

from __future__ import annotations

import inspect
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

import opp_pandas as opp
from browsing import desk, open_notebook  # noqa: F401 (fixtures)
from thirtydeals import NOW, STAGES, fast_client, thirty_deals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

mpl.use("agg")
# Journals of tests stand in a folder that goes with the run.
JOURNALS = tempfile.TemporaryDirectory(prefix="opp_pandas_journals_", ignore_cleanup_errors=True)
os.environ["OPP_PANDAS_JOURNAL"] = JOURNALS.name

settings.register_profile(
    "default",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("nightly", settings.get_profile("default"), max_examples=2000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# What starts a server, a browser or another program, or keeps a history on disk.
_BEYOND_CORE = re.compile(r"\bsandbox\(|\bbox\b|History\(|histories|subprocess|browsing|rawserver|nbclient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as core the tests of the modules that stay within this process."""
    core = {}
    for item in items:
        module = getattr(item, "module", None)
        if module is not None and module not in core:
            core[module] = not _BEYOND_CORE.search(inspect.getsource(module))
        if core.get(module) and not item.get_closest_marker("nightly"):
            item.add_marker("core")


def _is_thirty(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker("thirty_deals") is not None


@pytest.fixture
def box(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    """A sandbox of one's own at a fixed moment, with 60 deals or with those of `thirtydeals`, and journals of its own.

    Another test's sandbox may have had the same port, which makes the two one service to a journal.
    """
    monkeypatch.setenv("OPP_PANDAS_JOURNAL", str(tmp_path_factory.mktemp("journals")))
    is_thirty = _is_thirty(request)
    own = thirty_deals(request.getfixturevalue("tmp_path")) if is_thirty else opp.sandbox(opportunities=60, now=NOW)
    with own as made:
        yield made


@pytest.fixture
def client(request: pytest.FixtureRequest, box: Sandbox) -> Iterator[Client]:
    """A client on the sandbox."""
    with fast_client(box) if _is_thirty(request) else box.client(timezone="America/New_York") as made:
        yield made


@pytest.fixture
def df(client: Client) -> pd.DataFrame:
    """All deals of the sandbox, loaded."""
    return opp.read_opportunities(client, stages=STAGES)


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C as a program of its own has it: runners of tests may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with opportunity files from elsewhere."""
    folder = os.environ.get("OPP_PANDAS_DATA")
    if not folder:
        pytest.skip("OPP_PANDAS_DATA names no folder with opportunity files")
    return Path(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeat what the benchmarks measured, in one place at the end of a run."""
    said = getattr(sys.modules.get("measuring"), "SAID", [])
    if said:
        terminalreporter.section("measured")
        for line in said:
            terminalreporter.write_line(line)
