"""What people type and paste into the grid: read where it has one meaning, else refused with both readings."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from loads import load, resource
from opp_pandas.changes.name_lookup import NameBook
from opp_pandas.kinds import INSTANTS, INTEGER
from opp_pandas.notebook.codecs import Clocks, Numbers, Plain, Relations, read_texts
from opp_pandas.notebook.edit_session import Entry, Sheet
from opp_pandas.parsing.reading import ANY, Conventions

WHOLE, DAYS = Plain(INTEGER), Plain(INSTANTS, "America/New_York")
SAID = {"us": Conventions(decimal=".", dayfirst=False), "de": Conventions(decimal=",", dayfirst=True)}


def shown(codec: Any, *texts: str, said: Conventions = ANY, percent: bool = False) -> list[str]:
    """Read texts of a column and show what they were read as, or why not."""
    values = read_texts(codec, texts, said, percent=percent)
    return [str(value) if isinstance(value, ValueError) else codec.show(value) for value in values]


@pytest.mark.parametrize(
    ("codec", "text", "said", "value"),
    [
        (WHOLE, "$12,500.00", None, "12500"),
        (WHOLE, "12,500", "us", "12500"),
        (WHOLE, "12.500 €", "de", "12500"),
        (WHOLE, "1.2k", None, "1200"),
        (WHOLE, "(2,000)", "us", "-2000"),
        (WHOLE, "12.0", None, "12"),
        (WHOLE, "12,500", None, "may be 12500 (decimal='.') or 12.5 (decimal=',')"),
        (WHOLE, "12.5", None, "is not a whole number; write digits only, such as 1250"),
        (WHOLE, "55%", None, "must be a number, not a percentage"),
        (WHOLE, "n/a", None, "is not a whole number; write digits only, such as 1250"),
        (Numbers(whole=False), "1.234", None, "1.234"),
        (Numbers(whole=False), "1,5", None, "1.5"),
        (Numbers(whole=False), "1.234", "de", "may be 1234, or 1.234 as the grid writes it; write 1234"),
        (DAYS, "12/31/2026", None, "2026-12-31"),
        (DAYS, "31.12.26", None, "2026-12-31"),
        (DAYS, "Dec 31, 2026", None, "2026-12-31"),
        (DAYS, "03/04/2026", "de", "2026-04-03"),
        (DAYS, "03/04/2026", "us", "2026-03-04"),
        (DAYS, "03/04/2026", None, "may be 2026-04-03 (dayfirst=True) or 2026-03-04 (dayfirst=False)"),
        (DAYS, "12/31/2026", "de", "is no date of the calendar"),
        (DAYS, "12/31/2026 5:30 PM", None, "2026-12-31 17:30"),
        (DAYS, "2026-03-08 02:30", None, "is not on the clock in America/New_York; it is skipped there on that day"),
        (DAYS, "3/8/2026 2:30 AM", "us", "is not on the clock in America/New_York; it is skipped there on that day"),
        (DAYS, "11/1/2026 1:30", "us", "is twice on the clock in America/New_York; add the offset, such as -04:00"),
        (Clocks(days=True), "31.12.26", None, "2026-12-31"),
        (Clocks(days=True), "12/31/2026 5:00 PM", None, "is not a day; write it like 2026-12-31"),
    ],
)
def test_read_texts__one_cell(codec: Any, text: str, said: str | None, value: str) -> None:
    """A cell alone is read where nothing else could be meant, or by what was said; the refusal shows the readings."""
    assert shown(codec, text, said=SAID[said] if said else ANY) == [value]


def test_read_texts__a_column_proves_its_conventions() -> None:
    """One cell that can be read in one way only settles the others of its column; the codec's own texts stay."""
    assert shown(WHOLE, "12,500", "1,250,000", "450") == ["12500", "1250000", "450"]
    assert shown(DAYS, "03/04/2026", "12/31/2026", "2026-01-02") == ["2026-03-04", "2026-12-31", "2026-01-02"]
    assert shown(WHOLE, "12,500", "6,640", "12,000", "450") == ["12500", "6640", "12000", "450"]
    assert shown(WHOLE, "12.500", "6.640") == ["12500", "6640"]
    for doubtful in (("12,500", "12,000"), ("12,000", "13,000"), ("12,500", "6.640")):
        assert all("may be" in each for each in shown(WHOLE, *doubtful))
    assert shown(WHOLE, "55%", "5", "5,0 %", percent=True) == ["55", "5", "5"]
    assert shown(Numbers(whole=False), "1.234", "12,5") == ["1234", "12.5"]


def test_sheet__reads_names_that_differ_by_case_or_blanks_alone() -> None:
    """The name is matched and said; one that several bear, or that is none, is refused."""
    codec = Relations(NameBook({"owner_id": {1: "Sam Lee", 2: "Ann", 3: "ANN"}}), "owner_id")
    assert shown(codec, "sam  lee ", "Ann", "ann", "Bob")[:2] == ["Sam Lee", "Ann"]
    assert "fits 2 ids" in shown(codec, "ann")[0]
    assert "is not known here" in shown(codec, "Bob")[0]
    sheet = Sheet(load(resource(place) for place in range(1, 4)))
    name = str(sheet.frame["stage_name"].iloc[0])
    assert not sheet.put([Entry(0, "stage_name", f" {name.upper()}")])
    assert sheet.read_as == {f" {name.upper()}": name}


def test_sheet__keeps_its_conventions_when_it_begins_anew() -> None:
    """What was said about numbers and dates holds for the whole session."""
    sheet = Sheet(load(resource(place) for place in range(1, 4)), conventions=SAID["de"])
    sheet.begin(sheet.frame)
    assert not sheet.put([Entry(0, "amount", "12.500"), Entry(0, "close_date", "03/04/2026")])
    row = sheet.frame.iloc[0]
    assert (row["amount"], row["close_date"]) == (12500, pd.Timestamp("2026-04-03", tz="UTC"))
