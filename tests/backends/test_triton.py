"""The GPU's kernels: values in Triton's interpreter where there is no GPU, all else on one.

Results lie in memory full of NaN, and are held to the loop's own error bound. The laws of every backend are in
tests/conformance.py.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from interpreted import (
    BACKEND,
    DEVICE,
    MARKS,
    REASON,
    as_the_loop_where_finite,
    drawn,
    eps,
    expand,
    float32_loop,
    on_device,
    poison,
)
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import retrograd as rg
from kinds import Kind, on_its_own
from oracle import assert_close, loop_adjoint, loop_scan
from retrograd.backends import reference
from retrograd.backends.triton import backend
from retrograd.backends.triton.backend import TritonBackend
from retrograd.core.backend import BACKENDS, Spec
from retrograd.core.sequences import BACKWARD, FORWARD, Sequences
from retrograd.core.steps import Steps

pytestmark = MARKS
__all__ = ["poison"]  # a fixture of every test here

if REASON is None:
    from retrograd.backends.triton import diagonal, products
    from retrograd.backends.triton.configurations import Tiles, configuration

    TILES = {
        "a group": Tiles(1, 4, 16, 1, 1),
        "groups": Tiles(4, 2, 16, 1, 2),
        "chunks": Tiles(2, 2, 16, 1, 1, 8, 4, 8, 1),
        "chunks of a group": Tiles(1, 4, 16, 1, 1, 8, 4, 8, 1),
        "chunks that fold": Tiles(2, 2, 16, 1, 1, 4, 2, 0, 1),
    }


# --- the diagonal ---


def check_diagonal(
    tile: str,
    dtype: torch.dtype,
    steps: str,
    groups: int,
    reverse: bool,
    kind: str,
    time: int = 13,
    width: int = 5,
    log: bool = False,
) -> None:
    use, batch = TILES[tile], 2
    a = drawn(groups, 1 if steps == "invariant" else time, width, dtype=dtype, seed=1)
    a = (a / 2 - 1 if log else a / (1 + a.abs())).to(dtype)
    u, g = (drawn(batch, time, width, dtype=dtype, seed=s) for s in (2, 3))
    view, full = BACKWARD if reverse else FORWARD, expand(a, u)
    if log:
        full = full.to(torch.complex128 if dtype.is_complex else torch.float64).exp()
    if kind == "whole":
        h0, g_final = (drawn(batch, width, dtype=dtype, seed=s) for s in (4, 5))
        want = loop_adjoint(full, u, h0, g, g_final, reverse)
        want["states"] = loop_scan(full, u, h0, reverse)
        codes = None
    else:
        reset = torch.zeros(batch, time, dtype=torch.bool)
        reset[0, [2, 9]] = True
        given = {"lengths": torch.tensor([time, 6]), "reset": reset}
        h0, g_final = (drawn(batch, width, dtype=dtype, seed=s) for s in (4, 5))
        found = Kind.of(given, batch, time)
        want = on_its_own(full, u, h0, g, g_final, found, reverse)
        u, g = (x.masked_fill(found.padding().unsqueeze(2), torch.nan) for x in (u, g))
        codes = Steps(on_device(*Sequences(batch, time, **given, reverse=reverse).view("steps").tensors), reverse)
    a, u, g, h0, g_final = on_device(a, u, g, h0, g_final)
    states = diagonal.scan(a, u, h0, codes, view.reverse, use=use, log=log)
    delta, d_h0, d_a = diagonal.adjoint(a, g, g_final, codes, view.reverse, states, h0, use=use, log=log)
    for what, got in (("states", states), ("u", delta), ("h0", d_h0)):
        assert_close(got.cpu(), want[what], eps(dtype), what)
    # Half precision rounds what it stores, states among it, which the bound of d_a does not count.
    by_step = want["A"].value * full.conj() if log else want["A"].value
    by_group = by_step.unflatten(0, (groups, -1)).sum(1)
    by_group = by_group.sum(1, keepdim=True) if steps == "invariant" else by_group
    torch.testing.assert_close(d_a.cpu().to(by_group.dtype), by_group, rtol=50 * eps(dtype), atol=50 * eps(dtype))


SLICE = [
    ("groups", torch.float32, "varying", 2, False, "whole"),
    ("groups", torch.float32, "invariant", 1, True, "sequences"),
    ("chunks", torch.float32, "varying", 1, True, "whole"),
    ("chunks", torch.float64, "varying", 2, False, "sequences"),
    ("a group", torch.bfloat16, "varying", 2, False, "whole"),
    ("chunks of a group", torch.complex64, "invariant", 1, False, "whole"),
    ("groups", torch.complex64, "varying", 2, True, "sequences"),
    ("chunks that fold", torch.float32, "varying", 2, True, "whole"),
    ("chunks that fold", torch.complex64, "invariant", 1, False, "sequences"),
]


@pytest.mark.parametrize(("tile", "dtype", "steps", "groups", "reverse", "kind"), SLICE)
def test_a_diagonal_is_the_loop(
    tile: str, dtype: torch.dtype, steps: str, groups: int, reverse: bool, kind: str
) -> None:
    check_diagonal(tile, dtype, steps, groups, reverse, kind)


@pytest.mark.slow
@pytest.mark.parametrize("tile", ["a group", "groups", "chunks", "chunks of a group"])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64], ids=str
)
@pytest.mark.parametrize(("steps", "groups"), [("varying", 1), ("varying", 2), ("invariant", 1), ("invariant", 2)])
@pytest.mark.parametrize("kind", ["whole", "sequences"])
def test_every_diagonal_is_the_loop(tile: str, dtype: torch.dtype, steps: str, groups: int, kind: str) -> None:
    for reverse in (False, True):
        check_diagonal(tile, dtype, steps, groups, reverse, kind)
        check_diagonal(tile, dtype, steps, groups, reverse, kind, time=16, width=16)


@pytest.mark.parametrize(
    ("tile", "dtype", "steps", "groups", "reverse", "kind"),
    [
        ("groups", torch.float32, "varying", 2, True, "sequences"),
        ("chunks", torch.bfloat16, "invariant", 1, False, "whole"),
        *(
            pytest.param(tile, dtype, steps, 1, False, kind, marks=pytest.mark.slow)
            for tile, dtype, steps, kind in (
                ("chunks that fold", torch.complex64, "varying", "sequences"),
                ("chunks", torch.float64, "varying", "whole"),
                ("a group", torch.float16, "varying", "sequences"),
                ("groups", torch.complex64, "invariant", "whole"),
            )
        ),
    ],
)
def test_gates_by_their_logarithm_are_the_loop(
    tile: str, dtype: torch.dtype, steps: str, groups: int, reverse: bool, kind: str
) -> None:
    check_diagonal(tile, dtype, steps, groups, reverse, kind, log=True)


def test_gates_that_are_0_or_near_1_by_their_logarithm() -> None:
    """-inf, what underflows, and a bfloat16 of which the gate would round to 1."""
    log_a = torch.tensor([[-torch.inf, -1e4, -0.001, -80.0]], dtype=torch.bfloat16)
    u = torch.ones(1, 40, 4, dtype=torch.bfloat16)
    A, (given,) = rg.Diagonal.from_log(log_a.to(DEVICE)), on_device(u)
    states = BACKEND.scan(A, given, given[:, 0])
    a = log_a.double().exp()[0]
    assert torch.equal(states[..., :2].cpu(), u[..., :2])
    last = a**40 + (1 - a**40) / (1 - a)
    torch.testing.assert_close(states[0, -1].double().cpu(), last, rtol=2**-7, atol=0)  # the interpreter truncates
    large = torch.full_like(given, torch.finfo(torch.bfloat16).max / 4)
    _, _, found = BACKEND.adjoint(A, large, large[:, 0], FORWARD, large, large[:, 0])
    assert found is not None
    assert torch.equal(found[0][0, 0, :2].cpu(), torch.zeros(2, dtype=torch.bfloat16))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
@pytest.mark.parametrize("kind", ["whole", "sequences"])
def test_chunks_that_fold_are_the_loop(dtype: torch.dtype, kind: str) -> None:
    for reverse in (False, True):
        check_diagonal("chunks that fold", dtype, "varying", 1, reverse, kind)
        check_diagonal("chunks that fold", dtype, "invariant", 2, reverse, kind, time=16, width=16)


def extremes() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Gates of which products leave the range where the loop does not; a, u, h0."""
    shape = (1, 24, 16)
    time = torch.arange(24)[None, :, None]
    u, h0 = drawn(*shape, dtype=torch.float32, seed=0), drawn(1, 16, dtype=torch.float32, seed=1)
    nothing, lost = torch.zeros(shape), u.clone()
    lost[0, 5, 3], lost[0, 9, 2] = torch.nan, torch.inf
    half = drawn(*shape, dtype=torch.float32, seed=2).sigmoid()
    return {
        "1e30, then 1e-30": (torch.where(time % 2 == 0, 1e30, 1e-30).expand(shape), u, h0),
        "1e-30 twice, then 1e30 twice": (torch.where(time % 4 < 2, 1e-30, 1e30).expand(shape), u, h0),
        "a large state fades": (torch.full(shape, 0.01), nothing, h0 * 1e30),
        "gates of zero": (half.round(), u, h0),
        "NaN and Inf": (half, lost, h0),
        "tiny gates": (half * 1e-12, u, h0),
        "growth": (torch.full(shape, 30.0), u, h0),
        "1e20 and 1e-20 at random": (torch.where(half < 0.5, 1e20, 1e-20), u, h0),
    }


