"""Reports: sections, choices, and what the page and the workbook say against the figures themselves."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from histories import OFFER, WON, history_in_memory, load_of, moment
from opp_pandas import figures, forecasting, plotting, reporting
from opp_pandas.errors import (
    ConfigurationError,
    HistoryNeededError,
    MissingColumnError,
    MissingExtraError,
    MixedCurrencyError,
)
from opp_pandas.figures.core.presentation import kind_of
from opp_pandas.notebook.dashboards import open_dashboard
from opp_pandas.plotting import canvas
from opp_pandas.reporting import Section, Table, sections
from opp_pandas.reporting.blocks import written
from opp_pandas.reporting.html import to_html
from opp_pandas.reporting.report_data import Material
from opp_pandas.reporting.workbook import to_workbook
from portfolios import LEAD, context, portfolio, random_portfolio
from reports import HOSTILE, hostile_deals, page_of, sheets_of
from worlds import WORLDS, frame_of, generate

if TYPE_CHECKING:
    from pathlib import Path

FRAME = random_portfolio(5, 300)
QUOTA = 9_000_000.0


def assemble(frame: pd.DataFrame = FRAME, **choices: Any) -> reporting.Report:
    return reporting.assemble(frame, context=context(), **choices)


def assemble_of(frame: pd.DataFrame, history: Any) -> reporting.Report:
    return reporting.assemble(frame, context=opp.of(frame)._context({}), history=history)


# --- what the page says -------------------------------------------------------


def test_headlines__are_the_figures() -> None:
    """Forecast, interval, chance, coverage and win rate stand on the page as the functions give them."""
    page = page_of(to_html(assemble(quota=QUOTA)))
    kpis = figures.kpis(FRAME, context=context(), quota=QUOTA).iloc[0]
    bookings = forecasting.bookings(FRAME, context=context(), period="2026Q2")
    low, high = bookings.interval(0.8)
    tiles = page.tiles
    assert tiles["Sellers' sum 2026Q2"] == [
        f"{bookings.mean:,.0f} USD",
        f"80 % between {low:,.0f} and {high:,.0f}, not tested",
    ]
    foretold = forecasting.predict(FRAME, context=context(), period="2026Q2")
    low, high = foretold.interval(0.8)
    assert next(iter(tiles)) == "Predicted for 2026Q2"
    assert tiles["Predicted for 2026Q2"] == [
        f"{foretold.mean:,.0f} USD",
        f"80 % between {low:,.0f} and {high:,.0f}; {foretold.tested}",
    ]
    assert tiles["Coverage"][0] == f"{kpis['coverage']:.1f}"
    assert tiles["Won in 2026Q2"][0] == f"{kpis['period_won_amount']:,.0f} USD"
    rates = [f"{kpis[name]:.1%}".replace("%", " %") for name in ("win_rate", "win_rate_low", "win_rate_high")]
    closed = int(kpis["won_count"] + kpis["lost_count"])
    assert tiles["Win rate"] == [rates[0], f"{rates[1]} to {rates[2]}, from {closed} closed deals"]
    assert tiles["Overdue"][0] == f"{kpis['overdue_amount']:,.0f} USD"
    assert tiles["Chance of the quota"][0].endswith("%")


def test_interval__is_that_of_bookings_and_claims_no_coverage() -> None:
    """Report, dashboard and `bookings` give one interval for one number, and all say that nobody has tested it."""
    found = forecasting.bookings(FRAME, context=context(), period="2026Q2")
    material, board = Material(FRAME, context()), open_dashboard(FRAME, context=context())
    assert material.bookings.interval(0.8) == found.interval(0.8)
    low, high = found.interval(0.8)
    drawn = board._model.picture().charts[0]
    assert (low, high) in [(bar.low, bar.high) for bar in drawn.bars]
    words = "independent deals: too narrow; the percentages are the sellers', the interval is not tested"
    page = page_of(to_html(assemble(quota=QUOTA)))
    assert words in page.text
    assert words in drawn.note.replace("\n", " ")
    assert found.tested in plotting.plot_bookings(found).alt_text  # type: ignore[attr-defined]
    assert "10 times" not in page.text


def test_prediction__has_its_parts_and_methods() -> None:
    """Parts and methods are those of `predict` and `compare`, made once."""
    page = page_of(to_html(assemble(quota=QUOTA)))
    found = forecasting.predict(FRAME, context=context(), period="2026Q2")
    methods = forecasting.compare(FRAME, context=context(), period="2026Q2", quota=QUOTA)
    assert found.is_tested
    assert found.tested in page.text
    assert page.table("Parts of 2026Q2").column("expected") == [f"{value:,.0f}" for value in found.to_frame()["mean"]]
    table = page.table("Methods side by side")
    assert table.column("method") == [name.replace("_", " ") for name in methods.index]
    assert table.column("80 % held")[0] == f"{methods['coverage_80'].iloc[0]:.1%}".replace("%", " %")


def test_prediction__that_cannot_be_made_is_said_and_the_report_goes_on() -> None:
    """Without closed deals, or without days of creation, the page says why, and has all it had before."""
    still_open = FRAME[FRAME["stage_id"] == LEAD]
    for frame, why in (
        (still_open, "no deal was won or lost by 2026-06-15: nothing can be learned"),
        (FRAME.drop(columns="created_at"), "no deal has a creation date"),
    ):
        page = page_of(to_html(assemble(frame, quota=QUOTA)))
        assert f"No prediction: {why}" in page.text.replace("a forecast learns from created and closed dates, and ", "")
        assert not any(tile.startswith("Predicted") for tile in page.tiles)
        chance = forecasting.bookings(frame, context=context(), period="2026Q2").p_at_least(QUOTA)
        assert page.tiles["Chance of the quota"][0] == sections.chance(chance)
        assert "largest open deal" in page.table("The largest").column("reasons")[0]


def test_prediction__claims_no_coverage_that_nobody_tested() -> None:
    """With two months of history the page says how many periods are missing, and shows no share that held."""
    young = frame_of(generate(WORLDS["two_months"], 3))
    page = page_of(to_html(reporting.assemble(young, context=opp.of(young)._context({}))))
    assert re.search(r"not tested yet: needs \d more period", page.tiles["Predicted for 2023Q1"][1])
    assert "held" not in page.text
    assert "no method is called the best" in page.table("Methods side by side").caption


def test_interval__names_whose_percentages_it_stands_on() -> None:
    """With the stages' percentages it does not speak of sellers; a stated correlation is said."""
    stages = forecasting.bookings(FRAME, context=context(), period="2026Q2", probability="stage", rho=0.1)
    assert stages.tested == "the percentages are the stages', the interval is not tested"
    assert stages.assumption == "correlation 0.1"
    assert "the percentages are the stages'" in page_of(to_html(assemble(probability="stage"))).text


