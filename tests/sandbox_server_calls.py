"""What the tests of the sandbox share: a plain requests session on a running one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opp_pandas.sandbox_handle import Sandbox

MEDIA_TYPE = "application/vnd.api+json"


class Api:
    """A requests session on a sandbox, with its token and the right media type."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {box.token}"

    def call(
        self, method: str, path: str, document: Any = None, *, headers: Mapping[str, str | None] | None = None
    ) -> requests.Response:
        """Send one request; `document` is sent as JSON, bytes as they are."""
        body = document if isinstance(document, bytes | None) else json.dumps(document).encode()
        url = path if path.startswith("http") else f"{self.box.url}{path}"
        given = {"Content-Type": MEDIA_TYPE, **(headers or {})}
        return self.session.request(method, url, data=body, headers=given, timeout=60, allow_redirects=False)

    def get(self, path: str) -> Any:
        """Read a document that must come with 200."""
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str) -> dict[str, Any]:
        """Read the first error of a query that must be refused with 422."""
        answer = self.call("GET", path)
        assert answer.status_code == 422, answer.text
        return answer.json()["errors"][0]

    def rows(self, query: str = "", path: str = "/opportunities") -> list[dict[str, Any]]:
        """Read every row of a collection, following links.next."""
        found: list[dict[str, Any]] = []
        url: str | None = f"{path}?page[size]=1000&{query}"
        while url:
            page = self.get(url)
            found += page["data"]
            url = page.get("links", {}).get("next")
        return found

    def ids(self, query: str = "", path: str = "/opportunities") -> list[int]:
        """Read the ids of a collection, in the order served."""
        return [row["id"] for row in self.rows(query, path)]

    def create(self, attributes: Mapping[str, Any], **links: tuple[str, int] | None) -> dict[str, Any]:
        """Create an opportunity and give its resource object."""
        answer = self.call("POST", "/opportunities", edit("opportunity", attributes, links))
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]


def edit(
    kind: str,
    attributes: Mapping[str, Any] | None = None,
    links: Mapping[str, tuple[str, int] | None] | None = None,
    key: Any = None,
) -> dict[str, Any]:
    """Make the document of a create, or of an update with `key`."""
    data: dict[str, Any] = {"type": kind}
    if key is not None:
        data["id"] = key
    if attributes is not None:
        data["attributes"] = dict(attributes)
    if links:
        data["relationships"] = {
            name: {"data": None if link is None else {"type": link[0], "id": link[1]}} for name, link in links.items()
        }
    return {"data": data}


def opened(box: Sandbox) -> Iterator[Api]:
    """Use a sandbox for the length of a fixture."""
    with box:
        api = Api(box)
        yield api
        api.session.close()
