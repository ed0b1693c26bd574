"""The sandbox's organisation as time goes on: deals move, slip, close and come along their truth.

Every open deal has an outcome and a closing day in the truth. From the first
look on, its way there is laid out: at which moments it goes on to the next
stage, when its seller changes the amount or pushes the close date, and when it
is won or lost. A lost deal goes on through some stages first; the chance of
each is what ``p`` says, so that the ``p`` of a later stage, which the truth
then holds, is the true chance of winning of deals that got that far. New deals
come as often as before, like those that are there.
"""

from __future__ import annotations

import heapq
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from opp_pandas.sandbox_server import vocabulary
from opp_pandas.sandbox_server.instants import Clock, instant_text, parse_instant
from opp_pandas.sandbox_server.seed_data import DAY_S, category, local_midnight
from opp_pandas.sandbox_server.store import TABLES, NewRecord, Record, Store

_DEALS, _STAGES = TABLES["opportunity"], TABLES["opportunityStage"]
_DAYS_BETWEEN_PUSHES = 45.0
_AMOUNT_CHANGES = 0.3
_LONGEST = 10_000_000
_OF_TEMPLATE = {
    "currencyType", "opportunityType", "leadSource", "recordType", "custom1", "custom2", "custom3", "custom12",
}  # fmt: skip
_ARRIVAL, _STAGE, _AMOUNT, _PUSH, _CLOSE = range(5)


