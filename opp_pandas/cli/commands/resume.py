"""``opp-pandas resume``: finish a write-back that was interrupted."""

from __future__ import annotations

import argparse

from opp_pandas.cli.output import Output
from opp_pandas.cli.plan_commands import add_plan_options, print_report, worded_for_shells
from opp_pandas.cli.registry import command


@command(
    add_plan_options,
    help="finish a write-back that was interrupted",
    description="Settles what was sent and never answered, then sends the rest, from the journal.",
    epilog="example: opp-pandas resume",
)
def _run(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    with worded_for_shells():
        client = opp.connect(options.url)
        report = opp.resume(client, options.journal, plan=options.plan, on_conflict=options.on_conflict)
    return print_report(report, Output("resume", options.json))
