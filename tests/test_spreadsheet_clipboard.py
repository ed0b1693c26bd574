"""What spreadsheets put on the clipboard, pasted: read, or refused cell by cell with the reason."""

from __future__ import annotations

import csv
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp
from conftest import STAGES
from loads import load, resource
from opp_pandas.kinds import BOOLEAN, INSTANTS, INTEGER, TEXT
from opp_pandas.notebook.clipboard import build_tsv, parse_tsv
from opp_pandas.notebook.codecs import Numbers, Plain, read_texts
from opp_pandas.notebook.edit_session import Sheet
from opp_pandas.notebook.grid_controller import Desk
from opp_pandas.parsing.reading import Conventions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from opp_pandas.sandbox_handle import Sandbox

WHOLE, EXACT, DAY, WORDS, TRUTH = (
    Plain(INTEGER),
    Numbers(whole=False),
    Plain(INSTANTS, "UTC"),
    Plain(TEXT),
    Plain(BOOLEAN),
)
SERIAL = 46387  # 2026-12-31
KINDS: list[tuple[str, Any, str, Any, Any, dict[str, Any]]] = [
    # What it is, the cell, its format, the column, what it becomes (after "!" the refusal), and what is said of it.
    ("plain number", 12500, "General", WHOLE, 12500, {}),
    ("grouped", 12500, "#,##0", WHOLE, "!may be 12500 (decimal='.') or 12.5 (decimal=',')", {}),
    ("grouped, told", 12500, "#,##0", WHOLE, 12500, {"thousands": ","}),
    ("grouped twice", 1250000, "#,##0", WHOLE, 1250000, {}),
    ("two decimals", 12500, "#,##0.00", WHOLE, 12500, {}),
    ("dollars", 12500, "[$$-409]#,##0.00", WHOLE, 12500, {}),
    ("euros", 12500, "#,##0.00\\ [$€-407]", WHOLE, 12500, {}),
    ("code", 12500, '"USD" #,##0.00', WHOLE, 12500, {}),
    ("brackets", -2000, "#,##0.00;(#,##0.00)", WHOLE, -2000, {}),
    ("minus behind", -2000, "0.00;0.00-", WHOLE, -2000, {}),
    ("zero of accounts", 0, '"$"#,##0.00;-"$"#,##0.00;"$"" -"', WHOLE, 0, {}),
    ("dash", 0, '0;-0;"-"', WHOLE, "!may be zero or nothing: write 0, or leave the cell empty", {}),
    ("thousands", 1200, '0.0,"k"', WHOLE, 1200, {}),
    ("millions", 2500000, '0.0,,"M"', WHOLE, 2500000, {}),
    ("percent", 0.55, "0%", "percent", 55, {}),
    ("percent with decimals", 0.555, "0.0%", "percent", "!is not a whole number; write digits only, such as 1250", {}),
    ("percent as an amount", 0.55, "0%", WHOLE, "!must be a number, not a percentage", {}),
    ("rounded by its format", 1254321, "0.00E+00", WHOLE,
     "!shows only the leading digits; copy it with another number format", {}),
    ("fraction", 0.5, "# ?/?", EXACT, "!is not a number; write it like 1250.5, without a thousands separator", {}),
    ("decimals", 12.5, "0.0", EXACT, 12.5, {}),
    ("ISO day", SERIAL, "yyyy-mm-dd", DAY, "2026-12-31", {}),
    ("American day", SERIAL, "m/d/yyyy", DAY, "2026-12-31", {}),
    ("German day", SERIAL, "dd.mm.yy", DAY, "2026-12-31", {}),
    ("day in words", SERIAL, "d-mmm-yy", DAY, "2026-12-31", {}),
    ("long day", SERIAL, "dddd, mmmm d, yyyy", DAY, "2026-12-31", {}),
    ("month in front", SERIAL, "mmm d, yyyy", DAY, "2026-12-31", {}),
    ("day that reads both ways", SERIAL - 302, "mm/dd/yyyy", DAY,
     "!may be 2026-04-03 (dayfirst=True) or 2026-03-04 (dayfirst=False)", {}),
    ("day that reads both ways, told", SERIAL - 302, "mm/dd/yyyy", DAY, "2026-03-04", {"dayfirst": False}),
    *(
        (f"long day, {language}", SERIAL, f"[$-{code}]{form}", DAY, "2026-12-31", {})
        for language, code, form in [
            ("German", "407", "dddd, d. mmmm yyyy"), ("French", "40C", "dddd d mmmm yyyy"),
            ("French, short", "40C", "d mmm yyyy"), ("Spanish", "C0A", 'dddd, d "de" mmmm "de" yyyy'),
            ("Portuguese", "416", "d/mmm/yy"), ("Italian", "410", "d-mmm-yy"), ("Dutch", "413", "d mmmm yyyy"),
            ("Swedish", "41D", "dddd d mmmm yyyy"), ("Japanese", "411", 'yyyy"年"m"月"d"日"'),
        ]
    ),
    ("long day, Polish", SERIAL, "[$-415]d mmmm yyyy", DAY,
     "!has a month that is not known here: write it like 2026-12-31", {}),
    ("German amount", 12500, "[$-407]#,##0.00 [$€-407]", WHOLE, 12500, {}),
    ("year in front, short", SERIAL, "yy-mm-dd", DAY, "2026-12-31", {"date_format": "%y-%m-%d"}),
    ("moment", SERIAL + 0.75, "yyyy-mm-dd hh:mm", DAY, "2026-12-31 18:00", {}),
    ("twelve-hour clock", SERIAL + 0.75, "m/d/yyyy h:mm AM/PM", DAY, "2026-12-31 18:00", {}),
    ("month alone", SERIAL, "mmm-yy", DAY, "!is not a date; write it like 2026-12-31 or 2026-12-31 17:00", {}),
    ("serial day", SERIAL, "General", DAY,
     "!must be a date, not a bare number; date_format='excel' reads serial days", {}),
    ("serial day, told", SERIAL, "General", DAY, "2026-12-31", {"date_format": "excel"}),
    ("truth", True, "General", TRUTH, "true", {}),
    ("error", ("=1/0", "#DIV/0!"), "General", WHOLE, "!is an error of the spreadsheet", {}),
    ("missing look-up", ("=NA()", "#N/A"), "General", WHOLE, "!is an error of the spreadsheet", {}),
    ("formula", ("=5*2500", 12500), "General", WHOLE, 12500, {}),
    ("text with breaks", 'two\nlines, "quoted"', "General", WORDS, 'two\nlines, "quoted"', {}),
    ("digits as text", "007", "@", WORDS, "007", {}),
    ("blanks around", " 12500 ", "@", WHOLE, 12500, {}),
]  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """The first sheet of a workbook as LibreOffice writes it when its cells are copied as text."""
    office = shutil.which("soffice")
    if office is None:
        pytest.skip("LibreOffice Calc is not installed (Debian: libreoffice-calc)")
    profile = tmp_path_factory.mktemp("profile")

    def copied(path: Path) -> str:
        shown = "csv:Text - txt - csv (StarCalc):9,34,76,1,,0,false,true,true"
        command = [office, f"-env:UserInstallation=file://{profile}", "--headless", "--convert-to", shown]
        subprocess.run([*command, "--outdir", str(profile), str(path)], check=True, capture_output=True, timeout=240)
        return (profile / f"{path.stem}.csv").read_text(encoding="utf-8")

    return copied


