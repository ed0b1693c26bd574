"""``where=``: conditions that the service cannot test, with the words of ``filter=``."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import opp_pandas as opp
from conftest import STAGES
from opp_pandas import errors
from opp_pandas.api.query import Query
from opp_pandas.load.where import rows_that_fit, split_where

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

FRAME = pd.DataFrame(
    {
        "id": pd.array([1, 2, 3, 4], dtype="Int64"),
        "name": pd.array(["Acme", "acme", "", None], dtype="str"),
        "amount": pd.array([100, 0, None, 900], dtype="Int64"),
        "close_date": pd.array(
            pd.to_datetime(
                ["2026-12-31T04:59:59Z", "2026-12-31T05:00:00Z", None, "2027-01-01T04:59:59.999500Z"], format="ISO8601"
            )
        ).as_unit("us"),
        "tags": pd.Series([["q4", "renewal"], [], None, ("q4",)], dtype=object),
        "custom7": pd.array(["12", "7.5", "many", None], dtype="str"),
        "custom10": pd.array(["2026-02-28", "2026-03-01", "soon", None], dtype="str"),
        "custom5": pd.array(["true", "No", "maybe", None], dtype="str"),
        "stage_is_closed": pd.array([True, False, None, True], dtype="boolean"),
    }
)

CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({"name": "Acme"}, [1]),
    ({"name": ["Acme", None]}, [1, 4]),
    ({"name": None}, [4]),
    ({"name": opp.NOT_NULL}, [1, 2, 3]),
    ({"name": ("A", "B")}, [1]),
    ({"amount": 0}, [2]),
    ({"amount": (0, 100)}, [1, 2]),
    ({"amount": (100.5, None)}, [4]),
    ({"amount": [100, None]}, [1, 3]),
    ({"closeDate": "2026-12-31"}, [2, 4]),
    ({"close_date": ("2026-12-31", None)}, [2, 4]),
    ({"close_date": (None, "2026-12-30")}, [1]),
    ({"close_date": dt.datetime(2026, 12, 31, 5, tzinfo=dt.UTC)}, [2]),
    ({"close_date": pd.Period("2026-12")}, [1, 2, 4]),
    ({"close_date": ["2026-12-30", None]}, [1, 3]),
    ({"tags": "q4"}, [1, 4]),
    ({"tags": ["renewal", "new"]}, [1]),
    ({"tags": None}, [2, 3]),
    ({"tags": opp.NOT_NULL}, [1, 4]),
    ({"custom7": (8, None)}, [1]),
    ({"custom7": 7.5}, [2]),
    ({"custom7": "12"}, [1]),
    ({"custom7": ("a", "z")}, [3]),
    ({"custom10": (None, dt.date(2026, 2, 28))}, [1]),
    ({"custom10": (pd.Period("2026-03"), None)}, [2]),
    ({"custom5": True}, [1]),
    ({"custom5": [False, None]}, [2, 4]),
    ({"stage_is_closed": True}, [1, 4]),
    ({"tags": "q4", "amount": (500, None)}, [4]),
]


@pytest.mark.parametrize(("where", "ids"), CASES)
def test_where__keeps_the_rows_that_fit(where: dict[str, Any], ids: list[int]) -> None:
    """Every kind of condition on every kind of column; days are days of the zone."""
    zone = "America/New_York"
    fits = rows_that_fit(FRAME, split_where(where, None, zone), zone)
    assert FRAME.loc[fits, "id"].tolist() == ids


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"amount": ("9", "1")}, "a number is expected"),
        ({"amount": (9, 1)}, "begins after it ends"),
        ({"amount": (None, None)}, "one end of a range"),
        ({"amount": (1, 2, 3)}, "two members"),
        ({"amount": []}, "empty list"),
        ({"amount": True}, "a number is expected"),
        ({"amount": {"gte": 1}}, "not a mapping"),
        ({"close_date": "soon"}, "a day"),
        ({"close_date": ("2026-02-01", "2026-01-01")}, "begins after it ends"),
        ({"tags": ("a", "b")}, "makes no sense"),
        ({"tags": 5}, "text is expected"),
        ({"stage_is_closed": "yes"}, "True or False"),
        ({"custom7": (1, "z")}, "different kinds"),
        ({"custom7": object()}, "text, a number or a day"),
    ],
)
def test_where__is_refused_before_anything_is_loaded(client: Client, where: dict[str, Any], words: str) -> None:
    """A condition that cannot be tested costs no request."""
    with pytest.raises(errors.ConfigurationError, match=words):
        opp.read_opportunities(client, where=where)
    assert client.calls == 0


def test_where__tests_at_the_service_what_it_can(box: Sandbox, client: Client) -> None:
    """Conditions that the service knows travel with the request; the report says which part ran where."""
    everything = opp.read_opportunities(client, stages=STAGES)
    owner = int(everything["owner_id"].mode()[0])
    start = len(box.requests)
    df = opp.read_opportunities(
        client, stages=STAGES, where={"owner": owner, "amount": (50_000, None), "closeDate": ("2026-01-01", None)}
    )
    expected = everything[
        (everything["owner_id"] == owner)
        & (everything["amount"] >= 50_000)
        & (everything["close_date"] >= pd.Timestamp("2026-01-01", tz="America/New_York"))
    ]
    assert df["id"].tolist() == expected["id"].tolist()
    assert 0 < len(df) < len(everything)
    first = box.requests[start]
    assert f"filter%5Bowner%5D%5Bid%5D={owner}" in first.query
    assert "amount" not in first.query
    (note,) = df.opp.load_report.notes
    arrived = int((everything["owner_id"] == owner).sum())
    assert (
        note
        == f"where: 'owner' at the service; 'amount', 'close_date' here; {len(df)} of {arrived} rows that arrived fit"
    )
    assert df.opp.load_report.complete
    assert len(df.opp.changes()) == 0


def test_where__loads_the_columns_that_it_tests(client: Client) -> None:
    """A condition on a column that was not asked for brings it along."""
    df = opp.read_opportunities(client, stages=STAGES, fields=["name"], where={"probability": (50, None), "tags": "q4"})
    assert {"name", "tags"} <= set(df.columns)
    assert df["tags"].map(lambda tags: "q4" in tags).all()


def test_where__takes_labels_for_custom_fields(box: Sandbox, client: Client) -> None:
    """A name that is no column is looked up among the organisation's labels, with one request."""
    everything = opp.read_opportunities(client, stages=STAGES)
    df = opp.read_opportunities(client, stages=STAGES, where={"Region": ["EMEA", "APAC"], "Seats": (100, None)})
    seats = pd.to_numeric(everything["custom7"])
    expected = everything[everything["custom1"].isin(["EMEA", "APAC"]) & (seats >= 100)]
    assert df["id"].tolist() == expected["id"].tolist()
    assert [request.path for request in box.requests].count("/api/v2/types") == 1
    with pytest.raises(errors.ConfigurationError, match="cannot filter by 'custom1'"):
        opp.read_opportunities(client, filter={"Region": "EMEA"})
    with pytest.raises(errors.ConfigurationError, match="'Region' and 'custom1' are the same field"):
        opp.read_opportunities(client, where={"Region": "EMEA", "custom1": "EMEA"})


