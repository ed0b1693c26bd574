"""The client: one typed method per operation of the service.

Made by `connect`. A client is safe for up to four threads at once: each has a
requests session of its own; a session given from outside serves one request at
a time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from opp_pandas.api.auth.bearer import find_credentials
from opp_pandas.api.custom_field_types import CustomField, read_custom_fields
from opp_pandas.api.description import describe, parse_schema
from opp_pandas.api.documents import Answer, check_id, check_record, parse_document
from opp_pandas.api.paging import Page
from opp_pandas.api.query import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, NOT_NULL, Query
from opp_pandas.api.record_client import RecordClient
from opp_pandas.api.transport.base_url import is_loopback, parse_origin
from opp_pandas.api.transport.session import Limits, Transport
from opp_pandas.errors import ConfigurationError, DocumentError
from opp_pandas.resource import ACCOUNT, OPPORTUNITY, PROSPECT, PROSPECT_ROLE, STAGE, USER, Resource
from opp_pandas.timezones import check_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    import requests

    from opp_pandas.api.auth.bearer import Credentials
    from opp_pandas.api.auth.secret import Secret
    from opp_pandas.api.transport.retry import Clock
    from opp_pandas.choices import FiscalLabel, ProbabilitySource

__all__ = ["NOT_NULL", "Answer", "Client", "CustomField", "Page", "connect"]

OUTREACH_URL = "https://api.outreach.io/api/v2"
URL_VARIABLE = "OPP_PANDAS_URL"


def connect(
    url: str | None = None,
    *,
    token: str | Secret | None = None,
    auth: Credentials | None = None,
    timezone: str | None = None,
    read_only: bool = False,
    max_wait_s: float = 60,
    deadline_s: float = 60,
    max_calls: int | None = None,
    session: requests.Session | None = None,
    page_size: int = DEFAULT_PAGE_SIZE,
    connect_timeout_s: float = 5,
    read_timeout_s: float = 30,
    on_wait: Callable[[float], None] | None = None,
    clock: Clock | None = None,
    fiscal_start: int | None = None,
    fiscal_label: FiscalLabel | None = None,
    calendar: Any = None,
    rates: Any = None,
    currency: str | None = None,
    probability: ProbabilitySource | None = None,
) -> Client:
    """Connect to the service; no request is made yet.

    Parameters
    ----------
    url : str, optional
        Base of the API. Left out: ``OPP_PANDAS_URL``, else Outreach.
    token : str or Secret, optional
        Bearer token. Left out: ``OPP_PANDAS_TOKEN``, else a stored sign-in.
    auth : Credentials, optional
        A source of tokens instead, such as `opp_pandas.api.auth.oauth.SignIn`.
    timezone : str, optional
        Zone of days in filters and of the loads made with this client. None: UTC.
    read_only : bool, default False
        Refuse every write before it is sent.
    max_wait_s : float, default 60
        Longest wait that the service may ask for, per request [s]. A longer one
        raises at once and names the time; 3,900 suits a job at night.
    deadline_s : float, default 60
        For each request with its repetitions, without waits the service asked for [s].
    max_calls : int, optional
        Most requests this client may make.
    session : requests.Session, optional
        Used instead of own ones: for proxies, certificates, adapters.
    page_size : int, default 250
        Rows per page, 1 to 1,000. Halved by itself while the service fails.
    connect_timeout_s, read_timeout_s : float
        For the connection, and between two pieces of an answer [s].
    on_wait : callable, optional
        Called twice a second during waits with the seconds left.
    clock : Clock, optional
        Time, chance and sleep, for tests.
    fiscal_start, fiscal_label, calendar, rates, currency, probability
        How time is cut and what amounts mean, as every figure takes them, said
        once: they travel with the loads of this client, and a figure's own arguments overrule them.

    Returns
    -------
    Client
        Ready for use.

    Raises
    ------
    ConfigurationError
        If the URL, token, zone or a limit cannot be used.

    Examples
    --------
    >>> with opp.connect(box.url, token=box.token, timezone="America/New_York", max_calls=10) as client:
    ...     deals = opp.read_opportunities(client, limit=5, stages=stages)
    >>> len(deals), client.calls < 10
    (5, True)
    """
    base, source = _chosen_url(url)
    origin = parse_origin(base, what=source)
    zone = None if timezone is None else check_zone(timezone)
    limits = Limits(
        connect_s=connect_timeout_s,
        read_s=read_timeout_s,
        deadline_s=deadline_s,
        max_wait_s=max_wait_s,
        max_calls=max_calls,
    )
    Query(page_size=page_size).texts()
    if session is not None and session.verify is False and not is_loopback(origin.host):
        raise ConfigurationError(
            "the session given does not verify certificates, so anybody on the way could read the token; "
            "set session.verify to the file with your authority's certificate instead"
        )
    credentials = find_credentials(origin.url, token, auth)
    transport = Transport(origin, credentials, limits, session=session, clock=clock, on_wait=on_wait)
    stated = {"fiscal_start": fiscal_start, "fiscal_label": fiscal_label, "calendar": calendar, "rates": rates,
              "currency": currency, "probability": probability}  # fmt: skip
    definitions = {name: value for name, value in stated.items() if value is not None}
    return Client(transport, timezone=zone, read_only=read_only, page_size=page_size, definitions=definitions)


def _chosen_url(url: str | None) -> tuple[str, str]:
    """Return the URL and the name of where it came from."""
    if url is not None:
        return url, "url="
    from_environment = os.environ.get(URL_VARIABLE, "").strip()
    return (from_environment, URL_VARIABLE) if from_environment else (OUTREACH_URL, "url=")


class Client(RecordClient):
    """A connection to the service; make one with `connect`.

    Parameters
    ----------
    transport : Transport
        Sends the requests.
    timezone : str or None
        Zone of days; None: UTC.
    read_only : bool
        Whether writes are refused.
    page_size : int
        Rows per page.
    definitions : mapping
        How the organisation cuts time and what its amounts mean; travels with loads.

    Examples
    --------
    >>> client.url == box.url, client.calls > 0, client.scope, client.calls_left
    (True, True, None, None)
    >>> client.get(1).data["attributes"]["name"]
    'Juniper expansion 2026-1'
    >>> [stage["attributes"]["name"] for stage in client.stages()][:3]
    ['Qualify', 'Discover', 'Propose']
    >>> len(client.users([1, 2])), len(client.accounts([1])), len(client.prospects([1]))
    (2, 1, 1)
    >>> len(client.prospect_roles([25])), client.custom_fields()[0].label
    (1, 'Region')
    >>> sum(1 for page in client.iter_pages(filter={"owner": [1]}, page_size=20))
    3
    >>> new = client.create({"name": "Pilot"}, {"opportunityStage": 1})
    >>> client.update(new.data["id"], {"nextStep": "Call"}).data["attributes"]["nextStep"]
    'Call'
    >>> role = client.link_prospect(new.data["id"], 1, primary=True)
    >>> client.delete(new.data["id"]).status
    204
    >>> from opp_pandas.api.query import Query
    >>> asked = Query({"owner": [1]}, page_size=20)
    >>> len(client.urls(asked)), [page.number for page in client.walk(asked)]
    (1, [1, 2, 3])
    >>> client.wait(0)
    >>> client.close()  # opens again when needed
    """

    # --- any other resource, as the service describes itself ---

    def describe(self, name: str) -> Resource:
        """Return what the service says of one of its resources: attributes with kinds and flags, relationships.

        Parameters
        ----------
        name : str
            Its type (``team``) or the last part of its address (``teams``).

        Raises
        ------
        ConfigurationError
            If the service describes no such resource, or none that can be listed.

        Examples
        --------
        >>> import opp_pandas as opp
        >>> with opp.sandbox(opportunities=5) as box, box.client() as client:
        ...     team = client.describe("teams")
        >>> team.by_name["name"].filterable, [entry.name for entry in team.relationships]
        (True, ['users', 'creator', 'updater'])
        """
        if self._definitions is None:
            found: list[dict[str, Any]] = []
            url = f"{self.url}/schema.json"
            self._transport.send("GET", url, check=lambda body: found.append(parse_schema(body)))
            if not found:
                raise DocumentError("the service's description of itself is empty", method="GET", url=url)
            self._definitions = found[-1]
        return describe(self._definitions, name)

    def pages(self, name: str, **asked: Any) -> Iterator[Page]:
        """Read any resource page by page, for what has no method of its own.

        Parameters
        ----------
        name : str
            Its type or the last part of its address, as in `describe`.
        **asked
            What is asked, as in `iter_pages`: ``filter``, ``sort``, ``fields``,
            ``include``, ``page_size``, ``count``.

        Returns
        -------
        iterator of Page

        Raises
        ------
        ConfigurationError
            If the service describes no such resource, or cannot filter or sort it so.

        Examples
        --------
        >>> import opp_pandas as opp
        >>> with opp.sandbox(opportunities=5) as box, box.client() as client:
        ...     found = [row["attributes"]["name"] for page in client.pages("teams") for row in page.document["data"]]
        >>> found[:2]
        ['EMEA', 'AMER']
        """
        return self.iter_pages(resource=self.describe(name), **asked)

    def read_frame(
        self,
        name: str,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # the service's own word
        sort: str | Sequence[str] | None = None,
        fields: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Read any resource into a frame, with columns of the kinds that the service states.

        Parameters
        ----------
        name : str
            Its type or the last part of its address, as in `describe`.
        filter : mapping, optional
            Column or API name to a value, a list, a range ``(from, to)``, None or ``opp.NOT_NULL``.
        sort : str or sequence of str, optional
            Names, ``-`` before those that descend; left out: by id.
        fields : iterable of str, optional
            Only these attributes and relationships, by column or API name.
        limit : int, optional
            Largest number of rows.

        Returns
        -------
        DataFrame, shape (n, k)
            ``id``, the attributes in snake_case, ``owner_id`` for a relationship
            to one and ``user_ids`` (tuples) for one to many that comes with its
            ids. Custom fields are values of the kinds of ``/types``; slots that
            are not set up are left out. ``attrs`` has ``labels`` of custom
            fields and ``notes`` on what did not fit, which is missing.

        Raises
        ------
        ConfigurationError
            If the service describes no such resource, or cannot filter or sort it so.

        Examples
        --------
        >>> import opp_pandas as opp
        >>> with opp.sandbox(opportunities=5) as box, box.client() as client:
        ...     roles = client.read_frame("roles", filter={"parent_role": 1}, fields=["name", "parent_role"])
        >>> roles
           id              name  parent_role_id
        0   2  VP International               1
        1   3       VP Americas               1
        """
        from opp_pandas.load.any_resource import read_any

        return read_any(self, name, limit=limit, filter=filter, sort=sort, fields=fields)

    # --- what stands beside the opportunities ---

    def stages(self) -> list[dict[str, Any]]:
        """Read all stages, in pipeline order, as resource objects.

        Raises
        ------
        AccessDeniedError
            If the token has no right to read them, as an app's own token never has.
        """
        return self._collect(STAGE, sort="order")

    def users(self, ids: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """Read all users, or those with these ids, as resource objects."""
        return self._collect(USER, ids)

    def accounts(self, ids: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """Read all accounts, or those with these ids, as resource objects."""
        return self._collect(ACCOUNT, ids)

    def prospects(self, ids: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """Read all prospects, or those with these ids, as resource objects."""
        return self._collect(PROSPECT, ids)

    def prospect_roles(self, opportunity_ids: Iterable[int]) -> list[dict[str, Any]]:
        """Read who stands on these opportunities, as resource objects of type opportunityProspectRole.

        Parameters
        ----------
        opportunity_ids : iterable of int
            The opportunities; none: nothing is read.

        Returns
        -------
        list of dict
            With the attributes ``role`` and ``primary``, and the relationships
            ``opportunity`` and ``prospect``.
        """
        wanted = [check_id(one) for one in opportunity_ids]
        return self._rows(PROSPECT_ROLE, {"opportunity": wanted}, None) if wanted else []

    def link_prospect(
        self, opportunity_id: int, prospect_id: int, *, role: str | None = None, primary: bool | None = None
    ) -> Answer:
        """Put a prospect on an opportunity.

        Parameters
        ----------
        opportunity_id, prospect_id : int
            Which two.
        role : str, optional
            The person's part, such as ``Champion``.
        primary : bool, optional
            Whether it is the main person.

        Returns
        -------
        Answer
            Its ``data`` is the role.
        """
        given = {"role": role, "primary": primary}
        attributes = {name: value for name, value in given.items() if value is not None}
        relationships = {"opportunity": check_id(opportunity_id), "prospect": check_id(prospect_id)}
        return self.create(attributes, relationships, resource=PROSPECT_ROLE)

    def custom_fields(self, resource: Resource = OPPORTUNITY) -> list[CustomField]:
        """Read what the organisation calls its custom fields, and what may stand in them.

        Parameters
        ----------
        resource : Resource, default OPPORTUNITY
            Whose fields.

        Returns
        -------
        list of CustomField
            Those that are set up, by number. Empty if none is.
        """
        url = f"{self.url}/types"
        found: list[list[CustomField]] = []
        received = self._transport.send(
            "GET", url, check=lambda body: found.append(read_custom_fields(parse_document(body), resource))
        )
        if not found:
            raise DocumentError(f"the answer with status {received.status} is empty", method="GET", url=url)
        return found[-1]

    def _collect(
        self, resource: Resource, ids: Iterable[int] | None = None, sort: str | None = None
    ) -> list[dict[str, Any]]:
        if ids is None:
            return self._rows(resource, None, sort)
        wanted = list(dict.fromkeys(check_id(one) for one in ids))
        return self._rows(resource, {"id": wanted}, sort) if wanted else []

    def _rows(self, resource: Resource, wanted: dict[str, Any] | None, sort: str | None) -> list[dict[str, Any]]:
        """Read all pages; of two copies of a record the later one stays."""
        rows: dict[int, dict[str, Any]] = {}
        for page in self.iter_pages(resource=resource, filter=wanted, sort=sort, page_size=MAX_PAGE_SIZE):
            for row in page.document["data"]:
                check_record(row, resource, None)
                rows[check_id(row["id"])] = row
        return list(rows.values())
