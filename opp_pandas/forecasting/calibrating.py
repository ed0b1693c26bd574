"""Whether probabilities come true: what was said at several moments, and what became of it.

What a probability is meant of has to be said: that the deal is won at all, that
it is won by the end of the period of its close date, or within so many days.
These are different questions, and one percentage cannot answer them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.basis import attach_basis, build_history_basis, counted
from opp_pandas.figures.core.days import NO_DAY, Codes, Days, Flags, Floats
from opp_pandas.figures.core.deals import LOST, OPEN, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.figures.core.snapshots import Snapshots, State, keys_of, later_of, read_states
from opp_pandas.figures.proportions import divide, wilson
from opp_pandas.forecasting.logistic import chance_of, fit_logistic, log_odds, with_ones
from opp_pandas.forecasting.scoring import brier, brier_skill, decompose, log_loss, put_in_bins, resampled

if TYPE_CHECKING:
    from opp_pandas.choices import Bins
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.periods import Periods

Target = Literal["ever", "period"] | int
"""What a probability is taken to say: won at all, by the end of its close date's period, within so many days."""

DEFINITIONS = {
    "p_low": "lowest probability in the bin",
    "p_high": "highest probability in the bin",
    "p_mean": "mean probability in the bin",
    "forecasts": "probabilities, one per deal and moment",
    "deals": "distinct deals among them",
    "won_count": "forecasts whose deal was won in time",
    "won_share": "won_count / forecasts",
    "won_share_low": "lower end of the Wilson interval of won_share, as if of `deals` trials",
    "won_share_high": "upper end of the same",
}
_SCORES = {
    "brier": "mean of (p - outcome)^2",
    "log_loss": "mean of -log(probability of what happened)",
    "skill": "1 - brier / brier of the base rate",
    "reliability": "part of the Brier score that recalibrating would save",
    "resolution": "what telling deals apart saves",
    "uncertainty": "Brier score of the base rate",
    "within_bins": "brier - (reliability - resolution + uncertainty)",
}
_COLUMNS = (
    "id", "custom_id", "amount", "probability", "close_date", "stage_id", "stage_name", "trashed_at",
    "forecast_category",
)  # fmt: skip
_DRAWS, _SEED = 1_000, 0
_LEAST = 0.01
"""A stated probability is kept so far off 0 and 1."""


@dataclass(frozen=True, eq=False)
class _Said:
    """What was said of the open deals at one moment, and until when each forecast runs."""

    as_of: pd.Timestamp
    keys: pd.Index
    p: Floats
    until: Days
    left_out: dict[str, int]


