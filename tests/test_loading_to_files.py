"""Loads that go into files: the rows of a load in memory, whatever happens meanwhile."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import opp_pandas as opp
from conftest import NOW, STAGES
from opp_pandas import errors
from opp_pandas.frame_state import Meaning, loaded_of
from opp_pandas.load import to_files
from opp_pandas.load.parquet_folder import MEANING_FILE, arrow_table, common_schema, of_schema
from rawserver import RawServer, opportunity, reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.sandbox_handle import Sandbox

PART_BYTES = 90_000
LOADER = f"""
import sys
import opp_pandas as opp
from opp_pandas.load import to_files
url, token, folder, checkpoint = sys.argv[1:]
to_files.PART_BYTES = {PART_BYTES}
opp.read_opportunities(opp.connect(url, token=token), page_size=5, to=folder, checkpoint=checkpoint,
                       stages=opp.StageMap(won=["Closed Won"], lost=["Closed Lost"]))
print("complete")
"""


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox with 120 deals."""
    with opp.sandbox(opportunities=120, now=NOW) as made:
        yield made


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file hold some dozens of deals."""
    monkeypatch.setattr(to_files, "PART_BYTES", PART_BYTES)


def rows_of(folder: Path) -> pd.DataFrame:
    """Read a folder as any reader of Parquet does, tags as lists, without what tells one load from another."""
    frame = pd.read_parquet(folder)
    lists = [name for name in frame.columns if frame[name].dtype == object]
    for name in lists:
        frame[name] = [None if cell is None else list(cell) for cell in frame[name]]
    return frame


def assert_same(folder: Path, loaded: pd.DataFrame) -> None:
    """Compare the files of a load with the frame of another one: the order of rows and columns and the dtypes, too."""
    pd.testing.assert_frame_equal(rows_of(folder), pd.DataFrame(loaded), check_flags=False)
    meaning = Meaning.parse((folder / MEANING_FILE).read_text(encoding="utf-8"))
    expected = loaded_of(loaded)
    assert meaning is not None
    assert expected is not None
    facts, others = meaning.to_dict(), json.loads(expected.text)
    assert {name: others[name] for name in facts if name != "as_of"} == {k: v for k, v in facts.items() if k != "as_of"}


def names_in(folder: Path) -> list[str]:
    """Name what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


CONDITIONS: list[dict[str, Any]] = [
    {},
    {"filter": {"owner": [1, 2, 3]}},
    {"where": {"amount": (10_000, None)}, "include": ("stage",)},
    {"fields": ["name", "amount"], "currency": "EUR", "fiscal_start": 2},
    {"partitions": 2, "timezone": "Asia/Tokyo"},
]


@pytest.mark.parametrize("options", CONDITIONS)
def test_files__hold_the_load(box: Sandbox, tmp_path: Path, options: dict[str, Any]) -> None:
    """Rows, order, dtypes, stages, names, zone and definitions are those of a load in memory."""
    client = box.client()
    scan = opp.read_opportunities(client, to=tmp_path / "deals", page_size=5, stages=STAGES, **options)
    loaded = opp.read_opportunities(client, page_size=5, stages=STAGES, **options)
    assert_same(tmp_path / "deals", loaded)
    assert len(list((tmp_path / "deals").glob("*.parquet"))) > 1
    report = loaded.opp.load_report
    assert scan.load_report is not None
    assert (scan.rows, scan.load_report.complete) == (len(loaded), report.complete)
    assert scan.load_report.notes == report.notes
    assert names_in(tmp_path) == ["deals"]


def test_deals_that_change_meanwhile__are_in_their_newest_state(box: Sandbox, tmp_path: Path) -> None:
    """Changed, new and trashed deals are those of a load that began after the changes; each stands once."""
    client, busy = box.client(), box.client()
    old = opp.read_opportunities(client, include=())
    seen: list[int] = []

    def change() -> None:
        first = [int(key) for key in old["id"].iloc[:3]]
        busy.update(first[0], {"nextStep": "changed meanwhile"})
        busy.create({"name": "new meanwhile"})
        busy.update(first[1], {}, {"owner": 2 if old["owner_id"].iloc[1] != 2 else 3})
        seen.extend(first)

    walk = type(client).walk

    def walk_busily(self: Any, *args: Any, **options: Any) -> Any:
        for number, page in enumerate(walk(self, *args, **options)):
            if number == 10 and not seen:
                change()
            yield page

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(client), "walk", walk_busily)
        opp.read_opportunities(client, to=tmp_path / "deals", page_size=5, stages=STAGES)
    assert seen
    assert_same(tmp_path / "deals", opp.read_opportunities(client, page_size=5, stages=STAGES))


