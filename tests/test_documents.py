"""Reading JSON:API documents: whatever the bytes are, a document or the package's own error."""

from __future__ import annotations

import contextlib
import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.api import documents
from opp_pandas.api.documents import build_document, describe_errors, is_cut_short, link_target, parse_document
from opp_pandas.errors import ConfigurationError, DocumentError
from opp_pandas.resource import ACCOUNT, OPPORTUNITY, PROSPECT_ROLE
from rawserver import opportunity, page

WHOLE = json.dumps(page(1, 2, link="/x", count=2)).encode()


def nested(depth: int, opening: str, closing: str, inside: str = "1") -> bytes:
    return ('{"data": ' + opening * depth + inside + closing * depth + "}").encode()


BAD = {
    # nothing, or not JSON
    "empty": (b"", "empty"),
    "blank": (b" \r\n\t ", "empty"),
    "bom only": (b"\xef\xbb\xbf", "empty"),
    "html": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "html without doctype": (b"<html><h1>502</h1></html>", "web page"),
    "html after blanks": (b"\n\n  <HTML>", "web page"),
    "xml": (b'<?xml version="1.0"?><data/>', "web page or XML"),
    "plain text": (b"OK", "not JSON"),
    "yaml": (b"data:\n  - 1", "not JSON"),
    "csv": (b"id,name\n1,Acme", "not JSON"),
    "jsonp": (b'callback({"data": []})', "not JSON"),
    "xssi prefix": (b')]}\',\n{"data": []}', "not JSON"),
    "xssi loop": (b'while(1);{"data": []}', "not JSON"),
    "single quotes": (b"{'data': []}", "not JSON"),
    "unquoted key": (b"{data: []}", "not JSON"),
    "python": (b'{"data": None, "x": [1, 2, 3]}', "not JSON"),
    "comment": (b'{"data": [] /* none */, "meta": {}}', "not JSON"),
    "trailing comma": (b'{"data": [1, 2, ]}', "not JSON"),
    "two documents": (b'{"data": []}{"data": []}', "not JSON"),
    "two lines": (b'{"data": []}\n{"data": [], "meta": {}}', "not JSON"),
    "trailing text": (b'{"data": []} and more text', "not JSON"),
    "trailing brace": (b'{"data": []}}', "not JSON"),
    "leading zero": (b'{"data": [], "meta": {"count": 007, "more": 1}}', "not JSON"),
    "plus": (b'{"data": [], "meta": {"count": +7, "more": 1}}', "not JSON"),
    "hex": (b'{"data": [], "meta": {"count": 0x10, "more": 1}}', "not JSON"),
    "half number": (b'{"data": [], "meta": {"count": 1., "more": 1}}', "not JSON"),
    "bad escape": (b'{"data": [], "meta": {"name": "\\x41", "more": 1}}', "not JSON"),
    "bad unicode escape": (b'{"data": [], "meta": {"name": "\\u00g0", "more": 1}}', "not JSON"),
    "raw control": (b'{"data": [], "meta": {"name": "a\x01b", "more": 1}}', "not JSON"),
    "raw line break": (b'{"data": [], "meta": {"name": "a\nb", "more": 1}}', "not JSON"),
    "nul byte": (b'{"data": [], "meta": {"name": "a\x00b", "more": 1}}', "not JSON"),
    "nul first": (b'\x00{"data": []}', "UTF-16 or UTF-32"),
    "base64": (b"eyJkYXRhIjogW119", "not JSON"),
    "gzip left packed": (
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        "is compressed, and its Content-Encoding does not say so",
    ),
    "event stream": (b'data: {"data": []}\n\n', "not JSON"),
    "chunk sizes left in": (b'c\r\n{"data": []}\r\n0\r\n\r\n', "not JSON"),
    # cut short
    **{f"cut at {at}": (WHOLE[:at], "breaks off") for at in range(1, len(WHOLE), 53)},
    "cut in a string": (b'{"data": [{"name": "Acm', "breaks off"),
    "cut in an escape": (b'{"data": [{"name": "Acm\\u00', "breaks off"),
    "cut in a literal": (b'{"data": nul', "breaks off"),
    "cut in a number": (b'{"data": -', "breaks off"),
    "cut in a letter": (b'{"data": [{"name": "\xc3', "not UTF-8"),
    # letters
    "utf-16 with bom": ('{"data": []}'.encode("utf-16"), "UTF-16"),
    "utf-16 big-endian": ('{"data": []}'.encode("utf-16-be"), "UTF-16"),
    "utf-16 little-endian": ('{"data": []}'.encode("utf-16-le"), "UTF-16"),
    "utf-32": ('{"data": []}'.encode("utf-32"), "UTF-16 or UTF-32"),
    "latin-1": ('{"data": [], "meta": {"name": "Müller"}}'.encode("latin-1"), "not UTF-8"),
    "cp1252": ('{"data": [], "meta": {"name": "5 €"}}'.encode("cp1252"), "not UTF-8"),
    "overlong": (b'{"data": [], "meta": {"name": "\xc0\xaf"}}', "not UTF-8"),
    "raw surrogate": (b'{"data": [], "meta": {"name": "\xed\xa0\x80"}}', "not UTF-8"),
    "beyond unicode": (b'{"data": [], "meta": {"name": "\xf4\x90\x80\x80"}}', "not UTF-8"),
    "lone continuation": (b'{"data": [], "meta": {"name": "\x80"}}', "not UTF-8"),
    # numbers
    "nan": (b'{"data": [], "meta": {"amount": NaN}}', "NaN"),
    "infinity": (b'{"data": [], "meta": {"amount": Infinity}}', "Infinity"),
    "minus infinity": (b'{"data": [], "meta": {"amount": -Infinity}}', "Infinity"),
    "1e400": (b'{"data": [], "meta": {"amount": 1e400}}', "beyond all limits"),
    "-1e400": (b'{"data": [], "meta": {"amount": -1e400}}', "beyond all limits"),
    "5,000 digits": (b'{"data": [], "meta": {"amount": ' + b"9" * 5_000 + b"}}", "5,000 digits"),
    "500 digits": (b'{"data": [], "meta": {"amount": ' + b"9" * 500 + b"}}", "500 digits"),
    # depth
    "100,000 brackets": (b"[" * 100_000, "nests deeper|breaks off"),
    "100,000 objects": (b'{"a":' * 100_000, "nests deeper|breaks off"),
    "3,000 lists": (nested(3_000, "[", "]"), "nests deeper"),
    "3,000 objects": (nested(3_000, '{"a":', "}"), "nests deeper"),
    "65 lists": (nested(65, "[", "]"), "nests deeper"),
    "65 objects": (nested(65, '{"a":', "}"), "nests deeper"),
    # doubled keys
    "data twice": (b'{"data": [], "data": [1]}', "'data' twice"),
    "id twice": (b'{"data": [{"id": 1, "id": 2}]}', "'id' twice"),
    "attribute twice": (b'{"data": {"attributes": {"amount": 1, "amount": 2}}}', "'amount' twice"),
    "escaped twice": (b'{"data": {"attributes": {"amount": 1, "\\u0061mount": 2}}}', "'amount' twice"),
    # JSON, but no document
    "null": (b"null", "not JSON|not null"),
    "true": (b"true", "not JSON|true or false"),
    "number": (b"17", "not JSON|a number"),
    "text": (b'"data"', "not JSON|not text"),
    "list": (b"[]", "not a list"),
    "list of rows": (json.dumps([opportunity()]).encode(), "not a list"),
    "empty object": (b"{}", "neither data nor meta"),
    "bare row": (json.dumps(opportunity()).encode(), "neither data nor meta"),
    "other api": (b'{"results": [], "count": 0}', "neither data nor meta"),
    "Data": (b'{"Data": []}', "neither data nor meta"),
    "jsonapi only": (b'{"jsonapi": {"version": "1.0"}}', "neither data nor meta"),
    "meta as list": (b'{"meta": []}', "neither data nor meta"),
    "data as text": (b'{"data": "none"}', "data must be an object, a list or null, not text"),
    "data as number": (b'{"data": 0}', "not a number"),
    "data as false": (b'{"data": false}', "not true or false"),
    "links as text": (b'{"data": [], "links": "/next"}', "links must be an object or null"),
    "links as list": (b'{"data": [], "links": ["/next"]}', "links must be an object or null"),
    "meta as text": (b'{"data": [], "meta": "3"}', "meta must be an object or null"),
    "included as object": (b'{"data": [], "included": {}}', "included must be a list or null"),
    "included as text": (b'{"data": [], "included": "user"}', "included must be a list or null"),
    # errors under a status that says success
    "errors": (b'{"errors": [{"title": "Boom", "detail": "It broke."}]}', "reported an error.*Boom: It broke"),
    "errors and data": (b'{"data": [], "errors": [{"title": "Boom"}]}', "reported an error.*Boom"),
    "errors empty": (b'{"errors": []}', "reported an error.*without words"),
    "errors null": (b'{"errors": null}', "reported an error"),
    "errors as text": (b'{"data": [], "errors": "Boom"}', "reported an error"),
    "errors as object": (b'{"data": [], "errors": {"title": "Boom"}}', "reported an error.*Boom"),
    "gateway error": (b'{"error": "Invalid JWT token.", "description": "x"}', "neither data nor meta"),
}


