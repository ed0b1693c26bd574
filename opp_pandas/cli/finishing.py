"""``opp-pandas resume``, ``undo`` and ``journals``: what becomes of interrupted writes."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas.cli.exits import FAILED
from opp_pandas.cli.telling import Telling
from opp_pandas.errors import ConfirmationNeededError, OppPandasError
from opp_pandas.figures.core.basis import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opp_pandas.apply.report import WriteReport


def add_commands(commands: Any) -> None:
    """Describe the commands to argparse."""
    resume = commands.add_parser(
        "resume",
        help="finish a write-back that was interrupted",
        description="Settles what was sent and never answered, then sends the rest, from the journal of the plan.",
        epilog="example: opp-pandas resume",
    )
    resume.set_defaults(run=_resume)
    undo = commands.add_parser(
        "undo",
        help="put the old values back where ours still stand",
        description="Takes the newest plan back, or the one whose journal is named, with the same conflict check.",
        epilog="example: opp-pandas undo --dry-run",
    )
    undo.add_argument("--dry-run", action="store_true", help="show what would be sent")
    undo.add_argument("--confirm", type=int, metavar="N", help="number of rows, to confirm a large plan")
    undo.add_argument("--allow-delete", action="store_true", help="delete the deals that the plan created")
    undo.set_defaults(run=_undo)
    for part in (resume, undo):
        part.add_argument("--journal", type=Path, metavar="PATH", help="the plan's journal, or the folder of journals")
        part.add_argument(
            "--on-conflict",
            choices=("skip", "mine", "theirs"),
            help="what becomes of cells that somebody else changed meanwhile; with resume, rows that were left alone "
            "for it are tried again",
        )
        part.add_argument("--url", help="base URL of the API (default: OPP_PANDAS_URL, else the Outreach API)")

    journals = commands.add_parser(
        "journals",
        help="list or remove the journals of write-backs",
        description="Journals hold old and new values of customers' deals, readable by their owner only. "
        "They are kept until removed here.",
        epilog="example: opp-pandas journals --purge-days 30",
    )
    journals.add_argument("--folder", type=Path, help="default: OPP_PANDAS_JOURNAL, else the user's folder for state")
    journals.add_argument("--purge-days", type=float, metavar="D", help="remove finished ones older than D days")
    journals.set_defaults(run=_journals)
    for part in (resume, undo, journals):
        part.add_argument("--json", action="store_true", help="print one JSON object for machines instead of text")


def _resume(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    with _worded():
        report = opp.resume(opp.connect(options.url), options.journal, on_conflict=options.on_conflict)
    return _told(report, Telling("resume", options.json))


def _undo(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    with _worded():
        report = opp.undo(
            opp.connect(options.url),
            options.journal,
            dry_run=options.dry_run,
            allow_delete=options.allow_delete,
            on_conflict=options.on_conflict or "skip",
            confirm=options.confirm,
        )
    return _told(report, Telling("undo", options.json))


@contextlib.contextmanager
def _worded() -> Iterator[None]:
    """Say what a shell can do next, where the package speaks of arguments and functions."""
    try:
        yield
    except ConfirmationNeededError as needed:
        words = f"undo --dry-run shows it, undo --confirm {needed.number} sends it; nothing was sent"
        raise OppPandasError(f"{needed.reason}: {words}") from needed
    except KeyboardInterrupt:
        print("opp-pandas: interrupted; opp-pandas resume finishes the rest", file=sys.stderr)
        raise


def _told(report: WriteReport, telling: Telling) -> int:
    """Print a report; everything written is 0, anything left is 1."""
    telling.answer["counts"] = report.counts()
    telling.rows(report.rows, str(report))
    telling.end()
    return 0 if report.ok else FAILED


def _journals(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    telling = Telling("journals", options.json)
    if options.purge_days is not None:
        removed = opp.purge_journals(options.folder, days=options.purge_days)
        telling.say(counted(len(removed), "journal") + " removed", removed=[str(path) for path in removed])
    else:
        listed = opp.list_journals(options.folder)
        telling.rows(listed, listed.to_string(index=False) if len(listed) else "there are no journals")
    telling.end()
    return 0