def test_where__names_what_is_no_column(client: Client) -> None:
    """A misspelt name is an error that names near ones."""
    with pytest.raises(errors.MissingColumnError, match="did you mean 'amount'"):
        opp.read_opportunities(client, stages=STAGES, where={"amuont": 5})
    with pytest.raises(errors.MissingColumnError, match="are there when include= asks for them"):
        opp.read_opportunities(client, stages=STAGES, where={"owner_name": "Sam Lee"}, include=())


def test_where__cuts_to_the_limit_after_testing(client: Client) -> None:
    """Rows that do not fit do not count towards the limit."""
    df = opp.read_opportunities(client, stages=STAGES, where={"amount": (20_000, None)}, limit=5)
    assert len(df) == 5
    assert (df["amount"] >= 20_000).all()
    assert df.opp.load_report.complete is None


def test_days_of_a_filter__are_days_of_the_loads_zone(box: Sandbox) -> None:
    """``timezone=`` of the load decides, also where the client has another."""
    client = box.client(timezone="Asia/Tokyo")
    opp.read_opportunities(client, stages=STAGES, filter={"created_at": "2026-06-01"}, timezone="America/New_York")
    assert "filter%5BcreatedAt%5D%5Bgte%5D=2026-06-01T04%3A00%3A00.000Z" in box.requests[0].query
    assert "filter%5BcreatedAt%5D%5Blte%5D=2026-06-02T03%3A59%3A59.999Z" in box.requests[0].query


values = st.one_of(st.integers(-5, 5), st.none())


@given(
    cells=st.lists(values, max_size=8),
    condition=st.one_of(
        values, st.lists(values, min_size=1, max_size=3), st.tuples(values, values), st.just(opp.NOT_NULL)
    ),
)
def test_where__agrees_with_python(cells: list[int | None], condition: Any) -> None:
    """On whole numbers the conditions mean what they mean in Python, cell by cell."""
    frame = pd.DataFrame({"id": range(len(cells)), "amount": pd.array(cells, dtype="Int64")})

    def fits(cell: int | None, wanted: Any) -> bool:
        if wanted is opp.NOT_NULL:
            return cell is not None
        if isinstance(wanted, list):
            return any(fits(cell, item) for item in wanted)
        if isinstance(wanted, tuple):
            low, high = wanted
            return cell is not None and (low is None or cell >= low) and (high is None or cell <= high)
        return cell == wanted

    impossible = isinstance(condition, tuple) and (
        condition == (None, None) or (None not in condition and condition[0] > condition[1])
    )
    if impossible:
        with pytest.raises(errors.ConfigurationError):
            split_where({"amount": condition})
        return
    found = rows_that_fit(frame, split_where({"amount": condition}))
    np.testing.assert_array_equal(found, [fits(cell, condition) for cell in cells])


@pytest.mark.parametrize("name", ["probability", "owner", "account.name", "created_at", "id", "prospects"])
def test_where__sends_only_what_the_filter_takes(name: str) -> None:
    """What is sent can be built into a query."""
    value: Any = {"account.name": "Acme", "created_at": "2026-01-01"}.get(name, 5)
    assert Query(split_where({name: value}).service).texts()


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ({"close_date": (None, "9999-12-31")}, [True, True, False]),
        ({"close_date": "9999-12-31"}, [False, True, False]),
        ({"close_date": ("0001-01-01", None)}, [True, True, False]),
    ],
)
@pytest.mark.parametrize("zone", [None, "Asia/Tokyo", "America/New_York"])
def test_where__reaches_to_the_calendars_ends(where: dict[str, Any], fits: list[bool], zone: str | None) -> None:
    """The last day has no day after it, and the first one begins before the calendar in Tokyo."""
    dates = pd.to_datetime(pd.Series(["2026-01-01T00:00Z", "9999-12-31T12:00Z", None]), format="ISO8601")
    frame = pd.DataFrame({"close_date": dates.dt.as_unit("us")})
    assert rows_that_fit(frame, split_where(where, None, zone), zone).tolist() == fits
