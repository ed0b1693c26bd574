"""Texts with escapes and small JSON values as the service writes them, read a column at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opp_pandas.api.batches import TAGS, TEXT, Mask, mask_of
from opp_pandas.api.documents import parse_json
from opp_pandas.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Callable


_MAX_BRACKETS = 32
_TEXT_FORM = r'^(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*$'


def read_escapes(texts: pa.Array) -> tuple[pa.Array, Mask]:
    """Resolve escapes.

    Parameters
    ----------
    texts : Array of large_string, shape (n,)
        What stands between the quotation marks.

    Returns
    -------
    texts : Array of large_string, shape (n,)
        What was meant.
    odd : ndarray of bool, shape (n,)
        Where it is no text, for a quotation mark or an escape too many.
    """
    special = pc.fill_null(pc.match_substring_regex(texts, r'["\\]'), False)
    right = pc.and_(special, pc.fill_null(pc.match_substring_regex(texts, _TEXT_FORM), False))
    written = texts.filter(right).to_pylist()
    # One list of texts that are each known to be one.
    values = parse_json(('["' + '","'.join(written) + '"]').encode()) if written else []
    return pc.replace_with_mask(texts, right, pa.array(values, type=TEXT)), mask_of(special) & ~mask_of(right)


def read_distinct(texts: pa.Array, kind: str) -> tuple[pa.Array, Mask]:
    """Parse each distinct value once.

    Parameters
    ----------
    texts : Array of large_string, shape (n,)
        JSON values of any kind.
    kind : {"tags", "boolean", "anything"}
        What they should be; values of any kind are not kept.

    Returns
    -------
    values : Array, shape (n,)
    odd : ndarray of bool, shape (n,)
        Where it is not valid, or of another kind.
    """
    coded = pc.dictionary_encode(texts)
    read = _READERS[kind]
    values, wrong = [], []
    for written in coded.dictionary.to_pylist():
        try:
            if written.count("[") + written.count("{") > _MAX_BRACKETS:
                raise ValueError
            values.append(read(parse_json(written.encode())))
            wrong.append(False)
        except (DocumentError, ValueError):
            values.append(None)
            wrong.append(True)
    odd = np.zeros(len(texts), dtype=bool)
    if any(wrong):
        odd = mask_of(pc.fill_null(pa.array(wrong).take(coded.indices), False))
    return pa.array(values, type=TAGS if kind == "tags" else pa.bool_()).take(coded.indices), odd


def _tags(value: Any) -> Any:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError
    return value


def _boolean(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError
    return value


_READERS: dict[str, Callable[[Any], Any]] = {"tags": _tags, "boolean": _boolean, "anything": lambda _: None}
