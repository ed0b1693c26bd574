"""What a plan does to the forecast: by hand, against the service after writing, in words, in a file."""

from __future__ import annotations

import copy
import json
import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from loads import load, lookups, resource
from opp_pandas.apply.undo import apply_plan
from opp_pandas.changes.plan import ChangeSet
from opp_pandas.errors import ConfigurationError
from opp_pandas.stages import resolve_stages
from thirtydeals import NOW, STAGES, fast_client

if TYPE_CHECKING:
    from pathlib import Path

WON = {"opportunityStage": {"data": {"type": "opportunityStage", "id": 3}}}
STAGE_NAMES = lookups()["opportunityStage"]
Q4, Q1 = pd.Period("2026Q4"), pd.Period("2027Q1")


@pytest.fixture
def df() -> pd.DataFrame:
    """Three open deals of 1,000 to 3,000 at 50 % and one of 4,000 that was won, all in the fourth quarter."""
    won = resource(4, WON, closeDate="2026-10-05T16:00:00Z")
    return load([*(resource(number) for number in (1, 2, 3)), won], stages=resolve_stages(STAGES, STAGE_NAMES))


def texts(html: str) -> list[str]:
    return [text for text in re.split(r"<[^>]+>", html) if text]


# --- the figures --------------------------------------------------------------------


def test_effect__open_weighted_and_won_by_period(df: pd.DataFrame) -> None:
    """A higher amount, a lower probability and a stage that wins, summed by hand."""
    df.loc[0, "amount"] = 1500
    df.loc[1, "probability"] = 10
    df.loc[2, ["stage_id", "close_date"]] = [3, pd.Timestamp("2026-10-20T10:00Z")]
    expected = {
        "open_before": 6000.0,
        "open_after": 3500.0,
        "weighted_before": 3000.0,
        "weighted_after": 950.0,
        "won_before": 4000.0,
        "won_after": 7000.0,
        "pushed": 0,
        "pulled": 0,
    }
    effect = df.opp.changes().effect
    assert effect is not None
    assert effect.index.equals(pd.PeriodIndex([Q4], name="period"))
    assert effect.loc[Q4].to_dict() == expected


def test_effect__deals_pushed_and_pulled_leave_their_period(df: pd.DataFrame) -> None:
    """Counted where they left, closed ones too; a date lost or moved within its period is neither."""
    df["close_date"] = pd.to_datetime(["2027-02-01T00:00Z", "2026-11-01T00:00Z", None, "2026-09-01T00:00Z"])
    effect = df.opp.changes().effect
    assert effect is not None
    assert effect["pushed"].to_dict() == {Q4: 1, Q1: 0, pd.NaT: 0, pd.Period("2026Q3"): 0}
    assert effect["pulled"].to_dict() == {Q4: 1, Q1: 0, pd.NaT: 0, pd.Period("2026Q3"): 0}
    months = df.opp.changes(freq="M").effect
    assert months.loc["2026-12", ["pushed", "pulled"]].tolist() == [1, 1]
    assert effect.loc[effect.index.isna(), "open_after"].tolist() == [3000.0]


def test_effect__periods_are_those_of_the_loads_zone_and_fiscal_year() -> None:
    """The first of February in UTC is still January in New York, the last month of its fiscal quarter."""
    df = load([resource(1)], timezone="America/New_York")
    df["close_date"] = pd.Timestamp("2027-02-01T03:00Z")
    effect = df.opp.changes(fiscal_start=2).effect
    assert effect is None or not len(effect)
    df["close_date"] = pd.Timestamp("2027-02-01T06:00Z")
    effect = df.opp.changes(fiscal_start=2).effect
    assert effect["pushed"].tolist() == [1, 0]
    assert effect.index.freqstr == "Q-JAN"
    named = df.opp.changes(fiscal_start=2, fiscal_label="start").effect
    assert named.index.tolist() == ["2026Q4", "2027Q1"]
    weeks = df.opp.changes(calendar=opp.figures.WeekCalendar(), quota={"FY2027-Q1": 8000}).effect
    assert weeks.index.tolist() == ["FY2026-Q4", "FY2027-Q1"]
    assert weeks["coverage_after"].tolist()[1] == 1000 / 8000


