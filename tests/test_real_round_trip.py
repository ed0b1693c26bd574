"""A real pipeline, adopted, created through the API and loaded back, to the cent."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import opp_pandas as opp

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.data

REVENUE, WEIGHTED = 2_110_905_127, Decimal("461120880.80")
STAGES = opp.StageMap(order=["Lead", "Qualify", "Solution", "Proposal", "Finalize"])
COLUMNS = {
    "Opportunity ID": "custom_id",
    "Name": "name",
    "ProductRevenue": "amount",
    "Probability": "probability",
    "Sales Stage": "stage_name",
    "EstimatedCloseDate": "close_date",
    "Create Date": "external_created_at",
}


def weighted(frame: pd.DataFrame) -> Decimal:
    pairs = zip(frame["amount"], frame["probability"], strict=True)
    return sum((Decimal(int(a)) * int(p) / 100 for a, p in pairs), Decimal(0))


@pytest.mark.parametrize("way", ["leave_out", "not_taken"])
def test_microsoft__comes_back_from_the_service_to_the_cent(data: Path, way: str) -> None:
    """487 lines with accounts that the service does not have are created with one argument; both sums come back."""
    source = pd.read_csv(data / "microsoft" / "tracking_opportunities.csv")
    columns = COLUMNS if way == "leave_out" else COLUMNS | {"Account": None}
    options: dict[str, Any] = {"unknown_names": "leave_out"} if way == "leave_out" else {}
    adopted = opp.adopt(
        source,
        columns,
        stages=STAGES,
        probability_unit="fraction",
        duplicates="keep",
        currency="USD",
        as_of="2026-11-23",
    )
    assert adopted.opp.load_report.duplicates["key"].tolist() == ["302"]
    assert (len(adopted), adopted["amount"].sum(), weighted(adopted)) == (487, REVENUE, WEIGHTED)

    with opp.sandbox(opportunities=0, stages=STAGES) as box:
        client = box.client()
        with pytest.raises(opp.errors.ConfirmationNeededError) as asked:
            adopted.opp.write_back(client)
        assert asked.value.number == 487
        assert not [entry for entry in box.requests if entry.method == "POST"]
        if options:
            refused = adopted.opp.write_back(client, dry_run=True)
            assert refused.counts() == {"refused": 487}
            assert len(set(refused.rows["detail"])) == 1
            assert "does not know" in refused.rows["detail"].iloc[0]
            assert str(refused.plan).count("does not know") == 1
        report = adopted.opp.write_back(client, confirm=487, **options)
        assert report.counts() == {"written": 487}
        notes = [note for note in report.plan.notes if "account_name" in note]
        assert [note.split(":")[0] for note in notes] == ["account_name is left out of 487 new deals"] * len(options)
        left_out = report.rows["detail"].str.contains("account_name '.+' left out", regex=True)
        assert left_out.all() if options else not left_out.any()
        names = report.rows["detail"].str.extract("account_name '(.+)' left out")[0]
        assert not options or names.tolist() == source["Account"].tolist()
        assert adopted["id"].notna().all()
        assert len(adopted.opp.changes()) == 0

        loaded = opp.read_opportunities(client, stages=STAGES)
    assert (len(loaded), loaded["amount"].sum(), weighted(loaded)) == (487, REVENUE, WEIGHTED)
    total = loaded.opp.forecast(freq="Y").sum(numeric_only=True)
    assert total["open_amount"] == REVENUE
    assert round(total["weighted_amount"], 2) == float(WEIGHTED)
    assert total["forecast_amount"] == 0
    # Every deal is overdue by now, and the forecast says that this is why.
    assert total["overdue_amount"] == REVENUE


def test_outreach_record__keeps_what_the_documents_do_not_have(data: Path) -> None:
    """The real record, put back into its JSON:API form, loads with its undocumented attributes."""
    import json

    from opp_pandas.api.frame_builder import Collector

    flat = json.loads((data / "outreach_record" / "opportunity_flattened_by_airbyte.json").read_text(encoding="utf-8"))
    kinds = {"account": "account", "creator": "user", "owner": "user", "opportunityStage": "opportunityStage"}
    kinds["stage"] = "opportunityStage"
    relationships = {name: {"data": {"type": kind, "id": flat.pop(name)}} for name, kind in kinds.items()}
    for name, kind in (("assignedUsers", "user"), ("opportunityHealthFactors", "opportunityHealthFactor")):
        relationships[name] = {"data": [{"type": kind, "id": value} for value in flat.pop(name)]}
    record = {"type": "opportunity", "id": flat.pop("id"), "attributes": flat, "relationships": relationships}
    collector = Collector()
    collector.add_body(json.dumps({"data": [record]}).encode())
    collected = collector.finish()
    row = collected.rows.frame.iloc[0]
    assert (row["health_category"], row["health_score"], row["map_number_of_overdue_tasks"]) == ("RED", 22, 8)
    assert collected.unknown_relationships == ()
    # 22:00 UTC is the next day where the deal is.
    assert row["close_date"] == pd.Timestamp("2021-12-09T22:00Z")
    assert row["close_date"].tz_convert("Europe/Helsinki").date().isoformat() == "2021-12-10"
    assert (row["stage_id"], row["owner_id"], row["tags"], row["custom2"]) == (1, 1, [], "")
