"""The journal: on the disk before anything is sent, for its owner only, whole in one file, and never half believed."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pandas as pd
import pytest

from opp_pandas.apply import journal_store
from opp_pandas.apply.journal import (
    FOLDER_VARIABLE,
    Journal,
    journal_folder,
    journal_path,
    list_journals,
    purge_journals,
)
from opp_pandas.apply.journal_store import PlanRow, connect
from opp_pandas.apply.status import Status, planned
from opp_pandas.changes.changeset import Cell, RowCreation, RowDeletion, RowUpdate
from opp_pandas.changes.plan import ChangeSet
from opp_pandas.errors import ConfigurationError, JournalError

SERVICE = "http://127.0.0.1:1/api/v2"
KEY = "opp-pandas:4f7b6a8e-0000-4000-8000-000000000000"
PLAN = ChangeSet(
    updates=(RowUpdate(1, 0, 0, (Cell("name", "old é", "new"), Cell("amount", 1, 2))),),
    creations=(RowCreation(1, "a", {"name": "New", "custom_id": KEY}, key=KEY),),
    deletions=(RowDeletion(9, 2, "Gone", {"name": "Gone"}),),
    service=SERVICE,
)
CREATION = 1


def opened(folder: Path, service: str = SERVICE) -> Journal:
    folder.chmod(0o700)
    return Journal.open(folder, service)


def finish(journal: Journal, number: int) -> None:
    with journal.reopen(number) as plan:
        for step in range(3):
            plan.mark(step, "done")


def truth(folder: Path) -> object:
    """Everything that a journal says."""
    with opened(folder) as journal, journal.reading():
        plans, keys = journal.plans(), journal.keys()
        entries = [journal.entries(row) for row in plans.values()]
    return plans, keys, entries


def test_journal__keeps_plan_and_steps(tmp_path: Path) -> None:
    """What was planned, sent and answered is read back as it was."""
    with opened(tmp_path) as journal, journal.begin(PLAN, on_conflict="skip") as plan:
        plan.sent(0, 1, [["name", "old é", "new", None]], {})
        outcome = planned(PLAN.updates[0])
        outcome.settle(Status.REJECTED, "no", 422)
        plan.settled(0, outcome)
        plan.sent(1, 2, [], {"before": [], "values": {}})
    with opened(tmp_path) as journal:
        steps = journal.steps(1)
        row = journal.plans()[1]
    assert [step.state for step in steps] == ["failed", "sent", "planned"]
    assert [(step.facts.get("sends"), step.facts.get("status")) for step in steps] == [
        (1, "rejected"),
        (2, None),
        (None, None),
    ]
    assert steps[0].facts["sent"] == [["name", "old é", "new", None]]
    assert [step.entry.cells for step in steps[:1]] == [PLAN.updates[0].cells]
    assert steps[1].entry.values == PLAN.creations[0].values
    assert steps[2].entry.before == {"name": "Gone"}
    assert row.facts["fingerprint"] == PLAN.fingerprint
    assert row.facts["counts"] == {"failed": 1, "sent": 1, "planned": 1}


def test_plans__are_numbered_whatever_the_clock_says(tmp_path: Path) -> None:
    """Numbers grow, also where plans were removed; one is read without the others."""
    with opened(tmp_path) as journal:
        for number in range(3):
            with journal.begin(ChangeSet(updates=PLAN.updates)) as plan:
                if number:
                    plan.mark(0, "done")
        assert journal.purge(days=0) == [2, 3]
        journal.begin(ChangeSet(updates=PLAN.updates)).close()
        assert list(journal.plans()) == [1, 4]
        with pytest.raises(JournalError, match="there is no plan 2"):
            journal.reopen(2)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_journal__is_its_owners_only(tmp_path: Path) -> None:
    """File 0600, its side files too, folder 0700, whatever the umask; wider ones and links are refused."""
    before = os.umask(0)
    try:
        folder = tmp_path / "new"
        with Journal.open(folder, SERVICE) as journal, journal.begin(PLAN) as plan:
            plan.mark(0, "sent")
            modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    journal.path.chmod(0o640)
    with pytest.raises(JournalError, match="others may read"):
        Journal.open(folder, SERVICE)
    journal.path.chmod(0o600)
    folder.chmod(0o777)
    with pytest.raises(JournalError, match="others may write"):
        Journal.open(folder, SERVICE)
    folder.chmod(0o700)
    journal.path.rename(folder / "elsewhere")
    journal.path.symlink_to(folder / "elsewhere")
    with pytest.raises(JournalError, match="cannot be read"):
        Journal.open(folder, SERVICE)


@pytest.mark.skipif(not hasattr(os, "chown") or os.getuid() != 0, reason="only root can give files away")
def test_journal__of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Nobody's token goes out by a plan that another user wrote."""
    with opened(tmp_path) as journal:
        os.chown(journal.path, 12345, -1)
    with pytest.raises(JournalError, match="belongs to another user"):
        opened(tmp_path)


