"""Named forecasts in a History, and what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.errors import ConfigurationError, DamagedHistoryError
from worlds import World, came, day_of, frame_of, generate

if TYPE_CHECKING:
    from pathlib import Path


def seen(known: dict[str, Any], today: int, **changes: Any) -> pd.DataFrame:
    """A world's deals as they are known on a day."""
    return frame_of({**known, "today": today}, **changes)


def test_forecasts__are_kept_and_scored(tmp_path: Path) -> None:
    """A forecast is saved, listed, scored once its days are over, and never replaced."""
    world = generate(World(days=300), 0)
    history = opp.History(tmp_path / "deals")
    now = seen(world, 300)
    history.record(now)
    saved = history.save_forecast("commit", now, author="Ana", comment="first", horizon_days=60)
    history.save_forecast("far", now, horizon_days=365)
    assert saved.name == "commit"
    assert saved.prediction.deals.astype({"id": "str"}).equals(saved.frame)
    assert saved.prediction.mean == saved.facts["mean"]
    with pytest.raises(ConfigurationError, match="never"):
        history.save_forecast("commit", now, horizon_days=30)
    table = history.forecasts()
    assert table["name"].tolist() == ["commit", "far"]
    assert table["first_day"].iloc[0] == day_of(301)
    assert history.forecast_accuracy()["actual"].isna().all()
    history.record(seen(world, 390))
    scored = history.forecast_accuracy().set_index("name")
    assert scored.loc["commit", "actual"] == came(world, 60, new_deals=True)
    assert scored.loc["commit", "error"] == scored.loc["commit", "mean"] - scored.loc["commit", "actual"]
    assert np.isnan(scored.loc["far", "crps"])


@pytest.mark.parametrize("weeks", [13, pytest.param(1, marks=pytest.mark.nightly)])
def test_forecasts__of_a_year_are_scored_as_anybody_can_recompute(tmp_path: Path, weeks: int) -> None:
    """A version every week (or quarter) of a year, each scored once it is over, in plain Python a second time."""
    world = generate(World(days=300, per_day=1.0), 11, ahead=480)
    created, closed, won, amount = (world[name] for name in ("created", "closed", "won", "amount"))
    history = opp.History(tmp_path / "deals")
    days = list(range(300, 665, 7 * weeks))
    foretold = {}
    for day in days:
        now = seen(world, day)
        if weeks == 1:
            history.record(now)
        # Every second one leaves out deals that are created later.
        asked = {"horizon_days": 91, "new_deals": len(foretold) % 2 == 0}
        history.save_forecast(f"week of day {day}", now, **asked)
        foretold[day] = (now.opp.predict(**asked), asked["new_deals"])
    assert history.forecasts()["name"].tolist() == [f"week of day {day}" for day in days]
    newest = 665 + 60
    history.record(seen(world, newest))
    table = history.forecast_accuracy().set_index("name")
    over = [day for day in days if day + 91 <= newest]
    assert 3 < len(over) < len(days)
    for day, (found, new_deals) in foretold.items():
        row = table.loc[f"week of day {day}"]
        assert row["mean"] == pytest.approx(found.mean)
        if day not in over:
            assert row[["actual", "error", "ape", "crps"]].isna().all()
            continue
        inside = won & (closed > day) & (closed <= day + 91) & (new_deals | (created <= day))
        actual = float(amount[inside].sum())
        low, high = found.interval(0.8)
        assert row["actual"] == actual > 0
        assert row["ape"] == pytest.approx(abs(found.mean - actual) / actual)
        assert row["inside_80"] == (low <= actual <= high)
        # The score is the mean over quantiles of twice the pinball loss.
        q = np.arange(0.0125, 1.0, 0.025)
        values = np.array([found.quantile(share) for share in q])
        loss = np.where(actual < values, (1 - q) * (values - actual), q * (actual - values))
        assert row["crps"] == pytest.approx(2 * loss.mean())


def test_forecasts__cannot_be_changed_without_being_noticed(tmp_path: Path) -> None:
    """A name is given once; a byte that is changed in a file, a file that is replaced or gone, is an error."""
    world = generate(World(days=200, per_day=1.0), 3)
    place = tmp_path / "deals"
    history = opp.History(place)
    now = seen(world, 200)
    for name in ("first", "second"):
        history.save_forecast(name, now, horizon_days=30)
    before = history.forecasts()
    with pytest.raises(ConfigurationError, match="versions are never changed"):
        history.save_forecast("first", now, horizon_days=60)
    pd.testing.assert_frame_equal(history.forecasts(), before)
    files = sorted(path for path in place.rglob("*.parquet") if "forecasts" in str(path))
    assert len(files) >= 2
    whole = [path.read_bytes() for path in files]
    for path, content in zip(files, whole, strict=True):
        middle = len(content) // 2
        for changed in (content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], content[:middle]):
            path.write_bytes(changed)
            with pytest.raises(DamagedHistoryError):
                opp.History(place).forecasts()
        path.write_bytes(content)
    files[0].write_bytes(whole[1])
    with pytest.raises(DamagedHistoryError):
        opp.History(place).forecasts()
    files[0].unlink()
    with pytest.raises(DamagedHistoryError):
        opp.History(place).forecasts()
    files[0].write_bytes(whole[0])
    pd.testing.assert_frame_equal(opp.History(place).forecasts(), before)


def test_forecasts__of_a_part_are_not_scored_against_all(tmp_path: Path) -> None:
    """A narrowed frame is refused where the history knows more; a history of that part takes it."""
    world = generate(World(days=200, per_day=1.0), 3)
    history, now = opp.History(tmp_path / "all"), seen(world, 200)
    history.record(now)
    part = now[now["segment"] == "small"]
    with pytest.raises(ConfigurationError, match=f"lacks {len(now) - len(part):,} deals that the history records"):
        history.save_forecast("small", part, horizon_days=30)
    own = opp.History(tmp_path / "small")
    own.save_forecast("small", part, horizon_days=30)
    assert own.forecasts()["mean"].iloc[0] == pytest.approx(part.opp.predict(horizon_days=30).mean)


def test_forecasts__are_scored_in_the_money_that_they_were_made_in(tmp_path: Path) -> None:
    """Rates that a forecast was made with are those that what came is added up with, whatever the newest load says."""
    world = generate(World(days=200, per_day=1.0), 3)
    history = opp.History(tmp_path / "deals")
    euros = {"currency_type": "EUR"}
    now = seen(world, 200, **euros)
    history.save_forecast("doubled", now, horizon_days=30, rates={"EUR": 2.0}, currency="USD")
    history.record(seen(world, 240, **euros))
    scored = history.forecast_accuracy().iloc[0]
    assert scored["actual"] == 2 * came({**world, "today": 200}, 30, new_deals=True)
