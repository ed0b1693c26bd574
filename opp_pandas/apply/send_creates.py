"""New deals: looked up first where they may exist already, sent, and looked for where the answer was lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.merge import merge_row, same_value
from opp_pandas.apply.operation import LostAnswerError, batches
from opp_pandas.apply.status import Status, wire_cells
from opp_pandas.changes.changeset import Cell, RowCreation
from opp_pandas.changes.diff import follow_amount
from opp_pandas.errors import CallBudgetError, NotFoundError, ServiceError, named, printable

if TYPE_CHECKING:
    from opp_pandas.apply.journal_folder import Attempt
    from opp_pandas.apply.merge import Policy
    from opp_pandas.apply.operation import Task, Wire
    from opp_pandas.apply.send_updates import Updates

LOOK_UP_BATCH = 50
# Together at least 5 s: how far the service's index may lag behind a write.
LOOK_UP_WAITS_S = (0.0, 1.0, 4.0)
_MOST_POSTS = 2
_UNSEEN = "an earlier attempt was not seen to end"


class Creations:
    """Sends new deals, several at once."""

    def __init__(
        self,
        wire: Wire,
        on_conflict: Policy,
        updates: Updates,
        attempts: Mapping[str, Attempt],
        own_ids: Iterable[int],
        sleep: Callable[[float], None],
        shared: bool = False,
    ) -> None:
        self._wire, self._on_conflict, self._updates = wire, on_conflict, updates
        self._attempts, self._sleep = attempts, sleep
        self._shared = shared
        self._created_ids = set(own_ids)
        self._found: dict[str, list[Mapping[str, Any]]] = {}
        self._look_up_error: ServiceError | None = None
        self._doubled: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def look_up(self, tasks: Sequence[Task]) -> None:
        """Ask once which custom ids of new deals the service has already: a file adopted twice makes no second deal."""
        counts = Counter(task.entry.custom_id for task in tasks if isinstance(task.entry, RowCreation))
        self._doubled = frozenset(custom for custom, count in counts.items() if custom is not None and count > 1)
        wanted = custom_ids_to_look_up((task.entry for task in tasks), self._shared)
        try:
            for batch in batches(wanted, LOOK_UP_BATCH):
                for resource in self._with_custom_id(batch):
                    self._found.setdefault(_custom_id(resource), []).append(resource)
        except ServiceError as error:
            self._look_up_error = error

    def _with_custom_id(self, custom_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        pages = self._wire.client.iter_pages(filter={"custom_id": list(custom_ids)})
        # Compared again: how exactly the service compares is not documented.
        return [item for page in pages for item in page.document["data"] if _custom_id(item) in custom_ids]

    def send(self, task: Task, creation: RowCreation) -> None:
        """Send a new deal, unless it is there already or may be."""
        outcome = task.outcome
        known = self._attempts.get(creation.key)
        if known is not None and known.state == "done" and known.id is not None:
            self._take_earlier(task, creation, known.id)
            return
        if known is not None:
            task.sends = max(task.sends, known.sends)
        task.attempted = task.attempted or creation.attempted or known is not None
        wanted = bool(custom_ids_to_look_up([creation], self._shared))
        if self._look_up_error is not None and not task.attempted and wanted:
            raise self._look_up_error
        found = self._others(creation.custom_id)
        if found and creation.custom_id == creation.key:
            why = _UNSEEN if task.attempted else "the plan was sent before, elsewhere"
            self._take_found(task, creation, found, why)
            return
        others = found if not task.attempted else []
        if others and self._on_conflict != "mine":
            ids = named(int(resource["id"]) for resource in others)
            words = (
                f"the service has a deal with the custom id {printable(creation.custom_id, 60)!r} already (id {ids})"
            )
            outcome.settle(
                Status.CONFLICT, f"{words}: edit that one, or clear custom_id; on_conflict='mine' creates another"
            )
            return
        if task.attempted and self._resolve_post(task, creation, _UNSEEN):
            return
        self._post(task, creation)

    def _take_earlier(self, task: Task, creation: RowCreation, row_id: int) -> None:
        try:
            resource = self._wire.client.get(row_id).data
        except NotFoundError:
            task.outcome.id = row_id
            task.outcome.settle(Status.GONE, "an earlier write created it, and the service no longer has it", 404)
            return
        self._take_over(task, creation, resource, "an earlier write had created it")

    def _take_over(self, task: Task, creation: RowCreation, resource: Mapping[str, Any], why: str) -> None:
        """Take a deal that is there already, and send what was edited of it since it was sent."""
        outcome, row_id = task.outcome, int(resource["id"])
        self._remember(row_id)
        known = self._attempts.get(creation.key)
        edits = _edits_since(known.values, creation.values, resource) if known is not None else ()
        merged = merge_row(edits, wire_cells(resource, (cell.column for cell in edits)), self._on_conflict)
        outcome.id = row_id
        if merged.conflicts:
            outcome.take_conflict(merged.conflicts, f"{why}; ")
        elif merged.send:
            self._updates.patch(task, row_id, merged.send)
            outcome.detail = "; ".join(filter(None, (why, outcome.detail)))
        else:
            outcome.take_resource(resource, _new_cells(creation), why)

    def _post(self, task: Task, creation: RowCreation) -> None:
        """Send a new deal; where the answer is lost, look for it: at most twice in all."""
        while True:
            try:
                answer = self._wire.write(
                    task,
                    _new_cells(creation),
                    lambda: self._wire.client.create(creation.attributes(), creation.relationships()),
                )
            except LostAnswerError as lost:
                if self._resolve_post(task, creation, f"the answer was lost ({lost.words})"):
                    return
                continue
            except CallBudgetError:
                raise
            except ServiceError as error:
                # Refused, and that may be because the first attempt, whose answer was lost, exists.
                if task.sends < _MOST_POSTS:
                    raise
                self._resolve_post(task, creation, f"refused the second time ({printable(error.message, 120)})")
                return
            task.outcome.take_answer(answer, _new_cells(creation))
            self._remember(int(answer.data["id"]))
            return

    def _resolve_post(self, task: Task, creation: RowCreation, why: str) -> bool:
        """Look for a new deal that may exist; False if it does not and may be sent (again)."""
        outcome, custom = task.outcome, creation.custom_id
        if custom is None or custom in self._doubled:
            remedy = "look for it by its name before creating it again"
            which = "it has no custom id of its own" if custom is None else "several new deals bear its custom id"
            outcome.settle(Status.UNKNOWN, f"{why}, and {which}: it may or may not exist; {remedy}")
            return True
        try:
            found = self._look_for(custom)
        except ServiceError as error:
            words = f"{why}, and looking for it failed ({printable(error.message, 120)})"
            outcome.settle(Status.UNKNOWN, f"{words}; opp.resume() settles it")
            return True
        if found:
            self._take_found(task, creation, found, why)
        elif task.sends >= _MOST_POSTS:
            words = f"{why}, it was sent {task.sends} times and cannot be found"
            outcome.settle(Status.UNKNOWN, f"{words}; look for the custom id {custom} later")
        else:
            return False
        return True

    def _take_found(self, task: Task, creation: RowCreation, found: Sequence[Mapping[str, Any]], why: str) -> None:
        """Take the one deal that bears the custom id of a new one; two of them are for a person to sort out."""
        if len(found) == 1:
            self._take_over(task, creation, found[0], f"{why}; it was found by its custom id")
            return
        ids = named(int(resource["id"]) for resource in found)
        words = f"{len(found)} deals bear the custom id {creation.custom_id} (id {ids}): delete the doubled one"
        task.outcome.settle(Status.UNKNOWN, words)

    def _look_for(self, custom: str) -> list[Mapping[str, Any]]:
        """Look a custom id up, for some seconds: the service's index may lag behind its writes."""
        for wait_s in LOOK_UP_WAITS_S:
            if wait_s:
                self._sleep(wait_s)
            before = {resource["id"] for resource in self._found.get(custom, ())}
            found = [resource for resource in self._with_custom_id([custom]) if resource["id"] not in before]
            if found:
                return found
        return []

    def _others(self, custom: str | None) -> list[Mapping[str, Any]]:
        """Deals with a custom id that this plan did not create."""
        with self._lock:
            return [item for item in self._found.get(str(custom), ()) if int(item["id"]) not in self._created_ids]

    def _remember(self, row_id: int) -> None:
        with self._lock:
            self._created_ids.add(row_id)


