"""Figures of a million deals against bare numpy and against pandas.

Run with ``pytest -m nightly -n0 -s tests/benchmarks/test_bench_figures.py``: each
test prints its ratios, CPU seconds of this process, best of several runs.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from opp_pandas.figures import forecast, stage_distribution
from opp_pandas.figures.core.deals import Deals
from opp_pandas.figures.core.groups import by_stage, combine, read_groups
from opp_pandas.figures.core.periods import resolve_periods
from portfolios import AS_OF, context, random_portfolio

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.nightly
BY = ["owner_id", "category"]


def cpu_s(call: Callable[[], Any], runs: int = 15) -> float:
    """CPU seconds of the fastest run."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


@pytest.fixture(scope="module")
def million() -> pd.DataFrame:
    """A million deals of 200 owners, close dates over a year and a half."""
    rng = np.random.default_rng(0)
    frame = random_portfolio(0, 1_000_000, odd=False)
    return frame.assign(
        owner_id=pd.array(rng.integers(1, 201, len(frame)), dtype="Int64"),
        owner_name=pd.Series([f"Owner {key}" for key in rng.integers(0, 200, len(frame))], dtype="str"),
    )


def as_codes(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({"forecast_category": "category", "owner_name": "category"})


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """A twentieth of the deals without each of six values, and as many omitted and in the trash."""
    gaps = np.random.default_rng(1).random((8, len(frame))) < 0.05
    holes = ["amount", "probability", "close_date", "stage_id", "owner_id", "forecast_category"]
    holed = frame.assign(**{name: frame[name].mask(gap) for name, gap in zip(holes, gaps[:6], strict=True)})
    holed.loc[gaps[6], "forecast_category"] = "Omitted"
    holed.loc[gaps[7], "trashed_at"] = AS_OF
    return holed


COLUMNS = [
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


def with_pandas(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The same nine columns as an ordinary pandas user writes them: a period column and one groupby."""
    is_open, is_won = frame["stage_id"].isin([1, 2]), frame["stage_id"] == 3
    late = frame["close_date"] < AS_OF.normalize()
    amount, weighted = frame["amount"], frame["amount"] * frame["probability"] / 100
    table = frame[by].assign(
        period=frame["close_date"].dt.tz_localize(None).dt.to_period("M"),
        open_count=is_open,
        open_amount=amount.where(is_open, 0),
        weighted_amount=weighted.where(is_open, 0),
        won_count=is_won,
        won_amount=amount.where(is_won, 0),
        forecast_amount=amount.where(is_won & (frame["close_date"] < AS_OF.ceil("D")), 0)
        + weighted.where(is_open & ~late, 0),
        overdue_amount=amount.where(is_open & late, 0),
        missing_amount_count=amount.isna() & (is_open | is_won),
        missing_probability_count=frame["probability"].isna() & is_open,
    )
    return table.groupby(["period", *by], observed=True)[COLUMNS].sum()


@pytest.mark.parametrize(("form", "least"), [("text", 3.0), ("codes", 5.0)])
def test_forecast__beats_groupby_on_a_period_column(million: pd.DataFrame, form: str, least: float) -> None:
    """Month x owner x category: three times as fast on text, five times on columns that are codes already."""
    frame = million if form == "text" else as_codes(million)
    by = ["owner_name", "forecast_category"]
    names = frame.drop(columns="owner_id")
    found, expected = forecast(names, context=context(), freq="M", by=by), with_pandas(names, by)
    for column in COLUMNS:
        np.testing.assert_allclose(found[column].sum(), float(expected[column].sum()), rtol=1e-9)
    ours = cpu_s(lambda: forecast(names, context=context(), freq="M", by=by))
    peer = cpu_s(lambda: with_pandas(names, by), runs=3)
    print(f"\nforecast on {form}: {ours * 1e3:.0f} ms, groupby {peer * 1e3:.0f} ms, {peer / ours:.1f} times faster")
    assert peer / ours >= least


@pytest.mark.parametrize(("form", "most"), [("whole", 3.0), ("with gaps", 6.0)])
def test_forecast__against_bare_bincounts(million: pd.DataFrame, form: str, most: float) -> None:
    """From the frame to the table in three times of what bincounts over ready codes take, one for each column.

    Three times is asked. Where a twentieth of every column is missing, each gap
    has to be found first, which no bincount does: six times.
    """
    frame = as_codes(million if form == "whole" else with_gaps(million))
    deals = Deals(frame, context())
    groups = read_groups(deals, BY)
    codes, _ = combine(groups, len(deals))
    codes += resolve_periods("M").cut(deals.close_day)[0] * math.prod(len(group) for group in groups)
    size = int(codes.max()) + 1
    amount, product = deals.amount, deals.amount * deals.percent

    def bare() -> None:
        for weights in (None, amount, product, None, amount, product, amount, None, None):
            np.bincount(codes, weights, minlength=size)

    ours = cpu_s(lambda: forecast(frame, context=context(), freq="M", by=BY))
    floor = cpu_s(bare)
    print(f"\nforecast {form} {ours * 1e3:.0f} ms, nine bare bincounts {floor * 1e3:.0f} ms: {ours / floor:.1f} times")
    assert ours / floor <= most


@pytest.mark.parametrize(("form", "most"), [("whole", 3.0), ("with gaps", 8.0)])
def test_stage_distribution__against_bare_bincounts(million: pd.DataFrame, form: str, most: float) -> None:
    """The same for the stages, which have four columns: three times is asked, eight is what gaps cost."""
    frame = as_codes(million if form == "whole" else with_gaps(million))
    deals = Deals(frame, context())
    # As numpy wants them: it would turn narrow ones into these at every call.
    codes, amount = by_stage(deals).codes.astype(np.intp), deals.amount

    def bare() -> None:
        for weights in (None, amount, amount, None):
            np.bincount(codes, weights, minlength=8)

    ours = cpu_s(lambda: stage_distribution(frame, context=context()))
    floor = cpu_s(bare)
    print(f"\nstages {form} {ours * 1e3:.0f} ms, four bare bincounts {floor * 1e3:.0f} ms: {ours / floor:.1f} times")
    assert ours / floor <= most


def test_forecast__time_per_row_stays_flat(million: pd.DataFrame) -> None:
    """From 100,000 to a million rows, the time per row rises by no more than a third."""
    per_row = {
        n: cpu_s(lambda n=n: forecast(million.iloc[:n], context=context(), freq="M", by="owner_id")) / n
        for n in (100_000, 1_000_000)
    }
    print("\n" + ", ".join(f"{n:,} rows: {each * 1e9:.0f} ns a row" for n, each in per_row.items()))
    assert per_row[1_000_000] / per_row[100_000] <= 1.33


def as_loaded(frame: pd.DataFrame) -> pd.DataFrame:
    """Text names and types, one currency, and 3 % missing in every column but the id."""
    rng = np.random.default_rng(2)
    kinds = np.array(["New Business", "Expansion", "Renewal"])
    full = frame.assign(
        stage_name=frame["stage_id"].map({1: "Lead", 2: "Offer", 3: "Won", 4: "Lost"}).astype("str"),
        opportunity_type=pd.Series(rng.choice(kinds, len(frame)), dtype="str"),
        currency_type=pd.Series(["USD"] * len(frame), dtype="str"),
        owner_name="Owner " + frame["owner_id"].astype("str"),
    )
    return full.apply(lambda cells: cells if cells.name == "id" else cells.mask(rng.random(len(cells)) < 0.03))


SIX = COLUMNS[:6]


def with_owners(frame: pd.DataFrame, owners: int) -> pd.DataFrame:
    """The same deals of other numbers of people."""
    keys = pd.Series(np.random.default_rng(3).integers(1, owners + 1, len(frame)))
    return frame.assign(
        owner_id=keys.astype("Int64").mask(frame["owner_id"].isna()),
        owner_name=("Owner " + keys.astype("str")).astype("str").mask(frame["owner_name"].isna()),
    )


SHAPES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "as loaded": lambda frame: frame,
    "no ids of people": lambda frame: frame.drop(columns="owner_id"),
    "5 owners": lambda frame: with_owners(frame, 5),
    "5,000 owners": lambda frame: with_owners(frame, 5_000),
    "other order": lambda frame: frame.sample(frac=1, random_state=0),
    "filtered": lambda frame: frame[frame["amount"].gt(0) & (frame["id"] % 5 > 0)],
    "indexed by id": lambda frame: frame.set_index("id", drop=False).sort_index(ascending=False),
}


def as_new(frame: pd.DataFrame) -> pd.DataFrame:
    """The same frame with text that no figure has read yet."""
    every = np.arange(len(frame))
    return frame.assign(
        **{str(name): pd.Series(frame[name].array[every], frame.index) for name in frame.select_dtypes("str")}
    )


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize(("figure", "least"), [("forecast", 2.5), ("stage_distribution", 1.5)])
def test_figures_of_a_load_with_gaps__against_one_groupby(
    million: pd.DataFrame, figure: str, least: float, shape: str
) -> None:
    """Text and gaps in every column: as an ordinary pandas user writes the same sums, runs taken in turn.

    What a first figure reads of text is known to the next: both are shown, and the second must reach what is asked.
    """
    frame = SHAPES[shape](as_loaded(million))
    by = ["owner_name", "opportunity_type"]

    def with_groupby(_: pd.DataFrame) -> None:
        if figure == "forecast":
            with_pandas(frame, by)[SIX]
        else:
            weighted = frame["amount"] * frame["probability"] / 100
            columns = frame[["stage_name"]].assign(
                count=1, amount=frame["amount"], weighted=weighted, missing=frame["amount"].isna()
            )
            columns.groupby("stage_name", dropna=False).sum()

    def ours(deals: pd.DataFrame) -> None:
        if figure == "forecast":
            forecast(deals, context=context(), freq="M", by=by)
        else:
            stage_distribution(deals, context=context())

    best = dict.fromkeys(("groupby", "again", "first"), float("inf"))
    for _ in range(9):
        fresh = as_new(frame)
        for name, call, deals in (("groupby", with_groupby, frame), ("again", ours, frame), ("first", ours, fresh)):
            best[name] = min(best[name], cpu_s(lambda call=call, deals=deals: call(deals), runs=1))
    ratio = {name: best["groupby"] / best[name] for name in ("again", "first")}
    print(
        f"\n{figure} {shape}: groupby {best['groupby'] * 1e3:.0f} ms, first {best['first'] * 1e3:.0f} ms "
        f"({ratio['first']:.2f} x), again {best['again'] * 1e3:.0f} ms ({ratio['again']:.2f} x)"
    )
    assert ratio["again"] >= least
