"""Exact gradients through time for linear recurrent networks."""

from typing import TYPE_CHECKING, Any

from retrograd import nn
from retrograd.backends import show_config
from retrograd.bptt import bptt
from retrograd.gradients import Gradients
from retrograd.pool import empty_cache, memory_stats
from retrograd.scan import scan
from retrograd.stream import Stream, truncation_error
from retrograd.transition import Dense, Diagonal

if TYPE_CHECKING:
    from retrograd import estimators, insight

__all__ = [
    "Dense",
    "Diagonal",
    "Gradients",
    "Stream",
    "bptt",
    "empty_cache",
    "estimators",
    "insight",
    "memory_stats",
    "nn",
    "scan",
    "show_config",
    "truncation_error",
]


def __getattr__(name: str) -> Any:
    # They stand on more than the operator needs: imported when they are named.
    if name in ("estimators", "insight"):
        import importlib

        return importlib.import_module(f"retrograd.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
