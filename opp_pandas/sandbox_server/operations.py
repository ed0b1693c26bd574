"""What the API does: read a collection or a record, create, update, delete."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from opp_pandas.sandbox_server import errors
from opp_pandas.sandbox_server.documents import Writer
from opp_pandas.sandbox_server.edits import Edit, read_body, read_edit, resolve_amounts
from opp_pandas.sandbox_server.filters import Condition
from opp_pandas.sandbox_server.instants import Clock, instant_text
from opp_pandas.sandbox_server.selection import Pairs, Selection, View, read_selection, read_view
from opp_pandas.sandbox_server.store import TABLES, NewRecord, Record, Store, Table, dump_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from opp_pandas.sandbox_server.access import Identity
    from opp_pandas.sandbox_server.settings import Switches

MEDIA_TYPE = "application/vnd.api+json"


@dataclass(frozen=True)
class Call:
    """One request on its way: who asks, for which resource and record (0 for none), and with what.

    Doubled parameters are merged in ``pairs``; ``base`` is the API's address as the client named it, for links.
    """

    identity: Identity
    table: Table
    key: int
    pairs: Pairs
    body: bytes
    base: str


class Operations:
    """The operations of every resource, on one store."""

    def __init__(self, store: Store, switches: Switches, clock: Clock) -> None:
        self._store, self._switches, self._clock = store, switches, clock
        # New records that collections do not show yet, and from when on they do.
        self._unindexed: dict[tuple[str, int], datetime] = {}

    def collection(self, call: Call) -> Response:
        """Answer ``GET /opportunities`` and its like: one page."""
        selection = self._indexed(read_selection(call.table, call.pairs, self._switches))
        self._demand_included(call, selection.view)
        limit = self._switches.bad_gateway_above
        if limit is not None and selection.size > limit:
            return bad_gateway()
        condition = selection.page_condition
        with self._store.steady():
            found = self._store.select(
                call.table, condition.sql, condition.values, selection.order, selection.size + 1, selection.offset or 0
            )
            # One row beyond the page tells whether another page follows.
            more, records = len(found) > selection.size, found[: selection.size]
            if selection.cursor is not None and selection.cursor.backwards:
                records.reverse()
            return document(self._writer(call).collection(selection, records, more, self._total(selection)))

    def record(self, call: Call) -> Response:
        """Answer ``GET /opportunities/{id}`` and its like."""
        view = read_view(call.table, call.pairs)
        self._demand_included(call, view)
        with self._store.steady():
            return document(self._writer(call).one(call.table, self._existing(call), view))

    def create(self, call: Call) -> Response:
        """Answer ``POST``: 201 with the new record."""
        view = self._view_of_write(call)
        table = call.table
        with self._store.transaction():
            edit = self._read_edit(call, None)
            attributes, links = dict(edit.attributes), dict(edit.links)
            if table.resource.type == "opportunity":
                resolve_amounts(attributes)
                attributes.setdefault("tags", [])
            if table.resource.type == "webhook":
                attributes = {"active": True, "payloadVersion": 1} | attributes
            if table.resource.type == "opportunityStage":
                attributes["isClosed"] = bool(attributes.get("isClosed"))
                if attributes.get("order") is None:
                    attributes["order"] = self._store.count(table, "1", ()) + 1
            attributes["createdAt"] = attributes["updatedAt"] = self._now()
            links |= {name: call.identity.user for name in ("creator_id", "updater_id") if name in table.links}
            key = self._store.insert(table, NewRecord(attributes, links, edit.lists))
            made = self._existing(replace(call, key=key))
            lag = self._switches.index_lag_s
            if lag_s := lag() if callable(lag) else lag:
                self._unindexed[table.name, key] = self._clock() + timedelta(seconds=lag_s)
        response = document(self._writer(call).one(table, made, view), 201)
        response.headers["Location"] = f"{call.base}/{table.name}/{key}"
        return response

    def update(self, call: Call) -> Response:
        """Answer ``PATCH``: only the members that were sent change."""
        view, table = self._view_of_write(call), call.table
        with self._store.transaction():
            before = self._existing(call)
            if not before.can_write:
                raise errors.not_allowed()
            edit = self._read_edit(call, call.key)
            attributes, links = dict(edit.attributes), dict(edit.links)
            if table.resource.type == "opportunity":
                resolve_amounts(attributes, before.attributes())
            if _changes(table, before, attributes, links, edit.lists):
                attributes["updatedAt"] = self._now()
                if "updater_id" in table.links:
                    links["updater_id"] = call.identity.user
                self._store.update(table, before, attributes, links, edit.lists)
            after = self._existing(call)
        return document(self._writer(call).one(table, after, view))

    def delete(self, call: Call) -> Response:
        """Answer ``DELETE``: 204 and nothing in it; who was in a deleted role or team still names it."""
        with self._store.transaction():
            if not self._existing(call).can_delete:
                raise errors.not_allowed()
            if call.table.resource.type == "opportunityStage" and self._store.count(
                TABLES["opportunity"], "stage_id = ?", (call.key,)
            ):
                raise errors.conflict("Opportunities stand in this stage; move them first.")
            self._store.delete(call.table, call.key)
        return Response(status=204)

    def _indexed(self, selection: Selection) -> Selection:
        """Leave out what the index, which lags behind the data, does not have yet."""
        now, name = self._clock(), selection.table.name
        hidden = [key for (table, key), until in self._unindexed.copy().items() if table == name and until > now]
        if not hidden:
            return selection
        known = selection.condition
        sql = f"{known.sql} AND {name}.id NOT IN ({', '.join(map(str, hidden))})"
        return replace(selection, condition=Condition(sql, known.values))

    def _writer(self, call: Call) -> Writer:
        return Writer(self._store, self._switches, call.base)

    def _total(self, selection: Selection) -> int | None:
        if not selection.count and selection.offset is None:
            return None
        return self._store.count(selection.table, selection.condition.sql, selection.condition.values)

    @staticmethod
    def _demand_included(call: Call, view: View) -> None:
        tables = []
        for path in view.include:
            table = call.table
            for name in path:
                table = TABLES[table.resource.relationship_by_name[name].type]
                tables.append(table)
        call.identity.demand_included(tables)

    def _existing(self, call: Call) -> Record:
        found = self._store.get(call.table, call.key)
        if found is None:
            raise errors.not_found(call.table.resource.type, call.key)
        return found

    @staticmethod
    def _view_of_write(call: Call) -> View:
        if any(name == "include" for name, _ in call.pairs):
            raise errors.bad_parameter("include", "A write takes no include; read the record afterwards.")
        return read_view(call.table, call.pairs)

    def _read_edit(self, call: Call, key: int | None) -> Edit:
        return read_edit(call.table, read_body(call.body), key, self._store.exists, self._switches)

    def _now(self) -> str:
        # The service prints whole seconds.
        return instant_text(self._clock().replace(microsecond=0))


def document(content: bytes, status: int = 200) -> Response:
    """Return the answer that carries a JSON:API document."""
    return Response(content, status, content_type=MEDIA_TYPE)


def bad_gateway() -> Response:
    """Return the answer of a gateway that got none itself."""
    return Response(b"<html><body>Bad Gateway</body></html>", 502, content_type="text/html")


def _changes(
    table: Table,
    before: Record,
    attributes: dict[str, Any],
    links: dict[str, int | None],
    lists: Mapping[str, Sequence[int]],
) -> bool:
    """Whether an edit says anything new; one that does not leaves ``updatedAt`` alone."""
    old, old_links = before.attributes(), dict(zip(table.links, before.links, strict=True))
    old_lists = dict(zip(table.list_texts, before.lists, strict=True))
    return (
        any(old.get(name) != value for name, value in attributes.items())
        or old_links != old_links | links
        or any(dump_json(ids) != old_lists[name] for name, ids in lists.items())
    )
