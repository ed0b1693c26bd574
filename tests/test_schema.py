"""The schema: the same failures from offsets and from pandera, worded for people."""

from __future__ import annotations

import datetime as dt
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from opp_pandas import schema
from opp_pandas.errors import DuplicateRowsError, FrameError, InvalidFrameError, MissingColumnError
from opp_pandas.kinds import INSTANT
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY
from opp_pandas.schema import (
    ADVISORY_RULES,
    check_shape,
    dtype_rule,
    failure_table,
    find_failures,
    get_schema,
    validate,
)

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {
    "id": pd.array([7, 8, 9, None], dtype="Int64"),
    "name": pd.array(["Acme renewal", "", None, "x" * 255], dtype="str"),
    "amount": pd.array([5000, 0, None, 2**62], dtype="Int64"),
    "probability": pd.array([0, 100, None, 50], dtype="Int64"),
    "close_date": pd.to_datetime(["2026-12-10T22:00:00Z", "1900-01-01T00:00:00Z", None, "2199-12-31T23:59:59Z"]),
    "tags": [["q4", "renewal"], [], None, ("one",)],
    "stage_is_closed": pd.array([True, False, None, True], dtype="boolean"),
    "next_step": pd.array(["ü" * 65_535, None, "", "call"], dtype="str"),
    "custom7": pd.array([None] * 4, dtype="str"),
    "health_score": [22, 0, 0, 0],
}


def good_frame() -> pd.DataFrame:
    """Return four rows that break no rule, one of them not created yet."""
    return pd.DataFrame(GOOD)


def listed(failures: pd.DataFrame) -> set[tuple[str, ...]]:
    """Return failures without their order, comparable across ways of finding them."""
    return {tuple(repr(value) for value in case) for case in failures.itertuples(index=False)}


def pandera_failures(frame: pd.DataFrame) -> pd.DataFrame:
    """List what pandera finds by the model that people extend, in the shape of `find_failures`."""
    check_shape(frame)
    plain = frame if "id" in frame.columns else frame.assign(id=frame.index.get_level_values("id"))
    plain = plain.reset_index(drop=True)
    found: dict[tuple[str, str], Any] = {}
    try:
        get_schema().validate(plain, lazy=True)
    except SchemaErrors as problem:
        for case in problem.failure_cases.to_dict("records"):
            column, rule, place = case["column"], case["check"], case["index"]
            if place is None or pd.isna(place) or rule.startswith("dtype("):
                found[column, dtype_rule(column)] = None
            else:
                found.setdefault((column, rule), set()).add(int(place))
    rows = [
        (column, rule, None if places is None else np.array(sorted(places), dtype=np.int64))
        for (column, rule), places in found.items()
    ]
    return failure_table({name: plain[name] for name in plain.columns}, frame.index, rows)


def test_find_failures__good_frame() -> None:
    """Limits reached exactly, missing cells, absent and unknown columns break nothing."""
    frame = good_frame()
    assert frame.close_date.dtype == INSTANT
    failures = find_failures(frame)
    assert failures.empty
    assert failures.dtypes.astype(str).to_dict() == {
        "id": "Int64", "row": "object", "column": "str", "value": "object", "rule": "str",
    }  # fmt: skip
    assert validate(frame) is frame
    assert pandera_failures(frame).empty


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("probability", 101, "0 to 100"),
        ("probability", -1, "0 to 100"),
        ("name", "x" * 256, "at most 255 characters"),
        ("custom7", "ü" * 32_001, "at most 32,000 characters"),
        ("next_step", "x" * 65_536, "at most 65,535 characters"),
        ("amount", -1, "must not be negative"),
        ("close_date", pd.Timestamp("9999-12-31", tz="UTC"), "a year from 1900 to 2199"),
        ("close_date", pd.Timestamp("0001-01-01", tz="UTC"), "a year from 1900 to 2199"),
    ],
)
def test_find_failures__one_bad_cell(column: str, value: object, rule: str) -> None:
    """One cell out of bounds is named by id, row label, column, value and rule."""
    frame = good_frame().set_axis(list("abcd"))
    frame.loc["b", column] = value
    failures = find_failures(frame)
    assert failures.to_dict("records") == [{"id": 8, "row": "b", "column": column, "value": value, "rule": rule}]
    assert listed(failures) == listed(pandera_failures(frame))


