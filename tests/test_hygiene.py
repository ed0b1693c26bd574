"""Hygiene, ageing, concentration."""

from __future__ import annotations

from typing import Any, get_args

import pandas as pd
import pytest

from opp_pandas.accessor import context_of
from opp_pandas.choices import Check
from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import ageing, concentration, hygiene
from opp_pandas.figures.hygiene import flags_of
from opp_pandas.figures.hygiene_checks import CHECKS
from portfolios import LEAD, LOST, OFFER, WON, context, portfolio, random_portfolio
from worlds import WORLDS, frame_of, generate

CLEAN: dict[str, Any] = {
    "amount": 1_000,
    "probability": 60,
    "close_date": "2026-07-01T00:00Z",
    "created_at": "2026-05-01T00:00Z",
    "touched_at": "2026-06-10T00:00Z",
    "stage_id": OFFER,
    "owner_id": 8,
    "next_step": "call",
}
WON_DEAL = {**CLEAN, "stage_id": WON, "created_at": "2026-03-01T00:00Z", "close_date": "2026-06-10T00:00Z"}
WINS = [WON_DEAL] * 10


def test_checks__are_those_that_editors_offer() -> None:
    """Whoever adds a check names it where type checkers look, too, in the same order."""
    assert get_args(Check) == tuple(CHECKS)


@pytest.mark.parametrize(
    ("check", "change", "words"),
    [
        ("overdue", {"close_date": "2026-06-05T00:00Z"}, "2026-06-05 passed 10 days ago"),
        ("no_close_date", {"close_date": None}, "no close date"),
        ("no_amount", {"amount": None}, "no amount"),
        ("negative_amount", {"amount": -5}, "-5.00"),
        ("no_probability", {"probability": 400}, "400 is not between"),
        ("no_probability", {"probability": None}, "no probability"),
        ("no_next_step", {"next_step": "  "}, "no next step"),
        ("no_owner", {"owner_id": None}, "nobody"),
        ("untouched", {"touched_at": "2026-05-01T00:00Z"}, "45 days (limit 30)"),
        ("old", {"created_at": "2025-06-15T00:00Z"}, "365 days"),
        ("zombie", {"created_at": "2026-03-05T00:00Z"}, "open for 102 days; no deal was ever won after more than 101"),
        ("stage_contradicts", {"probability": 90, "stage_id": LEAD}, "90 %, and the team gives its stage 20 %"),
        ("outlier", {"amount": 9_000_000}, "times the usual"),
        ("far_close_date", {"close_date": "9999-12-31T00:00Z"}, "9999-12-31"),
        ("closed_later", {"stage_id": LOST}, "still ahead"),
        ("closed_before_created", {"stage_id": WON, "close_date": "2026-04-01T00:00Z"}, "negative"),
    ],
)
def test_hygiene__flags_a_deal_with_the_reason_in_words(check: str, change: dict[str, Any], words: str) -> None:
    """One odd deal among clean ones is the one that is flagged."""
    around = [{**CLEAN, "amount": amount} for amount in range(900, 1_100, 10)]
    frame = portfolio([*around, {**CLEAN, **change}, *WINS])
    table = hygiene(frame, context=context(), checks=[check])
    assert table.index.tolist() == [len(around)]
    assert table["checks"].tolist() == [check]
    assert words in table["reasons"].iloc[0]


def test_hygiene__knows_the_zombies_that_a_prediction_counts() -> None:
    """One function says which open deals are older than any that was won; a win that is still ahead teaches nothing."""
    frame = frame_of(generate(WORLDS["zombies"], 4))
    found = hygiene(frame, context=context_of(frame), checks=["zombie"])
    deals = frame.opp.predict(horizon_days=30).deals
    assert len(found) > 20
    assert set(found["custom_id"]) == set(deals.loc[deals["zombie"], "id"])
    old = {**CLEAN, "created_at": "2026-03-05T00:00Z"}
    later = {**WON_DEAL, "created_at": "2020-01-01T00:00Z", "close_date": "2026-09-10T00:00Z"}
    assert len(hygiene(portfolio([old, later, *WINS]), context=context(), checks=["zombie"])) == 1
    few = hygiene(portfolio([old, *WINS[:9]]), context=context(), checks=["zombie"])
    assert "zombie" in few.attrs["opp_basis"]["notes"][-1]


def test_hygiene__a_deal_has_one_row_with_all_its_reasons() -> None:
    """Checks stand in their order, reasons in words beside them; the basis counts each."""
    twice = {**CLEAN, "next_step": None, "owner_id": None, "close_date": "2026-06-01T00:00Z", "name": "Twice"}
    table = hygiene(portfolio([{**CLEAN, "name": "Once", "next_step": None}, twice]), context=context())
    assert table.index.tolist() == [0, 1]
    assert table["name"].tolist() == ["Once", "Twice"]
    assert table["checks"].tolist() == ["no_next_step", "overdue, no_next_step, no_owner"]
    assert table["reasons"].iloc[1].startswith("the close date 2026-06-01 passed 14 days ago; ")
    assert flags_of(table).value_counts().to_dict() == {"no_next_step": 2, "overdue": 1, "no_owner": 1}
    counts = table.attrs["opp_basis"]["counts"]
    assert {name: n for name, n in counts.items() if n} == {"overdue": 1, "no_next_step": 2, "no_owner": 1}


