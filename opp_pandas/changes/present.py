"""Plans for people: as text and as HTML, every value escaped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from opp_pandas._html import Paragraph, Part, Table
from opp_pandas.errors import printable
from opp_pandas.figures.core.basis import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opp_pandas.changes.changeset import RowCreation
    from opp_pandas.changes.plan import ChangeSet

TEXT_LINES, HTML_LINES, REFUSED_LINES = 20, 50, 10
Line = tuple[str, str, str, str, str]


def plan_lines(plan: ChangeSet, limit: int) -> list[Line]:
    """Return at most `limit` lines for people: what, which deal, field, before, after; one more counts the rest."""
    lines: list[Line] = []
    for update in plan.updates:
        for cell in update.cells:
            field = cell.column if cell.follows is None else f"{cell.column} (follows {cell.follows})"
            before, after = plan.words(cell.column, cell.before), plan.words(cell.column, cell.after)
            lines.append(("update", plan.deal(update.id), field, before, after))
    lines += [("create", plan.deal(None, entry.label), "", "", _new_deal(plan, entry)) for entry in plan.creations]
    lines += [("delete", plan.deal(entry.id), "", "", "") for entry in plan.deletions]
    if len(lines) > limit:
        lines = [*lines[:limit], ("…", f"{len(lines) - limit} more", "", "", "")]
    return lines


def _new_deal(plan: ChangeSet, entry: RowCreation) -> str:
    shown = [plan.words("name", entry.values.get("name"))]
    known = {**entry.unresolved, **entry.values}
    shown += [f"{column} {plan.words(column, known[column])}" for column in _TELLING if column in known]
    return f"{', '.join(shown)}; found again by {entry.found_by}"


# What a person needs to know a new deal by; the currency because this package may have put it in.
_TELLING = ("amount", "currency_type", "close_date", "stage_id", "stage_name", "owner_id", "owner_name")


def plan_text(plan: ChangeSet) -> str:
    """Return a plan as text: a summary, a line per cell, refusals with their reasons, notes."""
    rows = plan_lines(plan, TEXT_LINES)
    text = [f"ChangeSet: {plan.summary()}"]
    for line, row in zip(_in_columns([row[:4] for row in rows]), rows, strict=True):
        text.append(f"  {line}" + (f" → {row[4]}" if row[4] else ""))
    refused = _refused_lines(plan)
    text += [f"  refused: {which}: {reason}" for which, _, reason in refused[:REFUSED_LINES]]
    if len(refused) > REFUSED_LINES:
        text.append(f"  and {len(refused) - REFUSED_LINES} more reasons: .refused lists them")
    text += [f"  note: {note}" for note in plan.notes]
    return "\n".join([*text, *(f"  {line}" for line in effect_text(plan))])


def _in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _refused_lines(plan: ChangeSet) -> list[tuple[str, str, str]]:
    """Return every reason once: of which deals it is said, of which field, and why."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in plan.refusals:
        which = f"id {entry.id}" if entry.id is not None else plan.deal(None, entry.row)
        groups.setdefault((entry.column, entry.reason), []).append(which)
    return [(_several(found), column, printable(why)) for (column, why), found in groups.items()]


def _several(which: list[str]) -> str:
    first = ", ".join(which[:3]) + (" …" if len(which) > 3 else "")
    return which[0] if len(which) == 1 else f"{len(which):,} times ({first})"


def plan_parts(plan: ChangeSet) -> list[Part]:
    """Return a plan as paragraphs and tables."""
    parts: list[Part] = [Paragraph(plan.summary(), strong=True)]
    rows = plan_lines(plan, HTML_LINES)
    if rows:
        parts.append(Table(("action", "deal", "field", "before", "after"), rows))
    if plan.refusals:
        parts.append(Table(("refused", "field", "because"), _refused_lines(plan)[:HTML_LINES]))
    parts += [Paragraph(note) for note in plan.notes]
    heading, table, notes = _effect(plan, HTML_LINES)
    if table:
        parts += [Paragraph(_capitalised(heading), strong=True), Table(table[0], table[1:], "right")]
    elif heading:
        parts.append(Paragraph(f"{_capitalised(heading)}."))
    return [*parts, *(Paragraph(f"{_capitalised(note)}.") for note in notes)]


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def effect_text(plan: ChangeSet) -> list[str]:
    """Return what a plan does to the forecast as lines of text; none where there is nothing to say."""
    heading, table, notes = _effect(plan, TEXT_LINES)
    if not table:
        return [heading] if heading else []
    return [f"{heading}:", *(f"  {line}" for line in [*_in_columns(table), *notes])]


_DIRECTIONS = {"pushed": "a later", "pulled": "an earlier"}


def _effect(plan: ChangeSet, limit: int) -> tuple[str, list[list[str]], list[str]]:
    """Return a heading, a table of at most `limit` periods with its titles first, and notes; each may be empty."""
    effect = plan.effect if len(plan) else None
    if effect is None:
        why = printable(plan.why_no_effect) if len(plan) else ""
        return f"the effect on the forecast cannot be shown: {why}" if why else "", [], []
    if not len(effect):
        return "the forecast stays as it is", [], []
    measures = [column.removesuffix("_before") for column in effect.columns if column.endswith("_before")]
    moves = {words: int(effect[words].sum()) for words in _DIRECTIONS if effect[words].any()}
    table = [["period", *measures, *moves]]
    for period, row in effect.head(limit).iterrows():
        cells = ["no close date" if pd.isna(period) else str(period)]  # type: ignore[call-overload]
        for words in measures:
            before, after = (_figure(row[f"{words}_{when}"], words) for when in ("before", "after"))
            cells.append(after if before == after else f"{before} → {after}")
        table.append([*cells, *(f"{int(row[words]):,}" for words in moves)])
    more = len(effect) - limit
    notes = [f"and {counted(more, 'more period')}: .effect lists them"] if more > 0 else []
    moved = [f"{counted(number, 'deal')} {words} to {_DIRECTIONS[words]} period" for words, number in moves.items()]
    notes += [", ".join(moved)] if moved else []
    return (
        "effect on the forecast",
        table,
        notes + ["give quota= for coverage by period"] * ("coverage" not in measures),
    )


def _figure(value: float, words: str) -> str:
    if pd.isna(value):
        return "none"
    if words != "coverage":
        return f"{value:,.0f}"
    return f"{value:,.2f}" if math.isfinite(value) else "reached"
