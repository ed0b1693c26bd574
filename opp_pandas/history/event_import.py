"""Events of other systems as rows of a history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError
from opp_pandas.history.cells import DEAL, LOAD, PRESENCE, Cells, Keys, Owners
from opp_pandas.history.field_history import stage_entries
from opp_pandas.history.losses import write_gaps
from opp_pandas.history.record import NO_MOMENT, RowWriter
from opp_pandas.history.snapshot_metadata import load_facts, micros
from opp_pandas.history.typed_values import BOOLEAN, Packed, Places, pack, uniform
from opp_pandas.instants import parse_end
from opp_pandas.organisation import Organisation
from opp_pandas.resource import COLUMN_DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

EVENT_COLUMNS = ("id", "custom_id", "field", "value", "at")


class Gap(NamedTuple):
    """A change of a deal that no event tells: of one field or, without one, of any; after the last one known."""

    id: int
    field: str | None
    after: pd.Timestamp | None
    before: pd.Timestamp


class ForecastCall(NamedTuple):
    """What somebody foretold for a period: the won amount of a user's, a team's or all deals."""

    name: str
    at: pd.Timestamp
    author: str
    comment: str
    metric: str
    whose: str | None
    first_day: str
    last_day: str
    amount: float
    user_id: int | None
    team_id: int | None


def gap_table(gaps: Iterable[Gap] = ()) -> pd.DataFrame:
    """Make the table of gaps, earliest first."""
    frame = pd.DataFrame(list(gaps), columns=list(Gap._fields)).astype({"id": "Int64", "field": "str"})
    for name in ("after", "before"):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
    return frame.sort_values(["before", "id"], kind="stable", ignore_index=True)


@dataclass(frozen=True, eq=False)
class ImportedEvents:
    """Changes of fields, as another system logged them.

    Parameters
    ----------
    events : DataFrame, columns ``id, custom_id, field, value, at, earlier``
        A row per change: whose (id, else custom id), the field as a column of
        this package (missing, with the value False: the deal was deleted), the
        new value, and when. In order of time. ``earlier``, where there is such
        a column: the field stood so before, and nobody knows since when.
    report : DataFrame, columns ``row, reason, value``
        Rows of the source that were set aside or mended, and why.
    source : str
        Where they came from.
    gaps : DataFrame, columns ``id, field, after, before``
        Changes that no event tells, as those around them show: whose, of which
        field (missing: of any), and between which events.
    organisations : tuple of (Timestamp, Organisation)
        Who was in which team, after each change.
    forecast_calls : tuple of ForecastCall
        What people foretold.

    Examples
    --------
    >>> from opp_pandas.history.importers import table_events
    >>> events = table_events(pd.DataFrame({"id": [1], "at": ["2026-01-05"], "field": "amount", "value": [900]}))
    >>> len(events.report)
    0
    """

    events: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*EVENT_COLUMNS, "earlier"]))
    report: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["row", "reason", "value"]))
    source: str = ""
    gaps: pd.DataFrame = field(default_factory=gap_table)
    organisations: tuple[tuple[pd.Timestamp, Organisation], ...] = ()
    forecast_calls: tuple[ForecastCall, ...] = ()

    def __post_init__(self) -> None:
        missing = [name for name in EVENT_COLUMNS if name not in self.events.columns]
        if missing:
            raise MissingColumnError(missing, self.events.columns, "Events have id or custom_id, field, value, at.")

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        gaps = f", {len(self.gaps):,} gaps" if len(self.gaps) else ""
        return f"ImportedEvents: {len(self.events):,} changes from {self.source}, {len(self.report):,} remarks{gaps}"

    def stage_entries(self, until: Any = None) -> pd.DataFrame:
        """List the stages that each deal entered, as `History.stage_entries` does, without a history.

        Parameters
        ----------
        until : str, date or Timestamp, optional
            Only entries until then; a day means its end in UTC.
        """
        events = self.events if until is None else self.events[self.events["at"] <= parse_end(until, None, "until")]
        writer = RowWriter(1)
        write_events(writer, Cells(writer.table()), ImportedEvents(events))
        cells = Cells(writer.table())
        return stage_entries(cells, int(cells.observed.max(initial=0)))


def write_events(writer: RowWriter, cells: Cells, imported: ImportedEvents) -> None:
    """Write the events that the history does not hold yet, and that the deals were there from their first event on."""
    events = imported.events
    write_gaps(writer, cells, imported.gaps, imported.source)
    _write_organisations(writer, cells, imported.organisations)
    if not len(events):
        return
    has_id = events["id"].notna().to_numpy()
    kind = "read" if has_id.all() else "adopt"
    known = load_facts(cells, len(cells))
    if known.get("kind", kind) != kind and not (kind == "adopt" and not has_id.any() and "kind" not in known):
        by = {"read": "id", "adopt": "custom_id"}
        raise ConfigurationError(
            f"this history follows deals by {by[known['kind']]}, the events name them by {by[kind]}; "
            "use a history of their own, or map the keys in the events' id column"
        )
    moments = events["at"].astype("datetime64[us, UTC]").to_numpy(dtype="datetime64[us]").view(np.int64)
    owners = Owners(
        events["id"].to_numpy(dtype=np.int64, na_value=0), has_id, None if has_id.all() else _texts(events, has_id)
    )
    # Of what stood so before its first known change, nobody knows when the deal was last changed.
    is_earlier = events["earlier"].to_numpy(dtype=bool) if "earlier" in events.columns else False
    updated = np.where(is_earlier, NO_MOMENT, moments)
    _write_columns(writer, cells, events, kind, known, int(moments.min()))
    _write_presence(writer, cells, owners, moments, events)
    for name, found in events.groupby("field", sort=False).indices.items():
        places = np.asarray(found)
        values = _typed(events["value"].iloc[places], str(name))
        packed = pack(values)
        fresh = _unknown(cells, str(name), owners.take(places), moments[places], packed)
        chosen = places[fresh]
        writer.add(
            DEAL, str(name), owners.take(chosen), pack(values.iloc[fresh]), moments[chosen], updated=updated[chosen]
        )


def _write_organisations(
    writer: RowWriter, cells: Cells, organisations: Iterable[tuple[pd.Timestamp, Organisation]]
) -> None:
    """Write who was in which team; roles and names that the history knew stay."""
    for at, organisation in organisations:
        moment = micros(at)
        facts = load_facts(cells, cells.upto(moment)).get("organisation")
        known = None if facts is None else Organisation.from_dict(facts)
        whole = organisation if known is None else known.with_teams_of(organisation)
        if known is None or known.to_dict() != whole.to_dict():
            writer.add_facts(LOAD, 0, {"organisation": whole.to_dict()}, moment)


def _texts(events: pd.DataFrame, has_id: Any) -> Any:
    texts = events["custom_id"].astype(object).to_numpy(copy=True)
    texts[has_id] = None
    return texts


def _typed(values: pd.Series, name: str) -> pd.Series:
    dtype: Any = COLUMN_DTYPES.get(name, "object")
    plain = values.astype(object).where(values.notna(), None).reset_index(drop=True)
    if dtype == "object":
        return pd.Series(plain, name=name)
    if dtype.startswith("datetime"):
        return pd.Series(pd.to_datetime(plain, utc=True), name=name).astype(dtype)
    return pd.Series(pd.array(plain, dtype=dtype), name=name)


def _unknown(cells: Cells, name: str | None, owners: Owners, moments: Any, packed: Packed) -> Places:
    """Return which events the history does not hold yet, so that a second import adds nothing."""
    records = cells.records(DEAL)
    rows, codes = records.rows_and_codes(name)
    if not len(rows):
        return np.arange(len(owners))
    own = records.keys.codes(owners)
    held = pd.MultiIndex.from_arrays([codes, cells.observed[rows]])
    held_last = ~held.duplicated(keep="last")
    place = held[held_last].get_indexer(pd.MultiIndex.from_arrays([own, moments]))
    found = np.where(place >= 0, rows[held_last][np.maximum(place, 0)], -1)
    same = (found >= 0) & cells.equal(found, packed)
    return np.flatnonzero(~same)


def _write_columns(
    writer: RowWriter, cells: Cells, events: pd.DataFrame, kind: str, known: dict[str, Any], first: int
) -> None:
    names = [str(name) for name in pd.unique(events["field"].dropna())]
    own = ["id"] if kind == "read" else ["id", "custom_id"]
    have = {entry[0] for entry in load_facts(cells, cells.upto(first)).get("columns", [])}
    columns = [[name, COLUMN_DTYPES.get(name, "object"), False] for name in dict.fromkeys([*own, *names])]
    new = [entry for entry in columns if entry[0] not in have]
    facts: dict[str, Any] = {"columns": new} if new else {}
    if "kind" not in known:
        facts["kind"] = kind
    writer.add_facts(LOAD, 0, facts, first)


def _write_presence(writer: RowWriter, cells: Cells, owners: Owners, moments: Any, events: pd.DataFrame) -> None:
    keys, codes = Keys.coded(owners)
    first = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(first, codes, moments)
    deals = keys.owners()
    records = cells.records(DEAL)
    known = records.keys.codes(deals)
    rows, row_codes = records.rows_and_codes(PRESENCE)
    seen = np.full(len(records.keys) + 1, np.iinfo(np.int64).max)
    seen[row_codes[::-1]] = cells.observed[rows[::-1]]
    new = np.flatnonzero(first < seen[known])
    adopted = new[~deals.has_id[new]]
    if len(adopted):
        custom = pd.Series(deals.texts[adopted], dtype="str")
        writer.add(DEAL, "custom_id", deals.take(adopted), pack(custom), first[adopted])
    there = uniform(BOOLEAN, np.ones(len(new), dtype=np.int64))
    writer.add(DEAL, PRESENCE, deals.take(new), there, first[new])
    gone = np.flatnonzero(events["field"].isna().to_numpy())
    if len(gone):
        values = np.array([int(bool(value)) for value in events["value"].iloc[gone]], dtype=np.int64)
        packed = uniform(BOOLEAN, values)
        fresh = _unknown(cells, PRESENCE, owners.take(gone), moments[gone], packed)
        writer.add(DEAL, PRESENCE, owners.take(gone[fresh]), packed.take(fresh), moments[gone[fresh]])
