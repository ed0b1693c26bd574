"""Plots: artists, labels and returned Axes, not pixels."""

from __future__ import annotations

import re
import threading
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from opp_pandas import plotting
from opp_pandas.errors import ConfigurationError, FrameError, MissingColumnError
from opp_pandas.figures import (
    ageing,
    category_forecast,
    concentration,
    forecast,
    funnel,
    hygiene,
    kpis,
    linearity,
    pacing,
    rollup,
    scale,
    scenario,
    stage_distribution,
    undated,
    win_rates,
)
from opp_pandas.figures.core.figure import PLOTS as REGISTERED
from opp_pandas.forecasting import Bookings, bookings, compare, predict
from opp_pandas.plotting import canvas
from opp_pandas.stages import StageMap, resolve_stages
from portfolios import LEAD, OFFER, WON, context, portfolio, random_portfolio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOSTILE = pd.DataFrame(
    {
        "id": [7, 8, 9, 10],
        "name": ["$x_1$ & <b>", "_under", "A very long name that goes on and on and on", "bell\x07\n"],
    }
)
FRAME = random_portfolio(21, 300)
EMPTY = FRAME.iloc[:0]


def predicted(frame: pd.DataFrame, figure: Any) -> Any:
    """What a figure that learns says; of no deals there is nothing to learn, so of the first few."""
    return figure(frame if len(frame) else FRAME.iloc[:1], context=context(), horizon_days=90)


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
    ("pacing", plotting.plot_pacing, lambda f: pacing(f, context=context(), quota=1e6)),
    ("hygiene", plotting.plot_hygiene, lambda f: hygiene(f, context=context())),
    (
        "scenario",
        plotting.plot_scenario,
        lambda f: scenario(f, context=context(), scenarios={"$less_$": scale(amount=0.5)}),
    ),
    ("predict", plotting.plot_predict, lambda f: predicted(f, predict)),
    ("compare", plotting.plot_compare, lambda f: predicted(f, compare)),
    ("track record", plotting.plot_track_record, lambda f: predicted(f, predict)),
    ("mix weights", plotting.plot_mix_weights, lambda f: predicted(f, predict)),
]
NAMES = [name for name, _, _ in PLOTS]
LEARNED = {"predict", "compare", "track record", "mix weights"}


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
    """No bare axes: words, or stages with empty bars; what learns from closed deals says that there are none."""
    if name in LEARNED:
        with pytest.raises(FrameError, match="nothing can be learned"):
            figure(EMPTY)
        return
    ax = plot(figure(EMPTY))
    ax.figure.canvas.draw()
    assert ax.texts or ax.patches or ax.collections
    if not ax.axison:
        assert ax.alt_text.endswith(f". There is nothing to show: {ax.texts[0].get_text()}.")


@pytest.mark.parametrize(("name", "plot", "figure"), PLOTS, ids=NAMES)
def test_plots__text_from_the_data_is_never_mathematics(name: str, plot: Any, figure: Any) -> None:
    """Dollar signs stay dollar signs; control characters are escaped; an underscore drops no name."""
    for text in drawn_texts(plot(figure(FRAME))):
        if "$" in text.get_text():
            assert not text.get_parse_math()
        assert "\x07" not in text.get_text()


def boxes_of(texts: list[Any]) -> list[Any]:
    return [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]


def test_plot_coverage__a_quota_nearly_reached_does_not_flatten_the_others() -> None:
    """Coverage of 500 is cut at four targets and marked with its number; without a target nothing is cut."""
    table = pd.DataFrame({"quota": [1.0] * 4, "coverage": [500.0, 2.9, 1.0, np.inf]}, index=list("abcd"))
    ax = plotting.plot_coverage(table)
    assert [bar.get_width() for bar in ax.patches] == [12, 2.9, 1, 0]
    assert [text.get_text() for text in ax.texts] == ["▸ 500.00", "2.90", "1.00", "reached"]
    assert "cut at 12" in ax.get_xlabel()
    whole = plotting.plot_coverage(table, target=None)
    assert whole.patches[0].get_width() == 500
    assert whole.get_xlabel() == "coverage [ratio]"


