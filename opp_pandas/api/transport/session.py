"""Requests to one service: sent, repeated where that is safe, bounded, and never elsewhere.

The decision whether and when to repeat is in `retry`, the exchange itself in
`http_adapter`, the place in `base_url`. This module joins them and turns what
went wrong into the errors of the package. Promises R1 to R5, S1 to S5.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import requests
import urllib3.exceptions

from opp_pandas import errors
from opp_pandas.api import documents
from opp_pandas.api.auth.bearer import BearerAuth
from opp_pandas.api.transport import error_responses, http_adapter, retry
from opp_pandas.api.transport.base_url import redacted
from opp_pandas.api.transport.retry import Clock, Decision, Outcome, RetryBudget
from opp_pandas.errors import (
    ConfigurationError,
    DocumentError,
    NoResponseError,
    OppPandasError,
    ResponseError,
    ServiceError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pandas as pd

    from opp_pandas.api.auth.bearer import Credentials
    from opp_pandas.api.auth.secret import Secret
    from opp_pandas.api.transport.base_url import Origin

logger = logging.getLogger("opp_pandas.api")

_Token = TypeVar("_Token")

LONG_WAIT_S = 5.0
_MAX_ERROR_BODY = 2**20
_WITH_BODY = frozenset({200, 201, 202})
_SUCCESS = _WITH_BODY | {204}
_NEVER_CONNECTED = (
    requests.ConnectTimeout,
    requests.exceptions.ProxyError,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
)
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, http_adapter.CutShortError)


@dataclass(frozen=True)
class Limits:
    """How long [s], how often and how much.

    The deadline is for one request with its repetitions, without waits that the service asked
    for, which `max_wait_s` bounds; bodies are bounded unpacked and on the wire [bytes], calls
    over the life of the transport.
    """

    connect_s: float = 5.0
    read_s: float = 30.0
    deadline_s: float = 60.0
    max_wait_s: float = 60.0
    attempts: int = retry.ATTEMPTS
    max_body: int = http_adapter.MAX_BODY
    max_raw: int = http_adapter.MAX_RAW
    max_calls: int | None = None

    def __post_init__(self) -> None:
        for name in ("connect_s", "read_s", "deadline_s"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value <= 86_400:
                raise ConfigurationError(f"{name} is a number of seconds above 0, at most a day, not {value!r}")
        if not _is_number(self.max_wait_s) or not 0 <= self.max_wait_s <= 86_400:
            raise ConfigurationError(f"max_wait_s is 0 to 86,400 seconds, not {self.max_wait_s!r}")
        if self.max_calls is not None and (isinstance(self.max_calls, bool) or not isinstance(self.max_calls, int)):
            raise ConfigurationError(f"max_calls is a whole number of requests or None, not {self.max_calls!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, eq=False)
class Received:
    """A successful answer, decompressed and without a byte order mark, and the URL that was asked in the end.

    Time with waits [s]; `date` is the service's clock [s since 1970].
    """

    status: int
    body: bytes = field(repr=False)
    url: str
    attempts: int
    elapsed_s: float
    request_id: str | None = None
    date: float | None = None

    @property
    def timestamp(self) -> pd.Timestamp | None:
        """The service's clock as an instant in UTC."""
        import pandas as pd

        return None if self.date is None else pd.Timestamp(self.date, unit="s", tz="UTC")


@dataclass(frozen=True)
class _Try:
    """What one attempt gave: an answer with a status, or the error that kept it from coming."""

    outcome: Outcome
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    failure: OppPandasError | None = None

    def header(self, name: str) -> str | None:
        return None if self.headers is None else self.headers.get(name)


