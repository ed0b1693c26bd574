"""From deals to a report in a file: which sections, what they stand on, and in which form."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas._files import check_path, write_whole
from opp_pandas.errors import (
    ConfigurationError,
    HistoryNeededError,
    MissingColumnError,
    named,
    printable,
)
from opp_pandas.figures.core.basis import counted, known_basis
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.figures.core.figure import FIGURES, refuse_unknown, takes_definitions
from opp_pandas.forecasting.distribution import RHO
from opp_pandas.reporting.blocks import Section, in_words
from opp_pandas.reporting.report_data import Material, plain_rows, sequence_of
from opp_pandas.reporting.sections import SECTIONS, default_sections, figures_for_sections, of_figure, standing

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.figures import FigureContext

FORMS = (".html", ".htm", ".pdf", ".png", ".xlsx")
_LONGEST_TITLE = 200


@dataclass(frozen=True, eq=False)
class Report:
    """A report before it has a form: its title, of which day and of what it speaks, its sections in order.

    `basis` says what the figures stand on, in pairs of a word and what it says; `notes` what a reader should know of
    the data; `definitions` each figure's columns and formulas; `summary` in a sentence or two how the period stands.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    basis: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    definitions: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    summary: str = ""


@takes_definitions
def write_report(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    *,
    context: FigureContext,
    history: Any = None,
    quota: Any = None,
    by: str | None = None,
    sections: Sequence[str | Section | Callable[[Material], Any]] | None = None,
    title: str | None = None,
    since: Any = None,
    window_days: int | None = None,
    level: float = 0.95,
    rho: float = RHO,
    stale_days: int = 30,
    max_rows: int = 15,
    link: str | None = None,
) -> Path:
    """Write a report that people read outside the notebook: a page, a workbook, a PDF or a picture.

    Parameters
    ----------
    frame : DataFrame, shape (n, k)
        Opportunities. Never modified.
    path : str or Path
        Where to; the ending says what is made. ``.html``: one file that needs
        nothing else and opens from a mail. ``.pdf``: the same page on A4.
        ``.png``: its first page as a picture, cut below the last line.
        ``.xlsx``: a workbook with a sheet for each table, and its charts.
    history : History, optional
        Snapshots over time: adds what moved since the last one, and makes the
        stage distribution a funnel.
    quota : number, mapping or DataFrame, optional
        A number is for all deals in every period; a mapping goes from period
        to number or, with `by`, from group to number; a frame has ``period``,
        ``quota`` and perhaps the group.
    by : str, optional
        Compare the groups of this column, such as ``"owner_name"``.
    sections : sequence of str, Section or callable, optional
        Which sections, in order: names (see `SECTIONS`, or any figure of the
        deals), or functions that
        take the `Material` and return a `Section`, or text, DataFrame, Axes or
        a sequence of those. Left out: all that can be made of what was given.
    title : str, optional
        What stands on top; "Pipeline report" if left out.
    since : str, date or Timestamp, optional
        From when the waterfall tells; the newest snapshot before the load if left out.
    stale_days : int, default 30
        After how long without activity a deal is called stale [days].
    max_rows : int, default 15
        The deals that one table lists.
    link : str, optional
        Address of a deal in the browser, with ``{id}`` or ``{custom_id}`` in
        it: the listed deals lead there.

    Returns
    -------
    Path
        The file. It is written whole or not at all: after an error the old
        one is as it was.

    Raises
    ------
    ConfigurationError
        If the ending, a section or a choice does not exist, or the file cannot be written.
    MissingExtraError
        If a package of the extra ``report`` is not installed.
    MixedCurrencyError
        If the deals are in more than one currency and no rates are given.
    MissingColumnError, HistoryNeededError
        If a section that was asked for by name lacks what it needs; without
        `sections` the page says why it is left out.

    Examples
    --------
    >>> df.opp.report("forecast.html", sections=["hygiene"])
    PosixPath('forecast.html')
    """
    target, suffix = check_path(path, FORMS)
    report = assemble(
        frame,
        context=context,
        history=history,
        quota=quota,
        by=by,
        sections=sections,
        title=title,
        since=since,
        window_days=window_days,
        level=level,
        rho=rho,
        stale_days=stale_days,
        max_rows=max_rows,
        link=link,
    )
    return write_whole(target, _content(report, suffix))


def _content(report: Report, suffix: str) -> bytes:
    if suffix == ".xlsx":
        from opp_pandas.reporting.workbook import to_workbook

        return to_workbook(report)
    from opp_pandas.reporting import html

    if suffix == ".pdf":
        return html.to_pdf(report)
    return html.to_png(report) if suffix == ".png" else html.to_html(report).encode("utf-8")


