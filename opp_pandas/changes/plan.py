"""A whole plan: what would be sent, what was refused, and what may be asked of both.

A `ChangeSet` is made by `opp_pandas.changes.diff`, shown to a person, and
carried out by `opp_pandas.apply` exactly as shown.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from opp_pandas._html import parts_html
from opp_pandas.changes.changeset import Entry, Refusal, RowCreation, RowDeletion, RowUpdate
from opp_pandas.changes.impact import Figures, forecast_effect
from opp_pandas.changes.plan_file import fingerprint_of, load_plan, save_plan
from opp_pandas.changes.present import plan_parts, plan_text
from opp_pandas.errors import FrameError, printable
from opp_pandas.figures.core.basis import counted
from opp_pandas.kinds import INSTANTS, KINDS
from opp_pandas.resource import OPPORTUNITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from opp_pandas.choices import UnknownNames

ASK_ABOVE_ROWS = 50
ASK_ABOVE_SHARE = 0.10
ASK_SHARE_FROM_ROWS = 10
ASK_SAME_VALUE_ROWS = 10


@dataclass(frozen=True, eq=False)
class ChangeSet:
    """What differs between a frame and what was loaded.

    Parameters
    ----------
    updates, creations, deletions, refusals : tuple
        What would be sent, and what was refused. A row with a refused cell is
        held back whole.
    timezone : str or None
        Zone in which close dates are shown.
    loaded_rows : int
        Rows that were loaded, for the share that is being changed.
    names : mapping
        Column of a relationship to a mapping id → name, for reading.
    notes : tuple of str
        Warnings about single edits, in sentences.
    service : str or None
        Base URL of the service whose ids the plan names; None: of none yet.
    titles : mapping of int to str
        Names of the deals that are updated, for reading.
    figures : Figures or None
        What the effect on the forecast is worked out from; it stays behind
        when the plan is saved or pickled.
    kept_effect : DataFrame or None
        The effect as it was when the plan was saved.
    unknown_names : {"refuse", "leave_out"}
        What becomes of new deals whose owner or account has a name that the
        service does not know.
    suspicion : str
        Why the edits look like values of other deals; empty where they do not.

    Examples
    --------
    >>> df.loc[df["id"] == 25, "amount"] = 40_000
    >>> plan = df.opp.changes()
    >>> plan.summary(), len(plan.entries), plan.confirmation_reason()
    ('1 updated', 1, None)
    >>> plan.cells[["id", "field", "before", "after"]].head(1)
       id   field before  after
    0  25  amount  24826  40000
    >>> len(plan.created), len(plan.deleted), len(plan.refused), plan.deal_names[25], plan.deal(25)
    (0, 0, 0, 'Willow renewal 2026-25', '25 Willow renewal 2026-25')
    >>> plan.effect[["open_before", "open_after"]]
            open_before  open_after
    period
    2026Q4    296278.05   311451.83
    >>> len(opp.ChangeSet.of(plan.entries)), plan.why_no_effect, plan.words("owner_id", 1), plan.shown("amount", 40_000)
    (1, '', "Jürgen O'Brien (1)", 40000)
    >>> saved = plan.save("plan.json")
    >>> opp.ChangeSet.load("plan.json").fingerprint == plan.fingerprint
    True
    """

    updates: tuple[RowUpdate, ...] = ()
    creations: tuple[RowCreation, ...] = ()
    deletions: tuple[RowDeletion, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    timezone: str | None = None
    loaded_rows: int = 0
    names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    service: str | None = None
    titles: Mapping[int, str] = field(default_factory=dict)
    figures: Figures | None = None
    kept_effect: pd.DataFrame | None = None
    unknown_names: UnknownNames = "refuse"
    suspicion: str = ""

    @classmethod
    def of(cls, entries: Iterable[Entry | Refusal], **facts: Any) -> ChangeSet:
        """Put a plan together: each entry where its kind belongs, in the order in which they come."""
        groups: dict[type, list[Any]] = {RowUpdate: [], RowCreation: [], RowDeletion: [], Refusal: []}
        for entry in entries:
            groups[type(entry)].append(entry)
        updates, creations, deletions, refusals = map(tuple, groups.values())
        return cls(updates, creations, deletions, refusals, **facts)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every row that would be sent, in the order of the report: updates, creations, deletions."""
        return (*self.updates, *self.creations, *self.deletions)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the load behind, and with it the client."""
        known = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return known | {"figures": None, "kept_effect": self.effect}

    def __len__(self) -> int:
        """Count the rows that would be sent."""
        return len(self.entries)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The edited cells: columns ``id, field, before, after``; instants in the load's zone."""
        rows = [
            (update.id, cell.column, self.shown(cell.column, cell.before), self.shown(cell.column, cell.after))
            for update in self.updates
            for cell in update.cells
        ]
        return frame_of(rows, {"id": "Int64", "field": "str", "before": "object", "after": "object"})

    @cached_property
    def deal_names(self) -> dict[int, str]:
        """Names of the deals by id, as far as they are known: of those that are changed or deleted."""
        return {entry.id: str(entry.name) for entry in self.deletions if entry.name} | dict(self.titles)

    @cached_property
    def created(self) -> pd.DataFrame:
        """The rows to create, one per new deal; ``row`` is their index label."""
        rows = [
            {"row": entry.label}
            | {column: self.shown(column, value) for column, value in entry.values.items()}
            | dict(entry.unresolved)
            for entry in self.creations
        ]
        columns = list(dict.fromkeys(["row", "name", *(column for row in rows for column in row)]))
        return frame_of([[row.get(column) for column in columns] for row in rows], dict.fromkeys(columns, "object"))

    @cached_property
    def deleted(self) -> pd.DataFrame:
        """The rows to delete: columns ``id, name``."""
        return frame_of([(entry.id, entry.name) for entry in self.deletions], {"id": "Int64", "name": "str"})

    @cached_property
    def refused(self) -> pd.DataFrame:
        """What is not sent: columns ``id, row, field, before, after, reason``."""
        rows = []
        for entry in self.refusals:
            before, after = self.shown(entry.column, entry.before), self.shown(entry.column, entry.after)
            rows.append((entry.id, entry.row, entry.column, before, after, entry.reason))
        values = dict.fromkeys(("before", "after"), "object")
        return frame_of(rows, {"id": "Int64", "row": "object", "field": "str", **values, "reason": "str"})

    @property
    def effect(self) -> pd.DataFrame | None:
        """What the plan does to the forecast, a row per period that changes; None where that cannot be told.

        Columns ``open_before, open_after, weighted_before, weighted_after,
        won_before, won_after`` [currency], with a quota ``coverage_before,
        coverage_after`` [ratio], ``pushed`` and ``pulled`` (deals that leave
        the period for a later or an earlier one).
        """
        return self._effect[0]

    @property
    def why_no_effect(self) -> str:
        """Why there is no effect, such as amounts in several currencies."""
        return self._effect[1]

    @cached_property
    def _effect(self) -> tuple[pd.DataFrame | None, str]:
        if self.figures is None:
            return self.kept_effect, ""
        try:
            return forecast_effect(self, self.figures), ""
        except FrameError as problem:
            return None, str(problem)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that would be sent: two plans that send the same have the same."""
        return fingerprint_of(self)

    def save(self, path: str | Path) -> Path:
        """Write the plan to a file, to be looked at and applied later, perhaps by somebody else.

        Parameters
        ----------
        path : str or Path
            The file; an existing one is replaced. It holds values of customers'
            deals, so only its owner may read it.

        Returns
        -------
        Path
            The file.
        """
        return save_plan(self, path)

    @classmethod
    def load(cls, path: str | Path) -> ChangeSet:
        """Read a plan that `save` wrote; `opp_pandas.apply.undo.apply_plan` sends it.

        Raises
        ------
        ConfigurationError
            If the file is not a plan, is damaged, or was changed by hand.
        """
        return load_plan(path, cls)

    def confirmation_reason(self) -> str | None:
        """Explain why a person has to confirm the plan, or None."""
        number = len(self)
        if self.suspicion and self.updates:
            return self.suspicion
        if self.deletions:
            return f"the plan deletes {counted(len(self.deletions), 'deal')}"
        if number > ASK_ABOVE_ROWS:
            return f"the plan writes {number} rows, more than {ASK_ABOVE_ROWS}"
        if number > ASK_SHARE_FROM_ROWS and number > ASK_ABOVE_SHARE * self.loaded_rows and self.updates:
            return f"the plan writes {number} of {self.loaded_rows} rows, more than {ASK_ABOVE_SHARE:.0%}"
        values = Counter((cell.column, json.dumps(cell.after)) for update in self.updates for cell in update.cells)
        for (column, text), count in values.most_common(1):
            if count >= ASK_SAME_VALUE_ROWS:
                return f"the plan puts one value, {printable(text, 60)}, into {column} of {count} rows"
        return None

    def shown(self, column: str, value: Any) -> Any:
        """Return a wire value as people read it: instants in the load's zone."""
        attribute = OPPORTUNITY.by_column.get(column)
        if value is None or attribute is None or KINDS[attribute.kind] is not INSTANTS:
            return value
        try:
            local = INSTANTS.array_of([value])[0].tz_convert(self.timezone or "UTC")
        except (ValueError, OverflowError):
            return value
        # The year 10,000 of a zone has no name in Python's calendar.
        return local if local.year <= dt.MAXYEAR else value

    def words(self, column: str, value: Any) -> str:
        """Return a wire value as one short printable text, ids with their names."""
        if value is None:
            return "(missing)"
        name = self.names.get(column, {}).get(value) if isinstance(value, int) else None
        if name is not None:
            return f"{printable(name, 40)} ({value})"
        shown = self.shown(column, value)
        if isinstance(shown, pd.Timestamp):
            local_midnight = shown == shown.normalize()
            return shown.strftime("%Y-%m-%d" if local_midnight else "%Y-%m-%d %H:%M %Z")
        return printable(json.dumps(value, ensure_ascii=False), 60)

    def deal(self, row_id: int | None, row: Any = None) -> str:
        """Name a deal by its id, and by its name where that is known; a new one by its row."""
        if row_id is None:
            return f"row {printable(row, 30)}"
        return f"{row_id} {printable(self.deal_names.get(row_id, ''), 40)}".rstrip()

    def summary(self) -> str:
        """Count the plan in one line."""
        groups = {"updated": self.updates, "created": self.creations, "deleted": self.deletions}
        parts = [f"{len(group)} {words}" for words, group in groups.items() if group]
        text = ", ".join(parts) or "nothing to write"
        return text + (f"; {counted(len(self.refusals), 'edit')} refused" if self.refusals else "")

    def __repr__(self) -> str:
        return plan_text(self)

    def _repr_html_(self) -> str:
        return parts_html(plan_parts(self))


def frame_of(rows: Sequence[Sequence[Any]], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Make a frame of rows whose values stay as they are on the way: none is turned into a float."""
    columns = {
        name: pd.Series([row[place] for row in rows], dtype=object).astype(cast("Any", dtype))
        for place, (name, dtype) in enumerate(dtypes.items())
    }
    return pd.DataFrame(columns)
