"""Plots: artists, labels and returned Axes, not pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from opp_pandas import plotting
from opp_pandas.analytics import (
    Bookings,
    ageing,
    bookings,
    category_forecast,
    concentration,
    forecast,
    funnel,
    kpis,
    linearity,
    rollup,
    stage_distribution,
    win_rates,
)
from opp_pandas.errors import ConfigurationError, MissingColumnError
from portfolios import LEAD, context, portfolio, random_portfolio

HOSTILE = pd.DataFrame(
    {
        "id": [7, 8, 9, 10],
        "name": ["$x_1$ & <b>", "_under", "A very long name that goes on and on and on", "bell\x07\n"],
    }
)
FRAME = random_portfolio(21, 300)
EMPTY = FRAME.iloc[:0]
PLOTS: list[tuple[str, Callable[..., Any], Callable[[pd.DataFrame], Any]]] = [
    ("forecast", plotting.plot_forecast, lambda f: forecast(f, context=context(users=HOSTILE), quota=1e6)),
    (
        "grouped",
        plotting.plot_forecast,
        lambda f: forecast(f, context=context(users=HOSTILE), by="owner_name", quota=1e6),
    ),
    ("categories", plotting.plot_category_forecast, lambda f: category_forecast(f, context=context(), freq="M")),
    ("stages", plotting.plot_stage_distribution, lambda f: stage_distribution(f, context=context())),
    ("funnel", plotting.plot_funnel, lambda f: funnel(f, context=context())),
    ("win rates", plotting.plot_win_rates, lambda f: win_rates(f, context=context(users=HOSTILE), by="owner_name")),
    ("coverage", plotting.plot_coverage, lambda f: kpis(f, context=context(users=HOSTILE), by="owner_name", quota=1e6)),
    (
        "rollup",
        plotting.plot_rollup,
        lambda f: rollup(f, context=context(users=HOSTILE), tree={7: 8}, adjustments={7: 5}),
    ),
    ("concentration", plotting.plot_concentration, lambda f: concentration(f, context=context(), by="account_name")),
    ("bookings", plotting.plot_bookings, lambda f: bookings(f, context=context())),
    ("ageing", plotting.plot_ageing, lambda f: ageing(f, context=context())),
    ("linearity", plotting.plot_linearity, lambda f: linearity(f, context=context())),
]
NAMES = [name for name, _, _ in PLOTS]


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


def drawn_texts(ax: Any) -> list[Any]:
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    texts = [*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts, ax.title, ax._left_title]
    return texts + ([] if legend is None else legend.get_texts())


@pytest.mark.parametrize(("name", "plot", "figure"), PLOTS, ids=NAMES)
def test_plots__draw_on_the_axes_given_and_leave_the_style_alone(name: str, plot: Any, figure: Any) -> None:
    """The caller's Axes come back; rcParams are as before; nothing but warnings-free drawing."""
    before = dict(mpl.rcParams)
    _, mine = plt.subplots()
    assert plot(figure(FRAME), mine) is mine
    assert dict(mpl.rcParams) == before
    assert mine.get_title(loc="left")
    mine.figure.canvas.draw()
    fresh = plot(figure(FRAME))
    assert fresh is not mine


@pytest.mark.parametrize(("name", "plot", "figure"), PLOTS, ids=NAMES)
def test_plots__empty_tables_say_that_there_is_nothing(name: str, plot: Any, figure: Any) -> None:
    """No bare axes: words, or stages with empty bars."""
    ax = plot(figure(EMPTY))
    ax.figure.canvas.draw()
    assert ax.texts or ax.patches or ax.collections


@pytest.mark.parametrize(("name", "plot", "figure"), PLOTS, ids=NAMES)
def test_plots__text_from_the_data_is_never_mathematics(name: str, plot: Any, figure: Any) -> None:
    """Dollar signs stay dollar signs; control characters are escaped; an underscore drops no name."""
    for text in drawn_texts(plot(figure(FRAME))):
        if "$" in text.get_text():
            assert not text.get_parse_math()
        assert "\x07" not in text.get_text()


