"""What moved between two moments: the balanced waterfall, and the deals behind each bar.

The open pipeline of a period at the start, plus what came in, minus what went
out, is the open pipeline at the end. Every entry and every exit has one
reason; changes of the amount and of exchange rates stand apart.

References
----------
.. [1] Outreach, Forecast waterfall; Gong, Analyze forecast category changes;
   Salesforce, Pipeline Inspection: names of the same moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.analytics.basis import attach_basis, counted, to_json
from opp_pandas.analytics.days import NO_DAY, Codes, Days, Flags, Floats, day_of, parse_day, to_date
from opp_pandas.analytics.deals import LOST, OPEN, TRASHED, UNSETTLED, WON, Deals
from opp_pandas.analytics.groups import read_groups
from opp_pandas.analytics.moments import Snapshots, State, read_states
from opp_pandas.analytics.money import ExchangeRates, Rates, read_rates
from opp_pandas.analytics.periods import WeekCalendar, resolve_periods
from opp_pandas.errors import ConfigurationError, FrameError, OppPandasError, named

if TYPE_CHECKING:
    from opp_pandas.analytics.context import FigureContext

ENTRIES = ("created", "appeared", "scope_in", "reopened", "dated", "pulled_in", "pushed_in")
EXITS = ("removed", "won", "lost", "scope_out", "undated", "pushed_out", "pulled_out")
BUCKETS = ("start", *ENTRIES, "increased", "decreased", *EXITS, "fx", "end")
MEANINGS = {
    "start": "open deals with their close date in the period, at the start",
    "created": "new deals, created after the start",
    "appeared": "deals that were not known at the start, though created before it",
    "scope_in": "deals that came under the filter or group, or back into the forecast",
    "reopened": "deals that were closed at the start and are open again, or closed anew",
    "dated": "deals that got a close date",
    "pulled_in": "deals whose close date came forward into the period",
    "pushed_in": "deals whose close date moved back into the period",
    "increased": "larger amounts of deals that stayed, came or went",
    "decreased": "smaller amounts of deals that stayed, came or went",
    "removed": "deals that were deleted or put into the trash",
    "won": "deals won with their close date in the period: the bookings",
    "lost": "deals lost with their close date in the period",
    "scope_out": "deals that left the filter, group or forecast",
    "undated": "deals that lost their close date",
    "pushed_out": "deals whose close date moved behind the period, closed ones too",
    "pulled_out": "deals whose close date moved before the period, closed ones too",
    "fx": "what other exchange rates made of the amounts at the end",
    "end": "open deals with their close date in the period, at the end",
}
LABELS: Mapping[str, Mapping[str, str]] = {
    "plain": {bucket: bucket for bucket in BUCKETS},
    "outreach": {
        "start": "Starting pipeline", "created": "Added", "appeared": "Added", "scope_in": "Added",
        "reopened": "Added", "dated": "Added", "pulled_in": "Pulled In", "pushed_in": "Pulled In",
        "increased": "Amount Increased", "decreased": "Amount Decreased", "removed": "Moved", "won": "Won",
        "lost": "Lost", "scope_out": "Moved", "undated": "Moved", "pushed_out": "Slipped", "pulled_out": "Moved",
        "fx": "Exchange rates", "end": "Ending pipeline",
    },
    "gong": {
        "start": "Start", "created": "New", "appeared": "New", "scope_in": "Ownership added", "reopened": "Reopened",
        "dated": "Pulled in", "pulled_in": "Pulled in", "pushed_in": "Pushed in", "increased": "Amount increased",
        "decreased": "Amount decreased", "removed": "Deleted", "won": "Won", "lost": "Lost",
        "scope_out": "Ownership removed", "undated": "Pushed out", "pushed_out": "Pushed out",
        "pulled_out": "Pulled out", "fx": "Exchange rates", "end": "End",
    },
    "salesforce": {
        "start": "Open pipeline, start", "created": "New", "appeared": "New", "scope_in": "Moved In",
        "reopened": "Moved In", "dated": "Moved In", "pulled_in": "Moved In", "pushed_in": "Moved In",
        "increased": "Increased", "decreased": "Decreased", "removed": "Moved Out", "won": "Closed Won",
        "lost": "Closed Lost", "scope_out": "Moved Out", "undated": "Moved Out", "pushed_out": "Moved Out",
        "pulled_out": "Moved Out", "fx": "Exchange rates", "end": "Open pipeline, end",
    },
}  # fmt: skip
_READ = (
    "id", "custom_id", "name", "amount", "amount_precise", "currency_type", "probability", "close_date", "created_at",
    "external_created_at", "stage_id", "stage_name", "owner_id", "owner_name", "trashed_at", "forecast_category",
)  # fmt: skip
Scope = Callable[[pd.DataFrame], Any]


@dataclass(frozen=True, eq=False)
class _Side:
    """One moment, with a row per deal of both."""

    there: Flags
    status: Codes
    day: Days
    amount: Floats
    in_scope: Flags
    group: Codes


def waterfall_deals(
    source: Any,
    *,
    period: Any,
    since: Any = None,
    until: Any = None,
    context: FigureContext | tuple[FigureContext, FigureContext] | None = None,
    freq: str = "Q",
    fiscal_start: int = 1,
    calendar: WeekCalendar | None = None,
    by: str | None = None,
    scope: Scope | None = None,
    method: Literal["ends", "path"] = "ends",
    rates: Rates | None = None,
    bucket: str | None = None,
) -> pd.DataFrame:
    """List what every deal did to the open pipeline of a period: the rows behind a waterfall.

    Parameters
    ----------
    source, period, since, until, context, freq, fiscal_start, calendar, by, scope, method, rates
        As in `waterfall`.
    bucket : str, optional
        Only the moves of this bar.

    Returns
    -------
    DataFrame
        A row per deal and bar (a deal that changed its amount and was won has
        two): `by` where given, ``bucket``, ``amount`` [currency] with its
        sign, ``amount_before, amount_after``, ``close_date_before,
        close_date_after``, ``id``, ``custom_id``, ``name``, and ``step``, the
        moment at which it had happened. Bars ``start`` and ``end`` list the
        deals that stand in them.

    Raises
    ------
    HistoryNeededError
        If `source` is neither a history nor two frames.
    """
    if bucket is not None and bucket not in BUCKETS:
        raise ConfigurationError(f"there is no bar {named([bucket])}; there are {named(BUCKETS, 20)}")
    moves, _ = _moves(source, period, since, until, context, freq, fiscal_start, calendar, by, scope, method, rates)
    return moves if bucket is None else moves[moves["bucket"] == bucket].reset_index(drop=True)


def waterfall(
    source: Any,
    *,
    period: Any,
    since: Any = None,
    until: Any = None,
    context: FigureContext | tuple[FigureContext, FigureContext] | None = None,
    freq: str = "Q",
    fiscal_start: int = 1,
    calendar: WeekCalendar | None = None,
    by: str | None = None,
    scope: Scope | None = None,
    method: Literal["ends", "path"] = "ends",
    labels: Literal["plain", "outreach", "gong", "salesforce"] = "plain",
    rates: Rates | None = None,
) -> pd.DataFrame:
    """Say how the open pipeline of a period came from what it was to what it is.

    Parameters
    ----------
    source : History or pair of DataFrame
        Snapshots, or the deals before and after.
    period : str, Period or pair of day
        Whose close dates count: ``"2026Q3"``, or first and last day.
    since, until : str, date or Timestamp, optional
        For a history: from when to when. Left out: the days of the period,
        `until` at most the newest snapshot.
    context : FigureContext or pair, optional
        What stages mean and in which zone days begin; those of the loads if
        left out.
    freq, fiscal_start, calendar
        How a period's name is read; see `resolve_periods`.
    by : str, optional
        A waterfall for each group. A deal that changed hands leaves the one
        group and comes into the other.
    scope : callable, optional
        Takes a frame, gives a mask: only these deals. What comes under it or
        leaves it is a bar.
    method : {"ends", "path"}, default "ends"
        Compare the two ends, or add up the moves of every day between, which
        shows moves that cancel out. A path needs a history.
    labels : {"plain", "outreach", "gong", "salesforce"}, default "plain"
        Whose names the bars bear; bars of one name are added up.
    rates : ExchangeRates, mapping or DataFrame, optional
        Turns amounts into one currency, at the rates of the start; the bar
        ``fx`` is what the rates of the end make of the end.

    Returns
    -------
    DataFrame
        Indexed by `by` and ``bucket``, in order, every bar also when it is
        empty: ``count`` [deals], ``amount`` [currency], negative for what went
        out, and ``n_missing_amount`` of those deals. Start plus the bars is end,
        for amounts and for counts; the bar ``won`` equals the bookings.

    Raises
    ------
    HistoryNeededError
        If `source` is neither a history nor two frames.
    ConfigurationError
        If an argument cannot be used.
    """
    if labels not in LABELS:
        raise ConfigurationError(f"labels must be one of {named(LABELS)}, not {labels!r}")
    moves, basis = _moves(source, period, since, until, context, freq, fiscal_start, calendar, by, scope, method, rates)
    words = LABELS[labels]
    order = list(dict.fromkeys(words[name] for name in BUCKETS))
    shown = moves.assign(bucket=moves["bucket"].map(words))
    shown["missing"] = moves["amount_after"].where(moves["amount_after"].notna(), moves["amount_before"]).isna()
    keys = ["bucket"] if by is None else [by, "bucket"]
    sums = shown.groupby(keys, sort=False).agg(
        count=("amount", "size"), amount=("amount", "sum"), n_missing_amount=("missing", "sum")
    )
    index: pd.Index
    if by is None:
        index = pd.Index(order, name="bucket", dtype="str")
    else:
        index = pd.MultiIndex.from_product([list(pd.unique(moves[by])), order], names=[by, "bucket"])
    table = sums.reindex(index)
    table = table.assign(
        count=table["count"].fillna(0).astype("int64"),
        amount=table["amount"].fillna(0.0),
        n_missing_amount=table["n_missing_amount"].fillna(0).astype("int64"),
    )
    basis = {
        **basis,
        "figure": "waterfall",
        "title": f"Waterfall of {basis['period']}",
        "arguments": {**basis["arguments"], "labels": labels},
        "definitions": MEANINGS if labels == "plain" else _grouped_meanings(words),
    }
    return attach_basis(table, basis)


def _grouped_meanings(words: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for bucket, word in words.items():
        found.setdefault(word, []).append(MEANINGS[bucket])
    return {word: "; ".join(texts) for word, texts in found.items()}


def _moves(
    source: Any,
    period: Any,
    since: Any,
    until: Any,
    context: Any,
    freq: str,
    fiscal_start: int,
    calendar: WeekCalendar | None,
    by: str | None,
    scope: Scope | None,
    method: str,
    rates: Rates | None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    if method not in ("ends", "path"):
        raise ConfigurationError(f"method must be 'ends' or 'path', not {method!r}")
    w0, w1, words = parse_window(period, freq, fiscal_start, calendar)
    is_history = isinstance(source, Snapshots)
    if method == "path" and not is_history:
        raise ConfigurationError("method='path' adds up days, so it needs a History")
    since = to_date(w0 - 1) if since is None else since
    until = to_date(w1) if until is None else until
    times = _days_between(since, until) if method == "path" else [since, until]
    exchange = read_rates(rates)
    # A scope may look at any column.
    columns = _READ if scope is None else _ANY
    columns = columns if by is None or columns is _ANY else (*columns, by)
    states = read_states(source, times, context=context, columns=columns, what="a waterfall")
    parts: list[pd.DataFrame] = []
    first: State | None = None
    last: State | None = None
    for before, after in pairwise(states):
        part = _bridge(before, after, w0, w1, by, scope, exchange)
        if first is None:
            first = before
        else:
            # Between two steps the end of the one is the start of the other.
            parts[-1] = parts[-1][parts[-1]["bucket"] != "end"]
            part = part[part["bucket"] != "start"]
        last = after
        parts.append(part)
    if first is None or last is None:
        raise ConfigurationError("a waterfall needs two moments: since= before until=")
    moves = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    moves = moves.sort_values(
        ["bucket"], key=lambda names: names.map({name: place for place, name in enumerate(BUCKETS)}), kind="stable"
    ).reset_index(drop=True)
    _assert_identity(moves, by)
    deals = Deals(last.frame, last.context)
    basis = {
        "figure": "waterfall_deals",
        "n": len(last.frame),
        "as_of": last.context.local_as_of.isoformat(),
        "since": first.context.local_as_of.isoformat(),
        "period": words,
        "timezone": last.context.timezone or "UTC",
        "timezone_stated": last.context.timezone is not None,
        "history": "snapshots",
        "stages": last.context.stages.to_dict(),
        "currency": deals.currency if exchange is None else exchange.base,
        "arguments": {"by": by, "method": method, "steps": len(parts)},
        "definitions": dict(MEANINGS),
        "notes": _notes(moves, last.context, exchange),
    }
    plain: dict[str, Any] = to_json(basis)
    moves.attrs = {}
    return attach_basis(moves, plain), plain


_ANY: tuple[str, ...] = ()


def _notes(moves: pd.DataFrame, context: FigureContext, exchange: ExchangeRates | None) -> list[str]:
    notes = []
    if context.timezone is None:
        notes.append("no time zone was stated: days are days in UTC")
    if context.stages.guessed:
        notes.append(
            "won and lost were guessed from the names of stages; opp.StageMap(won=[...], lost=[...]) states them"
        )
    missing = moves["amount_after"].isna() & moves["amount_before"].isna()
    if missing.any():
        notes.append(f"{counted(int(missing.sum()), 'move')} of deals without an amount: counted, in no sum")
    if exchange is not None:
        notes.append(f"amounts in {exchange.base} at the rates of the start of each step")
    return notes


def parse_window(
    period: Any, freq: str = "Q", fiscal_start: int = 1, calendar: WeekCalendar | None = None
) -> tuple[int, int, str]:
    """Read a period as its first and last day number, and its name.

    Raises
    ------
    ConfigurationError
        If it is none, or ends before it begins.
    """
    if isinstance(period, tuple | list):
        if len(period) != 2:
            raise ConfigurationError("period= is a name such as '2026Q3', or a pair: first and last day")
        first, last = parse_day(period[0]), parse_day(period[1])
        if last < first:
            raise ConfigurationError(f"the period ends before it begins: {period[0]} to {period[1]}")
        return first, last, f"{to_date(first):%Y-%m-%d} to {to_date(last):%Y-%m-%d}"
    periods = resolve_periods(
        period.freqstr if isinstance(period, pd.Period) else freq, fiscal_start=fiscal_start, calendar=calendar
    )
    ordinal = np.array([periods.parse(period)])
    return int(periods.starts(ordinal)[0]), int(periods.ends(ordinal)[0]), str(periods.labels(ordinal)[0])


def _days_between(since: Any, until: Any) -> list[Any]:
    """Give the start and the end of every day until the end, the last one included."""
    first, last = pd.Timestamp(since), pd.Timestamp(until)
    start = first.tz_localize(None).normalize() if first.tzinfo is not None else first.normalize()
    end = last.tz_localize(None).normalize() if last.tzinfo is not None else last.normalize()
    days = list(pd.date_range(start + pd.Timedelta(days=1), end, freq="D"))
    if not days or days[-1] != end or last != end:
        days.append(until)
    return [since, *days]


def keys_of(frame: pd.DataFrame, *, unique: bool = True) -> pd.Series:
    """Give what tells deals apart: the id, else the custom id.

    Raises
    ------
    FrameError
        If a row has neither, or two rows have one key (unless not `unique`).
    """
    n = len(frame)
    keys = pd.Series([None] * n, dtype=object)
    if "custom_id" in frame.columns:
        keys = frame["custom_id"].astype(object).reset_index(drop=True)
        keys = keys.map(lambda text: ("custom", text), na_action="ignore")
    if "id" in frame.columns:
        ids = frame["id"].astype(object).reset_index(drop=True)
        keys = ids.where(ids.notna(), keys)
    if keys.isna().any():
        raise FrameError(
            f"{int(keys.isna().sum())} deals have neither id nor custom_id, so they cannot be followed: "
            f"rows {named(frame.index[keys.isna().to_numpy()])}"
        )
    if unique and keys.duplicated().any():
        raise FrameError(f"a deal stands twice: {named(keys[keys.duplicated()].unique())}; keep one row of each")
    return keys


def _bridge(
    before: State, after: State, w0: int, w1: int, by: str | None, scope: Scope | None, rates: ExchangeRates | None
) -> pd.DataFrame:
    """List the moves of one interval."""
    keys0, keys1 = keys_of(before.frame), keys_of(after.frame)
    union = pd.Index(pd.concat([keys0, keys1[~keys1.isin(set(keys0))]], ignore_index=True), dtype=object)
    rows0, rows1 = pd.Index(keys0, dtype=object).get_indexer(union), pd.Index(keys1, dtype=object).get_indexer(union)
    deals0, deals1 = Deals(before.frame, before.context), Deals(after.frame, after.context)
    labels: list[Any] = []
    group0, group1 = np.zeros(len(union), dtype=np.intp), np.zeros(len(union), dtype=np.intp)
    if by is not None:
        labels, group0, group1 = _common_groups(deals0, deals1, rows0, rows1, by)
    side0 = _side(deals0, rows0, group0, scope, rates, before.context.as_of)
    side1 = _side(deals1, rows1, group1, scope, rates, before.context.as_of)
    fx = np.zeros(len(union))
    if rates is not None:
        fx = _amounts(deals1, rows1, rates, after.context.as_of) - side1.amount
    place, side0, side1 = _split_by_group(side0, side1)
    created = np.where(rows1 >= 0, deals1.created_day[rows1] if len(deals1) else NO_DAY, NO_DAY)[place]
    t0 = day_of(before.context.as_of, after.context.timezone)
    created_at = _created_instants(after.frame, rows1)[place]
    is_new = (created > t0) | ((created == t0) & (created_at > _micros(before.context.as_of)))
    bars = _bars(side0, side1, is_new, w0, w1, fx[place])
    return _table(bars, before, after, rows0[place], rows1[place], side0, side1, labels, by)


def _micros(moment: pd.Timestamp) -> int:
    return int(moment.tz_convert("UTC").as_unit("us").to_numpy().view(np.int64))


def _created_instants(frame: pd.DataFrame, rows: Codes) -> Any:
    """Tell deals created on the day of the start, but after it."""
    found = np.full(len(rows), np.iinfo(np.int64).min)
    for name in ("created_at", "external_created_at"):
        if name in frame.columns and isinstance(frame[name].dtype, pd.DatetimeTZDtype) and len(frame):
            stamps = frame[name].to_numpy(dtype="datetime64[us]").view(np.int64)[rows]
            found = np.where((rows >= 0) & (stamps != np.iinfo(np.int64).min), stamps, found)
    return found


def _common_groups(deals0: Deals, deals1: Deals, rows0: Codes, rows1: Codes, by: str) -> tuple[list[Any], Codes, Codes]:
    """Code the groups of both moments alike: by the id underneath, else by label."""
    first, second = read_groups(deals0, by)[0], read_groups(deals1, by)[0]
    names: dict[Any, Any] = {}
    for group in (second, first):
        for key, label in zip(group.keys, group.labels, strict=True):
            names.setdefault(label if key is None else ("id", key), label)
    known = list(names)

    def codes(group: Any, rows: Codes) -> Codes:
        places = [
            known.index(label if key is None else ("id", key))
            for key, label in zip(group.keys, group.labels, strict=True)
        ]
        table = np.array([*places, -1], dtype=np.intp)
        return table[np.where(rows >= 0, group.codes[rows] if len(group.codes) else -1, -1)]

    return list(names.values()), codes(first, rows0), codes(second, rows1)


def _side(
    deals: Deals, rows: Codes, group: Codes, scope: Scope | None, rates: ExchangeRates | None, at: pd.Timestamp
) -> _Side:
    known = rows >= 0
    safe = np.where(known, rows, 0)

    def pick(values: Any, missing: Any) -> Any:
        return np.where(known, values[safe], missing) if len(values) else np.full(len(rows), missing)

    status = pick(deals.status, TRASHED)
    mask = np.ones(len(deals), dtype=bool)
    if scope is not None:
        mask = np.asarray(scope(deals.frame), dtype=bool)
        if mask.shape != (len(deals),):
            raise ConfigurationError("scope= must give one True or False per row of the frame it is given")
    if deals.omitted is not None:
        mask = mask & ~deals.omitted
    in_scope = pick(mask, False) & (status != UNSETTLED)
    # A deal in the trash is not there.
    return _Side(
        status != TRASHED, status, pick(deals.close_day, NO_DAY), _amounts(deals, rows, rates, at), in_scope, group
    )


def _amounts(deals: Deals, rows: Codes, rates: ExchangeRates | None, at: pd.Timestamp) -> Floats:
    if rates is None:
        amount = deals.amount
    else:
        codes, names = deals.currency_codes
        amount = np.full(len(deals), np.nan)
        day = np.full(len(deals), day_of(at, deals.context.timezone))
        for code, name in enumerate(names):
            chosen = codes == code
            rate = np.full(int(chosen.sum()), np.nan) if name is None else rates.rate(name, day[chosen])
            amount[chosen] = deals.own_amount[chosen] * rate
        lacking = np.isnan(amount) & ~np.isnan(deals.own_amount) & (deals.status != TRASHED)
        if lacking.any():
            words = sorted({names[code] or "(missing)" for code in codes[lacking].tolist()})
            raise FrameError(
                f"{int(lacking.sum())} deals have no exchange rate into {rates.base} on {at:%Y-%m-%d}: "
                f"currency {named(words)}. Add the rates, or state the currency"
            )
    known = rows >= 0
    return np.where(known, amount[np.where(known, rows, 0)], np.nan) if len(amount) else np.full(len(rows), np.nan)


def _split_by_group(side0: _Side, side1: _Side) -> tuple[Codes, _Side, _Side]:
    """Give a deal that changed its group a row in each of the two, out of scope where it is not."""
    n = len(side0.group)
    moved = np.flatnonzero((side0.group != side1.group) & (side0.group >= 0) & (side1.group >= 0))
    place = np.concatenate([np.arange(n), moved])
    own = np.where(side1.group >= 0, side1.group, side0.group)
    own = np.concatenate([own, side0.group[moved]])

    def take(side: _Side) -> _Side:
        same = side.group[place] == own
        return _Side(
            side.there[place], side.status[place], side.day[place], side.amount[place], side.in_scope[place] & same, own
        )

    return place, take(side0), take(side1)


def _bars(side0: _Side, side1: _Side, is_new: Flags, w0: int, w1: int, fx: Floats) -> list[tuple[str, Codes, Floats]]:
    """Give for every bar the deals in it and their signed amounts."""
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
        [0, 1, 2, 3, 4, 5],
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


def _table(
    bars: Sequence[tuple[str, Codes, Floats]],
    before: State,
    after: State,
    rows0: Codes,
    rows1: Codes,
    side0: _Side,
    side1: _Side,
    labels: list[Any],
    by: str | None,
) -> pd.DataFrame:
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


def _from_either(first: pd.DataFrame, second: pd.DataFrame, name: str, rows0: Codes, rows1: Codes) -> Any:
    """Take a column from the later frame, else from the earlier one."""
    if name not in second.columns:
        return first[name].array.take(rows0, allow_fill=True)
    later = pd.Series(second[name].array.take(rows1, allow_fill=True))
    if name not in first.columns:
        return later.array
    return later.where(rows1 >= 0, pd.Series(first[name].array.take(rows0, allow_fill=True))).array


def _assert_identity(moves: pd.DataFrame, by: str | None) -> None:
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