def test_hygiene__clean_portfolio_has_nothing_to_say() -> None:
    """No flags, the same columns; the basis counts every check, those of touches apart."""
    table = hygiene(portfolio([CLEAN] * 12 + WINS), context=context())
    assert len(table) == 0
    assert list(table.columns) == ["id", "amount", "close_date", "checks", "reasons"]
    assert set(table.attrs["opp_basis"]["counts"]) == set(CHECKS) - {"silent", "no_next_meeting"}
    assert len(hygiene(portfolio([CLEAN]).iloc[:0], context=context())) == 0


def test_hygiene__names_owners_from_the_look_up_and_largest_first() -> None:
    """owner_name is the look-up's; amounts fall."""
    rows = [{**CLEAN, "owner_name": "stale", "next_step": None, "amount": amount} for amount in (1, 9, 5)]
    table = hygiene(portfolio(rows), context=context(), checks=["no_next_step"])
    assert table["owner_name"].tolist() == ["Ada Byron"] * 3
    assert table["amount"].tolist() == [9, 5, 1]


def test_hygiene__missing_columns_leave_checks_out_and_say_so() -> None:
    """A bare frame gets the checks that it can have."""
    bare = portfolio([CLEAN])[["id", "amount", "stage_id"]]
    table = hygiene(bare, context=context())
    assert any("next_step" in note for note in table.attrs["opp_basis"]["notes"])
    with pytest.raises(ConfigurationError, match="there is no check"):
        hygiene(bare, context=context(), checks=["mood"])
    with pytest.raises(ConfigurationError, match="stale_days"):
        hygiene(bare, context=context(), stale_days=0)


def test_ageing__days_of_open_deals() -> None:
    """Since creation, since the last event, past the close date; missing stays missing."""
    frame = portfolio([CLEAN, {**CLEAN, "close_date": "2026-06-05T00:00Z", "created_at": None}, *WINS])
    table = ageing(frame, context=context())
    assert table["age_days"].tolist() == [45, pd.NA]
    assert table["idle_days"].tolist() == [5, 5]
    assert table["overdue_days"].tolist() == [0, 10]
    assert table["stage_name"].tolist() == ["Offer", "Offer"]
    assert table["id"].tolist() == [1, 2]
    named = ageing(frame.assign(name="A deal", owner_name="stale"), context=context())
    assert named[["name", "owner_name"]].to_numpy().tolist() == [["A deal", "Ada Byron"]] * 2
    assert ageing(frame.iloc[:0], context=context()).dtypes.to_dict() == table.dtypes.to_dict()


def test_concentration__shares_and_hhi() -> None:
    """Shares add up to 1, HHI is the sum of their squares; omitted and closed deals are outside."""
    rows = [{**CLEAN, "amount": 600, "owner_id": 7}, {**CLEAN, "amount": 400}, {**CLEAN, "stage_id": LOST, "amount": 9}]
    table = concentration(portfolio(rows), context=context(), by="owner_name")
    assert table["share"].tolist() == [0.6, 0.4]
    assert table["cumulative_share"].tolist() == [0.6, 1.0]
    assert table.index.tolist() == ["Sam Lee", "Ada Byron"]
    basis = table.attrs["opp_basis"]
    assert basis["hhi"] == pytest.approx(0.52)
    assert basis["top_shares"] == {"1": 0.6, "5": 1.0, "10": 1.0}
    assert len(concentration(portfolio(rows).iloc[:0], context=context(), by="owner_name")) == 0
    for measure in ("weighted_amount", "won_amount"):
        assert len(concentration(random_portfolio(1), context=context(), by="owner_name", measure=measure))
    with pytest.raises(ConfigurationError, match="measure"):
        concentration(portfolio(rows), context=context(), by="owner_name", measure="luck")


def test_hygiene__of_touches() -> None:
    """Silence and a missing next meeting are flagged where touches are known, and not mentioned elsewhere."""
    deals = [{**CLEAN, "amount": amount} for amount in range(900, 1_100, 10)]
    frame = portfolio([*deals, WON_DEAL])
    plain = hygiene(frame, context=context())
    moments = [pd.Timestamp("2026-06-10T00:00Z")] * 21
    touched = frame.assign(last_touch_at=moments, next_meeting_at=[pd.Timestamp("2026-06-20T00:00Z")] * 21)
    pd.testing.assert_frame_equal(hygiene(touched, context=context()), plain)
    assert "silent" not in str(plain.attrs)
    touched.loc[[2, 3, 20], "last_touch_at"] = [pd.Timestamp("2026-05-05T00:00Z"), pd.NaT, pd.NaT]
    touched.loc[[3, 4, 20], "next_meeting_at"] = [pd.NaT, pd.Timestamp("2026-06-14T00:00Z"), pd.NaT]
    table = hygiene(touched, context=context())
    assert table["checks"].to_dict() == {2: "silent", 3: "silent, no_next_meeting", 4: "no_next_meeting"}
    assert table.loc[2, "reasons"] == "no touch for 41 days (limit 30)"
    assert table.loc[3, "reasons"] == "no touch for 45 days since creation (limit 30); no meeting is planned"
    assert hygiene(frame, context=context(), checks=["silent"]).empty
    aged = ageing(touched, context=context())
    assert aged.loc[[1, 2, 3], "touch_days"].tolist() == [5, 41, pd.NA]
    assert "touch_days" not in ageing(frame, context=context()).columns
