"""The laws that every backend obeys, and planted bugs that they must catch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import Kernels, transition
from oracle import assert_close, loop_adjoint, loop_scan
from retrograd.core.backend import BACKENDS, Spec, select

EPS = torch.finfo(torch.float64).eps
STRUCTURES = ["diagonal", "dense"]
each_backend = pytest.mark.parametrize("backend", [Kernels(b) for b in BACKENDS.values()], ids=list(BACKENDS))
each_structure = pytest.mark.parametrize("structure", STRUCTURES)
each_kind = pytest.mark.parametrize("steps", ["invariant", "varying"])


def problem(structure: str, steps: str, batch: int = 4, time: int = 9, width: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    shape = (2, 1 if steps == "invariant" else time, *(width,) * (1 if structure == "diagonal" else 2))
    A = torch.randn(shape, dtype=torch.float64, generator=generator) * 0.5
    u = torch.randn(batch, time, width, dtype=torch.float64, generator=generator)
    return A, u, torch.randn(batch, width, dtype=torch.float64, generator=generator)


def from_step(A: Tensor, start: int, end: int) -> Tensor:
    return A if A.shape[1] == 1 else A[:, start:end]


@each_backend
@each_structure
@each_kind
def test_causality(backend: Kernels, structure: str, steps: str) -> None:
    A, u, h0 = problem(structure, steps)
    before = backend.scan(A, u, h0, False)
    u[:, 5:] = torch.nan
    after = backend.scan(A, u, h0, False)
    assert torch.equal(before[:, :5], after[:, :5])
    assert after[:, 5:].isnan().all()


@each_backend
@each_structure
@each_kind
@pytest.mark.parametrize("reverse", [False, True])
def test_splitting_time_anywhere_changes_nothing(backend: Kernels, structure: str, steps: str, reverse: bool) -> None:
    A, u, h0 = problem(structure, steps)
    whole = backend.scan(A, u, h0, reverse)
    time = u.shape[1]
    for cut in range(1, time):
        parts = [(0, cut), (cut, time)]
        carry, pieces = h0, {}
        for start, end in reversed(parts) if reverse else parts:
            pieces[start] = backend.scan(from_step(A, start, end), u[:, start:end], carry, reverse)
            carry = pieces[start][:, 0 if reverse else -1]
        assert_close(torch.cat([pieces[0], pieces[cut]], 1), loop_scan(expand(A, u), u, h0, reverse), EPS, f"cut {cut}")
        torch.testing.assert_close(torch.cat([pieces[0], pieces[cut]], 1), whole, rtol=1e-14, atol=1e-14)


@each_backend
@each_structure
@each_kind
def test_linearity(backend: Kernels, structure: str, steps: str) -> None:
    A, u, h0 = problem(structure, steps)
    v, k0 = torch.flip(u, (0,)), torch.flip(h0, (0,))
    together = backend.scan(A, 2 * u - 3 * v, 2 * h0 - 3 * k0, False)
    apart = 2 * backend.scan(A, u, h0, False) - 3 * backend.scan(A, v, k0, False)
    torch.testing.assert_close(together, apart, rtol=0, atol=100 * EPS * float(apart.abs().max()))


@each_backend
@each_structure
@each_kind
def test_time_reversal(backend: Kernels, structure: str, steps: str) -> None:
    A, u, h0 = problem(structure, steps)
    turned = backend.scan(A.flip(1), u.flip(1), h0, True).flip(1)
    assert torch.equal(turned, backend.scan(A, u, h0, False))


@each_backend
@each_structure
@each_kind
def test_batch_independence(backend: Kernels, structure: str, steps: str) -> None:
    A, u, h0 = problem(structure, steps)
    clean = backend.scan(A, u, h0, False)
    u[1], h0[1] = torch.inf, torch.nan
    dirty = backend.scan(A, u, h0, False)
    for row in (0, 2, 3):
        assert torch.equal(clean[row], dirty[row])
    delta, d_h0, _ = backend.adjoint(A, u, h0, False)
    assert delta[[0, 2, 3]].isfinite().all()
    assert d_h0[[0, 2, 3]].isfinite().all()


@each_backend
@each_structure
@each_kind
@pytest.mark.parametrize("time", [1, 3000])
def test_inner_product_identity(backend: Kernels, structure: str, steps: str, time: int) -> None:
    """<v, S(u, h0)> = <S*(v), (u, h0)>, also at lengths where finite differences are hopeless."""
    A, u, h0 = problem(structure, steps, time=time)
    A = A / (2 * A.abs().sum(-1, keepdim=True)) * 1.8 if structure == "dense" else A.tanh()
    v = u.flip(0).sin()
    left = (v * backend.scan(A, u, h0, False)).sum()
    delta, d_h0, _ = backend.adjoint(A, v, torch.zeros_like(h0), False)
    right = (delta * u).sum() + (d_h0 * h0).sum()
    size = (v.abs() * backend.scan(A.abs(), u.abs(), h0.abs(), False)).sum()
    assert (left - right).abs() <= 8 * EPS * size


def expand(A: Tensor, u: Tensor) -> Tensor:
    rows = u.shape[0] // A.shape[0]
    return A.repeat_interleave(rows, 0).expand(u.shape[0], u.shape[1], *A.shape[2:])


def against_the_loop(backend: Any, structure: str, steps: str, reverse: bool, dtype: torch.dtype) -> None:
    A, u, h0 = (x.to(dtype) * (1 + 0.5j if dtype.is_complex else 1) for x in problem(structure, steps))
    g, g_final = u.flip(0), h0.flip(0)
    states = backend.scan(A, u, h0, reverse)
    assert_close(states, loop_scan(expand(A, u), u, h0, reverse), EPS, "states")
    delta, d_h0, d_A = backend.adjoint(A, g, g_final, reverse, states, h0)
    want = loop_adjoint(expand(A, u), u, h0, g, g_final, reverse)
    assert_close(delta, want["u"], EPS, "delta")
    assert_close(d_h0, want["h0"], EPS, "d_h0")
    by_group = want["A"].value.reshape(A.shape[0], -1, *want["A"].value.shape[1:]).sum(1)
    by_group = by_group.sum(1, keepdim=True) if A.shape[1] == 1 else by_group
    torch.testing.assert_close(d_A, by_group, rtol=1e-13, atol=1e-13)


@each_backend
@each_structure
@each_kind
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_scan_and_adjoint_are_the_loop(
    backend: Kernels, structure: str, steps: str, reverse: bool, dtype: torch.dtype
) -> None:
    A, u, _ = problem(structure, steps)
    if backend.backend.why_not(Spec.of(transition(A.to(dtype)), u.to(dtype))) is not None:
        pytest.skip("not served")
    against_the_loop(backend, structure, steps, reverse, dtype)


class Mutant:
    """A backend with one planted bug."""

    def __init__(self, bug: str) -> None:
        self.bug, self.true = bug, Kernels(BACKENDS["reference"])

    def scan(self, A: Tensor, u: Tensor, h0: Tensor, reverse: bool) -> Tensor:
        if self.bug == "shift by one":
            u = u.roll(1, 1)
        if self.bug == "lost h0":
            h0 = torch.zeros_like(h0)
        if self.bug == "wrong direction":
            reverse = not reverse
        return self.true.scan(A, u, h0, reverse)

    def adjoint(
        self, A: Tensor, g: Tensor, g_final: Tensor, reverse: bool, states: Tensor, h0: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.bug == "dropped conjugate":
            A = A.conj()
        if self.bug == "lost final gradient":
            g_final = torch.zeros_like(g_final)
        if self.bug == "state not shifted":
            h0 = states[:, 0]
        delta, d_h0, d_A = self.true.adjoint(A, g, g_final, reverse, states, h0)
        return delta, torch.zeros_like(d_h0) if self.bug == "lost h0 gradient" else d_h0, d_A


@each_structure
@pytest.mark.parametrize(
    "bug",
    [
        "shift by one",
        "lost h0",
        "wrong direction",
        "dropped conjugate",
        "lost final gradient",
        "state not shifted",
        "lost h0 gradient",
    ],
)
def test_a_planted_bug_is_caught(structure: str, bug: str) -> None:
    with pytest.raises(AssertionError):
        against_the_loop(Mutant(bug), structure, "varying", False, torch.complex128)
    against_the_loop(Mutant("none"), structure, "varying", False, torch.complex128)


def test_auto_takes_the_first_that_serves_and_a_named_one_never_falls_back() -> None:
    whole = Spec(torch.device("cpu"), torch.float32, "dense")
    assert select("auto", whole).name == "native"
    half = whole._replace(dtype=torch.float16)
    assert select("auto", half).name == "reference"
    with pytest.raises(ValueError, match="'native' cannot serve this scan: its dense kernels take"):
        select("native", half)
