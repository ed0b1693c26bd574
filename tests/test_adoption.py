"""Adopting any frame: columns found, cells read, nothing lost, everything said."""

from __future__ import annotations

import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.accessor import of
from opp_pandas.adoption.adopt import CORE_COLUMNS, adopt
from opp_pandas.adoption.column_names import plan_columns
from opp_pandas.errors import (
    ConfigurationError,
    DuplicateRowsError,
    FrameError,
    InvalidFrameError,
    InvalidValuesWarning,
    MissingColumnError,
)
from opp_pandas.frame_state import Loaded, attach_loaded, loaded_of
from opp_pandas.resource import COLUMN_DTYPES
from opp_pandas.schema import validate
from opp_pandas.stages import StageMap

if TYPE_CHECKING:
    from pathlib import Path

    from opp_pandas.load_report import LoadReport

EXPORT = {
    "Id": ["006A", "006B", "006C"],
    "Name": ["Acme renewal", "Globex", None],
    "StageName": ["Proposal", "Closed Won", "Closed Lost"],
    "Amount": [15000.0, 270000.0, None],
    "Probability": [60, 100, 0],
    "CloseDate": ["2026-12-31", "2026-11-01", "2026-10-01"],
    "CreatedDate": ["2026-01-05T09:00:00.000+0000", "2026-02-01T00:00:00Z", None],
    "OwnerId": ["005X", "005Y", "005X"],
    "NextStep": ["Send order form", None, ""],
    "Region__c": ["EMEA", "AMER", None],
}


def export() -> pd.DataFrame:
    """Return three rows as Salesforce exports them."""
    return pd.DataFrame(EXPORT)


def loaded(frame: pd.DataFrame) -> Loaded:
    """Return what travels with an adopted frame."""
    found = loaded_of(frame)
    assert found is not None
    return found


def report(frame: pd.DataFrame) -> LoadReport:
    """Return the load report of an adopted frame."""
    return loaded(frame).report


def test_adopt__a_salesforce_export() -> None:
    """Well-known names are recognised, dtypes are the schema's, the rest is kept untouched."""
    source = export()
    df = adopt(source, timezone="America/New_York", currency="usd", as_of="2026-11-23T12:00:00Z")
    assert list(df.columns[: len(CORE_COLUMNS)]) == list(CORE_COLUMNS)
    assert {name: str(df[name].dtype) for name in df.columns if name in COLUMN_DTYPES} == {
        name: COLUMN_DTYPES[name] for name in df.columns if name in COLUMN_DTYPES
    }
    assert df["id"].isna().all()
    assert df["custom_id"].tolist() == ["006A", "006B", "006C"]
    assert df["amount"].tolist() == [15000, 270000, pd.NA]
    assert df["currency_type"].tolist() == ["USD"] * 3
    assert df["close_date"][0] == pd.Timestamp("2026-12-31T05:00Z")
    assert df["external_created_at"][0] == pd.Timestamp("2026-01-05T09:00Z")
    assert df["next_step"].tolist()[2] == ""
    assert "amount_precise" not in df.columns
    assert "owner_id" not in df.columns
    pd.testing.assert_series_equal(df["Region__c"], source["Region__c"])
    pd.testing.assert_series_equal(df["OwnerId"], source["OwnerId"])
    pd.testing.assert_frame_equal(source, export())
    assert validate(df) is df


def test_adopt__what_travels_along() -> None:
    """The load knows its rows, zone, moment and stages, and that nothing exists at the service yet."""
    stages = StageMap(order=["Proposal"], won=["Closed Won"], lost=["Closed Lost"])
    df = adopt(export().set_axis(list("abc")), stages=stages, timezone="Europe/Berlin", as_of="2026-11-23")
    known = loaded(df)
    assert known.kind == "adopt"
    assert known.created == {"a": 0, "b": 1, "c": 2}
    assert known.timezone == "Europe/Berlin"
    assert known.as_of == pd.Timestamp("2026-11-23T22:59:59.999999Z")
    assert known.client is None
    assert not known.lookups
    assert known.stages.frame["status"].tolist() == ["open", "won", "lost"]
    assert not known.stages.guessed
    assert len(known.baseline) == 3
    df.loc["a", "amount"] = 1
    assert known.baseline.frame.loc[0, "amount"] == 15000
    later = adopt(export())
    assert abs(loaded(later).as_of - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=1)
    assert loaded(adopt(export(), as_of=pd.Timestamp("2026-01-01", tz="Asia/Tokyo"))).as_of == pd.Timestamp(
        "2025-12-31T15:00Z"
    )


