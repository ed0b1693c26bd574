"""``opp-pandas resume``: finish a write-back that was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas.cli.output import Output
from opp_pandas.cli.plan_commands import add_plan_options, print_report, worded_for_shells

if TYPE_CHECKING:
    import argparse


def add(commands: Any) -> None:
    """Describe the command to argparse."""
    command = commands.add_parser(
        "resume",
        help="finish a write-back that was interrupted",
        description="Settles what was sent and never answered, then sends the rest, from the journal.",
        epilog="example: opp-pandas resume",
    )
    command.set_defaults(run=_run)
    add_plan_options(command)


def _run(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    with worded_for_shells():
        client = opp.connect(options.url)
        report = opp.resume(client, options.journal, plan=options.plan, on_conflict=options.on_conflict)
    return print_report(report, Output("resume", options.json))
