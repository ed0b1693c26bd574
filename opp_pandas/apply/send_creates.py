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
seconds, until the service's index shows our own deal: whoever's deal it shows
last sees both. If that is the older one, the younger has perhaps seen itself
alone and stayed: then, if it is still there after some more seconds, the older
one gives way. Two deals stay only where the index lags by more than the second
look waits, which the report says. A deal without a custom id gets no third step:
two equal deals may be meant.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.apply.journal import Claim
from opp_pandas.apply.merge import merge_row, same_value
from opp_pandas.apply.operation import MOST_SENDS, Operation, batches, patch, read_record, read_records, settle
from opp_pandas.apply.status import Status, sentences, wire_cells
from opp_pandas.changes.changeset import Cell, RowCreation, members_of
from opp_pandas.changes.diff import follow_amount
from opp_pandas.errors import ResponseError, ServiceError, named, printable
from opp_pandas.frame_state import OWN_CUSTOM_ID
from opp_pandas.instants import parse_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opp_pandas.api.client import Answer
    from opp_pandas.apply.operation import Task, Wire

    Found = dict[int, Mapping[str, Any]]

LOOK_UP_BATCH = 50
# Together at least 5 s: how far the service's index may lag behind a write.
LOOK_UP_WAITS_S = (0.0, 1.0, 4.0)
# How long a younger deal has to give way: its machine began later, and looks as long, after lost answers twice.
YOUNGER_WAITS_S = (1.0, 4.0, 15.0)
_UNSEEN = "an earlier attempt was not seen to end"


