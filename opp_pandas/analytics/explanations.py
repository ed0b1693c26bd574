"""What is behind a number: its basis, the rows it was made of, and the formula; and results made presentable."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.analytics.basis import basis_of
from opp_pandas.analytics.days import NO_DAY
from opp_pandas.analytics.deals import OPEN, TRASHED, Deals
from opp_pandas.analytics.forecasts import COLUMNS, CURRENT, LATE, Term, place_deals
from opp_pandas.analytics.groups import by_stage, combine, read_groups
from opp_pandas.analytics.money import Rates, read_rates
from opp_pandas.analytics.periods import WeekCalendar, resolve_periods
from opp_pandas.analytics.rates import closed_in, scopes_of
from opp_pandas.errors import ConfigurationError, named, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from opp_pandas.analytics.context import FigureContext
    from opp_pandas.analytics.days import Codes, Flags, Floats

_SHOWN = ("id", "custom_id", "name", "owner_name", "stage_name", "close_date", "amount", "probability")


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a number comes from.

    Parameters
    ----------
    figure : str
        The function that made it.
    basis : dict
        What the whole result stands on.
    column, at : str, object
        The number in question; None when the whole result is explained.
    value : float or None
        The number.
    formula : str
        How it is defined.
    rows : DataFrame
        The deals behind it, as they stand in the frame, and what each
        contributes (``contribution``, where the number is a sum); empty when
        the whole result is explained.
    """

    figure: str
    basis: dict[str, Any]
    column: str | None
    at: Any
    value: float | None
    formula: str
    rows: pd.DataFrame

    def __repr__(self) -> str:
        lines = [f"{self.figure}, as of {self.basis['as_of']}, days in {self.basis['timezone']}"]
        if self.column is not None:
            where = "" if self.at is None else f" at {printable(self.at, 200)}"
            value = "missing" if self.value is None or pd.isna(self.value) else f"{self.value:,.6g}"
            lines += [
                f"{self.column}{where} = {value}",
                f"  = {self.formula}",
                f"  from {len(self.rows):,} deals: .rows",
            ]
            if len(self.rows):
                shown = self.rows[[name for name in (*_SHOWN, "contribution") if name in self.rows.columns]]
                lines += ["  " + line for line in shown.head(10).to_string(max_colwidth=30).splitlines()]
        else:
            lines += [f"  {name} = {formula}" for name, formula in self.basis["definitions"].items()]
        lines += [f"  {_stages_in_words(self.basis)}", *(f"  - {printable(note)}" for note in self.basis["notes"])]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def _stages_in_words(basis: dict[str, Any]) -> str:
    stages = basis["stages"]
    words = [f"{status}: {named(stages[status], 12)}" for status in ("open", "won", "lost") if stages.get(status)]
    return f"{basis['n']:,} deals; stages " + ("; ".join(words) or "none") + (" (guessed)" if stages["guessed"] else "")


def explain(
    result: Any,
    frame: pd.DataFrame | None = None,
    *,
    context: FigureContext | None = None,
    column: str | None = None,
    at: Any = None,
    rates: Rates | None = None,
) -> Explanation:
    """Say what a result stands on, or which rows and which formula made one of its numbers.

    Parameters
    ----------
    result : DataFrame or other figure
        What a figure function returned.
    frame : DataFrame, optional
        The opportunities it was made from; needed for one number.
    context : FigureContext, optional
        As it was given to the figure; needed for one number.
    column : str, optional
        The number's column. Left out: the whole result is explained.
    at : label, optional
        The number's row, as in the result's index (a tuple where it has levels);
        a period may be written as text. Not needed where there is one row.
    rates : ExchangeRates, mapping or DataFrame, optional
        As they were given to the figure.

    Returns
    -------
    Explanation

    Raises
    ------
    ConfigurationError
        If the result carries no basis, has no such row or column, or rows
        cannot be given for this kind of figure.
    """
    basis = basis_of(result)
    if column is None:
        return Explanation(basis["figure"], basis, None, None, None, "", pd.DataFrame())
    if frame is None or context is None:
        raise ConfigurationError("the rows behind a number are found in the frame: give frame and context as well")
    if column not in basis["definitions"]:
        raise ConfigurationError(f"{column!r} is no column of this figure; there are {named(basis['definitions'], 30)}")
    finders: dict[str, Callable[..., tuple[Flags, Floats | None]]] = {
        "forecast": _forecast_rows,
        "stage_distribution": _stage_rows,
        "funnel": _stage_rows,
        "kpis": _kpi_rows,
    }
    if basis["figure"] not in finders:
        raise ConfigurationError(f"rows behind one number are given for {named(finders, 9)}, not for {basis['figure']}")
    if len(frame) != basis["n"]:
        raise ConfigurationError(f"the result was made from {basis['n']:,} rows, and this frame has {len(frame):,}")
    arguments = basis["arguments"]
    deals = Deals(
        frame,
        context,
        arguments["probability"],
        arguments["category"],
        arguments.get("category_names"),
        read_rates(rates),
    )
    chosen, contribution = finders[basis["figure"]](deals, arguments, column, at)
    rows = frame.loc[chosen] if frame.index.is_unique else frame[chosen]
    if contribution is not None:
        rows = rows.assign(contribution=contribution[chosen])
    rows.attrs = {}
    return Explanation(
        basis["figure"], basis, column, at, _value(result, column, at), basis["definitions"][column], rows
    )


