"""Exact gradients through time for linear recurrent networks."""

from retrograd import nn
from retrograd.bptt import bptt
from retrograd.gradients import Gradients
from retrograd.scan import scan
from retrograd.transition import Dense, Diagonal

__all__ = ["Dense", "Diagonal", "Gradients", "bptt", "nn", "scan"]
