"""Figures over files: those of the same rows in one frame, whoever wrote the files and however they are cut."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deltalake
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opp_pandas as opp
from conftest import NOW
from opp_pandas import errors
from opp_pandas.scanning import files as scanned_files
from opp_pandas.scanning import sources, validation
from opp_pandas.scanning.mergeable import mergeable
from portfolios import AS_OF, STAGES, random_portfolio

if TYPE_CHECKING:
    from collections.abc import Callable

    from opp_pandas.scanning.scanner import Scan

GIVEN: dict[str, Any] = {"as_of": AS_OF, "stages": STAGES, "timezone": "America/New_York", "currency": "USD"}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("forecast", {"freq": "M", "by": ["owner_name", "category"]}),
    ("forecast", {"by": "kind", "quota": {"a": 90_000.0}, "overdue": "roll_forward", "fiscal_start": 2}),
    ("category_forecast", {"by": "owner_name"}),
    ("kpis", {"by": "owner_name"}),
    ("win_rates", {"by": "kind"}),
    ("concentration", {"by": "account_name"}),
    ("rollup", {"by": "owner_name"}),
    ("bookings", {"period": "2026Q2"}),
    *((name, {}) for name in sorted(mergeable())),
]
"""What is tried: some options, and every figure that can be worked out in pieces, as it is by itself."""


def deals(seed: int = 0, n: int = 200) -> pd.DataFrame:
    """Deals of every kind, with a column of the organisation's own, a currency, and tags."""
    draw = np.random.default_rng(seed)
    frame = random_portfolio(seed, n)
    frame["kind"] = pd.Series(draw.choice(np.array(["a", "b", "Ä", None], dtype=object), n), dtype="str")
    frame["currency_type"] = pd.Series(draw.choice(np.array(["USD", "usd", None], dtype=object), n), dtype="str")
    frame["tags"] = [["q4"], None] * (n // 2)
    return frame


# --- writers that mean the same ---------------------------------------------


def narrow(table: pa.Table) -> pa.Table:
    """Whole numbers of 32 bits, instants in another unit and zone."""
    return cast(table, {pa.int64(): pa.int32(), STAMP: pa.timestamp("ms", tz="Asia/Tokyo")})


def wide(table: pa.Table) -> pa.Table:
    """Text with long offsets, instants in nanoseconds."""
    return cast(table, {pa.string(): pa.large_string(), STAMP: pa.timestamp("ns", tz="UTC")})


def viewed(table: pa.Table) -> pa.Table:
    """Text as views, unsigned numbers."""
    return cast(table, {pa.string(): pa.string_view(), pa.large_string(): pa.string_view(), pa.int64(): pa.uint32()})


def coded(table: pa.Table) -> pa.Table:
    """Text as dictionaries."""
    texts = [name for name in table.column_names if is_text(table[name].type)]
    for name in texts:
        table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
    return table


def floating(table: pa.Table) -> pa.Table:
    """Whole numbers as floats, NaN for missing, as pandas writes them without its nullable dtypes."""
    for name in table.column_names:
        if table[name].type == pa.int64():
            values = pa.array(table[name].to_pandas().to_numpy(dtype=float, na_value=np.nan))
            table = table.set_column(table.column_names.index(name), name, values)
    return table


def decimal(table: pa.Table) -> pa.Table:
    """Amounts as decimals, as databases write them."""
    place = table.column_names.index("amount")
    return table.set_column(place, "amount", table["amount"].cast(pa.decimal128(20, 0)))


def turned(table: pa.Table) -> pa.Table:
    """Columns in another order, and one that nobody else has an idea of."""
    return table.select(table.column_names[::-1])


STAMP = pa.timestamp("us", tz="UTC")


def is_text(typed: pa.DataType) -> bool:
    return pa.types.is_string(typed) or pa.types.is_large_string(typed)


def cast(table: pa.Table, types: dict[pa.DataType, pa.DataType]) -> pa.Table:
    schema = pa.schema([(field.name, types.get(field.type, field.type)) for field in table.schema])
    return table.cast(schema, safe=False)


def plain(table: pa.Table) -> pa.Table:
    """As it is."""
    return table


def write(frame: pd.DataFrame, path: Path, form: Callable[[pa.Table], pa.Table] = plain, **how: Any) -> Path:
    """Write a file without a load, in one of the forms."""
    table = form(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None))
    pq.write_table(table, path, **how)
    return path


