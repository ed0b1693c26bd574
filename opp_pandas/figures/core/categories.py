"""The forecast category of every deal, and who said so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.deals import CLOSED, NO_CATEGORY, OPEN, PIPELINE, WON, Deals

BANDS = (90.0, 60.0)
"""Without a stated category: at least this percentage is commit, best case."""


@dataclass(frozen=True, eq=False)
class SettledCategories:
    """The forecast category of every deal.

    Parameters
    ----------
    codes : ndarray of int8, shape (n,)
        Position in `opp_pandas.stages.CATEGORIES`; -1 for lost deals and those outside.
    origins : dict of str to int
        Open deals by who said it: ``stated`` (column or stage map) or ``bands``.
    """

    codes: npt.NDArray[np.int8]
    origins: dict[str, int]


def resolve_categories(deals: Deals, bands: tuple[float, float] = BANDS) -> SettledCategories:
    """Settle the forecast category of every deal.

    Won deals are closed. An open deal takes the stated category; where nobody
    stated one, or somebody called an open deal closed, its probability decides:
    at least ``bands[0]`` percent is commit, ``bands[1]`` best case, all else
    pipeline, 0 percent and a missing percentage included.

    Parameters
    ----------
    deals : Deals
        The deals.
    bands : tuple of float, default (90, 60)
        Lowest percentage of commit and of best case [percent].

    Returns
    -------
    SettledCategories

    Raises
    ------
    ConfigurationError
        If the bands do not fall from 100 to 0.
    """
    commit, best_case = bands
    if not 100 >= commit >= best_case > 0:
        raise ConfigurationError(
            f"bands are percentages for commit and best case, falling, such as {BANDS}, not {bands}"
        )
    stated = deals.stated_category
    is_open = deals.status == OPEN
    # One-byte arithmetic: numpy chooses between single values far more slowly.
    codes = np.int8(NO_CATEGORY) + np.int8(CLOSED - NO_CATEGORY) * (deals.status == WON).view(np.int8)
    settled = np.zeros(len(deals), dtype=bool)
    if stated is not None:
        settled = is_open & (stated != NO_CATEGORY) & (stated != CLOSED)
        codes += settled.view(np.int8) * (stated - np.int8(NO_CATEGORY))
    n_stated, n_open = int(np.count_nonzero(settled)), int(np.count_nonzero(is_open))
    if n_stated < n_open:
        percent = deals.percent
        # Pipeline, best case and commit are 3, 2 and 1: each band that is reached takes one off.
        banded = np.int8(PIPELINE) - (percent >= best_case).view(np.int8) - (percent >= commit).view(np.int8)
        codes += (is_open & ~settled).view(np.int8) * (banded - np.int8(NO_CATEGORY))
    return SettledCategories(codes, {"stated": n_stated, "bands": n_open - n_stated})