def test_plots__negative_sums_hang_below_the_line() -> None:
    """Credits stand where they belong: no part of a stack is left out, none eats into another."""
    rows = [
        {"amount": 100, "probability": 50, "stage_id": LEAD},
        {"amount": -60, "stage_id": WON},
        {"amount": -40, "probability": 50, "stage_id": OFFER},
    ]
    frame = portfolio([{**row, "close_date": "2026-08-01"} for row in rows])
    ax = plotting.plot_forecast(forecast(frame, context=context()))
    assert [(bar.get_y(), bar.get_height()) for bar in ax.patches] == [(0, -60), (0, 30), (30, 30)]
    ax = plotting.plot_forecast(forecast(frame[frame["amount"] < 0], context=context()))
    assert [(bar.get_y(), bar.get_height()) for bar in ax.patches] == [(0, -60), (-60, -20), (-80, -20)]
    ax = plotting.plot_category_forecast(category_forecast(frame, context=context()))
    assert [(bar.get_y(), bar.get_height()) for bar in ax.patches if bar.get_height()] == [(0, -60), (0, 60)]


def test_plot_linearity__weeks_that_took_back_what_was_won_are_in_the_picture() -> None:
    """The axis reaches as far as the line does."""
    days = {"2026-04-02": -300, "2026-04-20": 900, "2026-05-20": -100, "2026-06-10": -200}
    frame = portfolio([{"amount": amount, "stage_id": WON, "close_date": day} for day, amount in days.items()])
    ax = plotting.plot_linearity(linearity(frame, context=context()))
    line = ax.get_lines()[0].get_ydata()
    assert ax.get_ylim()[0] < min(line) == -100
    assert ax.get_ylim()[1] > max(line) == 200


def test_plot_coverage__without_a_quota_says_what_to_pass() -> None:
    """Coverage is of a quota, so the error names the argument."""
    with pytest.raises(MissingColumnError, match=r"'quota', 'coverage'. They come with quota=."):
        plotting.plot_coverage(kpis(FRAME, context=context()))


def test_plot_coverage__of_a_negative_pipeline_has_its_number() -> None:
    """No row stands without a number."""
    frame = portfolio([{"amount": -50, "probability": 50, "stage_id": LEAD, "close_date": "2026-06-25"}])
    ax = plotting.plot_coverage(kpis(frame, context=context(), quota=100))
    assert [(text.get_text(), text.xy) for text in ax.texts] == [("-0.50", (0, 0))]


def test_plot_rollup__names_in_capitals_end_before_the_bars() -> None:
    """Wide letters need more room than narrow ones."""
    users = pd.DataFrame({"id": [7, 8], "name": ["WILHELMINA MOMMSEN WOMBWELL", "ANN"]})
    table = rollup(FRAME, context=context(users=users), tree={8: 7})
    ax = plotting.plot_rollup(table)
    ax.figure.canvas.draw()
    assert max(text.get_window_extent().x1 for text in ax.get_yticklabels()) < ax.get_window_extent().x0


def test_plot_ageing__stages_stand_in_the_pipelines_order() -> None:
    """Chosen by their deals, listed as a deal passes them."""
    rows = [{"amount": 10, "stage_id": stage, "created_at": "2026-01-01T00:00Z"} for stage in (2, 2, 2, 1)]
    ax = plotting.plot_ageing(ageing(portfolio(rows), context=context()))
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["Lead", "Offer"]


