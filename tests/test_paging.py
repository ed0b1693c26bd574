"""Walking pages: the walk ends where the service says so, and nowhere else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas import errors
from opp_pandas.api import paging
from opp_pandas.api.client import Client, connect
from opp_pandas.api.documents import parse_document
from opp_pandas.api.paging import limited, next_link, page_size_of, read_tail, smaller
from rawserver import FakeClock, RawServer, bad_gateway, opportunity, page, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "canary-0123456789abcdef"
PATH = "/api/v2/opportunities"


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as started:
        yield started


@pytest.fixture
def client(server: RawServer) -> Client:
    return connect(server.url, token=TOKEN, clock=FakeClock())


def ids(client: Client, **options: Any) -> list[Any]:
    return [row["id"] for found in client.iter_pages(**options) for row in found.document["data"]]


# --- the end, and what is none -----------------------------------------------

ENDS: dict[str, Any] = {
    "no links": {"data": [opportunity(2)]},
    "links null": {"data": [opportunity(2)], "links": None},
    "links empty": {"data": [opportunity(2)], "links": {}},
    "next null": {"data": [opportunity(2)], "links": {"next": None}},
    "next empty": {"data": [opportunity(2)], "links": {"next": ""}},
    "next href null": {"data": [opportunity(2)], "links": {"next": {"href": None}}},
    "only first and prev": {"data": [opportunity(2)], "links": {"first": "/x", "prev": "/y", "last": "/z"}},
}


@pytest.mark.parametrize("name", ENDS)
def test_end__is_where_no_link_is(server: RawServer, client: Client, name: str) -> None:
    """Null, absent and empty links end the walk."""
    server.script(reply(200, page(1, link=f"{PATH}?page%5Bafter%5D=x")), reply(200, ENDS[name]))
    assert ids(client) == [1, 2]


LINKS = {
    "absolute": "{origin}/api/v2/opportunities?page%5Bafter%5D=x",
    "absolute path": "/api/v2/opportunities?page%5Bafter%5D=x",
    "relative path": "opportunities?page%5Bafter%5D=x",
    "query only": "?page%5Bafter%5D=x",
    "host only": "//127.0.0.1:{port}/api/v2/opportunities?page%5Bafter%5D=x",
    "with a fragment": "?page%5Bafter%5D=x#top",
    "plain brackets": "?page[after]=x",
}


@pytest.mark.parametrize("form", ["text", "href"])
@pytest.mark.parametrize("name", LINKS)
def test_next__is_followed_in_every_form(server: RawServer, client: Client, name: str, form: str) -> None:
    """Absolute, relative and query-only links, as text or as an object, lead to the next page."""
    link: Any = LINKS[name].format(origin=server.origin, port=server.port)
    document = page(1, link="x")
    document["links"]["next"] = link if form == "text" else {"href": link}
    server.script(reply(200, document), reply(200, page(2)))
    assert ids(client) == [1, 2]
    assert server.requests[1].target in (f"{PATH}?page%5Bafter%5D=x", f"{PATH}?page[after]=x")


def test_next__is_asked_for_verbatim(server: RawServer, client: Client) -> None:
    """The opaque cursor and every other parameter go back byte for byte, and nothing is added."""
    target = f"{PATH}?sort=id&page%5Bsize%5D=2&page%5Bafter%5D=eyJ9%3D%3D&filter%5Bname%5D=a%2Cb+c%20d&count=false"
    server.script(reply(200, page(1, link=server.origin + target)), reply(200, page(2)))
    ids(client, filter={"name": "a,b c d"})
    assert server.requests[1].target == target


FOREIGN = [
    "https://evil.example/api/v2/opportunities",
    "http://127.0.0.1:1/api/v2/opportunities",
    "http://127.0.0.2:{port}/api/v2/opportunities",
    "http://localhost:{port}/api/v2/opportunities",
    "https://127.0.0.1:{port}/api/v2/opportunities",
    "http://someone@127.0.0.1:{port}/api/v2/opportunities",
    "http://127.0.0.1:{port}@evil.example/api/v2/opportunities",
    "http://127.0.0.1.evil.example:{port}/api/v2/opportunities",
    "//evil.example/api/v2/opportunities",
    "/opportunities",
    "/api/v2/../../admin",
    "file:///etc/passwd",
    "\\\\evil.example\\x",
]


@pytest.mark.parametrize("form", ["text", "href"])
@pytest.mark.parametrize("link", FOREIGN)
def test_next__never_leaves(server: RawServer, client: Client, link: str, form: str) -> None:
    """A link to another place raises before any request; no poisoned row is handed out either."""
    document = page(666, link="x")
    target = link.format(port=server.port)
    document["links"]["next"] = target if form == "text" else {"href": target}
    server.script(reply(200, document))
    with pytest.raises(errors.DocumentError, match="token must not go there"):
        next(client.iter_pages())
    assert len(server.requests) == 1


@pytest.mark.parametrize("link", [7, True, ["/x"], {}, {"rel": "next"}, {"href": 7}])
def test_next__of_an_odd_kind_is_an_error(server: RawServer, client: Client, link: Any) -> None:
    """A link that cannot be read is not the end: rows would be missing silently."""
    document = page(1, link="x")
    document["links"]["next"] = link
    server.script(reply(200, document))
    with pytest.raises(errors.DocumentError, match="not a URL"):
        ids(client)


def cursor(name: str) -> str:
    return f"{PATH}?page%5Bafter%5D={name}"


def test_loop__to_itself(server: RawServer, client: Client) -> None:
    """A page that names itself as the next one ends the walk with an error."""
    server.script(*[reply(200, page(1, link=cursor("a")))] * 5)
    with pytest.raises(errors.DocumentError, match="repeats one that was read already"):
        ids(client)
    assert len(server.requests) == 2


def test_loop__of_the_first_page(server: RawServer, client: Client) -> None:
    """The first page's own address counts as seen."""

    def echo(connection: Any, request: Any) -> bool:
        return reply(200, page(1, link=request.target))(connection, request)

    server.script(echo, echo)
    with pytest.raises(errors.DocumentError, match="repeats"):
        ids(client)
    assert len(server.requests) == 1


