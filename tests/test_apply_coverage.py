"""Every branch of the write-back is taken by the tests of the default profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("changes", "apply")
TESTS = (
    "diff", "column_diff", "merge", "guards", "impact", "name_lookup", "plan_file", "journal", "journal_takeover",
    "status", "write_back", "conflicts", "lost_answers", "failing_service", "workers", "creation_once",
    "interleavings", "undo", "round_trip", "write_back_machine", "results", "editing", "custom_fields", "prospects",
    "notebook_editor", "write_back_edges",
)  # fmt: skip


@pytest.mark.nightly
def test_write_back__is_covered_branch_by_branch(tmp_path: Path) -> None:
    """100 % of lines and branches of every module of the two packages; what is missed is named."""
    report = tmp_path / "coverage.json"
    command = [sys.executable, "-m", "pytest", "-q", *(f"tests/test_{name}.py" for name in TESTS)]
    command += [f"--cov=opp_pandas/{name}" for name in PACKAGES] + ["--cov-branch", f"--cov-report=json:{report}"]
    environment = os.environ | {"COVERAGE_FILE": str(tmp_path / "coverage"), "HYPOTHESIS_PROFILE": "default"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4_000:]
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    modules = {str(path.relative_to(ROOT)) for name in PACKAGES for path in (ROOT / "opp_pandas" / name).glob("*.py")}
    assert modules == set(files)
    missed = {
        name: (facts["missing_lines"], facts["missing_branches"])
        for name, facts in files.items()
        if facts["missing_lines"] or facts["missing_branches"]
    }
    assert missed == {}
