"""What the first rank tells all others, and what it hands to each."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from retrograd.distributed.exchange import Exchange
from retrograd.distributed.ranks import Ranks

__all__ = ["handed", "told"]

_NOTHING = torch.empty(0, dtype=torch.float64)


def told(ranks: Ranks, what: str, text: str | None, late: float = 1.0) -> str:
    """Return the text that the first rank gives, on every rank; the others give None.

    Args:
        ranks: the ranks.
        what: in words.
        text: at least one character.
        late: for how many time limits the others wait.

    Examples:
        >>> from retrograd import distributed
        >>> distributed.simulate(3, lambda ranks: told(ranks, "a plan", "seven" if ranks.rank == 0 else None))
        ['seven', 'seven', 'seven']
    """
    mine = _NOTHING if text is None else torch.tensor(list(text.encode()), dtype=torch.float64)
    exchange = Exchange[Tensor](ranks, what, _same, lambda x: x.cpu(), lambda a, b: a if a.numel() else b)
    _, found = exchange.prefix(mine, late)
    return bytes(found.to(torch.uint8).tolist()).decode()


def handed(
    ranks: Ranks, what: str, part: Callable[[int], Tensor] | None, to: Collection[int], late: float = 1.0
) -> Tensor | None:
    """Return the float64 numbers that the first rank hands to this one; None on the first and on those not in ``to``.

    Args:
        ranks: the ranks.
        what: in words.
        part: on the first rank: of the numbers of another, made when it is its turn.
        to: who is handed something, the same on every rank.
        late: for how many time limits the others wait.
    """
    exchange, found = Exchange[Tensor](ranks, what, _same, lambda x: x.cpu(), torch.add), None
    if part is not None:
        for rank in sorted(to):
            exchange.swap(rank, part(rank), None)
            exchange.end(late)  # one part at a time is in memory
    elif ranks.rank in to:
        found = exchange.swap(None, None, 0, late)
        exchange.end(late)
    return found


def _same(x: Tensor) -> Tensor:
    return x
