"""The editor without a browser: what the grid asks for, the panel, and what is there afterwards."""

from __future__ import annotations

import json
import re
import socket
import sys
from typing import TYPE_CHECKING, Any

import anywidget
import msgspec
import pandas as pd
import pytest

import edit_damage
import opp_pandas as opp
from conftest import STAGES
from loads import load, resource
from opp_pandas.errors import ConfigurationError, MissingColumnError, MissingExtraError
from opp_pandas.notebook.edit_session import Sheet
from opp_pandas.notebook.grid_controller import Desk
from opp_pandas.notebook.messages import REQUESTS, Answer

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.notebook.editor import Editor
    from opp_pandas.sandbox_handle import Sandbox


def ask(desk: Desk, do: str, **message: Any) -> dict[str, Any]:
    """One message and its answer, through JSON as in a browser; what the schema does not know is an error."""
    sent = desk.handle(json.loads(json.dumps({"do": do, **message})))
    (kind,) = (request.answer for request in REQUESTS if request.__struct_config__.tag == do)
    read = msgspec.json.decode(json.dumps(sent), type=Answer if "error" in sent else kind)
    assert {name for name in sent if not hasattr(read, name)} == set()
    answer: dict[str, Any] = msgspec.to_builtins(read)
    return answer


def marked(desk: Desk, start: int, stop: int, *columns: str) -> dict[str, Any]:
    return {"start": start, "stop": stop, "columns": list(columns), "view": desk.state()["view"]}


@pytest.fixture
def desk() -> Desk:
    frame = load((resource(place) for place in range(1, 7)), timezone="America/New_York")
    return Desk(Sheet(frame), ["name", "stage_name", "amount", "next_step", "tags", "created_at"])


def edit(desk: Desk, row: int, column: str, text: str | None) -> dict[str, Any]:
    return ask(desk, "edit", cells=[{"row": row, "column": column, "text": text}])


