"""What the benchmarks measured, once more in one place at the end of a run."""

from __future__ import annotations

import pytest

from tests.benchmarks.measuring import SAID


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeat every line of the report."""
    if SAID:
        terminalreporter.section("measured")
        for line in SAID:
            terminalreporter.write_line(line)
