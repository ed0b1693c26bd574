"""From a number of a figure back to the deals that made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from opp_pandas.figures.core.days import Flags, Floats
from opp_pandas.figures.core.groups import Group, combine, read_groups
from opp_pandas.figures.core.periods import Periods

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.figures.core.deals import Deals


@dataclass(frozen=True, eq=False)
class Question:
    """Which number of which figure."""

    deals: Deals
    """What the figure counted."""
    basis: dict[str, Any]
    """What it stands on."""
    column: str
    """One of its defined columns, or a number of its basis."""
    parts: tuple[Any, ...]
    """Labels of the number's row."""
    row: pd.Series | None
    """That row; None where the number is of no row."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What was given to the figure and is in no basis."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The choices that were made."""
        return dict(self.basis["arguments"])

    @property
    def periods(self) -> Periods:
        """How days were cut."""
        return Periods.from_dict(self.arguments)

    def within(self, label: object) -> Flags:
        """Return which deals have their close date in a period."""
        first, last = self.periods.span_of(label)
        days = self.deals.close_day
        return np.asarray((days >= first) & (days <= last))

    def in_groups(self, parts: Sequence[Any]) -> Flags:
        """Return which deals are in the group that labels name, one per grouping."""
        groups = read_groups(self.deals, self.arguments["by"])
        return in_groups(groups, self.deals, parts)

    def with_column(self, column: str) -> Question:
        """Ask for another number of the same row."""
        return replace(self, column=column)


Trace: TypeAlias = tuple[Flags, Floats | None]
"""Which deals made a number, and what each contributes where it is a sum, a mean or a median."""
Finder: TypeAlias = Callable[[Question], Trace]


def together(ask: Question, find: Finder, columns: Sequence[str]) -> Trace:
    """Return the rows of several numbers, for one that is worked out from them."""
    chosen = np.zeros(len(ask.deals), dtype=bool)
    for column in columns:
        chosen |= find(ask.with_column(column))[0]
    return chosen, None


def in_groups(groups: list[Group], deals: Deals, parts: Sequence[Any]) -> Flags:
    """Return which deals are in the group that labels name, one per grouping."""
    code = 0
    for group, part in zip(groups, parts, strict=True):
        code = code * len(group) + group.find(part)
    return np.asarray(combine(groups, len(deals))[0] == code)