WRITERS = [plain, narrow, wide, viewed, coded, floating, decimal, turned]


def assert_same(found: Any, expected: Any) -> None:
    """Compare results: counts to the last one, sums to 1e-12, and what they stand on."""
    if isinstance(expected, pd.DataFrame):
        if expected.attrs["opp_basis"]["figure"] == "hygiene":
            # Its rows are deals: in files, a row has no label that is its own.
            found, expected = (result.set_index("id", drop=False) for result in (found, expected))
        pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(expected), rtol=1e-12, atol=0)
        for column in expected.columns[expected.dtypes == "int64"]:
            assert found[column].tolist() == expected[column].tolist()
    else:
        assert (found.mean, found.sd) == pytest.approx((expected.mean, expected.sd), rel=1e-12)
    basis, theirs = (rounded(result.attrs["opp_basis"]) for result in (found, expected))
    assert {**basis, "notes": [note for note in basis["notes"] if "was not checked" not in note]} == theirs


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return f"{value:.10g}" if isinstance(value, float) else value


def assert_figures(scan: Scan, frame: pd.DataFrame, calls: list[tuple[str, dict[str, Any]]] = CALLS) -> None:
    for name, options in calls:
        assert_same(getattr(scan, name)(**options), getattr(frame.opp, name)(**options, **GIVEN))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 9),
    ends=st.lists(st.integers(0, 200), max_size=4).map(sorted),
    forms=st.lists(st.sampled_from(WRITERS), min_size=5, max_size=5),
    group=st.integers(1, 90),
    most=st.sampled_from([1, 40, 500_000]),
    call=st.sampled_from(CALLS),
)
def test_scan__of_any_partitioning_equals_pandas(
    seed: int, ends: list[int], forms: list[Any], group: int, most: int, call: tuple[str, dict[str, Any]]
) -> None:
    """Any split into files and row groups, empty ones too, in ways that mean the same, read in pieces of any size."""
    frame = deals(seed)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(scanned_files, "MOST_ROWS", most)
        for number, (start, end) in enumerate(zip([0, *ends], [*ends, len(frame)], strict=True)):
            write(frame.iloc[start:end], Path(name, f"{number}.parquet"), forms[number], row_group_size=group)
        assert_figures(opp.scan(name, **GIVEN), frame, [call])


def test_figures__are_those_that_can_be_merged(tmp_path: Path) -> None:
    """Every figure that can be worked out in pieces is a method with the arguments of df.opp."""
    scan = opp.scan(write(deals(), tmp_path / "a.parquet"), **GIVEN)
    for name in mergeable():
        assert inspect.signature(getattr(scan, name)) == inspect.signature(getattr(deals().opp, name))


def test_figure_that_needs_all_deals__says_so(tmp_path: Path) -> None:
    """What cannot be worked out in pieces is no method, and the error says why and what there is."""
    scan = opp.scan(write(deals(), tmp_path / "a.parquet"), **GIVEN)
    with pytest.raises(AttributeError, match=r"funnel needs to see all deals at once; here are .*forecast"):
        scan.funnel()
    with pytest.raises(AttributeError, match=r"no attribute 'fourcast'$"):
        scan.fourcast()
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        scan.forecast(frek="M")
    assert {"forecast", "kpis", "validate"} <= set(dir(scan))


# --- files as they come ------------------------------------------------------


