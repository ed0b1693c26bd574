"""Plans in files: JSON with a version and a checksum, and nothing that could run.

The same facts make the fingerprint of a plan: everything that is sent, and the
service it is sent to.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from opp_pandas._files import write_whole
from opp_pandas.api.documents import identifier
from opp_pandas.changes import rules
from opp_pandas.changes.changeset import Cell, Entry, Refusal, RowCreation, RowDeletion, RowUpdate
from opp_pandas.changes.impact import MOVES
from opp_pandas.errors import ConfigurationError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.changes.plan import ChangeSet

FORMAT, VERSION = "opp_pandas plan", 1
_ACTIONS = {"updates": "update", "creations": "create", "deletions": "delete"}
_PLAIN = ("service", "timezone", "loaded_rows", "unknown_names", "suspicion")
_LARGEST = 256 * 1024 * 1024


def fingerprint_of(plan: ChangeSet) -> str:
    """Hash everything that a plan sends (SHA-256, as 64 hexadecimal digits)."""
    facts = {"service": plan.service, "changes": changes_to_json(plan)}
    if plan.unknown_names != "refuse" and any(entry.unresolved for entry in plan.creations):
        facts["unknown_names"] = plan.unknown_names
    return checksum_of(facts)


def checksum_of(facts: Any) -> str:
    """Hash JSON values (SHA-256, as 64 hexadecimal digits); the order of members does not matter."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def changes_to_json(plan: ChangeSet) -> dict[str, Any]:
    """Return what a plan sends as plain JSON values."""
    return {name: [entry_to_json(entry) for entry in getattr(plan, name)] for name in _ACTIONS}


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """Return one row of a plan as plain JSON values; where it stood in a frame is left out."""
    if isinstance(entry, RowUpdate):
        return {"id": entry.id, "cells": list(entry.cells)}
    if isinstance(entry, RowDeletion):
        return {"id": entry.id, "name": entry.name, "before": dict(entry.before)}
    label = entry.label if isinstance(entry.label, str | int) else printable(entry.label, 80)
    facts: dict[str, Any] = {"label": label, "key": entry.key, "attempted": entry.attempted}
    facts |= {"values": dict(entry.values), "unresolved": dict(entry.unresolved)}
    return facts | ({"left_out": dict(entry.left_out)} if entry.left_out else {})


def entry_from_json(action: str, data: Any) -> Any:
    """Read one row of a plan back, as it was when it was written: today's rules are not applied to it."""
    if action == "update":
        cells = tuple(Cell(*cell) for cell in data["cells"])
        if not cells or len({cell.column for cell in cells}) != len(cells):
            raise ValueError("an update without cells, or with one twice")
        return RowUpdate(identifier(data["id"]), -1, -1, cells)
    if action == "create":
        values, unresolved = dict(data["values"]), dict(data["unresolved"])
        key, attempted, left_out = str(data["key"]), bool(data["attempted"]), dict(data.get("left_out", {}))
        return RowCreation(-1, data["label"], values, unresolved, key, attempted, left_out)
    return RowDeletion(identifier(data["id"]), -1, data["name"], dict(data["before"]))


def save_plan(plan: ChangeSet, path: str | Path) -> Path:
    """Write a plan to a file, whole or not at all, readable by its owner only."""
    content = {
        **{name: getattr(plan, name) for name in _PLAIN},
        "changes": changes_to_json(plan),
        "refusals": [
            [entry.id, printable(entry.row, 80), entry.action, entry.column, entry.reason] for entry in plan.refusals
        ],
        "names": _used_names(plan),
        "titles": {str(key): title for key, title in plan.titles.items()},
        "notes": list(plan.notes),
        "effect": None if plan.effect is None else _effect_to_json(plan.effect),
        "fingerprint": plan.fingerprint,
    }
    whole = {"format": FORMAT, "version": VERSION, "sha256": checksum_of(content), "plan": content}
    return write_whole(Path(path), json.dumps(whole, ensure_ascii=False, indent=1).encode(), private=True)


