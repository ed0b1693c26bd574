"""Carrying out a plan: read again, merge, send, compare the answer, report.

Nothing is repeated blindly. A PATCH whose answer was lost is settled by reading
the row again, a POST by looking its custom id up, a DELETE by asking for the
record; what cannot be settled is reported as ``unknown`` with what to do.

Between reading a row again and its PATCH up to `REREAD_MAX_AGE_S` seconds pass;
an edit made by somebody else in that window is overwritten, because the service
offers no way to make a write depend on what it has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.carrier import OWN_CUSTOM_ID
from opp_pandas.errors import (
    AccessDeniedError,
    AuthenticationError,
    CallBudgetError,
    EditRejectedError,
    NoResponseError,
    NotFoundError,
    ResponseError,
    ServiceError,
    named,
    printable,
)
from opp_pandas.resource import OPPORTUNITY
from opp_pandas.writeback.merge import Policy, merge_row, same_value
from opp_pandas.writeback.plan import Cell, ChangeSet, RowCreation, RowDeletion, RowUpdate

if TYPE_CHECKING:
    from opp_pandas.service.client import Answer, Client

REREAD_MAX_AGE_S = 5.0
REREAD_BATCH = 100
STOP_AFTER_FAILURES = 5
_LOOK_UP_WAITS_S = (0.0, 1.0, 4.0)
_SERVER_FAILURE = 500


@dataclass
class Outcome:
    """How one intended change went: one row of the report."""

    action: str
    status: str
    id: int | None = None
    row: Any = None
    position: int = -1
    fields: tuple[str, ...] = ()
    detail: str = ""
    attempts: int = 0
    http_status: int | None = None
    pointer: str | None = None
    custom_id: str | None = None
    requested_at: pd.Timestamp | None = None
    updated_at: str | None = None
    resource: Mapping[str, Any] | None = None
    conflicts: tuple[tuple[Cell, Any], ...] = ()


@dataclass
class Writer:
    """Carries out one plan against one client.

    Parameters
    ----------
    client : Client
        Where to.
    on_conflict : {"skip", "ask", "mine", "theirs"}
        What to do where the service's value changed too.
    clock, sleep : callable
        Seconds now, and waiting; passed in so that tests need not wait.
    """

    client: Client
    on_conflict: Policy = "skip"
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _failures: int = 0
    _stop: str = ""
    _pace_s: float = 0.05
    _fresh: dict[int, tuple[float, Mapping[str, Any] | None]] = field(default_factory=dict)

    def carry_out(self, plan: ChangeSet, progress: Callable[[], Any] = lambda: None) -> list[Outcome]:
        """Send the plan.

        Parameters
        ----------
        plan : ChangeSet
            Names of new deals already resolved.
        progress : callable
            Called once per row of the plan.

        Returns
        -------
        list of Outcome
            One per row of the plan, in its order: updates, creations, deletions.
        """
        outcomes: list[Outcome] = []
        for place, update in enumerate(plan.updates):
            outcomes.append(self._guarded(self._update, update, plan.updates[place:]))
            progress()
        for creation in plan.creations:
            outcomes.append(self._guarded(self._create, creation))
            progress()
        for deletion in plan.deletions:
            outcomes.append(self._guarded(self._delete, deletion))
            progress()
        return outcomes

    def _guarded(self, send: Callable[..., Outcome], entry: Any, *more: Any) -> Outcome:
        """Send one row; after several failures of the service in a row leave the rest planned."""
        outcome = planned(entry)
        if self._stop:
            outcome.detail = self._stop
            return outcome
        outcome.requested_at = pd.Timestamp.now(tz="UTC")
        try:
            send(entry, outcome, *more)
        except CallBudgetError as error:
            outcome.detail = self._stop = f"not sent: {error}"
            return outcome
        except ServiceError as error:
            _fail(outcome, error)
        if outcome.status in ("failed", "unknown"):
            self._failures += 1
            if self._failures >= STOP_AFTER_FAILURES:
                self._stop = f"not sent: {self._failures} rows in a row failed before it; write_back() again when the service is well"
        else:
            self._failures = 0
        return outcome

    # --- updates --------------------------------------------------------------

    def _update(self, update: RowUpdate, outcome: Outcome, rest: Iterable[RowUpdate]) -> Outcome:
        started = self.clock()
        theirs = self._read_again(update, rest)
        if theirs is None:
            outcome.status, outcome.detail = "gone", "the service no longer has it, or this user may not see it"
            return outcome
        outcome.resource = theirs
        merged = merge_row(update.cells, wire_cells(theirs, (cell.column for cell in update.cells)), self.on_conflict)
        if merged.conflicts:
            outcome.status, outcome.conflicts = "conflict", merged.conflicts
            outcome.detail = _conflict_words(merged.conflicts)
            return outcome
        if not merged.send:
            outcome.status = "unchanged"
            outcome.detail = "the service has the same values already" if not merged.kept else "theirs was kept"
            return outcome
        self._patch(RowUpdate(update.id, update.position, update.base_position, merged.send), outcome)
        self._pace_s = 0.5 * self._pace_s + 0.5 * (self.clock() - started)
        return outcome

    def _patch(self, update: RowUpdate, outcome: Outcome, again: bool = True) -> None:
        try:
            answer = self.client.update(update.id, update.attributes(), update.relationships())
        except NotFoundError:
            outcome.status, outcome.detail, outcome.http_status = (
                "gone",
                "deleted at the service since it was read",
                404,
            )
            return
        except (NoResponseError, ResponseError) as error:
            if not perhaps_applied(error):
                raise
            self._settle_patch(update, outcome, error, again)
            return
        outcome.attempts += answer.attempts
        take_answer(outcome, answer, update.cells)

    def _settle_patch(self, update: RowUpdate, outcome: Outcome, error: ServiceError, again: bool) -> None:
        """A PATCH whose answer was lost: read the row and see whether it arrived."""
        outcome.attempts += 1
        try:
            answer = self.client.get(update.id)
        except NotFoundError:
            outcome.status, outcome.detail = "gone", "the answer was lost, and the service no longer has the deal"
            return
        except ServiceError as second:
            outcome.status = "unknown"
            outcome.detail = f"the answer was lost ({_short(error)}) and reading again failed ({_short(second)}); refresh and compare"
            return
        now = wire_cells(answer.data, (cell.column for cell in update.cells))
        if all(same_value(cell.column, now.get(cell.column), cell.after) for cell in update.cells):
            take_answer(outcome, answer, update.cells)
            outcome.detail = "the answer was lost; reading again shows it written"
        elif again and all(same_value(cell.column, now.get(cell.column), cell.before) for cell in update.cells):
            self._patch(update, outcome, again=False)
        elif all(same_value(cell.column, now.get(cell.column), cell.before) for cell in update.cells):
            outcome.status, outcome.resource = "failed", answer.data
            outcome.detail = f"sent twice, and twice not applied ({_short(error)})"
        else:
            outcome.status, outcome.resource = "conflict", answer.data
            differing = tuple((cell, now.get(cell.column)) for cell in update.cells)
            outcome.conflicts = differing
            outcome.detail = "the answer was lost, and the service now has other values: " + _conflict_words(differing)

    def _read_again(self, update: RowUpdate, rest: Iterable[RowUpdate]) -> Mapping[str, Any] | None:
        """Read a row as the service has it now, at most `REREAD_MAX_AGE_S` old; None if it is gone."""
        fresh = self._fresh.get(update.id)
        if fresh is None or self.clock() - fresh[0] > REREAD_MAX_AGE_S:
            self._read_batch(rest)
            fresh = self._fresh[update.id]
        if fresh[1] is not None:
            return fresh[1]
        try:
            return self.client.get(update.id).data
        except NotFoundError:
            return None

    def _read_batch(self, rest: Iterable[RowUpdate]) -> None:
        """Read the next rows in one request: as many as can be written while the reading is fresh."""
        size = max(1, min(REREAD_BATCH, int(0.8 * REREAD_MAX_AGE_S / max(self._pace_s, 1e-3))))
        ids = [update.id for _, update in zip(range(size), rest, strict=False)]
        started = self.clock()
        self._fresh = dict.fromkeys(ids, (started, None))
        for page in self.client.iter_pages(filter={"id": ids}, page_size=max(len(ids), 2)):
            for resource in page.document["data"]:
                if isinstance(resource, Mapping) and resource.get("id") in self._fresh:
                    self._fresh[resource["id"]] = (started, resource)

    # --- creations --------------------------------------------------------------

    def _create(self, creation: RowCreation, outcome: Outcome) -> Outcome:
        cells = tuple(Cell(column, None, value) for column, value in creation.values.items())
        try:
            answer = self.client.create(creation.attributes(), creation.relationships())
        except (NoResponseError, ResponseError) as error:
            if not perhaps_applied(error):
                raise
            self._settle_post(creation, outcome, error, cells)
            return outcome
        outcome.attempts += answer.attempts
        take_answer(outcome, answer, cells)
        return outcome

    def _settle_post(
        self, creation: RowCreation, outcome: Outcome, error: ServiceError, cells: tuple[Cell, ...], again: bool = True
    ) -> None:
        """A POST whose answer was lost: look its custom id up; without one nobody can tell."""
        outcome.attempts += 1
        custom = creation.values.get("custom_id")
        if not (isinstance(custom, str) and custom.startswith(OWN_CUSTOM_ID)):
            outcome.status = "unknown"
            outcome.detail = (
                f"the answer was lost ({_short(error)}): it may or may not exist; "
                f"look for it by name before creating it again"
            )
            return
        found: list[Any] = []
        for wait_s in _LOOK_UP_WAITS_S:
            self.sleep(wait_s)
            pages = self.client.iter_pages(filter={"custom_id": custom}, page_size=3)
            found = [resource for page in pages for resource in page.document["data"]]
            if found:
                break
        if len(found) == 1:
            outcome.status, outcome.resource, outcome.id = "written", found[0], found[0]["id"]
            outcome.detail = "the answer was lost; it was found again by its custom id"
        elif found:
            outcome.status = "unknown"
            ids = named(resource.get("id") for resource in found)
            outcome.detail = (
                f"{len(found)} deals bear the custom id {printable(custom, 60)} (id {ids}): delete the doubled one"
            )
        elif again:
            self._create_again(creation, outcome, cells)
        else:
            outcome.status = "unknown"
            outcome.detail = f"sent twice, and twice the answer was lost ({_short(error)}); look for its custom id"

    def _create_again(self, creation: RowCreation, outcome: Outcome, cells: tuple[Cell, ...]) -> None:
        try:
            answer = self.client.create(creation.attributes(), creation.relationships())
        except (NoResponseError, ResponseError) as error:
            if not perhaps_applied(error):
                raise
            self._settle_post(creation, outcome, error, cells, again=False)
            return
        outcome.attempts += answer.attempts
        take_answer(outcome, answer, cells)

    # --- deletions --------------------------------------------------------------

    def _delete(self, deletion: RowDeletion, outcome: Outcome) -> Outcome:
        for again in (True, False):
            outcome.attempts += 1
            try:
                answer = self.client.delete(deletion.id)
            except NotFoundError:
                # Asked for once and gone: by this request whose answer was lost, or by somebody else before it.
                outcome.status, outcome.http_status = ("gone", 404) if again else ("written", 404)
                outcome.detail = "the service no longer had it" if again else "the answer was lost; it is deleted"
                return outcome
            except (NoResponseError, ResponseError) as error:
                if not perhaps_applied(error):
                    raise
                if not again:
                    outcome.status, outcome.detail = (
                        "unknown",
                        f"the answer was lost twice ({_short(error)}); look whether it exists",
                    )
                continue
            outcome.status, outcome.http_status = "written", answer.status
            return outcome
        return outcome


def planned(entry: RowUpdate | RowCreation | RowDeletion) -> Outcome:
    """Start the outcome of a row that was not sent yet."""
    if isinstance(entry, RowUpdate):
        fields = tuple(cell.column for cell in entry.cells)
        return Outcome("update", "planned", entry.id, position=entry.position, fields=fields)
    if isinstance(entry, RowCreation):
        custom = entry.values.get("custom_id")
        return Outcome(
            "create",
            "planned",
            row=entry.label,
            position=entry.position,
            fields=tuple(entry.values),
            custom_id=custom if isinstance(custom, str) else None,
        )
    return Outcome("delete", "planned", entry.id, position=entry.position)


def perhaps_applied(error: ServiceError) -> bool:
    """Whether a write that ended in `error` may have reached the service's data."""
    if isinstance(error, NoResponseError):
        return error.sent
    if isinstance(error, ResponseError):
        maintenance = any(entry.get("id") == "scheduledServerMaintenance" for entry in error.errors)
        return error.status >= _SERVER_FAILURE and not maintenance
    return False


