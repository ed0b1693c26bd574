"""The chain of commits of a sealed table: what each one says of itself and of the one before, and its files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas._files import sync_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOLDER = "_opp_pandas"
"""What stands beside the table; readers of Delta tables leave such names alone."""
HEAD = f"{FOLDER}/head.json"
KEY = "opp_pandas"
_PIECE = 1 << 20


def digest_of(content: Any) -> str:
    """Return the SHA-256 digest of bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def seal_of(facts: Mapping[str, Any]) -> str:
    """Return the digest of everything in the facts but the seal itself."""
    told = {name: value for name, value in facts.items() if name != "seal"}
    return digest_of(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())


def live_digest(names: Iterable[str]) -> str:
    """Return the digest of the names of the data files."""
    return digest_of("\n".join(sorted(names)).encode())


def parse_sealed(text: Any) -> dict[str, Any] | None:
    """Parse facts that bear a seal; None where there are none, or the seal does not fit."""
    try:
        facts = json.loads(text)
        fits = isinstance(facts, dict) and facts.get("seal") == seal_of(facts)
    except (TypeError, ValueError, RecursionError):
        return None
    return facts if fits else None


def log_name(version: int) -> str:
    """Return the file of the log with a commit."""
    return f"_delta_log/{version:020d}.json"


def facts_in(log: bytes) -> dict[str, Any] | None:
    """Parse what this package wrote into a file of the log; None for a commit of another program."""
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        info = entry.get("commitInfo") if isinstance(entry, dict) else None
        if isinstance(info, dict) and KEY in info:
            return parse_sealed(info[KEY])
    return None


class Files:
    """Whole files below one place, on disk or in an object store."""

    def __init__(self, location: str, options: dict[str, str] | None, *, is_remote: bool) -> None:
        self._location, self._options, self._is_remote = location, options, is_remote

    @cached_property
    def _store(self) -> Any:
        from pyarrow import fs

        if not self._is_remote:
            return fs.SubTreeFileSystem(self._location, fs.LocalFileSystem())
        from deltalake.fs import DeltaStorageHandler

        return fs.PyFileSystem(DeltaStorageHandler(self._location, self._options))

    def read(self, name: str) -> Any:
        """Read a file; None where there is none."""
        try:
            with self._store.open_input_file(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def logs(self) -> list[int]:
        """List the versions of which there is a log."""
        from pyarrow.fs import FileSelector

        entries = self._store.get_file_info(FileSelector("_delta_log", allow_not_found=True))
        found = [re.fullmatch(r"(\d{20})\.json", entry.base_name) for entry in entries]
        return [int(match[1]) for match in found if match]

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        if self._is_remote:
            # The stream takes bytes alone, and those come only by way of a buffer: pieces larger than it pass it by.
            with self._store.open_output_stream(name, buffer_size=2 * _PIECE) as file:
                for start in range(0, len(content), _PIECE):
                    file.write(content[start : start + _PIECE])
            return
        path = Path(self._location, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        sync_folder(path.parent)

    def sync(self, name: str) -> None:
        """Make a file that somebody else wrote last; object stores do by themselves."""
        if self._is_remote:
            return
        path = Path(self._location, name)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)


@dataclass(frozen=True)
class Chain:
    """Where the chain of commits ends.

    Parameters
    ----------
    seal : str
        That of the newest commit of this package.
    live : str
        Digest of the names of the data files.
    logs : tuple of mapping
        ``version, digest, file, mode, first, last`` of the files of the log from that commit on: commits of other
        programs, which change no row, may follow it. `first` and `last` say which moments its rows speak of
        [us since 1970]. So each commit tells what the one before it did, should its log be lost.
    """

    seal: str = ""
    live: str = ""
    logs: tuple[Mapping[str, Any], ...] = ()

    @property
    def version(self) -> int:
        """The number of its last commit; -1 before any."""
        return int(self.logs[-1]["version"]) if self.logs else -1

    def follow(self, version: int, log: bytes) -> Chain | None:
        """Return the chain after the commit in a file of the log; None where it does not fit."""
        facts = facts_in(log)
        if facts is None:
            return Chain(self.seal, self.live, (*self.logs, told_of(version, log, {})))
        is_told = [one["digest"] for one in facts["logs"]] == [one["digest"] for one in self.logs]
        if facts["previous"] != self.seal or facts["version"] != version or not is_told:
            return None
        return Chain(facts["seal"], facts["live"], (told_of(version, log, facts),))


def told_of(version: int, log: bytes, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the next commit tells of one: see `Chain`."""
    told = {name: facts.get(name) for name in ("file", "mode", "first", "last")}
    return {"version": version, "digest": digest_of(log), **told}


@dataclass(frozen=True)
class Damage:
    """A file of a table that is not as it was written.

    Parameters
    ----------
    file, problem : str
    first, last : int or None
        The moments that its rows speak of [us since 1970]; None where nothing is left that says so.
    is_loss : bool
        Whether rows are lost with it: those of a log whose neighbour tells the same are not.
    """

    file: str
    problem: str
    first: int | None = None
    last: int | None = None
    is_loss: bool = True
