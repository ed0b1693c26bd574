"""Checks an app's signed token (JWT, RS256) with the app's public key.

Only public numbers are handled here, so plain integer arithmetic does:
RFC 8017, section 8.2.2, compares the whole padded digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from opp_pandas.errors import ConfigurationError

LONGEST_LIFE = timedelta(hours=1)
_SKEW = timedelta(seconds=60)
# DER of the algorithm's name (SHA-256) in front of the digest: RFC 8017, section 9.2, note 1.
_DIGEST_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
_PEM = re.compile(r"-----BEGIN (?P<kind>(?:RSA )?PUBLIC KEY)-----(?P<body>[A-Za-z0-9+/=\s]+)-----END (?P=kind)-----")
_INTEGER, _SEQUENCE, _BIT_STRING = 0x02, 0x30, 0x03


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An RSA public key."""

    modulus: int
    exponent: int

    @classmethod
    def from_pem(cls, text: str) -> PublicKey:
        """Read a key from PEM text (``PUBLIC KEY`` or ``RSA PUBLIC KEY``).

        Raises
        ------
        ConfigurationError
            If the text holds no RSA public key.
        """
        found = _PEM.search(text)
        try:
            if found is None:
                raise ValueError("no PEM block of a public key")
            der = base64.b64decode("".join(found["body"].split()), validate=True)
            inner = _content(der, _SEQUENCE)[0]
            if found["kind"] == "PUBLIC KEY":
                # The key stands behind the name of its algorithm, in a bit string with no unused bits.
                _, rest = _content(inner, _SEQUENCE)
                bits, _ = _content(rest, _BIT_STRING)
                inner = _content(bits[1:], _SEQUENCE)[0]
            modulus, rest = _content(inner, _INTEGER)
            exponent, _ = _content(rest, _INTEGER)
        except (ValueError, IndexError) as error:
            raise ConfigurationError(f"this is not an RSA public key in PEM form: {error}") from None
        return cls(int.from_bytes(modulus), int.from_bytes(exponent))

    def accepts(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's RSASSA-PKCS1-v1_5 signature with SHA-256 of `message`."""
        size = (self.modulus.bit_length() + 7) // 8
        number = int.from_bytes(signature)
        if len(signature) != size or number >= self.modulus:
            return False
        tail = _DIGEST_PREFIX + hashlib.sha256(message).digest()
        wanted = b"\x00\x01" + b"\xff" * (size - len(tail) - 3) + b"\x00" + tail
        return hmac.compare_digest(pow(number, self.exponent, self.modulus).to_bytes(size), wanted)


def _content(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """Take one DER element of this tag from the front: its content, and what follows."""
    if der[0] != tag:
        raise ValueError("it is built otherwise")
    length, start = der[1], 2
    if length & 0x80:
        digits = length & 0x7F
        length, start = int.from_bytes(der[2 : 2 + digits]), 2 + digits
    if start + length > len(der):
        raise ValueError("it is cut short")
    return der[start : start + length], der[start + length :]


def check_app_token(token: str, key: PublicKey, issuer: str, now: datetime) -> str | None:
    """Check an app token; give what is wrong with it, or None.

    Parameters
    ----------
    token : str
        The compact form: three parts with dots between.
    key : PublicKey
        The app's key.
    issuer : str
        What ``iss`` must be.
    now : datetime
        The present moment.
    """
    try:
        head, claims, signature = token.split(".")
        header, body, signed = _object(head), _object(claims), _decode(signature)
        issued, expires = (datetime.fromtimestamp(int(body[name]), UTC) for name in ("iat", "exp"))
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return "The JWT token could not be decoded."
    if header.get("alg") != "RS256":
        return "The JWT token is not signed with RS256."
    if not key.accepts(f"{head}.{claims}".encode(), signed):
        return "The JWT token's signature does not fit."
    if body.get("iss") != issuer:
        return "The JWT token's issuer is not this app."
    if expires <= now or issued > now + _SKEW:
        return "The JWT token is expired, or not valid yet."
    if expires - issued > LONGEST_LIFE:
        return "The JWT token may live for one hour."
    return None


def _decode(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _object(part: str) -> dict[str, Any]:
    read = json.loads(_decode(part))
    if not isinstance(read, dict):
        raise TypeError(type(read).__name__)
    return read
