"""The decoder of every record: what a cell is, form by form."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.api.batches import STAMP, Batch, column_array, make_frame
from opp_pandas.api.decode import decode_records, unknown_attribute, unknown_column
from opp_pandas.api.documents import identifier
from opp_pandas.frame_state import CellMarks
from opp_pandas.instants import build_instant
from opp_pandas.kinds import INSTANTS, UnfitError
from opp_pandas.resource import COLUMN_DTYPES, OPPORTUNITY
from tests.strategies import ANYTHING, ATTRIBUTES, value_of


def decode_one(**members: Any) -> Batch:
    """Decode one record with the members given."""
    return decode_records([{"type": "opportunity", "id": 1, **members}])


def values_of(batch: Batch, column: str) -> list[Any]:
    """Return a decoded column as Python values; instants as microseconds."""
    values = batch.columns.get(column, [None] * batch.rows)
    if isinstance(values, list):
        return values
    return (values.cast(pa.int64()) if values.type == STAMP else values).to_pylist()


def cell(name: str, value: Any) -> tuple[Any, Any, str | None]:
    """Decode one attribute; give value, original where it is kept, reason where it is locked."""
    cells = decode_one(attributes={name: value})
    column = OPPORTUNITY.by_name[name].column
    return values_of(cells, column)[0], cells.marks.original.get((0, column)), cells.marks.locked.get((0, column))


NOON = int(dt.datetime(2026, 12, 10, 12, tzinfo=dt.UTC).timestamp()) * 1_000_000
FITTING = [
    ("amount", 5000, 5000),
    ("amount", -(2**63), -(2**63)),
    ("amount", 2**63 - 1, 2**63 - 1),
    ("name", "", ""),
    ("name", "x" * 100_000, "x" * 100_000),
    ("name", "\x00\u2028😀", "\x00\u2028😀"),
    ("closeDate", "2026-12-10T12:00:00.000Z", NOON),
    ("closeDate", "2026-12-10T12:00:00Z", NOON),
    ("closeDate", "2026-12-10T12:00:00.000001Z", NOON + 1),
    ("closeDate", "0001-01-01T00:00:00.000Z", -62_135_596_800_000_000),
    ("closeDate", "9999-12-31T23:59:59.999Z", 253_402_300_799_999_000),
    ("tags", [], []),
    ("tags", ["b", "a", "a"], ["b", "a", "a"]),
]
ODD = [
    ("amount", 10.0, 10),
    ("amount", -0.0, 0),
    ("name", 17, "17"),
    ("name", 1.5, "1.5"),
    ("closeDate", "2026-12-10T17:30:00.000+05:30", NOON),
    ("closeDate", "2026-12-10T12:00:00.000", NOON),
    ("closeDate", "2026-12-10 12:00:00Z", NOON),
    ("closeDate", "2026-12-10T12:00:00.000000999Z", NOON),
    ("closeDate", "2026-12-10", NOON - 12 * 3_600_000_000),
]
UNFIT = [
    ("amount", 10.5, "whole number"),
    ("amount", 1e300, "whole number"),
    ("amount", 2.0**53 + 2, "whole number"),
    ("amount", "5000", "whole number"),
    ("amount", True, "whole number"),
    ("amount", [5000], "whole number"),
    ("amount", 2**63, "64 bits"),
    ("amount", 10**400, "64 bits"),
    ("name", True, "text"),
    ("name", {"a": 1}, "text"),
    ("name", "half \ud83d", "Unicode"),
    ("closeDate", "next week", "date and time"),
    ("closeDate", "2026-02-30T00:00:00Z", "date and time"),
    ("closeDate", "0000-01-01T00:00:00Z", "date and time"),
    ("closeDate", 1_790_000_000, "date and time"),
    ("closeDate", "", "date and time"),
    ("closeDate", "0001-01-01T00:00:00.000+05:00", "years 1 to 9999"),
    ("closeDate", "9999-12-31T23:59:59.999-05:00", "years 1 to 9999"),
    ("tags", "q4", "list of texts"),
    ("tags", ["q4", None], "list of texts"),
    ("tags", [["q4"]], "list of texts"),
    ("tags", ["\udc00"], "Unicode"),
]


@pytest.mark.parametrize(("name", "sent", "value"), FITTING)
def test_decode__fitting_values(name: str, sent: Any, value: Any) -> None:
    """A value in canonical form is kept as it is, without a mark."""
    assert cell(name, sent) == (value, None, None)


@pytest.mark.parametrize(("name", "sent", "value"), ODD)
def test_decode__odd_values(name: str, sent: Any, value: Any) -> None:
    """A value in another form is read, and its original is kept."""
    assert cell(name, sent) == (value, sent, None)


@pytest.mark.parametrize(("name", "sent", "words"), UNFIT)
def test_decode__unfit_values(name: str, sent: Any, words: str) -> None:
    """A value that its column cannot hold is missing, kept, and locked with a reason that does not repeat it."""
    value, original, reason = cell(name, sent)
    assert value is None
    assert original == sent
    assert reason is not None
    assert words in reason


@given(st.sampled_from(ATTRIBUTES).flatmap(lambda entry: st.tuples(st.just(entry), value_of(entry))))
@settings(deadline=None)
def test_decode__any_value_fits_its_dtype_or_is_locked(drawn: tuple[Any, Any]) -> None:
    """Whatever comes, the column can be made, and a value that is lost is kept in the marks."""
    attribute, value = drawn
    cells = decode_one(attributes={attribute.name: value})
    column = attribute.column
    missing = values_of(cells, column)[0] is None
    assert str(make_frame([cells], [column])[column].dtype) == COLUMN_DTYPES[column]
    if missing and value is not None:
        assert (0, column) in cells.marks.locked
        assert cells.marks.original[0, column] == value


@given(st.dictionaries(st.text(max_size=5), ANYTHING, max_size=3))
@settings(deadline=None)
def test_decode__any_unknown_attribute_is_kept(attributes: dict[str, Any]) -> None:
    """Attributes that nobody documented are columns with their values as sent."""
    cells = decode_one(attributes=attributes)
    assert set(cells.unknown_attributes) == {name for name in attributes if name not in OPPORTUNITY.by_name}
    for name in cells.unknown_attributes:
        assert values_of(cells, unknown_column(name)) == [attributes[name]]
        assert len(column_array([attributes[name]], "infer")) == 1


@given(st.lists(st.text("aAbB_iI0dD", max_size=6), unique=True, max_size=8))
def test_unknown_column__no_two_alike(names: list[str]) -> None:
    """Two attributes never share a column, and none takes a known one."""
    columns = [unknown_column(name) for name in names if name not in OPPORTUNITY.by_name]
    assert len(set(columns)) == len(columns)
    assert not set(columns) & set(COLUMN_DTYPES)


@pytest.mark.parametrize(
    ("sent", "value", "kept", "locked"),
    [
        ({"data": {"type": "user", "id": 7}}, 7, False, False),
        ({"data": {"type": "user", "id": 7}, "links": {}, "meta": {"count": 1}}, 7, False, False),
        ({"data": {"type": "user", "id": "7"}}, 7, True, False),
        ({"data": {"id": 7}}, 7, True, False),
        ({"data": {"type": "plugin", "id": 7}}, None, True, True),
        ({"data": {"type": 5, "id": 7}}, None, True, True),
        ({"data": None}, None, False, False),
        ({"links": {"related": "x"}}, None, False, False),
        ({}, None, False, False),
        (None, None, False, False),
        ({"data": []}, None, True, True),
        ({"data": {"type": "user"}}, None, True, True),
        ({"data": {"type": "user", "id": 0}}, None, True, True),
        ({"data": {"type": "user", "id": True}}, None, True, True),
        ([1, 2], None, True, True),
        ("7", None, True, True),
    ],
)
def test_decode__relationships(sent: Any, value: Any, kept: bool, locked: bool) -> None:
    """Every form of a relationship that the service or its imitators send."""
    cells = decode_one(relationships={"owner": sent})
    assert values_of(cells, "owner_id") == [value]
    assert cells.marks.original == ({(0, "owner_id"): sent} if kept else {})
    assert set(cells.marks.locked) == ({(0, "owner_id")} if locked else set())


def test_decode__relationships_without_a_column_and_unknown_ones() -> None:
    """The read-only twin of the stage and links to many fill nothing; unknown ones are named."""
    cells = decode_one(relationships={"stage": "odd", "prospects": [1], "podcasts": {"data": []}})
    assert cells.marks.original == {}
    assert cells.unknown_relationships == {"podcasts"}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (5, "not a JSON object"),
        (None, "not a JSON object"),
        ({}, "its type is not 'opportunity'"),
        ({"type": "prospect", "id": 1}, "its type is not 'opportunity'"),
        ({"type": "opportunity"}, "it has no id"),
        ({"type": "opportunity", "id": 0}, "its id is out of range"),
        ({"type": "opportunity", "id": 2**63}, "its id is out of range"),
        ({"type": "opportunity", "id": "08"}, "its id is not a whole number"),
        ({"type": "opportunity", "id": 1, "attributes": []}, "its attributes are not a JSON object"),
        ({"type": "opportunity", "id": 1, "relationships": "x"}, "its relationships are not a JSON object"),
    ],
)
def test_decode__records_set_aside(record: Any, reason: str) -> None:
    """A record that cannot become a row is kept with its reason and leaves nothing else behind."""
    if isinstance(record, dict) and record.get("relationships"):
        record = {**record, "attributes": {"healthScore": 1}}
    cells = decode_records([record, {"type": "opportunity", "id": 2}])
    assert cells.quarantined == [(0, 0, reason, record)]
    assert values_of(cells, "id") == [2]
    assert cells.unknown_attributes == {}


@pytest.mark.parametrize("value", ["1", 1, "9223372036854775807", 2**63 - 1])
def test_identifier__usable(value: Any) -> None:
    """Ids are whole numbers above 0, or the same as text."""
    assert identifier(value) == int(value)


@pytest.mark.parametrize("value", [None, True, 1.0, "", "1.0", "+1", " 1", "\u0661", "01", "0", -1, "9" * 25, {}, []])
def test_identifier__unusable(value: Any) -> None:
    """Anything else is none, and the text does not repeat the value."""
    with pytest.raises(UnfitError) as problem:
        identifier(value)
    assert "999" not in str(problem.value)


def test_decode__metadata() -> None:
    """What the user may do is true, false or missing; anything else is locked."""
    cells = decode_records(
        [
            {"type": "opportunity", "id": 1, "meta": {"canWrite": True, "dataConnections": [{"id": None}]}},
            {"type": "opportunity", "id": 2, "meta": {"canWrite": "yes"}},
            {"type": "opportunity", "id": 3, "meta": "odd"},
        ]
    )
    assert values_of(cells, "can_write") == [True, None, None]
    assert values_of(cells, "data_connections") == [[{"id": None}], None, None]
    assert cells.marks.original == {(1, "can_write"): "yes"}
    assert cells.marks.locked == {(1, "can_write"): "must be true or false"}


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["a", None], "str"),
        ([None, None], "str"),
        ([1, None, 2**63 - 1], "Int64"),
        ([-(2**63)], "Int64"),
        ([2**63], "object"),
        ([True, None], "boolean"),
        ([1.5, None], "Float64"),
        ([1, 1.5], "object"),
        ([1, "a"], "object"),
        ([["a"], ["b"]], "object"),
        ([[1]], "object"),
        (["\ud800"], "object"),
    ],
)
def test_column_array__inferred(values: list[Any], dtype: str) -> None:
    """An unknown attribute gets the narrowest dtype that keeps its values as they are."""
    array = column_array(values, "infer")
    assert str(array.dtype) == dtype
    assert [None if value is pd.NA or value != value else value for value in array] == values


def test_column_array__large_integers_beside_missing_ones() -> None:
    """Missing values do not cost the last digits."""
    assert column_array([2**63 - 1, None], "Int64")[0] == 2**63 - 1


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_instant__reads_what_build_writes(microseconds: int) -> None:
    """parse(build(x)) == x, in canonical form."""
    assert INSTANTS.decode(build_instant(microseconds)) == (microseconds, True)


# The bodies of the service's description, in its shapes; all values are made up.
SHORT_COLLECTION = json.loads(
    """
    {"data": [{"type": "opportunity", "id": 88,
       "attributes": {
         "amount": 5000, "amountPrecise": "5000.50", "closeDate": "2026-12-10T22:00:00.000Z",
         "createdAt": "2026-08-30T09:15:02.000Z", "currencyType": "USD", "custom1": "EMEA", "custom2": "",
         "custom150": null, "customId": "0065g00000XyZ", "description": null, "externalCreatedAt": null,
         "mapLink": null, "mapNextSteps": null, "mapStatus": null, "name": "Acme renewal",
         "nextStep": "Send order form", "opportunityType": "Renewal", "probability": 60, "prospectingRepId": null,
         "sharingTeamId": null, "tags": ["q4", "renewal"], "touchedAt": "2026-09-03T11:00:00.000Z",
         "trashedAt": null, "updatedAt": "2026-09-03T11:00:01.000Z", "healthCategory": "RED", "healthScore": 22},
       "relationships": {
         "account": {"data": {"type": "account", "id": 12}}, "creator": {"data": {"type": "user", "id": 3}},
         "opportunityStage": {"data": {"type": "opportunityStage", "id": 6}},
         "owner": {"data": {"type": "user", "id": 7}},
         "prospects": {"links": {"related": "https://api.example/prospects?filter%5Bopportunities%5D%5Bid%5D=88"}},
         "stage": {"data": {"type": "opportunityStage", "id": 6}}, "updater": {"data": null}},
       "links": {"self": "https://api.example/opportunities/88"},
       "meta": {"canWrite": true, "canDelete": false}}]}
    """
)


def test_decode__documented_record() -> None:
    """The record of the service's description, column by column, without a single mark."""
    cells = decode_records(SHORT_COLLECTION["data"])
    first = {name: values_of(cells, name)[0] for name in cells.columns}
    filled = {name: value for name, value in first.items() if value is not None}
    assert filled == {
        "id": 88,
        "name": "Acme renewal",
        "amount": 5000,
        "amount_precise": "5000.50",
        "currency_type": "USD",
        "probability": 60,
        "close_date": INSTANTS.decode("2026-12-10T22:00:00.000Z")[0],
        "opportunity_type": "Renewal",
        "next_step": "Send order form",
        "tags": ["q4", "renewal"],
        "custom_id": "0065g00000XyZ",
        "created_at": INSTANTS.decode("2026-08-30T09:15:02.000Z")[0],
        "updated_at": INSTANTS.decode("2026-09-03T11:00:01.000Z")[0],
        "touched_at": INSTANTS.decode("2026-09-03T11:00:00.000Z")[0],
        "custom1": "EMEA",
        "custom2": "",
        "stage_id": 6,
        "owner_id": 7,
        "account_id": 12,
        "creator_id": 3,
        "can_write": True,
        "can_delete": False,
        "health_category": "RED",
        "health_score": 22,
    }
    assert (cells.marks, cells.quarantined) == (CellMarks(), [])
    assert cells.unknown_attributes == {"healthCategory": "health_category", "healthScore": "health_score"}


@pytest.mark.parametrize(
    "name", ["healthScore", "health_score", "field2x", "CRMScore", "owner_id", "Score__c", "a_2b", "attribute_x"]
)
def test_unknown_attribute__is_named_back_as_it_was(name: str) -> None:
    """A load that goes on from a history names the attributes as the service does."""
    assert unknown_attribute(unknown_column(name)) == name
