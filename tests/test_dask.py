"""``ddf.opp``: the figures of df.opp on Dask's schedulers, from one thread to processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster

import opp_pandas as opp
import opp_pandas.dask
from conftest import NOW
from opp_pandas import errors
from test_scanning import CALLS, GIVEN, assert_figures, assert_same, deals, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# Dask's readers use what pandas 3.1 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Deals in four files, one of them without rows."""
    frame = deals()
    for number, (start, end) in enumerate([(0, 60), (60, 60), (60, 150), (150, 200)]):
        write(frame.iloc[start:end], tmp_path / f"{number}.parquet")
    return tmp_path


@pytest.mark.parametrize("reading", [{"dtype_backend": "numpy_nullable"}, {}])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
def test_dask_frame__gives_the_figures_of_pandas(
    folder: Path, reading: dict[str, Any], call: tuple[str, dict[str, Any]]
) -> None:
    """With nullable dtypes, and with those that make floats of ids of which some are missing."""
    ddf = dd.read_parquet(folder, **reading)
    name, options = call
    expected = getattr(deals().opp, name)(**options, **GIVEN)
    assert_same(getattr(ddf.opp, name)(**options, **GIVEN), expected)
    assert_same(getattr(opp.scan(ddf, **GIVEN), name)(**options), expected)


def test_partitions__of_work_in_memory_are_scanned_as_they_are() -> None:
    """What pandas has, with any index and after a filter of Dask's own."""
    frame = deals().set_index("id", drop=False).sort_index(ascending=False).rename_axis("key")
    ddf = dd.from_pandas(frame, npartitions=7, sort=False)
    chosen = frame[(frame["amount"] > 50_000).fillna(False)]
    assert_same(ddf[ddf["amount"] > 50_000].opp.forecast(**GIVEN), chosen.opp.forecast(**GIVEN))


def test_attach__brings_the_load_back(tmp_path: Path) -> None:
    """Stages, zone, moment and names of the files' load, said once."""
    with opp.sandbox(opportunities=100, now=NOW) as box, box.client(timezone="Asia/Tokyo") as client:
        written = opp.read_opportunities(client, to=tmp_path / "deals", currency="USD", fiscal_start=2)
    ddf = dd.read_parquet(tmp_path / "deals", dtype_backend="numpy_nullable").repartition(npartitions=3)
    with pytest.raises(errors.NotLoadedError, match="a Dask frame of 3 partitions does not say of which day"):
        ddf.opp.forecast()
    with opp.figures.core.deals.suppress_unmapped_stages():
        for name, options in (("forecast", {"by": "owner_name"}), ("kpis", {})):
            assert_same(getattr(ddf.opp.attach(written), name)(**options), getattr(written, name)(**options))


def test_validate__names_the_partition() -> None:
    """Bad cells by partition and row; ids that stand in two partitions are found, too."""
    frame = deals().drop(columns="tags").assign(probability=50)
    frame["probability"] = frame["probability"].astype("Int64")
    ddf = dd.from_pandas(frame, npartitions=4)
    basis = ddf.opp.forecast(**GIVEN).attrs["opp_basis"]
    assert any("stands in two of 4 partitions was not checked" in note for note in basis["notes"])
    assert not ddf.opp.validate().context(as_of=NOW).caveats
    frame.loc[120, "probability"] = 101
    frame.loc[7, "id"] = frame.loc[150, "id"]
    with pytest.raises(errors.InvalidFrameError) as raised:
        dd.from_pandas(frame, npartitions=4).opp.validate()
    found = raised.value.failure_cases
    assert found["column"].tolist() == ["probability", "id"]
    assert found.loc[0, ["file", "row"]].tolist() == ["partition 2", 20]


def test_ids_that_are_no_numbers__are_refused() -> None:
    """Half an id is no id."""
    frame = deals()
    frame["stage_id"] = frame["stage_id"].astype("Float64").to_numpy(dtype=float, na_value=np.nan) + 0.5
    with pytest.raises(errors.FrameError, match=r"'stage_id'.*no ids.*numpy_nullable"):
        dd.from_pandas(frame, npartitions=2).opp.forecast(**GIVEN)


def test_dask__is_imported_when_asked_for() -> None:
    """Neither the package nor a scan of files loads it; the module's name says who does."""
    program = (
        "import sys, opp_pandas as opp; opp.scan; opp.Scan; print('dask' in sys.modules);"
        "import opp_pandas.dask; print('dask.dataframe' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# --- processes -----------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[Client]:
    """Two processes on this machine."""
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as made,
        Client(made) as client,
    ):
        yield client


def slowed(piece: pd.DataFrame) -> pd.DataFrame:
    """Take a while over a partition, so that there is a middle to be killed in."""
    time.sleep(0.3)
    return piece


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")  # distributed tells of the worker that was killed
def test_cluster__gives_the_same_figures_although_a_worker_dies(folder: Path, cluster: Client) -> None:
    """On two processes, and when one is killed in the middle of it."""
    ddf = dd.read_parquet(folder, dtype_backend="numpy_nullable")
    assert_figures(opp.scan(ddf, **GIVEN), deals())
    many = dd.from_pandas(deals(), npartitions=20).map_partitions(slowed, meta=deals().iloc[:0])
    victims = [worker["pid"] for worker in cluster.scheduler_info()["workers"].values() if "pid" in worker]
    if not victims:
        victims = list(cluster.run(os.getpid).values())
    killer = threading.Timer(1.5, os.kill, (victims[0], signal.SIGKILL))
    killer.start()
    found = many.opp.forecast(by="owner_name", **GIVEN)
    killer.join()
    assert victims[0] not in cluster.run(os.getpid).values()
    assert_same(found, deals().opp.forecast(by="owner_name", **GIVEN))
