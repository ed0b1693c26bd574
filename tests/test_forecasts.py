"""The forecast: sums by period and group."""

from __future__ import annotations

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from opp_pandas.errors import (
    ConfigurationError,
    FrameError,
    MissingColumnError,
    MixedCurrencyError,
    UnmappedStageWarning,
)
from opp_pandas.figures import WeekCalendar, forecast
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.stages import StageMap, resolve_stages
from portfolios import AS_OF, LEAD, LOOKUP, LOST, OFFER, STAGE_MAP, USERS, WON, context, portfolio, random_portfolio

COLUMNS = [
    "period_start",
    "period_end",
    "open_count",
    "open_amount",
    "weighted_amount",
    "won_count",
    "won_amount",
    "forecast_amount",
    "overdue_amount",
    "missing_amount_count",
    "missing_probability_count",
]
DEALS: list[dict[str, Any]] = [
    {"amount": 100, "probability": 50, "close_date": "2026-06-20T12:00Z", "stage_id": LEAD, "owner_id": 7},
    {"amount": 200, "probability": 25, "close_date": "2026-06-01T12:00Z", "stage_id": OFFER, "owner_id": 9},
    {"amount": 400, "probability": 90, "close_date": "2026-05-01T12:00Z", "stage_id": WON, "owner_id": 7},
    {"amount": 800, "probability": 90, "close_date": "2026-06-29T12:00Z", "stage_id": WON, "owner_id": 8},
    {"amount": 999, "probability": 10, "close_date": "2026-06-02T12:00Z", "stage_id": LOST, "owner_id": 8},
    {"amount": None, "probability": 10, "close_date": "2026-06-30T12:00Z", "stage_id": LEAD, "owner_id": None},
    {"amount": 50, "probability": None, "close_date": "2026-08-01T12:00Z", "stage_id": LEAD, "owner_id": 8},
    {"amount": 30, "probability": 10, "close_date": None, "stage_id": LEAD, "owner_id": 8},
]


def basis(table: pd.DataFrame) -> dict[str, Any]:
    return table.attrs["opp_basis"]


def test_forecast__sums_each_deal_where_definitions_say() -> None:
    """Overdue deals are weighted but not forecast; won later is won but not forecast; nothing missing is 0."""
    table = forecast(portfolio(DEALS), context=context())
    assert list(table.columns) == COLUMNS
    assert [str(period) for period in table.index] == ["2026Q2", "2026Q3", "NaT"]
    assert table.iloc[0].drop(["period_start", "period_end"]).to_dict() == {
        "open_count": 3,
        "open_amount": 300.0,
        "weighted_amount": 100.0,
        "won_count": 2,
        "won_amount": 1200.0,
        "forecast_amount": 450.0,
        "overdue_amount": 200.0,
        "missing_amount_count": 1,
        "missing_probability_count": 0,
    }
    assert table["weighted_amount"].tolist() == [100.0, 0.0, 3.0]
    assert table["missing_probability_count"].tolist() == [0, 1, 0]
    assert (table["period_start"].iloc[0], table["period_end"].iloc[0]) == (
        pd.Timestamp("2026-04-01"),
        pd.Timestamp("2026-06-30"),
    )
    assert isinstance(table.index, pd.PeriodIndex)
    assert table.index.name == "period"


@pytest.mark.parametrize(
    ("overdue", "expected"), [("exclude", [450, 0, 3]), ("include", [500, 0, 3]), ("roll_forward", [500, 0, 3])]
)
def test_forecast__overdue_is_a_choice(overdue: Any, expected: list[float]) -> None:
    """Left out, in its own period, or in the present one; every other column stays."""
    table = forecast(portfolio(DEALS), context=context(), overdue=overdue)
    assert table["forecast_amount"].tolist() == expected
    pd.testing.assert_frame_equal(
        table.drop(columns="forecast_amount"),
        forecast(portfolio(DEALS), context=context()).drop(columns="forecast_amount"),
        check_flags=False,
    )


