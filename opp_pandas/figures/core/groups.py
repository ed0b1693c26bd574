"""Groups of deals: by person, account, stage, category or any column.

A group stands on the id underneath a name. Its name comes from the look-ups of
the load; two people of one name are two groups, told apart by their ids
("Sam Lee (id 7)", "Sam Lee (id 9)"), so that every label is unique.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError, named
from opp_pandas.figures.core.blocks import blocks, look_up, number_codes, smallest_integer, take_apart
from opp_pandas.figures.core.columns import factorize, some_of
from opp_pandas.figures.core.deals import CLOSED, NO_CATEGORY, OPEN, PIPELINE, WON, Deals
from opp_pandas.organisation import NAMES, THEN
from opp_pandas.resource import LOOKUP_COLUMNS
from opp_pandas.stages import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.figures.core.context import FigureContext
    from opp_pandas.figures.core.days import Codes, SmallCodes
    from opp_pandas.stages import StageTable

UNASSIGNED = "(unassigned)"
MISSING = "(missing)"
NO_STAGE, UNKNOWN_STAGE = "(no stage)", "(stage not in the table)"


@dataclass(frozen=True, eq=False)
class Group:
    """One way to group deals."""

    name: str
    """What was asked for, the name of the index level."""
    codes: SmallCodes
    """Position of every deal's group in `labels`, in as few bytes as it needs; there is no -1. `combine` is the way
    to reckon with them."""
    labels: pd.Index
    """Labels in display order, unique; deals without a value stand last."""
    keys: list[Any]
    """The id behind each label, or None."""

    def __len__(self) -> int:
        return len(self.labels)

    def find(self, key: object) -> int:
        """Find the group that a user means by a label, a plain name or an id."""
        # Neither a sequence nor what is missing is a label, and comparing with them goes wrong in many ways.
        comparable = not pd.api.types.is_list_like(key) and not pd.isna(key)  # type: ignore[call-overload]
        places = np.flatnonzero(np.asarray(self.labels == key)) if comparable else np.empty(0, dtype=np.intp)
        if not len(places) and comparable and not isinstance(key, str):
            places = np.array([place for place, own in enumerate(self.keys) if own is not None and own == key])
        if not len(places):
            texts = [str(label) for label in self.labels]
            near = [place for place, text in enumerate(texts) if text.startswith(f"{key} (id ")]
            if len(near) > 1:
                fitting = named([texts[place] for place in near])
                raise ConfigurationError(f"{key!r} fits {len(near)} groups of {self.name}; say which: {fitting}")
            import difflib

            close = difflib.get_close_matches(str(key), texts, 1)
            hint = f"; did you mean {named(close)}?" if close else f"; there are {named(texts, 8)}"
            raise ConfigurationError(f"{key!r} fits no group of {self.name}{hint}")
        return int(places[0])


@dataclass(frozen=True, eq=False)
class Axis:
    """What the groups of a grouping are, before they are named and sorted: so much of it can be read from a piece."""

    name: str
    """What was asked for."""
    kind: Literal["values", "people", "stage", "category"]
    """How groups are named."""
    entries: Sequence[Any]
    """What codes from 0 on mean: values; for people (id, name), where the name is that of a column and counts only
    where nothing better is known, and the id is None where the deals have a name alone; nothing for the rest."""
    some_missing: bool = False
    """Whether any deal has no value (code -1)."""
    ordered: bool = False
    """Whether the entries stand in display order."""

    @property
    def low(self) -> int:
        """The lowest code: -1 no value, -2 a stage that is not in the table."""
        return -2 if self.kind == "stage" else -1

    @property
    def size(self) -> int:
        """Number of codes; the place of a code is how far it lies above the lowest one."""
        return len(self.entries) - self.low

    @classmethod
    def merged(cls, axes: Sequence[Axis]) -> tuple[Axis, list[Codes]]:
        """Put the entries of several pieces into one axis; gives it and, for each piece, the new place of each."""
        first = axes[0]
        if first.kind in ("stage", "category"):
            return first, [np.arange(first.size, dtype=np.intp)] * len(axes)
        people = first.kind == "people"
        # People are told apart by id, and by name only where they have none.
        keys = [
            [key if key is not None else (None, text) for key, text in axis.entries] if people else axis.entries
            for axis in axes
        ]
        entries: dict[Any, Any] = {}
        for own, axis in zip(keys, axes, strict=True):
            for key, entry in zip(own, axis.entries, strict=True):
                known = entries.setdefault(key, entry)
                if people and known[1] is None:
                    entries[key] = entry
        place = {key: code + 1 for code, key in enumerate(entries)}
        tables = [np.array([0, *(place[key] for key in own)], dtype=np.intp) for own in keys]
        some_missing = any(axis.some_missing for axis in axes)
        return replace(first, entries=list(entries.values()), some_missing=some_missing), tables

    def group(self, places: Codes, context: FigureContext) -> Group:
        """Name and sort the groups, for rows or cells that stand at these places."""
        labels, keys, order = self.settle(context)
        return Group(self.name, order[places], labels, keys)

    def settle(self, context: FigureContext) -> tuple[pd.Index, list[Any], Codes]:
        """Return the labels, the id behind each, and which of them every place means."""
        if self.kind == "stage":
            return _name_stages(self.name, context.stages)
        if self.kind == "category":
            labels = pd.Index([*CATEGORIES, MISSING], dtype="str", name="category")
            return labels, [None] * len(labels), np.roll(np.arange(len(labels)), 1)
        if self.kind == "people":
            return self._name_people(context)
        missing = UNASSIGNED if self.name.endswith("_id") or self.name in NAMES else MISSING
        return self._finish(list(self.entries), [None] * len(self.entries), missing, self.some_missing)

    def _name_people(self, context: FigureContext) -> tuple[pd.Index, list[Any], Codes]:
        kind, organisation = LOOKUP_COLUMNS[self.name].type, context.organisation
        known = _names_by_id(context.lookups.get(kind))
        if kind == "user" and organisation is not None:
            known = {**_names_by_id(organisation.users), **known}
        with_id = {key: known.get(key, text) or text for key, text in self.entries if key is not None}
        keys, labels = list(with_id), list(with_id.values())
        place, bearer = dict(zip(keys, range(len(keys)), strict=True)), dict(zip(labels, range(len(keys)), strict=True))
        counts = Counter(labels)
        places = []
        for key, text in self.entries:
            # Deals that have a name and no id are in the one group of that name, or in a new one.
            if key is None and counts[text] != 1:
                labels.append(text)
                keys.append(None)
                places.append(len(labels) - 1)
            else:
                places.append(bearer[text] if key is None else place[key])
        plain = [f"(id {key})" if text is None else text for key, text in zip(keys, labels, strict=True)]
        index, ids, order = self._finish(distinguish(plain, keys), keys, UNASSIGNED, self.some_missing)
        return index, ids, order[np.array([0, *(code + 1 for code in places)], dtype=np.intp)]

    def _finish(
        self, labels: list[Any], keys: list[Any], missing: str, some_missing: bool
    ) -> tuple[pd.Index, list[Any], Codes]:
        """Sort the labels, and give what has no value a label of its own at the end."""
        order = list(range(len(labels))) if self.ordered else _sorted_places(labels)
        # Who wrote the word for it, as a table of ours that comes back does, means the same.
        order = [place for place in order if keys[place] is not None or labels[place] != missing]
        lacking = [place for place in (-1,) if some_missing or len(order) < len(labels)]
        kept = [*(labels[place] for place in order), *(missing for _ in lacking)]
        place_of = np.full(len(labels) + 1, len(order), dtype=np.intp)
        place_of[np.array(order, dtype=np.intp) + 1] = np.arange(len(order))
        dtype = "str" if all(isinstance(label, str) for label in kept) else None
        return (
            pd.Index(kept, name=self.name, dtype=dtype),
            [*(keys[p] for p in order), *(None for _ in lacking)],
            place_of,
        )


Grouping: TypeAlias = "tuple[Axis, SmallCodes]"
"""What the groups are, and the code of every deal."""


def read_axes(deals: Deals, by: str | Sequence[str] | None) -> list[Grouping]:
    """Read every grouping that `by` names, and the code of every deal; see `read_groups`."""
    names: list[Any] = [] if by is None else list(by) if pd.api.types.is_list_like(by) else [by]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"by names a column twice: {named(names)}")
    if "period" in names:
        raise ConfigurationError("by cannot be 'period': that is the index already")
    return [_read_axis(deals, name) for name in names]


def read_groups(deals: Deals, by: str | Sequence[str] | None) -> list[Group]:
    """Read every grouping that `by` names: columns of the frame, in any order.

    ``owner_name`` and the names of other people and accounts group by the id underneath;
    ``stage_name`` keeps the pipeline's order; ``category`` is the forecast category;
    ``team`` and ``role`` are the owners', where the load has the organisation, and over a
    history ``team_then`` and ``role_then`` those of each moment.
    """
    return [_group(deals, *pair) for pair in read_axes(deals, by)]


def by_stage(deals: Deals) -> Group:
    """Group by stage, in pipeline order; deals without a stage or in an unknown one stand last."""
    return _group(deals, *stage_axis(deals))


def _group(deals: Deals, axis: Axis, codes: SmallCodes) -> Group:
    labels, keys, order = axis.settle(deals.context)
    # Codes below 0 count from the end.
    table = np.roll(order, axis.low).astype(smallest_integer(len(labels)))
    return Group(axis.name, look_up(table, codes), labels, keys)


def require_one_column(by: object) -> None:
    """Raise if `by` names several columns, or none: figures over time take one."""
    if not isinstance(by, str):
        raise ConfigurationError(f"by takes one column here, such as 'owner_name', not {by!r}")


def _read_axis(deals: Deals, name: str) -> Grouping:
    if name == "category" and not deals.has("category"):
        return category_axis(), resolve_categories(deals)[0]
    if name in ("stage_name", "stage_id") and (deals.has("stage_id") or deals.has("stage_name")):
        return stage_axis(deals, name)
    if name in LOOKUP_COLUMNS and name.endswith("_name"):
        return _person_or_account_axis(deals, name)
    if isinstance(name, str) and name.removesuffix(THEN) in NAMES and not deals.has(name):
        return _organisation_axis(deals, name)
    deals.need(name)
    codes, distinct = deals.coded(name)
    ordered = isinstance(deals.frame[name].dtype, pd.CategoricalDtype)
    return Axis(name, "values", list(distinct), _some_missing(codes), ordered), codes


def _organisation_axis(deals: Deals, name: str) -> Grouping:
    """Group by the owners' team or role; who is in several teams is in a group of these teams: no deal counts twice."""
    what, context = name.removesuffix(THEN), deals.context
    organisation = (context.organisation_then if what != name else None) or context.organisation
    if organisation is None or not deals.has("owner_id"):
        hint = f"by={name!r} needs owner_id and a load with read_opportunities(organisation=True)."
        raise MissingColumnError([name], list(deals.frame.columns), hint)
    known = organisation.labels_of(what)
    codes, ids = deals.coded("owner_id")
    entries = sorted({known[key] for key in ids if key in known})
    place = {label: code for code, label in enumerate(entries)}
    table = np.array([-1, *(place.get(known.get(key, ""), -1) for key in ids)], dtype=np.intp)
    codes = table[codes.astype(np.intp) + 1].astype(smallest_integer(len(entries)))
    return Axis(name, "values", entries, _some_missing(codes)), codes


