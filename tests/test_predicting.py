"""What a period will bring, learned from created and closed dates."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from histories import history_in_memory
from opp_pandas.accessor import context_of
from opp_pandas.errors import ConfigurationError, FrameError
from opp_pandas.figures.core.deals import Deals
from opp_pandas.forecasting import Bookings, Forecaster, KnownDeals, Window
from opp_pandas.forecasting.as_of_view import read_past
from opp_pandas.forecasting.predicting import Predictor
from opp_pandas.forecasting.prediction import outlook
from opp_pandas.forecasting.walk_forward import Walk, weigh
from opp_pandas.forecasting.window_scores import quantiles, score_windows
from worlds import START, WORLDS, World, came, day_of, frame_of, generate, past_of

if TYPE_CHECKING:
    from opp_pandas.history import History


@pytest.fixture(scope="module")
def deals() -> dict[str, Any]:
    return generate(World(), 0)


@pytest.fixture(scope="module")
def frame(deals: dict[str, Any]) -> pd.DataFrame:
    return frame_of(deals)


def test_predict__has_parts_deals_and_a_record(frame: pd.DataFrame) -> None:
    """The parts add up to the mean, the deals to the open part, and the record counts past windows."""
    found = frame.opp.predict(horizon_days=30)
    assert found.parts["mean"].sum() == pytest.approx(found.mean)
    assert found.deals["expected_amount"].sum() == pytest.approx(found.parts.loc["open", "mean"])
    assert found.deals["p"].between(0, 1).all()
    assert found.deals["reasons"].str.contains("open for").any()
    values = found.pmf
    assert values.index.to_numpy() @ values.to_numpy() == pytest.approx(found.mean, rel=1e-3)
    spread = np.sqrt((values.index.to_numpy() - found.mean) ** 2 @ values.to_numpy())
    assert spread == pytest.approx(found.sd, rel=0.02)
    assert found.record["windows"].iloc[0] == len(found.windows) > 20
    assert "held" in found.tested
    assert found.target == f"won between {day_of(801)} and {day_of(830)}"


def with_credits(frame: pd.DataFrame, share: float, seed: int = 1) -> pd.DataFrame:
    """Make the amounts of a share of the deals negative."""
    signs = np.random.default_rng(seed).choice([-1, 1], len(frame), p=[share, 1 - share])
    return frame.assign(amount=frame["amount"] * signs)


@pytest.mark.parametrize("seed", range(3))
def test_predict__of_credits_among_the_deals_has_their_spread(frame: pd.DataFrame, seed: int) -> None:
    """Negative amounts, which can make the sum of a past window negative, reach below 0 as far as they are likely."""
    found = with_credits(frame, 0.35, seed).opp.predict(horizon_days=30)
    values, p = found.pmf.index.to_numpy(), found.pmf.to_numpy()
    assert values @ p == pytest.approx(found.mean, rel=1e-3)
    assert np.sqrt((values - found.mean) ** 2 @ p) == pytest.approx(found.sd, rel=0.02)
    assert values[0] < 0 < found.mean
    assert abs(found.mean) < frame["amount"].max() * found.parts["deals"].sum()
    assert found.windows["forecast"].abs().max() < frame["amount"].sum()
    assert any("with an amount below 0" in note for note in found.attrs["opp_basis"]["notes"])


def test_predict__of_more_credits_than_deals_is_refused(frame: pd.DataFrame) -> None:
    """The sum would be below 0, which no row of the mix says; the remedy works as it stands."""
    df = with_credits(frame, 0.8)
    with pytest.raises(FrameError, match="amounts below 0 outweigh the others") as refused:
        df.opp.predict(horizon_days=30)
    remedy = str(refused.value).rpartition(": ")[2]
    assert eval(remedy, {"df": df}).opp.predict(horizon_days=30).mean > 0  # noqa: S307


def test_predict__of_a_period_counts_what_is_won_to_date(frame: pd.DataFrame) -> None:
    """Won to date is certain: no quantile lies below it."""
    found = frame.opp.predict("2025Q1")
    won = frame[(frame["stage_name"] == "Won") & (frame["close_date"] >= "2025-01-01")]["amount"].sum()
    assert found.won_amount == won > 0
    assert found.quantile(0.001) >= won
    assert found.parts.loc["won", "mean"] == won


def test_predict__sees_nothing_that_came_later(frame: pd.DataFrame, deals: dict[str, Any]) -> None:
    """What closed or was created after the moment may be changed at will: the forecast stays to the last digit."""
    then = 600
    earlier = frame.opp.predict(horizon_days=30, as_of=day_of(then))
    cut = {name: values[deals["created"] <= then] for name, values in deals.items() if isinstance(values, np.ndarray)}
    later = cut["closed"] > then
    cut["won"] = np.where(later, ~cut["won"], cut["won"])
    cut["closed"] = np.where(later, cut["closed"] + 17, cut["closed"])
    other = frame_of(cut | {"today": 800}).opp.predict(horizon_days=30, as_of=day_of(then))
    assert other.mean == earlier.mean
    assert other.sd == earlier.sd
    np.testing.assert_array_equal(np.sort(other.deals["p"]), np.sort(earlier.deals["p"]))


def test_predict__does_not_use_columns_that_know_the_end(frame: pd.DataFrame) -> None:
    """A planted column that tells winners, and one that is filled at the end, are named and left out."""
    status = frame["stage_name"]
    planted = frame.assign(
        verdict=np.where(status == "Won", "yes", np.where(status == "Lost", "no", "maybe")),
        signed_by=np.where(status == "Open", None, "somebody"),
    )
    context = context_of(frame)
    past = read_past(Deals(planted, context))
    assert set(past.left_out) == {"verdict"} | ({"signed_by"} & set(past.left_out))
    assert "verdict" not in past.columns
    assert "segment" in past.columns
    two = planted.assign(signed_by=np.where(status == "Open", None, np.where(frame.index % 2 == 0, "one", "two")))
    assert "missing on 100% of open deals" in read_past(Deals(two, context)).left_out["signed_by"]


def test_known__refuses_to_look_ahead(frame: pd.DataFrame) -> None:
    """The as-of view raises where somebody asks it for a later day."""
    past = read_past(Deals(frame, context_of(frame)))
    known = past.known(past.day - 100)
    with pytest.raises(ConfigurationError, match="not known"):
        known.won_between(past.day - 150, past.day)
    with pytest.raises(ConfigurationError, match="what is known ends"):
        past.known(past.day + 1)


def test_known__infers_when_recording_began() -> None:
    """Closings kept from day 300 on are noticed, and said; a record from the beginning is left alone."""
    past = read_past(Deals(late := frame_of(generate(WORLDS["recorded_late"], 2)), context_of(late)))
    assert abs(past.observed_from - int(START.astype(int)) - 300) <= 7
    assert any("closings are taken as recorded since" in note for note in past.notes)


def test_walk__weights_only_windows_that_had_ended(frame: pd.DataFrame) -> None:
    """A window that had not ended when another began has no weight in its forecast."""
    walk = Walk(read_past(Deals(frame, context_of(frame))), 30)
    for at in range(len(walk.days)):
        assert not walk.weights[at][walk.days + 30 > walk.days[at]].any()


def test_weights__of_a_row_that_missed_by_far_go_to_nothing() -> None:
    """The weights are where no shift between two rows makes the sum less, however much rows differ in size."""
    rng = np.random.default_rng(0)
    apart = rng.normal(0, 1, (5, 12)) * np.array([1e-3, 1.0, 1.0, 3.0, 30.0])[:, None]
    gram, pull = apart @ apart.T, apart @ rng.normal(0, 1, 12)
    prior = np.array([0.5, 0.2, 0.2, 0.1, 0.1])
    share = weigh(gram[None], pull[None], prior[None])[0]
    slope = gram @ share - pull + np.log(share / prior)
    assert share.sum() == pytest.approx(1)
    kept = share > 1e-9
    assert kept.sum() >= 3
    assert np.ptp(slope[kept]) < 1e-2
    assert (slope[~kept] > slope[kept].max()).all()
    assert weigh(gram[None], pull[None], np.array([[1.0, 1.0, 1.0, 1.0, 0.0]]))[0, 4] == 0


@pytest.mark.parametrize("brought_along", [True, False])
def test_naive_rows__of_a_record_that_begins_with_nothing_leave_its_first_days_out(brought_along: bool) -> None:
    """What the days brought in which a pipeline filled is no measure of later ones."""
    walk = Walk(past_of(generate(World(days=360, per_day=3.0, brought_along=brought_along), 0)), 90, new_deals=False)
    begun = walk.days - 90 - walk.past.first_day
    for name in ("last_window", "mean_window"):
        assert np.isfinite(walk.rows[name][begun >= 45]).all()
    assert np.isfinite(walk.rows["last_window"][(begun >= 0) & (begun < 45)]).all() == brought_along
    assert ((begun >= 0) & (begun < 45)).any()


def test_mix__judges_the_hazards_by_the_columns_that_it_trusts_now(frame: pd.DataFrame) -> None:
    """A row is not blamed for what was missed while other columns were trusted."""
    mixes = []
    for before in (0, 2):
        walk = Walk(read_past(Deals(frame, context_of(frame))), 90)
        shares = np.zeros(walk.column_weights.shape)
        shares[before, :-1] = shares[2, -1] = 1.0
        walk.__dict__["column_weights"] = shares
        mixes.append(walk.mix_weights[list(walk.rows).index("hazards"), -1])
    assert mixes[0] == pytest.approx(mixes[1], abs=0.01)


def test_mix__takes_dated_deals_by_what_such_sums_brought() -> None:
    """Losers that nobody closes are put off for ever: what is dated in the window moves the mix little."""
    walk = Walk(past_of(generate(WORLDS["careless_owners"], 1)), 30)
    assert walk.rows["dated"][-1] > 3 * walk.mix.mean[-1]
    assert walk.rows["dated"][-1] * walk.dated_level[-1] < 1.5 * walk.mix.mean[-1]


def test_quantiles__agree_with_moments() -> None:
    """Amounts that are nothing with a chance of 0.2 have the mean and spread they were given."""
    q = (np.arange(200_000) + 0.5) / 200_000
    values = quantiles(np.array([100.0]), np.array([80.0]), np.array([0.2]), q)[0]
    assert (values == 0).mean() == pytest.approx(0.2, abs=1e-3)
    assert values.mean() == pytest.approx(100, rel=0.01)
    assert values.std() == pytest.approx(80, rel=0.02)


def test_compare__sets_methods_side_by_side(frame: pd.DataFrame) -> None:
    """One row per method, naive rows among them, with the chance of a quota."""
    table = frame.opp.compare(horizon_days=30, quota=1.0)
    assert {"mix", "hazards", "landing", "last_window", "last_year"} <= set(table.index)
    assert table.loc["mix", "p_quota"] == pytest.approx(1, abs=0.02)
    assert table.loc["mix", "mean"] == pytest.approx(frame.opp.predict(horizon_days=30).mean, rel=1e-6)
    assert table.loc["mix", "crps"] < table.loc["last_window", "crps"]
    assert frame.opp.compare(horizon_days=30, methods=["landing"]).index.tolist()[0] == "landing"


@pytest.mark.parametrize("method", ["mix", "landing", "last_window"])
@pytest.mark.parametrize("asked", [{"horizon_days": 30}, {"period": "2025Q1"}], ids=str)
def test_compare__says_the_same_as_predict(frame: pd.DataFrame, asked: dict[str, Any], method: str) -> None:
    """Mean, interval and chance of a quota are the same to the last digit, of any method and with quotas by group."""
    quota = {"small": 200_000.0, "large": 300_000.0}
    found = frame.opp.predict(**asked, method=method, quota=quota, by="segment")
    row = frame.opp.compare(**asked, methods=[method], quota=500_000.0).loc[method]
    assert tuple(row[["mean", "low_80", "high_80", "p_quota"]]) == (found.mean, *found.interval(0.8), found.p_quota)
    assert 0 < found.p_quota < 1
    assert frame.opp.predict(**asked, method=method).interval(0.8) == found.interval(0.8)


def test_predict__gives_only_reasons_that_change_something(frame: pd.DataFrame) -> None:
    """No factor between 0.95 and 1.05 is listed, and an empty text is called empty."""
    region = np.where(np.arange(len(frame)) % 2 == 0, " ", "north")
    reasons = frame.assign(region=region).opp.predict(horizon_days=30, segments=["segment", "region"]).deals["reasons"]
    factors = reasons.str.extractall(r": ([0-9.]+) times")[0].astype(float)
    assert len(factors) > 50
    assert (np.abs(np.log(factors)) > 0.04).all()
    assert (reasons.str.len() > 0).all()
    assert not reasons.str.contains(r"region\s*:", regex=True).any()


def test_explain__of_a_prediction_goes_down_to_deals_with_reasons(frame: pd.DataFrame) -> None:
    """What was won and what open deals are expected to bring add up to their parts, each open deal with its reasons."""
    for asked in ({"period": "2025Q1"}, {"horizon_days": 30, "as_of": day_of(700)}):
        found = frame.opp.predict(**asked)
        rows = frame.opp.explain(found, column="mean").rows
        assert rows["contribution"].sum() == pytest.approx(found.parts.loc[["won", "open"], "mean"].sum())
        reasons = found.deals.set_index("id")["reasons"]
        shown = rows.set_index("custom_id")["reasons"]
        assert (shown[reasons.index] == reasons).all()
        assert (shown.drop(reasons.index) == "").all()


def test_prediction__takes_common_luck_into_wins_and_drivers(frame: pd.DataFrame) -> None:
    """The correlation is fitted to past misses: the number of wins spreads by it, no deal moves more than it can."""
    found = frame.opp.predict(horizon_days=30)
    assert 0 < found.correlation < 0.5
    alone = Bookings(found.amounts, found.chances)
    assert found.wins.index @ found.wins == pytest.approx(found.chances.sum(), rel=1e-3)
    variance = (found.wins.index - found.chances.sum()) ** 2 @ found.wins
    assert variance > 1.05 * ((alone.wins.index - found.chances.sum()) ** 2 @ alone.wins)
    moved = found.drivers(found.mean)
    assert (moved["p_moved"] < moved["probability"]).all()


def test_backtest__without_a_history(frame: pd.DataFrame) -> None:
    """Created and closed dates are enough for a backtest."""
    table = frame.opp.backtest(horizon_days=30)
    assert table.loc["mix", "windows"] > 20
    assert 0.5 <= table.loc["mix", "coverage_80"] <= 1
    assert "mean" not in table


class Half:
    """Half of every open amount, whatever happens; remembers the evenings it was fitted on."""

    def __init__(self) -> None:
        self.evenings: list[pd.Timestamp] = []

    def fit(self, known: KnownDeals) -> None:
        """Look at what it is given, and keep nothing of it."""
        assert not (known.frame["closed_day"] > known.as_of).any()
        assert not (known.frame["created_day"] > known.as_of).any()
        self.evenings.append(known.as_of)

    def predict(self, window: Window) -> Bookings:
        """Take every second deal for won."""
        amounts = window.open_deals["amount"].to_numpy(dtype=float)
        return Bookings(amounts, np.full(len(amounts), 0.5))


def test_predict__takes_anybodys_forecaster(frame: pd.DataFrame) -> None:
    """It is fitted anew before every window, on what was known then, and has a record like any other."""
    method = Half()
    assert isinstance(method, Forecaster)
    found = frame.opp.predict(horizon_days=30, method=method, new_deals=False)
    assert found.method == "Half"
    assert found.mean == pytest.approx(0.5 * frame.loc[frame["stage_name"] == "Open", "amount"].sum(), rel=1e-6)
    assert len(method.evenings) == found.record["windows"].iloc[0] + 1
    assert found.record["bias"].iloc[0] > 0.5
    table = frame.opp.compare(horizon_days=30, methods=["mix", method], new_deals=False)
    assert table.loc["mix", "crps"] < table.loc["Half", "crps"]


class Coin:
    """Every deal is won with one probability, whatever happens."""

    def fit(self, known: KnownDeals) -> None:
        """Learn nothing."""

    def predict(self, deals: pd.DataFrame, until: pd.Timestamp) -> np.ndarray:
        """Toss."""
        assert (deals["created_day"] < until).all()
        return np.full(len(deals), 0.25)


def test_predict__takes_anybodys_win_probability(frame: pd.DataFrame) -> None:
    """A probability of each deal by a day enters by the same door as a forecast of the window."""
    found = frame.opp.predict(horizon_days=30, method=Coin(), new_deals=False)
    assert found.mean == pytest.approx(0.25 * frame.loc[frame["stage_name"] == "Open", "amount"].sum(), rel=1e-6)
    assert "Coin" in frame.opp.compare(horizon_days=30, methods=[Coin()]).index


def test_predict__on_two_months_says_that_it_is_not_tested() -> None:
    """Little history makes a wide interval and no sentence about coverage."""
    young = frame_of(generate(WORLDS["two_months"], 3)).opp.predict(horizon_days=30)
    assert young.tested.startswith("not tested yet: needs")
    assert "too few to choose by" in young.why
    low, high = young.interval(0.8)
    assert low < young.mean < high


def test_predict__counts_zombies() -> None:
    """Open deals older than any that was won are listed, and hardly expected."""
    found = frame_of(generate(WORLDS["zombies"], 4)).opp.predict(horizon_days=30)
    zombies = found.deals[found.deals["zombie"]]
    assert len(zombies) > 20
    assert zombies["p"].mean() < 0.1 * found.deals.loc[~found.deals["zombie"], "p"].mean()
    assert any("older than any deal that was ever won" in note for note in found.attrs["opp_basis"]["notes"])


def test_predict__of_an_amount_that_changes_at_closing() -> None:
    """Where open deals have no amounts, those of closed ones are not used while they were open."""
    world = generate(World(), 5)
    frame = frame_of(world)
    blank = frame.assign(amount=frame["amount"].where(frame["stage_name"] == "Won"))
    past = read_past(Deals(blank, context_of(frame)))
    assert not past.stated_amounts
    found = blank.opp.predict(horizon_days=30, new_deals=False)
    assert found.mean == pytest.approx(came(world, 30, new_deals=False), rel=0.6)


def test_predict__refuses_what_it_cannot_do(frame: pd.DataFrame) -> None:
    """A period that is over, an unknown method, a frame without creation dates."""
    with pytest.raises(ConfigurationError, match="is over"):
        frame.opp.predict("2024Q4")
    with pytest.raises(ConfigurationError, match="method is one of"):
        frame.opp.predict(horizon_days=30, method="magic")
    with pytest.raises(FrameError, match="no deal has a creation date"):
        frame.assign(external_created_at=frame["external_created_at"].where(frame["amount"] < 0)).opp.predict()


def test_predict__without_creation_dates_says_which_column_to_name() -> None:
    """The remedy names the column of the file that holds dates, and works as it is written."""
    source = pd.DataFrame({
        "Stage": ["Won", "Lost", "Open"] * 20,
        "Close Date": [day_of(place * 9 + 40) for place in range(60)],
        "Amount": [100 * place for place in range(60)],
        "Ref": [f"A-{place}" for place in range(60)],
        "Entered in the books": [day_of(place * 9) for place in range(60)],
    })  # fmt: skip
    options = {"as_of": day_of(500), "timezone": "UTC", "currency": "USD"}
    with pytest.raises(FrameError, match="no deal has a creation date") as error:
        opp.adopt(source, **options).opp.predict(horizon_days=30)
    remedy = re.search(r"columns=(\{.*\})", str(error.value))
    assert opp.adopt(source, ast.literal_eval(remedy[1]), **options).opp.predict(horizon_days=30).mean > 0


def test_predict__of_a_load_without_creation_dates_says_how_to_load_them(client: opp.Client) -> None:
    """Fields that were not asked for are asked for as the remedy says."""
    fields = ["amount", "stage_id", "close_date"]
    with pytest.raises(FrameError, match=r"fields=\[\.\.\., 'created_at'\]"):
        opp.read_opportunities(client, fields=fields).opp.predict(horizon_days=30)
    loaded = opp.read_opportunities(client, fields=[*fields, "created_at"])
    assert loaded.opp.predict(horizon_days=30).mean > 0


def recorded(deals: dict[str, Any], evenings: list[int]) -> History:
    """Keep what was known of a world on several evenings."""
    history = history_in_memory()
    for evening in evenings:
        history.record(frame_of(deals | {"today": evening}))
    return history


@pytest.fixture(scope="module")
def kept() -> tuple[dict[str, Any], History]:
    """A world of optimists with a history of every second week of its last year."""
    world = replace(WORLDS["optimists"], days=420, per_day=0.8)
    deals = generate(world, 0)
    past = past_of(deals)
    evenings = (Walk(past, 30).days - START.astype(int)).tolist()
    return deals, recorded(deals, evenings)


def test_predict__learns_what_statements_of_a_history_are_worth(kept: tuple[dict[str, Any], History]) -> None:
    """Percentages and close dates as they stood are read from the history, weighed, and named in the reasons."""
    deals, history = kept
    frame = frame_of(deals)
    found, walk = frame.opp.predict(horizon_days=30, history=history), Walk(past_of(deals), 30)
    assert found.mean == pytest.approx(outlook(walk, walk.mix).mean, rel=0.01)
    assert found.deals["reasons"].str.contains("stated .* %, dated 20").any()
    table = frame.opp.compare(horizon_days=30, history=history)
    assert table.loc["landmark", "crps"] < 0.9 * table.loc["dated", "crps"]
    assert table.loc["dated", "bias"] > 0.3
    ends = tuple(table.loc["mix", ["mean", "low_80", "high_80"]])
    assert ends == (found.mean, *found.interval(0.8))
    new = frame.opp.predict(horizon_days=30, history=history_in_memory())
    assert new.mean == pytest.approx(frame.opp.predict(horizon_days=30).mean)
    assert frame.opp.backtest(history, horizon_days=30).loc["landmark", "windows"] > 15


def test_mix__leans_on_what_told_single_deals_apart() -> None:
    """Sellers who know every deal's chance and day are taken at their word; those who close no loser are not."""
    honest, careless = (
        Walk(past_of(generate(replace(WORLDS[name], days=420), 3)), 30, new_deals=False)
        for name in ("honest", "careless_owners")
    )
    of_dated = [walk.mix_weights[list(walk.rows).index("dated"), -1] for walk in (honest, careless)]
    assert of_dated[0] > 0.8
    assert of_dated[1] < 0.01
    assert honest.dated_level[-1] == pytest.approx(1, abs=0.03)
    assert honest.mix.mean[-1] == pytest.approx(honest.rows["dated"][-1], rel=0.05)


