"""Where the token may go: one scheme, host, port and base path, and nowhere else.

Every URL, whoever made it, passes here before a request is built. Several
well-known clients send their token to any address in ``links.next``; this one
compares parsed parts and refuses (promises S2 and S3).
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from opp_pandas.errors import ConfigurationError, DocumentError, printable

MAX_URL = 32_768
_PORTS = {"http": 80, "https": 443}
# A backslash, blank or control character makes URL parsers disagree about the host.
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f-\x9f\\]")


@dataclass(frozen=True)
class Origin:
    """The place of the API: its port always said, its path without a slash at the end."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def root(self) -> str:
        """Scheme, host and, where it is not the usual one, port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    @property
    def url(self) -> str:
        """The base URL."""
        return self.root + self.path

    def admit(self, link: str, current: str = "") -> str:
        """Resolve a link that the document at `current` holds, and check that it stays here.

        An absolute link comes back verbatim, without fragment; one that leads elsewhere is a
        DocumentError, and no request is made.
        """
        problem = self._objection(link, current)
        if problem:
            raise DocumentError(
                f"the service sent a link that was not followed, since the token must not go there: {problem}",
                pointer="/links/next",
            )
        return _resolved(link, current or self.url)

    def _objection(self, link: str, current: str) -> str:
        if len(link) > MAX_URL:
            return f"it is {len(link):,} characters long"
        if _AMBIGUOUS.search(link):
            return "it holds a blank, a backslash or a control character"
        try:
            parts = urlsplit(_resolved(link, current or self.url))
            port = _PORTS.get(parts.scheme) if parts.port is None else parts.port
        except ValueError:
            return "it is no URL"
        host = parts.hostname or ""
        if (parts.scheme, host, port) != (self.scheme, self.host, self.port):
            shown = printable(f"{parts.scheme}://{host}:{port}", 120)
            return f"it leads to {shown}, not to {self.root}"
        if "@" in parts.netloc:
            return "it holds a user name"
        path = posixpath.normpath(unquote(unquote(parts.path)) or "/")
        if "\\" in path or (path != self.path and not path.startswith(f"{self.path}/")):
            return f"it leads out of {self.path}"
        return ""


def _resolved(link: str, current: str) -> str:
    return urljoin(current, link).partition("#")[0]


def parse_origin(url: str, *, what: str = "url") -> Origin:
    """Read and check the base URL of a service; `what` is what an error text calls it.

    No URL, one without https (but for loopback addresses), or with a user name, query or
    fragment is a ConfigurationError, which repeats no password.

    Examples
    --------
    >>> parse_origin("http://127.0.0.1:8080/api/v2/").url
    'http://127.0.0.1:8080/api/v2'
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"{what} must be text, not {type(url).__name__}")
    url = url.strip()
    parts = _split(url)
    if parts is None or not parts.hostname or parts.scheme not in _PORTS or _AMBIGUOUS.search(url):
        shown = "" if "@" in url else f": {printable(repr(url), 120)}"
        raise ConfigurationError(f"{what} is not a URL such as 'https://api.outreach.io/api/v2'{shown}")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{what} must not hold a user name or password; give the token as token=")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ConfigurationError(f"{what} is the base of the API, without ? and #")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"{what} must begin with https://, since the token goes with every request; "
            "http is for this machine only (127.0.0.1)"
        )
    path = parts.path.rstrip("/")
    if path != "" and posixpath.normpath(unquote(path)) != unquote(path):
        raise ConfigurationError(f"{what} must not hold // or .. in its path")
    return Origin(parts.scheme, parts.hostname, _PORTS[parts.scheme] if parts.port is None else parts.port, path)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("127.0.0.1.example.com")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def redacted(url: str) -> str:
    """Return a URL without its query, user name and fragment, for texts and logs."""
    parts = _split(url)
    if parts is None:
        return "(no URL)"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
