"""The file of a sign-in: for its owner only, whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from opp_pandas.api.auth.secret import Secret
from opp_pandas.api.auth.token_store import StoredSignIn, TokenStore
from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://api.outreach.io/api/v2"
SIGN_IN = StoredSignIn(
    token_url="https://api.outreach.io/oauth/token",
    client_id="app",
    client_secret=Secret("client-secret-1"),
    access=Secret("access-token-1"),
    refresh=Secret("refresh-token-1"),
    redirect_uri="http://127.0.0.1:8917/callback",
    expires_at=1_790_007_200.0,
    minted_at=1_790_000_000.0,
    scope="opportunities.all",
)
posix = pytest.mark.skipif(os.name != "posix", reason="file modes mean something on POSIX only")


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(URL, tmp_path / "sign-in")


def test_store__gives_back_what_was_written(store: TokenStore) -> None:
    """Every member survives, secrets as secrets."""
    assert not store.exists()
    assert store.read() is None
    store.write(SIGN_IN)
    assert store.exists()
    assert store.read() == SIGN_IN


@posix
def test_store__is_for_the_owner_only(store: TokenStore) -> None:
    """The file has mode 600 and its folder 700, whatever the umask."""
    before = os.umask(0)
    try:
        store.write(SIGN_IN)
        with store.lock():
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.with_suffix(".lock").stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o666])
def test_store__refuses_a_file_that_others_may_read(store: TokenStore, mode: int) -> None:
    """Wider modes are refused, with the command that mends them."""
    store.write(SIGN_IN)
    store.path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {store.path}"):
        store.read()


@posix
def test_store__refuses_a_folder_that_others_may_enter(store: TokenStore) -> None:
    """A folder that others may enter is refused before a token is written into it."""
    store.folder.mkdir(mode=0o755, parents=True)
    store.folder.chmod(0o755)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        store.write(SIGN_IN)
    assert list(store.folder.iterdir()) == []


@posix
def test_store__refuses_a_link(store: TokenStore, tmp_path: Path) -> None:
    """A link is not followed, neither when reading nor when writing."""
    store.write(SIGN_IN)
    elsewhere = tmp_path / "elsewhere.json"
    store.path.rename(elsewhere)
    store.path.symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        store.read()
    before = elsewhere.read_bytes()
    store.write(SIGN_IN)
    assert elsewhere.read_bytes() == before
    assert store.read() == SIGN_IN


def test_store__leaves_nothing_beside_it(store: TokenStore) -> None:
    """Writing leaves one file, and a write that fails leaves the old one."""
    store.write(SIGN_IN)
    broken: Any = object()
    with pytest.raises(AttributeError):
        store.write(broken)
    assert [path.name for path in store.folder.iterdir()] == [store.path.name]
    assert store.read() == SIGN_IN


def test_store__is_one_per_address(tmp_path: Path) -> None:
    """Other hosts, ports and paths have other files, so no token reaches another service."""
    urls = [
        URL,
        "https://api.outreach.io/api/v3",
        "https://api.outreach.io:8443/api/v2",
        "http://127.0.0.1:8443/api/v2",
    ]
    assert len({TokenStore(url, tmp_path).path for url in urls}) == 4
    assert TokenStore(f"{URL}/", tmp_path).path == TokenStore(URL, tmp_path).path


def test_store__moved_to_another_address_is_refused(store: TokenStore, tmp_path: Path) -> None:
    """A file that was made for one service and renamed for another is not used."""
    store.write(SIGN_IN)
    other = TokenStore("https://evil.example/api/v2", store.folder)
    store.path.rename(other.path)
    with pytest.raises(ConfigurationError, match="damaged"):
        other.read()


def test_store__damaged_anywhere_is_refused_or_read_as_a_sign_in(store: TokenStore) -> None:
    """Cut at every byte, the file is refused, and never half read."""
    store.write(SIGN_IN)
    whole = store.path.read_bytes()
    for size in range(len(whole)):
        store.path.write_bytes(whole[:size])
        with pytest.raises(ConfigurationError, match="damaged; sign in again"):
            store.read()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"url": "https://evil.example"},
        {"access": ""},
        {"access": None},
        {"access": "a\nb"},
        {"refresh": 5},
        {"expires_at": "soon"},
        {"token_url": None},
        {"client_id": 7},
    ],
)
def test_store__of_wrong_content_is_refused(store: TokenStore, change: dict[str, Any]) -> None:
    """Other versions, addresses and kinds of values are damage, told without the content."""
    store.write(SIGN_IN)
    store.path.write_text(json.dumps(json.loads(store.path.read_text()) | change))
    with pytest.raises(ConfigurationError, match="damaged") as caught:
        store.read()
    assert "refresh-token-1" not in str(caught.value)


def test_store__of_enormous_content_is_refused(store: TokenStore) -> None:
    """Only a small file is read."""
    store.write(SIGN_IN)
    store.path.write_bytes(b" " * 100_000 + store.path.read_bytes())
    with pytest.raises(ConfigurationError, match="damaged"):
        store.read()


def test_store__shows_no_secret(store: TokenStore) -> None:
    """Store and sign-in print without tokens."""
    text = f"{store!r} {SIGN_IN!r} {vars(store)}"
    assert all(word not in text for word in ("access-token-1", "refresh-token-1", "client-secret-1"))


def test_forget__deletes_the_file(store: TokenStore) -> None:
    """Signing out deletes the file, and says whether there was one."""
    store.write(SIGN_IN)
    assert store.forget() is True
    assert store.forget() is False
    assert not store.exists()


def test_lock__says_what_to_do_when_it_is_held_too_long(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another program keeps ends in an error with the file's name."""
    monkeypatch.setattr("opp_pandas.api.auth.token_store.LOCK_TIMEOUT_S", 0.05)
    with store.lock(), pytest.raises(ConfigurationError, match=r"another program.*\.lock"), store.lock():
        raise AssertionError("the lock was given twice")


def test_folder__comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable names the folder; without it the system's folder for settings is used."""
    monkeypatch.setenv("OPP_PANDAS_SIGN_IN_FOLDER", str(tmp_path / "mine"))
    assert TokenStore(URL).folder == tmp_path / "mine"
    monkeypatch.delenv("OPP_PANDAS_SIGN_IN_FOLDER")
    assert "opp_pandas" in str(TokenStore(URL).folder)
