"""Figures: pure functions from frames to frames.

Every function takes the frame first, everything else by keyword, and
``context=`` (a `FigureContext`: stages, moment, time zone, names). None touches
the network or a clock. Results are plain frames; ``.attrs["opp_basis"]`` says
what they stand on.
"""

import pkgutil
from importlib import import_module

from opp_pandas.figures.core.context import FigureContext
from opp_pandas.figures.core.deals import convert_amounts
from opp_pandas.figures.core.explanations import Explanation, explain
from opp_pandas.figures.core.figure import FIGURES
from opp_pandas.figures.core.money import ExchangeRates
from opp_pandas.figures.core.periods import WeekCalendar, resolve_periods
from opp_pandas.figures.core.presentation import show
from opp_pandas.figures.forecast_categories import category_forecast
from opp_pandas.figures.forecasts import forecast
from opp_pandas.figures.funnels import funnel, stage_distribution
from opp_pandas.figures.hygiene import ageing, hygiene
from opp_pandas.figures.pipeline_history import pipeline_over_time
from opp_pandas.figures.proportions import shrink, wilson
from opp_pandas.figures.quotas import gini, linearity, pacing
from opp_pandas.figures.rates import kpis, velocity, win_rates
from opp_pandas.figures.rollups import rollup
from opp_pandas.figures.scenarios import Change, commit_lands, drop_largest, scale, scenario, set_values
from opp_pandas.figures.shares import concentration
from opp_pandas.figures.slippage import flows, pushes, slippage
from opp_pandas.figures.survival import aalen_johansen, kaplan_meier
from opp_pandas.figures.time_in_stage import stage_chain, stage_spells, step_curves, time_in_stage
from opp_pandas.figures.waterfalls import waterfall, waterfall_deals

__all__ = [
    "FigureContext",
    "WeekCalendar",
    "resolve_periods",
    "forecast",
    "category_forecast",
    "funnel",
    "stage_distribution",
    "kpis",
    "win_rates",
    "wilson",
    "shrink",
    "velocity",
    "rollup",
    "pacing",
    "linearity",
    "gini",
    "scenario",
    "Change",
    "set_values",
    "scale",
    "drop_largest",
    "commit_lands",
    "hygiene",
    "ageing",
    "concentration",
    "waterfall",
    "waterfall_deals",
    "slippage",
    "pushes",
    "flows",
    "pipeline_over_time",
    "time_in_stage",
    "stage_spells",
    "step_curves",
    "stage_chain",
    "kaplan_meier",
    "aalen_johansen",
    "ExchangeRates",
    "convert_amounts",
    "Explanation",
    "explain",
    "show",
]

# A figure is there by being in a file of this folder: its name is exported like those above.
for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
globals().update({name: figure for name, figure in FIGURES.items() if name not in globals()})
