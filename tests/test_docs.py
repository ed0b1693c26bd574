"""The documentation is built without a warning, and what it links to is there."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import opp_pandas as opp
from browsing import SERIOUS, Desk
from opp_pandas.figures.core.figure import FIGURES, PLOTS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def build(target: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(ROOT / "docs")]
    done = subprocess.run([*command, str(target)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_documentation__is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page, docstring and reference is understood, and what the registries hold is drawn and defined."""
    build(tmp_path)
    made = {page.stem: page.read_text(encoding="utf-8") for page in (tmp_path / "_generated").glob("*.html")}
    for name in PLOTS:
        assert f"plot_{name}.png" in made["gallery"]
    for name in FIGURES:
        assert f"df.opp.{name}()" in made["definitions"]
    index = (tmp_path / "llms.txt").read_text(encoding="utf-8")
    addresses = re.findall(r"\]\(([^)]+)\)", index)
    assert len(addresses) > 20
    assert not [address for address in addresses if not (tmp_path / address).exists()]
    # Every link between pages ends at a page and, where it names one, at a heading or an object of it.
    pages = [path for path in tmp_path.rglob("*.html") if "_static" not in path.parts]
    marks = {path: set(re.findall(r' (?:id|name)="([^"]+)"', path.read_text(encoding="utf-8"))) for path in pages}
    for path in pages:
        for target, anchor in set(re.findall(r'href="([^":#?]*)(?:#([^"]*))?"', path.read_text(encoding="utf-8"))):
            goal = (path.parent / target).resolve() if target else path
            assert goal.exists(), f"{path.name} links to {target}"
            assert not anchor or goal not in marks or anchor in marks[goal], f"{path.name}: {target}#{anchor}"


@pytest.mark.nightly
@pytest.mark.xdist_group("browser")
def test_documentation__is_read_on_wide_and_narrow_screens_by_everybody(desk: Desk, tmp_path: Path) -> None:
    """At three widths no page scrolls sideways, and axe-core finds no serious barrier, light and dark."""
    build(tmp_path)
    pages = ("index", "tour", "errors", "comparison", "how-to/predict", "_generated/gallery", "_generated/definitions")
    for width, theme in ((1280, "light"), (768, "light"), (390, "dark")):
        found = {name: look(desk, tmp_path / f"{name}.html", width, theme) for name in pages}
        assert not {name: said for name, said in found.items() if said}, width


def look(desk: Desk, path: Path, width: int, theme: str) -> list[str]:
    """What is wrong with a page at a width."""
    from axe_playwright_python.sync_playwright import Axe

    asyncio.events._set_running_loop(desk.loop)
    context = desk.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True)
    try:
        page = context.new_page()
        page.route("http*://**", lambda route: route.abort())
        page.goto(path.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found = Axe().run(page).response["violations"]
        said = [f"{entry['id']}: {entry['nodes'][0]['html'][:150]}" for entry in found if entry["impact"] in SERIOUS]
        return [*said, *([f"scrolls sideways by {wide} px"] if wide > 0 else [])]
    finally:
        context.close()
        asyncio.events._set_running_loop(None)


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


def test_errors__have_a_row_each() -> None:
    """The page on errors names every exception and warning with what to do."""
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for name, error in vars(opp.errors).items():
        if inspect.isclass(error) and issubclass(error, Exception) and not name.startswith("OppPandas"):
            assert re.search(rf"^\| `{name}` \|[^|]{{10,}}\|[^|]{{5,}}\|$", page, re.MULTILINE), name
