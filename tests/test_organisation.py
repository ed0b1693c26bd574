"""The organisation from the service: loaded once, carried, dated in a history, and rolled up by."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import requests

import opp_pandas as opp
from conftest import NOW, STAGES
from opp_pandas import errors
from opp_pandas.cli import main
from opp_pandas.organisation import Organisation
from opp_pandas.resource import ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opp_pandas.sandbox_handle import Sandbox

FEW = [(1, "Chief", None), (2, "East", 1), (3, "West", 1)]
PEOPLE = [(7, "Ann", 2, (1,)), (8, "Bo", 3, (1, 2)), (9, "Cy", None, ())]


def organisation(roles: Any = FEW, users: Any = PEOPLE, teams: Any = ((1, "Blue"), (2, "Red"))) -> Organisation:
    """An organisation of a few rows."""
    return Organisation.from_dict({"roles": roles, "teams": teams, "users": users})


def deals(**columns: Any) -> pd.DataFrame:
    """A won and an open deal for each of four owners, the last one known to nobody."""
    n = 8
    return pd.DataFrame(
        {
            "id": range(1, n + 1),
            "owner_id": pd.array([7, 7, 8, 8, 9, 9, 10, None], dtype="Int64"),
            "amount": pd.array([10 * 2**place for place in range(n)], dtype="Int64"),
            "stage_name": ["Lead", "Won"] * (n // 2),
            "close_date": pd.Timestamp("2026-11-30", tz="UTC"),
            **columns,
        }
    )


MAP = opp.StageMap(order=["Lead"], won=["Won"], lost=["Lost"])


def rolled(tree: Organisation, frame: pd.DataFrame | None = None, **options: Any) -> pd.DataFrame:
    """The roll-up of the small deals."""
    frame = deals() if frame is None else frame
    return frame.opp.rollup("owner_name", tree=tree, as_of="2026-11-01", stages=MAP, **options)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with opp.sandbox(opportunities=150, seed=5, now=NOW) as made:
        yield made


def load(box: Sandbox, **options: Any) -> pd.DataFrame:
    """The sandbox's deals with their organisation."""
    with box.client() as client:
        return opp.read_opportunities(client, stages=STAGES, on_invalid="ignore", **{"organisation": True, **options})


def raw(box: Sandbox, method: str, path: str, kind: str = "", **relationships: Any) -> Any:
    """Send one request by hand, as another program would; gives what stands in ``data``."""
    headers = {"Authorization": f"Bearer {box.token}", "Content-Type": "application/vnd.api+json"}
    body = {"data": {"type": kind, "id": int(path.rsplit("/", 1)[1]), "relationships": relationships}} if kind else None
    answer = requests.request(method, box.url + path, headers=headers, json=body, timeout=10)
    assert answer.ok, answer.text
    return answer.json()["data"] if answer.content else None


def recomputed(box: Sandbox, rows: pd.DataFrame) -> dict[str, int]:
    """Open deals by role, of all roles, from the service's own answers, by climbing from every single deal."""
    roles = {one["id"]: one for one in raw(box, "GET", "/roles?page[size]=1000")}
    users = {one["id"]: one for one in raw(box, "GET", "/users?page[size]=1000")}
    counted: Counter[str] = Counter({one["attributes"]["name"]: 0 for one in roles.values()})
    still_open = rows[~rows["stage_is_closed"] & rows["trashed_at"].isna()]
    for owner in still_open["owner_id"].dropna():
        link = users[owner]["relationships"]["role"]["data"]
        while link is not None and link["id"] in roles:
            role = roles[link["id"]]
            counted[role["attributes"]["name"]] += 1
            link = role["relationships"]["parentRole"]["data"]
    return dict(counted)


def by_role(table: pd.DataFrame, names: Any) -> dict[str, int]:
    """The open deals of a roll-up, of roles alone."""
    return table["open_count"].reindex(list(names)).astype(int).to_dict()


