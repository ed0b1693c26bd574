"""From the model's draws to the records of opportunities: what sellers type, and what systems add."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.sandbox_server import customfields, vocabulary
from opp_pandas.sandbox_server.store import NewRecord

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

DAY_S = 86_400
ZONE = "America/New_York"
"""Where the organisation's calendar days begin."""

_SHARES = {
    "no_amount": 0.02, "no_owner": 0.01, "no_account": 0.01, "no_probability": 0.02,
    "trashed": 0.01, "health": 0.03, "locked": 0.02, "kept": 0.05, "connected": 0.4, "outside": 0.5, "planned": 0.06,
    "cents": 0.35, "budget": 0.5, "proposed": 0.3, "phoned": 0.15, "partnered": 0.1, "risky": 0.08, "old_key": 0.03,
}  # fmt: skip
_NO_CLOSE_DATE_SHARE = 0.04
_ENOUGH_FOR_ODDITIES = 40


@dataclass(frozen=True)
class Deals:
    """What the model drew, one entry per deal; moments are seconds since 1970.

    ``stage`` counts the open stages from 0: where the deal stands, or stood
    when it closed. ``moved`` is when it came there, or closed. ``stage_days``
    is how long such a deal usually stays in a stage [days].
    """

    owner: Integers
    account: Integers
    kind: Integers
    source: Integers
    champion: Flags
    amount: Floats
    created: Floats
    closing: Floats
    won: Flags
    closed: Flags
    stage: Integers
    stages: int
    moved: Floats
    forgotten: Flags
    stage_days: Floats
    p_start: Floats
    p: Floats


@dataclass(frozen=True)
class Columns:
    """The texts and numbers of all deals, ready to be put into records row by row."""

    deals: Deals
    amount_cents: list[int]
    probability: list[int]
    close_date: list[str]
    created_at: list[str]
    touched_at: list[str]
    updated_at: list[str]
    outside_at: list[str]
    start_day: list[str]
    segment: list[str]
    seats: list[int]
    discount: list[int]
    pick: list[int]
    flags: dict[str, list[bool]]


def instant_texts(seconds: Floats) -> list[str]:
    """Write moments as the service does."""
    moments = np.floor(seconds).astype("datetime64[s]").astype("datetime64[ms]")
    return [f"{text}Z" for text in np.datetime_as_string(moments)]


def local_midnight(seconds: Floats) -> Floats:
    """Return the local midnight that begins the day of each moment."""
    moments = pd.DatetimeIndex(np.floor(seconds).astype("datetime64[s]"), tz="UTC").tz_convert(ZONE)
    return np.asarray(moments.normalize().as_unit("s").asi8, dtype=np.float64)


def draw_columns(
    random: np.random.Generator, deals: Deals, optimism: Floats, employees: Integers, now: float
) -> Columns:
    """Draw what sellers and systems wrote about each deal, looked at from the moment `now` [s since 1970].

    `optimism` is how much each deal's seller overstates, in log odds; `employees` the size of its customer.
    """
    n = len(deals.owner)
    waited = now - deals.moved
    touched = deals.moved + waited * np.where(deals.forgotten | deals.closed, 0.02, random.random(n) ** 0.8)
    updated = np.minimum(touched + random.integers(1, 5_000, n), now)
    odds = np.log(deals.p / (1 - deals.p))
    said = 1 / (1 + np.exp(-(0.8 * odds + optimism + random.normal(0, 0.5, n))))
    percent = np.clip(np.round(said * 20) * 5, 5, 95)
    percent = np.where(deals.closed, np.where(deals.won, 100, 0), percent)
    # The seller counts the stages that are left from the last look at the deal, and hopes.
    hoped = touched + (deals.stages - deals.stage) * deals.stage_days * DAY_S * np.exp(random.normal(-0.4, 0.4, n))
    close = local_midnight(np.where(deals.closed, deals.closing, hoped))
    flags = {name: _some(random, np.full(n, True), share) for name, share in _SHARES.items()}
    flags["no_close_date"] = _some(random, ~deals.closed, _NO_CLOSE_DATE_SHARE)
    whole = np.round(deals.amount, -1) * 100
    cents = np.where(flags["cents"], np.round(deals.amount * 100), whole)
    size = np.digitize(employees, [100, 1_000])
    return Columns(
        deals,
        cents.astype(np.int64).tolist(),
        percent.astype(np.int64).tolist(),
        instant_texts(close),
        instant_texts(deals.created),
        instant_texts(touched),
        instant_texts(updated),
        instant_texts(np.maximum(deals.created - random.uniform(0, 3, n) * DAY_S, 0)),
        [text[:10] for text in instant_texts(close + 14 * DAY_S)],
        [("SMB", "Mid-Market", "Enterprise")[place] for place in size],
        np.maximum(5, deals.amount / 120).astype(np.int64).tolist(),
        (random.integers(0, 7, n) * 5).tolist(),
        random.integers(0, 1_000_000, n).tolist(),
        {name: flag.tolist() for name, flag in flags.items()},
    )


