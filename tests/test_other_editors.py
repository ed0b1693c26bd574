"""The editors of marimo and Streamlit under the tries that ours is held to: the documentation's table is from here."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import edit_damage
from browsing import FLAGS, _free_port, browser_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from browsing import OpenNotebook

pytestmark = [pytest.mark.nightly, pytest.mark.xdist_group("browser")]

COLUMNS = list(edit_damage.COLUMNS)
# Lists are typed otherwise in each editor: they are left out.
TRIES = [(row, attempt) for row, attempt in enumerate(edit_damage.TRIES) if attempt.column != "tags"]
STREAMLIT = os.environ.get("OPP_PANDAS_STREAMLIT", "")
APP = """
from pathlib import Path
import pandas as pd, streamlit as st
folder = Path(__file__).parent
st.set_page_config(layout="wide")
number, chosen = st.column_config.NumberColumn, st.column_config.SelectboxColumn
told = {{"disabled": ["created_at"], "column_config": {{"amount": number(step=1),
    "stage_name": chosen(options={stages}), "probability": number(min_value=0, max_value=100, step=1)}}}}
found = st.data_editor(pd.read_pickle(folder / "plain.pkl"), height=1500, **(told if {told} else {{}}))
found.to_pickle(folder / "found.part")
(folder / "found.part").replace(folder / "found.pkl")
"""
STAGES = ["Qualify", "Discover", "Propose", "Negotiate", "Closed Won", "Closed Lost"]


def type_all(page: Page, corner: tuple[float, float], before: int) -> None:
    """Type every try over its cell, found by the keyboard: cells are painted; `before` columns are the index."""
    for row, attempt in TRIES:
        page.mouse.click(*corner)
        for keys in ("Control+ArrowUp", "Control+ArrowLeft"):
            page.keyboard.press(keys)
        for key, times in (("ArrowDown", row), ("ArrowRight", before + COLUMNS.index(attempt.column))):
            for _ in range(times):
                page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
        calendar = page.locator("#portal input[type=date], #portal input[type=datetime-local]")
        if calendar.count():
            # What is no day cannot be typed there.
            kind = calendar.first.get_attribute("type")
            if pd.notna(day := pd.to_datetime(attempt.text, format="%Y-%m-%d", errors="coerce")):
                calendar.first.fill(f"{day:%Y-%m-%d}" if kind == "date" else f"{day:%Y-%m-%dT%H:%M}")
        else:
            page.keyboard.press("Control+a")
            page.keyboard.insert_text(attempt.text)
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
        page.keyboard.press("Escape")
    page.wait_for_timeout(3000)


def compare(before: pd.DataFrame, after: pd.DataFrame) -> tuple[int, int, list[str], list[str]]:
    """Count tries that came out as meant and that left the cell alone; name those that did harm, and lost dtypes."""
    taken, kept, harmed = 0, 0, []
    for row, attempt in TRIES:
        was, now = (edit_plain(frame[attempt.column].iloc[row]) for frame in (before, after))
        if attempt.column == "close_date" and now != was:
            now = str(now)[:10]
        if attempt.meant is not edit_damage.KEPT and now == attempt.meant:
            taken += 1
        elif now == was:
            kept += 1
        else:
            harmed.append(f"{attempt.column}: {attempt.text!r} made {now!r} of {was!r}")
    typed = {(row, attempt.column) for row, attempt in TRIES}
    for row in range(len(before)):
        for column in COLUMNS:
            was, now = (edit_plain(frame[column].iloc[row]) for frame in (before, after))
            if (row, column) not in typed and was != now:
                harmed.append(f"row {row}, {column}, not typed into: {now!r}, was {was!r}")
    dtypes = [
        f"{column}: {before[column].dtype} became {after[column].dtype}"
        for column in COLUMNS
        if before[column].dtype != after[column].dtype
    ]
    return taken, kept, harmed, dtypes


def edit_plain(cell: Any) -> Any:
    """A cell whose type does not matter: 5.0 is 5, a moment its text."""
    if isinstance(cell, list | tuple | np.ndarray):
        return list(cell)
    cell = cell.item() if isinstance(cell, np.generic) else cell
    if cell is None or cell is pd.NA or cell is pd.NaT or cell != cell:
        return None
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return f"{cell:%Y-%m-%d %H:%M:%S}" if isinstance(cell, pd.Timestamp) else cell


def say(name: str, found: tuple[int, int, list[str], list[str]]) -> None:
    taken, kept, harmed, dtypes = found
    lines = [f"{name}: {taken} as meant, {kept} left alone, {len(harmed)} damaged", *harmed, *dtypes]
    sys.stdout.write("\n  ".join(lines) + "\n")
    assert taken + kept + len([each for each in harmed if "not typed into" not in each]) == len(TRIES)


def frame() -> pd.DataFrame:
    names: dict[str, Any] = {}
    exec(edit_damage.SETUP, names)  # noqa: S102 - the cell that notebooks run
    return pd.DataFrame(names["df"][COLUMNS])


def test_marimo__data_editor(open_notebook: OpenNotebook) -> None:
    """Printed: which of the tries marimo's own editor takes, leaves alone and damages."""
    setup = f"{edit_damage.SETUP}plain = df[{COLUMNS!r}]\n"
    cells = [setup, "import marimo as mo\nother = mo.ui.data_editor(plain)\nother"]
    sheet = open_notebook(cells, "marimo", width=2200, height=1900).run()
    box = sheet.page.locator("canvas[data-testid=data-grid-canvas]").first.bounding_box()
    assert box is not None
    type_all(sheet.page, (box["x"] + 80, box["y"] + 54), 0)
    path = sheet.jupyter.home / "marimo.pkl"
    assert sheet.python(f"plain.to_pickle({str(path)!r}) or True")
    before = pd.read_pickle(path)  # noqa: S301 - written by the line above
    assert sheet.python(f"other.value.to_pickle({str(path)!r}) or True")
    say(f"marimo {importlib.metadata.version('marimo')}", compare(before, pd.read_pickle(path)))  # noqa: S301


