"""The command line: demo, sandbox, login, and what becomes of interrupted writes."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opp_pandas.errors import ConfigurationError, OppPandasError

if TYPE_CHECKING:
    from opp_pandas.writeback.report import WriteReport

FAILED, MISUSED = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: the words after the program's name.

    Returns
    -------
    int
        0 done, 1 failed, 2 misused.
    """
    for stream in (sys.stdout, sys.stderr):
        # A console that lacks a character shows a question mark instead of stopping.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except OppPandasError as error:
        print(f"opp-pandas: {error}", file=sys.stderr)
        return MISUSED if isinstance(error, ConfigurationError) else FAILED
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    import opp_pandas

    parser = argparse.ArgumentParser(
        prog="opp-pandas", description="A sales pipeline in a notebook: load opportunities, look, edit, write back."
    )
    parser.add_argument("--version", action="version", version=f"opp-pandas {opp_pandas.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser(
        "demo",
        help="show the whole job on a sandbox: load, look, edit, write back",
        description="Starts a sandbox, loads its deals, validates them, prints the forecast and the stage "
        "distribution, edits one deal, writes it back and reads it again. Needs no account and no browser.",
    )
    demo.add_argument("--opportunities", type=int, default=500, metavar="N", help="deals in the sandbox (default 500)")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same deals (default 0)")
    demo.set_defaults(run=_demo)

    serve = commands.add_parser(
        "sandbox",
        help="serve the Opportunity API from this machine until stopped",
        description="Serves the API with made-up deals on a loopback address. The first line printed is the base "
        "URL, the second the bearer token. Ctrl-C stops it.",
    )
    serve.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=0, help="port; 0 takes a free one (default)")
    serve.add_argument("--db", type=Path, metavar="FILE", help="keep the records in this file (default: in memory)")
    serve.add_argument("--opportunities", type=int, default=500, metavar="N", help="deals to make (default 500)")
    serve.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same deals (default 0)")
    token = serve.add_mutually_exclusive_group()
    token.add_argument("--token", metavar="T", help="the bearer token (default: a random one)")
    token.add_argument("--token-file", type=Path, metavar="F", help="read the bearer token from this file")
    serve.set_defaults(run=_sandbox)

    login = commands.add_parser(
        "login",
        help="sign in through the browser and keep the sign-in",
        description="Opens the service's sign-in page, waits for the browser to come back and keeps the sign-in in a "
        "file that only its owner can read; opp.connect() finds it. The app's secret is read from "
        "OPP_PANDAS_CLIENT_SECRET, or asked for; it is never an argument, where other users could see it.",
    )
    login.add_argument("--url", help="base URL of the API (default: OPP_PANDAS_URL, else the Outreach API)")
    login.add_argument("--client-id", help="the app's id (default: OPP_PANDAS_CLIENT_ID)")
    login.add_argument("--redirect-uri", help="as registered with the app (default http://127.0.0.1:8917/callback)")
    login.add_argument("--reading-only", action="store_true", help="ask for no right to write")
    login.add_argument("--no-browser", action="store_true", help="print the address and ask where the browser ended")
    login.add_argument("--forget", action="store_true", help="delete the kept sign-in instead")
    login.set_defaults(run=_login)

    resume = commands.add_parser(
        "resume",
        help="finish a write-back that was interrupted",
        description="Settles what was sent and never answered, then sends the rest, from the journal of the plan.",
    )
    resume.set_defaults(run=_resume)
    undo = commands.add_parser(
        "undo",
        help="put the old values back where ours still stand",
        description="Takes the newest plan back, or the one whose journal is named, with the same conflict check.",
    )
    undo.add_argument("--dry-run", action="store_true", help="show what would be sent")
    undo.add_argument("--confirm", type=int, metavar="N", help="number of rows, to confirm a large plan")
    undo.add_argument("--allow-delete", action="store_true", help="delete the deals that the plan created")
    undo.set_defaults(run=_undo)
    for part in (resume, undo):
        part.add_argument("--journal", type=Path, metavar="PATH", help="the plan's journal, or the folder of journals")
        part.add_argument("--url", help="base URL of the API (default: OPP_PANDAS_URL, else the Outreach API)")

    journals = commands.add_parser(
        "journals",
        help="list or remove the journals of write-backs",
        description="Journals hold old and new values of customers' deals, readable by their owner only. "
        "They are kept until removed here.",
    )
    journals.add_argument("--folder", type=Path, help="default: OPP_PANDAS_JOURNAL, else the user's folder for state")
    journals.add_argument("--purge-days", type=float, metavar="D", help="remove finished ones older than D days")
    journals.set_defaults(run=_journals)
    return parser


