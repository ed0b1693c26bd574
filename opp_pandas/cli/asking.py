"""``opp-pandas load``, ``forecast``, ``funnel`` and ``snapshot``: the questions of a nightly job."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas._files import write_whole
from opp_pandas.cli.exits import DONE, INCOMPLETE
from opp_pandas.cli.telling import Telling
from opp_pandas.cli.words import read_conditions, read_list, read_quota, read_stages
from opp_pandas.errors import ConfigurationError, OppPandasWarning, named

if TYPE_CHECKING:
    import pandas as pd

_WRITERS = (".parquet", ".csv", ".xlsx")


def add_commands(commands: Any) -> None:
    """Describe the commands to argparse."""
    load = _command(
        commands,
        "load",
        _load,
        help="load opportunities into a Parquet, CSV or Excel file",
        description="Loads opportunities, validated, into a file that pandas, DuckDB and Spark read.",
        example="opp-pandas load -o deals.parquet --where close_date=2026-10-01..2026-12-31",
    )
    load.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".parquet, .csv or .xlsx")
    load.add_argument("--fields", metavar="A,B", help="only these columns; ids and updated_at always come")

    forecast = _command(
        commands,
        "forecast",
        _forecast,
        help="print open, weighted, won and forecast amounts per period",
        description="Sums the pipeline by the period of the close date: open, weighted with each deal's probability, "
        "won, and the forecast of both; overdue deals apart.",
        example='opp-pandas forecast --freq Q --by owner_name --won "Closed Won" --lost "Closed Lost"',
    )
    _add_forecast_options(forecast)
    forecast.add_argument("--by", action="append", metavar="COLUMN", help="group by this column too; repeatable")
    forecast.add_argument(
        "--overdue",
        choices=("exclude", "include", "roll_forward"),
        default="exclude",
        help="open deals whose day has passed (default exclude)",
    )

    funnel = _command(
        commands,
        "funnel",
        _funnel,
        help="print deals per stage; with a history, how many ever reached each",
        description="Without --history this is the distribution over the present stages, and says so. With one it adds "
        "how many deals reached each stage, and step and overall conversion.",
        example="opp-pandas funnel --history history --cohort 2026-01-01..2026-06-30",
    )
    funnel.add_argument("--by", metavar="COLUMN", help="group by this column too")
    funnel.add_argument("--cohort", metavar="FROM..TO", help="only deals created in these days (needs --history)")

    snapshot = _command(
        commands,
        "snapshot",
        _snapshot,
        help="record what the service says now in a history",
        description="Loads the pipeline and adds what differs from the last snapshot to the history: run it every "
        "night. Recording the same load twice adds nothing; an incomplete load never marks a deal as gone.",
        example="opp-pandas snapshot --history history",
    )
    snapshot.add_argument(
        "--full", action="store_true", help="read every deal, and find out which are gone, instead of the changes only"
    )

    report = _command(
        commands,
        "report",
        _report,
        help="write the forecast report as a page, workbook, PDF or picture",
        description="One file that can be mailed: headline figures, forecast against quota, coverage, stages, largest "
        "and stalest deals, hygiene, and what the figures stand on. The extension decides: .html, .xlsx, .pdf, .png.",
        example="opp-pandas report -o forecast.html --quota 400000 --history history",
    )
    report.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".html, .xlsx, .pdf or .png")
    report.add_argument("--title", help="the headline")
    report.add_argument(
        "--since", metavar="DAY", help="what moved since this day (needs --history; default: the last snapshot)"
    )
    report.add_argument("--by", metavar="COLUMN", help="compare the groups of this column, such as owner_name")
    report.add_argument(
        "--sections",
        metavar="A,B",
        help="only these, in this order: headline, forecast, coverage, groups, funnel, waterfall, bookings, largest, "
        "stalest, hygiene",
    )
    _add_forecast_options(report)


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace, Telling], None], *, example: str, **texts: str
) -> argparse.ArgumentParser:
    """Describe a command that loads first; its options for loading are the same in all."""
    made: argparse.ArgumentParser = commands.add_parser(name, epilog=f"example: {example}", **texts)
    source = made.add_argument_group("what is loaded")
    source.add_argument("--url", help="base URL of the API (default: OPP_PANDAS_URL, else the Outreach API)")
    source.add_argument(
        "--where",
        action="append",
        default=argparse.SUPPRESS,
        metavar="NAME=VALUE",
        help="only deals that fit: owner=7, amount=1000.., close_date=2026-10-01..2026-12-31, next_step= (missing); "
        "repeatable, the same name twice means either",
    )
    source.add_argument(
        "--deadline", type=float, default=60, metavar="S", help="seconds that one request may take in all (default 60)"
    )
    source.add_argument(
        "--partitions", type=int, default=1, metavar="N", help="requests at once, 1 to 4, for a service far away"
    )
    source.add_argument("--timezone", metavar="ZONE", help="zone of calendar days, such as America/New_York")
    source.add_argument(
        "--history",
        type=Path,
        required=name == "snapshot",
        metavar="DIR",
        help="the folder of the snapshots: the load begins from the last one and fetches what changed since",
    )
    meaning = made.add_argument_group("what the stages mean")
    meaning.add_argument(
        "--won", action="append", default=argparse.SUPPRESS, metavar="STAGE", help="a stage that is won; repeatable"
    )
    meaning.add_argument(
        "--lost", action="append", default=argparse.SUPPRESS, metavar="STAGE", help="a stage that is lost"
    )
    meaning.add_argument("--stages", type=Path, metavar="FILE", help="JSON: order, won, lost, probability, category")
    made.add_argument("--json", action="store_true", help="print one JSON object for machines instead of text")
    made.add_argument("--quiet", action="store_true", help="no progress bar")
    made.set_defaults(run=lambda options: _answered(name, run, options), where=[], won=[], lost=[])
    return made


def _add_forecast_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--freq", default="Q", help="period: M, Q (default), Y or W")
    command.add_argument(
        "--fiscal-start", type=int, default=1, metavar="MONTH", help="first month of the fiscal year (default 1)"
    )
    command.add_argument(
        "--fiscal-label",
        choices=("end", "start"),
        default="end",
        help="whether a fiscal year is named after the calendar year in which it ends (default) or starts",
    )
    command.add_argument(
        "--quota",
        action="append",
        default=argparse.SUPPRESS,
        metavar="N",
        help="a number per period, GROUP=NUMBER (repeatable), or a CSV file of period, group, quota",
    )
    command.set_defaults(quota=None)


def _answered(name: str, run: Callable[[argparse.Namespace, Telling], None], options: argparse.Namespace) -> int:
    """Run a command; its warnings go to standard error, one line each, so that the answer stays clean."""
    telling = Telling(name, options.json)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", OppPandasWarning)
        try:
            run(options, telling)
        finally:
            said = list(dict.fromkeys(str(one.message) for one in seen if issubclass(one.category, OppPandasWarning)))
            for text in said:
                print(f"opp-pandas: {text}", file=sys.stderr)
    if options.json:
        telling.answer["warnings"] = said
        telling.end()
    return INCOMPLETE if telling.complete is False else DONE


def _read(options: argparse.Namespace, telling: Telling) -> pd.DataFrame:
    import opp_pandas as opp

    fields = getattr(options, "fields", None)
    full = getattr(options, "full", False)
    frame = opp.read_opportunities(
        opp.connect(options.url, read_only=True, deadline_s=options.deadline),
        where=read_conditions(options.where) or None,
        stages=read_stages(options),
        timezone=options.timezone,
        progress=False if options.quiet or options.json else None,
        fields=read_list(fields),
        history=None if options.history is None or full else opp.History(options.history),
        partitions=options.partitions,
    )
    telling.loaded(frame)
    return frame


def _load(options: argparse.Namespace, telling: Telling) -> None:
    path: Path = options.output
    if path.suffix.lower() not in _WRITERS:
        raise ConfigurationError(f"-o {path}: the file's extension is one of {named(_WRITERS)}")
    _check_folder(path)
    frame = _read(options, telling)
    writers: dict[str, Callable[[Path], object]] = {
        ".parquet": lambda file: write_whole(file, frame.to_parquet()),
        ".csv": frame.opp.to_csv,
        ".xlsx": frame.opp.to_excel,
    }
    writers[path.suffix.lower()](path)
    telling.say(str(frame.opp.load_report) + f"\nwritten to {path}", output=str(path), columns=list(frame.columns))


def _check_folder(path: Path) -> None:
    """Find out before the load, which may take long."""
    if not path.resolve().parent.is_dir():
        raise ConfigurationError(f"-o {path}: there is no folder {path.parent}; make it first")


def _forecast(options: argparse.Namespace, telling: Telling) -> None:
    quota = read_quota(options.quota)
    frame = _read(options, telling)
    telling.table(
        frame.opp.forecast(
            freq=options.freq,
            by=options.by,
            quota=quota,
            fiscal_start=options.fiscal_start,
            fiscal_label=options.fiscal_label,
            overdue=options.overdue,
        )
    )


def _funnel(options: argparse.Namespace, telling: Telling) -> None:
    import opp_pandas as opp

    asked: dict[str, Any] = {}
    if options.cohort is not None:
        if options.history is None:
            raise ConfigurationError("--cohort asks which stages deals passed: add --history DIR, which knows")
        start, sign, end = options.cohort.partition("..")
        if not sign or not start or not end:
            raise ConfigurationError("--cohort reads FROM..TO, such as 2026-01-01..2026-06-30")
        asked["cohort"] = (start, end)
    if options.history is not None:
        asked["history"] = opp.History(options.history)
    telling.table(_read(options, telling).opp.funnel(by=options.by, **asked))


def _snapshot(options: argparse.Namespace, telling: Telling) -> None:
    import opp_pandas as opp

    added = opp.History(options.history).record(_read(options, telling))
    facts = {"deals": added.deals, "appeared": added.appeared, "changed": added.changed, "gone": added.gone}
    words = f"{added.deals:,} deals: {added.appeared:,} new, {added.changed:,} changed, {added.gone:,} gone"
    telling.say(
        f"{words}; recorded in {options.history}",
        sequence=added.sequence,
        observed_at=added.observed_at.isoformat(),
        **facts,
    )


def _report(options: argparse.Namespace, telling: Telling) -> None:
    import opp_pandas as opp

    quota = read_quota(options.quota)
    if options.since is not None and options.history is None:
        raise ConfigurationError("--since asks what the deals were like then: add --history DIR, which knows")
    _check_folder(options.output)
    written = _read(options, telling).opp.report(
        options.output,
        history=None if options.history is None else opp.History(options.history),
        quota=quota,
        by=options.by,
        title=options.title,
        since=options.since,
        sections=read_list(options.sections),
        freq=options.freq,
        fiscal_start=options.fiscal_start,
        fiscal_label=options.fiscal_label,
    )
    telling.say(f"written to {written}", output=str(written))
