"""What goes wrong with a request, as the service words it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ErrorObject = dict[str, Any]


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - an answer rather than an error
    """A request that is answered with an error document, and with headers beside the usual ones."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def error_object(
    code: str, title: str, detail: str, pointer: str | None = None, parameter: str | None = None
) -> ErrorObject:
    """Make one error object; `pointer` leads into the sent document, `parameter` names part of the query."""
    made: ErrorObject = {"id": code, "title": title, "detail": detail}
    if pointer is not None:
        made["source"] = {"pointer": pointer}
    elif parameter is not None:
        made["source"] = {"parameter": parameter}
    return made


def _problem(status: int, code: str, title: str, detail: str, **more: Any) -> Problem:
    return Problem(status, {"errors": [error_object(code, title, detail)]}, **more)


def bad_request(detail: str) -> Problem:
    """400: the request cannot be read at all."""
    return _problem(400, "badRequest", "Bad Request", detail)


def bad_token(description: str = "The JWT token could not be decoded.") -> Problem:
    """401, in the words of the gateway, which speaks no JSON:API."""
    body = {"error": "Invalid JWT token.", "description": description}
    return Problem(401, body, {"WWW-Authenticate": "Bearer", "Content-Type": "application/json"})


def missing_scope(scope: str) -> Problem:
    """403: the token was not given this scope."""
    detail = f"Your authorization does not include the required scope '{scope}'."
    return _problem(403, "unauthorizedOauthScope", "Unauthorized OAuth Scope", detail)


def missing_include_scopes(types: Sequence[str]) -> Problem:
    """403: the token may not read what the request wants included."""
    detail = f"Your authorization does not permit you to read the following resources: {', '.join(types)}."
    return _problem(403, "unauthorizedOauthScope", "Unauthorized OAuth Scope", detail)


def not_allowed() -> Problem:
    """403: the user may not do that to this record."""
    detail = "You are not authorized to perform that request."
    return _problem(403, "unauthorizedRequest", "Unauthorized Request", detail)


def not_found(kind: str, key: object) -> Problem:
    """404: no such record."""
    return _problem(404, "resourceNotFound", "Resource Not Found", f"Could not find '{kind}' with ID '{key}'.")


def no_such_path() -> Problem:
    """404: no such address."""
    return _problem(404, "resourceNotFound", "Resource Not Found", "There is nothing at this address.")


def wrong_method(method: str, allowed: Sequence[str]) -> Problem:
    """405: the address knows other methods only."""
    words = ", ".join(sorted(allowed))
    detail = f"'{method[:20]}' is not possible here; possible are {words}."
    return _problem(405, "methodNotAllowed", "Method Not Allowed", detail, headers={"Allow": words})


def conflict(detail: str) -> Problem:
    """409: the present state of the record stands against it."""
    return _problem(409, "resourceConflict", "Resource Conflict", detail)


def not_acceptable() -> Problem:
    """406, where every JSON:API media type of ``Accept`` has parameters."""
    return _problem(406, "notAcceptable", "Not Acceptable", "Answers are application/vnd.api+json, without parameters.")


def unsupported_media_type() -> Problem:
    """415, with the service's own spelling of ``details``."""
    error = {
        "id": "unsupportedMediaType",
        "title": "Unsupported Media Type",
        "details": "Expected Content-Type header to be 'application/vnd.api+json'.",
    }
    return Problem(415, {"errors": [error]})


def invalid(errors: Sequence[ErrorObject]) -> Problem:
    """422: the sent document breaks rules, each with its own error object."""
    return Problem(422, {"errors": list(errors)})


def validation_error(detail: str, pointer: str) -> ErrorObject:
    """One broken rule of a sent document."""
    return error_object("validationError", "Validation Error", detail, pointer)


def bad_parameter(parameter: str, detail: str, code: str = "invalidParameter") -> Problem:
    """422: a query parameter that the service does not take."""
    return invalid([error_object(code, "Invalid Parameter", detail, parameter=parameter)])


def rate_limited(limit: int, again: datetime, headers: Mapping[str, str]) -> Problem:
    """429: the hour's requests are used up."""
    when = again.strftime("%Y-%m-%dT%H:%M:%S")
    detail = f"You have exceeded your permitted rate limit of {limit:,}; please try again at {when}."
    return _problem(429, "rateLimitExceeded", "Rate Limit Exceeded", detail, headers=headers)


def broken() -> Problem:
    """500: a fault of the sandbox itself; what it was stands in its log, never in the answer."""
    return _problem(500, "internalServerError", "Internal Server Error", "Something went wrong in the sandbox.")


def maintenance(again: datetime) -> Problem:
    """503: scheduled maintenance, with ``Retry-After`` as an ISO 8601 instant."""
    when = again.strftime("%Y-%m-%dT%H:%M:%S")
    detail = f"Scheduled server maintenance is under way; please try again at {when}."
    headers = {"Retry-After": f"{when}Z"}
    return _problem(503, "scheduledServerMaintenance", "Scheduled Server Maintenance", detail, headers=headers)
