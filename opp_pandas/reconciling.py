"""`reconcile`: which of the deals that were loaded the service still has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from opp_pandas._html import as_page
from opp_pandas.changes.diff import find_changes
from opp_pandas.errors import AccessDeniedError, ConfigurationError, FrameError, NotFoundError, ServiceError, printable
from opp_pandas.frame_state import Loaded, attach_loaded, require_loaded
from opp_pandas.load.changed_records import ids_at_service, index_of, list_ids
from opp_pandas.load.custom_fields import plain_frame

if TYPE_CHECKING:
    from opp_pandas.api.client import Client


@dataclass(frozen=True, eq=False)
class Reconciliation:
    """Which deals the service still has.

    Parameters
    ----------
    rows : DataFrame, columns ``id, status, confirmed, edited``
        One row per deal that is not as it was loaded. ``status`` is ``gone``,
        ``not visible`` (the service has it and says that this user may not see
        it), ``not listed`` (it is there and stands in no list, as thrown-away
        deals may), ``left the filter``, or ``new``. ``confirmed`` says whether
        the deal itself was asked for; ``edited`` whether it holds unsaved edits.
    seen : int
        Deals that the service listed.
    notes : tuple of str
        What a reader should know, in sentences.
    """

    rows: pd.DataFrame
    seen: int
    notes: tuple[str, ...]
    _frame: pd.DataFrame = field(repr=False)

    def _ids(self, status: str) -> list[int]:
        return [int(key) for key in self.rows["id"][self.rows["status"] == status]]

    @property
    def gone(self) -> list[int]:
        """Ids that were loaded and that the service no longer has, or no longer shows to this user."""
        return self._ids("gone")

    @property
    def not_visible(self) -> list[int]:
        """Ids that the service has and refuses to show."""
        return self._ids("not visible")

    @property
    def left(self) -> list[int]:
        """Ids that do not fit the filter of the load any more."""
        return self._ids("left the filter")

    @property
    def new(self) -> list[int]:
        """Ids that fit the load and are not in it; `refresh` reads them."""
        return self._ids("new")

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A new frame without the deals that are gone."""
        return without_deals(self._frame, self.gone)

    def __repr__(self) -> str:
        counts = self.rows["status"].value_counts()
        words = ", ".join(f"{count} {status}" for status, count in counts.items()) or "nothing gone, nothing new"
        return "\n".join([f"{words}; the service lists {self.seen:,} deals", *(f"  {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return as_page(repr(self), ("deals that are not as they were loaded", self.rows))


def reconcile(frame: pd.DataFrame, client: Client | None = None, *, confirm: int = 5) -> Reconciliation:
    """Find deals that were deleted at the service, by listing all ids that fit the load.

    Nothing is changed here or at the service. Deals that the list lacks are asked
    for by id once more, and `confirm` of them one by one.

    Parameters
    ----------
    frame : DataFrame
        A frame that came from `read_opportunities`. Never modified.
    client : Client, optional
        Where to read; default the client of the load.
    confirm : int, default 5
        How many missing deals to ask for one by one. If any of them is there
        after all, every missing deal is asked for.

    Returns
    -------
    Reconciliation
        Its ``frame`` is a new frame without the deals that are gone. The service
        answers alike for a deleted deal and for one that this user may no longer
        see: both are ``gone``.

    Raises
    ------
    NotLoadedError, FrameError
        If the rows did not come from a service.
    ServiceError
        If a page cannot be read, or fewer deals came than the service counts: a
        list that is not whole says nothing about deletions.

    Examples
    --------
    >>> made_up = opp.sandbox(opportunities=20, now="2026-11-02").client()
    >>> before = opp.read_opportunities(made_up, stages=stages)
    >>> answer = made_up.delete(3)
    >>> found = before.opp.reconcile()
    >>> found.gone, len(found.frame)
    ([3], 19)
    """
    if isinstance(confirm, bool) or not isinstance(confirm, int) or confirm < 0:
        raise ConfigurationError(f"confirm is a number of deals, 0 or more, not {confirm!r}")
    loaded = require_loaded(frame, "reconcile()")
    client = client_of(loaded, client, "reconcile()")
    asked = loaded.query.get("filter") or {}
    listed, lacking = list_ids(client, asked)
    if lacking:
        raise ServiceError(
            f"the service counts {len(listed) + lacking:,} deals and listed {len(listed):,}: such a list says nothing "
            "about deletions; try again, or ask whoever runs the service",
            method="GET",
            url=f"{client.url}/opportunities",
        )
    known = set(index_of(loaded.baseline.frame).tolist())
    missing = sorted(known - listed)
    there = ids_at_service(client, missing)
    found: list[tuple[int, str, bool]] = [(key, "left the filter", True) for key in sorted(there)] if asked else []
    found += _asked_one_by_one(client, [key for key in missing if key not in there], confirm)
    notes = []
    if loaded.query.get("limit") is not None or loaded.query.get("where"):
        notes.append("new deals are not looked for, since the load had a limit or a condition tested here")
    else:
        found += [(key, "new", True) for key in sorted(listed - known)]
    edited = {update.id for update in find_changes(frame).updates}
    rows = pd.DataFrame(
        [(key, status, sure, key in edited) for key, status, sure in found],
        columns=["id", "status", "confirmed", "edited"],
    )
    rows = rows.astype({"id": "Int64", "status": "str", "confirmed": "bool", "edited": "bool"})
    return Reconciliation(rows, len(listed), tuple(notes), frame)


def _asked_one_by_one(client: Client, missing: list[int], confirm: int) -> list[tuple[int, str, bool]]:
    """Ask for some of the missing deals, and for all of them if one is there after all."""
    found: list[tuple[int, str, bool]] = []
    most = min(confirm, len(missing))
    while len(found) < most:
        status = _status(client, missing[len(found)])
        found.append((missing[len(found)], status, True))
        if status != "gone":
            most = len(missing)
    return found + [(key, "gone", False) for key in missing[len(found) :]]


def _status(client: Client, key: int) -> str:
    try:
        client.get(key, fields=["updated_at"])
    except NotFoundError:
        return "gone"
    except AccessDeniedError:
        return "not visible"
    return "not listed"


def without_deals(frame: pd.DataFrame, ids: Iterable[int]) -> pd.DataFrame:
    """Return a frame without some deals, which then count as never loaded; unsaved edits of the others stay."""
    gone = set(ids)
    loaded = require_loaded(frame, "without_deals()")
    plain = plain_frame(frame, loaded)
    own = plain["id"] if "id" in plain.columns else pd.Series(plain.index.get_level_values("id"))
    base = loaded.baseline
    shorter = loaded.renewed(baseline=base.take(np.flatnonzero(~base.frame["id"].isin(gone).to_numpy(dtype=bool))))
    return attach_loaded(frame.iloc[np.flatnonzero(~own.isin(gone).to_numpy(dtype=bool))], shorter)


def client_of(loaded: Loaded, client: Client | None, what: str) -> Client:
    """Return the client that reads for a frame.

    A ConfigurationError if there is none, or it is another service's; a FrameError if the rows came from no service.
    """
    found: Client | None = client if client is not None else loaded.client
    if found is None and loaded.service is not None:
        raise ConfigurationError(f"a pickled load has no client: {what[:-1]}client=...)")
    if loaded.kind != "read" or found is None:
        raise FrameError(f"{what} needs rows that were loaded from a service: use opp.read_opportunities(client)")
    if loaded.service not in (None, found.url):
        raise ConfigurationError(
            f"these rows were loaded from {printable(str(loaded.service))}; "
            f"their ids mean nothing at {printable(found.url)}"
        )
    return found