def _demo(options: argparse.Namespace) -> int:
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


def _deal_to_edit(df: Any) -> Any:
    """Choose an open deal that is easy to follow: the largest one that closes next."""
    open_deals = df[~df["stage_is_closed"].fillna(True) & df["close_date"].notna() & df["amount"].notna()]
    if not len(open_deals):
        raise ConfigurationError("the sandbox has no open deal to edit; ask for more with --opportunities")
    return open_deals.sort_values("amount", ascending=False).index[0]


def _title(text: str) -> None:
    print(f"\n{text}")


def _sandbox(options: argparse.Namespace) -> int:
    from opp_pandas.sandboxing import sandbox

    token = options.token
    if options.token_file is not None:
        try:
            token = options.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"--token-file cannot be read: {error.strerror}") from error
    made = sandbox(
        options.opportunities,
        options.seed,
        options.db,
        host=options.host,
        port=options.port,
        token=token,
    )
    stopped = threading.Event()
    # A service manager ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with made as box:
        print(box.url)
        print(box.token, flush=True)
        try:
            while not stopped.wait(0.5):
                pass
        except KeyboardInterrupt:
            stopped.set()
    return 0


def _login(options: argparse.Namespace) -> int:
    from opp_pandas.service import oauth
    from opp_pandas.service.client import OUTREACH_URL
    from opp_pandas.service.tokenstore import TokenStore

    url = options.url or os.environ.get("OPP_PANDAS_URL") or OUTREACH_URL
    store = TokenStore(url)
    if options.forget:
        had_one = store.exists()
        store.forget()
        print(f"signed out of {url}" if had_one else f"there was no sign-in at {url}")
        return 0
    client_id = options.client_id or os.environ.get("OPP_PANDAS_CLIENT_ID")
    if not client_id:
        raise ConfigurationError("say which app: --client-id, or OPP_PANDAS_CLIENT_ID")
    secret = os.environ.get("OPP_PANDAS_CLIENT_SECRET") or getpass.getpass("the app's secret: ")
    oauth.login(
        url,
        client_id=client_id,
        client_secret=secret,
        scopes=oauth.READING_SCOPES if options.reading_only else oauth.SCOPES,
        redirect_uri=options.redirect_uri or oauth.REDIRECT_URI,
        show=print if options.no_browser else webbrowser.open,
        ask=input if options.no_browser else None,
        store=store,
    )
    print(f"signed in at {url}; opp.connect() uses it from now on")
    return 0


def _resume(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    return _told(opp.resume(opp.connect(options.url), options.journal))


def _undo(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    return _told(
        opp.undo(
            opp.connect(options.url),
            options.journal,
            dry_run=options.dry_run,
            allow_delete=options.allow_delete,
            confirm=options.confirm,
        )
    )


def _told(report: WriteReport) -> int:
    """Print a report; everything written is 0, anything left is 1."""
    print(report)
    fine = {"written", "adjusted", "unchanged", "planned" if report.dry_run else "written"}
    return 0 if set(report.counts()) <= fine else FAILED


def _journals(options: argparse.Namespace) -> int:
    import opp_pandas as opp

    if options.purge_days is not None:
        removed = opp.purge_journals(options.folder, days=options.purge_days)
        print(f"{len(removed)} journals removed")
        return 0
    listed = opp.list_journals(options.folder)
    print(listed.to_string(index=False) if len(listed) else "there are no journals")
    return 0


if __name__ == "__main__":
    sys.exit(main())
