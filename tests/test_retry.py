"""When to try again and how long to wait, computed by hand with a frozen clock."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.api.transport import retry
from opp_pandas.api.transport.retry import Decision, Outcome, RetryBudget, decide
from rawserver import NOW, FakeClock

MOMENT = datetime.fromtimestamp(NOW, UTC)  # 2026-09-21T14:13:20Z

HINTS = [
    # seconds
    ("1", 1.0),
    ("120", 120.0),
    ("1.5", 1.5),
    (" 30 ", 30.0),
    ("+30", 30.0),
    ("86400", 86_400.0),
    ("120, 120", 120.0),
    ("60,19988", 60.0),
    # seconds since 1970
    ("1790000060", 60.0),
    ("1790000060.5", 60.5),
    ("1790003600", 3_600.0),
    ("1790000060000", 60.0),
    ("1790000060, 1790003600", 60.0),
    # HTTP dates, all three forms
    ("Mon, 21 Sep 2026 14:14:20 GMT", 60.0),
    ("Monday, 21-Sep-26 14:14:20 GMT", 60.0),
    ("Mon Sep 21 14:14:20 2026", 60.0),
    ("Mon, 21 Sep 2026 16:14:20 +0200", 60.0),
    # ISO 8601
    ("2026-09-21T14:14:20Z", 60.0),
    ("2026-09-21T14:14:20.000Z", 60.0),
    ("2026-09-21T14:14:20", 60.0),
    ("2026-09-21 14:14:20", 60.0),
    ("2026-09-21 14:14:20 UTC", 60.0),
    ("2026-09-21T16:14:20+02:00", 60.0),
    ("2026-09-21T07:14:20-07:00", 60.0),
    ("20260921T141420Z", 60.0),
    ("2026-09-22", 35_200.0),
]
NO_HINTS = [
    None,
    "",
    " ",
    "0",
    "-1",
    "-1790000060",
    "soon",
    "NaN",
    "inf",
    "1e3",
    "1e400",
    "0x10",
    "\u0666\u0660",
    "1_000",
    "12:30",
    ",",
    ",60",
    "1790000000",
    "1789999999",
    "2026-09-21T14:13:20Z",
    "2020-01-01T00:00:00Z",
    "Mon, 21 Sep 2020 14:14:20 GMT",
    "2026-13-45T99:99:99Z",
    "9999-12-31T23:59:59Z",
    "99999999",
    "9" * 30,
    "9" * 5000,
    "1" + " " * 300,
    "Mon, 99 Sep 2026 99:99:99 GMT",
    "\x00",
    "{}",
    "60 seconds",
]


@pytest.mark.parametrize(("text", "seconds"), HINTS)
def test_parse_hint__reads_every_dialect(text: str, seconds: float) -> None:
    """Seconds, epochs, HTTP dates and ISO 8601 all give seconds from now."""
    assert retry.parse_hint(text, NOW) == seconds


@pytest.mark.parametrize("text", NO_HINTS)
def test_parse_hint__is_none_for_the_rest(text: str | None) -> None:
    """Missing, unreadable, negative, past and absurdly far hints are no hints."""
    assert retry.parse_hint(text, NOW) is None


@settings(deadline=None)
@given(st.text() | st.integers().map(str) | st.floats().map(str) | st.datetimes().map(str), st.floats(0, 4e9))
def test_parse_hint__never_raises_and_never_is_negative(text: str, now: float) -> None:
    """Whatever the header says, the answer is None or between 0 and a year."""
    seconds = retry.parse_hint(text, now)
    assert seconds is None or 0 < seconds <= 366 * 86_400


@settings(deadline=None)
@given(st.integers(1, 86_400))
def test_parse_hint__agrees_in_all_dialects(seconds: int) -> None:
    """The same moment, however it is written, gives the same wait."""
    then = datetime.fromtimestamp(NOW + seconds, UTC)
    texts = [str(seconds), str(int(NOW) + seconds), then.isoformat(), format_datetime(then, usegmt=True)]
    assert [retry.parse_hint(text, NOW) for text in texts] == [seconds] * 4


@pytest.mark.nightly
@settings(deadline=None, max_examples=10_000)
@given(st.text(max_size=60), st.floats(0, 4e9))
def test_parse_hint__never_raises__nightly(text: str, now: float) -> None:
    """The same law as above on ten thousand texts."""
    seconds = retry.parse_hint(text, now)
    assert seconds is None or 0 < seconds <= 366 * 86_400


@pytest.mark.parametrize(
    ("status", "retry_after", "reset", "hint"),
    [
        (429, "30", "600", 30.0),
        (429, None, "600", 600.0),
        (429, "soon", "600", 600.0),
        (429, "-5", "1790000060", 60.0),
        (429, None, None, None),
        (503, "30", "600", 30.0),
        (503, None, "600", None),
        (502, None, "600", None),
        (502, "3", None, 3.0),
        (200, "30", "600", None),
        (404, "30", None, None),
        (None, "30", None, None),
    ],
)
def test_hint_from_headers__counts_reset_for_429_only(
    status: int | None, retry_after: str | None, reset: str | None, hint: float | None
) -> None:
    """X-RateLimit-Reset comes with every answer, so only a 429 makes it a wait."""
    assert retry.hint_from_headers(status, retry_after, reset, NOW) == hint


@pytest.mark.parametrize(
    ("attempt", "chance", "seconds"),
    [
        *[(1, 0.0, 0.0), (1, 1.0, 0.5), (2, 1.0, 1.0), (3, 1.0, 2.0), (4, 0.5, 2.0), (6, 1.0, 16.0), (7, 1.0, 20.0)],
        *[(40, 1.0, 20.0), (10_000, 0.25, 5.0)],
    ],
)
def test_backoff__is_full_jitter(attempt: int, chance: float, seconds: float) -> None:
    """The wait is uniform from 0 to min(20, 0.5 * 2^i)."""
    assert retry.backoff_s(attempt, chance) == seconds


def outcome(status: int | None = None, **facts: bool) -> Outcome:
    return Outcome(status, **facts)


REPEATABLE = [
    # method, outcome, whether it may be sent again
    *[("GET", outcome(status), True) for status in (429, 500, 502, 503, 504)],
    *[("GET", outcome(status), False) for status in (300, 400, 401, 403, 404, 405, 409, 410, 415, 422, 501, 505, 599)],
    ("GET", outcome(), True),
    ("GET", outcome(sent=False), True),
    ("GET", outcome(200, cut=True), True),
    ("GET", outcome(final=True), False),
    *[
        (method, outcome(status), False)
        for method in ("POST", "PATCH", "DELETE")
        for status in (500, 502, 503, 504, 422)
    ],
    *[(method, outcome(429), True) for method in ("POST", "PATCH", "DELETE")],
    *[(method, outcome(503, maintenance=True), True) for method in ("POST", "PATCH", "DELETE")],
    *[(method, outcome(500, maintenance=True), False) for method in ("POST", "PATCH", "DELETE")],
    *[(method, outcome(), False) for method in ("POST", "PATCH", "DELETE")],
    *[(method, outcome(sent=False), True) for method in ("POST", "PATCH", "DELETE")],
    *[(method, outcome(cut=True), False) for method in ("POST", "PATCH", "DELETE")],
    *[(method, outcome(sent=False, final=True), False) for method in ("GET", "POST", "PATCH", "DELETE")],
]


@pytest.mark.parametrize(("method", "result", "allowed"), REPEATABLE)
def test_is_repeatable__never_repeats_a_write_that_may_stand(method: str, result: Outcome, allowed: bool) -> None:
    """Reading is repeated for passing faults; a write only where it surely was not applied."""
    assert retry.is_repeatable(method, result) is allowed


def decided(result: Outcome, attempt: int = 1, method: str = "GET", **facts: float | None) -> Decision:
    settings_ = {"hint_s": None, "spent_s": 0.0, "told_s": 0.0, "deadline_s": 60.0, "max_wait_s": 60.0, **facts}
    return decide(method, result, attempt, chance=lambda: 0.5, **settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (decided(outcome(502)), Decision(0.25)),
        (decided(outcome(502), 2), Decision(0.5)),
        (decided(outcome(502), 4), Decision(2.0)),
        (decided(outcome(502), 5), Decision(None, reason="attempts")),
        (decided(outcome(429), hint_s=30.0), Decision(30.0, told=True)),
        (decided(outcome(429), hint_s=60.0), Decision(60.0, told=True)),
        (decided(outcome(429), hint_s=60.1), Decision(None, told=True, reason="hint")),
        (decided(outcome(429), hint_s=30.0, told_s=31.0), Decision(None, told=True, reason="hint")),
        (decided(outcome(429), hint_s=30.0, told_s=30.0), Decision(30.0, told=True)),
        (decided(outcome(429), 5, hint_s=30.0), Decision(None, reason="attempts")),
        (decided(outcome(429), 5, hint_s=90.0), Decision(None, told=True, reason="hint")),
        (decided(outcome(429), hint_s=3_000.0, max_wait_s=3_900.0), Decision(3_000.0, told=True)),
        (decided(outcome(429), hint_s=50.0, spent_s=59.0), Decision(50.0, told=True)),
        (decided(outcome(502), spent_s=59.8), Decision(None, reason="deadline")),
        (decided(outcome(502), spent_s=59.7), Decision(0.25)),
        (decided(outcome(429), hint_s=5.0, spent_s=60.0), Decision(None, reason="deadline")),
        (decided(outcome(404), hint_s=5.0), Decision(None, reason="no")),
        (decided(outcome(503), method="POST", hint_s=5.0), Decision(None, reason="no")),
        (decided(outcome(429), method="POST", hint_s=5.0), Decision(5.0, told=True)),
        (decided(outcome(429), hint_s=0.5, max_wait_s=0.0), Decision(None, told=True, reason="hint")),
    ],
)
def test_decide__by_hand(decision: Decision, expected: Decision) -> None:
    """Waits, limits and reasons for stopping as reckoned by hand."""
    assert decision == expected


@settings(deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PATCH", "DELETE"]),
    st.sampled_from([None, 400, 401, 404, 422, 429, 500, 502, 503, 504]),
    st.integers(1, 10),
    st.none() | st.floats(0.001, 1e6),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 1),
)
def test_decide__keeps_its_limits(
    method: str, status: int | None, attempt: int, hint: float | None, spent: float, told: float, chance: float
) -> None:
    """No decision waits beyond a limit, or goes on after the last attempt."""
    found = decide(
        method,
        Outcome(status),
        attempt,
        hint_s=hint,
        spent_s=spent,
        told_s=told,
        deadline_s=60,
        max_wait_s=60,
        chance=lambda: chance,
    )
    if found.wait_s is None:
        assert found.reason
        return
    assert attempt < 5
    assert 0 <= found.wait_s <= 60
    if found.told:
        assert told + found.wait_s <= 60
    else:
        assert spent + found.wait_s < 60


@pytest.mark.parametrize(
    ("remaining", "limit", "reset", "pause"),
    [
        (None, 10_000, 600.0, 0.0),
        (499, 10_000, None, 0.0),
        (500, 10_000, 600.0, 0.0),
        (499, 10_000, 600.0, 1.2),
        (99, 10_000, 600.0, 6.0),
        (0, 10_000, 30.0, 30.0),
        (0, 10_000, 3_000.0, 0.0),
        (49, 1_000, 500.0, 10.0),
        (50, 1_000, 500.0, 0.0),
        (9, None, 100.0, 10.0),
        (9, 0, 100.0, 10.0),
    ],
)
def test_pause__spreads_what_is_left(
    remaining: int | None, limit: int | None, reset: float | None, pause: float
) -> None:
    """Below 5 % the calls left are spread over the time left; never longer than allowed."""
    assert retry.pause_s(remaining, limit, reset, 60.0) == pytest.approx(pause)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("9999, 19988", 9999), ("9999", 9999), (" 7 ", 7), ("", None), (None, None), ("-1", None), ("x", None)],
        *[("1.5", None), ("9" * 16, None), ("\u0667", None), (",5", None)],
    ],
)
def test_first_number__of_a_header(text: str | None, number: int | None) -> None:
    """The live service was seen to send two numbers; the first is the hour's."""
    assert retry.first_number(text) == number


