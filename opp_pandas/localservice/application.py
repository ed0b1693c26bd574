"""The API itself: from a request to an answer, without sockets."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter, Map, Rule
from werkzeug.wrappers import Request, Response

from opp_pandas.localservice import problems
from opp_pandas.localservice.access import VERBS, Identity, RateLimit, Tokens
from opp_pandas.localservice.customfields import types_document
from opp_pandas.localservice.documents import Writer
from opp_pandas.localservice.edits import Edit, read_body, read_edit, settle_amounts
from opp_pandas.localservice.instants import Clock, instant_text
from opp_pandas.localservice.problems import Problem
from opp_pandas.localservice.selection import Pairs, Selection, merge_doubled, read_selection, read_view
from opp_pandas.localservice.store import TABLES, NewRecord, Record, Store, Table, dump_json
from opp_pandas.localservice.switches import Fault, Switches
from opp_pandas.resource import CUSTOM_FIELDS

ROOT = "/api/v2"
MEDIA_TYPE = "application/vnd.api+json"
LARGEST_BODY = 8 * 1024 * 1024
_LOG = logging.getLogger(__name__)
_WRITABLE = ("opportunity", "opportunityStage", "opportunityProspectRole")


class CutConnectionError(Exception):
    """The connection is to be closed without an answer."""


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request that came in, as tests look at it; headers are left out, for they hold the token."""

    method: str
    path: str
    query: str
    body: bytes
    status: int


class _Id(BaseConverter):
    """An integer of the length that SQLite holds."""

    regex = r"\d{1,18}"

    def to_python(self, value: str) -> int:
        return int(value)


Answer = Callable[["Call"], Response]


@dataclass(frozen=True)
class Call:
    """One request on its way: who asks, what for, with which parameters."""

    request: Request
    identity: Identity
    pairs: Pairs
    writer: Writer
    table: Table
    key: int