def test_forecast_table__is_the_forecast_around_now() -> None:
    """Every cell of the table is the forecast's, for four periods either side and deals without a date."""
    page = page_of(to_html(assemble(quota=QUOTA)))
    table = page.table("Forecast by period")
    expected = figures.forecast(FRAME, context=context(), quota=QUOTA)
    assert table.column("period") == [
        str(period) if period is not pd.NaT else "no close date" for period in expected.index
    ]
    for heading, name in (("forecast", "forecast_amount"), ("open", "open_amount"), ("won", "won_amount")):
        assert table.column(heading) == [f"{value:,.0f}" for value in expected[name]]


def test_summary__says_how_the_period_stands() -> None:
    """What was won, what is predicted and what is missing are the figures, in a sentence on top; no headline, none."""
    report = assemble(quota=QUOTA)
    found = forecasting.predict(FRAME, context=context(), period="2026Q2")
    low, high = found.interval(0.8)
    assert report.summary.startswith("2026Q2, with 15 days left: ")
    for words in (
        f"The prediction for its end is {found.mean:,.0f} USD, 80 % between {low:,.0f} and {high:,.0f}",
        f"{QUOTA - found.mean:,.0f} USD short of the quota",
        f"and the chance to reach it is {sections.chance(found.p_at_least(QUOTA))} ({found.tested}).",
    ):
        assert words in report.summary
    assert report.summary in page_of(to_html(report)).text
    assert "quota" not in assemble().summary
    without = assemble(FRAME.assign(amount=pd.array([None] * len(FRAME), dtype="Int64")), quota=QUOTA)
    assert without.summary.startswith("2026Q2, with 15 days left: no deal has an amount, so that every sum is 0")
    assert assemble(sections=["forecast"]).summary == ""


