"""What moved between two moments: the balanced waterfall, and the deals behind each bar.

The open pipeline of a period at the start, plus what came in, minus what went
out, is the open pipeline at the end. Every entry and every exit has one
reason; changes of the amount and of exchange rates stand apart.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from opp_pandas.errors import ConfigurationError, named
from opp_pandas.figures.core.basis import tell
from opp_pandas.figures.core.deals import Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import require_one_column
from opp_pandas.figures.core.snapshots import (
    STATE_COLUMNS,
    Snapshots,
    State,
    later_of,
    parse_window,
    read_span,
    read_states,
)
from opp_pandas.figures.waterfall_bars import BUCKETS, ENTRIES, LABELS, MEANINGS
from opp_pandas.figures.waterfall_interval import assert_identity, bridge
from opp_pandas.instants import parse_end

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.choices import Labels
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.money import ExchangeRates

# Bars that stand on the amount at the start; new deals, and all others, on that at the end.
_OF_BEFORE = ("start", "removed", *(name for name in ENTRIES if name not in ("created", "appeared")))

_ARGUMENTS = """
by : str, optional
    A waterfall for each group. A deal that changed hands leaves the one
    group and comes into the other.
method : {"ends", "path"}
    Compare the two ends, or take the moves of every day between, which shows
    moves that cancel out. A path needs a history.
labels : {"plain", "outreach", "gong", "salesforce"}
    Whose names for the bars; bars with the same name are added up.
