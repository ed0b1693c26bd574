"""Pages give what a reader of one record and one cell at a time gives, whatever comes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from opp_pandas.api import frame_builder
from opp_pandas.api.batches import read_instants
from opp_pandas.api.decode import decode_pages
from opp_pandas.api.documents import parse_document
from opp_pandas.api.frame_builder import BLOCK_BYTES
from opp_pandas.api.page_parser import PageParser
from opp_pandas.errors import DocumentError
from opp_pandas.kinds import INSTANTS, UnfitError
from opp_pandas.resource import OPPORTUNITY
from tests.slowload import assert_same, collect, load_slowly

COMPACT = (",", ":")


def record(number: int = 88, **attributes: Any) -> dict[str, Any]:
    """Make a resource object as the service sends it."""
    return {
        "type": "opportunity",
        "id": number,
        "attributes": {
            "amount": 5000,
            "closeDate": "2026-12-10T22:00:00.000Z",
            "name": f"Deal {number}",
            "tags": ["q4"],
            "updatedAt": "2026-09-03T11:00:01.000Z",
            "custom1": "EMEA",
            "custom2": None,
        }
        | attributes,
        "relationships": {
            "account": {"data": {"type": "account", "id": 12}},
            "owner": {"data": {"type": "user", "id": 7}},
            "prospects": {"links": {"related": "https://api.example/prospects"}},
            "updater": {"data": None},
        },
        "links": {"self": f"https://api.example/opportunities/{number}"},
    }


def body_of(records: list[Any], **members: Any) -> bytes:
    """Write a page."""
    document = {"data": records, "links": {"next": "https://api.example/next"}, "meta": {"count": 3}} | members
    return json.dumps(document, separators=COMPACT, ensure_ascii=False).encode()


# --- any document ---------------------------------------------------------------------------------------------------

PLAIN_INSTANTS = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")
ODD_INSTANTS = st.sampled_from(
    [
        "2026-12-10T22:00:00Z",
        "2026-12-10T22:00:00.1Z",
        "2026-12-10T22:00:00.123456Z",
        "2026-12-10T22:00:00.123456789Z",
        "2026-12-10T22:00:00.000+05:30",
        "2026-12-10T22:00:00.000",
        "2026-12-10",
        "20261210T220000Z",
        "2026-12-10T22:00:00.000z",
        "2026-12-10 22:00:00.000Z",
        "0000-01-01T00:00:00.000Z",
        "0001-01-01T00:00:00.000Z",
        "0001-01-01T00:00:00.000+05:00",
        "9999-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.999-05:00",
        "2026-02-30T00:00:00.000Z",
        "2026-12-10T24:00:00.000Z",
        "2026-12-10T22:00:60.000Z",
        "2026/12/10T22:00:00.000Z",
        "2026-12-10T22:00:00.000000000000Z",
        "not a date",
        "",
    ]
)
TEXTS = st.text(max_size=8) | st.sampled_from(
    ['"},{"type":"opportunity","id":1', '}],"links":{', "\\", "\\ud800", "\x00", "a\nb", "\u2028", "😀", '"id":1.5']
)
NUMBERS = (
    st.sampled_from([0, -1, 1, 10.0, 10.5, -0.0, 1e300, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30]) | st.integers()
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | ODD_INSTANTS | PLAIN_INSTANTS
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS | st.sampled_from(["data", "id", "type"]), inner, max_size=3)
    ),
    max_leaves=6,
)
USUAL = {
    "amount": st.integers(0, 10**6),
    "probability": st.integers(0, 100),
    "name": TEXTS,
    "nextStep": TEXTS,
    "tags": st.lists(TEXTS, max_size=3),
    "closeDate": PLAIN_INSTANTS,
    "updatedAt": PLAIN_INSTANTS,
    "custom1": TEXTS,
    "custom77": TEXTS,
    "healthScore": st.integers(0, 100),
    "healthCategory": TEXTS,
    "score": st.floats(0, 1),
    "watched": st.booleans(),
    "externalUpdatedAt": ODD_INSTANTS,
    "owner_id": st.integers(0, 5),
}


def sometimes(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw the usual most of the time, else nothing or anything."""
    return st.one_of(usual, usual, usual, usual, st.none(), ANYTHING)


