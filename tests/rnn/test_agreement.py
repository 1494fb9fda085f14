"""The agreement of gradients: everything agrees here, and a wrong gradient would not pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import retrograd as rg
from retrograd.errors import InputError
from retrograd.rnn.agreement import PARAMETERS, QUANTITIES, Row, _error, agreement
from serving import SERVING


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("time", "hidden", "batch"), [(1, 1, 1), (2, 1, 3), (7, 3, 2), (48, 16, 4), (100, 40, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_ways_agree(time: int, hidden: int, batch: int, dtype: str, seed: int) -> None:
    rows = agreement(seed=seed, time=time, hidden=hidden, batch=batch, dtype=dtype)
    assert [row for row in rows if not row.passed] == []


def test_every_loop_way_backend_and_quantity_is_compared() -> None:
    rows = agreement(time=6, hidden=3, batch=2)
    loops = {row.loop for row in rows}
    assert {"open loop", "closed loop"} < loops
    assert sum(loop.startswith("mixed") for loop in loops) == 2
    for loop in loops:
        for way in ("bptt", "autograd"):
            for backend in SERVING:
                found = {row.quantity for row in rows if row.loop == loop and row.method == f"{way}, {backend}"}
                assert found == set(QUANTITIES)
        differences = {row.quantity for row in rows if row.loop == loop and row.method == "finite differences"}
        assert differences == {"delta", *PARAMETERS}


def wrong(quantity: str, change: Callable[[Tensor], Tensor]) -> Any:
    def gradient(**arguments: Any) -> Any:
        g = rg.bptt(**arguments)
        return dataclasses.replace(g, **{quantity: change(getattr(g, quantity))})

    return gradient


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "a part in 10^10": lambda g: g * (1 + 1e-10),
    "zero": torch.zeros_like,
    "moved by one": lambda g: g.roll(1, 0),
    "one value": lambda g: g + torch.nn.functional.one_hot(torch.tensor(0), g.numel()).view_as(g) * 1e-6,
    "not a number": lambda g: g * float("nan"),
}


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_result_is_rejected(quantity: str, change: str) -> None:
    rows = agreement(time=9, hidden=4, batch=3, gradient=wrong(quantity, CHANGES[change]))
    failed = {(row.quantity, row.method) for row in rows if not row.passed}
    assert {(quantity, f"bptt, {backend}") for backend in SERVING} <= failed
    assert {found for found, _ in failed} == {quantity}
    # Nothing is wrong with autograd, and it must not be said to be.
    assert not any(method.startswith("autograd") for _, method in failed)


@pytest.mark.parametrize("quantity", ["delta", *PARAMETERS])
def test_finite_differences_alone_reject_a_wrong_gradient(quantity: str) -> None:
    rows = agreement(time=9, hidden=4, batch=3, gradient=wrong(quantity, lambda g: g * 1.001))
    found = [row for row in rows if row.method == "finite differences" and row.quantity == quantity]
    assert len(found) == 4
    assert not any(row.passed for row in found)


def test_a_result_of_another_shape_is_rejected() -> None:
    assert _error(torch.ones(2, 1), torch.ones(2, 3), torch.tensor(1.0)) == float("inf")


def test_nan_never_passes() -> None:
    assert not Row("loop", "way", "x", float("nan"), 1e9).passed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"time": 0}, "time is 0"), ({"hidden": -1}, "hidden is -1"), ({"dtype": "float3"}, "did you mean 'float32'")],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        agreement(**arguments)
