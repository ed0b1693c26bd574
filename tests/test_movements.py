"""The waterfall balances, its won bar is the bookings, and every bar opens to its deals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opp_pandas as opp
from histories import LEAD, LOOKUP, LOST, OFFER, QUALIFY, WON, frame_of, history_in_memory, load_of, moment
from opp_pandas.errors import (
    ConfigurationError,
    FrameError,
    HistoryNeededError,
    MixedCurrencyError,
    OppPandasError,
)
from opp_pandas.figures.core.snapshots import context_from_load
from opp_pandas.figures.waterfall_bars import BUCKETS, ENTRIES, EXITS, LABELS
from opp_pandas.figures.waterfall_interval import assert_identity
from opp_pandas.figures.waterfalls import waterfall, waterfall_deals

W = ("2026-01-10", "2026-01-20")
INSIDE, BEFORE, BEHIND = moment(15), moment(5), moment(25)
START, END = moment(9), moment(21)
OLD = moment(1)


def deal(key: int, **values: Any) -> dict[str, Any]:
    return {
        "id": key, "name": f"deal {key}", "amount": 100, "stage_id": LEAD, "close_date": INSIDE, "created_at": OLD,
        "owner_id": 7, "forecast_category": None, **values,
    }  # fmt: skip


def pair(before: list[dict[str, Any]], after: list[dict[str, Any]], **more: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = ["id", "name", "amount", "stage_id", "close_date", "created_at", "owner_id", "currency_type"]
    frames = [frame_of([{**row} for row in rows], columns) for rows in (before, after)]
    return load_of(frames[0], START, **more), load_of(frames[1], END, **more)


CASES: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, dict[str, float]]] = {
    "unchanged": (deal(1), deal(1), {}),
    "increased": (deal(1), deal(1, amount=130), {"increased": 30}),
    "decreased": (deal(1), deal(1, amount=60), {"decreased": -40}),
    "removed": (deal(1), None, {"removed": -100}),
    "won": (deal(1), deal(1, stage_id=WON), {"won": -100}),
    "won for more": (deal(1), deal(1, stage_id=WON, amount=150), {"increased": 50, "won": -150}),
    "lost": (deal(1), deal(1, stage_id=LOST), {"lost": -100}),
    "undated": (deal(1), deal(1, close_date=None), {"undated": -100}),
    "pushed out": (deal(1), deal(1, close_date=BEHIND), {"pushed_out": -100}),
    "pulled out": (deal(1), deal(1, close_date=BEFORE), {"pulled_out": -100}),
    "won outside": (deal(1), deal(1, stage_id=WON, close_date=BEHIND), {"pushed_out": -100}),
    "created": (None, deal(1, created_at=moment(12)), {"created": 100}),
    "appeared": (None, deal(1), {"appeared": 100}),
    "reopened": (deal(1, stage_id=LOST), deal(1, amount=80), {"reopened": 100, "decreased": -20}),
    "dated": (deal(1, close_date=None), deal(1), {"dated": 100}),
    "pulled in": (deal(1, close_date=BEHIND), deal(1), {"pulled_in": 100}),
    "pushed in": (deal(1, close_date=BEFORE), deal(1), {"pushed_in": 100}),
    "round trip": (None, deal(1, stage_id=WON, created_at=moment(12)), {"created": 100, "won": -100}),
    "from behind and won": (
        deal(1, close_date=BEHIND), deal(1, stage_id=WON, amount=120), {"pulled_in": 100, "increased": 20, "won": -120},
    ),
    "lost, then won": (deal(1, stage_id=LOST), deal(1, stage_id=WON), {"reopened": 100, "won": -100}),
    "won before": (deal(1, stage_id=WON), deal(1, stage_id=WON), {}),
    "nothing to do with it": (deal(1, close_date=BEHIND), deal(1, close_date=BEFORE), {}),
    "without amount": (deal(1, amount=None), deal(1, amount=None, stage_id=WON), {"won": 0}),
    "amount found": (deal(1, amount=None), deal(1), {"increased": 100}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_waterfall__gives_each_move_one_reason(case: str) -> None:
    """Every case of the definition stands in the bar that it names, with its value."""
    before, after, expected = CASES[case]
    table = waterfall(pair([before] if before else [], [after] if after else []), period=W)
    moved = table[(table["count"] > 0) & ~table.index.isin(["start", "end"])]
    assert dict(moved["amount"]) == expected
    assert list(table.index) == list(BUCKETS)


@pytest.mark.parametrize("changed", [{"id": "str"}, {"name": "category"}, {"id": "float64", "name": "object"}])
def test_waterfall__moments_may_keep_a_column_in_other_dtypes(changed: dict[str, str]) -> None:
    """Ids that one file kept as text are the same deals, and each moment has categories of its own."""
    before, after = pair([deal(1), deal(2), deal(3)], [deal(1, amount=130), deal(2, close_date=BEHIND), deal(4)])
    contexts = context_from_load(before), context_from_load(after)
    expected = waterfall((before, after), period=W, context=contexts)
    for frames in ((before.astype(changed), after), (before, after.astype(changed))):
        found = waterfall(frames, period=W, context=contexts)
        pd.testing.assert_frame_equal(found, expected)
        names = waterfall_deals(frames, period=W, context=contexts, bucket="removed")["name"].tolist()
        assert names == ["deal 3"]


def test_waterfall__opens_every_bar_to_its_deals() -> None:
    """The rows behind a bar add up to it."""
    frames = pair(
        [deal(1), deal(2), deal(3, close_date=BEHIND)],
        [deal(1, amount=150, stage_id=WON), deal(2, close_date=BEHIND), deal(3), deal(4, created_at=moment(12))],
    )
    table, moves = waterfall(frames, period=W), waterfall_deals(frames, period=W)
    pd.testing.assert_series_equal(
        moves.groupby("bucket")["amount"].sum().reindex(table.index).fillna(0.0), table["amount"], check_names=False
    )
    won = waterfall_deals(frames, period=W, bucket="won")
    assert list(won["name"]) == ["deal 1"]
    assert (won["amount_before"][0], won["amount_after"][0]) == (100, 150)
    with pytest.raises(ConfigurationError, match="no bar 'one'"):
        waterfall_deals(frames, period=W, bucket="one")


def test_waterfall__counts_the_amounts_that_each_bar_lacks() -> None:
    """An amount that was taken away is missing at the end, and one that was put in was missing at the start."""
    frames = pair(
        [deal(1), deal(2, amount=None), deal(3, amount=None), deal(4, amount=None, close_date=BEHIND), deal(5)],
        [
            deal(1, amount=None),
            deal(2),
            deal(3, amount=None),
            deal(4),
            deal(5),
            deal(6, created_at=moment(12), amount=None),
        ],
    )
    table = waterfall(frames, period=W)
    lacking = table.loc[table["n_missing_amount"] > 0, "n_missing_amount"]
    assert lacking.to_dict() == {"start": 2, "created": 1, "pulled_in": 1, "increased": 2, "decreased": 1, "end": 3}
    assert (table["n_missing_amount"] <= table["count"]).all()


def test_waterfall__a_deal_that_changes_hands_leaves_and_comes() -> None:
    """By owner, each owner's own start and end balance; two owners of one name stay two."""
    frames = pair([deal(1), deal(2, owner_id=9)], [deal(1, owner_id=9, stage_id=WON), deal(2, owner_id=9)])
    table = waterfall(frames, period=W, by="owner_name")
    assert table.loc[("Sam Lee", "scope_out"), "amount"] == -100
    assert table.loc[("Ana Ito", "scope_in"), "amount"] == 100
    assert table.loc[("Ana Ito", "won"), "amount"] == -100
    assert table.loc[("Sam Lee", "end"), "amount"] == 0


