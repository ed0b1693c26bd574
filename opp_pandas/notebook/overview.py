"""The overview that ``df.opp`` shows: what is loaded, how the period stands, what needs attention, what comes next."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opp_pandas._html import as_written
from opp_pandas.errors import OppPandasError, printable
from opp_pandas.figures.core.basis import counted, moment_of_basis
from opp_pandas.figures.core.deals import suppress_unmapped_stages
from opp_pandas.figures.core.presentation import write_column
from opp_pandas.figures.hygiene_checks import CHECKS
from opp_pandas.frame_state import loaded_of, meaning_of

if TYPE_CHECKING:
    import pandas as pd

    from opp_pandas.accessor import OpportunityAccessor
    from opp_pandas.load_report import LoadReport

_MOST_CHECKED = 200_000
"""Rows up to which deals are checked one by one, and compared with what was loaded: an overview must not take long."""
_MOST_CHECKS = 5
_PERIOD = ("won_amount", "weighted_amount", "forecast_amount", "open_amount", "overdue_amount")


@dataclass(frozen=True)
class Overview:
    """What there is to know about a frame at a glance: sentences and one small table.

    `period` names the one that holds as_of, and the currency, "" where there is no forecast; `amounts` are what it has,
    `calls` what to call next, and what for.
    """

    loaded: list[str]
    period: str
    amounts: dict[str, str]
    attention: list[str]
    calls: dict[str, str]

    def to_html(self) -> str:
        """Write the overview as a page for a notebook."""
        head, *rest = [html.escape(line) for line in self.loaded]
        parts = [f"<p><b>{head}</b>{''.join(f'<br>{line}' for line in rest)}</p>"]
        if self.amounts:
            names = "".join(
                f'<th scope="col" style="text-align:right">{name.replace("_", " ")}</th>' for name in self.amounts
            )
            values = "".join(f'<td style="text-align:right">{value}</td>' for value in self.amounts.values())
            parts.append(
                f'<table class="dataframe"><caption style="text-align:left;color:inherit">{html.escape(self.period)}'
                f"</caption><thead><tr>{names}</tr></thead><tbody><tr>{values}</tr></tbody></table>"
            )
        if self.attention:
            items = "".join(f"<li>{html.escape(line)}</li>" for line in self.attention)
            parts.append(f"<p><b>What needs attention</b></p><ul>{items}</ul>")
        items = "".join(
            f"<li><code>{html.escape(call)}</code>: {html.escape(why)}</li>" for call, why in self.calls.items()
        )
        return as_written("".join([*parts, f"<p><b>What to call next</b></p><ul>{items}</ul>"]))


def describe(accessor: OpportunityAccessor, frame: pd.DataFrame) -> Overview:
    """Look at a frame of opportunities as somebody does who just loaded it, by the definitions of its ``.opp``.

    What cannot be computed is named among what needs attention.
    """
    attention: list[str] = []
    loaded, load = loaded_of(frame), meaning_of(frame)
    if load is None:
        return Overview(
            [f"{counted(len(frame), 'row')} without a load"],
            "",
            {},
            ["figures need to know the day and the stages: they travel with a load"],
            {
                "df.opp.attach(original)": "put the load back that a merge or a file dropped",
                "opp.adopt(df)": "take a frame of your own as opportunities",
                "opp.read_opportunities()": "load from the service",
            },
        )
    moment = load.as_of if load.timezone is None else load.as_of.tz_convert(load.timezone)
    of = "" if len(frame) == load.rows else f" of {load.rows:,}"
    deals = "opportunity" if load.rows == 1 else "opportunities"
    lines = [
        f"{len(frame):,}{of} {deals} from {printable(load.source, 200)}",
        f"as of {moment:%Y-%m-%d %H:%M}, days in {load.timezone or 'UTC (no time zone was stated)'}",
    ]
    if loaded is None:
        attention.append("edits have nothing to be compared with, as after Parquet: df.opp.attach(original) first")
    else:
        _report(loaded.report, attention)
    amounts, period = _period(accessor, attention)
    calls = {'df.opp.forecast(by="owner_name")': "won, weighted and open amounts by period and owner"}
    if len(frame) <= _MOST_CHECKED:
        _checks(accessor, attention)
        if loaded is not None and _changes(accessor, attention):
            calls["df.opp.write_back(dry_run=True)"] = "what would be sent, and what it does to the forecast"
    calls |= {
        "df.opp.hygiene()": "the deals to look at, each with its reasons",
        "df.opp.plot.forecast()": "the same as a picture; df.opp.plot. lists the others",
        "df.opp.dashboard()": "pictures that filters drive",
        **({} if loaded is None else {"df.opp.workspace()": "the number, its charts, and the deals to edit"}),
    }
    return Overview(lines, period, amounts, attention, calls)


def _report(report: LoadReport, attention: list[str]) -> None:
    """Determine what did not go well in the load."""
    if report.complete is False:
        attention.append("the load is incomplete: not every deal that the service counted is there")
    if len(report.failures):
        attention.append(f"cells that break a rule: {len(report.failures):,} (df.opp.load_report.failures)")
    if len(report.quarantined):
        attention.append(f"records set aside: {len(report.quarantined):,} (df.opp.load_report.quarantined)")


@contextmanager
def _telling(attention: list[str], what: str) -> Iterator[None]:
    """Determine what stands in the way of a part of the overview, in place of the part."""
    try:
        with suppress_unmapped_stages():
            yield
    except OppPandasError as error:
        attention.append(f"{what}: {printable(str(error), 400)}")


def _period(accessor: OpportunityAccessor, attention: list[str]) -> tuple[dict[str, str], str]:
    """Write what the present quarter has: its amounts, and its name and currency."""
    with _telling(attention, "there is no forecast"):
        table = accessor.forecast()
        basis = table.attrs["opp_basis"]
        attention += [note for note in basis["notes"] if "guessed" in note or "nobody called" in note]
        moment = moment_of_basis(basis)
        assert moment is not None  # noqa: S101 -- a forecast always names its moment
        today = moment.tz_localize(None).normalize()
        row = table[(table["period_start"] <= today) & (table["period_end"] >= today)]
        currency = f", amounts in {printable(basis['currency'], 20)}" if basis.get("currency") else ""
        if not len(row):
            return {}, f"nothing is due or won in the present quarter{currency}"
        return {name: write_column(row[name])[0] for name in _PERIOD}, f"{row.index[0]}{currency}"
    return {}, ""


def _checks(accessor: OpportunityAccessor, attention: list[str]) -> None:
    """Count the deals that checks flag, those of the most first."""
    with _telling(attention, "deals cannot be checked"):
        basis = accessor.hygiene().attrs["opp_basis"]
        meanings = {
            name: CHECKS[name].replace("stale_days", f"{basis['arguments']['stale_days']} days") for name in CHECKS
        }
        found = sorted(((n, name) for name, n in basis["counts"].items() if n), key=lambda pair: -pair[0])
        attention += [
            f"{name.replace('_', ' ')}: {counted(n, 'deal')} ({meanings[name]})" for n, name in found[:_MOST_CHECKS]
        ]


def _changes(accessor: OpportunityAccessor, attention: list[str]) -> int:
    """Count what was edited and not sent yet."""
    with _telling(attention, "edits cannot be told"):
        n = len(accessor.changes())
        if n:
            attention.append(f"not written back yet: {counted(n, 'deal')} (df.opp.changes())")
        return n
    return 0
