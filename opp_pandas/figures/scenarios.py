"""What if: the same figures after stated changes, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError, named
from opp_pandas.figures.core.basis import attach_basis, basis_of
from opp_pandas.figures.core.columns import read_mask, read_numbers
from opp_pandas.figures.core.deals import COMMIT, OPEN, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.groups import read_groups, resolve_categories
from opp_pandas.figures.core.lineage import Question, together
from opp_pandas.figures.forecasts import DEFINITIONS, forecast, rows_of_forecast
from opp_pandas.resource import LOOKUP_COLUMNS

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext

_SETTABLE = ("probability", "amount", "close_date", "forecast_category")
_COMPARED = ("open_count", "open_amount", "weighted_amount", "won_amount", "forecast_amount", "overdue_amount")
_DEFINITIONS = {
    **{name: DEFINITIONS[name] for name in _COMPARED},
    "change": "forecast_amount - that of 'as it is'",
}


@dataclass(frozen=True, eq=False)
class Change:
    """One change of a scenario; made by `set_values`, `scale`, `drop_largest` and `commit_lands`.

    Examples
    --------
    >>> from opp_pandas.figures import scale
    >>> scale(amount=0.9).words
    'amounts x 0.9, probabilities x 1'
    """

    words: str
    apply: Callable[[Deals], pd.DataFrame]
    """From the deals, read as the forecast reads them, to a changed frame."""


Step: TypeAlias = Change | Callable[[pd.DataFrame], pd.DataFrame]
Changes: TypeAlias = Step | Sequence[Step]


def set_values(where: Any = None, **values: Any) -> Change:
    """Set columns of some deals.

    Parameters
    ----------
    where : str, boolean mask or callable, optional
        A query text (``"amount > 100_000"``), a mask, or a function from frame
        to mask; all deals if left out.
    **values
        ``probability`` [percent], ``amount``, ``close_date`` (an instant with a
        zone) or ``forecast_category``.

    Returns
    -------
    Change

    Examples
    --------
    >>> from opp_pandas.figures import set_values
    >>> set_values("amount > 100_000", probability=50).words
    'probability = 50 where amount > 100_000'
    """
    unknown = [name for name in values if name not in _SETTABLE]
    if unknown or not values:
        raise ConfigurationError(f"a scenario sets {named(_SETTABLE)}, not {named(unknown) or 'nothing'}")

    def apply(deals: Deals) -> pd.DataFrame:
        if "probability" in values:
            _require_own_percentages(deals)
        rows = _rows(deals.frame, where)
        changed = deals.frame.copy()
        for name, value in values.items():
            # The forecast reads the category from the column that it was told.
            column = deals.money.category if name == "forecast_category" else name
            if column not in changed.columns:
                raise MissingColumnError([column], list(changed.columns), "The scenario sets it.")
            if name in ("probability", "amount"):
                # A column of whole numbers takes no 62.5 %.
                changed[column] = pd.array(read_numbers(changed[column]).floats, dtype="Float64")
                if name == "amount" and "amount_precise" in changed.columns:
                    # The cents of what was there are none of the new amount's.
                    changed["amount_precise"] = changed["amount_precise"].mask(rows)
            elif isinstance(changed[column].dtype, pd.CategoricalDtype):
                changed[column] = changed[column].astype(object)
            try:
                changed.loc[rows, column] = value
            except (TypeError, ValueError) as error:
                raise ConfigurationError(f"a scenario cannot set {column} to {value!r}: {error}") from error
        return changed

    listed = ", ".join(f"{name} = {value}" for name, value in values.items())
    return Change(listed + _where_in_words(where), apply)


def scale(where: Any = None, *, amount: float = 1.0, probability: float = 1.0) -> Change:
    """Multiply amounts and probabilities of some open deals; probabilities stop at 100.

    Parameters
    ----------
    where : str, boolean mask or callable, optional
        A query text (``"amount > 100_000"``), a mask, or a function from frame to
        mask; all open deals if left out.
    amount, probability : float, default 1
        Factors, 0 or more.

    Returns
    -------
    Change

    Examples
    --------
    >>> from opp_pandas.figures import scale
    >>> scale("owner_name == 'Ivan García'", amount=0.8).words
    "amounts x 0.8, probabilities x 1 where owner_name == 'Ivan García'"
    """
    if not (amount >= 0 and probability >= 0):
        raise ConfigurationError("scale takes factors of 0 or more")

    def apply(deals: Deals) -> pd.DataFrame:
        rows = _rows(deals.frame, where) & (deals.status == OPEN)
        changed = deals.frame.assign(amount=np.where(rows, deals.own_amount * amount, deals.own_amount))
        if probability != 1.0:
            _require_own_percentages(deals)
            scaled = np.minimum(deals.percent * probability, 100.0)
            changed = changed.assign(probability=np.where(rows, scaled, deals.percent))
        return changed.drop(columns="amount_precise", errors="ignore")

    return Change(f"amounts x {amount:g}, probabilities x {probability:g}{_where_in_words(where)}", apply)


def drop_largest(n: int) -> Change:
    """Leave out the n largest open deals.

    Parameters
    ----------
    n : int
        How many.

    Returns
    -------
    Change

    Examples
    --------
    >>> from opp_pandas.figures import drop_largest
    >>> sums = df.opp.scenario({"without the two largest": drop_largest(2)})["open_amount"].groupby("scenario").sum()
    >>> sums.round().tolist()
    [1205299.0, 1013628.0]
    """
    if n < 1:
        raise ConfigurationError(f"drop_largest takes 1 or more, not {n!r}")

    def apply(deals: Deals) -> pd.DataFrame:
        size = np.where(deals.status == OPEN, np.nan_to_num(deals.amount, nan=-np.inf), -np.inf)
        order = np.argsort(-size, kind="stable")[:n]
        kept = np.ones(len(deals), dtype=bool)
        kept[order[size[order] > -np.inf]] = False
        return deals.frame[kept]

    return Change(f"without the {n} largest open deals", apply)


def commit_lands() -> Change:
    """Take every open deal in commit as certain.

    Returns
    -------
    Change

    Examples
    --------
    >>> from opp_pandas.figures import commit_lands
    >>> commit_lands().words
    'every commit deal at 100 %'
    """

    def apply(deals: Deals) -> pd.DataFrame:
        _require_own_percentages(deals)
        commit = (resolve_categories(deals)[0] == COMMIT) & (deals.status == OPEN)
        return deals.frame.assign(probability=np.where(commit, 100.0, deals.percent))

    return Change("every commit deal at 100 %", apply)


def _require_own_percentages(deals: Deals) -> None:
    if deals.money.probability == "stage":
        raise ConfigurationError(
            "the scenario changes the deals' own percentages, and probability='stage' does not read them: "
            "leave it out, or take probability='own_else_stage'"
        )


def _where_in_words(where: Any) -> str:
    return "" if where is None else f" where {where if isinstance(where, str) else 'chosen'}"


def _rows(frame: pd.DataFrame, where: Any) -> Any:
    if where is None:
        return np.ones(len(frame), dtype=bool)
    if isinstance(where, str):
        try:
            found = frame.eval(where)
        except Exception as error:
            # What pandas raises depends on where in the text it stumbles.
            raise ConfigurationError(f"where={where!r} cannot be read: {error}") from error
    else:
        found = where(frame) if callable(where) else where
    return read_mask(found, frame, "where")


@figure(heading="Scenarios", definitions=_DEFINITIONS)
def scenario(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    scenarios: Mapping[str, Changes],
    by: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Compare the forecast as it is with the forecast after stated changes.

    Parameters
    ----------
    scenarios : mapping of str to Change, sequence of Change, or function
        What each scenario changes: `set_values`, `scale`, `drop_largest`,
        `commit_lands`, or any function from frame to frame.

    Returns
    -------
    DataFrame
        Indexed by ``scenario`` ("as it is" first), ``period`` and `by`.

    Raises
    ------
    ConfigurationError
        If a scenario is called "as it is", or is none of these.

    Examples
    --------
    >>> from opp_pandas.figures import scale, set_values
    >>> changes = {"smaller": scale(amount=0.8), "cautious": set_values("probability < 50", probability=0)}
    >>> df.opp.scenario(changes).xs("2026Q4", level="period")[["open_amount", "forecast_amount"]].round(2)
              open_amount  forecast_amount
    scenario
    as it is    296278.05        227692.94
    smaller     237022.44        199511.43
    cautious    296278.05        201199.00
    """
    if not isinstance(scenarios, Mapping):
        raise ConfigurationError(
            f"scenarios goes from name to changes, such as {{'bear': scale(amount=0.9)}}, "
            f"not {type(scenarios).__name__}"
        )
    if "as it is" in scenarios or not scenarios:
        raise ConfigurationError("scenarios needs at least one name, and 'as it is' is taken")

    whose = context.money.whose
    frame, context = _with_percentages(frame, context)
    stable = keep_names(frame, context, by)
    deals = Deals(frame, context)

    tables = {"as it is": forecast(frame, context=stable, by=by)}
    words = {}
    for name, changes in scenarios.items():
        steps = _steps(name, changes)
        words[name] = "; ".join(getattr(step, "words", getattr(step, "__name__", "changed")) for step in steps)
        tables[name] = forecast(apply_changes(deals, steps).frame, context=stable, by=by)
    base = tables["as it is"][list(_COMPARED)]
    parts = []
    for table in tables.values():
        compared = _with_rows_of(table[list(_COMPARED)], base)
        before = base["forecast_amount"].reindex(compared.index).fillna(0.0)
        parts.append(compared.assign(change=compared["forecast_amount"] - before))
    result = pd.concat(parts, keys=list(tables), names=["scenario"])
    basis = basis_of(tables["as it is"])
    basis |= {
        "figure": "scenario",
        "title": "Scenarios",
        "scenarios": words,
        "arguments": basis["arguments"] | {"probability": whose},
        "definitions": _DEFINITIONS | {name: basis["definitions"][name] for name in _COMPARED},
        "notes": [*basis["notes"], *(f"{name}: {what}" for name, what in words.items())],
    }
    return attach_basis(result, basis)


