"""What a command has to say: text for people, or one JSON object for machines."""

from __future__ import annotations

import codecs
import json
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from opp_pandas.forecasting import Prediction


class Output:
    """What a command has to say: text for people, or one JSON object."""

    def __init__(self, command: str, as_json: bool) -> None:
        self.as_json = as_json
        self.answer: dict[str, Any] = {"command": command}
        self.complete: bool | None = True

    def loaded(self, frame: pd.DataFrame) -> None:
        """Remember how the load went, and tell people what it noticed, apart from the figures that a pipe takes on."""
        report = frame.opp.load_report
        self.complete = report.complete
        self.answer["load"] = {
            "source": report.source,
            "rows": report.rows,
            "complete": report.complete,
            "requests": report.requests,
            "elapsed_s": round(report.elapsed_s, 3),
            "rule_breaks": len(report.failures),
            "set_aside": len(report.quarantined),
            "notes": list(report.notes),
        }
        if not self.as_json:
            for note in report.notes:
                print(f"opp-pandas: {note}", file=sys.stderr)

    def table(self, result: pd.DataFrame) -> None:
        """Print a figure: rounded and with its basis in words, or exact with its basis as JSON."""
        import opp_pandas as opp

        if self.as_json:
            self.answer["basis"] = result.attrs["opp_basis"]
            self.answer["rows"] = _records(result)
        else:
            print(opp.show(result))

    def prediction(self, found: Prediction) -> None:
        """Print a forecast with its parts and its record."""
        basis, (low, high) = found.attrs["opp_basis"], found.interval(0.8)
        record, parts = _records(found.record)[0], found.parts
        currency = f" {basis['currency']}" if basis.get("currency") else ""
        method = f"method {found.method}: {found.why}"
        lines = [
            found.target,
            f"mean {found.mean:,.0f}{currency}, 80 % interval {low:,.0f} to {high:,.0f}",
            *(
                f"  {name:<5} {part['mean']:>15,.0f}  {part['share']:>4.0%}  {part['deals']:,.1f} deals"
                for name, part in zip(parts.index, parts.to_dict("records"), strict=True)
            ),
            method,
            f"record: {found.tested}",
        ]
        if found.is_tested:
            lines.append(
                f"  {record['windows']:.0f} windows, WAPE {record['wape']:.0%}, bias {record['bias']:+.0%}, "
                f"CRPS {record['crps']:,.0f}{currency}, coverage of 80 % {record['coverage_80']:.0%}"
            )
        self.say(
            "\n".join([*lines, *(f"- {note}" for note in basis["notes"] if note not in (found.target, method))]),
            target=found.target,
            mean=found.mean,
            low_80=low,
            high_80=high,
            parts=_records(parts),
            method=found.method,
            why=found.why,
            record=record,
            tested=found.tested,
            basis=basis,
        )

    def rows(self, table: pd.DataFrame, text: str) -> None:
        """Print a table that is no figure, with what is printed for people."""
        self.say(text, rows=_records(table))

    def say(self, text: str, **facts: Any) -> None:
        """Print a result that is no table."""
        if self.as_json:
            self.answer.update(facts)
        else:
            print(text)

    def end(self) -> None:
        """Print the one JSON object, where that was asked for."""
        if self.as_json:
            # Where a stream lacks a character, JSON's own escapes keep what a question mark would lose.
            encoding = codecs.lookup(getattr(sys.stdout, "encoding", None) or "ascii").name
            print(json.dumps(self.answer, ensure_ascii=encoding != "utf-8", indent=1))


def _records(result: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as JSON has them: missing is null, a period its name, an instant ISO 8601."""
    table = result.copy(deep=False)
    table.attrs = {}
    table = table.reset_index(drop=table.index.names == [None])
    for column in table.columns:
        if isinstance(table[column].dtype, pd.PeriodDtype):
            table[column] = table[column].astype("str")
    found: list[dict[str, Any]] = json.loads(
        table.to_json(orient="records", date_format="iso", date_unit="us", double_precision=15, default_handler=str)
    )
    return found
