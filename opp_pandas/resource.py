"""The Opportunity resource as one table, from which everything else is made.

A new attribute of the service is one new row here: the schema, decoding,
writing, the sandbox and the editor follow. Column names are the API's names in
snake_case; the glossary of every column is the ``meaning`` of its row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from opp_pandas.kinds import KINDS

SHORT, CUSTOM, LONG = 255, 32_000, 65_535
CUSTOM_FIELDS = 150


@lru_cache(4096)
def snake_case(name: str) -> str:
    """Return the column name of an API name.

    Examples
    --------
    >>> snake_case("externalCreatedAt"), snake_case("custom12")
    ('external_created_at', 'custom12')
    """
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a resource.

    Parameters
    ----------
    name : str
        The API's name (``closeDate``); `column` is the same in snake_case.
    kind : str
        What the wire carries: the name of one of `opp_pandas.kinds.KINDS`.
    meaning : str
        One line for people, with the unit in brackets.
    max_length : int or None
        Longest text that the service takes [characters].
    filterable, sortable, read_only, documented : bool
        What the service does with it; whether its reference page has it: the others came later.
    minimum, maximum, choices : int or None, tuple of str
        The range of a number; the only texts that it may be, none: any.
    """

    name: str
    kind: str
    meaning: str
    max_length: int | None = None
    filterable: bool = False
    sortable: bool = False
    read_only: bool = False
    documented: bool = True
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def column(self) -> str:
        """The column's name in a frame."""
        return snake_case(self.name)

    @property
    def dtype(self) -> str:
        """The column's dtype in a frame."""
        return KINDS[self.kind].dtype

    @property
    def form(self) -> Mapping[str, Any]:
        """Its values as JSON schema says it."""
        return KINDS[self.kind].form


@dataclass(frozen=True, slots=True)
class Relationship:
    """One relationship of a resource.

    Parameters
    ----------
    name : str
        The API's name.
    type : str
        The type of the resource it points to.
    column : str or None
        The column with the id; None where a frame has none.
    filter_keys : tuple of str
        The attributes of the other resource that filters may name.
    read_only, to_many : bool
        Whether it can be written; whether it points to many.
    lookup : tuple of str
        The columns of the other resource that are joined for reading: with
        ``("name",)`` the owner gives ``owner_name``. Ids stay the truth.
    way_back : str or None
        Of one to many that carries links only: how a filter on the other
        resource names this one. Without it the ids come with the record.
    documented : bool
        Whether the resource's reference page has it; the others came later.
    """

    name: str
    type: str
    meaning: str
    column: str | None = None
    filter_keys: tuple[str, ...] = ()
    read_only: bool = False
    to_many: bool = False
    lookup: tuple[str, ...] = ()
    way_back: str | None = None
    documented: bool = True


@dataclass(frozen=True, slots=True)
class LookupColumn:
    """A column that is joined from a related record by its id.

    `relation` is its short name, as ``include=`` takes it; `editable`: an edit of it alone is
    resolved to the id when it is written back.
    """

    relation: str
    id_column: str
    type: str
    field: str
    dtype: str
    editable: bool


@dataclass(frozen=True, slots=True)
class MetaEntry:
    """One metadata entry, sent when its query parameter asks for it."""

    name: str
    column: str
    dtype: str
    parameter: str
    meaning: str


@dataclass(frozen=True)
class Resource:
    """One resource of the service: its attributes, relationships and metadata."""

    type: str
    path: str
    # What would fill pages wherever a signature shows a resource as default.
    attributes: tuple[Attribute, ...] = field(repr=False)
    relationships: tuple[Relationship, ...] = field(default=(), repr=False)
    metadata: tuple[MetaEntry, ...] = field(default=(), repr=False)

    @cached_property
    def by_column(self) -> dict[str, Attribute]:
        """Attributes by column name."""
        return {attribute.column: attribute for attribute in self.attributes}

    @cached_property
    def by_name(self) -> dict[str, Attribute]:
        """Attributes by API name."""
        return {attribute.name: attribute for attribute in self.attributes}

    @cached_property
    def relationship_by_name(self) -> dict[str, Relationship]:
        """Relationships by API name."""
        return {relationship.name: relationship for relationship in self.relationships}

    @cached_property
    def relationship_by_column(self) -> dict[str, Relationship]:
        """Relationships by the column that holds their id."""
        return {entry.column: entry for entry in self.relationships if entry.column is not None}


def _read_only_instant(name: str, meaning: str) -> Attribute:
    return Attribute(name, "instant", meaning, filterable=True, sortable=True, read_only=True)


