"""Any resource of the service as a frame, with columns as the service describes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.api.documents import usable_id
from opp_pandas.api.paging import records_by_id
from opp_pandas.errors import AccessDeniedError, DocumentError, named
from opp_pandas.kinds import KINDS, UnfitError
from opp_pandas.load.custom_fields import convert_texts
from opp_pandas.resource import Attribute, Relationship, Resource, snake_case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opp_pandas.api.client import Client

_CUSTOM = re.compile(r"custom[1-9][0-9]{0,3}")
Record = dict[str, Any]


def read_any(client: Client, name: str, *, limit: int | None, **asked: Any) -> pd.DataFrame:
    """Read a resource: see `Client.read_frame`."""
    resource = client.describe(name)
    rows: dict[int, Record] = {}
    unusable = 0
    for page in client.iter_pages(resource=resource, **asked):
        # Of two copies of a record the later one stays.
        rows |= (usable := records_by_id(page.document, resource))
        unusable += sum(usable_id(record) not in usable for record in page.document["data"])
        if limit is not None and len(rows) >= limit:
            break
    if unusable and not rows:
        problem = (
            f"none of {unusable:,} records is a {resource.type} with a whole number above 0 as its id; "
            "client.pages() gives them as they are"
        )
        raise DocumentError(problem, pointer="/data/0/id", method="GET", url=f"{client.url}/{resource.path}")
    records = [*rows.values()][:limit]
    notes = [f"{unusable:,} records that cannot be read, or have no usable id, were left out"] if unusable else []
    found: dict[str, Any] = {"id": pd.array([*rows][:limit], dtype="Int64")}
    for attribute in _attributes(resource, records, asked.get("fields") is not None):
        values = [(record.get("attributes") or {}).get(attribute.name) for record in records]
        column = snake_case(attribute.name)
        found[f"attribute_{attribute.name}" if column in found else column] = _column(attribute, values, notes)
    for relationship in resource.relationships:
        related = ((record.get("relationships") or {}).get(relationship.name) for record in records)
        targets = [value.get("data") if isinstance(value, dict) else None for value in related]
        if not relationship.to_many or any(targets):
            found[_name_of(relationship, found)] = _ids(relationship, targets, notes)
    frame = pd.DataFrame(found)
    labels = _convert_custom_fields(client, resource, frame, notes)
    frame.attrs = {"resource": resource.type, "labels": labels, "notes": notes}
    return frame


def _attributes(resource: Resource, records: Sequence[Record], chosen: bool) -> list[Attribute]:
    """Return the attributes described, and those that came besides; with `fields` those that came."""
    came = dict.fromkeys(name for record in records for name in record.get("attributes") or {})
    known = resource.by_name
    shown = [entry for entry in resource.attributes if not chosen or entry.name in came]
    return [*shown, *(Attribute(name, "object", "") for name in came if name not in known)]


def _column(attribute: Attribute, values: list[Any], notes: list[str]) -> Any:
    """Make the column of its kind; a value that does not fit is missing, and said."""
    if attribute.kind not in KINDS and attribute.kind != "number":
        return pd.Series(values, dtype=object)
    decoded: list[Any] = []
    unfit = 0
    for value in values:
        try:
            decoded.append(_number(value) if attribute.kind == "number" else KINDS[attribute.kind].decode(value)[0])
        except UnfitError:
            decoded.append(None)
            unfit += 1
    if unfit:
        notes.append(f"{attribute.name}: {unfit:,} values are no {attribute.kind}, and missing")
    return pd.array(decoded, dtype="Float64") if attribute.kind == "number" else KINDS[attribute.kind].array(decoded)


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None if value is None else float(value)
    raise UnfitError


def _name_of(relationship: Relationship, taken: Mapping[str, Any]) -> str:
    """Name the column of a relationship; an attribute of the same name keeps it (``updaterId`` beside ``updater``)."""
    base = snake_case(relationship.name)
    name = f"{base.removesuffix('s')}_ids" if relationship.to_many else f"{base}_id"
    return f"{base}.id" if name in taken else name


def _ids(relationship: Relationship, targets: list[Any], notes: list[str]) -> Any:
    if relationship.to_many:
        lists = [target if isinstance(target, list) else [] for target in targets]
        usable = ([usable_id(one) for one in own] for own in lists)
        return pd.Series([tuple(key for key in own if key is not None) for own in usable], dtype=object)
    kinds = {target.get("type") for target in targets if isinstance(target, dict)} - {relationship.type}
    if kinds and relationship.type:
        notes.append(f"{relationship.name}: some point to {named(sorted(map(str, kinds)))}, not to {relationship.type}")
    return pd.array([usable_id(target) for target in targets], dtype="Int64")


def _convert_custom_fields(client: Client, resource: Resource, frame: pd.DataFrame, notes: list[str]) -> dict[str, str]:
    """Turn custom fields into values of their kinds, in place; gives their labels. Empty slots leave."""
    slots = [name for name in frame.columns if _CUSTOM.fullmatch(name)]
    if not slots:
        return {}
    try:
        fields = {entry.name: entry for entry in client.custom_fields(resource)}
    except AccessDeniedError:
        notes.append("the token may not read /types: custom fields stand as text")
        fields = {}
    for name in slots:
        if name in fields:
            frame[name], unread = convert_texts(frame[name].astype("str"), fields[name])
            if unread:
                notes.append(f"{name}: {len(unread):,} texts are no {fields[name].kind}, and missing")
        elif frame[name].isna().all():
            del frame[name]
    return {name: entry.label for name, entry in fields.items() if name in frame.columns}
