"""A saved plan that was damaged is refused, or is the plan that was saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import opp_pandas as opp
from damage import cuts, flips, outcome, replaced
from opp_pandas.changes.changeset import Cell, RowCreation, RowDeletion, RowUpdate
from opp_pandas.changes.plan import ChangeSet

if TYPE_CHECKING:
    from pathlib import Path

PLAN = ChangeSet(
    updates=(RowUpdate(1, 0, 0, (Cell("name", "old é", "new"), Cell("amount", 1, 2), Cell("stage_id", 3, 4))),),
    creations=(RowCreation(1, "a", {"name": "New", "custom_id": "CRM 1"}, {"owner_name": "Sam"}, key="k"),),
    deletions=(RowDeletion(9, 2, "Gone", {"name": "Gone", "tags": ["a"]}),),
    service="http://127.0.0.1:1/api/v2",
    timezone="Europe/Berlin",
    loaded_rows=30,
    names={"stage_id": {3: "Qualify", 4: "Propose"}},
    titles={1: "old é"},
    notes=("a note",),
    unknown_names="leave_out",
)


def facts(plan: ChangeSet) -> tuple[object, ...]:
    """Everything that a plan says and sends."""
    return plan.fingerprint, plan.timezone, plan.loaded_rows, plan.titles, plan.notes, plan.unknown_names, repr(plan)


def check_damage(path: Path, step: int) -> None:
    """Flip and cut; the content is small enough for every byte."""
    PLAN.save(path)
    whole = facts(ChangeSet.load(path))
    cases = [*flips(path, step), *cuts(path, step)]
    found = []
    for words, content in cases:
        with replaced(path, content):
            found.append((outcome(lambda: facts(ChangeSet.load(path)), lambda read: read == whole), words))
    assert not [words for what, words in found if what == "OTHER"]
    assert sum(what == "refused" for what, _ in found) > len(found) / 2


def test_damaged_plan__is_never_another(tmp_path: Path) -> None:
    """A bit flipped in every eleventh byte, and the file cut there."""
    check_damage(tmp_path / "plan.json", 11)


@pytest.mark.nightly
def test_damaged_plan__of_every_byte(tmp_path: Path) -> None:
    """Every byte flipped, and cut at every byte."""
    check_damage(tmp_path / "plan.json", 1)


def test_plan_of_a_newer_version__says_so(tmp_path: Path) -> None:
    """The version stands in the refusal, and the file stays as it is."""
    path = PLAN.save(tmp_path / "plan.json")
    path.write_text(path.read_text(encoding="utf-8").replace('"version": 1', '"version": 7'), encoding="utf-8")
    with pytest.raises(opp.errors.ConfigurationError, match="it has version 7, and this package reads version 1"):
        ChangeSet.load(path)


def test_plan__says_of_each_new_deal_how_it_is_found_again() -> None:
    """By its own id, by one made here, or by name and values: as text and as HTML."""
    made = RowCreation(2, "b", {"name": "Made", "custom_id": "k2"}, key="k2")
    bare = RowCreation(3, "c", {"name": "Bare"}, key="k3")
    plan = ChangeSet(creations=(*PLAN.creations, made, bare))
    for words in (
        "found again by its own custom id CRM 1",
        "found again by the custom id k2 made here",
        "found again by its name and values, where no other deal has the same",
    ):
        assert words in repr(plan)
        assert words in plan._repr_html_()