class MovableClock:
    """A clock that runs like another one, and can be put forward."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        """Show the moment."""
        return self._clock() + self._ahead

    def put_forward(self, by: timedelta) -> None:
        """Put it forward."""
        self._ahead += by


class Evolution:
    """What becomes of the deals of a store.

    Same seed, same store, same moment of the first step: same events, in however many steps the time is taken.
    """

    def __init__(self, store: Store, seed: int) -> None:
        self._store, self._seed = store, seed
        self._events: list[tuple[float, int, int, int, Any]] = []
        self._number = 0
        self._planned = False
        self._lock = threading.Lock()

    def run(self, start: datetime, end: datetime) -> int:
        """Let everything happen after `start`, where the last run ended, until `end`; give the number of changes."""
        with self._lock, self._store.transaction():
            if not self._planned:
                self._plan(start.timestamp())
                self._planned = True
            happened = 0
            until = end.timestamp()
            while self._events and self._events[0][0] <= until:
                at, _, kind, key, data = heapq.heappop(self._events)
                happened += self._happen(at, kind, key, data)
            return happened

    # --- planning -----------------------------------------------------------

    def _plan(self, now: float) -> None:
        """Lay out the ways of all open deals, and the arrival of the next one."""
        stages = self._store.select(_STAGES, "1", (), '"order"', _LONGEST)
        closed = {stage.id for stage in stages if stage.attributes().get("isClosed")}
        self._open = [stage.id for stage in stages if stage.id not in closed]
        deals = self._store.select(_DEALS, "1", (), "id", _LONGEST)
        truth = {row[0]: row for row in self._store.read_truth()}
        self._link = _DEALS.links.index("stage_id")
        self._ends = self._closing_stages(stages, deals, truth, closed)
        self._templates = [deal.id for deal in deals if deal.id in truth]
        if not self._open or not all(self._ends.values()) or not self._templates:
            return
        created = []
        for deal in deals:
            if deal.id not in truth:
                continue
            _, outcome, day, p, _ = truth[deal.id]
            attributes = deal.attributes()
            created.append(parse_instant(attributes["createdAt"]).timestamp())
            stage = deal.links[self._link]
            if stage in self._open and not attributes.get("trashedAt"):
                # The truth names a day; the hour is the middle of the day, or soon if that is past.
                closing = max(parse_instant(day).timestamp() + 0.7 * DAY_S, now + 0.1 * DAY_S)
                self._plan_deal(deal.id, self._open.index(stage), outcome, p, now, closing)
        recent = sum(at > now - 180 * DAY_S for at in created)
        self._gap_s = 180 * DAY_S / max(recent, 1)
        self._arrivals = np.random.default_rng([self._seed, 1])
        self._add(now + self._arrivals.exponential(self._gap_s), _ARRIVAL, 0, None)

    def _closing_stages(
        self, stages: list[Record], deals: list[Record], truth: dict[int, Any], closed: set[int]
    ) -> dict[str, list[int]]:
        """Find which closed stages mean won and lost: from the outcomes of closed deals, else from their names."""
        found: dict[str, list[int]] = {"won": [], "lost": []}
        for stage in stages:
            if stage.id not in closed:
                continue
            outcomes = [truth[deal.id][1] for deal in deals if deal.id in truth and deal.links[self._link] == stage.id]
            won = outcomes.count("won") * 2 > len(outcomes) if outcomes else "won" in str(stage.attributes()).lower()
            found["won" if won else "lost"].append(stage.id)
        return found

    def _plan_deal(self, key: int, stage: int, outcome: str, p: float, start: float, closing: float) -> None:
        random = np.random.default_rng([self._seed, 2, key])
        left = len(self._open) - stage
        passing = p ** (1.0 / left)
        steps = left - 1
        if outcome == "lost":
            # The stage at which a lost deal stops, given that it is lost.
            chances = passing ** np.arange(left) * (1.0 - passing)
            steps = int(random.choice(left, p=chances / chances.sum()))
        moments = np.sort(random.uniform(start, closing, steps))
        for step, at in enumerate(moments.tolist(), 1):
            self._add(at, _STAGE, key, (stage + step, passing ** (left - step), random.normal(0.4, 0.5)))
        for at in random.uniform(
            start, closing, random.poisson((closing - start) / DAY_S / _DAYS_BETWEEN_PUSHES)
        ).tolist():
            self._add(at, _PUSH, key, float(random.uniform(7, 60)))
        if random.random() < _AMOUNT_CHANGES:
            self._add(float(random.uniform(start, closing)), _AMOUNT, key, float(random.uniform(0.75, 1.3)))
        end = int(random.choice(self._ends[outcome]))
        self._add(closing, _CLOSE, key, (outcome, end, int(random.integers(len(vocabulary.LOST_REASONS)))))

    def _add(self, at: float, kind: int, key: int, data: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, kind, key, data))

    # --- happening ----------------------------------------------------------

    def _happen(self, at: float, kind: int, key: int, data: Any) -> int:
        if kind == _ARRIVAL:
            self._arrive(at)
            return 1
        record = self._store.get(_DEALS, key)
        # A deal that somebody deleted, threw away or closed through the API goes its own way.
        if record is None or record.links[self._link] not in self._open:
            return 0
        attributes = record.attributes()
        if attributes.get("trashedAt"):
            return 0
        changes: dict[str, Any] = {}
        links: dict[str, int | None] = {}
        if kind == _STAGE:
            stage, p, optimism = data
            if record.links[self._link] in self._open[stage:]:
                return 0
            links["stage_id"] = self._open[stage]
            changes["probability"] = _said(p, optimism)
            changes["forecastCategory"] = category(changes["probability"])
            self._store.write_truth_of(key, p)
        elif kind == _AMOUNT:
            if attributes.get("amount") is None:
                return 0
            changes["amount"] = round(attributes["amount"] * data)
            changes["amountPrecise"] = f"{changes['amount']}.00"
        elif kind == _PUSH:
            if attributes.get("closeDate") is None:
                return 0
            base = max(parse_instant(attributes["closeDate"]).timestamp(), at)
            changes["closeDate"] = _midnight(base + data * DAY_S)
        else:
            outcome, end, reason = data
            links["stage_id"] = end
            changes |= {
                "probability": 100 if outcome == "won" else 0,
                "forecastCategory": "Closed",
                "closeDate": _midnight(at),
                "nextStep": None,
                "lostReason": vocabulary.LOST_REASONS[reason] if outcome == "lost" else None,
            }
        moment = instant_text(datetime.fromtimestamp(at, UTC))
        changes |= {"touchedAt": moment, "updatedAt": moment}
        self._store.update(_DEALS, record, changes, links)
        return 1

    def _arrive(self, at: float) -> None:
        """Make a deal like one of those that are there, with an outcome and a way of its own."""
        random = self._arrivals
        template = self._store.get(_DEALS, int(random.choice(self._templates)))
        self._add(at + random.exponential(self._gap_s), _ARRIVAL, 0, None)
        p, outcome_draw, optimism = float(random.uniform(0.08, 0.45)), random.random(), random.normal(0.4, 0.5)
        days = float(np.exp(random.normal(-0.18, 0.6, len(self._open))).sum() * 120 / len(self._open))
        amount = round(float(np.exp(random.normal(9.5, 0.9))), -1)
        if template is None:
            return
        attributes = {name: value for name, value in template.attributes().items() if name in _OF_TEMPLATE}
        moment = instant_text(datetime.fromtimestamp(at, UTC))
        percent = _said(p, optimism)
        company = vocabulary.COMPANY_FIRST[int(amount) // 10 % len(vocabulary.COMPANY_FIRST)]
        attributes |= {
            "name": f"{company} {moment[:4]}-{self._number}",
            "amount": int(amount),
            "amountPrecise": f"{int(amount)}.00",
            "probability": percent,
            "forecastCategory": category(percent),
            "closeDate": _midnight(at + days * 0.9 * DAY_S),
            "nextStep": vocabulary.NEXT_STEPS[self._number % len(vocabulary.NEXT_STEPS)],
            "tags": [],
            "createdAt": moment,
            "touchedAt": moment,
            "updatedAt": moment,
        }
        links = dict(zip(_DEALS.links, template.links, strict=True)) | {"stage_id": self._open[0]}
        key = self._store.insert(_DEALS, NewRecord(attributes, links))
        outcome, closing = "won" if outcome_draw < p else "lost", at + days * DAY_S
        day = datetime.fromtimestamp(closing, UTC).date().isoformat()
        self._store.write_truth([(key, outcome, day, p, p)])
        self._plan_deal(key, 0, outcome, p, at, closing)


def _said(p: float, optimism: float) -> int:
    """Return what a seller says of a chance: shrunk to the middle, raised, rounded to five percent."""
    odds = 0.8 * np.log(p / (1 - p)) + optimism if p < 1 else 5.0
    return int(np.clip(round(20 / (1 + np.exp(-odds))) * 5, 5, 95))


def _midnight(seconds: float) -> str:
    return instant_text(datetime.fromtimestamp(float(local_midnight(np.array([seconds]))[0]), UTC))
