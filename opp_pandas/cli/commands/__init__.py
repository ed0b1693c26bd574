"""The commands, one file each; every one describes itself to argparse in ``add``."""

from opp_pandas.cli.commands import (
    demo,
    forecast,
    funnel,
    journals,
    load,
    login,
    report,
    resume,
    sandbox,
    snapshot,
    undo,
)

COMMANDS = (demo, sandbox, login, load, forecast, funnel, snapshot, report, resume, undo, journals)
