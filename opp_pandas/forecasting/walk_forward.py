"""Forecasts of past windows, made from what was known then, and the mix that they teach.

A walk makes the forecast of the coming window and of windows before it, each by
several rows: hazards (told apart by columns in proportion to how well each
foretold single deals), the same corrected by their own past level, a landing
row, and naive rows. The mix weighs the rows by their past misses, and those that
know deals by what they said of single ones; it takes its spread from its own past
misses. Nothing that ended after a window began has a part in what was forecast of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.figures.core.days import NO_DAY
from opp_pandas.figures.proportions import divide
from opp_pandas.forecasting.hazards import Hazards
from opp_pandas.forecasting.landmarks import BoostedLandmarks, LandmarkModel, features_of, is_dated_within
from opp_pandas.forecasting.logistic import chance_of, log_odds
from opp_pandas.forecasting.window_scores import LEVELS, Forecasts, crps, score_windows

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Flags, Floats
    from opp_pandas.forecasting.as_of_view import Known, Past, Snapshot

ROWS = {
    "hazards": "every open deal by the hazards of winning and losing at its age, told apart by columns",
    "levelled": "the same, times how much more or less than it came in past windows",
    "landing": "open amount x the share of it that past windows of this length brought",
    "dated": "amount x stated probability of open deals dated within the window, as a history kept them; "
    "in the mix times what such sums brought",
    "landmark": "hazards, columns, stated probability, close date, stage, each weighed by how it did in past windows",
    "activity": "as many wins as by the hazards (with a history: the landmark row), told apart by what was done "
    "on each deal by then",
    "last_window": "what the window before brought",
    "mean_window": "mean of past windows",
    "last_quarter": "what the same days a quarter ago brought",
    "last_year": "what the same days a year ago brought",
}
"""What a mix is made of."""

NAIVE = ("last_window", "mean_window", "last_quarter", "last_year")
_PRIOR = {"hazards": 0.9, "levelled": 0.06, "landing": 0.03, "dated": 0.8, "landmark": 2.7, "activity": 0.9}
_NAIVE_PRIOR, _NAIVE_AT_FIRST = 0.01, 1.0
"""The first of each naive row; the second is added while there are few windows, and goes within two or three."""
_WINDOWS = 40
_REFIT, _ROUNDS = 5, 60
_NOTHING, _CLOSE = 1e-12, 1e-6
_LEVEL_WINDOWS = 4.0
"""As much as so many windows speaks for no correction of the level."""
_LEVEL_SPREAD = 0.5
"""How far sums of dated deals may be off where they are (standard deviation): put off for ever, or optimistic."""
_HALF_LIFE = 180.0
_EVIDENCE = 0.5
"""Deals of one window share their luck, and a deal is in several windows: its evidence counts so much."""
_PHI, _TAU = (1.1, 0.4), (0.1, 0.6)
"""Where the spread is pulled to, and how far off it may be (standard deviation of the logarithm)."""
_PHIS = np.exp(np.linspace(np.log(0.7), np.log(4.0), 12))
_TAUS = np.linspace(0.02, 0.8, 27)
_ARRIVAL_HALF_LIFE = 60.0
_MONTH = np.timedelta64(1, "M")


def months_before(day: int, months: int) -> int:
    """Return the same day of an earlier month, the last one where that month is shorter."""
    date = np.datetime64(day, "D")
    month = date.astype("datetime64[M]")
    wanted = month - np.timedelta64(months, "M")
    length = int(((wanted + _MONTH).astype("datetime64[D]") - wanted.astype("datetime64[D]")).astype(int))
    place = min(int((date - month.astype("datetime64[D]")).astype(int)), length - 1)
    return int(wanted.astype("datetime64[D]").astype(int)) + place


@dataclass(frozen=True, eq=False)
class Cut:
    """What the rows that need no past windows say on one evening."""

    known: Known
    hazards: dict[str, Hazards]
    open_amount: float
    chances: dict[str, Floats]
    amounts: dict[str, Floats]
    evidence: dict[str, float]
    naive: dict[str, float]
    snapshot: Snapshot | None
    came: Flags | None


class Walk:
    """The coming window and past ones, forecast from what was known before each.

    Parameters
    ----------
    past : Past
        What is known now.
    horizon : int
        Length of a window [days].
    new_deals : bool
        Whether wins of deals created within a window count.
    kept : Walk, optional
        An earlier one: where the same deals began and ended on the same days, what
        columns taught that have not changed is taken from it.
    """

    def __init__(self, past: Past, horizon: int, *, new_deals: bool = True, kept: Walk | None = None) -> None:
        self.past, self.horizon, self.new_deals = past, horizon, new_deals
        self.columns = ("", *past.columns)
        room = past.day - horizon - past.first_day
        self.step = int(max(7, min(max(horizon // 2, 7), room // _WINDOWS)))
        earliest = past.first_day + max(horizon // 2, 14)
        # Where a record begins with no open deal, what its first days brought says nothing of later ones.
        brought_along = bool((past.created < past.first_day).any())
        self._naive_from = past.first_day - 1 if brought_along else earliest
        days = [past.day - horizon - self.step * back for back in range(_WINDOWS)][::-1]
        self.days = np.array([day for day in days if day >= earliest and self._has_wins(day)] + [past.day])
        snapshots = {} if past.stated is None else past.stated(past, self.days.tolist())
        same = set() if kept is None else kept._columns_like(past, horizon)
        before: Sequence[Cut | None] = [None] * len(self.days) if kept is None or not same else kept.cuts
        self.cuts: list[Cut] = [
            self._cut(int(day), snapshots.get(int(day)), old, same) for day, old in zip(self.days, before, strict=True)
        ]
        self.ended: Flags = self.days + horizon <= past.day
        now = past.known(past.day)
        self.actual = np.array(
            [
                now.won_between(int(day) + 1, int(day) + horizon, created_by=self._created_by(int(day)))
                if ended
                else np.nan
                for day, ended in zip(self.days, self.ended, strict=True)
            ]
        )

    def _created_by(self, day: int) -> int:
        return day + self.horizon if self.new_deals else day

    def _columns_like(self, past: Past, horizon: int) -> set[str]:
        """Return the columns that would teach the same of another past; none where deals began or ended otherwise."""
        own = self.past
        if horizon != self.horizon or (past.day, past.first_day) != (own.day, own.first_day):
            return set()
        if not all(np.array_equal(getattr(past, name), getattr(own, name)) for name in ("created", "closed", "won")):
            return set()
        return {"", *(name for name in past.columns if name in own.columns and past.columns[name] == own.columns[name])}

    def _has_wins(self, day: int) -> bool:
        return bool((self.past.won & (self.past.closed <= day)).any())

    def _cut(self, day: int, snapshot: Snapshot | None, old: Cut | None, same: Collection[str]) -> Cut:
        known = self.past.known(day)
        chances, amounts, evidence = {}, {}, {}
        came = None
        if day + self.horizon <= self.past.day:
            closed = self.past.closed[known.open]
            came = self.past.won[known.open] & (closed <= day + self.horizon)
        new = [name for name in self.columns if old is None or name not in same]
        hazards = Hazards.fit(known, new) if new else {}
        for name in self.columns:
            if old is not None and name in same:
                hazards[name], p = old.hazards[name], old.chances[name]
            else:
                p = hazards[name].chances(known.levels(name), known.ages, day, self.horizon)
            chances[name], amounts[name] = p, known.amounts(name, snapshot)
            if came is not None:
                evidence[name] = float(np.sum(np.log(np.clip(np.where(came, p, 1 - p), 1e-6, 1.0))))
        return Cut(
            known, hazards, float(amounts[""].sum()), chances, amounts, evidence, self._naive(known), snapshot, came
        )

    def _naive(self, known: Known) -> dict[str, float]:
        """Return what windows before brought, where the record covers them."""
        starts = {
            "last_window": known.day - self.horizon,
            "last_quarter": months_before(known.day, 3),
            "last_year": months_before(known.day, 12),
        }
        found = {}
        for name, start in starts.items():
            covered = start >= self._naive_from and start + self.horizon <= known.day
            found[name] = (
                known.won_between(start + 1, start + self.horizon, created_by=self._created_by(start))
                if covered
                else np.nan
            )
        return found

    @cached_property
    def weights(self) -> Floats:
        """How much each window counts on each evening, shape (m, m): those that had ended, overlapping ones less."""
        gone = self.days + self.horizon <= self.days[:, np.newaxis]
        age = np.where(gone, self.days[:, np.newaxis] - self.days, 0)
        return np.where(gone, 0.5 ** (age / _HALF_LIFE) * min(1.0, self.step / self.horizon), 0.0)

    @cached_property
    def column_weights(self) -> Floats:
        """How much each column counts on each evening, shape (columns, m): by how well it foretold deals."""
        evidence = np.array([[cut.evidence.get(name, 0.0) for cut in self.cuts] for name in self.columns])
        score = _EVIDENCE * evidence @ self.weights.T
        shares = np.exp(score - score.max(axis=0))
        shares[shares < 1e-3 * shares.sum(axis=0)] = 0.0
        return np.asarray(shares / shares.sum(axis=0))

    def by_hazards(self, at: int) -> tuple[Floats, Floats]:
        """Return chance and amount of each deal that was open on an evening, by the hazards of all columns."""
        cut, share = self.cuts[at], self.column_weights[:, at]
        kept = [(name, w) for name, w in zip(self.columns, share.tolist(), strict=True) if w > 0]
        p = sum(w * cut.chances[name] for name, w in kept)
        expected = sum(w * cut.chances[name] * cut.amounts[name] for name, w in kept)
        return np.asarray(p), np.asarray(expected / np.maximum(p, 1e-300))

    @cached_property
    def _hazard_deals(self) -> list[tuple[Floats, Floats]]:
        return [self.by_hazards(at) for at in range(len(self.cuts))]

    @cached_property
    def _stated(self) -> list[Floats | None]:
        """Return what sellers stated of each deal on each evening, beside its hazards; None where nothing was kept."""
        found: list[Floats | None] = []
        pushes, before = np.zeros(len(self.past.created)), np.full(len(self.past.created), NO_DAY, dtype=np.int64)
        for cut, day, (hazard, _) in zip(self.cuts, self.days.tolist(), self._hazard_deals, strict=True):
            if cut.snapshot is None:
                found.append(None)
                continue
            rows, close = cut.known.open, cut.snapshot.close
            pushes[rows] += (before[rows] != NO_DAY) & (close != NO_DAY) & (close > before[rows])
            before[rows] = close
            usual = log_odds(cut.chances[""])
            told_apart = [log_odds(cut.chances[name]) - usual for name in self.past.columns]
            x = features_of(hazard, cut.snapshot, pushes[rows], day, self.horizon)
            found.append(np.column_stack([x, *told_apart]))
        return found

    @cached_property
    def _known_of_deals(self) -> dict[str, list[Floats | None]]:
        """Return what more is known of each deal on each evening than its age and columns, by row; None where nothing.

        What sellers state stands in a history, what was done on deals in their activity.
        """
        found: dict[str, list[Floats | None]] = {}
        if self.past.stated is not None:
            found["dated"] = [
                None
                if (stated := cut.snapshot) is None
                else np.where(is_dated_within(stated, day, self.horizon), np.nan_to_num(stated.p), 0.0)
                for cut, day in zip(self.cuts, self.days.tolist(), strict=True)
            ]
            found["landmark"] = self._learned(self._stated)
        if (touched := self.past.touched) is None:
            return found
        hazards = [hazard for hazard, _ in self._hazard_deals]
        done: list[Floats | None] = [
            np.column_stack([log_odds(hazard)[:, None] if x is None else x, touched.features(self.past, day)])
            for x, hazard, day in zip(self._stated, hazards, self.days.tolist(), strict=True)
        ]
        usual = [hazard if p is None else p for p, hazard in zip(found.get("landmark", hazards), hazards, strict=True)]
        return found | {"activity": [_as_many(p, like) for p, like in zip(self._learned(done), usual, strict=True)]}

    def _learned(
        self, features: list[Floats | None], kind: type[LandmarkModel | BoostedLandmarks] = LandmarkModel
    ) -> list[Floats | None]:
        """Return what a model of landmarks says on each evening, taught by windows before it that had ended."""
        model, learned, width = None, -_REFIT, 0
        found: list[Floats | None] = []
        for at, (x, (hazard, _)) in enumerate(zip(features, self._hazard_deals, strict=True)):
            if x is None:
                found.append(None)
                continue
            weight = self.weights[at]
            taught = {k: seen for k in np.flatnonzero(weight).tolist() if (seen := features[k]) is not None}
            # Where a history begins, more is known of each deal than before.
            alike = [k for k, seen in taught.items() if seen.shape[1] == x.shape[1]]
            if width != x.shape[1]:
                model, learned, width = None, -_REFIT, x.shape[1]
            if alike and (len(alike) >= learned + _REFIT or at == len(self.cuts) - 1):
                learned = len(alike)
                outcomes = [self.cuts[k].came for k in alike]
                model = kind.fit([taught[k] for k in alike], outcomes, weight[alike].tolist(), model)
            found.append(hazard if model is None else model.chances(x))
        return found

    @cached_property
    def boosted(self) -> Floats:
        """Return the means by boosting on landmarks, times their own past level; missing where nothing was kept."""
        features = [
            None if x is None else np.column_stack([x, cut.known.ages, np.log1p(np.maximum(amounts, 0.0))])
            for x, cut, (_, amounts) in zip(self._stated, self.cuts, self._hazard_deals, strict=True)
        ]
        row = self._sums(self._learned(features, BoostedLandmarks)) + self.new[1]
        return row * self._levels(row)

    def _sums(self, chances: list[Floats | None]) -> Floats:
        """Return what deals bring at these chances on each evening."""
        pairs = zip(chances, self._hazard_deals, strict=True)
        return np.array([np.nan if p is None else float(p @ amounts) for p, (_, amounts) in pairs])

    def deals_at(self, at: int, *, but: str = "") -> tuple[Floats, Floats]:
        """Return chance and amount of each deal that was open on an evening, by the rows that know deals but one."""
        p, amounts = self._hazard_deals[at]
        weights = dict(zip(self.rows, self.mix_weights[:, at].tolist(), strict=True))
        parts = [(sum(weights[name] for name in ("hazards", "levelled", "landing")), p)]
        for name, chances in self._known_of_deals.items():
            stated = chances[at] if name != but and weights.get(name, 0.0) > 0 else None
            if stated is not None and name == "dated":
                stated = np.minimum(stated * self.dated_level[at], 1.0)
            parts += [] if stated is None else [(weights[name], stated)]
        whole = sum(w for w, _ in parts)
        return (sum(w / whole * q for w, q in parts) if whole > 0 else p), amounts

    @cached_property
    def moments(self) -> tuple[Floats, Floats]:
        """Return the variance of what the deals bring, new ones too, and the logarithm of the chance of nothing."""
        found = np.array([_moments(*self.deals_at(at)) for at in range(len(self.cuts))])
        return found[:, 0] + self.new[2], found[:, 1] - self.new[0]

    @cached_property
    def new(self) -> tuple[Floats, Floats, Floats]:
        """Return number, mean and variance of what deals bring that are created and won within each window."""
        parts = np.zeros((3, len(self.cuts)))
        if not self.new_deals:
            return parts[0], parts[1], parts[2]
        for at, cut in enumerate(self.cuts):
            name = self.columns[int(np.argmax(self.column_weights[:, at]))]
            parts[:, at] = new_deals(cut.known, cut.hazards[name], name, self.horizon)
        return parts[0], parts[1], parts[2]

    @cached_property
    def _composed(self) -> Floats:
        """Return what the hazards say of every window by each evening's weights of columns, shape (evenings, windows).

        What is mixed now is judged as it is now: not for having trusted other columns before.
        """
        said = [[float(cut.chances[name] @ cut.amounts[name]) for cut in self.cuts] for name in self.columns]
        return np.asarray(self.column_weights.T @ np.array(said) + self.new[1])

    @cached_property
    def rows(self) -> dict[str, Floats]:
        """Return the means of every row, shape (m,)."""
        base, came = self._composed.diagonal(), self.weights @ np.nan_to_num(self.actual)
        amount = np.array([cut.open_amount for cut in self.cuts])
        found = {
            "hazards": base,
            "levelled": base * self._levels(self._composed),
            "landing": divide(amount * came, self.weights @ amount),
        }
        for name, chances in self._known_of_deals.items():
            found[name] = self._sums(chances) + self.new[1]
        found["mean_window"] = divide(came, self.weights.sum(axis=1))
        return found | {
            name: np.array([cut.naive[name] for cut in self.cuts]) for name in NAIVE if name != "mean_window"
        }

    def _levels(self, row: Floats) -> Floats:
        """Return how much more or less came than a row said, on each evening, pulled to 1.

        The row is of shape (m,), or (m, m) where it says another thing of past windows on each evening.
        """
        weight = self.weights * np.isfinite(row)
        said = np.sum(weight * np.nan_to_num(row), axis=1)
        steady = _LEVEL_WINDOWS * np.nan_to_num(divide(said, weight.sum(axis=1)))
        # Of credits, which are negative amounts, a row says no level.
        level = (weight @ np.nan_to_num(self.actual) + steady) / np.maximum(said + steady, 1e-9)
        return np.asarray(np.where(weight.any(axis=1) & (said + steady >= 0), level, 1.0))

    @cached_property
    def dated_level(self) -> Floats:
        """Return what sums of dated deals brought of what they said: the mix takes them by that, never as they are.

        Either sellers are right, or they are off by something; both are as likely
        before anything ended. What past windows speak for says how far to correct.
        """
        row, levels = np.nan_to_num(self.rows["dated"]), np.ones(len(self.cuts))
        pairs = zip(self._known_of_deals["dated"], self._hazard_deals, strict=True)
        own = np.array([0.0 if p is None else _moments(p, amounts)[0] for p, (_, amounts) in pairs])
        variance = _PHI[0] * (own + self.new[2]) + (_TAU[0] * row) ** 2
        witness = np.where(row > 0, row / np.maximum(variance, 1e-9), 0.0)
        for at in range(len(levels)):
            weight = self.weights[at] * witness
            known = float(weight @ row)
            if known > 0:
                off = float(weight @ np.nan_to_num(self.actual - row)) / known
                trust = known * _LEVEL_SPREAD**2
                for_right = 0.5 * (np.log1p(trust) - known * off**2 * trust / (1 + trust))
                levels[at] = max(1.0 + off * trust / (1 + trust) / (1 + np.exp(min(for_right, 50.0))), 0.0)
        return levels

    @cached_property
    def _mixed(self) -> Floats:
        """Return the means of the rows as the mix takes them, shape (rows, m)."""
        return np.array([row * self.dated_level if name == "dated" else row for name, row in self.rows.items()])

    @cached_property
    def mix_weights(self) -> Floats:
        """Return the weight of every row on every evening, shape (rows, m).

        Weights sum to 1 and make the squared misses of past mixes small, each
        measured by its expected size; they are pulled to the prior by their
        divergence from it, so that few windows move them little.
        """
        names, composed = list(self.rows), self._composed
        said = np.repeat(self._mixed[np.newaxis], len(self.cuts), axis=0)
        own = composed.diagonal()
        said[:, :2] *= np.divide(composed, own, np.ones_like(composed), where=own != 0)[
            :, np.newaxis
        ]  # hazards, levelled
        variance = np.array([_moments(*deals)[0] for deals in self._hazard_deals]) + self.new[2]
        scale = np.maximum(_PHI[0] * variance + (_TAU[0] * composed) ** 2, 1e-9)
        # A row that has nothing to say of a window is no better and no worse than the hazards there.
        apart = np.where(np.isfinite(said), said - composed[:, np.newaxis], 0.0)
        seen = self.weights / scale
        gram = np.einsum("at,ait,ajt->aij", seen, apart, apart)
        pull = np.einsum("at,ait,at->ai", seen, apart, np.nan_to_num(self.actual - composed))
        over = (self.days + self.horizon <= self.days[:, None]).sum(axis=1) * min(1.0, self.step / self.horizon)
        naive = _NAIVE_PRIOR + _NAIVE_AT_FIRST / (1.0 + over) ** 4
        prior = np.array([np.full(len(over), _PRIOR[name]) if name in _PRIOR else naive for name in names])
        for name, factor in self._told_of_deals.items():
            prior[names.index(name)] *= factor
        return weigh(gram, pull, np.where(np.isfinite(self._mixed), prior, 0.0).T).T

    @cached_property
    def _told_of_deals(self) -> dict[str, Floats]:
        """Return how much more each row that knows deals is trusted, on each evening, for what it said of single ones.

        Single deals tell rows apart long before sums of windows do.
        """
        hazards: list[Floats | None] = [p for p, _ in self._hazard_deals]
        said = {"hazards": hazards, **self._known_of_deals}
        score = np.zeros((len(said), len(self.cuts)))
        for at, cut in enumerate(self.cuts):
            by_row = {name: p for name, of_row in said.items() if (p := of_row[at]) is not None}
            if cut.came is not None and len(by_row) == len(said):
                for row, (name, p) in enumerate(by_row.items()):
                    odds = log_odds(p * self.dated_level[at] if name == "dated" else p)
                    score[row, at] = -np.sum(np.logaddexp(0.0, np.where(cut.came, -odds, odds)))
        told = _EVIDENCE * score @ self.weights.T
        usual = np.array([_PRIOR[name] for name in said])[:, None]
        share = usual * np.exp(told - told.max(axis=0))
        factors = dict(zip(said, share / share.sum(axis=0) * usual.sum() / usual, strict=True))
        return factors | {"levelled": factors["hazards"]}

    @cached_property
    def mix(self) -> Forecasts:
        """The mix of all rows."""
        return self.spread(np.sum(self.mix_weights * np.nan_to_num(self._mixed), axis=0))

    def forecasts(self, name: str) -> Forecasts:
        """Return the forecasts of the mix or of one row."""
        if name == "mix":
            return self.mix
        if name == "boosting":
            return self.spread(self.boosted)
        return self.spread(self.rows.get(name, np.full(len(self.cuts), np.nan)), own=name not in NAIVE)

    def spread(self, mean: Floats, *, own: bool = True) -> Forecasts:
        """Add a spread to means: deal-level variance x phi + (tau x mean)^2, both from what was missed before.

        Parameters
        ----------
        mean : ndarray of float, shape (m,)
        own : bool, default True
            Whether the deals' own luck is part of it; naive rows know no deals.
        """
        variance, none = self.moments
        p_none = np.exp(none) if own else np.zeros(len(mean))
        sd = np.full(len(mean), np.nan)
        for at in range(len(mean)):
            phi, tau = self.fit_spread(mean, variance, at)
            sd[at] = np.sqrt(phi * variance[at] + (tau * mean[at]) ** 2)
        return Forecasts(mean, sd, np.minimum(p_none, 0.99))

    def fit_spread(self, mean: Floats, variance: Floats, at: int) -> tuple[float, float]:
        """Return (phi, tau) on an evening: the most likely after the windows that had ended, pulled to (1.1, 0.1)."""
        weight = self.weights[at] * np.isfinite(mean)
        rows = weight > 0
        table = _PHIS[:, None, None] * variance[rows] + (_TAUS[None, :, None] * mean[rows]) ** 2
        table = np.maximum(table, 1e-9)
        missed = (self.actual[rows] - mean[rows]) ** 2
        likely = -0.5 * np.sum(weight[rows] * (np.log(table) + missed / table), axis=2)
        likely = likely - 0.5 * (np.log(_PHIS / _PHI[0]) / _PHI[1])[:, None] ** 2
        likely = likely - 0.5 * (np.log(_TAUS / _TAU[0]) / _TAU[1])[None, :] ** 2
        best = np.unravel_index(int(np.argmax(likely)), likely.shape)
        return float(_PHIS[best[0]]), float(_TAUS[best[1]])

    @property
    def independent(self) -> float:
        """How many windows that do not overlap the past ones are worth."""
        return float(self.ended.sum() * min(1.0, self.step / self.horizon))

    def record_of(self, forecasts: Forecasts) -> dict[str, Any]:
        """Return how the past forecasts did: windows, errors, score, coverage."""
        rows = self.ended & np.isfinite(forecasts.mean) & np.isfinite(forecasts.sd)
        return score_windows(
            forecasts.mean[rows],
            self.actual[rows],
            crps(forecasts.quantiles[rows], self.actual[rows]),
            {level: tuple(end[rows] for end in forecasts.interval(level)) for level in LEVELS},
            max(int(np.ceil(self.horizon / self.step)), 1),
        )


def weigh(gram: Floats, pull: Floats, prior: Floats) -> Floats:
    """Return the weights w, summing to 1, that make w G w / 2 - b w + (divergence of w from the prior) least.

    Parameters
    ----------
    gram : ndarray of float, shape (m, k, k)
    pull, prior : ndarray of float, shape (m, k)
        A row whose prior is 0 gets nothing.
    """
    usual = np.maximum(prior / prior.sum(axis=1, keepdims=True), _NOTHING)
    share = usual
    for _ in range(_ROUNDS):
        # Newton's steps in the logarithms: a row that missed by far goes to nothing in a few.
        slope = np.einsum("aij,aj->ai", gram, share) - pull + np.log(share / usual)
        curve = gram + np.einsum("ai,ij->aij", 1.0 / share, np.eye(share.shape[1]))
        solved = np.linalg.solve(curve, np.stack([slope, np.ones(share.shape)], axis=2))
        level = solved[:, :, 0].sum(axis=1) / solved[:, :, 1].sum(axis=1)
        step = np.clip((solved[:, :, 0] - level[:, None] * solved[:, :, 1]) / share, -2.0, 2.0)
        share = np.maximum(share * np.exp(-step), _NOTHING)
        share = share / share.sum(axis=1, keepdims=True)
        if np.abs(step * share).max() < _CLOSE:
            break
    share = np.where(prior > 0, share, 0.0)
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def _as_many(p: Floats | None, like: Floats) -> Floats:
    """Shift the log-odds of chances so that they come to as many wins as others say.

    What is done on deals tells them apart; how many are won is told better by the hazards, which learn it sooner.
    """
    odds, low, high = log_odds(like if p is None else p), -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if chance_of(odds + middle).sum() > like.sum() else (middle, high)
    return chance_of(odds + low)


def _moments(p: Floats, amounts: Floats) -> tuple[float, float]:
    """Return the variance of what deals bring, and the logarithm of the chance of nothing."""
    return float(np.sum(amounts**2 * p * (1 - p))), float(np.sum(np.log1p(-np.minimum(p, 1 - 1e-9))))


def new_deals(known: Known, hazards: Hazards, name: str, horizon: int) -> tuple[float, float, float]:
    """Return number, amount and variance of what deals bring that are created and won in the days to come."""
    past = known.past
    levels = len(past.columns[name].labels) if name else 1
    codes = past.columns[name].codes if name else np.zeros(len(past.created), dtype=np.intp)
    first = max(past.first_day, known.day - 3 * 365)
    rows = (past.created >= first) & (past.created <= known.day)
    weight = 0.5 ** ((known.day - past.created[rows]) / _ARRIVAL_HALF_LIFE)
    days = float(np.sum(0.5 ** (np.arange(max(known.day - first + 1, 1)) / _ARRIVAL_HALF_LIFE)))
    rate = np.bincount(codes[rows], weight, minlength=levels) / days
    amount = known.mean_won(name)
    won = past.won & (past.closed <= known.day) & ~np.isnan(past.amount)
    values = past.amount[won]
    spread = float(np.mean(values**2)) / max(float(values.mean()) ** 2, 1e-9) if len(values) else 1.0
    live = np.flatnonzero(rate > 0)
    number = np.zeros(levels)
    if len(live):
        number[live] = rate[live] * hazards.chances_of_new(live, known.day, horizon)
    return float(number.sum()), float(number @ amount), float(number @ amount**2) * spread
