"""A scan over ranks is the scan of one process: values, every gradient, second order, whatever the stretches are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import retrograd as rg
from distributed.sharded_problems import Found, Problem, sharded, solve, stretches
from kinds import Kind, on_its_own
from oracle import assert_close, reduce_to
from retrograd.core.backend import BACKENDS
from retrograd.distributed import Ranks

EPS = torch.finfo(torch.float64).eps
each_structure = pytest.mark.parametrize("structure", ["diagonal", "dense"])
each_a = pytest.mark.parametrize("varying", [False, True], ids=["invariant", "varying"])
each_direction = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def drawn(data: st.DataObject, longest: int, sizes: tuple[float, ...] = (0.1, 0.9, 1.0, 1.4)) -> tuple[Problem, Kind]:
    kind = Kind.draw(data, longest)
    batch, width = kind.batch, data.draw(st.integers(1, 4))
    problem = Problem.random(
        data.draw(st.sampled_from(["diagonal", "dense"])),
        data.draw(st.booleans()),
        (batch, kind.time, width),
        dtype=data.draw(st.sampled_from([torch.float64, torch.complex128])),
        size=data.draw(st.sampled_from(sizes)),
        groups=data.draw(st.sampled_from([1, batch])),
        given=kind.given if data.draw(st.booleans()) else {},
        reverse=data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 2**31)),
    )
    return problem, kind if problem.given else Kind.of({}, batch, kind.time)


def draw_cuts(data: st.DataObject, time: int) -> list[int]:
    return data.draw(st.lists(st.integers(0, time), max_size=6))


def near_the_loop(got: Found, p: Problem, kind: Kind) -> None:
    rows, time = p.u.shape[:2]
    full = p.A.repeat_interleave(rows // p.A.shape[0], 0).expand(rows, time, *p.A.shape[2:])
    want = on_its_own(full, p.u, p.h0, p.g, p.g_final, kind, p.reverse)
    by_group = want["A"]
    if p.A.shape[0] not in (1, rows):
        raise AssertionError
    want["A"] = reduce_to(by_group, p.A.shape)
    for name, x in got.items():
        assert_close(x, want[name], EPS, name)


@given(st.data())
def test_it_is_the_loop_wherever_the_stretches_end(data: st.DataObject) -> None:
    p, kind = drawn(data, 24)
    near_the_loop(sharded(p, draw_cuts(data, kind.time)), p, kind)


@given(st.data())
def test_its_gradient_is_differentiable(data: st.DataObject) -> None:
    p, kind = drawn(data, 12, (0.5, 0.9))
    parts = stretches(draw_cuts(data, kind.time), kind.time)
    v = Problem.random(
        p.structure,
        p.varying,
        p.u.shape,
        dtype=p.A.dtype,
        groups=p.A.shape[0],
        given=p.given,
        reverse=p.reverse,
        seed=1,
    )

    def second(ranks: Ranks | None, at: slice) -> Found:
        """The gradient of <v, the gradient of Σ g |states|² + g_final |final|²>."""
        one, along = p.stretch(at), v.stretch(at)
        leaves = [x.clone().requires_grad_() for x in (one.A, one.u, one.h0)]
        where = {} if ranks is None else {"group": ranks}
        scan: Any = rg.scan if ranks is None else rg.distributed.scan
        states, final = scan(one.transition(leaves[0]), *leaves[1:], reverse=p.reverse, **one.given, **where)
        last = ranks is None or ranks.rank == len(parts) - 1
        first = torch.autograd.grad(
            one.loss(states * states.conj(), final * final.conj(), last), leaves, create_graph=True
        )
        total = sum((x.conj() * d).sum() for x, d in zip((along.A, along.u, along.h0), first, strict=True))
        assert isinstance(total, Tensor)
        found = torch.autograd.grad(total.real if total.is_complex() else total, leaves, materialize_grads=True)
        return dict(zip(("A", "u", "h0"), found, strict=True))

    want = second(None, slice(0, kind.time))
    found = rg.distributed.simulate(len(parts), lambda ranks: second(ranks, parts[ranks.rank]))
    d_A = [one["A"] for one in found]
    got = {
        "A": torch.cat(d_A, 1) if p.varying else torch.stack(d_A).sum(0),
        "u": torch.cat([one["u"] for one in found], 1),
        "h0": torch.stack([one["h0"] for one in found]).sum(0),
    }
    for name, x in want.items():
        scale = float(x.abs().max()) if x.numel() else 0.0
        torch.testing.assert_close(got[name], x, rtol=1e-11, atol=1e-11 * scale, msg=name)


@each_structure
@each_a
@each_direction
@pytest.mark.parametrize("size", [0.5, 0.999, 1.0])
def test_long_stretches(structure: str, varying: bool, reverse: bool, size: float) -> None:
    """Some forget what enters them within a part of their steps, some do not."""
    p = Problem.random(structure, varying, (2, 1200, 3), size=size, reverse=reverse)
    near_the_loop(sharded(p, [1, 500, 500, 1100]), p, Kind.of({}, 2, 1200))


@each_structure
@each_direction
def test_a_gradient_that_all_but_vanishes_is_exact(structure: str, reverse: bool) -> None:
    """δ falls below 1e-300 over the ranks, and every number of it is as near as one process's."""
    p = Problem.random(structure, False, (1, 900, 2), reverse=reverse)
    A = torch.full((1, 1, 2), 0.46, dtype=torch.float64)
    A = A if structure == "diagonal" else torch.diag_embed(A)
    g = torch.zeros_like(p.g)
    g[:, 0 if reverse else -1] = 1
    p = p._replace(A=A, g=g, g_final=torch.zeros_like(p.g_final))
    got = sharded(p, [100, 400, 700])
    assert 0 < got["u"].abs().min() < 1e-300
    near_the_loop(got, p, Kind.of({}, 1, 900))