@takes_definitions
def assemble(
    frame: pd.DataFrame,
    *,
    context: FigureContext,
    sections: Sequence[str | Section | Callable[[Material], Any]] | None = None,
    title: str | None = None,
    **choices: Any,
) -> Report:
    """Work out a report without writing it; arguments as in `write_report`."""
    refuse_unknown("report", choices, [each.name for each in fields(Material)][2:])
    material = Material(plain_rows(frame), context, **choices)
    if not isinstance(material.max_rows, int) or material.max_rows < 1:
        raise ConfigurationError(f"max_rows must be 1 or more, not {material.max_rows!r}")
    if material.by is not None:
        # A page leaves out what the deals cannot tell; a column that somebody asked for is to be there.
        material.names(material.by)
    wanted = list(default_sections(material) if sections is None else sequence_of(sections))
    for entry in wanted:
        if isinstance(entry, str) and entry not in SECTIONS and entry not in figures_for_sections():
            raise ConfigurationError(
                f"there is no section {named([entry])}; there are {named(SECTIONS, 20)}, and every figure of the deals "
                "by its name"
            )
    # Every figure would say it again; the page says it once.
    with suppress_unmapped_stages():
        made = [_make(entry, material, optional=sections is None) for entry in wanted]
        summary = ""
        # Where something is missing, the headlines say so.
        with suppress(MissingColumnError, HistoryNeededError):
            summary = standing(material) if "headline" in wanted else ""
    bases = [basis for section in made for basis in map(known_basis, section.figures) if basis]
    day = f"{context.local_as_of:%Y-%m-%d %H:%M} {context.timezone or 'UTC'}"
    currency = next((basis["currency"] for basis in bases if basis.get("currency")), None)
    subtitle = f"{counted(len(material.frame), 'opportunity').replace('opportunitys', 'opportunities')} as of {day}"
    subtitle += f", amounts in {printable(currency, 20)}" if currency else ""
    return Report(
        title=printable(title or "Pipeline report", _LONGEST_TITLE),
        subtitle=subtitle,
        sections=tuple(made),
        basis=_facts(material, bases),
        notes=list(dict.fromkeys(in_words(printable(note), {}) for basis in bases for note in basis.get("notes", []))),
        definitions=_definitions(made),
        summary=summary,
    )


def _make(entry: str | Section | Callable[[Material], Any], material: Material, *, optional: bool) -> Section:
    if isinstance(entry, Section):
        return entry
    if isinstance(entry, str):
        try:
            return SECTIONS[entry](material) if entry in SECTIONS else of_figure(entry, material)
        except (MissingColumnError, HistoryNeededError) as error:
            if not optional:
                raise
            return Section(entry.capitalize(), f"Left out: {error}.")
    if not callable(entry):
        raise ConfigurationError(
            f"a section is a name, a Section or a function that takes the material, not {type(entry).__name__}"
        )
    with _own_plots():
        found = entry(material)
    if isinstance(found, Section):
        return found
    name = getattr(entry, "__name__", "section").strip("_<>").replace("_", " ").capitalize()
    blocks = [] if found is None else sequence_of(found)
    try:
        return Section(name, *blocks)
    except ConfigurationError as error:
        raise ConfigurationError(f"the section {printable(name, 60)!r} cannot be shown: {error}") from error


@contextmanager
def _own_plots() -> Iterator[None]:
    """Forget the windows of plots that a section opened: the report keeps the plots, nobody closes the windows."""

    def open_now() -> set[int]:
        plt = sys.modules.get("matplotlib.pyplot")
        return set() if plt is None else set(plt.get_fignums())

    before = open_now()
    try:
        yield
    finally:
        for number in open_now() - before:
            sys.modules["matplotlib.pyplot"].close(number)


def _facts(material: Material, bases: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Describe what the figures stand on."""
    import opp_pandas

    context, loaded = material.context, material.loaded
    facts = [("As of", f"{context.local_as_of:%Y-%m-%d %H:%M:%S} {context.timezone or 'UTC (no zone was stated)'}")]
    if loaded is not None and loaded.report.source:
        facts.append(("Source", printable(loaded.report.origin, 200)))
    first = next((basis for basis in bases if "n_open" in basis), None)
    if first is not None:
        words = {"open": "n_open", "won": "n_won", "lost": "n_lost", "in the trash": "n_trashed",
                 "in stages without a meaning": "n_unsettled"}  # fmt: skip
        parts = [f"{first[key]:,} {word}" for word, key in words.items() if first[key] or key in ("n_open", "n_won")]
        facts.append(("Deals", f"{first['n']:,}: {', '.join(parts)}"))
    stages = context.stages.to_dict()
    known = [status for status in ("open", "won", "lost") if stages[status]]
    listed = [f"{status}: {', '.join(printable(name, 60) for name in stages[status])}" for status in known]
    guessed = " (won and lost guessed from names)" if stages["guessed"] else ""
    facts.append(("Stages", ("; ".join(listed) or "none are known") + guessed))
    facts.append(("Period", f"{material.period} is the present one"))
    since = next((basis["since"] for basis in bases if basis.get("since")), None)
    if since is not None:
        facts.append(("Compared with", f"the snapshot of {str(since)[:16].replace('T', ' ')}"))
    facts.append(("Made with", f"opp_pandas {opp_pandas.__version__}"))
    return facts


def _definitions(sections: Iterable[Section]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Define what is shown, figure by figure."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    said: set[tuple[str, str]] = set()
    for section in sections:
        for basis in map(known_basis, section.figures):
            name = str(basis.get("figure", "figure"))
            figure = FIGURES[name].heading if name in FIGURES else name
            shown, stated = section.shown, basis.get("definitions", {})
            terms = {term: (shown[term], in_words(printable(stated[term]), shown)) for term in stated if term in shown}
            # What another figure has defined in the same words is not said again.
            found.setdefault(figure, {}).update({term: pair for term, pair in terms.items() if pair not in said})
            said.update(terms.values())
    return [(figure, list(terms.values())) for figure, terms in found.items() if terms]
