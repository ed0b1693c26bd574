"""What nobody could have known is planted in the deals: caught by name, shown not to matter, or out of sight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from worlds import World, came, day_of, frame_of, generate

if TYPE_CHECKING:
    from pathlib import Path

THEN = 400


@pytest.fixture(scope="module")
def world() -> dict[str, Any]:
    return generate(World(days=500, per_day=1.0), 2)


def notes_of(found: Any) -> str:
    return "\n".join(found.attrs["opp_basis"]["notes"])


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (lambda stage: np.where(stage == "Won", "signed", np.where(stage == "Lost", "gone", "talking")), "differ"),
        (
            lambda stage: np.where(stage == "Open", None, np.where(np.arange(len(stage)) % 2, "one", "two")),
            "is missing",
        ),
        (lambda stage: np.where(stage == "Won", "yes", "no"), ""),
    ],
    ids=["tells the end", "filled at the end", "tells winners"],
)
def test_planted_column__is_named_and_changes_nothing(world: dict[str, Any], plant: Any, why: str) -> None:
    """A column that knows the end is left out by name, and the forecast is the same to the last digit."""
    frame = frame_of(world)
    planted = frame.assign(verdict=plant(frame["stage_name"].to_numpy()))
    found, clean = planted.opp.predict(horizon_days=30), frame.opp.predict(horizon_days=30)
    assert "column 'verdict' is not used" in notes_of(found)
    assert why in notes_of(found)
    assert found.mean == clean.mean
    assert found.sd == clean.sd
    pd.testing.assert_frame_equal(found.windows, clean.windows)
    assert any("'verdict'" in warning for warning in planted.opp.fit_win_model().warnings)


def test_planted_column__that_is_filled_as_deals_go_on_is_left_out(world: dict[str, Any]) -> None:
    """A field that is filled on old deals alone tells on closed ones how long they were to last."""
    frame, rng = frame_of(world), np.random.default_rng(0)
    lasted = (
        frame["close_date"].clip(upper=pd.Timestamp(day_of(world["today"]), tz="UTC")) - frame["external_created_at"]
    )
    names = rng.choice(["one", "two"], len(frame))
    planted = frame.assign(approver=np.where((lasted.dt.days > 50) & (rng.random(len(frame)) < 0.5), names, None))
    found, clean = planted.opp.predict(horizon_days=30), frame.opp.predict(horizon_days=30)
    assert "column 'approver' is not used: it is filled on" in notes_of(found)
    assert found.mean == clean.mean
    assert "approver" in planted.opp.predict(horizon_days=30, segments=["approver"]).attrs["opp_basis"]["notes"][-1]


def test_planted_column__is_known_by_the_whole_file_at_an_earlier_moment(world: dict[str, Any]) -> None:
    """A field that is blank on most deals that are open today is left out of what is forecast of last year, too."""
    frame = frame_of(world)
    blank = (frame["stage_name"] == "Open") & (np.arange(len(frame)) % 3 > 0)
    planted = frame.assign(account=np.where(blank, None, np.where(np.arange(len(frame)) % 2, "one", "two")))
    then = {"horizon_days": 30, "as_of": day_of(THEN - 100)}
    found, clean = planted.opp.predict(**then), frame.opp.predict(**then)
    assert "column 'account' is not used: it is missing on" in notes_of(found)
    assert found.mean == clean.mean


def test_planted_column__of_days_until_the_end_is_warned_of(world: dict[str, Any]) -> None:
    """A number that follows the time from creation to closing is named, and not learned from."""
    frame = frame_of(world)
    lasted = (frame["close_date"] - frame["external_created_at"]).dt.days
    model = frame.assign(total_days=lasted.astype("float64")).opp.fit_win_model()
    assert any("'total_days'" in warning for warning in model.warnings)
    assert "total_days" not in model.features


def test_backdated_closing__is_seen_in_a_history_alone(world: dict[str, Any], tmp_path: Path) -> None:
    """Dates alone say that it had closed by then; the state that a history kept says that it was still open."""
    history = opp.History(tmp_path / "deals")
    history.record(frame_of({**world, "today": THEN}))
    # Won in the weeks after, and entered as won ten days before.
    late = world["won"] & (world["created"] < THEN - 20) & (world["closed"] > THEN) & (world["closed"] <= THEN + 25)
    assert late.sum() >= 3
    backdated = {**world, "closed": np.where(late, THEN - 10, world["closed"])}
    names = {f"D{place}" for place in np.flatnonzero(late)}
    from_dates = frame_of(backdated).opp.predict(horizon_days=30, as_of=day_of(THEN), new_deals=False)
    kept = history.as_of().opp.predict(horizon_days=30, new_deals=False)
    assert not names & set(from_dates.deals["id"])
    assert names <= set(kept.deals["id"])
    honest = frame_of({**world, "today": THEN}).opp.predict(horizon_days=30, new_deals=False)
    assert kept.mean == pytest.approx(honest.mean)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_amount_changed_at_closing__is_taken_back_in_part(world: dict[str, Any], factor: float) -> None:
    """Won deals are worth less, or more, than they were listed at: past levels show some of it, dates alone not all."""
    frame = frame_of(world)
    won = frame["stage_name"] == "Won"
    changed = frame.assign(amount=frame["amount"].where(~won, (frame["amount"] * factor).round().astype("Int64")))
    listed, found = (each.opp.predict(horizon_days=30, new_deals=False) for each in (frame, changed))
    came_in = came(world, 30, new_deals=False)
    off = (found.mean / (factor * came_in)) / (listed.mean / came_in)
    assert min(1.0, 1 / factor) < off < max(1.0, 1 / factor)


def test_amount_known_at_closing_alone__does_not_matter(world: dict[str, Any]) -> None:
    """Amounts that are entered when a deal is won say nothing while it is open: lost and open ones lack them."""
    frame = frame_of(world)
    won = frame["stage_name"] == "Won"
    found = frame.assign(amount=frame["amount"].where(won)).opp.predict(horizon_days=30, new_deals=False)
    other = frame["amount"].where(won, frame["amount"] * 50)
    assert "open deals have no amounts of their own" in notes_of(found)
    again = frame.assign(amount=other.where(won)).opp.predict(horizon_days=30, new_deals=False)
    assert again.mean == found.mean
