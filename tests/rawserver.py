"""A server that answers exactly what a test scripts, byte for byte, faults included.

It knows nothing of the API: the scripts are the example bodies of the service's
documents and every way in which bytes can go wrong on their way.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl

REASONS = {200: "OK", 201: "Created", 204: "No Content", 301: "Moved", 429: "Too Many Requests"}


@dataclass
class Request:
    """A request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Step = Callable[[socket.socket, Request], bool]
"""Answers one request; returns whether the connection goes on."""


def raw(data: bytes, *, close: bool = True) -> Step:
    """Send these bytes."""

    def step(connection: socket.socket, request: Request) -> bool:
        connection.sendall(data)
        return not close

    return step


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def reply(status: int = 200, body: Any = None, **headers: str) -> Step:
    """Send a whole answer; `body` is bytes, or anything JSON."""
    if body is None:
        data = b""
    elif isinstance(body, bytes):
        data = body
    else:
        data = json.dumps(body).encode()
    fields = {"Content-Type": "application/vnd.api+json", "Content-Length": str(len(data))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return raw(head(status, fields) + data, close=False)


def drip(data: bytes, piece: int = 1, gap_s: float = 0.02) -> Step:
    """Send bytes a few at a time."""

    def step(connection: socket.socket, request: Request) -> bool:
        for start in range(0, len(data), piece):
            connection.sendall(data[start : start + piece])
            time.sleep(gap_s)
        return False

    return step


def hang(data: bytes = b"", seconds: float = 60.0) -> Step:
    """Send these bytes and then nothing until the other side goes away."""

    def step(connection: socket.socket, request: Request) -> bool:
        connection.sendall(data)
        connection.settimeout(seconds)
        connection.recv(1)
        return False

    return step


def reset(data: bytes = b"") -> Step:
    """Send these bytes, then break the connection off (RST)."""

    def step(connection: socket.socket, request: Request) -> bool:
        if data:
            connection.sendall(data)
            time.sleep(0.02)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    return step


def endless(data: bytes, piece: bytes) -> Step:
    """Send `piece` again and again until the other side has enough."""

    def step(connection: socket.socket, request: Request) -> bool:
        connection.sendall(data)
        while True:
            connection.sendall(piece)

    return step


def bad_gateway() -> Step:
    return reply(502, b"<html><h1>502 Bad Gateway</h1></html>", Content_Type="text/html")


@dataclass
class RawServer:
    """Serves one script; requests beyond it get a 599.

    Use as a context manager; ``requests`` holds what came in.
    """

    steps: list[Step] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # gone already
                    connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)

    @property
    def url(self) -> str:
        """The base of the API."""
        return f"{self.origin}/api/v2"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def script(self, *steps: Step) -> Self:
        """Add answers to the script."""
        self.steps.extend(steps)
        return self

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        buffered = bytearray()
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            while (request := self._read(connection, buffered)) is not None:
                with self._lock:
                    self.requests.append(request)
                    step = self.steps.pop(0) if self.steps else reply(599, {"errors": [{"title": "script ended"}]})
                if not step(connection, request):
                    break
        except OSError:
            pass  # the client went away, as many scripts make it do
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    @staticmethod
    def _read(connection: socket.socket, buffered: bytearray) -> Request | None:
        while b"\r\n\r\n" not in buffered:
            data = connection.recv(65_536)
            if not data:
                return None
            buffered += data
        top, _, rest = bytes(buffered).partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(rest) < length:
            rest += connection.recv(65_536)
        buffered[:] = rest[length:]
        method, target, _ = first.split(" ", 2)
        return Request(method, target, headers, rest[:length])


# --- bodies ------------------------------------------------------------------

NOW = 1_790_000_000.0
NOW_HTTP = formatdate(NOW, usegmt=True)


def opportunity(identity: Any = 88, **attributes: Any) -> dict[str, Any]:
    """The service's example record, with other attributes where given."""
    return {
        "type": "opportunity",
        "id": identity,
        "attributes": {
            "amount": 5000,
            "closeDate": "2026-12-10T22:00:00.000Z",
            "name": "Acme renewal",
            "probability": 60,
            "tags": ["q4", "renewal"],
            "updatedAt": "2026-09-03T11:00:01.000Z",
            **attributes,
        },
        "relationships": {
            "account": {"data": {"type": "account", "id": 12}},
            "opportunityStage": {"data": {"type": "opportunityStage", "id": 6}},
            "owner": {"data": {"type": "user", "id": 7}},
            "prospects": {"links": {"related": "https://api.outreach.io/api/v2/prospects"}},
            "stage": {"data": {"type": "opportunityStage", "id": 6}},
            "updater": {"data": None},
        },
        "links": {"self": "https://api.outreach.io/api/v2/opportunities/88"},
    }


def page(*identities: int, link: str | None = None, **meta: Any) -> dict[str, Any]:
    """A page with these ids."""
    document: dict[str, Any] = {"data": [opportunity(identity) for identity in identities]}
    if link is not None:
        document["links"] = {"first": "/api/v2/opportunities", "next": link}
    if meta:
        document["meta"] = meta
    return document


def refusal(identity: str, title: str, detail: str, pointer: str | None = None) -> dict[str, Any]:
    """An error document."""
    source = {"source": {"pointer": pointer}} if pointer else {}
    return {"errors": [{"id": identity, "title": title, "detail": detail, **source}]}


class FakeClock:
    """A clock whose time passes only in `sleep`; it remembers every wait."""

    def __init__(self, chance: float = 0.5, now: float = NOW) -> None:
        self.waits: list[float] = []
        self._chance, self._start = chance, now

    def monotonic(self) -> float:
        """The seconds slept so far."""
        return sum(self.waits)

    def now(self) -> float:
        """The start plus the seconds slept."""
        return self._start + sum(self.waits)

    def sleep(self, seconds: float) -> None:
        """Remember the wait."""
        self.waits.append(seconds)

    def chance(self) -> float:
        """The number given at the start."""
        return self._chance
