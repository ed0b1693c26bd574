"""A sales pipeline in a notebook: load opportunities, look, edit, write back.

Importing the package registers the accessor ``df.opp``.

>>> import opp_pandas as opp
>>> with opp.sandbox(opportunities=20) as box:
...     df = opp.read_opportunities(box.client())
...     print(len(df), df.opp.changes())
20 ChangeSet: nothing to write
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opp_pandas import errors
from opp_pandas.accessor import OpportunityAccessor, of
from opp_pandas.stages import StageMap

if TYPE_CHECKING:
    from opp_pandas.accessor import OpportunityFrame
    from opp_pandas.activity.read import read_activity
    from opp_pandas.activity.touches import add_touches
    from opp_pandas.adoption.adopt import adopt
    from opp_pandas.api.auth.oauth import login
    from opp_pandas.api.auth.s2s import AppSignIn
    from opp_pandas.api.client import Client, connect
    from opp_pandas.api.query import NOT_NULL
    from opp_pandas.apply.journal import list_journals, purge_journals
    from opp_pandas.apply.undo import apply_plan, resume, undo
    from opp_pandas.changes.plan import ChangeSet
    from opp_pandas.exporting import read_export
    from opp_pandas.figures import explain, show
    from opp_pandas.history import History
    from opp_pandas.load.read import read_opportunities
    from opp_pandas.sandbox_handle import Sandbox, sandbox
    from opp_pandas.scanning.scanner import Scan, scan
    from opp_pandas.schema import OpportunitySchema
else:
    # Only type checkers know of frames whose ``.opp`` is typed: at run time any DataFrame has the accessor.
    from pandas import DataFrame as OpportunityFrame

__version__ = "0.2.0"

# Where each door lives: looked up when it is first used, so that importing the
# package costs little more than importing pandas.
_DOORS = {
    "add_touches": "opp_pandas.activity.touches",
    "adopt": "opp_pandas.adoption.adopt",
    "apply_plan": "opp_pandas.apply.undo",
    "resume": "opp_pandas.apply.undo",
    "undo": "opp_pandas.apply.undo",
    "list_journals": "opp_pandas.apply.journal",
    "purge_journals": "opp_pandas.apply.journal",
    "ChangeSet": "opp_pandas.changes.plan",
    "explain": "opp_pandas.figures",
    "show": "opp_pandas.figures",
    "read_activity": "opp_pandas.activity.read",
    "read_opportunities": "opp_pandas.load.read",
    "read_export": "opp_pandas.exporting",
    "sandbox": "opp_pandas.sandbox_handle",
    "Sandbox": "opp_pandas.sandbox_handle",
    "scan": "opp_pandas.scanning.scanner",
    "Scan": "opp_pandas.scanning.scanner",
    "OpportunitySchema": "opp_pandas.schema",
    "connect": "opp_pandas.api.client",
    "Client": "opp_pandas.api.client",
    "NOT_NULL": "opp_pandas.api.query",
    "login": "opp_pandas.api.auth.oauth",
    "AppSignIn": "opp_pandas.api.auth.s2s",
    "History": "opp_pandas.history",
}

__all__ = [
    "connect",
    "read_opportunities",
    "read_activity",
    "add_touches",
    "adopt",
    "scan",
    "read_export",
    "sandbox",
    "History",
    "of",
    "StageMap",
    "OpportunitySchema",
    "OpportunityAccessor",
    "OpportunityFrame",
    "Client",
    "Sandbox",
    "Scan",
    "NOT_NULL",
    "login",
    "AppSignIn",
    "ChangeSet",
    "apply_plan",
    "resume",
    "undo",
    "list_journals",
    "purge_journals",
    "explain",
    "show",
    "errors",
    "__version__",
]


if not TYPE_CHECKING:
    # A type checker that saw this would take every misspelt name for one that is looked up here.
    def __getattr__(name: str) -> Any:
        if name not in _DOORS:
            raise AttributeError(f"module 'opp_pandas' has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(_DOORS[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_DOORS})