def _stamps(thing: str) -> tuple[Attribute, Attribute]:
    return (
        _read_only_instant("createdAt", f"when the {thing} was created [instant, UTC]"),
        _read_only_instant("updatedAt", f"when the {thing} last changed [instant, UTC]"),
    )


def _newer_link(name: str, kind: str, meaning: str, *more: Any, **flags: Any) -> Relationship:
    return Relationship(name, kind, meaning, *more, **(flags | {"documented": False}))


def _newer_text(name: str, meaning: str) -> Attribute:
    return Attribute(name, "text", meaning, CUSTOM, filterable=True, sortable=True, documented=False)


OPPORTUNITY = Resource(
    type="opportunity",
    path="opportunities",
    attributes=(
        Attribute("name", "text", "what the deal is called", SHORT, filterable=True, sortable=True),
        Attribute("amount", "integer", "what the deal is worth [whole units of its currency]", sortable=True),
        Attribute(
            "amountPrecise",
            "text",
            "the same with its cents, as decimal text [its currency]",
            15,
            sortable=True,
            documented=False,
        ),
        Attribute("currencyType", "text", "ISO code of the amount's currency", SHORT),
        Attribute(
            "probability",
            "integer",
            "chance of winning [percent, 0-100]",
            filterable=True,
            sortable=True,
            minimum=0,
            maximum=100,
        ),
        Attribute("closeDate", "instant", "when the deal is expected to close [instant, UTC]", sortable=True),
        Attribute("opportunityType", "text", "kind of deal, such as renewal", SHORT),
        Attribute("nextStep", "text", "what to do next", LONG),
        Attribute("description", "text", "free text about the deal", LONG),
        Attribute("tags", "tags", "labels of the deal"),
        Attribute(
            "forecastCategory", "text", "the seller's call: commit, best case ...", CUSTOM, True, True, documented=False
        ),
        _newer_text("leadSource", "where the deal came from"),
        _newer_text("lostReason", "why the deal was lost"),
        _newer_text("recordType", "record type in the outside CRM"),
        Attribute("customId", "text", "the deal's key in an outside system", SHORT, filterable=True, sortable=True),
        Attribute("prospectingRepId", "text", "id of the rep who prospects the deal", SHORT),
        Attribute("sharingTeamId", "text", "id of the team it is shared with", SHORT, filterable=True),
        Attribute("mapLink", "text", "link to the mutual action plan", SHORT, filterable=True),
        Attribute("mapNextSteps", "text", "next open event of the mutual action plan", SHORT),
        Attribute("mapStatus", "text", "state of the mutual action plan", SHORT, filterable=True, sortable=True),
        _read_only_instant("createdAt", "when the service first had the deal [instant, UTC]"),
        _read_only_instant("updatedAt", "when the record last changed [instant, UTC]"),
        _read_only_instant("touchedAt", "when something last happened on the deal [instant, UTC]"),
        Attribute(
            "externalCreatedAt", "instant", "when the outside CRM first had the deal [instant, UTC]", filterable=True
        ),
        Attribute(
            "externalUpdatedAt", "instant", "when the outside CRM last changed it [instant, UTC]", documented=False
        ),
        Attribute(
            "trashedAt", "instant", "when the deal was thrown away [instant, UTC]", read_only=True, documented=False
        ),
        *(
            Attribute(f"custom{number}", "text", f"the organisation's field number {number}", CUSTOM)
            for number in range(1, CUSTOM_FIELDS + 1)
        ),
    ),
    relationships=(
        Relationship(
            "opportunityStage",
            "opportunityStage",
            "the present stage",
            "stage_id",
            lookup=("name", "order", "is_closed"),
        ),
        # `stage` is the read-only twin of opportunityStage: it serves filters, never writes.
        Relationship("stage", "opportunityStage", "the present stage, for filters", None, ("id",), read_only=True),
        Relationship("owner", "user", "who owns the deal", "owner_id", ("id",), lookup=("name",)),
        Relationship("account", "account", "the customer", "account_id", ("id", "name"), lookup=("name",)),
        Relationship("creator", "user", "who created the record", "creator_id", read_only=True, lookup=("name",)),
        Relationship("updater", "user", "who last changed the record", "updater_id", read_only=True, lookup=("name",)),
        Relationship(
            "prospects", "prospect", "people on the deal", None, ("id",), True, to_many=True, way_back="opportunities"
        ),
        _newer_link("territory", "territory", "where the deal is", "territory_id", ("id", "name"), lookup=("name",)),
        _newer_link(
            "primaryProspect", "prospect", "the main person on the deal", "primary_prospect_id", lookup=("name",)
        ),
        _newer_link(
            "externalCreator", "user", "who created the deal in an outside CRM", "external_creator_id", lookup=("name",)
        ),
        _newer_link(
            "defaultPluginMapping", "pluginMapping", "its link to an outside CRM", "default_plugin_mapping_id", (), True
        ),
        _newer_link("assignedTeams", "team", "teams that work on the deal", to_many=True),
        _newer_link("assignedUsers", "user", "people who work on the deal", to_many=True),
        _newer_link("favorites", "favorite", "whose favourite it is", to_many=True, way_back="target"),
        _newer_link("opportunityHealthFactors", "opportunityHealthFactor", "what its health stands on", to_many=True),
        _newer_link("opportunityLineItems", "opportunityLineItem", "the products of the deal", to_many=True),
    ),
    metadata=(
        MetaEntry(
            "canWrite", "can_write", "boolean", "provideAuthorizationMeta", "whether this user may edit the deal"
        ),
        MetaEntry("canDelete", "can_delete", "boolean", "provideAuthorizationMeta", "whether this user may delete it"),
        MetaEntry(
            "dataConnections", "data_connections", "object", "provideDataConnections", "its records in outside systems"
        ),
    ),
)

