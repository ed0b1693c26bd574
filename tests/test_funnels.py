"""Stage distribution and funnel."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from opp_pandas.errors import ConfigurationError, FrameError, HistoryNeededError, MissingColumnError
from opp_pandas.figures import funnel, stage_distribution
from portfolios import LEAD, LOST, OFFER, WON, context, portfolio, random_portfolio

DEALS: list[dict[str, Any]] = [
    {"amount": 100, "probability": 50, "stage_id": LEAD},
    {"amount": 200, "probability": 25, "stage_id": OFFER},
    {"amount": None, "probability": 25, "stage_id": OFFER},
    {"amount": 400, "probability": 100, "stage_id": WON},
    {"amount": 800, "probability": 0, "stage_id": LOST},
    {"amount": 800, "probability": 0, "stage_id": LOST},
]


def history(*entries: tuple[int, int, str]) -> pd.DataFrame:
    frame = pd.DataFrame(entries, columns=["id", "stage_id", "entered_at"])
    return frame.assign(entered_at=pd.to_datetime(frame["entered_at"], utc=True))


def test_stage_distribution__has_every_stage_in_order() -> None:
    """Open stages first, then won and lost; empty stages stay; weighted is of open deals only."""
    table = stage_distribution(portfolio(DEALS), context=context())
    assert table.index.tolist() == ["Lead", "Offer", "Won", "Lost", "Parked"]
    assert table.index.name == "stage_name"
    assert list(table.columns) == ["count", "amount", "weighted_amount", "missing_amount_count"]
    assert table["count"].tolist() == [1, 2, 1, 2, 0]
    assert table["amount"].tolist() == [100, 200, 400, 1600, 0]
    assert table["weighted_amount"].tolist() == [50, 50, 0, 0, 0]
    assert table["missing_amount_count"].tolist() == [0, 1, 0, 0, 0]


def test_stage_distribution__deals_without_a_stage_have_a_row() -> None:
    """No stage, and no close_date column: still counted."""
    table = stage_distribution(
        portfolio([*DEALS, {"amount": 5, "stage_id": None}]).drop(columns="close_date"), context=context()
    )
    assert table.index[-1] == "(no stage)"
    assert table["count"].iloc[-1] == 1


def test_stage_distribution__groups_add_up() -> None:
    """By owner, the stages of all owners together are the stages of all."""
    frame = random_portfolio(2)
    whole = stage_distribution(frame, context=context())
    by_owner = stage_distribution(frame, context=context(), by="owner_name")
    assert by_owner.index.names == ["owner_name", "stage_name"]
    pd.testing.assert_frame_equal(
        whole, by_owner.groupby("stage_name").sum().reindex(whole.index), check_flags=False, check_names=False
    )


def test_stage_distribution__empty_frame_has_the_same_columns_and_dtypes() -> None:
    """Every stage with nothing in it."""
    frame = random_portfolio(2)
    empty = stage_distribution(frame.iloc[:0], context=context())
    assert empty["count"].tolist() == [0] * 5
    assert empty.dtypes.to_dict() == stage_distribution(frame, context=context()).dtypes.to_dict()


def test_funnel__without_history_is_the_stage_distribution_and_says_so() -> None:
    """The same numbers; title and basis do not call it a funnel."""
    frame = random_portfolio(2)
    table = funnel(frame, context=context())
    pd.testing.assert_frame_equal(table, stage_distribution(frame, context=context()), check_flags=False)
    basis = table.attrs["opp_basis"]
    assert basis["title"] == "Stage distribution"
    assert basis["history"] == "none"
    assert any("not a conversion funnel" in note for note in basis["notes"])


@pytest.mark.parametrize("asked", [{"cohort": ("2026-01-01", "2026-02-01")}, {"step_conversion": True}])
def test_funnel__conversion_needs_a_history(asked: dict[str, Any]) -> None:
    """What one load cannot know raises."""
    with pytest.raises(HistoryNeededError, match="history="):
        funnel(portfolio(DEALS), context=context(), **asked)


def test_funnel__counts_each_deal_once_up_to_its_furthest_stage() -> None:
    """Lost deals count where they were, skipped stages as reached, re-entered ones once, backward moves not."""
    seen = history(
        (1, OFFER, "2026-01-05"),  # has gone back to Lead since
        (1, LEAD, "2026-02-01"),
        (1, OFFER, "2026-01-20"),
        (5, LEAD, "2026-01-01"),  # lost from Lead
        (4, WON, "2026-03-01"),  # never seen in Offer
        (99, OFFER, "2026-01-01"),  # not in the frame
        (6, OFFER, "2026-09-01"),  # after as_of
    )
    table = funnel(portfolio(DEALS), context=context(), history=seen)
    assert table["reached"].tolist()[:3] == [5, 4, 1]
    assert table["step_conversion"].round(4).tolist()[1:3] == [0.8, 0.25]
    assert table["overall_conversion"].tolist()[:3] == [1.0, 0.8, 0.2]
    assert pd.isna(table["step_conversion"].iloc[0])
    assert table["reached"].isna().tolist() == [False, False, False, True, True]
    basis = table.attrs["opp_basis"]
    assert (basis["title"], basis["history"], basis["n_unknown_path"]) == ("Funnel", "events", 1)


def test_funnel__cohort_takes_deals_by_their_first_entry() -> None:
    """Only deals first seen in the window count."""
    seen = history((1, LEAD, "2026-01-05"), (2, LEAD, "2026-02-05"), (2, OFFER, "2026-01-10"), (3, LEAD, "2026-03-01"))
    table = funnel(portfolio(DEALS), context=context(), history=seen, cohort=("2026-01-01", "2026-01-31"))
    assert table["reached"].tolist()[:3] == [2, 1, 0]


def test_funnel__bad_history_is_refused() -> None:
    """Missing columns, doubled ids and a cohort that ends before it begins."""
    frame = portfolio(DEALS)
    with pytest.raises(MissingColumnError, match="entered_at"):
        funnel(frame, context=context(), history=pd.DataFrame({"id": [1], "stage_id": [1]}))
    with pytest.raises(FrameError, match="twice"):
        funnel(frame.assign(id=1), context=context(), history=history((1, LEAD, "2026-01-01")))
    with pytest.raises(ConfigurationError, match="before it begins"):
        funnel(frame, context=context(), history=history((1, LEAD, "2026-01-01")), cohort=("2026-02-01", "2026-01-01"))
