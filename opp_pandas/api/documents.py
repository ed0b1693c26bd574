"""JSON:API documents: reading them strictly, building them, and what an answer is.

Nothing here touches the network. Whatever the bytes are, the only exception
that comes out of reading is `DocumentError` (promises R11 and S5).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from opp_pandas.errors import ConfigurationError, DocumentError, named, printable
from opp_pandas.kinds import INT64_MAX, UnfitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from opp_pandas.resource import Resource

MEDIA_TYPE = "application/vnd.api+json"
MAX_DEPTH = 64
MAX_DIGITS = 400
BOM = b"\xef\xbb\xbf"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class Answer:
    """What the service answered to one operation.

    Parameters
    ----------
    document : dict or None
        The JSON:API document; None where the answer has no body (204).
    status : int
        HTTP status.
    attempts : int
        Requests made for it, repetitions included.
    elapsed_s : float
        Time taken, waits included [s].
    request_id : str or None
        The service's own id of the request, where it sent one.
    date : Timestamp or None
        The service's clock when it answered (the ``Date`` header), UTC.
    """

    document: dict[str, Any] | None = field(repr=False)
    status: int
    attempts: int
    elapsed_s: float
    request_id: str | None = None
    date: pd.Timestamp | None = None

    @property
    def data(self) -> Any:
        """The document's ``data``; None where there is no document."""
        return None if self.document is None else self.document.get("data")


class _RefusedError(Exception):
    """Internal: what the JSON scanner's hooks refuse."""


def parse_document(body: bytes, *, method: str = "", url: str = "", request_id: str | None = None) -> dict[str, Any]:
    """Parse the body of an answer and check that it is a JSON:API document with ``data`` or ``meta``.

    Integers stay exact, whatever their size up to 400 digits. A lone surrogate
    escape, which is no character, becomes U+FFFD. A byte order mark is dropped.
    Everything else is a DocumentError that names the request: no JSON, not UTF-8, no object,
    doubled keys, NaN or Infinity, too deep, neither ``data`` nor ``meta``, or ``errors``
    under a status that says success.
    """
    document, problem, pointer = _parsed(body)
    if document is None:
        raise DocumentError(problem, pointer=pointer, method=method, url=url, request_id=request_id)
    return document


def parse_json(body: bytes, *, method: str = "", url: str = "") -> Any:
    """Parse a body that is JSON but no JSON:API document, such as a token answer, as strictly."""
    value, problem = _decoded(body)
    if problem:
        raise DocumentError(problem, method=method, url=url)
    return value


def _parsed(body: bytes) -> tuple[dict[str, Any] | None, str, str]:
    """Return the document, or None with the problem and its pointer."""
    value, problem = _decoded(body)
    if problem:
        return None, problem, ""
    if not isinstance(value, dict):
        return None, f"the answer is JSON but no JSON:API document: an object was expected, not {_kind(value)}", ""
    if value.get("errors") or ("errors" in value and "data" not in value):
        words = describe_errors(error_objects(value)) or "without words"
        return None, f"the service reported an error under a status that says success: {words}", "/errors"
    if "data" not in value and not isinstance(value.get("meta"), dict):
        return None, "the answer is JSON but no JSON:API document: it has neither data nor meta", ""
    data = value.get("data")
    if not isinstance(data, dict | list | None):
        return None, f"data must be an object, a list or null, not {_kind(data)}", "/data"
    for name, kinds in (("links", dict), ("meta", dict), ("included", list)):
        member = value.get(name)
        if member is not None and not isinstance(member, kinds):
            return None, f"{name} must be {_kind(kinds())} or null, not {_kind(member)}", f"/{name}"
    return value, "", ""


def _decoded(body: bytes) -> tuple[Any, str]:
    """Return the JSON value, or None and the problem in words."""
    text, problem = _text(body)
    if problem:
        return None, problem
    objects: list[dict[str, Any]] = []
    try:
        value = _scanner(objects, long_numbers=_may_hold_long_numbers(body)).decode(text)
    except _RefusedError as refusal:
        return None, str(refusal)
    except json.JSONDecodeError as error:
        return None, _syntax_problem(text, error)
    except RecursionError:
        return None, f"the answer nests deeper than {MAX_DEPTH} levels"
    depth, members = structure(body.removeprefix(BOM))
    if depth > MAX_DEPTH:
        return None, f"the answer nests deeper than {MAX_DEPTH} levels"
    if members != sum(map(len, objects)):
        problem = _doubled(text)
        if problem:
            return None, problem
    if "\\ud" in text or "\\uD" in text:
        value = _without_surrogates(value)
    return value, ""


