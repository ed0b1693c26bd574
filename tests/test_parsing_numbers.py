"""Numbers as people and spreadsheets write them, read exactly, asked for, or refused with a reason."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.errors import ConfigurationError
from opp_pandas.parsing.numbers import (
    A_DASH,
    A_PERCENTAGE,
    ERROR_OF_SHEET,
    NOT_A_NUMBER,
    ROUNDED_BY_SHEET,
    TOO_NARROW,
    parse_numbers,
)
from opp_pandas.parsing.reading import Conventions


def read_one(text: object) -> Decimal | None:
    """Read a cell that stands alone in its column."""
    return parse_numbers(pd.Series([text], dtype=object)).values[0]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1234.50", "1234.50"),
        (" 1234 ", "1234"),
        ("-7", "-7"),
        ("+7.25", "7.25"),
        ("$1,234.50", "1234.50"),
        ("US$ 1,234.00", "1234"),
        ("1.2k", "1200"),
        ("$12.5M", "12500000"),
        ("0,5 Mio. €", "500000"),
        ("3bn", "3000000000"),
        ("(2,000.00)", "-2000"),
        ("$ -", "0"),
        ("1.25E7", "12500000"),
        ("1,234,567", "1234567"),
        ("12,34,567.00", "1234567.00"),
        ("USD 1,200,000", "1200000"),
        ("1.234,50 €", "1234.50"),
        ("1.234.567", "1234567"),
        ("12,5", "12.5"),
        ("CHF 1'234.50", "1234.50"),
        ("1’234’567", "1234567"),  # noqa: RUF001  # as Swiss files write it
        ("1 234,50 EUR", "1234.50"),
        ("1\u202f234\u00a0567", "1234567"),
        ("(1,234.50)", "-1234.50"),
        ("-$5.10", "-5.10"),
        ("$-5.10", "-5.10"),
        ("\u22125.10", "-5.10"),
        ("5.10-", "-5.10"),
        ("0.333", "0.333"),
        (".5", "0.5"),
        ("1234.567", "1234.567"),
        (Decimal("0.10"), "0.10"),
        (5, "5"),
        (0.1 + 0.2, "0.3"),
        (35698.100000000006, "35698.1"),
        (np.float32(0.1), "0.1"),
        (1e300, str(int(1e300))),
    ],
)
def test_parse_numbers__what_has_one_reading(text: object, number: str) -> None:
    """Signs, codes, separators, brackets and float noise are read to the exact decimal."""
    assert read_one(text) == Decimal(number)


@pytest.mark.parametrize("text", ["12q", "abc", "1e5", "1,23,4", "1.2.3", "$", "1 2 3", "€5 USD", "(5", "--5"])
def test_parse_numbers__what_is_no_number(text: str) -> None:
    """Text that is no plain number is refused, never cut down to its digits."""
    found = parse_numbers(pd.Series([text, "5.00"]))
    assert found.values == [None, Decimal("5.00")]
    assert found.refused == {0: NOT_A_NUMBER}


@pytest.mark.parametrize("cell", [True, np.True_, float("inf"), [1], {"a": 1}, pd.Timestamp("2020-01-01")])
def test_parse_numbers__objects_that_are_no_numbers(cell: object) -> None:
    """Truth values, infinities and containers are refused."""
    values = pd.Series([None], dtype=object)
    values.iloc[0] = cell
    assert parse_numbers(values).refused == {0: NOT_A_NUMBER}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("55%", A_PERCENTAGE),
        ("1.25E+06", ROUNDED_BY_SHEET),
        ("########", TOO_NARROW),
        ("#DIV/0!", ERROR_OF_SHEET),
        ("-", A_DASH),
    ],
)
def test_parse_numbers__what_a_sheet_shows_in_place_of_a_number(text: str, reason: str) -> None:
    """What a spreadsheet shows without saying the number is refused for what it is."""
    assert parse_numbers(pd.Series([text])).refused == {0: reason}


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1.234"], [None]),
        (["1,234"], [None]),
        (["(1,234)", "€ 1.234"], [None, None]),
        (["1.234", "12.50"], ["1.234", "12.50"]),
        (["1.234", "$1,234.50"], ["1.234", "1234.50"]),
        (["1.234", "99,00 €"], ["1234", "99.00"]),
        (["1,234", "99,00 €"], ["1.234", "99.00"]),
        (["1,234", "9.50"], ["1234", "9.50"]),
        (["$1,234.50", "1.234,50 €", "1.234", "1,234"], ["1234.50", "1234.50", None, None]),
    ],
)
def test_parse_numbers__one_separator_and_three_digits(cells: list[str], numbers: list[str | None]) -> None:
    """1.234 is read only as the rest of the column proves; where it proves nothing or both, it has two readings."""
    found = parse_numbers(pd.Series(cells))
    assert found.values == [None if number is None else Decimal(number) for number in numbers]
    assert list(found.unsettled) == [place for place, number in enumerate(numbers) if number is None]
    assert not found.refused


@pytest.mark.parametrize(
    ("conventions", "numbers"),
    [
        ({"decimal": "."}, ["1234", "1.234"]),
        ({"thousands": ","}, ["1234", "1.234"]),
        ({"decimal": ","}, ["1.234", "1234"]),
        ({"thousands": "."}, ["1.234", "1234"]),
        ({"thousands": " "}, ["1.234", "1.234"]),
    ],
)
def test_parse_numbers__by_what_was_said(conventions: Any, numbers: list[str]) -> None:
    """Either mark settles both; a column that proves the contrary is an error."""
    assert parse_numbers(pd.Series(["1,234", "1.234"]), Conventions(**conventions)).values == [*map(Decimal, numbers)]


def test_parse_numbers__what_was_said_is_held_against_the_column() -> None:
    """Numbers that contradict what was said are an error; beside numbers that prove it, one cell is refused."""
    german = Conventions(decimal=",")
    with pytest.raises(
        ConfigurationError, match=r"decimal=',' was passed, and the column proves the contrary with '12"
    ):
        parse_numbers(pd.Series(["12.50", "1,234"]), german).require_settled("amount")
    found = parse_numbers(pd.Series(["12.50", "1,5"]), german)
    assert found.refused == {0: "is not written with a decimal comma"}
    found.require_settled("amount")
    for wrong in ({"decimal": "x"}, {"thousands": "_"}, {"decimal": ",", "thousands": ","}, {"dayfirst": "yes"}):
        with pytest.raises(ConfigurationError):
            Conventions(**wrong)  # type: ignore[arg-type]


def test_parse_numbers__missing_words() -> None:
    """Blank cells and the words of spreadsheets for nothing are missing, not wrong."""
    found = parse_numbers(pd.Series(["", "  ", "N/A", "null", None, "NaN"], dtype=object))
    assert found.values == [None] * 6
    assert not found.refused


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 10**13), st.sampled_from(["en", "de", "ch", "fr"])), min_size=1, max_size=5))
def test_parse_numbers__cents_in_any_style(cases: list[tuple[int, str]]) -> None:
    """Amounts with two decimals come back exactly from every style, also side by side."""
    styles = {"en": (",", "."), "de": (".", ","), "ch": ("'", "."), "fr": ("\u202f", ",")}
    cells = []
    for cents, style in cases:
        thousands, decimal = styles[style]
        whole = f"{cents // 100:,}".replace(",", thousands)
        cells.append(f"{whole}{decimal}{cents % 100:02d}")
    assert parse_numbers(pd.Series(cells)).values == [Decimal(cents) / 100 for cents, _ in cases]
