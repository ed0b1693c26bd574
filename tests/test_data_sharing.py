"""The service's data-sharing tables, in every form of an export, as a history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas.errors import ConfigurationError, MissingColumnError
from opp_pandas.history.importers import data_sharing_deals, team_memberships
from opp_pandas.sandbox_handle import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opp_pandas.sandbox_handle import Sandbox

NOW = "2026-09-01T08:00:00Z"
ZONE = "America/New_York"
PLAIN = ("id", "name", "amount", "next_step", "probability", "currency_type", "forecast_category", "description")
INSTANTS = ("created_at", "updated_at")
LINKS = ("account_id", "owner_id", "stage_id")


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with sandbox(opportunities=60, seed=6, now=NOW) as started:
        yield started


def table_of(df: pd.DataFrame, gone: dict[int, str] | None = None) -> pd.DataFrame:
    """The table as the vendor's dictionary describes it: texts for ids, times without zones, close dates as days."""
    made = df[[*PLAIN, *INSTANTS, *LINKS]].copy()
    for name in INSTANTS:
        made[name] = made[name].dt.tz_localize(None)
    made["close_date"] = df["close_date"].dt.tz_convert(ZONE).dt.tz_localize(None)
    for name in ("id", *LINKS):
        made[name] = made[name].astype("str")
    made["custom_fields_long"] = [
        json.dumps({"custom1": value}) if pd.notna(value) else None for value in df["custom1"]
    ]
    at = df["id"].map(gone or {}).astype(object)
    made["is_deleted_in_app"] = at.notna()
    made["dml_type"] = ["delete" if is_gone else "update" for is_gone in at.notna()]
    made["dml_at"] = pd.to_datetime(at.where(at.notna(), "2026-09-01T00:00:00")).dt.tz_localize(None)
    made = made.assign(bento="b1", o_id="42", surrogate_id="x", computed_created_at=pd.NaT)
    return made.rename(columns=str.upper)


def kept(table: pd.DataFrame, form: str, folder: Path) -> Any:
    """The table as a frame, or as the export of a warehouse."""
    if form == "frame":
        return table
    path = folder / f"opportunities.{form}"
    if form == "csv":
        table.to_csv(path, index=False)
    elif form == "parquet":
        table.to_parquet(path)
    else:
        deltalake = pytest.importorskip("deltalake")
        deltalake.write_deltalake(path, table.drop(columns="COMPUTED_CREATED_AT"))
    return path


@pytest.mark.parametrize("form", ["frame", "csv", "parquet", "delta"])
def test_deals__stand_as_the_export_says(box: Sandbox, tmp_path: Path, form: str) -> None:
    """Every value that the table holds, at every moment that it speaks of; deleted deals are gone when they went."""
    df = opp.read_opportunities(box.client(), stages=STAGES)
    gone = {int(df["id"].iloc[3]): "2026-09-05T10:00:00", int(df["id"].iloc[9]): "2026-09-06T10:00:00"}
    source = kept(table_of(df, gone), form, tmp_path)
    history = opp.History(tmp_path / "history")
    report = history.import_events(data_sharing_deals(source, timezone=ZONE, server_timezone="UTC"))
    assert set(report["reason"]) <= {"left out: the column has no counterpart here"}
    state = history.as_of("2026-09-04")
    names = [*PLAIN, *INSTANTS, *LINKS, "close_date", "custom1"]
    pd.testing.assert_frame_equal(state[names], df[names].reset_index(drop=True), check_dtype=False)
    assert len(history.as_of("2026-09-05")) == len(df) - 1
    assert set(df["id"]) - set(history.as_of("2026-09-07")["id"]) == set(gone)
    # A deal is there from its creation on; what was changed since is not known of then.
    early = df.loc[df["created_at"] < df["updated_at"] - pd.Timedelta(days=2)].iloc[0]
    then = history.as_of(early["created_at"] + pd.Timedelta(days=1)).set_index("id").loc[early["id"]]
    assert then["created_at"] == early["created_at"]
    assert pd.isna(then["name"])


