"""Launches without a GPU: kernels that write themselves down, on tensors of the device `meta`.

A meta tensor has no values, so that whatever would copy them to the host raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from retrograd.backends.triton.backend import TritonBackend
from retrograd.core import backend as seam
from retrograd.core.backend import BACKENDS

# Operations of torch that launch nothing.
_FREE = {
    *(
        "alias",
        "as_strided",
        "detach",
        "empty",
        "empty_like",
        "expand",
        "permute",
        "select",
        "slice",
        "split",
        "squeeze",
    ),
    *("t", "transpose", "unbind", "unsqueeze", "view", "_unsafe_view", "_reshape_alias"),
}


class _Kernel:
    def __init__(self, name: str, found: list[str]) -> None:
        self.name, self.found = name, found

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        assert all(size <= 65535 for size in grid[1:]), f"{self.name}: grid {grid}"
        return lambda *_given, **_options: self.found.append(self.name)


class _Operations(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operator.overloadpacket.__name__
        if name not in _FREE:
            self.found.append(name)
        return operator(*args, **kwargs or {})


@contextmanager
def launches() -> Iterator[list[str]]:
    """The names of kernels and of torch's operations, as they launch; no kernel runs."""
    from retrograd.backends.triton import dense, diagonal, products, varying

    found: list[str] = []
    with pytest.MonkeyPatch.context() as patch, _Operations(found):
        for module in (dense, diagonal, products, varying):
            for name, kernel in vars(module).items():
                if hasattr(kernel, "arg_names"):  # a kernel of Triton, compiled or interpreted
                    patch.setattr(module, name, _Kernel(name, found))
        yield found


@contextmanager
def on_meta() -> Iterator[None]:
    """The Triton backend serves meta tensors."""
    backend = TritonBackend()
    backend.devices = ("meta",)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKENDS, "triton", backend)
        yield
    seam._chosen.cache_clear()  # it keeps what was chosen


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@contextmanager
def host_reads() -> Iterator[list[str]]:
    """What reads values on the host: a GPU's host would wait there."""
    found: list[str] = []

    class Reads(_Operations):
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if operator.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "equal", "masked_select"):
                found.append(operator.overloadpacket.__name__)
            return operator(*args, **kwargs or {})

    def told(name: str) -> Callable[..., Any]:
        method = getattr(Tensor, name)

        def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            found.append(name)
            return method(self, *args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch, Reads([]):
        for name in ("cpu", "numpy", "tolist"):
            patch.setattr(Tensor, name, told(name))
        yield found
