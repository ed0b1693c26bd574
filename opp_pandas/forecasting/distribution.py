"""The distribution of bookings: what the open deals may bring together.

Each deal is won whole or not at all. The exact distribution of the sum is the
product of the deals' own two-point distributions; it is multiplied out by fast
Fourier transform, smallest factors first, on a grid of amounts. Whole amounts
with a common divisor need no rounding at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas._html import as_page
from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.basis import BASIS_KEY, Facts, build_basis, counted
from opp_pandas.figures.core.deals import OPEN, STANDINGS, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.totals import Rows, tally
from opp_pandas.figures.forecasts import OPEN_CURRENT, OVERDUE, WON_BY_NOW, kinds_of
from opp_pandas.forecasting.convolution import added, furthest_apart, multiply
from opp_pandas.forecasting.normal import normal_cdf, normal_quantile

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Flags, Floats
    from opp_pandas.figures.core.lineage import Question, Trace
    from opp_pandas.figures.core.totals import Part

_EXACT_BINS = 1 << 20
_MOST_BINS = 1 << 21
_VARIANCE_ERROR = 1e-4
"""How much of the variance the grid may add; the standard deviation is off by half of it."""
_FEWEST_NODES, _MOST_NODES = 21, 1_281
_CDF_ERROR = 1e-4
_FEW = 64
"""Deals whose sums are lumps, at every value of their common luck."""
_COARSE, _MOST_BETWEEN, _TINY = 161, 8, 1e-12
"""Values of the common luck where the least is known of how the deals' mean moves with it."""
_SMALL, _SKEWED = 1 / 64, 2e-4
"""Deals are small below so much of the whole spread; skewness alone tells their shape where it moves so little."""
_POINTS, _FAR_OUT = 32.0, 9.0
"""Points a standard deviation at which chances are looked at; chances beyond so many are 0 and 1."""
_REACH, _GRID_REACH = 6.5, 5.5
"""Common luck beyond so many standard deviations is left out: 1 in 10^10 for moments, 1 in 10^7 for the whole."""

RHO = 0.0
"""Correlation of the deals where nobody states one: the same in bookings, report and dashboard."""
_WHOSE = {"own": "the sellers'", "stage": "the stages'", "own_else_stage": "the sellers', else the stages'"}


