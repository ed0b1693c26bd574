"""Queries in Python words become the service's newer filter syntax, or are refused with the way in pandas."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.api.query import NOT_NULL, Query
from opp_pandas.errors import ConfigurationError
from opp_pandas.resource import ACCOUNT, OPPORTUNITY, PROSPECT_ROLE, STAGE, USER, Attribute, Resource

NEW_YORK = "America/New_York"


def build_query(resource: Resource = OPPORTUNITY, *, timezone: str | None = None, **asked: Any) -> tuple[str, ...]:
    """Build the query strings of a collection."""
    return Query(**asked).texts(resource, timezone=timezone)


def filters(wanted: dict[str, Any], timezone: str | None = None) -> list[tuple[str, str]]:
    """Return the filter's parameters, decoded."""
    (query,) = build_query(filter=wanted, timezone=timezone)
    return [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name.startswith("filter")]


def span(low: str, high: str, name: str = "updatedAt") -> list[tuple[str, str]]:
    return [(f"filter[{name}][gte]", low), (f"filter[{name}][lte]", high)]


CASES: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    # names
    ({"owner": 7}, [("filter[owner][id]", "7")]),
    ({"owner_id": 7}, [("filter[owner][id]", "7")]),
    ({"owner.id": 7}, [("filter[owner][id]", "7")]),
    ({"stage": 3}, [("filter[stage][id]", "3")]),
    ({"stage_id": 3}, [("filter[stage][id]", "3")]),
    ({"opportunityStage": 3}, [("filter[stage][id]", "3")]),
    ({"opportunity_stage": 3}, [("filter[stage][id]", "3")]),
    ({"account": 12}, [("filter[account][id]", "12")]),
    ({"account.name": "Acme"}, [("filter[account][name]", "Acme")]),
    ({"account_name": "Acme"}, [("filter[account][name]", "Acme")]),
    ({"account__name": "Acme"}, [("filter[account][name]", "Acme")]),
    ({"prospects": 9}, [("filter[prospects][id]", "9")]),
    ({"prospect_ids": [9]}, [("filter[prospects][id][]", "9")]),
    ({"id": 88}, [("filter[id]", "88")]),
    ({"custom_id": "x"}, [("filter[customId]", "x")]),
    ({"customId": "x"}, [("filter[customId]", "x")]),
    # lists
    ({"owner": [7, 9]}, [("filter[owner][id][]", "7"), ("filter[owner][id][]", "9")]),
    ({"owner": [7, 7]}, [("filter[owner][id][]", "7")]),
    ({"owner": np.array([7, 9])}, [("filter[owner][id][]", "7"), ("filter[owner][id][]", "9")]),
    ({"owner": pd.Series([7, 9], dtype="Int64")}, [("filter[owner][id][]", "7"), ("filter[owner][id][]", "9")]),
    ({"owner": pd.Index([7])}, [("filter[owner][id][]", "7")]),
    ({"owner": range(7, 9)}, [("filter[owner][id][]", "7"), ("filter[owner][id][]", "8")]),
    ({"owner": {7}}, [("filter[owner][id][]", "7")]),
    ({"name": ["a,b", "c..d", "e&f=g", "ü[]"]}, [("filter[name][]", text) for text in ("a,b", "c..d", "e&f=g", "ü[]")]),
    # values
    ({"name": "a,b..c"}, [("filter[name]", "a,b..c")]),
    ({"name": ""}, [("filter[name]", "")]),
    ({"name": "007"}, [("filter[name]", "007")]),
    ({"probability": 50}, [("filter[probability]", "50")]),
    ({"probability": 50.0}, [("filter[probability]", "50")]),
    ({"probability": np.int64(50)}, [("filter[probability]", "50")]),
    ({"probability": "50"}, [("filter[probability]", "50")]),
    ({"probability": -1}, [("filter[probability]", "-1")]),
    ({"owner": np.uint8(7)}, [("filter[owner][id]", "7")]),
    # missing or not
    ({"custom_id": None}, [("filter[customId]", "__null__")]),
    ({"custom_id": pd.NA}, [("filter[customId]", "__null__")]),
    ({"custom_id": float("nan")}, [("filter[customId]", "__null__")]),
    ({"external_created_at": pd.NaT}, [("filter[externalCreatedAt]", "__null__")]),
    ({"custom_id": NOT_NULL}, [("filter[customId]", "__notnull__")]),
    ({"owner": None}, [("filter[owner][id]", "__null__")]),
    ({"account": NOT_NULL}, [("filter[account][id]", "__notnull__")]),
    # ranges
    ({"probability": (50, 90)}, [("filter[probability][gte]", "50"), ("filter[probability][lte]", "90")]),
    ({"probability": (50, None)}, [("filter[probability][gte]", "50")]),
    ({"probability": (None, 90)}, [("filter[probability][lte]", "90")]),
    ({"probability": (50, 50)}, [("filter[probability][gte]", "50"), ("filter[probability][lte]", "50")]),
    ({"id": (100, None)}, [("filter[id][gte]", "100")]),
    ({"name": ("a", "m")}, [("filter[name][gte]", "a"), ("filter[name][lte]", "m")]),
    # instants
    ({"updated_at": "2026-01-11T12:47:26Z"}, [("filter[updatedAt]", "2026-01-11T12:47:26.000Z")]),
    ({"updated_at": "2026-01-11T12:47:26.123456Z"}, [("filter[updatedAt]", "2026-01-11T12:47:26.123Z")]),
    ({"updated_at": "2026-01-11T12:47:26"}, [("filter[updatedAt]", "2026-01-11T12:47:26.000Z")]),
    ({"updated_at": "2026-01-11T12:47:26+02:00"}, [("filter[updatedAt]", "2026-01-11T10:47:26.000Z")]),
    (
        {"updated_at": pd.Timestamp("2026-01-11T12:00", tz=NEW_YORK)},
        [("filter[updatedAt]", "2026-01-11T17:00:00.000Z")],
    ),
    ({"updated_at": np.datetime64("2026-01-11T12:00")}, [("filter[updatedAt]", "2026-01-11T12:00:00.000Z")]),
    ({"updated_at": dt.datetime(2026, 1, 11, 12, tzinfo=dt.UTC)}, [("filter[updatedAt]", "2026-01-11T12:00:00.000Z")]),
    # a day alone is the whole day
    ({"updated_at": "2026-01-11"}, span("2026-01-11T00:00:00.000Z", "2026-01-11T23:59:59.999Z")),
    ({"updatedAt": dt.date(2026, 1, 11)}, span("2026-01-11T00:00:00.000Z", "2026-01-11T23:59:59.999Z")),
    ({"updated_at": ("2026-01-11", "2026-01-12")}, span("2026-01-11T00:00:00.000Z", "2026-01-12T23:59:59.999Z")),
    ({"updated_at": ("2026-01-11", None)}, [("filter[updatedAt][gte]", "2026-01-11T00:00:00.000Z")]),
    ({"updated_at": (None, "2026-01-11")}, [("filter[updatedAt][lte]", "2026-01-11T23:59:59.999Z")]),
    ({"updated_at": pd.Period("2026Q1")}, span("2026-01-01T00:00:00.000Z", "2026-03-31T23:59:59.999Z")),
    ({"updated_at": ("2024-02-29", "2024-02-29T12:00Z")}, span("2024-02-29T00:00:00.000Z", "2024-02-29T12:00:00.000Z")),
    ({"created_at": dt.date(1, 1, 1)}, span("0001-01-01T00:00:00.000Z", "0001-01-01T23:59:59.999Z", "createdAt")),
    ({"created_at": dt.date(9999, 12, 31)}, span("9999-12-31T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "createdAt")),
]


@pytest.mark.parametrize(("wanted", "expected"), CASES)
def test_filter__is_written_in_the_newer_syntax(wanted: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Columns, API names, lists, ranges, days and tests for missing values."""
    assert filters(wanted) == expected


@pytest.mark.parametrize(
    ("day", "low", "high"),
    [
        ("2026-01-11", "2026-01-11T05:00:00.000Z", "2026-01-12T04:59:59.999Z"),
        ("2026-07-11", "2026-07-11T04:00:00.000Z", "2026-07-12T03:59:59.999Z"),
        ("2026-03-08", "2026-03-08T05:00:00.000Z", "2026-03-09T03:59:59.999Z"),  # 23 hours
        ("2026-11-01", "2026-11-01T04:00:00.000Z", "2026-11-02T04:59:59.999Z"),  # 25 hours
    ],
)
def test_filter__days_are_those_of_the_zone(day: str, low: str, high: str) -> None:
    """A day is as long as it is in the client's zone, daylight saving included."""
    assert filters({"updated_at": day}, NEW_YORK) == span(low, high)


def test_filter__a_time_without_zone_is_the_clients() -> None:
    """What has no zone of its own is meant in the client's."""
    assert filters({"updated_at": "2026-01-11T12:00"}, NEW_YORK) == [("filter[updatedAt]", "2026-01-11T17:00:00.000Z")]


def test_filter__skips_a_day_that_never_was() -> None:
    """Samoa had no 30 December 2011: the filter then fits nothing, and raises nothing."""
    assert filters({"created_at": "2011-12-30"}, "Pacific/Apia")[0][0] == "filter[createdAt][gte]"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"close_date": "2026-01-01"}, r"cannot filter by 'close_date'.*df\[df\['close_date'\]\.between"),
    ({"closeDate": ("2026-01-01", None)}, r"df\['close_date'\]\.between"),
    ({"amount": (1, 2)}, r"cannot filter by 'amount'.*in pandas: df\[df\['amount'\] == "),
    ({"tags": "x"}, "in \\(tags or \\(\\)\\)"),
    ({"custom12": "x"}, "cannot filter by 'custom12'"),
    ({"currency_type": "USD"}, "cannot filter by 'currency_type'"),
    ({"trashed_at": None}, "cannot filter by 'trashed_at'"),
    ({"creator": 3}, "cannot filter by 'creator'"),
    ({"updater_id": 3}, "cannot filter by 'updater_id'"),
    ({"owner_name": "Sam"}, "it takes ids only. Filter by 'owner'"),
    ({"owner.name": "Sam"}, "it takes ids only"),
    ({"stage_name": "Lead"}, "it takes ids only. Filter by 'stage'"),
    ({"account.industry": "x"}, "it takes ids only. Filter by 'account'"),
    ({"prospects.name": "Ana"}, "Filter by 'prospects'; read_opportunities.prospects=True. gives the ids"),
    ({"q": "x"}, "nothing called 'q'"),
    ({"probabilty": 5}, "did you mean 'probability'"),
    ({"ownr": 5}, "did you mean 'owner'"),
    ({"": 5}, "nothing called ''"),
    ({"owner": 7, "owner_id": 9}, "'owner' and 'owner_id', which are the same"),
    ({"name": "a", "Name": "b"}, "nothing called 'Name'"),
    ({"owner": []}, "an empty list fits no row"),
    ({"owner": [7, None]}, "two loads"),
    ({"owner": [7, NOT_NULL]}, "two loads"),
    ({"owner": (7, 9, 11)}, "a tuple is a range.*a list means any"),
    ({"owner": ()}, "a tuple is a range"),
    ({"probability": (None, None)}, "opp.NOT_NULL"),
    ({"probability": (90, 50)}, "begins after it ends"),
    ({"updated_at": ("2026-02-01", "2026-01-01")}, "begins after it ends"),
    ({"account.name": ("a", "b")}, "a range makes no sense"),
    ({"owner": "Sam Lee"}, "a whole number is expected, not 'Sam Lee'"),
    ({"owner": 7.5}, "a whole number is expected"),
    ({"owner": True}, "a whole number is expected, not True"),
    ({"owner": {"id": 7}}, "not a mapping"),
    ({"probability": "fifty"}, "a whole number is expected"),
    ({"name": 7}, "text is expected, not 7"),
    ({"name": b"x"}, "text is expected"),
    ({"name": "__null__"}, "reads __null__ as a test"),
    ({"name": ["__notnull__"]}, "reads __notnull__ as a test"),
    ({"name": "\ud83d"}, "lone surrogate"),
    ({"updated_at": "yesterday"}, "'yesterday' is not a day or an instant"),
    ({"updated_at": "2026-02-30"}, "'2026-02-30' is not a day"),
    ({"updated_at": 5}, "5 is not a day"),
    ({"updated_at": ["2026-01-01", "2026-01-02"]}, r"give \(first, last\)"),
    ({"updated_at": "2026-01-01..inf"}, "is not a day"),
]