@pytest.mark.skipif(not STREAMLIT, reason="OPP_PANDAS_STREAMLIT names no Python that has Streamlit")
@pytest.mark.parametrize("told", [False, True])
def test_streamlit__data_editor(tmp_path: Path, told: bool) -> None:
    """The same for Streamlit's, with the frame alone and with what its columns can be told."""
    from playwright.sync_api import sync_playwright

    before = frame()
    before.to_pickle(tmp_path / "plain.pkl")
    (tmp_path / "app.py").write_text(APP.format(stages=STAGES, told=told), encoding="utf-8")
    port = _free_port()
    flags = [f"--server.port={port}", "--server.headless=true", "--browser.gatherUsageStats=false"]
    command = [STREAMLIT, "-m", "streamlit", "run", str(tmp_path / "app.py"), *flags]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
            page = browser.new_page(viewport={"width": 2200, "height": 1900})
            wait_for(lambda: page.goto(f"http://127.0.0.1:{port}"))
            grid = page.locator("canvas[data-testid=data-grid-canvas]").first
            grid.wait_for(timeout=120_000)
            page.wait_for_timeout(3000)
            box = grid.bounding_box()
            assert box is not None
            type_all(page, (box["x"] + 110, box["y"] + 52), 1)
            browser.close()
        after = pd.read_pickle(tmp_path / "found.pkl")  # noqa: S301 - written by the app
    finally:
        server.terminate()
        server.wait()
    version = subprocess.run(
        [STREAMLIT, "-c", "import streamlit; print(streamlit.__version__)"], check=True, capture_output=True, text=True
    ).stdout.strip()
    say(f"streamlit {version}{', told what its columns are' if told else ''}", compare(before, after))


def wait_for(act: Callable[[], object]) -> None:
    """Try until something can be done."""
    deadline = time.monotonic() + 120
    while True:
        try:
            act()
            return
        except Exception:  # noqa: BLE001 - the server is not there yet
            assert time.monotonic() < deadline
            time.sleep(0.5)
