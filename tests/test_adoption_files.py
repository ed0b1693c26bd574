"""Real and well-known files from elsewhere, adopted as they come."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from opp_pandas.adoption.adopt import adopt
from opp_pandas.errors import ConfigurationError, DuplicateRowsError, InvalidValuesWarning
from opp_pandas.frame_state import Loaded, loaded_of
from opp_pandas.schema import find_failures
from opp_pandas.stages import StageMap

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.data


def loaded(frame: pd.DataFrame) -> Loaded:
    """Return what travels with an adopted frame."""
    found = loaded_of(frame)
    assert found is not None
    return found


def notes(frame: pd.DataFrame) -> str:
    """Return the notes of the load report as one text."""
    return "\n".join(loaded(frame).report.notes)


def weighted(frame: pd.DataFrame) -> Decimal:
    """Sum amount x probability without any binary fraction."""
    pairs = zip(frame["amount"], frame["probability"], strict=True)
    return sum((Decimal(int(amount)) * int(percent) for amount, percent in pairs), Decimal(0)) / 100


def open_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in stages that are open."""
    table = loaded(frame).stages
    return frame[np.isin(table.positions(frame["stage_name"]), np.flatnonzero(table.status == "open"))]


def test_files__ask_at_most_once(data: Path) -> None:
    """Nine files from elsewhere adopt in one call; one of them names in one error the arguments that it needs."""
    tables = {
        "maven/sales_pipeline_asof_2017-09-30.csv": "", "olga_synth/opportunities.csv": "",
        "microsoft/tracking_opportunities.csv": "probability_unit='fraction' .* duplicates='keep'",
        "fivetran_salesforce/sf_opportunity_data.csv": "", "fivetran_hubspot/deal_data.csv": "",
        "salesforce_devorg/Opportunity.csv": "",
    }  # fmt: skip
    sources: dict[str, Any] = {name: data / name for name in tables}
    sources["salvirt_b2b"] = next((data / "salvirt_b2b").glob("*.csv"))
    for name in ("data-import-test-org.Opportunity", "event-monitoring-demo.Opportunitys"):
        trees = json.loads((data / "salesforce_sfdx" / f"{name}.json").read_text(encoding="utf-8"))
        sources[name] = pd.json_normalize(trees["records"])
    for name, source in sources.items():
        options: dict[str, Any] = {}
        if asked := tables.get(name):
            with pytest.raises(ConfigurationError, match=asked):
                adopt(source)
            options = {"probability_unit": "fraction", "duplicates": "keep"}
        df = adopt(source, on_invalid="ignore", **options)
        rows = len(source) if isinstance(source, pd.DataFrame) else len(pd.read_csv(source, sep=None, engine="python"))
        assert len(df) == rows
        # What is lacking is said together with the columns that it may be in.
        assert ("columns left alone" in notes(df)) is ("no " in notes(df).split("columns left alone")[0])


def test_microsoft__to_the_cent(data: Path) -> None:
    """487 lines with fractions, keys written 302.0 and one key twice: revenue and weighted sum are exact."""
    source = pd.read_csv(data / "microsoft" / "tracking_opportunities.csv")
    columns = {"ProductRevenue": "amount"}
    with pytest.raises(ConfigurationError, match="probability_unit='fraction'"):
        adopt(source, columns)
    with pytest.raises(DuplicateRowsError, match="'302'"):
        adopt(source, columns, probability_unit="fraction")
    df = adopt(source, columns, probability_unit="fraction", duplicates="keep", currency="USD")
    assert len(df) == 487
    assert df["amount"].sum() == 2_110_905_127
    assert weighted(df) == Decimal("461120880.80")
    assert weighted(df.drop_duplicates("custom_id")) == Decimal("459417600.00")
    duplicates = loaded(df).report.duplicates
    assert duplicates[["key", "kept"]].values.tolist() == [["302", 2]]
    assert df.loc[duplicates["rows"][0], "custom_id"].tolist() == ["302", "302"]
    assert sorted(df["probability"].unique()) == [10, 20, 40, 60, 80]
    assert len(loaded(df).report.failures) == 0
    # Times of the file carry the noise of binary days: 10:59:00.000000018, 06:59:59.999999786.
    assert (df["close_date"].dt.microsecond == 0).all()
    assert df["close_date"][0] == pd.Timestamp("2015-11-20T10:59Z")
    assert (df["close_date"] == pd.Timestamp("2015-08-25T07:00Z")).any()
    assert "no stage is called won or lost" in notes(df)
    assert "no owner column" in notes(df)