def identifiers(kind: str) -> st.SearchStrategy[Any]:
    """Draw relationship objects, most of them as usual."""
    usual = st.fixed_dictionaries({"data": st.fixed_dictionaries({"type": st.just(kind), "id": st.integers(1, 9)})})
    odd = st.sampled_from(
        [
            {"data": None},
            {},
            {"links": {"related": "x"}},
            {"data": {"type": "plugin", "id": 3}},
            {"data": {"type": kind, "id": "3"}},
            {"data": {"type": kind, "id": 0}},
            {"data": {"type": kind}},
            {"data": {}},
            {"data": [{"type": kind, "id": 3}]},
            {"data": {"type": kind, "id": 3, "meta": {"x": 1.5}}, "meta": {"n": 2.5}},
            [],
            "x",
        ]
    )
    return st.one_of(usual, usual, usual, usual, st.none(), odd, ANYTHING)


RELATIONSHIPS = st.fixed_dictionaries(
    {},
    optional={
        "account": identifiers("account"),
        "owner": identifiers("user"),
        "opportunityStage": identifiers("opportunityStage"),
        "stage": identifiers("opportunityStage"),
        "prospects": ANYTHING,
        "assignedUsers": st.just({"data": [{"type": "user", "id": 1}]}) | ANYTHING,
    },
)
META = st.fixed_dictionaries(
    {},
    optional={
        "canWrite": sometimes(st.booleans()),
        "canDelete": st.booleans(),
        "dataConnections": ANYTHING,
        "x": ANYTHING,
    },
)
RECORDS = st.fixed_dictionaries(
    {
        "type": st.just("opportunity"),
        "id": st.one_of(
            *[st.integers(1, 10**6)] * 6, st.sampled_from(["88", "088", 0, -1, 1.0, True, None, 2**63, 10**30])
        ),
        "attributes": st.one_of(
            *[st.fixed_dictionaries({}, optional={name: sometimes(usual) for name, usual in USUAL.items()})] * 8,
            st.dictionaries(TEXTS, ANYTHING, max_size=2),
            ANYTHING,
        ),
    },
    optional={
        "relationships": st.one_of(*[RELATIONSHIPS] * 6, ANYTHING),
        "meta": META | ANYTHING,
        "links": ANYTHING,
        "x": ANYTHING,
    },
)
UNUSUAL_RECORDS = st.one_of(
    *[RECORDS] * 12,
    ANYTHING,
    RECORDS.map(lambda entry: {**entry, "type": "prospect"}),
    RECORDS.map(lambda entry: {key: entry[key] for key in reversed(entry)}),
)


@st.composite
def pages(draw: st.DrawFn) -> list[bytes]:
    """Draw the bodies of one to three pages."""
    bodies = []
    for _ in range(draw(st.integers(1, 3))):
        records = draw(st.lists(draw(st.sampled_from([RECORDS, RECORDS, UNUSUAL_RECORDS])), max_size=8))
        document: dict[str, Any] = {"data": records} | draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "included": st.just([{"type": "user", "id": 7, "attributes": {"name": "Sam Lee"}}]),
                    "links": st.just({"next": 'https://api.example/}],"meta":{'}),
                    "meta": st.just({"count": 3}),
                },
            )
        )
        separators, indent = draw(st.sampled_from([((",", ":"), None), ((", ", ": "), None), ((",", ": "), 1)]))
        text = json.dumps(document, separators=separators, indent=indent, ensure_ascii=draw(st.booleans()))
        bodies.append(text.encode("utf-8", "surrogatepass"))
    return bodies


# Every kind, metadata included, and not the other 180.
COLUMNS = [
    *("amount", "probability", "name", "next_step", "tags", "close_date", "updated_at", "external_updated_at"),
    *("custom1", "custom77", "custom78", "account_id", "owner_id", "stage_id", "can_write", "can_delete"),
    "data_connections",
]


def outcome(load: Any, *arguments: Any) -> Any:
    """Return the result, or the text of the refusal."""
    try:
        return load(*arguments)
    except DocumentError as problem:
        return str(problem)


