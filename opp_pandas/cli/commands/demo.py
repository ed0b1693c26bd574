"""``opp-pandas demo``: the whole job on a sandbox, without an account."""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from opp_pandas.cli.registry import command, option
from opp_pandas.errors import ConfigurationError

FIRST = "01_load_and_look.ipynb"
FOLDER = "opp_pandas_demo"
_HERE = Path(__file__).parents[2]


@command(
    option("--opportunities", type=int, default=500, metavar="N", help="deals in the sandbox (default 500)"),
    option("--seed", type=int, default=0, metavar="N", help="same seed, same deals (default 0)"),
    option("--notebook", action="store_true", help=f"open {FIRST} in JupyterLab instead, from ./{FOLDER}"),
    help="show the whole job on a sandbox: load, look, edit, write back",
    description="Starts a sandbox, loads its deals, validates them, prints the forecast and the stage "
    "distribution, edits one deal, writes it back and reads it again. Needs no account and no browser.",
)
def _run(options: argparse.Namespace) -> int:
    if options.notebook:
        return _open_notebook()
    import opp_pandas as opp

    stages = opp.StageMap(won=["Closed Won"], lost=["Closed Lost"])
    with opp.sandbox(opportunities=options.opportunities, seed=options.seed) as box:
        client = box.client(timezone="America/New_York")
        _title(f"1. Load: a sandbox with {options.opportunities:,} made-up deals serves the API at {box.url}")
        df = opp.read_opportunities(client, stages=stages, on_invalid="ignore")
        print(df.opp.load_report)
        df.opp.validate()
        print("Every value satisfies the schema.")

        _title("2. Look: forecast by quarter [USD], open deals weighted with their probability")
        forecast = df.opp.forecast(freq="Q")
        columns = ["open_count", "open_amount", "weighted_amount", "won_amount", "forecast_amount", "overdue_amount"]
        print(forecast.tail(6)[columns].map(lambda value: f"{value:,.0f}").to_string())

        _title("   Stage distribution: deals by present stage, amounts in USD")
        stages_now = df.opp.stage_distribution()
        print(stages_now[["count", "amount", "weighted_amount"]].map(lambda value: f"{value:,.0f}").to_string())

        deal = _deal_to_edit(df)
        row_id = int(df["id"].loc[deal])
        shown = ["id", "name", "probability", "next_step", "close_date"]
        _title(f"3. Edit deal {row_id} with ordinary pandas code")
        print(df.loc[[deal], shown].to_string(index=False))
        df.loc[deal, "probability"] = 75
        df.loc[deal, "next_step"] = "Get the contract signed"
        df.opp.set_close_date(deal, "2027-03-31")
        print(df.opp.changes())

        _title("4. Write back: first dry, then for real")
        print(df.opp.write_back(dry_run=True))
        print(df.opp.write_back().raise_for_status())

        _title("5. Read it again: what the service says now")
        again = opp.read_opportunities(client, filter={"id": row_id}, stages=stages)
        print(again[shown].to_string(index=False))
        same = not len(again.opp.changes()) and not len(df.opp.changes())
        print("Nothing is left to write." if same else "Something is left to write.")
    return 0


def _open_notebook() -> int:
    """Copy the first notebook to where it can be changed, unless it is there, and open it."""
    # A wheel has it beside the editor, a checkout among the others.
    source = next(place for place in (_HERE / "notebook" / "demo", _HERE.parent / "notebooks") if place.is_dir())
    target = Path(FOLDER)
    (target / "images").mkdir(parents=True, exist_ok=True)
    for name in (FIRST, "images/dashboard.png"):
        if not (target / name).exists():
            shutil.copyfile(source / name, target / name)
    try:
        importlib.import_module("jupyterlab")
    except ImportError:
        install = 'python -m pip install jupyterlab "opp_pandas[notebook]"'
        raise ConfigurationError(f"JupyterLab is not installed: {install}; then open {target / FIRST}") from None
    print(f"Opening {target / FIRST}; Ctrl-C ends JupyterLab.")
    # Asked whether it should really end, it would go on where nobody answers.
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.answer_yes=True", str(target / FIRST)]
    with subprocess.Popen(command) as server:  # noqa: S603 - all of it is written here
        try:
            return server.wait()
        except KeyboardInterrupt:
            # A terminal sends it to both: JupyterLab ends its kernels first.
            return server.wait()


def _deal_to_edit(df: Any) -> Any:
    """Choose an open deal that is easy to follow: the largest one that closes next."""
    open_deals = df[~df["stage_is_closed"].fillna(True) & df["close_date"].notna() & df["amount"].notna()]
    if not len(open_deals):
        raise ConfigurationError("the sandbox has no open deal to edit; ask for more with --opportunities")
    return open_deals.sort_values("amount", ascending=False).index[0]


def _title(text: str) -> None:
    print(f"\n{text}")
