"""The accessor ``df.opp``: a table of contents over the package's functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from opp_pandas.docstrings import document
from opp_pandas.errors import FrameError
from opp_pandas.frame_state import Meaning, meaning_of, require_loaded

if TYPE_CHECKING:
    from opp_pandas.figures import FigureContext
    from opp_pandas.figures.core.figure import Figure, Plot
    from opp_pandas.load_report import LoadReport
    from opp_pandas.organisation import Organisation
    from opp_pandas.stages import StageMap, StageTable


class _Door:
    """A method that hands its frame to a function elsewhere, which is imported when it is first looked at.

    Importing pandas is slow enough; the method has the function's signature and
    documentation, without the frame, and with the definitions where the
    function takes a context.
    """

    def __init__(self, module: str, name: str, *, by_name: bool = False) -> None:
        self._module, self._function, self._by_name = f"opp_pandas.{module}", name, by_name
        """Whether the function takes the frame as ``frame=`` instead of first."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type) -> Any:
        function = getattr(import_module(self._module), self._function)
        parameters = [*inspect.signature(function).parameters.values()]
        parameters = [p for p in parameters if p.name != "frame"] if self._by_name else parameters[1:]
        takes_context = any(p.name == "context" for p in parameters)
        by_name = self._by_name

        @functools.wraps(function)
        def method(self: OpportunityAccessor, *args: Any, **options: Any) -> Any:
            if takes_context:
                options["context"] = self._context(options)
            if by_name:
                return function(*args, frame=self._frame, **options)
            return function(self._frame, *args, **options)

        del vars(method)["__wrapped__"]
        shown = [p for p in parameters if p.name != "context"]
        if takes_context:
            shown += _registry().derived(
                ("scope", *_registry().DEFINITIONS, *_registry().GIVEN), [p.name for p in shown]
            )
        self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        rest = [p for p in shown if p.kind is inspect.Parameter.VAR_KEYWORD]
        shown = [*(p for p in shown if p not in rest), *rest]
        method.__doc__ = document(function.__doc__, shown)
        vars(method)["__signature__"] = inspect.Signature([self_parameter, *shown])
        method.__name__ = self._name
        setattr(self._owner, self._name, method)
        return getattr(owner if instance is None else instance, self._name)


def _registry() -> Any:
    """Return the module that knows every figure and plot, with all of them registered."""
    import_module("opp_pandas.figures")
    import_module("opp_pandas.forecasting")
    return import_module("opp_pandas.figures.core.figure")


@functools.cache
def _method_of(figure: Figure[Any]) -> FunctionType:
    """Make the method of ``df.opp`` of a figure."""

    def method(self: OpportunityAccessor, *args: Any, **options: Any) -> Any:
        bound = figure.method_signature.bind(*args, **options)
        return self._work_out(figure, bound.arguments)

    from opp_pandas.figures.core.figure import as_method

    return as_method(method, figure.name, figure.method_signature, figure.method_doc)


@functools.cache
def _drawing_of(plot: Plot) -> FunctionType:
    """Make the method of ``df.opp.plot`` of a plot."""

    def method(self: PlotAccessor, *args: Any, **options: Any) -> Any:
        bound = plot.signature.bind(*args, **options)
        computed, shown = plot.split(bound.arguments)
        draw = import_module("opp_pandas.plotting").draw
        return draw(plot, self._accessor._work_out(plot.figure, computed), **shown)

    from opp_pandas.figures.core.figure import as_method

    return as_method(method, plot.name, plot.signature, plot.doc)


def context_of(
    frame: pd.DataFrame,
    *,
    as_of: Any = None,
    stages: StageMap | StageTable | None = None,
    timezone: str | None = None,
    **definitions: Any,
) -> FigureContext:
    """Gather what figures need beside the rows: from the load, or from the arguments that every figure takes."""
    from opp_pandas.figures.core.context import settle_context

    names = [] if "stage_name" not in frame.columns else [str(name) for name in frame["stage_name"].dropna().unique()]
    return settle_context(meaning_of(frame), names, as_of=as_of, stages=stages, timezone=timezone, **definitions)


