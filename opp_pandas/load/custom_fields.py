"""Custom fields by the organisation's own names, kinds and rules, as ``/types`` states them.

`relabel` gives a copy of a frame with "Region" for ``custom12``, and on request
values for texts: numbers, days, true and false, lists of options. What was
loaded stays text underneath: writing back turns labels into API names and
values into texts again, and a cell that was not changed keeps the very text
that the service sent.
"""

from __future__ import annotations

import datetime as dt
import difflib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, InvalidFrameError, named, printable
from opp_pandas.frame_state import Loaded, attach_loaded, loaded_of, require_loaded
from opp_pandas.instants import parse_clock, parse_day
from opp_pandas.kinds import is_missing
from opp_pandas.load.custom_field_values import (
    boolean_spelling,
    read_boolean,
    read_number,
    read_options,
    separator_spelling,
    write_number,
    write_options,
)
from opp_pandas.load.upsert import put
from opp_pandas.resource import COLUMN_DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from opp_pandas.api.client import Client
    from opp_pandas.api.custom_field_types import CustomField

NUMBERS = frozenset({"numerical", "currency", "percentage"})
TIMES = frozenset({"date", "date_time"})
CONVERTIBLE = NUMBERS | TIMES | {"boolean", "inclusion", "multi_inclusion"}
_EXACT_DIGITS = 2**53
_WORDS = {
    "numerical": "a number such as 12.5",
    "currency": "a number such as 1250.00",
    "percentage": "a number such as 12.5",
    "date": "a day such as 2026-12-31",
    "date_time": "a day and time such as 2026-12-31T08:00:00",
    "boolean": "true or false",
}


def fields_by_column(client: Client) -> dict[str, CustomField]:
    """Ask the service what the organisation made of the custom fields of opportunities, by column; one request."""
    return {entry.name: entry for entry in client.custom_fields()}


def shown_name(entry: CustomField) -> str:
    """Return a field's name for people: label and column."""
    return f"{printable(entry.label, 60)} ({entry.name})"


def columns_by_label(fields: Mapping[str, CustomField]) -> dict[str, str]:
    """Return the column of each label; a label that two fields bear is left out."""
    labels = [entry.label for entry in fields.values()]
    return {entry.label: entry.name for entry in fields.values() if labels.count(entry.label) == 1}


def columns_for(frame: pd.DataFrame, names: Any) -> Any:
    """Return the frame's own columns for names that may be labels or API names; what is no name stays as it is."""
    loaded = loaded_of(frame)
    if loaded is None or not loaded.custom_fields:
        return names
    by_label = columns_by_label(loaded.custom_fields)

    def own(name: Any) -> Any:
        if not isinstance(name, str) or name in frame.columns:
            return name
        other = loaded.labels.get(name) or by_label.get(name)
        return other if other in frame.columns else name

    if isinstance(names, str):
        return own(names)
    return [own(name) for name in names] if isinstance(names, list | tuple) else names


# --- relabelling ----------------------------------------------------------------


