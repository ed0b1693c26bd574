"""The sandbox keeps to this machine, and hostile requests learn and change nothing."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import requests

from opp_pandas.errors import ConfigurationError
from opp_pandas.sandbox_handle import Sandbox, sandbox
from sandbox_server_calls import Api, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = [
    "'", '"', "';--", "1 OR 1=1", "1) OR (1=1", "1' OR '1'='1", "1;DROP TABLE opportunities", "x' UNION SELECT 1,2,3--",
    "0x31", "1/**/OR/**/1", "name\" DESC; --", "(SELECT 1)", "CASE WHEN 1 THEN id END", "RANDOM()", "rowid",
    "sqlite_master", "attributes", "shape", "truth.p", "\x00", "%00", "%", "_", "\\", "../../etc/passwd", "{}",
    "{0.__class__}", "%s%n", "😀", "\u202e", "a" * 5_000, "[]", "[[]]", "$ne", "null", "__null__'", "..", "1..2..3",
    "-", "--", ",", ",,",
]  # fmt: skip
SHAPES = [
    "filter[name]={}",
    "filter[{}]=1",
    "filter[id]={}",
    "filter[owner][{}]=1",
    "filter[{}][id]=1",
    "filter[account][name]={}",
    "newFilterSyntax=true&filter[name][]={}",
    "newFilterSyntax=true&filter[updatedAt][gte]={}",
    "sort={}",
    "sort=-{}",
    "fields[opportunity]={}",
    "fields[{}]=name",
    "include={}",
    "page[size]={}",
    "page[after]={}",
    "page[{}]=1",
    "page[offset]={}",
    "count={}",
    "{}=1",
]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """A sandbox with a few deals."""
    yield from opened(sandbox(opportunities=5, seed=4, rate_limit=10**6))


@pytest.mark.parametrize("shape", SHAPES)
def test_hostile_text__in_any_parameter_is_data_or_refused(api: Api, shape: str) -> None:
    """Nothing in a query becomes SQL: it matches nothing, is ignored or gets 422, and never 500."""
    before = api.get("/opportunities?page[size]=100")
    for text in HOSTILE:
        answer = api.call("GET", "/opportunities?" + shape.format(quote(text)))
        assert answer.status_code in (200, 422), (text, answer.text)
        for word in ("sqlite", "Traceback", "SELECT", 'File "'):
            assert word in text or word not in answer.text, text
    assert api.get("/opportunities?page[size]=100") == before


@pytest.mark.parametrize(
    "path", ["/../opportunities", "//opportunities", "/opportunities//1", "/opportunities/1'", "/%00"]
)
def test_hostile_path__is_not_found(api: Api, path: str) -> None:
    """Odd addresses are 404."""
    connection = http.client.HTTPConnection(api.box.origin.removeprefix("http://"), timeout=60)
    connection.request("GET", f"/api/v2{path}", headers={"Authorization": f"Bearer {api.box.token}"})
    assert connection.getresponse().status == 404
    connection.close()


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", "127.0.0.1:{port}@x", ""]
)
def test_host_header__of_another_name_is_refused(api: Api, host: str) -> None:
    """A page led here under another name (DNS rebinding) gets nothing, even with the token."""
    port = api.box.origin.rsplit(":", 1)[1]
    answer = api.call("GET", "/opportunities/1", headers={"Host": host.format(port=port)})
    assert answer.status_code == 400
    assert "data" not in answer.json()


def test_host_header__of_this_machine_is_served_and_used_in_links(api: Api) -> None:
    """Localhost is the same machine; links name the host that was asked."""
    port = api.box.origin.rsplit(":", 1)[1]
    answer = api.call("GET", "/opportunities/1", headers={"Host": f"localhost:{port}"})
    assert answer.json()["data"]["links"]["self"] == f"http://localhost:{port}/api/v2/opportunities/1"


def test_other_origins__are_never_allowed(api: Api) -> None:
    """No CORS header, also not for a preflight."""
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PATCH"}
    for method in ("GET", "OPTIONS"):
        answer = api.call(method, "/opportunities/1", headers=headers)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_fault_of_the_sandbox__is_a_500_without_details(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What broke stands in the log, not in the answer."""
    from opp_pandas.sandbox_server.store import Store

    def break_down(*_: object) -> None:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr(Store, "get", break_down)
    answer = api.call("GET", "/opportunities/1")
    assert answer.status_code == 500
    assert answer.json()["errors"][0]["id"] == "internalServerError"
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text
    assert api.box.token not in caplog.text


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer x", "Basic x", "{token}", "Bearer {token}x", "Bearer {upper}", "Bearer ä"],
)
def test_token__must_be_exactly_right(api: Api, header: str | None) -> None:
    """Anything else gets the gateway's 401, which is not JSON:API."""
    made = None if header is None else header.format(token=api.box.token, upper=api.box.token.swapcase())
    for method in ("GET", "POST", "PATCH", "DELETE"):
        answer = requests.request(
            method,
            f"{api.box.url}/opportunities/1",
            headers={} if made is None else {"Authorization": made.encode()},
            timeout=60,
        )
        assert answer.status_code == 401
        assert answer.json().keys() == {"error", "description"}
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert api.get("/opportunities/1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com", "", "127.0.0.1 "])  # noqa: S104 - refused
def test_host__beyond_this_machine_is_refused(host: str) -> None:
    """Only loopback addresses are listened on."""
    with pytest.raises(ConfigurationError, match="not a loopback address"):
        sandbox(opportunities=0, host=host)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
