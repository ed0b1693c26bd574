"""Signing in through the browser, and tokens that renew themselves once for everybody."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

import opp_pandas as opp
from opp_pandas import errors
from opp_pandas.api.auth.oauth import READING_SCOPES, SignIn, login
from opp_pandas.api.auth.secret import Secret
from opp_pandas.api.auth.token_endpoint import request_tokens
from opp_pandas.api.auth.token_store import StoredSignIn, TokenStore
from opp_pandas.api.transport.retry import Clock
from rawserver import NOW, FakeClock, RawServer, Step, hang, raw, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRETS = ("client-secret-1", "access-token-1", "refresh-token-1", "access-token-2", "refresh-token-2")


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sign-in"


def stored(server: RawServer, folder: Path, **changes: Any) -> TokenStore:
    """Store a sign-in that ended an hour ago."""
    store = TokenStore(server.url, folder)
    sign_in = StoredSignIn(
        token_url=f"{server.origin}/oauth/token",
        client_id="app",
        client_secret=Secret("client-secret-1"),
        access=Secret("access-token-1"),
        refresh=Secret("refresh-token-1"),
        redirect_uri="http://127.0.0.1:8917/callback",
        expires_at=NOW - 3_600,
        minted_at=NOW - 10_800,
    )
    store.write(replace(sign_in, **changes))
    return store


def minted(number: int = 2, **members: Any) -> Step:
    body = {
        "access_token": f"access-token-{number}",
        "token_type": "Bearer",
        "expires_in": 7200,
        "refresh_token": f"refresh-token-{number}",
        "scope": "opportunities.all",
        "created_at": int(NOW),
    }
    return reply(200, {name: value for name, value in (body | members).items() if value is not None})


def clock_at(now: float) -> Clock:
    return Clock(now=lambda: now)


# --- renewing ----------------------------------------------------------------


def test_token__is_used_while_it_lasts(server: RawServer, folder: Path) -> None:
    """A token with more than two minutes left is used as it is."""
    store = stored(server, folder, expires_at=NOW + 121)
    assert SignIn(store, clock=FakeClock()).token() == Secret("access-token-1")
    assert server.requests == []


def test_token__is_renewed_two_minutes_ahead(server: RawServer, folder: Path) -> None:
    """The form has what the service documents; the new pair is stored."""
    store = stored(server, folder, expires_at=NOW + 119)
    server.script(minted())
    sign_in = SignIn(store, clock=FakeClock())
    assert sign_in.token() == Secret("access-token-2")
    form = {name: values[0] for name, values in parse_qs(server.requests[0].body.decode()).items()}
    assert form == {
        "grant_type": "refresh_token",
        "refresh_token": "refresh-token-1",
        "client_id": "app",
        "client_secret": "client-secret-1",
        "redirect_uri": "http://127.0.0.1:8917/callback",
    }
    assert "authorization" not in server.requests[0].headers
    kept = store.read()
    assert kept is not None
    assert (kept.access, kept.refresh, kept.expires_at) == (
        Secret("access-token-2"),
        Secret("refresh-token-2"),
        NOW + 7_200,
    )
    assert sign_in.scope == "opportunities.all"
    assert sign_in.token() == Secret("access-token-2")
    assert len(server.requests) == 1


def test_token__is_stored_before_it_is_used(server: RawServer, folder: Path) -> None:
    """When the first request with the new token arrives, the new renewing token is on disk already."""
    store = stored(server, folder)
    seen: list[Any] = []

    def step(connection: socket.socket, request: Any) -> bool:
        seen.append((request.headers["authorization"], store.read()))
        return reply(200, {"data": {"type": "opportunity", "id": 1}})(connection, request)

    server.script(minted(), step)
    opp.connect(server.url, auth=SignIn(store, clock=FakeClock())).get(1)
    ((header, kept),) = seen
    assert header == "Bearer access-token-2"
    assert kept.refresh == Secret("refresh-token-2")


def test_token__cannot_be_stored_is_not_used(server: RawServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new pair cannot be written, the error comes before the token is given out."""
    store = stored(server, folder)
    server.script(minted())

    def full(self: TokenStore, sign_in: StoredSignIn) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TokenStore, "write", full)
    with pytest.raises(OSError, match="No space left"):
        SignIn(store, clock=FakeClock()).token()