def relabel(frame: pd.DataFrame, client: Client | None = None, *, convert: bool = False) -> pd.DataFrame:
    """Name custom fields as the organisation does.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        A loaded or adopted frame, edited or not. Never modified.
    client : Client, optional
        Where to ask for the names; default the client of the load. One request,
        the first time.
    convert : bool, default False
        Turn the texts of custom fields into values by their kind: numerical,
        currency and percentage to Int64 or Float64, boolean to boolean, date and
        date_time to datetime64[us] without a zone (the service's texts have
        none), inclusion to a category, multi_inclusion to tuples.

    Returns
    -------
    DataFrame, shape (n, k)
        A copy with labels for ``custom1`` and the like. A label that is a
        column's name already, or that two fields bear, is not used: these keep
        the API's name, and ``load_report.notes`` says so. Cells that cannot be
        converted are missing (several options: stay text), are listed in
        ``load_report.failures`` and keep their text at the service.

    Raises
    ------
    NotLoadedError
        If nothing of a load travels with the frame.
    ConfigurationError
        If there is no client to ask.
    FrameError
        With ``convert=True``, if an edited cell cannot be converted.

    Examples
    --------
    >>> named = df.opp.relabel()
    >>> [name for name in named.columns if name not in df.columns][:3]
    ['Region', 'Segment', 'Products']
    """
    loaded = require_loaded(frame, "relabel()")
    fields = loaded.custom_fields
    if not fields:
        asked = client if client is not None else loaded.client
        if asked is None:
            raise ConfigurationError("these rows were not loaded from a service: say whom to ask, relabel(client)")
        fields = fields_by_column(asked)
    plain = plain_frame(frame, loaded)
    labels, clashes = _usable_labels(plain, fields)
    loaded = replace(loaded, custom_fields=fields, labels={}, converted={})
    notes = [f"{named(clashes, 10)} kept the API's name: another column has that label"] if clashes else []
    failures: list[tuple[int, str, str]] = []
    converted: dict[str, str] = {}
    if convert:
        for column, entry in fields.items():
            if column in plain.columns and entry.kind in CONVERTIBLE:
                values, unread = convert_texts(plain[column], entry)
                _refuse_unread_edits(plain, loaded, column, unread, entry)
                plain = plain.assign(**{column: values})
                converted[column] = entry.kind
                failures += [(place, column, _rule(entry)) for place in unread]
    shown = plain.rename(columns=labels)
    report = replace(
        loaded.report,
        notes=(*loaded.report.notes, *notes),
        failures=_with_failures(loaded.report.failures, frame, loaded, failures),
    )
    return attach_loaded(shown, loaded.renewed(labels=labels, converted=converted, report=report))


def _usable_labels(frame: pd.DataFrame, fields: Mapping[str, CustomField]) -> tuple[dict[str, str], list[str]]:
    by_label = columns_by_label(fields)
    taken = {str(name) for name in frame.columns} | set(COLUMN_DTYPES)
    labels, clashes = {}, []
    for column, entry in fields.items():
        if column not in frame.columns:
            continue
        if entry.label in by_label and entry.label not in taken:
            labels[column] = entry.label
        else:
            clashes.append(column)
    return labels, clashes


def _rule(entry: CustomField) -> str:
    if entry.kind in ("inclusion", "multi_inclusion"):
        return f"must be of the list of {shown_name(entry)}; its text was kept"
    return f"must be {_WORDS[entry.kind]}; its text was kept"


def _refuse_unread_edits(
    frame: pd.DataFrame, loaded: Loaded, column: str, unread: Sequence[int], entry: CustomField
) -> None:
    """Converting would lose an edit that is no value of its kind."""
    places = _base_places(frame, loaded)
    base = loaded.baseline.frame.get(column)
    for place in unread:
        text = frame[column].iloc[place]
        before = base.iloc[places[place]] if base is not None and places[place] >= 0 else None
        if text != before and entry.kind != "multi_inclusion":
            raise FrameError(
                f"{shown_name(entry)} of row {printable(frame.index[place], 40)} was set to "
                f"{printable(repr(text), 60)}, and {_WORDS[entry.kind]} is expected: set it right, then relabel"
            )


def _with_failures(
    known: pd.DataFrame, frame: pd.DataFrame, loaded: Loaded, found: Sequence[tuple[int, str, str]]
) -> pd.DataFrame:
    if not found:
        return known
    places = _base_places(frame, loaded)
    base = loaded.baseline.frame
    rows = [(int(places[place]), column, rule) for place, column, rule in found if places[place] >= 0]
    fresh = pd.DataFrame(
        {
            "id": pd.array([base["id"].iloc[place] for place, _, _ in rows], dtype="Int64"),
            "row": [place for place, _, _ in rows],
            "column": [column for _, column, _ in rows],
            "value": pd.Series([base[column].iloc[place] for place, column, _ in rows], dtype=object),
            "rule": [rule for _, _, rule in rows],
        }
    )
    return pd.concat([known, fresh], ignore_index=True) if len(known) else fresh


