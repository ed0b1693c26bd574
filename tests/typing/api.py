"""How the interface looks to a type checker; checked, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import opp_pandas as opp
from opp_pandas import plotting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from opp_pandas.apply.report import WriteReport
    from opp_pandas.figures.core.explanations import Explanation
    from opp_pandas.figures.core.presentation import Shown
    from opp_pandas.forecasting import Bookings
    from opp_pandas.notebook.dashboards import Dashboard
    from opp_pandas.notebook.editor import Editor


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
    adopted: pd.DataFrame = opp.adopt(df, stages=stages, probability_unit="percent")
    del forecast, cells, rows, adopted, edited


def looking(df: pd.DataFrame, history: opp.History) -> None:
    accessor = opp.of(df)
    bookings: Bookings = accessor.bookings(period="2026Q4")
    mean: float = bookings.mean
    reached: float = bookings.p_at_least(1e6)
    explained: Explanation = opp.explain(accessor.kpis())
    shown: Shown = opp.show(accessor.stage_distribution())
    axes: Axes = accessor.plot.forecast(quota=1e6)
    told: str = plotting.alt_text(accessor.plot.scenario({"less": lambda frame: frame}))
    with plotting.style("dark"):
        pacing: Axes = plotting.plot_pacing(accessor.pacing(), axes)
    hygiene: Axes = accessor.plot.hygiene()
    dashboard: Dashboard = accessor.dashboard(history, 1e6, freq="M")
    dashboard.choose(owners=["Sam Lee"], period="2026-10")
    headlines: Mapping[str, float | None] = dashboard.headlines
    files: list[Path] = dashboard.save("pictures")
    del mean, reached, explained, shown, told, pacing, hygiene, headlines, files


def scanning(client: opp.Client, history: opp.History) -> None:
    written: opp.Scan = opp.read_opportunities(client, to="deals/", page_size=1000)
    kept: opp.OpportunityFrame = opp.read_opportunities(client, filter={"owner": 7})
    scanned: opp.Scan = opp.scan(history, as_of="2026-09-30")
    table: pd.DataFrame = written.forecast(freq="M", by=["owner_name", "category"])
    mean: float = scanned.kpis(by="owner_name")["win_rate"].mean()
    checked: opp.Scan = written.validate()
    del kept, table, mean, checked


def editing(df: pd.DataFrame) -> None:
    editor: Editor = opp.of(df).edit(columns=["name", "amount"])
    plan: opp.ChangeSet = editor.changes
    report: WriteReport | None = editor.report
    lines: str = editor.code
    del plan, report, lines


def serving() -> None:
    opp.sandbox(20, rate_limit=100, generation="reference").close()
    opp.sandbox(20, rate_limits=100)  # type: ignore[call-arg]
    opp.sandbox(20, generation="old")  # type: ignore[arg-type]