@pytest.mark.parametrize(("wanted", "words"), REFUSED)
def test_filter__refuses_with_the_way_out(wanted: dict[str, Any], words: str) -> None:
    """What cannot be asked for raises before the network, with the name and what to do instead."""
    with pytest.raises(ConfigurationError, match=f"(?s){words}"):
        build_query(filter=wanted)


def test_filter__every_attribute_is_taken_or_refused_as_the_table_says() -> None:
    """The table of the resource decides, by column and by API name."""
    for attribute in OPPORTUNITY.attributes:
        for name in (attribute.name, attribute.column):
            value = "2026-01-01T00:00Z" if attribute.kind == "instant" else 5 if attribute.kind == "integer" else "x"
            if attribute.filterable:
                assert filters({name: value})[0][0] == f"filter[{attribute.name}]"
            else:
                with pytest.raises(ConfigurationError, match="cannot filter by"):
                    build_query(filter={name: value})


def test_filter__always_says_the_newer_syntax_and_never_without_one() -> None:
    """The switch stands beside every filter; a query without one does not need it."""
    assert build_query(filter={"owner": 7})[0].startswith("newFilterSyntax=true&")
    assert "newFilterSyntax" not in build_query()[0]


@pytest.mark.parametrize(("count", "pieces"), [(1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_long_lists__become_several_requests(count: int, pieces: list[int]) -> None:
    """At most 100 values stand in one request."""
    found = build_query(filter={"id": range(1, count + 1)})
    assert [query.count("filter%5Bid%5D%5B%5D=") for query in found] == pieces


def test_long_lists__are_split_by_length_too() -> None:
    """Long names are split before the URL becomes longer than servers take."""
    names = [f"{number:03} " + "ü" * 200 for number in range(50)]
    found = build_query(filter={"name": names})
    assert all(len(query) < 6_000 for query in found)
    seen = [value for query in found for name, value in parse_qsl(query) if name == "filter[name][]"]
    assert seen == names


def test_long_lists__combine() -> None:
    """Two long lists make every combination of their pieces."""
    assert len(build_query(filter={"id": range(1, 151), "owner": range(1, 301)})) == 2 * 3


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, "id"),
        ((), "id"),
        ("name", "name"),
        ("-updated_at", "-updatedAt"),
        ("updatedAt", "updatedAt"),
        ("amount,-closeDate", "amount,-closeDate"),
        (["-amount", "id"], "-amount,id"),
        (" -name ", "-name"),
        (pd.Index(["-amount", "id"]), "-amount,id"),
    ],
)
def test_sort__is_written_in_api_names(sort: Any, expected: str) -> None:
    """Columns and API names, ascending and descending; by id when nothing is said."""
    assert dict(parse_qsl(build_query(sort=sort)[0]))["sort"] == expected


