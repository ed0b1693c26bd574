"""Custom fields by the organisation's names, kinds and rules: shown, converted, written back."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opp_pandas as opp
from conftest import STAGES
from opp_pandas import errors
from opp_pandas.api.custom_field_types import CustomField
from opp_pandas.frame_state import Loaded, Rows, attach_loaded, freeze, require_loaded
from opp_pandas.load.custom_fields import convert_texts, custom_objection, plain_frame, relabel
from opp_pandas.stages import resolve_stages

if TYPE_CHECKING:
    from opp_pandas.api.client import Client
    from opp_pandas.sandbox_handle import Sandbox

DTYPES = {
    "Region": "category",
    "Products": "object",
    "Champion identified": "boolean",
    "Seats": "Int64",
    "Discount": "Int64",
    "Recurring revenue": "Float64",
    "Contract start": "datetime64[us]",
    "Last demo": "datetime64[us]",
    "Legal entity": "str",
}


def offline(texts: list[str | None], kind: str, **rules: Any) -> pd.DataFrame:
    """A loaded frame with one custom field, as if ``/types`` had been read."""
    ids = pd.array(range(1, len(texts) + 1), dtype="Int64")
    frame = pd.DataFrame({"id": ids, "custom12": pd.array(texts, dtype="str")})
    entry = CustomField("custom12", "Thing", kind, **rules)
    loaded = Loaded(
        "read",
        Rows(freeze(frame)),
        resolve_stages(None),
        {},
        None,
        pd.Timestamp(0, tz="UTC"),
        custom_fields={"custom12": entry},
    )
    return attach_loaded(frame, loaded)


# --- names -------------------------------------------------------------------


def test_relabel__names_custom_fields_as_the_organisation_does(df: pd.DataFrame) -> None:
    """Labels stand where ``custom1`` stood, the values are the same, nothing counts as an edit."""
    shown = df.opp.relabel()
    assert {"Region", "Segment", "Seats", "Contract months"} <= set(shown.columns)
    assert "custom1" not in shown.columns
    assert "custom150" in shown.columns, "a slot that is not set up keeps its name"
    pd.testing.assert_series_equal(shown["Region"], df["custom1"], check_names=False)
    assert "custom1" in df.columns, "the frame itself is untouched"
    assert len(shown.opp.changes()) == 0
    assert shown.opp.changes().refused.empty
    assert shown.opp.relabel().columns.tolist() == shown.columns.tolist()


def test_relabel__asks_once(box: Sandbox, df: pd.DataFrame) -> None:
    """The names are read with one request and stay with the frame."""
    df.opp.relabel().opp.relabel(convert=True)
    assert [request.path for request in box.requests].count("/api/v2/types") == 1


def test_relabel__keeps_the_apis_name_where_labels_clash(df: pd.DataFrame) -> None:
    """A label that is a column's name, or that two fields bear, would hide a column."""
    loaded = require_loaded(df, "test")
    fields = {
        "custom1": CustomField("custom1", "amount", "string"),
        "custom2": CustomField("custom2", "Twin", "string"),
        "custom3": CustomField("custom3", "Twin", "string"),
        "custom4": CustomField("custom4", "custom150", "string"),
        "custom5": CustomField("custom5", "Fine", "string"),
    }
    attach_loaded(df, loaded.renewed(custom_fields=fields))
    shown = df.opp.relabel()
    assert [name for name in df.columns if name not in shown.columns] == ["custom5"]
    assert "Fine" in shown.columns
    note = shown.opp.load_report.notes[-1]
    assert "'custom1', 'custom2', 'custom3', 'custom4' kept the API's name" in note


def test_relabel__needs_somebody_to_ask() -> None:
    """Adopted rows have no service behind them."""
    adopted = opp.adopt(pd.DataFrame({"name": ["A"], "amount": [5]}))
    with pytest.raises(errors.ConfigurationError, match=r"relabel\(client\)"):
        adopted.opp.relabel()
    with pytest.raises(errors.NotLoadedError):
        pd.DataFrame({"id": [1]}).opp.relabel()


