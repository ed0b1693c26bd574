"""Load, then look what there is to save: nothing, whatever the service sent and whatever pandas did (promise R12)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loads import load, resource
from opp_pandas.errors import OppPandasWarning
from strategies import collections

if TYPE_CHECKING:
    from pathlib import Path

Operation = Callable[[pd.DataFrame], pd.DataFrame]


def through_csv(df: pd.DataFrame) -> pd.DataFrame:
    text = df.to_csv(index=False)
    return pd.read_csv(io.StringIO(text)).opp.attach(df)


def through_parquet(df: pd.DataFrame) -> pd.DataFrame:
    buffer = io.BytesIO()
    # Parquet takes one type a column, and an attribute that nobody knows may hold any.
    df.drop(columns="health_score").to_parquet(buffer)
    return pd.read_parquet(io.BytesIO(buffer.getvalue())).opp.attach(df)


def through_merge(df: pd.DataFrame) -> pd.DataFrame:
    other = pd.DataFrame({"id": [*df["id"], -1], "score": 1.5})
    merged = df.merge(other, on="id", how="left")
    return merged.opp.attach(df)


def through_concat(df: pd.DataFrame) -> pd.DataFrame:
    half = len(df) // 2
    return pd.concat([df.iloc[half:], df.iloc[:half]])


def through_outer_join(df: pd.DataFrame) -> pd.DataFrame:
    """Rows that are in neither side for a while: every integer column becomes a float."""
    other = pd.DataFrame({"id": pd.array([1, 2], dtype="Int64"), "note": ["x", "y"]}).set_index("id")
    joined = df.set_index("id").join(other, how="left").reset_index()
    return joined.astype(dict.fromkeys(("amount", "probability"), "float64")).opp.attach(df)


def as_objects(df: pd.DataFrame) -> pd.DataFrame:
    return df.astype(object)


def as_categories(df: pd.DataFrame) -> pd.DataFrame:
    return df.astype({c: "category" for c in df.columns if df[c].dtype == "str"})


def naive(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(**{c: df[c].dt.tz_localize(None) for c in df.columns if str(df[c].dtype).startswith("datetime64")})


def other_zone(df: pd.DataFrame) -> pd.DataFrame:
    zone = "America/New_York"
    return df.assign(close_date=df["close_date"].dt.tz_convert(zone), updated_at=df["updated_at"].dt.as_unit("ns"))


def other_text(df: pd.DataFrame) -> pd.DataFrame:
    return df.astype({c: "string" for c in df.columns if df[c].dtype == "str"})


def as_text(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(**{c: df[c].astype("str") for c in ("amount", "probability", "stage_is_closed")})


FORMS: list[Operation] = [
    lambda df: df, lambda df: df.astype(object), lambda df: df.iloc[::-1], naive, as_categories,
]  # fmt: skip
HARMLESS: dict[str, Operation] = {
    "nothing": lambda df: df,
    "copy": lambda df: df.copy(),
    "sort": lambda df: df.sort_values("name", ascending=False),
    "filter": lambda df: df[df["probability"] > 20],
    "no row": lambda df: df.iloc[:0],
    "reset index": lambda df: df.sort_values("id", ascending=False).reset_index(drop=True),
    "set index": lambda df: df.set_index("id"),
    "set two levels": lambda df: df.set_index(["owner_id", "id"]),
    "reindex": lambda df: df.reindex([2, 0]),
    "drop columns": lambda df: df.drop(columns=["amount", "tags", "stage_id"]),
    "new columns": lambda df: df.assign(score=1.5, note=None),
    "rename": lambda df: df.rename(columns={"next_step": "Next"}),
    "concat of pieces": through_concat,
    "merge": through_merge,
    "join": through_outer_join,
    "objects": as_objects,
    "categories": as_categories,
    "naive": naive,
    "other zone": other_zone,
    "other text": other_text,
    "text of numbers": as_text,
    "fewer bits": lambda df: df.astype({"probability": "int8", "stage_id": "float32"}),
    "tags as tuples": lambda df: df.assign(tags=df["tags"].map(tuple, na_action="ignore")),
    "tags as arrays": lambda df: df.assign(tags=df["tags"].map(np.array, na_action="ignore")),
    "parquet": through_parquet,
    "csv": through_csv,
    "explode and drop": lambda df: df.explode("tags").drop_duplicates("id").drop(columns="tags"),
}
HARD = [
    resource(1, description="", customId="007", tags=[]),
    resource(2, amount=2**53 + 1, amountPrecise=None, name="\u00e9", customId="1e5", tags=["b", "a", "b", "c,d"]),
    resource(3, amount=None, amountPrecise=None, name="e\u0301", nextStep="a\nb", closeDate=None, customId="True"),
    resource(4, amount=10.0, closeDate="9999-12-31", probability=101, customId="302", tags=None),
    resource(
        5, closeDate="2026-12-10T22:00:00+02:00", createdAt="0001-01-01", customId="0.50", custom5="None of these"
    ),
    resource(6, name="n" * 256, externalCreatedAt="2026-12-10", amount="5", healthScore={"a": [1, [2]]}, custom7="12"),
]


@pytest.mark.filterwarnings("ignore::opp_pandas.errors.OppPandasWarning")
@pytest.mark.parametrize("operation", HARMLESS)
def test_round_trip__survives_pandas(operation: str) -> None:
    """Nothing that pandas does to dtypes, order or index is an edit, and nothing is refused."""
    plan = HARMLESS[operation](load(HARD)).opp.changes()
    assert (plan.summary(), plan.refusals) == ("nothing to write", ())


@settings(max_examples=40)
@given(collections(2))
def test_round_trip__of_any_json(resources: list[dict[str, Any]]) -> None:
    """Whatever JSON the service sends, loading it and saving it sends nothing."""
    df = load(resources)
    for form in FORMS:
        plan = form(df).opp.changes()
        assert (len(plan), plan.refusals) == (0, ())


@pytest.mark.nightly
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(collections(6), st.sampled_from([*FORMS, through_merge]))
def test_round_trip__of_any_json_ten_thousand_times(resources: list[dict[str, Any]], form: Operation) -> None:
    """The same with ten thousand examples, each in one of the forms."""
    plan = form(load(resources)).opp.changes()
    assert (len(plan), plan.refusals) == (0, ())


def test_csv__says_which_text_it_could_not_tell_from_missing() -> None:
    """An empty text comes back from a CSV as missing; attach() restores it and says so."""
    df = load([resource(1, nextStep="", description="NA"), resource(2, nextStep=None)])
    with pytest.warns(OppPandasWarning, match="2 cells whose text reads as missing"):
        back = through_csv(df)
    assert back["next_step"].iloc[0] == ""
    assert back["description"].iloc[0] == "NA"
    assert len(back.opp.changes()) == 0
    back.loc[0, "next_step"] = None
    assert back.opp.changes().cells.to_dict("records") == [{"id": 1, "field": "next_step", "before": "", "after": None}]


@pytest.mark.parametrize(
    ("column", "value", "wire"),
    [
        ("amount", 7.0, 7),
        ("amount", np.float32(8), 8),
        ("probability", np.int8(9), 9),
        ("name", "é", "é"),
        ("next_step", "", ""),
        ("close_date", pd.Timestamp("2026-12-11T01:00+02:00"), "2026-12-10T23:00:00.000Z"),
        ("close_date", "2026-12-10T23:00:00.000001Z", "2026-12-10T23:00:00.000001Z"),
        ("tags", ["renewal", "q4"], ["renewal", "q4"]),
        ("tags", [], []),
        ("owner_id", 2.0, 2),
    ],
)
@pytest.mark.parametrize("drift", [lambda df: df, as_objects], ids=["as loaded", "as objects"])
def test_edit__is_seen_as_it_goes_over_the_wire(column: str, value: Any, wire: Any, drift: Operation) -> None:
    """A real edit is found in a drifted column as in any other, and nothing else is."""
    df = drift(load([resource(1), resource(2)]))
    df.at[1, column] = value
    plan = df.opp.changes()
    cells = [(cell.column, cell.after) for cell in plan.updates[0].cells if cell.follows is None]
    assert (len(plan), cells, plan.refusals) == (1, [(column, wire)], ())


def test_csv__finds_what_was_edited_in_it(tmp_path: Path) -> None:
    """A CSV edited elsewhere gives the edits and nothing else."""
    df = load([resource(1), resource(2), resource(3, amount=None, amountPrecise=None)])
    file = tmp_path / "deals.csv"
    df.to_csv(file, index=False)
    file.write_text(file.read_text(encoding="utf-8").replace("Deal 2", "Deal two"), encoding="utf-8")
    plan = pd.read_csv(file).opp.attach(df).opp.changes()
    assert plan.cells.to_dict("records") == [{"id": 2, "field": "name", "before": "Deal 2", "after": "Deal two"}]
