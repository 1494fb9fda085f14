"""What the layers on a diagonal scan share: one interface, and the sequences of one call.

    y, state = layer(x, state, lengths, reset)        whole, padded, packed or cut sequences
    y_t, state = layer.step(x_t, state)               one step, as the forward pass takes it

A layer is projections of every step at once, one scan, and a readout. Its subclass writes them in :meth:`run`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from retrograd.core.backend import BACKENDS
from retrograd.core.linear import linear
from retrograd.core.sequences import Sequences
from retrograd.core.steps import check_borders
from retrograd.core.transition import Transition
from retrograd.distributed.scan import previous
from retrograd.errors import require_choice, require_shape
from retrograd.nn.cell import require_dtype, require_size
from retrograd.nn.sharded import AlongTime, named, refuse_lengths, scan_along, shard_time

__all__ = ["Along", "Projection", "Recurrence", "padding_of", "projected", "wide"]


class Along:
    """The sequences of one call: what a scan runs along, and which step stands before another."""

    def __init__(
        self,
        lengths: Tensor | None,
        cu_seqlens: Tensor | None,
        reset: Tensor | None,
        reverse: bool,
        backend: str,
        time_mesh: Any = None,
    ) -> None:
        self.lengths, self.cu_seqlens, self.reset = lengths, cu_seqlens, reset
        self.reverse, self.backend, self.time_mesh = reverse, backend, time_mesh
        # Whether autograd keeps what a layer makes along the way: ranks would meet again to make it again.
        self.keeps = time_mesh is not None

    def scan(self, A: Transition, u: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return every state and the last ones, as :func:`retrograd.scan`."""
        given = {"lengths": self.lengths, "cu_seqlens": self.cu_seqlens, "reset": self.reset}
        return scan_along(self.time_mesh)(A, u, h0, reverse=self.reverse, backend=self.backend, **given)

    def rows(self, at: slice) -> Along:
        """Return the sequences of some rows of the batch."""
        some = copy(self)
        some.lengths, some.reset = (x if x is None else x[at] for x in (self.lengths, self.reset))
        return some

    def before(self, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Return x of the step before within a sequence, ``first`` entering it, and x of each sequence's last step.

        Args:
            x: ``(batch, time, features)`` or ``(time, features)``.
            first: ``(sequences, features)``, without a batch ``(features,)``.
        """
        if x.ndim == 2:
            reset = self.reset if self.reset is None else self.reset.unsqueeze(0)
            single = Along(self.lengths, self.cu_seqlens, reset, self.reverse, self.backend, self.time_mesh)
            packed = self.cu_seqlens is not None
            moved, last = single.before(x.unsqueeze(0), first if packed else first.unsqueeze(0))
            return moved.squeeze(0), last if packed else last.squeeze(0)
        if self.time_mesh is not None:
            across: dict[str, Any] = {"cu_seqlens": self.cu_seqlens, "reset": self.reset, "reverse": self.reverse}
            return previous(x, first, **named(self.time_mesh), **across)
        if x.shape[1] == 0:
            return x, first
        given = self.lengths, self.cu_seqlens, self.reset
        view = Sequences(x.shape[0], x.shape[1], *given, self.reverse).view("steps", x.device)
        return view.previous(x, first), view.last(x, first)


class Recurrence(AlongTime, ABC):
    """A layer whose memory is one linear recurrence with a diagonal transition.

    Attributes:
        input_size: features of x.
        output_size: features of y.
        state_size: numbers of a state, complex ones where ``complex_state``.
        complex_state: whether a state is complex.
        reverse: whether the layer runs from the last step to the first.
        time_mesh: the ranks on which its time lies (:func:`retrograd.nn.shard_time`); None: one process has all steps.
    """

    complex_state = False

    def __init__(
        self,
        input_size: int,
        output_size: int,
        state_size: int,
        reverse: bool,
        backend: str,
        time_mesh: Any = None,
    ) -> None:
        for name, size in (("input_size", input_size), ("output_size", output_size), ("state_size", state_size)):
            require_size(name, size)
        require_choice("backend", backend, ["auto", *BACKENDS])
        super().__init__()
        self.input_size, self.output_size, self.state_size = input_size, output_size, state_size
        self.reverse, self.backend = reverse, backend
        shard_time(self, time_mesh)

    @abstractmethod
    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return the outputs of every step, in any precision, and each sequence's last state."""

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs of every step, and the state after the last one.

        Args:
            x: ``(batch, time, input_size)`` or ``(time, input_size)``.
            state: what an earlier call returned, ``(sequences, state_size)``, without a batch ``(state_size,)``; zero
                by default.
            lengths: integers ``(batch,)``: the rest of a row is padding, where nothing is read and outputs are zero.
            reset: bool ``(batch, time)``: at a true step a new sequence begins, whose state is zero.
            cu_seqlens: borders of packed sequences, as :func:`retrograd.scan` takes them.

        Returns:
            ``(y, state)``: ``(batch, time, output_size)`` in x's dtype, and each sequence's last state, in float32 at
            least.

        Raises:
            TypeError: x or a state is no floating tensor.
            ValueError: shapes, dtypes or lengths do not fit.
        """
        self._check(x, state, cu_seqlens)
        if lengths is not None:
            Sequences(x.shape[0] if x.ndim == 3 else 1, x.shape[-2], lengths, cu_seqlens)
            if not torch.compiler.is_compiling():  # the values, which a traced program cannot ask for
                check_borders(x.shape[-2], lengths, None)
        refuse_lengths(self.time_mesh, lengths)
        padding = None
        if lengths is not None and x.ndim == 3:
            padding = padding_of(x, lengths)
            x = x.masked_fill(padding, 0)  # NaN there must not reach the weights' gradients
        y, last = self.run(x, state, Along(lengths, cu_seqlens, reset, self.reverse, self.backend, self.time_mesh))
        y = y.to(x.dtype)
        return y if padding is None else y.masked_fill(padding, 0), last

    def step(self, x_t: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the output of one step and the state after it.

        Args:
            x_t: ``(batch, input_size)`` or ``(input_size,)``.
            state: the state before it; zero by default.

        Raises:
            ValueError: the layer runs backward in time, or shapes do not fit.

        Examples:
            >>> from retrograd.nn import MinGRU
            >>> layer, state = MinGRU(3, 4), None
            >>> for x_t in torch.randn(5, 2, 3):
            ...     y_t, state = layer.step(x_t, state)
            >>> y_t.shape
            torch.Size([2, 4])
        """
        if self.time_mesh is not None:
            raise ValueError("step takes one step of one process, and time lies on ranks: call it on whole sequences")
        if self.reverse:
            raise ValueError("step goes forward in time, and this layer has reverse=True: call it on whole sequences")
        y, state = self(x_t.unsqueeze(-2), state)
        return y.squeeze(-2), state

    def initial_state(self, x: Tensor, rows: int | None) -> Tensor:
        """Return zeros for so many sequences (None: without that axis), of the dtype that a state of x has."""
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        if self.complex_state:
            dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        return x.new_zeros(self.state_size if rows is None else (rows, self.state_size), dtype=dtype)

    def entering(self, x: Tensor, state: Tensor | None, along: Along) -> Tensor:
        """Return the state, zeros where none was given."""
        if state is not None:
            return state
        rows = x.shape[:-2] if along.cu_seqlens is None else (len(along.cu_seqlens) - 1,)
        return self.initial_state(x, rows[0] if rows else None)

    def _check(self, x: Tensor, state: Tensor | None, cu_seqlens: Tensor | None) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x is {got}, expected a floating torch.Tensor")
        if x.ndim not in (2, 3):
            raise ValueError(f"x has shape {tuple(x.shape)}, expected (batch, time, input_size) or (time, input_size)")
        axes = ("batch", "time")[3 - x.ndim :]
        require_shape("x", x, (*axes, "input_size"), (*x.shape[:-1], self.input_size))
        require_dtype("x", x, next(self.parameters()))
        if state is None:
            return
        if not isinstance(state, Tensor):
            raise TypeError(f"state is {type(state).__name__}, expected a torch.Tensor, as an earlier call returned it")
        if cu_seqlens is not None:
            require_shape("state", state, ("sequences", "state_size"), (len(cu_seqlens) - 1, self.state_size))
        else:
            require_shape("state", state, (*axes[:-1], "state_size"), (*x.shape[:-2], self.state_size))

    def extra_repr(self) -> str:
        """Return the sizes."""
        sizes = f"{self.input_size} -> {self.output_size}, state_size={self.state_size}"
        return sizes + (", reverse=True" if self.reverse else "")


class Projection(nn.Linear):
    """W x_t + b for every step: :class:`torch.nn.Linear` on the kernels that give the same bits on any thread count."""

    def forward(self, x: Tensor) -> Tensor:
        """Return W x_t + b for x ``(batch, time, inputs)``, ``(time, inputs)`` or ``(inputs,)``."""
        if x.ndim == 1:
            return linear(x.unsqueeze(0), self.weight, self.bias, "auto").squeeze(0)
        return linear(x, self.weight, self.bias, "auto")

    def negative(self, x: Tensor) -> Tensor:
        """Return -(W x_t + b): the sign moves to the weights, which are fewer than the steps."""
        return linear(x, -self.weight, None if self.bias is None else -self.bias, "auto")


def projected(x: Tensor, *projections: Projection) -> Tensor:
    """Return every W x_t + b side by side, in one product: x is read once, and its gradient written once."""
    weights: list[Tensor] = [projection.weight for projection in projections]
    if x.numel() < sum(weight.numel() for weight in weights):  # few steps: a copy of their results is less
        return torch.cat([projection(x) for projection in projections], -1)
    nothing = [weight.new_zeros(len(weight)) for weight in weights]
    biases: list[Tensor] = [zero if p.bias is None else p.bias for p, zero in zip(projections, nothing, strict=True)]
    return linear(x, torch.cat(weights), torch.cat(biases), "auto")


def padding_of(x: Tensor, lengths: Tensor) -> Tensor:
    """Return which steps of x ``(batch, time, features)`` are padding, ``(batch, time, 1)``."""
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths is {type(lengths).__name__}, expected an integer tensor")
    return (torch.arange(x.shape[1], device=x.device) >= lengths.to(x.device).unsqueeze(1)).unsqueeze(2)


def wide(x: Tensor) -> Tensor:
    """Return x in float32 where it has 16 bits: a gate of bfloat16 near 1 has steps of 1/256."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
