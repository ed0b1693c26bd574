"""What the commands that read deals share: where deals come from, what stages, periods and amounts mean."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas.cli.output import Output
from opp_pandas.cli.registry import DONE, INCOMPLETE, Describe, Run, command
from opp_pandas.cli.values import (
    read_calendar,
    read_conditions,
    read_list,
    read_map,
    read_pairs,
    read_rates,
    read_stages,
)
from opp_pandas.errors import ConfigurationError, OppPandasWarning

if TYPE_CHECKING:
    import pandas as pd

Reading = Callable[[argparse.Namespace, Output], None]

_DEFINITIONS: dict[str, dict[str, Any]] = {
    "freq": {"help": "period: M, Q (default), Y or W"},
    "fiscal_start": {"type": int, "metavar": "MONTH", "help": "first month of the fiscal year (default 1)"},
    "fiscal_label": {
        "choices": ("end", "start"),
        "help": "whether a fiscal year is named after the calendar year in which it ends (default) or starts",
    },
    "calendar": {
        "metavar": "4-4-5",
        "help": "fiscal years of whole weeks: weeks of the three periods of a quarter, then perhaps ,SUN and ,nearest",
    },
    "probability": {"choices": ("own", "stage", "own_else_stage"), "help": "whose percentages count (default own)"},
    "category": {"metavar": "COLUMN", "help": "the column that states the forecast category"},
    "category_names": {
        "metavar": "WORD=CATEGORY,...",
        "help": "what the organisation's words for categories mean: closed, commit, best_case, pipeline, omitted",
    },
    "rates": {
        "metavar": "EUR=1.08,GBP=1.27",
        "help": "exchange rates into the organisation's currency (--currency), or a CSV file of currency, start, rate",
    },
    "currency": {"metavar": "USD", "help": "the organisation's currency: that of amounts that name none"},
    "overdue": {
        "choices": ("exclude", "include", "roll_forward"),
        "help": "what open deals whose day has passed do to the forecast (default exclude)",
    },
}
"""How each definition of periods and money is said on the command line."""
_READERS: dict[str, Callable[[str], Any]] = {
    "calendar": read_calendar,
    "category_names": read_pairs,
    "rates": read_rates,
}


def reading_command(*options: Describe, example: str, **texts: str) -> Callable[[Reading], Run]:
    """Let a function be a command that reads deals first; its options for that are the same in all."""

    def register(run: Reading) -> Run:
        name = run.__module__.rpartition(".")[2]

        @wraps(run)
        def answer(options: argparse.Namespace) -> int:
            # Warnings go to standard error, one line each, so that the answer stays clean.
            output = Output(name, options.json)
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always", OppPandasWarning)
                try:
                    run(options, output)
                finally:
                    known = (one for one in seen if issubclass(one.category, OppPandasWarning))
                    told = list(dict.fromkeys(str(one.message) for one in known))
                    for text in told:
                        print(f"opp-pandas: {text}", file=sys.stderr)
            if options.json:
                output.answer["warnings"] = told
                output.end()
            return INCOMPLETE if output.complete is False else DONE

        source = partial(_add_source, name == "snapshot")
        return command(source, *options, epilog=f"example: {example}", **texts)(answer)

    return register


def _add_source(needs_history: bool, made: argparse.ArgumentParser) -> None:
    source = made.add_argument_group("what is loaded")
    source.add_argument("--url", help="base URL of the API (default: OPP_PANDAS_URL, else the Outreach API)")
    source.add_argument(
        "--from", dest="file", type=Path, metavar="FILE", help="a .csv, .xlsx or .parquet file in place of the service"
    )
    source.add_argument(
        "--map", type=Path, metavar="FILE", help="JSON for --from: its columns -> ours, or arguments of opp.adopt"
    )
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
    source.add_argument("--as-of", metavar="DAY", help="the moment that the figures speak of (default: the load's)")
    source.add_argument(
        "--history",
        type=Path,
        required=needs_history,
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
    definitions = made.add_argument_group("how time is cut and what amounts mean")
    for option, settings in _DEFINITIONS.items():
        definitions.add_argument(f"--{option.replace('_', '-')}", **settings)
    made.add_argument("--json", action="store_true", help="print one JSON object for machines instead of text")
    made.add_argument("--quiet", action="store_true", help="no progress bar")
    made.set_defaults(where=[], won=[], lost=[])


def add_quota(command: argparse.ArgumentParser) -> None:
    """Describe ``--quota``."""
    command.add_argument(
        "--quota",
        action="append",
        default=argparse.SUPPRESS,
        metavar="N",
        help="a number per period, GROUP=NUMBER (repeatable), or a CSV file of period, group, quota",
    )
    command.set_defaults(quota=None)


def definitions_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was stated about periods and money, and the moment."""
    given = {name: getattr(options, name) for name in (*_DEFINITIONS, "as_of")}
    return {
        name: _READERS[name](value) if name in _READERS else value for name, value in given.items() if value is not None
    }


def history_of(options: argparse.Namespace) -> Any:
    """Open the history; None where none was named."""
    import opp_pandas as opp

    return None if options.history is None else opp.History(options.history)


def read_deals(options: argparse.Namespace, output: Output) -> pd.DataFrame:
    """Read the deals, from the service or a file, and remember how that went."""
    import opp_pandas as opp

    carried = ("fiscal_start", "fiscal_label", "calendar", "rates", "currency", "probability")
    definitions = {name: value for name, value in definitions_of(options).items() if name in carried}
    if options.file is not None:
        if options.where or getattr(options, "fields", None):
            raise ConfigurationError("--where and --fields choose at the service: with --from, choose in the file")
        given = {**read_map(options.map), **definitions}
        if options.timezone is not None:
            given["timezone"] = options.timezone
        frame = opp.adopt(options.file, stages=read_stages(options), as_of=options.as_of, **given)
    else:
        full = getattr(options, "full", False)
        frame = opp.read_opportunities(
            opp.connect(options.url, read_only=True, deadline_s=options.deadline),
            where=read_conditions(options.where) or None,
            stages=read_stages(options),
            timezone=options.timezone,
            progress=False if options.quiet or options.json else None,
            fields=read_list(getattr(options, "fields", None)),
            history=None if full else history_of(options),
            partitions=options.partitions,
            **definitions,
        )
    output.loaded(frame)
    return frame


def check_folder(path: Path) -> None:
    """Find out before the load, which may take long, whether there is a folder to write to."""
    if not path.resolve().parent.is_dir():
        raise ConfigurationError(f"-o {path}: there is no folder {path.parent}; make it first")
