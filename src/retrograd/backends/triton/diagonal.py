"""The diagonal scan and its fused adjoint: which kernels run, with which configuration."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from retrograd.backends.triton.carries import carries
from retrograd.backends.triton.configurations import GRID, OPTIONS, Tiles, configuration
from retrograd.backends.triton.results import for_adjoint
from retrograd.backends.triton.tiles import tiles
from retrograd.core.steps import Steps

__all__ = ["adjoint", "scan"]

_STATE: dict[torch.dtype, Any] = {
    torch.float16: tl.float32,
    torch.bfloat16: tl.float32,
    torch.float32: tl.float32,
    torch.complex64: tl.float32,
    torch.float64: tl.float64,
    torch.complex128: tl.float64,
}
# The smallest normal number, and how far below the largest state a smaller product may show (`tiles.py`).
_RANGE = {tl.float32: (2.0**-126, 2.0**-94), tl.float64: (2.0**-1022, 2.0**-960)}


def scan(
    a: Tensor,
    u: Tensor,
    h0: Tensor,
    codes: Steps | None = None,
    reverse: bool = False,
    out: Tensor | None = None,
    use: Tiles | None = None,
    log: bool = False,
) -> Tensor:
    """Return h_t = a_t h_{t-1} + u_t: a (groups, steps, D), u (batch, time, D), h0 (count, D); ``log``: a is log a."""
    states = torch.empty(u.shape, dtype=u.dtype, device=u.device) if out is None else out
    if states.numel():
        _launch(a, u, h0, codes.before if codes else None, states, not reverse, False, use, log)
    return states


def adjoint(
    a: Tensor,
    g: Tensor,
    g_final: Tensor,
    codes: Steps | None = None,
    reverse: bool = False,
    states: Tensor | None = None,
    h0: Tensor | None = None,
    out: tuple[Tensor | None, Tensor | None] = (None, None),
    use: Tiles | None = None,
    log: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (δ, ∂L/∂h0, ∂L/∂a or None): the last where states and h0 are given, shaped as a; of log a if ``log``."""
    delta, d_h0 = for_adjoint(g, g_final, codes, out[0])
    wanted = states is not None and h0 is not None
    if not delta.numel():
        return delta, g_final.clone(), torch.zeros_like(a) if wanted else None
    if not wanted:
        _launch(a, g, g_final, codes.after if codes else None, delta, reverse, True, use, log, codes, d_h0)
        return delta, d_h0, None
    assert states is not None
    assert h0 is not None
    batch, time, width = g.shape
    groups, invariant = a.shape[0], a.shape[1] == 1
    carried = torch.float32 if g.dtype.itemsize == 2 else g.dtype
    each, d_a = None, None
    if not invariant and groups == batch:
        d_a = torch.empty(a.shape, dtype=a.dtype, device=a.device) if out[1] is None else out[1]
        each = d_a
    elif not invariant:
        each = torch.empty(g.shape, dtype=carried, device=g.device)
    sums = _launch(
        a, g, g_final, codes.after if codes else None, delta, reverse, True, use, log, codes, d_h0, states, h0, each
    )
    if d_a is None:
        rows = each if sums is None else sums
        assert rows is not None
        by_group = rows.view(groups, -1, *rows.shape[1:]).sum((1, 2)).unsqueeze(1) if invariant else None
        if by_group is None:
            by_group = rows.view(groups, -1, time, width).sum(1)
        d_a = by_group.to(a.dtype) if out[1] is None else out[1].copy_(by_group)
    return delta, d_h0, d_a


def _real(x: Tensor) -> Tensor:
    """Return x as the kernels read it: real numbers, or pairs of them, no pending conjugation or sign."""
    if x.is_complex():
        return torch.view_as_real(x.resolve_conj().resolve_neg())
    return x.resolve_neg()


def _lanes(x: Tensor) -> tuple[Tensor, int]:
    """Return x with its last dimension's stride 1 or 0, and that stride."""
    if x.stride(-1) == 1 or x.shape[-1] == 1:
        return x, 1
    if x.stride(-1) == 0:
        return x, 0
    return x.contiguous(), 1


