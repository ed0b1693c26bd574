"""The API on a loopback socket: HTTP/1.1 with kept-alive connections, one thread each."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import os
import socket
import socketserver
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.serving import WSGIRequestHandler

from opp_pandas.errors import ConfigurationError, printable
from opp_pandas.sandbox_server.application import Application, CutConnectionError
from opp_pandas.sandbox_server.operations import MEDIA_TYPE

if TYPE_CHECKING:
    from opp_pandas.sandbox_server.instants import Clock
    from opp_pandas.sandbox_server.settings import Switches

LARGEST_BODY = 8 * 1024 * 1024


class Server:
    """Serves an application on a loopback address until it is closed; port 0 lets the system choose one.

    The clock gives the ``Date`` header, the switches how long a connection may stay silent. ConfigurationError if the
    address is another, or the port is not free.
    """

    def __init__(
        self,
        application: Application,
        clock: Clock,
        switches: Switches,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        address = _loopback(host)
        try:
            self._listener = _Listener(address, _check_port(port), application, clock, switches)
        except OSError as error:
            remedy = "choose another port, or port=0 for a free one"
            raise ConfigurationError(
                f"cannot listen on {address}:{port} ({error.strerror or error}); {remedy}"
            ) from error
        shown = f"[{address}]" if ":" in address else address
        self.port: int = self._listener.server_address[1]
        self.origin = f"http://{shown}:{self.port}"
        application.hosts = frozenset(f"{name}:{self.port}" for name in (shown, "localhost", "127.0.0.1"))
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.05}, name="opp_pandas sandbox", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving and cut what is open; a second call does nothing."""
        if not self._thread.is_alive():
            return
        self._listener.shutdown()
        self._listener.server_close()
        self._listener.cut_connections()
        self._thread.join()


def _loopback(host: str) -> str:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ConfigurationError(
            f"the sandbox serves this machine only: host {printable(host)!r} is not a loopback address; use 127.0.0.1"
        )
    return str(address)


def _check_port(port: int) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
        raise ConfigurationError(f"port {port!r} is not a port; use 0 for a free one, or 1024 to 65535")
    return port


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Accepts connections and gives each a thread."""

    daemon_threads = True
    request_queue_size = 128
    # On Windows this option would let two servers share a port.
    allow_reuse_address = os.name != "nt"
    # What the request handler asks a WSGI server for.
    multithread, multiprocess, ssl_context = True, False, None
    _server_version = "opp_pandas"

    def __init__(self, address: str, port: int, app: Application, clock: Clock, switches: Switches) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.app, self.clock, self.switches = app, clock, switches
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((address, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """End the connections that clients keep alive."""
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            # The peer may have gone in this very moment, which is all that was wanted.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away in the middle is no event; nothing is printed."""


class _Handler(WSGIRequestHandler):
    """One connection: reads a request whole, asks the application, writes the answer whole."""

    server: _Listener  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    sys_version = ""

    def setup(self) -> None:
        """Let a silent peer hold its thread for a while only, whether it never began or is kept alive."""
        super().setup()
        self.connection.settimeout(self.server.switches.idle_timeout_s or None)

    def run_wsgi(self) -> None:
        """Serve one request of the connection."""
        environ = self.make_environ()
        body = self._read_body(environ)
        if body is None:
            return
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("wsgi.input_terminated", None)
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        answer: list[Any] = []
        try:
            parts = self.server.app(environ, lambda status, headers, _=None: answer.extend((status, headers)))
            content = b"".join(parts)
        except CutConnectionError:
            self.close_connection = True
            return
        status, headers = answer
        code, _, phrase = status.partition(" ")
        self.send_response(int(code), phrase)
        for name, value in headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _read_body(self, environ: Any) -> bytes | None:
        """Read the body, so that the next request begins where this one ends; None if it was refused."""
        try:
            if environ.get("wsgi.input_terminated"):
                source, length = environ["wsgi.input"], LARGEST_BODY + 1
            else:
                source, length = self.rfile, int(environ.get("CONTENT_LENGTH") or 0)
            if length < 0:
                raise ValueError(length)
            body: bytes = source.read(min(length, LARGEST_BODY + 1))
        except (OSError, ValueError):
            self.send_error(HTTPStatus.BAD_REQUEST, "The body's length cannot be read.")
            return None
        if len(body) <= LARGEST_BODY:
            return body
        # A peer that is still sending would see a reset connection instead of the answer.
        left = min(length, 8 * LARGEST_BODY) - len(body)
        while left > 0 and (more := self.rfile.read(min(left, 65_536))):
            left -= len(more)
        self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A body may have {LARGEST_BODY:,} bytes.")
        return None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer what never reached the application, in the API's shape, and close the connection."""
        # Not Python's own words, which its versions change: the id of an error is the service's.
        phrase = HTTP_STATUS_CODES[code]
        error = {
            "id": phrase[:1].lower() + phrase.title().replace(" ", "")[1:],
            "title": phrase,
            "detail": message or phrase,
        }
        content = json.dumps({"errors": [error]}).encode()
        self.close_connection = True
        # A request line that cannot be read counts as HTTP/0.9, whose answers have no status.
        self.request_version = self.protocol_version
        self.send_response(code, phrase)
        self.send_header("Content-Type", MEDIA_TYPE)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the ``Date`` header by the sandbox's clock."""
        return super().date_time_string(self.server.clock().timestamp() if timestamp is None else timestamp)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Print nothing: `Sandbox.requests` keeps what came in."""

    def log_error(self, *_: Any) -> None:
        """Print nothing: the peer was told."""
