"""A model of which deals are won, from what is known of them: ridge logistic regression, or anybody's classifier.

It learns from closed deals, needs no dates, and says how good it is on deals
that it has not seen: cross-validated, with exact copies of a row in one fold,
for a model that has seen a copy knows the answer.

Where the activity on the deals is known, or a window is asked for, deals teach as
they were seen every few weeks while they were open (landmarks), with their age and
what was known of their touches then: the counts of a whole life would know how long
it was.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.activity.features import DAY_S, FEATURES, KnownTouches
from opp_pandas.errors import ConfigurationError, FrameError, MissingColumnError
from opp_pandas.figures.core.columns import factorize
from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.figures.core.deals import LOST, OPEN, WON, Deals
from opp_pandas.figures.core.figure import figure
from opp_pandas.forecasting.as_of_view import MOST_LEVELS, NEVER_KNOWN_EARLY, why_filled_late, why_not_known_early
from opp_pandas.forecasting.calibrating import reliability_table
from opp_pandas.forecasting.logistic import chance_of, fit_logistic, log_odds, with_ones
from opp_pandas.forecasting.past_touches import known_activity
from opp_pandas.forecasting.scoring import brier, log_loss, put_in_bins
from opp_pandas.resource import TOUCH_COLUMNS

if TYPE_CHECKING:
    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes, Flags, Floats

_MISSING = "(missing)"
_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_FOLDS, _DRAWS = 10, 500
_AT_THE_END = ("close_date", "updated_at", "trashed_at", "created_at", "external_created_at")
_VIEW_DAYS, _MOST_VIEWS = 21, 20
AGE = "age"
_AGES = np.array([0, 15, 31, 61, 91, 151, 241, 366, 731])
"""Where bands of age begin [days]."""
_TOO_GOOD = 0.97
"""An area under the curve that one column alone does not reach unless it knows the end."""


@dataclass(frozen=True, eq=False)
class _Encoder:
    """How columns become numbers: labels one by one, numbers standardised, missing ones a level of their own."""

    labels: dict[str, tuple[str, ...]]
    numbers: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, frame: pd.DataFrame, features: Sequence[str]) -> _Encoder:
        labels, numbers = {}, {}
        for name in features:
            column = frame[name]
            if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
                values = _signed_log(column)
                known = values[~np.isnan(values)]
                spread = float(known.std()) if len(known) else 0.0
                numbers[name] = (float(known.mean()) if len(known) else 0.0, spread or 1.0)
            else:
                labels[name] = tuple(_words(column).value_counts().index[:MOST_LEVELS])
        return cls(labels, numbers)

    def encode(self, frame: pd.DataFrame) -> tuple[Floats, list[tuple[str, str]]]:
        """Return a matrix, and for each of its columns the feature and the value that it stands for."""
        columns: list[Floats] = []
        names: list[tuple[str, str]] = []
        missing = [name for name in (*self.labels, *self.numbers) if name not in frame.columns]
        if missing:
            raise MissingColumnError(missing, list(frame.columns), "The model was fitted with them.")
        for name, levels in self.labels.items():
            words = _words(frame[name]).to_numpy()
            for level in levels:
                columns.append((words == level).astype(np.float64))
                names.append((name, level))
        for name, (centre, spread) in self.numbers.items():
            values = _signed_log(frame[name])
            absent = np.isnan(values)
            columns.append(np.where(absent, 0.0, (values - centre) / spread))
            names.append((name, ""))
            columns.append(absent.astype(np.float64))
            names.append((name, _MISSING))
        return np.column_stack(columns) if columns else np.empty((len(frame), 0)), names


def _words(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), _MISSING).astype(str)


def _signed_log(column: pd.Series) -> Floats:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


class RidgeLogistic:
    """Logistic regression whose weights are pulled to zero; the intercept is not.

    Parameters
    ----------
    strength : float
        Of the pull: half of it times the squared weights is added to the loss.

    Examples
    --------
    >>> from opp_pandas.forecasting import RidgeLogistic
    >>> model = df.opp.fit_win_model(features=["amount"], estimator=RidgeLogistic(strength=10.0))
    >>> int(model.evaluation["n"].iloc[0]) > 100
    True
    """

    def __init__(self, strength: float = 3.0) -> None:
        self.strength = strength
        self.weights: Floats = np.empty(0)

    def fit(self, x: Floats, y: Floats) -> RidgeLogistic:
        """Fit by Newton's method, on one thread."""
        pull, usual = np.full(x.shape[1] + 1, self.strength), np.zeros(x.shape[1] + 1)
        pull[0] = 1e-6
        start = usual.copy()
        start[0] = np.log((y.sum() + 0.5) / (len(y) - y.sum() + 0.5))
        self.weights = fit_logistic(with_ones(x), y, pull, usual, start=start)
        return self

    def predict_proba(self, x: Floats) -> Floats:
        """Return the probabilities of losing and winning, shape (n, 2)."""
        p = chance_of(with_ones(x) @ self.weights)
        return np.column_stack([1 - p, p])