def _launch(
    a: Tensor,
    u: Tensor,
    start: Tensor,
    codes: Tensor | None,
    out: Tensor,
    up: bool,
    back: bool,
    use: Tiles | None,
    log: bool,
    table: Steps | None = None,
    d_start: Tensor | None = None,
    states: Tensor | None = None,
    h0: Tensor | None = None,
    d_a: Tensor | None = None,
) -> Tensor | None:
    """Run the kernels; return the sums over time of an invariant a's gradient, (batch, chunks, D), where wanted."""
    batch, time, width = u.shape
    invariant = a.shape[1] == 1
    carried = torch.float32 if _STATE[u.dtype] == tl.float32 else torch.float64
    a, a_d = _lanes(a)
    u, u_d = _lanes(u)
    start = start.contiguous()
    gradient = states is not None
    strides = (a.stride(0), a.stride(1), u.stride(0), u.stride(1), start.stride(0))
    s_strides = (0, 0, 0)
    before = None if table is None or not back else table.before
    if states is not None and h0 is not None:
        states, h0 = _lanes(states)[0], h0.contiguous()
        if states.stride(-1) == 0 and width > 1:
            states = states.contiguous()
        s_strides = (states.stride(0), states.stride(1), h0.stride(0))
    use = use or configuration(batch, time, width, u.dtype, codes is not None, back)
    size = use.groups * use.rows
    length = use.length or triton.cdiv(time, size) * size
    count = triton.cdiv(time, length)
    arrays = [None if x is None else _real(x) for x in (a, u, start)]
    kept = [None if x is None else _real(x) for x in (states, h0)]
    written = [None if x is None else torch.view_as_real(x) if x.is_complex() else x for x in (out, d_a, d_start)]
    sums_dtype = u.dtype if u.dtype.is_complex else carried

    def workspace(dtype: torch.dtype) -> Tensor:
        return torch.empty(batch, count, width, dtype=dtype, device=u.device)

    sums = workspace(sums_dtype) if gradient and invariant else None
    sizes = (batch, time, width, count, length, batch // a.shape[0])
    flags = {**_flags(u.dtype, invariant, log, codes is not None), "A_D": a_d, "U_D": u_d, "UP": up, "BACK": back}
    across, tile = _tile(use, batch, time, width)
    grid = (*across, count)
    chunks: tuple[Tensor | None, ...] = (None,) * 5
    if count > 1:
        p, x = (_real(workspace(sums_dtype)) for _ in range(2))
        chunks = (p, x, workspace(carried), workspace(carried), None)
        nothing = (None,) * 7
        tiles[grid](
            *arrays, codes, *nothing, *chunks, *sizes, *strides, 0, 0, 0,
            PHASE="ends", GRADIENT=False, CHUNKS=1, **tile, **flags,
        )  # fmt: skip
    few = use.carry_lanes
    if count > 1 and few:
        carry = _real(workspace(sums_dtype))
        few_flat, few_across, _ = _across(batch, width, few)
        carries[few_across](
            *arrays, codes, *chunks[:4], carry, *sizes, *strides,
            CHUNKS=min(use.carry_chunks, triton.next_power_of_2(count)), LANES=few, FLAT=few_flat,
            num_warps=use.carry_warps, **flags,
        )  # fmt: skip
        chunks = (None, None, None, None, carry)
    tiles[grid](
        *arrays, codes, written[0], *kept, before, *written[1:], None if sums is None else _real(sums), *chunks,
        *sizes, *strides, *s_strides, PHASE="chunks" if count > 1 else "rows", GRADIENT=gradient,
        CHUNKS=1 if count == 1 or few else min(use.carry_chunks, triton.next_power_of_2(count)), **tile, **flags,
    )  # fmt: skip
    return sums


def _flags(dtype: torch.dtype, invariant: bool, log: bool, coded: bool) -> dict[str, Any]:
    """Return what the kernels are compiled for beside their tiles: kinds of numbers, of transitions, of sequences."""
    state = _STATE[dtype]
    smallest, small = _RANGE[state]
    return {
        "INVARIANT": invariant,
        "LOG": log,
        "CODED": coded,
        "COMPLEX": dtype.is_complex,
        "STATE": state,
        "SMALLEST": smallest,
        "SMALL": small,
        **OPTIONS,
    }


def _tile(use: Tiles, batch: int, time: int, width: int) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the grid over rows and channels, and the size of a tile as the kernel takes it."""
    flat, across, even = _across(batch, width, use.lanes)
    return across, {
        "GROUPS": use.groups,
        "ROWS": use.rows,
        "LANES": use.lanes,
        "STAGES": use.stages,
        "FLAT": flat,
        "MASKED": not even or time % (use.groups * use.rows) != 0,
        "num_warps": use.warps,
    }


def _across(batch: int, width: int, lanes: int) -> tuple[bool, tuple[int, int], bool]:
    """Return whether lanes run over rows and channels, the grid over them, and whether they come out even."""
    if width < lanes or batch > GRID:
        return True, (triton.cdiv(batch * width, lanes), 1), batch * width % lanes == 0
    return False, (triton.cdiv(width, lanes), batch), width % lanes == 0
