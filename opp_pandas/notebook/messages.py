"""The message schema: what the page asks, what Python answers, and what both show, in one table.

The page's types (`frontend/src/messages.ts`) and the JSON schema that its tests hold are generated from these classes
by ``python tests/message_types.py``. A request names itself by ``do`` and carries an id; its answer repeats that in
``to``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Union

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from opp_pandas._html import Part  # noqa: TC001 - msgspec looks the types up
from opp_pandas.errors import ConfigurationError, FrameError, printable

Choice = Literal["", "mine", "theirs"]

# --- parts --------------------------------------------------------------------------


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One cell to be set: the row's number, the frame's column, and the text (null: missing)."""

    row: int
    column: str
    text: str | None


class Objection(Struct, frozen=True):
    """Why one cell was not set; `index` says where its row stands, -1 where it is not shown."""

    row: int
    column: str
    text: str | None
    reason: str
    index: int = -1


class Range(Struct, forbid_unknown_fields=True):
    """Marked cells: rows by where they stand in a view, both ends included, and columns by name."""

    start: int
    stop: int
    columns: list[str]
    view: int


class Marked(Struct, omit_defaults=True):
    """A cell with something to say of it beside its text."""

    text: str | None
    was: str | UnsetType | None = UNSET
    problem: str = ""
    lock: str = ""


class Row(Struct, omit_defaults=True):
    """A row by its own number: cells in the order of the columns, bare texts where there is no more to say."""

    row: int
    cells: list[str | Marked | None]
    state: Literal["", "new", "deleted"] = ""
    lock: str = ""
    problem: str = ""


class Column(Struct):
    """What the page knows of a column."""

    column: str
    name: str
    title: str
    meaning: str
    kind: str
    locked: str
    choosing: str
    separator: str
    strict: bool


class Pending(Struct):
    """How much waits to be sent, in numbers and in words."""

    cells: int
    rows: int
    new: int
    deleted: int
    words: str


class Conflict(Struct):
    """A cell that both sides changed, in words, and what was chosen; one that `follows` another goes with it.

    `changed` says who changed the deal last, and when.
    """

    id: int
    column: str
    deal: str
    loaded: str
    mine: str
    theirs: str
    follows: str
    choice: Choice
    changed: str


class Panel(Struct, omit_defaults=True):
    """What is said of the changes below the grid: `plan` names the one that was reviewed and may be sent."""

    parts: list[Part] = field(default_factory=list)
    alert: str = ""
    status: str = ""
    plan: str = ""
    rows: int = 0
    must_confirm: bool = False
    sending: bool = False
    done: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


class Decision(Struct, forbid_unknown_fields=True):
    """Whose value a cell shall have that both sides changed."""

    id: int
    column: str
    choice: Choice


class State(Struct):
    """What stands where in the grid: small, and sent after every change."""

    columns: list[str]
    count: int
    total: int
    view: int
    version: int
    sort: str | None
    descending: bool
    filter: str
    only_changed: bool
    undo: bool
    redo: bool
    pending: Pending
    busy: str
    zone: str


# --- answers ------------------------------------------------------------------------


class Answer(Struct, kw_only=True, omit_defaults=True):
    """What came of a request: `said` to be read out, `objections` what was refused; or `error`, why nothing was."""

    to: str = ""
    error: str = ""
    said: str = ""
    objections: list[Objection] = field(default_factory=list)


class RowsAnswer(Answer, omit_defaults=True):
    """Rows from `start` on, as they stand in this view and version."""

    start: int
    columns: list[str]
    view: int
    version: int
    rows: list[Row]


class TextAnswer(Answer, omit_defaults=True):
    """A text for the clipboard."""

    text: str


class PlaceAnswer(Answer, omit_defaults=True):
    """Where something happened: index of the row, -1 where it is not shown, and column."""

    index: int = -1
    column: str = ""


class ChoicesAnswer(Answer, omit_defaults=True):
    """What may be chosen, and how many more there are."""

    choices: list[str]
    more: int


# --- requests -----------------------------------------------------------------------


class Request(Struct, kw_only=True, tag_field="do", tag=str.lower, forbid_unknown_fields=True):
    """What the page asks; `reads` where no cell changes, so that it is answered while changes are being sent."""

    answer: ClassVar[type[Answer]] = Answer
    reads: ClassVar[bool] = False
    id: str = ""


