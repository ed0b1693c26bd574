"""Names of stages, owners and accounts, and the ids they stand for."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from opp_pandas.changes.changeset import Refusal, RowCreation
from opp_pandas.errors import named, printable
from opp_pandas.figures.core.basis import counted
from opp_pandas.parsing.names import fold_name
from opp_pandas.resource import EDITABLE_NAMES, INCLUDABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pandas as pd

    from opp_pandas.changes.plan import ChangeSet
    from opp_pandas.frame_state import Loaded

OMITTABLE = frozenset({"owner_name", "account_name"})
"""What a deal can be created without; without its stage it would be another deal."""


@dataclass(frozen=True)
class NameBook:
    """The names that a load knows, by id column and id."""

    names: Mapping[str, Mapping[int, str]]

    @classmethod
    def of(cls, loaded: Loaded) -> NameBook:
        """Gather the names of a load."""
        known = {relation: loaded.lookups.get(kind) for relation, kind in INCLUDABLE.items() if "." not in relation}
        return cls({f"{relation}_id": names_of(lookup) for relation, lookup in known.items() if lookup is not None})

    @cached_property
    def _exact(self) -> dict[tuple[str, str], list[int]]:
        return self._by_name(str)

    @cached_property
    def _folded(self) -> dict[tuple[str, str], list[int]]:
        return self._by_name(fold_name)

    def _by_name(self, written: Callable[[str], str]) -> dict[tuple[str, str], list[int]]:
        found: dict[tuple[str, str], list[int]] = {}
        for id_column, names in self.names.items():
            for row_id, name in names.items():
                found.setdefault((id_column, written(name)), []).append(row_id)
        return found

    def ids(self, id_column: str, name: str) -> list[int]:
        """Every id that bears a name; where none does, those whose name differs by case or blanks alone."""
        return self._exact.get((id_column, name)) or self._folded.get((id_column, fold_name(name)), [])

    def name(self, id_column: str, row_id: int | None) -> str | None:
        """The name of an id, or None where it is not known."""
        return None if row_id is None else self.names.get(id_column, {}).get(row_id)

    def candidates(self, id_column: str, name: str) -> str:
        """Names that come near, or else the first few, as words."""
        known = list(self.names.get(id_column, {}).values())
        near = difflib.get_close_matches(name, known, 3, 0.5)
        return named(near or known) if known else "an id"

    def objection(self, id_column: str, row_id: int | None) -> str | None:
        """Explain why an id cannot be meant: stages are all known, owners and accounts are not."""
        stages = self.names.get("stage_id")
        if id_column != "stage_id" or not stages or row_id is None or row_id in stages:
            return None
        words = named(f"{key} {name}" for key, name in stages.items())
        return f"{id_column} {row_id} is not a stage of the service; there are {words}"

    def resolve(self, column: str, name: str) -> int | str:
        """Return the id that a name stands for, or the reason why it stands for none."""
        id_column = EDITABLE_NAMES[column]
        matches = self.ids(id_column, name)
        if len(matches) == 1:
            return matches[0]
        problem = "is not known here" if not matches else f"fits {len(matches)} ids ({named(matches)})"
        wanted = f"use {self.candidates(id_column, name)}" if not matches else "choose one of them"
        return f"{column} {printable(name, 60)!r} {problem}; set {id_column} instead, or {wanted}"


def names_of(lookup: pd.DataFrame) -> dict[int, str]:
    """Return the names of a look-up by id; entries without a name are left out."""
    pairs = zip(lookup["id"].tolist(), lookup["name"].tolist(), strict=True)
    return {int(key): name for key, name in pairs if isinstance(name, str)}


def resolve_names(plan: ChangeSet, book: NameBook) -> ChangeSet:
    """Settle the names of new deals with what the service has.

    A new deal whose name fits several ids, or none, moves to the refused, with
    one reason for all rows of a column; or it stays without that owner or
    account, and says so.
    """
    unknown: dict[str, Counter[str]] = {}
    for entry in plan.creations:
        for column, name in entry.unresolved.items():
            if not book.ids(EDITABLE_NAMES[column], name):
                unknown.setdefault(column, Counter())[name] += 1
    creations: list[RowCreation] = []
    refusals = list(plan.refusals)
    left_out: Counter[str] = Counter()
    matched: Counter[tuple[str, str, str]] = Counter()
    for entry in plan.creations:
        ids: dict[str, int] = {}
        omitted: dict[str, str] = {}
        reasons: dict[str, str] = {}
        for column, name in entry.unresolved.items():
            found = book.resolve(column, name)
            if isinstance(found, int):
                ids[EDITABLE_NAMES[column]] = found
                if (own := book.name(EDITABLE_NAMES[column], found)) not in (None, name):
                    matched[column, name, str(own)] += 1
            elif name not in unknown.get(column, {}):
                reasons[column] = f"{found}, or drop the column {column}"
            elif plan.unknown_names == "leave_out" and column in OMITTABLE and EDITABLE_NAMES[column] in book.names:
                omitted[column] = name
            else:
                reasons[column] = _unknown_reason(column, unknown[column], book)
        for column, reason in reasons.items():
            name = entry.unresolved[column]
            refusals.append(Refusal(None, entry.position, entry.label, "create", column, None, name, reason))
        if not reasons:
            left_out.update(list(omitted))
            creations.append(replace(entry, values={**entry.values, **ids}, unresolved={}, left_out=omitted))
    notes = [
        f"{column} is left out of {counted(number, 'new deal')}: {_known_to_nobody(unknown[column])}"
        for column, number in left_out.items()
    ]
    notes += [
        f"{column}: {printable(name, 60)!r} read as {printable(own, 60)!r}, {counted(number, 'new deal')}"
        for (column, name, own), number in matched.items()
    ]
    return replace(plan, creations=tuple(creations), refusals=tuple(refusals), notes=(*plan.notes, *notes))


def _unknown_reason(column: str, unknown: Counter[str], book: NameBook) -> str:
    id_column = EDITABLE_NAMES[column]
    if id_column not in book.names:
        return f"{column}: this user may not read whose id {named(unknown, 3)} is; set {id_column}, or drop the column"
    ways = [f"set {id_column}, or use {book.candidates(id_column, next(iter(unknown)))}", f"drop the column {column}"]
    if column in OMITTABLE:
        ways.append("write_back(unknown_names='leave_out') leaves it out of these deals")
    return f"{column}: {_known_to_nobody(unknown)}; {'; '.join(ways)}"


def _known_to_nobody(unknown: Counter[str]) -> str:
    return f"the service does not know {named(unknown, 3)}, of {counted(unknown.total(), 'new deal')}"


def wanted_names(creations: Iterable[RowCreation]) -> dict[str, set[str]]:
    """Names that the service has to be asked about, by column."""
    wanted: dict[str, set[str]] = {}
    for entry in creations:
        for column, name in entry.unresolved.items():
            wanted.setdefault(column, set()).add(name)
    return wanted
