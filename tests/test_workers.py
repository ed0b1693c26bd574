"""Units of work shared out to threads: each done once, Ctrl-C and errors brought home."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from opp_pandas.api.transport.retry import Clock, sleep_in_slices
from opp_pandas.apply.executor import run_units


@pytest.mark.parametrize("workers", [1, 3])
def test_run_units__hands_out_each_unit_once(workers: int) -> None:
    """Any number of workers does the same work."""
    done: list[int] = []
    run_units(range(20), done.append, workers, threading.Event())
    assert sorted(done) == list(range(20))


@pytest.mark.usefixtures("_ctrl_c")
def test_run_units__lets_what_is_under_way_come_home_after_ctrl_c() -> None:
    """A real signal: nothing new is begun, what was begun is finished, and then it is raised."""
    begun: list[int] = []
    finished: list[int] = []
    stop = threading.Event()

    def handle(unit: int) -> None:
        begun.append(unit)
        if unit == 0:
            # Once the caller waits.
            threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        assert stop.wait(60)
        time.sleep(0.3)  # the answer takes its time
        finished.append(unit)

    with pytest.raises(KeyboardInterrupt):
        run_units(range(20), handle, 2, stop)
    assert sorted(finished) == sorted(begun)
    assert len(begun) <= 2


@pytest.mark.usefixtures("_ctrl_c")
def test_run_units__gives_up_on_what_does_not_come_home() -> None:
    """After the grace Ctrl-C is raised all the same."""
    release = threading.Event()

    def handle(unit: int) -> None:
        if unit == 0:
            signal.raise_signal(signal.SIGINT)
        release.wait(30)

    try:
        with pytest.raises(KeyboardInterrupt):
            run_units(range(2), handle, 2, threading.Event(), grace_s=0.0)
    finally:
        release.set()


@pytest.mark.usefixtures("_ctrl_c")
def test_run_units__ends_waits_of_every_worker_at_ctrl_c() -> None:
    """A worker that waits for the service sends nothing after its wait."""
    begun = threading.Barrier(2)
    sent: list[int] = []

    def handle(unit: int) -> None:
        if begun.wait(60) == 0:
            signal.raise_signal(signal.SIGINT)
        sleep_in_slices(120.0, Clock())
        sent.append(unit)

    with pytest.raises(KeyboardInterrupt):
        run_units(range(2), handle, 2, threading.Event(), grace_s=240.0)
    assert sent == []


def test_run_units__raises_the_first_error_of_a_worker() -> None:
    """One worker's error stops the others, and is the caller's."""
    stop = threading.Event()

    def handle(unit: int) -> None:
        if unit == 1:
            raise ValueError("unit 1")

    with pytest.raises(ValueError, match="unit 1"):
        run_units(range(100), handle, 2, stop)
    assert stop.is_set()
