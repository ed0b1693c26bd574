"""The dashboard: what it shows and answers without a browser, and all of it in a browser."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import msgspec
import pandas as pd
import pytest

from browsing import keep_picture
from histories import history_in_memory, load_of, moment
from opp_pandas.accessor import context_of
from opp_pandas.errors import ConfigurationError, MissingColumnError, MixedCurrencyError
from opp_pandas.figures import ageing, forecast, stage_distribution
from opp_pandas.forecasting import bookings, predict
from opp_pandas.notebook.dashboards import Dashboard, open_dashboard
from opp_pandas.notebook.picture_model import START
from opp_pandas.notebook.selection import NO_DATE
from opp_pandas.notebook.workspace_messages import Chart, Picture
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


def shown(dashboard: Dashboard) -> Picture:
    return msgspec.convert(json.loads(json.dumps(dashboard._widget.picture)), Picture)


def chart(dashboard: Dashboard, figure: str) -> Chart:
    (found,) = (each for each in shown(dashboard).charts if each.figure == figure)
    return found


def ask(dashboard: Dashboard, do: str, **message: Any) -> dict[str, Any]:
    """Send what the page would, and take what it is answered."""
    answers: list[dict[str, Any]] = []
    widget = dashboard._widget
    widget.send, kept = answers.append, widget.send
    try:
        widget._handle_custom_msg(json.loads(json.dumps({"do": do, "id": "7", **message})), [])
    finally:
        widget.send = kept
    (answer,) = answers
    assert answer["to"] == "7"
    return answer


def test_choice__leaves_only_its_deals_in_list_and_charts(dashboard: Dashboard) -> None:
    """Owner and stage leave only their deals, and the rows can be had."""
    whole = dashboard.headlines["Open pipeline"]
    dashboard.choose(owners="Ada Byron", stages=["Lead", "Offer"])
    own = FRAME[(FRAME["owner_id"] == 8) & FRAME["stage_id"].isin([1, 2])]
    pd.testing.assert_frame_equal(dashboard.listed.sort_index(), own, check_like=True)
    assert dashboard.headlines["Open pipeline"] != whole
    amounts = {bar.label: bar.values[1] for bar in chart(dashboard, "stage_distribution").bars}
    expected = stage_distribution(own, context=context())["amount"]
    assert amounts == {name: expected[name] for name in amounts}
    assert set(amounts) >= {"Lead", "Offer"}
    assert shown(dashboard).shown == len(own)


def test_choice__that_cannot_be_made_changes_nothing(dashboard: Dashboard) -> None:
    """Unknown names are refused by their lists; a period may be one of pandas'."""
    dashboard.choose(period=pd.Period("2026Q3"))
    assert shown(dashboard).period == "2026Q3"
    for wrong, words in (
        ({"owners": "Nobody"}, "no deal has the owner 'Nobody'"),
        ({"period": "1999Q1"}, "no deal is dated in '1999Q1'"),
        ({"teams": "Nowhere"}, "no deal is of the team 'Nowhere'"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            dashboard.choose(**wrong)
    assert "no deal has the owner" in ask(dashboard, "look", owners=["Nobody"], stages=[], period="", since="")["error"]
    assert "cannot be read" in ask(dashboard, "edit", cells=[])["error"]
    assert shown(dashboard).period == "2026Q3"
    dashboard.choose(period=NO_DATE)
    assert shown(dashboard).outlook.reason == "These deals have no date."


def test_bars__list_the_deals_behind_them(dashboard: Dashboard) -> None:
    """Of a span of ages as of a forecast's column: their amounts add up to the bar; null lists all again."""
    for figure, column in (("ageing", "amount"), ("forecast", "open_amount"), ("stage_distribution", "amount")):
        drawn = chart(dashboard, figure)
        place = [series.column for series in drawn.series].index(column)
        for bar in drawn.bars:
            pick = {"figure": figure, "column": column, "label": bar.label, "title": ""}
            answer = ask(dashboard, "list", pick=pick)
            assert dashboard.listed["amount"].sum() == pytest.approx(bar.values[place] or 0.0), (figure, bar.label)
            assert answer["picture"]["chosen"]["picked"] == len(dashboard.listed)
    assert sum(bar.count or 0 for bar in chart(dashboard, "ageing").bars) == len(ageing(FRAME, context=context()))
    ask(dashboard, "list", pick=None)
    assert len(dashboard.listed) == 300
    listed = shown(dashboard).listed
    assert listed is not None
    assert (len(listed.rows), listed.more) == (100, 200)
    assert listed.columns == ["id", "reasons", "owner_name", "amount", "close_date"]


def test_forecast__has_the_interval_of_bookings(dashboard: Dashboard) -> None:
    """Bars ahead carry what `bookings` says; with related deals it is another one."""
    bar = next(bar for bar in chart(dashboard, "forecast").bars if bar.focus)
    result = bookings(FRAME, context=context(), period="2026Q2")
    assert (bar.low, bar.high) == pytest.approx(result.interval(0.8))
    assert bar.mark == forecast(FRAME, context=context()).loc[pd.Period("2026Q2"), "forecast_amount"]
    assert "independent deals: too narrow" in chart(dashboard, "forecast").note
    related = open_dashboard(FRAME, context=context(), rho=0.1)
    assert "too narrow" not in chart(related, "forecast").note


def test_prediction__is_that_of_predict(dashboard: Dashboard) -> None:
    """Number, parts and chance of the quota; where nothing was ever closed, why there is none."""
    found = predict(FRAME, context=context(), period="2026Q2")
    outlook = dashboard._model.wait()
    assert (outlook.mean, (outlook.low, outlook.high)) == (found.mean, found.interval(0.8))
    assert outlook.p_quota == found.p_at_least(2e6)
    young = open_dashboard(FRAME[FRAME["stage_id"] == 1], context=context())
    assert young._model.wait().reason.startswith("No prediction: no deal was won or lost")


def test_quota__of_all_is_not_shown_beside_one_owner(dashboard: Dashboard) -> None:
    """Owners' quotas are added up; one for all of them is not shown beside one of them, and that is said."""
    assert "Gap to quota" in dashboard.headlines
    dashboard.choose(owners="Ada Byron")
    assert "Gap to quota" not in dashboard.headlines
    assert dashboard.notes == ("no quota is shown: the one given is for all owners together",)
    each = open_dashboard(FRAME, context=context(), quota={"Ada Byron": 1e6, "stale": 5e5})
    assert each._model.now.focus is not None
    assert each._model.now.focus["quota"] == 1.5e6


def test_open_dashboard__refuses_what_it_cannot_show() -> None:
    """Missing columns, mixed currencies, a history that is none, quotas of nobody."""
    with pytest.raises(MissingColumnError, match="close_date"):
        open_dashboard(FRAME.drop(columns="close_date"), context=context())
    mixed = FRAME.assign(currency_type=["USD", "EUR"] * 150)
    with pytest.raises(MixedCurrencyError):
        open_dashboard(mixed, context=context(currency=None))
    with pytest.raises(ConfigurationError, match="History"):
        open_dashboard(FRAME, {"a": 1}, context=context())
    with pytest.raises(MissingColumnError, match="ids"):
        open_dashboard(FRAME.drop(columns="id"), history_in_memory(), context=context())
    with pytest.raises(ConfigurationError, match=r"nor owners: 'Ada Byrn' fits no group .* did you mean 'Ada Byron'"):
        open_dashboard(FRAME, context=context(), quota={"Ada Byrn": 5})


def test_open_dashboard__of_no_deals_says_so() -> None:
    """Nothing to show, and no error."""
    empty = open_dashboard(FRAME.iloc[:0], context=context())
    assert empty.headlines["Open pipeline"] == 0
    assert chart(empty, "forecast").bars == []
    assert "0 deals" in repr(empty)


def test_names__cross_as_text(tmp_path: Path) -> None:
    """A script in an owner's name is a text for the page, a choice for Python, and escaped in files."""
    users = pd.DataFrame({"id": [7, 8, 9], "name": [HOSTILE, "$x_1$", "\x07bell"]})
    board = open_dashboard(FRAME, context=context(users=users, currency="<b>"), quota={HOSTILE: 1e6})
    assert HOSTILE in shown(board).options.owners
    board.choose(owners=HOSTILE)
    assert len(board.listed) == (FRAME["owner_id"] == 7).sum()
    for path in board.save(tmp_path):
        assert path.suffix == ".png" or "<script" not in path.read_text(encoding="utf-8")


def test_files__are_whole_pictures_without_the_page(dashboard: Dashboard, tmp_path: Path) -> None:
    """PNG and SVG of every chart; the SVG is well-formed and has fixed colours."""
    paths = dashboard.save(tmp_path / "new")
    names = ("forecast", "stages", "ageing", "attention")
    assert sorted(path.name for path in paths) == sorted(
        f"{name}-2026-06-15.{ending}" for name in names for ending in ("png", "svg")
    )
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content.startswith(b"\x89PNG")
        else:
            ET.fromstring(content)  # noqa: S314 (our own file)
            assert b"var(" not in content


def test_dashboard__is_readable_without_a_front_end(dashboard: Dashboard) -> None:
    """The text form has the figures; marimo is given the widget itself."""
    bundle = dashboard._repr_mimebundle_()
    assert bundle["text/plain"] == repr(dashboard)
    assert repr(dashboard).startswith("<Dashboard of 300 deals, as of 2026-06-15; 2026Q2: Won ")
    assert dashboard._display_() is dashboard._widget


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


def test_history__adds_what_changed_and_who_came_how_far(told: tuple[pd.DataFrame, Any]) -> None:
    """The bridge follows the owners, from a snapshot or from where the period begins; stages say who went on."""
    frame, history = told
    board = open_dashboard(frame, history, context=context_of(frame))
    options = shown(board).options.since
    assert options[-1] == START
    whole = chart(board, "waterfall")
    notes = [bar.note for bar in chart(board, "stage_distribution").bars]
    assert any(" came so far, " in note for note in notes)
    assert " seen to enter" in chart(board, "stage_distribution").note
    board.choose(owners="Sam Lee")
    own = chart(board, "waterfall")
    assert 0 < (own.bars[0].values[0] or 0) < (whole.bars[0].values[0] or 0)
    title = ask(board, "look", owners=[], stages=[], period="", since=START)["picture"]["charts"][-1]["title"]
    assert title.endswith(f"since {history.snapshots()['observed_at'].min():%Y-%m-%d}")
    undated = frame.assign(close_date=frame["close_date"].where(frame["id"] > 3))
    partly = open_dashboard(undated, history, context=context_of(frame))
    partly.choose(period=NO_DATE)
    assert not any(each.figure == "waterfall" for each in shown(partly).charts)


LOAD = """
import opp_pandas as opp
box = opp.sandbox(opportunities=200, now='2026-10-20T15:00:00Z')
stages = opp.StageMap(won=['Closed Won'], lost=['Closed Lost'])
df = opp.read_opportunities(box.client(), stages=stages)
"""
CELLS = [LOAD, "board = df.opp.dashboard(quota=3e6)\nboard"]
NIGHTLY = pytest.mark.nightly


@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize(
    ("app", "theme", "width"),
    [
        ("lab", "dark", 1400),
        pytest.param("notebook", "light", 1400, marks=NIGHTLY),
        pytest.param("voila", "dark", 390, marks=NIGHTLY),
        pytest.param("marimo", "light", 1400, marks=NIGHTLY),
        pytest.param("marimo", "dark", 390, marks=NIGHTLY),
    ],
)
def test_dashboard__works_in_the_browser(open_notebook: OpenNotebook, app: str, theme: Any, width: int) -> None:
    """Filters and bars by keyboard and mouse, the list behind a bar, what Python chooses; axe-core finds nothing."""
    from playwright.sync_api import expect

    sheet = open_notebook(CELLS, app, theme=theme, width=width, height=1900).run()
    page, root = sheet.page, sheet.page.locator(".opp-workspace")
    page.locator(".opp-big").wait_for()
    page.get_by_role("button", name="Owners").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    expect(root).to_contain_text(" of 200 deals, as of")
    sheet.wait_for("len(board.listed) < 200")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show all").click()
    expect(root).not_to_contain_text(" of 200 deals, as of")
    page.locator("[data-figure=ageing] .opp-barrow").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".opp-chip")).to_contain_text("up to 30 days")
    rows = page.locator(".opp-listed tbody tr")
    assert rows.count() == sheet.python("len(board.listed)") > 0
    if app != "voila":
        sheet.python("board.choose(period='2027Q1')")
        expect(page.locator(".opp-hero-title")).to_contain_text("2027Q1")
    assert not sheet.accessibility(".opp-workspace")
    assert root.evaluate("(root) => root.scrollWidth - root.clientWidth") <= 0
    keep_picture(sheet, f"dashboard-{app}-{theme}-{width}")
    assert not sheet.console_errors
    assert not sheet.foreign_requests
