"""Histories of other systems: Salesforce, HubSpot, webhooks and plain tables of events.

Each importer gives `ImportedEvents`: a row per change of a field, in the
columns of this package, and a report of every row that was set aside or
mended. ``history.import_events(events)`` puts them into a history;
``df.opp.funnel(history=events)`` takes them as they are.

A date that stands for "no end" (9999-12-31, 2050-01-01) or cannot be (before
1990) is never taken for a moment: the row is set aside or the value left
missing, and the report says so. Dates such as 3/4/2026 are read as the others
of their column tell; where none tells, an error asks for the day and the month.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError, named
from opp_pandas.history.cells import PRESENCE
from opp_pandas.history.event_import import EVENT_COLUMNS, ImportedEvents
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY, snake_case
from opp_pandas.timezones import check_zone

EARLIEST = pd.Timestamp("1990-01-01", tz="UTC")
LATEST = pd.Timestamp("2049-12-31 23:59:59", tz="UTC")
"""Moments of events and close dates lie between these; what lies outside is a sentinel or an error."""

_SLASHED = re.compile(r"\s*(\d{1,2})[-/.](\d{1,2})[-/.]\d{4}(?!\d)", re.ASCII)
# Beyond, not every whole number is one that a float can say.
_LARGEST = 2**53
_THERE = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}

_SALESFORCE_FIELDS = {
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
_HUBSPOT_FIELDS = {
    "dealstage": "stage_name",
    "amount": "amount",
    "closedate": "close_date",
    "dealname": "name",
    "hubspot_owner_id": "owner_name",
    "dealtype": "opportunity_type",
    "hs_next_step": "next_step",
    "hs_deal_stage_probability": "probability",
}


class _Remarks:
    """Collects what the report says."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, str, Any]] = []

    def add(self, rows: Iterable[Any], reason: str, values: Iterable[Any]) -> None:
        self._rows += [(row, reason, value) for row, value in zip(rows, values, strict=True)]

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows, columns=["row", "reason", "value"])


def salesforce_history(
    frame: pd.DataFrame, *, ids: Mapping[str, int] | None = None, timezone: str | None = None
) -> ImportedEvents:
    """Read Salesforce's OpportunityHistory: a row per change, with stage, amount, probability and close date.

    Parameters
    ----------
    frame : DataFrame
        The export: ``OpportunityId, CreatedDate`` and any of ``StageName,
        Amount, CloseDate, Probability, ForecastCategory``; names may be
        written ``opportunity_id`` and so on, as connectors do. Or a connector's
        table of versions of deals, with ``id, _fivetran_start``.
    ids : mapping of str to int, optional
        The service's id of each Salesforce id, for histories of the service.
        Left out: the Salesforce id is the deal's custom id.
    timezone : str, optional
        Zone of times without one; UTC if left out.

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
    """
    remarks = _Remarks()
    named = _renamed(frame, ("OpportunityId", "CreatedDate", "IsDeleted", *_SALESFORCE_FIELDS))
    _need(frame, named, "OpportunityId", "CreatedDate")
    if not set(named.columns) & set(_SALESFORCE_FIELDS):
        raise MissingColumnError(["StageName"], list(frame.columns), "This is OpportunityHistory without any field.")
    at = _moments(named["CreatedDate"], timezone, remarks, "CreatedDate")
    fields = {name: column for name, column in _SALESFORCE_FIELDS.items() if name in named.columns}
    wide = pd.DataFrame({"key": named["OpportunityId"].astype("str"), "at": at})
    for name, column in fields.items():
        wide[column] = _values(named[name], column, timezone, remarks)
    if "IsDeleted" in named.columns:
        deleted = named["IsDeleted"].astype("str").str.lower().isin(["true", "1"])
        last = wide[deleted].drop_duplicates("key", keep="last")
        remarks.add(last.index, "kept: the deal is in the recycle bin, nobody says since when", last["key"])
    columns = list(dict.fromkeys(fields.values()))
    versions = _is_versions(frame)
    return _changes(wide[at.notna()], columns, ids, remarks, "OpportunityHistory", begins_known=not versions)


