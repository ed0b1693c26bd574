"""Records that are written by one template, read without parsing them.

`UniformDecoder` learns a `Template` from one record and looks where its members
stand in all others. Every byte is accounted for: the literals must be the
template's, and each value must have the plain form of its column (text without
stray quotation marks, whole numbers, instants, ``null``). A record that differs
in any byte is *odd* and goes through the slow decoder; where too many do, the
stretch is left to whoever can read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.api.batches import TEXT, Batch, Mask, Positions, batch_of_cells, fitting_batch, interleave, mask_of
from opp_pandas.api.compiled import Plan, kernels, scan
from opp_pandas.api.decode import decode_resources, unknown_column
from opp_pandas.api.documents import parse_document, parse_json
from opp_pandas.api.instants import read_instants
from opp_pandas.api.smallvalues import read_distinct, read_escapes
from opp_pandas.api.templates import Bytes, Members, Path, Template, find_members
from opp_pandas.errors import DocumentError

if TYPE_CHECKING:
    from opp_pandas.resource import Resource


MAX_ODD = 0.25
MAX_FILLED = 0.03
MAX_LESSONS = 4
MAX_PLANS = 8
FEW_STRETCHES = 100
"""So much time do the compiled loops save in about as many as their import takes."""
_MAX_DIGITS = 18
_PIECES = 20_000
_QUOTE = ord('"')
_NULL = b"null"
_INTEGER_FORM = r"^(?:0|-?[1-9][0-9]{0,17})$"


class _OtherFormError(Exception):
    """The stretch holds what only a parser can read."""


@dataclass(frozen=True)
class Stretch:
    """Records in a row, of several pages.

    Parameters
    ----------
    text : bytes
        The records, each followed by `closer`.
    opener : bytes
        How each record begins: a brace and its ``type``.
    closer : bytes
        What stands between two records, `opener` included.
    page_ends : ndarray of int
        How many records there are up to the end of each page.
    first_page : int
        The number of the first page, from 0.
    """

    text: bytes
    opener: bytes
    closer: bytes
    page_ends: Positions
    first_page: int

    @cached_property
    def members(self) -> Members | None:
        """Where the members of the records are; None where they may stand elsewhere than it seems."""
        data = np.frombuffer(self.text, dtype=np.uint8)[: -len(self.closer)]
        if data.min() < ord(" "):
            return None  # white space of other kinds between them
        found = find_members(data, self.opener)
        usual = len(found.starts) == found.records == self.page_ends[-1] and found.firsts[0] == 0
        return found if usual else None

    def ends(self, members: Members) -> Positions:
        """Where each record ends, with what follows it."""
        return np.append(members.starts[1:], len(self.text))

    def record(self, start: int, end: int) -> bytes:
        """Give a record without its opener, by where it goes on behind that and where the next one does."""
        return self.text[start : end - len(self.closer)]

    def origins(self, places: Positions) -> list[tuple[int, int]]:
        """Give page and record on the page, both from 0."""
        pages = np.searchsorted(self.page_ends, places, side="right")
        begins = np.concatenate([[0], self.page_ends])[pages]
        return list(zip((pages + self.first_page).tolist(), (places - begins).tolist(), strict=True))


class UniformDecoder:
    """Decodes records written by one template, which it learns.

    Parameters
    ----------
    resource : Resource
        What the records are.
    """

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._template: Template | None = None
        # The same with what was always null so far as a part of its literals.
        self._narrow: Template | None = None
        self._lessons = 0
        self._plan: Plan | None = None
        self._plans = 0
        self._stretches = 0

    def decode(self, stretch: Stretch) -> Batch | None:
        """Decode records.

        Parameters
        ----------
        stretch : Stretch
            The records.

        Returns
        -------
        Batch or None
            None: they have no common template, or are not valid.
        """
        batch = self._decode_compiled(stretch)
        return self._decode_columns(stretch) if batch is None else batch

    def _decode_compiled(self, stretch: Stretch) -> Batch | None:
        """Decode by the compiled loops, where there are any and they know what to expect."""
        self._stretches += 1
        if self._plan is None or not (self._stretches > FEW_STRETCHES or kernels.cache_info().currsize):
            return None
        loops = kernels()
        found = None if loops is None else scan(stretch, self._plan, loops)
        if found is None:
            return None
        if found.odd.mean() > MAX_FILLED:
            self._plan = None  # until it is known better how they are written
            return None
        starts = np.concatenate([[len(stretch.opener)], found.ends[:-1]])
        return self._with_odd(stretch, found.batch, found.odd, starts, found.ends)

    def _decode_columns(self, stretch: Stretch) -> Batch | None:
        """Decode a column at a time."""
        members = stretch.members
        if members is None:
            return None
        starts, ends = members.starts, stretch.ends(members)
        if self._narrow is not None:
            with suppress(_OtherFormError):
                batch, odd = _Reading(stretch, members, self._narrow, self.resource).read()
                if odd.mean() <= MAX_FILLED:
                    return self._with_odd(stretch, batch, odd, starts, ends)
        while self._template is not None or self._learn(stretch, starts, ends):
            try:
                reading = _Reading(stretch, members, self._template, self.resource)  # type: ignore[arg-type]  # learned
                batch, odd = reading.read()
            except _OtherFormError:
                self._template = None
                continue
            self._narrow = self._template.with_nulls(reading.empty)  # type: ignore[union-attr]
            self._make_plan(self._narrow, reading)
            return self._with_odd(stretch, batch, odd, starts, ends)
        return None

    def _learn(self, stretch: Stretch, starts: Positions, ends: Positions) -> bool:
        """Learn from the first record, and where that did not help from one in the middle."""
        while self._template is None and self._lessons < MAX_LESSONS:
            place = 0 if self._lessons % 2 == 0 else len(starts) // 2
            self._lessons += 1
            record = stretch.record(starts[place], ends[place])
            self._template = Template.of(record, stretch.opener, stretch.closer)
        return self._template is not None

    def _make_plan(self, narrow: Template, reading: _Reading) -> None:
        """Keep how the columns were read, for the compiled loops."""
        self._plans += 1
        if self._plans > MAX_PLANS:
            return
        member = np.cumsum(~np.array(reading.empty)) - 1
        self._plan = Plan(
            narrow,
            {kind: [(int(member[place]), column) for place, column in work] for kind, work in reading.work.items()},
            {int(member[place]): form for place, form in reading.forms.items()},
            reading.unknown,
            reading.unknown_relationships,
        )

    def _with_odd(self, stretch: Stretch, batch: Batch, odd: Mask, starts: Positions, ends: Positions) -> Batch | None:
        """Decode the odd records slowly and put them between the others."""
        if not odd.any():
            return batch
        places = np.flatnonzero(odd)
        bounds = zip(starts[places].tolist(), ends[places].tolist(), strict=True)
        records = [stretch.opener + stretch.record(start, end) for start, end in bounds]
        try:
            data = parse_document(b'{"data":[' + b",".join(records) + b"]}")["data"]
        except DocumentError:
            return None
        if len(data) != len(places):
            return None  # what looked like the end of a record stood within one
        cells = decode_resources(data, self.resource)
        slow = batch_of_cells(cells, stretch.origins(places))
        aside = [number for number, _, _ in cells.quarantined]
        order = np.argsort(np.concatenate([np.flatnonzero(~odd), np.delete(places, aside)]), kind="stable")
        return interleave(batch, slow, order)


@dataclass(frozen=True)
class Holes:
    """Values where they stand: a row per member, a column per record.

    Parameters
    ----------
    begins, closes : ndarray of int, shape (m, n)
        The bounds of each value.
    initials : ndarray of uint8, shape (m, n)
        Its first byte.
    missing : ndarray of bool, shape (m, n)
        Whether it is ``null``, as far as the first byte tells.
    """

    begins: Positions
    closes: Positions
    initials: Bytes
    missing: Mask

    def __getitem__(self, places: Sequence[int] | slice) -> Holes:
        return Holes(self.begins[places], self.closes[places], self.initials[places], self.missing[places])

    @cached_property
    def lengths(self) -> Positions:
        """The length of each value [bytes]."""
        return self.closes - self.begins


class _Reading:
    """One stretch on its way into columns."""

    def __init__(self, stretch: Stretch, members: Members, template: Template, resource: Resource) -> None:
        self.stretch = stretch
        self.members = members
        self.template = template
        self.resource = resource
        self.text = stretch.text
        self.data: Bytes = np.frombuffer(stretch.text, dtype=np.uint8)
        self.buffer = pa.py_buffer(stretch.text)
        self.columns: dict[str, pa.Array] = {}
        self.unknown: dict[str, str] = {}
        self.unknown_relationships: set[str] = set()
        # Members by how they are read, with the column each of them fills, if any.
        self.work: dict[str, list[tuple[int, str | None]]] = {}
        # Of resource identifiers their kind, and what stands around their number.
        self.kinds: dict[int, str] = {}
        self.forms: dict[int, tuple[bytes, bytes]] = {}
        self.empty: list[bool] = []

    def read(self) -> tuple[Batch, Mask]:
        """Give the batch of the records that fit, and which do not."""
        fit, holes = self._holes()
        self.rows = holes.begins.shape[1]
        self.odd = self._no_nulls(holes)
        self.empty = np.asarray(holes.missing.all(axis=1)).tolist()
        for place, path in enumerate(self.template.paths):
            self._assign(place, path, holes, self.empty[place])
        for path in self.template.nulls:
            self._assign(0, path, holes, True)
        self._read_texts(holes)
        self._read_integers(holes)
        for kind in ("tags", "boolean", "anything"):
            for place, column in self.work.get(kind, ()):
                hole = holes[[place]]
                values, odd = read_distinct(self._columns(hole.begins, hole.closes, hole.missing)[0], kind)
                self.odd |= odd
                if column is not None:
                    self.columns[column] = values
        fit[np.flatnonzero(fit)[self.odd]] = False
        _enough(fit)
        return fitting_batch(self.columns, self.odd, self.unknown, self.unknown_relationships), ~fit

    # --- literals -----------------------------------------------------------

    def _holes(self) -> tuple[Mask, Holes]:
        """Find the values between the literals; a record whose literals differ does not fit."""
        template, members = self.template, self.members
        starts, ends = members.starts, self.stretch.ends(members)
        fit: Mask = np.diff(members.firsts, append=len(members.places)) == template.members
        _enough(fit)
        if fit.all():
            values = members.places.reshape(len(starts), template.members)[:, template.places]
        else:
            starts, ends = starts[fit], ends[fit]
            values = members.places[members.firsts[fit][:, None] + template.places]
        widths = np.array([len(literal) for literal in template.literals], dtype=np.int64)
        # Bounds of literals and values in turn; the last value ends where the closer begins.
        bounds = np.empty((len(starts), 2 * len(widths)), dtype=np.int64)
        bounds[:, 0] = starts
        np.add(values, template.pads, out=bounds[:, 1:-2:2])
        np.subtract(bounds[:, 3:-2:2], widths[1:-1], out=bounds[:, 2:-3:2])
        np.subtract(ends, widths[-1], out=bounds[:, -2])
        bounds[:, -1] = ends
        right = (bounds[:, 1] == starts + widths[0]) & (bounds[:, 2::2] >= bounds[:, 1:-1:2]).all(axis=1)
        if not right.all():
            fit[np.flatnonzero(fit)[~right]] = False
            _enough(fit)
            bounds = bounds[right]
        right = self._same(bounds, b"".join(template.literals))
        if not right.all():
            fit[np.flatnonzero(fit)[~right]] = False
            _enough(fit)
            bounds = bounds[right]
        # A row per member from here on, so that its values stand side by side.
        begins = np.ascontiguousarray(bounds[:, 1:-1:2].T)
        initials = self.data[begins]
        return fit, Holes(begins, np.ascontiguousarray(bounds[:, 2::2].T), initials, initials == _NULL[0])

    def _same(self, bounds: Positions, expected: bytes) -> Mask:
        """Tell in which rows every other piece between the bounds, taken together, make the expected bytes."""
        right = np.ones(len(bounds), dtype=bool)
        step = max(16, _PIECES // bounds.shape[1])
        for first in range(0, len(bounds), step):
            # Some rows at a time, so that all of it stays near the processor.
            rows = bounds[first : first + step]
            flat = rows.ravel()
            found = self._pieces(flat, pa.array(np.arange(0, len(flat) - 1, 2))).buffers()[2]
            found = found.slice(0, len(expected) * len(rows))
            if not found.equals(pa.py_buffer(expected * len(rows))):
                table = np.frombuffer(found, dtype=np.uint8).reshape(len(rows), -1)
                right[first : first + step] = (table == np.frombuffer(expected, dtype=np.uint8)).all(axis=1)
        return right

    def _pieces(self, bounds: Positions, wanted: pa.Array) -> pa.Array:
        """Take pieces of the text that lie between rising bounds."""
        whole = pa.Array.from_buffers(TEXT, len(bounds) - 1, [None, pa.py_buffer(bounds), self.buffer])
        return whole.take(wanted)

    def _columns(self, begins: Positions, closes: Positions, missing: Mask) -> list[pa.Array]:
        """Take the values of each member; none where it is missing."""
        bounds = np.empty((len(begins), 2 * self.rows), dtype=np.int64)
        bounds[:, ::2] = begins
        bounds[:, 1::2] = closes
        places = pa.py_buffer(np.arange(0, 2 * self.rows, 2))
        valid = np.packbits(~missing, axis=1, bitorder="little")
        gaps = np.asarray(missing.any(axis=1)).tolist()
        return [
            self._pieces(
                bounds[number],
                pa.Array.from_buffers(pa.int64(), self.rows, [pa.py_buffer(valid[number]) if gap else None, places]),
            )
            for number, gap in enumerate(gaps)
        ]

    # --- how each member is read --------------------------------------------

    def _no_nulls(self, holes: Holes) -> Mask:
        """Find the records in which something begins like ``null`` and is none."""
        places = np.flatnonzero(holes.missing)
        begins = holes.begins.ravel()[places]
        words = np.ndarray(shape=(len(self.text) - 3,), dtype="<u4", buffer=self.text, strides=(1,))
        wrong = words[begins] != int.from_bytes(_NULL, "little")
        wrong |= holes.closes.ravel()[places] - begins != len(_NULL)
        odd = np.zeros(self.rows, dtype=bool)
        odd[places[wrong] % self.rows] = True
        return odd

    def _assign(self, place: int, path: Path, holes: Holes, empty: bool) -> None:
        """Settle how a member is read."""
        match path:
            case ("id",):
                self._put("id", place, "id")
            case ("attributes", name):
                self._assign_attribute(place, name, holes, empty)
            case ("relationships", name, *rest):
                self._assign_relationship(place, name, rest, holes, empty)
            case ("meta", name, *rest):
                self._assign_metadata(place, name, rest, holes, empty)
            case ("attributes", *_) | ("relationships",) | ("meta",):
                raise _OtherFormError
            case _:
                self._look_at(place, holes, empty)

    def _put(self, kind: str, place: int, column: str | None) -> None:
        self.work.setdefault(kind, []).append((place, column))

    def _assign_attribute(self, place: int, name: str, holes: Holes, empty: bool) -> None:
        attribute = self.resource.by_name.get(name)
        if attribute is None:
            self.unknown[name] = unknown_column(name, self.resource)
        if empty:
            return
        if attribute is not None:
            self._put(attribute.kind, place, attribute.column)
            return
        # The first value tells the kind of the others; those of another kind are odd.
        initial = chr(holes.initials[place, np.argmin(holes.missing[place])])
        kind = {'"': "text", "t": "boolean", "f": "boolean"}.get(initial)
        if kind is None and initial not in "-0123456789":
            raise _OtherFormError
        self._put(kind or "integer", place, self.unknown[name])

    def _assign_relationship(self, place: int, name: str, rest: Sequence[str], holes: Holes, empty: bool) -> None:
        relationship = self.resource.relationship_by_name.get(name)
        if relationship is None:
            self.unknown_relationships.add(name)
        if relationship is None or relationship.column is None or (rest and rest[0] != "data"):
            self._look_at(place, holes, empty)
        elif len(rest) > 1:
            raise _OtherFormError
        elif not rest:
            if not empty:
                self.odd |= ~holes.missing[place]  # no object, or one without members
        elif not empty:
            self.kinds[place] = relationship.type
            self._put("identifier", place, relationship.column)

    def _assign_metadata(self, place: int, name: str, rest: Sequence[str], holes: Holes, empty: bool) -> None:
        entry = next((entry for entry in self.resource.metadata if entry.name == name), None)
        if entry is None:
            self._look_at(place, holes, empty)
        elif rest or entry.dtype != "boolean":
            raise _OtherFormError
        elif not empty:
            self._put("boolean", place, entry.column)

    def _look_at(self, place: int, holes: Holes, empty: bool) -> None:
        """Only make sure of a member that is not read."""
        if not empty:
            texts = (holes.missing[place] | (holes.initials[place] == _QUOTE)).all()
            self._put("text" if texts else "anything", place, None)

    # --- values -------------------------------------------------------------

    def _read_texts(self, holes: Holes) -> None:
        """Read texts, and instants, which are written as texts."""
        instants = self.work.get("instant", [])
        work = self.work.get("text", []) + instants
        if not work:
            return
        holes = holes[[place for place, _ in work]]
        bad = (holes.initials != _QUOTE) | (holes.lengths < 2) | (self.data[holes.closes - 1] != _QUOTE)
        bad &= ~holes.missing
        self.odd |= bad.any(axis=0)
        missing = holes.missing | bad
        # Without the quotation marks; nothing of what is missing.
        begins = holes.begins + 1
        closes = np.where(missing, begins, holes.closes - 1)
        texts = self._columns(begins, closes, missing)
        for number, (_, column) in enumerate(work):
            held = np.frombuffer(texts[number].buffers()[2] or b"", dtype=np.uint8)
            if (held == _QUOTE).any() or (held == ord("\\")).any():
                texts[number], odd = read_escapes(texts[number])
                self.odd |= odd
            if column is not None:
                self.columns[column] = texts[number]
        if instants:
            stamps, odd = read_instants(pa.concat_arrays(texts[-len(instants) :]))
            self.odd |= odd.reshape(len(instants), self.rows).any(axis=0)
            self._split(stamps, instants)

    def _split(self, values: pa.Array, work: Sequence[tuple[int, str | None]]) -> None:
        """Give each member its part of values that were read together."""
        for number, (_, column) in enumerate(work):
            if column is not None:
                self.columns[column] = values.slice(number * self.rows, self.rows)

    def _read_integers(self, holes: Holes) -> None:
        """Read whole numbers and ids, those in resource identifiers among them."""
        identifiers, ids = self.work.get("identifier", []), self.work["id"]
        work = identifiers + ids + self.work.get("integer", [])
        holes = holes[[place for place, _ in work]]
        missing = holes.missing.copy()
        for number, (place, _) in enumerate(identifiers):
            self._strip(holes[number : number + 1], missing[number], place)
        there = ~missing
        texts = pa.concat_arrays(self._columns(holes.begins, holes.closes, missing))
        held = np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8)
        lengths = (holes.closes - holes.begins)[there]
        initials = self.data[holes.begins[there]]
        usual = (
            (held - ord("0")).max(initial=0) <= 9  # what is less than "0" wraps around
            and lengths.min(initial=1) >= 1
            and lengths.max(initial=1) <= _MAX_DIGITS
            and not ((initials == ord("0")) & (lengths > 1)).any()
        )
        if not usual:
            right = pc.fill_null(pc.match_substring_regex(texts, _INTEGER_FORM), False)
            self.odd |= (there & ~mask_of(right).reshape(there.shape)).any(axis=0)
            texts = pc.if_else(right, texts, pa.scalar(None, TEXT))
        numbers = texts.cast(pa.int64())
        self._split(numbers, work)
        keys = numbers.slice(0, (len(identifiers) + len(ids)) * self.rows)
        if (pc.min(keys).as_py() or 0) <= 0:
            low = mask_of(pc.fill_null(pc.less_equal(keys, 0), False))
            self.odd |= low.reshape(-1, self.rows).any(axis=0)
        self.odd |= missing[len(identifiers)]  # a record's own id is never missing

    def _strip(self, hole: Holes, missing: Mask, place: int) -> None:
        """Narrow resource identifiers down to their numbers; what is written otherwise is odd, and missing."""
        begins, closes = hole.begins[0], hole.closes[0]
        head, tail = self._identifier_form(begins, closes, np.flatnonzero(~missing), self.kinds[place])
        self.forms[place] = head, tail
        fits = ~missing & (closes - begins > len(head) + len(tail))
        bounds = np.column_stack([begins, begins + len(head), closes - len(tail), closes])[fits]
        fits[fits] = self._same(bounds, head + tail)
        self.odd |= ~missing & ~fits
        begins += len(head)
        closes[:] = np.where(fits, closes - len(tail), begins)
        missing[:] = ~fits

    def _identifier_form(
        self, begins: Positions, closes: Positions, there: Positions, kind: str
    ) -> tuple[bytes, bytes]:
        """Give what stands around the number in an identifier of this kind."""
        for place in there[:: max(1, len(there) // MAX_LESSONS)].tolist():
            written = self.text[begins[place] : closes[place]]
            bare = written.rstrip(b"} ")
            head = bare.rstrip(b"0123456789")
            try:
                if list(parse_json(written).items()) == [("type", kind), ("id", int(bare[len(head) :]))]:
                    return head, written[len(bare) :]
            except (DocumentError, AttributeError, ValueError):
                continue  # no identifier
        raise _OtherFormError


def _enough(fit: Mask) -> None:
    if not fit.any() or fit.sum() < (1 - MAX_ODD) * len(fit):
        raise _OtherFormError