def assert_same_outcome(bodies: list[bytes]) -> None:
    """Load both ways and compare results or refusals."""
    # All pages in one block, each in one of its own, and in one with a page that the fast way refuses.
    for block_bytes, more in ((BLOCK_BYTES, []), (1, []), (BLOCK_BYTES, [body_of([record(77, amount="5")])])):
        expected = outcome(load_slowly, [*bodies, *more], COLUMNS)
        found = outcome(collect, [*bodies, *more], COLUMNS, block_bytes)
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected
        else:
            assert_same(found, expected)


@given(pages())
@example([b'{"data":[null,0]}'])
@example([b'{"data":[{"type":"opportunity","id":1,"attributes":{"":null}}]}'])
@settings(max_examples=100, deadline=None)
def test_collect__any_document_as_the_slow_decoder(bodies: list[bytes]) -> None:
    """Whatever a document holds, values, marks, records set aside and unknown names are those of the slow decoder."""
    assert_same_outcome(bodies)


@pytest.mark.nightly
@given(pages())
@settings(max_examples=10_000, deadline=None)
def test_collect__very_many_documents_as_the_slow_decoder(bodies: list[bytes]) -> None:
    """The same for many more documents."""
    assert_same_outcome(bodies)


@given(pages(), st.data())
@settings(max_examples=60, deadline=None)
def test_collect__any_damaged_bytes_as_the_slow_decoder(bodies: list[bytes], data: st.DataObject) -> None:
    """A page with bytes changed, cut or put in is refused or read exactly as slowly."""
    body = bytearray(bodies[0])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(0, len(body) - 1)))
        new = data.draw(
            st.sampled_from(
                [
                    b"",
                    b'"',
                    b"}",
                    b"{",
                    b"]",
                    b"[",
                    b",",
                    b"\\",
                    b"\n",
                    b"\x00",
                    b"\xff",
                    b"NaN",
                    b"1e999",
                    b'"amount":1,',
                ]
            )
        )
        body[place : place + data.draw(st.integers(0, 2))] = new
    assert_same_outcome([bytes(body), *bodies[1:]])


# --- forms one by one -----------------------------------------------------------------------------------------------

MANY = [record(number) for number in range(1, 21)]


def with_text(old: str, new: str, entries: list[Any] = MANY) -> bytes:
    """Write a page and put other text in one place."""
    text = body_of(entries)
    assert old.encode() in text
    return text.replace(old.encode(), new.encode(), 1)