"""


@figure(heading="Deals behind a waterfall", definitions=MEANINGS, arguments=_ARGUMENTS)
def waterfall_deals(
    history: Any,
    *,
    period: Any,
    since: Any = None,
    until: Any = None,
    context: FigureContext | tuple[FigureContext, FigureContext],
    by: str | None = None,
    method: Literal["ends", "path"] = "ends",
    labels: Labels = "plain",
    bucket: str | None = None,
) -> pd.DataFrame:
    """List what every deal did to the open pipeline of a period: the rows behind a waterfall.

    Parameters
    ----------
    bucket : str, optional
        Only the moves of this bar, by its name among `labels`.

    Returns
    -------
    DataFrame
        A row per deal and bar (a deal that changed its amount and was won has
        two): `by` where given, ``bucket``, ``amount`` [currency] with its
        sign, ``amount_before, amount_after``, ``close_date_before,
        close_date_after``, ``id``, ``custom_id``, ``name``, and ``step``, the
        moment at which it had happened. Bars ``start`` and ``end`` list the
        deals that stand in them.

    Examples
    --------
    >>> moved = df.opp.waterfall_deals(history, period="2026Q4", since="2026-09-04")
    >>> moved[["id", "bucket", "amount"]].head(3)
        id bucket    amount
    0   25  start  24826.22
    1   42  start   3811.38
    2  118  start   5641.22
    """
    words = _words_of(labels)
    if bucket is not None and bucket not in words.values():
        known = dict.fromkeys(words.values())
        raise ConfigurationError(f"there is no bar {named([bucket])}; there are {named(known, 20)}")
    moves, last, stated = _moves(history, period, since, until, context, by, method)
    moves["bucket"] = moves["bucket"].map(words).astype("str")
    moves = moves if bucket is None else moves[moves["bucket"] == bucket].reset_index(drop=True)
    return waterfall_deals.result(moves, last, definitions=_grouped_meanings(words), **stated)


def _words_of(labels: str) -> Mapping[str, str]:
    if labels not in LABELS:
        raise ConfigurationError(f"labels must be one of {named(LABELS)}, not {labels!r}")
    return LABELS[labels]


@figure(definitions=MEANINGS, arguments=_ARGUMENTS)
def waterfall(
    history: Any,
    *,
    period: Any,
    since: Any = None,
    until: Any = None,
    context: FigureContext | tuple[FigureContext, FigureContext],
    by: str | None = None,
    method: Literal["ends", "path"] = "ends",
    labels: Labels = "plain",
) -> pd.DataFrame:
    """Break down into its causes how the open pipeline of a period changed.

    A deal that comes under the scope or leaves it is a bar of its own.

    Returns
    -------
    DataFrame
        Indexed by `by` and ``bucket``, in order, every bar also when it is
        empty: ``count`` [deals], ``amount`` [currency], negative for what went
        out, and ``n_missing_amount``, how many of those deals lack the amount
        that the bar stands on. Start plus the bars is end,
        for amounts and for counts; the bar ``won`` equals the bookings.

    Examples
    --------
    >>> moved = df.opp.waterfall(history, period="2026Q4", since="2026-09-04")
    >>> moved.loc[moved["count"] > 0, ["count", "amount"]].round(2)
                count     amount
    bucket
    start          48  833565.90
    created         2   20290.00
    appeared        1    8480.00
    pulled_in       2   15194.00
    pushed_in       3   59510.23
    increased       1     221.00
    decreased       9  -13293.22
    won             5  -86785.38
    lost            9 -135248.48
    pushed_out     13 -200890.00
    pulled_out     10 -204766.00
    end            19  296278.05
    """
    words = _words_of(labels)
    moves, last, stated = _moves(history, period, since, until, context, by, method)
    order = list(dict.fromkeys(words[name] for name in BUCKETS))
    shown = moves.assign(bucket=moves["bucket"].map(words))
    # A bar stands on the amount before, on that after, or for a change on both.
    before, after = moves["amount_before"].isna(), moves["amount_after"].isna()
    of_before, of_both = moves["bucket"].isin(_OF_BEFORE), moves["bucket"].isin(["increased", "decreased"])
    shown["missing"] = (before & (of_before | of_both)) | (after & ~of_before)
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
    stated["arguments"] |= {"labels": labels}
    title = f"Waterfall of {stated['period']}"
    return waterfall.result(table, last, title=title, definitions=_grouped_meanings(words), **stated)


def _grouped_meanings(words: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for bucket, word in words.items():
        found.setdefault(word, []).append(MEANINGS[bucket])
    return {word: "; ".join(texts) for word, texts in found.items()}


def _moves(
    history: Any,
    period: Any,
    since: Any,
    until: Any,
    context: Any,
    by: str | None,
    method: str,
) -> tuple[pd.DataFrame, FigureContext, dict[str, Any]]:
    if method not in ("ends", "path"):
        raise ConfigurationError(f"method must be 'ends' or 'path', not {method!r}")
    if by is not None:
        require_one_column(by)
    meaning = later_of(context)
    w0, w1, words = parse_window(period, meaning.periods)
    is_history = isinstance(history, Snapshots)
    if method == "path" and not is_history:
        raise ConfigurationError("method='path' adds up days, so it needs a History")
    since, until, notes = read_span(history, w0, w1, since, until, meaning)
    exchange = meaning.money.exchange
    columns = STATE_COLUMNS if by is None else (*STATE_COLUMNS, by)
    times = [since, until]
    if method == "path":
        newest = next(read_states(history, [until], context=context, columns=columns, what="a waterfall"))
        times = _days_between(since, until, newest.context.timezone)
    states = read_states(history, times, context=context, columns=columns, what="a waterfall")
    parts: list[pd.DataFrame] = []
    first: State | None = None
    last: State | None = None
    for before, after in pairwise(states):
        start = before if first is None else first
        part = bridge(before, after, w0, w1, by, exchange, since=start.context.as_of)
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
    if is_history and last.context.as_of < first.context.as_of:
        raise ConfigurationError(
            f"since= comes after until=: {first.context.local_as_of:%Y-%m-%d %H:%M}, "
            f"{last.context.local_as_of:%Y-%m-%d %H:%M}"
        )
    moves = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    moves = moves.sort_values(
        ["bucket"], key=lambda names: names.map({name: place for place, name in enumerate(BUCKETS)}), kind="stable"
    ).reset_index(drop=True)
    assert_identity(moves, by)
    deals = Deals(last.frame, last.context)
    stated = {
        "n": len(last.scoped.frame),
        "compared": [first],
        "since": first.context.local_as_of.isoformat(),
        "period": words,
        "currency": deals.currency,
        "arguments": {"by": by, "method": method, "steps": len(parts)},
        "notes": [*notes, *_notes(moves, deals, exchange)],
    }
    moves.attrs = {}
    return moves, last.context, stated


def _notes(moves: pd.DataFrame, deals: Deals, exchange: ExchangeRates | None) -> list[str]:
    missing = moves["amount_after"].isna() & moves["amount_before"].isna()
    notes = tell(
        (deals.currencies.n_missing, "deal", f"without a currency, taken as {deals.currencies.organisation}"),
        (missing.sum(), "move", "of deals without an amount: counted, in no sum"),
    )
    if exchange is not None:
        notes.append(f"amounts in {exchange.base} at the rates of the start of each step")
    return notes


def _days_between(since: Any, until: Any, zone: str | None) -> list[Any]:
    """Return the start, the end of every day in the zone between, and the end."""
    first, last = parse_end(since, zone, "since"), parse_end(until, zone, "until")
    # An instant stands within a day of the zone, which is not always the day it has in UTC.
    start, end = (moment.tz_convert(zone or "UTC").tz_localize(None).normalize() for moment in (first, last))
    ends = [parse_end(day, zone) for day in pd.date_range(start, end)]
    return [first, *(end for end in ends if first < end < last), last]
