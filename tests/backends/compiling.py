"""Compile every kernel for an H100, on a machine with or without a GPU; print how many binaries were made, and of what.

Run as a script, without TRITON_INTERPRET: a driver of its own says that there is an H100, and launches nothing.
"""

from __future__ import annotations

import collections
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from retrograd.backends.triton.backend import TritonBackend
from retrograd.core.sequences import FORWARD, Sequences
from retrograd.core.transition import Dense, Diagonal

MADE: collections.Counter[str] = collections.Counter()


class Launcher:
    """What launches a compiled kernel: nothing."""

    launch_cooperative_grid = False

    def __init__(self, _source: object, metadata: Any) -> None:
        MADE[metadata.name] += 1

    def __call__(self, *_given: object) -> None:
        """Launch nothing."""


class Utils:
    """What loads a binary."""

    def load_binary(self, *_given: object) -> tuple[int, int, int, int, int]:
        """Return module, function, registers, spills and the threads of a program, at most."""
        return 1, 1, 0, 0, 1024

    def get_device_properties(self, _device: int) -> dict[str, int]:
        """Return what an H100 has."""
        return {"max_shared_mem": 232448, "multiprocessor_count": 132, "warpSize": 32, "max_num_regs": 65536}


class Driver:
    """An H100 that runs nothing."""

    utils, launcher_cls = Utils(), Launcher

    def get_current_target(self) -> GPUTarget:
        """Return the target that Triton compiles for."""
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        """Return the device."""
        return 0

    def get_current_stream(self, _device: int) -> int:
        """Return the stream."""
        return 0


def both_ways(A: Diagonal | Dense, batch: int, time: int, width: int, kind: str = "whole", count: int = 0) -> None:
    """Launch a scan and its adjoint."""
    backend, dtype = TritonBackend(interpreted=True), A.arrays[0].dtype
    u, h0 = torch.zeros(batch, time, width, dtype=dtype), torch.zeros(count or batch, width, dtype=dtype)
    view = FORWARD
    if kind == "reset":
        view = Sequences(batch, time, reset=torch.zeros(batch, time, dtype=torch.bool)).view("steps")
    states = backend.scan(A, u, h0, view)
    backend.adjoint(A, u, h0, view, states, h0)


def main() -> None:
    driver.set_active(Driver())
    both_ways(Diagonal(torch.zeros(2, 64, 8192)), 2, 64, 8192)  # whole rows, tiles that come out even
    both_ways(Diagonal(torch.zeros(8192, dtype=torch.bfloat16)), 2, 61, 8192)  # shared, invariant, masked
    both_ways(Diagonal(torch.zeros(2, 64, 1024)), 2, 64, 1024, "reset")
    both_ways(Diagonal(torch.zeros(1, 1024, 64)), 1, 1024, 64)  # chunks
    both_ways(Diagonal(torch.zeros(1, 64, 64, dtype=torch.complex64)), 1, 64, 64)
    both_ways(Diagonal.from_log(torch.zeros(1, 1024, 64)), 1, 1024, 64)
    both_ways(Diagonal.from_log(torch.zeros(64, dtype=torch.complex64)), 2, 64, 64)
    both_ways(Dense(torch.zeros(64, 64)), 2, 256, 64)
    both_ways(Dense(torch.zeros(64, 64)), 2, 256, 64, "reset")
    both_ways(Dense(torch.zeros(2, 40, 20, 20)), 2, 40, 20)
    both_ways(Dense(torch.zeros(1, 256, 20, 20, dtype=torch.complex128)), 2, 256, 20, "reset")  # chunks
    print(sum(MADE.values()), *sorted(MADE))


if __name__ == "__main__":
    main()
