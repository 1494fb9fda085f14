"""Recurrent layers in plain loops, written from torch's documentation: what a recorder's numbers are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import retrograd as rg
from retrograd.insight import Recorder

EPS = torch.finfo(torch.float64).eps
LENGTHS = [3, 6, 5]
KINDS: dict[str, Callable[..., nn.Module]] = {
    "tanh": nn.RNN,
    "relu": lambda *sizes, **rest: nn.RNN(*sizes, nonlinearity="relu", **rest),
    "lstm": nn.LSTM,
    "projected lstm": lambda *sizes, **rest: nn.LSTM(*sizes, proj_size=2, **rest),
    "gru": nn.GRU,
    "linear": rg.nn.LinearRNN,
}


def cell(kind: str, W: Callable[[str], Tensor | None], x: Tensor, state: list[Tensor]) -> list[Tensor]:
    """One step of one sequence, written from torch's documentation by matrices: not as the recorder runs it."""
    none = torch.zeros((), dtype=x.dtype)
    b_i, b_h = W("bias_ih"), W("bias_hh")
    a = W("weight_ih") @ x + (none if b_i is None else b_i)
    b = W("weight_hh") @ state[0] + (none if b_h is None else b_h)
    if kind == "linear":
        return [a + b]
    if kind in ("tanh", "relu"):
        return [(torch.tanh if kind == "tanh" else torch.relu)(a + b)]
    size = len(a) // (3 if kind == "gru" else 4)
    A, B = a.view(-1, size), b.view(-1, size)
    if kind == "gru":
        r, z = torch.sigmoid(A[0] + B[0]), torch.sigmoid(A[1] + B[1])
        return [(1 - z) * torch.tanh(A[2] + r * B[2]) + z * state[0]]
    i, f, g, o = A + B
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return [h if W("weight_hr") is None else W("weight_hr") @ h, c]


def _weight(module: nn.Module, weights: Mapping[str, Tensor], suffix: str, name: str) -> Tensor | None:
    return weights[name + suffix] if name + suffix in weights else getattr(module, name + suffix, None)


def brute(
    kind: str,
    module: Any,
    sequences: list[Tensor],
    starts: list[Tensor],
    loss: Callable[[Tensor], Tensor],
    weights: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[tuple[int, str], tuple[list[float], list[float]]]:
    """Return ‖dL/dh_t‖ and ‖dL/dc_t‖ of each layer and direction, sequence by sequence in plain loops.

    ``weights`` stand before the module's own.
    """
    directions = 2 if module.bidirectional else 1
    longest = max(map(len, sequences))
    kept: dict[tuple[int, int], list[list[list[Tensor]]]] = {}
    total = torch.zeros((), dtype=torch.float64)
    for row, sequence in enumerate(sequences):
        inputs = list(sequence)
        for layer in range(module.num_layers):
            outputs = []
            for direction in range(directions):
                weight = partial(_weight, module, weights, f"_l{layer}" + "_reverse" * direction)
                state = [part[layer * directions + direction, row] + 0 for part in starts]
                state = [part.requires_grad_() for part in state]
                found: list[list[Tensor]] = [[] for _ in inputs]
                for t in range(len(inputs))[:: -1 if direction else 1]:
                    state = cell(kind, weight, inputs[t], state)
                    found[t] = state
                kept.setdefault((layer, direction), []).append(found)
                outputs.append([state[0] for state in found])
            inputs = [torch.cat(parts) for parts in zip(*outputs, strict=True)]
        total = total + loss(torch.stack(inputs))
    result = {}
    for (layer, direction), rows in kept.items():
        norms = []
        for part in range(len(starts)):
            square = np.zeros(longest)
            for found in rows:
                gradients = torch.autograd.grad(total, [state[part] for state in found], retain_graph=True)
                square[: len(found)] += [float(g.square().sum()) for g in gradients]
            norms.append(np.sqrt(square).tolist())
        result[layer, ("forward", "backward")[direction]] = (norms[0], norms[1] if len(norms) > 1 else [])
    return result


def looked_at(values: Tensor) -> Tensor:
    """A loss of one sequence's outputs: some steps, nothing at others."""
    return (values[::2] ** 2).sum() + values[-1].sum()


def problem(kind: str, **options: Any) -> tuple[Any, list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    module = KINDS[kind](3, 4, **options).double()
    rows = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    sequences = [torch.randn(length, 3).double() for length in LENGTHS]
    widths = [2 if kind == "projected lstm" else 4] + ([4] if "lstm" in kind else [])
    return module, sequences, [torch.randn(rows, 3, width).double() for width in widths]


def as_hx(starts: list[Tensor]) -> Any:
    return tuple(starts) if len(starts) == 2 else starts[0]


def assert_recorded(records: Any, want: dict[tuple[int, str], tuple[list[float], list[float]]]) -> None:
    assert [(record.layer, record.direction) for record in records] == list(want)
    for record in records:
        delta, cells = want[record.layer, record.direction]
        assert record.delta_norm == pytest.approx(delta, rel=200 * EPS, abs=200 * EPS)
        assert (record.cell_norm is None) == (not cells)
        if cells:
            assert record.cell_norm == pytest.approx(cells, rel=200 * EPS, abs=200 * EPS)
        assert record.total == pytest.approx(np.linalg.norm(delta))
        assert (record.first, record.last) == (record.delta_norm[0], record.delta_norm[-1])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 5)
        self.encoder = nn.GRU(5, 4, batch_first=True)
        self.decoder = rg.nn.LinearRNN(4, 4, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(self.embed(x))[0])[0])


def train(model: nn.Module, steps: int = 4, **options: Any) -> tuple[list[Tensor], Recorder | None]:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder(model, optimizer=optimizer, **options) if options else None
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(2, 7, 3)).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()], recorder