@dataclass(frozen=True, eq=False)
class WinModel:
    """A fitted model of which deals are won.

    Parameters
    ----------
    features : tuple of str
        The columns that it stands on.
    evaluation : DataFrame
        One row, of deals not seen: ``n, groups, brier, brier_base, log_loss, auc,
        ece, ece_low, ece_high``.
    reliability : DataFrame
        The same deals in bins of their probability, with the share won.
    warnings : tuple of str
        Columns that were left out, and why.

    Examples
    --------
    >>> model = df.opp.fit_win_model(features=["amount", "owner_name"])
    >>> model.reasons(df.head(1), n=1)
    0    owner_name Dmitri Lee: odds x 1.35
    Name: reasons, dtype: str
    >>> model.warnings
    ()
    """

    features: tuple[str, ...]
    evaluation: pd.DataFrame
    reliability: pd.DataFrame
    warnings: tuple[str, ...]
    _encoder: _Encoder = field(repr=False)
    _classifier: Any = field(repr=False)
    _centre: Floats = field(repr=False)
    _touches: KnownTouches | None = field(default=None, repr=False)
    _as_of: pd.Timestamp | None = field(default=None, repr=False)
    horizon_days: int | None = None

    def predict(
        self, frame: pd.DataFrame, *, activity: pd.DataFrame | None = None, as_of: pd.Timestamp | None = None
    ) -> pd.Series:
        """Return the probability that each deal is won, within `horizon_days` where the model has them, a fraction.

        Parameters
        ----------
        frame : DataFrame
            With the columns that the model was fitted with.
        activity : DataFrame, optional
            For a model that was fitted with activity: newer one.
        as_of : Timestamp, optional
            For such a model, or one of a window: the moment at which the deals are looked at;
            nothing that was put down or done later is seen. Default the moment of the fit.
        """
        x, _ = self._encoder.encode(self._as_seen(frame, activity, as_of))
        return pd.Series(self._classifier.predict_proba(x)[:, 1], index=frame.index, name="p_won")

    def _as_seen(self, frame: pd.DataFrame, activity: pd.DataFrame | None, as_of: Any) -> pd.DataFrame:
        """Return the frame with age and what is known of touches, where the model stands on them."""
        if self._as_of is None:
            return frame
        touches = self._touches
        if touches is not None and activity is not None:
            touches = KnownTouches.of(activity) or touches.without_any()
        moment: Any = self._as_of if as_of is None else as_of
        at = np.full(len(frame), pd.Timestamp(moment).timestamp())
        return _join_views(frame, touches, _created(frame), at, AGE in self.features)

    def reasons(self, frame: pd.DataFrame, n: int = 3) -> pd.Series:
        """Return in words what moves each deal's odds away from the mean deal's, strongest first.

        Parameters
        ----------
        frame : DataFrame
        n : int, default 3
            How many reasons.
        """
        frame = self._as_seen(frame, None, None)
        x, names = self._encoder.encode(frame)
        if isinstance(self._classifier, RidgeLogistic):
            parts = (x - self._centre) * self._classifier.weights[1:]
        else:
            parts = self._by_replacement(x)
        features = list(dict.fromkeys(name for name, _ in names))
        table = np.zeros((len(frame), len(features)))
        for column, (name, _) in enumerate(names):
            table[:, features.index(name)] += parts[:, column]
        order = np.argsort(-np.abs(table), axis=1, kind="stable")[:, :n]
        shown = {name: _words(frame[name]).to_numpy() for name in features}
        words = [
            "; ".join(
                f"{features[f]} {shown[features[f]][row]}: odds x {np.exp(table[row, f]):.2f}" for f in order[row]
            )
            for row, best in enumerate(order)
        ]
        return pd.Series(words, index=frame.index, name="reasons", dtype="str")

    def _by_replacement(self, x: Floats) -> Floats:
        """Measure each column by what its mean in place of its value does to the odds."""
        own = log_odds(self._classifier.predict_proba(x)[:, 1], 1e-6)
        parts = np.zeros_like(x)
        for column in range(x.shape[1]):
            other = x.copy()
            other[:, column] = self._centre[column]
            parts[:, column] = own - log_odds(self._classifier.predict_proba(other)[:, 1], 1e-6)
        return parts


