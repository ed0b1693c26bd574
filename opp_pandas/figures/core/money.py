"""Several currencies: dated exchange rates, and which date counts.

A rate is in force from its start until the next one starts. An unknown
currency or a day before the first rate is an error that lists the rows; no
amount is ever taken at a rate of 1 because nothing better was known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from opp_pandas.errors import ConfigurationError, MissingColumnError, MixedCurrencyError, named
from opp_pandas.figures.core.days import NO_DAY, Days, Floats, parse_day, to_date
from opp_pandas.figures.core.periods import read_stated
from opp_pandas.figures.core.probabilities import Chances, read_chances
from opp_pandas.stages import CATEGORIES

if TYPE_CHECKING:
    from opp_pandas.choices import Overdue, ProbabilitySource

ALWAYS = NO_DAY + 1
"""Start of a rate without a date."""


@dataclass(frozen=True, eq=False)
class ExchangeRates:
    """Rates into one currency, with the days from which they hold.

    Parameters
    ----------
    table : DataFrame or mapping
        Columns ``currency``, ``rate`` (units of `base` for one unit of the
        currency) and ``start`` (first day; where it is missing, the rate holds
        from the beginning). A mapping currency -> rate is the same without dates.
    base : str
        Currency of the results.
    open_date : {"as_of", "close"} or day, default "as_of"
        Which day's rate open deals take: the day of as_of, their own close
        date, or one fixed day (constant currency, plan rates).
    won_date : {"close"} or day, default "close"
        Which day's rate closed deals take.

    Raises
    ------
    ConfigurationError
        If a rate is not positive, or a currency has two rates for one day.

    Examples
    --------
    >>> from opp_pandas.figures import ExchangeRates
    >>> rates = ExchangeRates({"EUR": 1.08, "USD": 1.0}, base="USD")
    >>> df.opp.kpis(rates=rates)["open_amount"].round(2).tolist()
    [1205299.21]
    """

    table: pd.DataFrame | Mapping[str, float]
    base: str
    open_date: str = "as_of"
    won_date: str = "close"

    def __post_init__(self) -> None:
        table = self.table
        if isinstance(table, Mapping):
            table = pd.DataFrame({"currency": list(table), "rate": list(table.values())})
        missing = [name for name in ("currency", "rate") if name not in table.columns]
        if missing:
            raise MissingColumnError(missing, list(table.columns), "Rates have currency, rate and start.")
        codes = [str(code).strip().upper() for code in table["currency"]]
        starts = (
            [ALWAYS] * len(table)
            if "start" not in table.columns
            else [ALWAYS if pd.isna(day) else parse_day(day) for day in table["start"]]
        )
        rates = pd.to_numeric(table["rate"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        bad = ~(np.isfinite(rates) & (rates > 0))
        if bad.any():
            rows = [f"{codes[place]} in row {table.index[place]}" for place in np.flatnonzero(bad).tolist()]
            raise ConfigurationError(f"exchange rates are positive numbers; not so: {named(rows)}")
        pairs = pd.MultiIndex.from_arrays([codes, starts])
        if pairs.duplicated().any():
            raise ConfigurationError(f"two rates for one currency and day: {named(pairs[pairs.duplicated()].unique())}")
        known: dict[str, tuple[Days, Floats]] = {}
        for code in dict.fromkeys(codes):
            places = np.array([place for place, other in enumerate(codes) if other == code])
            days = np.array(starts, dtype=np.int32)[places]
            order = np.argsort(days)
            known[code] = days[order], rates[places][order]
        base = str(self.base).strip().upper()
        known.setdefault(base, (np.array([ALWAYS], dtype=np.int32), np.array([1.0])))
        if not np.all(known[base][1] == 1.0):
            raise ConfigurationError(f"the rate of the base currency {base} must be 1")
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "_known", known)

    def rate(self, currency: str, days: npt.NDArray[Any]) -> Floats:
        """Return the rate in force on each day; NaN before the first one.

        Examples
        --------
        >>> table = pd.DataFrame({"currency": "EUR", "start": ["2026-01-01", "2026-07-01"], "rate": [1.1, 1.2]})
        >>> float(ExchangeRates(table, "USD").rate("EUR", np.array([parse_day("2026-06-30")]))[0])
        1.1
        """
        known: dict[str, tuple[Days, Floats]] = self.__dict__["_known"]
        if currency not in known:
            return np.full(len(days), np.nan)
        starts, rates = known[currency]
        place = np.searchsorted(starts, days, side="right") - 1
        return np.where(place >= 0, rates[np.maximum(place, 0)], np.nan)

    def to_dict(self) -> dict[str, Any]:
        """Write the rates down; JSON keeps it."""
        known: dict[str, tuple[Days, Floats]] = self.__dict__["_known"]
        rows = [
            {"currency": code, "rate": float(rate), "start": None if day == ALWAYS else str(to_date(int(day)).date())}
            for code, (days, rates) in known.items()
            for day, rate in zip(days, rates, strict=True)
        ]
        return {"table": rows, "base": self.base, "open_date": self.open_date, "won_date": self.won_date}

    def describe(self, currencies: CurrencyCounts) -> dict[str, Any]:
        """Describe for a basis how amounts were converted."""
        dates = {"open_date": self.open_date, "won_date": self.won_date}
        return {"base": self.base, **dates, "deals": currencies.counts}


@dataclass(frozen=True, eq=False)
class CurrencyCounts:
    """How many deals name which currency."""

    named: Mapping[str | None, int]
    """Deals with an amount, outside the trash, by what they name; None: nothing. A currency that only others name
    stands there with 0."""
    stated: str | None = None
    """What somebody called the currency of the organisation."""
    has_column: bool = True
    """Whether the frame names currencies at all."""

    @classmethod
    def merged(cls, parts: Sequence[CurrencyCounts]) -> CurrencyCounts:
        """Add up the deals of several pieces."""
        named: dict[str | None, int] = {}
        for part in parts:
            for word, n in part.named.items():
                named[word] = named.get(word, 0) + n
        return cls(named, parts[0].stated, any(part.has_column for part in parts))

    @cached_property
    def organisation(self) -> str | None:
        """What a missing currency means: the one that is stated, else the only one that occurs."""
        occurring = [word for word in self.named if word]
        return self.stated or (occurring[0] if len(occurring) == 1 else None)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Deals per currency; those that mean none are "(missing)"."""
        found: dict[str, int] = {}
        for word, n in self.named.items():
            if n:
                name = word or self.organisation or "(missing)"
                found[name] = found.get(name, 0) + n
        return found

    @property
    def base(self) -> str | None:
        """The currency of sums without rates, if anybody named one."""
        return next((name for name in self.counts if name != "(missing)"), self.organisation)

    @property
    def n_missing(self) -> int:
        """Deals that name none where the frame names currencies, and are taken as the organisation's."""
        return self.named.get(None, 0) if self.has_column and self.organisation is not None else 0

    def require_one(self) -> None:
        """Raise if the amounts cannot be added without rates."""
        if len(self.counts) > 1:
            raise MixedCurrencyError(self.counts)


