"""What a column that people wrote was read as, and by which conventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from opp_pandas.errors import ConfigurationError, named, printable

if TYPE_CHECKING:
    import pandas as pd

MISSING_WORDS = frozenset({"", "n/a", "na", "nan", "none", "null"})
EXCEL = "excel"
_THOUSANDS = (",", ".", " ", "'")


@dataclass(frozen=True)
class Conventions:
    """How numbers and dates are written, as far as somebody said so; what is None a column has to prove.

    The arguments are those of `adopt`. A ConfigurationError if one of them cannot be used, or decimal and
    thousands are one mark.
    """

    decimal: Literal[".", ","] | None = None
    thousands: str | None = None
    dayfirst: bool | None = None
    date_format: str | Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.decimal not in (None, ".", ","):
            raise ConfigurationError(f"decimal= is '.' or ',', not {printable(repr(self.decimal))}")
        if self.thousands not in (None, *_THOUSANDS):
            raise ConfigurationError(f"thousands= is one of {named(_THOUSANDS)}, not {printable(repr(self.thousands))}")
        if self.decimal is not None and self.decimal == self.thousands:
            raise ConfigurationError(f"decimal= and thousands= cannot both be {self.decimal!r}")
        if self.dayfirst not in (None, True, False):
            raise ConfigurationError(f"dayfirst= is True, False or None, not {printable(repr(self.dayfirst))}")
        formats = self.date_format.values() if isinstance(self.date_format, Mapping) else [self.date_format]
        for each in formats:
            if each is not None and not (isinstance(each, str) and (each == EXCEL or "%" in each)):
                raise ConfigurationError(
                    f"date_format= is a format such as '%d.%m.%Y', 'excel' for serial days, or a mapping of column "
                    f"to one of them, not {printable(repr(each))}"
                )

    def of_column(self, *names: object) -> Conventions:
        """Return the conventions of one column, which bears any of these names."""
        if not isinstance(self.date_format, Mapping):
            return self
        return replace(self, date_format=next((self.date_format[n] for n in names if n in self.date_format), None))  # type: ignore[index]

    @property
    def decimal_mark(self) -> Literal[".", ","] | None:
        """The decimal mark, where it was said or follows from the other one."""
        if self.decimal is None and self.thousands in (",", "."):
            return "." if self.thousands == "," else ","
        return self.decimal


ANY = Conventions()


@dataclass(frozen=True)
class Ambiguity:
    """A text with several readings, and the argument that settles each.

    Examples
    --------
    >>> print(Ambiguity("1,250", (("1250", {"decimal": "."}), ("1.25", {"decimal": ","}))))
    '1,250' may be 1250 (decimal='.') or 1.25 (decimal=',')
    """

    text: str
    readings: tuple[tuple[str, Mapping[str, Any]], ...]

    def __str__(self) -> str:
        return f"{printable(repr(self.text), 60)} {self.reason}"

    @property
    def reason(self) -> str:
        """The readings, as what is wrong with the cell."""
        shown = [f"{value} ({', '.join(f'{k}={v!r}' for k, v in said.items())})" for value, said in self.readings]
        return f"may be {', '.join(shown[:-1])} or {shown[-1]}"


@dataclass
class Reading:
    """A column that was read: cells that were not are missing.

    By position: `refused` has the rule that a cell breaks, `remarked` what was changed in reading it, `unsettled`
    what can be read in several ways. `contradiction` says why the column cannot have been written as it was said.
    """

    values: Any
    refused: dict[int, str] = field(default_factory=dict)
    remarked: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unsettled: dict[int, Ambiguity] = field(default_factory=dict)
    contradiction: str = ""

    def require_settled(self, column: str) -> None:
        """Raise a ConfigurationError if a cell has several readings, or all contradict what was said."""
        if self.contradiction:
            raise ConfigurationError(f"{column}: {self.contradiction}")
        if self.unsettled:
            first = next(iter(self.unsettled.values()))
            more = len(self.unsettled) - 1
            others = f", and {more:,} more {'cell' if more == 1 else 'cells'} likewise" if more else ""
            raise ConfigurationError(f"{column}: {first}{others}: pass the argument that fits")


def objects(values: pd.Series) -> list[Any]:
    """Return the cells as Python objects, missing ones as None; lists stay whole."""
    cells = values.astype(object).tolist()
    return [None if missing else cell for cell, missing in zip(cells, values.isna().tolist(), strict=True)]
