"""From a request to an answer, without sockets: routes, sign-in, limits and faults."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter, Map, Rule
from werkzeug.wrappers import Request, Response

from opp_pandas.resource import ACTIVITY, CUSTOM_FIELDS
from opp_pandas.sandbox_server import errors
from opp_pandas.sandbox_server.access import VERBS, Identity, RateLimit, Tokens
from opp_pandas.sandbox_server.customfields import types_document
from opp_pandas.sandbox_server.errors import Problem
from opp_pandas.sandbox_server.hyperschema import hyper_schema
from opp_pandas.sandbox_server.openapi import KEPT, describe
from opp_pandas.sandbox_server.operations import MEDIA_TYPE, Call, Operations, bad_gateway, document
from opp_pandas.sandbox_server.selection import merge_doubled
from opp_pandas.sandbox_server.store import TABLES, Store, dump_json

if TYPE_CHECKING:
    from opp_pandas.sandbox_server.activity import Activity
    from opp_pandas.sandbox_server.instants import Clock
    from opp_pandas.sandbox_server.settings import Fault, Switches
    from opp_pandas.sandbox_server.signin import SignIn

ROOT = "/api/v2"
WRITABLE = ("opportunity", "opportunityStage", "opportunityProspectRole", "role", "team", "user", "webhook")
"""The resources that can be written; the others are read only here."""
_DESCRIPTIONS: dict[str, Callable[[str], Any]] = {
    f"{ROOT}/openapi.json": lambda base: describe(base, WRITABLE),
    f"{ROOT}/schema/openapi.json": lambda base: describe(base, WRITABLE),
    f"{ROOT}/schema.json": lambda _: hyper_schema(WRITABLE),
}
_LOG = logging.getLogger(__name__)


class CutConnectionError(Exception):
    """The connection is to be closed without an answer."""


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request that came in; without headers and sign-in bodies, which hold secrets."""

    method: str
    path: str
    query: str
    body: bytes
    status: int


class _Id(BaseConverter):
    """An integer no longer than SQLite can hold."""

    regex = r"[0-9]{1,18}"

    def to_python(self, value: str) -> int:
        return int(value)


class Application:
    """The API as a WSGI application; how it behaves, the switches say anew at each request.

    ``hosts`` are the values of the ``Host`` header that are served, ``requests`` the last 10,000.
    """

    def __init__(
        self, store: Store, tokens: Tokens, sign_in: SignIn, switches: Switches, clock: Clock, activity: Activity
    ) -> None:
        self._tokens, self._sign_in, self._switches, self._clock = tokens, sign_in, switches, clock
        self._activity = activity
        self._operations = Operations(store, switches, clock)
        self._limit = RateLimit(switches, clock)
        # Faults and limits are counted across all connections.
        self._lock = threading.Lock()
        self.requests: deque[LoggedRequest] = deque(maxlen=10_000)
        self.hosts: frozenset[str] = frozenset()

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Serve one request, as WSGI has it; CutConnectionError: a fault asks for no answer at all."""
        request = Request(environ)
        secret = request.path.startswith("/oauth/")
        body, status = request.get_data(cache=True, parse_form_data=False), 0
        try:
            response = self._answer(request)
            status = response.status_code
        finally:
            query = request.query_string.decode("latin-1")
            logged = LoggedRequest(request.method, request.path, query, b"" if secret else body, status)
            self.requests.append(logged)
        response.autocorrect_location_header = False
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        """Answer one request; whatever goes wrong becomes an error document."""
        switches = self._switches
        if switches.before_request is not None:
            switches.before_request(request.method, request.path)
        if switches.latency_s:
            time.sleep(switches.latency_s)
        with self._lock:
            fault = switches.next_fault(request.method, request.path)
        if fault is not None and not fault.applied:
            return _faulty(fault)
        try:
            response = self._work(request)
        except Problem as problem:
            response = _problem_response(problem)
        except Exception:  # noqa: BLE001 - whatever breaks here becomes a 500
            # The answer must not show what broke; the log says where, without the request's values.
            _LOG.exception("the sandbox failed on %s", request.method)
            response = _problem_response(errors.broken())
        return response if fault is None else _faulty(fault)

    def _work(self, request: Request) -> Response:
        if request.headers.get("Host", "").lower() not in self.hosts:
            # A page in a browser that was led here under another name (DNS rebinding).
            raise errors.bad_request("This host name is not served here.")
        until = self._switches.maintenance_until
        if until is not None and self._clock() < until:
            raise errors.maintenance(until)
        if not request.path.startswith(ROOT):
            return self._sign_in.respond(request)
        if request.path in _DESCRIPTIONS and request.method in ("GET", "HEAD"):
            # Like the service's own, the description is there for anyone.
            return Response(dump_json(_DESCRIPTIONS[request.path](_base(request))), content_type="application/json")
        identity = self._tokens.identify(request.headers.get("Authorization"))
        with self._lock:
            problem = self._limit.take()
            limits = self._limit.headers()
        try:
            if problem is not None:
                raise problem
            response = self._dispatch(request, identity)
        except Problem as raised:
            response = _problem_response(raised)
        response.headers.extend(limits)
        return response

    def _dispatch(self, request: Request, identity: Identity) -> Response:
        adapter = _routes().bind("localhost", path_info=request.path)
        try:
            (kind, answer), arguments = adapter.match(method=request.method)
        except MethodNotAllowed as error:
            raise errors.wrong_method(request.method, tuple(error.valid_methods or ())) from None
        except HTTPException:
            raise errors.no_such_path() from None
        self._check_media_type(request)
        pairs = merge_doubled(list(request.args.items(multi=True)), self._switches.refuse_doubled_parameters)
        if kind is not None:
            identity.demand(TABLES[kind], VERBS[request.method])
        table = TABLES[kind or "opportunity"]
        if table.resource in ACTIVITY:
            self._activity.catch_up()
        call = Call(identity, table, arguments.get("key", 0), pairs, request.get_data(), _base(request))
        answered: Response = answer(self._operations, call)
        return answered

    def _check_media_type(self, request: Request) -> None:
        """Negotiate as JSON:API 1.0 asks: its media type carries no parameters, neither way."""
        offered = [entry.partition(";") for entry in request.headers.get("Accept", "").split(",")]
        own = [more for kind, _, more in offered if kind.strip().lower() == MEDIA_TYPE]
        # A weight is no parameter of the media type.
        if own and all(more.strip() and not more.strip().lower().startswith("q=") for more in own):
            raise errors.not_acceptable()
        if request.mimetype == MEDIA_TYPE and request.mimetype_params:
            raise errors.unsupported_media_type()
        reading = request.method in ("GET", "HEAD", "DELETE")
        if reading and not self._switches.require_content_type_on_get:
            return
        if request.mimetype != MEDIA_TYPE:
            raise errors.unsupported_media_type()


def _base(request: Request) -> str:
    """Return the API's address as the client named it; the host was looked at before."""
    return f"http://{request.headers['Host']}{ROOT}"


