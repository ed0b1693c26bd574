"""What a command is: a function, and what argparse must know of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

DONE, FAILED, MISUSED, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130
"""How a command ends: the numbers that a shell or a scheduler sees."""
Run = Callable[[argparse.Namespace], int]


Describe = Callable[[Any], object]
COMMANDS: dict[str, Describe] = {}
"""What adds each command to argparse, in the order in which they are listed."""


def option(*names: str, **settings: Any) -> Describe:
    """Return what adds an option, as argparse takes it, to a parser."""
    return lambda parser: parser.add_argument(*names, **settings)


def either(*options: Describe) -> Describe:
    """Return what adds options of which one can be given."""

    def describe(parser: Any) -> None:
        group = parser.add_mutually_exclusive_group()
        for each in options:
            each(group)

    return describe


def command(*options: Describe, **texts: str) -> Callable[[Run], Run]:
    """Let a function be the command that its module is named after."""

    def register(run: Run) -> Run:
        name = run.__module__.rpartition(".")[2]

        def add(commands: Any) -> None:
            made: argparse.ArgumentParser = commands.add_parser(name, **texts)
            for describe in options:
                describe(made)
            made.set_defaults(run=run)

        COMMANDS[name] = add
        return run

    return register