def test_plan__has_one_writer(tmp_path: Path) -> None:
    """While one has it open a second one is refused; reading it, and other plans, are allowed."""
    with opened(tmp_path) as journal, opened(tmp_path) as other, journal.begin(PLAN) as plan:
        with pytest.raises(JournalError, match="another program is writing by plan 1"):
            other.reopen(plan.number)
        assert len(other.steps(plan.number)) == 3
        assert len(purge_journals(tmp_path, days=0, unfinished=True)) == 0
        with other.begin(ChangeSet(updates=PLAN.updates)) as second:
            second.mark(0, "sent")
            plan.mark(0, "sent")
    with opened(tmp_path) as journal, journal.reopen(1) as again:
        assert again.number == 1
    # Where a lock does not hold, as on some network drives, the first writer notices the second one.
    with opened(tmp_path) as journal, journal.begin(PLAN) as plan:
        plan._lock.release()
        with journal.reopen(plan.number), pytest.raises(JournalError, match="has taken plan 3 over"):
            plan.mark(0, "sent")


def test_claims__go_to_one_plan_and_are_taken_from_the_dead_alone(tmp_path: Path) -> None:
    """A step that is only planned counts as claimed while its program lives."""
    with opened(tmp_path) as one, opened(tmp_path) as two:
        with one.begin(PLAN) as first, two.begin(PLAN) as second:
            assert (list(first.claims), first.held) == ([KEY], {})
            assert (list(second.claims), second.held) == ([], {KEY: first.number})
            first.sent(CREATION, 1, [], {"before": [5], "values": {"name": "New"}})
        with two.begin(PLAN) as third:
            claim = third.claims[KEY]
            assert (claim.plan, claim.sends, claim.before, claim.row_id) == (3, 1, [5], None)
            assert one.plans()[first.number].facts["counts"] == {"planned": 2, "failed": 1}
            outcome = planned(PLAN.creations[0])
            outcome.take_resource({"id": 77, "attributes": {}}, ())
            third.settled(CREATION, outcome)
        with one.begin(PLAN) as fourth:
            assert fourth.claims[KEY].row_id == 77
        with one.reopen(3) as third:
            third.mark(CREATION, "undone")
        with one.begin(PLAN) as fifth:
            assert (fifth.claims[KEY].plan, fifth.claims[KEY].row_id) == (5, None)


def test_journal__that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """A folder that is a file: nothing is sent, another folder can be named."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(JournalError, match="name another folder with journal="):
        Journal.open(tmp_path / "file", SERVICE)


def test_journal__that_cannot_be_written_stops_the_sending(tmp_path: Path) -> None:
    """A closed file is the package's own error."""
    journal = opened(tmp_path)
    with journal.begin(PLAN) as plan:
        journal.close()
        with pytest.raises(JournalError, match="nothing more is sent"):
            plan.mark(0, "sent")
    journal.close()


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, b"SQLite format 3\0", None])
def test_file_of_another_kind__is_refused_and_never_touched(tmp_path: Path, content: bytes | None) -> None:
    """An empty file, noise, and somebody else's database with a write-ahead log stay byte for byte."""
    tmp_path.chmod(0o700)
    path = journal_path(tmp_path, SERVICE)
    if content is None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE step (number INTEGER)")
        connection.close()
    else:
        path.write_bytes(content)
    path.chmod(0o600)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(JournalError, match="move it away"):
        Journal.open(tmp_path, SERVICE)
    assert list_journals(tmp_path)["problem"].notna().all()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not list(tmp_path.glob("*-wal"))
    # It stands in no other service's way.
    Journal.open(tmp_path, "http://127.0.0.1:2/api/v2").close()


