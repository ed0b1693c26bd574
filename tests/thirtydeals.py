"""A sandbox with thirty deals, and what tests of writing back ask of it."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import opp_pandas as opp
from opp_pandas.api.transport.retry import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

NOW = "2026-10-20T15:00:00Z"
STAGES = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
WRITES = ("PATCH", "POST", "DELETE")


@cache
def _filled() -> tempfile.TemporaryDirectory[str]:
    """Fill a sandbox's file once a run, with deals that its user may all edit and delete."""
    folder = tempfile.TemporaryDirectory(prefix="opp_pandas_deals_", ignore_cleanup_errors=True)
    with opp.sandbox(opportunities=0, now=NOW, stages=STAGES, db=Path(folder.name, "deals.db")) as made:
        for number in range(1, 31):
            made.client().create({"name": f"Deal {number}", "amount": 1000 * number, "probability": 50, "tags": ["a"]})
    return folder


@contextmanager
def thirty_deals(folder: Path) -> Iterator[Sandbox]:
    """A sandbox of one's own with these deals, kept in a folder."""
    shutil.copy(Path(_filled().name, "deals.db"), folder / "deals.db")
    with opp.sandbox(db=folder / "deals.db", now=NOW) as made:
        yield made


def fast_client(box: Sandbox, **options: Any) -> Client:
    """A client whose waits take no time."""
    return box.client(clock=Clock(sleep=lambda _: None, chance=lambda: 0.0), **options)


def load(client: Client) -> pd.DataFrame:
    """All deals."""
    return opp.read_opportunities(client, stages=STAGES)


def now_at_service(client: Client, row_id: int) -> dict[str, Any]:
    """The attributes that a deal has there."""
    return dict(client.get(row_id).data["attributes"])


def sent(box: Sandbox, *methods: str) -> list[tuple[str, str]]:
    """The writes that reached the service."""
    chosen = methods or WRITES
    return [(item.method, item.path.rpartition("/")[2]) for item in box.requests if item.method in chosen]


def statuses(report: Any) -> list[str]:
    """The status of each row of a report."""
    return report.rows["status"].tolist()
