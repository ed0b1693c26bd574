"""The ways to a token: OAuth 2.0 authorization code and refresh, and an app's own signed token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from werkzeug.wrappers import Request, Response

from opp_pandas.sandbox_server import errors
from opp_pandas.sandbox_server.access import ALL_SCOPES, SCOPES, Identity, Tokens
from opp_pandas.sandbox_server.apptokens import check_app_token
from opp_pandas.sandbox_server.webhooks import is_local

if TYPE_CHECKING:
    from opp_pandas.sandbox_server.instants import Clock
    from opp_pandas.sandbox_server.settings import Switches

# What the service gives to an app without a user: no stages, no prospect roles.
APP_SCOPES = frozenset({"opportunities.all", "accounts.all", "prospects.all", "users.read"})
_APP_TOKEN_LIFE = timedelta(hours=1)
_CODE_LIFE = timedelta(minutes=10)
_MOST_REFRESH_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Grant:
    """What a code or refresh token may be turned into, until when, for which redirect and with which proof."""

    scopes: frozenset[str]
    expires: datetime
    redirect_uri: str | None = None
    challenge: str | None = None


@dataclass(frozen=True, slots=True)
class InstalledApp:
    """An app that signs in without a user."""

    issuer: str
    key: Any


class _RefusalError(Exception):
    """A token request that is answered with an OAuth error (RFC 6749, section 5.2)."""

    def __init__(self, status: int, code: str, description: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.status, self.code, self.description, self.headers = status, code, description, dict(headers or {})


class SignIn:
    """The endpoints beside the API that give tokens; the switches set their lives, rotation and throttle."""

    def __init__(self, tokens: Tokens, switches: Switches, clock: Clock) -> None:
        self._tokens, self._switches, self._clock = tokens, switches, clock
        self._lock = threading.Lock()
        self._codes: dict[str, Grant] = {}
        self._refresh: dict[str, Grant] = {}
        self._apps: dict[int, InstalledApp] = {}
        self._last_mint: datetime | None = None
        self.client_id = "sandbox-app"
        self.client_secret = secrets.token_urlsafe(24)

    def issue_refresh_token(self, scopes: frozenset[str] = ALL_SCOPES) -> str:
        """Make a refresh token without a browser, for programs that are configured with one."""
        with self._lock:
            return self._new_refresh_token(scopes)

    def install_app(self, issuer: str, key: Any) -> int:
        """Let an app sign in with tokens of its own key; gives the id of the installation."""
        with self._lock:
            number = len(self._apps) + 1
            self._apps[number] = InstalledApp(issuer, key)
            return number

    def respond(self, request: Request) -> Response:
        """Answer a request outside the API's own path."""
        parts = request.path.strip("/").split("/")
        if parts == ["oauth", "authorize"]:
            _demand(request, "GET")
            return self._authorize(request)
        if parts == ["oauth", "token"]:
            _demand(request, "POST")
            return self._token(request)
        if parts[:3] == ["api", "app", "installs"] and parts[4:] == ["actions", "accessToken"]:
            _demand(request, "POST")
            return self._exchange(request, parts[3])
        raise errors.no_such_path()

    def _authorize(self, request: Request) -> Response:
        """Grant at once: the sandbox has one user, and no password to ask for."""
        asked = request.args
        target = urlsplit(asked.get("redirect_uri", ""))
        # Leading a browser anywhere else would make this an open redirect.
        if not is_local(target) or target.fragment:
            raise errors.bad_request("redirect_uri must be an http address of this machine.")
        if asked.get("client_id") != self.client_id:
            raise errors.bad_request("client_id is not known.")
        scopes = frozenset(asked.get("scope", "").split())
        if asked.get("response_type") != "code":
            answer = {"error": "unsupported_response_type"}
        elif not scopes or not scopes <= SCOPES:
            answer = {"error": "invalid_scope"}
        elif asked.get("code_challenge_method", "S256") != "S256":
            answer = {"error": "invalid_request"}
        else:
            code = secrets.token_urlsafe(24)
            with self._lock:
                self._codes[code] = Grant(
                    scopes, self._clock() + _CODE_LIFE, asked["redirect_uri"], asked.get("code_challenge")
                )
            answer = {"code": code}
        if "state" in asked:
            answer["state"] = asked["state"]
        query = "&".join(filter(None, (target.query, urlencode(answer))))
        response = Response(status=302, headers={"Cache-Control": "no-store"})
        response.headers["Location"] = target._replace(query=query).geturl()
        response.autocorrect_location_header = False
        return response

    def _token(self, request: Request) -> Response:
        # An old bearer in the Authorization header is ignored: published readers send one.
        try:
            with self._lock:
                return _plain(200, self._grant(_read_parameters(request)))
        except _RefusalError as refusal:
            body = {"error": refusal.code, "error_description": refusal.description}
            return _plain(refusal.status, body, refusal.headers)

    def _grant(self, given: Mapping[str, str]) -> dict[str, Any]:
        known = hmac.compare_digest(given.get("client_id", "").encode(), self.client_id.encode())
        if not (known & hmac.compare_digest(given.get("client_secret", "").encode(), self.client_secret.encode())):
            raise _RefusalError(401, "invalid_client", "Client authentication failed.")
        self._check_throttle()
        kind = given.get("grant_type")
        if kind == "authorization_code":
            grant = self._take(self._codes, given.get("code"))
            if grant.redirect_uri != given.get("redirect_uri"):
                raise _RefusalError(400, "invalid_grant", "redirect_uri is not the one the code was given for.")
            if grant.challenge is not None and not _proves(given.get("code_verifier", ""), grant.challenge):
                raise _RefusalError(400, "invalid_grant", "code_verifier does not fit the code_challenge.")
        elif kind == "refresh_token":
            grant = self._take(self._refresh, given.get("refresh_token"), self._switches.keep_old_refresh_tokens)
        else:
            raise _RefusalError(400, "unsupported_grant_type", "grant_type is authorization_code or refresh_token.")
        now = self._clock()
        self._last_mint = now
        life = self._switches.token_life_s
        return {
            "access_token": self._tokens.mint(Identity(grant.scopes, 1, now + timedelta(seconds=life))),
            "token_type": "Bearer",
            "expires_in": life,
            "refresh_token": self._new_refresh_token(grant.scopes),
            "scope": " ".join(sorted(grant.scopes)),
            "created_at": int(now.timestamp()),
        }

    def _check_throttle(self) -> None:
        interval = timedelta(seconds=self._switches.mint_interval_s)
        if self._last_mint is not None and self._clock() < self._last_mint + interval:
            left = (self._last_mint + interval - self._clock()).total_seconds()
            words = f"One access token is given per {self._switches.mint_interval_s} seconds."
            raise _RefusalError(429, "rate_limit_exceeded", words, {"Retry-After": str(max(1, round(left)))})

    def _take(self, grants: dict[str, Grant], key: str | None, keep: bool = False) -> Grant:
        grant = grants.get(key or "") if keep else grants.pop(key or "", None)
        if grant is None or grant.expires <= self._clock():
            raise _RefusalError(400, "invalid_grant", "The grant is invalid, expired, revoked or used already.")
        return grant

    def _new_refresh_token(self, scopes: frozenset[str]) -> str:
        token = secrets.token_urlsafe(32)
        self._refresh[token] = Grant(scopes, self._clock() + timedelta(seconds=self._switches.refresh_life_s))
        while len(self._refresh) > _MOST_REFRESH_TOKENS:
            del self._refresh[next(iter(self._refresh))]
        return token

    def _exchange(self, request: Request, number: str) -> Response:
        app = self._apps.get(int(number)) if number.isascii() and number.isdigit() and len(number) < 10 else None
        if app is None:
            raise errors.not_found("install", number[:20])
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise errors.bad_token("The Authorization header holds no bearer token.")
        wrong = check_app_token(token.strip(), app.key, app.issuer)
        if wrong is not None:
            raise errors.bad_token(wrong)
        access = self._tokens.mint(Identity(APP_SCOPES, None, self._clock() + _APP_TOKEN_LIFE))
        body = {"data": {"type": "install", "id": int(number), "meta": {"accessToken": access}}}
        return _plain(200, body, {"Content-Type": "application/vnd.api+json"})


def _proves(verifier: str, challenge: str) -> bool:
    """Whether a verifier is the one behind an S256 challenge (RFC 7636, section 4.6)."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(digest, challenge.encode())


def _demand(request: Request, method: str) -> None:
    if request.method != method:
        raise errors.wrong_method(request.method, [method])


def _plain(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    response = Response(json.dumps(body), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response


def _read_parameters(request: Request) -> dict[str, str]:
    """Read a form or a JSON body, whichever was sent."""
    if request.mimetype.endswith("json"):
        try:
            read = json.loads(request.get_data())
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            raise _RefusalError(400, "invalid_request", "The body is not a JSON object.")
        return {name: value for name, value in read.items() if isinstance(value, str)}
    return request.form.to_dict()