def test_deals__stand_once_with_every_reason() -> None:
    """The largest deals, those expected to bring most and what hygiene flags are one list by amount, each deal once."""
    frame = FRAME.assign(name=FRAME["id"].astype("str"))
    page = page_of(to_html(assemble(frame, max_rows=12)))
    table = page.table("The largest deals, those")
    ids = [int(name) for name in table.column("name")]
    assert len(set(ids)) == len(ids) == 12
    listed = frame.set_index("id").loc[ids, "amount"].to_numpy(dtype=float, na_value=-1)
    assert (np.diff(listed) <= 0).all()
    flagged = figures.hygiene(frame, context=context())["reasons"].set_axis(
        frame["id"].iloc[figures.hygiene(frame, context=context()).index]
    )
    largest = frame["id"].loc[figures.ageing(frame, context=context())["amount"].nlargest(4).index].to_list()
    ranks = dict(zip(largest, ["largest", "2nd largest", "3rd largest", "4th largest"], strict=True))
    expected = forecasting.predict(frame, context=context(), period="2026Q2").deals.head(4)
    for name, reasons in zip(ids, table.column("reasons"), strict=True):
        said = reasons.split("; ")
        rank = [f"{ranks[name]} open deal"] if name in ranks else []
        assert [reason for reason in said if "largest" in reason] == rank
        assert ("counts for 2026Q2" in reasons) is (name in expected["id"].to_list())
        assert len(set(said)) == len(said)
        assert set(flagged.get(name, "largest").split("; ")) <= {*said, "largest"}
    everyone = {*flagged.index, *largest, *expected["id"]}
    assert f"12 of {len(everyone)}" in table.caption


def test_deals__lead_to_the_service_where_a_link_is_known() -> None:
    """Names are links to the address of each deal, in page and workbook; an address without a place is refused."""
    import openpyxl

    report = assemble(link="https://crm.example.com/deals/{id}?from=report")
    first = int(FRAME.loc[FRAME["stage_id"].isin([LEAD, OFFER]), ["id", "amount"]].nlargest(1, "amount")["id"].iloc[0])
    assert f'href="https://crm.example.com/deals/{first}?from=report"' in to_html(report)
    sheet = openpyxl.load_workbook(io.BytesIO(to_workbook(report)))["Deals to look at"]
    assert f"https://crm.example.com/deals/{first}?from=report" in [
        row[0].hyperlink.target for row in sheet.iter_rows(min_row=2) if row[0].hyperlink
    ]
    for wrong in ("javascript:alert({id})", "https://crm.example.com/deals", "https://crm.example.com/{name}", 7):
        with pytest.raises(ConfigurationError, match="link= is the address of a deal"):
            assemble(link=wrong)


def test_deals__without_an_amount_are_not_the_largest() -> None:
    """Nobody knows how large they are: they are listed for what hygiene found."""
    nothing = FRAME.assign(amount=pd.array([pd.NA] * len(FRAME), dtype="Int64"))
    page = page_of(to_html(assemble(nothing, sections=["deals"])))
    reasons = page.table("The largest deals, those").column("reasons")
    assert any("no amount" in reason for reason in reasons)
    assert not any("largest open deal" in reason or "counts for" in reason for reason in reasons)


def test_hygiene__counts_are_those_of_the_checks() -> None:
    """Each check's number stands beside its meaning, and every listed deal says why."""
    page = page_of(to_html(assemble()))
    basis = figures.hygiene(FRAME, context=context()).attrs["opp_basis"]
    table = page.table("What the checks found")
    found = dict(zip(table.column("check"), table.column("deals"), strict=True))
    assert found == {name.replace("_", " "): f"{n:,}" for name, n in basis["counts"].items() if n}
    assert all(page.table("The largest deals, those").column("reasons"))


def test_definitions__are_of_what_is_shown() -> None:
    """The footer defines what tables and tiles show, and says what the figures stand on."""
    page = page_of(to_html(assemble(quota=QUOTA)))
    assert "won by the day of the report + weighted open deals that are not overdue" in page.text
    assert "“won deals” / (“won deals” + “lost deals”)" in page.text
    assert not re.search(r"\b[a-z]+_[a-z]+\b", page.text.replace("opp_pandas", ""))
    assert "missing_probability_count" not in page.text
    assert "2026-06-15 12:00:00 UTC" in page.text
    assert "Won" in dict(page.facts)["Stages"]
    assert any("without an amount" in note for note in page.notes)


