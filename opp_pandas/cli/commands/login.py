"""``opp-pandas login``: sign in through the browser."""

from __future__ import annotations

import argparse
import getpass
import os
import webbrowser

from opp_pandas.cli.registry import command, option
from opp_pandas.errors import ConfigurationError


@command(
    option("--url", help="base URL of the API (default: OPP_PANDAS_URL, else the Outreach API)"),
    option("--client-id", help="the app's id (default: OPP_PANDAS_CLIENT_ID)"),
    option("--redirect-uri", help="as registered with the app (default http://127.0.0.1:8917/callback)"),
    option("--reading-only", action="store_true", help="ask for no right to write"),
    option("--no-browser", action="store_true", help="print the address and ask where the browser ended"),
    option("--forget", action="store_true", help="delete the kept sign-in instead"),
    help="sign in through the browser and keep the sign-in",
    description="Opens the service's sign-in page, waits for the browser to come back and keeps the sign-in in a "
    "file that only its owner can read; opp.connect() finds it. The app's secret is read from "
    "OPP_PANDAS_CLIENT_SECRET, or asked for; it is never an argument, where other users could see it.",
    epilog="example: opp-pandas login --client-id YOUR_APP --reading-only",
)
def _run(options: argparse.Namespace) -> int:
    from opp_pandas.api.auth import oauth
    from opp_pandas.api.auth.token_store import TokenStore
    from opp_pandas.api.client import OUTREACH_URL

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
        show=print if options.no_browser else _open,
        ask=input if options.no_browser else None,
        store=store,
    )
    print(f"signed in at {url}; opp.connect() uses it from now on")
    return 0


def _open(page: str) -> bool:
    """Open the sign-in page, and say where it is: some browser commands do nothing and are content."""
    print(f"the sign-in page opens in your browser; if it does not, open it yourself: {page}", flush=True)
    return webbrowser.open(page)
