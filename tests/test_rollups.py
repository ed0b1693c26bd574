"""Roll-ups by group and up a tree of managers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from opp_pandas.errors import ConfigurationError, MissingColumnError
from opp_pandas.figures import forecast, rollup
from portfolios import LEAD, context, portfolio, random_portfolio


def deal(owner: int | None, amount: int) -> dict[str, Any]:
    return {
        "amount": amount,
        "probability": 100,
        "close_date": "2026-06-20T00:00Z",
        "stage_id": LEAD,
        "owner_id": owner,
    }


FRAME = portfolio([deal(7, 1), deal(8, 10), deal(9, 100), deal(9, 100), deal(None, 5_000)])
TREE = {7: 8, 9: 7, 8: 99, 99: None}


def test_rollup__adds_own_and_the_people_below_each_deal_once() -> None:
    """Managers first, people below them, the unassigned last; a manager without deals is there too."""
    table = rollup(FRAME, context=context(), tree=TREE)
    assert table.index.tolist() == ["(id 99)", "Ada Byron", "Sam Lee (id 7)", "Sam Lee (id 9)", "(unassigned)"]
    assert table["level"].tolist() == [0, 1, 2, 3, 0]
    assert table["manager"].fillna("").tolist() == ["", "(id 99)", "Ada Byron", "Sam Lee (id 7)", ""]
    assert table["forecast_amount"].tolist() == [211, 211, 201, 200, 5_000]
    assert table["open_count"].tolist() == [4, 4, 3, 2, 1]
    assert table["own_count"].tolist() == [0, 1, 1, 2, 1]
    assert table.attrs["opp_basis"]["total"]["open_amount"] == 5_211


def test_rollup__what_rolls_into_a_period_has_its_row() -> None:
    """An owner whose only deals are overdue in earlier periods is in the present period's forecast."""
    late = {**deal(7, 30), "close_date": "2026-02-10T00:00Z"}
    frame = portfolio([late, deal(8, 10), {**late, "amount": None, "owner_id": 9}])
    table = rollup(frame, context=context(), period="2026Q2", overdue="roll_forward")
    assert table["forecast_amount"].to_dict() == {"Ada Byron": 10, "Sam Lee (id 7)": 30}
    assert table["open_count"].tolist() == [1, 0]
    elsewhere = rollup(frame, context=context(), period="2026Q3", overdue="roll_forward")
    assert not len(elsewhere)


@pytest.mark.parametrize(
    "tree",
    [
        {"Sam Lee (id 7)": "Ada Byron", "9": 7, "Ada Byron": "East", "East": None},
        pd.DataFrame({"id": ["7", "9", "8"], "manager_id": ["8", "7", "East"]}),
    ],
)
def test_rollup__tree_may_name_people_whose_deals_have_ids(tree: Any) -> None:
    """Names and ids as text find their people; a text that is nobody's name is a node of its own."""
    table = rollup(FRAME, context=context(), tree=tree)
    assert table.index.tolist() == ["East", "Ada Byron", "Sam Lee (id 7)", "Sam Lee (id 9)", "(unassigned)"]
    assert table["level"].tolist() == [0, 1, 2, 3, 0]
    assert table["forecast_amount"].tolist() == [211, 211, 201, 200, 5_000]


def test_rollup__tree_must_not_name_two_people_at_once() -> None:
    """Two Sam Lees are told apart by their ids; and nobody stands in the tree twice."""
    with pytest.raises(ConfigurationError, match=r"'Sam Lee' of the tree fits 2 people.*7, 9"):
        rollup(FRAME, context=context(), tree={"Sam Lee": 8})
    with pytest.raises(ConfigurationError, match="twice"):
        rollup(FRAME, context=context(), tree={8: 7, "Ada Byron": 9})


def test_rollup__needs_a_column() -> None:
    """Nothing to group by is said in words."""
    with pytest.raises(ConfigurationError, match="by names no column"):
        rollup(FRAME, context=context(), by=[])


def test_rollup__adjustments_lie_beside_the_raw_value() -> None:
    """A call replaces its node on the way up; raw values and who said it stay."""
    calls = pd.DataFrame({"node": [7, "Ada Byron"], "amount": [300, 500], "who": ["Ada", "Vi"], "note": [None, "risk"]})
    table = rollup(FRAME, context=context(), tree=TREE, adjustments=calls)
    assert table["forecast_amount"].tolist() == [211, 211, 201, 200, 5_000]
    assert table["adjusted"].tolist() == [500, 500, 300, 200, 5_000]
    assert table["delta"].tolist() == [289, 289, 99, 0, 0]
    assert table["who"].fillna("").tolist() == ["", "Vi", "Ada", "", ""]
    below = rollup(FRAME, context=context(), tree=TREE, adjustments={7: 300})
    assert below["adjusted"].tolist() == [310, 310, 300, 200, 5_000]


