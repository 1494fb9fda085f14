"""Layers whose time axis lies on the ranks of torch.distributed: which they are, and what runs along that axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor, nn

from retrograd.core.scan import scan
from retrograd.core.sequences import previous_states
from retrograd.distributed.ranks import Ranks
from retrograd.distributed.scan import previous
from retrograd.distributed.scan import scan as sharded_scan
from retrograd.nn.cell import LinearRNNCell

__all__ = ["AlongTime", "named", "refuse_lengths", "scan_along", "shard_time", "states_before"]

Model = TypeVar("Model", bound=nn.Module)
# Modules that read more than one step, and know of no other rank.
_OF_ONE_PROCESS = (LinearRNNCell, nn.RNNBase, nn.Conv1d, nn.MultiheadAttention)


class AlongTime(nn.Module):
    """A module that reads several steps, and does so over ranks too.

    Attributes:
        time_mesh: the ranks on which its time lies (:func:`shard_time`); None: one process has all steps.
    """

    time_mesh: Any = None

    def require_shardable(self) -> None:
        """Raise ``ValueError`` where the module's settings need all steps in one process."""


def shard_time(model: Model, mesh: Any) -> Model:
    """Let every layer of a model run over a time axis whose stretches lie on ranks; return the model.

    Each rank then calls the model on its own steps, and all call ``backward``. A parameter's gradient on a rank is the
    part that its steps make: the sum over the ranks is the gradient, and ``DistributedDataParallel`` takes the mean.
    Every layer, block and model of :mod:`retrograd.nn` calls this for its own argument ``time_mesh``.

    Args:
        model: layers of :mod:`retrograd.nn` among modules that treat every step by itself.
        mesh: a ``DeviceMesh`` of one dimension, with which a model can be copied and pickled, or a process group; None
            leaves the model as it is.

    Raises:
        TypeError: the model has a layer that cannot run so, or ``mesh`` is neither.
        ValueError: the model pools over time.

    Examples:
        >>> import copy, torch
        >>> from retrograd import distributed, nn
        >>> x, model = torch.randn(1, 10, 3), nn.SequenceModel(3, 4, layer="LRU")
        >>> y, _ = model(x)
        >>> def work(ranks):
        ...     stretch = x[:, 5 * ranks.rank : 5 * ranks.rank + 5]
        ...     return shard_time(copy.deepcopy(model), ranks)(stretch)[0]
        >>> torch.allclose(torch.cat(distributed.simulate(2, work), 1), y, atol=1e-5)
        True
    """
    if mesh is None:
        return model
    _require_mesh(mesh)
    parts = list(model.named_modules())
    for name, part in parts:
        if isinstance(part, _OF_ONE_PROCESS):
            raise TypeError(
                f"model has a {type(part).__name__} ({name or 'itself'}), which needs all steps in one process"
            )
        if isinstance(part, AlongTime):
            part.require_shardable()
    for _, part in parts:
        if isinstance(part, AlongTime):
            part.time_mesh = mesh
    return model


def _require_mesh(mesh: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless these are ranks in one order."""
    if hasattr(mesh, "get_group"):
        if mesh.ndim != 1:
            raise ValueError(f"time_mesh has {mesh.ndim} dimensions, expected the one of time: give mesh['time']")
    elif not isinstance(mesh, Ranks | dist.ProcessGroup):
        raise TypeError(f"time_mesh is {type(mesh).__name__}, expected a DeviceMesh or a process group")


def scan_along(time_mesh: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the scan of one process, or, where time lies on the ranks of a mesh, the one over them."""
    return scan if time_mesh is None else partial(sharded_scan, **named(time_mesh))


def states_before(time_mesh: Any, states: Tensor, h0: Tensor) -> Tensor:
    """Return h_{t-1} for every step of whole rows ``(batch, time, width)``, also where time lies on ranks."""
    return previous_states(states, h0) if time_mesh is None else previous(states, h0, **named(time_mesh))[0]


def refuse_lengths(time_mesh: Any, lengths: Tensor | None) -> None:
    """Raise ``ValueError`` where time lies on ranks and rows are padded: which steps are padding a rank cannot say."""
    if time_mesh is not None and lengths is not None:
        raise ValueError(
            "lengths was given to a layer whose time lies on ranks: pack the sequences (cu_seqlens, reset)"
        )


def named(time_mesh: Any) -> dict[str, Any]:
    """Return the ranks under the name that :func:`retrograd.distributed.scan` takes them by."""
    return {"mesh" if hasattr(time_mesh, "get_group") else "group": time_mesh}
