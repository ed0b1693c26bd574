"""Records written by one template give what the slow decoder gives, without being parsed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.api.fastpath import _stretch, cut_page
from opp_pandas.api.templates import Template, find_members
from opp_pandas.api.uniform import UniformDecoder
from opp_pandas.resource import OPPORTUNITY
from tests.slowload import assert_same, collect, load_slowly
from tests.test_fastpath import ANYTHING, COMPACT, ODD_INSTANTS, ODD_PAGES, PLAIN_INSTANTS, TEXTS, body_of, record

OPENER = b'{"type":"opportunity",'
NESTED = ("a nested opportunity", "a record that is no object", "another type", "no records", "no id", "a text id")


def batch_of(bodies: list[bytes]) -> Any:
    """Decode pages by their template alone; None where that cannot be."""
    cuts = [cut_page(body, OPPORTUNITY) for body in bodies]
    stretch = _stretch(cuts, 0)  # type: ignore[arg-type]  # the pages are usual ones
    return None if stretch is None else UniformDecoder(OPPORTUNITY).decode(stretch)


# --- any values in records of one build -------------------------------------------------------------------------------


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any] = ANYTHING) -> st.SearchStrategy[Any]:
    """Draw the usual nearly always."""
    return st.one_of(*[usual] * 12, st.none(), odd)


def pointers(kind: str) -> st.SearchStrategy[Any]:
    """Draw resource identifiers, some of them of another kind."""
    usual = st.fixed_dictionaries({"type": st.just(kind), "id": st.integers(1, 10**12)})
    return mostly(usual, st.sampled_from([{"type": "plugin", "id": 3}, {"type": kind, "id": "3"}, {"id": 0}, [], 7]))


UNIFORM = st.fixed_dictionaries(
    {
        "type": st.just("opportunity"),
        "id": mostly(st.integers(1, 10**6), st.sampled_from([0, -5, "88", 2**63, 1.0])),
        "attributes": st.fixed_dictionaries(
            {
                "amount": mostly(
                    st.integers(0, 10**6), st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                ),
                "closeDate": mostly(PLAIN_INSTANTS, ODD_INSTANTS),
                "name": mostly(TEXTS),
                "tags": mostly(st.lists(TEXTS, max_size=3)),
                "custom1": st.none() | TEXTS,
                "custom77": mostly(st.none()),
                "healthScore": mostly(st.integers(0, 100)),
                "watched": mostly(st.booleans()),
            }
        ),
        "relationships": st.fixed_dictionaries(
            {
                "account": st.fixed_dictionaries({"data": pointers("account")}),
                "owner": st.fixed_dictionaries({"data": pointers("user")}),
                "prospects": st.fixed_dictionaries({"links": st.fixed_dictionaries({"related": mostly(TEXTS)})}),
                "parents": st.fixed_dictionaries({"data": mostly(st.just([]))}),
                "updater": mostly(st.fixed_dictionaries({"data": st.none()})),
            }
        ),
        "meta": st.fixed_dictionaries({"canWrite": mostly(st.booleans()), "x": mostly(TEXTS)}),
        "links": st.fixed_dictionaries({"self": mostly(TEXTS)}),
    }
)


def in_order(entry: dict[str, Any]) -> dict[str, Any]:
    """Put the members into one order, as a service does."""
    names = ("type", "id", "attributes", "relationships", "meta", "links")
    return {name: dict(sorted(entry[name].items())) if isinstance(entry[name], dict) else entry[name] for name in names}


UNIFORM_COLUMNS = [
    *("amount", "close_date", "name", "tags", "custom1", "custom77", "custom78"),
    *("account_id", "owner_id", "updater_id", "can_write", "updated_at"),
]


@st.composite
def uniform_pages(draw: st.DrawFn) -> list[bytes]:
    """Draw the bodies of one to three pages."""
    separators = draw(st.sampled_from([COMPACT, COMPACT, (", ", ": ")]))
    ascii_only = draw(st.booleans())
    bodies = []
    for _ in range(draw(st.integers(1, 3))):
        records = draw(st.lists(UNIFORM, min_size=1, max_size=10))
        document = {"data": [in_order(entry) for entry in records], "links": {"next": None}}
        text = json.dumps(document, separators=separators, ensure_ascii=ascii_only)
        bodies.append(text.encode("utf-8", "surrogatepass"))
    return bodies


@given(uniform_pages())
@settings(max_examples=40, deadline=None)
def test_collect__any_values_as_the_slow_decoder(bodies: list[bytes]) -> None:
    """Whatever the values are, in one block or in blocks that teach each other."""
    expected = load_slowly(bodies, UNIFORM_COLUMNS)
    for block_bytes in (10**7, 1):
        assert_same(collect(bodies, UNIFORM_COLUMNS, block_bytes), expected)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_collect__any_damaged_record_as_the_slow_decoder(data: st.DataObject) -> None:
    """A byte that is changed, cut or put in is never overlooked."""
    from tests.test_fastpath import assert_same_outcome

    body = bytearray(body_of([record(number) for number in range(1, 13)]))
    place = data.draw(st.integers(0, len(body) - 1))
    new = data.draw(
        st.sampled_from([b"", b'"', b"}", b"{", b"]", b"[", b",", b":", b"\\", b" ", b"n", b"0", b"-", b"\x01"])
    )
    body[place : place + data.draw(st.integers(0, 2))] = new
    assert_same_outcome([bytes(body)])


# --- what is read this way, and what is not ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ODD_PAGES if name not in NESTED])
def test_decode__an_odd_record_leaves_the_others_unparsed(name: str) -> None:
    """One record in twenty that is written otherwise does not keep its page from being read by the template."""
    batch = batch_of([ODD_PAGES[name]])
    assert batch is not None
    assert batch.rows == len(load_slowly([ODD_PAGES[name]])["frame"])


def test_decode__records_without_a_common_build_are_left_to_the_parser() -> None:
    """Where every record has other members there is no template."""
    records = [record(number) | {f"x{number}": 1} for number in range(1, 20)]
    assert batch_of([body_of(records)]) is None


def test_decode__a_column_that_fills_up_is_read() -> None:
    """What was null in the first pages, and is in a part of the later ones, arrives; as do names without a value."""
    blocks = [
        [record(number, healthScore=None) for number in range(1, 41)],
        [record(number, healthScore=None, custom2="late" if number == 60 else None) for number in range(41, 81)],
        [record(number, healthScore=number, custom2="x") for number in range(81, 121)],
        [record(number, healthScore=None) for number in range(121, 161)],
    ]
    bodies = [body_of(block) for block in blocks]
    assert_same(collect(bodies, block_bytes=1), load_slowly(bodies))


def test_template__of_a_record() -> None:
    """The literals and the names of what stands between them."""
    text = json.dumps({key: value for key, value in record().items() if key != "type"}, separators=COMPACT)[1:].encode()
    template = Template.of(text, OPENER, b"," + OPENER)
    assert template is not None
    assert template.paths[:3] == (("id",), ("attributes", "amount"), ("attributes", "closeDate"))
    assert template.paths[-1] == ("links", "self")
    assert template.literals[:2] == (b'"id":', b',"attributes":{"amount":')
    assert template.literals[-1] == b"}}," + OPENER
    narrow = template.with_nulls([path[-1] == "custom2" for path in template.paths])
    assert (len(narrow.paths), narrow.nulls) == (len(template.paths) - 1, (("attributes", "custom2"),))
    assert b',"custom2":null},"relationships":' in b"".join(narrow.literals)


@pytest.mark.parametrize(
    "text",
    [
        '"id":1,"attributes":{"a":1,"a":2}}',
        '"id":1,"attributes":{"\\u0061":1}}',
        '"id":1,"x":[{"a":1}]}',
        '"attributes":{"a":1},"id":1}',
        '"id":1,"attributes":{"type":"x","a":1}}',
        '"id":1,"attributes":{"a":1}',
        "",
    ],
)
def test_template__none_of_an_unusual_record(text: str) -> None:
    """Doubled or escaped names, objects in lists, an id elsewhere, a type within, no JSON."""
    assert Template.of(text.encode(), OPENER, b"," + OPENER) is None


def test_find_members__looks_behind_names_only() -> None:
    """Colons in texts, escaped quotation marks and the types of what is pointed to are no members."""
    text = b'{"type":"opportunity","id":1,"a":"x\\":y","b":{"type":"user","id":7},"c":"10:30"}'
    members = find_members(np.frombuffer(text, dtype=np.uint8), OPENER)
    found = [text[:place].rpartition(b",")[2].rpartition(b"{")[2] for place in members.places.tolist()]
    assert found == [b'"id":', b'"a":', b'"b":', b'"c":']
    assert (members.records, members.firsts.tolist(), members.starts.tolist()) == (1, [0], [len(OPENER)])