def test_figures__take_label_or_column(df: pd.DataFrame) -> None:
    """``by=`` means the same field under either name, in either frame."""
    by_column = df.opp.forecast(by="custom1")
    shown = df.opp.relabel()
    for name in ("Region", "custom1"):
        figure = shown.opp.forecast(by=name)
        assert list(figure.index.names) == ["period", "Region"]
        pd.testing.assert_frame_equal(by_column, figure.rename_axis(by_column.index.names))
    back = shown.rename(columns={"Region": "custom1"})
    assert list(back.opp.rollup("Region").index.names)[-1] == "custom1"


# --- writing back --------------------------------------------------------------


def test_write_back__maps_labels_back(client: Client, df: pd.DataFrame) -> None:
    """An edit under a label is written to the custom field, and only that."""
    shown = df.opp.relabel()
    row = shown.index[0]
    new = "APAC" if shown.loc[row, "Region"] != "APAC" else "EMEA"
    shown.loc[row, "Region"] = new
    assert shown.opp.changes().cells["field"].tolist() == ["custom1"]
    report = shown.opp.write_back()
    assert report.rows["status"].tolist() == ["written"]
    assert client.get(int(shown.loc[row, "id"])).data["attributes"]["custom1"] == new
    assert shown.loc[row, "Region"] == new
    assert len(shown.opp.changes()) == 0


def test_convert__turns_texts_into_values(df: pd.DataFrame) -> None:
    """Each kind gets its dtype, the values are the texts', and nothing counts as an edit."""
    shown = df.opp.relabel(convert=True)
    assert {name: str(shown[name].dtype) for name in DTYPES} == DTYPES
    assert shown["Seats"].tolist() == [int(text) for text in df["custom7"]]
    assert list(shown["Region"].cat.categories) == ["EMEA", "AMER", "APAC", "LATAM"]
    assert shown["Products"].map(type).eq(tuple).all()
    assert [", ".join(cell) for cell in shown["Products"]] == df["custom3"].tolist()
    assert shown["Champion identified"].sum() == (df["custom5"] == "true").sum()
    changes = shown.opp.changes()
    assert len(changes) == 0
    assert changes.refused.empty
    pd.testing.assert_frame_equal(plain_frame(shown, require_loaded(shown, "test")), df, check_flags=False)


def test_convert__survives_what_pandas_does_to_frames(df: pd.DataFrame) -> None:
    """Sorted, cut, indexed by id and copied: converted columns are still no edits."""
    shown = df.opp.relabel(convert=True)
    moved = shown.sort_values("Seats", ascending=False).iloc[:20].set_index("id").copy()
    assert len(moved.opp.changes()) == 0
    assert moved.opp.changes().refused.empty


def test_convert__writes_values_as_the_column_spells_them(client: Client, df: pd.DataFrame) -> None:
    """Every kind goes back as text; the frame has the service's values again, converted."""
    shown = df.opp.relabel(convert=True)
    row = shown.index[3]
    edits: dict[str, Any] = {
        "Seats": 1234,
        "Recurring revenue": 99.5,
        "Champion identified": not shown.loc[row, "Champion identified"],
        "Contract start": pd.Timestamp("2027-02-01"),
        "Last demo": pd.Timestamp("2026-09-01 10:30:00"),
    }
    for name, value in edits.items():
        shown.loc[row, name] = value
    shown.at[row, "Products"] = ["Platform", "Archive"]
    shown.at[row, "Region"] = "LATAM"
    found = dict(zip(shown.opp.changes().cells["field"], shown.opp.changes().cells["after"], strict=True))
    texts = {
        "custom3": "Platform, Archive",
        "custom5": "true" if edits["Champion identified"] else "false",
        "custom7": "1234",
        "custom9": "99.5",
        "custom10": "2027-02-01",
        "custom11": "2026-09-01T10:30:00",
    }
    assert {name: found[name] for name in texts} == texts
    dtypes = shown.dtypes
    report = shown.opp.write_back()
    assert report.rows["status"].tolist() == ["written"]
    attributes = client.get(int(shown.loc[row, "id"])).data["attributes"]
    assert {name: attributes[name] for name in texts} == texts
    assert attributes["custom1"] == "LATAM"
    assert len(shown.opp.changes()) == 0
    assert (shown.dtypes == dtypes).all()
    assert shown.at[row, "Products"] == ("Platform", "Archive")