def test_maven__without_probabilities(data: Path) -> None:
    """7,635 rows: won and lost from the stage names, and a clear word about what the file lacks."""
    source = pd.read_csv(data / "maven" / "sales_pipeline_asof_2017-09-30.csv")
    columns = {"close_value": "amount", "engage_date": "external_created_at"}
    df = adopt(source, columns, timezone="America/New_York", as_of="2017-09-30", currency="USD")
    assert len(df) == 7635
    assert df["custom_id"].is_unique
    assert df["custom_id"][0] == "1C1I7A6R"
    assert df["owner_name"].nunique() == source["sales_agent"].nunique()
    assert df["account_name"].isna().sum() == 1345
    assert df["amount"].sum() == int(source["close_value"].sum())
    assert loaded(df).stages.frame.set_index("stage_name")["status"].to_dict() == {
        "Engaging": "open", "Prospecting": "open", "Won": "won", "Lost": "lost",
    }  # fmt: skip
    assert loaded(df).as_of == pd.Timestamp("2017-10-01T03:59:59.999999Z")
    for words in (
        "no probability column: weighted figures need one",
        "2,909 of 7,635 rows have no amount",
        "2,909 of 7,635 rows have no close_date",
        "no name column",
        "won and lost were guessed from stage names: won 'Won', lost 'Lost'",
    ):
        assert words in notes(df)
    # 1 March 2017 in New York begins at five in UTC.
    assert df["close_date"][0] == pd.Timestamp("2017-03-01T05:00Z")


def test_olga_synth__recognised_as_it_is(data: Path) -> None:
    """6,000 synthetic deals need no mapping; their own flags say what is won and lost."""
    source = pd.read_csv(data / "olga_synth" / "opportunities.csv")
    df = adopt(source)
    assert len(df) == 6000
    assert df["amount"].sum() == int(source["amount"].sum())
    assert df["lost_reason"].notna().sum() == 3760
    assert df["external_created_at"].min() == pd.Timestamp("2023-01-01", tz="UTC")
    statuses = loaded(df).stages.frame.set_index("stage_name")["status"]
    assert (statuses["Closed Won"], statuses["Closed Lost"], statuses["Proposal"]) == ("won", "lost", "open")
    assert not loaded(df).stages.guessed
    assert "read from is_won and is_closed" in notes(df)
    assert (df["is_won"] == (df["stage_name"] == "Closed Won")).all()
    assert "no probability column" in notes(df)


def test_salvirt__without_dates_and_amounts(data: Path) -> None:
    """448 deals with an outcome and nothing else: they load, and the report says what cannot be computed."""
    source = pd.read_csv(data / "salvirt_b2b" / "Salvirt_B2B_ML_dataset.csv", sep=";")
    df = adopt(source, {"Status": "stage_name", "Seller": "owner_name"}, stages=StageMap(won=["Won"], lost=["Lost"]))
    assert len(df) == 448
    assert df["amount"].isna().all()
    assert df["close_date"].isna().all()
    assert df["Competitors"].tolist() == source["Competitors"].tolist()
    assert set(loaded(df).stages.status) == {"won", "lost"}
    for words in (
        "no amount column",
        "no close date column",
        "no probability column",
        "no key column",
        "no creation date",
    ):
        assert words in notes(df)


def test_fivetran_salesforce__keeps_what_breaks_a_rule(data: Path) -> None:
    """A probability of 1000 stays and is listed; hashed stages are told apart by the flags; text keys stay outside."""
    source = pd.read_csv(data / "fivetran_salesforce" / "sf_opportunity_data.csv")
    with pytest.warns(InvalidValuesWarning, match="probability 1"):
        df = adopt(source)
    failures = loaded(df).report.failures
    assert failures[["row", "column", "value", "rule"]].values.tolist() == [[0, "probability", 1000, "0 to 100"]]
    assert df["probability"][0] == 1000
    assert df["custom_id"][0] == "006q000000HddohAAB"
    assert "owner_id" not in df.columns
    assert df["source_owner_id"].tolist() == source["owner_id"].tolist()
    assert not loaded(df).stages.guessed
    assert open_rows(df)["probability"].tolist() == [65]
    assert "10 rows are marked is_deleted" in notes(df)
    assert "6 of 10 rows have no amount" in notes(df)


