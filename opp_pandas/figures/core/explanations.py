"""What is behind a number: its basis, the rows it was made of, and the formula."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, named, printable
from opp_pandas.figures.core.basis import basis_of, moment_of_basis
from opp_pandas.figures.core.context import MONEY_OPTIONS
from opp_pandas.figures.core.deals import Deals
from opp_pandas.figures.core.figure import FIGURES
from opp_pandas.figures.core.lineage import Question
from opp_pandas.figures.core.presentation import stages_in_words
from opp_pandas.figures.core.probabilities import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.money import Rates

_SHOWN = ("id", "custom_id", "name", "owner_name", "stage_name", "close_date", "amount", "probability")
_ADDED = ("contribution", "reasons")


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
        contributes (``contribution``, where the number is a sum, mean or median
        of them); empty when the whole result is explained.

    Examples
    --------
    >>> found = df.opp.explain(df.opp.forecast(), column="weighted_amount", at="2026Q4")
    >>> found.figure, round(found.value), len(found.rows), found.formula
    ('forecast', 162271, 19, 'the same amounts x probability')
    """

    figure: str
    basis: dict[str, Any]
    column: str | None
    at: Any
    value: float | None
    formula: str
    rows: pd.DataFrame

    def __repr__(self) -> str:
        moment = moment_of_basis(self.basis)
        as_of = f", as of {moment:%Y-%m-%d %H:%M}, days in {self.basis['timezone']}" if moment is not None else ""
        lines = [f"{self.figure}{as_of}"]
        if self.column is not None:
            where = "" if self.at is None else f" at {printable(self.at, 200)}"
            value = "missing" if self.value is None or pd.isna(self.value) else f"{self.value:,.6g}"
            lines += [
                f"{self.column}{where} = {value}",
                f"  = {self.formula}",
                f"  from {len(self.rows):,} deals: .rows",
            ]
            if len(self.rows):
                shown = self.rows[[name for name in (*_SHOWN, *_ADDED) if name in self.rows.columns]]
                lines += ["  " + line for line in shown.head(10).to_string(max_colwidth=30).splitlines()]
        else:
            lines += [f"  {name} = {formula}" for name, formula in self.basis["definitions"].items()]
        lines += [f"  {stages_in_words(self.basis)}", *(f"  - {printable(note)}" for note in self.basis["notes"])]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def explain(
    result: Any,
    frame: pd.DataFrame | None = None,
    *,
    context: FigureContext | None = None,
    column: str | None = None,
    at: Any = None,
    rates: Rates | None = None,
    scenarios: Mapping[str, Any] | None = None,
) -> Explanation:
    """Explain what a result stands on, or which rows and which formula made one of its numbers.

    Parameters
    ----------
    result : DataFrame or Bookings
        What a figure function returned.
    frame : DataFrame, optional
        The opportunities it was made from; needed for one number.
    context : FigureContext, optional
        As it was given to the figure; needed for one number.
    column : str, optional
        The number's column; of a `hygiene` table the check, of bookings
        ``mean``, ``sd``, ``quantile`` ... Left out: the whole result is explained.
    at : label, optional
        The number's row, as in the result's index (a tuple where it has levels);
        a period may be written as text. Of bookings the amount or share that
        was asked about. Not needed where there is one row.
    rates : ExchangeRates, mapping or DataFrame, optional
        As they were given to the figure.
    scenarios : mapping, optional
        As they were given to `scenario`.

    Returns
    -------
    Explanation

    Raises
    ------
    ConfigurationError
        If the result carries no basis, has no such row or column, or rows
        cannot be given for this kind of figure.

    Examples
    --------
    >>> table = df.opp.kpis()
    >>> opp.explain(table).basis["as_of"]
    '2026-11-02T15:00:00+00:00'
    >>> df.opp.explain(table, column="open_amount", at=0).value
    1205299.21
    >>> found = df.opp.explain(df.opp.forecast(), column="open_amount", at="2026Q4")
    >>> found.formula, len(found.rows)
    ('amounts of the open deals, overdue ones included, omitted ones left out', 19)
    """
    basis = basis_of(result)
    figure = str(basis["figure"])
    if column is None:
        return Explanation(figure, basis, None, None, None, "", pd.DataFrame())
    if frame is None or context is None:
        raise ConfigurationError("the rows behind a number are found in the frame: give frame and context as well")
    finder = FIGURES[figure].find_rows if figure in FIGURES else None
    if finder is None:
        found = [name for name, known in FIGURES.items() if known.find_rows is not None]
        other = f"rows are found for {named(found, 20)}"
        if figure == "waterfall":
            other = "waterfall_deals(..., bucket=...) lists the deals behind a bar"
        raise ConfigurationError(f"the rows behind a number of {figure} are not in one frame; {other}")
    if column not in basis["definitions"]:
        raise ConfigurationError(f"{column!r} is no column of this figure; there are {named(basis['definitions'], 30)}")
    if len(frame) != basis["n"]:
        raise ConfigurationError(f"the result was made from {basis['n']:,} rows, and this frame has {len(frame):,}")
    value, parts, row = _answer(result, basis, column, at)
    arguments = basis["arguments"]
    meant = {name: arguments.get(name) for name in MONEY_OPTIONS if name in arguments}
    if meant.get("probability") not in (None, *NAMES) and context.money.whose != meant.pop("probability"):
        raise ConfigurationError(f"give probability= as it was given to {figure}(): it is in no basis")
    deals = Deals(frame, context.with_definitions(**{**meant, "rates": rates}))
    question = Question(deals, basis, column, parts, row, {"scenarios": scenarios, "result": result})
    chosen, contribution, *changed = finder(question)
    frame = changed[0].frame if changed else frame
    if figure == "hygiene":
        value = float(chosen.sum())
    rows = frame[chosen]
    if contribution is not None:
        rows = rows.assign(contribution=contribution[chosen])
    rows.attrs = {}
    return Explanation(figure, basis, column, at, value, basis["definitions"][column], rows)


