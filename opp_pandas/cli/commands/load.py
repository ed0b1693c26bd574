"""``opp-pandas load``: opportunities into a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from opp_pandas._files import write_whole
from opp_pandas.cli.registry import option
from opp_pandas.cli.source import check_folder, read_deals, reading_command
from opp_pandas.errors import ConfigurationError, named

if TYPE_CHECKING:
    from opp_pandas.cli.output import Output

_WRITERS = (".parquet", ".csv", ".xlsx")


@reading_command(
    option("-o", "--output", type=Path, required=True, metavar="FILE", help=".parquet, .csv or .xlsx"),
    option("--fields", metavar="A,B", help="only these columns; ids and updated_at always come"),
    help="load opportunities into a Parquet, CSV or Excel file",
    description="Loads opportunities, validated, into a file that pandas, DuckDB and Spark read.",
    example="opp-pandas load -o deals.parquet --where close_date=2026-10-01..2026-12-31",
)
def _run(options: argparse.Namespace, output: Output) -> None:
    path: Path = options.output
    if path.suffix.lower() not in _WRITERS:
        raise ConfigurationError(f"-o {path}: the file's extension is one of {named(_WRITERS)}")
    check_folder(path)
    frame = read_deals(options, output)
    writers: dict[str, Callable[[Path], object]] = {
        ".parquet": lambda file: write_whole(file, frame.to_parquet()),
        ".csv": frame.opp.to_csv,
        ".xlsx": frame.opp.to_excel,
    }
    writers[path.suffix.lower()](path)
    output.say(str(frame.opp.load_report) + f"\nwritten to {path}", output=str(path), columns=list(frame.columns))
