"""Every query parameter of a collection, compared with the same question asked of all rows in Python."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.resource import OPPORTUNITY, RESOURCES
from opp_pandas.sandbox_handle import sandbox
from sandbox_server_calls import Api, edit, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = "2026-09-01T08:00:00Z"


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """A sandbox that no test of this module changes."""
    yield from opened(sandbox(opportunities=150, seed=4, now=NOW, rate_limit=10**6))


@pytest.fixture(scope="module")
def everything(api: Api) -> list[dict[str, Any]]:
    """All rows, without any filter."""
    return api.rows()


def _matching(rows: list[dict[str, Any]], test: Callable[[dict[str, Any]], bool]) -> list[int]:
    return [row["id"] for row in rows if test(row)]


def _attribute(name: str, test: Callable[[Any], bool]) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["attributes"][name] is not None and test(row["attributes"][name])


def _link(name: str, keys: set[int | None]) -> Callable[[dict[str, Any]], bool]:
    return lambda row: (row["relationships"][name]["data"] or {"id": None})["id"] in keys


OVERDUE, MIDDLE = "2026-08-01T00:00:00.000Z", "2026-06-01T00:00:00.000Z"
N = "newFilterSyntax=true&"
FILTERS = {
    "filter[probability]=50": _attribute("probability", lambda v: v == 50),
    "filter[probability]=50..90": _attribute("probability", lambda v: 50 <= v <= 90),
    "filter[probability]=90..inf": _attribute("probability", lambda v: v >= 90),
    "filter[probability]=neginf..10": _attribute("probability", lambda v: v <= 10),
    "filter[probability]=neginf..inf": _attribute("probability", lambda _: True),
    "filter[probability]=0,100": _attribute("probability", lambda v: v in (0, 100)),
    "filter[probability]=0,90..inf": _attribute("probability", lambda v: v == 0 or v >= 90),
    "filter[probability]=__null__": lambda row: row["attributes"]["probability"] is None,
    "filter[probability]=__notnull__": lambda row: row["attributes"]["probability"] is not None,
    "filter[probability]=__null__,0": lambda row: row["attributes"]["probability"] in (None, 0),
    f"filter[updatedAt]={OVERDUE}..inf": _attribute("updatedAt", lambda v: v >= OVERDUE),
    f"filter[updatedAt]={MIDDLE}..{OVERDUE}": _attribute("updatedAt", lambda v: MIDDLE <= v <= OVERDUE),
    f"filter[updatedAt]=2026-06-01..{OVERDUE}": _attribute("updatedAt", lambda v: MIDDLE <= v <= OVERDUE),
    "filter[leadSource]=Event": _attribute("leadSource", lambda v: v == "Event"),
    "filter[leadSource]=Event,Partner": _attribute("leadSource", lambda v: v in ("Event", "Partner")),
    "filter[leadSource]=event": lambda _: False,
    "filter[id]=3,1,99999": lambda row: row["id"] in (1, 3),
    "filter[owner][id]=1,2": _link("owner", {1, 2}),
    "filter[owner][id]=__null__": _link("owner", {None}),
    "filter[stage][id]=5": _link("stage", {5}),
    "filter[account][id]=4..9": _link("account", set(range(4, 10))),
    "filter[probability]=50..90&filter[owner][id]=1,2,3": lambda row: (
        _attribute("probability", lambda v: 50 <= v <= 90)(row) and _link("owner", {1, 2, 3})(row)
    ),
    N + "filter[probability]=50": _attribute("probability", lambda v: v == 50),
    N + "filter[probability][gte]=50&filter[probability][lte]=90": _attribute("probability", lambda v: 50 <= v <= 90),
    N + "filter[probability][lte]=10": _attribute("probability", lambda v: v <= 10),
    N + "filter[probability][gte]=neginf": _attribute("probability", lambda _: True),
    N + "filter[probability][]=0&filter[probability][]=100": _attribute("probability", lambda v: v in (0, 100)),
    N + "filter[probability][]=0&filter[probability][]=__null__": (
        lambda row: row["attributes"]["probability"] in (None, 0)
    ),
    N + "filter[probability]=__notnull__": lambda row: row["attributes"]["probability"] is not None,
    N + f"filter[updatedAt][gte]={OVERDUE}": _attribute("updatedAt", lambda v: v >= OVERDUE),
    N + f"filter[updatedAt][gte]={MIDDLE}&filter[updatedAt][lte]={OVERDUE}": _attribute(
        "updatedAt", lambda v: MIDDLE <= v <= OVERDUE
    ),
    N + "filter[owner][id][]=1&filter[owner][id][]=2": _link("owner", {1, 2}),
    N + "filter[stage][id]=5": _link("stage", {5}),
    N + "filter[leadSource]=Event,Partner": lambda _: False,
}


@pytest.mark.parametrize("query", FILTERS)
def test_filter__gives_the_rows_that_python_gives(api: Api, everything: list[dict[str, Any]], query: str) -> None:
    """Each form of each syntax selects what the same test in Python selects."""
    expected = _matching(everything, FILTERS[query])
    assert api.ids(query) == expected
    assert api.get(f"/opportunities?{query}&count=true&page[size]=1")["meta"] == {
        "count": len(expected),
        "count_truncated": False,
    }


def test_filter_fixtures__are_not_all_empty(everything: list[dict[str, Any]]) -> None:
    """Most filters of the table find some rows and not all: otherwise they would prove nothing."""
    sizes = [len(_matching(everything, test)) for test in FILTERS.values()]
    assert sum(0 < size < len(everything) for size in sizes) >= 24


def test_filter__finds_accounts_by_name_even_with_commas_and_brackets(api: Api) -> None:
    """Values keep their characters; only the older syntax splits at commas."""
    for box_api in opened(sandbox(opportunities=0)):
        names = ["Ä, B & Söhne", "50..90", "100%_[x]", "O'Brien; DROP TABLE opportunities"]
        made = [box_api.create({"name": name}, account=("account", 1))["id"] for name in names]
        for key, name in zip(made, names, strict=True):
            answer = box_api.session.get(
                f"{box_api.box.url}/opportunities", params={"filter[name]": name, "newFilterSyntax": "true"}, timeout=60
            )
            assert [row["id"] for row in answer.json()["data"]] == [key]
    account = api.get("/accounts/2")["data"]["attributes"]["name"]
    answer = api.session.get(f"{api.box.url}/opportunities", params={"filter[account][name]": account}, timeout=60)
    names = {row["relationships"]["account"]["data"]["id"] for row in answer.json()["data"]}
    same_name = {row["id"] for row in api.rows(path="/accounts") if row["attributes"]["name"] == account}
    assert names <= same_name


@pytest.mark.parametrize("newer", ["", N])
def test_filter__is_refused_for_what_the_service_cannot_filter(api: Api, newer: str) -> None:
    """Each attribute and relationship that the table does not flag is refused with 422 and its name."""
    for entry in OPPORTUNITY.attributes:
        if not entry.filterable:
            error = api.refused(f"/opportunities?{newer}filter[{entry.name}]=1")
            assert error["source"] == {"parameter": f"filter[{entry.name}]"}
            assert entry.name in error["detail"]
    for entry in OPPORTUNITY.relationships:
        for key in {"id", "name"} - set(entry.filter_keys):
            api.refused(f"/opportunities?{newer}filter[{entry.name}][{key}]=1")
    api.refused(f"/opportunities?{newer}filter[nothing]=1")
    api.refused(f"/opportunities?{newer}filter=1")


@pytest.mark.parametrize(
    "query",
    [
        N + f"filter[updatedAt]={MIDDLE}..inf",
        N + f"filter[updatedAt][]={MIDDLE}..{OVERDUE}",
        N + f"filter[updatedAt][gte]={MIDDLE}..inf",
        N + "filter[updatedAt][gte]=yesterday",
        "filter[updatedAt]=2026-02-30",
    ],
)
def test_filter__of_an_instant_in_the_wrong_syntax_has_the_documented_id(api: Api, query: str) -> None:
    """The two syntaxes do not mix; the error has the id that the documents mention."""
    assert api.refused(f"/opportunities?{query}")["id"] == "filterParameter.invalidDatetimeFormat"


@pytest.mark.parametrize(
    "query",
    [
        "filter[probability]=fifty",
        "filter[probability]=50.5",
        "filter[probability]=",
        "filter[probability]=1..x",
        "filter[probability][gte]=5",
        "filter[probability][]=5",
        N + "filter[probability]=1..5",
        N + "filter[probability][gt]=5",
        "filter[id]=99999999999999999999",
        "filter[owner[id]]=1",
        "newFilterSyntax=yes",
        "sort=amountt",
        "sort=closeDate,custom1",
        "sort=account.name",
        "page[size]=0",
        "page[size]=1001",
        "page[size]=ten",
        "page[size]=-1",
        "page[limit]=1001",
        "page[offset]=10001",
        "page[offset]=-1",
        "page[number]=2",
        "page=2",
        "page[after]=nonsense",
        "page[after]=e30=",
        "fields[opportunity]=nme",
        "fields[deal]=name",
        "fields=name",
        "include=stages",
        "include=prospects",
        "include=owner.manager",
        "count=maybe",
        "provideAuthorizationMeta=1",
    ],
)
def test_query__that_makes_no_sense_is_refused(api: Api, query: str) -> None:
    """Unknown names and values that do not fit get 422 and say where."""
    assert api.refused(f"/opportunities?{query}")["source"]["parameter"]


def test_query__with_unknown_parameters_is_served(api: Api) -> None:
    """What the service does not know it ignores."""
    assert len(api.get("/opportunities?foo=bar&x[y]=1&_=2&page[size]=3")["data"]) == 3


def _sort_key(name: str) -> Callable[[dict[str, Any]], Any]:
    def key(row: dict[str, Any]) -> Any:
        value = row["id"] if name == "id" else row["attributes"][name]
        return float(value) if name == "amountPrecise" and value is not None else value

    return key


@pytest.mark.parametrize("name", ["id", *(entry.name for entry in OPPORTUNITY.attributes if entry.sortable)])
@pytest.mark.parametrize("sign", ["", "-"])
def test_sort__orders_rows_and_pages_through_each_once(
    api: Api, everything: list[dict[str, Any]], name: str, sign: str
) -> None:
    """Small pages in every order: each row once, in order, missing values last (first when descending)."""
    key = _sort_key(name)
    known = sorted((row for row in everything if key(row) is not None), key=key, reverse=bool(sign))
    missing = [row["id"] for row in everything if key(row) is None]
    url: str | None = f"/opportunities?sort={sign}{name}&page[size]=37&fields[opportunity]=name"
    seen: list[int] = []
    while url:
        page = api.get(url)
        seen += [row["id"] for row in page["data"]]
        url = page["links"].get("next")
    assert len(seen) == len(set(seen)) == len(everything)
    values = {row["id"]: key(row) for row in everything}
    in_order = [values[row["id"]] for row in known]
    gap = [None] * len(missing)
    assert [values[number] for number in seen] == (gap + in_order if sign else in_order + gap)
    for before, after in pairwise(seen):
        assert values[before] != values[after] or before < after, "equal values stand in order of id"


def test_sort__takes_several_terms_and_the_last_of_doubled_ones(api: Api, everything: list[dict[str, Any]]) -> None:
    """A second term orders what is equal in the first."""
    rows = [row for row in everything if row["attributes"]["probability"] is not None]
    expected = sorted(rows, key=lambda row: (-row["attributes"]["probability"], row["attributes"]["name"]))
    got = api.ids("filter[probability]=__notnull__&sort=name&sort=-probability,name")
    assert got == [row["id"] for row in expected]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["probability", "-amount", "closeDate", "-name", "updatedAt"]), unique=True), st.data())
def test_paging__backwards_is_forwards_reversed(api: Api, sort: list[str], data: st.DataObject) -> None:
    """From any page, links.prev leads back through the same rows."""
    size = data.draw(st.integers(1, 60))
    pages, url = [], f"/opportunities?sort={','.join(sort)}&page[size]={size}"
    while url:
        page = api.get(url)
        pages.append(page)
        url = page["links"].get("next")
    assert "prev" not in pages[0]["links"]
    place = data.draw(st.integers(0, len(pages) - 1))
    for earlier in range(place, 0, -1):
        back = api.get(pages[earlier]["links"]["prev"])
        assert back["data"] == pages[earlier - 1]["data"]
        assert api.get(back["links"]["next"])["data"] == pages[earlier]["data"]
    first = api.get(pages[place]["links"]["first"])
    assert first["data"] == pages[0]["data"]


def test_links__are_absolute_keep_every_parameter_and_hide_the_place(api: Api) -> None:
    """links.next repeats the request with an opaque cursor, brackets percent-encoded."""
    query = N + "filter[probability][gte]=0&filter[leadSource][]=Event&filter[leadSource][]=Partner&sort=-updatedAt"
    link = api.get(f"/opportunities?{query}&page[size]=3&include=owner")["links"]["next"]
    assert link.startswith(f"{api.box.url}/opportunities?")
    assert "[" not in link
    pairs = parse_qsl(urlsplit(link).query)
    assert sorted(pairs[:-1]) == sorted(parse_qsl(f"{query}&page[size]=3&include=owner"))
    name, cursor = pairs[-1]
    assert name == "page[after]"
    assert json.loads(base64.urlsafe_b64decode(cursor))["sp"] == ["-updatedAt"]
    # Published readers send their own parameters again beside the link's: the last one counts.
    assert api.get(f"{link}&page[size]=3&sort=-updatedAt") == api.get(link)


def test_links__are_absent_where_nothing_was_found(api: Api) -> None:
    """An empty collection has no links, and a meta only when counted."""
    assert api.get("/opportunities?filter[id]=999999") == {"data": []}
    assert api.get("/opportunities?filter[id]=999999&count=true") == {
        "data": [],
        "meta": {"count": 0, "count_truncated": False},
    }


def test_cursor__of_another_order_is_refused(api: Api) -> None:
    """A cursor holds good for the sort it was made in."""
    cursor = dict(parse_qsl(urlsplit(api.get("/opportunities?sort=name&page[size]=3")["links"]["next"]).query))
    assert api.refused(f"/opportunities?sort=-name&page[after]={cursor['page[after]']}")


def test_cursor__survives_rows_that_come_and_go() -> None:
    """Keyset paging: deleting what was seen and adding behind loses no row and doubles none."""
    for api in opened(sandbox(opportunities=20, seed=1)):
        page = api.get("/opportunities?page[size]=8")
        seen = [row["id"] for row in page["data"]]
        for key in (2, 5):
            answer = api.call("DELETE", f"/opportunities/{key}")
            assert answer.status_code in (204, 403)
        added = api.create({"name": "late"})["id"]
        while "next" in page["links"]:
            page = api.get(page["links"]["next"])
            seen += [row["id"] for row in page["data"]]
        assert seen == [*range(1, 21), added]


def test_offset_paging__has_its_own_links(api: Api, everything: list[dict[str, Any]]) -> None:
    """The older paging counts, and adds links.last."""
    page = api.get("/opportunities?page[limit]=40&page[offset]=40")
    assert [row["id"] for row in page["data"]] == [row["id"] for row in everything[40:80]]
    offsets = {name: dict(parse_qsl(urlsplit(link).query))["page[offset]"] for name, link in page["links"].items()}
    assert offsets == {"first": "0", "prev": "0", "next": "80", "last": "120"}
    last = api.get(page["links"]["last"])
    assert [row["id"] for row in last["data"]] == [row["id"] for row in everything[120:]]
    assert "next" not in last["links"]
    assert len(api.get("/opportunities?page[offset]=0")["data"]) == 50


def test_page__has_fifty_rows_unless_asked(api: Api) -> None:
    """The default page is 50, the largest 1,000."""
    assert len(api.get("/opportunities")["data"]) == 50
    assert len(api.get("/opportunities?page[size]=1000")["data"]) == 150


def test_count__comes_only_when_asked(api: Api) -> None:
    """meta.count needs count=true."""
    assert "meta" not in api.get("/opportunities?page[size]=1")
    assert "meta" not in api.get("/opportunities?page[size]=1&count=false")
    assert api.get("/opportunities?page[size]=1&count=true")["meta"]["count"] == 150


def test_fields__cut_attributes_and_relationships(api: Api, everything: list[dict[str, Any]]) -> None:
    """Only what is named comes; relationships must be named too; nothing named gives ids only."""
    row = api.get("/opportunities/1?fields[opportunity]=name,amount,owner")["data"]
    whole = everything[0]
    assert row["attributes"] == {name: whole["attributes"][name] for name in ("name", "amount")}
    assert row["relationships"] == {"owner": whole["relationships"]["owner"]}
    bare = api.get("/opportunities/1?fields[opportunity]=")["data"]
    assert (bare["id"], bare["attributes"], bare["relationships"]) == (1, {}, {})
    prospects = api.get("/opportunities/1?fields[opportunity]=prospects")["data"]
    assert prospects["relationships"] == {"prospects": whole["relationships"]["prospects"]}


def test_include__brings_each_record_once(api: Api, everything: list[dict[str, Any]]) -> None:
    """Included holds every record that the page names, once, also through several relationships."""
    page = api.get("/opportunities?page[size]=40&include=owner,creator,updater,account,opportunityStage,stage")
    wanted = {
        (link["data"]["type"], link["data"]["id"])
        for row in everything[:40]
        for name, link in row["relationships"].items()
        if name in ("owner", "creator", "updater", "account", "opportunityStage") and link["data"]
    }
    got = [(row["type"], row["id"]) for row in page["included"]]
    assert sorted(got) == sorted(wanted)
    for row in page["included"]:
        assert row == api.get(f"/{RESOURCES[row['type']].path}/{row['id']}")["data"]
    lean = api.get("/opportunities/1?include=owner&fields[user]=name&fields[opportunity]=name")
    assert lean["included"][0]["attributes"].keys() == {"name"}
    assert lean["data"]["relationships"] == {}


def test_metadata__comes_when_asked(api: Api) -> None:
    """canWrite, canDelete and dataConnections come with their parameters, and hold good."""
    rows = api.rows("provideAuthorizationMeta=true&provideDataConnections=true")
    assert all(row["meta"].keys() == {"canWrite", "canDelete", "dataConnections"} for row in rows)
    assert {len(row["meta"]["dataConnections"]) for row in rows} == {0, 1}
    assert "meta" not in api.get("/opportunities/1")["data"]
    locked = next(row["id"] for row in rows if not row["meta"]["canWrite"])
    refused = api.call("PATCH", f"/opportunities/{locked}", edit("opportunity", {"name": "x"}, key=locked))
    assert (refused.status_code, refused.json()["errors"][0]["id"]) == (403, "unauthorizedRequest")
    kept = next(row["id"] for row in rows if not row["meta"]["canDelete"])
    assert api.call("DELETE", f"/opportunities/{kept}").status_code == 403


@pytest.mark.parametrize(
    "path", ["/users", "/accounts", "/prospects", "/opportunityStages", "/opportunityProspectRoles"]
)
def test_other_resources__filter_and_sort_by_updated_at(api: Api, path: str) -> None:
    """Published readers walk every resource by updatedAt."""
    rows = sorted(api.rows(path=path), key=lambda row: (row["attributes"]["updatedAt"], row["id"]))
    middle = rows[len(rows) // 2]["attributes"]["updatedAt"]
    expected = [row["id"] for row in rows if row["attributes"]["updatedAt"] >= middle]
    assert api.ids(f"sort=updatedAt&filter[updatedAt]={middle}..inf", path) == expected
    assert api.ids(f"{N}sort=updatedAt&filter[updatedAt][gte]={middle}", path) == expected
