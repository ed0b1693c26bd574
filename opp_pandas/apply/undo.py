"""Finishing, taking back and passing on plans: resume, undo, apply_plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.executor import Sending, check_confirmation, count_reads, tasks_of
from opp_pandas.apply.journal import SUFFIX, Journal
from opp_pandas.apply.journal_folder import journal_folder, list_journals
from opp_pandas.apply.merge import Policy, same_value
from opp_pandas.apply.operation import Task
from opp_pandas.apply.report import WriteReport, build_requests
from opp_pandas.apply.status import STATUS_OF, Status, wire_cells
from opp_pandas.apply.workers import MOST_WORKERS
from opp_pandas.apply.write_back import resolve_at_service
from opp_pandas.changes.changeset import Cell, ChangeSet, Refusal, RowCreation, RowDeletion, RowUpdate
from opp_pandas.changes.plan_file import update_from_json
from opp_pandas.errors import ConfigurationError, NotFoundError, named, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opp_pandas.api.client import Client
    from opp_pandas.apply.executor import Progress
    from opp_pandas.apply.journal import Step
    from opp_pandas.apply.send_updates import Ask


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

    New deals that bear a custom id of the plan are looked up first, so that a
    plan that several people send, each from a machine of their own, creates
    them once.

    Parameters
    ----------
    client : Client or None
        Where to; None: as `opp_pandas.connect` finds it.
    plan : ChangeSet, str or Path
        The plan, or the file that ``plan.save(path)`` wrote.
    dry_run, on_conflict, ask, confirm, workers, journal, progress
        As in `write_back`.

    Returns
    -------
    WriteReport
        Without a frame.

    Raises
    ------
    ConfigurationError
        If the plan was made for another service, or cannot be read.
    ConfirmationNeededError
        As in `write_back`.
    """
    known = plan if isinstance(plan, ChangeSet) else ChangeSet.load(plan)
    sending = Sending(_connected(client), on_conflict, ask, workers, journal, progress, shared=True)
    if known.service is not None and known.service != sending.client.url:
        raise ConfigurationError(
            f"the plan was made for {known.service}, and the client speaks to {sending.client.url}"
        )
    if not dry_run:
        sending.refuse_read_only()
        check_confirmation(known, confirm)
    resolved, _, reads = resolve_at_service(known, sending.client)
    requests, reads = build_requests(resolved), reads + count_reads(resolved, shared=True)
    tasks = tasks_of(resolved)
    if dry_run or not tasks:
        return WriteReport(resolved, [task.outcome for task in tasks], None, dry_run, requests, reads)
    return _sent(sending, resolved, tasks, requests, reads)


def _sent(
    sending: Sending,
    plan: ChangeSet,
    tasks: Sequence[Task],
    requests: list[dict[str, Any]],
    reads: int,
    undoes: str = "",
) -> WriteReport:
    before = sending.client.calls
    with sending.open_journal(plan, undoes) as opened:
        sending.carry_out(tasks, opened)
    made = sending.client.calls - before
    outcomes = [task.outcome for task in tasks]
    return WriteReport(plan, outcomes, None, False, requests, reads, journal=opened.path, calls=made)


def _connected(client: Client | None) -> Client:
    if client is not None:
        return client
    from opp_pandas.api.client import connect

    return connect()


# --- resume ---------------------------------------------------------------------


