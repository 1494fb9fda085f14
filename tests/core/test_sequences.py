"""lengths, cu_seqlens and reset against the loop over each sequence on its own, in values and every derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scan import BACKENDS, CASES, DTYPES, random, served, transition, transition_shape
from torch import Tensor

import retrograd as rg
from kinds import KINDS, Kind, on_its_own
from oracle import assert_close, reduce_to
from retrograd.core.segments import Segments
from retrograd.core.sequences import Sequences
from retrograd.core.steps import Steps


def check(
    structure: str, dtype: torch.dtype, backend: str, data: st.DataObject, longest: int, widths: list[int]
) -> None:
    kind = Kind.draw(data, longest)
    width, shape_kind, reverse = (
        data.draw(st.sampled_from(widths)),
        data.draw(st.integers(0, 3)),
        data.draw(st.booleans()),
    )
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    batch, time, starts = kind.batch, kind.time, len(kind.sequences)
    scale = 0.3 if structure == "diagonal" else 0.6 / width**0.5
    A = random(transition_shape(structure, shape_kind, batch, time, width), dtype, generator, scale).requires_grad_()
    u, g = (random((batch, time, width), dtype, generator) for _ in range(2))
    h0, g_final = (random((starts, width), dtype, generator).requires_grad_() for _ in range(2))
    full = torch.broadcast_to(A, transition_shape(structure, 2, batch, time, width))
    want = on_its_own(full, u, h0, g, g_final, kind, reverse)
    u[kind.padding()] = torch.nan  # nobody may read it
    u.requires_grad_()
    states, final = rg.scan(transition(structure, A), u, h0, reverse=reverse, backend=backend, **kind.given)
    d_A, d_u, d_h0 = torch.autograd.grad((states, final), (A, u, h0), (g, g_final))
    eps = torch.finfo(dtype).eps
    assert_close(states, want["states"], eps, "states")
    assert_close(final, want["final"], eps, "final")
    assert_close(d_u, want["u"], eps, "u")
    assert_close(d_h0, want["h0"], eps, "h0")
    assert_close(d_A, reduce_to(want["A"], A.shape), eps, "A")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("structure", list(CASES))
@given(data=st.data())
@settings(max_examples=30)
def test_each_sequence_as_on_its_own(structure: str, dtype: torch.dtype, backend: str, data: st.DataObject) -> None:
    if not served(backend, structure, dtype):
        pytest.skip("not served")
    check(structure, dtype, backend, data, 12, [1, 2, 3, 5, 17, 40])


@pytest.mark.parametrize("structure", list(CASES))
@given(data=st.data())
@settings(max_examples=15)
def test_long_and_wide_sequences(structure: str, data: st.DataObject) -> None:
    """Lengths at which the kernels cut sequences in chunks, and widths whose weight gradient is torch's product."""
    widths = [2, 9] if data.draw(st.booleans()) else [270]
    check(structure, torch.float64, "native", data, 4000 if widths[0] == 2 else 40, widths)


each_kind = pytest.mark.parametrize("kind", list(KINDS))
each_structure = pytest.mark.parametrize("structure", list(CASES))