@dataclass(frozen=True, eq=False)
class Bookings:
    """The distribution of bookings: an amount already won and open deals that may be won.

    Parameters
    ----------
    amounts : ndarray of float, shape (n,)
        What each open deal would bring [currency].
    chances : ndarray of float, shape (n,)
        Its probability (0 to 1).
    won_amount : float, default 0
        What is won already and certain [currency]; inside every result.
    rho : float, default 0
        Correlation of the deals' hidden luck (one-factor Gaussian copula).
        0 means independent deals, which makes the distribution too narrow.
    cv : float, default 0
        Uncertainty of each amount: its standard deviation over itself.
    attrs : dict
        ``opp_basis``: what it stands on.

    Raises
    ------
    ConfigurationError
        If a chance is not between 0 and 1, an amount is missing, or `rho` or `cv` out of range.

    References
    ----------
    .. [1] Poisson-binomial distribution; Vasicek, one-factor Gaussian copula.

    Examples
    --------
    >>> deals = Bookings(np.array([100e3, 50e3, 20e3, 80e3]), np.array([0.5, 0.8, 0.1, 0.25]))
    >>> deals.mean, round(deals.sd, 4), deals.quantile(0.5), round(deals.p_at_least(120e3), 4)
    (112000.0, 64311.7408, 130000.0, 0.5325)
    """

    amounts: Floats
    chances: Floats
    won_amount: float = 0.0
    rho: float = RHO
    cv: float = 0.0
    attrs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        amounts, chances = np.asarray(self.amounts, dtype=np.float64), np.asarray(self.chances, dtype=np.float64)
        if amounts.shape != chances.shape or amounts.ndim != 1 or not np.isfinite(amounts).all():
            raise ConfigurationError("bookings need one finite amount and one chance for each deal")
        if not ((chances >= 0) & (chances <= 1)).all():
            raise ConfigurationError("chances lie between 0 and 1; percentages are divided by 100 first")
        if not 0 <= self.rho < 1:
            raise ConfigurationError(f"rho lies between 0 (independent deals) and 1, not {self.rho!r}")
        if not 0 <= self.cv <= 1:
            raise ConfigurationError(f"cv lies between 0 (amounts are certain) and 1, not {self.cv!r}")
        object.__setattr__(self, "amounts", amounts)
        object.__setattr__(self, "chances", chances)

    def _given(self, luck: float) -> Floats:
        """Return the chances of the deals at a value of the common luck."""
        if self.rho == 0:
            return self.chances
        return normal_cdf((self._luck_needed + math.sqrt(self.rho) * luck) / math.sqrt(1 - self.rho))

    def _nodes(self, number: int) -> list[tuple[float, Floats]]:
        """Return weight and conditional chances at equally spaced values of the common luck."""
        luck = _lucks(1 if self.rho == 0 else number)
        return [(weight, self._given(value)) for value, weight in zip(luck.tolist(), _weights(luck), strict=True)]

    @cached_property
    def _luck_needed(self) -> Floats:
        """Normal quantile of each chance."""
        return normal_quantile(self.chances)

    @cached_property
    def mean(self) -> float:
        """Expected bookings [currency]."""
        return self.won_amount + float(np.sum(self.amounts * self.chances))

    def _moments(self, chances: Floats) -> tuple[float, float]:
        """Return mean and variance of what independent deals of these chances bring [currency]."""
        mean = float(np.sum(self.amounts * chances))
        return mean, float(np.sum(self.amounts**2 * chances * (1 + self.cv**2 - chances)))

    @cached_property
    def sd(self) -> float:
        """Standard deviation of bookings [currency]."""
        nodes = self._nodes(161)
        means, variances = np.array([self._moments(p) for _, p in nodes]).T
        weights = np.array([weight for weight, _ in nodes])
        centre = np.sum(weights * means)
        return float(np.sqrt(np.sum(weights * (variances + (means - centre) ** 2))))

    @cached_property
    def _grid(self) -> tuple[float, float, Floats]:
        """Lowest amount, step and probabilities of the grid."""
        if self.rho == 0:
            first, pmf = self._averaged(1, {})
        elif (found := self._by_cumulants()) is not None:
            first, pmf = found
        else:
            known: dict[float, tuple[int, Floats]] = {}
            number = _FEWEST_NODES
            first, pmf = self._averaged(number, known)
            while number < _MOST_NODES:
                before, number = (first, pmf), 2 * number - 1
                first, pmf = self._averaged(number, known)
                if furthest_apart(before, (first, pmf)) < _CDF_ERROR:
                    break
        return self.won_amount + first * self.step, self.step, pmf

    def _averaged(self, number: int, known: dict[float, tuple[int, Floats]]) -> tuple[int, Floats]:
        """Average the distributions at so many values of the common luck: exact up to rounding once they overlap."""
        luck = _lucks(number, _GRID_REACH).round(12)
        for value in luck.tolist():
            if value not in known:
                known[value] = multiply(self.amounts, self._given(value), self.step, self.cv)
        parts = (known[value] for value in luck.tolist())
        return added([(start, weight * part) for weight, (start, part) in zip(_weights(luck), parts, strict=True)])

    def _by_cumulants(self) -> tuple[int, Floats] | None:
        """Average the distributions of many small deals by mean, spread and skewness; None where that is not enough.

        Where the mean moves by far more than the spread, all that counts of a
        distribution is its place: what is wrong in its shape cancels, the more so the
        higher the cumulant. So where skewness moves no probability by more than
        `_SKEWED`, but for amounts within a step, what is left out does not either.
        """
        won = np.abs(self.amounts) * self.chances
        if float(won @ np.abs(self.amounts)) >= _SMALL * self.sd * float(won.sum()):
            return None
        mean, sd, _ = self._cumulants(_lucks(_COARSE, _GRID_REACH))
        apart = float(np.max(np.abs(np.diff(mean)) / np.maximum(sd[1:], sd[:-1])))
        luck = _lucks((_COARSE - 1) * min(math.ceil(apart), _MOST_BETWEEN) + 1, _GRID_REACH)
        mean, sd, skewness = self._cumulants(luck)
        # Neighbours overlap, if need be by less than anybody can tell.
        sd = np.maximum(sd, np.abs(np.gradient(mean)))[:, np.newaxis]
        places = np.floor(mean[:, np.newaxis] - _REACH * sd) + np.arange(math.ceil(2 * _REACH * float(sd.max())) + 2)
        z = (places - 0.5 - mean[:, np.newaxis]) / sd
        bent = skewness[:, np.newaxis] / 6 * (1 - z**2) * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        whole = self.amounts / self.step * (1 + self.cv)
        low, high = math.floor(whole[whole < 0].sum()), math.ceil(whole[whole > 0].sum())
        bins = np.clip(places[:, :-1], low, high).astype(np.int64) - low
        weights = np.array(_weights(luck))[:, np.newaxis]
        plain, moved = (np.bincount(bins.ravel(), (weights * np.diff(cdf)).ravel()) for cdf in (normal_cdf(z), bent))
        one, two = np.cumsum(plain), np.cumsum(plain + moved)
        if max(float(np.max(two[:-1] - one[1:])), float(np.max(one[:-1] - two[1:]))) > _SKEWED:
            return None
        pmf = np.maximum(plain + moved, 0.0)
        first = int(np.flatnonzero(pmf)[0])
        return low + first, pmf[first:] / pmf.sum()

    def _cumulants(self, luck: Floats) -> tuple[Floats, Floats, Floats]:
        """Return mean and standard deviation [steps of the grid], and skewness, at values of the common luck."""
        # Deals of nearly one chance are one: each is shared by two points close to its own.
        scale = _POINTS / math.sqrt(1 - self.rho)
        point = np.clip(self._luck_needed, -_FAR_OUT, _FAR_OUT) * scale
        below = np.floor(point)
        points, place = np.unique(np.concatenate([below, below + 1]), return_inverse=True)
        share, scaled = np.concatenate([below + 1 - point, point - below]), np.tile(self.amounts / self.step, 2)
        one, two, three = (np.bincount(place, share * scaled**power) for power in (1, 2, 3))
        p = normal_cdf((points / scale + math.sqrt(self.rho) * luck[:, np.newaxis]) / math.sqrt(1 - self.rho))
        more = self.cv**2
        variance = np.maximum((p * (1 + more - p)) @ two, _TINY)
        third = (p * (1 + 3 * more - 3 * p * (1 + more) + 2 * p**2)) @ three
        return p @ one, np.sqrt(variance), third / variance**1.5

    @cached_property
    def _step(self) -> tuple[float, bool]:
        """Width of the grid, and whether every amount lies on it."""
        live = (self.amounts != 0) & (self.chances > 0)
        amounts, chances = np.abs(self.amounts[live]), self.chances[live]
        if not len(amounts):
            return 1.0, True
        total = float(amounts.sum()) * (1 + self.cv)
        cents = np.round(amounts * 100)
        # Between values of the common luck a distribution of many deals is smooth: no fine grid is needed.
        smooth = 0.0 if self.rho == 0 or len(amounts) <= _FEW else self.sd / 256
        if self.cv == 0 and np.array_equal(cents / 100, amounts) and cents.max() < 2**53:
            divisor = math.gcd(*(int(value) for value in np.unique(cents))) / 100
            if divisor >= smooth and total / divisor <= _EXACT_BINS / (1 if self.rho == 0 else 4):
                return divisor, True
        variance = self.sd**2
        step = 2 * math.sqrt(_VARIANCE_ERROR * variance / float(chances.sum())) if variance > 0 else total / _EXACT_BINS
        return max(step, smooth, total / _MOST_BINS), False

    @property
    def exact(self) -> bool:
        """Whether the distribution is exact.

        If not, each amount is split between two points of a grid of `step`,
        which keeps the mean; a probability asked for at exactly one deal's
        amount is then off by part of that deal's chance. Correlated deals are
        averaged over values of their common luck, more of them until no
        probability moves by 1e-4, thousands of small ones by their mean, spread
        and skewness there: close, and never called exact. Where hardly a deal is
        won, beside 0 at correlations near 1, their steps are smoothed: a
        probability is off by up to .04 there, within a typical deal's amount.
        """
        return self._step[1] and self.rho == 0

    @property
    def step(self) -> float:
        """Distance between neighbouring amounts of the distribution [currency]."""
        return self._step[0]

    @property
    def pmf(self) -> pd.Series:
        """Probability of each amount, indexed by the amount [currency]."""
        low, step, pmf = self._grid
        return pd.Series(pmf, index=pd.Index(low + step * np.arange(len(pmf)), name="bookings"), name="probability")

    @cached_property
    def _cdf(self) -> Floats:
        return np.minimum(np.cumsum(self._grid[2]), 1.0)

    def quantile(self, q: float) -> float:
        """Return the amount that bookings stay at or below with probability `q` (lower inverse of the distribution).

        Parameters
        ----------
        q : float
            Between 0 and 1.

        Returns
        -------
        float
            [currency].
        """
        if not 0 <= q <= 1:
            raise ConfigurationError(f"a quantile lies between 0 and 1, not {q!r}")
        low, step, pmf = self._grid
        # A little less than q, so that 0.5 is met by a sum of probabilities that should be 0.5.
        place = int(np.searchsorted(self._cdf, q - 1e-12)) if q > 0 else int(np.flatnonzero(pmf > 0)[0])
        return float(low + step * min(place, len(pmf) - 1))

    def p_at_least(self, amount: float) -> float:
        """Return the probability that bookings reach `amount` [currency]; missing where the amount is."""
        if pd.isna(amount):
            return math.nan
        if math.isinf(amount):
            return float(amount < 0)
        low, step, pmf = self._grid
        place = math.ceil((amount - low) / step - 1e-9)
        return float(np.clip(pmf[max(place, 0) :].sum(), 0.0, 1.0))

    def shortfall(self, amount: float) -> float:
        """Return by how much bookings miss `amount` on average, a surplus counting as 0 [currency]."""
        values = self.pmf
        return float(np.sum(np.maximum(amount - values.index.to_numpy(), 0.0) * values.to_numpy()))

    def interval(self, level: float = 0.8) -> tuple[float, float]:
        """Return the central interval that holds bookings with probability `level`."""
        return self.quantile(0.5 - level / 2), self.quantile(0.5 + level / 2)

    def crps(self, actual: float) -> float:
        """Score the distribution against what happened: continuous ranked probability score [currency]."""
        values = self.pmf
        distance = float(np.sum(np.abs(values.index.to_numpy() - actual) * values.to_numpy()))
        return distance - self._grid[1] * float(np.sum(self._cdf * (1 - self._cdf)))

    @property
    def correlation(self) -> float:
        """Correlation of the deals' luck, as it was given."""
        return self.rho

    @cached_property
    def wins(self) -> pd.Series:
        """Probability of each number of won deals."""
        deals = Bookings(np.ones(len(self.chances)), self.chances, rho=self.correlation)
        parts = [(weight, *multiply(deals.amounts, chances, 1.0, 0.0)) for weight, chances in deals._nodes(81)]
        total = np.zeros(len(self.chances) + 1)
        for weight, low, pmf in parts:
            # Beyond the number of deals stands rounding alone.
            total[low : low + len(pmf)] += weight * pmf[: len(total) - low]
        return pd.Series(total / total.sum(), index=pd.RangeIndex(len(total), name="wins"), name="probability")

    def among(self, kept: Flags) -> Bookings:
        """Return the distribution with some of the open deals only, and all that is won."""
        return Bookings(self.amounts[kept], self.chances[kept], self.won_amount, self.rho, self.cv)

    def drivers(self, amount: float, *, most: int = 10) -> pd.DataFrame:
        """Find the deals without which the chance of reaching `amount` falls most.

        Parameters
        ----------
        amount : float
            The target [currency].
        most : int, default 10
            Deals tried: those with the largest expected amount.

        Returns
        -------
        DataFrame, shape (most, 4)
            Indexed by the deal's position: ``amount`` [currency], ``probability``,
            ``p_without`` (chance without it), ``p_moved`` (by how much it falls).
        """
        order = np.argsort(-np.abs(self.amounts * self.chances), kind="stable")[:most]
        whole = self.p_at_least(amount)
        every = np.arange(len(self.amounts))
        without = [self.among(every != place).p_at_least(amount) for place in order.tolist()]
        table = pd.DataFrame(
            {
                "amount": self.amounts[order],
                "probability": self.chances[order],
                "p_without": np.array(without, dtype=np.float64),
                "p_moved": whole - np.array(without, dtype=np.float64),
            },
            index=pd.Index(self._positions[order], name="position"),
        )
        return table.sort_values("p_moved", ascending=False, kind="stable")

    @property
    def _positions(self) -> npt.NDArray[np.intp]:
        return np.asarray(self.attrs.get("positions", np.arange(len(self.amounts))), dtype=np.intp)

    @property
    def assumption(self) -> str:
        """What the width stands on, in words."""
        return "independent deals: too narrow" if self.rho == 0 else f"correlation {self.rho:g}"

    @property
    def is_tested(self) -> bool:
        """Whether past forecasts have shown how often the interval holds."""
        return False

    @property
    def tested(self) -> str:
        """What is known of how often the interval holds, in words."""
        probability = self.attrs.get(BASIS_KEY, {}).get("arguments", {}).get("probability")
        whose = _WHOSE.get(probability, "as given") if isinstance(probability, str) else "as given"
        return f"the percentages are {whose}, the interval is not tested"

    def to_frame(self) -> pd.DataFrame:
        """Return mean, spread and quantiles as a table of one row."""
        facts = {"deals": len(self.amounts), "won_amount": self.won_amount, "mean": self.mean, "sd": self.sd}
        quantiles = {f"p{int(q * 100)}": self.quantile(q) for q in (0.1, 0.25, 0.5, 0.75, 0.9)}
        return pd.DataFrame([facts | quantiles])

    def __repr__(self) -> str:
        low, high = self.interval(0.8)
        return (
            f"<Bookings of {counted(len(self.amounts), 'open deal')}: mean {self.mean:,.0f}, sd {self.sd:,.0f}, "
            f"80 % between {low:,.0f} and {high:,.0f}; {self.assumption}>"
        )

    def _repr_html_(self) -> str:
        return as_page(repr(self).strip("<>"), ("amounts", self.to_frame().map(lambda value: f"{value:,.0f}")))


