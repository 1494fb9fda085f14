"""The laws that every registered backend obeys, and planted bugs that they must catch.

A backend is asked ``why_not`` and skipped with its reason. ``RETROGRAD_TEST_DEVICE=cuda`` runs the laws on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import retrograd as rg
from kinds import KINDS, Kind, on_its_own
from mutants import BUGS, Mutant
from oracle import Running, assert_close, loop_adjoint, loop_scan
from retrograd.backends.triton.backend import TritonBackend
from retrograd.core.backend import BACKENDS, Backend, Spec, select
from retrograd.core.sequences import BACKWARD, FORWARD, Sequences
from retrograd.core.transition import Transition

DEVICE = os.environ.get("RETROGRAD_TEST_DEVICE", "cpu")
EPS = torch.finfo(torch.float64).eps
INTERPRETED = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::RuntimeWarning")]
STRUCTURES: dict[str, Callable[[Tensor], Transition]] = {
    "diagonal": rg.Diagonal,
    "log_diagonal": rg.Diagonal.from_log,
    "dense": rg.Dense,
}
# On the CPU the GPU's kernels run in Triton's interpreter, which is slow; tests/backends/test_triton.py is shorter.
TESTED = {**BACKENDS, "triton": TritonBackend(interpreted=True)} if DEVICE == "cpu" else BACKENDS
each_backend = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=INTERPRETED if name == "triton" and DEVICE == "cpu" else ()) for name in TESTED]
)
each_structure = pytest.mark.parametrize("structure", list(STRUCTURES))
each_a = pytest.mark.parametrize("steps", ["invariant", "varying"])
each_sequence = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "whole rows"])
each_direction = pytest.mark.parametrize("reverse", [False, True])


def serving(name: str, A: Transition, u: Tensor, sequences: Sequences | None = None, reverse: bool = False) -> Backend:
    """The backend of that name, or a skip with its reason."""
    backend = TESTED[name]
    reason = backend.why_not(Spec.of(A, u, sequences, reverse))
    if reason is not None:
        pytest.skip(reason)
    return backend


def problem(
    structure: str, steps: str, batch: int = 4, time: int = 9, width: int = 5, groups: int = 2
) -> tuple[Transition, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    shape = (groups, 1 if steps == "invariant" else time, *(width,) * (2 if structure == "dense" else 1))
    A = torch.randn(shape, dtype=torch.float64, generator=generator) * 0.5
    u = torch.randn(batch, time, width, dtype=torch.float64, generator=generator)
    h0 = torch.randn(batch, width, dtype=torch.float64, generator=generator)
    return STRUCTURES[structure](A.to(DEVICE)), u.to(DEVICE), h0.to(DEVICE)


def expand(A: Transition, u: Tensor) -> Tensor:
    """A with a transition for every row and step."""
    (array,) = A.plain().arrays
    rows = u.shape[0] // array.shape[0]
    return array.repeat_interleave(rows, 0).expand(u.shape[0], u.shape[1], *array.shape[2:])


def near(got: Tensor, want: Running, what: str) -> None:
    assert got.device.type == torch.device(DEVICE).type
    assert_close(got.cpu(), want, EPS, what)


# --- laws of whole rows ---


@each_backend
@each_structure
@each_a
def test_causality(name: str, structure: str, steps: str) -> None:
    A, u, h0 = problem(structure, steps)
    backend = serving(name, A, u)
    before = backend.scan(A, u, h0)
    u[:, 5:] = torch.nan
    after = backend.scan(A, u, h0)
    assert torch.equal(before[:, :5], after[:, :5])
    assert after[:, 5:].isnan().all()


@each_backend
@each_structure
@each_a
@each_direction
def test_splitting_time_anywhere_changes_nothing(name: str, structure: str, steps: str, reverse: bool) -> None:
    A, u, h0 = problem(structure, steps)
    backend, view = serving(name, A, u, reverse=reverse), BACKWARD if reverse else FORWARD
    whole = backend.scan(A, u, h0, view)
    time, want = u.shape[1], loop_scan(expand(A, u).cpu(), u.cpu(), h0.cpu(), reverse)
    for cut in range(1, time):
        parts = [slice(0, cut), slice(cut, time)]
        carry, pieces = h0, {}
        for at in reversed(parts) if reverse else parts:
            pieces[at.start] = backend.scan(A.at(at), u[:, at], carry, view)
            carry = pieces[at.start][:, 0 if reverse else -1]
        together = torch.cat([pieces[0], pieces[cut]], 1)
        near(together, want, f"cut {cut}")
        torch.testing.assert_close(together, whole, rtol=1e-14, atol=1e-14)


@each_backend
@each_structure
@each_a
def test_linearity(name: str, structure: str, steps: str) -> None:
    A, u, h0 = problem(structure, steps)
    backend = serving(name, A, u)
    v, k0 = torch.flip(u, (0,)), torch.flip(h0, (0,))
    together = backend.scan(A, 2 * u - 3 * v, 2 * h0 - 3 * k0)
    apart = 2 * backend.scan(A, u, h0) - 3 * backend.scan(A, v, k0)
    torch.testing.assert_close(together, apart, rtol=0, atol=100 * EPS * float(apart.abs().max()))


@each_backend
@each_structure
@each_a
def test_time_reversal(name: str, structure: str, steps: str) -> None:
    A, u, h0 = problem(structure, steps)
    backend = serving(name, A, u, reverse=True)
    turned = A.of([x.flip(1) for x in A.arrays])
    assert torch.equal(backend.scan(turned, u.flip(1), h0, BACKWARD).flip(1), backend.scan(A, u, h0))


@each_backend
@each_structure
@each_a
def test_batch_independence(name: str, structure: str, steps: str) -> None:
    A, u, h0 = problem(structure, steps)
    backend = serving(name, A, u)
    clean = backend.scan(A, u, h0)
    u[1], h0[1] = torch.inf, torch.nan
    dirty = backend.scan(A, u, h0)
    for row in (0, 2, 3):
        assert torch.equal(clean[row], dirty[row])
    delta, d_h0, _ = backend.adjoint(A, u, h0)
    assert delta[[0, 2, 3]].isfinite().all()
    assert d_h0[[0, 2, 3]].isfinite().all()


@each_backend
@each_structure
@each_a
@pytest.mark.parametrize("time", [1, 3000])
def test_inner_product_identity(name: str, structure: str, steps: str, time: int) -> None:
    """<v, S(u, h0)> = <S*(v), (u, h0)>, also at lengths where finite differences are hopeless."""
    if name == "triton" and DEVICE == "cpu":  # the interpreter takes minutes for more
        time = min(time, 100 if (structure, steps) == ("dense", "varying") else 300)
    A, u, h0 = problem(structure, steps, time=time)
    backend, (array,) = serving(name, A, u), A.arrays
    if structure == "dense":
        A = A.of([array / (2 * array.abs().sum(-1, keepdim=True)) * 1.8])
    else:
        A = A.of([array.tanh() if structure == "diagonal" else -array.abs()])
    plain = A.plain()
    size_of_A = plain.of([x.abs() for x in plain.arrays])
    v = u.flip(0).sin()
    left = (v * backend.scan(A, u, h0)).sum()
    delta, d_h0, _ = backend.adjoint(A, v, torch.zeros_like(h0))
    right = (delta * u).sum() + (d_h0 * h0).sum()
    size = (v.abs() * backend.scan(size_of_A, u.abs(), h0.abs())).sum()
    assert (left - right).abs() <= 8 * EPS * size


def against_the_loop(backend: Any, structure: str, steps: str, reverse: bool, dtype: torch.dtype) -> None:
    A, u, h0 = problem(structure, steps)
    turn = 1 + 0.5j if dtype.is_complex else 1
    A, u, h0 = A.of([x.to(dtype) * turn for x in A.arrays]), u.to(dtype) * turn, h0.to(dtype) * turn
    g, g_final, view = u.flip(0), h0.flip(0), BACKWARD if reverse else FORWARD
    states = backend.scan(A, u, h0, view)
    full, on_host = expand(A, u).cpu(), [x.cpu() for x in (u, h0, g, g_final)]
    near(states, loop_scan(full, *on_host[:2], reverse), "states")
    delta, d_h0, (d_A,) = backend.adjoint(A, g, g_final, view, states, h0)
    want = loop_adjoint(full, *on_host, reverse)
    near(delta, want["u"], "delta")
    near(d_h0, want["h0"], "d_h0")
    near(d_A, by_group(want["A"], A), "d_A")


def by_group(d_A: Running, A: Transition) -> Running:
    """The gradient of every row's and step's own transition, in A's terms and summed to A's shape."""
    (array,) = A.plain().arrays
    rows = d_A.value.shape[0] // array.shape[0]
    split = Running(d_A.value.unflatten(0, (-1, rows)), d_A.error.unflatten(0, (-1, rows))).sum(1)
    if array.shape[1] == 1:
        summed = split.sum(1)
        split = Running(summed.value.unsqueeze(1), summed.error.unsqueeze(1))
    if A.structure == "log_diagonal":
        a = array.cpu().conj()
        return split * Running(a, a.abs())
    return split


@each_backend
@each_structure
@each_a
@each_direction
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_scan_and_adjoint_are_the_loop(
    name: str, structure: str, steps: str, reverse: bool, dtype: torch.dtype
) -> None:
    A, u, _ = problem(structure, steps)
    backend = serving(name, A.to(dtype), u.to(dtype), reverse=reverse)
    against_the_loop(backend, structure, steps, reverse, dtype)


# --- laws of sequences ---


def sequences_on_their_own(
    backend: Any, structure: str, steps: str, kind: str, reverse: bool, with_out: bool = False
) -> None:
    """States and gradients are those of each piece alone; padding is neither read nor anything but zero."""
    batch, starts, given = KINDS[kind]
    found = Kind.of(given, batch, 4)
    A, u, _ = problem(structure, steps, batch=batch, time=4, groups=1)
    _, _, h0 = problem(structure, steps, batch=starts)
    g, g_final = u.flip(1).cos(), h0.flip(0)
    want = on_its_own(expand(A, u).cpu(), u.cpu(), h0.cpu(), g.cpu(), g_final.cpu(), found, reverse)
    u, g = (x.masked_fill(found.padding().to(DEVICE).unsqueeze(2), torch.nan) for x in (u, g))
    on_device = {key: x.to(DEVICE) for key, x in given.items()}
    view = Sequences(batch, 4, **on_device, reverse=reverse).view(backend.view, u.device)
    states = backend.scan(A, u, h0, view, **({"out": poisoned(u)} if with_out else {}))
    out: Any = (poisoned(u), tuple(poisoned(x) for x in A.arrays)) if with_out else (None, None)
    delta, d_h0, (d_A,) = backend.adjoint(A, g, g_final, view, states, h0, out)
    for what, got in (("states", states), ("u", delta), ("h0", d_h0)):
        near(got, want[what], what)
    near(view.last(states, h0), want["final"], "final")
    near(d_A, by_group(want["A"], A), "d_A")


def poisoned(like: Tensor) -> Tensor:
    """Memory of like's shape, every other row of a larger array, that reads as NaN."""
    return torch.full((2 * like.shape[0], *like.shape[1:]), torch.nan, dtype=like.dtype, device=like.device)[::2]


