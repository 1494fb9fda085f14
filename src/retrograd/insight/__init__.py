"""See how the gradient flows through time: exact numbers for linear recurrences, one question a file."""

from retrograd.insight.flow import Flow, Jacobians, flow, jacobians
from retrograd.insight.lags import LagMap, lag_map, lag_parts
from retrograd.insight.sweep import Sweep
from retrograd.insight.truncation import Truncation, truncation

__all__ = [
    "Flow",
    "Jacobians",
    "LagMap",
    "Sweep",
    "Truncation",
    "flow",
    "jacobians",
    "lag_map",
    "lag_parts",
    "truncation",
]
