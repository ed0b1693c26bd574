"""Two programs that take turns: at every request, every transaction of a journal and every wait.

One of them runs at a time. Where it would talk to somebody else it stops, and a
seeded choice says who goes on: the same seed gives the same interleaving. With a
clock of their own each program has its time, requests take some of it, and the
one that is behind goes on.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

from opp_pandas.api.transport.retry import Clock
from opp_pandas.apply import journal_store

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pytest

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

_running = threading.local()


def watch_journals(patched: pytest.MonkeyPatch) -> None:
    """Let transactions of the programs be boundaries: SQLite tells of each statement before it runs."""
    connect = journal_store.connect

    def watched(path: Path) -> sqlite3.Connection:
        connection, turns = connect(path), getattr(_running, "turns", None)
        if turns is not None:
            begins = ("BEGIN", "BEGIN IMMEDIATE")
            connection.set_trace_callback(lambda words: turns.pause() if words in begins else None)
        return connection

    patched.setattr(journal_store, "connect", watched)


class _Adapter(HTTPAdapter):
    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        self._turns.pause()
        response = super().send(request, *arguments, **options)
        self._turns.pause()
        return response


class Turns:
    """Runs programs in turns.

    Parameters
    ----------
    seed : int
        Names the interleaving.
    timed : bool
        Whether each program has its time; else every boundary is a coin's throw.
    """

    def __init__(self, seed: int, *, timed: bool = False) -> None:
        self.random, self._timed = random.Random(seed), timed
        self._times: dict[int, float] = {}
        self._baton = threading.Condition()
        self._now_runs: int | None = None
        self.switches, self.ended_at = 0, 0.0

    @property
    def now(self) -> float:
        """Time of the program that runs; when both have ended, of the later one [s]."""
        return self._times[self._now_runs] if self._now_runs is not None else self.ended_at

    def client(self, box: Sandbox) -> Client:
        """Open a client whose requests and waits are boundaries."""
        session = requests.Session()
        session.mount("http://", _Adapter(self))
        clock = Clock(monotonic=lambda: self.now, sleep=self.pause, chance=self.random.random)
        return box.client(session=session, clock=clock)

    def pause(self, seconds: float | None = None) -> None:
        """Let time pass, and the other program perhaps go on."""
        me = getattr(_running, "number", None)
        if me is None:
            return
        with self._baton:
            self._times[me] += self.random.uniform(0.01, 0.25) if seconds is None else seconds
            self._hand_on()
            self._wait(me)

    def _hand_on(self) -> None:
        before = self._now_runs
        if self._timed:
            self._now_runs = min(self._times, key=self._times.__getitem__, default=None)
        else:
            self._now_runs = self.random.choice(list(self._times)) if self._times else None
        self.switches += self._now_runs != before
        self._baton.notify_all()

    def _wait(self, me: int) -> None:
        if not self._baton.wait_for(lambda: self._now_runs == me, timeout=60):
            raise RuntimeError("the other program does not come to a boundary")

    def run(self, programs: Sequence[Callable[[], Any]], starts: Sequence[float]) -> list[Any]:
        """Run programs to their ends; give what each returned, or raised."""
        self._times = dict(enumerate(starts))
        results: list[Any] = [None] * len(programs)

        def work(number: int, program: Callable[[], Any]) -> None:
            _running.number, _running.turns = number, self
            with self._baton:
                self._wait(number)
            try:
                results[number] = program()
            except Exception as problem:  # noqa: BLE001 - for the test to judge
                results[number] = problem
            finally:
                with self._baton:
                    self.ended_at = max(self.ended_at, self._times.pop(number))
                    self._hand_on()

        threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(programs)]
        with self._baton:
            self._hand_on()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results
