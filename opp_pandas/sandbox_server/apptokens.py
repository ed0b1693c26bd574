"""Checks an app's signed token (JWT, RS256) with the app's public key, by PyJWT.

PyJWT and cryptography are imported when the first app is installed: nobody else
needs them (extra ``app``).
"""

from __future__ import annotations

from typing import Any

from opp_pandas.errors import ConfigurationError, MissingExtraError

LONGEST_LIFE_S, _SKEW_S = 3_600, 60


def load_public_key(text: str) -> Any:
    """Read an RSA public key from PEM text; ConfigurationError if there is none in it, or no extra that reads it."""
    try:
        import jwt  # noqa: F401  # tokens are checked with it
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise MissingExtraError("PyJWT[crypto]", "app") from None
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise ConfigurationError("this is not an RSA public key in PEM form")
    return key


def check_app_token(token: str, key: Any, issuer: str) -> str | None:
    """Check an app token in its compact form; return what is wrong with it, or None.

    Programs sign by the clock of this machine, so that counts here, whatever moment the sandbox shows.
    """
    import jwt

    options: Any = {"require": ["iss", "iat", "exp"]}
    try:
        claims = jwt.decode(token, key, algorithms=["RS256"], issuer=issuer, options=options, leeway=_SKEW_S)
    except jwt.InvalidAlgorithmError:
        return "The JWT token is not signed with RS256."
    except jwt.InvalidSignatureError:
        return "The JWT token's signature does not fit."
    except jwt.InvalidIssuerError:
        return "The JWT token's issuer is not this app."
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
        return "The JWT token is expired, or not valid yet."
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
        return "The JWT token could not be decoded."
    return "The JWT token may live for one hour." if int(claims["exp"]) - int(claims["iat"]) > LONGEST_LIFE_S else None