def test_fivetran_salesforce__year_9999(data: Path) -> None:
    """The year 9999 of the history is kept and listed, never refused."""
    source = pd.read_csv(data / "fivetran_salesforce" / "sf_opportunity_history_data.csv")
    columns = {"_fivetran_end": "close_date", "close_date": "planned"}
    with pytest.warns(InvalidValuesWarning):
        df = adopt(source, columns, duplicates="keep")
    late = df["close_date"].dt.year == 9999
    assert late.sum() == (source["_fivetran_end"] == "9999-12-31 23:59:59").sum() > 0
    listed = loaded(df).report.failures
    assert (listed["column"] == "close_date").sum() == late.sum()
    assert not loaded(df).baseline.marks.locked


def test_fivetran_hubspot__empty_properties(data: Path) -> None:
    """Deals whose properties are all empty load as such; HubSpot's owner numbers are not the service's."""
    source = pd.read_csv(data / "fivetran_hubspot" / "deal_data.csv")
    df = adopt(source)
    assert df["custom_id"].tolist() == source["deal_id"].astype(str).tolist()
    assert df["name"].tolist() == source["property_dealname"].tolist()
    assert df["external_created_at"].notna().all()
    assert "owner_id" not in df.columns
    assert df["source_owner_id"].notna().sum() == source["owner_id"].notna().sum()
    assert "amount is missing in every row" in notes(df)
    assert "close_date is missing in every row" in notes(df)
    history = pd.read_csv(data / "fivetran_hubspot" / "deal_stage_data.csv")
    moves = adopt(history, {"value": "stage_name", "date_entered": "external_created_at"}, duplicates="keep")
    assert moves["external_created_at"].notna().all()


@pytest.mark.parametrize("flat", [True, False])
def test_salesforce_sfdx__trees(data: Path, flat: bool) -> None:
    """Records of a JSON tree, flattened or not: the weighted open total is 528,924.65."""
    folder = data / "salesforce_sfdx"
    records = json.loads((folder / "event-monitoring-demo.Opportunitys.json").read_text(encoding="utf-8"))["records"]
    df = adopt(pd.json_normalize(records) if flat else pd.DataFrame(records))
    assert len(df) == 278
    assert weighted(open_rows(df)) == Decimal("528924.65")
    assert df["next_step"].notna().sum() == 266
    assert ("attributes.referenceId" if flat else "attributes") in df.columns
    assert "no key column" in notes(df)
    second = json.loads(
        (data / "salesforce_sfdx" / "data-import-test-org.Opportunity.json").read_text(encoding="utf-8")
    )
    small = adopt(pd.json_normalize(second["records"]) if flat else pd.DataFrame(second["records"]))
    # The file claims ten records and holds nine; only the rows that are there can be adopted.
    assert (second["totalSize"], len(small)) == (10, 9)
    assert small["AccountId"].str.startswith("@ref").all()


def test_salesforce_devorg__expected_revenue_is_the_oracle(data: Path) -> None:
    """Salesforce's own ExpectedRevenue equals amount x probability in every row that has one."""
    df = adopt(pd.read_csv(data / "salesforce_devorg" / "Opportunity.csv"), timezone="America/Los_Angeles")
    known = df["ExpectedRevenue"].notna()
    assert known.sum() == 31
    for row in df[known].itertuples():
        assert Decimal(int(row.amount)) * int(row.probability) / 100 == Decimal(str(row.ExpectedRevenue))
    # The export's close dates lie before its creation dates; both are kept.
    assert (df["close_date"] < df["external_created_at"]).sum() > 25
    assert find_failures(df).empty
    history = pd.read_csv(data / "salesforce_devorg" / "OpportunityHistory.csv")
    moves = adopt(history, duplicates="keep")
    assert len(moves) == 62
    assert moves["custom_id"].isin(df["custom_id"]).all()
    assert moves["amount"].notna().all()
    products = moves["amount"] * moves["probability"]
    assert (products == (moves["ExpectedRevenue"] * 100).round().astype("Int64")).all()
