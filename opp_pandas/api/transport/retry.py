"""When to try again, and how long to wait: pure functions.

Clock, chance and sleep are passed in (`Clock`), so that nothing here waits by
itself and every decision can be computed by hand. Promises R2 to R5.
"""

from __future__ import annotations

import email.utils
import random
import re
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from opp_pandas import instants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ATTEMPTS = 5
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.5, 20.0
BUDGET_CAPACITY, BUDGET_COST = 500, 14
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
SHRINK_STATUSES = frozenset({500, 502, 504})
MAINTENANCE = "scheduledServerMaintenance"
PACING_SHARE = 0.05
USUAL_LIMIT = 10_000
SLICE_S = 0.5

_EPOCH_FROM = 1e9
_EPOCH_MS_FROM = 1e11
_FARTHEST_HINT_S = 366 * 86_400.0
_LONGEST_HEADER = 200
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
# The reset is told in whole seconds, and Retry-After is its alias.
_SAME_MOMENT_S = 2.0
_LONGEST_BURST_S = 60.0


@dataclass(frozen=True)
class Clock:
    """The time (durations, and since 1970) [s], sleep and chance (0 up to 1) that a transport uses."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt.

    No status: no whole answer came. Sent: the request may have reached the service. Cut: the
    answer broke off (short body, damaged gzip, JSON cut short). Final: the same request can only
    fail again, as with a bad certificate.
    """

    status: int | None = None
    sent: bool = True
    cut: bool = False
    final: bool = False
    maintenance: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether to go on: the wait [s], and whether the service named it; or None and the reason for stopping.

    ``"no"`` (not a case for trying again), ``"attempts"``, ``"deadline"`` or ``"hint"`` (told to
    wait longer than allowed).
    """

    wait_s: float | None
    told: bool = False
    reason: str = ""


def is_repeatable(method: str, outcome: Outcome) -> bool:
    """Return whether the same request may be sent again without harm.

    Reading may be. A write is repeated only where the service surely did not
    apply it: 429, announced maintenance, or a connection that never stood.
    """
    if outcome.final:
        return False
    if method in ("GET", "HEAD"):
        return outcome.cut or outcome.status is None or outcome.status in RETRY_STATUSES
    if outcome.status is None:
        return not outcome.sent
    return outcome.status == 429 or (outcome.status == 503 and outcome.maintenance)


def decide(
    method: str,
    outcome: Outcome,
    attempt: int,
    *,
    hint_s: float | None,
    spent_s: float,
    told_s: float,
    deadline_s: float,
    max_wait_s: float,
    chance: Callable[[], float],
    attempts: int = ATTEMPTS,
) -> Decision:
    """Decide after attempt number `attempt` whether to try again and how long to wait.

    Time spent, with the limit `deadline_s`, is without the waits that the service asked for;
    `told_s` is the sum of those, with the limit `max_wait_s`, and `hint_s` the next of them.
    """
    if not is_repeatable(method, outcome):
        return Decision(None, reason="no")
    if hint_s is not None and told_s + hint_s > max_wait_s:
        return Decision(None, told=True, reason="hint")
    if attempt >= attempts:
        return Decision(None, reason="attempts")
    wait_s = backoff_s(attempt, chance()) if hint_s is None else hint_s
    if spent_s + (wait_s if hint_s is None else 0.0) >= deadline_s:
        return Decision(None, reason="deadline")
    return Decision(wait_s, told=hint_s is not None)


def backoff_s(attempt: int, chance: float) -> float:
    """Return the wait after attempt number `attempt` (from 1) with full jitter [s].

    Uniform between 0 and ``min(20, 0.5 * 2**(attempt - 1))``; `chance` is the
    random number from 0 up to 1.

    Examples
    --------
    >>> backoff_s(1, 1.0), backoff_s(3, 0.5), backoff_s(50, 1.0)
    (0.5, 1.0, 20.0)
    """
    return chance * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(attempt - 1, 32))


def parse_hint(text: str | None, now: float) -> float | None:
    """Read a header that says how long to wait: seconds from now, more than 0.

    Understands seconds, HTTP dates (all three forms), epoch seconds and milliseconds, ISO 8601
    with or without a zone (UTC then), and takes the first of a comma list. None if missing,
    unreadable, not in the future, or more than a year away.

    Examples
    --------
    >>> parse_hint("120", 0.0), parse_hint("1790000060", 1790000000.0), parse_hint("soon", 0.0)
    (120.0, 60.0, None)
    """
    if not text or len(text) > _LONGEST_HEADER:
        return None
    for part in (text.strip(), text.split(",", 1)[0].strip()):
        seconds = _seconds(part, now)
        if seconds is not None:
            return seconds if 0 < seconds <= _FARTHEST_HINT_S else None
    return None


def _seconds(text: str, now: float) -> float | None:
    if not text.isascii():
        return None
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= _EPOCH_MS_FROM:
            return number / 1000 - now
        return number - now if number >= _EPOCH_FROM else number
    instant = parse_header_instant(text)
    return None if instant is None else instant - now


def parse_header_instant(text: str | None) -> float | None:
    """Read an ISO 8601 or HTTP date as seconds since 1970; None if it is neither."""
    if not text or len(text) > _LONGEST_HEADER:
        return None
    with suppress(ValueError):
        return instants.parse_instant(text.strip().removesuffix(" UTC"))[0] / 1e6
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def hint_from_headers(
    status: int | None, retry_after: str | None, reset: str | None, now: float, *, remaining: int | None = None
) -> float | None:
    """Find the wait [s] that an answer asks for; None where nothing readable says one.

    ``X-RateLimit-Reset`` comes with every answer, so it counts for 429 only. With requests
    `remaining` it is not the hour's budget that ran out but a shorter burst: then the hour's end
    is no hint, under neither of its names.

    Examples
    --------
    >>> hint_from_headers(429, None, "1200", 0.0), hint_from_headers(429, "1200", "1200", 0.0, remaining=9_990)
    (1200.0, None)
    """
    if status not in RETRY_STATUSES:
        return None
    hint_s = parse_hint(retry_after, now)
    if status != 429:
        return hint_s
    reset_s = parse_hint(reset, now)
    if not remaining:
        return reset_s if hint_s is None else hint_s
    if hint_s is None or (hint_s > _LONGEST_BURST_S if reset_s is None else abs(hint_s - reset_s) <= _SAME_MOMENT_S):
        return None
    return hint_s


def first_number(text: str | None) -> int | None:
    """Read the first whole number of a header such as ``"9999, 19988"``; None if there is none.

    Examples
    --------
    >>> first_number("9999, 19988"), first_number("-3"), first_number(None)
    (9999, None, None)
    """
    part = (text or "").split(",", 1)[0].strip()
    return int(part) if part.isascii() and part.isdigit() and len(part) <= 15 else None


def pause_s(remaining: int | None, limit: int | None, reset_s: float | None, max_wait_s: float) -> float:
    """Determine how long to pause before the next request so that the budget of the hour lasts [s].

    Below 5 % of the limit the calls that are left are spread over the time that
    is left. A pause longer than `max_wait_s` is not made: the service then says
    itself that the limit is reached, and the error names the time.

    Examples
    --------
    >>> pause_s(9_000, 10_000, 600.0, 60.0), pause_s(99, 10_000, 600.0, 60.0)
    (0.0, 6.0)
    """
    if remaining is None or reset_s is None:
        return 0.0
    if remaining >= PACING_SHARE * (limit or USUAL_LIMIT):
        return 0.0
    spread_s = reset_s / (remaining + 1)
    return spread_s if spread_s <= max_wait_s else 0.0


def clock_time(wait_s: float, now: float) -> str:
    """Name the local time in `wait_s` seconds, with the day if it is not today's."""
    then, today = datetime.fromtimestamp(now + wait_s), datetime.fromtimestamp(now)
    return then.strftime("%H:%M" if then.date() == today.date() else "%Y-%m-%d %H:%M")


