"""Finishing, taking back and passing on plans: resume, undo, apply_plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.executor import MOST_WORKERS, ApplyOptions, Ask, Progress, announce, carry_out, check_confirmation
from opp_pandas.apply.journal import OPEN_STATES, Journal, OpenPlan, Step, is_finished
from opp_pandas.apply.merge import same_value
from opp_pandas.apply.operation import Task, read_record, read_records
from opp_pandas.apply.report import WriteReport
from opp_pandas.apply.send_creates import those_like
from opp_pandas.apply.status import STATUS_OF, Status, wire_cells
from opp_pandas.apply.write_back import resolve_at_service
from opp_pandas.changes.changeset import Cell, Refusal, RowCreation, RowDeletion, RowUpdate
from opp_pandas.changes.plan import ChangeSet
from opp_pandas.changes.rules import WRITABLE, entry_objection
from opp_pandas.docstrings import documented
from opp_pandas.errors import ConfigurationError, named, printable
from opp_pandas.kinds import TAGS, TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from opp_pandas.api.client import Client
    from opp_pandas.choices import Policy


@documented
def apply_plan(
    client: Client | None,
    plan: ChangeSet | str | Path,
    *,
    dry_run: bool = False,
    on_conflict: Policy = "skip",
    ask: Ask | None = None,
    confirm: int | str | None = None,
    workers: int = MOST_WORKERS,
    journal: str | Path | None = None,
    progress: Progress | None = None,
) -> WriteReport:
    """Send a plan that was saved, perhaps by somebody else.

    New deals are looked up first and again afterwards, so that a plan that
    several people send, each from a machine of their own, creates them once.

    Parameters
    ----------
    plan : ChangeSet, str or Path
        The plan, or the file that ``plan.save(path)`` wrote.

    Returns
    -------
    WriteReport
        Without a frame.

    Raises
    ------
    ConfigurationError
        If the plan was made for another service, or cannot be read.
    ConfirmationNeededError
        If the plan is large and `confirm` does not name its rows.

    Examples
    --------
    >>> df.loc[df["id"] == 68, "next_step"] = "Call back"
    >>> saved = df.opp.changes().save("plan.json")
    >>> opp.apply_plan(client, "plan.json").rows[["id", "action", "status"]]
       id  action   status
    0  68  update  written
    """
    known = plan if isinstance(plan, ChangeSet) else ChangeSet.load(plan)
    options = ApplyOptions(_connected(client), on_conflict, ask, workers, journal, progress, shared=True)
    if known.service is not None and known.service != options.client.url:
        raise ConfigurationError(
            f"the plan was made for {known.service}, and the client speaks to {options.client.url}"
        )
    if not dry_run:
        options.refuse_read_only()
        check_confirmation(known, confirm)
    resolved, _, reads = resolve_at_service(known, options.client)
    tasks, report = announce(resolved, dry_run=dry_run, reads=reads, shared=True)
    if dry_run or not tasks:
        return report
    with options.open_journal() as opened, options.begin(opened, resolved) as begun:
        return carry_out(options, begun, tasks, report)


def _connected(client: Client | None) -> Client:
    if client is not None:
        return client
    from opp_pandas.api.client import connect

    return connect()


# --- resume ---------------------------------------------------------------------


@documented
def resume(
    client: Client | None = None,
    journal: str | Path | None = None,
    *,
    plan: int | None = None,
    on_conflict: Policy | None = None,
    ask: Ask | None = None,
    workers: int = MOST_WORKERS,
    progress: Progress | None = None,
) -> WriteReport:
    """Finish a plan that a crash, Ctrl-C or an unwell service interrupted.

    What was sent and never answered is settled first: updates by reading the
    row, new deals by looking for them, deletions by asking for the record. What
    was not sent is sent now, with the same conflict check.

    Parameters
    ----------
    plan : int, optional
        The number of the plan, as in ``report.plan_number``. Default: the one
        unfinished plan for this service, else the last one if rows of it failed.
    on_conflict : {"skip", "ask", "mine", "theirs"}, optional
        Default: as the plan was sent. Given, rows in conflict are tried again.

    Returns
    -------
    WriteReport
        A row per row of the whole plan, those settled before included; without
        a frame: ``refresh()`` yours. "Nothing to write" if no plan is unfinished.

    Raises
    ------
    ConfigurationError
        If several plans are unfinished.
    JournalError
        If the journal is damaged, or somebody is writing by the plan.

    Examples
    --------
    >>> df.loc[df["id"] == 118, "next_step"] = "Call back"
    >>> report = df.opp.write_back()
    >>> opp.resume(client).rows["status"].tolist()
    []
    """
    options = ApplyOptions(_connected(client), on_conflict or "skip", ask, workers, journal, progress, shared=True)
    with options.open_journal() as opened:
        number = _unfinished(opened, on_conflict) if plan is None else plan
        if number is None:
            return WriteReport(ChangeSet(service=options.client.url), (), None)
        with opened.reopen(number) as reopened:
            options = replace(options, on_conflict=on_conflict or reopened.facts["on_conflict"])
            options.refuse_read_only()
            steps = opened.steps(number)
            whole = ChangeSet.of((step.entry for step in steps), service=options.client.url)
            tasks, report = announce(whole, tasks=[_task_of(step) for step in steps], shared=True)
            again = [task for task, step in zip(tasks, steps, strict=True) if _is_unsettled(step, on_conflict)]
            report = carry_out(options, reopened, again, report)
            _pass_on(reopened, [step for step, state in reopened.states.items() if state == "done"], "undone")
    return report


def _unfinished(journal: Journal, on_conflict: Policy | None) -> int | None:
    """Find the plan that is meant: the unfinished one, else the newest with conflicts where these are decided.

    Rows that failed are taken up in the last plan only: an older one's were sent
    again with it, or are no longer wanted.
    """
    plans = journal.plans()
    numbers = [number for number, row in plans.items() if not is_finished(row.facts)]
    if not numbers and on_conflict is not None:
        numbers = [number for number, row in plans.items() if "conflict" in row.facts["counts"]][-1:]
    if not numbers and plans and any(_is_unsettled(step, None) for step in journal.steps(max(plans))):
        numbers = [max(plans)]
    if len(numbers) > 1:
        words = f"{len(numbers)} plans are unfinished: name one with plan= ({named(numbers, 10)})"
        raise ConfigurationError(f"{words}; opp.list_journals() shows them")
    return numbers[0] if numbers else None


def _is_unsettled(step: Step, on_conflict: Policy | None) -> bool:
    if step.state == "conflict":
        return on_conflict is not None
    # Refused by the service for its own sake, a row would only be refused again.
    failed = step.state == "failed" and STATUS_OF[step.facts["status"]].retry
    return failed or step.state in OPEN_STATES


def _task_of(step: Step) -> Task:
    """Return a step as a task, with the outcome that it had."""
    task = Task(step.number, step.entry, step.state in ("sent", "unknown"), int(step.facts.get("sends", 0)))
    outcome = task.outcome
    if "status" in step.facts:
        outcome.recall(step.facts)
    outcome.attempts = task.sends
    if step.state == "sent":
        outcome.settle(Status.UNKNOWN, "sent, and its answer was never seen")
    elif step.state == "undone":
        outcome.settle(Status.UNCHANGED, "undone")
    return task


# --- undo -----------------------------------------------------------------------


@documented
def undo(
    client: Client | None = None,
    journal: str | Path | None = None,
    *,
    plan: int | None = None,
    dry_run: bool = False,
    allow_delete: bool = False,
    on_conflict: Policy = "skip",
    ask: Ask | None = None,
    confirm: int | str | None = None,
    workers: int = MOST_WORKERS,
    progress: Progress | None = None,
) -> WriteReport:
    """Take a plan back: put the old values where ours still stand.

    A value that somebody has changed since is a conflict, and stays unless `on_conflict` says otherwise.
    What was not sent yet will not be. The undoing is a plan of its own, which
    can be undone in its turn: then the plan stands again.

    Parameters
    ----------
    plan : int, optional
        The number of the plan, as in ``report.plan_number``. Default: the
        newest plan for this service that did something and is no undoing.
    allow_delete : bool
        Whether deals that the plan created may be deleted.

    Returns
    -------
    WriteReport
        A row per row to take back; without a frame. Deals that were deleted
        are refused: the service gives no id back.

    Raises
    ------
    ConfigurationError
        If there is no such plan.
    ConfirmationNeededError
        If the plan is large and `confirm` does not name its rows.

    Examples
    --------
    >>> df.loc[df["id"] == 130, "next_step"] = "Call back"
    >>> report = df.opp.write_back()
    >>> opp.undo(client).rows[["id", "action", "status"]]
        id  action   status
    0  130  update  written
    """
    options = ApplyOptions(_connected(client), on_conflict, ask, workers, journal, progress)
    found = options.client
    with options.open_journal() as opened, opened.reopen(_undoable(opened) if plan is None else plan) as undone:
        before = found.calls
        steps = [step for step in opened.steps(undone.number) if step.state != "undone"]
        reverses = {step.number: _reverse(step, found, allow_delete) for step in steps}
        whole = ChangeSet.of(
            filter(None, reverses.values()),
            notes=tuple(filter(None, (_cents_note(step, reverses[step.number]) for step in steps))),
            loaded_rows=undone.facts["loaded_rows"],
            service=found.url,
        )
        tasks, report = announce(whole, dry_run=dry_run, reads=found.calls - before)
        if dry_run:
            return report
        options.refuse_read_only()
        if tasks:
            check_confirmation(whole, confirm)
        for step, entry in reverses.items():
            if entry is None:
                undone.mark(step, "undone")
        if tasks:
            # The plan's order: updates first, then deletions.
            kinds = (RowUpdate, RowDeletion)
            sent = [step for kind in kinds for step, entry in reverses.items() if isinstance(entry, kind)]
            undoes = {"plan": undone.number, "steps": sent}
            with opened.begin(whole, on_conflict=on_conflict, undoes=undoes) as begun:
                report = carry_out(options, begun, tasks, report)
            pairs = zip(sent, tasks, strict=True)
            _mark(undone, [step for step, task in pairs if task.outcome.status.journal_state == "done"], "undone")
    return report


def _undoable(journal: Journal) -> int:
    plans = {number: row.facts for number, row in journal.plans().items() if not row.facts.get("undoes")}
    numbers = [number for number, facts in plans.items() if {"done", *OPEN_STATES} & set(facts["counts"])]
    if not numbers:
        raise ConfigurationError(f"no plan for {journal.service} is to be undone in {journal.path.parent}")
    return max(numbers)


def _mark(plan: OpenPlan, steps: Sequence[int], state: str) -> None:
    """Mark steps as undone or done; what an undoing took back stands again where that is undone."""
    for step in steps:
        plan.mark(step, state)
    _pass_on(plan, steps, "done" if state == "undone" else "undone")


def _pass_on(plan: OpenPlan, steps: Sequence[int], state: str) -> None:
    """Mark what steps of an undoing took back, where that plan is still there: it is kept for some weeks only."""
    undoes = plan.facts.get("undoes")
    if undoes and steps and undoes["plan"] in plan.journal.plans():
        with plan.journal.reopen(undoes["plan"]) as other:
            _mark(other, [undoes["steps"][step] for step in steps], state)


def _reverse(step: Step, client: Client, allow_delete: bool) -> RowUpdate | RowDeletion | Refusal | None:
    """Find what takes a step back: an entry to send, a refusal, or neither where nothing was applied."""
    perhaps = step.state in ("sent", "unknown")
    if step.state != "done" and not perhaps:
        return None
    if isinstance(step.entry, RowUpdate):
        return _reverse_update(step, step.entry.id)
    if isinstance(step.entry, RowCreation):
        if step.facts.get("joined"):
            return _reverse_update(step, step.facts["row_id"])
        return _reverse_creation(step, step.entry, client, allow_delete)
    if step.facts.get("status") == Status.GONE or (perhaps and read_record(client, step.entry.id) is not None):
        return None
    reason = "it was deleted, and the service gives no id back: create it anew with df.opp.add(row)"
    return _refusal(step, step.entry.id, reason)


def _sent(step: Step) -> dict[str, Cell]:
    return {cell[0]: Cell(*cell) for cell in step.facts.get("sent", [])}


def _reverse_update(step: Step, row_id: int) -> RowUpdate | Refusal | None:
    """Put back what the row had before, cents that were not sent included."""
    sent, stored = _sent(step), step.facts.get("stored", {})
    if "amount" in sent and "amount_precise" not in sent:
        now = sent["amount"].after
        # The service made the exact amount of the whole one.
        after = None if now is None else str(now)
        sent |= {column: Cell(column, was, after, "amount") for column, was in (step.facts.get("also") or {}).items()}
    cells = [Cell(c.column, stored.get(c.column, c.after), c.before, c.follows) for c in sent.values()]
    entry = RowUpdate(row_id, -1, -1, tuple(c for c in cells if not same_value(c.column, c.before, c.after)))
    if not entry.cells:
        return None
    # What the row had before may break a rule that the service holds edits to.
    objection = entry_objection(entry)
    if objection is not None:
        return _refusal(step, row_id, f"the old value cannot be written: {printable(objection[1], 200)}")
    return entry


def _cents_note(step: Step, entry: RowUpdate | RowDeletion | Refusal | None) -> str:
    sent = _sent(step)
    if not isinstance(entry, RowUpdate) or "amount" not in sent or {"amount_precise", "also"} & {*sent, *step.facts}:
        return ""
    return f"the amount of id {entry.id} goes back to a whole number: its cents were not written down"


# What no service fills in by itself: a new deal that was not given it has none.
_EMPTY_TEXTS: dict[str, Any] = {
    column: [] if kind is TAGS else None
    for column, kind in WRITABLE.items()
    if kind in (TEXT, TAGS) and column not in ("amount_precise", "currency_type")
}


def _reverse_creation(
    step: Step, creation: RowCreation, client: Client, allow_delete: bool
) -> RowDeletion | Refusal | None:
    row_id, before = step.facts.get("row_id"), step.facts.get("stored")
    if not before or step.facts.get("found"):
        # What a colleague wrote into it before it was found is no part of what was created; of what the service
        # fills in by itself (a number, an owner) only the time of the last change tells.
        untouched = (before or {}).get("created_at", step.facts.get("updated_at"))
        before = {**_EMPTY_TEXTS, **creation.values, "updated_at": untouched}
    if row_id is None:
        if creation.custom_id is None:
            reason = "nobody knows whether it was created, and it has no custom id: look for it by its name"
            return _refusal(step, None, reason)
        found = those_like(creation, read_records(client, filter={"custom_id": creation.custom_id}))
        # Deals that bore it before the first attempt were made by somebody else.
        found = {own: found[own] for own in found.keys() - set(step.facts.get("before") or ())}
        if not found:
            return None
        if len(found) > 1:
            reason = f"several deals bear its custom id (id {named(sorted(found))}): delete the right one by hand"
            return _refusal(step, None, reason)
        ((row_id, resource),) = found.items()
        before["updated_at"] = wire_cells(resource, ["created_at"]).get("created_at")
    if not allow_delete:
        return _refusal(step, row_id, f"it was created as id {row_id}: undo(allow_delete=True) deletes it")
    return RowDeletion(int(row_id), -1, creation.values.get("name"), before)


def _refusal(step: Step, row_id: int | None, reason: str) -> Refusal:
    label = step.entry.label if isinstance(step.entry, RowCreation) else None
    return Refusal(row_id, -1 - step.number, label, step.entry.action, "id", None, None, reason)
