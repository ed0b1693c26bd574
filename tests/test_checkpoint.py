"""Loads that were stopped go on from their file and end as if nothing had happened."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import NOW, STAGES
from damage import cuts, flips, outcome
from opp_pandas import errors
from opp_pandas.api import checkpoint
from opp_pandas.api.checkpoint import iter_kept_pages
from opp_pandas.api.query import Query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opp_pandas.api.client import Client
    from opp_pandas.api.paging import Page
    from opp_pandas.sandbox_handle import Sandbox

LOADER = """
import sys
import opp_pandas as opp
url, token, path = sys.argv[1:]
opp.read_opportunities(opp.connect(url, token=token), page_size=5, checkpoint=path,
                       stages=opp.StageMap(won=["Closed Won"], lost=["Closed Lost"]))
print("complete")
"""


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox with 60 deals, whose last change is long ago."""
    with opp.sandbox(opportunities=60, now=NOW) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "load.checkpoint"


def load(client: Client, file: Path | None, **options: Any) -> pd.DataFrame:
    return opp.read_opportunities(client, stages=STAGES, page_size=5, checkpoint=file, **options)


def stop_after(client: Client, file: Path, pages: int, **query: Any) -> list[Page]:
    """Read some pages into the file and stop, as a program does that is ended."""
    walk = iter_kept_pages(
        client, file, Query(**{"page_size": 5, "count": True, "include": ("owner", "account"), **query})
    )
    read = [page for _, page in zip(range(pages), walk, strict=False)]
    walk.close()  # type: ignore[attr-defined]
    return read


def pages_asked(box: Sandbox, start: int) -> int:
    """Pages of the walk itself; reading again and counting are not part of it."""
    return sum(
        "page%5Bsize%5D=5" in request.query and "updatedAt" not in request.query for request in box.requests[start:]
    )


def test_killed_process__is_gone_on_with(box: Sandbox, client: Client, file: Path) -> None:
    """A program killed in the middle leaves a file from which another one ends the load."""
    whole = load(client, None)
    for rounds in range(2):
        seen: list[int] = []
        program: list[subprocess.Popen[str]] = []

        def kill(method: str, path: str, seen: list[int] = seen, program: list[Any] = program) -> None:
            if path.endswith("/opportunities"):
                seen.append(1)
                if len(seen) == 4:
                    os.kill(program[0].pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)

        box.switches.before_request = kill
        command = [sys.executable, "-c", LOADER, box.url, box.token, str(file)]
        program.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        output, _ = program[0].communicate(timeout=60)
        box.switches.before_request = None
        assert "complete" not in output
        assert file.stat().st_size > 0, rounds
    start = len(box.requests)
    resumed = load(client, file)
    pd.testing.assert_frame_equal(resumed, whole, check_flags=False)
    assert 0 < pages_asked(box, start) <= 12 - 6
    assert not file.exists()
    assert resumed.opp.load_report.complete
    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("pages", [0, 1, 7, 12])
def test_resumed_frame__is_the_uninterrupted_one(box: Sandbox, client: Client, file: Path, pages: int) -> None:
    """Wherever it was stopped, only the missing pages are read."""
    whole = load(client, None)
    stop_after(client, file, pages)
    start = len(box.requests)
    resumed = load(client, file)
    pd.testing.assert_frame_equal(resumed, whole, check_flags=False)
    assert pages_asked(box, start) == 12 - pages
    assert resumed.opp.load_report.pages == 12


def test_changes_since_the_start__are_read_again(box: Sandbox, client: Client, file: Path) -> None:
    """Deals of kept pages that were changed before the load went on are as they are now."""
    stop_after(client, file, 6)
    client.update(1, {"name": "Changed while nobody looked"})
    made = client.create({"name": "New"}).data["id"]
    resumed = load(client, file)
    assert resumed.loc[0, "name"] == "Changed while nobody looked"
    assert resumed["id"].tolist()[-1] == made
    pd.testing.assert_frame_equal(resumed, load(client, None), check_flags=False)


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_expired_cursor__goes_on_behind_the_last_id(box: Sandbox, client: Client, file: Path, status: int) -> None:
    """A service that forgot the cursor is asked for the ids beyond those that were read."""
    whole = load(client, None)
    read = stop_after(client, file, 6)
    largest = max(record["id"] for page in read for record in page.document["data"])
    start = len(box.requests)
    box.fail(status, path="/opportunities")
    resumed = load(client, file)
    pd.testing.assert_frame_equal(resumed, whole, check_flags=False)
    assert f"filter%5Bid%5D%5Bgte%5D={largest + 1}" in box.requests[start + 1].query


def test_expired_cursor__in_another_order_starts_again(box: Sandbox, client: Client, file: Path) -> None:
    """Without the order by id there is no such place; every row comes again and counts once."""
    whole = load(client, None, sort="-name")
    stop_after(client, file, 6, sort="-name")
    box.fail(410, path="/opportunities")
    resumed = load(client, file, sort="-name")
    pd.testing.assert_frame_equal(resumed, whole, check_flags=False)