def test_adopt__notes_say_what_is_missing() -> None:
    """Each thing that a figure will miss is named, and nothing that is there."""
    notes = "\n".join(report(adopt(pd.DataFrame({"Status": ["x"]}))).notes)
    for words in ("amount column", "probability column: weighted", "close date", "stage", "owner", "key"):
        assert f"no {words}" in notes
    notes = "\n".join(report(adopt(export(), currency="EUR")).notes)
    assert "1 of 3 rows have no amount" in notes
    assert "no amount column" not in notes
    assert "no owner column" in notes
    assert "won and lost were guessed from stage names: won 'Closed Won', lost 'Closed Lost'" in notes
    assert "days are days in UTC" in notes
    assert "currency" not in notes
    assert "3 amounts" not in "\n".join(report(adopt(export())).notes)
    assert "2 amounts name no currency" in "\n".join(report(adopt(export())).notes)
    stated = adopt(export(), stages=StageMap(order=["Lead", "Proposal"], won=["Closed Won"]))
    assert "stage 'Closed Lost' stands nowhere in the stage map" in report(stated).notes
    assert "no row is in stage 'Lead' of the stage map" in report(stated).notes


def test_adopt__columns_report() -> None:
    """The report has a line for every source column, with where it went."""
    table = report(adopt(export())).columns.set_index("source")
    assert set(table.index) == set(EXPORT)
    assert table.loc["CreatedDate", "column"] == "external_created_at"
    assert table.loc["OwnerId", "column"] == "OwnerId"
    assert table.loc["OwnerId", "note"] == "kept as it is and never sent"


# --- which column is which --------------------------------------------------------------------------------------------


def test_plan_columns__spellings() -> None:
    """Case, spaces, underscores, units and API names make no difference."""
    names = {
        "close_date": "close_date", "Close Date": "close_date", "closeDate": "close_date", "CLOSEDATE": "close_date",
        "property_closedate": "close_date", "Probability (%)": "probability", "dealname": "name",
        "Owner.Name": "owner_name", "CurrencyIsoCode": "currency_type", "ForecastCategoryName": "forecast_category",
        "custom12": "custom12", "Record ID": "custom_id", "LastModifiedDate": "external_updated_at",
        "Lead Source": "lead_source", "Closed Lost Reason": "lost_reason", "tags": "tags", "mapStatus": "map_status",
    }  # fmt: skip
    for source, ours in names.items():
        assert plan_columns(pd.DataFrame({source: ["x"]}), None).taken == {ours: source}, source


def test_plan_columns__foreign_ids_stay_out_of_ours() -> None:
    """Keys of another system never land in id, owner_id or account_id; columns of such names are moved aside."""
    source = pd.DataFrame(
        {"id": ["006A"], "owner_id": [44], "account_id": ["001"], "stage_order": [3], "creator_id": [None]}
    )
    df = adopt(source)
    assert df["custom_id"].tolist() == ["006A"]
    assert df["id"].isna().all()
    assert not {"owner_id", "account_id", "stage_order", "creator_id"} & set(df.columns)
    assert df[["source_owner_id", "source_account_id", "source_stage_order"]].iloc[0].tolist() == [44, "001", 3]
    table = report(df).columns.set_index("source")
    assert "moved aside" in table.loc["owner_id", "note"]
    assert table.loc["creator_id", "note"] == "empty, left out"


def test_plan_columns__the_users_word() -> None:
    """columns= decides; API names are taken, other columns only renamed, ids of the service accepted when stated."""
    source = pd.DataFrame({"Value": [1], "Amount": [2], "Own": [7], "Region": ["EMEA"], "Type": ["New"], "X": ["a"]})
    df = adopt(source, {"Value": "amount", "Own": "owner_id", "Region": "area", "Type": "Type", "X": "nextStep"})
    assert df["amount"].tolist() == [1]
    assert df["Amount"].tolist() == [2]
    assert df["owner_id"].tolist() == [7]
    assert df["owner_id"].dtype == "Int64"
    assert df["area"].tolist() == ["EMEA"]
    assert df["next_step"].tolist() == ["a"]
    assert "opportunity_type" not in df.columns
    moved = adopt(source.rename(columns={"Amount": "amount"}), {"Value": "amount"})
    assert (moved["amount"][0], moved["source_amount"][0]) == (1, 2)


def test_plan_columns__new_names_may_change_places() -> None:
    """A name that its own column gives up is free."""
    df = adopt(pd.DataFrame({"A": [1], "B": [2], "Amount": [3]}), {"A": "B", "B": "A"})
    assert df[["A", "B"]].iloc[0].tolist() == [2, 1]
    taken = adopt(pd.DataFrame({"Net": [1], "Amount": [3]}), {"Net": "Amount"})
    assert taken[["amount", "Amount"]].iloc[0].tolist() == [3, 1]


def test_plan_columns__which_of_two() -> None:
    """The exact name goes before other spellings, and the loser stays, with a word."""
    df = adopt(pd.DataFrame({"Opportunity ID": ["a"], "Id": ["b"], "Stage": ["x"], "stage_name": ["y"]}))
    assert df["custom_id"].tolist() == ["a"]
    assert df["Id"].tolist() == ["b"]
    assert df["stage_name"].tolist() == ["y"]
    note = report(df).columns.set_index("source").loc["Stage", "note"]
    assert note == "not used (stage_name is 'stage_name'); kept as it is and never sent"


