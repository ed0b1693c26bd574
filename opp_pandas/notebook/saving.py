"""Sending what a sheet holds, beside the kernel: it goes on answering meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.merge import same_value
from opp_pandas.apply.status import Status, conflict_words
from opp_pandas.apply.write_back import write_back
from opp_pandas.frame_state import require_loaded

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.api.client import Client
    from opp_pandas.apply.report import WriteReport
    from opp_pandas.apply.status import Outcome
    from opp_pandas.notebook.edit_session import Sheet
    from opp_pandas.notebook.messages import Choice


@dataclass(frozen=True)
class Clash:
    """One cell that both sides changed, values as on the wire; `by` and `at`: who changed the deal last, and when."""

    id: int
    column: str
    loaded: Any
    mine: Any
    theirs: Any
    follows: str | None = None
    by: int | None = None
    at: str | None = None


@dataclass
class Choices:
    """What a person chose for cells that both sides changed: mine or theirs.

    A choice holds for the value that was seen: if the service has yet another
    one by then, the cell stays a conflict.
    """

    clashes: tuple[Clash, ...] = ()
    chosen: dict[tuple[int, str], Choice] = field(default_factory=dict)

    @classmethod
    def of(cls, report: WriteReport) -> Choices:
        """Begin with the conflicts of a report, none of them decided."""
        return cls(
            tuple(
                Clash(outcome.id, cell.column, cell.before, cell.after, now, cell.follows, *_last_change(outcome))
                for outcome in report.outcomes
                if outcome.id is not None and outcome.action == "update"
                for cell, now in outcome.conflicts
            )
        )

    def ask(self, row_id: int, column: str, loaded: Any, mine: Any, theirs: Any) -> str:  # noqa: ARG002
        """Answer for a cell as `write_back` asks: mine, theirs or skip."""
        for clash in self.clashes:
            seen = clash.id == row_id and clash.column == column and same_value(column, clash.theirs, theirs)
            if seen and same_value(column, clash.mine, mine):
                return self.chosen.get((row_id, column)) or "skip"
        return "skip"


def _last_change(outcome: Outcome) -> tuple[int | None, str | None]:
    """Return who changed a record last, and when, as far as the service tells."""
    record = outcome.resource or {}
    by = ((record.get("relationships") or {}).get("updater") or {}).get("data") or {}
    return by.get("id"), (record.get("attributes") or {}).get("updatedAt")


class Saving:
    """One write-back of a sheet in a thread of its own, calling `on_progress` (rows done, rows in all) and `on_end`.

    Nothing of the sheet is touched until `take` is called; `choices` are what was decided about conflicts, and
    `options` those of `write_back`.
    """

    def __init__(
        self,
        sheet: Sheet,
        client: Client | None,
        options: Mapping[str, Any],
        choices: Choices,
        on_progress: Callable[[int, int], Any],
        on_end: Callable[[Saving], Any],
    ) -> None:
        self._sheet, self._client, self._options, self._choices = sheet, client, dict(options), choices
        self._on_progress, self._on_end = on_progress, on_end
        self._stopped = threading.Event()
        self._frame: pd.DataFrame = sheet.frame
        self._deleted = sheet.deleted_ids()
        self.report: WriteReport | None = None
        self.problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="opp_pandas editor", daemon=True)

    def start(self) -> None:
        """Begin; `on_end` says when it is over."""
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; False if it has not come."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Begin no further row."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            self.report = write_back(
                self._frame,
                self._client,
                on_conflict="ask" if any(self._choices.chosen.values()) else "skip",
                ask=self._choices.ask,
                delete=self._deleted,
                allow_delete=bool(self._deleted),
                progress=self._step,
                **self._options,
            )
        except BaseException as problem:  # noqa: BLE001 - shown where somebody watches
            self.problem = problem
        self._on_end(self)

    def _step(self, done: int, total: int) -> bool:
        self._on_progress(done, total)
        return not self._stopped.is_set()

    def take(self) -> None:
        """Let the sheet go on with what was written; rows that were not keep their edits and get their reason."""
        sheet = self._sheet
        try:
            sheet.take(self._frame)
        except Exception:
            # What was written must not stand there as if it still waited.
            sheet.begin(self._frame)
            raise
        if self.report is not None:
            sheet.note(find_problems(sheet, self.report, require_loaded(self._frame, "edit()").labels))


def find_problems(sheet: Sheet, report: WriteReport, labels: Mapping[str, str]) -> dict[tuple[int, str], str]:
    """Return the reason for every row, and where one is known for every cell, that was not written."""
    row_of = {int(row_id): uid for uid, row_id in sheet.ids() if row_id is not None}
    uid_of_label = {label: uid for uid, label in sheet.new_rows()}
    problems: dict[tuple[int, str], str] = {}
    for outcome in report.outcomes:
        uid = row_of.get(outcome.id) if outcome.id is not None else uid_of_label.get(outcome.row)
        if uid is None or outcome.status.ok:
            continue
        if outcome.status is Status.PLANNED and not outcome.detail:
            continue
        problems[uid, ""] = f"{outcome.status}: {outcome.detail}"
        for cell, now in outcome.conflicts:
            problems[uid, _shown_column(sheet, cell.column, labels)] = f"conflict: {conflict_words(cell, now)}"
        named = _blamed(outcome)
        if named:
            problems[uid, _shown_column(sheet, named, labels)] = problems[uid, ""]
    for entry in report.plan.refusals:
        uid = row_of.get(entry.id) if entry.id is not None else uid_of_label.get(entry.row)
        if uid is not None:
            problems[uid, _shown_column(sheet, entry.column, labels)] = f"refused: {entry.reason}"
    return problems


def _blamed(outcome: Outcome) -> str | None:
    """Return the column that the service's pointer names, such as ``/data/attributes/closeDate``."""
    if not outcome.pointer:
        return None
    from opp_pandas.resource import OPPORTUNITY

    name = outcome.pointer.rsplit("/", 1)[-1]
    if name in OPPORTUNITY.by_name:
        return OPPORTUNITY.by_name[name].column
    relation = OPPORTUNITY.relationship_by_name.get(name)
    return None if relation is None else relation.column


def _shown_column(sheet: Sheet, column: str, labels: Mapping[str, str]) -> str:
    """Return the column under which people see a cell: the frame's own name, for a relation the one with the name."""
    return sheet.counted(labels.get(column, column))