def _may_hold_long_numbers(body: bytes) -> bool:
    """Return whether a number could have more than 400 digits: then every twentieth byte within it is one."""
    return b"0" * 20 in body[:: MAX_DIGITS // 20].translate(_DIGITS)


_DIGITS = bytes(ord("0") if chr(code).isdigit() else ord("x") for code in range(256))


def _scanner(objects: list[dict[str, Any]], *, long_numbers: bool) -> json.JSONDecoder:
    """Return a decoder that lists every object that it makes."""

    def note(found: dict[str, Any]) -> dict[str, Any]:
        objects.append(found)
        return found

    # A hook for every integer would cost a tenth of the time.
    integer = _integer if long_numbers else None
    return json.JSONDecoder(object_hook=note, parse_constant=_constant, parse_float=_real, parse_int=integer)


def structure(body: bytes) -> tuple[int, int]:
    """Return how deep a valid JSON text nests and how many members its objects have, doubled ones counted twice."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = np.frombuffer(body.translate(None, _NO_MARKS), dtype=np.uint8)
    outside = marks[(np.cumsum(marks == ord('"'), dtype=np.int64) & 1) == 0]
    # "[" and "{", "]" and "}" differ from each other in one bit.
    shapes = outside | 0x20
    levels = np.cumsum((shapes == ord("{")).astype(np.int8) - (shapes == ord("}")), dtype=np.int64)
    return int(levels.max(initial=0)), int((outside == ord(":")).sum())


_NO_MARKS = bytes(set(range(256)) - set(b'"[]{}:'))


def _doubled(text: str) -> str:
    """Return which member stands twice in one object; empty where none does."""

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(name for name, _ in pairs)
        if len(counts) < len(pairs):
            raise _RefusedError(named(sorted(name for name, count in counts.items() if count > 1)))
        return dict(pairs)

    try:
        json.loads(text, object_pairs_hook=check)
    except _RefusedError as refusal:
        return f"the answer names {refusal} twice in one object, so its value is not certain"
    return ""


def _text(body: bytes) -> tuple[str, str]:
    body = body.removeprefix(BOM)
    if not body.strip():
        return "", "the answer is empty, where a JSON:API document was expected"
    if body[:2] == b"\x1f\x8b":
        return "", "the answer is compressed, and its Content-Encoding does not say so"
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in body[:4]:
        return "", "the answer is UTF-16 or UTF-32 text; JSON is UTF-8"
    try:
        return body.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        where = error.start
    return "", f"the answer is not UTF-8 text (byte {where:,} of {len(body):,})"


def _syntax_problem(text: str, error: json.JSONDecodeError) -> str:
    start = text.lstrip()[:9].lower()
    if start.startswith(("<!doctype", "<html", "<?xml", "<")):
        return "the answer is a web page or XML, not a JSON:API document; is the URL that of the API?"
    if not start.startswith(("{", "[")):
        return "the answer is not JSON"
    if _is_cut(text, error):
        return f"the JSON breaks off after {len(text):,} characters"
    return f"the answer is not JSON: {error.msg} at character {error.pos:,}"


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    # The scanner points at the start of a string that never ends, at the end of the text,
    # or at the beginning of a literal or escape that the end of the text cuts.
    if error.msg.startswith("Extra data"):
        return False
    rest = text.rstrip()[error.pos :]
    begun = any(word.startswith(rest) for word in ("true", "false", "null", "-"))
    return (
        begun or error.msg.startswith("Unterminated string") or (error.msg.startswith("Invalid \\u") and len(rest) < 6)
    )


def is_cut_short(body: bytes) -> bool:
    """Return whether `body` is the beginning of a JSON text whose end is missing.

    Examples
    --------
    >>> is_cut_short(b'{"data": [{"id": 1'), is_cut_short(b'{"data": []}'), is_cut_short(b"<html>")
    (True, False, False)
    """
    body = body.removeprefix(BOM).lstrip()
    if body[:1] not in (b"{", b"["):
        return False
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return _is_cut(text, error)
    except (RecursionError, ValueError):
        return False
    return False


def _constant(text: str) -> NoReturn:
    raise _RefusedError(f"the answer holds {text}, which is not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _RefusedError(f"the answer holds a number of {len(text):,} digits")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _RefusedError(f"the answer holds the number {printable(text, 20)}, which is beyond all limits")
    return number


def _without_surrogates(value: Any) -> Any:
    """Return a value with U+FFFD in the place of lone surrogates, which are no characters."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_LONE_SURROGATE.sub("\ufffd", key): _without_surrogates(item) for key, item in value.items()}
    return value


def _kind(value: Any) -> str:
    """Name the JSON kind of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return kinds[type(value)]


def link_target(link: Any, *, pointer: str = "/links/next") -> str | None:
    """Return the URL of a JSON:API link as sent: text, or an object with ``href``; None for null or empty text.

    Anything else is a DocumentError: taking it for the last page would lose rows silently.
    """
    if isinstance(link, dict):
        link = link.get("href", link)
    if link is None or link == "":
        return None
    if not isinstance(link, str):
        raise DocumentError(f"the link to the next page is {_kind(link)}, not a URL", pointer=pointer)
    return link


def error_objects(value: Any) -> tuple[dict[str, Any], ...]:
    """Return the JSON:API error objects of a parsed body, whatever its shape.

    Those of other kinds get ``title`` and ``detail``: a gateway's ``{"error", "description"}``, words by
    the field that they are about, bare words.

    Examples
    --------
    >>> error_objects({"errors": {"name": ["can't be blank", "is too short"]}})
    ({'title': 'name', 'detail': "can't be blank, is too short"},)
    """
    if not isinstance(value, dict):
        return ()
    errors = value.get("errors") or value.get("error") or value.get("message")
    if isinstance(errors, dict) and not errors.keys() & {"id", "title", "detail", "message"}:
        return tuple({"title": name, "detail": ", ".join(map(str, _listed(said)))} for name, said in errors.items())
    found = [entry if isinstance(entry, dict) else {"title": entry} for entry in _listed(errors)]
    if len(found) == 1 and "title" in found[0] and "detail" not in found[0]:
        detail = value.get("description") or value.get("error_description") or value.get("message")
        found = [{**found[0], "detail": detail}] if detail and detail != found[0]["title"] else found
    return tuple(found)


def _listed(value: Any) -> list[Any]:
    return [entry for entry in (value if isinstance(value, list) else [value]) if entry is not None]


def describe_errors(errors: tuple[Mapping[str, Any], ...]) -> str:
    """Put the service's words into one printable line of at most 500 characters.

    Examples
    --------
    >>> describe_errors(
    ...     (
    ...         {
    ...             "title": "Validation Error",
    ...             "detail": "Name can't be blank.",
    ...             "source": {"pointer": "/data/attributes/name"},
    ...         },
    ...     )
    ... )
    "Validation Error: Name can't be blank (/data/attributes/name)"
    """
    words = []
    for error in errors[:5]:
        # The 415 answer spells it "details"; other services say "message".
        detail = error.get("detail") or error.get("details") or error.get("message") or ""
        title = error.get("title") or error.get("id") or error.get("code")
        parts = [str(part).strip().removesuffix(".") for part in (title, detail) if part]
        source = error.get("source")
        pointer = source.get("pointer") or source.get("parameter") if isinstance(source, dict) else None
        words.append(": ".join(parts) + (f" ({pointer})" if pointer else ""))
    if len(errors) > 5:
        words.append(f"and {len(errors) - 5} more")
    return printable("; ".join(word for word in words if word))


def build_document(
    resource: Resource,
    identity: int | None,
    attributes: Mapping[str, Any] | None,
    relationships: Mapping[str, int | None] | None,
) -> bytes:
    """Build the body of a POST (no `identity`) or PATCH, by API names; None clears a relationship.

    A name that is unknown or read-only, or a value that is not JSON (NaN, Timestamp ...), is a
    ConfigurationError.
    """
    _refuse_unwritable(resource, attributes or {}, relationships or {})
    record: dict[str, Any] = {"type": resource.type}
    if identity is not None:
        record["id"] = identity
    if attributes or identity is None:
        record["attributes"] = dict(attributes or {})
    if relationships:
        record["relationships"] = {
            name: {
                "data": None
                if target is None
                else {"type": _target_type(resource, name), "id": _whole_id(name, target)}
            }
            for name, target in relationships.items()
        }
    try:
        return json.dumps({"data": record}, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        reason = type(error).__name__
    raise ConfigurationError(
        f"{named(_unbuildable(attributes or {}))} cannot be sent as JSON ({reason}); missing is None"
    )


def _unbuildable(attributes: Mapping[str, Any]) -> list[str]:
    found = []
    for name, value in attributes.items():
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except (TypeError, ValueError, RecursionError):
            found.append(name)
    return found


def _refuse_unwritable(
    resource: Resource, attributes: Mapping[str, Any], relationships: Mapping[str, int | None]
) -> None:
    for name in attributes:
        known = resource.by_name.get(name)
        if known is None:
            raise ConfigurationError(f"{resource.type} has no attribute {named([name])}{_near(name, resource)}")
        if known.read_only:
            raise ConfigurationError(f"{named([name])} is read-only: the service sets it")
    for name in relationships:
        link = resource.relationship_by_name.get(name)
        if link is None:
            raise ConfigurationError(f"{resource.type} has no relationship {named([name])}{_near(name, resource)}")
        if link.read_only or link.to_many:
            instead = "; write opportunityStage" if name == "stage" else ""
            raise ConfigurationError(f"the relationship {named([name])} is read-only{instead}")


def _near(name: str, resource: Resource) -> str:
    import difflib

    aliases = {**{entry.column: entry.name for entry in resource.attributes}, **{key: key for key in resource.by_name}}
    aliases |= {key: key for key in resource.relationship_by_name}
    near = difflib.get_close_matches(name, aliases, 1)
    return f"; did you mean {named([aliases[near[0]]])}?" if near else ""


def _target_type(resource: Resource, name: str) -> str:
    return resource.relationship_by_name[name].type


def _whole_id(name: str, value: Any) -> int:
    try:
        return check_id(value)
    except ConfigurationError as error:
        problem = str(error)
    raise ConfigurationError(f"relationship {named([name])}: {problem}")


def check_id(value: Any) -> int:
    """Return an id as int; ids go into a path, so nothing else may pass (promise S11)."""
    import operator

    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not 0 < number < 2**63:
        raise ConfigurationError(f"an id is a whole number above 0, not {printable(repr(value), 60)}")
    return number


def identifier(value: Any) -> int:
    """Read an id: a positive whole number, or the same as text.

    Anything else is an UnfitError that does not repeat the value.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 and not value.startswith("0"):
        value = int(value)
    if value is None:
        raise UnfitError("it has no id")
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnfitError("its id is not a whole number")
    if not 0 < value <= INT64_MAX:
        raise UnfitError("its id is out of range")
    return value


def usable_id(entry: Any) -> int | None:
    """Return the id of a resource, or of what points to one; None where there is none that can be an id.

    Examples
    --------
    >>> usable_id({"id": "12"}), usable_id({"id": "a-1"}), usable_id(None)
    (12, None, None)
    """
    try:
        return identifier(entry.get("id"))
    except (AttributeError, UnfitError):
        return None


def id_objection(value: Any) -> str:
    """Explain why a value cannot be an id; empty where it can."""
    try:
        identifier(value)
    except UnfitError as problem:
        return str(problem)
    return ""


def are_usable(ids: Sequence[Any]) -> bool:
    """Return whether all values can be ids."""
    return not any(id_objection(value) for value in ids if type(value) is not int or not 0 < value <= INT64_MAX)


def check_record(data: Any, resource: Resource, identity: int | None) -> None:
    """Refuse an answer that is not the one record that was asked for; the error names the place."""
    if not isinstance(data, dict):
        raise DocumentError(f"one {resource.type} was expected as data", pointer="/data")
    if data.get("type") != resource.type:
        shown = printable(repr(data.get("type")), 60)
        raise DocumentError(f"the type {resource.type} was expected, not {shown}", pointer="/data/type")
    try:
        found = check_id(data.get("id"))
    except ConfigurationError as error:
        problem = str(error)
    else:
        problem = "" if identity in (None, found) else f"record {identity} was asked for and {found} came"
    if problem:
        raise DocumentError(f"the {resource.type} in the answer has the wrong id: {problem}", pointer="/data/id")
    for name in ("attributes", "relationships"):
        if not isinstance(data.get(name), dict | None):
            problem = f"the {name} of the {resource.type} in the answer are {_kind(data[name])}, not an object"
            raise DocumentError(problem, pointer=f"/data/{name}")
