"""Plans for people: as text and as HTML, every value escaped."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from opp_pandas.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opp_pandas.writeback.plan import ChangeSet, RowCreation

TEXT_LINES, HTML_LINES, REFUSED_LINES = 20, 50, 10
Line = tuple[str, str, str, str, str]


def plan_lines(plan: ChangeSet, limit: int) -> list[Line]:
    """Give at most `limit` lines for people: what, which deal, field, before, after; one more counts the rest."""
    lines: list[Line] = []
    for update in plan.updates:
        for cell in update.cells:
            field = cell.column if cell.follows is None else f"{cell.column} (follows {cell.follows})"
            before, after = plan.words(cell.column, cell.before), plan.words(cell.column, cell.after)
            lines.append(("update", str(update.id), field, before, after))
    lines += [
        ("create", f"row {printable(entry.label, 30)}", "", "", _new_deal(plan, entry)) for entry in plan.creations
    ]
    lines += [("delete", str(entry.id), "", printable(entry.name or "", 60), "") for entry in plan.deletions]
    if len(lines) > limit:
        lines = [*lines[:limit], ("…", f"{len(lines) - limit} more", "", "", "")]
    return lines


def _new_deal(plan: ChangeSet, entry: RowCreation) -> str:
    shown = [plan.words("name", entry.values.get("name"))]
    shown += [f"{column} {plan.words(column, entry.values[column])}" for column in _TELLING if column in entry.values]
    return ", ".join(shown)


# What a person needs to know a new deal by; the custom id because this package may have made it.
_TELLING = ("amount", "close_date", "custom_id")


def plan_text(plan: ChangeSet) -> str:
    """Give a plan as text: a summary, a line per cell, refusals with their reasons, notes."""
    rows = plan_lines(plan, TEXT_LINES)
    text = [f"ChangeSet: {plan.summary()}"]
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(4)]
    for row in rows:
        line = "  ".join(part.ljust(width) for part, width in zip(row, widths, strict=False)).rstrip()
        text.append(f"  {line}" + (f" → {row[4]}" if row[4] else ""))
    for entry in plan.refusals[:REFUSED_LINES]:
        which = f"id {entry.id}" if entry.id is not None else f"row {printable(entry.row, 30)}"
        text.append(f"  refused: {which}: {printable(entry.reason)}")
    if len(plan.refusals) > REFUSED_LINES:
        text.append(f"  and {len(plan.refusals) - REFUSED_LINES} more refused: .refused lists them")
    return "\n".join([*text, *(f"  note: {note}" for note in plan.notes)])


def plan_html(plan: ChangeSet) -> str:
    """Give a plan as HTML for a notebook."""
    parts = [f"<p><b>{html.escape(plan.summary())}</b></p>"]
    rows = plan_lines(plan, HTML_LINES)
    if rows:
        parts.append(_table(("", "deal", "field", "before", "after"), rows))
    if plan.refusals:
        refused = [
            ("" if entry.id is None else str(entry.id), printable(entry.row, 30), entry.column, printable(entry.reason))
            for entry in plan.refusals[:HTML_LINES]
        ]
        parts.append(_table(("id", "row", "field", "refused because"), refused))
    return "".join([*parts, *(f"<p>{html.escape(note)}</p>" for note in plan.notes)])


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th style='text-align:left'>{html.escape(title)}</th>" for title in titles)
    lines = ["".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