def test_forecast__roll_forward_moves_overdue_deals_into_the_present_period() -> None:
    """By month, the deal of May lands in June, which has a row for it even if nothing else is there."""
    late = portfolio([{"amount": 200, "probability": 25, "close_date": "2026-05-01T12:00Z", "stage_id": OFFER}])
    table = forecast(late, context=context(), freq="M", overdue="roll_forward")
    assert table["forecast_amount"].to_dict() == {pd.Period("2026-05", "M"): 0.0, pd.Period("2026-06", "M"): 50.0}
    assert table["weighted_amount"].tolist() == [50.0, 0.0]
    assert any("overdue" in note for note in basis(table)["notes"])


def test_forecast__two_people_of_one_name_are_two_rows() -> None:
    """Groups stand on the id; the name comes from the look-up, not from the stale column."""
    frame = portfolio([{**row, "owner_name": "stale" if row["owner_id"] else None} for row in DEALS])
    table = forecast(frame, context=context(), by="owner_name")
    people = table.loc["2026Q2"].index
    assert people.tolist() == ["Ada Byron", "Sam Lee (id 7)", "Sam Lee (id 9)", "(unassigned)"]
    assert table.index.names == ["period", "owner_name"]


def test_forecast__names_alone_will_do() -> None:
    """A frame without owner ids is grouped by name; a row without a name is unassigned."""
    frame = portfolio(DEALS).drop(columns="owner_id").assign(owner_name=["B", "a", "B", None, "a", "a", "a", "a"])
    table = forecast(frame, context=context(), by="owner_name", freq="Y")
    assert table.loc["2026"].index.tolist() == ["a", "B", "(unassigned)"]


def test_forecast__name_without_id_joins_the_one_person_of_that_name() -> None:
    """A row with a name only belongs to the id of that name, if there is exactly one."""
    rows = [{**DEALS[0], "owner_id": 8, "owner_name": "x"}, {**DEALS[0], "owner_id": None, "owner_name": "Ada Byron"}]
    table = forecast(portfolio(rows), context=context(), by="owner_name")
    assert table.index.get_level_values(1).tolist() == ["Ada Byron"]


def test_forecast__the_word_for_missing_is_missing() -> None:
    """Exported groups that come back are the group of deals without a value, not a second one of that name."""
    for column, word in (("region", "(missing)"), ("owner_name", "(unassigned)")):
        rows = [{**DEALS[0], "owner_id": None, column: text} for text in (word, None, "x", "~")]
        frame = portfolio(rows)
        table = forecast(frame, context=context(users=None), by=column, quota={word: 5})
        counts = table.droplevel("period")["open_count"]
        assert counts.to_dict() == {"x": 1, "~": 1, word: 2}
        assert counts.index.is_unique


def test_forecast__timezone_decides_the_period() -> None:
    """Half an hour before midnight UTC at the quarter's end is the next quarter in Berlin."""
    frame = portfolio([{"amount": 1, "probability": 50, "close_date": "2026-06-30T23:30Z", "stage_id": LEAD}])
    assert str(forecast(frame, context=context(timezone="Europe/Berlin")).index[0]) == "2026Q3"
    unstated = forecast(frame, context=context(timezone=None))
    assert str(unstated.index[0]) == "2026Q2"
    assert basis(unstated)["n_near_period_end"] == 1
    assert basis(unstated)["timezone_stated"] is False


def test_forecast__trashed_and_omitted_are_counted_not_summed() -> None:
    """A trashed deal is nowhere; an omitted one is in counts only."""
    rows = [
        {**DEALS[0], "trashed_at": "2026-01-01T00:00Z", "forecast_category": None},
        {**DEALS[0], "trashed_at": None, "forecast_category": "Omitted"},
        {**DEALS[0], "trashed_at": None, "forecast_category": "Commit"},
    ]
    table = forecast(portfolio(rows), context=context())
    assert table["open_count"].tolist() == [2]
    assert table["open_amount"].tolist() == [100.0]
    assert (basis(table)["n_trashed"], basis(table)["n_omitted"]) == (1, 1)


def test_forecast__unmapped_closed_stage_is_loud_and_outside() -> None:
    """A closed stage that nobody called won or lost is neither open nor lost; it warns with its name."""
    stages = resolve_stages(StageMap(won=["Won"], lost=["Lost"]), LOOKUP)
    frame = portfolio([DEALS[0], {**DEALS[0], "stage_id": 5}, {**DEALS[0], "stage_id": 77}])
    with pytest.warns(UnmappedStageWarning, match=r"Parked \(1\)"):
        table = forecast(frame, context=context(stages=stages))
    assert table["open_count"].tolist() == [1]
    assert basis(table)["n_unsettled"] == 2


