"""Percentages set right by their own past, beside the sellers' own."""

from __future__ import annotations

import numpy as np

from histories import LEAD, LOST, WON, history_in_memory, load_of, moment
from opp_pandas.forecasting import Recalibration, brier
from worlds import NEVER, WORLDS, World, generate


def stated(true: np.ndarray, optimism: float) -> np.ndarray:
    odds = np.log(true / (1 - true)) + optimism
    return 1 / (1 + np.exp(-odds))


def draw(seed: int, optimism: float, n: int = 400) -> tuple[float, float]:
    """Brier scores of sellers and of the recalibration on deals after those that taught it."""
    rng = np.random.default_rng(seed)
    true = rng.beta(1.5, 3.0, 2 * n)
    came, said = (rng.random(2 * n) < true).astype(float), stated(np.clip(true, 0.01, 0.99), optimism)
    fitted = Recalibration().fit(said[:n], came[:n])
    return brier(said[n:], came[n:]), brier(fitted.apply(said[n:]), came[n:])


def test_recalibration__beats_optimists() -> None:
    """In 95 of 100 draws or more the recalibrated percentages of optimists score better."""
    assert sum(after < before for before, after in (draw(seed, 0.8) for seed in range(100))) >= 95


def test_recalibration__leaves_honest_sellers_alone() -> None:
    """Percentages that hold lose one in a hundred of their score at most."""
    scores = np.array([draw(seed, 0.0) for seed in range(100)])
    assert scores[:, 1].mean() <= 1.01 * scores[:, 0].mean()


def test_recalibrate__of_a_history() -> None:
    """Deals said to be won at 80 % of which a quarter was won: the open ones are brought down."""
    history = history_in_memory()
    rows = [
        {"id": key, "amount": 100, "probability": 80, "stage_id": LEAD, "close_date": moment(20)} for key in range(60)
    ]
    history.record(load_of(rows, moment(1)))
    later = [row | {"stage_id": WON if row["id"] % 4 == 0 else LOST} for row in rows[:40]] + rows[40:]
    history.record(load_of(later, moment(25)))
    frame = load_of(later, moment(25))
    table = frame.opp.recalibrate(history, times=[moment(2)])
    assert len(table) == 20
    assert (table["probability"] == 80).all()
    assert table["recalibrated"].between(20, 45).all()


def taught(world: World, seed: int) -> tuple[float, float]:
    """Brier scores of sellers and of the recalibration on a world's deals that closed after those that taught it."""
    deals = generate(world, seed)
    over, now = deals["closed"] < NEVER, deals["today"]
    # Halfway everything that had closed teaches; what was open then, or came later, and has closed since is scored.
    then = now // 2
    before = over & (deals["closed"] <= then) & (deals["created"] >= 0)
    after = over & (deals["closed"] > then) & (deals["closed"] <= now)
    said, won = deals["percent"] / 100, deals["won"].astype(float)
    fitted = Recalibration().fit(said[before], won[before])
    return brier(said[after], won[after]), brier(fitted.apply(said[after]), won[after])


def test_recalibration__beats_optimists_of_whole_worlds() -> None:
    """In 95 of 100 worlds of optimists or more the recalibrated percentages score better."""
    scores = [taught(WORLDS["optimists"], seed) for seed in range(100)]
    assert sum(after < before for before, after in scores) >= 95


def test_recalibration__costs_honest_worlds_next_to_nothing() -> None:
    """Where sellers are honest a hundredth of the score is lost at most."""
    before, after = np.array([taught(WORLDS["honest"], seed) for seed in range(100)]).mean(axis=0)
    assert after <= 1.01 * before
