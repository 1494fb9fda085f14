"""Estimators: a real series in, a fitted linear recurrence and its forecast out; all have fit, predict, save, load."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from retrograd.estimators.recurrent.training import OPTIMIZERS, DivergenceError, Epoch, Trainer

if TYPE_CHECKING:
    from retrograd.estimators.auto.estimator import AutoForecaster
    from retrograd.estimators.forecasting.estimator import Forecaster
    from retrograd.estimators.identification.cautions import IdentificationWarning
    from retrograd.estimators.identification.estimator import StateSpace
    from retrograd.estimators.identification.subspace import singular_values
    from retrograd.estimators.recurrent.estimator import Recurrent
    from retrograd.estimators.recurrent.panel import RecurrentPanel
    from retrograd.estimators.sktime import SktimeForecaster

__all__ = [
    "OPTIMIZERS",
    "AutoForecaster",
    "DivergenceError",
    "Epoch",
    "Forecaster",
    "IdentificationWarning",
    "Recurrent",
    "RecurrentPanel",
    "SktimeForecaster",
    "StateSpace",
    "Trainer",
    "singular_values",
]


# These stand on scikit-learn, pandas and SciPy: whoever uses none of them does not wait for them.
_LATER = {
    "AutoForecaster": "retrograd.estimators.auto.estimator",
    "Forecaster": "retrograd.estimators.forecasting.estimator",
    "IdentificationWarning": "retrograd.estimators.identification.cautions",
    "Recurrent": "retrograd.estimators.recurrent.estimator",
    "RecurrentPanel": "retrograd.estimators.recurrent.panel",
    "SktimeForecaster": "retrograd.estimators.sktime",
    "StateSpace": "retrograd.estimators.identification.estimator",
    "singular_values": "retrograd.estimators.identification.subspace",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_LATER[name]), name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("retrograd"):
            raise
        package = "sktime" if str(error.name).startswith("sktime") else "'retrograd[estimators]'"
        raise ModuleNotFoundError(
            f"estimators.{name} needs {error.name}: pip install {package}", name=error.name
        ) from None
