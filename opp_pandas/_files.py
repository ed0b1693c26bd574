"""Files that are there whole or not at all."""

from __future__ import annotations

import codecs
import csv
import io
import os
import secrets
import stat
from pathlib import Path

from opp_pandas.errors import ConfigurationError, FrameError, named, printable


def check_path(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> tuple[Path, str]:
    """Return the path and its ending in small letters, before any work is done.

    A ConfigurationError if the ending is none of `suffixes`, the folder is not there, or the path is a folder.
    """
    found = Path(os.fspath(path)).expanduser()
    suffix = found.suffix.lower()
    if suffix not in suffixes:
        raise ConfigurationError(
            f"{printable(found)} must end in one of {named(suffixes)}: the ending says what is made"
        )
    if found.is_dir():
        raise ConfigurationError(f"{printable(found)} is a folder; give the name of a file in it")
    if not found.parent.is_dir():
        raise ConfigurationError(f"there is no folder {printable(found.parent)}; make it first")
    return found, suffix


def decode_table(content: bytes, path: Path) -> tuple[str, str]:
    """Return the text of a table as spreadsheets of any country write it, and what stands between its cells."""
    encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise FrameError(
            f"{printable(path)} is not UTF-8 (byte {error.start:,}), so names would come back wrong; "
            "in Excel save it as 'CSV UTF-8'"
        ) from error
    # Lines may end with a carriage return alone, as Excel for Mac writes them.
    heading = io.StringIO(text, newline="").readline().rstrip("\r\n")
    return text, max(",;\t|", key=lambda mark: len(next(csv.reader([heading], delimiter=mark), [])))


_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def write_whole(path: Path, content: bytes, *, private: bool = False) -> Path:
    """Write a file beside the old one and put it in its place: whatever fails, the old one stays as it was.

    ``private``: readable by its owner only.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        # Not a temporary file of the system's: those are for their owner only, and a report is to be read.
        with os.fdopen(os.open(fresh, _NEW_FILE, 0o600 if private else 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"{printable(path)} cannot be written ({reason}); is it open in another program, or the folder read-only?"
        ) from error
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return path


def owner_objection(found: os.stat_result, path: Path, *, may_read: bool = False) -> str | None:
    """Explain why a file or folder cannot be trusted with what is for its owner only; None where it can.

    ``may_read``: others may read it, as long as they cannot write.
    """
    # Windows keeps such folders to their owner by itself.
    if os.name != "posix":
        return None
    mode = stat.S_IMODE(found.st_mode)
    right = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
    if found.st_uid != os.getuid():
        return f"{printable(path)} belongs to another user, so it is not trusted"
    if mode & (0o022 if may_read else 0o077):
        what = "write" if may_read else "read"
        return f"others may {what} {printable(path)} (mode {mode:o}); run: chmod {right:o} {printable(path)}"
    return None


def sync_folder(folder: Path) -> None:
    """Make the new name of a file last; Windows has no way to, and does not need it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