class Application:
    """The API as a WSGI application.

    Parameters
    ----------
    store : Store
        The records.
    tokens : Tokens
        The tokens that are good.
    switches : Switches
        How to behave; read anew at each request.
    clock : callable
        Gives the present moment.
    """

    def __init__(self, store: Store, tokens: Tokens, switches: Switches, clock: Clock) -> None:
        self._store, self._tokens, self._switches, self._clock = store, tokens, switches, clock
        self._limit = RateLimit(switches, clock)
        # The counters below are shared by all connections.
        self._lock = threading.Lock()
        self.requests: deque[LoggedRequest] = deque(maxlen=10_000)
        self.hosts: frozenset[str] = frozenset()
        self._map = Map(list(self._rules()), converters={"id": _Id}, strict_slashes=False)

    @staticmethod
    def _rules() -> Iterable[Rule]:
        for kind, table in TABLES.items():
            path = f"{ROOT}/{table.name}"
            writable = kind in _WRITABLE
            yield Rule(path, endpoint=("collection", kind), methods=["GET", *(["POST"] if writable else [])])
            yield Rule(
                f"{path}/<id:key>",
                endpoint=("record", kind),
                methods=["GET", *(["PATCH", "DELETE"] if writable else [])],
            )
        yield Rule(f"{ROOT}/types", endpoint=("types", ""), methods=["GET"])
        yield Rule(f"{ROOT}/stages", endpoint=("prospect_stages", ""), methods=["GET"])
        yield Rule(ROOT, endpoint=("root", ""), methods=["GET"])

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Serve one request, as WSGI has it."""
        request = Request(environ)
        response = self.respond(request)
        return response(environ, start_response)

    def respond(self, request: Request) -> Response:
        """Answer one request; whatever goes wrong becomes an error document.

        Raises
        ------
        CutConnectionError
            If a fault asks for no answer at all.
        """
        status = 0
        body = request.get_data()
        try:
            response = self._answer(request)
            status = response.status_code
        finally:
            query = request.query_string.decode("latin-1")
            self.requests.append(LoggedRequest(request.method, request.path, query, body, status))
        return response

    def _answer(self, request: Request) -> Response:
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
            response = _problem_response(problems.broken())
        if fault is not None:
            return _faulty(fault)
        return response

    def _work(self, request: Request) -> Response:
        if request.host.lower() not in self.hosts:
            # A page in a browser that was led here under another name (DNS rebinding).
            raise problems.bad_request("This host name is not served here.")
        until = self._switches.maintenance_until
        if until is not None and self._clock() < until:
            raise problems.maintenance(until)
        return self._serve_api(request)

    def _serve_api(self, request: Request) -> Response:
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
        adapter = self._map.bind(request.host, path_info=request.path, default_method=request.method)
        try:
            (name, kind), arguments = adapter.match(method=request.method)
        except MethodNotAllowed as error:
            raise problems.wrong_method(request.method, tuple(error.valid_methods or ())) from None
        except HTTPException:
            raise problems.no_such_path() from None
        self._check_media_type(request)
        pairs = merge_doubled(list(request.args.items(multi=True)), self._switches.refuse_doubled_parameters)
        writer = Writer(self._store, self._switches, f"{request.scheme}://{request.host}{ROOT}")
        table = TABLES.get(kind, TABLES["opportunity"])
        call = Call(request, identity, pairs, writer, table, arguments.get("key", 0))
        answers: Mapping[tuple[str, str], Answer] = {
            ("collection", "GET"): self._collection,
            ("collection", "POST"): self._create,
            ("record", "GET"): self._record,
            ("record", "PATCH"): self._update,
            ("record", "DELETE"): self._delete,
            ("types", "GET"): self._types,
            ("prospect_stages", "GET"): self._prospect_stages,
            ("root", "GET"): self._root,
        }
        method = "GET" if request.method == "HEAD" else request.method
        if kind:
            identity.demand(table, VERBS[method])
        return answers[name, method](call)

    def _check_media_type(self, request: Request) -> None:
        reading = request.method in ("GET", "HEAD", "DELETE")
        if reading and not self._switches.require_content_type_on_get:
            return
        if request.mimetype != MEDIA_TYPE:
            raise problems.unsupported_media_type()

    def _collection(self, call: Call) -> Response:
        selection = read_selection(call.table, call.pairs, self._switches)
        self._demand_included(call, selection.view.include)
        limit = self._switches.bad_gateway_above
        if limit is not None and selection.size > limit:
            return _faulty(Fault(502))
        condition = selection.page_condition
        found = self._store.select(
            selection.table, condition.sql, condition.values, selection.order, selection.size + 1, selection.offset or 0
        )
        more, records = len(found) > selection.size, found[: selection.size]
        if selection.cursor is not None and selection.cursor.backwards:
            records.reverse()
        return _document(call.writer.collection(selection, records, more, self._total(selection)))

    def _total(self, selection: Selection) -> int | None:
        if not selection.count and selection.offset is None:
            return None
        return self._store.count(selection.table, selection.condition.sql, selection.condition.values)

    @staticmethod
    def _demand_included(call: Call, include: Iterable[str]) -> None:
        kinds = (call.table.resource.relationship_by_name[name].type for name in include)
        call.identity.demand_included(TABLES[kind] for kind in kinds)

    def _record(self, call: Call) -> Response:
        view = read_view(call.table, call.pairs)
        self._demand_included(call, view.include)
        return _document(call.writer.one(call.table, self._existing(call), view))

    def _existing(self, call: Call) -> Record:
        found = self._store.get(call.table, call.key)
        if found is None:
            raise problems.not_found(call.table.resource.type, call.key)
        return found

    def _read_edit(self, call: Call, key: int | None) -> Edit:
        if any(name == "include" for name, _ in call.pairs):
            raise problems.bad_parameter("include", "A write takes no include; read the record afterwards.")
        document = read_body(call.request.get_data())
        return read_edit(call.table, document, key, self._store.exists, self._switches)

    def _create(self, call: Call) -> Response:
        view = read_view(call.table, [pair for pair in call.pairs if pair[0] != "include"])
        with self._store.transaction():
            edit = self._read_edit(call, None)
            attributes, links, table = dict(edit.attributes), dict(edit.links), call.table
            if table.resource.type == "opportunity":
                settle_amounts(attributes)
                attributes.setdefault("tags", [])
            if table.resource.type == "opportunityStage":
                attributes["isClosed"] = bool(attributes.get("isClosed"))
                if attributes.get("order") is None:
                    attributes["order"] = self._store.count(table, "1", ()) + 1
            attributes["createdAt"] = attributes["updatedAt"] = self._now()
            for name in ("creator_id", "updater_id"):
                if name in table.links:
                    links[name] = call.identity.user
            key = self._store.insert(table, NewRecord(attributes, links))
            record = self._existing(replace(call, key=key))
        response = _document(call.writer.one(table, record, view), 201)
        response.headers["Location"] = f"{call.request.scheme}://{call.request.host}{ROOT}/{table.name}/{key}"
        response.autocorrect_location_header = False
        return response

    def _update(self, call: Call) -> Response:
        view = read_view(call.table, [pair for pair in call.pairs if pair[0] != "include"])
        with self._store.transaction():
            before = self._existing(call)
            if not before.can_write:
                raise problems.not_allowed()
            edit = self._read_edit(call, call.key)
            attributes, links = dict(edit.attributes), dict(edit.links)
            if call.table.resource.type == "opportunity":
                settle_amounts(attributes)
            old, old_links = before.attributes(), dict(zip(call.table.links, before.links, strict=True))
            # What changes nothing leaves updatedAt alone.
            if any(old.get(name) != value for name, value in attributes.items()) or old_links != old_links | links:
                attributes["updatedAt"] = self._now()
                if "updater_id" in call.table.links:
                    links["updater_id"] = call.identity.user
                self._store.update(call.table, before, attributes, links)
            record = self._existing(call)
        return _document(call.writer.one(call.table, record, view))

    def _delete(self, call: Call) -> Response:
        with self._store.transaction():
            record = self._existing(call)
            if not record.can_delete:
                raise problems.not_allowed()
            if call.table.resource.type == "opportunityStage" and self._store.count(
                TABLES["opportunity"], "stage_id = ?", (call.key,)
            ):
                raise problems.conflict("Opportunities stand in this stage; move them first.")
            self._store.delete(call.table, call.key)
        return Response(status=204)

    def _now(self) -> str:
        # The service prints whole seconds.
        return instant_text(self._clock().replace(microsecond=0))

    def _types(self, call: Call) -> Response:  # noqa: ARG002 - one signature for every answer
        return _document(dump_json(types_document(CUSTOM_FIELDS)))

    def _prospect_stages(self, call: Call) -> Response:  # noqa: ARG002 - one signature for every answer
        return _document('{"data":[]}')

    def _root(self, call: Call) -> Response:
        meta = {"service": "opp_pandas sandbox", "scopes": sorted(call.identity.scopes), "user": call.identity.user}
        return _document(dump_json({"jsonapi": {"version": "1.0"}, "meta": meta}))


def _document(text: str, status: int = 200) -> Response:
    return Response(text.encode(), status, content_type=MEDIA_TYPE)


def _problem_response(problem: Problem) -> Response:
    response = Response(dump_json(problem.body).encode(), problem.status, content_type=MEDIA_TYPE)
    for name, value in problem.headers.items():
        response.headers[name] = value
    return response


def _faulty(fault: Fault) -> Response:
    if fault.status == 0:
        raise CutConnectionError
    body = b"<html><body>Bad Gateway</body></html>" if fault.body is None else fault.body
    return Response(body, fault.status, dict(fault.headers), content_type="text/html")
