"""What a figure stands on: the small dict in ``result.attrs["opp_basis"]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.figures.core.deals import LOST, OPEN, TRASHED, UNSETTLED, WON, Deals

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.snapshots import State

BASIS_KEY = "opp_basis"


def attach_basis(table: pd.DataFrame, basis: Mapping[str, Any]) -> pd.DataFrame:
    """Put a basis on a result, which carries nothing else of the load, and return it."""
    table.attrs = {BASIS_KEY: dict(basis)}
    return table


def basis_of(result: Any) -> dict[str, Any]:
    """Give the basis of a result.

    Raises
    ------
    ConfigurationError
        If it carries none: it is no figure, or pandas dropped it in a later step.
    """
    attrs = getattr(result, "attrs", {})
    if BASIS_KEY not in attrs:
        raise ConfigurationError(
            "this object carries no basis: it is not a figure of this package, or pandas dropped it in a merge"
        )
    return dict(attrs[BASIS_KEY])


def day_of_basis(basis: Mapping[str, Any]) -> str:
    """Give the calendar day that a result speaks of, in its zone; "" where it names no moment.

    Examples
    --------
    >>> day_of_basis({"as_of": "2026-10-01T03:59:59+00:00", "timezone": "America/New_York"})
    '2026-09-30'
    """
    moment = moment_of_basis(basis)
    return "" if moment is None else moment.date().isoformat()


def moment_of_basis(basis: Mapping[str, Any]) -> pd.Timestamp | None:
    """Give the moment that a result speaks of, in its zone; None where it names none."""
    if not basis.get("as_of"):
        return None
    moment = pd.Timestamp(basis["as_of"])
    return moment.tz_convert(basis["timezone"]) if moment.tzinfo is not None and basis.get("timezone") else moment


def build_basis(
    figure: str,
    deals: Deals,
    *,
    arguments: Mapping[str, Any] | None = None,
    definitions: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
    dated: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Collect what a figure stands on.

    Parameters
    ----------
    figure : str
        Name of the function.
    deals : Deals
        What it counted.
    arguments : mapping, optional
        The choices that were made.
    definitions : mapping of str to str, optional
        The formula of each column.
    notes : iterable of str
        Whatever a reader should know, in sentences.
    dated : bool, default False
        Whether the figure depends on close dates.
    **more
        Further facts, JSON-able.

    Returns
    -------
    dict
        JSON-able throughout.
    """
    counts = np.array([np.count_nonzero(deals.status == status) for status in range(5)])
    context = deals.context
    facts: dict[str, Any] = {
        "figure": figure,
        "n": len(deals),
        "n_open": counts[OPEN],
        "n_won": counts[WON],
        "n_lost": counts[LOST],
        "n_trashed": counts[TRASHED],
        "n_unsettled": counts[UNSETTLED],
        "as_of": context.as_of.isoformat(),
        "timezone": context.timezone or "UTC",
        "timezone_stated": context.timezone is not None,
        "history": "none",
        "stages": context.stages.to_dict(),
        **more,
        "arguments": {**context.arguments, **(arguments or {})},
        "definitions": dict(definitions or {}),
        "notes": [*_notes(deals, counts, dated), *notes],
    }
    plain: dict[str, Any] = to_json(facts)
    return plain


