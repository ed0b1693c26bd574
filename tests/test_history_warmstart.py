"""A second load goes on from the history and fetches only what changed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas.carrier import loaded_of
from opp_pandas.errors import ConfigurationError
from opp_pandas.history import History
from opp_pandas.history.queries import UNKNOWN, pack_query, unpack_query, warm_start
from opp_pandas.refreshing import refresh

if TYPE_CHECKING:
    from opp_pandas.service.client import Client

QUERY = {
    "filter": {"owner": [1, 2], "updated_at": (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None), "name": opp.NOT_NULL},
    "include": ("stage", "owner"),
    "where": {},
    "stages": opp.StageMap(order=["Lead", 3], won=["Won"], probability={3: 50.0, "Lead": 10.0}),
}


def test_query__comes_back_as_it_was() -> None:
    """Pairs stay pairs, lists stay lists, stages and moments stay what they are."""
    assert unpack_query(pack_query(QUERY)) == QUERY
    assert unpack_query(pack_query({"filter": {"x": object()}})) == {UNKNOWN: True}


def test_warm_start__fetches_only_what_changed(client: Client, tmp_path: Path) -> None:
    """A handful of requests give the same frame as a whole load, and both record alike."""
    history = History(tmp_path / "history")
    assert warm_start(history) is None
    asked = {"filter": {"owner": [1, 2, 3]}}
    history.record(opp.read_opportunities(client, stages=STAGES, **asked))
    start = warm_start(history, **asked)
    assert start is not None
    before, after = loaded_of(history.as_of()), loaded_of(start)
    assert before is not None
    assert after is not None
    assert after.query["filter"] == asked["filter"]
    first = int(start["id"].iloc[0])
    client.update(first, {"amount": 77})
    client.update(int(start["id"].iloc[1]), relationships={"owner": 5})
    calls = client.calls
    warm = refresh(start, client)
    assert client.calls - calls <= 6
    whole = opp.read_opportunities(client, stages=STAGES, **asked)
    pd.testing.assert_frame_equal(
        warm.sort_values("id", ignore_index=True)[list(whole.columns)], whole, check_flags=False
    )
    assert history.record(warm).changed >= 1
    assert history.record(whole).changed == 0
    with pytest.raises(ConfigurationError, match=r"asked for filter=.*this one for filter="):
        warm_start(history, filter={"owner": 9})
