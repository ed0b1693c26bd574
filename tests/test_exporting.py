"""Exports: harmless in a spreadsheet, and read back bit by bit as they were."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import opp_pandas as opp
from loads import load, resource
from opp_pandas import exporting
from opp_pandas.errors import (
    ConfigurationError,
    DuplicateRowsError,
    FrameError,
    InvalidFrameError,
    MissingExtraError,
)
from opp_pandas.exporting.columns import Heading
from opp_pandas.exporting.texts import from_cell, guard, to_cell, unguard
from reports import HOSTILE

if TYPE_CHECKING:
    from pathlib import Path

FORMS = (".csv", ".xlsx")
ODD_TEXTS = [
    *HOSTILE,
    "",
    "NA",
    "nan",
    "None",
    "'",
    "''",
    "'tis",
    " =1+1",
    "\u00a0=1+1",
    "\uff1d1",
    "007",
    "1e5",
    "12345678901234567890",
    "TRUE",
    "3-4",
    "2 May",
    "Sept 1",
    "=",
    "\ttab",
    "\rreturn",
    "line\nline",
    "line\r\nline",
    "a,b;c\td",
    'quote "here"',
    "_x0041_ and _x000D_",
    "x005F_",
    'escaped:""',
    "escaped: words",
    "\x00\x01\x1f\ufffe\uffff",
    "👩‍💻 \u202e العربية 日本",
    "  spaces  ",
    "[1, 2]",
    "null",
]
texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
instants = st.integers(-30_000_000_000_000_000, 253_402_300_799_999_999)
WIDE = [2**53 + 1, -(2**63), 2**63 - 1, 10**15, -(10**15), 0, -5]


def round_trip(frame: pd.DataFrame, path: Path, **options: Any) -> pd.DataFrame:
    """Write and read again."""
    write = exporting.to_csv if path.suffix == ".csv" else exporting.to_excel
    return exporting.read_export(write(frame, path, **options), timezone=options.get("timezone"))


# --- texts -------------------------------------------------------------------------


@given(texts)
def test_guard__is_undone_and_leaves_nothing_dangerous(text: str) -> None:
    """A guarded text never begins as a formula does, and comes back as it was."""
    written = guard(text)
    assert unguard(written) == text
    assert written
    assert written.strip("' \u00a0")[:1] not in tuple("=+-@\uff1d\uff0b\uff0d\uff20") or written[0] == "'"
    assert written[0] not in "=+-@\t\r\n"


@pytest.mark.parametrize(
    "text", ["Acme", "'tis the season", "3M renewal", "Ärger & Söhne", "May flowers", "10-year deal"]
)
def test_guard__leaves_ordinary_names_alone(text: str) -> None:
    """A name that no spreadsheet touches has no apostrophe."""
    assert guard(text) == text


@given(texts)
def test_cells__bring_every_text_through_xml(text: str) -> None:
    """What a cell holds has no character that XML loses, and is read as it was."""
    written = to_cell(text)
    assert written
    assert from_cell(written.replace("\r", "_x000D_")) == text


@given(
    st.sampled_from(["amount", "tags", "mine", "x [Int64]", "a [b]", "=x"]),
    st.sampled_from(["str", "Int64", "object", "datetime64[us, UTC]", "float64"]),
)
def test_heading__says_name_and_dtype(name: str, dtype: str) -> None:
    """A heading is read as what it was written for."""
    assert Heading.read(Heading(name, dtype).text) == Heading(name, dtype)


# --- there and back ------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("form", FORMS)
def test_round_trip__of_the_last_moments_of_the_calendar(tmp_path: Path, zone: str, form: str) -> None:
    """What tools write for "never" comes back, wherever the clocks stand."""
    moments = ["9999-12-31T23:59:59Z", "9999-12-31T00:00:00Z", "9999-12-30T23:00:00Z", "0001-01-01T00:00:00Z"]
    days = pd.to_datetime(pd.Series(moments), utc=True, format="ISO8601").dt.as_unit("us")
    frame = pd.DataFrame({"id": pd.array(range(1, 5), dtype="Int64"), "close_date": days})
    pd.testing.assert_frame_equal(round_trip(frame, tmp_path / f"deals{form}", timezone=zone), frame)


COLUMNS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "id": ("Int64", st.none() | st.integers(1, 2**63 - 1)),
    "name": ("str", st.none() | texts),
    "amount": ("Int64", st.none() | st.sampled_from(WIDE) | st.integers(-(2**63), 2**63 - 1)),
    "close_date": ("datetime64[us, UTC]", st.none() | instants),
    "tags": ("object", st.none() | st.lists(texts, max_size=3)),
    "can_write": ("boolean", st.none() | st.booleans()),
    "score": ("float64", st.none() | st.floats(allow_nan=False)),
    "risk": ("Float64", st.none() | st.floats(allow_nan=False, width=32)),
    "rank": ("int32", st.integers(-(2**31), 2**31 - 1)),
    "flag": ("bool", st.booleans()),
    "local": ("datetime64[ns]", st.none() | st.integers(-(2**62), 2**62)),
    "seen": ("datetime64[ns, Europe/Berlin]", st.none() | st.integers(-(2**60), 2**62)),
    "more": ("object", st.none() | st.dictionaries(texts, st.integers() | st.none(), max_size=2) | texts),
    "=HYPERLINK()": ("str", texts),
}


def column_of(values: list[Any], dtype: str) -> Any:
    if dtype.startswith("datetime64"):
        unit = dtype[11:13]
        raw = pd.Series(
            [pd.NaT if value is None else np.datetime64(value, unit) for value in values], dtype=f"datetime64[{unit}]"
        )
        return raw.dt.tz_localize("UTC").astype(dtype) if "," in dtype else raw
    if dtype == "object":
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return pd.Series(column)
    return pd.Series([np.nan if value is None and dtype == "float64" else value for value in values], dtype=dtype)


rows = st.lists(st.tuples(*(values for _, values in COLUMNS.values())), max_size=25)


def frame_of(found: list[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: column_of([row[place] for row in found], dtype)
            for place, (name, (dtype, _)) in enumerate(COLUMNS.items())
        }
    )


FIXED = [
    (
        place + 1,
        text,
        WIDE[place % 7],
        253_402_300_799_999_999 - place,
        [text, ""],
        None,
        0.1 + 0.2,
        -0.0,
        -5,
        True,
        1,
        1,
        {text: None},
        text,
    )
    for place, text in enumerate(ODD_TEXTS)
]


@pytest.mark.parametrize("suffix", FORMS)
@settings(max_examples=12)
@given(found=rows, zone=st.sampled_from(["America/New_York", "Asia/Tokyo", "UTC"]))
@example(found=FIXED, zone="America/New_York")
@example(found=[], zone="UTC")
def test_export__comes_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, zone: str, found: Any
) -> None:
    """Every dtype, every odd text and number, in either form, is read as it was written."""
    frame = frame_of(found)
    again = round_trip(frame, tmp_path_factory.getbasetemp() / f"there{suffix}", timezone=zone)
    assert list(again.index) == list(frame.index)
    pd.testing.assert_frame_equal(again, frame, check_index_type=False, check_exact=True, check_column_type=False)
    for name in ("tags", "more"):
        assert [value for value in again[name]] == [None if value is None else value for value in frame[name]]  # noqa: C416
    signs = [np.signbit(part["score"].to_numpy()) for part in (again, frame)]
    np.testing.assert_array_equal(*signs)


@pytest.mark.parametrize("suffix", FORMS)
def test_export__of_a_load_changes_nothing(tmp_path: Path, suffix: str, df: pd.DataFrame) -> None:
    """A whole load goes out and comes back with the same dtypes, values and nothing to write."""
    write = df.opp.to_csv if suffix == ".csv" else df.opp.to_excel
    again = opp.read_export(write(tmp_path / f"deals{suffix}"), original=df)
    pd.testing.assert_frame_equal(again, df)
    assert len(again.opp.changes()) == 0
    # A filtered frame keeps its labels, a frame indexed by id gets its column back.
    part = df[df["amount"] > 20_000].iloc[::-1]
    write = part.opp.to_csv if suffix == ".csv" else part.opp.to_excel
    pd.testing.assert_frame_equal(opp.read_export(write(tmp_path / f"part{suffix}"), original=df), part)
    indexed = df.set_index("id")
    write = indexed.opp.to_csv if suffix == ".csv" else indexed.opp.to_excel
    assert list(opp.read_export(write(tmp_path / f"by_id{suffix}"), original=df)["id"]) == list(df["id"])


@pytest.mark.parametrize("suffix", FORMS)
def test_export__of_new_deals_finds_them_again(tmp_path: Path, suffix: str) -> None:
    """Deals that wait to be created come back as the same new deals."""
    df = load([resource(1), resource(2)]).opp.add([{"name": "New one", "amount": 5}, {"name": "New two", "amount": 6}])
    write = df.opp.to_csv if suffix == ".csv" else df.opp.to_excel
    again = opp.read_export(write(tmp_path / f"deals{suffix}"), original=df)
    changes = again.opp.changes()
    assert list(changes.created["name"]) == ["New one", "New two"]
    assert len(changes.refused) == 0


# --- edited by somebody -------------------------------------------------------------------


@pytest.fixture
def deals() -> pd.DataFrame:
    found = [
        resource(1, name="=HYPERLINK(1)", closeDate="2026-12-10T05:00:00.000Z"),
        resource(2, nextStep="NA", closeDate="2026-11-01T06:30:00.000Z"),
        resource(3, tags=["q4"], name="\u202eThird"),
        resource(4, name="Fourth"),
    ]
    return load(found, timezone="America/New_York")


def test_sheet__edited_by_a_manager_gives_just_the_edits(tmp_path: Path, deals: pd.DataFrame) -> None:
    """Typed days, numbers, names and cleared cells arrive as edits; sorting and taking rows out do not."""
    path = deals.opp.to_excel(tmp_path / "deals.xlsx")
    book = openpyxl.load_workbook(path)
    sheet = book["Opportunities"]
    place = {cell.value: cell.column for cell in sheet[1]}
    import datetime as dt

    sheet.cell(2, place["close_date"]).value = dt.datetime(2026, 12, 24)
    sheet.cell(2, place["amount"]).value = 9_000
    sheet.cell(3, place["next_step"]).value = "Call again"
    sheet.cell(3, place["stage_name"]).value = "Proposal"
    sheet.cell(4, place["next_step"]).value = None
    sheet.cell(4, place["tags"]).value = "q4; hot"
    sheet.delete_rows(5)
    sheet.move_range("A2:ZZ2", rows=10)
    book.save(path)
    changes = opp.read_export(path, original=deals).opp.changes()
    found = {(row["id"], row["field"]): row["after"] for row in changes.cells.to_dict("records")}
    assert found.pop((1, "amount_precise"), "9000") == "9000"
    assert found == {
        (1, "close_date"): pd.Timestamp("2026-12-24T05:00Z"),
        (1, "amount"): 9_000,
        (2, "next_step"): "Call again",
        (2, "stage_id"): 2,
        (3, "next_step"): None,
        (3, "tags"): ["q4", "hot"],
    }
    assert len(changes.deleted) == 0
    assert len(changes.refused) == 0


def test_lines__saved_again_by_a_spreadsheet_give_just_the_edits(tmp_path: Path, deals: pd.DataFrame) -> None:
    """Semicolons, lost quotes, dropped ends of lines and another mark of encoding are no edits."""
    path = deals.opp.to_csv(tmp_path / "deals.csv")
    lines = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    place = {name: number for number, name in enumerate(lines[0])}
    lines[1][place["close_date"]] = "2026-12-24"
    lines[2][place["probability"]] = "75"
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=";")
    for line in lines:
        while line and line[-1] == "":
            line.pop()
        writer.writerow(line)
    writer.writerow([""] * 5)
    path.write_bytes(buffer.getvalue().encode("utf-16"))
    changes = opp.read_export(path, original=deals).opp.changes()
    found = {(row["id"], row["field"]): row["after"] for row in changes.cells.to_dict("records")}
    assert found == {(1, "close_date"): pd.Timestamp("2026-12-24T05:00Z"), (2, "probability"): 75}


def test_lines__may_end_with_a_carriage_return_alone(tmp_path: Path, deals: pd.DataFrame) -> None:
    """Excel for Mac has such a form of CSV; it is read like any other."""
    path = deals.opp.to_csv(tmp_path / "deals.csv")
    lines = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=";", lineterminator="\r").writerows(lines)
    path.write_bytes(buffer.getvalue().encode())
    assert len(opp.read_export(path, original=deals).opp.changes()) == 0


def test_lines__hold_nothing_that_a_spreadsheet_obeys(tmp_path: Path) -> None:
    """No cell begins as a formula does, numbers of sixteen digits and more are text."""
    df = load([resource(place, name=name, amount=2**53 + place) for place, name in enumerate(HOSTILE, 1)])
    content = df.opp.to_csv(tmp_path / "deals.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert not [cell for line in lines for cell in line if cell[:1] in tuple("=+-@\t\r\n")]
    assert all(line[lines[0].index("amount")].startswith("'9007") for line in lines[1:])


def test_sheet__holds_nothing_that_excel_obeys(tmp_path: Path, deals: pd.DataFrame) -> None:
    """No formula, no link; dangerous texts stay text when they are edited; headings stay in sight."""
    path = deals.opp.to_excel(tmp_path / "deals.xlsx")
    book = openpyxl.load_workbook(path)
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert {cell.data_type for cell in cells} <= {"s", "n", "d", "b"}
    assert not [cell for cell in cells if cell.hyperlink]
    sheet = book["Opportunities"]
    place = {cell.value: cell.column for cell in sheet[1]}
    assert sheet.cell(2, place["name"]).quotePrefix
    assert sheet.cell(3, place["name"]).number_format == "@"
    assert sheet.cell(2, place["amount"]).data_type == "n"
    assert sheet.cell(2, place["close_date"]).is_date
    # The hour that New York has twice is told apart by its offset.
    assert sheet.cell(3, place["close_date"]).value == "2026-11-01T01:30:00-05:00"
    assert sheet.freeze_panes is not None
    assert sheet.column_dimensions["A"].hidden is False
    assert [cell.value for cell in book["About"]["A"]][3:5] == ["What is not an edit", "Time zone of days and times"]
    choices = {str(rule.sqref): rule.formula1 for rule in sheet.data_validations.dataValidation if rule.type == "list"}
    assert next(iter(choices.values())) == "Lists!$A$1:$A$4"


def test_sheet__formulas_count_as_what_they_gave(tmp_path: Path, deals: pd.DataFrame) -> None:
    """A formula without a value and an error of the sheet are named, not taken for an empty cell."""
    path = deals.opp.to_excel(tmp_path / "deals.xlsx")
    book = openpyxl.load_workbook(path)
    sheet = book["Opportunities"]
    place = {cell.value: cell.column for cell in sheet[1]}
    sheet.cell(2, place["amount"]).value = "=1000*2"
    sheet.cell(3, place["probability"]).value = "#N/A"
    book.save(path)
    with pytest.raises(InvalidFrameError) as caught:
        opp.read_export(path, original=deals)
    cases = caught.value.failure_cases
    assert list(cases["column"]) == ["amount", "probability"]
    assert list(cases["row"]) == [2, 3]
    assert list(cases["id"]) == [1, 2]
    # With the value that Excel keeps beside it, the formula is that value.
    import xlsxwriter

    kept = tmp_path / "kept.xlsx"
    with xlsxwriter.Workbook(kept) as fresh:
        page = fresh.add_worksheet("Opportunities")
        page.write_row(0, 0, ["id", "amount"])
        page.write_number(1, 0, 1)
        page.write_formula(1, 1, "=1000*2", None, 2000)
    assert list(opp.read_export(kept)["amount"]) == [2000]


# --- errors --------------------------------------------------------------------------------


def test_cells__that_cannot_be_read_are_all_named(tmp_path: Path, deals: pd.DataFrame) -> None:
    """One error lists every such cell with its row in the file, its deal and what to write instead."""
    path = deals.opp.to_csv(tmp_path / "deals.csv")
    lines = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    place = {name: number for number, name in enumerate(lines[0])}
    lines[1][place["amount"]] = "nine"
    lines[2][place["close_date"]] = "24/12/2026"
    lines[3][place["probability"]] = "75%"
    lines[4][place["amount"]] = "99999999999999999999"
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(lines)
    path.write_text(buffer.getvalue(), encoding="utf-8", newline="")
    with pytest.raises(InvalidFrameError, match="id 1, row 2: amount = 'nine'") as caught:
        opp.read_export(path, original=deals)
    cases = caught.value.failure_cases
    assert {(row["row"], row["column"]) for row in cases.to_dict("records")} == {
        (2, "amount"), (3, "close_date"), (4, "probability"), (5, "amount"),
    }  # fmt: skip
    assert "2026-12-31" in cases.set_index("column").loc["close_date", "rule"]


def test_day__needs_a_zone(tmp_path: Path) -> None:
    """A plain day in a CSV means nothing until somebody says where."""
    path = tmp_path / "days.csv"
    path.write_text("id,close_date\n1,2026-12-31\n")
    with pytest.raises(InvalidFrameError, match="timezone="):
        opp.read_export(path)
    day = opp.read_export(path, timezone="Europe/Berlin")["close_date"].iloc[0]
    assert day == pd.Timestamp("2026-12-30T23:00Z")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({1: [1]}), "column names must be text"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "stands twice"),
        (pd.DataFrame({"a": pd.to_timedelta([1], unit="D")}), "timedelta64"),
        (pd.DataFrame({"tags": [["a"], {1, 2}]}), "row 1, column tags"),
    ],
)
@pytest.mark.parametrize("write", [exporting.to_csv, exporting.to_excel])
def test_export__of_what_cannot_come_back_is_refused(
    tmp_path: Path, write: Any, frame: pd.DataFrame, words: str
) -> None:
    """The error names column and remedy, and no file is left."""
    suffix = ".csv" if write is exporting.to_csv else ".xlsx"
    with pytest.raises(FrameError, match=words):
        write(frame, tmp_path / f"x{suffix}")
    assert not list(tmp_path.iterdir())


def test_sheet__refuses_texts_that_excel_would_cut(tmp_path: Path) -> None:
    """Excel's cells end at 32,767 characters: the error names the cell and the two ways out."""
    frame = pd.DataFrame({"id": pd.array([7], dtype="Int64"), "description": ["x" * 40_000]})
    with pytest.raises(FrameError, match=r"row 0, column description: 40,000 characters.*to_csv.*df\.drop"):
        exporting.to_excel(frame, tmp_path / "x.xlsx")
    assert round_trip(frame, tmp_path / "x.csv")["description"].iloc[0] == "x" * 40_000


