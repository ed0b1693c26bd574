"""The checks that are configured are also run: formatting, lint, types, layers, version."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import opp_pandas

ROOT = Path(__file__).parents[1]


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_formatting__is_ruffs() -> None:
    """Every file is as `ruff format` leaves it."""
    run("ruff", "format", "--check", ".")


def test_lint__finds_nothing() -> None:
    """`ruff check` has nothing to say."""
    run("ruff", "check", ".")


def test_types__are_strict() -> None:
    """Mypy finds no problem in the package or in the typed sample of its interface."""
    run("mypy", "opp_pandas", "tests/typing")


def test_package__holds_no_code_that_nothing_calls() -> None:
    """Every name is used by the package, a test, or whoever the lists in pyproject.toml name."""
    done = subprocess.run([sys.executable, "-m", "vulture"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr  # 3: it found something, in tests at least what pytest calls
    assert not [line for line in done.stdout.splitlines() if line.startswith("opp_pandas/")]


def test_modules__are_read_in_one_sitting() -> None:
    """None holds more than 600 lines, the median one less than 230."""
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "opp_pandas").rglob("*.py")}
    assert not {path.name: count for path, count in lines.items() if count > 600}
    assert sorted(lines.values())[len(lines) // 2] <= 230


def test_version__is_the_newest_heading_of_the_changelog() -> None:
    """Version, changelog and package metadata agree."""
    headings = re.findall(r"^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert opp_pandas.__version__ == metadata["project"]["version"] == released[0]


def test_repository__has_no_large_file() -> None:
    """No data file and no forgotten output is in the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    large = [
        name
        for name in listed.decode().split("\0")
        if name and (ROOT / name).exists() and (ROOT / name).stat().st_size > 600_000
    ]
    assert not large


def test_repository__has_nothing_forgotten_at_its_top() -> None:
    """Only what a project shows there: no output of a command, no note to oneself."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.decode()
    top = {name.partition("/")[0] for name in listed.split("\0") if name}
    folders = {".ci", "docs", "notebooks", "opp_pandas", "tests"}
    pages = {f"{name}.md" for name in ("README", "CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "SECURITY")}
    assert top <= folders | pages | {"CITATION.cff", "LICENSE", "pyproject.toml", ".gitignore", ".gitattributes"}