EXTREMES = list(extremes())


@pytest.mark.parametrize(
    "tile",
    ["groups", "chunks", pytest.param("chunks that fold", marks=pytest.mark.slow)],  # no shape takes these alone
)
@pytest.mark.parametrize("name", EXTREMES)
def test_products_that_leave_the_range_do_not_show(tile: str, name: str) -> None:
    a, u, h0 = extremes()[name]
    states = diagonal.scan(*on_device(a, u, h0), use=TILES[tile])
    as_the_loop_where_finite(states, loop_scan(a, u, h0), float32_loop(a, u, h0, adjoint=False))
    a, u = a.flip(1), u.flip(1)
    delta, _, _ = diagonal.adjoint(*on_device(a, u, h0), use=TILES[tile])
    as_the_loop_where_finite(delta, loop_adjoint(a, u, h0, u, h0)["u"], float32_loop(a, u, h0, adjoint=True))


def test_strides_of_every_kind() -> None:
    a, u = drawn(2, 12, 6, dtype=torch.float32, seed=1).sigmoid(), drawn(2, 12, 6, dtype=torch.float32, seed=2)
    h0 = drawn(2, 6, dtype=torch.float32, seed=3)
    plain = BACKEND.scan(rg.Diagonal(a.to(DEVICE)), *on_device(u, h0))
    wide = torch.cat([u, u], 2)[:, :, :6]
    time_last = u.transpose(1, 2).contiguous().transpose(1, 2)
    for strided in (wide, time_last, torch.cat([u, u])[::2][:2].copy_(u)):
        assert torch.equal(BACKEND.scan(rg.Diagonal(a.to(DEVICE)), *on_device(strided, h0)), plain)
    ones = torch.ones(1).expand(2, 12, 6)
    got = BACKEND.adjoint(rg.Diagonal(a.to(DEVICE)), *on_device(ones, h0))
    want = BACKEND.adjoint(rg.Diagonal(a.to(DEVICE)), *on_device(ones.contiguous(), h0))
    assert torch.equal(got[0], want[0])