def opportunity_records(drawn: Columns, stage_ids: Integers, teams: Integers) -> Iterator[NewRecord]:
    """Return the record of each deal, in order; `teams` has the place of each deal's team among the regions."""
    flags, deals = drawn.flags, drawn.deals
    owners, accounts = (deals.owner + 1).tolist(), (deals.account + 1).tolist()
    for place, stage_id in enumerate(stage_ids.tolist()):
        owner, pick, team = owners[place], drawn.pick[place], int(teams[place])
        links = {
            "stage_id": stage_id,
            "owner_id": None if flags["no_owner"][place] else owner,
            "account_id": None if flags["no_account"][place] else accounts[place],
            "creator_id": owner if pick % 3 else 1,
            "updater_id": owner if pick % 5 else None,
            "external_creator_id": owner if flags["outside"][place] else None,
            "territory_id": team + 1 if pick % 12 else None,
        }
        lists = {"assignedTeams": [team + 1], "assignedUsers": None if pick % 4 else [owner]}
        attributes = _standard(drawn, place) | _custom(drawn, place, customfields.REGIONS[team])
        connections: list[dict[str, Any]] = []
        if flags["connected"][place]:
            connections = [{"id": f"006{pick:012d}", "type": "Opportunity", "service": "crm"}]
        yield NewRecord(attributes, links, lists, not flags["locked"][place], not flags["kept"][place], connections)