class Creations:
    """Sends new deals, several at once; what all of them have to know of each other."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self._shared = wire, wire.options.shared
        self.look_up_error: ServiceError | None = None
        # What looked like a deal before it was sent for the first time, by the number of its step.
        self.there: dict[int, Found] = {}
        self._made = {claim.row_id for claim in wire.plan.claims.values() if claim.row_id is not None}
        # Custom ids that several new deals of the plan bear.
        self.doubled: frozenset[str | None] = frozenset()
        self._lock = threading.Lock()

    # --- before ---------------------------------------------------------------------

    def look_up(self, tasks: Sequence[Task]) -> None:
        """Ask once what is there already of deals that were never sent."""
        new = [(task, task.entry) for task in tasks if isinstance(task.entry, RowCreation)]
        counts = Counter(entry.custom_id for _, entry in new)
        self.doubled = frozenset(custom for custom, count in counts.items() if count > 1 and custom is not None)
        fresh = [(task, entry) for task, entry in new if not self.claim(task, entry).sends]
        # Those without a custom id may stand at the service although this journal knows nothing of them, too.
        wanted = [pair for pair in fresh if pair[1].custom_id is None or may_have_rival(pair[1], self._shared)]
        try:
            for field in ("custom_id", "name"):
                asked = [pair for pair in wanted if _found_by(pair[1]) == field]
                for batch in batches(asked, LOOK_UP_BATCH):
                    found = self._search(field, [entry.values.get(field) for _, entry in batch])
                    for task, entry in batch:
                        self.there[task.number] = those_like(entry, found)
        except ServiceError as error:
            self.look_up_error = error

    def _search(self, field: str, values: Iterable[Any]) -> Found:
        try:
            return read_records(self.wire.client, filter={field: list(dict.fromkeys(values))})
        except ResponseError as error:
            # A service that cannot filter by name cannot be asked.
            if field == "name" and error.status in (400, 422):
                return {}
            raise

    # --- one deal -------------------------------------------------------------------

    def send(self, task: Task, creation: RowCreation) -> None:
        """Send a new deal, unless it is there already or may be."""
        _Create(self, task, creation).start()

    def claim(self, task: Task, creation: RowCreation) -> Claim:
        """What is known of a new deal."""
        known = self.wire.plan.claims.get(creation.key)
        return Claim(self.wire.plan.number, task.number, task.sends) if known is None else known

    def look(self, creation: RowCreation, before: Iterable[int]) -> Found:
        """Look for a deal that was sent, for some seconds: the service's index may lag behind its writes."""
        field = _found_by(creation)
        for wait_s in LOOK_UP_WAITS_S:
            self.wire.client.wait(wait_s)
            found = those_like(creation, self._search(field, [creation.values.get(field)]))
            if found := self.not_made(found, before):
                return found
        return {}

    def not_made(self, found: Found, before: Iterable[int] = ()) -> Found:
        """Leave out deals of this plan, and those that were there before."""
        with self._lock:
            others = self._made | set(before)
        return {row_id: resource for row_id, resource in found.items() if row_id not in others}

    def remember(self, row_id: int) -> None:
        """Keep in mind that a deal is one of this plan."""
        with self._lock:
            self._made.add(row_id)

    # --- after ----------------------------------------------------------------------

    def give_way(self, tasks: Sequence[Task]) -> None:
        """Look once more for the custom ids of deals that others may have made in the same moment: step 3 above."""
        made = [
            (task, task.entry)
            for task in tasks
            if isinstance(task.entry, RowCreation)
            and may_have_rival(task.entry, self._shared)
            and task.entry.custom_id not in self.doubled
            and task.outcome.status in (Status.WRITTEN, Status.ADJUSTED)
            and not task.outcome.joined
        ]
        younger: list[tuple[Task, Mapping[str, Any]]] = []
        for batch in batches(made, LOOK_UP_BATCH):
            try:
                found = self._search_until_seen(batch)
            except ServiceError as error:
                words = f"whether another machine created it too could not be asked ({printable(error.message, 120)})"
                for task, _ in batch:
                    task.outcome.detail = sentences(task.outcome.detail, words)
                continue
            for task, entry in batch:
                own = int(task.outcome.id or 0)
                same = those_like(entry, found).keys() - set(task.noted.get("before", ()))
                if own not in same:
                    words = "the service's index does not show it yet: look later whether another machine made it too"
                    task.outcome.detail = sentences(task.outcome.detail, words)
                if task.outcome.found and len(same) > 1:
                    # Its answer was lost: which of them is ours nobody knows.
                    task.outcome.settle(Status.UNKNOWN, _doubled_words(entry, same))
                    self.wire.plan.settled(task.number, task.outcome)
                elif same and min(same) < own:
                    self._yield_to(task, found[min(same)])
                elif same - {own}:
                    younger.append((task, found[min(same - {own})]))
        for wait_s in YOUNGER_WAITS_S if younger else ():
            self.wire.client.wait(wait_s)
            younger = [(task, rival) for task, rival in younger if self._stands(rival)]
        for task, rival in younger:
            self._yield_to(task, rival)

    def _search_until_seen(self, made: Sequence[tuple[Task, RowCreation]]) -> Found:
        """Search until the index shows our own deals, by custom id: what was made before them it shows then too."""
        found: Found = {}
        for wait_s in LOOK_UP_WAITS_S:
            self.wire.client.wait(wait_s)
            found = self._search("custom_id", [entry.custom_id for _, entry in made])
            # One that was found after its answer was lost may be the other machine's.
            if {None if task.outcome.found else task.outcome.id for task, _ in made} <= found.keys():
                break
        return found

    def _stands(self, resource: Mapping[str, Any]) -> bool:
        """Whether a deal is there still; one that cannot be asked for counts."""
        try:
            return read_record(self.wire.client, int(resource["id"])) is not None
        except ServiceError:
            return True

    def _yield_to(self, task: Task, other: Mapping[str, Any]) -> None:
        """Delete our own deal in favour of another one that is there, if nobody has touched ours."""
        if not self._stands(other):
            return
        outcome, own = task.outcome, int(task.outcome.id or 0)
        why = f"somebody else created id {other['id']} with its custom id in the same moment"
        outcome.settle(Status.UNKNOWN, f"{why}: delete that one or id {own}")
        outcome.id = None
        self.wire.plan.settled(task.number, outcome)
        try:
            attributes = self.wire.client.get(own).data.get("attributes") or {}
            # What does not bear the custom id is no rival of the other one, whatever the answer called ours.
            if (
                attributes.get("updatedAt") != outcome.updated_at
                or str(attributes.get("customId")) != outcome.custom_id
            ):
                return
            self.wire.client.delete(own)
        except ServiceError as error:
            outcome.detail += f"; deleting it failed ({printable(error.message, 120)})"
            return
        if self._stands(other):
            outcome.take_joined(other, outcome.sent, f"{why}; ours, id {own}, gave way and was deleted")
        else:
            # Neither is there: the deal may be created like one that was undone.
            outcome.settle(Status.GONE, f"{why}, and both gave way: write it back again", 404)
            self.wire.plan.mark(task.number, "undone")
            return
        self.wire.plan.settled(task.number, outcome)


