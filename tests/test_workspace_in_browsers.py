"""The workspace in a real browser, in each front end: from a number to its deals, an edit, and the number moves."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from itertools import pairwise
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
MANY_OWNERS = """
import numpy as np, pandas as pd
import opp_pandas as opp
rng = np.random.default_rng(1)
n, amount, stage = 4_000, rng.integers(2, 900, 4_000) * 100, rng.choice(["Lead", "Offer", "Won", "Lost"], 4_000)
raw = pd.DataFrame({"custom_id": [f"D{k}" for k in range(n)], "name": [f"Deal {k}" for k in range(n)], "amount": amount,
    "stage_name": stage, "owner_name": [f"Maximiliane Featherstonehaugh {k % 80 + 1}" for k in range(n)],
    "probability": np.select([stage == "Won", stage == "Lost"], [100, 0], rng.integers(1, 9, n) * 10)})
raw["created_at"] = pd.Timestamp("2025-11-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 350, n), unit="D")
closed = raw["created_at"] + pd.to_timedelta(rng.integers(5, 90, n), unit="D")
raw["close_date"] = closed.where(stage != "Won", closed.clip(upper=pd.Timestamp("2026-10-19", tz="UTC")))
stages = opp.StageMap(order=["Lead", "Offer", "Won", "Lost"], won=["Won"], lost=["Lost"])
df = opp.adopt(raw, stages=stages, probability_unit="percent", as_of="2026-10-20", currency="USD", timezone="UTC")
"""
# Texts below 12 px, and whether anything reaches beyond the sides.
SMALL = """(root) => [...root.querySelectorAll("*")].filter((each) =>
  [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())
  && each.getBoundingClientRect().width > 1
  && parseFloat(getComputedStyle(each).fontSize) < 12).map((each) => each.className)"""
BEYOND = "(root) => root.scrollWidth - root.clientWidth"


def open_space(open_notebook: OpenNotebook, app: str, theme: Any, width: int = 1400, setup: str = SETUP) -> Sheet:
    sheet = open_notebook([setup, *CELLS[1:]], app, theme=theme, width=width, height=1900)
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


@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 390)])
def test_workspace__of_eighty_owners_stays_readable(open_notebook: OpenNotebook, theme: Any, width: int) -> None:
    """Each owner has a row of its own that can be scrolled to; the filter finds one of them by typing."""
    from playwright.sync_api import expect

    sheet = open_space(open_notebook, "voila", theme, width, MANY_OWNERS)
    page, root = sheet.page, sheet.page.locator(".opp-workspace")
    rows = page.locator("[data-figure=owners] .opp-barrow")
    expect(rows).to_have_count(80)
    boxes = [row["y"] + row["height"] for row in (rows.nth(k).bounding_box() for k in range(5)) if row]
    assert all(below - above >= 18 for above, below in pairwise(boxes))
    assert root.evaluate(SMALL) == []
    assert root.evaluate(BEYOND) <= 0
    keep_picture(sheet, f"workspace-80-owners-{theme}-{width}")
    page.get_by_role("button", name="Owners").click()
    page.get_by_label("Search Owners").fill("haugh 77")
    page.locator(".opp-popover:not([hidden]) label:not([hidden]) input").click()
    expect(root).to_contain_text("50 of 4,000 deals")
    keep_picture(sheet, f"workspace-80-owners-chosen-{theme}-{width}")
    assert not sheet.accessibility(".opp-workspace")


PAINT = """([clicked, place, selector, text]) => new Promise((done) => {
  const start = performance.now();
  document.querySelectorAll(clicked)[place].click();
  const look = () => document.querySelector(selector)?.textContent.includes(text)
    ? requestAnimationFrame(() => done((performance.now() - start) / 1000)) : setTimeout(look, 4);
  look();
})"""


@pytest.mark.parametrize("rows", [10_000])
def test_workspace__in_jupyterlab__keeps_nobody_waiting(open_notebook: OpenNotebook, rows: int) -> None:
    """From running the cell to numbers and charts, from a tick to all charts, from a key to the answer: reported."""
    load = SETUP.replace("opportunities=300", f"opportunities={rows}").replace("timezone=", "page_size=1000, timezone=")
    sheet = open_notebook([load], height=1900).run()
    page = sheet.page
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:insert-cell-below')")
    page.keyboard.press("Enter")
    page.keyboard.insert_text("space = df.opp.workspace(quota=9_000_000)\nspace")
    start = time.perf_counter()
    page.keyboard.press("Control+Enter")
    page.locator("[data-figure=hygiene] .opp-barrow").first.wait_for()
    first = time.perf_counter() - start
    taken = []
    for turn in range(5):
        page.get_by_role("button", name="Owners").click()
        ticked = [".opp-popover:not([hidden]) input[type=checkbox]", turn]
        taken.append(page.evaluate(PAINT, [*ticked, ".opp-top", f" of {rows:,} deals"]))
        page.keyboard.press("Escape")
        page.evaluate(PAINT, [".opp-filters > .opp-link", 0, ".opp-top", f"Show all{rows:,} deals, as of"])
    found = {"first paint": (first, 1.5), "filter to all charts": (statistics.median(taken), 0.5)}
    words = ", ".join(f"{name} {s:.3f} s (asked {asked})" for name, (s, asked) in found.items())
    load_now = os.getloadavg()[0] / (os.cpu_count() or 1)
    machine = f"{rows:,} deals, {platform.machine()}, load {load_now:.1f} a core"
    sys.stdout.write(f"workspace in JupyterLab, {machine}: {words}\n")
    # Machines that do other work are slower, not ten times.
    assert all(s < 10 * asked for s, asked in found.values())