def build_history_basis(
    figure: str,
    context: FigureContext,
    *,
    n: int,
    compared: Iterable[State] = (),
    history: str = "snapshots",
    arguments: Mapping[str, Any] | None = None,
    definitions: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Collect what a figure over time stands on.

    Parameters
    ----------
    figure : str
        Name of the function.
    context : FigureContext
        That of the last moment.
    n : int
        Deals at the last moment.
    compared : iterable of State
        The moments whose deals had to be judged.
    history : str, default "snapshots"
        What kind of history it was.
    arguments, definitions, notes, **more
        As in `build_basis`.

    Returns
    -------
    dict
        JSON-able throughout.
    """
    said = []
    if context.timezone is None:
        said.append("no time zone was stated: days are days in UTC")
    if context.stages.guessed:
        said.append(_GUESSED)
    scope = context.scope
    unjudged = max((state.n_not_judged for state in compared), default=0)
    if scope is not None:
        said.append(f"scope: {scope.words}")
    if unjudged:
        said.append(
            f"{counted(unjudged, 'deal')} of earlier moments, gone before the load: nobody knows whether they are in "
            "scope, left out"
        )
    facts: dict[str, Any] = {
        "figure": figure,
        "n": n,
        "as_of": context.local_as_of.isoformat(),
        "timezone": context.timezone or "UTC",
        "timezone_stated": context.timezone is not None,
        "history": history,
        "stages": context.stages.to_dict(),
        "scope": None if scope is None else scope.words,
        "n_not_judged": unjudged,
        **more,
        "arguments": {**context.arguments, **(arguments or {})},
        "definitions": dict(definitions or {}),
        "notes": [*said, *notes],
    }
    plain: dict[str, Any] = to_json(facts)
    return plain


_GUESSED = "won and lost were guessed from the names of stages; opp.StageMap(won=[...], lost=[...]) states them"


def _notes(deals: Deals, counts: np.ndarray[Any, Any], dated: bool) -> list[str]:
    notes = []
    context = deals.context
    if context.stages.guessed:
        notes.append(_GUESSED)
    if counts[UNSETTLED]:
        words = ", ".join(f"{name} ({n})" for name, n in deals.unsettled_stages(deals.status == UNSETTLED).items())
        notes.append(
            f"{counted(counts[UNSETTLED], 'deal')} left out, in stages that nobody called open, won or lost: {words}"
        )
    if counts[TRASHED]:
        notes.append(f"{counted(counts[TRASHED], 'deal')} in the trash, left out")
    without = np.count_nonzero((deals.stage == -1) & (deals.status == OPEN))
    if without:
        notes.append(f"{counted(without, 'deal')} without a stage, taken as open")
    if dated and context.timezone is None:
        notes.append("no time zone was stated: days are days in UTC")
    if dated and (deals.close.days == NO_DAY).any():
        undated = (deals.close_day == NO_DAY) & ((deals.status == OPEN) | (deals.status == WON))
        if undated.any():
            notes.append(f"{counted(undated.sum(), 'open or won deal')} without a close date")
    return notes


def money_facts(deals: Deals) -> dict[str, Any]:
    """Give the facts about amounts and probabilities, for the bases of figures that sum money."""
    found = deals.money_counts
    n_with = np.count_nonzero(deals.status == OPEN) - found["missing_probability"]
    n_stage = found["from_stage"]
    facts: dict[str, Any] = {
        "currency": deals.currency,
        "n_missing_amount": found["missing_amount"],
        "probability": {
            "source": deals.probability,
            "own": n_with - n_stage,
            "stage": n_stage,
            "missing": found["missing_probability"],
            "invalid": found["invalid"],
        },
        "n_missing_probability": found["missing_probability"],
        "n_omitted": 0 if deals.omitted is None else np.count_nonzero(deals.omitted),
        "n_negative_amount": found["negative_amount"],
        "n_missing_currency": deals.n_missing_currency,
    }
    if deals.rates is not None:
        facts["rates"] = deals.rates.describe(deals)
    return facts


def money_notes(facts: Mapping[str, Any], deals: Deals) -> list[str]:
    """Say in sentences what the facts about amounts mean."""
    column = (
        "" if deals.has("probability") or deals.probability == "stage" else " (the frame has no probability column)"
    )
    found = (
        (facts["n_missing_amount"], "open or won deal", "without an amount: counted, never taken as 0"),
        (facts["n_missing_probability"], "open deal", f"without a probability{column}: outside weighted sums"),
        (facts["probability"]["invalid"], "open deal", "with a probability outside 0 to 100, taken as missing"),
        (facts["n_omitted"], "open deal", "omitted from the forecast: inside counts, outside every sum"),
        (facts["n_missing_currency"], "deal", f"without a currency, taken as {deals.organisation_currency}"),
        (facts["n_negative_amount"], "open or won deal", "with a negative amount, summed as it is"),
        (deals.n_contradicting_amounts, "deal", "whose amount_precise contradicts amount: amount counts"),
    )
    return [f"{counted(n, thing)} {words}" for n, thing, words in found if n]


def closed_later(deals: Deals) -> tuple[dict[str, int], list[str]]:
    """Count the won and lost deals that close after as_of, and say that they are left out, for a basis."""
    later = ((deals.status == WON) | (deals.status == LOST)) & (deals.close_day > deals.context.today)
    n = int(np.count_nonzero(later))
    words = f"{counted(n, 'won or lost deal')} with a close date after as_of: not closed yet, left out"
    return {"n_closed_later": n}, [words] if n else []


def counted(n: Any, thing: str) -> str:
    """Say how many: "1 open deal", "2 open deals"."""
    return f"{int(n):,} {thing}" + ("" if n == 1 else "s")


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