@pytest.mark.nightly
def test_libreoffice__every_kind_is_read_or_refused_with_the_reason(
    copy: Callable[[Path], str], tmp_path: Path
) -> None:
    """Each of the kinds becomes the value that stands in the cell, or is refused for what it is."""
    import xlsxwriter

    with xlsxwriter.Workbook(tmp_path / "kinds.xlsx", {"strings_to_numbers": False}) as book:
        sheet = book.add_worksheet()
        sheet.set_column(0, 0, 40)
        for row, (_, value, form, *_) in enumerate(KINDS):
            look = book.add_format({"num_format": form})
            if isinstance(value, tuple):
                sheet.write_formula(row, 0, value[0], look, value[1])
            else:
                sheet.write(row, 0, value, look)
    rows = parse_tsv(copy(tmp_path / "kinds.xlsx"))
    assert len(rows) == len(KINDS) > 30
    wrong = {}
    for (text, *_), (name, _, _, codec, expected, said) in zip(rows, KINDS, strict=True):
        own = WHOLE if codec == "percent" else codec
        value = read_texts(own, [str(text)], Conventions(**said), percent=codec == "percent")[0]
        found = f"!{value}" if isinstance(value, ValueError) else own.show(value)
        if found != str(expected):
            wrong[name] = (text, found, expected)
        if codec in COLUMN_OF and not agrees(adopted(tmp_path, COLUMN_OF[codec], str(text), said), str(expected)):
            wrong[f"{name}, adopted"] = (text, adopted(tmp_path, COLUMN_OF[codec], str(text), said), expected)
    assert not wrong


