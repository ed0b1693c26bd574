"""Webhook deliveries of the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.history.cells import PRESENCE
from opp_pandas.history.event_import import EVENT_COLUMNS, ImportedEvents
from opp_pandas.history.importers.reading import EARLIEST, LATEST, Remarks, finished, importer, parse_instants
from opp_pandas.resource import OPPORTUNITY, snake_case


@importer
def webhook_events(payloads: Iterable[Mapping[str, Any]]) -> ImportedEvents:
    """Read webhook deliveries of the service: created, updated (with ``beforeUpdate``) and destroyed opportunities.

    Parameters
    ----------
    payloads : iterable of mapping
        The bodies, as delivered, in any order; the same one may come twice.

    Returns
    -------
    ImportedEvents
        By the service's id. An update's ``beforeUpdate`` says how the fields
        stood before; it stands at the deal's creation, where that is known,
        else a second before, as ``earlier``. Bodies that are no such event are
        reported.

    Examples
    --------
    >>> from opp_pandas.history.importers import webhook_events
    >>> len(webhook_events([{"data": {"type": "task"}}]).report)
    1
    """
    remarks = Remarks()
    rows: list[dict[str, Any]] = []
    for number, payload in enumerate(payloads):
        found, reason = _one_delivery(payload)
        if reason:
            remarks.add([number], reason, [None])
        rows += found
    events = pd.DataFrame(rows, columns=[*EVENT_COLUMNS, "earlier"])
    events["at"] = pd.Series(pd.to_datetime(events["at"], utc=True)).astype("datetime64[us, UTC]")
    known = set(events.loc[~events["earlier"].astype(bool), ["id", "field"]].itertuples(index=False, name=None))
    first = events[~events["earlier"].astype(bool)].groupby(["id", "field"])["at"].min()
    # What stood before an update matters only where no earlier event of the field is known.
    rows_of_events = zip(events["earlier"], events["id"], events["field"], events["at"], strict=True)
    keep = np.array(
        [
            not earlier or (key, field) not in known or at < first[key, field]
            for earlier, key, field, at in rows_of_events
        ],
        dtype=bool,
    )
    return finished(events[keep], remarks, "webhook deliveries")


def _one_delivery(payload: Any) -> tuple[list[dict[str, Any]], str]:
    """Give the events of one webhook body, or why there are none."""
    data = payload.get("data") if isinstance(payload, Mapping) else None
    meta = payload.get("meta") if isinstance(payload, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(meta, Mapping):
        return [], "set aside: no data or no meta"
    if data.get("type") != OPPORTUNITY.type:
        return [], "set aside: not an opportunity"
    action = str(meta.get("eventName", "")).rsplit(".", 1)[-1]
    try:
        key = int(data["id"])
        at = pd.Timestamp(str(meta["deliveredAt"]))
        at = at.tz_localize("UTC") if at.tzinfo is None else at
    except (KeyError, TypeError, ValueError):
        return [], "set aside: no id, or no deliveredAt"
    if pd.isna(at) or not EARLIEST <= at <= LATEST:
        return [], "set aside: deliveredAt is outside 1990 to 2049"
    attributes = data.get("attributes") or {}
    stamp = parse_instants(pd.Series([attributes.get("updatedAt")], dtype=object), None)[0]
    if not pd.isna(stamp) and EARLIEST <= stamp <= at:
        at = stamp
    if action == "destroyed":
        return [_event(key, PRESENCE, False, at, False)], ""
    if action not in ("created", "updated"):
        return [], f"set aside: event {action!r}"
    rows = [_event(key, name, value, at, False) for name, value in _fields_of(data).items()]
    created = parse_instants(pd.Series([attributes.get("createdAt")], dtype=object), None)[0]
    earlier = created if not pd.isna(created) and created < at else at - pd.Timedelta(seconds=1)
    old = payload.get("beforeUpdate") or data.get("beforeUpdate") or {}
    # Some deliveries wrap the old values like a resource, others give the attributes alone.
    wrapped = old if "attributes" in old or "relationships" in old else {"attributes": old}
    rows += [_event(key, name, value, earlier, True) for name, value in _fields_of(wrapped).items()]
    return rows, ""


def _event(key: int, name: str | None, value: Any, at: pd.Timestamp, earlier: bool) -> dict[str, Any]:
    return {"id": key, "custom_id": None, "field": name, "value": value, "at": at, "earlier": earlier}


def _fields_of(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Give the columns of a resource object's attributes and to-one relationships."""
    found: dict[str, Any] = {}
    for name, value in (resource.get("attributes") or {}).items():
        attribute = OPPORTUNITY.by_name.get(name)
        if attribute is None:
            found[snake_case(name)] = value
        elif attribute.kind == "instant":
            stamp = parse_instants(pd.Series([value], dtype=object), None)[0]
            found[attribute.column] = None if pd.isna(stamp) else stamp
        elif attribute.kind == "integer":
            number = pd.to_numeric(value, errors="coerce") if value is not None else None
            found[attribute.column] = None if number is None or pd.isna(number) else int(number)
        else:
            found[attribute.column] = value
    for name, relation in (resource.get("relationships") or {}).items():
        known = OPPORTUNITY.relationship_by_name.get(name)
        if known is None or known.column is None or not isinstance(relation, Mapping) or "data" not in relation:
            continue
        target = relation["data"]
        found[known.column] = int(target["id"]) if isinstance(target, Mapping) and "id" in target else None
    return found
