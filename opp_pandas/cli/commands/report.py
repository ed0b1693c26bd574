"""``opp-pandas report``: the forecast report as a page, workbook, PDF or picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from opp_pandas.cli.registry import option
from opp_pandas.cli.source import add_quota, check_folder, definitions_of, history_of, read_deals, reading_command
from opp_pandas.cli.values import read_list, read_quota
from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from opp_pandas.cli.output import Output


@reading_command(
    option("-o", "--output", type=Path, required=True, metavar="FILE", help=".html, .xlsx, .pdf or .png"),
    option("--title", help="the headline"),
    option("--since", metavar="DAY", help="what moved since this day (needs --history; default: the last snapshot)"),
    option("--by", metavar="COLUMN", help="compare the groups of this column, such as owner_name"),
    option(
        "--sections",
        metavar="A,B",
        help="only these, in this order: headline, deals, predict, forecast, coverage, groups, funnel, waterfall, "
        "bookings, hygiene",
    ),
    option(
        "--link",
        metavar="URL",
        help="address of a deal in the browser, with {id} or {custom_id} in it: deals lead there",
    ),
    add_quota,
    help="write the forecast report as a page, workbook, PDF or picture",
    description="One file that can be mailed: how the period stands, headline figures, forecast against quota, "
    "coverage, stages, the deals to look at, hygiene, and what the figures stand on. The extension decides: .html, "
    ".xlsx, .pdf, .png.",
    example="opp-pandas report -o forecast.html --quota 400000 --history history",
)
def _run(options: argparse.Namespace, output: Output) -> None:
    quota = read_quota(options.quota)
    if options.since is not None and options.history is None:
        raise ConfigurationError("--since asks what the deals were like then: add --history DIR, which knows")
    check_folder(options.output)
    frame = read_deals(options, output)
    written = frame.opp.report(
        options.output,
        history=history_of(options),
        quota=quota,
        by=options.by,
        title=options.title,
        since=options.since,
        sections=read_list(options.sections),
        link=options.link,
        **definitions_of(options),
    )
    output.say(f"written to {written}", output=str(written))
