"""Reading an exported file back, edited or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pandas as pd

from opp_pandas._files import check_path
from opp_pandas.editing import attach_again
from opp_pandas.errors import ConfigurationError, DuplicateRowsError, InvalidFrameError, named, printable
from opp_pandas.exporting.columns import ROW, Failures, values_of
from opp_pandas.frame_state import require_loaded
from opp_pandas.timezones import check_zone

if TYPE_CHECKING:
    import os

    from opp_pandas.accessor import OpportunityFrame


def read_export(
    path: str | os.PathLike[str], *, original: pd.DataFrame | None = None, timezone: str | None = None
) -> OpportunityFrame:
    """Read a file that `to_csv` or `to_excel` wrote, and that somebody may have edited.

    Parameters
    ----------
    path : str or Path
        Ending in ``.csv`` or ``.xlsx``.
    original : DataFrame, optional
        The frame that was exported, or any frame of the same load: the result
        carries what it carries, so that ``changes()`` tells what was edited.
    timezone : str, optional
        Where days and times without an offset are meant. Left out: the zone
        that the workbook names, else that of `original`.

    Returns
    -------
    DataFrame
        The deals, bit by bit as they were exported where nobody edited them.
        Category columns come back as their values, index levels with names as
        columns, tuples in lists as lists. Rows that are wholly empty are
        skipped. Tags may be typed as ``new; hot``.

    Raises
    ------
    InvalidFrameError
        If cells cannot be read; every one stands in ``.failure_cases``, with
        its row in the file and why.
    FrameError
        If the file is not what `to_csv` or `to_excel` writes.
    ConfigurationError
        If there is no such file.
    NotLoadedError
        If `original` carries no load.

    See Also
    --------
    to_csv, to_excel

    Examples
    --------
    >>> import tempfile
    >>> import opp_pandas as opp
    >>> with tempfile.TemporaryDirectory() as folder, opp.sandbox(20) as box:
    ...     df = opp.read_opportunities(box.client())
    ...     file = df.opp.to_csv(f"{folder}/deals.csv")
    ...     print(read_export(file, original=df).opp.changes())
    ChangeSet: nothing to write
    """
    file, suffix = check_path(path, (".csv", ".xlsx"))
    if not file.is_file():
        raise ConfigurationError(f"there is no file {printable(file)}")
    zone = None if timezone is None else check_zone(timezone)
    meant = None if original is None else require_loaded(original, "read_export(original=...)").timezone or "UTC"
    failures = Failures([])
    if suffix == ".xlsx":
        from opp_pandas.exporting.sheets import read_sheet

        headings, columns, rows, named_zone, odd = read_sheet(file.read_bytes(), file)
        zone = zone or (check_zone(named_zone) if named_zone else None)
        for row, column, value, reason in odd:
            failures.add(row, column, value, reason)
    else:
        from opp_pandas.exporting.delimited import read_lines

        headings, columns, rows = read_lines(file.read_bytes(), file)
    names = [heading.name for heading in headings]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise DuplicateRowsError(f"heading {named(sorted(doubled))} stands twice; rename one", sorted(doubled))
    read = {
        heading.name: values_of(heading, cells, rows, zone or meant, failures)
        for heading, cells in zip(headings, columns, strict=True)
    }
    frame = pd.DataFrame(read, index=pd.RangeIndex(len(rows)), columns=names)
    if failures.cases:
        raise InvalidFrameError(_cases(failures, frame, rows))
    if ROW in frame.columns:
        frame = frame.set_index(ROW).rename_axis(index=None)
    return cast("OpportunityFrame", frame if original is None else attach_again(frame, original))


def _cases(failures: Failures, frame: pd.DataFrame, rows: list[int]) -> pd.DataFrame:
    """Name the deals of the cells that cannot be read."""
    ids = dict(zip(rows, frame["id"], strict=True)) if "id" in frame.columns else {}
    cases = pd.DataFrame(failures.cases, columns=["id", "row", "column", "value", "rule"])
    return cases.assign(id=pd.Series([ids.get(row) for row in cases["row"]], dtype=object))