def test_convert__clears_and_refuses(df: pd.DataFrame) -> None:
    """A cleared value is sent as null; a value of another kind is refused with its reason."""
    shown = df.opp.relabel(convert=True)
    shown.loc[shown.index[0], "Seats"] = pd.NA
    cells = shown.opp.changes().cells
    assert cells[["field", "after"]].to_numpy().tolist() == [["custom7", None]]
    shown["Seats"] = shown["Seats"].astype(object)
    shown.at[shown.index[1], "Seats"] = ["12"]
    refused = shown.opp.changes().refused
    assert refused["field"].tolist() == ["custom7"]
    assert "must be text" in refused["reason"].iloc[0]


def test_convert__keeps_texts_that_are_no_values() -> None:
    """What cannot be read is missing, listed, and stays at the service; a new value may replace it."""
    frame = offline(["12", "many", "", None, "0.10"], "numerical")
    shown = frame.opp.relabel(convert=True)
    assert shown["Thing"].tolist() == [12.0, pd.NA, pd.NA, pd.NA, 0.1]
    failures = shown.opp.load_report.failures
    assert failures[["id", "column", "value"]].to_numpy().tolist() == [[2, "custom12", "many"]]
    assert len(shown.opp.changes()) == 0
    shown.loc[1, "Thing"] = 7
    assert shown.opp.changes().cells[["before", "after"]].to_numpy().tolist() == [["many", "7"]]


def test_convert__refuses_to_lose_an_edit() -> None:
    """An edited text that is no value of its kind stops the conversion."""
    frame = offline(["12", "13"], "numerical")
    frame.loc[1, "custom12"] = "thirteen"
    with pytest.raises(errors.FrameError, match=r"Thing \(custom12\) of row 1 was set to 'thirteen'"):
        frame.opp.relabel(convert=True)
    frame.loc[1, "custom12"] = "14"
    shown = frame.opp.relabel(convert=True)
    assert shown.opp.changes().cells[["before", "after"]].to_numpy().tolist() == [["13", "14"]]


@pytest.mark.parametrize(
    ("kind", "texts", "rules"),
    [
        ("numerical", ["012", "1.50", "-0", "+7", ".5", "7.", "9007199254740993", "0.12345678901234567890", "1e5"], {}),
        ("boolean", ["Yes", "No", "yes", "TRUE", "0", "si"], {}),
        ("date", ["2026-02-28", "2026-02-30", " 2026-01-01", "28.02.2026"], {}),
        ("date_time", ["2026-02-28T10:00:00", "2026-02-28T10:00:00Z", "2026-02-28"], {}),
        ("inclusion", ["A", "B", "a", "", "C"], {"options": ("A", "B")}),
        ("multi_inclusion", ["A;B", "A, B", '["A", "B"]', "A", "A;C", "B,A"], {"options": ("A", "B")}),
        ("phone_number", ["+1 212", "x"], {}),
    ],
)
def test_convert__gives_every_unchanged_text_back(kind: str, texts: list[str], rules: dict[str, Any]) -> None:
    """However a text is spelled, not changing its value sends nothing."""
    frame = offline([*texts, None], kind, **rules)
    shown = frame.opp.relabel(convert=True)
    back = plain_frame(shown, require_loaded(shown, "test"))
    assert back["custom12"].astype(object).where(back["custom12"].notna(), None).tolist() == [*texts, None]
    assert len(shown.opp.changes()) == 0


