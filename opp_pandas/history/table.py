"""The table of a history: cells, in a sealed table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.history import format1
from opp_pandas.history.cells import COLUMNS, DEAL, PRESENCE, Cells, arrow_schema
from opp_pandas.history.sealed_table import Opened, SealedTable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping


class Storage(SealedTable):
    """A table of cells at a path or address."""

    def __init__(self, path: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None) -> None:
        super().__init__(
            path,
            storage_options,
            schema=arrow_schema,
            title="history",
            old_columns=format1.COLUMNS,
            moments="observed_at",
        )

    def from_old(self, rows: Any) -> Any:
        """Turn rows of format 1 into those of format 2."""
        return format1.to_format_2(rows)

    def all_rows(self, opened: Opened) -> Any:
        """Read everything, in order of observation."""
        return Cells(self.rows(opened)).table

    def rows(
        self,
        opened: Opened,
        fields: Iterable[str | None] | None = None,
        resources: Iterable[str] | None = None,
        *,
        columns: Iterable[str] = COLUMNS,
    ) -> Any:
        """Read cells, in the columns of this format whatever they are written in.

        Where they are given, only some `fields` of deals (`PRESENCE` is one), only rows of some `resources`, and only
        some `columns` of the table: `STATE_COLUMNS` say how things stood.
        """
        import pyarrow.dataset as ds

        condition = None
        if fields is not None:
            wanted = set(fields)
            named = ds.field("field").isin([name for name in wanted if name is not None])
            named = named | ds.field("field").is_null() if PRESENCE in wanted else named
            condition = (ds.field("resource") != DEAL) | named
        if resources is not None:
            among = ds.field("resource").isin(list(resources))
            condition = among if condition is None else condition & among
        if opened.format == 1:
            rows = self.from_old(self.read(opened, sorted(format1.COLUMNS)))
            return (rows if condition is None else rows.filter(condition)).select(list(columns))
        return self.read(opened, columns, condition, ("resource", "field", "kind"))
