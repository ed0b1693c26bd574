"""The command line, as a user types it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from opp_pandas.cli import main

COMMAND = [sys.executable, "-m", "opp_pandas.cli"]


def test_demo__shows_the_whole_job(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints forecast, stages, the deal before and after, and what the server says; exit code 0."""
    assert main(["demo", "--opportunities", "120"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "120 opportunities",
        "Every value satisfies the schema",
        "weighted_amount",
        "Closed Won",
        "probability",
        "PATCH /opportunities/",
        "WriteReport: 1 written",
        "Get the contract signed",
        "Nothing is left to write.",
    ):
        assert words in shown


@pytest.mark.skipif(os.name == "nt", reason="Windows ends child processes without a signal they can handle")
def test_sandbox__prints_url_and_token_and_serves_until_stopped(tmp_path: Path) -> None:
    """First line the base URL, second the token; the records stay in the file."""
    token_file = tmp_path / "token"
    token_file.write_text("from-a-file\n", encoding="utf-8")
    options = ["--opportunities", "7", "--db", str(tmp_path / "records.db"), "--token-file", str(token_file)]
    with subprocess.Popen([*COMMAND, "sandbox", *options], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        url, token = child.stdout.readline().strip(), child.stdout.readline().strip()
        assert token == "from-a-file"
        answer = requests.get(f"{url}/opportunities", headers={"Authorization": f"Bearer {token}"}, timeout=10)
        assert len(answer.json()["data"]) == 7
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=10) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sandbox", "--host", "0.0.0.0"], 2, "loopback"),  # noqa: S104  # it is refused
        (["sandbox", "--token-file", "no-such-file"], 2, "--token-file"),
        (["demo", "--opportunities", "0"], 2, "no open deal"),
    ],
)
@pytest.mark.filterwarnings("ignore::opp_pandas.errors.OppPandasWarning")
def test_misuse__is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    """No traceback: one line that says what to do, and exit code 2."""
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said


def test_help__names_the_commands() -> None:
    """--help and --version work from the shell."""
    shown = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    assert "demo" in shown
    assert "sandbox" in shown
    version = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("opp-pandas 0.")