@each_direction
def test_gates_out_of_all_proportion(reverse: bool) -> None:
    """A gate of 1e30 followed by one of 1e-30, on either side of a border."""
    p = Problem.random("diagonal", True, (1, 40, 3), reverse=reverse)
    A = torch.ones_like(p.A)
    A[:, 9], A[:, 10], A[:, 25], A[:, 26] = 1e30, 1e-30, 1e-30, 1e30
    p = p._replace(A=A)
    for cuts in ([10], [10, 26], [9, 11, 25, 27]):
        near_the_loop(sharded(p, cuts), p, Kind.of({}, 1, 40))


@each_structure
@each_a
def test_what_overflows_does_so_as_in_one_process(structure: str, varying: bool) -> None:
    p = Problem.random(structure, varying, (2, 600, 2), size=1.0)
    A = p.A * 64
    p = p._replace(A=A)
    got, want = sharded(p, [200, 400]), solve(p)
    assert not want["states"].isfinite().all()
    for name in ("states", "u"):
        torch.testing.assert_close(got[name], want[name], rtol=1e-9, atol=0, equal_nan=True)


@each_structure
@each_a
def test_nan_stays_in_its_row(structure: str, varying: bool) -> None:
    p = Problem.random(structure, varying, (3, 30, 2))
    clean = sharded(p, [10, 20])
    for x in (p.u, p.g):
        x[1, 14] = torch.nan
    p.h0[1] = torch.inf
    dirty = sharded(p, [10, 20])
    for name in ("states", "u", "h0", "final"):
        torch.testing.assert_close(dirty[name][[0, 2]], clean[name][[0, 2]], rtol=1e-13, atol=1e-13)
    assert dirty["states"][1, 14:].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.bfloat16], ids=str)
@each_structure
def test_other_dtypes(structure: str, dtype: torch.dtype) -> None:
    wide = torch.complex128 if dtype.is_complex else torch.float64
    p = Problem.random(structure, True, (2, 50, 3), dtype=wide)
    p = p._replace(**{name: getattr(p, name).to(dtype) for name in ("A", "u", "h0", "g", "g_final")})
    got = sharded(p, [20, 33])
    full = p.A.expand(2, 50, *p.A.shape[2:])
    want = on_its_own(full, p.u, p.h0, p.g, p.g_final, Kind.of({}, 2, 50), False)
    want["A"] = reduce_to(want["A"], p.A.shape)
    for name, x in got.items():
        assert x.dtype == dtype
        assert_close(x, want[name], torch.finfo(dtype).eps, name)


@each_structure
@pytest.mark.parametrize("shape", [(0, 5, 2), (2, 0, 2), (2, 5, 0)], ids=str)
def test_nothing_to_do(structure: str, shape: tuple[int, int, int]) -> None:
    p = Problem.random(structure, False, (max(shape[0], 1), shape[1], max(shape[2], 1)))
    A = p.A[..., : shape[2]] if structure == "diagonal" else p.A[..., : shape[2], : shape[2]]
    p = Problem(
        structure,
        A,
        p.u[: shape[0], :, : shape[2]],
        p.h0[: shape[0], : shape[2]],
        p.g[: shape[0], :, : shape[2]],
        p.g_final[: shape[0], : shape[2]],
        {},
        False,
    )
    got, want = sharded(p, [2] if shape[1] else []), solve(p)
    for name, x in want.items():
        torch.testing.assert_close(got[name], x)


