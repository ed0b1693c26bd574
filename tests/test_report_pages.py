"""Report pages as people open them: wide, on a telephone, dark, printed, in a real Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
import pypdfium2
import pytest

import opp_pandas as opp
from browsing import SERIOUS
from opp_pandas import reporting
from opp_pandas.reporting.blocks import written
from portfolios import context
from reports import HOSTILE, hostile_deals

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from browsing import Desk

pytestmark = pytest.mark.xdist_group("browser")
NOW = "2026-09-01T08:00:00Z"
WIDE, TELEPHONE = (1280, 900), (375, 812)
OpenPage = Callable[..., "Seen"]


class Seen:
    """A page in the browser, and what it did."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def barriers(self) -> list[str]:
        """What axe-core calls serious or critical."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{entry['id']}: {entry['nodes'][0]['html'][:200]}" for entry in found if entry["impact"] in SERIOUS]


@pytest.fixture
def open_page(desk: Desk) -> Iterator[OpenPage]:
    """A function that opens a file as a mail's attachment is opened: from the disk, with nothing else."""
    asyncio.events._set_running_loop(desk.loop)
    contexts: list[Any] = []

    def open_one(path: Path, size: tuple[int, int] = WIDE, theme: str = "light") -> Seen:
        made = desk.browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=theme, bypass_csp=True
        )
        contexts.append(made)
        seen = Seen(made.new_page())
        seen.page.goto(path.as_uri())
        return seen

    yield open_one
    for made in contexts:
        made.close()
    asyncio.events._set_running_loop(None)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sandbox organisation, with a history, a quota and groups: every section."""
    folder = tmp_path_factory.mktemp("report")
    stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
    history = opp.History(folder / "history")
    with opp.sandbox(opportunities=200, seed=3, now=NOW) as box:
        client = box.client(timezone="America/New_York")
        history.record(opp.read_opportunities(client, stages=stages, on_invalid="ignore"))
        box.advance(days=20)
        df = opp.read_opportunities(client, stages=stages, on_invalid="ignore")
    path: Path = df.opp.report(
        folder / "report.html",
        history=history,
        quota=400_000,
        by="owner_name",
        sections=list(reporting.SECTIONS),
        max_rows=6,
    )
    return path


@pytest.mark.parametrize(
    ("size", "theme"), [(WIDE, "light"), (TELEPHONE, "light"), (WIDE, "dark"), (TELEPHONE, "dark")]
)
def test_page__is_quiet_open_to_all_and_fits(
    report: Path, open_page: OpenPage, size: tuple[int, int], theme: str
) -> None:
    """No word on the console, no request, no barrier, nothing beyond the edge; pictures have words."""
    seen = open_page(report, size, theme)
    page = seen.page
    assert seen.said == []
    assert seen.asked == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    pictures = page.locator("figure[role=img]")
    assert pictures.count() == 8
    for picture in pictures.all():
        assert len(picture.get_attribute("aria-label") or "") > 40
        shown = picture.locator("svg:visible")
        assert shown.count() == 1
        box = shown.bounding_box()
        assert box is not None
        assert 250 < box["width"] <= size[0]
        assert picture.locator(".narrow").is_visible() is (size == TELEPHONE)
    cut = "[...document.querySelectorAll('.scroll')].filter(part => part.scrollWidth > part.clientWidth + 1).length"
    assert page.evaluate(cut) == 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is (theme == "light")
    # Colours and widths are independent of each other: two of the four looks hold all of both.
    assert (size == WIDE) is not (theme == "light") or seen.barriers() == []


def test_page__pictures_follow_the_theme(report: Path, open_page: OpenPage) -> None:
    """Words of a plot have the page's colour on light and on dark."""
    colours = {}
    for theme in ("light", "dark"):
        seen = open_page(report, WIDE, theme)
        text = seen.page.locator("figure svg:visible text").first
        colours[theme] = text.evaluate("node => getComputedStyle(node).fill")
        assert colours[theme] == seen.page.evaluate("getComputedStyle(document.body).color")
    assert colours["light"] != colours["dark"]


def test_page__tables_are_sorted_by_click_and_by_key(report: Path, open_page: OpenPage) -> None:
    """A heading sorts its column, numbers as numbers, a second time the other way, and says so."""
    seen = open_page(report)
    table = seen.page.locator("table", has=seen.page.locator("thead th", has_text="close date")).first
    heads = table.locator("thead th").all_inner_texts()
    place = heads.index("amount") + 1

    def amounts() -> list[float]:
        cells = table.locator(f"tbody tr > :nth-child({place})").all_inner_texts()
        return [float(cell.replace(",", "")) for cell in cells if cell]

    table.locator("thead th", has_text="close date").get_by_role("button").press("Enter")
    days = table.locator(f"tbody tr > :nth-child({heads.index('close date') + 1})").all_inner_texts()
    known = [day for day in days if day]
    assert known == sorted(known)
    assert days[: len(known)] == known
    button = table.locator("thead th", has_text="amount").get_by_role("button")
    button.click()
    assert table.locator("thead th").nth(place - 1).get_attribute("aria-sort") == "descending"
    assert amounts() == sorted(amounts(), reverse=True)
    button.click()
    assert amounts() == sorted(amounts())
    assert seen.said == []


