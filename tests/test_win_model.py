"""Which deals are won, learned from what is known of them."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info

import opp_pandas as opp
from opp_pandas.errors import FrameError, MissingColumnError
from opp_pandas.forecasting import RidgeLogistic
from worlds import World, day_of, frame_of, generate

if TYPE_CHECKING:
    from pathlib import Path


def closed(n: int = 400, seed: int = 0, **columns: Any) -> pd.DataFrame:
    """Deals whose odds depend on their source and on their amount."""
    rng = np.random.default_rng(seed)
    source = rng.choice(["partner", "web", "fair"], n, p=[0.3, 0.5, 0.2])
    amount = np.round(np.exp(rng.normal(10, 1, n)))
    logit = pd.Series(source).map({"partner": 1.2, "web": -0.5, "fair": -1.5}).to_numpy() - 0.6 * (np.log(amount) - 10)
    won = rng.random(n) < 1 / (1 + np.exp(-logit))
    frame = pd.DataFrame({"stage_name": np.where(won, "Won", "Lost"), "amount": amount, "source": source, **columns})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return opp.adopt(frame, stages=opp.StageMap(won=["Won"], lost=["Lost"]), as_of="2026-01-01", currency="USD")


def test_win_model__finds_what_matters() -> None:
    """Probabilities beat the base rate on deals not seen, and the reasons name what the odds were made of."""
    model = (frame := closed()).opp.fit_win_model()
    facts = model.evaluation.iloc[0]
    assert facts["brier"] < 0.9 * facts["brier_base"]
    assert facts["ece_low"] <= facts["ece"] <= facts["ece_high"]
    partner = frame[frame["source"] == "partner"]
    assert model.predict(partner).mean() > model.predict(frame[frame["source"] == "fair"]).mean() + 0.3
    assert model.reasons(partner, n=2).str.contains("source partner: odds x").mean() > 0.9


def test_win_model__fits_on_one_thread() -> None:
    """Hundreds of small fits take no threads, which on shared cores wait for each other; afterwards all are back."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50_000, 30)), rng.integers(0, 2, 50_000)
    before = blas_threads()
    fitting = threading.Thread(target=lambda: RidgeLogistic().fit(x, y))
    fitting.start()
    seen = set()
    while fitting.is_alive():
        seen.add(blas_threads())
    assert 1 in seen
    assert blas_threads() == before


def blas_threads() -> int:
    """Count the threads that numpy's linear algebra may take."""
    return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")


def test_win_model__keeps_copies_in_one_fold() -> None:
    """A file in which every row stands five times promises no more than the file once: copies are no evidence."""
    rng = np.random.default_rng(1)
    noise = closed(120, seed=2, code=rng.choice(list("abcdefghij"), 120), other=rng.choice(list("klmnop"), 120))
    once = noise.opp.fit_win_model().evaluation.iloc[0]
    five = pd.concat([noise] * 5).opp.fit_win_model(estimator=RidgeLogistic(0.3)).evaluation.iloc[0]
    assert five["n"] == 600
    assert five["groups"] == once["groups"]
    assert five["brier"] > 0.9 * once["brier"]


def test_win_model__warns_of_columns_that_know_the_end() -> None:
    """A number that tells winners, and a label that only winners have, are named and left out."""
    frame = closed()
    won = frame["stage_name"] == "Won"
    rng = np.random.default_rng(0)
    planted = frame.assign(
        discount_given=won * 10.0 + rng.random(len(frame)),
        contract=np.where(won, rng.choice(list("ab"), len(won)), None),
    )
    model = planted.opp.fit_win_model()
    assert {"discount_given", "contract"}.isdisjoint(model.features)
    assert any("discount_given" in words for words in model.warnings)
    assert any("contract" in words and "missing on" in words for words in model.warnings)


@pytest.mark.parametrize("by", ["stage", "age"])
def test_win_model__leaves_out_what_is_filled_late(by: str) -> None:
    """A field that is filled near the end only is empty on the deals that are asked about: open deals tell of it."""
    rng = np.random.default_rng(4)
    n, n_open = 1_200, 400
    won, is_open = rng.random(n) < 0.5, np.arange(n) < n_open
    late = rng.random(n) < 0.5
    far = np.where(late, "Contract", "Lead") if by == "stage" else np.full(n, "Lead")
    days = np.where(late, 100, 10) + rng.integers(0, 10, n) + np.where(is_open, 0, 200)
    reached = np.where(is_open, late, won | (rng.random(n) < 0.6))
    frame = pd.DataFrame({
        "stage_name": np.where(is_open, far, np.where(won, "Won", "Lost")),
        "created_at": pd.Timestamp("2026-01-01", tz="UTC") - pd.to_timedelta(days, unit="D"),
        "close_date": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.where(is_open, 60, -60), unit="D"),
        "approver": np.where(reached & (rng.random(n) < 0.4), rng.choice(list("ab"), n), None),
        "seats": np.where(reached & (rng.random(n) < 0.4), rng.integers(1, 90, n), np.nan),
        "source": np.where(rng.random(n) < 0.3, "", rng.choice(["web", "fair"], n)),
    })  # fmt: skip
    stages = opp.StageMap(order=["Lead", "Contract", "Won", "Lost"], won=["Won"], lost=["Lost"])
    adopted = opp.adopt(frame, stages=stages, as_of="2026-01-01", currency="USD", timezone="UTC")
    model = adopted.opp.fit_win_model()
    assert model.features == ("source",)
    assert [words.split("'")[1] for words in model.warnings] == ["approver", "seats"]
    assert all("those further on" in words for words in model.warnings)
    # Who names it has it, and is warned all the same.
    named = adopted.opp.fit_win_model(features=["approver", "source"])
    assert named.features == ("approver", "source")
    assert len(named.warnings) == 1