def test_renew__keeps_the_old_renewing_token_where_no_new_one_comes(server: RawServer, folder: Path) -> None:
    """RFC 6749 lets a service leave it out: then the old one stays good."""
    store = stored(server, folder)
    server.script(minted(refresh_token=None, expires_in=True, scope=None))
    SignIn(store, clock=FakeClock()).token()
    kept = store.read()
    assert kept is not None
    assert (kept.refresh, kept.expires_at) == (Secret("refresh-token-1"), NOW + 7_200)


def test_renew__takes_what_another_program_stored(server: RawServer, folder: Path) -> None:
    """A token that another program renewed meanwhile is taken from the file, without a request."""
    store = stored(server, folder, expires_at=NOW + 3_600)
    sign_in = SignIn(store, clock=FakeClock())
    assert sign_in.token() == Secret("access-token-1")
    stored(server, folder, access=Secret("access-token-9"), expires_at=NOW + 7_200)
    assert sign_in.renew(Secret("access-token-1")) == Secret("access-token-9")
    assert server.requests == []


def test_renew__within_the_minute_is_refused(server: RawServer, folder: Path) -> None:
    """The service gives one token a minute, so no second one is asked for."""
    store = stored(server, folder, minted_at=NOW - 20, expires_at=NOW + 7_000)
    sign_in = SignIn(store, clock=FakeClock())
    with pytest.raises(errors.AuthenticationError, match="one a minute; try again at") as caught:
        sign_in.renew(Secret("access-token-1"))
    assert caught.value.retry_after_s == pytest.approx(40)
    assert server.requests == []


def test_token__that_lives_shorter_than_two_minutes_is_used_to_its_end(server: RawServer, folder: Path) -> None:
    """A short life must not make a request for every call."""
    store = stored(server, folder, minted_at=NOW - 20, expires_at=NOW + 40)
    assert SignIn(store, clock=FakeClock()).token() == Secret("access-token-1")
    assert server.requests == []


