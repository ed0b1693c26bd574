"""What if."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from opp_pandas.errors import ConfigurationError, MissingColumnError
from opp_pandas.figures import commit_lands, drop_largest, explain, forecast, scale, scenario, set_values
from portfolios import LEAD, context, portfolio, random_portfolio


def deal(amount: int, probability: int = 50, **more: Any) -> dict[str, Any]:
    return {"amount": amount, "probability": probability, "close_date": "2026-06-20T00:00Z", "stage_id": LEAD, **more}


FRAME = portfolio([deal(100), deal(200, 95), deal(400)])


def change(step: Any) -> float:
    table = scenario(FRAME, context=context(), scenarios={"then": step})
    return float(table.loc["then", "change"].sum())


def test_scenario__each_change_moves_the_forecast_by_what_it_says() -> None:
    """By hand: 440 as it is."""
    assert change(scale(amount=0.5)) == pytest.approx(-220)
    assert change(scale("amount > 300", probability=10)) == pytest.approx(200)
    assert change(drop_largest(1)) == pytest.approx(-200)
    assert change(commit_lands()) == pytest.approx(10)
    assert change(set_values("amount == 100", probability=0)) == pytest.approx(-50)
    assert change(set_values(FRAME["amount"] == 100, amount=300)) == pytest.approx(100)
    assert change(set_values(close_date=pd.Timestamp("2026-09-30", tz="UTC"))) == pytest.approx(0)
    assert change([drop_largest(1), scale(amount=0)]) == pytest.approx(-440)
    assert change(lambda frame: frame.assign(amount=0)) == pytest.approx(-440)


def test_scenario__changes_read_deals_as_the_forecast_does() -> None:
    """The category from its column, the percentages of the stage where a deal has none, sizes in one currency."""
    rows = [deal(100, 50, custom5="sure"), deal(1_000, None, custom5="maybe"), deal(5_000, 10, custom5="maybe")]
    frame = portfolio(rows).assign(currency_type=["USD", "USD", "JPY"])
    options: dict[str, Any] = {
        "category": "custom5",
        "category_names": {"sure": "commit", "maybe": "pipeline"},
        "probability": "own_else_stage",
        "rates": {"USD": 1, "JPY": 0.01},
    }
    scenarios = {
        "commit": commit_lands(),
        "scaled": scale(probability=0.5),
        "dropped": drop_largest(1),
        "omitted": set_values("amount == 100", forecast_category="omitted"),
    }
    table = scenario(frame, context=context(), scenarios=scenarios, **options)
    assert table["forecast_amount"].tolist() == [255, 305, 127.5, 55, 205]
    for name in scenarios:
        found = explain(
            table,
            frame,
            context=context(),
            column="forecast_amount",
            at=(name, "2026Q2"),
            rates=options["rates"],
            scenarios=scenarios,
        )
        assert found.rows["contribution"].sum() == found.value


@pytest.mark.parametrize("step", [commit_lands(), scale(probability=0.5), set_values(probability=5)])
def test_scenario__percentages_that_nobody_reads_are_not_changed_in_silence(step: Any) -> None:
    """Under probability="stage" the deals' own percentages move nothing; amounts do."""
    with pytest.raises(ConfigurationError, match="own_else_stage"):
        scenario(FRAME, context=context(), scenarios={"then": step}, probability="stage")
    half = scenario(FRAME, context=context(), scenarios={"then": scale(amount=0.5)}, probability="stage")
    assert half["forecast_amount"].tolist() == [140, 70]


def test_scenario__a_period_that_empties_keeps_its_row() -> None:
    """What is moved out of a quarter is missing there and found in the next, undated deals last."""
    frame = portfolio([deal(100), deal(30, close_date=None)])
    later = set_values("amount == 100", close_date=pd.Timestamp("2026-09-30", tz="UTC"))
    for by in (None, "stage_id"):
        table = scenario(frame, context=context(), scenarios={"slip": later}, by=by)
        assert table.loc["slip"]["change"].tolist() == [-50, 50, 0]