def test_files__that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong endings, missing files, other encodings and broken workbooks have an error each."""
    with pytest.raises(ConfigurationError, match="must end in"):
        opp.read_export(tmp_path / "x.txt")
    with pytest.raises(ConfigurationError, match="there is no file"):
        opp.read_export(tmp_path / "x.csv")
    (tmp_path / "latin.csv").write_bytes("id,name\n1,Überland\n".encode("cp1252"))
    with pytest.raises(FrameError, match="CSV UTF-8"):
        opp.read_export(tmp_path / "latin.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(FrameError, match="no headings"):
        opp.read_export(tmp_path / "empty.csv")
    (tmp_path / "long.csv").write_text("id,name\n1,a,b\n")
    with pytest.raises(FrameError, match="row 2: 3 cells under 2 headings"):
        opp.read_export(tmp_path / "long.csv")
    (tmp_path / "twice.csv").write_text("id,id\n1,2\n")
    with pytest.raises(DuplicateRowsError, match="stands twice"):
        opp.read_export(tmp_path / "twice.csv")
    (tmp_path / "endless.csv").write_text('id,name\n1,"' + "x" * 11_000_000)
    with pytest.raises(FrameError, match="line 2, cannot be read as CSV"):
        opp.read_export(tmp_path / "endless.csv")
    (tmp_path / "broken.xlsx").write_bytes(b"PK no")
    with pytest.raises(FrameError, match="cannot be read as a workbook"):
        opp.read_export(tmp_path / "broken.xlsx")
    import sys

    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(MissingExtraError, match=r"opp_pandas\[report\]"):
        opp.read_export(tmp_path / "broken.xlsx")
    with pytest.raises(MissingExtraError, match=r"opp_pandas\[report\]"):
        exporting.to_excel(pd.DataFrame({"id": [1]}), tmp_path / "new.xlsx")


def test_category__comes_back_as_its_values(tmp_path: Path) -> None:
    """Which categories there might be is not in a file."""
    frame = pd.DataFrame(
        {"name": pd.Series(["a", None, "b"], dtype="category"), "id": pd.array([1, 2, 3], dtype="Int64")}
    )
    again = round_trip(frame, tmp_path / "x.csv")
    assert str(again["name"].dtype) == "str"
    assert list(again["name"].dropna()) == ["a", "b"]


def test_emptied__numbers_that_cannot_be_missing_become_nullable(tmp_path: Path) -> None:
    """A cell that somebody emptied is missing, also where the dtype had no place for that."""
    path = tmp_path / "x.csv"
    path.write_text("id,n [int64],ok [bool]\n1,,\n2,5,TRUE\n")
    again = opp.read_export(path)
    assert [str(again[name].dtype) for name in ("n [int64]", "ok [bool]") if name in again] == []
    assert [str(again[name].dtype) for name in ("n", "ok")] == ["Int64", "boolean"]
