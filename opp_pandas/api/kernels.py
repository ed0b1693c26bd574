"""The inner loops of `opp_pandas.api.compiled`, translated by numba when they are first called.

Plain loops over bytes: arrays in, arrays out, nothing allocated and no lock
held. They say of a record that it fits where each of its bytes belongs to a
literal of the template or to a value of the plain form of its column; all
others are left to somebody else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numba.extending import intrinsic

TEXT, INSTANT, INTEGER, KEY, POINTER, SPAN, NOTHING = range(7)
"""How a value is read. `KEY` is a record's own id, `POINTER` a resource identifier, `SPAN` any JSON value, of which
only the bounds are found; of `NOTHING` only ``null`` fits."""

MOST_DIGITS = 18
_WORD = 8
_LONGEST_INSTANT = len("2026-12-31T23:59:59.999999Z")
_LEAST = -(10**MOST_DIGITS)
_QUOTE, _ESCAPE, _SPACE, _ZERO, _MINUS, _POINT = (ord(character) for character in '"\\ 0-.')
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST, _COMMA = (ord(character) for character in "{}[],")
_N, _U, _L, _T, _Z, _COLON = (ord(character) for character in "nulTZ:")
# The same byte eight times, to look at eight characters at once.
_ONES, _TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_QUOTES, _ESCAPES, _SPACES = _ONES * np.uint64(_QUOTE), _ONES * np.uint64(_ESCAPE), _ONES * np.uint64(_SPACE)
_SEVEN, _BYTE, _LOWEST, _NONE = np.uint64(7), np.uint64(8), np.uint64(1), np.uint64(0)


Array = Any


class Text(NamedTuple):
    """A text: its bytes, and the eight bytes from each place of it on (uint8, uint64)."""

    data: Array
    words: Array


class Form(NamedTuple):
    """What records look like.

    Parameters
    ----------
    literals : ndarray of uint64
        The template's literals, then heads and tails: the eight bytes from each place on.
    edges : ndarray of int64, shape (m + 2,)
        Where each literal begins, and where the last one ends.
    kinds : ndarray of int64, shape (m,)
        How each value is read.
    heads, tails : ndarray of int64, shape (m, 2)
        What stands around the number within a value, by its bounds among the literals.
    """

    literals: Array
    edges: Array
    kinds: Array
    heads: Array
    tails: Array


class Found(NamedTuple):
    """Values of n records, to be filled.

    Parameters
    ----------
    values, closes : ndarray of int64, shape (m, n)
        Numbers and instants; of texts and spans where they begin and end.
    there : ndarray of bool, shape (m, n)
        False where the value is ``null``.
    escaped : ndarray of bool, shape (m,)
        Whether a text of the member holds an escape.
    """

    values: Array
    closes: Array
    there: Array
    escaped: Array


Loop = TypeVar("Loop", bound=Callable[..., Any])


def _compiled(loop: Loop) -> Loop:
    """Let numba translate a function, and keep what it made for the next process."""
    translated: Any = njit(cache=True, nogil=True)(loop)
    return cast("Loop", translated)


def _inlined(loop: Loop) -> Loop:
    """Let numba put a function's body where it is called."""
    translated: Any = njit(inline="always")(loop)
    return cast("Loop", translated)


