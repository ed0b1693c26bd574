"""Stages: their order, and which of them mean open, won or lost.

The service says of a stage only whether it is closed. Whether closed means won
or lost is for the team to say, in a `StageMap`; without one it is guessed from
the stages' names, and every figure says that it stands on a guess.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from opp_pandas._html import as_page
from opp_pandas.errors import ConfigurationError, named, printable

Status = Literal["open", "won", "lost", "closed", "unknown"]
CATEGORIES = ("closed", "commit", "best_case", "pipeline", "omitted")

_WON = re.compile(r"\bwon\b", re.IGNORECASE)
_LOST = re.compile(r"\blost\b", re.IGNORECASE)


def _as_tuple(words: str, values: Iterable[str | int] | str | int) -> tuple[str | int, ...]:
    if isinstance(values, str | int):
        return (values,)
    found = tuple(values) if isinstance(values, Iterable) else (values,)
    if isinstance(values, Iterable) and all(isinstance(key, Hashable) for key in found):
        return found
    raise ConfigurationError(f"{words}= is a list of stages, by name or id, not {printable(repr(values), 60)}")


def _as_dict(words: str, values: Mapping[str | int, Any] | None) -> dict[str | int, Any]:
    if values is None or isinstance(values, Mapping):
        return dict(values or {})
    raise ConfigurationError(f"{words}= is a mapping of stages, by name or id, not {printable(repr(values), 60)}")


def _percent(value: Any) -> float:
    """Return a number; what is none becomes NaN, which no percentage is."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


class StageMap:
    """What a team means by its stages.

    Parameters
    ----------
    order : sequence of str or int, default ()
        Names or ids of the open stages, first to last; closed ones may be
        listed too. Left out, the service's own order is used.
    won, lost : sequence of str or int, default ()
        The closed stages that mean won, and those that mean lost.
    probability : mapping of str or int to number, optional
        The team's chance of winning per stage [percent, 0-100].
    category : mapping of str or int to str, optional
        Forecast category per stage: closed, commit, best_case, pipeline or omitted.

    Raises
    ------
    ConfigurationError
        If a stage is both won and lost, stands twice, a probability or category
        is not one, or an argument is no list or mapping of stages.

    Examples
    --------
    >>> from opp_pandas.stages import StageMap
    >>> StageMap(order=["Lead", "Offer"], won=["Won"], lost=["Lost"], probability={"Lead": 10, "Offer": 60})
    StageMap(order=['Lead', 'Offer'], won=['Won'], lost=['Lost'], probability={'Lead': 10.0, 'Offer': 60.0})
    >>> stages.keys, stages.to_dict()["won"]
    (('Closed Won', 'Closed Lost'), ['Closed Won'])
    """

    __slots__ = ("category", "lost", "order", "probability", "won")

    def __init__(
        self,
        order: Iterable[str | int] = (),
        won: Iterable[str | int] = (),
        lost: Iterable[str | int] = (),
        probability: Mapping[str | int, float] | None = None,
        category: Mapping[str | int, str] | None = None,
    ) -> None:
        self.order = _as_tuple("order", order)
        self.won = _as_tuple("won", won)
        self.lost = _as_tuple("lost", lost)
        self.probability = {key: _percent(value) for key, value in _as_dict("probability", probability).items()}
        self.category = _as_dict("category", category)
        self._check()

    def _check(self) -> None:
        both = [key for key in self.won if key in self.lost]
        if both:
            raise ConfigurationError(f"stage {named(both)} is listed as won and as lost; keep it in one of the two")
        for words, keys in (("order", self.order), ("won", self.won), ("lost", self.lost)):
            doubled = sorted({str(key) for key in keys if keys.count(key) > 1})
            if doubled:
                raise ConfigurationError(f"{words}= names {named(doubled)} twice")
        odd = {key: value for key, value in self.probability.items() if not 0 <= value <= 100}
        if odd:
            raise ConfigurationError(f"stage probabilities are numbers in percent, 0 to 100; not so: {named(odd)}")
        positive = [value for value in self.probability.values() if value > 0]
        if len(positive) > 1 and max(positive) <= 1:
            raise ConfigurationError("stage probabilities are percent: write 10 for 10 %, not 0.1")
        unknown = {str(value) for value in self.category.values() if value not in CATEGORIES}
        if unknown:
            raise ConfigurationError(f"forecast category {named(sorted(unknown))} is not one of {named(CATEGORIES)}")

    def __repr__(self) -> str:
        parts = [f"{name}={list(getattr(self, name))}" for name in ("order", "won", "lost") if getattr(self, name)]
        parts += [f"{name}={getattr(self, name)}" for name in ("probability", "category") if getattr(self, name)]
        return f"StageMap({', '.join(parts)})"

    def _repr_html_(self) -> str:
        return as_page(
            "\n".join(["StageMap", *(f"{name}: {value}" for name, value in self.to_dict().items() if value)])
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StageMap) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # holds mappings

    @property
    def keys(self) -> tuple[str | int, ...]:
        """Every stage that is named anywhere in the map, in order, won and lost last."""
        listed = (*self.order, *self.probability, *self.category, *self.won, *self.lost)
        middle = [key for key in dict.fromkeys(listed) if key not in self.won and key not in self.lost]
        return (*middle, *self.won, *self.lost)

    def to_dict(self) -> dict[str, Any]:
        """Return the map as plain lists and dicts."""
        return {
            "order": list(self.order),
            "won": list(self.won),
            "lost": list(self.lost),
            "probability": dict(self.probability),
            "category": dict(self.category),
        }


