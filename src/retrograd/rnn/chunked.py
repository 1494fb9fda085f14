"""Backpropagation through time of input too long for memory: read chunk by chunk, forward once and backward once.

The forward pass keeps the states between chunks alone. The backward pass runs each chunk again, last one first, with
all its steps, and hands ∂L/∂(the state before it) to the chunk before as ∂L/∂h_T. What is returned are totals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from retrograd.core.saving import chunk_steps, chunks
from retrograd.errors import require_shape
from retrograd.rnn.arguments import Arguments, common_dtype, dtype_of, require_one_start
from retrograd.rnn.gradients import GradientTotals, gradient_fields
from retrograd.rnn.source import ArraySource, IterableSource, Source
from retrograd.rnn.steps import accumulate, forward, initialise, propagate, serving

__all__ = ["LossOfChunk", "bptt_chunked"]

LossOfChunk = Callable[[Tensor, slice], Tensor]


@overload
def bptt_chunked(
    x: Tensor | Iterable[Tensor],
    *,
    weight_hh: Tensor,
    weight_ih: Tensor,
    bias: Tensor | None = ...,
    h0: Tensor | None = ...,
    grad_states: Tensor | None = ...,
    grad_final: Tensor | None = ...,
    loss: LossOfChunk | None = ...,
    weight_out: Tensor | None = ...,
    bias_out: Tensor | None = ...,
    feedback: bool | Tensor | None = ...,
    memory: int | Literal["sqrt"] = ...,
    backend: str = ...,
) -> GradientTotals[Tensor]: ...
@overload
def bptt_chunked(
    x: np.ndarray[Any, Any] | Iterable[np.ndarray[Any, Any]],
    *,
    weight_hh: np.ndarray[Any, Any],
    weight_ih: np.ndarray[Any, Any],
    bias: np.ndarray[Any, Any] | None = ...,
    h0: np.ndarray[Any, Any] | None = ...,
    grad_states: np.ndarray[Any, Any] | None = ...,
    grad_final: np.ndarray[Any, Any] | None = ...,
    loss: LossOfChunk | None = ...,
    weight_out: np.ndarray[Any, Any] | None = ...,
    bias_out: np.ndarray[Any, Any] | None = ...,
    feedback: bool | np.ndarray[Any, Any] | None = ...,
    memory: int | Literal["sqrt"] = ...,
    backend: str = ...,
) -> GradientTotals[np.ndarray[Any, Any]]: ...
@torch.no_grad()
def bptt_chunked(
    x: Any,
    *,
    weight_hh: Any,
    weight_ih: Any,
    bias: Any = None,
    h0: Any = None,
    grad_states: Any = None,
    grad_final: Any = None,
    loss: LossOfChunk | None = None,
    weight_out: Any = None,
    bias_out: Any = None,
    feedback: Any = None,
    memory: int | Literal["sqrt"] = "sqrt",
    backend: str = "auto",
) -> Any:
    """Compute what :func:`retrograd.bptt` does, summed over all steps, in bounded memory and for input of any length.

    The gradients are exact, and summed over chunks in double precision.

    Args:
        x: inputs, ``(batch, time, inputs)`` or ``(time, inputs)``, which may be a ``numpy.memmap``; or an iterable of
            chunks ``(steps, inputs)``, which is written to a temporary file and read back from it.
        weight_hh: W_hh, ``(hidden, hidden)``.
        weight_ih: W_ih, ``(hidden, inputs)``.
        bias: b, ``(hidden,)``.
        h0: state before the first input, ``(batch, hidden)``, or ``(hidden,)`` for all; zero by default.
        grad_states: ∂L/∂h_t for every t, ``(batch, time, hidden)``; and/or
        grad_final: ∂L/∂h_T, ``(batch, hidden)``; or
        loss: a loss that is a sum over steps. It is called for each chunk, as ``loss(values, steps)``: with the outputs
            (the states, without ``weight_out``) of the steps ``steps``, a slice of time; it returns their part in the
            sum, a scalar tensor. None of the three: 1 at the final state, L = Σ h_T.
        weight_out: C, ``(outputs, hidden)``: y_t = C h_t + c.
        bias_out: c, ``(outputs,)``.
        feedback: at which steps the previous output comes in as input: True, or bool ``(time,)``.
        memory: what is held of the states at one time: ``"sqrt"``, those between O(√T) chunks and those of one chunk;
            or a number of bytes for them.
        backend: ``"auto"`` or the name of one, as in :func:`retrograd.scan`.

    Returns:
        A :class:`GradientTotals` record.

    Raises:
        TypeError: an argument is no array, or is neither floating nor complex.
        ValueError: shapes do not fit, a request contradicts another, the loss is no differentiable scalar, or
            ``memory`` is too little.

    Examples:
        >>> w, v = torch.tensor([[0.5]]), torch.tensor([[1.0]])
        >>> chunks = (torch.ones(steps, 1) for steps in (3, 1, 2))
        >>> g = bptt_chunked(chunks, weight_hh=w, weight_ih=v, loss=lambda h, steps: h.sum())
        >>> g.loss, g.weight_ih
        (tensor(10.0312), tensor([[10.0312]]))
    """
    if memory != "sqrt" and isinstance(memory, str):
        raise ValueError(f"memory is {memory!r}, expected 'sqrt' or a number of bytes")
    given = {
        "x": x,
        "weight_hh": weight_hh,
        "weight_ih": weight_ih,
        "bias": bias,
        "h0": h0,
        "weight_out": weight_out,
        "bias_out": bias_out,
    }
    starts = {"grad_states": grad_states, "grad_final": grad_final}
    source = ArraySource(x) if isinstance(x, np.ndarray | Tensor) else IterableSource(x)
    try:
        return _gradients(_Chunks(source, given, starts, feedback, loss, memory), backend)
    finally:
        source.close()


class _Chunks:
    """The arguments of :func:`bptt_chunked`, as those of :func:`retrograd.bptt` over each chunk."""

    def __init__(
        self,
        source: Source,
        given: dict[str, Any],
        starts: dict[str, Any],
        feedback: Any,
        loss: LossOfChunk | None,
        memory: int | Literal["sqrt"],
    ) -> None:
        require_one_start(loss, starts)
        *batch, time, _ = source.shape
        first = Arguments({**given, "x": source.read(slice(0, 1))}, dict.fromkeys(starts), None, None)
        # One dtype for all chunks, though the arrays that start the gradient come with some of them alone.
        starting = (dtype_of(name, array) for name, array in starts.items() if array is not None)
        self.dtype = common_dtype([first.dtype, *starting])
        itemsize = max(source.itemsize, self.dtype.itemsize)
        steps = chunk_steps(memory, batch[0] if batch else 1, time, first.W_hh.shape[0], itemsize)
        self.slices = chunks(time, steps)
        self._source, self._starts, self._loss = source, starts, loss
        self.given = given
        self._feedback = feedback
        if feedback is not None and not isinstance(feedback, bool):
            self._feedback = torch.as_tensor(feedback)
            require_shape("feedback", self._feedback, ("time",), (time,))
        g = starts["grad_states"]
        if g is not None and g.shape[-2] != time:
            raise ValueError(f"grad_states has {g.shape[-2]} steps, x has {time}")

    def __getitem__(self, place: tuple[slice, Tensor | None]) -> Arguments:
        """Return the arguments of the chunk at some steps, which starts from the state before it, or from h0."""
        steps, before = place
        given = {**self.given, "x": self._source.read(steps)}
        if before is not None:
            given["h0"] = before if given["x"].ndim == 3 else before[0]
        g = self._starts["grad_states"]
        starts = {
            "grad_states": None if g is None else g[..., steps, :],
            "grad_final": self._starts["grad_final"] if steps == self.slices[-1] else None,
        }
        feedback = self._feedback[steps] if isinstance(self._feedback, Tensor) else self._feedback
        loss = None if self._loss is None else partial(_loss_of_chunk, self._loss, steps)
        return Arguments(given, starts, feedback, loss, self.dtype)


def _loss_of_chunk(loss: LossOfChunk, steps: slice, values: Tensor) -> Tensor:
    return loss(values, steps)


def _gradients(chunks: _Chunks, backend_name: str) -> GradientTotals[Any]:
    # Forward: the state before each chunk.
    states: list[Tensor | None] = [None]
    for steps in chunks.slices[:-1]:
        p = chunks[steps, states[-1]]
        states.append(forward(p, serving(p, backend_name)).states[:, -1].clone())

    # Backward: each chunk again, with its first three steps.
    loss, weights, others = _Sums[str](), _Sums[str](), _Sums[Tensor]()
    d_h0: Tensor | None = None
    for steps, before in zip(reversed(chunks.slices), reversed(states), strict=True):
        p = chunks[steps, before]
        backend = serving(p, backend_name)
        run = forward(p, backend)
        start = initialise(p, run, backend, later=d_h0)
        back = propagate(p, start, backend)
        weights.add(accumulate(p, run, start, back, backend))
        others.add(start.others)
        if start.loss is not None:
            loss.add({"loss": start.loss})
        d_h0 = back.h0
    assert d_h0 is not None
    fields = gradient_fields(p, loss.totals().get("loss"), d_h0, weights.totals(), others.totals())
    given = {name: array for name, array in chunks.given.items() if name != "x" and array is not None}
    return GradientTotals(**fields, _given=given)


_Key = TypeVar("_Key")


class _Sums(Generic[_Key]):
    """Sums in double precision, by a key."""

    def __init__(self) -> None:
        self._sums: dict[_Key, Tensor] = {}
        self._dtypes: dict[_Key, torch.dtype] = {}

    def add(self, parts: Mapping[_Key, Tensor]) -> None:
        for key, part in parts.items():
            self._dtypes[key] = part.dtype
            part = part.to(torch.complex128 if part.is_complex() else torch.float64)
            self._sums[key] = self._sums[key] + part if key in self._sums else part

    def totals(self) -> dict[_Key, Tensor]:
        """Return each sum in the dtype of its parts."""
        return {key: total.to(self._dtypes[key]) for key, total in self._sums.items()}
