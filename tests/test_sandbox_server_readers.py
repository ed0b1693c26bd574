"""Programs that others published for the service, JSON:API or OAuth, against a sandbox of the command line.

Nothing of them is changed but, where it is fixed, the address that they call;
what they need stands in the lines that ``opp-pandas sandbox`` prints. Each lives
in an environment of its own, made with ``python -m venv`` and pip, or with npm;
where it cannot be installed the test is skipped and says why. The second needs
Python 3.10, from the path or from pyenv, the last Node.js. To use environments
that are there already::

    python -m venv tap && tap/bin/pip install tap-outreach==1.2.2
    python3.10 -m venv airbyte && airbyte/bin/pip install airbyte-source-outreach==1.0.30
    export OPP_PANDAS_TAP_PYTHON=$PWD/tap/bin/python OPP_PANDAS_AIRBYTE_PYTHON=$PWD/airbyte/bin/python
    pytest -m nightly tests/test_sandbox_server_readers.py
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox_server_calls import Api, edit

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@dataclass(frozen=True)
class Started:
    """A sandbox of the command line, known by what it printed."""

    url: str
    token: str
    env: dict[str, str]

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.url.removesuffix("/api/v2")


@pytest.fixture
def api() -> Iterator[Api]:
    """A sandbox of several pages, at a moment that has passed."""
    command = [sys.executable, "-m", "opp_pandas.cli", "sandbox", "--opportunities", "1200", "--seed", "1"]
    command += ["--now", "2026-09-01T08:00:00Z"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            url, token = child.stdout.readline().strip(), child.stdout.readline().strip()
            lines = [shlex.split(child.stdout.readline())[1].split("=", 1) for _ in range(7)]
            started: Any = Started(url, token, dict(lines))
            yield Api(started)
        finally:
            child.kill()


def _python_3_10() -> str | None:
    """Find Python 3.10 on the path or among pyenv's versions, whose entry on the path starts the chosen one only."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for program in (shutil.which("python3.10"), *pyenv.glob("versions/3.10.*/bin/python3.10")):
        if program and subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0:
            return str(program)
    return None


