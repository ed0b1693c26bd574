"""From a load to the rows that a history lacks."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, DuplicateRowsError, FrameError, named
from opp_pandas.frame_state import Loaded, pack_definitions
from opp_pandas.history.cells import DEAL, LOAD, PRESENCE, SNAPSHOT, Cells, Keys, Owners, Records, arrow_schema
from opp_pandas.history.query_identity import pack_query
from opp_pandas.history.typed_values import (
    BOOLEAN,
    KINDS,
    LOCKED,
    MISSING,
    STORED_IN,
    Flags,
    Packed,
    Places,
    Types,
    encode,
    pack,
    uniform,
)
from opp_pandas.resource import LOOKUP_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


NO_MOMENT = int(np.iinfo(np.int64).min)


class RowWriter:
    """Collects the rows of a recording, which has a number, and makes them a table."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.n = 0
        self._batches: list[Any] = []

    def add(
        self,
        resource: str,
        name: str | None,
        owners: Owners,
        packed: Packed,
        observed: int | Places,
        *,
        updated: Places | None = None,
        wire: Mapping[int, tuple[str, Types]] | None = None,
        locked: Iterable[int] = (),
        sequence: int | None = None,
    ) -> None:
        """Add one row per owner; `updated`, `wire` and `locked` go by position among the owners."""
        import pyarrow as pa
        import pyarrow.compute as pc

        n = len(owners)
        if not n:
            return
        schema = arrow_schema()
        kinds = packed.kinds.copy()
        kinds[list(locked)] = LOCKED
        one_kind = (kinds == kinds[0]).all()
        moments = np.broadcast_to(np.asarray(observed, dtype=np.int64), n)
        told = {place: {"value": types} for place, types in packed.types.items()}
        for place, (_, types) in (wire or {}).items():
            if types:
                told.setdefault(place, {})["wire"] = types
        columns: dict[str, Any] = {
            "sequence": pa.repeat(pa.scalar(self.sequence if sequence is None else sequence, pa.int64()), n),
            "observed_at": pa.array(np.ascontiguousarray(moments)),
            "resource": pa.repeat(resource, n),
            "id": pa.array(owners.ids, mask=~owners.has_id),
            "kind": pa.repeat(KINDS[int(kinds[0])], n) if one_kind else pa.array([KINDS[kind] for kind in kinds]),
            "types": _sparse(n, {place: json.dumps(types) for place, types in told.items()}),
            "wire": _sparse(n, {place: text for place, (text, _) in (wire or {}).items()}),
        }
        if updated is not None:
            columns["updated_at"] = pa.array(updated, mask=updated == NO_MOMENT)
        if owners.texts is not None:
            columns["key"] = pa.array(owners.texts, type=pa.string())
        if name is not None:
            columns["field"] = pa.repeat(name, n)
        for store, values in packed.stores.items():
            elsewhere = (kinds == LOCKED) | ~packed.kept_in(store)
            is_text = store == "text"
            columns[store] = (
                pc.if_else(pa.array(elsewhere), None, values) if is_text else pa.array(values, mask=elsewhere)
            )
        arrays = [
            columns[entry.name].cast(entry.type) if entry.name in columns else pa.nulls(n, entry.type)
            for entry in schema
        ]
        self._batches.append(pa.record_batch(arrays, schema=schema))
        self.n += n

    def add_facts(self, resource: str, key: int, facts: Mapping[str, Any], observed: int) -> None:
        """Add facts of one record, each as JSON."""
        owner = Owners(np.array([key]), np.array([True]))
        for name, value in facts.items():
            self.add(resource, name, owner, pack(pd.Series([value], name=name, dtype=object)), observed)

    def table(self) -> Any:
        """Make the table."""
        import pyarrow as pa

        return pa.Table.from_batches(self._batches, schema=arrow_schema())


def _sparse(n: int, texts: Mapping[int, str]) -> Any:
    """Make a column of texts that is mostly empty."""
    import pyarrow as pa

    return pa.array([texts.get(place) for place in range(n)], type=pa.string()) if texts else pa.nulls(n, pa.string())