def _standard(drawn: Columns, place: int) -> dict[str, Any]:
    deals, flags, pick = drawn.deals, drawn.flags, drawn.pick[place]
    cents = drawn.amount_cents[place]
    kind, closed, won = vocabulary.TYPES[deals.kind[place]], deals.closed[place], deals.won[place]
    updated = drawn.updated_at[place]
    attributes: dict[str, Any] = {
        "name": f"{_of(vocabulary.COMPANY_FIRST, pick)} {kind.lower()} {drawn.created_at[place][:4]}-{place + 1}",
        "currencyType": "USD",
        "opportunityType": kind,
        "tags": _tags(pick),
        "leadSource": vocabulary.SOURCES[deals.source[place]],
        "forecastCategory": "Closed" if closed else category(drawn.probability[place]),
        "createdAt": drawn.created_at[place],
        "touchedAt": drawn.touched_at[place],
        "updatedAt": updated,
        "recordType": "Standard",
    }
    if not flags["no_amount"][place]:
        # Whole units round half up, as `resolve_amounts` has it.
        attributes["amount"] = (cents + 50) // 100
        attributes["amountPrecise"] = f"{cents // 100}.{cents % 100:02d}"
    if not flags["no_probability"][place]:
        attributes["probability"] = drawn.probability[place]
    if not flags["no_close_date"][place]:
        attributes["closeDate"] = drawn.close_date[place]
    if not closed:
        attributes["nextStep"] = _of(vocabulary.NEXT_STEPS, pick // 7)
    elif not won:
        attributes["lostReason"] = _of(vocabulary.LOST_REASONS, pick // 11)
    if pick % 4 == 0:
        attributes["description"] = _of(vocabulary.DESCRIPTIONS, pick // 4)
    if flags["outside"][place]:
        attributes["externalCreatedAt"] = drawn.outside_at[place]
        attributes["externalUpdatedAt"] = updated
        attributes["customId"] = f"CRM-{place + 1:07d}"
    if flags["planned"][place]:
        attributes["mapLink"] = f"https://plans.example.com/{pick}"
        attributes["mapStatus"] = ("On track", "At risk")[pick % 2]
        attributes["mapNextSteps"] = _of(vocabulary.NEXT_STEPS, pick // 13)
    if pick % 9 == 0:
        attributes["prospectingRepId"] = str(pick % 5 + 1)
    if pick % 10 == 0:
        attributes["sharingTeamId"] = str(pick % 3 + 1)
    if flags["health"][place]:
        attributes["healthCategory"] = ("GREEN", "YELLOW", "RED")[pick % 3]
        attributes["healthScore"] = pick % 100
        attributes["mapNumberOfOverdueTasks"] = pick % 9
    if flags["trashed"][place]:
        attributes["trashedAt"] = updated
    return attributes


def _custom(drawn: Columns, place: int, region: str) -> dict[str, Any]:
    flags, pick, deals = drawn.flags, drawn.pick[place], drawn.deals
    cents = drawn.amount_cents[place]
    late = deals.stage[place] >= deals.stages // 2
    custom: dict[str, Any] = {
        "custom1": region,
        "custom2": drawn.segment[place],
        "custom3": ", ".join(_several(customfields.PRODUCTS, pick)),
        "custom4": _of(customfields.COMPETITORS, pick // 3) if late else "",
        "custom5": "true" if deals.champion[place] else "false",
        "custom6": "true" if flags["budget"][place] else "false",
        "custom7": str(drawn.seats[place]),
        "custom8": str(drawn.discount[place]),
        "custom9": f"{cents * 8 // 1000}.{cents % 100:02d}",
        "custom12": ("12", "24", "36")[pick % 3],
        "custom18": _of(customfields.REVIEWS, pick // 5),
    }
    if late:
        custom["custom10"] = drawn.start_day[place]
        custom["custom11"] = drawn.touched_at[place][:19]
        custom["custom20"] = ", ".join(_several(customfields.CRITERIA, pick // 17))
    if flags["proposed"][place]:
        custom["custom14"] = f"https://proposals.example.com/{pick}"
        custom["custom19"] = f"{pick % 40 * 250}"
    if flags["phoned"][place]:
        custom["custom13"] = f"+1 212 555 {pick % 10_000:04d}"
        custom["custom15"] = f"{_of(vocabulary.COMPANY_SECOND, pick)} Holding"
    if flags["partnered"][place]:
        custom["custom16"] = _of(vocabulary.PARTNERS, pick)
    if flags["risky"][place]:
        custom["custom17"] = "Budget holder leaves\r\nin spring"
    if flags["old_key"][place]:
        custom["custom87"] = f"{pick:08d}"
    return custom


def _some(random: np.random.Generator, among: Flags, share: float) -> Flags:
    """Choose this share of the deals in `among`; at least one, unless there are only a few."""
    places = np.flatnonzero(among)
    number = max(round(share * len(places)), 1 if len(places) >= _ENOUGH_FOR_ODDITIES else 0)
    chosen = np.zeros(len(among), dtype=np.bool_)
    chosen[random.permutation(places)[:number]] = True
    return chosen


def category(percent: int) -> str:
    """Return the category that a seller's percentage puts an open deal in."""
    return "Commit" if percent >= 75 else "Best Case" if percent >= 45 else "Pipeline"


def _tags(pick: int) -> list[str]:
    return [vocabulary.TAGS[(pick // 3 + step) % len(vocabulary.TAGS)] for step in range(pick % 3)]


def _of(options: Sequence[str], number: int) -> str:
    return options[number % len(options)]


def _several(options: Sequence[str], number: int) -> list[str]:
    """Return one to three of the options, each once."""
    return [options[(number + step * 2) % len(options)] for step in range(number % 2 + 1)]
