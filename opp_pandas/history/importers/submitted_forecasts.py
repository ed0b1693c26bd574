"""Forecast calls, as sellers and managers submitted them at the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.errors import MissingColumnError, named
from opp_pandas.history.event_import import ForecastCall, ImportedEvents
from opp_pandas.history.importers.data_sharing import names_by_id, read_export, tell_deleted
from opp_pandas.history.importers.reading import Remarks, Source, importer, read_moments

if TYPE_CHECKING:
    from collections.abc import Mapping

# Ours, and what an export may call it, by the words of the service's other tables.
_NAMES = {
    "amount": ("call_amount", "value"),
    "first_day": ("period_start", "period_start_date", "start_date"),
    "last_day": ("period_end", "period_end_date", "end_date"),
    "at": ("submitted_at", "updated_at", "created_at"),
    "metric": ("metric_name", "category", "forecast_category", "forecast_name", "name"),
    "user_id": ("owner_id",),
    "team_id": (),
    "submitted_by": ("submitter_id", "creator_id"),
    "note": ("notes", "comment"),
}
_NEEDED = ("amount", "first_day", "last_day", "at")


@importer
def forecast_calls(
    source: Source,
    *,
    columns: Mapping[str, str] | None = None,
    teams: Source | None = None,
    users: Source | None = None,
) -> ImportedEvents:
    """Read the forecast calls that people submitted: what they foretold for a period, and when.

    Parameters
    ----------
    source : DataFrame or path
        The table, or a CSV file, Parquet files or a Delta table of it: a row
        per call; several exports under each other tell what was called in turn.
    columns : mapping of str to str, optional
        The table's columns → ours, where they bear other names: ``amount``,
        ``first_day`` and ``last_day`` of the period, ``at`` (when it was
        submitted), ``metric`` (such as Commit), ``user_id`` or ``team_id``
        (whose deals; neither: all), ``submitted_by``, ``note``.

    Returns
    -------
    ImportedEvents
        Without changes of deals; ``history.import_events`` keeps each call as
        a version beside the forecasts that were saved. Deleted calls, and
        those without amount, period or moment, are reported.

    Raises
    ------
    MissingColumnError
        If the table lacks one that is needed.

    Examples
    --------
    >>> row = {"USER_ID": "7", "AMOUNT": "90000", "PERIOD_START": "2026-07-01", "PERIOD_END": "2026-09-30"}
    >>> calls = forecast_calls(pd.DataFrame([row | {"METRIC": "Commit", "SUBMITTED_AT": "2026-08-03 09:00"}]))
    >>> calls.forecast_calls[0].amount, calls.forecast_calls[0].name
    (90000.0, 'Commit of user 7 for 2026-07-01 to 2026-09-30, 2026-08-03 09:00:00')
    """
    remarks = Remarks()
    table = _ours(read_export(source), {theirs.lower(): ours for theirs, ours in (columns or {}).items()})
    table = table.assign(at=read_moments(table["at"], None, remarks, "the moment of submission"))
    for day in ("first_day", "last_day"):
        table[day] = read_moments(table[day], None, remarks, day).dt.strftime("%Y-%m-%d")
    table["amount"], called = pd.to_numeric(table["amount"], errors="coerce"), table["amount"]
    unfit = table[["at", "first_day", "last_day"]].isna().any(axis="columns")
    for found, reason in (
        # A comparison with what is missing is false, and keeps infinity out as well.
        (~(table["amount"].abs() < float("inf")), "set aside: the amount is no number"),
        (table["first_day"] > table["last_day"], "set aside: the period ends before it begins"),
        (tell_deleted(table), "set aside: the call was deleted"),
    ):
        own = found & ~unfit
        remarks.add(table.index[own], reason, called[own])
        unfit |= own
    known = {"user": names_by_id(users), "team": names_by_id(teams)}
    calls: dict[str, ForecastCall] = {}
    for place, row in table[~unfit].iterrows():
        call = _call(row, known)
        if (held := calls.setdefault(call.name, call)) != call:
            remarks.add([place], f"set aside: this call has two amounts, {held.amount:,.2f} came first", [call.amount])
    return ImportedEvents(report=remarks.frame(), source="forecast calls", forecast_calls=tuple(calls.values()))


def _ours(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Name the columns as the importer does."""
    if strange := [name for name in columns.values() if name not in _NAMES]:
        raise MissingColumnError(strange, list(_NAMES), "These are the names that columns= leads to.")
    table = table.rename(columns=columns)
    for ours, theirs in _NAMES.items():
        if ours not in table.columns and (there := [name for name in theirs if name in table.columns]):
            table[ours] = table[there[0]]
    if missing := [name for name in _NEEDED if name not in table.columns]:
        hint = f"columns={{'THEIRS': {missing[0]!r}}} says which it is; {named(missing)} may not be left out."
        raise MissingColumnError(missing, list(table.columns), hint)
    return table.reindex(columns=[*dict.fromkeys([*table.columns, *_NAMES])])


def _call(row: pd.Series, known: Mapping[str, Mapping[int, str]]) -> ForecastCall:
    def who(kind: str, key: int | None) -> str | None:
        return None if key is None else known[kind].get(key, f"{kind} {key}")

    user, team, author = (_number(row[name]) for name in ("user_id", "team_id", "submitted_by"))
    # A manager's call for a team is about the team's deals, not about the manager's own.
    whose = who("user", user) if team is None else who("team", team)
    metric = "Forecast" if pd.isna(row["metric"]) else str(row["metric"])
    period = f"{row['first_day']} to {row['last_day']}"
    of = "" if whose is None else f" of {whose}"
    return ForecastCall(
        name=f"{metric}{of} for {period}, {row['at']:%Y-%m-%d %H:%M:%S}",
        at=row["at"],
        author=who("user", user if author is None else author) or "",
        comment="" if pd.isna(row["note"]) else str(row["note"]),
        metric=metric,
        whose=whose,
        first_day=row["first_day"],
        last_day=row["last_day"],
        amount=float(row["amount"]),
        user_id=user if team is None else None,
        team_id=team,
    )


def _number(value: Any) -> int | None:
    return None if pd.isna(value) or value == "" else int(float(value))