def test_page__can_be_read_without_script(report: Path, desk: Desk) -> None:
    """Where scripts are forbidden, tables and pictures are there, and no dead button."""
    asyncio.events._set_running_loop(desk.loop)
    made = desk.browser.new_context(java_script_enabled=False)
    page = made.new_page()
    page.goto(report.as_uri())
    assert page.locator("tbody tr").count() > 20
    assert page.locator("button").count() == 0
    assert page.locator("figure svg").first.is_visible()
    made.close()
    asyncio.events._set_running_loop(None)


def test_page__prints_on_sheets(report: Path, open_page: OpenPage, tmp_path: Path) -> None:
    """Printed from a dark screen it is black on white, with page numbers and every table whole."""
    seen = open_page(report, WIDE, "dark")
    seen.page.pdf(path=str(tmp_path / "print.pdf"), prefer_css_page_size=True)
    document = pypdfium2.PdfDocument(tmp_path / "print.pdf")
    assert 4 <= len(document) <= 9
    width, height = document[0].get_size()
    assert (round(width), round(height)) in [(595, 842), (596, 842), (594, 842), (595, 841)]
    words = [page.get_textpage().get_text_range() for page in document]
    assert "Headlines" in words[0]
    assert f"{len(document)} / {len(document)}" in words[-1]
    corner = document[0].render(scale=1).to_pil().convert("RGB").getpixel((3, 3))
    assert corner == (255, 255, 255)
    document.close()


def test_page__repeats_headings_on_every_sheet(open_page: OpenPage, tmp_path: Path, df: pd.DataFrame) -> None:
    """A table that goes on is headed on each sheet, by the browser's printer as by the PDF's own."""

    def long(_: reporting.Material) -> pd.DataFrame:
        return pd.DataFrame({"a_name": [f"deal {number}" for number in range(150)], "some_amount": range(150)})

    df.opp.report(tmp_path / "own.pdf", sections=[long])
    page = open_page(df.opp.report(tmp_path / "long.html", sections=[long])).page
    page.pdf(path=str(tmp_path / "print.pdf"), prefer_css_page_size=True)
    for name in ("own.pdf", "print.pdf"):
        document = pypdfium2.PdfDocument(tmp_path / name)
        words = [sheet.get_textpage().get_text_range() for sheet in document]
        document.close()
        listed = [text for text in words if "deal 1" in text]
        assert len(listed) > 2
        assert all("a name" in text and "some amount" in text for text in listed), name


def test_page__shows_hostile_names_as_text(open_page: OpenPage, tmp_path: Path) -> None:
    """Nothing that a deal is called runs, loads, links or turns the line around."""
    path = reporting.write_report(
        hostile_deals(),
        tmp_path / "hostile.html",
        context=context(users=None),
        by="owner_name",
        sections=["headline", "groups", "deals"],
    )
    seen = open_page(path)
    assert seen.said == []
    assert seen.asked == [path.as_uri()]
    for name in HOSTILE:
        assert seen.page.locator("tbody th", has_text=written(name, "text")).count() >= 1, name
    assert seen.page.locator("main img, main a, main script, main iframe").count() == 0
    assert "\u202e" not in seen.page.content()
    assert seen.barriers() == []


def test_page__lets_nothing_in(report: Path, desk: Desk) -> None:
    """The page's own policy stops a script and a request that somebody smuggled in."""
    asyncio.events._set_running_loop(desk.loop)
    smuggled = "<script>document.title = 'run'</script><img src='http://127.0.0.1:9/x'></main>"
    bad = report.with_name("smuggled.html")
    bad.write_text(report.read_text(encoding="utf-8").replace("</main>", smuggled, 1), encoding="utf-8")
    made = desk.browser.new_context()
    seen = Seen(made.new_page())
    seen.page.goto(bad.as_uri())
    assert seen.page.title() == "Pipeline report"
    assert any("Content Security Policy" in said for said in seen.said)
    assert seen.page.locator("th button").count() > 20
    made.close()
    asyncio.events._set_running_loop(None)


def test_report__of_no_deals_is_still_a_page(open_page: OpenPage, tmp_path: Path, df: pd.DataFrame) -> None:
    """A page about no deals at all has no barrier and fits."""
    seen = open_page(df.iloc[:0].opp.report(tmp_path / "empty.html"), TELEPHONE)
    assert seen.said == []
    assert seen.barriers() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= TELEPHONE[0]