@dataclass(frozen=True, eq=False)
class StageTable:
    """Stages with their meaning settled: one row per stage, in pipeline order.

    Made by `resolve_stages`; the figures take it, never a `StageMap`.

    Parameters
    ----------
    frame : DataFrame, shape (n, 8)
        Columns ``stage_id`` (Int64, missing for stages known by name only),
        ``stage_name`` (str), ``stage_order`` (Int64), ``is_closed`` (boolean),
        ``status`` (``open``, ``won``, ``lost``; ``closed`` for a closed stage
        that nobody called won or lost; ``unknown`` for a stage outside a map
        that claims to be whole), ``probability`` (Float64, percent),
        ``category`` (str), ``origin`` (``map``, ``service`` or ``guess``).
    """

    frame: pd.DataFrame

    def __repr__(self) -> str:
        words = [f"{len(self.frame):,} stages{' (won or lost guessed from names)' if self.guessed else ''}"]
        for status in ("open", "won", "lost", "closed", "unknown"):
            names = self.frame.loc[self.frame["status"] == status, "stage_name"]
            words += [f"  {status}: {named(list(names), 20)}"] if len(names) else []
        return "\n".join(words)

    def _repr_html_(self) -> str:
        return as_page(repr(self), ("in the pipeline's order", self.frame))

    @cached_property
    def status(self) -> np.ndarray[Any, np.dtype[np.object_]]:
        """Status of every stage, by position."""
        return self.frame["status"].to_numpy(dtype=object)

    @cached_property
    def categories(self) -> list[str | None]:
        """Forecast category of every stage, by position; None where nobody stated one."""
        return [None if pd.isna(word) else str(word) for word in self.frame["category"]]

    @property
    def unmapped(self) -> list[str]:
        """Names of the stages whose outcome nobody stated."""
        return list(self.frame.loc[self.frame["status"].isin(["closed", "unknown"]), "stage_name"])

    @cached_property
    def guessed(self) -> bool:
        """Whether won or lost stands on a guess from names."""
        closed = self.frame["status"].isin(["won", "lost"])
        return bool((self.frame["origin"] == "guess")[closed].any())

    def positions(self, values: pd.Series | pd.Index) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Find stages by ``stage_id`` or ``stage_name``, as `values` is called: -1 no stage, -2 not in the table."""
        # Looked up per distinct value: stages are few, rows are many.
        codes, distinct = pd.factorize(values, use_na_sentinel=True)
        place_of = self._places[str(values.name)]
        found = [place_of.get(value, -2) for value in pd.Index(distinct).tolist()]
        return np.array([*found, -1], dtype=np.int32)[codes]

    @cached_property
    def positions_from(self) -> tuple[int, np.ndarray[Any, np.dtype[np.int16]]]:
        """The lowest id, and the position of every whole number from it to the highest; none if these are far apart."""
        ids = self.frame["stage_id"].dropna()
        low, high = (int(ids.min()), int(ids.max())) if len(ids) else (0, -1)
        numbers = pd.RangeIndex(low, high + 1 if high - low < 100_000 else low, name="stage_id")
        return low, self.positions(numbers).astype(np.int16)

    @cached_property
    def _places(self) -> dict[str, dict[Any, int]]:
        """Position of every stage by id and by name; of two stages with one name, the first."""
        return {
            column: {key: place for place, key in reversed(list(enumerate(self.frame[column]))) if not pd.isna(key)}
            for column in ("stage_id", "stage_name")
        }

    def with_ids(self, lookup: pd.DataFrame) -> StageTable:
        """Fill in the service's ids of stages known by name only; a name that stands there twice gives none."""
        single = lookup.dropna(subset=["name"]).drop_duplicates("name", keep=False)
        by_name = dict(zip(single["name"], single["id"], strict=True))
        found = pd.array([by_name.get(name) for name in self.frame["stage_name"]], dtype="Int64")
        return StageTable(self.frame.assign(stage_id=self.frame["stage_id"].fillna(pd.Series(found))))

    @cached_property
    def _names_by_status(self) -> dict[str, list[str]]:
        names = [str(name) for name in self.frame["stage_name"].astype(object)]
        return {
            status: [name for name, own in zip(names, self.status, strict=True) if own == status]
            for status in ("open", "won", "lost", "closed", "unknown")
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain lists for a figure's basis: names by status, and what is guessed."""
        return {
            **{
                status: list(names)
                for status, names in self._names_by_status.items()
                if names or status in ("open", "won", "lost")
            },
            "guessed": self.guessed,
        }


STAGE_TABLE_DTYPES = {
    "stage_id": "Int64",
    "stage_name": "str",
    "stage_order": "Int64",
    "is_closed": "boolean",
    "status": "str",
    "probability": "Float64",
    "category": "str",
    "origin": "str",
}


def resolve_stages(
    stage_map: StageMap | None = None,
    lookup: pd.DataFrame | None = None,
    names: Iterable[str] = (),
) -> StageTable:
    """Settle what each stage means.

    Parameters
    ----------
    stage_map : StageMap, optional
        What the team says. Without one, won and lost are guessed from names.
    lookup : DataFrame, optional
        The service's stages: columns ``id, name, order, is_closed``.
    names : iterable of str
        Stage names found in the data, for data that came without a look-up.

    Returns
    -------
    StageTable
        Open stages first, in order, then won, lost and the rest.

    Raises
    ------
    ConfigurationError
        If the map names a stage that the look-up does not have, or one stage as
        won and as lost, by name and by id.
    """
    stages = _known_stages(stage_map, lookup, names)
    if stage_map is not None and lookup is not None:
        _refuse_unknown_keys(stage_map, stages)
    # A map that lists an order claims to be whole: what stands nowhere in it is unknown, not open.
    whole = stage_map is not None and bool(stage_map.order)
    settled = [_settle(stage, stage_map, whole, lookup is not None) for stage in stages]
    rank = {"open": 0, "won": 1, "lost": 2, "closed": 3, "unknown": 4}
    settled.sort(key=lambda row: (rank[row["status"]], row["sort"], str(row["stage_name"])))
    for place, row in enumerate(settled, 1):
        if row["stage_order"] is None:
            row["stage_order"] = place
    frame = pd.DataFrame(
        [{key: row[key] for key in STAGE_TABLE_DTYPES} for row in settled], columns=list(STAGE_TABLE_DTYPES)
    )
    return StageTable(frame.astype(STAGE_TABLE_DTYPES))


def _known_stages(
    stage_map: StageMap | None, lookup: pd.DataFrame | None, names: Iterable[str]
) -> list[dict[str, Any]]:
    if lookup is not None:
        kept = lookup[["id", "name", "order", "is_closed"]].astype(object)
        rows = kept.where(kept.notna(), None).to_dict("records")
        return [{str(key): value for key, value in row.items()} for row in rows]
    listed: Sequence[str | int] = stage_map.keys if stage_map is not None else ()
    everything = dict.fromkeys([*(key for key in listed if isinstance(key, str)), *names])
    named_rows: list[dict[str, Any]] = [
        {"id": None, "name": name, "order": None, "is_closed": None} for name in everything
    ]
    return named_rows + [
        {"id": key, "name": None, "order": None, "is_closed": None} for key in listed if not isinstance(key, str)
    ]


def _refuse_unknown_keys(stage_map: StageMap, stages: list[dict[str, Any]]) -> None:
    have: set[Any] = {stage["name"] for stage in stages} | {stage["id"] for stage in stages}
    unknown = [key for key in stage_map.keys if key not in have]
    if unknown:
        texts = [str(stage["name"]) for stage in stages]
        near = difflib.get_close_matches(str(unknown[0]), texts, 1)
        hint = f"; did you mean {named(near)}?" if near else f"; there are {named(texts, 20) or 'none'}"
        raise ConfigurationError(f"the stage map names {named(unknown)}, which the service does not have{hint}")


def _settle(stage: dict[str, Any], stage_map: StageMap | None, whole: bool, from_service: bool) -> dict[str, Any]:
    keys = [key for key in (stage["id"], stage["name"]) if key is not None]

    def listed(group: Sequence[str | int]) -> bool:
        return any(key in group for key in keys)

    def value_of(group: Mapping[str | int, Any]) -> Any:
        return next((group[key] for key in keys if key in group), None)

    origin = "map"
    if stage_map is not None and listed(stage_map.won) and listed(stage_map.lost):
        # By name in one and by id in the other: only the service's stages show that they are the same.
        raise ConfigurationError(f"stage {named(keys)} is listed as won and as lost; keep it in one of the two")
    if stage_map is not None and listed(stage_map.won):
        status = "won"
    elif stage_map is not None and listed(stage_map.lost):
        status = "lost"
    elif stage_map is not None and listed(stage_map.order):
        status = "closed" if stage["is_closed"] else "open"
    else:
        status, origin = _status_without_map(stage, stage_map, whole, from_service)
    place = next((stage_map.order.index(key) for key in keys if key in stage_map.order), None) if stage_map else None
    order = stage["order"]
    sort = place if place is not None else (10_000 + order if order is not None else 20_000)
    return {
        "stage_id": stage["id"],
        "stage_name": stage["name"],
        "stage_order": order,
        "is_closed": status != "open" if stage["is_closed"] is None else bool(stage["is_closed"]),
        "status": status,
        "probability": value_of(stage_map.probability) if stage_map else None,
        "category": value_of(stage_map.category) if stage_map else None,
        "origin": origin,
        "sort": sort,
    }


def _status_without_map(
    stage: dict[str, Any], stage_map: StageMap | None, whole: bool, from_service: bool
) -> tuple[str, str]:
    """Judge a stage that the map does not name."""
    closed, name = stage["is_closed"], str(stage["name"] or "")
    if from_service and not closed:
        return "open", "service"
    stated = stage_map is not None and bool(stage_map.won or stage_map.lost)
    if stated:
        # The team said what is won and lost: a guess beside it would overrule silence with a name.
        if closed:
            return "closed", "service"
        return ("unknown", "map") if whole else ("open", "map")
    if _WON.search(name) and not _LOST.search(name):
        return "won", "guess"
    if _LOST.search(name) and not _WON.search(name):
        return "lost", "guess"
    if closed:
        return "closed", "service"
    return ("unknown", "map") if whole else ("open", "guess")
