"""deltalake as an optional library: asked for by the extra's name, and its errors in plain words."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import ConfigurationError, DamagedHistoryError, MissingExtraError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator


def load_deltalake() -> Any:
    """Import deltalake, which comes with the extra ``history``."""
    try:
        import deltalake
    except ImportError as error:
        raise MissingExtraError("deltalake", "history") from error
    return deltalake


@contextmanager
def in_plain_words(table: Any, what: str) -> Iterator[None]:
    """Describe in plain words what deltalake or pyarrow could not do with a table."""
    try:
        yield
    except (ConfigurationError, DamagedHistoryError):
        raise
    except Exception as error:
        raise ConfigurationError(f"{table!r} {what}: {_one_line(error)}") from error
    except BaseException as error:
        # Compiled code that meets a log which it cannot make sense of panics, past every `except Exception`.
        if type(error).__name__ != "PanicException":
            raise
        raise ConfigurationError(f"{table!r} {what}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    """Return what a library says on one line, without the colours that it has for terminals."""
    return printable(" ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split()), 300)