def test_boosting__learns_what_statements_are_worth(frame: pd.DataFrame) -> None:
    """Gradient boosting learns from the evenings that teach the landmark row, and needs a history."""
    pytest.importorskip("sklearn")
    walk = Walk(past_of(generate(replace(WORLDS["optimists"], days=420, per_day=0.8), 0)), 30)
    scores = {name: walk.record_of(walk.forecasts(name)) for name in ("boosting", "dated")}
    assert scores["boosting"]["crps"] < 0.9 * scores["dated"]["crps"]
    assert scores["boosting"]["windows"] > 15
    with pytest.raises(ConfigurationError, match="or no history was given"):
        frame.opp.predict(horizon_days=30, method="boosting")


@pytest.mark.nightly
def test_predict__boosts_with_a_history(kept: tuple[dict[str, Any], History]) -> None:
    """By the frame's door boosting says the same in `predict` and `compare`."""
    deals, history = kept
    frame = frame_of(deals)
    table = frame.opp.compare(horizon_days=30, history=history, methods=["boosting", "dated"])
    found = frame.opp.predict(horizon_days=30, history=history, method="boosting")
    assert found.mean == pytest.approx(table.loc["boosting", "mean"])


def test_predict__sees_no_later_statement(kept: tuple[dict[str, Any], History]) -> None:
    """What was said after the moment of a forecast does not move it."""
    deals, history = kept
    frame, then = frame_of(deals), deals["today"] - 90
    found = frame.opp.predict(horizon_days=30, history=history, as_of=day_of(then))
    changed = deals | {"percent": np.full(len(deals["percent"]), 50.0)}
    history_after = history_in_memory()
    for observed in history.snapshots()["observed_at"]:
        evening = int((observed.tz_localize(None) - pd.Timestamp(START)).days)
        history_after.record(frame_of((deals if evening <= then else changed) | {"today": evening}))
    assert frame.opp.predict(horizon_days=30, history=history_after, as_of=day_of(then)).mean == found.mean


