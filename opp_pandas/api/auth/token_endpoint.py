"""The endpoint that gives tokens, reached by the same rules as the API: proxies, time limits, repetitions."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
import requests.auth
import urllib3.exceptions

from opp_pandas.api import documents
from opp_pandas.api.auth.secret import Secret
from opp_pandas.api.transport import http_adapter, retry
from opp_pandas.api.transport.base_url import parse_origin, redacted
from opp_pandas.api.transport.retry import Clock, Outcome
from opp_pandas.errors import (
    AuthenticationError,
    ConfigurationError,
    DocumentError,
    NoResponseError,
    RateLimitError,
    ResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MINT_INTERVAL_S = 60.0
TIMEOUT_S = 30.0
_LARGEST_ANSWER = 2**20
_TOKEN_MEMBERS = frozenset({"access_token", "refresh_token", "accessToken"})
_FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    http_adapter.CutShortError,
    http_adapter.TooLargeError,
)


def request_tokens(url: str, fields: Mapping[str, str | Secret], clock: Clock | None = None) -> dict[str, Any]:
    """Ask an endpoint (https, or this machine) for tokens by a form; return its answer, the tokens as `Secret`.

    AuthenticationError: the grant is no longer valid or the app is not known, so sign in
    again. RateLimitError: a token was made less than a minute ago.
    """
    hidden = [value for value in fields.values() if isinstance(value, Secret)]
    return read_token_answer(url, post(url, fields, clock=clock), hidden)


class _NoAuth(requests.auth.AuthBase):
    """Sends no Authorization header, whatever a netrc file says."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


@dataclass(frozen=True)
class TokenAnswer:
    """What a token endpoint answered, unread; it shows nothing of its body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def post(
    url: str,
    fields: Mapping[str, str | Secret] | None = None,
    *,
    auth: requests.auth.AuthBase | None = None,
    media_type: str = "",
    clock: Clock | None = None,
) -> TokenAnswer:
    """Send a POST to an endpoint that gives tokens, again where no usable answer came within 30 s.

    A repetition is harmless: had the lost request been carried out, the grant
    would be used up with or without it. Only 429 is never repeated, since the
    service gives one token a minute. Without `auth` no Authorization header is sent.
    """
    origin = parse_origin(url, what="the token endpoint")
    clock = clock or Clock()
    started, attempt = clock.monotonic(), 0
    while True:
        attempt += 1
        spent_s = clock.monotonic() - started
        answer, outcome, kind = _attempt(url, origin.host, fields, auth, media_type, max(0.05, TIMEOUT_S - spent_s))
        headers = {} if answer is None else answer.headers
        decision = retry.decide(
            "GET",  # as freely as reading
            outcome,
            attempt,
            hint_s=retry.hint_from_headers(outcome.status, headers.get("Retry-After"), None, clock.now()),
            spent_s=clock.monotonic() - started,
            told_s=0.0,
            deadline_s=TIMEOUT_S,
            max_wait_s=TIMEOUT_S,
            chance=clock.chance,
        )
        if decision.wait_s is None or outcome.status == 429:
            break
        retry.sleep_in_slices(decision.wait_s, clock)
    if answer is not None:
        return answer
    after = f" after {attempt} attempts" if attempt > 1 else ""
    raise NoResponseError(
        f"the token endpoint gave no whole answer ({kind}){after}; try again", method="POST", url=redacted(url)
    )


def _attempt(
    url: str,
    host: str,
    fields: Mapping[str, str | Secret] | None,
    auth: requests.auth.AuthBase | None,
    media_type: str,
    left_s: float,
) -> tuple[TokenAnswer | None, Outcome, str]:
    """Send the request once; give the answer or the name of what went wrong, never the exception: it holds secrets."""
    until = time.monotonic() + left_s
    headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
    if media_type:
        headers |= {"Content-Type": media_type, "Accept": media_type}
    try:
        with http_adapter.make_session() as session, http_adapter.time_limit(until, left_s):
            response = session.post(
                url,
                data=None if fields is None else {name: _revealed(value) for name, value in fields.items()},
                headers=headers,
                auth=auth or _NoAuth(),
                timeout=(min(5.0, left_s), left_s),
                proxies=http_adapter.proxies_for(host),
                allow_redirects=False,
                stream=True,
            )
            with response:
                body = http_adapter.read_body(response, until, _LARGEST_ANSWER)
                answer = TokenAnswer(response.status_code, response.headers, body)
                return answer, Outcome(response.status_code), ""
    except _FAILURES as error:
        return None, Outcome(final=isinstance(error, http_adapter.TooLargeError)), type(error).__name__


def _revealed(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value


def read_token_answer(url: str, answer: TokenAnswer, hidden: Iterable[Secret]) -> dict[str, Any]:
    """Read what a token endpoint answered, the tokens as `Secret`, or raise what it refused.

    What was sent (`hidden`) is not shown, should the endpoint repeat it.
    """
    place = redacted(url)
    try:
        value = _masked(documents.parse_json(answer.body), tuple(hidden))
    except DocumentError:
        value = None  # the status decides what to say
    status = answer.status
    if status in (200, 201):
        if isinstance(value, dict):
            return value
        raise DocumentError("the token endpoint's answer is not a JSON object", method="POST", url=place)
    words = documents.describe_errors(documents.error_objects(value))
    said = f" ({words})" if words else ""
    if status == 429:
        now = time.time()
        headers = answer.headers
        wait_s = retry.hint_from_headers(429, headers.get("Retry-After"), headers.get("X-RateLimit-Reset"), now)
        at = retry.clock_time(wait_s or MINT_INTERVAL_S, now)
        message = f"the service gives one token a minute{said}; try again at {at}"
        raise RateLimitError(message, status=status, retry_after_s=wait_s, method="POST", url=place)
    if status in (400, 401, 403):
        message = f"the sign-in has ended or was refused{said}; sign in again with `opp-pandas login`"
        raise AuthenticationError(message, status=status, method="POST", url=place)
    message = f"the token endpoint answered with status {status}{said}"
    raise ResponseError(message, status=status, method="POST", url=place)


def _masked(value: Any, hidden: tuple[Secret, ...]) -> Any:
    """Wrap the tokens of an answer and take out what was sent, so that no local variable shows either."""
    if isinstance(value, str):
        for secret in hidden:
            value = secret.scrub(value)
        return value
    if isinstance(value, list):
        return [_masked(member, hidden) for member in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _wrapped(member) if name in _TOKEN_MEMBERS else _masked(member, hidden) for name, member in value.items()
    }


def _wrapped(token: Any) -> Secret | None:
    """Return a token as `Secret`, or None if it is none."""
    try:
        return Secret(token)
    except ConfigurationError:
        return None