def test_editor__opens_before_custom_fields_have_their_names(df: pd.DataFrame, client: Client) -> None:
    """A service that does not answer keeps nobody waiting; where it does, names and columns come after."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        gone = opp.connect(f"http://127.0.0.1:{silent.getsockname()[1]}", token="t", max_wait_s=3)
        editor = opp.of(df).edit(gone)
        assert not editor.wait(0)
        titles = {field["title"] for field in editor._widget.fields}
        assert "Custom1" in titles
    named = opp.of(df).edit(client)
    assert named.wait(60)
    assert named.notes == ()
    fields = {entry.name: entry.label for entry in client.custom_fields()}
    assert {field["name"]: field["title"] for field in named._widget.fields}.items() >= fields.items()
    assert set(editor._widget.state["columns"]) < set(named._widget.state["columns"])
    assert editor.wait(60)
    assert editor.notes[0].startswith("custom fields bear the API's names and no options: ")


# --- messages -------------------------------------------------------------------


def test_rows__come_as_texts_with_their_marks(desk: Desk) -> None:
    """Bare text where there is nothing to say; what was loaded beside a changed cell."""
    edit(desk, 1, "amount", "5")
    answer = ask(desk, "rows", start=1, stop=3, columns=["name", "amount"])
    assert answer["rows"][0] == {"row": 1, "cells": ["Deal 2", {"text": "5", "was": "2000"}]}
    assert answer["rows"][1] == {"row": 2, "cells": ["Deal 3", "3000"]}


def test_rows__are_at_most_500() -> None:
    """No message asks for everything."""
    desk = Desk(Sheet(load(resource(place) for place in range(1, 700))), ["name"])
    assert len(ask(desk, "rows", start=0, stop=10**9, columns=["name"])["rows"]) == 500


def test_refused_edit__says_why_and_changes_nothing(desk: Desk) -> None:
    """The answer names cell, text and reason."""
    answer = edit(desk, 0, "amount", "abc")
    assert answer["objections"][0]["text"] == "abc"
    assert "not a whole number" in answer["said"]
    assert desk.state()["pending"]["cells"] == 0


def test_paste__fills_a_range_or_every_marked_cell(desk: Desk) -> None:
    """A range goes to the right and down from the first marked cell; one value goes everywhere."""
    assert (
        "6 cells pasted"
        in ask(desk, "paste", text='1\tx\n2\t\n3\t""\n', range=marked(desk, 1, 1, "amount", "next_step"))["said"]
    )
    frame = desk.sheet.frame
    assert frame["amount"].tolist()[1:4] == [1, 2, 3]
    assert [None if pd.isna(value) else value for value in frame["next_step"].tolist()[1:4]] == ["x", None, ""]
    ask(desk, "paste", text="9", range=marked(desk, 0, 1, "amount"))
    assert desk.sheet.frame["amount"].tolist()[:2] == [9, 9]


def test_paste__takes_the_good_cells_and_lists_the_others(desk: Desk) -> None:
    """A block with some bad cells: the good ones are pasted in one step, the others said one by one."""
    answer = ask(desk, "paste", text="1\ta\nx\tb\n3\tc\n12.5\td\n", range=marked(desk, 1, 1, "amount", "next_step"))
    assert answer["said"].startswith("6 cells pasted; 2 refused: ")
    refused = [(entry["index"], entry["column"], entry["text"]) for entry in answer["objections"]]
    assert refused == [(2, "amount", "x"), (4, "amount", "12.5")]
    assert all("not a whole number" in entry["reason"] for entry in answer["objections"])
    assert desk.sheet.frame["amount"].tolist() == [1000, 1, 3000, 3, 5000, 6000]
    assert desk.sheet.frame["next_step"].tolist()[1:5] == ["a", "b", "c", "d"]
    ask(desk, "undo")
    assert not desk.sheet.changed


def test_paste__that_does_not_fit_or_is_refused_changes_nothing(desk: Desk) -> None:
    """Too large, or into locked columns alone: nothing is pasted."""
    too_long = ask(desk, "paste", text="1\n" * 9, range=marked(desk, 5, 5, "created_at"))["error"]
    assert too_long == "9 rows and 1 column do not fit here: 1 row and 1 column are left"
    answer = ask(desk, "paste", text="a\nb", range=marked(desk, 0, 0, "created_at"))
    assert answer["said"].startswith("refused, nothing was changed: 2 cells: created_at")
    assert "nothing to paste" in ask(desk, "paste", text="", range=marked(desk, 0, 0, "amount"))["said"]
    assert not desk.sheet.changed


def test_copy__gives_what_paste_takes(desk: Desk) -> None:
    """A copied range, pasted elsewhere, makes the same cells."""
    edit(desk, 0, "next_step", "two\nlines\tand a tab")
    edit(desk, 1, "next_step", "")
    edit(desk, 2, "next_step", None)
    text = ask(desk, "copy", range=marked(desk, 0, 2, "amount", "next_step", "tags"))["text"]
    ask(desk, "paste", text=text, range=marked(desk, 3, 3, "amount"))
    frame = desk.sheet.frame[["amount", "next_step", "tags"]]
    pd.testing.assert_frame_equal(
        frame.iloc[3:6].reset_index(drop=True), frame.iloc[:3].reset_index(drop=True), check_flags=False
    )


def test_range__of_rows_that_moved_since_is_refused(desk: Desk) -> None:
    """A range that was marked before rows were sorted must not hit others."""
    before = marked(desk, 0, 0, "amount")
    ask(desk, "sort", column="amount", descending=True)
    assert "ordered anew" in ask(desk, "clear", range=before)["error"]
    ask(desk, "clear", range=marked(desk, 0, 0, "amount"))
    assert pd.isna(desk.sheet.frame.loc[5, "amount"])


def test_filter_and_sort__go_by_the_names_that_are_shown() -> None:
    """Where an id was edited, the name beside it has gone stale, and is neither shown nor found."""
    frame = load(resource(place) for place in range(1, 5))
    frame.loc[frame["id"] == 4, "account_id"] = 2
    desk = Desk(Sheet(frame), ["name", "account_name"])
    ask(desk, "filter", text="überland")
    assert desk.ordering.rows.tolist() == [3]
    ask(desk, "filter", text="acme")
    assert desk.ordering.rows.tolist() == [0, 1, 2]
    ask(desk, "filter", text="")
    ask(desk, "sort", column="account_name", descending=True)
    assert desk.ordering.rows.tolist() == [3, 0, 1, 2]


def test_range__that_is_too_large_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells of a large load are not cleared by two keys; rows may be marked for deletion all the same."""
    monkeypatch.setattr("opp_pandas.notebook.grid_controller.MOST_MARKED", 11)
    answer = ask(desk, "clear", range=marked(desk, 0, 5, "amount", "next_step"))
    assert "12 cells are too many at once" in answer["error"]
    assert not desk.sheet.changed
    ask(desk, "clear", range=marked(desk, 0, 5, "amount"))
    assert "6 deals will be deleted" in ask(desk, "delete", range=marked(desk, 0, 5, "amount", "next_step"))["said"]


