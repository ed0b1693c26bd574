"""The commands that a scheduler runs: load, forecast, funnel, snapshot."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from opp_pandas import _files, reporting
from opp_pandas.cli import main
from opp_pandas.cli.values import read_conditions, read_quota

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opp_pandas.sandbox_handle import Sandbox

WON_LOST = ["--won", "Closed Won", "--lost", "Closed Lost"]


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


def answer(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """Run a command with --json and give what it printed."""
    assert main([*words, "--json"]) == code
    said = capsys.readouterr()
    return json.loads(said.out)


def test_load__writes_the_frame_that_a_notebook_would_have(
    box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds the same rows, columns and dtypes; the answer says how the load went."""
    said = answer(capsys, "load", "-o", str(tmp_path / "deals.parquet"))
    frame = opp.read_opportunities(box.client())
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "deals.parquet"), frame, check_flags=False)
    assert said["load"]["rows"] == len(frame) == 80
    assert said["load"]["complete"] is True
    assert said["columns"] == list(frame.columns)


def test_load__that_cannot_write_leaves_the_old_file(
    box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Last night's file is whole until the new one is."""
    file = tmp_path / "deals.parquet"
    file.write_bytes(b"last night")
    with monkeypatch.context() as patched:
        patched.setattr(_files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert main(["load", "-o", str(file), "--quiet"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"last night"]


def test_json__loses_no_character_where_the_terminal_lacks_it(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines read escapes; a question mark would be another name."""
    names = set(opp.read_opportunities(box.client())["account_name"].dropna())
    assert not all(name.isascii() for name in names)
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["funnel", "--by", "account_name", "--json"]) == 0
        said = json.loads(stream.buffer.getvalue())  # type: ignore[attr-defined]
    assert {row["account_name"] for row in said["rows"]} <= names | {"(no account)", "(unassigned)"}


def test_where__keeps_the_deals_that_fit(box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Either of two owners, an open range, a missing value."""
    everything = opp.read_opportunities(box.client())
    path = tmp_path / "some.parquet"
    owners = sorted(everything["owner_id"].dropna().unique())[:2]
    words = [f"--where=owner={owner}" for owner in owners]
    answer(capsys, "load", "-o", str(path), *words, "--where", "amount=10000..", "--where", "next_step=")
    fits = everything["owner_id"].isin(owners) & (everything["amount"] >= 10_000) & everything["next_step"].isna()
    assert set(pd.read_parquet(path)["id"]) == set(everything.loc[fits, "id"])
    assert fits.any()


def test_forecast__is_the_figure_of_the_notebook(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON holds every number as the function gives it, and what it stands on."""
    said = answer(capsys, "forecast", "--freq", "M", "--quota", "100_000", "--timezone", "America/New_York", *WON_LOST)
    stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
    frame = opp.read_opportunities(box.client(), stages=stages, timezone="America/New_York")
    expected = frame.opp.forecast(freq="M", quota=100_000)
    assert [row["weighted_amount"] for row in said["rows"]] == pytest.approx(list(expected["weighted_amount"]))
    assert [row["quota"] for row in said["rows"]] == [
        None if pd.isna(value) else value for value in expected["quota"].astype(object)
    ]
    assert said["rows"][0]["period"] == str(expected.index[0])
    assert said["basis"]["timezone"] == "America/New_York"
    assert said["basis"]["stages"]["guessed"] is False


def test_forecast__names_years_as_asked(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """The same quarters, named after the year in which theirs starts instead of ends."""
    ended, started = (
        [row["period"] for row in answer(capsys, "forecast", "--fiscal-start", "2", *more, *WON_LOST)["rows"]]
        for more in ([], ["--fiscal-label", "start"])
    )
    assert started == [text and f"{int(text[:4]) - 1}{text[4:]}" for text in ended]


def test_forecast__is_a_table_with_its_basis_for_people(box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Text: title, unit, rounded numbers, notes; what was guessed is warned of beside, not inside."""
    assert main(["forecast"]) == 0
    said = capsys.readouterr()
    assert "Forecast, as of 2026-10-20, amounts in USD" in said.out
    assert "80 deals" in said.out
    assert box.token not in said.out + said.err


def test_snapshot__records_once_what_did_not_change(
    box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second night adds only what differs, and the funnel reads it."""
    folder = str(tmp_path / "history")
    assert answer(capsys, "snapshot", "--history", folder)["appeared"] == 80
    deal = opp.read_opportunities(box.client(), limit=1).iloc[0]
    box.client().update(int(deal["id"]), {"nextStep": "Call back tomorrow"})
    second = answer(capsys, "snapshot", "--history", folder)
    assert (second["appeared"], second["changed"], second["gone"]) == (0, 1, 0)
    funnel = answer(capsys, "funnel", "--history", folder)
    assert all("reached" in row for row in funnel["rows"])
    assert opp.History(folder).as_of().set_index("id").at[deal["id"], "next_step"] == "Call back tomorrow"


def test_history__lets_the_second_night_ask_for_changes_only(
    box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The load begins from the last snapshot, unless --full asks for every deal."""
    folder = str(tmp_path / "history")
    answer(capsys, "snapshot", "--history", folder)
    warm = answer(capsys, "snapshot", "--history", folder)
    assert any("changed since and were read again" in note for note in warm["load"]["notes"])
    assert answer(capsys, "snapshot", "--history", folder, "--full")["load"]["notes"] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("watched", [True, False])
def test_progress__is_shown_on_a_terminal_only(tmp_path: Path, watched: bool) -> None:
    """A slow load draws its bar where somebody watches, and writes nothing into a log."""
    import termios

    command = [sys.executable, "-m", "opp_pandas.cli", "load", "-o", str(tmp_path / "deals.csv")]
    with opp.sandbox(opportunities=800, now="2026-10-20T15:00:00Z") as box:
        box.fail(429, after=1, path="/opportunities", headers={"Retry-After": "2"})
        settings = {**os.environ, "OPP_PANDAS_URL": box.url, "OPP_PANDAS_TOKEN": box.token}
        screen, terminal = os.openpty()
        termios.tcsetwinsize(terminal, (24, 100))
        os.set_blocking(screen, False)
        told = terminal if watched else subprocess.PIPE
        done = subprocess.run(command, env=settings, check=True, stdout=subprocess.PIPE, stderr=told)
        drawn = os.read(screen, 10_000).decode() if watched else done.stderr.decode()
        os.close(terminal)
        os.close(screen)
    assert b"800 opportunities" in done.stdout
    assert ("opportunities:" in drawn) is watched
    assert watched or drawn == ""


@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
def test_load__writes_files_for_a_spreadsheet(
    box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    """Every deal stands in the file, with its columns."""
    path = tmp_path / f"deals{ending}"
    rows = answer(capsys, "load", "-o", str(path))["load"]["rows"]
    read = pd.read_csv(path, low_memory=False) if ending == ".csv" else pd.read_excel(path)
    assert len(read) == rows


def test_report__is_one_page_with_quota_and_title(
    box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command writes what the method writes, and says where."""
    path = tmp_path / "forecast.html"
    asked = ["--quota", "90000", "--title", "A <b> title", "--sections", "forecast, deals"]
    said = answer(capsys, "report", "-o", str(path), *asked, *WON_LOST)
    assert said["output"] == str(path)
    page = path.read_text(encoding="utf-8")
    assert "A &lt;b&gt; title" in page
    assert "90,000" in page
    assert page.index("Forecast against quota</h2>") < page.index("Deals to look at</h2>")
    assert "Hygiene</h2>" not in page


def test_report__help_names_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    """What --sections takes is said where one looks for it."""
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    assert ", ".join(reporting.SECTIONS) in " ".join(capsys.readouterr().out.split())


def test_stages_file__says_what_stages_mean(box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Order, outcome and percentages come from a JSON file."""
    file = tmp_path / "stages.json"
    file.write_text(json.dumps({"won": ["Closed Won"], "lost": ["Closed Lost"], "probability": {"Qualify": 11}}))
    said = answer(capsys, "funnel", "--stages", str(file))
    assert said["basis"]["stages"]["won"] == ["Closed Won"]
    assert box.token not in json.dumps(said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["load", "-o", "deals.txt"], "deals.txt: the file's extension"),
        (["load", "-o", "no-such-folder/deals.parquet"], "no-such-folder"),
        (["report", "-o", "forecast.doc"], "forecast.doc"),
        (["report", "-o", "forecast.html", "--sections", "weather"], "weather"),
        (["forecast", "--where", "owner"], "NAME=VALUE"),
        (["forecast", "--where", "amount=12,5"], "--where amount=12,5: amount is a whole number"),
        (["forecast", "--where", "stage_is_closed=maybe"], "true or false"),
        (["forecast", "--quota", "much"], "--quota 'much' must be a number"),
        (["forecast", "--quota", "Sam Lee=1", "--quota", "2"], "GROUP=NUMBER"),
        (["forecast", "--quota", "no-such.csv"], "no-such.csv"),
        (["forecast", "--stages", "no-such.json"], "no-such.json"),
        (["forecast", "--stages", "no-such.json", "--won", "W"], "leave --won and --lost out"),
        (["funnel", "--cohort", "2026", "--history", "no-such-folder"], "FROM..TO"),
        (["funnel", "--cohort", "2026-01-01..2026-06-30"], "add --history DIR"),
        (["report", "-o", "forecast.html", "--since", "2026-10-01"], "add --history DIR"),
        (["forecast", "--by", "nonsense"], "no column 'nonsense'"),
        (["forecast", "--where", "nonsense=1"], "no column 'nonsense'"),
        (["report", "-o", "forecast.html", "--by", "nonsense"], "no column 'nonsense'"),
        (["forecast", "--partitions", "9"], "partitions is 1 to 4 requests at once, not 9"),
    ],
)
def test_misuse__is_said_in_one_line(
    box: Sandbox, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Exit code 2, nothing on standard output, and what to do on one line."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1
    assert box.token not in said.err


def test_files__that_are_wrong_are_named(box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A quota file without a quota, a stages file that is no JSON or says something unknown."""
    quota, stages = tmp_path / "quota.csv", tmp_path / "stages.json"
    quota.write_text("period,amount\n2026Q4,5\n")
    assert main(["forecast", "--quota", str(quota)]) == 2
    assert "'period', 'amount'" in capsys.readouterr().err
    for text, words in (("{", "no JSON"), ('{"win": []}', "win"), ("[]", "an object")):
        stages.write_text(text)
        assert main(["forecast", "--stages", str(stages)]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("--quota", b"", "cannot be read"),
        ("--quota", "group,quota\nKäufer,1\n".encode("latin-1"), "not UTF-8"),
        ("--quota", b"period,quota\n2026Q4,much\n", "--quota 'much' must be a number"),
        ("--rates", b"currency,start,rate\nEUR,2026-01-01,abc\n", "--rates 'abc' must be a number"),
        ("--rates", b"currency,start\nEUR,2026-01-01\n", "frame currency, start, rate"),
        ("--rates", b'currency,rate\nEUR,"1', "rows do not fit its headings"),
    ],
)
def test_tables__that_cannot_be_read_are_named(
    box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, content: bytes, words: str
) -> None:
    """Whatever a file of quotas or rates holds, one line says what is wrong with it."""
    table = tmp_path / "table.csv"
    table.write_bytes(content)
    assert main(["forecast", option, str(table)]) == 2
    assert words in capsys.readouterr().err


def test_quota_file__gives_each_period_its_own(
    box: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CSV file of period and quota, as a spreadsheet of any country writes it."""
    quota = tmp_path / "quota.csv"
    for text in ("period,quota\n2026Q3,5000\n2026Q4,7000\n", "period;quota\n2026Q3;5.000,00\n2026Q4;7k\n"):
        quota.write_text(text)
        rows = {row["period"]: row for row in answer(capsys, "forecast", "--quota", str(quota))["rows"]}
        assert (rows["2026Q3"]["quota"], rows["2026Q4"]["quota"]) == (5000, 7000)


def test_dead_service__is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens: one line, and no file is left behind."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("OPP_PANDAS_URL", f"http://127.0.0.1:{port}/api/v2")
    monkeypatch.setenv("OPP_PANDAS_TOKEN", "secret-canary")
    assert main(["load", "-o", str(tmp_path / "deals.parquet"), "--deadline", "0.2"]) == 1
    said = capsys.readouterr()
    assert "secret-canary" not in said.out + said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["close_date=2026-10-01..2026-12-31"], {"close_date": ("2026-10-01", "2026-12-31")}),
        (["close_date=..2026-12-31"], {"close_date": (None, "2026-12-31")}),
        (["name=a=b"], {"name": "a=b"}),
        (["probability=50", "probability=75"], {"probability": [50, 75]}),
        (["stage_is_closed=no"], {"stage_is_closed": False}),
        (["custom7=EMEA"], {"custom7": "EMEA"}),
    ],
)
def test_conditions__take_the_type_of_their_column(words: list[str], expected: dict[str, Any]) -> None:
    """Numbers for number columns, texts else, ranges with open ends."""
    assert read_conditions(words) == expected


def test_quota__is_a_number_or_one_per_group() -> None:
    """A group may hold an equals sign; the last one counts."""
    assert read_quota(None) is None
    assert read_quota(["1_000.5"]) == 1000.5
    assert read_quota(["A=B=3"]) == {"A=B": 3.0}
