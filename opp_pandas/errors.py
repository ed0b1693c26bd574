"""Every exception and warning of the package.

::

    OppPandasError
    +- ConfigurationError (ValueError)       an argument or setting cannot be used
    |  +- MissingExtraError (ImportError)    an optional package is not installed
    +- ServiceError                          a request failed: method, url (redacted), request_id
    |  +- NoResponseError                    time-out, refused or broken connection
    |  +- DocumentError                      the answer is not the JSON:API document expected
    |  |  +- ForeignRowsError                a read by ids brought other records
    |  +- ReadOnlyError                      a client opened with read_only=True was asked to write
    |  +- CallBudgetError                    max_calls is used up
    |  +- ResponseError                      status, errors, retry_after_s
    |     +- AuthenticationError             401
    |     +- AccessDeniedError               403
    |     +- NotFoundError                   404
    |     +- EditConflictError               409
    |     +- EditRejectedError               422
    |     +- RateLimitError                  429
    |     +- UnavailableError                503
    +- FrameError (ValueError)               the frame is not usable as opportunities
    |  +- MissingColumnError                 missing, available
    |  +- InvalidFrameError                  failure_cases
    |  +- NotLoadedError                     what was loaded no longer travels with the frame
    |  +- DuplicateRowsError                 one id or one column name stands twice
    |  +- MixedCurrencyError                 rows in several currencies and no rates
    |  +- HistoryNeededError                 the figure needs snapshots over time
    +- ConfirmationNeededError               number, reason, plan
    +- PartialWriteError                     some rows were not written; .report says which and why
    +- JournalError                          the journal of a write-back cannot be kept or read; path
    +- DamagedHistoryError                   a table kept beside a history is not as it was written

    OppPandasWarning (UserWarning)
    +- InvalidValuesWarning                  loaded values break a rule of the schema
    +- IncompleteLoadWarning                 not every row arrived
    +- UnmappedStageWarning                  deals are in stages whose outcome nobody stated

>>> try:
...     df.drop(columns="amount").opp.forecast()
... except opp.errors.OppPandasError as error:
...     type(error).__name__, error.missing
('MissingColumnError', ('amount',))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

# C0 and C1 controls, bidirectional overrides and line separators: text from
# the service must not move the cursor of a terminal or reorder a log line.
_UNPRINTABLE = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in (*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070))},
    0xFEFF: "\\ufeff",
}


def printable(text: object, limit: int = 500) -> str:
    r"""Text that is safe to print: control characters escaped, cut at `limit` characters.

    Parameters
    ----------
    text : object
        Anything; its ``str()`` is used.
    limit : int, default 500
        Longest text returned, an ellipsis included [characters].

    Returns
    -------
    str
        One line without control or bidirectional characters.

    Examples
    --------
    >>> printable("Acme\x1b[31m")
    'Acme\\x1b[31m'
    """
    raw = str(text)
    if len(raw) > limit:
        raw = raw[: limit - 1] + "…"
    return raw.translate(_UNPRINTABLE)


def named(values: Iterable[object], limit: int = 5) -> str:
    """List `values` as words for an error text: the first few quoted, the rest counted."""
    items = list(values)
    words = ", ".join(
        repr(printable(item, 80)) if isinstance(item, str) else printable(item, 80) for item in items[:limit]
    )
    return words if len(items) <= limit else f"{words} and {len(items) - limit} more"


class OppPandasError(Exception):
    """Base of every exception that this package raises on purpose."""


class ConfigurationError(OppPandasError, ValueError):
    """An argument, environment variable or file cannot be used as it is."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional package is needed and not installed.

    Parameters
    ----------
    package : str
        The package that could not be imported.
    extra : str
        The extra of this project that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(package, extra)

    def __str__(self) -> str:
        return f"this needs the package {self.package}: pip install 'opp_pandas[{self.extra}]'"


