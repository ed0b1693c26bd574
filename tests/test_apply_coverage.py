"""Every branch of the write-back is taken by the tests of the default profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COVERED = (
    "diff", "column_diff", "row_matching", "new_rows", "name_lookup", "rules",  # what differs
    "merge", "journal", "journal_store", "journal_takeover", "journal_folder",
    "operation", "send_updates", "send_creates", "send_deletes", "workers", "executor", "apply_options", "status",
    "undo",
)  # fmt: skip
TESTS = (
    "diff", "column_diff", "merge", "journal", "journal_takeover", "write_back", "conflicts",
    "lost_answers", "failing_service", "workers",
    "undo", "round_trip", "write_back_machine", "results", "editing", "custom_fields", "prospects",
)  # fmt: skip


@pytest.mark.nightly
def test_write_back__is_covered_branch_by_branch(tmp_path: Path) -> None:
    """100 % of lines and branches of diff, merge, journal and writer; what is missed is named."""
    report = tmp_path / "coverage.json"
    command = [sys.executable, "-m", "pytest", "-q", *(f"tests/test_{name}.py" for name in TESTS)]
    command += ["--cov=opp_pandas/changes", "--cov=opp_pandas/apply", "--cov-branch", f"--cov-report=json:{report}"]
    environment = os.environ | {"COVERAGE_FILE": str(tmp_path / "coverage"), "HYPOTHESIS_PROFILE": "default"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4_000:]
    files = {Path(name).stem: facts for name, facts in json.loads(report.read_text(encoding="utf-8"))["files"].items()}
    missed = {
        name: (files[name]["missing_lines"], files[name]["missing_branches"])
        for name in COVERED
        if files[name]["missing_lines"] or files[name]["missing_branches"]
    }
    assert missed == {}
