"""New deals: claimed in the journal, looked for where they may be there already, sent, and looked for again.

A deal is found again by its own custom id, by a custom id that was made here,
or, without either, by its name and all its values. What looks like it before it
is sent for the first time is written down with it: only what appears later can
be the deal that was sent, so neither a lost answer nor a killed program leads
to a second one.

Two programs on one machine share the journal, and the later one finds the key
claimed. Two machines share nothing but the service, which does not keep custom
ids unique. There this procedure holds:

1. look for the custom id; what is there already is taken, not made;
2. create the deal;
3. look again: where an older deal bears the custom id now, ours, if nobody has
   touched it yet, gives way: it is deleted, and the older one is taken.

Of two machines that create in the same moment the one that created later sees
both in its second look, so one deal stays. The second look is repeated, for some
seconds, until the service's index shows our own deal: an index that takes deals
in the order in which they were made shows the older one then too. Two deals stay
only where the index lags by more than those seconds, or shows a younger deal
before an older one. A deal without a custom id gets no third
step: two equal deals may be meant.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

from opp_pandas.apply.journal import Claim
from opp_pandas.apply.merge import merge_row, same_value
from opp_pandas.apply.operation import MOST_SENDS, Operation, looked, settle
from opp_pandas.apply.send_updates import patch
from opp_pandas.apply.status import Status, sentences, wire_cells
from opp_pandas.apply.workers import batches
from opp_pandas.changes.changeset import Cell, RowCreation
from opp_pandas.changes.diff import follow_amount
from opp_pandas.errors import NotFoundError, ResponseError, ServiceError, named, printable
from opp_pandas.frame_state import OWN_CUSTOM_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opp_pandas.api.client import Answer
    from opp_pandas.apply.operation import Task, Wire

    Resources = Sequence[Mapping[str, Any]]

LOOK_UP_BATCH = 50
# Together at least 5 s: how far the service's index may lag behind a write.
LOOK_UP_WAITS_S = (0.0, 1.0, 4.0)
_UNSEEN = "an earlier attempt was not seen to end"


class Creations:
    """Sends new deals, several at once."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self._shared = wire, wire.options.shared
        self._created_ids = {claim.row_id for claim in wire.plan.claims.values() if claim.row_id is not None}
        self._there: dict[int, list[int]] = {}
        self._found: dict[int, Mapping[str, Any]] = {}
        self._look_up_error: ServiceError | None = None
        self._doubled: frozenset[str | None] = frozenset()
        self._lock = threading.Lock()

    # --- before ---------------------------------------------------------------------

    def look_up(self, tasks: Sequence[Task]) -> None:
        """Ask once what is there already of deals that were never sent."""
        new = [(task, task.entry) for task in tasks if isinstance(task.entry, RowCreation)]
        counts = Counter(entry.custom_id for _, entry in new)
        self._doubled = frozenset(custom for custom, count in counts.items() if count > 1)
        fresh = [(task, entry) for task, entry in new if not self._claim(task, entry).sends]
        wanted = [(task, entry) for task, entry in fresh if may_be_there(entry, self._shared)]
        try:
            for field in ("custom_id", "name"):
                asked = [pair for pair in wanted if _found_by(pair[1]) == field]
                for batch in batches(asked, LOOK_UP_BATCH):
                    resources = self._search(field, [entry.values.get(field) for _, entry in batch])
                    for task, entry in batch:
                        same = [item for item in resources if _looks_like(item, entry)]
                        self._there[task.number] = [int(item["id"]) for item in same]
                        self._found |= {int(item["id"]): item for item in same}
        except ServiceError as error:
            self._look_up_error = error

    def _search(self, field: str, values: Iterable[Any]) -> Resources:
        unique = list(dict.fromkeys(values))
        try:
            pages = self.wire.client.iter_pages(filter={field: unique})
            return [item for page in pages for item in page.document["data"]]
        except ResponseError as error:
            # A service that cannot filter by name cannot be asked.
            if field == "name" and error.status in (400, 422):
                return []
            raise

    def _claim(self, task: Task, creation: RowCreation) -> Claim:
        known = self.wire.plan.claims.get(creation.key)
        return Claim(self.wire.plan.number, task.number, task.sends) if known is None else known

    # --- one deal -------------------------------------------------------------------

    def send(self, task: Task, creation: RowCreation) -> None:
        """Send a new deal, unless it is there already or may be."""
        outcome, claim = task.outcome, self._claim(task, creation)
        if creation.key in self.wire.plan.held:
            holder = self.wire.plan.held[creation.key]
            words = f"plan {holder} is creating it at this moment: write back again when that has ended"
            outcome.settle(Status.REFUSED, words)
        elif claim.row_id is not None:
            self._take_earlier(task, creation, claim.row_id)
        elif self._look_up_error is not None:
            raise self._look_up_error
        else:
            # What was surely not applied counts as not sent.
            task.sends, task.attempted = claim.sends, bool(claim.sends) or creation.attempted
            operation = _Create(self, task, creation, claim)
            if not claim.sends and self._is_there(task, creation):
                return
            if task.attempted and looked(operation, _UNSEEN):
                return
            settle(operation, _UNSEEN if task.attempted else "")

    def _is_there(self, task: Task, creation: RowCreation) -> bool:
        """Settle a deal that was never sent from here and is there; True if nothing is left to do."""
        ids = [row_id for row_id in self._there.get(task.number, ()) if row_id not in self._created_ids]
        task.noted |= {"before": self._there.get(task.number, []), "values": dict(creation.values)}
        if ids and creation.custom_id == creation.key:
            self.take_found(task, creation, [self._found[row_id] for row_id in ids], "it is there already", joined=True)
        elif ids and self.wire.options.on_conflict != "mine":
            what = "name and values" if creation.custom_id is None else f"custom id {creation.custom_id!r}"
            words = f"it is there already: the service has a deal with the same {printable(what, 80)} (id {named(ids)})"
            remedy = "edit that one and drop the row here; on_conflict='mine' creates another"
            task.outcome.settle(Status.CONFLICT, f"{words}; {remedy}")
        else:
            return False
        return True

    def _take_earlier(self, task: Task, creation: RowCreation, row_id: int) -> None:
        creator = f"plan {self._claim(task, creation).plan} created it"
        try:
            resource = self.wire.client.get(row_id).data
        except NotFoundError:
            task.outcome.id = row_id
            task.outcome.settle(Status.GONE, f"{creator}, and the service no longer has it", 404)
            return
        task.outcome.joined = True
        self._take_over(task, creation, resource, f"it is there already: {creator}")

    def _take_over(self, task: Task, creation: RowCreation, resource: Mapping[str, Any], why: str) -> None:
        """Take a deal that is there already, and send what was edited of it since it was sent."""
        outcome, row_id = task.outcome, int(resource["id"])
        self.remember(row_id)
        known = self._claim(task, creation)
        edits = _edits_since(known.values, creation.values, resource) if known.values else ()
        merged = merge_row(edits, wire_cells(resource, (cell.column for cell in edits)), self.wire.options.on_conflict)
        outcome.id = row_id
        if merged.conflicts:
            outcome.take_conflict(merged.conflicts, f"{why}; ")
        elif merged.send:
            task.noted.clear()
            patch(self.wire, task, row_id, merged.send, resource)
            outcome.detail = sentences(why, outcome.detail)
        else:
            outcome.take_resource(resource, new_cells(creation), why)
            if outcome.joined:
                outcome.status, outcome.sent = Status.UNCHANGED, ()

    def take_found(
        self, task: Task, creation: RowCreation, found: Resources, why: str, *, joined: bool = False
    ) -> None:
        """Take the one deal that was found for a new one; two of them are for a person to sort out."""
        custom = creation.custom_id
        if custom is not None and len(found) > 1:
            ids = named(int(resource["id"]) for resource in found)
            words = f"{why}; {len(found)} deals bear the custom id {custom} (id {ids}): delete the doubled one"
            task.outcome.settle(Status.UNKNOWN, words)
            return
        task.outcome.joined, task.outcome.found = joined, not joined
        oldest = min(found, key=lambda resource: int(resource["id"]))
        how = "its custom id" if custom is not None else "its name and values"
        self._take_over(task, creation, oldest, f"{why}; it was found by {how}")

    def look(self, creation: RowCreation, before: Sequence[int]) -> Resources:
        """Look for a deal that was sent, for some seconds: the service's index may lag behind its writes."""
        field = _found_by(creation)
        for wait_s in LOOK_UP_WAITS_S:
            self._wait(wait_s)
            found = [item for item in self._search(field, [creation.values.get(field)]) if _looks_like(item, creation)]
            with self._lock:
                others = self._created_ids | set(before)
            found = [item for item in found if int(item["id"]) not in others]
            if found:
                return found
        return []

    def is_doubled(self, creation: RowCreation) -> bool:
        """Whether several new deals of the plan bear its custom id."""
        return creation.custom_id is not None and creation.custom_id in self._doubled

    def remember(self, row_id: int) -> None:
        """Keep in mind that a deal is one of this plan."""
        with self._lock:
            self._created_ids.add(row_id)

    # --- after ----------------------------------------------------------------------

    def give_way(self, tasks: Sequence[Task]) -> None:
        """Look once more for the custom ids of deals that others may have made in the same moment: step 3 above."""
        made = {
            str(task.entry.custom_id): task
            for task in tasks
            if isinstance(task.entry, RowCreation)
            and may_have_rival(task.entry, self._shared)
            and not self.is_doubled(task.entry)
            and task.outcome.status in (Status.WRITTEN, Status.ADJUSTED)
            and not task.outcome.joined
        }
        for batch in batches(list(made), LOOK_UP_BATCH):
            try:
                resources = self._search_until_seen({custom: made[custom].outcome.id for custom in batch})
            except ServiceError as error:
                words = f"whether another machine created it too could not be asked ({printable(error.message, 120)})"
                for custom in batch:
                    outcome = made[custom].outcome
                    outcome.detail = sentences(outcome.detail, words)
                continue
            for custom in batch:
                task = made[custom]
                before = task.noted.get("before", ())
                same = [item for item in resources if _custom_id(item) == custom and int(item["id"]) not in before]
                older = [item for item in same if int(item["id"]) < int(task.outcome.id or 0)]
                if older:
                    self._yield_to(task, min(older, key=lambda item: int(item["id"])))
                elif not same:
                    words = "the service's index does not show it yet: look later whether another machine made it too"
                    task.outcome.detail = sentences(task.outcome.detail, words)

    def _search_until_seen(self, made: Mapping[str, int | None]) -> Resources:
        """Search until the index shows our own deals, by custom id: what was made before them it shows then too."""
        resources: Resources = ()
        for wait_s in LOOK_UP_WAITS_S:
            self._wait(wait_s)
            resources = self._search("custom_id", made)
            if set(made.values()) <= {int(item["id"]) for item in resources}:
                break
        return resources

    def _wait(self, seconds: float) -> None:
        if seconds:
            self.wire.client.wait(seconds)

    def _yield_to(self, task: Task, older: Mapping[str, Any]) -> None:
        """Delete our own deal in favour of an older one, if nobody has touched it."""
        outcome, own, other = task.outcome, task.outcome.id, int(older["id"])
        why = f"somebody else created id {other} with its custom id in the same moment"
        outcome.settle(Status.UNKNOWN, f"{why}: delete that one or id {own}")
        outcome.id = None
        self.wire.plan.settled(task.number, outcome)
        try:
            attributes = self.wire.client.get(int(own or 0)).data.get("attributes") or {}
            if attributes.get("updatedAt") != outcome.updated_at:
                return
            self.wire.client.delete(int(own or 0))
        except ServiceError as error:
            outcome.detail += f"; deleting it failed ({printable(error.message, 120)})"
        else:
            outcome.joined = True
            outcome.take_resource(older, outcome.sent, f"{why}; ours, id {own}, gave way and was deleted")
            outcome.status, outcome.sent = Status.UNCHANGED, ()
            self.wire.plan.settled(task.number, outcome)


