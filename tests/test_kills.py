"""Kill -9 before and after every journal write and every send: nothing lost, nothing doubled (promise R19)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import opp_pandas as opp
from killed import CREATIONS, UPDATES
from opp_pandas.apply import send_creates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed program forks")

# Two for the plan; per row before and after: noting it, sending it, noting the answer.
EVENTS = 2 + 6 * 30
# The journal gets its name after these.
UNBORN = 2
FIRST_POST, FIRST_DELETE = 2 + 6 * UPDATES, 2 + 6 * (UPDATES + CREATIONS)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0,))


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    # All points together take more requests than an hour allows; pacing would stretch them over it.
    with opp.sandbox(opportunities=0, rate_limit=1_000_000) as made:
        for number in range(UPDATES):
            made.client().create({"name": f"Deal {number}", "probability": 5 * number})
        yield made


@pytest.fixture(scope="module")
def program() -> Iterator[subprocess.Popen[str]]:
    """The program that is killed, waiting for orders."""
    command = [sys.executable, str(Path(__file__).with_name("killed.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        yield running
        assert running.stdin is not None
        running.stdin.close()


def state(client: Client) -> tuple[dict[int, Any], Counter[str]]:
    """Probabilities of the edited deals, and how often each other name stands there."""
    deals = [item for page in client.iter_pages(fields=["name", "probability"]) for item in page.document["data"]]
    edited = {item["id"]: item["attributes"]["probability"] for item in deals[:UPDATES]}
    return edited, Counter(item["attributes"]["name"] for item in deals[UPDATES:])


def killed(box: Sandbox, program: subprocess.Popen[str], folder: Path, point: int, workers: int = 1) -> dict[str, Any]:
    """Let the program save and die at `point`; give what was there before, and its order."""
    client = box.client()
    doomed = [client.create({"name": "doomed"}).data["id"] for _ in range(30 - UPDATES - CREATIONS)]
    before = state(client)[0]
    order = {
        "url": box.url, "token": box.token, "point": point, "turn": f"{folder.name} {point}", "delete": doomed,
        "folder": str(folder), "workers": workers,
    }  # fmt: skip
    folder.mkdir()
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(json.dumps(order) + "\n")
    program.stdin.flush()
    code = int(program.stdout.readline())
    assert code == (-9 if point < EVENTS else 0)
    return order | {"before": before}


def check_resumed(client: Client, order: dict[str, Any]) -> None:
    """Every change is there once: none lost, none doubled."""
    edited, others = state(client)
    assert edited == {key: (value + 1) % 101 for key, value in order["before"].items()}
    assert others == Counter(f"new {order['turn']} {number}" for number in range(CREATIONS))


def take_back(client: Client, order: dict[str, Any]) -> None:
    """Undo all of it; what was deleted stays deleted, everything else is as before."""
    folder = Path(order["folder"])
    journal = next(iter(sorted(folder.glob("*.journal"))))
    dry = opp.undo(client, journal, dry_run=True, allow_delete=True)
    opp.undo(client, journal, allow_delete=True, confirm=dry.plan.fingerprint if len(dry.plan) else None)
    edited, others = state(client)
    assert edited == order["before"]
    assert set(others) <= {"doomed"}
    for row_id in order["delete"]:
        try:
            client.delete(row_id)
        except opp.errors.NotFoundError:
            continue


def kill_and_check(box: Sandbox, program: subprocess.Popen[str], folder: Path, point: int, *, resumed: bool) -> None:
    client = box.client()
    order = killed(box, program, folder, point)
    if point < UNBORN:
        # No journal had its name yet, so nothing was sent, and nothing stands in the way of the next save.
        assert len(opp.list_journals(folder)) == len(opp.resume(client, folder).rows) == 0
        assert state(client)[0] == order["before"]
        assert not [item for item in box.requests if f"new {order['turn']}".encode() in item.body]
        for row_id in order["delete"]:
            client.delete(row_id)
        return
    if resumed:
        opp.resume(client, folder)
        check_resumed(client, order)
    take_back(client, order)


@pytest.mark.parametrize(
    ("point", "resumed"),
    [(0, True), (2 + 6 * 9 + 3, True), (FIRST_POST + 3, True), (FIRST_POST + 3, False), (FIRST_DELETE + 3, True)],
)
def test_kill__at_some_points(
    box: Sandbox, program: subprocess.Popen[str], tmp_path: Path, point: int, resumed: bool
) -> None:
    """Before the plan is written, and when rows of each kind were sent and not noted."""
    kill_and_check(box, program, tmp_path / "journals", point, resumed=resumed)


def test_events__are_as_many_as_counted(box: Sandbox, program: subprocess.Popen[str], tmp_path: Path) -> None:
    """A save that is not killed passes exactly the events that the tests go through."""
    order = killed(box, program, tmp_path / "journals", EVENTS)
    assert (tmp_path / "journals" / "events").read_text(encoding="utf-8") == str(EVENTS)
    check_resumed(box.client(), order)
    take_back(box.client(), order)


@pytest.mark.nightly
def test_kill__at_every_point(box: Sandbox, program: subprocess.Popen[str], tmp_path: Path) -> None:
    """All 182 points: after each, resume finishes and undo restores."""
    for point in range(EVENTS):
        kill_and_check(box, program, tmp_path / f"journals {point}", point, resumed=True)


@pytest.mark.nightly
def test_kill__and_undo_at_once(box: Sandbox, program: subprocess.Popen[str], tmp_path: Path) -> None:
    """Every fifth point: undo restores without a resume before."""
    for point in range(0, EVENTS, 5):
        kill_and_check(box, program, tmp_path / f"journals {point}", point, resumed=False)


@pytest.mark.nightly
def test_kill__with_four_workers(box: Sandbox, program: subprocess.Popen[str], tmp_path: Path) -> None:
    """Where four rows are under way at once the same holds."""
    client = box.client()
    for point in range(UNBORN, EVENTS, 9):
        folder = tmp_path / f"journals {point}"
        order = killed(box, program, folder, point, workers=4)
        opp.resume(client, folder)
        check_resumed(client, order)
        take_back(client, order)