def salesforce_field_history(
    frame: pd.DataFrame, *, ids: Mapping[str, int] | None = None, timezone: str | None = None
) -> ImportedEvents:
    """Read Salesforce's OpportunityFieldHistory: a row per field that changed, with old and new value.

    Parameters
    ----------
    frame : DataFrame
        The export: ``OpportunityId, Field, NewValue, CreatedDate``, with
        ``OldValue`` where it is known.
    ids, timezone
        As in `salesforce_history`.

    Returns
    -------
    ImportedEvents
        The first old value of a field stands at the deal's first event, since
        that is how it was until it changed; as ``earlier``, unless that event
        is the row ``created``. Fields that have no column here are left out
        and reported.
    """
    remarks = _Remarks()
    named = _renamed(frame, ("OpportunityId", "Field", "OldValue", "NewValue", "CreatedDate"))
    _need(frame, named, "OpportunityId", "Field", "NewValue", "CreatedDate")
    at = _moments(named["CreatedDate"], timezone, remarks, "CreatedDate")
    columns = named["Field"].astype("str").map(lambda name: _SALESFORCE_FIELDS.get(name) or _known(name))
    return _field_events(
        named, "OpportunityId", "Field", columns, at, ids, timezone, remarks, "OpportunityFieldHistory"
    )


def hubspot_history(
    frame: pd.DataFrame,
    *,
    stages: pd.DataFrame | Mapping[str, str] | None = None,
    ids: Mapping[str, int] | None = None,
    timezone: str | None = None,
) -> ImportedEvents:
    """Read HubSpot's deal stage history, or its property history.

    Parameters
    ----------
    frame : DataFrame
        Stage history: ``deal_id, value, date_entered`` (or ``_fivetran_start``,
        ``timestamp``). Property history: ``deal_id, name, value, timestamp``.
    stages : DataFrame or mapping, optional
        Labels of the stages: columns ``stage_id, label``, or id to label.
        Without it the stage's id stands for its name.
    ids, timezone
        As in `salesforce_history`.

    Returns
    -------
    ImportedEvents
        The ends of stays (``_fivetran_end``: 9999 or 2050 where there is none)
        are not needed: the next entry ends a stay.
    """
    remarks = _Remarks()
    when = next((name for name in ("date_entered", "timestamp", "_fivetran_start") if name in frame.columns), None)
    missing = [name for name in ("deal_id", "value") if name not in frame.columns]
    if when is None:
        missing.append("date_entered")
    if missing or when is None:
        raise MissingColumnError(
            missing, list(frame.columns), "HubSpot's stage history has deal_id, value, date_entered."
        )
    labels = _labels(stages)
    at = _moments(frame[when], timezone, remarks, when)
    if "name" not in frame.columns:
        names = frame["value"].astype("str").map(lambda value: labels.get(value, value), na_action="ignore")
        wide = pd.DataFrame({"key": _keys(frame["deal_id"]), "at": at, "stage_name": names.astype("str")})
        return _changes(wide[at.notna()], ["stage_name"], ids, remarks, "HubSpot stage history")
    named = frame.assign(
        NewValue=[
            labels.get(str(value), value) if name == "dealstage" else value
            for name, value in zip(frame["name"], frame["value"], strict=True)
        ]
    )
    columns = named["name"].astype("str").map(lambda name: _HUBSPOT_FIELDS.get(name) or _known(name))
    return _field_events(named, "deal_id", "name", columns, at, ids, timezone, remarks, "HubSpot property history")


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
    """
    remarks = _Remarks()
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
    return _finish(events[keep], remarks, "webhook deliveries")


def table_events(
    frame: pd.DataFrame, columns: Mapping[str, str] | None = None, *, timezone: str | None = None
) -> ImportedEvents:
    """Read any table with a row per change.

    Parameters
    ----------
    frame : DataFrame
        With ``id`` or ``custom_id``, ``field``, ``value`` and ``at``; or,
        instead of field and value, ``stage_name`` or ``stage_id``.
    columns : mapping of str to str, optional
        Source column to one of these names.
    timezone : str, optional
        Zone of times without one; UTC if left out.

    Returns
    -------
    ImportedEvents
    """
    remarks = _Remarks()
    named = frame.rename(columns=dict(columns or {}))
    if "field" not in named.columns:
        stage = next((name for name in ("stage_id", "stage_name") if name in named.columns), None)
        if stage is not None:
            named = named.assign(field=stage, value=named[stage])
    missing = [] if {"id", "custom_id"} & set(named.columns) else ["id"]
    missing += [name for name in ("field", "value", "at") if name not in named.columns]
    if missing:
        raise MissingColumnError(missing, list(frame.columns), "columns= maps your names to id, field, value and at.")
    at = _moments(named["at"], timezone, remarks, "at")
    fields = named["field"].astype("str")
    rows = []
    for column in fields.dropna().unique():
        chosen = (fields == column) & at.notna()
        values = named.loc[chosen, "value"]
        typed = _is_there(values, remarks) if column == PRESENCE else _values(values, column, timezone, remarks)
        rows.append(
            pd.DataFrame(
                {
                    "id": _ids(named, chosen),
                    "custom_id": named.loc[chosen, "custom_id"] if "custom_id" in named.columns else None,
                    "field": column,
                    "value": typed.astype(object),
                    "at": at[chosen],
                }
            )
        )
        if column == PRESENCE:
            rows[-1] = rows[-1][typed.notna().to_numpy()]
    return _finish(_joined(rows), remarks, "a table of events")


# --- shared by the importers ------------------------------------------------------------------------------------------


def _renamed(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Find columns written as the API does or in snake_case."""
    known = {**{name: name for name in names}, **{snake_case(name): name for name in names}}
    by_lower = {key.lower(): name for key, name in known.items()}
    chosen = {column: by_lower[str(column).lower()] for column in frame.columns if str(column).lower() in by_lower}
    found = frame[list(chosen)].rename(columns=chosen)
    if _is_versions(frame) and "OpportunityId" in names:
        found = found.assign(OpportunityId=frame["id"], CreatedDate=frame["_fivetran_start"])
    return found