def test_reorganisation__is_rolled_up_by_the_tree_of_each_day(tmp_path: Path) -> None:
    """Then's deals by then's tree and by today's, today's by both: each as every deal climbs by itself."""
    history = opp.History(tmp_path / "history")
    with opp.sandbox(opportunities=150, seed=5, now=NOW) as box:
        before = load(box)
        old = recomputed(box, before)
        history.record(before, observed_at="2026-10-01")
        # The region moves under another vice president with all its people, and one seller to another director.
        raw(box, "PATCH", "/roles/4", "role", parentRole={"data": {"type": "role", "id": 3}})
        raw(box, "PATCH", "/users/2", "user", role={"data": {"type": "role", "id": 11}})
        raw(box, "PATCH", "/users/2", "user", teams={"data": [{"type": "team", "id": 4}]})
        with box.client() as client:
            client.update(int(before["id"].iloc[0]), {"nextStep": "Talk to the new director"})
        after = load(box)
        new = recomputed(box, after)
        history.record(after, observed_at="2026-11-01")
    assert old != new
    then, now = history.as_of("2026-10-15"), history.as_of("2026-11-02")
    assert by_role(then.opp.rollup(), old) == old == by_role(before.opp.rollup(), old)
    assert by_role(now.opp.rollup(), new) == new == by_role(then.opp.rollup(tree=now.opp.organisation), new)
    assert by_role(now.opp.rollup(tree=then.opp.organisation), old) == old
    # Over the history: by today's teams, as the note says, or by those of each moment.
    for by, of in (("team", lambda _: now), ("team_then", lambda state: state)):
        table = now.opp.pipeline_over_time(history, by=by, times=["2026-10-15", "2026-11-02"])
        assert any(
            of_whom in note for note in table.attrs["opp_basis"]["notes"] for of_whom in ("of the load", "moment")
        )
        for moment, state in zip(table.index.levels[0], (then, now), strict=True):
            labels = state["owner_id"].map(of(state).opp.organisation.labels_of("team"))
            still_open = state["stage_is_closed"].eq(False).to_numpy(dtype=bool)
            counted = labels[still_open].value_counts().sort_index()
            shown = table.loc[moment, "open_count"]
            assert shown[shown > 0].drop("(missing)", errors="ignore").sort_index().to_dict() == counted.to_dict()
        asked: dict[str, Any] = {"period": "2026Q4", "since": "2026-10-15", "until": "2026-11-02"}
        moves = now.opp.waterfall(history, by=by, **asked).groupby("bucket")["count"].sum()
        plain = now.opp.waterfall(history, **asked)["count"]
        # Deals whose owner went to another team leave one and come into another.
        differ = {name: n for name, n in (moves - plain).to_dict().items() if n}
        assert differ == ({} if by == "team" else {"scope_out": 3, "scope_in": 3})
    assert then.opp.rollup("team")["open_count"].to_dict() != now.opp.rollup("team")["open_count"].to_dict()


def test_load__asks_for_the_organisation_only_when_told_to(box: Sandbox) -> None:
    """Three requests more; without the argument none, and nothing is carried."""
    plain = load(box, organisation=False)
    start = len(box.requests)
    whole = load(box)
    asked = [request.path for request in list(box.requests)[start:]]
    assert plain.opp.organisation is None
    assert whole.opp.load_report.requests == plain.opp.load_report.requests + 3
    assert {path.rsplit("/", 1)[1] for path in asked} >= {"roles", "teams", "users"}
    assert list(plain.opp.rollup().columns) == list(whole.opp.rollup(tree=False).columns)


def test_organisation__survives_pickle_parquet_refresh_and_pandas(box: Sandbox, tmp_path: Path) -> None:
    """It travels as the rest of the load does, and a refresh reads it anew."""
    df = load(box)
    expected = df.opp.rollup()
    df.to_parquet(tmp_path / "deals.parquet")
    for frame in (
        pickle.loads(pickle.dumps(df)),  # noqa: S301  # what was dumped here
        pd.read_parquet(tmp_path / "deals.parquet"),
        df.sort_values("amount").copy(),
        df.opp.refresh(box.client()),
    ):
        pd.testing.assert_frame_equal(frame.opp.rollup(), expected)


