"""Norms against numbers of any range, computed with mpmath."""

from __future__ import annotations

import mpmath
import pytest
import torch

from retrograd.norms import norm

EPS = torch.finfo(torch.float64).eps


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("exponent", [0, 100, 150, 154, 160, 300, -100, -138, -140, -154, -162, -200, -300, -320])
def test_no_square_overflows_or_underflows(exponent: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(exponent + 1000)
    x = torch.randn(7, 20, dtype=dtype, generator=generator) * 10.0**exponent
    x[3] *= 1e-5 if exponent > -320 else 1.0  # within one array, rows of their own size
    x[4, 1:] = 0
    found = norm(x)
    for row, value in zip(x, found, strict=True):
        want = mpmath.sqrt(mpmath.fsum(abs(mpmath.mpmathify(each)) ** 2 for each in row.tolist()))
        assert abs(mpmath.mpf(value.item()) - want) <= 20 * EPS * want + mpmath.mpf(2) ** -1074


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_narrow_numbers_are_squared_in_wide_ones(dtype: torch.dtype, size: float) -> None:
    x = torch.full((4,), size).to(dtype)
    found = norm(x)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(2 * x[0].abs().item(), rel=1e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    found = norm(torch.tensor([[1.0, bad], [1.0, 0.0], [bad, bad]], dtype=torch.float64))
    assert found.isfinite().tolist() == [False, True, False]
    assert found.isnan().tolist() == [bad != bad, False, bad != bad]


def test_no_rows_and_no_axis_but_the_last() -> None:
    assert norm(torch.zeros(0, 3, dtype=torch.float64)).shape == (0,)
    assert norm(torch.zeros(2, 0, dtype=torch.float64)).tolist() == [0, 0]
    assert norm(torch.tensor([3e-300, 4e-300], dtype=torch.float64)).item() == pytest.approx(5e-300, rel=1e-15)
