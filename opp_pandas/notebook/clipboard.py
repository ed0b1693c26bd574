"""Ranges of cells as tab-separated text, the form in which spreadsheets copy and paste.

An empty cell is missing; a quoted empty one, ``""``, is an empty text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_NEEDS_QUOTES = ("\t", "\n", "\r", '"')


def build_tsv(rows: Iterable[Sequence[str | None]]) -> str:
    r"""Write rows of texts; cells with tabs, newlines or quotes stand in quotes.

    Examples
    --------
    >>> build_tsv([["a", None], ["", "b"]]).split("\r\n")
    ['a\t', '""\tb', '']
    """
    return "".join("\t".join(_quoted(cell) for cell in row) + "\r\n" for row in rows)


def _quoted(cell: str | None) -> str:
    if cell is None:
        return ""
    if cell == "" or any(mark in cell for mark in _NEEDS_QUOTES):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def parse_tsv(text: str) -> list[list[str | None]]:
    r"""Read rows of texts, as copied from a spreadsheet.

    Returns
    -------
    list of list of str or None
        None for an empty cell. A last line break adds no row.

    Examples
    --------
    >>> parse_tsv("a\t\n''\tb\n".replace("'", '"'))
    [['a', None], ['', 'b']]
    """
    rows: list[list[str | None]] = [[]]
    place, end = 0, len(text)
    while place <= end:
        cell, place = _read_cell(text, place)
        rows[-1].append(cell)
        if place >= end:
            break
        if text[place] == "\t":
            place += 1
            continue
        place += 2 if text.startswith("\r\n", place) else 1
        if place >= end:
            break
        rows.append([])
    return rows


def _read_cell(text: str, start: int) -> tuple[str | None, int]:
    """Read one cell; give it and where it ends."""
    if text.startswith('"', start):
        parts, place = [], start + 1
        while (quote := text.find('"', place)) >= 0:
            parts.append(text[place:quote])
            if not text.startswith('""', quote):
                if quote + 1 == len(text) or text[quote + 1] in "\t\r\n":
                    return "".join(parts), quote + 1
                break
            parts.append('"')
            place = quote + 2
        # A quote in the middle of a word is no more than a character.
    place = start
    while place < len(text) and text[place] not in "\t\r\n":
        place += 1
    return text[start:place] or None, place