ODD_PAGES = {
    "a float in an integer column": body_of([*MANY, record(30, amount=10.5)]),
    "a whole float": body_of([*MANY, record(30, amount=10.0)]),
    "an exponent": with_text('"amount":5000', '"amount":5e3'),
    "a number beyond 64 bits": body_of([*MANY, record(30, amount=2**63)]),
    "a number in a text column": body_of([*MANY, record(30, custom1=17)]),
    "text in an integer column": body_of([*MANY, record(30, amount="5000")]),
    "an object in a text column": body_of([*MANY, record(30, name={"a": [1]})]),
    "a custom field filled in one record": body_of([*MANY, record(30, custom2="x")]),
    "a number where all else is null": body_of([*MANY, record(30, custom2=5)]),
    "a null among tags": body_of([*MANY, record(30, tags=["a", None])]),
    "a number among tags": body_of([*MANY, record(30, tags=["a", 5])]),
    "a text id": body_of([*MANY, record(30) | {"id": "30"}]),
    "an id of 0": body_of([*MANY, record(30) | {"id": 0}]),
    "an owner with an id of 0": with_text('{"type":"user","id":7}', '{"type":"user","id":0}'),
    "no id": body_of([*MANY, record(30) | {"id": None}]),
    "a number beyond 64 bits in meta": body_of([*MANY, record(30) | {"meta": {"x": 2**63}}]),
    "an instant with an offset": body_of([*MANY, record(30, closeDate="2026-12-10T22:00:00.000+05:30")]),
    "an instant without a zone": body_of([*MANY, record(30, closeDate="2026-12-10T22:00:00.000")]),
    "a day": body_of([*MANY, record(30, closeDate="2026-12-10")]),
    "nanoseconds": body_of([*MANY, record(30, closeDate="2026-12-10T22:00:00.123456789Z")]),
    "the year 0": body_of([*MANY, record(30, closeDate="0000-12-10T22:00:00.000Z")]),
    "the 30th of February": body_of([*MANY, record(30, closeDate="2026-02-30T22:00:00.000Z")]),
    "an unknown attribute in one record": body_of([*MANY, record(30, healthScore=22)]),
    "an unknown attribute that is null": body_of([*MANY, record(30, healthScore=None)]),
    "an unknown attribute of two kinds": body_of([*MANY, record(30, healthScore=22), record(31, healthScore="x")]),
    "an unknown whole float": body_of([*MANY, record(30, score=22.0), record(31, score=0.5)]),
    "an unknown date, which Arrow would take for one": body_of([*MANY, record(30, day="2026-12-10")]),
    "an unknown list": body_of([*MANY, record(30, teams=[1, 2])]),
    "attributes that are a list": body_of([*MANY, record(30) | {"attributes": []}]),
    "a record that is no object": body_of([*MANY, 5]),
    "another type": body_of([*MANY, record(30) | {"type": "prospect"}]),
    "an owner that is a plugin": body_of(
        [*MANY, record(30) | {"relationships": {"owner": {"data": {"type": "plugin", "id": 1}}}}]
    ),
    "a relationship to many where one is meant": body_of(
        [*MANY, record(30) | {"relationships": {"owner": {"data": []}}}]
    ),
    "a pair of surrogates as escapes": with_text("Deal 5", "\\ud83d\\ude00"),
    "one half of such a pair": with_text("Deal 5", "\\ud83d"),
    "a byte order mark": b"\xef\xbb\xbf" + body_of(MANY),
    "text that looks like a seam": body_of([*MANY, record(30, name='x"},{"type":"opportunity","id":1')]),
    "no records": b'{"data": []}',
    "one record": body_of(MANY[:1]),
    "a null and more in a list that nobody reads": body_of([*MANY, record(30) | {"x": [[None, "a"], [None, 0.5]]}]),
    "a nested opportunity": body_of(
        [
            *MANY,
            record(30)
            | {
                "relationships": {
                    "parent": {"data": [{"type": "opportunity", "id": 1}, {"type": "opportunity", "id": 2}]}
                }
            },
        ]
    ),
    "links within the last record": body_of(
        [*MANY, record(30) | {"x": [{"a": [{}], "links": {}}], "links": {"self": []}}]
    ),
}
REFUSED_PAGES = {
    "errors": b'{"errors": [{"title": "Broken"}]}',
    "errors beside data": body_of(MANY, errors=[{"title": "Broken"}]),
    "errors beside empty data": b'{"data": [], "errors": [{"title": "Broken"}]}',
    "data twice": body_of(MANY)[:-1] + b',"data":[]}',
    "a key twice": with_text('"amount":5000', '"amount":5000,"amount":5000'),
    "an unknown key twice": with_text('"amount":5000', '"x":null,"x":null'),
    "a key twice, once escaped": with_text('"amount":5000', '"amount":5000,"\\u0061mount":null'),
    "the type twice": with_text('"attributes":', '"type":"opportunity","attributes":'),
    "a link twice": with_text('"self":', '"self":"x","self":'),
    "a link twice, beside a text that looks like an object": with_text('"self":', '"self":"x{","self":'),
    "a link twice, and none elsewhere": with_text('"self":', '"self":"x","self":').replace(
        b'{"related":"https://api.example/prospects"}', b"{}", 1
    ),
    "a link of a relationship twice": with_text('{"related":', '{"related":":","related":'),
    "a relationship twice": with_text('"owner":', '"owner":null,"owner":'),
    "the data of a relationship twice": with_text('{"data":{"type":"user"', '{"data":null,"data":{"type":"user"'),
    "the id of a target twice": with_text('"type":"user"', '"type":"user","id":7'),
    "a key twice in what is nested": with_text('"amount":5000', '"x":{"a":[{"b":1,"b":2}]}'),
    "a key twice in an odd value": with_text('"amount":5000', '"amount":{"b":1,"b":2}'),
    "a key twice beside the records": body_of(MANY, meta={"a": 1}).replace(b'"a":', b'"a":1,"a":'),
    "an included member twice": body_of(MANY, included=[{"type": "user", "id": 7}]).replace(
        b'"included":[{"type":"user"', b'"included":[{"type":"x","type":"user"'
    ),
    "NaN": with_text('"amount":5000', '"amount":NaN'),
    "NaN where nothing is read": with_text('"self":', '"x":NaN,"self":'),
    "Infinity deep where nothing is read": with_text('"self":', '"x":[{"y":[-Infinity]}],"self":'),
    "a number beyond all limits": with_text('"self":', '"x":1e999,"self":'),
    "more than 64 levels": with_text('"self":', '"x":' + "[" * 70 + "]" * 70 + ',"self":'),
    "a hundred thousand levels": with_text('"self":', '"x":' + "[" * 100_000 + "]" * 100_000 + ',"self":'),
    "levels with a break in each": with_text('"self":', '"x":' + "[[]," * 100_000 + "1" + "]" * 100_000 + ',"self":'),
    "a control character": with_text("Deal 5", "Deal\x01"),
    "a line break in a text": with_text("Deal 5", "Deal\n5"),
    "no UTF-8": body_of(MANY).replace(b"Deal 5", b"Deal\xff"),
    "a comma too many": with_text('"tags":["q4"]', '"tags":["q4",]'),
    "cut short": body_of(MANY)[:-40],
    "cut short in the records": body_of(MANY)[:900],
    "two documents": body_of(MANY) + body_of(MANY),
    "a leading zero": with_text('"amount":5000', '"amount":05000'),
}


