"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from opp_pandas.errors import ConfigurationError, named, printable


def check_path(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> tuple[Path, str]:
    """Give the path and its ending in small letters, before any work is done.

    Raises
    ------
    ConfigurationError
        If the ending is none of `suffixes`, the folder is not there, or the path is a folder.
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


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file beside the old one and put it in its place: whatever fails, the old one stays as it was.

    Raises
    ------
    ConfigurationError
        If the file cannot be written there.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        # Not a temporary file of the system's: those are for their owner only, and a report is to be read.
        with fresh.open("xb") as file:
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