class Rows(Request):
    """Rows by where they stand, `stop` not included."""

    answer, reads = RowsAnswer, True
    start: int
    stop: int
    columns: list[str]


class Edit(Request):
    """Set cells, all or none."""

    cells: list[Entry]


class Ranged(Request):
    """What is done to marked cells."""

    range: Range


class Clear(Ranged):
    """Set cells to missing."""


class Empty(Ranged):
    """Set cells to empty text, which is not the same as missing."""


class Fill(Ranged):
    """Put the first marked cell of each column into the others."""


class Revert(Ranged):
    """Put back what was loaded."""


class Delete(Ranged):
    """Mark deals for deletion; those that are all marked already are kept again."""


class Copy(Ranged):
    """Write cells as tab-separated text."""

    answer, reads = TextAnswer, True


class Paste(Ranged):
    """Put tab-separated text into cells from the first marked one on; one value goes into every marked cell."""

    text: str


class Add(Request):
    """Add a new deal below the others."""

    answer = PlaceAnswer


class Undo(Request):
    """Take the last step back."""

    answer = PlaceAnswer


class Redo(Request):
    """Make the last step again that was taken back."""

    answer = PlaceAnswer


class Sort(Request):
    """Order the rows by a column; null: as they were loaded."""

    reads = True
    column: str | None
    descending: bool = False


class Filter(Request):
    """Show the rows that hold a text, or those that were changed; what is left out stays as it is."""

    reads = True
    text: str | None = None
    only_changed: bool | None = None


class Columns(Request):
    """Show these columns."""

    reads = True
    columns: list[str]


class Choices(Request):
    """Ask what may be chosen in a column for what was typed."""

    answer, reads = ChoicesAnswer, True
    column: str
    text: str = ""


class Code(Request):
    """Ask for the pandas lines that make the same edits."""

    answer, reads = TextAnswer, True


class Review(Request):
    """Find out what would be sent, and what it would do."""


class Send(Request):
    """Send the plan that was reviewed, and no other; `confirm` is its number of rows where that has to be typed."""

    plan: str
    confirm: str = ""


class Stop(Request):
    """Begin no further row."""

    reads = True


class Dismiss(Request):
    """Put away what the panel says."""


class Decide(Request):
    """Choose whose values conflicting cells shall have."""

    decisions: list[Decision]


REQUESTS: tuple[type[Request], ...] = (
    *(Rows, Edit, Clear, Empty, Fill, Revert, Delete, Copy, Paste, Add, Undo, Redo, Sort, Filter, Columns, Choices),
    *(Code, Review, Send, Stop, Dismiss, Decide),
)
SHOWN: tuple[type[Struct], ...] = (Column, State, Panel)
"""What crosses without being asked for, as traits of the widget."""


def read_request(message: Any, kinds: tuple[type[Request], ...]) -> Request:
    """Read one message from the page, of these kinds; a ValueError says what is wrong with it."""
    known: Any = Union[kinds]  # noqa: UP007 - made from a table
    request: Request = msgspec.convert(message, known)
    return request


def answered(message: Any, kinds: tuple[type[Request], ...], act: Callable[[Any], Answer]) -> dict[str, Any]:
    """Answer one message, whatever it is, as it crosses to the page: nobody waits for an answer that never comes."""
    to = message.get("id") if isinstance(message, Mapping) else None
    try:
        request = read_request(message, kinds)
    except ValueError as problem:
        answer = Answer(error=f"the page sent a message that cannot be read: {printable(problem, 200)}")
    else:
        try:
            answer = act(request)
        except (FrameError, ConfigurationError) as problem:
            answer = Answer(error=str(problem))
        except Exception as problem:  # noqa: BLE001 - said on the page, which waits
            answer = Answer(error=f"that did not work: {type(problem).__name__}: {printable(problem, 200)}")
    answer.to = to if isinstance(to, str) else ""
    return sent(answer)


def sent(message: Struct) -> dict[str, Any]:
    """Return a message as it crosses to the page: texts, numbers, lists and mappings."""
    plain: dict[str, Any] = msgspec.to_builtins(message)
    return plain