def _some_missing(codes: SmallCodes) -> bool:
    return bool(len(codes)) and int(codes.min()) < 0


def category_axis() -> Axis:
    """Return the axis of forecast categories; -1 is none."""
    return Axis("category", "category", range(len(CATEGORIES)))


def stage_axis(deals: Deals, name: str = "stage_name") -> Grouping:
    """Return the axis of stages, in pipeline order, and the code of every deal."""
    return Axis(name, "stage", range(len(deals.context.stages.frame))), deals.stage


BANDS = (90.0, 60.0)
"""Without a stated category: at least this percentage is commit, best case."""


def resolve_categories(deals: Deals, bands: tuple[float, float] = BANDS) -> tuple[npt.NDArray[np.int8], dict[str, int]]:
    """Return the forecast category of every deal, and how many open ones have it ``stated`` or from ``bands``.

    A category is its place in `opp_pandas.stages.CATEGORIES`; -1 for lost deals and those
    outside. Won deals are closed. An open deal takes the stated category; where nobody
    stated one, or somebody called an open deal closed, its probability decides: at least
    ``bands[0]`` percent is commit, ``bands[1]`` best case, all else pipeline, 0 percent and
    a missing percentage included.
    """
    commit, best_case = bands
    if not 100 >= commit >= best_case > 0:
        raise ConfigurationError(
            f"bands are percentages for commit and best case, falling, such as {BANDS}, not {bands}"
        )
    stated = deals.stated_category
    is_open = deals.status == OPEN
    # One-byte arithmetic: numpy chooses between single values far more slowly.
    codes = np.int8(NO_CATEGORY) + np.int8(CLOSED - NO_CATEGORY) * (deals.status == WON).view(np.int8)
    settled = np.zeros(len(deals), dtype=bool)
    if stated is not None:
        settled = is_open & (stated != NO_CATEGORY) & (stated != CLOSED)
        codes += settled.view(np.int8) * (stated - np.int8(NO_CATEGORY))
    n_stated, n_open = int(np.count_nonzero(settled)), int(np.count_nonzero(is_open))
    if n_stated < n_open:
        percent = deals.percent
        # Pipeline, best case and commit are 3, 2 and 1: each band that is reached takes one off.
        banded = np.int8(PIPELINE) - (percent >= best_case).view(np.int8) - (percent >= commit).view(np.int8)
        codes += (is_open & ~settled).view(np.int8) * (banded - np.int8(NO_CATEGORY))
    return codes, {"stated": n_stated, "bands": n_open - n_stated}


