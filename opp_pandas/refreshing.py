"""`refresh`: bringing a loaded frame up to what changed at the service since."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from opp_pandas.activity.read import ATTRS_KEY as ACTIVITY_KEY
from opp_pandas.activity.read import read_more_activity
from opp_pandas.activity.touches import add_touches
from opp_pandas.api.frame_builder import join_names
from opp_pandas.api.query import Query
from opp_pandas.apply.merge import merge_row
from opp_pandas.changes.changeset import Cell
from opp_pandas.changes.diff import find_changes, loaded_value
from opp_pandas.changes.row_matching import match_rows, usable_frame
from opp_pandas.errors import ConfigurationError, FrameError
from opp_pandas.frame_state import Loaded, Rows, attach_loaded, require_loaded
from opp_pandas.load.custom_fields import convert_texts
from opp_pandas.load.failures import row_failures
from opp_pandas.load.incremental import catch_up
from opp_pandas.load.organisation import read_organisation
from opp_pandas.load.upsert import Places, extended, overlay, put
from opp_pandas.reconciling import client_of
from opp_pandas.resource import LOOKUP_COLUMNS
from opp_pandas.stages import resolve_stages

if TYPE_CHECKING:
    from opp_pandas.api.client import Client

_NO_NEWS = frozenset({"updated_at", "touched_at", "updater_id", "updater_name"})
Kept = Mapping[int, tuple[set[str], set[str]]]


def refresh(
    frame: pd.DataFrame,
    client: Client | None = None,
    *,
    overlap: str | float | pd.Timedelta = "2min",
    on_conflict: Literal["skip", "mine", "theirs"] = "skip",
    new: bool = True,
    page_size: int | None = None,
) -> pd.DataFrame:
    """Read what changed at the service since the frame was loaded, and keep unsaved edits.

    Only deals whose ``updated_at`` is after the last load or refresh (by the
    service's clock, less `overlap`) are read. Stage, owner and account names are
    read again too, since renaming does not touch the deals, and what was done on
    the deals where they were loaded with ``touches=True``. Not seen are deleted
    deals (`reconcile` finds them), data connections, and deals that a filter by
    account name lost or gained by a renaming.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        A frame that came from `read_opportunities`, edited or not, whole or a
        part of it. Never modified.
    client : Client, optional
        Where to read; default the client of the load.
    overlap : str, float or Timedelta, default "2min"
        How far to go back behind the last load [s, where a number], for changes
        that the service makes visible late. Deals read twice do no harm.
    on_conflict : {"skip", "mine", "theirs"}
        Where you and the service changed a cell to different values: "skip"
        keeps your value and what was loaded, so that `write_back` asks again;
        "mine" keeps your value and takes note of theirs, so that `write_back`
        overwrites it; "theirs" drops your edit.
    new : bool, default True
        Append deals that are new since. Say False for a frame that was cut down
        in pandas.
    page_size : int, optional
        Rows asked for at once; default the client's.

    Returns
    -------
    DataFrame, shape (n - left + appended, k)
        A new frame: index and order of the rows are kept, new deals stand last.
        Deals that left the filter of the load are dropped, unless they hold
        unsaved edits. ``load_report.refreshed`` lists what changed,
        ``load_report.conflicts`` the cells that both sides changed.

    Raises
    ------
    NotLoadedError
        If nothing of a load travels with the frame.
    FrameError
        If the rows did not come from a service.
    ServiceError
        If anything cannot be read: then nothing of it counts as read.

    Examples
    --------
    >>> made_up = opp.sandbox(opportunities=20, now="2026-11-02")
    >>> before = opp.read_opportunities(made_up.client(), stages=stages)
    >>> happened = made_up.advance(days=7)
    >>> after = before.opp.refresh()
    >>> len(after) >= len(before), len(after.opp.changes())
    (True, 0)
    """
    if on_conflict not in ("skip", "mine", "theirs"):
        raise ConfigurationError(f"on_conflict is 'skip', 'mine' or 'theirs', not {on_conflict!r}")
    loaded = require_loaded(frame, "refresh()")
    client = client_of(loaded, client, "refresh()")
    return _Refresh(frame, loaded, client, _span(overlap), on_conflict, new, page_size).run()


def _span(overlap: Any) -> pd.Timedelta:
    try:
        span = pd.Timedelta(overlap, unit="s") if isinstance(overlap, int | float) else pd.Timedelta(overlap)
    except (ValueError, TypeError):
        span = pd.Timedelta(-1)
    if not span >= pd.Timedelta(0):
        raise ConfigurationError(f"overlap is a span of time such as '2min', not {overlap!r}")
    return span


class _Refresh:
    """One refresh: read, merge, build the new frame."""

    def __init__(
        self,
        frame: pd.DataFrame,
        loaded: Loaded,
        client: Client,
        overlap: pd.Timedelta,
        policy: Literal["skip", "mine", "theirs"],
        new: bool,
        page_size: int | None,
    ) -> None:
        self.frame, self.loaded, self.client = frame, loaded, client
        self.policy, self.new, self.page_size = policy, new, page_size
        self.query = {"filter": {}, "include": (), **loaded.query}
        self.old = loaded.baseline
        self.since = _last_seen(loaded) - overlap
        self.notes: list[str] = []
        self.conflicts: list[tuple[Any, ...]] = []
        self.matched = match_rows(usable_frame(frame, loaded), loaded)

    def run(self) -> pd.DataFrame:
        """Carry it out."""
        started, calls = time.monotonic(), self.client.calls
        edits = self._edits()
        news = catch_up(
            self.client,
            Query(
                self.query["filter"],
                fields=self.query.get("fields"),
                page_size=self.page_size,
                authorization_meta=bool(self.query.get("authorization_meta")),
                data_connections=bool(self.query.get("data_connections")),
            ),
            self.old,
            self.loaded.lookups,
            self.since,
            include=tuple(self.query["include"] or ()),
            zone=self.loaded.timezone,
            where=self.query.get("where"),
            limited=self.query.get("limit") is not None,
        )
        self.notes += news.notes
        fresh, left, lookups = news.fresh, news.left, news.lookups
        self.refreshed = self._news(fresh, left)
        dropped = left - {self._id_of(place) for place in edits}
        rows, places = overlay(self.old, fresh)
        rows = Rows(join_names(rows.frame, lookups, self.query["include"]), rows.marks)
        kept = self._merge(edits, fresh, places)
        rows, restored = self._restored(rows, kept)
        shown = self._new_frame(rows, places, kept)
        result = self._without(shown, rows, dropped)
        return self._attached(*result, lookups, news.moment, news.pages, calls, started, restored)

    def _news(self, fresh: Rows, left: frozenset[int]) -> pd.DataFrame:
        """List what is not as it was; a row whose time stamps alone moved is no news."""
        places = pd.Index(self.old.frame["id"]).get_indexer(pd.Index(fresh.frame["id"]))
        changed = np.zeros(len(fresh), dtype=bool)
        for column in fresh.frame.columns if len(fresh) else ():
            if column in self.old.frame.columns and column not in _NO_NEWS:
                changed |= _differ(self.old.frame[column].array.take(places, allow_fill=True), fresh.frame[column])
        words = np.where(places < 0, "new", np.where(changed, "changed", ""))
        if "trashed_at" in fresh.frame.columns and "trashed_at" in self.old.frame.columns:
            before = pd.Series(self.old.frame["trashed_at"].array.take(places, allow_fill=True))
            trashed = fresh.frame["trashed_at"].notna().to_numpy() & before.isna().to_numpy() & (places >= 0)
            words = np.where(trashed, "trashed", words)
        news = [(int(key), str(word)) for key, word in zip(fresh.frame["id"], words, strict=True) if word]
        news += [(key, "left the filter") for key in sorted(left)]
        return pd.DataFrame(news, columns=["id", "change"]).astype({"id": "Int64", "change": "str"})

    # --- merging -----------------------------------------------------------------

    def _id_of(self, place: int) -> int:
        return int(self.matched.ids[place])

    def _edits(self) -> dict[int, list[Cell]]:
        """Every cell that the user changed, those that would be refused too, by the row's place in the frame."""
        plan = find_changes(self.frame)
        edits: dict[int, list[Cell]] = {
            update.position: [cell for cell in update.cells if cell.follows is None] for update in plan.updates
        }
        for entry in plan.refusals:
            if entry.action == "update" and entry.position >= 0 and self.matched.places[entry.position] >= 0:
                edits.setdefault(entry.position, []).append(Cell(entry.column, entry.before, entry.after))
        return edits

    def _merge(
        self, edits: Mapping[int, list[Cell]], fresh: Rows, places: Places
    ) -> dict[int, tuple[set[str], set[str]]]:
        """Merge row by row; give by place in the frame the columns that stay mine, and those in conflict."""
        theirs_at = dict(zip(places.tolist(), range(len(fresh)), strict=True))
        theirs = replace(self.loaded, baseline=fresh)
        merged: dict[int, tuple[set[str], set[str]]] = {}
        for place, cells in edits.items():
            own = theirs_at.get(int(self.matched.places[place]))
            if own is None:
                merged[place] = {cell.column for cell in cells}, set()
                continue
            now = {
                cell.column: loaded_value(theirs, own, cell.column)
                for cell in cells
                if cell.column in fresh.frame.columns and cell.column not in LOOKUP_COLUMNS
            }
            outcome = merge_row(tuple(cells), now, self.policy)
            clashing = {cell.column for cell, _ in outcome.conflicts}
            self.conflicts += [
                (self._id_of(place), cell.column, cell.before, cell.after, value) for cell, value in outcome.conflicts
            ]
            merged[place] = {cell.column for cell in outcome.send} | clashing, clashing
        return merged

    def _restored(self, rows: Rows, kept: Kept) -> tuple[Rows, int]:
        """Let cells in conflict keep what was loaded underneath, so that they are still a conflict when written."""
        frame, marks = rows.frame, rows.marks
        by_column: dict[str, list[int]] = {}
        for place, (_, clashing) in kept.items():
            for column in _with_names(clashing):
                by_column.setdefault(column, []).append(int(self.matched.places[place]))
        for column, positions in by_column.items():
            if column not in frame.columns:
                continue
            at = np.array(positions, dtype=np.int64)
            before = pd.Series(self.old.frame[column].array.take(at))
            frame = frame.assign(**{column: put(frame[column].array, at, before)})
        clashing_cells = {(position, column) for column, positions in by_column.items() for position in positions}
        marks = marks.without(lambda *cell: cell in clashing_cells)
        marks |= self.old.marks.without(lambda *cell: cell not in clashing_cells)
        return Rows(frame, marks), sum(map(len, by_column.values()))

    # --- the new frame -------------------------------------------------------------

    def _new_frame(self, rows: Rows, places: Places, kept: Kept) -> pd.DataFrame:
        """Put the service's values into a copy of the frame, and the new deals at its end."""
        appended = np.arange(len(self.old), len(rows)) if self.new else np.array([], dtype=np.int64)
        mine: dict[str, list[int]] = {}
        for place, (columns, _) in kept.items():
            for column in _with_names(columns):
                mine.setdefault(column, []).append(place)
        back = {label: column for column, label in self.loaded.labels.items()}
        known = np.flatnonzero(self.matched.places >= 0)
        touched = known[np.isin(self.matched.places[known], places)]
        new_places = len(self.frame) + np.arange(len(appended))
        arrays: list[Any] = []
        for number, label in enumerate(self.frame.columns):
            column = back.get(str(label), label)
            array = extended(self.frame.iloc[:, number].array, len(appended))
            if column in rows.frame.columns:
                # Names may change with their look-up, everything else only with a row that was read.
                candidates = known if column in LOOKUP_COLUMNS else touched
                if not len(candidates) and not len(appended):
                    arrays.append(array)
                    continue
                theirs = candidates[self._moved(column, rows.frame, candidates)]
                theirs = np.setdiff1d(theirs, np.array(mine.get(column, []), dtype=np.int64))
                at = np.concatenate([self.matched.places[theirs], appended])
                values = pd.Series(rows.frame[column].array.take(at))
                if column in self.loaded.converted:
                    values, _ = convert_texts(values, self.loaded.custom_fields[column])
                array = put(array, np.concatenate([theirs, new_places]), values)
            arrays.append(array)
        labels = _labels(self.frame.index, rows.frame["id"].array.take(appended))
        made = pd.DataFrame(dict(enumerate(arrays)), index=self.frame.index.append(labels), copy=False)
        made.columns = self.frame.columns
        made.attrs = {key: value for key, value in self.frame.attrs.items() if key != "opp"}
        return made

    def _moved(self, column: str, now: pd.DataFrame, known: Places) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return for which rows of the frame the service's value is another than the loaded one."""
        at = self.matched.places[known]
        if column not in self.old.frame.columns:
            return np.ones(len(known), dtype=bool)
        return _differ(self.old.frame[column].array.take(at), pd.Series(now[column].array.take(at)))

    def _without(self, shown: pd.DataFrame, rows: Rows, dropped: Iterable[int]) -> tuple[pd.DataFrame, Rows]:
        """Drop rows that left the filter, here and from what counts as loaded."""
        gone = set(dropped)
        if not gone:
            return shown, rows
        places = [place for place in range(len(self.frame)) if self.matched.ids[place] in gone]
        keep = np.setdiff1d(np.arange(len(shown)), places)
        stay = np.flatnonzero(~rows.frame["id"].isin(gone).to_numpy(dtype=bool))
        return shown.iloc[keep], rows.take(stay)

    def _attached(
        self,
        shown: pd.DataFrame,
        rows: Rows,
        lookups: Mapping[str, pd.DataFrame],
        moment: pd.Timestamp | None,
        pages: int,
        calls: int,
        started: float,
        restored: int,
    ) -> pd.DataFrame:
        stages = self.loaded.stages
        try:
            stages = resolve_stages(self.query.get("stages"), lookups.get("opportunityStage"))
        except ConfigurationError as error:
            self.notes.append(f"the stages keep the meaning they had: {error}")
        if restored and self.policy == "skip":
            self.notes.append(
                "cells in conflict keep your value; write_back(on_conflict=...) or refresh(...) settles them"
            )
        organisation = self.loaded.organisation
        if organisation is not None:
            organisation = read_organisation(self.client, self.notes)
        activity = self.loaded.activity
        if activity is not None:
            activity = read_more_activity(self.client, shown, activity, self.since)
            self.notes += activity.attrs[ACTIVITY_KEY]["notes"]
        conflicts = pd.DataFrame(self.conflicts, columns=["id", "field", "loaded", "mine", "theirs"], dtype=object)
        report = replace(
            self.loaded.report,
            rows=len(shown),
            failures=row_failures(rows),
            refreshed=self.refreshed,
            conflicts=conflicts.astype({"id": "Int64", "field": "str"}),
            notes=tuple(self.notes),
            pages=pages,
            requests=self.client.calls - calls,
            elapsed_s=time.monotonic() - started,
        )
        loaded = self.loaded.renewed(
            baseline=rows.frozen(),
            stages=stages,
            lookups=lookups,
            as_of=moment if moment is not None else pd.Timestamp.now(tz="UTC"),
            watermark=moment if moment is not None else self.loaded.watermark,
            client=self.client,
            report=report,
            organisation=organisation,
            activity=activity,
        )
        result = attach_loaded(shown, loaded)
        return result if activity is None or "touch_count" not in result else add_touches(result, activity)


def _last_seen(loaded: Loaded) -> pd.Timestamp:
    """Return the moment up to which every change is in the baseline."""
    if loaded.watermark is not None:
        return loaded.watermark
    stamps = loaded.baseline.frame.get("updated_at")
    known = [] if stamps is None else stamps.dropna().sort_values().tolist()
    return known[-1] if known else pd.Timestamp(0, tz="UTC")


def _with_names(columns: Iterable[str]) -> set[str]:
    """Add the names that stand beside ids: an id that stays keeps its names."""
    ids = set(columns)
    return ids | {name for name, entry in LOOKUP_COLUMNS.items() if entry.id_column in ids}


def _differ(before: Any, now: pd.Series) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Compare two arrays cell by cell; missing is missing."""
    old, new = pd.Series(before), now.reset_index(drop=True)
    if str(old.dtype) == "object" or old.dtype != new.dtype:
        return np.fromiter(
            (not _same(one, other) for one, other in zip(old.array, new.array, strict=True)), bool, len(old)
        )
    both_missing = old.isna().to_numpy(dtype=bool) & new.isna().to_numpy(dtype=bool)
    same = (old == new).fillna(False).to_numpy(dtype=bool)
    return np.asarray(~(same | both_missing))


def _same(one: Any, other: Any) -> bool:
    one = tuple(one) if isinstance(one, list) else one
    other = tuple(other) if isinstance(other, list) else other
    if pd.api.types.is_scalar(one) and pd.api.types.is_scalar(other):
        if pd.isna(one) or pd.isna(other):
            return bool(pd.isna(one) and pd.isna(other))
        return bool(one == other)
    return bool(type(one) is type(other) and one == other)


def _labels(index: pd.Index, ids: Any) -> pd.Index:
    """Return index labels for new deals that the frame does not have yet."""
    number = len(ids)
    if index.nlevels > 1 and number:
        raise FrameError("refresh() cannot name new deals in an index of several levels: df.reset_index() first")
    if not number:
        return index[:0]
    if index.name == "id":
        named_by_id: pd.Index = pd.Index(ids, name="id").astype(index.dtype)
        return named_by_id
    if pd.api.types.is_integer_dtype(index.dtype):
        start = int(index.max()) + 1 if len(index) else 0
        return pd.RangeIndex(start, start + number, name=index.name)
    if str(index.dtype) in ("object", "str"):
        labels = [f"id {key}" for key in ids]
        if not set(labels) & set(index):
            return pd.Index(labels, dtype=index.dtype, name=index.name)
    raise FrameError(f"refresh() cannot name new deals in an index of {index.dtype}: df.reset_index() first")