@pytest.mark.parametrize(
    ("quota", "before", "after"),
    [
        (16_000, [0.5, 0.0], [5000 / 12_000, 1000 / 16_000]),
        ({"2026Q4": 16_000}, [0.5, np.nan], [5000 / 12_000, np.nan]),
        ({"2026Q4": 4_000, "2027Q1": 500}, [np.inf, 0.0], [np.inf, 2.0]),
        (pd.DataFrame({"period": ["2027Q1"], "quota": [500.0]}), [np.nan, 0.0], [np.nan, 2.0]),
        (0, [np.inf, np.inf], [np.inf, np.inf]),
    ],
)
def test_effect__coverage_by_period_needs_a_quota(
    df: pd.DataFrame, quota: Any, before: list[float], after: list[float]
) -> None:
    """Open over what is left of the quota; a period without deals covers nothing of its quota."""
    df.loc[0, "close_date"] = pd.Timestamp("2027-02-01T10:00Z")
    effect = df.opp.changes(quota=quota).effect
    assert effect.index.tolist() == [Q4, Q1]
    np.testing.assert_allclose(effect["coverage_before"], before)
    np.testing.assert_allclose(effect["coverage_after"], after)
    assert "coverage_before" not in df.opp.changes().effect.columns


def test_effect__is_what_the_service_has_afterwards(tmp_path: Path) -> None:
    """Moved, won, renamed, created and deleted deals: the announced sums are those of a fresh load after writing."""
    with opp.sandbox(opportunities=150, seed=4, now=NOW) as box:
        client = fast_client(box)
        df = opp.read_opportunities(client, timezone="Europe/Berlin", authorization_meta=True)
        new = {"name": "New", "amount": 70_000, "currency_type": "USD", "probability": 40, "close_date": "2027-05-01"}
        df = df.opp.add([new])
        stages = df["stage_name"].dropna().unique()
        df.loc[150, "stage_name"] = stages[0]
        mine = df["can_write"].fillna(False) & df["can_delete"].fillna(False) & ~df["stage_is_closed"].fillna(True)
        was_open = np.flatnonzero(mine.to_numpy(dtype=bool))
        df.loc[was_open[:4], "amount"] = [10, 20_000, 30_000, 0]
        df.loc[was_open[4:7], "close_date"] += pd.Timedelta(days=100)
        df.loc[was_open[7:9], "stage_name"] = "Closed Won"
        df.loc[was_open[9:11], "probability"] = None
        gone = df["id"].iloc[was_open[11:13]].tolist()
        before = opp.read_opportunities(client, timezone="Europe/Berlin").opp.forecast(freq="M", quota=50_000)
        dry = df.opp.write_back(dry_run=True, delete=gone, allow_delete=True, freq="M", quota=50_000)
        report = df.opp.write_back(delete=gone, allow_delete=True, confirm=len(dry.plan), journal=tmp_path)
        assert set(report.rows["status"]) <= {"written", "adjusted"}
        after = opp.read_opportunities(client, timezone="Europe/Berlin").opp.forecast(freq="M", quota=50_000)
    effect = dry.effect
    assert effect is not None
    assert len(effect) > 3
    measures = {"open": "open_amount", "weighted": "weighted_amount", "won": "won_amount"}
    for when, table in (("before", before), ("after", after)):
        for words, measure in measures.items():
            found = table[measure].reindex(effect.index).fillna(0)
            np.testing.assert_allclose(effect[f"{words}_{when}"], found, err_msg=f"{words}_{when}")
        there = effect.index.isin(table.index)
        coverage = table["coverage"].reindex(effect.index[there])
        np.testing.assert_allclose(effect.loc[there, f"coverage_{when}"], coverage)
    untouched = before.index.difference(effect.index)
    pd.testing.assert_frame_equal(
        before.loc[untouched, list(measures.values())], after.loc[untouched, list(measures.values())]
    )


