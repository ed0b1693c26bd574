"""Both sides changed: what is kept, what is sent, and who is asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.errors import PartialWriteError
from thirtydeals import NOW, STAGES, now_at_service, sent, statuses

if TYPE_CHECKING:
    from pathlib import Path

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

pytestmark = pytest.mark.thirty_deals


def test_conflict__is_left_and_reported(client: Client, df: pd.DataFrame) -> None:
    """Both changed one cell: nothing of the row is sent, the report has all three values."""
    df.loc[0, ["next_step", "probability"]] = ["mine", 70]
    client.update(1, {"nextStep": "theirs", "description": "also theirs"})
    report = df.opp.write_back()
    assert statuses(report) == ["conflict"]
    assert report.conflicts.to_dict("records") == [
        {"id": 1, "field": "next_step", "loaded": None, "mine": "mine", "theirs": "theirs"}
    ]
    assert now_at_service(client, 1)["probability"] == 50
    assert "theirs" in report._repr_html_()
    with pytest.raises(PartialWriteError, match="1 conflict"):
        report.raise_for_status()


@pytest.mark.parametrize(("policy", "step"), [("mine", "mine"), ("theirs", "theirs")])
def test_conflict__is_settled_by_the_policy(client: Client, df: pd.DataFrame, policy: Any, step: str) -> None:
    """The policy decides the cell; what only I changed is sent, what only they changed is kept."""
    df.loc[0, ["next_step", "probability"]] = ["mine", 70]
    client.update(1, {"nextStep": "theirs", "description": "also theirs"})
    report = df.opp.write_back(on_conflict=policy)
    assert statuses(report) == ["written"]
    assert report.rows["detail"].tolist() == ["theirs was kept: next_step" if policy == "theirs" else ""]
    has = now_at_service(client, 1)
    assert (has["nextStep"], has["probability"], has["description"]) == (step, 70, "also theirs")
    assert df.loc[0, ["next_step", "probability", "description"]].tolist() == [step, 70, "also theirs"]
    assert len(df.opp.changes()) == 0


@pytest.mark.parametrize(
    ("answer", "status", "step"),
    [("mine", "written", "mine"), ("theirs", "unchanged", "theirs"), ("?", "conflict", "theirs")],
)
def test_conflict__is_asked_about(client: Client, df: pd.DataFrame, answer: str, status: str, step: str) -> None:
    """With "ask" a function is asked, with what was loaded, mine and theirs."""
    questions = []

    def ask(*question: Any) -> str:
        questions.append(question)
        return answer

    df.loc[0, "next_step"] = "mine"
    client.update(1, {"nextStep": "theirs"})
    assert statuses(df.opp.write_back(on_conflict="ask", ask=ask)) == [status]
    assert questions == [(1, "next_step", None, "mine", "theirs")]
    assert now_at_service(client, 1)["nextStep"] == step


def test_conflict__whose_deal_is_deleted_while_asked_is_gone(client: Client, df: pd.DataFrame) -> None:
    """Nothing was refused: there is nothing left to write to."""

    def ask(*question: Any) -> str:
        client.delete(1)
        return "mine"

    df.loc[0, "next_step"] = "mine"
    client.update(1, {"nextStep": "theirs"})
    assert statuses(df.opp.write_back(on_conflict="ask", ask=ask)) == ["gone"]


def test_conflict__that_moved_while_asked_stays_one(client: Client, df: pd.DataFrame) -> None:
    """An answer counts for the value that was asked about, not for one that came since."""

    def ask(*question: Any) -> str:
        client.update(1, {"nextStep": "newer"})
        return "mine"

    df.loc[0, "next_step"] = "mine"
    client.update(1, {"nextStep": "theirs"})
    report = df.opp.write_back(on_conflict="ask", ask=ask)
    assert (statuses(report), now_at_service(client, 1)["nextStep"]) == (["conflict"], "newer")


def test_amounts__are_one_sum_in_a_conflict(client: Client, df: pd.DataFrame) -> None:
    """The exact amount was changed there, the whole one here: theirs keeps both, mine sends both."""
    df.loc[0, "amount"] = 6000
    client.update(1, {"amountPrecise": "1000.40"})
    copy = df.copy()
    assert statuses(df.opp.write_back()) == ["conflict"]
    assert statuses(copy.opp.write_back(on_conflict="theirs")) == ["unchanged"]
    assert copy.loc[0, "amount_precise"] == "1000.40"
    assert statuses(df.opp.write_back(on_conflict="mine")) == ["written"]
    assert now_at_service(client, 1)["amount"] == 6000


def test_amounts__are_asked_about_once(client: Client, df: pd.DataFrame) -> None:
    """The exact amount follows the answer for the amount."""
    df.loc[0, "amount"] = 6000
    client.update(1, {"amount": 7000})
    questions = []
    report = df.opp.write_back(on_conflict="ask", ask=lambda *question: questions.append(question) or "mine")
    assert ([question[1] for question in questions], statuses(report)) == (["amount"], ["written"])
    assert now_at_service(client, 1)["amount"] == 6000


@pytest.mark.parametrize(
    ("typed", "status"), [("m", "written"), ("T", "unchanged"), ("", "conflict"), (None, "conflict")]
)
def test_conflict__is_asked_about_where_the_program_runs(
    client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, typed: str | None, status: str
) -> None:
    """Without a function of the user's a question is put; where nobody can answer it stays a conflict."""

    def answer(question: str) -> str:
        assert "loaded None, mine 'mine', theirs 'theirs'" in question
        if typed is None:
            raise EOFError
        return typed

    monkeypatch.setattr("builtins.input", answer)
    df.loc[0, "next_step"] = "mine"
    client.update(1, {"nextStep": "theirs"})
    assert statuses(df.opp.write_back(on_conflict="ask")) == [status]


