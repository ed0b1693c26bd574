"""What a coming period will bring, as a distribution that knows its parts, its deals and its own record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas._html import as_page
from opp_pandas.errors import FrameError
from opp_pandas.forecasting.convolution import trim_pmf
from opp_pandas.forecasting.distribution import Bookings

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Flags, Floats
    from opp_pandas.forecasting.walk_forward import Walk
    from opp_pandas.forecasting.window_scores import Forecasts

ENOUGH_WINDOWS = 8
"""Windows that do not overlap, below which nothing is said about coverage and nothing is ranked."""
_BINS, _NODES = 8_192, 41


@dataclass(frozen=True, eq=False)
class Prediction(Bookings):
    """Bookings as the past teaches them: won to date, open deals, new deals, and a spread from past misses.

    The deals' own luck is multiplied out exactly; a common factor, log-normal
    with mean 1, adds what past windows showed beyond it.

    Parameters
    ----------
    amounts, chances : ndarray of float, shape (n,)
        Of the open deals: amounts [currency] and probabilities (0 to 1).
    won_amount : float
        Won to date [currency].
    rho, cv : float
        Correlation of the deals, and uncertainty of each amount.
    attrs : dict
        ``opp_basis``: what it stands on.
    new_numbers, new_amounts : ndarray of float
        New deals: how many are won on average, at each amount (compound Poisson).
    target_sd : float
        Standard deviation that past misses teach [currency]; 0 leaves the deals' own.
    parts : DataFrame
        ``won, open, new``: number of deals, mean [currency], share.
    deals : DataFrame
        A row per open deal: ``id, p, amount, expected_amount, age_days, zombie, reasons``.
    method : str
        Name of the method.
    why : str
        Why it was chosen.
    record : DataFrame
        One row: how it did in past windows.
    windows : DataFrame
        Those windows: ``as_of, until, forecast, low_80, high_80, actual``.
    weights : DataFrame
        What the mix was made of on each evening.
    target : str
        What is forecast, in words.
    quota : float, optional
        An amount to reach [currency].
    groups : DataFrame
        By group, where asked: ``open_deals, won, open, mean, low_80, high_80`` and,
        with quotas, ``p_quota, attainment``.

    Examples
    --------
    >>> from opp_pandas.forecasting import Prediction
    >>> coming = df.opp.predict(horizon_days=30, method="last_window", new_deals=False)
    >>> isinstance(coming, Prediction), coming.method
    (True, 'last_window')
    """

    new_numbers: Floats = field(default_factory=lambda: np.empty(0))
    new_amounts: Floats = field(default_factory=lambda: np.empty(0))
    target_sd: float = 0.0
    parts: pd.DataFrame = field(default_factory=pd.DataFrame)
    deals: pd.DataFrame = field(default_factory=pd.DataFrame)
    method: str = ""
    why: str = ""
    record: pd.DataFrame = field(default_factory=pd.DataFrame)
    windows: pd.DataFrame = field(default_factory=pd.DataFrame)
    weights: pd.DataFrame = field(default_factory=pd.DataFrame)
    target: str = ""
    quota: float | None = None
    groups: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def mean(self) -> float:
        """Expected bookings [currency]."""
        return super().mean + float(self.new_numbers @ self.new_amounts)

    @cached_property
    def sd(self) -> float:
        """Standard deviation of bookings [currency]."""
        return max(self.target_sd, float(np.sqrt(self.own_variance)))

    @cached_property
    def own_variance(self) -> float:
        """Variance of the deals' own luck, were they independent [currency squared]."""
        new = float(self.new_numbers @ self.new_amounts**2)
        return float(np.sum(self.amounts**2 * self.chances * (1 - self.chances))) + new

    @cached_property
    def common(self) -> float:
        """Variance that past misses showed beyond the deals' own luck, over the squared mean of what is not won yet."""
        return max(self.sd**2 - self.own_variance, 0.0) / max(self.mean - self.won_amount, 1e-9) ** 2

    @cached_property
    def correlation(self) -> float:
        """Correlation of the open deals' luck (one-factor Gaussian copula), fitted: it gives them that much spread."""
        alone = Bookings(self.amounts, self.chances)
        wanted = np.sqrt(alone.sd**2 + self.common * alone.mean**2)
        low, high = 0.0, 0.99
        while self.common > 0 and high - low > 1e-3:
            middle = (low + high) / 2
            low, high = (middle, high) if replace(alone, rho=middle).sd < wanted else (low, middle)
        return low

    def among(self, kept: Flags, *, won_amount: float | None = None, with_new: bool = True) -> Prediction:
        """Return the prediction of some of the open deals: what past misses showed falls on all alike."""
        won = self.won_amount if won_amount is None else won_amount
        numbers, amounts = (self.new_numbers, self.new_amounts) if with_new else (np.empty(0), np.empty(0))
        part = Prediction(self.amounts[kept], self.chances[kept], won, new_numbers=numbers, new_amounts=amounts)
        return replace(part, target_sd=float(np.sqrt(part.own_variance + self.common * (part.mean - won) ** 2)))

    @property
    def p_quota(self) -> float:
        """Probability that bookings reach the quota; missing without one."""
        return float("nan") if self.quota is None else self.p_at_least(self.quota)

    @property
    def attainment(self) -> float:
        """Expected bookings over the quota; missing without one."""
        return self.mean / self.quota if self.quota else float("nan")

    @cached_property
    def _grid(self) -> tuple[float, float, Floats]:
        """Lowest amount, step and probabilities: deals x new deals, then the common factor."""
        base = Bookings(self.amounts, self.chances)
        low, step, pmf = base._grid
        if len(self.new_numbers):
            pmf, extra = _with_new(pmf, step, self.new_numbers, self.new_amounts)
            low += extra
        values = low + step * np.arange(len(pmf))
        mean = float(values @ pmf)
        variance, wanted = float((values - mean) ** 2 @ pmf), self.sd**2
        if mean <= 0 or wanted <= variance * (1 + 1e-9):
            return self.won_amount + low, step, pmf
        # Var(U Y) = E U^2 E Y^2 - (E Y)^2 with E U = 1.
        square = (wanted + mean**2) / (variance + mean**2)
        sigma = float(np.sqrt(np.log(max(square, 1.0 + 1e-12))))
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        weights = weights / weights.sum()
        factors = np.exp(sigma * nodes - sigma**2 / 2)
        far = 12 * float(np.sqrt(wanted))
        # Credits are negative amounts: only with them can the sum be below 0.
        bottom = 0.0 if low >= 0 else min(low, mean - far)
        width = (max(float(values[-1]), mean + far) - bottom) / _BINS
        edges = bottom + width * np.arange(_BINS + 1)
        cdf = np.cumsum(pmf)
        whole = np.zeros(len(edges))
        for factor, weight in zip(factors, weights, strict=True):
            # Between two amounts of the grid the factor's own spread fills the gap.
            whole += weight * np.interp((edges + width / 2) / factor, values + step / 2, cdf, left=0.0, right=1.0)
        none = float(pmf[0]) if abs(low) < 1e-9 else 0.0
        whole = np.maximum(whole, none)
        out = np.diff(np.append(0.0, whole / whole[-1]))
        centre = float(edges @ out)
        # What the grid moved the mean by is moved back.
        if bottom < 0:
            return self.won_amount + bottom + mean - centre, width, out
        return self.won_amount, width * (mean / centre if centre > 0 else 1.0), out

    @property
    def exact(self) -> bool:
        """Whether the distribution is exact: with a factor learned from past misses it is an estimate."""
        return False

    @property
    def _independent(self) -> float:
        return float(self.record["independent"].iloc[0]) if len(self.record) else 0.0

    @property
    def is_tested(self) -> bool:
        """Whether enough past windows without overlap were forecast to say how often the interval holds."""
        return self._independent >= ENOUGH_WINDOWS

    @property
    def assumption(self) -> str:
        """What the width stands on, in words."""
        return f"method {self.method}"

    @property
    def tested(self) -> str:
        """What a backtest says of the interval, in a sentence; or how many more windows one needs."""
        if not self.is_tested:
            more = int(np.ceil(ENOUGH_WINDOWS - self._independent))
            return f"not tested yet: needs {more} more period" + ("" if more == 1 else "s")
        facts = self.record.iloc[0]
        return (
            f"in {facts['windows']:.0f} past windows the 80 % interval held {facts['coverage_80']:.0%} of the time, "
            f"the mean was off by {facts['wape']:.0%}"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return parts and total with the interval as a table."""
        low, high = self.interval(0.8)
        table = self.parts[["deals", "mean"]].copy()
        table.loc["total"] = [table["deals"].sum(), self.mean]
        table["low_80"], table["high_80"] = np.nan, np.nan
        table.loc["total", ["low_80", "high_80"]] = [low, high]
        return table

    def __repr__(self) -> str:
        low, high = self.interval(0.8)
        return (
            f"<Prediction, {self.target}: mean {self.mean:,.0f}, 80 % between {low:,.0f} and {high:,.0f}; "
            f"{self.tested}>"
        )

    def _repr_html_(self) -> str:
        shown = self.to_frame().map(lambda value: "" if pd.isna(value) else f"{value:,.0f}")
        return as_page(repr(self).strip("<>"), ("parts", shown), ("record", self.record.round(3)))


def _with_new(pmf: Floats, step: float, numbers: Floats, amounts: Floats) -> tuple[Floats, float]:
    """Convolve with a compound Poisson sum of new deals, on the same grid."""
    mean, sd = float(numbers @ amounts), float(np.sqrt(numbers @ amounts**2))
    size = len(pmf) + int(np.ceil((mean + 12 * sd) / step)) + 2
    padded = 1 << (size - 1).bit_length()
    place = amounts / step
    floor = np.floor(place).astype(np.int64)
    part = place - floor
    keep = floor + 1 < padded
    jumps = np.bincount(floor[keep], numbers[keep] * (1 - part[keep]), minlength=padded)
    jumps = jumps + np.bincount(floor[keep] + 1, numbers[keep] * part[keep], minlength=padded)
    product = np.fft.rfft(pmf, padded) * np.exp(np.fft.rfft(jumps) - numbers.sum())
    found, cut = trim_pmf(np.maximum(np.fft.irfft(product, padded), 0.0))
    return found / found.sum(), cut * step


def outlook(walk: Walk, forecasts: Forecasts, won: float = 0.0) -> Prediction:
    """Return the distribution of the coming window: the deals' own luck, brought to what was forecast."""
    chances, amounts = walk.deals_at(-1)
    open_mean, new_mean = float(np.sum(chances * amounts)), float(walk.new[1][-1])
    if open_mean < 0:
        raise FrameError(
            f"the open deals are expected to bring {open_mean:,.0f}: amounts below 0 outweigh the others, and what is "
            "forecast is a sum above 0; leave credits out: df[~(df['amount'] < 0)]"
        )
    share = open_mean / (open_mean + new_mean) if open_mean + new_mean > 0 else float(not walk.new_deals)
    total = float(forecasts.mean[-1])
    scaled = _scaled(chances, amounts, total * share)
    numbers, values = _new_part(walk, max(total - float(scaled @ amounts), 0.0))
    return Prediction(amounts, scaled, won, new_numbers=numbers, new_amounts=values, target_sd=float(forecasts.sd[-1]))


def _new_part(walk: Walk, mean: float) -> tuple[Floats, Floats]:
    """Spread what new deals bring over the amounts that deals were won at."""
    past = walk.past
    won = past.amount[past.won & ~np.isnan(past.amount) & (past.amount > 0)]
    if mean <= 0 or not len(won):
        return np.empty(0), np.empty(0)
    values = np.unique(np.quantile(won, np.arange(0.025, 1, 0.05)))
    return np.full(len(values), mean / float(values.sum())), values


def _scaled(chances: Floats, amounts: Floats, wanted: float) -> Floats:
    """Return 1 - (1 - p)^f for the f with which the expected amount is `wanted`, as far as it can be."""
    if not len(chances) or wanted <= 0 or not (amounts * chances).sum() > 0:
        return np.zeros_like(chances)
    log_rest = np.log1p(-np.minimum(chances, 1 - 1e-9))
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(np.sum(amounts * -np.expm1(np.exp(middle) * log_rest))) < wanted:
            low = middle
        else:
            high = middle
    return np.asarray(np.clip(-np.expm1(np.exp((low + high) / 2) * log_rest), 0.0, 1.0))


def facts_of(record: dict[str, Any], independent: float) -> pd.DataFrame:
    """Return a record as a frame of one row."""
    return pd.DataFrame([{"windows": record["windows"], "independent": independent, **record}])