def owners_of(frame: pd.DataFrame) -> Owners:
    """Find the key of every row of a baseline: its id, else its custom id; refuse missing keys, and doubled ones."""
    n = len(frame)
    ids = frame["id"] if "id" in frame.columns else pd.Series(pd.array([None] * n, dtype="Int64"))
    has_id = ids.notna().to_numpy()
    numbers = ids.to_numpy(dtype=np.int64, na_value=0)
    texts = None
    if not has_id.all():
        custom = frame["custom_id"].astype(object) if "custom_id" in frame.columns else pd.Series([None] * n)
        without = ~has_id & custom.isna().to_numpy()
        if without.any():
            raise FrameError(
                f"{int(without.sum())} deals have neither id nor custom_id, so a history cannot follow them: "
                f"rows {named(np.flatnonzero(without).tolist())}. "
                "Name the column with the deals' keys: opp.adopt(frame, columns={'Deal No': 'custom_id'})"
            )
        texts = custom.to_numpy(dtype=object, copy=True)
        texts[has_id] = None
        doubled = pd.Series(texts[~has_id]).duplicated(keep=False)
        if doubled.any():
            keys = pd.Series(texts[~has_id])[doubled].unique()
            raise DuplicateRowsError(f"custom ids stand twice: {named(keys)}; a history keeps one row per deal", keys)
    kept = numbers[has_id]
    if len(np.unique(kept)) < len(kept):
        values, counts = np.unique(kept, return_counts=True)
        raise DuplicateRowsError(f"ids stand twice: {named(values[counts > 1].tolist())}", values[counts > 1].tolist())
    return Owners(numbers, has_id, texts)


def refuse_other_keys(loaded: Loaded, records: Records) -> None:
    """Refuse adopted deals that would stand in a history twice: by custom id, and by the id that they were given."""
    frame = loaded.baseline.frame
    if loaded.kind != "adopt" or not len(records.keys) or not {"id", "custom_id"} <= set(frame.columns):
        return
    custom = frame["custom_id"].astype(object)
    has_id = frame["id"].notna().to_numpy()
    by_id = records.keys.owners().has_id
    held_by_id = records.cells.column(records.last("custom_id", len(records.cells))[by_id], "str")
    twice = custom.isin(records.keys.texts) & has_id | custom.isin(held_by_id) & ~has_id & custom.notna()
    if twice.any():
        raise ConfigurationError(
            f"{int(twice.sum())} adopted deals would stand twice in this history, by custom_id and by the id that the "
            f"service gave them: {named(custom[twice])}. Record loads of the service "
            "(opp.read_opportunities) in a history of their own"
        )


@dataclass
class Totals:
    """What a recording found."""

    before: int = 0
    changed: int = 0
    appeared: int = 0
    gone: int = 0


def is_joined(loaded: Loaded, column: str) -> bool:
    """Whether a column only repeats a look-up, which is kept apart."""
    return (
        loaded.kind == "read"
        and column in LOOKUP_COLUMNS
        and LOOKUP_COLUMNS[column].id_column in loaded.baseline.frame.columns
    )


def write_deals(
    writer: RowWriter, loaded: Loaded, records: Records, upto: int, observed: int, complete: bool
) -> tuple[Totals, Owners]:
    """Write the cells of a baseline that differ from what a history knows."""
    cells, frame = records.cells, loaded.baseline.frame
    owners = owners_of(frame)
    codes = records.keys.codes(owners)
    known = codes >= 0
    there = np.zeros(len(owners), dtype=bool)
    present = records.present(upto)
    there[known] = present[codes[known]]
    tally = Totals(before=int(present.sum()), appeared=int((~there).sum()))
    updated = None
    if "updated_at" in frame.columns and getattr(frame["updated_at"].dtype, "kind", "") == "M":
        stamps = pack(frame["updated_at"])
        updated = np.where(stamps.present & there, stamps.stores["instant"], NO_MOMENT)
    places = np.flatnonzero(~there)
    writer.add(DEAL, PRESENCE, owners.take(places), _flags(len(places), True), observed)
    touched = np.zeros(len(owners), dtype=bool)
    marks = _marks_by_column(loaded)
    for name in frame.columns:
        column = str(name)
        if column == "id" or is_joined(loaded, column):
            continue
        packed = pack(frame[name])
        rows = records.standing(column, upto, codes)
        same = cells.equal(rows, packed)
        wire, locked = marks.get(column, ({}, set()))
        _compare_originals(cells, rows, wire, same)
        places = np.flatnonzero(~same)
        if not len(places):
            continue
        moved = {int(place): new for new, place in enumerate(places)} if wire or locked else {}
        writer.add(
            DEAL,
            column,
            owners.take(places),
            packed.take(places),
            observed,
            updated=None if updated is None else updated[places],
            wire={moved[place]: text for place, text in wire.items() if place in moved},
            locked=[moved[place] for place in locked if place in moved],
        )
        touched[places] = True
    tally.changed = int((touched & there).sum())
    if complete and len(records.keys):
        missing = present.copy()
        missing[codes[known]] = False
        gone = np.flatnonzero(missing)
        writer.add(DEAL, PRESENCE, records.keys.owners(gone), _flags(len(gone), False), observed)
        tally.gone = len(gone)
    return tally, owners


