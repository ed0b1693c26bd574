"""The words that arguments choose from: one place for people, editors and type checkers.

What a function makes of them, it says itself; a word that is in no list here is an
error of the type checker where the argument is written, and of the function at run time.
"""

from __future__ import annotations

from typing import Literal

Freq = Literal[
    "W", "W-MON", "W-TUE", "W-WED", "W-THU", "W-FRI", "W-SAT", "W-SUN",
    "M", "ME", "MS",
    "Q", "QE", "QS", "Q-JAN", "Q-FEB", "Q-MAR", "Q-APR", "Q-MAY", "Q-JUN",
    "Q-JUL", "Q-AUG", "Q-SEP", "Q-OCT", "Q-NOV", "Q-DEC",
    "Y", "YE", "YS", "Y-JAN", "Y-FEB", "Y-MAR", "Y-APR", "Y-MAY", "Y-JUN",
    "Y-JUL", "Y-AUG", "Y-SEP", "Y-OCT", "Y-NOV", "Y-DEC",
]  # fmt: skip
"""Length of a period, and where its year or week ends."""

FiscalLabel = Literal["end", "start"]
"""The calendar year after which a fiscal year is named."""

ProbabilitySource = Literal["own", "stage", "own_else_stage"]
"""Whose percentages count."""

Overdue = Literal["exclude", "include", "roll_forward"]
"""What open deals with a close date before as_of do to forecasts."""

Labels = Literal["plain", "outreach", "gong", "salesforce"]
"""In whose words the bars of a waterfall are named."""

Bins = Literal["isotonic", "fixed"]
"""How forecasts are put together to be compared with outcomes."""

Measure = Literal["open_amount", "weighted_amount", "won_amount"]
"""What is shared out among accounts, owners or deals."""

Check = Literal[
    "overdue", "no_close_date", "no_amount", "negative_amount", "no_probability", "no_next_step", "no_owner",
    "untouched", "silent", "no_next_meeting", "old", "zombie", "stage_contradicts", "outlier", "far_close_date",
    "closed_later", "closed_before_created",
]  # fmt: skip
"""What may be wrong with a deal."""

Policy = Literal["skip", "ask", "mine", "theirs"]
"""What happens to cells that both sides changed."""

CustomIds = Literal["auto", "always", "never"]
"""Whether new deals are sent with a custom id by which they are found again."""

UnknownNames = Literal["refuse", "leave_out"]
"""What happens to new deals that name an owner or account that nobody knows."""

OnInvalid = Literal["warn", "raise", "ignore"]
"""What happens when loaded cells break a rule."""

Duplicates = Literal["error", "keep"]
"""What happens to keys that come more than once."""