def test_a_configuration_fits_its_shape() -> None:
    assert configuration(8, 4096, 2048, torch.float32, False, False).length == 0
    assert configuration(1, 65536, 64, torch.float32, False, False).length == 64
    assert configuration(1, 1 << 20, 64, torch.float32, False, False).length > 64
    long = 1 << 28
    assert long / configuration(1, long, 8, torch.float32, True, True).length < 65536


# --- the dense ---


def check_dense(dtype: torch.dtype, steps: str, groups: int, reverse: bool, time: int, width: int) -> None:
    batch, view = 2, BACKWARD if reverse else FORWARD
    W = drawn(groups, 1 if steps == "invariant" else time, width, width, dtype=dtype, seed=1) * 0.6 / width**0.5
    u, g = (drawn(batch, time, width, dtype=dtype, seed=s) for s in (2, 3))
    h0, g_final = (drawn(batch, width, dtype=dtype, seed=s) for s in (4, 5))
    full = expand(W, u)
    want = loop_adjoint(full, u, h0, g, g_final, reverse)
    A = rg.Dense(W.to(DEVICE))
    u, g, h0, g_final = on_device(u, g, h0, g_final)
    states = BACKEND.scan(A, u, h0, view)
    assert_close(states.cpu(), loop_scan(full, u.cpu(), h0.cpu(), reverse), eps(dtype), "states")
    delta, d_h0, d_A = BACKEND.adjoint(A, g, g_final, view, states, h0)
    assert_close(delta.cpu(), want["u"], eps(dtype), "u")
    assert_close(d_h0.cpu(), want["h0"], eps(dtype), "h0")
    by_group = want["A"].value.unflatten(0, (groups, -1)).sum(1)
    by_group = by_group.sum(1, keepdim=True) if steps == "invariant" else by_group
    assert d_A is not None
    atol = 50 * eps(dtype) * float(by_group.abs().max())
    torch.testing.assert_close(d_A[0].cpu().to(by_group.dtype), by_group, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("dtype", "steps", "groups", "reverse", "time", "width"),
    [
        (torch.float32, "invariant", 1, False, 37, 16),
        (torch.float32, "invariant", 2, True, 64, 16),
        (torch.float64, "invariant", 1, True, 35, 3),
        (torch.float32, "varying", 2, False, 5, 3),
        (torch.complex64, "varying", 1, True, 4, 3),
    ],
)
def test_a_dense_is_the_loop(dtype: torch.dtype, steps: str, groups: int, reverse: bool, time: int, width: int) -> None:
    check_dense(dtype, steps, groups, reverse, time, width)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("steps", "time", "width"), [("invariant", 70, 20), ("invariant", 33, 5), ("varying", 7, 18)])
