"""Learning while a series comes in: a state that is carried on, and gradients that do not wait for the end.

The network is that of `bptt.py`, h_t = W_hh h_{t-1} + W_ih x_t + b, y_t = C h_t + c, and the loss is a sum over steps,
L = Σ ℓ_t(y_t). Its gradient is exact after every step (`online.py`), or cut off after a window of steps (`windows.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retrograd.core.backend import Backend, Spec, select
from retrograd.core.linear import step_sum
from retrograd.core.sequences import previous_states
from retrograd.core.transition import Dense, Diagonal, Transition
from retrograd.errors import require_shape
from retrograd.rnn.arguments import as_tensor
from retrograd.rnn.gradients import shapes
from retrograd.rnn.loss import Loss, loss_gradient
from retrograd.rnn.online import Influence
from retrograd.rnn.update import Slot, apply_update, assign_gradients
from retrograd.rnn.windows import Windows

__all__ = ["Fed", "Stream"]


@dataclass(frozen=True, repr=False, eq=False)
class Fed:
    """What one chunk gave: states ``(batch, time, hidden)``, outputs ``(batch, time, outputs)`` and the loss."""

    states: Tensor
    outputs: Tensor | None
    loss: Tensor | None

    def __repr__(self) -> str:
        return f"Fed({shapes(vars(self))})"


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
        loss_parameters: the sums so far of the gradients of other tensors that the loss reads and that require one, as
            the weights of a head, by the tensor.

    Raises:
        TypeError: a weight is no tensor, or is neither floating nor complex.
        ValueError: shapes do not fit, both kinds of gradient or a stride beyond the window are asked for, or the
            influence of dense weights would need more than 256 MB (the message says how much).

    Examples:
        >>> w, v = torch.tensor([0.5]), torch.tensor([[1.0]])
        >>> stream = Stream(weight_hh=w, weight_ih=v, online=True)
        >>> for x in (1.0, 2.0, 3.0):  # L = Σ h_t
        ...     fed = stream.feed(torch.tensor([[x]]), loss=torch.sum)
        >>> fed.states, stream.gradients["weight_hh"]
        (tensor([[4.2500]]), tensor([4.]))
        >>> stream.update(lr=0.1)
        >>> w
        tensor([0.1000])
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
        self._check_weights()
        if online and truncate is not None:
            raise ValueError("online=True and truncate were both given: a gradient is either exact or truncated")
        if stride is not None and truncate is None:
            raise ValueError("stride was given without truncate")
        if truncate is not None and not 1 <= (stride or truncate) <= truncate:
            raise ValueError(f"truncate is {truncate} and stride {stride}, expected 1 <= stride <= truncate")
        self._kind = {"online": online or None, "truncate": truncate, "stride": stride}
        self._learner: Influence | Windows | None = Influence() if online else None
        if truncate is not None:
            self._learner = Windows(truncate, stride or truncate)
        self._backend = backend
        self._h0 = h0
        self.state: Tensor | None = None if h0 is None else as_tensor("h0", h0)
        self.steps = 0
        self.gradients: dict[str, Tensor] = {}
        self.loss_parameters: dict[Tensor, Tensor] = {}

    def _check_weights(self) -> None:
        for name, weight in self._weights.items():
            as_tensor(name, weight)
        weight_hh, weight_ih = self._weights["weight_hh"], self._weights["weight_ih"]
        if weight_hh.ndim not in (1, 2) or weight_hh.shape[0] != weight_hh.shape[-1]:
            shape = tuple(weight_hh.shape)
            raise ValueError(f"weight_hh has shape {shape}, expected (hidden, hidden), or (hidden,) for a diagonal one")
        if weight_ih.ndim != 2:
            raise ValueError(f"weight_ih has shape {tuple(weight_ih.shape)}, expected (hidden, inputs)")
        self._hidden, self._inputs = weight_hh.shape[0], weight_ih.shape[1]
        outputs = self._weights["weight_out"].shape[0] if "weight_out" in self._weights else 0
        for name, axes, sizes in (
            ("weight_ih", ("hidden", "inputs"), (self._hidden, self._inputs)),
            ("bias", ("hidden",), (self._hidden,)),
            ("weight_out", ("outputs", "hidden"), (outputs, self._hidden)),
            ("bias_out", ("outputs",), (outputs,)),
        ):
            if name in self._weights:
                require_shape(name, self._weights[name], axes, sizes)

    def __repr__(self) -> str:
        arrays = {**self._weights, **self._kind, "steps": self.steps, "state": self.state, "gradients": self.gradients}
        return f"Stream({shapes({**arrays, 'loss_parameters': self.loss_parameters})})"

    def zero_grad(self) -> None:
        """Set the sums so far to zero: the next ones are of what is fed from now on."""
        self.gradients = {}
        self.loss_parameters = {}

    def assign(self) -> None:
        """Write the sums so far into ``.grad`` (replacing it) of given tensors and loss parameters that require one.

        Raises:
            ValueError: none of the tensors requires a gradient.
        """
        assign_gradients(self._slots(), "Stream")

    def update(self, optimizer: torch.optim.Optimizer | None = None, *, lr: float | None = None) -> None:
        """Update by the sums so far, which stay: call :meth:`zero_grad` for the next ones.

        Args:
            optimizer: any ``torch.optim`` optimizer over tensors that were given and loss parameters. Their ``.grad``
                is written and ``optimizer.step()`` called.
            lr: W ← W − lr ∂L/∂W in place, for every weight and bias given and every loss parameter.

        Raises:
            TypeError: both or neither of optimizer and lr.
            ValueError: the optimizer holds none of these tensors, or another one that nothing gave a gradient.
        """
        apply_update(self._slots(), optimizer, lr=lr, given_to="Stream")

    def _slots(self) -> list[Slot]:
        slots = [
            Slot(weight, self.gradients[name], True) for name, weight in self._weights.items() if name in self.gradients
        ]
        if self._h0 is not None and "h0" in self.gradients:
            slots.append(Slot(self._h0, self.gradients["h0"].sum_to_size(self._h0.shape), False))
        return slots + [Slot(p, gradient, p is not self._h0) for p, gradient in self.loss_parameters.items()]

    def feed(self, x: Tensor, *, loss: Loss | None = None, grad: Tensor | None = None) -> Fed:
        """Take in the next steps.

        Args:
            x: inputs, ``(batch, time, inputs)`` or ``(time, inputs)``, time ≥ 1.
            loss: a function of these steps' outputs (states, without ``weight_out``) that returns their summed loss; or
            grad: its gradient with respect to them.

        Raises:
            TypeError: x is no tensor, or is neither floating nor complex.
            ValueError: shapes do not fit, or both loss and grad are given.
        """
        x = as_tensor("x", x)
        if x.ndim not in (2, 3) or x.shape[-2] == 0 or x.shape[-1] != self._inputs:
            allowed = f"(batch, time, {self._inputs}) or (time, {self._inputs}), time ≥ 1"
            raise ValueError(f"x has shape {tuple(x.shape)}, expected {allowed}")
        if loss is not None and grad is not None:
            raise ValueError("loss and grad were both given: the gradient has one start")
        with torch.no_grad():
            return self._feed(x if x.ndim == 3 else x.unsqueeze(0), loss, grad, x.ndim == 3)

    def _feed(self, x: Tensor, loss: Loss | None, grad: Tensor | None, batched: bool) -> Fed:
        dtype = x.dtype
        for weight in self._weights.values():
            dtype = torch.promote_types(dtype, weight.dtype)
        w = {name: weight.detach().to(dtype) for name, weight in self._weights.items()}
        x = x.to(dtype)
        before = x.new_zeros(x.shape[0], self._hidden) if self.state is None else self.state.to(dtype)
        if before.ndim == 1:
            before = before.expand(x.shape[0], -1)
        require_shape("the state before x", before, ("batch", "hidden"), (x.shape[0], self._hidden))

        A = _transition(w["weight_hh"])
        backend = select(self._backend, Spec.of(A, x))
        states = backend.scan(A, backend.linear(x, w["weight_ih"], w.get("bias")), before)
        outputs = backend.linear(states, w["weight_out"], w.get("bias_out")) if "weight_out" in w else None
        values, value = states if outputs is None else outputs, None
        if loss is not None:
            value, grad = self._ask(loss, values if batched else values[0])
        if grad is not None:
            axes = ["batch", "time", "values"][int(not batched) :]
            require_shape("grad", grad, axes, values.shape[int(not batched) :])
            grad = grad.to(dtype).view(values.shape)
        direct = self._to_states(w, grad, states, backend)
        if self._learner is not None:
            self._learner.take(A, x, previous_states(states, before), direct, backend, self._add)
        self.steps += x.shape[1]
        self.state = states[:, -1] if batched else states[0, -1]
        return (
            Fed(states, outputs, value) if batched else Fed(states[0], None if outputs is None else outputs[0], value)
        )

    def flush(self) -> None:
        """With ``truncate``: let the losses of the steps since the last whole stride go back now."""
        if isinstance(self._learner, Windows) and self.state is not None:
            A = _transition(self._weights["weight_hh"].detach().to(self.state.dtype))
            with torch.no_grad():
                self._learner.flush(A, select(self._backend, Spec.of(A, self.state)), self._add)

    def _ask(self, loss: Loss, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and its gradient; what its own parameters learn needs no path through time."""
        found = loss_gradient(loss, values, self._weights.values())
        names = {id(weight): name for name, weight in self._weights.items()}
        for tensor, gradient in found.others.items():
            if id(tensor) in names:
                self._add(names[id(tensor)], gradient)
            else:
                before = self.loss_parameters.get(tensor)
                self.loss_parameters[tensor] = gradient if before is None else before + gradient
        return found.value, found.argument

    def _add(self, name: str, part: Tensor) -> None:
        given = self._weights.get(name, self._weights["weight_hh"])
        part = part.real if part.is_complex() and not given.is_complex() else part
        self.gradients[name] = self.gradients[name] + part if name in self.gradients else part

    def _to_states(self, w: dict[str, Tensor], grad: Tensor | None, states: Tensor, backend: Backend) -> Tensor:
        """Return ∂ℓ_t/∂h_t; what the output map learns needs no path through time."""
        if grad is None:
            return torch.zeros_like(states)
        if "weight_out" not in w:
            return grad
        self._add("weight_out", backend.outer_sum(grad, states))
        self._add("bias_out", step_sum(grad))
        return backend.linear(grad, w["weight_out"].mH)


def _transition(weight_hh: Tensor) -> Transition:
    return Diagonal(weight_hh) if weight_hh.ndim == 1 else Dense(weight_hh)
