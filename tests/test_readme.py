"""What README and documentation show is typed as it stands there: Python, shell, crontab and systemd."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from opp_pandas.cli import _parser
from reports import page_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "how-to").glob("*.md"))}
TEXT = "\n".join((README, *PAGES.values()))
WHERE = "/srv/pipeline"


def blocks(language: str, text: str = TEXT) -> list[str]:
    """The code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def cron_line() -> str:
    """The command of the nightly crontab; the one after it keeps a forecast every week."""
    table, _ = blocks("crontab")
    (line,) = [line for line in table.splitlines() if line.startswith("15 5 ")]
    return line.split(maxsplit=5)[5]


COMMANDS = sorted(set(re.findall(r"`(opp-pandas [a-z][^`]*)`", TEXT)))


@pytest.mark.parametrize("command", COMMANDS)
def test_command__is_understood(command: str) -> None:
    """Every command that is named takes the arguments that stand with it."""
    _, *words = shlex.split(command.replace("FROM..TO", "2026-01-01..2026-06-30"))
    assert _parser().parse_args(words).run is not None


def test_commands__are_all_named() -> None:
    """No command of the program is missing from README and documentation."""
    listed = re.search(r"choose from (.*?)\)", _refusal("nonsense"))
    assert listed is not None
    for name in listed[1].replace("'", "").split(", "):
        assert re.search(rf"`(opp-pandas )?{name}\b", TEXT), name


def _refusal(word: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "opp_pandas.cli", word], capture_output=True, text=True, check=False
    ).stderr


@pytest.mark.skipif(os.name == "nt", reason="a crontab needs a POSIX shell")
def test_crontab__mails_what_moved_since_the_night_before(tmp_path: Path) -> None:
    """Two nights by the line as it stands: each mails a page, and the second tells what happened between them."""
    programs, night = tmp_path / "bin", tmp_path / "mail"
    for folder in (programs, night):
        folder.mkdir()
    _program(programs / "opp-pandas", f'exec "{sys.executable}" -m opp_pandas.cli "$@"')
    _program(programs / "mutt", f'printf "%s\\n" "$@" > "{night}/words" && cp forecast.html "{night}/forecast.html"')
    command = cron_line().replace(WHERE, str(tmp_path))
    mailed = []
    with opp.sandbox(opportunities=120, now="2026-10-05T05:15:00Z") as box:
        settings = {
            "PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path),
            "OPP_PANDAS_URL": box.url, "OPP_PANDAS_TOKEN": box.token,
        }  # fmt: skip
        for _ in range(2):
            done = subprocess.run(["/bin/sh", "-c", command], env=settings, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert (night / "words").read_text().splitlines()[-2:] == ["--", "team@example.com"]
            mailed.append(page_of((night / "forecast.html").read_text(encoding="utf-8")))
            box.advance(20)
    first, second = mailed
    assert "has no snapshot before" in first.text
    moves = second.table("Open pipeline of 2026Q4 since 2026-10-05").column("move")
    assert {"won", "lost"} & set(moves)


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def test_units__do_what_the_crontab_does() -> None:
    """The service runs the same commands in the same order; nothing secret stands in either."""
    service, timer, _ = blocks("ini")
    started = [shlex.split(line) for line in re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE)]
    commands = [shlex.split(part) for part in cron_line().removesuffix("</dev/null").split("&&")]
    assert commands[0] == ["cd", WHERE]
    assert [[Path(words[0]).name, *words[1:]] for words in started] == commands[1:]
    assert f"WorkingDirectory={WHERE}\n" in service
    assert not re.search(r"TOKEN|SECRET", "".join(map(" ".join, started)) + cron_line())
    assert "OnCalendar=Mon..Fri 05:15\n" in timer
    assert "* * 1-5" in blocks("crontab")[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_units__are_taken_by_systemd(tmp_path: Path) -> None:
    """The program systemd-analyze finds no word that it does not know."""
    for text in blocks("ini"):
        name = text.splitlines()[0].removeprefix("# ")
        # Whether the programs are there is not the question.
        (tmp_path / name).write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text), encoding="utf-8")
    command = ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


FIRST = blocks("python", README)[0]
PYTHON = list(dict.fromkeys(blocks("python")))


def test_first_lines__print_what_stands_below_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's example and its output agree to the letter, but for blanks at the ends of lines."""
    monkeypatch.setenv("OPP_PANDAS_JOURNAL", str(tmp_path))
    exec(compile(FIRST, "README.md", "exec"), {})  # noqa: S102
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == blocks("text", README)[0].splitlines()


def test_tour__prints_what_stands_below_each_block(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever copies the ten-minute tour block by block sees what it shows."""
    monkeypatch.setenv("OPP_PANDAS_JOURNAL", str(tmp_path))
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    steps = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", tour, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    for code, shown in steps:
        exec(compile(code, "tour.md", "exec"), names)  # noqa: S102
        assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == shown.splitlines()
    names["box"].close()
    assert sum(bool(shown) for _, shown in steps) >= 5


def test_readme__is_short() -> None:
    """What does not fit into 130 lines stands in the documentation."""
    assert README.count("\n") <= 130


@pytest.mark.filterwarnings("ignore::opp_pandas.errors.OppPandasWarning")
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.split("(")[0][-30:].strip())
def test_python__runs_after_the_first_lines(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has typed the first lines of the README can type any other block after them."""
    monkeypatch.chdir(tmp_path)
    deals = pd.DataFrame({"Deal": ["A", "B"], "Value": [100, 200], "probability": [0.5, 0.25], "stage_name": "Qualify"})
    deals.to_csv("export.csv", index=False)
    with opp.sandbox(opportunities=120, now="2026-05-20T15:00:00Z") as box:
        if "history" in block:
            history = opp.History("pipeline-history")
            for _ in range(3):
                history.record(opp.read_opportunities(box.client(), stages=STAGES, on_invalid="ignore"))
                box.advance(45)
        for name, value in (("URL", box.url), ("TOKEN", box.token), ("JOURNAL", str(tmp_path / "journals"))):
            monkeypatch.setenv(f"OPP_PANDAS_{name}", value)
        client = box.client(timezone="America/New_York")
        df = opp.read_opportunities(client, filter={"owner": [1, 2]}, stages=STAGES, on_invalid="ignore")
        known: dict[str, Any] = {"opp": opp, "pd": pd, "client": client, "stages": STAGES, "df": df}
        known |= {"url": box.url, "path": "pipeline-history"}
        exec(compile(block.replace("token=...", f"token={box.token!r}"), "README.md", "exec"), known)  # noqa: S102
