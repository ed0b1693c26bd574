"""What the grid in the browser asks for, answered without a browser.

Every message is a mapping with a ``do``; every answer is made of texts, numbers
and lists. Rows are named by their own numbers, ranges by where they stand, and a
range that was marked before the rows were sorted anew is refused.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import FrameError, named, printable
from opp_pandas.figures.core.basis import counted
from opp_pandas.notebook.clipboard import build_tsv, parse_tsv
from opp_pandas.notebook.codecs import Relations
from opp_pandas.notebook.edit_session import Entry, Objection, Sheet
from opp_pandas.notebook.edit_steps import CellStep, Step
from opp_pandas.notebook.fields import Field, first_columns
from opp_pandas.notebook.ordering import Ordering
from opp_pandas.notebook.to_code import recipe

if TYPE_CHECKING:
    from opp_pandas.choices import UnknownNames
    from opp_pandas.notebook.cells import CellView

MOST_ROWS = 500
MOST_CHOICES = 50
MOST_PASTED = 50_000
MOST_MARKED = 200_000
SAID_OBJECTIONS = 3
Message = Mapping[str, Any]
Answer = dict[str, Any]


class Desk:
    """One sheet, the rows and columns that are shown of it, and everything that can be asked of them.

    Parameters
    ----------
    sheet : Sheet
        What is edited.
    columns : sequence of str, optional
        Columns to show, by the frame's names.
    on_change : callable
        Called after everything that people may want to see.
    unknown_names : {"refuse", "leave_out"}
        What becomes of new deals with names that the service does not know.

    Raises
    ------
    MissingColumnError
        If a column is not there.
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
        self.on_change = on_change
        self.busy = ""
        # Taken by whoever reads or changes the sheet: sending ends in a thread of its own, and some kernels
        # answer the browser in another thread than that of the cells.
        self.lock = threading.RLock()
        self._view = 0
        self._version = 0
        self._tags: list[str] | None = None

    # --- what is shown ------------------------------------------------------------

    def fields(self) -> list[Answer]:
        """Describe every column, for headers, editors and the chooser."""
        return [_described(field) for field in self.sheet.fields.values()]

    def state(self) -> Answer:
        """Say what stands where: small, and sent after every change."""
        return {
            "columns": self.columns,
            "count": len(self.ordering),
            "total": int(self.sheet.kept().sum()),
            "view": self._view,
            "version": self._version,
            "sort": self.ordering.column,
            "descending": self.ordering.descending,
            "filter": self.ordering.filter,
            "only_changed": self.ordering.only_changed,
            "undo": bool(self.sheet.done),
            "redo": bool(self.sheet.undone),
            "pending": self.sheet.pending(),
            "busy": self.busy,
            "zone": self.sheet.loaded.timezone or "UTC",
        }

    def changed(self) -> None:
        """Tell whoever shows the sheet that something is different."""
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

    def handle(self, message: Any) -> Answer:
        """Answer one message, whatever it is: nobody waits for an answer that never comes.

        Returns
        -------
        dict
            ``said``: what happened, for the live region; ``objections``: what
            was refused, and nothing happened then; and what was asked for. Or
            ``error``: why nothing of it is there.
        """
        if not isinstance(message, Mapping):
            return {"error": f"a message is a mapping, not {printable(repr(message), 40)}"}
        name = str(message.get("do"))
        action = _ACTIONS.get(name)
        if action is None:
            return {"error": f"there is nothing called {printable(name, 40)}"}
        with self.lock:
            if self.busy and name not in _READING:
                return {"error": self.busy}
            steps = len(self.sheet.log)
            try:
                if "range" in message and message["range"].get("view") != self._view:
                    return {"error": "the rows were ordered anew meanwhile; mark them again"}
                return action(self, message)
            except FrameError as problem:
                return {"error": str(problem)}
            except Exception as problem:  # noqa: BLE001 - the page must not show a cell as being sent for ever
                what = f"{type(problem).__name__}: {printable(problem, 200)}"
                done = "done, but then" if len(self.sheet.log) > steps else "not saved:"
                return {
                    "error": f"{'that did not work:' if name in _READING else done} the editor met an error ({what})"
                }

    def _rows(self, message: Message) -> Answer:
        """Give some rows: at most `MOST_ROWS`."""
        start = max(int(message["from"]), 0)
        uids = self.ordering.slice(start, min(int(message["to"]), start + MOST_ROWS))
        places = self.sheet.places(uids.tolist())
        columns = [column for column in message.get("columns", self.columns) if column in self.sheet.fields]
        by_column = [self.sheet.cells(places, column) for column in columns]
        rows = []
        for number, (uid, place) in enumerate(zip(uids.tolist(), places.tolist(), strict=True)):
            cells = [
                _sent(view[number], self.sheet.cell_lock(place, column), self.sheet.fields[column].locked)
                for column, view in zip(columns, by_column, strict=True)
            ]
            rows.append({"row": uid, **self._row_facts(uid, place), "cells": cells})
        return {"from": start, "columns": columns, "view": self._view, "version": self._version, "rows": rows}

    def _row_facts(self, uid: int, place: int) -> Answer:
        facts: Answer = {}
        if uid in self.sheet.deleted:
            facts["state"] = "deleted"
        elif self.sheet.is_new[place]:
            facts["state"] = "new"
        if lock := self.sheet.row_lock(place):
            facts["lock"] = lock
        if problem := self.sheet.problems.get((uid, ""), ""):
            facts["problem"] = problem
        return facts

    def _edit(self, message: Message) -> Answer:
        entries = [Entry(int(cell["row"]), str(cell["column"]), cell["text"]) for cell in message["cells"]]
        return self._put(entries)

    def _put(self, entries: Sequence[Entry], doing: str = "set") -> Answer:
        before = len(self.sheet.log)
        objections = self.sheet.put(entries)
        if objections:
            return {"objections": [_objection(entry) for entry in objections[:20]], "said": _refused(objections)}
        if len(self.sheet.log) == before:
            return {"said": "nothing changed"}
        self._tags = None
        self.changed()
        if len(entries) == 1:
            field = self.sheet.fields[entries[0].column]
            text = self.sheet.texts(self.sheet.places([entries[0].row]), field.column)[0]
            return {"said": f"{field.title} {doing} to {_shown(text)}"}
        return {"said": f"{counted(len(entries), 'cell')} {doing}"}

    def _cells(self, message: Message) -> list[tuple[int, str]]:
        """The cells of a marked range, row by row."""
        uids = self._marked_rows(message)
        columns = [str(column) for column in message["range"]["columns"] if column in self.sheet.fields]
        if len(uids) * len(columns) > MOST_MARKED:
            # The kernel would be busy for long; and so much is rarely meant.
            size = f"{len(uids) * len(columns):,} cells are too many at once"
            raise FrameError(f"{size}; at most {MOST_MARKED:,}: mark fewer columns")
        return [(uid, column) for uid in uids for column in columns]

    def _marked_rows(self, message: Message) -> list[int]:
        marked = message["range"]
        uids: list[int] = self.ordering.slice(int(marked["from"]), int(marked["to"]) + 1).tolist()
        return uids

    def _clear(self, message: Message) -> Answer:
        return self._put([Entry(row, column, None) for row, column in self._cells(message)], "cleared")

    def _empty(self, message: Message) -> Answer:
        """Set empty text, which is not the same as missing."""
        return self._put([Entry(row, column, "") for row, column in self._cells(message)])

    def _fill(self, message: Message) -> Answer:
        """Put the first cell of each marked column into the others."""
        cells = self._cells(message)
        first = {column: row for row, column in reversed(cells)}
        texts = {c: self.sheet.texts(self.sheet.places([row]), c)[0] for c, row in first.items()}
        return self._put([Entry(row, column, texts[column]) for row, column in cells if row != first[column]])

    def _revert(self, message: Message) -> Answer:
        count = self.sheet.revert(self._cells(message))
        if count:
            self.changed()
        return {"said": f"{counted(count, 'cell')} as loaded again" if count else "nothing to put back"}

    def _copy(self, message: Message) -> Answer:
        marked = message["range"]
        uids = self.ordering.slice(int(marked["from"]), int(marked["to"]) + 1)
        places = self.sheet.places(uids.tolist())
        columns = [str(column) for column in marked["columns"] if column in self.sheet.fields]
        texts = [self.sheet.texts(places, column) for column in columns]
        rows = list(zip(*texts, strict=True))
        return {"text": build_tsv(rows), "said": f"{counted(len(rows) * len(columns), 'cell')} copied"}

    def _paste(self, message: Message) -> Answer:
        """Paste a range; one value goes into every marked cell."""
        pasted = parse_tsv(str(message["text"])) if message["text"] else []
        width = max(map(len, pasted), default=0)
        if not pasted:
            return {"said": "there is nothing to paste"}
        if len(pasted) * width > MOST_PASTED:
            return {"error": f"{len(pasted) * width:,} cells are too many to paste; at most {MOST_PASTED:,}"}
        if len(pasted) == width == 1:
            return self._put([Entry(row, column, pasted[0][0]) for row, column in self._cells(message)], "pasted")
        marked = message["range"]
        start, first = int(marked["from"]), self.columns.index(marked["columns"][0])
        uids = self.ordering.slice(start, start + len(pasted)).tolist()
        columns = self.columns[first : first + width]
        if len(uids) < len(pasted) or len(columns) < width:
            sizes = ((len(pasted), width), (len(uids), len(columns)))
            pasted_size, left = (f"{counted(rows, 'row')} and {counted(wide, 'column')}" for rows, wide in sizes)
            return {"error": f"{pasted_size} do not fit here: {left} are left"}
        entries = [
            Entry(uid, column, text)
            for uid, row in zip(uids, pasted, strict=True)
            for column, text in zip(columns, row, strict=False)
        ]
        return self._put(entries, "pasted")

    def _add(self, message: Message) -> Answer:  # noqa: ARG002 - every action takes its message
        uid = self.sheet.add()
        self.ordering.append(uid)
        self.moved()
        return {"row": uid, "index": len(self.ordering) - 1, "said": "a new deal was added below; it needs a name"}

    def _delete(self, message: Message) -> Answer:
        """Mark deals for deletion; those that are all marked already are kept again."""
        uids = self._marked_rows(message)
        if uids and set(uids) <= self.sheet.deleted:
            self.sheet.restore(uids)
            self.changed()
            return {"said": f"{counted(len(uids), 'deal')} will not be deleted"}
        objections = self.sheet.delete(uids)
        if objections:
            return {"objections": [_objection(entry) for entry in objections[:20]], "said": _refused(objections)}
        if not uids:
            return {"said": "no deal is marked"}
        places = self.sheet.places(uids)
        new = [uid for uid, place in zip(uids, places, strict=True) if self.sheet.is_new[place]]
        self.ordering.drop(new)
        self.moved()
        said = [f"{counted(len(new), 'new deal')} dropped"] if new else []
        if len(uids) > len(new):
            said.append(f"{counted(len(uids) - len(new), 'deal')} will be deleted when the changes are sent")
        return {"said": "; ".join(said)}

    def _undo(self, message: Message) -> Answer:  # noqa: ARG002
        return self._walked(self.sheet.undo(), "undone", "nothing to undo")

    def _redo(self, message: Message) -> Answer:  # noqa: ARG002
        return self._walked(self.sheet.redo(), "done again", "nothing to do again")

    def _walked(self, step: Step | None, words: str, none: str) -> Answer:
        if step is None:
            return {"said": none}
        self._tags = None
        if not isinstance(step, CellStep):
            self.ordering.show(self.columns)
            self.moved()
            return {"said": f"{words}: rows"}
        self.changed()
        edit = step.edits[-1]
        return {
            "said": f"{words}: {named(dict.fromkeys(self.sheet.fields[e.column].title for e in step.edits), 3)}",
            "row": edit.rows[0],
            "index": self.ordering.index(edit.rows[0]),
            "column": edit.column,
        }

    def _sort(self, message: Message) -> Answer:
        column = message.get("column")
        if column is not None and column not in self.sheet.fields:
            return {"error": f"there is no column {printable(column, 60)}"}
        descending = bool(message.get("descending"))
        self.ordering.sort(column, self.columns, descending=descending)
        self.moved()
        if column is None:
            return {"said": "rows stand as they were loaded"}
        return {"said": f"sorted by {self.sheet.fields[column].title}, {'descending' if descending else 'ascending'}"}

    def _filter(self, message: Message) -> Answer:
        self.ordering.show(
            self.columns, filter=message.get("text") and str(message["text"]), only_changed=message.get("only_changed")
        )
        self.moved()
        return {"said": counted(len(self.ordering), "row")}

    def _choose_columns(self, message: Message) -> Answer:
        wanted = [str(column) for column in message["columns"] if column in self.sheet.fields]
        if not wanted:
            return {"error": "at least one column has to be shown"}
        self.columns = wanted
        self.changed()
        return {"said": f"{counted(len(wanted), 'column')} shown"}

    def _choices(self, message: Message) -> Answer:
        """Give what may be chosen in a cell, at most `MOST_CHOICES`, those that begin as typed first."""
        field = self.sheet.fields[str(message["column"])]
        typed = str(message.get("text") or "").casefold()
        if isinstance(field.codec, Relations):
            known = field.codec.book.names.get(field.codec.id_column, {})
            ids = self.sheet.stage_ids if field.codec.id_column == "stage_id" else sorted(known, key=known.__getitem__)
            pairs = [(field.codec.show(row_id), known.get(row_id, "")) for row_id in ids]
        else:
            options = self._known_tags() if field.kind == "tags" else list(field.options)
            pairs = [(option, option) for option in options]
        fits = [(text, name.casefold()) for text, name in pairs if typed in text.casefold()]
        fits.sort(key=lambda pair: not pair[1].startswith(typed))
        return {"choices": [text for text, _ in fits[:MOST_CHOICES]], "more": max(len(fits) - MOST_CHOICES, 0)}

    def _code(self, message: Message) -> Answer:  # noqa: ARG002
        return {"text": recipe(self.sheet, self.unknown_names), "said": "the code that does the same was copied"}

    def _known_tags(self) -> list[str]:
        if self._tags is None:
            lists = (tags for tags in self.sheet.held["tags"].tolist() if isinstance(tags, list | tuple))
            counts = Counter(tag for tags in lists for tag in tags)
            self._tags = [tag for tag, _ in counts.most_common(200)]
        return self._tags


