"""Names of owners and accounts that the service does not know: refused with one reason, or left out and said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas.apply.undo import apply_plan
from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from opp_pandas.sandbox_handle import Sandbox


@pytest.fixture
def frame(box: Sandbox) -> pd.DataFrame:
    """Two loaded deals and four new ones: known names, an unknown owner, an unknown account, both."""
    known = opp.read_opportunities(box.client(), stages=STAGES)
    names = known.drop_duplicates("owner_id")["owner_name"].dropna().value_counts()
    owner = names[names == 1].index[0]
    rows: list[dict[str, Any]] = [
        {"name": "A", "owner_name": owner},
        {"name": "B", "owner_name": "Nobody"},
        {"name": "C", "owner_name": owner, "account_name": "Nowhere"},
        {"name": "D", "owner_name": "Noone", "account_name": "Nowhere"},
    ]
    return opp.of(opp.read_opportunities(box.client(), stages=STAGES, limit=2)).add(rows)


def test_unknown_names__are_refused_with_one_reason_for_each_column(frame: pd.DataFrame) -> None:
    """The reason names the column, how many deals, and both ways out; rows with known names are not held back."""
    report = frame.opp.write_back(dry_run=True)
    assert report.counts() == {"planned": 1, "refused": 3}
    refused = report.plan.refused
    assert refused.groupby("field")["reason"].nunique().to_dict() == {"account_name": 1, "owner_name": 1}
    assert refused.loc[refused["field"] == "owner_name", "after"].tolist() == ["Nobody", "Noone"]
    shown = str(report.plan)
    assert shown.count("does not know") == 2
    assert "'Nobody', 'Noone', of 2 new deals" in shown
    assert "unknown_names='leave_out'" in shown


def test_names__that_differ_by_case_or_blanks_alone_are_matched_and_said(box: Sandbox) -> None:
    """An owner written with other blanks or another case is that owner; a note counts the deals."""
    frame = opp.read_opportunities(box.client(), stages=STAGES, limit=2)
    name = frame["owner_name"].dropna().iloc[0]
    added = opp.of(frame).add([{"name": "A", "owner_name": f" {name.upper()} "}])
    report = added.opp.write_back()
    assert report.counts() == {"written": 1}
    assert report.plan.notes == (f"owner_name: {f' {name.upper()} '!r} read as {name!r}, 1 new deal",)
    assert opp.read_opportunities(box.client(), stages=STAGES).set_index("name").loc["A", "owner_name"] == name


def test_unknown_names__left_out_are_said_in_each_row_and_once_in_all(frame: pd.DataFrame, box: Sandbox) -> None:
    """All four deals are created; what was left out stands in their rows, in a note, and in no later change."""
    report = frame.opp.write_back(unknown_names="leave_out")
    assert report.counts() == {"written": 4}
    detail = report.rows["detail"].tolist()
    assert detail[:3] == ["", "owner_name 'Nobody' left out", "account_name 'Nowhere' left out"]
    assert "owner_name 'Noone' left out" in detail[3]
    assert "account_name 'Nowhere' left out" in detail[3]
    assert sorted(note.split(":")[0] for note in report.plan.notes) == [
        "account_name is left out of 2 new deals",
        "owner_name is left out of 2 new deals",
    ]
    assert len(frame.opp.changes()) == 0
    stored = opp.read_opportunities(box.client(), stages=STAGES).set_index("name")
    assert stored.loc[["B", "D"], "owner_id"].isna().all()
    assert stored.loc[["A", "C"], "owner_id"].notna().all()


def test_unknown_stage__is_refused_whatever_is_left_out(frame: pd.DataFrame) -> None:
    """A deal without its stage would be another deal."""
    added = opp.of(frame).add({"name": "E", "stage_name": "Nirvana"})
    report = added.opp.write_back(dry_run=True, unknown_names="leave_out")
    assert report.counts() == {"planned": 4, "refused": 1}
    assert "leave_out" not in report.plan.refused["reason"].iloc[0]


def test_unknown_names__that_nobody_may_look_up_are_not_left_out() -> None:
    """An app that may not read users: who they are is not unknown to the service, so the row is held back."""
    with opp.sandbox(opportunities=3, scopes=frozenset({"opportunities.all", "opportunityStages.read"})) as narrow:
        df = opp.read_opportunities(narrow.client(), include=(), stages=STAGES)
        added = opp.of(df).add({"name": "A", "owner_name": "Sam Lee"})
        report = added.opp.write_back(dry_run=True, unknown_names="leave_out")
    assert report.counts() == {"refused": 1}
    assert "may not read" in report.rows["detail"].iloc[0]


def test_unknown_names__of_a_saved_plan(frame: pd.DataFrame, box: Sandbox, tmp_path: Path) -> None:
    """The answer is part of the plan: it has its own fingerprint and is kept in the file, as is what was left out."""
    refusing, leaving = frame.opp.changes(), frame.opp.changes(unknown_names="leave_out")
    assert refusing.fingerprint != leaving.fingerprint
    report = apply_plan(box.client(), leaving.save(tmp_path / "plan.json"), journal=tmp_path)
    assert report.counts() == {"written": 4}
    resolved = report.plan.load(report.plan.save(tmp_path / "resolved.json"))
    assert dict(resolved.creations[1].left_out) == {"owner_name": "Nobody"}


def test_unknown_names__is_one_of_two_words(frame: pd.DataFrame) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError, match="'refuse' or 'leave_out', not 'drop'"):
        frame.opp.write_back(unknown_names="drop")