def test_corpus__is_large_enough() -> None:
    """The promise is 98 bad documents on read."""
    assert len(BAD) >= 98


@pytest.mark.parametrize(("body", "words"), BAD.values(), ids=BAD)
def test_parse_document__refuses(body: bytes, words: str) -> None:
    """Each bad document raises DocumentError with the reason and the request; nothing else comes out."""
    with pytest.raises(DocumentError, match=f"(?s){words}") as caught:
        parse_document(body, method="GET", url="https://a.example/x", request_id="r-1")
    error = caught.value
    assert str(error).endswith("[GET https://a.example/x] (request r-1)")
    assert error.__cause__ is None
    assert error.__context__ is None, "the context of a JSON error holds the whole document"
    assert len(error.message) < 700
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # our own


GOOD = {
    "empty collection": b'{"data": []}',
    "null": b'{"data": null}',
    "only meta": b'{"meta": {"count": 3}}',
    "nulls": b'{"data": [], "links": null, "meta": null, "included": null}',
    "empty errors beside data": b'{"data": [], "errors": []}',
    "bom": b'\xef\xbb\xbf{"data": []}',
    "blanks around": b' \n{"data": []}\r\n ',
    "list of nulls": b'{"data": [null, 3, "x"]}',
    "unknown members": b'{"data": [], "jsonapi": {"version": "1.0"}, "x-new": [1]}',
    "64 levels": nested(62, "[", "]"),
    "prototype": b'{"data": {"__proto__": {"a": 1}, "constructor": 2}}',
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_parse_document__takes(body: bytes) -> None:
    """Unusual but right documents are read as they are."""
    assert parse_document(body) == json.loads(body.decode("utf-8-sig"))


@pytest.mark.parametrize(
    "number", ["0", "-0", "9007199254740993", "9223372036854775807", "-9223372036854775808", "9" * 400, "10.0", "1e2"]
)
def test_parse_document__keeps_numbers(number: str) -> None:
    """Whole numbers stay exact at any size, and 10.0 stays no whole number."""
    value = parse_document(f'{{"data": {{"amount": {number}}}}}'.encode())["data"]["amount"]
    if number.lstrip("-").isdigit():
        assert isinstance(value, int)
        assert value == int(number)
    else:
        assert isinstance(value, float)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\ud83d", "\ufffd"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"a\uD83Db", "a\ufffdb"),
        (r"\u0000", "\x00"),
        (r"\u0065\u0301", "e\u0301"),
        (r"\r\n", "\r\n"),
    ],
)
def test_parse_document__handles_half_characters(sent: str, read: str) -> None:
    """Half of a character becomes U+FFFD wherever it stands; whole ones stay, unnormalised."""
    body = f'{{"data": {{"name": "{sent}", "tags": ["{sent}"], "k{sent}": 1}}}}'.encode()
    assert parse_document(body)["data"] == {"name": read, "tags": [read], f"k{read}": 1}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON_VALUES)
