"""The command line, as a user types it."""

from __future__ import annotations

import _thread
import contextlib
import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

import opp_pandas as opp
from conftest import STAGES
from opp_pandas.cli import _parser, main
from opp_pandas.sandbox_server.settings import Switches, switch_types, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.sandbox_handle import Sandbox

COMMAND = [sys.executable, "-m", "opp_pandas.cli"]


def test_demo__puts_the_first_notebook_where_it_can_be_changed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is copied with its picture, what was changed in it stays, and without JupyterLab the error says what to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    copied = tmp_path / "opp_pandas_demo" / "01_load_and_look.ipynb"
    for text in (None, "mine"):
        if text:
            copied.write_text(text, encoding="utf-8")
        assert main(["demo", "--notebook"]) == 2
        assert "python -m pip install jupyterlab" in capsys.readouterr().err
        assert text is None or copied.read_text(encoding="utf-8") == text
    assert (tmp_path / "opp_pandas_demo" / "images" / "dashboard.png").stat().st_size > 10_000


@pytest.mark.nightly
def test_demo__opens_the_first_notebook_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    """JupyterLab says where it is, has the notebook, runs its first cell, and one Ctrl-C ends it with its kernel."""
    from jupyter_client.blocking.client import BlockingKernelClient
    from urllib3.util import Retry

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    flags = {"ServerApp": {"open_browser": False, "allow_root": True, "port": port, "ip": "127.0.0.1"}}
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps(flags), encoding="utf-8")
    homes = dict.fromkeys(("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"), str(tmp_path))
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [*COMMAND, "demo", "--notebook"], cwd=tmp_path, env={**os.environ, **homes, "PYTHONPATH": paths}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as demo:  # fmt: skip
        try:
            assert demo.stdout is not None
            lines = iter(demo.stdout.readline, "")
            url = next(line for line in lines if "http://127.0.0.1" in line and "token=" in line).split()[-1]
            base, token = url.partition("/lab")[0], {"token": url.partition("token=")[2]}
            book = "01_load_and_look.ipynb"
            asking = requests.Session()
            # The address is said a moment before anybody listens.
            asking.mount("http://", requests.adapters.HTTPAdapter(max_retries=Retry(connect=10, backoff_factor=0.1)))
            assert asking.get(f"{base}/lab/tree/{book}", params=token, timeout=60).ok
            found = asking.get(f"{base}/api/contents/{book}", params=token, timeout=60).json()
            cells = found["content"]["cells"]
            first = next(cell["source"] for cell in cells if cell["cell_type"] == "code")
            headers = {"Authorization": f"token {token['token']}"}
            kernel = asking.post(f"{base}/api/kernels", headers=headers, timeout=60).json()["id"]
            client = BlockingKernelClient(connection_file=str(tmp_path / f"kernel-{kernel}.json"))
            client.load_connection_file()
            client.start_channels(hb=False)
            asked = {"pid": "__import__('os').getpid()"}
            reply = client.execute_interactive(first, user_expressions=asked, timeout=120, output_hook=lambda _: None)
            assert reply["content"]["status"] == "ok", reply["content"]
            process = int(reply["content"]["user_expressions"]["pid"]["data"]["text/plain"])
            client.stop_channels()
            os.killpg(demo.pid, signal.SIGINT)
            assert demo.wait(timeout=60) == 0, demo.stdout.read()
            # An orphan that ended is there until the system's first process looks after it.
            gone = (not Path(f"/proc/{process}").exists() or time.sleep(0.1) for _ in range(200))
            assert any(gone)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(demo.pid, signal.SIGKILL)


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


@contextlib.contextmanager
def ending(child: subprocess.Popen[str]) -> Iterator[None]:
    """End a child process whatever happens, so that a failing test fails instead of waiting for it."""
    try:
        yield
    finally:
        child.kill()