def test_revert__takes_names_and_ids_back_and_leaves_locked_rows(desk: Desk) -> None:
    """Stages go back with their names; tags come back as lists; rows that are to be deleted stay as they are."""
    loaded = desk.sheet.frame
    for row in (0, 1):
        edit(desk, row, "stage_name", "Closed Won")
        edit(desk, row, "tags", "one, two")
    ask(desk, "delete", range=marked(desk, 1, 1, "name"))
    assert ask(desk, "revert", range=marked(desk, 0, 5, "stage_name", "tags"))["said"].startswith("2 cells")
    frame = desk.sheet.frame
    pd.testing.assert_frame_equal(frame.drop(index=1), loaded.drop(index=1), check_flags=False)
    assert frame.loc[1, "stage_name"] == "Closed Won"


def test_actions__clear_empty_fill_revert(desk: Desk) -> None:
    """Missing, empty text, the first cell into the others, and what was loaded."""
    ask(desk, "clear", range=marked(desk, 0, 0, "next_step"))
    ask(desk, "empty", range=marked(desk, 1, 1, "next_step"))
    edit(desk, 2, "next_step", "Sign")
    ask(desk, "fill", range=marked(desk, 2, 4, "next_step"))
    values = [None if pd.isna(value) else value for value in desk.sheet.frame["next_step"]]
    assert values == [None, "", "Sign", "Sign", "Sign", "Call"]
    assert "5 cells" in ask(desk, "revert", range=marked(desk, 0, 5, "next_step"))["said"]
    assert len(desk.sheet.changes()) == 0


def test_rows__are_added_deleted_and_kept(desk: Desk) -> None:
    """A new deal stands last whatever the filter; deleting twice keeps; undo takes rows back too."""
    ask(desk, "filter", text="2000")
    assert desk.state()["count"] == 1
    added = ask(desk, "add")
    assert (added["index"], desk.state()["count"]) == (1, 2)
    ask(desk, "delete", range=marked(desk, 0, 1, "name"))
    assert desk.state()["pending"]["words"] == "1 deal to delete"
    ask(desk, "delete", range=marked(desk, 0, 0, "name"))
    assert desk.state()["pending"]["deleted"] == 0
    for _ in range(3):
        ask(desk, "undo")
    assert desk.state()["total"] == 6
    assert "nothing to undo" in ask(desk, "undo")["said"]
    assert ask(desk, "redo")["said"].startswith("done again")


def test_delete__says_how_many_of_what(desk: Desk) -> None:
    """Nothing marked, new deals, deals of the service: each in its own words."""
    assert ask(desk, "delete", range=marked(desk, 0, -1, "name"))["said"] == "no deal is marked"
    ask(desk, "add")
    said = ask(desk, "delete", range=marked(desk, 5, 6, "name"))["said"]
    assert said == "1 new deal dropped; 1 deal will be deleted when the changes are sent"


