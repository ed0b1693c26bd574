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
    from opp_pandas.adoption import adopt
    from opp_pandas.analytics import explain, show
    from opp_pandas.exporting import read_export
    from opp_pandas.history import History
    from opp_pandas.reading.loading import read_opportunities
    from opp_pandas.sandboxing import Sandbox, sandbox
    from opp_pandas.schema import OpportunitySchema
    from opp_pandas.service.client import Client, connect
    from opp_pandas.service.oauth import login
    from opp_pandas.service.query import NOT_NULL
    from opp_pandas.service.signing import AppSignIn
    from opp_pandas.writeback.journals import list_journals, purge_journals
    from opp_pandas.writeback.plan import ChangeSet
    from opp_pandas.writeback.recovery import apply_plan, resume, undo

__version__ = "0.1.0"

# Where each door lives: looked up when it is first used, so that importing the
# package costs little more than importing pandas.
_DOORS = {
    "adopt": "opp_pandas.adoption",
    "apply_plan": "opp_pandas.writeback.recovery",
    "resume": "opp_pandas.writeback.recovery",
    "undo": "opp_pandas.writeback.recovery",
    "list_journals": "opp_pandas.writeback.journals",
    "purge_journals": "opp_pandas.writeback.journals",
    "ChangeSet": "opp_pandas.writeback.plan",
    "explain": "opp_pandas.analytics",
    "show": "opp_pandas.analytics",
    "read_opportunities": "opp_pandas.reading.loading",
    "read_export": "opp_pandas.exporting",
    "sandbox": "opp_pandas.sandboxing",
    "Sandbox": "opp_pandas.sandboxing",
    "OpportunitySchema": "opp_pandas.schema",
    "connect": "opp_pandas.service.client",
    "Client": "opp_pandas.service.client",
    "NOT_NULL": "opp_pandas.service.query",
    "login": "opp_pandas.service.oauth",
    "AppSignIn": "opp_pandas.service.signing",
    "History": "opp_pandas.history",
}

__all__ = [
    "connect",
    "read_opportunities",
    "adopt",
    "read_export",
    "sandbox",
    "History",
    "of",
    "StageMap",
    "OpportunitySchema",
    "OpportunityAccessor",
    "Client",
    "Sandbox",
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


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'opp_pandas' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_DOORS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_DOORS})
