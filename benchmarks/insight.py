"""What a whole analysis costs, in runs forward and backward of the same network. `make bench-insight`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import retrograd as rg
from benchmarks import record
from benchmarks.contract import side_by_side
from retrograd.insight import Sweep, analyse

RESULT = Path(__file__).parent / "results" / "insight.json"
LENGTH, WIDTH, INPUTS = 4096, 64, 2
# From this step on the network's own outputs are its inputs.
CLOSED_FROM = 4000
# Transitions, batch, and the states that the loss looks at.
PROBLEMS = [
    ("dense", 1, "every"),
    ("dense", 1, "last"),
    ("dense", 8, "every"),
    ("dense", 32, "every"),
    ("diagonal", 1, "every"),
    ("diagonal", 1, "last"),
    ("diagonal", 8, "every"),
    ("diagonal, complex", 1, "every"),
    ("diagonal, its own at each step", 1, "every"),
    ("diagonal, its own at each step", 1, "last"),
    ("diagonal, its own at each step", 8, "every"),
    ("dense, its own at each step", 1, "every"),
    ("dense, its own at each step", 1, "last"),
]
WIDE = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def transition(structure: str, dtype: torch.dtype) -> tuple[type[rg.Dense] | type[rg.Diagonal], Tensor]:
    """Return the kind and its parameter, of a network that neither explodes nor forgets at once."""
    source = torch.Generator().manual_seed(0)
    leading = (LENGTH,) if "step" in structure else ()
    if structure.startswith("dense"):
        W = torch.randn(*leading, WIDTH, WIDTH, generator=source)
        return rg.Dense, (0.95 * W / WIDTH**0.5).to(dtype)
    a = 0.49 + 0.5 * torch.rand(*leading, WIDTH, generator=source)
    if "complex" in structure:
        return rg.Diagonal, torch.polar(a, torch.rand(WIDTH, generator=source)).to(WIDE[dtype])
    return rg.Diagonal, a.to(dtype)


def calls(structure: str, batch: int, looked_at: str, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """Return a scan forward and backward, of one dense matrix a linear RNN too, and the analysis, sweep included."""
    kind, parameter = transition(structure, dtype)
    x = torch.randn(batch, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1)).to(parameter.dtype)
    A, u = parameter.requires_grad_(), x.clone().requires_grad_()

    def loss(states: Tensor) -> Tensor:
        return (states if looked_at == "every" else states[..., -1:, :]).abs().square().mean()

    def scan() -> None:
        A.grad = u.grad = None
        loss(rg.scan(kind(A), u)[0]).backward()

    found = {"scan": scan, "analysis": lambda: analyse(Sweep.of_scan(kind(A), u, loss=loss))}
    if structure == "dense":
        network = rg.nn.LinearRNN(WIDTH, WIDTH, batch_first=True).to(dtype)
        with torch.no_grad():
            network.weight_hh_l0.copy_(A)

        def whole_network() -> None:
            network.zero_grad()
            loss(network(x)[0]).backward()

        found["network"] = whole_network
    return found


def closed_loop(dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """Return the four steps of a linear RNN that is fed its own outputs at the end, and the analysis."""
    source = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source).to(dtype)

    arrays = {
        "x": normal(LENGTH, INPUTS),
        "weight_hh": 0.5 * torch.linalg.qr(normal(WIDTH, WIDTH)).Q,
        "weight_ih": normal(WIDTH, INPUTS) / 8,
        "weight_out": normal(INPUTS, WIDTH) / WIDTH,
        "feedback": torch.arange(LENGTH) >= CLOSED_FROM,
        "loss": lambda outputs: outputs.square().mean(),
    }
    return {"network": lambda: rg.bptt(**arrays), "analysis": lambda: analyse(Sweep.of_weights(**arrays))}


def row(problem: str, dtype: torch.dtype, found: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return the times of all, taking turns."""
    times = dict(zip(found, side_by_side(list(found.values())), strict=True))
    result: dict[str, Any] = {"problem": f"{problem}, {str(dtype).removeprefix('torch.')}"}
    runs = [name for name in ("scan", "network") if name in times]
    result |= {f"{name} forward + backward, ms": round(times[name], 3) for name in runs}
    result["analysis, ms"] = round(times["analysis"], 3)
    return result | {f"analysis / {name}": round(times["analysis"] / times[name], 2) for name in runs}


def main() -> None:
    options = record.parser(__doc__).parse_args()
    if not options.dry_run:
        record.require_clean()
    machine = record.machine()
    rows = []
    for dtype in WIDE:
        for structure, batch, looked_at in PROBLEMS:
            problem = f"{structure} ({batch},{LENGTH},{WIDTH}), loss at {looked_at} state"
            rows.append(row(problem, dtype, calls(structure, batch, looked_at, dtype)))
            print(rows[-1], flush=True)
        problem = f"dense (1,{LENGTH},{WIDTH}), its own outputs from step {CLOSED_FROM} on"
        rows.append(row(problem, dtype, closed_loop(dtype)))
        print(rows[-1], flush=True)
    if not options.dry_run:
        record.write(RESULT, {"machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
