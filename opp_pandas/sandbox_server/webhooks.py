"""Webhooks: what changes in the store is posted to the addresses that asked for it, signed and in order."""

from __future__ import annotations

import hashlib
import heapq
import hmac
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import urllib3

from opp_pandas.sandbox_server.instants import instant_text, parse_instant
from opp_pandas.sandbox_server.store import TABLES, Change, Record, Store, Table, dump_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opp_pandas.sandbox_server.instants import Clock
    from opp_pandas.sandbox_server.settings import Switches

SIGNATURE = "Outreach-Webhook-Signature"
ATTEMPTS = 4
_TIMEOUT_S = 5.0
_LONGEST_QUEUE = 100_000
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


def is_local(target: SplitResult) -> bool:
    """Whether an address is one of this machine, over plain http."""
    return target.scheme == "http" and target.hostname in _LOOPBACK_NAMES and target.username is None


def check_target(url: str) -> None:
    """Refuse a receiver elsewhere (ValueError): the sandbox calls nobody outside this machine."""
    target = urlsplit(url)
    if not is_local(target) or target.port == 0:
        raise ValueError("must be an http address of this machine")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one webhook; status 0: the receiver was never reached."""

    webhook: int
    event: str
    attempts: int = 0
    status: int = 0


class Webhooks:
    """Posts changes to the webhooks of a store, one after the other, from a thread of its own.

    As the service does, it waits five seconds for an answer, tries four times
    where none came, and takes any status for a receipt.
    """

    def __init__(self, store: Store, switches: Switches, clock: Clock) -> None:
        self._store, self._switches, self._clock = store, switches, clock
        self.deliveries: deque[Delivery] = deque(maxlen=_LONGEST_QUEUE)
        self._queue: list[tuple[float, int, Delivery, Mapping[str, Any], bytes]] = []
        self._number = 0
        self._last: datetime | None = None
        self._changed = threading.Condition()
        self._busy = self._closed = False
        self._worker: threading.Thread | None = None
        store.listener = self._tell

    def close(self) -> None:
        """Deliver nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is on its way; tell whether that came to pass."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._queue or self._busy), timeout_s)

    def _tell(self, changes: Iterable[Change]) -> None:
        """Queue what happened, in the order in which it happened."""
        table = TABLES["webhook"]
        hooks = [(record.id, record.attributes()) for record in self._store.select(table, "1", (), "id", 1_000)]
        hooks = [(key, hook) for key, hook in hooks if hook.get("active") is not False]
        if not hooks or not self._switches.deliver_webhooks:
            return
        with self._changed:
            for change in changes:
                kind = change.table.resource.type
                wanted = [
                    (key, hook)
                    for key, hook in hooks
                    if hook["resource"] in (kind, "*")
                    and hook["action"] in (change.action, "*")
                    and change.table != table
                ]
                bodies = {version: self._body(change, version) for version in {_version(hook) for _, hook in wanted}}
                for key, hook in wanted:
                    delivery = Delivery(key, f"{kind}.{change.action}")
                    self._add(0.0, delivery, hook, bodies[_version(hook)])
            if self._queue and self._worker is None:
                self._worker = threading.Thread(target=self._deliver, name="opp_pandas webhooks", daemon=True)
                self._worker.start()

    def _add(self, due: float, delivery: Delivery, hook: Mapping[str, Any], body: bytes) -> None:
        self._number += 1
        if len(self._queue) >= _LONGEST_QUEUE:
            self.deliveries.append(heapq.heappop(self._queue)[2])
        heapq.heappush(self._queue, (due, self._number, delivery, hook, body))
        self._changed.notify_all()

    def _body(self, change: Change, version: int) -> bytes:
        """Write one event."""
        record = change.before if change.after is None else change.after
        if record is None:
            raise ValueError("a change has a record before or after it")
        own, old = self._members(change.table, record), {}
        if change.action == "updated" and change.before is not None:
            old = self._members(change.table, change.before)
        # Of an update what changed, of a new or deleted record all there is.
        names = [name for name, value in own.items() if value != old.get(name)]
        document = {"data": self._resource(change.table, record.id, own, names)}
        if old and version >= 2:
            document["beforeUpdate"] = self._resource(change.table, record.id, old, names)
        now, updated = self._clock(), own.get("updatedAt")
        if updated is not None and change.action != "destroyed":
            now = max(now, parse_instant(updated))
        self._last = now = now if self._last is None else max(now, self._last + timedelta(milliseconds=1))
        event = f"{change.table.resource.type}.{change.action}"
        return dump_json(document | {"meta": {"deliveredAt": instant_text(now), "eventName": event}}).encode()

    def _members(self, table: Table, record: Record) -> dict[str, Any]:
        """Return a record's attributes, and the ids of its relationships to one, by name."""
        links = dict(zip(table.links, record.links, strict=True))
        found = record.attributes() | {name: links[column] for name, column in table.link_columns.items()}
        if self._switches.generation == "current":
            return found
        entries = table.resource.by_name | table.resource.relationship_by_name
        return {name: value for name, value in found.items() if name in entries and entries[name].documented}

    def _resource(self, table: Table, key: int, members: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        def written(number: int) -> int | str:
            return str(number) if self._switches.ids_as_text else number

        related: dict[str, Any] = {}
        for name in names:
            if name in table.link_columns:
                number, kind = members.get(name), table.resource.relationship_by_name[name].type
                related[name] = {"data": None if number is None else {"type": kind, "id": written(number)}}
        return {
            "type": table.resource.type,
            "id": written(key),
            "attributes": {name: members.get(name) for name in names if name not in related},
            "relationships": related,
        }

    # --- on the way -----------------------------------------------------------

    def _deliver(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not (self._queue and self._queue[0][0] <= time.monotonic()):
                    self._changed.wait(None if not self._queue else max(0.0, self._queue[0][0] - time.monotonic()))
                if self._closed:
                    return
                _, _, delivery, hook, body = heapq.heappop(self._queue)
                self._busy = True
            status = _post(hook, body)
            tried = replace(delivery, attempts=delivery.attempts + 1, status=status)
            with self._changed:
                if status == 0 and tried.attempts < ATTEMPTS:
                    self._add(time.monotonic() + self._switches.webhook_retry_s, tried, hook, body)
                else:
                    self.deliveries.append(tried)
                self._busy = False
                self._changed.notify_all()


def _version(hook: Mapping[str, Any]) -> int:
    return int(hook.get("payloadVersion") or 1)


def _post(hook: Mapping[str, Any], body: bytes) -> int:
    """Send one body; give the status, 0 where no answer came."""
    headers = {"Content-Type": "application/json", "Outreach-Webhook-ID": str(uuid.uuid4())}
    if hook.get("secret"):
        headers[SIGNATURE] = hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
    try:
        return urllib3.request(
            "POST", hook["url"], body=body, headers=headers, timeout=_TIMEOUT_S, retries=False
        ).status
    except (urllib3.exceptions.HTTPError, ValueError):
        return 0
