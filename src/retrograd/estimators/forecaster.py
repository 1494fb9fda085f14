"""The name that zips of older versions hold: :func:`sktime.base.load` imports it, and asks it for the forecaster."""

from retrograd.estimators.sktime import SktimeForecaster as Forecaster

__all__ = ["Forecaster"]
