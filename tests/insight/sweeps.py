"""Small sweeps of every structure, and what brute force says of them: autograd through the plain loop, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from retrograd import Dense, Diagonal
from retrograd.insight import Sweep
from retrograd.rnn.loss import Loss

EPS = torch.finfo(torch.float64).eps
# Transitions of each sequence's own, besides.
OF_SEQUENCES = ("dense sequences", "diagonal sequences", "diagonal rows")
BATCH, TIME, WIDTH = 3, 12, 4
STRUCTURES = ("dense", "dense complex", "dense steps", "dense rows", "diagonal", "diagonal complex", "diagonal steps")


def draw(structure: str, time: int = TIME, size: float = 0.5) -> tuple[Dense | Diagonal, Tensor, Tensor]:
    """Return A, u and h0 of a structure."""
    source = torch.Generator().manual_seed((*STRUCTURES, *OF_SEQUENCES).index(structure))
    dtype = torch.complex128 if "complex" in structure else torch.float64

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=dtype)

    leading = {"steps": (time,), "rows": (BATCH, time), "sequences": (BATCH, 1)}.get(structure.split()[-1], ())
    if structure.startswith("dense"):
        A: Dense | Diagonal = Dense(size * normal(*leading, WIDTH, WIDTH))
    else:
        A = Diagonal(2 * size * normal(*leading, WIDTH))
    return A, normal(BATCH, time, WIDTH), normal(BATCH, WIDTH)


def square(states: Tensor) -> Tensor:
    """A loss with a part at every step."""
    return states.abs().square().sum()


def tenth(states: Tensor) -> Tensor:
    """A loss that looks at the tenth step alone."""
    return states[..., 9, :].abs().square().sum()


def matrices(A: Dense | Diagonal, time: int) -> Tensor:
    """Return A_t as matrices ``(B, T, H, H)``."""
    full = A.normal() if isinstance(A, Dense) else torch.diag_embed(A.normal())
    return full.expand(BATCH, time, *full.shape[2:])


def brute(A: Dense | Diagonal, u: Tensor, h0: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Run the loop; return its loss, the states, and for every step a zero matrix added to A_t, all with history."""
    full = matrices(A, u.shape[1])
    added = [torch.zeros_like(full[0, 0]).requires_grad_() for _ in range(u.shape[1])]
    h, states = h0, []
    for t, extra in enumerate(added):
        h = (((full[:, t] + extra) @ h[..., None])[..., 0] + u[:, t]).requires_grad_()
        states.append(h)
    return square(torch.stack(states, 1)), states, added


def brute_parts(A: Dense | Diagonal, u: Tensor, h0: Tensor, loss: Loss = square) -> Tensor:
    """Return G(t, k) of :func:`retrograd.insight.lag_parts` by one backward pass for every t."""
    _, states, added = brute(A, u, h0)
    time = u.shape[1]
    parts = u.new_zeros(time, time, WIDTH, WIDTH)
    for t in range(time) if loss is square else [9]:
        found = torch.autograd.grad(square(states[t]), added[: t + 1], retain_graph=True)
        for k in range(t + 1):
            parts[t, k] = found[t - k]
    return parts if isinstance(A, Dense) else parts.diagonal(dim1=-2, dim2=-1)


def sweep_of(structure: str, loss: Loss = square) -> Sweep:
    """Return the sweep of a structure."""
    A, u, h0 = draw(structure)
    return Sweep.of_scan(A, u, h0, loss=loss)


def unexcited(structure: str, time: int = 1200) -> Sweep:
    """Return a sweep whose first mode, 2, is never excited: its powers overflow, states and gradients do not."""
    a = torch.tensor([2.0, 0.5], dtype=torch.float64)
    a = a.expand(time, 2) if structure.endswith("steps") else a
    u = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(1, time, 2)
    return Sweep.of_scan(Dense(torch.diag_embed(a)) if structure.startswith("dense") else Diagonal(a), u, loss=square)