_own = threading.local()


@contextmanager
def called_off_by(event: threading.Event) -> Iterator[None]:
    """Let an event end this thread's waits and repetitions.

    Ctrl-C reaches the main thread only: a thread that waited on would send its
    request long after the caller was told that nothing more is sent.
    """
    before, _own.event = getattr(_own, "event", None), event
    try:
        yield
    finally:
        _own.event = before


def check_called_off() -> None:
    """Go no further where this thread's work was called off: KeyboardInterrupt, as Ctrl-C in the main thread."""
    event = getattr(_own, "event", None)
    if event is not None and event.is_set():
        raise KeyboardInterrupt


def sleep_in_slices(seconds: float, clock: Clock, tell: Callable[[float], None] | None = None) -> None:
    """Wait in slices of half a second, so that Ctrl-C and progress come through.

    Before each, `tell` is called with the seconds that are left.
    """
    left = seconds
    while left > 0:
        check_called_off()
        if tell is not None:
            tell(left)
        slice_s = min(SLICE_S, left)
        clock.sleep(slice_s)
        left -= slice_s


@dataclass
class RetryBudget:
    """A bucket that empties when many requests fail, so that a dead service gets no storm.

    A repetition takes `cost` out. A success after repetitions puts theirs back, any other puts back one.
    """

    capacity: int = BUDGET_CAPACITY
    cost: int = BUDGET_COST
    _left: int = field(init=False, repr=False)
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._left = self.capacity

    @property
    def left(self) -> int:
        """What is left in the bucket."""
        return self._left

    def take(self) -> bool:
        """Pay for one repetition; False, and nothing paid, if too little is left."""
        with self._lock:
            if self._left < self.cost:
                return False
            self._left -= self.cost
            return True

    def give_back(self, repetitions: int) -> None:
        """Note a success after so many paid repetitions."""
        with self._lock:
            self._left = min(self.capacity, self._left + max(1, repetitions * self.cost))