def test_waterfall__scope_is_a_bar() -> None:
    """What comes under a filter or leaves it is told apart from everything else."""
    frames = pair([deal(1), deal(2, owner_id=9)], [deal(1, owner_id=9), deal(2)])
    table = waterfall(frames, period=W, scope=lambda frame: frame["owner_id"] == 7)
    assert table.loc["scope_in", "amount"] == 100
    assert table.loc["scope_out", "amount"] == -100
    with pytest.raises(ConfigurationError, match="one truth value for each"):
        waterfall(frames, period=W, scope=lambda _: [True])


@pytest.mark.parametrize("labels", ["outreach", "gong", "salesforce"])
def test_labels__add_up_to_the_same(labels: Any) -> None:
    """Other names group the bars; start, end and the sum of all stay."""
    frames = pair(
        [deal(1), deal(2)], [deal(1, stage_id=WON), deal(3, created_at=moment(12)), deal(2, close_date=BEHIND)]
    )
    plain, other = waterfall(frames, period=W), waterfall(frames, period=W, labels=labels)
    assert set(other.index) == set(LABELS[labels].values())
    for bucket in BUCKETS:
        together = [name for name in BUCKETS if LABELS[labels][name] == LABELS[labels][bucket]]
        assert other.loc[LABELS[labels][bucket], "amount"] == plain.loc[together, "amount"].sum()
        # Each bar opens to its deals under the name that it bears.
        behind = waterfall_deals(frames, period=W, labels=labels, bucket=LABELS[labels][bucket])
        assert len(behind) == other.loc[LABELS[labels][bucket], "count"]
        assert behind["amount"].sum() == other.loc[LABELS[labels][bucket], "amount"]


