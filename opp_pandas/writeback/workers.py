"""A few workers over units of work, with Ctrl-C and errors brought to the caller."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_WORKERS = 4
# How long requests under way may still take after Ctrl-C before their answers are given up [s].
GRACE_S = 10.0
_TICK_S = 0.05
Unit = TypeVar("Unit")


def run_units(
    units: Iterable[Unit], handle: Callable[[Unit], None], workers: int, stop: threading.Event, grace_s: float = GRACE_S
) -> None:
    """Hand every unit to one of the workers.

    One worker is the caller's own thread. With more, Ctrl-C sets `stop`, lets
    requests under way come home for `grace_s` seconds, and is raised then; so is
    the first exception of a worker.

    Parameters
    ----------
    units : iterable
        Pieces of work that do not touch each other.
    handle : callable
        Does one piece; looks at `stop` in between.
    workers : int
        How many at once.
    stop : threading.Event
        Set when nothing more may be begun.
    grace_s : float
        See above [s].
    """
    waiting = deque(units)
    if min(workers, len(waiting)) <= 1:
        while waiting and not stop.is_set():
            handle(waiting.popleft())
        return
    problems: deque[BaseException] = deque()

    def work() -> None:
        while not stop.is_set():
            try:
                unit = waiting.popleft()
            except IndexError:
                return
            try:
                handle(unit)
            except BaseException as problem:  # noqa: BLE001 - raised again where the caller waits
                problems.append(problem)
                stop.set()

    # Daemons: a second Ctrl-C must be able to end the program.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(waiting)))]
    try:
        for thread in threads:
            thread.start()
        _wait(threads, None)
    except BaseException:
        # Ctrl-C may come as early as between two starts: those that run must stop all the same.
        stop.set()
        _wait(threads, grace_s)
        raise
    if problems:
        raise problems[0]


def _wait(threads: Iterable[threading.Thread], limit_s: float | None) -> None:
    until = None if limit_s is None else time.monotonic() + limit_s
    for thread in threads:
        # In ticks: a wait without a limit would not see Ctrl-C on Windows.
        while thread.is_alive() and (until is None or time.monotonic() < until):
            thread.join(_TICK_S)