def test_host__may_be_any_loopback_address(host: str) -> None:
    """localhost, other 127 addresses and IPv6 work."""
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    with sandbox(opportunities=1, host=host) as box:
        answer = requests.get(
            f"{box.url}/opportunities/1", headers={"Authorization": f"Bearer {box.token}"}, timeout=60
        )
        assert answer.json()["data"]["links"]["self"] == f"{box.url}/opportunities/1"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_port__in_use_is_a_clear_error() -> None:
    """The error names the address and what to do; the first sandbox is unharmed."""
    with sandbox(opportunities=0) as first:
        port = int(first.origin.rsplit(":", 1)[1])
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}.*port=0"):
            sandbox(opportunities=0, port=port)
        assert requests.get(f"{first.url}/openapi.json", timeout=60).ok


@pytest.mark.parametrize("port", [-1, 65_536, True, "80", 1.5])
def test_port__that_is_none_is_refused(port: object) -> None:
    """A port is a number from 0 to 65535."""
    with pytest.raises(ConfigurationError, match="is not a port"):
        sandbox(opportunities=0, port=port)  # type: ignore[arg-type]


def _raw(box: Sandbox, sent: bytes) -> bytes:
    host, port = box.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"POST /api/v2/opportunities HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"POST /api/v2/opportunities HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /api/v2/opportunities HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET /api/v2/opportunities HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /api/v2/opportunities HTTP/1.0\r\n\r\n", b"400"),
    ],
)
def test_broken_http__is_answered_in_the_apis_shape(api: Api, sent: bytes, status: bytes) -> None:
    """What is not a proper request gets an error document too, and the server lives on."""
    answer = _raw(api.box, sent)
    assert answer.split(b" ", 2)[1] == status
    assert b'"errors"' in answer
    assert api.get("/opportunities/1")


def test_connection__is_kept_alive_and_bodies_are_read_even_when_unused(api: Api) -> None:
    """Several requests go over one connection, also after one whose body nobody wanted."""
    connection = http.client.HTTPConnection(api.box.origin.removeprefix("http://"), timeout=60)
    connection.connect()
    first = connection.sock
    for number in range(3):
        connection.request(
            "POST", "/api/v2/nothing", body=b'{"a": 1}' * 1_000, headers={"Authorization": "Bearer wrong"}
        )
        answer = connection.getresponse()
        assert answer.status == 401, number
        answer.read()
        connection.request("POST", "/api/v2/opportunities", body=iter([b"{", b"}"]), encode_chunked=True)
        assert connection.getresponse().read()
        assert connection.sock is first
    connection.close()
