# Made by `make stub` from native/bindings.cpp: arrays cross as DLPack capsules of these tensors.
from collections.abc import Sequence

from torch import Tensor

def diagonal_scan(
    A: Tensor, u: Tensor, h0: Tensor, states: Tensor, segments: Tensor | None, reverse: bool, threads: int
) -> None: ...
def diagonal_adjoint(
    A: Tensor,
    g: Tensor,
    g_final: Tensor,
    delta: Tensor,
    d_h0: Tensor,
    states: Tensor | None,
    h0: Tensor | None,
    d_A: Tensor | None,
    sums: Tensor | None,
    segments: Tensor | None,
    reverse: bool,
    threads: int,
) -> None: ...
def log_diagonal_scan(
    A: Tensor, u: Tensor, h0: Tensor, states: Tensor, segments: Tensor | None, reverse: bool, threads: int
) -> None: ...
def log_diagonal_adjoint(
    A: Tensor,
    g: Tensor,
    g_final: Tensor,
    delta: Tensor,
    d_h0: Tensor,
    states: Tensor | None,
    h0: Tensor | None,
    d_A: Tensor | None,
    sums: Tensor | None,
    segments: Tensor | None,
    reverse: bool,
    threads: int,
) -> None: ...
def dense_scan(
    A: Tensor, u: Tensor, h0: Tensor, states: Tensor, segments: Tensor | None, reverse: bool, threads: int
) -> None: ...
def dense_adjoint(
    A: Tensor,
    g: Tensor,
    g_final: Tensor,
    delta: Tensor,
    d_h0: Tensor,
    states: Tensor | None,
    h0: Tensor | None,
    d_A: Tensor | None,
    sums: Tensor | None,
    segments: Tensor | None,
    reverse: bool,
    threads: int,
) -> None: ...
def outer_sum(
    gradient: Tensor, factor: Tensor, before: Tensor | None, result: Tensor, reverse: bool, threads: int
) -> None: ...
def linear(x: Tensor, weight: Tensor, bias: Tensor | None, result: Tensor, threads: int) -> None: ...
def triad(x: Tensor, y: Tensor, z: Tensor, threads: int) -> None: ...
def empty(shape: Sequence[int], kind: str, bits: int) -> Tensor: ...
def pool_stats() -> dict[str, int]: ...
def pool_release() -> None: ...
def pool_poison(on: bool) -> None: ...
def use_isa(isa: str) -> None: ...
def isa() -> str: ...

openmp: bool

def isas() -> list[str]: ...