def test_a_stretch_without_a_batch_axis() -> None:
    p = Problem.random("diagonal", False, (1, 8, 3))

    def work(ranks: Ranks) -> tuple[Tensor, Tensor]:
        at = slice(4 * ranks.rank, 4 * ranks.rank + 4)
        return rg.distributed.scan(p.transition(p.A[0, 0]), p.u[0, at], p.h0[0], group=ranks)

    found = rg.distributed.simulate(2, work)
    states, final = rg.scan(p.transition(p.A[0, 0]), p.u[0], p.h0[0])
    torch.testing.assert_close(torch.cat([x[0] for x in found]), states)
    torch.testing.assert_close(found[0][1], final)


class Counted:
    """Bytes and messages of a forward and a backward pass over simulated ranks."""

    def __init__(self, p: Problem, ranks: int) -> None:
        time = p.u.shape[1]
        parts = stretches([time * k // ranks for k in range(1, ranks)], time)

        def work(one: Ranks) -> list[Any]:
            leaves = [x.clone().requires_grad_() for x in p.stretch(parts[one.rank])[1:4]]
            states, final = rg.distributed.scan(p.transition(leaves[0]), *leaves[1:], group=one)
            forward = one.sent
            (states.sum() + final.sum()).backward()
            return [forward, one.sent]

        self.forward, self.both = zip(*rg.distributed.simulate(ranks, work), strict=True)


@each_structure
@each_a
def test_what_is_sent_does_not_depend_on_time(structure: str, varying: bool) -> None:
    short, long = (Counted(Problem.random(structure, varying, (2, time, 3)), 4) for time in (8, 512))
    assert short.forward == long.forward
    assert short.both == long.both


@pytest.mark.parametrize(("ranks", "rounds"), [(1, 0), (2, 1), (3, 3), (4, 2), (8, 3), (9, 5), (64, 6)])
def test_one_exchange_a_direction_in_log_ranks_rounds(ranks: int, rounds: int) -> None:
    counted = Counted(Problem.random("diagonal", False, (2, 64, 3)), ranks)
    assert max(x.messages for x in counted.forward) <= rounds
    assert all(
        both.messages == 2 * forward.messages for forward, both in zip(counted.forward, counted.both, strict=True)
    ) or ranks & (ranks - 1)


def steps_that_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which every call of the native kernels adds its steps."""
    ran: list[int] = []
    backend = BACKENDS["native"]
    for name in ("scan", "adjoint"):
        kernel = getattr(backend, name)

        def counted(A: Any, x: Tensor, *args: Any, kernel: Any = kernel, **given: Any) -> Any:
            ran.append(x.shape[1])
            return kernel(A, x, *args, **given)

        monkeypatch.setattr(backend, name, counted)
    return ran


@each_structure
@each_direction
def test_the_first_rank_runs_its_steps_once(structure: str, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows what enters it; the other one, which remembers its start, runs them for their end before."""
    ran = steps_that_run(monkeypatch)
    p = Problem.random(structure, False, (1, 800, 3), reverse=reverse)
    A = torch.ones_like(p.A) if structure == "diagonal" else torch.eye(3, dtype=torch.float64).view(p.A.shape)
    sharded(p._replace(A=A, g_final=torch.zeros_like(p.g_final)), [400], backend="native")
    assert sum(ran) == 2 * (400 + 2 * 400)


@each_structure
@each_direction
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_of_a_stretch_that_forgets_its_start_few_steps_run_twice(
    structure: str, reverse: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of a dense scan never agree in every bit: what rounds in one step must count as agreement."""
    ran = steps_that_run(monkeypatch)
    p = Problem.random(structure, False, (1, 6000, 16), size=0.5, reverse=reverse)
    if structure == "dense":
        p = p._replace(A=p.A / torch.linalg.matrix_norm(p.A, 2) * 0.9)
    p = p._replace(**{name: getattr(p, name).to(dtype) for name in ("A", "u", "h0", "g", "g_final")})
    sharded(p, [2000, 4000], backend="native")
    assert 2 * 6000 <= sum(ran) < 1.2 * 2 * 6000