def _borrow(context: Any, array: Any) -> Any:  # noqa: ARG001
    """Give an array whose references are not counted, for as long as somebody else holds the array itself."""

    def lower(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        view = target.make_array(array)(target, builder, arguments[0])
        view.meminfo, view.parent = view.meminfo.type(None), view.parent.type(None)
        return view._getvalue()

    return array(array), lower


_borrowed: Any = intrinsic(_borrow)


@_inlined
def _is_there(data: Array, words: Array, place: int, literals: Array, begin: int, end: int) -> bool:
    """Tell whether a literal stands at a place that is at least eight bytes from the end."""
    length = end - begin
    if place + max(length, _WORD) > len(data):
        return False
    if length < _WORD:
        differing = words[place] ^ literals[begin]
        return bool(length == 0 or differing << np.uint64(8 * (_WORD - length)) == _NONE)
    # The last eight bytes may have been compared in part already.
    differing = words[place + length - _WORD] ^ literals[begin + length - _WORD]
    for step in range(0, length - _WORD, _WORD):
        differing |= words[place + step] ^ literals[begin + step]
    return bool(differing == _NONE)


@_inlined
def _text_end(data: Array, words: Array, place: int) -> tuple[int, bool]:
    """Find the quotation mark that ends a text, and whether there are escapes; -1 where there is none."""
    escaped = False
    while place < len(words):
        word = words[place]
        quotes, escapes = word ^ _QUOTES, word ^ _ESCAPES
        # The lowest byte that is marked is the first quotation mark, backslash or control character.
        marks = ((quotes - _ONES) & ~quotes) | ((escapes - _ONES) & ~escapes) | ((word - _SPACES) & ~word)
        marks &= _TOPS
        if marks == _NONE:
            place += _WORD
            continue
        marks >>= _SEVEN
        while marks & _LOWEST == _NONE:
            marks >>= _BYTE
            place += 1
        if data[place] == _QUOTE:
            return place, escaped
        if data[place] != _ESCAPE:
            return -1, escaped
        escaped = True
        place += 2
    return -1, escaped


@_inlined
def _number(data: Array, place: int, least: int) -> tuple[int, int]:
    """Read a whole number in its one plain form, and where it ends; -1 where there is none."""
    if place >= len(data):
        return 0, -1
    negative = data[place] == _MINUS
    first = place + 1 if negative else place
    place, number = first, 0
    while place < len(data) and place - first <= MOST_DIGITS:
        digit: Any = np.int64(data[place]) - _ZERO
        if digit < 0 or digit > 9:
            break
        number = number * 10 + digit
        place += 1
    length = place - first
    if length == 0 or length > MOST_DIGITS or (data[first] == _ZERO and (length > 1 or negative)):
        return 0, -1
    if negative:
        number = -number
    return number, place if number >= least else -1


@_inlined
def _two_digits(data: Array, place: int) -> int:
    """Read two digits; far below zero where they are none."""
    tens: Any = np.int64(data[place]) - _ZERO
    ones: Any = np.int64(data[place + 1]) - _ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -10_000


@_inlined
def _instant(data: Array, place: int) -> tuple[int, int]:
    """Read an instant as microseconds since 1970 in UTC, and where it ends; -1 where there is none."""
    if place + _LONGEST_INSTANT >= len(data):
        return 0, -1
    year = _two_digits(data, place) * 100 + _two_digits(data, place + 2)
    month, day = _two_digits(data, place + 5), _two_digits(data, place + 8)
    hour, minute = _two_digits(data, place + 11), _two_digits(data, place + 14)
    second = _two_digits(data, place + 17)
    marked = data[place + 4] == _MINUS and data[place + 7] == _MINUS and data[place + 10] == _T
    marked = marked and data[place + 13] == _COLON and data[place + 16] == _COLON
    known = year >= 1 and 1 <= month <= 12 and day >= 1
    known = known and 0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59
    if not (marked and known):
        return 0, -1
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    # 31 and 30 days take turns, and once more from August on; February has two fewer, or one.
    if day > 30 + (month + (month >> 3)) % 2 - (month == 2) * (2 - leap):
        return 0, -1
    place += 19
    fraction, weight = 0, 1_000_000
    if data[place] == _POINT:
        place += 1
        while weight > 1 and _ZERO <= data[place] <= _ZERO + 9:
            weight //= 10
            digit: Any = np.int64(data[place]) - _ZERO
            fraction += digit * weight
            place += 1
        if weight == 1_000_000:
            return 0, -1
    if data[place] != _Z:
        return 0, -1
    # With years that begin in March leap days come last.
    months = (month + 9) % 12
    years = year - (months >= 10)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day - 719_469
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + fraction, place + 1


@_inlined
def _value_end(data: Array, words: Array, place: int) -> int:
    """Find the end of any JSON value by its brackets and quotation marks; -1 where there is none."""
    depth = 0
    while place < len(data):
        character = data[place]
        if character == _QUOTE:
            place, _ = _text_end(data, words, place + 1)
            if place < 0:
                return -1
        elif character in (_OPEN, _OPEN_LIST):
            depth += 1
        elif character in (_CLOSE, _CLOSE_LIST):
            if depth == 0:
                return place
            depth -= 1
        elif character == _COMMA and depth == 0:
            return place
        place += 1
    return -1


@_compiled
def _next_record(data: Array, place: int, closer: Array) -> int:
    """Find where the next record goes on behind its ``type``; -1 where there is none."""
    for start in range(place, len(data) - len(closer) + 1):
        if data[start] == closer[0] and (data[start : start + len(closer)] == closer).all():
            return start + len(closer)
    return -1


@_inlined
def _record(
    data: Array,
    words: Array,
    place: int,
    literals: Array,
    edges: Array,
    kinds: Array,
    heads: Array,
    tails: Array,
    values: Array,
    closes: Array,
    there: Array,
    escaped: Array,
    row: int,
) -> int:
    """Read one record into a row, and give its end; -1 where it does not fit."""
    for member in range(len(kinds)):
        if not _is_there(data, words, place, literals, edges[member], edges[member + 1]):
            return -1
        place += edges[member + 1] - edges[member]
        if place + 4 > len(data):
            return -1
        kind, value, close, is_null = kinds[member], place, 0, data[place] == _N
        if is_null:
            if kind == KEY or data[place + 1] != _U or data[place + 2] != _L or data[place + 3] != _L:
                return -1
            place += 4
            close = value
        elif kind == TEXT:
            if data[place] != _QUOTE:
                return -1
            value = place + 1
            close, has_escapes = _text_end(data, words, value)
            if close < 0:
                return -1
            escaped[member] |= has_escapes
            place = close + 1
        elif kind == SPAN:
            place = close = _value_end(data, words, place)
            if close < 0:
                return -1
        elif kind == INSTANT:
            value, end = _instant(data, place + 1)
            if end < 0 or data[place] != _QUOTE or data[end] != _QUOTE:
                return -1
            place = end + 1
        elif kind == NOTHING:
            return -1
        else:
            begin, end = heads[member, 0], heads[member, 1]
            if not _is_there(data, words, place, literals, begin, end):
                return -1
            value, place = _number(data, place + end - begin, _LEAST if kind == INTEGER else 1)
            begin, end = tails[member, 0], tails[member, 1]
            if place < 0 or not _is_there(data, words, place, literals, begin, end):
                return -1
            place += end - begin
        values[member, row], closes[member, row], there[member, row] = value, close, not is_null
    begin, end = edges[-2], edges[-1]
    return place + end - begin if _is_there(data, words, place, literals, begin, end) else -1


@_compiled
def scan(text: Text, place: int, closer: Array, form: Form, found: Found, fit: Array, ends: Array) -> int:
    """Read records one behind the other.

    Parameters
    ----------
    text : Text
        Where they stand.
    place : int
        Where the first record goes on behind its ``type``.
    closer : ndarray of uint8
        What stands between two records, with the ``type`` of the next.
    form : Form
        What they look like.
    found : Found
        Filled: the values of those that fit, in the first columns.
    fit : ndarray of bool, shape (n,)
        Filled: which records those are.
    ends : ndarray of int64, shape (n,)
        Filled: where each record ends, with what follows it.

    Returns
    -------
    int
        How many fit; -1 where the text does not hold n records.
    """
    # The caller holds all of them; counting references within the loops takes half of their time.
    data, words = _borrowed(text.data), _borrowed(text.words)
    literals, edges, kinds = _borrowed(form.literals), _borrowed(form.edges), _borrowed(form.kinds)
    heads, tails = _borrowed(form.heads), _borrowed(form.tails)
    values, closes = _borrowed(found.values), _borrowed(found.closes)
    there, escaped = _borrowed(found.there), _borrowed(found.escaped)
    row = 0
    for number in range(len(fit)):
        end = _record(data, words, place, literals, edges, kinds, heads, tails, values, closes, there, escaped, row)
        fit[number] = end >= 0
        if fit[number]:
            row += 1
        else:
            end = _next_record(data, place, closer)
            if end < 0:
                return -1
        place = end
        ends[number] = end
    return row if place == len(data) else -1


@_compiled
def gather(words: Array, begins: Array, closes: Array, offsets: Array, out: Array) -> None:
    """Copy texts into a column, one behind the other.

    Parameters
    ----------
    words : ndarray of uint64
        The eight bytes from each place of the text on.
    begins, closes : ndarray of int64, shape (n,)
        Where each of them begins and ends.
    offsets : ndarray of int64, shape (n + 1,)
        Filled: where each begins in `out`.
    out : ndarray of uint64
        Filled: the eight bytes from each place of the copy on.
    """
    place = 0
    offsets[0] = place
    for row in range(len(begins)):
        # Eight bytes at a time; what is copied too much is written over by the next text.
        for step in range(0, closes[row] - begins[row], _WORD):
            out[place + step] = words[begins[row] + step]
        place += closes[row] - begins[row]
        offsets[row + 1] = place
