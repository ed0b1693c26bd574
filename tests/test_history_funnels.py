"""Funnels from snapshots: who got how far, and what became of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from histories import LEAD, LOST, OFFER, QUALIFY, WON, history_in_memory, load_of, moment
from opp_pandas.errors import ConfigurationError, HistoryNeededError

if TYPE_CHECKING:
    from opp_pandas.history import History


def deal(key: int, stage: int, created: int = 2, **values: Any) -> dict[str, Any]:
    return {"id": key, "amount": key * 100, "probability": 50, "stage_id": stage, "owner_id": 7,
            "created_at": moment(created), "close_date": moment(28), **values}  # fmt: skip


@pytest.fixture
def history() -> History:
    """Four deals over twenty days: one won, one lost from Offer, one that went back, one that waits."""
    made = history_in_memory()
    made.record(load_of([deal(9, LEAD, 1)], 1))
    made.record(load_of([deal(9, LEAD, 1), *(deal(key, LEAD) for key in (1, 2, 3))], 3))
    made.record(load_of([deal(9, LEAD, 1), deal(1, OFFER), deal(2, QUALIFY), deal(3, OFFER)], 8))
    made.record(load_of([deal(9, LEAD, 1), deal(1, WON), deal(2, OFFER), deal(3, QUALIFY), deal(4, LEAD, 9)], 12))
    made.record(load_of([deal(9, LEAD, 1), deal(1, WON), deal(2, LOST), deal(3, QUALIFY), deal(4, LEAD, 9)], 20))
    return made


def test_funnel__of_snapshots_splits_who_went_no_further(history: History) -> None:
    """Reached, lost from there, still there, gone back: in counts and amounts."""
    table = history.as_of().opp.funnel(history=history)
    assert table["reached"].tolist()[:4] == [5, 3, 3, 1]
    assert table["step_conversion"].tolist()[1:4] == pytest.approx([3 / 5, 1.0, 1 / 3])
    assert table["reached_amount"].tolist()[:4] == [1900, 600, 600, 100]
    assert table["step_conversion_amount"].tolist()[1:4] == pytest.approx([600 / 1900, 1.0, 1 / 6])
    assert table["lost_count"].tolist()[:4] == [0, 0, 1, 0]
    assert table["still_count"].tolist()[:4] == [2, 0, 1, 0]
    assert table["back_count"].tolist()[:4] == [0, 0, 1, 0]
    assert table["reached"].isna().tolist() == [False] * 4 + [True]
    basis = table.attrs["opp_basis"]
    assert (basis["title"], basis["history"]) == ("Funnel", "snapshots")


def test_funnel__as_it_was_knows_nothing_later(history: History) -> None:
    """The funnel of an earlier moment counts only what had been seen."""
    table = history.as_of(moment(9)).opp.funnel(history=history)
    assert table["reached"].tolist()[:4] == [4, 3, 2, 0]


def test_funnel__cohort_and_window_treat_all_alike(history: History) -> None:
    """Deals created in the window, and what they reached within eight days of their first stage."""
    frame = history.as_of()
    early = frame.opp.funnel(history=history, cohort=("2026-01-02", "2026-01-03"))
    assert early["reached"].tolist()[:4] == [3, 3, 3, 1]
    within = frame.opp.funnel(history=history, cohort=("2026-01-02", "2026-01-03"), window_days=8)
    assert within["reached"].tolist()[:4] == [3, 3, 2, 0]
    # Deal 4 was followed for 11 days only, and nobody saw the beginning of deal 9: a window of 15 leaves both out.
    long = frame.opp.funnel(history=history, window_days=15)
    assert long["reached"].iloc[0] == 3
    with pytest.raises(ConfigurationError, match="window_days must be 1 or more"):
        frame.opp.funnel(history=history, window_days=0)


def test_funnel__counts_no_survivors_alone() -> None:
    """Closed when first seen, no deal counts, won or lost; those on their way are told of, and stand in no cohort."""
    made = history_in_memory()
    old = [deal(1, WON, 1), deal(2, WON, 1), deal(3, LOST, 1), deal(4, OFFER, 1), deal(5, LEAD, 1)]
    made.record(load_of(old, 3))
    made.record(load_of([*old, deal(6, LEAD, 4), deal(7, LEAD, 4)], 5))
    made.record(load_of([*old, deal(6, WON, 4), deal(7, LOST, 4)], 9))
    table = made.as_of().opp.funnel(history=made)
    assert table["reached"].tolist()[:4] == [4, 2, 2, 1]
    basis = table.attrs["opp_basis"]
    assert (basis["n_unknown_path"], basis["n_seen_late"]) == (3, 2)
    assert any("3 deals already closed when first seen" in note for note in basis["notes"])
    assert any("2 deals already on the way" in note and "cohort=" in note for note in basis["notes"])
    cohort = made.as_of().opp.funnel(history=made, cohort=("2026-01-01", "2026-01-31"))
    assert cohort["reached"].tolist()[:4] == [2, 1, 1, 1]
    alone = made.as_of(moment(3)).opp.funnel(history=made)
    assert alone["reached"].tolist()[:4] == [2, 1, 1, 0]


def test_funnel__without_history_says_how_to_start(history: History) -> None:
    """A window, a cohort or step conversion of one load raises."""
    frame = history.as_of()
    for asked in ({"window_days": 30}, {"cohort": ("2026-01-01", "2026-01-31")}, {"step_conversion": True}):
        with pytest.raises(HistoryNeededError, match=r"history=.*opp-pandas snapshot"):
            frame.opp.funnel(**asked)
    with pytest.raises(HistoryNeededError, match="opp-pandas snapshot"):
        frame.opp.funnel(history=history_in_memory())


def test_funnel__joins_adopted_deals_by_custom_id() -> None:
    """Entries of a frame without ids are joined by custom id."""
    import opp_pandas as opp

    stages = opp.StageMap(order=["Lead", "Offer"], won=["Won"], lost=["Lost"])
    rows = {"custom_id": ["a", "b"], "stage_name": ["Offer", "Lost"], "amount": [1, 2], "close_date": "2026-03-01"}
    frame = opp.adopt(pd.DataFrame(rows), stages=stages, as_of="2026-02-01")
    entries = pd.DataFrame(
        {"custom_id": ["a", "b", "b"], "id": pd.array([None] * 3, dtype="Int64"),
         "stage_name": ["Lead", "Lead", "Offer"], "entered_at": [moment(1), moment(1), moment(5)]}
    )  # fmt: skip
    assert frame.opp.funnel(history=entries)["reached"].tolist()[:3] == [2, 2, 0]
