"""One HTTP exchange, bounded in time and size.

requests guards each single read with a time-out, so that a body or header that
drips never ends. The adapter here reads every byte against one deadline, wakes
twice a second so that Ctrl-C comes through on every system, and skips interim
answers (1xx) that would otherwise be taken for the answer itself.
"""

from __future__ import annotations

import http.client
import io
import threading
import time
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.exceptions

from opp_pandas.api.transport.base_url import is_loopback
from opp_pandas.api.transport.retry import SLICE_S

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

MAX_BODY = 64 * 2**20
MAX_RAW = 16 * 2**20
CHUNK = 65_536
MAX_INTERIM = 10

_limits = threading.local()


class TooLargeError(Exception):
    """The answer is larger than allowed."""


class CutShortError(Exception):
    """The answer broke off, or its compression is damaged."""


@contextmanager
def time_limit(until: float, quiet_s: float) -> Iterator[None]:
    """Bound every read of this thread: by the moment `until`, and `quiet_s` without a byte [monotonic s, s]."""
    _limits.until, _limits.quiet_s = until, quiet_s
    try:
        yield
    finally:
        _limits.until = None


class _TimedReader(io.RawIOBase):
    """Reads a socket against the thread's deadline."""

    def __init__(self, file: io.RawIOBase, sock: socket.socket) -> None:
        self._file, self._sock = file, sock
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        quiet_until = time.monotonic() + getattr(_limits, "quiet_s", 30.0)
        until = min(quiet_until, getattr(_limits, "until", None) or quiet_until)
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(min(left, SLICE_S))
            try:
                size = self._sock.recv_into(buffer)
                self.ended = size == 0
                return size
            except TimeoutError:
                # Only a slice is over: the loop looks at the deadline, and Python at Ctrl-C.
                continue

    def close(self) -> None:
        # The socket counts its open files, and closes with the last of them.
        self._file.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        # The reader made by the base class has read nothing yet; its raw file keeps the socket open.
        self._reader = _TimedReader(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._reader, CHUNK)

    def begin(self) -> None:
        self._begin_once()
        for _ in range(MAX_INTERIM):
            if not 100 <= self.status < 200:
                return
            self.headers = self.msg = None  # type: ignore[assignment]  # makes begin() read the next status line
            self._begin_once()
        raise http.client.HTTPException("interim answers without end")

    def _begin_once(self) -> None:
        super().begin()
        if self._reader.ended:
            # The base class takes headers that break off for whole ones.
            raise http.client.IncompleteRead(b"")


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _TimedResponse


class _SecureConnection(urllib3.connection.HTTPSConnection):
    response_class = _TimedResponse


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class TimedAdapter(requests.adapters.HTTPAdapter):
    """A requests adapter whose reads obey `time_limit`; it never repeats a request by itself."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools with the timed connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Make the pools of a proxy with the timed connections; SOCKS has its own."""
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager


def make_session() -> requests.Session:
    """Make a session that keeps no cookies and whose reads are timed.

    Proxies and certificates of the environment stay in force.
    """
    from http.cookiejar import DefaultCookiePolicy

    session = requests.Session()
    session.headers["User-Agent"] = f"opp_pandas {requests.utils.default_user_agent()}"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = TimedAdapter(pool_connections=1, pool_maxsize=1)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def proxies_for(host: str) -> dict[str, str] | None:
    """Return the proxies for a host: those of the environment, which are for the world outside.

    This machine's own service is asked directly, tokens and secrets with it.
    """
    return {"no_proxy": host} if is_loopback(host) else None


def read_body(response: requests.Response, until: float, max_body: int = MAX_BODY, max_raw: int = MAX_RAW) -> bytes:
    """Read and decompress the body of a streamed response until a moment [monotonic s].

    TooLargeError comes before more than allowed is kept; CutShortError says that the
    compression is damaged or ends early.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise CutShortError(f"the answer is compressed as {encoding[:40]!r}, which was not asked for")
    unpack = _Gunzip(max_body) if "gzip" in encoding else None
    parts: list[bytes] = []
    size = raw_size = 0
    raw: urllib3.HTTPResponse = response.raw
    while chunk := raw.read1(CHUNK, decode_content=False):
        raw_size += len(chunk)
        if raw_size > max_raw:
            raise TooLargeError(f"{max_raw:,} bytes on the wire")
        if unpack is not None:
            chunk = unpack(chunk)
        size += len(chunk)
        if size > max_body:
            raise TooLargeError(f"{max_body:,} bytes")
        parts.append(chunk)
        if time.monotonic() > until:
            raise TimeoutError("timed out")
    if unpack is not None and raw_size:
        unpack.finish()
    return b"".join(parts)


class _Gunzip:
    """Unpacks gzip piece by piece, never more than allowed, and knows whether it was whole."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def __call__(self, data: bytes) -> bytes:
        parts = []
        try:
            while data:
                if self._decoder.eof:
                    # A gzip file may be several, one after the other (RFC 1952, 2.2).
                    self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
                part = self._decoder.decompress(data, self._left + 1)
                self._left -= len(part)
                if self._left < 0:
                    raise TooLargeError("more than allowed once unpacked")
                parts.append(part)
                data = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
        except zlib.error as error:
            problem = f"its gzip compression is damaged ({error})"
        else:
            return b"".join(parts)
        raise CutShortError(problem)

    def finish(self) -> None:
        """Check that the last member ended."""
        if not self._decoder.eof:
            raise CutShortError("its gzip compression ends early")
