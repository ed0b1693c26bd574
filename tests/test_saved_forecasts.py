"""Named forecasts in a History, and what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import opp_pandas as opp
from opp_pandas.errors import ConfigurationError
from worlds import START, World, came, frame_of, generate

if TYPE_CHECKING:
    from pathlib import Path


def test_forecasts__are_kept_and_scored(tmp_path: Path) -> None:
    """A forecast is saved, listed, scored once its days are over, and never replaced."""
    world = generate(World(days=300), 7)
    known = {name: np.array(values) for name, values in world.items() if name != "today"}

    def seen(today: int) -> object:
        frame = frame_of(known | {"today": today})
        return frame.assign(id=frame["custom_id"].str[1:].astype("Int64"))

    history = opp.History(tmp_path / "deals")
    now = seen(300)
    history.record(now)
    saved = history.save_forecast("commit", now, author="Ana", comment="first", horizon_days=60)
    history.save_forecast("far", now, horizon_days=365)
    assert saved.name == "commit"
    with pytest.raises(ConfigurationError, match="never"):
        history.save_forecast("commit", now, horizon_days=30)
    table = history.forecasts()
    assert table["name"].tolist() == ["commit", "far"]
    assert table["first_day"].iloc[0] == str(START + 301)
    assert history.forecast_accuracy()["actual"].isna().all()
    history.record(seen(390))
    scored = history.forecast_accuracy().set_index("name")
    assert scored.loc["commit", "actual"] == came(world, 60, new_deals=True)
    assert scored.loc["commit", "error"] == scored.loc["commit", "mean"] - scored.loc["commit", "actual"]
    assert np.isnan(scored.loc["far", "crps"])
