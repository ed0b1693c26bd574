"""The commands that forecast from the past: predict, backtest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas.cli import main
from worlds import World, day_of, frame_of, generate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opp_pandas.sandbox_handle import Sandbox

WON_LOST = ["--won", "Closed Won", "--lost", "Closed Lost"]
STAGES = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    """A sandbox for the whole module."""
    with opp.sandbox(opportunities=80, now="2026-10-20T15:00:00Z") as box:
        yield box


@pytest.fixture
def box(served: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The sandbox as the environment names it."""
    monkeypatch.setenv("OPP_PANDAS_URL", served.url)
    monkeypatch.setenv("OPP_PANDAS_TOKEN", served.token)
    return served


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """Run a command with --json and give what it printed, which holds no word that JSON lacks."""
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_predict__is_the_figure_of_the_notebook(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Mean, interval, parts and record are those of `predict`."""
    said = answer(capsys, "predict", "--horizon-days", "30", *WON_LOST)
    found = opp.read_opportunities(box.client(), stages=STAGES).opp.predict(horizon_days=30)
    assert (said["mean"], said["low_80"], said["high_80"]) == pytest.approx((found.mean, *found.interval(0.8)))
    assert [part["part"] for part in said["parts"]] == ["won", "open", "new"]
    assert sum(part["mean"] for part in said["parts"]) == pytest.approx(found.mean)
    assert said["record"] == pytest.approx(found.record.iloc[0].to_dict())
    assert (said["target"], said["method"], said["tested"]) == (found.target, "mix", found.tested)


def test_predict__tells_people_target_parts_and_record(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Text: what is forecast, with its interval in the currency, its parts, and how it did before."""
    assert main(["predict", "--horizon-days", "30", "--method", "hazards", "--quiet", *WON_LOST]) == 0
    said = capsys.readouterr().out
    found = opp.read_opportunities(box.client(), stages=STAGES).opp.predict(horizon_days=30, method="hazards")
    record = found.record.iloc[0]
    low, high = found.interval(0.8)
    assert said.startswith("won between 2026-10-21 and 2026-11-19\n")
    assert f"mean {found.mean:,.0f} USD, 80 % interval {low:,.0f} to {high:,.0f}\n" in said
    assert f"{found.parts.loc['open', 'mean']:,.0f}" in said
    assert said.count("method hazards: chosen by the user") == 1
    assert f"{record['windows']:.0f} windows, WAPE {record['wape']:.0%}, bias {record['bias']:+.0%}, CRPS" in said


def test_predict__of_a_period_says_what_is_missing_to_a_record(
    box: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too few windows without overlap: how many more are needed, and no coverage."""
    assert main(["predict", "--period", "2026Q4", "--quiet", *WON_LOST]) == 0
    said = capsys.readouterr().out
    assert "won in 2026Q4" in said
    assert "record: not tested yet: needs 2 more periods\n" in said
    assert "coverage" not in said


def test_predict__of_a_file_is_that_of_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with its columns mapped; a record too short to score any window is null, not NaN."""
    for days, few in ((400, False), (12, True)):
        frame = frame_of(generate(World(days=days), 0))
        file, columns = tmp_path / "deals.csv", tmp_path / "map.json"
        opened = pd.to_datetime(frame["external_created_at"]).dt.strftime("%Y-%m-%d")
        day = {"Opened": opened, "Ends": frame["close_date"]}
        named = {"Deal": frame["custom_id"], "Value": frame["amount"], "Stage": frame["stage_name"]}
        pd.DataFrame(named | day).to_csv(file, index=False)
        told = {"Deal": "custom_id", "Value": "amount", "Stage": "stage_name", "Opened": "external_created_at"}
        columns.write_text(json.dumps(told | {"Ends": "close_date"}))
        words = ["--from", str(file), "--map", str(columns), "--won", "Won", "--lost", "Lost"]
        until = day_of(days)
        said = answer(capsys, "predict", "--horizon-days", "30", "--as-of", until, *words)
        assert said["load"]["rows"] == len(frame)
        assert (said["record"]["wape"] is None) is few
        assert said["tested"].startswith("not tested yet") is few


def test_forecast__tells_what_a_file_lacks_beside_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file without amounts has a forecast of nothing: people are told so, and a pipe gets the figures alone."""
    file = tmp_path / "deals.csv"
    file.write_text("Id,Stage,Value,Close Date\n1,Won,500,2026-06-01\n2,Open,700,2026-07-01\n", encoding="utf-8")
    assert main(["forecast", "--from", str(file), "--as-of", "2026-06-20", "--timezone", "UTC", *WON_LOST]) == 0
    said = capsys.readouterr()
    assert "opp-pandas: no amount column: open, weighted and forecast amounts cannot be computed\n" in said.err
    assert "no amount column" not in said.out
    answered = answer(capsys, "forecast", "--from", str(file), "--as-of", "2026-06-20", *WON_LOST)
    assert any("no amount column" in note for note in answered["load"]["notes"])


@pytest.mark.parametrize("weeks", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_predict__keeps_a_version_every_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], weeks: int
) -> None:
    """The weekly job, run week by week and scored later; a second run on one day changes nothing."""
    folder = str(tmp_path / "history")
    keep = ["predict", "--horizon-days", "14", "--history", folder, "--save", "week of {day}", *WON_LOST]
    snapshot = ["snapshot", "--history", folder, *WON_LOST]
    with opp.sandbox(opportunities=80, now="2026-06-20T15:00:00Z") as moving:
        monkeypatch.setenv("OPP_PANDAS_URL", moving.url)
        monkeypatch.setenv("OPP_PANDAS_TOKEN", moving.token)
        said = []
        for _ in range(weeks):
            answer(capsys, *snapshot)
            said.append(answer(capsys, *keep, "--comment", "weekly"))
            assert main([*keep, "--quiet"]) == 2
            refused = capsys.readouterr().err
            assert "versions are never changed" in refused
            assert refused.splitlines()[-1].startswith("opp-pandas: there is a version")
            moving.advance(7)
        moving.advance(14)
        answer(capsys, *snapshot)
        truth = opp.read_opportunities(moving.client(), stages=STAGES, progress=False)
    history = opp.History(folder)
    table = history.forecasts()
    names = ["week of 2026-06-20", "week of 2026-06-27"][:weeks]
    assert table["name"].tolist() == [one["saved"] for one in said] == names
    assert table["comment"].tolist() == ["weekly"] * weeks
    assert table["mean"].tolist() == pytest.approx([one["mean"] for one in said])
    won = truth[truth["stage_name"] == "Closed Won"]
    for row in history.forecast_accuracy().itertuples():
        first, last = pd.Timestamp(row.first_day, tz="UTC"), pd.Timestamp(row.last_day, tz="UTC") + pd.Timedelta(days=1)
        came = won[(won["close_date"] >= first) & (won["close_date"] < last)]["amount_precise"].astype("float64").sum()
        assert row.actual == pytest.approx(came)


def test_backtest__has_a_row_for_each_method(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """All methods, or one with the naive rows beside; the numbers are those of the notebook."""
    said = answer(capsys, "backtest", "--horizon-days", "30", *WON_LOST)
    expected = opp.read_opportunities(box.client(), stages=STAGES).opp.backtest(horizon_days=30)
    assert [row["method"] for row in said["rows"]] == list(expected.index)
    assert [row["crps"] for row in said["rows"]] == pytest.approx(list(expected["crps"]))
    one = answer(capsys, "backtest", "--horizon-days", "30", "--method", "hazards", *WON_LOST)
    assert next(row["method"] for row in one["rows"]) == "hazards"
    assert "levelled" not in [row["method"] for row in one["rows"]]


def test_backtest__of_periods_reads_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quarter that the history saw from before its first day is forecast week by week."""
    folder = str(tmp_path / "history")
    with opp.sandbox(opportunities=80, now="2026-06-20T15:00:00Z") as moving:
        monkeypatch.setenv("OPP_PANDAS_URL", moving.url)
        monkeypatch.setenv("OPP_PANDAS_TOKEN", moving.token)
        for _ in range(3):
            answer(capsys, "snapshot", "--history", folder, *WON_LOST)
            moving.advance(55)
        said = answer(capsys, "backtest", "--history", folder, "--period", "2026Q3", *WON_LOST)
    assert {(row["week"], row["periods"]) for row in said["rows"] if row["method"] == "weighted"} == {
        (1, 1), (5, 1), (9, 1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["predict", "--save", "mine"], "add --history DIR"),
        (["predict", "--save", "mine", "--history", "no-such-folder", "--as-of", "2026-10-01"], "leave out --as-of"),
        (["predict", "--method", "stars"], "method is one of mix, hazards"),
        (["predict", "--period", "2025Q1"], "period 2025Q1 is over"),
        (["predict", "--horizon-days", "0"], "from 1 to 1,100, not 0"),
        (["backtest", "--method", "stars"], "methods are mix, hazards"),
        (["backtest", "--period", "2026Q3"], "add --history DIR"),
        (["backtest", "--period", "2026Q3", "--history", "no-such-folder", "--method", "mix"], "leave it out"),
    ],
)
def test_misuse__is_said_in_one_line(
    box: Sandbox, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """Exit code 2, nothing on standard output, and what to do."""
    assert main([*words, *WON_LOST]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert told in said.err
    assert said.err.count("\n") == 1


def test_commands__read_files_of_every_form_without_a_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forecast, funnel, predict and report say the same of one portfolio as German CSV, workbook and Parquet file."""
    monkeypatch.setenv("OPP_PANDAS_URL", "http://127.0.0.1:9/api/v2")
    frame = frame_of(generate(World(days=200), 0)).head(150)
    amounts = pd.Series([f"{value:,}".translate(str.maketrans(",.", ".,")) + " €" for value in frame["amount"]])
    days = {"Opened": frame["external_created_at"], "Ends": frame["close_date"]}
    days = {name: pd.to_datetime(values).dt.tz_localize(None).dt.normalize() for name, values in days.items()}
    base = {"Deal": frame["custom_id"], "Stage": frame["stage_name"], "Seller": ["Sam Lee", "Ana Ruiz"] * 75}
    typed = pd.DataFrame({**base, "Value": frame["amount"], **days})
    typed.to_excel(tmp_path / "deals.xlsx", index=False)
    typed.to_parquet(tmp_path / "deals.parquet")
    german = {name: values.dt.strftime("%d.%m.%y") for name, values in days.items()}
    written = pd.DataFrame({**base, "Value": amounts, **german})
    written.to_csv(tmp_path / "deals.csv", sep=";", index=False, encoding="utf-8-sig")
    columns = {"Deal": "custom_id", "Stage": "stage_name", "Seller": "owner_name", "Value": "amount",
               "Opened": "external_created_at", "Ends": "close_date"}  # fmt: skip
    (tmp_path / "map.json").write_text(json.dumps({"columns": columns, "decimal": ",", "dayfirst": True}))
    meaning = ["--map", str(tmp_path / "map.json"), "--won", "Won", "--lost", "Lost", "--currency", "EUR"]
    moment = ["--as-of", day_of(200), "--timezone", "Europe/Berlin"]
    asked = {
        "forecast": ["--by", "owner_name", "--quota", "Sam Lee=1.2M", "--quota", "Ana Ruiz=800k"],
        "funnel": [],
        "predict": ["--horizon-days", "30"],
        "report": ["-o", str(tmp_path / "report.xlsx"), "--quota", "2M", "--sections", "headline, deals, forecast"],
    }
    for command, more in asked.items():
        said = []
        for ending in ("csv", "xlsx", "parquet"):
            answered = answer(capsys, command, "--from", str(tmp_path / f"deals.{ending}"), *meaning, *moment, *more)
            said.append({key: value for key, value in answered.items() if key not in ("load", "warnings", "basis")})
        assert said[0] == said[1] == said[2]
        assert said[0]
    (tmp_path / "broken.csv").write_bytes("Käufer;Wert\n".encode("latin-1"))
    (tmp_path / "broken.xlsx").write_bytes(b"no workbook")
    for name, words in (("broken.csv", "not UTF-8"), ("broken.xlsx", "cannot be read"), ("none.csv", "no such file")):
        assert main(["forecast", "--from", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err