def _new_cells(creation: RowCreation) -> tuple[Cell, ...]:
    return tuple(Cell(column, None, value) for column, value in creation.values.items())


def _edits_since(base: Mapping[str, Any], values: Mapping[str, Any], resource: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Give what was edited of a new deal between two writes; a column that is not there any more is no edit."""
    cells = [
        Cell(column, base.get(column), value)
        for column, value in values.items()
        if not same_value(column, base.get(column), value)
    ]
    edited = {cell.column: cell for cell in cells}
    if "amount" in edited and "amount_precise" not in edited:
        has = wire_cells(resource, ["amount_precise"]).get("amount_precise")
        follow_amount(edited["amount"], has, cells)
    return tuple(cells)


def custom_ids_to_look_up(entries: Iterable[Any], shared: bool = False) -> list[str]:
    """Custom ids of new deals that may stand at the service before the plan is sent.

    Those of the outside CRM may, and ours where others have the plan too.
    """
    new = (entry for entry in entries if isinstance(entry, RowCreation))
    found = (entry.custom_id for entry in new if shared or entry.custom_id != entry.key)
    return list(dict.fromkeys(custom for custom in found if custom is not None))


def _custom_id(resource: Mapping[str, Any]) -> str:
    return str((resource.get("attributes") or {}).get("customId"))
