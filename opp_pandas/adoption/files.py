"""Tables in files, as spreadsheets and other programs of any country write them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from opp_pandas._files import decode_table
from opp_pandas.errors import ConfigurationError, MissingExtraError, printable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_MISSING = ["", "NA", "N/A", "n/a", "<NA>", "NaN", "nan", "None", "NULL", "null"]
"""No error of a spreadsheet, such as #N/A: those are refused by name."""
_NUMBER = r"-?(?:0|[1-9]\d{0,14})(?:\.\d+)?"
_EITHER = r"-?[1-9]\d{0,2}\.\d{3}"


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a file of deals: text with commas, semicolons, tabs or ``|``, a workbook's first sheet, or Parquet.

    Raises
    ------
    ConfigurationError
        If there is no such file, or it cannot be read.
    FrameError
        If a text is neither UTF-8 nor UTF-16 with its mark.
    MissingExtraError
        If a workbook is read without openpyxl.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise ConfigurationError(f"{file}: the file's extension is one of {', '.join(_READERS)}")
    try:
        table: pd.DataFrame = reader(file)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{file}: there is no such file") from error
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"{file}: the file cannot be read: {printable(error, 200)}") from error
    except ImportError as error:
        raise MissingExtraError("openpyxl", "report") from error
    return table


def _read_text(path: Path) -> pd.DataFrame:
    text, mark = decode_table(path.read_bytes(), path)
    table = pd.read_csv(io.StringIO(text), sep=mark, dtype="str", keep_default_na=False, na_values=_MISSING)
    return pd.DataFrame({name: _as_values(column) for name, column in table.items()})


def _as_values(texts: pd.Series) -> pd.Series:
    """Return numbers and truths where the texts can be nothing else: no key as 007, no 1.250 that may be thousands."""
    known = texts.dropna()
    if len(known) and known.str.fullmatch("(?i)true|false").all():
        return texts.str.lower().map({"true": True, "false": False})
    if not len(known) or not known.str.fullmatch(_NUMBER).all():
        return texts
    either = known.str.fullmatch(_EITHER)
    proven = not either.any() or known[~either].str.contains(".", regex=False).any()
    return pd.to_numeric(texts) if proven else texts


_READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".xlsx": pd.read_excel,
    ".parquet": pd.read_parquet,
}
