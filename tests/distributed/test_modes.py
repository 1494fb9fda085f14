"""Compiled functions, forward mode, torch.func and bounded memory: served, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import retrograd as rg
from retrograd.distributed import Ranks

U, DECAY = torch.linspace(-1, 1, 24).view(1, 8, 3), torch.tensor([0.5, 0.9, -0.3])


def scanned(x: Tensor, a: Tensor, ranks: Ranks, **given: Any) -> Tensor:
    return rg.distributed.scan(rg.Diagonal(a), x, group=ranks, **given)[0]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo looks at A's tensors
def test_a_compiled_function_breaks_its_graph_at_the_call() -> None:
    def function(x: Tensor, a: Tensor) -> Tensor:
        return rg.scan(rg.Diagonal(a.tanh()), 2 * x)[0] + 1

    def work(ranks: Ranks) -> tuple[Tensor, Tensor]:
        compiled = torch.compile(lambda x, a: scanned(2 * x, a.tanh(), ranks) + 1, backend="eager")
        x, a = U.clone().requires_grad_(), DECAY.clone().requires_grad_()
        y = compiled(x, a)
        y.square().sum().backward()
        assert x.grad is not None
        return y, x.grad

    x = U.clone().requires_grad_()
    want = function(x, DECAY)
    want.square().sum().backward()
    ((y, grad),) = rg.distributed.simulate(1, work)
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(grad, x.grad)


def in_forward_mode(ranks: Ranks) -> Any:
    with forward_ad.dual_level():
        return scanned(forward_ad.make_dual(U, torch.ones_like(U)), DECAY, ranks)


REFUSED: dict[str, tuple[Callable[[Ranks], Any], str]] = {
    "sqrt": (lambda ranks: scanned(U, DECAY, ranks, memory="sqrt"), "memory is 'sqrt'"),
    "bytes": (lambda ranks: scanned(U, DECAY, ranks, memory=1 << 20), "memory is 1048576"),
    "forward mode": (in_forward_mode, "distributed.scan has no forward mode"),
    "vmap": (lambda ranks: torch.vmap(lambda x: scanned(x, DECAY, ranks))(U[None]), "none of a torch.func transform"),
    "jvp": (lambda ranks: torch.func.jvp(lambda x: scanned(x, DECAY, ranks), (U,), (U,)), "no forward mode"),
    "previous": (
        lambda ranks: torch.vmap(lambda x: rg.distributed.previous(x, x[:, 0], group=ranks)[0])(U[None]),
        "distributed.previous takes plain tensors",
    ),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_not_served_is_refused_before_any_message(how: str) -> None:
    call, message = REFUSED[how]

    def work(ranks: Ranks) -> tuple[str, int]:
        with pytest.raises(NotImplementedError) as caught:
            call(ranks)
        return str(caught.value), ranks.sent.messages

    for said, sent in rg.distributed.simulate(1, work):  # transforms are of the whole process
        assert message in said
        assert "\n" not in said
        assert sent == 0


@pytest.mark.parametrize("memory", ["all", "auto"])
def test_all_states_are_kept(memory: str) -> None:
    ((y),) = rg.distributed.simulate(1, lambda ranks: scanned(U, DECAY, ranks, memory=memory))
    torch.testing.assert_close(y, rg.scan(rg.Diagonal(DECAY), U)[0])
