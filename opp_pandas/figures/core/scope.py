"""Which deals a figure over time speaks of, now and at every earlier moment.

The load's own conditions can be evaluated on any past state. Rows chosen in
pandas afterwards hold by id: of a deal that was deleted before the load nobody
knows whether it would have been among them, so it stays outside and is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.columns import read_mask
from opp_pandas.figures.core.snapshots import keys_of

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.figures.core.days import Flags


@dataclass(frozen=True, eq=False)
class Scope:
    """Which deals of any moment's frame are meant.

    Parameters
    ----------
    words : str
        The same for a basis.
    conditions : callable, optional
        The load's conditions: from a frame to a mask.
    keys : frozenset, optional
        The deals that were chosen in pandas; None: all that the load brought.
    judged : frozenset, optional
        The deals that the load brought; of others nobody knows.
    chosen : callable, optional
        A function of the user's, from a frame to a mask.
    """

    words: str
    conditions: Callable[[pd.DataFrame], Any] | None = None
    keys: frozenset[Any] | None = None
    judged: frozenset[Any] | None = None
    chosen: Callable[[pd.DataFrame], Any] | None = None

    @property
    def reads_keys_only(self) -> bool:
        """Whether it looks at no column but those that tell deals apart."""
        return self.conditions is None and self.chosen is None

    def mask(self, frame: pd.DataFrame) -> Flags:
        """Return which deals of a moment are in scope."""
        inside = np.ones(len(frame), dtype=bool)
        if self.conditions is not None:
            inside &= read_mask(self.conditions(frame), frame, "the conditions of the load")
        if self.keys is not None and len(frame):
            inside &= keys_of(frame).isin(self.keys).to_numpy()
        if self.chosen is not None:
            # A comparison with a missing cell is missing: that deal is outside.
            inside &= read_mask(self.chosen(frame), frame, "scope=")
        return inside

    def n_not_judged(self, frame: pd.DataFrame) -> int:
        """Count the deals of a moment that fit the load, of which nobody knows whether they are meant."""
        if self.keys is None or self.judged is None or not len(frame):
            return 0
        unknown = ~keys_of(frame).isin(self.judged).to_numpy()
        return int((unknown & replace(self, keys=None).mask(frame)).sum())


def resolve_scope(scope: Any, base: Scope | None, frame: pd.DataFrame | None) -> Scope:
    """Settle ``scope=``: a function replaces what the frame says, a mask chooses rows of the frame."""
    if isinstance(scope, Scope):
        return scope
    if callable(scope):
        name = getattr(scope, "__name__", "function")
        return Scope(f"scope= (a function, {name}), evaluated at every moment", chosen=scope)
    if frame is None:
        raise ConfigurationError(
            f"scope= is a function from frame to mask, or a mask of the frame, not {type(scope).__name__}"
        )
    rows = read_mask(scope, frame, "scope=")
    judged = None if base is None else base.judged
    words = f"scope= (a mask of {int(rows.sum()):,} rows of the frame), by id"
    return Scope(words, keys=frozenset(keys_of(frame[rows])), judged=judged or frozenset(keys_of(frame)))
