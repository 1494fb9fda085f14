"""The C++ core: every instruction set, any number of threads, any layout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import retrograd as rg
from kernels import Kernels, isa
from oracle import Running, assert_close, loop_adjoint, loop_scan
from retrograd import _native
from retrograd.core.backend import BACKENDS

NATIVE, REFERENCE = Kernels(BACKENDS["native"]), Kernels(BACKENDS["reference"])
LOG = Kernels(BACKENDS["native"], rg.Diagonal.from_log)
outer_sum = BACKENDS["native"].outer_sum
WHOLE = [torch.float32, torch.float64, torch.complex64, torch.complex128]
# Half precision has diagonal kernels only.
SERVED = [("dense", d) for d in WHOLE]
SERVED += [(s, d) for s in ("diagonal", "log_diagonal") for d in (*WHOLE, torch.bfloat16, torch.float16)]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random(shape: tuple[int, ...], dtype: torch.dtype, seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    wide = torch.promote_types(dtype, torch.float32)
    return (torch.randn(shape, dtype=wide, generator=generator) * scale).to(dtype)


def problem(
    structure: str, steps: str, dtype: torch.dtype, groups: int, rows: int, time: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    lead = (groups, 1 if steps == "invariant" else time)
    A = (
        random((*lead, width, width), dtype, 0, 0.4 / width**0.5)
        if structure == "dense"
        else random((*lead, width), dtype, 0, 0.2) - (1 if structure == "log_diagonal" else 0)
    )
    return A, random((groups * rows, time, width), dtype, 1), random((groups * rows, width), dtype, 2)


def kernels_of(structure: str) -> Kernels:
    return LOG if structure == "log_diagonal" else NATIVE


def expand(A: Tensor, u: Tensor) -> Tensor:
    return A.repeat_interleave(u.shape[0] // A.shape[0], 0).expand(u.shape[0], u.shape[1], *A.shape[2:])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("structure", "dtype"), SERVED, ids=str)
@pytest.mark.parametrize("steps", ["invariant", "varying"])
@pytest.mark.parametrize("name", _native.isas())
def test_every_instruction_set_is_right(
    name: str, structure: str, steps: str, dtype: torch.dtype, reverse: bool
) -> None:
    eps, kernels = torch.finfo(dtype).eps, kernels_of(structure)
    with isa(name):
        for groups, rows, width in ((1, 5, 2), (2, 4, 3), (1, 1, 4), (1, 1, 7), (2, 3, 17), (1, 11, 34), (2, 2, 257)):
            A, u, h0 = problem(structure, steps, dtype, groups, rows, 6, width)
            full = expand(A, u)
            if structure == "log_diagonal":
                full = full.to(torch.complex128 if dtype.is_complex else torch.float64).exp()
            states = kernels.scan(A, u, h0, reverse)
            assert_close(states, loop_scan(full, u, h0, reverse), eps, "states")
            delta, d_h0, d_A = kernels.adjoint(A, u.flip(0), h0.flip(0), reverse, states, h0)
            want = loop_adjoint(full, u, h0, u.flip(0), h0.flip(0), reverse)
            assert_close(delta, want["u"], eps, "delta")
            assert_close(d_h0, want["h0"], eps, "d_h0")
            by_group = want["A"] * Running(full.conj(), full.abs()) if structure == "log_diagonal" else want["A"]
            by_group.value = by_group.value.unflatten(0, (groups, rows))
            by_group.error = by_group.error.unflatten(0, (groups, rows))
            summed = by_group.sum(1)
            if steps == "invariant":
                summed = summed.sum(1)
                summed.value, summed.error = summed.value.unsqueeze(1), summed.error.unsqueeze(1)
            assert d_A is not None
            assert_close(d_A, summed, eps, "d_A")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_environment_chooses_the_instruction_set() -> None:
    for name in _native.isas():
        done = run("import retrograd._native as n; print(n.isa())", RETROGRAD_ISA=name)
        assert done.stdout.strip() == name, done.stderr
    assert run("import retrograd._native as n; print(n.isa())", RETROGRAD_ISA="").stdout.strip() == _native.isas()[0]
    scan = "import torch, retrograd as rg; rg.scan(rg.Diagonal(torch.ones(1)), torch.ones(2, 1))"
    done = run(scan, RETROGRAD_ISA="mmx")
    assert done.returncode != 0
    assert "RETROGRAD_ISA is 'mmx', which this machine or build lacks; it has" in done.stderr
    assert ", ".join(_native.isas()) in done.stderr


# --- long sequences: chunks and blocks of time -----------------------------------------------------------------------


def orthogonal(width: int, dtype: torch.dtype) -> Tensor:
    return torch.linalg.qr(random((width, width), dtype, 3))[0]


@pytest.mark.parametrize("kind", ["forgets", "keeps", "grows", "nilpotent"])
@pytest.mark.parametrize("shape", [(1, 3000, 5), (2, 1100, 33), (3, 1500, 2), (1, 1025, 70)], ids=str)
@pytest.mark.parametrize("dtype", WHOLE, ids=str)
def test_chunks_give_what_one_sweep_gives(dtype: torch.dtype, shape: tuple[int, int, int], kind: str) -> None:
    batch, time, width = shape
    Q, eps = orthogonal(width, dtype), torch.finfo(dtype).eps
    W = {"forgets": 0.5 * Q, "keeps": Q, "grows": 1.002 * Q, "nilpotent": 3 * Q.triu(1)}[kind]
    u, h0 = random(shape, dtype, 1), random((batch, width), dtype, 2, 100.0)
    g, g_final = u.flip(0), h0.flip(0)
    A = W.expand(batch, time, width, width)
    states, back = loop_scan(A, u, h0), loop_adjoint(A, u, h0, g, g_final)

    def assert_as_one_sweep(got: Tensor, want: Running, what: str) -> None:
        assert_close(got, want, eps, what)
        # The bound takes |W| for W, which says nothing of a long orthogonal sequence; its steps keep an error's length.
        error = (got.to(want.value.dtype) - want.value).abs().max()
        assert error <= 2 * eps * time * want.value.abs().max(), f"{what}: {error}"

    for reverse in (False, True):
        # Backwards through a reversed sequence: one oracle for both.
        def turned(x: Tensor, reverse: bool = reverse) -> Tensor:
            return x.flip(1) if reverse else x

        found = NATIVE.scan(W[None, None], turned(u), h0, reverse)
        assert_as_one_sweep(turned(found), states, "states")
        delta, d_h0, d_A = NATIVE.adjoint(W[None, None], turned(g), g_final, reverse, found, h0)
        assert_as_one_sweep(turned(delta), back["u"], "delta")
        assert_close(d_h0, back["h0"], eps, "d_h0")
        assert d_A is not None
        assert_close(d_A[0, 0], back["A"].sum(0).sum(0), eps, "d_A")


def test_a_group_for_each_row_in_chunks() -> None:
    W = torch.stack([0.9 * orthogonal(6, torch.float64), 0.3 * torch.eye(6, dtype=torch.float64)])
    u, h0 = random((2, 1200, 6), torch.float64, 1), random((2, 6), torch.float64, 2)
    A = W[:, None].expand(2, 1200, 6, 6)
    assert_close(NATIVE.scan(W[:, None], u, h0, False), loop_scan(A, u, h0), torch.finfo(torch.float64).eps)


@pytest.mark.parametrize("W", [[[0, 1e30], [1e-30, 0]], [[1.2, 0.1], [0.0, 1.1]], [[1e-30, 1e30], [1e-30, 1e-30]]])
def test_what_overflows_in_one_sweep_alone_overflows_in_chunks(W: list[list[float]]) -> None:
    A = torch.tensor(W)[None, None]
    u, h0 = random((1, 2000, 2), torch.float32, 0, 1e-5), torch.zeros(1, 2)
    for name in _native.isas():
        with isa(name):
            got, want = NATIVE.scan(A, u, h0, False), REFERENCE.scan(A, u, h0, False)
            assert torch.equal(got.isfinite(), want.isfinite())
            assert torch.equal(got.isnan(), want.isnan())
            torch.testing.assert_close(got, want, rtol=1e-3, atol=0, equal_nan=True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("structure", ["dense", "diagonal"])
def test_nan_and_inf_in_a_long_sequence_stay_in_it_and_last(structure: str, bad: float) -> None:
    A, u, h0 = problem(structure, "invariant" if structure == "dense" else "varying", torch.float32, 1, 2, 4000, 5)
    clean = NATIVE.scan(A, u, h0, False)
    u[1, 700, 2] = bad
    states = NATIVE.scan(A, u, h0, False)
    assert torch.equal(states[0], clean[0])
    assert torch.equal(states[1, :700], clean[1, :700])
    want = REFERENCE.scan(A, u, h0, False)
    assert torch.equal(states.isnan(), want.isnan())
    assert torch.equal(states.isinf(), want.isinf())


@pytest.mark.parametrize("width", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("gates", ["forget", "keep", "grow", "overflow", "nan", "log forget", "log overflow"])
@pytest.mark.parametrize("dtype", [*WHOLE, torch.bfloat16], ids=str)
def test_blocks_of_time_change_no_bit(dtype: torch.dtype, gates: str, width: int) -> None:
    a = 0.9 + 0.05 * random((1, 5000, width), dtype, 0).abs().clamp(max=1).to(dtype)
    if gates in ("keep", "grow"):
        a = torch.full_like(a, 1.0 if gates == "keep" else 1.002)
    elif gates.endswith("overflow"):
        a = torch.tensor([1e30, 1e30, 1e-30, 1e-30] * 1250).to(dtype)[None, :, None].expand(1, 5000, width)
    elif gates == "nan":
        a = a.index_fill(1, torch.tensor([2700]), float("nan"))
    u, h0 = random((1, 5000, width), dtype, 1), random((1, width), dtype, 2)
    kernels = LOG if gates.startswith("log") else NATIVE
    a = a.log() if kernels is LOG else a

    def call() -> list[Tensor]:
        states = kernels.scan(a, u, h0, False)
        return [states, *(x for x in kernels.adjoint(a, u, h0, False, states, h0) if x is not None)]

    with threads(1):
        want = call()
    for count in (2, 3, 4):
        with threads(count):
            for x, y in zip(call(), want, strict=True):
                assert torch.equal(x.isnan(), y.isnan())
                assert torch.equal(x.nan_to_num(), y.nan_to_num())


def test_what_dies_away_becomes_zero_not_subnormal() -> None:
    smallest = torch.finfo(torch.float32).tiny
    for A in (torch.full((1, 1, 40), 0.5), torch.eye(40)[None, None] * 0.5):
        states = NATIVE.scan(A, torch.zeros(1, 2000, 40), torch.ones(1, 40), False)
        assert (states[0, :126, 0] == 0.5 ** torch.arange(1.0, 127)).all()
        assert ((states == 0) | (states >= smallest)).all()
        assert (states[:, 130:] == 0).all()
    assert torch.full((1,), smallest).div(2).item() > 0  # and the caller's own arithmetic is as it was


# --- the same bits --------------------------------------------------------------------------------------------------


def assert_same_bits(call: Callable[[], list[Tensor]]) -> None:
    """The results of call are the same on 1, 2 and 4 threads, and from run to run."""
    results = []
    for count in (1, 2, 4, 2, 1):
        with threads(count):
            results.append(call())
    for other in results[1:]:
        for i, (x, y) in enumerate(zip(results[0], other, strict=True)):
            assert torch.equal(x, y), f"result {i} differs by {(x - y).abs().max():.3g}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128], ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 1, 40, 100), (1, 13, 30, 70), (3, 2, 500, 33), (1, 32, 512, 64), (2, 2, 30, 260)], ids=str
)
@pytest.mark.parametrize("steps", ["invariant", "varying"])
@pytest.mark.parametrize("structure", ["diagonal", "log_diagonal", "dense"])
def test_threads_change_no_bit(
    structure: str, steps: str, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    groups, rows, time, width = shape
    if structure == "dense" and steps == "varying":
        time = min(time, 40)
    A, u, h0 = problem(structure, steps, dtype, groups, rows, time, width)
    kernels = kernels_of(structure)

    def call() -> list[Tensor]:
        states = kernels.scan(A, u, h0, False)
        delta, d_h0, d_A = kernels.adjoint(A, u, h0, False, states, h0)
        assert d_A is not None
        return [states, delta, d_h0, d_A]

    assert_same_bits(call)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128], ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1000),
        (2, 7, 33, 3000),
        (5, 64, 8, 700),
        (3, 300, 200, 300),
        (2, 256, 260, 900),
        (600, 270, 256, 3),
        (4, 9, 5, 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("shifted", [False, True])
def test_a_sum_of_outer_products_is_right_and_threads_change_no_bit(
    dtype: torch.dtype, shape: tuple[int, int, int, int], shifted: bool
) -> None:
    batch, height, width, time = shape
    d, h = random((batch, time, height), dtype, 0), random((batch, time, width), dtype, 1)
    before = random((batch, width), dtype, 2) if shifted else None
    met = h if before is None else torch.cat([before[:, None], h[:, :-1]], 1)
    want = Running.exact(d.flatten(0, 1)).mH.conj() @ Running.exact(met.flatten(0, 1)).conj()
    for name in _native.isas():
        with isa(name):
            assert_close(outer_sum(d, h, before), want, torch.finfo(dtype).eps)
    assert_same_bits(lambda: [outer_sum(d, h, before)])
    turned = d.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(outer_sum(turned, h, before), outer_sum(d, h, before))


def test_a_sum_over_nothing_is_zero() -> None:
    assert torch.equal(outer_sum(torch.ones(0, 3, 2), torch.ones(0, 3, 4)), torch.zeros(2, 4))
    assert torch.equal(outer_sum(torch.ones(3, 0, 2), torch.ones(3, 0, 4)), torch.zeros(2, 4))


@pytest.mark.parametrize("closed_loop", [False, True])
@pytest.mark.parametrize("shape", [(1, 300, 16, 3), (16, 128, 64, 8), (32, 512, 128, 32)], ids=str)
def test_threads_change_no_bit_of_the_weight_gradients(shape: tuple[int, int, int, int], closed_loop: bool) -> None:
    batch, time, hidden, inputs = shape
    arrays = {
        "weight_hh": random((hidden, hidden), torch.float32, 0, 0.5 / hidden**0.5),
        "weight_ih": random((hidden, inputs), torch.float32, 1, 0.1),
        "bias": random((hidden,), torch.float32, 2),
        "weight_out": random((2, hidden), torch.float32, 3, 0.1),
        "bias_out": random((2,), torch.float32, 4),
    }
    x = random((batch, time, inputs), torch.float32, 5)

    def call() -> list[Tensor]:
        g = rg.bptt(x, **arrays, loss=lambda y: (y**2).sum(), feedback=True if closed_loop else None)
        return [g.states, g.delta, g.x, g.weight_hh, g.weight_ih, g.bias, g.weight_out, g.bias_out]

    assert_same_bits(call)


# --- extremes and layouts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["diagonal", "dense"])
@pytest.mark.parametrize("name", _native.isas())
def test_gates_whose_product_overflows(name: str, structure: str) -> None:
    """1e30 twice, then 1e-30 twice: the product of two leaves float32, the states do not."""
    gates = torch.tensor([1e30, 1e30, 1e-30, 1e-30] * 6)[:, None].expand(24, 20)
    A = gates if structure == "diagonal" else gates[..., None] * torch.eye(20)
    u = random((3, 24, 20), torch.float32, 0, 1e-30)
    with isa(name):
        states, _ = rg.scan(rg.Diagonal(A) if structure == "diagonal" else rg.Dense(A), u, backend="native")
        assert states.isfinite().all()
        full = torch.broadcast_to(A, (3, *A.shape))
        h0 = torch.zeros(3, 20)
        assert_close(states, loop_scan(full, u, h0), torch.finfo(torch.float32).eps, "states")
        delta, d_h0, _ = NATIVE.adjoint(A[None], u, h0, False)
        want = loop_adjoint(full, u, h0, u, h0)
        assert_close(delta, want["u"], torch.finfo(torch.float32).eps, "delta")
        assert_close(d_h0, want["h0"], torch.finfo(torch.float32).eps, "d_h0")


@pytest.mark.parametrize(("structure", "dtype"), SERVED, ids=str)
def test_layouts_change_no_bit(structure: str, dtype: torch.dtype) -> None:
    A, u, h0 = problem(structure, "varying", dtype, 4, 1, 9, 18)
    kernels = kernels_of(structure)
    states = kernels.scan(A, u, h0, False)
    want = kernels.adjoint(A, u, h0, False, states, h0)
    for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0)):

        def turned(x: Tensor, order: tuple[int, ...] = order) -> Tensor:
            rest = tuple(range(3, x.ndim))
            moved = x.permute(*order, *rest).contiguous().permute(*(order.index(i) for i in range(3)), *rest)
            assert not moved.is_contiguous()
            return moved

        wide = torch.zeros(4, 2 * 18, dtype=dtype)
        wide[:, ::2] = h0
        assert torch.equal(kernels.scan(turned(A), turned(u), wide[:, ::2], False), states)
        got = kernels.adjoint(turned(A), turned(u), wide[:, ::2], False, turned(states), wide[:, ::2])
        for x, y in zip(got, want, strict=True):
            assert x is not None
            assert y is not None
            assert torch.equal(x, y)
