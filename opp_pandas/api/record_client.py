"""The operations on records of the service: reading them page by page, creating, updating, deleting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Self, SupportsIndex

from opp_pandas._html import as_page
from opp_pandas.api import paging
from opp_pandas.api.documents import Answer, build_document, check_id, check_record, parse_document
from opp_pandas.api.query import DEFAULT_PAGE_SIZE, NOT_NULL, Query
from opp_pandas.errors import ConfigurationError, DocumentError, ReadOnlyError, named
from opp_pandas.resource import OPPORTUNITY, RESOURCES, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from opp_pandas.api.paging import Page
    from opp_pandas.api.transport.session import Received, Transport


class RecordClient:
    """A connection with the operations that every resource has, the opportunities' by default; see `Client`."""

    def __init__(
        self,
        transport: Transport,
        *,
        timezone: str | None = None,
        read_only: bool = False,
        page_size: int = DEFAULT_PAGE_SIZE,
        definitions: Mapping[str, Any] | None = None,
    ) -> None:
        self.definitions = dict(definitions or {})
        self._transport = transport
        self._definitions: dict[str, Any] | None = None
        self.timezone = timezone
        self.read_only = bool(read_only)
        self.page_size = page_size

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return self._transport.origin.url

    @property
    def calls(self) -> int:
        """Requests made so far, repetitions included."""
        return self._transport.calls

    @property
    def scope(self) -> str | None:
        """What the service granted at sign-in, such as ``opportunities.read``; None where a token was given."""
        return self._transport.scope

    @property
    def calls_left(self) -> int | None:
        """Requests that ``max_calls`` still allows; None without a limit."""
        return self._transport.calls_left

    def __repr__(self) -> str:
        zone = f", timezone={self.timezone!r}" if self.timezone else ""
        return f"Client({self.url!r}{zone}{', read_only=True' if self.read_only else ''})"

    def _repr_html_(self) -> str:
        return as_page(repr(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; they open again when needed."""
        self._transport.close()

    def wait(self, seconds: float) -> None:
        """Wait as before a repetition: by the client's own clock, and Ctrl-C ends it [s]."""
        self._transport.wait(seconds)

    # A client holds a token and open connections: it travels with a frame as itself, never as a copy.
    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a client is not pickled, since it holds a token; connect again where it is needed")

    # --- reading -------------------------------------------------------------

    def get(
        self,
        id: int | str,  # noqa: A002  # JSON:API's own word
        *,
        resource: Resource = OPPORTUNITY,
        include: Iterable[str] = (),
        fields: Iterable[str] | Mapping[str, Iterable[str]] | None = None,
        authorization_meta: bool = False,
        data_connections: bool = False,
    ) -> Answer:
        """Read one record.

        Parameters
        ----------
        id : int or str of digits
            Which one.
        resource : Resource, default OPPORTUNITY
            What it is.
        include : iterable of str
            stage, owner, account, creator, updater.
        fields : iterable of str, or mapping of type to iterable, optional
            Only these; relationships that are needed are added.
        authorization_meta, data_connections : bool, default False
            Whether to ask for what the user may edit, and for outside records.

        Returns
        -------
        Answer
            Its ``data`` is the resource object.

        Raises
        ------
        NotFoundError
            If there is none, or none that this user may see.
        DocumentError
            If the answer is not this record.
        """
        identity = check_id(id)
        asked = Query(
            fields=fields,
            include=include,
            authorization_meta=authorization_meta,
            data_connections=data_connections,
        )
        return self._send_one("GET", resource, identity, parameters=asked.text_of_one(resource))

    def iter_pages(
        self,
        *,
        resource: Resource = OPPORTUNITY,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # the service's own word
        sort: str | Sequence[str] | None = None,
        fields: Iterable[str] | Mapping[str, Iterable[str]] | None = None,
        include: Iterable[str] | None = (),
        page_size: int | None = None,
        count: bool = False,
        authorization_meta: bool = False,
        data_connections: bool = False,
        start: str | None = None,
    ) -> Iterator[Page]:
        """Read a collection page by page.

        Parameters
        ----------
        resource : Resource, default OPPORTUNITY
            What is read.
        filter : mapping, optional
            Column or API name to a value, a list (any of), a range ``(from, to)``
            with both ends in it, None (missing) or ``opp.NOT_NULL``.
        sort : str or sequence of str, optional
            Names, ``-`` before those that descend; left out: by id.
        fields : iterable of str, or mapping of type to iterable, optional
            Only these; relationships that are needed are added.
        include : iterable of str
            stage, owner, account, creator, updater.
        page_size : int, optional
            Rows per page, 1 to 1,000; left out: the client's.
        count : bool, default False
            Whether to have the rows counted.
        authorization_meta, data_connections : bool, default False
            Whether to ask for what the user may edit, and for outside records.
        start : str, optional
            The URL of a page to go on from (`Page.next_url`); the other
            parameters are then in that URL already.

        Returns
        -------
        iterator of Page
            Requests are made while it runs. The query is checked at once.

        Raises
        ------
        ConfigurationError
            If the service cannot filter or sort so; the text has the way in pandas.
        ForeignRowsError
            While it runs, if ids were asked for and the service sends others.
        """
        asked = Query(
            filter=filter or {},
            sort=sort,
            fields=fields,
            include=include or (),
            page_size=page_size,
            count=count,
            authorization_meta=authorization_meta,
            data_connections=data_connections,
        )
        return self.walk(asked, resource=resource, start=start)

    def walk(self, asked: Query, *, resource: Resource = OPPORTUNITY, start: str | None = None) -> Iterator[Page]:
        """Read a collection page by page, as `iter_pages` does, for a query that is at hand.

        Parameters
        ----------
        asked : Query
            What is asked.
        resource : Resource, default OPPORTUNITY
            What is read.
        start : str, optional
            The URL of a page to go on from (`Page.next_url`).

        Returns
        -------
        iterator of Page

        Raises
        ------
        ForeignRowsError
            While it runs, if ids were asked for and the service sends others.
        """
        pages = paging.walk(self._transport, self.urls(asked, resource) if start is None else [start])
        wanted = asked.filter.get("id")
        return pages if wanted is None or wanted is NOT_NULL else paging.only_these(pages, wanted)

    def urls(self, asked: Query, resource: Resource = OPPORTUNITY) -> list[str]:
        """Build the addresses of a query's first pages."""
        texts = asked.texts(resource, page_size=self.page_size, timezone=self.timezone)
        return [f"{self.url}/{resource.path}?{text}" for text in texts]

    # --- writing -------------------------------------------------------------

    def create(
        self,
        attributes: Mapping[str, Any],
        relationships: Mapping[str, int | None] | None = None,
        *,
        resource: Resource = OPPORTUNITY,
    ) -> Answer:
        """Create one record; never sent twice on its own where it may have been applied.

        Parameters
        ----------
        attributes : mapping of str to JSON value
            By API name.
        relationships : mapping of str to int or None, optional
            By API name, the id of what it points to.
        resource : Resource, default OPPORTUNITY
            What is created.

        Returns
        -------
        Answer
            Its ``data`` is the record as the service keeps it, id included.

        Raises
        ------
        EditRejectedError
            If the service finds a value invalid.
        NoResponseError, DocumentError
            If it is not certain whether it was created (``sent`` is True).
        """
        body = build_document(resource, None, attributes, relationships)
        return self._send_one("POST", resource, None, body=body)

    def update(
        self,
        id: int | str,  # noqa: A002  # JSON:API's own word
        attributes: Mapping[str, Any] | None = None,
        relationships: Mapping[str, int | None] | None = None,
        *,
        resource: Resource = OPPORTUNITY,
    ) -> Answer:
        """Change some members of one record; what is not given stays.

        Parameters
        ----------
        id : int or str of digits
            Which one.
        attributes : mapping of str to JSON value, optional
            By API name; None clears.
        relationships : mapping of str to int or None, optional
            By API name; None clears.
        resource : Resource, default OPPORTUNITY
            What it is.

        Returns
        -------
        Answer
            Its ``data`` is the record as the service keeps it now; None after a 204.

        Raises
        ------
        ConfigurationError
            If there is nothing to change, or a name is unknown or read-only.
        NotFoundError, EditConflictError, EditRejectedError
            If the service refuses.
        """
        identity = check_id(id)
        if not attributes and not relationships:
            raise ConfigurationError("update() was given nothing to change")
        body = build_document(resource, identity, attributes, relationships)
        return self._send_one("PATCH", resource, identity, body=body)

    def delete(self, id: int | str, *, resource: Resource = OPPORTUNITY) -> Answer:  # noqa: A002  # JSON:API's own word
        """Delete one record; the service has no way back.

        Parameters
        ----------
        id : int or str of digits
            Which one.
        resource : Resource, default OPPORTUNITY
            What it is.

        Returns
        -------
        Answer
            Without a document.

        Raises
        ------
        NotFoundError
            If it is gone already.
        """
        return self._send_one("DELETE", resource, check_id(id))

    # --- one exchange --------------------------------------------------------

    def _send_one(
        self, method: str, resource: Resource, identity: int | None, *, parameters: str = "", body: bytes | None = None
    ) -> Answer:
        if RESOURCES.get(resource.type) is not resource:
            raise ConfigurationError(f"resource= is one of {named(RESOURCES, 10)}")
        url = f"{self.url}/{resource.path}" + ("" if identity is None else f"/{identity}")
        if method != "GET" and self.read_only:
            raise ReadOnlyError("this client is read-only: nothing was sent", method=method, url=url)
        documents: list[dict[str, Any]] = []

        def check(content: bytes) -> None:
            if method == "DELETE":
                return
            document = parse_document(content)
            check_record(document.get("data"), resource, identity)
            documents.append(document)

        received = self._transport.send(method, f"{url}?{parameters}" if parameters else url, body=body, check=check)
        if not documents and method in ("GET", "POST"):
            raise DocumentError(
                f"a {resource.type} was expected, and the answer with status {received.status} is empty",
                method=method,
                url=url,
                request_id=received.request_id,
            )
        return _answer(received, documents[0] if documents else None)


def _answer(received: Received, document: dict[str, Any] | None) -> Answer:
    return Answer(
        document=document,
        status=received.status,
        attempts=received.attempts,
        elapsed_s=received.elapsed_s,
        request_id=received.request_id,
        date=received.timestamp,
    )
