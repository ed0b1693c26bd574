"""Any table with a row per change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from opp_pandas.errors import MissingColumnError
from opp_pandas.history.cells import PRESENCE
from opp_pandas.history.importers.reading import (
    Remarks,
    Source,
    finished,
    importer,
    joined,
    read_moments,
    read_table,
    read_values,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.history.event_import import ImportedEvents

_THERE = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@importer
def table_events(
    source: Source, columns: Mapping[str, str] | None = None, *, timezone: str | None = None
) -> ImportedEvents:
    """Read any table with a row per change.

    Parameters
    ----------
    source : DataFrame or path
        With ``id`` or ``custom_id``, ``field``, ``value`` and ``at``; or,
        instead of field and value, ``stage_name`` or ``stage_id``. A row
        without field that has ``present`` says whether the deal was there.
    columns : mapping of str to str, optional
        Source column to one of these names.

    Returns
    -------
    ImportedEvents

    Examples
    --------
    >>> from opp_pandas.history.importers import table_events
    >>> log = pd.DataFrame({"id": [1, 1], "at": ["2026-01-05", "2026-02-09"], "field": "amount", "value": [900, 1200]})
    >>> report = opp.History("mine").import_events(table_events(log))
    >>> opp.History("mine").as_of("2026-03-01")["amount"].tolist()
    [1200]
    """
    frame, remarks = read_table(source), Remarks()
    named = frame.rename(columns=dict(columns or {}))
    if "field" not in named.columns:
        stage = next((name for name in ("stage_id", "stage_name") if name in named.columns), None)
        if stage is not None:
            named = named.assign(field=stage, value=named[stage])
    missing = [] if {"id", "custom_id"} & set(named.columns) else ["id"]
    missing += [name for name in ("field", "value", "at") if name not in named.columns]
    if missing:
        raise MissingColumnError(missing, list(frame.columns), "columns= maps your names to id, field, value and at.")
    at = read_moments(named["at"], timezone, remarks, "at")
    fields = named["field"].astype("str")
    parts = []
    for column in fields.dropna().unique():
        values = named.loc[(fields == column) & at.notna(), "value"]
        parts.append((column, read_values(values, column, timezone, remarks)))
    if "present" in named.columns:
        said = named.loc[fields.isna() & at.notna() & named["present"].notna(), "present"]
        there = said.astype("str").str.strip().str.lower().map(_THERE)
        remarks.add(said.index[there.isna()], "set aside: present is neither true nor false", said[there.isna()])
        parts.append((PRESENCE, there.dropna()))
    rows = [
        pd.DataFrame(
            {
                "id": pd.to_numeric(named["id"], errors="coerce").astype("Int64") if "id" in named.columns else pd.NA,
                "custom_id": named["custom_id"] if "custom_id" in named.columns else None,
                "field": column,
                "value": values.astype(object),
                "at": at,
            }
        ).loc[values.index]
        for column, values in parts
    ]
    return finished(joined(rows), remarks, "a table of events")
