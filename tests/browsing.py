"""Notebooks as people see them: cells in JupyterLab, Notebook 7, Voila and marimo, shown by a real Chromium.

A test asks for the fixture `open_notebook` and gets a function that opens a notebook made from cells::

    pytestmark = pytest.mark.xdist_group("browser")  # every test file that uses it: one server per process


    @pytest.mark.parametrize("app", ["lab", "notebook"])
    def test_slider__moves(open_notebook: OpenNotebook, app: str) -> None:
        sheet = open_notebook(["import ipywidgets", "slider = ipywidgets.IntSlider(description='Deals'); slider"], app)
        sheet.run()  # all cells; an error in one is an AssertionError here
        sheet.page.locator(".noUi-target").click()  # sheet.page is Playwright's page
        sheet.wait_for("slider.value == 50")  # an expression in the notebook's kernel
        assert sheet.python("slider.value * 2") == 100  # its value, through JSON
        assert not sheet.accessibility(".jp-OutputArea")  # what axe-core calls serious or critical
        assert not sheet.console_errors and not sheet.foreign_requests

`app` is ``"lab"``, ``"notebook"``, ``"voila"`` or ``"marimo"`` (these two run the cells themselves), `theme`
``"light"`` or ``"dark"``. `sheet.screenshot(path, selector)` keeps a picture. Nothing sleeps: Playwright's `expect`
waits for elements, `wait_for` for the kernel.

The browser is Debian's ``chromium`` (or what ``OPP_PANDAS_CHROMIUM`` names). Where there is none, tests are skipped
with that reason; where the variable ``CI`` is set, they fail. Server, kernels and browser are real, have a home of
their own that goes with the run, and the browser can reach this machine only.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib.util
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

import matplotlib as mpl
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Playwright, Request

App = Literal["lab", "notebook", "voila", "marimo"]
Theme = Literal["light", "dark"]

PATIENCE_S = 120.0
NEEDED = ("playwright", "axe_playwright_python", "jupyterlab", "notebook", "voila", "marimo", "ipykernel")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No name but this machine's is found, so that nothing can leave it even by mistake.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
LOCAL = {"127.0.0.1", "localhost", ""}
# Voila's own page asks content networks for icons and formulas; a notebook in it has no part in that.
VOILAS_OWN = ("@fortawesome/", "/mathjax/")
PATHS: dict[str, str] = {
    "lab": "lab/workspaces/{stem}/tree/{stem}.ipynb?reset&",
    "notebook": "notebooks/{stem}.ipynb?",
    "voila": "voila/render/{stem}.ipynb?",
}
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "completer-extension/manager": {"autoCompletion": False},
}
SERIOUS = ("serious", "critical")
ASK = "__import__('json').dumps({}, default=str)"
# Errors that the hosts write by themselves, whatever a notebook shows.
HOSTS_OWN_ERRORS = (
    "fontawesome",  # Voila's icons, from a content network
    "mathjax",
    "@jupyter-notebook/lab-extension",  # Voila loads an extension meant for Notebook
    "Cannot read properties of undefined (reading 'schema')",  # Notebook 7, when settings come late
    "Field is not present in this state",  # marimo's own editor of code, when it is busy
    "Command 'filebrowser:open-path' not registered",  # Notebook 7 has no file browser beside a notebook
)


def lacking(what: str) -> None:
    """Fail where tests must run, skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}; on CI the notebooks are always tried in a browser")
    pytest.skip(f"{what}: notebooks are not tried in a browser")