def test_scenario__stands_beside_the_forecast_as_it_is() -> None:
    """The first scenario is the plain forecast; the basis tells each change in words; the frame stays."""
    frame = random_portfolio(2)
    before = frame.copy(deep=True)
    table = scenario(frame, context=context(), scenarios={"bear": scale(amount=0.9)}, by="owner_name", freq="Y")
    plain = forecast(frame, context=context(), by="owner_name", freq="Y")
    base = table.loc["as it is"]
    assert base["forecast_amount"].tolist() == plain["forecast_amount"].tolist()
    assert (base["change"] == 0).all()
    assert table.attrs["opp_basis"]["scenarios"] == {"bear": "amounts x 0.9, probabilities x 1"}
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: set_values(mood="good"), ConfigurationError),
        (lambda: set_values("amount > 1"), ConfigurationError),
        (lambda: scale(amount=-1), ConfigurationError),
        (lambda: drop_largest(0), ConfigurationError),
        (lambda: change(["wish"]), ConfigurationError),
        (lambda: change(set_values([True], amount=1)), ConfigurationError),
        (lambda: change(set_values("amunt > 1", amount=1)), ConfigurationError),
        (lambda: change(set_values("amount >", amount=1)), ConfigurationError),
        (lambda: change(set_values("amount", probability=1)), ConfigurationError),
        (lambda: change(set_values(amount="lots")), ConfigurationError),
        (lambda: change(set_values(close_date=pd.Timestamp("2026-12-31"))), ConfigurationError),
        (lambda: change(scale(amount=float("nan"))), ConfigurationError),
        (lambda: change(print), ConfigurationError),
        (lambda: change(5), ConfigurationError),
        (lambda: scenario(FRAME, context=context(), scenarios=[scale(amount=2)]), ConfigurationError),  # type: ignore[arg-type]
        (lambda: change(set_values(forecast_category="Commit")), MissingColumnError),
        (lambda: scenario(FRAME, context=context(), scenarios={}), ConfigurationError),
    ],
)
def test_scenario__bad_changes_are_refused(make: Any, error: type[Exception]) -> None:
    """What cannot be set, scaled or dropped says so."""
    with pytest.raises(error):
        make()


def test_scenario__namesakes_keep_their_labels_when_one_drops_out() -> None:
    """The change of the other Sam Lee is 0, not all of his pipeline."""
    rows = [
        {"amount": 100, "probability": 50, "stage_id": LEAD, "close_date": "2026-06-20T00:00Z", "owner_id": owner}
        for owner in (7, 9)
    ]
    table = scenario(
        portfolio(rows),
        context=context(),
        scenarios={"Sam leaves": lambda frame: frame[frame["owner_id"] != 7]},
        by="owner_name",
    )
    left = table.loc["Sam leaves"].reset_index("period", drop=True)
    assert left["change"].to_dict() == {"Sam Lee (id 7)": -50.0, "Sam Lee (id 9)": 0.0}


def test_set_values__parts_of_a_unit_go_into_columns_of_whole_numbers() -> None:
    """62.5 % is a percentage, and a category may be new to a categorical column."""
    frame = portfolio(
        [{"amount": 1000, "probability": 20, "close_date": "2026-07-01T00:00Z", "stage_id": LEAD} for _ in range(2)]
    ).assign(forecast_category=pd.Categorical(["Commit", "Commit"]))

    def forecast_of(change: Any) -> float:
        table = scenario(frame, context=context(), scenarios={"so": change})
        return float(table.loc["so", "forecast_amount"].sum())

    assert forecast_of(set_values(probability=62.5)) == 1250
    assert forecast_of(set_values("amount > 1", amount=10.5)) == 4.2
    assert forecast_of(set_values(forecast_category="Omitted")) == 0
    frame = frame.assign(amount_precise=["1000.40", None])
    assert forecast_of(set_values(amount=None)) == 0
    assert forecast_of(set_values("amount_precise > '0'", amount=1000)) == 400


def test_set_values__a_mask_of_sorted_rows_speaks_of_the_same_deals() -> None:
    """As in ``df.loc[mask]``; where the order is that of the frame, double labels will do."""
    rows = [
        {"amount": amount, "probability": 0, "close_date": "2026-07-01T00:00Z", "stage_id": LEAD} for amount in (1, 2)
    ]
    frame = portfolio(rows)
    mask = frame.sort_values("amount", ascending=False)["amount"] > 1
    for deals, where in ((frame, mask), (frame.set_axis([0, 0]), (frame["amount"] > 1).set_axis([0, 0]))):
        table = scenario(deals, context=context(), scenarios={"so": set_values(where, probability=100)})
        assert table.loc["so", "forecast_amount"].tolist() == [2]