@lru_cache(maxsize=16)
def _name_stages(name: str, stages: StageTable) -> tuple[pd.Index, list[Any], Codes]:
    table = stages.frame
    ids: list[Any] = [None if pd.isna(key) else int(key) for key in table["stage_id"]]
    names = [None if pd.isna(text) else str(text) for text in table["stage_name"]]
    if name == "stage_id":
        labels: list[Any] = [text if key is None else key for key, text in zip(ids, names, strict=True)]
    else:
        labels = distinguish(
            [f"(id {key})" if text is None else text for key, text in zip(ids, names, strict=True)], ids
        )
    index = pd.Index([*labels, UNKNOWN_STAGE, NO_STAGE], name=name)
    return index, [*ids, None, None], np.roll(np.arange(len(index)), 2)


def _person_or_account_axis(deals: Deals, name: str) -> Grouping:
    id_column = LOOKUP_COLUMNS[name].id_column
    if not deals.has(id_column) and not deals.has(name):
        raise MissingColumnError([name], list(deals.frame.columns), f"Neither {name} nor {id_column} is there.")
    if deals.has(name) and not (deals.has(id_column) and deals.frame[id_column].notna().any()):
        codes, distinct = deals.coded(name)
        return Axis(name, "people", [(None, str(text)) for text in distinct], _some_missing(codes)), codes
    codes, ids = deals.coded(id_column)
    texts: list[str | None] = [None] * len(ids)
    without = np.flatnonzero(codes == -1)
    entries: list[tuple[Any, str | None]] = []
    if deals.has(name):
        known = _names_by_id(deals.context.lookups.get(LOOKUP_COLUMNS[name].type))
        unnamed = [place for place, key in enumerate(ids) if known.get(key) is None]
        if unnamed:
            _name_from_column(texts, unnamed, codes, deals.frame[name])
        if len(without):
            name_codes, names = factorize(some_of(deals.frame[name], without))
            entries = [(None, str(text)) for text in names.to_numpy(dtype=object)]
            codes = codes.astype(smallest_integer(len(ids) + len(names)))
            codes[without] = np.where(name_codes < 0, -1, name_codes.astype(np.intp) + len(ids))
    return Axis(name, "people", [*zip(ids, texts, strict=True), *entries], _some_missing(codes)), codes


