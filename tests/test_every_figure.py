"""Every registered figure, plot, report section and command, in the situations that organisations are in.

Each situation is resolved a second time in plain Python, before anything of the
package sees it (rows chosen, amounts converted, currencies filled in), and the
figure of that must be the same. A figure that is registered later is here by
itself; if it needs an argument that nobody gives yet, it says so.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import opp_pandas as opp
from histories import LEAD, LOST, OFFER, QUALIFY, STAGE_MAP, WON, history_in_memory, load_of, moment
from opp_pandas import errors, figures, plotting
from opp_pandas.cli import main
from opp_pandas.cli.registry import COMMANDS
from opp_pandas.figures.core.context import DEFINITIONS
from opp_pandas.figures.core.figure import FIGURES, PLOTS
from opp_pandas.reporting.build import assemble
from opp_pandas.reporting.sections import SECTIONS

SNAPSHOTS = (2, 33, 61, 92)
NOW = 93
WEEKS = figures.WeekCalendar((4, 4, 5), "SUN", "last")
ARGUMENTS: dict[str, Any] = {
    "scenarios": {"half": figures.scale(amount=0.5)},
    "target": "ever",
    "times": [moment(3), moment(34)],
    "period": "2026Q2",
    "since": moment(3),
}
"""What is given for arguments that a figure cannot do without, by their names."""
assert plotting.alt_text  # the plots are registered when plotting is imported

# id, owner, amount, percent, close day, and from which day on in which stage
DEALS: list[tuple[int, int, int, int, int, dict[int, int]]] = [
    (1, 7, 100, 50, 100, {1: LEAD, 40: OFFER}),
    (2, 7, 240, 20, 120, {1: LEAD}),
    (3, 9, 300, 80, 70, {1: LEAD, 30: OFFER, 70: WON}),
    (4, 9, 80, 40, 75, {20: LEAD, 75: LOST}),
    (5, 7, 60, 90, 40, {1: QUALIFY, 40: WON}),
    (6, 9, 500, 60, 130, {35: LEAD, 60: QUALIFY}),
    (7, 7, 20, 10, 50, {1: LEAD, 50: LOST}),
    (8, 9, 160, 70, 20, {1: OFFER, 20: WON}),
    (9, 7, 700, 30, 80, {40: QUALIFY}),
    (10, 9, 90, 60, 200, {62: LEAD}),
]
Row = dict[str, Any]


def rows_at(day: int, change: Callable[[Row], Row | None] = lambda row: row) -> list[Row]:
    """The deals as they were on a day, after a change in plain Python; None leaves a deal out."""
    found = []
    for key, owner, amount, percent, close, path in DEALS:
        if min(path) > day:
            continue
        row = {
            "id": key, "name": f"Deal {key}", "owner_id": owner, "amount": amount, "probability": percent,
            "close_date": None if key == 10 else moment(close), "created_at": moment(min(path)),
            "updated_at": moment(min(day, NOW)), "currency_type": "USD",
            "stage_id": path[max(start for start in path if start <= day)],
        }  # fmt: skip
        changed = change(row)
        if changed is not None:
            found.append(changed)
    return found


def history_of(change: Callable[[Row], Row | None] = lambda row: row, **more: Any) -> opp.History:
    made = history_in_memory()
    for day in SNAPSHOTS:
        made.record(load_of(rows_at(day, change), day, **more))
    return made


def work_out(name: str, frame: pd.DataFrame, history: opp.History, **options: Any) -> Any:
    """Compute a figure of a frame with the least that it needs."""
    method = getattr(frame.opp, name)
    parameters = inspect.signature(method).parameters
    needed = [p.name for p in parameters.values() if p.default is p.empty]
    missing = [argument for argument in needed if argument not in ARGUMENTS]
    assert not missing, f"ARGUMENTS says nothing for {missing} of {name}"
    given = {argument: ARGUMENTS[argument] for argument in needed}
    return method(**{**given, **usual(parameters, history)}, **options)


def usual(parameters: Mapping[str, inspect.Parameter], history: opp.History) -> dict[str, Any]:
    """What these deals need beside: their history, and a grouping that they have."""
    given: dict[str, Any] = {}
    if "history" in parameters:
        given = {name: ARGUMENTS[name] for name in ("times", "since") if name in parameters} | {"history": history}
    if "by" in parameters and parameters["by"].default == "account_name":
        given["by"] = "owner_name"
    return given


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(
            pd.DataFrame(found), pd.DataFrame(expected), check_flags=False, check_dtype=False, check_index_type=False
        )
    else:
        assert found.mean == pytest.approx(expected.mean)
        assert found.sd == pytest.approx(expected.sd)


Situation = tuple[pd.DataFrame, opp.History, pd.DataFrame, opp.History, dict[str, Any]]


def narrowed() -> Situation:
    """Rows chosen in pandas, beside rows chosen before anything was loaded."""

    def only(row: Row) -> Row | None:
        return row if row["id"] % 2 else None

    frame = load_of(rows_at(NOW), NOW)
    chosen, plain = frame[frame["id"] % 2 == 1], load_of(rows_at(NOW, only), NOW)
    plain.index = chosen.index
    return chosen, history_of(), plain, history_of(only), {}


def conditions() -> Situation:
    """A load with conditions beside one of deals chosen in plain Python."""

    def only(row: Row) -> Row | None:
        return row if row["owner_id"] == 7 else None

    query = {"filter": {"owner": 7}, "where": None, "limit": None}
    plain = load_of(rows_at(NOW, only), NOW)
    return load_of(rows_at(NOW, only), NOW, query=query), history_of(), plain, history_of(only), {}


def currencies() -> Situation:
    """Euros at two dollars beside amounts that are dollars already."""

    def euros(row: Row) -> Row:
        return {**row, "currency_type": "EUR"} if row["id"] % 3 == 0 else row

    def dollars(row: Row) -> Row:
        return {**row, "amount": row["amount"] * 2} if row["id"] % 3 == 0 else row

    stated = {"definitions": {"rates": {"EUR": 2.0}, "currency": "USD"}}
    frame = load_of(rows_at(NOW, euros), NOW, **stated)
    return frame, history_of(euros, **stated), load_of(rows_at(NOW, dollars), NOW), history_of(dollars), {}


def missing_currency() -> Situation:
    """A currency that is missing beside one that is filled in."""

    def unnamed(row: Row) -> Row:
        return {**row, "currency_type": None} if row["id"] in (1, 6) else row

    return load_of(rows_at(NOW, unnamed), NOW), history_of(unnamed), load_of(rows_at(NOW), NOW), history_of(), {}


def fiscal() -> Situation:
    """A fiscal year from February stated with the load beside one stated in the call."""
    frame = load_of(rows_at(NOW), NOW, definitions={"fiscal_start": 2, "fiscal_label": "start"})
    return frame, history_of(), load_of(rows_at(NOW), NOW), history_of(), {"fiscal_start": 2, "fiscal_label": "start"}


def weeks() -> Situation:
    """4-4-5 stated with the load beside the same in the call."""
    frame = load_of(rows_at(NOW), NOW, definitions={"calendar": WEEKS})
    return frame, history_of(), load_of(rows_at(NOW), NOW), history_of(), {"calendar": WEEKS}


def past() -> Situation:
    """A moment in the past, beside a load that was made then."""
    then = load_of(rows_at(NOW), 80)
    return load_of(rows_at(NOW), 80), history_of(), then, history_of(), {}


def deleted() -> Situation:
    """A deal that was deleted since: the present is that of those who are left."""

    def kept(row: Row) -> Row | None:
        return row if row["id"] != 9 else None

    made = history_in_memory()
    for day in SNAPSHOTS:
        made.record(load_of(rows_at(day, kept if day == SNAPSHOTS[-1] else lambda row: row), day))
    return load_of(rows_at(NOW, kept), NOW), made, load_of(rows_at(NOW, kept), NOW), history_of(kept), {}


SITUATIONS = {
    "rows chosen in pandas": narrowed, "a load with conditions": conditions, "two currencies": currencies,
    "a missing currency": missing_currency, "a fiscal year from February": fiscal, "weeks of 4-4-5": weeks,
    "a moment in the past": past, "a deal deleted since": deleted,
}  # fmt: skip
PREPARED: dict[str, Situation] = {}
NEEDS_MONTHS = {"backtest", "backtest_forecasts"}
"""Figures of whole past periods, which this history has as months."""
NEEDS_MANY = {"fit_win_model"}
"""What needs more closed deals than there are here, and says so; on enough of them its own tests try it."""


def prepared(name: str) -> Situation:
    if name not in PREPARED:
        PREPARED[name] = SITUATIONS[name]()
    return PREPARED[name]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", FIGURES)
def test_figure__in_a_situation_is_what_plain_python_makes_of_it(name: str, situation: str) -> None:
    """The same table where the situation was resolved before."""
    frame, history, plain, plain_history, options = prepared(situation)
    period = {"period": "2026Q1"} if "period" in inspect.signature(getattr(frame.opp, name)).parameters else {}
    own: dict[str, Any] = {"freq": "M"} if name in NEEDS_MONTHS else {}
    if situation == "a moment in the past":
        own["as_of"] = moment(61)
        plain = load_of(rows_at(NOW), 61)
    if situation == "weeks of 4-4-5":
        period = dict.fromkeys(period, "FY2026-Q1")
    ARGUMENTS["period"] = period.get("period")
    if name in NEEDS_MANY:
        with pytest.raises(errors.FrameError, match="to learn from"):
            work_out(name, frame, history, **own)
        return
    found = work_out(name, frame, history, **own)
    expected = work_out(name, plain, plain_history, **{key: value for key, value in own.items() if key != "as_of"},
                        **options)  # fmt: skip
    if situation == "a deal deleted since" and FIGURES[name].over_time:
        # What was deleted is part of the past; that the present is as it should be, tests of each figure show.
        assert found.attrs.get("opp_basis", {}).get("n_not_judged", 0) == 0
        return
    assert_same(found, expected)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", PLOTS)
def test_plot__in_a_situation_says_what_it_shows(name: str, situation: str) -> None:
    """Axes with words that hold numbers, the heading first."""
    frame, history, *_ = prepared(situation)
    ARGUMENTS["period"] = "FY2026-Q1" if situation == "weeks of 4-4-5" else "2026Q1"
    if PLOTS[name].figure.name in NEEDS_MANY:
        with pytest.raises(errors.FrameError, match="to learn from"):
            work_out_plot(name, frame, history)
        return
    quota = {"quota": 1_000} if name == "coverage" else {}
    axes = work_out_plot(name, frame, history, **quota)
    assert any(letter.isdigit() for letter in axes.alt_text), axes.alt_text


def work_out_plot(name: str, frame: pd.DataFrame, history: opp.History, **options: Any) -> Any:
    draw = getattr(frame.opp.plot, name)
    parameters = inspect.signature(draw).parameters
    given = {p.name: ARGUMENTS[p.name] for p in parameters.values() if p.default is p.empty}
    return draw(**{**given, **usual(parameters, history)}, **options)


@pytest.mark.parametrize("situation", [name for name in SITUATIONS if name != "a deal deleted since"])
def test_report__in_a_situation_is_what_plain_python_makes_of_it(situation: str) -> None:
    """Every section: the same figures as where the situation was resolved before."""
    frame, history, plain, plain_history, options = prepared(situation)
    pages = []
    for deals, known, more in ((frame, history, {}), (plain, plain_history, options)):
        given: dict[str, Any] = {"history": known, **more}
        context = deals.opp._context(given)
        given.pop("history")
        asked: dict[str, Any] = {"quota": 1_000, "by": "owner_id", "sections": [*SECTIONS, "undated"]}
        made = assemble(deals, context=context, history=known, **asked)
        pages.append([table for section in made.sections for table in section.figures])
    for found, expected in zip(*pages, strict=True):
        if isinstance(expected, pd.DataFrame) and "owner_name" not in expected.columns:
            assert_same(found, expected)


@pytest.mark.parametrize("name", COMMANDS)
def test_command__that_reads_deals_takes_every_definition(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Periods and money are said in the same words everywhere, and mean the same as in a notebook."""
    with pytest.raises(SystemExit):
        main([name, "--help"])
    usage = capsys.readouterr().out
    if "--from" not in usage:
        return
    missing = [option for option in DEFINITIONS if f"--{option.replace('_', '-')}" not in usage]
    assert not missing
    source = tmp_path / "deals.csv"
    deals = pd.DataFrame(rows_at(NOW)).drop(columns=["owner_id", "updated_at"]).rename(columns={"id": "custom_id"})
    deals["stage_name"] = deals.pop("stage_id").map({1: "Lead", 2: "Qualify", 3: "Offer", 4: "Won", 5: "Lost"})
    deals.loc[::3, "currency_type"] = "EUR"
    deals.loc[1, "currency_type"] = None
    deals.to_csv(source, index=False)
    mapped = tmp_path / "map.json"
    mapped.write_text(json.dumps({"columns": {}, "probability_unit": "percent"}))
    words = ["--from", str(source), "--map", str(mapped), "--won", "Won", "--lost", "Lost", "--as-of", "2026-04-03",
             "--timezone", "UTC", "--rates", "EUR=2", "--currency", "USD", "--fiscal-start", "2", "--json"]  # fmt: skip
    target = {"load": "deals.parquet", "report": "page.html"}.get(name)
    words += ["-o", str(tmp_path / target)] if target else []
    words += ["--history", str(tmp_path / "history")] if name == "snapshot" else []
    assert main([name, *words]) == 0
    said = json.loads(capsys.readouterr().out)
    if "rows" in said and name == "forecast":
        frame = opp.adopt(pd.read_csv(source), probability_unit="percent", stages=STAGE_MAP, timezone="UTC",
                          as_of="2026-04-03", currency="USD", rates={"EUR": 2.0}, fiscal_start=2)  # fmt: skip
        expected = frame.opp.forecast()["open_amount"].tolist()
        assert [row["open_amount"] for row in said["rows"]] == expected
        doubled = [row["amount"] * (2 if place % 3 == 0 else 1) for place, row in enumerate(rows_at(NOW))]
        still = [row["stage_id"] not in (WON, LOST) for row in rows_at(NOW)]
        assert sum(expected) == sum(amount for amount, is_open in zip(doubled, still, strict=True) if is_open)