def test_rollup__tree_as_a_frame_and_by_name() -> None:
    """Id and manager_id with names; or names alone where the deals have no ids."""
    people = pd.DataFrame({"id": [7, 9, 99], "manager_id": [99, 7, None], "name": ["x", "y", "Boss"]})
    table = rollup(FRAME, context=context(), tree=people)
    assert table.loc["Boss", "open_amount"] == 201
    names = FRAME.drop(columns="owner_id").assign(owner_name=["a", "b", "c", "c", None])
    table = rollup(names, context=context(), tree={"a": "b", "c": "a"})
    assert table["open_amount"].to_dict() == {"b": 211, "a": 201, "c": 200, "(unassigned)": 5_000}


@pytest.mark.parametrize("tree", [{7: 8, 8: 7}, {7: 7}, {7: 8, 8: 9, 9: 7, 10: 7}])
def test_rollup__circles_are_refused_by_name(tree: dict[int, int]) -> None:
    """The error spells the circle out."""
    with pytest.raises(ConfigurationError, match="reports to"):
        rollup(FRAME, context=context(), tree=tree)


def test_rollup__a_thousand_levels_are_no_trouble() -> None:
    """Depth is not limited by recursion."""
    tree = {key: key + 1 for key in range(7, 2_000)}
    table = rollup(FRAME, context=context(), tree=tree)
    assert table["level"].max() == 1_993
    assert table.iloc[1]["open_amount"] + table.iloc[0]["open_amount"] >= 211


@pytest.mark.parametrize("overdue", ["exclude", "include", "roll_forward"])
@pytest.mark.parametrize("period", ["2026Q1", "2026Q2", None])
def test_rollup__of_a_period_is_the_forecasts_row(overdue: Any, period: str | None) -> None:
    """The same sums as forecast(), for one period or for all."""
    frame = random_portfolio(9)
    table = rollup(frame, context=context(), by="owner_id", period=period, overdue=overdue)
    whole = forecast(frame, context=context(), overdue=overdue)
    columns = [name for name in table.columns if name in whole.columns]
    expected = whole[columns].sum() if period is None else whole.loc[period, columns]
    assert table[columns].sum().to_numpy(float).tolist() == pytest.approx(expected.to_numpy(float).tolist())


def test_rollup__bad_arguments_are_named() -> None:
    """Adjustments without a tree, for nobody or twice; two groupings with a tree; odd frames."""
    with pytest.raises(ConfigurationError, match="tree="):
        rollup(FRAME, context=context(), adjustments={7: 1})
    with pytest.raises(ConfigurationError, match="fits no group"):
        rollup(FRAME, context=context(), tree=TREE, adjustments={12345: 1})
    with pytest.raises(ConfigurationError, match="twice"):
        rollup(FRAME, context=context(), tree=TREE, adjustments=pd.DataFrame({"node": [7, 7], "amount": [1, 2]}))
    missing = pd.DataFrame({"node": [7], "amount": pd.array([pd.NA], dtype="Int64")})
    for wrong in ({7: "lots"}, {7: None}, {7: pd.NA}, {7: float("inf")}, missing):
        with pytest.raises(ConfigurationError, match="not so for '7': leave out who is not adjusted"):
            rollup(FRAME, context=context(), tree=TREE, adjustments=wrong)
    with pytest.raises(ConfigurationError, match=r"Series; \.to_dict\(\)"):
        rollup(FRAME, context=context(), tree=TREE, adjustments=pd.Series({7: 5}))
    with pytest.raises(ConfigurationError, match=r"Series; \.to_dict\(\)"):
        rollup(FRAME, context=context(), tree=pd.Series(TREE))
    with pytest.raises(ConfigurationError, match="exactly one grouping"):
        rollup(FRAME, context=context(), by=["owner_name", "stage_name"], tree=TREE)
    with pytest.raises(MissingColumnError, match="manager_id"):
        rollup(FRAME, context=context(), tree=pd.DataFrame({"id": [1]}))
    with pytest.raises(ConfigurationError, match="measure"):
        rollup(FRAME, context=context(), tree=TREE, measure="luck")


def test_rollup__empty_frame() -> None:
    """No deals: the tree alone, with the same dtypes."""
    full, empty = (rollup(frame, context=context(), tree=TREE) for frame in (FRAME, FRAME.iloc[:0]))
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert empty["open_amount"].sum() == 0
