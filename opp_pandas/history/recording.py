"""One recording: what a load says, beside what a history knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.errors import ConfigurationError
from opp_pandas.history.cells import DEAL, SNAPSHOT, Cells
from opp_pandas.history.record import (
    RowWriter,
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
from opp_pandas.history.snapshot_metadata import (
    Recorded,
    asked_by,
    load_facts,
    sightings_of,
    snapshot_facts,
    stamp_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opp_pandas.frame_state import Loaded


def build_recording(
    cells: Cells,
    sequence: int,
    loaded: Loaded,
    moment: int,
    whole: bool,
    rights: Mapping[str, Any],
    guard: Callable[[Totals, Mapping[str, Any]], None],
) -> tuple[RowWriter | None, Recorded]:
    """Compare a load with what a history knows: the rows to add, if any, and what they are."""
    snapshots = snapshot_facts(cells)
    observed_at = stamp_of(moment)
    if any(facts.get("load") == loaded.key for _, _, facts in snapshots):
        return None, Recorded(None, observed_at, len(loaded.baseline), 0, 0, 0, 0)
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
    guard(tally, (told_before[-1].get("rights") if told_before else None) or {})
    n_cells = writer.n
    write_lookups(writer, loaded, cells, upto, moment)
    facts = facts_of(loaded, known)
    n_facts = write_facts(writer, facts, known, moment)
    if not n_cells and not n_facts and any(at == moment for _, at, _ in snapshots):
        return None, Recorded(None, observed_at, len(owners), 0, 0, 0, 0)
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
        "asked": asked_by(loaded),
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
