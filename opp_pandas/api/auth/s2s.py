"""Signing in as an app: a token signed with the app's own key, exchanged for an access token.

The service calls it server-to-server. Such a token stands for the app, not for
a user: it reads no stages and no prospect roles.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas.api import documents
from opp_pandas.api.auth.bearer import BearerAuth
from opp_pandas.api.auth.oauth import RENEW_AHEAD_S
from opp_pandas.api.auth.secret import Secret
from opp_pandas.api.auth.token_endpoint import MINT_INTERVAL_S, post, read_token_answer
from opp_pandas.api.transport.base_url import parse_origin
from opp_pandas.api.transport.retry import Clock
from opp_pandas.errors import ConfigurationError, DocumentError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

APP_TOKEN_LIFE_S = 3_600
ACCESS_LIFE_S = 3_600.0


class AppSignIn:
    """Access tokens of an app that is installed in an organisation.

    Parameters
    ----------
    url : str
        Base URL of the API.
    guid : str
        The app's server-to-server id.
    install_id : int or str of digits
        The installation in the organisation.
    private_key : str, bytes, Path or Secret
        The app's RSA key in PEM, or the file that holds it.
    clock : Clock, optional
        Whose time counts.

    Raises
    ------
    MissingExtraError
        If PyJWT with cryptography is not installed.
    ConfigurationError
        If the key cannot be used.

    Examples
    --------
    >>> from cryptography.hazmat.primitives import serialization as ways
    >>> from cryptography.hazmat.primitives.asymmetric import rsa
    >>> key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    >>> public = key.public_key().public_bytes(ways.Encoding.PEM, ways.PublicFormat.SubjectPublicKeyInfo)
    >>> private = key.private_bytes(ways.Encoding.PEM, ways.PrivateFormat.PKCS8, ways.NoEncryption())
    >>> made_up = opp.sandbox(opportunities=3)
    >>> install = made_up.install_app("guid-1", public.decode())
    >>> app = opp.AppSignIn(made_up.url, guid="guid-1", install_id=install, private_key=private)
    >>> opp.connect(made_up.url, auth=app).get(1).status
    200
    >>> app.renew(app.token()) is None  # made less than a minute ago
    True
    """

    def __init__(
        self, url: str, *, guid: str, install_id: int | str, private_key: str | bytes | Path, clock: Clock | None = None
    ) -> None:
        origin = parse_origin(url)
        self._guid = guid
        self._endpoint = f"{origin.root}/api/app/installs/{documents.check_id(install_id)}/actions/accessToken"
        self._key = _load_key(private_key)
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._access: Secret | None = None
        self._minted_at = 0.0

    def __repr__(self) -> str:
        return f"AppSignIn({self._endpoint!r})"

    def __reduce__(self) -> Any:
        raise TypeError("an app's sign-in is not pickled, since it holds a key")

    def token(self) -> Secret:
        """Return an access token, a new one two minutes before the old one ends."""
        with self._lock:
            if self._access is None or self._clock.now() > self._minted_at + ACCESS_LIFE_S - RENEW_AHEAD_S:
                self._access = self._mint()
            return self._access

    def renew(self, used: Secret) -> Secret | None:
        """Return a newer token than `used`; None if that one was made less than a minute ago."""
        with self._lock:
            if self._access is not None and self._access != used:
                return self._access
            if 0 <= self._clock.now() - self._minted_at < MINT_INTERVAL_S:
                return None
            self._access = self._mint()
            return self._access

    def _mint(self) -> Secret:
        now = self._clock.now()
        claims = {"iat": int(now), "exp": int(now) + APP_TOKEN_LIFE_S, "iss": self._guid}
        app_token = Secret(_jwt().encode(claims, self._key, algorithm="RS256"), name="app token")
        auth = BearerAuth(app_token)
        answered = post(self._endpoint, auth=auth, media_type=documents.MEDIA_TYPE, clock=self._clock)
        answer = read_token_answer(self._endpoint, answered, [app_token])
        self._minted_at = now
        data = answer.get("data")
        meta = data.get("meta") if isinstance(data, dict) else None
        access = meta.get("accessToken") if isinstance(meta, dict) else None
        if not isinstance(access, Secret):
            raise DocumentError("the answer holds no access token", pointer="/data/meta/accessToken", method="POST")
        return access


def _jwt() -> ModuleType:
    try:
        import cryptography  # noqa: F401  # PyJWT signs with it
        import jwt
    except ImportError:
        raise MissingExtraError("PyJWT[crypto]", "app") from None
    return jwt


def _load_key(source: str | bytes | Path) -> Any:
    """Read an RSA private key; the error says what is wrong and never shows the key."""
    _jwt()
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    problem = "it is not an RSA key"
    try:
        text = source.read_bytes() if isinstance(source, Path) else source
        key = load_pem_private_key(text.encode() if isinstance(text, str) else text, password=None)
        if isinstance(key, RSAPrivateKey):
            return key
    except OSError as error:
        problem = f"the file cannot be read ({error.strerror})"
    except (ValueError, TypeError):
        problem = "it is no PEM key without a password"
    raise ConfigurationError(f"private_key cannot be used: {problem}; give the PEM text or the Path of its file")