def _with_percentages(frame: pd.DataFrame, context: FigureContext) -> tuple[pd.DataFrame, FigureContext]:
    """Let a model's probabilities stand in the column of the sellers' own, where a scenario can change them."""
    if isinstance(context.money.probability, str):
        return frame, context
    percent = pd.array(Deals(frame, context).percent, dtype="Float64")
    return frame.assign(probability=percent), context.with_definitions(probability="own")


def keep_names(frame: pd.DataFrame, context: FigureContext, by: str | Sequence[str] | None) -> FigureContext:
    """Fix the labels of people and accounts, so that a namesake who drops out of a scenario changes no other's."""
    names: dict[str, dict[Any, str]] = {}
    for group in read_groups(Deals(frame, context), by):
        entry = LOOKUP_COLUMNS.get(group.name)
        if entry is not None and entry.relation != "stage":
            pairs = zip(group.keys, group.labels, strict=True)
            names.setdefault(entry.type, {}).update({key: str(label) for key, label in pairs if key is not None})
    lookups = dict(context.lookups)
    for kind, known in names.items():
        others = lookups.get(kind, pd.DataFrame({"id": [], "name": []}))[["id", "name"]]
        own = pd.DataFrame({"id": list(known), "name": list(known.values())}, dtype=object)
        lookups[kind] = pd.concat([others[~others["id"].isin(list(known))].astype(object), own], ignore_index=True)
    return replace(context, lookups=lookups)


