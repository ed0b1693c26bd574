"""Time in stage, step curves and the chain of stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from histories import LEAD, LOST, OFFER, QUALIFY, STAGE_TABLE, WON, history_in_memory, load_of, moment
from opp_pandas.errors import HistoryNeededError, MissingColumnError
from opp_pandas.figures import FigureContext, explain
from opp_pandas.figures.time_in_stage import stage_chain, stage_spells, step_curves, time_in_stage

CONTEXT = FigureContext(STAGE_TABLE, moment(31), "UTC")


def entries(paths: dict[int, list[tuple[int, int]]]) -> pd.DataFrame:
    """A row per entry, from deal -> [(stage, day)]."""
    rows = [(key, stage, moment(day)) for key, path in paths.items() for stage, day in path]
    frame = pd.DataFrame(rows, columns=["id", "stage_id", "entered_at"])
    return frame.astype({"id": "Int64", "stage_id": "Int64", "entered_at": "datetime64[us, UTC]"})


PATHS = {
    1: [(LEAD, 1), (QUALIFY, 6), (OFFER, 11), (WON, 21)],
    2: [(LEAD, 1), (QUALIFY, 11), (LEAD, 16), (LOST, 21)],
    3: [(LEAD, 11)],
    4: [(LEAD, 1), (OFFER, 4), (LOST, 14)],
}


def test_spells__say_how_long_and_where_to() -> None:
    """Skipped stages count as advance, a return as back, and the last stay runs until as_of."""
    spells = stage_spells(entries(PATHS), context=CONTEXT)
    told = [
        (row["id"], row["stage_name"], row["days"], None if pd.isna(row["way"]) else row["way"])
        for row in spells.to_dict("records")
    ]
    assert told == [
        (1, "Lead", 5, "advanced"), (1, "Qualify", 5, "advanced"), (1, "Offer", 10, "advanced"),
        (2, "Lead", 10, "advanced"), (2, "Qualify", 5, "back"), (2, "Lead", 5, "lost"),
        (3, "Lead", 20, None),
        (4, "Lead", 3, "advanced"), (4, "Offer", 10, "lost"),
    ]  # fmt: skip


def test_time_in_stage__censors_what_is_still_there() -> None:
    """By hand: Lead stays of 3, 5, 5, 10 days and one of 20 that goes on."""
    table = time_in_stage(entries(PATHS), context=CONTEXT)
    lead = table.loc["Lead"]
    assert (lead["entries"], lead["left"], lead["still"]) == (5, 4, 1)
    assert lead["median_days"] == 5
    assert np.isnan(lead["p90_days"])
    assert lead["advanced"] == pytest.approx(3 / 5)
    assert lead["lost"] == pytest.approx(1 / 5)
    assert table.loc["Qualify", "back"] == pytest.approx(1 / 2)
    assert list(table.index) == ["Lead", "Qualify", "Offer"]
    basis = table.attrs["opp_basis"]
    assert (basis["n"], basis["n_stays"]) == (4, 9)


def test_time_in_stage__leaves_out_stays_whose_beginning_nobody_saw() -> None:
    """The first snapshot finds deals in the middle of a stage."""
    history = history_in_memory()
    history.record(load_of([{"id": 1, "stage_id": LEAD}], 1))
    rows: list[dict[str, Any]] = [{"id": 1, "stage_id": QUALIFY}, {"id": 2, "stage_id": LEAD, "created_at": moment(8)}]
    history.record(load_of(rows, 10))
    table = time_in_stage(history, context=CONTEXT)
    assert table.loc["Lead", "entries"] == 1
    assert table.attrs["opp_basis"]["n_seen_before"] == 1


def test_time_in_stage__counts_what_was_there_before_from_when_it_was_seen() -> None:
    """Deals that a history finds in the first stage do not make it look long, and are not lost for it either."""
    random = np.random.default_rng(11)
    n, seen_from = 1500, 200.0
    created = random.uniform(0, 260, n)
    left = created + random.exponential(40, n)
    found = left > seen_from
    first = np.maximum(created, seen_from)
    rows = [(key, LEAD, first[key], created[key] < seen_from, created[key]) for key in np.flatnonzero(found)]
    rows += [(key, QUALIFY, left[key], False, created[key]) for key in np.flatnonzero(found)]
    frame = pd.DataFrame(rows, columns=["id", "stage_id", "entered_at", "seen_before", "created_at"])
    for name in ("entered_at", "created_at"):
        frame[name] = (moment(1) + pd.to_timedelta(frame[name], unit="D")).astype("datetime64[us, UTC]")
    until = FigureContext(STAGE_TABLE, moment(1) + pd.Timedelta(days=300), "UTC")
    table = time_in_stage(frame, context=until)
    basis = table.attrs["opp_basis"]
    assert basis["n_left_truncated"] == int((found & (created < seen_from)).sum()) > 100
    assert basis["n_seen_before"] == 0
    assert table.loc["Lead", "median_days"] == pytest.approx(40 * np.log(2), rel=0.15)
    # As if they had been watched from their creation, the same deals stay much too long.
    naive = time_in_stage(
        frame.assign(
            entered_at=frame["entered_at"].where(frame["stage_id"] != LEAD, frame["created_at"]), seen_before=False
        ),
        context=until,
    )
    assert naive.loc["Lead", "median_days"] > 1.4 * 40 * np.log(2)
    spells = stage_spells(frame, context=until)
    lead = spells[spells["stage_name"] == "Lead"]
    assert (lead["unseen_days"] > 0).sum() == basis["n_left_truncated"]


def test_step_curves__end_where_time_in_stage_says() -> None:
    """The last row of each curve is the share of the table."""
    curves = step_curves(entries(PATHS), context=CONTEXT)
    table = time_in_stage(entries(PATHS), context=CONTEXT)
    assert curves.loc["Lead", "advanced"].iloc[-1] == pytest.approx(table.loc["Lead", "advanced"])
    total = curves[["still", "advanced", "back", "lost"]].sum(axis=1)
    np.testing.assert_allclose(total, 1.0)


def test_chain__gives_the_textbook_answer() -> None:
    """Three of four leads go on and one is lost; of offers two of three are won."""
    paths = {key: [(LEAD, 1), (OFFER, 2), (WON if key < 2 else LOST, 3)] for key in range(3)}
    paths[3] = [(LEAD, 1), (LOST, 2)]
    table = stage_chain(entries(paths), context=CONTEXT, step_days=1)
    assert table.loc["Offer", "won"] == pytest.approx(2 / 3)
    assert table.loc["Lead", "won"] == pytest.approx(3 / 4 * 2 / 3)
    assert table.loc["Lead", "lost"] == pytest.approx(1 / 2)
    assert table.loc["Lead", "expected_days"] == pytest.approx(1 + 3 / 4)
    assert np.isnan(table.loc["Qualify", "won"])
    smooth = stage_chain(entries(paths), context=CONTEXT, step_days=1, smoothing=0.5)
    np.testing.assert_allclose(smooth["won"] + smooth["lost"], 1.0)


def test_chain__waits_in_a_stage_as_long_as_deals_do() -> None:
    """A chain of geometric stays finds their mean again."""
    random = np.random.default_rng(4)
    paths = {}
    for key in range(400):
        days = int(random.geometric(0.2))
        paths[key] = [(LEAD, 1), (WON if random.random() < 0.3 else LOST, 1 + days)]
    late = FigureContext(STAGE_TABLE, moment(31) + pd.Timedelta(days=60), "UTC")
    table = stage_chain(entries(paths), context=late, step_days=1)
    observed = np.mean([path[1][1] - 1 for path in paths.values()])
    assert table.loc["Lead", "expected_days"] == pytest.approx(observed)
    assert table.loc["Lead", "won"] == pytest.approx(np.mean([path[1][0] == WON for path in paths.values()]))


def test_results__say_their_zone() -> None:
    """A basis without a zone is one that explain() cannot put into words."""
    for figure in (time_in_stage, stage_chain):
        assert "days in UTC" in repr(explain(figure(entries(PATHS), context=CONTEXT)))


def test_no_history__says_how_to_start() -> None:
    """Neither None nor a frame without entries will do."""
    with pytest.raises(HistoryNeededError, match="opp-pandas snapshot"):
        time_in_stage(None, context=CONTEXT)
    with pytest.raises(MissingColumnError, match="entered_at"):
        stage_chain(entries(PATHS).drop(columns="entered_at"), context=CONTEXT)
    assert len(step_curves(entries({}), context=CONTEXT)) == 0