STAGE = Resource(
    type="opportunityStage",
    path="opportunityStages",
    attributes=(
        Attribute("name", "text", "what the stage is called", SHORT, filterable=True, sortable=True),
        Attribute("order", "integer", "place of the stage in the pipeline", filterable=True, sortable=True),
        Attribute("isClosed", "boolean", "whether deals in it are done, won or lost", filterable=True, sortable=True),
        Attribute("color", "text", "colour in the service's own pages", SHORT),
        *_stamps("stage"),
    ),
    relationships=(
        Relationship("creator", "user", "who created the stage", "creator_id", read_only=True),
        Relationship(
            "opportunities", "opportunity", "deals in it", None, read_only=True, to_many=True, way_back="stage"
        ),
    ),
)

USER = Resource(
    type="user",
    path="users",
    attributes=(
        Attribute("name", "text", "full name", SHORT, filterable=False, read_only=True),
        Attribute("firstName", "text", "first name", SHORT, filterable=True, sortable=True),
        Attribute("lastName", "text", "last name", SHORT, filterable=True, sortable=True),
        Attribute("email", "text", "address of the user", SHORT, filterable=True, sortable=True),
        Attribute("title", "text", "the user's position", SHORT),
        *_stamps("user"),
        Attribute("locked", "boolean", "whether the user is locked out", filterable=True, sortable=True),
    ),
    relationships=(
        Relationship("role", "role", "the user's place in the organisation", "role_id", ("id",), lookup=("name",)),
        Relationship("teams", "team", "the user's teams", None, ("id",), to_many=True),
    ),
)

ROLE = Resource(
    type="role",
    path="roles",
    attributes=(
        Attribute("name", "text", "what the role is called", SHORT, filterable=True, sortable=True),
        Attribute("externalId", "text", "the role's permanent key", SHORT, filterable=True, sortable=True),
        *_stamps("role"),
    ),
    relationships=(
        Relationship("parentRole", "role", "the role above it", "parent_role_id", ("id",)),
        Relationship(
            "childRoles", "role", "the roles below it", None, read_only=True, to_many=True, way_back="parentRole"
        ),
    ),
)

TEAM = Resource(
    type="team",
    path="teams",
    attributes=(
        Attribute("name", "text", "what the team is called", SHORT, filterable=True, sortable=True),
        Attribute("color", "text", "colour in the service's own pages", SHORT),
        *_stamps("team"),
    ),
    relationships=(
        Relationship("users", "user", "who is in the team", None, ("id",), to_many=True),
        Relationship("creator", "user", "who created the team", "creator_id", read_only=True),
        Relationship("updater", "user", "who last changed the team", "updater_id", read_only=True),
    ),
)

TERRITORY = Resource(
    type="territory",
    path="territories",
    attributes=(
        Attribute("name", "text", "what the territory is called", SHORT, filterable=True, sortable=True),
        *_stamps("territory"),
    ),
)

ACCOUNT = Resource(
    type="account",
    path="accounts",
    attributes=(
        Attribute("name", "text", "the customer's name", SHORT, filterable=True, sortable=True),
        Attribute("industry", "text", "the customer's field", SHORT),
        Attribute("numberOfEmployees", "integer", "the customer's size [people]"),
        Attribute("customId", "text", "the customer's key in an outside system", SHORT, filterable=True, sortable=True),
        *_stamps("account"),
    ),
    relationships=(Relationship("owner", "user", "who owns the account", "owner_id", ("id",)),),
)

