"""Salesforce's OpportunityHistory and OpportunityFieldHistory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from opp_pandas.errors import MissingColumnError
from opp_pandas.history.importers.reading import (
    Remarks,
    Source,
    changes_of_fields,
    changes_of_states,
    importer,
    is_versions,
    known_column,
    read_moments,
    read_table,
    read_values,
    renamed,
    require_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.history.event_import import ImportedEvents

_FIELDS = {
    "StageName": "stage_name",
    "Amount": "amount",
    "CloseDate": "close_date",
    "Probability": "probability",
    "ForecastCategory": "forecast_category",
    "ForecastCategoryName": "forecast_category",
    "OwnerId": "owner_name",
    "Owner": "owner_name",
    "Name": "name",
    "NextStep": "next_step",
    "Type": "opportunity_type",
    "LeadSource": "lead_source",
    "CurrencyIsoCode": "currency_type",
}


@importer
def salesforce_history(
    source: Source, *, ids: Mapping[str, int] | None = None, timezone: str | None = None
) -> ImportedEvents:
    """Read Salesforce's OpportunityHistory: a row per change, with stage, amount, probability and close date.

    Parameters
    ----------
    source : DataFrame or path
        The export: ``OpportunityId, CreatedDate`` and any of ``StageName,
        Amount, CloseDate, Probability, ForecastCategory``; names may be
        written ``opportunity_id`` and so on, as connectors do. Or a connector's
        table of versions of deals, with ``id, _fivetran_start``.

    Returns
    -------
    ImportedEvents
        Only what changed from one row of a deal to the next. The first version
        in a connector's table is ``earlier``: the deal was like that before the
        connector came. Deals in the recycle bin are reported and kept, since
        the export does not say when they went there.

    Raises
    ------
    MissingColumnError
        If the frame is no such export.

    Examples
    --------
    >>> from opp_pandas.history.importers import salesforce_history
    >>> days = ["2026-01-05", "2026-02-09"]
    >>> log = pd.DataFrame({"OpportunityId": "006A", "CreatedDate": days, "StageName": ["Qualify", "Propose"]})
    >>> report = opp.History("mine").import_events(salesforce_history(log))
    >>> opp.History("mine").as_of("2026-01-31")["stage_name"].tolist()
    ['Qualify']
    """
    frame, remarks = read_table(source), Remarks()
    named = renamed(frame, ("OpportunityId", "CreatedDate", "IsDeleted", *_FIELDS))
    require_columns(frame, named, "OpportunityId", "CreatedDate")
    if not set(named.columns) & set(_FIELDS):
        raise MissingColumnError(["StageName"], list(frame.columns), "This is OpportunityHistory without any field.")
    at = read_moments(named["CreatedDate"], timezone, remarks, "CreatedDate")
    fields = {name: column for name, column in _FIELDS.items() if name in named.columns}
    wide = pd.DataFrame({"key": named["OpportunityId"].astype("str"), "at": at})
    for name, column in fields.items():
        wide[column] = read_values(named[name], column, timezone, remarks)
    if "IsDeleted" in named.columns:
        deleted = named["IsDeleted"].astype("str").str.lower().isin(["true", "1"])
        last = wide[deleted].drop_duplicates("key", keep="last")
        remarks.add(last.index, "kept: the deal is in the recycle bin, nobody says since when", last["key"])
    columns = list(dict.fromkeys(fields.values()))
    versions = is_versions(frame)
    return changes_of_states(wide[at.notna()], columns, ids, remarks, "OpportunityHistory", begins_known=not versions)


@importer
def salesforce_field_history(
    source: Source, *, ids: Mapping[str, int] | None = None, timezone: str | None = None
) -> ImportedEvents:
    """Read Salesforce's OpportunityFieldHistory: a row per field that changed, with old and new value.

    Parameters
    ----------
    source : DataFrame or path
        The export: ``OpportunityId, Field, NewValue, CreatedDate``, with
        ``OldValue`` where it is known.

    Returns
    -------
    ImportedEvents
        The first old value of a field stands at the deal's first event, since
        that is how it was until it changed; as ``earlier``, unless that event
        is the row ``created``. Fields that have no column here are left out
        and reported.

    Examples
    --------
    >>> from opp_pandas.history.importers import salesforce_field_history
    >>> names = ["OpportunityId", "CreatedDate", "Field", "OldValue", "NewValue"]
    >>> log = pd.DataFrame([["006A", "2026-02-09", "Amount", 900, 1200]], columns=names)
    >>> report = opp.History("mine").import_events(salesforce_field_history(log))
    >>> opp.History("mine").as_of("2026-03-01")["amount"].tolist()
    [1200]
    """
    frame, remarks = read_table(source), Remarks()
    named = renamed(frame, ("OpportunityId", "Field", "OldValue", "NewValue", "CreatedDate"))
    require_columns(frame, named, "OpportunityId", "Field", "NewValue", "CreatedDate")
    at = read_moments(named["CreatedDate"], timezone, remarks, "CreatedDate")
    columns = named["Field"].astype("str").map(lambda name: _FIELDS.get(name) or known_column(name))
    return changes_of_fields(
        named, "OpportunityId", "Field", columns, at, ids, timezone, remarks, "OpportunityFieldHistory"
    )
