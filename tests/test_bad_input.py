"""What goes wrong in notebooks gets a clear word and loses nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import requests

import opp_pandas as opp
from conftest import STAGES
from opp_pandas import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox


def writes(box: Sandbox) -> list[Any]:
    return [entry for entry in box.requests if entry.method != "GET"]


def refused(frame: pd.DataFrame) -> pd.DataFrame:
    plan = frame.opp.changes()
    assert len(plan) == 0
    return plan.refused


# --- values -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("probability", 101, "0 to 100"),
        ("name", "x" * 256, "256 characters"),
        ("next_step", "x" * 65_536, "65,536 characters"),
        ("updated_at", pd.Timestamp("2026-01-01", tz="UTC"), "kept by the service"),
        ("stage_order", 9, "stage_id"),
        ("stage_name", "Nogotiate", "Negotiate"),
        ("stage_id", 999, "not a stage"),
        ("owner_name", "Nobody Atall", "owner_id"),
    ],
)
def test_edit__that_cannot_be_sent_is_refused_with_the_reason(
    df: pd.DataFrame, box: Sandbox, column: str, value: Any, words: str
) -> None:
    """The edit is listed with its row and the remedy, and nothing goes out."""
    df.loc[3, column] = value
    found = refused(df)
    assert (found["row"].tolist(), found["field"].tolist()) == ([3], [column])
    assert words in found["reason"].iloc[0]
    report = df.opp.write_back()
    assert report.counts() == {"refused": 1}
    assert not writes(box)
    with pytest.raises(errors.PartialWriteError, match="1 refused"):
        report.raise_for_status()


def test_amount__as_text_is_refused(df: pd.DataFrame) -> None:
    """A text amount is not turned into a number behind the user's back."""
    df["amount"] = df["amount"].astype(object)
    df.loc[2, "amount"] = "12,000"
    assert "is text" in refused(df)["reason"].iloc[0]


def test_probability__multiplied_is_refused_where_it_is_no_whole_number(df: pd.DataFrame) -> None:
    """`probability * 1.1` makes fractions; each is refused with the way to round."""
    df["probability"] = df["probability"].where(df["id"] > 3, 75)
    df.loc[0, "probability"] = 75
    df.opp.write_back(confirm=len(df.opp.changes()))
    df["probability"] = df["probability"] * 1.1
    found = refused(df.loc[[0]])
    assert "round" in found["reason"].iloc[0]


def test_fillna__over_a_column_needs_confirmation(df: pd.DataFrame, box: Sandbox) -> None:
    """One value put into many rows is an edit of many rows, and asks first."""
    df.loc[df.index[:12], "next_step"] = None
    df.opp.write_back(confirm=len(df.opp.changes()))
    before = len(writes(box))
    df["next_step"] = df["next_step"].fillna("call")
    with pytest.raises(errors.ConfirmationNeededError) as asked:
        df.opp.write_back()
    assert asked.value.number == len(asked.value.plan) >= 12
    assert len(writes(box)) == before


def test_year_9999__is_reported_and_kept(box: Sandbox, client: Client) -> None:
    """A sentinel date loads, is warned of once, and never makes a request."""
    client.update(1, {"closeDate": "9999-12-31T00:00:00.000Z", "amount": -5})
    with pytest.warns(errors.InvalidValuesWarning, match="close_date 1"):
        df = opp.read_opportunities(client, stages=STAGES)
    assert df["close_date"].iloc[0].year == 9999
    assert set(df.opp.load_report.failures["column"]) == {"close_date", "amount"}
    assert len(df.opp.changes()) == 0
    with pytest.raises(errors.InvalidFrameError) as broken:
        df.opp.validate()
    assert {"id", "row", "column", "value", "rule"} == set(broken.value.failure_cases.columns)
    with pytest.raises(errors.InvalidFrameError):
        opp.read_opportunities(client, stages=STAGES, on_invalid="raise")


def test_tag__appended_in_place_is_seen(df: pd.DataFrame) -> None:
    """A list changed in place is an edit like any other."""
    place = next(index for index, tags in enumerate(df["tags"]) if isinstance(tags, list))
    df["tags"].iloc[place].append("seen")
    assert df.opp.changes().cells["after"].iloc[0][-1] == "seen"


# --- frames -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda df: df.drop(columns="id"), errors.MissingColumnError, "no column 'id'"),
        (lambda df: df.rename(columns={"id": "ID"}), errors.MissingColumnError, "did you mean"),
        (lambda df: df.assign(x=1).rename(columns={"x": "name"}), errors.DuplicateRowsError, "'name' stands twice"),
        (lambda df: pd.concat([df, df.iloc[:1]]), errors.DuplicateRowsError, "stands in more than one row"),
        (lambda df: pd.concat({"a": df}, axis=1), errors.FrameError, "MultiIndex"),
        (lambda df: pd.DataFrame(df.to_dict("list")), errors.NotLoadedError, "attach"),
    ],
)
def test_frame__that_cannot_be_compared_says_why(
    df: pd.DataFrame, spoil: Callable[[pd.DataFrame], pd.DataFrame], error: type[Exception], words: str
) -> None:
    """Frames that lost what is needed raise one clear error."""
    with pytest.raises(error, match=words):
        spoil(df).opp.changes()


