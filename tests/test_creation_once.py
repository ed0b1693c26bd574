"""A new deal is made once: three kinds of id, six ways to go on, seven moments, judged by what the service has."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.api.client import Client
from opp_pandas.api.transport.retry import Clock
from opp_pandas.apply import executor, send_creates
from opp_pandas.apply.journal import OpenPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from opp_pandas.sandbox_handle import Sandbox

KINDS = ("own", "made here", "none")
WAYS = ("resume", "write again", "saved plan", "another machine", "run all", "two programs")
MOMENTS = (
    "answer lost",
    "not applied",
    "look-up failed",
    "killed before noting",
    "killed before processing",
    "killed after processing",
    "journal copied",
)
CASES = list(itertools.product(KINDS, WAYS, MOMENTS))
NOW = pd.Timestamp("2026-06-01", tz="UTC")


class KilledError(BaseException):
    """Stands for the end of the program: nothing after it runs that a dead program would not run."""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0,))
    # The second of two programs runs inside the first one here: it would wait for itself.
    monkeypatch.setattr(executor, "TWIN_WAIT_S", 0.0)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with opp.sandbox(opportunities=0, rate_limit=1_000_000) as made:
        yield made


def adopted(name: str, kind: str) -> pd.DataFrame:
    """What a notebook makes of its file each time it is run."""
    rows: dict[str, Any] = {"name": [f"{name} {n}" for n in range(3)], "amount": [100, 200, 300], "probability": 10}
    if kind == "own":
        rows["custom_id"] = [f"CRM {name} {n}" for n in range(3)]
    stages = opp.StageMap(order=["Open"])
    return opp.adopt(pd.DataFrame(rows), stages=stages, probability_unit="percent", as_of=NOW, currency="USD")


def break_off(box: Sandbox, moment: str, patched: pytest.MonkeyPatch) -> None:
    """Arrange for the moment to come at the second of three deals."""
    if moment in ("answer lost", "not applied", "look-up failed"):
        box.fail(0, method="POST", applied=moment != "not applied", after=1)
        if moment == "look-up failed":
            # One look before the deals are sent succeeds, those after the lost answer fail.
            box.fail(500, method="GET", times=50, after=1)
        return
    owner, name, at = (OpenPlan, "_note", 2) if moment == "killed before noting" else (Client, "create", 1)
    original: Callable[..., Any] = getattr(owner, name)
    calls = itertools.count()

    def dying(*arguments: Any, **options: Any) -> Any:
        dies = next(calls) == at
        if dies and moment != "killed after processing" and moment != "journal copied":
            raise KilledError
        answer = original(*arguments, **options)
        if dies:
            raise KilledError
        return answer

    patched.setattr(owner, name, dying)


def go_on(way: str, df: pd.DataFrame, client: Client, folder: Path, again: Any, **options: Any) -> Any:
    if way == "resume":
        return opp.resume(client, folder)
    if way == "write again":
        return df.opp.write_back(client, journal=folder, **options)
    if way == "saved plan":
        return opp.apply_plan(client, again, journal=folder)
    if way == "another machine":
        return opp.apply_plan(client, again, journal=folder.with_name("elsewhere"))
    return adopted(*options.pop("file")).opp.write_back(client, journal=folder, **options)


def check(box: Sandbox, tmp_path: Path, kind: str, way: str, moment: str) -> None:
    client, name = box.client(), f"{kind}, {way}, {moment}"
    options = {"custom_ids": "never" if kind == "none" else "auto", "workers": 1}
    df, folder = adopted(name, kind), tmp_path / "journals"
    saved = df.opp.changes(custom_ids=options["custom_ids"]).save(tmp_path / "plan.json")
    reports: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        break_off(box, moment, patched)
        if way == "two programs":
            # The second program comes while the first one is at the deal at which things go wrong.
            original = OpenPlan.sent
            second: list[None] = []

            def sent(plan: OpenPlan, step: int, *arguments: Any) -> None:
                original(plan, step, *arguments)
                if step == 1 and not second:
                    second.append(None)
                    reports.append(adopted(name, kind).opp.write_back(client, journal=folder, **options))

            patched.setattr(OpenPlan, "sent", sent)
        try:
            reports.append(df.opp.write_back(client, journal=folder, **options))
        except KilledError:
            pass
        else:
            assert not moment.startswith("killed") or way == "two programs"
    box.switches.faults.clear()
    if moment == "journal copied":
        # The file alone, as a synchronising drive may bring it to another computer.
        copy = tmp_path / "copied"
        copy.mkdir(mode=0o700)
        for path in folder.glob("*.journal"):
            shutil.copy(path, copy)
        folder = copy
    for _ in range(2):
        file = (name, kind)
        if way in ("run all", "two programs"):
            reports.append(go_on(way, df, client, folder, saved, file=file, **options))
        else:
            reports.append(go_on(way, df, client, folder, saved, **options))
    found = [
        item["attributes"]["name"]
        for page in client.iter_pages(filter={"name": [f"{name} {n}" for n in range(3)]})
        for item in page.document["data"]
    ]
    counts = Counter(found)
    assert set(counts.values()) <= {1}, (counts, [report.rows for report in reports])
    last = reports[-1].rows
    if len(last) and len(counts) < 3:
        # What is missing is named, with what to do.
        unsure = last[last["status"].isin(["unknown", "conflict", "refused"])]
        assert len(unsure) >= 3 - len(counts), last
        assert (unsure["detail"].str.len() > 0).all()


@pytest.mark.parametrize(("kind", "way", "moment"), CASES[::9])
def test_new_deal__is_made_once(box: Sandbox, tmp_path: Path, kind: str, way: str, moment: str) -> None:
    """Never two for one: a deal, or a row that says what to do."""
    check(box, tmp_path, kind, way, moment)


@pytest.mark.nightly
def test_new_deal__is_made_once_in_the_whole_table(box: Sandbox, tmp_path: Path) -> None:
    """All 126 cases."""
    for number, case in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir(mode=0o700)
        check(box, folder, *case)


@pytest.mark.parametrize("ends", [True, False])
def test_same_plan_twice_at_once__waits_and_joins(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """The second program says that it waits; then it finds everything done, or it refuses and names the first plan."""
    monkeypatch.setattr(executor, "TWIN_WAIT_S", 2.0)
    name, go_on, reports = f"twin {ends}", threading.Event(), []
    df = adopted(name, "made here")

    def hold(method: str, _: str) -> None:
        if method == "POST":
            started.set()
            go_on.wait(30)

    def wait(_: float) -> None:
        if ends:
            go_on.set()
            first.join(30)

    started = threading.Event()
    monkeypatch.setattr(box.switches, "before_request", hold)
    first = threading.Thread(target=lambda: reports.append(df.copy().opp.write_back(box.client(), journal=tmp_path)))
    first.start()
    assert started.wait(30)
    second = df.copy().opp.write_back(box.client(clock=Clock(sleep=wait)), journal=tmp_path)
    go_on.set()
    first.join(30)
    assert "plan 1 is sending the same changes: waiting for it, at most 2 s" in caplog.text
    words = "it is there already: plan 1 created it" if ends else "plan 1 is creating it at this moment"
    assert second.counts() == {"unchanged" if ends else "refused": 3}
    assert second.rows["detail"].str.startswith(words).all()
    assert reports[0].counts() == {"written": 3}
    deals = [item for page in box.client().iter_pages() for item in page.document["data"]]
    assert sum(item["attributes"]["name"].startswith(name) for item in deals) == 3


def test_undo__restores_cents(box: Sandbox, tmp_path: Path) -> None:
    """A load without the exact amount changes the whole one; undo gives back the cents that nobody had loaded."""
    client = box.client()
    row_id = client.create({"name": "cents", "amountPrecise": "5000.50"}).data["id"]
    before = client.get(row_id).data["attributes"]
    df = opp.read_opportunities(client, filter={"id": [row_id]}, fields=["name", "amount"], include=())
    df["amount"] = 7000
    df.opp.write_back(journal=tmp_path)
    assert client.get(row_id).data["attributes"]["amountPrecise"] != before["amountPrecise"]
    assert opp.undo(client, tmp_path).counts() == {"written": 1}
    after = client.get(row_id).data["attributes"]
    assert (after["amount"], float(after["amountPrecise"])) == (before["amount"], 5000.5)
