"""Two programs that create the same deals at once, in thousands of orders: judged by what the service has."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import opp_pandas as opp
from opp_pandas.apply.executor import ApplyOptions, announce, carry_out
from opp_pandas.apply.journal import Journal
from opp_pandas.changes.changeset import RowCreation
from opp_pandas.changes.plan import ChangeSet
from opp_pandas.errors import JournalError
from opp_pandas.frame_state import OWN_CUSTOM_ID
from turns import Turns, watch_journals

if TYPE_CHECKING:
    from opp_pandas.sandbox_handle import Sandbox

KINDS = ("own", "made here", "none")
DEALS = 2
NOW = datetime(2026, 6, 1, tzinfo=UTC)
LAGS: dict[str, Any] = {"no lag": 0.0, "1 s": 1.0, "4 s": 4.0, "8 s": 8.0, "0 to 2 s, each deal its own": None}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: what the disk takes for a commit is no part of this."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    made = Path(tempfile.mkdtemp(prefix="opp_pandas_turns_", dir=memory if os.access(memory, os.W_OK) else None))
    with pytest.MonkeyPatch.context() as patched:
        watch_journals(patched)
        yield made
    shutil.rmtree(made)


class Round:
    """One service, and journals of one round each."""

    def __init__(self, box: Sandbox, folder: Path) -> None:
        self.box, self.folder, self.client = box, folder, box.client()
        Journal.open(self.journal("empty"), box.url).close()
        self.counts: Counter[str] = Counter()

    def journal(self, name: str, number: int = -1) -> Path:
        """Make a folder with an empty journal."""
        made = self.folder / f"{name} {number}"
        made.mkdir(mode=0o700)
        if number >= 0:
            for file in (self.folder / "empty -1").iterdir():
                shutil.copy(file, made)
        return made

    def plan(self, number: int, kind: str) -> ChangeSet:
        """Return the plan of this round, as `write_back` and a saved file would have it."""
        creations = []
        for n in range(DEALS):
            # A name-based id, as rows of an adopted file without keys get them: others may make the same.
            key = f"{OWN_CUSTOM_ID}6a1cf3a5-5a1c-5f0e-9d0b-{number:08x}{n:04x}"
            values = {"name": f"round {number} {n}", "amount": 5}
            values |= {"none": {}, "own": {"custom_id": f"CRM {number} {n}"}, "made here": {"custom_id": key}}[kind]
            creations.append(RowCreation(n, n, values, key=key))
        return ChangeSet(creations=tuple(creations), service=self.box.url)

    def has(self, number: int) -> list[int]:
        """How often each deal of the round stands at the service; they are removed."""
        names = [f"round {number} {n}" for n in range(DEALS)]
        self.box.switches.index_lag_s = 0.0
        pages = self.client.iter_pages(filter={"name": names})
        deals = [item for page in pages for item in page.document["data"]]
        for item in deals:
            self.client.delete(item["id"])
        found = Counter(item["attributes"]["name"] for item in deals)
        return [found[name] for name in names]


def write(client: Any, plan: ChangeSet, journal: Path, *, shared: bool) -> Any:
    """Send a plan as `write_back` does with the plan of its frame, or `apply_plan` with one in a file."""
    options = ApplyOptions(client, workers=1, journal=journal, shared=shared)
    tasks, report = announce(plan, shared=shared)
    with options.open_journal() as opened, options.begin(opened, plan) as begun:
        return carry_out(options, begun, tasks, report)


def one_machine(rounds: Round, number: int, kind: str) -> None:
    """Two programs with one journal; in every third round an answer is lost, in some the second one resumes first."""
    turns, box = Turns(number), rounds.box
    plan, journal = rounds.plan(number, kind), rounds.journal("journal", number)
    dice = turns.random
    faulty = number % 3 == 0
    if faulty:
        box.fail(0, method="POST", applied=dice.random() < 0.5, after=dice.randrange(2))
    shared, resumes = [dice.random() < 0.5 for _ in range(2)], dice.random() < 0.2
    other = plan if dice.random() < 0.8 else replace(plan, creations=plan.creations[::-1])
    clients = [turns.client(box) for _ in range(2)]

    def second() -> Any:
        if resumes:
            # The first one may be writing by its plan at the moment.
            with suppress(JournalError):
                opp.resume(clients[1], journal)
        return write(clients[1], other, journal, shared=shared[1])

    results = turns.run([lambda: write(clients[0], plan, journal, shared=shared[0]), second], [0.0, 0.0])
    box.switches.faults.clear()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    found = rounds.has(number)
    statuses = Counter(str(outcome.status) for result in results for outcome in result.outcomes)
    details = [(str(o.status), o.detail) for result in results for o in result.outcomes]
    assert max(found) <= 1, (number, kind, found, details)
    unsure = statuses["unknown"] + statuses["refused"] + statuses["conflict"] + statuses["failed"]
    assert min(found) == 1 or (faulty and unsure), (number, kind, found, details)
    rounds.counts.update(statuses)
    rounds.counts["switches"] += turns.switches
    rounds.counts["missing, said"] += found.count(0)
    shutil.rmtree(journal)


@pytest.fixture(scope="module")
def rounds(folder: Path) -> Iterator[Round]:
    with opp.sandbox(opportunities=0, rate_limit=10**9) as box:
        yield Round(box, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_two_programs__make_every_deal_once(rounds: Round, kind: str) -> None:
    """Sixty interleavings of requests and transactions, with lost answers in a third of them."""
    for number in range(60):
        one_machine(rounds, 100 * KINDS.index(kind) + number, kind)


@pytest.mark.nightly
def test_two_programs__make_every_deal_once_in_ten_thousand_orders(rounds: Round) -> None:
    """No deal is made twice, and none is missing that no report names."""
    rounds.counts.clear()
    for number in range(1_000, 11_000):
        one_machine(rounds, number, KINDS[number % 7 % 3])
    sys.stdout.write(f"10,000 interleavings of two programs: {dict(rounds.counts)}\n")


class Machines:
    """Two machines with a clock each and a service whose index lags."""

    def __init__(self, folder: Path) -> None:
        self.turns = Turns(0, timed=True)
        self.box = opp.sandbox(opportunities=0, rate_limit=10**9, now=lambda: NOW + timedelta(seconds=self.turns.now))
        self.rounds = Round(self.box, folder)
        self.day = 0.0

    def run(self, number: int, kind: str, lag: Any, *, loses: bool = False) -> tuple[int, int]:
        """Let two machines create the same deals in one second; give how many are there twice, and told so.

        Where it `loses` one, a deal may also be missing, which has to be told.
        """
        turns = self.turns = Turns(number, timed=True)
        dice, plan = turns.random, self.rounds.plan(number, kind)
        folders = [self.rounds.journal(f"machine {n}", number) for n in range(2)]
        self.box.switches.index_lag_s = (lambda: dice.uniform(0, 2)) if lag is None else lag
        if loses:
            self.box.fail(0, method="POST", applied=dice.random() < 0.5, after=dice.randrange(2 * DEALS))
        clients = [turns.client(self.box) for _ in range(2)]
        programs = [lambda n=n: write(clients[n], plan, folders[n], shared=True) for n in range(2)]
        # Rounds do not share their time: what is new in one is old in the next.
        self.day += 1_000
        results = turns.run(programs, [self.day, self.day + dice.random()])
        for result in results:
            if isinstance(result, BaseException):
                raise result
        turns.ended_at += 100
        found = self.rounds.has(number)
        words = [[outcome.detail for outcome in result.outcomes] for result in results]
        missing = [[each[place] for each in words] for place in range(DEALS) if not found[place]]
        assert max(found) <= 2
        assert all(loses and any("write it back again" in told for told in each) for each in missing)
        told = sum(
            found[place] == 2
            and any("does not show it yet" in each[place] or "delete" in each[place] for each in words)
            for place in range(DEALS)
        )
        for made in folders:
            shutil.rmtree(made)
        return found.count(2), told


@pytest.fixture(scope="module")
def machines(folder: Path) -> Iterator[Machines]:
    inner = folder / "machines"
    inner.mkdir(mode=0o700)
    made = Machines(inner)
    yield made
    made.box.close()


@pytest.mark.parametrize("lag", ["no lag", "1 s", "4 s", "0 to 2 s, each deal its own"])
def test_two_machines__of_one_second_leave_one_deal(machines: Machines, lag: str) -> None:
    """One gives way, where the service's index shows a deal in less than five seconds."""
    offset = 100 * list(LAGS).index(lag)
    for number in range(offset, offset + 20):
        assert machines.run(number, KINDS[number % 2], LAGS[lag]) == (0, 0), number


