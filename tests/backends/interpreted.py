"""What tests of the GPU's kernels share: the backend, interpreted where there is no GPU, and poisoned memory.

``RETROGRAD_TEST_DEVICE=cuda`` runs them on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from oracle import Running
from retrograd.backends.triton.backend import TritonBackend
from retrograd.core.backend import Spec

DEVICE = os.environ.get("RETROGRAD_TEST_DEVICE", "cpu")
BACKEND = TritonBackend(interpreted=DEVICE == "cpu")
REASON = BACKEND.why_not(Spec(torch.device(DEVICE), torch.float32, "diagonal"))
MARKS = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    # The interpreter is NumPy, which warns where a GPU gives inf or NaN.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory reads as NaN."""
    fresh = torch.empty

    def poisoned(*args: object, **kwargs: object) -> Tensor:
        made = fresh(*args, **kwargs)
        return made.fill_(torch.nan) if made.is_floating_point() or made.is_complex() else made

    monkeypatch.setattr(torch, "empty", poisoned)
    return


def drawn(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return torch.randn(shape, dtype=wide, generator=torch.Generator().manual_seed(seed)).to(dtype)


def on_device(*arrays: Tensor) -> list[Tensor]:
    return [x.to(DEVICE) for x in arrays]


def expand(A: Tensor, u: Tensor) -> Tensor:
    return A.repeat_interleave(u.shape[0] // A.shape[0], 0).expand(u.shape[0], u.shape[1], *A.shape[2:])


def eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def float32_loop(a: Tensor, u: Tensor, h0: Tensor, adjoint: bool) -> Tensor:
    """The states, or the gradients δ of them with u and h0 for g and g_final."""
    x, found = h0, []

    def acts(a: Tensor, x: Tensor) -> Tensor:
        return a * x if a.ndim == 2 else (a @ x.unsqueeze(-1)).squeeze(-1)

    for t in range(u.shape[1])[:: -1 if adjoint else 1]:
        found.append(u[:, t] + x if adjoint else acts(a[:, t], x) + u[:, t])
        x = acts(a[:, t].mT if a.ndim == 4 else a[:, t], found[-1]) if adjoint else found[-1]
    return torch.stack(found[::-1] if adjoint else found, 1)


def as_the_loop_where_finite(got: Tensor, want: Running, narrow: Tensor) -> None:
    got, finite = got.cpu(), narrow.isfinite()
    assert torch.equal(got.isfinite(), finite)
    allowed = 8 * eps(torch.float32) * (want.error + want.value.abs() + torch.finfo(torch.float32).tiny)
    assert ((got.double() - want.value).abs() <= allowed)[finite].all()
