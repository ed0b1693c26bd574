"""Who we are to the service: the ways to a bearer token."""

from __future__ import annotations

import os
from typing import Protocol

import requests
import requests.auth

from opp_pandas.api.auth.secret import HeaderText, Secret
from opp_pandas.errors import ConfigurationError

TOKEN_VARIABLE = "OPP_PANDAS_TOKEN"  # noqa: S105  # the variable's name


class Credentials(Protocol):
    """A source of bearer tokens; safe to ask from several threads."""

    def token(self) -> Secret:
        """Return the token to use now."""
        ...

    def renew(self, used: Secret) -> Secret | None:
        """Return a newer token than `used`, which the service refused; None if there is none."""
        ...


class FixedToken:
    """A token that somebody gave, and that cannot be renewed."""

    def __init__(self, token: str | Secret) -> None:
        self._token = Secret(token)

    def __repr__(self) -> str:
        return "FixedToken(***)"

    def token(self) -> Secret:
        """Return the token."""
        return self._token

    def renew(self, used: Secret) -> Secret | None:  # noqa: ARG002
        """There is no newer one: None."""
        return None


class BearerAuth(requests.auth.AuthBase):
    """Puts the token into a request at the last moment.

    As requests' own `auth`, so that an entry of ``~/.netrc`` cannot replace it (promise S3).
    """

    def __init__(self, token: Secret) -> None:
        self._token = token

    def __repr__(self) -> str:
        return "BearerAuth(***)"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header on a request that is about to be sent."""
        request.headers["Authorization"] = HeaderText(f"Bearer {self._token.reveal()}")
        return request


def find_credentials(url: str, token: str | Secret | None, auth: Credentials | None) -> Credentials:
    """Find out who we are: the arguments, else ``OPP_PANDAS_TOKEN``, else a stored sign-in to the API at `url`.

    Both arguments, or nothing anywhere, are a ConfigurationError.
    """
    if token is not None and auth is not None:
        raise ConfigurationError("give token= or auth=, not both")
    if auth is not None:
        if not callable(getattr(auth, "token", None)) or not callable(getattr(auth, "renew", None)):
            raise ConfigurationError("auth= needs the methods token() and renew(used)")
        return auth
    if token is not None:
        return FixedToken(token)
    from_environment = os.environ.get(TOKEN_VARIABLE, "")
    if from_environment.strip():
        return FixedToken(Secret(from_environment, name=f"token in {TOKEN_VARIABLE}"))
    from opp_pandas.api.auth.oauth import SignIn
    from opp_pandas.api.auth.token_store import TokenStore

    store = TokenStore(url)
    if store.exists():
        return SignIn(store)
    raise ConfigurationError(
        f"no token for {url}: pass token=, set {TOKEN_VARIABLE}, or sign in once with `opp-pandas login`. "
        "To look around without an account: opp.sandbox().client()"
    )