def load_plan(path: str | Path, cls: type[ChangeSet]) -> ChangeSet:
    """Read a plan from a file: see `ChangeSet.load`."""
    source = Path(path)
    try:
        if source.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        return _read(json.loads(source.read_bytes()), cls)
    except OSError as error:
        problem = str(error.strerror)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        problem = printable(error, 200) if type(error) is ValueError else "it is damaged"
    raise ConfigurationError(f"{source.name} cannot be read as a plan: {problem}; save the plan again")


def _read(whole: Mapping[str, Any], cls: type[ChangeSet]) -> ChangeSet:
    if whole["format"] != FORMAT:
        raise ValueError("it is something else")
    if whole["version"] != VERSION:
        raise ValueError(f"it has version {printable(whole['version'], 20)}, and this package reads version {VERSION}")
    content = whole["plan"]
    if checksum_of(content) != whole["sha256"]:
        raise ValueError("its checksum does not fit, so it is damaged or was changed by hand")
    changes = content["changes"]
    entries = [entry_from_json(action, entry) for name, action in _ACTIONS.items() for entry in changes[name]]
    refusals = [
        Refusal(row_id, -1, row, action, column, None, None, reason)
        for row_id, row, action, column, reason in content["refusals"]
    ]
    plan = cls.of(
        [*entries, *refusals],
        **{name: content[name] for name in _PLAIN if name in content},
        names={column: {int(key): name for key, name in names.items()} for column, names in content["names"].items()},
        notes=tuple(content["notes"]),
        titles={int(key): str(title) for key, title in content["titles"].items()},
        kept_effect=None if content["effect"] is None else _effect_from_json(content["effect"]),
    )
    ids = [entry.id for entry in plan.updates] + [entry.id for entry in plan.deletions]
    if len(set(ids)) != len(ids):
        raise ValueError("one deal stands in it twice")
    if plan.fingerprint != content["fingerprint"]:
        raise ValueError("it does not send what it was saved to send")
    return _held_back(plan)


def _held_back(plan: ChangeSet) -> ChangeSet:
    """Refuse what today's rules do not let through any more, such as an attribute that became read-only."""
    refusals = list(plan.refusals)

    def may_be_sent(entry: RowUpdate | RowCreation) -> bool:
        objection = rules.entry_objection(entry)
        if objection is not None:
            row_id, label = getattr(entry, "id", None), getattr(entry, "label", None)
            # A place of its own: refusals of one row are told together.
            column, reason = objection
            refusals.append(Refusal(row_id, -2 - len(refusals), label, entry.action, column, None, None, reason))
        return objection is None

    updates, creations = tuple(filter(may_be_sent, plan.updates)), tuple(filter(may_be_sent, plan.creations))
    return replace(plan, updates=updates, creations=creations, refusals=tuple(refusals))


def _effect_to_json(effect: pd.DataFrame) -> dict[str, Any]:
    periods = cast("pd.PeriodIndex", effect.index)
    return {
        "freq": periods.freqstr,
        "periods": [str(period) for period in periods],
        # JSON knows neither of NaN and infinity.
        "columns": {column: [_number_to_json(value) for value in effect[column]] for column in effect.columns},
    }


def _number_to_json(value: float) -> float | str | None:
    return None if math.isnan(value) else float(value) if math.isfinite(value) else str(value)


def _effect_from_json(data: Any) -> pd.DataFrame:
    periods = pd.PeriodIndex(data["periods"], freq=data["freq"], name="period")
    columns = {str(column): np.array(values, dtype=np.float64) for column, values in data["columns"].items()}
    return pd.DataFrame(columns, index=periods).astype(dict.fromkeys(MOVES, np.int64))


def _used_names(plan: ChangeSet) -> dict[str, dict[str, str]]:
    """The names of those ids only that the plan mentions."""
    used: dict[str, dict[str, str]] = {}
    pairs = [
        (cell.column, value) for update in plan.updates for cell in update.cells for value in (cell.before, cell.after)
    ]
    pairs += [pair for entry in plan.creations for pair in entry.values.items()]
    for column, value in pairs:
        name = plan.names.get(column, {}).get(value) if isinstance(value, int) else None
        if name is not None:
            used.setdefault(column, {})[str(value)] = name
    return used
