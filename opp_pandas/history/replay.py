"""What a history knew at a moment, as a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.api.frame_builder import look_up
from opp_pandas.errors import MissingColumnError
from opp_pandas.figures.core.context import unpack_definitions
from opp_pandas.frame_state import CellMarks, Loaded, Rows, attach_loaded
from opp_pandas.history.cells import DEAL, LOAD, NONE, PRESENCE, SNAPSHOT, Cells, Keys, Records, arrow_schema
from opp_pandas.history.losses import caveats
from opp_pandas.history.query_identity import unpack_query
from opp_pandas.history.record import RowWriter
from opp_pandas.history.snapshot_metadata import BEGINS, load_facts, snapshot_facts, stamp_of
from opp_pandas.history.typed_values import LOCKED, Places, decode
from opp_pandas.load_report import LoadReport
from opp_pandas.organisation import Organisation
from opp_pandas.resource import LOOKUP_COLUMNS, LookupColumn
from opp_pandas.stages import STAGE_TABLE_DTYPES, StageTable, resolve_stages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_LOOKUP_DTYPES = {"id": "Int64"} | {entry.field: entry.dtype for entry in LOOKUP_COLUMNS.values()}


def stored_fields(columns: Iterable[str]) -> list[str | None]:
    """Return the stored fields that columns need: joined names come from ids, and the rows from the presence."""
    fields: list[str | None] = [PRESENCE]
    for column in columns:
        fields.append(column)
        while column in LOOKUP_COLUMNS:
            column = LOOKUP_COLUMNS[column].id_column
            fields.append(column)
    return list(dict.fromkeys(fields))


def lookups_at(cells: Cells, upto: int) -> dict[str, pd.DataFrame]:
    """Return the look-ups of names as they were after the first `upto` rows."""
    found = {}
    for kind in cells.resources:
        if kind in (DEAL, LOAD, SNAPSHOT):
            continue
        records = cells.records(kind)
        last = {name: records.last(name, upto) for name in filter(None, records.fields) if name != "id"}
        ids = records.last("id", upto)
        there = np.flatnonzero(ids >= 0)
        columns = {"id": pd.array(records.keys.ids[there], dtype="Int64")}
        for name in dict.fromkeys(["name", "order", "is_closed", *last]):
            rows = last.get(name, np.full(len(records.keys), NONE))
            columns[name] = cells.column(rows[there], _LOOKUP_DTYPES.get(name, "object"))
        found[kind] = pd.DataFrame(columns)
    return found


def stages_at(facts: Mapping[str, Any], lookups: Mapping[str, pd.DataFrame]) -> StageTable:
    """Return the meaning of the stages as the newest load had it."""
    if not facts.get("stages"):
        return resolve_stages(None, lookups.get("opportunityStage"))
    frame = pd.DataFrame(facts["stages"], columns=list(STAGE_TABLE_DTYPES))
    return StageTable(frame.astype(STAGE_TABLE_DTYPES))


def frame_at(
    cells: Cells,
    moment: int,
    source: str,
    wanted: list[str] | None = None,
    records: Records | None = None,
    only: Keys | None = None,
) -> pd.DataFrame:
    """Return the deals as they were known at a moment (`only`: no others), with a load that travels along."""
    upto = cells.upto(moment)
    records = cells.records(DEAL) if records is None else records
    facts = load_facts(cells, upto)
    entries = [tuple(entry) for entry in facts.get("columns", [])] or [("id", "Int64", False)]
    names = [entry[0] for entry in entries]
    if wanted is not None:
        missing = [name for name in wanted if name not in names]
        if missing:
            raise MissingColumnError(missing, names, "The history has never seen it.")
        kept = {"id", *wanted}
        entries = [entry for entry in entries if entry[0] in kept]
    # By id, then adopted ones as they first came.
    codes = np.flatnonzero(records.present(upto))
    if only is not None:
        codes = codes[only.codes(records.keys.owners(codes)) >= 0]
    lookups = lookups_at(cells, upto)
    columns: dict[str, Any] = {}
    frozen: dict[str, Any] = {}
    marks = CellMarks()
    for name, dtype, joined in entries:
        if name == "id":
            columns[name] = records.keys.owners(codes).id_column
        elif not joined:
            rows = records.standing(name, upto, codes)
            columns[name] = cells.column(rows, dtype)
            if columns[name].dtype == object:
                frozen[name] = cells.column(rows, dtype, frozen=True)
            marks |= _marks(cells, rows, name)

    def stored(name: str) -> Any:
        return columns[name] if name in columns else cells.column(records.standing(name, upto, codes), "Int64")

    for name, dtype, joined in entries:
        if joined:
            entry = LOOKUP_COLUMNS[name]
            ids = pd.Series(_ids_behind(entry, columns, lookups, stored))
            columns[name] = look_up(ids, lookups.get(entry.type), entry.field, dtype)
    index = pd.RangeIndex(len(codes))
    frame = _framed({entry[0]: columns[entry[0]] for entry in entries}, index)
    snapshots = [entry for entry in snapshot_facts(cells) if entry[1] <= moment]
    still = {entry[0]: frozen[entry[0]] if entry[0] in frozen else columns[entry[0]].copy() for entry in entries}
    baseline = Rows(_framed(still, index), marks)
    loaded = _loaded(cells, facts, baseline, lookups, moment, source, snapshots, wanted)
    return attach_loaded(frame, loaded)


def _ids_behind(
    entry: LookupColumn,
    columns: Mapping[str, Any],
    lookups: Mapping[str, pd.DataFrame],
    stored: Callable[[str], Any],
) -> Any:
    """Return the ids that a joined column stands on, which may be joined themselves."""
    # No closure that calls itself: such a circle would keep all rows in memory until the next collection.
    further = None if entry.id_column in columns else LOOKUP_COLUMNS.get(entry.id_column)
    if further is None:
        return stored(entry.id_column)
    ids = pd.Series(_ids_behind(further, columns, lookups, stored))
    return look_up(ids, lookups.get(further.type), further.field, further.dtype)


def _framed(columns: Mapping[str, Any], index: pd.RangeIndex) -> pd.DataFrame:
    """Make a frame whose columns of objects stay such: pandas takes a mere array of texts for a column of text."""
    kept = {
        name: pd.Series(values, index=index, dtype=object, copy=False) if values.dtype == object else values
        for name, values in columns.items()
    }
    return pd.DataFrame(kept, index=index, copy=False)


def _marks(cells: Cells, rows: Places, name: str) -> CellMarks:
    if not cells.wire:
        return CellMarks()
    places = np.flatnonzero(np.isin(rows, np.fromiter(cells.wire, dtype=np.int64))).tolist()
    return CellMarks(
        {(place, name): decode(*cells.wire[int(rows[place])]) for place in places},
        {(place, name): "could not be read" for place in places if cells.kind[int(rows[place])] == LOCKED},
    )


def _loaded(
    cells: Cells,
    facts: Mapping[str, Any],
    baseline: Rows,
    lookups: Mapping[str, pd.DataFrame],
    moment: int,
    source: str,
    snapshots: list[tuple[int, int, dict[str, Any]]],
    wanted: list[str] | None,
) -> Loaded:
    notes = []
    watermark = None
    doubts = caveats(cells, moment)
    if snapshots:
        last = stamp_of(snapshots[-1][1]).isoformat()
        notes.append(f"as known at {last}, the last of {len(snapshots):,} snapshots until then")
        number, seen, told = _known_from(snapshots)
        watermark = pd.Timestamp(told["watermark"]) if told.get("watermark") and not doubts else None
        # What was asked for travels with the moment until which all of it is known.
        asked = cells.records(LOAD).facts(cells.upto(seen, number))
        # Who is in which team has a date of its own, whatever was asked for.
        facts = {**facts, **asked, **{name: facts[name] for name in ("organisation",) if name in facts}}
    query = unpack_query(facts["query"]) if "query" in facts else {}
    kind = facts.get("kind", "read")
    waiting = np.flatnonzero(baseline.frame["id"].isna().to_numpy()).tolist() if kind == "adopt" else []
    return Loaded(
        kind=kind,
        baseline=baseline,
        stages=stages_at(facts, lookups),
        lookups=lookups,
        timezone=facts.get("timezone"),
        as_of=stamp_of(moment),
        report=LoadReport(source=f"history {source}", rows=len(baseline), notes=tuple(notes), caveats=doubts),
        created={place: place for place in waiting},
        definitions=unpack_definitions(facts.get("definitions") or {}),
        labels=facts.get("labels") or {},
        organisation=Organisation.from_dict(facts["organisation"]) if "organisation" in facts else None,
        query=query if wanted is None else {**query, "fields": wanted},
        watermark=watermark,
    )


def _known_from(snapshots: list[tuple[int, int, dict[str, Any]]]) -> tuple[int, int, dict[str, Any]]:
    """Return the newest snapshot until which every change is in the history."""
    whole = [entry for entry in snapshots if entry[2]["complete"]]
    alike = len({told.get("asked") for _, _, told in snapshots}) == 1
    # Loads of different parts: what none of them saw since the first stands as it was then.
    return whole[-1] if whole else snapshots[-1] if alike else snapshots[0]


def standing_rows(cells: Cells, moment: int) -> Places:
    """Return the rows until a moment that still say how something stood then."""
    upto = cells.upto(moment)
    kept = [np.empty(0, dtype=np.int64)]
    for resource in cells.resources:
        records = cells.records(resource)
        if resource == SNAPSHOT:
            kept.append(_standing_snapshots(cells, records.rows[records.rows < upto]))
            continue
        if resource == LOAD:
            kept.append(records.rows[records.rows < upto])
            continue
        there = records.present(upto) if resource == DEAL else np.ones(len(records.keys), dtype=bool)
        if resource == DEAL:
            # A deal that comes back later is told by what differs from how it was before it went.
            rows, codes = records.rows_and_codes(PRESENCE)
            there[codes[rows >= upto]] = True
        for name in records.fields:
            last = records.last(name, upto)
            kept.append(last[(last >= 0) & there])
    return np.sort(np.concatenate(kept))


def _standing_snapshots(cells: Cells, rows: Places) -> Places:
    """Return those of the snapshots until a moment that later ones, and loads that go on from them, need."""
    told = [cells.value(int(row)) for row in rows]
    # Later snapshots may point to the column names that an earlier one lists.
    needed = {place for place, facts in enumerate(told) if isinstance(facts["fields"], list)}
    whole = [place for place, facts in enumerate(told) if facts["complete"]]
    # Where no load was whole, the first one says until when everything is known, if others asked for other deals.
    first_of = {facts.get("asked"): place for place, facts in reversed(list(enumerate(told)))}
    needed |= {*(whole[-1:] or first_of.values()), *range(len(told))[-1:]}
    return rows[sorted(needed)]


def rows_as_table(cells: Cells, kept: Places, n: int, *, begins: int) -> Any:
    """Return rows among the first `n` and all after them, with the moment from which on they are all there is."""
    import pyarrow as pa

    writer = RowWriter(int(cells.sequence[kept].max(initial=0)))
    writer.add_facts(LOAD, 0, {BEGINS: begins}, begins)
    parts = [cells.table.take(kept), cells.table.slice(n)]
    return pa.concat_tables([*(part.cast(arrow_schema()) for part in parts), writer.table()])
