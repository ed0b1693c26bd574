"""Published readers of the real service, as they come from PyPI, read the sandbox.

Nothing of them is changed but the address that they call. Each lives in an
environment of its own, since their dependencies are old: the tests make one with
``python -m venv`` and pip. The second needs Python 3.10; without one on the path
it is skipped. To use environments that are there already::

    python -m venv tap && tap/bin/pip install tap-outreach==1.2.2
    python3.10 -m venv airbyte && airbyte/bin/pip install airbyte-source-outreach==1.0.30
    export OPP_PANDAS_TAP_PYTHON=$PWD/tap/bin/python OPP_PANDAS_AIRBYTE_PYTHON=$PWD/airbyte/bin/python
    pytest -m nightly tests/test_sandbox_server_readers.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from opp_pandas.sandbox_handle import sandbox
from sandbox_server_calls import Api, edit, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.nightly

# Sends to the sandbox what the program sends to the service; everything else stays the program's own.
DRIVER = """
import sys, requests
origin, module = sys.argv.pop(1), sys.argv.pop(1)
send = requests.Session.send
def redirected(session, request, **options):
    request.url = request.url.replace("https://api.outreach.io", origin)
    return send(session, request, **options)
requests.Session.send = redirected
import importlib
reader = importlib.import_module(module)
getattr(reader, "main", None) and reader.main() or getattr(reader, "run", lambda: None)()
"""
STREAMS = {"opportunities": "/opportunities", "users": "/users", "accounts": "/accounts", "prospects": "/prospects"}
START = "2020-01-01T00:00:00Z"


@pytest.fixture
def api() -> Iterator[Api]:
    """A sandbox of several pages, at a moment that has passed."""
    yield from opened(sandbox(opportunities=1_200, seed=1, now="2026-09-01T08:00:00Z"))


def _install(folder: Path, interpreter: str, package: str) -> str:
    """Make an environment with one package; give its Python."""
    program = shutil.which(interpreter)
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    steps = (
        [str(program), "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package],
    )
    if program is None:
        pytest.skip(f"{package} needs {interpreter}, and there is none on the path")
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{package} cannot be installed here: {done.stderr.strip()[-300:]}")
    return python


@pytest.fixture(scope="module")
def tap_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with tap-outreach."""
    given = os.environ.get("OPP_PANDAS_TAP_PYTHON")
    return given or _install(tmp_path_factory.mktemp("tap"), sys.executable, "tap-outreach==1.2.2")


@pytest.fixture(scope="module")
def airbyte_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with airbyte-source-outreach."""
    given = os.environ.get("OPP_PANDAS_AIRBYTE_PYTHON")
    return given or _install(tmp_path_factory.mktemp("airbyte"), "python3.10", "airbyte-source-outreach==1.0.30")


def _run(python: str, module: str, box_origin: str, *arguments: str) -> str:
    done = subprocess.run(
        [python, "-c", DRIVER, box_origin, module, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:] + done.stdout[-2_000:]
    return done.stdout


def _lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def _write(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value))
    return str(path)


def _config(api: Api) -> dict[str, str]:
    return {
        "client_id": api.box.client_id,
        "client_secret": api.box.client_secret,
        "redirect_uri": "https://app.example.com/callback",
        "refresh_token": api.box.issue_refresh_token(),
        "start_date": START,
    }


def _check_rows(api: Api, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Every record of every stream came, once, with its values."""
    for stream, path in STREAMS.items():
        assert sorted(row["id"] for row in rows[stream]) == api.ids(path=path), stream
    served = {row["id"]: row["attributes"] for row in api.rows()}
    for row in rows["opportunities"]:
        for name in ("name", "amount", "probability", "custom1", "custom87"):
            assert row.get(name, row.get("attributes", {}).get(name)) == served[row["id"]][name]


def _edit_one(api: Api, key: int) -> None:
    document = edit("opportunity", {"name": "Edited"}, key=key)
    assert api.call("PATCH", f"/opportunities/{key}", document).status_code == 200


def _tap(python: str, api: Api, folder: Path, state: Any = None) -> tuple[dict[str, list[dict[str, Any]]], Any]:
    config = _write(folder / "config.json", _config(api) | {"user_agent": "test", "quota_limit": "0.8"})
    catalog = json.loads(_run(python, "tap_outreach", api.box.origin, "-c", config, "--discover"))
    for stream in catalog["streams"]:
        if stream["tap_stream_id"] in (*STREAMS, "stages"):
            for entry in stream["metadata"]:
                entry["metadata"]["selected"] = True
    arguments = ["-c", config, "--catalog", _write(folder / "catalog.json", catalog)]
    if state is not None:
        arguments += ["-s", _write(folder / "state.json", state)]
    messages = _lines(_run(python, "tap_outreach", api.box.origin, *arguments))
    rows: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        if message["type"] == "RECORD":
            rows.setdefault(message["stream"], []).append(message["record"])
    return rows, [message["value"] for message in messages if message["type"] == "STATE"][-1]


def test_tap_outreach__reads_every_row_and_then_what_changed(api: Api, tmp_path: Path, tap_python: str) -> None:
    """tap-outreach refreshes its token, pages by cursor, and goes on from its bookmark."""
    rows, state = _tap(tap_python, api, tmp_path)
    _check_rows(api, rows)
    assert "stages" not in rows
    _edit_one(api, 33)
    later, _ = _tap(tap_python, api, tmp_path, state)
    changed = {row["id"]: row["name"] for row in later["opportunities"]}
    assert changed[33] == "Edited"
    assert len(changed) < 10


def _airbyte(python: str, api: Api, folder: Path, state: Any = None) -> tuple[dict[str, list[dict[str, Any]]], Any]:
    streams = [
        {
            "stream": {
                "name": name,
                "json_schema": {},
                "supported_sync_modes": ["full_refresh", "incremental"],
                "source_defined_cursor": True,
                "default_cursor_field": ["updatedAt"],
            },
            "sync_mode": "incremental",
            "cursor_field": ["updatedAt"],
            "destination_sync_mode": "append",
        }
        for name in STREAMS
    ]
    arguments = ["read", "--config", _write(folder / "config.json", _config(api))]
    arguments += ["--catalog", _write(folder / "configured.json", {"streams": streams})]
    if state is not None:
        arguments += ["--state", _write(folder / "state.json", state)]
    messages = _lines(_run(python, "source_outreach.run", api.box.origin, *arguments))
    rows: dict[str, list[dict[str, Any]]] = {}
    states: dict[str, Any] = {}
    for message in messages:
        if message["type"] == "RECORD":
            rows.setdefault(message["record"]["stream"], []).append(message["record"]["data"])
        elif message["type"] == "STATE":
            states[message["state"]["stream"]["stream_descriptor"]["name"]] = message["state"]
    return rows, list(states.values())


def test_airbyte_source_outreach__reads_every_row_and_then_what_changed(
    api: Api, tmp_path: Path, airbyte_python: str
) -> None:
    """source-outreach pages by 1,000, goes on with ``..inf``, and refreshes with one token for all its streams."""
    rows, state = _airbyte(airbyte_python, api, tmp_path)
    _check_rows(api, rows)
    _edit_one(api, 33)
    later, _ = _airbyte(airbyte_python, api, tmp_path, state)
    assert any("..inf" in request.query for request in api.box.requests)
    changed = {row["id"]: row["name"] for row in later["opportunities"]}
    assert changed[33] == "Edited"
    assert len(changed) < 10
