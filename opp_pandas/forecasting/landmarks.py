"""What sellers state of open deals as evidence, weighed by its own record: a landmark model.

On every evening of a walk (a landmark) each open deal has its probability by the
hazards, and what its seller states: a percentage, a close date, a stage. Whether
it was won within the window teaches a logistic regression, pulled to what the
hazards say: with little history nothing is added to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.errors import MissingExtraError
from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.forecasting.logistic import chance_of, fit_logistic, log_odds, with_ones

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Flags, Floats
    from opp_pandas.forecasting.as_of_view import Snapshot

_PULL = 1.0
_TREES = {"max_iter": 60, "learning_rate": 0.08, "max_leaf_nodes": 8, "min_samples_leaf": 40, "l2_regularization": 5.0}
"""Small trees, few of them: an organisation has hundreds of wins, not millions."""
_STAGES = 12
_MOST_ROWS = 40_000


def is_dated_within(snapshot: Snapshot, day: int, horizon: int) -> Flags:
    """Return which deals are stated to close in the days after an evening."""
    return np.asarray((snapshot.close > day) & (snapshot.close <= day + horizon))


def features_of(hazard: Floats, snapshot: Snapshot, pushes: Floats, day: int, horizon: int) -> Floats:
    """Return the features of open deals on an evening, shape (n, k)."""
    said = np.where(np.isnan(snapshot.p), 0.0, log_odds(np.nan_to_num(snapshot.p, nan=0.5)))
    dated, inside = snapshot.close != NO_DAY, is_dated_within(snapshot, day, horizon)
    overdue, later = dated & (snapshot.close <= day), dated & (snapshot.close > day + horizon)
    away = np.where(later, snapshot.close - day - horizon, 0), np.where(overdue, day - snapshot.close, 0)
    early = np.where(inside, 1.0 - (snapshot.close - day) / horizon, 0.0)
    stage = np.minimum(snapshot.stage, _STAGES - 1)[:, None] == np.arange(_STAGES)
    return np.column_stack(
        [
            log_odds(hazard),
            *(part * 1.0 for part in (inside, overdue, later, np.isnan(snapshot.p))),
            *(part * said for part in (inside, overdue, later, ~dated)),
            early,
            *(np.log1p(np.maximum(days, 0)) / 3 for days in away),
            np.log1p(pushes),
            np.log1p(np.nan_to_num(np.maximum(snapshot.stage_days, 0.0))) / 3,
            stage,
        ]
    )


@dataclass(frozen=True, eq=False)
class LandmarkModel:
    """Weights of the features, the first of which, the hazards' log-odds, stands at 1 before anything is learned."""

    weights: Floats

    @classmethod
    def fit(
        cls, features: Sequence[Floats], outcomes: Sequence[Any], weights: Sequence[float], start: Any = None
    ) -> LandmarkModel:
        """Learn from landmarks whose windows had ended.

        Parameters
        ----------
        features, outcomes : sequence of ndarray
            Of each landmark.
        weights : sequence of float
            How much each counts.
        start : LandmarkModel, optional
            Whose weights to begin with.
        """
        x, y, w = _stack(features, outcomes, weights)
        usual = np.zeros(x.shape[1] + 1)
        usual[1] = 1.0
        begin = None if start is None else start.weights
        return cls(fit_logistic(with_ones(x), y, np.full(len(usual), _PULL), usual, start=begin, w=w, close=1e-3))

    def chances(self, features: Floats) -> Floats:
        """Return the probability of each deal to be won within the window."""
        return chance_of(with_ones(features) @ self.weights)


@dataclass(frozen=True, eq=False)
class BoostedLandmarks:
    """Gradient boosting on the same landmarks, with age and amount as they are; by scikit-learn."""

    classifier: Any

    @classmethod
    def fit(
        cls, features: Sequence[Floats], outcomes: Sequence[Any], weights: Sequence[float], start: Any = None
    ) -> BoostedLandmarks | None:
        """Learn from landmarks whose windows had ended; None where they are all of one outcome.

        Raises
        ------
        MissingExtraError
            Without scikit-learn.
        """
        del start
        x, y, w = _stack(features, outcomes, weights)
        if len(np.unique(y)) < 2:
            return None
        try:
            from sklearn.ensemble import HistGradientBoostingClassifier
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "learn") from error
        return cls(HistGradientBoostingClassifier(random_state=0, **_TREES).fit(x, y, sample_weight=w))

    def chances(self, features: Floats) -> Floats:
        """Return the probability of each deal to be won within the window."""
        if not len(features):
            return np.empty(0)
        return np.asarray(self.classifier.predict_proba(features)[:, 1], dtype=np.float64)


def _stack(
    features: Sequence[Floats], outcomes: Sequence[Any], weights: Sequence[float]
) -> tuple[Floats, Floats, Floats]:
    """Return landmarks under one another, one row of several where there are too many."""
    x, y = np.concatenate(features), np.concatenate(outcomes).astype(np.float64)
    w = np.repeat(weights, [len(part) for part in features])
    every = -(-len(x) // _MOST_ROWS)
    return x[::every], y[::every], w[::every] * every
