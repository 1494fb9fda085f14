"""A call too small for its arithmetic to count, against a torch.autograd.Function that does nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import retrograd as rg

NAME = "small calls (1,8,2) float32"


class Nothing(torch.autograd.Function):
    """A scan's inputs and outputs without the scan."""

    @staticmethod
    def forward(A: Tensor, u: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        return torch.empty_like(u), torch.empty_like(h0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], inputs[2], output[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor, g_final: Tensor) -> Any:
        A, _, _ = ctx.saved_tensors
        return torch.empty_like(A), g, None


def measure(repeats: int = 1000) -> list[dict[str, Any]]:
    u, g = torch.randn(1, 8, 2, requires_grad=True), torch.ones(1, 8, 2)
    rows = []
    for structure, A in (("diagonal", torch.full((1, 8, 2), 0.5)), ("dense", 0.5 * torch.eye(2))):
        A.requires_grad_()
        make = rg.Diagonal if structure == "diagonal" else rg.Dense

        def scan(A: Tensor = A, make: Any = make) -> Any:
            return torch.autograd.grad(rg.scan(make(A), u)[0], (A, u), g)

        def nothing(A: Tensor = A) -> Any:
            return torch.autograd.grad(Nothing.apply(A, u, torch.zeros(1, 2))[0], (A, u), g)

        calls: dict[str, Callable[[], Any]] = {"scan": scan, "nothing": nothing}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
        ours, bare = (statistics.median(times[name]) * 1e6 for name in ("scan", "nothing"))
        rows.append(
            {"case": f"{structure} (1,8,2)", "microseconds": ours, "bare_microseconds": bare, "ratio": ours / bare}
        )
    return rows
