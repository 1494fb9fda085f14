"""A forecaster as one of sktime's: for its pipelines, splitters and metrics. The one file that knows sktime."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
from sklearn.base import clone
from sktime.datatypes import convert_to, mtype_to_scitype
from sktime.forecasting.base import BaseForecaster

from retrograd.errors import InputError
from retrograd.estimators.auto.estimator import AutoForecaster
from retrograd.estimators.auto.files import KIND as AUTO
from retrograd.estimators.forecasting.estimator import Forecaster
from retrograd.estimators.forecasting.files import KIND
from retrograd.estimators.forecasting.protocol import ForecasterBase
from retrograd.estimators.forecasting.tables import Clock, by_instance
from retrograd.estimators.model_files import CONFIG_FILE, MODEL_FILE, read_model, require_free, write_model
from retrograd.files import write_whole

__all__ = ["SktimeForecaster"]

# What a zip names, as a pickle does: sktime.base.load imports it. This name stays.
_NAMED = b"cretrograd.estimators\nSktimeForecaster\n."
# A fitted forecaster for the next fit to take over: sktime's base class then keeps its own books as after any fit.
_LOADED: ContextVar[ForecasterBase | None] = ContextVar("_LOADED", default=None)
# Steps that are looked through for a time of a horizon.
_FARTHEST = 1 << 20


class SktimeForecaster(BaseForecaster):  # type: ignore[misc]  # sktime is not typed
    """A forecaster of sktime that fits a clone of the one it is given.

    Args:
        forecaster: a :class:`retrograd.estimators.Forecaster` (the default) or
            :class:`retrograd.estimators.AutoForecaster` with its settings; its parameters are ``forecaster__lags`` and
            so on, for a grid search.

    Attributes:
        forecaster_: the fitted one.

    Examples:
        >>> import numpy as np
        >>> import pandas as pd
        >>> from retrograd.estimators import Forecaster, SktimeForecaster
        >>> y = pd.Series(np.sin(np.arange(60.0) / 3))
        >>> SktimeForecaster(Forecaster(lags=6)).fit(y, fh=[1, 2]).predict().index.tolist()
        [60, 61]
    """

    _tags = {  # noqa: RUF012 (sktime's way of saying what an estimator can do)
        "authors": ["retrograd"],
        "python_dependencies": None,
        "y_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "X_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": False,
        "capability:categorical_in_X": False,
        "capability:update": True,
        "requires-fh-in-fit": True,
        "X-y-must-have-same-index": True,
    }
    # What an update needs is kept in moments and a tail, not as the data itself.
    _config = {"remember_data": False}  # noqa: RUF012

    def __init__(self, forecaster: ForecasterBase | None = None) -> None:
        self.forecaster = forecaster
        super().__init__()
        self._y = self._X = None  # where sktime keeps the data, if it is configured to
        if forecaster is not None and not forecaster._needs_fh():
            self.set_tags(**{"requires-fh-in-fit": False})

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Any) -> SktimeForecaster:
        loaded = _LOADED.get()
        if loaded is not None:
            self.forecaster_ = loaded
            return self
        self.forecaster_ = Forecaster() if self.forecaster is None else clone(self.forecaster)
        clocks = [Clock.of(part.index) for _, part in by_instance(y)] if isinstance(y.index, pd.MultiIndex) else []
        self.forecaster_.fit(y, X, None if fh is None else _steps(fh, self.cutoff, clocks))
        return self

    def _predict(self, fh: Any, X: pd.DataFrame | None) -> pd.DataFrame:
        return self._at(fh, lambda steps: self.forecaster_.predict(steps, X))

    def _predict_interval(self, fh: Any, X: pd.DataFrame | None, coverage: list[float]) -> pd.DataFrame:
        return self._at(fh, lambda steps: self.forecaster_.predict_interval(steps, X, coverage))

    def _predict_quantiles(self, fh: Any, X: pd.DataFrame | None, alpha: list[float]) -> pd.DataFrame:
        return self._at(fh, lambda steps: self.forecaster_.predict_quantiles(steps, X, alpha))

    def _at(self, fh: Any, predicted: Callable[[Any], pd.DataFrame]) -> pd.DataFrame:
        """Return predictions at a horizon: of instances that end at different times, those at its times alone."""
        clocks = list(self.forecaster_._clocks.values())
        table = predicted(_steps(fh, self.cutoff, clocks))
        if not _by_time(fh, clocks):
            return table
        wanted: pd.DataFrame = table[table.index.get_level_values(-1).isin(fh.to_pandas())]
        return wanted

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True) -> SktimeForecaster:
        self.forecaster_.update(y, X, update_params)
        return self

    def save(self, path: str | Path | None = None, serialization_format: str = "pickle") -> Any:
        """Write the folder that :meth:`retrograd.estimators.Forecaster.save` writes, and a zip beside that leads to it.

        :func:`sktime.base.load` reads the zip. Nothing is pickled but in memory, where ``path`` is None.

        Raises:
            InputError: there is something already.
        """
        if path is None:
            return super().save(None, serialization_format)
        self.check_is_fitted()
        folder, link = Path(path), Path(path).with_name(f"{Path(path).name}.zip")
        require_free(folder / MODEL_FILE, folder / CONFIG_FILE, link)
        saved = self.forecaster_.saved()
        # sktime knows more kinds of panel than those with an index.
        saved.config["mtype"] = self._y_metadata.get("mtype")
        write_model(folder, saved, overwrite=False)
        content = BytesIO()
        with ZipFile(content, "w") as archive:
            archive.writestr("_metadata", _NAMED)
        write_whole(link, content.getvalue())
        return ZipFile(link)

    @classmethod
    def load_from_path(cls, serial: str | Path) -> SktimeForecaster:
        """Read the folder that a zip leads to, as :func:`sktime.base.load` does."""
        saved = read_model(Path(serial).with_suffix(""), (KIND, AUTO))
        forecaster = (AutoForecaster if saved.kind == AUTO else Forecaster).from_saved(saved)
        y, X = forecaster.tails()
        mtype = saved.config.get("mtype")
        if mtype is not None:
            if mtype == "numpy3D":
                shortest = min(len(part) for _, part in by_instance(y))
                y = y.groupby(level=0).tail(shortest)
            y = convert_to(y, mtype, as_scitype=mtype_to_scitype(mtype))
        token = _LOADED.set(forecaster)
        try:
            fh = None if forecaster._fh is None else forecaster._fh.steps
            loaded: SktimeForecaster = cls(clone(forecaster)).fit(y, X=X, fh=fh)
            return loaded
        finally:
            _LOADED.reset(token)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return settings for sktime's checks."""
        diagonal = Forecaster("diagonal", hidden=4, readout="recursive", difference=None, ridge=0.01)
        return [{"forecaster": Forecaster(lags=3)}, {"forecaster": diagonal}]


def _by_time(fh: Any, clocks: list[Clock]) -> bool:
    """Say whether a horizon holds times, which lie at other steps ahead of each instance."""
    return not fh.is_relative and len({clock.last[0] for clock in clocks}) > 1


def _steps(fh: Any, cutoff: Any, clocks: list[Clock]) -> np.ndarray[Any, Any]:
    """Return the steps ahead of a horizon; where instances end at different times, those of all of them together.

    Raises:
        InputError: a time of the horizon is no step ahead of an instance.
    """
    if not _by_time(fh, clocks):
        return np.asarray(fh.to_relative(cutoff), dtype=np.int64)
    times, found = fh.to_pandas(), set()
    for clock in clocks:
        count, end = 64, clock.last[0]
        while count < _FARTHEST and clock.after([count])[0] < times.max():
            count *= 2
        places = clock.after(np.arange(1, count + 1)).get_indexer(times)
        if (places < 0).any():
            raise InputError(
                f"fh has {times[(places < 0).argmax()]}, which is no step ahead of an instance that ends at {end}"
            )
        found |= set((places + 1).tolist())
    return np.array(sorted(found))
