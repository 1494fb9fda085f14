"""The arguments of :func:`retrograd.bptt`, checked and in one form, and results brought back to the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.sequences import previous_states
from retrograd.core.transition import Dense
from retrograd.errors import require_shape
from retrograd.rnn.loss import Loss

__all__ = ["Arguments", "as_tensor", "common_dtype", "dtype_of", "require_one_start"]

# Each run of equal steps is one time-invariant scan; a mask with more changes than this becomes one time-varying scan.
_MOST_RUNS = 32
# And so does one whose values are on a GPU, where the host would wait for them, up to so many bytes of transitions:
# beyond, to make them costs more than to wait.
_MOST_UNREAD = 1 << 28

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)

_Arrays = dict[str, Tensor | None]


class Arguments:
    """The arguments of :func:`retrograd.bptt` as tensors of one dtype with a batch axis.

    Attributes:
        given: the network's arrays as they were given, without those that were not.
        unbatched: whether x came without a batch axis.
        x: ``(batch, time, inputs)``.
        W_hh: ``(hidden, hidden)``.
        W_ih: ``(hidden, inputs)``.
        b: ``(hidden,)``, or None.
        C: ``(outputs, hidden)``, or None.
        c: ``(outputs,)``; zero by default.
        h0: ``(batch, hidden)``; zero by default.
        grad_states: ``(batch, time, hidden)``, or None.
        grad_final: ``(batch, hidden)``, or None.
        loss: the function, or None.
        feedback: bool ``(time,)``.
        closed: whether feedback is true at some step, as far as the host knows.
        outputs: the number of outputs, 0 without C.
        sizes: the shape of each weight, by its name as an argument.
        dtype: of all of them: the common one of the arguments and ``dtype``, where that is given.

    Raises:
        TypeError: an argument is no array, or is neither floating nor complex.
        ValueError: shapes or devices do not fit, or a request contradicts another.
    """

    x: Tensor
    W_hh: Tensor
    W_ih: Tensor
    b: Tensor | None
    C: Tensor | None
    c: Tensor
    h0: Tensor
    grad_states: Tensor | None
    grad_final: Tensor | None

    def __init__(
        self,
        given: dict[str, Any],
        starts: dict[str, Any],
        feedback: Any,
        loss: Loss | None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name in ("x", "weight_hh", "weight_ih"):
            if given[name] is None:
                raise TypeError(f"{name} is None, expected an array")
        require_one_start(loss, starts)
        arrays: _Arrays = {
            name: None if array is None else as_tensor(name, array) for name, array in {**given, **starts}.items()
        }
        self.given = {name: array for name, array in given.items() if array is not None}
        self.loss = loss
        self._numpy = not isinstance(given["x"], Tensor)
        self._dtypes = {name: array.dtype for name, array in arrays.items() if array is not None}
        self._check(arrays)
        self.dtype = common_dtype(list(self._dtypes.values()) if dtype is None else [*self._dtypes.values(), dtype])
        self._bring_to_one_form(arrays)
        self._set_feedback(feedback)

    def _check(self, arrays: _Arrays) -> None:
        x, W_hh, C = arrays["x"], arrays["weight_hh"], arrays["weight_out"]
        assert x is not None
        assert W_hh is not None
        if x.ndim not in (2, 3) or x.shape[-2] == 0:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected (batch, time, inputs) or (time, inputs) with time ≥ 1"
            )
        if W_hh.ndim != 2 or W_hh.shape[0] != W_hh.shape[1]:
            raise ValueError(f"weight_hh has shape {tuple(W_hh.shape)}, expected (hidden, hidden)")
        self.unbatched = x.ndim == 2
        hidden, (time, inputs) = W_hh.shape[0], x.shape[-2:]
        if C is None and arrays["bias_out"] is not None:
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
        rows, batch = ([], ()) if self.unbatched else (["batch"], x.shape[:1])
        h0 = arrays["h0"]
        shared_h0 = h0 is not None and h0.ndim == 1
        for name, axes, sizes in (
            ("weight_ih", ["hidden", "inputs"], self.sizes["weight_ih"]),
            ("bias", ["hidden"], self.sizes["bias"]),
            ("weight_out", ["outputs", "hidden"], self.sizes["weight_out"]),
            ("bias_out", ["outputs"], self.sizes["bias_out"]),
            ("grad_states", [*rows, "time", "hidden"], (*batch, time, hidden)),
            ("grad_final", [*rows, "hidden"], (*batch, hidden)),
            ("h0", ["hidden"], (hidden,)) if shared_h0 else ("h0", [*rows, "hidden"], (*batch, hidden)),
        ):
            array = arrays[name]
            if array is not None:
                require_shape(name, array, axes, sizes)
        for name, array in arrays.items():
            if array is not None and array.device != x.device:
                raise ValueError(f"{name} is on {array.device}, x on {x.device}: move both to one device")

    def _bring_to_one_form(self, arrays: _Arrays) -> None:
        def ready(name: str, dims: int) -> Tensor | None:
            array = arrays[name]
            if array is None:
                return None
            array = array.to(self.dtype)
            return array.unsqueeze(0) if array.ndim < dims else array

        def required(name: str, dims: int) -> Tensor:
            array = ready(name, dims)
            assert array is not None
            return array

        self.x, self.W_hh, self.W_ih = required("x", 3), required("weight_hh", 2), required("weight_ih", 2)
        self.b, self.C = ready("bias", 1), ready("weight_out", 2)
        c, h0 = ready("bias_out", 1), ready("h0", 2)
        self.c = self.x.new_zeros(self.outputs) if c is None else c
        batch, hidden = self.x.shape[0], self.W_hh.shape[0]
        self.h0 = self.x.new_zeros(batch, hidden) if h0 is None else h0.expand(batch, hidden)
        self.grad_states, self.grad_final = ready("grad_states", 3), ready("grad_final", 2)

    def _set_feedback(self, feedback: Any) -> None:
        time, inputs = self.x.shape[1:]
        # What the host knows of it: one value for all steps, every step's, or nothing.
        self._known: bool | Tensor | None
        fits = 0 < self.outputs <= inputs
        if feedback is None or isinstance(feedback, bool):
            self._known = bool(feedback)
            self.feedback = torch.full((time,), self._known, device=self.x.device)
        else:
            mask = torch.as_tensor(feedback)
            if mask.dtype != torch.bool:
                raise TypeError(f"feedback has dtype {mask.dtype}, expected bool: true where the output is fed back")
            require_shape("feedback", mask, ("time",), (time,))
            self.feedback = mask.to(self.x.device)
            unread = time * self.W_hh.nbytes <= _MOST_UNREAD and fits
            on_host = self.x.device.type == "cpu" or mask.device.type == "cpu" or not unread
            self._known = mask.cpu() if on_host else None
            if on_host and not bool(mask.any()):
                self._known = False
        self.closed = self._known is not False
        if self.closed and not fits:
            raise ValueError(
                f"feedback needs weight_out with at most {inputs} output{'s' if inputs > 1 else ''} (the features of "
                f"x), it has {self.outputs}: x_t = C h_(t-1) + c takes the place of x's first features"
            )

    @cached_property
    def transitions(self) -> list[tuple[slice, Dense]]:
        """(steps, A) of each run of steps that one scan serves."""
        time = self.x.shape[1]
        open_loop = Dense(self.W_hh)
        if not self.closed:
            return [(slice(0, time), open_loop)]
        assert self.C is not None
        closed_loop = Dense(self.W_hh + self.W_ih[:, : self.outputs] @ self.C)
        if self._known is True:
            return [(slice(0, time), closed_loop)]
        if isinstance(self._known, Tensor):
            changes = (self._known[1:] != self._known[:-1]).nonzero().flatten() + 1
            if len(changes) < _MOST_RUNS:
                ends = [*changes.tolist(), time]
                return [
                    (slice(start, end), closed_loop if self._known[start] else open_loop)
                    for start, end in zip([0, *ends], ends, strict=False)
                ]
        return [(slice(0, time), Dense(torch.where(self.feedback[:, None, None], closed_loop.W, open_loop.W)))]

    def inputs(self, states: Tensor | None = None) -> Tensor:
        """Return the x_t that each step consumes: C h_{t-1} + c where fed back, without states the part c of it."""
        if not self.closed:
            return self.x
        made = self.c
        if states is not None:
            assert self.C is not None
            made = previous_states(states, self.h0) @ self.C.mT + self.c
        fed = torch.where(self.feedback[:, None], made, self.x[..., : self.outputs])
        return torch.cat((fed, self.x[..., self.outputs :]), -1)

    def sum_of_h0(self, gradient: Tensor) -> Tensor:
        """Return ∂L/∂h_0 of ``(batch, hidden)`` summed over the batch where all of it started from one h0."""
        shared = "h0" in self.given and self.given["h0"].ndim == 1
        return gradient.sum(0, keepdim=self.unbatched) if shared else gradient

    def to_caller(self, result: Tensor | None, name: str | None = None, *, batched: bool = True) -> Any:
        """Return a result in the caller's terms: batch axis, dtype of the argument ``name``, kind of array."""
        if result is None:
            return None
        if batched and self.unbatched and result.ndim > 1:
            result = result[0]
        dtype = self._dtypes.get(name or "", result.dtype)
        if result.is_complex() and not dtype.is_complex:
            result = result.real
        result = result.to(dtype)
        return result.resolve_conj().numpy() if self._numpy else result


