"""The commands, one file each; every one describes itself to argparse, in this order."""

from importlib import import_module

_FIRST = ("demo", "sandbox", "login", "load", "forecast", "predict", "backtest", "funnel", "snapshot", "report")
for _name in (*_FIRST, "resume", "undo", "journals"):
    import_module(f"{__name__}.{_name}")
