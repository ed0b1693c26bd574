"""What a history lacks, since it was repaired or its events have gaps: kept in it, so that whatever is read says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.figures.core.basis import attach_basis
from opp_pandas.history.cells import LOAD, Cells
from opp_pandas.history.record import RowWriter
from opp_pandas.history.snapshot_metadata import load_facts, micros, sightings_of, snapshot_facts, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opp_pandas.history.commit_chain import Damage

_LOSS, _GAP = "loss", "gap"
HISTORY, FORECASTS = "history", "forecasts"
_COLUMNS = ("accepted_at", "accepted_by", "comment", "part", "file", "problem")
_MOMENTS = ("first_night", "last_night", "whole_again")


def damage_table(damages: Iterable[Damage]) -> pd.DataFrame:
    """Make the table of `History.verify`; the nights are missing where nothing is left that says which."""
    found = list(damages)
    texts = {name: pd.array([getattr(one, name) for one in found], dtype="str") for name in ("file", "problem")}
    return pd.DataFrame(texts).assign(
        **{f"{end}_night": _instants([getattr(one, end) for one in found]) for end in ("first", "last")}
    )


def _instants(moments: Iterable[int | None]) -> Any:
    return pd.array(list(moments), dtype="Int64").astype("datetime64[us, UTC]")


def rows_with_losses(rows: Any, damages: Iterable[tuple[str, Damage]], by: str, comment: str) -> Any:
    """Return the rows that are left of a history, and rows that say what is damaged, and who accepts it."""
    import pyarrow as pa

    cells = Cells(rows)
    writer = RowWriter(int(cells.sequence.max(initial=0)) + 1)
    told = {"accepted_at": pd.Timestamp.now("UTC").isoformat(), "accepted_by": by, "comment": comment}
    for part, damage in damages:
        # Of what nobody can date, every state may lack something.
        begins = int(cells.observed.min(initial=damage.last or 0)) if damage.first is None else damage.first
        facts = {**told, "part": part, **vars(damage)}
        writer.add_facts(LOAD, 0, {_LOSS: facts}, begins)
    return pa.concat_tables([rows, writer.table()])


def losses_of(cells: Cells) -> list[dict[str, Any]]:
    """Return what was lost: the facts, the recording that says so, and from when to when states may lack something."""
    rows, _ = cells.records(LOAD).rows_and_codes(_LOSS)
    if not len(rows):
        return []
    whole = _whole_loads(cells)
    return [
        {
            **cells.value(row),
            "number": int(cells.sequence[row]),
            "begins": int(cells.observed[row]),
            "ends": min((at for number, at in whole if number > cells.sequence[row]), default=None),
        }
        for row in rows.tolist()
    ]


def _whole_loads(cells: Cells) -> list[tuple[int, int]]:
    """Return number and moment of the loads with every deal and every column."""
    snapshots = snapshot_facts(cells)
    seen = [fields for _, fields in sightings_of(snapshots)]
    whole = []
    for (number, at, told), own in zip(snapshots, seen, strict=True):
        columns = {entry[0] for entry in load_facts(cells, cells.upto(at)).get("columns", [])}
        if told["complete"] and columns <= (own.fields or frozenset()):
            whole.append((number, at))
    return whole


def caveats(cells: Cells, first: int | None = None, last: int | None = None) -> tuple[str, ...]:
    """Describe in sentences what the deals as known between two moments, at one, or ever, may lack."""
    until = first if last is None else last

    def meets(begins: int, ends: int | None) -> bool:
        return (until is None or begins <= until) and (first is None or ends is None or first < ends)

    lost = (
        _in_words(loss)
        for loss in losses_of(cells)
        if loss["part"] == HISTORY and loss["is_loss"] and meets(loss["begins"], loss["ends"])
    )
    gaps = (gap for gap in gaps_of(cells) if meets(gap["after"] or 0, gap["ends"]))
    return tuple(dict.fromkeys([*lost, *_gap_words(gaps)]))


def with_caveats(table: pd.DataFrame, figure: str, found: tuple[str, ...]) -> pd.DataFrame:
    """Note in the basis of a table what it may lack, as figures say it."""
    return attach_basis(table, {"figure": figure, "n": len(table), "notes": list(found)})


# --- gaps ---------------------------------------------------------------------


def write_gaps(writer: RowWriter, cells: Cells, gaps: pd.DataFrame, source: str) -> None:
    """Write the gaps of imported events, unless the history knows them already."""
    held = {tuple(gap) for told in _gap_facts(cells) for gap in told["gaps"]}
    names = [None if pd.isna(name) else str(name) for name in gaps["field"]]
    after = [None if pd.isna(at) else micros(at) for at in gaps["after"]]
    rows = zip(gaps["id"].tolist(), names, after, map(micros, gaps["before"]), strict=True)
    if new := [row for row in rows if row not in held]:
        writer.add_facts(LOAD, 0, {_GAP: {"source": source, "gaps": new}}, min(row[3] for row in new))


def _gap_facts(cells: Cells) -> list[dict[str, Any]]:
    rows, _ = cells.records(LOAD).rows_and_codes(_GAP)
    return [{**cells.value(row), "number": int(cells.sequence[row])} for row in rows.tolist()]


def gaps_of(cells: Cells) -> list[dict[str, Any]]:
    """Return the gaps, each with the moment that makes up for it: where a field is known again, or a load."""
    told_of = _gap_facts(cells)
    whole = [at for _, at in _whole_loads(cells)] if told_of else []
    return [
        {"id": key, "field": name, "after": after, "before": before, "source": told["source"], "ends": ends}
        for told in told_of
        for key, name, after, before in told["gaps"]
        for ends in [before if name is not None else min((at for at in whole if at >= before), default=None)]
    ]


def _gap_words(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    by_source: dict[str, list[dict[str, Any]]] = {}
    for gap in found:
        by_source.setdefault(gap["source"], []).append(gap)
    for source, gaps in by_source.items():
        ids = sorted({gap["id"] for gap in gaps})
        shown = ", ".join(map(str, ids[:5])) + (" ..." if len(ids) > 5 else "")
        last = stamp_of(max(gap["before"] for gap in gaps))
        yield (
            f"the {source} have gaps: {len(ids):,} deals (id {shown}) changed in ways that no event tells, the last "
            f"before {last:%Y-%m-%d %H:%M} UTC, and may stand otherwise than shown; history.gaps() lists them"
        )


def gaps_table(cells: Cells | None) -> pd.DataFrame:
    """Make the table of `History.gaps`."""
    gaps = [] if cells is None else gaps_of(cells)
    frame = pd.DataFrame({"id": pd.array([gap["id"] for gap in gaps], dtype="Int64")})
    frame["field"] = pd.array([gap["field"] for gap in gaps], dtype="str")
    for name, source in (("after", "after"), ("before", "before"), ("known_again", "ends")):
        frame[name] = _instants(gap[source] for gap in gaps)
    return frame.assign(source=pd.array([gap["source"] for gap in gaps], dtype="str"))


def _in_words(loss: dict[str, Any]) -> str:
    first, last = (None if at is None else f"{stamp_of(at):%Y-%m-%d %H:%M}" for at in (loss["first"], loss["last"]))
    nights = "of nights that nobody can name" if first is None else f"of {first} UTC"
    if first is not None and last != first:
        nights = f"from {first} UTC on" if last is None else f"from {first} to {last} UTC"
    ends = "nothing since makes up for it"
    if loss["ends"] is not None:
        ends = f"a whole load of {stamp_of(loss['ends']):%Y-%m-%d %H:%M} UTC makes up for it"
    return (
        f"the history was repaired: what was recorded {nights} is lost or may be, so deals may be missing or stand as "
        f"before; {ends} (accepted by {loss['accepted_by']} on {loss['accepted_at'][:10]})"
    )


def loss_table(cells: Cells | None) -> pd.DataFrame:
    """Make the table of `History.losses`."""
    losses = [] if cells is None else losses_of(cells)
    frame = pd.DataFrame({name: pd.array([loss[name] for loss in losses], dtype="str") for name in _COLUMNS})
    frame["accepted_at"] = pd.to_datetime(frame["accepted_at"], utc=True).astype("datetime64[us, UTC]")
    for name, source in zip(_MOMENTS, ("first", "last", "ends"), strict=True):
        frame[name] = _instants(loss[source] for loss in losses)
    return frame.assign(rows_lost=[loss["is_loss"] for loss in losses])
