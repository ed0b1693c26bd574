"""``opp-pandas sandbox``: the API served from this machine until stopped."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    serve = commands.add_parser(
        "sandbox",
        help="serve the Opportunity API from this machine until stopped",
        description="Serves the API with made-up deals on a loopback address. The first line printed is the base "
        "URL, the second the bearer token. Ctrl-C stops it.",
        epilog="example: opp-pandas sandbox --port 8000 --opportunities 2000",
    )
    serve.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=0, help="port; 0 takes a free one (default)")
    serve.add_argument("--db", type=Path, metavar="FILE", help="keep the records in this file (default: in memory)")
    serve.add_argument("--opportunities", type=int, default=500, metavar="N", help="deals to make (default 500)")
    serve.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same deals (default 0)")
    token = serve.add_mutually_exclusive_group()
    token.add_argument("--token", metavar="T", help="the bearer token (default: a random one)")
    token.add_argument("--token-file", type=Path, metavar="F", help="read the bearer token from this file")
    serve.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from opp_pandas.sandbox_handle import sandbox

    token = options.token
    if options.token_file is not None:
        try:
            token = options.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"--token-file cannot be read: {error.strerror}") from error
    made = sandbox(
        options.opportunities,
        options.seed,
        options.db,
        host=options.host,
        port=options.port,
        token=token,
    )
    stopped = threading.Event()
    # A service manager ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with made as box:
        print(box.url)
        print(box.token, flush=True)
        try:
            while not stopped.wait(0.5):
                pass
        except KeyboardInterrupt:
            stopped.set()
    return 0
