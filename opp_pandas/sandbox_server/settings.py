"""Everything about the sandbox that can be set: strictness, limits and faults.

The service's public documents leave some behaviour open, and its published
readers rely on more than the documents allow. Each such point is a switch
here; left alone, the sandbox is lenient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from opp_pandas.errors import ConfigurationError, named, printable


@dataclass
class Fault:
    """An answer that goes wrong on purpose.

    Parameters
    ----------
    status : int
        Status of the answer; 0 cuts the connection without one.
    times : int
        How many matching requests it hits.
    method, path : str or None
        Which requests: the method, and how the path ends.
    applied : bool
        Whether the request's work is done before the answer goes wrong.
    after : int
        How many matching requests pass untouched first.
    body : bytes or None
        What is sent instead of a plain "Bad Gateway".
    headers : mapping
        Headers of the answer.
    """

    status: int
    times: int = 1
    method: str | None = None
    path: str | None = None
    applied: bool = False
    after: int = 0
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ConfigurationError for a value of a wrong kind."""
        for name, hint in get_type_hints(Fault).items():
            if not _fits(getattr(self, name), hint):
                raise _misfit(Fault, name, getattr(self, name))

    def matches(self, method: str, path: str) -> bool:
        """Whether this request is meant."""
        return (self.method is None or self.method == method) and (self.path is None or path.endswith(self.path))


@dataclass
class Switches:
    """The settings of a running sandbox; each may be changed while it serves.

    This is the one list of them: the arguments of `opp_pandas.sandbox`, the options of the command line and
    what type checkers know follow from it.

    Parameters
    ----------
    require_content_type_on_get : bool
        Answer 415 to a GET without the media type, as the documents say; published readers send none.
    refuse_doubled_parameters : bool
        Answer 400 when a parameter stands twice; otherwise the last one counts.
    read_only_members : {"ignore", "refuse"}
        What a write with a read-only member (``createdAt``, ``stage`` ...) meets.
    check_probability_range : bool
        Answer 422 to a probability outside 0 to 100; the service's own schema states no bounds.
    check_custom_fields : bool
        Hold custom fields to the kinds and options of ``/types``.
    require_on_create : tuple of str
        Attributes that a create must carry; the documents name none.
    generation : {"current", "reference"}
        ``reference`` serves the reference page's attributes and relationships only, without the later ones.
    ids_as_text : bool
        Send ids as text, as JSON:API says and this service does not.
    list_trashed : bool
        Whether collections contain thrown-away rows.
    count_by_default : bool
        Whether ``meta.count`` comes without ``count=true``, as it did for older apps.
    count_truncated : bool
        Answer a count with ``0`` and ``count_truncated: true``, as the service does under load.
    latency_s : float
        Wait before each answer [s].
    index_lag_s : float or callable
        How long a new record is missing from collections [s], as where a search index follows the data;
        its own address gives it at once. A callable is asked for each record.
    rate_limit, rate_period_s : int
        Requests allowed per period, and its length [requests, s].
    two_number_rate_header : bool
        ``X-RateLimit-Remaining`` as two numbers, as once seen in the wild.
    reset_format : {"epoch", "seconds", "iso", "http"}
        How ``X-RateLimit-Reset`` and its alias ``Retry-After`` name the moment; the documents do not say.
    maintenance_until : datetime or None
        Answer 503 until then.
    bad_gateway_above : int or None
        Answer 502 to pages of more rows than this, as the service does on heavy rows.
    token_life_s, refresh_life_s : int
        How long access and refresh tokens live [s].
    mint_interval_s : int
        Shortest time between two access tokens of one app [s]; the service has 60.
    keep_old_refresh_tokens : bool
        Whether a refresh token stays good after it was used, until it expires or a hundred newer ones
        exist. A published reader refreshes with the same one for each of its streams; careful clients
        expect the old one to be dead.
    ignore_upper_bounds : bool
        Ignore the upper end of instants' ranges, as the service was seen to do.
    idle_timeout_s : float
        How long a connection may stay silent before it is cut [s]; 0: for ever.
    ignore_parameters : tuple of str
        Ignore these parameters, as a service does that does not know them.
    deliver_webhooks : bool
        Whether webhooks are told what changes.
    webhook_retry_s : float
        How long to wait before a receiver that did not answer is tried again [s].
    before_request : callable or None
        Called with method and path before each request is looked at: a test's way to act in between.
    faults : list of Fault
        Answers that go wrong; used up from the front.
    """

    require_content_type_on_get: bool = False
    refuse_doubled_parameters: bool = False
    read_only_members: Literal["ignore", "refuse"] = "ignore"
    check_probability_range: bool = True
    check_custom_fields: bool = False
    require_on_create: tuple[str, ...] = ("name",)
    generation: Literal["current", "reference"] = "current"
    ids_as_text: bool = False
    list_trashed: bool = True
    count_by_default: bool = False
    count_truncated: bool = False
    latency_s: float = 0.0
    index_lag_s: float | Callable[[], float] = 0.0
    rate_limit: int = 10_000
    rate_period_s: int = 3_600
    two_number_rate_header: bool = False
    reset_format: Literal["epoch", "seconds", "iso", "http"] = "epoch"
    maintenance_until: datetime | None = None
    bad_gateway_above: int | None = None
    token_life_s: int = 7_200
    refresh_life_s: int = 14 * 86_400
    mint_interval_s: int = 0
    keep_old_refresh_tokens: bool = True
    ignore_upper_bounds: bool = False
    idle_timeout_s: float = 60.0
    ignore_parameters: tuple[Literal["filter", "sort", "fields"], ...] = ()
    deliver_webhooks: bool = True
    webhook_retry_s: float = 1.0
    before_request: Callable[[str, str], None] | None = None
    faults: list[Fault] = field(default_factory=list)

    def __setattr__(self, name: str, value: object) -> None:
        """Take a setting.

        Raises
        ------
        ConfigurationError
            If there is no such switch, or it does not take this value.
        """
        hints = switch_types()
        if name not in hints:
            near = get_close_matches(name, hints, 1)
            hint = f"did you mean {named(near)}?" if near else f"there are {named(sorted(hints), 40)}"
            raise ConfigurationError(f"the sandbox has no switch {name!r}; {hint}")
        if not _fits(value, hints[name]):
            raise _misfit(type(self), name, value)
        super().__setattr__(name, value)

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Switches:
        """Make the settings from keyword arguments, as one sets them later."""
        made = cls()
        for name, value in given.items():
            setattr(made, name, value)
        return made

    def next_fault(self, method: str, path: str) -> Fault | None:
        """Take the fault that hits this request, if one does."""
        for fault in self.faults:
            if not fault.matches(method, path):
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
            return fault
        return None