def test_find_failures__doubled_id() -> None:
    """Every row of a doubled id is named; rows without an id are not doubles of each other."""
    frame = good_frame()
    frame["id"] = pd.array([7, None, 7, None], dtype="Int64")
    failures = find_failures(frame)
    assert list(failures["row"]) == [0, 2]
    assert set(failures["rule"]) == {"must be unique"}


def test_find_failures__unicode_text_below_the_limit_in_characters() -> None:
    """Characters count, not bytes: 255 characters of four bytes each are fine, 256 are not."""
    frame = good_frame()
    frame.loc[0, "name"] = "🦊" * 255
    frame.loc[1, "name"] = "🦊" * 256
    assert list(find_failures(frame)["row"]) == [1]


def test_find_failures__sliced_and_joined_columns() -> None:
    """Offsets are read right in slices and in columns of several Arrow chunks."""
    frame = pd.concat([good_frame().iloc[1:], good_frame().iloc[:2]], ignore_index=True).iloc[1:]
    frame["id"] = pd.array(range(len(frame)), dtype="Int64")
    frame["custom1"] = pd.Series(["a" * 40_000, *["b" * 20_000] * (len(frame) - 1)], index=frame.index, dtype="str")
    rows = [*frame.itertuples()]
    tail = pd.concat([frame, frame.iloc[::-1].assign(id=pd.array(range(50, 50 + len(rows)), dtype="Int64"))])
    for piece in (frame, frame.iloc[1:], tail, tail.iloc[3:]):
        assert listed(find_failures(piece)) == listed(pandera_failures(piece))
    assert len(find_failures(tail)) == 2


def test_find_failures__columns_of_another_dtype() -> None:
    """A drifted column is named as a whole, with the remedy, and so is each cell that stands in the way."""
    frame = good_frame()
    frame["probability"] = frame["probability"] * 1.1
    frame["amount"] = ["12k", 5, None, 10.0]
    frame["name"] = frame["name"].astype(object)
    frame["close_date"] = frame["close_date"].dt.tz_localize(None)
    failures = find_failures(frame)
    assert listed(failures) == listed(pandera_failures(frame))
    whole = failures[failures["row"].isna()]
    assert dict(zip(whole["column"], whole["value"], strict=True)) == {
        "name": "object",
        "amount": "object",
        "probability": "Float64",
        "close_date": "datetime64[us]",
    }
    cells = failures[failures["row"].notna()]
    assert set(cells["rule"]) == {"must be an integer", "0 to 100"}
    assert cells.loc[cells["column"] == "amount", "value"].tolist() == ["12k"]
    assert "pd.to_datetime(df['close_date'], utc=True)" in whole.iloc[-1]["rule"]


@pytest.mark.parametrize("dtype", ["int64", "int64[pyarrow]", "int32", "Int32", "Float64"])
def test_opportunity_schema__whole_numbers_of_another_dtype(dtype: str) -> None:
    """The model wants Int64 as validate does: pandera alone would take int64, which holds no missing cells."""
    frame = pd.DataFrame({"id": pd.array([1], dtype="Int64"), "amount": pd.Series([5], dtype=dtype)})
    assert find_failures(frame)["value"].tolist() == [dtype]
    assert listed(find_failures(frame)) == listed(pandera_failures(frame))


def test_validate__every_failure_at_once() -> None:
    """All bad cells are raised together, and the text names id, row, column, value and rule."""
    frame = good_frame()
    frame.loc[0, "probability"] = 101
    frame.loc[1, "name"] = "x" * 300
    frame.at[0, "tags"] = [1]
    with pytest.raises(InvalidFrameError, match="id 7, row 0: probability = 101: 0 to 100") as caught:
        validate(frame)
    assert len(caught.value.failure_cases) == 3


