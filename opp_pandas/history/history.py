"""`History`: snapshots of the pipeline over time, kept as what changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from opp_pandas.errors import ConfigurationError
from opp_pandas.frame_state import attach_loaded, meaning_of, require_loaded
from opp_pandas.history import field_history, forecasts, losses, replay
from opp_pandas.history.cells import COLUMNS, DEAL, LOAD, PRESENCE, SNAPSHOT, STATE_COLUMNS, Cells
from opp_pandas.history.record import RowWriter, restore_rows
from opp_pandas.history.snapshot_metadata import (
    Recorded,
    begins_at,
    build_recording,
    is_whole,
    load_facts,
    micros,
    moment_of,
    rights_of,
    sightings_of,
    snapshot_facts,
    snapshot_table,
)
from opp_pandas.history.upkeep import KeptHistory
from opp_pandas.organisation import Organisation

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from opp_pandas.accessor import OpportunityFrame
    from opp_pandas.history.forecasts import SavedForecast
    from opp_pandas.history.sealed_table import Opened


class History(KeptHistory):
    """Snapshots of the pipeline over time, on a Delta Lake table.

    The table holds a row for every field that changed: whose, to what, when it
    was observed and when the service says that the deal changed. DuckDB,
    Polars, Spark and Dask read it as it is.

    Parameters
    ----------
    path : str or Path
        A folder, or an address such as ``s3://bucket/history``. Made at the
        first recording.
    storage_options : mapping of str to str, optional
        Passed on to deltalake for object stores.

    Notes
    -----
    One recording is one commit: all of it or nothing. Two recorders at once
    take turns. A recorder that is killed leaves the last whole version.
    Nothing is ever deleted unless `forget` or `vacuum` is called.

    A nightly job is ``history.record(read_opportunities(client,
    history=history))``, or ``opp-pandas snapshot --history DIR``. It adds a
    small file each time. Call `compact` every month or so: `as_of` then opens
    few files instead of hundreds. `vacuum` deletes the files that compaction or
    `forget` gave up, after seven days. How long the past is kept is for the
    owner to say: ``forget("2024-12-31")`` makes that day the beginning.

    The columns of the table: ``resource`` (``opportunity``, or what the rows
    are of otherwise), ``id`` or ``key``, ``field`` (missing: whether the
    deal is there), ``kind`` and, after it, the value in ``text``, ``integer``,
    ``real`` or ``instant``; ``observed_at``, ``updated_at``, ``sequence``. In
    DuckDB, the amounts as they stand now::

        SELECT id, arg_max(integer, (observed_at, sequence)) AS amount
        FROM delta_scan('DIR') WHERE resource = 'opportunity' AND field = 'amount'
        GROUP BY id

    Examples
    --------
    >>> len(history.columns()) > 20, history.location.endswith("pipeline-history")
    (True, True)
    >>> history.snapshots()[["deals", "appeared", "changed"]].tail(2)
              deals  appeared  changed
    sequence
    3           257        37       43
    4           279        22       66
    >>> len(history.as_of("2026-08-01")), [len(state) for state in history.states(["2026-07-01", "2026-08-01"])]
    (220, [200, 220])
    >>> history.stage_entries()[["id", "stage_name"]].head(2)
       id stage_name
    0   1   Discover
    1   1    Propose
    >>> history.versions()["operation"].unique().tolist()
    ['create', 'record']
    >>> len(history.verify()), len(history.losses()), len(history.gaps()), history.caveats()
    (0, 0, 0, ())
    >>> history.newest_load("another question", ["id"]) is None
    True
    """

    # --- forecasts ----------------------------------------------------------

    def save_forecast(
        self, name: str, df: pd.DataFrame, *, author: str | None = None, comment: str = "", **options: Any
    ) -> SavedForecast:
        """Keep the prediction of a frame under a name; nothing ever changes it.

        Parameters
        ----------
        name : str
            By which it is found; no other forecast has it.
        df : DataFrame
            Opportunities with their load.
        author : str, optional
            The user of this computer if left out.
        comment : str, default ""
        **options
            What `predict` takes: ``period``, ``horizon_days``, ``method`` ...

        Returns
        -------
        SavedForecast
            ``number, name, saved_at, author, comment, facts, frame``, and ``prediction`` as it was made.

        Raises
        ------
        ConfigurationError
            If the name is taken, or `df` was narrowed and the history records deals that it left out.

        Examples
        --------
        >>> saved = history.save_forecast("November call", df, period="2026Q4", comment="before the board meeting")
        >>> "November call" in history.forecasts()["name"].tolist()
        True
        """

        def newest() -> pd.DataFrame | None:
            return self.as_of() if len(self.snapshots()) else None

        return forecasts.save_forecast(
            self._forecasts, name, df, newest=newest, author=author, comment=comment, options=options
        )

    def forecasts(self) -> pd.DataFrame:
        """List the forecasts that were saved, oldest first.

        Returns
        -------
        DataFrame
            ``number, name, saved_at, author, comment, target, method, first_day,
            last_day, mean, sd, low_80, high_80``.

        Examples
        --------
        >>> history.forecasts().columns[:3].tolist()
        ['number', 'name', 'saved_at']
        """
        return forecasts.list_forecasts(self._forecasts)

    def forecast_accuracy(self) -> pd.DataFrame:
        """Set what came beside every saved forecast, by the newest snapshot.

        Returns
        -------
        DataFrame
            As `forecasts`, with ``actual, error, ape, crps, inside_80``; missing
            where the last day is not over.

        Examples
        --------
        >>> history.forecast_accuracy().columns[:3].tolist()
        ['number', 'name', 'saved_at']
        """
        newest = self.as_of()
        table = forecasts.score_forecasts(self._forecasts, newest)
        return losses.with_caveats(table, "forecast_accuracy", require_loaded(newest, "score").report.caveats)

    # --- writing ------------------------------------------------------------

    def record(
        self,
        df: pd.DataFrame,
        *,
        complete: bool | None = None,
        observed_at: Any = None,
        max_loss: float = 0.1,
        confirm: int | None = None,
        recorded_by: str | None = None,
    ) -> Recorded:
        """Add what the service said at a load, as far as it differs from what is known.

        The baseline of the load is recorded, whole: whatever was edited,
        filtered or sorted in the frame since does not matter.

        Parameters
        ----------
        df : DataFrame
            From `read_opportunities`, `adopt` or ``refresh()``.
        complete : bool, optional
            Whether every deal there is stands in the load, so that one that is
            not was deleted. Left out: only for a load without filter and limit
            whose report says that it is complete. One that went on from a
            history counts alike: its deals were counted, and deletions looked for.
        observed_at : str, date or Timestamp, optional
            The moment of the snapshot; that of the load if left out.
        max_loss : float, default 0.1
            Share of the deals that may be gone since the last snapshot without
            a question; ten may be at any time.
        confirm : int, optional
            The number of deals that are gone, where it asked.
        recorded_by : str, optional
            Whose view the load is: a user's name or id. After a snapshot of
            somebody else, any deal that is gone asks; so does one that a load
            with fewer scopes does not see.

        Returns
        -------
        Recorded
            What was added. A load that was recorded before adds nothing.

        Raises
        ------
        NotLoadedError
            If the frame carries no load.
        ConfirmationNeededError
            If more deals are gone than `max_loss`; nothing was recorded.
        DuplicateRowsError, FrameError
            If two deals have one key, or a deal has none.
        ConfigurationError
            If the history holds deals of another kind, or adopted deals would
            stand in it twice: by custom id, and by an id that they were given.
        MissingExtraError
            If deltalake is not installed.

        Notes
        -----
        A snapshot of an earlier moment than the last one is put in between;
        what later snapshots saw stays as it was.

        Examples
        --------
        >>> mine = opp.History("mine")
        >>> added = mine.record(df)
        >>> added.appeared, added.changed
        (279, 0)
        """
        loaded = require_loaded(df, "record")
        moment = moment_of(loaded, observed_at)
        whole = is_whole(loaded) if complete is None else complete
        rights = rights_of(loaded, recorded_by)

        def build(cells: Cells, sequence: int) -> tuple[RowWriter | None, Recorded]:
            return build_recording(cells, sequence, loaded, moment, whole, rights, max_loss, confirm)

        added: Recorded = self._commit("record", build)
        return added

    def _commit(self, operation: str, build: Callable[[Cells, int], tuple[RowWriter | None, Any]]) -> Any:
        def rows(opened: Opened) -> tuple[Any, Any]:
            cells = Cells(self._storage.rows(opened, columns=STATE_COLUMNS))
            writer, result = build(cells, int(cells.sequence.max(initial=0)) + 1)
            return None if writer is None else writer.table(), result

        return self._storage.commit(operation, rows)

    def import_events(self, events: Any) -> pd.DataFrame:
        """Add what happened before, or beside, the snapshots: a row per change of a field; forecast calls as versions.

        Parameters
        ----------
        events : ImportedEvents
            From one of the importers in `opp_pandas.history.importers`.

        Returns
        -------
        DataFrame
            The importer's report: what was set aside, and why.

        Raises
        ------
        ConfigurationError
            If the history holds deals of another kind (by id, by custom id), or does not know a called team.

        Examples
        --------
        >>> from opp_pandas.history.importers import table_events
        >>> log = pd.DataFrame(
        ...     {"id": [1, 1], "at": ["2026-01-05", "2026-02-09"], "field": "amount", "value": [900, 1200]}
        ... )
        >>> mine = opp.History("mine")
        >>> report = mine.import_events(table_events(log))
        >>> mine.as_of("2026-01-31", columns=["id", "amount"])["amount"].tolist()
        [900]
        """
        from opp_pandas.history.event_import import write_events

        told: pd.DataFrame = events.report
        if events.forecast_calls:
            self._import_calls(events.forecast_calls)
            return told

        def build(cells: Cells, sequence: int) -> tuple[RowWriter | None, Any]:
            writer = RowWriter(sequence)
            write_events(writer, cells, events)
            later = sightings_of(snapshot_facts(cells))
            if later and writer.n:
                restore_rows(writer, cells.records(DEAL), writer.table(), later)
            return writer, None

        self._commit("import", build)
        return told

    def _import_calls(self, calls: Iterable[Any]) -> None:
        cells = self._cells("a forecast call")
        meaning = meaning_of(self.as_of(columns=["id"]))

        rows, _ = cells.records(LOAD).rows_and_codes("organisation")
        known = [(int(cells.observed[row]), Organisation.from_dict(cells.value(int(row)))) for row in rows]

        def organisation_at(at: pd.Timestamp) -> Organisation | None:
            # Of the time before the first load, that one says most.
            return next(
                (one for moment, one in reversed(known) if moment <= micros(at)), known[0][1] if known else None
            )

        definitions = {} if meaning is None else meaning.definitions
        forecasts.save_calls(self._forecasts, calls, organisation_at=organisation_at, definitions=definitions)

    # --- reading ------------------------------------------------------------

    def as_of(self, t: Any = None, *, columns: Iterable[str] | None = None) -> OpportunityFrame:
        """Return the deals as they were known at a moment.

        Parameters
        ----------
        t : str, date or Timestamp, optional
            The moment; a day means its end in the zone of the loads. Left out:
            the newest snapshot.
        columns : iterable of str, optional
            Only these, read faster; ``id`` always comes. The frame then carries
            a load with these columns only.

        Returns
        -------
        DataFrame, shape (n, k)
            As a load at that moment: the same dtypes, names, tags as lists, and
            a load that travels along, so that figures work. Rows by id, adopted
            ones in order of first appearance.

        Raises
        ------
        HistoryNeededError
            If the history is empty, or begins later.

        Examples
        --------
        >>> history.as_of("2026-08-01", columns=["id", "amount", "stage_name"]).shape
        (220, 3)
        """
        wanted = None if columns is None else list(columns)
        cells = self._cells("as_of", None if wanted is None else replay.stored_fields(wanted))
        moment = self._moment(cells, t)
        return cast("OpportunityFrame", replay.frame_at(cells, moment, self.location, wanted))

    def pieces(
        self, t: Any = None, *, columns: Iterable[str] | None = None, most: int = 1_000_000
    ) -> Iterator[pd.DataFrame]:
        """Return the deals as they were known at a moment, some at a time: for histories larger than memory.

        Parameters
        ----------
        t : str, date or Timestamp, optional
            As for `as_of`.
        columns : iterable of str, optional
            Only these, read faster; ``id`` always comes.
        most : int, default 1,000,000
            About as many cells (values that deals ever had in these columns)
            are in memory at once, some 250 bytes each.

        Yields
        ------
        DataFrame
            As from `as_of`, of some of the deals; together they are all.

        Examples
        --------
        >>> [len(piece) for piece in history.pieces(columns=["amount"], most=200)], len(history.as_of())
        ([97, 97, 85], 279)
        """
        wanted = None if columns is None else list(columns)
        opened = self._storage.open()
        told_of = self._told_of()
        if opened is None or told_of is None or not len(told_of) or opened.format == 1:
            yield self.as_of(t, columns=wanted)
            return
        fields = None if wanted is None else replay.stored_fields(wanted)
        span, tables = self._storage.slices(opened, fields, most)
        moment = self._moment(told_of, t, span)

        def framed(table: Any) -> pd.DataFrame:
            return replay.frame_at(Cells(table), moment, self.location, wanted)

        # A loop would hold a slice until the next one is there.
        yield from map(framed, tables)

    def states(self, times: Iterable[Any], *, columns: Iterable[str] | None = None) -> Iterator[pd.DataFrame]:
        """Return the deals as they were known at several moments, reading the table once.

        Parameters
        ----------
        times : iterable of str, date or Timestamp
            The moments; a day means its end in the zone of the loads.
        columns : iterable of str, optional
            Only these, read faster; ``id`` always comes.

        Yields
        ------
        DataFrame
            As from `as_of`, one per moment.
        """
        wanted = None if columns is None else list(columns)
        cells = self._cells("a look at the past", None if wanted is None else replay.stored_fields(wanted))
        records = cells.records(DEAL)
        for t in times:
            yield replay.frame_at(cells, self._moment(cells, t), self.location, wanted, records)

    def columns(self) -> list[str]:
        """Name the columns that any snapshot had, in their order; none for an empty history."""
        cells = self._told_of()
        facts = {} if cells is None else load_facts(cells, len(cells))
        return [str(name) for name, *_ in facts.get("columns", [])]

    def newest_load(self, asked: str, columns: Iterable[str]) -> pd.DataFrame | None:
        """Return the rows of the newest load that another one can go on from.

        Parameters
        ----------
        asked : str
            What the other load asks for: see `opp_pandas.history.query_identity.asked_for`.
        columns : iterable of str
            The columns that it needs; a load without one of them does not fit.

        Returns
        -------
        DataFrame or None
            The rows and columns of that load, with a `Loaded` that knows until
            when. None where the history has no such load.
        """
        opened = self._storage.open()
        if opened is None:
            return None
        told_of = Cells(self._storage.rows(opened, resources=[SNAPSHOT, LOAD], columns=STATE_COLUMNS))
        snapshots, begins = snapshot_facts(told_of), begins_at(told_of)
        needed = set(columns)
        sightings = [seen for _, seen in sightings_of(snapshots)]
        # What was seen before a loss was told of may lack what was lost.
        repaired = max((loss["number"] for loss in losses.losses_of(told_of)), default=-1)
        fitting = [
            place
            for place, (number, at, told) in enumerate(snapshots)
            if at >= begins
            and number > repaired
            and told.get("asked") == asked
            and needed <= (sightings[place].fields or frozenset())
        ]
        if not fitting:
            return None
        _, moment, told = snapshots[fitting[-1]]
        seen = sightings[fitting[-1]]
        cells = Cells(self._storage.rows(opened, columns=STATE_COLUMNS))
        only = None if told["complete"] else seen.keys
        frame = replay.frame_at(cells, moment, self.location, list(seen.fields or ()), only=only)
        loaded = require_loaded(frame, "newest_load")
        return attach_loaded(frame, loaded.renewed(watermark=pd.Timestamp(told["watermark"])))

    def snapshots(self) -> pd.DataFrame:
        """List the snapshots.

        Returns
        -------
        DataFrame, shape (s, 8)
            A row per snapshot, oldest first, indexed by its number
            ``sequence``: ``observed_at``, ``deals`` in the load, ``appeared,
            changed, gone`` [opportunities], ``cells`` that were added,
            ``complete``, ``source``. An empty history: no rows.
        """
        cells = self._told_of()
        if cells is None:
            return snapshot_table([])
        begins = begins_at(cells)
        return snapshot_table([entry for entry in snapshot_facts(cells) if entry[1] >= begins])

    def diff(self, t0: Any, t1: Any = None, *, fields: Iterable[str] | None = None, net: bool = False) -> pd.DataFrame:
        """Log what changed between two moments.

        Parameters
        ----------
        t0, t1 : str, date or Timestamp
            After `t0`, until `t1` (the newest snapshot if left out).
        fields : iterable of str, optional
            Only these; whether deals came or went is always told.
        net : bool, default False
            Compare the two ends only: one row per field, none for a field that
            came back to its value.

        Returns
        -------
        DataFrame, shape (c, 8)
            ``id, custom_id, action, field, before, after, observed_at,
            updated_at``, in order of observation. action: ``appeared`` (field,
            before and after are missing), ``gone``, ``returned`` or
            ``changed``. ``updated_at`` is when the service says that the deal
            last changed, at that time. Nothing changed: no rows.

        Raises
        ------
        HistoryNeededError
            If the history is empty, or begins after `t0`.

        Examples
        --------
        >>> log = history.diff("2026-09-04", "2026-11-02", fields=["stage_id"])
        >>> log[["id", "field", "before", "after"]].head(2)
           id     field before after
        0   2  stage_id      4     5
        1  42  stage_id      4     5
        """
        wanted = None if fields is None else [*replay.stored_fields(fields), "custom_id"]
        cells = self._cells("diff", wanted, COLUMNS)
        first, last = self._moment(cells, t0), self._moment(cells, t1)
        if last < first:
            raise ConfigurationError(f"t1 is before t0: {t0} to {t1}")
        table = field_history.changes_between(cells, first, last, None if fields is None else set(fields), net)
        return losses.with_caveats(table, "diff", losses.caveats(cells, first, last))

    def stage_entries(self, until: Any = None) -> pd.DataFrame:
        """List which stages each deal entered, for funnels and times in stage.

        Parameters
        ----------
        until : str, date or Timestamp, optional
            Only what was known then; everything if left out.

        Returns
        -------
        DataFrame, shape (e, 8)
            A row per entry, in order: ``id, custom_id, stage_id, stage_name,
            entered_at`` (the best guess: the service's ``updated_at`` where it
            lies between the two observations; for a new deal its creation),
            ``not_before`` (the last observation in the stage before; missing
            for the first entry), ``seen_before`` (whether the deal was already
            in its first stage when it was first observed) and the deal's
            ``created_at``.
        """
        cells = self._cells("stage_entries", [PRESENCE, *field_history.STAGE_FIELDS], COLUMNS)
        moment = int(cells.observed.max()) if until is None else self._moment(cells, until)
        table = field_history.stage_entries(cells, moment)
        return losses.with_caveats(table, "stage_entries", losses.caveats(cells, last=moment))

    def write_validity(self, path: str | os.PathLike[str], *, columns: Iterable[str] | None = None) -> Path:
        """Write one row per deal and period in which nothing of it changed, as Parquet.

        Parameters
        ----------
        path : str or Path
            A file that ends in ``.parquet``, or a folder, which then holds ``validity.parquet``.
        columns : iterable of str, optional
            Only these, so that only their changes begin a period; all if left out.

        Returns
        -------
        Path
            The file. Its columns: ``id`` (or ``custom_id``), ``valid_from``, ``valid_to`` (missing: it is still so)
            and one typed column per field. Periods in which a deal was not there have no row. Names of stages, owners
            and accounts are those of today.

        Notes
        -----
        How the deals stood at a moment, in DuckDB (in Polars and Spark with the same words: see the guide)::

            SELECT * FROM 'validity.parquet' WHERE valid_from <= TIMESTAMPTZ '2026-09-30 23:59:59Z'
            AND (valid_to IS NULL OR valid_to > TIMESTAMPTZ '2026-09-30 23:59:59Z')

        Examples
        --------
        >>> path = history.write_validity("deals.parquet", columns=["amount", "stage_name"])
        >>> pd.read_parquet("deals.parquet").columns.tolist()
        ['id', 'valid_from', 'valid_to', 'amount', 'stage_name']
        """
        from opp_pandas.history.validity import write_validity

        return write_validity(self._cells("write_validity", columns=COLUMNS), Path(path), columns)