def wire_cells(resource: Mapping[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """Pick the wire values of columns out of a resource object; members that were not sent are left out."""
    attributes = resource.get("attributes") or {}
    relationships = resource.get("relationships") or {}
    values: dict[str, Any] = {}
    for column in columns:
        attribute = OPPORTUNITY.by_column.get(column)
        relationship = OPPORTUNITY.relationship_by_column.get(column)
        if attribute is not None and attribute.name in attributes:
            values[column] = attributes[attribute.name]
        elif relationship is not None:
            target = (relationships.get(relationship.name) or {}).get("data", ...)
            if target is None:
                values[column] = None
            elif isinstance(target, Mapping):
                row_id = target.get("id")
                values[column] = int(row_id) if isinstance(row_id, str) and row_id.isdigit() else row_id
    return values


def take_answer(outcome: Outcome, answer: Answer, cells: Iterable[Cell]) -> None:
    """Compare the answer with what was sent: written, or adjusted by the service."""
    resource = answer.data
    outcome.http_status, outcome.resource = answer.status, resource
    row_id = resource.get("id")
    outcome.id = int(row_id) if row_id is not None else outcome.id
    outcome.updated_at = (resource.get("attributes") or {}).get("updatedAt")
    has = wire_cells(resource, (cell.column for cell in cells))
    differing = [
        cell for cell in cells if cell.column in has and not same_value(cell.column, has[cell.column], cell.after)
    ]
    outcome.status = "adjusted" if differing else "written"
    if differing:
        words = (f"{c.column}: sent {_value(c.after)}, stored {_value(has[c.column])}" for c in differing)
        outcome.detail = "; ".join(words)


def _fail(outcome: Outcome, error: ServiceError) -> None:
    """Write a failed request into the outcome."""
    outcome.attempts = max(outcome.attempts, 1)
    outcome.detail = printable(error, 500)
    if isinstance(error, ResponseError):
        outcome.http_status = error.status
        outcome.pointer = next((_pointer(entry) for entry in error.errors if _pointer(entry)), None)
        refused = 400 <= error.status < _SERVER_FAILURE
        transient = isinstance(error, AuthenticationError | AccessDeniedError) or error.status == 429
        outcome.status = "rejected" if refused and not transient else "failed"
        if isinstance(error, EditRejectedError | AccessDeniedError):
            outcome.status = "rejected"
        return
    outcome.status = "unknown" if isinstance(error, NoResponseError) and error.sent else "failed"


def _pointer(entry: Mapping[str, Any]) -> str | None:
    source = entry.get("source")
    return str(source["pointer"]) if isinstance(source, Mapping) and source.get("pointer") else None


def _conflict_words(conflicts: Iterable[tuple[Cell, Any]]) -> str:
    return "; ".join(
        f"{cell.column}: loaded {_value(cell.before)}, mine {_value(cell.after)}, theirs {_value(now)}"
        for cell, now in conflicts
    )


def _value(value: Any) -> str:
    return "(missing)" if value is None else printable(repr(value), 60)


def _short(error: ServiceError) -> str:
    return printable(error.message, 120)
