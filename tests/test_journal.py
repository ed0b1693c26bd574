"""The journal: on the disk before anything is sent, for its owner only, and never half believed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pandas as pd
import pytest

from opp_pandas.apply import journal_folder as journal_module
from opp_pandas.apply.journal import Journal, read_journal
from opp_pandas.apply.journal_folder import find_attempts, journal_folder, list_journals, purge_journals
from opp_pandas.apply.status import Status, planned
from opp_pandas.changes.changeset import Cell, ChangeSet, RowCreation, RowDeletion, RowUpdate
from opp_pandas.errors import ConfigurationError, JournalError

SERVICE = "http://127.0.0.1:1/api/v2"
KEY = "opp-pandas:4f7b6a8e-0000-4000-8000-000000000000"
PLAN = ChangeSet(
    updates=(RowUpdate(1, 0, 0, (Cell("name", "old é", "new"), Cell("amount", 1, 2))),),
    creations=(RowCreation(1, "a", {"name": "New", "custom_id": KEY}, key=KEY),),
    deletions=(RowDeletion(9, 2, "Gone", {"name": "Gone"}),),
    service=SERVICE,
)


def make(folder: Path, plan: ChangeSet = PLAN) -> Journal:
    return Journal.create(folder, plan, service=str(plan.service), on_conflict="skip", undoes="")


def test_journal__keeps_plan_and_steps(tmp_path: Path) -> None:
    """What was planned, sent and answered is read back as it was."""
    with make(tmp_path) as journal:
        journal.sent(0, 1, [["name", "old é", "new", None]])
        outcome = planned(PLAN.updates[0])
        outcome.settle(Status.REJECTED, "no", 422)
        journal.settled(0, outcome)
        journal.sent(1, 2, [])
    with Journal.open(journal.path) as again:
        steps = again.steps()
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
    assert again.meta["service"] == PLAN.service
    assert again.meta["fingerprint"] == PLAN.fingerprint


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_journal__is_its_owners_only(tmp_path: Path) -> None:
    """File 0600, its side files too, folder 0700, whatever the umask."""
    before = os.umask(0)
    try:
        with make(tmp_path / "new") as journal:
            journal.sent(0, 1, [])
            modes = {
                path.name.rpartition(".")[2]: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()
            }
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert len(modes) == 4
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert journal.path.exists()


def test_journal__has_one_writer(tmp_path: Path) -> None:
    """While one has it open a second one is refused; reading it is allowed."""
    with make(tmp_path) as journal:
        with pytest.raises(JournalError, match="another process is writing"):
            Journal.open(journal.path)
        assert len(read_journal(journal.path)[1]) == 3
        assert purge_journals(tmp_path, days=0, unfinished=True) == []
    with Journal.open(journal.path):
        assert journal.path.exists()


def test_journal__two_plans_do_not_block_each_other(tmp_path: Path) -> None:
    """One file per plan."""
    with make(tmp_path) as one, make(tmp_path) as other:
        one.sent(0, 1, [])
        other.sent(0, 1, [])
    assert one.path != other.path


def test_journal__that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """A folder that is a file: nothing is sent, another folder can be named."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(JournalError, match="name another folder with journal="):
        make(tmp_path / "file")
    with pytest.raises(JournalError, match="no such journal"):
        Journal.open(tmp_path / "missing.journal")


def test_journal__that_cannot_be_written_stops_the_sending(tmp_path: Path) -> None:
    """A closed or broken file is the package's own error."""
    journal = make(tmp_path)
    journal.close()
    with pytest.raises(JournalError, match="nothing more is sent"):
        journal.sent(0, 1, [])
    journal.close()
    with make(tmp_path) as other:
        with pytest.raises(JournalError, match="nothing more is sent"):
            other.sent(99, 1, [])
        other.sent(0, 1, [])


