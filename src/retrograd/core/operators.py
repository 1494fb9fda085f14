"""The library of torch operators, and the short way to their kernels where nobody watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["call", "functorch_is_active", "is_watched", "library"]

library = torch.library.Library("retrograd", "DEF")

# Private names of torch; without them every call takes the long way.
_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
functorch_is_active: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_PLAIN = (Tensor, torch.nn.Parameter)


def is_watched(*args: Any) -> bool:
    """Say whether anybody has to see operators: a tracer, a transformation, a mode, a subclass of Tensor."""
    if torch.compiler.is_compiling() or _modes() or functorch_is_active():
        return True
    try:
        for x in args:
            if isinstance(x, Tensor):
                if type(x) not in _PLAIN:
                    return True
                x.data_ptr()  # a batched tensor has none
    except RuntimeError:
        return True
    return False


def call(name: str, kernel: Callable[..., Any], *args: Any) -> Any:
    """Call the operator, or, where nobody watches, the kernel itself."""
    return getattr(torch.ops.retrograd, name)(*args) if is_watched(*args) else kernel(*args)
