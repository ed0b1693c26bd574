"""How the interface looks to a type checker; checked, never run."""

from __future__ import annotations

import pandas as pd

import opp_pandas as opp


def session() -> None:
    client: opp.Client = opp.connect(token="t", timezone="Europe/Berlin")
    df: pd.DataFrame = opp.read_opportunities(client, filter={"owner": [7]}, limit=10)
    accessor: opp.OpportunityAccessor = opp.of(df)
    forecast: pd.DataFrame = accessor.forecast(freq="Q")
    plan = accessor.changes()
    cells: pd.DataFrame = plan.cells
    report = accessor.write_back(dry_run=True)
    rows: pd.DataFrame = report.rows
    edited: pd.DataFrame = accessor.edit(client, columns=["name"]).frame
    stages = opp.StageMap(order=["Lead"], won=["Won"], lost=["Lost"], probability={"Lead": 10})
    adopted: pd.DataFrame = opp.adopt(df, stages=stages, probability="percent")
    del forecast, cells, rows, adopted, edited
