"""One recording: what a load says beside what a history knows, and what is noted of the load itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.errors import ConfigurationError, ConfirmationNeededError, named
from opp_pandas.history.cells import DEAL, LOAD, SNAPSHOT, Cells
from opp_pandas.history.query_identity import asked_for
from opp_pandas.history.record import (
    RowWriter,
    Seen,
    Totals,
    facts_of,
    refuse_other_keys,
    restore_names_and_facts,
    restore_rows,
    seen_facts,
    write_deals,
    write_facts,
    write_lookups,
)
from opp_pandas.instants import parse_end

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.frame_state import Loaded

_ONE_DAY = 86_400_000_000
_FEW = 10
BEGINS = "begins"
"""The fact that says from when on `History.forget` let a history begin."""


@dataclass(frozen=True)
class Recorded:
    """What one recording added.

    Parameters
    ----------
    sequence : int or None
        Number of the snapshot; None where nothing was added.
    observed_at : Timestamp
        The moment that the snapshot speaks of.
    deals, appeared, changed, gone : int
        Deals in the load, and how many of them are new, differ, or left
        [opportunities].
    cells : int
        Rows that were added for fields of deals.
    """

    sequence: int | None
    observed_at: pd.Timestamp
    deals: int
    appeared: int = 0
    changed: int = 0
    gone: int = 0
    cells: int = 0

    def __bool__(self) -> bool:
        return self.sequence is not None

    def __str__(self) -> str:
        if self.sequence is None:
            return f"{self.deals:,} deals, recorded before: nothing was added"
        return (
            f"{self.deals:,} deals at {self.observed_at:%Y-%m-%d %H:%M} UTC: {self.appeared:,} new, "
            f"{self.changed:,} changed, {self.gone:,} gone; snapshot {self.sequence:,}, {self.cells:,} cells added"
        )


def build_recording(
    cells: Cells,
    sequence: int,
    loaded: Loaded,
    moment: int,
    whole: bool,
    rights: Mapping[str, Any],
    max_loss: float,
    confirm: int | None,
) -> tuple[RowWriter | None, Recorded]:
    """Compare a load with what a history knows: the rows to add, if any, and what they are."""
    snapshots = snapshot_facts(cells)
    observed_at = stamp_of(moment)
    if any(facts.get("load") == loaded.key for _, _, facts in snapshots):
        return None, Recorded(None, observed_at, len(loaded.baseline))
    known = load_facts(cells, cells.upto(moment))
    if known.get("kind", loaded.kind) != loaded.kind:
        held = {"read": "deals of the service, by id", "adopt": "adopted deals, by custom_id"}
        raise ConfigurationError(
            f"this history holds {held[known['kind']]}; record {held[loaded.kind]}, in a history of their own"
        )
    writer = RowWriter(sequence)
    records = cells.records(DEAL)
    refuse_other_keys(loaded, records)
    upto = cells.upto(moment)
    tally, owners = write_deals(writer, loaded, records, upto, moment, whole)
    told_before = [facts for _, at, facts in snapshots if at <= moment and facts["complete"]]
    earlier = (told_before[-1].get("rights") if told_before else None) or {}
    _refuse_large_loss(tally, rights, earlier, max_loss, confirm)
    n_cells = writer.n
    write_lookups(writer, loaded, cells, upto, moment)
    facts = facts_of(loaded, known)
    n_facts = write_facts(writer, facts, known, moment)
    if not n_cells and not n_facts and any(at == moment for _, at, _ in snapshots):
        return None, Recorded(None, observed_at, len(owners))
    later = sightings_of(snapshots, moment)
    if later and writer.n:
        added = writer.table()
        restore_rows(writer, records, added, later)
        number, following, _ = next(entry for entry in snapshots if entry[1] > moment)
        restore_names_and_facts(writer, cells, added, number, following)
    names = [str(name) for name in loaded.baseline.frame.columns]
    own = {
        "load": loaded.key,
        "deals": len(owners),
        "complete": whole,
        "source": loaded.report.source,
        "watermark": None if loaded.watermark is None else loaded.watermark.isoformat(),
        "asked": _asked_by(loaded),
        "appeared": tally.appeared,
        "changed": tally.changed,
        "gone": tally.gone,
        "cells": n_cells,
        # Most loads hold the same columns: their names stand once.
        "fields": next((number for number, _, told in snapshots if told["fields"] == names), names),
        "seen": None if whole else seen_facts(owners),
        "rights": rights,
    }
    writer.add_facts(SNAPSHOT, sequence, {"facts": own}, moment)
    return writer, Recorded(sequence, observed_at, len(owners), tally.appeared, tally.changed, tally.gone, n_cells)


def _asked_by(loaded: Loaded) -> str | None:
    """Return what a later load has to ask for to go on from this one; None where none can."""
    if loaded.kind != "read" or loaded.report.complete is False or loaded.watermark is None:
        return None
    return asked_for(loaded.query, loaded.report.source)


def sightings_of(snapshots: list[tuple[int, int, dict[str, Any]]], after: int | None = None) -> list[tuple[int, Seen]]:
    """Describe which cells each snapshot saw, oldest first."""
    names = {number: told["fields"] for number, _, told in snapshots if isinstance(told["fields"], list)}

    def fields(told: dict[str, Any]) -> Any:
        return names.get(told["fields"]) if isinstance(told["fields"], int) else told["fields"]

    return [
        (at, Seen.read({**told, "fields": fields(told)})) for _, at, told in snapshots if after is None or at > after
    ]


def is_whole(loaded: Loaded) -> bool:
    """Whether a deal that is not in the load does not exist."""
    if loaded.kind != "read" or loaded.report.complete is not True or not loaded.query:
        return False
    return not any(loaded.query.get(name) for name in ("filter", "where")) and loaded.query.get("limit") is None


def moment_of(loaded: Loaded, observed_at: Any) -> int:
    """Return the moment that a recording of a load speaks of [us since 1970]."""
    if observed_at is not None:
        return micros(parse_end(observed_at, loaded.timezone, "observed_at"))
    moment = micros(loaded.as_of)
    frame = loaded.baseline.frame
    if loaded.kind == "read" and "updated_at" in frame.columns and frame["updated_at"].notna().any():
        # What was written back or read on later pages was observed after the load began.
        newest = micros(frame["updated_at"].max())
        if moment < newest <= moment + _ONE_DAY:
            moment = newest
    return moment


def rights_of(loaded: Loaded, recorded_by: str | None) -> dict[str, Any]:
    """Describe who recorded a load, and what they may see and change, as far as that is known."""
    scope = getattr(loaded.client, "scope", None)
    column = loaded.baseline.frame.get("can_write")
    return {
        "by": recorded_by,
        "scopes": sorted(scope.split()) if scope else None,
        "can_write": None if column is None or not column.notna().any() else float(column.mean()),
    }


def _refuse_large_loss(
    tally: Totals, rights: Mapping[str, Any], earlier: Mapping[str, Any], max_loss: float, confirm: int | None
) -> None:
    """Keep a load that merely sees less from burying what it does not see.

    It needs confirmation where more deals are gone than `max_loss` says, and more than ten; of a load by somebody else
    or with fewer rights, where any are.
    """
    gone, before = tally.gone, tally.before
    lost = sorted({*(earlier.get("scopes") or ())} - {*(rights["scopes"] or ())}) if rights["scopes"] else []
    other = None not in (rights["by"], earlier.get("by")) and rights["by"] != earlier["by"]
    seen_less = f"the load is {rights['by']}'s and the last one was {earlier['by']}'s, " if other else ""
    seen_less += f"the load is without the scopes {named(lost)} of the last one, " if lost else ""
    if gone and confirm != gone and (seen_less or gone > max(_FEW, max_loss * before)):
        raise ConfirmationNeededError(
            gone,
            f"{seen_less}{gone:,} of {before:,} deals would be recorded as gone. Where they are only out of sight, "
            "record with complete=False; where they are gone",
        )


def micros(stamp: pd.Timestamp) -> int:
    """Return a moment in us since 1970."""
    return int(pd.Timestamp(stamp).tz_convert("UTC").as_unit("us")._value)  # type: ignore[attr-defined]


def stamp_of(moment: int) -> pd.Timestamp:
    """Read a moment in us since 1970."""
    return pd.Timestamp(moment, unit="us", tz="UTC").as_unit("us")


def load_facts(cells: Cells, upto: int) -> dict[str, Any]:
    """Return what loads knew beside their rows, newest first; columns are those that any of them had."""
    records = cells.records(LOAD)
    facts = records.facts(upto)
    rows, _ = records.rows_and_codes("columns")
    columns = {entry[0]: entry for row in rows[rows < upto] for entry in cells.value(int(row))}
    return {**facts, "columns": list(columns.values())} if columns else facts


def snapshot_facts(cells: Cells) -> list[tuple[int, int, dict[str, Any]]]:
    """Return number, moment and facts of every snapshot, in order."""
    rows = cells.rows_of(SNAPSHOT)
    return [(int(cells.sequence[row]), int(cells.observed[row]), cells.value(int(row))) for row in rows]


def snapshot_table(snapshots: list[tuple[int, int, dict[str, Any]]]) -> pd.DataFrame:
    """Make the table of `History.snapshots`."""
    numbers = dict.fromkeys(("deals", "appeared", "changed", "gone", "cells"), "Int64")
    dtypes = {"sequence": "int64", "observed_at": "datetime64[us, UTC]", **numbers, "complete": "boolean"}
    dtypes["source"] = "str"
    rows = [facts | {"sequence": number, "observed_at": stamp_of(at)} for number, at, facts in snapshots]
    return pd.DataFrame(rows, columns=list(dtypes)).astype(dtypes).set_index("sequence")


def begins_at(cells: Cells) -> int:
    """Return the moment that the history was made to begin with by `History.forget`; 0 if it never was."""
    return int(cells.records(LOAD).facts(len(cells)).get(BEGINS, 0))
