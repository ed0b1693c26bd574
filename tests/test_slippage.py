"""Slippage, pushes and flows between stages."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from histories import LEAD, LOST, OFFER, WON, frame_of, history_in_memory, load_of, moment
from opp_pandas.errors import ConfigurationError, HistoryNeededError
from opp_pandas.figures import pipeline_over_time, waterfall
from opp_pandas.figures.core.snapshots import context_from_load
from opp_pandas.figures.slippage import GONE, NEW, flows, pushes, slippage

DUE = moment(15)
PERIOD = ("2026-01-10", "2026-01-20")


def deal(key: int, **values: Any) -> dict[str, Any]:
    return {
        "id": key,
        "amount": 100,
        "stage_id": LEAD,
        "close_date": DUE,
        "owner_id": 7,
        "created_at": moment(1),
        **values,
    }


def frames(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = ["id", "amount", "stage_id", "close_date", "owner_id", "created_at"]
    return load_of(frame_of(before, columns), 9), load_of(frame_of(after, columns), 21)


def test_slippage__counts_only_open_deals_pushed_behind() -> None:
    """Won, lost, vanished and undated deals did not slip; all but the won one were not closed on time."""
    before = [deal(key, amount=key * 10) for key in range(1, 7)]
    after = [
        deal(1, stage_id=WON), deal(2, stage_id=LOST), deal(3, close_date=moment(30)), deal(4, close_date=None),
        deal(5),
    ]  # fmt: skip
    row = slippage(frames(before, after), period=PERIOD).loc["(all)"]
    assert (row["due_count"], row["slipped_count"], row["won_count"]) == (6, 1, 1)
    assert row["slippage"] == pytest.approx(1 / 6)
    assert row["slippage_value"] == pytest.approx(30 / 210)
    assert row["not_closed_on_time"] == pytest.approx(5 / 6)


def test_slippage__by_owner_at_the_start() -> None:
    """A deal that changed hands counts for the owner who was to close it; nothing due gives no share."""
    before = [deal(1), deal(2, close_date=moment(30), owner_id=9)]
    after = [deal(1, owner_id=9, close_date=moment(30))]
    table = slippage(frames(before, after), period=PERIOD, by="owner_name")
    assert table.loc["Sam Lee", "slippage"] == 1
    assert pd.isna(table.loc["Ana Ito", "slippage"])
    assert list(table.index) == ["Ana Ito", "Sam Lee"]
    nobody = slippage(frames([*before, deal(3, owner_id=None)], after), period=PERIOD, by="owner_name")
    assert nobody.loc["(unassigned)", "due_count"] == 1
    with pytest.raises(HistoryNeededError, match="slippage compares moments"):
        slippage(frames(before, [])[0], period=PERIOD)


def test_pushes__tell_days_from_periods() -> None:
    """A push goes across a quarter's end; a later day in the same quarter is only a moved date."""
    history = history_in_memory()
    dates = [DUE, moment(25), moment("2026-04-10"), moment("2026-03-31"), None, moment("2026-02-01")]
    for day, date in enumerate(dates, 1):
        history.record(load_of([deal(1, close_date=date), deal(2, owner_id=9)], day))
    frame = history.as_of()
    table = pushes(frame, context=context_from_load(frame), history=history, since=moment(1))
    assert dict(table.loc["Sam Lee"]) == {"deals": 1, "date_moves": 2, "pushes": 1, "days_pushed": 85, "pulls": 1}
    assert table.loc["Ana Ito"].sum() == 0
    by_stage = pushes(frame, context=context_from_load(frame), history=history, since=moment(1), by="stage_id")
    assert by_stage.loc[LEAD, "days_pushed"] == 85
    with pytest.raises(HistoryNeededError, match="opp-pandas snapshot"):
        pushes(frame, context=context_from_load(frame), since=moment(1))


@pytest.mark.parametrize("by", [["owner_name"], ("owner_name", "stage_name"), 7])
def test_figures_over_time__take_one_column_to_group_by(by: Any) -> None:
    """Others take a list; these say that they do not."""
    history = history_in_memory()
    for day in (1, 12):
        history.record(load_of([deal(1)], day))
    told: dict[str, Any] = {"context": context_from_load(history.as_of()), "by": by}
    for ask in (
        lambda: waterfall(history, period=PERIOD, **told),
        lambda: slippage(history, period=PERIOD, **told),
        lambda: pushes(history.as_of(), history=history, since=moment(1), **told),
        lambda: pipeline_over_time(history, **told),
        lambda: pipeline_over_time(history, **{**told, "by": None}),
    ):
        with pytest.raises(ConfigurationError, match="by takes one column here"):
            ask()


def test_flows__add_up_to_the_deals() -> None:
    """Every deal that was or is open flows once, with its amount."""
    before = [deal(1), deal(2), deal(3, stage_id=WON), deal(4), deal(6, stage_id=WON)]
    after = [deal(1, stage_id=OFFER, amount=150), deal(2), deal(3, stage_id=WON), deal(5), deal(6)]
    table = flows(frames(before, after)).set_index(["stage_from", "stage_to"])
    assert dict(table["count"]) == {
        ("Lead", "Lead"): 1, ("Lead", "Offer"): 1, ("Lead", GONE): 1, ("Won", "Lead"): 1, (NEW, "Lead"): 1,
    }  # fmt: skip
    assert table.loc[("Lead", "Offer"), "amount"] == 150


def test_slippage__reads_years_that_are_named_after_their_start() -> None:
    """January 2026 is in the last quarter of the year that began in February 2025."""
    after = [deal(1, close_date=moment("2026-03-01"))]
    table = slippage(frames([deal(1)], after), period="2025Q4", fiscal_start=2, fiscal_label="start")
    assert table.loc["(all)", ["due_count", "slipped_count"]].tolist() == [1, 1]