def test_newer_journal__names_its_version(tmp_path: Path) -> None:
    """What a newer version wrote is neither damaged nor touched, and stops its own service alone."""
    with opened(tmp_path) as journal:
        pass
    connection = sqlite3.connect(journal.path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(JournalError, match=r"has format 7 and was written by a newer opp_pandas.*reads up to 2"):
        Journal.open(tmp_path, SERVICE)
    assert "format 7" in list_journals(tmp_path)["problem"].iloc[0]
    Journal.open(tmp_path, "http://127.0.0.1:2/api/v2").close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET content = replace(content, 'new', 'wen')",
        "UPDATE entry SET state = 'done' WHERE place = 0",
        "DELETE FROM entry WHERE place = 3",
        "DELETE FROM entry WHERE place = 1",
        "INSERT INTO entry SELECT plan, 9, step, 'done', content FROM entry WHERE place = 3",
        "UPDATE plan SET length = 3",
        "DELETE FROM plan WHERE number = 2",
        "UPDATE plan SET facts = replace(facts, 'skip', 'mine')",
        "DELETE FROM created",
        "UPDATE created SET facts = replace(facts, '\"sends\":1', '\"sends\":0')",
        "UPDATE head SET facts = replace(facts, '127.0.0.1', '127.0.0.2')",
        "DELETE FROM head",
        "DROP TABLE created",
    ],
)
def test_journal__changed_by_hand_is_refused(tmp_path: Path, statement: str) -> None:
    """Chains, sums and checksums tell what was changed, left out, or put in."""
    fill(tmp_path)
    connection = sqlite3.connect(journal_path(tmp_path, SERVICE))
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(JournalError):
        truth(tmp_path)


def fill(folder: Path) -> None:
    """Two plans with a step of each kind and some history."""
    with opened(folder) as journal:
        for _ in range(2):
            with journal.begin(PLAN, on_conflict="skip") as plan:
                plan.sent(CREATION, 1, [["name", None, "New", None]], {"before": [], "values": {"name": "New"}})


def damaged(tmp_path: Path, step: int, flips: tuple[int, ...]) -> tuple[int, int]:
    """Damage a journal at every `step`-th byte, by flipping and by cutting; count what was accepted unchanged."""
    whole = tmp_path / "whole"
    whole.mkdir(mode=0o700)
    fill(whole)
    before = truth(whole)
    content = journal_path(whole, SERVICE).read_bytes()
    bad = tmp_path / "bad"
    bad.mkdir(mode=0o700)
    path = journal_path(bad, SERVICE)
    accepted = refused = 0
    for place in range(0, len(content), step):
        changed = [content[:place]]
        for flip in flips:
            flipped = bytearray(content)
            flipped[place] ^= flip
            changed.append(bytes(flipped))
        for damage in changed:
            path.write_bytes(damage)
            path.chmod(0o600)
            try:
                found = truth(bad)
            except JournalError:
                refused += 1
            else:
                # Free space and SQLite's own counters may change: what it says may not.
                assert found == before, place
                accepted += 1
            for extra in ("-journal", "-wal", "-shm"):
                Path(f"{path}{extra}").unlink(missing_ok=True)
    return accepted, refused


def test_damage__is_never_read_as_something_else(tmp_path: Path) -> None:
    """Flipped bytes and cut files give the journal's own content or an error; every cut is noticed."""
    accepted, refused = damaged(tmp_path, 397, (0x10,))
    assert refused > 50
    assert accepted > 0


@pytest.mark.nightly
def test_damage__of_every_byte(tmp_path: Path) -> None:
    """Every byte flipped, and the file cut at every byte."""
    accepted, refused = damaged(tmp_path, 1, (0x01,))
    assert accepted + refused > 8_000


def test_copy__needs_no_second_file(tmp_path: Path) -> None:
    """Between any two steps the one file alone says all: a copy or a synced folder is never an older state."""
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    with opened(tmp_path) as journal, journal.begin(PLAN) as plan:
        for step, state in ((0, "sent"), (0, "done"), (1, "sent")):
            plan.mark(step, state)
            shutil.copy(journal.path, copy)
            with opened(copy) as other:
                assert other.steps(1)[step].state == state


def test_transactions__of_many_writers_are_all_there(tmp_path: Path) -> None:
    """Threads and connections write by plans of their own; nothing is lost, and every chain holds."""

    def work() -> None:
        with opened(tmp_path) as journal, journal.begin(ChangeSet(updates=PLAN.updates)) as plan:
            for _ in range(5):
                plan.mark(0, "sent")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plans, _, entries = truth(tmp_path)
    assert sorted(plans) == [1, 2, 3, 4]
    assert [len(found) for found in entries] == [6] * 4


# --- the folder -------------------------------------------------------------------


def test_folder__is_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, else environment, else the user's own state."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "env"))
    assert journal_folder(tmp_path) == tmp_path
    assert journal_folder(tmp_path / "x.journal") == tmp_path
    assert journal_folder() == tmp_path / "env"
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert journal_folder().parts[-2:] == ("opp_pandas", "journals")


