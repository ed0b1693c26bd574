"""Forecast categories: closed, commit, best case, pipeline, omitted, and who said so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from opp_pandas.analytics.deals import BEST_CASE, CLOSED, COMMIT, NO_CATEGORY, OPEN, PIPELINE, WON
from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from opp_pandas.analytics.deals import Deals

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


def settle_categories(deals: Deals, bands: tuple[float, float] = BANDS) -> SettledCategories:
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
    percent = deals.percent
    banded = np.where(percent >= commit, COMMIT, np.where(percent >= best_case, BEST_CASE, PIPELINE)).astype(np.int8)
    usable: npt.NDArray[Any]
    if stated is None:
        usable, codes = np.zeros(len(deals), dtype=bool), banded
    else:
        usable = (stated != NO_CATEGORY) & (stated != CLOSED)
        codes = np.where(usable, stated, banded)
    codes = np.where(is_open, codes, np.where(deals.status == WON, CLOSED, NO_CATEGORY)).astype(np.int8)
    n_stated = int((usable & is_open).sum())
    return SettledCategories(codes, {"stated": n_stated, "bands": int(is_open.sum()) - n_stated})
