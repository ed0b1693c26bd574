"""Signing in as a user: OAuth 2.0 authorization code, and tokens that renew themselves.

The service gives one access token a minute, and every renewal replaces the
renewing token too. So one program renews at a time (under a lock in the program
and a lock between programs), and the new pair is on disk before it is used:
promise R23.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import logging
import os
import secrets
import threading
import time
import webbrowser
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from opp_pandas.api import documents
from opp_pandas.api.auth.secret import Secret
from opp_pandas.api.auth.token_endpoint import MINT_INTERVAL_S, request_tokens
from opp_pandas.api.auth.token_store import StoredSignIn, TokenStore
from opp_pandas.api.transport import retry
from opp_pandas.api.transport.base_url import is_loopback, parse_origin
from opp_pandas.api.transport.retry import Clock
from opp_pandas.errors import (
    AuthenticationError,
    ConfigurationError,
    DocumentError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

logger = logging.getLogger("opp_pandas.api")

REDIRECT_URI = "http://127.0.0.1:8917/callback"
SCOPES = (
    "opportunities.all",
    "opportunityStages.read",
    "opportunityProspectRoles.all",
    "accounts.read",
    "users.read",
    "prospects.read",
)
READING_SCOPES = (
    "opportunities.read",
    "opportunityStages.read",
    "opportunityProspectRoles.read",
    "accounts.read",
    "users.read",
    "prospects.read",
)
RENEW_AHEAD_S = 120.0
LIFE_S = 7_200.0


class SignIn:
    """Tokens of a stored sign-in, renewed two minutes before they end.

    Safe for several threads and several programs: one of them renews, the
    others take what it stored.
    """

    def __init__(self, store: TokenStore, *, clock: Clock | None = None) -> None:
        self._store, self._clock = store, clock or Clock()
        self._lock = threading.Lock()
        self._held: StoredSignIn | None = None

    def __repr__(self) -> str:
        return f"SignIn({self._store.url!r})"

    @property
    def scope(self) -> str:
        """What was granted, as the service said it."""
        with self._lock:
            return self._current().scope

    def token(self) -> Secret:
        """Return an access token that lasts for two minutes at least, where the service allows."""
        with self._lock:
            held = self._current()
            if not self._ends_soon(held):
                return held.access
            return self._renewed(held.access, refused=False)

    def renew(self, used: Secret) -> Secret:
        """Return a newer token than `used`, which the service refused."""
        with self._lock:
            held = self._current()
            return held.access if held.access != used else self._renewed(used, refused=True)

    def _current(self) -> StoredSignIn:
        if self._held is None:
            self._held = self._store.read()
        if self._held is None:
            raise ConfigurationError(f"there is no sign-in for {self._store.url}; sign in with `opp-pandas login`")
        return self._held

    def _ends_soon(self, sign_in: StoredSignIn) -> bool:
        return self._clock.now() > sign_in.expires_at - RENEW_AHEAD_S

    def _renewed(self, used: Secret, *, refused: bool) -> Secret:
        with self._store.lock():
            # Another program may have renewed while this one waited for the lock.
            held = self._held = self._store.read() or self._current()
            if held.access != used and not self._ends_soon(held):
                return held.access
            age_s = self._clock.now() - held.minted_at
            if 0 <= age_s < MINT_INTERVAL_S:
                return self._too_young(held, MINT_INTERVAL_S - age_s, refused)
            answer = request_tokens(
                held.token_url,
                {
                    "grant_type": "refresh_token",
                    "refresh_token": held.refresh,
                    "client_id": held.client_id,
                    "client_secret": held.client_secret,
                    "redirect_uri": held.redirect_uri,
                },
                self._clock,
            )
            renewed = replace(held, **_members(answer, self._clock.now(), held.refresh))
            # On disk before the first use: a crash in between must not lose the only valid renewing token.
            self._store.write(renewed)
            self._held = renewed
            return renewed.access

    def _too_young(self, held: StoredSignIn, wait_s: float, refused: bool) -> Secret:
        """Answer for a token made within the minute: the service would give no other one yet."""
        if not refused and self._clock.now() < held.expires_at:
            return held.access
        at = retry.clock_time(wait_s, self._clock.now())
        raise AuthenticationError(
            f"the service refuses a token that it made less than a minute ago, and it gives one a minute; "
            f"try again at {at}, or sign in again with `opp-pandas login`",
            status=401,
            retry_after_s=wait_s,
        )


def login(
    url: str,
    *,
    client_id: str,
    client_secret: str | Secret,
    scopes: Iterable[str] = SCOPES,
    redirect_uri: str = REDIRECT_URI,
    authorize_url: str | None = None,
    token_url: str | None = None,
    store: TokenStore | None = None,
    show: Callable[[str], object] = webbrowser.open,
    ask: Callable[[str], str] | None = None,
    timeout_s: float = 300,
    clock: Clock | None = None,
) -> SignIn:
    """Sign in through the browser and store the sign-in for later.

    The browser comes back to `redirect_uri` on this machine, where this
    function waits for it. Where the browser runs elsewhere, `ask` gets the
    address that it ended at from the user.

    Parameters
    ----------
    url : str
        Base URL of the API.
    client_id : str
        The app's id.
    client_secret : str or Secret
        The app's secret.
    scopes : iterable of str
        What to ask for; they do not add up (``write`` does not give ``read``).
    redirect_uri : str
        As registered with the app, to the letter.
    authorize_url, token_url : str, optional
        Left out: ``/oauth/authorize`` and ``/oauth/token`` at the API's origin.
    store : TokenStore, optional
        Where to keep the sign-in. Left out: the user's own folder.
    show : callable
        Opens the address of the sign-in page; `webbrowser.open` by default.
    ask : callable, optional
        Called with a sentence; gives the address the browser ended at.
    timeout_s : float, default 300
        How long to wait for the browser [s].
    clock : Clock, optional
        Whose time counts.

    Returns
    -------
    SignIn
        To be passed as ``auth=``; `connect` finds it by itself from now on.

    Raises
    ------
    ConfigurationError
        If an address cannot be used, or the browser did not come back in time.
    AuthenticationError
        If the sign-in was refused.

    Examples
    --------
    >>> from threading import Thread
    >>> import requests
    >>> from opp_pandas.api.auth.token_store import TokenStore
    >>> def browser(page):  # in real life a person clicks "Allow" there
    ...     Thread(target=requests.get, args=[page]).start()
    >>> signed_in = opp.login(
    ...     box.url,
    ...     client_id=box.client_id,
    ...     client_secret=box.client_secret,
    ...     show=browser,
    ...     store=TokenStore(box.url, "sign-in"),
    ... )
    >>> opp.connect(box.url, auth=signed_in).get(1).status
    200
    """
    origin = parse_origin(url)
    secret = Secret(client_secret, name="client secret")
    clock = clock or Clock()
    token_url = f"{origin.root}/oauth/token" if token_url is None else token_url
    authorize_url = f"{origin.root}/oauth/authorize" if authorize_url is None else authorize_url
    for address, what in ((token_url, "token_url"), (authorize_url, "authorize_url")):
        parse_origin(address, what=what)
    state = secrets.token_urlsafe(32)
    # Proof Key for Code Exchange (RFC 7636): a stolen code is worth nothing without the verifier.
    verifier = Secret(secrets.token_urlsafe(48), name="code verifier")
    asked = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": " ".join(scopes),
        "state": state,
        "code_challenge": _challenge(verifier),
        "code_challenge_method": "S256",
    }
    page = f"{authorize_url}?{urlencode(asked)}"
    if ask is not None:
        show(page)
        code = _code_of(urlsplit(ask("the address that the browser ended at: ").strip()).query, state)
        if code is None:
            raise AuthenticationError("that address is from another sign-in (its state differs); try again", status=400)
    else:
        code = _wait_for_browser(page, redirect_uri, state, show, timeout_s)
    answer = request_tokens(
        token_url,
        {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "client_id": client_id,
            "client_secret": secret,
            "redirect_uri": redirect_uri,
        },
        clock,
    )
    members = _members(answer, clock.now(), None)
    store = store or TokenStore(url)
    with store.lock():
        store.write(StoredSignIn(token_url, client_id, secret, redirect_uri=redirect_uri, **members))
    return SignIn(store, clock=clock)


def _challenge(verifier: Secret) -> str:
    digest = hashlib.sha256(verifier.reveal().encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _code_of(query: str, state: str) -> Secret | None:
    """Return the code of a redirect; None if its state does not prove that it answers this sign-in."""
    found = {name: values[0] for name, values in parse_qs(query).items()}
    if not secrets.compare_digest(found.get("state", "").encode(), state.encode()):
        return None
    if "code" not in found:
        words = documents.describe_errors(documents.error_objects(found)) or "no code was given"
        raise AuthenticationError(f"the sign-in was refused: {words}", status=400)
    return Secret(found["code"], name="code")


def _wait_for_browser(
    page: str, redirect_uri: str, state: str, show: Callable[[str], object], timeout_s: float
) -> Secret:
    target = urlsplit(redirect_uri)
    if target.scheme != "http" or not is_loopback(target.hostname or "") or target.port is None:
        raise ConfigurationError(
            f"redirect_uri must lead to this machine and name a port, such as {REDIRECT_URI}; "
            "for another one pass ask=input and paste the address that the browser ends at"
        )
    server = _listen(target.hostname or "", target.port, target.path, state)

    def open_browser() -> None:
        if show(page) is False:
            logger.warning("no browser could be opened here; open this address in one: %s", page)

    with server:
        # Some browsers end only with their window (w3m, BROWSER=curl), and then nobody would hear them come back.
        opening = threading.Thread(target=open_browser, name="opp_pandas browser", daemon=True)
        opening.start()
        until = time.monotonic() + timeout_s
        while server.code is None and time.monotonic() < until:
            server.timeout = min(retry.SLICE_S, timeout_s)
            server.handle_request()
    if isinstance(server.code, Exception):
        raise server.code
    if server.code is None:
        raise ConfigurationError(
            f"the browser did not come back within {timeout_s:.0f} s; is {redirect_uri} registered?"
        )
    return server.code


class _Listener(http.server.HTTPServer):
    """Waits on this machine for the one request with the right state."""

    # On POSIX this only skips the wait after an earlier sign-in; on Windows it would let others listen too.
    allow_reuse_address = os.name == "posix"
    code: Secret | Exception | None = None
    path = "/"
    state = ""


class _Answer(http.server.BaseHTTPRequestHandler):
    server: _Listener
    timeout = 5

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path != self.server.path:
            self._say(404, "Nothing here.")
            return
        try:
            self.server.code = _code_of(parts.query, self.server.state)
        except AuthenticationError as error:
            self.server.code = error
        # A stray request is answered like a refusal, and the wait for the right one goes on.
        if isinstance(self.server.code, Secret):
            self._say(200, "Signed in. You can close this page.")
        else:
            self._say(400, "The sign-in did not work; see the program that started it.")

    def _say(self, status: int, words: str) -> None:
        body = f"<!doctype html><meta charset=utf-8><title>opp_pandas</title><p>{words}</p>".encode()
        self.send_response(status)
        for name, value in (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        """Log nothing: the request line holds the code."""


def _listen(host: str, port: int, path: str, state: str) -> _Listener:
    try:
        server = _Listener((host, port), _Answer)
    except OSError as error:
        problem = f"port {port} of this machine is taken ({error.strerror}); end what uses it, or register another port"
    else:
        server.path, server.state = path or "/", state
        return server
    raise ConfigurationError(problem)


def _members(answer: Mapping[str, Any], now: float, refresh: Secret | None) -> dict[str, Any]:
    """Take access token, renewing token and times from an answer; a missing renewing token means the old one stays."""
    access, newer = answer.get("access_token"), answer.get("refresh_token") or refresh
    if not isinstance(access, Secret) or not isinstance(newer, Secret):
        raise DocumentError("the token endpoint's answer holds no access_token or refresh_token")
    life = answer.get("expires_in")
    life_s = float(life) if isinstance(life, int | float) and not isinstance(life, bool) and 0 < life < 1e9 else LIFE_S
    return {
        "access": access,
        "refresh": newer,
        "expires_at": now + life_s,
        "minted_at": now,
        "scope": answer["scope"] if isinstance(answer.get("scope"), str) else "",
    }