@cache
def switch_types() -> dict[str, Any]:
    """Return the type of each switch."""
    return get_type_hints(Switches)


def words_of(hint: Any) -> tuple[Any, ...]:
    """Return the words that a switch of this type chooses from, one or several; none where it holds something else."""
    if get_origin(hint) is tuple:
        return words_of(get_args(hint)[0])
    return get_args(hint) if get_origin(hint) is Literal else ()


def _misfit(owner: type, name: str, value: object) -> ConfigurationError:
    words = words_of(get_type_hints(owner)[name])
    form = f"is one of {named(words)}" if words else f"takes {owner.__annotations__[name]}"
    more = (
        ", a moment with its zone"
        if isinstance(value, datetime)
        else ", from 0 on"
        if isinstance(value, int | float)
        else ""
    )
    return ConfigurationError(f"{name}= {form}{more}, not {printable(repr(value), 80)}")


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a switch's type; numbers are no flags, not negative, and moments have a zone."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in parts
    if kind is UnionType:
        return any(_fits(value, part) for part in parts)
    if kind in (tuple, list):
        return isinstance(value, (tuple, list) if kind is tuple else list) and all(
            _fits(item, parts[0]) for item in value
        )
    if kind is Callable:
        return callable(value)
    if kind is Mapping:
        return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)
    if hint in (int, float):
        numbers = int if hint is int else int | float
        return isinstance(value, numbers) and not isinstance(value, bool) and value >= 0
    return isinstance(value, hint) and not (isinstance(value, datetime) and value.tzinfo is None)


if TYPE_CHECKING:
    from opp_pandas.sandbox_server.switch_options import SwitchOptions as SwitchOptions
else:
    # The fields of `Switches` as keyword arguments; `python tests/accessor_stub.py` writes them down for type checkers.
    SwitchOptions = TypedDict("SwitchOptions", switch_types(), total=False)
