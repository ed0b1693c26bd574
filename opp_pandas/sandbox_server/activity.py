"""What sellers did on the sandbox's deals: calls, mailings, tasks, meetings, and the events that tell of them.

Activity goes before outcomes. Deals that will be won see more meetings, and more
of everything as they close; most deals that will be lost fall silent some weeks
before, while some are worked on to the end and some are won with little ado. So
activity says more of a deal than its ``p`` in the truth, which knows the stage only.

It is drawn for each deal by itself, when a resource of activity is first asked
for: whoever does not ask pays nothing, and no other value changes. From then on
it follows the clock, by whole hours.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.sandbox_server.instants import instant_text, parse_instant
from opp_pandas.sandbox_server.store import TABLES, NewRecord, Store

if TYPE_CHECKING:
    from opp_pandas.sandbox_server.instants import Clock
    from opp_pandas.sandbox_server.store import Record

DAY_S, HOUR_S = 86_400.0, 3_600.0
_KINDS = ("mailing", "call", "task", "meeting")
_SHARES = {True: (0.41, 0.24, 0.11, 0.24), False: (0.49, 0.26, 0.12, 0.13)}
"""How often each kind is what happens on deals that will be won, and that will be lost."""
_PER_DAY = 0.25
_MOST = 990
"""Touches of one deal: its number times 1,000 and theirs make the id of a record."""
_LEADS = {"meeting": (2.0, 14.0), "task": (1.0, 7.0), "mailing": (0.0, 0.1)}
"""How long before its moment a touch is put down [days]; calls are put down afterwards."""
_NEVER = {"meeting": 0.08, "task": 0.06}
_NEVER_DONE = np.inf


@dataclass(frozen=True)
class _Touch:
    """Something that a seller does, from the moment when it is put down; moments are seconds since 1970."""

    kind: str
    key: int
    made: float
    due: float
    done: float
    pick: int

    @property
    def bounced(self) -> bool:
        """Whether a mailing came back."""
        return self.kind == "mailing" and self.pick % 25 == 0

    @property
    def opened(self) -> float:
        """When a mailing was opened; infinite where it was not, and for everything else."""
        is_opened = self.kind == "mailing" and not self.bounced and self.pick % 2 == 1
        return self.done + self.pick * 90.0 if is_opened else _NEVER_DONE

    def changes_between(self, since: float, until: float) -> bool:
        """Whether its records change in a span."""
        moments = [moment for moment in (self.made, self.done, self.opened) if moment <= until]
        return self.made <= until and max(moments) > since


class Activity:
    """The activity on the deals of a store, up to a clock's hour.

    Same seed, same deals: same activity, in however many steps the time is taken.
    """

    def __init__(self, store: Store, seed: int, clock: Clock) -> None:
        self._store, self._seed, self._clock = store, seed, clock
        self._lock = threading.Lock()
        self._touches: dict[int, list[_Touch]] = {}
        self._until: float | None = None

    def catch_up(self) -> None:
        """Store what was put down and done since the last time."""
        now = self._clock().timestamp() // HOUR_S * HOUR_S
        with self._lock:
            if self._until is not None and now <= self._until:
                return
            with self._store.transaction():
                since = self._store.read_activity_until() if self._until is None else self._until
                if now > since:
                    self._store_between(since, now)
                    self._store.write_activity_until(now)
            self._until = max(now, since)

    def _store_between(self, since: float, now: float) -> None:
        deals = TABLES["opportunity"]
        owner, account = (deals.links.index(name) for name in ("owner_id", "account_id"))
        truth = {key: (outcome == "won", day) for key, outcome, day, *_ in self._store.read_truth()}
        new: dict[str, list[NewRecord]] = {"mailing": [], "call": [], "task": [], "event": []}
        for deal in self._store.select(deals, "1", (), "id", -1):
            if deal.id not in truth:
                continue
            if deal.id not in self._touches:
                self._touches[deal.id] = list(self._draw(deal, *truth[deal.id]))
            links = {
                "opportunity_id": deal.id, "prospect_id": deal.links[account], "user_id": deal.links[owner],
                "owner_id": deal.links[owner],
            }  # fmt: skip
            for touch in self._touches[deal.id]:
                if not touch.changes_between(since, now):
                    continue
                for kind, record in _records(touch, links, now):
                    new[kind].append(record)
        for kind, records in new.items():
            table = TABLES[kind]
            linked = [
                NewRecord(record.attributes, {name: record.links.get(name) for name in table.links}, id=record.id)
                for record in records
            ]
            self._store.insert_many(table, linked, replace=True)

    def _draw(self, deal: Record, won: bool, closing_day: str) -> Iterator[_Touch]:
        """Draw what happens on a deal from its creation to the day of its closing."""
        random = np.random.default_rng([self._seed, 3, deal.id])
        begin = parse_instant(deal.attributes()["createdAt"]).timestamp()
        end = parse_instant(closing_day).timestamp()
        zeal, faint = float(np.exp(random.normal(0.0, 0.4))), float(random.random())
        life = end - begin
        if life <= 0:
            return
        most = 2.0 * _PER_DAY * zeal
        moments = np.sort(begin + life * random.random(min(random.poisson(most * life / DAY_S), _MOST)))
        left = (end - moments) / DAY_S
        if won:
            rate = (1.0 + 0.8 * np.exp(-left / 30.0)) * (0.4 if faint < 0.15 else 1.0)
        else:
            rate = np.full(len(moments), 0.95) if faint < 0.3 else 0.2 + 0.75 * (1.0 - np.exp(-left / 30.0))
        kept = moments[random.random(len(moments)) * 2.0 < rate]
        kinds = random.choice(len(_KINDS), len(kept), p=_SHARES[won])
        spans, odds, picks = random.random(len(kept)), random.random(len(kept)), random.integers(0, 1_000, len(kept))
        for number, (at, kind, span, odd, pick) in enumerate(
            zip(kept.tolist(), kinds.tolist(), spans.tolist(), odds.tolist(), picks.tolist(), strict=True), 1
        ):
            name = _KINDS[kind]
            first, last = _LEADS.get(name, (0.0, 0.0))
            made = max(at - (first + span * (last - first)) * DAY_S, begin)
            if name == "call":
                # A few calls are put down days later.
                made = at + (span * 4 * DAY_S if odd < 0.05 else 600.0 * span)
            done = _NEVER_DONE if odd < _NEVER.get(name, 0.0) else at
            yield _Touch(name, deal.id * 1_000 + number, made, at, done, pick)


def _text(seconds: float) -> str:
    return instant_text(datetime.fromtimestamp(seconds // 1, UTC))


def _records(touch: _Touch, links: dict[str, int | None], now: float) -> Iterator[tuple[str, NewRecord]]:
    """Return the records of a touch as they stand at a moment, with their types."""
    pick, done, made = touch.pick, touch.done <= now, _text(touch.made)
    changed = _text(touch.done) if done and touch.done > touch.made else made
    stamps = {"createdAt": made, "updatedAt": changed}
    happened, due = (_text(touch.done) if done else None), _text(touch.due)
    if touch.kind == "call":
        answered = pick % 5 < 3
        call: dict[str, Any] = {
            "direction": "inbound" if pick % 7 == 0 else "outbound", "state": "completed",
            "outcome": "Answered" if answered else "Not Answered", "dialedAt": due,
            "answeredAt": due if answered else None, "completedAt": _text(touch.due + 60 + pick),
        }  # fmt: skip
        yield "call", NewRecord(call | stamps, links, id=touch.key)
    elif touch.kind == "mailing":
        bounced, opened = done and touch.bounced, touch.opened
        mailing: dict[str, Any] = {
            "mailingType": "single", "subject": f"Re: next steps {pick}", "scheduledAt": due,
            "state": "bounced" if bounced else "delivered" if done else "scheduled",
            "deliveredAt": happened, "bouncedAt": happened if bounced else None,
            "openedAt": _text(opened) if opened <= now else None,
        }  # fmt: skip
        yield "mailing", NewRecord(mailing | stamps, links, id=touch.key)
        if opened <= now:
            event = {"name": "mailing_opened", "eventAt": _text(opened), "createdAt": _text(opened)}
            yield "event", NewRecord(event, links | {"mailing_id": touch.key}, id=touch.key)
    elif touch.kind == "meeting" and pick % 5 == 0:
        # Some meetings stand in the calendar only; one that was cancelled leaves it.
        if done or touch.due > now:
            yield "event", NewRecord({"name": "meeting", "eventAt": due, "createdAt": made}, links, id=touch.key)
    else:
        task: dict[str, Any] = {
            "action": "in_person" if touch.kind == "meeting" else ("action_item", "email", "call")[pick % 3],
            "taskType": "manual", "state": "complete" if done else "incomplete", "completed": done,
            "completedAt": happened, "dueAt": due,
        }  # fmt: skip
        yield "task", NewRecord(task | stamps, links, id=touch.key)