def test_plots__without_amounts_begin_at_zero() -> None:
    """No axis shows amounts that cannot be."""
    ax = plotting.plot_stage_distribution(stage_distribution(EMPTY, context=context()))
    assert (ax.get_xlim()[0], list(ax.get_xticks())) == (0, [0])
    nothing = FRAME.assign(amount=pd.array([pd.NA] * len(FRAME), dtype="Int64"))
    ax = plotting.plot_category_forecast(category_forecast(nothing, context=context()), quota=1e6)
    assert ax.get_ylim()[0] == 0
    for ax in (
        plotting.plot_forecast(forecast(nothing, context=context(), by="owner_id")),
        plotting.plot_rollup(rollup(nothing, context=context(), by="owner_id")),
    ):
        ax.figure.canvas.draw()
        axis = ax.yaxis if "amount" in ax.get_ylabel() else ax.xaxis
        assert [label.get_text() for label in axis.get_ticklabels()] == ["0"]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda f: scenario(f, context=context(), scenarios={"half": scale(amount=0.5)}), "every forecast amount is 0"),
        (lambda f: category_forecast(f, context=context()), "every amount is 0"),
        (lambda f: bookings(f, context=context()), "nothing is expected to be won"),
    ],
)
def test_plots__of_deals_without_amounts_say_why_they_are_empty(draw: Any, words: str) -> None:
    """There are open deals: the picture does not say that there are none."""
    nothing = FRAME.assign(amount=pd.array([pd.NA] * len(FRAME), dtype="Int64"))
    assert plotting.alt_text(draw(nothing)).endswith(f"There is nothing to show: {words}.")


def test_plot_funnel__of_many_stages_keeps_what_was_won() -> None:
    """A funnel falls, so the last step would be the first to go; it is what the plot is for."""
    names = [f"Stage {number}" for number in range(40)]
    stages = resolve_stages(StageMap(order=[*names, "Won"], won=["Won"]))
    frame = pd.DataFrame({"id": [1, 2], "amount": [1, 2], "stage_name": ["Won", "Stage 39"]})
    entries = frame.assign(entered_at=pd.Timestamp("2026-01-01", tz="UTC"))
    ax = plotting.plot_funnel(funnel(frame, context=context(stages=stages), history=entries))
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert (shown[0], shown[-1], len(shown)) == ("Stage 0", "Won", 25)
    assert "24 busiest and the last of 41 stages" in ax.get_title(loc="left").replace("\n", " ")


