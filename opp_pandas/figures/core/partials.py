"""What is gathered of a piece of the deals, and what pieces come to together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from opp_pandas.errors import ConfigurationError

Part: TypeAlias = Mapping[str, Any]
"""What a figure gathered of a piece of the deals, by name; the class of every value puts several together: `merged`."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that a figure needs one by one; the only part that grows with the deals."""

    frame: pd.DataFrame

    @classmethod
    def merged(cls, parts: Sequence[Rows]) -> Rows:
        """Put the rows of several pieces below each other."""
        return cls(pd.concat([part.frame for part in parts]))


_TOGETHER = 4
"""Parts put together at once: one by one would take long, and many at once much memory, where groups are many."""


def combine_parts(parts: Iterable[Part]) -> Part:
    """Put parts of several pieces together into one, as they come; it may be combined further."""
    pieces: list[Part] = []
    for part in parts:
        pieces.append(part)
        if len(pieces) == _TOGETHER:
            pieces = [_combined(pieces)]
    if not pieces:
        raise ConfigurationError("there is no part to merge; a frame without rows has one, too")
    return _combined(pieces)


def _combined(pieces: Sequence[Part]) -> Part:
    if len(pieces) == 1:
        return pieces[0]
    return {name: type(first).merged([piece[name] for piece in pieces]) for name, first in pieces[0].items()}
