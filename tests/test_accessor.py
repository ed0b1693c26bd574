"""The accessor hands its frame on, with what was loaded."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes

import opp_pandas as opp
from conftest import NOW, STAGES
from opp_pandas import errors, figures, forecasting

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    "scenario": {"scenarios": {"half": figures.scale(amount=0.5)}},
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


OVER_TIME = {
    "waterfall": {"period": "2026Q4"},
    "waterfall_deals": {"period": "2026Q4", "since": "2026-10-20", "present": True},
    "slippage": {"period": "2026Q4", "by": "owner_name"},
    "flows": {"since": "2026-10-20", "present": True},
    "pushes": {"since": "2026-10-20"},
    "pipeline_over_time": {},
    "stage_spells": {},
    "time_in_stage": {},
    "step_curves": {},
    "stage_chain": {},
}
PLOTS_OVER_TIME = {
    "waterfall": {"period": "2026Q4", "since": "2026-10-20", "show_empty": True},
    "conversion": {"measure": "reached_amount"},
    "time_in_stage": {},
    "flows": {"since": "2026-10-20", "present": True, "measure": "count"},
    "pipeline_over_time": {"measure": "open_count"},
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[opp.History, pd.DataFrame, pd.DataFrame]:
    """A history of four weeks, its first load, and a load a day after its last."""
    history = opp.History(tmp_path_factory.mktemp("history") / "deals")
    with opp.sandbox(opportunities=80, seed=3, now=NOW) as box, box.client(timezone="America/New_York") as client:

        def load() -> pd.DataFrame:
            return opp.read_opportunities(client, stages=STAGES, on_invalid="ignore", history=history)

        first = load()
        history.record(first)
        for _ in range(4):
            box.advance(days=7)
            history.record(load())
        box.advance(days=1)
        return history, first, load()


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_figure__is_the_functions(df: pd.DataFrame, name: str) -> None:
    """Each method gives what its function gives, with the moment, zone and stages of the load."""
    from opp_pandas.accessor import context_of

    result = getattr(df.opp, name)(**FIGURES[name])
    room = figures if hasattr(figures, name) else forecasting
    expected = getattr(room, name)(df, context=context_of(df), **FIGURES[name])
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
    for wrong in ("some day", 20301231, 2030.0):
        with pytest.raises(errors.ConfigurationError, match="as_of"):
            df.opp.forecast(as_of=wrong)


@pytest.mark.parametrize("span", ["2026-06", "2026", "2026Q2", "June 2026", "now", "today", ""])
def test_as_of__is_a_day_or_an_instant(df: pd.DataFrame, span: str) -> None:
    """A month is not its first day, and the clock of this machine none of the load's zone."""
    with pytest.raises(errors.ConfigurationError, match="is not a day or an instant"):
        df.opp.forecast(as_of=span, timezone="America/New_York")


def test_as_of__beyond_the_calendar_is_its_end(df: pd.DataFrame) -> None:
    """The end of that day in New York is in the year 10000; nothing can be later than the calendar."""
    last = df.opp.forecast(as_of="9999-12-31", timezone="America/New_York")
    assert last.overdue_amount.sum() == df.opp.forecast(as_of="9999-12-30").overdue_amount.sum()


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


def test_bare_frame__knows_stages_by_name_where_nobody_said_their_ids(df: pd.DataFrame) -> None:
    """After a merge the look-up of the load is gone: the map's names count, not the ids beside them."""
    teams = pd.DataFrame({"owner_id": df["owner_id"].dropna().unique(), "team": "A"})
    merged = df.merge(teams, how="left", on="owner_id")
    asked: dict[str, Any] = {"as_of": NOW, "stages": STAGES}
    pd.testing.assert_frame_equal(
        df.opp.forecast(**asked), merged.opp.forecast(**asked, by="team").droplevel("team"), check_freq=False
    )
    lost_name = merged.assign(stage_name=merged["stage_name"].mask(merged.index == 0))
    with pytest.warns(errors.UnmappedStageWarning, match="1 deals are in stages"):
        lost_name.opp.forecast(**asked)