def test_plots__take_letters_from_further_fonts_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in Chinese is no row of boxes where a font has its letters; a font that is not there is not looked for."""
    monkeypatch.setattr(canvas, "WIDE_FONTS", ("No such font", "STIXGeneral"))
    canvas.further_fonts.cache_clear()
    ax = plotting.plot_forecast(forecast(FRAME, context=context(), by="owner_name"))
    canvas.further_fonts.cache_clear()
    legend = ax.get_legend()
    assert legend is not None
    for text in (*legend.get_texts(), *ax.get_xticklabels(), ax.title):
        assert text.get_fontfamily() == [*mpl.rcParams["font.family"], "STIXGeneral"]


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


@pytest.mark.parametrize("by", [None, "owner_name"])
def test_plot_forecast__highest_column_is_clear_of_the_edge(by: str | None) -> None:
    """Nothing open in the best period leaves bars of height 0 on its top; the mark there is drawn whole."""
    rows = [
        {"amount": 900, "stage_id": WON, "owner_id": 7, "close_date": "2026-02-20T12:00Z"},
        {"amount": 100, "stage_id": LEAD, "owner_id": 8, "close_date": "2026-08-20T12:00Z"},
    ]
    frame = portfolio([{**row, "probability": 50} for row in rows])
    ax = plotting.plot_forecast(forecast(frame, context=context(), by=by))
    highest = max(patch.get_y() + patch.get_height() for patch in ax.patches)
    assert ax.get_ylim()[1] >= 1.04 * highest


def test_plot_forecast__quarters_beside_long_names_stand_apart() -> None:
    """A wide legend leaves the columns less room: their names turn then."""
    users = pd.DataFrame({"id": range(7, 11), "name": [f"{key} GIOVANNA HOHENZOLLERN-SIGM" for key in range(7, 11)]})
    ax = plotting.plot_forecast(forecast(FRAME, context=context(users=users), by="owner_name"))
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    turned = ax.get_xticklabels()[0].get_rotation() == 45
    assert turned or all(one.x1 + 2 < other.x0 for one, other in pairwise(boxes))


def test_title__beside_long_names_wraps_within_the_figure() -> None:
    """Names of groups take room from the axes; the title is whole all the same."""
    names = [f"A seller with a long name {key:03}" for key in range(40)]
    users = pd.DataFrame({"id": range(40), "name": names})
    frame = random_portfolio(22, 900).assign(owner_id=pd.array(np.arange(900) % 40, dtype="Int64"))
    ax = plotting.plot_win_rates(win_rates(frame, context=context(users=users), by="owner_name"))
    ax.figure.canvas.draw()
    title = ax._left_title
    assert title.get_text().endswith("2026-06-15")
    assert title.get_window_extent().x1 <= ax.figure.bbox.x1


def words_in(ax: Any) -> list[tuple[str, Any]]:
    """Every text that stands straight, with its box; ticks beyond the limits are not drawn."""
    ax.figure.canvas.draw()
    ticks = [
        label
        for axis in (ax.xaxis, ax.yaxis)
        for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        if min(axis.get_view_interval()) <= place <= max(axis.get_view_interval())
    ]
    legend = ax.get_legend()
    texts = [*ticks, *ax.texts, ax._left_title, ax.xaxis.label, ax.yaxis.label]
    texts += [] if legend is None else legend.get_texts()
    return [
        (text.get_text(), text.get_window_extent())
        for text in texts
        if text.get_text() and text.get_visible() and text.get_rotation() in (0, 90)
    ]


MANY: dict[str, Callable[[pd.DataFrame, Any], Any]] = {
    "forecast": lambda f, c: plotting.plot_forecast(forecast(f, context=c, by="owner_name", freq="M", quota=1e6)),
    "win rates": lambda f, c: plotting.plot_win_rates(win_rates(f, context=c, by="owner_name")),
    "coverage": lambda f, c: plotting.plot_coverage(kpis(f, context=c, by="owner_name", quota=1e6)),
    "rollup": lambda f, c: plotting.plot_rollup(rollup(f, context=c, tree={key: key // 4 for key in range(1, 80)})),
    "concentration": lambda f, c: plotting.plot_concentration(concentration(f, context=c, by="owner_name")),
    "scenario": lambda f, c: plotting.plot_scenario(
        scenario(f, context=c, scenarios={"half": scale(amount=0.5)}, by="owner_name")
    ),
}


@pytest.mark.parametrize("n", [8, 80])
@pytest.mark.parametrize("name", MANY)
def test_plots__no_word_is_cut_off_or_stands_on_another(name: str, n: int) -> None:
    """Long names, few or many of them: all words lie inside the picture, and beside each other."""
    rng = np.random.default_rng(n)
    frame = random_portfolio(22, 900, odd=False).assign(owner_id=pd.array(rng.integers(0, n, 900), dtype="Int64"))
    users = pd.DataFrame({"id": range(n), "name": [f"{key} Giovanna Hohenzollern-Sigmaringen" for key in range(n)]})
    ax = MANY[name](frame, context(users=users))
    words = words_in(ax)
    picture = ax.figure.bbox.padded(1)
    assert len(words) > n / 10
    assert [text for text, box in words if not picture.containsx(box.x0) or not picture.containsx(box.x1)] == []
    assert [text for text, box in words if not picture.containsy(box.y0) or not picture.containsy(box.y1)] == []
    assert [(one[0], two[0]) for one, two in combinations(words, 2) if one[1].overlaps(two[1])] == []


def test_plot_stages__eighty_stages_are_cut_to_the_largest_and_said() -> None:
    """Thirty bars, and the title tells."""
    names = [f"Stage {number}" for number in range(80)]
    rows = [{"amount": place, "stage_id": None, "stage_name": name} for place, name in enumerate(names)]
    stages = resolve_stages(StageMap(order=names))
    ax = plotting.plot_stage_distribution(stage_distribution(portfolio(rows), context=context(stages=stages)))
    assert len(ax.get_yticklabels()) == 30
    assert "30 largest of 80" in ax.get_title(loc="left")
    labels = boxes_of(ax.get_yticklabels())
    ax.figure.canvas.draw()
    assert not any(one.overlaps(two) for one, two in pairwise(labels))


def test_plot_ageing__large_amounts_have_no_exponents() -> None:
    """Ten billion is written as a million is."""
    rows = [{"amount": 10**power, "stage_id": LEAD, "created_at": "2026-01-01"} for power in (6, 12)]
    ax = plotting.plot_ageing(ageing(portfolio(rows), context=context()))
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert "1,000,000,000,000" in labels
    assert not any("e" in label for label in labels)


def test_plot_ageing__amounts_of_one_size_can_be_read() -> None:
    """Between 20,000 and 90,000 lies no power of ten: other ticks have numbers."""
    rows = [{"amount": amount, "stage_id": LEAD, "created_at": "2026-01-01"} for amount in (20_000, 90_000, 0)]
    ax = plotting.plot_ageing(ageing(portfolio(rows), context=context()))
    assert {"20,000", "50,000"} <= {text for text, _ in words_in(ax)}
    assert "1 without age or positive amount not drawn" in ax.alt_text


def test_plot_undated__one_bar_is_a_bar() -> None:
    """It does not fill the picture, and its words count in the deals' currency."""
    rows = [{"amount": 90, "stage_id": LEAD, "close_date": None, "owner_id": 7, "currency_type": "EUR"}]
    ax: Any = plotting.draw(REGISTERED["undated"], undated(portfolio(rows), context=context()))
    ax.figure.canvas.draw()
    assert "1 deal worth 90 EUR" in ax.alt_text
    assert ax.patches[0].get_window_extent().height < ax.bbox.height / 4


