"""Instants as the service writes them, read a column at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.api.batches import STAMP, TEXT, Mask, mask_of
from opp_pandas.instants import FIRST_INSTANT
from opp_pandas.kinds import INSTANTS, UnfitError

_MILLISECONDS = np.frombuffer(b"yyyy-mm-ddThh:mm:ss.fffZ", dtype=np.uint8)
_MARKS = [4, 7, 10, 13, 16, 19, 23]


def read_instants(texts: pa.Array) -> tuple[pa.Array, Mask]:
    """Read instants.

    Parameters
    ----------
    texts : Array of large_string, shape (n,)
        As they came.

    Returns
    -------
    instants : Array of timestamp[us, UTC], shape (n,)
        Missing where `odd`.
    odd : ndarray of bool, shape (n,)
        Where the text is not in canonical form, or is no instant at all.
    """
    data = np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8)
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    there = mask_of(texts.is_valid())
    starts, lengths = offsets[:-1], np.diff(offsets)
    if (lengths == len(_MILLISECONDS) * there).all():
        # All in the service's own form: the texts stand side by side.
        table = data[offsets[0] : offsets[-1]].reshape(-1, len(_MILLISECONDS))
        if (table[:, _MARKS] == _MILLISECONDS[_MARKS]).all():
            odd = np.zeros(len(texts), dtype=bool)
            stamps = _cast_instants(texts, odd)
            return stamps, odd
    odd = there & ((lengths < 20) | (lengths > 27))
    usual = there & ~odd
    if usual.any():
        begin, length = starts[usual], lengths[usual]
        form = (data[begin + 10] == ord("T")) & (data[begin + length - 1] == ord("Z"))
        for place, mark in ((4, "-"), (7, "-"), (13, ":"), (16, ":")):
            form &= data[begin + place] == ord(mark)
        form &= (length == 20) | ((length > 21) & (data[begin + 19] == ord(".")))
        odd[usual] = ~form
    return _cast_instants(texts, odd), odd


def _cast_instants(texts: pa.Array, odd: Mask) -> pa.Array:
    """Cast what is not odd; what Arrow does not take, or Python does not, becomes odd."""
    readable = pc.if_else(pa.array(odd), pa.scalar(None, TEXT), texts) if odd.any() else texts
    try:
        stamps = readable.cast(STAMP)
    except pa.ArrowInvalid:
        odd |= np.array([_is_odd_instant(text) for text in readable.to_pylist()], dtype=bool)
        stamps = pc.if_else(pa.array(odd), pa.scalar(None, TEXT), readable).cast(STAMP)
    lowest = pc.min(stamps.cast(pa.int64())).as_py()
    if lowest is not None and lowest < FIRST_INSTANT:  # Arrow knows a year 0
        odd |= mask_of(pc.fill_null(pc.less(stamps.cast(pa.int64()), FIRST_INSTANT), False))
    return stamps


def _is_odd_instant(text: str | None) -> bool:
    try:
        return not INSTANTS.decode(text)[1]
    except UnfitError:
        return True
