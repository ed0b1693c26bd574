"""The editor as people use it, in JupyterLab, Notebook 7, Voila and marimo: by mouse and by keyboard."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import edit_damage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Locator

    from browsing import OpenNotebook, Sheet

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
SETUP = f"""
import json
import opp_pandas as opp
box = opp.sandbox(opportunities=40, now="2026-10-20T15:00:00Z")
client = box.client(timezone="America/New_York")
client.update(3, {{"name": {HOSTILE!r}}})
deal = {{"probability": 50, "nextStep": "Call", "closeDate": "2026-11-30T22:00:00Z"}}
for number in range(1, 11):
    client.update(number, {{**deal, "amount": 1000 * number}})
df = opp.read_opportunities(client, stages=opp.StageMap(won=["Closed Won"], lost=["Closed Lost"]))
before = df.copy()
earlier = len(box.requests)
"""
POINTER = "/data/attributes/nextStep"
COLUMNS = (
    '["name", "stage_name", "amount", "probability", "close_date", "next_step", "tags", "owner_name", "created_at"]'
)
# Ids, attributes and relationships of what was sent, but for the two deals whose sending is disturbed.
PATCHES = """sorted(
    (entry.path.rsplit("/", 1)[-1], data.get("attributes", {}), data.get("relationships", {}))
    for entry in box.requests[earlier:] if entry.method == "PATCH" and entry.path[-2:] not in ("/6", "/7")
    for data in [json.loads(entry.body)["data"]])"""


def cell(sheet: Sheet, row: int, column: str) -> Locator:
    return sheet.page.locator(f".opp-row[data-index='{row}'] [data-column='{column}']")


def shows(sheet: Sheet, row: int, column: str, text: str) -> None:
    """Wait until a cell shows a text."""
    from playwright.sync_api import expect

    expect(cell(sheet, row, column).locator(".opp-text")).to_have_text(text)


def open_editor(open_notebook: OpenNotebook, app: str, theme: Any = "light", width: int = 1400) -> Sheet:
    cells = [SETUP, f"editor = df.opp.edit(columns={COLUMNS}, height=400)\neditor"]
    sheet = open_notebook(cells, app, theme=theme, width=width)
    sheet.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sheet.run()
    shows(sheet, 0, "amount", "1\u202f000")
    return sheet


@pytest.mark.parametrize("app", ["lab", pytest.param("notebook", marks=pytest.mark.nightly)])
def test_session__by_mouse_and_keyboard(open_notebook: OpenNotebook, app: str) -> None:
    """Number, stage, date, null, paste, refusal, undo and save; the service sees exactly the edits."""
    from playwright.sync_api import expect

    sheet = open_editor(open_notebook, app)
    page, press = sheet.page, sheet.page.keyboard.press
    cells = page.locator(".jp-CodeCell").count()

    # A number by mouse.
    cell(sheet, 0, "amount").dblclick()
    page.keyboard.type("4321")
    press("Enter")
    shows(sheet, 0, "amount", "4\u202f321")
    expect(cell(sheet, 0, "amount")).to_have_attribute("aria-description", "changed, was 1000")

    # Columns that join while a cell is typed into, as when names of custom fields come late, leave the text alone.
    cell(sheet, 1, "amount").dblclick()
    page.keyboard.type("12")
    assert sheet.python("editor._desk.columns.insert(0, 'id') or editor._desk.learn({}) or True")
    expect(cell(sheet, 1, "id")).to_be_visible()
    expect(page.locator(".opp-input")).to_be_focused()
    page.keyboard.type("34")
    press("Enter")
    shows(sheet, 1, "amount", "1\u202f234")
    press("Control+z")
    shows(sheet, 1, "amount", "2\u202f000")
    assert sheet.python("editor._desk.columns.remove('id') or editor._desk.learn({}) or True")
    expect(cell(sheet, 1, "id")).to_have_count(0)

    # A stage by its list.
    stage = cell(sheet, 4, "stage_name")
    stage.click()
    width = stage.bounding_box()["width"]  # type: ignore[index]
    stage.click(position={"x": width - 10, "y": 15})
    expect(page.get_by_role("option", name="Propose")).to_be_visible()
    assert not sheet.accessibility(".opp-grid")
    page.get_by_role("option", name="Propose").click()
    shows(sheet, 4, "stage_name", "Propose")

    # A date.
    cell(sheet, 4, "close_date").dblclick()
    page.keyboard.type("2026-12-31")
    press("Enter")
    shows(sheet, 4, "close_date", "2026-12-31")

    # By keyboard alone, with letters that the host has commands for: a text, a stage, a null.
    cell(sheet, 0, "amount").click()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight"):
        press(key)
    page.keyboard.type("x dd b a Sign")
    press("Enter")
    shows(sheet, 1, "next_step", "x dd b a Sign")
    for key in ("Home", "ArrowRight", "Alt+ArrowDown"):
        press(key)
    expect(page.get_by_role("listbox")).to_be_visible()
    page.keyboard.type("disc")
    press("Enter")
    shows(sheet, 2, "stage_name", "Discover")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Delete"):
        press(key)
    shows(sheet, 2, "probability", "—")

    # A range from a spreadsheet.
    cell(sheet, 7, "amount").click()
    page.evaluate("navigator.clipboard.writeText('111\\t20\\n222\\t30\\n')")
    press("Control+v")
    shows(sheet, 8, "probability", "30")
    shows(sheet, 7, "amount", "111")

    # A refusal says why, beside the cell and to those who listen, and changes nothing.
    cell(sheet, 9, "amount").click()
    page.keyboard.type("12.5")
    press("Enter")
    expect(page.locator(".opp-reason")).to_contain_text("not a whole number")
    expect(page.locator(".opp-alarm")).to_contain_text("nothing was changed")
    expect(page.locator(".opp-input")).to_have_attribute("aria-invalid", "true")
    assert not sheet.accessibility(".opp-grid")
    press("Escape")
    shows(sheet, 9, "amount", "10\u202f000")
    cell(sheet, 9, "created_at").click()
    page.keyboard.type("2")
    expect(page.locator(".opp-alarm")).to_contain_text("kept by the service")

    # Undo and redo.
    press("Control+z")
    shows(sheet, 7, "amount", "8\u202f000")
    press("Control+y")
    shows(sheet, 7, "amount", "111")

    # Copied cells come out as they are.
    cell(sheet, 7, "amount").click()
    press("Shift+ArrowRight")
    press("Control+c")
    expect(page.locator(".opp-status")).to_contain_text("2 cells copied")
    assert page.evaluate("navigator.clipboard.readText()").strip() == "111\t20"

    # Somebody else edits one of two more rows; the service refuses the other.
    cell(sheet, 5, "next_step").click()
    page.keyboard.type("Mine")
    press("Enter")
    shows(sheet, 5, "next_step", "Mine")
    cell(sheet, 6, "next_step").click()
    page.keyboard.type("Too bold")
    press("Enter")
    shows(sheet, 6, "next_step", "Too bold")
    error = {"id": "validationError", "title": "No", "detail": "Not so bold.", "source": {"pointer": POINTER}}
    sheet.python("client.update(6, {'nextStep': 'Theirs'}).status")
    sheet.python(
        f"box.fail(422, method='PATCH', path='/opportunities/7', body=json.dumps({{'errors': [{error!r}]}}).encode())"
    )

    # Review, then save.
    page.get_by_role("button", name="Review changes").click()
    expect(page.locator(".opp-panel")).to_contain_text("Dry run: nothing was sent")
    expect(page.locator(".opp-panel")).to_contain_text("Effect on the forecast")
    assert sheet.python(PATCHES) == []
    assert not sheet.accessibility(".opp-panel")
    page.get_by_role("button", name="Send 8 rows").click()
    expect(page.locator(".opp-panel")).to_contain_text("Sent:")
    stages = dict(sheet.python("df.opp.stages.frame[['stage_name', 'stage_id']].to_numpy().tolist()"))
    link = lambda name: {"opportunityStage": {"data": {"type": "opportunityStage", "id": stages[name]}}}  # noqa: E731
    assert sheet.python(PATCHES) == [
        ["1", {"amount": 4321, "amountPrecise": "4321"}, {}],
        ["2", {"nextStep": "x dd b a Sign"}, {}],
        ["3", {"probability": None}, link("Discover")],
        ["5", {"closeDate": "2026-12-31T05:00:00.000Z"}, link("Propose")],
        ["8", {"amount": 111, "amountPrecise": "111", "probability": 20}, {}],
        ["9", {"amount": 222, "amountPrecise": "222", "probability": 30}, {}],
    ]
    assert sheet.python("editor.report.counts()") == {"written": 6, "conflict": 1, "rejected": 1}

    # What did not go through stays, with its reason.
    for row, words in ((5, "mine 'Mine', theirs 'Theirs'"), (6, "Not so bold")):
        expect(cell(sheet, row, "next_step")).to_have_attribute("aria-invalid", "true")
        assert words in str(cell(sheet, row, "next_step").get_attribute("aria-description"))
        expect(page.locator(".opp-panel")).to_contain_text(words)
    assert sheet.python("[update.id for update in editor.changes.updates]") == [6, 7]
    assert not sheet.accessibility(".opp-editor")
    page.get_by_label("6, next_step:").select_option("theirs")
    page.get_by_role("button", name="Review with these choices").click()
    page.get_by_role("button", name="Send 2 rows").click()
    sheet.wait_for("editor.report.counts() == {'unchanged': 1, 'written': 1}")
    shows(sheet, 5, "next_step", "Theirs")

    # Nothing ran, nothing else happened.
    assert HOSTILE in str(cell(sheet, 2, "name").locator(".opp-text").text_content())
    assert page.evaluate("window.hacked === undefined")
    assert page.locator(".jp-CodeCell").count() == cells
    assert sheet.python("df.equals(before)")
    assert not sheet.console_errors
    assert not sheet.foreign_requests


TOOLS = """
import opp_pandas as opp
box = opp.sandbox(opportunities=150, now="2026-10-20T15:00:00Z")
stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
client = box.client(timezone="America/New_York")
df = opp.read_opportunities(client, stages=stages, authorization_meta=True)
df = df.sort_values("can_write", kind="stable", ignore_index=True)
editor = df.opp.edit(columns=["name", "stage_name", "amount", "close_date", "tags"], height=400)
editor
"""


@pytest.mark.nightly
@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_tools__by_mouse_and_keyboard(open_notebook: OpenNotebook, app: str) -> None:
    """Sort, widths, columns, filter, locked rows, tags, calendar, new deals; in the dark, and with a slow kernel."""
    from playwright.sync_api import expect

    sheet = open_notebook([TOOLS], app, theme="dark").run()
    page, press = sheet.page, sheet.page.keyboard.press
    amount = page.locator(".opp-headcell[data-column='amount']")

    # A row that this user may not edit looks so, and says so; what is said goes when rows move.
    expect(cell(sheet, 0, "name")).to_have_attribute("aria-readonly", "true")
    cell(sheet, 0, "name").click()
    page.keyboard.type("x")
    expect(page.locator(".opp-reason")).to_contain_text("can_write is false")
    expect(page.locator(".opp-alarm")).to_contain_text("can_write is false")
    page.get_by_label("Filter rows").fill("no such deal")
    expect(page.get_by_text("No row fits.")).to_be_visible()
    expect(page.locator(".opp-reason")).to_have_count(0)
    page.get_by_label("Filter rows").fill("expansion")
    count = sheet.python("int(df['name'].str.contains('expansion').sum())")
    expect(page.locator(".opp-count")).to_have_text(f"{count} of 150 deals")
    page.get_by_label("Filter rows").fill("")
    expect(page.locator(".opp-count")).to_have_text("150 deals")

    # Sort by mouse and by keyboard; missing amounts stay last.
    amount.click(position={"x": 30, "y": 15})
    expect(amount).to_have_attribute("aria-sort", "ascending")
    press("Enter")
    expect(amount).to_have_attribute("aria-sort", "descending")
    most = sheet.python("int(df['amount'].max())")
    shows(sheet, 0, "amount", f"{most:,}".replace(",", "\u202f"))
    press("Enter")
    expect(amount).not_to_have_attribute("aria-sort", "descending")

    # Widths by mouse and by keyboard.
    box = amount.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 15)  # type: ignore[index]
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 57, box["y"] + 15)  # type: ignore[index]
    page.mouse.up()
    assert amount.bounding_box()["width"] == pytest.approx(box["width"] + 60, abs=2)  # type: ignore[index]
    press("Alt+ArrowLeft")
    assert amount.bounding_box()["width"] == pytest.approx(box["width"] + 44, abs=2)  # type: ignore[index]

    # Columns.
    page.get_by_role("button", name="Columns").click()
    page.get_by_label("Find a column").fill("next")
    page.get_by_role("checkbox", name="Next step", exact=True).check()
    expect(page.get_by_role("columnheader", name="Next step")).to_be_visible()
    assert not sheet.accessibility(".opp-grid")
    press("Escape")
    expect(page.get_by_role("dialog", name="Columns")).to_be_hidden()
    expect(page.get_by_role("button", name="Columns")).to_be_focused()
    press("Enter")
    expect(page.get_by_role("dialog", name="Columns")).to_be_visible()
    amount.click(button="right")
    expect(page.get_by_role("dialog", name="Columns")).to_be_hidden()

    # Several of a list, and a day of the calendar.
    free = sheet.python("next(row for row, tags in enumerate(df['tags']) if df['can_write'][row] and not tags)")
    cell(sheet, free, "tags").click()
    press("Alt+ArrowDown")
    for name in ("upsell", "q4", "pilot"):
        page.get_by_role("option", name=name).click()
    page.get_by_role("option", name="pilot", selected=True).click()
    page.keyboard.type(", le")
    expect(page.locator(".opp-list [role=option]")).to_have_text(["legal"])
    with editor_at_work(sheet):
        page.keyboard.type("ga")
        for key in ("ArrowDown", "Enter", "Enter"):
            press(key)
    shows(sheet, free, "tags", "upsell, q4, legal")
    # A choice that was typed in full stays, and a new one stands beside what is there.
    cell(sheet, free, "tags").dblclick()
    press("End")
    page.keyboard.type(", pilot")
    expect(page.locator(".opp-list [role=option]")).to_have_text(["pilot"])
    for key in ("ArrowDown", "Enter", "Enter"):
        press(key)
    shows(sheet, free, "tags", "upsell, q4, legal, pilot")
    press("Control+z")
    shows(sheet, free, "tags", "upsell, q4, legal")
    cell(sheet, free, "close_date").dblclick()
    page.locator(".opp-picker").fill("2026-12-24")
    press("Enter")
    shows(sheet, free, "close_date", "2026-12-24")

    # While the editor works: keys that choose wait for the list, and those after them for the next cell; what is
    # typed into a row that is not here yet waits for it; and no key adds twice.
    stages = sheet.python("df['stage_name'].tolist()")
    other = next(row for row in range(free + 1, 149) if stages[row] != "Discover" and stages[row + 1] != "Propose")
    cell(sheet, other, "stage_name").click()
    with editor_at_work(sheet):
        for word in ("disc", "propo"):
            page.keyboard.type(word)
            press("Enter")
        expect(page.locator(".opp-input")).to_have_value("disc")
        expect(page.locator(".opp-input")).to_have_attribute("aria-busy", "true")
    shows(sheet, other + 1, "stage_name", "Propose")
    shows(sheet, other, "stage_name", "Discover")
    for _ in range(2):
        press("Control+z")
    shows(sheet, other, "stage_name", stages[other])
    shows(sheet, other + 1, "stage_name", stages[other + 1])
    with editor_at_work(sheet):
        cell(sheet, free, "name").click()
        press("Control+End")
        press("Home")
        page.keyboard.type("Late edit")
    expect(page.locator(".opp-input")).to_have_value("Late edit")
    press("Enter")
    shows(sheet, 149, "name", "Late edit")
    with editor_at_work(sheet):
        page.get_by_role("button", name="Add deal").click()
        press("Space")
    shows(sheet, 150, "name", "—")
    expect(cell(sheet, 150, "name")).to_be_focused()
    page.keyboard.type("Brand new")
    press("Enter")
    shows(sheet, 150, "name", "Brand new")

    # Without an answer a cell says so instead of being sent for ever, and takes the answer that comes late.
    sheet.python("setattr(editor._widget, 'timeout_s', 1)")
    with editor_at_work(sheet):
        cell(sheet, 149, "name").click()
        page.keyboard.type("Waits")
        press("Enter")
        expect(page.locator(".opp-alarm")).to_contain_text("not saved: no answer from Python for 1 s")
        expect(cell(sheet, 149, "name")).to_have_class(re.compile("opp-problem"))
        shows(sheet, 149, "name", "Late edit")
        expect(page.locator(".opp-sending")).to_have_count(0)
    shows(sheet, 149, "name", "Waits")
    expect(page.locator(".opp-status")).to_contain_text("came late: Name set to Waits")
    sheet.python("setattr(editor._widget, 'timeout_s', 20)")
    # An error in Python is an answer too, and the next edit is taken.
    sheet.python("setattr(editor._desk.sheet, 'put', None)")
    cell(sheet, 149, "name").click()
    page.keyboard.type("Lost")
    press("Enter")
    expect(page.locator(".opp-alarm")).to_contain_text("not saved: the editor met an error")
    expect(cell(sheet, 149, "name")).to_have_class(re.compile("opp-problem"))
    sheet.python("delattr(editor._desk.sheet, 'put')")
    cell(sheet, 149, "name").click()
    page.keyboard.type("Late edit")
    press("Enter")
    shows(sheet, 149, "name", "Late edit")
    sheet.wait_for("editor.frame['name'].tolist()[149] == 'Late edit'")

    # Rows to be deleted are struck out until that is taken back.
    doomed = sheet.python("max(row for row in range(149) if df['can_delete'][row])")
    cell(sheet, doomed, "name").click()
    page.get_by_role("button", name="Delete deals").click()
    expect(page.locator(".opp-row.opp-deleted")).to_have_count(1)
    expect(page.locator(".opp-panel")).to_contain_text("3 cells in 2 deals, 1 new deal, 1 deal to delete")
    page.get_by_role("button", name="Delete deals").click()
    expect(page.locator(".opp-panel")).to_contain_text("3 cells in 2 deals, 1 new deal")
    page.get_by_role("button", name="Review changes").click()
    expect(page.locator(".opp-panel")).to_contain_text("Effect on the forecast")
    assert not sheet.accessibility(".opp-editor")
    names = sheet.python("editor.frame['name'].tail(2).tolist()")
    assert names == ["Late edit", "Brand new"]
    assert sheet.python(f"editor.frame['tags'].tolist()[{free}]") == ["upsell", "q4", "legal"]
    assert sheet.python(f"str(editor.frame['close_date'][{free}])") == "2026-12-24 05:00:00+00:00"
    assert not sheet.console_errors


@contextmanager
def editor_at_work(sheet: Sheet) -> Iterator[None]:
    """Keep the editor from answering inside the block, in whichever thread the kernel answers the browser.

    The cell's thread holds the editor as long as a file is there that it makes itself.
    """
    held = sheet.jupyter.home / "held"
    code = f"from pathlib import Path\nfrom time import sleep\nheld = Path({str(held)!r})\n"
    assert sheet.python("True")
    assert sheet._asker is not None
    code += "with editor._desk.lock:\n    held.touch()\n    while held.exists(): sleep(0.02)"
    sheet._asker.client.execute(code, silent=True, store_history=False)
    deadline = time.monotonic() + 60
    while not held.exists():
        assert time.monotonic() < deadline
        sheet.page.wait_for_timeout(20)
    try:
        yield
    finally:
        held.unlink()


NIGHTLY = pytest.mark.nightly
FRONT_ENDS = [
    ("marimo", "light", 1400),
    *(
        pytest.param(app, theme, width, marks=NIGHTLY)
        for app in ("lab", "notebook", "voila", "marimo")
        for theme in ("light", "dark")
        for width in (1400, 390)
        if (app, theme, width) != ("marimo", "light", 1400)
    ),
]


COPIED = """([text, html]) => {
    const flavour = (type, part) => [type, new Blob([part], { type })];
    const both = [flavour("text/plain", text), flavour("text/html", html)];
    return navigator.clipboard.write([new ClipboardItem(Object.fromEntries(both))]);
}"""


@pytest.mark.parametrize(("app", "theme", "width"), FRONT_ENDS)
def test_front_end__edits_refuses_undoes_pastes_and_sends_by_keyboard_alone(
    open_notebook: OpenNotebook, app: str, theme: Any, width: int, tmp_path: Path
) -> None:
    """In every front end, wide and on a phone, light and dark: the whole way of an edit without a mouse."""
    from playwright.sync_api import expect

    sheet = open_editor(open_notebook, app, theme, width)
    page, press, panel = sheet.page, sheet.page.keyboard.press, sheet.page.locator(".opp-panel")
    page.get_by_label("Filter rows").focus()
    tab_to(sheet, "gridcell")

    # An edit, a refusal, undo and redo.
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        press(key)
    page.keyboard.type("4321")
    press("Enter")
    shows(sheet, 0, "amount", "4\u202f321")
    page.keyboard.type("abc")
    press("Enter")
    expect(page.locator(".opp-alarm")).to_contain_text("not a whole number")
    reason, scroll = page.locator(".opp-reason").bounding_box(), page.locator(".opp-scroll").bounding_box()
    assert reason["x"] >= scroll["x"] - 1  # type: ignore[index]
    assert reason["x"] + reason["width"] <= scroll["x"] + scroll["width"] + 1  # type: ignore[index]
    assert not sheet.accessibility(".opp-editor")
    press("Escape")
    shows(sheet, 1, "amount", "2\u202f000")
    # The cell stands in sight beside the fixed first column, however narrow the page is.
    here, fixed = cell(sheet, 1, "amount").bounding_box(), cell(sheet, 1, "name").bounding_box()
    assert here["x"] >= fixed["x"] + fixed["width"] - 1  # type: ignore[index]
    assert here["x"] + min(here["width"], 60) <= scroll["x"] + scroll["width"] + 1  # type: ignore[index]
    press("Control+z")
    shows(sheet, 0, "amount", "1\u202f000")
    press("Control+y")
    shows(sheet, 0, "amount", "4\u202f321")

    # A block with bad cells: the good ones are pasted, the others listed. Spreadsheets copy HTML beside the text.
    press("ArrowDown")
    page.evaluate(COPIED, ["111\t20\nabc\t30\n12.5\tmuch\n", f"<table><tr><td>999<td>{HOSTILE}</table>"])
    press("Control+v")
    shows(sheet, 1, "amount", "111")
    shows(sheet, 2, "probability", "30")
    refused = page.get_by_role("list", name="Refused cells").get_by_role("listitem")
    expect(refused).to_have_count(3)
    expect(refused.first).to_contain_text("Row 3, Amount abc: Amount: 'abc' is not a whole number")

    # Review, send; what somebody else changed waits until it is decided.
    sheet.python("client.update(1, {'amount': 5}).status")
    tab_to(sheet, "button", "Review changes")
    press("Enter")
    expect(panel).to_contain_text("Dry run: nothing was sent")
    expect(panel).to_contain_text("Effect on the forecast")
    theirs = ["1", {"amount": 5}, {}]
    assert sheet.python(PATCHES) == [theirs]
    assert not sheet.accessibility(".opp-editor")
    sheet.screenshot(tmp_path / f"{app}-{theme}-{width}.png")
    tab_to(sheet, "button", "Send 3 rows")
    press("Enter")
    expect(panel).to_contain_text("Sent: 2 written, 1 conflict")
    assert not sheet.accessibility(".opp-editor")
    tab_to(sheet, "combobox", "1, amount: whose value")
    page.keyboard.type("theirs")
    tab_to(sheet, "button", "Review with these choices")
    press("Enter")
    expect(panel).to_contain_text("Sent as chosen: 1 conflict")
    tab_to(sheet, "button", "Send 1 row")
    press("Enter")
    shows(sheet, 0, "amount", "5")
    assert sheet.python(PATCHES) == [
        theirs,
        ["2", {"amount": 111, "amountPrecise": "111", "probability": 20}, {}],
        ["3", {"probability": 30}, {}],
    ]
    assert sheet.python("editor.report.counts()") == {"unchanged": 1}
    assert sheet.python("df.equals(before)")
    assert page.evaluate("window.hacked === undefined")
    assert page.evaluate("document.documentElement.scrollWidth") <= max(width, 400) or app == "lab"
    assert not sheet.console_errors
    assert not sheet.foreign_requests


@pytest.mark.nightly
@pytest.mark.parametrize("app", ["lab", "notebook", "voila", "marimo"])
def test_forty_tries__damage_nothing_in_any_front_end(open_notebook: OpenNotebook, app: str) -> None:
    """What was typed is there as it was meant, or the cell holds what it held and somebody was told why."""
    from playwright.sync_api import expect

    sheet = open_notebook([edit_damage.SETUP + "editor"], app, height=1600).run()
    before = sheet.python(edit_damage.RECORDS.format(frame="df"))
    steps = 0
    for row, attempt in enumerate(edit_damage.TRIES):
        place = cell(sheet, row, attempt.column)
        place.dblclick()
        if attempt.column != "created_at":
            expect(sheet.page.locator(".opp-input")).to_be_focused()
        sheet.page.keyboard.insert_text(attempt.text)
        if attempt.column == "stage_name":
            expect(sheet.page.locator(".opp-input[aria-busy]")).to_have_count(0)
        sheet.page.keyboard.press("Enter")
        if attempt.meant is edit_damage.KEPT:
            expect(sheet.page.locator(".opp-alarm")).not_to_be_empty()
            sheet.page.keyboard.press("Escape")
        else:
            steps += 1
            sheet.wait_for(f"len(editor._desk.sheet.log) == {steps}")
        expect(sheet.page.locator(".opp-sending, .opp-input")).to_have_count(0)
    after = sheet.python(edit_damage.RECORDS.format(frame="editor.frame"))
    assert edit_damage.damaged(before, after) == []
    assert sheet.python("editor.frame.dtypes.equals(df.dtypes)")


FOCUSED = """() => {
  let element = document.activeElement;
  while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  const roles = { BUTTON: "button", SELECT: "combobox" };
  const role = element?.getAttribute("role") ?? roles[element?.tagName];
  return [role, element?.getAttribute("aria-label") ?? element?.textContent];
}"""


def tab_to(sheet: Sheet, role: str, name: str | None = None) -> None:
    """Press Tab until the element has the focus, as somebody without a mouse would."""
    if name is not None:
        sheet.page.get_by_role(role, name=name).wait_for()  # type: ignore[arg-type]
    for _ in range(60):
        sheet.page.keyboard.press("Tab")
        found = sheet.page.evaluate(FOCUSED)
        if found[0] == role and (name is None or found[1] == name):
            return
    raise AssertionError(f"no {role} {name} within 60 presses of Tab")