@pytest.mark.parametrize("edit", ["nothing", "close_date", "amount", "owner_name", "stage_name"])
def test_predictor__says_the_same_as_predict_after_an_edit(frame: pd.DataFrame, edit: str) -> None:
    """What is kept of an earlier walk changes no digit; of a past that an edit did not touch nothing is fitted anew."""
    again, context = Predictor(), context_of(frame)
    again.predict(frame, context=context, period="2025Q1")
    first = again._walk
    row, changed = frame.index[frame["stage_name"] == "Open"][3], frame.copy()
    values = {
        "close_date": pd.Timestamp("2025-03-20", tz="UTC"), "amount": 250_000, "owner_name": "owner 3",
        "stage_name": "Lost",
    }  # fmt: skip
    if edit != "nothing":
        changed.loc[row, edit] = values[edit]
    if edit == "stage_name":
        changed.loc[row, "close_date"] = pd.Timestamp("2025-03-01", tz="UTC")
    found, alone = (p.predict(changed, context=context, period="2025Q1") for p in (again, Predictor()))
    assert (found.mean, found.sd) == (alone.mean, alone.sd)
    pd.testing.assert_frame_equal(found.deals, alone.deals)
    pd.testing.assert_frame_equal(found.record, alone.record)
    kept = {name for name, old in first.cuts[5].hazards.items() if again._walk.cuts[5].hazards[name] is old}
    touched = {"amount": {"size of amount"}, "owner_name": {"owner_name"}}
    assert kept == (set() if edit == "stage_name" else set(first.columns) - touched.get(edit, set()))


