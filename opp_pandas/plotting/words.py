"""Plots in words, for people who hear the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from opp_pandas.analytics.basis import BASIS_KEY
from opp_pandas.errors import printable
from opp_pandas.plotting.canvas import currency_of, row_names

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd


def alt_text(table: pd.DataFrame) -> str:
    """Say in words what the plot of a table shows, for people who hear the page.

    Parameters
    ----------
    table : DataFrame
        A finished figure.

    Returns
    -------
    str
        Two or three sentences with the largest and the total numbers.
    """
    basis = table.attrs.get(BASIS_KEY, {})
    figure = str(basis.get("figure", "table")).replace("_", " ")
    day = str(basis.get("as_of", ""))[:10]
    head = f"{figure.capitalize()}{f', as of {day}' if day else ''}, {len(table)} rows."
    if not len(table):
        return f"{head} There is nothing to show."
    says: dict[str, Callable[[], str]] = {
        "forecast_amount": lambda: _money_sentence(table, "forecast_amount"),
        "amount": lambda: _money_sentence(table, "amount"),
        "win_rate": lambda: _rate_sentence(table),
        "coverage": lambda: _coverage_sentence(table),
    }
    return " ".join([head, *(say() for column, say in says.items() if column in table.columns)])


def _money_sentence(table: pd.DataFrame, column: str) -> str:
    values = table[column]
    place = int(np.argmax(np.nan_to_num(values.to_numpy(dtype=float), nan=-np.inf)))
    words = column.replace("_", " ")
    currency = currency_of(table)
    unit = "" if currency == "amount" else f" {printable(currency, 20)}"
    where = row_names(table.iloc[[place]], "all deals")[0]
    return f"Total {words} {values.sum():,.0f}{unit}; largest {values.iloc[place]:,.0f}{unit} in {where}."


def _rate_sentence(table: pd.DataFrame) -> str:
    rate = table["win_rate"].dropna()
    if not len(rate):
        return "No deals were closed."
    if len(rate) == 1:
        low, high = table["win_rate_low"].dropna().iloc[0], table["win_rate_high"].dropna().iloc[0]
        return f"Win rate {rate.iloc[0]:.0%}, interval {low:.0%} to {high:.0%}."
    return f"Win rates from {rate.min():.0%} to {rate.max():.0%}."


def _coverage_sentence(table: pd.DataFrame) -> str:
    known = table["coverage"].dropna()
    reached = int(np.isinf(known).sum())
    finite = known[np.isfinite(known)]
    words = f"{reached} of {len(known)} quotas reached." if len(known) else "No quota."
    return words if not len(finite) else f"{words} Coverage from {finite.min():.1f} to {finite.max():.1f}."
