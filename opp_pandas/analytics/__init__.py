"""Figures: pure functions from frames to frames.

Every function takes the frame first, everything else by keyword, and
``context=`` (a `FigureContext`: stages, moment, time zone, names). None touches
the network or a clock. Results are plain frames; ``.attrs["opp_basis"]`` says
what they stand on.
"""

from opp_pandas.analytics.context import FigureContext
from opp_pandas.analytics.distribution import Bookings, bookings
from opp_pandas.analytics.explanations import Explanation, explain, show
from opp_pandas.analytics.forecasts import forecast
from opp_pandas.analytics.funnels import funnel, stage_distribution
from opp_pandas.analytics.money import ExchangeRates
from opp_pandas.analytics.periods import WeekCalendar, resolve_periods
from opp_pandas.analytics.rates import kpis, shrink, velocity, wilson

__all__ = [
    "FigureContext",
    "ExchangeRates",
    "WeekCalendar",
    "Bookings",
    "Explanation",
    "bookings",
    "explain",
    "forecast",
    "funnel",
    "kpis",
    "resolve_periods",
    "show",
    "shrink",
    "stage_distribution",
    "velocity",
    "wilson",
]
