"""Learning while a series comes in: a state that is carried on, and gradients that do not wait for the end.

The network is that of `bptt.py`, h_t = W_hh h_{t-1} + W_ih x_t + b, y_t = C h_t + c, and the loss is a sum
over steps, L = Σ ℓ_t(y_t). With z_t = (h_{t-1}, x_t, 1), what each row of (W_hh, W_ih, b) multiplies:

    online      real-time recurrent learning (Williams, Zipser 1989): the influence P_t = ∂h_t/∂(W_hh, W_ih, b) is
                itself a scan, P_t = W_hh P_{t-1} + I ⊗ z_t, and ∂L/∂(...) = Σ_t P_t^H ∂ℓ_t/∂h_t. Exact after every
                step. A diagonal W_hh keeps it to one number a weight; a dense one has H of them.
    truncated   BPTT(k; s) (Williams, Peng 1990): every s steps, the losses of these s steps go back through the last k
                steps, on the state before which they are taken not to depend. All of it at once, as a batch of windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrograd.backends.pool import linear
from retrograd.core.backend import Backend, Spec, select
from retrograd.core.sequences import previous_states
from retrograd.core.transition import Dense, Diagonal, Transition
from retrograd.errors import require_shape
from retrograd.norms import norm
from retrograd.rnn.arguments import Loss, as_tensor, gradient_of
from retrograd.rnn.bptt import bptt

__all__ = ["Fed", "Stream", "TruncationError", "truncation_error"]

# Elements of the longest array that a chunk is worked on with at one time.
_PIECE = 1 << 22
# Bytes of the influence of dense weights on the states beyond which it is refused.
_MOST_INFLUENCE = 1 << 28


@dataclass(frozen=True)
class Fed:
    """What one chunk gave: states ``(batch, time, hidden)``, outputs ``(batch, time, outputs)`` and the loss."""

    states: Tensor
    outputs: Tensor | None
    loss: Tensor | None


class Stream:
    """A linear RNN that is fed chunk by chunk.

    Args:
        weight_hh: W_hh, ``(hidden, hidden)``, or ``(hidden,)`` where it is diagonal. Tensors, real or complex; they are
            read at every chunk, so that updates in place take effect from the next one on.
        weight_ih: W_ih, ``(hidden, inputs)``.
        bias: b, ``(hidden,)``.
        weight_out: C, ``(outputs, hidden)``.
        bias_out: c, ``(outputs,)``.
        h0: state before the first step, ``(batch, hidden)`` or ``(hidden,)``; zero by default.
        truncate: k: gradients by truncated backpropagation through the last k steps.
        stride: s, at most k: how many steps' losses go back together; k by default.
        online: exact gradients by real-time recurrent learning. Neither: the state alone is carried.
        backend: as in :func:`retrograd.scan`.

    Attributes:
        state: h_t, ``(batch, hidden)``, or ``(hidden,)`` when fed without a batch axis; None before the first chunk if
            no h0 was given.
        steps: how many steps have been fed.
        gradients: the sums so far, by name: weight_hh, weight_ih, bias, weight_out, bias_out, h0. With ``truncate``
            they hold the losses of whole strides; :meth:`flush` takes in the steps since the last one.

    Raises:
        ValueError: shapes do not fit, both kinds of gradient or a stride beyond the window are asked for, or the
            influence of dense weights would need more than 256 MB (the message says how much).

    Examples:
        >>> w, v = torch.tensor([0.5]), torch.tensor([[1.0]])
        >>> stream = Stream(weight_hh=w, weight_ih=v, online=True)
        >>> for x in (1.0, 2.0, 3.0):  # L = Σ h_t
        ...     fed = stream.feed(torch.tensor([[x]]), loss=torch.sum)
        >>> fed.states, stream.gradients["weight_hh"]
        (tensor([[4.2500]]), tensor([4.]))
    """

    def __init__(
        self,
        *,
        weight_hh: Tensor,
        weight_ih: Tensor,
        bias: Tensor | None = None,
        weight_out: Tensor | None = None,
        bias_out: Tensor | None = None,
        h0: Tensor | None = None,
        truncate: int | None = None,
        stride: int | None = None,
        online: bool = False,
        backend: str = "auto",
    ) -> None:
        given = {
            "weight_hh": weight_hh,
            "weight_ih": weight_ih,
            "bias": bias,
            "weight_out": weight_out,
            "bias_out": bias_out,
        }
        self._weights = {name: w for name, w in given.items() if w is not None}
        for name, weight in self._weights.items():
            as_tensor(name, weight)
        if weight_hh.ndim not in (1, 2) or weight_hh.shape[0] != weight_hh.shape[-1]:
            shape = tuple(weight_hh.shape)
            raise ValueError(f"weight_hh has shape {shape}, expected (hidden, hidden), or (hidden,) for a diagonal one")
        self._diagonal, self._hidden = weight_hh.ndim == 1, weight_hh.shape[0]
        if weight_ih.ndim != 2:
            raise ValueError(f"weight_ih has shape {tuple(weight_ih.shape)}, expected (hidden, inputs)")
        self._inputs = weight_ih.shape[1]
        outputs = 0 if weight_out is None else weight_out.shape[0]
        for name, axes, sizes in (
            ("weight_ih", ("hidden", "inputs"), (self._hidden, self._inputs)),
            ("bias", ("hidden",), (self._hidden,)),
            ("weight_out", ("outputs", "hidden"), (outputs, self._hidden)),
            ("bias_out", ("outputs",), (outputs,)),
        ):
            if name in self._weights:
                require_shape(name, self._weights[name], axes, sizes)
        if online and truncate is not None:
            raise ValueError("online=True and truncate were both given: a gradient is either exact or truncated")
        if stride is not None and truncate is None:
            raise ValueError("stride was given without truncate")
        if truncate is not None and not 1 <= (stride or truncate) <= truncate:
            raise ValueError(f"truncate is {truncate} and stride {stride}, expected 1 <= stride <= truncate")
        self._window, self._stride, self._online = truncate, stride or truncate or 0, online
        self._backend = backend
        self._h0 = None if h0 is None else as_tensor("h0", h0)
        self.state: Tensor | None = self._h0
        self.steps = 0
        self.gradients: dict[str, Tensor] = {}
        self._influence: Tensor | None = None
        self._past: dict[str, Tensor] = {}  # of truncation: x, h_{t-1} and ∂ℓ_t/∂h_t of the steps still needed
        self._past_begin = self._taken = 0  # its first step, and the steps whose losses have gone back

    def zero_grad(self) -> None:
        """Set the sums so far to zero: the next ones are of what is fed from now on."""
        self.gradients = {}

    def feed(self, x: Tensor, *, loss: Loss | None = None, grad: Tensor | None = None) -> Fed:
        """Take in the next steps.

        Args:
            x: inputs, ``(batch, time, inputs)`` or ``(time, inputs)``, time ≥ 1.
            loss: a function of these steps' outputs (states, without ``weight_out``) that returns their summed loss; or
            grad: its gradient with respect to them.

        Raises:
            ValueError: shapes do not fit, or both loss and grad are given.
        """
        x = as_tensor("x", x)
        if x.ndim not in (2, 3) or x.shape[-2] == 0 or x.shape[-1] != self._inputs:
            allowed = f"(batch, time, {self._inputs}) or (time, {self._inputs}), time ≥ 1"
            raise ValueError(f"x has shape {tuple(x.shape)}, expected {allowed}")
        if loss is not None and grad is not None:
            raise ValueError("loss and grad were both given: the gradient has one start")
        batched = x.ndim == 3
        w = {name: weight.detach() for name, weight in self._weights.items()}
        dtype = x.dtype
        for weight in w.values():
            dtype = torch.promote_types(dtype, weight.dtype)
        w = {name: weight.to(dtype) for name, weight in w.items()}
        x = (x if batched else x.unsqueeze(0)).to(dtype)
        before = x.new_zeros(x.shape[0], self._hidden) if self.state is None else self.state.to(dtype)
        if before.ndim == 1:
            before = before.expand(x.shape[0], -1)
        require_shape("the state before x", before, ("batch", "hidden"), (x.shape[0], self._hidden))

        with torch.no_grad():
            A = self._transition(w["weight_hh"])
            kernels = select(self._backend, Spec.of(A, x))
            states = kernels.scan(A, linear(x, w["weight_ih"], w.get("bias")), before)
            outputs = linear(states, w["weight_out"], w.get("bias_out")) if "weight_out" in w else None
            values, value = states if outputs is None else outputs, None
            if loss is not None:
                value, grad = gradient_of(loss, values if batched else values[0])
            if grad is not None:
                axes = ["batch", "time", "values"][int(not batched) :]
                require_shape("grad", grad, axes, values.shape[int(not batched) :])
                grad = grad.to(dtype).view(values.shape)
            direct = self._to_states(kernels, w, grad, states)
            previous = previous_states(states, before, False)
            if self._online:
                self._follow(kernels, A, x, previous, direct)
            elif self._window is not None:
                self._keep(x, previous, direct)
                self._go_back(kernels, A, self.steps + x.shape[1])
        self.steps += x.shape[1]
        self.state = states[:, -1] if batched else states[0, -1]
        return (
            Fed(states, outputs, value) if batched else Fed(states[0], None if outputs is None else outputs[0], value)
        )

    def flush(self) -> None:
        """With ``truncate``: let the losses of the steps since the last whole stride go back now."""
        if self._past:
            with torch.no_grad():
                A = self._transition(self._weights["weight_hh"].detach().to(self._past["direct"].dtype))
                kernels = select(self._backend, Spec.of(A, self._past["direct"]))
                self._go_back(kernels, A, self.steps, whole=False)

    def _transition(self, weight_hh: Tensor) -> Transition:
        return Diagonal(weight_hh) if self._diagonal else Dense(weight_hh)

    def _add(self, name: str, part: Tensor) -> None:
        given = self._weights.get(name, self._weights["weight_hh"])
        part = part.real if part.is_complex() and not given.is_complex() else part
        self.gradients[name] = self.gradients[name] + part if name in self.gradients else part

    def _to_states(self, kernels: Backend, w: dict[str, Tensor], grad: Tensor | None, states: Tensor) -> Tensor:
        """Return ∂ℓ_t/∂h_t; what the output map learns needs no path through time."""
        if grad is None:
            return torch.zeros_like(states)
        if "weight_out" not in w:
            return grad
        self._add("weight_out", kernels.outer_sum(grad, states))
        self._add("bias_out", grad.sum((0, 1)))
        return linear(grad, w["weight_out"].mH)

    # --- real-time recurrent learning ---

    def _follow(self, kernels: Backend, A: Transition, x: Tensor, previous: Tensor, direct: Tensor) -> None:
        """Carry the influence on, and add Σ_t P_t^H ∂ℓ_t/∂h_t.

        Its last axis is a state, k; before it stand the weight's row i (k = i alone where W_hh is diagonal) and what
        the weight multiplies, m: h_{t-1}, x_t, 1, and, for h_0, nothing.
        """
        batch, time, hidden = previous.shape
        own = 1 if self._diagonal else hidden
        sources, across = own + self._inputs + 2, 1 if self._diagonal else hidden
        if self._influence is None:
            size = batch * hidden * across * sources * previous.element_size()
            if not self._diagonal and size > _MOST_INFLUENCE:
                raise ValueError(
                    f"online=True with a dense weight_hh of {hidden} states needs an influence of {size >> 20} MB, "
                    f"expected at most {_MOST_INFLUENCE >> 20} MB: use truncate=, or a diagonal weight_hh"
                )
            self._influence = previous.new_zeros(batch, across, sources, hidden)
            self._influence[:, :, -1] = 1 if self._diagonal else torch.eye(hidden, dtype=previous.dtype)
        if self._influence.shape[0] != batch:
            raise ValueError(f"x has batch {batch}, the chunks before had {self._influence.shape[0]}")
        gradient = torch.zeros_like(self._influence[:, 0, :, :].mT if self._diagonal else self._influence[..., 0])
        for at in _pieces(time, batch * across * sources * hidden):
            steps = at.stop - at.start
            z = torch.cat((previous[:, at], x[:, at], x.new_ones(batch, steps, 1), x.new_zeros(batch, steps, 1)), 2)
            if self._diagonal:
                # (batch, time, m, k): the first source of row k is h_{t-1,k}.
                drive = z[..., hidden - 1 :, None].repeat(1, 1, 1, hidden)
                drive[:, :, 0] = z[..., :hidden]
                rates = Diagonal(A.normal().expand(-1, -1, hidden).repeat(1, 1, sources))
                P = kernels.scan(rates, drive.flatten(2), self._influence.flatten(1)).view_as(drive)
                gradient += (direct[:, at, None] * P.conj()).sum(1).mT
                self._influence = P[:, -1].unsqueeze(1)
                continue
            drive = z.new_zeros(batch, hidden, sources, steps, hidden)
            drive.diagonal(dim1=1, dim2=4).copy_(z.mT.unsqueeze(-1).expand(-1, -1, -1, hidden))
            P = kernels.scan(A, drive.flatten(0, 2), self._influence.flatten(0, 2)).view_as(drive)
            gradient += torch.einsum("btk,bimtk->bim", direct[:, at], P.conj())
            self._influence = P[..., -1, :]
        self._add("weight_hh", gradient[..., :own].sum(0).squeeze(1) if self._diagonal else gradient[..., :own].sum(0))
        self._add("weight_ih", gradient[..., own:-2].sum(0))
        self._add("bias", gradient[..., -2].sum(0))
        self._add("h0", gradient[..., -1])

    # --- truncated backpropagation ---

    def _keep(self, *new: Tensor) -> None:
        for name, array in zip(("x", "previous", "direct"), new, strict=True):
            self._past[name] = torch.cat((self._past[name], array), 1) if name in self._past else array

    def _go_back(self, kernels: Backend, A: Transition, end: int, *, whole: bool = True) -> None:
        """Let the losses up to ``end`` go back, stride by stride."""
        assert self._window is not None
        stops = list(range(self._taken + self._stride, end + 1, self._stride))
        if not whole and self._taken < end and (not stops or stops[-1] < end):
            stops.append(end)
        batch, _, hidden = self._past["previous"].shape
        # Windows cut short by the beginning or by a flush come alone, the others many at a time.
        groups: dict[tuple[int, int], list[int]] = {}
        for stop in stops:
            fresh, self._taken = stop - self._taken, stop
            groups.setdefault((min(self._window, stop), fresh), []).append(stop)
        for (length, fresh), ends in groups.items():
            for at in _pieces(len(ends), batch * length * max(hidden, self._inputs)):
                self._windows(kernels, A, length, fresh, ends[at])
        kept = max(0, self._taken + 1 - self._window) if whole else max(0, end - self._window)
        if kept > self._past_begin:
            self._past = {name: array[:, kept - self._past_begin :] for name, array in self._past.items()}
            self._past_begin = kept

    def _windows(self, kernels: Backend, A: Transition, length: int, fresh: int, ends: Sequence[int]) -> None:
        steps = torch.tensor(ends)[:, None] - self._past_begin + torch.arange(-length, 0)
        x, previous, direct = (self._past[name][:, steps].flatten(0, 1) for name in ("x", "previous", "direct"))
        direct[:, : length - fresh] = 0
        nothing = torch.zeros_like(direct[:, 0])
        delta, d_h0, _ = kernels.adjoint(A, direct, nothing)
        if self._diagonal:
            self._add("weight_hh", (delta * previous.conj()).sum((0, 1)))
        else:
            self._add("weight_hh", kernels.outer_sum(delta, previous))
        self._add("weight_ih", kernels.outer_sum(delta, x))
        self._add("bias", delta.sum((0, 1)))
        if ends[0] == length:  # it reaches the first step
            self._add("h0", d_h0.view(-1, len(ends), d_h0.shape[1])[:, 0])


def _pieces(count: int, elements: int) -> Iterator[slice]:
    """Yield slices of 0..count that take ``_PIECE`` elements at most, where one item takes ``elements``."""
    size = max(1, _PIECE // max(1, elements))
    for begin in range(0, count, size):
        yield slice(begin, min(begin + size, count))


@dataclass(frozen=True)
class TruncationError:
    """How far the gradient of (W_hh, W_ih, b) through a window of ``truncate`` steps is from the whole one.

    Attributes:
        truncate: the window k.
        relative: ‖g_k − g‖ / ‖g‖.
        cosine: the cosine of the angle between g_k and g.
    """

    truncate: int
    relative: float
    cosine: float


def truncation_error(
    x: Tensor,
    windows: Sequence[int],
    *,
    loss: Loss,
    weight_hh: Tensor,
    weight_ih: Tensor,
    stride: int = 1,
    **others: Any,
) -> list[TruncationError]:
    """Measure truncated backpropagation against the whole gradient, for each window.

    Args:
        x: inputs, ``(batch, time, inputs)`` or ``(time, inputs)``.
        windows: the windows k.
        loss: as :func:`retrograd.bptt` takes it.
        weight_hh: ``(hidden, hidden)`` or ``(hidden,)``.
        weight_ih: ``(hidden, inputs)``.
        stride: s of every window, or k where that is less.
        **others: the other weights, as :class:`Stream` takes them.

    Examples:
        >>> w, v = torch.tensor([0.5]), torch.tensor([[1.0]])
        >>> errors = truncation_error(torch.ones(50, 1), [1, 4, 50], loss=torch.sum, weight_hh=w, weight_ih=v)
        >>> tuple(round(e.relative, 3) for e in errors)
        (0.49, 0.057, 0.0)
    """
    dense = weight_hh.detach().diag() if weight_hh.ndim == 1 else weight_hh
    whole = bptt(x, weight_hh=dense, weight_ih=weight_ih, loss=loss, memory="all", **others)
    names = ("weight_hh", "weight_ih", "bias")
    exact = {name: getattr(whole, name) for name in names}
    if weight_hh.ndim == 1:
        exact["weight_hh"] = exact["weight_hh"].diagonal()
    g = torch.cat([exact[name].flatten() for name in names])
    # Of length 1: a gradient that has exploded or vanished has no square.
    size = norm(g)
    g = g / size
    errors = []
    for window in windows:
        stream = Stream(weight_hh=weight_hh, weight_ih=weight_ih, truncate=window, stride=min(stride, window), **others)
        stream.feed(x, loss=loss)
        stream.flush()
        part = torch.cat([stream.gradients[name].flatten() for name in names]) / size
        cosine = torch.linalg.vecdot(part, g).real / norm(part)
        errors.append(TruncationError(window, norm(part - g).item(), cosine.item()))
    return errors