class Transport:
    """Sends requests to one origin.

    Safe for several threads: each has a requests session of its own. A session
    given from outside is shared instead, one request at a time; its proxies, certificates and
    adapters are kept, and bound its reads. `on_wait` is called twice a second during waits with
    the seconds left; without it, waits above 5 s are announced by a warning in the log.
    """

    def __init__(
        self,
        origin: Origin,
        credentials: Credentials,
        limits: Limits | None = None,
        *,
        session: requests.Session | None = None,
        clock: Clock | None = None,
        on_wait: Callable[[float], None] | None = None,
    ) -> None:
        self.origin = origin
        self.limits = limits or Limits()
        self._credentials = credentials
        self._clock = clock or Clock()
        self._on_wait = on_wait
        self._given = session
        self._proxies = http_adapter.proxies_for(origin.host)
        self._own = threading.local()
        self._lock = threading.Lock()
        self._given_lock = threading.RLock()
        self._budget = RetryBudget()
        self._calls = 0
        self._remaining: int | None = None
        self._limit: int | None = None
        self._reset_at: float | None = None

    @property
    def calls(self) -> int:
        """Requests made so far, repetitions included."""
        return self._calls

    @property
    def scope(self) -> str | None:
        """What the service granted at sign-in; None for a token that says nothing of it."""
        return getattr(self._credentials, "scope", None)

    @property
    def calls_left(self) -> int | None:
        """Requests that ``max_calls`` still allows; None without a limit."""
        return None if self.limits.max_calls is None else max(0, self.limits.max_calls - self._calls)

    def close(self) -> None:
        """Close this thread's connections; they open again when needed."""
        session = getattr(self._own, "session", None)
        if session is not None:
            session.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        check: Callable[[bytes], None] | None = None,
        shrink: Callable[[str], str] | None = None,
    ) -> Received:
        """Send one request, its URL checked before anything else, and return its successful answer.

        `check` gets the body of such an answer and may raise `DocumentError`; a body cut short counts
        as a broken connection: a GET is sent again. `shrink` makes the URL of a smaller answer when
        the service fails at this one. Errors name the request and never hold a token.
        """
        url = self.origin.admit(url)
        started = self._clock.monotonic()
        told_s = self._pace()
        paid = attempt = 0
        token = _asked_for(self._credentials.token)
        renewed = False
        while True:
            if attempt:
                retry.check_called_off()
            attempt += 1
            self._count_call(method, url)
            spent_s = self._clock.monotonic() - started - told_s
            tried = self._attempt(method, url, body, token, max(0.05, self.limits.deadline_s - spent_s), check)
            self._note_limits(tried)
            elapsed_s = self._clock.monotonic() - started
            logger.debug("%s %s: %s (attempt %d, %.3f s)", method, redacted(url), _word(tried), attempt, elapsed_s)
            if tried.failure is None and tried.outcome.status in _SUCCESS:
                self._budget.give_back(paid)
                return self._received(tried, url, attempt, elapsed_s, token)
            if tried.outcome.status == 401 and not renewed:
                renewed = True
                newer = _asked_for(partial(self._credentials.renew, token))
                if newer is not None and newer != token:
                    token = newer
                    continue
            hint_s = self._hint(tried)
            decision = retry.decide(
                method,
                tried.outcome,
                attempt,
                hint_s=hint_s,
                spent_s=elapsed_s - told_s,
                told_s=told_s,
                deadline_s=self.limits.deadline_s,
                max_wait_s=self.limits.max_wait_s,
                chance=self._clock.chance,
                attempts=self.limits.attempts,
            )
            if decision.wait_s is not None and not self._budget.take():
                decision = Decision(None, reason="budget")
            if decision.wait_s is None:
                raise self._error(method, url, tried, attempt, hint_s, decision, token)
            paid += 1
            if shrink is not None and tried.outcome.status in retry.SHRINK_STATUSES:
                url = self.origin.admit(shrink(url))
            self.wait(decision.wait_s)
            told_s += decision.wait_s if decision.told else 0.0

    # --- one attempt ---------------------------------------------------------

    def _attempt(
        self,
        method: str,
        url: str,
        body: bytes | None,
        token: Secret,
        left_s: float,
        check: Callable[[bytes], None] | None,
    ) -> _Try:
        tried = self._exchange(method, url, body, token, left_s)
        if tried.outcome.status not in _WITH_BODY or check is None:
            return tried
        # The error is kept instead of raised, so that no traceback holds the request.
        try:
            check(tried.body)
        except DocumentError as error:
            problem = error
        else:
            return tried
        # The rest of a damaged answer may still be on its way: it must not become the next one's beginning.
        self.close()
        if documents.is_cut_short(tried.body):
            lost = NoResponseError(f"the answer is not whole: {problem.message}", method=method, url=redacted(url))
            return _Try(Outcome(cut=True), headers=tried.headers, failure=lost)
        refused = DocumentError(
            token.scrub(problem.message),
            pointer=problem.pointer,
            method=method,
            url=redacted(url),
            request_id=_request_id(tried, token),
        )
        return _Try(Outcome(tried.outcome.status, final=True), headers=tried.headers, failure=refused)

    def _exchange(self, method: str, url: str, body: bytes | None, token: Secret, left_s: float) -> _Try:
        limits = self.limits
        until = time.monotonic() + left_s
        try:
            with self._session() as session, http_adapter.time_limit(until, limits.read_s):
                response = session.request(
                    method,
                    url,
                    data=body,
                    headers={
                        "Accept": documents.MEDIA_TYPE,
                        # Required on every request, GETs included: without it the service says 415.
                        "Content-Type": documents.MEDIA_TYPE,
                        "Accept-Encoding": "gzip",
                    },
                    auth=BearerAuth(token),
                    timeout=(min(limits.connect_s, left_s), min(limits.read_s, left_s)),
                    proxies=self._proxies,
                    # Said here too, since requests lets the environment's bundle win over a session's own.
                    verify=None if session.verify is True else session.verify,
                    allow_redirects=False,
                    stream=True,
                )
                try:
                    size = limits.max_body if response.status_code in _SUCCESS else _MAX_ERROR_BODY
                    received = http_adapter.read_body(response, until, size, limits.max_raw)
                finally:
                    response.close()
        except http_adapter.TooLargeError as error:
            problem: OppPandasError = DocumentError(
                f"the answer is larger than {error}; ask for smaller pages (page_size=) or fewer fields",
                method=method,
                url=redacted(url),
            )
            return _Try(Outcome(final=True), failure=problem)
        except _FAILURES as error:
            cause = error
        else:
            status = response.status_code
            maintenance = status == 503 and retry.MAINTENANCE.encode() in received
            return _Try(
                Outcome(status, maintenance=maintenance), received.removeprefix(b"\xef\xbb\xbf"), response.headers
            )
        return self._lost(method, url, cause, token)

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        if self._given is not None:
            with self._given_lock:
                yield self._given
            return
        session = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = http_adapter.make_session()
        yield session

    def _lost(self, method: str, url: str, error: Exception, token: Secret) -> _Try:
        """Describe an answer that did not come; the cause is kept without the request that it holds."""
        # requests tells a proxy's failure only where the way through it never stood.
        never_sent = _has(error, *_NEVER_CONNECTED)
        certificate = _has(error, ssl.SSLCertVerificationError)
        place = self.origin.root
        if certificate:
            message = f"the certificate of {place} could not be verified; for an own authority set REQUESTS_CA_BUNDLE"
        elif isinstance(error, requests.exceptions.ProxyError):
            message = f"the proxy on the way to {place} failed"
        elif never_sent:
            message = f"no connection to {place}; is the service running and the address right?"
        elif isinstance(error, http_adapter.CutShortError):
            message = f"the answer is damaged: {error}"
        elif _has(error, TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
            remedy = "ask for less at once (page_size=) or wait longer (deadline_s=, read_timeout_s=)"
            message = f"{place} gave no whole answer in time; {remedy}"
        else:
            message = f"the connection to {place} broke before the whole answer came"
        sent = not (never_sent or certificate)
        failure = NoResponseError(token.scrub(message), sent=sent, method=method, url=redacted(url))
        failure.__cause__ = _root_cause(error, token)
        cut = isinstance(error, http_adapter.CutShortError) or _has(error, urllib3.exceptions.IncompleteRead)
        return _Try(Outcome(sent=sent, cut=cut, final=certificate), failure=failure)

    # --- between attempts ----------------------------------------------------

    def _count_call(self, method: str, url: str) -> None:
        with self._lock:
            most = self.limits.max_calls
            if most is None or self._calls < most:
                self._calls += 1
                return
        raise errors.CallBudgetError(
            f"all that max_calls allows is used up ({most:,}); connect again with a higher max_calls to go on",
            method=method,
            url=redacted(url),
        )

    def _service_now(self, tried: _Try) -> float:
        """The service's clock where it tells it: its hints are meant by that clock."""
        return retry.parse_header_instant(tried.header("Date")) or self._clock.now()

    def _hint(self, tried: _Try) -> float | None:
        return retry.hint_from_headers(
            tried.outcome.status,
            tried.header("Retry-After"),
            tried.header("X-RateLimit-Reset"),
            self._service_now(tried),
            remaining=retry.first_number(tried.header("X-RateLimit-Remaining")),
        )

    def _note_limits(self, tried: _Try) -> None:
        remaining = retry.first_number(tried.header("X-RateLimit-Remaining"))
        reset_s = retry.parse_hint(tried.header("X-RateLimit-Reset"), self._service_now(tried))
        with self._lock:
            self._remaining = remaining
            self._limit = retry.first_number(tried.header("X-RateLimit-Limit"))
            self._reset_at = None if reset_s is None else self._clock.monotonic() + reset_s

    def _pace(self) -> float:
        """Slow down while little of the hour's budget is left; give the pause made [s]."""
        with self._lock:
            remaining, limit, reset_at = self._remaining, self._limit, self._reset_at
        left_s = None if reset_at is None else max(0.0, reset_at - self._clock.monotonic())
        pause_s = retry.pause_s(remaining, limit, left_s, self.limits.max_wait_s)
        if pause_s:
            self.wait(pause_s)
        return pause_s

    def wait(self, seconds: float) -> None:
        """Wait by the transport's clock, a slice at a time, so that Ctrl-C and a called-off wait are noticed."""
        if seconds > LONG_WAIT_S and self._on_wait is None:
            until = retry.clock_time(seconds, self._clock.now())
            logger.warning("waiting %.0f s for the service, until %s (Ctrl-C stops)", seconds, until)
        retry.sleep_in_slices(seconds, self._clock, self._on_wait)

    # --- results -------------------------------------------------------------

    def _received(self, tried: _Try, url: str, attempts: int, elapsed_s: float, token: Secret) -> Received:
        return Received(
            status=tried.outcome.status or 0,
            body=tried.body,
            url=url,
            attempts=attempts,
            elapsed_s=elapsed_s,
            request_id=_request_id(tried, token),
            date=retry.parse_header_instant(tried.header("Date")),
        )

    def _error(
        self, method: str, url: str, tried: _Try, attempts: int, hint_s: float | None, decision: Decision, token: Secret
    ) -> OppPandasError:
        """Make the error for an answer that is not repeated any more."""
        after = f" (after {attempts} attempts)" if attempts > 1 else ""
        if decision.reason == "budget":
            after += "; not tried again, since too many requests failed lately"
        if tried.failure is not None:
            if isinstance(tried.failure, NoResponseError) and after:
                tried.failure.message += after
                tried.failure.args = (tried.failure.message,)
            return tried.failure
        status = tried.outcome.status or 0
        found = error_responses.read_errors(tried.body, token)
        message = error_responses.explain(status, found, self.origin, url, tried.header("Location"))
        if hint_s is not None and status in (429, 503):
            message += f"; try again at {retry.clock_time(hint_s, self._clock.now())}"
            if decision.reason == "hint":
                message += f", which is {hint_s:,.0f} s away and more than max_wait_s={self.limits.max_wait_s:g} allows"
        return error_responses.CLASSES.get(status, ResponseError)(
            token.scrub(message) + after,
            status=status,
            errors=found,
            retry_after_s=hint_s,
            method=method,
            url=redacted(url),
            request_id=_request_id(tried, token),
        )


def _asked_for(ask: Callable[[], _Token]) -> _Token:
    """Ask for a token; what its own service answers says nothing about the request, which was not carried out."""
    try:
        return ask()
    except (errors.AuthenticationError, errors.RateLimitError):
        raise
    except ServiceError as error:
        raise NoResponseError(
            f"no token could be had, so nothing was done: {error.message}",
            sent=False,
            method=error.method,
            url=error.url,
        ) from error


def _request_id(tried: _Try, token: Secret) -> str | None:
    value = tried.header("X-Request-Id")
    return printable(token.scrub(value), 80) if value else None


def _word(tried: _Try) -> str:
    return str(tried.outcome.status) if tried.failure is None else type(tried.failure).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Go through an exception and everything it was made from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        reason = getattr(error, "reason", None)
        inner = next((item for item in error.args if isinstance(item, BaseException)), None)
        if isinstance(reason, BaseException):
            inner = reason
        error = inner or error.__cause__ or error.__context__


def _has(error: BaseException, *kinds: type[BaseException]) -> bool:
    return any(isinstance(item, kinds) for item in _chain(error))


def _root_cause(error: BaseException, token: Secret) -> BaseException | None:
    """Return the innermost cause without traceback and history: their frames hold the request."""
    root = list(_chain(error))[-1]
    if token.scrub(str(root)) != str(root):
        return None
    root.__cause__ = root.__context__ = None
    for name in ("request", "response", "pool"):
        if hasattr(root, name):
            setattr(root, name, None)
    return root.with_traceback(None)
