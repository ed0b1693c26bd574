"""What is typed after an option, as values: conditions, quotas, stages."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas._files import read_texts
from opp_pandas.errors import ConfigurationError, named, printable
from opp_pandas.figures.core.periods import WeekCalendar
from opp_pandas.kinds import INSTANT
from opp_pandas.load.custom_field_values import read_boolean
from opp_pandas.parsing.dates import parse_date
from opp_pandas.parsing.numbers import parse_number
from opp_pandas.resource import COLUMN_DTYPES
from opp_pandas.stages import StageMap

if TYPE_CHECKING:
    import pandas as pd


def read_conditions(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` words as the conditions of `read_opportunities`.

    ``owner=7``; ``close_date=2026-10-01..2026-12-31`` with either end left out;
    ``next_step=`` for missing. A name given twice means any of the two.

    Examples
    --------
    >>> read_conditions(["owner=7", "owner=9", "amount=1.2k..", "close_date=..12/31/2026", "next_step="])
    {'owner': [7, 9], 'amount': (1200, None), 'close_date': (None, '2026-12-31'), 'next_step': None}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise ConfigurationError(f"--where {printable(text)!r}: a condition reads NAME=VALUE, such as owner=7")
        name, value = name.strip(), value.strip()
        start, dots, end = value.partition("..")
        condition = (_typed(name, start), _typed(name, end)) if dots else _typed(name, value)
        found.setdefault(name, []).append(condition)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _typed(name: str, text: str) -> Any:
    """Return a number or a yes for a column that holds such."""
    if not text:
        return None
    dtype = COLUMN_DTYPES.get(name, "Int64" if name in ("owner", "stage", "account", "creator", "updater") else "str")
    problem = "is true or false"
    try:
        if dtype == "Int64":
            number = parse_number(text)
            if number == int(number):
                return int(number)
            problem = "is a whole number"
        elif dtype == INSTANT:
            moment = parse_date(text, "UTC")
            # Days stay days, so that they are days of the zone, and moments stay as they were written.
            return moment.date().isoformat() if moment == moment.normalize() and ":" not in text else text
        elif dtype != "boolean":
            return text
        elif (answer := read_boolean(text)) is not None:
            return answer
    except ValueError as error:
        problem = f"{printable(repr(text), 60)} {error}"
    raise ConfigurationError(f"--where {name}={printable(text)}: {name} {problem}")


def read_list(text: str | None) -> list[str] | None:
    """Read names with commas between them; None where nothing was said.

    Examples
    --------
    >>> read_list("headline, largest"), read_list(None)
    (['headline', 'largest'], None)
    """
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def read_quota(texts: Sequence[str] | None) -> Any:
    """Read quotas: one number, ``GROUP=NUMBER`` words, or a CSV file of period, group and quota.

    Examples
    --------
    >>> read_quota(["$1,200,000"]), read_quota(["Sam Lee=400k", "Ana Ruiz=350000"])
    (1200000.0, {'Sam Lee': 400000.0, 'Ana Ruiz': 350000.0})
    """
    if not texts:
        return None
    if len(texts) == 1 and texts[0].lower().endswith(".csv"):
        frame = read_texts(Path(texts[0]))
        if "quota" not in frame.columns:
            raise ConfigurationError(
                f"--quota {texts[0]}: the columns are period, group and quota (the first two where they differ); "
                f"the file has {named(map(str, frame.columns))}"
            )
        return frame.assign(quota=[_number(str(quota)) for quota in frame["quota"]])
    if len(texts) == 1 and "=" not in texts[0]:
        return _number(texts[0])
    quotas = {}
    for text in texts:
        group, sign, number = text.rpartition("=")
        if not sign:
            raise ConfigurationError(f"--quota {printable(text)!r}: several quotas read GROUP=NUMBER each")
        quotas[group.strip()] = _number(number)
    return quotas


def _read_json(option: str, path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{option} {path}: the file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{option} {path}: this is no JSON: {error}") from error


def _number(text: str, option: str = "--quota") -> float:
    try:
        return float(parse_number(text.replace("_", "")))
    except ValueError as error:
        raise ConfigurationError(f"{option} {printable(text)!r} {error}") from None


def read_stages(options: argparse.Namespace) -> StageMap | None:
    """Read what the stages mean from ``--stages FILE``, or from ``--won`` and ``--lost``."""
    if options.stages is None:
        return StageMap(won=options.won, lost=options.lost) if options.won or options.lost else None
    if options.won or options.lost:
        raise ConfigurationError("--stages says all about the stages; leave --won and --lost out")
    given = _read_json("--stages", options.stages)
    known = ("order", "won", "lost", "probability", "category")
    if not isinstance(given, dict) or (unknown := [key for key in given if key not in known]):
        words = f"; not {named(unknown)}" if isinstance(given, dict) else ""
        raise ConfigurationError(f"--stages {options.stages}: an object with {named(known)} is expected{words}")
    return StageMap(**given)


def read_pairs(text: str) -> dict[str, str]:
    """Read ``WORD=MEANING`` words with commas between them.

    Examples
    --------
    >>> read_pairs("Best=best_case, Sure=commit")
    {'Best': 'best_case', 'Sure': 'commit'}
    """
    found = {}
    for part in text.split(","):
        word, sign, meaning = part.partition("=")
        if not sign or not word.strip() or not meaning.strip():
            raise ConfigurationError(f"{printable(part)!r}: WORD=MEANING is expected, with commas between several")
        found[word.strip()] = meaning.strip()
    return found


def read_rates(text: str) -> dict[str, float] | pd.DataFrame:
    """Read exchange rates: ``EUR=1.08,GBP=1.27``, or a CSV file of currency, start and rate.

    Examples
    --------
    >>> read_rates("EUR=1.08,GBP=1.27")
    {'EUR': 1.08, 'GBP': 1.27}
    """
    if text.lower().endswith(".csv"):
        table = read_texts(Path(text))
        if "rate" in table.columns:
            table["rate"] = [_number(str(rate), "--rates") for rate in table["rate"]]
        return table
    try:
        return {code: float(rate) for code, rate in read_pairs(text).items()}
    except ValueError:
        raise ConfigurationError(f"--rates {printable(text)!r}: a rate is a number, such as EUR=1.08") from None


def read_calendar(text: str) -> WeekCalendar:
    """Read a calendar of whole weeks: ``4-4-5``, with the week's first day and the rule after commas.

    Examples
    --------
    >>> read_calendar("4-4-5,MON").week_start
    'MON'
    """
    pattern, *more = [part.strip() for part in text.split(",")]
    try:
        first, second, third = (int(part) for part in pattern.split("-"))
    except ValueError:
        raise ConfigurationError(f"--calendar {printable(text)!r}: weeks read 4-4-5, 4-5-4 or 5-4-4") from None
    settings: dict[str, Any] = {"rule" if part.islower() else "week_start": part for part in more}
    return WeekCalendar((first, second, third), **settings)


def read_map(path: Path | None) -> dict[str, Any]:
    """Read what ``--map`` says of a file: its columns, or arguments of `adopt` with the columns among them."""
    if path is None:
        return {}
    given = _read_json("--map", path)
    if not isinstance(given, dict):
        raise ConfigurationError(f"--map {path}: an object is expected, from column of the file to ours")
    return given if isinstance(given.get("columns"), dict) else {"columns": given}
