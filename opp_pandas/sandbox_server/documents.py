"""JSON:API documents from stored records, joined from ready pieces of JSON text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from opp_pandas.resource import RESOURCES
from opp_pandas.sandbox_server.selection import Selection, View
from opp_pandas.sandbox_server.store import TABLES, Record, Store, Table, dump_json

if TYPE_CHECKING:
    from opp_pandas.sandbox_server.settings import Switches

_FLAG = {True: b"true", False: b"false"}
Write = Callable[[Record], bytes]


class Writer:
    """Writes documents for one request; `base` is the API's address, for links."""

    def __init__(self, store: Store, switches: Switches, base: str) -> None:
        self._store, self._switches, self._base = store, switches, base

    def one(self, table: Table, record: Record, view: View) -> bytes:
        """Write the document of one record."""
        data = self._resource_writer(table, view)(record)
        return b'{"data":%b%b}' % (data, self._included(table, [record], view))

    def collection(self, selection: Selection, records: Sequence[Record], more: bool, total: int | None) -> bytes:
        """Write one page of a collection; `more` says whether rows follow in the direction of reading."""
        table = selection.table
        write = self._resource_writer(table, selection.view)
        parts = [b'{"data":[', b",".join([write(record) for record in records]), b"]"]
        parts.append(self._included(table, records, selection.view))
        # The service leaves `links` away altogether when nothing was found.
        links = self._links(selection, records, more, total) if records else {}
        if links:
            parts.append(b',"links":%b' % dump_json(links).encode())
        if selection.count:
            truncated = self._switches.count_truncated
            count = {"count": 0 if truncated else total, "count_truncated": truncated}
            parts.append(b',"meta":%b' % dump_json(count).encode())
        return b"".join([*parts, b"}"])

    def _links(self, selection: Selection, records: Sequence[Record], more: bool, total: int | None) -> dict[str, str]:
        address = f"{self._base}/{selection.table.name}"
        if selection.offset is not None:
            return _offset_links(selection, address, more, total)
        backwards = selection.cursor is not None and selection.cursor.backwards
        links = {"first": selection.link(address)}
        if more if backwards else selection.cursor is not None:
            links["prev"] = selection.link(address, before=selection.cursor_text(records[0]))
        if backwards or more:
            links["next"] = selection.link(address, after=selection.cursor_text(records[-1]))
        return links

    def _included(self, table: Table, records: Sequence[Record], view: View) -> bytes:
        if not view.include:
            return b""
        found: dict[str, dict[int, Record]] = {table.resource.type: {record.id: record for record in records}}
        own = set(found[table.resource.type])
        for path in view.include:
            self._follow(table, records, path, found)
        plain = View(view.fields, (), authorization=False, connections=False)
        parts: list[bytes] = []
        for kind, by_id in found.items():
            write = self._resource_writer(TABLES[kind], plain)
            # What is data already is not included as well.
            parts += [write(by_id[key]) for key in sorted(by_id) if kind != table.resource.type or key not in own]
        return b',"included":[%b]' % b",".join(parts)

    def _follow(
        self, table: Table, records: Sequence[Record], path: tuple[str, ...], found: dict[str, dict[int, Record]]
    ) -> None:
        """Read what records point to, and what those point to, as far as the path goes."""
        if not path:
            return
        name, kind = path[0], table.resource.relationship_by_name[path[0]].type
        if name in table.list_texts:
            place = list(table.list_texts).index(name)
            keys = {key for record in records for key in record.ids(place)}
        else:
            place = table.links.index(table.link_columns[name])
            keys = {key for record in records if (key := record.links[place]) is not None}
        there = found.setdefault(kind, {})
        there |= {record.id: record for record in self._store.select_ids(TABLES[kind], sorted(keys - there.keys()))}
        self._follow(TABLES[kind], [there[key] for key in sorted(keys & there.keys())], path[1:], found)

    def _resource_writer(self, table: Table, view: View) -> Write:
        """Prepare what all records of a page have in common, and give the function that writes one."""
        kind, quote = table.resource.type, self._quote
        attributes = self._attribute_writer(table, view)
        relationships = self._relationship_writer(table, view)
        meta = _meta_writer(view) if kind == "opportunity" else None
        before_id = f'{{"type":"{kind}","id":{quote}'.encode()
        after_id = f'{quote},"attributes":{{'.encode()
        before_self = f'}},"links":{{"self":"{self._base}/{table.name}/'.encode()

        def write(record: Record) -> bytes:
            key = b"%d" % record.id
            parts = (before_id, key, after_id, attributes(record), b'},"relationships":{', relationships(record))
            last = b'"},"meta":{%b}}' % meta(record) if meta else b'"}}'
            return b"".join((*parts, before_self, key, last))

        return write

    @property
    def _quote(self) -> str:
        return '"' if self._switches.ids_as_text else ""

    def _attribute_writer(self, table: Table, view: View) -> Write:
        wanted: Iterable[str] | None = view.fields.get(table.resource.type)
        if self._switches.generation == "reference":
            documented = [entry.name for entry in table.resource.attributes if entry.documented]
            wanted = [name for name in documented if wanted is None or name in wanted]
        if wanted is None:
            return lambda record: record.text
        names = frozenset(wanted)
        return lambda record: dump_json({k: v for k, v in record.attributes().items() if k in names})[1:-1].encode()

    def _relationship_writer(self, table: Table, view: View) -> Write:
        wanted = view.fields.get(table.resource.type)
        older = self._switches.generation == "reference"
        shown = [
            entry
            for entry in table.resource.relationships
            if (wanted is None or entry.name in wanted) and (entry.documented or not older)
        ]
        to_one: list[tuple[bytes, bytes, int]] = []
        listed: list[tuple[bytes, bytes, int]] = []
        links_only: list[bytes] = []
        fixed: list[bytes] = []
        for entry in shown:
            identifier = f'{{"type":"{entry.type}","id":{self._quote}'
            if not entry.to_many:
                position = table.links.index(table.link_columns[entry.name])
                before = f'"{entry.name}":{{"data":{identifier}'
                to_one.append((before.encode(), f'"{entry.name}":{{"data":null}}'.encode(), position))
            elif entry.way_back is not None:
                path = RESOURCES[entry.type].path if entry.type in RESOURCES else f"{entry.type}s"
                address = f"{self._base}/{path}?filter%5B{entry.way_back}%5D%5Bid%5D="
                links_only.append(f'"{entry.name}":{{"links":{{"related":"{address}'.encode())
            elif entry.name in table.list_texts:
                listed.append((entry.name.encode(), identifier.encode(), list(table.list_texts).index(entry.name)))
            else:
                fixed.append(f'"{entry.name}":{{}}'.encode())
        after = f"{self._quote}}}}}".encode()

        def write(record: Record) -> bytes:
            parts = []
            for before, null, position in to_one:
                key = record.links[position]
                parts.append(null if key is None else b"%b%d%b" % (before, key, after))
            parts += [b'%b%d"}}' % (before, record.id) for before in links_only]
            for name, before, place in listed:
                ids = b",".join([b"%b%d%b" % (before, key, after[:-1]) for key in record.ids(place)])
                # Live records were seen with nothing in a relationship: neither data nor links.
                parts.append(b'"%b":{}' % name if record.lists[place] is None else b'"%b":{"data":[%b]}' % (name, ids))
            return b",".join([*parts, *fixed])

        return write


def _meta_writer(view: View) -> Write | None:
    if not (view.authorization or view.connections):
        return None

    def write(record: Record) -> bytes:
        parts = []
        if view.authorization:
            parts.append(b'"canWrite":%b,"canDelete":%b' % (_FLAG[record.can_write], _FLAG[record.can_delete]))
        if view.connections:
            parts.append(b'"dataConnections":%b' % record.data_connections.encode())
        return b",".join(parts)

    return write


def _offset_links(selection: Selection, address: str, more: bool, total: int | None) -> dict[str, str]:
    size, offset = selection.size, selection.offset or 0
    places: dict[str, Any] = {"first": 0}
    if offset:
        places["prev"] = max(0, offset - size)
    if more:
        places["next"] = offset + size
    if total is not None:
        places["last"] = max(0, total - 1) // size * size
    return {name: selection.link(address, offset=place) for name, place in places.items()}