@each_backend
@each_structure
@each_a
@each_sequence
@each_direction
def test_sequences_are_as_on_their_own(name: str, structure: str, steps: str, kind: str, reverse: bool) -> None:
    batch, _, given = KINDS[kind]
    A, u, _ = problem(structure, steps, batch=batch, time=4, groups=1)
    backend = serving(name, A, u, Sequences(batch, 4, **given, reverse=reverse), reverse)
    sequences_on_their_own(backend, structure, steps, kind, reverse)
    sequences_on_their_own(backend, structure, steps, kind, reverse, with_out=True)


# --- laws of memory ---


def out_is_a_promise(backend: Any, structure: str, steps: str, time: int = 9, reverse: bool = False) -> None:
    """What is given is written, strided as it may be, and what is returned is that."""
    A, u, h0 = problem(structure, steps, time=time)
    view = BACKWARD if reverse else FORWARD
    for turned in (u, u.transpose(1, 2).contiguous().transpose(1, 2)):  # steps apart, and side by side
        memory = poisoned(u)
        states = backend.scan(A, turned, h0, view, out=memory)
        assert states is memory
        assert torch.equal(states, backend.scan(A, turned, h0, view).contiguous())
        for_delta, for_A = poisoned(u), tuple(poisoned(x) for x in A.arrays)
        delta, d_h0, d_A = backend.adjoint(A, turned, h0, view, states, h0, (for_delta, for_A))
        want = backend.adjoint(A, turned, h0, view, states, h0)
        assert delta is for_delta
        assert all(x is y for x, y in zip(d_A, for_A, strict=True))
        for x, y in zip((delta, d_h0, *d_A), (*want[:2], *want[2]), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-13, atol=1e-13)
        alone, _, none = backend.adjoint(A, turned, h0, view, out=(for_delta.fill_(torch.nan), None))
        assert alone is for_delta
        assert none is None
        torch.testing.assert_close(alone, want[0], rtol=1e-13, atol=1e-13)


