"""The accessor ``df.opp``: a table of contents over the package's functions."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pandas as pd

from opp_pandas.errors import FrameError, NotLoadedError
from opp_pandas.frame_state import Loaded, LoadReport, loaded_of, require_loaded
from opp_pandas.instants import parse_end
from opp_pandas.stages import StageMap, StageTable, resolve_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from opp_pandas import editing, exporting, figures, refreshing, reporting
    from opp_pandas.apply import write_back
    from opp_pandas.apply.report import WriteReport
    from opp_pandas.changes import changeset, diff
    from opp_pandas.figures import FigureContext
    from opp_pandas.figures.core import snapshots
    from opp_pandas.load import custom_fields, read
    from opp_pandas.notebook import dashboards, editor
else:

    class _Later:
        """A module of the package, imported when something of it is first used: importing pandas is slow enough."""

        def __init__(self, name: str) -> None:
            self._name = f"opp_pandas.{name}"

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module(self._name), name)

    figures, snapshots = _Later("figures"), _Later("figures.core.snapshots")
    editing, exporting, refreshing, reporting = map(_Later, ("editing", "exporting", "refreshing", "reporting"))
    dashboards, editor = _Later("notebook.dashboards"), _Later("notebook.editor")
    custom_fields, read = _Later("load.custom_fields"), _Later("load.read")
    diff, write_back = _Later("changes.diff"), _Later("apply.write_back")

_Method = TypeVar("_Method", bound=Callable[..., Any])

# What a figure needs beside the rows travels with the load; these arguments overrule it.
_GIVEN = ("as_of", "stages", "timezone")
_HISTORY = """

    On a frame, ``history`` is a History, or an earlier frame to compare this one
    with. ``present=True`` takes this frame as it is now, unsaved edits included,
    for the last moment, in place of `until`."""


def _shows(function: Callable[[], Callable[..., Any]], *, figure: bool = False) -> Callable[[_Method], _Method]:
    """Give a method the signature and the documentation of the function that it hands its frame to."""

    def decorate(method: _Method) -> _Method:
        return cast("_Method", _Shown(method, function, figure=figure))

    return decorate


class _Shown:
    """A method until somebody looks at it: then it is documented, and takes this place in its class."""

    def __init__(self, method: Callable[..., Any], function: Callable[[], Callable[..., Any]], *, figure: bool) -> None:
        self._method, self._function, self._figure = method, function, figure

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type) -> Any:
        setattr(self._owner, self._name, _documented(self._method, self._function(), figure=self._figure))
        return getattr(owner if instance is None else instance, self._name)


def _documented(method: Any, function: Callable[..., Any], *, figure: bool) -> Any:
    shown = {p.name: p for p in inspect.signature(method).parameters.values()}
    own = [shown[name] for name in ("self", "history", "present") if name in shown]
    parameters = [*inspect.signature(function).parameters.values()][1:]
    parameters = [p for p in parameters if p.name not in ("context", "history")]
    if figure:
        given = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in _GIVEN]
        rest = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
        parameters = [*(p for p in parameters if p not in rest), *given, *rest]
    method.__signature__ = inspect.Signature([*own, *parameters])
    # The examples call the function, so they stay with it.
    text = (function.__doc__ or "").split("\n    Examples\n    --------")[0]
    summary, body = text.split("\n", 1) if "\n" in text else (text, "")
    method.__doc__ = f"{summary}{_HISTORY}\n{body}" if "present" in shown else text
    return method


def context_of(
    frame: pd.DataFrame,
    *,
    as_of: Any = None,
    stages: StageMap | StageTable | None = None,
    timezone: str | None = None,
) -> FigureContext:
    """Gather what figures need beside the rows: from the load, or from the arguments.

    Parameters
    ----------
    frame : DataFrame
        Opportunities.
    as_of : str, date or Timestamp, optional
        Another moment than that of the load; a day means its end in the zone.
    stages : StageMap, optional
        Another meaning of the stages than that of the load.
    timezone : str, optional
        Another zone than that of the load.

    Raises
    ------
    NotLoadedError
        If neither the frame nor the arguments say the moment.
    """
    loaded = loaded_of(frame)
    zone = timezone if timezone is not None else (loaded.timezone if loaded else None)
    if as_of is not None:
        moment = parse_end(as_of, zone)
    elif loaded is not None:
        moment = loaded.as_of
    else:
        raise NotLoadedError(
            "this frame does not say of which day it speaks: give as_of='2026-09-30' (and stages=StageMap(...)), "
            "or bring the load back with df.opp.attach(original)"
        )
    return figures.FigureContext(
        stages=_stage_table(frame, loaded, stages),
        as_of=moment,
        timezone=zone,
        lookups=loaded.lookups if loaded else {},
        currency=loaded.currency if loaded else None,
    )


def _stage_table(frame: pd.DataFrame, loaded: Loaded | None, stages: StageMap | StageTable | None) -> StageTable:
    if isinstance(stages, StageTable):
        return stages
    if stages is None and loaded is not None:
        return loaded.stages
    lookup = loaded.lookups.get("opportunityStage") if loaded else None
    names = [] if "stage_name" not in frame.columns else [str(name) for name in frame["stage_name"].dropna().unique()]
    return resolve_stages(stages, lookup, names)


@pd.api.extensions.register_dataframe_accessor("opp")
class OpportunityAccessor:
    """Everything that can be done with a frame of opportunities.

    Parameters
    ----------
    frame : DataFrame
        Any frame: opportunities are asked for when a method needs them.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        # pandas builds an accessor at every df.opp, and dir(df) builds one too: nothing else may happen here.
        self._frame = frame

    def __repr__(self) -> str:
        loaded = loaded_of(self._frame)
        if loaded is None:
            return f"<df.opp on {len(self._frame):,} rows that carry no load>"
        return f"<df.opp on {len(self._frame):,} of {len(loaded.baseline):,} opportunities from {loaded.report.source}>"

    def _context(self, options: dict[str, Any]) -> FigureContext:
        own = {name: options.pop(name) for name in _GIVEN if name in options}
        if "by" in options:
            options["by"] = custom_fields.columns_for(self._frame, options["by"])
        return context_of(self._frame, **own)

    def _compared(self, history: Any, present: bool, options: dict[str, Any]) -> Any:
        """Give what a figure compares: a history, one that ends with this frame, or an earlier frame and this one."""
        if isinstance(history, pd.DataFrame):
            return history, self._frame
        if present and history is not None:
            options["until"] = require_loaded(self._frame, "present=True").as_of
            return snapshots.UntilNow(history, self._frame)
        return history

    # --- load ---------------------------------------------------------------

    class _Load:
        """``pd.DataFrame.opp.load`` is `read_opportunities`; on a frame there is nothing to load into."""

        def __get__(self, instance: OpportunityAccessor | None, owner: type) -> Callable[..., pd.DataFrame]:
            if instance is None:
                return read.read_opportunities
            raise FrameError(
                "a frame cannot load itself: use opp.read_opportunities(...) for a new load, "
                "or df.opp.refresh() for what changed since"
            )

    @property
    def load_report(self) -> LoadReport:
        """How the load went: see `LoadReport`."""
        return require_loaded(self._frame, "load_report").report

    @property
    def stages(self) -> StageTable:
        """What each stage means: open, won or lost, in order."""
        return require_loaded(self._frame, "stages").stages

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
        """
        return custom_fields.validate_with_labels(self._frame)

    @_shows(lambda: refreshing.refresh)
    def refresh(self, client: Any = None, **options: Any) -> pd.DataFrame:
        return refreshing.refresh(self._frame, client, **options)

    @_shows(lambda: refreshing.reconcile)
    def reconcile(self, client: Any = None, **options: Any) -> refreshing.Reconciliation:
        return refreshing.reconcile(self._frame, client, **options)

    @_shows(lambda: custom_fields.relabel)
    def relabel(self, client: Any = None, *, convert: bool = False) -> pd.DataFrame:
        return custom_fields.relabel(self._frame, client, convert=convert)

    # --- figures ------------------------------------------------------------

    @_shows(lambda: figures.forecast, figure=True)
    def forecast(self, **options: Any) -> pd.DataFrame:
        return figures.forecast(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.category_forecast, figure=True)
    def category_forecast(self, **options: Any) -> pd.DataFrame:
        return figures.category_forecast(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.funnel, figure=True)
    def funnel(self, history: Any = None, **options: Any) -> pd.DataFrame:
        return figures.funnel(self._frame, history=history, context=self._context(options), **options)

    @_shows(lambda: figures.stage_distribution, figure=True)
    def stage_distribution(self, **options: Any) -> pd.DataFrame:
        return figures.stage_distribution(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.kpis, figure=True)
    def kpis(self, **options: Any) -> pd.DataFrame:
        return figures.kpis(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.win_rates, figure=True)
    def win_rates(self, **options: Any) -> pd.DataFrame:
        return figures.win_rates(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.rollup, figure=True)
    def rollup(self, by: Any = "owner_name", **options: Any) -> pd.DataFrame:
        by = custom_fields.columns_for(self._frame, by)
        return figures.rollup(self._frame, by=by, context=self._context(options), **options)

    @_shows(lambda: figures.pacing, figure=True)
    def pacing(self, **options: Any) -> pd.DataFrame:
        return figures.pacing(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.linearity, figure=True)
    def linearity(self, **options: Any) -> pd.DataFrame:
        return figures.linearity(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.bookings, figure=True)
    def bookings(self, **options: Any) -> figures.Bookings:
        return figures.bookings(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.scenario, figure=True)
    def scenario(self, scenarios: Any, **options: Any) -> pd.DataFrame:
        return figures.scenario(self._frame, scenarios=scenarios, context=self._context(options), **options)

    @_shows(lambda: figures.hygiene, figure=True)
    def hygiene(self, **options: Any) -> pd.DataFrame:
        return figures.hygiene(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.ageing, figure=True)
    def ageing(self, **options: Any) -> pd.DataFrame:
        return figures.ageing(self._frame, context=self._context(options), **options)

    @_shows(lambda: figures.concentration, figure=True)
    def concentration(self, **options: Any) -> pd.DataFrame:
        return figures.concentration(self._frame, context=self._context(options), **options)

    # --- figures over time: they need a history ------------------------------

    @_shows(lambda: figures.waterfall, figure=True)
    def waterfall(self, history: Any = None, *, present: bool = False, **options: Any) -> pd.DataFrame:
        source = self._compared(history, present, options)
        return figures.waterfall(source, context=self._context(options), **options)

    @_shows(lambda: figures.waterfall_deals, figure=True)
    def waterfall_deals(self, history: Any = None, *, present: bool = False, **options: Any) -> pd.DataFrame:
        source = self._compared(history, present, options)
        return figures.waterfall_deals(source, context=self._context(options), **options)

    @_shows(lambda: figures.slippage, figure=True)
    def slippage(self, history: Any = None, *, present: bool = False, **options: Any) -> pd.DataFrame:
        source = self._compared(history, present, options)
        return figures.slippage(source, context=self._context(options), **options)

    @_shows(lambda: figures.flows, figure=True)
    def flows(self, history: Any = None, *, present: bool = False, **options: Any) -> pd.DataFrame:
        source = self._compared(history, present, options)
        return figures.flows(source, context=self._context(options), **options)

    @_shows(lambda: figures.pushes, figure=True)
    def pushes(self, history: Any = None, **options: Any) -> pd.DataFrame:
        return figures.pushes(self._frame, history=history, context=self._context(options), **options)

    @_shows(lambda: figures.pipeline_over_time, figure=True)
    def pipeline_over_time(self, history: Any = None, **options: Any) -> pd.DataFrame:
        return figures.pipeline_over_time(history, context=self._context(options), **options)

    @_shows(lambda: figures.calibration, figure=True)
    def calibration(self, history: Any = None, *, present: bool = False, **options: Any) -> pd.DataFrame:
        source = self._compared(history, present, options)
        return figures.calibration(source, context=self._context(options), **options)

    @_shows(lambda: figures.backtest, figure=True)
    def backtest(self, history: Any = None, **options: Any) -> pd.DataFrame:
        return figures.backtest(history, context=self._context(options), **options)

    @_shows(lambda: figures.stage_spells, figure=True)
    def stage_spells(self, history: Any = None, **options: Any) -> pd.DataFrame:
        return figures.stage_spells(history, context=self._context(options), **options)

    @_shows(lambda: figures.time_in_stage, figure=True)
    def time_in_stage(self, history: Any = None, **options: Any) -> pd.DataFrame:
        return figures.time_in_stage(history, context=self._context(options), **options)

    @_shows(lambda: figures.step_curves, figure=True)
    def step_curves(self, history: Any = None, **options: Any) -> pd.DataFrame:
        return figures.step_curves(history, context=self._context(options), **options)

    @_shows(lambda: figures.stage_chain, figure=True)
    def stage_chain(self, history: Any = None, **options: Any) -> pd.DataFrame:
        return figures.stage_chain(history, context=self._context(options), **options)

    # --- what figures stand on ------------------------------------------------

    def explain(self, result: Any, **options: Any) -> Any:
        """Say what a figure stands on, or give the rows and the formula behind one number; see `opp_pandas.explain`."""
        return figures.explain(result, frame=self._frame, context=self._context(options), **options)

    @property
    def plot(self) -> PlotAccessor:
        """The figures as pictures: ``df.opp.plot.forecast()`` and its siblings."""
        return PlotAccessor(self)

    @_shows(lambda: dashboards.open_dashboard, figure=True)
    def dashboard(self, history: Any = None, quota: Any = None, **options: Any) -> dashboards.Dashboard:
        return dashboards.open_dashboard(self._frame, history, quota, context=self._context(options), **options)

    @_shows(lambda: reporting.write_report, figure=True)
    def report(self, path: str | os.PathLike[str], **options: Any) -> Path:
        return reporting.write_report(self._frame, path, context=self._context(options), **options)

    @_shows(lambda: exporting.to_csv)
    def to_csv(self, path: str | os.PathLike[str], *, timezone: str | None = None) -> Path:
        return exporting.to_csv(self._frame, path, timezone=timezone)

    @_shows(lambda: exporting.to_excel)
    def to_excel(self, path: str | os.PathLike[str], *, timezone: str | None = None) -> Path:
        return exporting.to_excel(self._frame, path, timezone=timezone)

    # --- edit ---------------------------------------------------------------

    @_shows(lambda: editing.add_rows)
    def add(self, rows: Any) -> pd.DataFrame:
        return editing.add_rows(self._frame, rows)

    @_shows(lambda: editing.attach_again)
    def attach(self, original: pd.DataFrame) -> pd.DataFrame:
        return editing.attach_again(self._frame, original)

    @_shows(lambda: editing.set_close_date)
    def set_close_date(self, mask: Any, day: Any, *, timezone: str | None = None) -> None:
        editing.set_close_date(self._frame, mask, day, timezone=timezone)

    def add_tag(self, mask: Any, tag: str) -> None:
        """Add a tag to the chosen deals, in place; see `opp_pandas.editing.change_tag`."""
        editing.change_tag(self._frame, mask, tag, present=True)

    def remove_tag(self, mask: Any, tag: str) -> None:
        """Remove a tag from the chosen deals, in place; see `opp_pandas.editing.change_tag`."""
        editing.change_tag(self._frame, mask, tag, present=False)

    @_shows(lambda: editor.open_editor)
    def edit(self, client: Any = None, **options: Any) -> editor.Editor:
        return editor.open_editor(self._frame, client, **options)

    # --- write back ---------------------------------------------------------

    @_shows(lambda: diff.find_changes)
    def changes(self, **options: Any) -> changeset.ChangeSet:
        return diff.find_changes(self._frame, **options)

    @_shows(lambda: write_back.write_back)
    def write_back(self, client: Any = None, **options: Any) -> WriteReport:
        return write_back.write_back(self._frame, client, **options)


class PlotAccessor:
    """``df.opp.plot``: each method computes a figure and draws it.

    Arguments of the figure and of the drawing function are given together;
    each method returns the matplotlib Axes.
    """

    def __init__(self, accessor: OpportunityAccessor) -> None:
        self._accessor = accessor

    def _draw(self, figure: Callable[..., Any], draw: str, options: dict[str, Any]) -> Axes:
        """Compute and draw; an option that both know goes to both."""
        from opp_pandas import plotting

        function = getattr(plotting, draw)
        computing = set(inspect.signature(figure).parameters)
        drawing = [*inspect.signature(function).parameters][1:]
        shown = {name: options[name] for name in drawing if name in options}
        kept = {name: value for name, value in options.items() if name in computing or name not in shown}
        axes: Axes = function(figure(**kept), **shown)
        return axes

    def forecast(self, **options: Any) -> Axes:
        """Draw won, weighted and open amounts per period; see `plotting.plot_forecast`."""
        return self._draw(self._accessor.forecast, "plot_forecast", options)

    def category_forecast(self, **options: Any) -> Axes:
        """Draw the forecast by category; see `plotting.plot_category_forecast`."""
        return self._draw(self._accessor.category_forecast, "plot_category_forecast", options)

    def funnel(self, **options: Any) -> Axes:
        """Draw the funnel, without a history the stage distribution; see `plotting.plot_funnel`."""
        return self._draw(self._accessor.funnel, "plot_funnel", options)

    def stage_distribution(self, **options: Any) -> Axes:
        """Draw count and amount per stage; see `plotting.plot_stage_distribution`."""
        return self._draw(self._accessor.stage_distribution, "plot_stage_distribution", options)

    def win_rates(self, **options: Any) -> Axes:
        """Draw win rates with their intervals; see `plotting.plot_win_rates`."""
        return self._draw(self._accessor.win_rates, "plot_win_rates", options)

    def coverage(self, **options: Any) -> Axes:
        """Draw how far the pipeline covers the quota; see `plotting.plot_coverage`."""
        return self._draw(self._accessor.kpis, "plot_coverage", options)

    def rollup(self, **options: Any) -> Axes:
        """Draw a roll-up, a tree of managers included; see `plotting.plot_rollup`."""
        return self._draw(self._accessor.rollup, "plot_rollup", options)

    def bookings(self, **options: Any) -> Axes:
        """Draw the distribution of bookings; see `plotting.plot_bookings`."""
        return self._draw(self._accessor.bookings, "plot_bookings", options)

    def ageing(self, **options: Any) -> Axes:
        """Draw age against amount of the open deals; see `plotting.plot_ageing`."""
        return self._draw(self._accessor.ageing, "plot_ageing", options)

    def linearity(self, **options: Any) -> Axes:
        """Draw the share of bookings by week of the period; see `plotting.plot_linearity`."""
        return self._draw(self._accessor.linearity, "plot_linearity", options)

    def waterfall(self, history: Any = None, **options: Any) -> Axes:
        """Draw how the open pipeline came from what it was to what it is; see `plotting.plot_waterfall`."""
        return self._draw(self._accessor.waterfall, "plot_waterfall", {"history": history, **options})

    def calibration(self, history: Any = None, **options: Any) -> Axes:
        """Draw how often deals were won against their probability; see `plotting.plot_calibration`."""
        return self._draw(self._accessor.calibration, "plot_calibration", {"history": history, **options})

    def conversion(self, history: Any = None, **options: Any) -> Axes:
        """Draw how many deals reached each stage, and what became of the rest; see `plotting.plot_conversion`."""
        return self._draw(
            self._accessor.funnel, "plot_conversion", {"history": history, "step_conversion": True, **options}
        )

    def time_in_stage(self, history: Any = None, **options: Any) -> Axes:
        """Draw how long deals stay in each stage; see `plotting.plot_time_in_stage`."""
        return self._draw(self._accessor.time_in_stage, "plot_time_in_stage", {"history": history, **options})

    def flows(self, history: Any = None, **options: Any) -> Axes:
        """Draw from which stage to which the deals went; see `plotting.plot_flows`."""
        return self._draw(self._accessor.flows, "plot_flows", {"history": history, **options})

    def pipeline_over_time(self, history: Any = None, **options: Any) -> Axes:
        """Draw the open pipeline at many moments; see `plotting.plot_pipeline_over_time`."""
        return self._draw(self._accessor.pipeline_over_time, "plot_pipeline_over_time", {"history": history, **options})

    def concentration(self, **options: Any) -> Axes:
        """Draw who holds how much of the pipeline; see `plotting.plot_concentration`."""
        return self._draw(self._accessor.concentration, "plot_concentration", options)

    def pacing(self, **options: Any) -> Axes:
        """Draw what was won by this day of the period, beside earlier ones; see `plotting.plot_pacing`."""
        return self._draw(self._accessor.pacing, "plot_pacing", options)

    def scenario(self, scenarios: Any, **options: Any) -> Axes:
        """Draw the forecast after stated changes beside the one as it is; see `plotting.plot_scenario`."""
        return self._draw(self._accessor.scenario, "plot_scenario", {"scenarios": scenarios, **options})

    def hygiene(self, **options: Any) -> Axes:
        """Draw how many deals each check found; see `plotting.plot_hygiene`."""
        return self._draw(self._accessor.hygiene, "plot_hygiene", options)


OpportunityAccessor.load = OpportunityAccessor._Load()  # type: ignore[attr-defined]


def of(frame: pd.DataFrame) -> OpportunityAccessor:
    """Give the accessor of a frame, typed.

    Parameters
    ----------
    frame : DataFrame
        Any frame.

    Returns
    -------
    OpportunityAccessor
        The same as ``frame.opp``, which type checkers take for a column.
    """
    return OpportunityAccessor(frame)