def test_sleep_in_slices__is_never_longer_than_half_a_second() -> None:
    """A long wait is cut in slices that add up, and tells what is left before each."""
    clock, told = FakeClock(), []
    retry.sleep_in_slices(1.7, retry.Clock(sleep=clock.sleep), told.append)
    assert clock.waits == pytest.approx([0.5, 0.5, 0.5, 0.2])
    assert told == pytest.approx([1.7, 1.2, 0.7, 0.2])
    retry.sleep_in_slices(0.0, retry.Clock(sleep=clock.sleep))
    assert len(clock.waits) == 4


def test_sleep_in_slices__ends_where_the_work_was_called_off() -> None:
    """An event ends the waits of its own thread, and only while it stands for them."""
    clock, event = FakeClock(), threading.Event()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if len(clock.waits) == 2:
            event.set()

    with retry.called_off_by(event), pytest.raises(KeyboardInterrupt):
        retry.sleep_in_slices(600.0, retry.Clock(sleep=sleep))
    assert len(clock.waits) == 2
    retry.sleep_in_slices(1.0, retry.Clock(sleep=sleep))
    assert len(clock.waits) == 4


def test_budget__stops_a_storm() -> None:
    """35 repetitions empty the bucket; successes fill it slowly, and never above its size."""
    budget = RetryBudget()
    assert sum(budget.take() for _ in range(100)) == 500 // 14
    assert budget.left == 500 - 35 * 14
    budget.give_back(0)
    assert budget.left == 11
    budget.give_back(2)
    assert budget.left == 39
    for _ in range(1_000):
        budget.give_back(0)
    assert budget.left == 500


