"""The dashboard: its model without a widget, its widgets without a browser, and all of it in a browser."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from histories import history_in_memory, load_of, moment
from opp_pandas.accessor import context_of
from opp_pandas.errors import ConfigurationError, MissingColumnError, MixedCurrencyError
from opp_pandas.figures import forecast, stage_distribution
from opp_pandas.forecasting import bookings, predict
from opp_pandas.notebook.dashboards import Dashboard, open_dashboard
from opp_pandas.notebook.selection import NO_DATE, Choice
from opp_pandas.plotting.canvas import write_short
from opp_pandas.plotting.descriptions import chance
from opp_pandas.stages import StageMap
from portfolios import context, random_portfolio

if TYPE_CHECKING:
    from pathlib import Path

    from browsing import OpenNotebook

FRAME = random_portfolio(5, 300)
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def dashboard() -> Dashboard:
    return open_dashboard(FRAME, context=context(), quota=2e6)


@pytest.fixture(autouse=True)
def _everything_again(dashboard: Dashboard) -> None:
    dashboard.choose()


def test_filters__drive_figures_and_pictures(dashboard: Dashboard) -> None:
    """Owner and stage leave only their deals in every picture, and the rows can be had."""
    whole = dashboard.headlines["Open"]
    dashboard.choose(owners="Ada Byron", stages=["Lead", "Offer"])
    own = FRAME[(FRAME["owner_id"] == 8) & FRAME["stage_id"].isin([1, 2])]
    pd.testing.assert_frame_equal(dashboard.frame.sort_index(), own, check_like=True)
    assert dashboard.headlines["Open"] != whole
    bars = [bar.get_width() for bar in dashboard.pictures["stages"].patches]
    expected = stage_distribution(own, context=context())["amount"].to_numpy()
    np.testing.assert_allclose(bars, expected)


def test_filters__by_widget_are_filters_by_name(dashboard: Dashboard) -> None:
    """What people do to a control and what a program says by name is one thing."""
    dashboard._period.value = "2026Q3"
    assert dashboard.choice == Choice(period="2026Q3")
    assert "Sellers' sum 2026Q3" in dashboard.headlines
    shown = repr(dashboard)
    dashboard.choose()
    dashboard.choose(period=pd.Period("2026Q3"))
    assert repr(dashboard) == shown
    dashboard.choose(period=NO_DATE)
    assert dashboard.frame["close_date"].isna().all()
    with pytest.raises(ConfigurationError, match="no deal has the owner 'Nobody'"):
        dashboard.choose(owners="Nobody")
    with pytest.raises(ConfigurationError, match="no deal is dated in '1999Q1'"):
        dashboard.choose(period="1999Q1")
    assert dashboard.choice.period == NO_DATE


def test_stages__stay_apart_when_there_are_eighty() -> None:
    """Each name stands on a line of its own."""
    names = [f"Stage number {place:02d}" for place in range(80)]
    frame = pd.DataFrame({"id": range(1, 161), "stage_name": names * 2, "amount": 1000, "probability": 50})
    frame["close_date"] = pd.Timestamp("2026-11-02", tz="UTC")
    frame["created_at"] = pd.Timestamp("2026-01-02", tz="UTC")
    given = context_of(frame, as_of="2026-10-20", stages=StageMap(order=names))
    axes = open_dashboard(frame, context=given).pictures["stages"]
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert len(boxes) == 30
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))


def test_headlines__are_the_figures(dashboard: Dashboard) -> None:
    """Forecast, interval and chance are those of `forecast` and `bookings`; the interval says that it is too narrow."""
    row = forecast(FRAME, context=context(), quota=2e6).loc[pd.Period("2026Q2")]
    result = bookings(FRAME, context=context(), period="2026Q2")
    low, high = result.interval(0.8)
    words = dashboard.headlines["Sellers' sum 2026Q2"]
    assert words.startswith(f"USD {row['forecast_amount'] / 1e3:,.0f} thousand")
    assert f"80% interval {low / 1e3:,.0f} thousand to {high / 1e3:,.0f} thousand" in words
    assert f"{row['attainment']:.0%} won" in dashboard.headlines["Quota 2026Q2"]
    axes = dashboard.pictures["forecast"]
    assert "independent deals: too narrow; the" in axes.get_xlabel()
    assert f"{low:,.0f} USD to {high:,.0f} USD" in axes.alt_text  # type: ignore[attr-defined]
    related = open_dashboard(FRAME, context=context(), rho=0.1)
    assert "too narrow" not in related.pictures["forecast"].get_xlabel()


def test_prediction__stands_first_and_its_parts_add_up(dashboard: Dashboard) -> None:
    """The prediction of all with its record; owners' parts add up to it but for new deals; another period has none."""
    found = predict(FRAME, context=context(), period="2026Q2")
    low, high = found.interval(0.8)
    assert next(iter(dashboard.headlines)) == "Predicted 2026Q2"
    assert dashboard.headlines["Predicted 2026Q2"] == (
        f"USD {write_short(found.mean)} (80% interval {write_short(low)} to {write_short(high)}; {found.tested})"
    )
    assert chance(found.p_at_least(2e6)).replace(" %", "%") in dashboard.headlines["Quota 2026Q2"]
    assert found.tested in dashboard.pictures["prediction"].alt_text  # type: ignore[attr-defined]
    parts = 0.0
    for owner in dashboard._board.owners:
        dashboard.choose(owners=owner)
        assert "prediction" not in dashboard.pictures
        value, word = dashboard.headlines["Predicted 2026Q2"].removeprefix("USD ").split(" (")[0].split(" ")[:2]
        parts += float(value.replace(",", "")) * {"thousand": 1e3, "million": 1e6}[word]
    assert parts == pytest.approx(found.mean - found.parts.loc["new", "mean"], rel=0.01)
    dashboard.choose(period="2026Q3")
    assert not any("redict" in name for name in (*dashboard.headlines, *dashboard.pictures))


