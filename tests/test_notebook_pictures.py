"""The pictures of editor, workspace and dashboard in notebooks and docs are those of the front end that is here.

``python tests/test_notebook_pictures.py`` takes them anew in JupyterLab's Chromium; each names in itself what it was
taken of, so that a front end which has changed since fails here.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from browsing import Desk, browser_path, home_folder, keep_picture
from opp_pandas.notebook.grid import bundle

if TYPE_CHECKING:
    from browsing import Sheet

IMAGES = Path(__file__).parents[1] / "notebooks" / "images"
LOAD = """
import opp_pandas as opp
box = opp.sandbox(opportunities=500, now="2026-10-20T15:00:00Z")
stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
df = opp.read_opportunities(box.client(timezone="America/New_York"), stages=stages, on_invalid="ignore")
soon = df[(df["stage_name"] == "Propose") & df["close_date"].between("2026-10-21", "2026-12-31")]
for row in soon.nlargest(3, "amount").index:
    df.loc[row, ["stage_name", "probability", "next_step"]] = ["Negotiate", 85, "Get the contract signed"]
"""
SHOWN = {
    "workspace": ("df.opp.workspace(quota=700_000, height=300)", ".opp-workspace"),
    "dashboard": ("df.opp.dashboard(quota=700_000)", ".opp-workspace"),
    "editor": ("df.opp.edit()", ".opp-editor"),
}


def source(name: str) -> str:
    """Return the digest of all that makes a picture: the front end and the cells."""
    parts = [*bundle("editor" if name == "editor" else "workspace"), LOAD, *SHOWN[name]]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@pytest.mark.parametrize("name", SHOWN)
def test_picture__is_of_this_front_end(name: str) -> None:
    """Taken of bundles and cells as they are, large enough to read, small enough to load, and shown by a notebook."""
    path = IMAGES / f"{name}.png"
    with Image.open(path) as picture:
        assert picture.info.get("source") == source(name), f"run python tests/test_notebook_pictures.py {name}"  # type: ignore[attr-defined]
        assert min(picture.size) > 600
    assert path.stat().st_size < 200_000
    assert any(f"images/{path.name}" in book.read_text(encoding="utf-8") for book in IMAGES.parent.glob("*.ipynb"))


def take(desk: Desk, name: str) -> None:
    """Take a picture, and note in it of what."""
    call, selector = SHOWN[name]
    sheet: Sheet = desk.open([LOAD, call], width=1240, height=1900).run()
    sheet.page.locator(".opp-big" if name != "editor" else ".opp-row").first.wait_for()
    sheet.page.wait_for_timeout(6000 if name == "dashboard" else 1000)
    if name != "dashboard":
        sheet.page.get_by_role("button", name="Review changes").click()
        sheet.page.locator(".opp-panel").get_by_text("Dry run").wait_for()
        sheet.page.wait_for_timeout(6000)
    os.environ["OPP_PANDAS_PICTURES"] = str(IMAGES)
    sheet.page.mouse.move(0, 0)
    keep_picture(sheet, name, selector)
    path = IMAGES / f"{name}.png"
    said = PngInfo()
    said.add_text("source", source(name))
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(path, pnginfo=said, optimize=True)
    sheet.close()


if __name__ == "__main__":
    made = Desk(Path(home_folder().name), browser_path())
    asyncio.events._set_running_loop(made.loop)
    for wanted in sys.argv[1:] or SHOWN:
        take(made, wanted)
    made.close()