def test_told_of_unmapped_stages__silences_its_own_thread_alone() -> None:
    """A widget that is answered beside a cell must not take the cell's warnings away."""
    figure = partial(forecast, portfolio([{**DEALS[0], "stage_id": 77}]), context=context())
    with ThreadPoolExecutor(1) as other, suppress_unmapped_stages():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure()
        with pytest.warns(UnmappedStageWarning):
            other.submit(figure).result()
    with pytest.warns(UnmappedStageWarning):
        figure()


def test_forecast__deals_without_a_stage_are_open_and_counted() -> None:
    """No stage at all is open; the basis says how many."""
    table = forecast(portfolio([{**DEALS[0], "stage_id": None}]), context=context())
    assert table["open_count"].tolist() == [1]
    assert any("without a stage" in note for note in basis(table)["notes"])


def test_forecast__stage_names_will_do() -> None:
    """An adopted frame has stage names only; the id decides where both stand."""
    frame = portfolio(DEALS).drop(columns="stage_id").assign(stage_name="Offer")
    assert forecast(frame, context=context())["open_count"].sum() == len(DEALS)
    both = portfolio([{**DEALS[0], "stage_name": "Lost"}, {**DEALS[0], "stage_id": None, "stage_name": "Won"}])
    assert forecast(both, context=context())[["open_count", "won_count"]].iloc[0].tolist() == [1, 1]


def test_forecast__several_currencies_are_refused_with_their_counts() -> None:
    """Two currencies, or one beside rows that name none, cannot be added."""
    rows = [{**DEALS[0], "currency_type": code} for code in ("USD", "EUR", "usd", None)]
    with pytest.raises(MixedCurrencyError) as caught:
        forecast(portfolio(rows), context=context(currency=None))
    assert caught.value.counts == {"USD": 2, "EUR": 1, "(missing)": 1}
    assert basis(forecast(portfolio(rows[:1]), context=context()))["currency"] == "USD"
    # What is trashed, or has no amount, is in no sum and so in no currency's way.
    rows[1] |= {"amount": None}
    assert forecast(portfolio(rows[:3]), context=context())["open_count"].tolist() == [3]


def test_forecast__exact_amounts_count_unless_the_whole_one_was_edited() -> None:
    """amount_precise brings the cents; where amount is another number, somebody edited it, and it counts."""
    rows = [{**DEALS[0], "amount_precise": text} for text in ("100.25", "99.60", "777.00", "nonsense", None)]
    table = forecast(portfolio(rows), context=context())
    assert table["open_amount"].tolist() == [pytest.approx(100.25 + 99.60 + 100 + 100 + 100, abs=1e-9)]
    assert any("amount_precise" in note for note in basis(table)["notes"])


@pytest.mark.parametrize(
    ("source", "expected", "counts"),
    [("own", 50.0, (1, 0, 2)), ("stage", 20 + 20 + 60, (0, 3, 0)), ("own_else_stage", 50 + 20 + 60, (1, 2, 0))],
)
def test_forecast__probability_is_own_or_the_stages(source: Any, expected: float, counts: tuple[int, ...]) -> None:
    """The basis counts whose percentages were used; one outside 0 to 100 is missing."""
    rows = [DEALS[0], {**DEALS[0], "probability": None}, {**DEALS[0], "probability": 101, "stage_id": OFFER}]
    table = forecast(portfolio(rows), context=context(), probability=source)
    assert table["weighted_amount"].tolist() == [expected]
    used = basis(table)["probability"]
    assert (used["own"], used["stage"], used["missing"]) == counts
    assert used["invalid"] == 1


