"""Bounded memory gives what unbounded memory gives, and keeps no more than it says."""

from __future__ import annotations

import pytest
import torch
from test_scan import BACKENDS, CASES, random, transition, transition_shape
from torch import Tensor

import retrograd as rg
from kinds import KINDS
from oracle import assert_close, loop_adjoint, reduce_to
from retrograd.core.saving import chunk_steps


def budget(batch: int, time: int, width: int, dtype: torch.dtype) -> int:
    """The least number of bytes that may be asked for: chunks of about √time steps."""
    root = int(time**0.5)
    return (2 * root + 1) * batch * width * dtype.itemsize


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128], ids=str)
@pytest.mark.parametrize("structure", list(CASES))
def test_gradients_against_the_loop(structure: str, dtype: torch.dtype, backend: str, kind: int, reverse: bool) -> None:
    batch, time, width = 2, 41, 3
    generator = torch.Generator().manual_seed(kind)
    A = random(transition_shape(structure, kind, batch, time, width), dtype, generator, 0.4).requires_grad_()
    u, g = (random((batch, time, width), dtype, generator).requires_grad_() for _ in range(2))
    h0, g_final = (random((batch, width), dtype, generator).requires_grad_() for _ in range(2))
    states, final = rg.scan(
        transition(structure, A),
        u,
        h0,
        reverse=reverse,
        backend=backend,
        memory=budget(batch, time, width, dtype),
    )
    got = torch.autograd.grad((states, final), (A, u, h0), (g.detach(), g_final.detach()))
    full = torch.broadcast_to(A, transition_shape(structure, 2, batch, time, width))
    want = loop_adjoint(full, u, h0, g, g_final, reverse)
    eps = torch.finfo(dtype).eps
    assert_close(got[0], reduce_to(want["A"], A.shape), eps, "A")
    assert_close(got[1], want["u"], eps, "u")
    assert_close(got[2], want["h0"], eps, "h0")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("structure", list(CASES))
@pytest.mark.parametrize("kind", list(KINDS))
def test_kinds_of_sequence_and_second_order(kind: str, structure: str, reverse: bool) -> None:
    batch, starts, small = KINDS[kind]
    # Each step ten times as long: chunks end within sequences, at their ends and in padding.
    given = {
        name: x.repeat_interleave(10, 1) & (torch.arange(40) % 10 == 0) if name == "reset" else x * 10
        for name, x in small.items()
    }
    generator = torch.Generator().manual_seed(2)
    A = random(transition_shape(structure, 2, batch, 40, 3), torch.float64, generator, 0.5).requires_grad_()
    u = random((batch, 40, 3), torch.float64, generator).requires_grad_()
    h0 = random((starts, 3), torch.float64, generator).requires_grad_()

    def gradients(memory: str | int) -> list[Tensor]:
        states, final = rg.scan(transition(structure, A), u, h0, reverse=reverse, memory=memory, **given)
        loss = (states**2).sum() + final.sin().sum()
        first = torch.autograd.grad(loss, (A, u, h0), retain_graph=True)
        again = torch.autograd.grad(loss, (A, u, h0), create_graph=True)
        second = torch.autograd.grad(sum((x**2).sum() for x in again), (A, u, h0))
        return [states, final, *first, *second]

    for x, y in zip(gradients(budget(batch, 40, 3, torch.float64)), gradients("all"), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)


def saved_bytes(memory: str | int, time: int) -> int:
    """What autograd holds of a scan, beside its inputs."""
    A, u = torch.full((8,), 0.5, requires_grad=True), torch.ones(1, time, 8, requires_grad=True)
    inputs, held = {A.data_ptr(), u.data_ptr()}, 0

    def pack(x: Tensor) -> Tensor:
        nonlocal held
        if x.untyped_storage().data_ptr() not in inputs:
            held += x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        rg.scan(rg.Diagonal(A), u, memory=memory)
    return held


def test_what_is_kept() -> None:
    step = 8 * 4
    assert saved_bytes("all", 100_000) >= 100_000 * step
    assert saved_bytes("sqrt", 100_000) <= 5 * step
    for time in (10**6, 10**8, 10**10):  # √T chunks at most, of 96 √T steps at most
        assert time**0.5 <= chunk_steps("sqrt", 1, time, 8, 4) <= 96 * time**0.5
    for given in (210 * step, 1000 * step):
        steps = chunk_steps(given, 1, 10_000, 8, 4)
        assert saved_bytes(given, 10_000) + steps * step <= given + 2 * step


def test_nothing_is_kept_for_a_transition_without_gradient() -> None:
    u = torch.ones(1, 50, 8, requires_grad=True)
    held: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: held.append(x) or x, lambda x: x):
        states, _ = rg.scan(rg.Diagonal(torch.full((8,), 0.5)), u, memory="sqrt")
    (d_u,) = torch.autograd.grad(states[:, -1].sum(), u)
    assert torch.equal(d_u[0, -3:, 0], torch.tensor([0.25, 0.5, 1.0]))


def test_forward_mode_and_transformations_work_with_any_memory() -> None:
    a, u = torch.rand(3, dtype=torch.float64), torch.rand(2, 30, 3, dtype=torch.float64)

    def value(a: Tensor, memory: str | int) -> Tensor:
        return (rg.scan(rg.Diagonal(a), u, memory=memory)[0] ** 2).sum()

    for memory in ("all", "sqrt", "auto", budget(2, 30, 3, torch.float64)):
        tangent = torch.func.jvp(lambda a, m=memory: value(a, m), (a,), (torch.ones_like(a),))[1]
        torch.testing.assert_close(tangent, torch.func.grad(value)(a, "all").sum())
        assert torch.autograd.gradcheck(
            lambda a, m=memory: value(a, m), (a.clone().requires_grad_(),), check_forward_ad=True
        )


@pytest.mark.parametrize(
    ("memory", "error", "message"),
    [
        ("most", ValueError, "memory is 'most', expected 'all', 'sqrt', 'auto' or a number of bytes"),
        (True, TypeError, "memory is bool, expected"),
        (1e6, TypeError, "memory is float, expected"),
        (100, ValueError, "memory is 100 bytes, expected at least 504: 100 steps of states of 24 bytes"),
    ],
)
def test_bad_memory_is_named(memory: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        rg.scan(rg.Diagonal(torch.rand(3)), torch.rand(2, 100, 3), memory=memory)  # type: ignore[arg-type]
    assert message in str(caught.value)
