"""``opp-pandas predict``: what the days to come will bring, learned from how deals ended before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.cli.source import add_reading_command, definitions_of, read_deals

if TYPE_CHECKING:
    import argparse

    from opp_pandas.cli.output import Output


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = add_reading_command(
        commands,
        "predict",
        _run,
        help="print what the days to come will bring, and how well that was foretold before",
        description="Learns from created and closed dates how deals are won with age, forecasts the window, and shows "
        "what the same forecast missed in windows before.",
        example='opp-pandas predict --horizon-days 30 --won "Closed Won" --lost "Closed Lost"',
    )
    window = command.add_mutually_exclusive_group()
    window.add_argument("--horizon-days", type=int, metavar="N", help="days from the moment on (default 90)")
    window.add_argument("--period", metavar="2026Q4", help="in their place, the rest of a period that is going on")
    command.add_argument("--method", default="auto", metavar="NAME", help="auto (default), or a row of backtest")


def _run(options: argparse.Namespace, output: Output) -> None:
    frame = read_deals(options, output)
    found = frame.opp.predict(
        options.period, horizon_days=options.horizon_days, method=options.method, **definitions_of(options)
    )
    output.prediction(found)