Rates: TypeAlias = ExchangeRates | Mapping[str, float] | pd.DataFrame
"""Rates as figures take them; a mapping or frame must hold the base currency at a rate of 1."""


def read_rates(rates: Rates | None, currency: str | None = None) -> ExchangeRates | None:
    """Settle rates as a user gives them."""
    if rates is None or isinstance(rates, ExchangeRates):
        return rates
    if isinstance(rates, Mapping):
        ones = [code for code, rate in rates.items() if rate == 1]
    elif isinstance(rates, pd.DataFrame) and {"currency", "rate"} <= set(rates.columns):
        by_code = rates.groupby("currency")["rate"]
        ones = list(by_code.min().index[(by_code.min() == 1) & (by_code.max() == 1)])
    else:
        raise ConfigurationError("rates must be ExchangeRates, currency -> rate, or a frame currency, start, rate")
    if len(ones) != 1 and currency is None:
        raise ConfigurationError(
            f"rates must hold exactly one currency at a rate of 1, the base; found {named(ones) or 'none'}. "
            "currency='USD' states it, and so does ExchangeRates(table, base='USD')"
        )
    return ExchangeRates(rates, str(ones[0]) if len(ones) == 1 else str(currency))


@dataclass(frozen=True, eq=False)
class MoneySpec:
    """What amounts and percentages mean, as it is stated; `opp_pandas.docstrings.ARGUMENTS` explains each."""

    probability: ProbabilitySource | Chances = "own"
    category: str = "forecast_category"
    category_names: Mapping[str, str] | None = None
    rates: Rates | None = None
    currency: str | None = None
    overdue: Overdue = "exclude"

    def __post_init__(self) -> None:
        object.__setattr__(self, "probability", read_chances(self.probability))
        if self.overdue not in (known := ("exclude", "include", "roll_forward")):
            words = f"{known[0]!r}, {known[1]!r} or {known[2]!r}"
            raise ConfigurationError(f"overdue must be {words}, not {self.overdue!r}")
        wrong = [meaning for meaning in (self.category_names or {}).values() if meaning not in CATEGORIES]
        if wrong:
            raise ConfigurationError(f"category_names: {wrong[0]!r} is not one of {named(CATEGORIES)}")
        if self.currency is not None:
            if not isinstance(self.currency, str) or not self.currency.strip():
                raise ConfigurationError(f"currency must be a code such as 'USD', not {self.currency!r}")
            object.__setattr__(self, "currency", self.currency.strip().upper())
        object.__setattr__(self, "rates", read_rates(self.rates, self.currency))

    @property
    def exchange(self) -> ExchangeRates | None:
        """The rates, settled."""
        return read_rates(self.rates)

    def but(self, **options: Any) -> MoneySpec:
        """Return the same with what is stated otherwise; None leaves it as it is, False is as if nobody stated it."""
        stated = read_stated(self, options)
        return replace(self, **stated) if stated else self

    @property
    def whose(self) -> str:
        """Whose percentages count, by name."""
        return self.probability if isinstance(self.probability, str) else type(self.probability).__name__

    def to_dict(self) -> dict[str, Any]:
        """Write the choices down for a basis."""
        return {
            "probability": self.whose,
            "category": self.category,
            "category_names": None if self.category_names is None else dict(self.category_names),
            "overdue": self.overdue,
        }