def _answer(
    result: Any, basis: dict[str, Any], column: str, at: Any
) -> tuple[float | None, tuple[Any, ...], pd.Series | None]:
    """Look the number up: its value, the labels of its row, and the row."""
    if not isinstance(result, pd.DataFrame):
        found = getattr(result, column)
        if not callable(found):
            return float(found), (), None
        if at is None:
            raise ConfigurationError(f"at must say what {column} was asked for, such as {column}(at)")
        return float(found(at)), (at,), None
    if basis["figure"] == "hygiene":
        return None, () if at is None else (at,), None
    if column not in result.columns:
        # A number about the whole table stands in its basis.
        value = basis[column]
        return None if value is None else float(value), (), None
    place = _find_row(result, at)
    value = result[column].iloc[place]
    label = result.index[place]
    parts = label if isinstance(label, tuple) else (label,)
    return None if pd.isna(value) else float(value), parts, result.iloc[place]


def _find_row(result: pd.DataFrame, at: Any) -> int:
    """Find the row that a user means."""
    index = result.index
    if at is None and len(result) == 1:
        return 0
    parts = tuple(at) if isinstance(at, tuple | list) else (at,)
    names = ", ".join(str(name or "row") for name in index.names)
    if len(parts) != index.nlevels or at is None:
        example = f", such as {index[0]!r}" if len(index) else ""
        raise ConfigurationError(
            f"at must name {names}{example}; it names {named(parts) if at is not None else 'none'}"
        )
    fits = np.ones(len(index), dtype=bool)
    for level, part in enumerate(parts):
        fits &= _fitting(index.get_level_values(level), part)
    places = np.flatnonzero(fits)
    if len(places) != 1:
        listed = named([str(label) for label in (index[places] if len(places) else index)], 8)
        words = f"fits {len(places)} rows; say which:" if len(places) else "is no row of this figure; there are"
        raise ConfigurationError(f"{named([str(at)])} {words} {listed}")
    return int(places[0])


def _fitting(labels: pd.Index, part: Any) -> np.ndarray[Any, Any]:
    """Return which labels a user means: the label itself, its text, a period, or a name without its id."""
    if part is None or part is pd.NaT or part is pd.NA or (isinstance(part, float) and np.isnan(part)):
        return np.asarray(labels.isna())
    if isinstance(labels, pd.PeriodIndex):
        try:
            return np.asarray(labels == pd.Period(part, freq=labels.freqstr))
        except ValueError as error:
            example = f"; write it like {str(labels[0])!r}" if len(labels) else ""
            raise ConfigurationError(f"{named([str(part)])} is not a period of this figure{example}") from error
    exact = np.array([label == part for label in labels], dtype=bool)
    if exact.any():
        return exact
    texts = [str(label) for label in labels]
    return np.array([text == str(part) or text.startswith(f"{part} (id ") for text in texts], dtype=bool)
