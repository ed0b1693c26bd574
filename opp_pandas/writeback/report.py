"""What became of every intended change."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.errors import PartialWriteError, printable
from opp_pandas.writeback.writer import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opp_pandas.writeback.plan import ChangeSet

ROW_DTYPES = {
    "id": "Int64",
    "action": "str",
    "status": "str",
    "detail": "str",
    "fields": "str",
    "attempts": "Int64",
    "http_status": "Int64",
    "pointer": "str",
    "row": "object",
    "custom_id": "str",
    "requested_at": "datetime64[us, UTC]",
    "updated_at": "str",
}
FINE = frozenset({"written", "adjusted", "unchanged"})


@dataclass(frozen=True, eq=False)
class WriteReport:
    """What became of every intended change.

    Parameters
    ----------
    plan : ChangeSet
        What was intended.
    outcomes : sequence of Outcome
        One per row of the plan.
    frame : DataFrame
        The frame with the service's values in it; on a dry run as it was.
    dry_run : bool
        Whether nothing was meant to be sent.
    requests : sequence of mapping
        Method, path and body of every write of the plan, in order.
    reads : int
        Reading requests that go, or went, with it: rows are read again before
        they are written [requests, at most].
    effect : DataFrame or None
        What the plan does to the forecast: before and after per period.
    """

    plan: ChangeSet
    outcomes: Sequence[Outcome]
    frame: pd.DataFrame
    dry_run: bool = False
    requests: Sequence[Mapping[str, Any]] = ()
    reads: int = 0
    effect: pd.DataFrame | None = field(default=None)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row per intended change.

        Columns ``id, action, status, detail, fields, attempts, http_status,
        pointer, row`` (index label), ``custom_id, requested_at, updated_at``
        (as the service wrote it). Refused rows stand at the end.
        """
        entries = [*self.outcomes, *_refused(self.plan)]
        columns = {
            name: [", ".join(entry.fields) if name == "fields" else getattr(entry, name) for entry in entries]
            for name in ROW_DTYPES
        }
        frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
        return frame.astype(ROW_DTYPES)

    @property
    def conflicts(self) -> pd.DataFrame:
        """Cells that both sides changed: columns ``id, field, loaded, mine, theirs``."""
        rows = [
            (outcome.id, cell.column, cell.before, cell.after, now)
            for outcome in self.outcomes
            for cell, now in outcome.conflicts
        ]
        names = ["id", "field", "loaded", "mine", "theirs"]
        frame = pd.DataFrame({n: pd.Series([row[i] for row in rows], dtype=object) for i, n in enumerate(names)})
        return frame.astype({"id": "Int64", "field": "str"})

    def counts(self) -> dict[str, int]:
        """Count the rows by status."""
        return {str(status): int(number) for status, number in self.rows["status"].value_counts().items()}

    def raise_for_status(self) -> WriteReport:
        """Raise if anything intended was not written; give the report otherwise.

        Raises
        ------
        PartialWriteError
            With this report in ``.report``. Never after a dry run without refusals.
        """
        fine = FINE | {"planned"} if self.dry_run else FINE
        if not set(self.counts()) <= fine:
            raise PartialWriteError(self)
        return self

    def summary(self) -> str:
        """Say in one line how it went."""
        if not len(self.rows):
            return "nothing to write"
        words = ", ".join(f"{number} {status}" for status, number in self.counts().items())
        if self.dry_run:
            writes = len(self.requests)
            return f"dry run, nothing sent: {words}; {writes} writes and at most {self.reads} reads would go out"
        return words

    def __repr__(self) -> str:
        lines = [f"WriteReport: {self.summary()}"]
        if self.dry_run:
            lines += [
                f"  {request['method']} {request['path']} {_body(request)}".rstrip() for request in self.requests[:20]
            ]
            if len(self.requests) > 20:
                lines.append(f"  and {len(self.requests) - 20} more requests: .requests lists them")
        for row in self.rows[~self.rows["status"].isin(list(FINE | {"planned"}))].head(10).to_dict("records"):
            which = f"row {printable(row['row'], 30)}" if row["id"] is pd.NA else f"id {row['id']}"
            lines.append(f"  {row['status']}: {which}: {row['detail']}")
        if self.effect is not None and len(self.effect):
            lines += ["  effect on the forecast:", *(f"    {line}" for line in self.effect.to_string().splitlines())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        shown = self.rows[["id", "action", "status", "fields", "detail"]].head(50)
        parts = [f"<p><b>{html.escape(self.summary())}</b></p>", shown.to_html(index=False, escape=True, na_rep="")]
        if self.effect is not None and len(self.effect):
            parts += ["<p>Effect on the forecast</p>", self.effect.to_html(escape=True)]
        return "".join(parts)


def _refused(plan: ChangeSet) -> list[Outcome]:
    """One row per refused row, its reasons joined."""
    by_row: dict[tuple[str, int], Outcome] = {}
    for entry in plan.refusals:
        outcome = by_row.setdefault(
            (entry.action, entry.position),
            Outcome(entry.action, "refused", entry.id, row=entry.row, position=entry.position),
        )
        outcome.fields = (*outcome.fields, entry.column)
        outcome.detail = f"{outcome.detail}; {entry.reason}" if outcome.detail else entry.reason
    return list(by_row.values())


def _body(request: Mapping[str, Any]) -> str:
    import json

    return "" if request.get("body") is None else printable(json.dumps(request["body"], ensure_ascii=False), 200)


def build_requests(plan: ChangeSet) -> list[dict[str, Any]]:
    """List the writes of a plan as they go over the wire: ``method, path, body``."""
    from opp_pandas.resource import OPPORTUNITY

    def body(entry: Any, row_id: int | None) -> dict[str, Any]:
        data: dict[str, Any] = {"type": OPPORTUNITY.type} | ({} if row_id is None else {"id": row_id})
        attributes, relationships = entry.attributes(), entry.relationships()
        if attributes:
            data["attributes"] = attributes
        if relationships:
            data["relationships"] = {
                name: {
                    "data": None
                    if value is None
                    else {"type": OPPORTUNITY.relationship_by_name[name].type, "id": value}
                }
                for name, value in relationships.items()
            }
        return {"data": data}

    path = f"/{OPPORTUNITY.path}"
    requests = [
        {"method": "PATCH", "path": f"{path}/{entry.id}", "body": body(entry, entry.id)} for entry in plan.updates
    ]
    requests += [{"method": "POST", "path": path, "body": body(entry, None)} for entry in plan.creations]
    requests += [{"method": "DELETE", "path": f"{path}/{entry.id}", "body": None} for entry in plan.deletions]
    return requests


def most_reads(plan: ChangeSet, unresolved: Iterable[str] = ()) -> int:
    """Bound the reading requests of a plan: one per row in the worst case, plus look-ups of names."""
    return len(plan.updates) + len(set(unresolved))