def _names_by_id(lookup: pd.DataFrame | None) -> Mapping[Any, str | None]:
    if lookup is None or "id" not in lookup.columns or "name" not in lookup.columns:
        return {}
    pairs = zip(lookup["id"], lookup["name"], strict=True)
    return {key: None if pd.isna(text) else str(text) for key, text in pairs if not pd.isna(key)}


def _name_from_column(labels: list[str | None], unnamed: list[int], codes: SmallCodes, column: pd.Series) -> None:
    """Fill names that the look-ups do not know with the first joined name of the id."""
    lacking = np.zeros(len(labels) + 1, dtype=bool)
    lacking[unnamed] = True
    for rows in blocks(len(codes)):
        if not lacking.any():
            return
        # Most often the first few rows name all ids: no more of them is looked at.
        found = np.flatnonzero(lacking[codes[rows]] & column.iloc[rows].notna().to_numpy())
        places, first = np.unique(codes[rows][found], return_index=True)
        # Arrow's text is slow to go through one by one, and fast to turn into objects.
        texts = column.array[rows.start + found[first]].to_numpy(dtype=object)
        for place, text in zip(places.tolist(), texts, strict=True):
            labels[place] = str(text)
        lacking[places] = False


def distinguish(labels: Sequence[str], keys: Sequence[Any]) -> list[str]:
    """Add the id to labels that several groups share."""
    counts = Counter(labels)
    return [
        f"{label} (id {key})" if counts[label] > 1 and key is not None else label
        for label, key in zip(labels, keys, strict=True)
    ]


