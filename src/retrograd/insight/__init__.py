"""See how the gradient flows through time: exact numbers for linear recurrences, one question a file."""

from retrograd.insight.advice import Advice
from retrograd.insight.analysis import Analysis, analyse
from retrograd.insight.flow import Flow, Jacobians, flow, jacobians
from retrograd.insight.lags import LagMap, lag_map, lag_parts
from retrograd.insight.recorder.recorder import Record, Recorder
from retrograd.insight.spectrum import Spectrum, TransientGrowth, spectrum, transient_growth
from retrograd.insight.sweep import Sweep
from retrograd.insight.truncation import Truncation, truncation
from retrograd.insight.verdict import Verdict, verdict

__all__ = [
    "Advice",
    "Analysis",
    "Flow",
    "Jacobians",
    "LagMap",
    "Record",
    "Recorder",
    "Spectrum",
    "Sweep",
    "TransientGrowth",
    "Truncation",
    "Verdict",
    "analyse",
    "flow",
    "jacobians",
    "lag_map",
    "lag_parts",
    "spectrum",
    "transient_growth",
    "truncation",
    "verdict",
]