def test_rates__stand_in_a_bar_of_their_own() -> None:
    """Amounts move at the rates of the start; what the rates did to the end is one bar."""
    rates = opp.figures.ExchangeRates(
        pd.DataFrame({"currency": "EUR", "start": ["2026-01-01", "2026-01-20"], "rate": [1.0, 1.5]}), "USD"
    )
    before, after = pair([deal(1, currency_type="EUR")], [deal(1, currency_type="EUR", amount=120)])
    table = waterfall((before, after), period=W, rates=rates)
    assert dict(table.loc[["start", "increased", "fx", "end"], "amount"]) == {
        "start": 100, "increased": 20, "fx": 60, "end": 180,
    }  # fmt: skip
    mixed = pair([deal(1, currency_type="EUR"), deal(2, currency_type="USD")], [])
    with pytest.raises(MixedCurrencyError):
        waterfall(mixed, period=W)
    with pytest.raises(FrameError, match=r"no exchange rate into USD.*GBP"):
        waterfall(pair([deal(1, currency_type="GBP")], []), period=W, rates=rates)


def test_waterfall__namesakes_who_never_meet_are_two_groups() -> None:
    """Nobody's deals at one moment are those of both, and still each has a waterfall of their own."""
    users = pd.DataFrame({"id": [7, 9], "name": ["Sam Lee", "Sam Lee"]})
    lookups = {"opportunityStage": LOOKUP, "user": users}
    both = pair([deal(1, owner_id=7)], [deal(1, owner_id=9), deal(2, owner_id=9)], lookups=lookups)
    table = waterfall(both, period=W, by="owner_name")
    assert table.xs("end", level="bucket")["count"].to_dict() == {"Sam Lee (id 9)": 2, "Sam Lee (id 7)": 0}
    assert table.loc[("Sam Lee (id 7)", "start"), "count"] == 1


def test_path__shows_moves_that_cancel_out() -> None:
    """Day by day, a deal that was pushed out and pulled in again stands in both bars; the ends agree."""
    history = history_in_memory()
    history.record(load_of([deal(1)], 9))
    history.record(load_of([deal(1, close_date=BEHIND)], 12))
    history.record(load_of([deal(1, amount=140)], 15))
    ends = waterfall(history, period=W, since=moment(9), until="2026-01-16")
    path = waterfall(history, period=W, since=moment(9), until="2026-01-16", method="path")
    assert dict(ends["amount"][ends["count"] > 0]) == {"start": 100, "increased": 40, "end": 140}
    assert dict(path["amount"][path["count"] > 0]) == {
        "start": 100, "pulled_in": 100, "increased": 40, "pushed_out": -100, "end": 140,
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match="needs a History"):
        waterfall(pair([deal(1)], [deal(1)]), period=W, method="path")


def test_path__ends_at_the_instant_it_is_asked_for() -> None:
    """What happened later on that day, and came back, is in no bar; days are those of the load's zone."""
    history = history_in_memory()
    west = {"timezone": "America/Los_Angeles"}
    history.record(load_of([deal(1)], moment("2026-01-10T06:00"), **west))
    history.record(load_of([deal(1, amount=700)], moment("2026-01-12T20:00"), **west))
    until = moment("2026-01-12T03:00")
    table = waterfall(history, period=W, since=moment("2026-01-10T06:00"), until=until, method="path")
    assert dict(table["amount"][table["count"] > 0]) == {"start": 100, "end": 100}
    # 10 January in Los Angeles ends at 08:00 UTC of the 11th, 9 January at 08:00 UTC of the 10th.
    assert table.attrs["opp_basis"]["arguments"]["steps"] == 3


def test_waterfall__days_begin_in_the_zone_of_the_context() -> None:
    """15 January ends in Auckland before a deal grows at noon UTC, and in the load's Los Angeles after it."""
    history = history_in_memory()
    west = {"timezone": "America/Los_Angeles"}
    history.record(load_of([deal(1)], 12, **west))
    history.record(load_of([deal(1, amount=130)], moment("2026-01-15T12:00"), **west))
    own = context_from_load(load_of([], 12, **west))
    for zone, grown in (("America/Los_Angeles", 30), ("Pacific/Auckland", 0)):
        context = replace(own, timezone=zone)
        table = waterfall(history, period=W, since="2026-01-13", until="2026-01-15", context=context)
        assert table.loc["increased", "amount"] == grown


