"""How much of ∂L/∂W_hh does a window of k steps keep?

Truncated backpropagation lets each step's loss go back through its last k uses of W_hh: G_k = Σ_t Σ_{j<k} G(t, j). What
it leaves out is carried whole, not as a difference:

    E_k = G − G_k = Σ_t (Φ(t, t−k)^H δ_t) h_{t-k-1}^H
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.insight.products import from_steps, lag_grid, windows
from retrograd.insight.sweep import Sweep, outer
from retrograd.norms import norm
from retrograd.transition import apply_adjoint

__all__ = ["Truncation", "truncation"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Truncation:
    """The gradient of W_hh through windows of k steps, beside the whole one. All NaN where that is zero.

    Attributes:
        windows: k, ``(K,)``, from 1 (a loss reaches only the use of W_hh at its own step) to T (the whole gradient).
        share: ⟨G_k, G⟩ / ‖G‖², ``(K,)``.
        relative_error: ‖G_k − G‖ / ‖G‖, ``(K,)``.
        angle: between G_k and G, in degrees, ``(K,)``; NaN where G_k is zero.
    """

    windows: Array
    share: Array
    relative_error: Array
    angle: Array

    def window_for(self, relative_error: float) -> int:
        """Return the smallest window measured from which on the error is at most this."""
        over = np.flatnonzero(~(self.relative_error <= relative_error))
        return int(self.windows[min(over[-1] + 1, len(self.windows) - 1)] if len(over) else self.windows[0])


def truncation(sweep: Sweep, windows_: Sequence[int] | str | None = None) -> Truncation:
    """Return what truncation to each window keeps of the gradient of W_hh, and at which angle.

    :func:`retrograd.truncation_error` measures all weights together, for chosen windows and strides.

    Args:
        sweep: the forward and backward run.
        windows_: windows from 1 to T; ``"all"``; or None: all up to T = 256, of a longer sequence 1 to 8, then two
            an octave up to 64 and one beyond.

    Examples:
        >>> from retrograd import Diagonal
        >>> found = truncation(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(4, 1), loss=torch.sum))
        >>> found.relative_error.round(3).tolist()
        [0.261, 0.043, 0.0, 0.0]
    """
    time = sweep.time
    wanted = lag_grid(time, windows_, 1)
    G, previous = sweep.gradient, sweep.previous
    size = norm(G.flatten())
    # Of length 1: a gradient that has exploded or vanished has no square.
    unit = G / size
    shares, errors, angles = [], [], []
    for lost in _lost(sweep, previous, [window for window in wanted if window < time]):
        lost = lost / size
        along = (lost.conj() * unit).real.sum().item()
        across = norm((lost - along * unit).flatten()).item()
        shares.append(1 - along)
        errors.append(norm(lost.flatten()).item())
        kept = 1 - along
        # A window that keeps nothing has no direction; one that keeps a rounding error has a meaningless one.
        nothing = not np.hypot(kept, across) > 4 * np.finfo(float).eps
        angles.append(float("nan") if nothing else float(np.degrees(np.arctan2(across, kept))))
    if wanted[-1] == time:
        whole = (1.0, 0.0, 0.0) if size > 0 else (float("nan"),) * 3
        for found, value in zip((shares, errors, angles), whole, strict=True):
            found.append(value)
    return Truncation(np.array(wanted), np.array(shares), np.array(errors), np.array(angles))


def _lost(sweep: Sweep, previous: Tensor, wanted: list[int]) -> Iterator[Tensor]:
    """Yield E_k for every window."""
    sources, time = sweep.sources, sweep.time
    if len(sources) == 1:
        # All that δ_t holds comes from this one step: E_k is the sum over the steps k or more before it.
        lost, begin, found = torch.zeros_like(sweep.gradient), 0, []
        for window in reversed(wanted):
            part = slice(begin, max(sources[0] + 1 - window, begin))
            lost = lost + outer(sweep.delta[:, part], previous[:, part], sweep.diagonal)
            begin = part.stop
            found.append(lost)
        yield from reversed(found)
        return
    shared = sweep.invariant and sweep.A.shape[0] == 1 and not sweep.diagonal
    for window, product in windows(sweep.A, time, wanted):
        later, earlier = sweep.delta[:, window:], previous[:, : time - window]
        if shared:  # one product of H × H in place of one for every step
            yield product[0, 0].mH @ outer(later, earlier, False)
        else:
            yield outer(apply_adjoint(from_steps(product), later), earlier, sweep.diagonal)