def test_loop__a_b_a_b(server: RawServer, client: Client) -> None:
    """A cycle over two pages is seen, since all addresses are remembered."""
    server.script(*[reply(200, page(1, link=cursor(name))) for name in "abababab"])
    with pytest.raises(errors.DocumentError, match="repeats one that was read already \\(after page 3\\)"):
        ids(client)


def test_endless__empty_pages(server: RawServer, client: Client) -> None:
    """Ten empty pages in a row, each with a next one, are an error."""
    server.script(*[reply(200, page(link=cursor(str(number)))) for number in range(20)])
    with pytest.raises(errors.DocumentError, match="10 empty pages in a row"):
        ids(client)
    assert len(server.requests) == 10


def test_empty_pages__between_others_are_fine(server: RawServer, client: Client) -> None:
    """A few empty pages in the middle lose nothing."""
    steps = [reply(200, page(*([number] if number % 5 == 0 else []), link=cursor(str(number)))) for number in range(20)]
    server.script(*steps, reply(200, page(20)))
    assert ids(client) == [0, 5, 10, 15, 20]


def test_endless__pages(server: RawServer, client: Client) -> None:
    """More pages than allowed are an error, not an endless night."""
    server.script(*[reply(200, page(number, link=cursor(str(number)))) for number in range(9)])
    urls = [f"{server.url}/opportunities"]
    with pytest.raises(errors.DocumentError, match="more than 4 pages"):
        list(paging.walk(client._transport, urls, max_pages=4))
    assert len(server.requests) == 4


