"""``opp-pandas backtest``: how good the forecasts would have been, from what was known then."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from opp_pandas.cli.registry import either, option
from opp_pandas.cli.source import definitions_of, history_of, read_deals, reading_command
from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from opp_pandas.cli.output import Output


@reading_command(
    either(
        option("--horizon-days", type=int, metavar="N", help="length of a window in days (default 90)"),
        option(
            "--period", action="append", metavar="2026Q3", help="in their place, a period (needs --history); repeatable"
        ),
    ),
    option("--method", action="append", metavar="NAME", help="only this one and naive rows; repeatable"),
    help="print how good forecasts of the past would have been, method by method",
    description="Forecasts past windows from what was known before each, and scores them against what came. With "
    "--period, whole periods by the percentages and amounts that a history has kept.",
    example='opp-pandas backtest --horizon-days 30 --won "Closed Won" --lost "Closed Lost"',
)
def _run(options: argparse.Namespace, output: Output) -> None:
    asked: dict[str, Any] = {"horizon_days": options.horizon_days, "methods": options.method}
    if options.period is not None:
        if options.history is None:
            raise ConfigurationError("--period asks what was known then: add --history DIR, which knows")
        if options.method is not None:
            raise ConfigurationError("--method chooses among the methods of windows: leave it out, or --period")
        asked = {"history": history_of(options), "periods": options.period}
    frame = read_deals(options, output)
    output.table(frame.opp.backtest(**asked, **definitions_of(options)))