# --- with a history, with groups ------------------------------------------------


def _history() -> tuple[opp.History, pd.DataFrame]:
    rows = [
        {"id": 1, "name": "Stays", "amount": 100, "probability": 50, "close_date": moment(60), "stage_id": OFFER},
        {"id": 2, "name": "Won", "amount": 70, "probability": 50, "close_date": moment(60), "stage_id": OFFER},
    ]
    first = load_of(rows, at=10)
    new = {"id": 3, "name": "New", "amount": 30, "probability": 20, "close_date": moment(70), "created_at": moment(15)}
    later = load_of([rows[0], {**rows[1], "stage_id": WON}, {**new, "stage_id": OFFER}], at=20)
    history = history_in_memory()
    history.record(first)
    history.record(later)
    return history, later


def test_waterfall__tells_since_the_snapshot_before_the_load() -> None:
    """The snapshot of the load itself is not compared with itself."""
    history, later = _history()
    page = page_of(to_html(assemble_of(later, history)))
    table = page.table("Open pipeline of 2026Q1 since 2026-01-10")
    moves = dict(zip(table.column("move"), table.column("amount"), strict=True))
    assert moves == {"start": "170", "created": "30", "won": "-70", "end": "130"}
    assert "Funnel" in page.headings
    assert dict(page.facts)["Compared with"] == "the snapshot of 2026-01-10 00:00"


def test_report__names_years_after_their_start_where_asked_to() -> None:
    """Forecast, key figures and waterfall of a year from February on name their periods alike."""
    history, later = _history()
    cut = {"fiscal_start": 2, "fiscal_label": "start"}
    page = page_of(to_html(reporting.assemble(later, context=opp.of(later)._context({}), history=history, **cut)))
    assert "Sellers' sum 2025Q4" in page.tiles
    assert page.table("Open pipeline of 2025Q4 since 2026-01-10").column("move")[0] == "start"


def test_waterfall__without_an_earlier_snapshot_says_so() -> None:
    """The first night has nothing to compare with: the page says it, and asked for by name it raises."""
    _, later = _history()
    history = history_in_memory()
    history.record(later)
    meaning = opp.of(later)._context({})
    page = page_of(to_html(reporting.assemble(later, context=meaning, history=history)))
    assert "has no snapshot before" in page.text
    with pytest.raises(HistoryNeededError, match="no snapshot before"):
        reporting.assemble(later, context=meaning, history=history, sections=["waterfall"])
    with pytest.raises(HistoryNeededError, match="history="):
        reporting.assemble(later, context=meaning, sections=["waterfall"])


def test_groups__are_compared_with_their_own_quotas() -> None:
    """A quota by owner is each owner's, and the total of them the team's."""
    frame = FRAME[FRAME["owner_id"].isin([8])]
    quota = {"Ada Byron": 500_000}
    page = page_of(to_html(reporting.assemble(frame, context=context(), by="owner_name", quota=quota)))
    kpis = figures.kpis(frame, context=context(), by="owner_name", quota=quota).iloc[0]
    table = page.table("Coverage in 2026Q2 by owner")
    assert table.column("owner") == ["Ada Byron"]
    assert table.column("attainment") == [f"{kpis['attainment'] * 100:.1f} %"]
    assert page.tiles["Won in 2026Q2"][1].endswith("of the quota 500,000 USD")
    by_period = pd.DataFrame({"period": ["2026Q2", "2026Q2"], "group": ["Ada Byron", "Ada Byron"], "quota": [1.0, 2.0]})
    with pytest.raises(ConfigurationError, match="twice"):
        reporting.assemble(frame, context=context(), by="owner_name", quota=by_period)


# --- sections ----------------------------------------------------------------------


