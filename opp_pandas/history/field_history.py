"""What changed between two moments, and which stages deals entered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.history.cells import DEAL, LOAD, PRESENCE, Cells, Records
from opp_pandas.history.replay import lookups_at, stages_at
from opp_pandas.history.snapshot_metadata import snapshot_facts
from opp_pandas.history.typed_values import BOOLEAN, MISSING, TIME

if TYPE_CHECKING:
    from opp_pandas.history.typed_values import Flags, Places

_NO_MOMENT = int(np.iinfo(np.int64).min)
STAGE_FIELDS = ("stage_id", "stage_name", "updated_at", "created_at", "external_created_at", "close_date", "custom_id")


def changes_between(cells: Cells, first: int, last: int, fields: set[str] | None, net: bool) -> pd.DataFrame:
    """Give the log of `History.diff`; moments in us since 1970."""
    records = cells.records(DEAL)
    start, end = cells.upto(first), cells.upto(last)
    came = _comings(cells, records, start, end, net)
    parts = [came]
    # Cells of a deal's first appearance are told by the appearance alone.
    new = set(
        zip(came["code"][came["action"] == "appeared"], came["moment"][came["action"] == "appeared"], strict=True)
    )
    for name in records.fields:
        if name is None or (fields is not None and name not in fields):
            continue
        parts.append(_field_changes(cells, records, name, start, end, net, new))
    columns = {key: [value for part in parts for value in part[key]] for key in came}
    order = np.lexsort((np.arange(len(columns["code"])), np.array(columns["code"]), np.array(columns["moment"])))
    return _as_log(cells, records, columns, order.tolist(), end)


def _comings(cells: Cells, records: Records, start: int, end: int, net: bool) -> dict[str, Any]:
    rows, codes = records.rows_and_codes(PRESENCE)
    before = records.last(PRESENCE, start)
    there = (before >= 0) & (cells.stored(BOOLEAN, before) == 1)
    known = before >= 0
    found: dict[str, Any] = {name: [] for name in ("code", "moment", "updated", "action", "field", "before", "after")}
    if net:
        after = records.last(PRESENCE, end)
        now = (after >= 0) & (cells.stored(BOOLEAN, after) == 1)
        moved = np.flatnonzero(now != there)
        steps = [(int(code), int(after[code]), bool(now[code])) for code in moved]
    else:
        inside = slice(int(np.searchsorted(rows, start)), int(np.searchsorted(rows, end)))
        values = cells.stored(BOOLEAN, rows[inside]) == 1
        steps = list(zip(codes[inside].tolist(), rows[inside].tolist(), values.tolist(), strict=True))
    for code, row, present in steps:
        if present == bool(there[code]):
            continue
        found["code"].append(code)
        found["moment"].append(int(cells.observed[row]))
        found["updated"].append(_NO_MOMENT)
        found["action"].append(("returned" if known[code] else "appeared") if present else "gone")
        found["field"].append(None)
        found["before"].append(None)
        found["after"].append(None)
        there[code], known[code] = present, True
    found["action"] = np.array(found["action"], dtype=object)
    found["code"] = np.array(found["code"], dtype=np.int64)
    found["moment"] = np.array(found["moment"], dtype=np.int64)
    return found


def _field_changes(
    cells: Cells, records: Records, name: str, start: int, end: int, net: bool, new: set[tuple[int, int]]
) -> dict[str, Any]:
    rows, codes = records.rows_and_codes(name)
    inside = slice(int(np.searchsorted(rows, start)), int(np.searchsorted(rows, end)))
    rows, codes = rows[inside], codes[inside]
    standing = records.last(name, start)
    if net:
        last = records.last(name, end)
        codes = np.unique(codes)
        rows = last[codes]
    found: dict[str, Any] = {key: [] for key in ("code", "moment", "updated", "action", "field", "before", "after")}
    new_deals = {code for code, _ in new}
    for code, row in zip(codes.tolist(), rows.tolist(), strict=True):
        moment = int(cells.observed[row])
        old, standing[code] = int(standing[code]), row
        if (code, moment) in new or (net and code in new_deals):
            continue
        before = cells.value(old) if old >= 0 else None
        after = cells.value(row)
        if before == after and type(before) is type(after):
            continue
        found["code"].append(code)
        found["moment"].append(moment)
        found["updated"].append(int(cells.updated[row]))
        found["action"].append("changed")
        found["field"].append(name)
        found["before"].append(before)
        found["after"].append(after)
    return found


def _as_log(cells: Cells, records: Records, columns: dict[str, list[Any]], order: list[int], upto: int) -> pd.DataFrame:
    codes = np.array([columns["code"][place] for place in order], dtype=np.int64)
    ids, has_id, texts = records.keys.split(codes)
    id_array = pd.array(ids, dtype="Int64")
    id_array[~has_id] = pd.NA
    custom = cells.column(records.last("custom_id", upto)[codes], "str").astype(object)
    custom[~has_id] = texts[~has_id]

    def objects(name: str) -> Any:
        array = np.empty(len(order), dtype=object)
        array[:] = [columns[name][place] for place in order]
        return array

    return pd.DataFrame(
        {
            "id": id_array,
            "custom_id": pd.array(custom, dtype="str"),
            "action": pd.array(objects("action"), dtype="str"),
            "field": pd.array(objects("field"), dtype="str"),
            "before": pd.Series(objects("before"), dtype=object),
            "after": pd.Series(objects("after"), dtype=object),
            "observed_at": _moments(np.array([columns["moment"][place] for place in order], dtype=np.int64)),
            "updated_at": _moments(np.array([columns["updated"][place] for place in order], dtype=np.int64)),
        }
    )


def _moments(micros: Places) -> Any:
    return pd.DatetimeIndex(micros.view("datetime64[us]")).tz_localize("UTC").array


def stage_entries(cells: Cells, moment: int) -> pd.DataFrame:
    """Give the table of `History.stage_entries`."""
    upto = cells.upto(moment)
    records = cells.records(DEAL)
    facts = cells.records(LOAD).facts(upto)
    lookup = lookups_at(cells, upto).get("opportunityStage")
    table = stages_at(facts, {} if lookup is None else {"opportunityStage": lookup}).frame
    rows, codes, ids, names = _stages_told(cells, records, table, upto, by_id_alone=facts.get("kind") == "adopt")
    # By deal, then by time: an entry is followed by the next one of the same deal.
    order = np.lexsort((rows, codes))
    rows, codes, ids, names = rows[order], codes[order], ids[order], names[order]
    stage, _ = pd.factorize(ids if ids.notna().all() else ids.astype(object).where(ids.notna(), names))
    first = np.ones(len(rows), dtype=bool)
    first[1:] = codes[1:] != codes[:-1]
    kept = first.copy()
    kept[1:] |= stage[1:] != stage[:-1]
    rows, codes, first, ids, names = rows[kept], codes[kept], first[kept], ids[kept], names[kept]
    observed = cells.observed[rows]
    # An imported event happened at the very moment at which it stands.
    is_event = cells.updated[rows] == observed
    not_before = np.where(is_event, observed, _not_before(cells, rows, first, upto))
    created = _created(cells, records, codes, upto)
    # What `History.forget` left of a deal may be a later stage than the one it came with.
    came = first & (observed == _first_sights(cells, records, upto)[codes])
    entered, fresh = _entered(cells, rows, first, came, observed, not_before, created)
    deal_ids, has_id, texts = records.keys.split(codes)
    id_array = pd.array(deal_ids, dtype="Int64")
    id_array[~has_id] = pd.NA
    custom = cells.column(records.last("custom_id", upto)[codes], "str").astype(object)
    custom[~has_id] = texts[~has_id]
    return pd.DataFrame(
        {
            "id": id_array,
            "custom_id": pd.array(custom, dtype="str"),
            "stage_id": ids.array,
            "stage_name": names.array,
            "entered_at": _moments(entered),
            "not_before": _moments(np.where(first, _NO_MOMENT, not_before)),
            "seen_before": first & ~fresh & ~is_event,
            "created_at": _moments(created),
        }
    )


def _stages_told(
    cells: Cells, records: Records, table: pd.DataFrame, upto: int, *, by_id_alone: bool
) -> tuple[Places, Places, pd.Series, pd.Series]:
    """Give the rows that say where a deal stands, its key, and the stage's id and name.

    Loads of the service tell ids, and events of other systems that were put
    beside them tell names: those are found in the table of stages.
    """
    by_id, id_codes = _until(*records.rows_and_codes("stage_id"), upto)
    by_name, name_codes = _until(*records.rows_and_codes("stage_name"), upto)
    if len(by_id) and len(by_name):
        said = pd.MultiIndex.from_arrays([id_codes, cells.observed[by_id]])
        alone = ~pd.MultiIndex.from_arrays([name_codes, cells.observed[by_name]]).isin(said)
        alone &= not by_id_alone
        by_name, name_codes = by_name[alone], name_codes[alone]
    by_id, id_codes = by_id[cells.kind[by_id] != MISSING], id_codes[cells.kind[by_id] != MISSING]
    by_name, name_codes = by_name[cells.kind[by_name] != MISSING], name_codes[cells.kind[by_name] != MISSING]
    ids = pd.Series(cells.column(by_id, "Int64"))
    names = pd.Series(cells.column(by_name, "str"))
    single = table[~table["stage_name"].duplicated(keep=False)].set_index("stage_name")["stage_id"]
    found = names.map(single).astype("Int64") if len(by_id) else pd.Series(pd.array([None] * len(names), dtype="Int64"))
    known_names = table.drop_duplicates("stage_id").set_index("stage_id")["stage_name"]
    return (
        np.concatenate([by_id, by_name]),
        np.concatenate([id_codes, name_codes]),
        pd.concat([ids, found], ignore_index=True).astype("Int64"),
        pd.concat([ids.map(known_names).astype("str"), names.astype("str")], ignore_index=True),
    )


def _not_before(cells: Cells, rows: Places, first: Flags, upto: int) -> Places:
    """Give the last moment at which each stage was not yet entered: a snapshot's, or that of the entry before.

    Events that were imported tell of one deal, and loads of another part of the
    pipeline of others: only a snapshot that looked at everything, or that asked
    for the same deals, tells that a deal was not there, or not yet in its stage.
    """
    observed, found = cells.observed[rows], np.full(len(rows), _NO_MOMENT)
    snapshots = [entry for entry in snapshot_facts(cells) if entry[1] <= int(cells.observed[:upto].max(initial=0))]
    asked = {number: facts.get("asked") for number, _, facts in snapshots}
    questions = list(dict.fromkeys(asked.values()))
    place = {number: questions.index(question) for number, question in asked.items()}
    numbers, back = np.unique(cells.sequence[rows], return_inverse=True)
    question_of = np.array([place.get(int(number), -1) for number in numbers], dtype=np.int64)[back]
    for code in np.unique(question_of):
        chosen = question_of == code
        looks = np.unique(
            [at for _, at, facts in snapshots if code < 0 or facts["complete"] or facts.get("asked") == questions[code]]
        ).astype(np.int64)
        earlier = np.searchsorted(looks, observed[chosen]) - 1
        if len(looks):
            found[chosen] = np.where(earlier >= 0, looks[np.maximum(earlier, 0)], _NO_MOMENT)
    previous = np.where(first, _NO_MOMENT, np.roll(observed, 1))
    return np.asarray(np.maximum(found, previous))


def _first_sights(cells: Cells, records: Records, upto: int) -> Places:
    """Give the moment at which each deal was first there."""
    rows, codes = _until(*records.rows_and_codes(PRESENCE), upto)
    found = np.full(len(records.keys), _NO_MOMENT)
    # Of repeated places the last assignment stays: the first row, from the back.
    found[codes[::-1]] = cells.observed[rows[::-1]]
    return found


def _until(rows: Places, codes: Places, upto: int) -> tuple[Places, Places]:
    seen = int(np.searchsorted(rows, upto))
    return rows[:seen], codes[:seen]


def _created(cells: Cells, records: Records, codes: Places, upto: int) -> Places:
    created = np.full(len(codes), _NO_MOMENT)
    for name in ("created_at", "external_created_at"):
        rows = records.last(name, upto)[codes]
        has = (rows >= 0) & (cells.kind[rows] == TIME)
        if has.any():
            created[has] = cells.stored(TIME, rows)[has]
    return created


def _entered(
    cells: Cells,
    rows: Places,
    first: Flags,
    came: Flags,
    observed: Places,
    not_before: Places,
    created: Places,
) -> tuple[Places, Flags]:
    """Guess when each stage was entered, between the last observation without it and the first; tell new deals."""
    guess = np.where(cells.updated[rows] != _NO_MOMENT, cells.updated[rows], observed)
    entered = np.clip(guess, not_before, observed)
    # A deal that was created since the look before entered its first stage when it was created.
    fresh = (
        came & (created != _NO_MOMENT) & (created <= observed) & (created >= not_before) & (not_before != _NO_MOMENT)
    )
    entered = np.where(first, observed, entered)
    entered = np.where(fresh, created, entered)
    return entered, fresh
