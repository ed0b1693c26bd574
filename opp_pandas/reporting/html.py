"""The report as a page, and the page as PDF and as a picture."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import warnings
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import MissingExtraError
from opp_pandas.kinds import is_missing
from opp_pandas.reporting.blocks import Drawing, Headlines, Picture, Table, sort_key, written
from opp_pandas.reporting.images import to_svg

if TYPE_CHECKING:
    from opp_pandas.reporting.build import Report

_LONG_WORD, _PART = re.compile(r"([!-~]{20,})"), re.compile(".{1,10}")
_SCALE = 2.0
_MARGIN = 24


def _text_of(name: str) -> str:
    return resources.files("opp_pandas.reporting").joinpath("page", name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _template() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("Jinja2", "report") from error
    # Every value is escaped; what is markup is marked as such in one place, below.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text_of("page.html"))


def to_html(report: Report, *, for_print: bool = False) -> str:
    """Return the report as one page that needs nothing but itself; for print without script and in one set of colours.

    Its policy allows one script, known by its hash, and no request.
    """
    template = _template()
    from markupsafe import Markup

    script = "" if for_print else _text_of("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    drawn = 0

    def svg(axes: Any) -> Markup:
        nonlocal drawn
        drawn += 1
        return Markup(to_svg(axes, f"p{drawn}", themed=not for_print))  # noqa: S704 (matplotlib escapes its texts)

    return str(
        template.render(
            report=report,
            css=Markup(_text_of("page.css")),  # noqa: S704 (our own file)
            script=Markup(script),  # noqa: S704 (our own file)
            digest=digest,
            for_print=for_print,
            svg=svg,
            kind=_kind,
            written=written,
            breakable=_breakable,
            sort_key=sort_key,
            is_missing=is_missing,
        )
    )


def _breakable(text: str) -> Any:
    """Let words like addresses go on in the next line: a sheet of paper cannot be scrolled."""
    from markupsafe import Markup

    # Every other piece is a long word; join() escapes each part.
    pieces = enumerate(_LONG_WORD.split(text))
    parts = [part for place, piece in pieces for part in (_PART.findall(piece) if place % 2 else [piece])]
    return Markup("<wbr>").join(parts)


def _kind(block: object) -> str:
    if isinstance(block, Table) and block.beside_chart:
        return ""
    names = {Headlines: "headlines", Table: "table", Picture: "picture", Drawing: "picture"}
    return names.get(type(block), "text")


def to_pdf(report: Report) -> bytes:
    """Return the page on sheets of A4."""
    try:
        import weasyprint
    except ImportError as error:
        raise MissingExtraError("weasyprint", "report") from error
    page = to_html(report, for_print=True)
    with warnings.catch_warnings():
        # What other libraries warn of inside it is nothing that a reader of the report can mend.
        warnings.simplefilter("ignore")
        made: bytes = weasyprint.HTML(string=page, url_fetcher=_refuse).write_pdf(pdf_tags=True)
    return made


def _refuse(url: str, *_: Any, **__: Any) -> Any:
    raise ValueError(f"a report asks for nothing outside itself: {url[:80]}")


def to_png(report: Report) -> bytes:
    """Return the first page as a picture, cut below its last line."""
    try:
        import pypdfium2
    except ImportError as error:
        raise MissingExtraError("pypdfium2", "report") from error
    from PIL import Image, ImageChops

    document = pypdfium2.PdfDocument(to_pdf(report))
    try:
        picture = document[0].render(scale=_SCALE).to_pil().convert("RGB")
    finally:
        document.close()
    # The number of the page stands in the margin: it is no part of a single picture.
    picture = picture.crop((0, 0, picture.width, int(picture.height * 0.945)))
    drawn = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
    if drawn is not None:
        picture = picture.crop((0, 0, picture.width, min(drawn[3] + 2 * _MARGIN, picture.height)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
