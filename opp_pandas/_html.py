"""Results as small pages for a notebook: a text form turned into HTML, every value escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pandas as pd
from msgspec import Struct

from opp_pandas.errors import printable

MOST_ROWS = 10


def as_page(text: str, *tables: tuple[str, pd.DataFrame]) -> str:
    r"""Turn a text form into HTML: its first line bold, the others a list, and small tables with captions below.

    Without scripts, styles of others, or text that was not escaped. Frames without rows are left
    out, and of long ones the first 10 rows are shown.

    Examples
    --------
    >>> as_page("<b> deals").removeprefix(as_written("").removesuffix("</div>"))
    '<p><b>&lt;b&gt; deals</b></p></div>'
    """
    head, *rest = text.splitlines() or [""]
    items = "".join(f"<li>{_escaped(line.strip().removeprefix('- '))}</li>" for line in rest if line.strip())
    parts = [f"<p><b>{_escaped(head)}</b></p>", f"<ul>{items}</ul>" if items else ""]
    parts += [_table(caption, frame) for caption, frame in tables if len(frame)]
    return as_written("".join(parts))


def as_written(page: str) -> str:
    """Keep notebooks from reading dollar signs in a page, such as in names of deals, as mathematics."""
    return f'<div class="mathjax_ignore tex2jax_ignore">{page}</div>'


def _escaped(text: object) -> str:
    return html.escape(printable(text, 2_000))


class Paragraph(Struct, frozen=True, tag="paragraph"):
    """A paragraph of plain text."""

    text: str
    strong: bool = False

    def html(self) -> str:
        """Return it as HTML, escaped."""
        text = html.escape(self.text)
        return f"<p><b>{text}</b></p>" if self.strong else f"<p>{text}</p>"


class Table(Struct, frozen=True, tag="table"):
    """A table of plain texts; `align` is for all columns but the first."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: Literal["left", "right"] = "left"

    def html(self) -> str:
        """Return it as HTML, escaped."""
        return table_html(self.titles, self.rows, self.align)


def parts_html(parts: Iterable[Part]) -> str:
    """Return paragraphs and tables as HTML for a notebook."""
    return as_written("".join(part.html() for part in parts))


Part = Paragraph | Table
"""What is said to people in several places: as HTML, and as data for a page that builds its own elements."""


def table_html(titles: Sequence[str], rows: Iterable[Sequence[str]], align: str = "left", caption: str = "") -> str:
    """Return lines of text as an HTML table, everything escaped; `align` is for all columns but the first."""
    styles = [f"style='text-align:{side}'" for side in ("left", *(align for _ in titles[1:]))]

    def line(cells: Sequence[str], tag: str) -> str:
        pairs = zip(styles, cells, strict=True)
        return "".join(f"<{tag} {style}>{html.escape(cell)}</{tag[:2]}>" for style, cell in pairs)

    head = line(titles, "th scope='col'")
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    above = f"<caption style='text-align:left'>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _table(caption: str, frame: pd.DataFrame) -> str:
    rows = frame.head(MOST_ROWS).itertuples(index=False, name=None)
    more = f", first {MOST_ROWS} of {len(frame):,}" if len(frame) > MOST_ROWS else ""
    titles = [printable(name, 60) for name in frame.columns]
    return table_html(titles, [[_cell(value) for value in row] for row in rows], caption=f"{printable(caption)}{more}")


def _cell(value: Any) -> str:
    missing = value is None or (pd.api.types.is_scalar(value) and pd.isna(value))
    return "" if missing else printable(value, 60)
