"""Real-time recurrent learning (Williams, Zipser 1989): the exact gradient after every step.

With z_t = (h_{t-1}, x_t, 1), what each row of (W_hh, W_ih, b) multiplies, the influence P_t = ∂h_t/∂(W_hh, W_ih, b) is
itself a scan, P_t = W_hh P_{t-1} + I ⊗ z_t, and ∂L/∂(...) = Σ_t P_t^H ∂ℓ_t/∂h_t. A diagonal W_hh keeps it to one number
a weight; a dense one has H of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from retrograd.core.backend import Backend
from retrograd.core.transition import Diagonal, Transition

__all__ = ["Add", "Influence", "pieces"]

Add = Callable[[str, Tensor], None]

# Elements of the longest array that a chunk is worked on with at one time.
_PIECE = 1 << 22
# Bytes of the influence of dense weights on the states beyond which it is refused.
_MOST_INFLUENCE = 1 << 28


class Influence:
    """P_t of the last step, ``(batch, i, m, k)``.

    k is a state. i is the weight's row; where W_hh is diagonal it is k itself, and this axis has length 1. m is what
    the weight multiplies: h_{t-1}, x_t, 1, and, for h_0, nothing.
    """

    def __init__(self) -> None:
        self._P: Tensor | None = None

    def take(self, A: Transition, x: Tensor, previous: Tensor, direct: Tensor, backend: Backend, add: Add) -> None:
        """Carry the influence through the next steps, and add Σ_t P_t^H ∂ℓ_t/∂h_t to each weight's gradient.

        Args:
            A: W_hh, diagonal or dense.
            x: x_t, ``(batch, time, inputs)``.
            previous: h_{t-1}, ``(batch, time, hidden)``.
            direct: ∂ℓ_t/∂h_t, ``(batch, time, hidden)``.
            backend: runs the scan.
            add: called with the name of a weight and a part of its gradient.

        Raises:
            ValueError: the batch is another one than before, or the influence would be too large.
        """
        batch, time, hidden = previous.shape
        diagonal = isinstance(A, Diagonal)
        own, rows = (1, 1) if diagonal else (hidden, hidden)
        sources = own + x.shape[2] + 2
        P = self._start(batch, rows, sources, previous, diagonal) if self._P is None else self._P
        if P.shape[0] != batch:
            raise ValueError(f"x has batch {batch}, the chunks before had {P.shape[0]}")
        gradient = P.new_zeros(batch, hidden, sources)
        for at in pieces(time, batch * rows * sources * hidden):
            steps = at.stop - at.start
            z = torch.cat((previous[:, at], x[:, at], x.new_ones(batch, steps, 1), x.new_zeros(batch, steps, 1)), 2)
            run = _diagonal if diagonal else _dense
            part, P = run(A, z, P, direct[:, at], backend)
            gradient += part
        self._P = P
        add("weight_hh", gradient[..., 0].sum(0) if diagonal else gradient[..., :own].sum(0))
        add("weight_ih", gradient[..., own:-2].sum(0))
        add("bias", gradient[..., -2].sum(0))
        add("h0", gradient[..., -1])

    @staticmethod
    def _start(batch: int, rows: int, sources: int, like: Tensor, diagonal: bool) -> Tensor:
        hidden = like.shape[2]
        size = batch * rows * sources * hidden * like.element_size()
        if not diagonal and size > _MOST_INFLUENCE:
            raise ValueError(
                f"online=True with a dense weight_hh of {hidden} states needs an influence of {size >> 20} MB, "
                f"expected at most {_MOST_INFLUENCE >> 20} MB: use truncate=, or a diagonal weight_hh"
            )
        P = like.new_zeros(batch, rows, sources, hidden)
        P[:, :, -1] = 1 if diagonal else torch.eye(hidden, dtype=like.dtype, device=like.device)
        return P


def _diagonal(A: Transition, z: Tensor, P: Tensor, direct: Tensor, backend: Backend) -> tuple[Tensor, Tensor]:
    """Return the gradient ``(batch, k, m)`` of a piece, and its last influence."""
    hidden, sources = P.shape[3], P.shape[2]
    # (batch, time, m, k): the first source of row k is h_{t-1,k}.
    drive = z[..., hidden - 1 :, None].repeat(1, 1, 1, hidden)
    drive[:, :, 0] = z[..., :hidden]
    rates = Diagonal(A.normal().flatten().repeat(sources))
    of_steps = backend.scan(rates, drive.flatten(2), P.flatten(1)).view_as(drive)
    return (direct[:, :, None] * of_steps.conj()).sum(1).mT, of_steps[:, -1].unsqueeze(1)


def _dense(A: Transition, z: Tensor, P: Tensor, direct: Tensor, backend: Backend) -> tuple[Tensor, Tensor]:
    """Return the gradient ``(batch, i, m)`` of a piece, and its last influence."""
    batch, hidden, sources, _ = P.shape
    drive = z.new_zeros(batch, hidden, sources, z.shape[1], hidden)
    drive.diagonal(dim1=1, dim2=4).copy_(z.mT.unsqueeze(-1).expand(-1, -1, -1, hidden))
    of_steps = backend.scan(A, drive.flatten(0, 2), P.flatten(0, 2)).view_as(drive)
    return torch.einsum("btk,bimtk->bim", direct, of_steps.conj()), of_steps[..., -1, :]


def pieces(count: int, elements: int) -> Iterator[slice]:
    """Yield slices of 0..count that take ``_PIECE`` elements at most, where one item takes ``elements``."""
    size = max(1, _PIECE // max(1, elements))
    for begin in range(0, count, size):
        yield slice(begin, min(begin + size, count))