def resume(
    client: Client | None = None,
    journal: str | Path | None = None,
    *,
    on_conflict: Policy | None = None,
    ask: Ask | None = None,
    workers: int = MOST_WORKERS,
    progress: Progress | None = None,
) -> WriteReport:
    """Finish a plan that a crash, Ctrl-C or an unwell service interrupted.

    What was sent and never answered is settled first: updates by reading the
    row, new deals by their custom id, deletions by asking for the record. What
    was not sent is sent now, with the same conflict check.

    Parameters
    ----------
    client : Client, optional
        The service of the plan; default as `opp_pandas.connect` finds it.
    journal : str or Path, optional
        The journal, or the folder of journals; default the usual folder. There
        must be exactly one unfinished plan, else name the journal.
    on_conflict : {"skip", "ask", "mine", "theirs"}, optional
        Default: as the plan was sent. Given, rows in conflict are tried again.
    ask, workers, progress
        As in `write_back`.

    Returns
    -------
    WriteReport
        A row per row of the whole plan, those settled before included; without
        a frame: ``refresh()`` yours. "Nothing to write" if no plan is unfinished.

    Raises
    ------
    ConfigurationError
        If several plans are unfinished, or the journal is of another service.
    JournalError
        If the journal is damaged, or somebody is writing by it.
    """
    found = _connected(client)
    path = _unfinished(journal, found.url)
    if path is None:
        return WriteReport(ChangeSet(service=found.url), (), None)
    with Journal.open(path) as opened:
        _refuse_other_service(opened, found)
        policy: Any = on_conflict if on_conflict is not None else opened.meta["on_conflict"]
        sending = Sending(found, policy, ask, workers, path.parent, progress, shared=True)
        sending.refuse_read_only()
        steps = opened.steps()
        tasks = [_task_of(step) for step in steps]
        again = [task for task, step in zip(tasks, steps, strict=True) if _is_unsettled(step, on_conflict)]
        own_ids = [step.facts["row_id"] for step in steps if step.action == "create" and step.facts.get("row_id")]
        before = found.calls
        sending.carry_out(again, opened, own_ids)
        _mark_undone(opened, path.parent)
        made = found.calls - before
    plan = _plan_of(steps, found.url)
    outcomes = [task.outcome for task in tasks]
    reads = count_reads(plan, shared=True)
    return WriteReport(plan, outcomes, None, False, build_requests(plan), reads, journal=path, calls=made)


def _unfinished(journal: str | Path | None, service: str) -> Path | None:
    """Find the one journal that is meant."""
    if journal is not None and Path(journal).suffix == SUFFIX:
        return Path(journal)
    listed = list_journals(journal, service=service)
    paths = listed.loc[listed["open"].fillna(0) > 0, "journal"].tolist()
    if len(paths) > 1:
        raise ConfigurationError(f"{len(paths)} plans are unfinished: name one with journal= ({named(paths, 10)})")
    return Path(paths[0]) if paths else None


def _refuse_other_service(journal: Journal, client: Client) -> None:
    service = journal.meta["service"]
    if service != client.url:
        raise ConfigurationError(f"the plan was sent to {service}, and the client speaks to {client.url}")


def _is_unsettled(step: Step, on_conflict: Policy | None) -> bool:
    if step.state == "conflict":
        return on_conflict is not None
    if step.state == "failed":
        # Refused by the service for its own sake, a row would only be refused again.
        return step.facts.get("status") == "failed"
    return step.state in ("planned", "sent", "unknown")


def _task_of(step: Step) -> Task:
    """Give a step as a task, with the outcome that it had."""
    task = Task(step.number, step.entry, step.state in ("sent", "unknown"), int(step.facts.get("sends", 0)))
    outcome, facts = task.outcome, step.facts
    if "status" in facts:
        outcome.settle(STATUS_OF[facts["status"]], facts["detail"], facts["http_status"])
        outcome.pointer, outcome.updated_at = facts["pointer"], facts["updated_at"]
        outcome.id = facts["row_id"] if outcome.id is None else outcome.id
    outcome.attempts = task.sends
    if step.state in ("sent", "undone"):
        words = "sent, and its answer was never seen" if step.state == "sent" else "undone"
        outcome.settle(Status.UNKNOWN if step.state == "sent" else Status.UNCHANGED, words)
    return task


def _plan_of(steps: Sequence[Step], service: str) -> ChangeSet:
    entries = [step.entry for step in steps]
    return ChangeSet(
        updates=tuple(entry for entry in entries if isinstance(entry, RowUpdate)),
        creations=tuple(entry for entry in entries if isinstance(entry, RowCreation)),
        deletions=tuple(entry for entry in entries if isinstance(entry, RowDeletion)),
        service=service,
    )


# --- undo -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Reverse:
    """What takes one step back: an entry to send, a refusal, or neither where nothing was applied."""

    number: int
    entry: RowUpdate | RowDeletion | None = None
    refusal: Refusal | None = None


