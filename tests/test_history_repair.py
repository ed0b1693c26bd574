"""A history that lost files for good goes on in a new one, which says what it lacks wherever it is asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import opp_pandas as opp
from damage import files_below, flips, replaced
from histories import load_of, moment
from objectstore import BUCKET, object_store
from opp_pandas.errors import ConfigurationError, DamagedHistoryError
from opp_pandas.figures.core.basis import basis_of
from opp_pandas.frame_state import loaded_of
from opp_pandas.history import History

NIGHTS = (1, 2, 3, 4)
LOG = "_delta_log/{:020d}.json"


def load(day: int, **more: Any) -> pd.DataFrame:
    """Two deals whose amounts say the night, and one that comes on the third."""
    rows = [
        {"id": key, "name": f"deal {key}", "amount": 100 * day + key, "stage_id": 1, "close_date": moment(20)}
        for key in (1, 2, 3)
    ]
    return load_of(rows if day > 2 else rows[:2], day, **more)


def recorded(folder: Path) -> History:
    history = History(folder / "history")
    for day in NIGHTS:
        history.record(load(day))
    return history


def states(history: History) -> list[tuple[str, tuple[str, ...]]]:
    """How each night reads, and what is said to be in doubt about it; nothing for one before the beginning."""
    found = []
    for day in NIGHTS:
        try:
            frame = history.as_of(moment(day))
        except opp.errors.HistoryNeededError:
            found.append(("", ("before the beginning",)))
            continue
        found.append((frame.to_csv(), frame.opp.load_report.caveats))
    return found


def data_file(folder: Path, number: int) -> Path:
    """The data file of a commit of a table."""
    entries = [json.loads(line) for line in (folder / LOG.format(number)).read_text().splitlines()]
    return folder / next(entry["add"]["path"] for entry in entries if "add" in entry)


def lost_files(folder: Path) -> dict[str, list[Path]]:
    place = folder / "history"
    head = place / "_opp_pandas" / "head.json"
    return {
        "head": [head],
        "last log": [place / LOG.format(4)],
        "last commit": [place / LOG.format(4), data_file(place, 4)],
        "last commit and head": [place / LOG.format(4), data_file(place, 4), head],
        "two last commits": [place / LOG.format(number) for number in (3, 4)] + [data_file(place, 3)],
        "middle file": [data_file(place, 2)],
        "first file": [data_file(place, 1)],
        "middle log": [place / LOG.format(2)],
        "middle commit": [place / LOG.format(2), data_file(place, 2)],
    }


# Which nights are in doubt afterwards: a log that its neighbour tells, and a head that says no more than the logs, cost
# nothing that was there, but after a lost head nobody knows whether more commits followed.
DOUBTFUL = {
    "head": {4},
    "last log": set(),
    "last commit": {4},
    "last commit and head": {3, 4},
    "two last commits": {1, 2, 3, 4},
    "middle file": {2, 3, 4},
    "first file": {1, 2, 3, 4},
    "middle log": set(),
    "middle commit": {2, 3, 4},
}


@pytest.mark.parametrize("what", DOUBTFUL)
def test_repair__of_lost_files_says_which_nights_are_in_doubt(tmp_path: Path, what: str) -> None:
    """What is left reads as it was; every night that may lack something says so, and no other one."""
    history = recorded(tmp_path)
    truth = states(history)
    for path in lost_files(tmp_path)[what]:
        path.unlink()
    before = {path: path.read_bytes() for path in files_below(tmp_path)}
    damages = history.verify()
    losses = history.repair(tmp_path / "repaired", by="Ana", comment="disk failure")
    repaired = History(tmp_path / "repaired")
    assert sorted(losses["file"]) == sorted(damages["file"])
    assert set(losses["accepted_by"]) == {"Ana"}
    assert len(repaired.verify()) == 0
    found = states(repaired)
    assert {day for day, (_, doubts) in zip(NIGHTS, found, strict=True) if doubts} == DOUBTFUL[what]
    for is_now, was in zip(found, truth, strict=True):
        assert is_now[1] or is_now == was
    assert {path: path.read_bytes() for path in files_below(tmp_path / "history")} == before


def test_repair__is_never_silent_whatever_byte_is_flipped(tmp_path: Path) -> None:
    """After a flipped bit, every night of the repaired history is as it was, or says that it is in doubt."""
    history = recorded(tmp_path)
    truth = states(history)
    cases = 0
    for path in files_below(tmp_path / "history"):
        for words, content in list(flips(path, 997, 31)):
            with replaced(path, content):
                losses = history.repair(tmp_path / f"repaired {cases}", by="Ana")
            assert len(losses), words
            for is_now, was in zip(states(History(tmp_path / f"repaired {cases}")), truth, strict=True):
                assert is_now[1] or is_now == was, words
            cases += 1
    assert cases > 20


def test_repaired_history__is_whole_again_after_a_whole_load(tmp_path: Path) -> None:
    """Recording goes on; a load with all columns makes up for the loss from then on, one with fewer does not."""
    history = recorded(tmp_path)
    data_file(tmp_path / "history", 2).unlink()
    history.repair(tmp_path / "repaired", by="Ana")
    repaired = History(tmp_path / "repaired")
    repaired.record(load(5)[["id", "amount"]].pipe(lambda frame: load_of(frame, 5)))
    assert repaired.as_of().opp.load_report.caveats
    assert pd.isna(repaired.losses()["whole_again"][0])
    repaired.record(load(6))
    frame = repaired.as_of()
    assert frame.opp.load_report.caveats == ()
    assert frame.to_csv() == load(6).to_csv()
    assert repaired.losses()["whole_again"].tolist() == [moment(6)]
    assert repaired.as_of(moment(3)).opp.load_report.caveats
    for keep in (repaired.compact, lambda: repaired.vacuum(older_than_days=0), lambda: repaired.forget(moment(4))):
        keep()
        assert len(repaired.losses()) == 1
    assert repaired.as_of(moment(4)).opp.load_report.caveats


def test_figures__say_what_the_history_lost(tmp_path: Path) -> None:
    """The loss stands in the basis of figures over time, and in that of a night in doubt."""
    history = recorded(tmp_path)
    data_file(tmp_path / "history", 3).unlink()
    history.repair(tmp_path / "repaired", by="Ana")
    repaired = History(tmp_path / "repaired")
    repaired.record(load(5))
    now = repaired.as_of()

    def said(result: pd.DataFrame) -> bool:
        return any("accepted by Ana" in note and "2026-01-03" in note for note in basis_of(result)["notes"])

    assert said(repaired.as_of(moment(3)).opp.stage_distribution())
    assert said(repaired.as_of(moment(4)).opp.forecast())
    assert not said(repaired.as_of(moment(2)).opp.stage_distribution())
    assert not said(now.opp.stage_distribution())
    assert said(now.opp.funnel(repaired))
    assert said(now.opp.waterfall(repaired, period=("2026-01-02", "2026-01-05")))
    assert said(now.opp.waterfall(repaired.as_of(moment(3)), period=("2026-01-02", "2026-01-05")))
    assert said(now.opp.time_in_stage(repaired))
    lacking = repaired.as_of(moment(3))
    lacking.to_parquet(tmp_path / "lacking.parquet")
    assert said(opp.scan(tmp_path / "lacking.parquet").stage_distribution())


def test_logs_of_the_past__say_what_the_history_lost(tmp_path: Path) -> None:
    """So do changes and stages entered, as far as they reach into the doubt, and the periods in their file."""
    import pyarrow.parquet as pq

    history = recorded(tmp_path)
    pq.write_table(pq.read_table(history.write_validity(tmp_path / "whole")), tmp_path / "copy.parquet")
    assert b"opp_pandas.caveats" not in (pq.read_schema(tmp_path / "copy.parquet").metadata or {})
    data_file(tmp_path / "history", 3).unlink()
    history.repair(by="Ana")
    (caveat,) = history.caveats()

    def said(result: pd.DataFrame) -> bool:
        return caveat in basis_of(result)["notes"] and caveat in str(opp.show(result))

    assert said(history.diff(moment(2), moment(3)))
    assert not said(history.diff(moment(1), moment(2)))
    assert said(history.stage_entries())
    assert said(history.stage_entries(moment(3)))
    assert not said(history.stage_entries(moment(2)))
    schema = pq.read_schema(history.write_validity(tmp_path / "validity.parquet"))
    assert json.loads(schema.metadata[b"opp_pandas.caveats"]) == [caveat]


def test_forecast_accuracy__says_what_the_history_lost(tmp_path: Path, df: pd.DataFrame) -> None:
    """What came is counted in a state that may lack deals: the table says so."""
    history = History(tmp_path / "history")
    history.record(df)
    history.save_forecast("one", df, horizon_days=30)
    assert basis_of(history.forecast_accuracy())["notes"] == []
    (tmp_path / "history" / "_opp_pandas" / "head.json").unlink()
    history.repair(by="Ana")
    assert basis_of(history.forecast_accuracy())["notes"] == [*history.caveats()] != []


def test_repair__in_place_moves_the_damaged_history_aside(tmp_path: Path) -> None:
    """The object goes on with what is left, the damaged files stay beside it, and a second loss finds its own place."""
    history = recorded(tmp_path)
    damaged = data_file(tmp_path / "history", 2)
    damaged.write_bytes(b"no rows")
    before = {path.relative_to(tmp_path / "history"): path.read_bytes() for path in files_below(tmp_path / "history")}
    (tmp_path / ".history.repaired").mkdir()
    (tmp_path / ".history.repaired" / "left").write_text("by one that was killed")
    assert history.repair(by="Ana")["file"].tolist() == [damaged.name]
    aside = tmp_path / "history-damaged-1"
    assert {path.relative_to(aside): path.read_bytes() for path in files_below(aside)} == before
    assert len(history.verify()) == 0
    history.record(load(5))
    assert history.as_of().to_csv() == load(5).to_csv()
    data_file(tmp_path / "history", 2).unlink()
    assert len(history.repair(by="Bo")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history", "history-damaged-1", "history-damaged-2"]


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped head"])
def test_repair__of_format_1_keeps_the_files_that_can_be_read(tmp_path: Path, damage: str) -> None:
    """It has no digests, but a file that is gone or cannot be read is named with its nights, and the rest kept."""
    shutil.copytree(Path(__file__).parent / "data" / "history_format1", tmp_path / "old")
    place = next(path for path in sorted((tmp_path / "old").rglob("_delta_log"))).parent
    history = History(place)
    files = sorted(place.glob("*.parquet"))
    assert len(files) > 1
    content = files[-1].read_bytes()
    if damage == "gone":
        files[-1].unlink()
    else:
        files[-1].write_bytes(content[:-100] if damage == "cut" else b"XXXX" + content[4:-4] + b"XXXX")
    found = history.verify()
    assert found["file"].tolist() == [files[-1].name]
    assert found["problem"].tolist() == ["is gone" if damage == "gone" else "cannot be read"]
    assert found["first_night"].notna().all()
    history.repair(by="Ana")
    assert len(history.verify()) == 0
    assert history.caveats()
    assert len(history.snapshots())


def test_load__does_not_go_on_from_what_is_in_doubt(tmp_path: Path) -> None:
    """A load that would only ask for what changed since asks for everything after a loss, once."""
    with opp.sandbox(20) as box, box.client() as client:
        history = History(tmp_path / "history")
        history.record(opp.read_opportunities(client))
        edited = opp.read_opportunities(client, history=history)
        client.update(int(edited["id"][0]), {"amount": 4_321})
        history.record(opp.read_opportunities(client, history=history))
        data_file(tmp_path / "history", 2).unlink()
        history.repair(tmp_path / "repaired", by="Ana")
        repaired = History(tmp_path / "repaired")
        lacks = repaired.as_of()
        lost = loaded_of(lacks)
        assert lost is not None
        assert lost.watermark is None
        whole = opp.read_opportunities(client, history=repaired)
        assert not any("from " + repaired.location in note for note in whole.opp.load_report.notes)
        assert whole.set_index("id").loc[int(edited["id"][0]), "amount"] == 4_321
        repaired.record(whole)
        again = opp.read_opportunities(client, history=repaired)
        assert any("from " + repaired.location in note for note in again.opp.load_report.notes)
        pd.testing.assert_frame_equal(again, whole, check_flags=False)


def test_repair__takes_saved_forecasts_along(tmp_path: Path, df: pd.DataFrame) -> None:
    """Those that are whole go with the history; one that is lost is told, and makes no state of the deals doubtful."""
    history = History(tmp_path / "history")
    history.record(df)
    for name in ("one", "two", "three"):
        history.save_forecast(name, df, horizon_days=30)
    folder = tmp_path / "history" / "_opp_pandas" / "forecasts"
    data_file(folder, 2).unlink()
    with pytest.raises(DamagedHistoryError):
        history.forecasts()
    losses = history.repair(tmp_path / "repaired", by="Ana")
    repaired = History(tmp_path / "repaired")
    assert losses["part"].tolist() == ["forecasts"]
    assert repaired.forecasts()["name"].tolist() == ["one", "three"]
    assert repaired.save_forecast("four", df, horizon_days=30).number == 4
    assert repaired.as_of().opp.load_report.caveats == ()


def test_repair__refuses_what_it_cannot_do(tmp_path: Path) -> None:
    """A whole history, a place that is taken, and a loss that nobody accepts are refused; a place half made is not."""
    history = recorded(tmp_path)
    with pytest.raises(ConfigurationError, match="no file is damaged"):
        history.repair(tmp_path / "repaired", by="Ana")
    data_file(tmp_path / "history", 2).unlink()
    with pytest.raises(ConfigurationError, match="by="):
        history.repair(tmp_path / "repaired", by=" ")
    History(tmp_path / "repaired")._storage.open(create=True)
    history.repair(tmp_path / "repaired", by="Ana")
    with pytest.raises(ConfigurationError, match="holds a history already"):
        history.repair(tmp_path / "repaired", by="Ana")
    shutil.rmtree(tmp_path / "repaired")
    for path in (tmp_path / "history").glob("part-*"):
        path.unlink()
    with pytest.raises(ConfigurationError, match="nothing is left"):
        history.repair(tmp_path / "repaired", by="Ana")


def test_repair__in_an_object_store_is_alike() -> None:
    """A lost head and a lost data file of a history in an object store are repaired at another address."""
    from deltalake.fs import DeltaStorageHandler
    from pyarrow.fs import PyFileSystem

    with object_store() as (options, _):
        place = f"s3://{BUCKET}/history"
        history = History(place, storage_options=options)
        for day in NIGHTS:
            history.record(load(day))
        store = PyFileSystem(DeltaStorageHandler(place, options))
        with store.open_input_file(LOG.format(2)) as log:
            entries = [json.loads(line) for line in log.read().splitlines()]
        for name in ("_opp_pandas/head.json", next(entry["add"]["path"] for entry in entries if "add" in entry)):
            store.delete_file(name)
        with pytest.raises(ConfigurationError, match="another address"):
            history.repair(by="Ana")
        losses = history.repair(f"s3://{BUCKET}/repaired", by="Ana")
        assert losses["first_night"].tolist() == [moment(2), moment(4)]
        repaired = History(f"s3://{BUCKET}/repaired", storage_options=options)
        assert len(repaired.verify()) == 0
        assert [bool(doubts) for _, doubts in states(repaired)] == [False, True, True, True]
