"""``opp-pandas journals``: list or remove the plans of write-backs."""

from __future__ import annotations

import argparse
from pathlib import Path

from opp_pandas.cli.output import Output
from opp_pandas.cli.registry import command, option
from opp_pandas.figures.core.basis import counted


@command(
    option("--folder", type=Path, help="default: OPP_PANDAS_JOURNAL, else the user's folder for state"),
    option("--purge-days", type=float, metavar="D", help="remove finished ones older than D days"),
    option("--json", action="store_true", help="print one JSON object for machines instead of text"),
    help="list or remove the plans of write-backs",
    description="Journals hold old and new values of customers' deals, readable by their owner only. "
    "They are kept until removed here.",
    epilog="example: opp-pandas journals --purge-days 30",
)
def _run(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    output = Output("journals", options.json)
    if options.purge_days is not None:
        removed = opp.purge_journals(options.folder, days=options.purge_days)
        output.say(counted(len(removed), "plan") + " removed", removed=len(removed))
    else:
        listed = opp.list_journals(options.folder)
        output.rows(listed, listed.to_string(index=False) if len(listed) else "there are no journals")
    output.end()
    return 0