def undo(
    client: Client | None = None,
    journal: str | Path | None = None,
    *,
    dry_run: bool = False,
    allow_delete: bool = False,
    on_conflict: Policy = "skip",
    ask: Ask | None = None,
    confirm: int | str | None = None,
    workers: int = MOST_WORKERS,
    progress: Progress | None = None,
) -> WriteReport:
    """Take a plan back: put the old values where ours still stand.

    A value that somebody has changed since is a conflict, as in `write_back`.
    What was not sent yet will not be. The undoing has a journal of its own,
    which can be undone in its turn: then the plan stands again.

    Parameters
    ----------
    client : Client, optional
        The service of the plan; default as `opp_pandas.connect` finds it.
    journal : str or Path, optional
        The journal of the plan, as in ``report.journal``, or the folder of
        journals; default the usual folder: the newest plan for this service
        that did something.
    dry_run : bool
        Show what would be sent.
    allow_delete : bool
        Whether deals that the plan created may be deleted.
    on_conflict, ask, confirm, workers, progress
        As in `write_back`.

    Returns
    -------
    WriteReport
        A row per row to take back; without a frame. Deals that were deleted
        are refused: the service gives no id back.

    Raises
    ------
    ConfigurationError
        If there is no such plan, or it is of another service.
    ConfirmationNeededError
        As in `write_back`.
    """
    found = _connected(client)
    path = _undoable(journal, found.url)
    with Journal.open(path) as opened:
        _refuse_other_service(opened, found)
        sending = Sending(found, on_conflict, ask, workers, path.parent, progress)
        before = found.calls
        reverses = [_reverse(step, found, allow_delete) for step in opened.steps() if step.state != "undone"]
        looked = found.calls - before
        plan = replace(_plan_to_undo(reverses, found.url), loaded_rows=int(opened.meta.get("loaded_rows", "0")))
        requests, reads = build_requests(plan), looked + count_reads(plan)
        tasks = tasks_of(plan)
        if dry_run:
            return WriteReport(plan, [task.outcome for task in tasks], None, True, requests, reads)
        sending.refuse_read_only()
        if tasks:
            check_confirmation(plan, confirm)
        for reverse in reverses:
            if reverse.entry is None and reverse.refusal is None:
                opened.mark(reverse.number, "undone")
        if not tasks:
            return WriteReport(plan, (), None)
        sent = [reverse for reverse in reverses if reverse.entry is not None]
        # The plan's order: updates first, then deletions.
        sent.sort(key=lambda reverse: isinstance(reverse.entry, RowDeletion))
        undoes = json.dumps({"journal": path.name, "numbers": [reverse.number for reverse in sent]})
        report = _sent(sending, plan, tasks, requests, reads, undoes)
        pairs = zip(sent, tasks, strict=True)
        _mark_steps(
            opened, [reverse.number for reverse, task in pairs if task.outcome.status.journal_state == "done"], "undone"
        )
    return report


def _mark_undone(journal: Journal, folder: Path) -> None:
    """After an undoing was finished by `resume`: mark what it undid."""
    if not journal.meta.get("undoes"):
        return
    undoes = json.loads(journal.meta["undoes"])
    pairs = zip(undoes["numbers"], journal.steps(), strict=True)
    _mark_all(folder / undoes["journal"], [number for number, step in pairs if step.state == "done"], "undone")


def _mark_all(path: Path, numbers: Sequence[int], state: str) -> None:
    """Mark steps of a journal where it is still there: a finished plan is kept for some weeks only."""
    if path.exists():
        with Journal.open(path) as journal:
            _mark_steps(journal, numbers, state)


def _mark_steps(journal: Journal, numbers: Sequence[int], state: str) -> None:
    """Mark steps as undone or done; what an undoing took back stands again where that is undone."""
    for number in numbers:
        journal.mark(number, state)
    if numbers and journal.meta.get("undoes"):
        undoes = json.loads(journal.meta["undoes"])
        other = "done" if state == "undone" else "undone"
        _mark_all(journal.path.parent / undoes["journal"], [undoes["numbers"][number] for number in numbers], other)