def test_parse_document__equals_plain_json(value: Any) -> None:
    """For every valid value the result is what the standard library reads."""
    body = json.dumps({"data": {"x": value}}).encode()
    if "\\ud" not in body.decode():
        assert parse_document(body) == {"data": {"x": value}}


@settings(deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(alphabet='{}[]":,0123456789.eE-+ntrufalse\\ \ud800\n').map(lambda text: text.encode("utf-8", "replace"))
)
def test_parse_document__raises_only_its_own_error(body: bytes) -> None:
    """No bytes bring out any other exception."""
    with contextlib.suppress(DocumentError):
        assert isinstance(parse_document(body), dict)


@pytest.mark.nightly
@settings(deadline=None, max_examples=10_000)
@given(st.binary(max_size=300), st.integers(0, len(WHOLE)))
def test_parse_document__raises_only_its_own_error__nightly(noise: bytes, at: int) -> None:
    """Noise put anywhere into a good document is read or refused, ten thousand times."""
    with contextlib.suppress(DocumentError):
        assert isinstance(parse_document(WHOLE[:at] + noise + WHOLE[at:]), dict)


@pytest.mark.parametrize("at", range(1, len(WHOLE), 37))
def test_is_cut_short__tells_a_beginning(at: int) -> None:
    """Every beginning of a document is one."""
    assert is_cut_short(WHOLE[:at])


@pytest.mark.parametrize(
    "body", [WHOLE, b"", b"<html>", b'{"data": [1 2 3 4 5 6 7]}', b"\xff", b'{"a": "\xff"}', b"[" * 100_000, b"null"]
)
def test_is_cut_short__is_false_for_the_rest(body: bytes) -> None:
    """Whole, foreign and damaged bodies are not worth asking for again."""
    assert not is_cut_short(body)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("/x", "/x"),
        (None, None),
        ("", None),
        ({"href": "/x"}, "/x"),
        ({"href": None}, None),
        ({"href": "/x", "meta": {}}, "/x"),
    ],
)
def test_link_target__reads_both_forms(link: Any, target: str | None) -> None:
    """A link is text or an object with href; null and empty mean none."""
    assert link_target(link) == target


