"""Plots of finished figures: each takes a table and ``ax=None`` and returns the Axes.

Nothing is computed here. Colours are those of Okabe and Ito, which people who
see colours differently can tell apart; style holds inside these functions only;
no text that comes from data is read as mathematics. Lines and words follow the
ground they stand on, light or dark; `style` chooses one for a ``with`` block. The
Axes carry in ``.alt_text`` what the picture shows, in words with numbers; the
function `alt_text` gives the same with a type, and for tables not yet drawn.

References
----------
.. [1] Okabe and Ito, Color Universal Design (2008).
"""

from opp_pandas.plotting.canvas import style
from opp_pandas.plotting.deals import plot_ageing, plot_bookings, plot_linearity
from opp_pandas.plotting.descriptions import alt_text, draw
from opp_pandas.plotting.movement import (
    plot_conversion,
    plot_flows,
    plot_funnel,
    plot_pipeline_over_time,
    plot_time_in_stage,
    plot_waterfall,
)
from opp_pandas.plotting.outlook import plot_hygiene, plot_pacing, plot_scenario
from opp_pandas.plotting.pipeline import plot_category_forecast, plot_forecast, plot_stage_distribution
from opp_pandas.plotting.prediction import plot_compare, plot_mix_weights, plot_predict, plot_track_record
from opp_pandas.plotting.reliability import plot_calibration, plot_win_model
from opp_pandas.plotting.teams import plot_concentration, plot_coverage, plot_rollup, plot_win_rates

__all__ = [
    "plot_forecast",
    "plot_category_forecast",
    "plot_funnel",
    "plot_stage_distribution",
    "plot_win_rates",
    "plot_coverage",
    "plot_rollup",
    "plot_concentration",
    "plot_bookings",
    "plot_ageing",
    "plot_linearity",
    "plot_pacing",
    "plot_scenario",
    "plot_hygiene",
    "plot_waterfall",
    "plot_conversion",
    "plot_time_in_stage",
    "plot_flows",
    "plot_pipeline_over_time",
    "plot_calibration",
    "plot_win_model",
    "plot_predict",
    "plot_compare",
    "plot_track_record",
    "plot_mix_weights",
    "alt_text",
    "draw",
    "style",
]
