"""What ``resume`` and ``undo`` share: the plan's journal, conflicts, and how they end."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from opp_pandas.cli.registry import FAILED
from opp_pandas.errors import ConfirmationNeededError, OppPandasError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from opp_pandas.apply.report import WriteReport
    from opp_pandas.cli.output import Output


def add_plan_options(command: argparse.ArgumentParser) -> None:
    """Describe which plan is meant, and how it is told."""
    command.add_argument("--journal", type=Path, metavar="PATH", help="the folder of journals")
    command.add_argument("--plan", type=int, metavar="N", help="number of the plan; opp-pandas journals lists them")
    command.add_argument(
        "--on-conflict",
        choices=("skip", "mine", "theirs"),
        help="what becomes of cells that somebody else changed meanwhile; with resume, rows that were left alone "
        "for it are tried again",
    )
    command.add_argument("--url", help="base URL of the API (default: OPP_PANDAS_URL, else the Outreach API)")
    command.add_argument("--json", action="store_true", help="print one JSON object for machines instead of text")


@contextlib.contextmanager
def worded_for_shells() -> Iterator[None]:
    """Describe what a shell can do next, where the package speaks of arguments and functions."""
    try:
        yield
    except ConfirmationNeededError as needed:
        words = f"undo --dry-run shows it, undo --confirm {needed.number} sends it; nothing was sent"
        raise OppPandasError(f"{needed.reason}: {words}") from needed
    except KeyboardInterrupt:
        print("opp-pandas: interrupted; opp-pandas resume finishes the rest", file=sys.stderr)
        raise


def print_report(report: WriteReport, output: Output) -> int:
    """Print a report; everything written is 0, anything left is 1."""
    output.answer["counts"] = report.counts()
    output.rows(report.rows, str(report))
    output.end()
    return 0 if report.ok else FAILED
