"""Who may do what: bearer tokens, their scopes, and the requests left to them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

from opp_pandas.sandbox_server.errors import Problem, bad_token, missing_include_scopes, missing_scope, rate_limited
from opp_pandas.sandbox_server.store import TABLES, Table

if TYPE_CHECKING:
    from opp_pandas.sandbox_server.instants import Clock
    from opp_pandas.sandbox_server.settings import Switches

VERBS = {"GET": "read", "HEAD": "read", "POST": "write", "PATCH": "write", "DELETE": "delete"}
ALL_SCOPES = frozenset(f"{table.name}.all" for table in TABLES.values())
SCOPES = ALL_SCOPES | {f"{table.name}.{verb}" for table in TABLES.values() for verb in VERBS.values()}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token stands for: a user, or an app without one; and what it was allowed."""

    scopes: frozenset[str]
    user: int | None
    expires: datetime | None = None

    def may(self, table: Table, verb: str) -> bool:
        """Whether the scopes hold this verb; they do not add up: writing is not reading."""
        return bool(self.scopes & {f"{table.name}.all", f"{table.name}.{verb}"})

    def demand(self, table: Table, verb: str) -> None:
        """Raise 403 unless the scopes hold this verb."""
        if not self.may(table, verb):
            raise missing_scope(f"{table.name}.{verb}")

    def demand_included(self, tables: Iterable[Table]) -> None:
        """Raise 403 unless every included resource may be read."""
        missing = sorted({table.resource.type for table in tables if not self.may(table, "read")})
        if missing:
            raise missing_include_scopes(missing)


class Tokens:
    """The access tokens that are good at present.

    Tokens are kept as digests only: finding one takes the same time however
    much of a guess is right, and nothing that prints this shows one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[bytes, Identity] = {}

    def accept(self, token: str, identity: Identity) -> None:
        """Take `token` as good from now on."""
        self._known[_digest(token)] = identity

    def mint(self, identity: Identity) -> str:
        """Make a new token."""
        token = secrets.token_urlsafe(32)
        self.accept(token, identity)
        return token

    def identify(self, header: str | None) -> Identity:
        """Find whom an ``Authorization`` header stands for; where nobody, a 401 in the gateway's shape."""
        kind, _, token = (header or "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise bad_token("The Authorization header holds no bearer token.")
        digest = _digest(token.strip())
        found = next((identity for known, identity in self._known.items() if hmac.compare_digest(known, digest)), None)
        if found is None:
            raise bad_token()
        if found.expires is not None and found.expires <= self._clock():
            raise bad_token("The JWT token is expired.")
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class RateLimit:
    """Counts requests per period and words what is left of them."""

    def __init__(self, switches: Switches, clock: Clock) -> None:
        self._switches, self._clock = switches, clock
        self._ends: datetime | None = None
        self._used = 0

    def take(self) -> Problem | None:
        """Count one request; give the 429 when none was left."""
        now = self._clock()
        if self._ends is None or now >= self._ends:
            self._ends, self._used = now + timedelta(seconds=self._switches.rate_period_s), 0
        if self._used >= self._switches.rate_limit:
            return rate_limited(self._switches.rate_limit, self._ends, {"Retry-After": self._when(self._ends)})
        self._used += 1
        return None

    def headers(self) -> dict[str, str]:
        """Return the headers that stand on every answer."""
        left = max(0, self._switches.rate_limit - self._used)
        # The second number was seen once, undocumented: a bucket of twice the size.
        remaining = (
            f"{left}, {left + self._switches.rate_limit}" if self._switches.two_number_rate_header else str(left)
        )
        ends = self._ends or self._clock()
        return {
            "X-RateLimit-Limit": str(self._switches.rate_limit),
            "X-RateLimit-Remaining": remaining,
            "X-RateLimit-Reset": self._when(ends),
        }

    def _when(self, moment: datetime) -> str:
        form = self._switches.reset_format
        if form == "epoch":
            return str(int(moment.timestamp()))
        if form == "seconds":
            return str(max(0, round((moment - self._clock()).total_seconds())))
        if form == "iso":
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        return format_datetime(moment, usegmt=True)
