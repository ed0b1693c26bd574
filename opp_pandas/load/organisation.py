"""The organisation, read once with the deals: roles, teams and users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.api.documents import usable_id
from opp_pandas.api.paging import records_by_id
from opp_pandas.api.query import MAX_PAGE_SIZE
from opp_pandas.errors import AccessDeniedError, ConfigurationError
from opp_pandas.organisation import NAMES, Organisation
from opp_pandas.resource import ROLE, TEAM, USER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.api.client import Client

_FIELDS = {
    ROLE.type: ("name", "parentRole"),
    TEAM.type: ("name", "users"),
    USER.type: ("name", "firstName", "lastName", "role", "teams"),
}


def read_organisation(client: Client, notes: list[str]) -> Organisation:
    """Read roles, teams and users; a note says which the token may not read, and what is odd about them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for resource in (ROLE, TEAM, USER):
        try:
            pages = client.iter_pages(resource=resource, fields=_FIELDS[resource.type], page_size=MAX_PAGE_SIZE)
            records = [record for page in pages for record in page.document["data"]]
        except AccessDeniedError:
            found[resource.type] = []
            notes.append(f"the token may not read {resource.path}: the organisation is without them")
            continue
        usable = records_by_id({"data": records}, resource)
        found[resource.type] = list(usable.values())
        if unusable := sum(usable_id(record) not in usable for record in records):
            notes.append(f"organisation: {unusable:,} {resource.path} cannot be read, or have no usable id")
    made = Organisation.from_records(*found.values())
    notes += [f"organisation: {note}" for note in made.notes]
    return made


def owners_in(organisation: Organisation, where: Mapping[str, Any], *, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Put the owners of a team or role in its place; an error if owners are named as well, or nobody is in it."""
    named = [name for name in NAMES if name in where]
    kept = {name: value for name, value in where.items() if name not in named}
    if not named:
        return kept
    if any(name in {**kept, **asked} for name in ("owner", "owner_id", "owner.id", "ownerId")):
        raise ConfigurationError(f"{named[0]} and owner both say whose deals; keep one of them")
    inside = set.intersection(*(set(organisation.members(name, where[name])) for name in named))
    if not inside:
        raise ConfigurationError(f"nobody is in {' and '.join(f'{name} {where[name]!r}' for name in named)}")
    return {**kept, "owner": sorted(inside)}
