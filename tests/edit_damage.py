"""Forty things that people type into a cell, and what must be there then: what was meant, or what was there before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEPT = object()
"""The cell must hold what it held, and somebody must be told."""


@dataclass(frozen=True)
class Try:
    """A text typed over a cell, and the value that must be there afterwards."""

    column: str
    text: str
    meant: Any


COLUMNS = {
    # column: what the cell holds before
    "amount": 1_234_567_890_123,
    "probability": None,
    "name": " Acme\u00a0GmbH ",
    "next_step": "first\nsecond",
    "close_date": "2026-11-30",
    "tags": ["q4", "a, b"],
    "stage_name": "Discover",
    "created_at": "kept by the service",
}
TRIES = (
    # Numbers: nothing is rounded, cut or guessed.
    Try("amount", "9007199254740993", 9_007_199_254_740_993),
    Try("amount", "12.5", KEPT),
    Try("amount", "abc", KEPT),
    Try("amount", "1e3", KEPT),
    Try("amount", "0x10", KEPT),
    Try("amount", "1,25", KEPT),
    Try("amount", "12 apples", KEPT),
    Try("amount", "NaN", KEPT),
    Try("amount", "Infinity", KEPT),
    Try("amount", "99999999999999999999", KEPT),
    Try("amount", "007", 7),
    Try("amount", " 5 ", 5),
    Try("amount", "$12,500.00", 12_500),
    Try("amount", "\u0661\u0662", KEPT),
    Try("probability", "50", 50),
    Try("probability", "150", KEPT),
    Try("probability", "-1", KEPT),
    Try("probability", "12.5", KEPT),
    Try("probability", "none", KEPT),
    Try("probability", "55%", 55),
    # Text: every character stays.
    Try("name", "  two spaces  ", "  two spaces  "),
    Try("name", "007", "007"),
    Try("name", "1e5", "1e5"),
    Try("name", "TRUE", "TRUE"),
    Try("name", "null", "null"),
    Try("name", "None", "None"),
    Try("name", "=1+1", "=1+1"),
    Try("name", "<b>bold</b>", "<b>bold</b>"),
    Try("name", "caf\u00e9 \U0001f680 \u05d0", "caf\u00e9 \U0001f680 \u05d0"),
    Try("name", 'say "hi"\\n', 'say "hi"\\n'),
    Try("next_step", "2026-01-02", "2026-01-02"),
    # Days.
    Try("close_date", "2026-12-31", "2026-12-31"),
    Try("close_date", "2026-02-30", KEPT),
    Try("close_date", "tomorrow", KEPT),
    Try("close_date", "01/02/2026", KEPT),
    Try("close_date", "Dec 31, 2026", "2026-12-31"),
    # What is chosen, and what nobody may write.
    Try("stage_name", "Closed Nowhere", KEPT),
    Try("stage_name", "Propose", "Propose"),
    Try("tags", '["x, y", "z"]', ["x, y", "z"]),
    Try("created_at", "2026-01-01", KEPT),
)

SETUP = f"""
import opp_pandas as opp
box = opp.sandbox(opportunities=60, now="2026-10-20T15:00:00Z")
client = box.client(timezone="America/New_York")
cells = {{"amount": {COLUMNS["amount"]!r}, "probability": None, "name": {COLUMNS["name"]!r},
    "nextStep": {COLUMNS["next_step"]!r}, "closeDate": "2026-11-30T22:00:00Z", "tags": {COLUMNS["tags"]!r}}}
written = []
for number in range(1, 61):
    try:
        client.update(number, cells)
        written.append(number)
    except opp.errors.AccessDeniedError:
        pass  # Some deals may not be written by this user.
df = opp.read_opportunities(client, stages=opp.StageMap(won=["Closed Won"], lost=["Closed Lost"]))
df = df[df["id"].isin(written[:{len(TRIES)}])].sort_values("id", ignore_index=True)
editor = df.opp.edit(columns={list(COLUMNS)!r}, height=1400)
"""
"""Forty deals with telling cells, and an editor over them: the try with number n is made on row n."""
PLAIN = "{frame}[" + repr(list(COLUMNS)) + "].astype(object).where({frame}[" + repr(list(COLUMNS)) + "].notna(), None)"
RECORDS = PLAIN + ".to_dict('records')"
"""An expression for the cells of a frame, as plain values."""


def damaged(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    """Return every cell that holds neither what was meant nor what was there before."""
    found = []
    for row, (attempt, was, now) in enumerate(zip(TRIES, before, after, strict=True)):
        for column in COLUMNS:
            meant = was[column]
            if column == attempt.column and attempt.meant is not KEPT:
                meant = attempt.meant
            held = now[column]
            if column == "close_date" and held != was[column]:
                held = str(held)[:10]
            if held != meant or type(held) is not type(meant):
                found.append(f"row {row}, {column}: {attempt.text!r} made {held!r} of {was[column]!r}, not {meant!r}")
    return found
