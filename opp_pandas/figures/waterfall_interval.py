"""One interval of a waterfall: what every deal did to the open pipeline of a period."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import OppPandasError
from opp_pandas.figures.core.blocks import pick
from opp_pandas.figures.core.days import NO_DAY, NO_INSTANT, Codes, Days, Flags, Floats, day_of
from opp_pandas.figures.core.deals import LOST, OPEN, TRASHED, UNSETTLED, WON, Deals
from opp_pandas.figures.core.groups import Group, common_labels, identities, read_groups
from opp_pandas.figures.core.snapshots import State, keys_of
from opp_pandas.figures.waterfall_bars import ENTRIES, EXITS

if TYPE_CHECKING:
    from opp_pandas.figures.core.money import ExchangeRates


@dataclass(frozen=True, eq=False)
class _Side:
    """One moment, with a row per deal of both."""

    there: Flags
    status: Codes
    day: Days
    amount: Floats
    in_scope: Flags
    group: Codes
    absence_is_leaving: bool = False
    """Whether a deal that is not there left the load's conditions, as far as anybody knows."""


def bridge(
    before: State,
    after: State,
    w0: int,
    w1: int,
    by: str | None,
    rates: ExchangeRates | None,
    *,
    since: pd.Timestamp,
) -> pd.DataFrame:
    """List the moves of one interval, a row per deal and bar as from `waterfall_deals`, ``start`` and ``end`` included.

    Close dates count from the day `w0` to the day `w1`. Deals created after `since`, the
    start of the whole waterfall, are new: not after that of the interval, since a deal is
    first seen some time after it was created.
    """
    keys0, keys1 = keys_of(before.frame), keys_of(after.frame)
    union = pd.Index(pd.concat([keys0, keys1[~keys1.isin(set(keys0))]], ignore_index=True), dtype=object)
    rows0, rows1 = pd.Index(keys0, dtype=object).get_indexer(union), pd.Index(keys1, dtype=object).get_indexer(union)
    deals0, deals1 = Deals(before.frame, before.context), Deals(after.frame, after.context)
    labels: list[Any] = []
    group0, group1 = np.zeros(len(union), dtype=np.intp), np.zeros(len(union), dtype=np.intp)
    if by is not None:
        labels, group0, group1 = _common_groups(deals0, deals1, rows0, rows1, by)
    side0 = _side(deals0, rows0, group0, before.in_scope, rates, before.context.as_of)
    side1 = _side(deals1, rows1, group1, after.in_scope, rates, before.context.as_of)
    scope = after.context.scope
    side1 = replace(side1, absence_is_leaving=after.is_load and scope is not None and scope.conditions is not None)
    fx = np.zeros(len(union))
    if rates is not None:
        fx = _amounts(deals1, rows1, rates, after.context.as_of) - side1.amount
    place, side0, side1 = _split_by_group(side0, side1)
    created = pick(deals1.created_day, rows1, NO_DAY)[place]
    t0 = day_of(since, after.context.timezone)
    # Deals created on the day of the start, but after it, are new, too.
    created_at = np.full(len(rows1), NO_INSTANT)
    for name in ("created_at", "external_created_at"):
        if name in after.frame.columns and isinstance(after.frame[name].dtype, pd.DatetimeTZDtype):
            stamps = pick(after.frame[name].to_numpy(dtype="datetime64[us]").view(np.int64), rows1, NO_INSTANT)
            created_at = np.where(stamps != NO_INSTANT, stamps, created_at)
    start = int(since.tz_convert("UTC").as_unit("us").to_numpy().view(np.int64))
    is_new = (created > t0) | ((created == t0) & (created_at[place] > start))
    bars = _bars(side0, side1, is_new, w0, w1, fx[place])
    rows0, rows1 = rows0[place], rows1[place]
    places = np.concatenate([rows for _, rows, _ in bars]).astype(np.intp)
    names = np.repeat([name for name, _, _ in bars], [len(rows) for _, rows, _ in bars])
    amounts = np.concatenate([values[rows] for _, rows, values in bars])
    columns: dict[str, Any] = {}
    if by is not None:
        columns[by] = pd.Index(labels, dtype=object)[side1.group[places]].infer_objects()
    columns["bucket"] = pd.array(names, dtype="str")
    columns["amount"] = amounts
    columns["amount_before"] = np.where(side0.there, side0.amount, np.nan)[places]
    columns["amount_after"] = np.where(side1.there, side1.amount, np.nan)[places]
    for words, state, rows in (("before", before, rows0), ("after", after, rows1)):
        columns[f"close_date_{words}"] = state.frame["close_date"].array.take(rows[places], allow_fill=True)
    for name in ("id", "custom_id", "name"):
        if name in after.frame.columns or name in before.frame.columns:
            columns[name] = _from_either(before.frame, after.frame, name, rows0[places], rows1[places])
    columns["step"] = pd.DatetimeIndex([after.context.as_of] * len(places)).as_unit("us")
    return pd.DataFrame(columns)


