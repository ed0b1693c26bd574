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

    @property
    def origin(self) -> str:
        """Where the rows came from, and whether all came: a file cannot say how many deals there are."""
        asked = "" if len(self.columns) else " (completeness not checked)"
        return self.source + {True: " (complete)", False: " (INCOMPLETE)", None: asked}[self.complete]

    def __repr__(self) -> str:
        lines = [f"{self.rows:,} {'opportunity' if self.rows == 1 else 'opportunities'} from {self.origin}"]
        for name, words in (
            ("failures", "cells that break a rule and were kept"),
            ("quarantined", "records that were set aside"),
            ("left_out", "records that were not asked for and left out"),
            ("duplicates", "keys that came more than once"),
            ("refreshed", "deals that are not as they were loaded before"),
            ("conflicts", "cells that were changed on both sides"),
        ):
            if count := len(getattr(self, name)):
                lines.append(f"  {words}: {count:,} (.{name})")
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