PROSPECT = Resource(
    type="prospect",
    path="prospects",
    attributes=(
        Attribute("name", "text", "full name", SHORT, read_only=True),
        Attribute("firstName", "text", "first name", SHORT, filterable=True, sortable=True),
        Attribute("lastName", "text", "last name", SHORT, filterable=True, sortable=True),
        Attribute("title", "text", "the person's position", SHORT, filterable=True, sortable=True),
        *_stamps("prospect"),
    ),
    relationships=(
        Relationship("account", "account", "where the person works", "account_id", ("id",)),
        Relationship("owner", "user", "who owns the prospect", "owner_id", ("id",)),
        Relationship(
            "opportunities", "opportunity", "deals of the person", None, ("id",), to_many=True, way_back="prospects"
        ),
    ),
)

PROSPECT_ROLE = Resource(
    type="opportunityProspectRole",
    path="opportunityProspectRoles",
    attributes=(
        Attribute(
            "role", "text", "the person's part in the deal, such as champion", SHORT, filterable=True, sortable=True
        ),
        Attribute("primary", "boolean", "whether it is the main person"),
        *_stamps("link"),
    ),
    relationships=(
        Relationship("opportunity", "opportunity", "the deal", "opportunity_id", ("id",)),
        Relationship("prospect", "prospect", "the person", "prospect_id", ("id",)),
    ),
)

_TOLD_OF = ("account", "call", "mailing", "opportunity", "opportunityProspectRole", "prospect", "task", "user", "*")

WEBHOOK = Resource(
    type="webhook",
    path="webhooks",
    attributes=(
        Attribute("url", "text", "where events are posted", SHORT),
        Attribute("resource", "text", "whose events, or * for all", choices=_TOLD_OF),
        Attribute("action", "text", "which events, or * for all", choices=("created", "updated", "destroyed", "*")),
        Attribute("secret", "text", "what events are signed with", SHORT),
        Attribute("payloadVersion", "integer", "2 for events that say what was before", minimum=1, maximum=2),
        Attribute("active", "boolean", "whether events are posted"),
        *_stamps("webhook"),
    ),
    relationships=(Relationship("creator", "user", "who created the webhook", "creator_id", read_only=True),),
)


def _own_instant(name: str, meaning: str, *, known: bool = False) -> Attribute:
    return Attribute(name, "instant", meaning, filterable=known, sortable=known)


_ON_A_DEAL = (
    Relationship("opportunity", "opportunity", "the deal", "opportunity_id", ("id",)),
    Relationship("prospect", "prospect", "the person", "prospect_id", ("id",)),
)

CALL = Resource(
    type="call",
    path="calls",
    attributes=(
        Attribute("direction", "text", "inbound or outbound"),
        Attribute("outcome", "text", "Answered or Not Answered", SHORT, filterable=True, sortable=True),
        Attribute("state", "text", "where the call stands", SHORT, filterable=True, sortable=True, read_only=True),
        Attribute("note", "text", "what was noted of it", LONG),
        _own_instant("dialedAt", "when it was dialled [instant, UTC]"),
        _own_instant("answeredAt", "when it was answered [instant, UTC]"),
        _own_instant("completedAt", "when it ended [instant, UTC]"),
        _read_only_instant("createdAt", "when the record was made, which may be after the call [instant, UTC]"),
        _read_only_instant("updatedAt", "when the record last changed [instant, UTC]"),
    ),
    relationships=(*_ON_A_DEAL, Relationship("user", "user", "who called", "user_id", ("id",))),
)

MAILING = Resource(
    type="mailing",
    path="mailings",
    attributes=(
        Attribute("mailingType", "text", "kind of mailing", SHORT, filterable=True, sortable=True, read_only=True),
        Attribute("subject", "text", "its subject", SHORT),
        Attribute("state", "text", "where the mailing stands", SHORT, filterable=True, sortable=True),
        _own_instant("scheduledAt", "when it is to be sent [instant, UTC]", known=True),
        *(
            _read_only_instant(f"{word}At", f"when it was {word} [instant, UTC]")
            for word in ("delivered", "opened", "clicked", "replied", "bounced", "created", "updated")
        ),
    ),
    relationships=(*_ON_A_DEAL, Relationship("user", "user", "who sent it", "user_id", read_only=True)),
)

