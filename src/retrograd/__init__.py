"""Exact gradients through time for linear recurrent networks."""

from retrograd import nn
from retrograd.backends import show_config
from retrograd.bptt import bptt
from retrograd.gradients import Gradients
from retrograd.pool import empty_cache, memory_stats
from retrograd.scan import scan
from retrograd.stream import Stream, truncation_error
from retrograd.transition import Dense, Diagonal

__all__ = [
    "Dense",
    "Diagonal",
    "Gradients",
    "Stream",
    "bptt",
    "empty_cache",
    "memory_stats",
    "nn",
    "scan",
    "show_config",
    "truncation_error",
]