@settings(max_examples=60)
@given(
    kind=st.sampled_from(
        ["numerical", "percentage", "currency", "boolean", "date", "date_time", "inclusion", "multi_inclusion", "url"]
    ),
    texts=st.lists(
        st.one_of(
            st.none(),
            st.text(max_size=6),
            st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
            st.dates().map(str),
            st.sampled_from(["true", "No", "A", "A;B", "1"]),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_convert__never_makes_an_edit(kind: str, texts: list[str | None]) -> None:
    """Relabelling and converting any texts changes nothing that would be sent."""
    frame = offline(texts, kind, options=("A", "B") if "inclusion" in kind else ())
    shown = frame.opp.relabel(convert=True)
    changes = shown.opp.changes()
    assert len(changes) == 0
    assert changes.refused.empty


def test_boolean__is_written_in_the_columns_own_words() -> None:
    """Where the column says Yes and No, so does an edit."""
    shown = offline(["Yes", "Yes", "No"], "boolean").opp.relabel(convert=True)
    shown.loc[0, "Thing"] = False
    assert shown.opp.changes().cells["after"].tolist() == ["No"]


def test_new_deals__are_written_as_texts(client: Client, df: pd.DataFrame) -> None:
    """A deal added to a converted frame takes values, and is created with texts."""
    shown = df.opp.relabel(convert=True)
    added = shown.opp.add({"name": "New", "Seats": 12, "Region": "EMEA", "Contract start": "2027-01-31"})
    created = added.opp.changes().created
    found = created[["custom7", "custom1", "custom10"]].iloc[0].tolist()
    assert found == ["12", "EMEA", "2027-01-31"]
    assert added.opp.write_back().rows["status"].tolist() == ["written"]
    assert len(added.opp.changes()) == 0


def test_adopted_rows__keep_their_own_texts(client: Client) -> None:
    """Rows of a file that wait to be created are sent as they were written there, where nobody changed them."""
    rows = pd.DataFrame({"name": ["A", "B"], "custom7": ["007", "12"], "custom5": ["YES", "no"]})
    shown = opp.adopt(rows).opp.relabel(client, convert=True)
    assert shown["Seats"].tolist() == [7, 12]
    created = shown.opp.changes().created
    assert created[["custom7", "custom5"]].to_numpy().tolist() == [["007", "YES"], ["12", "no"]]
    shown.loc[0, "Seats"] = 8
    assert shown.opp.changes().created["custom7"].tolist() == ["8", "12"]


# --- the organisation's rules -----------------------------------------------------


RULES = [
    (CustomField("custom1", "R", "inclusion", options=("EMEA", "AMER")), "EMEA", "EMAE", "did you mean 'EMEA'"),
    (CustomField("custom1", "R", "multi_inclusion", options=("A", "B")), "A;B", "A;C", "takes 'A', 'B'"),
    (CustomField("custom1", "R", "numerical"), "12345678901234567890.5", "12 pieces", "must be a number"),
    (CustomField("custom1", "R", "percentage"), "12.5", "12,5", "must be a number"),
    (CustomField("custom1", "R", "currency"), "-1250.00", "$5", "must be a number"),
    (CustomField("custom1", "R", "date"), "2026-02-28", "2026-02-29", "must be a day"),
    (CustomField("custom1", "R", "date_time"), "2026-02-28T10:00:00", "10:00", "must be a day and time"),
    (CustomField("custom1", "R", "boolean"), "Yes", "perhaps", "must be true or false"),
    (CustomField("custom1", "R", "string", required=True), "x", "", "is required"),
    (CustomField("custom1", "R", "string", required=True), "x", None, "is required"),
]


@pytest.mark.parametrize(("entry", "good", "bad", "words"), RULES)
def test_rules__say_what_is_wrong(entry: CustomField, good: str, bad: str | None, words: str) -> None:
    """Each kind of field takes its texts and refuses others with the field's name and the remedy."""
    fields = {"custom1": entry}
    assert custom_objection(fields, "custom1", good) is None
    reason = str(custom_objection(fields, "custom1", bad))
    assert words in reason
    assert "R (custom1)" in reason
    assert custom_objection({}, "custom1", bad) is None
    assert custom_objection(fields, "custom2", bad) is None


def test_validate__knows_the_organisations_rules(df: pd.DataFrame) -> None:
    """After relabel() an option that is not in the list is a failure like any other."""
    shown = df.opp.relabel()
    assert shown.opp.validate() is shown
    shown.loc[2, "Region"] = "EMAE"
    shown.loc[3, "probability"] = 101
    with pytest.raises(errors.InvalidFrameError) as caught:
        shown.opp.validate()
    cases = caught.value.failure_cases
    assert set(cases["column"]) == {"Region", "probability"}
    region = cases[cases["column"] == "Region"].iloc[0]
    assert (region["id"], region["row"], region["value"]) == (df.loc[2, "id"], 2, "EMAE")
    assert re.search(r"Region \(custom1\) has no option 'EMAE'; did you mean 'EMEA'", region["rule"])


def test_changes__refuse_what_the_organisation_does(df: pd.DataFrame) -> None:
    """A value outside the list never leaves the house; nor does a new deal without a required field."""
    shown = df.opp.relabel()
    shown.loc[0, "Segment"] = "Huge"
    changes = shown.opp.changes()
    assert len(changes) == 0
    assert "there are 'SMB', 'Mid-Market', 'Enterprise'" in changes.refused["reason"].iloc[0]
    loaded = require_loaded(df, "test")
    entry = dataclasses.replace(CustomField("custom16", "Partner", "string"), required=True)
    attach_loaded(df, loaded.renewed(custom_fields={"custom16": entry}))
    added = df.opp.add({"name": "New deal"})
    refused = added.opp.changes().refused
    assert refused["reason"].tolist() == ["Partner (custom16) is required by the organisation"]
    added.loc[added.index[-1], "custom16"] = "Northwind"
    assert len(added.opp.changes().created) == 1


def test_convert_texts__of_an_empty_column_has_a_dtype() -> None:
    """A load without rows converts like any other."""
    empty = pd.Series([], dtype="str")
    for kind, dtype in (("numerical", "Int64"), ("boolean", "boolean"), ("date", "datetime64[us]")):
        values, unread = convert_texts(empty, CustomField("custom1", "X", kind))
        assert (str(values.dtype), unread) == (dtype, [])


def test_relabel__is_the_function_of_the_accessor(df: pd.DataFrame, client: Client) -> None:
    """The function and the method give the same."""
    pd.testing.assert_frame_equal(relabel(df, client), df.opp.relabel(), check_flags=False)
    assert "Region" in str(df.opp.relabel.__doc__) or "organisation" in str(df.opp.relabel.__doc__)


def test_stages__stay_known(df: pd.DataFrame) -> None:
    """A relabelled frame has its stages, and its figures are the same."""
    pd.testing.assert_frame_equal(df.opp.relabel().opp.funnel(), df.opp.funnel())
    assert STAGES.won == ("Closed Won",)


@pytest.mark.parametrize("convert", [False, True])
def test_add__takes_a_field_by_either_name_and_keeps_dtypes(df: pd.DataFrame, convert: bool) -> None:
    """``custom1`` and ``Region`` are one field; texts of the wire are read as loading reads them."""
    shown = df.opp.relabel(convert=convert)
    rows = [
        {"name": "A", "custom1": "EMEA", "custom5": "true", "custom7": "12", "custom3": "Support Plus"},
        {"name": "B", "custom2": "", "custom10": "2026-12-31"},
    ]
    added = shown.opp.add(rows)
    pd.testing.assert_series_equal(added.dtypes, shown.dtypes)
    assert added["Region"].iloc[-2] == "EMEA"
    first, second = (entry.values for entry in added.opp.changes(custom_ids="never").creations)
    assert first == rows[0] | {"currency_type": "USD"}
    assert (second["name"], second["custom10"]) == ("B", "2026-12-31")


@pytest.mark.parametrize("convert", [False, True])
def test_add__refuses_two_names_of_one_field(df: pd.DataFrame, convert: bool) -> None:
    """Nobody knows which of the two is meant."""
    with pytest.raises(errors.DuplicateRowsError, match="Region and custom1' are two names of one field"):
        df.opp.relabel(convert=convert).opp.add({"name": "A", "custom1": "EMEA", "Region": "AMER"})


def test_add__refuses_what_the_organisation_does(df: pd.DataFrame) -> None:
    """A text that is no number at once; an option that does not exist with the candidates, and it is never lost."""
    shown = df.opp.relabel(convert=True)
    with pytest.raises(errors.FrameError, match=r"new row 0: Seats \(custom7\) cannot be read from 'many'"):
        shown.opp.add({"name": "A", "custom7": "many"})
    refused = shown.opp.add({"name": "A", "custom1": "EMAE"}).opp.changes().refused
    assert "did you mean 'EMEA'" in refused["reason"].iloc[0]
