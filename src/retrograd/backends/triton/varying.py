"""The time-varying dense scan and its adjoint: the loop, a program for each row, or for each chunk of its time.

Where rows are too few to fill the GPU, time is cut into chunks. Of a walk x_i = M_i x_{i-1} + u_i, M = A or A^H:

    1. products   P_n = the product of chunk n's M_i: batched products of neighbours, a logarithm of them
       ends       e_n = what chunk n's loop hands on, entered by 0; all chunks at once, the first from the true start
    2. scan       y_n = P_n y_{n-1} + e_n, what every chunk hands on: the loop, over chunks
    3. chunks     the loop again, each chunk entered by y_{n-1}; all at once

Products are strict float32, or what torch's own TF32 switch says. They may leave the range where the loop does not;
rows in which that shows run as a whole, on the device.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from retrograd.backends.triton.configurations import OPTIONS, steps_of_a_chunk
from retrograd.backends.triton.loops import dense_loop, digits_lost
from retrograd.backends.triton.results import carried
from retrograd.core.steps import NEIGHBOUR, NOTHING, Steps

__all__ = ["AT_ONCE", "least", "loop", "walk"]

# Numbers of A of which products are taken at once: they take up to three quarters of its memory, half precision more.
AT_ONCE = 1 << 27


def walk(
    A: Tensor,
    u: Tensor,
    start: Tensor,
    codes: Steps | None,
    out: Tensor,
    up: bool,
    back: bool,
    d_start: Tensor | None,
    chunk: int | None = None,
) -> None:
    """Write the scan, or (``back``) the adjoint's δ and ``d_start``, of A (groups, time, H, H).

    ``chunk``: steps of a chunk, 0: whole rows; else the shape decides.
    """
    batch, time, width = u.shape
    length = steps_of_a_chunk(batch, A.shape[0], time, width) if chunk is None else chunk
    count = triton.cdiv(time, length) if length else 1
    if count < 3:
        loop(A, u, start, codes, out, up, back, d_start)
        return
    ends = loop(A, u, start, codes, None, up, back, None, length)
    inner = slice(length, (count - 1) * length) if up else slice(time - (count - 1) * length, time - length)
    P, lost = _products(A[:, inner], length, later_first=up != back)
    if not up:
        P, lost = P.flip(1), lost.flip(1)
    cut, between = None, None
    if codes is not None:
        code = (codes.after if back else codes.before)[:, inner]
        cut = (code if up else code.flip(1)).reshape(batch, -1, length).ne(NEIGHBOUR).any(2)
        between = torch.where(cut, NOTHING, NEIGHBOUR).to(torch.int32)
        row = torch.arange(batch, dtype=torch.int32, device=u.device)
        between[:, 0] = torch.where(cut[:, 0], between[:, 0], row)
    scanned = torch.empty(batch, count - 2, width, dtype=ends.dtype, device=u.device)
    loop(P.mH if back else P, ends[:, 1:-1], ends[:, 0], between, scanned, True, False, None)
    handed = torch.cat((ends[:, :1], scanned), 1)
    walked = loop(A, u, start, codes, out, up, back, d_start, length, handed)
    checked = _shows(handed, walked[:, 1:-1], lost, cut)
    loop(A, u, start, codes, out, up, back, d_start, checked=checked)


def _products(A: Tensor, length: int, later_first: bool) -> tuple[Tensor, Tensor]:
    """Return the products of every ``length`` steps of A, (groups, chunks, H, H), and how far the range puts them off.

    ``later_first``: A_{t+1} A_t, else A_t A_{t+1}.
    """
    steps = max(1, AT_ONCE // (A.shape[0] * length * A.shape[2] ** 2)) * length
    parts = [_products_at_once(A[:, t : t + steps], length, later_first) for t in range(0, A.shape[1], steps)]
    if len(parts) == 1:
        return parts[0]
    return torch.cat([x for x, _ in parts], 1), torch.cat([lost for _, lost in parts], 1)


def _products_at_once(A: Tensor, length: int, later_first: bool) -> tuple[Tensor, Tensor]:
    x, lost = carried(A), None
    groups, _, width, _ = x.shape
    real, block = _real_dtype(x), min(64, triton.next_power_of_2(width))
    while length > 1:
        n = x.shape[1] // 2
        off = torch.empty(groups, n, dtype=real, device=x.device)
        digits_lost[(groups * n,)](
            _real(x), lost, off, n, width, *x.stride(), BR=block, BK=block, COMPLEX=x.is_complex(),
            STATE=tl.float64 if real == torch.float64 else tl.float32, TINY=torch.finfo(real).tiny, **OPTIONS,
        )  # fmt: skip
        early, late = x[:, ::2], x[:, 1::2]
        x, lost, length = late @ early if later_first else early @ late, off, length // 2
    return x, torch.zeros(x.shape[:2], dtype=real, device=x.device) if lost is None else lost


def _shows(handed: Tensor, walked: Tensor, lost: Tensor, cut: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return which rows must run as a whole, as `dense_loop` is told by `summaries`.

    Those in which what a chunk hands on, y = P x + e, is not finite, or has a number that the digits which P lost could
    show in; and those in which the loop over the chunk leaves the range where P x + e does not.
    """
    x, y = handed[:, :-1], handed[:, 1:]
    off = (x.abs().sum(2).view(lost.shape[0], -1, lost.shape[1]) * lost.unsqueeze(1)).view(*x.shape[:2], 1)
    tiny = torch.finfo(off.dtype).tiny
    digits = ~(y.abs() >= off * 2.0**24) & ~(off <= tiny) & x.isfinite().all(2, keepdim=True)
    if cut is not None:
        digits &= ~cut.unsqueeze(2)
    finite = y.isfinite()
    shows = (finite & (digits | ~walked.isfinite())).flatten(1).any(1)
    bad = ~finite.flatten(1).all(1)
    found = torch.stack((bad, 2 * shows, torch.zeros_like(bad)), 1).to(off.dtype).unsqueeze(1)
    return found, torch.ones(lost.shape[0], 1, dtype=torch.int8, device=y.device)