def test_walk__duplicates_and_order_are_handed_on(server: RawServer, client: Client) -> None:
    """A row that moved comes twice; choosing the newer copy is the reader's part."""
    server.script(reply(200, page(1, 2, link=cursor("a"))), reply(200, page(2, 3)))
    assert ids(client) == [1, 2, 2, 3]


def test_walk__is_lazy(server: RawServer, client: Client) -> None:
    """A page is asked for when it is needed, not before."""
    server.script(reply(200, page(1, link=cursor("a"))), reply(200, page(2)))
    pages = client.iter_pages()
    assert server.requests == []
    next(pages)
    assert len(server.requests) == 1


def test_walk__an_error_on_a_later_page_raises(server: RawServer, client: Client) -> None:
    """A walk that breaks off never looks like one that ended."""
    server.script(reply(200, page(1, link=cursor("a"))), reply(403))
    pages = client.iter_pages()
    assert next(pages).document["data"][0]["id"] == 1
    with pytest.raises(errors.AccessDeniedError):
        next(pages)


# --- page sizes --------------------------------------------------------------


def sizes(server: RawServer) -> list[int | None]:
    return [page_size_of(request.target) for request in server.requests]


@pytest.mark.parametrize("status", [500, 502, 504])
def test_size__is_halved_on_failures_and_kept(server: RawServer, client: Client, status: int) -> None:
    """A page that the service cannot make is asked for in half the size, and so are the next ones."""
    link = f"{PATH}?page%5Bsize%5D=250&page%5Bafter%5D="
    server.script(
        reply(200, page(1, link=link + "a")),
        reply(status),
        reply(status),
        reply(200, page(2, link=link + "b")),
        reply(200, page(3, link=f"{PATH}?page%5Bsize%5D=62&page%5Bafter%5D=c")),
        reply(200, page(4)),
    )
    assert ids(client) == [1, 2, 3, 4]
    assert sizes(server) == [250, 250, 125, 62, 62, 62]


def test_size__has_a_floor(server: RawServer, client: Client) -> None:
    """Pages do not become smaller than ten rows."""
    server.script(*[bad_gateway()] * 4, reply(200, page(1)))
    assert ids(client, page_size=30) == [1]
    assert sizes(server) == [30, 15, 10, 10, 10]


def test_size__small_ones_stay(server: RawServer, client: Client) -> None:
    """A size below the floor is not raised to it."""
    server.script(bad_gateway(), reply(200, page(1)))
    assert ids(client, page_size=3) == [1]
    assert sizes(server) == [3, 3]


@pytest.mark.parametrize("status", [429, 503])
def test_size__is_not_halved_for_other_reasons(server: RawServer, client: Client, status: int) -> None:
    """Too many requests and maintenance have nothing to do with the size."""
    server.script(reply(status), reply(200, page(1)))
    assert ids(client) == [1]
    assert sizes(server) == [250, 250]


def test_size__of_absurd_length_is_lowered_too() -> None:
    """A size of thousands of digits in a link raises nothing by itself."""
    url = "https://a.example/x?page%5Bsize%5D=" + "9" * 5_000
    assert page_size_of(smaller(url)) == 499_999_999
    assert page_size_of(limited(url, 250)) == 250