def test_choices__are_searched_and_few(desk: Desk) -> None:
    """Stages in their order, owners by name, tags that are in use; what begins as typed comes first."""
    assert ask(desk, "choices", column="stage_name", text="pro")["choices"] == ["Proposal"]
    assert set(ask(desk, "choices", column="owner_name", text="sam")["choices"]) == {"Sam Lee (1)", "Sam Lee (2)"}
    assert ask(desk, "choices", column="tags", text="")["choices"] == ["q4", "renewal"]


def test_unknown_message__is_an_error(desk: Desk) -> None:
    """A message that nobody knows does nothing; neither does an edit while changes are sent."""
    assert "Invalid value 'explode'" in desk.handle({"do": "explode"})["error"]
    desk.busy = "busy"
    assert edit(desk, 0, "amount", "5")["error"] == "busy"
    assert ask(desk, "rows", start=0, stop=1, columns=["name"])["rows"]


ODD: list[Any] = [
    "edit",
    None,
    ["edit"],
    {"do": "edit"},
    {"do": "edit", "cells": [{"row": 999, "column": "name", "text": "x"}]},
    {"do": "edit", "cells": [{"row": 0, "column": "name", "text": 5}]},
    {"do": "edit", "cells": [{"row": "first", "column": "name", "text": "x"}]},
    {"do": "rows", "start": "x", "stop": 3, "columns": []},
    {"do": "explode"},
    {"do": ["edit"]},
    {"do": "undo", "why": "it has no such part"},
    {"do": "clear", "range": 7},
    {"do": "paste", "text": "1\t2", "range": {"start": 0, "stop": 0, "columns": ["gone"], "view": 0}},
    {"do": "choices", "column": "gone"},
    {"do": "columns", "columns": None},
    {"do": "sort", "column": ["amount"]},
]


@pytest.mark.parametrize("message", ODD, ids=repr)
def test_odd_message__gets_an_answer_and_changes_nothing(desk: Desk, message: Any) -> None:
    """Whatever comes from the page, an answer says what was wrong, and the next edit works."""
    before = desk.sheet.frame
    answer = json.loads(json.dumps(desk.handle(message)))
    assert answer.get("error") or answer.get("objections")
    pd.testing.assert_frame_equal(desk.sheet.frame, before)
    assert "set to 5" in edit(desk, 0, "amount", "5")["said"]


def test_forty_tries__damage_nothing() -> None:
    """Every text becomes what was meant, or is refused with a reason and the cell keeps what it held."""
    names: dict[str, Any] = {}
    exec(edit_damage.SETUP, names)  # noqa: S102 - the same cells as in the browsers
    editor, frame = names["editor"], names["df"]
    before = json.loads(json.dumps(eval(edit_damage.RECORDS.format(frame="df"), names), default=str))  # noqa: S307
    for row, attempt in enumerate(edit_damage.TRIES):
        answer = edit(editor._desk, row, attempt.column, attempt.text)
        assert bool(answer.get("objections")) == (attempt.meant is edit_damage.KEPT), (attempt, answer)
    after = json.loads(json.dumps(eval(edit_damage.RECORDS.format(frame="editor.frame"), names), default=str))  # noqa: S307
    assert len(edit_damage.TRIES) == 40
    assert edit_damage.damaged(before, after) == []
    assert editor.frame.dtypes.equals(frame.dtypes)


# --- the editor -------------------------------------------------------------------


def panel_text(editor: Editor) -> str:
    """Everything that the panel says, line by line."""
    shown = editor._widget.panel
    lines = [shown.get("alert", ""), shown.get("status", "")]
    for part in shown.get("parts", ()):
        lines += (
            [part["text"]]
            if part["type"] == "paragraph"
            else ["\t".join(row) for row in (part["titles"], *part["rows"])]
        )
    lines += ["\t".join(str(value) for value in conflict.values()) for conflict in shown.get("conflicts", ())]
    return "\n".join(lines)


def send(editor: Editor, confirm: str = "") -> dict[str, Any]:
    """Review, send what was reviewed, and wait for the end."""
    ask(editor._desk, "review")
    answer = ask(editor._desk, "send", plan=editor._widget.panel.get("plan", ""), confirm=confirm)
    assert editor.wait(60)
    return answer


