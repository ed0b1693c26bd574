"""``opp-pandas forecast``: open, weighted, won and forecast amounts per period."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.cli.source import add_quota, add_reading_command, definitions_of, read_deals
from opp_pandas.cli.values import read_quota

if TYPE_CHECKING:
    import argparse

    from opp_pandas.cli.output import Output


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = add_reading_command(
        commands,
        "forecast",
        _run,
        help="print open, weighted, won and forecast amounts per period",
        description="Sums the pipeline by the period of the close date: open, weighted with each deal's probability, "
        "won, and the forecast of both; overdue deals apart.",
        example='opp-pandas forecast --freq Q --by owner_name --won "Closed Won" --lost "Closed Lost"',
    )
    add_quota(command)
    command.add_argument("--by", action="append", metavar="COLUMN", help="group by this column too; repeatable")


def _run(options: argparse.Namespace, output: Output) -> None:
    quota = read_quota(options.quota)
    frame = read_deals(options, output)
    output.table(frame.opp.forecast(by=options.by, quota=quota, **definitions_of(options)))