def test_waterfall__scope_leaves_out_what_it_cannot_tell() -> None:
    """Where the amount is missing, so is amount > 50: such a deal is in nobody's scope."""
    both = pair([deal(1), deal(2, amount=None)], [deal(1), deal(2, amount=90)])
    table = waterfall(both, period=W, scope=lambda frame: frame["amount"] > 50)
    assert table["count"][table["count"] > 0].to_dict() == {"start": 1, "scope_in": 1, "increased": 1, "end": 2}


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (lambda frame: frame["amount"], "must give truth values, not"),
        (lambda frame: frame["name"], "must give truth values, not"),
        ("amount > 50", "scope= is a function from frame to mask, or a mask of the frame, not str"),
    ],
)
def test_waterfall__scope_must_tell_true_from_false(scope: Any, words: str) -> None:
    """A column of texts or numbers is no choice of rows."""
    with pytest.raises(ConfigurationError, match=words):
        waterfall(pair([deal(1)], [deal(1)]), period=W, scope=scope)


def test_waterfall__scope_made_of_sorted_rows_means_the_same_deals() -> None:
    """As in ``df.loc[mask]``."""
    both = pair([deal(1), deal(2, amount=90)], [deal(1), deal(2, amount=90)])
    table = waterfall(both, period=W, scope=lambda frame: frame.sort_values("amount")["amount"] > 95)
    assert table.loc["end", "amount"] == 100


def test_waterfall__goes_from_the_earlier_to_the_later_moment() -> None:
    """A waterfall backwards would call what was won reopened."""
    history = history_in_memory()
    history.record(load_of([deal(1)], 12))
    for method in ("ends", "path"):
        with pytest.raises(ConfigurationError, match="since= comes after until="):
            waterfall(history, period=W, since="2026-01-16", until="2026-01-13", method=method)  # type: ignore[arg-type]


def test_path__a_new_deal_is_new_though_seen_the_next_night() -> None:
    """A deal is first seen some time after its creation; it appeared only if it was created before the start."""
    history = history_in_memory()
    history.record(load_of([deal(1)], "2026-01-09T05:00"))
    history.record(load_of([deal(1)], "2026-01-10T05:00"))
    late, new = deal(2, created_at=moment("2026-01-09T03:00")), deal(3, created_at=moment("2026-01-10T15:00"))
    history.record(load_of([deal(1), late, new], "2026-01-11T05:00"))
    for method in ("ends", "path"):
        table = waterfall(history, period=W, since=moment("2026-01-09T05:00"), until="2026-01-12", method=method)  # type: ignore[arg-type]
        assert table.loc[["created", "appeared"], "count"].tolist() == [1, 1]


def test_waterfall__of_a_quarter_takes_its_own_days() -> None:
    """Without since and until, a history is read from the day before the period to its last day."""
    history = history_in_memory()
    history.record(load_of([deal(1, close_date=moment("2026-02-10"))], moment("2025-12-20")))
    history.record(load_of([deal(1, close_date=moment("2026-02-10"), stage_id=WON)], moment("2026-02-11")))
    table = waterfall(history, period="2026Q1")
    assert dict(table["amount"][table["count"] > 0]) == {"start": 100, "won": -100}
    assert table.attrs["opp_basis"]["period"] == "2026Q1"


def test_waterfall__without_history_says_how_to_start() -> None:
    """One frame cannot be compared with itself."""
    frame = load_of([deal(1)], START)
    with pytest.raises(HistoryNeededError, match="opp-pandas snapshot"):
        waterfall(frame, period=W)
    with pytest.raises(ConfigurationError, match="two frames"):
        waterfall((frame,), period=W)
    with pytest.raises(ConfigurationError, match="ends before it begins"):
        waterfall((frame, frame), period=("2026-02-01", "2026-01-01"))
    with pytest.raises(FrameError, match="stands twice: 1"):
        waterfall((load_of([deal(1), deal(1)], START), frame), period=W)


DEALS = st.fixed_dictionaries(
    {
        "amount": st.sampled_from([None, 0, -20, 1, 7, 100, 101, 10**9]),
        "stage_id": st.sampled_from([None, LEAD, QUALIFY, OFFER, WON, LOST]),
        "close_date": st.sampled_from([None, INSIDE, BEFORE, BEHIND, moment(10), moment(20)]),
        "created_at": st.sampled_from([None, OLD, moment(12)]),
        "owner_id": st.sampled_from([None, 7, 9]),
    }
)
PORTFOLIOS = st.lists(st.tuples(st.none() | DEALS, st.none() | DEALS), max_size=8)


