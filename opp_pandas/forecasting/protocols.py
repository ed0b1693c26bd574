"""What a forecaster and a win probability must be able to do, so that anybody's enters by the same door."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.forecasting.distribution import Bookings

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Floats


@dataclass(frozen=True, eq=False)
class KnownDeals:
    """What was known on an evening, for forecasters of other people.

    Parameters
    ----------
    frame : DataFrame
        The deals that existed, with ``created_day, closed_day`` (midnight, missing
        while open), ``is_won`` and the columns known when a deal is created.
        Closings after `as_of` are blank.
    as_of : Timestamp
        The day.

    Examples
    --------
    >>> from opp_pandas.forecasting import KnownDeals
    >>> known = KnownDeals(df[["amount"]], df["created_at"].max())
    >>> len(known.frame)
    279
    """

    frame: pd.DataFrame
    as_of: pd.Timestamp


@dataclass(frozen=True, eq=False)
class Window:
    """The days that are forecast.

    Parameters
    ----------
    first, last : Timestamp
        First and last day.
    open_deals : DataFrame
        The rows of `KnownDeals.frame` that are open before the first day.
    new_deals : bool
        Whether wins of deals created within the window count.

    Examples
    --------
    >>> from opp_pandas.forecasting import Window
    >>> window = Window(pd.Timestamp("2026-11-02"), pd.Timestamp("2027-01-31"), df.head(0), new_deals=True)
    >>> (window.last - window.first).days
    90
    """

    first: pd.Timestamp
    last: pd.Timestamp
    open_deals: pd.DataFrame
    new_deals: bool


@runtime_checkable
class Forecaster(Protocol):
    """Something that says what a window will bring.

    Examples
    --------
    >>> import numpy as np
    >>> from opp_pandas.forecasting import Bookings, Forecaster
    >>> class EveryOther:
    ...     # used as df.opp.predict(method=EveryOther())
    ...     def fit(self, known):
    ...         return self
    ...
    ...     def predict(self, window):
    ...         amounts = window.open_deals["amount"].fillna(0).to_numpy(float)
    ...         return Bookings(amounts, np.full(len(amounts), 0.5))
    >>> isinstance(EveryOther(), Forecaster)
    True
    """

    def fit(self, known: KnownDeals) -> Any:
        """Learn from what was known."""

    def predict(self, window: Window) -> Bookings:
        """Forecast what will be won in a window."""


@runtime_checkable
class WinProbability(Protocol):
    """Something that says with which probability each deal is won by a day.

    Examples
    --------
    >>> import numpy as np
    >>> from opp_pandas.forecasting import WinProbability
    >>> class Coin:
    ...     # used as df.opp.predict(method=Coin())
    ...     def fit(self, known):
    ...         return self
    ...
    ...     def predict(self, deals, until):
    ...         return np.full(len(deals), 0.5)
    >>> isinstance(Coin(), WinProbability)
    True
    """

    def fit(self, known: KnownDeals) -> Any:
        """Learn from what was known."""

    def predict(self, deals: pd.DataFrame, until: pd.Timestamp) -> Floats:
        """Return a fraction for each deal."""


class ProbabilityForecaster:
    """A forecaster made of a `WinProbability`: what open deals bring; new deals are none of its business.

    Parameters
    ----------
    probability : WinProbability
        Fitted anew before every window.

    Examples
    --------
    >>> from opp_pandas.forecasting.protocols import ProbabilityForecaster
    >>> class Coin:
    ...     def fit(self, known):
    ...         return self
    ...
    ...     def predict(self, deals, until):
    ...         return np.full(len(deals), 0.5)
    >>> isinstance(ProbabilityForecaster(Coin()), Forecaster)
    True
    """

    def __init__(self, probability: Any) -> None:
        self.probability = probability

    def fit(self, known: KnownDeals) -> Any:
        """Learn from what was known."""
        self.probability.fit(known)
        return self

    def chances(self, window: Window) -> Floats:
        """Return the probability of each open deal."""
        return np.asarray(self.probability.predict(window.open_deals, window.last), dtype=np.float64)

    def predict(self, window: Window) -> Bookings:
        """Forecast what open deals bring in a window."""
        return Bookings(window.open_deals["amount"].fillna(0).to_numpy(dtype=float), self.chances(window))


class ClassifierForecaster(ProbabilityForecaster):
    """A forecaster made of any classifier with ``fit(X, y)`` and ``predict_proba(X)``, such as scikit-learn's.

    It learns on landmarks: evenings before the present one, each deal that was
    open then with its age and columns, and whether it was won within the length
    of the window. Evenings whose window had not ended are left out.

    Parameters
    ----------
    classifier : object
        Copied for every fit: it is not fitted itself.
    horizon_days : int
        Length of the window it is trained for [days].
    landmarks : int, default 12
        Evenings it learns on, two weeks apart.

    Examples
    --------
    >>> from opp_pandas.forecasting import ClassifierForecaster, RidgeLogistic
    >>> ClassifierForecaster(RidgeLogistic(), horizon_days=90).horizon_days
    90
    """

    def __init__(self, classifier: Any, horizon_days: int, landmarks: int = 12) -> None:
        self.classifier, self.horizon_days, self.landmarks = classifier, horizon_days, landmarks

    def fit(self, known: KnownDeals) -> ClassifierForecaster:
        """Learn from what was known."""
        frame = known.frame
        static = self._static(frame)
        self._columns = list(static.columns)
        created, closed = (frame[name].to_numpy(dtype="datetime64[D]") for name in ("created_day", "closed_day"))
        closed = np.where(np.isnat(closed), np.datetime64("9999-12-31"), closed)
        values, won, today = static.to_numpy(dtype=float), frame["is_won"].to_numpy(dtype=bool), _day(known.as_of)
        parts, outcomes = [], []
        for back in range(self.landmarks):
            evening = today - np.timedelta64(self.horizon_days + 14 * back, "D")
            rows = (created <= evening) & (closed > evening)
            parts.append(_with_age(values[rows], created[rows], evening))
            outcomes.append((won & (closed <= evening + np.timedelta64(self.horizon_days, "D")))[rows].astype(int))
        x, y = np.concatenate(parts), np.concatenate(outcomes)
        self._fitted: Any = None
        self._rate = float(y.mean()) if len(y) else 0.0
        if len(np.unique(y)) == 2:
            # A pipeline shares its steps with what is built from its parameters; a copy shares nothing.
            self._fitted = copy.deepcopy(self.classifier).fit(x, y)
        return self

    def chances(self, window: Window) -> Floats:
        """Return the probability of each open deal to be won within the window."""
        deals, evening = window.open_deals, window.first - pd.Timedelta(days=1)
        if self._fitted is None or deals.empty:
            return np.full(len(deals), self._rate)
        static = self._static(deals).reindex(columns=self._columns, fill_value=0.0).to_numpy(dtype=float)
        x = _with_age(static, deals["created_day"].to_numpy(dtype="datetime64[D]"), _day(evening))
        return np.asarray(self._fitted.predict_proba(x)[:, 1], dtype=np.float64)

    @staticmethod
    def _static(deals: pd.DataFrame) -> pd.DataFrame:
        kept = deals.drop(columns=["created_day", "closed_day", "is_won", "id"], errors="ignore")
        columns = {name: kept[name].astype(float).fillna(0.0).to_numpy() for name in kept.select_dtypes("number")}
        for name in kept.columns.difference(list(columns), sort=False):
            # As `pandas.get_dummies` has it, in a third of its time.
            codes, labels = pd.factorize(kept[name])
            columns |= {f"{name}_{label}": (codes == code).astype(float) for code, label in enumerate(labels)}
        return pd.DataFrame(columns, index=kept.index)


def read_method(method: Any, horizon_days: int) -> Forecaster:
    """Return somebody's forecaster, win probability or classifier as a forecaster of windows.

    Raises
    ------
    ConfigurationError
        If it is none of these.
    """
    if hasattr(method, "predict_proba") and not isinstance(method, ProbabilityForecaster):
        return ClassifierForecaster(method, horizon_days)
    if not isinstance(method, Forecaster):
        raise ConfigurationError(
            "method must have fit(known) and predict(window), or predict(deals, until), or be a classifier with fit "
            "and predict_proba"
        )
    asked = [p for p in inspect.signature(method.predict).parameters.values() if p.default is p.empty]
    return method if len(asked) < 2 else ProbabilityForecaster(method)


def _day(moment: pd.Timestamp) -> Any:
    return np.datetime64(moment, "D")


def _with_age(values: Floats, created: Any, evening: Any) -> Floats:
    return np.column_stack([values, (evening - created).astype(float)])
