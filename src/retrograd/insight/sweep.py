"""A sweep: one run forward and one back. Its numbers answer every question of :mod:`retrograd.insight`.

    h_t = A_t h_{t-1} + u_t          δ_T = g_T,  δ_{t-1} = g_{t-1} + A_t^H δ_t          G = Σ_t δ_t h_{t-1}^H

g_t is the gradient that the loss sends straight into step t, and G the gradient of what every A_t shares: ∂L/∂W_hh of a
linear RNN, in open or closed loop. All numbers are float64 (complex128), whatever the model's own precision.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from retrograd.core.backend import Spec, select
from retrograd.core.observe import Seen, observe
from retrograd.core.sequences import previous_states
from retrograd.core.transition import Dense, Diagonal, Transition
from retrograd.errors import InputError, require_shape
from retrograd.norms import norm
from retrograd.rnn.arguments import Arguments
from retrograd.rnn.loss import Loss, loss_gradient, scalar
from retrograd.rnn.steps import forward, initialise, serving

__all__ = ["ONE_OF_THEM", "Sweep", "require_sweep"]

# Says what to give in place of a dict of sweeps.
ONE_OF_THEM = "one of its sweeps, such as sweeps[0, 'forward']"
DIRECTIONS = ("forward", "backward")
# The loss looks at a step if ‖g_t‖ is at least this part of the largest in its sequence.
HEARD = 1e-3


@dataclass(frozen=True)
class Sweep:
    """The states of a recurrence and their gradients: B sequences of T steps with H states each.

    Made by :meth:`of_scan`, :meth:`of_weights`, :meth:`of_module` or :meth:`of_estimator`.

    Attributes:
        A: the transitions in normal form, ``(groups, 1 or T, H, H)``, diagonal ones ``(groups, 1 or T, H)``.
        states: h_t, ``(B, T, H)``.
        h0: h_0, ``(B, H)``.
        direct: g_t, ``(B, T, H)``.
        delta: δ_t, ``(B, T, H)``.
        loss: value of the loss function, if there was one.
        made_of: what A_t is: ``"transition"``, a parameter; ``"closed loop"``, W_hh + W_ih C at some step; or
            ``"system"``, the transition of an identified system, which is found, not chosen.
        first: A_1, ``(1, H, H)``, if it alone differs from A; no δ_t passes through it.
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
        """The steps, counted from 0, at which g_t is not zero in some sequence."""
        found: list[int] = (self.direct != 0).any(-1).any(0).nonzero().flatten().tolist()
        return found

    @cached_property
    def direct_norms(self) -> Tensor:
        """‖g_t‖ of every sequence, ``(B, T)``."""
        return norm(self.direct)

    @cached_property
    def heard(self) -> Tensor:
        """Mask ``(B, T)`` of the steps that the loss looks at: ‖g_t‖ is a thousandth or more of the largest."""
        size = self.direct_norms
        return (size >= HEARD * size.amax(1, keepdim=True)) & (size > 0)

    @cached_property
    def gradient(self) -> Tensor:
        """G = Σ δ_t h_{t-1}^H, ``(H, H)``; of a diagonal A its diagonal, ``(H,)``."""
        return self.gradients.sum(0)

    @cached_property
    def gradients(self) -> Tensor:
        """The part of each sequence in G, ``(B, H, H)``; of a diagonal A ``(B, H)``."""
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

        The gradient starts from ``grad_states`` and ``grad_final``, from ``loss``, or by default from 1 at the final
        state. Arrays may be tensors or NumPy's.

        Args:
            A: Dense or Diagonal transitions; A_t = 0 at a step where a sequence begins again.
            u: ``(batch, time, H)`` or ``(time, H)``.
            h0: ``(batch, H)`` (or ``(H,)``); zero by default.
            grad_states: ∂L/∂h_t straight from the loss, of u's shape.
            grad_final: ∂L/∂h_T, of h0's shape.
            loss: a function of the states that returns a scalar.
            made_of: what A_t is; see the attribute.

        Raises:
            ValueError: shapes do not fit, or the gradient has two starts.

        Examples:
            >>> sweep = Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(3, 1))
            >>> sweep.delta.squeeze().tolist(), sweep.gradient.tolist()
            ([0.25, 0.5, 1.0], [2.0])
        """
        if not isinstance(A, Transition):
            raise TypeError(f"A is {type(A).__name__}, expected retrograd.Dense(W) or retrograd.Diagonal(a)")
        u = torch.as_tensor(u)
        if u.ndim not in (2, 3) or 0 in u.shape:
            raise ValueError(
                f"u has shape {tuple(u.shape)}, expected (batch, time, H) or (time, H) with at least one of each"
            )
        if loss is not None and not (grad_states is None and grad_final is None):
            raise ValueError("loss was given together with grad_states or grad_final: the gradient has one start")
        A = A.plain()
        given = _double(A=A.normal(), u=u, h0=h0, grad_states=grad_states, grad_final=grad_final)
        a, drive, before, g, g_final = _with_a_batch(given, u.ndim)
        states, value = _scan(A.of([a]), drive, before), None
        if loss is not None:
            value, g, _ = loss_gradient(loss, states if u.ndim == 3 else states[0])
            g = g.reshape(states.shape)
        return _back(a, states, before, g, g_final, value, made_of)

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
        given = _double(x=x, weight_hh=weight_hh, weight_ih=weight_ih, bias=bias, h0=h0)
        given |= _double(weight_out=weight_out, bias_out=bias_out)
        p = Arguments(given, _double(grad_states=grad_states, grad_final=grad_final), feedback, loss)
        backend = serving(p, "auto")
        run = forward(p, backend)
        start = initialise(p, run, backend)
        runs = [(steps, A.normal()) for steps, A in p.transitions]
        first = None
        if len(runs) == 1:
            A = runs[0][1]
        elif len(runs) == 2 and runs[0][0].stop == 1:  # a loop that is closed from the second step on
            first, A = runs[0][1][0], runs[1][1]
        else:
            A = torch.cat([A.expand(-1, steps.stop - steps.start, -1, -1) for steps, A in runs], 1)
        made_of = "closed loop" if p.closed else "transition"
        return _back(A, run.states, p.h0, start.states, start.final, start.loss, made_of, first)

    @classmethod
    def of_module(
        cls, module: nn.Module, x: Any, loss: Loss | None = None, hx: Any = None
    ) -> dict[tuple[int, str], Sweep]:
        """Return a sweep for each scan that a module makes, such as each layer of a :class:`retrograd.nn.LinearRNN`.

        Args:
            module: the network. A copy of it runs in float64, without dropout.
            x: its input, ``(batch, time, I)`` or ``(time, I)``; of a module whose ``batch_first`` is false, as of
                ``LinearRNN`` by default, ``(time, batch, I)``.
            loss: a function of its output (of the first, if it returns several), in float64, that returns a scalar; by
                default the sum of the last output of every sequence.
            hx: its second argument, the initial states of a ``LinearRNN``.

        Returns:
            Sweeps by ``(layer, "forward")`` and ``(layer, "backward")``. Time is reversed in the second, so that every
            sweep goes from the first step that the layer reads to the last. The layers of a module of your own are its
            scans, in the order in which they run.

        Raises:
            TypeError: the module makes no scan, or x is packed.
            InputError: a scan has ``lengths``, ``cu_seqlens`` or ``reset``.
            ValueError: x is empty, or the loss is no scalar that depends on the output.

        Examples:
            >>> from retrograd.nn import LinearRNN
            >>> sweeps = Sweep.of_module(LinearRNN(3, 8, num_layers=2), torch.randn(20, 4, 3))
            >>> list(sweeps), sweeps[1, "forward"].states.shape
            ([(0, 'forward'), (1, 'forward')], torch.Size([4, 20, 8]))
        """
        if isinstance(x, PackedSequence):
            raise TypeError("x is a PackedSequence, expected a tensor: give each sequence by itself, or padded")
        # The input asks for its gradient, and so do all states, even if the weights are frozen.
        x = torch.as_tensor(x).detach().double().requires_grad_()
        if 0 in x.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected at least one step, sequence and input")
        scans: list[Seen] = []
        with observe(scans.append):
            twin = copy.deepcopy(module).double().eval()
            output = twin(x) if hx is None else twin(x, torch.as_tensor(hx).detach().double())
        if not scans:
            raise TypeError(
                f"module is {type(module).__name__}, which makes no retrograd.scan; of other layers "
                "retrograd.insight.Recorder sees the gradient"
            )
        output = output[0] if isinstance(output, tuple) else output
        if loss is None:
            value = output.select(-2 if getattr(module, "batch_first", True) or x.ndim == 2 else 0, -1).sum()
        else:
            value = scalar(loss(output))
        return _of_scans(scans, value, getattr(module, "bidirectional", False))

    @classmethod
    def of_estimator(cls, model: Any, U: Any, Y: Any, *, experiment: int = 0, horizon: int | None = None) -> Sweep:
        """Return the sweep of a fitted model over data; its loss is the model's error.

        Args:
            model: a :class:`retrograd.estimators.StateSpace`, :class:`retrograd.estimators.Forecaster` with diagonal or
                dense states, or :class:`retrograd.estimators.Recurrent`. Its method ``recurrence`` says which states
                and which loss these are.
            U: inputs as the model's ``fit`` takes them (a Forecaster's X); None for none.
            Y: outputs or targets (a Forecaster's y).
            experiment: the number of the experiment, if U and Y are lists; of a Forecaster the number of the instance.
            horizon: steps of the free runs of a Recurrent trained in closed loop, each of which is a sequence.

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
    """Run the adjoint, from 1 at the final state if no gradient is given."""
    direct = torch.zeros_like(states) if g is None else g.to(states.dtype)
    if g_final is not None:
        direct = direct.clone()
        direct[:, -1] += g_final
    elif g is None:
        direct[:, -1] = 1
    transition = Diagonal(A) if A.ndim == 3 else Dense(A)
    delta, _, _ = select("auto", Spec.of(transition, direct)).adjoint(transition, direct, torch.zeros_like(h0))
    return Sweep(A, states, h0, direct, delta, None if value is None else float(value), made_of, first)


def _of_scans(scans: list[Seen], value: Tensor, bidirectional: bool) -> dict[tuple[int, str], Sweep]:
    """Return the sweep of each scan of a graph that led to a loss; of a bidirectional layer there are two."""
    places = [place for scan in scans for place in (scan.states, scan.final)]
    direct = iter(torch.autograd.grad(value, places, allow_unused=True))
    sweeps = {}
    for number, (scan, g, g_final) in enumerate(zip(scans, direct, direct, strict=True)):
        if scan.sequences is not None:
            raise InputError("the module's scan has lengths, cu_seqlens or reset: give each sequence by itself")
        A, h = scan.A.plain().normal().detach(), scan.states.detach()
        g = torch.zeros_like(h) if g is None else g  # a loss may look at the other direction alone
        A, h, g = (part.flip(1) for part in (A, h, g)) if scan.reverse else (A, h, g)
        at = (number // 2 if bidirectional else number, DIRECTIONS[scan.reverse])
        sweeps[at] = _back(A, h, scan.h0.detach(), g, g_final, value.detach())
    return sweeps


def _with_a_batch(given: dict[str, Any], rank: int) -> list[Any]:
    """Check the arrays of a scan of u of this rank; return A, u, h0, grad_states and grad_final with a batch axis."""
    a, missing = given["A"], 3 - rank
    batch, time, width = (1,) * missing + tuple(given["u"].shape)
    if a.shape[-1] != width or a.shape[1] not in (1, time) or a.shape[0] not in (1, batch):
        raise ValueError(
            f"A has {a.shape[0]} sequences, {a.shape[1]} steps and {a.shape[-1]} states, u has {batch}, {time} and "
            f"{width}: expected the same, or 1 sequence or step for all"
        )
    found = [a]
    for name in ("u", "h0", "grad_states", "grad_final"):
        timed, array = name in ("u", "grad_states"), given[name]
        axes, sizes = ["batch", *["time"] * timed, "H"], [batch, *[time] * timed, width]
        if array is not None:
            require_shape(name, array, axes[missing:], sizes[missing:])
            array = array.reshape(sizes)
        found.append(array)
    found[2] = a.new_zeros(batch, width) if found[2] is None else found[2]
    return found


def _scan(A: Transition, u: Tensor, h0: Tensor) -> Tensor:
    return select("auto", Spec.of(A, u)).scan(A, u, h0)


def _double(**arrays: Any) -> dict[str, Any]:
    """Return all arrays as tensors in float64, or in complex128 if one is complex; None stays None."""
    tensors = {name: None if array is None else torch.as_tensor(array) for name, array in arrays.items()}
    complex_ = any(tensor is not None and tensor.is_complex() for tensor in tensors.values())
    dtype = torch.complex128 if complex_ else torch.float64
    return {name: None if tensor is None else tensor.detach().to(dtype) for name, tensor in tensors.items()}