def test_forecast__quota_as_number_mapping_and_frame() -> None:
    """Attainment, gap and to-go coverage; a group with a quota and no deals has a row."""
    frame = portfolio(DEALS)
    table = forecast(frame, context=context(), quota=1000)
    first = table.iloc[0]
    assert first[["quota", "attainment", "gap", "gap_to_forecast"]].tolist() == [1000, 1.2, 0.0, 550.0]
    assert first["coverage"] == pytest.approx(300 / 600)
    assert table["quota"].isna().tolist() == [False, False, True]
    by_person = forecast(frame, context=context(), by="owner_name", quota={"Ada Byron": 800, 7: 100})
    assert by_person.loc[(pd.Period("2026Q3", "Q-DEC"), "Sam Lee (id 7)"), ["open_count", "gap"]].tolist() == [0, 100]
    assert np.isinf(by_person.loc[(pd.Period("2026Q2", "Q-DEC"), "Sam Lee (id 7)"), "coverage"])
    stated = pd.DataFrame({"period": ["2026Q4"], "group": ["Ada Byron"], "quota": [5.0]})
    later = forecast(frame, context=context(), by="owner_name", quota=stated)
    assert later.loc[(pd.Period("2026Q4", "Q-DEC"), "Ada Byron"), ["open_count", "quota", "gap"]].tolist() == [0, 5, 5]
    assert later["quota"].notna().sum() == 1
    by_period = forecast(frame, context=context(), quota={"2026Q3": 70})
    assert by_period["quota"].tolist()[1] == 70
    assert basis(by_person)["arguments"]["quota"] == {"Ada Byron": 800, "7": 100}


def test_forecast__quota_of_a_period_without_deals_has_its_row() -> None:
    """What was to be won is there to be missed; a period written wrongly shows, too."""
    table = forecast(portfolio(DEALS), context=context(), quota={"2026Q3": 70, "2027Q1": 90})
    assert table.loc[pd.Period("2027Q1", "Q-DEC"), ["open_count", "won_count", "quota", "gap"]].tolist() == [
        0,
        0,
        90,
        90,
    ]
    assert table["quota"].sum() == 160


def test_forecast__a_quota_for_everybody_counts_where_somebody_has_no_deal() -> None:
    """Three people and nobody's deals, a number each: the quotas of every quarter add up to the same."""
    table = forecast(portfolio(DEALS), context=context(), by="owner_name", quota=100)
    dated = table[table.index.get_level_values("period").notna()]
    assert dated["quota"].groupby("period").sum().tolist() == [400, 400]
    idle = dated.loc[(pd.Period("2026Q3", "Q-DEC"), "Sam Lee (id 7)")]
    assert idle[["open_count", "won_amount", "attainment", "gap"]].tolist() == [0, 0, 0, 100]
    assert table["open_amount"].sum() == forecast(portfolio(DEALS), context=context())["open_amount"].sum()


@pytest.mark.parametrize(
    ("quota", "words"),
    [
        ({"Ada Byrom": 1}, "did you mean 'Ada Byron'"),
        ({"Sam Lee": 1}, "fits 2 groups"),
        ({"Ada Byron": 1, 8: 2}, "'Ada Byron', '8' are the same"),
        ({("2026Q2", "Ada Byron"): 1}, "fits no group"),
        (pd.DataFrame({"period": ["2026Q2"], "group": [pd.NA], "quota": [1]}), "<NA> fits no group"),
        ({"Ada Byron": -1}, "0 or more"),
        ({"Ada Byron": "lots"}, "0 or more"),
        (pd.DataFrame({"period": ["2026Q2"] * 2, "group": ["Ada Byron"] * 2, "quota": [1, 2]}), "twice"),
        (pd.DataFrame({"period": ["then"], "group": ["Ada Byron"], "quota": [1]}), "not a period"),
    ],
)
def test_forecast__quota_that_fits_nothing_is_an_error(quota: Any, words: str) -> None:
    """A key that fits no group, or two, names the candidates."""
    with pytest.raises(ConfigurationError, match=words):
        forecast(portfolio(DEALS), context=context(), by="owner_name", quota=quota)


def test_forecast__quota_of_one_period_twice_is_an_error() -> None:
    """A quarter written in two ways, or named by two of its days, has no two quotas."""
    quota = {"2026Q3": 70, pd.Timestamp("2026-08-01"): 90}
    with pytest.raises(ConfigurationError, match="are the same"):
        forecast(portfolio(DEALS), context=context(), quota=quota)


def test_forecast__quota_frame_needs_its_columns() -> None:
    """A quota frame without period or quota says what is missing."""
    with pytest.raises(MissingColumnError, match="quota"):
        forecast(portfolio(DEALS), context=context(), quota=pd.DataFrame({"period": ["2026Q2"]}))