def least(dtype: torch.dtype) -> float:
    """Return how far below the largest state one may lie in which a product that lost digits shows."""
    return torch.finfo(dtype).tiny * 2.0**32


def loop(
    A: Tensor,
    u: Tensor,
    start: Tensor,
    codes: Steps | Tensor | None,
    out: Tensor | None,
    up: bool,
    back: bool,
    d_start: Tensor | None,
    length: int = 0,
    handed: Tensor | None = None,
    checked: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Run `dense_loop` on chunks of ``length`` steps, 0: on whole rows; return what each hands on, (batch, chunks, H).

    ``handed`` (batch, chunks - 1, H) enters the chunks after the first, or 0 does; ``out`` and ``d_start`` are written
    where they are given; of ``checked``, what `summaries` found, only the rows that are needed. ``codes`` may be those
    of a scan alone.
    """
    batch, time, width = u.shape
    parts = 2 if u.is_complex() else 1
    A, u, start = A.resolve_conj().resolve_neg(), u.resolve_conj().resolve_neg(), start.contiguous().resolve_conj()
    block = min(64, triton.next_power_of_2(width))
    real = _real_dtype(carried(u[:0]))
    length = length or time
    count = triton.cdiv(time, length)
    work = torch.empty(batch, count, 2, width * parts, dtype=real, device=u.device)
    found, fell = (None, None) if checked is None else checked
    entering, before = codes, None
    if isinstance(codes, Steps):
        entering = codes.after if back else codes.before
        before = None if d_start is None else codes.before
    dense_loop[(batch * count,)](
        _real(A), _real(u), _real(start), entering, _real(out), before, _real(d_start), work, _real(handed),
        found, fell, 0 if found is None else found.shape[1], 0 if fell is None else fell.shape[1],
        time, width, count, length, batch // A.shape[0],
        A.stride(0), A.stride(1) if A.shape[1] > 1 else 0, A.stride(2), A.stride(3),
        u.stride(0), u.stride(1), u.stride(2), start.stride(0),
        BR=block, BK=block, BH=triton.next_power_of_2(width * parts),
        PIECES=64, FELLS=1 if fell is None else triton.next_power_of_2(fell.shape[1]),
        UP=up, BACK=back, COMPLEX=parts == 2, STATE=tl.float64 if real == torch.float64 else tl.float32,
        SMALL=least(real), num_warps=4, **OPTIONS,
    )  # fmt: skip
    left = work[:, :, 0]
    return torch.view_as_complex(left.view(batch, count, width, 2)) if parts == 2 else left


def _real(x: Tensor | None) -> Tensor | None:
    """Return x as the kernels read it: a complex array as pairs of real numbers."""
    return torch.view_as_real(x) if x is not None and x.is_complex() else x


def _real_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype in (torch.float64, torch.complex128) else torch.float32
