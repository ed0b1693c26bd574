"""Reading reports: what a person finds on a page or in a workbook."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pandas as pd

from portfolios import LEAD, portfolio

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    r"$\frac{1}{0}$ & co",
    "\u202egnp.exe\u202c",
    '=HYPERLINK("http://evil.example","x")',
    "+1+1",
    "@SUM(A1)",
    "-2+3",
    "'=1+1",
    "{{ 7 * 7 }} {% raw %}",
    "javascript:alert(1)",
    "tab\there, return\rthere, end\x00",
    "]]> <!-- --> </td></table>",
]
_EMPTY = {"meta", "path", "use", "rect", "link", "br", "img", "image", "circle", "line"}


def hostile_deals() -> pd.DataFrame:
    """One open deal of each hostile name, owned by one of it, the largest first."""
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "amount": 1000 - place,
            "probability": 50,
            "stage_id": LEAD,
            "close_date": "2026-06-20T12:00Z",
            "owner_name": name,
            "account_name": name,
            "next_step": name,
            "custom_id": name,
        }
        for place, name in enumerate(HOSTILE)
    ]
    return portfolio(rows)


@dataclass
class ReadTable:
    """A table as it stands on a page."""

    caption: str
    heads: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def column(self, heading: str) -> list[str]:
        """The cells below a heading."""
        return [row[self.heads.index(heading)] for row in self.rows]


class page_of(HTMLParser):  # noqa: N801 (reads like a function where it is used)
    """What stands on a page: headings, tiles, tables, alternative texts, notes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.headings: list[str] = []
        self.tiles: dict[str, list[str]] = {}
        self.tables: list[ReadTable] = []
        self.pictures: list[str] = []
        self.facts: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.scripts = 0
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self._open: list[tuple[str, str]] = []
        self._texts: list[str] = []
        self._pieces: list[str] = []
        self._caption = ""
        self._pairs: list[str] = []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self._texts).split())

    def table(self, caption: str) -> ReadTable:
        """The one table whose caption begins so."""
        found = [table for table in self.tables if table.caption.startswith(caption)]
        assert len(found) == 1, f"{caption!r} among {[table.caption for table in self.tables]}"
        return found[0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element says of itself."""
        if tag == "wbr":
            return  # a place where a long word may go on below
        own = {name: value or "" for name, value in attrs}
        self.attributes |= set(own)
        self.addresses += [value for name, value in own.items() if name in ("href", "src", "xlink:href", "action")]
        self.scripts += tag == "script"
        if own.get("role") == "img":
            self.pictures.append(own.get("aria-label", ""))
        if tag == "table":
            self.tables.append(ReadTable(self._caption))
        if tag == "tr" and self.tables and ("tbody", "") in self._open:
            self.tables[-1].rows.append([])
        self._pieces = []
        if tag not in _EMPTY:
            self._open.append((tag, own.get("class", "")))

    def handle_data(self, data: str) -> None:
        """Gather words."""
        self._pieces.append(data)
        if not self._open or self._open[-1][0] not in ("script", "style"):
            self._texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Put the words where they belong."""
        own = ""
        while self._open and self._open[-1][0] != tag:
            self._open.pop()
        if self._open:
            own = self._open.pop()[1]
        text, self._pieces = "".join(self._pieces).strip(), []
        inside = [name for name, _ in self._open]
        if tag == "h2":
            self.headings.append(text)
        elif tag == "p" and "caption" in own:
            self._caption = text
        elif tag in ("th", "td") and "thead" in inside:
            self.tables[-1].heads.append(text)
        elif tag in ("th", "td"):
            self.tables[-1].rows[-1].append(text)
        elif tag == "li":
            self.notes.append(text)
        elif tag == "dt":
            self._pairs = [text]
        elif tag == "dd":
            self._pairs.append(text)
        elif tag == "div" and own == "tile":
            self.tiles[self._pairs[0]] = self._pairs[1:]
        elif tag == "div" and inside[-1:] == ["dl"] and ("dl", "facts") in self._open:
            self.facts.append((self._pairs[0], self._pairs[1]))


def sheets_of(content: bytes) -> dict[str, dict[str, list[Any]]]:
    """The sheets of a workbook: columns by heading."""
    import openpyxl

    book = openpyxl.load_workbook(io.BytesIO(content))
    found = {}
    for sheet in book:
        heads, *rows = sheet.iter_rows(values_only=True)
        found[sheet.title] = {str(head): [row[place] for row in rows] for place, head in enumerate(heads)}
    return found
