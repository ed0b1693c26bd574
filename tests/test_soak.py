"""Two writers, a service that fails at every third request, and a model of what must stand there in the end."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import opp_pandas as opp
from opp_pandas.apply import send_creates
from opp_pandas.apply.status import Status
from opp_pandas.changes.changeset import RowCreation
from opp_pandas.sandbox_server.settings import Fault
from thirtydeals import STAGES, fast_client

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from opp_pandas.sandbox_handle import Sandbox

pytestmark = pytest.mark.filterwarnings("ignore::opp_pandas.errors.OppPandasWarning")

DEALS, EDITS, NEW = 80, 24, 4
FAULTS = 0.3
# What a failing service does: cut the line, or answer as gateways do, whether the work was done or not.
ANSWERS = (0, 500, 502, 504)
FIELDS = ["name", "probability", "next_step", "custom_id"]


def peak_mb() -> float:
    """Most memory that this process has had [MB]; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


class Writer:
    """One program: it edits its own half of the deals, adds new ones and deletes those it added before."""

    def __init__(self, box: Sandbox, folder: Path, number: int, seed: int) -> None:
        self.client, self.folder, self.number = fast_client(box), folder, number
        self.dice = random.Random(seed * 10 + number)
        self.model: dict[str, tuple[Any, Any] | None] = {}
        self.count = self.turn = 0
        self.ends: Counter[str] = Counter()

    def load(self) -> pd.DataFrame:
        """Read everything, as often as it takes."""
        while True:
            try:
                return opp.read_opportunities(self.client, stages=STAGES, fields=FIELDS, include=(), page_size=1000)
            except opp.errors.ServiceError:
                continue

    def work(self, operations: int) -> None:
        """Edit, add, delete and write back until so many rows were sent."""
        df = self.load()
        while self.count < operations:
            self.turn += 1
            df = self.round(df)
            if self.turn % 8 == 0:
                df = self.load()

    def round(self, df: pd.DataFrame) -> pd.DataFrame:
        """Write one batch back, and go on with what failed until nothing is open."""
        own = df.index[df["name"].str.startswith(f"{self.number} ") & df["id"].notna()]
        kept = [row for row in own if df.loc[row, "name"].startswith(f"{self.number} kept")]
        added = [row for row in own if row not in kept]
        # Lists come back by row: a row is edited or deleted, and no deal is deleted that may be open still.
        for row in self.dice.sample(kept, EDITS):
            df.loc[row, ["probability", "next_step"]] = [self.dice.randrange(101), f"Call {self.dice.random()}"]
        rows = [{"name": f"{self.number} new {self.turn} {n}", "probability": n} for n in range(NEW)]
        if self.turn % 2:
            rows = [row | {"custom_id": f"CRM {row['name']}"} for row in rows]
        df = df.opp.add(rows)
        doomed = [int(df.loc[row, "id"]) for row in added[:NEW]]
        wanted = {str(r["name"]): (r["probability"], r["next_step"]) for r in df.to_dict("records") if str(r["name"]) in
                  {str(df.loc[row, "name"]) for row in kept} | {row["name"] for row in rows}}  # fmt: skip
        wanted = {
            name: (int(value), None if not isinstance(step, str) else step) for name, (value, step) in wanted.items()
        }
        gone = {str(df.loc[row, "name"]) for row in added[:NEW]}
        plan = df.opp.changes(delete=doomed, allow_delete=True, custom_ids="always")
        report = df.opp.write_back(
            self.client,
            delete=doomed,
            allow_delete=True,
            confirm=plan.fingerprint,
            custom_ids="always",
            journal=self.folder,
        )
        self.count += len(plan)
        before_resume = report
        for _ in range(50):
            if not self.is_open(report):
                break
            try:
                report = opp.resume(self.client, self.folder, plan=before_resume.plan_number)
            except opp.errors.ServiceError:
                continue
        self.ends.update(report.counts())
        self.model |= wanted | dict.fromkeys(gone, None)
        for entry, outcome in zip(report.plan.entries, report.outcomes, strict=True):
            if outcome.status is Status.UNKNOWN and isinstance(entry, RowCreation):
                # Sent twice and never applied: it is not sent a third time, and the report says so.
                self.model[entry.values["name"]] = None
        return df if report is before_resume else self.load()

    @staticmethod
    def is_open(report: Any) -> bool:
        """Whether rows are left that the service did not get or answer."""
        waits = report.rows["status"].isin(["planned", "failed", "unknown"])
        return bool((waits & ~report.rows["detail"].str.contains("it cannot be found")).any())