def test_plot_ageing__colours_stages_in_their_order_whichever_deals_are_drawn() -> None:
    """The legend follows the pipeline; a stage keeps its colour when the others are filtered out."""
    whole = plotting.plot_ageing(ageing(FRAME, context=context()))
    labels = [text.get_text() for text in whole.get_legend().get_texts()]
    assert labels[:2] == ["Lead", "Offer"]
    own = plotting.plot_ageing(ageing(FRAME[FRAME["stage_id"] == OFFER], context=context()))
    legend = own.get_legend()
    assert legend.get_texts()[0].get_text() == "Offer"
    assert legend.legend_handles[0].get_color() == whole.get_legend().legend_handles[1].get_color()


def test_plot_funnel__without_history_is_titled_stage_distribution_and_says_why() -> None:
    """The picture says what it is, and what it would need, to those who see it and to those who hear it."""
    ax = plotting.plot_funnel(funnel(FRAME, context=context()))
    assert ax.get_title(loc="left").startswith("Stage distribution")
    assert "known from a history only" in " ".join(ax.get_xlabel().split())
    assert ax.alt_text.endswith("known from a history only.")


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


def test_plot_forecast__has_whiskers_for_the_periods_that_are_given() -> None:
    """They reach from low to high, and the words tell them."""
    table = forecast(FRAME, context=context())
    period = table.index[3]
    low, high = bookings(FRAME, context=context(), period=period).interval(0.8)
    spread = pd.DataFrame({"low": [low], "high": [high]}, index=pd.Index([period]))
    ax = plotting.plot_forecast(table, interval=spread, note="independent deals: too narrow")
    (ends,) = ax.containers[-1].lines[2][0].get_segments()
    np.testing.assert_allclose(ends, [[3, low], [3, high]])
    assert ax.get_xlabel() == "independent deals: too narrow"
    assert f"Interval: {period} {low:,.0f} USD to {high:,.0f} USD (independent deals: too narrow)." in ax.alt_text
    with pytest.raises(MissingColumnError, match="low"):
        plotting.plot_forecast(table, interval=spread[["high"]])


