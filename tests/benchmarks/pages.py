"""Synthetic pages in the service's form: every attribute of a plain record, and as many custom fields as asked for."""

from __future__ import annotations

import json
import random
from typing import Any

PAGE = 1_000
WORDS = [f"text number {number}" for number in range(1_000)]
API = "https://api.example/api/v2"


def page(
    start: int,
    rows: int = PAGE,
    *,
    custom: int = 10,
    filled: int = 10,
    missing: float = 0.0,
    wrong: float = 0.0,
    links: bool = False,
) -> bytes:
    """Write one page.

    Parameters
    ----------
    start : int
        The first id.
    rows : int
        Records on the page.
    custom, filled : int
        Custom fields that are sent, and those of them that hold text in 7 of 10 records.
    missing : float
        Share of records with a null or absent relationship and attribute.
    wrong : float
        Share of records with one value of a wrong kind.
    links : bool
        Whether set relationships carry links, as JSON:API allows.
    """
    draw = random.Random(start)
    records = [record(number, draw, custom, filled) for number in range(start, start + rows)]
    if links:
        for entry in records:
            for name, relationship in entry["relationships"].items():
                if relationship.get("data"):
                    relationship["links"] = {"related": f"{API}/{name}/{relationship['data']['id']}"}
    for entry in draw.sample(records, round(missing * rows)):
        leave_out(entry, draw)
    for entry in draw.sample(records, round(wrong * rows)):
        make_odd(entry, draw)
    document = {"data": records, "links": {"first": f"{API}/opportunities", "next": f"{API}/opportunities?page=2"}}
    return json.dumps(document | {"meta": {"count": rows}}, separators=(",", ":"), ensure_ascii=False).encode()


def record(number: int, draw: random.Random, custom: int, filled: int) -> dict[str, Any]:
    """Make one resource object."""

    def instant() -> str:
        day = f"20{draw.randint(18, 26)}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"
        return f"{day}T{draw.randint(0, 23):02d}:{draw.randint(0, 59):02d}:{draw.randint(0, 59):02d}.000Z"

    def linked(kind: str, most: int) -> dict[str, Any]:
        return {"data": {"type": kind, "id": draw.randint(1, most)}}

    attributes: dict[str, Any] = {
        "amount": draw.randint(0, 10**6),
        "closeDate": instant(),
        "createdAt": instant(),
        "currencyType": "USD",
        "customId": f"0065g00000{number:08d}",
        "description": draw.choice(WORDS) * 3,
        "externalCreatedAt": draw.choice([None, instant()]),
        "mapLink": None,
        "mapNextSteps": None,
        "mapStatus": None,
        "name": f"Deal {number} {draw.choice(WORDS)}",
        "nextStep": draw.choice(WORDS),
        "opportunityType": draw.choice(["New", "Renewal"]),
        "probability": draw.randint(0, 100),
        "prospectingRepId": None,
        "sharingTeamId": None,
        "tags": draw.choice([["q4", "renewal"], ["new"], [], None]),
        "touchedAt": instant(),
        "updatedAt": instant(),
    }
    for place in range(1, custom + 1):
        attributes[f"custom{place}"] = draw.choice(WORDS) if place <= filled and draw.random() < 0.7 else None
    stage = linked("opportunityStage", 8)
    relationships = {
        "account": linked("account", 5_000),
        "creator": linked("user", 100),
        "opportunityStage": stage,
        "owner": linked("user", 100),
        "prospects": {"links": {"related": f"{API}/prospects?filter%5Bopportunities%5D%5Bid%5D={number}"}},
        "stage": stage,
        "updater": {"data": None},
    }
    return {
        "type": "opportunity",
        "id": number,
        "attributes": attributes,
        "relationships": relationships,
        "links": {"self": f"{API}/opportunities/{number}"},
    }


def leave_out(entry: dict[str, Any], draw: random.Random) -> None:
    """Make a relationship and an attribute null, or take them away."""
    name = draw.choice(["account", "owner", "opportunityStage", "creator"])
    form = draw.choice([{"data": None}, {}, None, "absent"])
    entry["relationships"][name] = form
    if form == "absent":
        del entry["relationships"][name]
    name = draw.choice(["amount", "closeDate", "nextStep", "probability", "tags", "custom1"])
    entry["attributes"][name] = None
    if draw.random() < 0.5:
        del entry["attributes"][name]


def make_odd(entry: dict[str, Any], draw: random.Random) -> None:
    """Put one value into a record that does not fit its column as it stands."""
    attributes = entry["attributes"]
    name, value = draw.choice(
        [
            ("amount", 5000.5),
            ("amount", 5000.0),
            ("amount", "5000"),
            ("custom1", 17),
            ("nextStep", True),
            ("closeDate", "2026-12-10"),
            ("closeDate", "2026-12-10T22:00:00.000+05:30"),
            ("tags", ["a", None]),
            ("id", str(entry["id"])),
            ("owner", {"data": {"type": "plugin", "id": 3}}),
        ]
    )
    (entry if name == "id" else entry["relationships"] if name == "owner" else attributes)[name] = value
