"""What was loaded, and how it travels along with a frame.

``df.attrs["opp"]`` holds a `FrameState`: to pandas a string, so that copying,
comparing and writing attrs as JSON work; to this package the door to the
immutable `Loaded` behind it. Pickle keeps the load without its client. Parquet
keeps the text, and in it a `Meaning`: what figures need, but not the baseline
that edits are compared with.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from opp_pandas.errors import NotLoadedError
from opp_pandas.load_report import LoadReport
from opp_pandas.organisation import Organisation
from opp_pandas.resource import EDITABLE_NAMES, OPPORTUNITY
from opp_pandas.stages import STAGE_TABLE_DTYPES, StageTable

ATTRS_KEY = "opp"
TEXT_VERSION = 1
"""Of the text in ``df.attrs["opp"]``; another one is not read."""
MOST_NAMES = 5_000
"""A longer look-up stays out of the text: names then come from the frame's own columns."""
_NAME_DTYPES = {"id": "Int64", "name": "str", "order": "Int64", "is_closed": "boolean"}


class FrameState(str):
    """A text that carries a `Loaded`; it copies as itself, and is pickled with the load but without its client."""

    __slots__ = ("loaded",)
    loaded: Loaded

    def __new__(cls, loaded: Loaded) -> Self:
        """Make the text from what was loaded."""
        self = super().__new__(cls, loaded.text)
        self.loaded = loaded
        return self

    def __copy__(self) -> FrameState:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrameState:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameState, (self.loaded,)


Place = tuple[int, str]
"""Where a cell is: the row's position and the column."""


@dataclass(frozen=True)
class CellMarks:
    """Cells that need care, by position and column.

    `original` holds the JSON value of cells whose canonical form differs from what was sent;
    `locked` says why cells could not take their dtype: they are missing in the frame, their
    original is kept, and they are never written.
    """

    original: Mapping[Place, Any] = field(default_factory=dict)
    locked: Mapping[Place, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.original or self.locked)

    def take(self, kept: Iterable[int]) -> CellMarks:
        """Return the marks of these positions, in this order."""
        if not self:
            return self
        place_of = {int(old): new for new, old in enumerate(kept)}
        return self._moved(lambda row, column: (place_of[row], column) if row in place_of else None)

    def at(self, places: Any) -> CellMarks:
        """Return the marks with row `i` at position ``places[i]``."""
        return self._moved(lambda row, column: (int(places[row]), column))

    def rename(self, names: Mapping[str, str]) -> CellMarks:
        """Return the marks under other column names; those of columns not named here are dropped."""
        return self._moved(lambda row, column: (row, names[column]) if column in names else None)

    def without(self, cells: Callable[[int, str], bool]) -> CellMarks:
        """Return the marks of all cells but those that `cells` accepts."""
        return self._moved(lambda row, column: None if cells(row, column) else (row, column))

    def __or__(self, other: CellMarks) -> CellMarks:
        return CellMarks({**self.original, **other.original}, {**self.locked, **other.locked})

    @classmethod
    def concat(cls, parts: Iterable[CellMarks], lengths: Iterable[int]) -> CellMarks:
        """Return the marks of parts that stand one below the other."""
        original: dict[Place, Any] = {}
        locked: dict[Place, str] = {}
        start = 0
        for part, length in zip(parts, lengths, strict=True):
            original |= {(start + row, column): value for (row, column), value in part.original.items()}
            locked |= {(start + row, column): reason for (row, column), reason in part.locked.items()}
            start += length
        return cls(original, locked)

    def _moved(self, target: Callable[[int, str], Place | None]) -> CellMarks:
        def moved(cells: Mapping[Place, Any]) -> dict[Place, Any]:
            places = ((target(*cell), value) for cell, value in cells.items())
            return {place: value for place, value in places if place is not None}

        return CellMarks(moved(self.original), moved(self.locked))


@dataclass(frozen=True, eq=False)
class Rows:
    """Decoded rows, under a plain RangeIndex, with what is known of single cells.

    As the baseline of a load they are what the service (or the adopted file)
    said, and never change: see `frozen`.
    """

    frame: pd.DataFrame
    marks: CellMarks = field(default_factory=CellMarks)

    @cached_property
    def ids(self) -> pd.Index:
        """The ids by position, for looking rows up; unique, since rows without an id get a negative number."""
        ids = self.frame["id"]
        return pd.Index(ids.to_numpy(dtype=np.int64, na_value=0) - ids.isna().to_numpy() * np.arange(1, len(ids) + 1))

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, kept: Any) -> Rows:
        """Return these positions, in this order."""
        return Rows(self.frame.iloc[kept].reset_index(drop=True), self.marks.take(kept))

    def frozen(self) -> Rows:
        """Return a copy that nothing done to the frame later can reach."""
        return Rows(freeze(self.frame), self.marks)


