"""Finding for every row of an edited frame the row that was loaded, or that it is new."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.api.documents import identifier
from opp_pandas.errors import DuplicateRowsError, FrameError, MissingColumnError, named
from opp_pandas.kinds import INTEGER, UnfitError
from opp_pandas.load.custom_fields import plain_frame
from opp_pandas.resource import COLUMN_DTYPES

if TYPE_CHECKING:
    from opp_pandas.frame_state import Loaded, Pending

_MADE_UP = "is not an id that was loaded; an id cannot be changed or made up"
_NOT_NEW = "has no id and came neither by add() nor by adopt(); bring new deals in with df.opp.add(rows)"


@dataclass(frozen=True, eq=False)
class Rows:
    """Where each row of a frame belongs.

    ``ids`` are read back from whatever dtype they have drifted to; ``places`` are
    positions in the baseline, -1 for rows that are not in it under an id.
    ``created`` holds the rows that wait to be created, by position, with their
    label, ``refused`` every other one and why it cannot be written.
    """

    ids: Any
    places: np.ndarray[Any, np.dtype[np.int64]]
    created: dict[int, tuple[Any, Pending]]
    refused: dict[int, str]


def usable_frame(frame: pd.DataFrame, loaded: Loaded) -> pd.DataFrame:
    """Bring a frame into the shape that is compared, or refuse it: plain unique columns, ids in a column, API names."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise FrameError(
            "the columns are a MultiIndex; give changes() a frame with one row per deal, not a pivot of it"
        )
    known = set(COLUMN_DTYPES) | set(loaded.baseline.frame.columns)
    levels = [name for name in frame.index.names if name in known and name not in frame.columns]
    if levels:
        frame = frame.reset_index(level=levels)
    frame = plain_frame(frame, loaded)
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        words = named(dict.fromkeys(map(str, doubled)))
        raise DuplicateRowsError(f"column {words} stands twice; drop or rename one", list(doubled))
    if "id" not in frame.columns:
        hint = "Without it no row can be found again: bring the column back, or start from the loaded frame."
        raise MissingColumnError(["id"], frame.columns, hint)
    return frame


def match_rows(frame: pd.DataFrame, loaded: Loaded) -> Rows:
    """Match the rows of a usable frame with what was loaded; one deal in several rows, as after a merge, is refused."""
    own = frame["id"]
    own = own.map(_read_id, na_action="ignore") if own.dtype in ("object", "str") else own
    values, reasons = INTEGER.read_column(own)
    present = ~np.asarray(values.isna())
    if present.all() and _are_the_loaded(values, loaded):
        # Every row stands where it was loaded: no look-up of a million ids has to say so.
        return Rows(values, np.arange(len(frame)), {}, {})
    ids = pd.Series(values[present])
    doubled = ids[ids.duplicated()].unique()
    if len(doubled):
        raise DuplicateRowsError(
            f"id {named(doubled)} stands in more than one row, as after a merge that doubled rows; keep one row per id",
            [int(value) for value in doubled],
        )
    places = np.full(len(frame), -1)
    places[present] = loaded.baseline.ids.get_indexer(pd.Index(ids.to_numpy(dtype=np.int64)))
    # Rows that wait for their id bear negative numbers there, which no id of the frame may reach.
    places[present & np.asarray(values.to_numpy(dtype=np.int64, na_value=0) <= 0)] = -1
    refused = {place: f"id {reason}" for place, reason in reasons.items()}
    refused |= {int(place): f"id {values[place]} {_MADE_UP}" for place in np.flatnonzero(present & (places < 0))}
    waiting = [int(place) for place in np.flatnonzero(~present) if int(place) not in refused]
    created = _match_new(frame, loaded, waiting)
    refused |= {place: f"the row {_NOT_NEW}" for place in waiting if place not in created}
    return Rows(values, places, created, refused)


def _are_the_loaded(ids: Any, loaded: Loaded) -> bool:
    known = loaded.baseline.frame["id"].array
    return len(ids) == len(known) and not INTEGER.differs(ids, known).any()


def _read_id(value: Any) -> Any:
    """Read an id that came as text, as from a CSV that was read without types."""
    try:
        return identifier(value) if isinstance(value, str) else value
    except UnfitError:
        return value


def _match_new(frame: pd.DataFrame, loaded: Loaded, waiting: list[int]) -> dict[int, tuple[Any, Pending]]:
    """Find rows without an id by their custom id, or else by their index label."""
    pending = loaded.pending
    own = {label: entry.custom_id for label, entry in pending.items() if entry.custom_id is not None}
    counts = Counter(own.values())
    by_custom_id = {custom: label for label, custom in own.items() if counts[custom] == 1}
    custom_ids = frame["custom_id"].array if "custom_id" in frame.columns else [None] * len(frame)
    created: dict[int, tuple[Any, Pending]] = {}
    for place in waiting:
        custom = custom_ids[place]
        # The custom id leads: labels move to other rows in reset_index(drop=True).
        label = by_custom_id[custom] if custom in by_custom_id else frame.index[place]
        if label in pending:
            created[place] = label, pending[label]
    doubled = [label for label, count in Counter(label for label, _ in created.values()).items() if count > 1]
    if doubled:
        raise DuplicateRowsError(
            f"the new deal of row {named(doubled)} stands in more than one row; keep one row per deal", doubled
        )
    return created