def dtype_of(name: str, array: Any) -> torch.dtype:
    """Return the dtype of :func:`as_tensor`, without reading an array that may be mapped from a file."""
    return as_tensor(name, np.empty(0, array.dtype) if isinstance(array, np.ndarray) else array).dtype


def common_dtype(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    """Return the dtype that all of these are promoted to."""
    return reduce(torch.promote_types, dtypes)


def require_one_start(loss: object, starts: dict[str, Any]) -> None:
    """Raise ``ValueError`` where both a loss and a gradient were given."""
    if loss is not None and any(start is not None for start in starts.values()):
        raise ValueError("loss was given together with grad_states or grad_final: the gradient has one start")


def as_tensor(name: str, array: Any) -> Tensor:
    """Return a tensor or NumPy array as a tensor without history.

    Raises:
        TypeError: it is neither, is sparse or masked, its dtype is not one that scans compute in, or its byte order is
            not the machine's.
    """
    if isinstance(array, np.ndarray):
        if np.ma.is_masked(array):
            raise TypeError(f"{name} has masked values, which have no gradient: fill them, {name}.filled(...)")
        if not array.dtype.isnative:
            raise TypeError(
                f"{name} is {array.dtype.str}, expected the machine's byte order: use "
                f"{name}.astype({name}.dtype.newbyteorder('='))"
            )
        if array.dtype.kind not in "fc" or array.dtype.itemsize not in (2, 4, 8, 16) or array.dtype == np.longdouble:
            raise _of_another_kind(name, array)
        # Torch warns where it is to share memory that must not be written.
        return torch.from_numpy(np.ascontiguousarray(array) if array.flags.writeable else array.copy())
    if not isinstance(array, Tensor) or array.dtype not in _DTYPES:
        raise _of_another_kind(name, array)
    if array.layout is not torch.strided:
        raise TypeError(f"{name} has layout {array.layout}, expected torch.strided: use {name}.to_dense(), or pad it")
    return array.detach()


def _of_another_kind(name: str, array: Any) -> TypeError:
    kind = getattr(array, "dtype", type(array).__name__)
    return TypeError(
        f"{name} is {kind}, expected a floating or complex tensor or NumPy array of 16 to 64 bits a real number"
    )