def test_plan_columns__numbers_are_no_names() -> None:
    """A numeric owner or stage is a key of the source, not a name."""
    df = adopt(pd.DataFrame({"Owner": [44023296.0], "Account": ["Acme"], "Stage": [3]}))
    assert df["owner_name"].isna().all()
    assert df["stage_name"].isna().all()
    assert df["account_name"].tolist() == ["Acme"]
    assert df["Owner"].tolist() == [44023296.0]


@pytest.mark.parametrize(
    ("columns", "error", "words"),
    [
        ({"Amout": "amount"}, MissingColumnError, r"no column 'Amout'; did you mean 'Amount'\?"),
        ({"Amount": "amount", "Probability": "amount"}, FrameError, "sends 'Amount', 'Probability' to 'amount'"),
        ({"NextStep": "Region__c"}, FrameError, "'NextStep' to 'Region__c', which is the name of a column that stays"),
        ({"Id": "id"}, ConfigurationError, "only the service fills; use 'custom_id'"),
        ({"CreatedDate": "createdAt"}, ConfigurationError, "use 'external_created_at'"),
        ({"Amount": "ammount"}, ConfigurationError, "did you mean 'amount'"),
        (["amount"], ConfigurationError, "is a mapping"),
        ({"Amount": ["amount"]}, ConfigurationError, "gives 'Amount' no name that a column can have"),
    ],
)
def test_plan_columns__mistakes(columns: Any, error: type[Exception], words: str) -> None:
    """Slips in columns= are named with the remedy."""
    with pytest.raises(error, match=words):
        adopt(export(), columns)


def test_columns__mapped_to_none_are_left_out() -> None:
    """A column that would be recognised is neither taken nor kept, and the report says so."""
    df = adopt(export(), {"NextStep": None})
    assert "NextStep" not in df.columns
    assert "next_step" not in df.columns
    table = df.opp.load_report.columns.set_index("source")
    assert table.loc["NextStep", "note"] == "left out by columns="
    assert "next_step" in adopt(export()).columns


# --- frames and arguments ---------------------------------------------------------------------------------------------


def test_adopt__frames_of_the_wrong_shape() -> None:
    """What is no plain table gets an error that says what to do."""
    with pytest.raises(FrameError, match="no columns"):
        adopt(pd.DataFrame())
    with pytest.raises(FrameError, match="2 levels"):
        adopt(pd.concat({"a": export()}, axis=1))
    with pytest.raises(DuplicateRowsError, match="'Name' stands more than once"):
        adopt(pd.concat([export(), export()[["Name"]]], axis=1))
    with pytest.raises(FrameError, match="this is a list"):
        adopt([1])  # type: ignore[arg-type]  # the point of the test
    empty = adopt(export().iloc[:0])
    assert len(empty) == 0
    assert validate(empty) is empty
    df = adopt(export())
    known = loaded(df)
    attach_loaded(df, known.renewed(kind="read"))
    with pytest.raises(FrameError, match="would create them a second time"):
        adopt(df)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"probability_unit": "percents"}, "'percent' or 'fraction'"),
        ({"duplicates": "drop"}, "'error' or 'keep'"),
        ({"timezone": "Europe/Berln"}, "did you mean 'Europe/Berlin'"),
        ({"currency": "dollars"}, "three letters"),
        ({"as_of": "soon"}, "as_of='soon'"),
        ({"as_of": pd.NaT}, "as_of=NaT"),
        ({"stages": {"won": ["x"]}}, "StageMap"),
        ({"dayfirst": "yes"}, "dayfirst= is True, False or None"),
    ],
)
def test_adopt__arguments_that_cannot_be_used(arguments: dict[str, Any], words: str) -> None:
    """Each argument is checked before anything is read."""
    with pytest.raises(ConfigurationError, match=words):
        adopt(export(), **arguments)


def test_adopt__index() -> None:
    """Unique labels stay, others are numbered anew, and a named index can be the key."""
    assert adopt(export().set_axis([5, 3, 9])).index.tolist() == [5, 3, 9]
    df = adopt(export().set_axis([1, 1, 2]))
    assert df.index.tolist() == [0, 1, 2]
    assert "rows were numbered instead" in "\n".join(report(df).notes)
    keyed = adopt(export().set_index("Id"))
    assert keyed["custom_id"].tolist() == ["006A", "006B", "006C"]
    assert keyed.index.tolist() == ["006A", "006B", "006C"]
    assert "no key" not in "\n".join(report(keyed).notes)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_adopt__doubled_keys() -> None:
    """A key that stands twice is an error that names its rows, or is kept and listed."""
    source = pd.DataFrame({"Opportunity ID": [302.0, 84.0, 302.0, np.nan, np.nan], "Name": list("abcde")})
    with pytest.raises(DuplicateRowsError, match=r"more than once: '302' .*: 0, 2.*duplicates='keep'") as caught:
        adopt(source)
    assert caught.value.duplicates == ("302",)
    df = adopt(source, duplicates="keep")
    assert len(df) == 5
    assert report(df).duplicates.to_dict("records") == [{"key": "302", "rows": [0, 2], "kept": 2}]
    assert "custom_id: numbers like 302.0 were read as the text 302" in report(df).notes
    assert "2 of 5 rows have no custom_id" in report(df).notes


