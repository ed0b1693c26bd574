"""The template that a service writes its records by.

A service makes every record with the same members in the same order; only the
values differ. A `Template` is what is left of one record when its values are
taken out: the *literals* between them. Where all literals of another record
stand at their places, what is between them are its values, found without
parsing. `find_members` finds the places: a colon behind a quotation mark that
is not escaped stands behind a member's name, and nowhere else in JSON.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.api.documents import parse_document
from opp_pandas.errors import DocumentError

if TYPE_CHECKING:
    Positions = np.ndarray[Any, np.dtype[np.int64]]

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Path = tuple[str, ...]

_NAME = re.compile(r'"([^"\\]*)"\s*:\s*')
_MAX_MEMBERS = 2_000
_DECODER = JSONDecoder()


@dataclass(frozen=True)
class Members:
    """Where the members of records begin their values.

    Parameters
    ----------
    places : ndarray of int, shape (m,)
        Just behind each colon; without ``type`` and ``id`` of what a record points to.
    firsts : ndarray of int, shape (n,)
        Which of them is the first of each record: its ``id``.
    starts : ndarray of int, shape (n,)
        Where each record goes on behind its ``type``.
    records : int
        Records in all; more than n where an ``id`` is not the first.
    """

    places: Positions
    firsts: Positions
    starts: Positions
    records: int


def find_members(data: Bytes, opener: bytes) -> Members:
    """Find the members of records.

    Parameters
    ----------
    data : ndarray of uint8
        Records in a row, without control characters; the first begins at 0.
    opener : bytes
        How each record begins: a brace and its ``type``.

    Returns
    -------
    Members
        A record that begins otherwise belongs to the one before it.
    """
    colons = np.flatnonzero(data == ord(":"))
    colons = colons[data[colons - 1] == ord('"')]
    letters = data[colons - 2]
    plain = letters != ord("\\")
    if not plain.all():
        colons, letters = colons[plain], letters[plain]
    colons += 1
    kept = np.ones(len(colons), dtype=bool)

    ids = np.flatnonzero(letters == ord("d"))
    kept[ids[_stands_before(data, colons[ids], b'"id":')]] = False
    # The id of a record comes right behind its type.
    is_first = ~kept
    kinds = np.flatnonzero(letters == ord("e"))
    kinds = kinds[_stands_before(data, colons[kinds], b'"type":')]
    kept[kinds] = False
    rest = len(opener) - opener.index(b":") - 1
    own = kinds[_stands_before(data, np.minimum(colons[kinds] + rest, len(data)), opener)]
    firsts = own[own + 1 < len(colons)] + 1
    firsts = firsts[is_first[firsts]]
    kept[firsts] = True
    starts = colons[firsts - 1] + rest
    places = np.flatnonzero(kept)
    return Members(colons[places], np.searchsorted(places, firsts), starts, len(own))


def _stands_before(data: Bytes, ends: Positions, literal: bytes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell where a literal ends, looking at its last eight bytes."""
    last = literal[-8:]
    if not len(ends) or len(data) < 8:
        return np.zeros(len(ends), dtype=bool)
    words = np.ndarray(shape=(len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))
    shift = np.uint64(8 * (8 - len(last)))
    return np.asarray((words[np.maximum(ends - 8, 0)] >> shift) == np.uint64(int.from_bytes(last, "little")))


