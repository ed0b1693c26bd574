"""The accessor hands its frame on, with what was loaded."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes

import opp_pandas as opp
from conftest import STAGES
from opp_pandas import analytics, errors

FIGURES = {
    "forecast": {"quota": 500_000},
    "category_forecast": {},
    "funnel": {},
    "stage_distribution": {},
    "kpis": {"by": "owner_name"},
    "win_rates": {"by": "owner_name"},
    "rollup": {},
    "pacing": {"quota": 500_000},
    "linearity": {},
    "bookings": {},
    "scenario": {"scenarios": {"half": analytics.scale(amount=0.5)}},
    "hygiene": {},
    "ageing": {},
    "concentration": {},
}
PLOTS = {
    "forecast": {"quota": 500_000},
    "category_forecast": {},
    "funnel": {},
    "stage_distribution": {},
    "win_rates": {"by": "owner_name"},
    "coverage": {"by": "owner_name", "quota": 500_000},
    "rollup": {"measure": "weighted_amount"},
    "bookings": {"quota": 500_000},
    "ageing": {},
    "linearity": {},
    "concentration": {"by": "owner_name"},
}


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_figure__is_the_functions(df: pd.DataFrame, name: str) -> None:
    """Each method gives what its function gives, with the moment, zone and stages of the load."""
    from opp_pandas.accessor import context_of

    result = getattr(df.opp, name)(**FIGURES[name])
    expected = getattr(analytics, name)(df, context=context_of(df), **FIGURES[name])
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(result, expected)
        assert "opp" not in result.attrs
        assert result.attrs["opp_basis"]
    else:
        assert result.mean == expected.mean


@pytest.mark.parametrize("name", FIGURES)
def test_figure__shows_its_arguments_and_documentation(name: str) -> None:
    """Shift-tab in a notebook shows what can be given, and what it means."""
    method = getattr(opp.OpportunityAccessor, name)
    parameters = inspect.signature(method).parameters
    assert "context" not in parameters
    assert {"as_of", "stages", "timezone"} <= set(parameters)
    assert "Returns" in (method.__doc__ or "")


@pytest.mark.parametrize("name", PLOTS)
def test_plot__returns_axes(df: pd.DataFrame, name: str) -> None:
    """Each plot takes the options of its figure and of its drawing."""
    assert isinstance(getattr(df.opp.plot, name)(**PLOTS[name]), Axes)


def test_plot__draws_into_given_axes(df: pd.DataFrame) -> None:
    """A figure of one's own can hold several pictures."""
    _, axes = plt.subplots()
    assert df.opp.plot.forecast(ax=axes) is axes


def test_as_of__moves_the_moment(df: pd.DataFrame) -> None:
    """A later day makes more deals overdue; a day means its end in the zone."""
    now = df.opp.forecast().overdue_amount.sum()
    later = df.opp.forecast(as_of="2030-12-31").overdue_amount.sum()
    assert later > now
    with pytest.raises(errors.ConfigurationError, match="as_of"):
        df.opp.forecast(as_of="some day")


def test_stages__can_be_given_anew(df: pd.DataFrame) -> None:
    """Another meaning of the stages for one figure."""
    other = df.opp.forecast(stages=opp.StageMap(won=["Closed Lost"], lost=["Closed Won"]))
    assert other["won_amount"].sum() != df.opp.forecast()["won_amount"].sum()


def test_bare_frame__needs_only_moment_and_stages() -> None:
    """A frame that was never loaded gets figures when the arguments say enough."""
    bare = pd.DataFrame(
        {
            "amount": [100],
            "probability": [50],
            "stage_name": ["Lead"],
            "close_date": pd.to_datetime(["2026-11-30T12:00Z"]),
        }
    )
    table = bare.opp.forecast(as_of="2026-10-20", stages=opp.StageMap(order=["Lead"]))
    assert table["weighted_amount"].tolist() == [50]


def test_typed_door__is_the_same(df: pd.DataFrame) -> None:
    """`opp.of(df)` is `df.opp`."""
    pd.testing.assert_frame_equal(opp.of(df).forecast(), df.opp.forecast())


def test_load_door__on_the_class_reads(client: opp.Client) -> None:
    """`pd.DataFrame.opp.load` is `read_opportunities`."""
    assert len(pd.DataFrame.opp.load(client, limit=3, stages=STAGES)) == 3
