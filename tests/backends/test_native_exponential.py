"""The exponential of the C++ core, through the gates that its kernels make of logarithms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import retrograd as rg
from kernels import Kernels, isa
from retrograd import _native
from retrograd.core.backend import BACKENDS

LOG = Kernels(BACKENDS["native"], rg.Diagonal.from_log)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", _native.isas())
def test_the_exponential_is_within_an_ulp(name: str, dtype: torch.dtype) -> None:
    """Over the whole range, and where the power of two changes; without fused multiply-adds within 1.5."""
    info, generator = torch.finfo(dtype), np.random.default_rng(0)
    low, high, step = math.log(info.tiny), math.log(info.max), math.log(2)
    changes = (np.arange(low / step, high / step)[:, None] + generator.normal(0.5, 1e-6, 20)) * step
    drawn = np.concatenate([generator.uniform(1.1 * low, 1.1 * high, 50_000), generator.uniform(-2, 2, 50_000)])
    extremes = [-np.inf, np.inf, np.nan, 0, -0.0, info.smallest_normal / 2, -info.max, info.max, low, high]
    x = torch.tensor(np.concatenate([changes.ravel(), drawn, extremes]), dtype=dtype)
    with isa(name), np.errstate(over="ignore", under="ignore"):
        made = exponential(x).numpy()
        wider = np.float64 if dtype == torch.float32 else np.longdouble
        want = np.exp(x.numpy().astype(wider))
        stored = want.astype(made.dtype)
    assert (np.isnan(made) == np.isnan(stored)).all()
    inside = (want >= info.tiny) & (want <= info.max)
    error = np.abs(made[inside] - want[inside]) / np.spacing(stored[inside]).astype(wider)
    assert error.max() <= (1.5 if name == "baseline" else 1)
    # Beyond the largest number infinite; what is subnormal counts as zero, here as in every kernel.
    assert (made[want > float(info.max) * (1 + info.eps)] == np.inf).all()
    assert (made[want < info.tiny] <= info.tiny).all()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", _native.isas())
def test_a_complex_exponential_is_right_at_every_angle(name: str, dtype: torch.dtype) -> None:
    """Near the multiples of π / 2, beyond where they are taken off in parts, and beside such an angle."""
    generator, info = np.random.default_rng(0), torch.finfo(dtype)
    turns = np.concatenate([np.arange(-3000, 3000), generator.integers(-(1 << 19), 1 << 19, 3000)]) * (math.pi / 2)
    angles = np.concatenate([turns, generator.uniform(-4, 4, 20_000), generator.uniform(-1e7, 1e7, 5000), [0, 1e22]])
    x = torch.complex(*(torch.tensor(part) for part in (generator.uniform(-3, 1, len(angles)), angles))).to(dtype)
    with isa(name):
        made = exponential(x)
        for at in (0, 1, 2, len(x) - 1):  # alone, the same bits as among others
            assert torch.equal(exponential(x[at : at + 1]), made[at : at + 1])
        gone = exponential(
            torch.tensor([complex(-math.inf, 2), complex(math.nan, 0), complex(0, math.inf)], dtype=dtype)
        )
    wide = np.clongdouble if dtype == torch.complex128 else np.complex128
    want = np.exp(x.numpy().astype(wide))
    assert (np.abs(made.numpy() - want) / np.abs(want)).max() <= (3 if name == "baseline" else 2) * info.eps
    assert gone[0] == 0
    assert gone[1:].isnan().all()


def exponential(x: Tensor) -> Tensor:
    """The gates that the kernels make of logarithms."""
    zeros, ones = torch.zeros_like(x).view(1, 1, -1), torch.ones_like(x).view(1, -1)
    return LOG.scan(x.view(1, 1, -1), zeros, ones, False).flatten()
