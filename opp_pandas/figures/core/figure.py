"""What a figure is: one object, registered in its own file, from which everything else is derived.

From a `Figure` come the method of ``df.opp`` with its signature and help, the
plots of ``df.opp.plot``, what `explain` says and finds, headings of reports and
workbooks, the texts beside pictures, and the tests that run every figure.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, update_wrapper, wraps
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from opp_pandas.docstrings import ARGUMENTS, OF_METHODS, OVER_TIME, RAISED, RAISED_OVER_TIME, document, entries_of
from opp_pandas.errors import ConfigurationError
from opp_pandas.figures.core.basis import attach_basis, build_basis, build_history_basis
from opp_pandas.figures.core.context import DEFINITIONS, FigureContext
from opp_pandas.figures.core.deals import Deals
from opp_pandas.figures.core.presentation import as_result
from opp_pandas.figures.core.snapshots import caveats_of, contexts_of, resolve_scope
from opp_pandas.figures.core.totals import Part, combine_parts

if TYPE_CHECKING:
    from types import FunctionType

    import pandas as pd

    from opp_pandas.figures.core.basis import Facts
    from opp_pandas.figures.core.lineage import Question

R = TypeVar("R")
Gatherer = Callable[..., Part]
Finder = Callable[["Question"], tuple[Any, ...]]
GIVEN = ("as_of", "stages", "timezone")
"""What the load says and a call from ``df.opp`` may say otherwise."""

_EMPTY = inspect.Parameter.empty
_TYPES = {
    "scope": "Any",
    "freq": "Freq | None",
    "fiscal_start": "int | None",
    "fiscal_label": "FiscalLabel | None",
    "calendar": "WeekCalendar | Literal[False] | None",
    "probability": "ProbabilitySource | Chances | None",
    "category": "str | None",
    "category_names": "Mapping[str, str] | Literal[False] | None",
    "rates": "Rates | Literal[False] | None",
    "currency": "str | Literal[False] | None",
    "overdue": "Overdue | None",
    "as_of": "Any",
    "stages": "StageMap | None",
    "timezone": "str | None",
}


def derived(names: Iterable[str], taken: Iterable[str] = ()) -> list[inspect.Parameter]:
    """Return the parameters of definitions, scope and moment, as every figure shows them, but for those taken."""
    keyword, shown = inspect.Parameter.KEYWORD_ONLY, [name for name in names if name not in set(taken)]
    return [inspect.Parameter(name, keyword, default=None, annotation=_TYPES[name]) for name in shown]


@dataclass(frozen=True, eq=False)
class Plot:
    """One way to draw a figure."""

    name: str
    """The method of ``df.opp.plot``."""
    figure: Figure[Any]
    """What is drawn."""
    draw: Callable[..., Any]
    """Takes the finished result and ``ax``, gives the Axes. One that takes ``kit`` is given the room of plotting
    there: colours, axes, labels."""
    alt: Callable[..., str]
    """Says of the result, and the options of the drawing, what the picture shows."""
    preset: Mapping[str, Any]
    """Options of the figure that this plot needs."""

    @property
    def options(self) -> list[inspect.Parameter]:
        """What can be said of the drawing."""
        return [p for p in [*inspect.signature(self.draw).parameters.values()][1:] if p.name != "kit"]

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature of the method of ``df.opp.plot``: the figure's options and the drawing's."""
        own = [p for p in self.figure.method_signature.parameters.values() if p.name not in self.preset]
        names = {p.name for p in own}
        more = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in self.options if p.name not in names]
        return inspect.Signature([*own, *more], return_annotation="Axes")

    @property
    def doc(self) -> str:
        """The documentation of the method of ``df.opp.plot``."""
        lead = f"Draw `{self.figure.name}`; options of the figure and of the drawing are given together.\n\n"
        return document(lead + (inspect.getdoc(self.draw) or ""), self.options, returns="Axes")

    def split(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split options between the figure and the drawing; one that both know goes to both."""
        computing = set(self.figure.method_signature.parameters)
        drawing = {p.name for p in self.options}
        shown = {name: value for name, value in options.items() if name in drawing}
        computed = {name: value for name, value in options.items() if name in computing or name not in shown}
        return {**self.preset, **computed}, shown


class Figure(Generic[R]):
    """A figure; calling it works it out.

    Parameters
    ----------
    function : callable
        Takes the subject (the deals, or their history) and, by keyword,
        ``context`` and what is the figure's own. How time is cut, what amounts
        mean and which deals are in scope it finds in the context.
    heading : str, optional
        What it is called for readers.
    definitions : mapping of str to str
        Column, or number of the basis, to its formula in words.
    alone : bool
        Whether a figure over time takes the deals alone where there is no history.
    first : str
        The argument that may stand first, without its name; in a figure of a
        history, that comes first instead.
    gather : callable, optional
        Takes `Deals` and those of the figure's own options that it names, and
        gives a `Part`; the function takes that in place of the frame. Such a
        figure can be worked out in pieces.
    survey : callable, optional
        Gathers what must be known of all deals before any piece can be gathered;
        `gather` is then given that as ``survey``.
    arguments : str
        What arguments mean that several figures share, as entries of a docstring.
    """

    def __init__(
        self,
        function: Callable[..., R],
        *,
        heading: str | None = None,
        definitions: Mapping[str, str] | None = None,
        alone: bool = False,
        first: str = "period",
        gather: Gatherer | None = None,
        survey: Gatherer | None = None,
        arguments: str = "",
    ) -> None:
        update_wrapper(self, function)
        self.name = function.__name__
        self.function = function
        self.gather, self.survey = gather, survey
        self.heading = heading or self.name.replace("_", " ").capitalize()
        self.definitions = dict(definitions or {})
        self.find_rows: Finder | None = None
        """Finds the deals behind one of its numbers."""
        self.first = first
        self.alone = alone
        """Whether it takes the frame where no history is given."""
        parameters = [*inspect.signature(function).parameters.values()]
        if gather is not None:
            # Whoever calls the figure gives deals; the function takes what was gathered of them.
            parameters[0] = parameters[0].replace(name="frame", annotation="pd.DataFrame")
        self.subject = parameters[0].name
        self.over_time = "history" in {p.name for p in parameters}
        """Whether it asks a history."""
        self._own = [p for p in parameters[1:] if p.name != "context"]
        more = derived([*(["scope"] if self.over_time else []), *DEFINITIONS])
        optional = self.subject == "history"
        context = inspect.Parameter(
            "context",
            inspect.Parameter.KEYWORD_ONLY,
            default=None if optional else _EMPTY,
            annotation="FigureContext | None" if optional else "FigureContext",
        )
        returned = inspect.signature(function).return_annotation
        self.returned = str(returned).rpartition(".")[2]
        """What it gives, by the name of its class."""
        self.__signature__ = inspect.Signature([parameters[0], context, *self._own, *more], return_annotation=returned)
        self.arguments = entries_of(arguments)
        self._known = {**ARGUMENTS, **(OVER_TIME if optional else {}), **self.arguments}
        self._raised = RAISED_OVER_TIME if optional else RAISED
        self.__doc__ = self._document(self.__signature__, self._known)

    def __repr__(self) -> str:
        return f"<figure {self.name}{self.__signature__}>"

    def __call__(self, subject: Any, /, *, context: Any = None, **options: Any) -> R:
        """Work the figure out of deals, a history or a pair of frames, with options as the signature says."""
        lost = caveats_of(subject, options.get("history"))
        if self.gather is not None:
            context = context.with_caveats(lost) if isinstance(context, FigureContext) else context
            survey = self.partial_survey(subject, context=context, **options)
            part = self.partial(subject, context=context, survey=survey, **options)
            return self.merge([part], context=context, **options)
        stated, options = self._split(options)
        scope = options.pop("scope", None) if self.over_time else None
        frame = subject if self.subject != "history" else None

        def settled(given: Any) -> FigureContext:
            own = _with_definitions(given, stated).with_caveats(lost)
            return own if scope is None else replace(own, scope=resolve_scope(scope, own.scope, frame))

        if self.subject == "history" and context is None:
            context = contexts_of(subject, self.name)
        if isinstance(context, tuple):
            context = tuple(map(settled, context))
        elif context is not None or frame is not None:
            context = settled(context)
        return cast("R", as_result(self.function(subject, context=context, **options), self.heading))

    def _split(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split options into definitions and the figure's own."""
        refuse_unknown(self.name, options, self.__signature__.parameters)
        own = {name: value for name, value in options.items() if name not in DEFINITIONS}
        return {name: value for name, value in options.items() if name in DEFINITIONS}, own

    def _gathered(
        self, gather: Gatherer, frame: pd.DataFrame, context: FigureContext, options: Mapping[str, Any], **more: Any
    ) -> Part:
        stated, own = self._split(options)
        taken = inspect.signature(gather).parameters
        known = {name: value for name, value in {**own, **more}.items() if name in taken}
        return gather(Deals(frame, _with_definitions(context, stated)), **known)

    def partial_survey(self, frame: pd.DataFrame, /, *, context: FigureContext, **options: Any) -> Part | None:
        """Gather of a piece what must be known of all deals before `partial`; None where nothing must be."""
        return None if self.survey is None else self._gathered(self.survey, frame, context, options)

    def partial(
        self, frame: pd.DataFrame, /, *, context: FigureContext, survey: Part | None = None, **options: Any
    ) -> Part:
        """Gather what the figure needs of a piece of the deals; `survey` is that of all pieces, where there is one."""
        if self.gather is None:
            raise ConfigurationError(f"{self.name} cannot be merged from pieces: it needs to see all deals at once")
        return self._gathered(self.gather, frame, context, options, survey=survey)

    def merge(self, parts: Iterable[Part], /, *, context: FigureContext, **options: Any) -> R:
        """Work the figure out from the parts of all pieces, with the context and the options that `partial` had."""
        stated, own = self._split(options)
        result = self.function(combine_parts(parts), context=_with_definitions(context, stated), **own)
        return cast("R", as_result(result, self.heading))

    def result(
        self, table: pd.DataFrame, context: FigureContext, facts: Facts | None = None, **stated: Any
    ) -> pd.DataFrame:
        """Put on a table what it stands on: the figure's name, its formulas, and what is `stated` for its basis.

        Nobody else holds the table. A figure over time gives the context of the last moment, and no
        facts. What is stated is as `build_basis` and `build_history_basis` take it; formulas left
        out are those of the columns, and of numbers of the basis, that are there.
        """
        known = {name: words for name, words in self.definitions.items() if name in table.columns or name in stated}
        stated = {"definitions": known, **stated}
        if facts is None:
            return attach_basis(table, build_history_basis(self.name, context, **stated))
        return attach_basis(table, build_basis(self.name, context, facts, **stated))

    def rows(self, finder: Finder) -> Finder:
        """Register who finds the deals behind one of the figure's numbers."""
        self.find_rows = finder
        return finder

    def plot(self, alt: Callable[..., str], *, name: str | None = None, **preset: Any) -> Callable[[Any], Any]:
        """Register a way to draw the figure, and what it says in words."""

        def register(draw: Any) -> Any:
            plot = Plot(name or self.name, self, draw, alt, preset)
            PLOTS[plot.name] = plot
            return draw

        return register

    @property
    def _positional(self) -> tuple[str, ...]:
        return ("scenarios",) if self.subject == "history" else ("scenarios", self.first)

    @cached_property
    def method_signature(self) -> inspect.Signature:
        """The signature of the method of ``df.opp``, without self."""
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        shown: list[inspect.Parameter] = []
        if self.over_time:
            shown.append(inspect.Parameter("history", positional, default=None, annotation="Any"))
        first = [p.replace(kind=positional) for p in self._own if p.name in self._positional]
        own = [p for p in self._own if p.name not in (*self._positional, "history")]
        if self.subject == "history":
            own.append(inspect.Parameter("present", inspect.Parameter.KEYWORD_ONLY, default=False, annotation="bool"))
        more = derived([*(["scope"] if self.over_time else []), *DEFINITIONS, *GIVEN])
        return inspect.Signature([*first, *shown, *own, *more], return_annotation=self.__signature__.return_annotation)

    @cached_property
    def method_doc(self) -> str:
        """The documentation of the method of ``df.opp``."""
        # What is given is no pair of frames here: the second of them is the one that the method is called on.
        known = {**self._known, **(OF_METHODS if self.subject == "history" else {}), **self.arguments}
        return self._document(self.method_signature, known)

    def _document(self, signature: inspect.Signature, known: Mapping[str, str]) -> str:
        parameters = signature.parameters.values()
        return document(self.function.__doc__, parameters, known, self._raised, defined=self.definitions)


def _with_definitions(context: Any, stated: Mapping[str, Any]) -> FigureContext:
    if not isinstance(context, FigureContext):
        raise ConfigurationError("context must be a FigureContext: stages, as_of, timezone")
    return context.with_definitions(**stated)


def takes_definitions(function: Callable[..., R]) -> Callable[..., R]:
    """Let a function that is no figure take every definition by name.

    One that has a ``context`` finds them in it; one that has ``**definitions``
    is given those that were stated. Its signature and documentation name each.
    """
    parameters = [*inspect.signature(function).parameters.values()]
    in_context = any(p.name == "context" for p in parameters)
    own = [p for p in parameters if p.name != "definitions"]
    shown = sorted([*own, *derived(DEFINITIONS, [p.name for p in own])], key=lambda p: p.kind)
    known = [p.name for p in shown]
    is_open = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in shown)

    @wraps(function)
    def settle(*args: Any, **options: Any) -> R:
        if not is_open:
            refuse_unknown(function.__name__, options, known)
        stated = {name: options.pop(name) for name in DEFINITIONS if name in options}
        if in_context:
            options["context"] = options["context"].with_definitions(**stated)
        else:
            options |= {name: value for name, value in stated.items() if value is not None}
        return function(*args, **options)

    vars(settle)["__signature__"] = inspect.signature(function).replace(parameters=shown)
    settle.__doc__ = document(function.__doc__, shown)
    return settle


def as_method(function: Callable[..., Any], name: str, signature: inspect.Signature, doc: str) -> FunctionType:
    """Let a function be the method of a figure or a plot: with its name, its help, and its signature after self."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    vars(function)["__signature__"] = signature.replace(parameters=[own, *signature.parameters.values()])
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return cast("FunctionType", function)


def refuse_unknown(name: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise if an option is none of those that are known, and say which was perhaps meant."""
    known = list(known)
    unknown = [option for option in options if option not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known[1:])}"
        raise TypeError(f"{name}() got an unexpected keyword argument {unknown[0]!r}; {hint}")


FIGURES: dict[str, Figure[Any]] = {}
"""Every figure, by name."""
PLOTS: dict[str, Plot] = {}
"""Every plot, by the name of its method of ``df.opp.plot``."""


def figure(**settings: Any) -> Callable[[Callable[..., R]], Figure[R]]:
    """Register a function as a figure; see `Figure` for its settings."""

    def register(function: Callable[..., R]) -> Figure[R]:
        made = FIGURES[function.__name__] = Figure(function, **settings)
        return made

    return register