def test_prediction__that_cannot_be_made_is_said() -> None:
    """Nothing was ever closed: the dashboard says so, and shows the rest as before."""
    young = open_dashboard(FRAME[FRAME["stage_id"] == 1], context=context())
    assert any(note.startswith("No prediction: no deal was won or lost") for note in young.notes)
    assert "forecast" in young.pictures


def test_quota__of_owners_follows_the_choice_and_that_of_all_does_not() -> None:
    """Owners' quotas are added up; one for all of them is not shown beside one of them, and that is said."""
    each = open_dashboard(FRAME, context=context(), quota={"Ada Byron": 1e6, "stale": 5e5})
    assert each.headlines["Quota 2026Q2"].startswith("USD 1.5 million")
    each.choose(owners="Ada Byron")
    assert each.headlines["Quota 2026Q2"].startswith("USD 1 million")
    together = open_dashboard(FRAME, context=context(), quota=2e6)
    together.choose(owners="Ada Byron")
    assert not any(name.startswith("Quota") for name in together.headlines)
    assert together.notes == ("no quota is shown: the one given is for all owners together",)
    with pytest.raises(ConfigurationError, match="Nobody"):
        open_dashboard(FRAME, context=context(), quota={"Nobody": 5})


def test_open_dashboard__refuses_what_it_cannot_show() -> None:
    """Missing columns, mixed currencies and a history that is none."""
    with pytest.raises(MissingColumnError, match="close_date"):
        open_dashboard(FRAME.drop(columns="close_date"), context=context())
    mixed = FRAME.assign(currency_type=["USD", "EUR"] * 150)
    with pytest.raises(MixedCurrencyError):
        open_dashboard(mixed, context=context(currency=None))
    with pytest.raises(ConfigurationError, match="History"):
        open_dashboard(FRAME, {"a": 1}, context=context())


def test_open_dashboard__says_which_owner_of_a_quota_is_not_there() -> None:
    """Names are not only said to be no periods."""
    with pytest.raises(ConfigurationError, match=r"nor owners: 'Ada Byrn' fits no group .* did you mean 'Ada Byron'"):
        open_dashboard(FRAME, context=context(), quota={"Ada Byrn": 5})


def test_open_dashboard__of_no_deals_says_so() -> None:
    """Pictures of nothing, and no error."""
    empty = open_dashboard(FRAME.iloc[:0], context=context())
    assert empty.headlines["Open"].startswith("USD 0 (0 deals)")
    assert "nothing to show" in empty.pictures["forecast"].alt_text  # type: ignore[attr-defined]


def test_names__stay_text_in_every_part() -> None:
    """A script in an owner's name is escaped in the page, in the files and in the words."""
    users = pd.DataFrame({"id": [7, 8, 9], "name": [HOSTILE, "$x_1$", "\x07bell"]})
    shown = open_dashboard(FRAME, context=context(users=users, currency="<b>"), quota={HOSTILE: 1e6})
    parts = [
        shown._heads.value,
        shown._said.value,
        *(box.value for card in shown._cards.values() for box in card.children),
    ]
    assert not any(re.search(r"<script|<b>", part) for part in parts)
    shown.choose(owners=HOSTILE)
    assert len(shown.frame) == (FRAME["owner_id"] == 7).sum()
    assert "<script" not in shown.svg("forecast")


