"""What stands below the grid: what sending the changes would do, how sending goes, what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas._html import Paragraph
from opp_pandas.apply.report import rows_parts
from opp_pandas.apply.write_back import write_back
from opp_pandas.changes.present import plan_parts
from opp_pandas.errors import OppPandasError, printable
from opp_pandas.figures.core.basis import counted
from opp_pandas.notebook import messages
from opp_pandas.notebook.messages import Answer
from opp_pandas.notebook.saving import Choices, Clash, Saving

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.apply.report import WriteReport
    from opp_pandas.notebook.grid_controller import Desk

MOST_CONFLICTS = 50
_SENDING = "the changes are being sent; the cells can be edited again when that is done"


class Panel:
    """Review and sending of a desk's changes: answers what the page asks, and keeps what it shows in `shown`.

    `client`, `figures` and `journal` are those of `write_back`; `on_show` is called whenever `shown` is another one,
    also in the thread that sends.
    """

    def __init__(
        self,
        desk: Desk,
        client: Client | None,
        figures: Mapping[str, Any],
        journal: Any = None,
        on_show: Callable[[], Any] = lambda: None,
    ) -> None:
        self._desk, self._client, self.figures, self._journal = desk, client, dict(figures), journal
        self.on_show = on_show
        self.report: WriteReport | None = None
        self.saving: Saving | None = None
        self.choices = Choices()
        self.shown = messages.Panel()
        self._reviewed: WriteReport | None = None
        self._steps = 0
        desk.actions |= {
            messages.Review: self._guarded(self._review),
            messages.Send: self._guarded(self._send),
            messages.Stop: self._stop,
            messages.Dismiss: lambda _message: self._show(messages.Panel()),
            messages.Decide: self._decide,
        }

    def _show(self, shown: messages.Panel) -> Answer:
        self.shown = shown
        if not shown.plan:
            self._reviewed = None
        self.on_show()
        return Answer()

    def _guarded(self, act: Callable[[Any], Answer]) -> Callable[[Any], Answer]:
        def guarded(message: Any) -> Answer:
            try:
                return act(message)
            except Exception as problem:  # noqa: BLE001 - said in the panel, where it stays to be read
                return self._show(messages.Panel(alert=_words(problem)))

        return guarded

    def edited(self) -> None:
        """Put away a review that no longer fits, where cells were edited since."""
        if self._reviewed is not None and not self._desk.busy and len(self._desk.sheet.log) != self._steps:
            self._show(messages.Panel(status="The cells were edited since: review the changes again."))

    def _review(self, _message: messages.Review) -> Answer:
        sheet = self._desk.sheet
        ids = sheet.deleted_ids()
        report = write_back(
            sheet.frame,
            self._client,
            dry_run=True,
            delete=ids,
            allow_delete=bool(ids),
            unknown_names=self._desk.unknown_names,
            **self.figures,
        )
        plan = report.plan
        parts = plan_parts(plan)
        decided = sum(bool(choice) for choice in self.choices.chosen.values())
        if decided:
            parts.append(Paragraph(f"Sent as chosen: {counted(decided, 'conflict')}."))
        if len(plan):
            parts.append(Paragraph(f"Dry run: nothing was sent. {report.traffic()} would go out."))
        reason = plan.confirmation_reason() if len(plan) else None
        if reason is not None:
            parts.append(Paragraph(f"{reason}.", strong=True))
        self._reviewed, self._steps = report, len(sheet.log)
        name = plan.fingerprint if len(plan) else ""
        return self._show(messages.Panel(parts, plan=name, rows=len(plan), must_confirm=reason is not None))

    def _decide(self, message: messages.Decide) -> Answer:
        for decision in message.decisions:
            self.choices.chosen[decision.id, decision.column] = decision.choice
        self.shown.conflicts = self._conflicts()
        return self._show(self.shown)

    # --- sending ------------------------------------------------------------------------

    def _send(self, message: messages.Send) -> Answer:
        reviewed = self._reviewed
        if reviewed is None or message.plan != reviewed.plan.fingerprint:
            return Answer(error="nothing was sent: review the changes first")
        rows = len(reviewed.plan)
        if self.shown.must_confirm and message.confirm.strip() != str(rows):
            return Answer(error=f"nothing was sent: type {rows} to confirm")
        # The very plan that was looked at, or none.
        options = {"confirm": message.plan, "journal": self._journal, "unknown_names": self._desk.unknown_names}
        self.saving = Saving(self._desk.sheet, self._client, options, self.choices, self._on_progress, self._on_end)
        self._desk.busy = _SENDING
        try:
            self._desk.changed()
            self._show(messages.Panel(sending=True, rows=rows))
            self.saving.start()
        except BaseException:
            self._desk.busy = ""
            raise
        return Answer()

    def _stop(self, _message: messages.Stop) -> Answer:
        if self.saving is not None:
            self.saving.stop()
        return Answer(said="no further row is sent")

    def _on_progress(self, done: int, total: int) -> None:
        self._show(messages.Panel(sending=True, done=done, rows=total))

    def _on_end(self, saving: Saving) -> None:
        """Take in what was written, and let the cells be edited again whatever comes in between."""
        problem = saving.problem
        self.report = saving.report or self.report
        with self._desk.lock:
            try:
                saving.take()
            except Exception as failed:  # noqa: BLE001 - shown where somebody watches
                problem = problem or failed
            self._desk.busy = ""
            self._reviewed = None
            try:
                self._desk.ordering.show(self._desk.columns)
                self._desk.refresh()
            except Exception as failed:  # noqa: BLE001 - as above
                problem = problem or failed
            shown = messages.Panel(alert="" if problem is None else _words(problem))
            if saving.report is not None:
                shown.status = f"Sent: {saving.report.summary()}"
                shown.parts = list(rows_parts(saving.report))
                self.choices = Choices.of(saving.report)
                shown.conflicts = self._conflicts()
            self._show(shown)

    def _conflicts(self) -> list[messages.Conflict]:
        """Describe what was loaded, mine and theirs, side by side."""
        if self.report is None:
            return []
        plan = self.report.plan
        return [
            messages.Conflict(
                id=clash.id,
                column=clash.column,
                deal=plan.deal(clash.id),
                loaded=plan.words(clash.column, clash.loaded),
                mine=plan.words(clash.column, clash.mine),
                theirs=plan.words(clash.column, clash.theirs),
                follows=clash.follows or "",
                choice=self.choices.chosen.get((clash.id, clash.column), ""),
                changed=self._last_change(clash),
            )
            for clash in self.choices.clashes[:MOST_CONFLICTS]
        ]

    def _last_change(self, clash: Clash) -> str:
        """Describe who changed a deal last, and when, as far as the service tells."""
        loaded = self._desk.sheet.loaded
        users = loaded.lookups.get("user")
        names = [] if users is None or clash.by is None else users.loc[users["id"] == clash.by, "name"].tolist()
        words = [f"by {printable(name, 60)}" for name in names]
        if clash.at is not None:
            words.append(f"{pd.Timestamp(clash.at).tz_convert(loaded.timezone or 'UTC'):%Y-%m-%d %H:%M}")
        return ", ".join(words)


def _words(problem: BaseException) -> str:
    name = "" if isinstance(problem, OppPandasError) else f"{type(problem).__name__}: "
    return f"That did not work: {name}{printable(problem, 600)}"
