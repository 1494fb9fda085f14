"""One linear RNN trained on many series, as an estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from torch import Tensor

from retrograd.distributed.ranks import ranks_of
from retrograd.errors import InputError, require_choice, require_device, require_number, require_whole
from retrograd.estimators.identification.identified import Forecast
from retrograd.estimators.model_files import Saved, require_arrays, require_names, restored, write_model
from retrograd.estimators.recurrent.arrays import read, require_width
from retrograd.estimators.recurrent.innovations import forecast_variance, panel_covariances
from retrograd.estimators.recurrent.loop import Callback, Checkpoint, train
from retrograd.estimators.recurrent.network import WEIGHTS, Network
from retrograd.estimators.recurrent.panel_training import PanelTrainer
from retrograd.estimators.recurrent.sharing import Plan
from retrograd.estimators.recurrent.start import linear_start
from retrograd.estimators.recurrent.training import OPTIMIZERS, DivergenceError, Epoch
from retrograd.tables.scale import Scaling, mean_and_deviation

__all__ = ["RecurrentPanel"]

Array = np.ndarray[Any, Any]

KIND = "recurrent-panel"


class RecurrentPanel(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """One linear RNN over many series, each scaled by itself, trained by exact backpropagation through time.

    The network is that of :class:`retrograd.estimators.Recurrent`, one step ahead, and the loss the mean squared error
    over all targets of all series. Training starts from an autoregression of the longest series and keeps the weights
    with the lowest loss of all epochs.

    Args:
        hidden: H, the width of the state.
        optimizer: ``"sgd"``, ``"adam"``, ``"adamw"`` or ``"lbfgs"``.
        epochs: the optimizer's own number by default.
        lr: learning rate; the optimizer's own by default.
        clip: the gradient's norm is cut to this; None leaves it.
        seed: of the weights that the autoregression does not set.
        device: where to train: ``"cpu"`` or ``"cuda"``.

    Attributes:
        networks_: by series' name the weights, which are the same for all, and its own scaling.
        states_: by series' name where its data ended.
        innovation_covariances_: by series' name that of the errors one step ahead over the data of the fit, ``(O, O)``;
            of a series with few steps, that of all series together, each in its own scale.
        history_: loss and gradient norm of every epoch.
        best_loss_: the loss of the weights that were kept.
        stop_reason_: ``"epochs"`` or ``"callback"``.

    Examples:
        >>> t = np.arange(90.0)
        >>> model = RecurrentPanel(hidden=4, epochs=30).fit({"a": 3 + np.sin(t / 3), "b": 9 * np.sin(t[:40] / 3 + 1)})
        >>> coming = model.forecast(5)
        >>> bool(np.abs(coming["b"][:, 0] - 9 * np.sin(np.arange(40, 45) / 3 + 1)).max() < 0.5)
        True
    """

    def __init__(
        self,
        hidden: int = 8,
        *,
        optimizer: str = "adam",
        epochs: int | None = None,
        lr: float | None = None,
        clip: float | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.hidden = hidden
        self.optimizer = optimizer
        self.epochs = epochs
        self.lr = lr
        self.clip = clip
        self.seed = seed
        self.device = device

    def fit(
        self,
        Y: Mapping[str, Any],
        *,
        callbacks: Iterable[Callback] = (),
        checkpoint: str | Path | None = None,
        resume: bool = False,
        group: Any = None,
        share: Callable[[Plan, list[Tensor]], None] | None = None,
    ) -> RecurrentPanel:
        """Train.

        Args:
            Y: targets by series' name, ``(N, O)`` or ``(N,)`` each; NaN where one is missing.
            callbacks: called with the trainer after every epoch; one that returns True ends the training.
            checkpoint: as of :meth:`retrograd.estimators.Recurrent.fit`.
            resume: continue the training in ``checkpoint``.
            group: the process group of ranks that share out the series: each gives all of them, and trains on its own.
                The weights are those of one process to rounding, and the same bits on every rank and in every run.
            share: where this is the first rank of a group whose others have no series yet: called with what these must
                know before they :func:`retrograd.estimators.recurrent.sharing.follow`, and every series' rows,
                scaled.

        Raises:
            InputError: a parameter, the data or the checkpoint cannot be used.
            DivergenceError: loss or gradient are not finite. The estimator is fitted, with the best weights so far, if
                an epoch was finished.
        """
        untrained = self.untrained(Y)
        arrays = {name: read(given, None)[0] for name, given in Y.items()}
        series = [untrained[name].series(y, y[:, :0]) for name, y in arrays.items()]
        weights = next(iter(untrained.values())).weights
        choice = OPTIMIZERS[self.optimizer]
        lr = choice.lr if self.lr is None else self.lr
        epochs = choice.epochs if self.epochs is None else self.epochs
        trainer = PanelTrainer(weights, series, optimizer=self.optimizer, lr=lr, clip=self.clip, group=group)
        kept = None
        if checkpoint is not None:
            settings = {name: getattr(self, name) for name in ("hidden", "optimizer", "clip", "seed")}
            kept = Checkpoint(Path(checkpoint), {**settings, "lr": lr}, [part for one in series for part in one])
        elif resume:
            raise InputError("resume is True, but there is no checkpoint: name the file")
        if share is not None:
            rows, names = [len(y) for y in arrays.values()], next(iter(untrained.values())).target_names
            numbers = {name: weight.tolist() for name, weight in weights.items()}
            how = self.optimizer, lr, self.clip, epochs, None
            belongs = {} if kept is None else kept.belongs
            plan = Plan(numbers, len(names), [], [], rows, *how, belongs, self.device)
            share(plan, [torch.cat([x[:1], y]) for x, y in series])
        if kept is not None and resume:
            kept.resume(trainer, epochs)
        written = kept if group is None or ranks_of(group).rank == 0 else None
        try:
            self.stop_reason_ = train(trainer, epochs, callbacks=list(callbacks), checkpoint=written)
        except DivergenceError:
            self.stop_reason_ = "divergence"
            if trainer.history:
                self._keep(untrained, trainer, arrays)
            raise
        trainer.finish()
        self._keep(untrained, trainer, arrays)
        return self

    def untrained(self, Y: Mapping[str, Any]) -> dict[str, Network]:
        """Check the parameters against the data, and return each series' network, whose weights are one.

        Raises:
            InputError: a parameter or the data cannot be used.
        """
        require_choice("optimizer", self.optimizer, tuple(OPTIMIZERS))
        hidden = require_whole("hidden", self.hidden)
        if self.epochs is not None:
            require_whole("epochs", self.epochs)
        for name in ("lr", "clip"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name), above=0)
        require_device("device", self.device)
        if not Y:
            raise InputError("Y has no series")
        found: dict[str, Network] = {}
        first: Network | None = None
        targets = {name: read(given, None) for name, given in Y.items()}
        # The longest of those that change, if any does.
        longest = max(targets, key=lambda name: (_varies(targets[name][0]), int(np.isfinite(targets[name][0]).sum())))
        for name, (values, _, (names, _)) in targets.items():
            if len(values) < 2:
                raise InputError(f"series {name} has {len(values)} step, expected at least 2")
            if first is not None and names != first.target_names:
                raise InputError(
                    f"series {name} has the targets {', '.join(names)}, others {', '.join(first.target_names)}"
                )
            if first is None:
                source, _, (names, _) = targets[longest]
                first = Network.untrained(
                    source, source[:, :0], hidden=hidden, target_names=names, seed=self.seed, device=self.device
                )
                first = replace(first, weights=linear_start(first.weights, *first.series(source, source[:, :0])))
            found[name] = replace(first, target_scaling=_scaling_of(values))
        return found

    def _keep(self, untrained: dict[str, Network], trainer: PanelTrainer, arrays: Mapping[str, Array]) -> None:
        self.networks_ = {name: replace(network, weights=trainer.best) for name, network in untrained.items()}
        self.history_, self.best_loss_ = list(trainer.history), trainer.best_loss
        self.states_ = {name: self.networks_[name].state_after(y, y[:, :0]) for name, y in arrays.items()}
        self.innovation_covariances_ = panel_covariances(self.networks_, arrays)

    def update(self, Y: Mapping[str, Any]) -> RecurrentPanel:
        """Go on to the end of later steps of some of the series, by name; nothing is trained again.

        Raises:
            InputError: a series was not in the fit, or has other columns.
        """
        networks, found = self._fitted(), dict(self.states_)
        for name, given in Y.items():
            if name not in networks:
                raise InputError(f"Y has the series {name}, which the model was not fitted to")
            y = read(given, None)[0]
            require_width(f"series {name}", y, networks[name].target_names)
            found[name] = networks[name].state_after(y, y[:, :0], found[name])
        self.states_ = found
        return self

    def forecast(self, horizon: int, names: Sequence[str] | None = None) -> dict[str, Array]:
        """Forecast the steps after each series, ``(horizon, O)``.

        Args:
            horizon: how many steps.
            names: of the series; by default all, in the order of the fit.

        Raises:
            InputError: a series was not in the fit.
        """
        networks, steps = self._fitted(), require_whole("horizon", horizon)
        nothing, found = np.empty((steps, 0)), {}
        for name in networks if names is None else names:
            require_choice("names", name, list(networks))
            found[name] = networks[name].forecast(self.states_[name], nothing, steps)
        return found

    def forecast_interval(
        self, horizon: int, names: Sequence[str] | None = None, *, level: float = 0.95
    ) -> dict[str, Forecast]:
        """Forecast the steps after each series with intervals, as those of :class:`retrograd.estimators.Recurrent`.

        Args:
            horizon: how many steps.
            names: of the series; by default all, in the order of the fit.
            level: probability of the interval.

        Raises:
            InputError: a series was not in the fit.
        """
        reach, found = norm.ppf(0.5 + require_number("level", level, above=0, below=1) / 2), {}
        for name, mean in self.forecast(horizon, names).items():
            variance = forecast_variance(self.networks_[name], self.innovation_covariances_[name], horizon)
            spread = reach * np.sqrt(variance)
            found[name] = Forecast(mean, mean - spread, mean + spread, level)
        return found

    @property
    def target_names_(self) -> list[str]:
        """The names of the targets."""
        return next(iter(self._fitted().values())).target_names

    def _fitted(self) -> dict[str, Network]:
        if not hasattr(self, "networks_"):
            raise NotFittedError("this RecurrentPanel is not fitted yet: call fit(Y) first")
        return self.networks_

    # --- files ---

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a folder: ``model.safetensors`` and ``config.json``, whole, no pickle.

        Raises:
            InputError: the folder has a model and ``overwrite`` is false, or cannot be written.
        """
        write_model(Path(folder), self.saved(), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> RecurrentPanel:
        """Read what :meth:`save` or ``retrograd fit --series --model recurrent`` wrote; the model is on the CPU.

        Raises:
            InputError: the folder holds no such model, or a newer version wrote it.
        """
        return restored(Path(folder), (KIND,), cls.from_saved)

    def saved(self) -> Saved:
        """Return what files hold of the model."""
        networks = self._fitted()
        one = next(iter(networks.values()))
        arrays = {name: np.asarray(weight.detach().cpu()) for name, weight in one.weights.items()}
        arrays["states"] = np.stack([self.states_[name] for name in networks])
        arrays["covariances"] = np.stack([self.innovation_covariances_[name] for name in networks])
        arrays["means"] = np.stack([network.target_scaling.mean for network in networks.values()])
        arrays["scales"] = np.stack([network.target_scaling.scale for network in networks.values()])
        return Saved(
            KIND,
            arrays,
            {
                "parameters": self.get_params(),
                "series": list(networks),
                "target": one.target_names,
                "best_loss": self.best_loss_,
                "stop_reason": self.stop_reason_,
                "history": [[epoch.loss, epoch.gradient_norm] for epoch in self.history_],
            },
        )

    @classmethod
    def from_saved(cls, saved: Saved) -> RecurrentPanel:
        """Return the model of :meth:`saved`.

        Raises:
            InputError: the arrays do not fit the names and parameters.
        """
        arrays, config = saved.arrays, saved.config
        model = cls(**{**config["parameters"], "device": "cpu"})
        targets, series = require_names(config["target"], "target"), require_names(config["series"], "series")
        H, P, N = require_whole("hidden", model.hidden), len(targets), len(series)
        if not P or not N:
            raise InputError("target or series has no names")
        shapes = {
            "weight_hh": (H, H), "weight_ih": (H, P), "bias": (H,), "h0": (H,), "weight_out": (P, H), "bias_out": (P,),
            "states": (N, H + P), "means": (N, P), "scales": (N, P),
            "covariances": (N, P, P),
        }  # fmt: skip
        require_arrays(arrays, shapes)
        if not (arrays["scales"] > 0).all():
            raise InputError(f"a scale is {arrays['scales'].min():g}, expected above 0")
        weights = {name: torch.from_numpy(arrays[name].copy()) for name in WEIGHTS}
        nothing = Scaling(np.empty(0), np.empty(0))
        scalings = [Scaling(*pair) for pair in zip(arrays["means"], arrays["scales"], strict=True)]
        model.networks_ = {
            name: Network(weights, targets, [], scaling, nothing)
            for name, scaling in zip(series, scalings, strict=True)
        }
        model.states_ = dict(zip(series, arrays["states"], strict=True))
        model.innovation_covariances_ = dict(zip(series, arrays["covariances"], strict=True))
        model.best_loss_, model.stop_reason_ = config.get("best_loss", float("nan")), config.get("stop_reason", "")
        model.history_ = [Epoch(number, *values) for number, values in enumerate(config.get("history", []), start=1)]
        return model


def _varies(values: Array) -> bool:
    return bool((np.nanmax(values, axis=0) > np.nanmin(values, axis=0)).all()) if np.isfinite(values).any() else False


def _scaling_of(values: Array) -> Scaling:
    """Return a series' own scaling; one that is constant stays in its units, at its mean."""
    known = np.where(np.isfinite(values).any(axis=0), values, 0.0)
    mean, deviation = mean_and_deviation(known)
    return Scaling(mean, np.where(deviation > 0, deviation, 1.0))
