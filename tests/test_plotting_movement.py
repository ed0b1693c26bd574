"""Plots of what a history tells: artists, labels and returned Axes, not pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from histories import LEAD, LOOKUP, LOST, OFFER, QUALIFY, WON, history_in_memory, load_of, moment
from opp_pandas import plotting
from opp_pandas.errors import ConfigurationError, HistoryNeededError, MissingColumnError
from opp_pandas.figures import flows, pipeline_over_time, time_in_stage, waterfall
from opp_pandas.figures.core.snapshots import context_from_load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opp_pandas.history import History

JANUARY = ("2026-01-01", "2026-01-31")


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def history() -> History:
    """Twelve deals over three weeks, from Lead to where their number says."""
    made = history_in_memory()
    ways = {0: (LEAD, LEAD), 1: (QUALIFY, OFFER), 2: (OFFER, WON), 3: (QUALIFY, LOST)}
    for day, step in ((5, None), (12, 0), (19, 1)):
        rows: list[dict[str, Any]] = [
            {
                "id": key, "amount": 1000 * key, "probability": 40, "close_date": moment(25), "created_at": moment(3),
                "stage_id": LEAD if step is None else ways[key % 4][step], "owner_id": 7 + key % 2 * 2,
                "currency_type": "USD",
            }
            for key in range(1, 13)
        ]  # fmt: skip
        made.record(load_of(rows, day))
    return made


def words_of(ax: Any) -> str:
    texts = [text.get_text() for text in ax.texts] + [label.get_text() for label in ax.get_xticklabels()]
    return " | ".join([ax.get_title(loc="left"), *texts, *(label.get_text() for label in ax.get_yticklabels())])


def test_plot_waterfall__hangs_each_bar_on_the_one_before(history: History) -> None:
    """The bars are the table, and the last one stands where the moves have led."""
    table = waterfall(history, period=JANUARY, since=moment(5), until=moment(19))
    ax = plotting.plot_waterfall(table)
    shown = table[table["count"] > 0]
    bars = list(ax.patches)
    assert [bar.get_height() for bar in bars] == shown["amount"].tolist()
    assert bars[-2].get_y() + bars[-2].get_height() == pytest.approx(bars[-1].get_height())
    assert "start" in words_of(ax)
    assert "2026-01-05" in words_of(ax)
    with pytest.raises(ConfigurationError, match="choose a group"):
        plotting.plot_waterfall(waterfall(history, period=JANUARY, since=moment(5), by="owner_name"))


def test_plot_conversion__splits_who_went_no_further(history: History) -> None:
    """The parts of a bar add up to the deals that reached its stage."""
    table = history.as_of().opp.funnel(history=history)
    ax = plotting.plot_conversion(table)
    ends: dict[float, float] = {}
    for bar in ax.patches:
        place = round(bar.get_y() + bar.get_height() / 2)
        ends[place] = max(ends.get(place, 0), bar.get_x() + bar.get_width())
    assert list(ends.values()) == table["reached"].dropna().tolist()
    assert "of all" in words_of(ax)
    assert "of the stage before" in ax.get_xlabel()
    with pytest.raises(MissingColumnError, match="reached"):
        plotting.plot_conversion(history.as_of().opp.funnel())
    same = history.as_of().opp.plot.funnel(history=history)
    assert plotting.alt_text(same) == plotting.alt_text(ax)
    assert history.as_of().opp.plot.funnel(history=history, measure="count").get_xlabel() == "deals"
    assert plotting.plot_conversion(table, measure="reached_amount").get_xlabel().startswith("amount [USD")


def test_plot_time_in_stage__draws_what_was_seen(history: History) -> None:
    """A dot per known quantile; stages that nobody left have none."""
    context = context_from_load(history.as_of())
    table = time_in_stage(history, context=context)
    ax = plotting.plot_time_in_stage(table)
    assert "stays, " in words_of(ax)
    assert " still there" in words_of(ax)
    empty = table.assign(median_days=np.nan, p75_days=np.nan, p90_days=np.nan)
    assert "too few deals" in words_of(plotting.plot_time_in_stage(empty))


def test_plot_flows__bands_are_the_table(history: History) -> None:
    """One band per row, and the blocks on both sides name the stages."""
    table = flows(history, since=moment(5), until=moment(19))
    ax = plotting.plot_flows(table, measure="count")
    assert len(ax.collections) == len(table)
    assert "Lead  12" in words_of(ax)
    assert "Won  3" in words_of(ax)
    assert "no deals" in words_of(plotting.plot_flows(table.iloc[:0]))
    with pytest.raises(ConfigurationError, match="measure"):
        plotting.plot_flows(table, measure="colour")


def test_plot_flows__labels_stand_at_their_blocks_and_in_the_figure() -> None:
    """Many stages with long names: in pipeline order on both sides, none upon another, none cut off, at its block."""
    names = [f"a stage whose long name ends in {n}" for n in range(9)]
    rows = [(source, target, n) for n, source in enumerate(names) for target in (names[n // 2], "Won", "Lost")]
    table = pd.DataFrame(rows, columns=["stage_from", "stage_to", "count"])
    table["amount"] = np.where(table["stage_to"] == "Lost", 9e8, 1000.0)
    stages = {"open": names, "won": ["Won"], "lost": ["Lost"]}
    table.attrs["opp_basis"] = {"stages": stages, "currency": "USD"}
    ax = plotting.plot_flows(table.sample(frac=1, random_state=1))
    figure = ax.figure
    figure.canvas.draw()
    assert "amounts in USD" in ax.get_title(loc="left")
    right = [text for text in ax.texts if text.get_ha() == "left"]
    assert [text.get_text().partition("  ")[0][-3:] for text in right] == [
        "n 0",
        "n 1",
        "n 2",
        "n 3",
        "n 4",
        "Won",
        "ost",
    ]
    blocks = {bar.get_y() + bar.get_height() / 2 for bar in ax.patches}
    boxes = [text.get_window_extent() for text in ax.texts]
    assert all(text.get_position()[1] in blocks for text in ax.texts)
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_titles__end_in_the_figure(history: History) -> None:
    """Long names beside the bars do not push the title out."""
    table = history.as_of().opp.funnel(history=history)
    table.attrs["opp_basis"]["arguments"]["cohort"] = ["2026-01-01", "2026-01-31"]
    table.index = pd.Index([f"${name} {20 * 'M'}" for name in table.index])
    ax = plotting.plot_conversion(table)
    ax.figure.canvas.draw()
    assert ax._left_title.get_window_extent().x1 <= ax.figure.bbox.x1  # type: ignore[attr-defined]


def test_pipeline_over_time__namesakes_are_two_people_throughout() -> None:
    """Who stands alone at one moment bears the same label as beside a namesake at another."""
    lookups = {"opportunityStage": LOOKUP, "user": pd.DataFrame({"id": [7, 9], "name": ["Sam Lee", "Sam Lee"]})}
    rows = [{"id": key, "amount": 1, "close_date": moment(25), "stage_id": LEAD, "owner_id": key} for key in (7, 9)]
    history = history_in_memory()
    history.record(load_of(rows[:1], 5, lookups=lookups))
    history.record(load_of(rows, 9, lookups=lookups))
    table = pipeline_over_time(history, times=[moment(5), moment(9)], by="owner_name")
    counts = table["open_count"].unstack("owner_name")
    assert counts["Sam Lee (id 7)"].tolist() == [1, 1]
    assert counts["Sam Lee (id 9)"].tolist() == [0, 1]


def test_pipeline_over_time__of_a_single_snapshot_can_be_seen() -> None:
    """A history that has just begun is a block as wide as a day."""
    made = history_in_memory()
    made.record(load_of([{"id": 1, "amount": 500, "stage_id": LEAD, "currency_type": "USD"}], 5))
    ax = plotting.plot_pipeline_over_time(pipeline_over_time(made))
    box = ax.collections[0].get_paths()[0].get_extents()
    assert (box.width, box.height) == (1, 500)
    assert ax.get_xlim() == (box.x0, box.x1)


def test_pipeline_over_time__is_what_was_open_then(history: History) -> None:
    """Every moment has every stage, and the sum is the open pipeline of the state then."""
    table = pipeline_over_time(history, times=[moment(5), moment(12), moment(19)])
    assert table["open_count"].groupby(level="moment").sum().tolist() == [12, 12, 6]
    assert table.loc[(moment(12), "Qualify"), "open_count"] == 6
    at_end = history.as_of().opp.funnel()
    assert table.loc[(moment(19), "Offer"), "open_amount"] == at_end.loc["Offer", "amount"]
    ax = plotting.plot_pipeline_over_time(table)
    assert len(ax.collections) == 3
    with pytest.raises(HistoryNeededError, match="opp-pandas snapshot"):
        pipeline_over_time(None, times=[moment(5)])
    with pytest.raises(ConfigurationError, match="names no moment"):
        pipeline_over_time(history, times=[])


def test_plots__render(history: History, tmp_path: Path) -> None:
    """Each can be drawn to a file, and into Axes of the caller's."""
    context = context_from_load(history.as_of())
    tables = [
        (plotting.plot_waterfall, waterfall(history, period=JANUARY, since=moment(5), labels="salesforce")),
        (plotting.plot_conversion, history.as_of().opp.funnel(history=history)),
        (plotting.plot_time_in_stage, time_in_stage(history, context=context)),
        (plotting.plot_flows, flows(history, since=moment(5))),
        (
            plotting.plot_pipeline_over_time,
            pipeline_over_time(history, times=pd.date_range("2026-01-06", "2026-01-19")),
        ),
    ]
    for place, (draw, table) in enumerate(tables):
        _, ax = plt.subplots()
        assert draw(table, ax) is ax  # type: ignore[operator]
        ax.figure.savefig(tmp_path / f"{place}.png")
        assert (tmp_path / f"{place}.png").stat().st_size > 3_000
