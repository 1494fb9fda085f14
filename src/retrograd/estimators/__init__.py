"""Estimators: a real series in, a trained linear recurrence and a forecast out, one estimator a file."""

from retrograd.estimators.recurrent import Recurrent
from retrograd.estimators.training import OPTIMIZERS, DivergenceError, Epoch, Trainer

__all__ = ["OPTIMIZERS", "DivergenceError", "Epoch", "Recurrent", "Trainer"]