def decide(editor: Editor, choice: str) -> None:
    conflicts = editor._widget.panel["conflicts"]
    ask(editor._desk, "decide", decisions=[{"id": c["id"], "column": c["column"], "choice": choice} for c in conflicts])


def test_edit_review_send(df: pd.DataFrame, box: Sandbox) -> None:
    """Edits are reviewed as a dry run with their effect, sent as reviewed, and there in Python afterwards."""
    before = df.copy()
    editor = opp.of(df).edit()
    assert "pending: none" in repr(editor)
    row = int((~df["stage_is_closed"].astype(bool)).to_numpy().argmax())
    edit(editor._desk, row, "amount", "123456")
    assert "1 cell in 1 deal" in repr(editor)
    ask(editor._desk, "review")
    assert "Effect on the forecast" in panel_text(editor)
    assert "Dry run: nothing was sent" in panel_text(editor)
    assert not [entry for entry in box.requests if entry.method == "PATCH"]
    ask(editor._desk, "send", plan=editor._widget.panel["plan"])
    assert editor.wait(60)
    (patch,) = [entry for entry in box.requests if entry.method == "PATCH"]
    assert json.loads(patch.body)["data"]["attributes"]["amount"] == 123456
    assert editor.report is not None
    assert editor.report.counts() == {"written": 1}
    assert editor.frame["amount"].iloc[row] == 123456
    assert len(editor.changes) == 0
    pd.testing.assert_frame_equal(df, before, check_flags=False)
    assert f"df.loc[df['id'] == {df['id'].iloc[row]}, 'amount'] = 123456" in editor.code


def test_review__says_what_a_quota_is_covered_by_and_which_deals_move(df: pd.DataFrame) -> None:
    """Coverage by period before and after, deals pushed, and the same in the plan that the editor gives."""
    row = int((~df["stage_is_closed"].astype(bool) & (df["close_date"] > "2026-10-20")).to_numpy().argmax())
    editor = opp.of(df).edit(quota=1_000_000, freq="Y")
    edit(editor._desk, row, "close_date", "2029-05-01")
    ask(editor._desk, "review")
    shown = panel_text(editor)
    assert "coverage" in shown
    assert "1 deal pushed to a later period" in shown
    effect = editor.changes.effect
    assert effect is not None
    assert effect.loc["2029", "coverage_before"] == 0
    assert effect.loc["2029", "coverage_after"] == df["amount_precise"].astype(float).iloc[row] / 1_000_000


def test_review__that_is_out_of_date_is_put_away(df: pd.DataFrame) -> None:
    """What is edited after the review is not sent unseen; rows may be sorted meanwhile."""
    editor = df.opp.edit()
    edit(editor._desk, 0, "amount", "1")
    ask(editor._desk, "review")
    reviewed = editor._widget.panel["plan"]
    ask(editor._desk, "sort", column="name")
    assert editor._widget.panel["plan"] == reviewed
    edit(editor._desk, 1, "amount", "2")
    assert "review the changes again" in panel_text(editor)
    assert "review the changes first" in ask(editor._desk, "send", plan=reviewed)["error"]
    assert "review the changes first" in ask(editor._desk, "send", plan="")["error"]
    assert editor.report is None


def test_large_plan__is_sent_only_after_its_number_was_typed(df: pd.DataFrame) -> None:
    """One value in ten rows needs the number of rows, typed."""
    editor = df.opp.edit()
    ask(editor._desk, "paste", text="Call", range=marked(editor._desk, 0, 9, "next_step"))
    ask(editor._desk, "review")
    assert editor._widget.panel["must_confirm"]
    assert "type 10 to confirm" in send(editor, confirm="9")["error"]
    assert editor.report is None
    assert "error" not in send(editor, confirm="10")
    assert editor.report is not None
    assert editor.report.counts() == {"written": 10}


