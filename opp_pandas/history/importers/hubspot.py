"""HubSpot's history of deal stages and of properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from opp_pandas.history.importers.reading import (
    Remarks,
    Source,
    changes_of_fields,
    changes_of_states,
    importer,
    keys_of,
    known_column,
    read_moments,
    read_table,
    require_columns,
)

if TYPE_CHECKING:
    from opp_pandas.history.event_import import ImportedEvents

_FIELDS = {
    "dealstage": "stage_name",
    "amount": "amount",
    "closedate": "close_date",
    "dealname": "name",
    "hubspot_owner_id": "owner_name",
    "dealtype": "opportunity_type",
    "hs_next_step": "next_step",
    "hs_deal_stage_probability": "probability",
}


@importer
def hubspot_history(
    source: Source,
    *,
    stages: Source | Mapping[str, str] | None = None,
    ids: Mapping[str, int] | None = None,
    timezone: str | None = None,
) -> ImportedEvents:
    """Read HubSpot's deal stage history, or its property history.

    Parameters
    ----------
    source : DataFrame or path
        Stage history: ``deal_id, value, date_entered`` (or ``_fivetran_start``,
        ``timestamp``). Property history: ``deal_id, name, value, timestamp``.
    stages : DataFrame, path or mapping, optional
        Labels of the stages: columns ``stage_id, label``, or id to label.
        Without it the stage's id stands for its name.

    Returns
    -------
    ImportedEvents
        The ends of stays (``_fivetran_end``: 9999 or 2050 where there is none)
        are not needed: the next entry ends a stay.

    Examples
    --------
    >>> from opp_pandas.history.importers import hubspot_history
    >>> log = pd.DataFrame({"deal_id": [7, 7], "value": ["s1", "s2"], "date_entered": ["2026-01-05", "2026-02-09"]})
    >>> events = hubspot_history(log, stages={"s1": "Qualify", "s2": "Propose"})
    >>> report = opp.History("mine").import_events(events)
    >>> opp.History("mine").as_of("2026-01-31", columns=["custom_id", "stage_name"])["stage_name"].tolist()
    ['Qualify']
    """
    frame, remarks = read_table(source), Remarks()
    known = [name for name in ("date_entered", "timestamp", "_fivetran_start") if name in frame.columns]
    when, hint = (*known, "date_entered")[0], "HubSpot's stage history has deal_id, value, date_entered."
    require_columns(frame, frame, "deal_id", "value", when, hint=hint)
    labels = _labels(stages)
    at = read_moments(frame[when], timezone, remarks, when)
    if "name" not in frame.columns:
        names = frame["value"].astype("str").map(lambda value: labels.get(value, value), na_action="ignore")
        wide = pd.DataFrame({"key": keys_of(frame["deal_id"]), "at": at, "stage_name": names.astype("str")})
        return changes_of_states(wide[at.notna()], ["stage_name"], ids, remarks, "HubSpot stage history")
    named = frame.assign(
        NewValue=[
            labels.get(str(value), value) if name == "dealstage" else value
            for name, value in zip(frame["name"], frame["value"], strict=True)
        ]
    )
    columns = named["name"].astype("str").map(lambda name: _FIELDS.get(name) or known_column(name))
    return changes_of_fields(named, "deal_id", "name", columns, at, ids, timezone, remarks, "HubSpot property history")


def _labels(stages: Source | Mapping[str, str] | None) -> dict[str, str]:
    if stages is None:
        return {}
    if isinstance(stages, Mapping):
        return {str(key): str(label) for key, label in stages.items()}
    table = read_table(stages)
    require_columns(table, table, "stage_id", "label", hint="Stage labels have stage_id and label.")
    return dict(zip(table["stage_id"].astype(str), table["label"].astype(str), strict=True))
