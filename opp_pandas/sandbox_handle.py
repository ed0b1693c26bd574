"""The sandbox: the Opportunity API served from this machine, filled with a made-up sales organisation."""

from __future__ import annotations

import inspect
import re
import secrets
import weakref
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import pandas as pd

from opp_pandas._html import as_page
from opp_pandas.errors import ConfigurationError, named
from opp_pandas.sandbox_server.access import ALL_SCOPES, SCOPES, Identity, Tokens
from opp_pandas.sandbox_server.activity import Activity
from opp_pandas.sandbox_server.application import ROOT, Application, LoggedRequest
from opp_pandas.sandbox_server.apptokens import load_public_key
from opp_pandas.sandbox_server.evolution import Evolution, MovableClock
from opp_pandas.sandbox_server.generator import fill
from opp_pandas.sandbox_server.instants import Clock, parse_instant, running_clock
from opp_pandas.sandbox_server.server import Server
from opp_pandas.sandbox_server.settings import Fault, Switches, SwitchOptions
from opp_pandas.sandbox_server.signin import SignIn
from opp_pandas.sandbox_server.store import Store
from opp_pandas.sandbox_server.webhooks import Delivery, Webhooks

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.stages import StageMap

_LARGEST = 5_000_000
# RFC 6750 allows these characters in a bearer token.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


# `opp.sandbox().client()` gives the sandbox no name of its own; its clients keep it running.
_SERVING_FOR: weakref.WeakKeyDictionary[Client, Sandbox] = weakref.WeakKeyDictionary()


