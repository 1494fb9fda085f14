"""The time-varying dense scan of the GPU in chunks of time, in Triton's interpreter where there is no GPU.

Results lie in memory full of NaN, and are held to the loop's own error bound.
"""

from __future__ import annotations

import pytest
import torch
from interpreted import (
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

from kinds import Kind, on_its_own
from oracle import assert_close, loop_adjoint, loop_scan
from retrograd.core.sequences import Sequences
from retrograd.core.steps import Steps

pytestmark = MARKS
__all__ = ["poison"]  # a fixture of every test here

if REASON is None:
    from retrograd.backends.triton import dense, varying
    from retrograd.backends.triton.configurations import steps_of_a_chunk


def check(dtype: torch.dtype, groups: int, reverse: bool, kind: str, time: int = 15, width: int = 3) -> None:
    batch = 1 if kind == "cu_seqlens" else 2
    A = drawn(groups, time, width, width, dtype=dtype, seed=1) * 0.8 / width**0.5
    u, g = (drawn(batch, time, width, dtype=dtype, seed=s) for s in (2, 3))
    reset = torch.zeros(batch, time, dtype=torch.bool)
    reset[0, [2, 9]] = True
    given: dict[str, Tensor] = {
        "whole": {},
        "lengths, reset": {"lengths": torch.tensor([time, 10]), "reset": reset},
        "cu_seqlens": {"cu_seqlens": torch.tensor([0, 1, 1, 13, time])},
    }[kind]
    starts = 4 if kind == "cu_seqlens" else batch
    h0, g_final = (drawn(starts, width, dtype=dtype, seed=s) for s in (4, 5))
    found = Kind.of(given, batch, time)
    want = on_its_own(expand(A, u), u, h0, g, g_final, found, reverse)
    u, g = (x.masked_fill(found.padding().unsqueeze(2), torch.nan) for x in (u, g))
    codes = None
    if given:
        codes = Steps(on_device(*Sequences(batch, time, **given, reverse=reverse).view("steps").tensors), reverse)
    A, u, g, h0, g_final = on_device(A, u, g, h0, g_final)
    states = dense.scan(A, u, h0, codes, reverse, chunk=4)
    delta, d_h0, d_A = dense.adjoint(A, g, g_final, codes, reverse, states, h0, chunk=4)
    for what, got in (("states", states), ("u", delta), ("h0", d_h0)):
        assert_close(got.cpu(), want[what], eps(dtype), what)
    by_group = want["A"].value.unflatten(0, (groups, -1)).sum(1)
    torch.testing.assert_close(d_A.cpu().to(by_group.dtype), by_group, rtol=50 * eps(dtype), atol=50 * eps(dtype))


@pytest.mark.parametrize(
    ("dtype", "groups", "reverse", "kind"),
    [
        (torch.float32, 2, True, "whole"),
        (torch.float32, 1, False, "lengths, reset"),
        (torch.complex64, 1, True, "cu_seqlens"),
    ],
)
def test_chunks_are_the_loop(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, groups: int, reverse: bool, kind: str
) -> None:
    if reverse:
        monkeypatch.setattr(varying, "AT_ONCE", 1)  # the products of one chunk after the other
    check(dtype, groups, reverse, kind)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("kind", ["whole", "lengths, reset", "cu_seqlens"])
@pytest.mark.parametrize("reverse", [False, True])
def test_chunks_of_every_kind_are_the_loop(dtype: torch.dtype, kind: str, reverse: bool) -> None:
    check(dtype, 2 if reverse and kind != "cu_seqlens" else 1, reverse, kind, time=17 if reverse else 16)


def extremes() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Transitions of which products leave the range where the loop does not, or the loop where they do not."""
    time, width = 20, 3
    t = torch.arange(time)[None, :, None]
    u, h0 = drawn(1, time, width, dtype=torch.float32, seed=0), drawn(1, width, dtype=torch.float32, seed=1)
    nothing, pulse, lost = torch.zeros_like(u), torch.zeros_like(u), u.clone()
    pulse[0, 3], lost[0, 5, 2], lost[0, 9, 1] = 1e20, torch.nan, torch.inf
    half, one = drawn(1, time, width, dtype=torch.float32, seed=2).sigmoid(), torch.ones_like(u)

    def coupled(a: Tensor) -> Tensor:
        side = a[..., :-1] * drawn(1, time, width - 1, dtype=torch.float32, seed=3)
        return torch.diag_embed(a) + torch.diag_embed(side, 1)

    cancels = torch.diag_embed(one * torch.tensor([1.0, 1e-25, 1e-3]))
    cancels[..., 0, 1] = 1
    return {
        "1e-30 twice, then 1e30 twice": (coupled(torch.where(t % 4 < 2, 1e-30, 1e30) * one), u, h0),
        "1e-20 twice, then 1e18 twice": (coupled(torch.where(t % 4 < 2, 1e-20, 1e18) * one), nothing, h0 * 1e30),
        "the loop overflows": (coupled(torch.where(t % 2 == 0, 1e30, 1e-30) * one), pulse, h0 * 0),
        "NaN and Inf": (coupled(half), lost, h0),
        "1e20 and 1e-20 at random": (coupled(torch.where(half < 0.5, 1e20, 1e-20)), u, h0),
        "a column that hides": (cancels, nothing, torch.tensor([[-1e30, 1e30, 1.0]])),
        "gates of zero": (torch.diag_embed(half.round()), nothing, h0 * 1e30),
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if i < 2 else pytest.mark.slow) for i, name in enumerate(extremes())]
)
def test_products_of_chunks_that_leave_the_range_do_not_show(name: str) -> None:
    A, u, h0 = extremes()[name]
    states = dense.scan(*on_device(A, u, h0), chunk=4)
    as_the_loop_where_finite(states, loop_scan(A, u, h0), float32_loop(A, u, h0, adjoint=False))
    A, u = A.mT.flip(1), u.flip(1)
    delta, _, _ = dense.adjoint(*on_device(A, u, h0), chunk=4)
    as_the_loop_where_finite(delta, loop_adjoint(A, u, h0, u, h0)["u"], float32_loop(A, u, h0, adjoint=True))


def test_the_chunks_of_a_row_cannot_be_told_from_whole_rows() -> None:
    A, u = drawn(1, 14, 3, 3, dtype=torch.float32, seed=1) * 0.4, drawn(2, 14, 3, dtype=torch.float32, seed=2)
    clean = dense.scan(*on_device(A, u, u[:, 0]), chunk=4).cpu()
    u[1, 9, 0] = torch.nan
    lost = dense.scan(*on_device(A, u, u[:, 0]), chunk=4).cpu()
    assert torch.equal(lost[0], clean[0])
    assert torch.equal(lost[1, :9], clean[1, :9])
    assert not lost[1, 10:].isfinite().any()


def test_time_is_cut_where_rows_are_few() -> None:
    assert steps_of_a_chunk(1, 1, 65536, 64) == 128
    assert steps_of_a_chunk(4, 4, 256, 16) == 8
    for batch, groups, time, width in ((256, 1, 4096, 64), (1, 1, 200, 64), (1, 1, 4096, 256), (64, 64, 4096, 128)):
        assert steps_of_a_chunk(batch, groups, time, width) == 0