def test_sections__stand_in_the_order_asked_for() -> None:
    """Names and functions mix; a function gives a Section, text, a table, Axes, or several of them."""

    def deals_to_call(material: reporting.Material) -> Any:
        return "Call these.", material.frame[["id", "amount"]].head(2)

    def picture(material: reporting.Material) -> Any:
        return opp.plotting.plot_forecast(material.forecast)

    def own(material: reporting.Material) -> Section:
        return Section("My own", Table(material.kpis[["win_rate"]], "How we do"), notes=["said once", "said once"])

    page = page_of(to_html(assemble(sections=["deals", deals_to_call, own, picture, "headline"])))
    wanted = [
        "Deals to look at",
        "Deals to call",
        "My own",
        "Picture",
        "Headlines",
        "What this stands on",
        "Definitions",
    ]
    assert page.headings == wanted
    assert "Call these." in page.text
    assert page.table("How we do").column("win rate")[0].endswith(" %")
    assert page.text.count("said once") == 1
    assert len(page.pictures) == 1
    assert page.pictures[0]


def test_sections__plots_of_a_function_leave_no_window_open() -> None:
    """Plots that a section opened are not shown a second time in the notebook."""
    import matplotlib.pyplot as plt

    mine = plt.figure()
    before = plt.get_fignums()
    assemble(sections=[lambda material: opp.plotting.plot_forecast(material.forecast)])
    assert plt.get_fignums() == before
    plt.close(mine)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (["headlines"], "no section 'headlines'.*'headline'"),
        ([3], "a section is a name"),
        ([lambda _: 3], "cannot be shown.*int"),
    ],
)
def test_sections__that_do_not_exist_are_refused(sections: Any, words: str) -> None:
    """The error names what there is."""
    with pytest.raises(ConfigurationError, match=words):
        assemble(sections=sections)


def test_choices__that_do_not_exist_are_refused() -> None:
    """A misspelt choice is no silent default."""
    with pytest.raises(TypeError, match="'quotas'; did you mean 'quota'"):
        assemble(quotas=3)
    with pytest.raises(ConfigurationError, match="max_rows must be 1 or more"):
        assemble(max_rows=0)
    with pytest.raises(ConfigurationError, match="give quota="):
        assemble(sections=["coverage"])
    with pytest.raises(ConfigurationError, match="give by="):
        assemble(sections=["groups"])


# --- little to say --------------------------------------------------------------------


def test_report__of_no_deals_is_a_page(tmp_path: Path) -> None:
    """An empty frame gives a page and a workbook that say so."""
    report = assemble(FRAME.iloc[:0], quota=QUOTA)
    page = page_of(to_html(report))
    assert "0 opportunities" in page.text
    assert "There is no open or won deal." in page.text
    assert page.tiles["Win rate"] == ["unknown", "no deal was closed"]
    assert "Basis" in sheets_of(to_workbook(report))


def test_report__without_a_column_says_what_is_left_out() -> None:
    """Deals without close dates still have stages; asked for by name, the forecast raises."""
    frame = FRAME.drop(columns="close_date")
    page = page_of(to_html(assemble(frame)))
    assert "Left out: the frame has no column 'close_date'" in page.text
    assert page.table("Deals by stage").column("stage")
    with pytest.raises(MissingColumnError, match="close_date"):
        assemble(frame, sections=["forecast"])
    with pytest.raises(MissingColumnError, match="amount"):
        assemble(frame.drop(columns="amount"), sections=["deals"])


def test_report__without_stages_is_an_error_or_a_page() -> None:
    """Without a stage column there is nothing to tell; stages that nobody explained are counted."""
    bare = assemble(FRAME.drop(columns="stage_id"))
    assert "stage_id or stage_name" in page_of(to_html(bare)).text
    unknown = portfolio([{"stage_id": 77, "amount": 5, "probability": 50, "close_date": "2026-06-20T12:00Z"}])
    page = page_of(to_html(assemble(unknown)))
    assert "1 in stages without a meaning" in dict(page.facts)["Deals"]
    assert any("nobody called open, won or lost" in note for note in page.notes)


def test_report__of_two_currencies_asks_for_rates() -> None:
    """Amounts of two currencies are never added; with rates they are."""
    rows = [
        {"amount": 10, "probability": 50, "stage_id": LEAD, "close_date": "2026-06-20T12:00Z", "currency_type": code}
        for code in ("USD", "EUR")
    ]
    frame = portfolio(rows)
    with pytest.raises(MixedCurrencyError, match="give rates="):
        assemble(frame)
    page = page_of(to_html(assemble(frame, rates={"USD": 1, "EUR": 2.0})))
    assert page.tiles["Open pipeline"][0] == "30 USD"