def test_adopt__blank_keys_are_missing() -> None:
    """Blank keys are no doubles of each other."""
    df = adopt(pd.DataFrame({"Id": ["a", "", " "]}))
    assert df["custom_id"].tolist()[0] == "a"
    assert df["custom_id"].isna().tolist() == [False, True, True]


def test_adopt__keys_written_as_floats_in_text() -> None:
    """Keys that all read 302.0 as text are 302; where one key is different, all stay as they are."""
    df = adopt(pd.DataFrame({"Id": ["302.0", None, "84.0"]}))
    assert df["custom_id"].dropna().tolist() == ["302", "84"]
    assert "custom_id: keys like '302.0' were read as '302'" in report(df).notes
    assert adopt(pd.DataFrame({"Id": ["302.0", "v1.0"]}))["custom_id"].tolist() == ["302.0", "v1.0"]


# --- cells ------------------------------------------------------------------------------------------------------------


def test_adopt__raises_for_cells_or_lists_them_in_silence_on_request() -> None:
    """on_invalid is as in loading: raise, ignore, and nothing else."""
    source = export().assign(Amount="12q")
    with pytest.raises(InvalidFrameError) as raised:
        adopt(source, on_invalid="raise")
    assert set(raised.value.failure_cases["column"]) == {"amount"}
    assert len(adopt(source, on_invalid="ignore").opp.load_report.failures) == len(source)
    with pytest.raises(ConfigurationError, match="on_invalid"):
        adopt(source, on_invalid="shout")  # type: ignore[arg-type]


def test_adopt__cells_that_cannot_be_read() -> None:
    """They are missing in the frame, kept in the baseline, locked, listed, and warned of once."""
    source = export().assign(
        Amount=["$1,234.50", "12q", "5"], Probability=["50%", "high", "20"], CloseDate=["2026-02-30", "2026-01-01", "x"]
    )
    source.index = pd.Index(["r1", "r2", "r3"])
    with pytest.warns(InvalidValuesWarning, match="close_date 2, amount 1, probability 1") as caught:
        df = adopt(source)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    known = loaded(df)
    locked = {(1, "amount"), (1, "probability"), (0, "close_date"), (2, "close_date")}
    assert set(known.baseline.marks.locked) == locked
    assert known.baseline.marks.original == {
        (1, "amount"): "12q", (1, "probability"): "high", (0, "close_date"): "2026-02-30", (2, "close_date"): "x",
    }  # fmt: skip
    assert df["amount"].tolist() == [1235, pd.NA, 5]
    assert df.loc["r1", "amount_precise"] == "1234.50"
    assert df["amount_precise"].isna().tolist() == [False, True, True]
    listed = known.report.failures
    assert set(zip(listed["row"], listed["column"], listed["value"], strict=True)) == {
        ("r2", "amount", "12q"),
        ("r2", "probability", "high"),
        ("r1", "close_date", "2026-02-30"),
        ("r3", "close_date", "x"),
    }


def test_adopt__rule_breaks_are_kept() -> None:
    """Values that break a rule stay in the frame and are listed like those of a load."""
    source = export().assign(Probability=[1000, 100, 0], Amount=[-5, 1, 2], Name=["x" * 256, "y", "z"])
    source["CloseDate"] = ["9999-12-31", "2026-01-01", "0001-01-01"]
    with pytest.warns(InvalidValuesWarning):
        df = adopt(source)
    assert df["probability"].tolist() == [1000, 100, 0]
    assert df["amount"].tolist() == [-5, 1, 2]
    assert df["close_date"].dt.year.tolist() == [9999, 2026, 1]
    assert len(report(df).failures) == 5
    assert not loaded(df).baseline.marks.locked


def test_adopt__rounded_probabilities_say_their_effect() -> None:
    """What rounding does to the weighted amount stands in the notes, to the cent."""
    source = pd.DataFrame({"Amount": [1000.0, 250.5, None], "Probability": [0.333, 0.125, 0.335]})
    with pytest.warns(InvalidValuesWarning):
        df = adopt(source, probability_unit="fraction")
    moved = Decimal(1000) * (33 - Decimal("33.3")) / 100 + Decimal("250.5") * (13 - Decimal("12.5")) / 100
    assert moved == Decimal("-1.7475")
    assert any(note.endswith("moves amount x probability by -1.75") for note in report(df).notes)
    assert report(df).failures["value"].tolist() == [0.333, 0.125, 0.335]
    assert not loaded(df).baseline.marks.locked
    assert loaded(df).baseline.marks.original[0, "probability"] == 0.333


