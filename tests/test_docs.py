"""The documentation is built without a warning, and what it links to is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import opp_pandas as opp

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_documentation__is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page, every docstring and every cross-reference is understood."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(ROOT / "docs")]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links__lead_to_files_that_are_there(page: Path) -> None:
    """Links within the repository end at a file."""
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_reference__lists_every_public_name() -> None:
    """What can be imported from the package stands in the API page."""
    listed = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in opp.__all__ if not re.search(rf"\b{name}\b", listed) and not name.startswith("__")]
    assert not missing