def test_clock_time__is_local_and_names_another_day() -> None:
    """Today's time stands alone; a time on another day comes with its date."""
    noon = datetime(2026, 9, 21, 12, 0).timestamp()
    assert retry.clock_time(7_500, noon) == "14:05"
    assert retry.clock_time(86_400, noon) == "2026-09-22 12:00"


@pytest.mark.parametrize(
    "text", [None, "", "x" * 500, "not a date", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"]
)
def test_parse_instant__gives_none_or_a_number(text: str | None) -> None:
    """Dates outside what a clock can say raise nothing."""
    moment = retry.parse_header_instant(text)
    assert moment is None or math.isfinite(moment)


@pytest.mark.parametrize("text", ["++5", "+-5", "--5", "-+5", "5..", "1.2.3", ".", "+", "+.", "5e3", "0x5", "5_0"])
def test_hint__in_no_known_form_is_none_and_never_raises(text: str) -> None:
    """What only looks like a number is no hint."""
    assert retry.parse_hint(text, 0.0) is None


@pytest.mark.parametrize(
    ("retry_after", "reset", "remaining", "expected"),
    [
        (None, "1790001200", 9_990, None),
        ("1790001200", "1790001200", 9_990, None),
        ("1200", "1790001200", 1, None),
        ("1200", None, 9_990, None),
        ("5", "1790001200", 9_990, 5.0),
        ("300", "1790001200", 9_990, 300.0),
        (None, "1790001200", 0, 1_200.0),
        ("1200", "1790001200", 0, 1_200.0),
        ("1200", None, None, 1_200.0),
    ],
)
def test_hint__of_a_burst_is_not_the_end_of_the_hour(
    retry_after: str | None, reset: str | None, remaining: int | None, expected: float | None
) -> None:
    """With requests left the hour's budget did not run out, so its end says nothing."""
    assert retry.hint_from_headers(429, retry_after, reset, 1_790_000_000.0, remaining=remaining) == expected
