"""bptt against the same gradient by an honest torch loop (unbind) with autograd: T = 1000, B = 32, H = 64, float32."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor

import retrograd as rg

NAME = "bptt (32,1000,64) float32"


def measure(repeats: int = 15) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    batch, steps, hidden = 32, 1000, 64
    x, W, V = random(batch, steps, hidden), random(hidden, hidden) / 16, random(hidden, hidden) / 8
    bias, h0 = random(hidden), random(batch, hidden)

    def explicit() -> Any:
        g = rg.bptt(x, weight_hh=W, weight_ih=V, bias=bias, h0=h0)
        return g.weight_hh, g.weight_ih, g.bias, g.x, g.h0

    def loop() -> Any:
        leaves = [tensor.detach().requires_grad_() for tensor in (W, V, bias, x, h0)]
        W_, V_, bias_, x_, h = leaves
        W_transposed = W_.mT
        for u_t in (x_ @ V_.mT + bias_).unbind(1):
            h = torch.addmm(u_t, h, W_transposed)
        return torch.autograd.grad(h.sum(), leaves)

    for got, want in zip(explicit(), loop(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))
    times: dict[str, list[float]] = {"bptt": [], "loop": []}
    for _ in range(repeats):
        for name, call in (("bptt", explicit), ("loop", loop)):
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    ours, theirs = (statistics.median(t) * 1e3 for t in times.values())
    return {"case": NAME, "bptt_ms": ours, "loop_ms": theirs, "times_faster": theirs / ours}