# --- nothing from data becomes markup, formula or link ------------------------------------


def test_hostile_names__stand_on_the_page_as_text() -> None:
    """Script tags, mathematics, overrides of direction and formulas are shown, not obeyed."""
    report = reporting.assemble(hostile_deals(), context=context(users=None), title="<script>alert(1)</script> & co")
    html = to_html(report)
    page = page_of(html)
    assert "<script>alert" not in html
    assert page.scripts == 1
    assert page.table("The largest deals, those").column("name") == [written(name, "text") for name in HOSTILE]
    assert page.headings[0] != ""
    assert "<script>alert(1)</script> & co" in page.text
    assert not {attribute for attribute in page.attributes if attribute.startswith("on")}
    assert not [address for address in page.addresses if not address.startswith("#")]


def test_hostile_names__stand_in_cells_as_text() -> None:
    """No cell of the workbook is a formula or a link, whatever a deal is called."""
    import openpyxl

    report = reporting.assemble(hostile_deals(), context=context(users=None))
    content = to_workbook(report)
    book = openpyxl.load_workbook(io.BytesIO(content))
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert {cell.data_type for cell in cells} <= {"s", "n", "d", "b"}
    assert not [cell for cell in cells if cell.hyperlink]
    names = sheets_of(content)["Deals to look at"]["name"]
    assert names == [written(name, "text") for name in HOSTILE]
    quoted = [cell for cell in book["Deals to look at"]["A"] if str(cell.value).startswith("=")]
    assert quoted
    assert all(cell.quotePrefix for cell in quoted)


def test_hostile_names__stand_in_the_pdf_as_text(tmp_path: Path) -> None:
    """The PDF holds the names as words."""
    import pypdfium2

    path = reporting.write_report(
        hostile_deals(), tmp_path / "deals.pdf", context=context(users=None), sections=["deals"]
    )
    document = pypdfium2.PdfDocument(path)
    words = "".join(page.get_textpage().get_text_range() for page in document).replace("\r", "").replace("\n", "")
    for name in HOSTILE:
        shown = "".join(letter for letter in written(name, "text") if letter.isascii() and not letter.isspace())
        assert shown in "".join(words.split()), name
    document.close()


def test_pdf__keeps_wide_tables_within_the_margins(tmp_path: Path) -> None:
    """Long names, owners, reasons and next steps share the width of the text: no column is in the margin."""
    import pypdfium2

    frame = FRAME.assign(
        name="Wholesale renewal of Hohenstein-Oldenburg and sons 2026",
        next_step="Book a demonstration for the security team",
    )  # fmt: skip
    users = pd.DataFrame({"id": [7, 8], "name": ["Giovanna Hohenzollern-Sigmaringen"] * 2})
    path = reporting.write_report(frame, tmp_path / "deals.pdf", context=context(users=users), sections=["deals"])
    page = pypdfium2.PdfDocument(path)[0]
    text = page.get_textpage()
    right = max(text.get_rect(place)[2] for place in range(text.count_rects()))
    assert right <= page.get_width() - 14 / 25.4 * 72 + 1


def test_pdf__keeps_long_words_on_the_sheet(tmp_path: Path) -> None:
    """An address as the next step goes on in the next line; every letter of it stands on the sheet, as text."""
    import pypdfium2

    address = f"https://docs.example.com/{'1aBcDeFg' * 9}/edit#gid=0&a=<b>"
    frame = FRAME.assign(next_step=address, name="A deal", account_name="An account of a longish name")
    path = reporting.write_report(frame, tmp_path / "deals.pdf", context=context(), sections=["deals"], max_rows=3)
    document = pypdfium2.PdfDocument(path)
    words = document[0].get_textpage()
    right = max(words.get_charbox(place)[2] for place in range(words.count_chars()))
    assert right < document[0].get_width()
    assert "".join(words.get_text_range().split()).count(address[-12:]) == 3
    document.close()


def test_groups__without_a_closed_deal_are_a_table_alone() -> None:
    """Nothing was won or lost: no empty picture stands there."""
    frame = FRAME[FRAME["stage_id"] == LEAD]
    page = page_of(to_html(reporting.assemble(frame, context=context(), by="owner_name", sections=["groups"])))
    assert page.pictures == []
    assert page.table("Closed deals by owner").rows


