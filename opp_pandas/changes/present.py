"""Plans for people: as text and as HTML, every value escaped."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

import pandas as pd

from opp_pandas.errors import printable
from opp_pandas.figures.core.basis import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from opp_pandas.changes.changeset import RowCreation
    from opp_pandas.changes.plan import ChangeSet

TEXT_LINES, HTML_LINES, REFUSED_LINES = 20, 50, 10
Line = tuple[str, str, str, str, str]


def plan_lines(plan: ChangeSet, limit: int) -> list[Line]:
    """Give at most `limit` lines for people: what, which deal, field, before, after; one more counts the rest."""
    lines: list[Line] = []
    for update in plan.updates:
        for cell in update.cells:
            field = cell.column if cell.follows is None else f"{cell.column} (follows {cell.follows})"
            before, after = plan.words(cell.column, cell.before), plan.words(cell.column, cell.after)
            lines.append(("update", deal_words(update.id, plan.deal_names.get(update.id)), field, before, after))
    lines += [
        ("create", f"row {printable(entry.label, 30)}", "", "", _new_deal(plan, entry)) for entry in plan.creations
    ]
    lines += [
        ("delete", f"{entry.id} {printable(entry.name or '', 40)}".rstrip(), "", "", "") for entry in plan.deletions
    ]
    if len(lines) > limit:
        lines = [*lines[:limit], ("…", f"{len(lines) - limit} more", "", "", "")]
    return lines


def deal_words(row_id: int, title: str | None) -> str:
    """Name a deal by its id, and by its name where that is known."""
    return str(row_id) if title is None else f"{row_id} {printable(title, 40)}"


def _new_deal(plan: ChangeSet, entry: RowCreation) -> str:
    shown = [plan.words("name", entry.values.get("name"))]
    known = {**entry.unresolved, **entry.values}
    shown += [f"{column} {plan.words(column, known[column])}" for column in _TELLING if column in known]
    return ", ".join(shown)


# What a person needs to know a new deal by; currency and custom id because this package may have put them in.
_TELLING = ("amount", "currency_type", "close_date", "stage_id", "stage_name", "owner_id", "owner_name", "custom_id")


def plan_text(plan: ChangeSet) -> str:
    """Give a plan as text: a summary, a line per cell, refusals with their reasons, notes."""
    rows = plan_lines(plan, TEXT_LINES)
    text = [f"ChangeSet: {plan.summary()}"]
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(4)]
    for row in rows:
        line = "  ".join(part.ljust(width) for part, width in zip(row, widths, strict=False)).rstrip()
        text.append(f"  {line}" + (f" → {row[4]}" if row[4] else ""))
    refused = _refused_lines(plan)
    text += [f"  refused: {which}: {reason}" for which, _, reason in refused[:REFUSED_LINES]]
    if len(refused) > REFUSED_LINES:
        text.append(f"  and {len(refused) - REFUSED_LINES} more reasons: .refused lists them")
    text += [f"  note: {note}" for note in plan.notes]
    return "\n".join([*text, *(f"  {line}" for line in effect_text(plan))])


def _refused_lines(plan: ChangeSet) -> list[tuple[str, str, str]]:
    """Give every reason once: of which deals it is said, of which field, and why."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in plan.refusals:
        which = f"id {entry.id}" if entry.id is not None else f"row {printable(entry.row, 30)}"
        groups.setdefault((entry.column, entry.reason), []).append(which)
    return [(_several(found), column, printable(why)) for (column, why), found in groups.items()]


def _several(which: list[str]) -> str:
    first = ", ".join(which[:3]) + (" …" if len(which) > 3 else "")
    return which[0] if len(which) == 1 else f"{len(which):,} times ({first})"


def plan_html(plan: ChangeSet) -> str:
    """Give a plan as HTML for a notebook."""
    parts = [f"<p><b>{html.escape(plan.summary())}</b></p>"]
    rows = plan_lines(plan, HTML_LINES)
    if rows:
        parts.append(table_html(("action", "deal", "field", "before", "after"), rows))
    if plan.refusals:
        parts.append(table_html(("refused", "field", "because"), _refused_lines(plan)[:HTML_LINES]))
    parts += [f"<p>{html.escape(note)}</p>" for note in plan.notes]
    return "".join([*parts, *_effect_html(plan)])


