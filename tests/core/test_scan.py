"""scan against the oracles: values and gradients, over random shapes, structures, dtypes, layouts and backends."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

import retrograd as rg
from oracle import assert_close, loop_adjoint, loop_scan, mp_gradient, reduce_to
from retrograd.core import backend as seam
from retrograd.core.sequences import Sequences

CASES = {
    "diagonal": [(0,), (1, 0), (2, 3, 0), (2, 1, 0)],
    "dense": [(0, 0), (1, 0, 0), (2, 3, 0, 0), (2, 1, 0, 0)],
}
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128, torch.bfloat16, torch.float16]
BACKENDS = ["native", "reference"]


def transition_shape(structure: str, kind: int, batch: int, time: int, width: int) -> tuple[int, ...]:
    lead = [(), (time,), (batch, time), (batch, 1)][kind]
    return (*lead, width) if structure == "diagonal" else (*lead, width, width)


def transition(structure: str, A: Tensor) -> rg.Diagonal | rg.Dense:
    return rg.Diagonal(A) if structure == "diagonal" else rg.Dense(A)


def random(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator, scale: float = 1.0) -> Tensor:
    drawn = torch.randn(shape, dtype=torch.promote_types(dtype, torch.float32), generator=generator)
    return (drawn * scale).to(dtype)


def served(backend: str, structure: str, dtype: torch.dtype) -> bool:
    return not (backend == "native" and structure == "dense" and dtype in (torch.bfloat16, torch.float16))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("structure", list(CASES))
@given(data=st.data())
@settings(max_examples=40)
def test_values_and_gradients_against_the_loop(
    structure: str, dtype: torch.dtype, backend: str, data: st.DataObject
) -> None:
    if not served(backend, structure, dtype):
        pytest.skip("not served")
    batch, time = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    width = data.draw(st.one_of(st.integers(1, 6), st.sampled_from([17, 33, 70])))
    kind, reverse = data.draw(st.integers(0, 3)), data.draw(st.booleans())
    final_only, layout = data.draw(st.booleans()), data.draw(st.sampled_from(["BTD", "TBD", "BDT"]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))

    shape = transition_shape(structure, kind, batch, time, width)
    # Gates of up to about 3 in size; in half precision, whose range ends at 65504, of up to about 1.
    scale = 0.3 if dtype == torch.float16 else 0.9
    A = random(shape, dtype, generator, scale if structure == "diagonal" else scale / width**0.5).requires_grad_()
    order = {"BTD": (0, 1, 2), "TBD": (1, 0, 2), "BDT": (0, 2, 1)}[layout]
    stored = tuple((batch, time, width)[i] for i in order)
    u = random(stored, dtype, generator).permute(*order).requires_grad_()
    h0 = random((batch, width), dtype, generator).requires_grad_()
    g, g_final = random((batch, time, width), dtype, generator), random((batch, width), dtype, generator)

    states, final = rg.scan(transition(structure, A), u, h0, reverse=reverse, backend=backend)
    eps = torch.finfo(dtype).eps
    full = torch.broadcast_to(A, transition_shape(structure, 2, batch, time, width))
    assert_close(states, loop_scan(full, u, h0, reverse), eps, "states")
    assert torch.equal(final, states[:, 0 if reverse else -1])

    if final_only:
        g = torch.zeros_like(g)
        got = torch.autograd.grad(final, (A, u, h0), g_final)
    else:
        got = torch.autograd.grad((states, final), (A, u, h0), (g, g_final))
    want = loop_adjoint(full, u, h0, g, g_final, reverse)
    assert_close(got[1], want["u"], eps, "u")
    assert_close(got[2], want["h0"], eps, "h0")
    assert_close(got[0], reduce_to(want["A"], A.shape), eps, "A")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("structure", list(CASES))
def test_gradients_against_fifty_digits(structure: str, backend: str) -> None:
    generator = torch.Generator().manual_seed(3)
    time, width = 5, 2
    arrays = {
        "A": random((width,) if structure == "diagonal" else (width, width), torch.float64, generator),
        "u": random((time, width), torch.float64, generator),
        "h0": random((width,), torch.float64, generator),
    }

    def loss(A: list, u: list, h0: list) -> object:  # type: ignore[type-arg]
        h, value = list(h0), 0
        for row in u:
            if structure == "diagonal":
                h = [a * x + v for a, x, v in zip(A, h, row, strict=True)]
            else:
                h = [sum(a * x for a, x in zip(r, h, strict=True)) + v for r, v in zip(A, row, strict=True)]
            value += sum(x**2 for x in h)
        return value

    leaves = {name: array.clone().requires_grad_() for name, array in arrays.items()}
    states, _ = rg.scan(transition(structure, leaves["A"]), leaves["u"], leaves["h0"], backend=backend)
    got = torch.autograd.grad((states**2).sum(), list(leaves.values()))
    want = mp_gradient(loss, arrays)
    full = torch.broadcast_to(arrays["A"], (1, time, *arrays["A"].shape))
    bound = loop_adjoint(
        full, arrays["u"][None], arrays["h0"][None], 2 * states.detach()[None], torch.zeros(1, width).double()
    )
    eps = torch.finfo(torch.float64).eps
    for name, gradient in zip(leaves, got, strict=True):
        expected = reduce_to(bound[name], gradient.shape) if name == "A" else bound[name][0]
        expected.value = want[name]
        assert_close(gradient, expected, eps, name)


@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("structure", list(CASES))
def test_gradcheck_in_both_modes_and_to_second_order(
    structure: str, kind: int, dtype: torch.dtype, backend: str, reverse: bool, fast: bool
) -> None:
    """Along random directions; entry by entry where there is time."""
    if not served(backend, structure, dtype):
        pytest.skip("not served")
    generator = torch.Generator().manual_seed(kind)
    A = random(transition_shape(structure, kind, 2, 3, 2), dtype, generator).requires_grad_()
    u = random((2, 3, 2), dtype, generator).requires_grad_()
    h0 = random((2, 2), dtype, generator).requires_grad_()

    def call(A: Tensor, u: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        return rg.scan(transition(structure, A), u, h0, reverse=reverse, backend=backend)

    options = {"check_batched_grad": True, "fast_mode": fast}
    assert torch.autograd.gradcheck(call, (A, u, h0), check_forward_ad=True, **options)
    assert torch.autograd.gradgradcheck(call, (A, u, h0), check_fwd_over_rev=True, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("structure", list(CASES))
def test_forward_mode_of_steps_that_lie_side_by_side(structure: str, backend: str) -> None:
    """x.T, as whoever keeps (batch, width, time) gives it: duals of A, h0 and u, one at a time and together."""
    generator = torch.Generator().manual_seed(0)
    A = random(transition_shape(structure, 0, 2, 5, 3), torch.float64, generator, 0.5)
    u = random((2, 3, 5), torch.float64, generator).transpose(1, 2)
    arrays = A, u, random((2, 3), torch.float64, generator)
    dots = tuple(random(tuple(x.shape), torch.float64, generator) for x in arrays)
    for moved in range(1, 8):
        with forward_ad.dual_level():
            given = [
                forward_ad.make_dual(x, dot) if moved >> i & 1 else x
                for i, (x, dot) in enumerate(zip(arrays, dots, strict=True))
            ]
            out = rg.scan(transition(structure, given[0]), given[1], given[2], backend=backend)
            got = [forward_ad.unpack_dual(x).tangent for x in out]
        step = 1e-6
        ends = []
        for sign in (1, -1):
            B, v, k0 = (
                x + sign * step * dot * (moved >> i & 1) for i, (x, dot) in enumerate(zip(arrays, dots, strict=True))
            )
            ends.append(rg.scan(transition(structure, B), v, k0, backend=backend))
        for x, above, below in zip(got, *ends, strict=True):
            torch.testing.assert_close(x, (above - below) / (2 * step), rtol=1e-7, atol=1e-7)


def test_a_tangent_passes_a_gradient_that_is_not_recorded() -> None:
    """Forward over reverse without create_graph: the dual numbers alone carry the second derivative."""
    a, u = torch.tensor([0.5, 0.25], dtype=torch.float64), torch.ones(4, 2, dtype=torch.float64)
    leaf = a.clone().requires_grad_()

    def value(a: Tensor) -> Tensor:
        return (rg.scan(rg.Diagonal(a), u)[0] ** 2).sum()

    with forward_ad.dual_level():
        (gradient,) = torch.autograd.grad(value(forward_ad.make_dual(leaf, torch.ones_like(a))), leaf)
        got = forward_ad.unpack_dual(gradient).tangent
    want = torch.autograd.functional.hessian(value, a)
    torch.testing.assert_close(got, want.sum(1))
    torch.testing.assert_close(torch.autograd.functional.hessian(value, a, vectorize=True), want)


def test_only_the_gradients_asked_for_are_returned() -> None:
    a, u, h0 = torch.rand(3), torch.rand(4, 3), torch.rand(3)
    for needed in range(3):
        arrays = [a.clone(), u.clone(), h0.clone()]
        arrays[needed].requires_grad_()
        states, _ = rg.scan(rg.Diagonal(arrays[0]), arrays[1], arrays[2])
        states.sum().backward()
        assert [x.grad is not None for x in arrays] == [i == needed for i in range(3)]


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("structure", list(CASES))
def test_vmap_equals_a_loop_over_samples(structure: str, kind: int) -> None:
    generator = torch.Generator().manual_seed(kind)
    samples, batch, time, width = 3, 2, 4, 3

    def value(A: Tensor, u: Tensor, h0: Tensor) -> Tensor:
        states, final = rg.scan(transition(structure, A), u, h0)
        return (states**2).sum() + final.sum()

    A = random((samples, *transition_shape(structure, kind, batch, time, width)), torch.float64, generator)
    u = random((samples, batch, time, width), torch.float64, generator)
    h0 = random((samples, batch, width), torch.float64, generator)
    gradient = torch.func.grad(value, argnums=(0, 1, 2))
    for shared in range(7):
        in_dims = tuple(None if shared >> i & 1 else 0 for i in range(3))
        arguments = [x[0] if dim is None else x for x, dim in zip((A, u, h0), in_dims, strict=True)]
        got = torch.func.vmap(gradient, in_dims)(*arguments)
        for sample in range(samples):
            want = gradient(*[x if dim is None else x[sample] for x, dim in zip(arguments, in_dims, strict=True)])
            for x, y in zip(got, want, strict=True):
                torch.testing.assert_close(x[sample], y, rtol=1e-13, atol=1e-13)


LAYOUTS = {"BTD": (0, 1, 2), "TBD": (1, 0, 2), "BDT": (0, 2, 1)}
SEQUENCES: dict[str, dict[str, Tensor]] = {
    "whole": {},
    "lengths": {"lengths": torch.tensor([4, 2])},
    "reset": {"reset": torch.tensor([[False, True, False, True], [False, False, False, False]])},
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("sequences", list(SEQUENCES))
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("structure", list(CASES))
def test_operators_pass_opcheck(structure: str, backend: str, sequences: str, layout: str, reverse: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    order = LAYOUTS[layout]

    def laid(shape: tuple[int, ...]) -> Tensor:
        return random(tuple(shape[i] for i in order), torch.float32, generator).permute(*order)

    A = [random(transition_shape(structure, 1, 2, 4, 3), torch.float32, generator)]
    u, states, h0 = laid((2, 4, 3)), laid((2, 4, 3)), random((2, 3), torch.float32, generator)
    view = Sequences(2, 4, **SEQUENCES[sequences], reverse=reverse).view(seam.BACKENDS[backend].view)
    rest = view.kind, list(view.tensors), reverse, backend
    # What the two slow checks trace depends on neither the layout, the direction nor the structure.
    every = layout == "BTD" and not reverse and structure == "dense"
    checks = (
        ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
        if every
        else ("test_schema", "test_faketensor")
    )
    for name, arrays in (("scan", (u, h0)), ("adjoint", (u, h0)), ("gradients", (u, h0, states, h0))):
        operator = getattr(torch.ops.retrograd, name).default
        torch.library.opcheck(operator, (structure, A, *arrays, *rest), test_utils=checks)


def test_half_precision_carries_its_state_in_float32() -> None:
    a = torch.tensor([1.0], dtype=torch.bfloat16)
    u = torch.ones(1000, 1, dtype=torch.bfloat16)
    states, final = rg.scan(rg.Diagonal(a), u)
    assert states.dtype == torch.bfloat16
    # A bfloat16 carry sticks at 256, where 1 is below its spacing.
    assert final.item() == torch.tensor(1000.0).bfloat16().item()


def test_a_batch_or_no_batch_gives_the_same() -> None:
    a, u, h0 = torch.rand(5, 3), torch.rand(5, 3), torch.rand(3)
    states, final = rg.scan(rg.Diagonal(a), u, h0)
    batched, batched_final = rg.scan(rg.Diagonal(a), u[None], h0[None])
    assert torch.equal(states, batched[0])
    assert torch.equal(final, batched_final[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("structure", list(CASES))
def test_empty_batch_and_no_steps(structure: str, backend: str) -> None:
    A = torch.rand((3,) if structure == "diagonal" else (3, 3), requires_grad=True)
    h0 = torch.rand(2, 3, requires_grad=True)
    u = torch.zeros(2, 0, 3, requires_grad=True)
    states, final = rg.scan(transition(structure, A), u, h0, backend=backend)
    assert states.shape == (2, 0, 3)
    assert torch.equal(final, h0)
    d_h0, d_A, d_u = torch.autograd.grad(final.sum(), (h0, A, u))
    assert torch.equal(d_h0, torch.ones(2, 3))
    assert torch.equal(d_A, torch.zeros_like(A))
    assert d_u.shape == u.shape
    for x, gradient in zip((h0, A, u), torch.autograd.grad(states.sum(), (h0, A, u)), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))  # zero, not None
    for dtype in (torch.float32, torch.float16):
        states, final = rg.scan(transition(structure, A.to(dtype)), torch.zeros(0, 4, 3, dtype=dtype))
        assert states.shape == (0, 4, 3)
        assert final.shape == (0, 3)
        assert torch.equal(torch.autograd.grad(states.sum(), A)[0], torch.zeros_like(A))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
def test_results_do_not_depend_on_the_number_of_threads(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            generator.manual_seed(0)
            a = random((3, 50, 200), dtype, generator, 0.5).requires_grad_()
            u = random((3, 50, 200), dtype, generator)
            states, _ = rg.scan(rg.Diagonal(a), u, backend="native")
            results.append([states, *torch.autograd.grad(states, a, u)])
            W = random((40, 40), dtype, generator, 0.1).requires_grad_()
            states, _ = rg.scan(rg.Dense(W), u[..., :40], backend="native")
            results[-1] += [states, *torch.autograd.grad(states, W, u[..., :40])]
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"A": torch.rand(3)}, TypeError, "A is Tensor, expected retrograd.Dense(W) or retrograd.Diagonal(a)"),
        ({"u": torch.ones(4, 3, dtype=torch.int64)}, TypeError, "u is torch.int64, expected a floating or complex"),
        (
            {"u": torch.rand(4, 3).to(torch.float8_e4m3fn)},
            TypeError,
            "u is torch.float8_e4m3fn, expected a",
        ),
        ({"u": torch.rand(3)}, ValueError, "u has shape (3,), expected (batch, time, width) or (time, width)"),
        ({"u": torch.rand(4, 5)}, ValueError, "A has width 3, u has 5: they must be equal"),
        ({"A": rg.Diagonal(torch.rand(7, 3))}, ValueError, "A has 7 steps, u has 4: A needs 1 or 4"),
        ({"A": rg.Diagonal(torch.rand(2, 1, 3))}, ValueError, "A has batch 2, u has 1: A needs 1 or 1"),
        ({"h0": torch.rand(4)}, ValueError, "h0 has shape (1, 4), expected (batch, width) = (1, 3)"),
        ({"h0": [0.0, 0.0, 0.0]}, TypeError, "h0 is list, expected a floating or complex torch.Tensor"),
        ({"h0": torch.ones(3, dtype=torch.int64)}, TypeError, "h0 is torch.int64, expected a floating or complex"),
        ({"u": torch.rand(4, 3, device="meta")}, ValueError, "u is on meta, A on cpu: move both to one device"),
        (
            {"backend": "cuda"},
            ValueError,
            "backend is 'cuda', expected 'auto' or one of 'native', 'triton', 'reference'",
        ),
        (
            {"u": torch.rand(4, 3).half(), "A": rg.Dense(torch.rand(3, 3).half()), "backend": "native"},
            ValueError,
            "backend 'native' cannot serve this scan: its dense kernels take",
        ),
    ],
)
def test_bad_input_is_named(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    call = {"A": rg.Diagonal(torch.rand(3)), "u": torch.rand(4, 3), **arguments}
    with pytest.raises(error) as caught:
        rg.scan(**call)  # type: ignore[arg-type]
    assert message in str(caught.value)