@dataclass(frozen=True, slots=True)
class Pending:
    """A deal that waits to be created.

    `position` is its row in the baseline, for adopted rows. It is found by its own custom id where
    its index label is lost; `key` tells it from every other new deal, now and in any later session,
    and is sent as the custom id where it has none. `attempted`: an earlier write may have created it.
    """

    position: int | None
    custom_id: str | None
    key: str
    attempted: bool = False


OWN_CUSTOM_ID = "opp-pandas:"
"""How the custom ids begin that this package makes."""
_KEYS = uuid.UUID("6a1cf3a5-5a1c-4f0e-9d0b-0b6d1f6b7c11")
_CONTENT = frozenset(
    {entry.column for entry in OPPORTUNITY.attributes if not entry.read_only}
    | {*OPPORTUNITY.relationship_by_column, *EDITABLE_NAMES}
)


def adopted_deals(frame: pd.DataFrame, places: Sequence[int]) -> list[Pending]:
    """Build what tells adopted rows apart, the same whenever the same file is adopted.

    The key of a row comes from its custom id, else from all of its cells that
    could be written; of equal rows each has a key of its own, in their order.
    """
    columns = [str(column) for column in sorted(frame.columns) if column in _CONTENT]
    cells_of = [frame[column].iloc[list(places)].tolist() for column in columns]
    seen: Counter[str] = Counter()
    deals = []
    for number, place in enumerate(places):
        values = zip(columns, (cells[number] for cells in cells_of), strict=True)
        cells = {column: str(value) for column, value in values if not _is_missing(value)}
        own = cells.get("custom_id")
        content = json.dumps(cells if own is None else {"custom_id": own})
        key = OWN_CUSTOM_ID + str(uuid.uuid5(_KEYS, f"{content} {seen[content]}"))
        seen[content] += 1
        deals.append(Pending(place, own, key))
    return deals


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or value != value  # NaN alone differs from itself