@each_backend
@each_structure
@each_a
@each_direction
def test_memory_given_is_written(name: str, structure: str, steps: str, reverse: bool) -> None:
    A, u, _ = problem(structure, steps)
    out_is_a_promise(serving(name, A, u, reverse=reverse), structure, steps, 9, reverse)


@each_backend
def test_a_wide_matrix_writes_the_memory_given(name: str) -> None:
    A, u, h0 = problem("dense", "invariant", batch=2, time=3, width=260)
    backend = serving(name, A, u)
    memory = (poisoned(u), tuple(poisoned(x) for x in A.arrays))
    delta, _, d_A = backend.adjoint(A, u, h0, FORWARD, u, h0, memory)
    assert delta is memory[0]
    assert d_A is not None
    assert d_A[0] is memory[1][0]
    assert delta.isfinite().all()
    assert d_A[0].isfinite().all()


@each_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_empty_and_the_budget(name: str, dtype: torch.dtype) -> None:
    backend = TESTED[name]
    reason = backend.why_not(Spec(torch.device(DEVICE), dtype, "diagonal"))
    if reason is not None:
        pytest.skip(reason)
    like = torch.zeros(1, dtype=dtype, device=DEVICE)
    for shape in ((2, 3), (300, 40, 64), (0, 4)):
        made = backend.empty(shape, like)
        assert (made.shape, made.dtype, made.device, made.is_contiguous()) == (shape, dtype, like.device, True)
    assert backend.memory(like.device) > 1 << 28