def test_files_of_spark__are_in_utc(tmp_path: Path) -> None:
    """Old 96-bit instants do not say that they are in UTC; they are."""
    frame = deals()
    write(frame, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    write(frame.iloc[:0], tmp_path / "b.parquet")
    assert_figures(opp.scan(tmp_path, **GIVEN), frame, CALLS[:1])


WRONG: list[tuple[str, Any, str]] = [
    ("amount", lambda frame: frame["amount"].astype("str"), "'amount' of .*b.parquet holds .*string.*Int64 belongs"),
    ("close_date", lambda frame: frame["close_date"].dt.tz_localize(None), "'close_date' of .*b.parquet .*out a zone"),
    ("close_date", lambda frame: frame["close_date"].dt.date, "'close_date' of .*b.parquet holds date32.*out a zone"),
    ("stage_id", lambda frame: frame["stage_id"].astype("Float64") + 0.5, "'stage_id' of .*b.parquet .*no ids"),
    ("kind", lambda frame: range(len(frame)), "'kind' is not of one kind: str in .*a.parq.* Int64 in .*b.parq"),
    ("amount", None, "'amount'.*b.parquet has none, and other files do"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "form", "words"), WRONG)
def test_unclean_file__is_refused_by_name(tmp_path: Path, column: str, form: Any, words: str) -> None:
    """The error names the file and the column, and no figure that does not need the column minds."""
    frame = deals()
    write(frame.iloc[:100], tmp_path / "a.parquet")
    rest = frame.iloc[100:].reset_index(drop=True)
    rest = rest.drop(columns=column) if form is None else rest.assign(**{column: form(rest)})
    write(rest, tmp_path / "b.parquet")
    scan = opp.scan(tmp_path, **GIVEN)
    with pytest.raises(errors.FrameError, match=words):
        scan.forecast(by="kind")


def test_fractions__are_refused_before_they_are_summed(tmp_path: Path) -> None:
    """Probabilities between 0 and 1 are no percentages."""
    frame = deals()
    write(frame.assign(probability=frame["probability"].clip(0, 100) / 100), tmp_path / "a.parquet")
    with pytest.raises(errors.FrameError, match="between 0 and 1 in all files"):
        opp.scan(tmp_path, **GIVEN).forecast()
    write(frame, tmp_path / "b.parquet")
    write(frame.assign(probability=0.35), tmp_path / "c.parquet")
    with pytest.raises(errors.FrameError, match=r"between 0 and 1 in .*c\.parquet"):
        opp.scan([tmp_path / "b.parquet", tmp_path / "c.parquet"], **GIVEN).forecast()
    assert len(opp.scan(tmp_path, columns={"probability": "share"}, **GIVEN).forecast())


def test_column_that_nobody_asks_for__is_not_read(tmp_path: Path) -> None:
    """A file whose descriptions are damaged still gives a forecast; checking every cell meets the damage."""
    frame = deals().assign(description=pd.Series([f"text {n} " * 9 for n in range(200)], dtype="str"))
    path = write(frame, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    chunk = next(
        column
        for column in map(pq.ParquetFile(path).metadata.row_group(0).column, range(len(frame.columns)))
        if column.path_in_schema == "description"
    )
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset : chunk.data_page_offset + 60] = b"\xff" * 60
    path.write_bytes(content)
    scan = opp.scan(path, **GIVEN)
    assert_figures(scan, frame, CALLS[:1])
    with pytest.raises(OSError, match=r"(?i)thrift|page|zstd"):
        scan.validate()


def test_column_that_late_rows_need__is_read_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last deals lack the id of their stage, so that its name counts: nobody knew that from the first ones."""
    frame = deals(n=2_000)
    frame["stage_id"] = frame["stage_id"].fillna(1)
    frame["stage_name"] = frame["stage_id"].map({1: "Lead", 2: "Offer", 3: "Won", 4: "Lost"}).astype("str")
    frame.loc[frame.index > 1_900, "stage_id"] = pd.NA
    write(frame, tmp_path / "a.parquet", row_group_size=100)
    monkeypatch.setattr(scanned_files, "MOST_ROWS", 100)
    monkeypatch.setattr(scanned_files, "_FEW", 10)
    assert_figures(opp.scan(tmp_path, **GIVEN), frame, CALLS[:1])


def test_wide_rows__are_read_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are bounded in bytes, too: for hundreds of columns and for long texts, also where a file codes them."""
    monkeypatch.setattr(scanned_files, "MOST_BYTES", 30_000)
    monkeypatch.setattr(scanned_files, "_BATCH_CELLS", 20)
    frame = deals().assign(description=pd.Series([f"text {n % 3} " * 99 for n in range(200)], dtype="str"))
    source: Any = opp.scan(write(frame, tmp_path / "a.parquet", row_group_size=7), **GIVEN)._source
    (unit,) = source.files.units(source._where, source._zone)
    tables = list(source.files.tables(unit, ["id", "description"]))
    assert max(table.nbytes for table in tables) <= 30_000 < sum(table.nbytes for table in tables)
    assert pa.concat_tables(tables)["description"].to_pylist() == frame["description"].tolist()


def test_folders_names__are_columns(tmp_path: Path) -> None:
    """``region=EU`` in a folder's name is a column to group by."""
    frame = deals()
    for region, part in (("EU", frame.iloc[:80]), ("US", frame.iloc[80:])):
        (tmp_path / f"region={region}").mkdir()
        write(part, tmp_path / f"region={region}" / "a.parquet")
    whole = frame.assign(region=pd.Series(["EU"] * 80 + ["US"] * 120, dtype="str"))
    assert_figures(opp.scan(tmp_path, **GIVEN), whole, [("forecast", {"by": "region"})])


def test_names_of_others__are_mapped(tmp_path: Path) -> None:
    """``columns=`` works as in DataFrame.rename; two columns of one name are refused."""
    frame = deals()
    write(frame.rename(columns={"amount": "Amount (EUR)", "close_date": "Closes"}), tmp_path / "a.parquet")
    names = {"Amount (EUR)": "amount", "Closes": "close_date"}
    assert_figures(opp.scan(tmp_path, columns=names, **GIVEN), frame, CALLS[:2])
    with pytest.raises(errors.FrameError, match="stand twice"):
        opp.scan(tmp_path, columns={"Closes": "id"}, **GIVEN)


def test_delta_table__is_read_as_it_stands_now(tmp_path: Path) -> None:
    """By its folder or as a DeltaTable; rows that were deleted are gone."""
    frame = deals().drop(columns="tags")
    deltalake.write_deltalake(tmp_path / "table", pa.Table.from_pandas(frame, preserve_index=False))
    deltalake.write_deltalake(
        tmp_path / "table", pa.Table.from_pandas(frame.head(9), preserve_index=False), mode="append"
    )
    table = deltalake.DeltaTable(tmp_path / "table")
    table.delete("amount > 100000")
    table.delete(f"id <= {frame['id'].iloc[8]}")
    kept = frame[~(frame["amount"] > 100_000).fillna(False)].iloc[9:]
    left = frame[(frame["id"] > frame["id"].iloc[8]) & ~(frame["amount"] > 100_000).fillna(False)]
    assert len(kept) <= len(left)
    for source in (tmp_path / "table", table):
        assert_figures(opp.scan(source, **GIVEN), left.reset_index(drop=True), CALLS[:2])


def test_nothing_to_read__is_an_error(tmp_path: Path) -> None:
    """No such path, an empty folder, what is no Parquet, and what is no source."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("no parquet")
    for source, words in (
        (tmp_path / "nowhere", "there is no file or folder"),
        (tmp_path / "empty", "there is no Parquet file"),
        ([], "there is no Parquet file"),
        (tmp_path / "text.parquet", "cannot be read as Parquet"),
        (7, "scan reads Parquet files"),
    ):
        with pytest.raises(errors.ConfigurationError, match=words):
            opp.scan(source, **GIVEN)


def test_no_rows__give_what_pandas_gives(tmp_path: Path) -> None:
    """A file without rows, with and without a row group, beside others too; a condition that no row group fits."""
    some = deals()
    none = some.iloc[:0]
    write(none, tmp_path / "a.parquet")
    assert_figures(opp.scan(tmp_path, **GIVEN), none, [CALLS[0], *CALLS[2:]])
    with pq.ParquetWriter(tmp_path / "b.parquet", pq.read_schema(tmp_path / "a.parquet")):
        pass
    assert_figures(opp.scan(tmp_path / "b.parquet", **GIVEN), none, CALLS[:1])
    write(some, tmp_path / "c.parquet", row_group_size=50)
    assert_figures(opp.scan(tmp_path, **GIVEN), some, CALLS[:1])
    nowhere = opp.scan(tmp_path, where={"amount": (10**15, None)}, **GIVEN)
    assert_figures(nowhere, none, CALLS[:1])
    with pytest.raises(errors.InvalidFrameError, match="probability"):
        opp.scan(tmp_path, **GIVEN).validate()


# --- loads -------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded() -> pd.DataFrame:
    """A load, which says its own stages, zone, moment and definitions."""
    with opp.sandbox(opportunities=150, now=NOW) as box, box.client(timezone="Asia/Tokyo") as client:
        stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
        return opp.read_opportunities(client, stages=stages, fiscal_start=2, currency="USD")


def test_file_of_a_load__says_all_that_figures_need(loaded: pd.DataFrame, tmp_path: Path) -> None:
    """Stages, zone, moment, names and definitions are those that the load left in the file."""
    loaded.iloc[:70].to_parquet(tmp_path / "a.parquet")
    loaded.iloc[70:].to_parquet(tmp_path / "b.parquet")
    scan = opp.scan(tmp_path)
    for name, options in (("forecast", {"by": "owner_name"}), ("kpis", {}), ("stage_distribution", {})):
        assert_same(getattr(scan, name)(**options), getattr(loaded.opp, name)(**options))
    assert_same(
        scan.forecast(fiscal_start=1, as_of="2026-01-01"), loaded.opp.forecast(fiscal_start=1, as_of="2026-01-01")
    )


def test_loads_of_two_moments__are_no_one_scan(loaded: pd.DataFrame, tmp_path: Path) -> None:
    """Nightly copies in one folder would count every deal every night."""
    loaded.to_parquet(tmp_path / "a.parquet")
    with opp.sandbox(opportunities=20, now="2026-11-01T00:00:00Z") as box:
        opp.read_opportunities(box.client()).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(errors.ConfigurationError, match=r"a\.parquet and .*b\.parquet .*differ in 'as_of', 'timezone'"):
        opp.scan(tmp_path)


def test_files_without_a_load__must_be_told_the_day(tmp_path: Path) -> None:
    """As_of comes from the call, or nobody knows of which day the rows speak; stages are told by their names."""
    frame = deals().drop(columns="stage_id").assign(stage_name=pd.Series(["Lead", "Won"] * 100, dtype="str"))
    write(frame, tmp_path / "a.parquet")
    with pytest.raises(errors.NotLoadedError, match="give as_of="):
        opp.scan(tmp_path).forecast()
    found = opp.scan(tmp_path, as_of=AS_OF, currency="USD").forecast()
    assert_same(found, frame.opp.forecast(as_of=AS_OF, currency="USD"))


@pytest.mark.parametrize(("most", "adopted"), [(400, False), (100_000, False), (1_000, True)])
def test_history__is_scanned_at_any_moment(
    loaded: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, adopted: bool
) -> None:
    """Its newest state, or that of as_of, some deals at a time: the figures of the frame that as_of() gives."""
    monkeypatch.setattr(sources, "MOST_CELLS", most)
    history = opp.History(tmp_path / "history")
    history.record(adopted_deals(loaded) if adopted else loaded)
    scan = opp.scan(history)
    assert len(scan) == len(loaded)
    assert len(list(history.pieces(most=most))) > 1 or most == 100_000
    for name, options in (("forecast", {"by": "account_name"}), ("kpis", {}), ("bookings", {})):
        assert_same(getattr(scan, name)(**options), getattr(history.as_of().opp, name)(**options))
    assert scan.validate() is scan
    with pytest.raises(errors.HistoryNeededError):
        opp.scan(history, as_of="2001-01-01")


def adopted_deals(loaded: pd.DataFrame) -> pd.DataFrame:
    """The deals as another system has them: their keys are texts."""
    frame = pd.DataFrame(loaded).drop(columns=["id", "tags"]).assign(custom_id=[f"K{n}" for n in range(len(loaded))])
    stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
    return opp.adopt(frame, stages=stages, as_of=NOW, timezone="Asia/Tokyo", currency="USD")


# --- conditions, checks, the run of it ---------------------------------------


@pytest.mark.parametrize(
    ("where", "mask"),
    [
        ({"amount": (50_000, 120_000)}, lambda df: df["amount"].between(50_000, 120_000)),
        (
            {"close_date": ("2026-01-01", None), "owner": [7, 8]},
            lambda df: (df["close_date"] >= "2026-01-01T05:00Z") & df["owner_id"].isin([7, 8]),
        ),
        ({"kind": "a", "amount": None}, lambda df: (df["kind"] == "a") & df["amount"].isna()),
        ({"probability": [10, 20, 30]}, lambda df: df["probability"].isin([10, 20, 30])),
    ],
)
def test_where__chooses_the_rows(tmp_path: Path, where: dict[str, Any], mask: Any) -> None:
    """As a mask in pandas, whatever types the files have; days are days in the zone."""
    frame = deals()
    for number, form in enumerate(WRITERS):
        part = frame.iloc[25 * number : 25 * (number + 1)]
        write(part, tmp_path / f"{number}.parquet", form, row_group_size=10)
    chosen = frame[mask(frame).fillna(False)].reset_index(drop=True)
    assert_figures(opp.scan(tmp_path, where=where, **GIVEN), chosen, [CALLS[0], CALLS[3]])


def test_where__leaves_row_groups_unread(tmp_path: Path) -> None:
    """Statistics rule most of a sorted file out."""
    frame = deals().sort_values("close_date", ignore_index=True)
    write(frame, tmp_path / "a.parquet", row_group_size=20)
    scan = opp.scan(tmp_path, where={"close_date": ("2026-12-20", None)}, **GIVEN)
    source: Any = scan._source
    units = list(source.files.units(source._where, source._zone))
    assert sum(len(unit) for unit in units) < 4
    assert_figures(scan, frame[frame["close_date"] >= "2026-12-20T05:00Z"].reset_index(drop=True), CALLS[:1])


def test_validate__names_file_and_row(tmp_path: Path) -> None:
    """Bad cells, ids that stand twice in two files, columns of another kind and missing ones, each with its file."""
    frame = deals().drop(columns="tags")
    frame["amount"] = frame["amount"].mask(frame.index == 33, -5)
    write(frame.iloc[:100], tmp_path / "a.parquet", row_group_size=10)
    rest = frame.iloc[100:].reset_index(drop=True)
    rest.loc[7, "id"] = 3
    rest["close_date"] = rest["close_date"].dt.tz_localize(None)
    write(rest.drop(columns="next_step"), tmp_path / "b.parquet")
    with pytest.raises(errors.InvalidFrameError) as raised:
        opp.scan(tmp_path, **GIVEN).validate()
    found = raised.value.failure_cases
    assert list(found.columns) == ["file", "id", "row", "column", "value", "rule"]
    told = {(Path(line["file"]).name, line["row"], line["column"]) for line in found.to_dict("records")}
    assert ("a.parquet", 33, "amount") in told
    assert {("a.parquet", 2, "id"), ("b.parquet", 7, "id")} <= told
    assert {("b.parquet", None, "close_date"), ("b.parquet", None, "next_step")} <= told
    # What is wrong in memory is wrong here: the probability of 101.
    with pytest.raises(errors.InvalidFrameError) as in_memory:
        frame.opp.validate()
    cells = in_memory.value.failure_cases
    assert sum(1 for _, row, column in told if column in ("amount", "probability")) == len(cells)


def test_deals_in_two_files__are_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures say that nobody looked, until validate() did: it names both files, however few ids fit in memory."""
    monkeypatch.setattr(validation, "_MOST_IDS", 30)
    frame = deals().drop(columns="tags").assign(probability=50)
    write(frame.iloc[:100], tmp_path / "a.parquet", row_group_size=10)
    write(frame.iloc[100:], tmp_path / "b.parquet")

    def doubt(scan: Scan) -> list[str]:
        notes: list[str] = scan.forecast().attrs["opp_basis"]["notes"]
        return [note for note in notes if "stands in two of 2 files was not checked" in note]

    scan = opp.scan(tmp_path, **GIVEN)
    assert doubt(scan)
    assert not doubt(scan.validate())
    assert not doubt(opp.scan(tmp_path / "a.parquet", **GIVEN))
    write(frame.iloc[90:], tmp_path / "b.parquet")
    with pytest.raises(errors.InvalidFrameError) as raised:
        opp.scan(tmp_path, **GIVEN).validate()
    found = raised.value.failure_cases
    assert set(found["rule"]) == {"must be unique"}
    places = sorted((int(line["id"]), Path(line["file"]).name, line["row"]) for line in found.to_dict("records"))
    ids = [int(key) for key in frame["id"].iloc[90:100]]
    assert places == [
        place for n, key in enumerate(ids) for place in ((key, "a.parquet", 90 + n), (key, "b.parquet", n))
    ]


def test_unmapped_stages__are_told_of_once(tmp_path: Path) -> None:
    """Not once for every piece; the number is that of all pieces."""
    frame = deals()
    frame.loc[frame.index % 10 == 0, "stage_id"] = 99
    write(frame, tmp_path / "a.parquet", row_group_size=9)
    with pytest.warns(errors.UnmappedStageWarning) as told:
        opp.scan(tmp_path, **GIVEN).forecast()
    assert len(told) == 1
    with pytest.warns(errors.UnmappedStageWarning) as expected:
        frame.opp.forecast(**GIVEN)
    assert str(told[0].message) == str(expected[0].message)


def test_progress__is_shown_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar of rows on the error stream, and no thread is left."""
    write(deals(), tmp_path / "a.parquet", row_group_size=20)
    opp.scan(tmp_path, progress=True, **GIVEN).forecast()
    assert "scan" in capsys.readouterr().err
    opp.scan(tmp_path, **GIVEN).forecast()
    assert not capsys.readouterr().err
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("opp-scanning")]


INTERRUPTED = """
import os, re, signal, sys, threading
import opp_pandas as opp

class Watched:
    percent, moves = 0, threading.Event()

    def write(self, text):
        Watched.percent = max(Watched.percent, *map(int, re.findall(r"([0-9]+)%", text)), 0)
        if Watched.percent:
            self.moves.set()

    def flush(self):
        pass

def press():
    Watched.moves.wait()
    os.kill(os.getpid(), signal.SIGINT)

scan = opp.scan([sys.argv[1]] * 1000, as_of="2026-06-15", stages=opp.StageMap(won=["Won"]), progress=True)
sys.stderr = Watched()
threading.Thread(target=press, daemon=True).start()
try:
    scan.stage_distribution()
except KeyboardInterrupt:
    print("interrupted at", Watched.percent)
"""
"""Presses Ctrl-C as soon as the bar moves, however slow the machine is, and says how far it came by then."""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")
def test_interrupt__ends_a_scan_at_once(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a thousand files: no more of them is begun, and the program goes on, and ends."""
    frame = deals().assign(stage_name="Lead").drop(columns="stage_id")
    path = write(pd.concat([frame] * 50, ignore_index=True), tmp_path / "a.parquet")
    program = [sys.executable, "-c", INTERRUPTED, str(path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    words, _, percent = done.stdout.strip().rpartition(" ")
    assert words == "interrupted at"
    assert int(percent) < 50
