"""A few workers over units of work, with Ctrl-C and errors brought to the caller."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from opp_pandas.api.transport.retry import called_off_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MOST_WORKERS = 4
# How long requests under way may still take after Ctrl-C before their answers are given up [s].
GRACE_S = 10.0
_TICK_S = 0.05
Unit = TypeVar("Unit")


def run_units(
    units: Iterable[Unit], handle: Callable[[Unit], None], workers: int, stop: threading.Event, grace_s: float = GRACE_S
) -> None:
    """Hand every unit, pieces of work that do not touch each other, to one of the workers.

    One worker is the caller's own thread. With more, Ctrl-C sets `stop`, ends
    waits before a repetition, lets requests under way come home for `grace_s`
    seconds, and is raised then; so is the first exception of a worker. `handle`
    looks at `stop` in between.
    """
    waiting = deque(units)
    if min(workers, len(waiting)) <= 1:
        while waiting and not stop.is_set():
            handle(waiting.popleft())
        return
    problems: deque[BaseException] = deque()
    begun: deque[None] = deque()
    ended: deque[None] = deque()
    bell = threading.Semaphore(0)
    called_off = threading.Event()

    def work() -> None:
        begun.append(None)
        try:
            while not stop.is_set():
                try:
                    unit = waiting.popleft()
                except IndexError:
                    return
                with called_off_by(called_off):
                    handle(unit)
        except BaseException as problem:  # noqa: BLE001 - raised again where the caller waits
            problems.append(problem)
            stop.set()
        finally:
            ended.append(None)
            bell.release()

    # Counted here, for a join that Ctrl-C interrupts takes a thread for ended that still runs (Python 3.11, 3.12).
    # Waited for in ticks: a wait without a limit would not see Ctrl-C on Windows.
    # Daemons: a second Ctrl-C must be able to end the program.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(waiting)))]
    try:
        for thread in threads:
            thread.start()
        while len(ended) < len(threads):
            bell.acquire(timeout=_TICK_S)
    except BaseException:
        # Ctrl-C may come as early as between two starts; who begins after this has nothing to do.
        stop.set()
        called_off.set()
        until = time.monotonic() + grace_s
        while len(ended) < len(begun) and time.monotonic() < until:
            bell.acquire(timeout=_TICK_S)
        raise
    if problems:
        raise problems[0]


def batches(items: Sequence[Unit], size: int) -> list[Sequence[Unit]]:
    """Cut a list into pieces of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]