def write_lookups(writer: RowWriter, loaded: Loaded, cells: Cells, upto: int, observed: int) -> None:
    """Write names of stages, people and accounts that changed or are new."""
    for kind, lookup in loaded.lookups.items():
        records = cells.records(kind)
        ids = lookup["id"].to_numpy(dtype=np.int64, na_value=0)
        owners = Owners(ids, lookup["id"].notna().to_numpy())
        codes = records.keys.codes(owners)
        for name in lookup.columns:
            packed = pack(lookup[name])
            places = np.flatnonzero(~cells.equal(records.standing(str(name), upto, codes), packed))
            writer.add(kind, str(name), owners.take(places), packed.take(places), observed)


def facts_of(loaded: Loaded, known: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what a load knows beside its rows, in words of JSON."""
    columns = {entry[0]: list(entry) for entry in known.get("columns", [])}
    for name, dtype in loaded.baseline.frame.dtypes.items():
        written = "str" if isinstance(dtype, pd.StringDtype) else str(dtype)
        columns[str(name)] = [str(name), written, is_joined(loaded, str(name))]
    stages = loaded.stages.frame.astype(object)
    return {
        "kind": loaded.kind,
        "columns": list(columns.values()),
        "stages": stages.where(stages.notna(), None).to_dict("records"),
        "timezone": loaded.timezone,
        "definitions": pack_definitions(loaded.definitions),
        "labels": dict(loaded.labels),
        "source": loaded.report.source,
        "query": pack_query(loaded.query),
        # A load that did not ask for the organisation says nothing about it: what was known stands.
        **({} if loaded.organisation is None else {"organisation": loaded.organisation.to_dict()}),
    }


def write_facts(writer: RowWriter, facts: Mapping[str, Any], known: Mapping[str, Any], observed: int) -> int:
    """Write the facts that changed; gives how many."""
    # Written the same way, equal facts are equal texts; lists and tuples too.
    same = {name for name, value in facts.items() if name in known and encode(known[name]) == encode(value)}
    changed = {name: value for name, value in facts.items() if name not in same}
    writer.add_facts(LOAD, 0, changed, observed)
    return len(changed)


def restore_rows(writer: RowWriter, records: Records, added: Any, sightings: list[tuple[int, Seen]]) -> None:
    """Keep later snapshots, of which each saw some fields of some deals, true when rows are added before them."""
    fresh = Cells(added)
    new = fresh.records(DEAL)
    owners = new.keys.owners()
    known = records.keys.codes(owners)
    for name in new.fields:
        rows, codes = new.rows_and_codes(name)
        observed = fresh.observed[rows]
        # Newest first: of two new rows before one snapshot only the later one needs a look.
        pending = np.ones(len(rows), dtype=bool)
        for moment, seen in sightings:
            open_rows = np.flatnonzero(pending & (observed < moment))
            if not len(open_rows):
                continue
            upto = records.cells.upto(moment)
            saw = seen.tell(name, owners.take(codes[open_rows]))
            if name != PRESENCE and seen.keys is None:
                # A whole load saw the fields of the deals that were in it, and of all others only that they were not.
                there = np.append(records.present(upto), False)
                saw &= there[known[codes[open_rows]]]
            open_rows = open_rows[saw]
            pending[open_rows] = False
            newest: dict[int, int] = {int(codes[row]): int(row) for row in open_rows}
            if not newest:
                continue
            keep = np.array([*newest], dtype=np.int64)
            stood = records.standing(name, upto, known[keep])
            # Where the history already says what stood there at the snapshot, nothing is to be done.
            is_told = (stood >= 0) & (records.cells.observed[stood] > observed[[*newest.values()]])
            _restore(writer, records.cells, DEAL, name, owners.take(keep[~is_told]), stood[~is_told], moment)


def restore_names_and_facts(writer: RowWriter, cells: Cells, added: Any, number: int, moment: int) -> None:
    """Keep names, and what a load knew beside its rows, as they stood at the snapshot that follows the added rows."""
    fresh = Cells(added)
    upto = cells.upto(moment, number)
    for resource in fresh.resources:
        if resource in (DEAL, SNAPSHOT):
            continue
        old, new = cells.records(resource), fresh.records(resource)
        owners = new.keys.owners()
        known = old.keys.codes(owners)
        for name in new.fields:
            rows, codes = new.rows_and_codes(name)
            stood = old.standing(name, upto, known[codes])
            # What nobody had told until then is told from now on, and what was told in between still stands.
            again = np.flatnonzero((stood >= 0) & (cells.observed[stood] <= fresh.observed[rows]))
            # Under the snapshot's own number: of several at one moment each keeps what it knew.
            whose = owners.take(codes[again])
            _restore(writer, cells, resource, name, whose, stood[again], moment, sequence=number)


def _restore(
    writer: RowWriter,
    cells: Cells,
    resource: str,
    name: str | None,
    owners: Owners,
    old: Places,
    moment: int,
    *,
    sequence: int | None = None,
) -> None:
    """Write again, at a moment, what rows say; where a row is -1, that there was nothing."""
    kinds = np.where(old >= 0, cells.kind[old], MISSING) if len(cells) else np.full(len(old), MISSING)
    for kind in np.unique(kinds):
        places = np.flatnonzero(kinds == kind)
        if name == PRESENCE and kind == MISSING:
            # A snapshot that looked at everything and did not find the deal.
            packed = _flags(len(places), False)
        elif kind in (MISSING, LOCKED):
            packed = Packed(np.zeros(len(places), dtype=np.int8), {})
        else:
            types = {place: cells.types(int(row)) for place, row in enumerate(old[places]) if cells.types(int(row))}
            packed = Packed(np.full(len(places), kind), {STORED_IN[kind]: cells.stored(kind, old[places])}, types)
        writer.add(resource, name, owners.take(places), packed, moment, sequence=sequence)


@dataclass(frozen=True, eq=False)
class Seen:
    """Which cells a snapshot saw: some fields (None: all) of some deals (None: all that there were)."""

    keys: Keys | None
    fields: frozenset[str] | None

    def tell(self, name: str | None, owners: Owners) -> Flags:
        """Return which deals' field it saw."""
        if self.fields is not None and name != PRESENCE and name not in self.fields:
            return np.zeros(len(owners), dtype=bool)
        if self.keys is None:
            return np.ones(len(owners), dtype=bool)
        return self.keys.codes(owners) >= 0

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Seen:
        """Read it from the facts of a snapshot."""
        names = facts.get("fields")
        seen = facts.get("seen")
        keys = None
        if seen is not None:
            steps = np.frombuffer(zlib.decompress(base64.b64decode(seen["ids"])), dtype="<i8")
            keys = Keys(np.cumsum(steps), pd.Index(seen["texts"], dtype=object))
        return cls(keys, None if names is None else frozenset(names))


def seen_facts(owners: Owners) -> dict[str, Any]:
    """Describe which deals a partial load held: distances between sorted ids, compressed."""
    ids = np.sort(owners.ids[owners.has_id]).astype("<i8")
    steps = np.diff(ids, prepend=0).astype("<i8")
    texts = [] if owners.texts is None else [str(text) for text in owners.texts[~owners.has_id]]
    return {"ids": base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode("ascii"), "texts": texts}


def _flags(n: int, value: bool) -> Packed:
    return uniform(BOOLEAN, np.full(n, int(value), dtype=np.int64))


def _marks_by_column(loaded: Loaded) -> dict[str, tuple[dict[int, tuple[str, Types]], set[int]]]:
    marks: dict[str, tuple[dict[int, tuple[str, Types]], set[int]]] = {}
    for (place, column), value in loaded.baseline.marks.original.items():
        marks.setdefault(column, ({}, set()))[0][place] = encode(value, column)
    for place, column in loaded.baseline.marks.locked:
        marks.setdefault(column, ({}, set()))[1].add(place)
    return marks


def _compare_originals(cells: Cells, rows: Places, wire: Mapping[int, tuple[str, Types]], same: Flags) -> None:
    """A cell whose original changed is not the same, even where its canonical form is."""
    if not wire and not cells.wire:
        return
    for place, original in wire.items():
        if same[place] and cells.wire.get(int(rows[place])) != original:
            same[place] = False
    if cells.wire:
        for place in np.flatnonzero(same & np.isin(rows, np.fromiter(cells.wire, dtype=np.int64))).tolist():
            if place not in wire:
                same[place] = False
