"""A program that saves 30 changes and is killed in the middle: run by test_kills.py.

It reads orders (JSON, one a line) and forks a child for each, so that a kill
costs no new start of the interpreter. The child ends itself by SIGKILL at the
event of the order's number: before and after every write of the journal and
every request that changes something.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import opp_pandas as opp
from opp_pandas.api.client import Client
from opp_pandas.apply.journal import OpenPlan
from opp_pandas.apply.journal_store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

UPDATES, CREATIONS = 20, 8


def hook(owner: Any, name: str, event: Callable[[], None]) -> None:
    """Call `event` before and after a method."""
    original = getattr(owner, name)

    def hooked(*arguments: Any, **options: Any) -> Any:
        event()
        result = original(*arguments, **options)
        event()
        return result

    setattr(owner, name, hooked)


def save(order: dict[str, Any]) -> None:
    """Edit, add and delete 30 deals; die at the ordered event."""
    client = opp.connect(order["url"], token=order["token"])
    # Few columns, so that a point costs little; they change nothing about what is written down and sent.
    df = opp.read_opportunities(client, fields=["name", "probability", "custom_id"], include=(), on_invalid="ignore")
    df = df.opp.add([{"name": f"new {order['turn']} {number}"} for number in range(CREATIONS)])
    first = df.index[:UPDATES]
    df.loc[first, "probability"] = (df.loc[first, "probability"] + 1) % 101
    counter = itertools.count()

    def event() -> None:
        if next(counter) == order["point"]:
            os.kill(os.getpid(), signal.SIGKILL)

    hook(Store, "next_number", event)
    hook(OpenPlan, "_note", event)
    for name in ("create", "update", "delete"):
        hook(Client, name, event)
    df.opp.write_back(
        delete=order["delete"], allow_delete=True, confirm=30, workers=order["workers"], journal=order["folder"]
    )
    Path(order["folder"], "events").write_text(str(next(counter)), encoding="utf-8")


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            save(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