@functools.cache
def _routes() -> Map:
    """Return the paths of the API; compiling them takes as long as filling a sandbox, so it is done once for all."""
    return Map(list(rules()), converters={"id": _Id}, strict_slashes=False, merge_slashes=False)


def rules() -> Iterable[Rule]:
    """Return the addresses of the API, each with what answers it."""
    do = Operations
    for kind, table in TABLES.items():
        path, one = f"{ROOT}/{table.name}", f"{ROOT}/{table.name}/<id:key>"
        yield Rule(path, endpoint=(kind, do.collection), methods=["GET"])
        yield Rule(one, endpoint=(kind, do.record), methods=["GET"])
        if kind in WRITABLE:
            yield Rule(path, endpoint=(kind, do.create), methods=["POST"])
            yield Rule(one, endpoint=(kind, do.update), methods=["PATCH"])
            if kind not in KEPT:
                yield Rule(one, endpoint=(kind, do.delete), methods=["DELETE"])
    for path, answer in _SMALL_ANSWERS.items():
        yield Rule(f"{ROOT}{path}", endpoint=(None, answer), methods=["GET"])


def _root(_: Operations, call: Call) -> Response:
    meta = {"service": "opp_pandas sandbox", "scopes": sorted(call.identity.scopes), "user": call.identity.user}
    return document(dump_json({"jsonapi": {"version": "1.0"}, "meta": meta}).encode())


_SMALL_ANSWERS: dict[str, Callable[[Operations, Call], Response]] = {
    "": _root,
    "/types": lambda _, __: document(dump_json(types_document(CUSTOM_FIELDS)).encode()),
    # The stages of prospects, which this sandbox has none of; those of opportunities are /opportunityStages.
    "/stages": lambda _, __: document(b'{"data":[]}'),
}


def _problem_response(problem: Problem) -> Response:
    response = document(dump_json(problem.body).encode(), problem.status)
    for name, value in problem.headers.items():
        response.headers[name] = value
    return response


def _faulty(fault: Fault) -> Response:
    if fault.status == 0:
        raise CutConnectionError
    response = bad_gateway()
    response.status_code = fault.status
    if fault.body is not None:
        response.set_data(fault.body)
    for name, value in fault.headers.items():
        response.headers[name] = value
    return response
