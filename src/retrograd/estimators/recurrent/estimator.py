"""A linear RNN trained by backpropagation through time on one series, as an estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from retrograd.errors import InputError, require_choice, require_device, require_number, require_whole
from retrograd.estimators.identification.identified import Forecast
from retrograd.estimators.model_files import Saved, restored, write_model
from retrograd.estimators.recurrent import files
from retrograd.estimators.recurrent.arrays import columns, like, read, require_width
from retrograd.estimators.recurrent.innovations import forecast_variance, innovation_covariance
from retrograd.estimators.recurrent.loop import Callback, Checkpoint, is_first, train
from retrograd.estimators.recurrent.network import Network
from retrograd.estimators.recurrent.sharing import Plan
from retrograd.estimators.recurrent.start import epochs_that_hold, linear_start
from retrograd.estimators.recurrent.training import OPTIMIZERS, DivergenceError, Trainer
from retrograd.tables.align import by_name

__all__ = ["Recurrent"]

Array = np.ndarray[Any, Any]


class Recurrent(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A linear RNN over one series, trained by exact backpropagation through time.

    With y_t the targets and z_t exogenous inputs, both scaled over the data of the fit,

        h_t = W_hh h_{t-1} + W_ih [y_t, z_{t+1}] + b          ŷ_{t+1} = C h_t + c

    Targets Y are ``(N, O)`` or ``(N,)``, inputs U ``(N, E)``, NumPy or pandas. Training starts from a ridge
    autoregression in balanced coordinates, ends where a held-out fifth gets no better, and keeps the weights with the
    lowest loss of all epochs: never worse than its start.

    Args:
        hidden: H, the width of the state.
        optimizer: ``"sgd"``, ``"adam"``, ``"adamw"`` or ``"lbfgs"`` (:data:`retrograd.estimators.OPTIMIZERS`).
        epochs: by default as many as lower the loss of the last fifth in a training on the rest, at most the
            optimizer's own number; from a random start, this number.
        lr: learning rate; the optimizer's own by default.
        clip: the gradient's norm is cut to this; None leaves it.
        closed_loop: steps of the free runs that are trained on, started all along the series; None: one step ahead.
        patience: epochs without a lower loss after which training ends; None: it goes on to the last epoch.
        seed: of random weights.
        start: ``"linear"``, an autoregression (:mod:`retrograd.estimators.recurrent.start`), or ``"random"``.
        device: where to train: ``"cpu"`` or ``"cuda"``.

    Attributes:
        network_: weights, names and scaling as a frozen record.
        history_: loss and gradient norm of every epoch.
        best_loss_: the loss of the weights that were kept, mean squared and in scaled units.
        stop_reason_: ``"epochs"``, ``"patience"``, ``"callback"`` or ``"divergence"``.
        delta_: ∂L/∂h_t along the data of the fit at the best weights, ``(N - 1, H)``; a file does not hold it.
        state_: where the data of the fit ended (:meth:`state_after`).
        innovation_covariance_: of the errors one step ahead of the fit's data, ``(O, O)``, in the targets' units.

    Examples:
        >>> y = 3 + np.sin(np.arange(120.0) / 3)
        >>> model = Recurrent(hidden=4, optimizer="lbfgs").fit(y[:100])
        >>> coming = model.forecast(20)
        >>> bool(np.abs(coming[:, 0] - y[100:]).max() < 0.05)
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
        closed_loop: int | None = None,
        patience: int | None = None,
        seed: int = 0,
        start: str = "linear",
        device: str = "cpu",
    ) -> None:
        self.hidden = hidden
        self.optimizer = optimizer
        self.epochs = epochs
        self.lr = lr
        self.clip = clip
        self.closed_loop = closed_loop
        self.patience = patience
        self.seed = seed
        self.start = start
        self.device = device

    # --- fit ---

    def untrained(self, Y: Any, U: Any = None) -> Network:
        """Check the parameters against the data, and return the network that training starts from.

        Raises:
            InputError: a parameter or the data cannot be used.
        """
        require_choice("optimizer", self.optimizer, tuple(OPTIMIZERS))
        require_choice("start", self.start, ("linear", "random"))
        for name in ("epochs", "patience"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name))
        for name in ("lr", "clip"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name), above=0)
        require_device("device", self.device)
        targets, inputs, names = read(Y, U)
        if len(targets) < 3:
            raise InputError(f"Y has {len(targets)} steps, expected at least 3")
        if self.closed_loop is not None and not 2 <= require_whole("closed_loop", self.closed_loop) < len(targets):
            raise InputError(
                f"closed_loop is {self.closed_loop}, expected from 2 to {len(targets) - 1} steps: a free run within "
                "the training part"
            )
        if self.closed_loop is not None and np.isnan(targets).any():
            raise InputError(
                f"closed_loop is {self.closed_loop}, which needs every target, and Y has missing ones: fill them, or "
                "train one step ahead (closed_loop=None)"
            )
        network = Network.untrained(
            targets,
            inputs,
            hidden=require_whole("hidden", self.hidden),
            target_names=names[0],
            input_names=names[1],
            seed=self.seed,
            device=self.device,
        )
        if self.start == "random":
            return network
        return replace(network, weights=linear_start(network.weights, *network.series(targets, inputs)))

    def fit(
        self,
        Y: Any,
        U: Any = None,
        *,
        callbacks: Iterable[Callback] = (),
        checkpoint: str | Path | None = None,
        resume: bool = False,
        group: Any = None,
        share: Callable[[Plan], None] | None = None,
    ) -> Recurrent:
        """Train.

        Args:
            Y: targets; NaN where one is missing: there the network reads its own prediction, and no loss is taken.
            U: inputs at the same steps; None for none.
            callbacks: called with the :class:`retrograd.estimators.Trainer` after every epoch; one that returns True
                ends the training, of all ranks of a group after the same epoch.
            checkpoint: a file that holds the training's state, written after the first epoch, then every few seconds
                and in the end.
            resume: continue the training in ``checkpoint``: the result is bit for bit that of an unbroken one.
            group: the process group of ranks that all fit the same series, each running a stretch of its steps
                (:func:`retrograd.distributed.bptt`); the first one writes the checkpoint, which all must be able to
                read. In open loop, on series without missing targets.
            share: where this is the first rank of a group whose others have their own rows alone: called with what
                these must know before they :func:`retrograd.estimators.recurrent.sharing.follow`.

        Returns:
            The estimator itself.

        Raises:
            InputError: a parameter, the data or the checkpoint cannot be used.
            DivergenceError: loss or gradient are not finite. The estimator is fitted, with the best weights so far, if
                an epoch was finished.
        """
        network = self.untrained(Y, U)
        targets, inputs, _ = read(Y, U)
        x, y = network.series(targets, inputs)
        first = group is None or is_first(group, x, self.closed_loop)
        choice = OPTIMIZERS[self.optimizer]
        lr = choice.lr if self.lr is None else self.lr
        trainer = Trainer(
            network.weights,
            x,
            y,
            optimizer=self.optimizer,
            lr=lr,
            clip=self.clip,
            horizon=self.closed_loop,
            group=group,
        )
        epochs = choice.epochs if self.epochs is None else self.epochs
        if self.epochs is None and self.start == "linear":
            epochs = epochs_that_hold(network.weights, x, y, epochs, self.optimizer, lr, self.clip, self.closed_loop)
        kept = None
        if checkpoint is not None:
            settings = {name: getattr(self, name) for name in ("hidden", "optimizer", "clip", "closed_loop", "seed")}
            kept = Checkpoint(Path(checkpoint), {**settings, "lr": lr}, (x, y))
        if share is not None:
            share(Plan.of(self, network, len(targets), lr, epochs, {} if kept is None else kept.belongs))
        if kept is not None:
            if resume:
                kept.resume(trainer, epochs)
        elif resume:
            raise InputError("resume is True, but there is no checkpoint: name the file")
        written = kept if first else None
        callbacks = list(callbacks)
        try:
            self.stop_reason_ = train(trainer, epochs, patience=self.patience, callbacks=callbacks, checkpoint=written)
        except DivergenceError:
            self.stop_reason_ = "divergence"
            if trainer.history:
                self._keep(network, trainer, targets, inputs)
            raise
        self._keep(network, trainer, targets, inputs)
        return self

    def _keep(self, network: Network, trainer: Trainer, targets: Array, inputs: Array) -> None:
        self.delta_ = trainer.finish().cpu().numpy()
        self.network_ = replace(network, weights=trainer.best)
        self.history_, self.best_loss_ = list(trainer.history), trainer.best_loss
        self.state_ = self.network_.state_after(targets, inputs)
        self.innovation_covariance_ = innovation_covariance(self.network_, targets, inputs)
        self.n_features_in_ = len(network.input_names)

    # --- use ---

    def predict(self, Y: Any, U: Any = None) -> Any:
        """Predict each step from all steps before it: ``(N, O)``, NaN for the first, in the kind of Y."""
        network, targets, inputs = self._given(Y, U)
        return like(Y, network.one_step(targets, inputs), network.target_names)

    def free_run(self, Y: Any, U: Any = None, *, start: int) -> Any:
        """Predict the steps from ``start`` on from those before it alone: ``(N, O)``, NaN before, in the kind of Y."""
        network, targets, inputs = self._given(Y, U)
        if not 1 <= require_whole("start", start) < len(targets):
            raise InputError(f"start is {start}, expected from 1 to {len(targets) - 1}, a step of Y")
        return like(Y, network.free_run(targets, inputs, start), network.target_names)

    def state_after(self, Y: Any, U: Any = None, state: Any = None) -> Array:
        """Return what a series' past says about its future, ``(H + O,)``, to forecast from.

        Args:
            Y: the series.
            U: its inputs.
            state: where the series goes on from, if it is known; by default it starts as that of the fit did.
        """
        network, targets, inputs = self._given(Y, U)
        return network.state_after(targets, inputs, state)

    def forecast(self, horizon: int, U_future: Any = None, *, Y: Any = None, U: Any = None, state: Any = None) -> Any:
        """Forecast the steps after the data of the fit, or after other data: ``(horizon, O)``.

        Args:
            horizon: how many steps.
            U_future: inputs of those steps, ``(horizon, E)``.
            Y: a series to go on from.
            U: its inputs.
            state: where to go on from, if it is known (:meth:`state_after`).

        Raises:
            InputError: there are too few inputs.
        """
        network = self._fitted()
        horizon = require_whole("horizon", horizon)
        if state is None:
            state = self.state_ if Y is None else self.state_after(Y, U)
        if U_future is None:
            if network.input_names:
                raise InputError(
                    f"U_future is None: give the {horizon} coming values of {', '.join(network.input_names)}"
                )
            inputs = np.empty((horizon, 0))
        else:
            inputs = columns("U_future", by_name("U_future", U_future, network.input_names))
            require_width("U_future", inputs, network.input_names)
        return like(U_future, network.forecast(state, inputs, horizon), network.target_names)

    def forecast_interval(
        self,
        horizon: int,
        U_future: Any = None,
        *,
        Y: Any = None,
        U: Any = None,
        state: Any = None,
        level: float = 0.95,
    ) -> Forecast:
        """Forecast with intervals, which hold the innovations to come, taken for Gaussian (:meth:`forecast_variance`).

        Args:
            horizon: as of :meth:`forecast`, like the arguments up to ``state``.
            U_future: likewise.
            Y: likewise.
            U: likewise.
            state: likewise.
            level: probability of the interval.

        Raises:
            InputError: there are too few inputs, ``level`` is not between 0 and 1, or a file of an older version had no
                innovations.

        Examples:
            >>> y = np.random.default_rng(0).standard_normal(300)
            >>> coming = Recurrent(hidden=1, optimizer="lbfgs").fit(y).forecast_interval(3, level=0.8)
            >>> coming.lower.shape, bool((abs((coming.upper - coming.lower) / 2 - 1.28) < 0.1).all())
            ((3, 1), True)
        """
        level = require_number("level", level, above=0, below=1)
        mean = self.forecast(horizon, U_future, Y=Y, U=U, state=state)
        spread = norm.ppf(0.5 + level / 2) * np.sqrt(self.forecast_variance(horizon))
        return Forecast(mean, mean - spread, mean + spread, level, getattr(mean, "index", None))

    def forecast_variance(self, horizon: int) -> Array:
        """Return the variance of each target's forecast error, 1 to ``horizon`` steps ahead: ``(horizon, O)``.

        It is the diagonal of Σ_{j<k} Ψ_j S Ψ_jᵀ, with S ``innovation_covariance_`` and Ψ the impulse response of the
        closed loop (:mod:`retrograd.estimators.recurrent.innovations`).

        Raises:
            InputError: a file of an older version had no innovations.
        """
        network = self._fitted()
        if not hasattr(self, "innovation_covariance_"):
            raise InputError("this Recurrent was saved by an older version, without its innovations: fit it again")
        return forecast_variance(network, self.innovation_covariance_, require_whole("horizon", horizon))

    def eigenvalues(self) -> tuple[Array, Array]:
        """Return the eigenvalues of W_hh, and of the closed loop W_hh + W_ih C: ``(H,)`` each, complex."""
        return self._fitted().eigenvalues()

    def recurrence(self, U: Any, Y: Any, *, horizon: int | None = None) -> dict[str, Any]:
        """Return the arguments of :func:`retrograd.bptt` for the model over a series, and its error as the loss.

        Args:
            U: inputs; None for none.
            Y: targets.
            horizon: steps of the free runs along the series, each of which is a sequence; by default what was trained:
                ``closed_loop`` steps, or one step ahead.

        Raises:
            InputError: ``horizon`` is longer than the series less one, or below 2.
        """
        network, targets, inputs = self._given(Y, U)
        return network.recurrence(inputs, targets, horizon=self.closed_loop if horizon is None else horizon)

    # --- files ---

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a folder: ``model.safetensors`` and ``config.json``, whole, no pickle.

        Raises:
            InputError: the folder has a model and ``overwrite`` is false, or cannot be written.
        """
        write_model(Path(folder), self.saved(), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> Recurrent:
        """Read what :meth:`save` wrote, by this version or an older one; the model is on the CPU.

        Raises:
            InputError: the folder holds no such model, or a newer version wrote it.
        """
        return restored(Path(folder), (files.KIND,), cls.from_saved)

    def saved(self) -> Saved:
        """Return what files hold of the model."""
        self._fitted()
        return files.saved_of(self)

    @classmethod
    def from_saved(cls, saved: Saved) -> Recurrent:
        """Return the model of :meth:`saved`.

        Raises:
            InputError: the arrays do not fit the names and parameters.
        """
        model: Recurrent = files.model_of(saved, cls)
        return model

    # --- inside ---

    def _fitted(self) -> Network:
        if not hasattr(self, "network_"):
            raise NotFittedError("this Recurrent is not fitted yet: call fit(Y, U) first")
        return self.network_

    def _given(self, Y: Any, U: Any) -> tuple[Network, Array, Array]:
        """Return the network and data with its columns."""
        network = self._fitted()
        U = None if U is None else by_name("U", U, network.input_names)
        targets, inputs, _ = read(by_name("Y", Y, network.target_names), U)
        require_width("Y", targets, network.target_names)
        require_width("U", inputs, network.input_names)
        return network, targets, inputs
