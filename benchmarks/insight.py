"""What a whole analysis costs, in runs forward and backward of the same network. `make bench-insight`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import retrograd as rg
from benchmarks.contract import side_by_side
from benchmarks.run import machine
from retrograd.files import write_whole
from retrograd.insight import Sweep, analyse

RESULT = Path(__file__).parent / "results" / "insight.json"
LENGTH, WIDTH = 4096, 64
# Batch, and the states that the loss looks at.
PROBLEMS = [(1, "every"), (1, "last"), (8, "every"), (32, "every")]


def calls(batch: int, looked_at: str, dtype: torch.dtype) -> list[Callable[[], Any]]:
    """Return a scan forward and backward, a linear RNN likewise, and the analysis, its sweep included."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(batch, LENGTH, WIDTH, generator=source).to(dtype)
    network = rg.nn.LinearRNN(WIDTH, WIDTH, batch_first=True).to(dtype)
    with torch.no_grad():
        network.weight_hh_l0.copy_(0.95 * torch.randn(WIDTH, WIDTH, generator=source) / WIDTH**0.5)
    u = x.clone().requires_grad_()

    def loss(states: Tensor) -> Tensor:
        return (states if looked_at == "every" else states[..., -1:, :]).square().mean()

    def scan() -> None:
        network.weight_hh_l0.grad = u.grad = None
        loss(rg.scan(rg.Dense(network.weight_hh_l0), u)[0]).backward()

    def whole_network() -> None:
        network.zero_grad()
        loss(network(x)[0]).backward()

    def analysis() -> None:
        analyse(Sweep.of_scan(rg.Dense(network.weight_hh_l0), u, loss=loss))

    return [scan, whole_network, analysis]


def main() -> None:
    rows = []
    for batch, looked_at in PROBLEMS:
        for dtype in (torch.float32, torch.float64):
            scan, network, analysis = side_by_side(calls(batch, looked_at, dtype))
            row = {
                "problem": f"({batch},{LENGTH},{WIDTH}) {str(dtype).removeprefix('torch.')}, loss at {looked_at} state",
                "scan forward + backward, ms": round(scan, 3),
                "network forward + backward, ms": round(network, 3),
                "analysis, ms": round(analysis, 3),
                "analysis / scan": round(analysis / scan, 2),
                "analysis / network": round(analysis / network, 2),
            }
            rows.append(row)
            print(row, flush=True)
    result = {"machine": machine(), "rows": rows}
    write_whole(RESULT, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