@pytest.mark.parametrize("name", ODD_PAGES)
def test_collect__odd_forms_as_the_slow_decoder(name: str) -> None:
    """Every form that Arrow rejects, changes or overlooks gives what the slow decoder gives, alone or among others."""
    assert_same(collect([ODD_PAGES[name]]), load_slowly([ODD_PAGES[name]]))
    several = [body_of([record(number) for number in range(100, 130)]), ODD_PAGES[name], body_of([record(200)])]
    assert_same(collect(several), load_slowly(several))
    beside_odd = [ODD_PAGES[name], body_of([record(200, amount="5")])]
    assert_same(collect(beside_odd), load_slowly(beside_odd))


@pytest.mark.parametrize("name", REFUSED_PAGES)
def test_collect__refused_as_the_slow_decoder_refuses(name: str) -> None:
    """A document that is not valid is refused in the same words; none ever reads as fewer rows."""
    body = REFUSED_PAGES[name]
    with pytest.raises(DocumentError) as slow:
        parse_document(body)
    for bodies in ([body], [body_of(MANY), body, body_of(MANY)], [body_of([record(1, amount="5")]), body]):
        with pytest.raises(DocumentError) as fast:
            collect(bodies)
        assert str(fast.value) == str(slow.value)


RECORD_BY_RECORD = (
    "no id", "an id of 0", "attributes that are a list", "a record that is no object", "another type",
    "one half of such a pair", "a relationship to many where one is meant", "a number beyond 64 bits",
    "a number beyond 64 bits in meta",
)  # fmt: skip
REGULAR = (
    "an unknown attribute in one record", "an unknown attribute that is null", "a custom field filled in one record",
    "a pair of surrogates as escapes", "a byte order mark", "one record", "text that looks like a seam", "no records",
    "an unknown date, which Arrow would take for one", "an unknown attribute of two kinds", "an unknown whole float",
    "an unknown list", "a null and more in a list that nobody reads", "a nested opportunity",
    "links within the last record",
)  # fmt: skip


@pytest.mark.parametrize("name", ODD_PAGES)
def test_collect__only_what_is_odd_is_read_by_itself(name: str) -> None:
    """A record with a cell of another kind, no other; all of a page only where it holds what is no record."""
    found = collect([ODD_PAGES[name]])
    whole_page = found.regular + found.irregular
    assert found.irregular == (0 if name in REGULAR else whole_page if name in RECORD_BY_RECORD else 1)


