"""Opportunities from anywhere: a CSV, another CRM's export, any frame.

The columns are found, the cells read into the dtypes of the schema, and the
rows wait to be created. Nothing is dropped: what cannot be read is missing in
the frame, kept in the baseline, locked against writing and listed in the load
report.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd

from opp_pandas.adoption.cells import (
    read_amounts,
    read_integers,
    read_probabilities,
    read_tags,
    read_texts,
)
from opp_pandas.adoption.column_names import ColumnPlan, plan_columns
from opp_pandas.adoption.files import read_table
from opp_pandas.adoption.notes import gap_notes, stage_notes, stages_by_flags
from opp_pandas.errors import (
    ConfigurationError,
    DuplicateRowsError,
    FrameError,
    InvalidFrameError,
    InvalidValuesWarning,
    MissingColumnError,
    named,
)
from opp_pandas.figures.core.basis import counted
from opp_pandas.figures.core.context import read_definitions
from opp_pandas.frame_state import CellMarks, Loaded, Rows, attach_loaded, freeze, loaded_of
from opp_pandas.instants import parse_end
from opp_pandas.kinds import INSTANT, INTEGER, TEXT, kind_of_dtype
from opp_pandas.load_report import LoadReport
from opp_pandas.parsing.dates import parse_dates
from opp_pandas.parsing.names import fold_name, match_names
from opp_pandas.parsing.reading import Conventions, Reading
from opp_pandas.resource import COLUMN_DTYPES
from opp_pandas.schema import check_shape, failure_table, find_failures
from opp_pandas.stages import StageMap, resolve_stages
from opp_pandas.timezones import check_zone

if TYPE_CHECKING:
    from collections.abc import Hashable

    from opp_pandas.accessor import OpportunityFrame
    from opp_pandas.choices import Duplicates, FiscalLabel, OnInvalid, ProbabilitySource
    from opp_pandas.figures.core.money import Rates
    from opp_pandas.figures.core.periods import WeekCalendar

Unit = Literal["percent", "fraction"]
CORE_COLUMNS = (
    "id", "name", "amount", "currency_type", "probability", "close_date", "stage_name", "owner_name", "account_name",
    "custom_id", "external_created_at",
)  # fmt: skip
"""The columns that every adopted frame has, missing where the file has none."""

_OF_A_DEAL = ("name", "stage_name", "owner_name", "close_date")


def adopt(
    frame: pd.DataFrame | str | os.PathLike[str],
    columns: Mapping[Any, Any] | None = None,
    *,
    stages: StageMap | None = None,
    probability_unit: Unit | None = None,
    timezone: str | None = None,
    as_of: Any = None,
    currency: str | None = None,
    fiscal_start: int | None = None,
    fiscal_label: FiscalLabel | None = None,
    calendar: WeekCalendar | None = None,
    rates: Rates | None = None,
    probability: ProbabilitySource | None = None,
    duplicates: Duplicates = "error",
    dayfirst: bool | None = None,
    date_format: str | Mapping[str, str] | None = None,
    decimal: Literal[".", ","] | None = None,
    thousands: str | None = None,
    on_invalid: OnInvalid = "warn",
) -> OpportunityFrame:
    """Take any table of opportunities into the columns and dtypes of this package.

    Parameters
    ----------
    frame : DataFrame, shape (n, k), or path
        An export of Salesforce or HubSpot, any table with a row per deal; never
        modified. Of a path, a ``.csv``, ``.tsv`` or ``.txt`` (with commas,
        semicolons, tabs or ``|``), the first sheet of an ``.xlsx``, or a
        ``.parquet`` is read; keys such as 007 stay as they are.
    columns : mapping of source name to column name, optional
        Source to ours, as `DataFrame.rename` does. Columns not named are
        recognised where their name leaves no doubt (``Close Date``,
        ``StageName``, ``property_dealname``); all others stay as they are and
        are never sent. To leave a recognised column alone, map it to its own
        name; to leave a column out, map it to None.
    stages : StageMap, optional
        Which stages are won and lost, their order and percentages. Without it
        they are read from the export's own flags (``IsWon``, ``IsClosed``), else
        guessed from the stages' names, and figures say so.
    probability_unit : {"percent", "fraction"}, optional
        What bare numbers in the probability column are. Needed as soon as all
        of them lie between 0 and 1. Text with ``%`` is percent in any case.
    timezone : str, optional
        Zone of calendar days and of times that name none, such as
        ``"America/New_York"``. Without one: UTC, and figures say so.
    as_of : str, date or Timestamp, optional
        The moment the file speaks of; a day means its end in the zone. Default: now.
    currency : str, optional
        ISO code of the amounts that name no currency of their own.
    fiscal_start, fiscal_label, calendar, rates, probability
        How time is cut and what amounts mean, as every figure takes them, said
        once: they travel with the frame, and a figure's own arguments overrule them.
    duplicates : {"error", "keep"}
        What to do about keys that stand more than once.
    dayfirst : bool, optional
        Whether 03/04/2026 is the third of April. Needed when a column holds
        such dates and none of them proves the order.
    date_format : str or mapping of column to str, optional
        How dates are written where they cannot be told apart otherwise: a format
        of `strptime` such as ``"%y-%m-%d"`` for 20-10-16, or ``"excel"`` for
        serial days such as 46387. A mapping names columns of the file, or ours.
    decimal : {".", ","}, optional
        The decimal mark. Needed, this or `thousands`, when a column holds
        numbers such as 1,250 and nothing else in it proves what the comma is.
    thousands : {",", ".", " ", "'"}, optional
        The mark between groups of three digits.
    on_invalid : {"warn", "raise", "ignore"}
        What to do about cells that could not be read or break the schema; they
        are listed in ``df.opp.load_report.failures``, and no row is dropped.

    Returns
    -------
    DataFrame, shape (n, c)
        The columns of `CORE_COLUMNS`, further known ones, then the file's own;
        with the index of `frame` if its labels are unique. ``id`` is missing:
        the rows wait to be created. The source's key is text in ``custom_id``.
        Stages and owners that differ from others, or from `stages`, by case or
        blanks alone are those, and the notes count them.
        Amounts are whole units, halves rounded away from zero; where there are
        cents, ``amount_precise`` holds the exact text, and figures use it.
        Probabilities are whole percent: 0.333 becomes 33, is listed as a
        failure, and the notes say by how much that moves the weighted amount.
        ``df.opp.load_report`` lists what became of every column, every cell that
        could not be read or breaks a rule, and what the file lacks.

    Raises
    ------
    FrameError
        If `frame` has no columns, columns on several levels, or was loaded from
        the service; or if `columns` sends two source columns to one, or one to
        the name of a column that stays.
    DuplicateRowsError
        If a column name stands twice, or a key does and `duplicates` is ``"error"``.
    MissingColumnError
        If `columns` names a source column that is not there.
    ConfigurationError
        If an argument cannot be used or the file proves it wrong, or the file
        can be read in two ways: fractions or percent, day or month first,
        thousands or decimals. The error shows both readings, and the argument
        that settles it.
    InvalidFrameError
        With ``on_invalid="raise"``, if a cell could not be read or breaks a rule.

    Warns
    -----
    InvalidValuesWarning
        With ``on_invalid="warn"``, once, if cells could not be read or break a
        rule of the schema.

    Examples
    --------
    >>> deals = pd.DataFrame(
    ...     {"Deal": ["Acme"], "Amount": ["$1,234.50"], "Probability": [0.6], "Close Date": ["2026-12-31"]}
    ... )
    >>> df = adopt(deals, {"Deal": "name"}, probability_unit="fraction", timezone="America/New_York")
    >>> print(df[["name", "amount", "amount_precise", "probability", "close_date"]].T)
                                        0
    name                             Acme
    amount                           1235
    amount_precise                1234.50
    probability                        60
    close_date  2026-12-31 05:00:00+00:00
    """
    started = time.perf_counter()
    path = Path(frame) if isinstance(frame, str | os.PathLike) else None
    source = _checked_source(frame if path is None else read_table(path))
    _check_arguments(stages, probability_unit, duplicates, on_invalid)
    conventions = Conventions(decimal, thousands, dayfirst, date_format)
    zone = check_zone(timezone) if timezone is not None else None
    moment = pd.Timestamp.now("UTC").as_unit("us") if as_of is None else parse_end(as_of, zone)
    code = _checked_currency(currency)
    definitions = read_definitions(
        fiscal_start=fiscal_start, fiscal_label=fiscal_label, calendar=calendar, rates=rates, currency=code,
        probability=probability,
    )  # fmt: skip
    plan = plan_columns(source, columns)

    reader = _Reader(source, plan, zone or "UTC", probability_unit, conventions, ask_doubled=duplicates == "error")
    reader.read_all()
    reader.match_names(stages)
    if code is not None:
        reader.fill_currency(code)
    adopted = reader.frame()
    doubled = _doubled_keys(adopted, duplicates)
    said, origin = (stages, "") if stages is not None else stages_by_flags(adopted)
    table = resolve_stages(said, None, [str(name) for name in adopted["stage_name"].dropna().unique()])
    notes = [*reader.notes, *stage_notes(adopted, stages, table, origin), *gap_notes(adopted, plan, zone, code)]
    if len(doubled):
        notes.append(f"rows of keys that stand more than once were kept: {named(doubled['key'])}")
    report = LoadReport(
        source="an adopted frame" if path is None else path.name,
        rows=len(adopted),
        failures=reader.failures(adopted),
        duplicates=doubled,
        columns=plan.table(),
        notes=tuple(notes),
        elapsed_s=time.perf_counter() - started,
    )
    loaded = Loaded(
        kind="adopt",
        baseline=Rows(freeze(adopted), CellMarks(reader.original, reader.locked)),
        stages=table,
        lookups={},
        timezone=zone,
        as_of=moment,
        report=report,
        created={label: place for place, label in enumerate(adopted.index)},
        definitions=definitions,
    )
    if len(report.failures) and on_invalid == "raise":
        raise InvalidFrameError(report.failures)
    if len(report.failures) and on_invalid == "warn":
        _warn(report)
    return cast("OpportunityFrame", attach_loaded(adopted, loaded))


# --- arguments --------------------------------------------------------------------------------------------------------


def _checked_source(frame: object) -> pd.DataFrame:
    source = check_shape(frame, id_required=False)
    if not len(source.columns):
        raise FrameError("this frame has no columns, so there is nothing to adopt")
    loaded = loaded_of(source)
    if loaded is not None and loaded.kind == "read":
        raise FrameError(
            "these opportunities were loaded from the service and are known there: adopting them would create "
            "them a second time. Use the frame as it is, or df.opp.attach(original)"
        )
    return source


def _check_arguments(stages: object, probability_unit: object, duplicates: object, on_invalid: object) -> None:
    if stages is not None and not isinstance(stages, StageMap):
        raise ConfigurationError("stages= is a StageMap: StageMap(order=[...], won=[...], lost=[...])")
    if probability_unit not in (None, "percent", "fraction"):
        raise ConfigurationError(f"probability_unit= is 'percent' or 'fraction', not {probability_unit!r}")
    if duplicates not in ("error", "keep"):
        raise ConfigurationError(f"duplicates= is 'error' or 'keep', not {duplicates!r}")
    if on_invalid not in ("warn", "raise", "ignore"):
        raise ConfigurationError(f"on_invalid= is 'warn', 'raise' or 'ignore', not {on_invalid!r}")


def _checked_currency(currency: str | None) -> str | None:
    if currency is None:
        return None
    if not isinstance(currency, str) or not (len(currency) == 3 and currency.isalpha() and currency.isascii()):
        raise ConfigurationError(f"currency= is an ISO code of three letters such as 'USD', not {currency!r}")
    return currency.upper()


# --- cells ------------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads the planned columns, and remembers every cell that could not be taken as it stood."""

    def __init__(
        self,
        source: pd.DataFrame,
        plan: ColumnPlan,
        zone: str,
        unit: Unit | None,
        conventions: Conventions,
        *,
        ask_doubled: bool,
    ) -> None:
        self.ask_doubled = ask_doubled
        self.source, self.plan, self.zone, self.unit, self.conventions = source, plan, zone, unit, conventions
        self.columns: dict[str, Any] = {}
        self.raw: dict[str, pd.Series] = {}
        self.cases: list[tuple[str, int, str]] = []
        self.locked: dict[tuple[int, str], str] = {}
        self.original: dict[tuple[int, str], Any] = {}
        self.notes: list[str] = []
        self._exact_percent: dict[int, Decimal] = {}

    def read_all(self) -> None:
        formats = self.conventions.date_format
        dates = [(c, label) for c, label in self.plan.taken.items() if COLUMN_DTYPES[c] == INSTANT]
        if isinstance(formats, Mapping) and (unknown := [n for n in formats if not any(n in pair for pair in dates)]):
            raise MissingColumnError(unknown, [label for _, label in dates], "date_format= names columns with dates")
        questions = []
        for column, label in self.plan.taken.items():
            try:
                reading = self._read(column, self.source[label], self.conventions.of_column(column, label))
                reading.require_settled(column if column == label else f"{column} (column {label!r})")
            except ConfigurationError as question:
                questions.append(str(question))
                continue
            self._take(column, self.source[label], reading)
        if questions:
            raise ConfigurationError("; ".join([*questions, *self._doubled_key_question()]))
        if self.plan.key_in_index:
            keys = self.source.index.to_series()
            self._take("custom_id", keys, _settled_keys(read_texts(keys)))
            self.notes.append(f"custom_id was taken from the index {self.source.index.name!r}")
        if self._exact_percent:
            self.notes.append(self._rounding_note())
        self._remark_footer()

    def _remark_footer(self) -> None:
        """Remark rows at the end that say nothing of a deal, as reports end in totals and remarks."""
        missing = [pd.isna(pd.Series(self.columns[name])) for name in _OF_A_DEAL if name in self.columns]
        if "name" in self.columns and len(missing) > 1:
            says = np.flatnonzero(~np.logical_and.reduce(missing))
            rule = "a row at the end without name, stage, owner and date: is it a deal?"
            # Where no row says anything, it is the way of the file.
            first = says[-1] + 1 if len(says) else len(self.source)
            self.cases += [("name", place, rule) for place in range(first, len(self.source))]

    def _doubled_key_question(self) -> list[str]:
        """Ask about keys that stand twice along with the rest, so that a file asks once."""
        keys = pd.Series(self.columns.get("custom_id", [])).dropna()
        doubled = self.ask_doubled and keys.duplicated().any()
        return ["keys stand more than once: drop what is double, or pass duplicates='keep'"] if doubled else []

    def _read(self, column: str, values: pd.Series, conventions: Conventions) -> Reading:
        dtype = COLUMN_DTYPES[column]
        if column == "amount":
            return self._read_amount(values, conventions)
        if column == "probability":
            reading, self._exact_percent = read_probabilities(values, self.unit, conventions)
            return reading
        if column == "custom_id":
            return _settled_keys(read_texts(values))
        if column == "tags":
            return read_tags(values)
        if dtype == INSTANT:
            return parse_dates(values, self.zone, conventions)
        kind = kind_of_dtype(dtype)
        if kind is INTEGER:
            return read_integers(values, conventions)
        return read_texts(values) if kind is None or kind is TEXT else Reading(*kind.read_column(values))

    def _read_amount(self, values: pd.Series, conventions: Conventions) -> Reading:
        reading, precise, currencies = read_amounts(values, conventions)
        if precise is not None:
            self._fill("amount_precise", precise.values)
        if currencies:
            text = np.full(len(values), None, dtype=object)
            text[list(currencies)] = list(currencies.values())
            self._fill("currency_type", pd.array(text, dtype="str"))
            found = sorted(set(currencies.values()))
            self.notes.append(f"{len(currencies):,} amounts name their currency themselves: {named(found)}")
        return reading

    def _fill(self, column: str, values: Any) -> None:
        """Put `values` where the column has none; what the file says in a column of its own goes first."""
        fresh = pd.Series(values)
        known = self.columns.get(column)
        self.columns[column] = fresh.array if known is None else pd.Series(known).fillna(fresh).array

    def _take(self, column: str, values: pd.Series, reading: Reading) -> None:
        self.raw[column] = values
        if column in self.columns:
            derived = self.columns.pop(column)
            self.columns[column] = reading.values
            self._fill(column, derived)
        else:
            self.columns[column] = reading.values
        for place, rule in reading.refused.items():
            self.locked[place, column] = rule
            self.cases.append((column, place, rule))
            self.original[place, column] = values.iloc[place]
        for place, rule in reading.remarked.items():
            self.cases.append((column, place, rule))
            self.original[place, column] = values.iloc[place]
        self.notes += [f"{column}: {note}" for note in reading.notes]

    def match_names(self, stages: StageMap | None) -> None:
        """Take names that differ by case or blanks alone as one: as `stages` writes it, else as most rows do."""
        for column in ("stage_name", "owner_name"):
            if column not in self.columns:
                continue
            names = pd.Series(self.columns[column])
            counts = names.value_counts()
            known = [key for key in stages.keys if isinstance(key, str)] if stages and column == "stage_name" else []
            usual = {fold_name(name): " ".join(name.split()) for name in reversed(counts.index)}
            known += [name for folded, name in usual.items() if folded not in set(map(fold_name, known))]
            matched = match_names(counts.index, known)
            if matched:
                self.columns[column] = names.replace(matched).array
            self.notes += [
                f"{column}: {name!r} read as {other!r}, {counted(int(counts[name]), 'deal')}"
                for name, other in matched.items()
            ]

    def fill_currency(self, code: str) -> None:
        self._fill("currency_type", pd.array([code] * len(self.source), dtype="str"))

    def _rounding_note(self) -> str:
        amounts = self.columns.get("amount")
        text = f"{len(self._exact_percent):,} probabilities were rounded to whole percent"
        if amounts is None:
            return text
        precise = self.columns.get("amount_precise")
        moved = Decimal(0)
        for place, exact in self._exact_percent.items():
            if pd.isna(amounts[place]):
                continue
            exact_text = None if precise is None or pd.isna(precise[place]) else str(precise[place])
            amount = Decimal(exact_text if exact_text is not None else int(amounts[place]))
            moved += amount * (int(self.columns["probability"][place]) - exact) / 100
        return f"{text}; summed over all rows that moves amount x probability by {moved:+,.2f}"

    def frame(self) -> pd.DataFrame:
        """Return the columns in order, under the source's index if that is unique."""
        count = len(self.source)
        present = [name for name in COLUMN_DTYPES if name in self.columns and name not in CORE_COLUMNS]
        columns: dict[Hashable, Any] = {}
        for name in (*CORE_COLUMNS, *present):
            columns[name] = self.columns[name] if name in self.columns else _missing(COLUMN_DTYPES[name], count)
        for label, final in self.plan.extras.items():
            columns[final] = self.source[label].array
        index = self.source.index
        if not index.is_unique:
            self.notes.append("the labels of the index are not unique; rows were numbered instead")
            index = pd.RangeIndex(count)
        return pd.DataFrame(columns, index=index)

    def failures(self, adopted: pd.DataFrame) -> pd.DataFrame:
        """List cells that were refused or changed, then those that break a rule."""
        places_of: dict[tuple[str, str], list[int]] = {}
        for column, place, rule in self.cases:
            places_of.setdefault((column, rule), []).append(place)
        listed = [(column, rule, np.array(sorted(places))) for (column, rule), places in places_of.items()]
        unread = failure_table({"id": adopted["id"], **self.raw}, adopted.index, listed)
        broken = find_failures(adopted)
        return pd.concat([part for part in (unread, broken) if len(part)], ignore_index=True) if len(unread) else broken