@pytest.mark.parametrize(
    ("sort", "words"),
    [
        ("tags", r"cannot sort by 'tags'.*df\.sort_values\('tags'\)"),
        ("-nextStep", "df.sort_values\\('next_step'\\)"),
        ("Region of the deal", r"df\.sort_values\('Region of the deal'\)"),
        ("custom1", "cannot sort"),
        ("owner", "cannot sort"),
        ("owner.name", "cannot sort"),
        ("amout", "did you mean 'amount'"),
        ("", "cannot sort"),
    ],
)
def test_sort__refuses_with_the_way_in_pandas(sort: str, words: str) -> None:
    """What the service cannot sort by is refused before the network."""
    with pytest.raises(ConfigurationError, match=words):
        build_query(sort=sort)


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (["stage"], "opportunityStage"),
        (["opportunityStage"], "opportunityStage"),
        (["stage", "opportunity_stage", "stage_id"], "opportunityStage"),
        ("owner,account", "owner,account"),
        (("creator", "updater"), "creator,updater"),
        (["owner_id"], "owner"),
    ],
)
def test_include__takes_short_names(include: Any, expected: str) -> None:
    """The stage is included by the relationship that can be written."""
    assert dict(parse_qsl(build_query(include=include)[0]))["include"] == expected


@pytest.mark.parametrize("include", [["prospects"], ["ownr"], ["name"], [""]])
def test_include__refuses_others(include: list[str]) -> None:
    """Links-only relationships and unknown ones are refused, with what there is."""
    with pytest.raises(ConfigurationError, match="It takes 'stage', 'owner', 'account', 'creator', 'updater'"):
        build_query(include=include)


