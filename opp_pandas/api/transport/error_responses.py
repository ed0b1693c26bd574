"""What an error status means and what to do about it, with the service's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from opp_pandas import errors
from opp_pandas.api import documents
from opp_pandas.api.transport.base_url import redacted
from opp_pandas.errors import DocumentError, ResponseError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opp_pandas.api.auth.secret import Secret
    from opp_pandas.api.transport.base_url import Origin

CLASSES: dict[int, type[ResponseError]] = {
    401: errors.AuthenticationError,
    403: errors.AccessDeniedError,
    404: errors.NotFoundError,
    409: errors.EditConflictError,
    422: errors.EditRejectedError,
    429: errors.RateLimitError,
    503: errors.UnavailableError,
}


def explain(
    status: int, found: tuple[Mapping[str, Any], ...], origin: Origin, url: str, location: str | None = None
) -> str:
    """Describe in one printable line what an error status means and what to do, with the service's own words.

    `location` is where a redirect points.
    """
    words = documents.describe_errors(found)
    said = f" ({words})" if words else ""
    path = redacted(url).removeprefix(origin.url)
    if 300 <= status < 400:
        target = printable(redacted(urljoin(url, location)), 120) if location else "elsewhere"
        return f"the service redirects to {target}, which is not followed, since the token would go along; check url="
    if status == 401:
        return f"the service does not accept the token{said}; sign in again or pass a fresh token"
    if status == 403:
        return f"the service denies access{said}{_scope_hint(found)}{_sku_hint(path)}"
    if status == 404:
        if path == "/opportunities":
            base = "; check that url= is the base of the API"
        elif path.count("/") <= 1:
            base = "; it does not offer that, or url= is not the base of the API"
        else:
            base = "; it does not exist, or this user may not see it"
        return f"the service has nothing there{said}{base}{_sku_hint(path)}"
    fixed = {
        400: "the service does not understand the request",
        409: "the service refuses the edit because of the record's present state",
        415: "the service refuses the media type; something on the way changed the Content-Type",
        422: "the service finds the values invalid",
        429: "too many requests for the service's limit",
        503: "the service is not available",
    }
    if status in fixed:
        return fixed[status] + said
    if status >= 500:
        return f"the service failed with status {status}{said}"
    return f"the service answered with status {status}, which was not expected{said}"


def _scope_hint(found: tuple[Mapping[str, Any], ...]) -> str:
    if any(error.get("id") == "unauthorizedOauthScope" for error in found):
        return "; give the app this scope, then sign in again (scopes do not add up: write does not give read)"
    return "; the user's profile or the app's scopes do not allow it"


def _sku_hint(path: str) -> str:
    if path == "/opportunities":
        return ". Opportunities also need the organisation to have the Opportunities SKU"
    return ""


def read_errors(body: bytes, token: Secret) -> tuple[dict[str, Any], ...]:
    """Return the error objects of an answer of whatever kind.

    Without the token, should the service repeat what it was sent.
    """
    try:
        found = documents.error_objects(documents.parse_json(body))
    except DocumentError:
        # Gateways answer errors with web pages; the status says enough.
        return ()

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return token.scrub(value)
        if isinstance(value, dict):
            return {clean(key): clean(member) for key, member in value.items()}
        return [clean(member) for member in value] if isinstance(value, list) else value

    return tuple(clean(error) for error in found)
