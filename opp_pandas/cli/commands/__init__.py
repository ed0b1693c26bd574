"""The commands, one file each; every one describes itself to argparse in ``add``."""

from opp_pandas.cli.commands import (
    backtest,
    demo,
    forecast,
    funnel,
    journals,
    load,
    login,
    predict,
    report,
    resume,
    sandbox,
    snapshot,
    undo,
)

COMMANDS = (demo, sandbox, login, load, forecast, predict, backtest, funnel, snapshot, report, resume, undo, journals)