def test_validate__tags_as_parquet_gives_them_back(tmp_path: Path) -> None:
    """Lists come back from Parquet as arrays of text, which are as good; arrays of numbers are not."""
    frame = pd.DataFrame({"id": pd.array([1, 2], dtype="Int64"), "tags": pd.Series([["q4"], []], dtype=object)})
    frame.to_parquet(tmp_path / "deals.parquet")
    back = pd.read_parquet(tmp_path / "deals.parquet")
    assert isinstance(back["tags"].iloc[0], np.ndarray)
    assert validate(back) is back
    assert pandera_failures(back).empty
    back.at[0, "tags"] = np.array([1])
    assert find_failures(back)["rule"].tolist() == ["must be a list of text"]


def test_validate__ids_in_the_index() -> None:
    """After set_index("id") the frame is as valid as before, and failures still name the id."""
    frame = good_frame().set_index("id")
    assert validate(frame) is frame
    frame["probability"] = pd.array([1, 2, 3, 400], dtype="Int64")
    assert find_failures(frame.iloc[::-1])["value"].tolist() == [400]
    doubled = good_frame().assign(id=pd.array([7, 7, 8, 9], dtype="Int64")).set_index("id")
    assert find_failures(doubled)["rule"].tolist() == ["must be unique"] * 2
    assert listed(find_failures(doubled)) == listed(pandera_failures(doubled))


def test_validate__frames_of_the_wrong_shape() -> None:
    """What is no table of opportunities gets an error that says what to do, not one from inside pandas."""
    frame = good_frame()
    with pytest.raises(MissingColumnError, match=r"no column 'id'.*set_index\('id'\)"):
        validate(frame.drop(columns="id"))
    with pytest.raises(MissingColumnError):
        validate(pd.DataFrame())
    with pytest.raises(DuplicateRowsError, match="'name' stands more than once") as caught:
        validate(pd.concat([frame, frame[["name"]]], axis=1))
    assert caught.value.duplicates == ("name",)
    with pytest.raises(FrameError, match="2 levels"):
        validate(pd.concat({"left": frame}, axis=1))
    with pytest.raises(FrameError, match="this is a Series"):
        validate(frame["name"])  # type: ignore[arg-type]  # the point of the test
    assert validate(frame.iloc[:0]).empty


def test_validate__ids_that_are_no_numbers() -> None:
    """Text ids are failures; the failure table still holds them as values."""
    frame = good_frame().assign(id=["7", "x", "8", None])
    failures = find_failures(frame)
    assert failures.loc[failures["rule"] == "must be an integer", "value"].tolist() == ["7", "x", "8"]
    assert failures["id"].tolist()[:2] == [7, pd.NA]


def test_advisory_rules__are_rules() -> None:
    """The rules that never stop a write are among those that are checked."""
    texts = {rule.text for column in COLUMN_DTYPES for rule in schema.rules_of(column)}
    assert texts >= ADVISORY_RULES


def test_schema__every_limit_of_the_resource() -> None:
    """Each text attribute has its limit in the model: one character more fails, in both ways of looking."""
    limited = {entry.column: entry.max_length for entry in OPPORTUNITY.attributes if entry.max_length is not None}
    texts = {
        column: pd.array(["x" * limit, "x" * (limit + 1)], dtype="str")
        for column, limit in limited.items()
        if not column.startswith("custom") or column in ("custom_id", "custom1", "custom150")
    }
    frame = pd.DataFrame({"id": pd.array([1, 2], dtype="Int64"), **texts})
    failures = find_failures(frame)
    assert sorted(failures["column"]) == sorted(texts)
    assert set(failures["row"]) == {1}
    assert listed(failures) == listed(pandera_failures(frame))
    assert {rule.text for column in limited for rule in schema.rules_of(column) if "most" in rule.text} == {
        f"at most {limit:,} characters" for limit in (15, 255, 32_000, 65_535)
    }


