"""The panel below the grid: what waits, what sending it would do, how sending goes, what came of it."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.report import rows_html
from opp_pandas.apply.write_back import write_back
from opp_pandas.changes.present import deal_words, plan_html
from opp_pandas.errors import OppPandasError, printable
from opp_pandas.figures.core.basis import counted
from opp_pandas.notebook.saving import Choices, Clash, Saving
from opp_pandas.notebook.to_code import recipe

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.apply.report import WriteReport
    from opp_pandas.notebook.grid_controller import Desk

MOST_ROWS = 50
LATER = "decide later"
_SENDING = "the changes are being sent; the cells can be edited again when that is done"


class Panel:
    """Pending changes, as ipywidgets.

    Parameters
    ----------
    desk : Desk
        What is edited.
    client : Client or None
        Where to; None: the client of the load.
    figures : mapping
        As for `find_changes`, for the effect on the forecast: ``freq, quota`` and the others.
    journal : object
        Folder of journals, as for `write_back`.
    """

    def __init__(self, desk: Desk, client: Client | None, figures: Mapping[str, Any], journal: Any = None) -> None:
        import ipywidgets

        self._desk, self._client, self.figures, self._journal = desk, client, dict(figures), journal
        self._widgets = ipywidgets
        self.report: WriteReport | None = None
        self.saving: Saving | None = None
        self.choices = Choices()
        self._reviewed: WriteReport | None = None
        self.pickers: dict[tuple[int, str], Any] = {}
        self.summary = self._html()
        self.review = self._button("Review changes", self._on_review, "primary")
        self.code = self._button("Show the code", self._on_code)
        self.send = self._button("Send", self._on_send, "primary")
        self.stop = self._button("Stop", self._on_stop)
        self.close = self._button("Close", self._on_close)
        self.close.layout.align_self = "flex-start"
        self.confirm = ipywidgets.Text(style={"description_width": "initial"}, layout={"width": "320px"})
        self.confirm.observe(lambda _change: self._allow_sending(), "value")
        self.progress = ipywidgets.IntProgress(layout={"width": "240px"})
        self.progress_words = self._html()
        self.body = ipywidgets.VBox()
        top = ipywidgets.HBox([self.summary, self.review, self.code], layout={"align_items": "center"})
        self.box = ipywidgets.VBox([top, self.body])
        self.box.add_class("opp-panel")
        self.tell()

    def _html(self, text: str = "") -> Any:
        return self._widgets.HTML(text)

    def _button(self, words: str, act: Callable[[Any], Any], style: str = "") -> Any:
        def press(pressed: Any) -> None:
            try:
                act(pressed)
            except Exception as problem:  # noqa: BLE001 - a kernel shows nobody what a button raises
                self._complain(problem)

        button = self._widgets.Button(description=words, button_style=style, layout={"width": "auto"})
        button.on_click(press)
        return button

    # --- what waits -------------------------------------------------------------------

    def tell(self) -> None:
        """Say anew what waits; a review that no longer fits is put away."""
        pending = self._desk.sheet.pending()
        self.summary.value = f"<b>Pending changes:</b> {html.escape(pending_words(pending))}"
        sending = bool(self._desk.busy)
        self.review.disabled = sending or not (pending["cells"] or pending["new"] or pending["deleted"])
        if self._reviewed is not None and not sending:
            self._reviewed = None
            self.body.children = (self._html("<p>The cells were edited since: review the changes again.</p>"),)

    def _on_review(self, _button: Any) -> None:
        with self._desk.lock:
            sheet = self._desk.sheet
            ids = sheet.deleted_ids()
            self._reviewed = None
            report = write_back(
                sheet.frame,
                self._client,
                dry_run=True,
                delete=ids,
                allow_delete=bool(ids),
                unknown_names=self._desk.unknown_names,
                **self.figures,
            )
        self._reviewed = report
        self._show_review(report)

    def _show_review(self, report: WriteReport) -> None:
        plan = report.plan
        parts = [self._html(plan_html(plan))]
        decided = sum(choice in ("mine", "theirs") for choice in self.choices.chosen.values())
        if decided:
            parts.append(self._html(f"<p>Sent as chosen: {counted(decided, 'conflict')}.</p>"))
        if len(plan):
            parts.append(self._html(f"<p>Dry run: nothing was sent. {report.traffic()} would go out.</p>"))
            reason = plan.confirmation_reason()
            self.confirm.value = ""
            if reason is not None:
                self.confirm.description = f"Type {len(plan)} to confirm:"
                parts += [self._html(f"<p><b>{html.escape(reason)}.</b></p>"), self.confirm]
            self.send.description = f"Send {counted(len(plan), 'row')}"
            self._allow_sending()
            parts.append(self._widgets.HBox([self.send, self.close]))
        else:
            parts.append(self.close)
        self.body.children = tuple(parts)

    def _allow_sending(self) -> None:
        report = self._reviewed
        needed = report is not None and report.plan.confirmation_reason() is not None
        typed = self.confirm.value.strip()
        self.send.disabled = report is None or (needed and typed != str(len(report.plan)))

    def _on_close(self, _button: Any) -> None:
        self._reviewed = None
        self.body.children = ()

    def _on_code(self, _button: Any) -> None:
        with self._desk.lock:
            text = recipe(self._desk.sheet, self._desk.unknown_names)
        self.body.children = (self._html(f"<pre>{html.escape(text)}</pre>"), self.close)

    def _complain(self, problem: BaseException, *, below: bool = False) -> None:
        name = "" if isinstance(problem, OppPandasError) else f"{type(problem).__name__}: "
        words = html.escape(name + printable(problem, 600))
        alert = self._html(f"<p role='alert'><b>That did not work:</b> {words}</p>")
        self.body.children = (alert, *self.body.children) if below else (alert, self.close)

    # --- sending ------------------------------------------------------------------------

    def _on_send(self, _button: Any) -> None:
        reviewed = self._reviewed
        if reviewed is None or self.send.disabled:
            return
        self.progress.value, self.progress.max = 0, max(len(reviewed.plan), 1)
        self.progress_words.value = f"0 of {counted(len(reviewed.plan), 'row')}"
        self.body.children = (self._widgets.HBox([self.progress, self.progress_words, self.stop]),)
        self.stop.disabled = False
        # The very plan that was looked at, or none.
        options = {"confirm": reviewed.plan.fingerprint, "journal": self._journal}
        options["unknown_names"] = self._desk.unknown_names
        self.saving = Saving(self._desk.sheet, self._client, options, self.choices, self._on_progress, self._on_end)
        self._desk.busy = _SENDING
        try:
            self._desk.changed()
            self.saving.start()
        except BaseException:
            self._desk.busy = ""
            raise

    def _on_stop(self, _button: Any) -> None:
        self.stop.disabled = True
        if self.saving is not None:
            self.saving.stop()

    def _on_progress(self, done: int, total: int) -> None:
        self.progress.value = done
        self.progress_words.value = f"{done:,} of {counted(total, 'row')}"

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
        if saving.report is not None:
            self._show_report(saving.report)
        if problem is not None:
            self._complain(problem, below=saving.report is not None)

    # --- what came of it --------------------------------------------------------------------

    def _show_report(self, report: WriteReport) -> None:
        parts: list[Any] = [self._html(f"<p role='status'><b>Sent:</b> {html.escape(report.summary())}</p>")]
        parts.append(self._html(rows_html(report)))
        self.choices = Choices.of(report)
        if self.choices.clashes:
            parts += self._clash_widgets(report)
        self.body.children = (*parts, self.close)

    def _clash_widgets(self, report: WriteReport) -> list[Any]:
        """Show mine and theirs side by side, each with its choice."""
        widgets = self._widgets
        words = "both sides changed these cells; they wait until you choose"
        rows: list[Any] = [
            self._html(f"<p><b>Conflicts:</b> {words}.</p>"),
            self._html(clashes_html(report, self.choices)),
        ]
        asked = [clash for clash in self.choices.clashes if clash.follows is None]
        self.pickers = {}
        for clash in asked[:MOST_ROWS]:
            picker = widgets.Dropdown(
                options=[LATER, "mine", "theirs"],
                description=f"{clash.id}, {clash.column}:",
                style={"description_width": "initial"},
                layout={"width": "380px"},
            )
            picker.observe(lambda change, clash=clash: self._choose(clash, change["new"]), "value")
            self.pickers[clash.id, clash.column] = picker
            rows.append(picker)
        everything = [
            self._button("All mine", lambda _button: self._choose_all("mine")),
            self._button("All theirs", lambda _button: self._choose_all("theirs")),
        ]
        return [
            *rows,
            widgets.HBox([*everything, self._button("Review with these choices", self._on_review, "primary")]),
        ]

    def _choose(self, clash: Clash, choice: str) -> None:
        self.choices.chosen.pop((clash.id, clash.column), None)
        if choice != LATER:
            self.choices.chosen[clash.id, clash.column] = choice

    def _choose_all(self, choice: str) -> None:
        for clash in self.choices.clashes:
            if clash.follows is None:
                self._choose(clash, choice)
        for picker in self.pickers.values():
            picker.value = choice


def pending_words(pending: Mapping[str, int]) -> str:
    """Count what waits in words."""
    parts = []
    if pending["cells"]:
        parts.append(f"{counted(pending['cells'], 'cell')} in {counted(pending['rows'], 'deal')}")
    if pending["new"]:
        parts.append(counted(pending["new"], "new deal"))
    if pending["deleted"]:
        parts.append(f"{counted(pending['deleted'], 'deal')} to delete")
    return ", ".join(parts) or "none"


def clashes_html(report: WriteReport, choices: Choices) -> str:
    """Give what was loaded, mine and theirs side by side."""
    plan = report.plan
    lines = []
    for clash in choices.clashes[:MOST_ROWS]:
        follows = f" (follows {clash.follows})" if clash.follows else ""
        cells = [deal_words(clash.id, plan.deal_names.get(clash.id)), f"{clash.column}{follows}"]
        cells += [plan.words(clash.column, value) for value in (clash.loaded, clash.mine, clash.theirs)]
        lines.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{text}</th>" for text in ("deal", "field", "loaded", "mine", "theirs"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
