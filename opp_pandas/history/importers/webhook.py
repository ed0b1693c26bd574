"""Webhook deliveries of the service."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.history.cells import PRESENCE
from opp_pandas.history.event_import import EVENT_COLUMNS, Gap, ImportedEvents
from opp_pandas.history.importers.reading import EARLIEST, LATEST, Remarks, finished, importer
from opp_pandas.kinds import KINDS, UnfitError, plain_value
from opp_pandas.resource import OPPORTUNITY, snake_case

if TYPE_CHECKING:
    import os

    from opp_pandas.history.history import History

_BEFORE = pd.Timedelta(microseconds=1)
# The service writes time stamps in whole seconds, and posts at once.
_SAME_SECOND = pd.Timedelta(seconds=2)
_ACTIONS = ("created", "updated", "destroyed")


@importer
def webhook_events(
    payloads: Iterable[Mapping[str, Any]] | str | os.PathLike[str], *, history: History | None = None
) -> ImportedEvents:
    """Read webhook deliveries of the service: created, updated (with ``beforeUpdate``) and destroyed opportunities.

    Each update that says what stood before is held against what the event
    before it said. Where they differ an event is missing: the report says so,
    ``gaps`` names deal, field and span, and the history that takes the events
    tells it with every state that it concerns. Nothing is made up for it.

    Parameters
    ----------
    payloads : iterable of mapping, or path
        The bodies, as delivered, in any order; the same one may come twice.
        Or a file with one JSON body per line.
    history : History, optional
        Where the events go on from a snapshot: what it knew is held against
        the first events of each deal too.

    Returns
    -------
    ImportedEvents
        By the service's id. What an update says of before stands at the deal's
        creation, where that is known, else a moment before it, as ``earlier``.
        Bodies that are no such event, came twice or out of order are reported.

    Raises
    ------
    HistoryNeededError
        If `history` knows nothing of the time before the first event.

    Examples
    --------
    >>> log = [
    ...     {
    ...         "data": {"type": "opportunity", "id": 7, "attributes": {"amount": 900}},
    ...         "beforeUpdate": {"attributes": {"amount": 500}},
    ...         "meta": {"eventName": "opportunity.updated", "deliveredAt": f"2026-09-0{day}T10:00:00Z"},
    ...     }
    ...     for day in (1, 2)
    ... ]
    >>> webhook_events(log).gaps[["id", "field"]].to_dict("records")
    [{'id': 7, 'field': nan}, {'id': 7, 'field': 'amount'}]
    """
    remarks = Remarks()
    deliveries: dict[tuple[Any, ...], _Delivery] = {}
    for number, payload in enumerate(_bodies(payloads)):
        read = _read_delivery(number, payload, remarks)
        if isinstance(read, str):
            remarks.add([number], read, [None])
        elif read.identity in deliveries:
            remarks.add([number], "left out: the same delivery came before", [read.id])
        else:
            deliveries[read.identity] = read
    by_deal: dict[int, list[_Delivery]] = {}
    for one in deliveries.values():
        by_deal.setdefault(one.id, []).append(one)
    begins = min((one.at for one in deliveries.values()), default=None)
    known = {} if history is None or begins is None else _known(history, begins - _BEFORE)
    rows: list[tuple[Any, ...]] = []
    gaps: dict[Gap, None] = {}
    stamped = any("updated_at" in one.before for one in deliveries.values())
    for key, log in sorted(by_deal.items()):
        deal = _Deal(key, known.get(key), begins, stamped, remarks, rows, gaps)
        for one in _in_order(log, deal, remarks):
            deal.take(one)
    events = pd.DataFrame(rows, columns=[*EVENT_COLUMNS, "earlier"])
    events["at"] = pd.Series(pd.to_datetime(events["at"], utc=True)).astype("datetime64[us, UTC]")
    return finished(events, remarks, "webhook deliveries", gaps)


@dataclass(frozen=True)
class _Delivery:
    """One event of a deal: what it says stands now, and what it says stood before."""

    number: int
    id: int
    action: str
    at: pd.Timestamp
    delivered: pd.Timestamp
    fields: Mapping[str, Any]
    before: Mapping[str, Any]

    @property
    def identity(self) -> tuple[Any, ...]:
        return self.id, self.action, self.delivered, repr(self.fields), repr(self.before)


@dataclass
class _Deal:
    """What the log has said of one deal so far, by column."""

    id: int
    known: dict[str, Any] | None
    since: pd.Timestamp | None
    stamped: bool
    remarks: Remarks
    rows: list[tuple[Any, ...]]
    gaps: dict[Gap, None]
    fields: dict[str, Any] = field(init=False)
    is_gone: bool = False

    def __post_init__(self) -> None:
        self.fields = dict(self.known or {})

    def take(self, one: _Delivery) -> None:
        """Add the rows of the next event, and a gap where it contradicts the one before."""
        if self.is_gone or (self.known is None and one.action != "created"):
            why = (
                "what came before it is missing: the deal was destroyed" if self.is_gone else "its creation is missing"
            )
            self.remarks.add([one.number], f"kept: {why}", [self.id])
            self._gap(None, one)
        elif self._lacks_stamp(one):
            self.remarks.add([one.number], "kept: an update in the same second is missing", [self.id])
            self._gap(None, one)
        before = one.fields if one.action == "destroyed" else one.before
        for name, value in before.items():
            if name in self.fields and not _same(self.fields[name], value):
                self.remarks.add([one.number], f"kept: an update before it is missing, {name} was another", [self.id])
                # A change of the time stamp alone: which fields changed with it, nobody said.
                self._gap(None if name == "updated_at" else name, one)
            if one.action == "updated" and not (name in self.fields and _same(self.fields[name], value)):
                at, created = one.at - _BEFORE, one.fields.get("created_at")
                if name not in self.fields and isinstance(created, pd.Timestamp) and EARLIEST <= created < one.at:
                    at = created
                self._add(name, value, at, earlier=True)
        if one.action == "destroyed":
            self._add(PRESENCE, False, one.at)
        elif self.is_gone:
            self._add(PRESENCE, True, one.at)
        for name, value in () if one.action == "destroyed" else one.fields.items():
            self._add(name, value, one.at)
        self.is_gone = one.action == "destroyed"
        self.fields |= one.fields
        self.known = self.fields
        self.since = one.at

    def _lacks_stamp(self, one: _Delivery) -> bool:
        """Whether an update left the time stamp as another one had set it that nobody told of."""
        if not self.stamped or one.action != "updated" or "updated_at" in one.fields:
            return False
        stamp = self.fields.get("updated_at")
        return isinstance(stamp, pd.Timestamp) and one.delivered - stamp >= _SAME_SECOND

    def fits(self, one: _Delivery) -> bool:
        """Whether an event says of before what is known."""
        if one.action == "created":
            return self.known is None or self.is_gone
        before = one.fields if one.action == "destroyed" else one.before
        return self.known is not None and all(
            _same(self.fields.get(name, value), value) for name, value in before.items()
        )

    def _add(self, name: str | None, value: Any, at: pd.Timestamp, *, earlier: bool = False) -> None:
        self.rows.append((self.id, None, name, value, at, earlier))

    def _gap(self, name: str | None, one: _Delivery) -> None:
        after = None if self.known is None else self.since
        self.gaps.setdefault(Gap(self.id, name, after, one.at))


def _in_order(log: list[_Delivery], deal: _Deal, remarks: Remarks) -> Iterator[_Delivery]:
    """Return the events of a deal in order of time; where that is the same, as what they say of before fits."""
    waiting = sorted(log, key=lambda one: (one.at, one.delivered, one.number))
    newest = -1
    for one in waiting:
        if one.number < newest:
            remarks.add([one.number], "put in order: a later event came before it", [one.id])
        newest = max(newest, one.number)
    while waiting:
        tied = [one for one in waiting if one.at == waiting[0].at]
        chosen = next((one for one in tied if deal.fits(one)), tied[0])
        waiting.remove(chosen)
        yield chosen


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


def _known(history: History, moment: pd.Timestamp) -> dict[int, dict[str, Any]]:
    """Return what a history knew of each deal at a moment."""
    frame = history.as_of(moment)
    own = [
        name for name in frame.columns if name in OPPORTUNITY.by_column or name in OPPORTUNITY.relationship_by_column
    ]
    values = {name: [plain_value(value) for value in frame[name]] for name in own}
    return {int(key): {name: column[place] for name, column in values.items()} for place, key in enumerate(frame["id"])}


def _bodies(payloads: Any) -> Iterator[Any]:
    if not hasattr(payloads, "__fspath__") and not isinstance(payloads, str):
        yield from payloads
        return
    try:
        lines = Path(payloads).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(f"the log {payloads} cannot be read: {error.strerror}") from error
    for line in filter(str.strip, lines):
        try:
            yield json.loads(line)
        except ValueError:
            yield line


def _read_delivery(number: int, payload: Any, remarks: Remarks) -> _Delivery | str:
    """Read one webhook body; a text says why it is none of ours."""
    data = payload.get("data") if isinstance(payload, Mapping) else None
    meta = payload.get("meta") if isinstance(payload, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(meta, Mapping):
        return "set aside: no data or no meta"
    if data.get("type") != OPPORTUNITY.type:
        return "set aside: not an opportunity"
    action = str(meta.get("eventName", "")).rsplit(".", 1)[-1]
    if action not in _ACTIONS:
        return f"set aside: event {action!r}"
    try:
        key = int(data["id"])
        delivered = pd.Timestamp(str(meta["deliveredAt"]))
        delivered = delivered.tz_localize("UTC") if delivered.tzinfo is None else delivered.tz_convert("UTC")
    except (KeyError, TypeError, ValueError):
        return "set aside: no id, or no deliveredAt"
    if pd.isna(delivered) or not EARLIEST <= delivered <= LATEST:
        return "set aside: deliveredAt is outside 1990 to 2049"
    old = payload.get("beforeUpdate") or data.get("beforeUpdate") or {}
    # Some deliveries wrap the old values like a resource, others give the attributes alone.
    wrapped = old if "attributes" in old or "relationships" in old else {"attributes": old}
    fields = _fields_of(number, data, remarks)
    stamp = fields.get("updated_at")
    at = delivered
    # A deletion changes no time stamp: the last update is not when it happened.
    if action != "destroyed" and isinstance(stamp, pd.Timestamp) and EARLIEST <= stamp <= delivered:
        at = stamp
    return _Delivery(number, key, action, at, delivered, fields, _fields_of(number, wrapped, remarks))


def _fields_of(number: int, resource: Mapping[str, Any], remarks: Remarks) -> dict[str, Any]:
    """Return the columns of a resource object's attributes and to-one relationships."""
    found: dict[str, Any] = {}
    for name, value in (resource.get("attributes") or {}).items():
        attribute = OPPORTUNITY.by_name.get(name)
        if attribute is None:
            found[snake_case(name)] = value
            continue
        try:
            decoded = KINDS[attribute.kind].decode(value)[0]
        except UnfitError as error:
            remarks.add([number], f"value left missing: {attribute.column} {error}", [value])
            decoded = None
        if attribute.kind == "instant" and decoded is not None:
            decoded = pd.Timestamp(decoded, unit="us", tz="UTC").as_unit("us")
        found[attribute.column] = decoded
    for name, relation in (resource.get("relationships") or {}).items():
        known = OPPORTUNITY.relationship_by_name.get(name)
        if known is None or known.column is None or not isinstance(relation, Mapping) or "data" not in relation:
            continue
        target = relation["data"]
        found[known.column] = int(target["id"]) if isinstance(target, Mapping) and "id" in target else None
    return found