def test_list__counts_states_and_names_unreadable_ones(tmp_path: Path) -> None:
    """Open, done, failed; a file that cannot be read has a problem in place of numbers."""
    with opened(tmp_path) as journal, journal.begin(PLAN) as plan:
        plan.mark(0, "done")
        plan.mark(1, "unknown")
    (tmp_path / "zzz.journal").write_bytes(b"nonsense" * 100)
    listed = list_journals(tmp_path)
    assert listed[["plan", "rows", "open", "unknown", "done"]].iloc[0].tolist() == [1, 3, 2, 1, 1]
    assert listed["rows"].isna().tolist() == [False, True]
    assert len(list_journals(tmp_path, service="http://else/")) == 1
    assert len(list_journals(tmp_path / "nowhere")) == 0


def test_purge__takes_finished_old_plans_only(tmp_path: Path) -> None:
    """Young ones and unfinished ones stay unless asked for; of new deals only the ids are kept, no values."""
    with opened(tmp_path) as journal:
        with journal.begin(PLAN) as plan:
            outcome = planned(PLAN.creations[0])
            outcome.take_resource({"id": 77, "attributes": {}}, ())
            plan.settled(CREATION, outcome)
        finish(journal, 1)
        journal.begin(ChangeSet(deletions=PLAN.deletions)).close()
    assert len(purge_journals(tmp_path)) == 0
    assert purge_journals(tmp_path, days=0)["plan"].tolist() == [1]
    assert b"Gone" in journal.path.read_bytes()
    assert purge_journals(tmp_path, days=0, unfinished=True)["plan"].tolist() == [2]
    assert b"Gone" not in journal.path.read_bytes()
    with opened(tmp_path) as journal, journal.begin(PLAN) as plan:
        assert (plan.number, plan.claims[KEY].row_id, plan.claims[KEY].values) == (3, 77, {})
    with pytest.raises(ConfigurationError, match="days is 0 or more"):
        purge_journals(tmp_path, days=-1)


def fill_with_plans(journal: Journal, number: int, created_at: str) -> None:
    """Write many finished plans of one cell at once, as so many write-backs leave them."""
    entry = {"action": "update", "entry": {"id": 1, "cells": [["probability", 1, 2, None]]}}
    facts = {"created_at": created_at, "rows": 1, "counts": {"done": 1}, "loaded_rows": 30, "on_conflict": "skip"}
    with journal.writing():
        for _ in range(number):
            row = PlanRow(journal.next_number(), 0, "", {})
            row = journal.append(row, [(0, "planned", entry)], facts)
            journal.append(row, [(0, "sent", {"sends": 1}), (0, "done", {"status": "written"})], facts)


def work_of_a_plan(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> int:
    """Count the instructions of SQLite's machine that a plan of one cell takes: each row that is read takes some."""
    plan, counter = ChangeSet(updates=PLAN.updates, service=SERVICE), itertools.count()
    connection = connect(journal.path)
    connection.set_progress_handler(lambda: next(counter) and None, 1)
    monkeypatch.setattr(journal_store, "connect", lambda _: connection)
    with opened(journal.path.parent) as again, again.begin(plan) as begun:
        begun.sent(0, 1, [], {})
        begun.settled(0, planned(PLAN.updates[0]))
    monkeypatch.undo()
    return next(counter)


def test_plan__costs_the_same_whatever_was_written_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """600 finished plans, one of them 29 days old, add the depth of an index and not a row that is read."""
    with opened(tmp_path) as journal:
        first = work_of_a_plan(journal, monkeypatch)
        young = pd.Timestamp.now(tz="UTC") - pd.Timedelta(days=29)
        fill_with_plans(journal, 600, young.isoformat())
        assert work_of_a_plan(journal, monkeypatch) < 1.2 * first


def test_plan__that_is_begun_removes_finished_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a write-back finds older than 30 days and finished goes; behind an unfinished one too."""
    with opened(tmp_path) as journal:
        journal.begin(PLAN, created_at="2026-01-01T00:00:00+00:00").close()
        fill_with_plans(journal, 3, "2026-01-02T00:00:00+00:00")
        fill_with_plans(journal, 1, pd.Timestamp.now(tz="UTC").isoformat())
        work_of_a_plan(journal, monkeypatch)
        assert list(journal.plans()) == [1, 5, 6]


def test_purge__takes_what_a_crash_left_unborn(tmp_path: Path) -> None:
    """A journal that was never made whole goes after a while."""
    left = tmp_path / "x.0000.new"
    left.write_bytes(b"")
    purge_journals(tmp_path, days=0)
    assert left.exists()
    os.utime(left, (0, 0))
    purge_journals(tmp_path)
    assert not left.exists()