def test_journal__of_another_kind_is_refused(tmp_path: Path) -> None:
    """Somebody else's database is not a journal."""
    path = tmp_path / "else.journal"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE step (number INTEGER)")
    connection.close()
    for read in (Journal.open, read_journal):
        with pytest.raises(JournalError, match="damaged or no journal"):
            read(path)
    (tmp_path / "noise.journal").write_bytes(b"nonsense" * 100)
    for _ in range(2):
        with pytest.raises(JournalError, match="damaged"):
            Journal.open(tmp_path / "noise.journal")
    # The failed attempt left no lock behind.
    with pytest.raises(JournalError, match="damaged"):
        Journal.open(path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE step SET entry = replace(entry, 'new', 'wen')",
        "UPDATE step SET facts = '{}', state = 'done' WHERE number = 0",
        "UPDATE step SET state = 'undone'",
        "DELETE FROM step WHERE number = 2",
        "UPDATE meta SET value = 'http://evil/' WHERE name = 'service'",
        "DELETE FROM meta WHERE name = 'steps'",
        "PRAGMA user_version = 2",
    ],
)
def test_journal__changed_by_hand_is_refused(tmp_path: Path, statement: str) -> None:
    """Checksums and counts tell."""
    with make(tmp_path) as journal:
        pass
    connection = sqlite3.connect(journal.path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    for read in (Journal.open, read_journal):
        with pytest.raises(JournalError):
            read(journal.path)


def damaged(tmp_path: Path, step: int) -> tuple[int, int]:
    """Damage a small journal at every `step`-th byte, by flipping and by cutting; count what was accepted unchanged."""
    with make(tmp_path / "whole") as journal:
        pass
    meta, steps = read_journal(journal.path)
    content = journal.path.read_bytes()
    accepted = refused = 0
    for place in range(0, len(content), step):
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        for bad in (bytes(flipped), content[:place]):
            path = tmp_path / "bad.journal"
            path.write_bytes(bad)
            try:
                found = read_journal(path)
            except JournalError:
                refused += 1
            else:
                # Free space and SQLite's own counters may change: what it says may not.
                assert found == (meta, steps), place
                accepted += 1
            for extra in ("", "-wal", "-shm"):
                Path(f"{path}{extra}").unlink(missing_ok=True)
    return accepted, refused


def test_damage__is_never_read_as_something_else(tmp_path: Path) -> None:
    """Flipped bytes and cut files give the journal's own content or an error."""
    accepted, refused = damaged(tmp_path, 211)
    assert refused > 50
    assert accepted > 0


@pytest.mark.nightly
def test_damage__of_every_byte(tmp_path: Path) -> None:
    """The same for every seventh byte of the file."""
    accepted, refused = damaged(tmp_path, 7)
    assert accepted + refused > 4_000


# --- the folder -------------------------------------------------------------------


def test_folder__is_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, else environment, else the user's own state."""
    monkeypatch.setenv(journal_module.FOLDER_VARIABLE, str(tmp_path / "env"))
    assert journal_folder(tmp_path) == tmp_path
    assert journal_folder() == tmp_path / "env"
    monkeypatch.delenv(journal_module.FOLDER_VARIABLE)
    assert journal_folder().parts[-2:] == ("opp_pandas", "journals")


def test_list__counts_states_and_names_unreadable_ones(tmp_path: Path) -> None:
    """Open, done, failed; a file that cannot be read has missing numbers."""
    with make(tmp_path) as journal:
        journal.mark(0, "done")
        journal.mark(1, "unknown")
    (tmp_path / "zzz.journal").write_bytes(b"nonsense" * 100)
    listed = list_journals(tmp_path)
    assert listed[["rows", "open", "unknown", "done"]].iloc[0].tolist() == [3, 2, 1, 1]
    assert listed["rows"].isna().tolist() == [False, True]
    assert len(list_journals(tmp_path, service="http://else/")) == 1
    assert len(list_journals(tmp_path / "nowhere")) == 0


def test_purge__takes_finished_old_ones_only(tmp_path: Path) -> None:
    """Young ones and unfinished ones stay unless asked for."""
    with make(tmp_path) as finished:
        for number in range(3):
            finished.mark(number, "done")
    with make(tmp_path) as unfinished:
        pass
    (tmp_path / "zzz.journal").write_bytes(b"nonsense" * 100)
    assert purge_journals(tmp_path) == []
    assert purge_journals(tmp_path, days=0) == [finished.path]
    removed = purge_journals(tmp_path, days=0, unfinished=True)
    assert removed == [unfinished.path, tmp_path / "zzz.journal"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigurationError, match="days is 0 or more"):
        purge_journals(tmp_path, days=-1)


def test_purge__takes_what_a_crash_left_unborn(tmp_path: Path) -> None:
    """A plan that was never written down whole is not listed, and goes after a while."""
    left = tmp_path / "20200101T000000-00000000.new"
    left.write_bytes(b"")
    assert len(list_journals(tmp_path)) == 0
    purge_journals(tmp_path, days=0)
    assert left.exists()
    os.utime(left, (0, 0))
    purge_journals(tmp_path)
    assert not left.exists()


def test_attempts__are_found_by_key_and_a_sure_answer_leads(tmp_path: Path) -> None:
    """What one journal only suspects another one knows."""
    for state in ("planned", "sent", "done", "unknown"):
        with make(tmp_path) as journal:
            if state == "done":
                outcome = planned(PLAN.creations[0])
                outcome.take_resource({"id": 77, "attributes": {}}, ())
                journal.settled(1, outcome)
            else:
                journal.mark(1, state)
    found = find_attempts(tmp_path, [KEY, "else", ""], service=SERVICE)
    assert {key: (attempt.state, attempt.id) for key, attempt in found.items()} == {KEY: ("done", 77)}
    assert find_attempts(tmp_path, [], service=SERVICE) == {}
    only = tmp_path / "only"
    with make(only) as journal:
        journal.sent(1, 2, [])
    assert find_attempts(only, [KEY], service=SERVICE)[KEY].sends == 2
    assert find_attempts(only, [KEY], service=SERVICE, besides=journal.path) == {}


def test_attempts__in_a_damaged_journal_stop_the_sending(tmp_path: Path) -> None:
    """Nobody could say what it did."""
    (tmp_path / "bad.journal").write_bytes(b"nonsense" * 100)
    with pytest.raises(JournalError, match="move it away"):
        find_attempts(tmp_path, [KEY], service=SERVICE)


def test_journal__that_is_purged_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another notebook may remove a finished journal, or finish making its own, between two looks at the folder."""
    make(tmp_path).close()

    def read_late(path: Path) -> object:
        path.unlink()
        return read_journal(path)

    with monkeypatch.context() as patched:
        patched.setattr(journal_module, "read_journal", read_late)
        assert len(list_journals(tmp_path)) == 0
        make(tmp_path).close()
        assert find_attempts(tmp_path, [KEY], service=SERVICE) == {}
    # Nor is an empty file left in its place, which would pass for a damaged journal.
    assert not list(tmp_path.glob("*.journal"))
    (tmp_path / "theirs.new").symlink_to(tmp_path / "made by now")
    assert purge_journals(tmp_path, days=0) == []


def test_journal__survives_a_copy_without_its_side_files(tmp_path: Path) -> None:
    """A closed journal is one whole file."""
    with make(tmp_path) as journal:
        journal.mark(0, "done")
    copy = shutil.copy(journal.path, tmp_path / "copy.journal")
    assert read_journal(Path(copy))[1][0].state == "done"
    assert pd.Timestamp(journal.meta["created_at"]).tzinfo is not None