def _is_versions(frame: pd.DataFrame) -> bool:
    """Tell a connector's history table: the deal's own columns, a row per version."""
    is_plain = {"opportunityid", "opportunity_id"} & {str(column).lower() for column in frame.columns}
    return {"id", "_fivetran_start"} <= set(frame.columns) and not is_plain


def _need(frame: pd.DataFrame, named: pd.DataFrame, *names: str) -> None:
    missing = [name for name in names if name not in named.columns]
    if missing:
        raise MissingColumnError(missing, list(frame.columns), "This is not the export that the importer reads.")


def _known(name: str) -> str | None:
    column = snake_case(str(name).removesuffix("__c"))
    return column if column in COLUMN_DTYPES else None


def _keys(column: pd.Series) -> pd.Series:
    """Write keys as text, whole numbers without a fraction."""
    if pd.api.types.is_float_dtype(column.dtype):
        column = column.astype("Int64")
    return column.astype("str")


def _ids(named: pd.DataFrame, chosen: pd.Series) -> Any:
    if "id" not in named.columns:
        return pd.array([None] * int(chosen.sum()), dtype="Int64")
    return pd.array(pd.to_numeric(named.loc[chosen, "id"], errors="coerce"), dtype="Int64")


def _labels(stages: pd.DataFrame | Mapping[str, str] | None) -> dict[str, str]:
    if stages is None:
        return {}
    if isinstance(stages, Mapping):
        return {str(key): str(label) for key, label in stages.items()}
    missing = [name for name in ("stage_id", "label") if name not in stages.columns]
    if missing:
        raise MissingColumnError(missing, list(stages.columns), "Stage labels have stage_id and label.")
    return dict(zip(stages["stage_id"].astype(str), stages["label"].astype(str), strict=True))


def _moments(column: pd.Series, timezone: str | None, remarks: _Remarks, name: str) -> pd.Series:
    """Read moments; what cannot be one is missing and reported."""
    if timezone is not None:
        check_zone(timezone)
    parsed = _parsed(column, timezone)
    unread = parsed.isna()
    remarks.add(column.index[unread], f"set aside: {name} is no moment", column[unread])
    # Sentinels of connectors and clocks that were never set.
    odd = parsed.notna() & ((parsed < EARLIEST) | (parsed > LATEST))
    remarks.add(column.index[odd], f"set aside: {name} is outside 1990 to 2049", column[odd])
    return parsed.mask(odd)


