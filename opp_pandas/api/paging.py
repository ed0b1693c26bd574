"""Walking a collection page by page along ``links.next``.

The walk ends only where the service says so: a repeated link, endless empty
pages or a link of the wrong kind raise, since each of them taken for the end
would lose rows silently (promise R6).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opp_pandas.api.documents import check_record, link_target, parse_document, usable_id
from opp_pandas.api.query import LISTS
from opp_pandas.api.transport.base_url import redacted
from opp_pandas.errors import DocumentError, ForeignRowsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pandas as pd

    from opp_pandas.api.transport.session import Received, Transport
    from opp_pandas.resource import Resource

MAX_PAGES = 200_000
MAX_EMPTY_PAGES = 10
MIN_PAGE_SIZE = 10
MAX_STALE_PAGES = 3
_SIZE = re.compile(r"(?<=[?&])(page(?:%5B|\[)size(?:%5D|\])=)(\d+)", re.IGNORECASE)
_TAIL_SEARCH = 65_536
_FIRST_ID = re.compile(rb'"id"\s*:\s*"?(\d+)')


@dataclass(frozen=True, eq=False)
class Page:
    """One page of a collection, with the facts of its answer.

    Parameters
    ----------
    body : bytes
        The document as received, decompressed.
    number : int
        Its place in the whole walk, from 1.
    part : int
        Which of the requests that a long filter became, from 1.
    url : str
        Where it came from. Holds filter values; not for logs.
    next_url : str or None
        Where the next page of this part is; None: this is its last.
    count : int or None
        Rows of this part, as the service counted them; None if it did not count
        or the count is truncated.
    attempts : int
        Requests made for it.
    elapsed_s : float
        Time taken, waits included [s].
    request_id : str or None
        The service's own id of the request.
    date : Timestamp or None
        The service's clock when it answered, UTC.
    """

    body: bytes = field(repr=False)
    number: int
    part: int
    url: str
    next_url: str | None
    count: int | None
    attempts: int
    elapsed_s: float
    request_id: str | None = None
    date: pd.Timestamp | None = None

    @cached_property
    def document(self) -> dict[str, Any]:
        """The document, parsed at first use."""
        return parse_document(self.body, method="GET", url=redacted(self.url), request_id=self.request_id)

    def __repr__(self) -> str:
        return f"Page(number={self.number}, bytes={len(self.body)}, last={self.next_url is None})"


@dataclass(frozen=True)
class Tail:
    """What stands around the rows of a page.

    The next link as sent, ``meta.count`` unless it is truncated, and whether there are rows.
    """

    next_link: str | None
    count: int | None
    empty: bool


def next_link(body: bytes) -> str | None:
    """Find ``links.next`` of a page, as sent; None on the last."""
    return read_tail(body).next_link


def read_tail(body: bytes) -> Tail:
    """Read what a walk needs to know of a page; a DocumentError if it is no collection.

    The usual page ends with its ``links`` and ``meta``: then only these are
    parsed, and the rows are left to the caller. Any other page is parsed whole.
    """
    members = _last_members(body)
    if members is None:
        members = _members_without_next(body)
    if members is None:
        members = parse_document(body)
        if not isinstance(members.get("data"), list):
            raise DocumentError("a collection was expected: data must be a list", pointer="/data")
        empty = not members["data"]
    else:
        empty = False
    links, meta = members.get("links") or {}, members.get("meta") or {}
    return Tail(link_target(links.get("next")), _count(meta), empty)


_HEAD = re.compile(rb'\s*\{\s*"data"\s*:\s*\[\s*\{')
_META = re.compile(rb'[\]}]\s*,\s*"meta"\s*:\s*(\{[^{}\[\]]*\})\Z')
_LINKS = re.compile(rb'[\]}]\s*,\s*"links"\s*:\s*\{')
_WHITE_SPACE = 64  # before the name; a page with more is parsed whole


def _last_members(body: bytes) -> dict[str, Any] | None:
    """Return the members from a top-level ``links`` to the end of the document, or None if it is not built so.

    In valid JSON a run of members that is closed by the document's one last
    brace stands at the top: inside a row more brackets would follow. Damage
    further up is found by whoever parses the rows.
    """
    start = max(0, len(body) - _TAIL_SEARCH)
    if _HEAD.match(body) is None or body.find(b'"errors"', start) >= 0:
        return None
    near = max(start, body.rfind(b'"links"', start) - _WHITE_SPACE)
    place = max((match.start() for match in _LINKS.finditer(body, near)), default=None)
    if place is None:
        return None
    text = body[place:].lstrip(b"]} \t\r\n").removeprefix(b",")
    try:
        members = json.loads(b"{" + text)
        if isinstance(members, dict) and "meta" not in members:
            # The count may stand before the links, since members may come in any order.
            before = _META.search(body, start, place + 1)
            if before is not None:
                members["meta"] = json.loads(before[1])
            elif body[place] == ord("}") or (b'"meta"' in body and b'"included"' in body):
                return None
    except (ValueError, RecursionError):
        return None
    usual = {"links", "meta", "jsonapi", "included"}
    if not isinstance(members, dict) or not members.keys() <= usual:
        return None
    if not isinstance(members.get("links"), dict) or not isinstance(members.get("meta") or {}, dict):
        return None
    # Behind a row's own links a page may break off and still end in braces; those links have no next.
    return members if isinstance(members["links"].get("next"), str) or _adds_up(body) else None


def _adds_up(body: bytes) -> bool:
    """Return whether as many brackets close as open; text with brackets in it may say no without harm."""
    return body.count(b"{") == body.count(b"}") and body.count(b"[") == body.count(b"]")


_END = re.compile(rb'\]\s*(?:,\s*"meta"\s*:\s*(\{[^{}\[\]]*\})\s*)?\}\s*\Z')
# A letter of "next" written as an escape, which no service does and JSON allows.
_ESCAPED_NEXT = re.compile(rb"\\u00(?:6[eE5]|7[84])")
_END_SEARCH = 4_096


def _members_without_next(body: bytes) -> dict[str, Any] | None:
    """Return the members at the end of a whole last page, or None if it is not certain that it is one.

    Where the word "next" stands nowhere, there is no next link. Brackets that
    add up tell a whole page from one that breaks off behind a ``]}``.
    """
    if _HEAD.match(body) is None or b'"next"' in body or b'"errors"' in body or _ESCAPED_NEXT.search(body):
        return None
    end = _END.search(body[-_END_SEARCH:])
    if end is None or not _adds_up(body):
        return None
    try:
        return {"meta": json.loads(end[1] or b"{}")}
    except ValueError:
        return None


def _count(meta: dict[str, Any]) -> int | None:
    count = meta.get("count")
    if meta.get("count_truncated") or isinstance(count, bool) or not isinstance(count, int) or count < 0:
        return None
    return count


def smaller(url: str) -> str:
    """Halve the page size in a URL, down to 10 rows; the rest stays byte for byte.

    Examples
    --------
    >>> smaller("https://a.example/x?page%5Bsize%5D=250&sort=id")
    'https://a.example/x?page%5Bsize%5D=125&sort=id'
    """

    def halved(match: re.Match[str]) -> str:
        size = int(match[2][:9])
        return f"{match[1]}{max(min(MIN_PAGE_SIZE, size), size // 2)}"

    return _SIZE.sub(halved, url)


def page_size_of(url: str) -> int | None:
    """Read the page size in a URL; None if it names none."""
    match = _SIZE.search(url)
    return int(match[2]) if match and len(match[2]) <= 9 else None


def limited(url: str, most: int) -> str:
    """Lower the page size in a URL to `most` where it is larger; the rest stays byte for byte."""
    return _SIZE.sub(lambda match: f"{match[1]}{min(most, int(match[2][:9]))}", url)


def walk(transport: Transport, urls: Iterable[str], *, max_pages: int = MAX_PAGES) -> Iterator[Page]:
    """Read page after page, each of `urls` to its end, in the order of the service.

    A row may come twice where records change meanwhile; the newer copy is the reader's to
    choose. A link that repeats or leads elsewhere, and pages without end, are a DocumentError.
    """
    number = 0
    ceiling: int | None = None
    seen: set[str] = set()
    for part, first in enumerate(urls, 1):
        url: str | None = transport.origin.admit(first)
        empty_run = 0
        novelty = _Novelty()
        while url is not None:
            seen.add(url)
            if ceiling is not None:
                url = limited(url, ceiling)
            received, tail = _fetch(transport, url)
            number += 1
            asked, got = page_size_of(url), page_size_of(received.url)
            if asked is not None and got is not None and got < asked:
                # The service could not make pages of the size asked for: the rest is read in smaller ones too.
                ceiling = got
            seen |= {url, received.url}
            following = None if tail.next_link is None else transport.origin.admit(tail.next_link, received.url)
            problem = _no_progress(following, seen, number, max_pages)
            empty_run = empty_run + 1 if tail.empty and following else 0
            if empty_run >= MAX_EMPTY_PAGES:
                problem = f"the service sent {empty_run} empty pages in a row, each with a link to a next one"
            if not problem and not tail.empty and novelty.is_over(received.body):
                problem = f"the service sent {MAX_STALE_PAGES} pages in a row without a new record: an endless walk"
            if problem:
                raise DocumentError(problem, pointer="/links/next", method="GET", url=redacted(url))
            yield Page(
                body=received.body,
                number=number,
                part=part,
                url=received.url,
                next_url=following,
                count=tail.count,
                attempts=received.attempts,
                elapsed_s=received.elapsed_s,
                request_id=received.request_id,
                date=received.timestamp,
            )
            url = following


def only_these(pages: Iterable[Page], wanted: Any) -> Iterator[Page]:
    """Yield the pages of a read by ids (one, several, or a range), and stop where the service sends others.

    A service that ignores ``filter[id]`` would have the whole collection read for one record.
    """
    is_asked_for = _id_test(wanted)
    for page in pages:
        if isinstance(wanted, tuple) and page.number > 1:
            # A range is read in many pages; a service that ignores it begins with the smallest ids of all, or the last.
            yield page
            continue
        foreign = next((key for key in records_by_id(page.document) if not is_asked_for(key)), None)
        if foreign is not None:
            raise ForeignRowsError(
                f"the service ignored filter[id]: record {foreign} came, which was not asked for",
                pointer="/data",
                method="GET",
                url=redacted(page.url),
                request_id=page.request_id,
            )
        yield page


def _id_test(wanted: Any) -> Callable[[int], bool]:
    if isinstance(wanted, tuple):
        low, high = (None if end is None else int(end) for end in wanted)
        return lambda key: (low is None or key >= low) and (high is None or key <= high)
    ids = {int(key) for key in (wanted if isinstance(wanted, LISTS) else [wanted])}
    return ids.__contains__


def records_by_id(document: Mapping[str, Any], resource: Resource | None = None) -> dict[int, Any]:
    """Return a page's records by id; those without a usable one are passed over, and of two the later one stays.

    With a resource those are passed over, too, that are none of it, or whose members are no objects.
    """
    found = {}
    for record in document["data"]:
        key = usable_id(record)
        if key is not None:
            with suppress(DocumentError):
                if resource is not None:
                    check_record(record, resource, key)
                found[key] = record
    return found


class _Novelty:
    """Notices a walk that brings nothing new, without parsing the pages of any other.

    A page whose first record began a page before is suspicious: from there on
    ids are compared, until a page brings one that no suspicious page had.
    """

    def __init__(self) -> None:
        self._firsts: set[bytes] = set()
        self._seen: set[int] = set()
        self._stale = 0

    def is_over(self, body: bytes) -> bool:
        """Note a page; tell whether it is the third in a row without a new record."""
        found = _FIRST_ID.search(body, 0, _TAIL_SEARCH)
        first = b"" if found is None else found[1]
        if first not in self._firsts:
            self._firsts.add(first)
            self._stale = 0
            return False
        ids = set(records_by_id(parse_document(body)))
        self._stale = self._stale + 1 if ids <= self._seen or not self._seen else 0
        self._seen |= ids
        return self._stale >= MAX_STALE_PAGES


def _fetch(transport: Transport, url: str) -> tuple[Received, Tail]:
    """Read one page, smaller if the service fails at its size."""
    tails: list[Tail] = []
    received = transport.send("GET", url, check=lambda body: tails.append(read_tail(body)), shrink=smaller)
    if not tails:
        problem = f"a page was expected, and the answer with status {received.status} has none"
        raise DocumentError(problem, method="GET", url=redacted(url), request_id=received.request_id)
    return received, tails[-1]


def _no_progress(following: str | None, seen: set[str], number: int, max_pages: int) -> str:
    if following is None:
        return ""
    if following in seen:
        return f"the link to the next page repeats one that was read already (after page {number}): an endless walk"
    if number >= max_pages:
        return f"there are more than {max_pages:,} pages; ask for larger pages (page_size=) or filter"
    return ""