class _Create(Operation):
    look_is_sure = False

    def __init__(self, creations: Creations, task: Task, creation: RowCreation, claim: Claim) -> None:
        super().__init__(creations.wire, task, new_cells(creation))
        self._creations, self._creation, self._claim, self.most_sends = creations, creation, claim, MOST_SENDS
        custom = creation.custom_id
        self.unseen = "it cannot be found; look for " + (f"the custom id {custom}" if custom else "its name") + " later"

    def send(self) -> Answer:
        return self.wire.client.create(self._creation.attributes(), self._creation.relationships())

    def take(self, answer: Answer) -> None:
        self._creations.remember(int(answer.data["id"]))
        self.outcome.take_answer(answer, self.cells)

    def look(self, why: str) -> bool:
        creation = self._creation
        before = self.task.noted.get("before", self._claim.before)
        if self._creations.is_doubled(creation):
            words = "several new deals bear its custom id: it may or may not exist; look for it by its name"
            self.outcome.settle(Status.UNKNOWN, f"{why}, and {words}")
            return True
        found = self._creations.look(creation, before or ())
        if found and before is None and creation.custom_id != creation.key:
            ids = named(int(item["id"]) for item in found)
            words = f"{why}; id {ids} looks like it, and nobody knows whether it was there before: compare them"
            self.outcome.settle(Status.UNKNOWN, words)
        elif found:
            self._creations.take_found(self.task, creation, found, why)
        elif creation.custom_id is None:
            remedy = "look for it by its name before creating it again"
            self.outcome.settle(Status.UNKNOWN, f"{why}, and it has no custom id: it may or may not exist; {remedy}")
        else:
            return False
        return True


