"""A plugin of pytest: the sandbox without one of its resources, or with a switch that is turned in vain.

``WITHOUT=calls pytest -p without`` serves no calls; with the name of a switch, that switch keeps its default.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from werkzeug.routing import Rule

from opp_pandas.sandbox_server import application
from opp_pandas.sandbox_server.settings import Switches, switch_types

NAME = os.environ.get("WITHOUT", "")
"""Empty where this is only read, as when examples are looked for: then nothing is taken away."""
_rules = application.rules


def _rules_without() -> Iterator[Rule]:
    """Every address but those of the resource."""
    return (rule for rule in _rules() if not f"{rule.rule}/".startswith(f"{application.ROOT}/{NAME}/"))


def _read(self: Switches, name: str) -> Any:
    """Return the default of the switch, whatever it was set to."""
    return vars(Switches()).get(name) if name == NAME else object.__getattribute__(self, name)


if NAME in switch_types():
    Switches.__getattribute__ = _read  # type: ignore[method-assign]
elif NAME:
    application.rules = _rules_without
