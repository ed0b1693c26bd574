"""Show a result with all that it stands on, which it folds away where it shows itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from opp_pandas.figures.core.basis import basis_of
from opp_pandas.figures.core.presentation import MOST_ROWS, Written, notes_of


@dataclass(frozen=True, eq=False)
class Shown:
    """A result with its basis, as text and as HTML; every text from the data is escaped."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def show(result: Any, *, max_rows: int = MOST_ROWS) -> Shown:
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

    Examples
    --------
    >>> opp.show(df.opp.undated())
    Open deals without a close date, as of 2026-11-02, amounts in USD
               count  amount weighted_amount
    owner_name
    Sam Novak      1  45,110          33,832
    - 279 deals; stages open: 'Qualify', 'Discover', 'Propose', 'Negotiate'; won: 'Closed Won'; lost: 'Closed Lost'
    - 2 deals in the trash, left out
    - 3 open or won deals without an amount: counted, never taken as 0
    """
    basis = basis_of(result)
    written = Written(result if isinstance(result, pd.DataFrame) else result.to_frame(), basis, max_rows)
    text = "\n".join([written.as_text(), *(f"- {line}" for line in notes_of(basis))])
    return Shown(text, written.as_html(folded=False))