# --- the effect on the forecast -------------------------------------------------


def effect_text(plan: ChangeSet) -> list[str]:
    """Give what a plan does to the forecast as lines of text; none where there is nothing to say."""
    heading, table = _effect_heading(plan), plan.effect if len(plan) else None
    if table is None or not len(table):
        return heading
    rows = [_effect_titles(table), *_effect_rows(table.head(TEXT_LINES))]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [f"{heading[0]}:", *(f"  {line}" for line in [*lines, *_effect_notes(table, TEXT_LINES)])]


def _effect_html(plan: ChangeSet) -> list[str]:
    heading, table = _effect_heading(plan), plan.effect if len(plan) else None
    if table is None or not len(table):
        return [_sentence(line) for line in heading]
    return [
        f"<p><b>{_capitalised(heading[0])}</b></p>",
        table_html(_effect_titles(table), _effect_rows(table.head(HTML_LINES)), align="right"),
        *(_sentence(line) for line in _effect_notes(table, HTML_LINES)),
    ]


def _sentence(text: str) -> str:
    return f"<p>{_capitalised(text)}.</p>"


def _capitalised(text: str) -> str:
    return html.escape(text[:1].upper() + text[1:])


def _effect_heading(plan: ChangeSet) -> list[str]:
    if not len(plan) or (plan.effect is None and not plan.why_no_effect):
        return []
    if plan.effect is None:
        return [f"the effect on the forecast cannot be shown: {printable(plan.why_no_effect)}"]
    return ["effect on the forecast"] if len(plan.effect) else ["the forecast stays as it is"]


def _effect_notes(table: pd.DataFrame, limit: int) -> list[str]:
    more = len(table) - limit
    notes = [f"and {counted(more, 'more period')}: .effect lists them"] if more > 0 else []
    moved = [(words, direction, int(table[words].sum())) for words, direction in _DIRECTIONS.items()]
    parts = [f"{counted(number, 'deal')} {words} to {direction} period" for words, direction, number in moved if number]
    notes += [", ".join(parts)] if parts else []
    return notes if "coverage_before" in table.columns else [*notes, "give quota= for coverage by period"]


_DIRECTIONS = {"pushed": "a later", "pulled": "an earlier"}


def _shown_moves(table: pd.DataFrame) -> list[str]:
    return [words for words in _DIRECTIONS if table[words].any()]


def _measures(table: pd.DataFrame) -> list[str]:
    return [column.removesuffix("_before") for column in table.columns if column.endswith("_before")]


def _effect_titles(table: pd.DataFrame) -> list[str]:
    return ["period", *_measures(table), *_shown_moves(table)]


def _effect_rows(table: pd.DataFrame) -> list[list[str]]:
    """Give a line per period: each measure before and after where it changes."""
    rows = []
    for period, row in table.iterrows():
        cells = ["no close date" if pd.isna(period) else str(period)]  # type: ignore[call-overload]
        for words in _measures(table):
            before, after = (_figure(row[f"{words}_{when}"], words) for when in ("before", "after"))
            cells.append(after if before == after else f"{before} → {after}")
        rows.append([*cells, *(f"{int(row[words]):,}" for words in _shown_moves(table))])
    return rows


def _figure(value: float, words: str) -> str:
    if pd.isna(value):
        return "none"
    if words != "coverage":
        return f"{value:,.0f}"
    return f"{value:,.2f}" if math.isfinite(value) else "reached"


def table_html(titles: Sequence[str], rows: Iterable[Sequence[str]], align: str = "left") -> str:
    """Give lines of text as an HTML table, everything escaped; `align` is for all columns but the first."""
    sides = ["left", *(align for _ in titles[1:])]
    head = "".join(
        f"<th scope='col' style='text-align:{side}'>{html.escape(title)}</th>"
        for side, title in zip(sides, titles, strict=True)
    )
    lines = [
        "".join(
            f"<td style='text-align:{side}'>{html.escape(cell)}</td>" for side, cell in zip(sides, row, strict=True)
        )
        for row in rows
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
