"""What the grid in the browser asks for, answered without a browser.

The messages are those of `messages`. Rows are named by their own numbers, ranges by
where they stand, and a range that was marked before the rows were sorted anew is refused.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import UNSET
from msgspec.structs import replace

from opp_pandas.errors import ConfigurationError, FrameError, named, printable
from opp_pandas.exporting.texts import ESCAPED, from_cell
from opp_pandas.figures.core.basis import counted
from opp_pandas.notebook import messages
from opp_pandas.notebook.clipboard import build_tsv, parse_tsv
from opp_pandas.notebook.codecs import Relations
from opp_pandas.notebook.edit_steps import CellStep, Step
from opp_pandas.notebook.fields import Field, first_columns
from opp_pandas.notebook.messages import Answer, Entry, Objection, PlaceAnswer, TextAnswer, sent
from opp_pandas.notebook.ordering import Ordering
from opp_pandas.notebook.to_code import recipe
from opp_pandas.parsing.names import fold_name

if TYPE_CHECKING:
    from opp_pandas.api.custom_field_types import CustomField
    from opp_pandas.choices import UnknownNames
    from opp_pandas.notebook.cells import CellView
    from opp_pandas.notebook.edit_session import Sheet

MOST_ROWS = 500
MOST_CHOICES = 50
MOST_PASTED = 50_000
MOST_MARKED = 200_000
SAID_OBJECTIONS = 3
MOST_OBJECTIONS = 100
REASONS = "needs attention"
"""The column of `Desk.reasons`: no frame's own is called so."""