def boxes_of(texts: list[Any]) -> list[Any]:
    return [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("n", [8, 80])
def test_plot_forecast__legend_and_labels_do_not_overlap(n: int) -> None:
    """At 8 and at 80 groups: few legend entries, the rest added up, beside the bars, ticks apart."""
    rng = np.random.default_rng(n)
    frame = random_portfolio(22, 900, odd=False).assign(owner_id=pd.array(rng.integers(0, n, 900), dtype="Int64"))
    users = pd.DataFrame({"id": range(n), "name": [f"A seller with a longish name {key}" for key in range(n)]})
    ax = plotting.plot_forecast(forecast(frame, context=context(users=users), by="owner_name", freq="M"))
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    assert len(legend.get_texts()) <= 9
    if n == 80:
        assert "others" in "".join(text.get_text() for text in legend.get_texts())
    assert not legend.get_window_extent().overlaps(ax.patch.get_window_extent())
    entries = boxes_of(legend.get_texts())
    assert not any(one.overlaps(two) for one, two in pairwise(entries))
    ticks = ax.get_xticklabels()
    assert all(tick.get_rotation() == 45 for tick in ticks)
    total = sum(patch.get_height() for patch in ax.patches)
    expected = forecast(frame, context=context(), freq="M")["forecast_amount"].sum()
    assert total == pytest.approx(expected)


def test_plot_stages__eighty_stages_are_cut_to_the_largest_and_said() -> None:
    """Thirty bars, and the title tells."""
    from opp_pandas.stages import StageMap, resolve_stages

    names = [f"Stage {number}" for number in range(80)]
    rows = [{"amount": place, "stage_id": None, "stage_name": name} for place, name in enumerate(names)]
    stages = resolve_stages(StageMap(order=names))
    ax = plotting.plot_stage_distribution(stage_distribution(portfolio(rows), context=context(stages=stages)))
    assert len(ax.get_yticklabels()) == 30
    assert "30 largest of 80" in ax.get_title(loc="left")
    labels = boxes_of(ax.get_yticklabels())
    ax.figure.canvas.draw()
    assert not any(one.overlaps(two) for one, two in pairwise(labels))


def test_plot_funnel__without_history_is_titled_stage_distribution() -> None:
    """The picture says what it is."""
    ax = plotting.plot_funnel(funnel(FRAME, context=context()))
    assert ax.get_title(loc="left").startswith("Stage distribution")


def test_plot_forecast__bars_are_the_table() -> None:
    """Heights of the parts are won, weighted and the rest; the money axis names its unit."""
    table = forecast(FRAME, context=context(), quota=5e6)
    ax = plotting.plot_forecast(table)
    heights = np.array([patch.get_height() for patch in ax.patches]).reshape(3, len(table))
    np.testing.assert_allclose(heights[0], table["won_amount"])
    np.testing.assert_allclose(heights[1], table["weighted_amount"])
    np.testing.assert_allclose(heights.sum(axis=0), table["won_amount"] + table["open_amount"])
    assert ax.get_ylabel() == "amount [USD millions]"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["quota", "forecast", "open, the rest", "open, weighted", "won"]
    assert ax.get_xticklabels()[-1].get_text() == "no date"


def test_plot_bookings__few_amounts_are_lines_and_the_quota_has_its_chance() -> None:
    """A chance close to one is not called certain."""
    few = Bookings(np.array([10.0, 20.0]), np.array([0.5, 0.5]))
    ax = plotting.plot_bookings(few, quota=20.0)
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "quota: 50 % chance"
    many = bookings(FRAME, context=context())
    sure = plotting.plot_bookings(many, quota=many.quantile(0.001))
    assert [text.get_text() for text in sure.get_legend().get_texts()][-1] == "quota: over 99 % chance"


@pytest.mark.parametrize(
    ("draw", "error"),
    [
        (lambda: plotting.plot_forecast(FRAME), MissingColumnError),
        (lambda: plotting.plot_forecast([1]), ConfigurationError),
        (
            lambda: plotting.plot_forecast(forecast(FRAME, context=context(), by="owner_id"), max_groups=1),
            ConfigurationError,
        ),
        (lambda: plotting.plot_bookings(FRAME), ConfigurationError),
        (
            lambda: plotting.plot_stage_distribution(stage_distribution(FRAME, context=context(), by="owner_id")),
            ConfigurationError,
        ),
    ],
)
def test_plots__refuse_what_is_not_their_table(draw: Any, error: type[Exception]) -> None:
    """A frame of deals, a list, another figure."""
    with pytest.raises(error):
        draw()


def test_alt_text__tells_the_largest_and_the_total() -> None:
    """For each figure a sentence with its numbers; nothing to show is said."""
    table = forecast(FRAME, context=context())
    words = plotting.alt_text(table)
    assert f"{table['forecast_amount'].sum():,.0f} USD" in words
    assert "as of 2026-06-15" in words
    assert "Win rate" in plotting.alt_text(kpis(FRAME, context=context()))
    assert "quotas reached" in plotting.alt_text(kpis(FRAME, context=context(), by="owner_name", quota=1e6))
    assert "nothing to show" in plotting.alt_text(forecast(EMPTY, context=context()))
    none = portfolio([{"amount": 1, "stage_id": LEAD, "close_date": None}])
    assert "No deals were closed" in plotting.alt_text(kpis(none, context=context()))


def test_notebook__shows_every_plot() -> None:
    """The first plot of a kernel loads its backend; the second one shows as well."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell(text)
        for text in (
            "import opp_pandas as opp, pandas as pd\nstages = opp.StageMap(['Lead'])",
            "df = pd.DataFrame({'amount': [5], 'stage_name': ['Lead'], 'probability': [50]})",
            "df.opp.plot.stage_distribution(as_of='2026-10-20', stages=stages);",
            "df.opp.plot.stage_distribution(as_of='2026-10-20', stages=stages);",
        )
    ]
    NotebookClient(notebook, kernel_name="python3").execute()
    assert ["image/png" in cell.outputs[0].data for cell in notebook.cells[2:]] == [True, True]
