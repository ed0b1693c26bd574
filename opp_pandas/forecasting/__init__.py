"""Forecasts that learn: what a period will bring, how sure that is, and how well it was foretold before."""

from opp_pandas.forecasting.backtesting import backtest, backtest_forecasts
from opp_pandas.forecasting.calibrating import Recalibration, calibration, recalibrate
from opp_pandas.forecasting.distribution import Bookings, bookings
from opp_pandas.forecasting.predicting import METHODS, compare, predict
from opp_pandas.forecasting.prediction import Prediction
from opp_pandas.forecasting.protocols import ClassifierForecaster, Forecaster, KnownDeals, Window, WinProbability
from opp_pandas.forecasting.scoring import amount_errors, brier, brier_skill, hubspot_accuracy, log_loss
from opp_pandas.forecasting.walk_forward import NAIVE
from opp_pandas.forecasting.win_model import RidgeLogistic, WinModel, fit_win_model

__all__ = [
    "Bookings",
    "bookings",
    "Prediction",
    "predict",
    "compare",
    "METHODS",
    "NAIVE",
    "Forecaster",
    "WinProbability",
    "KnownDeals",
    "Window",
    "ClassifierForecaster",
    "fit_win_model",
    "WinModel",
    "RidgeLogistic",
    "calibration",
    "recalibrate",
    "Recalibration",
    "backtest",
    "backtest_forecasts",
    "brier",
    "log_loss",
    "brier_skill",
    "amount_errors",
    "hubspot_accuracy",
]
