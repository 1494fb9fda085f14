"""Diagonal.from_log: the scan of exp(log_a), its gradient in log_a, and what becomes of gates that vanish."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_scan import BACKENDS, DTYPES, random
from torch import Tensor

import retrograd as rg
from kinds import KINDS
from oracle import Running, assert_close, loop_adjoint, loop_scan, reduce_to
from retrograd.core.transition import LogDiagonal, Transition
from retrograd.distributed import Ranks, simulate
from retrograd.distributed import scan as sharded_scan
from retrograd.insight import Sweep, jacobians

from_log = rg.Diagonal.from_log


def of_exp(log_a: Tensor) -> rg.Diagonal:
    return rg.Diagonal(torch.exp(log_a))


def log_gates(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Gates around 1 / e, few above 1; of any angle."""
    return random(shape, dtype, torch.Generator().manual_seed(seed), 0.5) - 1


SHAPES = [(3,), (5, 3), (2, 5, 3), (2, 1, 3)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients_against_the_loop(dtype: torch.dtype, backend: str) -> None:
    for seed, (batch, time, width) in enumerate([(2, 5, 3), (3, 6, 1), (1, 7, 33), (2, 9, 70), (5, 4, 64)]):
        for shape in ((width,), (time, width), (batch, time, width), (batch, 1, width)):
            generator, reverse = torch.Generator().manual_seed(seed), bool(seed % 2)
            log_a = log_gates(shape, dtype, seed).requires_grad_()
            # Steps side by side where the seed is 2.
            order = (0, 2, 1) if seed == 2 else (0, 1, 2)
            sizes = tuple((batch, time, width)[i] for i in order)
            u = random(sizes, dtype, generator).permute(*order).requires_grad_()
            h0 = random((batch, width), dtype, generator).requires_grad_()
            g, g_final = random((batch, time, width), dtype, generator), random((batch, width), dtype, generator)
            states, final = rg.scan(from_log(log_a), u, h0, reverse=reverse, backend=backend)
            got = torch.autograd.grad((states, final), (log_a, u, h0), (g, g_final))

            eps = torch.finfo(dtype).eps
            a = torch.exp(log_a.detach().to(torch.complex128 if dtype.is_complex else torch.float64))
            full = a.broadcast_to(batch, time, width)
            assert_close(states, loop_scan(full, u, h0, reverse), eps, "states")
            want = loop_adjoint(full, u, h0, g, g_final, reverse)
            to_log = want["A"] * Running(full.conj(), full.abs())
            for name, x, expected in zip(("log_a", "u", "h0"), got, (to_log, want["u"], want["h0"]), strict=True):
                assert x.dtype == dtype
                assert_close(x, reduce_to(expected, x.shape), eps, name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradcheck_in_both_modes_and_to_second_order(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    log_a = log_gates(shape, dtype).requires_grad_()
    u, h0 = (random(sizes, dtype, generator).requires_grad_() for sizes in ((2, 5, 3), (2, 3)))

    def call(log_a: Tensor, u: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        return rg.scan(from_log(log_a), u, h0)

    options = {"check_batched_grad": True, "fast_mode": True}
    assert torch.autograd.gradcheck(call, (log_a, u, h0), check_forward_ad=True, **options)
    assert torch.autograd.gradgradcheck(call, (log_a, u, h0), check_fwd_over_rev=True, **options)


@pytest.mark.parametrize("memory", ["all", "sqrt"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_sequences_and_second_order_are_those_of_the_gates(kind: str, reverse: bool, memory: str) -> None:
    batch, starts, given = KINDS[kind]
    generator = torch.Generator().manual_seed(1)
    u, h0 = (random(sizes, torch.float64, generator).requires_grad_() for sizes in ((batch, 4, 3), (starts, 3)))
    for shape in ((3,), (4, 3), (batch, 4, 3)):
        log_a = log_gates(shape, torch.float64).requires_grad_()

        def found(make: Callable[[Tensor], Transition], log_a: Tensor = log_a) -> list[Tensor]:
            states, final = rg.scan(make(log_a), u, h0, reverse=reverse, memory=memory, **given)
            loss = (states**2).sum() + final.sin().sum()
            first = torch.autograd.grad(loss, (log_a, u, h0), retain_graph=True)
            again = torch.autograd.grad(loss, (log_a, u, h0), create_graph=True)
            second = torch.autograd.grad(sum((x**2).sum() for x in again), (log_a, u, h0))
            return [states, final, *first, *second]

        for x, y in zip(found(from_log), found(of_exp), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transformations_are_those_of_the_gates(shape: tuple[int, ...]) -> None:
    """vmap of gradients, forward over reverse, and a tangent of a tangent."""
    generator = torch.Generator().manual_seed(2)
    log_a, u = log_gates((4, *shape), torch.float64), random((4, 2, 5, 3), torch.float64, generator)

    def loss(make: Callable[[Tensor], Transition]) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda log_a, u: (rg.scan(make(log_a), u)[0] ** 2).sum()

    for in_dims in ((0, 0), (0, None), (None, 0)):
        arguments = [x[0] if dim is None else x for x, dim in zip((log_a, u), in_dims, strict=True)]
        got, want = (torch.func.vmap(torch.func.grad(loss(m), (0, 1)), in_dims)(*arguments) for m in (from_log, of_exp))
        for x, y in zip(got, want, strict=True):
            torch.testing.assert_close(x, y)
    got, want = (torch.func.hessian(lambda x, m=m: loss(m)(x, u[0]))(log_a[0]) for m in (from_log, of_exp))
    torch.testing.assert_close(got, want)

    def twice(make: Callable[[Tensor], Transition], x: Tensor) -> Tensor:
        def once(y: Tensor) -> Tensor:
            return torch.func.jvp(lambda z: loss(make)(z, u[0]), (y,), (torch.ones_like(y),))[1]

        return torch.func.jvp(once, (x,), (torch.ones_like(x),))[1]

    torch.testing.assert_close(twice(from_log, log_a[0]), twice(of_exp, log_a[0]))


@pytest.mark.slow
def test_one_graph_for_every_size() -> None:
    torch.compiler.reset()

    def call(log_a: Tensor, u: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        return rg.scan(from_log(log_a), u, reset=reset)

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        for batch, time in ((2, 5), (3, 9), (4, 17)):
            log_a = log_gates((time, 3), torch.float64).requires_grad_()
            u = random((batch, time, 3), torch.float64, torch.Generator().manual_seed(time)).requires_grad_()
            reset = torch.arange(batch * time).view(batch, time) % 4 == 3
            results = []
            for run in (compiled, call):
                states, final = run(log_a, u, reset)
                loss = (states**2).sum() + final.sum()
                results.append((states, final, *torch.autograd.grad(loss, (log_a, u))))
            for x, y in zip(*results, strict=True):
                torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_gate_of_zero_has_a_gradient_of_zero(dtype: torch.dtype, backend: str, steps: int) -> None:
    """-inf, what underflows, and a product of delta and state that overflows before it meets the gate."""
    log_a = torch.tensor([-torch.inf, -1e4, -1.0, -torch.inf], dtype=dtype).repeat(steps, 1)
    large = torch.finfo(dtype).max / 4
    u = torch.ones(2, 6, 4, dtype=dtype)
    u[..., 3] = large
    log_a, u = log_a.requires_grad_(), u.requires_grad_()
    states, _ = rg.scan(from_log(log_a), u, backend=backend)
    assert torch.equal(states[..., [0, 1, 3]], u[..., [0, 1, 3]])
    direct = torch.ones_like(states)
    direct[..., 3] = large
    to_log, to_u = torch.autograd.grad(states, (log_a, u), direct)
    assert torch.equal(to_log[:, [0, 1, 3]], torch.zeros(steps, 3, dtype=dtype))
    assert to_log[:, 2].abs().max() > 0
    assert torch.equal(to_u[..., [0, 1, 3]], direct[..., [0, 1, 3]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_gates_near_one_keep_their_bits_in_half_precision(backend: str) -> None:
    """exp(-0.001) is 0.999, which bfloat16 would round to 1: the state is then 2000, not 865."""
    log_a = torch.full((1,), -0.001, dtype=torch.bfloat16)
    _, final = rg.scan(from_log(log_a), torch.ones(2000, 1, dtype=torch.bfloat16), backend=backend)
    a = torch.exp(log_a.double())
    assert final.item() == pytest.approx(((1 - a**2000) / (1 - a)).item(), rel=2**-8)


def test_ranks_and_insight_are_those_of_the_gates() -> None:
    log_a, u = log_gates((9, 3), torch.float64), random((2, 9, 3), torch.float64, torch.Generator().manual_seed(0))

    def on_ranks(make: Callable[[Tensor], Transition]) -> list[Tensor]:
        def loss(ranks: Ranks) -> list[Tensor]:
            at = slice(3 * ranks.rank, 3 * ranks.rank + 3)
            leaf = log_a[at].clone().requires_grad_()
            states, _ = sharded_scan(make(leaf), u[:, at], group=ranks)
            (gradient,) = torch.autograd.grad((states**2).sum(), leaf)
            return [states.detach(), gradient]

        return [x for found in simulate(3, loss) for x in found]

    for x, y in zip(on_ranks(from_log), on_ranks(of_exp), strict=True):
        assert torch.equal(x, y)
    near_one = torch.full((2000, 1), -0.001, dtype=torch.bfloat16)
    ones = torch.ones_like(near_one)
    want, _ = rg.scan(from_log(near_one), ones)
    found = simulate(2, lambda ranks: sharded_scan(from_log(near_one[:1000]), ones[:1000], group=ranks)[0])
    torch.testing.assert_close(torch.cat(found), want, rtol=2**-8, atol=0)
    got, want = (Sweep.of_scan(make(log_a), u) for make in (from_log, of_exp))
    assert torch.equal(got.delta, want.delta)
    assert (jacobians(got).norm == jacobians(want).norm).all()
    assert (jacobians(from_log(log_a)).norm == jacobians(of_exp(log_a)).norm).all()


def test_it_is_a_diagonal_of_its_own() -> None:
    log_a = torch.tensor([-1.0, 0.0], requires_grad=True)
    A = from_log(log_a)
    assert isinstance(A, rg.Diagonal)
    assert torch.equal(A.a, torch.exp(log_a))
    assert repr(A.plain()) == "Diagonal(shape=(2,), dtype=torch.float32, device='cpu')"
    assert isinstance(A.product(A), LogDiagonal)
    assert torch.equal(A.product(A).a[0, 0], torch.exp(2 * log_a))
    with pytest.raises(TypeError, match=r"from_log: log_a is torch.int64, expected a floating"):
        from_log(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"from_log: log_a has shape \(1, 1, 1, 3\), expected \(D,\), \(T, D\)"):
        from_log(torch.zeros(1, 1, 1, 3))
