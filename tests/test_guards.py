"""Edits that look like other deals' values hold the plan back; ordinary edits do not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.changes.plan import ChangeSet
from opp_pandas.errors import ConfirmationNeededError

if TYPE_CHECKING:
    from pathlib import Path

Edit = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module", params=[0, 1, 2])
def frame(request: pytest.FixtureRequest) -> pd.DataFrame:
    """120 deals of three seeds, with missing cells in every column that may have them."""
    with opp.sandbox(opportunities=120, seed=request.param, now="2026-10-20T15:00:00Z") as box:
        return opp.read_opportunities(box.client(), fields=None)


def edited(change: Callable[[pd.DataFrame], object]) -> Edit:
    """Make an edit in place of a function that changes a copy."""

    def edit(df: pd.DataFrame) -> pd.DataFrame:
        df = df.copy()
        change(df)
        return df

    return edit


def rows_swapped(df: pd.DataFrame) -> None:
    columns = ["name", "amount", "close_date", "description"]
    df.loc[[3, 8], columns] = df.loc[[8, 3], columns].to_numpy()


def pieced_together(df: pd.DataFrame) -> None:
    for place, column in enumerate(["name", "amount", "close_date"]):
        alone = df.index[df[column].notna() & ~df[column].duplicated(keep=False) & (df.index > 5)]
        df.loc[5, column] = df.loc[alone[5 * place], column]


def created_at_turned(df: pd.DataFrame) -> None:
    df.loc[:49, "created_at"] = df.loc[:49, "created_at"].to_numpy()[::-1]
    df.loc[100, "next_step"] = "Call"


AGGREGATES: dict[str, Edit] = {
    "last by owner": lambda df: df.groupby("owner_name").last(),
    "first by stage": lambda df: df.groupby("stage_name").first(),
    "last as a column": lambda df: df.groupby("stage_name", as_index=False).last(),
    "first by owner and stage": lambda df: df.groupby(["owner_name", "stage_name"]).first(),
    "last of open deals": lambda df: df[~df["stage_is_closed"].fillna(False)].groupby("owner_name").last(),
    "largest by owner": lambda df: df.groupby("owner_name")[["id", "amount", "close_date", "created_at"]].max(),
    "sum with the last id": lambda df: df.groupby("owner_name").agg({"id": "last", "amount": "sum"}),
    "last by month": lambda df: df.set_index("close_date").resample("ME").last(),
    "mean with the last id": lambda df: df.groupby("owner_name").agg({"id": "last", "amount": "mean"}).round(),
    "two deals mixed up": edited(rows_swapped),
    "a deal pieced together": edited(pieced_together),
    "half of created_at of another order": edited(created_at_turned),
}


@pytest.mark.parametrize("name", AGGREGATES)
def test_aggregate__holds_the_whole_plan_back(frame: pd.DataFrame, name: str) -> None:
    """Nothing is sent without a confirmation, and the reason says what it looks like."""
    plan = find(AGGREGATES[name](frame), frame)
    if not plan.updates:
        assert not len(plan)  # every row contradicts its own id
        return
    assert plan.confirmation_reason() == plan.suspicion
    assert re.search("group|index|right row|contradicts", plan.suspicion)


def find(df: pd.DataFrame, frame: pd.DataFrame) -> ChangeSet:
    """Compare, with what was loaded attached where pandas lost it."""
    if not df.attrs:
        df.attrs = dict(frame.attrs)
    plan: ChangeSet = df.opp.changes()
    return plan


def one_won(df: pd.DataFrame) -> None:
    won = df.loc[df["stage_name"] == "Closed Won"].iloc[0]
    df.loc[df["stage_name"] != "Closed Won", ["stage_name"]] = df["stage_name"]
    place = df.index[df["stage_name"] == "Discover"][0]
    df.loc[place, "stage_name"] = "Closed Won"
    df.loc[place, "probability"] = 100
    df.loc[place, "close_date"] = won["close_date"]


def from_a_spreadsheet(df: pd.DataFrame) -> None:
    random = np.random.default_rng(7)
    rows = random.choice(len(df), 12, replace=False)
    df.loc[rows, "amount"] = random.integers(1, 100, 12) * 1000
    df.loc[rows, "next_step"] = random.choice(df["next_step"].dropna().to_numpy(), 12)
    days = pd.to_datetime(random.choice(["2026-12-31", "2027-03-31", "2027-06-30"], 12), utc=True)
    df.loc[rows, "close_date"] = days.as_unit("us")


def steps_of_one_deal_each(df: pd.DataFrame) -> pd.DataFrame:
    few = df.drop_duplicates("owner_name").copy()
    steps = df["next_step"].dropna().unique()
    few["next_step"] = [steps[place % len(steps)] for place in range(len(few))]
    return few


def one_step_each(df: pd.DataFrame) -> pd.DataFrame:
    few = df.loc[df.groupby("owner_name")["amount"].idxmax().dropna()].copy()
    few["amount"] = few["amount"] * 11 // 10
    return few


ORDINARY: dict[str, Edit] = {
    "nothing": lambda df: df.copy(),
    "one stage for many": edited(
        lambda df: df.__setitem__("stage_name", df["stage_name"].replace("Discover", "Propose"))
    ),
    "two cells of one deal": edited(lambda df: df.loc.__setitem__((5, ["probability", "next_step"]), [75, "Call"])),
    "one deal won": edited(one_won),
    "two amounts swapped": edited(
        lambda df: df.loc.__setitem__(([3, 8], "amount"), df.loc[[8, 3], "amount"].to_numpy())
    ),
    "fillna in several columns": lambda df: df.fillna(
        {"amount": 0, "probability": 10, "next_step": "to do", "description": ""}
    ),
    "fillna with the mean": edited(lambda df: df.__setitem__("amount", df["amount"].fillna(int(df["amount"].mean())))),
    "one column copied": edited(lambda df: df.__setitem__("custom11", df["name"])),
    "the next step as description": edited(lambda df: df.__setitem__("description", df["next_step"])),
    "ten percent more": edited(lambda df: df.__setitem__("amount", df["amount"] * 11 // 10)),
    "rounded amounts": edited(lambda df: df.__setitem__("amount", df["amount"] // 10_000 * 10_000)),
    "a month later": edited(lambda df: df.__setitem__("close_date", df["close_date"] + pd.Timedelta(days=30))),
    "all at the end of the quarter": edited(
        lambda df: df.__setitem__("close_date", df["close_date"].dt.normalize() + pd.offsets.QuarterEnd(0))
    ),
    "names in capitals": edited(lambda df: df.__setitem__("name", df["name"].str.upper())),
    "percent by stage": edited(
        lambda df: df.__setitem__("probability", df["stage_order"].map(lambda order: int(order) * 10).astype("Int64"))
    ),
    "a spreadsheet's values": edited(from_a_spreadsheet),
    "one deal of each owner": steps_of_one_deal_each,
    "the largest deal of each owner": one_step_each,
    "the first deal of each stage": lambda df: df.groupby("stage_name").head(1).assign(next_step="Call"),
    "sorted and filtered": lambda df: df.sort_values("amount").query("amount > 20000").assign(probability=50),
    "a sample": lambda df: df.sample(20, random_state=1).assign(next_step="Call", probability=20),
    "an owner's deals handed over": edited(
        lambda df: df.__setitem__(
            "owner_id", df["owner_id"].replace(df["owner_id"].iloc[0], df["owner_id"].dropna().iloc[-1])
        )
    ),
    "an index of which two values were edited": lambda df: df.assign(
        name=df["name"].where(df.index > 1, "Renamed " + df["name"])
    ).set_index("name"),
    "names as index": lambda df: df.drop_duplicates("name").set_index("name").assign(next_step="Call"),
    "ids as index": lambda df: df.set_index("id").assign(next_step=lambda frame: frame["next_step"].fillna("Call")),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_edit__raises_no_alarm(frame: pd.DataFrame, name: str) -> None:
    """What people do every day is not asked about, but for its size."""
    plan = find(ORDINARY[name](frame), frame)
    assert plan.suspicion == ""
    assert len(plan) or name in ("nothing", "names as index")


def test_random_edits__with_values_of_the_same_columns_raise_no_alarm(frame: pd.DataFrame) -> None:
    """Stages, percentages and next steps that other deals have too, for one to six deals: 60 plans, none held back."""
    random = np.random.default_rng(3)
    for _ in range(60):
        df = frame.copy()
        for place in random.choice(len(df), random.integers(1, 7), replace=False):
            for column in ("stage_name", "probability", "next_step", "owner_id", "custom13"):
                df.loc[place, column] = random.choice(frame[column].dropna().to_numpy())
        assert find(df, frame).suspicion == ""


def test_aggregate__is_not_sent_unasked(client: opp.Client, tmp_path: Path) -> None:
    """write_back raises before any request; a saved plan asks too; with the number of rows it is sent."""
    df = opp.read_opportunities(client)
    last = df.groupby("owner_name").last()
    before = client.calls
    with pytest.raises(ConfirmationNeededError, match="one row for each owner_name") as asked:
        last.opp.write_back()
    assert client.calls == before
    plan = ChangeSet.load(last.opp.changes().save(tmp_path / "plan.json"))
    assert plan.confirmation_reason() == asked.value.reason
    report = last.opp.write_back(confirm=asked.value.number)
    assert report.counts()["written"] == asked.value.number
