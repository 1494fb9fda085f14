"""Exact gradients through time for linear recurrent networks."""

from typing import TYPE_CHECKING, Any

from retrograd import distributed, nn
from retrograd.backends.pool import empty_cache, memory_stats
from retrograd.core.backend import package_version, show_config
from retrograd.core.scan import scan
from retrograd.core.transition import Dense, Diagonal
from retrograd.rnn.bptt import bptt
from retrograd.rnn.chunked import bptt_chunked
from retrograd.rnn.gradients import Gradients, GradientTotals
from retrograd.rnn.stream import Stream
from retrograd.rnn.truncation import truncation_error

if TYPE_CHECKING:
    from retrograd import estimators, insight

__all__ = [
    "Dense",
    "Diagonal",
    "GradientTotals",
    "Gradients",
    "Stream",
    "bptt",
    "bptt_chunked",
    "distributed",
    "empty_cache",
    "estimators",
    "insight",
    "memory_stats",
    "nn",
    "scan",
    "show_config",
    "truncation_error",
]

__version__ = package_version()


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    # These need more than torch: they are imported when they are named.
    if name in ("estimators", "insight"):
        import importlib

        return importlib.import_module(f"retrograd.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