def identities(group: Group) -> list[Any]:
    """Return what tells the groups of one moment from those of another: the id underneath, else the label."""
    return [label if key is None else ("id", key) for key, label in zip(group.keys, group.labels, strict=True)]


def common_labels(groups: Iterable[Group]) -> dict[Any, Any]:
    """Label every identity that occurs in one of several groupings; the first to name it counts.

    Each moment tells namesakes apart only if it has both of them.
    """
    names: dict[Any, Any] = {}
    for group in groups:
        for identity, label in zip(identities(group), group.labels, strict=True):
            names.setdefault(identity, label)
    keys = [identity[1] if isinstance(identity, tuple) else None for identity in names]
    return dict(zip(names, distinguish(list(names.values()), keys), strict=True))


def _sorted_places(labels: Iterable[Any]) -> list[int]:
    listed = list(labels)
    try:
        keys = [(label.casefold(), label) if isinstance(label, str) else label for label in listed]
        return sorted(range(len(listed)), key=keys.__getitem__)
    except TypeError:
        return sorted(range(len(listed)), key=[str(label) for label in listed].__getitem__)


def combine(groups: Sequence[Group], n: int) -> tuple[Codes, int]:
    """Combine groupings into one code for each of `n` deals; gives the codes and how many there can be."""
    codes, size = np.zeros(n, dtype=np.intp), 1
    for group in groups:
        codes *= len(group)
        # Adding narrow codes as they are takes numpy longer.
        codes += group.codes.astype(np.intp)
        size *= len(group)
    return codes, size


def index_of(cells: Codes, groups: Sequence[Group]) -> pd.Index:
    """Return the labels of combined codes: a plain index for one grouping, else a MultiIndex."""
    _, *parts = take_apart(cells, [len(group) for group in groups])
    return index_from([(group.labels, part) for group, part in zip(groups, parts, strict=True)])


def index_from(levels: Sequence[tuple[pd.Index, Codes]]) -> pd.Index:
    """Return the index of rows, each level by its labels and the place of every row's among them.

    The same as `MultiIndex.from_arrays` gives, which would look the labels of all rows up again.
    """
    if len(levels) == 1:
        labels, places = levels[0]
        return labels[places]
    known, codes = [], []
    for labels, places in levels:
        used, among = number_codes(places, len(labels))
        few = pd.Categorical(labels[used])
        known.append(few.categories)
        codes.append(few.codes[among])
    names = [labels.name for labels, _ in levels]
    return pd.MultiIndex(known, codes, names=names, verify_integrity=False)  # type: ignore[arg-type]
