"""The door `sandbox`: arguments, stages, files, closing."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
import requests

from opp_pandas.errors import ConfigurationError
from opp_pandas.sandbox_handle import sandbox
from opp_pandas.stages import StageMap
from sandbox_server_calls import Api, edit, opened

if TYPE_CHECKING:
    from pathlib import Path


def test_client__keeps_a_sandbox_without_a_name_running() -> None:
    """`opp.sandbox().client()` reads deals; when the client is gone, so is the server."""
    client = sandbox(opportunities=3).client()
    gc.collect()
    assert len(list(client.iter_pages())) == 1
    url = client.url
    del client
    gc.collect()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


def test_door__opens_twice_and_closes_twice() -> None:
    """Two sandboxes live side by side; close may be called again; a closed one answers no more."""
    with sandbox(opportunities=1) as first, sandbox(opportunities=2) as second:
        assert first.url != second.url
        assert first.token != second.token
        assert first.url.endswith("/api/v2")
        first.close()
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{first.url}/openapi.json", timeout=60)
        assert requests.get(f"{second.url}/openapi.json", timeout=60).ok
        assert repr(first) == f"<Sandbox {first.url}, closed>"
        with pytest.raises(ConfigurationError, match="closed"):
            _ = first.truth
    first.close()


def test_closing__cuts_connections_that_are_kept_alive() -> None:
    """A client that still holds a connection cannot go on using it."""
    api = Api(sandbox(opportunities=1))
    assert api.get("/opportunities/1")
    api.box.close()
    with pytest.raises(requests.ConnectionError):
        api.get("/opportunities/1")
    api.session.close()


def test_a_forgotten_sandbox__closes_itself() -> None:
    """When the last name is gone the port is free again."""
    url = sandbox(opportunities=0).url
    gc.collect()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/openapi.json", timeout=60)


def test_program_that_ends__does_not_hang() -> None:
    """An open sandbox does not keep the interpreter alive."""
    code = "from opp_pandas.sandbox_handle import sandbox; box = sandbox(opportunities=1); print(box.url)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("http://127.0.0.1:")
    assert done.stderr == ""


def test_repr__hides_the_token() -> None:
    """Address yes, token no."""
    with sandbox(opportunities=0, token="abc-DEF.123") as box:
        assert box.token == "abc-DEF.123"
        assert repr(box) == f"<Sandbox {box.url}>"
        assert "abc-DEF" not in repr(vars(box))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"opportunities": -1}, "not a number of deals"),
        ({"opportunities": 1.5}, "not a number of deals"),
        ({"opportunities": True}, "not a number of deals"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": None}, "seed=None"),
        ({"token": ""}, "bearer token"),
        ({"token": "two words"}, "bearer token"),
        ({"token": "line\nfeed"}, "bearer token"),
        ({"now": "yesterday"}, "2026-09-01T08:00:00Z"),
        ({"now": 5}, "not int"),
        ({"scopes": {"opportunities.reed"}}, "opportunities.reed"),
        ({"stages": StageMap(won=["Won"])}, "order= and lost="),
    ],
)
def test_argument__that_cannot_be_used_is_refused(arguments: dict[str, object], words: str) -> None:
    """The error names the argument and what would do; the token is not shown."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        sandbox(**arguments)  # type: ignore[arg-type]
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize("now", ["2026-09-01", "2026-09-01T00:00:00Z", datetime(2026, 9, 1)])
def test_now__may_be_text_or_datetime_and_runs_on(now: object) -> None:
    """A moment without a zone is UTC; the clock starts there."""
    for api in opened(sandbox(opportunities=1, now=now)):  # type: ignore[arg-type]
        assert api.create({"name": "A"})["attributes"]["createdAt"].startswith("2026-09-01T00:00")


