"""Named versions beside a history: kept as they were saved, or refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from damage import cuts, files_below, flips, outcome, replaced
from objectstore import BUCKET, object_store
from opp_pandas.errors import ConfigurationError, FrameError
from opp_pandas.history.versions import Versions

if TYPE_CHECKING:
    from pathlib import Path

FRAME = pd.DataFrame(
    {
        "id": pd.array([1, None], dtype="Int64"),
        "at": pd.to_datetime(["2026-01-01", None], utc=True).astype("datetime64[us, UTC]"),
        "name": ["a", None],
        "share": [0.1, None],
        "period": pd.period_range("2026Q1", periods=2, freq="Q-JAN"),
    },
    index=pd.Index(["u", "v"], name="key"),
)


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path, "forecasts")


def test_version__comes_back_as_it_was_saved(versions: Versions) -> None:
    """Frame, index, dtypes, author, comment, moment and facts, and every name is given once."""
    at = pd.Timestamp("2026-05-01T12:00", tz="Europe/Berlin")
    versions.append("commit", FRAME, author="Ana", comment="after the call", saved_at=at, facts={"method": "stage"})
    versions.append("best case", FRAME.head(1))
    saved = versions.read("commit")
    pd.testing.assert_frame_equal(saved.frame, FRAME)
    assert (saved.number, saved.author, saved.comment, saved.saved_at) == (1, "Ana", "after the call", at)
    assert saved.facts == {"method": "stage"}
    assert versions.table()["name"].tolist() == ["commit", "best case"]
    with pytest.raises(ConfigurationError, match="never changed"):
        versions.append("commit", FRAME)
    with pytest.raises(ConfigurationError, match="no version 'worst'"):
        versions.read("worst")
    with pytest.raises(FrameError, match="cannot be kept"):
        versions.append("odd", pd.DataFrame({"x": [object()]}))
    assert len(versions.salvage()[0]) == 0


def test_versions__saved_at_once_are_all_there(versions: Versions) -> None:
    """Two programs take turns."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: versions.append(name, FRAME), ["a", "b", "c", "d"]))
    assert versions.table()["number"].tolist() == [1, 2, 3, 4]
    assert sorted(versions.table()["name"]) == ["a", "b", "c", "d"]


def test_versions__in_an_object_store_are_kept_alike() -> None:
    """Over HTTP, as with S3."""
    with object_store() as (options, _):
        versions = Versions(f"s3://{BUCKET}/history", "forecasts", storage_options=options)
        assert len(versions.table()) == 0
        versions.append("commit", FRAME)
        pd.testing.assert_frame_equal(versions.read("commit").frame, FRAME)
        assert len(versions.salvage()[0]) == 0


@pytest.mark.parametrize("step", [1499, pytest.param(1, marks=pytest.mark.nightly)])
def test_version__of_a_damaged_file_is_refused(tmp_path: Path, step: int) -> None:
    """Whatever bit is flipped and wherever a file is cut: the version is as it was saved, or refused."""
    versions = Versions(tmp_path, "forecasts")
    versions.append("first", FRAME.head(1), author="Ana")
    versions.append("commit", FRAME, author="Ana")
    seen = []
    for path in files_below(tmp_path):
        for words, content in [*flips(path, step), *cuts(path, step)]:
            with replaced(path, content):
                found = outcome(lambda: versions.read("commit"), lambda saved: saved.frame.to_csv() == FRAME.to_csv())
                assert found != "OTHER", words
                assert len(versions.salvage()[0]), f"{words}: not found"
            seen.append(found)
    assert "refused" in seen
