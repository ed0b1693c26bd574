"""``opp-pandas forecast``: open, weighted, won and forecast amounts per period."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from opp_pandas.cli.registry import option
from opp_pandas.cli.source import add_quota, definitions_of, read_deals, reading_command
from opp_pandas.cli.values import read_quota

if TYPE_CHECKING:
    from opp_pandas.cli.output import Output


@reading_command(
    add_quota,
    option("--by", action="append", metavar="COLUMN", help="group by this column too; repeatable"),
    help="print open, weighted, won and forecast amounts per period",
    description="Sums the pipeline by the period of the close date: open, weighted with each deal's probability, "
    "won, and the forecast of both; overdue deals apart.",
    example='opp-pandas forecast --freq Q --by owner_name --won "Closed Won" --lost "Closed Lost"',
)
def _run(options: argparse.Namespace, output: Output) -> None:
    quota = read_quota(options.quota)
    frame = read_deals(options, output)
    output.table(frame.opp.forecast(by=options.by, quota=quota, **definitions_of(options)))
