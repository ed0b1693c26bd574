"""Amounts, percentages, text and tags of foreign files, read exactly or refused with a reason."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.adoption.cells import (
    NOT_TEXT,
    TOO_LARGE,
    read_amounts,
    read_integers,
    read_probabilities,
    read_tags,
    read_texts,
)
from opp_pandas.errors import ConfigurationError
from opp_pandas.kinds import BOOLEAN
from opp_pandas.parsing.numbers import NOT_A_NUMBER


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(-(10**13), 10**13), min_size=1, max_size=8))
def test_read_amounts__cents_as_floats(cents: list[int]) -> None:
    """Cents that came as binary fractions are read to the cent, and rounded away from zero at the half."""
    whole, precise, _ = read_amounts(pd.Series([number / 100 for number in cents]))
    exact = [Decimal(number) / 100 for number in cents]
    texts = [None] * len(cents) if precise is None else pd.Series(precise.values).astype(object).tolist()
    for number, rounded, text in zip(exact, whole.values, texts, strict=True):
        assert rounded == int(abs(number) + Decimal("0.5")) * (1 if number >= 0 else -1)
        if number == int(rounded):
            assert text is None or pd.isna(text)
        else:
            assert Decimal(text) == number
            assert len(text.partition(".")[2]) == 2


def test_read_amounts__dtypes() -> None:
    """Whole numbers of any dtype become Int64 as they are, large ones too."""
    for values in (
        pd.Series([1, 2**53 + 1]),
        pd.Series([1, None], dtype="Int32"),
        pd.Series([1.0, np.nan]),
        pd.Series([1, None], dtype="Float64"),
        pd.Series([1, None], dtype="int64[pyarrow]"),
        pd.Series([2**40], dtype="uint64"),
        pd.Series(["1", None], dtype="category"),
        pd.Series([], dtype=object),
    ):
        reading, precise, _ = read_amounts(values)
        assert reading.values.dtype == "Int64"
        assert precise is None
        assert [None if value is pd.NA else value for value in reading.values] == [
            None if pd.isna(value) else int(value) for value in values
        ]


def test_read_amounts__too_large() -> None:
    """What 64 bits cannot hold is refused, not wrapped."""
    reading, _, _ = read_amounts(pd.Series([2**63, "9" * 30, 2**63 - 1], dtype=object))
    assert reading.refused == {0: TOO_LARGE, 1: TOO_LARGE}
    assert reading.values[2] == 2**63 - 1
    assert read_amounts(pd.Series([2**63], dtype="uint64"))[0].refused == {0: TOO_LARGE}


def test_read_amounts__currencies() -> None:
    """Codes and signs of one currency are given; a bare dollar could be anybody's."""
    _, _, currencies = read_amounts(pd.Series(["€5", "5 USD", "$5", "5", "GBP 5", "CA$5", "€oops"]))
    assert currencies == {0: "EUR", 1: "USD", 4: "GBP", 5: "CAD"}


def test_read_probabilities__fractions_are_exact() -> None:
    """Every hundredth becomes its percent, through text and through binary fractions."""
    hundredths = list(range(101))
    for values in (
        pd.Series([number / 100 for number in hundredths]),
        pd.Series([f"{number / 100:.2f}" for number in hundredths]),
        pd.Series([Decimal(number) / 100 for number in hundredths], dtype=object),
    ):
        reading, exact = read_probabilities(values, "fraction")
        assert list(reading.values) == hundredths
        assert not exact
        assert not reading.remarked


def test_read_probabilities__what_is_not_whole_is_rounded_and_said() -> None:
    """A third is 33 percent, with the exact percentage handed on; missing stays missing."""
    reading, exact = read_probabilities(pd.Series([0.333, None, 0.5, 0.125, 0.333]), "fraction")
    assert list(reading.values) == [33, pd.NA, 50, 13, 33]
    assert exact == {0: Decimal("33.3"), 3: Decimal("12.5"), 4: Decimal("33.3")}
    assert list(reading.remarked) == [0, 3, 4]
    assert not reading.refused