def _value(result: pd.DataFrame, column: str, at: Any) -> float | None:
    if at is None and len(result) == 1:
        return float(result[column].iloc[0])
    try:
        found = result[column].loc[at if not isinstance(at, list) else tuple(at)]
    except (KeyError, TypeError):
        return None
    if isinstance(found, pd.Series):
        return float(found.iloc[0]) if len(found) == 1 else None
    return None if pd.isna(found) else float(found)


def _cell(groups: list[Any], parts: tuple[Any, ...]) -> int:
    if len(parts) != len(groups):
        names = ", ".join(group.name for group in groups) or "nothing"
        raise ConfigurationError(f"at must name {names}; it names {named(parts) or 'nothing'}")
    code = 0
    for group, part in zip(groups, parts, strict=True):
        code = code * len(group) + group.find(part)
    return code


def _parts(at: Any) -> tuple[Any, ...]:
    return () if at is None else tuple(at) if isinstance(at, tuple | list) else (at,)


def _forecast_rows(deals: Deals, arguments: dict[str, Any], column: str, at: Any) -> tuple[Flags, Floats | None]:
    if column not in COLUMNS:
        raise ConfigurationError(f"{column} is worked out from other columns; ask for one of {named(COLUMNS, 20)}")
    calendar = None if arguments["calendar"] is None else _calendar(arguments["calendar"])
    periods = resolve_periods(
        arguments["freq"],
        fiscal_start=arguments["fiscal_start"] if "-" not in arguments["freq"] else 1,
        fiscal_label=arguments["fiscal_label"],
        calendar=calendar,
    )
    cells = place_deals(deals, periods, arguments["by"])
    parts = _parts(at)
    if not parts:
        raise ConfigurationError("at must name a period, such as '2026Q4', and the groups after it")
    missing = parts[0] is None or parts[0] is pd.NaT or (isinstance(parts[0], float) and np.isnan(parts[0]))
    period = len(cells.ordinals) if missing else cells.period_code(periods.parse(parts[0]))
    group = _cell(cells.groups, parts[1:])
    here = cells.cell == period * cells.n_groups + group
    chosen, contribution = np.zeros(len(deals), dtype=bool), np.zeros(len(deals))
    terms = list(COLUMNS[column])
    if column == "forecast_amount" and arguments["overdue"] == "include":
        terms[1] = Term("weighted", (CURRENT, LATE))
    for term in terms:
        rows, values = _term(deals, cells.kind, term)
        chosen |= rows & here
        contribution[rows & here] = values[rows & here]
    if column == "forecast_amount" and arguments["overdue"] == "roll_forward" and not missing:
        today = int(periods.ordinals(np.array([deals.context.today]))[0])
        if periods.parse(parts[0]) == today:
            rows, values = _term(deals, cells.kind, Term("weighted", (LATE,)))
            rows = rows & (cells.cell % cells.n_groups == group)
            chosen |= rows
            contribution[rows] = values[rows]
    return chosen, contribution


def _calendar(facts: dict[str, Any]) -> WeekCalendar:
    starts = {int(year): day for year, day in facts["starts"].items()}
    first, second, third = facts["pattern"]
    return WeekCalendar((first, second, third), facts["week_start"], facts["rule"], starts)


def _term(deals: Deals, kind: Any, term: Term) -> tuple[Flags, Floats]:
    rows: Flags = np.isin(kind, term.kinds)
    amount, percent = deals.amount, deals.percent
    if term.quantity == "missing_amount":
        return rows & np.isnan(amount), np.ones(len(deals))
    if term.quantity == "missing_probability":
        return rows & np.isnan(percent), np.ones(len(deals))
    if term.quantity == "count":
        return rows, np.ones(len(deals))
    if term.quantity == "amount":
        return rows & ~np.isnan(amount), amount
    return rows & ~np.isnan(amount) & ~np.isnan(percent), amount * percent / 100.0