def test_effect__new_deals_count_with_the_currency_and_the_stage_they_will_have(df: pd.DataFrame) -> None:
    """A deal without a currency is in that of the load; a stage that is known by name counts by it."""
    df = df.opp.add([{"name": "New", "amount": 500, "probability": 20, "close_date": "2026-12-31"}])
    df.loc[4, "stage_name"] = "Proposal"
    effect = df.opp.changes().effect
    assert effect.loc[Q4, ["open_after", "weighted_after"]].tolist() == [6500.0, 3100.0]


def test_effect__several_currencies_need_rates() -> None:
    """Without rates the plan says why there is no effect, with them it is in one currency."""
    df = load([resource(1), resource(2, currencyType="EUR")])
    df.loc[0, "probability"] = 100
    plan = df.opp.changes()
    assert plan.effect is None
    assert "rates=" in plan.why_no_effect
    assert "the effect on the forecast cannot be shown: amounts in different currencies" in repr(plan)
    assert "The effect on the forecast cannot be shown: amounts in different currencies" in plan._repr_html_()
    effect = df.opp.changes(rates={"USD": 1, "EUR": 1.5}).effect
    assert effect.loc[Q4, ["open_after", "weighted_after"]].tolist() == [4000.0, 2500.0]


def test_effect__nothing_that_is_summed_was_edited(df: pd.DataFrame) -> None:
    """A next step leaves the forecast as it is, and no plan has no effect to speak of."""
    assert "forecast" not in repr(df.opp.changes())
    df.loc[0, "next_step"] = "Meet"
    df.loc[1, "tags"] = [["new"]]
    plan = df.opp.changes()
    assert plan.effect is not None
    assert len(plan.effect) == 0
    assert "  the forecast stays as it is" in repr(plan).splitlines()
    assert "<p>The forecast stays as it is.</p>" in plan._repr_html_()


@pytest.mark.parametrize("options", [{"freq": "H"}, {"quota": "x"}, {"quota": {"Sam Lee": 4}}, {"rates": {"EUR": 2}}])
def test_arguments__that_cannot_be_used_are_refused_at_once(df: pd.DataFrame, options: dict[str, Any]) -> None:
    """Not first when the plan is looked at."""
    for call in (df.opp.changes, df.opp.write_back, df.opp.edit):
        with pytest.raises(ConfigurationError):
            call(**options)


# --- in words -----------------------------------------------------------------------


def test_text__says_before_and_after_by_period(df: pd.DataFrame) -> None:
    """A line per period that changes, the moves in a sentence, and how to see coverage."""
    df.loc[0, "close_date"] = pd.Timestamp("2027-02-01T10:00Z")
    lines = repr(df.opp.changes()).splitlines()
    assert lines[1] == "  update  1 Deal 1  close_date  2026-12-10 22:00 UTC → 2027-02-01 10:00 UTC"
    assert lines[2:] == [
        "  effect on the forecast:",
        "    period  open           weighted       won    pushed",
        "    2026Q4  6,000 → 5,000  3,000 → 2,500  4,000  1",
        "    2027Q1  0 → 1,000      0 → 500        0      0",
        "    1 deal pushed to a later period",
        "    give quota= for coverage by period",
    ]


def test_text__of_a_quota_that_is_reached_or_not_there(df: pd.DataFrame) -> None:
    """Coverage is a ratio, reached, or none."""
    df["close_date"] = df["close_date"].where(df["id"] != 1, pd.Timestamp("2027-02-01T10:00Z"))
    df.loc[1, "close_date"] = pd.NaT
    text = repr(df.opp.changes(quota={"2026Q4": 4_000, "2027Q1": 500}))
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert rows["2026Q4"].split()[-2:] == ["reached", "1"]
    assert "0.00 → 2.00" in rows["2027Q1"]
    assert rows["no"].split()[:3] == ["no", "close", "date"]
    assert rows["no"].split()[-2:] == ["none", "0"]
    assert "quota=" not in text