def test_read_probabilities__percent_signs() -> None:
    """Text with a percent sign is percent whatever the bare numbers are."""
    reading, _ = read_probabilities(pd.Series(["50%", "0.5", "7,0 %", "n/a", "half"]), "fraction")
    assert list(reading.values) == [50, 50, 7, pd.NA, pd.NA]
    assert reading.refused == {4: NOT_A_NUMBER}
    assert list(read_probabilities(pd.Series(["1%", "0%"]), None)[0].values) == [1, 0]


@pytest.mark.parametrize("cells", [[0.1, 0.8], [0, 1], ["0", "1.0"], [1.0], [0.5, None], [True and 1]])
def test_read_probabilities__between_0_and_1_must_be_said(cells: list[object]) -> None:
    """Numbers that could be fractions or percent are not guessed."""
    values = pd.Series(cells)
    with pytest.raises(ConfigurationError, match=r"probability_unit='fraction' or probability_unit='percent'"):
        read_probabilities(values, None)
    assert len(read_probabilities(values, "percent")[0].values) == len(values)


def test_read_probabilities__percent_called_fractions() -> None:
    """A column of percentages under probability_unit='fraction' is a contradiction, not 8,500 percent."""
    with pytest.raises(ConfigurationError, match="every probability is above 1"):
        read_probabilities(pd.Series([85, 40]), "fraction")
    assert list(read_probabilities(pd.Series([85, 40, 1000]), None)[0].values) == [85, 40, 1000]
    assert list(read_probabilities(pd.Series([None, None], dtype=object), None)[0].values) == [pd.NA, pd.NA]


def test_read_texts__numbers_and_objects() -> None:
    """Keys written 302.0 are 302; text stays as it is, containers are refused."""
    reading = read_texts(pd.Series(["007", 302.0, 5, None, "", True, Decimal("1.50"), ["x"], 0.5], dtype=object))
    assert [None if pd.isna(text) else text for text in reading.values] == [
        "007", "302", "5", None, "", "True", "1.50", None, "0.5",
    ]  # fmt: skip
    assert reading.refused == {7: NOT_TEXT}
    assert reading.notes == ["numbers like 302.0 were read as the text 302"]
    assert list(read_texts(pd.Series([302.0, 1e17])).values) == ["302", "100000000000000000"]
    assert read_texts(pd.Series(["a", None], dtype="string")).values.dtype == "str"


def test_read_tags__lists_and_text() -> None:
    """Lists stay, arrays from Parquet are lists, text is split, and nothing else is a tag."""
    cells = pd.Series([["q4", "new"], "a; b;;c", "a, b", "", None, 5, [1], np.array(["q4"])], dtype=object)
    reading = read_tags(cells)
    assert list(reading.values) == [["q4", "new"], ["a", "b", "c"], ["a", "b"], [], None, None, None, ["q4"]]
    assert list(reading.refused) == [5, 6]
    assert reading.values[0] is not cells[0]


def test_read_tags__lists_as_a_csv_writes_them() -> None:
    """Lists that pandas or JSON wrote as text are those lists; brackets of other texts are part of them."""
    written = [["q4", "new, big"], [], ["it's"]]
    others = ['["it\'s", "new"]', "[urgent], [new]", "[1, 2]", "['q4' 'new']"]
    reading = read_tags(pd.Series([*map(str, written), *others], dtype=object))
    assert list(reading.values[:3]) == written
    assert list(reading.values[3:]) == [["it's", "new"], ["[urgent]", "[new]"], ["[1", "2]"], ["['q4' 'new']"]]


def test_read_integers_and_booleans() -> None:
    """Ids must be whole, truth values must be truth values."""
    reading = read_integers(pd.Series(["12", 7.0, 7.5, "x", None], dtype=object))
    assert list(reading.values) == [12, 7, pd.NA, pd.NA, pd.NA]
    assert list(reading.refused) == [3, 2]
    values, refused = BOOLEAN.read_column(pd.Series([True, False, None, "yes"], dtype=object))
    assert list(values) == [True, False, pd.NA, pd.NA]
    assert list(refused) == [3]