TASK = Resource(
    type="task",
    path="tasks",
    attributes=(
        Attribute("action", "text", "action_item, call, email or in_person", SHORT),
        Attribute("taskType", "text", "why it is there", SHORT, filterable=True, sortable=True, read_only=True),
        Attribute("state", "text", "pending, incomplete or complete", SHORT, True, True, read_only=True),
        Attribute("note", "text", "what was noted of it", LONG),
        Attribute("completed", "boolean", "whether it is done", read_only=True),
        Attribute("completedAt", "instant", "when it was done [instant, UTC]", read_only=True),
        _own_instant("dueAt", "when it is due [instant, UTC]", known=True),
        _read_only_instant("scheduledAt", "when a pending task is scheduled for [instant, UTC]"),
        *_stamps("task"),
    ),
    relationships=(*_ON_A_DEAL, Relationship("owner", "user", "whose task it is", "owner_id", ("id",))),
)

EVENT = Resource(
    type="event",
    path="events",
    attributes=(
        Attribute("name", "text", "what took place", SHORT, filterable=True),
        Attribute("body", "text", "text of an outside event", LONG),
        _own_instant("eventAt", "when it took place [instant, UTC]", known=True),
        _read_only_instant("createdAt", "when the service first had it [instant, UTC]"),
    ),
    relationships=(
        *_ON_A_DEAL,
        Relationship("call", "call", "the call that it tells of", "call_id", ("id",)),
        Relationship("mailing", "mailing", "the mailing that it tells of", "mailing_id", ("id",)),
        Relationship("task", "task", "the task that it tells of", "task_id", ("id",)),
        Relationship("user", "user", "who caused it", "user_id", ("id",)),
    ),
)

ACTIVITY = (CALL, MAILING, TASK, EVENT)
"""What sellers do on deals, and what the service logs of it."""

RESOURCES = {
    resource.type: resource
    for resource in (
        OPPORTUNITY,
        STAGE,
        USER,
        ACCOUNT,
        PROSPECT,
        PROSPECT_ROLE,
        ROLE,
        TEAM,
        TERRITORY,
        *ACTIVITY,
        WEBHOOK,
    )
}
"""The resources that the sandbox serves and the client knows; what it can write, the sandbox says itself."""

NESTED = ("account.owner", "owner.role")
"""What ``include=`` takes beyond the relationships of a deal: the id and the name of each are joined as well."""


def _lookup_columns() -> Iterator[tuple[str, LookupColumn]]:
    for id_column, entry in OPPORTUNITY.relationship_by_column.items():
        relation, fields = id_column.removesuffix("_id"), RESOURCES[entry.type].by_column if entry.lookup else {}
        for named in entry.lookup:
            editable = named == "name" and not entry.read_only
            column = LookupColumn(relation, id_column, entry.type, named, fields[named].dtype, editable)
            yield f"{relation}_{named}", column
    for path in NESTED:
        first, second = path.split(".")
        via = RESOURCES[OPPORTUNITY.relationship_by_name[first].type]
        base, kind = f"{first}_{second}", via.relationship_by_name[second].type
        yield f"{base}_id", LookupColumn(path, f"{first}_id", via.type, f"{second}_id", "Int64", False)
        yield f"{base}_name", LookupColumn(path, f"{base}_id", kind, "name", "str", False)


LOOKUP_COLUMNS = dict(_lookup_columns())
"""The joined columns by name; everything about joining follows from `Relationship.lookup` and `NESTED`."""

INCLUDABLE = {entry.relation: entry.type for entry in LOOKUP_COLUMNS.values()}
"""What ``include=`` takes, and the type of the resource that it brings."""

EDITABLE_NAMES = {name: entry.id_column for name, entry in LOOKUP_COLUMNS.items() if entry.editable}

TOUCH_COLUMNS = {
    "touch_count": "Int64",
    "last_touch_at": "datetime64[us, UTC]",
    "next_touch_at": "datetime64[us, UTC]",
    "meeting_count": "Int64",
    "call_count": "Int64",
    "mailing_count": "Int64",
    "task_count": "Int64",
    "last_meeting_at": "datetime64[us, UTC]",
    "next_meeting_at": "datetime64[us, UTC]",
}
"""The columns that are joined from activity, and their dtypes."""

COLUMN_DTYPES: dict[str, str] = {
    "id": "Int64",
    **{entry.column: entry.dtype for entry in OPPORTUNITY.attributes},
    **dict.fromkeys(OPPORTUNITY.relationship_by_column, "Int64"),
    **{name: entry.dtype for name, entry in LOOKUP_COLUMNS.items()},
    **{entry.column: entry.dtype for entry in OPPORTUNITY.metadata},
    "prospect_ids": "object",
    **TOUCH_COLUMNS,
}
"""Every column this package knows and its dtype."""