@pytest.mark.parametrize("share", [0.1, 0.9, 3.0])
def test_forecast__interval_ends_where_it_ends(share: float) -> None:
    """Also where it is that of a prediction, and the sellers' forecast lies above or below all of it."""
    table = forecast(FRAME, context=context(), freq="Q")
    period = table["forecast_amount"].idxmax()
    middle = share * table.loc[period, "forecast_amount"]
    spread = pd.DataFrame({"low": [0.8 * middle], "high": [1.2 * middle]}, index=pd.Index([period]))
    ax = plotting.plot_forecast(table, interval=spread)
    (ends,) = ax.containers[-1].lines[2][0].get_segments()
    np.testing.assert_allclose(ends[:, 1], [0.8 * middle, 1.2 * middle])


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


def test_plot__speaks_of_the_day_in_the_zone_of_the_figure() -> None:
    """Title and words name the day that was asked for, not that of its end in UTC."""
    table = forecast(FRAME, context=context(as_of="2026-06-15T03:59:59Z", timezone="America/New_York"))
    ax = plotting.plot_forecast(table)
    for words in (ax.get_title(loc="left"), plotting.alt_text(ax)):
        assert "as of 2026-06-14" in words


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
    assert "no deals were closed" in plotting.alt_text(kpis(none, context=context()))


@pytest.mark.parametrize(("name", "plot", "figure"), PLOTS, ids=NAMES)
def test_alt_text__stands_on_the_axes_of_every_plot(name: str, plot: Any, figure: Any) -> None:
    """The picture's title and its numbers, in printable words; an empty picture says so."""
    ax = plot(figure(FRAME))
    words = ax.alt_text
    assert plotting.alt_text(ax) == words
    title = ax.get_title(loc="left").replace("\n", " ")
    assert words.startswith(title)
    said = words.removeprefix(title)
    assert re.search(r"[1-9]", said)
    assert len(words) < 900
    assert words.isprintable()
    if name in ("forecast", "grouped", "categories", "win rates", "ageing", "linearity", "hygiene", "concentration"):
        assert "nothing to show" in plot(figure(EMPTY)).alt_text


def test_alt_text__is_of_what_was_drawn() -> None:
    """The measure and the quota that were asked for; Axes of others are refused."""
    counted = plotting.plot_forecast(forecast(FRAME, context=context(), by="owner_name"), measure="won_amount")
    won = forecast(FRAME, context=context())["won_amount"].sum()
    assert f"Won amount {won:,.0f} USD in all" in plotting.alt_text(counted)
    few = Bookings(np.array([10.0, 20.0]), np.array([0.5, 0.5]))
    assert "Quota 20: 50 % chance" in plotting.alt_text(plotting.plot_bookings(few, quota=20.0))
    with pytest.raises(ConfigurationError, match="not drawn"):
        plotting.alt_text(plt.subplots()[1])


