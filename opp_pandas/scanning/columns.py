"""Columns of files as the package knows them, whoever wrote the files.

Writers differ in ways that mean the same: whole numbers of 32 bits, text as
dictionaries or views, instants in other units and zones, whole numbers that
became floats because some were missing. Those are read as one. What does not
mean the same (text where numbers belong, instants without a zone) is refused,
with the file and the column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.errors import FrameError
from opp_pandas.load.parquet_folder import ARROW_TYPES
from opp_pandas.resource import COLUMN_DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

INSTANT = "datetime64[us, UTC]"
_MASKED = {pa.int64(): "Int64", pa.float64(): "Float64", pa.bool_(): "boolean"}
_NUMBERS = ("Int64", "Float64")
_LARGEST_EXACT = 2**53


def kind_of(typed: pa.DataType, *, is_utc: bool = False) -> str | None:
    """Return the dtype that an Arrow type stands for; ``"missing"`` for no values at all, None for an unusual one.

    Parameters
    ----------
    typed : DataType
        As the file has it.
    is_utc : bool
        Whether its instants are in UTC although the type does not say so.
    """
    if pa.types.is_dictionary(typed):
        return kind_of(typed.value_type)
    if pa.types.is_null(typed):
        return "missing"
    if pa.types.is_integer(typed):
        return "Int64"
    if pa.types.is_floating(typed) or pa.types.is_decimal(typed):
        return "Float64"
    if pa.types.is_boolean(typed):
        return "boolean"
    if pa.types.is_string(typed) or pa.types.is_large_string(typed) or pa.types.is_string_view(typed):
        return "str"
    if pa.types.is_timestamp(typed) and (typed.tz or is_utc):
        return INSTANT
    return None


def objection(column: str, typed: pa.DataType, kind: str | None) -> str | None:
    """Explain why figures cannot read a column of a file as the schema has it; None where they can."""
    wanted = COLUMN_DTYPES.get(column)
    if wanted in (None, "str", "object") or kind in (wanted, "missing") or (wanted in _NUMBERS and kind in _NUMBERS):
        return None
    if wanted == INSTANT and (pa.types.is_timestamp(typed) or pa.types.is_date(typed)):
        return f"holds {typed}: days and clocks without a zone are ambiguous; write instants with one"
    return f"holds {typed}, and {wanted} belongs there; write it so, or adopt the file with opp.adopt(frame)"


@dataclass(frozen=True, eq=False)
class Reader:
    """How one column becomes a pandas column, the same in all files.

    Parameters
    ----------
    column : str
        Its name.
    kind : str or None
        A dtype from `kind_of`; None: as Arrow has it.
    """

    column: str
    kind: str | None

    @classmethod
    def of(cls, column: str, kinds: Mapping[str, str | None]) -> Reader:
        """Settle how a column is read; `kinds` is what each file holds.

        Raises
        ------
        FrameError
            If files hold what does not go together.
        """
        found = {kind: file for file, kind in kinds.items() if kind != "missing"}
        if len(found) > 1 and not set(found) <= set(_NUMBERS):
            words = " and ".join(f"{kind or 'another type'} in {file}" for kind, file in found.items())
            raise FrameError(f"column {column!r} is not of one kind: {words}; write the files alike")
        wanted = COLUMN_DTYPES.get(column)
        if not found:
            return cls(column, wanted if wanted != "object" else None)
        # Whole numbers may have become floats where some are missing.
        kind = next(iter(found)) if len(found) == 1 else wanted if wanted in _NUMBERS else "Float64"
        return cls(column, "Int64" if wanted == "Int64" and kind == "Float64" else kind)

    def read(self, values: pa.Array | pa.ChunkedArray, file: str) -> pa.Array | pa.ChunkedArray:
        """Bring what a file holds to the one Arrow type.

        Raises
        ------
        FrameError
            If a number does not fit into it.
        """
        target = ARROW_TYPES.get(self.kind or "")
        if target is None or values.type == target:
            return values
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        try:
            if pa.types.is_timestamp(values.type):
                return pc.cast(values, pa.timestamp("us", tz=values.type.tz), safe=False).cast(target)
            if self.kind == "Int64" and not pa.types.is_integer(values.type):
                return self._whole(values, file)
            return pc.cast(values, target)
        except pa.ArrowInvalid as error:
            raise FrameError(f"column {self.column!r} of {file} cannot be read as {self.kind}: {error}") from error

    def _whole(self, values: Any, file: str) -> Any:
        """Read floats and decimals as whole numbers where they are such; amounts and percentages may have parts."""
        floats = pc.cast(values, pa.float64(), safe=False)
        absent = pc.is_nan(floats)
        if pc.any(absent).as_py():
            floats = pc.if_else(absent, pa.scalar(None, pa.float64()), floats)
        largest = pc.max(pc.abs(floats)).as_py() or 0.0
        if largest < _LARGEST_EXACT and not pc.any(pc.not_equal(pc.floor(floats), floats)).as_py():
            return pc.cast(floats, pa.int64())
        if self.column.endswith("id"):
            raise FrameError(f"column {self.column!r} of {file} holds {values.type} that are no whole numbers: no ids")
        return floats


def series_of(values: pa.Array | pa.ChunkedArray, column: str) -> pd.Series:
    """Return what a `Reader` read as a pandas column with the dtypes of a load."""
    typed = values.type
    if typed in _MASKED:
        dtype: Any = pd.api.types.pandas_dtype(_MASKED[typed])
        return pd.Series(dtype.__from_arrow__(values), name=column, copy=False)
    if pa.types.is_large_string(typed) or pa.types.is_string(typed):
        chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
        return pd.Series(pd.array(chunked, dtype="str"), name=column, copy=False)
    if pa.types.is_list(typed) or pa.types.is_large_list(typed):
        return pd.Series(values.to_pylist(), name=column, dtype=object)
    found: pd.Series = values.to_pandas()
    return found.rename(column)