FAILURES: dict[str, tuple[Step, type[Exception], str]] = {
    "ended": (
        reply(400, {"error": "invalid_grant", "error_description": "refresh-token-1 was revoked."}),
        errors.AuthenticationError,
        r"invalid_grant: \*\*\* was revoked.*sign in again with `opp-pandas login`",
    ),
    "unknown app": (reply(401, {"error": "invalid_client"}), errors.AuthenticationError, "invalid_client"),
    "forbidden": (reply(403), errors.AuthenticationError, "sign in again"),
    "too many": (
        reply(429, {"error": "slow_down"}, Retry_After="30"),
        errors.RateLimitError,
        "one token a minute.*try again at",
    ),
    "broken": (reply(500, b"<html>"), errors.ResponseError, "status 500"),
    "redirect": (reply(302, b"", Location="https://evil.example/"), errors.ResponseError, "status 302"),
    "no answer": (raw(b""), errors.NoResponseError, "no whole answer"),
    "cut": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), errors.NoResponseError, "no whole answer"),
    "html": (reply(200, b"<html>"), errors.DocumentError, "not a JSON object"),
    "list": (reply(200, []), errors.DocumentError, "not a JSON object"),
    "no access token": (minted(access_token=None), errors.DocumentError, "holds no access_token"),
    "access token of a number": (minted(access_token=5), errors.DocumentError, "holds no access_token"),
    "access token with a line break": (minted(access_token="a\nb"), errors.DocumentError, "holds no access_token"),
    "a megabyte": (reply(200, b" " * 2**21), errors.NoResponseError, "no whole answer"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_renew__that_fails_says_why_and_shows_nothing(
    server: RawServer, folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason, what to do, the stored sign-in untouched, no secret in any text, repeated where that helps."""
    caplog.set_level(logging.DEBUG)
    step, kind, words = FAILURES[name]
    store = stored(server, folder)
    before = store.read()
    attempts = 5 if name in ("broken", "no answer", "cut") else 1
    server.script(*[step] * attempts, minted())
    with pytest.raises(kind, match=words) as caught:
        SignIn(store, clock=FakeClock()).token()
    assert len(server.requests) == attempts
    assert store.read() == before
    inner = caught.value.__traceback__.tb_next if caught.value.__traceback__ else None
    chain = traceback.TracebackException(type(caught.value), caught.value, inner, capture_locals=True)
    text = "".join(chain.format()) + caplog.text + repr(vars(caught.value))
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("step", [reply(502), reply(500, b"<html>"), reply(503, Retry_After="2"), raw(b"")])
def test_renew__outlives_a_single_failure(server: RawServer, folder: Path, step: Step) -> None:
    """One bad answer of the token endpoint does not end a night job."""
    server.script(step, minted())
    assert SignIn(stored(server, folder), clock=FakeClock()).token() == Secret("access-token-2")
    assert len(server.requests) == 2


def test_token_endpoint__on_this_machine_is_asked_without_a_proxy(
    server: RawServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewing token and app secret would pass a proxy in clear."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.script(minted())
    assert SignIn(stored(server, folder), clock=FakeClock()).token() == Secret("access-token-2")


def test_renew__obeys_a_time_limit(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token endpoint that stays silent ends in an error."""
    monkeypatch.setattr("opp_pandas.api.auth.token_endpoint.TIMEOUT_S", 0.2)
    server.script(hang())
    with pytest.raises(errors.NoResponseError, match="no whole answer"):
        request_tokens(f"{server.origin}/oauth/token", {"grant_type": "x"})


def test_token_endpoint__must_be_https() -> None:
    """Secrets go to an https address or to this machine."""
    with pytest.raises(errors.ConfigurationError, match="must begin with https"):
        request_tokens("http://evil.example/oauth/token", {"client_secret": Secret("client-secret-1")})


def test_eight_threads__make_one_token(server: RawServer, folder: Path) -> None:
    """Eight threads on an ended token: one request to the token endpoint, one token for all."""
    store = stored(server, folder)
    server.script(minted(), *[reply(400, {"error": "invalid_grant"})] * 8)
    sign_in = SignIn(store, clock=FakeClock())
    gate = threading.Barrier(8, timeout=60)
    found: list[Secret] = []

    def work() -> None:
        gate.wait()
        found.append(sign_in.token())

    run([threading.Thread(target=work) for _ in range(8)])
    assert found == [Secret("access-token-2")] * 8
    assert len(server.requests) == 1


def test_eight_threads__refused_at_once_make_one_token(server: RawServer, folder: Path) -> None:
    """Eight 401s for the same token lead to one renewal."""
    store = stored(server, folder, expires_at=NOW + 3_600)
    server.script(minted(), *[reply(400, {"error": "invalid_grant"})] * 8)
    sign_in = SignIn(store, clock=FakeClock())
    used = sign_in.token()
    gate = threading.Barrier(8, timeout=60)
    found: list[Secret] = []

    def work() -> None:
        gate.wait()
        found.append(sign_in.renew(used))

    run([threading.Thread(target=work) for _ in range(8)])
    assert found == [Secret("access-token-2")] * 8
    assert len(server.requests) == 1


def run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


PROGRAM = """
import sys, threading
from pathlib import Path
from opp_pandas.api.auth.oauth import SignIn
from opp_pandas.api.auth.token_store import TokenStore
from opp_pandas.api.transport.retry import Clock
sign_in = SignIn(TokenStore(sys.argv[1], Path(sys.argv[2])), clock=Clock(now=lambda: float(sys.argv[3])))
print("ready", flush=True)
sys.stdin.readline()
found = []
threads = [threading.Thread(target=lambda: found.append(sign_in.token().reveal())) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*sorted(set(found)), len(found), flush=True)
"""


def test_two_programs__make_one_token(server: RawServer, folder: Path) -> None:
    """Two programs with four threads each: one request, and both use the token that is stored."""
    stored(server, folder)
    server.script(minted(), *[reply(400, {"error": "invalid_grant"})] * 8)
    command = [sys.executable, "-c", PROGRAM, server.url, str(folder), str(NOW)]
    root = str(Path(opp.__file__).parents[1])
    programs = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
        )
        for _ in range(2)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    assert [program.communicate(timeout=60)[0] for program in programs] == ["access-token-2 4\n"] * 2
    assert len(server.requests) == 1


def test_sign_in__is_found_by_connect(server: RawServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without token and variable, `connect` uses the sign-in stored for this very address."""
    monkeypatch.delenv("OPP_PANDAS_TOKEN", raising=False)
    monkeypatch.setenv("OPP_PANDAS_SIGN_IN_FOLDER", str(folder))
    stored(server, folder, expires_at=4e9)
    server.script(reply(200, {"data": {"type": "opportunity", "id": 1}}))
    opp.connect(server.url).get(1)
    assert server.requests[0].headers["authorization"] == "Bearer access-token-1"
    with pytest.raises(
        errors.ConfigurationError, match=r"no token for https://api\.outreach\.io/api/v2: .*opp-pandas login"
    ):
        opp.connect("https://api.outreach.io/api/v2")


def test_sign_in__that_is_gone_says_so(server: RawServer, folder: Path) -> None:
    """A file that was deleted meanwhile is an error that names the command."""
    with pytest.raises(errors.ConfigurationError, match=r"no sign-in for .*`opp-pandas login`"):
        SignIn(TokenStore(server.url, folder)).token()


def test_sign_in__is_not_pickled(server: RawServer, folder: Path) -> None:
    """A sign-in that holds a token does not go into a file by accident."""
    sign_in = SignIn(stored(server, folder, expires_at=NOW + 3_600), clock=FakeClock())
    sign_in.token()
    with pytest.raises(TypeError):
        pickle.dumps(sign_in)
    assert not [secret for secret in SECRETS if secret in repr(sign_in) + str(vars(sign_in))]


# --- signing in --------------------------------------------------------------


@pytest.fixture
def redirect_uri() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/callback"


class Browser:
    """Opens what it is shown in a thread, as a browser would."""

    def __init__(self, visit: Callable[[str], Any] = requests.get) -> None:
        self.visit, self.answers, self.pages = visit, [], []  # type: ignore[var-annotated]
        self._threads: list[threading.Thread] = []

    def __call__(self, page: str) -> bool:
        """Visit a page and go on."""
        self.pages.append(page)
        thread = threading.Thread(target=lambda: self.answers.append(self.visit(page)))
        self._threads.append(thread)
        thread.start()
        return True

    def close(self) -> list[Any]:
        """Wait for the visits to end and give their answers."""
        for thread in self._threads:
            thread.join(60)
        return self.answers


def sign_in_at(box: Any, folder: Path, redirect_uri: str, **options: Any) -> SignIn:
    facts = {"client_id": box.client_id, "client_secret": box.client_secret, "timeout_s": 10, **options}
    return login(box.url, store=TokenStore(box.url, folder), redirect_uri=redirect_uri, **facts)


def test_login__signs_in_against_the_sandbox(folder: Path, redirect_uri: str) -> None:
    """Browser, redirect, code, tokens, file, client: the whole way, and the sandbox accepts the result."""
    with opp.sandbox(opportunities=3) as box:
        browser = Browser()
        sign_in = sign_in_at(box, folder, redirect_uri, scopes=READING_SCOPES, show=browser)
        (answer,) = browser.close()
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
        assert "code=" not in answer.text
        assert set(sign_in.scope.split()) == set(READING_SCOPES)
        client = opp.connect(box.url, auth=sign_in)
        assert client.get(1).data["id"] == 1
        with pytest.raises(errors.AccessDeniedError):
            client.update(1, {"name": "x"})


def test_login__tokens_renew_against_the_sandbox(folder: Path, redirect_uri: str) -> None:
    """A token that ended is renewed with rotation, twice, and the old renewing token is dead."""
    with opp.sandbox(opportunities=3) as box:
        box.switches.keep_old_refresh_tokens = False
        sign_in_at(box, folder, redirect_uri, show=Browser())
        store = TokenStore(box.url, folder)
        first = store.read()
        assert first is not None
        for hours in (3, 6):
            later = clock_at(first.minted_at + hours * 3_600)
            assert opp.connect(box.url, auth=SignIn(store, clock=later)).get(1).status == 200
        last = store.read()
        assert last is not None
        assert last.refresh != first.refresh
        store.write(first)
        with pytest.raises(errors.AuthenticationError, match=r"invalid_grant.*sign in again"):
            SignIn(store, clock=clock_at(first.minted_at + 9 * 3_600)).token()


def test_login__asks_with_state_and_scopes(folder: Path, redirect_uri: str) -> None:
    """The page has the documented parameters, and another state each time."""
    with opp.sandbox(opportunities=1) as box:
        browser = Browser()
        for _ in range(2):
            sign_in_at(box, folder, redirect_uri, show=browser)
            browser.close()
        first, second = (parse_qs(urlsplit(page).query) for page in browser.pages)
        assert first["response_type"] == ["code"]
        assert first["redirect_uri"] == [redirect_uri]
        assert "opportunities.all" in first["scope"][0].split()
        assert first["state"] != second["state"]
        assert len(first["state"][0]) >= 32
        assert box.client_secret not in browser.pages[0]


def test_login__with_a_pasted_address(folder: Path) -> None:
    """Where the browser runs on another machine, its last address is enough."""
    with opp.sandbox(opportunities=1) as box:
        shown: list[str] = []

        def ask(words: str) -> str:
            assert "address" in words
            return " " + requests.get(shown[0], allow_redirects=False, timeout=60).headers["Location"] + "\n"

        sign_in = sign_in_at(box, folder, "http://127.0.0.1:9/callback", show=shown.append, ask=ask)
        assert opp.connect(box.url, auth=sign_in).get(1).status == 200


def test_login__ignores_strays_and_waits_on(folder: Path, redirect_uri: str) -> None:
    """Requests with another path or state do not end the sign-in, and get no code accepted."""
    with opp.sandbox(opportunities=1) as box:
        strays: list[int] = []

        def visit(page: str) -> Any:
            paths = ("/favicon.ico", "/callback", "/callback?code=evil", "/callback?code=evil&state=wrong")
            strays.extend(
                requests.get(redirect_uri.replace("/callback", path), timeout=60).status_code for path in paths
            )
            return requests.get(page, timeout=60)

        browser = Browser(visit)
        assert sign_in_at(box, folder, redirect_uri, show=browser).token()
        browser.close()
        assert strays == [404, 400, 400, 400]


def test_login__refused_says_why(folder: Path, redirect_uri: str) -> None:
    """A scope that cannot be granted comes back as an error with the service's words."""
    with opp.sandbox(opportunities=1) as box:
        browser = Browser()
        with pytest.raises(errors.AuthenticationError, match="the sign-in was refused: invalid_scope"):
            sign_in_at(box, folder, redirect_uri, scopes=["opportunities.everything"], show=browser)
        assert browser.close()[0].status_code == 400
        assert not TokenStore(box.url, folder).exists()


def test_login__that_nobody_answers_ends(folder: Path, redirect_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without a browser the address is logged, and the wait ends."""
    with opp.sandbox(opportunities=1) as box:
        with pytest.raises(errors.ConfigurationError, match="did not come back within 0 s"):
            sign_in_at(box, folder, redirect_uri, show=lambda _: False, timeout_s=0.05)
        assert f"{box.origin}/oauth/authorize?" in caplog.text


@pytest.mark.parametrize("ends", [True, False])
def test_login__with_a_browser_that_blocks(folder: Path, redirect_uri: str, ends: bool) -> None:
    """A command such as curl or w3m, which comes back after the page has answered, or never."""
    closed = threading.Event()

    def browse(page: str) -> None:
        requests.get(page, timeout=20)
        if not ends:
            closed.wait(20)

    with opp.sandbox(opportunities=1) as box:
        assert sign_in_at(box, folder, redirect_uri, show=browse, timeout_s=20).token()
    assert not closed.is_set()
    closed.set()


def test_login__on_a_taken_port(folder: Path) -> None:
    """A port in use is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken, opp.sandbox(opportunities=1) as box:
        port = taken.getsockname()[1]
        with pytest.raises(errors.ConfigurationError, match=f"port {port} of this machine is taken"):
            sign_in_at(box, folder, f"http://127.0.0.1:{port}/callback", show=Browser())


@pytest.mark.parametrize("uri", ["https://example.com/cb", "http://example.com:80/cb", "http://127.0.0.1/cb", "x"])
def test_login__redirect_must_lead_here(folder: Path, uri: str) -> None:
    """Another redirect needs the pasted address, and the error says so."""
    with pytest.raises(errors.ConfigurationError, match="ask=input"):
        login("https://api.outreach.io/api/v2", client_id="a", client_secret="b", redirect_uri=uri, show=Browser())


def test_login__forged_pasted_address_is_refused(folder: Path) -> None:
    """An address with another state is from another sign-in."""
    with pytest.raises(errors.AuthenticationError, match="state differs"):
        login(
            "https://api.outreach.io/api/v2",
            client_id="a",
            client_secret="b",
            show=lambda _: None,
            ask=lambda _: "http://127.0.0.1:8917/callback?code=x&state=forged",
        )