@each_backend
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.bfloat16], ids=str)
@pytest.mark.parametrize("height", [3, 260])
def test_outer_sums(name: str, shifted: bool, dtype: torch.dtype, height: int) -> None:
    backend = TESTED[name]
    reason = backend.why_not(Spec(torch.device(DEVICE), dtype, "diagonal"))
    if reason is not None:
        pytest.skip(reason)
    generator = torch.Generator().manual_seed(0)
    d, h, before = (
        torch.randn(shape, dtype=torch.promote_types(dtype, torch.float32), generator=generator).to(dtype)
        for shape in ((3, 6, height), (3, 6, 260), (3, 260))
    )
    met = torch.cat([before[:, None], h[:, :-1]], 1) if shifted else h
    want = Running.exact(d.flatten(0, 1)).mH.conj() @ Running.exact(met.flatten(0, 1)).conj()
    got = backend.outer_sum(d.to(DEVICE), h.to(DEVICE), before.to(DEVICE) if shifted else None)
    assert got.dtype == dtype
    assert_close(got.cpu(), want, torch.finfo(dtype).eps)


# --- planted bugs ---

LAWS: dict[str, Callable[[Any, str], None]] = {
    "rows": lambda backend, structure: against_the_loop(backend, structure, "varying", False, torch.complex128),
    "out": lambda backend, structure: out_is_a_promise(backend, structure, "varying"),
    **{
        kind: lambda backend, structure, kind=kind: sequences_on_their_own(backend, structure, "varying", kind, False)
        for kind in ("reset", "lengths", "cu_seqlens")
    },
}


@each_structure
@pytest.mark.parametrize(("law", "bug"), [(law, bug) for law, bugs in BUGS.items() for bug in bugs])
def test_a_planted_bug_is_caught(structure: str, law: str, bug: str) -> None:
    with pytest.raises(AssertionError):
        LAWS[law](Mutant(bug), structure)
    LAWS[law](Mutant("none"), structure)


# --- the choice ---


def test_auto_takes_the_first_that_serves_and_a_named_one_never_falls_back() -> None:
    whole = Spec(torch.device("cpu"), torch.float32, "dense")
    assert select("auto", whole).name == "native"
    half = whole._replace(dtype=torch.float16)
    assert select("auto", half).name == "reference"
    with pytest.raises(ValueError, match="'native' cannot serve this scan: its dense kernels take"):
        select("native", half)