def test_two_machines__behind_a_slow_index_are_told(machines: Machines) -> None:
    """Where the index lags by more, every deal that is there twice is said to be perhaps."""
    doubled = [machines.run(number, "own", 8.0) for number in range(900, 910)]
    assert sum(number for number, _ in doubled) > 0
    assert all(number == told for number, told in doubled)


@pytest.mark.nightly
def test_two_machines__rate_of_doubled_deals(machines: Machines) -> None:
    """10,000 rounds: none below five seconds; behind a slower index, or with lost answers, each is told."""
    rates: dict[str, tuple[int, int, int]] = {}
    kinds = [(name, lag, False) for name, lag in LAGS.items()] + [("0 to 2 s, answers lost", None, True)]
    for place, (name, lag, loses) in enumerate(kinds):
        doubled = told = 0
        # Most of them where each deal has a lag of its own.
        rounds = 3_000 if lag is None else 1_000
        for number in range(10_000 + 3_000 * place, 10_000 + 3_000 * place + rounds):
            two, said = machines.run(number, KINDS[number % 2], lag, loses=loses)
            doubled, told = doubled + two, told + said
        rates[name] = (doubled, told, rounds * DEALS)
    sys.stdout.write(f"deals that two machines made twice in one second, of which it was said, of how many: {rates}\n")
    for late in (rates.pop("8 s"), rates.pop("0 to 2 s, answers lost")):
        assert late[0] == late[1]
    assert {doubled for doubled, _, _ in rates.values()} == {0}