def _found_by(creation: RowCreation) -> str:
    return "name" if creation.custom_id is None else "custom_id"


def may_be_there(creation: RowCreation, shared: bool) -> bool:
    """Tell whether a new deal may stand at the service although this journal knows nothing of it."""
    return creation.custom_id is None or may_have_rival(creation, shared)


def may_have_rival(creation: RowCreation, shared: bool) -> bool:
    """Tell whether another machine may create a deal with the same custom id.

    So it may with the id of an outside CRM, with an id that was derived from a
    file (a name-based one), and where others have the plan too.
    """
    custom = creation.custom_id
    if custom is None or shared or custom != creation.key:
        return custom is not None
    try:
        return uuid.UUID(custom.removeprefix(OWN_CUSTOM_ID)).version == 5
    except ValueError:
        return True


def count_look_ups(creations: Iterable[RowCreation], shared: bool = False) -> int:
    """Count the requests that look for new deals before and after they are sent."""
    new = list(creations)
    names = sum(creation.custom_id is None for creation in new)
    rivals = sum(may_have_rival(creation, shared) for creation in new)
    return -(-names // LOOK_UP_BATCH) - 2 * (-rivals // LOOK_UP_BATCH)


def new_cells(creation: RowCreation) -> tuple[Cell, ...]:
    """Give the values of a new deal as cells that were missing before."""
    return tuple(Cell(column, None, value) for column, value in creation.values.items())


def _looks_like(resource: Mapping[str, Any], creation: RowCreation) -> bool:
    """Compare again what was asked for: how exactly the service compares is not documented."""
    if creation.custom_id is not None:
        return _custom_id(resource) == creation.custom_id
    has = wire_cells(resource, creation.values)
    return all(same_value(column, has.get(column), value) for column, value in creation.values.items())


def _custom_id(resource: Mapping[str, Any]) -> str:
    return str((resource.get("attributes") or {}).get("customId"))


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