def test_adopt__says_apart_what_percentages_are_and_whose_count() -> None:
    """`probability_unit` reads the column, `probability` travels with the frame as every figure takes it."""
    source = pd.DataFrame({"Amount": [1000], "Probability": [0.5], "Stage": ["Offer"], "Close Date": ["2026-12-01"]})
    stages = StageMap(order=["Offer", "Won"], won=["Won"], probability={"Offer": 20})
    given = {"stages": stages, "as_of": "2026-11-01", "probability_unit": "fraction"}
    for whose, weighted in ((None, 500), ("own", 500), ("stage", 200)):
        df = adopt(source, probability=whose, **given)
        assert df["probability"].tolist() == [50]
        assert of(df).forecast()["weighted_amount"].tolist() == [weighted]
    with pytest.raises(ConfigurationError, match="not 'fraction'"):
        adopt(source, probability="fraction")
    with pytest.raises(ConfigurationError, match="probability_unit= is 'percent' or 'fraction', not 'own'"):
        adopt(source, probability_unit="own")


def test_adopt__currencies_in_the_amounts() -> None:
    """The currency column goes first, then the amount's own sign, then currency=."""
    source = pd.DataFrame({"Amount": ["€5", "£5", "5", "€7"], "Currency": [None, None, None, "CHF"]})
    df = adopt(source, currency="USD")
    assert df["currency_type"].tolist() == ["EUR", "GBP", "USD", "CHF"]
    assert adopt(source[["Amount"]])["currency_type"].isna().tolist() == [False, False, True, False]


def test_adopt__own_precise_amounts_go_first() -> None:
    """A file that has amount_precise keeps it; cents of the amount only fill its gaps."""
    source = pd.DataFrame({"amount": ["1.50", "2.50"], "amount_precise": ["1.504", None]})
    assert adopt(source)["amount_precise"].tolist() == ["1.504", "2.50"]
    assert adopt(source[["amount_precise", "amount"]])["amount_precise"].tolist() == ["1.504", "2.50"]


def test_adopt__stages_from_the_exports_own_flags() -> None:
    """IsWon and IsClosed say what stages mean; contradicting flags leave it to the names."""
    source = pd.DataFrame({"Stage": ["S1", "S2", "S3", "S3"], "IsClosed": [0, 1, 1, 1], "IsWon": [0, 1, 0, 0]})
    df = adopt(source)
    statuses = loaded(df).stages.frame.set_index("stage_name")["status"].to_dict()
    assert statuses == {"S1": "open", "S2": "won", "S3": "lost"}
    assert not loaded(df).stages.guessed
    assert "won and lost were read from IsWon and IsClosed: won 'S2', lost 'S3'" in report(df).notes
    doubtful = adopt(source.assign(IsWon=[0, 1, 0, 1]))
    assert set(loaded(doubtful).stages.frame["status"]) == {"open"}
    stated = adopt(source, stages=StageMap(won=["S3"]))
    assert loaded(stated).stages.frame.set_index("stage_name")["status"]["S3"] == "won"


@pytest.mark.parametrize("dtype", ["bool[pyarrow]", "int64[pyarrow]", "boolean", "category"])
def test_adopt__flags_of_any_dtype(dtype: str) -> None:
    """Flags are read from Arrow's columns, too, as pd.read_csv(dtype_backend="pyarrow") gives them."""
    source = pd.DataFrame({"Stage": ["S1", "S2", "S3"], "IsClosed": [0, 1, 1], "IsWon": [0, 1, 0]})
    df = adopt(source.astype(dict.fromkeys(["IsClosed", "IsWon"], dtype)))
    assert "won and lost were read from IsWon and IsClosed: won 'S2', lost 'S3'" in report(df).notes


def test_adopt__tags_of_a_csv_that_pandas_wrote(tmp_path: Path) -> None:
    """No tags are no tags after a CSV, not one that is called []."""
    df = adopt(pd.DataFrame({"Name": ["a", "b"], "tags": [["q4", "new"], []]}))
    df.to_csv(tmp_path / "deals.csv", index=False)
    assert adopt(pd.read_csv(tmp_path / "deals.csv"))["tags"].tolist() == [["q4", "new"], []]