def test_predict__splits_by_group_and_sets_beside_a_quota(frame: pd.DataFrame) -> None:
    """Groups and new deals add up to the mean; a group's interval holds its mean; quotas by group are met or not."""
    found = frame.opp.predict(horizon_days=30, by="segment", quota={"small": 1.0, "large": 1e12})
    assert found.groups["mean"].sum() == pytest.approx(found.mean, rel=1e-6)
    split = found.groups.drop("(new deals)")
    assert ((split["low_80"] <= split["mean"]) & (split["mean"] <= split["high_80"])).all()
    assert found.groups.loc["small", "p_quota"] > 0.9
    assert found.groups.loc["large", "p_quota"] < 0.01
    assert found.quota == 1e12 + 1
    whole = frame.opp.predict(horizon_days=30, quota=found.mean)
    assert whole.attainment == pytest.approx(1)
    assert 0.3 < whole.p_quota < 0.7
    with pytest.raises(ConfigurationError, match="need by="):
        frame.opp.predict(horizon_days=30, quota={"small": 1.0})


def test_record__of_one_block_of_windows_has_no_interval() -> None:
    """Twelve windows that overlap all through are one: drawing them again and again would make its error certain."""
    rng = np.random.default_rng(0)
    mean, actual = rng.uniform(50, 150, 12), rng.uniform(50, 150, 12)
    intervals = {0.8: (mean - 40, mean + 40)}
    overlapping, apart = (score_windows(mean, actual, np.ones(12), intervals, block) for block in (13, 1))
    assert np.isnan([overlapping["wape_low"], overlapping["wape_high"]]).all()
    assert apart["wape_low"] < apart["wape"] == overlapping["wape"] < apart["wape_high"]
