"""What a load asked for, kept so that a later one can go on from it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.carrier import loaded_of
from opp_pandas.errors import ConfigurationError, FrameError
from opp_pandas.history.packing import dump
from opp_pandas.service.query import NOT_NULL
from opp_pandas.stages import StageMap

if TYPE_CHECKING:
    from opp_pandas.history.snapshots import History

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
    if isinstance(value, list | set | frozenset | range | np.ndarray | pd.Index | pd.Series):
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


def warm_start(history: History, **asked: Any) -> pd.DataFrame | None:
    """Give the newest state of a history, for a load that fetches only what changed since.

    Parameters
    ----------
    history : History
        Snapshots of loads of the service.
    **asked
        What the new load asks for: ``filter`` (with instants), ``where``,
        ``fields``, ``include``, ``limit`` and so on, as in ``Loaded.query``.
        What is not named is taken from the last load.

    Returns
    -------
    DataFrame or None
        ``refresh(frame, client)`` brings it up to date. None where the history
        is empty, holds imported events only, or its last load knew no time of
        the service: then everything has to be read.

    Raises
    ------
    ConfigurationError
        If the last load asked for something else, so that going on from it
        would give other deals than asked for.
    """
    if not len(history.snapshots()):
        return None
    frame = history.as_of()
    loaded = loaded_of(frame)
    if loaded is None or loaded.kind != "read" or loaded.watermark is None or UNKNOWN in loaded.query:
        return None
    other = [name for name, value in asked.items() if not _alike(loaded.query.get(name), value)]
    if other:
        raise ConfigurationError(
            f"the last load in {history!r} asked for {_words(loaded.query, other)}, "
            f"this one for {_words(asked, other)}; use a history for each, or load without history="
        )
    return frame


def _alike(one: Any, other: Any) -> bool:
    if not one and not other:
        return True
    return dump(_packed(_plain(one))) == dump(_packed(_plain(other)))


def _plain(value: Any) -> Any:
    """Write moments one way, so that equal ones compare equal."""
    if isinstance(value, dt.datetime):
        return pd.Timestamp(value).isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _words(query: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name}={query.get(name)!r}" for name in names)
