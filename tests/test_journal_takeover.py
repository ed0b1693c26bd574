"""Journals and plans that the first version wrote open, migrate, resume and undo."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import opp_pandas as opp
from opp_pandas.apply import send_creates
from opp_pandas.apply.journal import Journal
from opp_pandas.changes.plan import ChangeSet
from opp_pandas.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

OLD = Path(__file__).parent / "data" / "written_by_0"
FINISHED, INTERRUPTED, KEYLESS, UNDONE, UNDOING = sorted(path.name for path in OLD.glob("*.journal"))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_creates, "LOOK_UP_WAITS_S", (0.0,))


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """The service as the journals left it: the interrupted creations were applied, and their answers never seen."""
    with opp.sandbox(opportunities=0) as made:
        client = made.client()
        for number in range(6):
            client.create({"name": f"Deal {number}", "probability": 5 * number, "amount": 100 * number})
        for row_id, probability in ((1, 41), (2, 42), (3, 77)):
            client.update(row_id, {"probability": probability})
        client.delete(6)
        client.create({"name": "made", "customId": keys(FINISHED)[0]})
        client.create({"name": "lost", "customId": keys(INTERRUPTED)[0]})
        client.create({"name": "keyless"})
        yield made


def keys(name: str) -> list[str]:
    connection = sqlite3.connect(f"{(OLD / name).as_uri()}?immutable=1", uri=True)
    found = [key for (key,) in connection.execute("SELECT key FROM step WHERE key <> '' ORDER BY number")]
    connection.close()
    return found


def checksum(*parts: str) -> str:
    return hashlib.sha256(json.dumps(list(parts), separators=(",", ":")).encode()).hexdigest()


@pytest.fixture
def folder(box: Sandbox, tmp_path: Path) -> Path:
    """The old files, for the service of this test: its port is another one each time."""
    made = tmp_path / "journals"
    made.mkdir(mode=0o700)
    for path in OLD.glob("*.journal"):
        copy = Path(shutil.copy(path, made))
        copy.chmod(0o600)
        connection = sqlite3.connect(copy)
        connection.execute(
            "UPDATE meta SET value = ?, checksum = ? WHERE name = 'service'", (box.url, checksum("service", box.url))
        )
        connection.commit()
        connection.close()
    return made


def names(client: Client) -> list[str]:
    return sorted(item["attributes"]["name"] for page in client.iter_pages() for item in page.document["data"])


def test_old_journals__are_taken_over_once(box: Sandbox, folder: Path) -> None:
    """Each file becomes a plan, in its order, with what became of it; the files go."""
    first = opp.list_journals(folder)
    assert first["plan"].tolist() == [1, 2, 3, 4, 5]
    assert first["open"].tolist() == [0, 3, 1, 0, 0]
    assert first["undone"].tolist() == [0, 0, 0, 1, 0]
    assert first["problem"].isna().all()
    assert [path.name for path in folder.glob("*.journal")] == [Path(first["journal"].iloc[0]).name]
    assert opp.list_journals(folder).equals(first)
    assert opp.list_journals(folder, service=box.url).equals(first)


def test_old_journal__is_resumed_without_a_second_deal(box: Sandbox, folder: Path) -> None:
    """What was sent is found by its key, what was only planned is sent, once; and the new one is undone like any."""
    client = box.client()
    report = opp.resume(client, folder, plan=2)
    assert set(report.counts()) == {"written"}
    assert names(client).count("lost") == names(client).count("own") == names(client).count("never sent") == 1
    assert opp.resume(client, folder, plan=3).counts() == {"written": 1}
    assert names(client).count("keyless") == 1
    assert opp.list_journals(folder)["open"].tolist() == [0] * 5
    assert opp.undo(client, folder, plan=2, allow_delete=True, confirm=4).counts() == {"written": 4}
    assert "lost" not in names(client)
    assert client.get(3).data["attributes"]["probability"] == 10


def test_old_journal__is_undone(box: Sandbox, folder: Path) -> None:
    """Old values come back; an undoing of then can be undone too, and the newest plan is told by its number."""
    client = box.client()
    report = opp.undo(client, folder, plan=1, allow_delete=True, confirm=3)
    assert report.counts() == {"written": 3, "refused": 1}
    assert [client.get(row_id).data["attributes"]["probability"] for row_id in (1, 2)] == [0, 5]
    assert opp.undo(client, folder, plan=5).counts() == {"written": 1}
    listed = opp.list_journals(folder).set_index("plan")
    assert listed.loc[4, ["done", "undone"]].tolist() == [1, 0]


def test_old_journal__that_is_damaged_stops_its_own_service_alone(box: Sandbox, folder: Path) -> None:
    """It is named with what to do, and stays; where not even its service can be read it stands in nobody's way."""
    connection = sqlite3.connect(folder / KEYLESS)
    connection.execute("UPDATE step SET facts = '{}'")
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match="move it away"):
        opp.resume(box.client(), folder)
    assert (folder / KEYLESS).exists()
    with opp.sandbox(opportunities=0) as other:
        assert len(opp.resume(other.client(), folder).rows) == 0
    (folder / KEYLESS).write_bytes(b"SQLite format 3\0" + b"noise" * 100)
    listed = opp.list_journals(folder)
    assert listed["problem"].notna().sum() == 1
    assert sorted(listed["plan"].dropna()) == [1, 2, 3, 4]


