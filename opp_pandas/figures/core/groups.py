"""Groups of deals: by person, account, stage, category or any column.

A group stands on the id underneath a name. Its name comes from the look-ups of
the load; two people of one name are two groups, told apart by their ids
("Sam Lee (id 7)", "Sam Lee (id 9)"), so that every label is unique.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError, named
from opp_pandas.figures.core.blocks import blocks, look_up, smallest_integer
from opp_pandas.figures.core.categories import resolve_categories
from opp_pandas.figures.core.deals import Deals, factorize
from opp_pandas.resource import LOOKUP_COLUMNS
from opp_pandas.stages import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.figures.core.days import Codes, Flags, Floats, Integers, SmallCodes

UNASSIGNED = "(unassigned)"
MISSING = "(missing)"
NO_STAGE, UNKNOWN_STAGE = "(no stage)", "(stage not in the table)"


@dataclass(frozen=True, eq=False)
class Group:
    """One way to group deals.

    Parameters
    ----------
    name : str
        What was asked for, the name of the index level.
    codes : ndarray of integers, shape (n,)
        Position of every deal's group in `labels`, in as few bytes as it needs;
        there is no -1. `combine` is the way to reckon with them.
    labels : Index
        Labels in display order, unique; deals without a value stand last.
    keys : list
        The id behind each label, or None.
    """

    name: str
    codes: SmallCodes
    labels: pd.Index
    keys: list[Any]

    def __len__(self) -> int:
        return len(self.labels)

    def find(self, key: object) -> int:
        """Find the group that a user means by a label, a plain name or an id.

        Raises
        ------
        ConfigurationError
            If none fits, or more than one.
        """
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


def read_groups(deals: Deals, by: str | Sequence[str] | None) -> list[Group]:
    """Read every grouping that `by` names.

    Parameters
    ----------
    deals : Deals
        The deals.
    by : str, sequence of str or None
        Columns of the frame. ``owner_name``, ``account_name``, ``creator_name``
        and ``updater_name`` group by the id underneath; ``stage_name`` keeps
        the pipeline's order; ``category`` is the forecast category.

    Returns
    -------
    list of Group

    Raises
    ------
    MissingColumnError
        If the frame has no such column.
    """
    names: list[Any] = [] if by is None else list(by) if pd.api.types.is_list_like(by) else [by]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"by names a column twice: {named(names)}")
    if "period" in names:
        raise ConfigurationError("by cannot be 'period': that is the index already")
    return [_read_group(deals, name) for name in names]


def require_one_column(by: object) -> None:
    """Raise if `by` names several columns, or none: figures over time take one."""
    if not isinstance(by, str):
        raise ConfigurationError(f"by takes one column here, such as 'owner_name', not {by!r}")


def _read_group(deals: Deals, name: str) -> Group:
    if name == "category" and not deals.has("category"):
        return _by_category(deals)
    if name in ("stage_name", "stage_id") and (deals.has("stage_id") or deals.has("stage_name")):
        return by_stage(deals, name)
    if name in LOOKUP_COLUMNS and name.endswith("_name"):
        return _by_person_or_account(deals, name)
    deals.need(name)
    codes, distinct = deals.coded(name)
    missing = UNASSIGNED if name.endswith("_id") else MISSING
    ordered = isinstance(deals.frame[name].dtype, pd.CategoricalDtype)
    return _finish(name, codes, list(distinct), [None] * len(distinct), missing, keep_order=ordered)


def _by_category(deals: Deals) -> Group:
    codes = resolve_categories(deals).codes
    labels = pd.Index([*CATEGORIES, MISSING], dtype="str", name="category")
    # No category is -1, and its label the last one.
    codes = codes + np.int8(len(CATEGORIES) + 1) * (codes < 0).view(np.int8)
    return Group("category", codes, labels, [None] * len(labels))


def by_stage(deals: Deals, name: str = "stage_name") -> Group:
    """Group by stage, in pipeline order; deals without a stage or in an unknown one stand last."""
    table = deals.context.stages.frame
    ids: list[Any] = [None if pd.isna(key) else int(key) for key in table["stage_id"]]
    names = [None if pd.isna(text) else str(text) for text in table["stage_name"]]
    if name == "stage_id":
        labels: list[Any] = [text if key is None else key for key, text in zip(ids, names, strict=True)]
    else:
        labels = distinguish(
            [f"(id {key})" if text is None else text for key, text in zip(ids, names, strict=True)], ids
        )
    # Codes -2 (unknown) and -1 (none) count from the end of the labels.
    codes = deals.stage
    if len(codes) and codes.min() < 0:
        codes = np.where(codes < 0, codes + np.int16(len(labels) + 2), codes)
    index = pd.Index([*labels, UNKNOWN_STAGE, NO_STAGE], name=name)
    return Group(name, codes, index, [*ids, None, None])


def _by_person_or_account(deals: Deals, name: str) -> Group:
    id_column = LOOKUP_COLUMNS[name].id_column
    if not deals.has(id_column) and not deals.has(name):
        raise MissingColumnError([name], list(deals.frame.columns), f"Neither {name} nor {id_column} is there.")
    if deals.has(name) and not (deals.has(id_column) and deals.frame[id_column].notna().any()):
        codes, distinct = deals.coded(name)
        return _finish(name, codes, [str(text) for text in distinct], [None] * len(distinct), UNASSIGNED)
    codes, ids = deals.coded(id_column)
    known = _names_by_id(deals.context.lookups.get(LOOKUP_COLUMNS[name].type))
    labels = [known.get(key) for key in ids]
    keys: list[Any] = list(ids)
    if deals.has(name):
        unnamed = [place for place, text in enumerate(labels) if text is None]
        if unnamed:
            _name_from_column(labels, unnamed, codes, deals.frame[name])
        if (codes == -1).any():
            codes = _join_by_name(codes, labels, keys, deals.frame[name])
    plain = [f"(id {key})" if text is None else text for key, text in zip(keys, labels, strict=True)]
    return _finish(name, codes, distinguish(plain, keys), keys, UNASSIGNED)


def _names_by_id(lookup: pd.DataFrame | None) -> Mapping[Any, str | None]:
    if lookup is None or "id" not in lookup.columns or "name" not in lookup.columns:
        return {}
    pairs = zip(lookup["id"], lookup["name"], strict=True)
    return {key: None if pd.isna(text) else str(text) for key, text in pairs if not pd.isna(key)}


def _name_from_column(labels: list[str | None], unnamed: list[int], codes: SmallCodes, column: pd.Series) -> None:
    """Fill names that the look-ups do not know with the first joined name of the id."""
    rows = np.flatnonzero(column.notna().to_numpy() & (codes >= 0))
    first = np.full(len(labels), -1, dtype=np.intp)
    # Written last to first, so that the first row of each id stays.
    first[codes[rows[::-1]]] = rows[::-1]
    for place in unnamed:
        if first[place] >= 0:
            labels[place] = str(column.iloc[first[place]])


def _join_by_name(codes: SmallCodes, labels: list[str | None], keys: list[Any], column: pd.Series) -> SmallCodes:
    """Put deals that have a name and no id into the one group of that name, or into a new one."""
    rows = np.flatnonzero(codes == -1)
    name_codes, names = factorize(column.iloc[rows])
    counts = Counter(labels)
    places = []
    for text in (str(name) for name in names):
        if counts[text] == 1:
            places.append(labels.index(text))
        else:
            labels.append(text)
            keys.append(None)
            places.append(len(labels) - 1)
    joined = codes.astype(smallest_integer(len(labels)))
    joined[rows] = np.array([*places, -1])[name_codes]
    return joined


def distinguish(labels: Sequence[str], keys: Sequence[Any]) -> list[str]:
    """Add the id to labels that several groups share."""
    counts = Counter(labels)
    return [
        f"{label} (id {key})" if counts[label] > 1 and key is not None else label
        for label, key in zip(labels, keys, strict=True)
    ]


def identities(group: Group) -> list[Any]:
    """Give what tells the groups of one moment from those of another: the id underneath, else the label."""
    return [label if key is None else ("id", key) for key, label in zip(group.keys, group.labels, strict=True)]


def common_labels(groups: Iterable[Group]) -> dict[Any, Any]:
    """Give every identity that occurs in one of several groupings a label of its own; the first to name it counts.

    Each moment tells namesakes apart only if it has both of them.
    """
    names: dict[Any, Any] = {}
    for group in groups:
        for identity, label in zip(identities(group), group.labels, strict=True):
            names.setdefault(identity, label)
    keys = [identity[1] if isinstance(identity, tuple) else None for identity in names]
    return dict(zip(names, distinguish(list(names.values()), keys), strict=True))


def _finish(
    name: str, codes: SmallCodes, labels: list[Any], keys: list[Any], missing: str, keep_order: bool = False
) -> Group:
    """Sort the labels, and give deals without a value a label of their own at the end."""
    if missing in labels and keys[labels.index(missing)] is None:
        # Who wrote the word for it, as a table of ours that comes back does, means the same.
        place = labels.index(missing)
        others = [*range(place), -1, *range(place, len(labels) - 1), -1]
        codes = look_up(np.array(others, dtype=smallest_integer(len(labels))), codes)
        labels, keys = [*labels[:place], *labels[place + 1 :]], [*keys[:place], *keys[place + 1 :]]
    order = list(range(len(labels))) if keep_order else _sorted_places(labels)
    kept = [labels[place] for place in order]
    key_of = [keys[place] for place in order]
    some_missing = bool(len(codes)) and int(codes.min()) < 0
    if some_missing:
        kept.append(missing)
        key_of.append(None)
    if some_missing or order != list(range(len(labels))):
        place_of = np.empty(len(labels) + 1, dtype=smallest_integer(len(labels)))
        place_of[order] = np.arange(len(labels))
        place_of[-1] = len(labels)
        codes = look_up(place_of, codes)
    index = pd.Index(kept, name=name, dtype="str" if all(isinstance(label, str) for label in kept) else None)
    return Group(name, codes, index, key_of)


def _sorted_places(labels: Iterable[Any]) -> list[int]:
    listed = list(labels)
    try:
        return sorted(range(len(listed)), key=lambda place: _sort_key(listed[place]))
    except TypeError:
        return sorted(range(len(listed)), key=lambda place: str(listed[place]))


def _sort_key(label: Any) -> Any:
    return (label.casefold(), label) if isinstance(label, str) else label


def combine(groups: Sequence[Group], n: int, rows: slice = slice(None)) -> tuple[Codes, int]:
    """Combine groupings into one code per deal, or per deal of `rows`; gives the codes and how many there can be."""
    if not groups:
        return np.zeros(n, dtype=np.intp)[rows], 1
    codes, size = groups[0].codes[rows].astype(np.intp), len(groups[0])
    for group in groups[1:]:
        codes *= len(group)
        # Adding narrow codes as they are takes numpy longer.
        codes += group.codes[rows].astype(np.intp)
        size *= len(group)
    return codes, size


def split(cells: Codes, groups: Sequence[Group]) -> list[Codes]:
    """Take combined codes apart again, one array per grouping."""
    parts: list[Codes] = []
    rest = cells
    for group in reversed(groups):
        parts.append(rest % max(len(group), 1))
        rest = rest // max(len(group), 1)
    return parts[::-1]


def index_of(cells: Codes, groups: Sequence[Group]) -> pd.Index:
    """Give the labels of combined codes: a plain index for one grouping, else a MultiIndex."""
    levels = [group.labels[part] for group, part in zip(groups, split(cells, groups), strict=True)]
    return levels[0] if len(levels) == 1 else pd.MultiIndex.from_arrays(levels, names=[group.name for group in groups])


@dataclass(frozen=True, eq=False)
class Sums:
    """What the deals of every cell count and add up to."""

    count: Integers
    amount: Floats | Integers
    """Whole numbers where floats would not hold them."""
    product: Floats
    """Amount x percent: divided by 100 once it is summed, so that whole numbers stay exact."""
    missing_amount: Integers
    missing_percent: Integers


def sum_amounts(deals: Deals, cells: Codes, size: int, rows: Flags | Codes) -> Floats | Integers:
    """Sum the amounts of some deals, whose cells these are; whole numbers where floats would not hold the sums."""
    if deals.exact_amounts is None:
        return np.bincount(cells, np.nan_to_num(deals.amount[rows]), minlength=size).astype(np.float64)
    sums = np.zeros(size, dtype=np.int64)
    np.add.at(sums, cells, deals.exact_amounts[rows])
    return sums


def add_up(deals: Deals, cells_of: Callable[[slice], Codes], size: int) -> Sums:
    """Count the deals of every cell and sum their amounts.

    Parameters
    ----------
    deals : Deals
        The deals.
    cells_of : callable
        Gives the cells of a block of rows, 0 to `size` - 1.
    size : int
        Number of cells.

    Returns
    -------
    Sums
        Missing amounts and percentages are counted, never taken as 0.
    """
    exact = deals.exact_amounts
    counted = Sums(
        count=np.zeros(size, dtype=np.int64),
        amount=np.zeros(size) if exact is None else np.zeros(size, dtype=np.int64),
        product=np.zeros(size),
        missing_amount=np.zeros(size, dtype=np.int64),
        missing_percent=np.zeros(size, dtype=np.int64),
    )
    amounts, percents = deals.amounts, deals.percents
    for rows in blocks(len(deals)):
        cells = cells_of(rows)
        (amount, no_amount), (percent, no_percent) = amounts.filled(rows), percents.filled(rows)
        np.add.at(counted.count, cells, 1)
        np.add.at(counted.amount, cells, amount if exact is None else exact[rows])
        np.add.at(counted.product, cells, amount * percent)
        if no_amount is not None:
            np.add.at(counted.missing_amount, cells[no_amount], 1)
        if no_percent is not None:
            np.add.at(counted.missing_percent, cells[no_percent], 1)
    return counted
