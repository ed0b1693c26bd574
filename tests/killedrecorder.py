"""A program that keeps a history and is killed in the middle: run by test_history_kills.py.

It reads orders (JSON, one a line) and forks a child for each. The child ends
itself by SIGKILL at the event of the order's number: before and after every
look at the table and every write to it. An order without a number says
before each of its steps that it begins, for who kills it from outside.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

# Imported before the fork, and first used after it: its threads do not survive one.
import deltalake  # noqa: F401

from histories import frame_of, load_of, moment
from opp_pandas.history import History
from opp_pandas.history.table import Storage

if TYPE_CHECKING:
    from collections.abc import Callable

DAYS = (2, 3, 4)
DEALS = 2_000
STEPS = ("record 2", "record 3", "record 4", "compact", "forget", "record 5")


def load(day: int) -> Any:
    """The deals as they are on a day: all amounts change, one deal goes and one comes."""
    rows = [{"id": key, "name": f"deal {key}", "amount": day * key} for key in range(day, day + DEALS)]
    return load_of(frame_of(rows), day)


def take_step(history: History, step: str) -> None:
    """Do one of `STEPS`."""
    if step == "compact":
        history.compact()
    elif step == "forget":
        history.forget(moment(DAYS[1]))
    else:
        history.record(load(int(step.split()[1])))


def hook(name: str, event: Callable[[], None]) -> None:
    """Call `event` before and after a method of the storage."""
    original = getattr(Storage, name)

    def hooked(*arguments: Any, **options: Any) -> Any:
        event()
        result = original(*arguments, **options)
        event()
        return result

    setattr(Storage, name, hooked)


def keep(order: dict[str, Any]) -> None:
    """Take all steps; die at the ordered event."""
    counter = itertools.count()

    def event() -> None:
        if next(counter) == order["point"]:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("open", "_create", "rows", "_write", "_write_head"):
        hook(name, event)
    history = History(order["folder"])
    for step in STEPS:
        if order["point"] is None:
            sys.stdout.write(f"{os.getpid()} {step}\n")
            sys.stdout.flush()
        take_step(history, step)
    if order["point"] is not None:
        sys.stdout.write(f"{next(counter)} events\n")
        sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            keep(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"ended {os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