def _install(folder: Path, program: str | None, package: str) -> str:
    """Make an environment with one package; give its Python."""
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    steps = (
        [str(program), "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package],
    )
    if program is None:
        pytest.skip(f"{package} needs Python 3.10, and there is none on the path or in pyenv")
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
    return given or _install(tmp_path_factory.mktemp("airbyte"), _python_3_10(), "airbyte-source-outreach==1.0.30")


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


def _env(api: Api) -> dict[str, str]:
    started: Any = api.box
    return dict(started.env)


def _config(api: Api) -> dict[str, str]:
    return {
        **{name.lower(): _env(api)[f"OPP_PANDAS_{name}"] for name in ("CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN")},
        "redirect_uri": "https://app.example.com/callback",
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
    """source-outreach pages by 1,000, and refreshes with one token for all its streams."""
    rows, state = _airbyte(airbyte_python, api, tmp_path)
    _check_rows(api, rows)
    _edit_one(api, 33)
    later, _ = _airbyte(airbyte_python, api, tmp_path, state)
    changed = {row["id"]: row["name"] for row in later["opportunities"]}
    assert changed[33] == "Edited"
    assert len(changed) < 10


# --- OAuth and JSON:API as such -------------------------------------------------

SIGNS_IN = """
import json, os
import requests
from requests_oauthlib import OAuth2Session
env = {name.removeprefix("OPP_PANDAS_"): value for name, value in os.environ.items()}
redirect, scopes = "http://127.0.0.1:8917/callback", ["opportunities.read", "users.read"]
session = OAuth2Session(env["CLIENT_ID"], redirect_uri=redirect, scope=scopes)
page, state = session.authorization_url(env["AUTHORIZE_URL"])
led = requests.get(page, allow_redirects=False).headers["Location"]
secret = {"client_secret": env["CLIENT_SECRET"], "include_client_id": True}
first = session.fetch_token(env["TOKEN_URL"], authorization_response=led, **secret)
media = {"Content-Type": "application/vnd.api+json"}
read = session.get(env["URL"] + "/opportunities?page[size]=3", headers=media).json()
asked = {"client_id": env["CLIENT_ID"], "client_secret": env["CLIENT_SECRET"]}
second = dict(session.refresh_token(env["TOKEN_URL"], **asked))
again = session.get(env["URL"] + "/users/1", headers=media)
refused = session.post(env["URL"] + "/opportunities", headers=media, json={})
is_new = first["access_token"] != second["access_token"]
print(json.dumps([len(read["data"]), is_new, again.status_code, refused.status_code]))
"""
WITH_DEVOUR = """
const JsonApi = require("devour-client");
const [apiUrl, bearer] = [process.env.OPP_PANDAS_URL, process.env.OPP_PANDAS_TOKEN];
const api = new JsonApi({ apiUrl, bearer, pluralize: false, logger: false });
const owner = { jsonApi: "hasOne", type: "user" };
api.define("opportunity", { name: "", amount: null, tags: [], owner }, { collectionPath: "opportunities" });
api.define("user", { name: "" }, { collectionPath: "users" });
(async () => {
  const given = { name: "From devour", amount: 900, tags: ["js"], owner: { id: 2, type: "user" } };
  const id = (await api.create("opportunity", given)).data.id;
  const read = (await api.find("opportunity", id, { include: "owner" })).data;
  const updated = (await api.update("opportunity", { id, amount: 950 })).data;
  const page = await api.findAll("opportunity", { page: { size: 5 }, sort: "-amount" });
  if (process.argv[2] !== "keep") await api.destroy("opportunity", id);
  const { name, tags } = read;
  console.log(JSON.stringify({ id, name, tags, owner: read.owner.id, amount: updated.amount, rows: page.data.length }));
})().catch((error) => { console.error(error); process.exit(1); });
"""
# kitsu makes path and type alike, plural or not; at this service paths are plural and types are not.
WITH_KITSU = """
import Kitsu from "kitsu";
const headers = { Authorization: `Bearer ${process.env.OPP_PANDAS_TOKEN}` };
const api = new Kitsu({ baseURL: process.env.OPP_PANDAS_URL, headers, pluralize: false });
const plural = (request) => ({ ...request, url: request.url.replace(/^opportunity\\b/, "opportunities") });
api.axios.interceptors.request.use(plural);
const owner = { data: { id: 2, type: "user" } };
const made = await api.create("opportunity", { name: "From kitsu", amount: 900, tags: ["js"], owner });
const id = made.data.id;
const read = (await api.get(`opportunities/${id}`, { params: { include: "owner" } })).data;
const updated = (await api.update("opportunity", { id, amount: 950 })).data;
const params = { page: { size: 5 }, sort: "-amount", filter: { owner: { id: 2 } } };
const page = await api.get("opportunities", { params });
if (process.argv[2] !== "keep") await api.delete("opportunity", id);
const [{ name, tags }, { amount }, rows] = [read, updated, page.data.length];
console.log(JSON.stringify({ id, name, tags, owner: read.owner.data.id, amount, rows }));
"""
SCRIPTS = {"devour-client@3.2.0": ("write.cjs", WITH_DEVOUR), "kitsu@11.1.0": ("write.mjs", WITH_KITSU)}


def _last_line(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_requests_oauthlib__signs_in_refreshes_and_reads(api: Api, tmp_path: Path) -> None:
    """By authorization code, as any OAuth client does it; what was not granted is refused."""
    python = _install(tmp_path / "oauth", sys.executable, "requests-oauthlib==2.0.0")
    env = {**os.environ, **_env(api), "OAUTHLIB_INSECURE_TRANSPORT": "1"}
    done = subprocess.run([python, "-c", SIGNS_IN], capture_output=True, text=True, timeout=120, check=False, env=env)
    assert _last_line(done) == [3, True, 200, 403]


@pytest.mark.parametrize("package", SCRIPTS)
def test_client_for_javascript__creates_updates_and_deletes(api: Api, tmp_path: Path, package: str) -> None:
    """JSON:API clients: written values are read back, included records are linked, deleted is 404."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip(f"{package} needs Node.js with npm, and there is none on the path")
    install = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", package]
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{package} cannot be installed here: {done.stderr.strip()[-300:]}")
    script, source = SCRIPTS[package]
    (tmp_path / script).write_text(source, encoding="utf-8")

    def run(*words: str) -> Any:
        command = [node, script, *words]
        env = {**os.environ, **_env(api)}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env=env)
        return _last_line(done)

    gone = run()
    name = f"From {package.partition('-')[0].partition('@')[0]}"
    assert gone | {"id": 0} == {"id": 0, "name": name, "tags": ["js"], "owner": 2, "amount": 950, "rows": 5}
    assert api.call("GET", f"/opportunities/{gone['id']}").status_code == 404
    served = api.get(f"/opportunities/{run('keep')['id']}")["data"]
    assert (served["attributes"]["amount"], served["attributes"]["tags"]) == (950, ["js"])
    assert served["relationships"]["owner"]["data"] == {"type": "user", "id": 2}
