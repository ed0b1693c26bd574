"""Results in a notebook: small pages, and nothing from the data is ever HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from histories import history_in_memory, load_of
from opp_pandas._html import as_page, as_written
from opp_pandas.figures import explain, forecast, show
from opp_pandas.forecasting import bookings
from opp_pandas.load_report import LoadReport
from opp_pandas.reconciling import Reconciliation
from opp_pandas.stages import resolve_stages
from portfolios import context, portfolio

if TYPE_CHECKING:
    from opp_pandas.sandbox_handle import Sandbox

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)> & \"'"
PLAIN = {"p", "b", "ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td", "pre", "h4", "div",
         "details", "summary", "dl", "dt", "dd", "code"}  # fmt: skip


class Tags(HTMLParser):
    """Collects the elements of a page and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


def evil_portfolio() -> pd.DataFrame:
    row = {"id": 1, "name": EVIL, "amount": 5, "probability": 50, "close_date": "2026-07-01", "stage_name": EVIL}
    return portfolio([row | {"owner_name": EVIL}])


def made() -> dict[str, Any]:
    stages = opp.StageMap(order=[EVIL], won=[f"won {EVIL}"])
    table = resolve_stages(stages)
    around = context(stages=table, users=None)
    frame = evil_portfolio()
    figure = forecast(frame, context=around, by="owner_name")
    failures = pd.DataFrame({"id": [1], "row": [0], "column": ["name"], "value": [EVIL], "rule": [EVIL]})
    gone = pd.DataFrame({"id": [1], "status": [EVIL], "confirmed": [True], "edited": [False]})
    return {
        "stage map": stages,
        "stage table": table,
        "load report": LoadReport(source=EVIL, rows=1, failures=failures, unknown_attributes=(EVIL,), notes=(EVIL,)),
        "reconciliation": Reconciliation(gone, 5, (EVIL,), frame),
        "bookings": bookings(frame, context=around),
        "shown": show(figure),
        "explained": explain(figure),
        "explained number": explain(figure, frame, context=around, column="open_amount"),
    }


RESULTS = made()


def check(result: Any) -> str:
    """A page of harmless elements, small, that says what the text says."""
    page = result._repr_html_()
    tags = Tags(page)
    assert tags.found <= PLAIN
    assert tags.attributes <= {"style", "scope", "border", "class", "tabindex", "open", "rowspan"}
    assert len(page) < 40_000
    return str(page)


@pytest.mark.parametrize("name", RESULTS)
def test_pages__escape_what_comes_from_the_data(name: str) -> None:
    """Scripts stay text in every result, and the text form has no control characters."""
    page = check(RESULTS[name])
    if name != "bookings":
        assert "&lt;script&gt;" in page
    assert "\x1b" not in repr(RESULTS[name])


def test_pages_of_plans_and_reports__escape_names(box: Sandbox, df: pd.DataFrame) -> None:
    """The plan, its dry run and its report, with a script in a name."""
    df.loc[df.index[0], ["name", "next_step"]] = EVIL
    assert "&lt;script&gt;" in check(df.opp.changes())
    dry = check(df.opp.write_back(dry_run=True))
    assert "&lt;script&gt;" in dry
    assert "next_step" in dry
    assert "name, next_step" in check(df.opp.write_back())
    assert "60" in check(df.opp.load_report)
    assert "Closed Won" in check(df.opp.stages)


def test_pages__keep_dollar_signs_from_being_mathematics(df: pd.DataFrame) -> None:
    """Notebooks read "$5k to $10k" as a formula, except in preformatted text and where a class forbids it."""
    df.loc[df.index[0], "name"] = "From $5k to $10k"
    plan = [df.opp.changes(), df.opp.write_back(dry_run=True), df.opp.write_back(), df.opp.load_report]
    for result in (*RESULTS.values(), *plan):
        page = result._repr_html_()
        forbidden = page.partition('<div class="mathjax_ignore')[2] or page.partition("<pre>")[2]
        assert "<table>" not in page or "<table>" in forbidden
        assert forbidden


def test_pages_of_doors__name_the_address_and_no_token(box: Sandbox) -> None:
    """Client, sandbox and history say where they are, and nothing secret."""
    with box.client() as client:
        for door in (box, client):
            page = check(door)
            assert box.url in page
            assert box.token not in page
    history = history_in_memory()
    history.record(load_of([{"id": 1, "amount": 5, "stage_id": 1}], 3))
    assert "memory" in check(history)


def test_as_page__is_short() -> None:
    """Ten rows and how many there are; missing cells are empty."""
    page = as_page("head\n  - one\n\n  two", ("many", pd.DataFrame({"a": [None, *range(99)]})))
    assert page.startswith(as_written("<p><b>head</b></p><ul><li>one</li><li>two</li></ul>").removesuffix("</div>"))
    assert "many, first 10 of 100" in page
    assert len(re.findall("<tr>", page)) == 11
    assert "<td style='text-align:left'></td>" in page
    assert as_page("") == as_written("<p><b></b></p>")