def _steps(name: str, changes: Changes) -> list[Step]:
    steps: list[Any] = list(changes) if isinstance(changes, list | tuple) else [changes]
    for step in steps:
        if not isinstance(step, Change) and not callable(step):
            raise ConfigurationError(f"scenario {name!r} must be made of Change or functions, not {step!r}")
    return steps


def apply_changes(deals: Deals, changes: Changes) -> Deals:
    """Return the deals as one scenario has them; their frame itself stays as it is."""
    frame = deals.frame.copy()
    for step in _steps("", changes):
        frame = step.apply(replace(deals, frame=frame)) if isinstance(step, Change) else step(frame)
        if not isinstance(frame, pd.DataFrame):
            name = getattr(step, "__name__", "step")
            raise ConfigurationError(f"a scenario's function must give the changed frame; {name} gives {frame!r}")
    return replace(deals, frame=frame)


def _with_rows_of(table: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """Add the rows that only `base` has, all 0: what a change takes out of a period is a change too."""
    lost = base[~base.index.isin(table.index)]
    if not len(lost):
        return table
    whole = pd.concat([table, lost * 0])
    if whole.index.nlevels == 1:
        return whole.sort_index()
    return whole.sort_index(level=0, sort_remaining=False, kind="stable")


@scenario.rows
def rows_of_scenario(ask: Question) -> tuple[Any, ...]:
    """Find the deals behind a number, for `explain`, among those that the scenario made of them."""
    name, deals = ask.parts[0], ask.deals
    frame, context = _with_percentages(deals.frame, deals.context)
    deals = Deals(frame, context)
    if name != "as it is":
        scenarios = ask.options.get("scenarios") or {}
        if name not in scenarios:
            raise ConfigurationError(f"give scenarios= as they were given to scenario(), with {name!r} among them")
        stable = keep_names(deals.frame, deals.context, ask.arguments["by"])
        deals = apply_changes(replace(deals, context=stable), scenarios[name])
    question = replace(ask, deals=deals, parts=ask.parts[1:])
    groups = read_groups(deals, ask.arguments["by"])
    if any(part not in group.labels for group, part in zip(groups, ask.parts[2:], strict=True)):
        # The scenario left nothing of the group.
        return np.zeros(len(deals), dtype=bool), None if ask.column == "change" else np.zeros(len(deals)), deals
    if ask.column == "change":
        return *together(question, rows_of_forecast, ("forecast_amount",)), deals
    return *rows_of_forecast(question), deals
