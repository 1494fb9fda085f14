"""What :func:`retrograd.bptt` is asked: its arguments checked, brought to one form, and results brought back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.backends.pool import linear
from retrograd.core.sequences import previous_states
from retrograd.errors import require_shape

__all__ = ["Loss", "Problem", "as_tensor", "gradient_of", "scalar"]

Loss = Callable[[Tensor], Tensor]

# A run of equal steps is one time-invariant scan; a mask with more changes than this becomes one time-varying scan.
_MOST_RUNS = 32


class Problem:
    """The arguments of :func:`retrograd.bptt` as checked tensors of one dtype with a batch axis, and the way back."""

    def __init__(self, given: dict[str, Any], starts: dict[str, Any], feedback: Any, loss: Loss | None) -> None:
        arrays = {
            name: None if array is None else as_tensor(name, array) for name, array in {**given, **starts}.items()
        }
        x, W_hh, W_ih = (_present(arrays, name) for name in ("x", "weight_hh", "weight_ih"))
        if x.ndim not in (2, 3) or x.shape[-2] == 0:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected (batch, time, inputs) or (time, inputs) with time ≥ 1"
            )
        self.numpy = not isinstance(given["x"], Tensor)
        self.unbatched = x.ndim == 2
        self.dtypes = {name: array.dtype for name, array in arrays.items() if array is not None}
        self.dtype = _common_dtype(list(self.dtypes.values()))
        batch, time, inputs = (1, *x.shape) if self.unbatched else x.shape
        if W_hh.ndim != 2 or W_hh.shape[0] != W_hh.shape[1]:
            raise ValueError(f"weight_hh has shape {tuple(W_hh.shape)}, expected (hidden, hidden)")
        hidden = W_hh.shape[0]
        C, c = arrays["weight_out"], arrays["bias_out"]
        if C is None and c is not None:
            raise ValueError("bias_out was given without weight_out: y_t = C h_t + c needs C")
        if C is not None and C.ndim != 2:
            raise ValueError(f"weight_out has shape {tuple(C.shape)}, expected (outputs, hidden = {hidden})")
        self.outputs = 0 if C is None else C.shape[0]
        self.sizes: dict[str, tuple[int, ...]] = {
            "weight_hh": (hidden, hidden),
            "weight_ih": (hidden, inputs),
            "bias": (hidden,),
            "weight_out": (self.outputs, hidden),
            "bias_out": (self.outputs,),
        }
        rows: tuple[int, ...] = () if self.unbatched else (batch,)
        row_axes = [] if self.unbatched else ["batch"]
        shared_h0 = arrays["h0"] is not None and arrays["h0"].ndim == 1
        for name, axes, sizes in (
            ("weight_ih", ["hidden", "inputs"], self.sizes["weight_ih"]),
            ("bias", ["hidden"], self.sizes["bias"]),
            ("weight_out", ["outputs", "hidden"], self.sizes["weight_out"]),
            ("bias_out", ["outputs"], self.sizes["bias_out"]),
            ("grad_states", [*row_axes, "time", "hidden"], (*rows, time, hidden)),
            ("grad_final", [*row_axes, "hidden"], (*rows, hidden)),
            ("h0", ["hidden"], (hidden,)) if shared_h0 else ("h0", [*row_axes, "hidden"], (*rows, hidden)),
        ):
            array = arrays[name]
            if array is not None:
                require_shape(name, array, axes, sizes)
        for name, array in arrays.items():
            if array is not None and array.device != x.device:
                raise ValueError(f"{name} is on {array.device}, x on {x.device}: move both to one device")
        if loss is not None and not all(start is None for start in starts.values()):
            raise ValueError("loss was given together with grad_states or grad_final: the gradient has one start")

        def ready(array: Tensor | None, dims: int) -> Tensor | None:
            if array is None:
                return None
            array = array.to(self.dtype)
            return array.unsqueeze(0) if array.ndim < dims else array

        self.x = _present({"x": ready(x, 3)}, "x")
        self.W_hh, self.W_ih = W_hh.to(self.dtype), W_ih.to(self.dtype)
        self.C = ready(C, 2)
        self.c = x.new_zeros(self.outputs, dtype=self.dtype) if c is None else c.to(self.dtype)
        h0 = ready(arrays["h0"], 2)
        self.h0 = self.x.new_zeros(batch, hidden) if h0 is None else h0.expand(batch, hidden)
        self.grad_states, self.grad_final = ready(arrays["grad_states"], 3), ready(arrays["grad_final"], 2)
        self.loss = loss
        self.feedback = _feedback_mask(feedback, time, self.x.device)
        self.closed = bool(self.feedback.any())
        if self.closed and not 0 < self.outputs <= inputs:
            raise ValueError(
                f"feedback needs weight_out with at most {inputs} output{'s' if inputs > 1 else ''} (the features of "
                f"x), it has {self.outputs}: x_t = C h_(t-1) + c takes the place of x's first features"
            )
        consumed = self.x
        if self.closed:
            consumed = self.x.clone()
            consumed[:, self.feedback, : self.outputs] = self.c
        # The part of a step's input that does not depend on the state: u_t = W_ih x_t + b.
        bias = arrays["bias"]
        self.drive = linear(consumed, self.W_ih, None if bias is None else bias.to(self.dtype))
        self.consumed = consumed

    def transitions(self) -> list[tuple[slice, Tensor]]:
        """Return (steps, A) for each run of steps that one scan serves; A as the backends take it."""
        time = self.x.shape[1]
        open_loop = self.W_hh[None, None]
        if not self.closed:
            return [(slice(0, time), open_loop)]
        assert self.C is not None
        closed_loop = (self.W_hh + self.W_ih[:, : self.outputs] @ self.C)[None, None]
        changes = (self.feedback[1:] != self.feedback[:-1]).nonzero().flatten() + 1
        if len(changes) >= _MOST_RUNS:
            return [(slice(0, time), torch.where(self.feedback[:, None, None], closed_loop, open_loop))]
        ends = [*changes.tolist(), time]
        return [
            (slice(start, end), closed_loop if self.feedback[start] else open_loop)
            for start, end in zip([0, *ends], ends, strict=False)
        ]

    def consumed_inputs(self, states: Tensor) -> Tensor:
        """Return the x_t that each step consumed, fed-back outputs in their places."""
        if not self.closed:
            return self.x
        assert self.C is not None
        previous = previous_states(states, self.h0, False)
        self.consumed[:, self.feedback, : self.outputs] += previous[:, self.feedback] @ self.C.mT
        return self.consumed

    def initialise(self, states: Tensor, outputs: Tensor | None) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None]:
        """Step 1: return (loss value, ∂L/∂h_t straight from the loss, extra ∂L/∂h_T, ∂L/∂y_t or None)."""
        final = torch.zeros_like(states[:, 0])
        nothing = states.new_zeros(states.shape[-1]).expand(states.shape)
        if self.loss is None:
            if self.grad_states is None and self.grad_final is None:
                return None, nothing, torch.ones_like(final), None
            g = nothing if self.grad_states is None else self.grad_states
            return None, g, final if self.grad_final is None else self.grad_final, None
        argument = states if outputs is None else outputs
        value, gradient = gradient_of(self.loss, argument[0] if self.unbatched else argument)
        gradient = gradient.to(self.dtype).reshape(argument.shape)
        if self.C is None:
            return value, gradient, final, None
        return value, linear(gradient, self.C.mH), final, gradient

    def out(self, result: Tensor | None, name: str | None = None, *, batched: bool = True) -> Any:
        """Return a result in the caller's terms: batch axis, dtype of the argument it belongs to, kind of array."""
        if result is None:
            return None
        if batched and self.unbatched and result.ndim > 1:
            result = result[0]
        dtype = self.dtypes.get(name or "", result.dtype)
        if result.is_complex() and not dtype.is_complex:
            result = result.real
        result = result.to(dtype)
        return result.resolve_conj().numpy() if self.numpy else result


