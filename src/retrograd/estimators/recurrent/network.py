"""A linear RNN that reads a series and predicts its next value, and any number of values after that.

With y_t the targets and z_t the exogenous inputs, both scaled, the network reads x_t = [y_t, z_{t+1}] and says

    h_t = W_hh h_{t-1} + W_ih x_t + b          ŷ_{t+1} = C h_t + c

One step ahead, y_t is the observed value (teacher forcing). Free-running, ŷ_t takes its place: the closed loop of
:func:`retrograd.bptt`, and again a linear recurrence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.errors import InputError
from retrograd.estimators.recurrent.training import free_runs, own_where_missing, squared_error
from retrograd.estimators.threads import threads_for
from retrograd.rnn.bptt import bptt
from retrograd.tables.scale import Scaling

__all__ = ["WEIGHTS", "Network"]

Array = np.ndarray[Any, Any]

WEIGHTS = ("weight_hh", "weight_ih", "bias", "h0", "weight_out", "bias_out")
# Of W_hh before training: inside the unit circle, with a memory of about ten steps.
RADIUS = 0.9


@dataclass(frozen=True)
class Network:
    """A linear RNN over one series, with everything that a prediction needs. All tensors are float64.

    Attributes:
        weights: by the names that :func:`retrograd.bptt` gives them: ``weight_hh (H, H)``, ``weight_ih (H, O + E)``,
            ``bias (H,)``, ``h0 (H,)``, ``weight_out (O, H)``, ``bias_out (O,)``.
        target_names: the O predicted columns.
        input_names: the E exogenous columns.
        target_scaling: from the targets' units to those of the network.
        input_scaling: likewise for the exogenous inputs.

    Examples:
        >>> y = np.sin(np.arange(50.0))[:, None]
        >>> network = Network.untrained(y, np.empty((50, 0)), hidden=4, target_names=["sine"])
        >>> network.one_step(y, np.empty((50, 0))).shape
        (50, 1)
    """

    weights: dict[str, Tensor]
    target_names: list[str]
    input_names: list[str]
    target_scaling: Scaling
    input_scaling: Scaling

    @classmethod
    def untrained(
        cls,
        targets: Array,
        inputs: Array,
        *,
        hidden: int,
        target_names: list[str],
        input_names: list[str] | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> Network:
        """Return a network scaled by a training part, with random weights and a stable W_hh.

        Args:
            targets: ``(N, O)`` of the training part.
            inputs: ``(N, E)`` beside it.
            hidden: H.
            target_names: the columns of ``targets``.
            input_names: the columns of ``inputs``.
            seed: of the weights.
            device: where they live.

        Raises:
            InputError: a column is constant.
        """
        input_names = input_names or []
        outputs, exogenous = targets.shape[1], inputs.shape[1]
        source = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=source, dtype=torch.float64)

        weights = {
            "weight_hh": RADIUS * torch.linalg.qr(normal(hidden, hidden)).Q,
            "weight_ih": normal(hidden, outputs + exogenous) / (outputs + exogenous) ** 0.5,
            "bias": torch.zeros(hidden, dtype=torch.float64),
            "h0": torch.zeros(hidden, dtype=torch.float64),
            # Small: the first predictions are near the mean, whatever the state is.
            "weight_out": 0.1 * normal(outputs, hidden) / hidden**0.5,
            "bias_out": torch.zeros(outputs, dtype=torch.float64),
        }
        return cls(
            {name: weight.to(device) for name, weight in weights.items()},
            target_names,
            input_names,
            Scaling.fit(targets, target_names, "targets"),
            Scaling.fit(inputs, input_names, "inputs"),
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights["weight_hh"].device

    def series(self, targets: Array, inputs: Array) -> tuple[Tensor, Tensor]:
        """Return what the network reads and what it should say: x ``(N-1, O+E)`` and the targets ``(N-1, O)``.

        A missing target is NaN in both.
        """
        y = self._tensor(self.target_scaling.apply(targets))
        z = self._tensor(self.input_scaling.apply(inputs[: len(targets)]))
        return torch.cat([y[:-1], z[1:]], dim=1), y[1:]

    def one_step(self, targets: Array, inputs: Array) -> Array:
        """Return each step's prediction from all steps before it, ``(N, O)``: NaN for the first, which has none."""
        x, _ = self.series(targets, inputs)
        return self._predictions(x, None, first=1)

    def free_run(self, targets: Array, inputs: Array, start: int) -> Array:
        """Return predictions of steps ``start`` to N from the steps before ``start`` alone: ``(N, O)``, NaN before."""
        x, _ = self.series(targets, inputs)
        feedback = torch.arange(len(x)) >= start
        predictions = self._predictions(x, feedback, first=1)
        predictions[:start] = np.nan
        return predictions

    def state_after(self, targets: Array, inputs: Array, state: Array | None = None) -> Array:
        """Return what the series' past says about its future, ``(H + O,)``.

        These are the state before the last target is read, and that target, scaled: the input beside it is not known
        yet. With ``state``, that of a series that goes on there.

        Raises:
            InputError: the state is not of this network.
        """
        x, y = self.series(targets, inputs)
        h0 = self.weights["h0"]
        if state is not None:
            given, hidden = self._tensor(self._require_state(state)), len(h0)
            h0, known = given[:hidden], given[hidden:]
            first = torch.cat([known, self._tensor(self.input_scaling.apply(inputs[:1]))[0]])
            x, y = torch.cat([first[None], x]), self._tensor(self.target_scaling.apply(targets))
        states, outputs = self._run(x, None, h0)
        last = torch.where(y[-1].isnan(), outputs[-1], y[-1])
        return np.asarray(torch.cat([states[-1], last]).cpu())

    def forecast(self, state: Array, inputs: Array, horizon: int) -> Array:
        """Return the ``horizon`` steps that follow a series, ``(horizon, O)``.

        Args:
            state: where the series ended (:meth:`state_after`).
            inputs: exogenous inputs of the steps to predict, at least ``(horizon, E)``.
            horizon: how many steps.

        Raises:
            InputError: there are too few inputs, or the state is not of this network.
        """
        hidden, outputs = len(self.weights["h0"]), len(self.target_names)
        self._require_state(state)
        if horizon == 0:
            return np.empty((0, outputs))
        if self.input_names and len(inputs) < horizon:
            raise InputError(
                f"horizon is {horizon}, but the inputs {', '.join(self.input_names)} are known for {len(inputs)} "
                "steps after the last target: add rows with empty targets, or take a shorter horizon",
                "horizon",
            )
        z = self._tensor(self.input_scaling.apply(inputs[:horizon]))
        if not self.input_names:
            z = z.new_empty((horizon, 0))
        given = self._tensor(state)
        y = z.new_zeros(horizon, outputs)
        y[0] = given[hidden:]
        feedback = torch.arange(horizon) >= 1
        return self._predictions(torch.cat([y, z], dim=1), feedback, h0=given[:hidden])

    def eigenvalues(self) -> tuple[Array, Array]:
        """Return the eigenvalues of W_hh, and of the closed loop W_hh + W_ih C: ``(H,)`` each, complex."""
        w = self.weights
        closed = w["weight_hh"] + w["weight_ih"][:, : len(self.target_names)] @ w["weight_out"]
        found = [torch.linalg.eigvals(matrix.cpu()).numpy() for matrix in (w["weight_hh"], closed)]
        return found[0], found[1]

    def recurrence(self, U: Any, Y: Any, *, horizon: int | None = None) -> dict[str, Any]:
        """Return the arguments of :func:`retrograd.bptt` for the network over a series, its scaled error as the loss.

        Args:
            U: inputs ``(N, E)``; None for none.
            Y: targets ``(N, O)`` or ``(N,)``.
            horizon: steps of the free runs along the series, each of which is a sequence; None: one step ahead.

        Raises:
            InputError: ``horizon`` is longer than the series less one, or below 2.
        """
        Y = np.asarray(Y, dtype=float).reshape(len(Y), -1)
        x, y = self.series(Y, np.empty((len(Y), 0)) if U is None else np.asarray(U, dtype=float))
        if horizon is None:
            read, feedback = own_where_missing(x, y.shape[1])
            return {
                "x": read, **self.weights, "feedback": feedback, "loss": lambda outputs: squared_error(outputs, y)
            }  # fmt: skip
        if not 2 <= horizon <= len(x):
            raise InputError(f"horizon is {horizon}, expected from 2 to {len(x)}, the steps of the series less one")
        return free_runs(self.weights, x, y, horizon)[0]

    def _require_state(self, state: Array) -> Array:
        expected = len(self.weights["h0"]) + len(self.target_names)
        if np.shape(state) != (expected,):
            raise InputError(f"state has shape {np.shape(state)}, expected (hidden + outputs,) = ({expected},)")
        return state

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).to(self.device)

    def _run(self, x: Tensor, feedback: Tensor | None, h0: Tensor) -> tuple[Tensor, Tensor]:
        """Return states and outputs."""
        weights: dict[str, Any] = {name: weight.detach() for name, weight in self.weights.items() if name != "h0"}
        x, feedback = own_where_missing(x, len(self.target_names), feedback)
        with threads_for(len(x) * len(h0) ** 2):
            g = bptt(x, **weights, h0=h0.detach(), feedback=feedback)
        assert g.states is not None
        assert g.outputs is not None
        return g.states, g.outputs

    def _predictions(self, x: Tensor, feedback: Tensor | None, *, h0: Tensor | None = None, first: int = 0) -> Array:
        """Return the outputs in the targets' units, after ``first`` rows of NaN."""
        _, outputs = self._run(x, feedback, self.weights["h0"] if h0 is None else h0)
        values = self.target_scaling.invert(outputs.cpu().numpy())
        return np.concatenate([np.full((first, values.shape[1]), np.nan), values])