def test_figure__states_what_its_numbers_mean() -> None:
    """The page of definitions is built from the figures: each states a formula of its numbers."""
    assert [name for name, figure in FIGURES.items() if not figure.definitions] == []


def test_figure_registered_later__is_everywhere_by_itself() -> None:
    """A figure in a file of its own: method, help, signature, plot and explanation."""

    def late(frame: pd.DataFrame, *, context: figures.FigureContext, least: int = 0) -> pd.DataFrame:
        """Count the deals.

        Parameters
        ----------
        frame : DataFrame
            Opportunities.
        context : FigureContext
            What it stands on.
        least : int, default 0
            No less than this.

        Returns
        -------
        DataFrame
        """
        return pd.DataFrame({"n": [max(len(frame), least)]})

    made = figures.core.figure.figure(heading="Late")(late)
    try:
        frame = load_of(rows_at(NOW), NOW)
        assert frame.opp.late(least=100)["n"].tolist() == [100]
        assert "late" in dir(frame.opp)
        assert {"least", "rates", "as_of"} <= set(inspect.signature(frame.opp.late).parameters)
        assert "frame" not in inspect.signature(frame.opp.late).parameters
        assert "least : int" in frame.opp.late.__doc__
        assert "context" not in frame.opp.late.__doc__
        with pytest.raises(TypeError, match="leest"):
            frame.opp.late(leest=1)
    finally:
        FIGURES.pop(made.name)


