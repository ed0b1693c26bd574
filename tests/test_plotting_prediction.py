"""Pictures of predictions: parts, intervals, records and weights are those of the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from opp_pandas import plotting
from opp_pandas.errors import ConfigurationError, MissingColumnError
from opp_pandas.plotting.canvas import VERMILION
from worlds import WORLDS, World, frame_of, generate

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

PREDICTED = ("predict", "track_record", "mix_weights")


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of(generate(World(), 0))


@pytest.fixture(scope="module")
def young() -> pd.DataFrame:
    return frame_of(generate(WORLDS["two_months"], 3))


def words_of(ax: Any) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_plot_predict__parts_add_up_to_the_mean_and_the_fan_is_its_intervals(frame: pd.DataFrame) -> None:
    """Bars end to end, then three intervals within each other; quota with its chance; the record below."""
    found = frame.opp.predict("2025Q1")
    ax = plotting.plot_predict(found, quota=2_000_000)
    parts = [bar for bar in ax.patches if bar.get_y() < len(found.parts) - 0.5]
    assert [bar.get_width() for bar in parts] == pytest.approx(list(found.parts["mean"]))
    ends = np.cumsum([bar.get_width() for bar in parts])
    assert [bar.get_x() for bar in parts[1:]] == pytest.approx(list(ends[:-1]))
    assert ends[-1] == pytest.approx(found.mean)
    fan = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches[len(parts) :]]
    assert np.array(fan) == pytest.approx(np.array([found.interval(level) for level in (0.9, 0.8, 0.5)]))
    assert any(word.startswith("quota: ") and "chance" in word for word in words_of(ax))
    assert found.is_tested
    below = ax.get_xlabel().replace("\n", " ")
    assert found.tested in below
    assert f"{found.parts.loc['open', 'mean']:,.0f} USD from open deals" in ax.alt_text
    assert found.tested in ax.alt_text


def test_plot_predict__claims_no_coverage_that_nobody_tested(young: pd.DataFrame) -> None:
    """With too few windows the picture and its words say how many are missing, and how often nothing held."""
    ax = young.opp.plot.predict(horizon_days=30)
    assert "not tested yet: needs" in ax.get_xlabel()
    assert "not tested yet: needs" in ax.alt_text
    assert "held" not in ax.alt_text
    table = young.opp.plot.compare(horizon_days=30)
    assert "held" not in table.child_axes[0].get_ylabel()
    assert "no method is called the best" in table.get_xlabel().replace("\n", " ")


def test_plot_compare__draws_a_line_per_method_with_its_record(frame: pd.DataFrame) -> None:
    """Means and intervals of the table, errors and scores beside; a method without anything to go by is named."""
    table = frame.opp.compare(horizon_days=30, quota=500_000)
    ax = plotting.plot_compare(table)
    known = table[table["mean"].notna()]
    drawn = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in drawn] == pytest.approx(list(known["mean"]))
    ends = [bars.get_segments()[0][:, 0].tolist() for bars in ax.collections]
    assert np.array(ends) == pytest.approx(known[["low_80", "high_80"]].to_numpy())
    right = [text.get_text() for text in ax.child_axes[0].get_yticklabels()]
    row = table.iloc[0]
    facts = [row[name] for name in ("wape", "crps_share", "coverage_80", "p_quota")]
    assert right[0] == " · ".join(f"{fact:.0%}" for fact in facts)
    assert "the line: quota 500 thousand" in ax.get_xlabel()
    with pytest.raises(MissingColumnError, match="crps_share"):
        plotting.plot_compare(table.drop(columns="crps_share"))


def test_plot_compare__names_methods_without_anything_to_go_by(young: pd.DataFrame) -> None:
    """Nobody saw what the days a year ago brought."""
    table = young.opp.compare(horizon_days=30)
    ax = plotting.plot_compare(table)
    said = dict(zip(table.index, (text.get_text() for text in ax.child_axes[0].get_yticklabels()), strict=True))
    assert said["last_year"] == "nothing to go by"
    assert "last year" not in ax.alt_text


def test_plot_track_record__shows_what_came_inside_and_outside(frame: pd.DataFrame) -> None:
    """A line per window; points and crosses are counted, and their share is the coverage of the record."""
    found = frame.opp.predict(horizon_days=30)
    ax = plotting.plot_track_record(found)
    intervals = np.array([segment[:, 1] for segment in ax.collections[0].get_segments()])
    assert intervals == pytest.approx(found.windows[["low_80", "high_80"]].to_numpy())
    outside = next(line for line in ax.lines if line.get_marker() == "X")
    assert to_hex(outside.get_color()) == VERMILION.lower()
    share = 1 - len(outside.get_xdata()) / len(found.windows)
    assert share == pytest.approx(found.record["coverage_80"].iloc[0])
    assert f"actual, outside: {len(outside.get_xdata())}" in words_of(ax)
    assert found.tested in ax.alt_text


def test_plot_mix_weights__layers_are_the_weights(frame: pd.DataFrame) -> None:
    """They add up to all; the legend says how much each row counts now."""
    found = frame.opp.predict(horizon_days=30)
    ax = plotting.plot_mix_weights(found)
    assert found.weights.sum(axis=1).to_numpy() == pytest.approx(1)
    share = found.weights["hazards"].iloc[-1]
    assert f"hazards, now {share:.0%}".replace("%", " %") in words_of(ax)
    assert f"hazards {share:.0%}" in ax.alt_text


@pytest.mark.parametrize("name", PREDICTED)
def test_plots_of_a_prediction__say_when_there_is_nothing(name: str, frame: pd.DataFrame) -> None:
    """A week after the first deal: no window, no win, and words in place of bare axes."""
    early = frame_of(generate(World(days=20, recorded_from=19), 0))
    ax = getattr(early.opp.plot, name)(horizon_days=30)
    ax.figure.canvas.draw()
    assert ax.texts or ax.patches or ax.collections
    assert ax.alt_text
    with pytest.raises(ConfigurationError, match="what predict"):
        getattr(plotting, f"plot_{name}")(frame)


def test_plot_win_model__draws_deals_that_it_had_not_seen(frame: pd.DataFrame) -> None:
    """Every closed deal is in one bin; scores are those of the evaluation; anything else is refused."""
    model = frame.opp.fit_win_model()
    assert model.reliability["deals"].sum() <= model.evaluation["n"].iloc[0]
    assert model.reliability["forecasts"].sum() == model.evaluation["n"].iloc[0]
    ax = plotting.plot_win_model(model)
    points = ax.lines[1].get_xydata()
    assert points == pytest.approx(model.reliability[["p_mean", "won_share"]].to_numpy() * 100)
    assert f"Brier score {model.evaluation['brier'].iloc[0]:.3f}" in words_of(ax)
    assert f"Brier score {model.evaluation['brier'].iloc[0]:.3f}" in ax.alt_text
    with pytest.raises(ConfigurationError, match="fit_win_model"):
        plotting.plot_win_model(frame)