def _require_meaning(frame: pd.DataFrame, what: str) -> Meaning:
    """Return what figures need of the load, or raise the error that says how to put the load back."""
    return meaning_of(frame) or require_loaded(frame, what).meaning


class _Listed(type):
    """Knows a method for everything that is registered, on the class too."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_") or name not in (known := cls._known()):
            raise AttributeError(f"{cls.__name__!r} has no attribute {name!r}")
        return cls._method(known[name])


class _Registered(metaclass=_Listed):
    """Has a method for everything that `_known` lists, made by `_method`."""

    _known: Callable[[], Mapping[str, Any]]
    _method: Callable[[Any], FunctionType]

    def __getattr__(self, name: str) -> Any:
        return getattr(type(self), name).__get__(self)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._known()})


@pd.api.extensions.register_dataframe_accessor("opp")
class OpportunityAccessor(_Registered):
    """Everything that can be done with a frame of opportunities.

    Parameters
    ----------
    frame : DataFrame
        Any frame: opportunities are asked for when a method needs them.

    Examples
    --------
    >>> isinstance(df.opp, opp.OpportunityAccessor), "forecast" in dir(df.opp)
    (True, True)
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        # pandas builds an accessor at every df.opp, and dir(df) builds one too: nothing else may happen here.
        self._frame = frame

    def __repr__(self) -> str:
        load = meaning_of(self._frame)
        if load is None:
            return f"<df.opp on {len(self._frame):,} rows that carry no load>"
        return f"<df.opp on {len(self._frame):,} of {load.rows:,} opportunities from {load.source}>"

    def _repr_html_(self) -> str:
        from opp_pandas.notebook.overview import describe

        return describe(self, self._frame).to_html()

    _known = staticmethod(lambda: _registry().FIGURES)
    _method = staticmethod(_method_of)

    def _context(self, options: dict[str, Any]) -> FigureContext:
        """Gather what figures need beside the rows, and take its parts out of the options of a call."""
        names = (*_registry().DEFINITIONS, *_registry().GIVEN)
        own = {name: options.pop(name) for name in names if name in options}
        if "by" in options:
            options["by"] = import_module("opp_pandas.load.custom_fields").columns_for(self._frame, options["by"])
        context = context_of(self._frame, **own)
        if options.get("history") is None:
            options.pop("scope", None)
            return context
        from dataclasses import replace

        from opp_pandas.figures.core.snapshots import resolve_scope
        from opp_pandas.load.scope import scope_of

        scope, stated = scope_of(self._frame), options.pop("scope", None)
        return replace(context, scope=scope if stated is None else resolve_scope(stated, scope, self._frame))

    def _work_out(self, figure: Figure[Any], options: dict[str, Any]) -> Any:
        """Compute a figure of the frame, in the context that travels with it."""
        options = dict(options)
        context = self._context(options)
        if figure.subject != "history":
            return figure(self._frame, context=context, **options)
        history, present = options.pop("history", None), options.pop("present", False)
        if history is None and figure.alone:
            history = self._frame
        elif isinstance(history, pd.DataFrame) and "entered_at" not in history.columns:
            # Not the entries of stages, but the deals at an earlier moment.
            history = (history, self._frame)
        elif present and history is not None:
            from opp_pandas.figures.core.snapshots import UntilNow

            options["until"] = _require_meaning(self._frame, "present=True").as_of
            history = UntilNow(history, self._frame)
        return figure(history, context=context, **options)

    # --- load ---------------------------------------------------------------

    class _Load:
        """``pd.DataFrame.opp.load`` is `read_opportunities`; on a frame there is nothing to load into."""

        def __get__(self, instance: OpportunityAccessor | None, owner: type) -> Callable[..., pd.DataFrame]:
            if instance is None:
                return cast("Callable[..., pd.DataFrame]", import_module("opp_pandas.load.read").read_opportunities)
            raise FrameError(
                "a frame cannot load itself: use opp.read_opportunities(...) for a new load, "
                "or df.opp.refresh() for what changed since"
            )

    @property
    def load_report(self) -> LoadReport:
        """How the load went: see `LoadReport`.

        Examples
        --------
        >>> df.opp.load_report.rows, df.opp.load_report.complete
        (279, True)
        """
        return require_loaded(self._frame, "load_report").report

    @property
    def stages(self) -> StageTable:
        """What each stage means: open, won or lost, in order.

        Examples
        --------
        >>> df.opp.stages.status
        array(['open', 'open', 'open', 'open', 'won', 'lost'], dtype=object)
        """
        return _require_meaning(self._frame, "stages").stages

    @property
    def organisation(self) -> Organisation | None:
        """Roles, teams and users as loaded with ``organisation=True``, else None: see `Organisation`.

        Examples
        --------
        >>> df.opp.organisation is None
        True
        """
        return _require_meaning(self._frame, "organisation").organisation

    def validate(self) -> pd.DataFrame:
        """Check every cell against `OpportunitySchema`.

        Returns
        -------
        DataFrame
            The frame itself.

        Raises
        ------
        InvalidFrameError
            With every bad cell in ``.failure_cases``.

        Examples
        --------
        >>> df.opp.validate() is df
        True
        """
        from opp_pandas.load.custom_fields import validate_with_labels

        return validate_with_labels(self._frame)

    add_touches = _Door("activity.touches", "add_touches")
    refresh = _Door("refreshing", "refresh")
    reconcile = _Door("reconciling", "reconcile")
    relabel = _Door("load.custom_fields", "relabel")

    # --- what figures stand on: the figures themselves are those that are registered ---

    dashboard = _Door("notebook.dashboards", "open_dashboard")
    report = _Door("reporting", "write_report")

    explain = _Door("figures.core.explanations", "explain", by_name=True)

    @property
    def plot(self) -> PlotAccessor:
        """The figures as pictures: ``df.opp.plot.forecast()`` and its siblings.

        Examples
        --------
        >>> ax = df.opp.plot.stage_distribution()
        >>> ax.alt_text[:60]
        'Stage distribution, as of 2026-11-02. 277 deals in 6 stages,'
        """
        return PlotAccessor(self)

    # --- files, edits, write-back --------------------------------------------

    to_csv = _Door("exporting", "to_csv")
    to_excel = _Door("exporting", "to_excel")
    add = _Door("editing", "add_rows")
    attach = _Door("editing", "attach_again")
    set_close_date = _Door("editing", "set_close_date")
    add_tag = _Door("editing", "add_tag")
    remove_tag = _Door("editing", "remove_tag")
    edit = _Door("notebook.editor", "open_editor")
    workspace = _Door("notebook.workspace", "open_workspace")
    changes = _Door("changes.diff", "find_changes")
    write_back = _Door("apply.write_back", "write_back")


class PlotAccessor(_Registered):
    """``df.opp.plot``: each method computes a figure and draws it.

    Arguments of the figure and of the drawing function are given together;
    each method returns the matplotlib Axes.
    """

    def __init__(self, accessor: OpportunityAccessor) -> None:
        self._accessor = accessor

    @staticmethod
    def _known() -> Mapping[str, Any]:
        import_module("opp_pandas.plotting")
        plots: Mapping[str, Any] = _registry().PLOTS
        return plots

    _method = staticmethod(_drawing_of)


OpportunityAccessor.load = OpportunityAccessor._Load()  # type: ignore[attr-defined]


def of(frame: pd.DataFrame) -> OpportunityAccessor:
    """Return the accessor of a frame, typed.

    Parameters
    ----------
    frame : DataFrame
        Any frame.

    Returns
    -------
    OpportunityAccessor
        The same as ``frame.opp``, which type checkers take for a column.

    Examples
    --------
    >>> opp.of(df).kpis()["open_count"].tolist() == df.opp.kpis()["open_count"].tolist()
    True
    """
    return OpportunityAccessor(frame)