def check_portfolio(portfolio: list[tuple[dict[str, Any] | None, dict[str, Any] | None]]) -> None:
    before = [{"id": key, **first} for key, (first, _) in enumerate(portfolio) if first]
    after = [{"id": key, **second} for key, (_, second) in enumerate(portfolio) if second]
    frames = pair(before, after)
    for scope in (None, lambda frame: (frame["owner_id"] == 7).fillna(False).to_numpy(dtype=bool)):
        table = waterfall(frames, period=W, scope=scope)
        amounts, counts = table["amount"], table["count"]
        middle = [name for name in BUCKETS if name not in ("start", "end")]
        assert np.isclose(amounts["start"] + amounts[middle].sum(), amounts["end"], rtol=0, atol=1e-6)
        assert counts["start"] + counts[list(ENTRIES)].sum() - counts[list(EXITS)].sum() == counts["end"]
        assert -amounts["won"] == bookings(frames, scope)
        assert amounts["start"] == open_amount(frames[0], scope)
        assert amounts["end"] == open_amount(frames[1], scope)


def chosen(row: Any, scope: Any) -> bool:
    day = row["close_date"]
    inside = not pd.isna(day) and pd.Timestamp(W[0], tz="UTC") <= day < pd.Timestamp(W[1], tz="UTC") + pd.Timedelta(
        days=1
    )
    return bool(inside and (scope is None or (not pd.isna(row["owner_id"]) and row["owner_id"] == 7)))


def bookings(frames: tuple[pd.DataFrame, pd.DataFrame], scope: Any) -> float:
    """Won in the period at the end and not at the start, told row by row."""
    won = [
        {
            row["id"]: row
            for row in frame.to_dict("records")
            if row["stage_id"] is not pd.NA and row["stage_id"] == WON and chosen(row, scope)
        }
        for frame in frames
    ]
    return float(
        sum(0 if pd.isna(row["amount"]) else row["amount"] for key, row in won[1].items() if key not in won[0])
    )


def open_amount(frame: pd.DataFrame, scope: Any) -> float:
    """Open deals of the period, told row by row."""
    return float(
        sum(
            row["amount"]
            for row in frame.to_dict("records")
            if not pd.isna(row["amount"])
            and (pd.isna(row["stage_id"]) or row["stage_id"] not in (WON, LOST))
            and chosen(row, scope)
        )
    )


@settings(max_examples=100)
@given(PORTFOLIOS)
def test_waterfall__balances_on_any_portfolio(portfolio: Any) -> None:
    """Start plus the bars is end, won is the bookings, start and end are the open pipeline."""
    check_portfolio(portfolio)


@pytest.mark.nightly
@settings(max_examples=3_200)
@given(PORTFOLIOS)
def test_waterfall__balances_on_thousands_of_portfolios(portfolio: Any) -> None:
    """The same on more than 3,000 random portfolios."""
    check_portfolio(portfolio)


def test_identity__broken_is_an_error_that_says_by_how_much() -> None:
    """Moves that do not add up never become a table: neither with a wrong amount nor with a lost deal."""
    names = ["start", "start", "won", "end"]
    moves = pd.DataFrame({"bucket": names, "amount": [100.0, 40.0, -40.0, 100.0], "owner": "a"})
    assert_identity(moves, None)
    with pytest.raises(OppPandasError, match=r"does not balance by \[0.0\]"):
        assert_identity(pd.concat([moves, moves.iloc[[0]].assign(amount=0.0)]), None)
    with pytest.raises(OppPandasError, match=r"does not balance by \[5.0\]"):
        assert_identity(moves.assign(amount=[105.0, 40.0, -40.0, 100.0]), "owner")


def test_waterfall__reads_years_that_are_named_after_their_start() -> None:
    """From November to January is the last quarter of the year that began in February 2025."""
    frames = pair([deal(1)], [deal(1, stage_id=WON)])
    named, usual = (
        waterfall(frames, period=period, fiscal_start=2, fiscal_label=label)
        for period, label in (("2025Q4", "start"), ("2026Q4", "end"))
    )
    pd.testing.assert_frame_equal(named, usual, check_flags=False)
    assert named.loc["won", "amount"] == -100
    assert named.attrs["opp_basis"]["period"] == "2025Q4"
