"""What a whole analysis costs, in runs forward and backward of the same scan. `make bench-insight`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import retrograd as rg
from benchmarks.contract import side_by_side
from benchmarks.run import machine
from retrograd.files import write_whole
from retrograd.insight import Sweep, analyse

RESULT = Path(__file__).parent / "results" / "insight.json"
LENGTH, WIDTH = 4096, 64
# Structure, batch; the loss looks at every state, or at the last one.
PROBLEMS = [("dense", 1, "every"), ("dense", 1, "last"), ("dense", 32, "every"), ("diagonal", 1, "every")]


def calls(structure: str, batch: int, looked_at: str, dtype: torch.dtype) -> list[Callable[[], Any]]:
    """Return the run forward and backward, and the analysis of its sweep with the sweep itself."""
    source = torch.Generator().manual_seed(0)
    u = torch.randn(batch, LENGTH, WIDTH, generator=source).to(dtype).requires_grad_()
    if structure == "dense":
        weight = (0.95 * torch.randn(WIDTH, WIDTH, generator=source) / WIDTH**0.5).to(dtype).requires_grad_()
        A: Callable[[], rg.Dense | rg.Diagonal] = lambda: rg.Dense(weight)  # noqa: E731
    else:
        weight = torch.rand(WIDTH, generator=source).to(dtype).requires_grad_()
        A = lambda: rg.Diagonal(weight)  # noqa: E731

    def loss(states: torch.Tensor) -> torch.Tensor:
        return (states if looked_at == "every" else states[..., -1:, :]).square().mean()

    def forward_and_backward() -> None:
        weight.grad = u.grad = None
        loss(rg.scan(A(), u)[0]).backward()

    def whole_analysis() -> None:
        analyse(Sweep.of_scan(A(), u, loss=loss))

    return [forward_and_backward, whole_analysis]


def main() -> None:
    rows = []
    for structure, batch, looked_at in PROBLEMS:
        for dtype in (torch.float32, torch.float64):
            run, analysis = side_by_side(calls(structure, batch, looked_at, dtype))
            row = {
                "problem": f"{structure} ({batch},{LENGTH},{WIDTH}) {str(dtype).removeprefix('torch.')}",
                "loss at": looked_at,
                "forward + backward, ms": round(run, 3),
                "analysis, ms": round(analysis, 3),
                "ratio": round(analysis / run, 2),
            }
            rows.append(row)
            print(row, flush=True)
    write_whole(RESULT, (json.dumps({"machine": machine(), "rows": rows}, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
