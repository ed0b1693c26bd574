"""A program that saves 30 changes and is killed in the middle: run by test_kills.py.

It reads orders (JSON, one a line) and forks a child for each, so that a kill
costs no new start of the interpreter. The child ends itself by SIGKILL at the
event of the order's number: before and after every request, and before and
after every write of the journal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

import opp_pandas as opp
from opp_pandas.apply import executor, send_creates
from opp_pandas.apply.journal import Journal, OpenPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from opp_pandas.api.client import Client

UPDATES, CREATIONS, DELETIONS = 18, 8, 4


class Events:
    """Counts what happens, and ends the program at the ordered event."""

    def __init__(self, point: int) -> None:
        self.point, self.names = point, []

    def __call__(self, name: str) -> None:
        """Note one event, or die of it."""
        if len(self.names) == self.point:
            os.kill(os.getpid(), signal.SIGKILL)
        self.names.append(name)


class WatchedAdapter(HTTPAdapter):
    """Tells of every request before it goes out, and when its answer is there."""

    def __init__(self, events: Callable[[str], None]) -> None:
        super().__init__()
        self._events = events

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send it."""
        self._events(f"{request.method} asked")
        response = super().send(request, *arguments, **options)
        # Its head is there, so what the service was asked for is done.
        self._events(f"{request.method} answered")
        return response


def connect(order: dict[str, Any], events: Callable[[str], None] = lambda _: None) -> Client:
    """Open a client that tells of its requests."""
    if order["workers"] > 1:
        return opp.connect(order["url"], token=order["token"])
    session = requests.Session()
    session.mount("http://", WatchedAdapter(events))
    return opp.connect(order["url"], token=order["token"], session=session)


def edited(client: Client, order: dict[str, Any]) -> pd.DataFrame:
    """Load, edit and add, as the program does whenever it is run."""
    # Few columns, so that a point costs little; they change nothing about what is written down and sent.
    df = opp.read_opportunities(
        client, fields=["name", "probability", "custom_id", "next_step"], include=(), on_invalid="ignore"
    )
    own = order["kind"] == "own"
    rows = [
        {"name": f"{order['turn']} {n}"} | ({"custom_id": f"CRM {order['turn']} {n}"} if own else {})
        for n in range(CREATIONS)
    ]
    for row_id, value in order["values"].items():
        df.loc[df["id"] == int(row_id), "probability"] = value
    return df.opp.add(rows)


def hook(owner: Any, name: str, events: Callable[[str], None]) -> None:
    """Tell of a method before and after it runs."""
    original = getattr(owner, name)

    def hooked(*arguments: Any, **options: Any) -> Any:
        events(f"{name} begun")
        result = original(*arguments, **options)
        events(f"{name} ended")
        return result

    setattr(owner, name, hooked)


def save(df: pd.DataFrame, order: dict[str, Any]) -> None:
    """Write the 30 changes; die at the ordered event."""
    send_creates.LOOK_UP_WAITS_S = (0.0,)
    executor.TWIN_WAIT_S = 0.0
    events = Events(order["point"])
    hook(Journal, "next_number", events)
    hook(OpenPlan, "_note", events)
    client = connect(order, events)
    if order["again"] and order["kind"] == "own":
        # Run anew: what the first run knew is gone.
        df = edited(connect(order), order)
    there = set(df["id"].dropna())
    report = df.opp.write_back(
        client,
        delete=[row_id for row_id in order["delete"] if row_id in there],
        allow_delete=True,
        confirm=order.get("rows"),
        custom_ids={"own": "auto", "made here": "always", "none": "never"}[order["kind"]],
        workers=order["workers"],
        journal=order["folder"],
    )
    facts = {"events": events.names, "rows": report.rows[["action", "status", "detail"]].to_dict("records")}
    Path(order["folder"], "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def main() -> None:
    df = None
    for line in sys.stdin:
        order = json.loads(line)
        if not order["again"]:
            df = edited(connect(order), order)
        child = os.fork()
        if child == 0:
            # What it raises ends the child with a trace, and the parent's parent by the end of the answers.
            save(df, order)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