def test_adopt__deleted_rows_are_said() -> None:
    """Rows that the source marks as deleted are kept, and the report says so."""
    df = adopt(pd.DataFrame({"Name": ["a", "b"], "IsDeleted": ["true", "false"]}))
    assert len(df) == 2
    assert "1 rows are marked IsDeleted and count like the others; drop what is gone" in report(df).notes


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "Id": st.one_of(st.none(), st.text(max_size=3), st.integers(0, 5)),
                "Name": st.one_of(st.none(), st.text(max_size=5), st.floats()),
                "Amount": st.one_of(
                    st.none(),
                    st.text(max_size=6),
                    st.floats(),
                    st.integers(),
                    st.decimals(allow_nan=False),
                    st.booleans(),
                ),
                "Probability": st.one_of(st.none(), st.integers(-5, 200), st.text(max_size=4), st.floats()),
                "CloseDate": st.one_of(st.none(), st.dates(), st.datetimes(), st.text(max_size=12), st.integers()),
                "Stage": st.one_of(st.none(), st.sampled_from(["Won", "Lost", "Offer"])),
                "Tags": st.one_of(st.none(), st.lists(st.text(max_size=2), max_size=2), st.text(max_size=4)),
                "Extra": st.one_of(st.none(), st.integers(), st.lists(st.integers(), max_size=2)),
            }
        ),
        max_size=6,
    )
)
def test_adopt__any_cells(rows: list[dict[str, Any]]) -> None:
    """Whatever stands in the cells: every row arrives, dtypes fit, and what was refused is locked and listed."""
    source = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in EXPORTED})
    before = source.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InvalidValuesWarning)
        df = adopt(source, probability_unit="percent", duplicates="keep", dayfirst=True, timezone="Asia/Kolkata")
    pd.testing.assert_frame_equal(source, before)
    assert len(df) == len(rows)
    assert all(str(df[name].dtype) == COLUMN_DTYPES[name] for name in df.columns if name in COLUMN_DTYPES)
    known = loaded(df)
    labels_of = {"custom_id": "Id", "name": "Name", "amount": "Amount", "probability": "Probability",
                 "close_date": "CloseDate", "stage_name": "Stage", "tags": "Tags"}  # fmt: skip
    for place, column in known.baseline.marks.locked:
        assert df[column].isna().iloc[place]
        assert known.baseline.marks.original[place, column] is source[labels_of[column]].iloc[place]
        cases = known.report.failures
        assert ((cases["row"] == place) & (cases["column"] == column)).any()


EXPORTED = ("Id", "Name", "Amount", "Probability", "CloseDate", "Stage", "Tags", "Extra")


def test_figures__an_amount_that_is_cleared_takes_its_cents_along() -> None:
    """The exact amount that stays behind counts no more, in scenarios either, as the plan of changes() says."""
    frame = pd.DataFrame({"name": ["a", "b"], "amount": [100.25, 7.5], "stage_name": "Lead"})
    stages = StageMap(order=["Lead"], won=["Won"], lost=["Lost"])
    df = adopt(frame, stages=stages, as_of="2026-06-15", currency="USD")
    df.loc[0, "amount"] = pd.NA
    table = df.opp.stage_distribution()
    assert table.loc["Lead", ["amount", "missing_amount_count"]].tolist() == [7.5, 1]
    dated = df.assign(close_date=pd.Timestamp("2026-07-01", tz="UTC"), probability=50)
    compared = dated.opp.scenario({"same": lambda deals: deals})
    assert compared["open_amount"].tolist() == [7.5, 7.5]


def test_adopt__what_has_two_readings_is_asked_with_the_argument_that_settles_it() -> None:
    """Numbers and dates that read both ways, and arguments that the file proves wrong, are errors that say so."""
    source = export().assign(Amount="12,500", CloseDate="20-10-16")
    with pytest.raises(ConfigurationError, match=r"'Amount'\): '12,500' may be 12500 \(decimal='.'\) or"):
        adopt(source, timezone="UTC")
    with pytest.raises(ConfigurationError, match="date_format='%y-%m-%d'"):
        adopt(source, thousands=",", timezone="UTC")
    df = adopt(source, thousands=",", date_format={"CloseDate": "%y-%m-%d"}, timezone="UTC")
    assert df["amount"].tolist() == [12500] * len(source)
    assert df["close_date"].dt.strftime("%Y-%m-%d").unique().tolist() == ["2020-10-16"]
    with pytest.raises(ConfigurationError, match="dayfirst=True was passed, and the column proves the contrary"):
        adopt(source.assign(Amount=1, CloseDate="12/31/2026"), dayfirst=True, timezone="UTC")
    with pytest.raises(MissingColumnError, match="Closed"):
        adopt(source, thousands=",", date_format={"Closed": "%y-%m-%d"}, timezone="UTC")


def test_adopt__names_that_differ_by_case_or_blanks_alone() -> None:
    """Stages are read as the map writes them, owners as most rows do; the notes count what was matched."""
    deals = pd.DataFrame(
        {
            "Name": ["a", "b", "c", "d"],
            "Stage": ["Negotiation ", "negotiation", "Won", "Negotiation "],
            "Owner": ["Sam Lee", "sam lee", "Sam  Lee", "Sam Lee"],
        }
    )
    stages = StageMap(order=["Negotiation"], won=["Won"])
    df = adopt(deals, {"Owner": "owner_name"}, stages=stages, timezone="UTC")
    assert df["stage_name"].tolist() == ["Negotiation", "Negotiation", "Won", "Negotiation"]
    assert df["owner_name"].unique().tolist() == ["Sam Lee"]
    notes = df.opp.load_report.notes
    assert "stage_name: 'Negotiation ' read as 'Negotiation', 2 deals" in notes
    assert "owner_name: 'Sam  Lee' read as 'Sam Lee', 1 deal" in notes
    both = adopt(deals, {"Owner": "owner_name"}, stages=StageMap(order=["NEGOTIATION", "negotiation"]))
    assert both["stage_name"].tolist()[:2] == ["Negotiation ", "negotiation"]


