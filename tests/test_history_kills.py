"""Kill -9 of whoever keeps a history, at every event and in the middle of writes: the last whole version is there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from histories import load_of, moment
from killedrecorder import DAYS, DEALS, STEPS, load, take_step
from opp_pandas.history import History

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed program forks")

# Before and after: a record opens the table, reads it, appends and moves the head, the first one makes it, moves the
# head and opens it; compacting and forgetting open it, read it, rewrite it and move the head.
EVENTS = 6 + 4 * 8 + 2 * 8


@pytest.fixture(scope="module")
def program() -> Iterator[subprocess.Popen[str]]:
    """The program that is killed, waiting for orders."""
    command = [sys.executable, str(Path(__file__).with_name("killedrecorder.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        yield running
        assert running.stdin is not None
        running.stdin.close()


def say(program: subprocess.Popen[str], folder: Path, point: int | None) -> None:
    assert program.stdin is not None
    program.stdin.write(json.dumps({"folder": str(folder), "point": point}) + "\n")
    program.stdin.flush()


def hear(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def check_whole(history: History) -> int:
    """Every snapshot that is told of reads as it was recorded; gives the day of the newest."""
    snapshots = history.snapshots()["observed_at"]
    days = [int((at - moment(1)).days) + 1 for at in snapshots]
    for day in days:
        expected = load(day)
        pd.testing.assert_frame_equal(history.as_of(moment(day))[list(expected.columns)], expected, check_flags=False)
    return max(days, default=0)


def go_on(history: History) -> None:
    """Whoever comes next takes all steps again, and has what it would have had."""
    for step in STEPS:
        take_step(history, step)
    assert check_whole(history) == 5
    log = history.diff(moment(4))
    assert (log["action"].isin(["appeared", "gone"])).sum() == 2
    assert (log["action"] == "changed").sum() == DEALS - 1


def kill_and_check(program: subprocess.Popen[str], folder: Path, point: int) -> None:
    say(program, folder, point)
    assert hear(program) == f"ended {-signal.SIGKILL}"
    history = History(folder)
    check_whole(history)
    go_on(history)


@pytest.mark.parametrize("point", [1, 3, 11, 36, 44])
def test_kill__at_some_events(program: subprocess.Popen[str], tmp_path: Path, point: int) -> None:
    """While the table is made, before and after a commit, while files are joined and rows replaced."""
    kill_and_check(program, tmp_path / "history", point)


def test_events__are_as_many_as_counted(program: subprocess.Popen[str], tmp_path: Path) -> None:
    """A run that is not killed passes exactly the events that the tests go through."""
    say(program, tmp_path / "history", EVENTS + 100)
    assert hear(program) == f"{EVENTS} events"
    assert hear(program) == "ended 0"
    assert check_whole(History(tmp_path / "history")) == 5


@pytest.mark.nightly
def test_kill__at_every_event(program: subprocess.Popen[str], tmp_path: Path) -> None:
    """All of them, one after the other."""
    for point in range(EVENTS):
        kill_and_check(program, tmp_path / f"history {point}", point)


@pytest.mark.parametrize("step", ["record 3", *(pytest.param(step, marks=pytest.mark.nightly) for step in STEPS)])
@pytest.mark.parametrize("where", ["data", "log"])
def test_kill__in_the_middle_of_a_write(program: subprocess.Popen[str], tmp_path: Path, step: str, where: str) -> None:
    """As soon as the first bytes of a file are there: of the rows, or of the commit that names them."""
    folder = tmp_path / "history"
    place = folder / "_delta_log" if where == "log" else folder
    say(program, folder, None)
    child = 0
    while child == 0:
        pid, _, name = hear(program).partition(" ")
        child = int(pid) if name == step else 0
    before = set(place.iterdir()) if place.exists() else set()
    appeared = False
    while not appeared:
        with contextlib.suppress(FileNotFoundError):
            appeared = bool(set(place.iterdir()) - before)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    while not hear(program).startswith("ended"):
        pass
    history = History(folder)
    # Steps before the one that was killed are not lost.
    assert check_whole(history) >= [0, *DAYS, DAYS[-1], DAYS[-1]][STEPS.index(step)]
    go_on(history)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks the system which file is written through")
def test_commit__lasts_before_the_head_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, then the log, then the head are written through to the disk, each with its folder."""
    synced: list[str] = []

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    real = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    history = History(tmp_path / "history")
    for day in (1, 2):
        history.record(load_of([{"id": 1, "amount": day}], day))
    kinds = ["part" if ".part-" in name else "head" if ".head.json" in name else name for name in synced]
    log = [f"{number:020d}.json" for number in range(3)]
    made = [log[0], "_delta_log", "head", "_opp_pandas"]
    added = [["part", "history", log[number], "_delta_log", "head", "_opp_pandas"] for number in (1, 2)]
    assert kinds == [*made, *added[0], *added[1]]