def test_merge__that_doubled_rows_is_named(df: pd.DataFrame) -> None:
    """Rows doubled by a merge are named by id when the load is attached again."""
    notes = pd.DataFrame({"id": pd.array([1, 1, 2], dtype="Int64"), "note": ["a", "b", "c"]})
    merged = df.merge(notes, on="id", how="left")
    with pytest.raises(errors.DuplicateRowsError, match="id 1"):
        merged.opp.attach(df)
    assert len(merged.drop_duplicates("id").opp.attach(df).opp.changes()) == 0


def test_empty_frame__has_figures_and_no_changes(df: pd.DataFrame) -> None:
    """Nothing in, nothing out, with the same columns."""
    empty = df.iloc[:0]
    assert list(empty.opp.forecast().columns) == list(df.opp.forecast().columns)
    assert len(empty.opp.changes()) == 0
    with pytest.raises(errors.OppPandasError):
        pd.DataFrame().opp.forecast()


def test_unknown_id__is_refused(df: pd.DataFrame) -> None:
    """A made-up or cleared id is no edit and no new deal."""
    df.loc[0, "id"] = 10_000
    df.loc[1, "id"] = None
    reasons = refused(df)["reason"].tolist()
    assert "not an id that was loaded" in reasons[0]
    assert "df.opp.add" in reasons[1]


def test_chained_assignment__changes_nothing(df: pd.DataFrame) -> None:
    """What pandas ignores, the plan does not show either."""
    with pytest.warns(pd.errors.ChainedAssignmentError):
        df["probability"][0] = 1
    assert len(df.opp.changes()) == 0


def test_figures__of_a_frame_without_a_load_ask_for_the_moment() -> None:
    """Nobody guesses the day that a bare frame speaks of."""
    frame = pd.DataFrame({"amount": [1], "close_date": ["2026-01-01"], "stage_name": ["Lead"]})
    with pytest.raises(errors.NotLoadedError, match="as_of="):
        frame.opp.forecast()


# --- service ------------------------------------------------------------------


def test_token__wrong_is_an_authentication_error_without_the_token(box: Sandbox) -> None:
    """The error says what to do and never repeats the token."""
    client = opp.connect(box.url, token="not-the-token-7d1f")
    with pytest.raises(errors.AuthenticationError) as refused_:
        opp.read_opportunities(client)
    assert "not-the-token-7d1f" not in f"{refused_.value!r} {refused_.value} {client!r} {client.__dict__}"


def test_server__stopped_is_said_in_one_error(box: Sandbox) -> None:
    """A refused connection becomes the package's own error, at once."""
    client = box.client(deadline_s=1.0)
    box.close()
    with pytest.raises(errors.NoResponseError):
        opp.read_opportunities(client)


def test_port__in_use_is_a_configuration_error() -> None:
    """The sandbox says that the port is taken and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.ConfigurationError, match="another port"):
            opp.sandbox(opportunities=1, port=port)


def test_zone__unknown_is_named_with_near_ones(box: Sandbox) -> None:
    """A misspelt zone is refused before any request."""
    with pytest.raises(errors.ConfigurationError, match="Europe/Berlin"):
        box.client(timezone="Europe/Berln")
    with pytest.raises(errors.ConfigurationError, match="time zone"):
        opp.read_opportunities(box.client(), timezone="Mars/Olympus")


def test_rows__of_one_service_are_not_written_to_another(df: pd.DataFrame) -> None:
    """Ids of one service mean nothing at another."""
    df.loc[0, "probability"] = 50 if df.loc[0, "probability"] != 50 else 51
    with opp.sandbox(opportunities=60, seed=9) as other, pytest.raises(errors.ConfigurationError, match="mean nothing"):
        df.opp.write_back(other.client())


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT for child processes on Windows")
def test_interrupt__during_a_load_ends_it_cleanly(box: Sandbox) -> None:
    """Ctrl-C during a load raises KeyboardInterrupt within a second and leaves no half frame."""
    program = """
import signal, sys, opp_pandas as opp
signal.signal(signal.SIGINT, signal.default_int_handler)  # runners of tests may ignore it
client = opp.connect(sys.argv[1], token=sys.argv[2], page_size=10)
print("loading", flush=True)
try:
    frame = opp.read_opportunities(client)
except KeyboardInterrupt:
    print("stopped", "frame" in globals(), flush=True)
"""
    box.switches.latency_s = 0.4
    command = [sys.executable, "-c", program, box.url, box.token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "loading\n"
        while len(box.requests) < 2:
            pass
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60)[0] == "stopped False\n"


def test_sandbox__serves_plain_requests(box: Sandbox) -> None:
    """The sandbox is a real server: any HTTP client can talk to it."""
    answer = requests.get(f"{box.url}/opportunities/1", headers={"Authorization": f"Bearer {box.token}"}, timeout=60)
    assert answer.json()["data"]["id"] == 1