MESSY: dict[str, tuple[dict[str, list[object]], str, dict[str, object]]] = {
    "German": (
        {
            "Name": ["A", "B", "C"], "Amount": ["12.500 €", "1.234,50 €", "(2.000)"],
            "Close Date": ["31.12.26", "03.04.2026", "01.02.27"], "Stage": ["Angebot ", "angebot", "Angebot"],
            "Probability": ["50 %", "7,5 %", "100%"],
        },
        "", {"amount": [12500, 1235, -2000], "close_date": ["2026-12-31", "2026-04-03", "2027-02-01"]},
    ),
    "American": (
        {
            "Opportunity Name": ["A", "B", "C"], "Amount": ["$12,500", "$1.2M", "$ -"],
            "Close Date": ["12/31/26", "3/4/2026", "Dec 31, 2026"], "Stage": ["Won", "WON", "won "],
            "Probability (%)": ["55%", "5", "n/a"],
        },
        "", {"amount": [12500, 1200000, 0], "close_date": ["2026-12-31", "2026-03-04", "2026-12-31"]},
    ),
    "serial days, and more than one thing to ask": (
        {
            "Name": ["A", "B", "C"], "Amount": ["12,500", "8,000", "450"], "Close Date": [46387, 46387.5, None],
            "Probability": [0.5, 0.25, 1.0], "Deal ID": ["7", "7", "8"],
        },
        "decimal='.' probability_unit='fraction' duplicates='keep'",
        {"amount": [12500, 8000, 450], "probability": [50, 25, 100]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSY)
def test_adopt__messy_files_ask_at_most_once(name: str) -> None:
    """One call reads a messy file, or names in one error every argument that it needs; with them it reads it."""
    columns, asked, expected = MESSY[name]
    source = pd.DataFrame(columns)
    options: dict[str, Any] = {"timezone": "UTC"}
    if asked:
        with pytest.raises(ConfigurationError) as raised:
            adopt(source, **options)
        for argument in asked.split():
            assert argument in str(raised.value)
            key, value = argument.split("=")
            options[key] = value.strip("'")
    if "serial" in name:
        options["date_format"] = "excel"
    df = adopt(source, on_invalid="ignore", **options)
    for column, values in expected.items():
        found = df[column].dt.strftime("%Y-%m-%d") if column == "close_date" else df[column]
        assert found.tolist() == values


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_adopt__files_keep_keys_answers_and_errors_as_they_are_written(tmp_path: Path, ending: str) -> None:
    """A key keeps its zeros and an answer "None" is no gap, in text and workbook alike; an error is refused by name."""
    rows = [
        ["Deal ID", "Amount", "Rival", "Staff", "Close Date"],
        ["007", "1250.5", "None", "12", "2026-01-31"], ["008", "#N/A", "NA", "N/A", ""],
        ["009", "900", "Acme", "NULL", "2026-03-31"],
    ]  # fmt: skip
    path = tmp_path / f"deals.{ending}"
    if ending == "csv":
        path.write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")
    else:
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        for row in (rows[0], *rows[1:3], [], rows[3]):
            book.active.append(row)
        book.active["B2"] = 1250.5
        book.active["E2"] = pd.Timestamp(2026, 1, 31).to_pydatetime()
        book.save(path)
    df = adopt(path, on_invalid="ignore", timezone="UTC")
    assert df["custom_id"].tolist() == ["007", "008", "009"]
    assert df["amount_precise"].dropna().tolist() == ["1250.50"]
    assert df["amount"].fillna(0).tolist() == [1251, 0, 900]
    assert df["Rival"].tolist() == ["None", "NA", "Acme"]
    assert df["Staff"].dropna().tolist() == [12]
    assert df["close_date"].dropna().dt.strftime("%m-%d").tolist() == ["01-31", "03-31"]
    failures = df.opp.load_report.failures
    assert failures[["row", "column", "value", "rule"]].values.tolist() == [
        [1, "amount", "#N/A", "is an error of the spreadsheet"]
    ]


def test_adopt__formulas_of_a_workbook_that_nobody_worked_out(tmp_path: Path) -> None:
    """A formula without its value is shown and refused, not taken for a gap."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Name", "Amount"], ["Acme", "=2*500"], ["Beta", 700]):
        book.active.append(row)
    book.save(tmp_path / "deals.xlsx")
    df = adopt(tmp_path / "deals.xlsx", on_invalid="ignore")
    assert df.opp.load_report.failures[["row", "column", "value"]].values.tolist() == [[0, "amount", "=2*500"]]


def test_adopt__files_of_every_country_by_their_path(tmp_path: Path) -> None:
    """Keys, thousands and truths of a text file are what they say; what may be two things is asked, not guessed."""
    rows = [["Deal ID", "Amount", "Won?", "Staff"], ["007", "1.250", "true", "12"], ["008", "2.500", "false", "7.5"]]
    for ending, mark, encoding in (("csv", ";", "utf-8-sig"), ("tsv", "\t", "utf-8"), ("txt", "\t", "utf-16"),
                                   ("csv", ",", "utf-8")):  # fmt: skip
        path = tmp_path / f"deals.{ending}"
        path.write_text("\r\n".join(mark.join(row) for row in rows), encoding=encoding, newline="")
        with pytest.raises(ConfigurationError, match=r"'1.250' may be 1.25 .decimal='.'. or 1250 .decimal=','."):
            adopt(path)
        df = adopt(str(path), decimal=",", on_invalid="ignore")
        assert df["custom_id"].tolist() == ["007", "008"]
        assert df["amount"].tolist() == [1250, 2500]
        assert df["Won?"].tolist() == [True, False]
        assert df["Staff"].tolist() == [12, 7.5]
        assert df.opp.load_report.origin == path.name
    (tmp_path / "errors.csv").write_text("Name,Amount\nAcme,#N/A\n", encoding="utf-8")
    failed = adopt(tmp_path / "errors.csv", on_invalid="ignore").opp.load_report.failures
    assert failed["rule"].tolist() == ["is an error of the spreadsheet"]
    for name, words in (("deals.doc", "extension is one of .csv"), ("none.csv", "no such file")):
        with pytest.raises(ConfigurationError, match=words):
            adopt(tmp_path / name)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("1,Acme,1,234\n2,Bolt,5,678\n", "more cells than headings"),
        ("1,Acme,1\n2,Bolt,5,678\n", "Expected 3 fields in line 3, saw 4"),
        ("1,Acme,1,\n2,Bolt,5,678\n", "more cells than headings"),
        ('1,"Acme,1\n', "EOF inside string starting at row 1"),
    ],
)
def test_adopt__of_a_file_whose_rows_are_longer_than_its_headings(tmp_path: Path, rows: str, words: str) -> None:
    """An amount of 1,234 without quotes moves no cell under another heading; the text says what to mend, once."""
    file = tmp_path / "deals.csv"
    file.write_text(f"Id,Name,Amount\n{rows}", encoding="utf-8")
    remedy = "the first line must name the columns, and a cell that holds ',' stand in quotes"
    with pytest.raises(ConfigurationError) as caught:
        adopt(file)
    assert str(caught.value) == f"{file}: its rows do not fit its headings ({words}): {remedy}"


def test_adopt__of_a_file_with_a_comma_at_the_end_of_each_row(tmp_path: Path) -> None:
    """Nothing stands behind it, so nothing is lost."""
    (tmp_path / "deals.csv").write_text("Id,Name,Amount\n007,Acme,1,\n2,Bolt,5,\n", encoding="utf-8")
    df = adopt(tmp_path / "deals.csv")
    assert df[["custom_id", "name", "amount"]].values.tolist() == [["007", "Acme", 1], ["2", "Bolt", 5]]


def test_adopt__of_a_file_with_whole_numbers_and_gaps(tmp_path: Path) -> None:
    """A key that is missing makes no fractions of the others, nor of what is left alone."""
    (tmp_path / "deals.csv").write_text("Id,Name,Amount,Rep\n5,Acme,1,7\n,Bolt,,\n6,Cut,2.5,8\n", encoding="utf-8")
    df = adopt(tmp_path / "deals.csv")
    assert df["custom_id"].dropna().tolist() == ["5", "6"]
    assert df["amount_precise"].dropna().tolist() == ["2.50"]
    assert (df["Rep"].dtype, df["Rep"].dropna().tolist()) == ("Int64", [7, 8])
    assert not [note for note in df.opp.load_report.notes if "numbers like" in note]


def test_adopt__of_a_report_that_ends_in_a_total(tmp_path: Path) -> None:
    """Total and remark count like deals, since nothing is dropped: they are listed, and warned of."""
    report = "Id,Name,Amount,Stage\n1,,5,Won\n2,b,6,Lost\n\nTotal,,11,\nConfidential,,,\n"
    (tmp_path / "deals.csv").write_text(report, encoding="utf-8")
    with pytest.warns(InvalidValuesWarning, match="name 2"):
        df = adopt(tmp_path / "deals.csv")
    failures = df.opp.load_report.failures
    assert failures["row"].tolist() == [2, 3]
    assert set(failures["rule"]) == {"a row at the end without name, stage, owner and date: is it a deal?"}
    assert adopt(df.iloc[2:]).opp.load_report.failures.empty
    assert adopt(df.iloc[:0]).opp.load_report.failures.empty
