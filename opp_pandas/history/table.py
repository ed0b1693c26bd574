"""The table of a history: cells, in a sealed table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.history import format1
from opp_pandas.history.cells import COLUMNS, DEAL, PRESENCE, STATE_COLUMNS, Cells, arrow_schema
from opp_pandas.history.sealed_table import Opened, SealedTable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping


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
        condition = None if fields is None else _any_but_deals() | _of_fields(fields)
        if resources is not None:
            import pyarrow.dataset as ds

            among = ds.field("resource").isin(list(resources))
            condition = among if condition is None else condition & among
        if opened.format == 1:
            rows = self.from_old(self.read(opened, sorted(format1.COLUMNS)))
            return (rows if condition is None else rows.filter(condition)).select(list(columns))
        return self.read(opened, columns, condition, ("resource", "field", "kind"))

    def slices(
        self, opened: Opened, fields: Iterable[str | None] | None, most: int
    ) -> tuple[tuple[int, int], Iterator[Any]]:
        """Read some fields (None: all) of some deals at a time, and with them all that is no deal; files are read once.

        Each table has about `most` cells of deals. Before them: when the first and the last cell was observed
        [us since 1970].
        """
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.dataset as ds

        dataset = self.dataset(opened)

        def read(columns: Iterable[str], condition: Any = None) -> Any:
            # Little is read ahead: what is left out of it costs memory, too.
            ahead = {"batch_size": 65_536, "batch_readahead": 1, "fragment_readahead": 1, "use_threads": False}
            return dataset.scanner(columns=list(columns), filter=condition, **ahead)

        chosen = ~_any_but_deals() if fields is None else _of_fields(fields)
        batches = read(["observed_at"]).to_batches()
        ends = [pc.min_max(batch["observed_at"].cast(pa.int64())).as_py() for batch in batches if batch.num_rows]
        there = read(["id", "key"], _of_fields([PRESENCE])).to_table()
        texts = there["key"].filter(pc.is_null(there["id"]))
        keys = {name: np.unique(found.drop_null()) for name, found in (("id", there["id"]), ("key", texts))}
        size = most * sum(map(len, keys.values())) // max(read([], chosen).count_rows(), 1) or 1

        def tables() -> Iterator[Any]:
            if not any(map(len, keys.values())):
                yield read(STATE_COLUMNS, _any_but_deals()).to_table()
            for name, values in keys.items():
                own = ds.field("id").is_null() if name == "key" else chosen
                for start in range(0, len(values), size):
                    low, high = values[start], values[start : start + size][-1]
                    among = own & chosen & (ds.field(name) >= low) & (ds.field(name) <= high)
                    yield read(STATE_COLUMNS, _any_but_deals() | among).to_table()

        return (min(end["min"] for end in ends), max(end["max"] for end in ends)), tables()


def _any_but_deals() -> Any:
    import pyarrow.dataset as ds

    return ds.field("resource") != DEAL


def _of_fields(fields: Iterable[str | None]) -> Any:
    """Return the condition for cells of some fields of deals."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    wanted = set(fields)
    named = ds.field("field").isin(pa.array([name for name in wanted if name is not None], pa.string()))
    return (ds.field("resource") == DEAL) & (named | ds.field("field").is_null() if PRESENCE in wanted else named)
