"""Files: written whole or not at all, and tables read as their cells stand."""

from __future__ import annotations

import bisect
import codecs
import contextlib
import csv
import io
import os
import secrets
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from opp_pandas.errors import ConfigurationError, FrameError, MissingExtraError, named, printable


def check_path(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> tuple[Path, str]:
    """Return the path and its ending in small letters, before any work is done.

    A ConfigurationError if the ending is none of `suffixes`, the folder is not there, or the path is a folder.
    """
    found = Path(os.fspath(path)).expanduser()
    suffix = found.suffix.lower()
    if suffix not in suffixes:
        raise ConfigurationError(
            f"{printable(found)} must end in one of {named(suffixes)}: the ending says what is made"
        )
    if found.is_dir():
        raise ConfigurationError(f"{printable(found)} is a folder; give the name of a file in it")
    if not found.parent.is_dir():
        raise ConfigurationError(f"there is no folder {printable(found.parent)}; make it first")
    return found, suffix


def decode_table(content: bytes, path: Path) -> tuple[str, str]:
    """Return the text of a table as spreadsheets of any country write it, and what stands between its cells."""
    encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise FrameError(
            f"{printable(path)} is not UTF-8 (byte {error.start:,}), so names would come back wrong; "
            "in Excel save it as 'CSV UTF-8'"
        ) from error
    # Lines may end with a carriage return alone, as Excel for Mac writes them.
    heading = io.StringIO(text, newline="").readline().rstrip("\r\n")
    return text, max(",;\t|", key=lambda mark: len(next(csv.reader([heading], delimiter=mark), [])))


_NOTHING = ["", "NULL", "null", "NaN", "nan", "<NA>"]
"""What programs write where there is nothing; "None" and "N/A" are answers that people choose as well."""


def read_texts(path: Path) -> pd.DataFrame:
    """Read a table of texts as they stand: a key as 007, an answer as "None", ``1.250`` with its point.

    A ConfigurationError if there is no such file, it is empty, or its rows do not fit its headings.
    """
    try:
        text, mark = decode_table(path.read_bytes(), path)
        with warnings.catch_warnings():
            # pandas takes cells for which there is no heading for an index, or drops them and warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(text), sep=mark, dtype="str", index_col=False, keep_default_na=False, na_values=_NOTHING
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        is_long = isinstance(error, pd.errors.ParserWarning)
        reason = "more cells than headings" if is_long else printable(str(error).rpartition("error: ")[2].strip(), 120)
        raise ConfigurationError(
            f"{printable(path)}: its rows do not fit its headings ({reason}): the first line must name the columns, "
            f"and a cell that holds {mark!r} stand in quotes"
        ) from error
    except FrameError as error:
        raise ConfigurationError(str(error)) from error
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise ConfigurationError(f"{printable(path)}: {reason}") from error
    except ValueError as error:
        raise ConfigurationError(f"{printable(path)}: the file cannot be read: {printable(error, 200)}") from error


_FORMULA = "holds a formula that was not worked out; paste it as a value"


@dataclass(frozen=True, eq=False)
class Cells:
    """What stands on a sheet below its headings, column by column; rows that are wholly empty are left out.

    `numbers` are those of the rows on the sheet. `odd` says which cells hold no value, by the place
    of row and column: what is written there, and why. They are None in `columns`.
    """

    names: list[str]
    columns: list[list[Any]]
    numbers: list[int]
    odd: dict[tuple[int, int], tuple[Any, str]]


def load_workbook(content: bytes, path: Path, *, worked_out: bool = False) -> Any:
    """Open a workbook row by row; `worked_out`: with what formulas gave in place of the formulas."""
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError("openpyxl", "report") from error
    try:
        return openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=worked_out)
    except Exception as error:  # openpyxl lets errors of zip, XML and its own through
        raise FrameError(f"{printable(path)} cannot be read as a workbook: {error}") from error


def read_cells(content: bytes, path: Path, title: str = "") -> Cells:
    """Read the sheet of this title, else the first one."""
    with contextlib.closing(load_workbook(content, path)) as book:
        sheet = book[title] if title in book.sheetnames else book.worksheets[0]
        title = sheet.title
        found = _cells_of(sheet, path)
    if any(reason == _FORMULA for _, reason in found.odd.values()):
        with contextlib.closing(load_workbook(content, path, worked_out=True)) as book:
            _fill_formulas(book[title], found)
    return found


def _cells_of(sheet: Any, path: Path) -> Cells:
    rows = sheet.iter_rows()
    names = [cell.value for cell in next(rows, ())]
    while names and names[-1] is None:
        names.pop()
    if not names or any(name is None for name in names):
        raise FrameError(f"{printable(path)}, sheet {printable(sheet.title)}: every column needs a heading in row 1")
    found = Cells([str(name) for name in names], [[] for _ in names], [], {})
    for number, row in enumerate(rows, 2):
        if all(cell.value is None for cell in row[: len(names)]):
            continue
        for place, column in enumerate(found.columns):
            cell = row[place] if place < len(row) else None
            if cell is not None and cell.data_type in ("f", "e"):
                reason = _FORMULA if cell.data_type == "f" else "is an error of the sheet"
                found.odd[len(found.numbers), place] = (cell.value, reason)
                cell = None
            column.append(None if cell is None else cell.value)
        found.numbers.append(number)
    return found


def _fill_formulas(sheet: Any, found: Cells) -> None:
    """Take what Excel worked out for the formulas that somebody typed."""
    for number, row in enumerate(sheet.iter_rows(), 1):
        at = bisect.bisect_left(found.numbers, number)
        for place, cell in enumerate(row[: len(found.names)]):
            _, reason = found.odd.get((at, place), (None, ""))
            if reason == _FORMULA and number == found.numbers[at] and cell.value is not None and cell.data_type != "e":
                found.columns[place][at] = cell.value
                del found.odd[at, place]


_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def write_whole(path: Path, content: bytes, *, private: bool = False) -> Path:
    """Write a file beside the old one and put it in its place: whatever fails, the old one stays as it was.

    ``private``: readable by its owner only.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        # Not a temporary file of the system's: those are for their owner only, and a report is to be read.
        with os.fdopen(os.open(fresh, _NEW_FILE, 0o600 if private else 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"{printable(path)} cannot be written ({reason}); is it open in another program, or the folder read-only?"
        ) from error
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return path


def owner_objection(found: os.stat_result, path: Path, *, may_read: bool = False) -> str | None:
    """Explain why a file or folder cannot be trusted with what is for its owner only; None where it can.

    ``may_read``: others may read it, as long as they cannot write.
    """
    # Windows keeps such folders to their owner by itself.
    if os.name != "posix":
        return None
    mode = stat.S_IMODE(found.st_mode)
    right = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
    if found.st_uid != os.getuid():
        return f"{printable(path)} belongs to another user, so it is not trusted"
    if mode & (0o022 if may_read else 0o077):
        what = "write" if may_read else "read"
        return f"others may {what} {printable(path)} (mode {mode:o}); run: chmod {right:o} {printable(path)}"
    return None


def sync_folder(folder: Path) -> None:
    """Make the new name of a file last; Windows has no way to, and does not need it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