def _lucks(number: int, reach: float = _REACH) -> Floats:
    return np.linspace(-reach, reach, number) if number > 1 else np.zeros(1)


def _weights(luck: Floats) -> list[float]:
    weights = np.exp(-(luck**2) / 2)
    return list(weights / weights.sum())


def _open_ones(deals: Deals, span: tuple[int, int] | None, overdue: str) -> Flags:
    """Return which open deals count in a period, or at all."""
    if span is None:
        return np.asarray(deals.standing == OPEN)
    kind, inside = kinds_of(deals), (deals.close_day >= span[0]) & (deals.close_day <= span[1])
    chosen = inside & (kind == OPEN_CURRENT)
    if overdue == "include":
        chosen |= inside & (kind == OVERDUE)
    elif overdue == "roll_forward" and span[0] <= deals.context.today <= span[1]:
        chosen |= kind == OVERDUE
    return np.asarray(chosen)


def _gather(deals: Deals, period: object = None) -> Part:
    span = None if period is None else deals.context.periods.span_of(period)
    chosen, won = _open_ones(deals, span, deals.context.money.overdue), np.full(STANDINGS, -1)
    if span:
        days = deals.close.days
        won = np.full((STANDINGS, len(days)), -1)
        won[WON, (days >= span[0]) & (days <= min(span[1], deals.context.today))] = 0
    known = chosen & ~np.isnan(deals.amount) & ~np.isnan(deals.percent)
    rows = np.flatnonzero(known)
    left_out = int(np.count_nonzero(chosen & ~known))
    return {
        "facts": Facts.of(deals, money=True, dated=period is not None, more={"left_out": left_out}),
        "won": tally(deals, [], ["won"], won),
        "open": Rows(pd.DataFrame({"amount": deals.amount[rows], "percent": deals.percent[rows], "position": rows})),
    }


