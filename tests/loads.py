"""Loads made from resource objects without a network, as `read_opportunities` makes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.api.frame_builder import Collector, join_names, lookup_frame
from opp_pandas.frame_state import Loaded, Rows, attach_loaded, freeze
from opp_pandas.load_report import LoadReport
from opp_pandas.resource import OPPORTUNITY
from opp_pandas.stages import resolve_stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOOKUPS: Mapping[str, list[tuple[int, str]]] = {
    "opportunityStage": [(1, "Discovery"), (2, "Proposal"), (3, "Closed Won"), (4, "Closed Lost")],
    "user": [(1, "Sam Lee"), (2, "Sam Lee"), (3, "Ann Hall")],
    "account": [(1, "Acme"), (2, "Überland"), (3, "<b>Initech</b>")],
}


def lookups() -> dict[str, pd.DataFrame]:
    return {
        kind: lookup_frame({"type": kind, "id": key, "attributes": {"name": name}} for key, name in pairs)
        for kind, pairs in LOOKUPS.items()
    }


def load(resources: Iterable[Mapping[str, Any]], **options: Any) -> pd.DataFrame:
    """Decode resource objects and give the frame that a user gets."""
    # Ten of the 150 custom fields stand for all of them.
    custom = [f"custom{number}" for number in range(11, 151)]
    columns = [*OPPORTUNITY.by_column, *OPPORTUNITY.relationship_by_column]
    collector = Collector(columns=[column for column in columns if column not in custom])
    collector.add_body(json.dumps({"data": list(resources)}).encode())
    collected = collector.finish()
    frame = join_names(collected.rows.frame, lookups(), ("stage", "owner", "account", "creator", "updater"))
    facts: dict[str, Any] = {
        "kind": "read",
        "baseline": Rows(freeze(frame), collected.rows.marks),
        "stages": resolve_stages(None, lookups()["opportunityStage"]),
        "lookups": lookups(),
        "timezone": None,
        "as_of": pd.Timestamp("2026-10-20T15:00Z"),
        "report": LoadReport(rows=len(frame)),
    }
    return attach_loaded(frame, Loaded(**(facts | options)))


def resource(row_id: int, relationships: Mapping[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:
    """One ordinary resource object, with other attributes where given."""
    usual = {
        "name": f"Deal {row_id}",
        "amount": 1000 * row_id,
        "amountPrecise": f"{1000 * row_id}.00",
        "currencyType": "USD",
        "probability": 50,
        "closeDate": "2026-12-10T22:00:00.000Z",
        "nextStep": "Call",
        "tags": ["q4", "renewal"],
        "createdAt": "2026-01-01T00:00:00.000Z",
        "updatedAt": "2026-09-03T11:00:01.000Z",
    }
    links = {
        "opportunityStage": {"data": {"type": "opportunityStage", "id": 1}},
        "owner": {"data": {"type": "user", "id": 3}},
        "account": {"data": {"type": "account", "id": 1}},
    }
    return {
        "type": "opportunity",
        "id": row_id,
        "attributes": usual | attributes,
        "relationships": links | dict(relationships or {}),
    }