def _missing(dtype: str, count: int) -> Any:
    if dtype == INSTANT:
        return pd.DatetimeIndex(np.full(count, np.datetime64("NaT", "us"))).tz_localize("UTC").array
    return pd.Series([None] * count, dtype=dtype).array


def _settled_keys(reading: Reading) -> Reading:
    """Blank keys are missing; keys that all are whole numbers written 302.0 lose the .0."""
    keys = pd.Series(reading.values)
    blank = (keys.str.strip() == "").to_numpy(dtype=bool, na_value=False)
    if blank.any():
        keys = keys.mask(blank)
        reading.notes.append(f"{int(blank.sum()):,} rows have a blank key; it counts as missing")
    known = keys.dropna()
    if len(known) and known.str.fullmatch(r"\d+\.0+").all():
        keys = keys.str.replace(r"\.0+$", "", regex=True)
        reading.notes.append(f"keys like {known.iloc[0]!r} were read as {keys.dropna().iloc[0]!r}")
    reading.values = keys.array
    return reading


# --- keys, stages and what is missing ---------------------------------------------------------------------------------


def _doubled_keys(adopted: pd.DataFrame, duplicates: str) -> pd.DataFrame:
    """Return the keys that stand more than once as ``key, rows, kept``, or raise."""
    keys = adopted["custom_id"]
    doubled = keys[keys.notna() & keys.duplicated(keep=False)]
    if not len(doubled):
        return LoadReport().duplicates
    rows_of = {key: list(labels) for key, labels in doubled.groupby(doubled, sort=False).groups.items()}
    if duplicates == "error":
        first = next(iter(rows_of))
        raise DuplicateRowsError(
            f"{len(rows_of):,} keys stand more than once: {named(rows_of)} (rows of {named([first])}: "
            f"{named(rows_of[first])}). Drop what is double, or pass duplicates='keep' where each row is its own deal",
            rows_of,
        )
    return pd.DataFrame(
        {
            "key": list(rows_of),
            "rows": pd.Series(list(rows_of.values()), dtype=object),
            "kept": [len(r) for r in rows_of.values()],
        }
    )


def _warn(report: LoadReport) -> None:
    counts = report.failures["column"].value_counts()
    words = ", ".join(f"{column} {count}" for column, count in counts.head(5).items())
    text = f"cells that could not be read or break a rule: {words}; see df.opp.load_report.failures"
    warnings.warn(text, InvalidValuesWarning, stacklevel=3)