def test_old_plan__is_read_and_sent(box: Sandbox, tmp_path: Path) -> None:
    """A plan that was saved then has the same fingerprint today and makes no deal that is there."""
    plan = ChangeSet.load(OLD / "plan.json")
    saved: dict[str, Any] = json.loads((OLD / "plan.json").read_text(encoding="utf-8"))["plan"]
    assert plan.fingerprint == saved["fingerprint"]
    moved = plan.save(tmp_path / "plan.json")
    text = json.loads(moved.read_text(encoding="utf-8"))
    assert text["plan"]["changes"] == saved["changes"]
    client = box.client()
    here = ChangeSet(updates=plan.updates, creations=plan.creations, service=box.url)
    assert opp.apply_plan(client, here, journal=tmp_path).counts() == {"written": 2, "unchanged": 2}
    assert names(client).count("lost") == 1


def test_old_journal__that_comes_back_is_not_taken_over_twice(folder: Path) -> None:
    """A program that died before it removed the file, and a copy under a later name: one plan, one claim."""
    content = (folder / FINISHED).read_bytes()
    first = opp.list_journals(folder)
    for name in (FINISHED, f"2999{FINISHED[4:]}"):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    again = opp.list_journals(folder)
    assert len(again) == len(first) + 1
    assert not list(folder.glob("2*-*.journal"))
    with Journal(Path(again["journal"].iloc[0])) as journal:
        assert journal.keys()[keys(FINISHED)[0]]["plan"] == 1


def test_old_journal__that_never_sent_a_deal_knows_no_edit_of_it(
    box: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned twice in different forms and made on another machine: what a colleague makes of it meanwhile stays."""
    later = Path(shutil.copy(folder / INTERRUPTED, folder / f"2999{INTERRUPTED[4:]}"))
    connection = sqlite3.connect(later)
    row = connection.execute("SELECT number, action, key, state, entry, facts FROM step WHERE number = 3").fetchone()
    row = tuple(str(part).replace("never sent", "later form") for part in row)
    connection.execute("UPDATE step SET entry = ?, checksum = ? WHERE number = 3", (row[4], checksum(*row)))
    connection.commit()
    connection.close()
    client = box.client()
    made = client.create({"name": "later form", "customId": row[2]}).data["id"]
    reads = itertools.count()

    def edit(method: str, _: str) -> None:
        # After the look-up at the start, before the deal's turn comes.
        if method == "GET" and next(reads) == 1:
            client.update(made, {"name": "a colleague's"})

    monkeypatch.setattr(box.switches, "before_request", edit)
    rows = opp.resume(box.client(), folder, plan=2, workers=1).rows
    assert client.get(made).data["attributes"]["name"] == "a colleague's"
    assert rows.loc[rows["custom_id"] == row[2], "status"].tolist() == ["unchanged"]
