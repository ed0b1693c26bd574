"""Kill -9 at every request and every journal write of a save: nothing lost, doubled or overwritten (promise R19)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import opp_pandas as opp
from killed import CREATIONS, DELETIONS, UPDATES
from opp_pandas.apply import send_creates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opp_pandas.sandbox_handle import Sandbox

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed program forks"),
    pytest.mark.filterwarnings("ignore::opp_pandas.errors.OppPandasWarning"),
]

ROWS = UPDATES + CREATIONS + DELETIONS
KINDS = ("own", "made here", "none")
NEVER = 10_000
THEIRS = "a colleague's"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0,))


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    # All points together take more requests than an hour allows; pacing would stretch them over it.
    with opp.sandbox(opportunities=0, rate_limit=100_000_000) as made:
        for number in range(UPDATES):
            made.client().create({"name": f"Deal {number}", "probability": 5 * number})
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: what a killed program has written is the system's, on no disk too."""
    memory = Path("/dev/shm")  # noqa: S108 (made by mkdtemp, for its owner)
    with tempfile.TemporaryDirectory(prefix="opp_pandas_kills_", dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


class Program:
    """The program that is killed, waiting for orders."""

    def __init__(self, box: Sandbox) -> None:
        command = [sys.executable, str(Path(__file__).with_name("killed.py"))]
        self._running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.box, self.client = box, box.client()
        self.events: dict[str, list[str]] = {}

    def close(self) -> None:
        """End it."""
        self._running.communicate()

    def run(self, order: dict[str, Any]) -> int:
        """Carry out one order; give the exit code."""
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        self._running.stdin.write(json.dumps(order) + "\n")
        self._running.stdin.flush()
        return int(self._running.stdout.readline())

    def events_of(self, kind: str, folder: Path) -> list[str]:
        """What happens in a save of this kind that nobody kills."""
        if kind not in self.events:
            case = Case(self, kind, folder, NEVER)
            facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
            case.complete(Counter(row["action"] for row in facts["rows"] if row["status"] == "unknown"))
            case.undo()
            self.events[kind] = facts["events"]
        return self.events[kind]


@pytest.fixture(scope="module")
def program(box: Sandbox) -> Iterator[Program]:
    made = Program(box)
    yield made
    made.close()


class Case:
    """One save that was killed, and what the service must have afterwards."""

    def __init__(self, program: Program, kind: str, folder: Path, point: int, workers: int = 1) -> None:
        self.program, self.client, self.kind = program, program.client, kind
        doomed = [self.client.create({"name": "doomed"}).data["id"] for _ in range(DELETIONS)]
        self.before = {key: values["probability"] for key, values in self.deals().items() if key not in doomed}
        self.names = [f"{folder.name} {kind} {n}" for n in range(CREATIONS)]
        self.theirs: dict[int, dict[str, Any]] = {}
        self.order = {
            "url": program.box.url, "token": program.box.token, "point": point, "kind": kind, "again": False,
            "turn": f"{folder.name} {kind}", "delete": doomed, "folder": str(folder), "workers": workers, "rows": ROWS,
            "values": {key: (value + 1) % 101 for key, value in self.before.items()},
        }  # fmt: skip
        folder.mkdir()
        assert program.run(self.order) == (0 if point == NEVER else -9)

    def deals(self) -> dict[int, dict[str, Any]]:
        """Everything that the service has."""
        pages = self.client.iter_pages(fields=["name", "probability", "nextStep"], page_size=1000)
        return {item["id"]: item["attributes"] for page in pages for item in page.document["data"]}

    def resume(self) -> None:
        """Finish the plan, if there is one that was begun."""
        report = opp.resume(self.client, self.order["folder"])
        if not len(report.rows) and len(opp.list_journals(self.order["folder"])):
            # Killed after its last step was noted: nothing is left.
            self.complete(Counter())
            return
        if not len(report.rows):
            # No journal had its name or its plan yet, so nothing was sent.
            assert not [name for name in self.names if name in self.by_name()]
            self.again()
            return
        rows = report.rows
        self.complete(Counter(rows.loc[rows["status"] == "unknown", "action"]), rows.loc[rows["status"] == "conflict"])

    def again(self) -> None:
        """Write once more: with the same frame, or by the whole program where the deals bear ids of their own."""
        has = self.deals()
        left = sum(row_id in has for row_id in self.order["delete"])
        changed = self.kind == "own" and sum(
            has[row]["probability"] != value for row, value in self.order["values"].items()
        )
        rows = ROWS if self.kind != "own" else changed + CREATIONS + left
        assert self.program.run(self.order | {"again": True, "point": NEVER, "rows": rows}) == 0
        facts = json.loads(Path(self.order["folder"], "facts.json").read_text(encoding="utf-8"))
        self.complete(Counter(row["action"] for row in facts["rows"] if row["status"] == "unknown"))

    def others_edit(self) -> None:
        """A colleague edits before anything goes on: other cells, the same cells, a new deal, a deal to delete."""
        names = self.by_name()
        kept = [key for key in self.order["delete"] if key in self.deals()][-1:]
        rows = [*list(self.before)[:2], *list(self.before)[-2:]]
        for place, row in enumerate([*rows, *kept, *(names[name][0] for name in self.names if name in names)]):
            same = row in self.before and place % 2
            values = {"probability": (self.before[row] + 50) % 101} if same else {"nextStep": THEIRS}
            self.client.update(row, values)
            self.theirs[row] = values

    def by_name(self) -> dict[str, list[int]]:
        """Ids by name."""
        found: dict[str, list[int]] = {}
        for key, values in self.deals().items():
            found.setdefault(values["name"], []).append(key)
        return found

    def untouched(self) -> dict[int, dict[str, Any]]:
        """Everything that the service has, of which nothing that a colleague wrote was overwritten."""
        has = self.deals()
        for row, values in self.theirs.items():
            assert {name: has[row][name] for name in values} == values
        return has

    def complete(self, unknown: Counter[str], conflicts: Any = ()) -> None:
        """Every change is there once: none lost, none doubled; without an id it may be unknown, which is said."""
        has, names = self.untouched(), self.by_name()
        for row, value in self.order["values"].items():
            assert has[row]["probability"] == self.theirs.get(row, {}).get("probability", value)
        made = [names.get(name, []) for name in self.names]
        assert max(map(len, made)) == 1
        missing = sum(not ids for ids in made)
        assert missing <= (unknown["create"] if self.kind == "none" else 0)
        assert [key for key in self.order["delete"] if key in has] == [
            key for key in self.theirs if key in self.order["delete"]
        ]
        assert len(conflicts) <= len(self.theirs)

    def undo(self) -> None:
        """Take everything back; what was deleted stays deleted, and what a colleague wrote stays his."""
        plans = opp.list_journals(self.order["folder"])
        refused = 0
        for plan in plans["plan"].dropna().sort_values(ascending=False):
            dry = opp.undo(self.client, self.order["folder"], plan=int(plan), dry_run=True, allow_delete=True)
            confirm = dry.plan.fingerprint if len(dry.plan) else None
            report = opp.undo(self.client, self.order["folder"], plan=int(plan), allow_delete=True, confirm=confirm)
            refused += (report.rows["action"] == "create").sum() if len(report.rows) else 0
        has, names = self.untouched(), self.by_name()
        for row, value in self.before.items():
            assert has[row]["probability"] == self.theirs.get(row, {}).get("probability", value)
        left = [row for name in self.names for row in names.get(name, [])]
        touched = [row for row in left if row in self.theirs]
        assert len(left) - len(touched) <= (refused if self.kind == "none" else 0)

    def clean(self) -> None:
        """Put the service back for the next case."""
        for row in self.deals().keys() - self.before.keys():
            self.client.delete(row)
        for row in self.theirs.keys() & self.before.keys():
            self.client.update(row, {"probability": self.before[row], "nextStep": None})


def resumed(case: Case) -> None:
    case.resume()
    case.undo()


def written_again(case: Case) -> None:
    case.again()


def edited_by_others(case: Case) -> None:
    case.others_edit()
    case.resume()
    case.undo()


def undone(case: Case) -> None:
    case.undo()


def everything(case: Case) -> None:
    case.resume()
    case.again()
    case.undo()


ENDINGS = (resumed, written_again, edited_by_others, undone, everything)


def check(program: Program, kind: str, ending: Callable[[Case], None], folder: Path, point: int) -> None:
    """Kill one save, go on, and look at the service; a failure names the point."""
    case = Case(program, kind, folder, point)
    try:
        ending(case)
        case.clean()
    except BaseException as problem:
        problem.add_note(f"{kind}, {ending.__name__}, killed at event {point}")
        raise


@pytest.mark.parametrize(("ending", "kind"), [*zip(ENDINGS, KINDS * 2, strict=False), (edited_by_others, "own")])
def test_kill__at_some_points(program: Program, folder: Path, ending: Callable[[Case], None], kind: str) -> None:
    """When the answer for a new deal was there and not noted: every way to go on, every kind of id."""
    events = program.events_of(kind, folder / "whole")
    posts = [place for place, name in enumerate(events) if name == "POST answered"]
    check(program, kind, ending, folder / "sent", posts[len(posts) // 2])


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_kill__at_every_request(program: Program, folder: Path, kind: str, ending: Callable[[Case], None]) -> None:
    """Before every request and after every answer, for every kind of id and every way to go on."""
    events = program.events_of(kind, folder / "whole")
    points = [place for place, name in enumerate(events) if name.endswith(("asked", "answered"))]
    assert len(points) >= 2 * ROWS
    for point in points:
        check(program, kind, ending, folder / f"point {point}", point)


@pytest.mark.nightly
def test_kill__at_every_journal_write(program: Program, folder: Path) -> None:
    """Before and after each; then resume finishes and undo restores."""
    events = program.events_of("own", folder / "whole")
    points = [place for place, name in enumerate(events) if name.endswith(("begun", "ended"))]
    assert len(points) >= 2 + 4 * ROWS
    for point in points:
        check(program, "own", resumed, folder / f"point {point}", point)


@pytest.mark.nightly
def test_kill__with_four_workers(program: Program, folder: Path) -> None:
    """Where four rows are under way at once the same holds."""
    for point in range(2, 4 * ROWS, 9):
        case = Case(program, "made here", folder / f"point {point}", point, workers=4)
        resumed(case)
        case.clean()
