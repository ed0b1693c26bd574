"""A service with as many deals as asked for, over real HTTP: ``python tests/manydeals.py 1000000`` prints its address.

Pages are made from a few, by putting in other ids, so that the service costs
less than the load that is measured. ``sandbox 250`` behind the number: records
as the sandbox has them, every attribute and custom field, on pages of 250; else
plainer ones, a thousand on a page.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

import opp_pandas as opp
from opp_pandas.api.query import Query
from tests.benchmarks.pages import page

_STEP = 1_000
_FIRST = 10_000_000
_TEMPLATES = 4
_PREFIX = b"10000"
STAGES = ("Lead", "Meet", "Propose", "Negotiate", "Commit", "Closed Won", "Closed Lost", "Parked")


def sandbox_pages(size: int) -> list[bytes]:
    """Return pages of a sandbox."""
    with opp.sandbox(opportunities=_TEMPLATES * size, now="2026-10-20T15:00:00Z") as box, box.client() as client:
        return [found.body for found in client.walk(Query(page_size=size))]


def template(body: bytes) -> bytes:
    """Make a page with the names that it needs."""
    document = json.loads(body)
    for place, record in enumerate(document["data"]):
        record["id"] = _FIRST + place
    users = [{"type": "user", "id": key, "attributes": {"name": f"Person {key}"}} for key in range(1, 101)]
    linked = [record["relationships"]["account"]["data"] for record in document["data"]]
    # Each page has accounts of its own.
    for account in filter(None, linked):
        account["id"] = _FIRST + account["id"] % _STEP
    ids = sorted({account["id"] for account in linked if account})
    accounts = [{"type": "account", "id": key, "attributes": {"name": f"Account {key}"}} for key in ids]
    return json.dumps(
        {"data": document["data"], "included": [*users, *accounts], "links": {"next": "NEXT"}, "meta": {"count": -1}},
        separators=(",", ":"),
    ).encode()


class Handler(BaseHTTPRequestHandler):
    """Answers what a load asks; of every thousand deals some are changed meanwhile."""

    protocol_version = "HTTP/1.1"
    rows, size = 0, _STEP
    templates: tuple[bytes, ...] = ()

    def do_GET(self) -> None:
        """Send a page of deals, the stages, or, to whoever asks what was changed, a page of deals from everywhere."""
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        if url.path.endswith("/stages") or "opportunityStages" in url.path:
            data = [
                {
                    "type": "opportunityStage",
                    "id": key,
                    "attributes": {"name": name, "order": key, "isClosed": key in (6, 7)},
                }
                for key, name in enumerate(STAGES, 1)
            ]
            self.answer(json.dumps({"data": data, "links": {}}).encode())
        elif any("updatedAt" in name for name in asked):
            document = json.loads(self.templates[0])
            for place, record in enumerate(document["data"]):
                nth, number = divmod(place, max(1, self.rows // self.size))
                record["id"] = _FIRST + number * _STEP + nth
                record["attributes"]["updatedAt"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            self.answer(json.dumps({**document, "links": {}, "meta": {"count": self.size}}).encode())
        else:
            number = int(asked.get("page", ["0"])[0])
            last = (number + 1) * self.size >= self.rows
            after = b"null" if last else b'"http://%s/api/v2/opportunities?page=%d"' % (
                self.headers["Host"].encode(), number + 1
            )  # fmt: skip
            body = self.templates[number % len(self.templates)].replace(_PREFIX, b"1%04d" % number)
            self.answer(body.replace(b'"NEXT"', after).replace(b'"count":-1', b'"count":%d' % self.rows))

    def answer(self, body: bytes) -> None:
        """Send a document."""
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.api+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    Handler.rows = int(sys.argv[1])
    records, size = sys.argv[2:] or ("plain", _STEP)
    Handler.size = int(size)
    if records == "sandbox":
        bodies = sandbox_pages(Handler.size)
    else:
        bodies = [page(_FIRST + number, Handler.size) for number in range(_TEMPLATES)]
    Handler.templates = tuple(map(template, bodies))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}/api/v2\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