def _parsed(column: pd.Series, timezone: str | None) -> pd.Series:
    """Read instants; those without a zone stand in `timezone`."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.astype("datetime64[us, UTC]")
    stamps: list[Any] = []
    dayfirst = _is_day_first(column)
    for value in column.astype(object):
        try:
            stamp = pd.to_datetime(value, dayfirst=dayfirst) if _is_slashed(value) else pd.Timestamp(value)
            if not pd.isna(stamp) and stamp.tzinfo is None:
                stamp = stamp.tz_localize(timezone or "UTC", ambiguous=True, nonexistent="shift_forward")
            stamps.append(pd.NaT if pd.isna(stamp) else stamp.tz_convert("UTC").as_unit("us"))
        except (ValueError, TypeError, OverflowError):
            stamps.append(pd.NaT)
    return pd.Series(pd.array(stamps, dtype="datetime64[us, UTC]"), index=column.index)


def _is_slashed(value: Any) -> bool:
    """Whether a text is a date as spreadsheets write it: 3/4/2026, 03.04.2026."""
    return isinstance(value, str) and _SLASHED.match(value) is not None


def _is_day_first(column: pd.Series) -> bool:
    """Tell from a column's dates such as 25/4/2026 whether the day stands before the month.

    Raises
    ------
    ConfigurationError
        If none of them tells, or they contradict each other.
    """
    found = [_SLASHED.match(value) for value in column.astype(object) if _is_slashed(value)]
    pairs = [(int(match[1]), int(match[2])) for match in found if match]
    day, month = any(left > 12 for left, _ in pairs), any(right > 12 for _, right in pairs)
    if day == month and any(left != right for left, right in pairs):
        raise ConfigurationError(
            f"column {named([str(column.name)])} holds dates that read both ways, such as 3/4/2026; "
            "say which is the day: pd.to_datetime(column, dayfirst=True), or dayfirst=False"
        )
    return day


def _values(column: pd.Series, field: str, timezone: str | None, remarks: _Remarks) -> pd.Series:
    """Read the values of one field; what cannot be one is missing and reported."""
    text = column.astype(object).where(column.notna(), None)
    text = text.map(lambda value: None if value == "" else value)
    dtype = COLUMN_DTYPES.get(field, "object")
    if dtype.startswith("datetime"):
        parsed = _parsed(text, timezone)
        lost = text.notna() & (parsed.isna() | (parsed < EARLIEST) | (parsed > LATEST))
        remarks.add(text.index[lost], f"value left missing: {field} outside 1990 to 2049, or no date", text[lost])
        return parsed.mask(lost)
    if dtype == "Int64":
        numbers = pd.to_numeric(text, errors="coerce")
        numbers = numbers.mask(numbers.abs() > _LARGEST)
        lost = text.notna() & numbers.isna()
        remarks.add(text.index[lost], f"value left missing: {field} is no number, or too large", text[lost])
        if field == "probability":
            odd = numbers.notna() & ~numbers.between(0, 100)
            remarks.add(text.index[odd], "value left missing: probability outside 0 to 100 percent", text[odd])
            numbers = numbers.mask(odd)
        return numbers.astype("Float64").round().astype("Int64")
    # pandas takes None for NaN in a column of nothing but texts.
    values = [None if _is_nothing(value) else str(value) if dtype == "str" else value for value in text]
    return pd.Series(values, index=text.index, dtype=object)


def _is_nothing(value: Any) -> bool:
    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _is_there(values: pd.Series, remarks: _Remarks) -> pd.Series:
    """Read whether deals are there; files say it in words."""
    words = values.astype("str").str.strip().str.lower().map(_THERE)
    lost = words.isna()
    remarks.add(values.index[lost], f"set aside: {PRESENCE} is neither true nor false", values[lost])
    return words


def _changes(
    wide: pd.DataFrame,
    columns: list[str],
    ids: Mapping[str, int] | None,
    remarks: _Remarks,
    source: str,
    *,
    begins_known: bool = True,
) -> ImportedEvents:
    """Turn rows that repeat the whole state into rows of what changed."""
    wide = wide.sort_values(["key", "at"], kind="stable")
    parts = []
    for column in columns:
        values = wide[column].astype(object).where(wide[column].notna(), None)
        same_deal = wide["key"].to_numpy() == wide["key"].shift().to_numpy(dtype=object)
        before = values.shift().to_numpy(dtype=object)
        kept = np.array(
            [
                not (same and (old == new)) and (same or new is not None)
                for same, old, new in zip(same_deal, before, values, strict=True)
            ],
            dtype=bool,
        )
        chosen = wide[kept]
        part = pd.DataFrame({"key": chosen["key"], "field": column, "value": values[kept], "at": chosen["at"]})
        parts.append(part.assign(earlier=~same_deal[kept] & (not begins_known)))
    return _finish(_keyed(_joined(parts), ids, remarks), remarks, source)


def _field_events(
    named: pd.DataFrame,
    key: str,
    field: str,
    columns: pd.Series,
    at: pd.Series,
    ids: Mapping[str, int] | None,
    timezone: str | None,
    remarks: _Remarks,
    source: str,
) -> ImportedEvents:
    keys = _keys(named[key])
    # Salesforce logs the creation of a deal as a field of this name, if it still has it.
    is_creation = named[field].astype("str").str.lower() == "created"
    unknown = columns.isna() & ~is_creation
    remarks.add(named.index[unknown], "set aside: the field has no column here", named.loc[unknown, field])
    begins = at.groupby(keys).transform("min")
    since_creation = keys.isin(set(keys[is_creation & at.notna()]))
    parts = []
    for column in columns.dropna().unique():
        chosen = (columns == column) & at.notna()
        values = _values(named.loc[chosen, "NewValue"], column, timezone, remarks).astype(object)
        part = pd.DataFrame({"key": keys[chosen], "field": column, "value": values, "at": at[chosen]})
        part = part.sort_values("at", kind="stable")
        if "OldValue" in named.columns:
            first = part.drop_duplicates("key").index
            old = _values(named.loc[first, "OldValue"], column, timezone, remarks).astype(object)
            earlier = pd.DataFrame({"key": keys[first], "field": column, "value": old, "at": begins[first]})
            # A field whose first change is the deal's first event stood so a moment before it.
            earlier["at"] = earlier["at"].where(earlier["at"] < at[first], earlier["at"] - pd.Timedelta(seconds=1))
            earlier["earlier"] = ~since_creation[first]
            parts.append(earlier[earlier["value"].notna()])
        parts.append(part)
    return _finish(_keyed(_joined(parts), ids, remarks), remarks, source)


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    kept = [part.astype({"value": object, "field": "str"}) for part in parts if len(part)]
    return pd.concat(kept) if kept else pd.DataFrame(columns=["key", *EVENT_COLUMNS, "earlier"])


def _keyed(events: pd.DataFrame, ids: Mapping[str, int] | None, remarks: _Remarks) -> pd.DataFrame:
    if ids is None:
        return events.assign(id=pd.array([None] * len(events), dtype="Int64"), custom_id=events["key"])
    numbers = events["key"].map(dict(ids))
    lost = numbers.isna()
    remarks.add(events.index[lost], "set aside: ids= has no id for the deal", events.loc[lost, "key"])
    return events.assign(id=numbers.astype("Int64"), custom_id=None)[~lost.to_numpy()]


def _finish(events: pd.DataFrame, remarks: _Remarks, source: str) -> ImportedEvents:
    custom = events["custom_id"].astype(object).where(events["custom_id"].notna(), None)
    frame = pd.DataFrame(
        {
            "id": events["id"].astype("Int64").array,
            "custom_id": custom.astype("str").array,
            "field": events["field"].astype("str").array,
            "value": pd.Series(list(events["value"]), dtype=object),
            "at": events["at"].astype("datetime64[us, UTC]").array,
            # Rows of most importers have no such column, and the others gaps.
            "earlier": events["earlier"].eq(True).to_numpy() if "earlier" in events.columns else False,
        }
    )
    return ImportedEvents(frame.sort_values("at", kind="stable", ignore_index=True), remarks.frame(), source)


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
    stamp = _parsed(pd.Series([attributes.get("updatedAt")], dtype=object), None)[0]
    if not pd.isna(stamp) and EARLIEST <= stamp <= at:
        at = stamp
    if action == "destroyed":
        return [_event(key, PRESENCE, False, at, False)], ""
    if action not in ("created", "updated"):
        return [], f"set aside: event {action!r}"
    rows = [_event(key, name, value, at, False) for name, value in _fields_of(data).items()]
    created = _parsed(pd.Series([attributes.get("createdAt")], dtype=object), None)[0]
    earlier = created if not pd.isna(created) and created < at else at - pd.Timedelta(seconds=1)
    old = payload.get("beforeUpdate") or data.get("beforeUpdate") or {}
    # Some deliveries wrap the old values like a resource, others give the attributes alone.
    wrapped = old if "attributes" in old or "relationships" in old else {"attributes": old}
    rows += [_event(key, name, value, earlier, True) for name, value in _fields_of(wrapped).items()]
    return rows, ""


def _event(key: int, name: str, value: Any, at: pd.Timestamp, earlier: bool) -> dict[str, Any]:
    return {"id": key, "custom_id": None, "field": name, "value": value, "at": at, "earlier": earlier}


def _fields_of(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Give the columns of a resource object's attributes and to-one relationships."""
    found: dict[str, Any] = {}
    for name, value in (resource.get("attributes") or {}).items():
        attribute = OPPORTUNITY.by_name.get(name)
        if attribute is None:
            found[snake_case(name)] = value
        elif attribute.kind == "instant":
            stamp = _parsed(pd.Series([value], dtype=object), None)[0]
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


__all__ = [
    "ImportedEvents",
    "hubspot_history",
    "salesforce_field_history",
    "salesforce_history",
    "table_events",
    "webhook_events",
]