def test_html__of_the_plan_and_of_the_dry_run_show_the_same(df: pd.DataFrame) -> None:
    """The tables of a notebook: cells before and after, and what they do to the forecast."""
    df.loc[0, "close_date"] = pd.Timestamp("2026-03-01T10:00Z")
    with opp.sandbox(opportunities=0, now=NOW) as box:
        report = df.opp.write_back(box.client(), dry_run=True, quota=16_000)
        shown = report._repr_html_()
    assert "dry run, nothing sent" in shown
    found, of_plan = texts(shown), texts(report.plan._repr_html_())
    assert found[-len(of_plan) :] == of_plan
    start = found.index("Effect on the forecast")
    assert found[start + 1 : start + 19] == [
        *("period", "open", "weighted", "won", "coverage", "pulled"),
        *("2026Q1", "0 → 1,000", "0 → 500", "0", "0.00 → 0.06", "0"),
        *("2026Q4", "6,000 → 5,000", "3,000 → 2,500", "4,000", "0.50 → 0.42", "1"),
    ]
    assert "1 deal pulled to an earlier period." in found
    text = repr(report)
    assert "    2026Q4  6,000 → 5,000  3,000 → 2,500  4,000  0.50 → 0.42  1" in text.splitlines()
    assert report.effect is report.plan.effect


def test_long_effects__are_cut_and_say_so() -> None:
    """More periods than anybody reads are counted."""
    df = load([resource(number, closeDate=f"{2000 + number}-06-30T10:00:00Z") for number in range(1, 61)])
    df["probability"] = range(60)
    plan = df.opp.changes(freq="Y")
    assert "    and 39 more periods: .effect lists them" in repr(plan).splitlines()
    assert "And 9 more periods: .effect lists them." in texts(plan._repr_html_())


# --- along with a plan ----------------------------------------------------------------


def test_saved_plan__shows_whoever_reviews_it_what_it_does(tmp_path: Path, df: pd.DataFrame) -> None:
    """The names of the deals and the effect are in the file, infinite and missing coverage too."""
    df["close_date"] = df["close_date"].where(df["id"] != 1, pd.Timestamp("2027-02-01T10:00Z"))
    df.loc[1, "close_date"] = pd.NaT
    plan = df.opp.changes(quota={"2026Q4": 4_000, "2027Q1": 500})
    file = plan.save(tmp_path / "plan.json")
    # Strict readers of JSON know neither NaN nor Infinity.
    json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    loaded = ChangeSet.load(file)
    assert repr(loaded) == repr(plan)
    assert loaded._repr_html_() == plan._repr_html_()
    assert loaded.fingerprint == plan.fingerprint
    assert loaded.effect is not None
    assert plan.effect is not None
    pd.testing.assert_frame_equal(loaded.effect, plan.effect)
    with opp.sandbox(opportunities=0, now=NOW) as box:
        assert "effect on the forecast:" in repr(apply_plan(box.client(), loaded, dry_run=True))
    empty = load([resource(1), resource(2, currencyType="EUR")])
    empty.loc[0, "probability"] = 100
    assert ChangeSet.load(empty.opp.changes().save(tmp_path / "none.json")).effect is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda plan: pickle.loads(pickle.dumps(plan))])  # noqa: S301
def test_copied_plan__keeps_the_effect_and_leaves_the_load_behind(copied: Any) -> None:
    """Neither the client nor a million rows go along with a plan."""
    with opp.sandbox(opportunities=20, now=NOW) as box:
        df = opp.read_opportunities(box.client())
    df["probability"] = 1
    plan = copied(df.opp.changes())
    assert plan.figures is None
    assert repr(plan) == repr(df.opp.changes())


def test_written_report__does_not_keep_the_load_alive(tmp_path: Path) -> None:
    """What was written is in the frame; the report speaks of outcomes."""
    with opp.sandbox(opportunities=20, now=NOW) as box:
        df = opp.read_opportunities(box.client())
        df.loc[0, "probability"] = 1
        report = df.opp.write_back(journal=tmp_path)
    assert report.plan.figures is None
    assert report.effect is None
