"""The workspace in a real browser, in each front end: from a number to its deals, an edit, and the number moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from browsing import keep_picture

if TYPE_CHECKING:
    from browsing import OpenNotebook, Sheet

pytestmark = [pytest.mark.nightly, pytest.mark.xdist_group("browser")]

SETUP = """
import opp_pandas as opp
box = opp.sandbox(opportunities=300, now="2026-10-20T15:00:00Z")
stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
df = opp.read_opportunities(box.client(timezone="America/New_York"), stages=stages, on_invalid="ignore")
"""
CELLS = [SETUP, "space = df.opp.workspace(quota=450_000, height=300)\nspace"]
# Texts below 12 px, and whether anything reaches beyond the sides.
SMALL = """(root) => [...root.querySelectorAll("*")].filter((each) =>
  [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())
  && each.getBoundingClientRect().width > 1
  && parseFloat(getComputedStyle(each).fontSize) < 12).map((each) => each.className)"""
BEYOND = "(root) => root.scrollWidth - root.clientWidth"


def open_space(open_notebook: OpenNotebook, app: str, theme: Any, width: int = 1400) -> Sheet:
    sheet = open_notebook(CELLS, app, theme=theme, width=width, height=1900)
    sheet.run()
    sheet.page.locator(".opp-big").wait_for()
    return sheet


@pytest.mark.parametrize(
    ("app", "theme", "width"),
    [
        ("lab", "light", 1400),
        ("lab", "dark", 1400),
        ("notebook", "light", 1400),
        ("voila", "light", 1100),
        ("voila", "dark", 390),
        ("voila", "light", 390),
        ("marimo", "light", 1400),
    ],
)
def test_workspace__from_number_to_deal_and_back(open_notebook: OpenNotebook, app: str, theme: Any, width: int) -> None:
    """A click lists the deals behind a bar, an edit moves the numbers, axe-core finds nothing, no text is small."""
    from playwright.sync_api import expect

    sheet = open_space(open_notebook, app, theme, width)
    page = sheet.page
    assert not sheet.accessibility(".opp-workspace")
    root = page.locator(".opp-workspace")
    assert root.evaluate(SMALL) == []
    assert root.evaluate(BEYOND) <= 0
    keep_picture(sheet, f"workspace-{app}-{theme}-{width}")

    # By keyboard alone: from a chart to its deals.
    page.locator("[data-figure=stage_distribution] .opp-barrow").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".opp-chip")).to_contain_text("Discover")
    page.locator(".opp-chip").click()
    expect(page.locator(".opp-chip")).to_be_hidden()

    # Also in a shadow, what is ticked in a list is looked at.
    page.get_by_role("button", name="Stages").click()
    page.locator(".opp-popover:not([hidden]) input[type=checkbox]").first.click()
    expect(root).to_contain_text(" of 300 deals")
    page.get_by_role("button", name="Show all").click()

    cell = page.locator(".opp-row[data-index='0'] [data-column='amount']")
    expect(page.locator(".opp-top")).to_contain_text("300 deals, as of")
    cell.dblclick()
    page.keyboard.type("950000")
    page.keyboard.press("Enter")
    expect(page.locator(".opp-card .opp-delta").first).to_contain_text("by edits")
    page.get_by_role("button", name="Review changes").click()
    expect(page.locator(".opp-panel")).to_contain_text("Effect on the forecast")
    assert not sheet.accessibility(".opp-workspace")
    keep_picture(sheet, f"workspace-{app}-{theme}-{width}-edited")
    assert not sheet.console_errors
    assert not sheet.foreign_requests
