"""How a load or an adoption went."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from opp_pandas._html import as_page


@dataclass(frozen=True, eq=False)
class LoadReport:
    """How a load or an adoption went.

    Parameters
    ----------
    source : str
        Where the rows came from, without any secret.
    rows : int
        Rows in the frame.
    complete : bool or None
        Whether every row that the service counted is there; None if it did not count.
    failures : DataFrame, columns ``id, row, column, value, rule``
        Cells that break a rule of the schema, kept in the frame.
    quarantined : DataFrame, columns ``row, reason, raw``
        Records that could not become a row.
    left_out : DataFrame, columns ``id, column, value``
        Records that came although they do not fit ``filter=``, with the cell that tells.
    duplicates : DataFrame, columns ``key, rows, kept``
        Ids or keys that came more than once and what was done.
    columns : DataFrame, columns ``source, column, note``
        For adopted frames: what became of each source column.
    refreshed : DataFrame, columns ``id, change``
        After ``refresh()``: which deals are new, changed, trashed, or left the filter.
    conflicts : DataFrame, columns ``id, field, loaded, mine, theirs``
        After ``refresh()``: cells that the user and the service changed to different values.
    unknown_attributes, unknown_relationships : tuple of str
        Members that this version does not know.
    notes : tuple of str
        Everything else that a reader should know, in sentences.
    caveats : tuple of str
        What the rows may lack, for the bases of their figures: nights that a repaired history lost.
    regular, irregular : int
        Records whose values are null or of their columns' kinds, and records with
        a value that had to be read by itself.
    pages, requests : int
        Pages read and requests made.
    elapsed_s : float
        Time taken [seconds].
    """

    source: str = ""
    rows: int = 0
    complete: bool | None = None
    failures: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["id", "row", "column", "value", "rule"])
    )
    quarantined: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["row", "reason", "raw"]))
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["id", "column", "value"]))
    duplicates: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["key", "rows", "kept"]))
    columns: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["source", "column", "note"]))
    refreshed: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["id", "change"]))
    conflicts: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["id", "field", "loaded", "mine", "theirs"])
    )
    unknown_attributes: tuple[str, ...] = ()
    unknown_relationships: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    regular: int = 0
    irregular: int = 0
    pages: int = 0
    requests: int = 0
    elapsed_s: float = 0.0

    def __repr__(self) -> str:
        whole = {True: "complete", False: "INCOMPLETE", None: "completeness not checked"}[self.complete]
        lines = [f"{self.rows:,} opportunities from {self.source} ({whole})"]
        for words, count in (
            ("cells break a rule and were kept: .failures", len(self.failures)),
            ("records were set aside: .quarantined", len(self.quarantined)),
            ("records were not asked for and left out: .left_out", len(self.left_out)),
            ("keys came more than once: .duplicates", len(self.duplicates)),
            ("deals are not as they were loaded before: .refreshed", len(self.refreshed)),
            ("cells were changed on both sides: .conflicts", len(self.conflicts)),
        ):
            if count:
                lines.append(f"  {count:,} {words}")
        if self.unknown_attributes:
            lines.append(f"  attributes kept that this version does not know: {', '.join(self.unknown_attributes)}")
        if self.unknown_relationships:
            lines.append(f"  relationships not read: {', '.join(self.unknown_relationships)}")
        if self.irregular:
            lines.append(f"  values of {self.irregular:,} records were read one by one, of {self.regular:,} together")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return as_page(
            repr(self),
            ("cells that break a rule", self.failures),
            ("records set aside", self.quarantined[["row", "reason"]]),
            ("records that were not asked for", self.left_out),
            ("keys that came more than once", self.duplicates),
            ("cells changed on both sides", self.conflicts),
        )