class Desk:
    """One sheet, the rows and columns that are shown of it, and everything that can be asked of them.

    `on_change` is called after everything that people may want to see.
    """

    def __init__(
        self,
        sheet: Sheet,
        columns: Sequence[str] | None = None,
        on_change: Callable[[], Any] = lambda: None,
        unknown_names: UnknownNames = "refuse",
    ) -> None:
        self.sheet, self.unknown_names = sheet, unknown_names
        self.ordering = Ordering(sheet)
        self.columns = list(columns) if columns is not None else first_columns(sheet.fields, sheet.held)
        self._first = columns is None
        self.on_change = on_change
        self.on_fields: Callable[[], Any] = lambda: None
        """Called when the columns are known better than before."""
        self.notes: list[str] = []
        """What could not be had, in sentences."""
        self.actions: dict[type[messages.Request], Callable[[Any], Answer]] = {
            kind: partial(action, self) for kind, action in _ACTIONS.items()
        }
        """What answers each request; those who stand beside the grid add theirs."""
        self.busy = ""
        self.reasons: dict[int, str] | None = None
        """Why rows need a look, by their numbers, for a column of its own; None: there is none."""
        # Taken by whoever reads or changes the sheet: sending ends in a thread of its own, and some kernels
        # answer the browser in another thread than that of the cells.
        self.lock = threading.RLock()
        self._view = 0
        self._version = 0
        self._tags: list[str] | None = None

    # --- what is shown ------------------------------------------------------------

    def fields(self) -> list[dict[str, Any]]:
        """Describe every column, for headers, editors and the chooser."""
        own = [] if self.reasons is None or REASONS in self.sheet.fields else [_REASONS]
        return [sent(column) for column in (*own, *map(_described, self.sheet.fields.values()))]

    def state(self) -> dict[str, Any]:
        """Describe what stands where: small, and sent after every change."""
        pending = self.sheet.pending()
        state = messages.State(
            columns=self.columns,
            count=len(self.ordering),
            total=int(self.sheet.kept().sum()),
            view=self._view,
            version=self._version,
            sort=self.ordering.column,
            descending=self.ordering.descending,
            filter=self.ordering.filter,
            only_changed=self.ordering.only_changed,
            undo=bool(self.sheet.done),
            redo=bool(self.sheet.undone),
            pending=messages.Pending(**pending, words=pending_words(pending)),
            busy=self.busy,
            zone=self.sheet.loaded.timezone or "UTC",
        )
        return sent(state)

    def learn(self, custom_fields: Mapping[str, CustomField]) -> None:
        """Name custom fields as the organisation does; where nobody chose columns, those that hold something join."""
        with self.lock:
            self.sheet.learn(custom_fields)
            if self._first:
                shown = first_columns(self.sheet.fields, self.sheet.held)
                self.columns += [column for column in shown if column not in self.columns]
            self.on_fields()
            self.moved()

    def changed(self) -> None:
        """Notify whoever shows the sheet that something is different."""
        self._version += 1
        self.on_change()

    def moved(self) -> None:
        """The same after rows stand elsewhere."""
        self._view += 1
        self.changed()

    def refresh(self) -> None:
        """Show the sheet anew after it took in what was written."""
        self._tags = None
        self.moved()

    # --- messages -------------------------------------------------------------------

    def handle(self, message: Any) -> dict[str, Any]:
        """Answer one message, whatever it is, as `messages.answered` does."""
        return messages.answered(message, tuple(self.actions), self._answer)

    def _answer(self, request: Any) -> Answer:
        with self.lock:
            if self.busy and not request.reads:
                return Answer(error=self.busy)
            steps = len(self.sheet.log)
            try:
                if isinstance(request, messages.Ranged) and request.range.view != self._view:
                    return Answer(error="the rows were ordered anew meanwhile; mark them again")
                return self.actions[type(request)](request)
            except (FrameError, ConfigurationError):
                raise
            except Exception as problem:  # noqa: BLE001 - the page must not show a cell as being sent for ever
                what = f"{type(problem).__name__}: {printable(problem, 200)}"
                done = "done, but then" if len(self.sheet.log) > steps else "not saved:"
                return Answer(
                    error=f"{'that did not work:' if request.reads else done} the editor met an error ({what})"
                )

    def _rows(self, message: messages.Rows) -> Answer:
        """Return some rows: at most `MOST_ROWS`."""
        start = max(message.start, 0)
        uids = self.ordering.slice(start, min(message.stop, start + MOST_ROWS))
        places = self.sheet.places(uids.tolist())
        fields = self.sheet.fields
        columns = [column for column in message.columns if column in fields or self._is_reasons(column)]
        by_column = [self.sheet.cells(places, column) if column in fields else None for column in columns]
        rows = []
        for number, (uid, place) in enumerate(zip(uids.tolist(), places.tolist(), strict=True)):
            cells = [
                (self.reasons or {}).get(uid, "")
                if view is None
                else _shown_cell(view[number], self.sheet.cell_lock(place, column), fields[column].locked)
                for column, view in zip(columns, by_column, strict=True)
            ]
            rows.append(self._row(uid, place, cells))
        return messages.RowsAnswer(start=start, columns=columns, view=self._view, version=self._version, rows=rows)

    def _is_reasons(self, column: str) -> bool:
        return column == REASONS and self.reasons is not None and REASONS not in self.sheet.fields

    def _row(self, uid: int, place: int, cells: list[Any]) -> messages.Row:
        deleted = uid in self.sheet.deleted
        return messages.Row(
            uid,
            cells,
            state="deleted" if deleted else "new" if self.sheet.is_new[place] else "",
            lock=self.sheet.row_lock(place),
            problem=self.sheet.problems.get((uid, ""), ""),
        )

    def _edit(self, message: messages.Edit) -> Answer:
        return self._put(message.cells)

    def _put(self, entries: Sequence[Entry], doing: str = "set", *, partly: bool = False) -> Answer:
        before = len(self.sheet.log)
        objections = self.sheet.put(entries, partly=partly)
        if len(self.sheet.log) == before:
            return self._objected(objections) if objections else Answer(said="nothing changed")
        self._tags = None
        self.changed()
        if len(entries) == 1:
            field = self.sheet.fields[entries[0].column]
            text = self.sheet.texts(self.sheet.places([entries[0].row]), field.column)[0]
            return Answer(said=f"{field.title} {doing} to {_shown(text)}")
        said = f"{counted(len(entries) - len(objections), 'cell')} {doing}"
        matched = [
            f"{printable(text, 60)!r} read as {printable(name, 60)!r}" for text, name in self.sheet.read_as.items()
        ]
        said = "; ".join([said, *matched[:SAID_OBJECTIONS]])
        return self._objected(objections, f"{said}; {len(objections):,} refused:") if objections else Answer(said=said)

    def _objected(self, objections: Sequence[Objection], said: str = "") -> Answer:
        """Describe what was refused and why; without other words nothing was changed."""
        reasons = list(dict.fromkeys(entry.reason for entry in objections))
        more = f"; and {len(reasons) - SAID_OBJECTIONS} more reasons" if len(reasons) > SAID_OBJECTIONS else ""
        cells = "" if len(objections) == 1 else f" {len(objections):,} cells:"
        words = f"{said or f'refused, nothing was changed:{cells}'} {'; '.join(reasons[:SAID_OBJECTIONS])}{more}"
        first = [replace(entry, index=self.ordering.index(entry.row)) for entry in objections[:MOST_OBJECTIONS]]
        return Answer(said=words, objections=first)

    def _cells(self, message: messages.Ranged) -> list[tuple[int, str]]:
        """The cells of a marked range, row by row."""
        uids = self._marked_rows(message)
        columns = [column for column in message.range.columns if column in self.sheet.fields]
        if len(uids) * len(columns) > MOST_MARKED:
            # The kernel would be busy for long; and so much is rarely meant.
            size = f"{len(uids) * len(columns):,} cells are too many at once"
            raise FrameError(f"{size}; at most {MOST_MARKED:,}: mark fewer columns")
        return [(uid, column) for uid in uids for column in columns]

    def _marked_rows(self, message: messages.Ranged) -> list[int]:
        uids: list[int] = self.ordering.slice(message.range.start, message.range.stop + 1).tolist()
        return uids

    def _clear(self, message: messages.Clear) -> Answer:
        return self._put([Entry(row, column, None) for row, column in self._cells(message)], "cleared")

    def _empty(self, message: messages.Empty) -> Answer:
        """Set empty text, which is not the same as missing."""
        return self._put([Entry(row, column, "") for row, column in self._cells(message)])

    def _fill(self, message: messages.Fill) -> Answer:
        """Put the first cell of each marked column into the others."""
        cells = self._cells(message)
        first = {column: row for row, column in reversed(cells)}
        texts = {c: self.sheet.texts(self.sheet.places([row]), c)[0] for c, row in first.items()}
        return self._put([Entry(row, column, texts[column]) for row, column in cells if row != first[column]])

    def _revert(self, message: messages.Revert) -> Answer:
        count = self.sheet.revert(self._cells(message))
        if count:
            self.changed()
        return Answer(said=f"{counted(count, 'cell')} as loaded again" if count else "nothing to put back")

    def _copy(self, message: messages.Copy) -> Answer:
        places = self.sheet.places(self._marked_rows(message))
        columns = [column for column in message.range.columns if column in self.sheet.fields]
        texts = [self.sheet.texts(places, column) for column in columns]
        rows = list(zip(*texts, strict=True))
        return TextAnswer(text=build_tsv(rows), said=f"{counted(len(rows) * len(columns), 'cell')} copied")

    def _paste(self, message: messages.Paste) -> Answer:
        """Paste a range, or one value into every marked cell; cells that are refused stay as they are."""
        rows = parse_tsv(message.text) if message.text else []
        # Our own workbooks say of a cell that it holds empty text, or what a spreadsheet cannot hold.
        pasted = [[from_cell(text) if text and text.startswith(ESCAPED) else text for text in row] for row in rows]
        width = max(map(len, pasted), default=0)
        if not pasted:
            return Answer(said="there is nothing to paste")
        if len(pasted) * width > MOST_PASTED:
            return Answer(error=f"{len(pasted) * width:,} cells are too many to paste; at most {MOST_PASTED:,}")
        if len(pasted) == width == 1:
            return self._put(
                [Entry(row, column, pasted[0][0]) for row, column in self._cells(message)], "pasted", partly=True
            )
        start, first = message.range.start, self.columns.index(message.range.columns[0])
        if self._is_heading(pasted[0], self.columns[first : first + width]):
            del pasted[0]
        uids = self.ordering.slice(start, start + len(pasted)).tolist()
        columns = self.columns[first : first + width]
        if len(uids) < len(pasted) or len(columns) < width:
            sizes = ((len(pasted), width), (len(uids), len(columns)))
            pasted_size, left = (f"{counted(rows, 'row')} and {counted(wide, 'column')}" for rows, wide in sizes)
            return Answer(error=f"{pasted_size} do not fit here: {left} are left")
        entries = [
            Entry(uid, column, text)
            for uid, row in zip(uids, pasted, strict=True)
            for column, text in zip(columns, row, strict=False)
        ]
        return self._put(entries, "pasted", partly=True)

    def _is_heading(self, row: Sequence[str | None], columns: Sequence[str]) -> bool:
        """Whether a row names the columns that it stands over: then a spreadsheet's column was copied as a whole."""
        fields = [self.sheet.fields[column] for column in columns]
        names = [{fold_name(each) for each in (field.column, field.name, field.title)} for field in fields]
        texts = [fold_name((text or "").partition(" [")[0]) for text in row]
        return len(row) == len(columns) and all(text in known for text, known in zip(texts, names, strict=True))

    def _add(self, message: messages.Add) -> Answer:  # noqa: ARG002 - every action takes its message
        uid = self.sheet.add()
        self.ordering.append(uid)
        self.moved()
        return PlaceAnswer(index=len(self.ordering) - 1, said="a new deal was added below; it needs a name")

    def _delete(self, message: messages.Delete) -> Answer:
        """Mark deals for deletion; those that are all marked already are kept again."""
        uids = self._marked_rows(message)
        if uids and set(uids) <= self.sheet.deleted:
            self.sheet.restore(uids)
            self.changed()
            return Answer(said=f"{counted(len(uids), 'deal')} will not be deleted")
        objections = self.sheet.delete(uids)
        if objections:
            return self._objected(objections)
        if not uids:
            return Answer(said="no deal is marked")
        places = self.sheet.places(uids)
        new = [uid for uid, place in zip(uids, places, strict=True) if self.sheet.is_new[place]]
        self.ordering.drop(new)
        self.moved()
        said = [f"{counted(len(new), 'new deal')} dropped"] if new else []
        if len(uids) > len(new):
            said.append(f"{counted(len(uids) - len(new), 'deal')} will be deleted when the changes are sent")
        return Answer(said="; ".join(said))

    def _undo(self, message: messages.Undo) -> Answer:  # noqa: ARG002
        return self._walked(self.sheet.undo(), "undone", "nothing to undo")

    def _redo(self, message: messages.Redo) -> Answer:  # noqa: ARG002
        return self._walked(self.sheet.redo(), "done again", "nothing to do again")

    def _walked(self, step: Step | None, words: str, none: str) -> Answer:
        if step is None:
            return Answer(said=none)
        self._tags = None
        if not isinstance(step, CellStep):
            self.ordering.show(self.columns)
            self.moved()
            return Answer(said=f"{words}: rows")
        self.changed()
        edit = step.edits[-1]
        titles = dict.fromkeys(self.sheet.fields[each.column].title for each in step.edits)
        index = self.ordering.index(edit.rows[0])
        return PlaceAnswer(said=f"{words}: {named(titles, 3)}", index=index, column=edit.column)

    def _sort(self, message: messages.Sort) -> Answer:
        column = None if self._is_reasons(str(message.column)) else message.column
        if column is not None and column not in self.sheet.fields:
            return Answer(error=f"there is no column {printable(column, 60)}")
        self.ordering.sort(column, self.columns, descending=message.descending)
        self.moved()
        if column is None:
            ranked = self.ordering.rank is not None
            return Answer(said="what needs attention stands first" if ranked else "rows stand as they were loaded")
        return Answer(
            said=f"sorted by {self.sheet.fields[column].title}, {'descending' if message.descending else 'ascending'}"
        )

    def _filter(self, message: messages.Filter) -> Answer:
        self.ordering.show(self.columns, filter=message.text, only_changed=message.only_changed)
        self.moved()
        return Answer(said=counted(len(self.ordering), "row"))

    def _choose_columns(self, message: messages.Columns) -> Answer:
        wanted = [column for column in message.columns if column in self.sheet.fields or self._is_reasons(column)]
        if not wanted:
            return Answer(error="at least one column has to be shown")
        self.columns = wanted
        self.changed()
        return Answer(said=f"{counted(len(wanted), 'column')} shown")

    def _choices(self, message: messages.Choices) -> Answer:
        """Return what may be chosen in a cell, at most `MOST_CHOICES`, those that begin as typed first."""
        field = self.sheet.fields[message.column]
        typed = message.text.casefold()
        if isinstance(field.codec, Relations):
            known = field.codec.book.names.get(field.codec.id_column, {})
            ids = self.sheet.stage_ids if field.codec.id_column == "stage_id" else sorted(known, key=known.__getitem__)
            pairs = [(field.codec.show(row_id), known.get(row_id, "")) for row_id in ids]
        else:
            options = self._known_tags() if field.kind == "tags" else list(field.options)
            pairs = [(option, option) for option in options]
        fits = [(text, name.casefold()) for text, name in pairs if typed in text.casefold()]
        fits.sort(key=lambda pair: not pair[1].startswith(typed))
        shown = [text for text, _ in fits[:MOST_CHOICES]]
        return messages.ChoicesAnswer(choices=shown, more=max(len(fits) - MOST_CHOICES, 0))

    def _code(self, message: messages.Code) -> Answer:  # noqa: ARG002
        return TextAnswer(text=recipe(self.sheet, self.unknown_names), said="the code that does the same was copied")

    def _known_tags(self) -> list[str]:
        if self._tags is None:
            lists = (tags for tags in self.sheet.held["tags"].tolist() if isinstance(tags, list | tuple))
            counts = Counter(tag for tags in lists for tag in tags)
            self._tags = [tag for tag, _ in counts.most_common(200)]
        return self._tags


