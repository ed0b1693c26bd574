"""What a write-back would send: updates, creations, deletions, and what was refused.

A `ChangeSet` is plain data. It is made by `opp_pandas.writeback.changes`, shown
to a person, and carried out by `opp_pandas.writeback.writer` exactly as shown.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from opp_pandas.errors import printable
from opp_pandas.resource import OPPORTUNITY
from opp_pandas.service.decoding import build_instant

ASK_ABOVE_ROWS = 50
ASK_ABOVE_SHARE = 0.10
ASK_SHARE_FROM_ROWS = 10
ASK_SAME_VALUE_ROWS = 10


@dataclass(frozen=True)
class Cell:
    """One edited cell; values as on the wire (ids for relationships).

    ``follows`` names the edited column that this one has to follow, such as
    ``amount_precise`` behind ``amount``.
    """

    column: str
    before: Any
    after: Any
    follows: str | None = None


@dataclass(frozen=True)
class RowUpdate:
    """The edited cells of one row: one PATCH."""

    id: int
    position: int
    base_position: int
    cells: tuple[Cell, ...]

    def attributes(self) -> dict[str, Any]:
        """Changed attributes by API name."""
        return {
            OPPORTUNITY.by_column[cell.column].name: cell.after
            for cell in self.cells
            if cell.column in OPPORTUNITY.by_column
        }

    def relationships(self) -> dict[str, int | None]:
        """Changed relationships by API name."""
        return {
            OPPORTUNITY.relationship_by_column[cell.column].name: cell.after
            for cell in self.cells
            if cell.column in OPPORTUNITY.relationship_by_column
        }


@dataclass(frozen=True)
class RowCreation:
    """A new deal: one POST. ``unresolved`` are names that the service has to be asked about."""

    position: int
    label: Any
    values: Mapping[str, Any]
    unresolved: Mapping[str, str] = field(default_factory=dict)

    def attributes(self) -> dict[str, Any]:
        """Attributes by API name."""
        return {OPPORTUNITY.by_column[c].name: v for c, v in self.values.items() if c in OPPORTUNITY.by_column}

    def relationships(self) -> dict[str, int | None]:
        """Relationships by API name."""
        known = OPPORTUNITY.relationship_by_column
        return {known[c].name: v for c, v in self.values.items() if c in known}


@dataclass(frozen=True)
class RowDeletion:
    """A deal to delete: one DELETE. ``position`` is -1 where it is no longer in the frame."""

    id: int
    position: int
    name: str | None


@dataclass(frozen=True)
class Refusal:
    """A cell, or a whole row, that will not be sent, and why."""

    id: int | None
    position: int
    row: Any
    action: str
    column: str
    before: Any
    after: Any
    reason: str


@dataclass(frozen=True, eq=False)
class ChangeSet:
    """What differs between a frame and what was loaded.

    Parameters
    ----------
    updates, creations, deletions, refusals : tuple
        What would be sent, and what was refused. A row with a refused cell is
        held back whole.
    timezone : str or None
        Zone in which close dates are shown.
    loaded_rows : int
        Rows that were loaded, for the share that is being changed.
    names : mapping
        Column of a relationship to a mapping id → name, for reading.
    notes : tuple of str
        Warnings about single edits, in sentences.
    """

    updates: tuple[RowUpdate, ...] = ()
    creations: tuple[RowCreation, ...] = ()
    deletions: tuple[RowDeletion, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    timezone: str | None = None
    loaded_rows: int = 0
    names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the rows that would be sent."""
        return len(self.updates) + len(self.creations) + len(self.deletions)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The edited cells: columns ``id, field, before, after``; instants in the load's zone."""
        rows = [
            (update.id, cell.column, self._shown(cell.column, cell.before), self._shown(cell.column, cell.after))
            for update in self.updates
            for cell in update.cells
        ]
        return _object_frame(rows, ["id", "field", "before", "after"]).astype({"id": "Int64", "field": "str"})

    @cached_property
    def created(self) -> pd.DataFrame:
        """The rows to create, one per new deal; ``row`` is their index label."""
        rows = [
            {"row": entry.label}
            | {column: self._shown(column, value) for column, value in entry.values.items()}
            | dict(entry.unresolved)
            for entry in self.creations
        ]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["row", "name"])

    @cached_property
    def deleted(self) -> pd.DataFrame:
        """The rows to delete: columns ``id, name``."""
        frame = pd.DataFrame([(entry.id, entry.name) for entry in self.deletions], columns=["id", "name"])
        return frame.astype({"id": "Int64", "name": "str"})

    @cached_property
    def refused(self) -> pd.DataFrame:
        """What is not sent: columns ``id, row, field, before, after, reason``."""
        rows = [
            (
                entry.id,
                entry.row,
                entry.column,
                self._shown(entry.column, entry.before),
                self._shown(entry.column, entry.after),
                entry.reason,
            )
            for entry in self.refusals
        ]
        frame = _object_frame(rows, ["id", "row", "field", "before", "after", "reason"])
        return frame.astype({"id": "Int64", "field": "str", "reason": "str"})

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that would be sent: two plans that send the same have the same."""
        facts = [
            [[entry.id, [[c.column, c.before, c.after] for c in entry.cells]] for entry in self.updates],
            [[repr(entry.label), dict(entry.values), dict(entry.unresolved)] for entry in self.creations],
            [entry.id for entry in self.deletions],
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def confirmation_reason(self) -> str | None:
        """Say why a person has to confirm the plan, or None."""
        number = len(self)
        if self.deletions:
            return f"the plan deletes {len(self.deletions)} deals"
        if number > ASK_ABOVE_ROWS:
            return f"the plan writes {number} rows, more than {ASK_ABOVE_ROWS}"
        if number > ASK_SHARE_FROM_ROWS and number > ASK_ABOVE_SHARE * self.loaded_rows and self.updates:
            return f"the plan writes {number} of {self.loaded_rows} rows, more than {ASK_ABOVE_SHARE:.0%}"
        seen: dict[str, int] = {}
        for update in self.updates:
            for cell in update.cells:
                key = json.dumps([cell.column, cell.after])
                seen[key] = seen.get(key, 0) + 1
                if seen[key] >= ASK_SAME_VALUE_ROWS:
                    count = sum(
                        c.column == cell.column and c.after == cell.after for u in self.updates for c in u.cells
                    )
                    value = printable(json.dumps(cell.after), 60)
                    return f"the plan puts one value, {value}, into {cell.column} of {count} rows"
        return None

    def _shown(self, column: str, value: Any) -> Any:
        attribute = OPPORTUNITY.by_column.get(column)
        if value is not None and attribute is not None and attribute.kind == "instant" and isinstance(value, str):
            try:
                moment = pd.Timestamp(value)
            except ValueError:
                return value
            moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment
            return moment.tz_convert(self.timezone or "UTC")
        return value

    def _words(self, column: str, value: Any) -> str:
        if value is None:
            return "(missing)"
        name = self.names.get(column, {}).get(value) if isinstance(value, int) else None
        if name is not None:
            return f"{printable(name, 40)} ({value})"
        shown = self._shown(column, value)
        if isinstance(shown, pd.Timestamp):
            local_midnight = shown == shown.normalize()
            return shown.strftime("%Y-%m-%d" if local_midnight else "%Y-%m-%d %H:%M %Z")
        return printable(json.dumps(value, ensure_ascii=False), 60)

    def _lines(self, limit: int = 20) -> list[tuple[str, str, str, str, str]]:
        """Rows for people: what, which deal, field, before, after."""
        lines: list[tuple[str, str, str, str, str]] = []
        for update in self.updates:
            for cell in update.cells:
                field_name = cell.column if cell.follows is None else f"{cell.column} (follows {cell.follows})"
                before, after = self._words(cell.column, cell.before), self._words(cell.column, cell.after)
                lines.append(("update", str(update.id), field_name, before, after))
        for entry in self.creations:
            lines.append(
                ("create", f"row {printable(entry.label, 30)}", "", "", printable(entry.values.get("name"), 60))
            )
        lines += [("delete", str(entry.id), "", printable(entry.name or "", 60), "") for entry in self.deletions]
        if len(lines) > limit:
            lines = [*lines[:limit], ("…", f"{len(lines) - limit} more", "", "", "")]
        return lines

    def summary(self) -> str:
        """Count the plan in one line."""
        parts = [
            f"{len(group)} {words}"
            for group, words in (
                (self.updates, "updated"),
                (self.creations, "created"),
                (self.deletions, "deleted"),
            )
            if group
        ]
        text = ", ".join(parts) or "nothing to write"
        return text + (f"; {len(self.refusals)} edits refused" if self.refusals else "")

    def __repr__(self) -> str:
        rows = self._lines()
        head = [f"ChangeSet: {self.summary()}"]
        if rows:
            widths = [max(len(row[place]) for row in rows) for place in range(4)]
            head += [
                "  "
                + "  ".join(part.ljust(width) for part, width in zip(row, widths, strict=False)).rstrip()
                + (f" → {row[4]}" if row[4] else "")
                for row in rows
            ]
        head += [
            f"  refused: {'' if entry.id is None else f'id {entry.id}, '}row {printable(entry.row, 30)}, "
            f"{entry.column}: {entry.reason}"
            for entry in self.refusals[:10]
        ]
        if len(self.refusals) > 10:
            head.append(f"  and {len(self.refusals) - 10} more refused: .refused lists them")
        return "\n".join([*head, *(f"  note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        def cell(value: str, tag: str = "td") -> str:
            return f"<{tag} style='text-align:left'>{html.escape(value)}</{tag}>"

        body = "".join(f"<tr>{''.join(cell(part) for part in row)}</tr>" for row in self._lines(50))
        titles = "".join(cell(word, "th") for word in ("", "deal", "field", "before", "after"))
        refused = "".join(
            f"<tr>{cell(str(entry.id))}{cell(str(entry.row))}{cell(entry.column)}{cell(entry.reason)}</tr>"
            for entry in self.refusals[:20]
        )
        parts = [f"<p><b>{html.escape(self.summary())}</b></p>"]
        if body:
            parts.append(f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>")
        if refused:
            heads = "".join(cell(word, "th") for word in ("id", "row", "field", "refused because"))
            parts.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{refused}</tbody></table>")
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return "".join(parts)


def wire_value(kind: str, value: Any) -> Any:
    """Give the JSON value of a decoded cell.

    Parameters
    ----------
    kind : str
        What the wire carries, as in the resource table.
    value : object
        An element of a decoded column; anything missing becomes None.

    Returns
    -------
    int, str, list, bool or None
    """
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    if kind == "integer":
        return int(value)
    if kind == "instant":
        return build_instant(int(pd.Timestamp(value).as_unit("us").asm8.view("int64")))
    if kind == "tags":
        return list(value)
    if kind == "boolean":
        return bool(value)
    return str(value)


def _object_frame(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """Make a frame that keeps Python values as they are: no column is turned into floats."""
    return pd.DataFrame(
        {name: pd.Series([row[place] for row in rows], dtype=object) for place, name in enumerate(columns)}
    )
