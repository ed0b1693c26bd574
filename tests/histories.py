"""Loads and histories made for tests, without a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.frame_state import Loaded, Rows, attach_loaded, freeze
from opp_pandas.history import History
from opp_pandas.history.cells import COLUMNS, arrow_schema
from opp_pandas.history.sealed_table import FORMAT
from opp_pandas.load_report import LoadReport
from opp_pandas.stages import StageMap, StageTable, resolve_stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOOKUP = pd.DataFrame(
    {
        "id": pd.array([1, 2, 3, 4, 5], dtype="Int64"),
        "name": pd.array(["Lead", "Qualify", "Offer", "Won", "Lost"], dtype="str"),
        "order": pd.array([1, 2, 3, 4, 5], dtype="Int64"),
        "is_closed": pd.array([False, False, False, True, True], dtype="boolean"),
    }
)
LEAD, QUALIFY, OFFER, WON, LOST = 1, 2, 3, 4, 5
STAGE_MAP = StageMap(won=["Won"], lost=["Lost"])
STAGE_TABLE: StageTable = resolve_stages(STAGE_MAP, LOOKUP)
USERS = pd.DataFrame(
    {
        "id": pd.array([7, 9], dtype="Int64"),
        "name": pd.array(["Sam Lee", "Ana Ito"], dtype="str"),
        "order": pd.array([None, None], dtype="Int64"),
        "is_closed": pd.array([None, None], dtype="boolean"),
    }
)
DTYPES = {
    "id": "Int64",
    "name": "str",
    "amount": "Int64",
    "probability": "Int64",
    "close_date": "datetime64[us, UTC]",
    "created_at": "datetime64[us, UTC]",
    "updated_at": "datetime64[us, UTC]",
    "stage_id": "Int64",
    "owner_id": "Int64",
    "custom_id": "str",
    "currency_type": "str",
    "risk": "Float64",
    "flag": "boolean",
    "tags": "object",
}


def moment(day: Any) -> pd.Timestamp:
    """A day of January 2026 by number, or an instant, in UTC."""
    if isinstance(day, int):
        return pd.Timestamp("2026-01-01", tz="UTC").as_unit("us") + pd.Timedelta(days=day - 1)
    stamp = pd.Timestamp(day)
    return (stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")).as_unit("us")


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] | None = None) -> pd.DataFrame:
    """Deals as a load has them, from plain rows."""
    listed = list(rows)
    names = list(columns) if columns is not None else [name for name in DTYPES if any(name in row for row in listed)]
    made = {}
    for name in names:
        values = [row.get(name) for row in listed]
        if DTYPES[name].startswith("datetime"):
            made[name] = pd.array(pd.to_datetime(pd.Series(values, dtype=object), utc=True), dtype=DTYPES[name])
        elif DTYPES[name] == "object":
            made[name] = pd.Series(values, dtype=object)
        else:
            made[name] = pd.array(values, dtype=DTYPES[name])
    return pd.DataFrame(made)


def load_of(
    rows: Iterable[Mapping[str, Any]] | pd.DataFrame,
    at: Any,
    *,
    complete: bool | None = True,
    query: Mapping[str, Any] | None = None,
    **more: Any,
) -> pd.DataFrame:
    """A frame that carries a load of the service at a moment."""
    frame = rows.copy() if isinstance(rows, pd.DataFrame) else frame_of(rows)
    loaded = Loaded(
        **{
            "kind": "read",
            "baseline": Rows(freeze(frame)),
            "stages": STAGE_TABLE,
            "lookups": {"opportunityStage": LOOKUP, "user": USERS},
            "timezone": None,
            "as_of": moment(at),
            "report": LoadReport(source="test", rows=len(frame), complete=complete),
            "query": {"filter": None, "where": None, "limit": None} if query is None else query,
            **more,
        }
    )
    return attach_loaded(frame, loaded)


class MemoryStorage:
    """Keeps a history's rows in memory, so that thousands of recordings take seconds."""

    location = "memory"

    def __init__(self) -> None:
        self.kept = arrow_schema().empty_table()
        self.format = FORMAT

    def open(self, **_: Any) -> MemoryStorage:
        """Nothing is to be opened."""
        return self

    def rows(self, _table: Any, fields: Any = None, resources: Any = None, columns: Any = COLUMNS) -> Any:
        """Return the rows, as `Storage.rows`."""
        import pyarrow.compute as pc

        rows = self.kept.select(list(columns))
        if fields is not None:
            other = pc.not_equal(rows["resource"], "opportunity")
            rows = rows.filter(pc.or_(other, pc.is_in(rows["field"], _set(fields))))
        return rows if resources is None else rows.filter(pc.is_in(rows["resource"], _set(resources)))

    def commit(self, _operation: str, build: Any) -> Any:
        """Add the rows; nobody else can have been faster."""
        import pyarrow as pa

        rows, result = build(self)
        self.kept = self.kept if rows is None else pa.concat_tables([self.kept, rows])
        return result


def _set(values: Iterable[str]) -> Any:
    import pyarrow as pa

    return pa.array(list(values), type=pa.string())


def history_in_memory() -> History:
    """A history that is not on disk."""
    history = History("unused")
    history._storage = MemoryStorage()  # type: ignore[assignment]
    return history