class _Create(Operation):
    look_is_sure = False

    def __init__(self, creations: Creations, task: Task, creation: RowCreation) -> None:
        super().__init__(
            creations.wire, task, tuple(Cell(column, None, value) for column, value in creation.values.items())
        )
        self._all, self._creation, self._claim = creations, creation, creations.claim(task, creation)
        self._custom, self.most_sends = creation.custom_id, MOST_SENDS
        found_by = f"the custom id {self._custom}" if self._custom else "its name"
        self.unseen = f"it cannot be found; look for {found_by} later"

    def start(self) -> None:
        """Send the deal, unless it is there already or may be."""
        task, sends, holder = self.task, self._claim.sends, self.wire.plan.held.get(self._creation.key)
        if holder is not None:
            words = f"plan {holder} is creating it at this moment: write back again when that has ended"
            self.outcome.settle(Status.REFUSED, words)
        elif self._claim.row_id is not None:
            self._take_earlier(self._claim.row_id)
        elif self._all.look_up_error is not None:
            raise self._all.look_up_error
        else:
            # What was surely not applied counts as not sent.
            task.sends, task.attempted = sends, bool(sends) or self._creation.attempted
            why = _UNSEEN if task.attempted else ""
            if (sends or not self._is_there()) and not (task.attempted and self.looked(why)):
                settle(self, why)

    def _is_there(self) -> bool:
        """Settle a deal that was never sent from here and is there; True if nothing is left to do."""
        there = self._all.there.get(self.task.number, {})
        self.task.noted |= {"before": list(there), "values": dict(self._creation.values)}
        found, why = self._all.not_made(there), "it is there already"
        if found and self._custom == self._creation.key:
            self._take_found(found, why, joined=True)
        elif found and self.wire.options.on_conflict != "mine":
            what = printable("name and values" if self._custom is None else f"custom id {self._custom!r}", 80)
            remedy = "edit that one and drop the row here; on_conflict='mine' creates another"
            words = f"{why}: the service has a deal with the same {what} (id {named(found)}); {remedy}"
            self.outcome.settle(Status.CONFLICT, words)
        else:
            return False
        return True

    def _take_earlier(self, row_id: int) -> None:
        creator = f"plan {self._claim.plan} created it"
        resource = read_record(self.wire.client, row_id)
        if resource is None:
            self.outcome.id = row_id
            self.outcome.settle(Status.GONE, f"{creator}, and the service no longer has it", 404)
        else:
            self._take_over(resource, f"it is there already: {creator}", joined=True)

    def _take_found(self, found: Found, why: str, *, joined: bool = False) -> None:
        """Take the one deal that was found for a new one; two of them are for a person to sort out."""
        if self._custom is not None and len(found) > 1:
            self.outcome.settle(Status.UNKNOWN, f"{why}; {_doubled_words(self._creation, found)}")
            return
        self.outcome.found = not joined
        how = "its custom id" if self._custom is not None else "its name and values"
        self._take_over(found[min(found)], f"{why}; it was found by {how}", joined=joined)

    def _take_over(self, resource: Mapping[str, Any], why: str, *, joined: bool) -> None:
        """Take a deal that is there already, and send what was edited of it since it was sent."""
        outcome, row_id, known = self.outcome, int(resource["id"]), self._claim.values
        self._all.remember(row_id)
        edits = _edits_since(known, self._creation.values, resource) if known else ()
        merged = merge_row(edits, wire_cells(resource, (cell.column for cell in edits)), self.wire.options.on_conflict)
        outcome.id, outcome.joined = row_id, joined
        if merged.conflicts:
            outcome.take_conflict(merged.conflicts, f"{why}; ")
        elif merged.send:
            self.task.noted.clear()
            patch(self.wire, self.task, row_id, merged.send, resource)
            outcome.detail = sentences(why, outcome.detail)
        elif joined:
            outcome.take_joined(resource, self.cells, why)
        else:
            outcome.take_resource(resource, self.cells, why)

    def send(self) -> Answer:
        return self.wire.client.create(*members_of(self._creation))

    def take(self, answer: Answer) -> None:
        if is_another(answer, self._creation):
            # To delete that one for ours, in give_way() or undo(), would destroy somebody's deal.
            why, self.task.attempted = f"the service answered with another deal (id {answer.data['id']})", True
            if not self.looked(why):
                self.give_up(why, unsure=True)
            return
        self._all.remember(int(answer.data["id"]))
        self.take_shown(answer, int(answer.data["id"]))

    def missing(self, why: str) -> None:
        # Not found is the collection, or what the deal points to: a deal that was not made cannot be gone.
        words = sentences(why, "the service has nothing at the address of new deals, or what the deal points to")
        self.outcome.settle(Status.UNKNOWN if why else Status.REJECTED, words, 404)

    def look(self, why: str) -> bool:
        before = self.task.noted.get("before", self._claim.before)
        unsure = ""
        if self._creation.custom_id in self._all.doubled:
            unsure = ", and several new deals bear its custom id: it may or may not exist; look for it by its name"
        elif found := self._all.look(self._creation, before or ()):
            if before is not None or self._custom == self._creation.key:
                self._take_found(found, why)
                return True
            what = f"id {named(found)} looks like it, and nobody knows whether it was there before"
            unsure = f"; {what}: compare them"
        elif self._custom is None:
            remedy = "look for it by its name before creating it again"
            unsure = f", and it has no custom id: it may or may not exist; {remedy}"
        if unsure:
            self.outcome.settle(Status.UNKNOWN, f"{why}{unsure}")
        return bool(unsure)


