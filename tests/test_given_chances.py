"""Figures take probabilities from elsewhere: a fitted model, recalibrated percentages, a prediction's, anybody's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import scale, set_values
from worlds import World, frame_of, generate


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of(generate(World(days=300), 1))


class Half:
    """Every deal at 50 %."""

    def predict(self, frame: pd.DataFrame) -> pd.Series:
        """Return a half for each row."""
        return pd.Series(0.5, index=frame.index)


def weighted(table: pd.DataFrame) -> float:
    return float(table["weighted_amount"].sum())


def test_forecast__with_a_models_probabilities(frame: pd.DataFrame) -> None:
    """Open amounts count by the model, whatever the sellers say; the basis and `explain` say whose they are."""
    table = frame.opp.forecast(probability=Half())
    assert weighted(table) == pytest.approx(0.5 * table["open_amount"].sum())
    assert table.attrs["opp_basis"]["probability"]["source"] == "Half"
    quarter = table.index[table["open_amount"] > 0][0]
    rows = frame.opp.explain(table, column="weighted_amount", at=quarter, probability=Half()).rows
    assert rows["contribution"].sum() == pytest.approx(table.loc[quarter, "weighted_amount"])
    with pytest.raises(ConfigurationError, match="give probability= as it was given"):
        frame.opp.explain(table, column="weighted_amount", at=quarter)
    assert frame.opp.bookings(probability=Half()).mean == pytest.approx(weighted(table))


def test_forecast__with_a_win_model(frame: pd.DataFrame) -> None:
    """A model of won deals weighs the open ones."""
    model = frame.opp.fit_win_model(features=["amount", "segment"])
    is_open = frame["stage_name"] == "Open"
    due = float((model.predict(frame) * frame["amount"].astype(float))[is_open].sum())
    assert weighted(frame.opp.forecast(probability=model)) == pytest.approx(due)


def test_forecast__with_the_deals_of_a_prediction(frame: pd.DataFrame) -> None:
    """What each open deal brings in a window adds up to the open part of the prediction."""
    found = frame.opp.predict(horizon_days=30)
    table = frame.opp.forecast(probability=found.deals)
    assert weighted(table) == pytest.approx(found.parts.loc["open", "mean"], rel=1e-6)


def test_forecast__with_fractions_by_id(frame: pd.DataFrame) -> None:
    """Deals that the table does not know have no probability, and are counted."""
    known = frame.loc[frame["stage_name"] == "Open", "custom_id"].iloc[:3]
    table = frame.opp.forecast(probability=pd.Series(1.0, index=known))
    assert weighted(table) == pytest.approx(frame.loc[known.index, "amount"].sum())
    assert table["missing_probability_count"].sum() == (frame["stage_name"] == "Open").sum() - 3


def test_scenario__changes_a_models_probabilities(frame: pd.DataFrame) -> None:
    """Percentages of a model are scaled and set like a seller's, and explained."""
    changes = {"half as much": scale(probability=0.5), "certain": set_values(probability=100)}
    table = frame.opp.scenario(changes, probability=Half())
    sums = table["weighted_amount"].groupby("scenario").sum()
    whole = table["open_amount"].groupby("scenario").sum()["as it is"]
    assert sums["as it is"] == pytest.approx(0.5 * whole)
    assert sums["half as much"] == pytest.approx(0.25 * whole)
    assert sums["certain"] == pytest.approx(whole)
    at = table.index[(table["weighted_amount"] > 0) & (table.index.get_level_values(0) == "half as much")][0]
    found = frame.opp.explain(table, column="weighted_amount", at=at, scenarios=changes, probability=Half())
    assert found.rows["contribution"].sum() == pytest.approx(table.loc[at, "weighted_amount"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("magic", "a model with predict"),
        (pd.DataFrame({"id": [1]}), "columns id and p"),
        (pd.Series([0.5, 0.5], index=["D1", "D1"]), "two probabilities: 'D1'"),
        (type("Wild", (), {"predict": lambda _, frame: np.full(len(frame), 50.0)})(), "one fraction for each row"),
    ],
    ids=["a word", "no probability", "twice", "percent"],
)
def test_forecast__refuses_probabilities_that_are_none(frame: pd.DataFrame, given: Any, words: str) -> None:
    """What is no probability is refused with what would do."""
    with pytest.raises(ConfigurationError, match=words):
        frame.opp.forecast(probability=given)
