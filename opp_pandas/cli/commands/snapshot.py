"""``opp-pandas snapshot``: record what the service says now in a history."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from opp_pandas.cli.registry import option
from opp_pandas.cli.source import history_of, read_deals, reading_command

if TYPE_CHECKING:
    from opp_pandas.cli.output import Output


@reading_command(
    option(
        "--full", action="store_true", help="read every deal, and find out which are gone, instead of the changes only"
    ),
    option(
        "--confirm",
        type=int,
        metavar="N",
        help="the number of deals that are gone: asked for where a night loses more than a tenth of them",
    ),
    help="record what the service says now in a history",
    description="Loads the pipeline and adds what differs from the last snapshot to the history: run it every "
    "night. Recording the same load twice adds nothing; an incomplete load never marks a deal as gone.",
    example="opp-pandas snapshot --history history",
)
def _run(options: argparse.Namespace, output: Output) -> None:
    added = history_of(options).record(read_deals(options, output), confirm=options.confirm)
    facts = {"deals": added.deals, "appeared": added.appeared, "changed": added.changed, "gone": added.gone}
    words = f"{added.deals:,} deals: {added.appeared:,} new, {added.changed:,} changed, {added.gone:,} gone"
    output.say(
        f"{words}; recorded in {options.history}",
        sequence=added.sequence,
        observed_at=added.observed_at.isoformat(),
        **facts,
    )
