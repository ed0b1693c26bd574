"""The columns of a frame as arrays: what every figure counts and sums.

One `Deals` reads a frame once. Status, stage, category and close day become
small integers, so that a figure is a handful of `numpy.bincount` over combined
codes; nothing is grouped by text or by period objects.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import (
    ConfigurationError,
    FrameError,
    MissingColumnError,
    UnmappedStageWarning,
    named,
)
from opp_pandas.figures.core.blocks import blocks, count_codes, look_up, smallest_integer
from opp_pandas.figures.core.columns import (
    Numbers,
    factorize,
    map_distinct,
    map_integers,
    read_numbers,
    read_numbers_of_text,
    rows_that_may_start_with,
)
from opp_pandas.figures.core.context import FigureContext
from opp_pandas.figures.core.days import (
    NO_DAY,
    CodedDays,
    Codes,
    Days,
    Flags,
    Floats,
    Integers,
    SmallCodes,
    code_days,
    local_days,
    parse_day,
    to_date,
)
from opp_pandas.figures.core.money import CurrencyCounts
from opp_pandas.figures.core.probabilities import ChanceModel, fractions_of
from opp_pandas.frame_state import meaning_of
from opp_pandas.stages import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opp_pandas.figures.core.money import ExchangeRates, MoneySpec, Rates

OPEN, WON, LOST, UNSETTLED, TRASHED = range(5)
"""What a deal is: the codes of its status."""
_STATUS_CODES = {"open": OPEN, "won": WON, "lost": LOST, "closed": UNSETTLED, "unknown": UNSETTLED}
LEFT_OUT, STANDINGS = 5, 6
"""Open and omitted from the forecast, where a deal's standing is asked; how many standings there are."""
CLOSED, COMMIT, BEST_CASE, PIPELINE, OMITTED = range(5)
NO_CATEGORY = -1
_CATEGORY_WORDS = {
    "closed": CLOSED,
    "closedwon": CLOSED,
    "won": CLOSED,
    "commit": COMMIT,
    "committed": COMMIT,
    "bestcase": BEST_CASE,
    "upside": BEST_CASE,
    "pipeline": PIPELINE,
    "omitted": OMITTED,
    "omit": OMITTED,
}
_TOLD: ContextVar[bool] = ContextVar("told of stages that nobody called open, won or lost", default=False)


def warn_of_unmapped_stages(unsettled: Mapping[str, int]) -> None:
    """Warn of deals that stand outside every figure; `unsettled` says how many, by stage."""
    words = ", ".join(f"{name} ({count})" for name, count in unsettled.items())
    warnings.warn(
        f"{sum(unsettled.values())} deals are in stages that nobody called open, won or lost and stand outside every "
        f"figure: {words}. Say which with opp.StageMap(won=[...], lost=[...])",
        UnmappedStageWarning,
        stacklevel=2,
    )


@contextmanager
def suppress_unmapped_stages() -> Iterator[None]:
    """Warn no more of them inside a ``with`` block: whoever reads the figures is told in another way.

    For this thread alone, unlike a filter of `warnings`: a notebook's widgets may
    be answered beside its cells, and neither must silence the other.
    """
    token = _TOLD.set(True)
    try:
        yield
    finally:
        _TOLD.reset(token)


