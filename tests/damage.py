"""Files that are damaged byte by byte, and put back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import OppPandasError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def files_below(folder: Path) -> list[Path]:
    """Every file of a history, logs and head too."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".crc")


def flips(path: Path, step: int = 1, start: int = 0) -> Iterator[tuple[str, bytes]]:
    """The content with one bit of a byte turned, a different bit from byte to byte."""
    content = path.read_bytes()
    for place in range(start, len(content), step):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        yield f"{path.name}: byte {place} flipped", bytes(damaged)


def cuts(path: Path, step: int = 1, start: int = 0) -> Iterator[tuple[str, bytes]]:
    """The content cut short."""
    content = path.read_bytes()
    for place in range(start, len(content), step):
        yield f"{path.name}: cut to {place} bytes", content[:place]


@contextmanager
def replaced(path: Path, content: bytes | None) -> Iterator[None]:
    """Put other content, or none, in a file's place, and back."""
    before = path.read_bytes()
    try:
        path.unlink() if content is None else path.write_bytes(content)
        yield
    finally:
        path.write_bytes(before)


def outcome(read: Callable[[], Any], truth: Callable[[Any], bool]) -> str:
    """What came of reading: ``refused`` by the package's own error, ``same``, or ``OTHER`` than the truth."""
    try:
        found = read()
    except OppPandasError:
        return "refused"
    return "same" if truth(found) else "OTHER"
