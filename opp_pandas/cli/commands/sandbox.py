"""``opp-pandas sandbox``: the API served from this machine until stopped."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from opp_pandas.cli.registry import command, either, option
from opp_pandas.errors import ConfigurationError
from opp_pandas.sandbox_server.access import ALL_SCOPES, SCOPES
from opp_pandas.sandbox_server.instants import parse_instant
from opp_pandas.sandbox_server.settings import Fault, Switches, switch_types

_APP_GUID = "sandbox-app-guid"
_DESCRIBED = re.compile(r"^ {4}(\w+(?:, \w+)*) : .*\n((?: {8}.*\n)+)", re.MULTILINE)


def _add_switches(parser: argparse.ArgumentParser) -> None:
    """Describe each switch that a command line can say."""
    group = parser.add_argument_group("strictness, limits and faults")
    meanings = {
        name: " ".join(words.split()).replace("``", "").replace("%", "%%")
        for names, words in _DESCRIBED.findall(Switches.__doc__ or "")
        for name in names.split(", ")
    }
    for name, hint in switch_types().items():
        kinds = get_args(hint) or (hint,)
        how: dict[str, Any] = {}
        if get_origin(hint) is Literal:
            how = {"choices": kinds}
        elif hint is bool:
            how = {"action": argparse.BooleanOptionalAction}
        elif get_origin(hint) is tuple:
            how = {"type": lambda text: tuple(text.split(",")), "metavar": "A,B"}
        elif Fault in kinds:
            how = {"action": "append", "type": _fault, "metavar": "JSON"}
        elif reader := next((_READERS[kind] for kind in kinds if kind in _READERS), None):
            how = {"type": reader, "metavar": "N" if reader in (int, float) else "MOMENT"}
        if how:
            words = meanings.get(name, "")
            group.add_argument(f"--{name.replace('_', '-')}", dest=name, default=argparse.SUPPRESS, help=words, **how)


_READERS: dict[Any, Callable[[str], Any]] = {type(parse_instant("2026-01-01")): parse_instant, int: int, float: float}


def _fault(text: str) -> Fault:
    """Read a fault: ``{"status": 503, "times": 2, "path": "/opportunities"}``."""
    try:
        given = json.loads(text)
        body = given.pop("body", None)
        return Fault(**given, body=None if body is None else str(body).encode())
    except (ValueError, TypeError, AttributeError) as error:
        known = ", ".join(Fault.__dataclass_fields__)
        raise argparse.ArgumentTypeError(f"a fault is a JSON object of {known}; status is needed ({error})") from None


def _listed(text: str, known: frozenset[str]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := sorted(set(names) - known):
        raise argparse.ArgumentTypeError(f"there is no scope {', '.join(unknown)}")
    return names


@command(
    option("--host", default="127.0.0.1", help="loopback address to listen on (default 127.0.0.1)"),
    option("--port", type=int, default=0, help="port; 0 takes a free one (default)"),
    option("--db", type=Path, metavar="FILE", help="keep the records in this file (default: in memory)"),
    option("--opportunities", type=int, default=500, metavar="N", help="deals to make (default 500)"),
    option("--seed", type=int, default=0, metavar="N", help="same seed, same deals (default 0)"),
    option("--now", metavar="MOMENT", help="the moment the deals are made for (default: the real time)"),
    either(
        option("--token", metavar="T", help="the bearer token (default: a random one)"),
        option("--token-file", type=Path, metavar="F", help="read the bearer token from this file"),
    ),
    option(
        "--scopes",
        type=lambda text: _listed(text, SCOPES),
        default=tuple(ALL_SCOPES),
        metavar="A,B",
        help="what the tokens may do, such as opportunities.read (default: everything)",
    ),
    option("--refresh-tokens", type=int, default=1, metavar="N", help="refresh tokens to issue without a browser"),
    option(
        "--app",
        type=Path,
        metavar="FILE",
        help="install an app that signs in with the RSA key in this PEM file; a new key is made where there is none",
    ),
    _add_switches,
    help="serve the Opportunity API from this machine until stopped",
    description="Serves the API with made-up deals on a loopback address. The first line printed is the base "
    "URL, the second the bearer token; then come lines for a shell that set what opp-pandas and other programs "
    "read: address, token, OAuth client, refresh tokens, app. Ctrl-C stops it.",
    epilog="example: opp-pandas sandbox --port 8000 --opportunities 2000 --rate-limit 100 --refresh-tokens 2",
)
def _run(options: argparse.Namespace) -> int:
    from opp_pandas.sandbox_handle import sandbox

    token = options.token
    if options.token_file is not None:
        try:
            token = options.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"--token-file cannot be read: {error.strerror}") from error
    public_key = None if options.app is None else _public_key(options.app)
    scopes = frozenset(options.scopes)
    made = sandbox(
        options.opportunities,
        options.seed,
        options.db,
        options.now,
        host=options.host,
        port=options.port,
        token=token,
        scopes=scopes,
        **{name: value for name, value in vars(options).items() if name in switch_types()},
    )
    stopped = threading.Event()
    # A service manager ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with made as box:
        print(box.url)
        print(box.token)
        lines = {
            "OPP_PANDAS_URL": box.url,
            "OPP_PANDAS_TOKEN": box.token,
            "OPP_PANDAS_AUTHORIZE_URL": f"{box.origin}/oauth/authorize",
            "OPP_PANDAS_TOKEN_URL": f"{box.origin}/oauth/token",
            "OPP_PANDAS_CLIENT_ID": box.client_id,
            "OPP_PANDAS_CLIENT_SECRET": box.client_secret,
        }
        for number in range(options.refresh_tokens):
            suffix = f"_{number + 1}" if number else ""
            lines[f"OPP_PANDAS_REFRESH_TOKEN{suffix}"] = box.issue_refresh_token(scopes)
        if public_key is not None:
            install = str(box.install_app(_APP_GUID, public_key))
            app = {"GUID": _APP_GUID, "INSTALL_ID": install, "KEY_FILE": str(options.app.resolve())}
            lines |= {f"OPP_PANDAS_APP_{name}": value for name, value in app.items()}
        word = "set" if os.name == "nt" else "export"
        print("\n".join(f"{word} {name}={shlex.quote(value)}" for name, value in lines.items()), flush=True)
        try:
            while not stopped.wait(0.5):
                pass
        except KeyboardInterrupt:
            stopped.set()
    return 0


def _public_key(path: Path) -> str:
    """Read the public half of a key in PEM form; a private key is made where there is no file."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
    except ImportError:
        from opp_pandas.errors import MissingExtraError

        raise MissingExtraError("PyJWT[crypto]", "app") from None
    pem = serialization.Encoding.PEM
    try:
        if not path.exists():
            made = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
            form, lock = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            path.touch(mode=0o600)
            path.write_bytes(made.private_bytes(pem, form, lock))
        text = path.read_bytes()
        if b"PRIVATE KEY" in text:
            key = serialization.load_pem_private_key(text, password=None).public_key()
            text = key.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        return text.decode()
    except OSError as error:
        raise ConfigurationError(f"--app {path}: the file cannot be used: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"--app {path}: this is no RSA key in PEM form without a password") from error
