"""The columns of the editor: what each is called, how its cells are read, who may edit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from opp_pandas.changes import rules
from opp_pandas.changes.name_lookup import NameBook
from opp_pandas.kinds import BOOLEAN, INSTANTS, INTEGER, TAGS, TEXT
from opp_pandas.load.custom_field_values import separator_spelling
from opp_pandas.load.custom_fields import NUMBERS, TIMES
from opp_pandas.notebook.codecs import (
    Anything,
    Categories,
    Clocks,
    Codec,
    Numbers,
    Options,
    Plain,
    Relations,
)
from opp_pandas.resource import EDITABLE_NAMES, LOOKUP_COLUMNS, OPPORTUNITY

if TYPE_CHECKING:
    from opp_pandas.api.custom_field_types import CustomField
    from opp_pandas.frame_state import Loaded

Choosing = Literal["", "one", "many"]
NAME_OF = {id_column: name for name, id_column in EDITABLE_NAMES.items()}
# What most people look at first; custom fields with values join them.
FIRST = (
    *("name", "stage_name", "amount", "probability", "close_date", "owner_name", "account_name"),
    *("forecast_category", "next_step", "tags"),
)
MOST_CUSTOM_AT_FIRST = 4


@dataclass(frozen=True)
class Field:
    """One column of the editor.

    `column` is the frame's own name of it, `name` ours (``custom12``), also where the frame bears labels;
    `title` stands in its header, `meaning` is a line about it, `kind` one of integer, number, text, instant, day, tags,
    boolean, relation and other. `locked` says why nobody may edit it. Values are chosen from a list where `choosing`
    is one or many, from `options` where they are known and short, with `separator` between several. `named_only` is,
    of adopted deals, the name of a stage, owner or account whose id the service has yet to be asked for.
    """

    column: str
    name: str
    title: str
    meaning: str
    kind: str
    codec: Codec
    locked: str = ""
    choosing: Choosing = ""
    options: tuple[str, ...] = ()
    separator: str = ""
    named_only: bool = False

    @property
    def id_column(self) -> str | None:
        """For a relation: the column with the id, whichever of the two this is."""
        if self.named_only:
            return None
        if self.name in EDITABLE_NAMES:
            return EDITABLE_NAMES[self.name]
        return self.name if self.name in NAME_OF else None


def describe_fields(frame: pd.DataFrame, loaded: Loaded, unreadable: Mapping[str, str]) -> dict[str, Field]:
    """Describe the columns of a frame, by its own names; `unreadable` says which have cells of another dtype."""
    back = {label: column for column, label in loaded.labels.items()}
    book = NameBook.of(loaded)
    fields: dict[str, Field] = {}
    for column in frame.columns:
        if isinstance(column, str):
            name = back.get(column, column)
            fields[column] = _field(frame, column, name, loaded, book, unreadable.get(name, ""))
    return fields


def _field(frame: pd.DataFrame, column: str, name: str, loaded: Loaded, book: NameBook, unreadable: str) -> Field:
    custom = loaded.custom_fields.get(name)
    locked = unreadable or _lock(name, loaded)
    title, meaning = _words(name, custom)
    facts: dict[str, Any] = {"column": column, "name": name, "title": title, "meaning": meaning, "locked": locked}
    if name in EDITABLE_NAMES and _is_named_only(name, loaded):
        known = tuple(loaded.stages.frame["stage_name"].dropna()) if name == "stage_name" else ()
        return Field(**facts, kind="text", codec=Plain(TEXT), choosing="one", options=known, named_only=True)
    if name in EDITABLE_NAMES or name in NAME_OF:
        id_column = EDITABLE_NAMES.get(name, name)
        codec: Codec = Relations(book, id_column) if name in EDITABLE_NAMES else Plain(INTEGER)
        return Field(**facts, kind="relation", codec=codec, choosing="one" if name in EDITABLE_NAMES else "")
    if name in loaded.converted and custom is not None:
        return Field(**facts, **_converted(frame[column], loaded, custom))
    own = rules.column_kind(name, frame[column].dtype)
    kind = "other" if own is None else own.name
    if own is TAGS:
        return Field(**facts, kind=kind, codec=Plain(TAGS), choosing="many", separator=", ")
    if custom is not None and custom.kind in ("inclusion", "multi_inclusion", "boolean"):
        return Field(**facts, kind="text", codec=Plain(TEXT), **_choices(loaded, name, custom))
    if name == "forecast_category":
        known = tuple(sorted(frame[column].dropna().unique().tolist())[:50]) if kind == "text" else ()
        return Field(**facts, kind=kind, codec=Plain(TEXT), choosing="one", options=known)
    zone = loaded.timezone if own is INSTANTS else None
    return Field(**facts, kind=kind, codec=Anything() if own is None else Plain(own, zone))


def _lock(name: str, loaded: Loaded) -> str:
    if name in EDITABLE_NAMES:
        known = EDITABLE_NAMES[name] in loaded.baseline.frame.columns
        return (
            ""
            if known or _is_named_only(name, loaded)
            else f"{EDITABLE_NAMES[name]} was not loaded, so it cannot be edited"
        )
    if name in LOOKUP_COLUMNS:
        return f"{name} is joined for reading; edit {LOOKUP_COLUMNS[name].id_column}"
    if name not in rules.WRITABLE:
        return "the service gives the id" if name == "id" else rules.read_only_reason(name)
    if name not in loaded.baseline.frame.columns:
        return f"{name} was not loaded, so its value at the service is unknown: load it to edit it"
    return ""


def _is_named_only(name: str, loaded: Loaded) -> bool:
    return loaded.kind == "adopt" and EDITABLE_NAMES[name] not in loaded.baseline.frame.columns


def _words(name: str, custom: CustomField | None) -> tuple[str, str]:
    attribute = OPPORTUNITY.by_column.get(name)
    if custom is not None:
        required = ", required" if custom.required else ""
        return custom.label, f"{name}: {custom.label} ({custom.kind.replace('_', ' ')}{required})"
    joined = LOOKUP_COLUMNS.get(name)
    relation = OPPORTUNITY.relationship_by_column.get(name if joined is None else joined.id_column)
    meaning = attribute.meaning if attribute else relation.meaning if relation else ""
    words = name.removesuffix("_name") if name in EDITABLE_NAMES else name
    title = "Id" if name == "id" else words.replace("_", " ").capitalize()
    return title, f"{name}: {meaning}" if meaning else name


def _choices(loaded: Loaded, name: str, custom: CustomField) -> dict[str, Any]:
    if custom.kind == "multi_inclusion":
        base = loaded.baseline.frame.get(name)
        texts: Any = [] if base is None else base.dropna().head(2000)
        return {
            "choosing": "many",
            "options": custom.options,
            "separator": separator_spelling(texts, custom.options),
        }
    if custom.kind == "boolean":
        from opp_pandas.load.custom_field_values import boolean_spelling

        base = loaded.baseline.frame.get(name)
        return {"choosing": "one", "options": boolean_spelling([] if base is None else base.dropna().head(2000))}
    return {"choosing": "one", "options": custom.options}


def _converted(series: pd.Series, loaded: Loaded, custom: CustomField) -> dict[str, Any]:
    """For columns whose texts were turned into values by `relabel`."""
    if custom.kind in NUMBERS:
        return {"kind": "number", "codec": Numbers(whole=pd.api.types.is_integer_dtype(series.dtype))}
    if custom.kind in TIMES:
        return {"kind": "day", "codec": Clocks(days=custom.kind == "date")}
    if custom.kind == "boolean":
        return {"kind": "boolean", "codec": Plain(BOOLEAN), "choosing": "one", "options": ("true", "false")}
    if custom.kind == "multi_inclusion":
        choices = _choices(loaded, custom.name, custom)
        return {"kind": "text", "codec": Options(custom.options, choices["separator"]), **choices}
    known = tuple(map(str, series.cat.categories)) if isinstance(series.dtype, pd.CategoricalDtype) else custom.options
    return {"kind": "text", "codec": Categories(known), "choosing": "one", "options": known}


def first_columns(fields: Mapping[str, Field], frame: pd.DataFrame) -> list[str]:
    """Choose the columns that are shown at first: the usual ones, and custom fields that hold something."""
    by_name = {field.name: column for column, field in fields.items()}
    chosen = [by_name[name] for name in FIRST if name in by_name]
    for id_column, name in NAME_OF.items():
        if name not in by_name and id_column in by_name:
            chosen.append(by_name[id_column])
    custom = [
        column
        for column, field in fields.items()
        if field.name.startswith("custom")
        and field.name != "custom_id"
        and field.title != field.name.capitalize()
        and frame[column].notna().any()
    ]
    return [*chosen, *custom[:MOST_CUSTOM_AT_FIRST]] or list(fields)[:10]