def _base_places(frame: pd.DataFrame, loaded: Loaded) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return each row's place in the baseline by its id, -1 where it has none."""
    if "id" in frame.columns:
        ids = frame["id"]
    elif "id" in frame.index.names:
        ids = pd.Series(frame.index.get_level_values("id"))
    else:
        return np.full(len(frame), -1)
    if str(ids.dtype) == "Int64":
        known = ids.to_numpy(dtype=np.int64, na_value=0)
    else:
        numbers = pd.to_numeric(ids, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
        known = np.where(whole, numbers, 0).astype(np.int64)
    places = np.asarray(loaded.baseline.ids.get_indexer(pd.Index(known)))
    # Rows that wait for their id bear negative numbers in the baseline; they are found by their label.
    places[known <= 0] = -1
    if loaded.created:
        pending = loaded.pending
        for place in np.flatnonzero(known <= 0).tolist():
            entry = pending.get(frame.index[place])
            if entry is not None and entry.position is not None:
                places[place] = entry.position
    return places


# --- texts to values --------------------------------------------------------------


def convert_texts(texts: pd.Series, entry: CustomField) -> tuple[pd.Series, list[int]]:
    """Turn the texts of one custom field into values, and list the positions of those that cannot be read.

    Missing where the text is missing, empty or cannot be read.
    """
    codes, distinct = pd.factorize(texts, use_na_sentinel=True)
    read = [_read(text, entry) for text in distinct]
    bad = np.array([value is None and text != "" for value, text in zip(read, distinct, strict=True)] + [False])
    unread = np.flatnonzero(bad[codes]).tolist()
    if entry.kind == "multi_inclusion":
        # A list of options has no dtype, so a text that is none can stay where it is.
        values = [text if value is None and text != "" else value for text, value in zip(distinct, read, strict=True)]
        cells = np.empty(len(values) + 1, dtype=object)
        cells[:-1] = values
        return pd.Series(cells[codes], index=texts.index, name=texts.name), unread
    array = _array([*read, None], entry)
    return pd.Series(array.take(codes), index=texts.index, name=texts.name), unread


def _read(text: Any, entry: CustomField) -> Any:
    if not isinstance(text, str) or text == "":
        return None
    if entry.kind in NUMBERS:
        number = read_number(text)
        exact = number is not None and (
            abs(number) < _EXACT_DIGITS if number == int(number) else read_number(write_number(float(number))) == number
        )
        return number if exact else None
    if entry.kind == "boolean":
        return read_boolean(text)
    if entry.kind == "date":
        return parse_day(text)
    if entry.kind == "date_time":
        return parse_clock(text)
    if entry.kind == "multi_inclusion":
        found = read_options(text, entry.options)
        return None if found is None else found[0]
    return text


def _array(values: list[Any], entry: CustomField) -> Any:
    if entry.kind in NUMBERS:
        whole = all(value is None or value == int(value) for value in values)
        numbers = [None if value is None else int(value) if whole else float(value) for value in values]
        return pd.array(numbers, dtype="Int64" if whole else "Float64")
    if entry.kind == "boolean":
        return pd.array(values, dtype="boolean")
    if entry.kind in TIMES:
        return pd.array(pd.Series(values, dtype="datetime64[us]"))
    extra = [value for value in dict.fromkeys(values) if value is not None and value not in entry.options]
    return pd.Categorical(values, categories=[*dict.fromkeys(entry.options), *extra])


# --- values to texts --------------------------------------------------------------


def plain_frame(frame: pd.DataFrame, loaded: Loaded) -> pd.DataFrame:
    """Return a relabelled frame with its API names and texts back.

    Where a converted cell has the value that was loaded, its text is the loaded one; where not,
    the text that the column's own spelling gives. A value that has no such text is left as it
    is, for `changes()` to refuse.
    """
    back = {label: column for column, label in loaded.labels.items() if label in frame.columns}
    if back:
        frame = frame.rename(columns=back)
    found = [column for column in loaded.converted if column in frame.columns and frame.columns.is_unique]
    if not found:
        return frame
    places = _base_places(frame, loaded)
    return frame.assign(**{column: _texts(frame[column], places, loaded, column) for column in found})


def _texts(series: pd.Series, places: np.ndarray[Any, np.dtype[np.int64]], loaded: Loaded, column: str) -> pd.Series:
    entry = loaded.custom_fields[column]
    base = loaded.baseline.frame.get(column)
    if str(series.dtype) == "str" and entry.kind != "inclusion":
        return series
    if base is None:
        base = pd.Series([None] * len(loaded.baseline), dtype="str")
    shown, _ = convert_texts(base, entry)
    texts = base.array.take(places, allow_fill=True)
    changed = ~_same(series, pd.Series(shown.array.take(places, allow_fill=True)), places)
    if not changed.any():
        return pd.Series(texts, index=series.index, name=series.name)
    write = _writer(entry, base)
    cells = np.array(texts, dtype=object)
    raw = series.array
    refused = False
    for place in np.flatnonzero(changed):
        try:
            cells[place] = None if is_missing(raw[place]) else write(raw[place])
        except (ValueError, TypeError, ArithmeticError):
            cells[place], refused = raw[place], True
    return pd.Series(cells, index=series.index, name=series.name, dtype=object if refused else "str")


def _same(
    series: pd.Series, shown: pd.Series, places: np.ndarray[Any, np.dtype[np.int64]]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each cell has the value that was loaded."""
    series = series.reset_index(drop=True)
    missing = series.isna().to_numpy(dtype=bool)
    if str(series.dtype) not in ("object", "category") and str(shown.dtype) not in ("object", "category"):
        try:
            same = (series == shown).fillna(False).to_numpy(dtype=bool)
        except (TypeError, ValueError):
            same = _same_cells(series, shown)
    else:
        same = _same_cells(series, shown)
    return np.asarray((same | (missing & shown.isna().to_numpy(dtype=bool))) & (places >= 0))


def _same_cells(series: pd.Series, shown: pd.Series) -> np.ndarray[Any, np.dtype[np.bool_]]:
    pairs = zip(series.array, shown.array, strict=True)
    return np.fromiter((_is_one(value, before) for value, before in pairs), bool, len(series))


def _is_one(value: Any, before: Any) -> bool:
    if is_missing(value) or is_missing(before):
        return False
    if isinstance(value, list | tuple) or isinstance(before, list | tuple):
        return type(before) is tuple and isinstance(value, list | tuple) and tuple(value) == before
    if isinstance(value, bool | np.bool_) != isinstance(before, bool | np.bool_):
        return False
    return bool(value == before)


def _writer(entry: CustomField, base: pd.Series) -> Callable[[Any], str]:
    """Return the function that writes a value of this field as the column spells it."""
    texts = [text for text in base.array if isinstance(text, str)]
    if entry.kind == "boolean":
        yes, no = boolean_spelling(texts)
        return lambda value: yes if _boolean(value) else no
    if entry.kind == "multi_inclusion":
        separator = separator_spelling(texts, entry.options)
        return lambda value: value if isinstance(value, str) else write_options(_list(value), separator)
    if entry.kind in NUMBERS:
        return _number_text
    if entry.kind in TIMES:
        return lambda value: _time_text(value, entry.kind)
    return _plain_text


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(value)
    return bool(value)


def _list(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise TypeError(value)
    return list(value)


def _number_text(value: Any) -> str:
    if isinstance(value, bool | np.bool_ | str):
        raise TypeError(value)
    return write_number(value.item() if isinstance(value, np.generic) else value)


def _time_text(value: Any, kind: str) -> str:
    if not isinstance(value, dt.date | np.datetime64):
        raise TypeError(value)
    stamp = pd.Timestamp(value)
    if stamp.tzinfo is not None or (kind == "date" and stamp != stamp.normalize()):
        raise ValueError(value)
    return stamp.strftime("%Y-%m-%d" if kind == "date" else "%Y-%m-%dT%H:%M:%S")


def _plain_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def shown_cells(
    current: pd.Series, places: np.ndarray[Any, np.dtype[np.int64]], texts: pd.Series, entry: CustomField
) -> Any:
    """Put texts of the service into a converted column; give the column's new array."""
    values, _ = convert_texts(texts, entry)
    return put(current.array, places, values)


# --- the organisation's own rules ---------------------------------------------------


def custom_objection(fields: Mapping[str, CustomField], column: str, text: Any) -> str | None:
    """Describe which of the organisation's rules a text that is to be sent breaks, or None.

    Where nobody asked for the fields, nothing is known to be broken.
    """
    entry = fields.get(column)
    if entry is None:
        return None
    if text is None or text == "":
        return f"{shown_name(entry)} is required by the organisation" if entry.required else None
    if entry.kind in _WORDS and _read(text, replace(entry, options=())) is None and not _long_number(text, entry):
        return f"{shown_name(entry)} must be {_WORDS[entry.kind]}, not {printable(repr(text), 60)}"
    if entry.kind == "inclusion" and entry.options and text not in entry.options:
        near = difflib.get_close_matches(text, entry.options, 1, 0.6)
        hint = f"; did you mean {named(near)}?" if near else f"; there are {named(entry.options, 10)}"
        return f"{shown_name(entry)} has no option {printable(repr(text), 60)}{hint}"
    if entry.kind == "multi_inclusion" and entry.options and read_options(text, entry.options) is None:
        return f"{shown_name(entry)} takes {named(entry.options, 10)}, not {printable(repr(text), 60)}"
    return None


def missing_required(fields: Mapping[str, CustomField], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the columns that the organisation requires and a new deal lacks, each with the reason in words."""
    lacking = [column for column, entry in fields.items() if entry.required and values.get(column) in (None, "")]
    return [(column, str(custom_objection(fields, column, None))) for column in lacking]


def _long_number(text: str, entry: CustomField) -> bool:
    return entry.kind in NUMBERS and read_number(text) is not None


def find_custom_failures(frame: pd.DataFrame) -> pd.DataFrame:
    """Find every cell that breaks a rule of the organisation, as in `opp_pandas.schema.find_failures`.

    None where the custom fields are not known, as before `relabel`.
    """
    from opp_pandas.schema import FAILURE_COLUMNS

    loaded = loaded_of(frame)
    found: list[tuple[Any, ...]] = []
    if loaded is not None and loaded.custom_fields and frame.columns.is_unique:
        plain = plain_frame(frame, loaded)
        ids = plain["id"].array if "id" in plain.columns else plain.index.get_level_values("id")
        for column in loaded.custom_fields:
            if column in plain.columns:
                for place, rule in _broken(plain[column], loaded.custom_fields, column):
                    name = loaded.labels.get(column, column)
                    found.append((ids[place], frame.index[place], name, frame[name].iloc[place], rule))
    columns = {
        name: pd.Series([row[place] for row in found], dtype=object) for place, name in enumerate(FAILURE_COLUMNS)
    }
    return pd.DataFrame(columns).astype({"id": "Int64", "column": "str", "rule": "str"})


def _broken(series: pd.Series, fields: Mapping[str, CustomField], column: str) -> Iterable[tuple[int, str]]:
    codes, distinct = pd.factorize(series, use_na_sentinel=True)
    rules = [custom_objection(fields, column, text if isinstance(text, str) else str(text)) for text in distinct]
    rules.append(custom_objection(fields, column, None))
    for place, code in enumerate(codes):
        rule = rules[code]
        if rule is not None:
            yield place, rule


def validate_with_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Check every cell against `OpportunitySchema`, and against the organisation's rules where they are known.

    The rules of custom fields (options, kinds, what is required) are known once
    ``df.opp.relabel()`` has asked for them.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities.

    Returns
    -------
    DataFrame
        The frame itself.

    Raises
    ------
    InvalidFrameError
        With every bad cell in ``.failure_cases``.
    """
    from opp_pandas.schema import find_failures

    parts = [part for part in (find_failures(frame), find_custom_failures(frame)) if len(part)]
    if parts:
        raise InvalidFrameError(pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0])
    return frame
