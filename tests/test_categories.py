"""Forecast categories and who said so."""

from __future__ import annotations

from typing import Any

import pytest

from opp_pandas.errors import ConfigurationError, MissingColumnError
from opp_pandas.figures import category_forecast, forecast
from opp_pandas.stages import StageMap, resolve_stages
from portfolios import LEAD, LOOKUP, LOST, WON, context, portfolio


def deal(probability: int | None, category: str | None = None, stage: int = LEAD, **more: Any) -> dict[str, Any]:
    close = "2026-06-20T00:00Z"
    return {
        "amount": 100,
        "probability": probability,
        "close_date": close,
        "stage_id": stage,
        "forecast_category": category,
        **more,
    }


def sums(table: Any, column: str = "amount") -> dict[str, float]:
    return table[column].droplevel("period").to_dict()


def test_categories__bands_decide_where_nobody_did() -> None:
    """From 90 commit, from 60 best case, else pipeline, 0 % and missing too; the basis says they are derived."""
    rows = [deal(95), deal(90), deal(60), deal(59), deal(0), deal(None), deal(50, stage=WON), deal(50, stage=LOST)]
    table = category_forecast(portfolio(rows), context=context())
    assert sums(table, "count") == {"closed": 1, "commit": 2, "best_case": 1, "pipeline": 3, "omitted": 0}
    assert table["cumulative_amount"].tolist()[:4] == [100, 300, 400, 700]
    assert table.attrs["opp_basis"]["origins"] == {"stated": 0, "bands": 6}
    wide = category_forecast(portfolio(rows), context=context(), bands=(50, 10))
    assert sums(wide, "count")["commit"] == 4


def test_categories__stated_ones_go_first_in_the_sellers_words() -> None:
    """Spelling does not matter; own words are translated; an open deal called closed falls back to its band."""
    words = ["BestCase", "best case", "COMMIT", "Omitted", "Most Likely", "Closed", None]
    rows = [deal(10, word) for word in words]
    table = category_forecast(portfolio(rows), context=context(), category_names={"most likely": "commit"})
    assert sums(table, "count") == {"closed": 0, "commit": 2, "best_case": 2, "pipeline": 2, "omitted": 1}
    assert sums(table)["omitted"] == 100
    assert sums(table, "weighted_amount")["omitted"] == 0
    assert table.attrs["opp_basis"]["origins"] == {"stated": 5, "bands": 2}


def test_categories__from_a_custom_field_or_the_stage_map() -> None:
    """A column of the team's own, or what the stage map says of each stage."""
    frame = portfolio([deal(10, custom12="Commit"), deal(10, custom12=None)])
    own = category_forecast(frame, context=context(), category="custom12")
    assert sums(own, "count")["commit"] == 1
    stages = resolve_stages(StageMap(won=["Won"], lost=["Lost", "Parked"], category={"Lead": "omitted"}), LOOKUP)
    table = forecast(frame, context=context(stages=stages))
    assert (table["open_count"].tolist(), table["open_amount"].tolist()) == ([2], [0.0])


def test_categories__bad_arguments_are_named() -> None:
    """Bands that rise, meanings that are no category, columns that are not there."""
    frame = portfolio([deal(10, "Commit")])
    with pytest.raises(ConfigurationError, match="bands"):
        category_forecast(frame, context=context(), bands=(10, 60))
    with pytest.raises(ConfigurationError, match="category_names"):
        category_forecast(frame, context=context(), category_names={"Commit": "surely"})
    with pytest.raises(MissingColumnError, match="custom9"):
        category_forecast(frame, context=context(), category="custom9")
    assert len(category_forecast(frame.iloc[:0], context=context())) == 0