@dataclass(frozen=True)
class Template:
    """A record without its values.

    Parameters
    ----------
    literals : tuple of bytes
        What stands before each value, and behind the last one up to the ``type`` of the next record.
    paths : tuple of tuple of str
        The names that lead to each value; the first is the record's ``id``.
    members : int
        Members of a record, those with objects as values included.
    places : ndarray of int
        Which members the values are.
    pads : ndarray of int
        White space between colon and value.
    nulls : tuple of tuple of str
        The names that lead to each ``null`` that is part of a literal.
    """

    literals: tuple[bytes, ...]
    paths: tuple[Path, ...]
    members: int
    places: Positions
    pads: Positions
    nulls: tuple[Path, ...] = ()

    def with_nulls(self, empty: Sequence[bool]) -> Template:
        """Take ``null`` for a part of the literals where the value is always missing.

        Parameters
        ----------
        empty : sequence of bool, shape (m,)
            Of which members that holds.

        Returns
        -------
        Template
            With fewer values.
        """
        literals = [self.literals[0]]
        for is_empty, following in zip(empty, self.literals[1:], strict=True):
            if is_empty:
                literals[-1] += b"null" + following
            else:
                literals.append(following)
        kept = ~np.array(empty, dtype=bool)
        return Template(
            tuple(literals),
            tuple(path for path, is_empty in zip(self.paths, empty, strict=True) if not is_empty),
            self.members,
            self.places[kept],
            self.pads[kept],
            (*self.nulls, *(path for path, is_empty in zip(self.paths, empty, strict=True) if is_empty)),
        )

    @classmethod
    def of(cls, record: bytes, opener: bytes, closer: bytes) -> Template | None:
        """Take the values out of a record.

        Parameters
        ----------
        record : bytes
            One record, behind its `opener`.
        opener : bytes
            How each record begins.
        closer : bytes
            What stands between two records, `opener` included.

        Returns
        -------
        Template or None
            None where the record is not of the usual build: no JSON, doubled or
            escaped names, objects in lists.
        """
        text = opener + record + closer
        data = np.frombuffer(text, dtype=np.uint8)
        found = find_members(data, opener)
        places = found.places[: found.firsts[1]] if len(found.firsts) > 1 else found.places
        if not len(found.firsts) or found.firsts[0] != 0 or len(places) > _MAX_MEMBERS:
            return None
        try:
            parse_document(b'{"data":[' + opener + record + b"]}")
            return _template(text, places.tolist(), len(opener), len(opener) + len(record), closer)
        except (DocumentError, JSONDecodeError, _UnusualError):
            return None


class _UnusualError(ValueError):
    """A record that is not of the usual build."""


def _template(text: bytes, places: list[int], start: int, end: int, closer: bytes) -> Template:
    literals: list[bytes] = []
    paths: list[Path] = []
    holes: list[int] = []
    pads: list[int] = []
    path: list[str] = []
    for number, place in enumerate(places):
        following = places[number + 1] if number + 1 < len(places) else end
        begin = place + _leading_space(text[place:following])
        if text[begin : begin + 1] == b"{" and _NAME.fullmatch(text[begin + 1 : following].decode().lstrip()):
            continue  # an object: its first member follows
        literal = text[start:begin]
        if begin < start:
            raise _UnusualError  # the member stands within the value before
        if paths:
            path.pop()
        _walk(literal.decode(), path)
        value = text[begin:following].decode()
        _, length = _DECODER.raw_decode(value)
        start = begin + len(value[:length].encode())
        literals.append(literal)
        paths.append(tuple(path))
        holes.append(number)
        pads.append(begin - place)
    tail = text[start:end]
    if tail.count(b"}") != len(path) or tail.replace(b"}", b"").strip():
        raise _UnusualError
    literals.append(tail + closer)
    if paths[0] != ("id",) or len(set(paths)) != len(paths):
        raise _UnusualError
    return Template(
        tuple(literals), tuple(paths), len(places), np.array(holes, dtype=np.int64), np.array(pads, dtype=np.int64)
    )


def _leading_space(text: bytes) -> int:
    return len(text) - len(text.lstrip())


def _walk(literal: str, path: list[str]) -> None:
    """Follow a literal from one value to the next: braces and names, and white space between."""
    place = 0
    while place < len(literal):
        character = literal[place]
        if character == "}":
            if not path:
                raise _UnusualError
            path.pop()
        elif character == '"':
            name = _NAME.match(literal, place)
            if name is None:
                raise _UnusualError
            path.append(name[1])
            place = name.end()
            continue
        elif character not in "{, ":
            raise _UnusualError
        place += 1