def test_every_dense_is_the_loop(
    dtype: torch.dtype, groups: int, reverse: bool, steps: str, time: int, width: int
) -> None:
    check_dense(dtype, steps, groups, reverse, time, width)


@pytest.mark.parametrize(("switch", "value"), [("allow_tf32", True), ("fp32_precision", "tf32")])
def test_tf32_is_taken_where_torch_takes_it(switch: str, value: object) -> None:
    switches = torch.backends.cuda.matmul
    if not hasattr(switches, switch):
        pytest.skip(f"this torch has no {switch}")
    before = getattr(switches, switch)
    assert not products.tf32_allowed()
    try:
        setattr(switches, switch, value)
        assert products.tf32_allowed()
    finally:
        setattr(switches, switch, before)
    assert not products.tf32_allowed()


@pytest.mark.parametrize("fault", [torch.nan, torch.inf])
def test_in_a_row_of_a_dense_only_what_follows_is_lost(fault: float) -> None:
    W = drawn(16, 16, dtype=torch.float32, seed=1) * 0.2
    u, h0 = drawn(2, 40, 16, dtype=torch.float32, seed=2), torch.zeros(2, 16)
    clean = BACKEND.scan(rg.Dense(W.to(DEVICE)), *on_device(u, h0)).cpu()
    u[1, 21, 4] = fault
    states = BACKEND.scan(rg.Dense(W.to(DEVICE)), *on_device(u, h0)).cpu()
    assert torch.equal(states[0], clean[0])
    assert torch.equal(states[1, :21], clean[1, :21])
    assert not states[1, 22:].isfinite().any()