def test_stages__are_exactly_those_of_the_map() -> None:
    """Open ones in order, then won, then lost; names and ids; closed ones say so."""
    stages = StageMap(order=["Lead", 40, "Offer"], won=["Won", "Renewed"], lost=["Lost"])
    for api in opened(sandbox(opportunities=80, seed=3, stages=stages)):
        rows = api.rows("sort=order", "/opportunityStages")
        served = [(row["attributes"]["name"], row["attributes"]["isClosed"]) for row in rows]
        assert served == [
            ("Lead", False),
            ("Stage 40", False),
            ("Offer", False),
            ("Won", True),
            ("Renewed", True),
            ("Lost", True),
        ]
        assert rows[1]["id"] == 40
        used = {row["relationships"]["opportunityStage"]["data"]["id"] for row in api.rows()}
        assert used == {row["id"] for row in rows}


def test_stages__may_be_incomplete_when_no_deals_are_made() -> None:
    """A map with open stages only is served when nothing must be won or lost."""
    for api in opened(sandbox(opportunities=0, stages=StageMap(order=["One"]))):
        assert [row["attributes"]["name"] for row in api.rows(path="/opportunityStages")] == ["One"]


def test_file__keeps_everything_across_sandboxes(tmp_path: Path) -> None:
    """Edits, truth and ids are there when the file is opened again; nothing is made anew."""
    path = tmp_path / "box.sqlite"
    for api in opened(sandbox(opportunities=12, seed=1, db=path)):
        api.call("PATCH", "/opportunities/3", edit("opportunity", {"name": "Edited", "custom99": "ü"}, key=3))
        refused = api.call("POST", "/opportunities", edit("opportunity", {"name": "x", "custom98": "y", "amount": "1"}))
        assert refused.status_code == 422
        made = api.create({"name": "New", "custom77": "x"})
        rows, truth = api.rows(), api.box.truth
        base = api.box.url
    for api in opened(sandbox(opportunities=500, seed=9, db=str(path))):
        again = [row["attributes"] for row in api.rows()]
        assert again == [row["attributes"] for row in rows]
        assert api.box.truth.equals(truth)
        assert api.box.url != base
        assert api.create({"name": "Next"})["id"] == made["id"] + 1


def test_file__that_is_not_a_sandboxs_is_left_alone(tmp_path: Path) -> None:
    """Another database or any other file is refused and not touched."""
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    text = tmp_path / "notes.txt"
    text.write_bytes(b"not a database, but long enough to look like one" * 50)
    for path in (other, text):
        before = path.read_bytes()
        with pytest.raises(ConfigurationError, match=path.name):
            sandbox(opportunities=1, db=path)
        assert path.read_bytes() == before
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        sandbox(opportunities=1, db=tmp_path / "no" / "such" / "folder.sqlite")
    good = tmp_path / "good.sqlite"
    sandbox(opportunities=1, db=good).close()
    with pytest.raises(ConfigurationError, match="leave stages= out"):
        sandbox(db=good, stages=StageMap(order=["A"], won=["B"], lost=["C"]))


def test_many_threads__write_and_read_without_loss() -> None:
    """Eight clients at once: every write is kept, no answer is broken."""
    from concurrent.futures import ThreadPoolExecutor

    with sandbox(opportunities=20, rate_limit=10**6) as box:

        def work(worker: int) -> set[int]:
            own = Api(box)
            made = {own.create({"name": f"{worker}-{turn}"})["id"] for turn in range(10)}
            for key in made:
                own.call("PATCH", f"/opportunities/{key}", edit("opportunity", {"amount": worker}, key=key))
            assert len(own.get("/opportunities?page[size]=1000")["data"]) >= 30
            own.session.close()
            return made

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(work, range(8)))
        assert len(set().union(*made)) == 80
        api = Api(box)
        rows = {row["id"]: row["attributes"]["amount"] for row in api.rows()}
        api.session.close()
        assert all(rows[key] == worker for worker, keys in enumerate(made) for key in keys)