@pytest.mark.parametrize("by", [None, "owner_name", ["owner_name", "category"]])
@pytest.mark.parametrize("quota", [None, 100.0])
def test_forecast__empty_frame_has_the_same_columns_and_dtypes(by: Any, quota: float | None) -> None:
    """No deals: no rows, everything else alike."""
    frame = random_portfolio(1)
    full = forecast(frame, context=context(), by=by, quota=quota)
    empty = forecast(frame.iloc[:0], context=context(), by=by, quota=quota)
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert empty.index.names == full.index.names
    assert empty.index.nlevels == full.index.nlevels
    if by is None:
        assert empty.index.dtype == full.index.dtype


@pytest.mark.parametrize("options", [{}, {"freq": "M"}, {"freq": "Y", "fiscal_start": 2, "fiscal_label": "start"}])
def test_forecast__index_is_the_one_that_pandas_makes_of_its_labels(options: dict[str, Any]) -> None:
    """Built from places, not from the labels of all rows, it holds the same levels in the same order."""
    frame = random_portfolio(seed=1)
    frame.loc[frame.index[:9], "close_date"] = pd.NaT
    index = forecast(frame, context=context(), by=["owner_name", "stage_name"], **options).index
    made = pd.MultiIndex.from_arrays([index.get_level_values(k) for k in range(3)], names=index.names)
    assert index.identical(made)
    assert all(own.identical(other) for own, other in zip(index.levels, made.levels, strict=True))
    assert [codes.tolist() for codes in index.codes] == [codes.tolist() for codes in made.codes]


def test_forecast__week_calendar_has_text_labels() -> None:
    """4-4-5 periods are labelled in text; the missing one is missing."""
    table = forecast(portfolio(DEALS), context=context(), fiscal_start=2, calendar=WeekCalendar())
    assert table.index.tolist()[:2] == ["FY2027-Q1", "FY2027-Q2"]
    assert pd.isna(table.index[-1])


@pytest.mark.parametrize("column", ["amount", "close_date", "stage_id"])
def test_forecast__missing_column_is_named(column: str) -> None:
    """A frame without a needed column says which."""
    with pytest.raises(MissingColumnError, match=column):
        forecast(portfolio(DEALS).drop(columns=column), context=context())


def test_forecast__optional_columns_may_lack() -> None:
    """Without a probability column nothing is weighted, and the basis says why."""
    table = forecast(portfolio(DEALS).drop(columns="probability"), context=context())
    assert table["weighted_amount"].sum() == 0
    assert table["missing_probability_count"].sum() == basis(table)["n_open"]
    assert any("no probability column" in note for note in basis(table)["notes"])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"by": "owner"}, MissingColumnError, "owner_id"),
        ({"by": 5}, MissingColumnError, "no column 5"),
        ({"by": [("owner_id", "name")]}, MissingColumnError, r"no column \('owner_id', 'name'\)"),
        ({"by": ["owner_id", "owner_id"]}, ConfigurationError, "twice"),
        ({"by": "period"}, ConfigurationError, "index already"),
        ({"overdue": "maybe"}, ConfigurationError, "roll_forward"),
        ({"probability": "gut"}, ConfigurationError, "own_else_stage"),
        ({"calendar": "4-4-5"}, ConfigurationError, "WeekCalendar"),
    ],
)
def test_forecast__bad_arguments_are_named(change: dict[str, Any], error: type[Exception], words: str) -> None:
    """Each error says what fits."""
    with pytest.raises(error, match=words):
        forecast(portfolio(DEALS), context=context(), **change)


