"""Keep what gates are made of, not the gates: a layer's cheap part, run again in the backward pass.

Between two matrix products a gated layer makes its gates, runs its scan and reads the states out: a tenth of a step's
time, and most of what autograd would keep of it. ``recomputed`` keeps the arrays that this part begins with, and runs
it again when the gradient is asked for. Products behind it are not run again: their gradients need what they multiply
alone.

On a CPU the part runs in pieces of the batch, so that what it makes on the way stays small: memory that is new to a
process costs more than the arithmetic on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from retrograd.core import observe
from retrograd.core.backend import empty
from retrograd.core.dispatch import batched_gradient_level, is_differentiated, is_transformed
from retrograd.core.linear import linear, outer_sum, step_sum
from retrograd.nn.recurrence import Along

__all__ = ["recomputed"]

# Bytes of an array that a piece takes, and how many are worth it: a step of a stream keeps its gates.
PIECE, LEAST = 1 << 22, 1 << 14

Part = Callable[..., tuple[Tensor, Tensor]]
# Makes W and b of every product.
Products = Callable[..., Sequence[tuple[Tensor, Tensor | None]]]


class _Given(NamedTuple):
    """A part, what it runs along, how many of its tensors have rows, its products and their weights, its autocast."""

    part: Part
    along: Along
    with_rows: int
    products: Products | None
    weights: int
    autocast: tuple[str, torch.dtype, bool]

    def again(self, along: Along, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the part returned before, with its history."""
        with torch.enable_grad(), torch.autocast(*self.autocast):
            return self.part(along, *tensors)

    def pieces(self, tensors: Sequence[Tensor]) -> list[slice]:
        """Return rows of the batch that are run together: by shapes alone."""
        arrays = tensors[: self.with_rows]
        # A GPU's memory comes from torch's own pool, and its kernels want it all at once.
        cut = arrays and arrays[0].device.type == "cpu" and arrays[0].ndim > 2 and self.along.cu_seqlens is None
        if not cut or batched_gradient_level():
            return [slice(None)]
        rows = arrays[0].shape[0]
        count = max(1, min(rows, -(-max(x.nbytes for x in arrays) // PIECE)))
        return [slice(rows * k // count, rows * (k + 1) // count) for k in range(count)]

    def at(self, rows: slice, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
        """Return the sequences of these rows, and the tensors."""
        if rows == slice(None):
            return self.along, *tensors
        return self.along.rows(rows), *(x[rows] if i < self.with_rows else x for i, x in enumerate(tensors))


def recomputed(
    part: Part,
    along: Along,
    arrays: Sequence[Tensor],
    shared: Sequence[Tensor] = (),
    products: Products | None = None,
    weights: Sequence[Tensor] = (),
) -> tuple[Tensor, ...]:
    """Return ``part(along, *arrays, *shared)``; with ``products``, y W^T + b of each in y's place.

    Differentiable to any order. Tracers, transformations and forward mode see the part as it is, as do observers of
    scans, whose arrays have a history then.

    Args:
        part: makes ``(y, last)`` of a batch, or of some rows of it: y of every step, and a row for every sequence.
        along: the sequences.
        arrays: with a row for each of the batch, or for each of its sequences.
        shared: the rest of what is differentiated: parameters.
        products: makes W ``(outputs, features of y)`` and b ``(outputs,)`` or None of every product of ``weights``.
        weights: the parameters that they are made of.
    """
    tensors = *arrays, *shared
    device = tensors[0].device.type
    device = "cpu" if device == "meta" else device  # which has no autocast
    autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    if (
        is_transformed(*tensors)
        or observe.observers
        or along.keeps
        or (weights and autocast[2])  # whose dtypes are others than those of what they multiply
        or max([x.nbytes for x in arrays], default=PIECE) < (LEAST if torch.is_grad_enabled() else PIECE)
    ):
        y, last = part(along, *tensors)
        return *_multiplied(y, _made(products, weights)), last
    given = _Given(part, along, len(arrays), products, len(weights), autocast)
    results: tuple[Tensor, ...] = _Recomputed.apply(given, *weights, *tensors)
    return results


class _Recomputed(torch.autograd.Function):
    """y, last = part(tensors); where there are products, y W^T + b of each in y's place."""

    @staticmethod
    def forward(ctx: Any, given: _Given, *every: Any) -> Any:
        ctx.given = given
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*every)
        matrices, tensors = _made(given.products, every[: given.weights]), every[given.weights :]
        pieces, found = given.pieces(tensors), []
        for rows in pieces:
            y, last = given.part(*given.at(rows, tensors))
            found.append((*_multiplied(y, matrices), last))
        if len(found) == 1:
            return found[0]
        *ys, _ = found[0]
        whole = [empty((tensors[0].shape[0], *y.shape[1:]), y) for y in ys]
        for rows, (*ys, _) in zip(pieces, found, strict=True):
            for into, y in zip(whole, ys, strict=True):
                into[rows] = y
        return *whole, torch.cat([last for *_, last in found])

    @staticmethod
    def backward(ctx: Any, *given_gradients: Tensor | None) -> Any:
        given, every = ctx.given, ctx.saved_tensors
        _, *wanted = ctx.needs_input_grad
        if all(g is None for g in given_gradients):
            return (None,) * len(ctx.needs_input_grad)
        count = given.weights
        if is_differentiated():  # the gradient itself
            # Aliases: a tensor's gradient is not to go through another one that was made of it.
            aliases = [x.view_as(x) for x in every]
            y, last = given.again(given.along, aliases[count:])
            outputs = *_multiplied(y, _made(given.products, aliases[:count])), last
            return None, *_gradients(outputs, given_gradients, aliases, wanted, create_graph=True)
        with torch.enable_grad():
            weights = [x.detach().requires_grad_(want) for x, want in zip(every[:count], wanted, strict=False)]
            matrices = _made(given.products, weights)
        tensors, total = every[count:], _Total(len(every))
        to_matrices = _Total(2 * len(matrices))
        for i, ((_, b), g) in enumerate(zip(matrices, given_gradients, strict=False)):
            if g is not None and b is not None and b.requires_grad:
                to_matrices.add(2 * i + 1, step_sum(g if g.ndim == 3 else g.unsqueeze(0)))
        pieces = given.pieces(tensors)
        for rows in pieces:
            along, *here = given.at(rows, tensors)
            leaves = [x.detach().requires_grad_(want) for x, want in zip(here, wanted[count:], strict=True)]
            y, last = given.again(along, leaves)
            *gs, d_last = (g if g is None else g[rows] for g in given_gradients)
            if matrices:
                for i, (g, (W, _)) in enumerate(zip(gs, matrices, strict=True)):
                    if g is not None and W.requires_grad:
                        to_matrices.add(2 * i, outer_sum("auto", g, y.detach()))
                to_y = [linear(g, W.mH, None, "auto") for g, (W, _) in zip(gs, matrices, strict=True) if g is not None]
                gs = [sum(to_y[1:], to_y[0]) if to_y else None]
            for i, d in enumerate(_gradients((y, last), (*gs, d_last), leaves, wanted[count:])):
                if d is not None and i < given.with_rows and len(pieces) > 1:
                    total.write(count + i, rows, d, tensors[i])
                elif d is not None:
                    total.add(count + i, d)
        flat = [x for product in matrices for x in product]
        total.sums[:count] = _gradients(flat, to_matrices.sums, weights, wanted[:count])
        return None, *total.sums


class _Total:
    """Gradients, gathered piece by piece."""

    def __init__(self, count: int) -> None:
        self.sums: list[Tensor | None] = [None] * count

    def add(self, i: int, d: Tensor) -> None:
        so_far = self.sums[i]
        self.sums[i] = d if so_far is None else so_far + d

    def write(self, i: int, rows: slice, d: Tensor, like: Tensor) -> None:
        whole = self.sums[i]
        if whole is None:
            whole = self.sums[i] = empty(like.shape, like)
        whole[rows] = d


def _made(products: Products | None, weights: Sequence[Tensor]) -> Sequence[tuple[Tensor, Tensor | None]]:
    return () if products is None else products(*weights)


def _multiplied(y: Tensor, matrices: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, ...]:
    """Return y, or where there are matrices, the product with each."""
    return tuple(linear(y, W, b, "auto") for W, b in matrices) if matrices else (y,)


def _gradients(
    outputs: Sequence[Tensor | None],
    gradients: Sequence[Tensor | None],
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    create_graph: bool = False,
) -> list[Tensor | None]:
    """Return the gradients of ``inputs``, None where one is not wanted."""
    pairs = zip(outputs, gradients, strict=True)
    ends = [(y, g) for y, g in pairs if y is not None and g is not None and y.requires_grad]
    leaves = [x for x, want in zip(inputs, wanted, strict=True) if want and x is not None]
    if not ends or not leaves:
        return [None] * len(inputs)
    ys, gs = zip(*ends, strict=True)
    found = iter(torch.autograd.grad(ys, leaves, gs, create_graph=create_graph, allow_unused=True))
    return [next(found) if want else None for want in wanted]
