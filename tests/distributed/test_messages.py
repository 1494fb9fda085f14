"""What a sharded scan sends: one exchange a direction, whatever the sequences are and wherever the ranks lie."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import retrograd as rg
from distributed.sharded_problems import Problem, solve, stretches, together
from retrograd.distributed import Ranks

TIME = 24
KINDS = {
    "reset": {"reset": torch.arange(2 * TIME).reshape(2, TIME) % 7 == 5},
    "padded": {"lengths": torch.tensor([TIME, 9])},
    "padded, reset": {"lengths": torch.tensor([3, TIME]), "reset": torch.arange(2 * TIME).reshape(2, TIME) % 7 == 5},
    "packed": {"cu_seqlens": torch.tensor([0, 3, 3, 17, TIME])},
    "packed, reset": {
        "cu_seqlens": torch.tensor([0, 2, 22, TIME]),
        "reset": torch.arange(TIME).reshape(1, TIME) % 7 == 5,
    },
}
EVEN, UNEVEN = [6, 12, 18], [1, 1, 20]


def messages(p: Problem, cuts: list[int], calls: int = 1, **options: Any) -> list[int]:
    """The messages of this rank's last forward and backward pass, of all ranks the most; its results are checked."""
    parts = stretches(cuts, p.u.shape[1])

    def work(ranks: Ranks) -> tuple[int, Any]:
        for _ in range(calls):
            before = ranks.sent.messages
            found = solve(p.stretch(parts[ranks.rank]), ranks, ranks.rank == 0, **options)
        return ranks.sent.messages - before, found

    done = rg.distributed.simulate(len(parts), work)
    got, want = together([found for _, found in done], p.varying), solve(p)
    for name, x in want.items():
        torch.testing.assert_close(got[name], x, rtol=1e-12, atol=1e-12, msg=name)
    return [sent for sent, _ in done]


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("structure", ["diagonal", "dense"])
def test_one_exchange_a_direction(structure: str, kind: str, reverse: bool) -> None:
    """Two rounds among four ranks; the first of all calls finds out where uneven stretches lie."""
    batch = 1 if "packed" in kind else 2
    p = Problem.random(structure, False, (batch, TIME, 3), given=KINDS[kind], reverse=reverse)
    assert messages(p, EVEN) == [4] * 4
    assert messages(p, UNEVEN, calls=2) == [4] * 4


@pytest.mark.parametrize("kind", ["packed", "packed, reset"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_loss_of_final_states_that_one_rank_counts(kind: str, reverse: bool) -> None:
    """The ranks on which the sequences end learn of it in the one exchange, and run their steps again."""
    p = Problem.random("dense", True, (1, TIME, 2), given=KINDS[kind], reverse=reverse)
    p = p._replace(g=torch.zeros_like(p.g))
    assert messages(p, EVEN) == [4] * 4


def test_stretches_that_change_from_call_to_call() -> None:
    """Where a rank has moved, the ranks say so, and the result is right all the same."""
    p = Problem.random("diagonal", False, (1, TIME, 3), given=KINDS["packed"])
    orders = [EVEN, UNEVEN, [2, 12, 13], EVEN]

    def work(ranks: Ranks) -> list[Any]:
        return [solve(p.stretch(stretches(cuts, TIME)[ranks.rank]), ranks, ranks.rank == 0) for cuts in orders]

    want = solve(p)
    for found in zip(*rg.distributed.simulate(4, work), strict=True):
        got = together(list(found), False)
        for name, x in want.items():
            torch.testing.assert_close(got[name], x, rtol=1e-12, atol=1e-12, msg=name)