_DEFINITIONS = {
    "won_amount": "what was won in the period by as_of",
    "mean": "won_amount + sum of amount x p",
    "sd": "square root of sum of amount^2 x p x (1 - p), plus what rho and cv add",
    "quantile": "smallest amount that bookings stay at or below with the given probability",
    "p_at_least": "probability that bookings reach an amount",
}


@figure(gather=_gather, heading="Distribution of bookings", definitions=_DEFINITIONS)
def bookings(
    part: Part,
    *,
    context: FigureContext,
    period: object = None,
    rho: float = RHO,
    cv: float = 0.0,
) -> Bookings:
    """Compute the distribution of what the open deals may bring, from their own or their stages' probabilities.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount`` and ``stage_id`` or ``stage_name``; with a
        `period` also ``close_date``.
    context : FigureContext
        Stages, moment, time zone, names.
    period : object, optional
        One period (``"2026Q4"``, a Period, a day in it): what was won in it by
        as_of, plus its open deals, so that the mean is ``forecast_amount``.
        Left out: all open deals and nothing won, so that the mean is the
        whole ``weighted_amount``.
    rho : float, default 0
        Correlation of the deals (one-factor Gaussian copula). 0, independent
        deals, makes the distribution too narrow; the basis says so.
    cv : float, default 0
        Uncertainty of each amount: standard deviation over amount.

    Returns
    -------
    Bookings
        ``.mean, .sd, .quantile(q), .p_at_least(x), .shortfall(x), .interval(level),
        .pmf, .wins, .drivers(x)``. Deals without an amount or a probability,
        and omitted ones, stand outside and are counted in the basis. No open
        deals: all of it at the amount won.

    Raises
    ------
    MissingColumnError
        If a needed column is not there.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.

    Examples
    --------
    >>> quarter = df.opp.bookings("2026Q4")
    >>> round(quarter.mean), round(quarter.quantile(0.1)), round(quarter.p_at_least(250_000), 2)
    (227693, 184834, 0.24)
    """
    facts, chosen = part["facts"], part["open"].frame
    won = float(part["won"].sums["amount"].sum() / part["won"].unit)
    more: dict[str, Any] = {}
    words = "all open deals, whenever they close; nothing that is won already"
    periods = context.periods
    if period is not None:
        label = more["period"] = str(periods.label(periods.parse(period)))
        words = f"bookings: what was won in {label} by as_of, and the open deals dated in it"
    notes = [words]
    if rho == 0:
        notes.append("deals are taken as independent: the distribution is too narrow (rho=0.1 shows how much)")
    left = facts.counts["left_out"]
    if left:
        notes.append(f"{counted(left, 'open deal')} in scope without an amount or a probability left out")
    arguments = {"period": more.get("period"), "rho": rho, "cv": cv}
    basis = build_basis(
        "bookings",
        context,
        facts,
        **more,
        n_deals=len(chosen),
        won_amount=won,
        title="Bookings" if rho else "Bookings, independent deals: too narrow",
        arguments=arguments,
        definitions=_DEFINITIONS,
        notes=notes,
    )
    amounts, chances, positions = (chosen[name].to_numpy() for name in ("amount", "percent", "position"))
    return Bookings(amounts, chances / 100.0, won, rho, cv, {BASIS_KEY: basis, "positions": positions})


@bookings.rows
def rows_of_bookings(ask: Question) -> Trace:
    """Find the deals behind a number, for `explain`."""
    deals, arguments = ask.deals, ask.arguments
    known = ~np.isnan(deals.amount)
    span = None if arguments["period"] is None else ask.periods.span_of(arguments["period"])
    open_ones = known & ~np.isnan(deals.percent) & _open_ones(deals, span, arguments["overdue"])
    won = np.zeros(len(deals), dtype=bool)
    if span:
        won = ask.within(arguments["period"]) & known & (kinds_of(deals) == WON_BY_NOW)
    if ask.column == "won_amount":
        return won, deals.amount
    share = np.where(won, 1.0, deals.percent / 100.0)
    return open_ones | won, deals.amount * share if ask.column == "mean" else None