@pytest.mark.parametrize("link", [1, True, [], ["/x"], {}, {"url": "/x"}, {"href": 1}, {"href": {"href": "/x"}}])
def test_link_target__refuses_odd_links(link: Any) -> None:
    """A link of another kind is an error: taken for none, rows would be missing silently."""
    with pytest.raises(DocumentError, match="not a URL") as caught:
        link_target(link)
    assert caught.value.pointer == "/links/next"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"errors": [{"title": "A", "detail": "b."}]}, "A: b"),
        ({"errors": [{"id": "onlyId"}]}, "onlyId"),
        ({"errors": [{"title": "Media", "details": "spelt otherwise."}]}, "Media: spelt otherwise"),
        ({"errors": [{"title": "A", "source": {"parameter": "filter[x]"}}]}, "A (filter[x])"),
        ({"errors": [{"title": "A", "source": "odd"}]}, "A"),
        ({"errors": [{"title": "A"}] * 7}, "A; A; A; A; A; and 2 more"),
        ({"errors": [None, "x", {"title": "A"}]}, "x; A"),
        ({"errors": {"title": "A"}}, "A"),
        ({"error": "Invalid JWT token.", "description": "Not decoded."}, "Invalid JWT token: Not decoded"),
        ({"error": "invalid_grant", "error_description": "Expired."}, "invalid_grant: Expired"),
        ({"error": "plain"}, "plain"),
        ({"error": 5}, "5"),
        ({"errors": "text"}, "text"),
        ({"message": "Name is wrong."}, "Name is wrong"),
        ({"error": "Unprocessable", "message": "Name is wrong"}, "Unprocessable: Name is wrong"),
        ({"error": {"code": 7, "message": "Name is wrong"}}, "7: Name is wrong"),
        ({"errors": [{"message": "Name is wrong"}]}, "Name is wrong"),
        (
            {"errors": {"name": ["is blank", "is short"], "amount": "is odd"}},
            "name: is blank, is short; amount: is odd",
        ),
        ({}, ""),
        (None, ""),
        ([], ""),
        ({"errors": [{"title": "\x1b[31mred\u202e"}]}, r"\x1b[31mred\u202e"),
        ({"errors": [{"title": 5, "detail": ["x"]}]}, "5: ['x']"),
    ],
)
def test_describe_errors__makes_one_printable_line(value: Any, text: str) -> None:
    """The service's words come in one line, whatever their shape, and cannot move a terminal's cursor."""
    assert describe_errors(documents.error_objects(value)) == text


def test_describe_errors__is_short() -> None:
    """A megabyte of detail becomes 500 characters."""
    assert len(describe_errors(({"title": "A", "detail": "x" * 10**6},))) == 500


def test_build_document__writes_utf8_and_exact_numbers() -> None:
    """Letters are sent as they are, numbers with every digit, missing as null."""
    name, amount = "Müller \U0001f600", 2**53 + 1
    body = build_document(OPPORTUNITY, None, {"name": name, "amount": amount, "tags": None}, None).decode()
    assert body.startswith('{"data":{"type":"opportunity","attributes":{"name":"Müller \U0001f600",')
    assert body.endswith('"amount":9007199254740993,"tags":null}}}')


def test_build_document__of_other_resources() -> None:
    """The types of relationships come from the table."""
    role = build_document(
        PROSPECT_ROLE, None, {"role": "Champion", "primary": True}, {"opportunity": 88, "prospect": 901}
    )
    assert json.loads(role)["data"]["relationships"]["prospect"] == {"data": {"type": "prospect", "id": 901}}
    owner = build_document(ACCOUNT, 12, None, {"owner": None})
    assert json.loads(owner) == {"data": {"type": "account", "id": 12, "relationships": {"owner": {"data": None}}}}


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_build_document__is_read_back(name: str, amount: int, tags: list[str]) -> None:
    """What is built is what is read."""
    attributes = {"name": name, "amount": amount, "tags": tags}
    if len(str(abs(amount))) <= documents.MAX_DIGITS:
        assert parse_document(build_document(OPPORTUNITY, 1, attributes, None))["data"]["attributes"] == attributes


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"x", 1 + 2j])
def test_build_document__names_what_is_no_json(value: Any) -> None:
    """The attribute that cannot be sent is named, without its value."""
    with pytest.raises(ConfigurationError, match="'nextStep' cannot be sent as JSON"):
        build_document(OPPORTUNITY, 1, {"name": "fine", "nextStep": value}, None)