def _present(arrays: dict[str, Tensor | None], name: str) -> Tensor:
    array = arrays[name]
    if array is None:
        raise TypeError(f"{name} is None, expected an array")
    return array


def as_tensor(name: str, array: Any) -> Tensor:
    """Return a tensor or NumPy array as a tensor without history; raise ``TypeError`` where it is neither."""
    tensor = torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array
    if not isinstance(tensor, Tensor) or not (tensor.is_floating_point() or tensor.is_complex()):
        kind = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} is {kind}, expected a floating or complex tensor or NumPy array")
    return tensor.detach()


def _common_dtype(dtypes: list[torch.dtype]) -> torch.dtype:
    common = dtypes[0]
    for dtype in dtypes[1:]:
        common = torch.promote_types(common, dtype)
    return common


def _feedback_mask(feedback: Any, time: int, device: torch.device) -> Tensor:
    if feedback is None or isinstance(feedback, bool):
        return torch.full((time,), bool(feedback), device=device)
    mask = torch.as_tensor(feedback, device=device)
    if mask.dtype != torch.bool:
        raise TypeError(f"feedback has dtype {mask.dtype}, expected bool: true where the output is fed back")
    require_shape("feedback", mask, ("time",), (time,))
    return mask


def gradient_of(loss: Loss, argument: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient with respect to its argument."""
    with torch.enable_grad():
        leaf = argument.detach().requires_grad_()
        value = scalar(loss(leaf))
        (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def scalar(value: Any) -> Tensor:
    """Return what a loss returned, without axes; raise ``ValueError`` where no gradient can start from it."""
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss returned {shape}, expected a real scalar tensor")
    if not value.requires_grad:
        raise ValueError("loss returned a tensor that does not depend on its argument: no gradient can start")
    return value.reshape(())
