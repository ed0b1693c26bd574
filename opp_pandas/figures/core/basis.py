"""What a figure stands on: the small dict in ``result.attrs["opp_basis"]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError
from opp_pandas.figures.core.blocks import count_codes
from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.figures.core.deals import LEFT_OUT, LOST, OPEN, STANDINGS, TRASHED, UNSETTLED, WON, Deals
from opp_pandas.organisation import NAMES, THEN

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Flags
    from opp_pandas.figures.core.money import CurrencyCounts
    from opp_pandas.figures.core.snapshots import State
    from opp_pandas.figures.core.totals import Tally

BASIS_KEY = "opp_basis"


def attach_basis(table: pd.DataFrame, basis: Mapping[str, Any]) -> pd.DataFrame:
    """Put a basis on a result, which carries nothing else of the load, and return it."""
    table.attrs = {BASIS_KEY: dict(basis)}
    return table


def basis_of(result: Any) -> dict[str, Any]:
    """Return the basis of a result; raise where it carries none."""
    if not (basis := known_basis(result)):
        raise ConfigurationError(
            "this object carries no basis: it is not a figure of this package, or pandas dropped it in a merge"
        )
    return basis


def known_basis(result: Any) -> dict[str, Any]:
    """Return the basis of a result; an empty one where it carries none."""
    return dict(getattr(result, "attrs", {}).get(BASIS_KEY, {}))


def day_of_basis(basis: Mapping[str, Any]) -> str:
    """Return the calendar day that a result speaks of, in its zone; "" where it names no moment.

    Examples
    --------
    >>> day_of_basis({"as_of": "2026-10-01T03:59:59+00:00", "timezone": "America/New_York"})
    '2026-09-30'
    """
    moment = moment_of_basis(basis)
    return "" if moment is None else moment.date().isoformat()


def moment_of_basis(basis: Mapping[str, Any]) -> pd.Timestamp | None:
    """Return the moment that a result speaks of, in its zone; None where it names none."""
    if not basis.get("as_of"):
        return None
    moment = pd.Timestamp(basis["as_of"])
    return moment.tz_convert(basis["timezone"]) if moment.tzinfo is not None and basis.get("timezone") else moment


@dataclass(frozen=True, eq=False)
class Facts:
    """What a basis counts: of all deals, or of a piece of them."""

    counts: Mapping[str, int]
    """How many deals are so; ``undated`` and ``closed_later`` only where the figure depends on close dates."""
    unsettled: Mapping[str, int]
    """Deals in stages that nobody called open, won or lost, by stage."""
    columns: frozenset[str]
    """Those columns of the frame that notes speak of."""
    currencies: CurrencyCounts | None = None
    """None where the figure adds no money."""

    @classmethod
    def of(
        cls,
        deals: Deals,
        *,
        money: bool = False,
        dated: bool = False,
        later: bool = False,
        more: Mapping[str, int] | None = None,
        cells: Tally | None = None,
    ) -> Facts:
        """Count the deals of a frame: with `later`, also what closes after as_of; `more` are its own counts.

        From a tally of all deals, whose layers are the standings, most of it can be read.
        """
        standing = count_codes(deals.standing, 0, STANDINGS) if cells is None else cells.by_layer("count")
        counts = {
            "n": len(deals),
            "open": standing[OPEN] + standing[LEFT_OUT],
            "won": standing[WON],
            "lost": standing[LOST],
            "trashed": standing[TRASHED],
            "unsettled": standing[UNSETTLED],
            "omitted": standing[LEFT_OUT],
            "stageless": np.count_nonzero((deals.stage == -1) & (deals.status == OPEN)),
        }
        if dated or later:
            counts["undated"] = _count(deals, deals.undated, OPEN, LEFT_OUT, WON)
        if later:
            slots, days = deals.slot_counts, deals.close.days
            counts["overdue"] = slots[[OPEN, LEFT_OUT]][:, (days < deals.context.today) & (days != NO_DAY)].sum()
            counts["closed_later"] = slots[[WON, LOST]][:, days > deals.context.today].sum()
        if money:
            counts |= _money_counts(deals, cells)
        whole = {name: int(n) for name, n in (counts | dict(more or {})).items()}
        unsettled = deals.unsettled_stages(deals.status == UNSETTLED) if counts["unsettled"] else {}
        columns = frozenset({"probability", "currency_type"} & set(deals.frame.columns))
        return cls(whole, unsettled, columns, deals.currencies if money else None)

    @classmethod
    def merged(cls, parts: Sequence[Facts]) -> Facts:
        """Add up what was counted of several pieces."""
        money = [part.currencies for part in parts if part.currencies is not None]
        currencies = type(money[0]).merged(money) if money else None
        columns = frozenset.union(*(part.columns for part in parts))
        return cls(added(part.counts for part in parts), added(part.unsettled for part in parts), columns, currencies)


def added(parts: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    """Add up counts of several pieces."""
    found: dict[Any, int] = {}
    for part in parts:
        for name, n in part.items():
            found[name] = found.get(name, 0) + n
    return found


def _count(deals: Deals, found: Flags | None, *standings: int) -> int:
    """Count the deals of some standings among those that were found."""
    if found is None:
        return 0
    return sum(int(np.count_nonzero(found & (deals.standing == standing))) for standing in standings)


def _money_counts(deals: Deals, cells: Tally | None) -> dict[str, int]:
    """Count what is odd about amounts of open and won deals, and about percentages of open ones."""
    amounts, percents = deals.amounts, deals.percents
    summed, is_open = (OPEN, LEFT_OUT, WON), (OPEN, LEFT_OUT)
    if cells is None:
        missing = _count(deals, amounts.missing, *summed), _count(deals, percents.missing, *is_open)
    else:
        missing = (
            int(cells.by_layer("missing_amount")[list(summed)].sum()),
            int(cells.by_layer("missing_percent")[list(is_open)].sum()),
        )
    return {
        "missing_amount": missing[0],
        "negative_amount": _count(deals, amounts.values < 0, *summed) if amounts.limits[0] < 0 else 0,
        "missing_probability": missing[1],
        "invalid": _count(deals, deals.invalid_percents, *is_open),
        "from_stage": _count(deals, deals.from_stage, *is_open),
        "contradicting": deals.n_contradicting_amounts,
    }


def build_basis(
    figure: str, context: FigureContext, facts: Facts, *, notes: Iterable[str] = (), later: bool = False, **more: Any
) -> dict[str, Any]:
    """Collect what a figure stands on, JSON-able throughout.

    `later` says that won and lost deals that close after as_of are left out. Among the further
    facts, ``arguments`` are the choices that were made, ``definitions`` the formula of each column.
    """
    counts = facts.counts
    found: dict[str, Any] = {f"n_{name}": counts[name] for name in ("open", "won", "lost", "trashed", "unsettled")}
    found |= {"as_of": context.as_of.isoformat(), "history": "none"}
    said = _notes(context, facts)
    if facts.currencies is not None:
        money = _money_facts(context, counts, facts.currencies)
        found |= money
        said += _money_notes(context, facts, facts.currencies, money)
    if later:
        n = found["n_closed_later"] = counts["closed_later"]
        said += tell((n, "won or lost deal", "with a close date after as_of: not closed yet, left out"))
    return _assembled(figure, context, [*said, *notes], {"n": counts["n"], **found, **more})


def _assembled(figure: str, context: FigureContext, notes: Iterable[str], facts: dict[str, Any]) -> dict[str, Any]:
    """Put together what every basis has."""
    arguments, definitions = facts.pop("arguments", {}), facts.pop("definitions", {})
    whole: dict[str, Any] = {
        "figure": figure,
        "timezone": context.timezone or "UTC",
        "timezone_stated": context.timezone is not None,
        "stages": context.stages.to_dict(),
        **facts,
        "arguments": {**context.arguments, **arguments},
        "definitions": definitions,
        "notes": [*context.caveats, *notes],
    }
    plain: dict[str, Any] = to_json(whole)
    return plain


def build_history_basis(
    figure: str, context: FigureContext, *, compared: Iterable[State] = (), notes: Iterable[str] = (), **more: Any
) -> dict[str, Any]:
    """Collect what a figure over time stands on, as `build_basis` does; the context is that of the last moment.

    `compared` are the moments whose deals had to be judged, ``n`` the deals at the last
    one; ``history`` is said where it is none of snapshots.
    """
    scope = context.scope
    unjudged = max((state.n_not_judged for state in compared), default=0)
    said = [] if context.timezone is not None else [_NO_ZONE]
    said += [_GUESSED] if context.stages.guessed else []
    said += [] if scope is None else [f"scope: {scope.words}"]
    gone = "of earlier moments, gone before the load: nobody knows whether they are in scope, left out"
    said += tell((unjudged, "deal", gone))
    by = str(more.get("arguments", {}).get("by"))
    if by in NAMES:
        said.append(f"every {by} is that of the load, at every moment; by='{by}{THEN}' takes those of each moment")
    elif by.removesuffix(THEN) in NAMES:
        said.append(f"every {by.removesuffix(THEN)} is that of the moment, where the history knows it")
    facts: dict[str, Any] = {
        "as_of": context.local_as_of.isoformat(),
        "history": "snapshots",
        "scope": None if scope is None else scope.words,
        "n_not_judged": unjudged,
        **more,
    }
    return _assembled(figure, context, [*said, *notes], facts)


_GUESSED = "won and lost were guessed from the names of stages; opp.StageMap(won=[...], lost=[...]) states them"
_NO_ZONE = "no time zone was stated: days are days in UTC"


def _notes(context: FigureContext, facts: Facts) -> list[str]:
    counts = facts.counts
    stages = ", ".join(f"{name} ({n})" for name, n in facts.unsettled.items())
    return [
        *([_GUESSED] if context.stages.guessed else []),
        *tell(
            (counts["unsettled"], "deal", f"left out, in stages that nobody called open, won or lost: {stages}"),
            (counts["trashed"], "deal", "in the trash, left out"),
            (counts["stageless"], "deal", "without a stage, taken as open"),
        ),
        *([_NO_ZONE] if "undated" in counts and context.timezone is None else []),
        *tell((counts.get("undated"), "open or won deal", "without a close date")),
    ]


def _money_facts(context: FigureContext, counts: Mapping[str, int], currencies: CurrencyCounts) -> dict[str, Any]:
    n_with = counts["open"] - counts["missing_probability"]
    rates = context.money.exchange
    if rates is None:
        currencies.require_one()
    elif "(missing)" in currencies.counts:
        # Each piece may have thought that its only currency is that of all deals.
        raise FrameError("some amounts name no currency, and others several: state the organisation's with currency=")
    facts: dict[str, Any] = {
        "currency": currencies.base if rates is None else rates.base,
        "n_missing_amount": counts["missing_amount"],
        "probability": {
            "source": context.money.whose,
            "own": n_with - counts["from_stage"],
            "stage": counts["from_stage"],
            "missing": counts["missing_probability"],
            "invalid": counts["invalid"],
        },
        "n_missing_probability": counts["missing_probability"],
        "n_omitted": counts["omitted"],
        "n_negative_amount": counts["negative_amount"],
        "n_missing_currency": currencies.n_missing,
    }
    return facts if rates is None else facts | {"rates": rates.describe(currencies)}


def _money_notes(
    context: FigureContext, facts: Facts, currencies: CurrencyCounts, money: Mapping[str, Any]
) -> list[str]:
    own = context.money.whose in ("own", "own_else_stage")
    column = _NO_PROBABILITY if own and "probability" not in facts.columns else ""
    return tell(
        (money["n_missing_amount"], "open or won deal", "without an amount: counted, never taken as 0"),
        (money["n_missing_probability"], "open deal", f"without a probability{column}: outside weighted sums"),
        (money["probability"]["invalid"], "open deal", "with a probability outside 0 to 100, taken as missing"),
        (money["n_omitted"], "open deal", "omitted from the forecast: inside counts, outside every sum"),
        (currencies.n_missing, "deal", f"without a currency, taken as {currencies.organisation}"),
        (money["n_negative_amount"], "open or won deal", "with a negative amount, summed as it is"),
        (facts.counts["contradicting"], "deal", "whose amount_precise contradicts amount: amount counts"),
    )


_NO_PROBABILITY = " (the frame has no probability column)"


def counted(n: Any, thing: str) -> str:
    """Describe how many: "1 open deal", "2 open deals"."""
    return f"{int(n):,} {thing}" + ("" if n == 1 else "s")


def tell(*found: tuple[Any, str, str]) -> list[str]:
    """Describe what there is of several things: how many, of what, and what is said of them.

    Examples
    --------
    >>> tell((2, "deal", "left out"), (0, "move", "unknown"))
    ['2 deals left out']
    """
    return [f"{counted(n, thing)} {words}" for n, thing, words in found if n]


def to_json(value: Any) -> Any:
    """Turn numpy and pandas scalars inside `value` into plain ones; what is missing becomes None."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray | pd.Index):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None if np.isnan(value) else str(value)
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return str(value)