def soak(box: Sandbox, folder: Path, operations: int, seed: int = 1) -> tuple[list[Writer], float, list[float]]:
    """Let two writers work; give them, the requests for each operation, and the memory on the way."""
    for number in range(2):
        for n in range(DEALS // 2):
            box.client().create({"name": f"{number} kept {n}", "probability": 1})
    writers = [Writer(box, folder, number, seed) for number in range(2)]
    dice, lock, problems = random.Random(seed), threading.Lock(), []

    def fail(method: str, path: str) -> None:
        with lock:
            if dice.random() < FAULTS:
                box.switches.faults.append(Fault(dice.choice(ANSWERS), 1, method, path, dice.random() < 0.5))

    def work(writer: Writer, until: int) -> None:
        try:
            writer.work(until)
        except BaseException as problem:  # noqa: BLE001 - raised again where the test waits
            problems.append(problem)

    memory = []
    for part in range(1, 5):
        box.switches.before_request = fail
        threads = [threading.Thread(target=work, args=(writer, operations * part // 8)) for writer in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        box.switches.before_request = None
        box.switches.faults.clear()
        if problems:
            raise problems[0]
        memory.append(peak_mb())
    asked = sum(writer.client.calls for writer in writers) / sum(writer.count for writer in writers)
    return writers, asked, memory


def check(box: Sandbox, writers: list[Writer]) -> None:
    """The service has what the model says, everything once, and nothing is unknown."""
    found: dict[str, list[tuple[Any, Any]]] = {}
    for page in box.client().iter_pages(page_size=1000):
        for item in page.document["data"]:
            values = item["attributes"]
            found.setdefault(values["name"], []).append((values["probability"], values["nextStep"]))
    model = {name: values for writer in writers for name, values in writer.model.items() if values is not None}
    assert {name: [values] for name, values in model.items()} == found
    ends = Counter(writers[0].ends) + Counter(writers[1].ends)
    assert set(ends) <= {"written", "adjusted", "unchanged", "gone", "unknown"}, ends
    assert ends["unknown"] <= 0.05 * ends.total()


@pytest.fixture
def box() -> Any:
    with opp.sandbox(opportunities=0, rate_limit=10**9) as made:
        yield made


@pytest.fixture(autouse=True)
def _few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    # This index does not lag.
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0,))


def test_soak__ends_as_the_model(box: Sandbox, tmp_path: Path) -> None:
    """300 operations: everything that was wanted stands there once, at few requests for each."""
    writers, asked, _ = soak(box, tmp_path, 300)
    check(box, writers)
    assert asked < 2.5


@pytest.mark.nightly
def test_soak__of_ten_thousand_operations(box: Sandbox, tmp_path: Path) -> None:
    """The same at full length, and the memory that it takes does not grow."""
    writers, asked, memory = soak(box, tmp_path, 10_000)
    ends = Counter(writers[0].ends) + Counter(writers[1].ends)
    count = sum(writer.count for writer in writers)
    sys.stdout.write(f"{count} operations, {asked:.2f} requests for each, {dict(ends)}, peaks {memory} MB\n")
    check(box, writers)
    assert asked < 2.1
    assert memory[-1] < 1.05 * memory[1]