@pytest.mark.parametrize(
    ("choice", "status", "stored"), [("mine", "written", "Mine"), ("theirs", "unchanged", "Theirs")]
)
def test_conflict__waits_until_somebody_chooses(
    df: pd.DataFrame, client: Client, choice: str, status: str, stored: str
) -> None:
    """Both sides changed a cell: it stays pending with both values, and goes the way that is chosen."""
    editor = df.opp.edit()
    edit(editor._desk, 0, "next_step", "Mine")
    row_id = int(df["id"].iloc[0])
    client.update(row_id, {"nextStep": "Theirs"})
    send(editor)
    assert editor.report is not None
    assert editor.report.counts() == {"conflict": 1}
    assert "Theirs" in panel_text(editor)
    assert re.fullmatch(r"by .+, \d{4}-\d\d-\d\d \d\d:\d\d", editor._panel.shown.conflicts[0].changed)
    cell = ask(editor._desk, "rows", start=0, stop=1, columns=["next_step"])["rows"][0]["cells"][0]
    assert cell["text"] == "Mine"
    assert cell["problem"].startswith("conflict: next_step")
    decide(editor, choice)
    send(editor)
    assert editor.report.counts() == {status: 1}
    assert client.get(row_id).data["attributes"]["nextStep"] == stored
    assert editor.frame["next_step"].iloc[0] == stored
    assert len(editor.changes) == 0


def test_tables__name_the_deals(df: pd.DataFrame, client: Client) -> None:
    """Plan, result and conflicts say which deal by id and name; a cell speaks of its own conflict only."""
    editor = df.opp.edit()
    for column in ("next_step", "amount"):
        edit(editor._desk, 0, column, "77")
    ask(editor._desk, "delete", range=marked(editor._desk, 1, 1, "name"))
    row_id, gone = (int(value) for value in df["id"].iloc[:2])
    client.update(row_id, {"nextStep": "Theirs", "amount": 78})
    ask(editor._desk, "review")
    deal = f"{row_id} {df['name'].iloc[0]}\t"
    assert deal in panel_text(editor)
    send(editor, confirm="2")
    text = panel_text(editor)
    assert text.count(deal) == 1 + len(editor._widget.panel["conflicts"])
    assert f"{gone} {df['name'].iloc[1]}\t" in text
    cells = ask(editor._desk, "rows", start=0, stop=1, columns=["next_step", "amount"])["rows"][0]["cells"]
    assert "amount" not in cells[0]["problem"]
    assert cells[1]["problem"] == f"conflict: amount: loaded {df['amount'].iloc[0]}, mine 77, theirs 78"


def test_choice__holds_for_the_value_that_was_seen(df: pd.DataFrame, client: Client) -> None:
    """Theirs changed once more after the choice: nothing is overwritten unseen."""
    editor = df.opp.edit()
    edit(editor._desk, 0, "next_step", "Mine")
    row_id = int(df["id"].iloc[0])
    client.update(row_id, {"nextStep": "Theirs"})
    send(editor)
    decide(editor, "mine")
    client.update(row_id, {"nextStep": "Newer"})
    send(editor)
    assert editor.report is not None
    assert editor.report.counts() == {"conflict": 1}
    assert client.get(row_id).data["attributes"]["nextStep"] == "Newer"


def test_rejected_row__stays_pending_with_its_reason_until_edited(df: pd.DataFrame, box: Sandbox) -> None:
    """What the service refuses keeps its edit, and the cell says why."""
    editor = df.opp.edit()
    edit(editor._desk, 0, "amount", "5")
    edit(editor._desk, 1, "amount", "7")
    row_id = int(df["id"].iloc[0])
    error = {
        "id": "validationError",
        "title": "No",
        "detail": "Too small.",
        "source": {"pointer": "/data/attributes/amount"},
    }
    box.fail(422, method="PATCH", path=f"/opportunities/{row_id}", body=json.dumps({"errors": [error]}).encode())
    send(editor)
    assert editor.report is not None
    assert editor.report.counts() == {"rejected": 1, "written": 1}
    cell = ask(editor._desk, "rows", start=0, stop=1, columns=["amount"])["rows"][0]["cells"][0]
    assert "Too small" in cell["problem"]
    assert "Too small" in panel_text(editor)
    assert [entry.id for entry in editor.changes.updates] == [row_id]
    edit(editor._desk, 0, "amount", "50")
    cell = ask(editor._desk, "rows", start=0, stop=1, columns=["amount"])["rows"][0]["cells"][0]
    assert "problem" not in cell
    send(editor)
    assert len(editor.changes) == 0