def test_typed_door__is_the_same(df: pd.DataFrame) -> None:
    """`opp.of(df)` is `df.opp`."""
    pd.testing.assert_frame_equal(opp.of(df).forecast(), df.opp.forecast())


def test_load_door__on_the_class_reads(client: opp.Client) -> None:
    """`pd.DataFrame.opp.load` is `read_opportunities`."""
    assert len(pd.DataFrame.opp.load(client, limit=3, stages=STAGES)) == 3


@pytest.mark.parametrize("name", OVER_TIME)
def test_figure_over_time__takes_the_frames_context(recorded: tuple[opp.History, Any, Any], name: str) -> None:
    """Each method gives a table with the zone and the stages of the load; without a history it says how to start."""
    history, _, df = recorded
    options = OVER_TIME[name]
    method = getattr(df.opp, name)
    table = method(history, **options)
    assert len(table)
    assert "opp" not in table.attrs
    if "opp_basis" in table.attrs:
        assert table.attrs["opp_basis"]["stages"] == df.opp.stages.to_dict()
    with pytest.raises(errors.HistoryNeededError, match=r"History\(DIR\).record"):
        method(**options)
    parameters = list(inspect.signature(method).parameters)
    assert parameters[0] == "history"
    assert {"as_of", "stages", "timezone"} <= set(parameters)
    assert "Returns" in method.__doc__


@pytest.mark.parametrize("name", ["time_in_stage", "step_curves", "stage_chain", "stage_spells"])
def test_figure_of_entries__takes_a_frame_of_them(recorded: tuple[opp.History, Any, Any], name: str) -> None:
    """Which stages deals entered may come from elsewhere: such a frame is no earlier state of the deals."""
    history, _, df = recorded
    found = getattr(df.opp, name)(history.stage_entries())
    expected = getattr(df.opp, name)(history)
    assert len(found)
    pd.testing.assert_frame_equal(found, expected, check_names=False)


@pytest.mark.parametrize("name", PLOTS_OVER_TIME)
def test_plot_over_time__returns_axes(recorded: tuple[opp.History, Any, Any], name: str) -> None:
    """Arguments of the figure and of the drawing function are given together; no history is an error."""
    history, _, df = recorded
    draw = getattr(df.opp.plot, name)
    assert isinstance(draw(history, **PLOTS_OVER_TIME[name]), Axes)
    with pytest.raises(errors.HistoryNeededError):
        draw(**PLOTS_OVER_TIME[name])


def test_waterfall__ends_with_the_frame_at_hand(recorded: tuple[opp.History, pd.DataFrame, pd.DataFrame]) -> None:
    """`present` takes the frame with its unsaved edits; an earlier frame is compared with it, too."""
    history, first, df = recorded
    edited = df.copy()
    won = edited["stage_name"].eq("Closed Won")
    edited.loc[~won, "amount"] = edited.loc[~won, "amount"] + 1000
    asked = {"period": "2026Q4", "since": "2026-10-20T16:00Z"}
    before = df.opp.waterfall(history, **asked, present=True)
    after = edited.opp.waterfall(history, **asked, present=True)
    n_open = int(before.loc["end", "count"])
    assert after.loc["end", "amount"] == before.loc["end", "amount"] + 1000 * n_open
    pd.testing.assert_frame_equal(before, df.opp.waterfall(first, period="2026Q4"), check_flags=False)
    with pytest.raises(errors.NotLoadedError, match="present=True"):
        pd.DataFrame(df).opp.waterfall(history, **asked, present=True, as_of="2026-11-18", stages=STAGES)


def test_methods__each_have_their_own_help() -> None:
    """No two doors, figures or plots say the same: one that adds and one that takes away are two."""
    for known in (opp.OpportunityAccessor, type(pd.DataFrame().opp.plot)):
        names = [name for name in dir(known(None)) if not name.startswith("_") and name != "load"]
        said = [getattr(known, name).__doc__ for name in names]
        assert len(set(said)) == len(said) > 20