_ACTIONS: Mapping[str, Callable[[Desk, Message], Answer]] = {
    "rows": Desk._rows,
    "edit": Desk._edit,
    "clear": Desk._clear,
    "empty": Desk._empty,
    "fill": Desk._fill,
    "revert": Desk._revert,
    "copy": Desk._copy,
    "paste": Desk._paste,
    "add": Desk._add,
    "delete": Desk._delete,
    "undo": Desk._undo,
    "redo": Desk._redo,
    "sort": Desk._sort,
    "filter": Desk._filter,
    "columns": Desk._choose_columns,
    "choices": Desk._choices,
    "code": Desk._code,
}
_READING = frozenset({"rows", "copy", "sort", "filter", "columns", "choices", "code"})


def _described(field: Field) -> Answer:
    return {
        "column": field.column,
        "name": field.name,
        "title": field.title,
        "meaning": field.meaning,
        "kind": field.kind,
        "locked": field.locked,
        "choosing": field.choosing,
        "separator": field.separator,
        # Typing chooses from the list only where nothing else may stand there.
        "strict": bool(field.choosing)
        and field.kind != "tags"
        and field.name != "forecast_category"
        and not field.named_only,
    }


def _sent(view: CellView, lock: str, field_lock: str) -> Any:
    """Give a cell as it is sent: the bare text where there is nothing else to say."""
    extra: Answer = {}
    if view.changed:
        extra["was"] = view.was
    if view.problem:
        extra["problem"] = view.problem
    if lock and lock != field_lock:
        extra["lock"] = lock
    return {"text": view.text, **extra} if extra else view.text


def _objection(entry: Objection) -> Answer:
    return {"row": entry.row, "column": entry.column, "text": entry.text, "reason": entry.reason}


def _refused(objections: Sequence[Objection]) -> str:
    reasons = list(dict.fromkeys(entry.reason for entry in objections))
    more = f"; and {len(reasons) - SAID_OBJECTIONS} more reasons" if len(reasons) > SAID_OBJECTIONS else ""
    cells = "" if len(objections) == 1 else f" {len(objections):,} cells:"
    return f"refused, nothing was changed:{cells} {'; '.join(reasons[:SAID_OBJECTIONS])}{more}"


def _shown(text: str | None) -> str:
    return "missing" if text is None else "empty text" if text == "" else printable(text, 60)