def _doubled_words(creation: RowCreation, found: Iterable[int]) -> str:
    ids = sorted(found)
    return f"{len(ids)} deals bear the custom id {creation.custom_id} (id {named(ids)}): delete the doubled one"


def _found_by(creation: RowCreation) -> str:
    return "name" if creation.custom_id is None else "custom_id"


def may_have_rival(creation: RowCreation, shared: bool) -> bool:
    """Return whether another machine may create a deal with the same custom id.

    So it may with the id of an outside CRM, with an id that was derived from a
    file (a name-based one), and where others have the plan too.
    """
    custom = creation.custom_id
    if custom is None or shared or custom != creation.key:
        return custom is not None
    # A UUID tells at its fifteenth place whether it was drawn: nobody else has such a one.
    return custom.removeprefix(OWN_CUSTOM_ID)[14:15] != "4"


def is_another(answer: Answer, creation: RowCreation) -> bool:
    """Return whether an answer to a new deal holds one that was there before.

    Such a one has neither our custom id nor our name, or it was created long before, by the service's own clock.
    """
    has = wire_cells(answer.data, ["custom_id", "name", "created_at"])
    if creation.custom_id is not None and has.keys() >= {"custom_id", "name"}:
        sent = {"custom_id": creation.custom_id, "name": creation.values.get("name")}
        # The service may have trimmed a text, or written it in another case.
        if all(str(has[column]).strip().casefold() != str(sent[column]).strip().casefold() for column in sent):
            return True
    try:
        created = parse_instant(str(has.get("created_at")))[0]
    except ValueError:
        return False
    # A time that is written without its zone is up to 14 hours off.
    return answer.date is not None and created < (answer.date - pd.Timedelta(days=1)).timestamp() * 1e6


def count_look_ups(creations: Iterable[RowCreation], shared: bool = False) -> int:
    """Count the requests that look for new deals before and after they are sent."""
    new = list(creations)
    names = sum(creation.custom_id is None for creation in new)
    rivals = sum(may_have_rival(creation, shared) for creation in new)
    return -(-names // LOOK_UP_BATCH) - 2 * (-rivals // LOOK_UP_BATCH)


def those_like(creation: RowCreation, found: Found) -> Found:
    """Compare again what was asked for: how exactly the service compares is not documented."""

    def is_like(resource: Mapping[str, Any]) -> bool:
        if creation.custom_id is not None:
            return str((resource.get("attributes") or {}).get("customId")) == creation.custom_id
        has = wire_cells(resource, creation.values)
        return all(same_value(column, has.get(column), value) for column, value in creation.values.items())

    return {row_id: resource for row_id, resource in found.items() if is_like(resource)}


def _edits_since(base: Mapping[str, Any], values: Mapping[str, Any], resource: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Return what was edited of a new deal between two writes; a column that is not there any more is no edit."""
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