def browser_path() -> str:
    """Where the browser is; without one, the test that asks is skipped or fails."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        lacking(f"not installed: {', '.join(absent)} (extra `dev`)")
    names = (os.environ.get("OPP_PANDAS_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, filter(None, names)) if path), None)
    if found is None:
        lacking("no Chromium on PATH, and OPP_PANDAS_CHROMIUM names none")
    return str(found)


class Jupyter:
    """One server with JupyterLab, Notebook 7 and Voila, on a free port of this machine, in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.notebooks = home / "notebooks"
        self.token = secrets.token_hex(16)
        self._prepare()
        self.process = self._start()
        self.url = self._address()
        threading.Thread(target=self._drain, daemon=True).start()

    def _prepare(self) -> None:
        """The kernel is the Python that runs the tests, whatever else is installed."""
        self.notebooks.mkdir()
        folder = self.home / "data" / "kernels" / "tested"
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": command, "display_name": "tested", "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")

    def _start(self) -> subprocess.Popen[str]:
        config = {
            "ServerApp": {
                "ip": "127.0.0.1",
                "port": 0,
                "open_browser": False,
                "allow_root": True,
                "root_dir": str(self.notebooks),
                "jpserver_extensions": {"jupyterlab": True, "notebook": True, "voila": True, "jupyter_lsp": True},
                "terminals_enabled": False,
            },
            "LanguageServerManager": {"autodetect": False},  # the search takes seconds
            "IdentityProvider": {"token": self.token},
            "LabApp": {"expose_app_in_browser": True, "extension_manager": "readonly"},
            "JupyterNotebookApp": {"expose_app_in_browser": True},
            "VoilaConfiguration": {"show_tracebacks": True},
        }
        path = self.home / "server.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        own = {
            "HOME": self.home,
            "IPYTHONDIR": self.home / "ipython",
            "JUPYTER_CONFIG_DIR": self.home / "config",
            "JUPYTER_DATA_DIR": self.home / "data",
            "JUPYTER_RUNTIME_DIR": self.home / "runtime",
            "JUPYTERLAB_SETTINGS_DIR": self.home / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": self.home / "workspaces",
            "MPLCONFIGDIR": mpl.get_cachedir(),  # a list of fonts takes seconds to make
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
            "JUPYTER_PREFER_ENV_PATH": "0",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", f"--config={path}"],
            env={**os.environ, **{name: str(value) for name, value in own.items()}},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def _address(self) -> str:
        """The base URL, from the line that says the server is ready."""
        said = []
        for line in self.process.stderr or ():
            said.append(line)
            if match := re.search(r"(http://127\.0\.0\.1:\d+/)\S*token", line):
                return match.group(1)
        raise RuntimeError("the notebook server did not start:\n" + "".join(said[-20:]))

    def _drain(self) -> None:
        for _ in self.process.stderr or ():
            pass

    def call(self, path: str, method: str = "GET") -> Any:
        """An answer of the server's own API."""
        request = urllib.request.Request(  # noqa: S310 (the address is ours)
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return json.loads(answer.read() or "null")

    def kernels(self) -> set[str]:
        """Ids of the running kernels."""
        return {entry["id"] for entry in self.call("api/kernels")}

    def set_theme(self, theme: Theme) -> None:
        """What JupyterLab and Notebook 7 look like when they are opened next."""
        chosen = {"apputils-extension/themes": {"theme": f"JupyterLab {theme.title()}"}}
        for name, values in (SETTINGS | chosen).items():
            path = self.home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values), encoding="utf-8")

    def close(self) -> None:
        """Stop the server with its kernels."""
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        if self.process.stderr:
            self.process.stderr.close()


class Asker:
    """A second client of a notebook's kernel, which asks without leaving a trace in the notebook."""

    def __init__(self, connection: Path) -> None:
        from jupyter_client.blocking.client import BlockingKernelClient

        self.client = BlockingKernelClient(connection_file=str(connection))
        self.client.load_connection_file()
        self.client.start_channels()

    def ask(self, expression: str) -> Any:
        """The value of an expression, by way of JSON; what is not JSON comes as text."""
        asked = ASK.format(expression)
        sent = self.client.execute("", silent=True, user_expressions={"it": asked}, store_history=False)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            reply = self.client.get_shell_msg(timeout=max(deadline - time.monotonic(), 0.01))
            if reply["parent_header"].get("msg_id") == sent:
                break
        it = reply["content"]["user_expressions"]["it"]
        assert it["status"] == "ok", f"{expression}: {it.get('ename')}: {it.get('evalue')}"
        text = it["data"]["text/plain"]
        return json.loads(ast.literal_eval(text))

    def close(self) -> None:
        """Let go of the kernel."""
        self.client.stop_channels()


# The last cell of a notebook in marimo: it answers what the test asks, as its own kernel does in Jupyter.
ANSWERING = """
from http.server import BaseHTTPRequestHandler as _Handler, HTTPServer as _Server
from pathlib import Path as _Path
from threading import Thread as _Thread
class Asked(_Handler):
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        try:
            answer = {{"value": eval(asked, globals())}}
        except Exception as problem:
            answer = {{"problem": f"{{type(problem).__name__}}: {{problem}}"}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(__import__("json").dumps(answer, default=str).encode())
    def log_message(self, *_):
        pass
_server = _Server(("127.0.0.1", 0), Asked)
_Thread(target=_server.serve_forever, daemon=True).start()
_Path({port!r} + ".part").write_text(str(_server.server_port))
_Path({port!r} + ".part").replace({port!r})  # in one step: a file that is there but empty would name no port
"""


