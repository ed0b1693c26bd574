"""The sandbox's deals go on along their truth, and a history records them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import opp_pandas as opp
from conftest import NOW, STAGES
from histories import history_in_memory
from opp_pandas.errors import ConfigurationError
from opp_pandas.figures import waterfall


def loaded(box: opp.Sandbox) -> pd.DataFrame:
    with box.client(timezone="America/New_York") as client:
        return opp.read_opportunities(client, stages=STAGES, on_invalid="ignore")


def test_advance__leads_every_deal_to_its_outcome() -> None:
    """After years, the deals that were open are won and lost as the truth said, on its day."""
    with opp.sandbox(opportunities=150, seed=2, now=NOW) as box:
        before, truth = loaded(box), box.truth.set_index("id")
        box.advance(days=1500)
        after = loaded(box).set_index("id")
    was_open = before.loc[before["stage_is_closed"].eq(False) & before["trashed_at"].isna(), "id"]
    assert len(was_open) > 20
    ended = after.loc[was_open, "stage_name"].map({"Closed Won": "won", "Closed Lost": "lost"})
    assert ended.tolist() == truth.loc[was_open, "outcome"].tolist()
    closed_on = after.loc[was_open, "close_date"].dt.tz_convert("America/New_York").dt.tz_localize(None)
    later = truth.loc[was_open, "closing_day"] > pd.Timestamp(NOW).tz_localize(None)
    assert (closed_on[later] == truth.loc[was_open, "closing_day"][later]).all()
    others = before.loc[~before["id"].isin(was_open), "id"]
    assert after.loc[others, "updated_at"].tolist() == before.set_index("id").loc[others, "updated_at"].tolist()


def test_advance__in_many_steps_is_the_same_as_in_one() -> None:
    """Time passes alike, however it is cut; new deals come in order, with a truth of their own."""
    frames = []
    for steps in (1, 30):
        with opp.sandbox(opportunities=80, seed=3, now=lambda: pd.Timestamp(NOW).to_pydatetime()) as box:
            changes = sum(box.advance(days=60 / steps) for _ in range(steps))
            assert changes > 30
            frames.append(loaded(box))
            assert box.now == pd.Timestamp(NOW) + pd.Timedelta(days=60)
            assert set(frames[-1]["id"]) == set(box.truth["id"])
    assert len(frames[0]) > 80
    pd.testing.assert_frame_equal(frames[0], frames[1], check_flags=False)


def test_advance__p_stays_the_true_chance() -> None:
    """Among deals that got on to a later stage, as many are won as the truth's p says."""
    ratios = []
    with opp.sandbox(opportunities=1200, seed=5, now=NOW) as box:
        start = box.truth.set_index("id")["p"]
        box.advance(days=25)
        truth = box.truth.set_index("id")
        moved = truth.index[truth["p"] > truth.index.map(start).to_series(index=truth.index).fillna(1.0)]
        ratios.append((truth.loc[moved, "outcome"].eq("won").sum(), truth.loc[moved, "p"].sum(), len(moved)))
    won, expected, n = ratios[0]
    assert n > 50
    assert abs(won - expected) < 3 * np.sqrt(n * 0.25)


def test_advance__leaves_alone_what_users_closed(box: opp.Sandbox) -> None:
    """A deal that was closed or deleted through the API goes its own way."""
    df = loaded(box)
    still_open = df.loc[df["stage_is_closed"].eq(False), "id"].tolist()
    lost = int(df.loc[df["stage_name"] == "Closed Lost", "stage_id"].iloc[0])
    with box.client() as client:
        client.update(still_open[0], relationships={"opportunityStage": lost})
        client.delete(still_open[1])
    box.advance(days=800)
    after = loaded(box).set_index("id")
    assert after.loc[still_open[0], "stage_name"] == "Closed Lost"
    assert still_open[1] not in after.index
    with pytest.raises(ConfigurationError, match="forward only"):
        box.advance(days=-1)


def test_advance__a_closed_sandbox_says_so() -> None:
    """Nothing happens in a sandbox that is closed; one without deals only gets older."""
    with opp.sandbox(opportunities=0, now=NOW) as box:
        assert box.advance(days=10) == 0
    with pytest.raises(ConfigurationError, match="closed"):
        box.advance()


def test_history__of_a_simulated_half_year_is_true() -> None:
    """Weekly snapshots of the sandbox: each comes back as it was loaded, and every quarter's waterfall balances."""
    history = history_in_memory()
    copies = {}
    with opp.sandbox(opportunities=120, seed=7, now="2026-01-01T09:00:00Z") as box:
        for _ in range(26):
            df = loaded(box)
            history.record(df)
            copies[box.now] = df
            box.advance(days=7)
        truth = box.truth.set_index("id")
    for at, copy in list(copies.items())[::8]:
        pd.testing.assert_frame_equal(history.as_of(at)[list(copy.columns)], copy, check_flags=False)
    table = waterfall(history, period="2026Q2", since="2026-04-02", until="2026-06-20")
    assert table.loc["won", "count"] > 0
    assert table.loc["pushed_out", "count"] > 0
    path = waterfall(history, period="2026Q2", since="2026-04-02", until="2026-06-20", method="path")
    assert path.loc["end", "amount"] == table.loc["end", "amount"]
    assert path.loc["won", "amount"] == pytest.approx(table.loc["won", "amount"])
    funnel = history.as_of().opp.funnel(history=history)
    assert funnel["reached"].dropna().is_monotonic_decreasing
    # What the funnel says of the deals that came since is what the generator had meant for them.
    cohort = history.as_of().opp.funnel(history=history, cohort=("2026-01-02", "2026-04-30"))["reached"].dropna()
    now = history.as_of().set_index("id")
    came = now[now["created_at"].between("2026-01-02", "2026-05-01")]
    won = came.index[came["stage_is_closed"] & truth.loc[came.index, "outcome"].eq("won")]
    assert cohort.iloc[0] == len(came) > 20
    assert cohort.iloc[-1] == len(won) > 3
