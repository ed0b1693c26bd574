"""``opp-pandas predict``: what the days to come will bring, learned from how deals ended before."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from opp_pandas.cli.registry import either, option
from opp_pandas.cli.source import definitions_of, history_of, read_deals, reading_command
from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from opp_pandas.cli.output import Output


@reading_command(
    either(
        option("--horizon-days", type=int, metavar="N", help="days from the moment on (default 90)"),
        option("--period", metavar="2026Q4", help="in their place, the rest of a period that is going on"),
    ),
    option("--method", default="auto", metavar="NAME", help="auto (default), or a row of backtest"),
    option(
        "--save",
        metavar="NAME",
        help="keep it beside the history (--history DIR) under a name that no other forecast has; {day} in it becomes "
        "the day of the load",
    ),
    option("--comment", default="", help="with --save: why it was made"),
    help="print what the days to come will bring, and how well that was foretold before",
    description="Learns from created and closed dates how deals are won with age, forecasts the window, and shows "
    "what the same forecast missed in windows before.",
    example='opp-pandas predict --horizon-days 30 --won "Closed Won" --lost "Closed Lost"',
)
def _run(options: argparse.Namespace, output: Output) -> None:
    from opp_pandas.accessor import context_of

    history = history_of(options)
    if options.save is not None and history is None:
        raise ConfigurationError("--save keeps the forecast beside a history: add --history DIR")
    if options.save is not None and options.as_of is not None and options.file is None:
        raise ConfigurationError("--save keeps what is foretold of the days to come: leave out --as-of")
    frame = read_deals(options, output)
    asked = {"period": options.period, "horizon_days": options.horizon_days, "method": options.method}
    asked["history"] = history
    definitions = definitions_of(options)
    if options.save is None:
        output.prediction(frame.opp.predict(**asked, **definitions))
    else:
        stated = {name: value for name, value in definitions.items() if name != "as_of"}
        name = options.save.replace("{day}", f"{context_of(frame).local_as_of:%Y-%m-%d}")
        saved = history.save_forecast(name, frame, comment=options.comment, **asked, **stated)
        output.prediction(saved.prediction)
        output.say(f"saved as {saved.name!r} in {options.history}", saved=saved.name, number=saved.number)
