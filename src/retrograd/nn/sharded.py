"""Layers whose time axis lies on the ranks of torch.distributed."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from retrograd.nn.cell import LinearRNNCell
from retrograd.nn.linear_rnn import LinearRNN
from retrograd.nn.model import SequenceModel
from retrograd.nn.recurrence import Recurrence
from retrograd.nn.state_space import StateSpace

__all__ = ["shard_time"]

Model = TypeVar("Model", bound=nn.Module)
# Modules that read more than one step, and know of no other rank.
_OF_ONE_PROCESS = (LinearRNNCell, nn.RNNBase, nn.Conv1d, nn.MultiheadAttention)


def shard_time(model: Model, mesh: Any) -> Model:
    """Let every layer of a model run over a time axis whose stretches lie on ranks; return the model.

    Each rank then calls the model on its own steps, and all call ``backward``. A parameter's gradient on a rank is the
    part that its steps make: the sum over the ranks is the gradient, and ``DistributedDataParallel`` takes the mean.

    Args:
        model: layers of :mod:`retrograd.nn` among modules that treat every step by itself.
        mesh: a ``DeviceMesh`` of one dimension, or a process group.

    Raises:
        TypeError: the model has a layer that cannot run so.
        ValueError: the model pools over time.

    Examples:
        >>> import copy, torch
        >>> from retrograd import distributed
        >>> x, model = torch.randn(1, 10, 3), SequenceModel(3, 4, layer="LRU")
        >>> y, _ = model(x)
        >>> def work(ranks):
        ...     stretch = x[:, 5 * ranks.rank : 5 * ranks.rank + 5]
        ...     return shard_time(copy.deepcopy(model), ranks)(stretch)[0]
        >>> torch.allclose(torch.cat(distributed.simulate(2, work), 1), y, atol=1e-5)
        True
    """
    for name, part in model.named_modules():
        if isinstance(part, _OF_ONE_PROCESS):
            raise TypeError(
                f"model has a {type(part).__name__} ({name or 'itself'}), which needs all steps in one process"
            )
        if isinstance(part, SequenceModel) and part.pooling != "none":
            raise ValueError(f"model pools over time ({part.pooling!r}), of which each rank has a part: use 'none'")
        if isinstance(part, Recurrence | LinearRNN | StateSpace):
            part.time_mesh = mesh
    return model
