"""Rounding error of scan and its gradients against an extended-precision loop: `make accuracy`.

L = Σ <g_t, h_t> for random g, of T = 10 ... 10^6 steps with |λ| = 0.5 ... 1, for every structure, dtype, backend and
memory. Each error is the largest one of an array over its largest element, in units of the dtype's rounding (eps): 1 is
as good as can be stored. All runs of a case share inputs that float32 can hold exactly (bfloat16: inputs that bfloat16
can), so that nothing but the arithmetic differs.

The oracle is the plain loop in numpy.longdouble (64 bits of mantissa on x86; elsewhere possibly no more than float64).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import retrograd as rg
from benchmarks import record
from retrograd.core.loop import carry_dtype
from retrograd.pictures import palette

RESULT = Path(__file__).parent / "results" / "accuracy.json"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "accuracy.png"
PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "accuracy.md"
TIMES = [10, 100, 1000, 10_000, 100_000, 1_000_000]
RADII = [0.5, 0.9, 0.99, 0.999, 1.0]
ARRAYS = ("states", "d_u", "d_A")
# Structure, dtype, backend, memory, longest T.
CONTENDERS = [
    ("diagonal", torch.float32, "native", "all", 10**6),
    ("diagonal", torch.float32, "native", "sqrt", 10**6),
    ("diagonal", torch.float32, "reference", "all", 10**4),
    ("diagonal", torch.float64, "native", "all", 10**6),
    ("diagonal", torch.float64, "reference", "all", 10**4),
    ("diagonal", torch.bfloat16, "native", "all", 10**6),
    ("complex diagonal", torch.complex64, "native", "all", 10**6),
    ("complex diagonal", torch.complex64, "reference", "all", 10**4),
    ("complex diagonal", torch.complex128, "native", "all", 10**6),
    ("dense", torch.float32, "native", "all", 10**6),
    ("dense", torch.float32, "native", "sqrt", 10**6),
    ("dense", torch.float32, "reference", "all", 10**4),
    ("dense", torch.float64, "native", "all", 10**6),
    ("dense", torch.float64, "reference", "all", 10**4),
]
WIDTH = 2


def inputs(structure: str, radius: float, half: bool) -> dict[str, Tensor]:
    """A, u and g as float64 (complex128), exact in float32, or in bfloat16 where ``half``."""
    generator = torch.Generator().manual_seed(1)
    turn = torch.polar(torch.tensor(radius, dtype=torch.float64), torch.tensor([0.3, 0.05], dtype=torch.float64))
    if structure == "dense":
        # A scaled rotation: both eigenvalues of modulus |λ|, and no direction of its own.
        A = torch.stack((torch.stack((turn.real[0], -turn.imag[0])), torch.stack((turn.imag[0], turn.real[0]))))
    else:
        A = turn if structure == "complex diagonal" else torch.full((WIDTH,), radius, dtype=torch.float64)
    shape = (2, max(TIMES), WIDTH)
    u, g = torch.randn(shape, dtype=A.dtype, generator=generator)
    stored = torch.bfloat16 if half else torch.complex64 if A.is_complex() else torch.float32
    return {name: x.to(stored).to(x.dtype) for name, x in (("A", A), ("u", u), ("g", g))}


def oracle(p: dict[str, Tensor], time: int) -> dict[str, Any]:
    """The loop and its adjoint, in extended precision."""
    dtype = np.clongdouble if p["A"].is_complex() else np.longdouble
    A, u, g = (p[name].numpy().astype(dtype) for name in ("A", "u", "g"))
    dense, h = A.ndim == 2, np.zeros(WIDTH, dtype)
    adjoint = A.conj().T if dense else A.conj()
    states, d_u, d_A = np.empty((time, WIDTH), dtype), np.empty((time, WIDTH), dtype), np.zeros(A.shape, dtype)
    for t in range(time):
        h = (A @ h if dense else A * h) + u[t]
        states[t] = h
    delta = np.zeros(WIDTH, dtype)
    for t in range(time - 1, -1, -1):
        delta = g[t] + (adjoint @ delta if dense else adjoint * delta)
        d_u[t] = delta
    previous = states[:-1].conj()
    d_A += d_u[1:].T @ previous if dense else (d_u[1:] * previous).sum(0)
    return {"states": states, "d_u": d_u, "d_A": d_A}


def errors(p: dict[str, Tensor], want: dict[str, Any], time: int, contender: tuple[Any, ...]) -> dict[str, float]:
    structure, dtype, backend, memory, _ = contender
    A = p["A"].to(dtype, copy=True).requires_grad_()
    u = p["u"][:time].to(dtype, copy=True).requires_grad_()
    transition = rg.Dense(A) if structure == "dense" else rg.Diagonal(A)
    states, _ = rg.scan(transition, u, backend=backend, memory=memory)
    d_A, d_u = torch.autograd.grad(states, (A, u), p["g"][:time].to(dtype))
    result = {}
    for name, got in (("states", states), ("d_u", d_u), ("d_A", d_A)):
        got = got.detach().to(carry_dtype(dtype)).numpy()
        size = float(np.abs(want[name]).max())
        result[name] = float(np.abs(got - want[name]).max()) / size / torch.finfo(dtype).eps if size else 0.0
    return result


def measure() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for structure in ("diagonal", "complex diagonal", "dense"):
        for half in (False, True):
            contenders = [c for c in CONTENDERS if c[0] == structure and (c[1] == torch.bfloat16) == half]
            for radius in RADII if contenders else []:
                p = inputs(structure, radius, half)
                for time in TIMES:
                    want = oracle(p, time)
                    for contender in contenders:
                        if time > contender[-1]:
                            continue
                        row = {"structure": structure, "dtype": str(contender[1]).removeprefix("torch.")}
                        row |= {"backend": contender[2], "memory": contender[3], "radius": radius, "time": time}
                        rows.append({**row, **errors(p, want, time, contender)})
                        print(*(f"{v:.3g}" if isinstance(v, float) else v for v in rows[-1].values()), flush=True)
    return rows


def draw(rows: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = list(dict.fromkeys((r["structure"], r["dtype"]) for r in rows if r["backend"] == "native"))
    figure, axes = pyplot.subplots(len(ARRAYS), len(kinds), figsize=(2.3 * len(kinds), 6.5), sharex=True, sharey=True)
    colors = [palette.BLUE, palette.GREEN, palette.ORANGE, palette.VERMILLION, palette.PURPLE]
    for column, (structure, dtype) in enumerate(kinds):
        for line, name in enumerate(ARRAYS):
            at = axes[line][column]
            for radius, color, marker in zip(RADII, colors, "os^Dv", strict=True):
                mine = [
                    (r["time"], max(r[name], 0.01))
                    for r in rows
                    if (r["structure"], r["dtype"], r["backend"], r["memory"], r["radius"])
                    == (structure, dtype, "native", "all", radius)
                ]
                at.plot(*zip(*mine, strict=True), color=color, marker=marker, markersize=3, label=f"|λ| = {radius}")
            at.set(xscale="log", yscale="log")
            at.axhline(1, color="grey", linewidth=0.7)
            at.grid(alpha=0.3)
            if line == 0:
                at.set_title(f"{structure}\n{dtype}", fontsize=8)
            if column == 0:
                at.set_ylabel({"states": "states", "d_u": "∂L/∂u", "d_A": "∂L/∂A"}[name] + "\nerror (units of eps)")
            if line == len(ARRAYS) - 1:
                at.set_xlabel("steps T")
    axes[0][0].legend(fontsize=6)
    title = (
        "Largest error over largest element, native backend (1: as good as can be stored; less than 0.01 drawn as that)"
    )
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=130)


def table(rows: list[dict[str, Any]]) -> str:
    """For every contender, the worst of states, ∂L/∂u and ∂L/∂A at its longest T, for each |λ|."""
    head = "| structure | dtype | backend | memory | T |" + "".join(f" {r} |" for r in RADII)
    lines = [head, "|---" * (5 + len(RADII)) + "|"]
    for structure, dtype, backend, memory, longest in CONTENDERS:
        name = str(dtype).removeprefix("torch.")
        cells = []
        for radius in RADII:
            key = (structure, name, backend, memory, radius, longest)
            (row,) = (
                r
                for r in rows
                if (r["structure"], r["dtype"], r["backend"], r["memory"], r["radius"], r["time"]) == key
            )
            cells.append(" / ".join(f"{row[array]:.2g}" for array in ARRAYS))
        lines.append(f"| {structure} | {name} | {backend} | {memory} | {longest:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    options = record.parser(__doc__).parse_args()
    if options.dry_run:
        return print(table(measure()))
    record.require_clean()
    machine = record.machine()
    rows = measure()
    record.write(RESULT, {"machine": machine, "rows": rows})
    draw(rows)
    text = PAGE.read_text()
    begin, end = "<!-- accuracy -->\n", "<!-- /accuracy -->"
    before, after = text.split(begin)[0], text.split(end)[1]
    PAGE.write_text(f"{before}{begin}{table(rows)}\n{end}{after}")
    print(f"{PICTURE} and {PAGE} too:\n\n{table(rows)}")


if __name__ == "__main__":
    main()
