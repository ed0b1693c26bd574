"""Who stands on the deals: ids of prospects, read through their roles.

The service lists the prospects of an opportunity as a link only, so a load has
them on request, at one more request for every hundred deals or so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.api.documents import identifier, usable_id
from opp_pandas.api.query import MAX_PAGE_SIZE
from opp_pandas.kinds import UnfitError
from opp_pandas.resource import PROSPECT_ROLE

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.api.client import Client

COLUMN = "prospect_ids"
# Ids in one address: some proxies refuse addresses above 2,000 characters.
_BATCH = 100


def add_prospect_ids(frame: pd.DataFrame, client: Client, notes: list[str]) -> pd.DataFrame:
    """Add the column ``prospect_ids``.

    Lists of ids, each once, in the order in which the people were put on the deal; empty where
    nobody stands on it.
    """
    ids = [int(row_id) for row_id in frame["id"]]
    people: dict[int, list[int]] = {row_id: [] for row_id in ids}
    unreadable = 0
    for start in range(0, len(ids), _BATCH):
        asked = {"opportunity": ids[start : start + _BATCH]}
        pages = client.iter_pages(resource=PROSPECT_ROLE, filter=asked, page_size=MAX_PAGE_SIZE)
        roles = [role for page in pages for role in page.document["data"]]
        for role in sorted(roles, key=lambda entry: usable_id(entry) or 0):
            try:
                deal, person = _target(role, "opportunity"), _target(role, "prospect")
            except UnfitError:
                unreadable += 1
                continue
            if deal in people and person not in people[deal]:
                people[deal].append(person)
    if unreadable:
        notes.append(f"{unreadable:,} prospect roles name no deal or no person that can be read")
    column = np.empty(len(ids), dtype=object)
    column[:] = [people[row_id] for row_id in ids]
    return frame.assign(**{COLUMN: column})


def _target(role: Mapping[str, Any], name: str) -> int:
    """Return the id that a role points to; a role without one, or with another kind of target, is unfit."""
    found: Any = role
    for member in ("relationships", name, "data"):
        found = found.get(member) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or found.get("type", name) != name:
        raise UnfitError("points to nothing")
    return identifier(found.get("id"))
