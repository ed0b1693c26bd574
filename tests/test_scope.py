"""Figures over time speak of the frame's deals, at every moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from histories import LEAD, OFFER, WON, history_in_memory, load_of, moment

if TYPE_CHECKING:
    from pathlib import Path

    from opp_pandas.history import History

SEVEN = {"filter": {"owner": [7]}, "where": None, "limit": None}


def deal(key: int, owner: int, stage: int = LEAD, **values: Any) -> dict[str, Any]:
    return {"id": key, "amount": key * 100, "probability": 50, "stage_id": stage, "owner_id": owner,
            "created_at": moment(1), "close_date": moment(28), **values}  # fmt: skip


@pytest.fixture
def history() -> History:
    """Two owners' deals; 3 of owner 7 is deleted, 4 of owner 7 goes to owner 9, 5 of owner 9 is won."""
    made = history_in_memory()
    made.record(load_of([deal(1, 7), deal(2, 7), deal(3, 7, OFFER), deal(4, 7), deal(5, 9), deal(6, 9)], 2))
    made.record(load_of([deal(1, 7), deal(2, 7, OFFER), deal(4, 9), deal(5, 9, WON), deal(6, 9)], 12))
    return made


@pytest.fixture
def of_seven() -> pd.DataFrame:
    """A load of owner 7's deals, a day after the last snapshot."""
    return load_of([deal(1, 7), deal(2, 7, OFFER)], 13, query=SEVEN)


def test_waterfall__of_a_load_with_conditions_states_no_deletion(history: History, of_seven: pd.DataFrame) -> None:
    """Owner 9's deals are none of it; what the load lacks left its conditions, as far as one load knows."""
    asked: dict[str, Any] = {"period": "2026Q1", "since": moment(2)}
    table = of_seven.opp.waterfall(history, **asked)
    assert table.loc[["start", "removed", "scope_out", "end"], "count"].tolist() == [4, 1, 1, 2]
    assert table.loc["start", "amount"] == 1000
    compared = of_seven.opp.waterfall(history.as_of(moment(2)), period="2026Q1")
    assert compared.loc[["start", "removed", "scope_out", "end"], "count"].tolist() == [4, 0, 2, 2]
    assert "owner" in table.attrs["opp_basis"]["scope"]


def test_waterfall__of_a_frame_narrowed_in_pandas_holds_by_id(history: History) -> None:
    """A deal that was deleted before the load is left out and counted: nobody knows whether it was meant."""
    whole = load_of([deal(1, 7), deal(2, 7, OFFER), deal(4, 9), deal(5, 9, WON), deal(6, 9)], 13)
    table = whole[whole["id"] < 3].opp.waterfall(history, period="2026Q1", since=moment(2))
    assert table.loc[["start", "removed", "end"], "count"].tolist() == [2, 0, 2]
    basis = table.attrs["opp_basis"]
    assert basis["n_not_judged"] == 1
    assert any("nobody knows" in note for note in basis["notes"])
    assert whole.opp.waterfall(history, period="2026Q1", since=moment(2)).loc["removed", "count"] == 1


def test_scope__is_a_mask_or_a_function_of_every_state(history: History) -> None:
    """`scope=` says otherwise, and the basis names it."""
    whole = load_of([deal(1, 7), deal(2, 7, OFFER), deal(4, 9), deal(5, 9, WON), deal(6, 9)], 13)
    by_function = whole.opp.pipeline_over_time(history, scope=lambda state: state["owner_id"] == 9)
    assert by_function.groupby("moment")["open_count"].sum().tolist() == [2, 2]
    by_mask = whole.opp.pipeline_over_time(history, scope=whole["owner_id"] == 9)
    assert by_mask.groupby("moment")["open_count"].sum().tolist() == [3, 2]
    assert "mask" in by_mask.attrs["opp_basis"]["scope"]


def test_figures_over_time__follow_the_conditions_of_the_load(history: History, of_seven: pd.DataFrame) -> None:
    """Pipeline, flows, slippage, pushes and times in stage are those of owner 7."""
    over = of_seven.opp.pipeline_over_time(history)
    assert over.groupby("moment")["open_amount"].sum().tolist() == [1000.0, 300.0]
    flows = of_seven.opp.flows(history, since=moment(2))
    assert flows["count"].sum() == 3
    due = of_seven.opp.slippage(history, period="2026Q1", since=moment(2))
    assert due["due_count"].tolist() == [4]
    spells = of_seven.opp.stage_spells(history)
    assert sorted(set(spells["id"])) == [1, 2, 3]


def test_funnel__does_not_forget_deleted_deals(history: History) -> None:
    """A deal that was deleted had reached its stage: without it those that are left look better."""
    whole = load_of([deal(1, 7), deal(2, 7, OFFER), deal(4, 9), deal(5, 9, WON), deal(6, 9)], 13)
    table = whole.opp.funnel(history)
    assert table["reached"].tolist()[:4] == [6, 3, 3, 1]
    assert table["left_count"].tolist()[:4] == [0, 0, 1, 0]
    assert table["count"].sum() == 5
    assert table.attrs["opp_basis"]["n_deleted"] == 1
    assert whole[whole["id"] < 3].opp.funnel(history)["reached"].tolist()[:4] == [2, 1, 1, 0]


def test_report__of_some_deals_states_no_deletion(history: History, of_seven: pd.DataFrame, tmp_path: Path) -> None:
    """A page for one owner does not call the others' deals deleted."""
    page = of_seven.opp.report(tmp_path / "seven.html", history=history, sections=["waterfall"]).read_text()
    assert "removed" not in page