def fieldset(kind: str = "opportunity", **options: Any) -> list[str]:
    found = dict(parse_qsl(build_query(**options)[0], keep_blank_values=True)).get(f"fields[{kind}]", "")
    return found.split(",") if found else []


NEEDED = ["updatedAt", "owner", "account", "opportunityStage"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["name", "amount"], ["name", "amount", *NEEDED]),
        ("name,close_date", ["name", "closeDate", *NEEDED]),
        ([], NEEDED),
        (["id", "updated_at"], NEEDED),
        (["owner_id", "stage_name", "account_name"], ["owner", "opportunityStage", "account", "updatedAt"]),
        (["stage_order", "stage_is_closed"], ["opportunityStage", "updatedAt", "owner", "account"]),
        (["creator_name"], ["creator", *NEEDED]),
        (["custom12", "custom150"], ["custom12", "custom150", *NEEDED]),
        (["healthScore"], ["healthScore", *NEEDED]),
        ({"opportunity": ["name"]}, ["name", *NEEDED]),
    ],
)
def test_fields__never_lose_what_is_needed(fields: Any, expected: list[str]) -> None:
    """The three relationships and updatedAt are always asked for."""
    assert fieldset(fields=fields) == expected


def test_fields__say_nothing_when_not_asked() -> None:
    """Without `fields` the service sends every attribute, unknown ones included."""
    assert fieldset() == []


