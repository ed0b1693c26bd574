"""What became of every intended change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas._html import Paragraph, Part, Table, parts_html
from opp_pandas.api.documents import build_document
from opp_pandas.apply.status import STATUS_OF, Outcome, Status, sentences
from opp_pandas.changes.changeset import RowCreation, RowDeletion, members_of
from opp_pandas.changes.plan import ChangeSet, frame_of
from opp_pandas.changes.present import HTML_LINES, effect_text, plan_parts
from opp_pandas.errors import PartialWriteError, printable
from opp_pandas.figures.core.basis import counted
from opp_pandas.resource import OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from opp_pandas.accessor import OpportunityFrame

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
HOURLY_BUDGET = 10_000
_METHODS = {"update": "PATCH", "create": "POST", "delete": "DELETE"}


@dataclass(frozen=True, eq=False)
class WriteReport:
    """What became of every intended change.

    Parameters
    ----------
    plan : ChangeSet
        What was intended.
    outcomes : sequence of Outcome
        One per row of the plan.
    frame : DataFrame or None
        The frame with the service's values in it; on a dry run as it was. None
        where a plan was sent without a frame.
    dry_run : bool
        Whether nothing was meant to be sent.
    reads : int
        Reading requests that go with it: rows are read again before they are
        written, in batches [requests]. A slow service needs more, since no
        reading may be older than five seconds; so does a fault.
    journal : Path or None
        The journal that the plan stands in, for `opp.resume` and `opp.undo`.
    plan_number : int or None
        Its number there.
    calls : int
        Requests that were made [requests].
    """

    plan: ChangeSet
    outcomes: Sequence[Outcome]
    frame: OpportunityFrame | None
    dry_run: bool = False
    reads: int = 0
    journal: Path | None = None
    plan_number: int | None = None
    calls: int = 0

    @cached_property
    def requests(self) -> list[dict[str, Any]]:
        """The writes of the plan as they go over the wire, in order: ``method, path, body``."""
        found: list[dict[str, Any]] = []
        for entry in self.plan.entries:
            row_id = None if isinstance(entry, RowCreation) else entry.id
            path = f"/{OPPORTUNITY.path}" if row_id is None else f"/{OPPORTUNITY.path}/{row_id}"
            found.append({"method": _METHODS[entry.action], "path": path, "body": None})
            if not isinstance(entry, RowDeletion):
                found[-1]["body"] = json.loads(build_document(OPPORTUNITY, row_id, *members_of(entry)))
        return found

    @property
    def announced(self) -> int:
        """Requests that the plan takes where nothing goes wrong: writes and reads."""
        return len(self.requests) + self.reads

    @property
    def effect(self) -> pd.DataFrame | None:
        """On a dry run what the plan does to the forecast: see `ChangeSet.effect`."""
        return self.plan.effect if self.dry_run else None

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row per intended change.

        Columns ``id, action, status, detail, fields, attempts, http_status,
        pointer, row`` (index label), ``custom_id, requested_at, updated_at``
        (as the service wrote it). Refused rows stand at the end.
        """
        rows = []
        for entry in [*self.outcomes, *_refused(self.plan)]:
            words = {"fields": ", ".join(entry.fields), "detail": sentences(entry.left_out, entry.detail)}
            rows.append([words.get(name, getattr(entry, name)) for name in ROW_DTYPES])
        return frame_of(rows, ROW_DTYPES)

    @property
    def conflicts(self) -> pd.DataFrame:
        """Cells that both sides changed: columns ``id, field, loaded, mine, theirs``."""
        rows = [
            (outcome.id, cell.column, cell.before, cell.after, now)
            for outcome in self.outcomes
            for cell, now in outcome.conflicts
        ]
        return frame_of(rows, {"id": "Int64", "field": "str"} | dict.fromkeys(("loaded", "mine", "theirs"), "object"))

    def traffic(self) -> str:
        """Count how many requests the plan takes."""
        return f"{counted(len(self.requests), 'write')} and {counted(self.reads, 'read')}"

    @property
    def ok(self) -> bool:
        """Whether every row is as it was meant to be; after a dry run, whether nothing was refused."""
        return all(status.ok or (self.dry_run and status is Status.PLANNED) for status in self._statuses())

    def _statuses(self) -> list[Status]:
        return [STATUS_OF[word] for word in self.rows["status"]]

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
        if not self.ok:
            raise PartialWriteError(self)
        return self

    def summary(self) -> str:
        """Describe in one line how it went."""
        if not len(self.rows):
            return "nothing to write"
        words = ", ".join(f"{number} {status}" for status, number in self.counts().items())
        if self.dry_run:
            return f"dry run, nothing sent: {words}; {self.traffic()} would go out"
        return words

    def __repr__(self) -> str:
        lines = [f"WriteReport: {self.summary()}"]
        if self.dry_run:
            for request in self.requests[:20]:
                body = "" if request["body"] is None else json.dumps(request["body"], ensure_ascii=False)
                lines.append(f"  {request['method']} {request['path']} {printable(body, 200)}".rstrip())
            if len(self.requests) > 20:
                lines.append(f"  and {len(self.requests) - 20} more requests: .requests lists them")
            lines += [f"  {line}" for line in self._cautions()]
        faulty = [not status.ok and status is not Status.PLANNED for status in self._statuses()]
        for row in self.rows[faulty].head(10).to_dict("records"):
            which = f"row {printable(row['row'], 30)}" if row["id"] is pd.NA else f"id {row['id']}"
            lines.append(f"  {row['status']}: {which}: {row['detail']}")
        lines += [f"  {line}" for line in self._next_step()]
        if self.dry_run:
            lines += [f"  {line}" for line in effect_text(self.plan)]
        return "\n".join(lines)

    def _next_step(self) -> list[str]:
        """What becomes of rows that the service did not take for no fault of theirs."""
        waiting = sum(status.retry for status in self._statuses())
        if self.dry_run or self.journal is None or not waiting:
            return []
        return [f"{counted(waiting, 'row')} left: opp.resume(plan={self.plan_number}) tries again"]

    def _cautions(self) -> list[str]:
        """What a person should know before the plan is sent."""
        reason = self.plan.confirmation_reason()
        lines = [] if reason is None else [f"{reason}: confirm={len(self.plan)} sends it"]
        if self.announced > HOURLY_BUDGET:
            hours = self.announced / HOURLY_BUDGET
            words = f"{self.announced:,} requests are {hours:.1f} times what the service allows in an hour"
            lines.append(f"{words}: connect with max_wait_s=3900 to let it wait")
        return lines

    def _repr_html_(self) -> str:
        parts: list[Part] = [Paragraph(self.summary(), strong=True)]
        lines = [Paragraph(line) for line in (self._cautions() if self.dry_run else self._next_step())]
        if self.dry_run:
            return parts_html([*parts, *lines, *plan_parts(self.plan)])
        parts += [*rows_parts(self), *lines]
        if len(self.conflicts):
            rows = [
                (self.plan.deal(row_id), column, *(self.plan.words(column, value) for value in values))
                for row_id, column, *values in self.conflicts.head(HTML_LINES).itertuples(index=False, name=None)
            ]
            parts.append(Paragraph("Conflicts", strong=True))
            parts.append(Table(("deal", "field", "loaded", "mine", "theirs"), rows))
            parts += _more(len(self.conflicts), ".conflicts")
        return parts_html(parts)


def rows_parts(report: WriteReport) -> list[Part]:
    """Return a line per row: which deal, what was done, what came of it."""
    lines = [
        (
            report.plan.deal(None if row["id"] is pd.NA else row["id"], row["row"]),
            *(printable(row[name], 300) for name in ("action", "status", "fields", "detail")),
        )
        for row in report.rows.head(HTML_LINES).to_dict("records")
    ]
    return [Table(("deal", "action", "status", "fields", "why"), lines), *_more(len(report.rows), ".rows")]


def _more(number: int, where: str) -> list[Part]:
    return [Paragraph(f"And {number - HTML_LINES:,} more: {where} lists them.")] if number > HTML_LINES else []


def _refused(plan: ChangeSet) -> list[Outcome]:
    """One row per refused row, its reasons joined."""
    by_row: dict[tuple[Any, ...], Outcome] = {}
    for entry in plan.refusals:
        outcome = by_row.setdefault(
            (entry.action, entry.position, entry.id, entry.row),
            Outcome(entry.action, Status.REFUSED, entry.id, row=entry.row, position=entry.position),
        )
        outcome.fields = (*outcome.fields, entry.column)
        outcome.detail = sentences(outcome.detail, entry.reason)
    return list(by_row.values())
