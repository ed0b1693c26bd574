"""Results made presentable: a table with rounded numbers, and in words what it stands on."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas._html import as_written
from opp_pandas.errors import named, printable
from opp_pandas.figures.core.basis import basis_of, day_of_basis
from opp_pandas.figures.core.figure import FIGURES


@dataclass(frozen=True, eq=False)
class Shown:
    """A result with its basis, as text and as HTML; every text from the data is escaped."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return as_written(self.html)


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
    title = f"{_title(basis)}, as of {day_of_basis(basis)}"
    currency = f", amounts in {printable(basis['currency'], 20)}" if basis.get("currency") else ""
    foot = [stages_in_words(basis), *(printable(note) for note in basis["notes"])]
    if len(table) > max_rows:
        foot.insert(0, f"{len(table) - max_rows:,} more rows")
    text = "\n".join([title + currency, shown.to_string(), *(f"- {line}" for line in foot)])
    items = "".join(f"<li>{html.escape(line)}</li>" for line in foot)
    page = f"<h4>{html.escape(title + currency)}</h4>{shown.to_html(escape=True)}<ul>{items}</ul>"
    return Shown(text, page)


def _title(basis: dict[str, Any]) -> str:
    figure = FIGURES.get(basis["figure"])
    return str(basis.get("title") or (basis["figure"] if figure is None else figure.heading))


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
        # strftime knows no year above 9999, in which a quarter ends that has 9999-12-31 in it.
        return value.isoformat().partition("T")[0]
    if isinstance(value, bool | str) or not isinstance(value, int | float | np.integer | np.floating):
        return printable(value, 80)
    number = float(value)
    if "rate" in column or column in ("attainment", "attained", "step_conversion", "overall_conversion", "share"):
        return f"{number:.1%}"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if np.isinf(number):
        return "reached" if column == "coverage" else str(value)
    return f"{number:,.0f}" if abs(number) >= 1_000 or number == 0 else f"{number:,.2f}"


def stages_in_words(basis: dict[str, Any]) -> str:
    """Say how many deals there were, and which stages count as open, won and lost."""
    stages = basis["stages"]
    words = [f"{status}: {named(stages[status], 12)}" for status in ("open", "won", "lost") if stages.get(status)]
    return f"{basis['n']:,} deals; stages " + ("; ".join(words) or "none") + (" (guessed)" if stages["guessed"] else "")