def test_opportunity_schema__is_a_pandera_model() -> None:
    """People subclass the model with rules of their own and call pandera's validate on it."""
    import pandera.pandas as pa

    model = get_schema()
    assert schema.OpportunitySchema is model  # type: ignore[attr-defined]  # made when first asked for
    assert issubclass(model, pa.DataFrameModel)

    class Ours(model):  # type: ignore[misc, valid-type]  # the base is made at run time
        @pa.check("opportunity_type", error="a type that we use")
        def known_type(cls, values: pd.Series) -> pd.Series:  # noqa: N805
            return values.isin(["New", "Renewal"])

    frame = good_frame().assign(opportunity_type=pd.array(["New", "Old", None, "Renewal"], dtype="str"))
    assert model.validate(frame, lazy=True) is not None
    with pytest.raises(pa.errors.SchemaErrors) as caught:
        Ours.validate(frame, lazy=True)
    assert caught.value.failure_cases["failure_case"].tolist() == ["Old"]
    assert set(model.to_schema().columns) == set(COLUMN_DTYPES)
    with pytest.raises(AttributeError):
        schema.NoSuchThing  # type: ignore[attr-defined]  # noqa: B018


# --- any frame: offsets and pandera agree -----------------------------------------------------------------------------

_TEXT = st.builds(
    lambda letter, length: letter * length,
    st.sampled_from(["a", "ü", "🦊"]),
    st.sampled_from([0, 1, 15, 16, 127, 128, 254, 255, 256, 300, 32_000, 32_001, 65_535, 65_536]),
)
_WHOLE = st.one_of(st.integers(-3, 103), st.sampled_from([2**53 + 1, -(2**63), 2**63 - 1]))
_INSTANT = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)).map(lambda t: pd.Timestamp(t, tz="UTC"))
_SHORT = st.text(max_size=3)
_ODD = st.one_of(st.none(), st.booleans(), _WHOLE, st.floats(-200, 200), _SHORT, _INSTANT, st.lists(_SHORT, max_size=2))
_CELLS = {
    "Int64": _WHOLE,
    "str": _TEXT,
    INSTANT: _INSTANT,
    "boolean": st.booleans(),
    "object": st.lists(st.one_of(st.text(max_size=2), st.integers(0, 1)), max_size=2).map(
        lambda items: items if len(items) < 2 else tuple(items)
    ),
}
_COLUMNS = ["name", "amount", "amount_precise", "probability", "close_date", "tags", "next_step", "custom3", "owner_id",
            "stage_name", "can_write", "data_connections"]  # fmt: skip


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Draw small frames: right dtypes mostly, values in and out of bounds, some columns drifted."""
    count = draw(st.integers(0, 6))

    def column(name: str) -> pd.Series:
        dtype = COLUMN_DTYPES[name]
        drifted = draw(st.integers(0, 9)) == 0
        cells = draw(st.lists(_ODD if drifted else st.one_of(st.none(), _CELLS[dtype]), min_size=count, max_size=count))
        values = np.empty(count, dtype=object)
        values[:] = cells
        series = pd.Series(values, dtype=object)
        if drifted:
            return series
        return pd.to_datetime(series, utc=True).astype(INSTANT) if dtype == INSTANT else series.astype(dtype)

    names = draw(st.lists(st.sampled_from(_COLUMNS), unique=True, max_size=5))
    frame = pd.DataFrame({name: column(name) for name in ["id", *names]})
    frame.index = pd.Index(draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count)), dtype=object)
    return frame.iloc[draw(st.integers(0, count)) :]


@settings(deadline=None, max_examples=60)
@given(frames())
def test_find_failures__as_plain_pandera(frame: pd.DataFrame) -> None:
    """On any frame, good or bad, the fast way and plain pandera list the same failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns when an odd column is compared
        slow = pandera_failures(frame)
    assert listed(find_failures(frame)) == listed(slow)