@figure(definitions=DEFINITIONS | _SCORES)
def calibration(
    history: Any,
    *,
    target: Target,
    times: Sequence[Any] | None = None,
    until: Any = None,
    context: FigureContext,
    bins: Bins | int | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare the probabilities that open deals had with how often such deals were won.

    Parameters
    ----------
    history : History or pair of DataFrame
        Snapshots, or the deals before and after.
    target : {"ever", "period"} or int
        What a probability is taken to say. "ever": the deal is won at all; only
        deals that are closed by `until` are scored, and as slow deals are more
        often lost than won, that makes probabilities look too low. "period":
        it is won by the end of the period that its close date was in. A
        number: it is won within so many days. In the last two a deal that is
        still open after its time counts as not won, and forecasts whose time is
        not over by `until` are left out whole.
    times : sequence of str, date or Timestamp
        For snapshots: the moments at which probabilities are taken, such as
        ``pd.date_range("2026-01-31", periods=6, freq="ME")``.
    until : str, date or Timestamp, optional
        For snapshots: the moment at which outcomes are taken; the newest snapshot if left out.
    context : FigureContext, optional
        What stages mean and in which zone days begin; those of the loads if left out.
    bins : {"isotonic", "fixed"} or int, optional
        How forecasts are put in bins: isotonic below 500 forecasts, else ten of equal width.
    level : float, default 0.95
        Confidence of all intervals.

    Returns
    -------
    DataFrame
        A row per bin, lowest first: ``p_low, p_high, p_mean`` [0 to 1],
        ``forecasts, deals, won_count``, ``won_share, won_share_low,
        won_share_high`` [0 to 1]. A deal at several moments is no new evidence,
        so the intervals count deals. The basis holds ``brier, log_loss, skill``
        and the parts of the Brier score, with intervals from drawing deals with
        replacement, and how many forecasts were left out, and why. Nothing to
        score: no rows, and missing scores.

    Raises
    ------
    HistoryNeededError
        Without a history.
    ConfigurationError
        If `target` is none of these, or a moment does not lie before `until`.

    References
    ----------
    .. [1] Murphy (1973) and Dimitriadis et al. (2021): see `opp_pandas.forecasting.scoring`.

    Examples
    --------
    >>> table = df.opp.calibration(history, target=90, times=["2026-05-10", "2026-07-10"], bins=3)
    >>> table[["p_mean", "deals", "won_share"]].round(2)
         p_mean  deals  won_share
    bin
    0      0.21     14       0.06
    1      0.52     36       0.27
    2      0.78     28       0.49
    """
    if isinstance(target, bool) or not (target in ("ever", "period") or (isinstance(target, int) and target > 0)):
        raise ConfigurationError(f"target is 'ever', 'period' or a number of days above 0, not {target!r}")
    periods = later_of(context).periods
    said, last, scored, p, outcome, counts = _collect(history, target, times, until, context)
    codes = put_in_bins(p, outcome, bins)
    deal = pd.factorize(scored)[0]
    table = reliability_table(p, outcome, codes, deal, level)
    scores = _scores(p, outcome, codes, deal, level)
    counts |= {name: sum(part.left_out[name] for part in said) for name in ("without_probability", "without_period")}
    basis = build_history_basis(
        "calibration",
        last.context,
        n=len(set(deal.tolist())),
        compared=[last],
        title=f"Calibration, {_in_short(target)}",
        n_forecasts=len(p),
        target=target,
        left_out=counts,
        **scores,
        arguments={"target": target, "moments": len(said), "bins": bins, "level": level},
        definitions=DEFINITIONS | _SCORES,
        notes=_notes(target, periods, scores, counts, len(p)),
    )
    return attach_basis(table, basis)


def _collect(
    history: Any, target: Target, times: Sequence[Any] | None, until: Any, context: FigureContext
) -> tuple[list[_Said], State, Any, Floats, Floats, dict[str, int]]:
    """Take down what was said at every moment, and find what became of it."""
    periods = later_of(context).periods
    moments = [] if times is None else list(times)
    if isinstance(history, Snapshots) and not moments:
        raise ConfigurationError("times= names no moment; pass days, such as pd.date_range(...)")
    states = read_states(history, [*moments, until], context=context, columns=_COLUMNS, what="calibration")
    last = next(states)
    said = []
    for state in states:
        said.append(_say(last.scoped, target, periods))
        last = state
    for part in said:
        if part.as_of >= last.context.as_of:
            raise ConfigurationError(f"{part.as_of} is not before {last.context.as_of}, when outcomes are taken")
    end = Deals(last.frame, last.context)
    scored, p, outcome, counts = _outcomes(said, end, target, last.context.today)
    return said, last, scored, p, outcome, counts


def _say(state: State, target: Target, periods: Periods) -> _Said:
    """Take down the probabilities of one moment."""
    deals = Deals(state.frame, state.context)
    is_open = deals.status == OPEN
    stated = is_open & ~np.isnan(deals.percent)
    until = _deadlines(deals, target, periods)
    rows = stated & (until != NO_DAY)
    left_out = {"without_probability": int((is_open & ~stated).sum()), "without_period": int((stated & ~rows).sum())}
    keys = pd.Index(keys_of(state.frame), dtype=object)
    return _Said(state.context.as_of, keys[rows], deals.percent[rows] / 100.0, until[rows], left_out)


def _in_words(target: Target, periods: Periods) -> str:
    if target == "ever":
        return "won at all"
    if target == "period":
        return f"won by the end of the period ({periods.words}) of the close date"
    return f"won within {counted(target, 'day')}"


def _in_short(target: Target) -> str:
    return {"ever": "won at all", "period": "won by its period's end"}.get(str(target), f"won within {target} days")


def _deadlines(deals: Deals, target: Target, periods: Periods) -> Days:
    """Return the day until which each deal's probability speaks; `NO_DAY` where nobody can say."""
    if target == "period":
        dated = deals.close_day != NO_DAY
        ends = np.full(len(deals), NO_DAY, dtype=deals.close_day.dtype)
        ends[dated] = periods.ends(periods.ordinals(deals.close_day[dated].astype(np.int64)))
        # The time of an overdue deal was over before it was asked about.
        ends[dated & (ends < deals.context.today)] = NO_DAY
        return ends
    # "ever" has no day; any that is over will do.
    last = deals.context.today + (target if isinstance(target, int) else 0)
    return np.full(len(deals), last, dtype=deals.close_day.dtype)


def _outcomes(
    said: Sequence[_Said], end: Deals, target: Target, today: int
) -> tuple[Any, Floats, Floats, dict[str, int]]:
    """Find what became of each forecast; those without an outcome are counted and left out."""
    keys = pd.Index([key for part in said for key in part.keys], dtype=object)
    p = np.concatenate([part.p for part in said])
    until = np.concatenate([part.until for part in said])
    rows = pd.Index(keys_of(end.frame), dtype=object).get_indexer(keys)
    status = np.where(rows >= 0, end.status[rows], -1)
    close = np.where((rows >= 0) & (end.close_day[rows] != NO_DAY), end.close_day[rows], today)
    known: Flags = np.isin(status, (OPEN, WON, LOST))
    settled: Flags = np.isin(status, (WON, LOST)) if target == "ever" else until <= today
    # A won deal closed on its close date, at the latest when it was seen won.
    in_time = (target == "ever") | (np.minimum(close, today) <= until)
    scored = known & settled
    won = (status == WON) & in_time
    counts = {"gone": int((~known).sum()), "not_over": int((known & ~settled).sum())}
    return keys[scored], p[scored], won[scored].astype(np.float64), counts


def reliability_table(p: Floats, outcome: Floats, codes: Codes, deal: Codes, level: float) -> pd.DataFrame:
    """Return the share won against the probability given, a row per bin; intervals count a deal once."""
    groups = pd.DataFrame({"p": p, "won": outcome, "deal": deal}).groupby(codes)
    table = groups.agg(
        p_low=("p", "min"),
        p_high=("p", "max"),
        p_mean=("p", "mean"),
        forecasts=("p", "size"),
        deals=("deal", "nunique"),
        won_count=("won", "sum"),
    ).astype({"forecasts": "int64", "deals": "int64", "won_count": "int64"})
    share = divide(table["won_count"], table["forecasts"])
    low, high = wilson(share * table["deals"].to_numpy(), table["deals"].to_numpy(), level)
    table.index = pd.RangeIndex(len(table), name="bin")
    return table.assign(won_share=share, won_share_low=low, won_share_high=high)


def _scores(p: Floats, outcome: Floats, codes: Codes, deal: Codes, level: float) -> dict[str, Any]:
    """Return the scores, and intervals of the Brier score and the skill from drawing deals with replacement."""
    scores: dict[str, Any] = {
        "base_rate": float(outcome.mean()) if len(p) else None,
        "mean_p": float(p.mean()) if len(p) else None,
        "brier": brier(p, outcome),
        "log_loss": log_loss(p, outcome),
        "skill": brier_skill(p, outcome),
        **decompose(p, outcome, codes),
    }
    columns = (np.ones(len(p)), outcome, (p - outcome) ** 2)
    n_deals = int(deal.max()) + 1 if len(deal) else 0
    sums = np.stack([np.bincount(deal, column, minlength=n_deals) for column in columns], axis=1)
    drawn = resampled(sums, _DRAWS, _SEED)
    n, won, squares = drawn.T
    base = divide(won, n)
    made = {"brier": divide(squares, n), "skill": 1 - divide(squares, n * base * (1 - base))}
    ends = (0.5 - level / 2, 0.5 + level / 2)
    for name, values in made.items():
        finite = values[np.isfinite(values)]
        scores[f"{name}_interval"] = np.quantile(finite, ends).tolist() if len(finite) else None
    return scores


def _notes(target: Target, periods: Periods, scores: dict[str, Any], counts: dict[str, int], n: int) -> list[str]:
    notes = [f"a probability is taken to say: {_in_words(target, periods)}"]
    why = {
        "not_over": "still open: nobody knows yet" if target == "ever" else "whose time was not over",
        "gone": "of deals that are deleted, in the trash or in stages without a meaning by now",
        "without_probability": "without a probability",
        "without_period": "without a close date, or with one in a period that was over already",
    }
    notes += [f"{counted(counts[name], 'forecast')} {words}, left out" for name, words in why.items() if counts[name]]
    if target == "ever" and counts["not_over"]:
        notes.append("open deals are left out, and slow ones are more often lost: the shares won are too high")
    if n:
        notes.append(
            f"mean probability {scores['mean_p']:.1%}, won {scores['base_rate']:.1%}; "
            f"Brier score {scores['brier']:.4f}, {scores['uncertainty']:.4f} for one probability for all"
        )
    if np.isinf(scores["log_loss"]):
        notes.append("the log loss is infinite: a deal at 0 % was won, or one at 100 % was not")
    return notes


class Recalibration:
    """Percentages set right by their own past: logistic in the stated log-odds, pulled to leaving them as they are.

    Parameters
    ----------
    pull : float, default 5
        As much as so many deals speaks for leaving percentages alone.

    Examples
    --------
    >>> from opp_pandas.forecasting import Recalibration
    >>> import numpy as np
    >>> said, came = np.array([0.8] * 10), np.array([1.0] * 4 + [0.0] * 6)
    >>> Recalibration().fit(said, came).apply(np.array([0.8])).round(2)
    array([0.49])
    """

    def __init__(self, pull: float = 5.0) -> None:
        self.pull = pull
        self.shift, self.slope = 0.0, 1.0

    def fit(self, p: Floats, outcome: Floats) -> Recalibration:
        """Learn from what was said, and what came."""
        # A deal whose log-odds are 1 weighs a quarter at most in the curve of the loss.
        pull, usual = self.pull / 4 * np.array([1.0, 2.0]), np.array([0.0, 1.0])
        weights = fit_logistic(with_ones(log_odds(p, _LEAST)), outcome, pull, usual)
        self.shift, self.slope = float(weights[0]), max(float(weights[1]), 0.0)
        return self

    def apply(self, p: Floats) -> Floats:
        """Return the recalibrated probabilities."""
        return chance_of(self.shift + self.slope * log_odds(p, _LEAST))


@figure(
    heading="Recalibrated percentages",
    definitions={
        "probability": "what the seller says [percent]",
        "recalibrated": "how often deals of which that was said were won [percent]",
    },
)
def recalibrate(
    history: Any,
    *,
    target: Target = "ever",
    times: Sequence[Any] | None = None,
    until: Any = None,
    context: FigureContext,
) -> pd.DataFrame:
    """Set the percentages of open deals right by what became of earlier ones, beside the sellers' own.

    Parameters
    ----------
    history : History or pair of DataFrame
        Snapshots, or the deals before and after.
    target : {"ever", "period"} or int, default "ever"
        What a probability is taken to say: the deal is won at all, by the end of
        its period, or within so many days.
    times : sequence of str, date or Timestamp
        For snapshots: the moments at which probabilities are taken.
    until : str, date or Timestamp, optional
        For snapshots: the moment at which outcomes are taken; the newest snapshot if left out.
    context : FigureContext, optional
        What stages mean and in which zone days begin; those of the loads if left out.

    Returns
    -------
    DataFrame
        A row per open deal with a percentage at `until`: ``id, probability,
        recalibrated`` [percent]. The basis holds ``shift`` and ``slope`` of the
        log-odds, and how many forecasts taught them.

    Examples
    --------
    >>> learned = df.opp.recalibrate(history, target=90, times=["2026-05-10", "2026-07-10"])
    >>> learned[["id", "probability", "recalibrated"]].head(2).round(0)
       id  probability  recalibrated
    0  25         75.0          47.0
    1  68         15.0           6.0
    """
    _, last, _, p, outcome, counts = _collect(history, target, times, until, context)
    # A deal at many moments is one witness: its forecasts share what became of it.
    fitted = Recalibration().fit(p, outcome)
    deals = Deals(last.scoped.frame, last.context)
    rows = (deals.status == OPEN) & ~np.isnan(deals.percent)
    percent = deals.percent[rows]
    table = pd.DataFrame(
        {
            "id": pd.Index(keys_of(last.scoped.frame), dtype=object)[rows],
            "probability": percent,
            "recalibrated": fitted.apply(percent / 100.0) * 100.0,
        }
    )
    basis = build_history_basis(
        "recalibrate",
        last.context,
        n=len(table),
        compared=[last],
        n_forecasts=len(p),
        shift=fitted.shift,
        slope=fitted.slope,
        left_out=counts,
        arguments={"target": target},
        definitions=recalibrate.definitions,
        notes=[f"learned from {counted(len(p), 'forecast')}: log-odds x {fitted.slope:.2f} + {fitted.shift:.2f}"],
    )
    return attach_basis(table, basis)