@dataclass(frozen=True, eq=False)
class Deals:
    """A frame's columns as arrays, each read when first asked for; the frame is never modified."""

    frame: pd.DataFrame
    context: FigureContext

    def __post_init__(self) -> None:
        if not isinstance(self.context, FigureContext):
            raise ConfigurationError("context must be a FigureContext: stages, as_of, timezone")
        columns = self.frame.columns
        if not columns.is_unique:
            doubled = columns[columns.duplicated()].unique()
            raise FrameError(f"column names stand twice: {named(doubled)}; keep one of each")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def money(self) -> MoneySpec:
        """What amounts and percentages mean."""
        return self.context.money

    def has(self, column: str) -> bool:
        """Whether the frame has a column."""
        return column in self.frame.columns

    def coded(self, column: str) -> tuple[SmallCodes, pd.Index]:
        """Code a column; asked for twice, it is coded once."""
        kept: dict[str, tuple[SmallCodes, pd.Index]] = self.__dict__.setdefault("_coded", {})
        if column not in kept:
            kept[column] = factorize(self.frame[column])
        return kept[column]

    def need(self, *columns: str, hint: str = "") -> None:
        """Raise if the frame lacks one of `columns`."""
        missing = [column for column in columns if column not in self.frame.columns]
        if missing:
            raise MissingColumnError(missing, list(self.frame.columns), hint)

    @cached_property
    def stage(self) -> npt.NDArray[np.int16]:
        """Position of the stage in the table; -1 no stage, -2 one that is not in the table."""
        if not (self.has("stage_id") or self.has("stage_name")):
            raise MissingColumnError(
                ["stage_id"],
                list(self.frame.columns),
                "Figures need stage_id or stage_name to tell open, won and lost.",
            )
        if not self.has("stage_id"):
            return self._stage_by("stage_name")
        codes = self._stage_by("stage_id")
        if not self.has("stage_name"):
            return codes
        if self.context.stages.frame["stage_id"].isna().all():
            # Without the look-up of a load nobody said which id is which stage: only the names tell.
            by_name = self._stage_by("stage_name")
            return np.where(by_name == -1, codes, by_name)
        # The names of those alone that lack an id: text is read a hundred times slower than ids.
        without = np.flatnonzero(codes == -1)
        if len(without):
            codes[without] = self._stage_by("stage_name", without)
        return codes

    def _stage_by(self, column: str, rows: Codes | slice = slice(None)) -> npt.NDArray[np.int16]:
        stages, cells = self.context.stages, self.frame[column]
        low, table = stages.positions_from
        if column == "stage_id" and len(table) and pd.api.types.is_integer_dtype(cells.dtype):
            return map_integers(cells, low, table, otherwise=-2)
        return map_distinct(cells, lambda values: stages.positions(values).astype(np.int16), -1, rows)

    @cached_property
    def status(self) -> npt.NDArray[np.int8]:
        """OPEN, WON, LOST, UNSETTLED or TRASHED; deals without a stage are open. Unsettled ones warn."""
        known = [_STATUS_CODES[status] for status in self.context.stages.status]
        # Negative codes count from the end: -2 an unknown stage, -1 none at all.
        status = look_up(np.array([*known, UNSETTLED, OPEN], dtype=np.int8), self.stage)
        if self.has("trashed_at"):
            trashed = self.frame["trashed_at"].notna().to_numpy()
            # The highest status there is.
            np.maximum(status, np.int8(TRASHED) * trashed.view(np.int8), out=status)
        if (status == UNSETTLED).any() and not _TOLD.get():
            warn_of_unmapped_stages(self.unsettled_stages(status == UNSETTLED))
        return status

    def unsettled_stages(self, unsettled: Flags) -> dict[str, int]:
        """Count the deals per stage whose outcome nobody stated."""
        names = self.context.stages.frame["stage_name"].astype(object)
        codes, counts = np.unique(self.stage[unsettled], return_counts=True)
        found: dict[str, int] = {}
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            name = "not in the stage table" if code < 0 else str(names.iloc[code])
            found[name] = found.get(name, 0) + count
        return found

    @cached_property
    def standing(self) -> npt.NDArray[np.int8]:
        """The status, but LEFT_OUT for open deals that somebody omitted from the forecast."""
        if self.omitted is None:
            return self.status
        return np.where(self.omitted, np.int8(LEFT_OUT), self.status)

    @cached_property
    def own_amounts(self) -> Numbers:
        """Amounts in the currency of each deal."""
        whole, precise = self._whole_amounts, self._precise_amount
        if precise is None:
            return whole.in_cents()
        # An amount edited by a user leaves its exact twin behind: the cents count only where both agree.
        amounts = np.where(self._apart < 1, precise, whole.floats)
        load = meaning_of(self.frame)
        # Exact amounts may come without whole ones; from a load that had none such, a user left the twin behind.
        if whole.missing is not None and (load is None or load.exact_amounts_alone):
            amounts[whole.missing] = precise[whole.missing]
        return Numbers.of(amounts).in_cents()

    @cached_property
    def _whole_amounts(self) -> Numbers:
        self.need("amount", hint="Figures sum amounts.")
        return read_numbers(self.frame["amount"])

    @cached_property
    def _apart(self) -> Floats:
        """How far the exact amount of every deal is from the whole one; NaN where one of them is missing."""
        precise = self._precise_amount
        return np.full(len(self), np.nan) if precise is None else np.abs(precise - self._whole_amounts.floats)

    @property
    def own_amount(self) -> Floats:
        """Amounts in the currency of each deal; NaN where missing."""
        return self.own_amounts.floats

    @cached_property
    def _precise_amount(self) -> Floats | None:
        texts = self.frame["amount_precise"] if self.has("amount_precise") else None
        return None if texts is None or not texts.notna().any() else read_numbers_of_text(texts)

    @cached_property
    def n_contradicting_amounts(self) -> int:
        """Deals whose exact amount differs from the whole one by a unit or more; the whole one counts."""
        return int(np.count_nonzero(self._apart >= 1)) if self._precise_amount is not None else 0

    @cached_property
    def amounts(self) -> Numbers:
        """Amounts in one currency; raises where the deals name several, or some name none, and no rates were given."""
        if self.money.exchange is not None:
            return Numbers.of(self.converted(self.money.exchange))
        own = self.own_amounts
        self.currencies.require_one()
        return own

    def converted(self, into: ExchangeRates, day: int | None = None) -> Floats:
        """Return the amounts in the base currency, at the rates of one `day` or of the day of each deal."""

        def chosen(rule: str) -> Days:
            if rule == "as_of":
                return np.full(len(self), self.context.today, dtype=np.int32)
            if rule == "close":
                # Undated deals have no rate of their own day: the present one is the nearest honest choice.
                return np.where(self.close_day == NO_DAY, np.int32(self.context.today), self.close_day)
            return np.full(len(self), parse_day(rule), dtype=np.int32)

        codes, names = self.currency_codes
        if day is None:
            days = np.where(self.status == OPEN, chosen(into.open_date), chosen(into.won_date))
        else:
            days = np.full(len(self), day, dtype=np.int32)
        rates = np.full(len(self), np.nan)
        for code, name in enumerate(names):
            rows = np.flatnonzero(codes == code)
            if name is not None and len(rows):
                rates[rows] = into.rate(name, days[rows])
        rows = np.flatnonzero(np.isnan(rates) & ~np.isnan(self.own_amount) & (self.status != TRASHED))
        if len(rows):
            words = sorted({names[code] or "(missing)" for code in codes[rows].tolist()})
            raise FrameError(
                f"{len(rows)} {'deal has' if len(rows) == 1 else 'deals have'} no exchange rate into {into.base} "
                f"on {'the day of the deal' if day is None else f'{to_date(day):%Y-%m-%d}'}: currency {named(words)}, "
                f"rows {named(self.frame.index[rows])}. Add the rates, or state the currency"
            )
        return np.asarray(self.own_amount * rates, dtype=np.float64)

    @property
    def amount(self) -> Floats:
        """Amounts in one currency; NaN where missing. Raises as `amounts` does."""
        return self.amounts.floats

    @cached_property
    def _currency_words(self) -> tuple[SmallCodes, list[str | None]]:
        """The currency that every deal names: code, and word by code; the last one is that of deals that name none."""
        if not self.has("currency_type"):
            return np.full(len(self), -1, dtype=np.int8), [None]
        codes, distinct = factorize(self.frame["currency_type"])
        return codes, [*(str(word).strip().upper() or None for word in distinct), None]

    @cached_property
    def currencies(self) -> CurrencyCounts:
        """Deals per currency among those that are not trashed and have an amount."""
        codes, words = self._currency_words
        size, missing = len(words), self.own_amounts.missing
        inside = self.status != TRASHED
        counts = count_codes(codes, -1, size, inside if missing is None else inside & ~missing)
        named: dict[str | None, int] = {}
        for word, n in zip(words, [*counts[1:].tolist(), int(counts[0])], strict=True):
            named[word] = named.get(word, 0) + n
        return CurrencyCounts(named, self.money.currency, self.has("currency_type"))

    @cached_property
    def currency_codes(self) -> tuple[SmallCodes, list[str | None]]:
        """The currency of every deal: code, and name by code (None: it names none)."""
        codes, words = self._currency_words
        filled = [word or self.currencies.organisation for word in words]
        names: list[str | None] = list(dict.fromkeys(filled))
        places = np.array([names.index(word) for word in filled], dtype=smallest_integer(len(names)))
        return look_up(places, codes), names

    @property
    def currency(self) -> str | None:
        """The currency that sums are in, if anybody named one."""
        return self.currencies.base if self.money.exchange is None else str(self.money.exchange.base)

    @cached_property
    def invalid_percents(self) -> Flags | None:
        """Which own percentages lie outside 0 to 100; None if none does."""
        own = self._own_percents
        return (own.values < 0) | (own.values > 100) if own.limits[0] < 0 or own.limits[1] > 100 else None

    @cached_property
    def _own_percents(self) -> Numbers:
        if not self.has("probability"):
            return Numbers.of(np.full(len(self), np.nan))
        return read_numbers(self.frame["probability"])

    @cached_property
    def stage_percents(self) -> Floats:
        """Chance of winning that the team gives the stage of every deal [percent]; NaN where it gives none."""
        by_stage = self.context.stages.frame["probability"].to_numpy(dtype=np.float64, na_value=np.nan)
        return look_up(np.append(by_stage, [np.nan, np.nan]), self.stage)

    @cached_property
    def _valid_percents(self) -> Numbers:
        own, invalid = self._own_percents, self.invalid_percents
        if invalid is None:
            return own
        missing = invalid if own.missing is None else own.missing | invalid
        return Numbers(np.where(invalid, 0, own.values), missing)

    @cached_property
    def percents(self) -> Numbers:
        """Chance of winning [percent]; missing where outside 0 to 100."""
        source = self.money.probability
        if isinstance(source, ChanceModel):
            return Numbers.of(100.0 * fractions_of(source, self.frame))
        own = self._valid_percents
        if source == "stage":
            return Numbers.of(self.stage_percents)
        if source == "own" or own.missing is None:
            return own
        return Numbers.of(np.where(own.missing, self.stage_percents, own.floats))

    @property
    def percent(self) -> Floats:
        """Chance of winning [percent]; NaN where missing or outside 0 to 100."""
        return self.percents.floats

    @cached_property
    def from_stage(self) -> Flags | None:
        """Which percentages are those of the stage; None if none is."""
        if self.money.probability not in ("stage", "own_else_stage"):
            return None
        known: Flags = ~np.isnan(self.stage_percents)
        return known if self.money.probability == "stage" else known & np.isnan(self._valid_percents.floats)

    @cached_property
    def close(self) -> CodedDays:
        """The close dates in the context's zone, coded by slots of time."""
        self.need("close_date", hint="Figures by period need it.")
        return code_days(self.frame["close_date"], self.context.timezone)

    @cached_property
    def slot_counts(self) -> Integers:
        """How many deals there are of every standing and slot of time in `close`, shape (STANDINGS, s)."""
        size = len(self.close.days)
        counts = np.zeros(STANDINGS * size, dtype=np.int64)
        for rows in blocks(len(self)):
            np.add.at(counts, self.standing[rows].astype(np.intp) * size + self.close.places[rows], 1)
        return counts.reshape(STANDINGS, size)

    @property
    def undated(self) -> Flags | None:
        """Which deals have no close date; None if none is so."""
        slots = np.flatnonzero(self.close.days == NO_DAY)
        return self.close.places == slots[0] if len(slots) else None

    @cached_property
    def close_day(self) -> Days:
        """Calendar day of the close date in the context's zone; `NO_DAY` where missing."""
        return look_up(self.close.days, self.close.places)

    @cached_property
    def created_day(self) -> Days:
        """Calendar day of creation: the outside system's where known, else the service's."""
        days = np.full(len(self), NO_DAY, dtype=np.int32)
        for column in ("created_at", "external_created_at"):
            if self.has(column):
                found = local_days(self.frame[column], self.context.timezone)
                days = np.where(found == NO_DAY, days, found)
        return days

    @cached_property
    def stated_category(self) -> npt.NDArray[np.int8] | None:
        """The category that somebody stated (column, else stage map); None if nobody ever did."""
        codes: npt.NDArray[np.int8] | None = None
        if self.has(self.money.category):
            by_row, words = self.coded(self.money.category)
            codes = look_up(np.append(self._categories_of(words), np.int8(NO_CATEGORY)), by_row)
        categories = self.context.stages.categories
        if any(categories):
            known = [NO_CATEGORY if word is None else CATEGORIES.index(word) for word in categories]
            of_stage = look_up(np.array([*known, NO_CATEGORY, NO_CATEGORY], dtype=np.int8), self.stage)
            codes = of_stage if codes is None else np.where(codes == NO_CATEGORY, of_stage, codes)
        return codes

    def _categories_of(self, words: pd.Index) -> npt.NDArray[np.int8]:
        names = {key.casefold(): value for key, value in (self.money.category_names or {}).items()}

        def meaning(text: str) -> int:
            if text in names:
                return CATEGORIES.index(names[text])
            return _CATEGORY_WORDS.get("".join(letter for letter in text if letter.isalnum()), NO_CATEGORY)

        return np.array([meaning(str(word).casefold()) for word in words], dtype=np.int8)

    @cached_property
    def omitted(self) -> Flags | None:
        """Open deals that somebody left out of the forecast; None if there is none."""
        if self.money.category != "forecast_category":
            self.need(self.money.category)
        word, names = CATEGORIES[OMITTED], self.money.category_names or {}
        if word in self.context.stages.categories:
            omitted = np.asarray(self.stated_category == OMITTED)
        elif not self.has(self.money.category):
            return None
        else:
            # Most pipelines have no word for it: then no cell needs to be read.
            cells = self.frame[self.money.category]
            initials = [own[:1] for own in (word, *names) if names.get(own, word) == word]
            rows = rows_that_may_start_with(initials, cells)
            if not isinstance(rows, slice) and not len(rows):
                return None
            omitted = np.zeros(len(self), dtype=bool)
            omitted[rows] = map_distinct(cells, self._categories_of, NO_CATEGORY, rows) == OMITTED
        omitted &= self.status == OPEN
        return omitted if omitted.any() else None


def convert_amounts(frame: pd.DataFrame, *, context: FigureContext, rates: Rates) -> pd.Series:
    """Return every deal's amount in one currency.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities with ``amount``, ``currency_type`` and a stage; ``close_date``
        where rates take it.
    context : FigureContext
        Stages, moment, time zone; its currency holds for rows that name none.
    rates : ExchangeRates, mapping or DataFrame
        The rates; ``ExchangeRates(..., open_date="2026-01-01", won_date="2026-01-01")``
        is a constant-currency view.

    Returns
    -------
    Series of float64, shape (n,)
        Indexed like the frame [base currency]; missing amounts stay missing.

    Raises
    ------
    FrameError
        If a deal with an amount has no rate on its day; the text lists rows.

    Examples
    --------
    >>> from opp_pandas.accessor import context_of
    >>> from opp_pandas.figures import convert_amounts
    >>> convert_amounts(df, context=context_of(df), rates={"USD": 1.0}).head(2).tolist()
    [43792.9, 36290.0]
    """
    own = context.with_definitions(rates=rates)
    base = own.money.exchange
    return pd.Series(
        Deals(frame, own).amount, index=frame.index, name=f"amount_{base.base.lower()}" if base else "amount"
    )
