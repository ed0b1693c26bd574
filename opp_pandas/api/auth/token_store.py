"""The file that keeps a sign-in: readable by its owner only, replaced as a whole, locked between programs.

Promises R23 and S12. One file per API address, so that no token can reach
another service.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas._files import owner_objection, sync_folder, write_whole
from opp_pandas.api.auth.secret import Secret
from opp_pandas.api.transport.base_url import parse_origin
from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_VARIABLE = "OPP_PANDAS_SIGN_IN_FOLDER"
VERSION = 1
LOCK_TIMEOUT_S = 90.0
_LARGEST = 65_536


@dataclass(frozen=True)
class StoredSignIn:
    """What a sign-in consists of; moments in seconds since 1970, `scope` as the service said it."""

    token_url: str
    client_id: str
    client_secret: Secret
    access: Secret
    refresh: Secret
    redirect_uri: str
    expires_at: float
    minted_at: float
    scope: str = ""


_SECRETS = ("client_secret", "access", "refresh")
_TEXTS = ("token_url", "client_id", "redirect_uri", "scope")
_NUMBERS = ("expires_at", "minted_at")


class TokenStore:
    """The file of the sign-in at one API.

    In `folder`, else in ``OPP_PANDAS_SIGN_IN_FOLDER``, else in the user's folder for settings on this system.
    """

    def __init__(self, url: str, folder: Path | None = None) -> None:
        origin = parse_origin(url)
        self.url = origin.url
        name = re.sub(r"[^a-z0-9]+", "-", origin.host.lower()).strip("-")[:40]
        # Two addresses on one host are two services: the hash keeps their files apart.
        mark = hashlib.sha256(origin.url.encode()).hexdigest()[:12]
        self.folder = _default_folder() if folder is None else Path(folder)
        self.path = self.folder / f"sign-in-{name}-{mark}.json"

    def __repr__(self) -> str:
        return f"TokenStore({self.url!r})"

    def exists(self) -> bool:
        """Return whether there is a sign-in."""
        return self.path.is_file()

    def read(self) -> StoredSignIn | None:
        """Read the sign-in; None if there is none.

        A file that others may read, a link, or damaged content is a ConfigurationError.
        """
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            handle = os.open(self.path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"the sign-in file {self.path} cannot be read ({error.strerror})") from None
        with os.fdopen(handle, "rb") as file:
            _refuse_open_modes(os.fstat(file.fileno()), self.path)
            content = file.read(_LARGEST + 1)
        stored = self._parsed(content)
        if stored is None:
            raise ConfigurationError(f"the sign-in file {self.path} is damaged; sign in again with `opp-pandas login`")
        return stored

    def _parsed(self, content: bytes) -> StoredSignIn | None:
        try:
            value: Any = json.loads(content) if len(content) <= _LARGEST else None
            if not isinstance(value, dict) or value.get("version") != VERSION or value.get("url") != self.url:
                return None
            members: dict[str, Any] = {name: value[name] for name in _TEXTS}
            if not all(isinstance(text, str) for text in members.values()):
                return None
            members |= {name: float(value[name]) for name in _NUMBERS}
            members |= {name: Secret(value[name], name=name) for name in _SECRETS}
            return StoredSignIn(**members)
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def write(self, sign_in: StoredSignIn) -> None:
        """Replace the file as a whole."""
        content: dict[str, Any] = {"version": VERSION, "url": self.url}
        content |= {name: getattr(sign_in, name) for name in (*_TEXTS, *_NUMBERS)}
        content |= {name: getattr(sign_in, name).reveal() for name in _SECRETS}
        self._make_folder()
        write_whole(self.path, json.dumps(content, indent=1).encode(), private=True)
        sync_folder(self.folder)

    def forget(self) -> bool:
        """Delete the sign-in; tells whether there was one."""
        found = self.path.exists()
        self.path.unlink(missing_ok=True)
        return found

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other programs, and other clients in this one, from renewing meanwhile."""
        import filelock

        self._make_folder()
        lock = filelock.FileLock(self.path.with_suffix(".lock"), timeout=LOCK_TIMEOUT_S, mode=0o600)
        try:
            lock.acquire()
        except filelock.Timeout:
            problem = f"another program has been renewing the sign-in for more than {LOCK_TIMEOUT_S:.0f} s"
        else:
            try:
                yield
            finally:
                lock.release()
            return
        raise ConfigurationError(f"{problem}; end it, or delete {self.path.with_suffix('.lock')}")

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_open_modes(self.folder.stat(), self.folder)


def _default_folder() -> Path:
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    if named:
        return Path(named)
    import platformdirs

    return platformdirs.user_config_path("opp_pandas", appauthor=False) / "sign-in"


def _refuse_open_modes(found: os.stat_result, path: Path) -> None:
    objection = owner_objection(found, path)
    if objection is not None:
        raise ConfigurationError(objection)