@pytest.mark.skipif(os.name == "nt", reason="Windows ends child processes without a signal they can handle")
def test_sandbox__prints_what_programs_need_and_serves_until_stopped(tmp_path: Path) -> None:
    """First line the base URL, second the token; then lines for a shell; the records stay in the file."""
    token_file = tmp_path / "token"
    token_file.write_text("from-a-file\n", encoding="utf-8")
    options = ["--opportunities", "7", "--db", str(tmp_path / "records.db"), "--token-file", str(token_file)]
    options += ["--rate-limit", "9", "--generation", "reference", "--app", str(tmp_path / "app.pem")]
    options += ["--refresh-tokens", "2", "--faults", '{"status": 503, "path": "/users", "body": "later"}']
    with subprocess.Popen([*COMMAND, "sandbox", *options], stdout=subprocess.PIPE, text=True) as child, ending(child):
        assert child.stdout is not None
        url, token = child.stdout.readline().strip(), child.stdout.readline().strip()
        lines = [shlex.split(child.stdout.readline()) for _ in range(11)]
        env = dict(line[1].split("=", 1) for line in lines)
        assert [line[0] for line in lines] == ["export"] * 11
        assert (env["OPP_PANDAS_URL"], env["OPP_PANDAS_TOKEN"]) == (url, token) == (url, "from-a-file")
        bearer = {"Authorization": f"Bearer {token}"}
        answer = requests.get(f"{url}/opportunities", headers=bearer, timeout=60)
        assert len(answer.json()["data"]) == 7
        assert answer.headers["X-RateLimit-Limit"] == "9"
        assert "amountPrecise" not in answer.json()["data"][0]["attributes"]
        assert requests.get(f"{url}/users", headers=bearer, timeout=60).content == b"later"
        for name in ("OPP_PANDAS_REFRESH_TOKEN", "OPP_PANDAS_REFRESH_TOKEN_2"):
            asked = {"grant_type": "refresh_token", "refresh_token": env[name]}
            asked |= {key.lower(): env[f"OPP_PANDAS_{key}"] for key in ("CLIENT_ID", "CLIENT_SECRET")}
            assert requests.post(env["OPP_PANDAS_TOKEN_URL"], data=asked, timeout=60).json()["scope"]
        guid, install, key = (env[f"OPP_PANDAS_APP_{name}"] for name in ("GUID", "INSTALL_ID", "KEY_FILE"))
        app = opp.AppSignIn(url, guid=guid, install_id=install, private_key=Path(key))
        assert opp.connect(url, auth=app).get(1)
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=60) == 0


def test_sandbox__takes_every_switch() -> None:
    """A switch is an option, with its meaning and its kind; callables are for programs only."""
    words = {
        "bool": [],
        "tuple[str, ...]": ["name,amount"],
        "int": ["5"],
        "int | None": ["5"],
        "float": ["0.5"],
        "float | Callable[[], float]": ["0.5"],
        "datetime | None": ["2026-09-01T08:00:00Z"],
        "list[Fault]": ['{"status": 503}'],
    }
    for name, hint in switch_types().items():
        if name == "before_request":
            continue
        chosen = words_of(hint)
        said = [chosen[-1]] if chosen else words[Switches.__annotations__[name]]
        read = vars(_parser().parse_args(["sandbox", f"--{name.replace('_', '-')}", *said]))
        assert getattr(Switches.of({name: read[name]}), name) == read[name]


