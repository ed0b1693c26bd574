"""Forecast calls that people made at the service, beside the forecasts that a history keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas.errors import ConfigurationError, HistoryNeededError, MissingColumnError
from opp_pandas.history.importers import forecast_calls, team_memberships
from opp_pandas.sandbox_handle import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opp_pandas.sandbox_handle import Sandbox

PERIOD = {"PERIOD_START": "2026-07-01", "PERIOD_END": "2026-09-30"}
CALL = {"ID": "1", "METRIC": "Commit", **PERIOD, "SUBMITTED_AT": "2026-07-06 09:00", "CREATOR_ID": "", "NOTE": ""}


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with sandbox(opportunities=300, seed=3, now="2026-10-05T08:00:00Z") as started:
        yield started


@pytest.fixture(scope="module")
def deals(box: Sandbox) -> pd.DataFrame:
    return opp.read_opportunities(box.client(), stages=STAGES, organisation=True)


def rows_of(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([CALL | change for change in changes])


def won(df: pd.DataFrame, users: Any = None) -> float:
    """What was won in the period, added up a second time."""
    days = df["close_date"].dt.strftime("%Y-%m-%d")
    inside = df["stage_name"].isin(STAGES.won) & days.between("2026-07-01", "2026-09-30")
    amounts = df["amount_precise"].astype("Float64").fillna(df["amount"])
    return float(amounts[inside & (True if users is None else df["owner_id"].isin(users))].sum())


def test_calls__stand_beside_our_versions_and_are_scored_like_them(deals: pd.DataFrame, tmp_path: Path) -> None:
    """Of everybody, of a seller, of a manager with those below, of a team: what came is of just their deals."""
    history = opp.History(tmp_path / "history")
    history.record(deals)
    history.save_forecast("ours", deals, horizon_days=60)
    organisation = deals.opp.organisation
    roles = organisation.roles.set_index("id")
    manager_role = int(roles.index[roles["name"] == "VP International"][0])
    manager = int(organisation.users.loc[organisation.users["role_id"] == manager_role, "id"].iloc[0])
    seller = int(organisation.users.loc[~organisation.users["role_id"].isin(roles["parent_id"]), "id"].iloc[0])
    team = int(organisation.teams["id"].iloc[0])
    below, level = [manager], {manager_role}
    while level := set(roles.index[roles["parent_id"].isin(level)]):
        below += organisation.users.loc[organisation.users["role_id"].isin(level), "id"].tolist()
    inside = [user for user, own in organisation.users.set_index("id")["team_ids"].items() if team in own]
    assert len(below) > 2
    assert len(inside) > 1
    table = rows_of(
        {"AMOUNT": "900000.50", "NOTE": "sure of it", "CREATOR_ID": str(manager)},
        {"AMOUNT": "90000", "USER_ID": str(seller)},
        {"AMOUNT": "400000", "USER_ID": str(manager)},
        {"AMOUNT": "300000", "TEAM_ID": str(team), "USER_ID": str(manager), "SUBMITTED_AT": "2026-08-01T10:00:00Z"},
    )
    table.to_csv(tmp_path / "calls.csv", index=False)
    table.to_parquet(tmp_path / "calls.parquet")
    users = organisation.users[["id", "name"]]
    for source in (table, tmp_path / "calls.csv", tmp_path / "calls.parquet"):
        report = history.import_events(forecast_calls(source, users=users, teams=organisation.teams))
        assert not len(report)
    assert len(history.forecasts()) == 5
    listed = history.forecasts()
    assert listed["name"].iloc[-1] == "ours"
    assert listed["saved_at"].is_monotonic_increasing
    assert listed["mean"].iloc[:-1].tolist() == [900000.5, 90000.0, 400000.0, 300000.0]
    assert listed["method"].iloc[0] == "call: Commit"
    assert (listed["comment"].iloc[0], listed["author"].iloc[0]) == (
        "sure of it",
        users.set_index("id")["name"][manager],
    )
    scored = history.forecast_accuracy().iloc[:-1]
    expected = [won(deals), won(deals, [seller]), won(deals, below), won(deals, inside)]
    np.testing.assert_allclose(scored["actual"], expected)
    assert expected[0] > expected[2] > 0
    np.testing.assert_allclose(scored["error"], listed["mean"].iloc[:-1] - expected)
    # The CRPS of a single number is its absolute error.
    np.testing.assert_allclose(scored["crps"], scored["error"].abs())
    assert scored["inside_80"].isna().all()
    # A second import of the same table adds nothing; a later call for the same period is another version.
    again = pd.concat([table, rows_of({"AMOUNT": "1", "SUBMITTED_AT": "2026-09-01"})])
    history.import_events(forecast_calls(again, users=users, teams=organisation.teams))
    assert history.forecasts()["mean"].tolist() == [*listed["mean"].iloc[:-1], 1.0, listed["mean"].iloc[-1]]


def test_calls__are_of_the_people_of_their_day(box: Sandbox, deals: pd.DataFrame, tmp_path: Path) -> None:
    """A team that another seller joined later: the call is about those who were in it."""
    history = opp.History(tmp_path / "history")
    history.record(deals, observed_at="2026-07-01T00:00:00Z")
    known = deals.opp.organisation
    team = int(known.teams["id"].iloc[0])
    before = set(known.users_in_team(team))
    joins = next(user for user in known.users["id"] if user not in before)
    table = pd.DataFrame([{"USER_ID": joins, "TEAM_ID": team, "CREATED_AT": "2026-08-01"}])
    history.import_events(team_memberships(table))
    calls = rows_of(*({"AMOUNT": "5", "TEAM_ID": team, "SUBMITTED_AT": day} for day in ("2026-07-06", "2026-08-06")))
    history.import_events(forecast_calls(calls))
    history.record(opp.read_opportunities(box.client(), stages=STAGES))
    came = [won(deals, before), won(deals, {*before, joins})]
    assert came[0] < came[1]
    np.testing.assert_allclose(history.forecast_accuracy()["actual"], came)


def test_calls__that_cannot_be_used_are_reported_or_refused(deals: pd.DataFrame, tmp_path: Path) -> None:
    """No amount, no moment, a period backwards, a deleted call, two amounts; no history, an unknown team, no period."""
    table = rows_of(
        {"AMOUNT": "many"},
        {"AMOUNT": "5", "SUBMITTED_AT": "soon"},
        {"AMOUNT": "6", "PERIOD_END": "2026-01-01"},
        {"AMOUNT": "7", "IS_DELETED_IN_APP": True},
        {"AMOUNT": "8"},
        {"AMOUNT": "9"},
        {"AMOUNT": "inf"},
    )
    calls = forecast_calls(table)
    assert [call.amount for call in calls.forecast_calls] == [8.0]
    assert set(calls.report["row"]) == {0, 1, 2, 3, 5, 6}
    history = opp.History(tmp_path / "history")
    with pytest.raises(HistoryNeededError, match="forecast call"):
        history.import_events(calls)
    history.record(deals)
    with pytest.raises(ConfigurationError, match="who was in it"):
        history.import_events(forecast_calls(rows_of({"AMOUNT": "5", "TEAM_ID": "999"})))
    assert not len(history.forecasts())
    with pytest.raises(MissingColumnError, match="columns="):
        forecast_calls(table.drop(columns="PERIOD_END"))
    own = table.rename(columns={"PERIOD_END": "UNTIL"})
    assert len(forecast_calls(own, columns={"UNTIL": "last_day"}).forecast_calls) == 1
    with pytest.raises(MissingColumnError, match="leads to"):
        forecast_calls(own, columns={"UNTIL": "final_day"})
