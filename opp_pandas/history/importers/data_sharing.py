"""The service's data-sharing tables, as Snowflake and Delta Sharing give them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError, named
from opp_pandas.history.cells import PRESENCE
from opp_pandas.history.event_import import ImportedEvents
from opp_pandas.history.importers.reading import (
    Remarks,
    Source,
    changes_of_states,
    finished,
    importer,
    keys_of,
    read_moments,
    read_table,
    read_values,
    require_columns,
)
from opp_pandas.organisation import Organisation
from opp_pandas.resource import OPPORTUNITY

_DELETIONS = ("delete", "backfill-delete")
# What the tables say of the row itself; the others of these have no column here.
_ABOUT_ROWS = ("bento", "o_id", "surrogate_id", "dml_at", "dml_type", "is_deleted_in_app", "creator_type")
_FIELDS = {
    **{name: name for name in (*OPPORTUNITY.by_column, *OPPORTUNITY.relationship_by_column)},
    "opportunity_stage_id": "stage_id",
}


@importer
def data_sharing_deals(
    source: Source, *, timezone: str | None = None, server_timezone: str | None = None
) -> ImportedEvents:
    """Read the service's data-sharing table OPPORTUNITIES: a row per deal as it last stood, deleted ones marked.

    Parameters
    ----------
    source : DataFrame or path
        The table, or a CSV file, Parquet files or a Delta table of it; several
        exports under each other tell what changed between them.
    timezone : str, optional
        Zone of the close dates, which the table gives as local days; UTC if left out.
    server_timezone : str, optional
        Zone of DML_AT, which the table gives in the server's time: when deals
        were deleted. UTC if left out, and the report says so.

    Returns
    -------
    ImportedEvents
        By the service's id. A deal is there from CREATED_AT on; what an export
        says stands at UPDATED_AT, of the first one as ``earlier``, since
        nobody knows since when. Columns without a counterpart are reported.

    Raises
    ------
    MissingColumnError
        If the table is no such export.
    ConfigurationError
        If it holds deals of several organisations.

    Examples
    --------
    >>> table = pd.DataFrame({"ID": ["7"], "NAME": ["A"], "CREATED_AT": ["2026-01-05"], "UPDATED_AT": ["2026-03-01"]})
    >>> data_sharing_deals(table.assign(IS_DELETED_IN_APP=True, DML_AT="2026-04-01")).events["field"].tolist()
    ['created_at', 'name', 'updated_at', nan]
    """
    remarks = Remarks()
    table = read_export(source, "id", "updated_at")
    if "o_id" in table.columns and table["o_id"].nunique() > 1:
        raise ConfigurationError(
            f"the table holds the deals of {table['o_id'].nunique()} organisations, whose ids may be the same; "
            "import one after the other: table[table['O_ID'] == ...]"
        )
    at = read_moments(table["updated_at"], None, remarks, "UPDATED_AT")
    wide = pd.DataFrame({"key": keys_of(table["id"]), "at": at})
    for name in table.columns:
        if (field := _FIELDS.get(name)) is not None and field not in wide.columns:
            values = table[name]
            if field == "creator_id" and "creator_type" in table.columns:
                # A deal that a plugin or an import made has no user for its creator.
                values = values.where(table["creator_type"].astype("str").str.lower() == "user")
            zone = timezone if field == "close_date" else None
            wide[field] = read_values(values, field, zone, remarks)
    if "amount" in wide.columns and "amount_precise" not in wide.columns:
        wide["amount_precise"] = [_cents(value) for value in table["amount"]]
    for number, own in _custom_fields(table, remarks).items():
        wide[number] = own
    unknown = [name for name in table.columns if name not in (*_FIELDS, *_ABOUT_ROWS, "id", "custom_fields_long")]
    remarks.add(unknown, "left out: the column has no counterpart here", [None] * len(unknown))
    columns = [name for name in wide.columns if name not in ("key", "at")]
    ids = {key: int(key) for key in wide["key"].dropna() if key.isdigit()}
    states = changes_of_states(wide[at.notna()], columns, ids, remarks, "OPPORTUNITIES", begins_known=False)
    own_ids = wide["key"].map(ids).astype("Int64")
    parts = [states.events]
    if "created_at" in wide.columns:
        first = wide.assign(id=own_ids).dropna(subset=["id", "created_at"]).drop_duplicates("id")
        parts.append(_rows(first["id"], "created_at", first["created_at"], first["created_at"]))
        parts[0] = states.events[states.events["field"] != "created_at"]
    gone = tell_deleted(table)
    if gone.any():
        moments = at.where(gone)
        if "dml_at" in table.columns:
            moments = read_moments(table.loc[gone, "dml_at"], server_timezone, remarks, "DML_AT")
            if server_timezone is None:
                remarks.add(["DML_AT"], "read in UTC: it is in the server's time; server_timezone= says which", [None])
        else:
            remarks.add(["DML_AT"], "missing: deleted deals are gone from their last update on", [None])
        last = moments.dropna().groupby(own_ids).max()
        parts.append(_rows(last.index, PRESENCE, [False] * len(last), last))
    return finished(pd.concat(parts, ignore_index=True), remarks, "OPPORTUNITIES")


@importer
def team_memberships(source: Source, *, teams: Source | None = None, users: Source | None = None) -> ImportedEvents:
    """Read the service's data-sharing table TEAM_MEMBERSHIPS_HISTORY: who was in which team, and until when.

    Parameters
    ----------
    source : DataFrame or path
        The table, or files of it: ``USER_ID, TEAM_ID, CREATED_AT``, and
        ``UPDATED_AT`` as the end where ``IS_DELETED_IN_APP`` says so.

    Returns
    -------
    ImportedEvents
        Without changes of deals; the organisation after each change, which a
        history gives with its states. Roles stay those that it knew.

    Raises
    ------
    MissingColumnError
        If the table is no such export.

    Examples
    --------
    >>> rows = {"USER_ID": ["7", "7"], "TEAM_ID": ["1", "2"], "CREATED_AT": ["2026-01-05", "2026-03-01"]}
    >>> table = pd.DataFrame(rows).assign(UPDATED_AT="2026-03-01", IS_DELETED_IN_APP=[True, False])
    >>> [organisation.users["team_ids"].tolist() for at, organisation in team_memberships(table).organisations]
    [[(1,)], [(2,)]]
    """
    remarks = Remarks()
    table = read_export(source, "user_id", "team_id", "created_at")
    start = read_moments(table["created_at"], None, remarks, "CREATED_AT")
    end = pd.Series(pd.NaT, index=table.index, dtype=start.dtype)
    if (left := tell_deleted(table)).any():
        end[left] = read_moments(table.loc[left, "updated_at"], None, remarks, "UPDATED_AT")
    members, groups = (pd.to_numeric(table[name]).astype("Int64") for name in ("user_id", "team_id"))
    team_names, user_names = names_by_id(teams), names_by_id(users)
    found = []
    for at in sorted({*start.dropna(), *end.dropna()}):
        inside = (start <= at) & ~(end <= at) & ~(left & end.isna())
        own = {int(user): groups[inside & (members == user)].tolist() for user in members.dropna().unique()}
        everyone = [
            _record(user, user_names) | {"relationships": {"teams": {"data": [{"id": int(team)} for team in belongs]}}}
            for user, belongs in own.items()
        ]
        every_team = [_record(int(team), team_names) for team in groups.dropna().unique()]
        found.append((at, Organisation.from_records([], every_team, everyone)))
    return ImportedEvents(report=remarks.frame(), source="TEAM_MEMBERSHIPS_HISTORY", organisations=tuple(found))


def read_export(source: Any, *needed: str) -> pd.DataFrame:
    """Read a table with its columns in lower case; a MissingColumnError says if it lacks one that is needed."""
    table = read_table(source)
    table.columns = [str(name).lower() for name in table.columns]
    require_columns(table, table, *needed)
    return table.reset_index(drop=True)


def tell_deleted(table: pd.DataFrame) -> pd.Series:
    """Find the rows that are marked as deleted, in either way."""
    found = pd.Series(False, index=table.index)
    if "is_deleted_in_app" in table.columns:
        found |= table["is_deleted_in_app"].astype("str").str.lower().isin(["true", "1", "t", "1.0"])
    if "dml_type" in table.columns:
        found |= table["dml_type"].astype("str").str.lower().isin(_DELETIONS)
    return found


def _custom_fields(table: pd.DataFrame, remarks: Remarks) -> Mapping[str, list[Any]]:
    """Read the custom fields, which stand as JSON in one column."""
    if "custom_fields_long" not in table.columns:
        return {}
    rows: list[Mapping[str, Any]] = []
    for place, text in table["custom_fields_long"].items():
        try:
            read = json.loads(text) if isinstance(text, str) else text
        except ValueError:
            read = text
        fits = isinstance(read, Mapping)
        if not fits and isinstance(text, str):
            remarks.add([place], "value left missing: CUSTOM_FIELDS_LONG is no JSON object", [text])
        rows.append(read if fits else {})
    names = dict.fromkeys(name for row in rows for name in row if name in OPPORTUNITY.by_column)
    values = {name: [row.get(name) for row in rows] for name in names}
    return {name: [None if v is None else str(v) for v in own] for name, own in values.items()}


def _cents(value: Any) -> str | None:
    """Write an amount with its cents; None where it is none."""
    try:
        return None if value is None or pd.isna(value) or value == "" else f"{Decimal(str(value)):.2f}"
    except ArithmeticError:
        return None


def _rows(ids: Any, field: str | None, values: Any, at: Any) -> pd.DataFrame:
    rows = {"id": pd.array(ids, dtype="Int64"), "custom_id": None, "field": field, "value": list(values)}
    return pd.DataFrame({**rows, "at": pd.array(at), "earlier": False})


def names_by_id(source: Any) -> dict[int, str]:
    """Read the names of a table such as TEAMS or USERS."""
    if source is None:
        return {}
    table = read_export(source, "id")
    if "name" not in table.columns:
        if unfit := [name for name in ("first_name", "last_name") if name not in table.columns]:
            raise MissingColumnError(["name"], list(table.columns), f"Nor has it {named(unfit)}.")
        table["name"] = table["first_name"].fillna("") + " " + table["last_name"].fillna("")
    return {int(key): str(name).strip() for key, name in zip(table["id"], table["name"], strict=True) if pd.notna(name)}


def _record(key: int, names: Mapping[int, str]) -> dict[str, Any]:
    return {"id": key, "attributes": {"name": names.get(key)}}
