"""The code that does the same: the edits of a sheet as lines of pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas.notebook.codecs import Plain
from opp_pandas.notebook.edit_steps import CellStep

if TYPE_CHECKING:
    from opp_pandas.choices import UnknownNames
    from opp_pandas.notebook.edit_session import Sheet


def recipe(sheet: Sheet, unknown_names: UnknownNames = "refuse", name: str = "df") -> str:
    """Write the edits of a sheet, written back or not, as pandas lines for the frame that it was opened on.

    What was put back or taken back leaves none. The last line shows what would be sent.
    """
    lines = edit_lines(sheet, name)
    loaded = [sheet.original_ids[uid] for uid in sorted(_deleted(sheet)) if uid < len(sheet.original)]
    ids = [int(row_id) for row_id in loaded if row_id is not pd.NA]
    gone = f", delete={ids}, allow_delete=True" if ids else ""
    names = "" if unknown_names == "refuse" else f", unknown_names={unknown_names!r}"
    return "\n".join([*lines, f"{name}.opp.write_back(dry_run=True{gone}{names})"])


def edit_lines(sheet: Sheet, name: str = "df") -> list[str]:
    """Write the lines that edit, add and drop new deals; loaded ones are deleted by writing back."""
    net, added = _net_edits(sheet)
    deleted = _deleted(sheet)
    lines: list[str] = []
    groups: dict[tuple[str, str], list[int]] = {}
    for (uid, column), (before, after) in net.items():
        if uid not in added and uid not in deleted and not _equal(before, after):
            groups.setdefault((column, _literal(after)), []).append(uid)
    for (column, literal), uids in groups.items():
        lines += _setting(sheet, name, column, literal, uids)
    rows = []
    for uid in sorted(added - deleted):
        cells = ((column, after) for (row, column), (_, after) in net.items() if row == uid and after is not None)
        rows.append("{" + ", ".join(f"{column!r}: {_literal(after)}" for column, after in cells) + "}")
    if rows:
        lines.append(f"{name} = {name}.opp.add([{', '.join(rows)}])")
    new = [uid for uid in sorted(deleted) if uid < len(sheet.original) and sheet.original_ids[uid] is pd.NA]
    if new:
        labels = _plain(sheet.original.index[uid] for uid in new)
        lines.append(f"{name} = {name}[~({name}.index.isin({labels!r}) & {_id_column(sheet, name)}.isna())]")
    return lines


def _net_edits(sheet: Sheet) -> tuple[dict[tuple[int, str], tuple[Any, Any]], set[int]]:
    """Return each edited cell's first and last value, and the rows that were added."""
    net: dict[tuple[int, str], tuple[Any, Any]] = {}
    added: set[int] = set()
    for step in sheet.log:
        if isinstance(step, CellStep):
            for edit in step.edits:
                for uid, before, after in zip(edit.rows, edit.before, edit.after, strict=True):
                    first = net[uid, edit.column][0] if (uid, edit.column) in net else before
                    net[uid, edit.column] = (first, after)
        else:
            added |= set(step.added)
    return net, added


def _deleted(sheet: Sheet) -> set[int]:
    """Return the rows that are marked for deletion, or were deleted in this session."""
    marked = set[int]()
    for step in sheet.log:
        if not isinstance(step, CellStep):
            marked = (marked | step.deleted_after) - (step.deleted_before - step.deleted_after)
    return marked


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return list(one) == list(other)
    return type(one) is type(other) and bool(one == other)


def _setting(sheet: Sheet, name: str, column: str, literal: str, uids: list[int]) -> list[str]:
    """Return the lines that put one value into cells of one column."""
    lines = []
    ids = [sheet.original_ids[uid] for uid in uids]
    known = [int(row_id) for row_id in ids if row_id is not pd.NA]
    masks = [_mask(sheet, name, known)] if known else []
    new = [sheet.original.index[uid] for uid, row_id in zip(uids, ids, strict=True) if row_id is pd.NA]
    masks += [f"{name}.index.isin({_plain(new)!r})"] if new else []
    field = sheet.fields[column]
    for mask in masks:
        if literal.startswith(("[", "(")):
            lines.append(f"{name}.loc[{mask}, {column!r}] = pd.Series([{literal}] * len({name}), index={name}.index)")
        elif field.name == "close_date" and isinstance(field.codec, Plain) and (day := _day(field.codec, literal)):
            lines.append(f"{name}.opp.set_close_date({mask}, {day})")
        else:
            lines.append(f"{name}.loc[{mask}, {column!r}] = {literal}")
    return lines


def _mask(sheet: Sheet, name: str, ids: list[int]) -> str:
    where = _id_column(sheet, name)
    return f"{where} == {ids[0]}" if len(ids) == 1 else f"{where}.isin({ids})"


def _id_column(sheet: Sheet, name: str) -> str:
    column = {label: own for own, label in sheet.loaded.labels.items()}.get("id", "id")
    return f"{name}[{column!r}]" if column in sheet.original.columns else f'{name}.index.get_level_values("id")'


def _plain(labels: Iterable[Any]) -> list[Any]:
    return [label.item() if hasattr(label, "item") else label for label in labels]


def _day(codec: Plain, literal: str) -> str | None:
    """Return the day of an instant that is a day's start in the load's zone, as set_close_date takes it."""
    if literal == "None":
        return "None"
    text = codec.show(pd.Timestamp(literal.removeprefix("pd.Timestamp(").removesuffix(")").strip("'\"")))
    return repr(text) if len(text) == len("2026-12-31") else None


def _literal(value: Any) -> str:
    """Write a value as Python reads it."""
    if isinstance(value, pd.Timestamp):
        return f"pd.Timestamp({value.isoformat()!r})"
    if isinstance(value, list | tuple):
        items = ", ".join(map(_literal, value))
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' if len(value) == 1 else ''})"
    if hasattr(value, "item"):
        value = value.item()
    return repr(value)
