"""What truncation loses: the gradient through a window of steps, measured against the whole one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrograd.norms import norm
from retrograd.rnn.bptt import bptt
from retrograd.rnn.loss import Loss
from retrograd.rnn.stream import Stream

__all__ = ["TruncationError", "truncation_error"]


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
    whole = bptt(x, weight_hh=dense, weight_ih=weight_ih, loss=loss, **others)
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