def test_pages__with_and_without_ids_of_another_kind_become_columns_together() -> None:
    """Were they kept apart, short columns would take twice the time."""
    parser = PageParser(OPPORTUNITY, lambda resource: resource)
    pages = [
        parser.parse(body) for body in (body_of(MANY), body_of([record(200) | {"id": "200"}]), body_of([record(201)]))
    ]
    parsed = [page for page in pages if page is not None]
    assert [page.form.is_strict for page in parsed] == [True, False, True]
    assert all(page.form.has_names_of(parsed[0].form) for page in parsed)
    batch = decode_pages(parsed, OPPORTUNITY)
    assert batch is not None
    assert batch.rows == len(MANY) + 2


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5])
@pytest.mark.parametrize("links", [False, True])
def test_collect__nulls_and_missing_members_are_regular(share: float, links: bool) -> None:
    """However many relationships and attributes are null or absent, and whether set ones carry links."""
    draw = random.Random(4)
    records = [record(number) for number in range(1, 301)]
    for entry in records:
        if links:
            entry["relationships"]["account"]["links"] = {"related": "https://api.example/accounts/12"}
        if draw.random() < share:
            entry["relationships"]["account"] = draw.choice([None, {"data": None}, {}])
            del entry["attributes"][draw.choice(["amount", "closeDate", "tags"])]
    bodies = [body_of(records[start : start + 100]) for start in (0, 100, 200)]
    collected = collect(bodies)
    assert collected.irregular == 0
    assert_same(collected, load_slowly(bodies))


@pytest.mark.parametrize("later", [{}, {"attributes": None}, {"attributes": {}}, {"attributes": {"name": "Deal"}}])
def test_collect__attributes_of_records_set_aside_are_not_told(later: dict[str, Any]) -> None:
    """An unknown name that only a record of another type had is none of the load's, whatever later records lack."""
    bodies = [
        body_of([{"type": "plugin", "id": 1, "attributes": {"healthScore": 3}}]),
        body_of([{"type": "opportunity", "id": 2, **later}]),
    ]
    collected = collect(bodies)
    assert collected.unknown_attributes == ()
    assert (collected.regular, collected.irregular) == (1, 1)
    assert_same(collected, load_slowly(bodies))


def test_collect__rare_members_are_regular() -> None:
    """A member that a few of many records have is no reason to read all of them slowly."""
    records = [record(number) for number in range(1, 401)]
    records[217]["attributes"] |= {"healthScore": 22, "healthCategory": "RED", "notes": 'a "healthier": one'}
    records[318]["relationships"]["territory"] = {"data": {"type": "territory", "id": 4}}
    records[399]["attributes"]["healthScore"] = None
    bodies = [body_of(records[start : start + 100]) for start in (0, 100, 200, 300)]
    collected = collect(bodies)
    assert collected.irregular == 0
    assert_same(collected, load_slowly(bodies))


@pytest.mark.parametrize("block_bytes", [1, BLOCK_BYTES])
def test_collect__says_how_many_records_went_which_way(block_bytes: int) -> None:
    """A record with values of another kind counts once, whatever stands beside it."""
    odd = [record(number, amount="5", nextStep=5, closeDate="2026-12-10") for number in range(30, 34)]
    collected = collect(
        [body_of(MANY), body_of([*odd, *(record(number) for number in range(34, 40))])], None, block_bytes
    )
    assert (collected.regular, collected.irregular) == (26, 4)


@pytest.mark.parametrize("text", ['he said "yes": done', "a: b", ':{"', '":"', "\\", '{"x":{"y":1}}', "{"])
@pytest.mark.parametrize("place", ["name", "self", "related"])
def test_collect__text_with_the_marks_of_json_is_text(text: str, place: str) -> None:
    """Wherever it stands, and however much it looks like a member."""
    entry = record(30)
    {"name": entry["attributes"], "self": entry["links"], "related": entry["relationships"]["prospects"]["links"]}[
        place
    ][place] = text
    bodies = [body_of([*MANY, entry]), body_of([*MANY, entry]).replace(b'":', b'" : ')]
    for body in bodies:
        collected = collect([body])
        assert collected.irregular == 0
        assert_same(collected, load_slowly([body]))


