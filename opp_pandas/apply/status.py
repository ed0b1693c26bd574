"""How one intended change went, and what an answer or an error means for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from opp_pandas.apply.merge import same_value
from opp_pandas.changes.changeset import Cell, RowCreation, RowDeletion, RowUpdate, related_id
from opp_pandas.changes.rules import WRITABLE
from opp_pandas.errors import (
    AccessDeniedError,
    AuthenticationError,
    DocumentError,
    NoResponseError,
    ResponseError,
    ServiceError,
    printable,
)
from opp_pandas.resource import OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from opp_pandas.api.client import Answer

_SERVER_FAILURE, _GATEWAY_TIMEOUT = 500, 504
# After these many web frameworks have processed what was sent; 307 and 308 ask for it again.
_SEE_OTHER = frozenset({301, 302, 303})


class Status(StrEnum):
    """What became of one intended change, and what follows from it.

    ::

        planned ── nothing to send, or not allowed ──> unchanged, conflict, gone, refused
           │
          send ── answer ──> written, adjusted, rejected, gone, failed
           │
          lost answer ── look ──> written, adjusted, conflict, gone
           │
           └── nothing found ──> send once more, then failed, unknown

        planned, failed, unknown ── resume ──> any of these
        conflict ── resume(on_conflict=...) ──> any of these

    Attributes
    ----------
    ok : bool
        Whether the row is now as it was meant to be.
    retry : bool
        Whether `resume` takes it up again without being told more.
    journal_state : str
        How the journal files it: see `opp_pandas.apply.journal.STATES`.
    """

    #                      ok, retry, journal_state
    PLANNED = "planned", False, True, "planned"
    WRITTEN = "written", True, False, "done"
    ADJUSTED = "adjusted", True, False, "done"
    UNCHANGED = "unchanged", True, False, "done"
    CONFLICT = "conflict", False, False, "conflict"
    REFUSED = "refused", False, False, "failed"
    REJECTED = "rejected", False, False, "failed"
    GONE = "gone", False, False, "done"
    FAILED = "failed", False, True, "failed"
    UNKNOWN = "unknown", False, True, "unknown"

    ok: bool
    retry: bool
    journal_state: str

    def __new__(cls, word: str, ok: bool, retry: bool, journal_state: str) -> Self:
        """Make a member: its value is the word, the facts are its attributes."""
        self = str.__new__(cls, word)
        self._value_ = word
        self.ok, self.retry, self.journal_state = ok, retry, journal_state
        return self


STATUS_OF = {str(status): status for status in Status}
"""Every status by its word."""


@dataclass
class Outcome:
    """How one intended change went: one row of the report.

    ``resource`` is the record as the service has it now, ``sent`` the cells that
    went out, with what the service had before; ``joined`` says of a new deal that
    it was there already, ``found`` that it was found after its answer was lost.
    """

    action: str
    status: Status
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
    sent: tuple[Cell, ...] = ()
    left_out: str = ""
    joined: bool = False
    found: bool = False

    def stored(self) -> dict[str, Any]:
        """Wire values of the row after the change, for undoing it: of the sent cells, or of all of a new deal."""
        if self.resource is None:
            return {}
        columns: Iterable[str] = [cell.column for cell in self.sent]
        if self.action == "create":
            columns = [*WRITABLE, "created_at"]
        elif "amount" in columns:
            columns = {*columns, "amount_precise"}
        return wire_cells(self.resource, columns)

    def facts(self) -> dict[str, Any]:
        """What a journal keeps of it."""
        known = {
            name: getattr(self, name) for name in ("detail", "http_status", "pointer", "updated_at", "joined", "found")
        }
        known |= {"status": str(self.status), "row_id": self.id, "stored": self.stored()}
        # What was sent to make a deal is no edit of the one that is there instead.
        return known | {"sent": list(self.sent)} if self.joined else known

    def recall(self, facts: Mapping[str, Any]) -> None:
        """Take back what a journal kept."""
        self.settle(STATUS_OF[facts["status"]], facts["detail"], facts.get("http_status"))
        self.pointer, self.updated_at = facts.get("pointer"), facts.get("updated_at")
        self.id = facts.get("row_id") if self.id is None else self.id

    def settle(self, status: Status, detail: str = "", http_status: int | None = None) -> None:
        """Set the status, with words and the HTTP status where there are."""
        self.status, self.detail = status, detail
        self.http_status = self.http_status if http_status is None else http_status

    def take_answer(self, answer: Answer, cells: Iterable[Cell], detail: str = "") -> None:
        """Compare the answer with what was sent: written, or adjusted by the service."""
        self.http_status = answer.status
        self.take_resource(answer.data, cells, detail)

    def take_resource(self, resource: Mapping[str, Any], cells: Iterable[Cell], detail: str = "") -> None:
        """Compare a record with what was sent to it."""
        self.resource, self.id = resource, int(resource["id"])
        self.updated_at = (resource.get("attributes") or {}).get("updatedAt")
        self.sent = tuple(cells)
        has = wire_cells(resource, (cell.column for cell in self.sent))
        differing = [c for c in self.sent if c.column in has and not same_value(c.column, has[c.column], c.after)]
        words = [f"{c.column}: sent {_value(c.after)}, stored {_value(has[c.column])}" for c in differing]
        words += [f"{c.column}: sent, and the service does not show it" for c in self.sent if c.column not in has]
        self.status = Status.ADJUSTED if differing else Status.WRITTEN
        self.detail = sentences(detail, *words)

    def take_joined(self, resource: Mapping[str, Any], cells: Iterable[Cell], why: str) -> None:
        """Take a deal that was there already in the place of a new one: nothing of that was sent to it."""
        self.take_resource(resource, cells, why)
        self.joined, self.status, self.sent = True, Status.UNCHANGED, ()

    def take_conflict(self, conflicts: Iterable[tuple[Cell, Any]], before: str = "") -> None:
        """Note which cells both sides changed."""
        self.conflicts = tuple(conflicts)
        self.status = Status.CONFLICT
        self.detail = before + "; ".join(conflict_words(cell, now) for cell, now in self.conflicts)

    def take_error(self, error: ServiceError) -> None:
        """Note a request that failed without having been applied."""
        self.attempts = max(self.attempts, 1)
        self.detail = printable(error, 500)
        self.status = Status.FAILED
        if isinstance(error, ResponseError):
            self.http_status = error.status
            self.pointer = next(filter(None, map(_pointer, error.errors)), None)
            # Where the token is at fault nothing is wrong with the row.
            if 400 <= error.status < _SERVER_FAILURE and error.status != 429 and not _blames_token(error):
                self.status = Status.REJECTED


def conflict_words(cell: Cell, now: Any) -> str:
    """Describe what was loaded, what is mine and what is theirs of one cell."""
    return f"{cell.column}: loaded {_value(cell.before)}, mine {_value(cell.after)}, theirs {_value(now)}"


def planned(entry: RowUpdate | RowCreation | RowDeletion) -> Outcome:
    """Start the outcome of a row that was not sent yet."""
    outcome = Outcome(entry.action, Status.PLANNED, position=entry.position)
    if isinstance(entry, RowCreation):
        outcome.row, outcome.custom_id = entry.label, entry.custom_id
        outcome.fields = (*entry.values, *entry.unresolved)
        outcome.left_out = sentences(*(f"{column} {_value(name)} left out" for column, name in entry.left_out.items()))
    else:
        outcome.id = entry.id
        outcome.fields = tuple(cell.column for cell in entry.cells) if isinstance(entry, RowUpdate) else ()
    return outcome


def sentences(*words: str) -> str:
    """Join what there is to say."""
    return "; ".join(filter(None, words))


def perhaps_applied(error: ServiceError) -> bool:
    """Whether a write that ended in `error` may have reached the service's data.

    So it may after a lost or broken answer, a 5xx other than announced maintenance, an
    answer that says success and cannot be read, and a redirect to the result of a write.
    """
    if isinstance(error, NoResponseError):
        return error.sent
    if isinstance(error, ResponseError):
        maintenance = any(entry.get("id") == "scheduledServerMaintenance" for entry in error.errors)
        return error.status in _SEE_OTHER or (error.status >= _SERVER_FAILURE and not maintenance)
    return isinstance(error, DocumentError)


def may_still_arrive(error: ServiceError) -> bool:
    """Whether a write that is not seen yet may still be applied: nobody answered for it."""
    return not isinstance(error, ResponseError) or error.status == _GATEWAY_TIMEOUT


def is_service_failure(outcome: Outcome) -> bool:
    """Whether an outcome speaks against the service or the token rather than the row."""
    status = outcome.http_status or 0
    return outcome.status in (Status.FAILED, Status.UNKNOWN) or (
        outcome.status is Status.REJECTED and status in (401, 403)
    )


def wire_cells(resource: Mapping[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """Pick the wire values of columns out of a resource object; members that were not sent are left out."""
    attributes = resource.get("attributes") or {}
    relationships = resource.get("relationships") or {}
    values: dict[str, Any] = {}
    for column in columns:
        attribute = OPPORTUNITY.by_column.get(column)
        if attribute is not None:
            if attribute.name in attributes:
                values[column] = attributes[attribute.name]
            continue
        value = relationships.get(OPPORTUNITY.relationship_by_column[column].name)
        if isinstance(value, dict) and (value.get("data", ...) is None or isinstance(value.get("data"), dict)):
            values[column] = related_id(value) if value["data"] else None
    return values


def _blames_token(error: ResponseError) -> bool:
    scope = any(entry.get("id") == "unauthorizedOauthScope" for entry in error.errors)
    return isinstance(error, AuthenticationError) or (isinstance(error, AccessDeniedError) and scope)


def _pointer(entry: Mapping[str, Any]) -> str | None:
    source = entry.get("source")
    return str(source["pointer"]) if isinstance(source, dict) and source.get("pointer") else None


def _value(value: Any) -> str:
    return "(missing)" if value is None else printable(repr(value), 60)