def contrast(one: Any, two: Any) -> float:
    """The contrast of two colours after WCAG 2."""

    def luminance(colour: Any) -> float:
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted([luminance(one), luminance(two)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("name", "plot", "figure"), PLOTS, ids=NAMES)
def test_plots__words_can_be_read_on_both_grounds(name: str, plot: Any, figure: Any, theme: Any) -> None:
    """Every text stands out 4.5 to 1, also on the caller's own dark figure; nothing of it outlives the block."""
    before = dict(mpl.rcParams)
    with plotting.style(theme):
        ax = plot(figure(FRAME))
    assert dict(mpl.rcParams) == before
    ground = ax.figure.get_facecolor()
    for text in [*drawn_texts(ax), ax.xaxis.label, ax.yaxis.label]:
        if text.get_text():
            assert contrast(text.get_color(), ground) >= 4.5, text
    with pytest.raises(ConfigurationError, match="theme"), plotting.style("blue"):  # type: ignore[arg-type]
        pass


def test_style__gives_colours_to_what_people_draw_themselves() -> None:
    """Inside the block lines are Okabe-Ito and images cividis; outside as before."""
    before = dict(mpl.rcParams)
    with plotting.style("light"):
        lines = plt.subplots()[1].plot([[1, 2], [3, 4]])
        image = plt.subplots()[1].imshow([[1, 2]])
    assert [line.get_color() for line in lines] == ["#0072B2", "#E69F00"]
    assert image.get_cmap().name == "cividis"
    assert dict(mpl.rcParams) == before


def test_style__of_two_threads_leaves_the_settings() -> None:
    """A widget that is answered beside a cell draws after it: else each would put back what the other had set."""
    before = dict(mpl.rcParams)
    inside, go = threading.Event(), threading.Event()

    def draw() -> None:
        with plotting.style("light"):
            inside.set()
            assert go.wait(60)

    other = threading.Thread(target=draw)
    with plotting.style("dark"):
        other.start()
        assert not inside.wait(0.2)
    go.set()
    other.join(60)
    assert inside.is_set()
    assert dict(mpl.rcParams) == before


def test_plot_pacing__stands_on_the_table() -> None:
    """Bars are what was won by the day and after it; the diamond is the landing, the line the quota."""
    table = pacing(FRAME, context=context(), quota=2e6)
    ax = plotting.plot_pacing(table)
    heights = np.array([patch.get_height() for patch in ax.patches]).reshape(2, len(table))
    np.testing.assert_allclose(heights[0], table["won_to_date"])
    np.testing.assert_allclose(heights.sum(axis=0), table["won_amount"])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["quota", "landing at the usual share", "won later, or dated later", "won by that day"]
    landing = table.attrs["opp_basis"]["landing"]
    assert ax.lines[0].get_ydata()[0] == landing
    assert f"lands at {landing:,.0f} USD" in plotting.alt_text(ax)
    assert ax.get_xlabel() == "above: share won by that day"
    assert plotting.plot_pacing(pacing(EMPTY, context=context(), quota=2e6)).get_xlabel() == ""


def test_plot_pacing__words_fit_into_a_low_picture() -> None:
    """The axis is named in full, in a figure as low as those of slides."""
    _, ax = plt.subplots(figsize=(10, 3), layout="constrained")
    plotting.plot_pacing(pacing(FRAME, context=context(), quota=1e6), ax)
    picture = ax.figure.bbox
    for _, box in words_in(ax):
        assert box.y0 >= picture.y0
        assert box.y1 <= picture.y1


def test_plot_scenario__puts_few_side_by_side_and_many_below_each_other() -> None:
    """Two scenarios: a bar each in every period. Thirty: their totals, and the title says how many are left out."""
    table = scenario(FRAME, context=context(), scenarios={"half": scale(amount=0.5)}, by="owner_name")
    ax = plotting.plot_scenario(table)
    total = sum(patch.get_height() for patch in ax.patches)
    assert total == pytest.approx(table["forecast_amount"].sum())
    many = {f"plan {place}": scale(amount=1 + place / 10) for place in range(30)}
    ax = plotting.plot_scenario(scenario(FRAME, context=context(), scenarios=many))
    assert len(ax.patches) == 25
    assert "25 of 31" in ax.get_title(loc="left")
    ax.figure.canvas.draw()
    assert not any(one.overlaps(two) for one, two in pairwise(boxes_of(ax.get_yticklabels())))


def test_plot_hygiene__counts_deals_by_check() -> None:
    """A bar per check that found something, most first."""
    table = hygiene(FRAME, context=context())
    ax = plotting.plot_hygiene(table)
    widths = [patch.get_width() for patch in ax.patches]
    assert widths == sorted((n for n in table.attrs["opp_basis"]["counts"].values() if n), reverse=True)
    assert f"Deals to look at: {table['id'].nunique()}" in ax.get_title(loc="left")
    clean = portfolio([{"id": 1, "amount": 5, "probability": 20, "stage_id": LEAD, "close_date": "2026-12-01"}])
    assert "every check passed" in plotting.alt_text(plotting.plot_hygiene(hygiene(clean, context=context())))


def test_plot_hygiene__of_a_file_counts_rows_and_adds_no_currencies() -> None:
    """Deals without an id yet are deals; dollars and euros have no sum."""
    rows = [{"id": None, "amount": 10, "stage_id": LEAD, "currency_type": code} for code in ("USD", "EUR")]
    frame = portfolio(rows).assign(id=pd.array([pd.NA, pd.NA], dtype="Int64"))
    ax = plotting.plot_hygiene(hygiene(frame, context=context(), checks=["no_close_date"]))
    assert ax.get_title(loc="left").startswith("Deals to look at: 2")
    assert (ax.get_xlabel(), [text.get_text() for text in ax.texts]) == ("deals", [])
    dollars = plotting.plot_hygiene(hygiene(frame.iloc[:1], context=context(), checks=["no_close_date"]))
    assert dollars.get_xlabel() == "deals (at the bars: their amounts, USD)"
    assert [text.get_text() for text in dollars.texts] == ["worth 10"]


@pytest.mark.parametrize(
    "first",
    ["{}", "with opp.plotting.style('dark'):\n    {}", "df.opp.dashboard(**now)"],
    ids=["plot", "style", "dashboard"],
)
def test_notebook__shows_plots_after_the_first_drawing(first: str) -> None:
    """What draws first in a kernel loads matplotlib's backend, and leaves it showing what is drawn later."""
    import nbformat
    from nbclient import NotebookClient

    plot = "df.opp.plot.stage_distribution(**now);"
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell(text)
        for text in (
            "import opp_pandas as opp, opp_pandas.plotting, pandas as pd",
            "now = {'as_of': '2026-10-20', 'stages': opp.StageMap(['Lead'])}",
            "df = pd.DataFrame({'amount': [5], 'stage_name': ['Lead'], 'probability': [50]})",
            "df['close_date'] = pd.Timestamp('2026-12-01', tz='UTC')",
            first.format(plot),
            plot,
        )
    ]
    NotebookClient(notebook, kernel_name="python3").execute()
    shown = [["image/png" in output.data for output in cell.outputs] for cell in notebook.cells[-2:]]
    assert shown[1] == [True]
    assert first != "{}" or shown[0] == [True]