class ServiceError(OppPandasError):
    """A request to the service did not give what was asked for.

    Parameters
    ----------
    message : str
        What happened and what to do.
    method, url : str
        The request; the URL without its query, and never with a token.
    request_id : str or None
        The service's own id of the request, where it sent one.
    """

    def __init__(self, message: str, *, method: str = "", url: str = "", request_id: str | None = None) -> None:
        super().__init__(message)
        self.message, self.method, self.url, self.request_id = message, method, url, request_id

    def __str__(self) -> str:
        where = f" [{self.method} {printable(self.url, 200)}]" if self.method else ""
        return f"{self.message}{where}" + (f" (request {printable(self.request_id, 80)})" if self.request_id else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class NoResponseError(ServiceError):
    """No whole answer came: time-out, refused, reset or cut connection.

    ``sent`` says whether the request may have reached the service.
    """

    def __init__(self, message: str, *, sent: bool = True, **where: Any) -> None:
        super().__init__(message, **where)
        self.sent = sent


class DocumentError(ServiceError):
    """The answer is not the JSON:API document that was expected; ``pointer`` says where."""

    def __init__(self, message: str, *, pointer: str = "", **where: Any) -> None:
        super().__init__(message, **where)
        self.pointer = pointer


class ForeignRowsError(DocumentError):
    """Records came that were not asked for: the service ignored a filter by ids."""


class ReadOnlyError(ServiceError):
    """The client was opened with ``read_only=True`` and refuses to write."""


class CallBudgetError(ServiceError):
    """The number of requests allowed by ``max_calls`` is used up."""


class ResponseError(ServiceError):
    """The service answered with an error status.

    Parameters
    ----------
    status : int
        HTTP status.
    errors : sequence of mapping
        The JSON:API error objects (``id, title, detail, source``), as sent.
    retry_after_s : float or None
        Seconds after which the service asks to be tried again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        errors: Iterable[Mapping[str, Any]] = (),
        retry_after_s: float | None = None,
        **where: Any,
    ) -> None:
        super().__init__(message, **where)
        self.status, self.errors, self.retry_after_s = status, tuple(errors), retry_after_s


class AuthenticationError(ResponseError):
    """401: the token is missing, wrong or expired."""


class AccessDeniedError(ResponseError):
    """403: the token lacks a scope, or the user the right."""


class NotFoundError(ResponseError):
    """404: no such record, or none that this user may see."""


class EditConflictError(ResponseError):
    """409: the service refuses the edit because of the record's present state."""


class EditRejectedError(ResponseError):
    """422: the service finds the sent values invalid."""


class RateLimitError(ResponseError):
    """429: too many requests, and the wait is longer than allowed here."""


class UnavailableError(ResponseError):
    """503: maintenance, and the wait is longer than allowed here."""


class FrameError(OppPandasError, ValueError):
    """The frame cannot be used as opportunities."""


class MissingColumnError(FrameError):
    """Columns that a figure or a check needs are not in the frame.

    Parameters
    ----------
    missing : sequence of str
        The columns that are not there.
    available : sequence of str
        The columns that are.
    hint : str
        What to do about it.
    """

    def __init__(self, missing: Iterable[str], available: Iterable[object] = (), hint: str = "") -> None:
        self.missing, self.available, self.hint = tuple(missing), tuple(available), hint
        super().__init__(self.missing, self.available, hint)

    def __str__(self) -> str:
        import difflib

        by_lower = {str(column).lower(): str(column) for column in self.available}
        near = [
            by_lower[match]
            for name in self.missing
            for match in difflib.get_close_matches(str(name).lower(), by_lower, 1)
            if by_lower[match] != name
        ]
        text = f"the frame has no column {named(self.missing)}"
        text += f"; did you mean {named(near)}?" if near else "." if self.hint else ""
        return f"{text} {self.hint}" if self.hint else text


class InvalidFrameError(FrameError):
    """Values break the schema; ``failure_cases`` holds every one.

    Parameters
    ----------
    failure_cases : DataFrame, columns ``id, row, column, value, rule``
        One row per bad cell.
    """

    def __init__(self, failure_cases: pd.DataFrame) -> None:
        self.failure_cases = failure_cases
        super().__init__(failure_cases)

    def __str__(self) -> str:
        cases = self.failure_cases
        lines = [f"{len(cases)} values break the schema; .failure_cases lists them all"]
        for case in cases.head(5).to_dict("records"):
            value = printable(repr(case["value"]), 80)
            lines.append(f"  id {case['id']}, row {case['row']}: {case['column']} = {value}: {case['rule']}")
        if len(cases) > 5:
            lines.append(f"  and {len(cases) - 5} more")
        return "\n".join(lines)


class NotLoadedError(FrameError):
    """The frame carries nothing of a load, so there is nothing to compare with."""


class DuplicateRowsError(FrameError):
    """One id, or one column name, stands more than once.

    Parameters
    ----------
    message : str
        What is doubled and what to do.
    duplicates : sequence
        The doubled ids or names.
    """

    def __init__(self, message: str, duplicates: Iterable[object] = ()) -> None:
        self.message, self.duplicates = message, tuple(duplicates)
        super().__init__(message, self.duplicates)

    def __str__(self) -> str:
        return self.message


class MixedCurrencyError(FrameError):
    """Amounts are in several currencies, or some rows name none, and no rates were given.

    Parameters
    ----------
    counts : mapping of str to int
        Rows per currency; ``"(missing)"`` for rows that name none.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        super().__init__(self.counts)

    def __str__(self) -> str:
        words = [f"{printable(code, 20)}: {n} row{'' if n == 1 else 's'}" for code, n in self.counts.items()]
        more = f" and {len(words) - 10} more" if len(words) > 10 else ""
        fill = "say with currency= what the missing ones are, " if "(missing)" in self.counts else ""
        return (
            f"amounts in different currencies cannot be added ({', '.join(words[:10])}{more}); "
            f"{fill}filter to one currency or give rates="
        )


class HistoryNeededError(FrameError):
    """The figure needs snapshots over time, and one load has only the present."""


class DamagedHistoryError(OppPandasError):
    """A file of a history is damaged or gone, so what it says cannot be trusted.

    Parameters
    ----------
    location : str
        The history.
    file : str
        The file, as it is called in there.
    problem : str
        What is wrong with it.
    """

    def __init__(self, location: str, file: str, problem: str) -> None:
        self.location, self.file, self.problem = location, file, problem
        super().__init__(location, file, problem)

    def __str__(self) -> str:
        return (
            f"{printable(self.location)} is damaged: {printable(self.file)} {self.problem}. Put the file back from a "
            "copy; verify() lists every damaged file and the nights that it touches. Where there is no copy, "
            "History.repair() keeps what is left"
        )


class ConfirmationNeededError(OppPandasError):
    """The plan is large enough to ask first; nothing was sent.

    Parameters
    ----------
    number : int
        The number of rows in the plan: pass ``confirm=number`` to go ahead.
    reason : str
        Why it asks.
    plan : ChangeSet, optional
        What would be sent, where something would.
    """

    def __init__(self, number: int, reason: str, plan: Any = None) -> None:
        self.number, self.reason, self.plan = number, reason, plan
        super().__init__(number, reason, plan)

    def __str__(self) -> str:
        if self.plan is None:
            return f"{self.reason}: call again with confirm={self.number} to go ahead; nothing was done"
        return f"{self.reason}: look at .plan, then call again with confirm={self.number}; nothing was sent"


class PartialWriteError(OppPandasError):
    """Some intended changes were not written; ``report`` says which and why.

    Parameters
    ----------
    report : WriteReport
        A row per intended change.
    """

    def __init__(self, report: Any) -> None:
        self.report = report
        super().__init__(report)

    def __str__(self) -> str:
        counts = self.report.rows["status"].value_counts()
        words = ", ".join(f"{number} {status}" for status, number in counts.items())
        return f"not everything was written ({words}); .report.rows says which and why"


class JournalError(OppPandasError):
    """The journal of a write-back cannot be kept, read, or used at the same time by somebody else.

    Parameters
    ----------
    message : str
        What happened and what to do.
    path : str
        The file or folder.
    """

    def __init__(self, message: str, path: object = "") -> None:
        self.message, self.path = message, str(path)
        super().__init__(message, self.path)

    def __str__(self) -> str:
        return f"{self.message} [{printable(self.path, 300)}]" if self.path else self.message


class OppPandasWarning(UserWarning):
    """Base of every warning of this package."""


class InvalidValuesWarning(OppPandasWarning):
    """Loaded values break rules of the schema; they were kept."""


class IncompleteLoadWarning(OppPandasWarning):
    """Not every row of the service is in the frame."""


class UnmappedStageWarning(OppPandasWarning):
    """Deals are in stages that nobody called open, won or lost; figures leave them out and count them."""


def _rebuild(kind: type[ServiceError], arguments: tuple[Any, ...], state: dict[str, Any]) -> ServiceError:
    """Restore a pickled error whose constructor takes keywords."""
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(state)
    return error
