"""What arguments mean: written down once, and put into the documentation of all that take them."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

_SECTIONS = ("Parameters", "Returns", "Raises", "Warns", "Notes", "References", "Examples")
_EMPTY = inspect.Parameter.empty
_F = TypeVar("_F", bound=Callable[..., Any])


def entries_of(section: str) -> dict[str, str]:
    r"""Return the entries of a section of a docstring by name; one entry may tell of several names.

    Examples
    --------
    >>> entries_of("since, until : str\n    From when to when.")["until"]
    'since, until : str\n    From when to when.'
    """
    entries = re.split(r"\n(?=\S)", section.strip())
    heads = [re.split(r" :|\n", entry)[0] for entry in entries]
    return {name.strip("* "): entry for head, entry in zip(heads, entries, strict=True) for name in head.split(",")}


ARGUMENTS = entries_of("""
frame : DataFrame, shape (n, k)
    Opportunities, with what the figure reads of ``stage_id`` or ``stage_name``,
    ``amount`` and ``close_date``. Never modified.
context : FigureContext
    Stages, moment, time zone, names, and how time and amounts are meant.
by : str or sequence of str, optional
    Columns to group by; ``owner_name`` and ``account_name`` use the id
    underneath, ``category`` is the forecast category.
window_days : int, optional
    Only deals closed in so many days up to as_of; all closed deals if left out
    [days].
level : float
    Confidence of the intervals.
scope : mask or callable, optional
    Only these deals: a mask of the frame, or a function from the frame of
    any moment to a mask. Left out: the conditions of the load, evaluated at every
    moment, and the rows of the frame, by id.
freq : str, optional
    ``M``, ``Q``, ``Y`` or ``W``, or an alias such as ``Q-JAN``; "Q" if left out.
fiscal_start : int, optional
    Month in which the fiscal year starts (1-12); as the load says, else 1.
fiscal_label : str, optional
    Whether a fiscal year is named after the calendar year of its "end" or its
    "start"; as the load says, else "end".
calendar : WeekCalendar, optional
    Fiscal years of whole weeks (4-4-5); labels of periods are text then.
    False: none, whatever the load says.
