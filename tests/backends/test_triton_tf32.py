"""The time-invariant dense scan by three TF32 products keeps the loop's error bound: tensor cores emulated in NumPy.

A float32 x is split as the compiled kernels do (`cvt.rna.tf32`): the nearest number of 11 bits, and that of the rest.
Each product of 8 terms cuts all of them, and what was summed before, to 24 bits below the largest one, towards 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from interpreted import DEVICE, MARKS, REASON, drawn, eps, expand
from numpy.typing import NDArray
from torch import Tensor

from oracle import assert_close, loop_adjoint, loop_scan

pytestmark = [*MARKS, pytest.mark.skipif(DEVICE != "cpu", reason="a GPU has tensor cores")]
Array = NDArray[Any]

if REASON is None:
    from retrograd.backends.triton import dense


def nearest_tf32(x: Array) -> Array:
    return ((x.view(np.int32) + 0x1000) & ~0x1FFF).view(np.float32)


def cut(x: Array, largest: Array) -> Array:
    unit = np.exp2(np.floor(np.log2(np.maximum(largest, 1e-300))) - 23)
    return np.trunc(x / unit) * unit


def tensor_core(total: Array, a: Array, b: Array) -> Array:
    terms = np.concatenate((total[:, None], a[:, :, None].astype(np.float64) * b[None]), 1)
    total = cut(terms, np.abs(terms).max(1, keepdims=True)).sum(1)
    return cut(total, np.abs(total)).astype(np.float32)


def three_products(a: Array, b: Array) -> Array:
    high, low = zip(*((h := nearest_tf32(x), nearest_tf32(x - h)) for x in (a, b)), strict=True)
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for x, y in ((low[0], high[1]), (high[0], low[1]), (high[0], high[1])):
        for k in range(0, a.shape[1], 8):
            total = tensor_core(total, x[:, k : k + 8], y[k : k + 8])
    return total


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """`tl.dot` of the interpreter rounds as tensor cores do; what was computed so."""
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    exactly, done = InterpreterBuilder.create_dot, []

    def create_dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, most: Any) -> Any:
        done.append(str(input_precision))
        if "x3" not in done[-1]:
            return exactly(self, a, b, d, input_precision, most)
        return TensorHandle(three_products(a.data, b.data) + d.data, d.dtype.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
    yield done
    assert any("x3" in precision for precision in done)


def matrix(name: str, width: int) -> Tensor:
    W = drawn(width, width, dtype=torch.float64, seed=1)
    return {
        "random": lambda: W * 0.6 / width**0.5,
        "orthogonal": lambda: torch.linalg.qr(W)[0] * 0.99,
        "positive": lambda: W.abs() / W.abs().sum(1, keepdim=True) * 0.99,  # what is cut off adds up
    }[name]().float()


@pytest.mark.parametrize(
    ("name", "width", "time"),
    [
        ("positive", 16, 64),
        *(
            pytest.param(name, width, time, marks=pytest.mark.slow)
            for name, width, time in (
                ("random", 16, 37),
                ("orthogonal", 16, 1024),
                ("positive", 32, 1024),
                ("orthogonal", 64, 128),
            )
        ),
    ],
)
def test_an_eighth_of_the_loops_bound_is_enough(emulated: list[str], name: str, width: int, time: int) -> None:
    W = matrix(name, width)[None, None]
    u, h0 = drawn(1, time, width, dtype=torch.float32, seed=2), drawn(1, width, dtype=torch.float32, seed=3)
    if name == "positive":
        u, h0 = u.abs(), h0.abs()
    states = dense.scan(W, u, h0)
    assert_close(states, loop_scan(expand(W, u), u, h0), eps(torch.float32), "states", factor=1)
    delta, d_h0, d_W = dense.adjoint(W, u, h0, None, False, states, h0)
    want = loop_adjoint(expand(W, u), u, h0, u, h0)
    assert d_W is not None
    for what, got, expected in (("u", delta, want["u"]), ("h0", d_h0, want["h0"]), ("W", d_W, want["A"].sum(1))):
        assert_close(got.view(expected.value.shape), expected, eps(torch.float32), what, factor=1)