def test_killed_load__resumed_equals_the_uninterrupted_one(box: Sandbox, tmp_path: Path) -> None:
    """A program killed at any moment leaves no folder, and the next one writes the same files."""
    draw = random.Random(3)
    # The moment of the load is that of the first page, which the checkpoint keeps.
    arguments = [box.url, box.token, str(tmp_path / "deals"), str(tmp_path / "kept")]
    for kills in range(2):
        with subprocess.Popen([sys.executable, "-c", LOADER, *arguments], stdout=subprocess.PIPE, text=True) as program:
            pages = draw.randint(1, 8)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and pages_in(tmp_path / "kept") < pages + kills:
                time.sleep(0.005)
            program.send_signal(signal.SIGKILL)
        assert not (tmp_path / "deals").exists()
        assert (tmp_path / ".deals.loading").exists()
    done = subprocess.run([sys.executable, "-c", LOADER, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "complete", done.stderr
    assert names_in(tmp_path) == ["deals"]
    opp.read_opportunities(box.client(), to=tmp_path / "whole", page_size=5, stages=STAGES)
    names = names_in(tmp_path / "whole")
    assert names_in(tmp_path / "deals") == names
    for name in names:
        if name.endswith(".parquet"):
            assert (tmp_path / "deals" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert_same(tmp_path / "deals", opp.read_opportunities(box.client(), page_size=5, stages=STAGES))


def pages_in(checkpoint: Path) -> int:
    """Count the pages that a checkpoint has begun to keep."""
    return checkpoint.read_bytes().count(b'{"number"') if checkpoint.exists() else 0


def test_failed_load__leaves_no_folder(box: Sandbox, tmp_path: Path) -> None:
    """After an error, also one of the schema's, nothing is left behind."""
    client = box.client()
    client.update(5, {"amount": -3})
    with pytest.raises(errors.InvalidFrameError, match="amount"):
        opp.read_opportunities(client, to=tmp_path / "deals", on_invalid="raise")
    assert not names_in(tmp_path)
    with pytest.warns(errors.InvalidValuesWarning, match=r"1 values break .*amount 1"):
        scan = opp.read_opportunities(client, to=tmp_path / "deals")
    assert scan.load_report is not None
    assert scan.load_report.failures["id"].tolist() == [5]


def test_folder_that_is_there__is_refused(box: Sandbox, tmp_path: Path) -> None:
    """Nobody's files are overwritten, and what needs all rows in memory is refused before anything is read."""
    (tmp_path / "deals").mkdir()
    (tmp_path / "deals" / "mine.txt").write_text("mine")
    for to, words in (("deals", "is there already"), ("no/where", "there is no folder")):
        with pytest.raises(errors.ConfigurationError, match=words):
            opp.read_opportunities(box.client(), to=tmp_path / to)
    with pytest.raises(errors.ConfigurationError, match=r"without sort= \(files .* and without limit= \(filter="):
        opp.read_opportunities(box.client(), to=tmp_path / "new", sort="name", limit=5)
    assert names_in(tmp_path / "deals") == ["mine.txt"]
    # An empty folder is no obstacle.
    (tmp_path / "deals" / "mine.txt").unlink()
    assert opp.read_opportunities(box.client(), to=tmp_path / "deals").rows == 120


def test_two_loads__do_not_write_into_one_folder(box: Sandbox, tmp_path: Path) -> None:
    """The second one is told that there is a first one."""
    with (
        to_files._own(tmp_path / "deals"),
        pytest.raises(errors.ConfigurationError, match="another load is writing"),
    ):
        opp.read_opportunities(box.client(), to=tmp_path / "deals")


def test_no_deals__give_a_folder_with_all_columns(box: Sandbox, tmp_path: Path) -> None:
    """A filter that nothing fits gives one file without rows."""
    empty = opp.read_opportunities(box.client(), to=tmp_path / "deals", filter={"id": [999_999]})
    assert empty.rows == 0
    assert {"id", "amount", "stage_name"} <= set(rows_of(tmp_path / "deals").columns)


def test_other_engines__read_the_files(box: Sandbox, tmp_path: Path) -> None:
    """DuckDB and Polars see the same rows, and the service's texts are exact."""
    folder = tmp_path / "deals"
    opp.read_opportunities(box.client(), to=folder, page_size=5)
    frame = rows_of(folder)
    rows, amount = duckdb.sql(f"SELECT count(*), sum(amount) FROM '{folder}/*.parquet'").fetchall()[0]
    assert (rows, int(amount)) == (len(frame), int(frame["amount"].sum()))
    read = pl.scan_parquet(f"{folder}/*.parquet").select(pl.len(), pl.col("amount").sum()).collect()
    assert read.row(0) == (len(frame), int(frame["amount"].sum()))


def test_query_of_the_page__gives_the_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/how-to/larger-than-memory.md asks DuckDB is what `forecast` says."""
    page = Path(__file__).parents[1] / "docs" / "how-to" / "larger-than-memory.md"
    query = page.read_text(encoding="utf-8").split("```sql")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    with opp.sandbox(opportunities=120, now=NOW) as box, box.client(timezone="America/New_York") as client:
        deals = opp.read_opportunities(client, to="deals/", stages=STAGES, currency="USD")
    expected = deals.forecast(freq="M", by="owner_id").query("open_count > 0").reset_index().dropna(subset="period")
    found = [row for row in duckdb.sql(query).fetchall() if row[0] is not None]
    key = [(row[0].strftime("%Y-%m"), row[1]) for row in found]
    told = dict(zip(key, found, strict=True))
    assert len(told) == len(expected) > 20
    for row in expected.itertuples():
        owner = None if row.owner_id == "(unassigned)" else row.owner_id
        _, _, count, weighted = told[str(row.period), owner]
        assert count == row.open_count
        assert (weighted or 0) == pytest.approx(row.weighted_amount, rel=1e-12)


def test_attributes_of_many_kinds__become_one_column() -> None:
    """What one file has as numbers and another one as text is text in both; whole and other numbers are numbers."""
    tables = [
        arrow_table(pd.DataFrame({"id": pd.array([1, None], "Int64"), "health": pd.array([1, 2], "Int64")})),
        arrow_table(pd.DataFrame({"id": pd.array([3], "Int64"), "health": ["good"], "score": pd.array([1], "Int64")})),
        arrow_table(pd.DataFrame({"id": pd.array([4], "Int64"), "score": [0.5], "mixed": [{"a": 1}]})),
        arrow_table(pd.DataFrame({"id": pd.array([5, 6], "Int64"), "mixed": pd.Series([1, "x"], dtype=object)})),
    ]
    schema = common_schema(table.schema for table in tables)
    whole = pa.concat_tables([of_schema(table, schema) for table in tables]).to_pandas()
    assert whole["health"].tolist()[:3] == ["1", "2", "good"]
    assert whole["score"].dropna().tolist() == [1.0, 0.5]
    assert whole["mixed"].dropna().tolist() == ['{"a": 1}', "1", '"x"']
    assert str(whole["id"].dtype) == "Int64"


@pytest.mark.parametrize(
    ("parts", "expected", "dtype"),
    [
        ([1, None, 2], [1, None, 2], "Int64"),
        ([None, True], [None, True], "boolean"),
        ([1.5, None], [1.5, None], "Float64"),
        ([None, None], [None, None], "str"),
        ([1, 1.5], [1.0, 1.5], "Float64"),
        ([2**53 + 1, None, 1.5], ["9007199254740993", None, "1.5"], "str"),
        ([2**70, 1], ["1180591620717411303424", "1"], "str"),
        ([{}, {"a": {}}], ["{}", '{"a": {}}'], "str"),
        ([[{}], None], ["[{}]", None], "str"),
    ],
)
def test_attribute__of_which_each_file_has_another_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[Any], expected: list[Any], dtype: str
) -> None:
    """An attribute that nobody foresaw: empty in a file it takes the kind of the others, and no number is rounded."""
    monkeypatch.setattr(to_files, "PART_BYTES", 1)
    pages = [{"data": [opportunity(key, healthScore=value)]} for key, value in enumerate(parts, 1)]
    for number, document in enumerate(pages[:-1]):
        document["links"] = {"next": f"/api/v2/opportunities?page[after]={number}"}
    stages = reply(200, {"data": []})
    with RawServer() as server:
        server.script(stages, *(reply(200, document) for document in pages), stages)
        opp.read_opportunities(opp.connect(server.url, token="t"), to=tmp_path / "deals")
    found = pd.read_parquet(tmp_path / "deals")["health_score"]
    assert found.dtype == dtype
    assert found.astype(object).where(found.notna(), None).tolist() == expected