def test_collect__notes_what_was_turned_or_left_out() -> None:
    """A number where text belongs stands as text, an owner that is a team is missing; both are said and kept."""
    team = record(2, custom1=17, nextStep=1.5)
    team["relationships"]["owner"]["data"]["type"] = "team"
    rows = (collected := collect([body_of([record(1), team])])).rows
    assert rows.frame["custom1"].tolist() == ["EMEA", "17"]
    assert rows.frame["owner_id"].tolist() == [7, pd.NA]
    assert rows.marks.original == {
        (1, "custom1"): 17, (1, "next_step"): 1.5, (1, "owner_id"): {"data": {"type": "team", "id": 7}},
    }  # fmt: skip
    assert rows.marks.locked == {(1, "owner_id"): "points to 'team', not to 'user'"}
    assert collected.notes == (
        "custom1: 1 numbers came where text belongs, and stand as text",
        "next_step: 1 numbers came where text belongs, and stand as text",
        "owner_id: 1 records point to something else; missing, and never written",
    )


def test_collect__every_block_stands_for_itself() -> None:
    """Custom fields that fill up later, unknown attributes that come and go, odd records early and late."""
    blocks = [
        [record(number, healthScore=number) for number in range(1, 11)],
        [record(number) for number in range(11, 21)],
        [record(number, custom2="late", day="2026-12-10") for number in range(21, 31)],
        [record(number, healthScore=None, day=None) for number in range(31, 41)],
        [record(number, amount=0.5 if number == 45 else 7) for number in range(41, 51)],
        [record(number, healthScore="x" if number == 55 else 1) for number in range(51, 61)],
    ]
    bodies = [body_of(block) for block in blocks]
    with frame_builder.Collector() as collector:
        for body in bodies:
            collector.add_body(body)
            assert collector.rows == 10 * (1 + bodies.index(body))
        assert_same(collector.finish(), load_slowly(bodies))


def test_decode__fields_that_are_asked_for_only() -> None:
    """With a sparse fieldset the frame and its marks hold the columns asked for."""
    bodies = [body_of([*MANY, record(30, amount=10.0, name=5)])]
    columns = ["name", "updated_at", "owner_id"]
    collected = collect(bodies, columns)
    assert list(collected.rows.frame.columns) == ["id", "name", "owner_id", "updated_at"]
    assert set(collected.rows.marks.original) == {(20, "name")}
    assert_same(collected, load_slowly(bodies, columns))


def test_decode__deep_records_never_reach_arrow() -> None:
    """A hundred thousand levels overflow the stack of Arrow's parser: it must not follow them."""
    program = (
        "from tests.test_page_parser import REFUSED_PAGES, collect\n"
        "for name in ('a hundred thousand levels', 'levels with a break in each'):\n"
        "    try:\n        collect([REFUSED_PAGES[name]])\n"
        "    except Exception as problem:\n        print(type(problem).__name__)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split()) == (0, ["DocumentError"] * 2), run.stderr[-500:]


@given(
    st.lists(st.none() | PLAIN_INSTANTS | ODD_INSTANTS | TEXTS.filter(lambda text: "\ud800" not in text), max_size=20)
)
@example(["2026-12-10T22:00:00.000Z", None, "2026-12-10T22:00:00.000Z"])
@settings(deadline=None)
def test_read_instants__as_one_by_one(texts: list[str | None]) -> None:
    """A canonical instant has the value that the slow decoder reads; anything else is odd."""
    stamps, odd = read_instants(pa.array(texts, type=pa.large_string()))
    values = stamps.cast(pa.int64()).to_pylist()
    for text, value, is_odd in zip(texts, values, odd, strict=True):
        try:
            expected, plain = INSTANTS.decode(text)
        except UnfitError:
            expected, plain = None, False
        assert bool(is_odd) == (not plain)
        assert is_odd or value == expected


def test_read_instants__of_a_slice() -> None:
    """An array that begins within its buffers is read at its own place."""
    texts = pa.array(["x", "2026-12-10T22:00:00.000Z", None], type=pa.large_string())[1:]
    stamps, odd = read_instants(texts)
    assert not odd.any()
    assert stamps.to_pandas().dt.year.iloc[0] == 2026