def test_size__halved_and_looping_is_seen(server: RawServer, client: Client) -> None:
    """A loop is seen although the size in the address was changed on the way."""
    link = f"{PATH}?page%5Bsize%5D=250&page%5Bafter%5D=a"
    server.script(bad_gateway(), *[reply(200, page(1, link=link))] * 5)
    with pytest.raises(errors.DocumentError, match="repeats"):
        ids(client)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("url", "size"),
    [
        ("https://a.example/x?page%5Bsize%5D=250", 250),
        ("https://a.example/x?a=b&page[size]=7&c=d", 7),
        ("https://a.example/x?PAGE%5bSIZE%5d=7", 7),
        ("https://a.example/x", None),
        ("https://a.example/x?page%5Bsize%5D=", None),
        ("https://a.example/x?xpage%5Bsize%5D=7", None),
        ("https://a.example/x?page%5Bsize%5D=" + "9" * 30, None),
    ],
)
def test_page_size__of_an_address(url: str, size: int | None) -> None:
    """The size is found in both spellings; the rest of the address stays as it is when it is lowered."""
    assert page_size_of(url) == size
    if size is not None:
        assert page_size_of(smaller(url)) == max(min(10, size), size // 2)
        assert limited(url, 1_000) == url
        assert page_size_of(limited(url, 5)) == 5
        assert limited(url, 5).replace("5", "") == url.replace(str(size), "").replace("5", "")


# --- what stands around the rows ---------------------------------------------


def dumped(document: Any, **options: Any) -> bytes:
    return json.dumps(document, **options).encode()


ROW = opportunity(1, name='],"links":{"next":"https://evil.example/"},"meta":{"count":9}}')
TAILS: dict[str, tuple[Any, paging.Tail]] = {
    "usual": (page(1, link="/n", count=2), paging.Tail("/n", 2, False)),
    "last": (page(1, count=2), paging.Tail(None, 2, False)),
    "links without next": ({"data": [ROW], "links": {"first": "/f"}}, paging.Tail(None, None, False)),
    "meta first": ({"meta": {"count": 1}, "data": [ROW], "links": {"next": "/n"}}, paging.Tail("/n", 1, False)),
    "meta before links": ({"data": [ROW], "meta": {"count": 3}, "links": {"next": "/n"}}, paging.Tail("/n", 3, False)),
    "odd meta before links": (
        {"data": [ROW], "meta": {"count": 3, "x": []}, "links": {"next": "/n"}},
        paging.Tail("/n", 3, False),
    ),
    "meta before included": (
        {"data": [ROW], "meta": {"count": 3}, "included": [ROW], "links": {"next": "/n"}},
        paging.Tail("/n", 3, False),
    ),
    "links first": ({"links": {"next": "/n"}, "data": [ROW]}, paging.Tail("/n", None, False)),
    "data last": ({"links": {"next": "/n"}, "meta": {"count": 1}, "data": [ROW]}, paging.Tail("/n", 1, False)),
    "included between": ({"data": [ROW], "included": [ROW], "links": {"next": "/n"}}, paging.Tail("/n", None, False)),
    "included last": ({"data": [ROW], "links": {"next": "/n"}, "included": [ROW]}, paging.Tail("/n", None, False)),
    "unknown member last": ({"data": [ROW], "links": {"next": "/n"}, "x": 1}, paging.Tail("/n", None, False)),
    "jsonapi": ({"data": [ROW], "links": {"next": "/n"}, "jsonapi": {}}, paging.Tail("/n", None, False)),
    "meta with links": ({"data": [ROW], "meta": {"links": {"next": "/evil"}}}, paging.Tail(None, None, False)),
    "nested deeper": (
        {"data": [ROW], "meta": {"a": {"links": {"next": "/evil"}, "meta": {}}}},
        paging.Tail(None, None, False),
    ),
    "row with links last": ({"data": [{**ROW, "links": {"next": "/evil"}}]}, paging.Tail(None, None, False)),
    "row with links and meta": (
        {"data": [{"id": 1, "a": [], "links": {"next": "/evil"}, "meta": {"count": 5}}]},
        paging.Tail(None, None, False),
    ),
    "text that looks like it": (
        {"data": [ROW], "links": {"next": "/n"}, "meta": {"count": 1}},
        paging.Tail("/n", 1, False),
    ),
    "unknown list last": ({"data": [ROW], "links": {"next": "/n"}, "x": [1]}, paging.Tail("/n", None, False)),
    "last with a list": ({"data": [ROW], "x": [1]}, paging.Tail(None, None, False)),
    "last with nested meta": ({"data": [ROW], "meta": {"count": 1, "a": {"b": []}}}, paging.Tail(None, 1, False)),
    "last with half brackets": (
        {"data": [opportunity(1, name="}}]")], "meta": {"count": 1}},
        paging.Tail(None, 1, False),
    ),
    "last with a row's meta": ({"data": [{"id": 1, "t": [], "meta": {"count": 5}}]}, paging.Tail(None, None, False)),
    "empty": ({"data": []}, paging.Tail(None, None, True)),
    "empty with next": ({"data": [], "links": {"next": "/n"}}, paging.Tail("/n", None, True)),
    "rows of null": ({"data": [None]}, paging.Tail(None, None, False)),
    "next as object": ({"data": [ROW], "links": {"next": {"href": "/n"}}}, paging.Tail("/n", None, False)),
    "truncated count": (page(1, link="/n", count=0, count_truncated=True), paging.Tail("/n", None, False)),
}


@pytest.mark.parametrize("style", [{}, {"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}])
@pytest.mark.parametrize("name", TAILS)
def test_read_tail__reads_links_and_count(name: str, style: dict[str, Any]) -> None:
    """Whatever the order of members and whatever rows say, links and count are those at the top."""
    document, tail = TAILS[name]
    assert read_tail(dumped(document, **style)) == tail
    assert next_link(dumped(document, **style)) == tail.next_link


@pytest.mark.parametrize(
    "document",
    [
        *[{"data": None}, {"data": {}}, {"data": opportunity(1)}, {"meta": {}}, {"errors": [{"title": "x"}]}, []],
        *[{"data": [ROW], "errors": [{"title": "x"}], "links": {"next": "/n"}}, {"data": [ROW], "links": ["/n"]}],
    ],
)
def test_read_tail__refuses_what_is_no_collection(document: Any) -> None:
    """One record, errors or something else is not a page."""
    with pytest.raises(errors.DocumentError):
        read_tail(dumped(document))


@pytest.mark.parametrize("document", [page(1, 2, link="/n", count=2), page(1, 2, count=2), page(1, 2)])
def test_read_tail__refuses_every_cut(document: Any) -> None:
    """A page that breaks off at any byte is never taken for a whole one, with a next link or without."""
    whole = dumped(document)
    for at in range(len(whole)):
        with pytest.raises(errors.DocumentError):
            read_tail(whole[:at])


def test_read_tail__sees_an_escaped_next() -> None:
    """JSON allows any letter as an escape; the quick reading leaves such a page to the parser."""
    body = dumped({"links": "LINKS", "data": [ROW]}).replace(b'"LINKS"', b'{"\\u006eext": "/n"}')
    assert next_link(body) == "/n"
    body = b'{"data": [{"id": 1}], "links": {"n\\u0065xt": "/n"}, "x": [1]}'
    assert next_link(body) == "/n"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(alphabet='}]{[",:links\\ ', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["links", "meta", "data", "next", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["id", "links", "meta", "attributes"]), VALUES), max_size=3),
    st.none() | st.dictionaries(st.sampled_from(["next", "first", "self"]), st.text(max_size=5), max_size=3),
    st.dictionaries(st.sampled_from(["count", "links", "x"]), VALUES, max_size=3),
    st.permutations(["data", "links", "meta", "included"]),
    st.booleans(),
)
def test_read_tail__equals_reading_the_whole(
    rows: list[Any], links: dict[str, str] | None, meta: dict[str, Any], order: list[str], narrow: bool
) -> None:
    """The quick reading of the end gives the same as parsing everything, for hostile rows too."""
    members = {"data": rows, "links": links, "meta": meta, "included": rows}
    kept = [name for name in order if members[name] is not None and (name != "included" or links is not None)]
    body = dumped({name: members[name] for name in kept}, **({"separators": (",", ":")} if narrow else {}))
    whole = parse_document(body)
    assert read_tail(body) == paging.Tail((links or {}).get("next") or None, paging._count(whole["meta"]), not rows)