def _stage_rows(deals: Deals, arguments: dict[str, Any], column: str, at: Any) -> tuple[Flags, Floats | None]:
    groups = [*read_groups(deals, arguments["by"]), by_stage(deals)]
    cells: Codes = combine(groups, len(deals))[0]
    here = (cells == _cell(groups, _parts(at))) & (deals.status != TRASHED)
    summed = here if deals.omitted is None else here & ~deals.omitted
    amount = deals.amount
    if column == "count":
        return here, np.ones(len(deals))
    if column == "amount":
        return summed & ~np.isnan(amount), amount
    if column == "missing_amount_count":
        return here & np.isnan(amount), np.ones(len(deals))
    if column == "weighted_amount":
        product = amount * deals.percent / 100.0
        return summed & (deals.status == OPEN) & ~np.isnan(product), product
    raise ConfigurationError(f"{column} stands on the history, not on rows of the frame")


def _kpi_rows(deals: Deals, arguments: dict[str, Any], column: str, at: Any) -> tuple[Flags, Floats | None]:
    groups = read_groups(deals, arguments["by"])
    cells: Codes = combine(groups, len(deals))[0]
    here = cells == _cell(groups, _parts(at)) if groups else np.ones(len(deals), dtype=bool)
    is_open, summed, overdue, won, lost = scopes_of(deals, closed_in(deals, arguments["window_days"], None))
    amount = deals.amount
    known, ones = ~np.isnan(amount), np.ones(len(deals))
    product = amount * deals.percent / 100.0
    cycled = won & (deals.close_day != NO_DAY) & (deals.created_day != NO_DAY)
    cycle = deals.close_day.astype(np.float64) - deals.created_day
    both = won | lost
    scopes: dict[str, tuple[Flags, Floats | None]] = {
        "open_count": (is_open, ones),
        "open_amount": (summed & known, amount),
        "weighted_amount": (summed & ~np.isnan(product), product),
        "overdue_count": (overdue, ones),
        "overdue_amount": (overdue & summed & known, amount),
        "won_count": (won, ones),
        "lost_count": (lost, ones),
        "won_amount": (won & known, amount),
        "win_rate": (both, won.astype(np.float64)),
        "win_rate_low": (both, None),
        "win_rate_high": (both, None),
        "win_rate_value": (both & known, None),
        "average_won_amount": (won & known, amount),
        "median_won_amount": (won & known, amount),
        "median_cycle_days": (cycled, cycle),
        "missing_amount_count": ((is_open | both) & ~known, ones),
    }
    if column not in scopes:
        raise ConfigurationError(f"{column} is worked out from other columns; ask for one of {named(scopes, 20)}")
    rows, contribution = scopes[column]
    return rows & here, contribution


@dataclass(frozen=True, eq=False)
class Shown:
    """A result with its basis, as text and as HTML; every text from the data is escaped."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def show(result: Any, *, max_rows: int = 60) -> Shown:
    """Make a result presentable: the table with rounded numbers, and what it stands on.

    Parameters
    ----------
    result : DataFrame or other figure
        What a figure function returned.
    max_rows : int, default 60
        Rows shown.

    Returns
    -------
    Shown
        Prints as text, and as HTML in a notebook.

    Raises
    ------
    ConfigurationError
        If the result carries no basis.
    """
    basis = basis_of(result)
    table = result if isinstance(result, pd.DataFrame) else result.to_frame()
    shown = pd.DataFrame(
        {str(name): [_written(str(name), value) for value in table[name].iloc[:max_rows]] for name in table.columns},
        index=_printable_index(table.index[:max_rows]),
    )
    title = f"{basis.get('title', basis['figure'].replace('_', ' ').capitalize())}, as of {basis['as_of'][:10]}"
    currency = f", amounts in {printable(basis['currency'], 20)}" if basis.get("currency") else ""
    foot = [_stages_in_words(basis), *(printable(note) for note in basis["notes"])]
    if len(table) > max_rows:
        foot.insert(0, f"{len(table) - max_rows:,} more rows")
    text = "\n".join([title + currency, shown.to_string(), *(f"- {line}" for line in foot)])
    items = "".join(f"<li>{html.escape(line)}</li>" for line in foot)
    page = f"<h4>{html.escape(title + currency)}</h4>{shown.to_html(escape=True)}<ul>{items}</ul>"
    return Shown(text, page)


def _printable_index(index: pd.Index) -> pd.Index:
    def one(label: Any) -> str:
        return (
            "(no date)" if label is pd.NaT or (isinstance(label, float) and np.isnan(label)) else printable(label, 80)
        )

    if isinstance(index, pd.MultiIndex):
        return pd.MultiIndex.from_tuples([tuple(one(part) for part in key) for key in index], names=index.names)
    return pd.Index([one(label) for label in index], name=index.name, dtype=object)


def _written(column: str, value: Any) -> str:
    """Write one value: shares as percent, money without needless decimals."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, bool | str) or not isinstance(value, int | float | np.integer | np.floating):
        return printable(value, 80)
    number = float(value)
    if "rate" in column or column in ("attainment", "step_conversion", "overall_conversion", "share"):
        return f"{number:.1%}"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if np.isinf(number):
        return "reached" if column == "coverage" else str(value)
    return f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:,.2f}"