# --- the workbook ----------------------------------------------------------------------------


def test_workbook__has_typed_cells_and_a_sheet_per_table() -> None:
    """Numbers are numbers with formats, days are days, headings stay in sight, the basis is told."""
    import openpyxl

    content = to_workbook(assemble(quota=QUOTA))
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert book.sheetnames[0] == "Headlines"
    assert book.sheetnames[-1] == "Basis"
    sheet = book["Forecast against quota"]
    expected = figures.forecast(FRAME, context=context(), quota=QUOTA)
    heads = [cell.value for cell in sheet[1]]
    forecasts = [row[heads.index("forecast (USD)")] for row in sheet.iter_rows(min_row=2)]
    np.testing.assert_allclose([cell.value for cell in forecasts], expected["forecast_amount"])
    assert {cell.number_format for cell in forecasts} == {"#,##0"}
    assert {row[heads.index("attainment")].number_format for row in sheet.iter_rows(min_row=2, max_row=3)} == {"0.0%"}
    assert sheet.freeze_panes == "B2"
    deals = book["Deals to look at"]
    days = [row[[cell.value for cell in deals[1]].index("close date")] for row in deals.iter_rows(min_row=2, max_row=5)]
    assert all(cell.is_date or cell.value is None for cell in days)
    assert "Stages" in [cell.value for cell in book["Basis"]["A"]]
    first = book["Headlines"]
    long = [cell.row for cell in first["C"] if len(str(cell.value)) > 60]
    assert long
    assert all(first.row_dimensions[row].height >= 30 for row in long)


def test_workbook__has_the_charts_of_its_plots() -> None:
    """Each plot is a chart of Excel over the cells of its table; what was won has the colour that it has in plots."""
    import openpyxl

    book = openpyxl.load_workbook(io.BytesIO(to_workbook(assemble(quota=QUOTA, by="owner_name"))))
    charts = {sheet.title: sheet._charts for sheet in book.worksheets if sheet._charts}
    assert {"Forecast against quota", "Coverage", "Stage distribution"} < set(charts)
    assert sum(map(len, charts.values())) == 6
    won = charts["Forecast against quota"][0].series[0]
    assert won.spPr.solidFill.srgbClr == canvas.WON.removeprefix("#")
    (past,) = (sheet for sheet in book.worksheets if sheet["A1"].value == "last day known")
    came = [str(cell.value).partition(" ")[0] for cell in past[1]].index("actual") + 1
    (chart,) = past._charts
    (drawn,) = chart._charts[1].series
    assert chart._charts[0].series[0].errBars is not None
    assert drawn.val.numRef.f.endswith(f"${past.cell(2, came).column_letter}${past.max_row}")
    # Whiskers end within the picture, also above the highest bar.
    for name, whiskers in (("By owner 2", ["win rate to"]), (past.title, ["80 % to (USD)", "actual (USD)"])):
        sheet = book[name]
        ends = [column for column in sheet.iter_cols() if str(column[0].value) in whiskers]
        highest = max(cell.value for column in ends for cell in column[1:] if cell.value is not None)
        assert max(sheet._charts[0].x_axis.scaling.max or 0, sheet._charts[0].y_axis.scaling.max or 0) >= highest
    # On a page the picture says it: the table is there for the chart alone.
    assert "last day known<" not in to_html(assemble(quota=QUOTA, by="owner_name"))
    history, later = _history()
    moved = assemble_of(later, history)
    sheet = openpyxl.load_workbook(io.BytesIO(to_workbook(moved)))["Changes since the last snapshot"]
    start, height = ([cell.value for cell in column[1:]] for column in list(sheet.iter_cols())[-2:])
    assert (start, height) == ([0, 170, 130, 0], [170, 30, 70, 130])


def test_workbook__names_the_currency_over_every_amount(df: pd.DataFrame, tmp_path: Path) -> None:
    """A sheet is read, sorted and copied alone: its headings say what the amounts are in, and only theirs."""
    sheets = sheets_of(df.opp.report(tmp_path / "report.xlsx", quota=1_000_000, by="owner_name").read_bytes())
    amounts = ("open", "weighted", "won", "forecast", "overdue", "quota")
    assert {f"{name} (USD)" for name in amounts} < set(sheets["Forecast against quota"])
    assert "attainment" in sheets["Forecast against quota"]
    assert {"amount (USD)", "weighted (USD)", "deals"} < set(sheets["Stage distribution"])
    assert "amount (USD)" in sheets["Deals to look at"]


