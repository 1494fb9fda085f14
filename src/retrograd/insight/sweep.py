"""One sweep forward and one back: the numbers that every question of :mod:`retrograd.insight` is asked of.

    h_t = A_t h_{t-1} + u_t          δ_T = g_T,  δ_{t-1} = g_{t-1} + A_t^H δ_t          G = Σ_t δ_t h_{t-1}^H

with g_t what the loss sends straight into step t, and G the gradient of what every A_t shares: ∂L/∂W_hh of a linear
RNN, open or closed loop. All is float64 (complex128 where something is complex), whatever the model's own precision.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from retrograd.core.backend import Spec, select
from retrograd.core.sequences import previous_states
from retrograd.core.transition import Dense, Diagonal, Transition
from retrograd.errors import InputError, require_shape
from retrograd.nn import LinearRNN
from retrograd.norms import norm
from retrograd.rnn.arguments import Loss, Problem, gradient_of, scalar

__all__ = ["ONE_OF_THEM", "Sweep", "require_sweep"]

# What is meant where a dict of sweeps is given.
ONE_OF_THEM = "one of its sweeps, such as sweeps[0, 'forward']"
DIRECTIONS = ("forward", "backward")
# A step that the loss sends less than this part of its sequence's largest g_t into is not one that it looks at.
HEARD = 1e-3


@dataclass(frozen=True)
class Sweep:
    """States, what the loss sends into them, and their whole gradient. B sequences of T steps, H states.

    Made by :meth:`of_scan`, :meth:`of_weights`, :meth:`of_module` or :meth:`of_estimator`.

    Attributes:
        A: the transitions as :mod:`retrograd.core.transition` keeps them: ``(groups, 1 or T, H, H)``, diagonal
            ``(groups, 1 or T, H)``.
        states: h_t, ``(B, T, H)``.
        h0: h_0, ``(B, H)``.
        direct: g_t, ``(B, T, H)``.
        delta: δ_t, ``(B, T, H)``.
        loss: its value, where there was a loss function.
        made_of: what A_t is: ``"transition"``, one of its own; ``"closed loop"``, W_hh + W_ih C at some step; or
            ``"system"``, that of an identified system, which no one sets.
        first: A_1, ``(1, H, H)``, where it alone is another one than A: no δ_t of a step passes through it.
    """

    A: Tensor
    states: Tensor
    h0: Tensor
    direct: Tensor
    delta: Tensor
    loss: float | None = None
    made_of: str = "transition"
    first: Tensor | None = None

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

    @property
    def one_spectrum(self) -> bool:
        """Whether A has modes: it is one matrix, or diagonal."""
        return self.diagonal or self.A.shape[0] * self.A.shape[1] == 1

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
    def direct_norms(self) -> Tensor:
        """‖g_t‖ of every sequence, ``(B, T)``."""
        return norm(self.direct)

    @cached_property
    def heard(self) -> Tensor:
        """Bool ``(B, T)``: where g_t is at least a thousandth of the largest of its sequence."""
        size = self.direct_norms
        return (size >= HEARD * size.amax(1, keepdim=True)) & (size > 0)

    @cached_property
    def gradient(self) -> Tensor:
        """G = Σ δ_t h_{t-1}^H, ``(H, H)``; of a diagonal A its diagonal, ``(H,)``."""
        return self.gradients.sum(0)

    @cached_property
    def gradients(self) -> Tensor:
        """Each sequence's part in G, ``(B, H, H)``; of a diagonal A ``(B, H)``."""
        if self.diagonal:
            return (self.delta * self.previous.conj()).sum(1)
        return self.delta.mT @ self.previous.conj()

    @classmethod
    @torch.no_grad()
    def of_scan(
        cls,
        A: Transition,
        u: Any,
        h0: Any = None,
        *,
        grad_states: Any = None,
        grad_final: Any = None,
        loss: Loss | None = None,
        made_of: str = "transition",
    ) -> Sweep:
        """Return the sweep of :func:`retrograd.scan`.

        Args:
            A: Dense or Diagonal transitions. A sequence that begins again at a step has zeros for A_t there.
            u: ``(batch, time, H)`` or ``(time, H)``; a tensor or an array, as all that follow.
            h0: ``(batch, H)`` (or ``(H,)``); zero by default.
            grad_states: ∂L/∂h_t straight from the loss, of u's shape; and/or
            grad_final: ∂L/∂h_T, of h0's shape; or
            loss: a function of the states that returns a scalar. None of them: 1 at the final state.
            made_of: what A_t is, as the attribute.

        Raises:
            ValueError: shapes do not fit, or the gradient has two starts.

        Examples:
            >>> sweep = Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(3, 1))
            >>> sweep.delta.squeeze().tolist(), sweep.gradient.tolist()
            ([0.25, 0.5, 1.0], [2.0])
        """
        if not isinstance(A, (Dense, Diagonal)):
            raise TypeError(f"A is {type(A).__name__}, expected retrograd.Dense(W) or retrograd.Diagonal(a)")
        u = torch.as_tensor(u)
        if u.ndim not in (2, 3) or 0 in u.shape:
            raise ValueError(
                f"u has shape {tuple(u.shape)}, expected (batch, time, H) or (time, H) with at least one of each"
            )
        if loss is not None and not (grad_states is None and grad_final is None):
            raise ValueError("loss was given together with grad_states or grad_final: the gradient has one start")
        rows = 2 if u.ndim == 2 else 3
        a, drive, before, g, last = _double(A.normal(), u, h0, grad_states, grad_final)
        drive = drive if rows == 3 else drive[None]
        batch, time, width = drive.shape
        if a.shape[-1] != width or a.shape[1] not in (1, time) or a.shape[0] not in (1, batch):
            raise ValueError(
                f"A has {a.shape[0]} sequences, {a.shape[1]} steps and {a.shape[-1]} states, u has {batch}, {time} and "
                f"{width}: expected the same, or 1 sequence or step for all"
            )

        def placed(name: str, array: Tensor | None, axes: list[str], sizes: list[int]) -> Tensor | None:
            if array is None:
                return None
            require_shape(name, array, axes[3 - rows :], sizes[3 - rows :])
            return array.reshape(sizes)

        before = placed("h0", before, ["batch", "H"], [batch, width])
        g = placed("grad_states", g, ["batch", "time", "H"], [batch, time, width])
        last = placed("grad_final", last, ["batch", "H"], [batch, width])
        before = drive.new_zeros(batch, width) if before is None else before
        A = A.of([a])
        states = select("auto", Spec.of(A, drive)).scan(A, drive, before)
        value = None
        if loss is not None:
            value, g = gradient_of(loss, states if rows == 3 else states[0])
            g = g.reshape(states.shape)
        return _back(a, states, before, g, last, value, made_of)

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
            states_of_runs.append(select("auto", Spec.of(Dense(A), drive)).scan(Dense(A), drive, carry))
            carry = states_of_runs[-1][:, -1]
        states = torch.cat(states_of_runs, 1)
        outputs = None if p.C is None else states @ p.C.mT + p.c
        value, g, last, _ = p.initialise(states, outputs)
        first = None
        if len(runs) == 1:
            A = runs[0][1]
        elif len(runs) == 2 and runs[0][0].stop == 1:  # a loop that is closed from the second step on
            first, A = runs[0][1][0], runs[1][1]
        else:
            A = torch.cat([A.expand(-1, steps.stop - steps.start, -1, -1) for steps, A in runs], 1)
        return _back(A, states, p.h0, g, last, value, "closed loop" if p.closed else "transition", first)

    @classmethod
    def of_module(
        cls, module: LinearRNN, x: Any, loss: Loss | None = None, hx: Any = None
    ) -> dict[tuple[int, str], Sweep]:
        """Return a sweep for each layer and direction of a :class:`retrograd.nn.LinearRNN`.

        Args:
            module: the network; it is run in float64, without dropout, and is left as it was.
            x: its input, ``(time, batch, I)`` (``batch_first``: ``(batch, time, I)``) or ``(time, I)``.
            loss: a function of its output, in float64, that returns a scalar; by default the sum of each sequence's
                last output.
            hx: as the module takes it.

        Returns:
            By ``(layer, "forward")`` or ``(layer, "backward")``; the second with its time reversed, so that every
            sweep goes from the first step that is read to the last.

        Raises:
            TypeError: the module is another one, or x is packed.
            ValueError: x is empty, or the loss is no scalar that depends on the output.

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
        if isinstance(x, PackedSequence):
            raise TypeError("x is a PackedSequence, expected a tensor: give each sequence by itself, or padded")
        x = torch.as_tensor(x).detach().double()
        if 0 in x.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected at least one step, sequence and input")
        twin = copy.deepcopy(module).double().eval()
        run = twin._scan
        found: list[tuple[Tensor, Tensor, Tensor, bool]] = []

        def noted(W: Tensor, u: Tensor, h0: Tensor, reverse: bool, cu_seqlens: Tensor | None) -> tuple[Tensor, Tensor]:
            # Frozen weights make no graph: the states ask for their gradient themselves.
            states, final = run(W, u if u.requires_grad else u.requires_grad_(), h0, reverse, cu_seqlens)
            found.append((W, h0, states, reverse))
            return states, final

        twin._scan = noted  # type: ignore[method-assign, assignment]
        output, _ = twin(x, None if hx is None else torch.as_tensor(hx).detach().double())
        value = scalar((loss or partial(_last_outputs, -2 if module.batch_first or x.ndim == 2 else 0))(output))
        all_direct = torch.autograd.grad(value, [states for _, _, states, _ in found], allow_unused=True)
        sweeps = {}
        for number, ((W, h0, states, reverse), g) in enumerate(zip(found, all_direct, strict=True)):
            at = (number // 2, DIRECTIONS[number % 2]) if module.bidirectional else (number, DIRECTIONS[0])
            h = states.detach()
            g = torch.zeros_like(h) if g is None else g  # a loss that looks at the other direction alone
            h, g = (h.flip(1), g.flip(1)) if reverse else (h, g)
            sweeps[at] = _back(W.detach()[None, None], h, h0.detach(), g, None, value.detach())
        return sweeps

    @classmethod
    def of_estimator(cls, model: Any, U: Any, Y: Any, *, experiment: int = 0, horizon: int | None = None) -> Sweep:
        """Return the sweep of a fitted model over data, from the gradient of its error on them.

        Args:
            model: a :class:`retrograd.estimators.StateSpace`: the predictor's states, in coordinates in which their
                second moments over the data are 1, and Σ e_t^T S^{-1} e_t / 2N of its residuals, whose gradient is
                that of the fit's criterion; a
                :class:`retrograd.estimators.Forecaster` of diagonal or dense states: the mean squared error at its
                horizons, scaled as in its training (without the penalty), every series a sequence; or a
                :class:`retrograd.estimators.Recurrent`: the mean squared error one step ahead, scaled.
            U: inputs as the model's ``fit`` takes them (a Forecaster's X); None for none.
            Y: outputs, targets (a Forecaster's y).
            experiment: which one, where U and Y are lists of several; a Forecaster's instance, by its number.
            horizon: of a Recurrent trained in closed loop: the steps of its free runs, each of which is a sequence.

        Raises:
            TypeError: the model has no method ``recurrence``, by which estimators describe themselves.
            InputError: it is not fitted, or has no recurrence to follow.

        Examples:
            >>> from retrograd.estimators import StateSpace
            >>> u = torch.randn(200, dtype=torch.float64).numpy()
            >>> y = 0.5 * u
            >>> y[1:] += u[:-1]
            >>> Sweep.of_estimator(StateSpace(order=2).fit(u, y), u, y).states.shape
            torch.Size([1, 199, 2])
        """
        describe, name = getattr(model, "recurrence", None), type(model).__name__
        if describe is None:
            raise TypeError(
                f"model is {name}, expected a StateSpace, Forecaster or Recurrent of retrograd.estimators, or another "
                "whose method recurrence(U, Y) returns the arguments of Sweep.of_scan or of Sweep.of_weights"
            )
        options = {"experiment": experiment} if experiment else {}
        options |= {} if horizon is None else {"horizon": horizon}
        for option in options.keys() - inspect.signature(describe).parameters.keys():
            raise InputError(f"{option} is {options[option]}: a {name} has none, leave it out")
        found = describe(U, Y, **options)
        return cls.of_scan(**found, made_of="system") if "A" in found else cls.of_weights(**found)


def require_sweep(caller: str, sweep: Any) -> None:
    """Raise ``TypeError``, which says how one is made, unless it is a :class:`Sweep`."""
    if isinstance(sweep, Sweep):
        return
    what = "a retrograd.insight.Sweep: Sweep.of_scan, of_weights, of_module and of_estimator make one"
    what = ONE_OF_THEM if isinstance(sweep, dict) else what
    raise TypeError(f"{caller}: sweep is {type(sweep).__name__}, expected {what}")


def _back(
    A: Tensor,
    states: Tensor,
    h0: Tensor,
    g: Tensor | None,
    g_final: Tensor | None,
    value: Any,
    made_of: str = "transition",
    first: Tensor | None = None,
) -> Sweep:
    """Run the adjoint; without a start it is 1 at the final state."""
    direct = torch.zeros_like(states) if g is None else g.to(states.dtype)
    if g_final is not None:
        direct = direct.clone()
        direct[:, -1] += g_final
    elif g is None:
        direct[:, -1] = 1
    transition = Diagonal(A) if A.ndim == 3 else Dense(A)
    delta, _, _ = select("auto", Spec.of(transition, direct)).adjoint(transition, direct, torch.zeros_like(h0))
    return Sweep(A, states, h0, direct, delta, None if value is None else float(value), made_of, first)


def _last_outputs(time_axis: int, output: Tensor) -> Tensor:
    return output.select(time_axis, -1).sum()


def _in_double(arrays: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if array is None else torch.as_tensor(array).detach().to(_wide(torch.as_tensor(array)))
        for name, array in arrays.items()
    }


def _double(*arrays: Any) -> list[Any]:
    """Return all of them as tensors in float64, or in complex128 where one is complex; None stays."""
    tensors = [None if array is None else torch.as_tensor(array) for array in arrays]
    complex_ = any(tensor is not None and tensor.is_complex() for tensor in tensors)
    dtype = torch.complex128 if complex_ else torch.float64
    return [None if tensor is None else tensor.detach().to(dtype) for tensor in tensors]


def _wide(array: Tensor) -> torch.dtype:
    return torch.complex128 if array.is_complex() else torch.float64