def test_fields__keep_included_relationships() -> None:
    """What is included is asked for, or its ids would be missing."""
    assert fieldset(fields=["name"], include=["creator"]) == ["name", "creator", *NEEDED]


@pytest.mark.parametrize(
    "fields", [["nam"], ["close date"], ["amount_"], {"opportunities": ["name"]}, {"user": ["emial"]}]
)
def test_fields__refuse_misspelt_names(fields: Any) -> None:
    """A misspelt name is refused with the one that is near."""
    with pytest.raises(ConfigurationError):
        build_query(fields=fields)


def test_included_types__are_asked_for_names_only() -> None:
    """An included account alone has some 200 attributes; a mapping asks for more."""
    assert fieldset("account", include=["account"]) == ["name"]
    assert fieldset("opportunityStage", include=["stage"]) == ["name", "order", "isClosed"]
    assert fieldset("account", include=["account"], fields={"account": ["name", "industry"]}) == ["name", "industry"]
    assert fieldset(include=["account"], fields={"account": ["name"]}) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"sort": "id", "page[size]": "250", "count": "false"}),
        ({"count": True}, {"sort": "id", "page[size]": "250", "count": "true"}),
        ({"page_size": 1}, {"sort": "id", "page[size]": "1", "count": "false"}),
        (
            {"authorization_meta": True, "data_connections": True},
            {
                "sort": "id",
                "page[size]": "250",
                "count": "false",
                "provideAuthorizationMeta": "true",
                "provideDataConnections": "true",
            },
        ),
    ],
)
def test_parameters__are_sent_only_when_asked(options: dict[str, Any], expected: dict[str, str]) -> None:
    """Everything else is left out; counting is switched off unless asked."""
    assert dict(parse_qsl(build_query(**options)[0])) == expected


