"""Who stands on the deals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas.errors import AccessDeniedError
from opp_pandas.load import prospects

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox


@pytest.fixture
def df(client: Client) -> pd.DataFrame:
    return opp.read_opportunities(client, stages=STAGES, prospects=True)


def test_prospect_ids__are_those_of_the_roles(
    box: Sandbox, client: Client, df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each person once, in the order they came; the same in small batches; only on request."""
    roles = client.prospect_roles([int(key) for key in df["id"]])
    expected: dict[int, list[int]] = {int(key): [] for key in df["id"]}
    for role in roles:
        deal, person = (role["relationships"][name]["data"]["id"] for name in ("opportunity", "prospect"))
        expected[deal].append(person)
    assert dict(zip(df["id"], df["prospect_ids"], strict=True)) == expected
    assert 0 < df["prospect_ids"].map(len).sum() == len(roles)
    assert "prospect_ids" not in opp.read_opportunities(client, stages=STAGES).columns
    row_id = int(df["id"].iloc[0])
    for person, role in ((3, "Champion"), (2, "Buyer"), (3, "User")):
        client.link_prospect(row_id, person, role=role)
    monkeypatch.setattr(prospects, "_BATCH", 7)
    before = len(box.requests)
    again = opp.read_opportunities(client, stages=STAGES, prospects=True)
    asked = [item for item in box.requests[before:] if "opportunityProspectRoles" in item.path]
    assert len(asked) == -(-len(df) // 7)
    assert again["prospect_ids"].iloc[0] == list(dict.fromkeys([*expected[row_id], 3, 2]))
    assert opp.read_opportunities(client, stages=STAGES, prospects=True, limit=0)["prospect_ids"].tolist() == []


def test_prospect_ids__are_for_reading(client: Client, df: pd.DataFrame) -> None:
    """Valid, no edit by itself, refused when edited, left alone by writing and refreshing."""
    assert len(df.opp.changes()) == 0
    assert df.opp.validate() is df
    linked = df["prospect_ids"].copy()
    edited = df.copy()
    edited["prospect_ids"] = [[*one, 99] for one in edited["prospect_ids"]]
    refused = edited.opp.changes().refused
    assert len(refused) == len(df)
    assert "client.link_prospect(opportunity_id, prospect_id)" in refused["reason"].iloc[0]
    df.loc[0, "next_step"] = "Call"
    assert df.opp.write_back().counts() == {"written": 1}
    client.update(int(df["id"].iloc[1]), {"nextStep": "Theirs"})
    fresh = df.opp.refresh()
    for frame in (df, fresh):
        assert frame["prospect_ids"].tolist() == linked.tolist()
        assert len(frame.opp.changes()) == 0
    assert fresh["next_step"].iloc[1] == "Theirs"


def test_prospect_ids__need_the_right_to_read_roles() -> None:
    """An app without that scope is told which one."""
    scopes = frozenset({"opportunities.read", "opportunityStages.read", "users.read", "accounts.read"})
    with opp.sandbox(opportunities=3, scopes=scopes) as box, pytest.raises(AccessDeniedError, match="ProspectRole"):
        opp.read_opportunities(box.client(), prospects=True)
