"""Tables in files, as spreadsheets and other programs of any country write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas._files import read_cells, read_texts
from opp_pandas.errors import ConfigurationError, FrameError, printable
from opp_pandas.parsing.reading import MISSING_WORDS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_NUMBER = r"-?(?:0|[1-9]\d{0,14})(?:\.\d+)?"
_EITHER = r"-?[1-9]\d{0,2}\.\d{3}"


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a file of deals: text with commas, semicolons, tabs or ``|``, a workbook's first sheet, or Parquet.

    Raises
    ------
    ConfigurationError
        If there is no such file, or it cannot be read.
    MissingExtraError
        If a workbook is read without openpyxl.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        remedy = "read others with pandas, and adopt the frame"
        raise ConfigurationError(f"{file}: the file's extension is one of {', '.join(_READERS)}; {remedy}")
    try:
        table: pd.DataFrame = reader(file)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{file}: there is no such file") from error
    except FrameError as error:
        raise ConfigurationError(str(error)) from error
    except ConfigurationError:
        raise
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"{file}: the file cannot be read: {printable(error, 200)}") from error
    return table


def _read_text(path: Path) -> pd.DataFrame:
    return pd.DataFrame({name: _as_values(column) for name, column in read_texts(path).items()})


def _read_workbook(path: Path) -> pd.DataFrame:
    found = read_cells(path.read_bytes(), path)
    for (row, place), (written, _) in found.odd.items():
        # Shown as it is written, such as #N/A: where a number belongs it is refused by name.
        found.columns[place][row] = str(written)
    columns = (pd.Series(cells, dtype=None if cells else "str") for cells in found.columns)
    values = [_as_values(column) if column.dtype == "str" else column for column in columns]
    return pd.DataFrame(dict(enumerate(values))).set_axis(found.names, axis=1)


def _as_values(texts: pd.Series) -> pd.Series:
    """Return numbers and truths where the texts can be nothing else: no key as 007, no 1.250 that may be thousands."""
    known = texts[texts.notna() & ~texts.str.lower().isin(MISSING_WORDS)]
    if len(known) and known.str.fullmatch("(?i)true|false").all():
        return texts.str.lower().map({"true": True, "false": False})
    if not len(known) or not known.str.fullmatch(_NUMBER).all():
        return texts
    either = known.str.fullmatch(_EITHER)
    proven = not either.any() or known[~either].str.contains(".", regex=False).any()
    if not proven:
        return texts
    numbers = pd.to_numeric(known)
    # Whole numbers with gaps stay whole.
    has_gaps = len(known) < len(texts) and numbers.dtype == "int64"
    return (numbers.astype("Int64") if has_gaps else numbers).reindex(texts.index)


_READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".xlsx": _read_workbook,
    ".parquet": pd.read_parquet,
}
