"""Records that are written by one template, read by compiled loops.

What `opp_pandas.api.uniform` does a column at a time is done here a byte at
a time, for the records of a whole stretch: a literal must stand where the
template has it, and between two of them a value of the plain form of its
column. It needs numba (extra ``fast``); without it, and in loads too small to
repay its import, the columns are read in the other way, with the same result.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from opp_pandas.api.batches import STAMP, TEXT, Batch, Mask, Positions, fitting_batch
from opp_pandas.api.smallvalues import read_distinct, read_escapes

if TYPE_CHECKING:
    from types import ModuleType

    from opp_pandas.api.templates import Template
    from opp_pandas.api.uniform import Stretch

Work = Mapping[str, Sequence[tuple[int, str | None]]]

_WORD = 8
_NUMBERS = {"id": pa.int64(), "integer": pa.int64(), "identifier": pa.int64(), "instant": STAMP}

logger = logging.getLogger(__name__)


@cache
def kernels() -> ModuleType | None:
    """Import the compiled loops; None where there is no numba, or no place to keep what it compiles."""
    try:
        from opp_pandas.api import kernels as module
    except (ImportError, RuntimeError) as problem:
        logger.debug("records are read without compiled loops: %s", problem)
        return None
    return module


@dataclass(frozen=True)
class Plan:
    """How the records of one template become columns.

    Parameters
    ----------
    template : Template
        The template.
    work : mapping of str to sequence of (int, str or None)
        By kind: members, and the column that each of them fills, if any.
    forms : mapping of int to (bytes, bytes)
        What stands around the number in the resource identifiers of a member.
    unknown : mapping of str to str
        Attributes that the resource table does not have, and their columns.
    unknown_relationships : set of str
        Relationships that it does not have.
    """

    template: Template
    work: Work
    forms: Mapping[int, tuple[bytes, bytes]]
    unknown: Mapping[str, str]
    unknown_relationships: set[str]

    @cached_property
    def literals(self) -> bytes:
        """The template's literals, and behind them heads and tails of the resource identifiers."""
        return b"".join([*self.template.literals, *(part for form in self.forms.values() for part in form)])

    @cached_property
    def edges(self) -> Positions:
        """Where each of the template's literals begins, and where the last one ends."""
        return np.cumsum([0, *map(len, self.template.literals)])

    @cached_property
    def heads_and_tails(self) -> tuple[Positions, Positions]:
        """By member the bounds of what stands around its number, among the literals."""
        heads, tails = np.zeros((2, len(self.template.paths), 2), dtype=np.int64)
        place = int(self.edges[-1])
        for member, form in self.forms.items():
            for bounds, part in zip((heads, tails), form, strict=True):
                bounds[member] = place, place + len(part)
                place += len(part)
        return heads, tails

    def kinds(self, codes: ModuleType) -> Positions:
        """By member how its values are read, in the codes of the compiled loops."""
        found = np.full(len(self.template.paths), codes.NOTHING, dtype=np.int64)
        names = {"text": codes.TEXT, "instant": codes.INSTANT, "integer": codes.INTEGER}
        names |= {"id": codes.KEY, "identifier": codes.POINTER}
        for kind, entries in self.work.items():
            found[[member for member, _ in entries]] = names.get(kind, codes.SPAN)
        return found


@dataclass(frozen=True)
class Scanned:
    """What was read.

    Parameters
    ----------
    batch : Batch
        The records that fit.
    odd : ndarray of bool, shape (n,)
        Those that do not.
    ends : ndarray of int, shape (n,)
        Where each record ends, with what follows it.
    """

    batch: Batch
    odd: Mask
    ends: Positions


def scan(stretch: Stretch, plan: Plan, loops: ModuleType) -> Scanned | None:
    """Read the records of a stretch.

    Parameters
    ----------
    stretch : Stretch
        The records.
    plan : Plan
        What is expected of them.
    loops : module
        As `kernels` gives it.

    Returns
    -------
    Scanned or None
        None where the text does not hold as many records as it seemed to.
    """
    members, count = len(plan.template.paths), int(stretch.page_ends[-1])
    text = loops.Text(_bytes(stretch.text), _words(stretch.text))
    form = loops.Form(_words(plan.literals + b" " * _WORD), plan.edges, plan.kinds(loops), *plan.heads_and_tails)
    found = loops.Found(
        *np.empty((2, members, count), dtype=np.int64),
        np.empty((members, count), dtype=np.bool_),
        np.zeros(members, dtype=np.bool_),
    )
    fit, ends = np.empty(count, dtype=np.bool_), np.empty(count, dtype=np.int64)
    rows = loops.scan(text, len(stretch.opener), _bytes(stretch.closer), form, found, fit, ends)
    if rows < 0:
        return None
    columns = _Columns(text, found, rows, loops)
    odd = columns.fill(plan.work)
    fit[np.flatnonzero(fit)[odd]] = False
    return Scanned(fitting_batch(columns.filled, odd, plan.unknown, plan.unknown_relationships), ~fit, ends)


class _Columns:
    """Values that were found, on their way into columns.

    Parameters
    ----------
    text, found : Text, Found
        As the compiled loops left them.
    rows : int
        How many records fit.
    loops : module
        As `kernels` gives it.
    """

    def __init__(self, text: Any, found: Any, rows: int, loops: ModuleType) -> None:
        self.text = text
        self.found = found
        self.rows = rows
        self.loops = loops
        self.filled: dict[str, pa.Array] = {}
        there = found.there[:, :rows]
        self._whole: list[bool] = there.all(axis=1).tolist()
        self._valid = np.packbits(there, axis=1, bitorder="little")

    def fill(self, work: Work) -> Mask:
        """Fill the columns, and tell which records are odd for a value that only shows now."""
        odd = np.zeros(self.rows, dtype=bool)
        for kind, entries in work.items():
            for member, column in entries:
                if kind in _NUMBERS:
                    if column is not None:
                        # A copy, so that nothing of the other members is kept with it.
                        numbers = self.found.values[member, : self.rows].copy()
                        self.filled[column] = self._array(_NUMBERS[kind], member, numbers)
                    continue
                escaped = self.found.escaped[member]
                if kind == "text" and column is None and not escaped:
                    continue  # looked at already, and not kept
                values = self._text(member)
                if kind != "text":
                    values, wrong = read_distinct(values, kind)
                    odd |= wrong
                elif escaped:
                    values, wrong = read_escapes(values)
                    odd |= wrong
                if column is not None:
                    self.filled[column] = values
        return odd

    def _array(self, kind: pa.DataType, member: int, *buffers: Any) -> pa.Array:
        valid = None if self._whole[member] else pa.py_buffer(self._valid[member])
        return pa.Array.from_buffers(kind, self.rows, [valid, *map(pa.py_buffer, buffers)])

    def _text(self, member: int) -> pa.Array:
        begins, closes = self.found.values[member, : self.rows], self.found.closes[member, : self.rows]
        held = np.empty(int((closes - begins).sum()) + _WORD, dtype=np.uint8)
        offsets = np.empty(self.rows + 1, dtype=np.int64)
        self.loops.gather(self.text.words, begins, closes, offsets, _words(held))
        return self._array(TEXT, member, offsets, held)


def _bytes(text: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(text, dtype=np.uint8)


def _words(text: Any) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Give the eight bytes from each place on."""
    return np.ndarray(shape=(len(text) - _WORD + 1,), dtype="<u8", buffer=text, strides=(1,))
