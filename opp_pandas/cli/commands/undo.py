"""``opp-pandas undo``: put the old values back where ours still stand."""

from __future__ import annotations

import argparse

from opp_pandas.cli.output import Output
from opp_pandas.cli.plan_commands import add_plan_options, print_report, worded_for_shells
from opp_pandas.cli.registry import command, option


@command(
    option("--dry-run", action="store_true", help="show what would be sent"),
    option("--confirm", type=int, metavar="N", help="number of rows, to confirm a large plan"),
    option("--allow-delete", action="store_true", help="delete the deals that the plan created"),
    add_plan_options,
    help="put the old values back where ours still stand",
    description="Takes the newest plan back, or the one whose number is given, with the same conflict check.",
    epilog="example: opp-pandas undo --dry-run",
)
def _run(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    with worded_for_shells():
        report = opp.undo(
            opp.connect(options.url),
            options.journal,
            plan=options.plan,
            dry_run=options.dry_run,
            allow_delete=options.allow_delete,
            on_conflict=options.on_conflict or "skip",
            confirm=options.confirm,
        )
    return print_report(report, Output("undo", options.json))
