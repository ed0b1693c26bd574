"""A history as it is kept: opened, verified, repaired, compacted, and forgotten."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas._html import as_page
from opp_pandas.errors import ConfigurationError, HistoryNeededError, printable
from opp_pandas.history import losses, replay
from opp_pandas.history.cells import LOAD, SNAPSHOT, STATE_COLUMNS, Cells
from opp_pandas.history.sealed_table import FORMAT, Opened
from opp_pandas.history.snapshot_metadata import begins_at, micros, stamp_of
from opp_pandas.history.table import Storage
from opp_pandas.history.versions import Versions
from opp_pandas.instants import parse_end

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping


class KeptHistory:
    """What a history does for its files; `opp_pandas.History` records and reads by it."""

    def __init__(self, path: str | os.PathLike[str], *, storage_options: Mapping[str, str] | None = None) -> None:
        self._storage = Storage(path, storage_options)
        self._options = storage_options
        self._forecasts = Versions(self.location, "forecasts", storage_options=storage_options)

    def __repr__(self) -> str:
        return f"History({printable(self._storage.location)!r})"

    def _repr_html_(self) -> str:
        return as_page(repr(self))

    @property
    def location(self) -> str:
        """Where the table is."""
        return self._storage.location

    def _cells(
        self, what: str, fields: Iterable[str | None] | None = None, columns: Iterable[str] = STATE_COLUMNS
    ) -> Cells:
        opened = self._storage.open()
        cells = None if opened is None else Cells(self._storage.rows(opened, fields, columns=columns))
        if cells is None or not len(cells):
            raise HistoryNeededError(
                f"{what} needs snapshots, and {printable(self.location)} has none yet. Record the first one: "
                "history.record(opp.read_opportunities(client)); or every night: opp-pandas snapshot --history DIR"
            )
        return cells

    def _moment(self, cells: Cells, t: Any, span: tuple[int, int] | None = None) -> int:
        first, last = span or (int(cells.observed.min()), int(cells.observed.max()))
        if t is None:
            return last
        stamp = parse_end(t, cells.records(LOAD).facts(len(cells)).get("timezone"), "t")
        moment, begins = micros(stamp), max(first, begins_at(cells))
        if moment < begins:
            raise HistoryNeededError(
                f"the history begins at {stamp_of(begins):%Y-%m-%d %H:%M} UTC, "
                f"after {stamp:%Y-%m-%d %H:%M} UTC. "
                "Ask for a later moment, or import older events: see opp_pandas.history.importers"
            )
        return moment

    def versions(self) -> pd.DataFrame:
        """List the versions of the table: every commit, compactions too.

        Returns
        -------
        DataFrame, shape (v, 3)
            Indexed by ``version``, oldest first: ``committed_at, operation, rows``.
        """
        frame = pd.DataFrame(self._storage.commits(), columns=["version", "committed_at", "operation", "rows"])
        dtypes = {"version": "int64", "committed_at": "datetime64[us, UTC]", "operation": "str", "rows": "int64"}
        return frame.astype(dtypes).set_index("version")

    # --- keeping ------------------------------------------------------------

    def compact(self, *, more_than: int = 1) -> dict[str, int]:
        """Join the many small files of nightly recordings into few.

        Everything that was recorded is kept, and every moment reads as before,
        only faster. Call it at the end of a nightly job with ``more_than=30``,
        and about once a month the files are joined; a job on Sundays that also
        calls `vacuum` gives their room back.

        Parameters
        ----------
        more_than : int, default 1
            Do nothing unless there are more files than that.

        Returns
        -------
        dict
            ``files_before, files_after``. The old files stay until `vacuum`,
            so that readers of older versions are not disturbed.

        Examples
        --------
        >>> mine = opp.History("mine")
        >>> added = mine.record(df)
        >>> mine.compact()
        {'files_before': 1, 'files_after': 1}
        >>> mine.vacuum(older_than_days=7), mine.upgrade()
        (0, False)
        """

        def build(opened: Opened | None) -> tuple[Any, dict[str, int]]:
            before = 0 if opened is None else len(opened.names)
            if opened is None or before <= max(more_than, 1):
                return None, {"files_before": before, "files_after": before}
            return self._storage.all_rows(opened), {"files_before": before, "files_after": 1}

        return self._storage.commit("compact", build, overwrite=True)

    def vacuum(self, *, older_than_days: int = 7) -> int:
        """Delete files that no version younger than some days needs.

        Parameters
        ----------
        older_than_days : int, default 7
            Files given up longer ago go [days]. Below 7, a reader or recorder
            that is at work may lose the files under it.

        Returns
        -------
        int
            Files deleted. What the history knows does not change; only older
            versions of the table (`versions`) can no longer be opened.

        Examples
        --------
        >>> mine = opp.History("mine")
        >>> added = mine.record(df)
        >>> mine.vacuum(), mine.upgrade()  # nothing to delete, nothing to rewrite
        (0, False)
        """
        if older_than_days < 0:
            raise ConfigurationError(f"older_than_days is 0 or more, not {older_than_days!r}")
        return self._storage.vacuum(older_than_days)

    def forget(self, before: Any) -> int:
        """Forget what happened before a moment, keeping how everything stood then.

        Parameters
        ----------
        before : str, date or Timestamp
            The new beginning of the history, or rather the last snapshot until
            then. `as_of` from there on is unchanged; earlier moments raise.

        Returns
        -------
        int
            Rows removed. The files go with `vacuum`.

        Examples
        --------
        >>> mine = opp.History("mine")
        >>> for day in ("2026-06-06", "2026-08-05"):
        ...     added = mine.record(history.as_of(day))
        >>> lines = mine.forget("2026-07-01")
        >>> str(mine.snapshots()["observed_at"].min().date())
        '2026-06-07'
        """

        def build(opened: Opened | None) -> tuple[Any, int]:
            if opened is None:
                return None, 0
            cells = Cells(self._storage.rows(opened))
            moment = self._moment(cells, before)
            kept = replay.standing_rows(cells, moment)
            n = cells.upto(moment)
            if len(kept) == n:
                return None, 0
            return replay.rows_as_table(cells, kept, n, begins=int(cells.observed[n - 1])), n - len(kept)

        return self._storage.commit("forget", build, overwrite=True)

    # --- trust --------------------------------------------------------------

    def verify(self) -> pd.DataFrame:
        """Hold every file of the history against the digests that were recorded with it.

        Returns
        -------
        DataFrame, columns ``file, problem, first_night, last_night``
            A row per damaged or missing file, with the first and last moment
            that its rows speak of: those nights, and what later ones build on
            them, are in doubt. Empty where all is well. A history of format 1
            has no digests: only files that cannot be read are told.
        """
        return losses.damage_table(self._storage.damages())

    def repair(self, into: str | os.PathLike[str] | None = None, *, by: str, comment: str = "") -> pd.DataFrame:
        """Make a history of what is still as it was recorded, which says what it lacks.

        For files that no copy brings back. The damaged history stays as it is;
        the new one reads and records like any other, and saved forecasts go
        with it. Figures of the nights that may lack something say so in their
        basis, and the next load reads everything, until a whole load with all
        columns makes up for what was lost.

        Parameters
        ----------
        into : str or Path, optional
            An empty folder, or an address: where the new history is. Left out, on a disk: in the place of the damaged
            one, which is moved beside it, to ``NAME-damaged-1``.
        by : str
            Who accepts the loss.
        comment : str, default ""

        Returns
        -------
        DataFrame
            The losses of the new history: see `losses`. What another commit
            tells of a lost log is not lost: there, ``rows_lost`` is False.

        Raises
        ------
        ConfigurationError
            If there is no damage, nothing is left (of format 1: of its log), or the new place is taken.

        Examples
        --------
        >>> from pathlib import Path
        >>> mine = opp.History("mine")
        >>> for day in ("2026-06-06", "2026-08-05"):
        ...     added = mine.record(history.as_of(day))
        >>> newest = max(Path("mine").glob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
        >>> newest.unlink()  # a disk lost a file
        >>> mine.verify()["problem"].tolist()
        ['is gone']
        >>> lost = mine.repair("mine-2", by="Ana", comment="disk failure, no copy")
        >>> len(opp.History("mine-2").losses())
        1
        """
        if not by.strip():
            raise ConfigurationError("repair() needs the name of who accepts the loss: by=")
        found, rows = self._storage.salvage()
        found_there, saved = self._forecasts.salvage()
        damages = [(losses.HISTORY, damage) for damage in found]
        damages += [(losses.FORECASTS, damage) for damage in found_there]
        if not damages or not len(rows):
            why = "nothing is left of it" if damages else "no file is damaged"
            raise ConfigurationError(f"{printable(self.location)} cannot be repaired: {why}")
        place = Path(self.location)
        fresh = place.with_name(f".{place.name}.repaired")
        if into is None:
            if self._storage.is_remote:
                raise ConfigurationError("an object store moves no history: name another address, into=")
            # Left by a repair that was killed.
            shutil.rmtree(fresh, ignore_errors=True)
        copy = type(self)(fresh if into is None else into, storage_options=self._options)

        def build(opened: Opened) -> tuple[Any, None]:
            if opened.names:
                taken = printable(copy.location)
                raise ConfigurationError(f"{taken} holds a history already; repair() needs an empty folder")
            copy._forecasts.restore(saved)
            return losses.rows_with_losses(rows, damages, by, comment), None

        copy._storage.commit("repair", build)
        if into is not None:
            return copy.losses()
        numbered = (place.with_name(f"{place.name}-damaged-{number}") for number in itertools.count(1))
        place.rename(next(path for path in numbered if not path.exists()))
        fresh.rename(place)
        return self.losses()

    def losses(self) -> pd.DataFrame:
        """List what is lost of a history that was repaired.

        Returns
        -------
        DataFrame
            A row per damaged file: ``accepted_at, accepted_by, comment, part``
            (``history`` or ``forecasts``), ``file, problem, first_night,
            last_night`` (missing where nobody knows), ``whole_again`` (since
            when a whole load makes up for it; missing where none does yet) and
            ``rows_lost``. None where nothing was ever repaired.
        """
        return losses.loss_table(self._told_of())

    def gaps(self) -> pd.DataFrame:
        """List the changes that imported events do not tell, though those around them show that they happened.

        Returns
        -------
        DataFrame
            A row per gap: ``id``, ``field`` (missing: nobody knows which),
            ``after`` and ``before`` which events it lies, ``known_again`` (since
            when the value is known; missing where it is not) and ``source``.
        """
        return losses.gaps_table(self._told_of())

    def caveats(self) -> tuple[str, ...]:
        """Describe in sentences what is lost of the past, for the bases of figures over time."""
        told_of = self._told_of()
        return () if told_of is None else losses.caveats(told_of)

    def _told_of(self) -> Cells | None:
        """Read what the history knows of its loads, without any deal; None where there is nothing yet."""
        opened = self._storage.open()
        if opened is None:
            return None
        return Cells(self._storage.rows(opened, resources=[SNAPSHOT, LOAD], columns=STATE_COLUMNS))

    def upgrade(self) -> bool:
        """Rewrite a history of an older format in the newest one.

        Recording does it by itself. Every moment reads as before; the old
        files stay until `vacuum`.

        Returns
        -------
        bool
            Whether there was anything to do.

        Examples
        --------
        >>> history.upgrade()
        False
        """

        def build(opened: Opened | None) -> tuple[Any, bool]:
            is_old = opened is not None and opened.format < FORMAT
            return (self._storage.all_rows(opened) if opened is not None and is_old else None), is_old

        return self._storage.commit("upgrade", build, overwrite=True)
