"""Probabilities from elsewhere in place of the sellers' percentages: a fitted model's, or a table's by deal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError

if TYPE_CHECKING:
    from opp_pandas.figures.core.days import Floats

NAMES = ("own", "stage", "own_else_stage")
_COLUMNS = {"p": 1.0, "recalibrated": 0.01}
"""Columns of tables that hold a probability, and what makes a fraction of it."""


@runtime_checkable
class ChanceModel(Protocol):
    """Something that gives each deal of a frame a probability, such as a `WinModel`."""

    def predict(self, frame: pd.DataFrame) -> Any:
        """Return a fraction for each row; missing where it knows none."""


Chances: TypeAlias = "ChanceModel | pd.DataFrame | pd.Series"
"""Where probabilities may come from: a model, or what `recalibrate` and `predict().deals` give, by id."""


@dataclass(frozen=True, eq=False)
class ChancesByDeal:
    """Probabilities that a table states, by the id or custom id of the deal."""

    fractions: pd.Series

    @classmethod
    def of(cls, table: pd.DataFrame | pd.Series) -> ChancesByDeal:
        """Read a table with ``id`` and ``p`` (fraction) or ``recalibrated`` (percent), or fractions indexed by id."""
        if isinstance(table, pd.DataFrame):
            name = next((name for name in _COLUMNS if name in table.columns), None)
            if name is None or "id" not in table.columns:
                raise ConfigurationError("a table of probabilities has columns id and p (fraction), or recalibrated")
            table = table.set_index("id")[name].astype("float64") * _COLUMNS[name]
        # Deals of other systems are told apart by their own keys.
        keys = [key[1] if isinstance(key, tuple) else key for key in table.index.tolist()]
        found = pd.Series(table.to_numpy(dtype=np.float64, na_value=np.nan), index=pd.Index(keys, dtype=object))
        if found.index.has_duplicates:
            raise ConfigurationError(f"a deal has two probabilities: {found.index[found.index.duplicated()][0]!r}")
        return cls(found)

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Return the fraction of each deal; missing where the table has none."""
        found = np.full(len(frame), np.nan)
        for name in ("custom_id", "id"):
            if name in frame.columns:
                own = self.fractions.reindex(pd.Index(frame[name].astype(object))).to_numpy()
                found = np.where(np.isnan(own), found, own)
        return found


def read_chances(source: Any) -> Any:
    """Return whose probabilities count: a name, or a model."""
    if isinstance(source, pd.DataFrame | pd.Series):
        return ChancesByDeal.of(source)
    if (isinstance(source, str) and source in NAMES) or isinstance(source, ChanceModel):
        return source
    raise ConfigurationError(
        f"probability must be {NAMES[0]!r}, {NAMES[1]!r} or {NAMES[2]!r}, a model with predict(frame), or a table "
        f"by id, not {source!r}"
    )


def fractions_of(model: ChanceModel, frame: pd.DataFrame) -> Floats:
    """Return a model's probability of each deal."""
    found = pd.Series(model.predict(frame)).to_numpy(dtype=np.float64, na_value=np.nan)
    if found.shape != (len(frame),) or not ((found >= 0) & (found <= 1) | np.isnan(found)).all():
        raise ConfigurationError(f"{type(model).__name__}.predict(frame) must give one fraction for each row")
    return found