def test_win_model__takes_anybodys_classifier() -> None:
    """One of scikit-learn enters by the same door, with reasons and an evaluation; it is not fitted itself."""
    ensemble, pipeline = pytest.importorskip("sklearn.ensemble"), pytest.importorskip("sklearn.pipeline")
    frame = closed()
    boosting = ensemble.GradientBoostingClassifier(n_estimators=30, random_state=0)
    model = frame.opp.fit_win_model(estimator=pipeline.make_pipeline(boosting))
    assert not hasattr(boosting, "estimators_")
    assert model.evaluation["brier"].iloc[0] < model.evaluation["brier_base"].iloc[0]
    assert model.reasons(frame.head(3)).str.contains("odds x").all()


def test_predict__takes_a_classifier() -> None:
    """A classifier forecasts windows as well, and is compared with the others; the one given is not fitted itself."""
    trees, pipeline = pytest.importorskip("sklearn.tree"), pytest.importorskip("sklearn.pipeline")
    frame = frame_of(generate(World(days=400), 1))
    tree = trees.DecisionTreeClassifier(max_depth=4, random_state=0)
    table = frame.opp.compare(horizon_days=30, methods=["mix", pipeline.make_pipeline(tree)])
    assert table.loc["Pipeline", "windows"] == table.loc["mix", "windows"]
    assert not hasattr(tree, "tree_")


def test_win_model__of_a_window_says_what_comes_within_it() -> None:
    """Fitted on what was known on each of several evenings, it expects about as many wins in 30 days as came."""
    deals = generate(World(days=900, per_day=1.5), 3)
    expected = came = ever = 0.0
    for evening in (600, 700, 800):
        frame = frame_of(deals | {"today": evening})
        model = frame.opp.fit_win_model(features=["amount", "segment"], horizon_days=30)
        assert model.horizon_days == 30
        is_open = (frame["stage_name"] == "Open").to_numpy()
        expected += model.predict(frame)[is_open].sum()
        ever += frame.opp.fit_win_model(features=["amount", "segment"]).predict(frame)[is_open].sum()
        inside = deals["won"] & (deals["created"] <= evening) & (deals["closed"] > evening)
        came += (inside & (deals["closed"] <= evening + 30)).sum()
    assert expected == pytest.approx(came, rel=0.25)
    assert ever > 1.5 * came
    assert model.evaluation["brier"].iloc[0] < model.evaluation["brier_base"].iloc[0]
    assert model.reasons(frame[is_open], n=3).str.contains("age [0-9]+ to [0-9]+ days: odds x").any()


def test_win_model__of_a_window_sees_no_end_that_came_later() -> None:
    """What closes after the moment may be changed at will; open deals teach that they were not won yet."""
    deals, then = generate(World(days=500), 4), 440
    later = deals["closed"] > then
    changed = deals | {"won": deals["won"] ^ later, "closed": np.where(later, deals["closed"] + 9, deals["closed"])}
    found = [
        frame_of(each).opp.fit_win_model(features=["amount", "segment"], horizon_days=30, as_of=day_of(then))
        for each in (deals, changed)
    ]
    pd.testing.assert_frame_equal(found[0].evaluation, found[1].evaluation)
    with pytest.raises(FrameError, match="seen 20 times before a win"):
        frame_of(deals).opp.fit_win_model(features=["amount"], horizon_days=850)


def test_win_model__says_what_is_missing() -> None:
    """Too few closed deals, and a frame without a column of the model."""
    frame = closed()
    with pytest.raises(FrameError, match="20 won and 20 lost"):
        frame.head(25).opp.fit_win_model()
    with pytest.raises(MissingColumnError):
        frame.opp.fit_win_model(features=["source"]).predict(frame.drop(columns="source"))


def test_salvirt__is_foretold(data: Path) -> None:
    """448 real deals without dates: a Brier score of 0.175 or better on deals not seen, copies kept together."""
    source = pd.read_csv(data / "salvirt_b2b" / "Salvirt_B2B_ML_dataset.csv", sep=";")
    columns = {"Status": "stage_name", "Seller": "owner_name"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = opp.adopt(source, columns, stages=opp.StageMap(won=["Won"], lost=["Lost"]))
    model = frame.opp.fit_win_model()
    assert model.evaluation["brier"].iloc[0] <= 0.175
    assert (model.reasons(frame).str.count("odds x") == 3).all()
