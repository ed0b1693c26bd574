"""``opp.scan``: the figures of ``df.opp`` over more rows than fit in memory.

A figure is worked out in pieces (see `opp_pandas.figures.core`): some hundred
thousand rows at a time are read, in the columns that the figure asks for, and
what it needs to know of them is put together. The result is that of the same
rows in one frame.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from opp_pandas.errors import ConfigurationError, InvalidFrameError, printable
from opp_pandas.figures.core.context import read_definitions
from opp_pandas.history import History
from opp_pandas.load.where import split_where
from opp_pandas.scanning.files import find_files, one_meaning
from opp_pandas.scanning.mergeable import Figures
from opp_pandas.scanning.sources import FileSource, HistorySource

if TYPE_CHECKING:
    from opp_pandas.choices import FiscalLabel, ProbabilitySource
    from opp_pandas.figures.core.money import Rates
    from opp_pandas.figures.core.periods import WeekCalendar
    from opp_pandas.load_report import LoadReport
    from opp_pandas.stages import StageMap


class Scan(Figures):
    """Deals in files, or in a history, with the figures that can be worked out in pieces.

    Each method of `Figures` takes the arguments of its namesake of ``df.opp``
    and gives the same result; `opp_pandas.scan` makes one.

    Attributes
    ----------
    columns : list of str
        All columns.
    rows : int
        Rows in all files, those that ``where=`` leaves out included.
    load_report : LoadReport or None
        How the load went, right after ``read_opportunities(..., to=...)``.

    Examples
    --------
    >>> df.to_parquet("deals.parquet")
    >>> deals = opp.scan("deals.parquet", stages=stages)
    >>> len(deals), deals.rows, deals.columns[:3]
    (279, 279, ['id', 'name', 'amount'])
    >>> int(deals.forecast().loc["2026Q4", "open_count"]), len(deals.validate())
    (19, 279)
    >>> deals.of_load(df.opp.load_report).load_report.rows
    279
    """

    load_report: LoadReport | None = None

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"<scan of {self.rows:,} rows in {self._source.shown}>"

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return self._source.rows

    @property
    def columns(self) -> list[str]:
        """All columns."""
        return self._source.columns

    def of_load(self, report: LoadReport) -> Self:
        """Return the scan with how its load went."""
        self.load_report = report
        return self

    def validate(self) -> Self:
        """Check every cell of every file against `OpportunitySchema`.

        Returns
        -------
        Scan
            The scan itself.

        Raises
        ------
        InvalidFrameError
            With every bad cell in ``.failure_cases``: columns ``file, id, row,
            column, value, rule``, the row counted from 0 in its file.
        """
        failures = self._source.failures()
        if len(failures):
            raise InvalidFrameError(failures)
        return self


def scan(
    source: Any,
    *,
    stages: StageMap | None = None,
    timezone: str | None = None,
    as_of: Any = None,
    currency: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    fiscal_start: int | None = None,
    fiscal_label: FiscalLabel | None = None,
    calendar: WeekCalendar | None = None,
    rates: Rates | None = None,
    probability: ProbabilitySource | None = None,
) -> Scan:
    """Work out figures over more rows than fit in memory.

    Files are read in pieces of some hundred thousand rows, several at once, in
    the columns that a figure asks for: memory does not grow with the number of rows.

    Parameters
    ----------
    source : path, list of paths, DeltaTable, History or dask DataFrame
        A Parquet file; a folder of them, to the bottom (``year=2026`` in a
        folder's name is a column); the folder of a Delta table; or what
        ``read_opportunities(..., to=...)`` wrote. Each deal in one row: a folder
        of nightly copies counts every deal every night.
    stages, timezone, as_of
        What the load says that wrote the files. Files that carry no load need
        `as_of`; for a History it is the moment, left out: the newest state.
    currency : str, optional
        Currency of the amounts that name none.
    columns : mapping of str to str, optional
        Names in the files -> ours, as ``DataFrame.rename`` takes them.
    where : mapping, optional
        Only these deals: a value, a list, a range ``(from, to)`` or None for
        missing, by column. Parts of files whose
        statistics rule every row out are not read.
    progress : bool, optional
        Show a progress bar; default: only on a terminal or in a notebook, and
        only when it takes longer than a second.
    fiscal_start, fiscal_label, calendar, rates, probability
        How time is cut and what amounts mean, for all figures.

    Returns
    -------
    Scan
        With the methods ``forecast``, ``kpis``, ``stage_distribution``,
        ``win_rates``, ``concentration``, ``hygiene``, ``bookings`` and others:
        as those of ``df.opp``. ``validate()`` checks every cell.

    Raises
    ------
    ConfigurationError
        If there is no such file, or its load and that of another one differ.
    FrameError
        When a figure is worked out: if a file holds something else in a column
        than belongs there, or lacks one that others have; the text names both.

    Examples
    --------
    >>> import tempfile, opp_pandas as opp
    >>> with opp.sandbox(opportunities=50, now="2026-10-20T15:00:00Z") as box, tempfile.TemporaryDirectory() as folder:
    ...     deals = opp.read_opportunities(box.client(), to=f"{folder}/deals")
    ...     print(deals.rows, deals.stage_distribution()["count"].sum())
    50 49

    One of the deals lies in the trash and stands outside every figure.
    """
    definitions = {
        "currency": currency,
        "fiscal_start": fiscal_start,
        "fiscal_label": fiscal_label,
        "calendar": calendar,
        "rates": rates,
        "probability": probability,
    }
    settings = {**read_definitions(**definitions), "stages": stages, "timezone": timezone, "as_of": as_of}
    if isinstance(source, History):
        if columns or where:
            raise ConfigurationError("columns= and where= are for files; narrow history.as_of(...) in pandas")
        return Scan(HistorySource(source, as_of, progress=progress), settings)
    if hasattr(source, "to_delayed"):
        # It is there, or nobody could have made such a frame.
        from opp_pandas.scanning.dask_source import DaskSource

        return Scan(DaskSource(source), settings)
    files = find_files(source, dict(columns or {}))
    load = one_meaning(files)
    zone = timezone if timezone is not None or load is None else load.timezone
    shown = printable(source) if isinstance(source, str | os.PathLike) else f"{len(files.files):,} files"
    return Scan(FileSource(files, load, shown, split_where(where, None, zone), zone, progress=progress), settings)