@pytest.mark.parametrize("size", [0, -1, 1_001, 2.5, "x", True])
def test_page_size__is_1_to_1000(size: Any) -> None:
    """Other sizes are refused."""
    with pytest.raises(ConfigurationError, match="page_size"):
        build_query(page_size=size)


def test_get_query__has_shape_only() -> None:
    """A single record has no page, sort, filter or count."""
    assert Query().text_of_one() == ""
    found = dict(parse_qsl(Query(include=["owner"], fields=["name"], authorization_meta=True).text_of_one()))
    assert set(found) == {"fields[opportunity]", "fields[user]", "include", "provideAuthorizationMeta"}


def test_other_resources__have_their_own_names() -> None:
    """Stages, users, accounts and roles are filtered and sorted by their own attributes."""
    assert "filter%5BisClosed%5D=true" in build_query(STAGE, filter={"is_closed": True}, sort="order")[0]
    assert "filter%5Bemail%5D=" in build_query(USER, filter={"email": "a@b.example"})[0]
    assert "filter%5Bowner%5D%5Bid%5D=7" in build_query(ACCOUNT, filter={"owner": 7}, include=["owner"])[0]
    assert "filter%5Bopportunity%5D%5Bid%5D=88" in build_query(PROSPECT_ROLE, filter={"opportunity": 88})[0]
    with pytest.raises(ConfigurationError, match="must be true or false"):
        build_query(STAGE, filter={"is_closed": "yes"})


def test_encoding__brackets_and_signs_are_encoded() -> None:
    """The brackets are written as the service itself writes them; no value can end a parameter."""
    (query,) = build_query(filter={"name": "a&b=c #[]+%"})
    assert "filter%5Bname%5D=a%26b%3Dc%20%23%5B%5D%2B%25" in query


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5, unique=True))
def test_encoding__gives_back_every_text(values: list[str]) -> None:
    """Whatever the text, the service reads what was meant."""
    values = [value for value in values if value not in ("__null__", "__notnull__")]
    if values:
        found = [
            value
            for query in build_query(filter={"name": values})
            for key, value in parse_qsl(query, keep_blank_values=True)
            if key == "filter[name][]"
        ]
        assert found == values


def test_not_null__prints_as_it_is_written() -> None:
    """The marker is one object, also after pickling."""
    import pickle

    assert repr(NOT_NULL) == "opp.NOT_NULL"
    assert pickle.loads(pickle.dumps(NOT_NULL)) is NOT_NULL  # noqa: S301  # our own


def test_filter__of_the_calendars_first_day_in_tokyo() -> None:
    """It begins before the calendar of UTC, so it is cut off there; by the old local time it ends at 14:41 UTC."""
    (sent,) = build_query(filter={"updated_at": "0001-01-01"}, timezone="Asia/Tokyo")
    assert "=0001-01-01T00%3A00%3A00.000Z" in sent
    assert "=0001-01-01T14%3A41%3A00.999Z" in sent


@pytest.mark.parametrize("name", ["healthScore", "nextStepDate", "forecastCategoryId", "amountInUsd"])
def test_fields__of_an_undocumented_attribute_may_resemble_a_known_one(name: str) -> None:
    """The live service knows more than its pages say; only a slip of the finger is refused."""
    healthy = Attribute("healthCategory", "text", "how the deal is")
    resource = replace(OPPORTUNITY, attributes=(*OPPORTUNITY.attributes, healthy))
    assert name in dict(parse_qsl(Query(fields=[name]).texts(resource)[0]))["fields[opportunity]"].split(",")


@pytest.mark.parametrize("name", ["amuont", "amoun", "amounts", "closeDat", "ownr", "clsoe_date"])
def test_fields__with_a_slip_of_the_finger_are_refused(name: str) -> None:
    """One letter more, less or swapped, with the name that was meant."""
    with pytest.raises(ConfigurationError, match="did you mean"):
        build_query(fields=[name])