def _common_groups(deals0: Deals, deals1: Deals, rows0: Codes, rows1: Codes, by: str) -> tuple[list[Any], Codes, Codes]:
    """Code the groups of both moments alike: by the id underneath, else by label."""
    first, second = read_groups(deals0, by)[0], read_groups(deals1, by)[0]
    names = common_labels([second, first])
    place_of = {identity: place for place, identity in enumerate(names)}

    def codes(group: Group, rows: Codes) -> Codes:
        table = np.array([*(place_of[identity] for identity in identities(group)), -1], dtype=np.intp)
        return np.asarray(table[pick(group.codes, rows, -1)])

    return list(names.values()), codes(first, rows0), codes(second, rows1)


def _side(deals: Deals, rows: Codes, group: Codes, mask: Flags, rates: ExchangeRates | None, at: pd.Timestamp) -> _Side:
    status = pick(deals.status, rows, TRASHED)
    if deals.omitted is not None:
        mask = mask & ~deals.omitted
    in_scope = pick(mask, rows, False) & (status != UNSETTLED)
    day = pick(deals.close_day, rows, NO_DAY)
    # A deal in the trash is not there.
    return _Side(status != TRASHED, status, day, _amounts(deals, rows, rates, at), in_scope, group)


def _amounts(deals: Deals, rows: Codes, rates: ExchangeRates | None, at: pd.Timestamp) -> Floats:
    amount = deals.amount if rates is None else deals.converted(rates, day_of(at, deals.context.timezone))
    return pick(amount, rows, np.nan)


def _split_by_group(side0: _Side, side1: _Side) -> tuple[Codes, _Side, _Side]:
    """Add for a deal that changed its group a row in each of the two, out of scope where it is not."""
    n = len(side0.group)
    moved = np.flatnonzero((side0.group != side1.group) & (side0.group >= 0) & (side1.group >= 0))
    place = np.concatenate([np.arange(n), moved])
    own = np.where(side1.group >= 0, side1.group, side0.group)
    own = np.concatenate([own, side0.group[moved]])

    def take(side: _Side) -> _Side:
        taken = {name: getattr(side, name)[place] for name in ("there", "status", "day", "amount")}
        return replace(side, **taken, in_scope=side.in_scope[place] & (side.group[place] == own), group=own)

    return place, take(side0), take(side1)