def _undoable(journal: str | Path | None, service: str) -> Path:
    if journal is not None and Path(journal).suffix == SUFFIX:
        return Path(journal)
    listed = list_journals(journal, service=service)
    did = listed.loc[(listed["done"] + listed["open"]).fillna(0) > 0, "journal"].tolist()
    for text in reversed(did):
        with Journal.open(Path(text)) as opened:
            if not opened.meta.get("undoes"):
                return Path(text)
    raise ConfigurationError(f"no plan for {service} is to be undone in {journal_folder(journal)}")


def _plan_to_undo(reverses: Sequence[_Reverse], service: str) -> ChangeSet:
    return ChangeSet(
        updates=tuple(reverse.entry for reverse in reverses if isinstance(reverse.entry, RowUpdate)),
        deletions=tuple(reverse.entry for reverse in reverses if isinstance(reverse.entry, RowDeletion)),
        refusals=tuple(reverse.refusal for reverse in reverses if reverse.refusal is not None),
        service=service,
    )


def _reverse(step: Step, client: Client, allow_delete: bool) -> _Reverse:
    """Find what takes a step back."""
    perhaps = step.state in ("sent", "unknown")
    if step.state != "done" and not perhaps:
        return _Reverse(step.number)
    if isinstance(step.entry, RowUpdate):
        return _reverse_update(step, step.entry)
    if isinstance(step.entry, RowCreation):
        return _reverse_creation(step, step.entry, client, allow_delete)
    if step.facts.get("status") == "gone" or (perhaps and _exists(client, step.entry.id)):
        return _Reverse(step.number)
    reason = "it was deleted, and the service gives no id back: create it anew with df.opp.add(row)"
    return _Reverse(step.number, refusal=_refusal(step, step.entry.id, reason))


def _reverse_update(step: Step, update: RowUpdate) -> _Reverse:
    stored = step.facts.get("stored", {})
    cells = [
        Cell(column, stored.get(column, after), before)
        for column, before, after, _ in step.facts.get("sent", [])
        if not same_value(column, stored.get(column, after), before)
    ]
    if not cells:
        return _Reverse(step.number)
    try:
        # What the row had before may break a rule that the service holds edits to.
        entry = update_from_json({"id": update.id, "cells": [[c.column, c.before, c.after, None] for c in cells]})
    except ValueError as problem:
        reason = f"the old value cannot be written: {printable(problem, 200)}"
        return _Reverse(step.number, refusal=_refusal(step, update.id, reason))
    return _Reverse(step.number, entry)


def _reverse_creation(step: Step, creation: RowCreation, client: Client, allow_delete: bool) -> _Reverse:
    row_id, before = step.facts.get("row_id"), step.facts.get("stored") or dict(creation.values)
    if row_id is None:
        if creation.custom_id is None:
            reason = "nobody knows whether it was created, and it has no custom id: look for it by its name"
            return _Reverse(step.number, refusal=_refusal(step, None, reason))
        pages = client.iter_pages(filter={"custom_id": creation.custom_id})
        found = [item for page in pages for item in page.document["data"]]
        found = [item for item in found if wire_cells(item, ["custom_id"]).get("custom_id") == creation.custom_id]
        if not found:
            return _Reverse(step.number)
        if len(found) > 1:
            ids = named(int(item["id"]) for item in found)
            reason = f"several deals bear its custom id (id {ids}): delete the right one by hand"
            return _Reverse(step.number, refusal=_refusal(step, None, reason))
        row_id = int(found[0]["id"])
    if not allow_delete:
        reason = f"it was created as id {row_id}: undo(allow_delete=True) deletes it"
        return _Reverse(step.number, refusal=_refusal(step, row_id, reason))
    name = creation.values.get("name")
    return _Reverse(step.number, RowDeletion(int(row_id), -1, name, before))


def _refusal(step: Step, row_id: int | None, reason: str) -> Refusal:
    label = step.entry.label if isinstance(step.entry, RowCreation) else None
    return Refusal(row_id, -1 - step.number, label, step.action, "id", None, None, reason)


def _exists(client: Client, row_id: int) -> bool:
    try:
        client.get(row_id)
    except NotFoundError:
        return False
    return True