def test_workbook__takes_odd_values() -> None:
    """Zoned and far days, infinite and very large numbers, control characters and double titles have a cell."""
    odd = pd.DataFrame(
        {
            "seen": pd.to_datetime(["9999-12-31T20:00Z", None, "0100-01-01T00:00Z"]).astype("datetime64[us, UTC]"),
            "coverage": [np.inf, np.nan, 2.0],
            "id": pd.array([2**53 + 1, 5, None], dtype="Int64"),
            "text": ["\x01\r\n=1+1", "x" * 40_000, None],
        }
    )
    titles = ["a b x", "History", "A title of more words than would fit", "x" * 40]
    sections = [Section("A/B: [x]?*", odd, odd), *(Section(title, odd) for title in titles)]
    report = assemble(FRAME, sections=sections)
    sheets = sheets_of(to_workbook(report))
    assert list(sheets) == [
        "A B x",
        "A B x 2",
        "a b x 3",
        "History sheet",
        "A title of more words than",
        "x" * 31,
        "Basis",
    ]
    assert sheets["a b x 3"]["coverage"][0] == "reached"
    assert sheets["a b x 3"]["id"] == [str(2**53 + 1), 5, None]
    assert len(sheets["a b x 3"]["text"][1]) == 32_767
    assert sheets["a b x 3"]["seen"][2] == "0100-01-01 00:00"


# --- files ---------------------------------------------------------------------------------


def test_report__is_written_in_every_form(tmp_path: Path, df: pd.DataFrame) -> None:
    """The ending says what is made; the accessor hands everything on."""
    begins = {".html": b"<!DOCTYPE html>", ".pdf": b"%PDF", ".png": b"\x89PNG", ".xlsx": b"PK"}
    for suffix, magic in begins.items():
        path = df.opp.report(tmp_path / f"report{suffix}", quota=1_000_000, sections=["headline", "forecast"])
        assert path.read_bytes().startswith(magic)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(f"report{suffix}" for suffix in begins)


def test_report__same_deals_give_the_same_page(tmp_path: Path) -> None:
    """A page that did not change is the same file, byte by byte."""
    assert to_html(assemble()) == to_html(assemble())


def test_report__that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Neither an error in a section nor a full disk touches what was there."""
    path = tmp_path / "report.html"
    path.write_text("the old one")

    def broken(_: reporting.Material) -> Any:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        reporting.write_report(FRAME, path, context=context(), sections=[broken])
    assert path.read_text() == "the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("report.docx", "must end in one of"), ("no/report.html", "no folder"), ("x.html/", "is a folder")],
)
def test_report__refuses_paths_before_any_work(tmp_path: Path, name: str, words: str) -> None:
    """A path that cannot be written is told before figures are worked out."""
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigurationError, match=words):
        reporting.write_report(FRAME.drop(columns="stage_id"), tmp_path / name, context=context())


@pytest.mark.parametrize(
    ("module", "suffix"), [("jinja2", ".html"), ("weasyprint", ".pdf"), ("pypdfium2", ".png"), ("xlsxwriter", ".xlsx")]
)
def test_missing_extra__is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, suffix: str) -> None:
    """Without a package of the extra the error names the command that installs it."""
    from opp_pandas.reporting import html

    html._template.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'opp_pandas\[report\]'"):
        reporting.write_report(FRAME, tmp_path / f"r{suffix}", context=context(), sections=["headline"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("win_rate", [0.5], "share"), ("open_amount", [1.5], "money"), ("owner_id", [7], "number"),
        ("idle_days", [3], "days"), ("n", [3], "count"), ("x", [0.5], "number"), ("name", ["a"], "text"),
        ("ok", [True], "flag"), ("probability", [50], "percent"), ("generate", [1.0], "number"),
    ],
)  # fmt: skip
def test_kind_of__reads_name_and_dtype(name: str, values: list[Any], kind: str) -> None:
    """A column's name and dtype say how its values are written."""
    assert kind_of(name, pd.Series(values)) == kind