def test_deals__of_several_exports_tell_what_changed(box: Sandbox, tmp_path: Path) -> None:
    """One under the other: each change stands when the service says that it was made."""
    with sandbox(opportunities=60, seed=6, now=NOW) as own:
        first = opp.read_opportunities(own.client(), stages=STAGES)
        own.advance(20)
        second = opp.read_opportunities(own.client(), stages=STAGES)
    history = opp.History(tmp_path / "history")
    exports = pd.concat([table_of(first), table_of(second)], ignore_index=True)
    history.import_events(data_sharing_deals(exports, timezone=ZONE))
    names = [*PLAIN, *LINKS, "close_date"]
    state = history.as_of("2026-09-30")
    pd.testing.assert_frame_equal(state[names], second[names].reset_index(drop=True), check_dtype=False)
    before = history.as_of("2026-09-01T09:00:00Z")
    pd.testing.assert_frame_equal(before[names], first[names].reset_index(drop=True), check_dtype=False)


def test_deals__that_cannot_be_told_apart_or_read_are_refused(tmp_path: Path) -> None:
    """Two organisations in one table, another table, no file."""
    row = {"ID": ["1", "1"], "UPDATED_AT": ["2026-09-01", "2026-09-02"], "O_ID": ["1", "2"]}
    with pytest.raises(ConfigurationError, match="2 organisations"):
        data_sharing_deals(pd.DataFrame(row))
    with pytest.raises(MissingColumnError, match="updated_at"):
        data_sharing_deals(pd.DataFrame({"ID": ["1"]}))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        data_sharing_deals(tmp_path / "none.csv")


def test_deals__report_what_is_not_known() -> None:
    """The server's zone, a creator that is no user, custom fields that are none, columns without a counterpart."""
    row = {"ID": "1", "UPDATED_AT": "2026-09-01", "AMOUNT": "5000.50", "CREATOR_ID": "7", "CREATOR_TYPE": "plugin"}
    row |= {"CUSTOM_FIELDS_LONG": "oops", "BENTO": "b", "WEATHER": "fine", "DML_TYPE": "delete", "DML_AT": "2026-09-02"}
    found = data_sharing_deals(pd.DataFrame([row, {"ID": "none", "UPDATED_AT": "2026-09-01", "AMOUNT": "1"}]))
    assert set(found.events["id"]) == {1}
    reasons = found.report.set_index("row")["reason"].str.partition(":")[0].to_dict()
    assert reasons == {0: "value left missing", 1: "set aside", "weather": "left out", "DML_AT": "read in UTC"}
    values = dict(zip(found.events["field"].astype(object), found.events["value"], strict=True))
    assert (values["amount"], values["amount_precise"]) == (5000, "5000.50")
    assert "creator_id" not in values


def test_team_memberships__give_every_state_its_teams(box: Sandbox, tmp_path: Path) -> None:
    """A reorganisation in the middle: then's teams and today's, with the roles that the history knew."""
    history = opp.History(tmp_path / "history")
    df = opp.read_opportunities(box.client(), stages=STAGES, organisation=True)
    history.record(df)
    known = df.opp.organisation
    teams = known.teams.rename(columns=str.upper)
    one, two = known.teams["id"].iloc[:2].tolist()
    user = int(known.users["id"].iloc[-1])
    rows = [
        {
            "USER_ID": user,
            "TEAM_ID": one,
            "CREATED_AT": "2026-09-02",
            "UPDATED_AT": "2026-09-10",
            "IS_DELETED_IN_APP": True,
        },
        {
            "USER_ID": user,
            "TEAM_ID": two,
            "CREATED_AT": "2026-09-10",
            "UPDATED_AT": "2026-09-10",
            "IS_DELETED_IN_APP": False,
        },
    ]
    history.import_events(team_memberships(pd.DataFrame(rows), teams=teams))

    def teams_at(day: str) -> Any:
        return history.as_of(day).opp.organisation.users.set_index("id")["team_ids"].loc[user]

    assert (teams_at("2026-09-05"), teams_at("2026-09-20")) == ((one,), (two,))
    state = history.as_of("2026-09-20").opp.organisation
    assert state.roles.equals(known.roles)
    assert user in state.members("team", known.teams["name"].iloc[1])
    others = known.users["id"] != user
    assert state.users[others].equals(known.users[others])
    versions = len(history.versions())
    history.import_events(team_memberships(pd.DataFrame(rows), teams=teams))
    assert history.versions()["rows"].iloc[versions:].sum() == 0