def test_full_disk__is_said_and_gone_on_from(client: Client, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept until then is used when there is room again."""
    written = iter(range(100))
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if next(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.os, "fsync", fsync)
        with pytest.raises(errors.ConfigurationError, match="No space left on device"):
            load(client, file)
    pd.testing.assert_frame_equal(load(client, file), load(client, None))


def test_other_failures__leave_the_file(box: Sandbox, client: Client, file: Path) -> None:
    """What is no matter of the cursor is raised, and the next call goes on."""
    stop_after(client, file, 3)
    box.fail(403, path="/opportunities")
    with pytest.raises(errors.AccessDeniedError):
        load(client, file)
    assert len(load(client, file)) == 60


def test_long_filters__are_gone_on_with_part_by_part(box: Sandbox, client: Client, file: Path) -> None:
    """A filter that takes two requests keeps its place in either."""
    asked = {"id": [*range(1, 41), *range(1000, 1100)]}
    whole = load(client, None, filter=asked)
    read = stop_after(client, file, 9, filter=asked)
    assert len(whole) == 40
    resumed = load(client, file, filter=asked)
    pd.testing.assert_frame_equal(resumed, whole, check_flags=False)
    assert {page.part for page in read} == {1, 2}


def test_file__is_its_owners_alone(client: Client, file: Path, tmp_path: Path) -> None:
    """It is made readable by its owner only, and refused where others can read it or it is a link."""
    stop_after(client, file, 2)
    if os.name != "posix":
        pytest.skip("file rights are POSIX's")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    with pytest.raises(errors.ConfigurationError, match="can be read by others"):
        load(client, file)
    file.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(errors.ConfigurationError, match="a link"):
        load(client, link)


def test_file__holds_no_token(box: Sandbox, client: Client, file: Path) -> None:
    """What is kept is what the service sent."""
    stop_after(client, file, 3)
    assert box.token.encode() not in file.read_bytes()


def test_file_of_another_load__is_refused(client: Client, file: Path, tmp_path: Path) -> None:
    """Another filter, another page size or a foreign file would mix two loads."""
    stop_after(client, file, 3)
    with pytest.raises(errors.ConfigurationError, match="other arguments"):
        load(client, file, filter={"owner": 1})
    foreign = tmp_path / "notes.txt"
    foreign.write_text("my notes\n" * 20)
    foreign.chmod(0o600)
    with pytest.raises(errors.ConfigurationError, match="not a checkpoint"):
        load(client, foreign)
    assert foreign.read_text().startswith("my notes")
    with pytest.raises(errors.ConfigurationError, match="cannot be opened"):
        load(client, tmp_path / "nowhere" / "file")


def test_file_in_use__is_refused(client: Client, file: Path) -> None:
    """Two loads never write into one file."""
    first = iter_kept_pages(client, file, Query(page_size=5))
    next(first)
    with pytest.raises(errors.ConfigurationError, match="another load is using"):
        load(client, file)
    first.close()  # type: ignore[attr-defined]


def test_damaged_file__is_never_believed(client: Client, file: Path) -> None:
    """Cut at any of many places, or with any of many bytes flipped, the load ends as a whole one does."""
    walk = {"page_size": 20, "fields": ["name"], "count": True}
    whole = [page.body for page in client.iter_pages(**walk)]
    stop_after(client, file, 3, include=(), **walk)
    good = file.read_bytes()
    start = good.index(b"\n") + 1
    for place in [*range(0, start, 7), *range(start, len(good), max(1, len(good) // 60))]:
        for damaged in (good[:place], good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]):
            file.write_bytes(damaged)
            try:
                bodies = [page.body for page in iter_kept_pages(client, file, Query(**walk))]
            except errors.ConfigurationError:
                # A damaged head is no head of this load.
                assert place < start
                continue
            assert [body_rows(body) for body in bodies] == [body_rows(body) for body in whole]


@pytest.mark.nightly
def test_damage__of_every_byte(tmp_path: Path) -> None:
    """Every byte of a small file flipped, and cut at every byte: refused, or the load ends as a whole one does."""
    with opp.sandbox(opportunities=6, now=NOW, rate_limit=10**7) as small:
        client, file = small.client(), tmp_path / "load.checkpoint"
        walk = {"page_size": 2, "fields": ["name"], "count": True}
        whole = [body_rows(page.body) for page in client.iter_pages(**walk)]
        stop_after(client, file, 2, include=(), **walk)
        cases = [*flips(file), *cuts(file)]
        found = []
        for words, content in cases:
            file.write_bytes(content)
            found.append((words, outcome(lambda: rows_of(client, file, walk), lambda read: read == whole)))
    assert not [words for words, what in found if what == "OTHER"]
    sys.stdout.write(f"{len(found)} damaged checkpoints: {Counter(what for _, what in found)}\n")


def rows_of(client: Client, file: Path, walk: dict[str, Any]) -> list[bytes]:
    return [body_rows(page.body) for page in iter_kept_pages(client, file, Query(**walk))]


def body_rows(body: bytes) -> bytes:
    """A page without its links, which hold the cursor of the day."""
    return body.partition(b'"links":{"first"')[0]


def test_refused_includes__do_not_spoil_the_file(box: Sandbox, file: Path) -> None:
    """A token that may not read accounts loads without names, and its checkpoint is of that load."""
    scopes = frozenset({"opportunities.read", "opportunityStages.read"})
    with opp.sandbox(opportunities=20, now=NOW, scopes=scopes) as other:
        df = load(other.client(), file)
    assert len(df) == 20
    assert "account_name" not in df.columns or df["account_name"].isna().all()


@pytest.mark.parametrize("name", [".", "..", "folder"])
def test_checkpoint__that_is_a_folder_is_refused_before_any_file_is_made(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No lock appears beside a folder, whatever it is called by."""
    inner = tmp_path / "inner"
    (inner / "folder").mkdir(parents=True)
    monkeypatch.chdir(inner)
    with pytest.raises(errors.ConfigurationError, match="is a folder"):
        opp.read_opportunities(box.client(), stages=STAGES, checkpoint=name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "inner"]