class Sandbox:
    """A running sandbox; made by `sandbox`.

    It serves from the moment it is made until `close`, the end of a ``with``
    block, or the end of the program.

    Attributes
    ----------
    switches : Switches
        Strictness, limits and faults; may be changed while it serves.

    Examples
    --------
    >>> made_up = opp.sandbox(opportunities=20, now="2026-11-02")
    >>> made_up.fail(503)  # the next request fails once
    >>> deals = opp.read_opportunities(made_up.client(), stages=stages)
    >>> made_up.requests[0].status, len(deals), len(made_up.truth), made_up.url.startswith(made_up.origin)
    (503, 20, 20, True)
    >>> made_up.now.date(), made_up.advance(days=7) > 0, made_up.now.date()
    (datetime.date(2026, 11, 2), True, datetime.date(2026, 11, 9))
    >>> token = made_up.issue_refresh_token()  # for programs that are configured with one
    >>> made_up.client_id, made_up.token in repr(made_up), made_up.client_secret in repr(made_up)
    ('sandbox-app', False, False)
    >>> made_up.install_app("guid-1", "no key")  # for apps: see `AppSignIn`
    Traceback (most recent call last):
        ...
    opp_pandas.errors.ConfigurationError: this is not an RSA public key in PEM form
    >>> made_up.deliveries  # what was posted to webhooks
    []
    >>> made_up.close()
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        switches: Switches,
        host: str,
        port: int,
        token: str,
        scopes: frozenset[str],
        seed: int = 0,
    ) -> None:
        clock = self._clock = MovableClock(clock)
        self._evolution = Evolution(store, seed)
        self.switches = switches
        self._store = store
        # Held by a function, so that nothing which prints the sandbox's parts shows the token.
        self._give_token: Callable[[], str] = lambda: token
        tokens = Tokens(clock)
        tokens.accept(token, Identity(scopes, user=1))
        self._sign_in = SignIn(tokens, switches, clock)
        self._application = Application(store, tokens, self._sign_in, switches, clock, Activity(store, seed, clock))
        self._webhooks = Webhooks(store, switches, clock)
        self._server = Server(self._application, clock, switches, host, port)
        # Also runs when the program ends, and when the last name of the sandbox is gone.
        self._finish = weakref.finalize(self, _close, self._server, store, self._webhooks)

    def __repr__(self) -> str:
        state = "" if self._finish.alive else ", closed"
        return f"<Sandbox {self.url}{state}>"

    def _repr_html_(self) -> str:
        return as_page(repr(self).strip("<>"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Base URL of the API, such as ``http://127.0.0.1:40123/api/v2``."""
        return f"{self._server.origin}{ROOT}"

    @property
    def origin(self) -> str:
        """Scheme, host and port; the token endpoint is at ``/oauth/token`` below it."""
        return self._server.origin

    @property
    def token(self) -> str:
        """The bearer token; `repr` leaves it out."""
        return self._give_token()

    @property
    def client_id(self) -> str:
        """The OAuth client that ``/oauth/authorize`` and ``/oauth/token`` know."""
        return self._sign_in.client_id

    @property
    def client_secret(self) -> str:
        """The secret of `client_id`; `repr` leaves it out."""
        return self._sign_in.client_secret

    def issue_refresh_token(self, scopes: frozenset[str] = ALL_SCOPES) -> str:
        """Make a refresh token without a browser, for programs that are configured with one."""
        return self._sign_in.issue_refresh_token(frozenset(scopes))

    def install_app(self, issuer: str, public_key: str) -> int:
        """Let an app sign in for itself, without a user.

        Parameters
        ----------
        issuer : str
            What the app's signed tokens name as ``iss``.
        public_key : str
            The app's RSA public key, in PEM form.

        Returns
        -------
        int
            Id of the installation, for
            ``POST {origin}/api/app/installs/{id}/actions/accessToken``.

        Raises
        ------
        MissingExtraError
            If PyJWT with cryptography is not installed (extra ``app``).
        ConfigurationError
            If the key cannot be read.
        """
        return self._sign_in.install_app(issuer, load_public_key(public_key))

    def client(self, **options: Any) -> Client:
        """Open a client on this sandbox, which serves as long as one of its clients is in use.

        Parameters
        ----------
        **options
            As for `opp_pandas.connect`.
        """
        from opp_pandas.api.client import connect

        client = connect(self.url, token=self.token, **options)
        _SERVING_FOR[client] = self
        return client

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        self._finish()

    @property
    def now(self) -> pd.Timestamp:
        """The moment that the sandbox's clock shows."""
        return pd.Timestamp(self._clock()).tz_convert("UTC").as_unit("us")

    def advance(self, days: float = 1) -> int:
        """Put the clock forward and let happen what happens until then.

        Deals go on, slip, are won and lost along their `truth`, and new ones
        come. What was changed through the API stays as it is; a deal that was
        closed or deleted there goes its own way.

        Parameters
        ----------
        days : float, default 1
            How far [days].

        Returns
        -------
        int
            How many changes there were.

        Raises
        ------
        ConfigurationError
            If `days` is negative, or the sandbox is closed.

        Examples
        --------
        >>> with sandbox(opportunities=40, now="2026-09-01T08:00:00Z") as box:
        ...     changes = box.advance(days=30)
        ...     print(changes > 0, f"{box.now:%Y-%m-%d}")
        True 2026-10-01
        """
        if not 0 <= days < 36_500:
            raise ConfigurationError(f"days={days!r}: time goes forward only, by less than a hundred years")
        if not self._finish.alive:
            raise ConfigurationError("the sandbox is closed; nothing happens in it any more")
        span = timedelta(days=days)
        start = self._clock()
        # First the events, then the clock: whoever reads what changed since a moment finds them.
        changes = self._evolution.run(start, start + span)
        self._clock.put_forward(span)
        return changes

    @property
    def truth(self) -> pd.DataFrame:
        """What the generator knows of each deal.

        Returns
        -------
        DataFrame, shape (n, 5)
            ``id``; ``outcome``, won or lost, also of deals that are still
            open; ``closing_day``; ``p``, the true chance of winning at the
            stage where the deal stands, or stood when it closed [fraction];
            ``p_start``, the same when it was created. Deals made through the
            API have no row. Empty for a sandbox without deals.

        Raises
        ------
        ConfigurationError
            If the sandbox is closed.
        """
        if not self._finish.alive:
            raise ConfigurationError("the sandbox is closed; read .truth before")
        frame = pd.DataFrame(self._store.read_truth(), columns=["id", "outcome", "closing_day", "p", "p_start"])
        frame["closing_day"] = pd.to_datetime(frame["closing_day"]).astype("datetime64[us]")
        return frame.astype({"id": "Int64", "outcome": "str", "p": "float64", "p_start": "float64"})

    @property
    def requests(self) -> list[LoggedRequest]:
        """The last 10,000 requests, oldest first: method, path, query, body, status."""
        return list(self._application.requests)

    @property
    def deliveries(self) -> list[Delivery]:
        """What was posted to webhooks, oldest first: webhook, event, attempts, status (0: nobody answered)."""
        return list(self._webhooks.deliveries)

    def wait_for_webhooks(self, timeout_s: float = 30) -> bool:
        """Wait until every event was delivered or given up.

        Parameters
        ----------
        timeout_s : float, default 30
            The longest wait [s].

        Returns
        -------
        bool
            Whether nothing is on its way any more.

        Examples
        --------
        >>> from opp_pandas.resource import WEBHOOK
        >>> with sandbox(opportunities=3) as box:
        ...     hook = {"url": "http://127.0.0.1:9/", "resource": "opportunity", "action": "*", "payloadVersion": 2}
        ...     created = box.client().create(hook, resource=WEBHOOK)
        ...     box.switches.webhook_retry_s = 0
        ...     changed = box.client().update(1, {"name": "Acme renewal"})
        ...     print(box.wait_for_webhooks(), box.deliveries[0].event, box.deliveries[0].attempts)
        True opportunity.updated 4
        """
        return self._webhooks.wait(timeout_s)

    def fail(
        self,
        status: int,
        *,
        times: int = 1,
        method: str | None = None,
        path: str | None = None,
        applied: bool = False,
        after: int = 0,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Let coming requests fail on purpose.

        Parameters
        ----------
        status : int
            Status of the answer; 0 cuts the connection without one.
        times : int, default 1
            How many matching requests it hits.
        method, path : str, optional
            Which requests: the method, and how the path ends.
        applied : bool, default False
            Whether the request's work is done before the answer goes wrong.
        after : int, default 0
            How many matching requests pass untouched first.
        body : bytes, optional
            What is sent instead of a plain "Bad Gateway".
        headers : mapping, optional
            Headers of the answer.
        """
        self.switches.faults.append(Fault(status, times, method, path, applied, after, body, dict(headers or {})))


def sandbox(
    opportunities: int = 500,
    seed: int = 0,
    db: str | Path | None = None,
    now: datetime | str | Callable[[], datetime] | None = None,
    stages: StageMap | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    scopes: frozenset[str] = ALL_SCOPES,
    **switches: Unpack[SwitchOptions],
) -> Sandbox:
    """Serve the Opportunity API from this machine, with made-up deals whose truth is known.

    Parameters
    ----------
    opportunities : int, default 500
        How many deals to make.
    seed : int, default 0
        Same seed and `now`: same data.
    db : str or Path, optional
        A file that keeps the records; one that already holds a sandbox is
        served as it is. Without it everything is in memory.
    now : datetime, str or callable, optional
        The moment that the deals are made for. The sandbox's clock shows it at
        the start and runs from there; a callable is asked each time instead.
        Without it, the real time.
    stages : StageMap, optional
        Serve exactly these stages: the open ones in order, then won, then lost.
    host : str, default "127.0.0.1"
        A loopback address.
    port : int, default 0
        0 takes a free one.
    token : str, optional
        The bearer token; a random one without it.
    scopes : frozenset of str, optional
        What the token may do, such as ``opportunities.read``; everything without it.
    **switches
        Strictness, limits and faults: see `opp_pandas.sandbox_server.settings.Switches`.

    Returns
    -------
    Sandbox
        Serving; a context manager.

    Raises
    ------
    ConfigurationError
        If an argument cannot be used, the port is not free, or the file is not
        a sandbox's.

    Examples
    --------
    >>> with sandbox(opportunities=3, seed=1) as box:
    ...     len(box.truth)
    3
    """
    if isinstance(opportunities, bool) or not isinstance(opportunities, int) or not 0 <= opportunities <= _LARGEST:
        raise ConfigurationError(f"opportunities={opportunities!r} is not a number of deals from 0 to {_LARGEST:,}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigurationError(f"seed={seed!r} is not a whole number from 0 on")
    if token is not None and not _TOKEN.fullmatch(token):
        raise ConfigurationError(
            "token= has characters that a bearer token cannot have; letters, digits and ._~+/- are fine"
        )
    unknown = sorted(set(scopes) - SCOPES)
    if unknown:
        raise ConfigurationError(
            f"scopes= names {named(unknown)}, which is none; there are {named(sorted(SCOPES), 40)}"
        )
    settings = Switches.of(switches)
    moment = _read_moment(now)
    clock = now if callable(now) else running_clock(None if now is None else moment)
    store = Store(db)
    try:
        if store.is_new:
            fill(store, opportunities, seed, moment, stages)
        elif stages is not None:
            raise ConfigurationError(
                "the file already holds a sandbox with its own stages; leave stages= out or name a new file"
            )
        return Sandbox(store, clock, settings, host, port, token or secrets.token_urlsafe(32), frozenset(scopes), seed)
    except BaseException:
        store.close()
        raise


def _with_switches(signature: inspect.Signature) -> inspect.Signature:
    """Name each switch where they stand together, for help and for editors in a kernel."""
    named_apart = [
        parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD
    ]
    switches = (
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=Switches.__annotations__[name]
        )
        for name, value in vars(Switches()).items()
    )
    return signature.replace(parameters=[*named_apart, *switches])


sandbox.__signature__ = _with_switches(inspect.signature(sandbox))  # type: ignore[attr-defined]


def _read_moment(now: datetime | str | Callable[[], datetime] | None) -> datetime:
    if callable(now):
        return now()
    if isinstance(now, str):
        try:
            return parse_instant(now)
        except ValueError as error:
            raise ConfigurationError(f"now= is {error}; write 2026-09-01 or 2026-09-01T08:00:00Z") from None
    if now is None:
        return datetime.now(UTC)
    if not isinstance(now, datetime):
        raise ConfigurationError(f"now= is a datetime, a text or a callable, not {type(now).__name__}")
    return now if now.tzinfo is not None else now.replace(tzinfo=UTC)


def _close(server: Server, store: Store, webhooks: Webhooks) -> None:
    server.close()
    webhooks.close()
    store.close()
