"""bptt over an input whose time lies on ranks gives what one process gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import retrograd as rg
from retrograd.distributed import Ranks

PARTS = [slice(0, 3), slice(3, 4), slice(4, 11)]
TOTALS = ("h0", "weight_hh", "weight_ih", "bias", "weight_out", "bias_out")
EACH_STEP = ("states", "outputs", "inputs", "delta", "x")


def arguments(dtype: torch.dtype = torch.float64) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=dtype, generator=generator)

    weights = {
        "weight_hh": draw(3, 3) / 2,
        "weight_ih": draw(3, 2),
        "bias": draw(3),
        "h0": draw(2, 3),
        "weight_out": draw(2, 3),
        "bias_out": draw(2),
    }
    return draw(2, 11, 2), weights


def over_ranks(x: Any, **given: Any) -> list[Any]:
    def work(ranks: Ranks) -> Any:
        at = PARTS[ranks.rank]
        own = {name: y[:, at] if name == "grad_states" else y for name, y in given.items()}
        own["loss"] = given["loss"](at) if given.get("loss") else None
        return rg.distributed.bptt(x[:, at], group=ranks, **own)

    return rg.distributed.simulate(len(PARTS), work)


def compare(found: list[Any], want: Any) -> None:
    for name in TOTALS:
        for one in found:
            torch.testing.assert_close(getattr(one, name), getattr(want, name), msg=name)
    for name in EACH_STEP:
        whole = getattr(want, name)
        if whole is not None:
            torch.testing.assert_close(torch.cat([getattr(one, name) for one in found], 1), whole, msg=name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("starts", [(), ("grad_final",), ("grad_states",), ("grad_states", "grad_final")])
def test_every_start(starts: tuple[str, ...], dtype: torch.dtype) -> None:
    x, weights = arguments(dtype)
    given = {"grad_states": x[..., :1].expand(2, 11, 3).sin(), "grad_final": weights["h0"].cos()}
    chosen = {name: given[name] for name in starts}
    compare(over_ranks(x, **weights, **chosen), rg.bptt(x, **weights, **chosen))


def test_a_loss_is_summed_over_the_ranks_and_so_is_what_it_reads() -> None:
    x, weights = arguments()
    target, head = torch.randn(2, 11, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64, requires_grad=True)

    def loss(at: slice) -> Callable[[Tensor], Tensor]:
        return lambda y: ((y * head - target[:, at]) ** 2).sum()

    want = rg.bptt(x, **weights, loss=loss(slice(0, 11)))
    found = over_ranks(x, **weights, loss=loss)
    compare(found, want)
    for one in found:
        torch.testing.assert_close(one.loss, want.loss)
        torch.testing.assert_close(one.loss_parameters[head], want.loss_parameters[head])


def test_an_update_does_the_same_on_every_rank_and_numpy_comes_back() -> None:
    x, weights = arguments()
    arrays = {name: y.numpy() for name, y in weights.items()}

    def work(ranks: Ranks) -> dict[str, Any]:
        own = {name: y.copy() for name, y in arrays.items()}
        g = rg.distributed.bptt(x[:, PARTS[ranks.rank]].numpy(), group=ranks, **own)
        g.update(lr=0.1)
        return own

    want = {name: y.copy() for name, y in arrays.items()}
    rg.bptt(x.numpy(), **want).update(lr=0.1)
    found = rg.distributed.simulate(len(PARTS), work)
    for name, y in want.items():
        for one in found:
            np.testing.assert_array_equal(one[name], found[0][name])
            np.testing.assert_allclose(one[name], y, rtol=1e-12, atol=1e-12)