@pytest.mark.parametrize(
    "wrong",
    [["--faults", "503"], ["--faults", '{"times": 2}'], ["--scopes", "deals.read"], ["--generation", "old"]],
)
def test_sandbox__refuses_what_it_does_not_know(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A fault without a status, a scope or choice that there is not: said, with what there is."""
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args(["sandbox", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


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


def test_reader__that_has_seen_enough_gets_no_traceback() -> None:
    """As with ``| head``: the pipe is closed before the answer is written."""
    with subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        said = child.stderr.read()
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
    assert child.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_output__that_cannot_be_kept_is_said_in_one_line(tmp_path: Path) -> None:
    """As on a full disk."""
    with Path("/dev/full").open("w") as full:
        child = subprocess.run(
            [*COMMAND, "journals", "--folder", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert child.returncode == 1
    assert child.stderr.count("\n") == 1
    assert "No space left" in child.stderr


def test_output__that_is_closed_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some schedulers start programs without standard output."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["journals", "--folder", str(tmp_path), "--json"]) == 0


def test_help__names_the_commands() -> None:
    """--help and --version work from the shell."""
    shown = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    assert "demo" in shown
    assert "sandbox" in shown
    version = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("opp-pandas 0.")


def test_login__keeps_a_sign_in_that_connect_finds(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signed in once through a browser that blocks, a client needs no token; the secret is in no output."""
    monkeypatch.setenv("OPP_PANDAS_SIGN_IN_FOLDER", str(tmp_path / "sign-in"))
    monkeypatch.setenv("OPP_PANDAS_CLIENT_SECRET", box.client_secret)
    monkeypatch.delenv("OPP_PANDAS_TOKEN", raising=False)

    def browser(address: str) -> bool:
        # As curl or w3m does, it comes back only when the page that it was led to has answered.
        return requests.get(address, timeout=20).ok

    monkeypatch.setattr("webbrowser.open", browser)
    with socket.create_server(("127.0.0.1", 0)) as free:
        redirect = f"http://127.0.0.1:{free.getsockname()[1]}/callback"
    command = ["login", "--url", box.url, "--client-id", box.client_id, "--redirect-uri", redirect]
    assert main(command) == 0
    assert opp.connect(box.url).get(1).data["id"] == 1
    assert main(["login", "--url", box.url, "--forget"]) == 0
    with pytest.raises(opp.errors.ConfigurationError):
        opp.connect(box.url)
    assert box.client_secret not in "".join(capsys.readouterr())


@pytest.mark.skipif(os.name == "nt", reason="the commands are those of other systems")
@pytest.mark.parametrize("browser", ["true", "sh -c 'sleep 20' %s"])
def test_login__tells_where_to_sign_in_whatever_the_browser_command_does(
    box: Sandbox, tmp_path: Path, browser: str
) -> None:
    """One that is content and does nothing, one that blocks: the address stands there, and opening it signs in."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        redirect = f"http://127.0.0.1:{free.getsockname()[1]}/callback"
    env = {**os.environ, "BROWSER": browser, "OPP_PANDAS_SIGN_IN_FOLDER": str(tmp_path / "sign-in")}
    env |= {"OPP_PANDAS_CLIENT_SECRET": box.client_secret}
    command = [*COMMAND, "login", "--url", box.url, "--client-id", box.client_id, "--redirect-uri", redirect]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as child, ending(child):
        assert child.stdout is not None
        address = child.stdout.readline().split()[-1]
        assert requests.get(address, timeout=60).ok
        assert child.wait(timeout=60) == 0


def test_resume_and_undo__work_from_the_journal(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A write-back whose service failed is finished, then taken back, from the shell."""
    settings = {"URL": box.url, "TOKEN": box.token, "JOURNAL": str(tmp_path / "journals")}
    for name, value in settings.items():
        monkeypatch.setenv(f"OPP_PANDAS_{name}", value)
    df = opp.read_opportunities(box.client(), stages=STAGES, authorization_meta=True)
    rows = df.index[df["can_write"]][:6]
    ids = df.loc[rows, "id"].tolist()

    def steps() -> list[object]:
        return [box.client().get(row_id).data["attributes"]["nextStep"] for row_id in ids]

    before = steps()
    df.loc[rows, "next_step"] = [f"from the shell {place}" for place in range(6)]
    box.fail(500, times=100, method="PATCH")
    # Five failures of the service in a row stop the batch; the sixth row is left planned.
    assert df.opp.write_back(workers=1).counts() == {"failed": 5, "planned": 1}
    box.switches.faults.clear()
    capsys.readouterr()

    def answer(*words: str) -> Any:
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert main(["journals"]) == 0
    assert box.url in capsys.readouterr().out
    assert [(row["rows"], row["open"], row["failed"]) for row in answer("journals")["rows"]] == [(6, 1, 5)]
    finished = answer("resume")
    assert finished["counts"] == {"written": 6}
    assert [row["id"] for row in finished["rows"]] == ids
    assert steps() == df.loc[rows, "next_step"].tolist()
    assert main(["undo", "--dry-run"]) == 0
    assert "planned" in capsys.readouterr().out
    assert answer("undo")["counts"] == {"written": 6}
    assert steps() == before
    assert answer("journals", "--purge-days", "0")["removed"] == 2
    assert main(["journals"]) == 0
    assert capsys.readouterr().out == "there are no journals\n"


@pytest.mark.parametrize("command", ["load", "forecast", "funnel", "snapshot", "report", "login", "resume", "undo"])
def test_help__teaches_each_command(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Every command says what it does, and shows how it is typed; what it shows is accepted."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    example = said.partition("example: opp-pandas ")[2]
    _parser().parse_args(shlex.split(example))
    assert len(said.partition("] ")[2].split("options:")[0].split()) > 10


def test_login__without_anybody_to_ask_says_so(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scheduler has no terminal: one line instead of a traceback."""
    monkeypatch.setenv("OPP_PANDAS_SIGN_IN_FOLDER", str(tmp_path))
    monkeypatch.setenv("OPP_PANDAS_CLIENT_SECRET", box.client_secret)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["login", "--url", box.url, "--client-id", box.client_id, "--no-browser"]) == 1
    assert capsys.readouterr().err == "opp-pandas: a question was asked, and nobody was there to answer it\n"


def test_resume_and_undo__say_in_a_shells_words_what_to_do_next(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Conflicts are decided, a large undoing is confirmed, and Ctrl-C names the command that goes on."""
    for name, value in {"URL": box.url, "TOKEN": box.token, "JOURNAL": str(tmp_path / "journals")}.items():
        monkeypatch.setenv(f"OPP_PANDAS_{name}", value)
    client = box.client()
    df = opp.read_opportunities(client, stages=STAGES, authorization_meta=True)
    rows = df.index[df["can_write"]][:11]
    first = int(df.loc[rows[0], "id"])
    df.loc[rows, "next_step"] = [f"mine {place}" for place in range(11)]
    client.update(first, {"nextStep": "theirs"})
    report = df.opp.write_back(confirm=11)
    assert report.counts() == {"written": 10, "conflict": 1}
    assert main(["resume", "--journal", str(report.journal), "--on-conflict", "mine"]) == 0
    assert client.get(first).data["attributes"]["nextStep"] == "mine 0"
    capsys.readouterr()
    assert main(["undo"]) == 1
    said = capsys.readouterr().err
    assert "undo --dry-run shows it, undo --confirm 11 sends it; nothing was sent" in said
    assert main(["undo", "--confirm", "11"]) == 0
    assert client.get(first).data["attributes"]["nextStep"] == "theirs"
    capsys.readouterr()


@pytest.mark.usefixtures("_ctrl_c")
def test_resume__that_is_interrupted_names_the_command_that_goes_on(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while the service is asked; the same command finishes afterwards."""
    for name, value in {"URL": box.url, "TOKEN": box.token, "JOURNAL": str(tmp_path / "journals")}.items():
        monkeypatch.setenv(f"OPP_PANDAS_{name}", value)
    df = opp.read_opportunities(box.client(), stages=STAGES, authorization_meta=True)
    df.loc[df.index[df["can_write"]][:6], "next_step"] = "mine"
    box.fail(500, times=100, method="PATCH")
    assert df.opp.write_back(workers=1).counts() == {"failed": 5, "planned": 1}
    box.switches.faults.clear()

    def interrupt(method: str, path: str) -> None:
        box.switches.before_request = None
        _thread.interrupt_main()

    box.switches.before_request = interrupt
    assert main(["resume"]) == 130
    assert "interrupted; opp-pandas resume finishes the rest" in capsys.readouterr().err
    assert main(["resume"]) == 0
    assert "6 written" in capsys.readouterr().out


def test_interrupt__before_the_command_has_begun_is_an_exit_code_too() -> None:
    """Ctrl-C while the words are still being read shows no traceback."""

    class Interrupted(list[str]):
        def __iter__(self) -> Iterator[str]:
            raise KeyboardInterrupt

    assert main(Interrupted()) == 130
