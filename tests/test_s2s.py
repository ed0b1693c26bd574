"""Signing in as an app with its own key."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

import opp_pandas as opp
from opp_pandas import errors
from opp_pandas.api.auth.s2s import AppSignIn
from opp_pandas.api.auth.secret import Secret
from rawserver import NOW, FakeClock, RawServer, reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

jwt = pytest.importorskip("jwt")
pytest.importorskip("cryptography")


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    """A private key and its public half, in PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as started:
        yield started


def given(number: int = 1) -> Any:
    return reply(200, {"data": {"type": "install", "id": 5, "meta": {"accessToken": f"app-access-{number}"}}})


def test_app__works_against_the_sandbox_and_reads_no_stages(keys: tuple[str, str]) -> None:
    """The sandbox checks the signature; opportunities are readable, stages are not."""
    with opp.sandbox(opportunities=3) as box:
        install = box.install_app("guid-1", keys[1])
        client = opp.connect(box.url, auth=AppSignIn(box.url, guid="guid-1", install_id=install, private_key=keys[0]))
        assert client.get(1).status == 200
        with pytest.raises(errors.AccessDeniedError, match=r"opportunityStages\.read"):
            client.stages()


def test_app__with_a_wrong_guid_is_refused(keys: tuple[str, str]) -> None:
    """What the service does not accept is an error that shows no token."""
    with opp.sandbox(opportunities=1) as box:
        install = box.install_app("guid-1", keys[1])
        auth = AppSignIn(box.url, guid="guid-2", install_id=install, private_key=keys[0])
        with pytest.raises(errors.AuthenticationError) as caught:
            opp.connect(box.url, auth=auth).get(1)
        assert "eyJ" not in str(caught.value)


def test_app_token__has_the_documented_claims(server: RawServer, keys: tuple[str, str]) -> None:
    """Issuer, moment and one hour of life, signed with RS256, sent to the installation's address."""
    server.script(given())
    auth = AppSignIn(server.url, guid="guid-1", install_id=5, private_key=keys[0], clock=FakeClock())
    assert auth.token() == Secret("app-access-1")
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/api/app/installs/5/actions/accessToken")
    token = request.headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, keys[1], algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False})
    assert claims == {"iat": int(NOW), "exp": int(NOW) + 3_600, "iss": "guid-1"}


def test_app__mints_one_token_for_eight_threads(server: RawServer, keys: tuple[str, str]) -> None:
    """Threads share one token, which lasts an hour less two minutes."""
    server.script(given(1), given(2))
    clock = FakeClock()
    auth = AppSignIn(server.url, guid="g", install_id=5, private_key=keys[0], clock=clock)
    found: list[Secret] = []
    threads = [threading.Thread(target=lambda: found.append(auth.token())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [Secret("app-access-1")] * 8
    clock.sleep(3_479)
    assert auth.token() == Secret("app-access-1")
    clock.sleep(2)
    assert auth.token() == Secret("app-access-2")
    assert len(server.requests) == 2


def test_app__renews_after_a_refusal_but_not_within_the_minute(server: RawServer, keys: tuple[str, str]) -> None:
    """A refused token is renewed once it is a minute old; before that there is none."""
    server.script(given(1), given(2))
    clock = FakeClock()
    auth = AppSignIn(server.url, guid="g", install_id=5, private_key=keys[0], clock=clock)
    used = auth.token()
    assert auth.renew(used) is None
    clock.sleep(61)
    assert auth.renew(used) == Secret("app-access-2")
    assert auth.renew(used) == Secret("app-access-2")
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": []}, {"data": {"meta": None}}, {"data": {"meta": {}}}])
def test_app__answer_without_a_token_is_an_error(server: RawServer, keys: tuple[str, str], body: Any) -> None:
    """The pointer says where the token was expected."""
    server.script(reply(200, body))
    with pytest.raises(errors.DocumentError) as caught:
        AppSignIn(server.url, guid="g", install_id=5, private_key=keys[0]).token()
    assert caught.value.pointer == "/data/meta/accessToken"


def test_key__comes_from_a_file(tmp_path: Path, keys: tuple[str, str]) -> None:
    """A Path is read; a missing one is named as such."""
    path = tmp_path / "key.pem"
    path.write_text(keys[0])
    assert AppSignIn("https://example.com/api", guid="g", install_id="5", private_key=path)
    with pytest.raises(errors.ConfigurationError, match="the file cannot be read"):
        AppSignIn("https://example.com/api", guid="g", install_id=5, private_key=tmp_path / "none.pem")


def test_key__that_is_none_is_refused_and_not_shown(keys: tuple[str, str]) -> None:
    """Public keys, other keys and noise are refused without repeating them."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for bad in (keys[1], other, "noise", b"", keys[0][:200]):
        with pytest.raises(errors.ConfigurationError, match="private_key cannot be used") as caught:
            AppSignIn("https://example.com/api", guid="g", install_id=5, private_key=bad)
        assert "KEY--" not in str(caught.value)


@pytest.mark.parametrize("install", ["x", "../1", 0, None])
def test_install_id__must_be_a_number(keys: tuple[str, str], install: Any) -> None:
    """It goes into a path, so it is a number."""
    with pytest.raises(errors.ConfigurationError, match="whole number"):
        AppSignIn("https://example.com/api", guid="g", install_id=install, private_key=keys[0])


def test_app__shows_and_pickles_no_key(keys: tuple[str, str]) -> None:
    """It prints its address only."""
    auth = AppSignIn("https://example.com/api", guid="g", install_id=5, private_key=keys[0])
    assert repr(auth) == "AppSignIn('https://example.com/api/app/installs/5/actions/accessToken')"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(auth)


def test_missing_extra__names_the_command(monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str]) -> None:
    """Without PyJWT the error has the install command."""
    import sys

    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'opp_pandas\[app\]'"):
        AppSignIn("https://example.com/api", guid="g", install_id=5, private_key=keys[0])