def small(
    kind: str, structure: str, dtype: torch.dtype, reverse: bool, varying: bool
) -> tuple[Callable[..., tuple[Tensor, Tensor]], tuple[Tensor, Tensor, Tensor]]:
    batch, starts, given = KINDS[kind]
    generator = torch.Generator().manual_seed(5)
    A = random(transition_shape(structure, 2 if varying else 0, batch, 4, 2), dtype, generator, 0.7)
    u, h0 = random((batch, 4, 2), dtype, generator), random((starts, 2), dtype, generator)

    def call(A: Tensor, u: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        return rg.scan(transition(structure, A), u, h0, reverse=reverse, **given)

    return call, (A.requires_grad_(), u.requires_grad_(), h0.requires_grad_())


@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("varying", [False, True])
@each_structure
@each_kind
def test_gradcheck_in_both_modes_and_to_second_order(
    kind: str, structure: str, varying: bool, dtype: torch.dtype, reverse: bool, fast: bool
) -> None:
    """Along random directions; entry by entry where there is time."""
    call, arrays = small(kind, structure, dtype, reverse, varying)
    options = {"check_batched_grad": True, "fast_mode": fast}
    assert torch.autograd.gradcheck(call, arrays, check_forward_ad=True, **options)
    assert torch.autograd.gradgradcheck(call, arrays, check_fwd_over_rev=True, **options)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("varying", [False, True])
@each_structure
@each_kind
def test_vmap_equals_a_loop_over_samples(kind: str, structure: str, varying: bool, reverse: bool) -> None:
    call, single = small(kind, structure, torch.float64, reverse, varying)

    def value(A: Tensor, u: Tensor, h0: Tensor) -> Tensor:
        states, final = call(A, u, h0)
        return (states**2).sum() + final.sin().sum()

    gradient = torch.func.grad(value, argnums=(0, 1, 2))
    stacked = tuple(torch.stack((x, 0.5 * x, x.cos())).detach() for x in single)
    for shared in range(7):
        in_dims = tuple(None if shared >> i & 1 else 0 for i in range(3))
        arguments = [x[0] if dim is None else x for x, dim in zip(stacked, in_dims, strict=True)]
        got = torch.func.vmap(gradient, in_dims)(*arguments)
        for sample in range(3):
            want = gradient(*[x if dim is None else x[sample] for x, dim in zip(arguments, in_dims, strict=True)])
            for x, y in zip(got, want, strict=True):
                torch.testing.assert_close(x[sample], y, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@each_structure
@each_kind
def test_jacobians_and_hessians_by_functions(kind: str, structure: str, dtype: torch.dtype) -> None:
    call, arrays = small(kind, structure, dtype, True, False)
    arrays = tuple(x.detach() for x in arrays)  # type: ignore[assignment]

    def real(x: Tensor) -> Tensor:
        return torch.view_as_real(x) if x.is_complex() else x

    def value(*reals: Tensor) -> Tensor:
        states, final = call(*(torch.view_as_complex(x) if dtype.is_complex else x for x in reals))
        return (real(states) ** 3).sum() + real(final).sin().sum()

    reals = tuple(real(x).clone() for x in arrays)
    every = (0, 1, 2)
    for x, y in zip(torch.func.jacfwd(value, every)(*reals), torch.func.jacrev(value, every)(*reals), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)
    forward_over_reverse = torch.func.jacfwd(torch.func.jacrev(value, every), every)(*reals)
    reverse_over_reverse = torch.func.jacrev(torch.func.jacrev(value, every), every)(*reals)
    first = torch.func.grad(value, every)
    step, tangents = 1e-6, tuple(torch.ones_like(x) for x in reals)
    moved = [first(*(x + sign * step * v for x, v in zip(reals, tangents, strict=True))) for sign in (1, -1)]
    for i in every:
        product = torch.zeros_like(reals[i])
        for j in every:
            torch.testing.assert_close(forward_over_reverse[i][j], reverse_over_reverse[i][j], rtol=1e-12, atol=1e-12)
            product = product + forward_over_reverse[i][j].flatten(reals[i].ndim).sum(-1)
        # Finite differences of the first derivatives, along (1, 1, ...).
        torch.testing.assert_close(product, (moved[0][i] - moved[1][i]) / (2 * step), rtol=1e-6, atol=1e-6)


@each_structure
@each_kind
def test_forward_over_forward(kind: str, structure: str) -> None:
    """Where torch's custom functions lose the outer tangent, the loop stands in: never a wrong number."""
    call, arrays = small(kind, structure, torch.float64, False, False)
    arrays = tuple(x.detach() for x in arrays)  # type: ignore[assignment]

    def value(*arrays: Tensor) -> Tensor:
        states, final = call(*arrays)
        return (states**3).sum() + final.sin().sum()

    every = (0, 1, 2)
    want = torch.func.jacrev(torch.func.jacrev(value, every), every)(*arrays)
    got = torch.func.jacfwd(torch.func.jacfwd(value, every), every)(*arrays)
    for i in every:
        for x, y in zip(got[i], want[i], strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@each_structure
@each_kind
def test_autocast_leaves_scan_in_the_precision_of_its_arguments(kind: str, structure: str) -> None:
    call, (A, u, h0) = small(kind, structure, torch.float32, False, False)
    want = call(A, u, h0)
    with torch.autocast("cpu", torch.bfloat16):
        states, final = call(A, u, h0)
        mixed, _ = call(A, u.bfloat16(), h0)  # as a matrix product before it leaves its input
    assert torch.equal(states, want[0])
    assert torch.equal(final, want[1])
    assert mixed.dtype == torch.float32
    for x, y in zip(
        torch.autograd.grad(states.sum(), (A, u, h0)), torch.autograd.grad(want[0].sum(), (A, u, h0)), strict=True
    ):
        assert torch.equal(x, y)


@pytest.mark.parametrize("backend", BACKENDS)
@each_structure
def test_nan_in_one_sequence_never_reaches_another(structure: str, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    A = random(transition_shape(structure, 1, 1, 9, 3), torch.float64, generator, 0.5)
    u, h0, g = (random(shape, torch.float64, generator) for shape in ((1, 9, 3), (3, 3), (1, 9, 3)))
    cu_seqlens = torch.tensor([0, 3, 6, 9])

    def run(u: Tensor, h0: Tensor, g: Tensor, reverse: bool) -> list[Tensor]:
        u, h0 = u.clone().requires_grad_(), h0.clone().requires_grad_()
        states, final = rg.scan(
            transition(structure, A), u, h0, reverse=reverse, cu_seqlens=cu_seqlens, backend=backend
        )
        d_u, d_h0 = torch.autograd.grad(states, (u, h0), g)
        return [states.view(3, 3, 3), final, d_u.view(3, 3, 3), d_h0]

    for reverse in (False, True):
        clean = run(u, h0, g, reverse)
        for bad in (torch.nan, torch.inf):
            bad_u, bad_h0, bad_g = u.clone(), h0.clone(), g.clone()
            bad_u[:, 3:6], bad_h0[1], bad_g[:, 3:6] = bad, bad, bad
            for x, y in zip(run(bad_u, bad_h0, bad_g, reverse), clean, strict=True):
                assert torch.equal(x[[0, 2]], y[[0, 2]])
                assert not x[1].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
@each_structure
@each_kind
def test_states_of_no_width(kind: str, structure: str, backend: str) -> None:
    batch, starts, given = KINDS[kind]
    A = torch.zeros((0,) if structure == "diagonal" else (0, 0), requires_grad=True)
    u, h0 = torch.zeros(batch, 4, 0, requires_grad=True), torch.zeros(starts, 0, requires_grad=True)
    states, final = rg.scan(transition(structure, A), u, h0, backend=backend, **given)
    assert (states.shape, final.shape) == (u.shape, h0.shape)
    for x, gradient in zip((A, u, h0), torch.autograd.grad(states.sum() + final.sum(), (A, u, h0)), strict=True):
        assert gradient.shape == x.shape


def test_a_reset_keeps_out_even_an_infinite_gate() -> None:
    a = torch.tensor([[[0.5], [torch.inf], [0.5]]], requires_grad=True)
    u = torch.tensor([[[1.0], [2.0], [3.0]]], requires_grad=True)
    for backend in BACKENDS:
        states, _ = rg.scan(rg.Diagonal(a), u, reset=torch.tensor([[False, True, False]]), backend=backend)
        assert states.flatten().tolist() == [1.0, 2.0, 4.0]
        d_a, d_u = torch.autograd.grad(states.sum(), (a, u))
        assert d_u.flatten().tolist() == [1.0, 1.5, 1.0]
        assert d_a.flatten().tolist() == [0.0, 0.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128], ids=str)
@each_structure
def test_threads_change_no_bit(structure: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    cu_seqlens = torch.tensor([0, 700, 703, 703, 1500, 1501, 3000])
    A = random(transition_shape(structure, 0, 1, 3000, 20), dtype, generator, 0.2).requires_grad_()
    u = random((1, 3000, 20), dtype, generator).requires_grad_()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            states, final = rg.scan(transition(structure, A), u, cu_seqlens=cu_seqlens, backend="native")
            results.append([states, final, *torch.autograd.grad((states, final), (A, u), (u, final))])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_the_table_with_reset_and_reverse() -> None:
    reset = torch.tensor([[False, True, False, False, True]])
    borders = torch.tensor([0, 2, 2, 5])
    forward = Sequences(1, 5, cu_seqlens=borders, reset=reset).view("segments").tensors[0]
    assert forward.tolist() == [[0, 0, 1, 0, -1], [0, 1, 2, -1, 0], [0, 2, 4, 2, -1], [0, 4, 5, -1, 2], [0, 2, 2, 1, 1]]
    backward = Sequences(1, 5, cu_seqlens=borders, reset=reset, reverse=True).view("segments").tensors[0]
    assert backward.tolist() == [[0, 0, 2, -1, 0], [0, 2, 5, -1, 2], [0, 2, 2, 1, 1]]


@given(data=st.data(), reverse=st.booleans())
@settings(max_examples=100)
def test_both_views_say_the_same(data: st.DataObject, reverse: bool) -> None:
    """The table, the numbers made of it, and the numbers made on the device: the same steps, whole and in chunks."""
    kind = Kind.draw(data, 12)
    sequences = Sequences(kind.batch, kind.time, **kind.given, reverse=reverse)
    table, steps = sequences.view("segments"), sequences.view("steps")
    assert isinstance(table, Segments)
    assert isinstance(steps, Steps)
    shape = kind.batch, kind.time, sequences.count, torch.device("cpu")
    for x, y in zip(table.steps(*shape).tensors, steps.tensors, strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x, y)
    for place in (0, 1):
        more = (2, place, kind.batch, sequences.count)
        repeated = table.repeat(*more).steps(2 * kind.batch, kind.time, 2 * sequences.count, shape[3])
        for x, y in zip(repeated.tensors, steps.repeat(*more).tensors, strict=True):
            assert torch.equal(x, y)
    begin = data.draw(st.integers(0, kind.time - 1))
    at = slice(begin, data.draw(st.integers(begin + 1, kind.time)))
    for with_empty in (False, True):
        part = table.chunk(at, sequences.count, with_empty)
        found = part.steps(kind.batch, at.stop - at.start, sequences.count + kind.batch, shape[3])
        for x, y in zip(found.tensors, steps.chunk(at, sequences.count, with_empty).tensors, strict=True):
            assert torch.equal(x, y)


@given(data=st.data(), reverse=st.booleans())
@settings(max_examples=60)
def test_views_move_states_as_a_walk_does(data: st.DataObject, reverse: bool) -> None:
    kind = Kind.draw(data, 9)
    sequences = Sequences(kind.batch, kind.time, **kind.given, reverse=reverse)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    x, h0 = torch.randn(kind.batch, kind.time, 2, generator=generator), torch.randn(sequences.count, 2)
    want = {name: torch.zeros_like(x) for name in ("previous", "following", "within")}
    first, last = torch.zeros_like(h0), torch.zeros_like(h0)
    for row, begin, end, start, final in kind.pieces(reverse):
        steps = list(range(begin, end))[:: -1 if reverse else 1]
        if not steps:
            last[final] = h0[start]
        for t, before in zip(steps, [None, *steps], strict=False):
            want["within"][row, t] = x[row, t]
            if before is not None:
                want["previous"][row, t], want["following"][row, before] = x[row, before], x[row, t]
            elif start is not None:
                want["previous"][row, t], first[start] = h0[start], x[row, t]
        if steps and final is not None:
            last[final] = x[row, steps[-1]]
    x = want["within"]  # states in padding are zero
    for name in ("segments", "steps"):
        view = sequences.view(name)
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                assert torch.equal(view.previous(x, h0), want["previous"])
                assert torch.equal(view.following(x, h0), want["following"])
                assert torch.equal(view.first(x, h0), first)
                assert torch.equal(view.last(x, h0), last)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"lengths": torch.tensor([3.0, 2.0])}, TypeError, "lengths is torch.float32, expected an integer tensor"),
        ({"lengths": [3, 2]}, TypeError, "lengths is list, expected an integer tensor"),
        ({"lengths": torch.tensor([3])}, ValueError, "lengths has shape (1,), expected (batch,) = (2,)"),
        ({"lengths": torch.tensor([3, 5])}, ValueError, "lengths[1] is 5, expected 0 to u's time = 4"),
        ({"lengths": torch.tensor([-1, 3])}, ValueError, "lengths[0] is -1, expected 0 to u's time = 4"),
        ({"cu_seqlens": torch.tensor([0, 4])}, ValueError, "cu_seqlens was given with batch 2"),
        ({"reset": torch.zeros(2, 4)}, TypeError, "reset is torch.float32, expected a bool tensor"),
        (
            {"reset": torch.zeros(2, 3, dtype=torch.bool)},
            ValueError,
            "reset has shape (2, 3), expected (batch, time) = (2, 4)",
        ),
        (
            {"lengths": torch.tensor([1, 1]), "cu_seqlens": torch.tensor([0, 4])},
            ValueError,
            "lengths and cu_seqlens were both given",
        ),
    ],
)
def test_bad_input_is_named(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        rg.scan(rg.Diagonal(torch.rand(3)), torch.rand(2, 4, 3), **given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("borders", "message"),
    [
        ([0, 3, 2, 4], "cu_seqlens falls from 3 to 2 at 2: it must not decrease"),
        ([1, 4], "cu_seqlens runs from 1 to 4, expected from 0 to u's time = 4"),
        ([0, 3], "cu_seqlens runs from 0 to 3, expected from 0 to u's time = 4"),
        ([], "cu_seqlens has shape (0,), expected (sequences + 1,)"),
    ],
)
def test_bad_borders_are_named(borders: list[int], message: str) -> None:
    with pytest.raises(ValueError, match="cu_seqlens") as caught:
        rg.scan(rg.Diagonal(torch.rand(3)), torch.rand(4, 3), cu_seqlens=torch.tensor(borders, dtype=torch.int64))
    assert message in str(caught.value)


def test_states_of_packed_sequences_have_a_row_each() -> None:
    with pytest.raises(ValueError, match=r"h0 has shape \(1, 3\), expected \(sequences, width\) = \(2, 3\)"):
        rg.scan(rg.Diagonal(torch.rand(3)), torch.rand(4, 3), torch.rand(1, 3), cu_seqlens=torch.tensor([0, 1, 4]))
    with pytest.raises(ValueError, match=r"lengths was given with u of \(time, width\)"):
        rg.scan(rg.Diagonal(torch.rand(3)), torch.rand(4, 3), lengths=torch.tensor([4]))