def test_where__by_team_and_role_asks_for_the_deals_of_their_people(box: Sandbox) -> None:
    """Sent to the service as owners; a team or role that nobody knows, or is in, is refused."""
    df = load(box)
    inside = df.opp.organisation.members("team", "EMEA")
    fitting = df[df["owner_id"].isin(inside)]
    found = load(box, organisation=False, where={"team": "EMEA"})
    assert sorted(found["id"]) == sorted(fitting["id"])
    assert set(found.opp.rollup("team").index) <= {"EMEA", "EMEA, Strategic accounts"}
    both = load(box, where={"team": "Strategic accounts", "role": "Account Executive EMEA"})
    assert set(both["owner_id"]) == {5}
    for where, words in (
        ({"team": "Nowhere"}, "no team is called"),
        ({"team": "EMEA", "owner": 1}, "keep one"),
        ({"role": "Director EMEA", "team": "AMER"}, "nobody is in team"),
    ):
        with pytest.raises(errors.ConfigurationError, match=words):
            load(box, where=where)


def test_command_line__chooses_a_team(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--where team=...`` is the same condition."""
    monkeypatch.setenv("OPP_PANDAS_TOKEN", box.token)
    code = main(["forecast", "--url", box.url, "--where", "team=APAC", "--by", "role", "--freq", "Y", "--json"])
    assert code == 0
    assert "Account Executive APAC" in capsys.readouterr().out


def test_quotas__are_set_by_team(box: Sandbox) -> None:
    """Attainment of teams and of roles; an owner in two teams is in a group of both, so that nothing counts twice."""
    df = load(box)
    table = df.opp.forecast(freq="Y", by="team", quota={"EMEA": 1_000_000})
    plain = df.opp.forecast(freq="Y")
    assert set(table["quota"].dropna()) == {1_000_000}
    assert table["won_amount"].sum() == pytest.approx(plain["won_amount"].sum())
    assert "EMEA, Strategic accounts" in table.index.get_level_values("team")
    with pytest.raises(errors.MissingColumnError, match="organisation=True"):
        load(box, organisation=False).opp.rollup("team")


def test_include__goes_on_to_what_is_included(tmp_path: Path) -> None:
    """``account.owner`` joins an id and a name, as the accounts say; a refresh and a history keep them true."""
    include = ("stage", "owner", "account", "account.owner", "owner.role")
    with opp.sandbox(opportunities=60, seed=5, now=NOW) as box, box.client() as client:
        df = opp.read_opportunities(client, include=include, on_invalid="ignore")
        accounts = {one["id"]: one["relationships"]["owner"]["data"] for one in client.accounts()}
        users = {one["id"]: one for one in client.users()}
        for row in df.dropna(subset=["account_id"]).itertuples():
            assert row.account_owner_name == users[accounts[row.account_id]["id"]]["attributes"]["name"]
        roles = {one["id"]: one["attributes"]["name"] for one in raw(box, "GET", "/roles?page[size]=1000")}
        owned = df.dropna(subset=["owner_id"])
        assert [roles[users[key]["relationships"]["role"]["data"]["id"]] for key in owned["owner_id"]] == owned[
            "owner_role_name"
        ].tolist()
        history = opp.History(tmp_path / "history")
        history.record(df)
        pd.testing.assert_frame_equal(history.as_of(df.opp.load_report and "2026-12-31"), df, check_flags=False)
        raw(box, "PATCH", "/users/2", "user", role={"data": {"type": "role", "id": 11}})
        fresh = df.opp.refresh()
        assert set(fresh.loc[fresh["owner_id"] == 2, "owner_role_name"]) == {"Account Executive LATAM"}
        with pytest.raises(errors.ConfigurationError, match=r"'account.boss'"):
            opp.read_opportunities(client, include=("account.boss",))


def test_dashboard__chooses_the_owners_of_a_team(box: Sandbox) -> None:
    """A list of teams where the load has them; a choice of teams is one of their owners."""
    df = load(box)
    board = df.opp.dashboard()
    inside = df.opp.organisation.members("team", "Strategic accounts")
    board.choose(teams="Strategic accounts")
    assert set(board.listed["owner_id"]) == set(df["owner_id"].dropna()) & set(inside)
    board.choose()
    assert len(board.listed) == len(df)
    with pytest.raises(errors.ConfigurationError, match="no deal is of the team"):
        board.choose(teams="Nowhere")
    with pytest.raises(errors.ConfigurationError, match="no deal is of the team"):
        load(box, organisation=False).opp.dashboard().choose(teams="EMEA")


# --- broken trees ---------------------------------------------------------------


def test_tree__in_a_circle_is_said_at_the_load_and_refused_in_the_roll_up() -> None:
    """Never a guess where the circle should be cut."""
    turned = organisation(roles=[(1, "Chief", 3), (2, "East", 1), (3, "West", 1)])
    assert "in a circle (ids 1, 3)" in " ".join(turned.notes)
    with pytest.raises(errors.ConfigurationError, match="in a circle: 'Chief' reports to 'West' reports to 'Chief'"):
        rolled(turned)
    own = organisation(roles=[(1, "Chief", 1)])
    with pytest.raises(errors.ConfigurationError, match="in a circle: 'Chief' reports to 'Chief'"):
        rolled(own)


def test_tree__with_what_is_missing_stands_at_the_top_and_says_so() -> None:
    """A parent or a role that is not there, a user without a role, an owner whom the organisation does not know."""
    broken = organisation(roles=[(1, "Chief", None), (2, "East", 99)], users=[*PEOPLE, (11, "Di", 2, (5,))])
    table = rolled(broken)
    assert table["level"].to_dict() == {
        "(id 10)": 0, "Bo": 0, "Chief": 0, "Cy": 0, "East": 0, "Ann": 1, "(unassigned)": 0
    }  # fmt: skip
    said = " ".join(table.attrs["opp_basis"]["notes"])
    for words in (
        "below a role that is not there",
        "without a role",
        "with a role that is not there",
        "does not know, at the top: 1 (ids 10)",
    ):
        assert words in said
    assert "in a team that is not there" in said
    assert table.loc[table["level"] == 0, "open_amount"].sum() == deals()["amount"][::2].sum()


def test_names__that_several_bear_have_their_ids_beside_them() -> None:
    """Two teams, or two roles, of one name are two, and a name alone does not choose between them."""
    twins = organisation(
        roles=[(1, "Seller", None), (2, "Seller", None), (3, None, None)],
        users=[(7, "Ann", 1, (1,)), (8, "Bo", 2, (2,)), (9, "Cy", 3, ())],
        teams=[(1, "Blue"), (2, "Blue")],
    )
    assert twins.labels_of("team") == {7: "Blue (id 1)", 8: "Blue (id 2)"}
    assert twins.members("team", "Blue (id 2)") == twins.members("team", 2) == [8]
    with pytest.raises(errors.ConfigurationError, match="say which"):
        twins.members("team", "Blue")
    table = rolled(twins)
    assert {"Seller (id role:1)", "Seller (id role:2)"} <= set(table.index)
    assert len(twins.notes) == 2


def test_deals__without_ids_of_owners_have_no_organisation() -> None:
    """The organisation knows people by id."""
    with pytest.raises(errors.ConfigurationError, match="no owner_id"):
        rolled(organisation(), deals(owner_name="Ann").drop(columns="owner_id"))


def test_role__deleted_at_the_service_leaves_its_people_at_the_top() -> None:
    """As the sandbox answers after a deletion, with real requests; a token that may not read roles is told."""
    with opp.sandbox(opportunities=60, seed=5, now=NOW) as box:
        with box.client() as client:
            client.delete(8, resource=ROLE)
        df = load(box)
        assert "with a role that is not there" in " ".join(df.opp.load_report.notes)
        levels = df[df["owner_id"].isin([1, 5])].opp.rollup()["level"]
        assert levels.drop(df.opp.organisation.roles["name"]).tolist() == [0, 0]
        box.fail(403, path="/roles", body=b'{"errors":[{"id":"unauthorizedOauthScope","title":"No"}]}')
        blind = load(box)
        assert "may not read roles" in " ".join(blind.opp.load_report.notes)


def test_people__without_usable_ids_are_left_out() -> None:
    """Of a service with other ids, or with records that are none: said, and the rest stands."""
    with opp.sandbox(opportunities=10, seed=5, now=NOW) as box:
        team = {"type": "team", "id": 3, "attributes": {"name": "EMEA"}}
        team["relationships"] = {"users": {"data": [{"type": "user", "id": "a-1"}, None, {"type": "user", "id": "1"}]}}
        odd = {"type": "team", "id": 5, "relationships": [1]}
        box.fail(
            200, path="/teams", body=json.dumps({"data": [team, {"type": "team", "id": "b-2"}, None, odd]}).encode()
        )
        df = load(box)
        assert "organisation: 3 teams cannot be read, or have no usable id" in df.opp.load_report.notes
        assert df.opp.organisation.members("team", "EMEA") == [1, 3]