NEW_UNDER_PLOT: list[tuple[str, dict[str, Any]]] = [
    ("pacing", {"quota": 5e6, "compare": 2}),
    ("scenario", {"scenarios": {"less": scale(amount=0.5)}, "measure": "weighted_amount"}),
    ("hygiene", {"stale_days": 5}),
    ("rollup", {"measure": "open_amount", "max_rows": 2}),
    ("coverage", {"by": "owner_name", "quota": 1e6, "target": 2.0}),
]


@pytest.mark.parametrize(("name", "options"), NEW_UNDER_PLOT, ids=[name for name, _ in NEW_UNDER_PLOT])
def test_plot_accessor__hands_each_option_to_whom_it_belongs(name: str, options: dict[str, Any]) -> None:
    """Options of the figure and of the drawing are given together; one that both know goes to both."""
    _, mine = plt.subplots()
    around = context()
    own = getattr(FRAME.opp.plot, name)(ax=mine, as_of=around.as_of, stages=around.stages, timezone="UTC", **options)
    assert own is mine
    words = own.alt_text
    if name == "rollup":
        table = rollup(FRAME, context=context(users=None), measure="open_amount").iloc[:2]
        assert [bar.get_width() for bar in own.patches] == table["open_amount"].tolist()
        assert "open amount" in own.get_xlabel()
    elif name == "scenario":
        assert words.split(". ")[1].startswith("Weighted amount")
    elif name == "coverage":
        assert "target of 2" in words
    elif name == "pacing":
        assert "Quota 5,000,000" in words
    with pytest.raises(TypeError, match="nonsense"):
        getattr(FRAME.opp.plot, name)(as_of=around.as_of, stages=around.stages, nonsense=1, **options)
