"""The library of torch operators, and when their kernels may be called directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

__all__ = [
    "batched_gradient_level",
    "call",
    "forward_levels",
    "functorch_is_active",
    "is_differentiated",
    "is_transformed",
    "is_watched",
    "library",
]

library = torch.library.Library("retrograd", "DEF")

# Private names of torch; without them every call goes through the operators.
_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
functorch_is_active: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_PLAIN = (Tensor, torch.nn.Parameter)


def is_watched(*tensors: Tensor) -> bool:
    """Say whether anybody has to see operators: a tracer, a transformation, a mode, a subclass of Tensor."""
    if torch.compiler.is_compiling() or _modes() or functorch_is_active():
        return True
    try:
        for x in tensors:
            if type(x) not in _PLAIN:
                return True
            x.data_ptr()  # a batched tensor has none
    except RuntimeError:
        return True
    return False


def is_transformed(*tensors: Tensor) -> bool:
    """Say whether operations are watched, or run in forward mode or over batched gradients.

    A Function with a reverse rule alone then cannot stand for them.
    """
    return is_watched(*tensors) or forward_ad._current_level >= 0 or batched_gradient_level() > 0


def is_differentiated() -> bool:
    """Say whether operations that run now may be differentiated, in either mode."""
    return torch.is_grad_enabled() or forward_ad._current_level >= 0


def call(name: str, kernel: Callable[..., Any], tensors: tuple[Tensor, ...], *args: Any) -> Any:
    """Call the operator, or the kernel itself when no tracer or transform is active."""
    return getattr(torch.ops.retrograd, name)(*args) if is_watched(*tensors) else kernel(*args)


def batched_gradient_level() -> int:
    """Return the level of the older vmap, in which ``torch.autograd.grad(is_grads_batched=True)`` runs; 0: none."""
    if torch.compiler.is_compiling():
        return 0
    level: int = torch._C._vmapmode_increment_nesting()
    return int(torch._C._vmapmode_decrement_nesting()) if level else 0


def forward_levels() -> int:
    """Return how many levels of torch.func's forward mode are active."""
    if torch.compiler.is_compiling() or not functorch_is_active():
        return 0
    functorch = torch._C._functorch
    return sum(level.key() == functorch.TransformType.Jvp for level in functorch.get_interpreter_stack() or ())
