"""Exact gradients through time for linear recurrent networks."""

from retrograd.transition import Dense, Diagonal
from retrograd.scan import scan  # isort: skip

__all__ = ["Dense", "Diagonal", "scan"]