def test_forecast__bad_values_are_named_with_their_rows() -> None:
    """Text in amount and lists as groups are refused, with row or remedy."""
    frame = portfolio(DEALS)
    texts = frame.assign(amount=pd.Series(["1", "lots", *[None] * 6], dtype="str"))
    with pytest.raises(FrameError, match="rows 0, 1"):
        forecast(texts, context=context())
    for odd in ([1, 2], b"1", 1j, True, {"EUR": 1}):
        for column in ("amount", "probability"):
            mixed = frame.assign(**{column: pd.Series([5, odd, *[None] * 6], dtype=object)})
            with pytest.raises(FrameError, match="rows 1 hold something else"):
                forecast(mixed, context=context())
    with pytest.raises(ConfigurationError, match="explode"):
        forecast(frame.assign(tags=[["a"]] * len(frame)), context=context(), by="tags")
    arrow = pd.Series([["a"]] * len(frame), dtype=pd.ArrowDtype(pa.list_(pa.string())))
    with pytest.raises(ConfigurationError, match="explode"):
        forecast(frame.assign(tags=arrow), context=context(), by="tags")
    doubled = pd.concat([frame, frame[["amount"]]], axis=1)
    with pytest.raises(FrameError, match="stand twice"):
        forecast(doubled, context=context())


def test_forecast__any_index_and_any_column_dtype_will_do() -> None:
    """Duplicate labels, categoricals, floats and decimals give the same sums."""
    from decimal import Decimal

    frame = random_portfolio(4)
    expected = forecast(frame, context=context(), by="owner_id")
    other = frame.assign(
        amount=[None if pd.isna(value) else Decimal(int(value)) for value in frame["amount"]],
        probability=frame["probability"].astype("Float64"),
        owner_id=frame["owner_id"].astype("category"),
        forecast_category=frame["forecast_category"].astype("category"),
    )
    other.index = pd.Index([0] * len(other))
    found = forecast(other, context=context(), by="owner_id")
    assert found.to_numpy().tolist() == expected.to_numpy().tolist()


@pytest.mark.parametrize("dtype", ["float64", "Float64", "double[pyarrow]", "object"])
@pytest.mark.parametrize("others", [1.0, None])
def test_forecast__amounts_without_an_end_are_named(dtype: str, others: float | None) -> None:
    """Every sum that they enter would be infinite, or no number at all."""
    frame = random_portfolio(4, 3)
    for odd in (np.inf, -np.inf):
        endless = frame.assign(amount=pd.Series([others, 2.0, odd], dtype=dtype))
        with pytest.raises(FrameError, match="rows 2 are infinite"):
            forecast(endless, context=context())


@pytest.mark.parametrize("column", ["amount", "probability"])
def test_forecast__decimals_of_a_parquet_file_are_numbers(column: str) -> None:
    """With pyarrow's own dtype, whether or not one is missing."""
    from decimal import Decimal

    for frame in (random_portfolio(4), random_portfolio(4, odd=False)):
        texts = [None if pd.isna(value) else Decimal(int(value)) for value in frame[column]]
        exact = frame.assign(**{column: pd.Series(texts, dtype=pd.ArrowDtype(pa.decimal128(12, 2)))})
        found = forecast(exact, context=context())
        pd.testing.assert_frame_equal(found, forecast(frame, context=context()))


def test_forecast__result_carries_its_basis_and_nothing_of_the_load() -> None:
    """The basis is JSON; attrs of the frame do not come along; the frame is as it was."""
    frame = random_portfolio(5)
    frame.attrs["opp"] = "a load"
    before = frame.copy(deep=True)
    table = forecast(frame, context=context(), by=["owner_name", "category"], quota=10.0)
    assert list(table.attrs) == ["opp_basis"]
    assert json.loads(json.dumps(basis(table))) == basis(table)
    assert basis(table)["as_of"] == AS_OF.isoformat()
    assert basis(table)["stages"]["won"] == ["Won"]
    pd.testing.assert_frame_equal(frame, before)


def test_forecast__guessed_stages_are_said() -> None:
    """Won and lost from names alone: the basis says that they are guesses."""
    table = forecast(portfolio(DEALS), context=context(stages=resolve_stages(None, LOOKUP.iloc[:4])))
    assert any("guessed" in note for note in basis(table)["notes"])


def test_context__needs_a_moment_a_zone_and_a_stage_table() -> None:
    """Each part of the context is checked when it is made."""
    with pytest.raises(ConfigurationError, match="as_of"):
        context(as_of="2026-01-01")
    with pytest.raises(ConfigurationError, match="no time zone"):
        context(timezone="Mars/Base")
    with pytest.raises(ConfigurationError, match="StageTable"):
        context(stages=STAGE_MAP)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="FigureContext"):
        forecast(portfolio(DEALS), context=None)  # type: ignore[arg-type]
    assert len(USERS) == 3