@dataclass(frozen=True, eq=False)
class Loaded:
    """Everything that one load knows; immutable, shared by all frames made from it.

    Parameters
    ----------
    kind : {"read", "adopt"}
        Whether the rows came from the service or from a file of the user's.
    baseline : Rows
        What was loaded. Adopted rows stand in it too, without an id.
    stages : StageTable
        The stages and what they mean.
    lookups : mapping of str to DataFrame
        ``opportunityStage``, ``user`` and ``account``: columns ``id, name`` and
        more, for names and for resolving edits by name.
    timezone : str or None
        The zone of calendar days; None: UTC, and figures say so.
    as_of : Timestamp
        The moment of the load (or adopt's argument), UTC.
    client : Client or None
        Where edits go by default.
    report : LoadReport
        How it went.
    created : mapping
        Rows that came by ``add()`` or ``adopt()`` and do not exist at the
        service yet: index label to `Pending`, or to the position in `baseline`;
        read it through `pending`.
    definitions : mapping
        How the organisation cuts time and what its amounts mean, as far as it
        was stated: ``fiscal_start``, ``fiscal_label``, ``calendar``, ``rates``,
        ``currency``, ``probability`` and the like; figures take them from here.
    labels : mapping of str to str
        Column to label, where custom fields bear the organisation's names.
    custom_fields : mapping of str to CustomField
        Column to what the organisation set up, once ``/types`` was read.
    converted : mapping of str to str
        Column to kind, where texts of custom fields were turned into values.
    query : mapping
        What was asked for: ``filter`` (with instants), ``where`` (the part tested
        here), ``fields``, ``include``, ``authorization_meta``,
        ``data_connections``, ``limit``, ``stages``.
    watermark : Timestamp or None
        By the service's clock: every change before it is in the baseline. None
        where no service said what time it is.
    key : str
        Tells one load from another, so that pieces of two loads do not mix.
    organisation : Organisation or None
        Roles, teams and users, where they were asked for.
    service : str or None
        Address of the service that the ids belong to; taken from `client`, and
        still known where the client is not, as after pickle.
    activity : DataFrame or None
        What was done on the deals, where that was asked for, as `read_activity` gives it.
    """

    kind: Literal["read", "adopt"]
    baseline: Rows
    stages: StageTable
    lookups: Mapping[str, pd.DataFrame]
    timezone: str | None
    as_of: pd.Timestamp
    client: Any = None
    report: LoadReport = field(default_factory=LoadReport)
    created: Mapping[Any, Any] = field(default_factory=dict)
    definitions: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    custom_fields: Mapping[str, Any] = field(default_factory=dict)
    converted: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    watermark: pd.Timestamp | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    organisation: Organisation | None = None
    service: str | None = None
    activity: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        if self.client is not None:
            object.__setattr__(self, "service", self.client.url)

    @cached_property
    def pending(self) -> dict[Any, Pending]:
        """The rows that wait to be created, by index label."""
        places = [int(entry) for entry in self.created.values() if not isinstance(entry, Pending)]
        adopted = dict(zip(places, adopted_deals(self.baseline.frame, places), strict=True))
        return {
            label: entry if isinstance(entry, Pending) else adopted[int(entry)] for label, entry in self.created.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: everything but the client, which holds a token, and what can be worked out again."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"client": None}

    @cached_property
    def meaning(self) -> Meaning:
        """What figures need of it."""
        base = self.baseline.frame
        alone = not {"amount", "amount_precise"} <= set(base.columns)
        return Meaning(
            source=self.report.source,
            rows=len(self.baseline),
            keys=int(base[[name for name in ("id", "custom_id") if name in base.columns]].notna().any(axis=1).sum()),
            all_deals=not any(self.query.get(name) for name in ("filter", "where")) and self.query.get("limit") is None,
            stages=self.stages,
            lookups=self.lookups,
            timezone=self.timezone,
            as_of=self.as_of,
            definitions=self.definitions,
            organisation=self.organisation,
            exact_amounts_alone=alone or bool((base["amount"].isna() & base["amount_precise"].notna()).any()),
            caveats=self.report.caveats,
        )

    @cached_property
    def text(self) -> str:
        """What was loaded as JSON: no row, no client, no token."""
        return self.meaning.to_text(self.kind, self.key)

    def renewed(self, **changes: Any) -> Loaded:
        """Return a successor with `changes` and a key of its own."""
        return replace(self, **{"key": uuid.uuid4().hex, **changes})


@dataclass(frozen=True, eq=False)
class Meaning:
    """What figures need of a load beside the rows: what a Parquet file keeps.

    `keys` counts deals with an id or a custom id; `all_deals`: the load had neither conditions nor
    a limit; `exact_amounts_alone`: deals came with an exact amount and no whole one. Out of a text,
    `definitions` are as `pack_definitions` wrote them. The rest is as in `Loaded` and `LoadReport`.
    """

    source: str
    rows: int
    keys: int
    all_deals: bool
    stages: StageTable
    lookups: Mapping[str, pd.DataFrame]
    timezone: str | None
    as_of: pd.Timestamp
    definitions: Mapping[str, Any]
    exact_amounts_alone: bool
    caveats: tuple[str, ...] = ()
    organisation: Organisation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Write it down; JSON keeps it."""
        return {
            "version": TEXT_VERSION,
            "rows": self.rows,
            "keys": self.keys,
            "source": self.source,
            "as_of": self.as_of.isoformat(),
            "timezone": self.timezone,
            "all_deals": self.all_deals,
            "exact_amounts_alone": self.exact_amounts_alone,
            "caveats": list(self.caveats),
            "definitions": pack_definitions(self.definitions),
            "stages": _columns(self.stages.frame, STAGE_TABLE_DTYPES),
            "lookups": {
                kind: _columns(lookup, _NAME_DTYPES)
                for kind, lookup in self.lookups.items()
                if len(lookup) <= MOST_NAMES
            },
            "organisation": None if self.organisation is None else self.organisation.to_dict(),
        }

    def to_text(self, kind: str, key: str, **more: Any) -> str:
        """Write it as JSON, with what tells one load from another."""
        return json.dumps({"opp_pandas": kind, "key": key, **self.to_dict(), **more}, default=_plain)

    @classmethod
    def parse(cls, text: str) -> Meaning | None:
        """Read the text of a load; None for one of another version or origin."""
        try:
            facts = json.loads(text)
            if facts["version"] != TEXT_VERSION:
                return None
            return cls(
                source=str(facts["source"]),
                rows=int(facts["rows"]),
                keys=int(facts["keys"]),
                all_deals=facts["all_deals"] is True,
                stages=StageTable(_table(facts["stages"], STAGE_TABLE_DTYPES)),
                lookups={kind: _table(columns, _NAME_DTYPES) for kind, columns in facts["lookups"].items()},
                timezone=facts["timezone"],
                as_of=pd.Timestamp(facts["as_of"]).tz_convert("UTC"),
                definitions=dict(facts["definitions"]),
                exact_amounts_alone=facts["exact_amounts_alone"] is True,
                caveats=tuple(facts.get("caveats", ())),
                organisation=Organisation.from_dict(facts["organisation"]) if facts.get("organisation") else None,
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            # Somebody else's text: the frame is a plain one, and what needs a load says so.
            return None


def pack_definitions(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Write definitions as JSON keeps them; `opp_pandas.figures.core.context.unpack_definitions` reads them."""
    return {name: _packed(value) for name, value in definitions.items()}


def _packed(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _plain(value: Any) -> Any:
    """Write a value that JSON does not know; numpy's numbers come out of users' tables."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _columns(table: pd.DataFrame, dtypes: Mapping[str, str]) -> dict[str, list[Any]]:
    """Write the known columns of a small table as lists."""
    kept = [name for name in dtypes if name in table.columns]
    return {name: [None if pd.isna(value) else value for value in table[name].tolist()] for name in kept}


def _table(columns: Mapping[str, list[Any]], dtypes: Mapping[str, str]) -> pd.DataFrame:
    table = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    return table.astype({name: dtypes[name] for name in columns})


def attach_loaded(frame: pd.DataFrame, loaded: Loaded) -> pd.DataFrame:
    """Put `loaded` on `frame` in place and return it."""
    frame.attrs[ATTRS_KEY] = FrameState(loaded)
    return frame


def loaded_of(frame: pd.DataFrame) -> Loaded | None:
    """Return what travels with `frame`, or None."""
    state = frame.attrs.get(ATTRS_KEY)
    return state.loaded if isinstance(state, FrameState) else None


def meaning_of(frame: pd.DataFrame) -> Meaning | None:
    """Return what figures need of the load that travels with `frame`, or of its text in a Parquet file; else None."""
    state = frame.attrs.get(ATTRS_KEY)
    if isinstance(state, FrameState):
        return state.loaded.meaning
    if isinstance(state, Meaning):
        return state
    return Meaning.parse(state) if isinstance(state, str) else None


def require_loaded(frame: pd.DataFrame, what: str) -> Loaded:
    """Return what travels with `frame`; a NotLoadedError says how to put it back."""
    loaded = loaded_of(frame)
    if loaded is None:
        carried = "only what figures need of it, as after Parquet" if meaning_of(frame) is not None else "nothing of it"
        raise NotLoadedError(f"{what} needs what was loaded, and this frame carries {carried}. {PUT_IT_BACK}")
    return loaded


PUT_IT_BACK = (
    "pandas drops it in merge, concat with new rows, pd.DataFrame(df) and files; put it back with "
    "df.opp.attach(original) (after merged = df.merge(...): merged.opp.attach(df)) or load again with "
    "opp.read_opportunities(), and add new deals with original.opp.add(rows)"
)
"""What to do about a frame that lost its load."""


def freeze(frame: pd.DataFrame) -> pd.DataFrame:
    """Copy `frame` so that nothing done to it later can reach the copy.

    Text is shared, since Arrow buffers cannot be changed; numbers and instants
    are copied, but for what is missing throughout; lists become tuples.
    """
    fresh = frame.reset_index(drop=True)
    fresh.attrs = {}
    missing: dict[str, Any] = {}
    for name, column in frame.loc[:, (frame.dtypes != "str").to_numpy()].items():
        dtype = str(column.dtype)
        if dtype == "object":
            fresh[name] = _frozen_values(column.to_numpy())
        elif column.isna().all():
            # Nobody changes these: what is missing throughout may be one array for all.
            fresh[name] = missing.setdefault(dtype, column.array.copy())
        else:
            fresh[name] = column.array.copy()
    return fresh


def _frozen_values(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Freeze many values; equal lists of text become one tuple."""
    if set(map(type, values)) <= {list, type(None)}:
        # One at a time: so many tuples at once would have the garbage collector walk everything there is.
        tuples = (None if value is None else tuple(value) for value in values)
        known: dict[Any, Any] = {}
        with contextlib.suppress(TypeError):  # lists within lists
            frozen = np.fromiter((known.setdefault(value, value) for value in tuples), dtype=object, count=len(values))
            if set(map(type, itertools.chain.from_iterable(filter(None, known)))) <= {str}:
                return frozen
    return np.fromiter(map(freeze_value, values), dtype=object, count=len(values))


def freeze_value(value: Any) -> Any:
    """Return a value whose lists, at every depth, are tuples."""
    if isinstance(value, list | tuple):
        return tuple(freeze_value(item) for item in value)
    if isinstance(value, dict):
        return {key: freeze_value(item) for key, item in value.items()}
    return value
