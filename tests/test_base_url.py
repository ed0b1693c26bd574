"""Links that lead elsewhere are refused before any request."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opp_pandas.api.transport.base_url import is_loopback, parse_origin, redacted
from opp_pandas.errors import DocumentError

BASE = "https://api.outreach.io/api/v2"
CURRENT = f"{BASE}/opportunities?page%5Bsize%5D=250"
ORIGIN = parse_origin(BASE)

STAYS = [
    (f"{BASE}/opportunities?page%5Bafter%5D=x%3D%3D", None),
    ("https://api.outreach.io:443/api/v2/opportunities?a=b", None),
    ("HTTPS://API.OUTREACH.IO/api/v2/opportunities", "https://API.OUTREACH.IO/api/v2/opportunities"),
    ("https:", CURRENT),
    (BASE, None),
    (f"{BASE}/", None),
    ("?page%5Bafter%5D=x", f"{BASE}/opportunities?page%5Bafter%5D=x"),
    ("opportunities?a=b", f"{BASE}/opportunities?a=b"),
    ("/api/v2/opportunities?a=b", f"{BASE}/opportunities?a=b"),
    ("//api.outreach.io/api/v2/opportunities", f"{BASE}/opportunities"),
    ("./users", f"{BASE}/users"),
    (f"{BASE}/opportunities?a=b#part", f"{BASE}/opportunities?a=b"),
    (f"{BASE}/opportunities?next=https://evil.example/", None),
    (f"{BASE}/opportunities?a=%2e%2e%2f", None),
]
LEAVES = [
    "https://evil.example/api/v2/opportunities",
    "https://api.outreach.io.evil.example/api/v2/opportunities",
    "https://evilapi.outreach.io/api/v2/opportunities",
    "https://api-outreach.io/api/v2/opportunities",
    "https://api.outreach.io@evil.example/api/v2/opportunities",
    "https://api.outreach.io:443@evil.example/api/v2/opportunities",
    "https://someone@api.outreach.io/api/v2/opportunities",
    "https://:@api.outreach.io/api/v2/opportunities",
    "http://api.outreach.io/api/v2/opportunities",
    "http://api.outreach.io:443/api/v2/opportunities",
    "https://api.outreach.io:80/api/v2/opportunities",
    "https://api.outreach.io:8443/api/v2/opportunities",
    "https://api.outreach.io:0/api/v2/opportunities",
    "https://api.outreach.io:99999/api/v2/opportunities",
    "https://api.outreach.io:x/api/v2/opportunities",
    "https://api.outreach.io./api/v2/opportunities",
    "https://\u0430pi.outreach.io/api/v2/opportunities",
    "https://api\u3002outreach.io/api/v2/opportunities",
    "https://api.outreach.io\\@evil.example/api/v2/opportunities",
    "https://api.outreach.io\\.evil.example/api/v2/opportunities",
    "https:\\\\evil.example/api/v2/opportunities",
    "https://evil.example\x00.outreach.io/",
    "https://api.outreach.io\t.evil.example/",
    "https://api.outreach.io\n/api/v2/opportunities",
    " https://api.outreach.io/api/v2/opportunities",
    "//evil.example/api/v2/opportunities",
    "///evil.example/api/v2/opportunities",
    "////evil.example/api/v2",
    "/opportunities",
    "/",
    "/api/v1/opportunities",
    "/api/v20/opportunities",
    "/api/v2/../../admin",
    "/api/v2/%2e%2e/%2e%2e/admin",
    "/api/v2/%252e%252e/%252e%252e/admin",
    "/api/v2/..%2f..%2fadmin",
    "/api/v2/..%5c..%5cadmin",
    "../../../admin",
    "file:///etc/passwd",
    "ftp://api.outreach.io/api/v2/opportunities",
    "javascript:alert(1)",
    "data:application/json,{}",
    "mailto:someone@api.outreach.io",
    "https://[",
    "https://[::1]/api/v2/opportunities",
    "https://[::1/api/v2",
    "https://127.0.0.1/api/v2/opportunities",
    "https://api.outreach.io/api/v2/opportunities?" + "x" * 40_000,
]


@pytest.mark.parametrize(("link", "expected"), STAYS)
def test_admit__takes_links_to_the_same_place(link: str, expected: str | None) -> None:
    """Absolute links come back verbatim; relative ones are resolved like in a browser."""
    assert ORIGIN.admit(link, CURRENT) == (expected or link)


@pytest.mark.parametrize("link", LEAVES)
def test_admit__refuses_links_that_leave(link: str) -> None:
    """Other hosts, look-alikes, schemes, ports, paths and tricks of the parser are refused."""
    with pytest.raises(DocumentError, match="token must not go there") as caught:
        ORIGIN.admit(link, CURRENT)
    assert len(str(caught.value)) < 500
    assert "\x00" not in str(caught.value)


def test_admit__shows_no_password() -> None:
    """The user name and password of a refused link are not repeated."""
    with pytest.raises(DocumentError) as caught:
        ORIGIN.admit("https://user:hunter2@evil.example/", CURRENT)
    assert "hunter2" not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="htps:/\\@.?#%25eapi.outreach.io[]0189", max_size=60))
def test_admit__never_leaves(link: str) -> None:
    """Whatever the text, it is refused or stays under the base."""
    try:
        found = ORIGIN.admit(link, CURRENT)
    except DocumentError:
        return
    import urllib3.util

    parts = urllib3.util.parse_url(found)
    assert (parts.scheme, parts.host, parts.port or 443, parts.auth) == ("https", "api.outreach.io", 443, None)
    assert (parts.path or "/").startswith("/api/v2")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104  # must not count as this machine
        ("127.0.0.1.example.com", False),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
        ("", False),
        ("127.1", False),
        ("0x7f000001", False),
    ],
)
def test_is_loopback__knows_this_machine(host: str, loopback: bool) -> None:
    """Only literal loopback addresses and localhost may be spoken to without TLS."""
    assert is_loopback(host) is loopback


def test_redacted__has_no_query_and_no_user() -> None:
    """Texts and logs get scheme, host and path."""
    assert redacted("https://u:p@a.example:8/x/y?filter=secret#z") == "https://a.example:8/x/y"
    assert redacted("https://[") == "(no URL)"