def _bars(side0: _Side, side1: _Side, is_new: Flags, w0: int, w1: int, fx: Floats) -> list[tuple[str, Codes, Floats]]:
    """Return for every bar the deals in it and their signed amounts."""
    a0, a1 = np.nan_to_num(side0.amount), np.nan_to_num(side1.amount)

    def within(side: _Side) -> Flags:
        return np.asarray((side.day >= w0) & (side.day <= w1) & (side.day != NO_DAY))

    open0 = side0.there & (side0.status == OPEN) & side0.in_scope & within(side0)
    open1 = side1.there & (side1.status == OPEN) & side1.in_scope & within(side1)

    def booked(side: _Side, status: int) -> Flags:
        return np.asarray(side.there & (side.status == status) & side.in_scope & within(side))

    won, lost = booked(side1, WON), booked(side1, LOST)
    fresh = (won & ~booked(side0, WON)) | (lost & ~booked(side0, LOST))
    leaves = open0 & ~open1
    comes = ~open0 & open1
    passes = ~open0 & ~open1 & fresh
    reasons_out = np.select(
        [~side1.there, won, lost, ~side1.in_scope, side1.day == NO_DAY, side1.day > w1],
        [3 if side1.absence_is_leaving else 0, 1, 2, 3, 4, 5],
        default=6,
    )
    closed0 = (side0.status == WON) | (side0.status == LOST)
    reasons_in = np.select(
        [~side0.there & is_new, ~side0.there, ~side0.in_scope, closed0, side0.day == NO_DAY, side0.day > w1],
        [0, 1, 2, 3, 4, 5],
        default=6,
    )
    out, into = leaves | passes, comes | passes
    # A deal that was not there before has no earlier amount; one that is gone has no later one.
    changed = np.where(side0.there & side1.there & (open0 | open1 | passes), a1 - a0, 0.0)
    value_in = np.where(side0.there, a0, a1)
    value_out = np.where(side1.there, a1, a0)
    bars = [("start", np.flatnonzero(open0), a0)]
    bars += [(name, np.flatnonzero(into & (reasons_in == code)), value_in) for code, name in enumerate(ENTRIES)]
    bars += [("increased", np.flatnonzero(changed > 0), changed), ("decreased", np.flatnonzero(changed < 0), changed)]
    bars += [(name, np.flatnonzero(out & (reasons_out == code)), -value_out) for code, name in enumerate(EXITS)]
    bars += [("fx", np.flatnonzero(open1 & (np.nan_to_num(fx) != 0)), np.nan_to_num(fx))]
    bars += [("end", np.flatnonzero(open1), a1 + np.nan_to_num(fx))]
    return bars


def _from_either(first: pd.DataFrame, second: pd.DataFrame, name: str, rows0: Codes, rows1: Codes) -> Any:
    """Take a column from the later frame, else from the earlier one."""
    if name not in second.columns:
        return first[name].array.take(rows0, allow_fill=True)
    later = pd.Series(second[name].array.take(rows1, allow_fill=True))
    if name not in first.columns:
        return later.array
    earlier = pd.Series(first[name].array.take(rows0, allow_fill=True))
    if earlier.dtype != later.dtype:
        # Texts and ids, or categories of which each moment has its own.
        return later.astype(object).where(rows1 >= 0, earlier.astype(object)).infer_objects().array
    return later.where(rows1 >= 0, earlier).array


def assert_identity(moves: pd.DataFrame, by: str | None) -> None:
    """Start plus the bars is end: for amounts, and for counts."""
    entering, leaving = moves["bucket"].isin(["start", *ENTRIES]), moves["bucket"].isin([*EXITS, "end"])
    sign = entering.astype("int64") - leaving.astype("int64")
    value = moves["amount"].where(moves["bucket"] != "end", -moves["amount"])
    checked = pd.DataFrame({"amount": value, "count": sign, "size": moves["amount"].abs()})
    sums = checked.groupby(moves[by]).sum() if by is not None else checked.sum().to_frame().T
    bad = (sums["amount"].abs() > 1e-9 * np.maximum(sums["size"], 1.0)) | (sums["count"] != 0)
    if bad.any():
        raise OppPandasError(
            f"the waterfall does not balance by {sums.loc[bad, 'amount'].tolist()[:3]}: an error of this package, "
            "please report it"
        )