def test_files__are_whole_pictures_without_the_page(dashboard: Dashboard, tmp_path: Path) -> None:
    """PNG and SVG of every picture; the SVG is well-formed and has fixed colours."""
    paths = dashboard.save(tmp_path / "new")
    assert sorted(path.name for path in paths) == sorted(
        f"{name}-2026-06-15.{ending}"
        for name in ("prediction", "forecast", "stages", "ageing")
        for ending in ("png", "svg")
    )
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content.startswith(b"\x89PNG")
        else:
            ET.fromstring(content)  # noqa: S314 (our own file)
            assert b"var(" not in content
    with pytest.raises(ConfigurationError, match="no picture 'waterfall'"):
        dashboard.png("waterfall")


def test_dashboard__is_readable_without_a_front_end(dashboard: Dashboard) -> None:
    """The text form has the figures; the page has the words of each picture."""
    bundle = dashboard._repr_mimebundle_()
    assert bundle["text/plain"] == repr(dashboard)
    assert "300 of 300 deals, as of 2026-06-15" in repr(dashboard)
    assert "Win rate" in repr(dashboard)
    picture, links = dashboard._cards["forecast"].children
    assert 'role="img" aria-label="Forecast by period' in picture.value
    assert "In words" in links.value


@pytest.fixture(scope="module")
def told() -> tuple[pd.DataFrame, Any]:
    """Thirty deals and what a history knows of them."""
    history = history_in_memory()
    frame = pd.DataFrame()
    for step, day in enumerate((2, 9, 16, 23)):
        rows: list[dict[str, Any]] = [
            {
                "id": key, "amount": 1000 * key, "probability": 40, "close_date": moment(28), "created_at": moment(1),
                "stage_id": min(1 + step * (key % 3), 4) if key % 5 else 5, "owner_id": 7 + key % 2 * 2,
                "currency_type": "USD",
            }
            for key in range(1, 31)
        ]  # fmt: skip
        frame = load_of(rows, day)
        history.record(frame)
    return frame, history


def test_history__adds_conversion_and_waterfall(told: tuple[pd.DataFrame, Any]) -> None:
    """The funnel tells who went on; the waterfall of the period follows the owners; what cannot be shown says why."""
    frame, history = told
    shown = open_dashboard(frame, history, context=context_of(frame))
    assert list(shown.pictures) == ["forecast", "funnel", "waterfall", "ageing"]
    whole = shown.pictures["waterfall"].patches[0].get_height()
    shown.choose(owners="Sam Lee")
    own = shown.pictures["waterfall"].patches[0].get_height()
    assert 0 < own < whole
    assert "of all" in shown.pictures["funnel"].get_xlabel()
    undated = frame.assign(close_date=frame["close_date"].where(frame["id"] > 3))
    partly = open_dashboard(undated, history, context=context_of(frame))
    partly.choose(period=NO_DATE)
    assert "waterfall" not in partly.pictures
    assert any(note.startswith("No waterfall") for note in partly.notes)


LOAD = """
import opp_pandas as opp
box = opp.sandbox(opportunities=200, now='2026-10-20T15:00:00Z')
stages = opp.StageMap(won=['Closed Won'], lost=['Closed Lost'])
df = opp.read_opportunities(box.client(), stages=stages)
"""
CELLS = [LOAD, "board = df.opp.dashboard(quota=3e6)\nboard"]


@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize(
    ("app", "theme"),
    [
        ("lab", "dark"),
        pytest.param("notebook", "light", marks=pytest.mark.nightly),
        pytest.param("voila", "dark", marks=pytest.mark.nightly),
    ],
)
def test_dashboard__works_in_the_browser(open_notebook: OpenNotebook, app: str, theme: Any) -> None:
    """Filters by keyboard and mouse, files to save, nothing that axe-core calls serious, no request elsewhere."""
    sheet = open_notebook(CELLS, app, theme=theme).run()
    page = sheet.page
    owners = page.get_by_label("Owners", exact=True)
    owners.focus()
    owners.press("ArrowDown")
    sheet.wait_for("len(board.choice.owners) == 1")
    page.get_by_role("status").filter(has_text=" of 200 deals").wait_for()
    page.get_by_role("button", name="Show all").click()
    sheet.wait_for("len(board.choice.owners) == 0")
    page.get_by_label("Period", exact=True).select_option(index=2)
    sheet.wait_for("board.choice.period is not None")
    # The links of a picture come anew when its PNG is made.
    page.get_by_role("link", name="forecast as PNG").wait_for()
    for name, start in (("forecast as SVG", b"<?xml"), ("forecast as PNG", b"\x89PNG")):
        with page.expect_download() as waiting:
            page.get_by_role("link", name=name).click()
        assert waiting.value.path().read_bytes().startswith(start)
    assert page.get_by_role("img", name="Forecast by period").count() == 1
    assert not sheet.accessibility(".opp-board")
    assert not sheet.console_errors
    assert not sheet.foreign_requests
