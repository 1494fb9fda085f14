"""One sweep forward and one back: the numbers that every question of :mod:`retrograd.insight` is asked of.

    h_t = A_t h_{t-1} + u_t          δ_T = g_T,  δ_{t-1} = g_{t-1} + A_t^H δ_t          G = Σ_t δ_t h_{t-1}^H

with g_t what the loss sends straight into step t, and G the gradient of what every A_t shares: ∂L/∂W_hh of a linear
RNN, open or closed loop. All is float64 (complex128 where something is complex), whatever the model's own precision.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.backends import select
from retrograd.errors import require_shape
from retrograd.nn import LinearRNN
from retrograd.problem import Loss, Problem, gradient_of
from retrograd.segments import previous_states
from retrograd.transition import Dense, Diagonal, Transition

__all__ = ["Sweep", "outer"]

DIRECTIONS = ("forward", "backward")
# Elements up to which a copy costs nothing.
_SMALL = 1 << 16


@dataclass(frozen=True)
class Sweep:
    """States, what the loss sends into them, and their whole gradient. B sequences of T steps, H states.

    Made by :meth:`of_scan`, :meth:`of_weights`, :meth:`of_module` or :meth:`of_estimator`.

    Attributes:
        A: the transitions as :mod:`retrograd.transition` keeps them: ``(groups, 1 or T, H, H)``, diagonal
            ``(groups, 1 or T, H)``.
        states: h_t, ``(B, T, H)``.
        h0: h_0, ``(B, H)``.
        direct: g_t, ``(B, T, H)``.
        delta: δ_t, ``(B, T, H)``.
        loss: its value, where there was a loss function.
    """

    A: Tensor
    states: Tensor
    h0: Tensor
    direct: Tensor
    delta: Tensor
    loss: float | None = None

    @property
    def time(self) -> int:
        """T."""
        return self.states.shape[1]

    @property
    def diagonal(self) -> bool:
        """Whether A_t is diagonal."""
        return self.A.ndim == 3

    @property
    def invariant(self) -> bool:
        """Whether A_t is the same at every step."""
        return self.A.shape[1] == 1

    @cached_property
    def previous(self) -> Tensor:
        """h_{t-1}, ``(B, T, H)``."""
        return previous_states(self.states, self.h0, False)

    @cached_property
    def sources(self) -> list[int]:
        """The steps, counted from 0, that the loss looks at: where g_t is not zero in some sequence."""
        found: list[int] = (self.direct != 0).any(-1).any(0).nonzero().flatten().tolist()
        return found

    @cached_property
    def gradient(self) -> Tensor:
        """G = Σ δ_t h_{t-1}^H, ``(H, H)``; of a diagonal A its diagonal, ``(H,)``."""
        return outer(self.delta, self.previous, self.diagonal)

    @classmethod
    @torch.no_grad()
    def of_scan(
        cls,
        A: Transition,
        u: Tensor,
        h0: Tensor | None = None,
        *,
        grad_states: Tensor | None = None,
        grad_final: Tensor | None = None,
        loss: Loss | None = None,
    ) -> Sweep:
        """Return the sweep of :func:`retrograd.scan`.

        Args:
            A: Dense or Diagonal transitions.
            u: ``(batch, time, H)`` or ``(time, H)``.
            h0: ``(batch, H)`` (or ``(H,)``); zero by default.
            grad_states: ∂L/∂h_t straight from the loss, of u's shape; and/or
            grad_final: ∂L/∂h_T, of h0's shape; or
            loss: a function of the states that returns a scalar. None of them: 1 at the final state.

        Raises:
            ValueError: shapes do not fit, or the gradient has two starts.

        Examples:
            >>> sweep = Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(3, 1))
            >>> sweep.delta.squeeze().tolist(), sweep.gradient.tolist()
            ([0.25, 0.5, 1.0], [2.0])
        """
        if not isinstance(A, (Dense, Diagonal)):
            raise TypeError(f"A is {type(A).__name__}, expected retrograd.Dense(W) or retrograd.Diagonal(a)")
        if u.ndim not in (2, 3) or u.shape[-2] == 0:
            raise ValueError(f"u has shape {tuple(u.shape)}, expected (batch, time, H) or (time, H) with time ≥ 1")
        if loss is not None and not (grad_states is None and grad_final is None):
            raise ValueError("loss was given together with grad_states or grad_final: the gradient has one start")
        rows = 2 if u.ndim == 2 else 3
        a, drive, before, g, last = _double(A.normal(), u, h0, grad_states, grad_final)
        drive = drive if rows == 3 else drive[None]
        batch, time, width = drive.shape
        if a.shape[-1] != width or a.shape[1] not in (1, time) or a.shape[0] not in (1, batch):
            raise ValueError(f"A has (groups, steps, width) {(*a.shape[:2], width)}, u (batch, time, H) {drive.shape}")

        def placed(name: str, array: Tensor | None, axes: list[str], sizes: list[int]) -> Tensor | None:
            if array is None:
                return None
            require_shape(name, array, axes[3 - rows :], sizes[3 - rows :])
            return array.reshape(sizes)

        before = placed("h0", before, ["batch", "H"], [batch, width])
        g = placed("grad_states", g, ["batch", "time", "H"], [batch, time, width])
        last = placed("grad_final", last, ["batch", "H"], [batch, width])
        before = drive.new_zeros(batch, width) if before is None else before
        states = select("auto", a, drive).scan(a, drive, before, False)
        value = None
        if loss is not None:
            value, g = gradient_of(loss, states if rows == 3 else states[0])
            g = g.reshape(states.shape)
        return _back(a, states, before, g, last, value)

    @classmethod
    @torch.no_grad()
    def of_weights(
        cls,
        x: Any,
        *,
        weight_hh: Any,
        weight_ih: Any,
        bias: Any = None,
        h0: Any = None,
        grad_states: Any = None,
        grad_final: Any = None,
        loss: Loss | None = None,
        weight_out: Any = None,
        bias_out: Any = None,
        feedback: Any = None,
    ) -> Sweep:
        """Return the sweep of the linear RNN of :func:`retrograd.bptt`, whose arguments these are.

        Examples:
            >>> w, v = torch.tensor([[0.5]]), torch.tensor([[1.0]])
            >>> Sweep.of_weights(torch.tensor([[1.0], [2.0], [3.0]]), weight_hh=w, weight_ih=v).gradient
            tensor([[3.]], dtype=torch.float64)
        """
        arrays = {
            "x": x,
            "weight_hh": weight_hh,
            "weight_ih": weight_ih,
            "bias": bias,
            "h0": h0,
            "weight_out": weight_out,
            "bias_out": bias_out,
        }
        starts = {"grad_states": grad_states, "grad_final": grad_final}
        p = Problem(_in_double(arrays), _in_double(starts), feedback, loss)
        runs = p.transitions()
        states_of_runs, carry = [], p.h0
        for steps, A in runs:
            drive = p.drive[:, steps]
            states_of_runs.append(select("auto", A, drive).scan(A, drive, carry, False))
            carry = states_of_runs[-1][:, -1]
        states = torch.cat(states_of_runs, 1)
        outputs = None if p.C is None else states @ p.C.mT + p.c
        value, g, last, _ = p.initialise(states, outputs)
        if len(runs) == 1:
            A = runs[0][1]
        else:
            A = torch.cat([A.expand(-1, steps.stop - steps.start, -1, -1) for steps, A in runs], 1)
        return _back(A, states, p.h0, g, last, value)

    @classmethod
    def of_module(
        cls, module: LinearRNN, x: Tensor, loss: Loss | None = None, hx: Tensor | None = None
    ) -> dict[tuple[int, str], Sweep]:
        """Return a sweep for each layer and direction of a :class:`retrograd.nn.LinearRNN`.

        Args:
            module: the network; it is run in float64, without dropout, and is left as it was.
            x: its input, ``(time, batch, I)`` (``batch_first``: ``(batch, time, I)``) or ``(time, I)``.
            loss: a function of its output that returns a scalar; by default the sum of each sequence's last output.
            hx: as the module takes it.

        Returns:
            By ``(layer, "forward")`` or ``(layer, "backward")``; the second with its time reversed, so that every
            sweep goes from the first step that is read to the last.

        Examples:
            >>> from retrograd.nn import LinearRNN
            >>> sweeps = Sweep.of_module(LinearRNN(3, 8, num_layers=2), torch.randn(20, 4, 3))
            >>> list(sweeps), sweeps[1, "forward"].states.shape
            ([(0, 'forward'), (1, 'forward')], torch.Size([4, 20, 8]))
        """
        if not isinstance(module, LinearRNN):
            raise TypeError(
                f"module is {type(module).__name__}, expected retrograd.nn.LinearRNN; of other layers "
                "retrograd.insight.Recorder sees the gradient"
            )
        twin = copy.deepcopy(module).double().eval()
        run = twin._scan
        found: list[tuple[Tensor, Tensor, Tensor, bool]] = []

        def noted(W: Tensor, u: Tensor, h0: Tensor, reverse: bool, cu_seqlens: Tensor | None) -> tuple[Tensor, Tensor]:
            states, final = run(W, u, h0, reverse, cu_seqlens)
            found.append((W, h0, states, reverse))
            return states, final

        twin._scan = noted  # type: ignore[method-assign, assignment]
        output, _ = twin(x.detach().double(), None if hx is None else hx.detach().double())
        value = (loss or partial(_last_outputs, -2 if module.batch_first or x.ndim == 2 else 0))(output)
        all_direct = torch.autograd.grad(value.reshape(()), [states for _, _, states, _ in found])
        sweeps = {}
        for number, ((W, h0, states, reverse), g) in enumerate(zip(found, all_direct, strict=True)):
            at = (number // 2, DIRECTIONS[number % 2]) if module.bidirectional else (number, DIRECTIONS[0])
            h = states.detach()
            h, g = (h.flip(1), g.flip(1)) if reverse else (h, g)
            sweeps[at] = _back(W.detach()[None, None], h, h0.detach(), g, None, value.detach())
        return sweeps

    @classmethod
    def of_estimator(cls, model: Any, U: Any, Y: Any, *, experiment: int = 0) -> Sweep:
        """Return the sweep of a fitted model over data, from the gradient of what its fit brings down.

        Args:
            model: a :class:`retrograd.estimators.StateSpace`: the predictor's states, and Σ e_t^T S^{-1} e_t / 2N of
                its residuals, whose gradient is that of the fit's criterion; or a
                :class:`retrograd.estimators.Recurrent`: the mean squared error one step ahead.
            U: inputs as the model's ``fit`` takes them; None for none.
            Y: outputs, targets.
            experiment: which one, where U and Y are lists of several.

        Raises:
            TypeError: the model has no recurrence to follow.

        Examples:
            >>> from retrograd.estimators import StateSpace
            >>> u = torch.randn(200, dtype=torch.float64).numpy()
            >>> y = 0.5 * u
            >>> y[1:] += u[:-1]
            >>> Sweep.of_estimator(StateSpace(order=2).fit(u, y), u, y).states.shape
            torch.Size([1, 199, 2])
        """
        # Models stand on more libraries than the numbers of a sweep do, and one on more than the other.
        from retrograd.estimators.recurrent import Recurrent

        if isinstance(model, Recurrent):
            Y = np.asarray(Y, dtype=float).reshape(len(Y), -1)
            x, y = model.series(Y, np.empty((len(Y), 0)) if U is None else np.asarray(U, dtype=float))
            weights: dict[str, Any] = model.weights
            return cls.of_weights(x, **weights, loss=lambda outputs: (outputs - y).square().mean())
        from retrograd.estimators.state_space import StateSpace

        if isinstance(model, StateSpace):
            return cls._of_state_space(model, U, Y, experiment)
        raise TypeError(f"model is {type(model).__name__}, expected a StateSpace or Recurrent of retrograd.estimators")

    @classmethod
    def _of_state_space(cls, model: Any, U: Any, Y: Any, experiment: int) -> Sweep:
        from retrograd.estimators.identification.experiments import are_several
        from retrograd.estimators.identification.sensitivity import initial_states
        from retrograd.estimators.identification.system import recurrence, tensors

        if are_several(Y):
            U, Y = None if U is None else U[experiment], Y[experiment]
        data = model._read(U, Y)
        parts = tensors(initial_states(model.system_, data))
        transition, drive = recurrence(parts, data)
        # A state of the model stands before its step; the first one is h_0, and the last drive makes no prediction.
        W = transition.W if transition.W.ndim == 2 else transition.W[:-1]
        fixed = torch.from_numpy(data.outputs - data.inputs @ model.D_.T - model.offset_)[1:]
        seen = torch.from_numpy(data.observed)[1:]
        weight = torch.linalg.inv(torch.from_numpy(model.innovation_covariance_))

        def criterion(states: Tensor) -> Tensor:
            e = torch.where(seen, fixed - states @ parts["C"].mT, 0.0)
            return torch.as_tensor((e @ weight * e).sum() / (2 * len(e)))

        return cls.of_scan(Dense(W), drive[:-1], parts["x0"][0], loss=criterion)


def outer(gradient: Tensor, factor: Tensor, diagonal: bool) -> Tensor:
    """Return Σ gradient_t factor_t^H over batch and time, ``(H, H)``; of a diagonal A its diagonal, ``(H,)``."""
    if diagonal:
        return (gradient * factor.conj()).sum((0, 1))
    if gradient.numel() <= _SMALL or (gradient.is_contiguous() and factor.is_contiguous()):
        return gradient.flatten(0, 1).mT @ factor.flatten(0, 1).conj()
    total = gradient.new_zeros(gradient.shape[2], factor.shape[2])
    for row in range(len(gradient)):  # a slice of time is no matrix, and copying it costs more than the product
        total.addmm_(gradient[row].mT, factor[row].conj())
    return total


def _back(A: Tensor, states: Tensor, h0: Tensor, g: Tensor | None, g_final: Tensor | None, value: Any) -> Sweep:
    """Run the adjoint; without a start it is 1 at the final state."""
    direct = torch.zeros_like(states) if g is None else g.to(states.dtype)
    if g_final is not None:
        direct = direct.clone()
        direct[:, -1] += g_final
    elif g is None:
        direct[:, -1] = 1
    delta, _, _ = select("auto", A, direct).adjoint(A, direct, torch.zeros_like(h0), False)
    return Sweep(A, states, h0, direct, delta, None if value is None else float(value))


def _last_outputs(time_axis: int, output: Tensor) -> Tensor:
    return output.select(time_axis, -1).sum()


def _in_double(arrays: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if array is None else torch.as_tensor(array).detach().to(_wide(torch.as_tensor(array)))
        for name, array in arrays.items()
    }


def _double(*arrays: Tensor | None) -> list[Any]:
    """Return all of them in float64, or in complex128 where one is complex; None stays."""
    there = [array for array in arrays if array is not None]
    dtype = torch.complex128 if any(array.is_complex() for array in there) else torch.float64
    return [None if array is None else array.detach().to(dtype) for array in arrays]


def _wide(array: Tensor) -> torch.dtype:
    return torch.complex128 if array.is_complex() else torch.float64
