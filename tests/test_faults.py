"""Everything that can go wrong on the wire, scripted byte for byte over real sockets.

Each case says what the client makes of it and how many requests it took; and
after each, everything that was written anywhere is searched for the token.
"""

from __future__ import annotations

import gzip
import json
import logging
import pickle
import re
import time
import traceback
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from opp_pandas import errors
from opp_pandas.api.client import Client, connect
from rawserver import (
    NOW,
    NOW_HTTP,
    FakeClock,
    RawServer,
    Step,
    bad_gateway,
    drip,
    endless,
    hang,
    head,
    opportunity,
    page,
    raw,
    refusal,
    reply,
    reset,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "canary-0123456789abcdef"
BODY = json.dumps({"data": opportunity(88)}).encode()
GET, PAGES, CREATE, UPDATE, DELETE = "get", "pages", "create", "update", "delete"
WRITES = (CREATE, UPDATE, DELETE)
OPERATIONS: dict[str, Callable[[Client], Any]] = {
    GET: lambda client: client.get(88).data["id"],
    PAGES: lambda client: [row["id"] for found in client.iter_pages() for row in found.document["data"]],
    CREATE: lambda client: client.create({"name": "Acme"}).data["id"],
    UPDATE: lambda client: client.update(88, {"name": "Acme"}).data["id"],
    DELETE: lambda client: client.delete(88).document,
}
FINE: dict[str, Step] = {
    GET: reply(200, BODY),
    PAGES: reply(200, page(88)),
    CREATE: reply(201, BODY),
    UPDATE: reply(200, BODY),
    DELETE: reply(204),
}
RESULT: dict[str, Any] = {GET: 88, PAGES: [88], CREATE: 88, UPDATE: 88, DELETE: None}


@dataclass
class Case:
    """A script, and what must come of it: a result, or an exception."""

    operation: str
    steps: list[Step]
    raises: type[errors.OppPandasError] | None = None
    words: str = ""
    requests: int = 1
    sent: bool | None = None
    waits: list[float] | None = None
    real_time: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def with_body(data: bytes, status: int = 200, **fields: str) -> Step:
    return reply(status, data, **fields)


def zipped(data: bytes, **fields: str) -> Step:
    return reply(200, data, **{"Content_Encoding": "gzip", **fields})


PACKED = gzip.compress(BODY)
CHUNKED = head(200, {"Transfer-Encoding": "chunked"})
CASES: dict[str, Case] = {}


# --- statuses ----------------------------------------------------------------

for status in (429, 500, 502, 503, 504):
    for operation in (GET, PAGES):
        CASES[f"{status} once, {operation}"] = Case(
            operation, [reply(status), FINE[operation]], requests=2, waits=[0.25]
        )
    kind = {429: errors.RateLimitError, 503: errors.UnavailableError}.get(status, errors.ResponseError)
    CASES[f"{status} for ever"] = Case(
        GET, [reply(status)] * 9, kind, r"\(after 5 attempts\)", requests=5, waits=[0.25, *[0.5] * 7]
    )
    for operation in WRITES:
        if status == 429:
            CASES[f"429 once, {operation}"] = Case(operation, [reply(429), FINE[operation]], requests=2)
        else:
            CASES[f"{status}, {operation}"] = Case(operation, [reply(status)], kind, "")
for operation in WRITES:
    maintenance = refusal("scheduledServerMaintenance", "Scheduled Server Maintenance", "Try again later.")
    CASES[f"maintenance, {operation}"] = Case(operation, [reply(503, maintenance), FINE[operation]], requests=2)
    CASES[f"maintenance under 500, {operation}"] = Case(operation, [reply(500, maintenance)], errors.ResponseError)
for status in (300, 304, 400, 402, 405, 406, 408, 410, 413, 415, 418, 423, 431, 451, 501, 505, 507, 599, 999):
    CASES[f"{status}"] = Case(GET, [reply(status)], errors.ResponseError, "")
for status in (301, 302, 303, 307, 308):
    for operation in (GET, CREATE, UPDATE):
        CASES[f"redirect {status}, {operation}"] = Case(
            operation,
            [reply(status, b"", Location="https://evil.example/api/v2?token=1")],
            errors.ResponseError,
            r"redirects to https://evil\.example/api/v2, which is not followed",
        )
CASES["redirect to the same place"] = Case(
    GET,
    [reply(301, b"", Location="/api/v2/x")],
    errors.ResponseError,
    r"redirects to http://127\.\S*/api/v2/x, which is not",
)
CASES["redirect to nowhere"] = Case(GET, [reply(302)], errors.ResponseError, "redirects to elsewhere")
CASES["201 for a read"] = Case(GET, [reply(201, BODY)])
CASES["204 for a page"] = Case(PAGES, [reply(204)], errors.DocumentError, "status 204 has none")
CASES["204 for a create"] = Case(CREATE, [reply(204)], errors.DocumentError, "status 204 is empty")
CASES["200 for a delete"] = Case(DELETE, [reply(200, {"meta": {}})])
CASES["200 with text for a delete"] = Case(DELETE, [reply(200, b"deleted")])
CASES["202 for a delete"] = Case(DELETE, [reply(202)])
CASES["403 for a scope"] = Case(
    PAGES,
    [
        reply(
            403, refusal("unauthorizedOauthScope", "Unauthorized OAuth Scope", "needs the scope 'opportunities.read'.")
        )
    ],
    errors.AccessDeniedError,
    r"opportunities\.read.*give the app this scope.*Opportunities SKU",
)
CASES["403 for a user"] = Case(
    UPDATE,
    [reply(403, refusal("unauthorizedRequest", "No", "No."))],
    errors.AccessDeniedError,
    "profile or the app's scopes",
)
CASES["404 of the collection"] = Case(PAGES, [reply(404)], errors.NotFoundError, "base of the API.*Opportunities SKU")
CASES["404 of a record"] = Case(GET, [reply(404)], errors.NotFoundError, "may not see it")
CASES["401 of the gateway"] = Case(
    GET,
    [reply(401, {"error": "Invalid JWT token.", "description": "Not decoded."})],
    errors.AuthenticationError,
    r"Invalid JWT token: Not decoded.*sign in again",
)
CASES["415 spelt otherwise"] = Case(
    GET,
    [reply(415, {"errors": [{"id": "unsupportedMediaType", "title": "Media", "details": "Expected other."}]})],
    errors.ResponseError,
    "Media: Expected other",
)

# --- hints -------------------------------------------------------------------

HINTS = {
    "seconds": "30",
    "decimal": "30.0",
    "epoch": str(int(NOW) + 30),
    "epoch ms": str(int(NOW + 30) * 1000),
    "http date": "Mon, 21 Sep 2026 14:13:50 GMT",
    "rfc 850": "Monday, 21-Sep-26 14:13:50 GMT",
    "asctime": "Mon Sep 21 14:13:50 2026",
    "iso": "2026-09-21T14:13:50Z",
    "iso without zone": "2026-09-21T14:13:50",
    "iso with offset": "2026-09-21T16:13:50+02:00",
    "list": "30, 60",
}
for name, text in HINTS.items():
    for status in (429, 503):
        CASES[f"{status} told by {name}"] = Case(
            GET, [reply(status, b"", Retry_After=text), FINE[GET]], requests=2, waits=[0.5] * 60
        )
    CASES[f"reset by {name}"] = Case(
        PAGES, [reply(429, b"", X_RateLimit_Reset=text), FINE[PAGES]], requests=2, waits=[0.5] * 60
    )
    far = {"seconds": "3000", "decimal": "3000.5", "list": "3000, 1"}.get(
        name, text.replace("14:13:50", "15:13:50").replace("16:13:50", "17:13:50")
    )
    if name.startswith("epoch"):
        far = str(int(text) + (3_600_000 if "ms" in name else 3_600))
    CASES[f"told too long by {name}"] = Case(
        CREATE,
        [reply(429, b"", Retry_After=far)],
        errors.RateLimitError,
        r"try again at \d\d:\d\d, which is 3,",
        waits=[],
    )
for name, text in {
    "garbage": "soon",
    "negative": "-30",
    "past": str(int(NOW) - 30),
    "zero": "0",
    "words": "30 s",
}.items():
    CASES[f"hint {name}"] = Case(GET, [reply(429, b"", Retry_After=text), FINE[GET]], requests=2, waits=[0.25])
CASES["maintenance till tomorrow"] = Case(
    PAGES,
    [reply(503, b"", Retry_After="2026-09-22T14:13:20Z")],
    errors.UnavailableError,
    r"try again at 2026-09-22 \d\d:\d\d",
    waits=[],
)
CASES["hint by the service's clock"] = Case(
    GET,
    # The service's clock is an hour ahead of ours: its epoch is meant by its own clock.
    [reply(429, b"", Retry_After=str(int(NOW) + 3_630), Date="Mon, 21 Sep 2026 15:13:20 GMT"), FINE[GET]],
    requests=2,
    waits=[0.5] * 60,
)
CASES["hints that add up to too much"] = Case(
    GET,
    [reply(429, b"", Retry_After="25")] * 3,
    errors.RateLimitError,
    "which is 25 s away",
    requests=3,
    waits=[0.5] * 100,
)
CASES["reset with 503 is no hint"] = Case(
    GET, [reply(503, b"", X_RateLimit_Reset="3000"), FINE[GET]], requests=2, waits=[0.25]
)
CASES["a night job waits"] = Case(
    GET,
    [reply(429, b"", Retry_After="3000"), FINE[GET]],
    requests=2,
    waits=[0.5] * 6_000,
    options={"max_wait_s": 3_900},
)

# --- answers that do not come, or not whole ----------------------------------

BROKEN: dict[str, Step] = {
    "FIN before the answer": raw(b""),
    "RST before the answer": reset(),
    "FIN in the status line": raw(b"HTTP/1.1 20"),
    "FIN in the headers": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "RST after the headers": reset(head(200, {"Content-Length": str(len(BODY))})),
    "FIN after the headers": raw(head(200, {"Content-Length": str(len(BODY))})),
    "FIN in the body": raw(head(200, {"Content-Length": str(len(BODY))}) + BODY[:100]),
    "RST in the body": reset(head(200, {"Content-Length": str(len(BODY))}) + BODY[:100]),
    "one byte short": raw(head(200, {"Content-Length": str(len(BODY))}) + BODY[:-1]),
    "length too large": raw(head(200, {"Content-Length": str(len(BODY) + 10)}) + BODY),
    "length too small": raw(head(200, {"Content-Length": str(len(BODY) - 10)}) + BODY),
    "no length, cut": raw(head(200, {"Connection": "close"}) + BODY[:100]),
    "right length of a cut text": with_body(BODY[:100]),
    "cut at a closing brace": with_body(BODY[: BODY.index(b"}") + 1]),
    "chunked, cut in a chunk": raw(CHUNKED + b"fff\r\n" + BODY[:50]),
    "chunked, cut between chunks": raw(CHUNKED + b"32\r\n" + BODY[:50] + b"\r\n"),
    "chunked, no last chunk": raw(CHUNKED + f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n"),
    "chunked, size is no number": raw(CHUNKED + b"xyz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunked, negative size": raw(CHUNKED + b"-5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "gzip that is plain": zipped(BODY),
    "gzip of noise": zipped(b"\x1f\x8b" + b"\x00\xff" * 50),
    "gzip cut": zipped(PACKED[:-30]),
    "gzip without its end": zipped(PACKED[:-8]),
    "gzip with a wrong sum": zipped(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:]),
    "gzip with a wrong size": zipped(PACKED[:-4] + b"\0\0\0\0"),
    "gzip with garbage after it": zipped(PACKED + b"garbage"),
    "gzip twice": zipped(gzip.compress(PACKED), Content_Encoding="gzip, gzip"),
    "deflate unasked": zipped(zlib.compress(BODY), Content_Encoding="deflate"),
    "br unasked": zipped(BODY, Content_Encoding="br"),
    "unknown compression": zipped(BODY, Content_Encoding="x-secret"),
    "garbage for a status line": raw(b"\x00\x01\x02 hello\r\n\r\n"),
    "another protocol": raw(b"220 mail.example ESMTP\r\n"),
    "HTTP/2 preface": raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "status of two digits": raw(b"HTTP/1.1 20 OK\r\n\r\n"),
    "status that is no number": raw(b"HTTP/1.1 OK OK\r\n\r\n"),
    "bare body": raw(BODY),
    "200 headers": raw(head(200, {f"X-{number}": "x" for number in range(200)}) + BODY),
    "a header of 100 KB": raw(head(200, {"X-Long": "x" * 100_000}) + BODY),
    "a status line of 100 KB": raw(b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n"),
    "103 without end": raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 50),
    "100 and then nothing": raw(b"HTTP/1.1 100 Continue\r\n\r\n"),
}
for name, step in BROKEN.items():
    CASES[f"{name}: once"] = Case(GET, [step, FINE[GET]], requests=2)
    CASES[f"{name}: for ever"] = Case(
        GET, [step] * 9, errors.NoResponseError, "after 5 attempts", requests=5, sent=True
    )
    CASES[f"{name}: create"] = Case(CREATE, [step] * 2, errors.NoResponseError, "", requests=1, sent=True)
for name in ("FIN before the answer", "RST in the body", "one byte short", "gzip cut", "right length of a cut text"):
    for operation in (UPDATE, DELETE):
        if operation == UPDATE or "text" not in name:
            CASES[f"{name}: {operation}"] = Case(operation, [BROKEN[name]] * 2, errors.NoResponseError, "", sent=True)
    CASES[f"{name}: second page"] = Case(
        PAGES,
        [reply(200, page(87, link="/api/v2/opportunities?page%5Bafter%5D=x")), BROKEN[name], FINE[PAGES]],
        requests=3,
    )
RESULTS_OF_OTHERS = {name: [87, 88] for name in CASES if name.endswith(": second page")}

# --- odd, and right all the same ---------------------------------------------

ODD: dict[str, Step] = {
    "103 before the answer": raw(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head(200, {"Content-Length": str(len(BODY))}) + BODY
    ),
    "100 before the answer": raw(
        b"HTTP/1.1 100 Continue\r\n\r\n" + head(200, {"Content-Length": str(len(BODY))}) + BODY
    ),
    "chunked": raw(CHUNKED + f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n"),
    "chunked in single bytes": raw(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"),
    "chunked with extensions and trailers": raw(
        CHUNKED + f"{len(BODY):x};name=value\r\n".encode() + BODY + b"\r\n0\r\nX-Trailer: 1\r\n\r\n"
    ),
    "until the connection closes": raw(head(200, {}) + BODY),
    "HTTP/1.0": raw(b"HTTP/1.0 200 OK\r\n\r\n" + BODY),
    "lower-case headers": raw(b"HTTP/1.1 200 OK\r\ncontent-length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY),
    "no reason phrase": raw(b"HTTP/1.1 200\r\nContent-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY),
    "a reason phrase in latin-1": raw(b"HTTP/1.1 200 \xe9t\xe9\r\n\r\n" + BODY),
    "bare line feeds": raw(b"HTTP/1.1 200 OK\nContent-Length: " + str(len(BODY)).encode() + b"\n\n" + BODY),
    "gzip": zipped(PACKED),
    "gzip in two members": zipped(gzip.compress(BODY[:50]) + gzip.compress(BODY[50:])),
    "x-gzip": zipped(PACKED, Content_Encoding="x-gzip"),
    "identity": with_body(BODY, Content_Encoding="identity"),
    "byte order mark": with_body(b"\xef\xbb\xbf" + BODY),
    "another content type": with_body(BODY, Content_Type="text/html; charset=latin-1"),
    "a cookie": with_body(BODY, Set_Cookie="session=1; Path=/"),
    "a date that is none": with_body(BODY, Date="yesterday"),
    "headers of letters": with_body(BODY, X_RateLimit_Remaining="many", X_RateLimit_Reset="soon", X_RateLimit_Limit=""),
    "two rate limits": with_body(BODY, X_RateLimit_Remaining="9999, 19988"),
    "slow but in time": drip(head(200, {"Content-Length": str(len(BODY))}) + BODY, piece=100, gap_s=0.01),
}
for name, step in ODD.items():
    CASES[name] = Case(GET, [step])

# --- too slow ----------------------------------------------------------------

SLOW: dict[str, Step] = {
    "no answer": hang(),
    "stall in the status line": hang(b"HTTP/1.1 2"),
    "stall in the headers": hang(b"HTTP/1.1 200 OK\r\nContent-"),
    "stall after the headers": hang(head(200, {"Content-Length": str(len(BODY))})),
    "stall in the body": hang(head(200, {"Content-Length": str(len(BODY))}) + BODY[:100]),
    "stall in a chunk": hang(CHUNKED + b"fff\r\n" + BODY[:50]),
    "stall in a chunk's size": hang(CHUNKED + b"ff"),
    "headers byte by byte": drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 500, gap_s=0.01),
    "interim answers one by one": drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, piece=25, gap_s=0.02),
    "body byte by byte": drip(head(200, {"Content-Length": "500"}) + b" " * 500, gap_s=0.01),
    "chunks byte by byte": drip(CHUNKED + b"1\r\n \r\n" * 200, piece=6, gap_s=0.01),
    "a chunk's size byte by byte": drip(CHUNKED + b"0" * 500, gap_s=0.01),
    "gzip byte by byte": drip(head(200, {"Content-Length": "500", "Content-Encoding": "gzip"}) + PACKED, gap_s=0.01),
}
for name, step in SLOW.items():
    options = {"deadline_s": 0.2}
    CASES[f"{name}: get"] = Case(
        GET, [step] * 3, errors.NoResponseError, "in time", sent=True, real_time=True, options=options
    )
for name in ("no answer", "body byte by byte"):
    CASES[f"{name}: create"] = Case(
        CREATE,
        [SLOW[name]] * 3,
        errors.NoResponseError,
        "in time",
        sent=True,
        real_time=True,
        options={"deadline_s": 0.2},
    )
CASES["quiet for too long"] = Case(
    GET, [SLOW["stall in the body"], FINE[GET]], requests=2, options={"read_timeout_s": 0.5}
)

# --- too large ---------------------------------------------------------------

MANY = zlib.compressobj(9, zlib.DEFLATED, 31)
BOMB = MANY.compress(bytes(80 * 2**20)) + MANY.flush()
CASES["gzip bomb"] = Case(GET, [zipped(BOMB)], errors.DocumentError, "larger than more than allowed|page_size")
CASES["gzip bomb for a write"] = Case(CREATE, [zipped(BOMB)], errors.DocumentError, "page_size")
CASES["endless body"] = Case(
    GET,
    [endless(head(200, {"Connection": "close"}), b" " * 2**20)],
    errors.DocumentError,
    "16,777,216 bytes on the wire",
)
CASES["endless chunks"] = Case(
    PAGES,
    [endless(CHUNKED, b"100000\r\n" + b" " * 2**20 + b"\r\n")],
    errors.DocumentError,
    "16,777,216 bytes on the wire",
)
CASES["endless error"] = Case(
    GET, [endless(head(404, {"Connection": "close"}), b" " * 2**20)], errors.DocumentError, "1,048,576 bytes"
)
CASES["endless headers"] = Case(
    GET, [endless(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n" * 100)] * 5, errors.NoResponseError, "", requests=5
)
CASES["a megabyte of detail"] = Case(
    GET, [reply(422, refusal("x", "Long", "y" * 900_000))], errors.EditRejectedError, "Long: yyy"
)

# --- bad documents -----------------------------------------------------------

DOCUMENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "html": (b"<html>Sign in</html>", "web page"),
    "html of a proxy": (b"\n<!DOCTYPE html><p>Blocked</p>", "web page"),
    "plain text": (b"OK", "not JSON"),
    "list": (b"[]", "not a list"),
    "null": (b"null", "not JSON|not null"),
    "no data": (b"{}", "neither data nor meta"),
    "errors": (b'{"errors": [{"title": "Boom"}]}', "Boom"),
    "errors beside data": (b'{"data": [], "errors": [{"title": "Boom"}]}', "Boom"),
    "latin-1": (b'{"data": {"name": "\xe9"}}', "not UTF-8"),
    "utf-16": ('{"data": null}'.encode("utf-16"), "UTF-16"),
    "nan": (b'{"data": {"amount": NaN}}', "NaN"),
    "deep": (b'{"data": ' + b"[" * 3_000 + b"]" * 3_000 + b"}", "nests deeper"),
    "long number": (b'{"data": {"amount": ' + b"9" * 5_000 + b"}}", "5,000 digits"),
    "doubled key": (b'{"data": {"id": 1, "id": 2}}', "twice"),
    "data of text": (b'{"data": "none"}', "not text"),
    "two documents": (BODY + BODY, "not JSON"),
}
for name, (data, words) in DOCUMENTS.items():
    for operation in (GET, PAGES, CREATE, UPDATE):
        status = 201 if operation == CREATE else 200
        CASES[f"document {name}: {operation}"] = Case(operation, [with_body(data, status)], errors.DocumentError, words)
for name, record in {
    "another type": {**opportunity(88), "type": "user"},
    "no type": {"id": 88},
    "another id": opportunity(89),
    "no id": {"type": "opportunity"},
    "a list": [opportunity(88)],
    "null": None,
}.items():
    for operation in (GET, UPDATE):
        CASES[f"record {name}: {operation}"] = Case(
            operation, [reply(200, {"data": record})], errors.DocumentError, "was expected|wrong id"
        )
CASES["record without id: create"] = Case(
    CREATE, [reply(201, {"data": {"type": "opportunity"}})], errors.DocumentError, "wrong id"
)

# --- the token, repeated by the service --------------------------------------

ECHOES: dict[str, Case] = {
    "in detail": Case(GET, [reply(401, refusal("x", "Bad token", f"Bearer {TOKEN}"))], errors.AuthenticationError),
    "in title": Case(GET, [reply(403, refusal("x", TOKEN, "no"))], errors.AccessDeniedError),
    "in a key": Case(
        GET, [reply(422, {"errors": [{TOKEN: {"deep": [TOKEN]}, "title": "x"}]})], errors.EditRejectedError
    ),
    "in the gateway's words": Case(
        GET, [reply(401, {"error": TOKEN, "description": TOKEN})], errors.AuthenticationError
    ),
    "in errors under 200": Case(GET, [reply(200, refusal("x", f"Bad {TOKEN}", TOKEN))], errors.DocumentError),
    "in a document's type": Case(GET, [reply(200, {"data": {"type": TOKEN, "id": 88}})], errors.DocumentError),
    "in a document's key": Case(GET, [with_body(f'{{"{TOKEN}": 1, "{TOKEN}": 2}}'.encode())], errors.DocumentError),
    "in a web page": Case(GET, [with_body(f"<html>{TOKEN}</html>".encode())], errors.DocumentError),
    "in the request id": Case(GET, [reply(404, b"", X_Request_Id=TOKEN)], errors.NotFoundError),
    "in the status line": Case(GET, [raw(f"{TOKEN} garbage\r\n\r\n".encode())] * 5, errors.NoResponseError, requests=5),
    "in the reason": Case(GET, [raw(f"HTTP/1.1 404 {TOKEN}\r\n\r\n".encode())], errors.NotFoundError),
    "in a redirect": Case(GET, [reply(302, b"", Location=f"https://evil.example/{TOKEN}")], errors.ResponseError),
    "in a compression": Case(GET, [zipped(BODY, Content_Encoding=TOKEN)] * 5, errors.NoResponseError, requests=5),
    "in Retry-After": Case(GET, [reply(429, b"", Retry_After=TOKEN)] * 5, errors.RateLimitError, requests=5),
}
CASES.update({f"token {name}": case for name, case in ECHOES.items()})


def test_corpus__is_large_enough() -> None:
    """The promise is 150 scripted faults, 15 of them bad answers to writes."""
    assert len(CASES) >= 150
    assert sum(case.operation in WRITES and case.raises is errors.DocumentError for case in CASES.values()) >= 15


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as started:
        yield started


@pytest.mark.parametrize("name", CASES)
def test_fault(server: RawServer, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each fault has the result, the number of requests and the waits that were promised, and leaks nothing."""
    caplog.set_level(logging.DEBUG)
    case = CASES[name]
    clock = FakeClock()
    options = case.options | ({} if case.real_time else {"clock": clock})
    client = connect(server.url, token=TOKEN, **options)
    server.script(*case.steps)
    started = time.monotonic()
    error: BaseException | None = None
    try:
        result = OPERATIONS[case.operation](client)
    except errors.OppPandasError as caught:
        error, result = caught, None
    elapsed_s = time.monotonic() - started

    assert_nothing_leaks(client, error, caplog.text)
    if case.raises is None:
        assert error is None, repr(error)
        assert result == RESULTS_OF_OTHERS.get(name, RESULT[case.operation])
    else:
        assert isinstance(error, case.raises), repr(error or result)
        assert re.search(case.words, str(error), re.DOTALL), str(error)
        assert len(str(error)) < 1_500
    if case.sent is not None:
        assert isinstance(error, errors.NoResponseError)
        assert error.sent is case.sent
    assert len(server.requests) == case.requests
    assert client.calls == case.requests
    if case.waits is not None:
        assert clock.waits == pytest.approx(case.waits)
    assert elapsed_s < 30


def assert_nothing_leaks(client: Client, error: BaseException | None, logged: str) -> None:
    """Search everything that anybody may see for the token."""
    seen = [logged, repr(client), str(vars(client)), str(vars(client._transport))]
    if error is not None:
        # Without the frame of the test, whose server remembers the requests.
        inner = error.__traceback__.tb_next if error.__traceback__ else None
        chain = traceback.TracebackException(type(error), error, inner, capture_locals=True)
        seen += [str(error), repr(error), str(error.args), str(vars(error)), "".join(chain.format())]
        seen.append(repr(pickle.dumps(error)))
        link: BaseException | None = error.__cause__ or error.__context__
        while link is not None:
            assert getattr(link, "request", None) is None
            seen += [str(link), repr(link), str(vars(link))]
            link = link.__cause__ or link.__context__
    for text in seen:
        assert TOKEN not in text


def test_nothing_listens() -> None:
    """A refused connection was never sent, so even a write is tried again, and says that the service may not run."""
    import socket

    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        clock = FakeClock()
        client = connect(f"http://127.0.0.1:{reserved.getsockname()[1]}/api/v2", token=TOKEN, clock=clock)
        for operation in OPERATIONS.values():
            with pytest.raises(errors.NoResponseError, match="is the service running") as caught:
                operation(client)
            assert caught.value.sent is False
            assert isinstance(caught.value.__cause__, OSError)
    assert client.calls == 25


def test_unknown_host() -> None:
    """A name that does not exist is said so."""
    client = connect("https://does-not-exist.invalid/api", token=TOKEN, clock=FakeClock())
    with pytest.raises(errors.NoResponseError, match=r"no connection to https://does-not-exist\.invalid"):
        client.get(1)


def test_dying_keep_alive__is_not_noticed_by_readers(server: RawServer) -> None:
    """A connection that the service closed in between is opened again without an error."""

    def once(connection: Any, request: Any) -> bool:
        FINE[GET](connection, request)
        return False

    server.script(once, once, once)
    client = connect(server.url, token=TOKEN, clock=FakeClock())
    for _ in range(3):
        assert client.get(88).data["id"] == 88


def test_storm__ends_with_the_budget(server: RawServer) -> None:
    """A thousand rows do not make five thousand requests to a dead service."""
    server.script(*[bad_gateway()] * 1_200)
    client = connect(server.url, token=TOKEN, clock=FakeClock())
    for _ in range(1_000):
        with pytest.raises(errors.ResponseError):
            client.get(88)
    assert client.calls == 1_000 + 500 // 14


def test_storm__says_why_it_does_not_try_again(server: RawServer) -> None:
    """When the budget is used up the error says so."""
    server.script(*[bad_gateway()] * 60)
    client = connect(server.url, token=TOKEN, clock=FakeClock())
    said = []
    for _ in range(12):
        with pytest.raises(errors.ResponseError) as caught:
            client.get(88)
        said.append("not tried again, since too many requests failed lately" in str(caught.value))
    # 35 repetitions are paid for: eight requests with four each, and three of the ninth.
    assert said == [False] * 8 + [True] * 4


def test_memory__stays_small_under_a_bomb(server: RawServer) -> None:
    """Two layers of 80 MiB cost less than 200 MiB, since nothing is kept beyond the limit."""
    import tracemalloc

    server.script(zipped(BOMB), endless(head(200, {"Connection": "close"}), b" " * 2**20))
    client = connect(server.url, token=TOKEN, clock=FakeClock())
    tracemalloc.start()
    try:
        for _ in range(2):
            with pytest.raises(errors.DocumentError):
                client.get(88)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 * 2**20


def test_pacing__slows_down_below_five_percent(server: RawServer) -> None:
    """With 99 calls left for 600 s, each request waits 6 s; with plenty left none does."""
    plenty = reply(
        200,
        BODY,
        X_RateLimit_Limit="10000",
        X_RateLimit_Remaining="9000, 19000",
        X_RateLimit_Reset="600",
        Date=NOW_HTTP,
    )
    few = reply(
        200, BODY, X_RateLimit_Limit="10000", X_RateLimit_Remaining="99, 19000", X_RateLimit_Reset="600", Date=NOW_HTTP
    )
    server.script(plenty, few, plenty, plenty)
    clock = FakeClock()
    client = connect(server.url, token=TOKEN, clock=clock)
    waited = []
    for _ in range(4):
        client.get(88)
        waited.append(sum(clock.waits))
    assert waited == pytest.approx([0, 0, 6, 6])


def test_pacing__is_announced(server: RawServer, caplog: pytest.LogCaptureFixture) -> None:
    """A wait above 5 s is a warning in the log, or goes to the caller's own progress."""
    server.script(reply(429, b"", Retry_After="30"), FINE[GET], reply(429, b"", Retry_After="2"), FINE[GET])
    told: list[float] = []
    connect(server.url, token=TOKEN, clock=FakeClock()).get(88)
    assert "waiting 30 s for the service, until" in caplog.text
    connect(server.url, token=TOKEN, clock=FakeClock(), on_wait=told.append).get(88)
    assert told == pytest.approx([2.0, 1.5, 1.0, 0.5])


class Rotating:
    """A source of tokens that can be renewed."""

    def __init__(self, *tokens: str) -> None:
        from opp_pandas.api.auth.secret import Secret

        self.tokens = [Secret(token) for token in tokens]
        self.renewed = 0

    def token(self) -> Any:
        """Return the first that is left."""
        return self.tokens[0]

    def renew(self, used: Any) -> Any:
        """Go on to the next."""
        assert used == self.tokens[0]
        self.renewed += 1
        self.tokens.pop(0)
        return self.tokens[0] if self.tokens else None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_401__is_repeated_once_with_a_new_token(server: RawServer, operation: str) -> None:
    """An expired token is renewed and the request, writes included, sent once more."""
    server.script(reply(401), FINE[operation])
    auth = Rotating("first-token", "second-token")
    assert OPERATIONS[operation](connect(server.url, auth=auth, clock=FakeClock())) == RESULT[operation]
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer first-token",
        "Bearer second-token",
    ]


def test_401__twice_is_an_error(server: RawServer) -> None:
    """A new token that is refused too ends it: no loop."""
    server.script(reply(401), reply(401), reply(401))
    auth = Rotating("first-token", "second-token", "third-token")
    with pytest.raises(errors.AuthenticationError):
        connect(server.url, auth=auth, clock=FakeClock()).get(88)
    assert (len(server.requests), auth.renewed) == (2, 1)


def test_401__without_a_newer_token_is_an_error(server: RawServer) -> None:
    """Where nothing can be renewed the first 401 is the answer."""
    server.script(reply(401))
    with pytest.raises(errors.AuthenticationError):
        connect(server.url, auth=Rotating("first-token"), clock=FakeClock()).get(88)
    assert len(server.requests) == 1


def test_404__of_what_not_every_service_offers(server: RawServer) -> None:
    """The address of the API may be right all the same."""
    server.script(reply(404))
    with pytest.raises(errors.NotFoundError, match="does not offer that, or url= is not the base of the API"):
        connect(server.url, token=TOKEN).custom_fields()
