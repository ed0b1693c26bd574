"""Columns as codes and numbers: the quick ways give what looking at every cell gives."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from opp_pandas.figures import FigureContext, forecast, stage_distribution
from opp_pandas.figures.core.columns import factorize, map_integers, read_numbers, rows_that_may_start_with
from opp_pandas.figures.core.deals import Deals
from opp_pandas.stages import resolve_stages
from portfolios import AS_OF, context, random_portfolio

TEXTS = {
    "one word": ["USD", None, "USD"] * 50,
    "one word, and part of it": ["USD", "USDUSD", "U", None, "SDUSD"] * 50,
    "one word, and none": ["USD", "", None] * 50,
    "nothing but empty text": ["", None, ""] * 5,
    "few words": ["Ärger", "b", None, "Omitted", ""] * 400,
    "few words, and a late one": [*(["a", "b"] * 1_000), "c", None],
    "many words": [f"word {number % 700}" for number in range(3_000)],
    "nothing": [None, None],
    "no rows": [],
}


def in_chunks(words: list[str | None]) -> pd.Series:
    """A column as a Parquet file of several row groups gives it, a part of each cut off."""
    pieces = [pa.array([None, *words[start::3]], type=pa.large_string())[1:] for start in range(3)]
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array(pieces)), dtype="str")


@pytest.mark.parametrize("make", [lambda words: pd.Series(words, dtype="str"), in_chunks], ids=["whole", "chunks"])
@pytest.mark.parametrize("words", TEXTS.values(), ids=TEXTS)
def test_factorize__gives_every_row_its_text(make, words) -> None:
    """Codes lead back to the text, whether it is one word, a few or many, in one chunk or several."""
    column = make(words)
    codes, distinct = factorize(column)
    again = [None if code < 0 else distinct[code] for code in codes.tolist()]
    assert again == [None if pd.isna(text) else text for text in column]
    assert distinct.is_unique


def test_factorize__forgets_a_text_that_was_edited() -> None:
    """An edit in place is seen by the next figure, in the frame and in its copies, and not in the frame left alone."""
    frame = random_portfolio(4, 200, odd=False).assign(kind=pd.Series(["New", "Old"] * 100, dtype="str"))
    before = frame.copy()
    assert set(forecast(frame, context=context(), by="kind").index.unique("kind")) == {"New", "Old"}
    frame.loc[frame["kind"] == "Old", "kind"] = "Renewal"
    assert set(forecast(frame, context=context(), by="kind").index.unique("kind")) == {"New", "Renewal"}
    assert set(forecast(before, context=context(), by="kind").index.unique("kind")) == {"New", "Old"}


def test_factorize__keeps_nothing_of_text_that_is_gone() -> None:
    """What was found out of a text goes with it."""
    from opp_pandas.figures.core.columns import _KNOWN_TEXTS

    column = pd.Series(["a", "b"] * 10, dtype="str")
    gc.collect()  # what other tests left
    before = len(_KNOWN_TEXTS)
    factorize(column)
    assert len(_KNOWN_TEXTS) == before + 1
    del column
    gc.collect()
    assert len(_KNOWN_TEXTS) == before


@pytest.mark.parametrize("word", ["Omitted", "omit", " OMITTED", "'o-mitted'", "(Omit)"])
@pytest.mark.parametrize("make", [lambda words: pd.Series(words, dtype="str"), in_chunks], ids=["whole", "chunks"])
def test_omitted__is_found_however_it_is_written(word: str, make) -> None:
    """First letters tell where nobody omitted a deal, and never hide one that somebody did."""
    frame = random_portfolio(5, 300, odd=False)
    words = [word if row % 7 == 0 else ("Commit", None, "", "Pipeline")[row % 4] for row in range(300)]
    column = make(words)
    frame["forecast_category"] = column.array
    is_open = frame["stage_id"].isin([1, 2]).to_numpy()
    expected = int((is_open & column.eq(word).fillna(False).to_numpy()).sum())
    table = stage_distribution(frame, context=context())
    assert expected > 0
    assert table.attrs["opp_basis"]["n_omitted"] == expected


def test_omitted__is_found_by_the_organisations_own_word() -> None:
    """An organisation's word for omitted, in any case, counts as omitted; rows that begin alike do not."""
    column = pd.Series(["weggelassen", "WEGGELASSEN", "wichtig", None] * 50, dtype="str")
    frame = random_portfolio(6, 200, odd=False).assign(forecast_category=column)
    names = {"Weggelassen": "omitted"}
    table = stage_distribution(frame, context=context(), category_names=names)
    is_open = frame["stage_id"].isin([1, 2]).to_numpy()
    expected = int((is_open & column.str.casefold().eq("weggelassen").fillna(False).to_numpy()).sum())
    assert table.attrs["opp_basis"]["n_omitted"] == expected > 0
    assert set(np.flatnonzero(column.notna())) <= set(rows_that_may_start_with("w", column).tolist())
    assert not len(rows_that_may_start_with("x", column))


def test_map_integers__of_numbers_outside_the_table() -> None:
    """Numbers below, above and between the known ones are told from missing ones, at any size."""
    cells = pd.Series([5, 7, 6, None, 4, 8, 2**62, -(2**62), 0], dtype="Int64")
    table = np.array([0, -2, 1], dtype=np.int16)
    assert map_integers(cells, 5, table, otherwise=-2).tolist() == [0, 1, -2, -1, -2, -2, -2, -2, -2]
    frame = pd.DataFrame({"stage_id": cells, "stage_name": pd.Series(["Won"] * 9, dtype="str")})
    stages = resolve_stages(
        None, pd.DataFrame({"id": [5, 7], "name": ["Lead", "Won"], "order": [1, 2], "is_closed": [False, True]})
    )
    deals = Deals(frame, FigureContext(stages, AS_OF))
    assert deals.stage.tolist() == [0, 1, -2, 1, -2, -2, -2, -2, -2]


@pytest.mark.parametrize("dtype", ["Int64", "int64", "Int8", "uint8", "int64[pyarrow]"])
def test_read_numbers__of_few_and_of_large_ones(dtype: str) -> None:
    """Whole numbers are read as they are, from bytes to the largest, with their ends."""
    given = pd.Series([1, 100, 0, 127] * 20_000, dtype=dtype)
    found = read_numbers(given)
    assert found.values.tolist() == given.tolist()
    assert found.limits == (0, 127)
    if dtype not in ("Int8", "uint8"):
        large = pd.concat([given, pd.Series([2**60, -(2**60)], dtype=dtype)], ignore_index=True)
        assert read_numbers(large).values.tolist() == large.tolist()
        assert read_numbers(large).limits == (-(2.0**60), 2.0**60)
