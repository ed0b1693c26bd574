"""``opp-pandas funnel``: deals per stage; with a history, how many ever reached each."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from opp_pandas.cli.registry import option
from opp_pandas.cli.source import definitions_of, history_of, read_deals, reading_command
from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from opp_pandas.cli.output import Output


@reading_command(
    option("--by", metavar="COLUMN", help="group by this column too"),
    option("--cohort", metavar="FROM..TO", help="only deals created in these days (needs --history)"),
    help="print deals per stage; with a history, how many ever reached each",
    description="Without --history this is the distribution over the present stages, and says so. With one it adds "
    "how many deals reached each stage, and step and overall conversion.",
    example="opp-pandas funnel --history history --cohort 2026-01-01..2026-06-30",
)
def _run(options: argparse.Namespace, output: Output) -> None:
    asked: dict[str, Any] = {}
    if options.cohort is not None:
        if options.history is None:
            raise ConfigurationError("--cohort asks which stages deals passed: add --history DIR, which knows")
        start, sign, end = options.cohort.partition("..")
        if not sign or not start or not end:
            raise ConfigurationError("--cohort reads FROM..TO, such as 2026-01-01..2026-06-30")
        asked["cohort"] = (start, end)
    frame = read_deals(options, output)
    output.table(frame.opp.funnel(history_of(options), by=options.by, **asked, **definitions_of(options)))
