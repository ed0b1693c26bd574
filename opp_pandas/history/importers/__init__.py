"""Histories of other systems: Salesforce, HubSpot, webhooks and plain tables of events.

Each importer gives `ImportedEvents`: a row per change of a field, in the
columns of this package, and a report of every row that was set aside or
mended. ``history.import_events(events)`` puts them into a history;
``df.opp.funnel(history=events)`` takes them as they are.

A date that stands for "no end" (9999-12-31, 2050-01-01) or cannot be (before
1990) is never taken for a moment: the row is set aside or the value left
missing, and the report says so. Dates such as 3/4/2026 are read as the others
of their column tell; where none tells, an error asks for the day and the month.

Each importer is a function with the decorator `importer` in a file of its own
here; adding one is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from opp_pandas.history.event_import import ImportedEvents
from opp_pandas.history.importers.reading import IMPORTERS

if TYPE_CHECKING:
    from collections.abc import Callable

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["ImportedEvents", *sorted(IMPORTERS)]  # noqa: PLE0604 -- names of functions


def __getattr__(name: str) -> Callable[..., ImportedEvents]:
    try:
        return IMPORTERS[name]
    except KeyError:
        raise AttributeError(f"there is no importer {name!r}; there are {', '.join(sorted(IMPORTERS))}") from None