probability : str, model or table, optional
    Whose percentages count: "own" (the deal's; the default), "stage", or
    "own_else_stage"; or a model such as a `WinModel`, or a table by id, as
    `recalibrate` and ``predict().deals`` are.
category : str, optional
    Column with the forecast category; ``forecast_category`` if left out.
    Omitted deals stay outside all sums.
category_names : mapping of str to str, optional
    The organisation's words -> closed, commit, best_case, pipeline, omitted.
    False: none, whatever the load says.
rates : ExchangeRates, mapping or DataFrame, optional
    Turns several currencies into one. False: none, whatever the load says.
currency : str, optional
    Currency of the amounts that name none; left out, the only one that occurs.
    False: whatever the load says, the only one that occurs.
overdue : str, optional
    Where open deals with a close date before as_of count in forecasts:
    "exclude" (nowhere; the default), "include" (in their own period) or
    "roll_forward" (in the present one).
as_of : str, date or Timestamp, optional
    Another moment than that of the load; a day means its end.
stages : StageMap, optional
    Another meaning of the stages than that of the load.
timezone : str, optional
    Another zone of calendar days than that of the load.
ax : Axes, optional
    Where to draw; a new figure if left out.
max_groups : int
    Groups drawn, the largest; the plot says how many others there are.
max_rows : int
    Rows drawn; the title says how many were left out.
client : Client, optional
    The service; default as `opp_pandas.connect` finds it.
dry_run : bool
    Show what would be sent, and send nothing.
delete : iterable of int
    Ids of deals to delete, which must have been loaded; nothing else is ever
    deleted.
allow_delete : bool
    The switch that ``delete`` needs.
custom_ids : {"auto", "always", "never"}
    Whether a new deal without a custom id gets one, by which it can be
    found if the answer to its creation is lost. The field is meant for the
    outside CRM: "auto" does it only where no loaded deal has one.
unknown_names : {"refuse", "leave_out"}
    Whether new deals whose owner or account has a name that the service does
    not know are refused, or created without it, as the rows of the report say.
    The service is asked when the plan is sent.
on_conflict : {"skip", "ask", "mine", "theirs"}
    Where both sides changed a cell: leave the row and report it, ask, send
    mine, or keep theirs.
ask : callable, optional
    Asked with "ask": ``ask(id, column, loaded, mine, theirs)`` gives "mine",
    "theirs" or "skip". Default: a question where the program runs.
confirm : int or str, optional
    The number of rows in the plan, or its fingerprint, to confirm a large one.
workers : int
    Rows written at once, 1 to 4.
journal : str or Path, optional
    The folder of journals, or the journal; default ``OPP_PANDAS_JOURNAL``, else
    the user's folder for state. A finished plan is kept for 30 days.
progress : bool or callable, optional
    Show a progress bar; default: only where somebody watches. A callable is
    told instead: ``progress(done, total)`` after each row; where it gives
    False, no further row is begun.
quota : number, mapping or DataFrame, optional
    For every period [currency], period -> number, owner -> number, or a frame with
    ``period``, ``owner_name`` and ``quota``.
rho : float
    Correlation of the deals: with 0 the spread of their sum is too small, and
    labelled so.
height : int
    Of the grid's rows [pixels], 120 to 2000.
decimal, thousands, dayfirst, date_format
    How numbers and dates are written by those who type and paste, as for
    `adopt`; without them, a pasted column has to prove it.
""")
"""What an argument means wherever nothing else is said of it."""
OVER_TIME = entries_of("""
history : History or pair of DataFrame
    Snapshots, or the deals before and after.
context : FigureContext or pair, optional
    Stages, moment, time zone, names, and how time and amounts are meant; those
    of the loads if left out.
period : str, Period or pair of day
    Whose close dates count: ``"2026Q3"``, or first and last day.
since, until : str, date or Timestamp, optional
    From when to when. Left out: from the end of the day before the period, or
    the first snapshot where that came later, until the period's last day or the
    newest snapshot.
""")
"""The same for figures of a history."""
OF_METHODS = entries_of("""
history : History or DataFrame, optional
    Snapshots, or an earlier frame to compare this one with.
present : bool
    Take this frame as it is now, unsaved edits included, for the last moment, in
    place of `until`.
""")
"""The same for their methods of ``df.opp``."""
RAISED = entries_of("""
MissingColumnError
    If a needed column is not there.
MixedCurrencyError
    If the deals are in more than one currency and no rates are given.
ConfigurationError
    If an argument cannot be used.
""")
RAISED_OVER_TIME = entries_of("""
HistoryNeededError
    If there is neither a history nor two frames.
ConfigurationError
    If an argument cannot be used.
""")


def document(
    text: str | None,
    parameters: Iterable[inspect.Parameter],
    known: Mapping[str, str] = ARGUMENTS,
    raised: Mapping[str, str] | None = None,
    returns: str = "",
    defined: Mapping[str, str] | None = None,
) -> str:
    """Complete a docstring: all parameters in order, those it is silent of as `known` explains them, and no other.

    `raised` are errors, as entries by name; `returns` stands where the docstring does not say; below what
    it says stand the formulas of what is `defined`.
    """
    head, *rest = re.split(r"\n\n(\w+)\n-{4,}\n", inspect.cleandoc(text or ""))
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    own, given = entries_of(sections.get("Parameters", "")), list(parameters)
    entries = [own.get(each.name) or _with_default(known.get(each.name, ""), each.default) for each in given]
    errors = {**(raised or {}), **entries_of(sections.get("Raises", ""))}
    sections |= {"Parameters": "\n".join(filter(None, dict.fromkeys(entries)))}
    sections |= {"Raises": "\n".join(filter(None, dict.fromkeys(errors.values())))}
    sections.setdefault("Returns", returns)
    if defined:
        lines = (f"- ``{name}``: {words}" for name, words in defined.items())
        items = (textwrap.fill(line, 80, initial_indent="    ", subsequent_indent="      ") for line in lines)
        sections["Returns"] += "\n\n" + "\n".join(items)
    order = [*_SECTIONS, *(name for name in sections if name not in _SECTIONS)]
    parts = [f"{name}\n{'-' * len(name)}\n{sections[name].strip()}" for name in order if sections.get(name)]
    return "\n\n".join([head, *parts])


def documented(function: _F) -> _F:
    """Complete the docstring of a function that explains only its own arguments."""
    function.__doc__ = document(function.__doc__, inspect.signature(function).parameters.values())
    return function


def _with_default(entry: str, default: Any) -> str:
    """Describe the default of an argument, where it is a value."""
    if default is _EMPTY or default is None or not entry:
        return entry
    head, mark, words = entry.partition("\n")
    value = json.dumps(default) if isinstance(default, str) else repr(default)
    return head.removesuffix(", optional") + f", default {value}" + mark + words
