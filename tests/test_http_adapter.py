"""TLS, proxies and sessions from outside: what stands between the client and the service."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from opp_pandas import errors
from opp_pandas.api.client import connect
from opp_pandas.api.transport import http_adapter
from rawserver import FakeClock, RawServer, drip, hang, head, opportunity, raw, reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "canary-0123456789abcdef"
FINE = reply(200, {"data": opportunity(88)})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody signed but itself, with its key."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "raw server")])
    today = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[RawServer]:
    """A server behind that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with RawServer(tls=context) as started:
        yield started


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as started:
        yield started


def test_tls__that_cannot_be_verified_gets_no_token(secure: RawServer) -> None:
    """A certificate of an unknown authority ends it: once, before the token is sent, even for this machine."""
    secure.script(FINE)
    client = connect(secure.url, token=TOKEN, clock=FakeClock())
    with pytest.raises(
        errors.NoResponseError, match=r"certificate of .* could not be verified.*REQUESTS_CA_BUNDLE"
    ) as caught:
        client.update(88, {"name": "x"})
    assert caught.value.sent is False
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert secure.requests == []
    assert client.calls == 1


def test_tls__for_another_name_gets_no_token(
    secure: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right certificate for another name is refused."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure.script(FINE)
    with pytest.raises(errors.NoResponseError, match="could not be verified"):
        connect(secure.url.replace("127.0.0.1", "localhost"), token=TOKEN, clock=FakeClock()).get(88)
    assert secure.requests == []


def test_tls__of_an_own_authority_works(secure: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's CA bundle is obeyed, and so is a given session's."""
    secure.script(FINE, FINE)
    with requests.Session() as session:
        session.verify = str(certificate)
        assert connect(secure.url, token=TOKEN, session=session).get(88).status == 200
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert connect(secure.url, token=TOKEN).get(88).status == 200


@pytest.mark.parametrize(
    "step",
    [
        hang(),
        hang(head(200, {"Content-Length": "99"}) + b"{"),
        drip(head(200, {"Content-Length": "6000"}) + b" " * 6000, gap_s=0.01),
    ],
)
def test_tls__obeys_the_deadline(
    secure: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch, step: Any
) -> None:
    """Stalls and drips behind TLS end in time as well."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure.script(step)
    started = time.monotonic()
    with pytest.raises(errors.NoResponseError, match="in time"):
        connect(secure.url, token=TOKEN, deadline_s=0.4).get(88)
    assert time.monotonic() - started < 30  # the server says nothing for 60 s


def test_tls__with_a_server_that_speaks_none(server: RawServer) -> None:
    """A plain server behind an https address is an error, and gets no token."""
    client = connect(server.url.replace("http:", "https:"), token=TOKEN, connect_timeout_s=0.1, deadline_s=0.2)
    with pytest.raises(errors.NoResponseError):
        client.get(88)
    assert server.requests == []


def test_proxy__of_the_environment_is_used_and_gets_no_token(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An https service is reached through the proxy's tunnel; the proxy sees the name only."""
    monkeypatch.setenv("HTTPS_PROXY", server.origin)
    server.script(*[reply(502)] * 5)
    client = connect("https://does-not-exist.invalid/api/v2", token=TOKEN, clock=FakeClock())
    with pytest.raises(
        errors.NoResponseError, match=r"the proxy on the way to https://does-not-exist\.invalid"
    ) as caught:
        client.create({"name": "x"})
    assert caught.value.sent is False
    assert {request.method for request in server.requests} == {"CONNECT"}
    assert all("authorization" not in request.headers for request in server.requests)


def test_proxy__tunnel_to_a_service_works(
    server: RawServer, secure: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the tunnel everything is as without: TLS, token, timed reads."""
    import socket
    import threading

    def tunnel(connection: socket.socket, request: Any) -> bool:
        with socket.create_connection(("127.0.0.1", secure.port)) as onward:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

            def pump(source: socket.socket, sink: socket.socket) -> None:
                try:
                    while data := source.recv(65_536):
                        sink.sendall(data)
                    sink.shutdown(socket.SHUT_WR)
                except OSError:
                    return  # one side went away

            back = threading.Thread(target=pump, args=(onward, connection), daemon=True)
            back.start()
            pump(connection, onward)
            back.join(60)
        return False

    # 127.0.0.1 would be asked directly, so the session names its proxy itself.
    session = requests.Session()
    session.verify = str(certificate)
    session.proxies = {"https": server.origin}
    adapter = http_adapter.TimedAdapter()
    session.mount("https://", adapter)
    server.script(tunnel)
    secure.script(FINE)
    assert connect(secure.url, token=TOKEN, session=session).get(88).status == 200
    assert server.requests[0].method == "CONNECT"
    assert secure.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    session.close()


def test_proxy__is_not_asked_for_this_machine(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox is spoken to directly: a proxy would not find it, and would see the token in plain text."""
    for variable in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.script(FINE)
    assert connect(server.url, token=TOKEN, clock=FakeClock()).get(88).status == 200


def test_session_from_outside__obeys_the_deadline_per_piece(server: RawServer) -> None:
    """A session without the timed adapter is checked after each piece, and its single reads by the read time-out."""
    server.script(drip(head(200, {"Content-Length": "6000"}) + b" " * 6000, gap_s=0.01), *(hang() for _ in range(6)))
    with requests.Session() as session:
        client = connect(server.url, token=TOKEN, session=session, deadline_s=0.3, read_timeout_s=0.2)
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(errors.NoResponseError, match="in time"):
                client.get(88)
            assert time.monotonic() - started < 30  # the server says nothing for 60 s


def test_session_from_outside__meets_an_interim_answer(server: RawServer) -> None:
    """Without the timed adapter a 103 would be taken for the answer: then it is an error, not a result."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    server.script(raw(interim + head(200, {"Content-Length": "2"}) + b"{}"))
    with requests.Session() as session, pytest.raises(errors.ResponseError, match="status 103"):
        connect(server.url, token=TOKEN, session=session, clock=FakeClock()).get(88)


def test_session__keeps_no_cookies(server: RawServer) -> None:
    """The token is the only state: cookies are neither kept nor sent."""
    server.script(reply(200, {"data": opportunity(88)}, Set_Cookie="session=1; Path=/"), FINE)
    client = connect(server.url, token=TOKEN, clock=FakeClock())
    client.get(88)
    client.get(88)
    assert "cookie" not in server.requests[1].headers


def test_socks__proxies_keep_their_own_pools() -> None:
    """The adapter leaves SOCKS pools as they are; without the extra package requests says what is missing."""
    with pytest.raises(requests.exceptions.InvalidSchema, match="SOCKS"):
        http_adapter.TimedAdapter().proxy_manager_for("socks5://127.0.0.1:1")