@pytest.mark.parametrize("broken", ["take", "note"])
def test_error_after_sending__leaves_the_editor_usable(
    df: pd.DataFrame, box: Sandbox, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """What was written is reported, the error is said, nothing waits that was sent, and cells can be edited again."""
    editor = df.opp.edit()
    edit(editor._desk, 0, "amount", "123456")
    with monkeypatch.context() as patch:
        patch.setattr(Sheet, broken, lambda *_: {}["gone"])
        send(editor)
    assert editor.report is not None
    assert editor.report.counts() == {"written": 1}
    assert "That did not work" in panel_text(editor)
    assert "KeyError" in panel_text(editor)
    assert len(editor.changes) == 0
    assert editor.frame["amount"].iloc[0] == 123456
    assert "error" not in edit(editor._desk, 1, "amount", "7")
    send(editor)
    assert [entry.method for entry in box.requests].count("PATCH") == 2
    assert editor.frame["amount"].iloc[1] == 7


def test_button_that_fails__says_so(df: pd.DataFrame) -> None:
    """An error behind a button stands in the panel: a kernel would show it to nobody."""
    editor = df.opp.edit()
    edit(editor._desk, 0, "amount", "5")
    editor._panel.figures["freq"] = ["Q"]
    ask(editor._desk, "review")
    assert "That did not work" in panel_text(editor)
    editor._panel.figures["freq"] = "Q"
    send(editor)
    assert editor.report is not None


def test_code__after_a_new_deal_was_dropped(df: pd.DataFrame) -> None:
    """A new deal of the frame that was opened, dropped in the editor, is dropped in the code too."""
    frame = df.opp.add([{"name": "Kept"}, {"name": "Dropped"}])
    editor = frame.opp.edit()
    last = len(frame) - 1
    ask(editor._desk, "delete", range=marked(editor._desk, last, last, "name"))
    ran: dict[str, Any] = {"df": frame, "pd": pd}
    exec(editor.code, ran)  # noqa: S102 - the code is what is tried
    assert ran["df"]["name"].tolist() == editor.frame["name"].tolist()
    assert ran["df"].opp.changes().fingerprint == editor.changes.fingerprint


def test_stop__leaves_the_rest_pending(df: pd.DataFrame) -> None:
    """Stopped in the middle, what was not sent stays pending."""
    editor = df.opp.edit()
    for row in range(9):
        edit(editor._desk, row, "amount", str(row + 1))
    editor._widget.observe(lambda change: change["new"].get("done") == 1 and ask(editor._desk, "stop"), "panel")
    send(editor)
    assert editor.report is not None
    counts = editor.report.counts()
    assert counts["planned"] + counts["written"] == 9
    assert counts["planned"] >= 1
    assert len(editor.changes) == counts["planned"]


def test_sending__leaves_the_kernel_free(df: pd.DataFrame, box: Sandbox) -> None:
    """While a slow service writes, rows are shown, edits are refused with the reason, and progress goes on."""
    editor = df.opp.edit()
    for row in range(4):
        edit(editor._desk, row, "amount", str(row + 1))
    seen: list[tuple[int, int]] = []
    editor._widget.observe(lambda change: seen.append((change["new"].get("done"), change["new"].get("rows"))), "panel")
    ask(editor._desk, "review")
    box.switches.latency_s = 0.2
    ask(editor._desk, "send", plan=editor._widget.panel["plan"])
    assert not editor.wait(0)
    assert ask(editor._desk, "rows", start=0, stop=5, columns=["name"])["rows"]
    assert "being sent" in edit(editor._desk, 9, "amount", "5")["error"]
    assert not editor.wait(0)
    assert editor.wait(60)
    assert [pair for pair in seen if pair[0]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert editor.report is not None
    assert editor.report.counts() == {"written": 4}


def test_created_and_deleted_rows__follow_the_service(df: pd.DataFrame, client: Client) -> None:
    """A new deal gets its id, a deleted one is gone, and later edits hit the right rows."""
    editor = df.opp.edit()
    desk = editor._desk
    ask(desk, "add")
    row = int(desk.sheet.uids[-1])
    edit(desk, row, "name", "Brand new")
    ask(desk, "delete", range=marked(desk, 0, 0, "name"))
    edit(desk, 3, "amount", "333")
    send(editor, confirm="3")
    assert editor.report is not None
    assert editor.report.counts() == {"written": 3}
    frame = editor.frame
    assert len(frame) == 60
    assert frame["id"].notna().all()
    assert df["id"].iloc[0] not in frame["id"].tolist()
    edit(desk, row, "next_step", "Call")
    edit(desk, 3, "next_step", "Sign")
    send(editor)
    fresh = opp.read_opportunities(client, stages=STAGES).set_index("name")
    assert fresh.loc["Brand new", "next_step"] == "Call"
    assert fresh.loc[df["name"].iloc[3], ["amount", "next_step"]].tolist() == [333, "Sign"]


def test_adopted_deals__are_edited_by_name_and_created(client: Client) -> None:
    """Deals of a file know stages by name only; the service is asked for their ids when they are created."""
    deals = pd.DataFrame({"name": ["A", "B"], "amount": [5, 6], "stage_name": ["Qualify", "Propose"]})
    stages = opp.StageMap(order=["Qualify", "Propose"], won=["Closed Won"], lost=["Closed Lost"])
    editor = opp.adopt(deals, stages=stages).opp.edit(client)
    assert "Propose" in ask(editor._desk, "choices", column="stage_name", text="pro")["choices"]
    edit(editor._desk, 0, "stage_name", "Propose")
    assert "df.loc[df.index.isin([0]), 'stage_name'] = 'Propose'" in editor.code
    send(editor)
    assert editor.report is not None
    assert editor.report.counts() == {"written": 2}
    made = client.get(int(editor.frame["id"].iloc[0])).data["relationships"]["opportunityStage"]["data"]["id"]
    other = client.get(int(editor.frame["id"].iloc[1])).data["relationships"]["opportunityStage"]["data"]["id"]
    assert made == other


def test_edit__leaves_out_names_that_the_service_does_not_know(client: Client) -> None:
    """The review notes it, sending does it, and the code that does the same says so."""
    deals = pd.DataFrame({"name": ["A"], "amount": [5], "account_name": ["Nowhere"]})
    editor = opp.adopt(deals, stages=opp.StageMap(order=["Qualify"])).opp.edit(client, unknown_names="leave_out")
    assert editor.code == "df.opp.write_back(dry_run=True, unknown_names='leave_out')"
    send(editor)
    assert editor.report is not None
    assert editor.report.counts() == {"written": 1}
    assert "account_name 'Nowhere' left out" in editor.report.rows["detail"].iloc[0]


def test_front_end__is_not_needed(df: pd.DataFrame) -> None:
    """Without one the output is a readable line; with one the grid, in Jupyter as in marimo."""
    editor = df.opp.edit()
    bundle = editor._repr_mimebundle_()
    assert bundle["text/plain"].startswith("<Editor of 60 deals; pending: none>")
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert isinstance(editor._display_(), anywidget.AnyWidget)


def test_arguments_that_cannot_be_used__are_refused(df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown columns, odd heights, no client to send with, no anywidget: each says what to do."""
    with pytest.raises(MissingColumnError, match="amonut"):
        df.opp.edit(columns=["amonut"])
    with pytest.raises(ConfigurationError, match="pixels"):
        df.opp.edit(height=5)
    adopted = opp.adopt(pd.DataFrame({"name": ["A"], "amount": [5]}), stages=STAGES)
    editor = adopted.opp.edit()
    ask(editor._desk, "review")
    assert "say where to" in panel_text(editor)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingExtraError, match=r"opp_pandas\[notebook\]"):
        df.opp.edit()