def test_undated__counts_and_explains_open_deals_without_a_date() -> None:
    """The recipe's figure: its number, and the deal behind it."""
    frame = load_of(rows_at(NOW), NOW)
    table = frame.opp.undated()
    assert table.index.tolist() == ["Ana Ito"]
    assert table.iloc[0].tolist() == [1, 90.0, 54.0]
    found = frame.opp.explain(table, column="weighted_amount", at="Ana Ito")
    assert (found.rows["id"].tolist(), found.rows["contribution"].sum()) == ([10], 54.0)


def test_currencies__several_without_a_named_one_are_an_error() -> None:
    """Only where several occur and none was named, a missing currency stops a figure."""

    def mixed(row: Row) -> Row:
        return {**row, "currency_type": {1: None, 2: "EUR"}.get(row["id"], "USD")}

    frame = load_of(rows_at(NOW, mixed), NOW)
    with pytest.raises(errors.MixedCurrencyError):
        frame.opp.forecast()
    with pytest.raises(errors.FrameError, match="no exchange rate"):
        frame.opp.forecast(rates={"EUR": 2.0, "USD": 1.0})
    assert frame.opp.forecast(rates={"EUR": 2.0}, currency="USD")["open_amount"].sum() > 0


def test_missing_currency__is_counted_and_said() -> None:
    """The basis counts the deals and names what was taken."""
    frame, *_ = missing_currency()
    basis: Mapping[str, Any] = frame.opp.forecast().attrs["opp_basis"]
    assert basis["n_missing_currency"] == 2
    assert "2 deals without a currency, taken as USD" in basis["notes"]
