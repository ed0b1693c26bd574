"""`import opp_pandas` against `import pandas`."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest
from measuring import say

_PROGRAM = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"


def import_s(module: str) -> float:
    """Import a module in a process of its own; give the CPU time [s]."""
    run = subprocess.run([sys.executable, "-c", _PROGRAM.format(module)], capture_output=True, text=True, check=True)
    return float(run.stdout)


@pytest.mark.nightly
def test_import__takes_little_more_than_pandas() -> None:
    """Processes in turn: the median is at most 1.25 times that of pandas."""
    taken: dict[str, list[float]] = {"pandas": [], "opp_pandas": []}
    for _ in range(11):
        for module, values in taken.items():
            values.append(import_s(module))
    ours, peer = statistics.median(taken["opp_pandas"]), statistics.median(taken["pandas"])
    say(f"import opp_pandas: {ours:.2f} s, pandas {peer:.2f} s ({ours / peer:.2f} x its time; asked 1.25)")
    assert ours <= 1.25 * peer