def test_powers_of_a_dense_that_leave_the_range_do_not_show() -> None:
    W = torch.diag(torch.tensor([3.0, 1e-5] * 8))
    h0 = torch.tensor([[0.0, 1e30] * 8])
    u = torch.zeros(1, 160, 16)
    states = BACKEND.scan(rg.Dense(W.to(DEVICE)), *on_device(u, h0)).cpu()
    assert_close(states[:, :12], loop_scan(expand(W[None, None], u)[:, :12], u[:, :12], h0), eps(torch.float32))
    assert states.isfinite().all()


def test_an_entry_of_a_power_that_is_lost_beside_larger_ones_does_not_show() -> None:
    W = torch.eye(16)
    W[0, 1], W[1, 1] = 1.0, 1e-25
    u = torch.zeros(1, 40, 16)
    u[0, 1, 0], u[0, 1, 1] = -1e30, 1e30
    states = BACKEND.scan(rg.Dense(W.to(DEVICE)), *on_device(u, u[:, 0])).cpu()
    assert_close(states, loop_scan(expand(W[None, None], u), u, u[:, 0]), eps(torch.float32))


# --- what has nothing to do with values ---


def test_importing_the_package_imports_no_triton() -> None:
    code = "import sys, torch, retrograd as rg\n"
    code += "rg.scan(rg.Diagonal(torch.ones(1)), torch.ones(2, 1)); print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_says_why_it_does_not_serve() -> None:
    whole = Spec(torch.device("cpu"), torch.float32, "diagonal")
    assert TritonBackend().why_not(whole) == "it runs on cuda devices, u is on cpu"
    assert BACKEND.why_not(whole._replace(device=torch.device(DEVICE), structure="cyclic")) == (
        "it has no kernel for cyclic transitions"
    )
    assert BACKEND.why_not(whole._replace(device=torch.device(DEVICE), dtype=torch.int64)) == (
        "it has no kernel for int64"
    )


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "Triton is not installed; pip install 'triton>=3.6'"),
        ("3.2.0+git1", "its kernels want Triton 3.6, 3.2.0+git1 is installed"),
        ("3.10.0", None),
    ],
)
def test_it_says_why_this_triton_does_not_serve(
    monkeypatch: pytest.MonkeyPatch, found: str | None, reason: str | None
) -> None:
    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(backend, "version", version)
    monkeypatch.setattr(backend, "_why_no_triton", backend._why_no_triton.__wrapped__)  # it is asked once, and kept
    assert BACKEND.why_not(Spec(torch.device(DEVICE), torch.float32, "diagonal")) == reason


def test_a_long_loop_on_a_gpu_says_once_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "loop_scan", lambda _A, u, *_: u)
    monkeypatch.setattr(BACKENDS["triton"], "why_not", lambda _spec: "it has no kernel for these", raising=False)
    reference.warn_of_the_loop.cache_clear()
    said = r"more than 1000 steps on cuda:0 .*: it has no kernel for these"
    with FakeTensorMode():  # a GPU's tensors, without one
        short, u, h0 = (torch.empty(1, time, 2, device="cuda") for time in (1000, 1001, 1))
        A = rg.Diagonal(torch.empty(2, device="cuda"))
        BACKENDS["reference"].scan(A, short, h0)
        with pytest.warns(UserWarning, match=said):
            BACKENDS["reference"].scan(A, u, h0)
        BACKENDS["reference"].scan(A, u, h0)