_DEFINITIONS = {
    "brier": "mean of (p - outcome)^2 over deals that the model was not fitted to",
    "log_loss": "-mean of log p of what came",
    "ece": "mean distance of p from the share won, over tenths of the deals",
    "auc": "chance that a won deal has a higher p than a lost one",
}


@figure(heading="Model of won deals", definitions=_DEFINITIONS)
def fit_win_model(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    features: Sequence[str] | None = None,
    estimator: Any = None,
    activity: pd.DataFrame | Literal[False] | None = None,
    horizon_days: int | None = None,
) -> WinModel:
    """Learn from closed deals which are won, or won within a window, and say how well on deals not seen.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``stage_id`` or ``stage_name``; closed ones teach. Dates are not needed.
    context : FigureContext
        Stages, moment, time zone.
    features : sequence of str, optional
        Columns to learn from; left out, all labels and numbers that may have
        been known before the end.
    estimator : object, optional
        A classifier with ``fit(X, y)`` and ``predict_proba(X)``, copied for every fit;
        ridge logistic regression if left out, its strength by cross-validation.
    activity : DataFrame or False, optional
        What was done on the deals, as `read_activity` gives it; left out, that of
        the load, if it has any; False: none. It needs ``id`` and dates of creation and closing.
        Deals then teach as they were seen every three weeks while they were open,
        and the evaluation is of such views.
    horizon_days : int, optional
        Learn whether a deal is won within so many days, from such views of closed and
        open deals, those whose window is over; their age counts then. Left out: whether it is won at all.

    Returns
    -------
    WinModel
        ``.predict(frame)``, ``.reasons(frame)``, ``.evaluation``, ``.warnings``. A
        missing label is a level of its own.

    Raises
    ------
    FrameError
        If fewer than 20 deals were won, or lost, or nothing is left to learn from.

    Examples
    --------
    >>> model = df.opp.fit_win_model(features=["amount", "owner_name"])
    >>> list(model.evaluation.columns[:3])
    ['n', 'groups', 'brier']
    >>> model.predict(df.head(3)).between(0, 1).tolist()
    [True, True, True]
    """
    deals = Deals(frame, context)
    ended: Flags = np.isin(deals.status, (WON, LOST))
    if deals.has("close_date"):
        # What closes after the moment is open at it.
        ended &= deals.close_day <= context.today
    won = ended & (deals.status == WON)
    if min((ended & won).sum(), (ended & ~won).sum()) < 20:
        raise FrameError("a model of won deals needs 20 won and 20 lost ones to learn from")
    chosen, warned = _choose(deals, ended, won, features)
    touches = known_activity(frame, activity)
    if touches is not None and not _are_enough(deals, touches, ended & _are_dated(deals), won):
        touches = None
        warned.append("activity is left out: it is on too few closed deals with dates of creation and closing")
    rows, seen, viewed = np.flatnonzero(ended), frame[ended], touches is not None or horizon_days is not None
    outcome = won[rows].astype(np.float64)
    if viewed:
        added = [*([] if horizon_days is None else [AGE]), *([] if touches is None else FEATURES)]
        chosen += added
        rows, outcome, moments = _views(deals, ended, horizon_days)
        begun = deals.created_day[rows].astype(np.float64) * DAY_S
        seen = _join_views(frame.iloc[rows], touches, begun, moments, horizon_days is not None)
    if not chosen:
        raise FrameError("no column is left that may have been known before the end; name some with features=[...]")
    encoder = _Encoder.of(seen, chosen)
    x, _ = encoder.encode(seen)
    # Copies of a deal, and the views of one, know each other's end.
    copies = encoder.encode(seen.assign(**dict.fromkeys(added, 0.0)))[0] if viewed else x
    groups = pd.factorize(pd.util.hash_pandas_object(pd.DataFrame(copies), index=False))[0]
    folds = _folds(groups)
    classifier, p = _fit(x, outcome, folds, estimator, once=viewed)
    p = np.clip(p, 0.0, 1.0)
    evaluation = _evaluate(p, outcome, groups)
    reliability = reliability_table(p, outcome, put_in_bins(p, outcome), groups, 0.9)
    return WinModel(
        tuple(chosen), evaluation, reliability, tuple(warned), encoder, classifier, x.mean(axis=0), touches,
        context.as_of if viewed else None, horizon_days,
    )  # fmt: skip