COLUMN_OF = {WHOLE: "amount", DAY: "close_date", "percent": "probability"}


def adopted(folder: Path, column: str, text: str, said: dict[str, Any]) -> str:
    """What `adopt`, and with it the command line, make of a file with one such cell."""
    path = folder / "one.csv"
    pd.DataFrame({"name": ["Acme"], column: [text]}).to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    unit = {"probability_unit": "percent"} if column == "probability" else {}
    try:
        frame = opp.adopt(path, on_invalid="ignore", timezone="UTC", **unit, **said)
    except opp.errors.ConfigurationError as question:
        return f"?{question}"
    refused = frame.opp.load_report.failures
    refused = refused[refused["column"] == column]
    value = frame[column].iloc[0]
    if pd.isna(value) or (len(refused) and column == "probability"):
        return f"!{refused['rule'].iloc[0]}"
    return f"{value:%Y-%m-%d %H:%M}".removesuffix(" 00:00") if column == "close_date" else str(value)


def agrees(found: str, expected: str) -> bool:
    """The same value; or a question where the grid has one, or a refusal where it refuses."""
    if expected.startswith("!may be") and "(" in expected:
        return found.startswith("?") and expected.lstrip("!") in found
    return found.startswith("!") if expected.startswith("!") else found == expected


@pytest.mark.nightly
def test_libreoffice__columns_of_our_own_workbook_paste_back(
    copy: Callable[[Path], str], tmp_path: Path, box: Sandbox
) -> None:
    """Every column that can be edited, copied as a whole with its heading, changes nothing and is refused nowhere."""
    frame = opp.read_opportunities(box.client(), stages=STAGES, timezone="America/New_York")
    rows = parse_tsv(copy(opp.of(frame).to_excel(tmp_path / "deals.xlsx")))
    desk = Desk(Sheet(frame))
    heads = [str(head).partition(" [")[0] for head in rows[0]]
    desk.columns = heads
    pasted = 0
    for place, column in enumerate(heads):
        if desk.sheet.fields[column].locked:
            continue
        text = build_tsv([[row[place]] for row in rows])
        marked = {"start": 0, "stop": 0, "columns": [column], "view": desk.state()["view"]}
        answer = desk.handle({"do": "paste", "text": text, "range": marked})
        assert answer["said"] == "nothing changed", (column, answer)
        pasted += 1
    assert pasted > 20
    assert not desk.sheet.changed


def test_paste__leaves_a_heading_out_and_says_what_names_were_read_as() -> None:
    """The heading of a copied column is no value; good cells are pasted beside bad ones, which are listed."""
    desk = Desk(Sheet(load(resource(place) for place in range(1, 5))), ["stage_name", "amount", "close_date"])
    name = str(desk.sheet.frame["stage_name"].iloc[0])
    text = f"Stage\tAMOUNT \tclose_date\n{name} \t$1,500.00\t12/31/2026\n{name}\t(2,000)\tsoon\n"
    marked = {"start": 0, "stop": 0, "columns": ["stage_name"], "view": desk.state()["view"]}
    answer = desk.handle({"do": "paste", "text": text, "range": marked})
    assert f"{name + ' '!r} read as {name!r}" in answer["said"]
    assert [(entry["row"], entry["column"]) for entry in answer["objections"]] == [(1, "close_date")]
    assert desk.sheet.frame["amount"].tolist()[:2] == [1500, -2000]
    assert str(desk.sheet.frame["close_date"].iloc[0].date()) == "2026-12-31"