class Marimo:
    """A notebook of its own in marimo, and the way to ask it."""

    def __init__(self, home: Path, stem: str, cells: Sequence[str], theme: Theme) -> None:
        self.port = home / f"{stem}.port"
        config = home / stem / "marimo" / "marimo.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[display]\ntheme = "{theme}"\n[runtime]\nauto_instantiate = true\n', encoding="utf-8")
        book = home / f"{stem}.py"
        all_cells = [*cells, ANSWERING.format(port=str(self.port))]
        bodies = [f"@app.cell\ndef _():\n{textwrap.indent(cell.strip(), '    ')}\n    return\n" for cell in all_cells]
        book.write_text("\n".join(["import marimo\n\napp = marimo.App()\n", *bodies]), encoding="utf-8")
        flags = ["--headless", "--no-token", "--skip-update-check", "--host=127.0.0.1", f"--port={_free_port()}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "marimo", "-y", "edit", *flags, str(book)],
            env={
                **os.environ,
                "HOME": str(home),
                "XDG_CONFIG_HOME": str(home / stem),
                "MPLCONFIGDIR": mpl.get_cachedir(),
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.url = flags[-1].replace("--port=", "http://127.0.0.1:") + "/"

    def wait(self) -> None:
        """Wait until its page can be asked for."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=PATIENCE_S).close()  # noqa: S310 (the address is ours)
                return
            except OSError:
                assert time.monotonic() < deadline
                assert self.process.poll() is None, "marimo did not start"
                time.sleep(0.1)

    def ask(self, expression: str) -> Any:
        """The value of an expression in the notebook, by way of JSON."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.port.exists():
            assert time.monotonic() < deadline, "the cells do not end"
            time.sleep(0.1)
        address = f"http://127.0.0.1:{self.port.read_text()}/"
        with urllib.request.urlopen(address, expression.encode(), timeout=PATIENCE_S) as reply:
            answer = json.loads(reply.read())
        assert "problem" not in answer, f"{expression}: {answer['problem']}"
        return answer["value"]

    def close(self) -> None:
        """Stop the server with its kernel."""
        self.process.terminate()
        self.process.wait(PATIENCE_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Sheet:
    """A notebook that is open in the browser."""

    page: Page
    app: str
    jupyter: Jupyter
    known: set[str]
    console_errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _asker: Asker | Marimo | None = None

    def run(self) -> Sheet:
        """Run all cells and wait until the last one is done; a cell's error is an AssertionError with its text.

        Voila has run them already: there this waits until nothing is being computed.
        """
        if self.app == "marimo":
            self.wait_for("True")
            errors = self.page.locator(".marimo-error").all_inner_texts()
        elif self.app != "voila":
            errors = self.page.evaluate(RUN, PATIENCE_S * 2000)
        else:
            self.wait_for("True")
            texts = self.page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
            errors = [text for text in texts if "Traceback (most recent call last)" in text]
        assert not errors, re.sub(r"\x1b\[[\d;]*m", "", "\n".join(errors))
        return self

    def output(self, cell: int) -> Locator:
        """What stands below the cell with this number, counted from 0 (in Voila: the n-th output)."""
        if self.app == "voila":
            return self.page.locator(".jp-OutputArea-output").nth(cell)
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(cell).locator(".jp-Cell-outputArea")

    def python(self, expression: str) -> Any:
        """The value of an expression in the notebook's kernel, by way of JSON (dates and the like as text)."""
        if self._asker is None:
            (kernel,) = self.jupyter.kernels() - self.known
            self._asker = Asker(self.jupyter.home / "runtime" / f"kernel-{kernel}.json")
        return self._asker.ask(expression)

    def wait_for(self, expression: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until the kernel calls the expression true; after `patience_s` that is an AssertionError."""
        deadline = time.monotonic() + patience_s
        while not (value := self.python(expression)):
            assert time.monotonic() < deadline, f"still {value!r} after {patience_s:g} s: {expression}"
            self.page.wait_for_timeout(20)  # lets the page go on meanwhile

    def screenshot(self, path: Path | str, selector: str | None = None) -> Path:
        """Keep a picture of the page, or of the first element that `selector` names, as PNG."""
        if selector is None:
            self.page.screenshot(path=str(path))
        else:
            self.page.locator(selector).first.screenshot(path=str(path))
        return Path(path)

    def accessibility(self, selector: str, impacts: Sequence[str] = SERIOUS) -> list[str]:
        """Look for barriers inside an element with axe-core; a line for each that is serious or critical.

        The line names rule, impact, the element and what axe-core says.
        """
        from axe_playwright_python.sync_playwright import Axe

        # marimo keeps every widget in a shadow of its own.
        context: Any = {"fromShadowDom": ["marimo-anywidget", selector]} if self.app == "marimo" else selector
        violations = Axe().run(self.page, context=context).response["violations"]
        return [
            f"{found['id']} ({found['impact']}): {node['html'][:200]}: {node.get('failureSummary', '')}"
            for found in violations
            for node in found["nodes"]
            if found["impact"] in impacts
        ]

    @property
    def foreign_requests(self) -> list[str]:
        """Addresses outside this machine that the page asked for (none of them could answer)."""
        return [
            url
            for url in self.requests
            if urlsplit(url).scheme not in ("data", "blob", "about")
            and urlsplit(url).hostname not in LOCAL
            and not (self.app == "voila" and any(part in url for part in VOILAS_OWN))
        ]

    def close(self) -> None:
        """Close the notebook and end its kernel; JupyterLab itself stays open for the next one, unless it asks."""
        if self._asker is not None:
            self._asker.close()
        for event, listener in self.listeners():
            self.page.remove_listener(event, listener)
        if self.app == "lab" and self.page.locator(".jp-Dialog").count() == 0:
            self.page.evaluate(CLOSE)
        else:
            self.page.close()
        for kernel in self.jupyter.kernels() - self.known if self.app != "marimo" else ():
            self.jupyter.call(f"api/kernels/{kernel}", "DELETE")

    def listeners(self) -> list[tuple[Any, Callable[..., None]]]:
        """What is heard of the page: its requests and its errors."""
        return [("console", self._console), ("pageerror", self._error), ("request", self._request)]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._error(f"{message.text} ({message.location.get('url', '')})")

    def _error(self, error: object) -> None:
        if not any(known in str(error) for known in HOSTS_OWN_ERRORS):
            self.console_errors.append(str(error))

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)


def keep_picture(sheet: Sheet, name: str, selector: str = ".opp-workspace") -> None:
    """Write a picture of an element where ``OPP_PANDAS_PICTURES`` names a folder."""
    if folder := os.environ.get("OPP_PANDAS_PICTURES"):
        page = sheet.page
        # marimo shows outputs in a window of their own height.
        page.add_style_tag(content=".output-area { max-height: none !important; }")
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": page.viewport_size["width"], "height": 5000})  # type: ignore[index]
        page.wait_for_timeout(300)
        sheet.screenshot(Path(folder) / f"{name}.png", selector)
        page.set_viewport_size({"width": page.viewport_size["width"], "height": 1900})  # type: ignore[index]


class OpenNotebook(Protocol):
    """The function that the fixture `open_notebook` gives."""

    def __call__(
        self, cells: Sequence[str], app: str = "lab", *, theme: Theme = "light", width: int = 1400, height: int = 1000
    ) -> Sheet:
        """Open a notebook made from code cells, in a window of this size [CSS pixels]."""


class Desk:
    """Server and browser of one test process."""

    def __init__(self, home: Path, executable: str) -> None:
        self.jupyter = Jupyter(home)
        from playwright.sync_api import expect, sync_playwright

        expect.set_options(timeout=PATIENCE_S * 500)
        self.playwright: Playwright = sync_playwright().start()
        self.browser: Browser = self.playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        # One context for all pages: what a host loads stays in its cache.
        self.context: BrowserContext = self.browser.new_context(accept_downloads=True)
        self.context.set_default_timeout(PATIENCE_S * 1000)
        self.loop = asyncio.events._get_running_loop()
        self.opened = 0

    def open(
        self, cells: Sequence[str], app: str = "lab", *, theme: Theme = "light", width: int = 1400, height: int = 1000
    ) -> Sheet:
        """Open a notebook made from code cells."""
        from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

        self.opened += 1
        stem = f"sheet{self.opened}"
        page, fresh = self._page(app)
        sheet = Sheet(page, app, self.jupyter, self.jupyter.kernels())
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=theme)
        for event, listener in sheet.listeners():
            page.on(event, listener)
        if app == "marimo":
            book = Marimo(self.jupyter.home, stem, cells, theme)
            sheet._asker = book
            book.wait()
            page.goto(book.url)
            return sheet
        import nbformat  # takes seconds: not before the first notebook

        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "tested", "display_name": "tested", "language": "python"}
        (self.jupyter.notebooks / f"{stem}.ipynb").write_text(nbformat.writes(book), encoding="utf-8")
        self.jupyter.set_theme(theme)
        look = f"theme={theme}&" if app == "voila" else ""
        address = f"{self.jupyter.url}{PATHS[app].format(stem=stem)}{look}token={self.jupyter.token}"
        if fresh:
            page.goto(address)
        else:
            page.evaluate(OPEN, [f"{stem}.ipynb", f"JupyterLab {theme.title()}"])
        ready = VOILA_READY if app == "voila" else READY
        # Asked by the clock: a page that is not in front draws no frames.
        try:
            page.wait_for_function(ready, timeout=PATIENCE_S * 250, polling=100)
        except PlaywrightTimeoutError:
            # Seldom a host's own start hangs, before anything of ours is there: it is loaded once more.
            page.goto(address)
            page.wait_for_function(ready, polling=100)
        if fresh and app == "lab":
            page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        return sheet

    def _page(self, app: str) -> tuple[Page, bool]:
        """A page, and whether it is new: a JupyterLab without a notebook is used again, which saves its start."""
        for page in self.context.pages if app == "lab" else ():
            if page.evaluate(
                "() => window.jupyterapp !== undefined && document.querySelector('.jp-Notebook') === null"
            ):
                return page, False
        return self.context.new_page(), True

    def close(self) -> None:
        """Stop browser and server."""
        self.browser.close()
        self.playwright.stop()
        self.jupyter.close()


# The notebook's panel, in front: JupyterLab may open its launcher beside it, at the latest moment.
BOOK = """() => {
    const shell = window.jupyterapp?.shell;
    const book = [...(shell?.widgets('main') ?? [])].find(each => each.context?.sessionContext && !each.isDisposed);
    if (book && shell.currentWidget !== book) shell.activateById(book.id);
    return book;
}"""
# Runs all cells and gives the tracebacks of those that failed; a kernel that died would never end them.
RUN = f"""async patience => {{
    const book = ({BOOK})();
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error('the cells do not end')), patience));
    await Promise.race([window.jupyterapp.commands.execute('notebook:run-all-cells'), late]);
    const outputs = book.content.model.toJSON().cells.flatMap(cell => cell.outputs ?? []);
    return outputs.filter(output => output.output_type === 'error').map(output => output.traceback.join('\\n'));
}}"""
OPEN = """async ([path, theme]) => {
    await window.jupyterapp.commands.execute('apputils:change-theme', {theme});
    await window.jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook'});
}"""
CLOSE = f"() => ({BOOK})().dispose()"
VOILA_READY = "() => document.querySelector('.jp-OutputArea-output') !== null"
# A notebook is ready when its panel has a kernel that waits for work.
READY = f"""() => {{
    const kernel = ({BOOK})()?.context.sessionContext.session?.kernel;
    return kernel?.status === 'idle' && document.querySelector('.jp-Notebook .jp-CodeCell') !== null;
}}"""


@functools.cache
def home_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="opp_pandas_browsing_", ignore_cleanup_errors=True)


@pytest.fixture(scope="session")
def desk() -> Iterator[Desk]:
    """Server and browser, started once in a test process."""
    executable = browser_path()
    made = Desk(Path(home_folder().name), executable)
    # Playwright's loop counts as running as long as it is there; other tests of the process want loops of their own.
    asyncio.events._set_running_loop(None)
    yield made
    asyncio.events._set_running_loop(made.loop)
    made.close()
    home_folder().cleanup()


@pytest.fixture
def open_notebook(desk: Desk) -> Iterator[OpenNotebook]:
    """A function that opens notebooks; they are closed, and their kernels ended, after the test."""
    asyncio.events._set_running_loop(desk.loop)
    opened: list[Sheet] = []

    def open_one(
        cells: Sequence[str], app: str = "lab", *, theme: Theme = "light", width: int = 1400, height: int = 1000
    ) -> Sheet:
        opened.append(desk.open(cells, app, theme=theme, width=width, height=height))
        return opened[-1]

    yield open_one
    for sheet in opened:
        sheet.close()
    asyncio.events._set_running_loop(None)
