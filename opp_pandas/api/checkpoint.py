"""Pages kept in a file as they come, so that a load that was stopped goes on where it was.

The file is a line of JSON about the load and then, for every page, a line of
JSON with its facts and checksum followed by its compressed body. Each page is
on the disk before the next one is asked for. A page at the end that was only
half written, or is damaged, is read again from the service; it is never used.

The file holds what the service sent, so only its owner may read it, and it is
refused where others can. It never holds a token.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import zlib
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd
from filelock import FileLock, Timeout

from opp_pandas.api.paging import Page, records_by_id
from opp_pandas.errors import ConfigurationError, ResponseError, printable
from opp_pandas.resource import OPPORTUNITY, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from opp_pandas.api.client import Client
    from opp_pandas.api.query import Query

_FORMAT = 1
_OWNER_ONLY = 0o600
# How a service says that it does not know a cursor (any more).
_CURSOR_REFUSED = frozenset({400, 404, 410, 422})
_ID_FILTER = quote("filter[id]", safe="")


def iter_kept_pages(
    client: Client, path: str | os.PathLike[str], query: Query, resource: Resource = OPPORTUNITY
) -> Iterator[Page]:
    """Read a collection page by page, keeping each page in a file.

    A file that another call with the same query left is gone on with: its pages come first.
    After a cursor that the service does not take any more the walk goes on behind the largest
    id read, or, where another order than by id was asked for, from the beginning: then rows
    come twice, as they may in any walk. A file of another load, none of ours, readable by
    others, or in use is a ConfigurationError.
    """
    file = Path(path)
    parts = client.urls(query, resource)
    if not file.parent.is_dir():
        raise ConfigurationError(f"the checkpoint {printable(file)} cannot be opened: there is no such folder")
    if file.is_dir():
        raise ConfigurationError(f"the checkpoint {printable(file)} is a folder: give the name of a file in it")
    lock = FileLock(f"{os.fspath(file)}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigurationError(f"another load is using the checkpoint {printable(file)}") from None
    try:
        with _opened(file) as stream:
            _check_head(stream, _fingerprint(parts), file)
            yield from _walk(client, parts, stream, by_id=not query.sort)
    except OSError as error:
        # The file's own, as of a full disk: the service's failures are errors of the package by now.
        raise ConfigurationError(
            f"the checkpoint {printable(file)} cannot be written ({error.strerror}); make room and load again: "
            "it goes on from the last whole page"
        ) from error
    finally:
        lock.release()


def remove_checkpoint(path: str | os.PathLike[str]) -> None:
    """Remove the file of a load that is complete."""
    for name in (os.fspath(path), f"{os.fspath(path)}.lock"):
        Path(name).unlink(missing_ok=True)


def _walk(client: Client, parts: list[str], stream: IO[bytes], *, by_id: bool) -> Iterator[Page]:
    """Return the pages of the file, one in memory at a time, and then those that the service has beyond them."""
    number = 0
    begun = whole = stream.tell()
    last: Page | None = None
    while (page := _next_page(stream)) is not None:
        last, number, whole = replace(page, body=b""), number + 1, stream.tell()
        yield page
    stream.seek(whole)
    stream.truncate()
    for part, first in enumerate(parts, 1):
        if last is not None and part < last.part:
            continue
        start = first if last is None or part > last.part else last.next_url
        if start is None:
            continue
        pages = client.iter_pages(start=start)
        if start is not first:

            def again(part: int = part, first: str = first) -> str:
                return _behind(first, _pages_of(part, stream, begun)) if by_id else first

            pages = _going_on(client, pages, again)
        for page in pages:
            number += 1
            own = replace(page, number=number, part=part)
            _append(stream, own)
            yield own


def _going_on(client: Client, pages: Iterator[Page], again: Callable[[], str]) -> Iterator[Page]:
    """Go on at a cursor, or without it where the service does not take it any more."""
    try:
        page = next(pages, None)
    except ResponseError as error:
        if error.status not in _CURSOR_REFUSED:
            raise
        pages = client.iter_pages(start=again())
        page = next(pages, None)
    if page is not None:
        yield page
        yield from pages


def _pages_of(part: int, stream: IO[bytes], begun: int) -> Iterator[Page]:
    """Read the kept pages of a part once more, and leave the stream at its end."""
    stream.seek(begun)
    while (page := _next_page(stream)) is not None:
        if page.part == part:
            yield page


def _behind(first: str, before: Iterable[Page]) -> str:
    """Return the URL of what follows the largest id that was read."""
    largest = max((key for page in before for key in records_by_id(page.document)), default=None)
    if largest is None or _ID_FILTER in first:
        return first
    syntax = "" if "newFilterSyntax=true" in first else "&newFilterSyntax=true"
    return f"{first}{syntax}&{_ID_FILTER}{quote('[gte]', safe='')}={largest + 1}"


# --- the file ----------------------------------------------------------------


def _fingerprint(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _opened(file: Path) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(file, flags, _OWNER_ONLY)
    except OSError as error:
        reason = "it is a link to another file" if error.errno == errno.ELOOP else error.strerror
        raise ConfigurationError(f"the checkpoint {printable(file)} cannot be opened: {reason}") from error
    stream = os.fdopen(descriptor, "r+b")
    mode = os.fstat(descriptor).st_mode
    # Windows has no such bits: there the folder's own rights count.
    if os.name == "posix" and (not stat.S_ISREG(mode) or mode & 0o077):
        stream.close()
        raise ConfigurationError(
            f"the checkpoint {printable(file)} can be read by others; chmod 600 it, or name a new file"
        )
    return stream


def _check_head(stream: IO[bytes], fingerprint: str, file: Path) -> None:
    """Read the first line, or write it into a new file, and leave the stream behind it."""
    head = stream.readline()
    about = _json(head)
    if head and about.get("opp_pandas_checkpoint") != _FORMAT:
        if head.endswith(b"\n") or not b'{"opp_pandas_checkpoint"'.startswith(head[:24]):
            raise ConfigurationError(f"{printable(file)} is not a checkpoint of a load; name another file")
    elif about.get("query") == fingerprint:
        return
    elif head and _next_page(stream) is not None:
        raise ConfigurationError(
            f"the checkpoint {printable(file)} is of a load from another service or with other arguments; "
            "call it with the same, or delete the file"
        )
    # New, cut in its first line, or of a load that kept nothing, as after a refusal of the first page.
    stream.seek(0)
    stream.truncate()
    _write(stream, json.dumps({"opp_pandas_checkpoint": _FORMAT, "query": fingerprint}).encode() + b"\n")


def _next_page(stream: IO[bytes]) -> Page | None:
    """Read one kept page; None at the end, and where it is cut or damaged."""
    facts = _json(stream.readline())
    length = facts.pop("length", None)
    if not isinstance(length, int) or not 0 <= length < 2**40:
        return None
    packed = stream.read(length)
    digest = facts.pop("sha256", None)
    if stream.read(1) != b"\n" or hashlib.sha256(_stamp(facts) + packed).hexdigest() != digest:
        return None
    date = facts.pop("date")
    return Page(
        **facts,
        body=zlib.decompress(packed),
        attempts=1,
        elapsed_s=0.0,
        date=None if date is None else pd.Timestamp(date),
    )


def _append(stream: IO[bytes], page: Page) -> None:
    facts = {
        "number": page.number,
        "part": page.part,
        "url": page.url,
        "next_url": page.next_url,
        "count": page.count,
        "date": None if page.date is None else page.date.isoformat(),
    }
    packed = zlib.compress(page.body, 1)
    digest = hashlib.sha256(_stamp(facts) + packed).hexdigest()
    _write(stream, json.dumps({**facts, "length": len(packed), "sha256": digest}).encode() + b"\n" + packed + b"\n")


def _stamp(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True).encode()


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(data)
    stream.flush()
    os.fsync(stream.fileno())


def _json(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
