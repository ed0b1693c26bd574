"""What a load asked for, kept so that a later one can go on from it."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from opp_pandas.api.query import NOT_NULL
from opp_pandas.errors import FrameError
from opp_pandas.history.typed_values import dump
from opp_pandas.stages import StageMap

LISTS = (list, set, frozenset, range, np.ndarray, pd.Index, pd.Series)
UNKNOWN = "$unknown"
"""The key of a query that could not be kept."""


def pack_query(query: Mapping[str, Any]) -> dict[str, Any]:
    """Write a query so that JSON keeps the difference between a pair and a list.

    Examples
    --------
    >>> unpack_query(pack_query({"filter": {"amount": (1, None), "owner": [7, 9]}}))
    {'filter': {'amount': (1, None), 'owner': [7, 9]}}
    """
    packed: dict[str, Any] = _packed(dict(query))
    try:
        dump(packed)
    except FrameError:
        return {UNKNOWN: True}
    return packed


def unpack_query(packed: Any) -> dict[str, Any]:
    """Read what `pack_query` wrote; `UNKNOWN` stays in it where it could not."""
    found: dict[str, Any] = _unpacked(packed or {})
    return found


def _packed(value: Any) -> Any:
    if value is NOT_NULL:
        return {"$not_null": True}
    if isinstance(value, StageMap):
        pairs = {
            name: list(entry.items()) if isinstance(entry, dict) else entry for name, entry in value.to_dict().items()
        }
        return {"$stages": pairs}
    if isinstance(value, tuple):
        return {"$tuple": [_packed(item) for item in value]}
    if isinstance(value, Mapping):
        return {str(key): _packed(item) for key, item in value.items()}
    if isinstance(value, LISTS):
        return [_packed(item) for item in value]
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$not_null"}:
            return NOT_NULL
        if set(value) == {"$stages"}:
            told = value["$stages"]
            maps = {name: dict(told[name]) for name in ("probability", "category")}
            return StageMap(told["order"], told["won"], told["lost"], **maps)
        if set(value) == {"$tuple"}:
            return tuple(_unpacked(item) for item in value["$tuple"])
        return {key: _unpacked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    return value


def asked_for(query: Mapping[str, Any], source: str) -> str | None:
    """Give a short text that two loads share if they asked one service for the same deals and fields.

    Parameters
    ----------
    query : mapping
        As in ``Loaded.query``.
    source : str
        Where the rows came from.

    Returns
    -------
    str or None
        None for a load that left deals out of what it asked for (``limit=``,
        ``where=``), or whose filter cannot be kept: no other can go on from it.
    """
    if not query or UNKNOWN in query or query.get("limit") is not None or query.get("where"):
        return None
    fields = query.get("fields")
    told = {"source": source, "filter": query.get("filter") or None, "fields": None if fields is None else set(fields)}
    try:
        text = dump(_packed(_plain(told)))
    except FrameError:
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Write equal conditions one way: moments as text, the members of lists and mappings in order."""
    if isinstance(value, dt.datetime):
        return pd.Timestamp(value).tz_convert("UTC").isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, LISTS):
        return sorted((_plain(item) for item in value), key=repr)
    return value