def pending_words(pending: Mapping[str, int]) -> str:
    """Count what waits in words."""
    parts = []
    if pending["cells"]:
        parts.append(f"{counted(pending['cells'], 'cell')} in {counted(pending['rows'], 'deal')}")
    if pending["new"]:
        parts.append(counted(pending["new"], "new deal"))
    if pending["deleted"]:
        parts.append(f"{counted(pending['deleted'], 'deal')} to delete")
    return ", ".join(parts) or "none"


_ACTIONS: Mapping[type[messages.Request], Callable[[Desk, Any], Answer]] = {
    messages.Rows: Desk._rows,
    messages.Edit: Desk._edit,
    messages.Clear: Desk._clear,
    messages.Empty: Desk._empty,
    messages.Fill: Desk._fill,
    messages.Revert: Desk._revert,
    messages.Copy: Desk._copy,
    messages.Paste: Desk._paste,
    messages.Add: Desk._add,
    messages.Delete: Desk._delete,
    messages.Undo: Desk._undo,
    messages.Redo: Desk._redo,
    messages.Sort: Desk._sort,
    messages.Filter: Desk._filter,
    messages.Columns: Desk._choose_columns,
    messages.Choices: Desk._choices,
    messages.Code: Desk._code,
}


_REASONS = messages.Column(
    REASONS, REASONS, "Needs attention", "Why the deal needs a look: hygiene() has the rules.", "note",
    "worked out from the deal", "", "", strict=False,
)  # fmt: skip


def _described(field: Field) -> messages.Column:
    # Typing chooses from the list only where nothing else may stand there.
    strict = field.kind != "tags" and field.name != "forecast_category" and not field.named_only
    facts = {name: getattr(field, name) for name in messages.Column.__struct_fields__ if name != "strict"}
    return messages.Column(**facts, strict=bool(field.choosing) and strict)


def _shown_cell(view: CellView, lock: str, field_lock: str) -> str | messages.Marked | None:
    """Return a cell as it is sent: the bare text where there is nothing else to say."""
    lock = lock if lock != field_lock else ""
    if not (view.changed or view.problem or lock):
        return view.text
    return messages.Marked(view.text, view.was if view.changed else UNSET, view.problem, lock)


def _shown(text: str | None) -> str:
    return "missing" if text is None else "empty text" if text == "" else printable(text, 60)