def _are_dated(deals: Deals) -> Flags:
    """Return which deals have dates of creation and closing, in this order."""
    if not deals.has("close_date"):
        return np.zeros(len(deals), dtype=bool)
    created, close = deals.created_day, deals.close_day
    return np.asarray((created != NO_DAY) & (close != NO_DAY) & (close > created) & (close <= deals.context.today))


def _are_enough(deals: Deals, touches: KnownTouches, dated: Flags, won: Flags) -> bool:
    touched = dated & deals.frame["id"].isin(touches.deals).to_numpy(dtype=bool)
    return int(min((touched & won).sum(), (touched & ~won).sum())) >= 20


def _views(deals: Deals, ended: Flags, horizon_days: int | None) -> tuple[Codes, Floats, Floats]:
    """Return deals as they were seen every few weeks while they were open: positions, outcomes, moments [s].

    Of a window open deals teach as well, and only views whose window is over.
    """
    over, today = ended & _are_dated(deals), deals.context.today
    created = deals.created_day.astype(np.int64)
    last = np.where(over, deals.close_day, today).astype(np.int64)
    taught = over
    if horizon_days is not None:
        last = np.minimum(last - over, today - horizon_days)
        taught = (over | (np.isin(deals.status, (OPEN, WON, LOST)) & ~ended)) & (created != NO_DAY) & (last >= created)
    rows = np.flatnonzero(taught)
    number = np.minimum((last - created)[rows] // _VIEW_DAYS + 1, _MOST_VIEWS)
    positions = np.repeat(rows, number)
    place = np.arange(len(positions)) - np.repeat(np.cumsum(number) - number, number)
    days = created[positions] + place * _VIEW_DAYS
    won = (over & (deals.status == WON))[positions]
    if horizon_days is not None:
        won &= deals.close_day[positions] <= days + horizon_days
        if min(won.sum(), (~won).sum()) < 20:
            raise FrameError(
                f"a model of windows of {horizon_days} days needs deals with dates of creation and closing, "
                f"seen 20 times before a win within one; these were seen {won.sum():,} times"
            )
    return positions, won.astype(np.float64), days * np.float64(DAY_S)


def _created(frame: pd.DataFrame) -> Floats:
    """Return when deals were created [s since 1970]; NaN where that is unknown."""
    found = np.full(len(frame), np.nan)
    for name in ("created_at", "external_created_at"):
        if name in frame.columns:
            moments = pd.to_datetime(frame[name], utc=True).astype("datetime64[s, UTC]")
            seconds = moments.astype(np.int64).to_numpy().astype(np.float64)
            found = np.where(np.isnan(found) & moments.notna().to_numpy(), seconds, found)
    return found


def _join_views(
    frame: pd.DataFrame, touches: KnownTouches | None, created: Floats, moments: Floats, with_age: bool
) -> pd.DataFrame:
    if with_age:
        days = np.floor(moments / DAY_S) - np.floor(created / DAY_S)
        band = np.searchsorted(_AGES, np.nan_to_num(days), side="right") - 1
        names = np.array([*(f"{low} to {high - 1} days" for low, high in pairwise(_AGES)), f"{_AGES[-1]} days or more"])
        frame = frame.assign(**{AGE: np.where(np.isnan(days), _MISSING, names[np.maximum(band, 0)])})
    if touches is None:
        return frame
    ids = frame["id"].to_numpy(dtype=np.int64, na_value=-1) if "id" in frame.columns else np.full(len(frame), -1)
    table = touches.features(ids, created, moments)
    return frame.assign(**{name: table[name].to_numpy() for name in FEATURES})


def _choose(deals: Deals, ended: Flags, won: Flags, features: Sequence[str] | None) -> tuple[list[str], list[str]]:
    frame, chosen, warned = deals.frame, [], []
    if features is not None:
        deals.need(*features, hint="features= names columns of the frame.")
    still_open = np.flatnonzero((deals.status == OPEN) & ~ended)
    for name in frame.columns if features is None else features:
        column = frame[name]
        late = name in NEVER_KNOWN_EARLY or name in _AT_THE_END or name in TOUCH_COLUMNS
        if features is None and (late or column[ended].isna().all()):
            continue
        number = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            continue
        if number:
            why = _why_number_knows(deals, column, ended, won)
        else:
            try:
                codes, labels = factorize(column)
            except ConfigurationError:
                continue
            if features is None and len(labels) > MOST_LEVELS:
                continue
            why = why_not_known_early(np.asarray(codes), won, ended, ended | (deals.status == 0))
        if why := why or why_filled_late(deals, column, still_open):
            warned.append(f"column {name!r} seems to be known only at the end: {why}")
            if features is None:
                continue
        chosen.append(str(name))
    return chosen, warned


def _why_number_knows(deals: Deals, column: pd.Series, ended: Flags, won: Flags) -> str:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes = np.where(np.isnan(values), -1, 0)
    why = why_not_known_early(codes, won, ended, ended | (deals.status == 0))
    if why and "differ" not in why:
        return why
    known = ended & ~np.isnan(values)
    if known.sum() < 20 or np.ptp(values[known]) == 0:
        return ""
    if deals.has("close_date"):
        dated = known & (deals.created_day != NO_DAY) & (deals.close_day != NO_DAY)
        lasted = (deals.close_day - deals.created_day)[dated].astype(np.float64)
        if len(lasted) >= 20 and np.ptp(lasted) > 0 and np.ptp(values[dated]) > 0:
            like = abs(float(np.corrcoef(values[dated], lasted)[0, 1]))
            if like > 0.95:
                return f"it follows the time from creation to closing (correlation {like:.2f})"
    if min(won[known].sum(), (~won[known]).sum()) >= 10:
        area = _auc(values[known], won[known].astype(np.float64))
        if max(area, 1 - area) > _TOO_GOOD:
            return f"alone it tells won from lost deals (area under the curve {max(area, 1 - area):.2f})"
    return ""


def _folds(groups: Codes, number: int = _FOLDS) -> Codes:
    """Deal groups out into folds at random; copies of a row stay together."""
    order = np.random.default_rng(0).permutation(int(groups.max()) + 1)
    return np.asarray(order[groups] % number)


def _new(estimator: Any) -> Any:
    if not (hasattr(estimator, "fit") and hasattr(estimator, "predict_proba")):
        raise ConfigurationError("estimator must have fit(X, y) and predict_proba(X), as scikit-learn's do")
    # A pipeline shares its steps with what is built from its parameters; a copy shares nothing.
    return copy.deepcopy(estimator)


def _out_of_fold(x: Floats, y: Floats, folds: Codes, make: Any) -> Floats:
    p = np.empty(len(y))
    for fold in np.unique(folds):
        test = folds == fold
        p[test] = make().fit(x[~test], y[~test]).predict_proba(x[test])[:, 1]
    return p


def _fit(x: Floats, y: Floats, folds: Codes, estimator: Any, *, once: bool) -> tuple[Any, Floats]:
    if estimator is not None:
        return _new(estimator).fit(x, y), _out_of_fold(x, y, folds, lambda: _new(estimator))
    best = _strength(x, y, folds)
    if once:
        # Many views of a deal: one choice among few strengths knows next to nothing of a fold, and costs a tenth.
        return RidgeLogistic(best).fit(x, y), _out_of_fold(x, y, folds, lambda: RidgeLogistic(best))
    p = np.empty(len(y))
    for fold in np.unique(folds):
        # The strength is chosen inside the other folds: what it is tested on has no say.
        test = folds == fold
        own = _strength(x[~test], y[~test], folds[~test])
        p[test] = RidgeLogistic(own).fit(x[~test], y[~test]).predict_proba(x[test])[:, 1]
    return RidgeLogistic(best).fit(x, y), p


def _strength(x: Floats, y: Floats, folds: Codes) -> float:
    coarse = folds % 5
    scores = [brier(_out_of_fold(x, y, coarse, lambda s=s: RidgeLogistic(s)), y) for s in _STRENGTHS]
    return _STRENGTHS[int(np.argmin(scores))]


def _evaluate(p: Floats, y: Floats, groups: Codes) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in range(int(groups.max()) + 1)] if len(p) < 20_000 else None
    drawn = []
    for _ in range(_DRAWS):
        if members is None:
            rows = rng.integers(0, len(p), len(p))
        else:
            rows = np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))])
        drawn.append(expected_calibration_error(p[rows], y[rows]))
    # Noise only ever adds to this error: what drawing again adds to it is taken off both ends.
    error = expected_calibration_error(p, y)
    low, high = np.maximum(np.quantile(drawn, (0.05, 0.95)) - (float(np.mean(drawn)) - error), 0.0)
    facts = {
        "n": len(p),
        "groups": int(groups.max()) + 1,
        "brier": brier(p, y),
        "brier_base": float(y.mean() * (1 - y.mean())),
        "log_loss": log_loss(np.clip(p, 1e-6, 1 - 1e-6), y),
        "auc": _auc(p, y),
        "ece": error,
        "ece_low": float(low),
        "ece_high": float(high),
    }
    return pd.DataFrame([facts])


def expected_calibration_error(p: Floats, y: Floats, bins: int = 10) -> float:
    """Return the mean distance of probability and share won over bins of equal numbers of deals."""
    order = np.argsort(p, kind="stable")
    parts = np.array_split(order, min(bins, max(len(p), 1)))
    return float(sum(len(rows) * abs(float(p[rows].mean() - y[rows].mean())) for rows in parts if len(rows)) / len(p))


def _auc(score: Floats, y: Floats) -> float:
    ranks = pd.Series(score).rank().to_numpy()
    n = y.sum()
    if n in (0, len(y)):
        return float("nan")
    return float((ranks[y == 1].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))
