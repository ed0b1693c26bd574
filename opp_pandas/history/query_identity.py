"""What a load asked for, kept so that a later one can go on from it."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any

import pandas as pd

from opp_pandas.api.query import LISTS, NOT_NULL
from opp_pandas.errors import FrameError
from opp_pandas.history.typed_values import READ, decode, encode, special
from opp_pandas.stages import StageMap

UNKNOWN = "$unknown"
"""The key of a query that could not be kept."""


def pack_query(query: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write a query so that JSON keeps the difference between a pair and a list; None for one that cannot be kept.

    Examples
    --------
    >>> unpack_query(pack_query({"filter": {"amount": (1, None), "owner": [7, 9]}}))
    {'filter': {'amount': (1, None), 'owner': [7, 9]}}
    """
    try:
        text, types = encode(dict(query), special=_special)
    except FrameError:
        return None
    return {"text": text, "types": types}


def unpack_query(packed: Mapping[str, Any] | None) -> dict[str, Any]:
    """Read what `pack_query` wrote; `UNKNOWN` stands for what it could not."""
    return {UNKNOWN: True} if packed is None else dict(decode(packed["text"], packed["types"], _READ))


def _special(value: Any) -> tuple[str, Any] | None:
    if value is NOT_NULL:
        return "not_null", None
    if isinstance(value, StageMap):
        return "stages", value.to_dict()
    if isinstance(value, tuple):
        return "tuple", list(value)
    if isinstance(value, pd.Index | pd.Series):
        return "list", list(value)
    return special(value)


def read_stages(told: Mapping[str, Any]) -> StageMap:
    """Read the meaning of stages."""
    maps = {name: told[name] for name in ("probability", "category")}
    return StageMap(told["order"], told["won"], told["lost"], **maps)


_READ = {**READ, "not_null": lambda _: NOT_NULL, "stages": read_stages, "tuple": tuple, "list": list}


def asked_for(query: Mapping[str, Any], source: str) -> str | None:
    """Return a short text that two loads share if they asked one service for the same deals and fields.

    None for a load whose query (as in ``Loaded.query``) left deals out of what
    it asked for (``limit=``, ``where=``), or whose filter cannot be kept: no
    other can go on from it.
    """
    if not query or UNKNOWN in query or query.get("limit") is not None or query.get("where"):
        return None
    fields = query.get("fields")
    told = {"source": source, "filter": query.get("filter") or None, "fields": None if fields is None else set(fields)}
    try:
        text, types = encode(_plain(told), special=_special)
    except FrameError:
        return None
    return hashlib.sha256(f"{text}{types}".encode()).hexdigest()[:16]


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
