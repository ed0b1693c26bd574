"""What changed between two moments, and which stages deals entered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.history.cells import DEAL, LOAD, PRESENCE, Cells, Records
from opp_pandas.history.replay import lookups_at, stages_at
from opp_pandas.history.snapshot_metadata import snapshot_facts
from opp_pandas.history.typed_values import BOOLEAN, MISSING, TIME, Flags, Places

_NO_MOMENT = int(np.iinfo(np.int64).min)
STAGE_FIELDS = ("stage_id", "stage_name", "updated_at", "created_at", "external_created_at", "close_date", "custom_id")


def changes_between(cells: Cells, first: int, last: int, fields: set[str] | None, net: bool) -> pd.DataFrame:
    """Return the log of `History.diff`; moments in us since 1970."""
    records = cells.records(DEAL)
    start, end = cells.upto(first), cells.upto(last)
    came = _comings(cells, *_steps(records, PRESENCE, start, end, net))
    parts = [came]
    # Cells of a deal's first appearance are told by the appearance alone.
    appeared = came[came["action"] == "appeared"]
    new = pd.MultiIndex.from_frame(appeared[["code", "moment"]])
    for name in records.fields:
        if name is not None and (fields is None or name in fields):
            changes = _changes(cells, name, *_steps(records, name, start, end, net))
            told = (
                changes["code"].isin(appeared["code"])
                if net
                else pd.MultiIndex.from_frame(changes[["code", "moment"]]).isin(new)
            )
            parts.append(changes[~np.asarray(told)])
    log = pd.concat(parts, ignore_index=True)
    log = log.iloc[np.lexsort((np.arange(len(log)), log["code"], log["moment"]))].reset_index(drop=True)
    return pd.DataFrame(
        {
            **records.key_columns(log["code"].to_numpy(dtype=np.int64), end),
            **{name: log[name].array for name in ("action", "field", "before", "after")},
            "observed_at": _moments(log["moment"].to_numpy(dtype=np.int64)),
            "updated_at": _moments(log["updated"].to_numpy(dtype=np.int64)),
        }
    )


def _steps(records: Records, name: str | None, start: int, end: int, net: bool) -> tuple[Places, Places, Places]:
    """Return the deals whose field was told in between, the rows that tell it, and those that told it before; or -1."""
    rows, codes = records.rows_and_codes(name)
    inside = slice(int(np.searchsorted(rows, start)), int(np.searchsorted(rows, end)))
    rows, codes = rows[inside], codes[inside]
    if net:
        codes = np.unique(codes)
        rows = records.standing(name, end, codes)
    order = np.argsort(codes, kind="stable")
    rows, codes = rows[order], codes[order]
    again = codes == np.roll(codes, 1)
    again[:1] = False
    return codes, rows, np.where(again, np.roll(rows, 1), records.standing(name, start, codes))


def _log(codes: Places, moments: Places, updated: Any, action: Any, field: str | None, **values: Any) -> pd.DataFrame:
    facts = {"code": codes, "moment": moments, "updated": updated, "action": pd.array(action, dtype="str")}
    field_column = pd.array([field] * len(codes), dtype="str")
    objects = {name: pd.Series(values.get(name, [None] * len(codes)), dtype=object) for name in ("before", "after")}
    return pd.DataFrame({**facts, "field": field_column, **objects})


def _comings(cells: Cells, codes: Places, rows: Places, before: Places) -> pd.DataFrame:
    was = (before >= 0) & (cells.stored(BOOLEAN, before) == 1)
    now = cells.stored(BOOLEAN, rows) == 1
    action = np.where(now, np.where(before >= 0, "returned", "appeared"), "gone")[now != was]
    codes, rows = codes[now != was], rows[now != was]
    return _log(codes, cells.observed[rows], _NO_MOMENT, action, None)


def _changes(cells: Cells, name: str, codes: Places, rows: Places, before: Places) -> pd.DataFrame:
    old, new = (cells.column(places, "object") for places in (before, rows))
    differ = [type(left) is not type(right) or left != right for left, right in zip(old, new, strict=True)]
    kept = np.flatnonzero(differ)
    rows = rows[kept]
    action = ["changed"] * len(kept)
    return _log(codes[kept], cells.observed[rows], cells.updated[rows], action, name, before=old[kept], after=new[kept])


def _moments(micros: Places) -> Any:
    return pd.DatetimeIndex(micros.view("datetime64[us]")).tz_localize("UTC").array


def stage_entries(cells: Cells, moment: int) -> pd.DataFrame:
    """Return the table of `History.stage_entries`."""
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
    # A deal that was created since the look before entered its first stage when it was created; a later stage was
    # entered between the last observation without it and the first, perhaps when the deal was last updated.
    fresh = came & (created != _NO_MOMENT) & (created <= observed) & (created >= not_before)
    fresh &= not_before != _NO_MOMENT
    guess = np.where(cells.updated[rows] != _NO_MOMENT, cells.updated[rows], observed)
    entered = np.where(fresh, created, np.where(first, observed, np.clip(guess, not_before, observed)))
    return pd.DataFrame(
        {
            **records.key_columns(codes, upto),
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
    """Return the rows that say where a deal stands, its key, and the stage's id and name.

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
    """Return the last moment at which each stage was not yet entered: a snapshot's, or that of the entry before.

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
    """Return the moment at which each deal was first there."""
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
        rows = records.standing(name, upto, codes)
        has = (rows >= 0) & (cells.kind[rows] == TIME)
        if has.any():
            created[has] = cells.stored(TIME, rows)[has]
    return created
