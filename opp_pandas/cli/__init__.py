"""The command line: the same functions for a shell, a scheduler, or somebody who has no notebook at hand."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from opp_pandas.cli import commands as _commands  # noqa: F401 -- each of them adds itself
from opp_pandas.cli.registry import COMMANDS, FAILED, INTERRUPTED, MISUSED
from opp_pandas.errors import ConfigurationError, MissingColumnError, OppPandasError, printable

__all__ = ["main"]

_EXITS = "exit codes: 0 done, 1 failed, 2 misused, 3 done, but not every deal could be loaded, 130 interrupted"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on some words, those after the program's name if left out; gives the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A console that lacks a character shows a question mark instead of stopping.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        options = _parser().parse_args(arguments)
        code = int(options.run(options))
        # None where whoever started the program closed it, as some schedulers do.
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except OppPandasError as error:
        print(f"opp-pandas: {error}", file=sys.stderr)
        # A load brings every column that a figure needs; one that is missing was misspelt in an argument.
        return MISUSED if isinstance(error, ConfigurationError | MissingColumnError) else FAILED
    except EOFError:
        print("opp-pandas: a question was asked, and nobody was there to answer it", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has.
        _drop_output()
        return FAILED
    except OSError as error:
        # The answer cannot be kept where it goes, as on a full disk.
        print(f"opp-pandas: {printable(error)}", file=sys.stderr)
        _drop_output()
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _drop_output() -> None:
    """Drop what Python still holds for standard output: it would complain when it closes."""
    # Closed, or no file at all, it holds nothing.
    with contextlib.suppress(AttributeError, OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    import opp_pandas

    parser = argparse.ArgumentParser(
        prog="opp-pandas",
        description="A sales pipeline in a notebook: load opportunities, look, edit, write back.",
        epilog=_EXITS,
    )
    parser.add_argument("--version", action="version", version=f"opp-pandas {opp_pandas.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in COMMANDS.values():
        add(commands)
    return parser