def test_same_change_on_both_sides__is_nothing_to_do(box: Sandbox, client: Client, df: pd.DataFrame) -> None:
    """They made my change already: no PATCH."""
    client.update(1, {"nextStep": "Call"})
    before = len(sent(box))
    df.loc[0, "next_step"] = "Call"
    assert statuses(df.opp.write_back()) == ["unchanged"]
    assert len(sent(box)) == before
    assert len(df.opp.changes()) == 0


def test_gone__is_never_created_again(client: Client, df: pd.DataFrame) -> None:
    """Deleted there: updates and deletions say so, and nothing else happens."""
    client.delete(1)
    client.delete(2)
    df.loc[0, "name"] = "x"
    report = df.opp.write_back(delete=[2], allow_delete=True, confirm=2)
    assert statuses(report) == ["gone", "gone"]
    assert df["id"].tolist()[:2] == [1, 3]


@pytest.mark.parametrize(
    ("policy", "status", "left"),
    [("skip", "conflict", True), ("mine", "written", False), ("theirs", "unchanged", True)],
)
def test_deletion__of_a_deal_that_changed_since_is_a_conflict(
    client: Client, df: pd.DataFrame, policy: Any, status: str, left: bool
) -> None:
    """Somebody worked on it: it is deleted only if mine is to win."""
    client.update(1, {"nextStep": "theirs"})
    report = df.opp.write_back(delete=[1], allow_delete=True, confirm=1, on_conflict=policy)
    assert statuses(report) == [status]
    assert (1 in df["id"].tolist()) is left


def test_file_adopted_twice__makes_no_second_deal(client: Client, tmp_path: Path) -> None:
    """By this journal each is there already; by another one it is a conflict, unless mine is to win."""
    deals = pd.DataFrame({"key": ["7", "7", "8"], "name": ["A", "B", "C"], "amount": 1, "probability": 10})
    columns = {"key": "custom_id"}
    options = {"stages": STAGES, "probability_unit": "percent", "currency": "USD", "as_of": NOW, "duplicates": "keep"}
    assert statuses(opp.adopt(deals, columns, **options).opp.write_back(client)) == ["written"] * 3
    again = opp.adopt(deals, columns, **options)
    report = again.opp.write_back(client, journal=tmp_path)
    assert statuses(report) == ["conflict"] * 3
    assert "it is there already: the service has a deal with the same custom id '8' (id 33)" in report.rows["detail"][2]
    report = opp.adopt(deals, columns, **options).opp.write_back(client)
    assert statuses(report) == ["unchanged"] * 3
    assert set(report.rows["detail"]) == {"it is there already: plan 1 created it"}
    assert report.frame["id"].tolist() == [31, 32, 33]
    assert statuses(again.opp.write_back(client, on_conflict="mine", journal=tmp_path)) == ["written"] * 3


@pytest.mark.parametrize("shown", [{}, {"attributes": {"updatedAt": NOW}}, {"attributes": [1]}, {"relationships": [1]}])
def test_conflict__is_seen_where_a_list_shows_less_than_the_record(
    box: Sandbox, client: Client, df: pd.DataFrame, shown: dict[str, Any]
) -> None:
    """A service whose lists are short: what is not shown there is no proof that nobody changed it."""
    df.loc[0, "next_step"] = "mine"
    for row_id in (1, 2):
        client.update(row_id, {"nextStep": "theirs"})
    listed = {"data": [{"type": "opportunity", "id": row_id, **shown} for row_id in (1, 2)]}
    box.fail(200, times=3, method="GET", path="/opportunities", body=json.dumps(listed).encode())
    report = df.opp.write_back(delete=[2], allow_delete=True, confirm=2)
    assert statuses(report) == ["conflict", "conflict"]
    assert now_at_service(client, 1)["nextStep"] == now_at_service(client, 2)["nextStep"] == "theirs"


def test_conflict__of_a_value_that_a_service_leaves_out_when_it_is_cleared(box: Sandbox, df: pd.DataFrame) -> None:
    """Some services send no nulls: what was there and is left out was cleared by somebody."""
    df.loc[0, "name"] = "mine"
    bare = b'{"data": {"type": "opportunity", "id": 1, "attributes": {"probability": 5}}}'
    box.fail(200, method="GET", path="/opportunities", body=b'{"data": []}')
    box.fail(200, times=2, method="GET", path="/opportunities/1", body=bare)
    report = df.opp.write_back()
    assert statuses(report) == ["conflict"]
    assert report.conflicts["theirs"].tolist() == [None]
